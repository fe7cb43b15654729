"""A zoo of our own on loopback that fails as it is told, for tests in any clone."""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from bmz.zoo.settings import ZooSettings


@dataclass
class Faults:
    """What goes wrong; each number counts down to 0.

    Parameters
    ----------
    busy : answers 503
    limited : answers 429 with ``Retry-After``
    cuts : answers that break off after `cut_after` bytes
    flips : bodies with one wrong bit
    refuse : status that every file is refused with; 0 for none
    slow_s : between two pieces of 64 KiB
    """

    busy: int = 0
    limited: int = 0
    retry_after: str = "5"
    cuts: int = 0
    cut_after: int = 20_000
    flips: int = 0
    refuse: int = 0
    slow_s: float = 0.0
    ranges: bool = True
    redirect: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> bool:
        with self.lock:
            left: int = getattr(self, name)
            if left:
                setattr(self, name, left - 1)
            return bool(left)


class Service(ThreadingHTTPServer):
    """Serves packages kept in memory: alias -> name -> content."""

    daemon_threads = True

    def __init__(self, packages: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.packages = packages
        self.faults = Faults()
        self.log: list[str] = []
        self.index_sha256: dict[str, str] = {}
        self.sent = 0
        self.dice = random.Random(0)  # noqa: S311  (no secret)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def settings(self, cache: Path, **more: object) -> ZooSettings:
        """Give settings with the real addresses, which the mirrors turn to here."""
        mirrors = (
            ("https://hypha.aicell.io", self.url),
            ("https://bioimage-io.github.io", self.url),
            ("https://huggingface.co", self.url + "/hf"),
        )
        given: dict[str, object] = {"mirrors": mirrors, **more}
        return ZooSettings(cache, **given)  # type: ignore[arg-type]  # handed through

    def asked_for(self, end: str) -> list[str]:
        return [line for line in self.log if urlsplit(line.split()[1]).path.endswith(end)]

    def index(self) -> bytes:
        items = []
        for alias, files in self.packages.items():
            name = "bioimageio.yaml" if "bioimageio.yaml" in files else "rdf.yaml"
            sha256 = self.index_sha256.get(alias) or hashlib.sha256(files[name]).hexdigest()
            source = (
                f"https://hypha.aicell.io/bioimage-io/artifacts/{alias}/files/{name}?version=v0"
            )
            version = {"version": "v0", "created_at": "", "source": source, "sha256": sha256}
            items.append({"id": f"bioimage-io/{alias}", "type": "model", "versions": [version]})
        other = {"id": "bioimage-io/some-data", "type": "dataset", "versions": []}
        return json.dumps({"items": [*items, other]}).encode()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up early are normal."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.log.append(f"GET {self.path} {self.headers.get('Range', '')}")
        faults = self.server.faults
        if faults.take("busy"):
            self._answer(503, b"busy", {})
        elif faults.take("limited"):
            self._answer(429, b'{"detail": "slow down"}', {"Retry-After": faults.retry_after})
        else:
            self._route(unquote(urlsplit(self.path).path).strip("/"))

    def _route(self, path: str) -> None:
        match path.split("/", 4):
            case ["collection", "index.json"]:
                self._answer(200, self.server.index(), {})
            case ["hf", org, name, "resolve", rest]:
                self._file(f"{org}/{name}", rest.split("/", 2)[-1])
            case ["bioimage-io", "artifacts", alias, "create-zip-file"]:
                self._zip(alias)
            case ["bioimage-io", "artifacts", alias, "files"]:
                self._listing(alias)
            case ["bioimage-io", "artifacts", alias, "files", name]:
                self._file(alias, name)
            case ["s3", alias, name]:
                self._file(alias, name, moved=True)
            case _:
                self._answer(404, b'{"detail": "Not Found"}', {})

    def _listing(self, alias: str) -> None:
        files = self.server.packages.get(alias, {})
        listed = [{"type": "file", "name": n, "size": len(c)} for n, c in files.items()]
        self._answer(200 if files else 404, json.dumps(listed).encode(), {})

    def _zip(self, alias: str) -> None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.server.packages[alias].items():
                archive.writestr(name, content)
        self._answer(200, buffer.getvalue(), {"Content-Type": "application/zip"})

    def _file(self, alias: str, name: str, *, moved: bool = False) -> None:
        faults = self.server.faults
        content = self.server.packages.get(alias, {}).get(name)
        if content is None or faults.refuse:
            return self._answer(faults.refuse or 404, b"File not found", {})
        if faults.redirect and not moved:
            return self._answer(
                307, b"", {"Location": f"https://hypha.aicell.io/s3/{alias}/{name}"}
            )
        tag = {"ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'}
        if content and faults.take("flips"):
            at = self.server.dice.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        span = self.headers.get("Range", "")
        if not span or not faults.ranges:
            return self._answer(200, content, tag)
        start = int(span.removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            return self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        where = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return self._answer(206, content[start:], tag | where)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        faults = self.server.faults
        if "ETag" in headers and len(body) > faults.cut_after and faults.take("cuts"):
            self.wfile.write(body[: faults.cut_after])
            self.close_connection = True
            self.connection.close()
            return
        for start in range(0, len(body), 2**16):
            self.wfile.write(body[start : start + 2**16])
            self.server.sent += 2**16
            if faults.slow_s:
                time.sleep(faults.slow_s)


@contextmanager
def serving(packages: dict[str, dict[str, bytes]]) -> Iterator[Service]:
    """Serve packages until the block ends."""
    service = Service(packages)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


WEIGHTS = random.Random(0).randbytes(200_000)  # noqa: S311
INPUT = random.Random(1).randbytes(3_000)  # noqa: S311


def manifest(alias: str, doi: str = "") -> bytes:
    text = f"type: model\nid: {doi or alias}\nname: {alias.title()}\n"
    return (text + f"config:\n  bioimageio:\n    nickname: {alias}\n").encode()


@pytest.fixture
def service() -> Iterator[Service]:
    files = {"weights.onnx": WEIGHTS, "test_input.npy": INPUT, "sub/more.txt": b"more"}
    packages = {
        "affable-shark": {"rdf.yaml": manifest("affable-shark"), **files},
        "kind-seashell": {
            "bioimageio.yaml": manifest("kind-seashell", "10.5281/zenodo.5874841/6630266"),
            "weights.onnx": WEIGHTS,
        },
        "broken-mouse": {"rdf.yaml": b"--removed--\nContent: form; name: x: y\n\xff"},
    }
    with serving(packages) as found:
        yield found


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note how long we would wait, and do not."""
    noted: list[float] = []
    monkeypatch.setattr("bmz.zoo.http.pause", noted.append)
    return noted
