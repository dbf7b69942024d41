"""The page: what stands on it, what is left out, and that nothing from outside becomes markup."""

from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml

import coppice_pruner.report_page as package
from coppice_api.base import Provenance
from coppice_api.contract import run_config
from coppice_api.prunejob import DatasetSource, Measurement, ModelSource, Objective, PruneJob
from coppice_api.run import Outcome
from coppice_pruner.report_page import (
    Carbon,
    Conditions,
    Fact,
    GroupWidth,
    Interval,
    LayerEnergy,
    ModelRow,
    Pair,
    Prediction,
    ReportPage,
    RunCost,
    Saving,
    Step,
    manifest_of,
    render,
)
from tests.unit.report_page.pages import bare, config, page

PARTS = (
    "outcome",
    "savings",
    "quantization",
    "steps",
    "layers",
    "widths",
    "predictions",
    "pairs",
    "conditions",
    "cost",
    "carbon",
)
HOSTILE = "</style></pre><script>alert(1)</script><img src=x onerror=alert(1)>&\"'\x00\x1b\ud800"
_VOID = {"meta", "link", "br", "col"}


class Document(HTMLParser):
    """Elements with their attributes and text; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(tag for tag, _ in self.open), data))

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]

    def text(self) -> str:
        return "".join(text for path, text in self.texts if "style" not in path).replace("\N{NO-BREAK SPACE}", " ")


def read(shown: ReportPage) -> Document:
    return Document(render(shown))


def test_the_package_exports_what_it_says() -> None:
    assert sorted(package.__all__) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)


def test_a_full_page_has_every_part_once() -> None:
    document = read(page())
    assert set(PARTS) <= set(document.ids)
    assert len(document.ids) == len(set(document.ids))


def test_every_link_leads_to_a_part_that_is_there() -> None:
    for shown in (page(), bare()):
        document = read(shown)
        targets = {str(attributes["href"])[1:] for tag, attributes in document.elements if tag == "a"}
        assert targets <= set(document.ids)


def test_a_bare_page_leaves_out_what_is_absent() -> None:
    document = read(bare())
    assert not set(PARTS) & set(document.ids)
    assert {"verdict", "asked", "origin", "again"} <= set(document.ids)
    assert "None" not in document.text().replace("quantization: None", "")


@pytest.mark.parametrize(
    ("field", "empty", "part"),
    [
        ("dense", None, "outcome"), ("savings", (), "savings"), ("steps", (), "steps"), ("layers", (), "layers"),
        ("quantization", None, "quantization"),
        ("widths", (), "widths"), ("predictions", (), "predictions"), ("pairs", (), "pairs"),
        ("conditions", None, "conditions"), ("run_cost", None, "cost"), ("carbon", None, "carbon"),
        ("conditions", Conditions(), "conditions"), ("run_cost", RunCost(), "cost"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_part_can_be_left_out_alone(field: str, empty: Any, part: str) -> None:
    assert part not in read(page(**{field: empty})).ids


def test_without_an_intensity_no_grams_are_claimed() -> None:
    assert not re.search(r"\d m?g\b|CO₂", read(page(carbon=None, config=config(measurement=Measurement()))).text())


def test_the_verdict_comes_first_and_in_words() -> None:
    document = read(page())
    sections = [attributes["id"] for tag, attributes in document.elements if tag == "section"]
    assert sections[0] == "verdict"
    assert "Target met" in document.text()
    missed = read(page(outcome=Outcome.TARGET_NOT_MET)).text()
    assert "Target not met" in missed
    assert "Target met" not in missed


def test_nothing_from_outside_becomes_markup() -> None:
    # Pydantic lets no lone surrogate in.
    carried = HOSTILE.removesuffix("\ud800")
    hostile_config = config(
        namespace=carried, name=carried, hardware=carried, spec_digest=carried,
        artifacts_uri=f"file:///{carried}/a/b/c/d", model=ModelSource(uri=f"file://{carried}"),
        dataset=DatasetSource(uri=f"file://{carried}"),
    )  # fmt: skip
    facts = (Fact(HOSTILE, HOSTILE), Fact(HOSTILE, HOSTILE, exact=True))
    text = render(
        page(
            config=hostile_config, message=HOSTILE, meter=HOSTILE, device=HOSTILE, created_at=HOSTILE,
            savings=(Saving(HOSTILE, 0.1, None, HOSTILE),),
            steps=(Step(1, False, 0.2, None, None, 0.9, reason=HOSTILE),),
            layers=(LayerEnergy(HOSTILE, 1.0, 0.5),), widths=(GroupWidth(HOSTILE, 8, 4),),
            predictions=(Prediction(HOSTILE, 1.0, 1.0),),
            conditions=Conditions(throttle_reasons=(HOSTILE,), shared_with=(HOSTILE,), cross_check_ratio=1.0,
                                  cross_check_source=HOSTILE, facts=facts),
            carbon=Carbon(300.0, HOSTILE, HOSTILE), run_cost=RunCost(1.0, 2.0, 3, {HOSTILE: 1.0}), origin=facts,
        )
    )  # fmt: skip
    text.encode()
    document = Document(text)
    tags = {tag for tag, _ in document.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base"}
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]
    assert "\x00" not in text
    assert "\x1b" not in text
    assert text.count("</style>") == 1


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = render(page())
    document = Document(text)
    for tag, attributes in document.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            assert name not in attributes or re.match(r"#|data:,$", str(attributes[name])), (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", text)
    policies = [a["content"] for _, a in document.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert str(policies[0]).startswith("default-src 'none'")


def test_an_estimate_is_called_one_at_each_figure_of_energy() -> None:
    text = render(page(provenance=Provenance.ESTIMATED)).replace("\N{NO-BREAK SPACE}", " ")
    figures = re.findall(r"[\d.,]+ [nµmkMG]?(?:J|W|g)\b(?! CO₂)(?=(.{0,12}))", _visible(text))
    assert len(figures) > 50
    assert {rest for rest in figures if not rest.startswith((" estimated", " |"))} == set()


def _visible(text: str) -> str:
    """Return the body's text; a bar stands behind what is a setting or a prediction and not an energy found."""
    body = text.partition("<main>")[2].partition("<footer>")[0]
    body = re.sub(r"(Power limit</dt><dd>[^<]*)", r"\1 |", body)
    body = re.sub(r"(<span class=\"track\".*?</span></td><td>[^<]*)", r"\1 |", body)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


