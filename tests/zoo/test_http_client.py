"""One client asks patiently, politely and never without proof of who answers."""

from __future__ import annotations

import io
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bmz.base.progress import nobody
from bmz.zoo.errors import CertificateRefused, Refused, Unreachable
from bmz.zoo.http import Answer, Client, RetryError
from bmz.zoo.settings import ZooSettings
from bmz.zoo.transfer import Download, Parcel, bring

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

WEIGHTS = "/bioimage-io/artifacts/affable-shark/files/weights.onnx"


class Handler(BaseHTTPRequestHandler):
    """Answers as the class of a test says: status, headers, body."""

    status = 200
    headers_sent: tuple[tuple[str, str], ...] = ()
    body = b"hello"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in self.headers_sent:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)


@pytest.fixture
def web(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve one answer for every address."""
    handler = type("Told", (Handler,), request.param)
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/x"
        server.shutdown()
        thread.join()


def answer(**told: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("web", [told], indirect=True)


@answer(status=302, headers_sent=(("Location", "/again"),))
def test_an_address_that_leads_on_and_on_is_refused(web: str, tmp_path: Path) -> None:
    with (
        Client(ZooSettings(tmp_path)) as client,
        pytest.raises(Refused, match="redirects too often"),
    ):
        client.get(web)


@answer()
def test_an_answer_that_is_far_too_long_is_refused(
    web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.zoo.http.MOST_BYTES", 3)

    with Client(ZooSettings(tmp_path)) as client, pytest.raises(Refused, match="more than 3"):
        client.get(web)


@answer(status=500, body=b'{"detail": "Artifact version \'v9\' does not exist."}')
def test_a_version_that_is_not_there_is_no_reason_to_try_again(
    web: str, tmp_path: Path, waits: list[float]
) -> None:
    with Client(ZooSettings(tmp_path)) as client, pytest.raises(Refused, match="v9"):
        client.get(web)

    assert not waits


@answer(status=503, headers_sent=(("Retry-After", "3600"),))
def test_nobody_waits_for_an_hour(web: str, tmp_path: Path, waits: list[float]) -> None:
    with Client(ZooSettings(tmp_path)) as client, pytest.raises(Unreachable):
        client.get(web)

    assert not waits


def test_a_secure_address_may_not_lead_to_an_insecure_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    def lead_on(_: object, url: str, **__: object) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url = 302, url
        response.headers["location"] = "http://a.org/x"
        response.raw = io.BytesIO()
        return response

    monkeypatch.setattr("requests.Session.get", lead_on)

    with Client(ZooSettings(tmp_path)) as client, pytest.raises(Refused, match="insecure"):
        client.get("https://a.org/x")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run([*make, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    class Quiet(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """The client hangs up, and is right to."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with Client(ZooSettings(tmp_path)) as client, pytest.raises(CertificateRefused):
                client.get(f"https://127.0.0.1:{server.server_port}/x")
        finally:
            server.shutdown()
            thread.join()


def lay_part(folder: Path, body: bytes, tag: str) -> None:
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(body)
    (folder / "etag").write_text(tag)


def tag_of(body: bytes) -> str:
    from hashlib import md5

    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'


@pytest.mark.parametrize("tail", [b"", b"too much"])
def test_a_part_that_is_whole_is_taken_and_one_that_is_longer_begun_anew(
    service: Service, tmp_path: Path, tail: bytes
) -> None:
    body = service.packages["affable-shark"]["weights.onnx"]
    lay_part(tmp_path / "room", body + tail, tag_of(body))

    with Client(ZooSettings(tmp_path)) as client:
        found = bring(client, Parcel(service.url + WEIGHTS, tmp_path / "room", "w"), None, nobody)

    assert found.path is not None
    assert found.path.read_bytes() == body
    assert len(service.log) == (2 if tail else 1)


@pytest.mark.parametrize("tag", ["", '"of another file"'])
def test_a_part_of_who_knows_what_is_never_continued(
    service: Service, tmp_path: Path, tag: str
) -> None:
    body = service.packages["affable-shark"]["weights.onnx"]
    lay_part(tmp_path / "room", b"?" * 30_000, tag)

    with Client(ZooSettings(tmp_path)) as client:
        found = bring(client, Parcel(service.url + WEIGHTS, tmp_path / "room", "w"), None, nobody)

    assert found.path is not None
    assert found.path.read_bytes() == body


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        (206, {"content-range": "bytes 7-9/10", "etag": '"t"'}, "does not start"),
        (206, {"content-range": "bytes 3-9/10", "etag": '"u"'}, "has changed"),
        (206, {"content-range": "bytes 3-9/4", "etag": '"t"'}, "bytes arrived instead of 4"),
        (206, {"content-range": "bytes 3-9/99", "etag": '"t"'}, "10 of 99 bytes"),
        (200, {"content-length": "9"}, "7 of 9 bytes"),
    ],
)
def test_a_rest_that_does_not_fit_is_not_glued_on(
    tmp_path: Path, status: int, headers: dict[str, str], why: str
) -> None:
    lay_part(tmp_path / "room", b"012", '"t"')
    parcel = Parcel("http://x", tmp_path / "room", "w")
    download = Download(Client(ZooSettings(tmp_path)), parcel, nobody)

    with pytest.raises(RetryError, match=why):
        download._take(Answer(status, headers, iter([b"3456789"])), 3, '"t"')
