"""Zarr codecs that detect truncated chunks."""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec, Codec, CodecPipeline
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.metadata import ArrayV2Metadata
from zarr.registry import get_pipeline_class
from zarr.storage import LocalStore

from bmz.image.faults import CutShort, ImageUnreadable
from bmz.image.remote import address_of, bring

_HEADER = struct.Struct("<4B3L")
_NUMBER = struct.Struct("<l")
_FORMATS = (1, 2)  # versions that the decoder reads
_SHUFFLED, _COPIED, _BITS_SHUFFLED, _ONE_STREAM = 1, 2, 4, 16
_CODECS = range(5)
_ITEMS = (1, 2, 4, 8, 16)  # bytes per value, for all types that an image may have
_SHUFFLES: Mapping[object, int] = {
    0: 0, 1: _SHUFFLED, 2: _BITS_SHUFFLED,
    "noshuffle": 0, "shuffle": _SHUFFLED, "bitshuffle": _BITS_SHUFFLED,
}  # fmt: skip
"""Shuffle setting in the metadata -> flags; with -1 the writer chooses."""
_LARGEST = 2**31 - 1 - _HEADER.size


class ChunkDamaged(ValueError):
    """A chunk is truncated, or contradicts its header."""


class ChunkCutShort(ChunkDamaged, CutShort):
    """A chunk has fewer bytes than it states."""

    def __init__(self, why: str, chunk: str = "a chunk") -> None:
        super().__init__(f"{chunk} ends too early: {why}")


@dataclass(frozen=True)
class BloscHeader:
    """The first 16 bytes of a Blosc chunk.

    Parameters
    ----------
    item : size of a value for shuffling, bytes
    flags : compression flags
    unpacked, block, packed : sizes of the uncompressed chunk, of the blocks that are compressed
        separately, and of the compressed chunk; bytes
    """

    item: int
    flags: int
    unpacked: int
    block: int
    packed: int


def refuse_cut_chunk(
    chunk: bytes | memoryview, expected: int | None = None, shuffle: object = None
) -> None:
    """Raise an error if the length of a Blosc chunk is wrong, or its blocks do not fill it.

    Parameters
    ----------
    chunk : chunk as stored
    expected : uncompressed size in bytes, if known
    shuffle : shuffle setting in the metadata of the array, a number or a string

    Raises
    ------
    ChunkDamaged
        The chunk is truncated, or contradicts its header or the metadata.
    """
    view = memoryview(chunk).cast("B")
    header = _header(view)
    if len(view) != header.packed:
        raise ChunkCutShort(f"{header.packed} bytes wanted, {len(view)} found")
    if expected is not None and header.unpacked != expected:
        raise ChunkDamaged(f"a chunk unpacks to {header.unpacked} bytes, not {expected}")
    if header.flags & _COPIED:
        if header.packed != header.unpacked + _HEADER.size:
            raise ChunkDamaged("an uncompressed chunk states a different compressed size")
        return
    shuffled = header.flags & (_SHUFFLED | _BITS_SHUFFLED)
    if header.item > 1 and shuffled != _SHUFFLES.get(shuffle, shuffled):
        raise ChunkDamaged("a chunk is shuffled differently from what its array states")
    if header.unpacked:
        _refuse_gaps(view, header)


def _header(view: memoryview) -> BloscHeader:
    if len(view) < _HEADER.size:
        raise ChunkCutShort(f"{_HEADER.size} bytes wanted, {len(view)} found")
    version, _, flags, item, unpacked, block, packed = _HEADER.unpack_from(view)
    sound = (
        version in _FORMATS
        and flags >> 5 in _CODECS
        and flags & (_SHUFFLED | _BITS_SHUFFLED) != _SHUFFLED | _BITS_SHUFFLED
        and item in _ITEMS
        and unpacked <= _LARGEST
        and (0 < block <= unpacked or not unpacked)
    )
    if not sound:
        raise ChunkDamaged("a chunk does not begin with the 16 bytes of a Blosc header")
    return BloscHeader(item, flags, unpacked, block, packed)


