"""A pretended accelerator for machines without one: mixing its tensors with the CPU's raises an error, like on a GPU.

Its tensors report torch's meta device and carry their numbers on the CPU, so that results can be compared with a plain
run. It supports one step of training or validation, not whole runs: a loader, an optimiser or `Module.to` do not work
with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
# Operations that a GPU allows between devices: copies, reading one number, and indices on the CPU.
_COPIES = {"aten._to_copy.default", "aten.copy_.default", "aten._local_scalar_dense.default"}
_INDEXING = {
    f"aten.{name}" for name in ("index.Tensor", "index_put.default", "index_put_.default", "_index_put_impl_.default")
}


class DevicesMixed(RuntimeError):
    """An operation got tensors of both devices."""


class OnAccelerator(Tensor):
    """A tensor of the pretended device; `there` has its numbers."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> OnAccelerator:
        made: OnAccelerator = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            there.size(),
            strides=there.stride(),
            storage_offset=there.storage_offset(),
            dtype=there.dtype,
            device=DEVICE,
        )
        made.there = there
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})

    def new_tensor(self, data: Any, dtype: torch.dtype | None = None, **_: Any) -> OnAccelerator:
        """Create a tensor on this device, as on a GPU. Torch itself would not ask the device."""
        with _disable_current_modes():
            return OnAccelerator(torch.tensor(data, dtype=dtype or self.dtype))


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnAccelerator)]
    # A GPU accepts single numbers from the CPU.
    others = [tensor for tensor in tensors if not isinstance(tensor, OnAccelerator) and tensor.ndim]
    name = str(operation)
    indexes = name in _INDEXING and isinstance(args[0], OnAccelerator)
    if ours and others and name not in _COPIES and not indexes:
        here, there = [tuple(tensor.shape) for tensor in others], [tuple(tensor.shape) for tensor in ours]
        raise DevicesMixed(f"{name}: {there} on the accelerator, {here} on the CPU")
    wanted = kwargs.get("device")
    result_is_ours = bool(ours) if wanted is None else torch.device(wanted).type == DEVICE.type
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    with _disable_current_modes():
        result = operation(*tree_map(_numbers, args), **tree_map(_numbers, kwargs))
    # Operations in place return their argument.
    given = {id(_numbers(tensor)): tensor for tensor in tensors}

    def wrapped(value: Any) -> Any:
        if id(value) in given:
            return given[id(value)]
        return OnAccelerator(value) if isinstance(value, Tensor) and result_is_ours else value

    return tree_map(wrapped, result)


def _numbers(value: Any) -> Any:
    return value.there if isinstance(value, OnAccelerator) else value


def move(module: nn.Module) -> None:
    """Move all registered tensors of a module, like `Module.to` does for a GPU."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                moved = nn.Parameter(OnAccelerator(value.detach().clone()), requires_grad=value.requires_grad)
                part._parameters[name] = moved
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = OnAccelerator(buffer.clone())


@contextmanager
def pretended_accelerator() -> Iterator[None]:
    """Make operations on its tensors work inside the context. Autocast, which does not know it, uses the CPU's."""
    real = torch.autocast

    class Autocast(real):  # type: ignore[misc, valid-type]
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    torch.autocast = Autocast  # type: ignore[misc]
    try:
        with _Dispatch():
            yield
    finally:
        torch.autocast = real  # type: ignore[misc]
