"""The dense model as it would be deployed, and how others are measured against it.

The loop decides; this module only answers what something costs: in which runtime, on which batch, by which meter, with
one thread, and with one answer for all processes of a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from coppice_api.prunejob import RuntimeKind
from coppice_api.run import RunConfig
from coppice_pruner.deployment import EAGER, Answer, Runtime, folded, runtime_of
from coppice_pruner.measurement import (
    FEW_TICKS,
    MIN_TICKS,
    Comparison,
    MeterCheck,
    Reading,
    answer_workload,
    average,
    compare,
    cross_check,
    idle_power_watts,
    interleaved,
    many_short,
    model_workload,
    one_thread,
    take_reading,
)
from coppice_pruner.measurement.workload import synchronize_of
from coppice_pruner.meters import Meter
from coppice_pruner.profiling import CostModel, keep_freed_memory, remeasure
from coppice_pruner.training import Processes

QUICK_PAIRS = 3
QUICK_SHARE = 0.4
"""A quick measurement takes as long as so many pairs of such a share of a window; the full one decides at the end."""
SINGLE_PAIRS = 5
"""Pairs of windows of that share at batch 1, beside the full comparison: enough for an interval."""


class Testbed:
    """Measures models against one dense model.

    Args:
        dense: In eval mode, on the device; not changed.
        samples: A few samples, shapes (N, ...), for folding and preparing.
        batch: What is inferred while the meter counts, shapes (measurement.batchSize, ...).
        meter: Counts joules of the device.
        config: Measurement settings and the seed.
        device: Where models run.
        processes: Of the run: rank 0 measures for all.
        on_wait: Called now and then in long measurements; may raise to end them.
    """

    __test__ = False  # not a test, whatever its name says to pytest

    def __init__(
        self, dense: nn.Module, samples: tuple[Tensor, ...], batch: tuple[Tensor, ...], meter: Meter,
        config: RunConfig, device: torch.device, processes: Processes, on_wait: Callable[[], None],
    ) -> None:  # fmt: skip
        self._dense, self._samples, self.batch, self.meter = dense, samples, batch, meter
        self._measurement, self._seed = config.measurement, config.algorithm.seed
        self.device, self._processes, self._on_wait = device, processes, on_wait
        self.deployed_dense = folded(dense, samples)
        self.runtime = runtime_of(config.measurement.runtime, device)
        self.steering = self.runtime if self.runtime.steers else EAGER
        """What candidates are compared in after a step."""
        self._dense_answers: dict[RuntimeKind, Answer] = {}
        self._last: tuple[nn.Module, RuntimeKind, Answer] | None = None
        # CPU seconds leave out what others do to the machine.
        self.clock = time.perf_counter if device.type == "cuda" else time.process_time
        self.quick_seconds = self._measurement.window_seconds * QUICK_SHARE
        self.idle_watts: float | None = None
        """Known after `measure_idle`, where the meter knows it."""
        keep_freed_memory()

    def measure_idle(self) -> None:
        """Find out what the device draws with the dense model loaded and no work."""
        self.idle_watts = self._processes.decide(
            idle_power_watts(self.meter, window_seconds=self._measurement.window_seconds)
        )

    def read_dense(self) -> tuple[Reading, Reading]:
        """Return the dense model folded, and as it came, in PyTorch."""
        with one_thread():
            folded_reading = take_reading(
                model_workload(self.deployed_dense, self.batch), self.meter,
                window_seconds=self._measurement.window_seconds,
            )  # fmt: skip
            plain = take_reading(
                model_workload(self._dense, self.batch), self.meter, window_seconds=self.quick_seconds
            )  # fmt: skip
        return self._processes.decide((folded_reading, plain))

    def read_dense_in_runtime(self) -> tuple[float, Reading] | None:
        """Return what the runtime saves of the dense model's energy, and the dense model in it; None for Eager."""
        if self.runtime.kind is RuntimeKind.EAGER:
            return None
        comparison = self.compare_answers(
            self.prepared(self.deployed_dense, EAGER), self.prepared(self.deployed_dense), pairs=QUICK_PAIRS,
            window_seconds=self.quick_seconds, min_ticks=FEW_TICKS,
        )  # fmt: skip
        return comparison.energy_reduction_ratio, average(comparison.pruned)

    def compare_quickly(self, candidate: nn.Module) -> Comparison:
        """Return the dense model against a candidate, well enough to steer by."""
        pairs, window_seconds = many_short(self.meter, pairs=QUICK_PAIRS, window_seconds=self.quick_seconds)
        return self._compare(
            candidate, self.steering, pairs=pairs, window_seconds=window_seconds, min_ticks=FEW_TICKS
        )  # fmt: skip

    def compare_in_full(self, candidate: nn.Module, on_pair: Callable[[int], None]) -> Comparison:
        """Return the dense model against a candidate, well enough to claim."""
        return self._compare(
            candidate, self.runtime, pairs=self._measurement.pairs, window_seconds=self._measurement.window_seconds,
            on_pair=on_pair,
        )  # fmt: skip

    def compare_at_batch_1(self, candidate: Answer) -> Comparison | None:
        """Return the dense model against a prepared one as a service that does not batch runs them.

        None if `compare_in_full` is at batch 1 itself.
        """
        if self._measurement.batch_size == 1:
            return None
        return self.compare_answers(
            self.prepared(self.deployed_dense), candidate, pairs=SINGLE_PAIRS,
            window_seconds=self.quick_seconds, min_ticks=FEW_TICKS, batch=tuple(part[:1] for part in self.batch),
        )  # fmt: skip

    def compare_answers(
        self, dense: Answer, candidate: Answer, *, pairs: int, window_seconds: float, min_ticks: int = MIN_TICKS,
        on_pair: Callable[[int], None] = lambda _pair: None, batch: tuple[Tensor, ...] | None = None,
    ) -> Comparison:  # fmt: skip
        """Return the comparison of two prepared models; as `measurement.compare`."""
        batch = self.batch if batch is None else batch
        with one_thread():
            return self._processes.decide(
                compare(
                    answer_workload(dense, batch), answer_workload(candidate, batch), self.meter,
                    pairs=pairs, window_seconds=window_seconds, min_ticks=min_ticks, seed=self._seed,
                    on_pair=on_pair,
                )
            )  # fmt: skip

    def read_in_turn(self, answers: Sequence[Answer]) -> Sequence[Sequence[Reading]]:
        """Return full readings of several prepared models, taken in turn."""
        with one_thread():
            return self._processes.decide(
                interleaved(
                    [answer_workload(answer, self.batch) for answer in answers], self.meter,
                    rounds=self._measurement.pairs, window_seconds=self._measurement.window_seconds,
                    on_round=lambda _number: self._on_wait(),
                )
            )  # fmt: skip

    def remeasure(
        self, cost_model: CostModel, candidate: nn.Module, widths: dict[str, int], layers: tuple[str, ...] | None = None
    ) -> dict[str, float]:
        """Return what layers of a candidate cost alone, on the scale of the cost model's tables."""
        with one_thread():
            return self._processes.decide(
                remeasure(
                    cost_model, self.deployed_dense, folded(candidate, self._samples), self.batch, widths,
                    layers=layers, synchronize=synchronize_of(self.device),
                    # What is compared is a ratio: of joules where the counter moves continuously, of seconds elsewhere.
                    clock=time.perf_counter if self.meter.update_period_seconds else self.meter.read_joules,
                )
            )  # fmt: skip

    def check_meter(self) -> MeterCheck | None:
        """Return the meter against a second one over a window of the dense model; None if there is none."""
        with one_thread():
            return self._processes.decide(
                cross_check(
                    model_workload(self.deployed_dense, self.batch), self.meter,
                    window_seconds=self.quick_seconds, idle_watts=self.idle_watts,
                )
            )  # fmt: skip

    def prepared(self, deployed: nn.Module, runtime: Runtime | None = None) -> Answer:
        """Return a folded model in a runtime; the dense one is prepared once, since compiling outlasts measuring."""
        runtime = runtime or self.runtime
        if deployed is not self.deployed_dense:
            return runtime.prepare(deployed, self._samples)
        if runtime.kind not in self._dense_answers:
            self._dense_answers[runtime.kind] = runtime.prepare(deployed, self._samples)
        return self._dense_answers[runtime.kind]

    def answer_of(self, candidate: nn.Module, runtime: Runtime | None = None) -> Answer:
        """Return a candidate folded and prepared; the last one is kept, since it is measured in several ways."""
        runtime = runtime or self.runtime
        if self._last is None or self._last[0] is not candidate or self._last[1] is not runtime.kind:
            self._last = (candidate, runtime.kind, self.prepared(folded(candidate, self._samples), runtime))
        return self._last[2]

    def _compare(
        self, candidate: nn.Module, runtime: Runtime, *, pairs: int, window_seconds: float, min_ticks: int = MIN_TICKS,
        on_pair: Callable[[int], None] = lambda _pair: None,
    ) -> Comparison:  # fmt: skip
        return self.compare_answers(
            self.prepared(self.deployed_dense, runtime), self.answer_of(candidate, runtime),
            pairs=pairs, window_seconds=window_seconds, min_ticks=min_ticks, on_pair=on_pair,
        )  # fmt: skip