def _refuse_gaps(view: memoryview, header: BloscHeader) -> None:
    """Check that the blocks are contiguous: each starts where another one ends, in any order."""
    blocks = -(-header.unpacked // header.block)
    table = _HEADER.size + blocks * _NUMBER.size
    if table > len(view):
        raise ChunkDamaged("a chunk is too short for the parts that its header lists")
    starts = [_NUMBER.unpack_from(view, _HEADER.size + i * 4)[0] for i in range(blocks)]
    ends = [_end_of(view, header, number, start) for number, start in enumerate(starts)]
    order = sorted(starts)
    if order != sorted([table, *ends])[:-1] or max(ends) != len(view):
        raise ChunkDamaged("the parts of a chunk are not contiguous")
    if any(earlier >= later for earlier, later in itertools.pairwise(order)):
        raise ChunkDamaged("two parts of a chunk overlap")


def _end_of(view: memoryview, header: BloscHeader, number: int, start: int) -> int:
    place = start
    for _ in _streams(header, number):
        if not _HEADER.size <= place <= len(view) - _NUMBER.size:
            raise ChunkCutShort("a part of a chunk is outside of it")
        (length,) = _NUMBER.unpack_from(view, place)
        if length <= 0:
            raise ChunkDamaged("a part of a chunk has no length")
        place += _NUMBER.size + length
    return place


def _streams(header: BloscHeader, number: int) -> Iterator[int]:
    shorter = (number + 1) * header.block > header.unpacked
    yield from range(1 if header.flags & _ONE_STREAM or shorter else header.item)


_BLOSC = frozenset({"blosc", "numcodecs.blosc"})
_OLD = frozenset(
    {
        "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
        "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits",
        "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd",
    }
)  # fmt: skip
"""Codecs of numcodecs that only compute; ``pickle``, ``msgpack2`` and others create objects."""
_KNOWN = frozenset(
    {"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"}
    | {f"numcodecs.{name}" for name in _OLD}
)
_PICTURES = "imagecodecs_"  # JPEG 2000 and others, if imagecodecs has registered them


class WholeFiles(LocalStore):
    """A store that raises an error for files that are empty or shorter than the requested range.

    In a folder that mirrors one on a server, missing files are fetched on request.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)
        self._address = address_of(root)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or a part of it; return None if it does not exist.

        Raises
        ------
        ChunkDamaged
            The file is empty, or ends too early.
        BmzError
            The server of the file gives no usable answer.
        """
        if self._address is not None:
            place = f"{self._address}/{key}"
            await asyncio.to_thread(bring, self.root / key, place)
        content = await super().get(key, prototype, byte_range)
        if content is None:
            return None
        least = 1
        if isinstance(byte_range, RangeByteRequest):
            least = byte_range.end - byte_range.start
        elif isinstance(byte_range, SuffixByteRequest):
            least = byte_range.suffix
        if len(content) < least:
            raise ChunkCutShort(f"{least} bytes wanted", f"'{key}'")
        return content


def look_at_chunks(path: Path, array: zarr.Array[Any]) -> None:
    """Raise an error for codecs that are not known to be safe, and make `array` check Blosc chunks.

    Parameters
    ----------
    path : path of the image, for the error message
    array : newly opened array, whose codec pipeline is replaced

    Raises
    ------
    ImageUnreadable
        The array has a codec that is not known to be safe.
    """
    metadata = array.metadata
    if isinstance(metadata, ArrayV2Metadata):
        filters = tuple(metadata.filters or ())
        compressor = metadata.compressor
        _refuse_others(path, [c.codec_id for c in (*filters, compressor) if c is not None], _OLD)
        size = None if filters else math.prod(metadata.chunks) * np.dtype(array.dtype).itemsize
        (packing,) = _codecs_of(array)
        looking = tuple(_old(f) for f in filters) or None
        codecs: tuple[Codec, ...] = (
            replace(packing, filters=looking, compressor=_old(compressor, size)),
        )
    else:
        _refuse_others(path, list(_names(metadata.codecs)), _KNOWN)
        codecs = _new(_codecs_of(array))
    pipeline: CodecPipeline = get_pipeline_class().from_codecs(codecs)
    # zarr has no argument for this; the array is opened read-only
    object.__setattr__(array.async_array, "codec_pipeline", pipeline)


def _codecs_of(array: zarr.Array[Any]) -> tuple[Any, ...]:
    pipeline: Any = array.async_array.codec_pipeline
    return tuple(pipeline)


def _refuse_others(path: Path, names: Sequence[str], known: frozenset[str]) -> None:
    for name in names:
        if name not in known and not name.startswith(_PICTURES):
            raise ImageUnreadable(path, f"is refused: its chunks are compressed with '{name}'")


def _name(codec: Codec) -> str:
    return str(codec.to_dict().get("name"))


def _names(codecs: Sequence[Codec]) -> Iterator[str]:
    for codec in codecs:
        yield _name(codec)
        if isinstance(codec, ShardingCodec):
            yield from _names((*codec.codecs, *codec.index_codecs))


def _new(codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    replaced: list[Codec] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner, index = _new(codec.codecs), _new(codec.index_codecs)
            replaced.append(replace(codec, codecs=inner, index_codecs=index))
        elif isinstance(codec, BytesBytesCodec) and _name(codec) in _BLOSC:
            replaced.append(
                _Looking(codec, whole=bool(replaced) and isinstance(replaced[-1], BytesCodec))
            )
        else:
            replaced.append(codec)
    return tuple(replaced)


class _NumcodecsCodec(Protocol):
    """A codec of numcodecs, which has no type annotations."""

    codec_id: str

    def get_config(self) -> Mapping[str, object]: ...

    def decode(self, buf: object, out: object = None) -> object: ...

    def encode(self, buf: object) -> object: ...


def _old(codec: _NumcodecsCodec | None, size: int | None = None) -> _NumcodecsCodec | None:
    return _OldLooking(codec, size) if codec is not None and codec.codec_id in _BLOSC else codec


class _OldLooking:
    """The Blosc codec of numcodecs with checks, for arrays of Zarr 2."""

    codec_id = "blosc"

    def __init__(self, inner: _NumcodecsCodec, size: int | None) -> None:
        self._inner, self._size = inner, size

    def get_config(self) -> Mapping[str, object]:
        """Return the settings of the codec."""
        return self._inner.get_config()

    def decode(self, buf: object, out: object = None) -> object:
        """Check a chunk and decompress it."""
        chunk = memoryview(cast("bytes", buf))
        refuse_cut_chunk(chunk, self._size, self.get_config().get("shuffle"))
        return self._inner.decode(buf, out)

    def encode(self, buf: object) -> object:
        """Compress a chunk."""
        return self._inner.encode(buf)


@dataclass(frozen=True)
class _Looking(BytesBytesCodec):
    """The Blosc codec with checks, for arrays of Zarr 3.

    Parameters
    ----------
    inner : codec that decompresses
    whole : whether its result is the array itself, whose size is known
    """

    inner: BytesBytesCodec
    whole: bool
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        """Return the metadata of the codec."""
        return dict(self.inner.to_dict())

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> _Looking:
        """Return the codec with the settings that depend on the array."""
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Return the compressed size of a chunk."""
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        item = np.dtype(chunk_spec.dtype.to_native_dtype()).itemsize
        size = math.prod(chunk_spec.shape) * item if self.whole else None
        settings: Any = self.inner.to_dict().get("configuration", {})
        chunk = memoryview(cast("Any", chunk_data.as_numpy_array()))
        refuse_cut_chunk(chunk, size, settings.get("shuffle"))
        return await self.inner._decode_single(chunk_data, chunk_spec)  # noqa: SLF001  (zarr's own way)
