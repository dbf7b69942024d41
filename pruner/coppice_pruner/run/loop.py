"""Algorithm 1 of the paper, every line of it real.

The cost model proposes, the whole model's measurement decides. After a rollback a smaller step is tried; the run ends
when the target is reached, the step is exhausted, nothing is left to remove, or maxIterations is reached. The paper
breaks at the first rollback (line 16); a smaller step often fits where that one did not. It goes back to the weights
before the step, too; here channels go back to the network that was fine-tuned without them, which keeps what it
learned. And the next step does not wait for a model to be within the budget where fine-tunings that are left can be
expected to bring it there. What a run ends with is within the budget always.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coppice_api.base import Provenance
from coppice_api.prunejob import Allocation, FineTune, RuntimeKind
from coppice_api.run import ModelFigures, Phase, RunConfig
from coppice_pruner.allocation import Allocator, Kept, make_allocator
from coppice_pruner.data import Splits
from coppice_pruner.deployment import answering, folded
from coppice_pruner.errors import InvariantViolatedError, SurgeryRefusedError
from coppice_pruner.measurement import FEW_TICKS, Comparison, MeterCheck, Reading, average, model_workload, one_thread
from coppice_pruner.meters import Meter
from coppice_pruner.models import LoadedModel
from coppice_pruner.profiling import (
    OFF_RATIO,
    CostModel,
    TimesStore,
    build_cost_model,
    cache_directory,
    dearest,
    machine_of,
    median_error_ratio,
    profile_layers,
)
from coppice_pruner.quantization import Instruments, Quantization, try_int8
from coppice_pruner.run.budget import QualityBudget
from coppice_pruner.run.context import allocation_context
from coppice_pruner.run.history import History
from coppice_pruner.run.journal import Iteration, Journal
from coppice_pruner.run.polish import polish
from coppice_pruner.run.recovery import BETWEEN, Recovery, recover, settled_step
from coppice_pruner.run.standing import Attempt, Standing
from coppice_pruner.run.step_rule import LEAST_STEP, Patient, Prompt, Rule
from coppice_pruner.run.testbed import QUICK_PAIRS, Testbed
from coppice_pruner.storage.weights import load_weights, memory_bytes
from coppice_pruner.surgery import Blueprint, apply_plan, compose, find_groups, restrict, to_steps
from coppice_pruner.training import SINGLE, Processes, Quality, Teacher, evaluate, fine_tune

OVERSHOOT = 0.02
"""How far beyond the target a step may aim, so that a prediction a little too good does not cost another iteration."""
MIN_WIDTH = 4
"""No group becomes narrower: below it, launching costs more than computing."""
CPU_MULTIPLE, CUDA_MULTIPLE = 4, 8
"""Widths become multiples of these: half the least vector of a CPU, the tile of a tensor core. On a CPU the cost model
has measured which widths save nothing; narrow layers have few others to choose from."""
BRIEF_UPDATES = 250
"""A fine-tuning of fewer updates starts from readers that were refitted to what is left; a longer one finds a better
network without (docs/decisions/0003)."""
_INVARIANT_SAMPLES = 8
_REFIT_SAMPLES = 512
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Baseline:
    """The dense model, measured once."""

    figures: ModelFigures
    """In the runtime that steers; the cost model's layers sum to its energy."""
    quality: Quality
    cost_model: CostModel
    layer_energies: dict[str, float]
    folding_reduction_ratio: float = 0.0
    """What folding norms into layers saves by itself: part of both models, and of no claim."""
    runtime_reduction_ratio: float | None = None
    """What the runtime saves by itself of the folded dense model's energy, likewise; None for Eager."""
    deployed: ModelFigures | None = None
    """In the runtime asked for, where that is another than the one that steers."""


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
    single: Comparison | None = None
    """At batch 1, as a service that does not batch would run it; None if the comparison is at batch 1 itself."""
    meter_check: MeterCheck | None = None
    """None if the meter has no second one."""
    layer_error_ratio: float | None = None
    """How far the cost model was off for a layer of the pruned model, measured again; the median."""
    model_error_ratio: float | None = None
    """How far it was off for the whole pruned model when it proposed it."""
    quantization: Quantization | None = None
    """What 8-bit linear layers gave; None where nobody asked. If they are kept, all above speaks of them too."""


