"""A pruned model of transformers goes back into its own layout where config.json says its widths, else not at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from coppice_pruner.bundle import BundleRefusedError, export_bundle, load_bundle, read_manifest
from coppice_pruner.models import LoadedModel
from coppice_pruner.models.huggingface_export import write_huggingface
from coppice_pruner.storage import open_place
from coppice_pruner.surgery import Blueprint, ChannelGroup, inspect_groups, to_steps
from tests.integration.architectures.instances import INSTANCES

Choice = Callable[[ChannelGroup], bool]
BY_NAME = {item.name + item.origin[:5]: item for item in INSTANCES}
LOADERS = {
    "image-classification": transformers.AutoModelForImageClassification,
    "text-classification": transformers.AutoModelForSequenceClassification,
    "causal-language-modeling": transformers.AutoModelForCausalLM,
}


def pruned(name: str, chosen: Choice, *, drop: bool = False) -> tuple[LoadedModel, tuple[torch.Tensor, ...]]:
    """Return an architecture with half of some of its groups, or without them."""
    instance = BY_NAME[f"{name}trans"]
    dense, samples = instance.load(), instance.samples(4, seed=2)
    groups = inspect_groups(dense.module, samples).groups
    kept = {
        group.name: () if drop else tuple(sorted(index for atom in group.atoms[::2] for index in atom))
        for group in groups
        if chosen(group)
    }
    assert kept
    module = Blueprint(groups, samples).prune(dense.module, {}, kept)
    task = instance.source.removeprefix("transformers://")
    return LoadedModel(
        module, dense.architecture, dense.inputs, dense.classes, to_steps(kept, groups), task=task
    ), samples  # fmt: skip


def mlp(group: ChannelGroup) -> bool:
    return group.droppable and group.attention is None


def first_mlp(group: ChannelGroup) -> bool:
    return mlp(group) and ".0." in group.name


def heads(group: ChannelGroup) -> bool:
    return group.attention is not None


def everything(_: ChannelGroup) -> bool:
    return True


@pytest.mark.parametrize(
    ("name", "chosen", "want"),
    [
        ("BERT", mlp, {"intermediate_size": 24}),
        ("ViT", mlp, {"intermediate_size": 24}),
        ("DistilBERT", mlp, {"hidden_dim": 24}),
        ("GPT-2", mlp, {"n_inner": 64}),
        ("Swin", mlp, {"mlp_ratio": 2.0}),
        ("ResNet", everything, {"embedding_size": 8, "hidden_sizes": [8, 16]}),
        (
            "Llama, grouped queries", everything,
            {"intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
        ),
    ],
)  # fmt: skip
def test_even_widths_load_with_from_pretrained_and_give_the_same_outputs(
    name: str, chosen: Choice, want: dict[str, object], tmp_path: Path
) -> None:
    model, samples = pruned(name, chosen)
    assert write_huggingface(model, tmp_path / "huggingface") == ""
    again = LOADERS[model.task].from_pretrained(tmp_path / "huggingface").eval()
    assert {key: getattr(again.config, key) for key in want} == want
    with torch.inference_mode():
        outputs = again(**{"pixel_values" if "image" in model.task else spec.name: item
                           for spec, item in zip(model.inputs, samples, strict=True)}).logits  # fmt: skip
        torch.testing.assert_close(outputs, model.module(*samples), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "chosen", "drop", "reason"),
    [
        ("BERT", first_mlp, False, r"layer\.1\.intermediate\.dense.*\(48\).*\(24\).*one intermediate_size for both"),
        ("BERT", heads, False, r"layer\.0\.attention\.self\.query has shape 16 x 32.* can only say 32 x 32"),
        ("BERT", first_mlp, True, r"group .*layer\.0\.intermediate\.dense is dropped"),
        ("Llama, grouped queries", first_mlp, False, r"layers\.1\.mlp\..*_proj.*one intermediate_size for both"),
        ("Llama, grouped queries", lambda group: heads(group) and ".0." in group.name, False, r"layers\.1\.self_attn"),
        ("ConvNeXt", mlp, False, r"pwconv1"),
    ],
)
def test_uneven_widths_are_not_written_and_the_first_group_at_fault_is_named(
    name: str, chosen: Choice, drop: bool, reason: str, tmp_path: Path
) -> None:
    model, _ = pruned(name, chosen, drop=drop)
    said = write_huggingface(model, tmp_path / "huggingface")
    assert re.search(reason, said), said
    assert "load_bundle" in said
    assert not (tmp_path / "huggingface").exists()


@pytest.mark.filterwarnings("ignore")  # exporters warn of their own dependencies' deprecations
def test_a_bundle_holds_it_with_digests_and_travels_whole(tmp_path: Path) -> None:
    model, samples = pruned("Llama, grouped queries", everything)
    export_bundle(model, tmp_path / "bundle")
    # A store that is no disk: files are copied one by one.
    place = open_place(f"memory://{tmp_path.name}/runs", field="x", claim_mounts={})
    place.publish(tmp_path / "bundle", "model", last="manifest.json")
    found = place.fetch("model", tmp_path / "scratch")
    manifest = read_manifest(found)
    assert {"huggingface/config.json", "huggingface/model.safetensors"} <= set(manifest.files)
    assert "huggingface" not in manifest.omitted
    with torch.inference_mode():
        want = load_bundle(found).module(*samples)
        again = transformers.AutoModelForCausalLM.from_pretrained(found / "huggingface").eval()
        torch.testing.assert_close(again(input_ids=samples[0], use_cache=False).logits, want, rtol=1e-5, atol=1e-5)
    (found / "huggingface" / "config.json").write_text("{}")
    with pytest.raises(BundleRefusedError, match=r"huggingface/config\.json .*damaged"):
        load_bundle(found)


def test_other_models_have_no_such_layout_and_nothing_is_said(tmp_path: Path) -> None:
    dense = next(item for item in INSTANCES if item.origin == "coppice").load()
    assert write_huggingface(dense, tmp_path / "huggingface") == ""
    assert not (tmp_path / "huggingface").exists()
