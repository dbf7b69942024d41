"""The examples are not installed: the tests find them as the pods do, by path."""

from __future__ import annotations

import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[3] / "examples"
for source_root in (EXAMPLES / "inference-server", EXAMPLES):
    if str(source_root) not in sys.path:
        sys.path.insert(0, str(source_root))
