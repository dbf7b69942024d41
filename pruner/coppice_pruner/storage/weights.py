"""Weights in safetensors, each once: tied parameters share their memory and are written under one of their names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def own_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers, contiguous, without those that are another one's memory."""
    seen: set[tuple[int, tuple[int, ...]]] = set()
    result = {}
    for name, tensor in module.state_dict().items():
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
    try:
        missing, unknown = module.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    state = module.state_dict()
    loaded = {state[name].data_ptr() for name in weights if name in state}
    absent = [name for name in missing if state[name].data_ptr() not in loaded]
    if absent or unknown:
        raise ValueError(
            f"parameters missing: {', '.join(absent[:3]) or 'none'}; not known: {', '.join(unknown[:3]) or 'none'}"
        )
