"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from coppice_api.redaction import without_userinfo


class Verdict(StrEnum):
    """What a finding means for a run."""

    OK = "ok"
    """As it should be."""
    ABSENT = "absent"
    """Not there, and only those need it who ask for it."""
    UNKNOWN = "unknown"
    """Could not be looked at."""
    WARNING = "warning"
    """A run goes on without it, with less."""
    PROBLEM = "problem"
    """A run cannot do without."""


@dataclass(frozen=True)
class Finding:
    """One sentence on what was found, and one on what to do."""

    check: str
    """What was looked at, such as cluster/crds."""
    verdict: Verdict
    found: str
    mend: str = ""
    """How to mend it; empty where nothing need be."""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON values; nobody's user name and password are shown."""
        return {
            "check": self.check, "verdict": self.verdict.value, "found": without_userinfo(self.found),
            "mend": without_userinfo(self.mend),
        }  # fmt: skip
