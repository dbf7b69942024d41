"""Runs on text, on language and on a user's own factories: real data, energy estimated from CPU time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from coppice_api.prunejob import FineTune
from coppice_api.run import Outcome, RunConfig, RunReport
from coppice_pruner.bundle import load_bundle
from coppice_pruner.data import Splits, prose, topics
from coppice_pruner.data.builtin import CHARACTERS, WORDS
from coppice_pruner.models.huggingface import factory, load_huggingface
from coppice_pruner.run import Journal, execute, exit_code
from coppice_pruner.run.report import cost
from coppice_pruner.storage.weights import own_weights
from coppice_pruner.training import evaluate, fine_tune
from tests import machine

pytestmark = pytest.mark.filterwarnings("ignore")


def saved(directory: Path, task: str, config: dict[str, object], data: Splits, settings: FineTune) -> Path:
    """Train a small model of transformers and leave it as save_pretrained does."""
    torch.manual_seed(0)
    module = factory(task)(config=config)
    fine_tune(module, data, settings, seed=0)
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    classifier = module.get_submodule("classifier")
    assert isinstance(classifier, nn.Module)
    save_file(own_weights(classifier), directory / "model.safetensors")
    return directory


def run(config: RunConfig) -> RunReport:
    report = execute(config, Journal(config.algorithm.max_iterations))
    assert exit_code(report) == 0, report.message
    assert report.outcome is Outcome.TARGET_MET, report.message
    return report


def test_a_text_classifier_on_the_manuals_topics(tmp_path: Path) -> None:
    directory = saved(
        tmp_path / "dense", "text-classification",
        {
            "model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": WORDS,
            "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 192,
            "max_position_embeddings": 128, "num_labels": 6,
        },
        topics(), FineTune(epochs=8, learning_rate="0.002", batch_size=64),
    )  # fmt: skip
    report = run(
        machine.config(
            tmp_path, model__uri=f"file://{directory}", dataset__uri="builtin://topics",
            objective__energyReductionPercent=15, objective__maxAccuracyDropPoints="4",
            algorithm__maxIterations=6, measurement__windowSeconds=1,
        )
    )  # fmt: skip
    assert report.dense is not None
    assert report.pruned is not None
    labels = topics().evaluation.targets
    largest_share = float(labels.bincount().max()) / len(labels)
    assert report.dense.accuracy_ratio > 1.5 * largest_share, "a model that learnt nothing has nothing to lose"
    assert report.artifact is not None
    again = load_bundle(report.artifact.uri.removeprefix("file://"), sha256=report.artifact.sha256)
    data = topics()
    assert evaluate(again.module, data.evaluation, data.task).accuracy_ratio == pytest.approx(
        report.pruned.accuracy_ratio
    )


def test_a_language_model_within_a_budget_of_perplexity(tmp_path: Path) -> None:
    directory = saved(
        tmp_path / "dense", "causal-language-modeling",
        {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": CHARACTERS, "n_positions": 64,
            "n_embd": 48, "n_head": 4, "n_layer": 2, "bos_token_id": None, "eos_token_id": None,
        },
        prose(), FineTune(epochs=2, learning_rate="0.003", batch_size=64),
    )  # fmt: skip
    config = machine.config(
        tmp_path, model__uri=f"file://{directory}", dataset__uri="builtin://prose",
        objective__energyReductionPercent=10, objective__maxPerplexityIncreasePercent="5",
        algorithm__maxIterations=6, measurement__windowSeconds=1,
    )  # fmt: skip
    report = run(config)
    assert report.dense is not None
    assert report.pruned is not None
    assert report.dense.perplexity is not None
    assert report.pruned.perplexity is not None
    assert report.pruned.perplexity <= report.dense.perplexity * 1.05
    said = cost(report.dense, report.pruned)
    assert said.endswith(" perplexity")
    assert said in report.message
    dense = load_huggingface(directory)
    data = prose()
    assert evaluate(dense.module, data.evaluation, data.task).perplexity == pytest.approx(
        report.dense.perplexity, rel=1e-4
    )


def test_a_users_own_model_data_and_metric(tmp_path: Path) -> None:
    report = run(
        machine.config(
            tmp_path, model__uri="python://tests.integration.tasks.own:model",
            dataset__uri="python://tests.integration.tasks.own:data",
            objective__energyReductionPercent=3, objective__maxAccuracyDropPoints="10",
            algorithm__distillation=False, algorithm__maxIterations=6, measurement__windowSeconds=1,
        )
    )  # fmt: skip
    assert report.artifact is not None
    directory = report.artifact.uri.removeprefix("file://")
    assert load_bundle(directory, trusted_packages=("tests",)).architecture.source.startswith("python://tests")


def test_a_perplexity_budget_for_a_classifier_is_refused(tmp_path: Path) -> None:
    config = machine.config(
        tmp_path, model__uri="python://tests.integration.tasks.own:model",
        dataset__uri="python://tests.integration.tasks.own:data", objective__maxPerplexityIncreasePercent="5",
    )  # fmt: skip
    report = execute(config, Journal(1))
    assert report.outcome is Outcome.INPUT_REFUSED
    assert "spec.objective.maxPerplexityIncreasePercent" in report.message
