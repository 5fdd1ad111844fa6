"""f is called so that its values are exact and nothing of the user's changes.

Exact: no TF32, no ambient autocast (an autocast inside f stays, and J is then that of the autocast function, in its
precision), attention by its plain formula, which has derivatives of all kinds. Unchanged: modules' attributes, modes,
buffers and hooks, random number state, and the grad and inference modes that the caller is in; also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.compat import drop_backward_hooks


@contextmanager
def full_precision() -> Generator[None]:
    """Matrix products and convolutions of float32 in float32, and no autocast."""
    cuda, cudnn, mkldnn = (
        cast(Any, part) for part in (torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn)
    )
    places = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv)
    found = [place.fp32_precision for place in places]
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for place in places:
                place.fp32_precision = "ieee"
            yield
        finally:
            for place, precision in zip(places, found, strict=True):
                place.fp32_precision = precision


@contextmanager
def exact_calls(modules: Sequence[nn.Module], devices: Sequence[torch.device]) -> Generator[None]:
    """Everything above, around calls of f; grad mode is on inside, inference mode off."""
    gpus = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    with (
        full_precision(),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=gpus),
        sdpa_kernel(SDPBackend.MATH),
        RecurrenceWithoutCuDNN() if gpus else nullcontext(),
        _plain_attention_layers(),
        preserved(modules),
    ):
        yield


@contextmanager
def _plain_attention_layers() -> Generator[None]:
    """`nn.TransformerEncoder` without its fused inference path, which has no derivative."""
    found = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(found)


@contextmanager
def preserved(modules: Sequence[nn.Module]) -> Generator[None]:
    """Attributes of the modules and their submodules are put back at the end: the same objects under the same names.

    Backward hooks are left out meanwhile: they say what is done with gradients, not what f is.
    """
    owners = list({id(part): part for module in modules for part in module.modules()}.values())
    found = [_attributes(owner) for owner in owners]
    try:
        for owner in owners:
            drop_backward_hooks(owner)
        yield
    finally:
        for owner, attributes in zip(owners, found, strict=True):
            _restore(owner, attributes)


def _attributes(owner: nn.Module) -> dict[str, tuple[Any, Any]]:
    """Attributes of one module; its tables (parameters, buffers, hooks) with a copy of their entries."""
    return {
        name: (value, (value.copy() if value else ()) if isinstance(value, _TABLES) else None)
        for name, value in vars(owner).items()
    }


_TABLES = (dict, list, set)


def _restore(owner: nn.Module, attributes: dict[str, tuple[Any, Any]]) -> None:
    found = vars(owner)
    for name in found.keys() - attributes.keys():
        del found[name]
    for name, (value, entries) in attributes.items():
        found[name] = value
        if entries is None or not (value or entries):
            continue
        if isinstance(value, list):
            value[:] = entries
        else:
            value.clear()
            value.update(entries)


def training_batch_norms(modules: Sequence[nn.Module]) -> list[str]:
    """Names of the batch norm layers that use the statistics of the batch."""
    found = [
        name or type(part).__name__
        for module in modules
        for name, part in module.named_modules()
        if isinstance(part, _BATCH_NORMS) and (part.training or part.running_mean is None)
    ]
    return list(dict.fromkeys(found))


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Precisions(torch.overrides.TorchFunctionMode):
    """Sees the coarsest precision of all results: norm layers of float64 models compute in float32, say."""

    def __init__(self) -> None:
        super().__init__()
        self.coarsest = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and (out.is_floating_point() or out.is_complex()):
            self.coarsest = max(self.coarsest, torch.finfo(out.dtype).eps)
        return out


_RECURRENT = named("lstm", "gru", "rnn_tanh", "rnn_relu")


class RecurrenceWithoutCuDNN(torch.overrides.TorchFunctionMode):
    """Recurrent layers by PyTorch's own kernels: cuDNN's cannot go back through a layer in evaluation mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RECURRENT:
            return func(*args, **kwargs)
        cudnn = cast(Any, torch.backends.cudnn)
        found = cudnn.enabled
        cudnn.enabled = False
        try:
            return func(*args, **kwargs)
        finally:
            cudnn.enabled = found


class RefuseBatchStatistics(torch.overrides.TorchFunctionMode):
    """Raises where a batch norm in training mode is called, instead of mixing examples."""

    def __init__(self, refuse: Callable[[], Exception]) -> None:
        super().__init__()
        self._refuse = refuse

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if takes_batch_statistics(func, args, kwargs):
            raise self._refuse()
        return func(*args, **kwargs)


def takes_batch_statistics(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call is a batch norm in training mode."""
    return func is functional.batch_norm and bool(args[5] if len(args) > 5 else kwargs.get("training", False))
