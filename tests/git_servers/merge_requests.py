"""A stand-in for the merge request APIs of GitHub and GitLab: the calls we make, over TLS, with a token."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.git_servers.https import https_server


class Requests:
    """What was asked of the API."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.state = "open"


@contextlib.contextmanager
def merge_request_api(pem: Path, token: str) -> Iterator[tuple[str, Requests]]:
    """Serve both APIs; yields the address and what was asked."""
    requests = Requests()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve(None)

        def do_POST(self) -> None:
            self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self, body: dict[str, Any] | None) -> None:
            parts = urlsplit(self.path)
            requests.asked.append((self.command, unquote(parts.path)))
            github = parts.path.startswith("/api/v3/repos/")
            given = self.headers.get("Authorization") if github else self.headers.get("PRIVATE-TOKEN")
            if given != (f"Bearer {token}" if github else token):
                self._answer(401, {"message": "Bad credentials"})
            elif body is not None:
                if any(self._source(entry) == self._source(body) for entry in requests.opened):
                    self._answer(422 if github else 409, {"message": "it exists already"})
                    return
                requests.opened.append(body)
                self._answer(201, self._shown(body, github))
            else:
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                assert query["state"] == "all"
                branch = query["head"].partition(":")[2] if github else query["source_branch"]
                found = [entry for entry in requests.opened if self._source(entry) == branch]
                self._answer(200, [self._shown(entry, github) for entry in found])

        @staticmethod
        def _source(entry: dict[str, Any]) -> str:
            return str(entry.get("head") or entry["source_branch"])

        def _shown(self, entry: dict[str, Any], github: bool) -> dict[str, Any]:
            url = f"https://host.example.com/{self._source(entry)}"
            if github:
                return {"html_url": url, "state": requests.state, "merged_at": None}
            return {"web_url": url, "state": "opened" if requests.state == "open" else requests.state}

        def _answer(self, status: int, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    with https_server(Handler, pem) as address:
        yield address, requests
