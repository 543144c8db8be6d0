"""fuse(): a norm and the activation after it become one pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from . import modules as norma
from ._edit import Change, Evaluated, Report, call, describe, has_hooks, parametrized, paths, tensors


@dataclass
class _Pair:
    """A norm and its activation in the graph of the module that calls both."""

    norm: fx.Node
    act: fx.Node
    activation: str


class _OwnForward(fx.Tracer):
    """Traces the forward of one module alone: each child is a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def fuse(model: nn.Module, example: Any = None) -> Report:
    """Joins each batch, layer, group, instance or RMS norm with the ReLU, SiLU or GELU that follows it.

    Every module whose forward torch.fx can trace is looked at on its own, with its children as calls; a Sequential is
    one of them. Where the norm and the activation are both modules that are called once, the norm is replaced by
    Norma's with activation= and the activation by Identity. Where the activation is a function, or a module that other
    places call too, the module that calls them becomes a torch.fx.GraphModule with the same children and the same
    state_dict keys. The model is changed in place; use report.model, which is another object if the model itself
    became a GraphModule. report.undo() is the way back.

    Left as they are, and listed under `skipped` with the reason: norms that several places call, whose result something
    else uses too, that have hooks or parametrizations or are of a class of someone's own, and forwards that cannot be
    traced or differ between training and evaluation.

    example: an input. The model runs on it before and after, in evaluation mode; results that differ by more than
    rounding undo everything and raise RuntimeError. It finds what tracing cannot: code that takes a Sequential apart.
    """
    before = _run(model, example) if example is not None else []
    report = Report(model)
    calls = _count_calls(graphs := _trace(model, report))
    # Innermost first: a module that becomes a GraphModule is copied with the children that it has by then.
    for path in sorted(graphs, key=lambda p: -p.count(".") if p else 1):
        _fuse_in(path, graphs[path], calls, report)
    if example is not None:
        _compare(before, _run(report.model, example), report)
    return report


def _run(model: nn.Module, example: Any) -> list[Tensor]:
    with Evaluated(model):
        return [t.detach().clone() for t in tensors(call(model, copy.deepcopy(example)))]


def _compare(before: list[Tensor], after: list[Tensor], report: Report) -> None:
    try:
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4, equal_nan=True)
    except AssertionError as error:
        report.undo()
        raise RuntimeError(f"the fused model computes something else, so nothing was fused: {error}") from error


def _trace(model: nn.Module, report: Report) -> dict[str, fx.Graph]:
    """The graphs of all modules that call a norm, by path."""
    found = {}
    for module, where in paths(model).items():
        # A norm that lies deeper may be called from here too.
        if not list(module.children()) or not any(map(_is_norm, module.modules())):
            continue
        graph, reason = _graph(module)
        if graph is not None:
            found[where[0]] = graph
        elif any(map(_is_norm, module.children())):
            report.skipped.append(Change(where[0], type(module).__name__, "", reason))
    return found


def _graph(module: nn.Module) -> tuple[fx.Graph | None, str]:
    if type(module).forward is nn.Module.forward:
        return None, "it has no forward"
    mode, graphs = module.training, []
    try:
        for training in (True, False):
            module.training = training
            graphs.append(_OwnForward().trace(module))
    except Exception as error:
        return None, f"torch.fx cannot trace it: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    finally:
        module.training = mode
    if str(graphs[0]) != str(graphs[1]):
        return None, "its forward differs between training and evaluation"
    return graphs[0], ""


def _count_calls(graphs: dict[str, fx.Graph]) -> dict[str, int]:
    """How often the traced forwards call each module, by its path."""
    count: dict[str, int] = {}
    for path, graph in graphs.items():
        for node in graph.nodes:
            if node.op == "call_module":
                full = _join(path, node.target)
                count[full] = count.get(full, 0) + 1
    return count


def _fuse_in(path: str, graph: fx.Graph, calls: dict[str, int], report: Report) -> None:
    owner = report.model.get_submodule(path)
    pairs = []
    for node in graph.nodes:
        if node.op == "call_module" and _is_norm(_at(owner, node)):
            act, activation = _activation_after(owner, node)
            if act is None:
                continue
            if reason := _obstacle(owner, path, node, calls, report.model):
                report.skipped.append(Change(_join(path, node.target), describe(_at(owner, node)), "", reason))
            else:
                pairs.append(_Pair(node, act, activation))
    rewritten = [pair for pair in pairs if not _alone(owner, path, pair.act, calls, report.model)]
    if rewritten and has_hooks(owner):
        for pair in rewritten:
            name, norm = _join(path, pair.norm.target), _at(owner, pair.norm)
            report.skipped.append(Change(name, describe(norm), "", f"{type(owner).__name__} has hooks"))
        pairs = [pair for pair in pairs if pair not in rewritten]
        rewritten = []
    for pair in pairs:
        norm = _at(owner, pair.norm)
        fused = with_activation(norm, pair.activation)
        report.changed.append(Change(_join(path, pair.norm.target), describe(norm), describe(fused)))
        report.replace(_join(path, pair.norm.target), fused)
        if pair not in rewritten:
            report.replace(_join(path, pair.act.target), nn.Identity())
    if rewritten:
        for pair in rewritten:
            pair.act.replace_all_uses_with(pair.norm)
            graph.erase_node(pair.act)
        report.replace(path, _graph_module(owner, graph))


