"""`make bench-gpu`: what only a machine with an NVIDIA GPU can measure; JSON in build/bench/gpu, documents from it.

Each part leaves a file of its own, so that a lease of minutes can do one after the other. PARTS=prediction
chooses; DOCUMENT=1 writes docs/benchmarks/gpu.md from all there is, and needs no GPU when PARTS is empty.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from coppice_api.prunejob import MeterKind, MinimumProvenance
from coppice_pruner.meters import Meter, gpu_of, select_meter
from tests.bench.gpu import document, predicting, pruning
from tests.bench.machine import ROOT, machine

Part = Callable[[Meter, torch.device, bool], dict[str, Any]]
PARTS: dict[str, Part] = {"prediction": predicting.bench, "pruning": pruning.bench}
DIRECTORY = ROOT / "build/bench/gpu"


def main() -> int:
    """Do what the environment asks for."""
    chosen = [name for name in os.environ.get("PARTS", ",".join(PARTS)).split(",") if name]
    quick = os.environ.get("QUICK") == "1"
    if chosen and not torch.cuda.is_available():
        print("bench-gpu: torch finds no NVIDIA GPU here; PARTS= DOCUMENT=1 writes the page from what was measured")
        return 2
    for name in chosen:
        print(f"==> {name}", flush=True)
        began = time.monotonic()
        device = torch.device("cuda", torch.cuda.current_device())
        # The context draws power of its own, also while nothing runs.
        torch.zeros(1, device=device)
        meter = select_meter(MeterKind.NVML, MinimumProvenance.MEASURED, cuda=True, gpu=gpu_of(device))
        period_seconds = meter.update_period_seconds
        try:
            found = PARTS[name](meter, device, quick)
        finally:
            meter.close()
        about = {
            "gpu": torch.cuda.get_device_name(device), "torch": torch.__version__, "cuda": torch.version.cuda,
            "counter_update_period_seconds": period_seconds, "machine": machine(), "quick": quick,
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        (DIRECTORY / f"{name}.json").write_text(json.dumps({"about": about, **found}, indent=1) + "\n")
        print(f"    {DIRECTORY / name}.json after {about['seconds']} s", flush=True)
    if os.environ.get("DOCUMENT") == "1":
        document.write(DIRECTORY, ROOT / "docs/benchmarks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
