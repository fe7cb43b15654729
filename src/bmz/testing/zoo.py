"""A zoo of a few small packages on loopback, with the addresses of the live one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class SmallZoo(ThreadingHTTPServer):
    """Serves every folder with a manifest below `folder`, and an index of them.

    Parameters
    ----------
    folder : holds a package per folder, named by its alias

    Attributes
    ----------
    reports : alias -> what is served as the summary of the reports of other tools
    log : paths that were asked for, in order
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.reports: dict[str, Any] = {}
        self.log: list[str] = []

    @property
    def url(self) -> str:
        """Give the address of the service."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def index_url(self) -> str:
        """Give the address of the index."""
        return f"{self.url}/collection/index.json"

    def index(self) -> dict[str, Any]:
        """Give the index in the form of the live one."""
        manifests = [*self.folder.glob("*/bioimageio.yaml"), *self.folder.glob("*/rdf.yaml")]
        return {"items": [self._item(path) for path in sorted(manifests)]}

    def _item(self, manifest: Path) -> dict[str, Any]:
        alias = manifest.parent.name
        version = {
            "version": "v0",
            "created_at": "2026-05-19T13:10:20Z",
            "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
            "source": f"{self.url}/bioimage-io/artifacts/{alias}/files/{manifest.name}?version=v0",
        }
        return {"id": f"bioimage-io/{alias}", "type": "model", "versions": [version]}

    def body(self, path: str) -> bytes | None:
        """Give what lies at a path of the service; None for nothing."""
        match path.split("/"):
            case ["collection", "index.json"]:
                return json.dumps(self.index()).encode()
            case ["collection", "reports", "bioimage-io", alias, "v0", "summary.json"]:
                return json.dumps(self.reports[alias]).encode() if alias in self.reports else None
            case ["bioimage-io", "artifacts", alias, "files"] if (self.folder / alias).is_dir():
                files = [path for path in (self.folder / alias).iterdir() if path.is_file()]
                sizes = [{"name": p.name, "size": p.stat().st_size} for p in sorted(files)]
                return json.dumps([{"type": "file", **size} for size in sizes]).encode()
            case ["bioimage-io", "artifacts", alias, "files", name]:
                file = self.folder / alias / name
                return file.read_bytes() if file.is_file() else None
        return None


class _Handler(BaseHTTPRequestHandler):
    server: SmallZoo

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer with what lies there."""
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.log.append(path)
        body = self.server.body(path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@contextmanager
def small_zoo(folder: Path) -> Iterator[SmallZoo]:
    """Serve `folder` until the block ends."""
    server = SmallZoo(folder)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
