"""Which GPU a model runs on, by names that hold in every container: indices do not.

CUDA numbers the GPUs that CUDA_VISIBLE_DEVICES leaves, the fastest first; NVML numbers all that the container has, by
PCI address. So torch is asked for the UUID; only where it cannot tell is the variable read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coppice_pruner.meters.base import MeterUnavailableError, MigRefusedError

if TYPE_CHECKING:
    import torch

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
MIG_HELP = (
    "in MIG mode NVML counts no energy for an instance: use a whole GPU (a spec.hardware[].nodeSelector for nodes "
    "whose nvidia.com/mig.config is all-disabled; `nvidia-smi -mig 0` on a machine of your own), or leave "
    "nvidia.com/gpu out of spec.hardware[].resources and set measurement.minimumProvenance to Estimated, to run and "
    "estimate on the CPU"
)


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    uuid: str | None = None
    """As CUDA gives it, without the prefix GPU- or MIG-; None where torch does not tell."""
    pci_address: str | None = None
    """domain:bus:device.function."""
    rocm: bool = False
    """Whether torch runs it through ROCm."""
    position: int = 0
    """Among the devices that this process sees, for the case that nothing else is known. Never shown to anybody."""


def gpu_of(device: torch.device) -> Gpu | None:
    """Return the GPU behind a torch device, None for the CPU."""
    if device.type != "cuda":
        return None
    import torch

    position = torch.cuda.current_device() if device.index is None else device.index
    properties: Any = torch.cuda.get_device_properties(position)
    uuid = getattr(properties, "uuid", None)
    bus = getattr(properties, "pci_bus_id", None)
    address = None
    if bus is not None:
        address = f"{properties.pci_domain_id:04x}:{bus:02x}:{properties.pci_device_id:02x}.0"
    return Gpu(None if uuid is None else str(uuid), address, torch.version.hip is not None, position)


def visible_uuid(all_uuids: Sequence[str], environ: Mapping[str, str], position: int = 0) -> str:
    """Return the UUID of one of the GPUs that CUDA sees, worked out from the environment.

    Args:
        all_uuids: Of all GPUs in this container, in the order of their PCI addresses, with the prefix GPU-.
        environ: CUDA_VISIBLE_DEVICES holds indices or UUIDs (a beginning that is unique will do); CUDA reads it up to
            the first entry that names no GPU.
        position: Among those that CUDA sees.

    Raises:
        MigRefusedError: If the entry names a MIG instance.
        MeterUnavailableError: If it cannot be known; says what to set.
    """
    listed = environ.get(VISIBLE)
    if listed is None and len(all_uuids) == 1:
        return all_uuids[0]
    entries = list(map(str, range(len(all_uuids)))) if listed is None else [part.strip() for part in listed.split(",")]
    seen: list[str] = []
    for entry in entries:
        if entry.startswith("MIG"):
            if len(seen) == position:
                raise MigRefusedError(f"{VISIBLE} names the MIG instance {entry}; {MIG_HELP}")
            seen.append(entry)
            continue
        if entry.isdigit():
            if int(entry) >= len(all_uuids):
                break
            if len(all_uuids) > 1 and environ.get(ORDER) != "PCI_BUS_ID":
                raise MeterUnavailableError(
                    f"which of {len(all_uuids)} GPUs the model runs on cannot be known: {VISIBLE} counts them the "
                    f"fastest first, NVML by PCI address. Set {ORDER}=PCI_BUS_ID, or {VISIBLE} to the UUID that "
                    "`nvidia-smi -L` shows"
                )
            seen.append(all_uuids[int(entry)])
            continue
        found = [uuid for uuid in all_uuids if entry and uuid.startswith(entry)]
        if len(found) != 1:
            break
        seen.append(found[0])
    if position >= len(seen):
        raise MeterUnavailableError(
            f"{VISIBLE}={listed!r} leaves {len(seen)} of this container's {len(all_uuids)} GPUs: name one that it has, "
            "as `nvidia-smi -L` shows it"
        )
    return seen[position]
