"""A bare repository and what a person would do with it, through the git program."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ENVIRONMENT = {
    **os.environ,
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.com",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
}
COMPONENT = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\npatches: []\n"


def git(*arguments: str, cwd: Path | None = None, check: bool = True) -> str:
    """Run git and return what it prints."""
    result = subprocess.run(
        ["git", *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert not check or result.returncode == 0, f"git {' '.join(arguments)}: {result.stderr}"
    return result.stdout


class FleetRepository:
    """A bare repository with one branch, main.

    Args:
        path: Where it is made.
        files: What main holds at first.
    """

    def __init__(self, path: Path, files: dict[str, str]) -> None:
        self.path = path
        git("init", "--bare", "--initial-branch=main", str(path))
        git("config", "http.receivepack", "true", cwd=path)
        git("config", "receive.denyNonFastForwards", "true", cwd=path)
        self.commit("First", files)

    def commit(self, message: str, files: dict[str, str | None], branch: str = "main") -> str:
        """Commit files as a person would, and return the commit."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            git("clone", "-q", str(self.path), str(work / "c"))
            work = work / "c"
            git("checkout", "-q", "-B", branch, *([f"origin/{branch}"] if self.has(branch) else []), cwd=work)
            for name, text in files.items():
                file = work / name
                if text is None:
                    file.unlink()
                else:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(text.encode())
            git("add", "-A", cwd=work)
            git("commit", "-q", "--allow-empty", "-m", message, cwd=work)
            git("push", "-q", "origin", f"HEAD:{branch}", cwd=work)
        return self.head(branch)

    def merge(self, branch: str, into: str = "main") -> None:
        """Merge a branch as a host's button does."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "c"
            git("clone", "-q", "--branch", into, str(self.path), str(work))
            git("merge", "-q", "--no-ff", "-m", f"Merge {branch}", f"origin/{branch}", cwd=work)
            git("push", "-q", "origin", into, cwd=work)

    def revert(self, commit: str, branch: str = "main") -> str:
        """Revert a commit as a person does."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "c"
            git("clone", "-q", "--branch", branch, str(self.path), str(work))
            git("revert", "--no-edit", commit, cwd=work)
            git("push", "-q", "origin", branch, cwd=work)
        return self.head(branch)

    def has(self, branch: str) -> bool:
        """Return whether a branch exists."""
        return bool(git("branch", "--list", branch, cwd=self.path).strip())

    def branches(self) -> list[str]:
        """Return the names of all branches."""
        return git("for-each-ref", "--format=%(refname:short)", "refs/heads", cwd=self.path).split()

    def head(self, branch: str = "main") -> str:
        """Return a branch's commit."""
        return git("rev-parse", f"refs/heads/{branch}", cwd=self.path).strip()

    def read(self, name: str, at: str = "main") -> str:
        """Return a file's text."""
        return subprocess.run(
            ["git", "show", f"{at}:{name}"], cwd=self.path, capture_output=True, check=True, timeout=60
        ).stdout.decode()

    def messages(self, branch: str = "main") -> list[str]:
        """Return the commit messages, newest first."""
        return [
            text.strip() for text in git("log", "--format=%B%x00", branch, cwd=self.path).split("\0") if text.strip()
        ]

    def parents(self, commit: str) -> list[str]:
        """Return a commit's parents."""
        return git("rev-list", "--parents", "-n1", commit, cwd=self.path).split()[1:]

    def check_out(self, folder: Path, branch: str = "main") -> None:
        """Put a branch's files into a folder, as a GitOps tool does."""
        shutil.rmtree(folder, ignore_errors=True)
        git("clone", "-q", "--branch", branch, str(self.path), str(folder))
