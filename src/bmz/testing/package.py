"""Small packages, and a zoo that serves them on loopback with the paths of the real zoo."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

Description = dict[str, Any]
"""A manifest as plain values; it is written as JSON, which is valid YAML."""


def description(
    *,
    size: int | dict[str, int] | None = None,
    channels: int = 1,
    space: str = "yx",
    halo: int = 0,
) -> Description:
    """Return the description of a segmentation model; its one input and output have equal sizes.

    Parameters
    ----------
    size : size of every spatial axis; ``{"min": 16, "step": 8}`` by default
    channels : number of channels of input and output
    space : ``yx`` or ``zyx``
    halo : halo of the output in px
    """
    rule = {"min": 16, "step": 8} if size is None else size
    names = [f"stain {number}" for number in range(channels)]
    channel = {"type": "channel", "channel_names": names}
    axes = [{"type": "space", "id": axis, "size": rule} for axis in space]
    mapped = [
        {"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}}
        | ({"halo": halo} if halo else {})
        for axis in space
    ]
    tensor = {"data": {"type": "float32"}}
    batch = {"type": "batch"}
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": "Identity for tests",
        "description": "Returns its input.",
        "authors": [{"name": "bmz developers"}],
        "cite": [{"text": "none", "url": "https://example.com"}],
        "license": "CC0-1.0",
        "tags": ["instance-segmentation"],
        "documentation": "README.md",
        "inputs": [tensor | {"id": "image", "axes": [batch, channel, *axes]}],
        "outputs": [
            {"id": "map", "data": {"type": "float32", "range": [0.0, 1.0]}}
            | {"axes": [batch, channel, *mapped]}
        ],
        "weights": {"onnx": {"source": "weights.onnx", "opset_version": 17}},
    }


def write_package(
    folder: Path,
    described: Description | None = None,
    *,
    change: Callable[[Description], None] | None = None,
) -> Path:
    """Write a package whose network returns each input as an output.

    Needs the package ``onnx``. Test tensors and hashes are added to the description.

    Parameters
    ----------
    folder : folder to create
    described : result of `description`; it is modified in place
    change : function that may alter the description just before it is written

    Returns
    -------
    Path
        path of the manifest
    """
    content = described or description()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("# Identity for tests\n", encoding="utf-8")
    ranks = [len(tensor["axes"]) for tensor in content["inputs"]]
    write_identity(folder / "weights.onnx", ranks)
    content["weights"]["onnx"]["sha256"] = sha256_of(folder / "weights.onnx")
    for kind in ("inputs", "outputs"):
        for number, tensor in enumerate(content[kind]):
            name = f"test_{kind}_{number}.npy"
            np.save(folder / name, _example(tensor, content["inputs"]))
            tensor["test_tensor"] = {"source": name, "sha256": sha256_of(folder / name)}
    if change is not None:
        change(content)
    manifest = folder / "bioimageio.yaml"
    manifest.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return manifest


def put_state_dict(
    folder: Path,
    content: Description,
    code: str,
    state: Mapping[str, Any],
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Replace the weights of a package by a state dict with the code that builds its network.

    Needs PyTorch. Call it from the `change` of `write_package`.

    Parameters
    ----------
    code : content of a Python file with a class ``Net``
    state : name -> tensor
    kwargs : keyword arguments of ``Net``
    """
    import torch

    (folder / "net.py").write_text(code, encoding="utf-8")
    torch.save(dict(state), folder / "weights.pt")
    (folder / "weights.onnx").unlink()
    architecture = {"source": "net.py", "callable": "Net", "kwargs": dict(kwargs or {})}
    content["weights"] = {
        "pytorch_state_dict": {
            "source": "weights.pt",
            "sha256": sha256_of(folder / "weights.pt"),
            "pytorch_version": "2.6",
            "architecture": {**architecture, "sha256": sha256_of(folder / "net.py")},
        }
    }


def _example(tensor: Description, inputs: list[Description]) -> np.ndarray[Any, Any]:
    like = {
        (description["id"], axis.get("id")): axis.get("size")
        for description in inputs
        for axis in description["axes"]
    }
    shape = []
    for axis in tensor["axes"]:
        size = axis.get("size", 1)
        if isinstance(size, dict) and "axis_id" in size:
            size = like[size["tensor_id"], size["axis_id"]]
        least = size.get("min", 1) if isinstance(size, dict) else size
        shape.append(len(axis["channel_names"]) if axis["type"] == "channel" else least)
    example = np.random.default_rng(0).random(shape, dtype=np.float32)
    return example.astype(tensor["data"]["type"])


def write_identity(path: Path, ranks: list[int], *, op: str = "Identity") -> None:
    """Write an ONNX network that returns each input and accepts any size.

    Parameters
    ----------
    ranks : number of axes of each input
    op : operator with one input, such as ``Log``, to apply to each value instead
    """
    from onnx import TensorProto, ValueInfoProto, checker, helper, save_model

    def value(name: str, rank: int) -> ValueInfoProto:
        free = [f"{name}_{axis}" for axis in range(rank)]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, free)

    numbered = list(enumerate(ranks))
    nodes = [helper.make_node(op, [f"in{i}"], [f"out{i}"]) for i, _ in numbered]
    inputs = [value(f"in{i}", rank) for i, rank in numbered]
    outputs = [value(f"out{i}", rank) for i, rank in numbered]
    graph = helper.make_graph(nodes, "identity", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save_model(model, str(path))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class SmallZoo(ThreadingHTTPServer):
    """Server of every folder with a manifest in `folder`, and of an index of them.

    Parameters
    ----------
    folder : contains one folder per package, named by its alias

    Attributes
    ----------
    reports : alias -> summary of the reports of other tools that is served
    log : requested paths, in order
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.reports: dict[str, Any] = {}
        self.log: list[str] = []

    @property
    def url(self) -> str:
        """Return the address of the service."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def index_url(self) -> str:
        """Return the address of the index."""
        return f"{self.url}/collection/index.json"

    def index(self) -> dict[str, Any]:
        """Return the index in the form of the real zoo."""
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
        """Return the content at a path of the service; None if there is none."""
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
        """Send the content at the requested path."""
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
