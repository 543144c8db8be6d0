"""What swap, fuse and adopt share: replacing modules inside a model, a report of it, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


@dataclass(frozen=True)
class Change:
    """One module that was replaced: where it is, what it was, what it is now, and why or why not."""

    path: str
    before: str
    after: str
    note: str = ""

    def __str__(self) -> str:
        what = f"{self.path or '(the model)'}: {self.before}"
        if not self.after:
            return f"{what}: {self.note}"
        return f"{what} -> {self.after}" + (f" ({self.note})" if self.note else "")


@dataclass
class Report:
    """What was done to a model. print() shows it; undo() puts the old modules back."""

    model: nn.Module
    changed: list[Change] = field(default_factory=list)
    skipped: list[Change] = field(default_factory=list)
    _undo: list[tuple[nn.Module, str, nn.Module]] = field(default_factory=list, repr=False)

    def __str__(self) -> str:
        lines = [f"{len(self.changed)} changed, {len(self.skipped)} left as they were"]
        lines += [f"  {change}" for change in self.changed]
        lines += [f"  left: {change}" for change in self.skipped]
        return "\n".join(lines)

    def undo(self) -> nn.Module:
        """Puts every replaced module back and returns the model as it was before.

        Parameters are the same objects before and after, so what was trained in between stays trained.
        """
        while self._undo:
            parent, name, old = self._undo.pop()
            if name:
                _put(parent, name, old)
            else:
                self.model = old
        self.changed.clear()
        return self.model

    def replace(self, path: str, new: nn.Module) -> None:
        """Puts `new` where `path` is, in the mode of the module that was there."""
        old = self.model.get_submodule(path)
        new.train(old.training)
        if not path:
            self._undo.append((old, "", old))
            self.model = new
            return
        head, _, name = path.rpartition(".")
        parent = self.model.get_submodule(head)
        self._undo.append((parent, name, old))
        _put(parent, name, new)


def _put(parent: nn.Module, name: str, module: nn.Module) -> None:
    # Not setattr: a container may forbid it, and the order of children stays as it is.
    parent._modules[name] = module


def paths(model: nn.Module) -> dict[nn.Module, list[str]]:
    """Every module with every path under which it can be reached; a shared module has several."""
    found: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found.setdefault(module, []).append(path)
    return found


def describe(module: nn.Module) -> str:
    """The class and its arguments in one line."""
    text = module.extra_repr().replace("\n", ", ")
    return f"{type(module).__name__}({text})"


def has_hooks(module: nn.Module) -> bool:
    """Whether someone listens to this module, who would not hear what replaced it."""
    return any(getattr(module, name, None) for name in _HOOKS)


def parametrized(module: nn.Module) -> bool:
    """Whether weight or bias is not a plain parameter: pruned, parametrized, or not there yet."""
    if isinstance(module, LazyModuleMixin):
        return bool(module.has_uninitialized_params())
    own = {*module._parameters, *module._buffers}
    computed = [n for n in ("weight", "bias") if n not in own and isinstance(getattr(module, n, None), Tensor)]
    return bool(computed or getattr(module, "parametrizations", None))


def call(model: nn.Module, example: Any) -> Any:
    """model on the example: a tensor, a tuple of arguments or a dict of keywords."""
    if isinstance(example, dict):
        return model(**example)
    return model(*example) if isinstance(example, (tuple, list)) else model(example)


class Evaluated:
    """The model in evaluation mode without gradients, every module's own mode restored at the end."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modes: list[tuple[nn.Module, bool]] = []
        self._no_grad = torch.no_grad()

    def __enter__(self) -> None:
        self._modes = [(module, module.training) for module in self._model.modules()]
        self._model.eval()
        self._no_grad.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._no_grad.__exit__(*error)
        for module, mode in self._modes:
            module.training = mode


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors inside a result, whatever it is made of."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)
