"""Several hardware classes in one sentence: the loudest in its own words, the others by where they stand."""

from __future__ import annotations

from collections.abc import Sequence

from coppice_api.prunejob import VariantState
from coppice_operator.prunejob.decision import MAX_MESSAGE_LENGTH, Decision


def held(decisions: Sequence[Decision]) -> list[Decision]:
    """Return the classes that have ended without meeting the target."""
    return [item for item in decisions if item.status.state in (VariantState.FAILED, VariantState.TARGET_NOT_MET)]


def standing(loudest: Decision, decisions: Sequence[Decision]) -> str:
    """Return what the conditions say of all classes.

    Args:
        loudest: Said in its own words.
        decisions: Of every class.
    """
    text = loudest.status.message or ""
    others = [item for item in decisions if item is not loudest]
    if not others:
        return text
    rest = "; ".join(f"{item.status.hardware}: {_short(item)}" for item in others)
    # The others are short; what is cut is the long sentence.
    own = f"{loudest.status.hardware}: {text}"
    return f"{own[: MAX_MESSAGE_LENGTH - len(rest) - 2]}; {rest}"


def _short(decision: Decision) -> str:
    status = decision.status
    if status.state is VariantState.TARGET_MET:
        return f"TargetMet, {status.energy_reduction_percent} % less energy; its result stands"
    if status.state.finished:
        return str(decision.reason)
    return f"{decision.reason}, {status.progress_percent} %" if status.progress_percent else str(decision.reason)
