"""Algorithm 1 of the paper, every line of it real.

The cost model proposes, the whole model's measurement decides. After a rollback the step is halved and tried again; the
run ends when the target is reached, the step is exhausted, nothing is left to remove, or maxIterations is reached.
The paper breaks at the first rollback (line 16); half a step often fits where a whole one did not.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from coppice_api.base import Provenance
from coppice_api.prunejob import Allocation
from coppice_api.run import ModelFigures, Phase, RunConfig
from coppice_pruner.allocation import AllocationContext, Allocator, Criterion, GroupState, Kept, make_allocator
from coppice_pruner.data import Splits
from coppice_pruner.errors import InputRefusedError, InvariantViolatedError, SurgeryRefusedError
from coppice_pruner.measurement import Comparison, Reading, average, compare, model_workload, one_thread, take_reading
from coppice_pruner.meters import Meter
from coppice_pruner.models import LoadedModel
from coppice_pruner.profiling import CostModel, build_cost_model, profile_layers
from coppice_pruner.run.journal import Iteration, Journal
from coppice_pruner.saliency import l2_scores, taylor_scores
from coppice_pruner.surgery import ChannelGroup, apply_plan, check_invariant, compose, find_groups, prune, to_steps
from coppice_pruner.training import DivergedError, evaluate, fine_tune

FIRST_STEP = 0.2
"""Share that the first step removes. Larger steps save iterations, smaller ones accuracy; halving finds
the way back."""
LEAST_STEP = 0.0125
"""Where halving ends: five rollbacks in a row from the first step. A step that is kept doubles the next one again, so a
few unlucky fine-tunings do not end a run."""
OVERSHOOT = 0.02
"""How far beyond the target a step may aim, so that a prediction a little too good does not cost another iteration."""
MIN_WIDTH = 4
"""No group becomes narrower: below it, launching costs more than computing."""
CPU_MULTIPLE, CUDA_MULTIPLE = 4, 8
"""Widths become multiples of these: the vector width of a CPU, the tile of a tensor core."""
QUICK_PAIRS = 3
QUICK_SHARE = 0.4
"""The measurement after a step has this share of a window; the full one decides at the end."""
_TAYLOR_BATCHES, _TAYLOR_BATCH_SIZE = 8, 64
_INVARIANT_SAMPLES = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """The loop after some finished steps."""

    model: nn.Module
    kept: Kept
    """Of the dense model's channels."""
    iterations: tuple[Iteration, ...]
    step: float
    rollbacks: int
    accuracy_ratio: float
    energy_reduction_ratio: float
    cost_model: CostModel


@dataclass(frozen=True)
class Baseline:
    """The dense model, measured once."""

    figures: ModelFigures
    cost_model: CostModel
    layer_energies: dict[str, float]


@dataclass(frozen=True)
class LoopResult:
    """What Algorithm 1 returns, and how it got there."""

    model: LoadedModel
    """The best model within the accuracy budget; the dense one if no step was accepted."""
    met: bool
    reason: str
    """Why the loop ended, for a person."""
    dense: ModelFigures
    pruned: ModelFigures
    comparison: Comparison | None
    """None if no step was accepted: there is nothing to compare."""
    iterations: tuple[Iteration, ...]


