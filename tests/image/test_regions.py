from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.image.regions import assert_same, read_region

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.image.faults import AxesUnknown, RegionRefused
from bmz.image.info import ImageInfo
from bmz.image.inspect import inspect_image
from bmz.image.pixels import Pixels
from bmz.image.region import open_file, open_image, read_image
from bmz.image.tiff import TiffPlanes

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 60000, (2, 3, 40, 50)).astype(np.uint16)
PHOTO = RNG.integers(0, 255, (40, 50, 3)).astype(np.uint8)
GREY: dict[str, Any] = {"photometric": "minisblack"}
WORDS = {"axes": "ZCYX", "spacing": 2.0, "unit": "um"}
OME = {
    "axes": "ZCYX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 2.0,
    "Channel": {"Name": ["a", "b", "c"]},
}  # fmt: skip

TIFFS: dict[str, tuple[AnyArray, dict[str, Any]]] = {
    "mapped.tif": (STACK[0], {**GREY, "byteorder": "<", "metadata": {"axes": "ZYX"}}),
    "foreign.tif": (STACK[0], {**GREY, "byteorder": ">", "metadata": {"axes": "ZYX"}}),
    "imagej.tif": (STACK, {**GREY, "imagej": True, "metadata": WORDS, "resolution": (4, 4)}),
    "strips.ome.tif": (
        STACK,
        {**GREY, "ome": True, "metadata": OME, "compression": "lzw", "rowsperstrip": 7},
    ),
    "tiles.ome.tif": (
        STACK,
        {**GREY, "ome": True, "metadata": OME, "compression": "zlib", "tile": (16, 32)},
    ),
    "predicted.ome.tif": (
        STACK.astype(np.float32),
        {**GREY, "ome": True, "metadata": OME, "compression": "zstd", "predictor": True},
    ),
    "bare-tiles.tif": (STACK[0, 0], {**GREY, "tile": (16, 16)}),
    "photo.tif": (PHOTO, {"photometric": "rgb", "compression": "zlib", "tile": (16, 16)}),
    "jpeg.tif": (PHOTO, {"photometric": "rgb", "compression": "jpeg", "tile": (16, 16)}),
    "separate.tif": (
        np.ascontiguousarray(np.moveaxis(PHOTO, -1, 0)),
        {
            "photometric": "rgb",
            "planarconfig": "separate",
            "compression": "zlib",
            "tile": (16, 16),
        },
    ),
    "alpha.tif": (
        np.dstack([PHOTO, np.full((40, 50), 255, np.uint8)]),
        {"photometric": "rgb", "extrasamples": ["unassalpha"], "compression": "zlib"},
    ),
    "bits.tif": (PHOTO[..., 0] > 99, {"photometric": "minisblack"}),
}


def save_zarr(path: Path, pixels: AnyArray, version: str, **options: Any) -> None:
    units = ["micrometer"] * 2
    axes = [
        {"name": "z", "type": "space", "unit": "nanometer"},
        {"name": "c", "type": "channel"},
        *({"name": a, "type": "space", "unit": u} for a, u in zip("yx", units, strict=True)),
    ]
    axes[0], axes[1] = axes[1], axes[0]
    scale = {"type": "scale", "scale": [1, 500.0, 0.5, 0.25]}
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    labels = {"channels": [{"label": "a"}, {"label": "b"}]}
    ome: dict[str, Any] = {"multiscales": [image], "omero": labels}
    old = version == "0.4"
    attributes: dict[str, Any] = ome if old else {"ome": {"version": version, **ome}}
    group = zarr.open_group(path, mode="w", zarr_format=2 if old else 3, attributes=attributes)
    group.create_array("0", data=pixels, **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ImageInfo]:
    folder = tmp_path_factory.mktemp("regions")
    for name, (pixels, options) in TIFFS.items():
        tifffile.imwrite(folder / name, pixels, **options)
    tiles = (None if i % 3 else STACK[0, 0, :16, :32] for i in range(6))
    sparse: dict[str, Any] = {
        "shape": (40, 50),
        "dtype": np.uint16,
        "tile": (16, 32),
        "compression": "zlib",
    }
    tifffile.imwrite(folder / "sparse.tif", tiles, **sparse, **GREY)
    with tifffile.TiffWriter(folder / "scattered.tif") as tif:
        for page in STACK[0]:
            tif.write(page, contiguous=False, metadata=None, **GREY)
    save_zarr(folder / "old.ome.zarr", STACK.astype(">u2"), "0.4", chunks=(1, 1, 16, 16))
    chunks = {"chunks": (1, 1, 8, 8), "shards": (1, 3, 24, 24)}
    save_zarr(folder / "new.ome.zarr", STACK, "0.5", **chunks)
    Image.fromarray(PHOTO).save(folder / "photo.png")
    Image.fromarray(PHOTO).save(folder / "photo.jpg")
    np.save(folder / "native.npy", STACK[0])
    np.save(folder / "foreign.npy", np.asfortranarray(STACK[:1, :1].astype(">f4")))
    told = {"scattered.tif": "zyx", "native.npy": "cyx", "foreign.npy": "czyx"}
    return {p.name: inspect_image(p, axes=told.get(p.name)) for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def wholes(images: Mapping[str, ImageInfo]) -> Mapping[str, Pixels]:
    return {name: read_image(info) for name, info in images.items()}


def sides(length: int) -> st.SearchStrategy[slice]:
    two = st.lists(st.integers(0, length), min_size=2, max_size=2, unique=True).map(sorted)
    some = two.map(lambda ends: slice(ends[0], ends[1]))
    last = st.integers(1, length).map(lambda n: slice(-n, None))
    return some | last | st.just(slice(None))


@settings(max_examples=300)
@given(data=st.data())
def test_a_region_is_what_the_whole_image_has_there(
    images: Mapping[str, ImageInfo], wholes: Mapping[str, Pixels], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(images)))
    info = images[name]
    named = st.fixed_dictionaries({}, optional={a: sides(n) for a, n in info.sizes.items()})
    slices = data.draw(named)

    region = read_region(info, slices)

    assert_same(region, wholes[name].part(slices))
    assert region.dtype.isnative


