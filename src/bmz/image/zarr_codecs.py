"""How the chunks of a Zarr array are read: whole ones only, by codecs that only compute.

Zarr takes an empty chunk within a shard, and one behind the end of its file, for one that was never
stored, and Blosc does not ask whether a chunk is whole. Imported where an array is opened, since it
imports zarr.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec, Codec, CodecPipeline
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.registry import get_pipeline_class
from zarr.storage import LocalStore

from bmz.image.blosc_chunk import ChunkDamaged, refuse_cut_chunk
from bmz.image.faults import ImageUnreadable

_BLOSC = frozenset({"blosc", "numcodecs.blosc"})
_OLD = frozenset(
    {
        "adler32", "astype", "bitround", "blosc", "bz2", "crc32", "crc32c", "delta",
        "fixedscaleoffset", "fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits",
        "pcodec", "quantize", "shuffle", "zfpy", "zlib", "zstd",
    }
)  # fmt: skip
"""Those of numcodecs that compute: not ``pickle``, ``msgpack2`` and what else makes objects."""
_KNOWN = frozenset(
    {"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zstd"}
    | {f"numcodecs.{name}" for name in _OLD}
)
_PICTURES = "imagecodecs_"  # JPEG 2000 and the like, where imagecodecs has registered them


class WholeFiles(LocalStore):
    """A folder of which no file is empty, and none ends before what is asked of it."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file, or a part of it; None where there is none.

        Raises
        ------
        ChunkDamaged
            It is empty, or ends too early.
        """
        found = await super().get(key, prototype, byte_range)
        if found is None:
            return None
        wanted = 1
        if isinstance(byte_range, RangeByteRequest):
            wanted = byte_range.end - byte_range.start
        elif isinstance(byte_range, SuffixByteRequest):
            wanted = byte_range.suffix
        if len(found) < wanted:
            raise ChunkDamaged(f"'{key}' ended before its time: {wanted} bytes wanted")
        return found


def look_at_chunks(path: Path, array: zarr.Array[Any]) -> None:
    """Refuse codecs that are not known to compute, and let `array` look at chunks of Blosc.

    Parameters
    ----------
    path : of the image, for the error
    array : just opened; its way of decoding is replaced

    Raises
    ------
    ImageUnreadable
        It has other codecs.
    """
    metadata = array.metadata
    if metadata.zarr_format == 2:  # noqa: PLR2004  (the version)
        filters = tuple(metadata.filters or ())
        compressor = metadata.compressor
        _refuse_others(path, [c.codec_id for c in (*filters, compressor) if c is not None], _OLD)
        size = None if filters else math.prod(metadata.chunks) * np.dtype(array.dtype).itemsize
        (packing,) = _codecs_of(array)
        looking = tuple(_old(f) for f in filters) or None
        made: tuple[Codec, ...] = (
            replace(packing, filters=looking, compressor=_old(compressor, size)),
        )
    else:
        _refuse_others(path, list(_names(metadata.codecs)), _KNOWN)
        made = _new(_codecs_of(array))
    pipeline: CodecPipeline = get_pipeline_class().from_codecs(made)
    # zarr has no argument for it; the array is opened for reading alone
    object.__setattr__(array.async_array, "codec_pipeline", pipeline)


def _codecs_of(array: zarr.Array[Any]) -> tuple[Any, ...]:
    pipeline: Any = array.async_array.codec_pipeline
    return tuple(pipeline)


def _refuse_others(path: Path, names: Sequence[str], known: frozenset[str]) -> None:
    for name in names:
        if name not in known and not name.startswith(_PICTURES):
            raise ImageUnreadable(path, f"is refused: its chunks are packed by '{name}'")


def _name(codec: Codec) -> str:
    return str(codec.to_dict().get("name"))


def _names(codecs: Sequence[Codec]) -> Iterator[str]:
    for codec in codecs:
        yield _name(codec)
        if isinstance(codec, ShardingCodec):
            yield from _names((*codec.codecs, *codec.index_codecs))


def _new(codecs: Sequence[Codec]) -> tuple[Codec, ...]:
    made: list[Codec] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner, index = _new(codec.codecs), _new(codec.index_codecs)
            made.append(replace(codec, codecs=inner, index_codecs=index))
        elif isinstance(codec, BytesBytesCodec) and _name(codec) in _BLOSC:
            made.append(_Looking(codec, whole=bool(made) and isinstance(made[-1], BytesCodec)))
        else:
            made.append(codec)
    return tuple(made)


def _old(codec: Any, size: int | None = None) -> Any:  # noqa: ANN401  (of numcodecs, which has no types)
    return _OldLooking(codec, size) if codec is not None and codec.codec_id in _BLOSC else codec


class _OldLooking:
    """Blosc of numcodecs, for arrays of version 2."""

    codec_id = "blosc"

    def __init__(self, inner: Any, size: int | None) -> None:  # noqa: ANN401
        self._inner, self._size = inner, size

    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        """Look at a chunk, then unpack it."""
        refuse_cut_chunk(memoryview(buf), self._size, self._inner.get_config().get("shuffle"))
        return self._inner.decode(buf, out)

    def encode(self, buf: Any) -> Any:  # noqa: ANN401
        """Pack a chunk."""
        return self._inner.encode(buf)


@dataclass(frozen=True)
class _Looking(BytesBytesCodec):
    """Blosc for arrays of version 3.

    Parameters
    ----------
    inner : what unpacks
    whole : whether what it unpacks is the array itself, whose size is known
    """

    inner: BytesBytesCodec
    whole: bool
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        """Give what the metadata say of it."""
        return dict(self.inner.to_dict())

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> _Looking:
        """Set what depends on the array."""
        return replace(self, inner=self.inner.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Say how long a chunk becomes."""
        return self.inner.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> Buffer:
        item = np.dtype(chunk_spec.dtype.to_native_dtype()).itemsize
        size = math.prod(chunk_spec.shape) * item if self.whole else None
        settings: Any = self.inner.to_dict().get("configuration", {})
        chunk = memoryview(cast("Any", chunk_data.as_numpy_array()))
        refuse_cut_chunk(chunk, size, settings.get("shuffle"))
        return await self.inner._decode_single(chunk_data, chunk_spec)  # noqa: SLF001  (zarr's own way)
