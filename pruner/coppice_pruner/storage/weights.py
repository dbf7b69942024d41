"""Weights in safetensors, each once: tied parameters share their memory and are written under one of their names."""

from __future__ import annotations

from collections.abc import Mapping

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
