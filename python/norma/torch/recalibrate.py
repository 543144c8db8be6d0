"""recalibrate(): the running statistics of a model's batch norms, taken exactly from a data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin

from norma import Moments, load_moments, merge_moments
from norma.statistics import PathLike

from ._edit import Evaluated, call
from .modules._running import PER_CHANNEL, RunningStatistics
from .restated import Restated, layer_name, restate
from .running import tracking

Layers = Iterable[str | nn.Module]
Forward = Callable[[Any, Any], Any]
Gather = Callable[[dict[str, Moments]], Iterable[Mapping[str, Moments]]]


class _Reached(BaseException):
    """Ends a forward pass: what comes after the layer is not needed. Not an Exception, which a model may catch."""


@dataclass
class _Seen:
    """What one layer has seen in one pass over the data."""

    moments: Moments
    batches: int = 0
    most_calls: int = 0  # in one batch


def recalibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    forward: Forward | None = None,
    layers: Layers | None = None,
    passes: Literal["exact", "one"] = "exact",
    gather: Gather | None = None,
    progress: bool | Callable[[str], object] = True,
) -> Restated:
    """Takes the running statistics of a model's batch norms anew: the mean and variance over all of a data set.

    For a model whose statistics lag behind its weights or come of small batches, after weights were averaged (SWA, EMA)
    or pruned, and for data of another domain, which needs no labels (AdaBN, Li et al. 2016).

    Every torch.nn.BatchNorm1d, 2d and 3d, SyncBatchNorm, subclass of these and class of norma.torch with running
    statistics is taken; frozen ones are left. The model runs in evaluation mode without gradients. Elements are pooled
    in Moments (exact merging in float64), so batches of different sizes weigh what they hold.

    Layer by layer, in the order in which the data reaches them: while layer k is measured, the layers before it have
    their new statistics already, so at the end each layer has those of the input that it really gets. This reads the
    data once per layer, each time only up to that layer. A layer that is called several times per batch has the
    statistics of all its calls together, and its own old ones while it is measured.

    Args:
        loader: the batches, to be read once per layer: a DataLoader or a list, not an iterator. A batch is a tensor or
            a dict of keywords; of a tuple or list (inputs, labels, ...) it is the first element, the model's input.
            Tensors are moved to the device of the model. Batches that come in random order or with random augmentation
            are other data for each layer: more noise, no error.
        forward: forward(model, batch) runs the model on a batch of any other kind, which it gets as it comes; its
            result is not used.
        layers: names of modules, or modules: only the batch norms in these. Default: all.
        passes: "one" reads the data once: every layer is measured while those before it still have their old
            statistics. Exact for the first layer only; an approximation that is as good as the old ones are near.
        gather: for several processes that each hold a share of the data: gets this process's Moments by layer and
            returns those of all processes in the same order everywhere, as torch.distributed.all_gather_object does.
        progress: a line per layer on stderr; or a function that takes the line, such as logging.info; or False.

    Returns:
        What was changed, layer by layer, and the way back: restore(). As the object of a with statement it restores at
        the end. save(path) keeps the Moments.

    Afterwards running_mean and running_var have the new values (the variance divided by m - 1; by m for
    biased_running_var layers), rounded once to their type, in the same tensors; num_batches_tracked is the number of
    batches that the layer saw, which is what momentum=None goes on from. Everything else is as before: modes,
    parameters, requires_grad and gradients, momentum, the state of the random generators unless the loader draws.

    Raises:
        ValueError: no layers, layers that the data did not reach, a value that is not finite (the text names layer,
            channel and batch), one value per channel in all, no batches, an iterator. Then, and with any other
            exception, the model is as it was.
    """
    if passes not in ("exact", "one"):
        raise ValueError(f"passes is {passes!r}, must be 'exact' or 'one'")
    if passes == "exact" and isinstance(loader, Iterator):
        raise ValueError(
            "loader is an iterator, which can be read once, and is read once per layer: give a list or a DataLoader, "
            "or passes='one'"
        )
    plain = _uncompiled(model)
    return _Run(plain, loader, forward or _forward, gather).run(_chosen(plain, layers), passes, progress)


def load_statistics(
    model: nn.Module,
    moments: PathLike | Mapping[str, Moments],
    *,
    layers: Layers | None = None,
) -> Restated:
    """Gives a model the statistics of Moments: a file of save(), or what merge_moments returned.

    layers: only these, as in recalibrate. num_batches_tracked stays. The result is what recalibrate returns.

    ValueError: names or channels that do not fit the model, or values that are not finite; nothing is changed then.
    """
    given = moments if isinstance(moments, Mapping) else load_moments(moments)
    chosen = _chosen(_uncompiled(model), layers)
    if missing := [name for name in chosen if name not in given]:
        raise ValueError(f"there are no moments for {_listed(missing)}; layers= chooses")
    if layers is None and (more := [name for name in given if name not in chosen]):
        raise ValueError(
            f"there are moments for {_listed(more)}, but no such batch norm that is not frozen; layers= chooses"
        )
    done = Restated(chosen)
    try:
        for name, layer in chosen.items():
            restate(done, name, layer, given[name], batches=None)
    except BaseException:
        done.restore()
        raise
    return done


def _listed(names: Iterable[str]) -> str:
    return ", ".join(layer_name(name) for name in names)


def _chosen(model: nn.Module, layers: Layers | None) -> dict[str, Any]:
    """The layers to take, by name."""
    found = {name: layer for name, layer in tracking(model).items() if isinstance(layer, _BatchNorm)}
    frozen = [name for name, layer in found.items() if getattr(layer, "frozen", False)]
    if layers is None:
        chosen = {name: layer for name, layer in found.items() if name not in frozen}
    else:
        chosen = _named(model, found, layers)
        if held := [name for name in chosen if name in frozen]:
            raise ValueError(f"{_listed(held)}: frozen; unfreeze() comes first")
    if not chosen:
        raise ValueError(f"{type(model).__name__} has no batch norm with running statistics that is not frozen")
    for name, layer in chosen.items():
        if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
            raise ValueError(f"{layer_name(name)} is not initialized yet: run the model on a batch first")
    return chosen


def _named(model: nn.Module, found: Mapping[str, Any], layers: Layers) -> dict[str, Any]:
    modules = dict(model.named_modules())
    wanted: set[nn.Module] = set()
    for one in [layers] if isinstance(layers, (str, nn.Module)) else layers:
        if isinstance(one, str) and one not in modules:
            raise ValueError(f"layers has {one!r}, which is no module of the model")
        module = modules[one] if isinstance(one, str) else one
        inside = [layer for layer in found.values() if layer in set(module.modules())]
        if not inside:
            shown = repr(one) if isinstance(one, str) else f"a {type(one).__name__}"
            raise ValueError(f"layers has {shown}, in which is no batch norm of the model with running statistics")
        wanted.update(inside)
    return {name: layer for name, layer in found.items() if layer in wanted}


def _forward(model: nn.Module, batch: Any) -> Any:
    """What recalibrate's documentation says of `loader`."""
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    known: Tensor | None = next(iter([*model.parameters(), *model.buffers()]), None)
    moved = inputs if known is None else _moved(inputs, known.device)
    return call(model, moved)


