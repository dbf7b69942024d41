# ruff: noqa: I001 - the machine sets the clock that the others take
"""What the run's image has in `test_spec` besides the pruner: a machine whose clock and joules are exact.

Python imports this before anything else when its directory is on PYTHONPATH. torchrun itself keeps the real clock; the
processes that it starts, and a pod that is alone, get the machine's.
"""

import os

if "COPPICE_RUN_CONFIG" in os.environ and ("RANK" in os.environ or "COPPICE_NODES" not in os.environ):
    from tests.integration.recovery import machine

    import importlib

    import torch

    from coppice_pruner.run import execution

    torch.set_num_threads(1)
    machine.shorten_exports()
    machine.MACHINE.CALL = 2.0**-3  # type: ignore[misc] # windows of the contract last a second at least
    execution.select_meter = lambda *_, **__: machine.MACHINE  # type: ignore[assignment]
    # In bfloat16 a sum of halves is not the whole to many places.
    importlib.import_module("coppice_pruner.training.fine_tune")._cpu_multiplies_bf16 = lambda: False  # type: ignore[attr-defined]
