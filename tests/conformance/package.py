"""Write the stand-in package of a manifest: the same manifest over other files."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.conformance.formats import (
    ARCHITECTURE,
    WRITERS,
    ToWrite,
    run_torch,
    torch_module,
)
from tests.conformance.manifest import Content, Manifest, read_manifest
from tests.conformance.network import (
    finished,
    make_network,
    prepared,
    random_of,
    sizes_of_inputs,
    test_input,
)

Array = NDArray[Any]


@dataclass(frozen=True)
class StandIn:
    """A package that was written.

    Parameters
    ----------
    folder : of the package
    manifest : of the live model
    inputs, outputs : the test tensors
    notes : what had to differ from the live manifest beyond sources and hashes
    """

    folder: Path
    manifest: Manifest
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    notes: tuple[str, ...]


def write_standin(live: Path, folder: Path) -> StandIn:
    """Write a stand-in.

    Parameters
    ----------
    live : the manifest of the live model
    folder : of the package; it is made

    Raises
    ------
    NoStandIn, ValueError
        The manifest cannot be read, or says what no network can do.
    """
    manifest = read_manifest(live)
    random = random_of(manifest.alias)
    sizes = sizes_of_inputs(manifest)
    inputs = tuple(test_input(tensor, sizes, random) for tensor in manifest.inputs)
    ready = tuple(
        prepared(tensor, x, old=manifest.old)
        for tensor, x in zip(manifest.inputs, inputs, strict=True)
    )
    network = make_network(manifest, sizes, ready, random)
    module = torch_module(network)
    outputs = tuple(
        finished(tensor, y)
        for tensor, y in zip(manifest.outputs, run_torch(module, ready), strict=True)
    )
    folder.mkdir(parents=True)
    content = copy.deepcopy(manifest.content)
    notes = []
    for name in manifest.formats:
        entry = content["weights"][name]
        if name == "pytorch_state_dict":
            notes += list(_write_architecture(entry, network.kwargs, folder, old=manifest.old))
        told = ToWrite(
            folder / entry["source"], entry, network, module,
            tuple(t.name for t in manifest.inputs), tuple(t.name for t in manifest.outputs), ready,
        )  # fmt: skip
        WRITERS[name](told)
    _write_tensors(content, inputs, outputs, folder, old=manifest.old)
    for name in _other_files(content):
        _write_filler(folder / name)
    _state_hashes(content, folder)
    _write_manifest(content, folder / "rdf.yaml")
    return StandIn(folder, manifest, inputs, outputs, tuple(notes))


def _write_architecture(
    entry: Content, kwargs: Mapping[str, Any], folder: Path, *, old: bool
) -> Iterator[str]:
    """Put our own architecture in the place of the declared one, under its name if it has one."""
    if old:
        file, colon, name = entry["architecture"].partition(":")
        imported = "" if colon else entry["architecture"]
        file, name = (file, name) if colon else (ARCHITECTURE.name, imported.rpartition(".")[2])
        entry["architecture"], entry["kwargs"] = f"{file}:{name}", dict(kwargs)
    else:
        written = entry["architecture"]
        imported, name = written.pop("import_from", ""), written["callable"]
        file = written.setdefault("source", ARCHITECTURE.name)
        written["kwargs"] = dict(kwargs)
    code = ARCHITECTURE.read_text(encoding="utf-8")
    (folder / file).write_text(f"{code}\n\n{name} = StandIn\n", encoding="utf-8")
    sha256 = sha256_of(folder / file)
    (entry if old else entry["architecture"])["architecture_sha256" if old else "sha256"] = sha256
    if imported:
        yield f"own architecture file in place of {imported.partition('.')[0]}"


def _write_tensors(
    content: Content, inputs: Sequence[Array], outputs: Sequence[Array], folder: Path, *, old: bool
) -> None:
    for kind, arrays in (("input", inputs), ("output", outputs)):
        for part in ("test", "sample"):
            if old:
                names = content.get(f"{part}_{kind}s") or []
            else:
                entries = [tensor.get(f"{part}_tensor") for tensor in content[f"{kind}s"]]
                names = [entry["source"] if entry else None for entry in entries]
            for name, array in zip(names, arrays, strict=False):  # not every one has a sample
                if name is not None:
                    _write_array(folder / name, array)


def _write_array(path: Path, array: Array) -> None:
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        _write_picture(path, array)


def _write_picture(path: Path, array: Array) -> None:
    import tifffile
    from PIL import Image

    if path.suffix in {".tif", ".tiff"}:
        kept = array.astype(np.uint8) if array.dtype == bool else array
        tifffile.imwrite(path, np.squeeze(kept), photometric="minisblack")
    else:
        plane = np.squeeze(array)
        plane = plane[(0,) * (plane.ndim - 2)]
        Image.fromarray(plane.astype(np.uint8)).save(path)


def _other_files(content: Content) -> Iterator[str]:
    """Yield the files that are neither tensors nor weights."""
    attached = content.get("attachments") or []
    attached = attached.get("files", []) if isinstance(attached, dict) else attached
    listed = [content.get("documentation"), *(content.get("covers") or []), *attached]
    listed += [entry.get("dependencies") for entry in content["weights"].values() if entry]
    for one in filter(None, listed):
        name = one["source"] if isinstance(one, dict) else str(one)
        yield name.partition(":")[2] or name  # 0.4 writes conda:environment.yaml


def _write_filler(path: Path) -> None:
    if path.exists():
        return
    if path.suffix in {".png", ".jpg", ".jpeg", ".gif"}:
        _write_picture(path, np.zeros((16, 32), np.uint8))
    elif path.suffix in {".yaml", ".yml"}:
        path.write_text("name: standin\nchannels: [conda-forge]\ndependencies: [python]\n")
    else:
        path.write_text(f"# {path.name} of a stand-in\n")


def _state_hashes(node: Any, folder: Path) -> None:
    """State the sha256 of every file where the live manifest states one."""
    if isinstance(node, dict):
        source = node.get("source")
        stated = "callable" in node or "sha256" in node
        if isinstance(source, str) and stated and (folder / source).is_file():
            node["sha256"] = sha256_of(folder / source)
        for value in node.values():
            _state_hashes(value, folder)
    elif isinstance(node, list):
        for value in node:
            _state_hashes(value, folder)


def _write_manifest(content: Content, path: Path) -> None:
    from bioimageio.spec.utils import write_yaml

    write_yaml(content, path)


def sha256_of(path: Path) -> str:
    """Give the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