def _moved(value: Any, device: torch.device) -> Any:
    """The same with its tensors on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_moved(item, device) for item in value]
    return value


class _Run:
    """One recalibration: the data, and how the model runs on it."""

    def __init__(self, model: nn.Module, loader: Iterable[Any], forward: Forward, gather: Gather | None) -> None:
        self._model, self._loader, self._forward, self._gather = model, loader, forward, gather
        self._batches = 0

    def run(self, chosen: dict[str, Any], passes: str, progress: bool | Callable[[str], object]) -> Restated:
        done = Restated(chosen)
        say = progress if callable(progress) else (_on_stderr if progress else None)
        try:
            with Evaluated(self._model), _eager():
                # The first pass sees every layer: it finds their order, and measures the first of them.
                seen = self._pass(chosen)
                if not self._batches:
                    raise ValueError("loader has no batches")
                if missed := [name for name in chosen if name not in seen]:
                    raise ValueError(
                        f"the data does not reach {_listed(missed)}; layers= chooses those whose statistics are taken"
                    )
                for number, name in enumerate(list(seen)):
                    if passes == "exact" and number:
                        again = self._pass({name: chosen[name]}, single=seen[name].most_calls == 1)
                        if name not in again:
                            raise ValueError(f"the data reached {layer_name(name)} when loader was read first, not now")
                        seen |= again
                    moments = self._gathered(name, seen[name].moments)
                    restate(done, name, chosen[name], moments, batches=seen[name].batches)
                    if say is not None:
                        say(f"recalibrate: {number + 1} of {len(seen)}: {done.changes[-1]}")
        except BaseException:
            done.restore()
            raise
        return done

    def _gathered(self, name: str, moments: Moments) -> Moments:
        if self._gather is None:
            return moments
        return merge_moments(*self._gather({name: moments}))[name]

    def _pass(self, layers: Mapping[str, Any], single: bool = False) -> dict[str, _Seen]:
        """What the layers see of the data, in the order in which they are called; single: a batch ends there."""
        seen: dict[str, _Seen] = {}
        calls: dict[str, int] = {}
        number = 0

        def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
            def look(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
                record = seen.setdefault(name, _Seen(Moments(PER_CHANNEL)))
                record.moments.merge(_measure(name, module, args, keywords, number))
                calls[name] = calls.get(name, 0) + 1
                if single:
                    raise _Reached

            return look

        handles = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
        try:
            for number, batch in enumerate(self._loader, 1):  # noqa: B007 (look() reads number)
                calls.clear()
                with suppress(_Reached):
                    self._forward(self._model, batch)
                for name, count in calls.items():
                    seen[name].batches += 1
                    seen[name].most_calls = max(seen[name].most_calls, count)
        finally:
            for handle in handles:
                handle.remove()
        if self._batches and number != self._batches:
            raise ValueError(
                f"loader gave {self._batches} batches when it was read first, and {number} now: it must give the same "
                "data each time, or passes='one'"
            )
        self._batches = number
        return seen


def _measure(name: str, layer: Any, args: tuple[Any, ...], keywords: dict[str, Any], number: int) -> Moments:
    """The moments of one input of a layer."""
    if isinstance(layer, RunningStatistics):
        moments = layer._moments_of(*args, **keywords)
    else:
        x = args[0] if args else next(iter(keywords.values()))
        moments = Moments(PER_CHANNEL)
        moments.add(x.detach().cpu())
    mean, var = moments.finish() if moments.shape is not None and moments.count.all() else ((), ())
    for channel, (m, v) in enumerate(zip(mean, var, strict=True)):
        # Of NaN or Inf among the elements, or of float64 data whose squares overflow.
        if not (abs(m) < float("inf") and v < float("inf")):
            raise ValueError(
                f"{layer_name(name)}: channel {channel} of batch {number} has mean {m:g} and variance {v:g}; the model "
                "is as it was"
            )
    return moments


def _uncompiled(model: nn.Module) -> nn.Module:
    """What torch.compile was given, whose layers have the names of the model, not names of their own."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def _eager() -> AbstractContextManager[Any]:
    """Compiled parts of the model run uncompiled meanwhile: compiled code does not call the hooks that look on."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
