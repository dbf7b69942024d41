"""Every rule of the API, on the real API server: one manifest it accepts and one it refuses, with the message."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import DIGEST, model_rollout, prune_job
from tests.integration.conftest import Kubectl

CHECK = {"name": "energy", "preset": "energyPerInference", "thresholdRange": {"max": "0.9"}}
ANALYSIS = {"prometheus": {"address": "http://prometheus:9090"}, "checks": [CHECK]}


def analysis(**changes: Any) -> dict[str, Any]:
    check = {key: value for key, value in {**CHECK, **changes}.items() if value is not None}
    return {**ANALYSIS, "checks": [check]}


def git(**changes: Any) -> dict[str, Any]:
    fields = {"repository": "https://git.example.com/fleet.git", "path": "kustomization.yaml", **changes}
    return {"delivery": "Git", "git": fields}


def gpu(**changes: Any) -> dict[str, Any]:
    return prune_job(hardware=[{"name": "gpu", **changes}])


ACCEPTED = {
    "the smallest PruneJob": prune_job(),
    "every source scheme": prune_job(model__uri="python://fleet.models:resnet", dataset__uri="builtin://shapes100"),
    "several hardware classes": prune_job(hardware=[{"name": "a100"}, {"name": "l4", "nodes": 2}]),
    "an estimate by choice": prune_job(measurement={"meter": "Estimate", "minimumProvenance": "Estimated"}),
    "only beta weighs": prune_job(algorithm={"allocation": "Paper", "alpha": "0"}),
    "a runtime of choice": prune_job(measurement={"runtime": "OnnxRuntime"}, algorithm={"quantization": "Int8"}),
    "a toleration of every taint": prune_job(hardware=[{"name": "gpu", "tolerations": [{"operator": "Exists"}]}]),
    "everything a GPU node wants": gpu(
        nodeSelector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "gpu": "", "a" * 253 + "/" + "b" * 63: "c"},
        tolerations=[
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "spot", "value": "true", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
        resources={
            "requests": {"cpu": "500m", "memory": "1.5Gi", "nvidia.com/gpu": "1"},
            "limits": {"nvidia.com/gpu": "1", "memory": "2Gi", "hugepages-2Mi": "4Mi", "example.com/Link_2.x": "2"},
        },
    ),
    "a rollout in the job": prune_job(rollout={"targets": [{"name": "a"}], "analysis": ANALYSIS}),
    "the smallest ModelRollout": model_rollout(),
    "targets by label": model_rollout(targets=[{"selector": {"matchLabels": {"app": "digits"}}}]),
    "an InferenceService": model_rollout(
        targets=[{"kind": "InferenceService", "name": "a", "inject": {"storageUri": True}}]
    ),
    "waves by count and percent": model_rollout(strategy={"waves": [{"targets": 1}, {"targets": "50%"}]}),
    "delivery through Git": model_rollout(
        strategy={
            "delivery": "Git",
            "git": {"repository": "https://git.example.com/fleet.git", "path": "models/kustomization.yaml"},
        }
    ),
    "delivery into a values file over ssh": model_rollout(
        strategy=git(repository="git@git.example.com:fleet.git", path="values.yaml", format="Values", key="$target.m")
    ),
    "merge requests": model_rollout(
        strategy=git(
            branchPrefix="coppice/",
            mergeRequest={"provider": "GitLab", "apiAddress": "https://git.example.com/api/v4"},
            credentialsSecretName="fleet-git",
        )
    ),
    "a Prometheus that wants to know who asks": model_rollout(
        analysis={
            **ANALYSIS,
            "prometheus": {"address": "https://prometheus:9090/prefix", "credentialsSecretName": "prometheus"},
        }
    ),
    "a check with every limit": model_rollout(
        analysis=analysis(
            failureLimit=2,
            inconclusiveRange={"max": "1"},
            inconclusiveLimit=3,
            initialDelaySeconds=60,
            onNoData="Fail",
            consecutiveErrorLimit=2,
        )
    ),
    "a canary beside the rest of the fleet": model_rollout(analysis=analysis(compare="Canary")),
    "a query of one's own": model_rollout(analysis=analysis(preset=None, query="up")),
}

REFUSED = {
    "an unknown field": (prune_job(modle={"uri": "x"}), 'unknown field "spec.modle"'),
    "no model": (prune_job(model=None), "spec.model: Required value"),
    "no output": (prune_job(output=None), "spec.output: Required value"),
    "a pickle's URI scheme": (prune_job(model__uri="pickle:///x"), "spec.model.uri"),
    "a data set that is not built in": (prune_job(dataset__uri="builtin://mnist"), "spec.dataset.uri"),
    "output that cannot be written": (prune_job(output__uri="https://example.com/x"), "spec.output.uri"),
    "a digest too short": (prune_job(model__sha256="abc"), "spec.model.sha256"),
    "a target of 0": (prune_job(objective__energyReductionPercent=0), "greater than or equal to 1"),
    "a target of 96": (prune_job(objective__energyReductionPercent=96), "less than or equal to 95"),
    "a float": (prune_job(objective__energyReductionPercent=42.6), "must be of type integer"),
    "a negative budget": (prune_job(objective__maxAccuracyDropPoints="-1"), "maxAccuracyDropPoints"),
    "an unknown allocation": (prune_job(algorithm={"allocation": "Best"}), '"Knapsack"'),
    "no weight at all": (
        prune_job(algorithm={"alpha": "0", "beta": "0.0"}),
        "algorithm.alpha and algorithm.beta are both 0: at least one must weigh something",
    ),
    "no hardware": (prune_job(hardware=[]), "spec.hardware"),
    "a class twice": (prune_job(hardware=[{"name": "a"}, {"name": "a"}]), "Duplicate value"),
    "a measured estimate": (
        prune_job(measurement={"meter": "Estimate"}),
        "measurement.meter Estimate can never be Measured: set measurement.minimumProvenance to Estimated",
    ),
    "too few pairs": (prune_job(measurement={"pairs": 4}), "greater than or equal to 5"),
    "an unknown runtime": (prune_job(measurement={"runtime": "TensorRT"}), '"Eager", "Compiled", "OnnxRuntime"'),
    "a quantity that is none": (
        prune_job(hardware=[{"name": "a", "resources": {"limits": {"cpu": "two"}}}]),
        "resources.limits",
    ),
    **{
        f"a resource named {name[:20]}": (gpu(resources={"limits": {name: "1"}}), "resources knows cpu, memory")
        for name in (
            "gpu",
            "requests.nvidia.com/gpu",
            "nvidia.com/",
            "Nvidia.com/gpu",
            "a.com/" + "b" * 64,
            "hugepages-1",
        )
    },
    "half a GPU": (gpu(resources={"limits": {"nvidia.com/gpu": "0.5"}}), "come whole: give an integer"),
    "a GPU that is only requested": (
        gpu(resources={"requests": {"nvidia.com/gpu": "1"}}),
        "must equal resources.limits: give it in limits alone",
    ),
    "more requested than allowed": (
        gpu(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1.5Gi"}}),
        "resources.requests are greater than resources.limits",
    ),
    "huge pages without memory": (
        gpu(resources={"limits": {"hugepages-2Mi": "4Mi"}}),
        "huge pages need cpu or memory beside them",
    ),
    **{
        f"a node selector's key {key[:12]!r}": (
            gpu(nodeSelector={key: "x"}),
            "nodeSelector has a key that no label can",
        )
        for key in ("", "a b", "a/b/c", "-a", "UPPER.com/a", "a" * 64, "a" * 254 + "/b")
    },
    "a node selector's value": (gpu(nodeSelector={"gpu": "A 100"}), "nodeSelector.gpu"),
    "a toleration of nothing": (gpu(tolerations=[{"effect": "NoSchedule"}]), "without a key tolerates every taint"),
    "a toleration's key": (gpu(tolerations=[{"key": "a b", "operator": "Exists"}]), "tolerations[0].key"),
    "a toleration's prefix": (
        gpu(tolerations=[{"key": "a" * 254 + "/b", "operator": "Exists"}]),
        "tolerations[].key has a prefix longer than 253 characters",
    ),
    "a toleration's value": (gpu(tolerations=[{"key": "a", "value": "b c"}]), "tolerations[0].value"),
    "a value of what only exists": (
        gpu(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
        "tolerations[].value is for operator Equal",
    ),
    "seconds of another effect": (
        gpu(tolerations=[{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}]),
        "tolerationSeconds is for effect NoExecute",
    ),
    "a claim no cluster can have": (prune_job(model__uri="pvc://Fleet_Models/dense"), "spec.model.uri"),
    "an output claim with a colon": (prune_job(output__uri="pvc://fleet:models/runs"), "spec.output.uri"),
    "a data set's claim with dots": (prune_job(dataset__uri="pvc://fleet..models/x"), "spec.dataset.uri"),
    "a Secret no cluster can have": (
        prune_job(run={"credentialsSecretName": "a..b"}),
        "spec.run.credentialsSecretName",
    ),
    "a pull secret likewise": (prune_job(run={"imagePullSecrets": ["a.-b"]}), "spec.run.imagePullSecrets"),
    "an image with a space": (prune_job(run={"image": " coppice:1"}), "spec.run.image"),
    "a queue longer than a label": (prune_job(run={"queueName": "q" * 64}), "spec.run.queueName"),
    "a variable's name": (model_rollout(targets=[{"name": "a", "inject": {"env": "MODEL-URI"}}]), "inject.env"),
    "a target neither named nor selected": (
        model_rollout(targets=[{"container": "server"}]),
        "targets[] needs exactly one of name and selector",
    ),
    "a target both named and selected": (
        model_rollout(targets=[{"name": "a", "selector": {"matchLabels": {"a": "b"}}}]),
        "targets[] needs exactly one of name and selector",
    ),
    "a target in another cluster, through Git": (
        model_rollout(
            targets=[{"name": "a"}, {"name": "b", "cluster": "berlin"}],
            strategy={"delivery": "Git", "git": {"repository": "https://git.example/f.git", "path": "fleet.yaml"}},
        ),
        "strategy.delivery Git takes no targets[].cluster",
    ),
    "a selector of everything": (
        model_rollout(targets=[{"selector": {}}]),
        "targets[].selector is empty and would choose every object in the namespace",
    ),
    "two injections": (
        model_rollout(targets=[{"name": "a", "inject": {"env": "MODEL", "storageUri": True}}]),
        "targets[].inject takes env or storageUri, not both",
    ),
    "storageUri of a Deployment": (
        model_rollout(targets=[{"name": "a", "inject": {"storageUri": True}}]),
        "inject.storageUri is for kind InferenceService",
    ),
    "an InferenceService without storageUri": (
        model_rollout(targets=[{"kind": "InferenceService", "name": "a"}]),
        "an InferenceService needs it",
    ),
    "an empty wave": (
        model_rollout(strategy={"waves": [{"targets": 0}]}),
        "waves[].targets is a count of 1 or more, or a percentage from 1% to 100%",
    ),
    "a wave of 101%": (
        model_rollout(strategy={"waves": [{"targets": "101%"}]}),
        "waves[].targets is a count of 1 or more, or a percentage from 1% to 100%",
    ),
    "an inconclusive range that is the narrower one": (
        model_rollout(analysis=analysis(inconclusiveRange={"max": "0.8"})),
        "checks[].inconclusiveRange.max must be thresholdRange.max or more",
    ),
    "an inconclusive range on the other side": (
        model_rollout(analysis=analysis(inconclusiveRange={"min": "0.8"})),
        "checks[].inconclusiveRange.min must be thresholdRange.min or less",
    ),
    **{
        f"an address of Prometheus with {what}": (
            model_rollout(analysis={**ANALYSIS, "prometheus": {"address": address}}),
            "spec.analysis.prometheus.address",
        )
        for what, address in {
            "a password": "http://user:password@prometheus:9090",
            "a query": "http://prometheus:9090?token=1",
            "a fragment": "http://prometheus:9090/#/elsewhere",
        }.items()
    },
    "Git without a repository": (
        model_rollout(strategy={"delivery": "Git"}),
        "strategy.git and strategy.delivery Git need each other",
    ),
    "a path out of the repository": (
        model_rollout(strategy=git(path="../kustomization.yaml")),
        "strategy.git.path is relative to the repository's root, without empty parts, '.', '..' or '.git'",
    ),
    "a path from the root": (
        model_rollout(strategy=git(path="/etc/kustomization.yaml")),
        "strategy.git.path is relative to the repository's root",
    ),
    "a path into git itself": (
        model_rollout(strategy=git(path=".git/kustomization.yaml")),
        "strategy.git.path is relative to the repository's root",
    ),
    "a component under another name": (
        model_rollout(strategy=git(path="models.yaml")),
        "strategy.git.path must end in kustomization.yaml where format is Kustomize",
    ),
    "values without a key": (
        model_rollout(strategy=git(path="values.yaml", format="Values")),
        "strategy.git.key or strategy.git.keys say where the values are, and format Values needs one of them",
    ),
    "a key without values": (model_rollout(strategy=git(key="a")), "format Values needs one of them"),
    "a token in a clone URL": (
        model_rollout(strategy=git(repository="https://robot:token@git.example.com/fleet.git")),
        "strategy.git.repository carries a user or a token: put them into the Secret",
    ),
    "a repository without encryption": (
        model_rollout(strategy=git(repository="http://git.example.com/fleet.git")),
        "spec.strategy.git.repository",
    ),
    "a merge request from the branch itself": (
        model_rollout(strategy=git(mergeRequest={"provider": "GitHub"}, credentialsSecretName="s")),
        "strategy.git.mergeRequest needs strategy.git.branchPrefix",
    ),
    "a merge request without a token": (
        model_rollout(strategy=git(mergeRequest={"provider": "GitHub"}, branchPrefix="coppice/")),
        "strategy.git.mergeRequest needs strategy.git.credentialsSecretName",
    ),
    "a check that asks nothing": (
        model_rollout(analysis=analysis(preset=None)),
        "checks[] needs exactly one of preset and query",
    ),
    "a check that asks twice": (
        model_rollout(analysis=analysis(query="up")),
        "checks[] needs exactly one of preset and query",
    ),
    "a range without ends": (
        model_rollout(analysis=analysis(thresholdRange={})),
        "a range needs min, max or both",
    ),
    "a range upside down": (
        model_rollout(analysis=analysis(thresholdRange={"min": "2", "max": "1"})),
        "the min of a range is greater than its max",
    ),
    "a model without a digest": (
        model_rollout(models=[{"name": "default", "uri": "pvc://c/x"}]),
        "sha256: Required value",
    ),
    "an unknown check preset": (model_rollout(analysis=analysis(preset="vibes")), '"energyPerInference"'),
}

IMMUTABLE = {
    "model": {"model__uri": "pvc://fleet-models/other"},
    "dataset": {"dataset__uri": "builtin://shapes100"},
    "objective": {"objective__energyReductionPercent": 10},
    "algorithm": {"algorithm": {"seed": 7}},
    "hardware": {"hardware": [{"name": "other"}]},
    "measurement": {"measurement": {"pairs": 9}},
    "output": {"output__uri": "pvc://fleet-models/elsewhere"},
    "run": {"run": {"image": "example.com/coppice:2"}},
}


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_api_server_accepts(kubectl: Kubectl, document: dict[str, Any]) -> None:
    kubectl.must("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=document)


@pytest.mark.parametrize(("document", "want_message"), REFUSED.values(), ids=REFUSED.keys())
def test_the_api_server_refuses_with_a_message(kubectl: Kubectl, document: dict[str, Any], want_message: str) -> None:
    result = kubectl.run("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=document)
    assert result.returncode != 0
    assert want_message in result.stderr


@pytest.mark.parametrize(("field", "change"), IMMUTABLE.items(), ids=IMMUTABLE.keys())
def test_what_defines_a_run_is_immutable(kubectl: Kubectl, field: str, change: dict[str, Any]) -> None:
    name = {"name": f"immutable-{field}"}
    kubectl.must("apply", "-f", "-", stdin={**prune_job(), "metadata": name})
    result = kubectl.run("apply", "-f", "-", stdin={**prune_job(**change), "metadata": name})
    assert f"spec.{field} is immutable: it defines the run" in result.stderr


def test_suspend_and_rollout_may_change(kubectl: Kubectl) -> None:
    name = {"name": "mutable"}
    kubectl.must("apply", "-f", "-", stdin={**prune_job(), "metadata": name})
    changed = prune_job(suspend=True, rollout={"targets": [{"name": "a"}]})
    kubectl.must("apply", "-f", "-", stdin={**changed, "metadata": name})


def test_the_models_of_a_rollout_are_immutable(kubectl: Kubectl) -> None:
    kubectl.must("apply", "-f", "-", stdin=model_rollout())
    other = [{"name": "default", "uri": "pvc://fleet-models/runs/pruned", "sha256": DIGEST[::-1].replace("a", "b")}]
    result = kubectl.run("apply", "-f", "-", stdin=model_rollout(models=other))
    assert "spec.models is immutable" in result.stderr


def test_defaults_are_the_paper_s_and_visible(kubectl: Kubectl) -> None:
    kubectl.must("apply", "-f", "-", stdin={**prune_job(), "metadata": {"name": "defaults"}})
    query = "jsonpath={.spec.algorithm.alpha} {.spec.algorithm.fineTune.batchSize} {.spec.hardware[0].name}"
    assert kubectl.must("get", "pj", "defaults", "-o", query) == "0.6 128 default"


def test_short_names_category_and_columns(kubectl: Kubectl) -> None:
    kubectl.must("apply", "-f", "-", stdin={**prune_job(), "metadata": {"name": "columns"}})
    header = kubectl.must("get", "pj", "columns").splitlines()[0].split()
    assert header == [
        "NAME",
        "TARGET",
        "REACHED",
        "PROVENANCE",
        "ACCURACY",
        "PROGRESS",
        "STATE",
        "READY",
        "AGE",
    ]
    kubectl.must("get", "mr")
    assert "prunejob.coppice.dev/columns" in kubectl.must("get", "coppice", "-o", "name")


def test_kubectl_explain_teaches(kubectl: Kubectl) -> None:
    text = kubectl.must("explain", "prunejob.spec.objective.maxAccuracyDropPoints")
    assert "percentage points" in text
