"""What happens on the cluster, told line by line as it happens."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console

from demo.shell import DemoError, Kubectl, Program

_POLL_SECONDS = 0.5


class Story:
    """Prints what is new, with the time since the demo began.

    Args:
        console: Where to.
        started: Monotonic seconds at which the demo began.
    """

    def __init__(self, console: Console, started: float) -> None:
        self.console, self._started = console, started

    def tell(self, text: str) -> None:
        """Print one line."""
        self.console.print(f"[{time.monotonic() - self._started:5.0f} s] {text}", markup=False, soft_wrap=True)

    def chapter(self, text: str) -> None:
        """Print a heading."""
        self.console.print(f"\n==> {text}", markup=False, style="bold", soft_wrap=True)

    def follow(self, kubectl: Kubectl, name: str, *, seconds: float, beside: tuple[Program, ...]) -> dict[str, Any]:
        """Tell of a PruneJob and its rollout until the PruneJob is Ready or Stalled, and return it.

        Raises:
            DemoError: If there is nothing to tell for so many seconds, or a program beside us ends.
        """
        deadline = time.monotonic() + seconds
        told: dict[str, str] = {}

        def once(key: str, text: str) -> None:
            nonlocal deadline
            if text and told.get(key) != text:
                told[key] = text
                deadline = time.monotonic() + seconds
                self.tell(text)

        while True:
            job = kubectl.get("prunejob", name)
            status = job.get("status", {})
            for variant in status.get("variants", ()):
                once(variant["hardware"], _variant_line(variant))
            for rollout in kubectl.get("modelrollouts").get("items", ()):
                owners = [item["name"] for item in rollout["metadata"].get("ownerReferences", ())]
                if name in owners:
                    once(rollout["metadata"]["name"], _rollout_line(rollout))
                    for target in rollout.get("status", {}).get("targets", ()):
                        once(f"target {target['name']}", f"    Deployment {target['name']}: {target['state']}")
            for condition in status.get("conditions", ()):
                once(
                    condition["type"], f"    {name}: {condition['type']}={condition['status']} ({condition['reason']})"
                )
            for wanted in ("Ready", "Stalled"):
                if is_true(job, wanted):
                    return job
            for program in beside:
                program.check()
            if time.monotonic() > deadline:
                raise DemoError(f"prunejob/{name} is neither Ready nor Stalled, and nothing new for {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)


def is_true(item: dict[str, Any], kind: str) -> bool:
    """Return whether a condition of an object is True, and speaks of the spec as it is now."""
    status = item.get("status", {})
    current = status.get("observedGeneration", 0) >= item.get("metadata", {}).get("generation", 1)
    return current and any(
        condition["type"] == kind and condition["status"] == "True" for condition in status.get("conditions", ())
    )


def _variant_line(variant: dict[str, Any]) -> str:
    parts = [f"run on {variant['hardware']}: {variant['state']}"]
    if "progressPercent" in variant and variant["state"] == "Running":
        parts.append(f"{variant['progressPercent']} %, step {variant.get('iteration', 0)}")
    if "energyReductionPercent" in variant:
        parts.append(
            f"accuracy {variant.get('accuracyPercent')} % (dense {variant.get('denseAccuracyPercent')} %), "
            f"energy -{variant['energyReductionPercent']} % ({variant.get('provenance', '')})"
        )
    elif "denseAccuracyPercent" in variant:
        parts.append(f"dense accuracy {variant['denseAccuracyPercent']} %")
    return "; ".join(parts)


def _rollout_line(rollout: dict[str, Any]) -> str:
    status = rollout.get("status", {})
    if not status.get("state"):
        return f"rollout {rollout['metadata']['name']}: made"
    return (
        f"rollout {rollout['metadata']['name']}: {status['state']}, wave {status.get('wave', 0)} of "
        f"{status.get('waves', 0)}, {status.get('updatedTargets', 0)} of {status.get('totalTargets', 0)} targets"
    )
