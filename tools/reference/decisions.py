"""A hook of MkDocs: puts every file of docs/decisions into the navigation, in the order of their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENTRY = {"Decisions": "decisions"}


def on_config(config: Any) -> Any:
    """Replace the entry for the folder by one for each file in it."""
    folder = Path(config["docs_dir"]) / "decisions"
    files = [f"decisions/{path.name}" for path in sorted(folder.glob("*.md"))]
    config["nav"] = [{"Decisions": files} if entry == ENTRY else entry for entry in config["nav"]]
    return config
