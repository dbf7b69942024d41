"""Merge (pull) requests: found by their branch, opened where there is none. Blocking."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from coppice_api.modelrollout import GitProvider
from coppice_operator.delivery.change import Change
from coppice_operator.delivery.credentials import Credentials
from coppice_operator.delivery.errors import RemoteError
from coppice_operator.delivery.hosts import api_address
from coppice_operator.delivery.remote import pool

MAX_ANSWER_BYTES = 4 << 20


def find_or_open(change: Change, credentials: Credentials) -> tuple[str, str | None]:
    """Return the address of the change's merge request, and a sentence where nobody will merge it.

    Raises:
        RemoteError: If the API refuses or does not answer.
    """
    request = change.git.merge_request
    assert request is not None
    subject, _, body = change.message.partition("\n")
    if request.provider is GitProvider.GIT_HUB:
        return _github(change, credentials, subject, body.strip())
    return _gitlab(change, credentials, subject, body.strip())


def _github(change: Change, credentials: Credentials, title: str, body: str) -> tuple[str, str | None]:
    path = _repository_path(change.git.repository)
    url = f"{api_address(change.git)}/repos/{quote(path)}/pulls"
    headers = {
        "Authorization": f"Bearer {credentials.password}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    query = {"state": "all", "head": f"{path.partition('/')[0]}:{change.branch}", "base": change.git.branch}
    found = _ask(credentials, "GET", f"{url}?{urlencode(query)}", headers)
    fields = {"title": title, "body": body, "head": change.branch, "base": change.git.branch}
    item = found[0] if found else _ask(credentials, "POST", url, headers, fields)
    closed = item.get("state") == "closed" and not item.get("merged_at")
    return str(item["html_url"])[:2048], _closed(closed)


def _gitlab(change: Change, credentials: Credentials, title: str, body: str) -> tuple[str, str | None]:
    url = f"{api_address(change.git)}/projects/{quote(_repository_path(change.git.repository), safe='')}/merge_requests"
    headers = {"PRIVATE-TOKEN": credentials.password or ""}
    query = {"source_branch": change.branch, "target_branch": change.git.branch, "state": "all"}
    found = _ask(credentials, "GET", f"{url}?{urlencode(query)}", headers)
    fields = {
        "title": title,
        "description": body,
        "source_branch": change.branch,
        "target_branch": change.git.branch,
        "remove_source_branch": True,
    }
    item = found[0] if found else _ask(credentials, "POST", url, headers, fields)
    return str(item["web_url"])[:2048], _closed(item.get("state") == "closed")


def _closed(closed: bool) -> str | None:
    return "the merge request was closed without a merge: open it again, or abort the rollout" if closed else None


def _ask(credentials: Credentials, method: str, url: str, headers: dict[str, str], fields: Any = None) -> Any:
    host = urlsplit(url).hostname
    body = None if fields is None else json.dumps(fields)
    try:
        response = pool(credentials).request(
            method, url, body=body, headers={**headers, "Content-Type": "application/json"}, preload_content=False
        )
        with response:
            text = response.read(MAX_ANSWER_BYTES)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RemoteError(f"cannot ask {host} for a merge request: {type(error).__name__}") from error
    if response.status >= 300:
        raise RemoteError(
            f"{host} answers {response.status} to a merge request: check the token's rights and "
            "strategy.git.mergeRequest"
        )
    try:
        document = json.loads(text)
        if isinstance(document, list):
            return document
        return {"html_url": document.get("html_url"), "web_url": document.get("web_url"), **document}
    except (ValueError, AttributeError, RecursionError) as error:
        raise RemoteError(f"{host} does not answer as the API of strategy.git.mergeRequest.provider does") from error


def _repository_path(repository: str) -> str:
    path = urlsplit(repository).path if "://" in repository else repository.partition(":")[2]
    return path.strip("/").removesuffix(".git")