def _graph_module(owner: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """The graph as a module with all children, parameters and buffers of its owner, in their order."""
    made = fx.GraphModule(owner, graph, type(owner).__name__)
    for name in ("_parameters", "_buffers", "_modules"):
        made.__dict__[name] = owner.__dict__[name].copy()
    made._non_persistent_buffers_set = owner._non_persistent_buffers_set.copy()
    return made


def _join(path: str, target: Any) -> str:
    return f"{path}.{target}" if path else str(target)


def _at(owner: nn.Module, node: fx.Node) -> nn.Module:
    return owner.get_submodule(str(node.target))


def _obstacle(owner: nn.Module, path: str, node: fx.Node, calls: dict[str, int], model: nn.Module) -> str:
    norm = _at(owner, node)
    if not _class_of(norm):
        return "a class of its own; see adopt()"
    if getattr(norm, "activation", None):
        return "it has an activation already"
    if len(node.users) > 1:
        return "something else uses its result too"
    if len(node.args) + len(node.kwargs) != 1:
        return "it is called with more than its input"
    if has_hooks(norm):
        return "it has hooks"
    if parametrized(norm):
        return "its weight is parametrized or not initialized"
    return "" if _alone(owner, path, node, calls, model) else "several places call it"


def _alone(owner: nn.Module, path: str, node: fx.Node, calls: dict[str, int], model: nn.Module) -> bool:
    """Whether this call is the only one of a module without hooks."""
    if node.op != "call_module":
        return False
    module = _at(owner, node)
    everywhere = paths(model).get(module, [])
    return not has_hooks(module) and len(everywhere) == 1 and calls.get(_join(path, node.target), 0) == 1


def _activation_after(owner: nn.Module, node: fx.Node) -> tuple[fx.Node | None, str]:
    """An activation among the users of the node, and its name."""
    for user in node.users:
        if user.args[:1] == (node,) and (name := _name_of(owner, user)):
            return user, name
    return None, ""


_FUNCTIONS: dict[Callable[..., Any], str] = {
    torch.relu: "relu",
    torch.relu_: "relu",
    functional.relu: "relu",
    functional.relu_: "relu",
    functional.silu: "silu",
    functional.gelu: "gelu",
}


def _name_of(owner: nn.Module, node: fx.Node) -> str | None:
    approximate = "none"
    if node.op == "call_module":
        module = _at(owner, node)
        name = {nn.ReLU: "relu", nn.SiLU: "silu", nn.GELU: "gelu"}.get(type(module))
        approximate = getattr(module, "approximate", "none")
    elif node.op == "call_function":
        name = _FUNCTIONS.get(node.target)  # type: ignore[arg-type]
        approximate = str(node.kwargs.get("approximate", "none"))
    elif node.op == "call_method":
        name = {"relu": "relu", "relu_": "relu"}.get(str(node.target))
    else:
        return None
    return "gelu_tanh" if name == "gelu" and approximate == "tanh" else name


def _is_norm(module: nn.Module) -> bool:
    return isinstance(
        module,
        (
            nn.modules.batchnorm._BatchNorm,
            nn.modules.instancenorm._InstanceNorm,
            nn.GroupNorm,
            nn.LayerNorm,
            nn.RMSNorm,
        ),
    )


def _class_of(norm: nn.Module) -> Any:
    """Norma's class for a class of torch.nn, and itself for Norma's; None for any other."""
    kind = type(norm)
    if kind.__module__.startswith("norma.torch."):
        return kind
    ours = getattr(norma, kind.__name__, None)
    is_torch = kind is getattr(nn, kind.__name__, None)
    return ours if is_torch and ours is not None and issubclass(ours, kind) else None


def with_activation(norm: nn.Module, activation: str | None) -> nn.Module:
    """Norma's module for this one, with the same parameter and buffer objects and an activation."""
    made = copy.copy(norm)
    made.__class__ = _class_of(norm)
    for name in ("_parameters", "_buffers", "_modules"):
        made.__dict__[name] = norm.__dict__[name].copy()
    made.activation = activation  # type: ignore[assignment]
    return made
