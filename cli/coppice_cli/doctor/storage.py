"""Where results go: written, read back and removed, through the storage that a run uses."""

from __future__ import annotations

import os
from collections.abc import Mapping

from coppice_cli.doctor.finding import Finding, Verdict

_CHECK = "machine/storage"


def examine(uri: str, *, claim_mounts: Mapping[str, str]) -> Finding:
    """Write one small file under a prefix, read it, remove it.

    Args:
        uri: As in spec.output.uri.
        claim_mounts: Directories that stand for claims of pvc:// URIs.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "pvc" and rest.partition("/")[0] not in claim_mounts:
        return Finding(
            _CHECK, Verdict.UNKNOWN, f"{uri} is a claim of a cluster, which is not mounted here",
            f"--claim {rest.partition('/')[0]}=DIRECTORY names a directory that stands for it",
        )  # fmt: skip
    from coppice_pruner.errors import PrunerError
    from coppice_pruner.storage import open_place

    name, content = f".coppice-doctor-{os.getpid()}", os.urandom(16)
    try:
        place = open_place(uri, field="--storage", claim_mounts=claim_mounts)
        place.write(name, content)
        back = place.read(name)
        place.remove(name)
    except PrunerError as error:
        return Finding(_CHECK, Verdict.PROBLEM, str(error), _mend(scheme))
    if back != content:
        return Finding(
            _CHECK, Verdict.PROBLEM, f"{uri} gives back something else than was written",
            "use a store that shows a file as soon as it is written",
        )  # fmt: skip
    return Finding(_CHECK, Verdict.OK, f"{uri} can be written and read")


def _mend(scheme: str) -> str:
    if scheme in ("file", "pvc"):
        return "give this user the right to write there; runs in a cluster are user and group 65532"
    return (
        "give the environment the store's credentials (for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, away from "
        "AWS, AWS_ENDPOINT_URL); runs in a cluster take them from run.credentialsSecretName"
    )
