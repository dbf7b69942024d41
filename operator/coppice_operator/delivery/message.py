"""The commit message: what changes and the numbers that speak for it."""

from __future__ import annotations

from collections.abc import Sequence

from coppice_api.modelrollout import Claim, RolloutModel

SHOWN_TARGETS = 20
MAX_LINE_LENGTH = 400


def forward_message(
    *, rollout: str, wave: int, waves: int, models: Sequence[RolloutModel], targets: Sequence[str]
) -> str:
    """Return subject and body of a wave's commit.

    Args:
        rollout: `namespace/name`.
        wave: Counted from 1.
        waves: How many there are.
        models: What the targets take.
        targets: Names of all targets that have the model with this commit.
    """
    lines = [_line(f"Roll {rollout} out: wave {wave} of {waves}"), ""]
    for model in models:
        lines += [_line(f"Model {model.name}: {model.uri}"), f"Digest: sha256:{model.sha256}"]
        lines += _claim(model.claim)
    return "\n".join([*lines, "", _line(_targets(targets))])


def back_message(*, rollout: str, reason: str, targets: Sequence[str]) -> str:
    """Return subject and body of the commit that takes targets back.

    Args:
        rollout: `namespace/name`.
        reason: Why, as the rollout's status has it.
        targets: Names of the targets taken back.
    """
    return "\n".join([_line(f"Take {rollout} back"), "", _line(reason), "", _line(_targets(targets))])


def _claim(claim: Claim | None) -> list[str]:
    if claim is None:
        return ["Nothing is claimed of it."]
    lines = []
    if claim.energy_reduction_percent is not None:
        interval = ""
        if claim.energy_reduction_low_percent is not None and claim.energy_reduction_high_percent is not None:
            interval = f" (95 % interval {claim.energy_reduction_low_percent} to {claim.energy_reduction_high_percent})"
        lines.append(
            f"Energy per inference: {claim.energy_reduction_percent} % less{interval}, {claim.provenance.lower()}"
        )
    else:
        lines.append(f"Energy per inference: no figure, {claim.provenance.lower()}")
    if claim.accuracy_percent is not None:
        dense = f" (dense model: {claim.dense_accuracy_percent} %)" if claim.dense_accuracy_percent is not None else ""
        lines.append(f"Accuracy: {claim.accuracy_percent} %{dense}")
    return lines


def _targets(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_TARGETS} more" if len(names) > SHOWN_TARGETS else ""
    return f"Targets: {', '.join(names[:SHOWN_TARGETS])}{more}"


def _line(text: str) -> str:
    # One line stays one line: what comes from a spec or a check must not be able to write a trailer.
    return " ".join(text.split())[:MAX_LINE_LENGTH]