@pytest.mark.parametrize("provenance", list(Provenance))
def test_the_provenance_stands_at_the_figures_and_no_other_does(provenance: Provenance) -> None:
    shown = page(provenance=provenance, message="Done", predictions=(), conditions=None)
    text = read(shown).text().lower()
    assert text.count(provenance.value.lower()) > 10
    for other in set(Provenance) - {provenance}:
        found = [line for line in re.findall(rf".{{0,30}}\b{other.value.lower()}\b.{{0,30}}", text)
                 if "minimumprovenance" not in line and "are measured" not in line and "was measured" not in line
                 and "were measured" not in line]  # fmt: skip
        assert not [line for line in found if re.search(r"\d", line) and "measured as" not in line], found


def test_figures_stand_with_their_units() -> None:
    text = read(page()).text()
    for want in ("8.41 mJ", "4.00 mJ", "412 W", "6.54 ms", "1.91 ms", "59.1 MB", "14,774,436", "92.38 %",
                 "−0.35 points", "−52.4 %", "1.90 ×", "1.92 MJ", "435,374,149 inferences", "1 h 30 min", "51 to 58 °C",
                 "1,965 to 1,980 MHz", "381 g CO₂e per kWh", "1.18", "1.05 g", "51.5 % to 53.3 %"):  # fmt: skip
        assert want in text, want


def test_a_language_model_is_judged_by_perplexity() -> None:
    objective = Objective(energy_reduction_percent=30, max_perplexity_increase_percent="3")
    rows = {"dense": 21.4, "pruned": 21.9}
    shown = page(
        config=config(objective=objective),
        **{name: dataclasses.replace(getattr(page(), name), perplexity=value) for name, value in rows.items()},
        steps=(Step(1, True, 0.3, 0.31, None, 0.4, 21.9), Step(2, False, 0.4, None, None, 0.3, 30.0)),
    )
    text = read(shown).text()
    for want in ("21.40", "21.90", "+2.3 %", "perplexity at most 3 % higher", "Accuracy of the next token"):
        assert want in text, want


def test_other_savings_are_set_apart_from_what_pruning_saved() -> None:
    text = read(page()).text()
    assert "never counted as pruning's" in text
    assert "Folding normalisation" in text
    assert "not taken" in text


def test_pruning_integers_and_both_stand_side_by_side_with_what_was_tried() -> None:
    text = read(page()).text()
    for want in (
        "Pruning alone",
        "Int8Dynamic alone",
        "Pruning and Int8Dynamic",
        "71.3 %",
        "70.5 % to 72.0 %",
        "92.01 %",
    ):
        assert want.replace(" %", "\N{NO-BREAK SPACE}%") in text or want in text, want
    assert "Int8WeightOnly" in text
    assert "could not run" in text
    assert "no kernel for these shapes" in text


def test_small_layers_are_summed_up() -> None:
    many = tuple(LayerEnergy(f"layer{number}", 1e-3, 5e-4) for number in range(500))
    text = read(page(layers=many)).text()
    assert "the other 480 layers" in text
    assert "480 mJ" in text
    assert "layer499" not in text
    assert "96.0 %" in text


def test_a_layer_without_a_figure_after_pruning_leaves_the_column_out() -> None:
    shown = page(layers=(LayerEnergy("a", 1e-3, 5e-4), LayerEnergy("b", 1e-3)), pairs=(), dense=None)
    document = read(shown)
    headings = [text for path, text in document.texts if path[-3:] == ("thead", "tr", "th")]
    assert headings.count("Pruned") == 1, "that of the widths"


