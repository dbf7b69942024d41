"""This machine: can it run a PruneJob, and how would energy be known? Opens the same meters that a run opens."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from coppice_cli.doctor.finding import Finding, Verdict

if TYPE_CHECKING:
    from coppice_pruner.meters import Meter

_SCRATCH_BYTES = 2 << 30
"""The dense model, the pruned one and a checkpoint of a ResNet-50 with room to spare."""
IN_A_POD = (
    "in a cluster the same can be asked in the run's own image: kubectl run doctor --rm -it --restart=Never "
    "--image=IMAGE -- coppice doctor --only machine"
)


def examine(*, measured: bool) -> Iterator[Finding]:
    """Yield what there is.

    Args:
        measured: Whether a run would refuse an estimate (measurement.minimumProvenance: Measured).
    """
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "machine/packages", Verdict.PROBLEM, "torch is not installed here: `coppice run` cannot work",
            "pip install 'coppice[pruner]', or look at the cluster alone: --only cluster",
        )  # fmt: skip
        return
    import torch

    yield Finding("machine/packages", Verdict.OK, f"torch {torch.__version__}")
    yield _scratch()
    yield from _energy(cuda=torch.cuda.is_available(), rocm=torch.version.hip is not None, measured=measured)


def _scratch() -> Finding:
    directory = Path(tempfile.gettempdir())
    free = shutil.disk_usage(directory).free
    found = f"{free / (1 << 30):.1f} GiB free in {directory}"
    if not os.access(directory, os.W_OK):
        return Finding("machine/scratch", Verdict.PROBLEM, f"{directory} cannot be written", "set TMPDIR")
    if free < _SCRATCH_BYTES:
        return Finding("machine/scratch", Verdict.WARNING, found, "free some, or set TMPDIR to a larger disk")
    return Finding("machine/scratch", Verdict.OK, found)


def _energy(*, cuda: bool, rocm: bool, measured: bool) -> Iterator[Finding]:
    """Look at every meter; what a run would take decides whether one that is missing matters."""
    nvml, amd, rapl = _nvml(), _rocm(), _rapl()
    yield nvml
    if rocm or amd.verdict is not Verdict.ABSENT:
        yield amd
    yield rapl
    if nvml.verdict is Verdict.OK and not cuda and not rocm:
        yield Finding(
            "machine/cuda", Verdict.PROBLEM, "an NVIDIA GPU counts energy, but torch finds no CUDA device: the model "
            "would run on the CPU",
            "install a torch that is built for CUDA and a driver that it knows; see CUDA_VISIBLE_DEVICES too",
        )  # fmt: skip
    counters = (amd if rocm else nvml,) if cuda else (rapl,)
    if any(item.verdict is Verdict.OK for item in counters):
        yield Finding("machine/provenance", Verdict.OK, "runs here are Measured")
    elif cuda:
        yield Finding(
            "machine/provenance", Verdict.PROBLEM,
            "the model would run on the GPU, which counts no energy: nothing can be measured or estimated",
            counters[0].mend,
        )  # fmt: skip
    else:
        yield Finding(
            "machine/provenance", Verdict.PROBLEM if measured else Verdict.WARNING,
            "runs here are Estimated: CPU time times watts",
            "set measurement.minimumProvenance: Estimated to accept that, or use a machine with a counter",
        )  # fmt: skip


def _nvml() -> Finding:
    import pynvml

    from coppice_pruner.meters.nvml import NvmlMeter

    try:
        pynvml.nvmlInit()
        pynvml.nvmlShutdown()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        return Finding("machine/nvml", Verdict.ABSENT, f"no NVIDIA driver ({error})")
    except pynvml.NVMLError_NoPermission as error:
        return Finding(
            "machine/nvml", Verdict.WARNING, f"there is an NVIDIA driver that this user may not ask ({error})",
            "give the user /dev/nvidiactl and /dev/nvidia* (often the group video), a pod nvidia.com/gpu and the "
            "runtime class nvidia",
        )  # fmt: skip
    except pynvml.NVMLError as error:
        return Finding(
            "machine/nvml", Verdict.WARNING, f"the NVIDIA driver does not work ({error})", "see what nvidia-smi says"
        )
    return _meter("machine/nvml", lambda: NvmlMeter())


def _rocm() -> Finding:
    if importlib.util.find_spec("amdsmi") is None:
        return Finding("machine/rocm", Verdict.ABSENT, "the package amdsmi is not installed")
    from coppice_pruner.meters.rocm import RocmMeter

    return _meter("machine/rocm", lambda: RocmMeter())


def _rapl() -> Finding:
    from coppice_pruner.meters.rapl import CONTAINER_HELP, ENV_POWERCAP, POWERCAP, open_rapl, zones

    root = Path(os.environ.get(ENV_POWERCAP) or POWERCAP)
    if not zones(root):
        return Finding("machine/rapl", Verdict.ABSENT, f"no CPU package counts its energy under {root}", CONTAINER_HELP)
    return _meter("machine/rapl", open_rapl)


def _meter(check: str, open_meter: Callable[[], Meter]) -> Finding:
    """Open a meter and read it once. A refusal's words are the meter's own: what is wrong, and what to do."""
    from coppice_pruner.errors import PrunerError

    try:
        meter = open_meter()
        try:
            meter.read_joules()
            conditions = meter.conditions()
        finally:
            meter.close()
    except PrunerError as error:
        message = str(error)
        found, separator, mend = message.partition("; ")
        if not separator:
            found, separator, mend = message.partition(", but ")
        return Finding(check, Verdict.WARNING, found, mend or IN_A_POD)
    harmful = f", throttled now: {', '.join(conditions.throttle_reasons)}" if conditions.throttle_reasons else ""
    others = f", {conditions.other_processes} other processes on it" if conditions.other_processes else ""
    return Finding(
        check, Verdict.WARNING if harmful or others else Verdict.OK,
        f"{meter.device} counts its energy{harmful}{others}",
        "windows that are disturbed are rejected: wait until it is cool and alone" if harmful or others else "",
    )  # fmt: skip