class Loop:
    """Algorithm 1 for one model, one data set and one meter.

    Args:
        dense: M.
        data: Training and evaluation splits.
        meter: Counts joules of the device.
        config: Objective (T, epsilon), algorithm and measurement.
        journal: Told what happens.
        device: Where the model runs.
        processes: Those that run the same loop on other GPUs: rank 0 decides and measures.
    """

    def __init__(
        self, dense: LoadedModel, data: Splits, meter: Meter, config: RunConfig, journal: Journal, device: torch.device,
        processes: Processes = SINGLE,
    ) -> None:  # fmt: skip
        self._dense, self._config, self._journal, self._processes = dense, config, journal, processes
        self._module = dense.module.to(device).eval()
        self._data = data.to(device)
        distils = config.algorithm.distillation
        self._teacher = Teacher(self._module, self._data.train, processes) if distils else None
        self._samples = self._data.evaluation.take(slice(_INVARIANT_SAMPLES)).inputs
        self._blueprint = Blueprint(find_groups(self._module, self._samples), self._samples)
        self._brief = brief(config.algorithm.fine_tune, self._data)
        self._learns = self._allocator(0).beyond_paper and not self._brief
        self._rule: Rule = Patient() if self._learns else Prompt()
        self._refit_inputs = self._data.train.take(slice(_REFIT_SAMPLES)).inputs
        self._testbed = Testbed(
            self._module, self._samples, self._data.evaluation.take(slice(config.measurement.batch_size)).inputs,
            meter, config, device, processes, journal.update,
        )  # fmt: skip
        self._target_ratio = config.objective.energy_reduction_percent / 100
        self._budget = QualityBudget.of(config.objective, data.task)
        limit = config.objective.max_latency_milliseconds
        self._max_seconds = None if limit is None else float(limit) / 1000
        self._multiple = CUDA_MULTIPLE if device.type == "cuda" else CPU_MULTIPLE

    @property
    def idle_power_watts(self) -> float | None:
        """What the device draws without work; known after `measure_idle`, where the meter knows it."""
        return self._testbed.idle_watts

    def measure_idle(self) -> None:
        """Find out what the device draws with the dense model loaded and no work."""
        self._testbed.measure_idle()

    @property
    def provenance(self) -> Provenance:
        """Of every joule of this run."""
        return self._testbed.meter.provenance

    def baseline(self) -> Baseline:
        """Measure the dense model and its layers (lines 1 to 3 and 7)."""
        journal, measurement = self._journal, self._config.measurement
        journal.enter(Phase.BASELINE, "Evaluating the dense model and measuring its energy", 0.02)
        testbed = self._testbed
        quality = self._evaluate(self._module)
        reading, unfolded = testbed.read_dense()
        if testbed.runtime.kind is not RuntimeKind.EAGER:
            journal.update(message=f"Preparing the dense model for {testbed.runtime.kind}, and measuring it there")
        in_runtime = testbed.read_dense_in_runtime()
        deployed = self._figures(testbed.deployed_dense, quality, in_runtime[1]) if in_runtime else None
        steers = testbed.runtime is testbed.steering
        figures = deployed if deployed and steers else self._figures(testbed.deployed_dense, quality, reading)
        journal.dense, journal.provenance = figures, self.provenance
        journal.update(dense_accuracy_ratio=quality.accuracy_ratio, provenance=self.provenance, ratio=0.06)
        journal.enter(Phase.PROFILING, "Measuring every layer, and what it would cost at other widths", 0.06)
        # In PyTorch whatever the runtime, since a compiled program has no layers to time; the sum is the runtime's.
        workload = model_workload(testbed.deployed_dense, testbed.batch)
        with one_thread():
            profiles = profile_layers(
                testbed.deployed_dense, testbed.batch, testbed.meter,
                window_seconds=measurement.window_seconds / 10,
                least_window_seconds=50 * testbed.meter.update_period_seconds,
                budget_seconds=2.0 * measurement.window_seconds, synchronize=workload.synchronize,
            )  # fmt: skip
            cost_model = build_cost_model(
                testbed.deployed_dense, testbed.batch, self._blueprint.groups, profiles,
                budget_seconds=2.0 * measurement.window_seconds,
                multiple=self._multiple, min_width=MIN_WIDTH,
                store=TimesStore(cache_directory(self._config.work_directory), machine_of(testbed.device)),
                synchronize=workload.synchronize, clock=testbed.clock,
            ).calibrate({}, figures.energy_joules, figures.latency_seconds)  # fmt: skip
        cost_model = self._processes.decide(cost_model)
        layer_energies = {item.layer: item.energy_joules for item in profiles}
        journal.layer_energies = layer_energies
        journal.update(ratio=0.12)
        return Baseline(
            figures, quality, cost_model, layer_energies, 1.0 - reading.energy_joules / unfolded.energy_joules,
            in_runtime[0] if in_runtime else None, None if steers else deployed,
        )  # fmt: skip

    def start(self, baseline: Baseline) -> Standing:
        """Return the loop before its first step."""
        return Standing(
            self._module, {}, (), self._rule.first_step, 0, baseline.quality, 0.0, baseline.cost_model
        )  # fmt: skip

    def restore(self, model_state: dict[str, Tensor], kept: Kept) -> nn.Module:
        """Return the model of a checkpoint."""
        module = apply_plan(self._module, self._samples, to_steps(kept, self._blueprint.groups))
        # Where nothing is pruned yet, the plan gives back the dense module itself.
        module = copy.deepcopy(module) if module is self._module else module
        load_weights(module, model_state)
        return module.to(self._testbed.device).eval()

    def run(
        self, baseline: Baseline, standing: Standing, on_step: Callable[[Standing], None] = lambda _standing: None
    ) -> LoopResult:
        """Prune until the target is reached or nothing more is to be had (lines 4 to 19).

        Args:
            baseline: From `baseline`, or a checkpoint.
            standing: From `start`, or a checkpoint.
            on_step: Told after every finished step, accepted or taken back; the place for a checkpoint.
        """
        while True:
            reason = self._exhausted(standing)
            ends = bool(reason) or standing.energy_reduction_ratio >= self._target_ratio
            if standing.within and (ends or self._settles(standing)):
                standing = self._settled(baseline, standing, last=ends)
                on_step(standing)
                continue
            if ends:
                standing = self._polished(standing, on_step)
                result = self._decide(baseline, standing, reason)
                if result.met or reason:
                    return result
                # The short measurement was too kind: go on from what the full one says.
                assert result.comparison is not None
                standing = dataclasses.replace(
                    standing, energy_reduction_ratio=result.comparison.energy_reduction_ratio
                )
            after = self._step(baseline, standing, self._allocator(standing.rollbacks))
            if after is None and standing.within:
                after = self._settled(baseline, standing, last=True)
            if after is None:
                standing = self._polished(standing, on_step)
                reason = self._too_dear() if standing.refused else "nothing is left to remove"
                return self._decide(baseline, standing, reason)
            standing = after
            on_step(standing)

    def _allocator(self, rollbacks: int) -> Allocator:
        algorithm = self._config.algorithm
        return make_allocator(
            algorithm.allocation, saliency=algorithm.saliency,
            alpha=float(algorithm.alpha), beta=float(algorithm.beta), rollbacks=rollbacks,
        )  # fmt: skip

    def _exhausted(self, standing: Standing) -> str:
        if standing.step < LEAST_STEP:
            return self._too_dear()
        most = self._config.algorithm.max_iterations
        if standing.kept_steps >= most:
            return f"algorithm.maxIterations ({most}) is reached"
        history = self._history(standing)
        if not history.left:
            return f"the {history.most} fine-tunings that algorithm.maxIterations ({most}) allows are spent"
        return ""

    def _too_dear(self) -> str:
        return f"every smaller step costs more than {self._budget} allows"

    def _step(self, baseline: Baseline, standing: Standing, allocator: Allocator) -> Standing | None:
        number = len(standing.iterations) + 1
        share = f"{standing.energy_reduction_ratio:.0%} of {self._target_ratio:.0%} saved so far"
        self._journal.enter(Phase.PRUNING, f"Step {number}: choosing channels; {share}", self._ratio(standing))
        context = allocation_context(
            standing.model, self._blueprint.groups_at(standing.model, standing.kept), standing.cost_model,
            self._data, allocator,
            seed=self._config.algorithm.seed, multiple=self._multiple, min_width=MIN_WIDTH,
            dropped=frozenset(name for name, indices in standing.kept.items() if not indices),
            max_seconds=self._max_seconds, refused=standing.refused,
        )  # fmt: skip
        step = self._aim(standing)
        kept = self._processes.decide(allocator.propose(context, step))
        if not kept:
            return None
        widths = {**context.widths, **{name: len(indices) for name, indices in kept.items()}}
        # It holds what every layer read, a gigabyte of a large transformer, which fine-tuning has better use for.
        del context
        predicted = 1.0 - standing.cost_model.predict(widths) / baseline.figures.energy_joules

        def next_step(recovery: Recovery) -> float:
            after = self._history(standing).tried(recovery.spent).outlook()
            tried = standing.stride if recovery.kept and standing.stride is not None else standing.step
            return self._rule.next_step(tried, recovery.spent, after, kept=recovery.kept)

        def taken_back(recovery: Recovery) -> Standing:
            _log.info("step %d taken back: %s", number, recovery.excess)
            accuracy_ratio = recovery.quality.accuracy_ratio if recovery.quality else None
            iteration = Iteration(
                number, False, step, widths, accuracy_ratio, None, predicted, recovery.excess, recovery.spent
            )  # fmt: skip
            self._journal.add(iteration)
            learns = self._learns and recovery.teaches
            return dataclasses.replace(
                standing,
                iterations=(*standing.iterations, iteration), step=next_step(recovery),
                rollbacks=standing.rollbacks + 1, attempt=Attempt(candidate, kept) if learns else None,
            )  # fmt: skip

        try:
            source = standing.model
            if allocator.beyond_paper and self._brief:
                source = self._blueprint.refitted(source, standing.kept, kept, self._refit_inputs)
            candidate = self._blueprint.prune(source, standing.kept, kept)
            self._blueprint.check(source, candidate, standing.kept, kept, self._samples)
            if tried := standing.attempt:
                self._blueprint.teach(candidate, standing.model, standing.kept, kept, tried.model, tried.kept)
        except (SurgeryRefusedError, InvariantViolatedError) as error:
            return taken_back(Recovery(None, False, str(error), ()))
        recovery = self._recovered(
            candidate, baseline, standing, number, share,
            last=predicted >= self._target_ratio or standing.kept_steps + 1 >= self._config.algorithm.max_iterations,
        )  # fmt: skip
        quality = recovery.quality
        if quality is None or not recovery.kept:
            return taken_back(recovery)
        self._journal.enter(Phase.MEASURING, f"Step {number}: measuring energy; {share}")
        comparison = self._testbed.compare_quickly(candidate)
        reduction = comparison.energy_reduction_ratio
        cost_model = standing.cost_model
        if reduction < 1.0:
            seconds = average(comparison.pruned).latency_seconds / average(comparison.dense).latency_seconds
            cost_model = cost_model.calibrate(
                widths, baseline.figures.energy_joules * (1.0 - reduction), baseline.figures.latency_seconds * seconds
            )
            if abs(_error(predicted, reduction)) > OFF_RATIO:
                found = self._testbed.remeasure(cost_model, candidate, widths, dearest(cost_model, widths))
                cost_model = cost_model.with_points(widths, found)
        iteration = Iteration(number, True, step, widths, quality.accuracy_ratio, reduction, predicted,
                              recovery.excess, recovery.spent)  # fmt: skip
        self._journal.add(iteration)
        self._journal.pruned = self._figures(candidate, quality, average(comparison.pruned))
        return Standing(
            candidate, compose(standing.kept, kept), (*standing.iterations, iteration),
            next_step(recovery), standing.rollbacks, quality, reduction, cost_model,
            within=standing.last_within if recovery.excess else None,
        )  # fmt: skip

    def _settles(self, standing: Standing) -> bool:
        history = self._history(standing)
        return self._rule.settles(history.spent[-1], len(history.spent), history.outlook())

    def _settled(self, baseline: Baseline, standing: Standing, *, last: bool) -> Standing:
        """Return the loop after more fine-tuning of a model that is outside the budget.

        Args:
            baseline: Of the run.
            standing: With such a model. Where it does not come back, the loop goes on from the last one that is within
                the budget, and learns from this one.
            last: Whether no step follows, so that it has to come back within the budget.
        """
        assert standing.within is not None
        before, number, model = standing.within, len(standing.iterations) + 1, standing.model
        share = f"{standing.energy_reduction_ratio:.0%} of {self._target_ratio:.0%} saved so far"
        made = standing.made_by(baseline.cost_model.built_widths)
        recovery = Recovery(standing.quality, False, self._budget.excess(baseline.quality, standing.quality), ())
        if self._history(standing).left:
            model = copy.deepcopy(model)
            recovery = self._recovered(model, baseline, standing, number, share, last=last, further=True)
        quality = recovery.quality
        iteration = dataclasses.replace(
            made, number=number, accepted=recovery.kept, step=0.0, spent=recovery.spent,
            reason=recovery.excess,
            accuracy_ratio=quality.accuracy_ratio if quality else None,
            energy_reduction_ratio=standing.energy_reduction_ratio if recovery.kept else None,
        )  # fmt: skip
        self._journal.add(iteration)
        iterations = (*standing.iterations, iteration)
        if recovery.kept and quality:
            return dataclasses.replace(
                standing, model=model, iterations=iterations, quality=quality,
                step=settled_step(standing.step, recovery, self._history(standing).pace()),
                attempt=None, within=before if recovery.excess else None,
            )  # fmt: skip
        _log.info("step %d taken back: %s", number, recovery.excess)
        left = max(1.0 - before.energy_reduction_ratio, 1e-9)
        step = BETWEEN * (1.0 - (1.0 - standing.energy_reduction_ratio) / left) / math.sqrt(left)
        learns = self._learns and recovery.teaches
        return dataclasses.replace(
            standing, model=before.model, kept=before.kept, iterations=iterations, step=step, stride=standing.step,
            rollbacks=standing.rollbacks + 1, quality=before.quality,
            energy_reduction_ratio=before.energy_reduction_ratio,
            attempt=Attempt(model, restrict(standing.kept, before.kept)) if learns else None, within=None,
        )  # fmt: skip

    def _history(self, standing: Standing) -> History:
        return History.of(standing.iterations, self._config.algorithm.max_iterations)

    def _recovered(
        self, candidate: nn.Module, baseline: Baseline, standing: Standing, number: int, share: str, *, last: bool,
        further: bool = False,
    ) -> Recovery:  # fmt: skip
        """Fine-tune a candidate in place for as long as it is worth it, or the model of the standing further."""
        history = self._history(standing)
        return recover(
            lambda times: self._fine_tuned(candidate, number, history.done + times, times, share),
            baseline.quality, self._budget, self._rule, history, last=last, further=further,
        )  # fmt: skip

    def _fine_tuned(self, candidate: nn.Module, number: int, before: int, again: int, share: str) -> Quality:
        """Fine-tune a candidate in place and return its quality (lines 12 and 13).

        Args:
            candidate: Pruned.
            number: Of the step.
            before: Fine-tunings of the run so far; each has an order of samples of its own.
            again: Those of this step so far.
            share: How far the run is, for a person.
        """
        algorithm = self._config.algorithm
        times = f", {again + 1} times by now" if again else ""
        self._journal.enter(Phase.FINE_TUNING, f"Step {number}: fine-tuning{times}; {share}")
        fine_tune(
            candidate, self._data, algorithm.fine_tune,
            seed=algorithm.seed + 1 + before, teacher=self._teacher,
            processes=self._processes, on_epoch=lambda _epoch, _loss: self._journal.update(),
        )  # fmt: skip
        self._processes.follow(candidate)
        self._journal.enter(Phase.EVALUATING, f"Step {number}: evaluating; {share}")
        return self._evaluate(candidate)

    def _polished(self, standing: Standing, on_step: Callable[[Standing], None]) -> Standing:
        """Spend fineTune.finalEpochs on the model that the loop arrived at, once."""
        algorithm = self._config.algorithm
        if not standing.kept or standing.polished or not algorithm.fine_tune.final_epochs:
            return standing
        self._journal.enter(Phase.FINE_TUNING, f"Final fine-tuning of {algorithm.fine_tune.final_epochs} epochs", 0.8)
        model, quality = polish(
            standing.model, standing.quality, self._data, algorithm,
            teacher=self._teacher, processes=self._processes, evaluate=self._evaluate,
            on_epoch=lambda _epoch, _loss: self._journal.update(),
        )  # fmt: skip
        standing = dataclasses.replace(standing, model=model, quality=quality, polished=True)
        on_step(standing)
        return standing

    def _aim(self, standing: Standing) -> float:
        """Return the step, cut short where less than a whole one is missing."""
        left = max(1.0 - standing.energy_reduction_ratio, 1e-9)
        step = max(LEAST_STEP, standing.step * math.sqrt(min(left, 1.0)))
        if self._config.algorithm.allocation not in (Allocation.KNAPSACK, Allocation.PER_JOULE):
            return step
        missing = (self._target_ratio - standing.energy_reduction_ratio + OVERSHOOT) / left
        if self._max_seconds is not None:
            now = standing.cost_model.predict_seconds({name: len(kept) for name, kept in standing.kept.items()})
            too_slow = 1.0 - self._max_seconds / now
            missing = max(missing, too_slow + OVERSHOOT)
        return max(LEAST_STEP, min(step, missing))

    def _decide(self, baseline: Baseline, standing: Standing, reason: str) -> LoopResult:
        """Measure in full what the loop arrived at."""
        model = LoadedModel(
            standing.model, self._dense.architecture, self._dense.inputs, self._dense.classes,
            to_steps(standing.kept, self._blueprint.groups),
            task=self._dense.task,
        )  # fmt: skip
        if not standing.kept:
            dense = baseline.deployed or baseline.figures
            return LoopResult(model, False, reason, dense, dense, None, standing.iterations)
        measurement = self._config.measurement
        self._journal.enter(
            Phase.MEASURING,
            f"Comparing the dense and the pruned model in {measurement.pairs} interleaved pairs of windows",
            0.85,
        )
        comparison = self._testbed.compare_in_full(
            standing.model, lambda pair: self._journal.update(ratio=0.85 + 0.08 * pair / measurement.pairs)
        )
        dense = self._figures(self._testbed.deployed_dense, baseline.quality, average(comparison.dense))
        pruned = self._figures(standing.model, standing.quality, average(comparison.pruned))
        self._journal.dense, self._journal.pruned = dense, pruned
        self._journal.update(energy_reduction_ratio=comparison.energy_reduction_ratio)
        slow = self._too_slow(pruned)
        last = standing.made_by(baseline.cost_model.built_widths)
        again = self._testbed.remeasure(baseline.cost_model, standing.model, last.widths)
        met = comparison.energy_reduction_ratio >= self._target_ratio and comparison.proven and not slow
        result = LoopResult(
            model, met, "" if met else slow or reason, dense, pruned, comparison, standing.iterations,
            layer_error_ratio=median_error_ratio(baseline.cost_model, last.widths, again),
            model_error_ratio=abs(_error(last.predicted_reduction_ratio, comparison.energy_reduction_ratio)),
        )  # fmt: skip
        return self._completed(result) if met or reason else result

    def _completed(self, result: LoopResult) -> LoopResult:
        """Return the answer with what is measured of the last model alone: batch 1, and the meter itself."""
        self._journal.enter(Phase.MEASURING, "Comparing the two models at batch 1", 0.93)
        single = self._testbed.compare_at_batch_1(self._testbed.answer_of(result.model.module))
        return dataclasses.replace(result, single=single, meter_check=self._testbed.check_meter())

    def quantized(self, baseline: Baseline, result: LoopResult) -> LoopResult:
        """Try 8-bit linear layers on what the loop arrived at, and keep them if they pay (algorithm.quantization Int8).

        Raises:
            QuantizationUnavailableError: If torchao is missing.
        """
        testbed = self._testbed
        self._journal.enter(Phase.MEASURING, "Trying 8-bit linear layers", 0.93)
        found = try_int8(
            self._testbed.deployed_dense,
            None if result.comparison is None else folded(result.model.module, self._samples),
            Instruments(
                prepare=testbed.prepared,
                compare=lambda plain, integers: testbed.compare_answers(
                    plain, integers, pairs=QUICK_PAIRS, window_seconds=testbed.quick_seconds, min_ticks=FEW_TICKS
                ),
                read=testbed.read_in_turn,
                evaluate=lambda answer: self._evaluate(answering(answer)),
                excess=lambda quality: self._budget.excess(baseline.quality, quality),
                device=testbed.device,
            ),
        )
        if not found.kept:
            return dataclasses.replace(result, quantization=found)
        assert found.best is not None
        assert found.both is not None
        assert found.module is not None
        both = found.both.comparison
        dense = self._figures(self._testbed.deployed_dense, baseline.quality, average(both.dense))
        figures = self._figures(found.module, found.both.quality, average(both.pruned))
        slow = self._too_slow(figures)
        met = (result.met or both.energy_reduction_ratio >= self._target_ratio) and not slow
        self._journal.dense, self._journal.pruned = dense, figures
        self._journal.update(energy_reduction_ratio=both.energy_reduction_ratio)
        return LoopResult(
            dataclasses.replace(result.model, module=found.module, quantization=found.best.how),
            met, "" if met else slow or result.reason, dense, figures, both, result.iterations,
            meter_check=result.meter_check,
            single=testbed.compare_at_batch_1(testbed.prepared(found.module)),
            quantization=found,
        )  # fmt: skip

    def _too_slow(self, pruned: ModelFigures) -> str:
        if self._max_seconds is None or pruned.latency_seconds <= self._max_seconds:
            return ""
        return (
            f"a batch takes {pruned.latency_seconds * 1000:.3g} ms, objective.maxLatencyMilliseconds allows "
            f"{self._config.objective.max_latency_milliseconds}"
        )

    def _evaluate(self, model: nn.Module) -> Quality:
        return self._processes.decide(evaluate(model, self._data.evaluation, self._data.task))

    def _figures(self, model: nn.Module, quality: Quality, reading: Reading) -> ModelFigures:
        return figures_of(model, quality, reading, perplexity=self._data.task.perplexity)

    def _ratio(self, standing: Standing) -> float:
        """Return how far the run is: towards the target or towards the last fine-tuning, whichever is nearer."""
        history = self._history(standing)
        spent = history.done / history.most
        return 0.12 + 0.73 * min(1.0, max(spent, standing.energy_reduction_ratio / self._target_ratio, 0.0))


def brief(settings: FineTune, data: Splits) -> bool:
    """Return whether a fine-tuning has fewer than `BRIEF_UPDATES`."""
    return settings.epochs * -(-len(data.train) // settings.batch_size) < BRIEF_UPDATES


def _error(predicted_reduction_ratio: float, energy_reduction_ratio: float) -> float:
    """Return how much more a prediction said than what was measured, as a share of what was measured."""
    return (1.0 - predicted_reduction_ratio) / max(1.0 - energy_reduction_ratio, 1e-9) - 1.0


def figures_of(model: nn.Module, quality: Quality, reading: Reading, *, perplexity: bool = False) -> ModelFigures:
    """Return the figures of one model as it would be deployed."""
    return ModelFigures(
        accuracy_ratio=quality.accuracy_ratio,
        perplexity=quality.perplexity if perplexity else None,
        energy_joules=reading.energy_joules,
        power_watts=reading.power_watts,
        latency_seconds=reading.latency_seconds,
        memory_bytes=memory_bytes(model),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
