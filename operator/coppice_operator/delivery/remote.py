"""One remote repository: fetch what is near the tip, push one commit. Blocking; every step has a time limit.

Objects are kept in memory: a change needs one file and its past, not a checkout.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from dulwich.client import GitClient, HTTPUnauthorized, SSHGitClient, Urllib3HttpGitClient
from dulwich.errors import GitProtocolError, NotGitRepository, SendPackError
from dulwich.objects import ObjectID, ShaFile
from dulwich.pack import UnpackedObject, pack_objects_to_data
from dulwich.refs import Ref
from dulwich.repo import MemoryRepo

from coppice_operator.delivery.credentials import Credentials, host_of
from coppice_operator.delivery.errors import CredentialsError, DeliveryError, RemoteError
from coppice_operator.delivery.ssh import ParamikoVendor

STEP_SECONDS = 20.0
"""Of one connection, one read or one write."""
MAX_FETCHED_BYTES = 128 << 20


class MovedError(Exception):
    """The branch is not what it was when it was fetched; the text is what the server said, if anything."""


@dataclass(frozen=True)
class Fetched:
    """What is near the tips asked for."""

    repository: MemoryRepo
    heads: dict[str, ObjectID]
    """Branches that exist, of those asked for."""


class Remote:
    """A repository by its clone URL.

    Args:
        url: https, ssh, or user@host:path.
        credentials: For its server.
        deadline: time.monotonic() at which the whole is given up.

    Raises:
        CredentialsError: If the URL carries credentials.
    """

    def __init__(self, url: str, credentials: Credentials, deadline: float) -> None:
        self.host, self._deadline = host_of(url), deadline
        self._client, self._path = _client(url, credentials)

    def fetch(self, branches: Set[str], depth: int) -> Fetched:
        """Fetch the last commits of some branches.

        Raises:
            RemoteError: If that fails.
        """
        repository = MemoryRepo()
        asked = {_ref(branch): branch for branch in branches}
        heads: dict[str, ObjectID] = {}

        def wants(refs: Mapping[Ref, ObjectID], depth: int | None = None) -> list[ObjectID]:
            heads.update({asked[name]: sha for name, sha in refs.items() if name in asked and sha})
            return list(set(heads.values()))

        file, commit, abort = repository.object_store.add_pack()
        size = 0

        def take(data: bytes) -> int:
            nonlocal size
            size += len(data)
            if size > MAX_FETCHED_BYTES:
                raise RemoteError(f"the last {depth} commits have more than {MAX_FETCHED_BYTES >> 20} MiB")
            self._check_time()
            return file.write(data)

        try:
            result = self._client.fetch_pack(
                self._path, wants, repository.get_graph_walker(), take, depth=depth, ref_prefix=[*asked]
            )
        except BaseException as error:
            abort()
            raise self._translated(error, "read") from error
        if heads:
            commit()
            repository.update_shallow(result.new_shallow, result.new_unshallow)
        else:
            abort()
        return Fetched(repository, heads)

    def push(self, branch: str, commit: ObjectID, objects: list[ShaFile], *, parent: ObjectID | None) -> None:
        """Move a branch from `parent` to `commit`; a branch that is elsewhere by now stays there.

        Args:
            branch: Its name.
            commit: A child of `parent`, or of a commit that the remote has.
            objects: All that the remote lacks.
            parent: Where the branch must be; None: it must not exist.

        Raises:
            MovedError: If it is not there, or the server refuses to move it.
            RemoteError: If the rest fails.
        """
        ref = _ref(branch)

        def update(refs: dict[Ref, ObjectID]) -> dict[Ref, ObjectID]:
            self._check_time()
            if refs.get(ref) != parent:
                raise MovedError("")
            return {ref: commit}

        def pack(have: Set[ObjectID], want: Set[ObjectID], **_: Any) -> tuple[int, Iterator[UnpackedObject]]:
            return pack_objects_to_data(objects)

        try:
            result = self._client.send_pack(self._path, update, pack)
        except MovedError:
            raise
        except BaseException as error:
            raise self._translated(error, "write") from error
        refusal = (result.ref_status or {}).get(ref)
        if refusal:
            raise MovedError(refusal)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise RemoteError(f"{self.host} is too slow: given up")

    def _translated(self, error: BaseException, what: str) -> BaseException:
        match error:
            case DeliveryError():
                return error
            case HTTPUnauthorized():
                return RemoteError(f"{self.host} does not accept the username and password of the Secret to {what}")
            case NotGitRepository():
                return RemoteError(f"{self.host} shows no repository there to {what}: check strategy.git.repository")
            case GitProtocolError() | SendPackError() | OSError() | urllib3.exceptions.HTTPError():
                return RemoteError(f"cannot {what} at {self.host}: {' '.join(str(error).split())[:400]}")
            case Exception():
                # A server that does not speak git can make dulwich raise anything.
                return RemoteError(f"cannot {what} at {self.host}: {type(error).__name__}")
        return error


def _ref(branch: str) -> Ref:
    return Ref(b"refs/heads/" + branch.encode())


def pool(credentials: Credentials) -> urllib3.PoolManager:
    """Return connections that verify certificates, follow no redirect and repeat nothing."""
    return urllib3.PoolManager(
        cert_reqs="CERT_REQUIRED",
        ca_cert_data=credentials.ca_certificate,
        timeout=urllib3.Timeout(connect=STEP_SECONDS, read=STEP_SECONDS),
        retries=urllib3.Retry(total=0, raise_on_redirect=False),
    )


def _client(url: str, credentials: Credentials) -> tuple[GitClient, bytes]:
    if url.startswith("https://"):
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise CredentialsError("strategy.git.repository carries a user or a token: put them into a Secret")
        client: GitClient = Urllib3HttpGitClient(
            f"https://{parts.netloc}",
            pool_manager=pool(credentials),
            username=credentials.username if credentials.password is not None else None,
            password=credentials.password,
            thin_packs=False,
            quiet=True,
        )
        return client, parts.path.encode()
    if url.startswith("ssh://"):
        parts = urlsplit(url)
        host, port, user, path = parts.hostname or "", parts.port, parts.username, parts.path
    else:
        user, _, rest = url.partition("@")
        host, _, path = rest.partition(":")
        port = None
    vendor = ParamikoVendor(credentials, STEP_SECONDS)
    return SSHGitClient(host, port=port, username=user, vendor=vendor, thin_packs=False, quiet=True), path.encode()
