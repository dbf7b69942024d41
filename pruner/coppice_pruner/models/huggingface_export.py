"""Writes a pruned model of transformers back in its own layout, where config.json can say what its widths are.

A config has one number for what a pruned model has many of: `intermediate_size` holds for all layers, the size of a
head follows from the hidden size unless there is a `head_dim`. Which numbers decide which dimensions is found by
building the architecture with one of them doubled, so no table of architectures has to be kept. What cannot be said is
not written; what is written has been loaded with `from_pretrained` and gave the same outputs.
"""

from __future__ import annotations

import contextlib
import copy
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coppice_pruner.models.huggingface import build_transformers, loader_of
from coppice_pruner.models.loaded import LoadedModel

MAX_DIFFERENCE = 1e-5
"""Greatest difference of outputs between the model in memory and what `from_pretrained` gives, absolute below 1."""
_SCHEME = "transformers://"
_WIDTHS = (
    "embedding_size", "hidden_sizes", "intermediate_size", "hidden_dim", "n_inner", "mlp_ratio",
    "num_key_value_heads", "num_attention_heads",
)  # fmt: skip
"""Keys of config.json that may change; what a key does not decide in an architecture is left alone."""

Shapes = dict[str, tuple[int, ...]]


class _InexpressibleError(Exception):
    """The config has no words for a width."""


def write_huggingface(model: LoadedModel, directory: Path) -> str:
    """Write config.json and model.safetensors into a new directory and return why that was not possible.

    Args:
        model: On the CPU. One that is not from transformers is not written, and nothing is said about it.
        directory: Does not exist yet, and afterwards only if everything in it is right.

    Returns:
        The reason with the first group at fault, for a person; empty if there is nothing to say.
    """
    if not model.architecture.source.startswith(_SCHEME):
        return ""
    if model.quantization is not None:
        scheme = model.quantization.scheme.value
        return (
            f"config.json has no word for layers as {scheme} has them; load the bundle with coppice_pruner.load_bundle"
        )
    task = model.architecture.source.removeprefix(_SCHEME)
    inner = model.module.get_submodule("classifier")
    try:
        with _quiet():
            config = _config(task, model, inner)
            target: Any = build_transformers(task, config).get_submodule("classifier").eval()
            target.load_state_dict(inner.state_dict())
            target.save_pretrained(directory)
            _verify(task, model, directory)
    except _InexpressibleError as error:
        shutil.rmtree(directory, ignore_errors=True)
        return f"{error}; load the bundle with coppice_pruner.load_bundle"
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return ""


def _config(task: str, model: LoadedModel, inner: nn.Module) -> dict[str, Any]:
    """Return the config that says what the pruned model's widths are."""
    for step in model.pruning_plan:
        if not step.kept:
            raise _InexpressibleError(f"group {step.group} is dropped, and config.json describes every block alike")
    config = _whole(task, model.architecture.arguments["config"])
    dense, found = _shapes(task, config), _shapes_of(inner)
    result = copy.deepcopy(config)
    for key in _WIDTHS:
        for place in _places(config.get(key)):
            value = _value(task, config, key, place, dense, found)
            if value is None:
                continue
            if place is None:
                result[key] = value
            else:
                result[key][place] = value
    said = _shapes(task, result)
    for name in dict.fromkeys([*found, *said]):
        if found.get(name) != said.get(name):
            raise _InexpressibleError(
                f"{_group(name, model)} has shape {_text(found.get(name))}, where config.json can only say "
                f"{_text(said.get(name))}"
            )
    return result


def _value(
    task: str, config: Mapping[str, Any], key: str, place: int | None, dense: Shapes, found: Shapes
) -> float | None:
    """Return what a key must be for the pruned widths; None where it decides nothing, or nothing that changed."""
    changed = copy.deepcopy(dict(config))
    old: float = changed[key] if place is None else changed[key][place]
    if place is None:
        changed[key] = 2 * old
    else:
        changed[key][place] = 2 * old
    try:
        doubled = _shapes(task, changed)
    except _InexpressibleError:
        return None
    first: tuple[str, float] | None = None
    for name, shape in dense.items():
        if len(doubled.get(name, ())) != len(shape) or len(found.get(name, ())) != len(shape):
            continue
        for dimension, (size, other) in enumerate(zip(shape, doubled[name], strict=True)):
            if size == other:
                continue
            # Widths are a multiple of the key's value: of heads their size, of a bottleneck a quarter.
            value = found[name][dimension] * old / size
            if first is not None and value != first[1]:
                raise _InexpressibleError(
                    f"group {_module(name)} has another width ({found[name][dimension]}) than {_module(first[0])} "
                    f"({found[first[0]][dimension]}), and config.json has one {key} for both"
                )
            first = first or (name, value)
    if first is None or first[1] == old:
        return None
    return first[1] if isinstance(old, float) or not first[1].is_integer() else int(first[1])


def _verify(task: str, model: LoadedModel, directory: Path) -> None:
    loader, wrapper = loader_of(task)
    again, info = loader.from_pretrained(directory, local_files_only=True, output_loading_info=True)
    if any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise _InexpressibleError(f"from_pretrained does not find every weight in its place ({info})")
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randn(item.shape, generator=generator) if item.is_floating_point() else item
        for item in model.example_inputs(4)
    )
    with torch.inference_mode():
        want: Tensor = model.module(*inputs)
        difference = float((wrapper(again.eval())(*inputs) - want).abs().max())
    # Written so that NaN fails too.
    if not difference <= MAX_DIFFERENCE * max(1.0, float(want.abs().max())):
        raise _InexpressibleError(f"from_pretrained gives outputs that differ by {difference:.2g}")


def _whole(task: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with every value that its class would fill in, so that changing one does not change others."""
    built: Any = build_transformers(task, dict(config)).get_submodule("classifier")
    result: dict[str, Any] = {**built.config.to_dict(), "architectures": [type(built).__name__]}
    if "n_inner" in result and result["n_inner"] is None:
        result["n_inner"] = 4 * result["n_embd"]
    return result


def _shapes(task: str, config: Mapping[str, Any]) -> Shapes:
    try:
        with torch.device("meta"):
            return _shapes_of(build_transformers(task, copy.deepcopy(dict(config))).get_submodule("classifier"))
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        said = str(error).strip().splitlines()
        raise _InexpressibleError(
            f"config.json may not have these widths: {said[-1].strip() if said else error!r}"
        ) from error


def _shapes_of(module: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and warning of its own deprecations."""
    from transformers import utils

    logging: Any = utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _places(value: object) -> tuple[int | None, ...]:
    if isinstance(value, list):
        return tuple(range(len(value)))
    return (None,) if isinstance(value, int | float) and not isinstance(value, bool) else ()


def _module(parameter: str) -> str:
    return f"classifier.{parameter.rpartition('.')[0]}"


def _group(parameter: str, model: LoadedModel) -> str:
    """Return the group of the plan that a parameter's module leads, else the parameter."""
    names = {step.group for step in model.pruning_plan}
    return f"group {_module(parameter)}" if _module(parameter) in names else f"parameter classifier.{parameter}"


def _text(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "one number"
