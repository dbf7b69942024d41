"""git's own http-backend behind TLS and basic authentication."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.git_servers.repository import ENVIRONMENT, git
from tests.serving import serving


def certificate(folder: Path) -> Path:
    """Make a self-signed certificate for 127.0.0.1; its key lies in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def public_part(pem: Path) -> str:
    """Return the certificate without its key."""
    text = pem.read_text()
    return text[text.index("-----BEGIN CERTIFICATE-----") :]


@contextlib.contextmanager
def https_server(handler: type[BaseHTTPRequestHandler], pem: Path) -> Iterator[str]:
    """Serve over TLS on a free port; yields `https://127.0.0.1:port`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving(handler, "https", context) as address:
        yield f"https://{address}"


@contextlib.contextmanager
def git_https(
    root: Path, username: str, password: str, *, before_push: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, str]]:
    """Serve the repositories under a folder; yields the address and its certificate.

    Args:
        root: Folder of repositories.
        username: Who may read and write.
        password: The token.
        before_push: Called before a push's pack is handed to git, after the client has seen the branches.
    """
    wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
    backend = Path(git("--exec-path").strip()) / "git-http-backend"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def log_message(self, *_: object) -> None:
            pass

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                data = b""
                while size := int(self.rfile.readline(), 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def _serve(self) -> None:
            body = self._body()
            if self.headers.get("Authorization") != wanted:
                self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            path, _, query = self.path.partition("?")
            if path.endswith("/git-receive-pack"):
                before_push()
            environment = {
                **ENVIRONMENT,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": os.path.normpath(path),
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_USER": username,
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            done = subprocess.run([str(backend)], input=body, env=environment, capture_output=True, check=False)
            head, _, rest = done.stdout.partition(b"\r\n\r\n")
            fields = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n") if ": " in line]
            status = next((int(value.split()[0]) for key, value in fields if key == "Status"), 200)
            self._answer(status, [(key, value) for key, value in fields if key != "Status"], rest)

        def _answer(self, status: int, fields: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for key, value in fields:
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    pem = certificate(root)
    with https_server(Handler, pem) as address:
        yield address, public_part(pem)