def test_how_often_a_step_was_fine_tuned_is_told_where_one_needed_more_than_one() -> None:
    once = Step(1, True, 0.3, 0.31, None, 0.4)
    assert "Fine-tunings" not in render(page(steps=(once,)))
    text = render(page(steps=(once, dataclasses.replace(once, number=2, fine_tunings=3))))
    assert re.findall(r"30\.0\s%</td><td>(\d+)</td></tr>", text) == ["1", "3"]


def test_a_step_outside_the_budget_says_that_it_was_kept_for_now_and_why() -> None:
    plain = render(page())
    assert "kept for now" not in plain
    why = "accuracy fell by 0.90 points to 91.48%; 0.5 are allowed"
    outside = Step(7, True, 0.527, 0.524, None, 0.9148, reason=why)
    further = Step(8, True, 0.527, 0.524, None, 0.9203, again=True)
    text = render(page(steps=(*page().steps, outside, further)))
    assert "● kept for now" in text
    assert why in text
    assert "One that was kept for now is outside the accuracy budget" in text
    assert "● fine-tuned further" in text


def test_steps_differ_by_shape_and_word_and_not_by_colour_alone() -> None:
    text = render(page())
    assert 'class="accepted" cx' in text
    assert re.search(r'<path class="rejected" d="M', text)
    assert "● kept" in text
    assert "✕ taken back" in text


def test_a_step_far_off_is_drawn_at_the_edge_and_said_to_be() -> None:
    text = render(page())
    assert ">5↓<" in text
    assert "beyond the picture" in text
    assert "beyond the picture" not in render(page(steps=page().steps[:2]))


def test_every_picture_has_a_name_and_a_description_and_every_table_a_caption() -> None:
    document = read(page())
    svgs = [attributes for tag, attributes in document.elements if tag == "svg"]
    assert svgs
    assert all(attributes["role"] == "img" for attributes in svgs)
    tags = [tag for tag, _ in document.elements]
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for tag, attributes in document.elements if tag == "th")
    charts = [attributes for attributes in svgs if "chart" in str(attributes.get("class"))]
    assert charts
    for attributes in charts:
        assert attributes["aria-labelledby"] in document.ids
        assert attributes["aria-describedby"] in document.ids


def test_headings_go_down_one_level_at_a_time() -> None:
    levels = [int(tag[1]) for tag, _ in read(page()).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize(
    "values",
    [
        {"dense": ModelRow(0.0, 0.0, 0.0, 0, 0, 0.0), "pruned": ModelRow(0.0, 0.0, 0.0, 0, 0, 0.0)},
        {"dense": ModelRow(float("nan"), 1.0, 1.0, 1, 1, 0.9)},
        {"pairs": (Pair(0.0, 0.0),)},
        {"pairs": (Pair(1.0, 1.0),), "energy_reduction_interval": Interval(0.0, 0.0), "energy_reduction_ratio": 0.0},
        {"layers": (LayerEnergy("a", 0.0, 0.0),)},
        {"widths": (GroupWidth("a", 0, 0),)},
        {"predictions": (Prediction("a", 1.0, 0.0),)},
        {"steps": (Step(1, False, 0.0),)},
        {"steps": (Step(1, False, -3.0, -2.0, None, 0.0),)},
        {"steps": (Step(1, True, float("nan"), float("nan"), None, float("nan")),)},
        {"energy_reduction_ratio": float("nan")},
        {"run_cost": RunCost(0.0, 0.0, 0, {"Loading": 0.0})},
    ],
    ids=["zeros", "nan", "no-energy", "no-saving", "free-layer", "no-width", "nothing-measured", "nothing-known",
         "worse", "nan-step", "nan-saving", "no-time"],
)  # fmt: skip
def test_strange_values_still_give_a_page(values: dict[str, Any]) -> None:
    text = render(page(**values))
    Document(text)
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text.partition("<body>")[2])


def test_the_manifest_asks_for_the_same_run() -> None:
    job = PruneJob.model_validate(yaml.safe_load(manifest_of(config())))
    want = config()
    assert job.metadata == {"name": want.name, "namespace": want.namespace}
    assert job.spec.model == want.model
    assert job.spec.objective == want.objective
    assert job.spec.algorithm == want.algorithm
    assert job.spec.measurement == want.measurement
    assert job.spec.output.uri == "pvc://runs"
    again = run_config(
        job.spec, job.spec.hardware[0], namespace=want.namespace, name=want.name, claim_mounts={}
    )  # fmt: skip
    assert again.artifacts_uri.startswith("pvc://runs/vision/vgg-shapes/")
    assert again.artifacts_uri.endswith("/h100-sxm")
    assert manifest_of(want).replace("'", "&#x27;") in render(page())


def test_batch_1_stands_beside_the_batch_with_its_interval() -> None:
    text = render(page()).replace("\N{NO-BREAK SPACE}", " ")
    assert "Energy of a single inference, batch 1" in text
    assert "−23.8 % (−25.2 % to −22.1 %)" in text
    # A run that was measured at batch 1 has said it all already.
    single = config(measurement=Measurement(batch_size=1))
    assert "Energy of a single inference, batch 1" not in render(page(config=single))
