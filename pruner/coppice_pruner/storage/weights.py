"""Weights in safetensors, each once: tied parameters share their memory and are written under one of their names.

A tensor that is made of others, such as integers and their scales, is written as those others: `name.qdata`,
`name.scale`. Nothing of the class that holds them together is stored; the structure is there before weights are loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def own_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers, contiguous, without those that are another one's memory."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    result = {}
    for name, tensor in _plain_state(module).items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        result[name] = tensor.contiguous()
    return result


def weights_digest(module: nn.Module) -> str:
    """Return a SHA-256 of every parameter and buffer, with its name and shape."""
    digest = hashlib.sha256()
    for name, tensor in own_weights(module).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Bytes, since numpy knows no bfloat16.
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what `own_weights` gave into a module of the same structure, in place.

    Raises:
        ValueError: If a parameter is missing, unknown or of another shape.
    """
    whole, state = module.state_dict(), _plain_state(module)
    parts, composite = state.keys() - whole.keys(), whole.keys() - state.keys()
    try:
        missing, unknown = module.load_state_dict(
            {name: tensor for name, tensor in weights.items() if name not in parts | composite}, strict=False
        )
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    for name in parts & weights.keys():
        _copy(name, state[name], weights[name])
    loaded = {state[name].data_ptr() for name in weights if name in state}
    lost = (set(missing) & state.keys()) | (parts - weights.keys())
    absent = sorted(name for name in lost if state[name].data_ptr() not in loaded)
    unknown = [*unknown, *sorted(composite & weights.keys())]
    if absent or unknown:
        raise ValueError(
            f"parameters missing: {', '.join(absent[:3]) or 'none'}; not known: {', '.join(unknown[:3]) or 'none'}"
        )


def memory_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's parameters and buffers as they are stored, integers as integers."""
    tensors = [part for tensor in (*module.parameters(), *module.buffers()) for _, part in _parts(tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _plain_state(module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}{suffix}": part for name, tensor in module.state_dict().items() for suffix, part in _parts(tensor)}


def _parts(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if not is_traceable_wrapper_subclass(tensor):
        yield "", tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield f".{name}", getattr(tensor, name)


def _copy(name: str, target: Tensor, source: Tensor) -> None:
    if target.shape != source.shape or target.dtype != source.dtype:
        raise ValueError(
            f"{name} has shape {tuple(source.shape)} and type {source.dtype}, not {tuple(target.shape)} and "
            f"{target.dtype}"
        )
    with torch.no_grad():
        target.copy_(source)
