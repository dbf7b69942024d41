"""Where runs go whose hardware class says nothing of it: what the operator knows of its cluster."""

from __future__ import annotations

import json

import pytest

from coppice_api.prunejob import HardwareClass, PruneJob
from coppice_operator.prunejob.manifest import job_manifest
from coppice_operator.prunejob.observation import PruneJobObservation
from coppice_operator.prunejob.plan import plan
from coppice_operator.prunejob.presets import parse_presets, placed
from tests.builders import prune_job
from tests.unit.operator_core.world import NOW, ROLLOUT, met, stored

L4 = {"nvidia.com/gpu.product": "NVIDIA-L4"}
PRESETS = parse_presets(
    json.dumps({
        "l4": {"nodeSelector": L4, "resources": {"limits": {"nvidia.com/gpu": "1"}}},
        "default": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "a", "operator": "Exists"}]},
    })
)  # fmt: skip


def test_a_class_that_says_nothing_goes_where_its_preset_says() -> None:
    found = placed(HardwareClass(name="l4", nodes=2), PRESETS)
    assert found.node_selector == L4
    assert found.resources.to_dict() == {"limits": {"nvidia.com/gpu": "1"}}
    assert found.nodes == 2


@pytest.mark.parametrize(
    "own",
    [
        {"nodeSelector": {"pool": "mine"}},
        {"tolerations": [{"key": "mine", "operator": "Exists"}]},
        {"resources": {"limits": {"cpu": "1"}}},
        {"name": "unknown"},
    ],
    ids=["a selector", "a toleration", "resources", "no such preset"],
)
def test_a_class_that_says_something_of_it_is_left_alone(own: dict[str, object]) -> None:
    hardware = HardwareClass.model_validate({"name": "l4", **own})
    assert placed(hardware, PRESETS) == hardware


def test_the_job_has_the_name_and_the_digest_that_it_has_without_a_preset() -> None:
    document = prune_job(hardware=[{"name": "l4"}])
    document["metadata"] |= {"namespace": "team-a", "uid": "u"}
    prunejob = PruneJob.model_validate(document)
    (hardware,) = prunejob.spec.hardware
    plain = job_manifest(prunejob, hardware, default_image="i")
    preset = job_manifest(prunejob, hardware, default_image="i", placed=placed(hardware, PRESETS))
    assert preset["metadata"] == plain["metadata"]
    pod = preset["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == L4
    assert pod["containers"][0]["env"] == plain["spec"]["template"]["spec"]["containers"][0]["env"]


def test_the_plan_makes_jobs_with_presets_and_rollouts_that_ask_for_the_same_nodes() -> None:
    (made,) = plan(PruneJobObservation(prunejob=stored("digits"), presets=PRESETS), NOW).actions
    assert made.manifest["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd"}
    world = met(**ROLLOUT)
    rollout = plan(PruneJobObservation(prunejob=world.prunejob, jobs=world.jobs, presets=PRESETS), NOW).actions[0]
    assert rollout.manifest["spec"]["models"][0]["nodeSelector"] == {"disk": "ssd"}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[]", "a JSON object of objects is expected"),
        ("{", "a JSON object of objects is expected"),
        ('{"l4": 1}', "l4: Input should be"),
        ('{"l4": {"affinity": {}}}', "l4: unknown affinity"),
        ('{"l4": {"name": "a100"}}', "l4: unknown name"),
        ('{"L4": {}}', "L4: name: String should match"),
        ('{"l4": {"nodeSelector": {"a": 1}}}', "l4: nodeSelector.a: Input should be a valid string"),
    ],
    ids=["a list", "half of it", "no object", "another field", "another name", "no name of a class", "a number"],
)
def test_what_is_no_preset_is_refused_with_the_place(text: str, want: str) -> None:
    with pytest.raises(ValueError, match=want):
        parse_presets(text)
