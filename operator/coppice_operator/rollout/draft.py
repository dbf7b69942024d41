"""The working state of one pass: the stored status, parsed, to be changed and turned into a Plan.

The steps (`progress`, `rollback`, ...) change a Draft and give a Verdict; `to_plan` makes the status of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from coppice_api.base import Condition as ApiCondition
from coppice_api.base import ConditionStatus
from coppice_api.constants import ANNOTATION_RECORD, API_VERSION, ConditionType, Reason
from coppice_api.modelrollout import (
    CheckStatus,
    CheckSummary,
    ClusterStatus,
    GitStatus,
    ModelRollout,
    ModelRolloutSpec,
    ModelRolloutStatus,
    Revision,
    RolloutModel,
    TargetKey,
    TargetState,
    TargetStatus,
)
from coppice_operator.conditions import Condition, conditions, instant, timestamp
from coppice_operator.plan import Action, Event, EventType, JsonObject, PatchObject, Plan
from coppice_operator.reading import read
from coppice_operator.rollout.claims import FINISHED
from coppice_operator.rollout.clock import anew, told_anew
from coppice_operator.rollout.kinds import KINDS, Where, Workload, by_key
from coppice_operator.rollout.kinds.pod_template import DEFAULT_ENV
from coppice_operator.rollout.observation import RolloutObservation
from coppice_operator.rollout.reach import down_of
from coppice_operator.rollout.record import Record, fitted, written
from coppice_operator.rollout.record import read as read_record
from coppice_operator.rollout.selection import Chosen, chooses, select
from coppice_operator.rollout.summaries import summaries

SOON_SECONDS = 0.1
"""There is more to do as soon as this status is stored."""
RETRY_SECONDS = 30.0
"""Look again at something that should also announce itself through a watch."""
MAX_MESSAGE_LENGTH = 1024
MAX_CHECK_ENTRIES = 512
"""status.checks holds no more."""

IN_TRANSITION = frozenset({TargetState.UPDATING, TargetState.ROLLING_BACK})


@dataclass(frozen=True)
class Verdict:
    """How the rollout stands at the end of a pass."""

    reason: Reason
    message: str
    ready: bool = False
    reconciling: bool = False
    stalled: bool = False
    event: EventType | None = None
    """Announce the reason when it is new."""
    requeue_after_seconds: float | None = None


@dataclass
class Draft:
    """What this pass knows and wants."""

    rollout: ModelRollout
    stored: ModelRolloutStatus
    observation: RolloutObservation
    now: datetime
    workloads: dict[TargetKey, Workload]
    targets: list[TargetStatus]
    checks: dict[tuple[str, TargetKey], CheckStatus]
    """By (check, target)."""
    wave: int
    waves: int
    wave_available_time: str | None
    failure_reason: str | None
    failure_message: str | None
    git: GitStatus | None = None
    down: dict[str | None, str] = field(default_factory=dict)
    """Other clusters with which nothing can be done now, and why; their workloads are left out of `workloads`."""
    clusters: list[ClusterStatus] = field(default_factory=list)
    history: list[Revision] = field(default_factory=list)
    record: Record | None = None
    """What is remembered beside the status, as it was observed."""
    held: dict[TargetKey, str | None] = field(default_factory=dict)
    """What is to be remembered of targets there."""
    deadlines_rest: bool = False
    """Whether what is waited for is a person, so that deadlines of targets do not run."""
    actions: list[Action] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    wake_ups: list[float] = field(default_factory=list)
    """Seconds after which something is due."""

    def restart_deadlines(self) -> None:
        """Count the deadlines of targets in transition from now: what went before is not theirs to answer for."""
        self.change_targets(
            lambda target: (
                target.model_copy(update={"updated_time": stamp(self)}) if target.state in IN_TRANSITION else target
            )
        )

    @classmethod
    def of(cls, observation: RolloutObservation, now: datetime) -> Draft:
        """Parse the observation.

        Raises:
            pydantic.ValidationError: If the rollout is none that the CRD would let in.
        """
        rollout = read(ModelRollout, observation.rollout)
        stored = rollout.status or ModelRolloutStatus()
        if stored.state not in FINISHED:
            stored = anew(stored, now, observation.clock_set_at)
        down = down_of(_named_clusters(rollout.spec, stored), observation.clusters)

        def told(body: JsonObject) -> JsonObject:
            return told_anew(body, now, observation.clock_set_at)

        workloads = by_key(observation.workloads, told)
        for name, view in observation.clusters.items():
            if name not in down:
                workloads |= by_key(view.workloads, told, name)
        return cls(
            rollout=rollout,
            stored=stored,
            observation=observation,
            now=now,
            workloads=workloads,
            targets=list(stored.targets),
            checks={(entry.name, entry.target_key): entry for entry in stored.checks},
            wave=stored.wave,
            waves=stored.waves,
            wave_available_time=stored.wave_available_time,
            failure_reason=stored.failure_reason,
            failure_message=stored.failure_message,
            git=stored.git,
            down=down,
            clusters=list(stored.clusters),
            history=list(stored.history),
            record=(record := read_record(rollout.metadata)),
            held={
                **(record.held if record else {}),
                **{
                    target.key: target.previous_value
                    for target in stored.targets
                    if target.previous_value_set is not None
                },
            },
        )

    @property
    def spec(self) -> ModelRolloutSpec:
        """The rollout's spec."""
        return self.rollout.spec

    @property
    def named_clusters(self) -> list[str]:
        """Other clusters that the spec or the status names, in order."""
        return _named_clusters(self.spec, self.stored)

    @property
    def namespace(self) -> str:
        """The namespace of the rollout and of its targets."""
        return str(self.rollout.metadata["namespace"])

    @property
    def in_transition(self) -> int:
        """How many targets are between two models now."""
        return sum(target.state in IN_TRANSITION for target in self.targets)

    def chosen(self) -> tuple[Chosen, ...]:
        """Return what spec.targets choose now.

        Raises:
            SelectionError: If that is in doubt.
        """
        return select(self.spec.targets, self.spec.models, self.workloads, self.down, self.observation.missing_kinds)

    def model_of(self, target: TargetStatus) -> RolloutModel:
        """Return the model a frozen target takes."""
        return next((model for model in self.spec.models if model.name == target.model), self.spec.models[0])

    def reference_of(self, target: TargetStatus) -> str:
        """Return what a frozen target holds with its model."""
        return KINDS[target.kind].reference(self.model_of(target))

    def where_of(self, target: TargetStatus) -> Where:
        """Return the field of a frozen target: that of the entry of spec.targets that chooses it.

        When labels or spec.targets were edited after the first wave began, the first entry stands in.
        """
        if target.container is None:
            return Where()
        workload = self.workloads.get(target.key)
        chosen = (entry for entry in self.spec.targets if workload is not None and chooses(entry, target.key, workload))
        return Where(target.container, next(chosen, self.spec.targets[0]).inject.env or DEFAULT_ENV)

    def change_targets(self, change: Callable[[TargetStatus], TargetStatus]) -> None:
        """Replace every target by what `change` makes of it."""
        self.targets = [change(target) for target in self.targets]

    def announce(self, kind: EventType, reason: str, message: str) -> None:
        """Add an Event."""
        self.events.append(Event(kind, str(reason), message[:MAX_MESSAGE_LENGTH]))

    def wake_after(self, seconds: float) -> None:
        """Look again after this long."""
        self.wake_ups.append(max(SOON_SECONDS, seconds))

    def wake_at(self, moment: datetime) -> None:
        """Look again at this moment."""
        self.wake_after((moment - self.now) / timedelta(seconds=1))

    def since(self, stamp: str | None) -> timedelta:
        """Return how long ago a stored timestamp was; zero where there is none."""
        moment = instant(stamp)
        return self.now - moment if moment else timedelta(0)

    def to_plan(self, verdict: Verdict) -> Plan:
        """Turn the draft into a Plan with the whole status."""
        if verdict.event is not None and self.stored.state != verdict.reason:
            self.announce(verdict.event, verdict.reason, verdict.message)
        generation = int(self.rollout.metadata.get("generation", 0))
        status = ModelRolloutStatus(
            observed_generation=generation,
            conditions=self._conditions(verdict, generation),
            state=str(verdict.reason),
            wave=self.wave,
            waves=self.waves,
            wave_available_time=self.wave_available_time,
            updated_targets=sum(target.state is TargetState.UPDATED for target in self.targets),
            total_targets=len(self.targets),
            failure_reason=self.failure_reason,
            failure_message=self.failure_message,
            targets=self.targets,
            clusters=self.clusters,
            checks=[self.checks[key] for key in sorted(self.checks, key=lambda key: (key[1], key[0]))],
            check_summaries=self._summaries(),
            git=self.git,
            history=self.history,
        )
        self._remember(verdict)
        wake_ups = [*self.wake_ups, *([verdict.requeue_after_seconds] if verdict.requeue_after_seconds else [])]
        return Plan(
            status=status.to_dict(),
            actions=tuple(self.actions),
            events=tuple(self.events),
            requeue_after_seconds=min(wake_ups, default=None),
        )

    def _remember(self, verdict: Verdict) -> None:
        """Write the record anew where it is not what it should be."""
        over = verdict.reason in FINISHED
        if self.wave == 0 or (over and self.record is None and self.stored.state in FINISHED):
            # Nothing was touched; or it had ended before records were kept.
            return
        wanted = fitted(
            Record(
                held=self.held,
                wave=self.wave,
                failure_reason=self.failure_reason,
                failure_message=self.failure_message,
                state=str(verdict.reason) if over else None,
                message=verdict.message if over else None,
            ),
            self.rollout.metadata,
        )
        if wanted is not None and wanted != self.record:
            metadata = self.rollout.metadata
            patch = {"metadata": {"annotations": {ANNOTATION_RECORD: written(wanted, metadata)}}}
            # Before any write to a target of the same pass.
            self.actions.insert(0, PatchObject(API_VERSION, ModelRollout.KIND, self.namespace, metadata["name"], patch))

    def _summaries(self) -> list[CheckSummary]:
        # After the end nothing is judged any more, and the spec may be edited.
        if self.stored.state in FINISHED:
            return self.stored.check_summaries
        return summaries(self.spec.analysis.checks, self.checks.values()) if self.spec.analysis else []

    def _conditions(self, verdict: Verdict, generation: int) -> list[ApiCondition]:
        def condition(kind: ConditionType, holds: bool) -> Condition:
            status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
            return Condition(kind, status, verdict.reason, verdict.message, generation)

        wanted = (
            condition(ConditionType.READY, verdict.ready),
            condition(ConditionType.RECONCILING, verdict.reconciling),
            condition(ConditionType.STALLED, verdict.stalled),
        )
        previous = [entry.to_dict() for entry in self.stored.conditions]
        return [ApiCondition.model_validate(entry) for entry in conditions(previous, wanted, self.now)]


def _named_clusters(spec: ModelRolloutSpec, stored: ModelRolloutStatus) -> list[str]:
    wanted, frozen = ({target.cluster for target in spec.targets}, {target.cluster for target in stored.targets})
    return sorted(name for name in wanted | frozen if name)


def stamp(draft: Draft) -> str:
    """Return this pass's time as the status writes it."""
    return timestamp(draft.now)
