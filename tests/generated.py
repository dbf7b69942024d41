"""Custom resources that nobody would write: drawn from the CRDs' own schemas, and bent to pass their CEL rules.

A structural schema has no references and no unions, so a few strategies cover it. It does not know CEL, so what a rule
would refuse is mended; what the API server refuses all the same is no loss.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from coppice_api import crd
from coppice_api.modelrollout import ModelRollout
from coppice_api.prunejob import PruneJob

Json = dict[str, Any]
_MOST_ITEMS = 3
_LONGEST = 80
"""Of texts and lists that are drawn: bounds have manifests of their own in test_crds.py."""


def prune_jobs() -> st.SearchStrategy[Json]:
    """PruneJobs without metadata.name."""
    return _resources(crd.definition(PruneJob)).map(_mended)


def model_rollouts() -> st.SearchStrategy[Json]:
    """ModelRollouts without metadata.name."""
    return _resources(crd.definition(ModelRollout)).map(_mended)


def _resources(definition: Json) -> st.SearchStrategy[Json]:
    names, version = definition["spec"]["names"], definition["spec"]["versions"][0]
    spec = _values(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    header = {"apiVersion": f"{definition['spec']['group']}/{version['name']}", "kind": names["kind"]}
    return spec.map(lambda drawn: {**header, "metadata": {}, "spec": drawn})


def _values(node: Json) -> st.SearchStrategy[Any]:
    """Return what a node of a structural schema allows, short."""
    if node.get("x-kubernetes-int-or-string"):
        return st.integers(1, 9) | st.sampled_from(["1%", "50%", "100%"])
    if "enum" in node:
        return st.sampled_from(node["enum"])
    match node["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(node.get("minimum", 0), node.get("maximum", 2**31 - 1))
        case "string":
            return _texts(node)
        case "array":
            most = min(node.get("maxItems", _MOST_ITEMS), _MOST_ITEMS)
            kind, keys = node.get("x-kubernetes-list-type"), node.get("x-kubernetes-list-map-keys", ())
            unique = None
            if kind in ("set", "map"):
                unique = lambda item: tuple(item[key] for key in keys) if keys else item  # noqa: E731
            return st.lists(_values(node["items"]), min_size=node.get("minItems", 0), max_size=most, unique_by=unique)
    assert node["type"] == "object", node
    if "properties" not in node:
        return st.dictionaries(
            _texts({"maxLength": _LONGEST}), _values(node["additionalProperties"]), max_size=_MOST_ITEMS
        )
    fields = {name: _values(child) for name, child in node["properties"].items()}
    required = set(node.get("required", ()))
    return st.fixed_dictionaries(
        {name: value for name, value in fields.items() if name in required},
        optional={name: value for name, value in fields.items() if name not in required},
    )


def _texts(node: Json) -> st.SearchStrategy[str]:
    least, most = node.get("minLength", 0), min(node.get("maxLength", _LONGEST), _LONGEST)
    if "pattern" not in node:
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)
    drawn = st.from_regex(node["pattern"], fullmatch=True, alphabet=st.characters(exclude_categories=["Cs"]))
    return drawn.filter(lambda text: least <= len(text) <= most)


def _mended(document: Json) -> Json:
    spec = document["spec"]
    measurement = spec.get("measurement", {})
    if measurement.get("meter") == "Estimate":
        measurement["minimumProvenance"] = "Estimated"
    algorithm = spec.get("algorithm", {})
    if float(algorithm.get("alpha", "0.6")) + float(algorithm.get("beta", "0.4")) == 0:
        algorithm["alpha"] = "0.6"
    for hardware in spec.get("hardware", ()):
        _mend_hardware(hardware)
    rollout = spec.get("rollout", spec)
    for target in rollout.get("targets", ()):
        _mend_target(target)
    strategy = rollout.get("strategy", {})
    if strategy.get("delivery") != "Git":
        strategy.pop("git", None)
    elif "git" not in strategy:
        strategy["delivery"] = "Direct"
    else:
        _mend_git(strategy["git"])
    for check in rollout.get("analysis", {}).get("checks", ()):
        _mend_check(check)
    return document


def _mend_hardware(hardware: Json) -> None:
    selector = hardware.get("nodeSelector", {})
    hardware["nodeSelector"] = {f"example.com/{number}": value for number, value in enumerate(selector.values())}
    for toleration in hardware.get("tolerations", ()):
        if "key" not in toleration:
            toleration["operator"] = "Exists"
        if toleration.get("operator") == "Exists":
            toleration.pop("value", None)
        if toleration.get("effect") != "NoExecute":
            toleration.pop("tolerationSeconds", None)
    resources = hardware.get("resources", {})
    limits = resources.get("limits", {})
    # Whatever was drawn is a quantity of memory; what comes whole is 1.
    resources["limits"] = {f"example.com/{number}": "1" for number, _ in enumerate(limits)} | dict(
        zip(("memory",), limits.values(), strict=False)
    )
    resources["requests"] = {"example.com/0": "1"} if limits and resources.get("requests") else {}
    hardware["resources"] = resources


def _mend_git(git: Json) -> None:
    # Nothing listens there: generated names of hosts are not asked for.
    git["repository"] = "https://127.0.0.1:1/fleet.git"
    git["path"] = "models/kustomization.yaml"
    if git.get("format") == "Values":
        git.setdefault("key", "models.$target")
    else:
        git.pop("key", None)
        git.pop("keys", None)
    if "mergeRequest" in git:
        git["mergeRequest"].pop("apiAddress", None)
        git.setdefault("branchPrefix", "coppice/")
        git.setdefault("credentialsSecretName", "fleet-git")


def _mend_target(target: Json) -> None:
    selector = target.get("selector", {})
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        target.pop("selector", None)
    if "selector" in target:
        target.pop("name", None)
    else:
        target.setdefault("name", "digits-a")
    inject = target.get("inject", {})
    if target.get("kind") == "InferenceService":
        target["inject"] = {"storageUri": True}
    elif inject.get("storageUri"):
        inject["storageUri"] = False


def _mend_check(check: Json) -> None:
    if "query" in check:
        check.pop("preset", None)
    else:
        check.setdefault("preset", "accuracy")
    ends = check["thresholdRange"]
    if not ends:
        ends["max"] = "1"
    if len(ends) == 2 and float(ends["min"]) > float(ends["max"]):
        ends["min"], ends["max"] = ends["max"], ends["min"]
