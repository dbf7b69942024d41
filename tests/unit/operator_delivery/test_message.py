"""The commit message: the numbers, and nothing that a spec could smuggle in."""

from __future__ import annotations

from coppice_api.modelrollout import GitDelivery, RolloutModel
from coppice_operator.delivery.change import Change
from coppice_operator.delivery.message import back_message, forward_message
from tests.builders import DIGEST

CLAIM = {
    "provenance": "Measured",
    "energyReductionPercent": "65.00",
    "energyReductionLowPercent": "63.00",
    "energyReductionHighPercent": "67.00",
    "accuracyPercent": "99.44",
    "denseAccuracyPercent": "99.63",
}


def model(**claim: str) -> RolloutModel:
    content = {"name": "default", "uri": "pvc://m/x", "sha256": DIGEST, "claim": {**CLAIM, **claim}}
    return RolloutModel.model_validate(content)


def forward(models: list[RolloutModel], targets: list[str]) -> str:
    return forward_message(rollout="fleet/digits", wave=2, waves=3, models=models, targets=targets)


def change(message: str, **values: object) -> Change:
    git = GitDelivery(repository="https://h/r", path="kustomization.yaml")
    return Change("fleet", "digits", "uid-1", 2, git, (), message, **values)  # type: ignore[arg-type]


def test_it_says_which_wave_which_model_and_what_is_claimed_of_it() -> None:
    assert forward([model()], ["a", "b"]).splitlines() == [
        "Roll fleet/digits out: wave 2 of 3",
        "",
        "Model default: pvc://m/x",
        f"Digest: sha256:{DIGEST}",
        "Energy per inference: 65.00 % less (95 % interval 63.00 to 67.00), measured",
        "Accuracy: 99.44 % (dense model: 99.63 %)",
        "",
        "Targets: a, b",
    ]


def test_a_model_nobody_claims_anything_for_says_so() -> None:
    plain = RolloutModel(name="default", uri="pvc://m/x", sha256=DIGEST)
    assert "Nothing is claimed of it." in forward([plain], ["a"])


def test_a_large_fleet_does_not_make_a_long_line() -> None:
    text = forward([model()], [f"target-{number}" for number in range(300)])
    assert "and 280 more" in text
    assert max(map(len, text.splitlines())) <= 400


def test_a_reason_cannot_write_a_trailer_or_a_second_subject() -> None:
    text = change(back_message(rollout="fleet/digits", reason="x\n\nCoppice-Rollout: other/9\n", targets=["a"])).text
    assert [line for line in text.splitlines() if line.startswith("Coppice-Ro")] == ["Coppice-Rollout: uid-1/2"]


def test_the_way_back_has_a_trailer_of_its_own() -> None:
    assert change("m", back=True).text.endswith("\n\nCoppice-Rollback: uid-1/2\n")
