"""What an operator knows of its cluster's hardware: where the runs of a class go that says nothing of it itself.

The preset is no part of the spec: another preset starts no run again, and the next Job is made with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter, ValidationError

from coppice_api.prunejob import HardwareClass

Presets = Mapping[str, HardwareClass]
"""By the name of the class, `hardware[].name`."""
_TEXT = TypeAdapter(dict[str, dict[str, object]])


def parse_presets(text: str) -> dict[str, HardwareClass]:
    """Return the presets of a JSON object: for each name nodeSelector, tolerations and resources, as in a PruneJob.

    Raises:
        ValueError: If it is none, saying where.
    """
    try:
        found = _TEXT.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"a JSON object of objects is expected: {_said(error)}") from error
    presets = {}
    for name, body in found.items():
        if unknown := sorted(body.keys() - {"nodeSelector", "tolerations", "resources"}):
            raise ValueError(f"{name}: unknown {', '.join(unknown)}; there are nodeSelector, tolerations and resources")
        try:
            presets[name] = HardwareClass.model_validate({**body, "name": name})
        except ValidationError as error:
            raise ValueError(f"{name}: {_said(error)}") from error
    return presets


def placed(hardware: HardwareClass, presets: Presets) -> HardwareClass:
    """Return a class with what the preset of its name adds: all of it where the class says nothing, else nothing."""
    preset = presets.get(hardware.name)
    if preset is None or hardware.node_selector or hardware.tolerations or hardware.resources.to_dict():
        return hardware
    return hardware.model_copy(
        update={
            "node_selector": preset.node_selector,
            "tolerations": preset.tolerations,
            "resources": preset.resources,
        }
    )


def _said(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}".removeprefix(": ")
