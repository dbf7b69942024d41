"""Checkpoints: the run as of its last finished step, so that another pod can go on.

A checkpoint is a directory `checkpoints/<number>` with `model.safetensors`, `attempt.safetensors` if the last step was
taken back and the next will learn from it, `within.safetensors` if the model is outside its budget, for the last one
within it, and `state.json`; the state names the digests of the weights and of itself and is written last, so a torn or
damaged one is recognised and the one before it is used. It needs neither optimizer nor random numbers: every
fine-tuning begins with a new optimizer and is seeded by the spec's seed and the step's number, so a step that was cut
short is done again as it would have been.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from coppice_pruner.run.journal import Iteration
from coppice_pruner.storage import Place
from coppice_pruner.storage.weights import own_weights

SCHEMA = "coppice.dev/checkpoint/v4"
_STATE = "state.json"
_WEIGHTS = "model.safetensors"
_ATTEMPT, _WITHIN = "attempt.safetensors", "within.safetensors"
_KEPT_CHECKPOINTS = 2
_log = logging.getLogger(__name__)

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class State:
    """Everything the loop's decisions depend on, as JSON values."""

    spec_digest: str
    iterations: tuple[Iteration, ...]
    step: float
    rollbacks: int
    kept: dict[str, tuple[int, ...]]
    """Of the dense model's channels."""
    dense: dict[str, Any]
    """ModelFigures of the dense model."""
    dense_quality: dict[str, float]
    quality: dict[str, float]
    energy_reduction_ratio: float
    cost_model: dict[str, Any]
    layer_energies: dict[str, float]
    folding_reduction_ratio: float
    run_energy_joules: float
    """Used by all pods so far."""
    run_seconds: float
    phase_seconds: dict[str, float] = field(default_factory=dict)
    """Time that all pods so far spent in each phase."""
    polished: bool = False
    """Whether fineTune.finalEpochs were spent on this model."""
    inputs_sha256: str = ""
    """Digest of the dense model and the data: a pod that finds others does not go on from here."""
    runtime_reduction_ratio: float | None = None
    deployed: dict[str, Any] | None = None
    """ModelFigures of the dense model in the runtime asked for, where that is not the one that steers."""
    attempt: dict[str, tuple[int, ...]] | None = None
    """What the network that was taken back last kept of this model's channels; None if nothing is learned from it."""
    within: dict[str, Any] | None = None
    """Of the last model that was within the budget: `kept`, `quality` and `energy_reduction_ratio`; None if the model
    is itself."""
    stride: float | None = None
    """Of the loop's standing."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole."""

    state: State
    model: Weights
    attempt: Weights | None
    within: Weights | None


class Checkpoints:
    """The checkpoints of one run.

    Args:
        place: The run's artifacts.
        scratch: For writing aside.
    """

    def __init__(self, place: Place, scratch: Path) -> None:
        self._place, self._scratch = place, scratch

    def save(
        self, state: State, model: nn.Module, attempt: nn.Module | None = None, within: nn.Module | None = None
    ) -> None:
        """Write a checkpoint and remove all but the last two.

        Args:
            state: Of the loop.
            model: That it arrived at.
            attempt: The network of `state.attempt`.
            within: The network of `state.within`.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as aside:
            digests = {}
            for name, module in ((_WEIGHTS, model), (_ATTEMPT, attempt), (_WITHIN, within)):
                if module is not None:
                    save_file(own_weights(module), Path(aside) / name)
                    digests[name] = hashlib.sha256((Path(aside) / name).read_bytes()).hexdigest()
            document = {
                "schemaVersion": SCHEMA,
                **{name: value for name, value in vars(state).items() if name != "iterations"},
                "iterations": [item.to_dict() for item in state.iterations],
                "weights_sha256": digests,
            }
            (Path(aside) / _STATE).write_text(json.dumps({**document, "sha256": _digest(document)}))
            # A number of its own: one that is whole is never written over.
            number = max(self._numbers(), default=-1) + 1
            self._place.publish(Path(aside), self._name(number), last=_STATE)
        for number in self._numbers()[:-_KEPT_CHECKPOINTS]:
            self._place.remove(self._name(number))

    def latest(self, spec_digest: str, inputs_sha256: str = "") -> Found | None:
        """Return the newest whole checkpoint, None when there is none.

        Args:
            spec_digest: Of the run; checkpoints of another are passed over.
            inputs_sha256: Of the dense model and the data; the same.
        """
        for number in reversed(self._numbers()):
            try:
                found = self._read(self._name(number), spec_digest)
            except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
                _log.warning("checkpoint %s is damaged (%s); trying the one before it", number, error)
                continue
            if found is None:
                continue
            if found.state.inputs_sha256 == inputs_sha256:
                return found
            _log.warning(
                "checkpoint %s was made from another dense model or other data than spec.model.uri and "
                "spec.dataset.uri give now; it is passed over. Pin spec.model.sha256 and spec.dataset.sha256, and "
                "have factories use a seed", number,
            )  # fmt: skip
        return None

    def clear(self) -> None:
        """Remove all: the run has ended."""
        self._place.remove("checkpoints")

    def _read(self, name: str, spec_digest: str) -> Found | None:
        text = self._place.read(f"{name}/{_STATE}")
        if text is None:
            raise ValueError("a file is missing")
        document = json.loads(text)
        if document.get("schemaVersion") != SCHEMA or document["spec_digest"] != spec_digest:
            return None
        if document.pop("sha256") != _digest(document):
            raise ValueError("its state has another digest")
        weights = {file: self._weights(f"{name}/{file}", sha) for file, sha in document.pop("weights_sha256").items()}
        document.pop("schemaVersion")
        document["iterations"] = tuple(Iteration.from_dict(item) for item in document["iterations"])
        within = document["within"] or {}
        for holder, field_name in ((document, "kept"), (document, "attempt"), (within, "kept")):
            if holder.get(field_name) is not None:
                holder[field_name] = {group: tuple(indices) for group, indices in holder[field_name].items()}
        return Found(State(**document), weights[_WEIGHTS], weights.get(_ATTEMPT), weights.get(_WITHIN))

    def _weights(self, path: str, sha256: str) -> Weights:
        content = self._place.read(path)
        if content is None:
            raise ValueError("a file is missing")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its weights have another digest")
        return load(content)

    def _numbers(self) -> list[int]:
        return sorted(int(name) for name in self._place.under("checkpoints").names() if name.isdigit())

    @staticmethod
    def _name(number: int) -> str:
        return f"checkpoints/{number:04d}"


def _digest(document: dict[str, Any]) -> str:
    # Through JSON and back, so that tuples and numbers are what a reader will find.
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
