"""How a PruneJob's figures read: raw JSON in, words out. Pure; the tables are in prunejob_view.py."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

JsonObject = dict[str, Any]
FINISHED = ("TargetMet", "TargetNotMet", "Failed")
"""States of a variant whose run has ended."""
_BAR = 10
_UNSEEN = "the operator has not seen it yet"


@dataclass(frozen=True)
class Standing:
    """What the conditions say, as kstatus reads them."""

    state: str
    """The reason of Ready."""
    message: str
    """Its sentence."""
    ready: bool = False
    stalled: bool = False
    current: bool = True
    """False: the status speaks of an older spec, or there is none."""

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.ready or self.stalled


def standing(prunejob: JsonObject) -> Standing:
    """Return where a PruneJob stands; a status that speaks of an older spec is neither ready nor stalled."""
    status = prunejob.get("status") or {}
    held = {item.get("type"): item for item in status.get("conditions") or ()}
    current = bool(held) and status.get("observedGeneration", 0) >= prunejob["metadata"].get("generation", 0)
    ready = held.get("Ready", {})
    return Standing(
        state=str(status.get("state") or ready.get("reason") or "Unseen"),
        message=str(ready.get("message") or "") if held else _UNSEEN,
        ready=current and ready.get("status") == "True",
        stalled=current and held.get("Stalled", {}).get("status") == "True",
        current=current,
    )


def variants(prunejob: JsonObject) -> list[JsonObject]:
    """Return what the status says of each hardware class."""
    return list((prunejob.get("status") or {}).get("variants") or ())


def target(prunejob: JsonObject) -> str:
    """Return the energy target."""
    return f"{prunejob['spec']['objective']['energyReductionPercent']} %"


def reached(variant: JsonObject, *, interval: bool = False) -> str:
    """Return the energy saved, and how that is known."""
    value = variant.get("energyReductionPercent")
    if value is None:
        return ""
    low, high = variant.get("energyReductionLowPercent"), variant.get("energyReductionHighPercent")
    ends = f" [95 %: {float(low):.1f} to {float(high):.1f}]" if interval and low and high else ""
    return f"{float(value):.1f} %{ends} {str(variant.get('provenance') or '').lower()}".rstrip()


def accuracy(variant: JsonObject) -> str:
    """Return the accuracy, and what it lost against the dense model."""
    value, dense = variant.get("accuracyPercent"), variant.get("denseAccuracyPercent")
    if value is None:
        return f"dense {float(dense):.2f} %" if dense is not None else ""
    return f"{float(value):.2f} %" + (f" ({float(value) - float(dense):+.2f})" if dense is not None else "")


def progress(variant: JsonObject) -> str:
    """Return a bar and the percent."""
    percent = variant.get("progressPercent")
    if percent is None:
        return ""
    full = int(percent) * _BAR // 100
    return f"{'█' * full}{'░' * (_BAR - full)} {percent} %"


def eta(variant: JsonObject, now: datetime) -> str:
    """Return when a run expects to end."""
    end = moment(variant.get("estimatedCompletionTime"))
    if end is None or variant.get("state") in FINISHED:
        return ""
    return "any moment" if end <= now else f"in {duration(end - now)}"


def joules(value: float) -> str:
    """Return an energy in the unit that reads best."""
    for factor, unit in ((1.0, "J"), (1e3, "mJ"), (1e6, "µJ")):
        if value * factor >= 1.0:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e9:.3g} nJ"


def age(stamp: str | None, now: datetime) -> str:
    """Return how long ago something was."""
    then = moment(stamp)
    return duration(max(now - then, timedelta(0))) if then else ""


def duration(span: timedelta) -> str:
    """Return a duration as a person says it, in its two largest units."""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def moment(stamp: str | None) -> datetime | None:
    """Return the moment a timestamp names, None where there is none or it cannot be read."""
    try:
        found = datetime.fromisoformat(stamp) if stamp else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found and found.tzinfo is None else found
