"""Where delivery goes: the repository's host and that of its merge requests."""

from __future__ import annotations

from urllib.parse import urlsplit

from coppice_api.modelrollout import GitDelivery, GitProvider
from coppice_operator.delivery.credentials import host_of

PUBLIC = {GitProvider.GIT_HUB: "https://api.github.com", GitProvider.GIT_LAB: "https://gitlab.com/api/v4"}


def api_address(git: GitDelivery) -> str:
    """Return the base URL of the API that opens merge requests."""
    assert git.merge_request is not None
    return (git.merge_request.api_address or PUBLIC[git.merge_request.provider]).rstrip("/")


def hosts(git: GitDelivery) -> set[str]:
    """Return the hosts that delivery gives credentials to."""
    found = {host_of(git.repository)}
    if git.merge_request is not None:
        # api.github.com is github.com's own.
        found.add((urlsplit(api_address(git)).hostname or "").lower().removeprefix("api."))
    return found
