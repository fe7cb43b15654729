"""Write small genuine LIF and ND2 files, for tests of their readers.

Layouts as the readers ``liffile`` and ``nd2`` document them; neither writes files.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bmz.base.arrays import AnyArray

Tree = Mapping[str, "Tree | int | float | str | bool"]

_ND2_MAGIC = 0x0ABECEDA
_ND2_NAME = 4072  # bytes kept for the name of a chunk, so that frames start at whole pages
_ND2_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"


def write_lif(path: Path, pixels: AnyArray, um: Mapping[str, float], names: Sequence[str]) -> None:
    """Write one series of a Leica image file.

    Parameters
    ----------
    pixels : (c, z, y, x) uint8
    um : pixel size along z, y, x
    names : of the colour tables of the channels, which are all the names that LIF has
    """
    sizes = dict(zip("zyx", pixels.shape[1:], strict=True))
    step = {"x": 1, "y": sizes["x"], "z": sizes["x"] * sizes["y"]}
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="8" LUTName="{name}" '
        f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" IsLUTInverted="0" '
        f'BytesInc="{number * pixels[0].size}" BitInc="0"/>'
        for number, name in enumerate(names)
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{sizes[axis]}" Origin="0" '
        f'Length="{(sizes[axis] - 1) * um[axis] * 1e-6}" Unit="m" BytesInc="{step[axis]}" '
        'BitInc="0"/>'
        for number, axis in enumerate("xyz", start=1)
    )
    text = (
        '<LMSDataContainerHeader Version="2"><Element Name="a.lif"><Children>'
        '<Element Name="Series 1"><Data><Image><ImageDescription>'
        f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{pixels.nbytes}" '
        'MemoryBlockID="MemBlock_1"/></Element></Children></Element></LMSDataContainerHeader>'
    )
    xml, label = text.encode("utf-16-le"), "MemBlock_1".encode("utf-16-le")
    path.write_bytes(
        struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(text))
        + xml
        + struct.pack("<IIBQBI", 0x70, len(label) + 14, 0x2A, pixels.nbytes, 0x2A, len(label) // 2)
        + label
        + pixels.tobytes()
    )


def write_nd2(path: Path, pixels: AnyArray, um: Mapping[str, float], names: Sequence[str]) -> None:
    """Write a stack of a Nikon file, version 2.1.

    Parameters
    ----------
    pixels : (c, z, y, x) uint16
    um : pixel size along z and x; y is as x
    names : of the channels
    """
    channels, planes, height, width = pixels.shape
    chunks = {
        b"ImageAttributes!": _variant(
            {
                "uiWidth": width, "uiWidthBytes": 2 * channels * width, "uiHeight": height,
                "uiComp": channels, "uiBpcInMemory": 16, "uiBpcSignificant": 16,
                "uiSequenceCount": planes, "eCompression": 2,
            }
        ),
        b"ImageMetadataSeq|0!": _variant(_metadata(um, names)),
        b"ImageMetadata!": _variant(_stack(planes, um["z"])),
        b"CustomData|AcqTimesCache!": np.arange(planes, dtype="<f8").tobytes(),
    }  # fmt: skip
    for number in range(planes):
        frame = np.moveaxis(pixels[:, number], 0, -1).tobytes()
        chunks[b"ImageDataSeq|%d!" % number] = struct.pack("<d", number) + frame
    _write_chunks(path, chunks)


def _metadata(um: Mapping[str, float], names: Sequence[str]) -> Tree:
    plane = {"uiCompCount": 1, "uiColor": 65280, "eModality": 0}
    told: dict[str, Tree] = {
        f"i{number:010}": {
            **plane, "uiSampleIndex": number, "sDescription": name,
            "pFluorescentProbe": {"m_sName": name},
        }
        for number, name in enumerate(names)
    }  # fmt: skip
    return {
        "bCalibrated": True, "dCalibration": um["x"], "dXPos": 0.0, "dYPos": 0.0, "dZPos": 0.0,
        "sPicturePlanes": {"uiCount": len(names), "uiCompCount": len(names), "sPlaneNew": told},
    }  # fmt: skip


def _stack(planes: int, um: float) -> Tree:
    loop: Tree = {
        "uiCount": planes, "dZStep": um, "dZLow": 0.0, "dZHigh": um * (planes - 1), "dZHome": 0.0,
        "iType": 2, "bAbsolute": False, "bTriggeredPiezo": False, "bZInverted": False,
        "dReferencePosition": 0.0, "wsZDevice": "",
    }  # fmt: skip
    return {"eType": 4, "uLoopPars": loop}


def _variant(tree: Tree) -> bytes:
    return f'<variant version="1.0">{_node("no_name", tree)}</variant>'.encode()


def _node(name: str, value: Tree | float | str) -> str:
    if isinstance(value, Mapping):
        inner = "".join(_node(key, one) for key, one in value.items())
        return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    word = str(value).lower() if isinstance(value, bool) else value
    return f'<{name} runtype="{kinds[type(value)]}" value="{word}"/>'


def _write_chunks(path: Path, chunks: Mapping[bytes, bytes]) -> None:
    start = struct.pack("<IIQ", _ND2_MAGIC, 32, 64) + b"ND2 FILE SIGNATURE CHUNK NAME01!Ver2.1"
    content = bytearray(start.ljust(4096, b"\0"))
    places = b""
    for name, data in chunks.items():
        places += name + struct.pack("<QQ", len(content), len(data))
        content += _chunk(name, data)
    table = len(content)
    content += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", places + _ND2_MAP + bytes(16))
    path.write_bytes(content + _ND2_MAP + struct.pack("<Q", table))


def _chunk(name: bytes, data: bytes) -> bytes:
    head = struct.pack("<IIQ", _ND2_MAGIC, _ND2_NAME, len(data))
    whole = head + name.ljust(_ND2_NAME, b"\0") + data
    return whole + bytes(-len(whole) % 4096)
