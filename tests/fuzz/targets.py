"""What is fuzzed: sound files, what reads them, and what may come of it."""

from __future__ import annotations

import io
import json
import pickle
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tests.fuzz.mutate import Change, cut, damaged

from bmz.base.errors import BmzError

Seeds = Mapping[str, bytes]
"""Name of a file -> its sound content."""

Run = Callable[[Path, str, bytes], Any]
"""Takes an empty folder, the name of a file, and its content; gives what was read."""


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote.

    Parameters
    ----------
    seeds : makes the sound files
    run : reads one
    exact : whether what is read must be that of the sound file, where no error is told
    change : how files are damaged
    told : errors beside ours that the reader promises
    """

    seeds: Callable[[], Seeds]
    run: Run
    exact: bool = False
    change: Change = damaged
    told: tuple[type[BaseException], ...] = ()

    def case(self, number: int) -> tuple[str, bytes]:
        """Give the name and the content of a damaged file, the same for the same number."""
        chance = random.Random(number)
        seeds = self.seeds()
        name = chance.choice(sorted(seeds))
        return name, self.change(chance, seeds[name], list(seeds.values()))


# --- images

PIXELS = np.random.default_rng(0).integers(0, 200, (2, 3, 20, 24)).astype(np.uint16)


@cache
def tiffs() -> Seeds:
    import imagecodecs
    import tifffile

    words = {"axes": "ZCYX"}
    options: dict[str, dict[str, Any]] = {
        "plain.tif": {},
        "lzw.tif": {"compression": "lzw", "metadata": None},
        "imagej.tif": {"imagej": True, "metadata": words},
        "ome.ome.tif": {"ome": True, "metadata": words},
        "tiles.ome.tif": {"ome": True, "metadata": words, "compression": "zlib", "tile": (16, 16)},
        "big.tif": {"bigtiff": True, "compression": "zstd", "metadata": None},
        "packed.tif": {"compression": "packbits", "metadata": None, "byteorder": ">"},
        "jpeg2000.tif": {"compression": "jpeg2000", "metadata": None, "tile": (16, 16)},
    }
    assert imagecodecs.JPEG2K.available
    found = {}
    for name, more in options.items():
        stream = io.BytesIO()
        tifffile.imwrite(stream, PIXELS, photometric="minisblack", **more)
        found[name] = stream.getvalue()
    stream = io.BytesIO()
    colours = np.dstack([PIXELS[0, 0].astype(np.uint8)] * 3)
    tifffile.imwrite(stream, colours, compression="jpeg", photometric="rgb", metadata=None)
    return found | {"jpeg.tif": stream.getvalue()}


@cache
def makers() -> Seeds:
    """TIFF as makers of microscopes write it, with palettes, and with XML that counts too much."""
    from tests.image.test_makers import GREY, MAKERS, OME, saved, shuffled_palette

    number, palette = shuffled_palette()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for maker, write in MAKERS.items():
            write(folder / f"{maker}.tif")
        options = {"photometric": "palette", "colormap": palette}
        saved(folder / "palette.tif", number[GREY % 256], **options)
        saved(folder / "white.tif", GREY, photometric="miniswhite")
        xml = OME.format(own="1") + (
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16"'
            ' SizeX="48" SizeY="64" SizeC="1" SizeZ="3" SizeT="1">'
            '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
        )
        saved(folder / "counts.ome.tif", description=xml)
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@cache
def archives() -> Seeds:
    """Arrays in archives, and masks of Cellpose in a pickle."""
    stream, pickled = io.BytesIO(), io.BytesIO()
    np.savez_compressed(stream, a=PIXELS[0, 0], b=PIXELS)
    np.save(pickled, np.array({"masks": PIXELS[0, 0], "diameter": np.float64(3)}))
    return {"a.npz": stream.getvalue(), "a_seg.npy": pickled.getvalue()}


def read_labels_or_pixels(folder: Path, name: str, content: bytes) -> Any:
    """Read an archive as an image, and a pickle as a label mask."""
    from bmz.engine.label_masks import read_mask

    if name.endswith(".npz"):
        return read_pixels(folder, name, content)
    (folder / name).write_bytes(content)
    return read_mask(folder / name)


@cache
def pngs() -> Seeds:
    from PIL import Image

    grey = PIXELS[0, 0].astype(np.uint8)
    pictures = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(PIXELS[0, 0]),
        "colour.png": Image.fromarray(np.dstack([grey] * 3)),
        "palette.png": Image.fromarray(grey).convert("P"),
    }
    return {name: _saved(picture, "PNG") for name, picture in pictures.items()}


@cache
def jpegs() -> Seeds:
    from PIL import Image

    grey = PIXELS[0, 0].astype(np.uint8)
    pictures = {
        "grey.jpg": Image.fromarray(grey),
        "colour.jpg": Image.fromarray(np.dstack([grey] * 3)),
    }
    return {name: _saved(picture, "JPEG", dpi=(300, 300)) for name, picture in pictures.items()}


def _saved(picture: Any, kind: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **more)
    return stream.getvalue()


@cache
def npys() -> Seeds:
    found = {}
    for name, array in {
        "a.npy": PIXELS,
        "f.npy": np.asfortranarray(PIXELS[0].astype(">f4")),
        "b.npy": PIXELS[0, 0] > 100,
    }.items():
        stream = io.BytesIO()
        np.save(stream, array)
        found[name] = stream.getvalue()
    return found


def read_pixels(folder: Path, name: str, content: bytes) -> Any:
    (folder / name).write_bytes(content)
    return _pixels(folder / name)


def _pixels(path: Path) -> Any:
    from tests.image.regions import read_region

    from bmz.image.inspect import inspect_image
    from bmz.image.region import read_image

    info = inspect_image(path)
    if "q" in info.axes:
        info = inspect_image(path, axes="tczyx"[-len(info.axes) :])
    pixels = np.array(read_image(info))
    part = read_region(info, {"y": slice(0, max(info.sizes["y"] // 2, 1))})
    return pixels, np.array(part)


# --- Zarr: every seed is one file of a store

_STORES: dict[str, dict[str, Any]] = {
    "gzip": {"zarr_format": 2, "compressors": "gzip"},
    "zlib": {"zarr_format": 2, "compressors": "zlib"},
    "blosc": {"zarr_format": 2, "compressors": "blosc"},
    "new": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shards": (16, 24)},
}


@cache
def stores() -> Mapping[str, Mapping[str, bytes]]:
    import tempfile

    import numcodecs
    import zarr

    codecs = {"gzip": numcodecs.GZip, "zlib": numcodecs.Zlib, "blosc": numcodecs.Blosc}
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, more in _STORES.items():
            path = Path(folder) / kind
            given = dict(more)
            if "compressors" in given:
                given["compressors"] = codecs[given["compressors"]]()
            array = zarr.create_array(path, shape=(32, 24), chunks=(8, 12), dtype="u2", **given)
            array[...] = np.resize(PIXELS, (32, 24))
            files = sorted(entry for entry in path.rglob("*") if entry.is_file())
            found[kind] = {f.relative_to(path).as_posix(): f.read_bytes() for f in files}
    return found


def _files_of(*kinds: str, words: bool) -> Callable[[], Seeds]:
    def seeds() -> Seeds:
        return {
            f"{kind}:{name}": content
            for kind in kinds
            for name, content in stores()[kind].items()
            if (Path(name).name in {"zarr.json", ".zarray", ".zattrs"}) == words
        }

    return seeds


def read_store(folder: Path, name: str, content: bytes) -> Any:
    kind, _, changed = name.partition(":")
    for file, sound in {**stores()[kind], changed: content}.items():
        place = folder / "a.zarr" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(sound)
    return _pixels(folder / "a.zarr")


# --- packages


@cache
def _package() -> Mapping[str, bytes]:
    import tempfile

    from bmz.testing.package import description, write_package

    with tempfile.TemporaryDirectory() as folder:
        path = write_package(Path(folder) / "net", description(halo=4)).parent
        return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def manifests() -> Seeds:
    return {"bioimageio.yaml": _package()["bioimageio.yaml"]}


def read_package(folder: Path, name: str, content: bytes) -> Any:
    from bmz.engine.load import load_model
    from bmz.zoo.settings import ZooSettings

    for file, sound in {**_package(), name: content}.items():
        (folder / file).write_bytes(sound)
    return load_model(str(folder), ZooSettings(folder / "cache", offline=True))


def zips() -> Seeds:
    found = {}
    for name, method in (("a.zip", zipfile.ZIP_STORED), ("b.zip", zipfile.ZIP_DEFLATED)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for file, content in _package().items():
                archive.writestr(f"net/{file}", content)
        found[name] = stream.getvalue()
    return found


def read_zip(folder: Path, name: str, content: bytes) -> Any:
    from bmz.zoo.archive import unpack

    (folder / name).write_bytes(content)
    unpacked = unpack(folder / name, folder / "cache")
    return sorted((f.name, f.read_bytes()) for f in unpacked.rglob("*") if f.is_file())


@cache
def scripts() -> Seeds:
    source = (
        b"class Net(Module):\n  __parameters__ = []\n  training : bool\n"
        b"  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
        b"    return torch.add(x, x, alpha=1)\n"
    )
    made = {"training": True, "weight": [1.5, 2]}
    members = {"net/data.pkl": pickle.dumps(made, 2), "net/code/__torch__.py": source}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in (members | {"net/version": b"3\n"}).items():
            archive.writestr(name, content)
    return {"weights.pt": stream.getvalue()}


def _look(where: str, function: str) -> Run:
    def look(folder: Path, name: str, content: bytes) -> Any:
        from importlib import import_module

        (folder / name).write_bytes(content)
        return getattr(import_module(where), function)(folder / name)

    return look


@cache
def kerases() -> Seeds:
    import h5py

    config = {"class_name": "Sequential", "config": {"name": "net", "layers": []}}
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.create_dataset("layers/a/kernel", data=np.zeros((3, 3)), chunks=(3, 3))
        file["link"] = h5py.SoftLink("/layers/a")
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stream.getvalue())
    return {"a.h5": stream.getvalue(), "a.keras": zipped.getvalue()}


@cache
def datasets() -> Seeds:
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        packed = file.create_dataset("exp/raw", data=PIXELS, chunks=True, compression="gzip")
        packed.attrs["axistags"] = json.dumps({"axes": [{"key": a} for a in "czyx"]})
        packed.attrs["element_size_um"] = [2.0, 0.5, 0.5]
        file["link"] = h5py.SoftLink("/exp/raw")
        file["records"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
    return {"a.h5": stream.getvalue()}


def bundles() -> Seeds:
    node = b"\x0a\x01a\x12\x05Const"
    graph = b"\x12" + bytes([len(node) + 2]) + b"\x0a" + bytes([len(node)]) + node
    content = b"\x12" + bytes([len(graph)]) + graph
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("saved_model.pb", content)
    return {"bundle.zip": stream.getvalue()}


def graphs() -> Seeds:
    return {"weights.onnx": _package()["weights.onnx"]}


def open_graph(folder: Path, name: str, content: bytes) -> Any:
    from bmz.predict.backend import LoadRequest
    from bmz.predict.onnx import open_onnx

    (folder / name).write_bytes(content)
    backend = open_onnx(LoadRequest(folder / name, ("raw",), ("mask",), threads=1))
    backend.close()


# --- what bmz itself keeps and is sent


def indexes() -> Seeds:
    version = {
        "version": "v0", "sha256": "0" * 64, "source": "https://x/files/rdf.yaml",
        "created_at": "2026-01-01",
    }  # fmt: skip
    items = [{"type": "model", "id": "bioimage-io/a", "versions": [version]}, {"type": "dataset"}]
    return {"index.json": json.dumps({"items": items}).encode()}


def read_index(_: Path, __: str, content: bytes) -> Any:
    from bmz.zoo.catalogue import parse_catalogue

    return parse_catalogue(content)


def notes() -> Seeds:
    origin = {
        "id": "a", "version": "v0", "url": "https://x", "is_zip": False, "fetched_at": 1.5,
        "vouched": "index",
    }  # fmt: skip
    stamp = {
        "name": "weights.onnx", "sha256": "0" * 64, "first": "0" * 64, "size": 3, "mtime_ns": 1,
        "ctime_ns": 2, "checked_ns": 3, "allowed": False,
    }  # fmt: skip
    trusted = {"id": "a", "manifest": "0" * 64, "code": "0" * 64, "added": "2026-01-01"}
    return {
        "origin.json": json.dumps(origin).encode(),
        "stamp.json": json.dumps(stamp).encode(),
        "trust.json": json.dumps({"schema": "bmz.trust/1", "trusted": [trusted]}).encode(),
    }


def read_notes(folder: Path, name: str, content: bytes) -> Any:
    import hashlib

    from bmz.zoo.cache import verify_cache
    from bmz.zoo.settings import ZooSettings, place, read_trust
    from bmz.zoo.store import NOTES, hash_and_stamp, list_cached, read_stamp

    settings = ZooSettings(folder / "cache", offline=True)
    manifest = _package()["bioimageio.yaml"]
    package = settings.cache / "packages" / hashlib.sha256(manifest).hexdigest()
    (package / NOTES).mkdir(parents=True)
    (package / "bioimageio.yaml").write_bytes(manifest)
    (package / "weights.onnx").write_bytes(b"abc")
    hash_and_stamp(package, "weights.onnx")
    (stamp,) = (package / NOTES / "stamps").glob("*.json")
    at = {"origin.json": package / NOTES / name, "stamp.json": stamp, "trust.json": place(settings)}
    at[name].parent.mkdir(parents=True, exist_ok=True)
    at[name].write_bytes(content)
    read_stamp(package, "weights.onnx")
    return list_cached(settings, manifests=True), verify_cache(settings), read_trust(settings)


def records() -> Seeds:
    from bmz.engine.earlier_runs import options_of
    from bmz.engine.request import RunRequest
    from bmz.results.images import SCHEMA

    request = options_of(RunRequest("starter/nuclei", (), Path()))
    record = {
        "schema": SCHEMA, "request": request, "image": "a.tif", "model_sha256": "0" * 64,
        "image_sha256": "0" * 64, "weights": {"format": "onnx"}, "device": "cpu",
        "plan": {"batch": 1, "precision": "float32"},
    }  # fmt: skip
    return {"a.run.json": json.dumps(record).encode()}


def read_record(folder: Path, name: str, content: bytes) -> Any:
    from bmz.engine.earlier_runs import replayed
    from bmz.engine.request import RunRequest

    (folder / name).write_bytes(content)
    (folder / "a.npy").write_bytes(npys()["a.npy"])
    return replayed(folder / name, RunRequest("", (folder / "a.npy",), folder))


def contracts() -> Seeds:
    text = (
        "schema = 'bmz.contract/1'\n[model]\nname = 'a'\nsha256 = '0'\n[words]\naxes = 'yx'\n"
        "[image]\naxes = 'yx'\ndtype = 'uint8'\nsignal = [0, 200.5]\n[objects]\ncount = [1, 9]\n"
    )
    return {"bmz.toml": text.encode()}


def messages() -> Seeds:
    words = [{"dtype": "float32", "shape": [2, 3], "offset": 0}]
    body = json.dumps({"run": words}).encode()
    return {"message": len(body).to_bytes(4, "big") + body}


def receive(_: Path, __: str, content: bytes) -> Any:
    import socket

    from bmz.predict.wire import Block, Wire, WireError

    ours, theirs = socket.socketpair()
    block = Block.new(4096)
    try:
        theirs.sendall(content[:60000])
        theirs.close()
        message, _handle = Wire(ours).receive()
        words = message.get("run", [])
        if not isinstance(words, list) or not all(isinstance(word, dict) for word in words):
            raise WireError("no words")
        return [array.sum() for array in block.read(words)]
    finally:
        ours.close()
        block.close()


def _broken() -> tuple[type[BaseException], ...]:
    from bmz.predict.wire import WireError

    return (WireError,)


def _looks() -> Iterator[tuple[str, Target]]:
    of_zip = (zipfile.BadZipFile, OSError)
    yield (
        "torchscript",
        Target(scripts, _look("bmz.predict.torchscript", "host_calls"), told=of_zip),
    )
    yield "keras", Target(kerases, _look("bmz.predict.graph_code", "keras_code"))
    yield "saved-model", Target(bundles, _look("bmz.predict.graph_code", "host_ops"))
    yield "onnx", Target(graphs, open_graph)


TARGETS: Mapping[str, Target] = {
    "tiff": Target(tiffs, read_pixels),
    "tiff-cut": Target(tiffs, read_pixels, exact=True, change=cut),
    "makers": Target(makers, read_pixels),
    "archives": Target(archives, read_labels_or_pixels),
    "png": Target(pngs, read_pixels, exact=True),
    "jpeg": Target(jpegs, read_pixels),
    "jpeg-cut": Target(jpegs, read_pixels, exact=True, change=cut),
    "npy": Target(npys, read_pixels),
    "npy-cut": Target(npys, read_pixels, exact=True, change=cut),
    "hdf5": Target(datasets, read_pixels),
    "hdf5-cut": Target(datasets, read_pixels, exact=True, change=cut),
    "zarr-words": Target(_files_of(*_STORES, words=True), read_store),
    "zarr-chunk": Target(_files_of(*_STORES, words=False), read_store),
    "zarr-sum": Target(_files_of("gzip", "zlib", words=False), read_store, exact=True),
    "zarr-cut": Target(_files_of(*_STORES, words=False), read_store, exact=True, change=cut),
    "manifest": Target(manifests, read_package),
    "zip": Target(zips, read_zip, exact=True),
    **dict(_looks()),
    "index": Target(indexes, read_index, told=(ValueError,)),
    "notes": Target(notes, read_notes),
    "record": Target(records, read_record),
    "contract": Target(contracts, _look("bmz.report.contract_text", "read_contract")),
    "wire": Target(messages, receive, told=_broken()),
}
"""Name -> what is fuzzed."""


def judged(target: Target, folder: Path, name: str, content: bytes) -> str:
    """Read a damaged file and say what is wrong with how that went; empty when nothing is."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        found = target.run(folder, name, content)
    except BmzError:
        return ""
    except target.told:
        return ""
    except Exception as why:  # noqa: BLE001  (this is what is looked for)
        return f"{type(why).__name__}: {why}"[:300]
    # a splice at the heads of two seeds makes the other one, which is sound
    seed = next((other for other, sound in target.seeds().items() if sound == content), name)
    if target.exact and not _same(found, _sound(target, folder.parent / "sound", seed)):
        return "other content than that of the sound file, without a word"
    return ""


_KNOWN: dict[tuple[int, str], Any] = {}


def _sound(target: Target, folder: Path, name: str) -> Any:
    key = (id(target), name)
    if key not in _KNOWN:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _KNOWN[key] = target.run(folder, name, target.seeds()[name])
    return _KNOWN[key]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return bool(np.array_equal(one, other))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
