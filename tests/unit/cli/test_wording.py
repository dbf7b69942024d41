"""How PruneJobs read in a terminal: raw JSON in, words out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from coppice_cli import prunejob_view, rollout_view, wording
from coppice_cli.prunejob_view import Surroundings
from tests.builders import DIGEST, model_rollout, prune_job

Json = dict[str, Any]
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNNING: Json = {
    "hardware": "a100", "jobName": "digits-a100-0a1b2c3d", "state": "Running", "phase": "FineTuning", "iteration": 3,
    "progressPercent": 45, "estimatedCompletionTime": "2026-01-02T05:09:05Z", "denseAccuracyPercent": "99.63",
    "accuracyPercent": "99.44", "energyReductionPercent": "31.05", "provenance": "Measured", "message": "Step 4",
}  # fmt: skip
MET: Json = {
    **RUNNING, "state": "TargetMet", "phase": None, "progressPercent": 100, "energyReductionPercent": "65.43",
    "energyReductionLowPercent": "63.00", "energyReductionHighPercent": "67.00", "provenance": "Estimated",
    "latencySpeedup": "2.70", "artifact": {"uri": "pvc://fleet-models/runs/m", "sha256": DIGEST},
    "message": "65 % less",
}  # fmt: skip


def stored(
    *variants: Json, reason: str = "Running", message: str = "Step 4 [of 20]", holds: str = "Reconciling",
    seen: int = 1, **values: Any,
) -> Json:  # fmt: skip
    document = prune_job(**values)
    document["metadata"] = {"name": "digits", "namespace": "fleet", "uid": "u", "generation": 1}
    since = "2026-01-02T03:00:05Z"
    document["status"] = {
        "observedGeneration": seen, "state": reason, "variants": list(variants),
        "conditions": [
            {"type": kind, "status": str(kind == holds), "reason": reason, "message": message,
             "lastTransitionTime": since} for kind in ("Ready", "Reconciling", "Stalled")
        ],
    }  # fmt: skip
    return document


def shown(renderable: Any) -> str:
    console = Console(width=400, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(text.rstrip() for text in capture.get().splitlines())


def test_a_line_says_what_was_reached_and_how_that_is_known() -> None:
    head, row = shown(prunejob_view.overview([stored(RUNNING)], NOW, width=400)).splitlines()
    assert head.split() == ["NAME", "TARGET", "REACHED", "ACCURACY", "PROGRESS", "ETA", "STATE", "MESSAGE"]
    for words in ("digits", "60 %", "31.1 % measured", "99.44 % (-0.19)", "████░░░░░░ 45 %", "in 2 h 5 min", "Running"):
        assert f"{words}  " in row
    assert row.endswith("Step 4 [of 20]")


def test_several_classes_have_a_line_each_under_their_prunejob() -> None:
    document = stored(MET, {"hardware": "h100", "state": "Pending", "message": "waiting for its pod"})
    _, head, first, second = shown(prunejob_view.overview([document], NOW, width=400, namespaces=True)).splitlines()
    assert head.split()[:2] == ["fleet", "digits"]
    assert "└ a100" in first
    assert "65.4 % estimated" in first
    assert "└ h100" in second
    assert second.endswith("waiting for its pod")


def test_a_sentence_that_does_not_fit_has_a_line_of_its_own() -> None:
    sentence = "no node has the label nvidia.com/gpu.product=A100: 2 nodes were looked at"
    _, row, below = shown(prunejob_view.overview([stored(message=sentence)], NOW, width=80)).splitlines()
    assert row.split() == ["digits", "60", "%", "Running"]
    assert below == f"    {sentence}"


def test_a_column_that_nobody_fills_is_left_out() -> None:
    head, _ = shown(prunejob_view.overview([stored()], NOW, width=400)).splitlines()
    assert head.split() == ["NAME", "TARGET", "STATE", "MESSAGE"]


def test_everything_about_one_is_there() -> None:
    document = stored(MET, reason="TargetMet", holds="Ready", message="65 % less")
    document["status"]["rollout"] = {"name": "digits-aaaa", "state": "RollingOut", "message": "wave 1 of 2"}
    around = Surroundings(
        jobs=[{"metadata": {"name": "digits-a100-0a1b2c3d", "creationTimestamp": "2026-01-01T03:04:05Z"},
               "status": {"conditions": [{"type": "Complete", "status": "True"}]}}],
        pods=[{"metadata": {"name": "digits-a100-0a1b2c3d-x", "creationTimestamp": "2026-01-01T03:04:05Z"},
               "spec": {"nodeName": "gpu-7"}, "status": {"phase": "Succeeded"}}],
        events=[{"metadata": {}, "lastTimestamp": "2026-01-02T03:03:05Z", "type": "Normal", "reason": "JobCreated",
                 "message": "a100: created Job", "count": 2}],
        rollout={"status": {"wave": 1, "waves": 2, "updatedTargets": 1, "totalTargets": 4}},
    )  # fmt: skip
    text = shown(prunejob_view.detail(document, around, NOW))
    for words in (
        "digits in namespace fleet", "60 % less energy per inference, at most 0.5 points", "pvc://fleet-models/digits/dense",
        "65.4 % [95 %: 63.0 to 67.0] estimated", "2.70 x", DIGEST, "Ready        True", "4 min",
        "Complete", "gpu-7", "1 of 2", "1 of 4", "wave 1 of 2", "JobCreated  a100: created Job",
    ):  # fmt: skip
        assert words in text


def test_a_status_of_an_older_spec_is_neither_ready_nor_stalled() -> None:
    for kind in ("Ready", "Stalled"):
        stands = wording.standing(stored(MET, reason="TargetMet", holds=kind, seen=0))
        assert not stands.ended
        assert not stands.current
        assert wording.standing(stored(MET, reason="TargetMet", holds=kind)).ended
    assert "TargetMet (of an older spec)" in shown(
        prunejob_view.overview([stored(MET, reason="TargetMet", seen=0)], NOW, width=400)
    )


def test_what_the_operator_has_not_seen_is_said() -> None:
    document = stored()
    del document["status"]
    assert not wording.standing(document).ended
    assert "Unseen  the operator has not seen it yet" in shown(prunejob_view.overview([document], NOW, width=400))
    assert "the operator has not seen it yet" in shown(prunejob_view.detail(document, Surroundings(), NOW))


def test_a_rollout_says_which_cluster_is_away_and_which_targets_are_there() -> None:
    document = model_rollout()
    document["metadata"] = {"name": "digits", "namespace": "fleet"}
    away = "cluster berlin: its API server cannot be reached"
    document["status"] = {
        "clusters": [{"name": "berlin", "reachable": False, "message": away, "changedTime": "2026-01-02T03:02:05Z"},
                     {"name": "rome", "reachable": True, "changedTime": "2026-01-02T01:04:05Z"}],
        "targets": [{"name": "a", "cluster": "berlin", "state": "Pending", "wave": 1, "message": away}],
    }  # fmt: skip
    text = shown(rollout_view.detail(document, NOW))
    for words in (f"berlin away for 2 min: {away}", "rome reachable for 2 h", "a in berlin  Pending"):
        assert words in text


def test_a_log_line_repeats_nothing_but_says_when_it_ends() -> None:
    document = stored(RUNNING)
    assert prunejob_view.line(document, NOW) == (
        "Running  45 %, iteration 3, energy saved 31.1 % measured, accuracy 99.44 % (-0.19), ends in 2 h 5 min  "
        "Step 4 [of 20]"
    )
    assert "ends" not in prunejob_view.line(document)


@pytest.mark.parametrize(
    ("span", "want"),
    [
        (timedelta(seconds=42), "42 s"),
        (timedelta(minutes=12, seconds=59), "12 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(days=3, hours=4, minutes=5), "3 d 4 h"),
        (timedelta(days=3), "3 d"),
    ],
)
def test_durations_read_as_people_say_them(span: timedelta, want: str) -> None:
    assert wording.duration(span) == want


@pytest.mark.parametrize(
    ("stamp", "want"),
    [("2026-01-02T03:00:00Z", "any moment"), ("2026-01-02T03:16:05Z", "in 12 min"), ("soon", ""), (None, "")],
)
def test_an_end_that_has_passed_or_cannot_be_read_is_no_time(stamp: str | None, want: str) -> None:
    assert wording.eta({**RUNNING, "estimatedCompletionTime": stamp}, NOW) == want


def test_a_run_that_has_ended_expects_no_end() -> None:
    assert wording.eta(MET, NOW) == ""
