"""Of a chunk, strip or tile that is cut short, or whose sizes are wrong, no pixel is believed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from tests.image.regions import read_region
from zarr import codecs

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.image.inspect import inspect_image
from bmz.image.region import read_image
from bmz.image.tiff import _looking
from bmz.image.zarr_codecs import ChunkDamaged, refuse_cut_chunk

RANDOM = np.random.default_rng(0)
NOISE = RANDOM.integers(0, 4096, (40, 36)).astype(np.uint16)
SMOOTH = (np.add.outer(np.arange(40) * 7, np.arange(36) * 3) % 251).astype(np.uint16)
BLOSCS = ("lz4", "lz4hc", "zstd", "zlib", "blosclz")
OLD: dict[str, Any] = {
    **{f"blosc {name}": numcodecs.Blosc(cname=name, blocksize=512) for name in BLOSCS},
    "zlib": numcodecs.Zlib(),
    "gzip": numcodecs.GZip(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(),
    "zstd": numcodecs.Zstd(),
    "lz4": numcodecs.LZ4(),
    "none": None,
}
NEW: dict[str, Callable[[], Any]] = {
    "blosc zstd": lambda: codecs.BloscCodec(cname="zstd"),
    "blosc lz4": lambda: codecs.BloscCodec(cname="lz4"),
    "numcodecs.blosc": lambda: codecs.numcodecs.Blosc(cname="lz4"),
    "numcodecs.lzma": codecs.numcodecs.LZMA,
    "numcodecs.lz4": codecs.numcodecs.LZ4,
    "gzip": codecs.GzipCodec,
    "zstd": codecs.ZstdCodec,
    "none": lambda: None,
}
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
CASES = [
    *((2, name, {}) for name in OLD),
    *((3, name, {}) for name in NEW),
    *((3, name, {"shards": (20, 36)}) for name in ("blosc lz4", "blosc zstd", "zstd", "none")),
]


def stored(path: Path, version: Any, name: str, pixels: AnyArray, **more: Any) -> Path:
    array = zarr.create_array(
        path, shape=pixels.shape, chunks=(20, 18), dtype=pixels.dtype,
        zarr_format=version, compressors=OLD[name] if version == 2 else NEW[name](), **more,
    )  # fmt: skip
    array[...] = pixels
    return path


def a_chunk(path: Path) -> Path:
    files = (entry for entry in path.rglob("*") if entry.is_file())
    return min(f for f in files if f.name not in {"zarr.json", ".zarray", ".zattrs"})


def whole(path: Path) -> AnyArray:
    return np.asarray(read_image(inspect_image(path, axes="yx")))


def by_region(path: Path) -> AnyArray:
    region = read_region(inspect_image(path, axes="yx"), {"y": slice(3, 30), "x": slice(2, 17)})
    return np.asarray(region)


READS: list[Callable[[Path], AnyArray]] = [whole, by_region]


@pytest.mark.parametrize(("version", "name", "more"), CASES)
@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
def test_a_chunk_that_is_cut_short_is_told(
    version: int, name: str, more: dict[str, Any], pixels: AnyArray, tmp_path: Path
) -> None:
    path = stored(tmp_path / "a.zarr", version, name, pixels, **more)
    chunk = a_chunk(path)
    content = chunk.read_bytes()

    for length in (0, 11, 20, len(content) // 2, len(content) - 1):
        chunk.write_bytes(content[:length])
        for read in READS:
            with pytest.raises(CouldNotTell) as raised:
                read(path)
            assert raised.value.code in {"image.unreadable", "image.truncated"}

    chunk.write_bytes(content)
    assert np.array_equal(whole(path), pixels)


def flips(content: bytes, places: Iterator[int]) -> Iterator[bytes]:
    for place in places:
        for bit in (1, 2, 4, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            yield bytes(changed)


@pytest.mark.parametrize("name", ["blosc lz4", "none"])
def test_a_shard_with_its_index_first_that_is_cut_short_is_told(name: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zarr", 3, "none", NOISE)
    array = zarr.create_array(
        path, shape=NOISE.shape, chunks=(40, 36), dtype="u2", overwrite=True, compressors=None,
        serializer=codecs.ShardingCodec(
            chunk_shape=(20, 18), index_location="start",
            codecs=[codecs.BytesCodec(), *([NEW[name]()] if name != "none" else [])],
        ),
    )  # fmt: skip
    array[...] = NOISE
    shard = a_chunk(path)
    content = shard.read_bytes()

    # with no byte of the last chunk, and with a part of it
    for length in (0, 200, len(content) // 2, len(content) - 500, len(content) - 1):
        shard.write_bytes(content[:length])
        info = inspect_image(path, axes="yx")
        with pytest.raises(CouldNotTell):
            read_image(info)
        with pytest.raises(CouldNotTell):
            read_region(info, {"y": slice(22, 40), "x": slice(20, 30)})


@pytest.mark.parametrize("name", [f"blosc {name}" for name in BLOSCS])
@pytest.mark.parametrize("pixels", [NOISE, SMOOTH], ids=["noise", "smooth"])
def test_a_bit_that_is_wrong_in_the_head_of_a_chunk_of_blosc_changes_no_pixel(
    name: str, pixels: AnyArray, tmp_path: Path
) -> None:
    path = stored(tmp_path / "a.zarr", 2, name, pixels)
    chunk = a_chunk(path)
    content, info = chunk.read_bytes(), inspect_image(path, axes="yx")

    for changed in flips(content, iter(range(1, 16))):
        chunk.write_bytes(changed)
        try:
            found = np.asarray(read_image(info))
        except CouldNotTell:
            continue
        assert np.array_equal(found, pixels)


@pytest.mark.parametrize("name", ["zlib", "gzip", "bz2", "lzma"])
def test_a_bit_that_is_wrong_anywhere_in_a_chunk_with_a_checksum_changes_no_pixel(
    name: str, tmp_path: Path
) -> None:
    path = stored(tmp_path / "a.zarr", 2, name, SMOOTH)
    chunk = a_chunk(path)
    content, info = chunk.read_bytes(), inspect_image(path, axes="yx")

    for changed in flips(content, iter(range(0, len(content), 29))):
        chunk.write_bytes(changed)
        try:
            found = np.asarray(read_image(info))
        except CouldNotTell:
            continue
        assert np.array_equal(found, SMOOTH)


@pytest.mark.parametrize(
    "settings", [{"shuffle": s, "clevel": n} for s in (0, 1, 2) for n in (0, 5)]
)
@pytest.mark.parametrize("name", BLOSCS)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
@pytest.mark.parametrize("count", [1, 100, 5000, 300_001])
def test_what_blosc_writes_is_whole(
    settings: dict[str, int], name: str, dtype: str, count: int
) -> None:
    for blocksize in (0, 4096):
        values = (np.arange(count) // 3 % 251).astype(dtype)
        chunk = numcodecs.Blosc(cname=name, blocksize=blocksize, **settings).encode(values)

        refuse_cut_chunk(chunk, values.nbytes, settings["shuffle"])


@given(data=st.data(), values=st.binary(min_size=1, max_size=3000), name=st.sampled_from(BLOSCS))
def test_no_part_of_a_chunk_of_blosc_is_taken_for_one(
    data: st.DataObject, values: bytes, name: str
) -> None:
    chunk = numcodecs.Blosc(cname=name, blocksize=256).encode(values)
    length = data.draw(st.integers(0, len(chunk) - 1))

    with pytest.raises(ChunkDamaged):
        refuse_cut_chunk(chunk[:length])
    with pytest.raises(ChunkDamaged):
        refuse_cut_chunk(chunk + b"\0")
    with pytest.raises(ChunkDamaged):
        refuse_cut_chunk(chunk, len(values) + 1)


@pytest.mark.parametrize(
    "change",
    [
        {"compressor": {"id": "pickle"}, "dtype": "|V2"},
        {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "dtype": "|O"},
        {"filters": [{"id": "categorize", "labels": ["a"], "dtype": "<U1"}]},
        {"filters": [{"id": "msgpack2"}], "dtype": "|O"},
    ],
)
def test_what_would_make_objects_of_a_chunk_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    class Mark:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return Path.mkdir, (tmp_path / "marker",)  # type: ignore[return-value]

    path = stored(tmp_path / "a.zarr", 2, "none", NOISE)
    settings = json.loads((path / ".zarray").read_text()) | change
    (path / ".zarray").write_text(json.dumps(settings))
    a_chunk(path).write_bytes(pickle.dumps(Mark()))

    with pytest.raises(CouldNotTell) as raised:
        whole(path)

    assert raised.value.code == "image.unreadable"
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["numcodecs.fletcher32", "numcodecs.shuffle", "transpose"])
def test_codecs_that_compute_are_taken(name: str, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "numcodecs.fletcher32": {"compressors": [codecs.numcodecs.Fletcher32()]},
        "numcodecs.shuffle": {
            "compressors": [codecs.numcodecs.Shuffle(elementsize=2), codecs.BloscCodec()]
        },
        "transpose": {"filters": [codecs.TransposeCodec(order=(1, 0))]},
    }
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=NOISE.shape, chunks=(20, 18), dtype="u2", **settings[name]
    )
    array[...] = NOISE

    assert np.array_equal(whole(tmp_path / "a.zarr"), NOISE)
    assert np.array_equal(by_region(tmp_path / "a.zarr"), NOISE[3:30, 2:17])


def test_filters_of_version_2_are_taken_too(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=NOISE.shape, chunks=(20, 18), dtype="u2", zarr_format=2,
        filters=[numcodecs.Delta("u2"), numcodecs.Blosc()], compressors=numcodecs.Blosc(),
    )  # fmt: skip
    array[...] = NOISE

    assert np.array_equal(whole(tmp_path / "a.zarr"), NOISE)


COMPRESSIONS = (
    "lzw", "zlib", "zstd", "packbits", "lzma", "jpeg", "jpeg2000", "png", "webp", "jpegxl",
    "jpegxr",
)  # fmt: skip


@pytest.mark.parametrize(
    "layout", [{"rowsperstrip": 16}, {"tile": (32, 32)}], ids=["strips", "tiles"]
)
@pytest.mark.parametrize("name", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_a_strip_or_tile_that_is_cut_short_is_told_or_changes_no_pixel(
    layout: dict[str, Any], name: str, kind: str, tmp_path: Path
) -> None:
    pixels = np.resize(NOISE if kind == "noise" else SMOOTH, (64, 64))
    if name in {"jpeg", "webp"}:
        pixels = np.dstack([pixels.astype(np.uint8)] * 3)
    path = tmp_path / "a.tif"
    colour = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(path, pixels, compression=name, photometric=colour, metadata=None, **layout)
    content = path.read_bytes()
    sound = np.array(read_image(inspect_image(path)))
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        tag: Any = page.tags.get("StripByteCounts") or page.tags.get("TileByteCounts")
        count, width = page.databytecounts[1], tag.valuebytecount // len(page.databytecounts)

    for left in (1, count // 3, count // 2, count - 20, count - 5, count - 2, count - 1):
        changed = bytearray(content)
        place = tag.valueoffset + width
        changed[place : place + width] = left.to_bytes(width, "little")
        path.write_bytes(changed)
        info = inspect_image(path)
        for read in (read_image, lambda told: read_region(told, {"y": slice(0, 64)})):
            try:
                found = np.asarray(read(info))
            except CouldNotTell:
                continue
            assert np.array_equal(found, sound)


@pytest.mark.parametrize("count", [1, 2, 100, 5000])
def test_lzw_without_an_end_mark_is_read_all_the_same(count: int) -> None:
    values = RANDOM.integers(0, 50, count).astype(np.uint8).tobytes()
    whole_stream = imagecodecs.lzw_encode(values)
    read: list[bytes] = []
    key: Any = SimpleNamespace(compression=5)

    def decode(data: bytes, _: int) -> tuple[AnyArray]:
        read.append(data)
        return (np.frombuffer(imagecodecs.lzw_decode(data, out=count), np.uint8),)

    looked_at = _looking(key, decode)

    assert looked_at(whole_stream, 0)[0].tobytes() == values
    # more bits than any end mark and what fills its byte have
    assert looked_at(whole_stream + b"\xa5\xa5\xa5", 0)[0].tobytes() == values
    assert len(read) >= 4