def test_every_format_is_told_as_it_was_written(images: Mapping[str, ImageInfo]) -> None:
    assert np.array_equal(read_image(images["strips.ome.tif"]).transposed("zcyx"), STACK)
    for name in ("old.ome.zarr", "new.ome.zarr"):
        assert np.array_equal(read_image(images[name]).transposed("czyx"), STACK)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_regions_of_one_open_image_do_not_disturb_each_other(
    images: Mapping[str, ImageInfo], data: st.DataObject
) -> None:
    info = images["tiles.ome.tif"]
    several = st.lists(st.fixed_dictionaries({a: sides(n) for a, n in info.sizes.items()}))
    whole = read_image(info)

    with open_image(info) as image:
        for slices in data.draw(several):
            region = image.region(slices)

            assert np.array_equal(region, whole.part(slices))


def test_only_the_tiles_that_a_region_touches_are_decoded(
    images: Mapping[str, ImageInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    decode = TiffPlanes._segment

    def counted(self: TiffPlanes, page: Any, number: int, index: int) -> AnyArray | None:
        asked.append(index)
        return decode(self, page, number, index)

    monkeypatch.setattr(TiffPlanes, "_segment", counted)
    box = {"z": slice(1, 2), "c": slice(2, 3), "y": slice(15, 17), "x": slice(0, 4)}

    read_region(images["tiles.ome.tif"], box)

    assert asked == [0, 2]  # of 3 x 2 tiles: the first of the first two rows


def test_decoded_tiles_are_kept_within_bounds(
    images: Mapping[str, ImageInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.image.tiff._CACHE_BYTES", 3000)

    with open_file(images["tiles.ome.tif"]) as image:
        twice = [image.region({}) for _ in range(2)]
        assert isinstance(image.stored, TiffPlanes)
        kept = sum(tile.nbytes for tile in image.stored._decoded.values())

    assert np.array_equal(twice[0], twice[1])
    assert kept == image.stored._decoded_bytes <= 3000


def test_only_the_chunks_that_a_region_touches_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    save_zarr(path, STACK, "0.4", chunks=(1, 1, 16, 16))
    info = inspect_image(path)
    for chunk in path.joinpath("0").iterdir():
        if chunk.name[0].isdigit() and not chunk.name.startswith("1.2.0.0"):
            chunk.write_bytes(b"spoilt")
    box = {"c": slice(1, 2), "z": slice(2, 3), "y": slice(0, 16), "x": slice(3, 9)}

    region = read_region(info, box)

    assert np.array_equal(region.array[0, 0], STACK[1, 2, :16, 3:9])
    with pytest.raises(CouldNotTell, match="16 bytes wanted, 6 found") as caught:
        read_image(info)
    assert caught.value.code == "image.truncated"


@pytest.mark.parametrize("name", ["mapped.tif", "scattered.tif", "native.npy"])
def test_a_region_of_bare_pixels_is_mapped(images: Mapping[str, ImageInfo], name: str) -> None:
    with open_file(images[name]) as image:
        region = image.region({"y": slice(3, 9)})
        lazy = isinstance(image.stored, np.memmap)

    assert region.sizes["y"] == 6
    assert lazy or name == "scattered.tif"


@pytest.mark.parametrize(
    ("slices", "why"),
    [
        ({"t": slice(0, 1)}, "it has no axis t"),
        ({"y": slice(0, 9, 2)}, r"region y=0:9:2: axis y has a step"),
        ({"y": slice(9, 9)}, "it contains no pixel along y, which has 40"),
        ({"x": slice(50, None)}, "region x=50:: it contains no pixel"),
    ],
)
def test_what_is_no_region_is_refused(
    images: Mapping[str, ImageInfo], slices: dict[str, slice], why: str
) -> None:
    with pytest.raises(RegionRefused, match=why) as caught:
        read_region(images["photo.png"], slices)

    assert (caught.value.code, caught.value.exit_status) == ("image.region", 2)


def test_a_region_of_unnamed_axes_is_asked_about(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK[0])

    with pytest.raises(AxesUnknown):
        read_region(inspect_image(tmp_path / "a.npy"), {})


def test_a_file_that_changed_since_it_was_looked_at_gives_no_region(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 5)))
    info = inspect_image(path)
    np.save(path, np.zeros((5, 4)))

    with pytest.raises(CouldNotTell, match="changed since"):
        read_region(info, {})


def test_a_damaged_tile_is_one_of_our_errors_where_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[0, 0], compression="zlib", tile=(16, 16), **GREY)
    with tifffile.TiffFile(path) as tif:
        start, count = (values[-1] for values in _segments(tif))
    content = bytearray(path.read_bytes())
    content[start : start + count] = b"\xff" * count
    path.write_bytes(content)
    info = inspect_image(path)

    sound = read_region(info, {"y": slice(0, 16)})

    assert np.array_equal(sound, STACK[0, 0, :16])
    with pytest.raises(CouldNotTell, match="damaged TIFF file"):
        read_region(info, {"y": slice(32, 40)})


def _segments(tif: tifffile.TiffFile) -> tuple[tuple[int, ...], tuple[int, ...]]:
    page = tif.pages.first
    return tuple(page.dataoffsets), tuple(page.databytecounts)


def test_planes_in_several_files_are_read_from_each(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.ome.tif" for i in range(2)]
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    planes = "".join(
        f'<TiffData FirstZ="{i}" IFD="0"><UUID FileName="{names[i].name}">{uuids[i]}</UUID>'
        "</TiffData>"
        for i in range(2)
    )
    for i in range(2):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[i]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="50" SizeY="40" SizeZ="2" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0"/>{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            names[i], STACK[0, i], compression="zlib", description=xml, metadata=None, **GREY
        )

    info = inspect_image(names[0])
    region = read_region(info, {"y": slice(3, 7), "x": slice(9, 10)})

    assert info.axes == "zyx"
    assert np.array_equal(region, STACK[0, :2, 3:7, 9:10])


def sparse_tiff(path: Path) -> Path:
    tifffile.memmap(
        path, shape=(20, 16384, 16384), dtype=np.uint16, bigtiff=True, metadata={"axes": "ZYX"}
    )
    return path


def sparse_npy(path: Path) -> Path:
    np.lib.format.open_memmap(path, "w+", np.uint16, (20, 16384, 16384))
    return path


def sparse_zarr(path: Path) -> Path:
    save_zarr(path, STACK[:, :1], "0.5", chunks=(1, 1, 16, 16))
    described = path / "0" / "zarr.json"
    words = described.read_text()
    assert words.count("40,") == words.count("    50\n") == 1
    described.write_text(words.replace("40,", "65536,").replace("    50\n", "    65536\n"))
    return path


def bytes_touched() -> int:
    """Give what this process has read, and the most memory that it has had, in bytes."""
    import resource  # here: Windows has none

    (line,) = (x for x in Path("/proc/self/io").read_text().splitlines() if "rchar" in x)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(line.split()[1]) + 1024 * peak_kib


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="Linux alone tells what is read")
@pytest.mark.parametrize("made", [sparse_tiff, sparse_npy, sparse_zarr])
def test_for_the_header_and_a_region_of_ten_gigabytes_little_is_read(
    tmp_path: Path, made: Any
) -> None:
    path = made(tmp_path / made.__name__.replace("sparse_", "a."))
    on_disk = sum(p.stat().st_blocks * 512 for p in tmp_path.rglob("*"))
    axes = "zyx" if path.suffix == ".npy" else None
    box = {"y": slice(8000, 8512), "x": slice(8000, 8512)}
    before = bytes_touched()

    info = inspect_image(path, axes=axes)
    region = read_region(info, {**box, "z": slice(0, 1)} if "z" in info.axes else box)

    assert on_disk < 5e6
    assert np.prod(info.shape, dtype=float) * info.dtype.itemsize > 1e10
    assert region.sizes["x"] == 512
    assert bytes_touched() - before < 2e8  # with what is imported for it


def test_zarr_is_loaded_for_zarr_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PHOTO[..., 0])
    code = (
        "import sys; from pathlib import Path; from bmz.image.inspect import inspect_image; "
        f"inspect_image(Path({str(tmp_path / 'a.npy')!r})); "
        "print({'zarr', 'yaozarrs', 'pydantic', 'bioio', 'dask.array'} & set(sys.modules))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "set()"