class Loop:
    """Algorithm 1 for one model, one data set and one meter.

    Args:
        dense: M.
        data: Training and evaluation splits.
        meter: Counts joules of the device.
        config: Objective (T, epsilon), algorithm and measurement.
        journal: Told what happens.
        device: Where the model runs.
    """

    def __init__(
        self, dense: LoadedModel, data: Splits, meter: Meter, config: RunConfig, journal: Journal, device: torch.device
    ) -> None:
        self._dense, self._meter, self._config, self._journal = dense, meter, config, journal
        self._module = dense.module.to(device).eval()
        self._device = device
        self._data = data.to(device)
        batch_size = min(config.measurement.batch_size, len(data.evaluation_labels))
        self._batch = (self._data.evaluation_images[:batch_size],)
        self._examples = tuple(item.to(device) for item in dense.example_inputs())
        self._target_ratio = config.objective.energy_reduction_percent / 100
        self._drop_ratio = float(config.objective.max_accuracy_drop_points) / 100
        self._multiple = CUDA_MULTIPLE if device.type == "cuda" else CPU_MULTIPLE

    @property
    def provenance(self) -> Provenance:
        """Of every joule of this run."""
        return self._meter.provenance

    def baseline(self) -> Baseline:
        """Measure the dense model and its layers (lines 1 to 3 and 7)."""
        journal, measurement = self._journal, self._config.measurement
        journal.enter(Phase.BASELINE, "Evaluating the dense model and measuring its energy", 0.02)
        accuracy_ratio = self._evaluate(self._module)
        reading = self._read(self._module, measurement.window_seconds)
        figures = figures_of(self._module, accuracy_ratio, reading)
        journal.dense, journal.provenance = figures, self._meter.provenance
        journal.update(dense_accuracy_ratio=accuracy_ratio, provenance=self._meter.provenance, ratio=0.06)
        journal.enter(Phase.PROFILING, "Measuring every layer, and what it would cost at other widths", 0.06)
        workload = model_workload(self._module, self._batch)
        with one_thread():
            profiles = profile_layers(
                self._module, self._batch, self._meter,
                window_seconds=max(measurement.window_seconds / 10, 50 * self._meter.update_period_seconds),
                synchronize=workload.synchronize,
            )  # fmt: skip
            groups = find_groups(self._module, self._examples)
            cost_model = build_cost_model(
                self._module, self._batch, groups, profiles,
                budget_seconds=2.0 * measurement.window_seconds,
                multiple=self._multiple, min_width=MIN_WIDTH, synchronize=workload.synchronize,
            ).calibrate({}, figures.energy_joules)  # fmt: skip
        layer_energies = {item.layer: item.energy_joules for item in profiles}
        journal.layer_energies = layer_energies
        journal.update(ratio=0.12)
        return Baseline(figures, cost_model, layer_energies)

    def start(self, baseline: Baseline) -> Standing:
        """Return the loop before its first step."""
        return Standing(
            self._module, {}, (), FIRST_STEP, 0, baseline.figures.accuracy_ratio, 0.0, baseline.cost_model
        )  # fmt: skip

    def restore(self, model_state: dict[str, Tensor], kept: Kept) -> nn.Module:
        """Return the model of a checkpoint."""
        groups = find_groups(self._module, self._examples)
        module = apply_plan(self._module, self._examples, to_steps(kept, groups))
        # Where nothing is pruned yet, the plan gives back the dense module itself.
        module = copy.deepcopy(module) if module is self._module else module
        module.load_state_dict(model_state)
        return module.to(self._device).eval()

    def run(
        self, baseline: Baseline, standing: Standing, on_step: Callable[[Standing], None] = lambda _standing: None
    ) -> LoopResult:
        """Prune until the target is reached or nothing more is to be had (lines 4 to 19).

        Args:
            baseline: From `baseline`, or a checkpoint.
            standing: From `start`, or a checkpoint.
            on_step: Told after every finished step, accepted or taken back; the place for a checkpoint.
        """
        algorithm = self._config.algorithm
        while True:
            reason = self._exhausted(standing)
            if standing.energy_reduction_ratio >= self._target_ratio or reason:
                result = self._decide(baseline, standing, reason)
                if result.met or reason:
                    return result
                # The short measurement was too kind: go on from what the full one says.
                assert result.comparison is not None
                standing = dataclasses.replace(
                    standing, energy_reduction_ratio=result.comparison.energy_reduction_ratio
                )
            allocator = make_allocator(
                algorithm.allocation,
                alpha=float(algorithm.alpha), beta=float(algorithm.beta), rollbacks=standing.rollbacks,
            )  # fmt: skip
            after = self._step(baseline, standing, allocator)
            if after is None:
                return self._decide(baseline, standing, "nothing is left to remove")
            standing = after
            on_step(standing)

    def _exhausted(self, standing: Standing) -> str:
        if standing.step < LEAST_STEP:
            return f"every smaller step costs more accuracy than the {self._drop_ratio * 100:g} points allowed"
        if len(standing.iterations) >= self._config.algorithm.max_iterations:
            return f"algorithm.maxIterations ({self._config.algorithm.max_iterations}) is reached"
        return ""

    def _step(self, baseline: Baseline, standing: Standing, allocator: Allocator) -> Standing | None:
        number = len(standing.iterations) + 1
        share = f"{standing.energy_reduction_ratio:.0%} of {self._target_ratio:.0%} saved so far"
        self._journal.enter(Phase.PRUNING, f"Step {number}: choosing channels; {share}", self._ratio(standing))
        groups = find_groups(standing.model, self._examples)
        context = self._context(standing, groups, allocator)
        step = self._aim(standing)
        kept = allocator.propose(context, step)
        if not kept:
            return None
        widths = {**context.widths, **{name: len(indices) for name, indices in kept.items()}}
        predicted = 1.0 - standing.cost_model.predict(widths) / baseline.figures.energy_joules

        def taken_back(accuracy_ratio: float | None, reason: str) -> Standing:
            _log.info("step %d taken back: %s", number, reason)
            iteration = Iteration(number, False, step, widths, accuracy_ratio, None, predicted, reason)
            self._journal.add(iteration)
            return dataclasses.replace(
                standing,
                iterations=(*standing.iterations, iteration), step=standing.step / 2, rollbacks=standing.rollbacks + 1,
            )  # fmt: skip

        try:
            candidate = prune(standing.model, self._examples, kept)
            check_invariant(standing.model, candidate, kept, (self._data.evaluation_images[:_INVARIANT_SAMPLES],))
        except (SurgeryRefusedError, InvariantViolatedError) as error:
            return taken_back(None, str(error))
        if {group.name for group in find_groups(candidate, self._examples)} != {group.name for group in groups}:
            return taken_back(None, "a group became so narrow that it is no group any more")
        algorithm = self._config.algorithm
        self._journal.enter(Phase.FINE_TUNING, f"Step {number}: fine-tuning; {share}")
        try:
            fine_tune(
                candidate, self._data, algorithm.fine_tune,
                seed=algorithm.seed + number, teacher=self._module if algorithm.distillation else None,
            )  # fmt: skip
        except DivergedError as error:
            return taken_back(None, str(error))
        self._journal.enter(Phase.EVALUATING, f"Step {number}: evaluating; {share}")
        accuracy_ratio = self._evaluate(candidate)
        if accuracy_ratio < baseline.figures.accuracy_ratio - self._drop_ratio - 1e-9:
            lost = (baseline.figures.accuracy_ratio - accuracy_ratio) * 100
            return taken_back(
                accuracy_ratio,
                f"accuracy fell by {lost:.2f} points to {accuracy_ratio:.2%}; {self._drop_ratio * 100:g} are allowed",
            )
        self._journal.enter(Phase.MEASURING, f"Step {number}: measuring energy; {share}")
        comparison = self._compare(
            candidate, pairs=QUICK_PAIRS, window_seconds=self._config.measurement.window_seconds * QUICK_SHARE
        )
        reduction = comparison.energy_reduction_ratio
        cost_model = standing.cost_model
        if reduction < 1.0:
            cost_model = cost_model.calibrate(widths, baseline.figures.energy_joules * (1.0 - reduction))
        iteration = Iteration(number, True, step, widths, accuracy_ratio, reduction, predicted)
        self._journal.add(iteration)
        self._journal.pruned = figures_of(candidate, accuracy_ratio, average(comparison.pruned))
        return Standing(
            candidate, compose(standing.kept, kept), (*standing.iterations, iteration),
            min(FIRST_STEP, 2 * standing.step), standing.rollbacks, accuracy_ratio, reduction, cost_model,
        )  # fmt: skip

    def _aim(self, standing: Standing) -> float:
        """Return the step, cut short where less than a whole one is missing."""
        if self._config.algorithm.allocation not in (Allocation.KNAPSACK, Allocation.PER_JOULE):
            return standing.step
        missing = self._target_ratio - standing.energy_reduction_ratio + OVERSHOOT
        return max(LEAST_STEP, min(standing.step, missing))

    def _context(self, standing: Standing, groups: tuple[ChannelGroup, ...], allocator: Allocator) -> AllocationContext:
        if allocator.criterion is Criterion.TAYLOR:
            scores = taylor_scores(standing.model, groups, self._taylor_batches(), functional.cross_entropy)
        else:
            scores = l2_scores(standing.model, groups)
        dense_widths = standing.cost_model.built_widths
        return AllocationContext(
            tuple(
                GroupState(group.name, tuple(scores[group.name].tolist()), dense_widths[group.name], group.atoms)
                for group in groups
            ),
            standing.cost_model,
            multiple=self._multiple,
            min_width=MIN_WIDTH,
        )

    def _taylor_batches(self) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self._config.algorithm.seed)
        order = torch.randperm(len(self._data.train_labels), generator=generator)
        chosen = order[: _TAYLOR_BATCHES * _TAYLOR_BATCH_SIZE].split(_TAYLOR_BATCH_SIZE)
        return [(self._data.train_images[index], self._data.train_labels[index]) for index in chosen]

    def _decide(self, baseline: Baseline, standing: Standing, reason: str) -> LoopResult:
        """Measure in full what the loop arrived at."""
        model = LoadedModel(
            standing.model, self._dense.architecture, self._dense.inputs, self._dense.classes,
            to_steps(standing.kept, find_groups(self._module, self._examples)) if standing.kept else (),
            task=self._dense.task,
        )  # fmt: skip
        if not standing.kept:
            return LoopResult(
                model, False, reason, baseline.figures, baseline.figures, None, standing.iterations
            )  # fmt: skip
        measurement = self._config.measurement
        self._journal.enter(
            Phase.MEASURING,
            f"Comparing the dense and the pruned model in {measurement.pairs} interleaved pairs of windows",
            0.85,
        )
        comparison = self._compare(
            standing.model, pairs=measurement.pairs, window_seconds=measurement.window_seconds,
            on_pair=lambda pair: self._journal.update(ratio=0.85 + 0.08 * pair / measurement.pairs),
        )  # fmt: skip
        dense = figures_of(self._module, baseline.figures.accuracy_ratio, average(comparison.dense))
        pruned = figures_of(standing.model, standing.accuracy_ratio, average(comparison.pruned))
        self._journal.dense, self._journal.pruned = dense, pruned
        self._journal.update(energy_reduction_ratio=comparison.energy_reduction_ratio)
        slow = self._too_slow(pruned)
        met = comparison.energy_reduction_ratio >= self._target_ratio and comparison.proven and not slow
        return LoopResult(
            model, met, "" if met else slow or reason, dense, pruned, comparison, standing.iterations
        )  # fmt: skip

    def _too_slow(self, pruned: ModelFigures) -> str:
        limit = self._config.objective.max_latency_milliseconds
        if limit is None or pruned.latency_seconds * 1000 <= float(limit):
            return ""
        return f"a batch takes {pruned.latency_seconds * 1000:.3g} ms, objective.maxLatencyMilliseconds allows {limit}"

    def _compare(
        self, candidate: nn.Module, *, pairs: int, window_seconds: float,
        on_pair: Callable[[int], None] = lambda _pair: None,
    ) -> Comparison:  # fmt: skip
        with one_thread():
            return compare(
                model_workload(self._module, self._batch), model_workload(candidate, self._batch), self._meter,
                pairs=pairs, window_seconds=window_seconds, seed=self._config.algorithm.seed, on_pair=on_pair,
            )  # fmt: skip

    def _read(self, model: nn.Module, window_seconds: float) -> Reading:
        with one_thread():
            return take_reading(model_workload(model, self._batch), self._meter, window_seconds=window_seconds)

    def _evaluate(self, model: nn.Module) -> float:
        return evaluate(model, self._data.evaluation_images, self._data.evaluation_labels)

    def _ratio(self, standing: Standing) -> float:
        """Return how far the run is: towards the target or towards the last iteration, whichever is nearer."""
        steps = len(standing.iterations) / self._config.algorithm.max_iterations
        return 0.12 + 0.73 * min(1.0, max(steps, standing.energy_reduction_ratio / self._target_ratio, 0.0))


def figures_of(model: nn.Module, accuracy_ratio: float, reading: Reading) -> ModelFigures:
    """Return the figures of one model as it would be deployed."""
    tensors = [*model.parameters(), *model.buffers()]
    return ModelFigures(
        accuracy_ratio=accuracy_ratio,
        energy_joules=reading.energy_joules,
        power_watts=reading.power_watts,
        latency_seconds=reading.latency_seconds,
        memory_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def check_fit(model: LoadedModel, data: Splits) -> None:
    """Refuse a data set that the model cannot take.

    Raises:
        InputRefusedError: Naming both shapes, or both numbers of classes.
    """
    want, got = model.inputs[0].shape, tuple(data.train_images.shape[1:])
    if len(model.inputs) != 1 or tuple(want) != got:
        raise InputRefusedError(
            f"spec.dataset.uri: its samples have shape {got}, but the model of spec.model.uri takes {tuple(want)}"
        )
    with torch.inference_mode():
        outputs = model.module(*model.example_inputs())
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] != len(data.classes):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputRefusedError(
            f"spec.model.uri: the model gives outputs of shape {shape} for 2 samples; the data set has "
            f"{len(data.classes)} classes, so (2, {len(data.classes)}) is needed"
        )
