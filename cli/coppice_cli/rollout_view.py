"""A ModelRollout as tables: its waves, and the fleet target by target."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coppice_api.modelrollout import TargetKey
from coppice_cli import wording
from coppice_cli.prunejob_view import heading, plain_table, styled_state
from coppice_cli.wording import JsonObject

_ENERGY = "energyPerInference"
_DIGEST = "#sha256="
_SHORT = 12
_MOVING = ("Updating", "RollingBack")
_BAD = ("Blocked", "Failing", "NoData")


def overview(rollouts: Iterable[JsonObject]) -> RenderableType:
    """Return a line for each rollout."""
    shown = plain_table("NAME", "WAVE", "UPDATED", "STATE", "MESSAGE")
    for item in rollouts:
        stands = wording.standing(item)
        shown.add_row(item["metadata"]["name"], _wave(item), _updated(item), styled_state(stands), stands.message)
    return shown


def detail(rollout: JsonObject, now: datetime, *, lines: int | None = None) -> RenderableType:
    """Return everything about one rollout.

    Args:
        rollout: The resource.
        now: The time.
        lines: How many lines there are; the targets that move or stand out are shown first then.
    """
    checks = _checks(rollout, everything=lines is None)
    parts: list[RenderableType] = [_facts(rollout, now), heading("Waves"), _waves(rollout)]
    if _targets(rollout):
        taken = 14 + len(_sizes(rollout)) + (checks.row_count + 3 if checks.row_count else 0)
        parts += [heading("Targets"), _fleet(rollout, None if lines is None else max(lines - taken, 5))]
    if checks.row_count:
        parts += [heading("Checks"), checks]
    return Group(*parts)


def line(rollout: JsonObject, now: datetime | None = None) -> str:
    """Return how a rollout stands in one line of a log; the time makes no difference to it."""
    del now
    stands = wording.standing(rollout)
    wave = f"wave {_wave(rollout)}" if _wave(rollout) else ""
    updated = f"{_updated(rollout)} updated" if _updated(rollout) else ""
    moving = sum(target["state"] in _MOVING for target in _targets(rollout))
    words = ", ".join(filter(None, (wave, updated, f"{moving} in transition" if moving else "")))
    return "  ".join(filter(None, (stands.state, words, stands.message)))


def _facts(rollout: JsonObject, now: datetime) -> Table:
    metadata, spec = rollout["metadata"], rollout["spec"]
    stands, facts = wording.standing(rollout), Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("Name", f"{metadata['name']} in namespace {metadata.get('namespace', '')}")
    for model in spec["models"]:
        facts.add_row("Model", f"{model['name']}: {model['uri']} {model['sha256'][:_SHORT]}{_claim(model)}")
    facts.add_row("Age", wording.age(metadata.get("creationTimestamp"), now))
    facts.add_row("State", styled_state(stands))
    facts.add_row("", stands.message)
    for cluster in (rollout.get("status") or {}).get("clusters") or ():
        since = wording.age(cluster.get("changedTime"), now)
        what = f"reachable for {since}" if cluster["reachable"] else f"away for {since}: {cluster.get('message', '')}"
        facts.add_row("Cluster", f"{cluster['name']} {what}")
    return facts


def _claim(model: JsonObject) -> str:
    claim = model.get("claim") or {}
    saved = claim.get("energyReductionPercent")
    return f" (claimed: {saved} % less energy, {str(claim.get('provenance')).lower()})" if saved else ""


def _waves(rollout: JsonObject) -> Table:
    shown = plain_table(
        "WAVE", "TARGETS", "PENDING", "IN TRANSITION", "UPDATED", "TAKEN BACK", "J/INFERENCE BEFORE", "AFTER"
    )
    energies = functools.partial(_energies, rollout)
    for number, members in sorted(_sizes(rollout).items()):
        states = [target["state"] for target in members]
        moving = sum(state in _MOVING for state in states)
        # Only targets that have both: a mean over others would compare unlike things.
        pairs = [(float(one), float(two)) for one, two in map(energies, members) if one and two]
        before, after = _mean([one for one, _ in pairs]), _mean([two for _, two in pairs])
        shown.add_row(
            str(number), str(len(members)), str(states.count("Pending")), str(moving), str(states.count("Updated")),
            str(states.count("RolledBack")), before, after,
        )  # fmt: skip
    return shown


def _fleet(rollout: JsonObject, lines: int | None) -> RenderableType:
    targets = _targets(rollout)
    wave = (rollout.get("status") or {}).get("wave", 0)

    def weight(target: JsonObject) -> tuple[bool, bool, bool]:
        return target["state"] not in _MOVING, target["state"] != "Blocked", target.get("wave") != wave

    chosen = targets if lines is None else sorted(targets, key=weight)[:lines]
    shown = plain_table("WAVE", "TARGET", "STATE", "DIGEST", "J/INFERENCE BEFORE", "AFTER", "MESSAGE")
    for target in sorted(chosen, key=lambda item: (item.get("wave") or 0, item["name"])):
        before, after = (wording.joules(float(value)) if value else "" for value in _energies(rollout, target))
        shown.add_row(
            str(target.get("wave", "")), _short_name(TargetKey.read(target)), _word(target["state"]),
            _digest(rollout, target), before, after, target.get("message", ""),
        )  # fmt: skip
    left = len(targets) - len(chosen)
    return Group(shown, Text(f"and {left} more")) if left else shown


def _checks(rollout: JsonObject, *, everything: bool) -> Table:
    shown = plain_table("CHECK", "TARGET", "STATE", "VALUE", "BEFORE", "PASSED", "FAILED", "MESSAGE")
    for entry in (rollout.get("status") or {}).get("checks") or ():
        if everything or entry["state"] in _BAD:
            shown.add_row(
                entry["name"], _short_name(_checked(entry)), _word(entry["state"]), entry.get("value", ""),
                entry.get("baseline", ""), str(entry.get("passes", 0)), str(entry.get("failures", 0)),
                entry.get("message", ""),
            )  # fmt: skip
    return shown


def _energies(rollout: JsonObject, target: JsonObject) -> tuple[str | None, str | None]:
    """Return the joules of an inference before and after, as the check that asks for them has them."""
    checks = (rollout["spec"].get("analysis") or {}).get("checks") or ()
    names = {check["name"] for check in checks if check.get("preset") == _ENERGY}
    for entry in (rollout.get("status") or {}).get("checks") or ():
        if entry["name"] in names and _checked(entry) == TargetKey.read(target):
            return entry.get("baseline"), entry.get("value")
    return None, None


def _checked(entry: JsonObject) -> TargetKey | None:
    """Return the target of an entry of status.checks."""
    return TargetKey.read(
        {"name": entry["target"], "kind": entry.get("targetKind"), "cluster": entry.get("targetCluster")}
    )


def _short_name(target: TargetKey | None) -> str:
    return target.short if target else "unknown"


def _digest(rollout: JsonObject, target: JsonObject) -> str:
    """Return the beginning of the digest the target is told to serve; empty where it was not touched yet."""
    if target["state"] in ("RolledBack", "RollingBack"):
        value = target.get("previousValue") or ""
        return value.partition(_DIGEST)[2][:_SHORT] or value.partition("#")[0]
    if target["state"] in ("Updating", "Updated"):
        models: Sequence[JsonObject] = rollout["spec"]["models"]
        return next((model["sha256"][:_SHORT] for model in models if model["name"] == target.get("model")), "")
    return ""


def _mean(values: Sequence[float]) -> str:
    return wording.joules(sum(values) / len(values)) if values else ""


def _targets(rollout: JsonObject) -> list[JsonObject]:
    return list((rollout.get("status") or {}).get("targets") or ())


def _sizes(rollout: JsonObject) -> dict[int, list[JsonObject]]:
    waves: dict[int, list[JsonObject]] = {}
    for target in _targets(rollout):
        waves.setdefault(target.get("wave") or 0, []).append(target)
    return waves


def _wave(rollout: JsonObject) -> str:
    status = rollout.get("status") or {}
    return f"{status.get('wave', 0)} of {status['waves']}" if status.get("waves") else ""


def _updated(rollout: JsonObject) -> str:
    status = rollout.get("status") or {}
    return f"{status.get('updatedTargets', 0)} of {status['totalTargets']}" if status.get("totalTargets") else ""


def _word(state: str) -> Text:
    style = (
        "red" if state in _BAD else "cyan" if state in _MOVING else "green" if state in ("Updated", "Passing") else ""
    )
    return Text(state, style=style)
