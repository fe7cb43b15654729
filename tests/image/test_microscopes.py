from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.image.microscope_files import write_lif, write_nd2
from tests.image.regions import assert_same, read_region

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.image.faults import FormatPluginMissing, PartsMissing, SeriesOutOfRange, TwoChannelAxes
from bmz.image.formats import format_of
from bmz.image.inspect import inspect_image
from bmz.image.microscopes import LIBRARIES
from bmz.image.region import read_image
from bmz.image.scenes import Lazy, Scene

CZI = b"ZISRAWFILE" + bytes(22)
LIF = b"\x70\0\0\0\x10\0\0\0\x2a" + bytes(23)
ND2 = b"\xda\xce\xbe\x0a" + bytes(28)
OLD_ND2 = b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20)


class LazyPlanes:
    """Stands for a dask array: gives pixels only when they are computed."""

    def __init__(self, pixels: AnyArray, computed: list[tuple[int, ...]]) -> None:
        self.pixels, self.computed = pixels, computed
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __getitem__(self, box: tuple[slice, ...]) -> LazyPlanes:
        return LazyPlanes(self.pixels[box], self.computed)

    def compute(self, scheduler: str) -> AnyArray:
        assert scheduler == "synchronous"
        self.computed.append(self.shape)
        return self.pixels


@dataclass
class FakeScenes:
    """Stands for a file that a library has open."""

    arrays: Sequence[AnyArray]
    order: str = "TCZYX"
    um: Mapping[str, float] = field(default_factory=lambda: {"z": 2.0, "y": 0.5, "x": 0.25})
    channel_names: Sequence[str] = ("DAPI", "GFP")
    computed: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"Scene:{i}" for i in range(len(self.arrays))]

    def scene(self, number: int, /) -> Scene:
        lazy = Lazy(cast("Any", LazyPlanes(self.arrays[number], self.computed)))
        return Scene(self.order, lazy, self.um, self.channel_names)


PIXELS = np.random.default_rng(0).integers(0, 60000, (1, 2, 3, 20, 24)).astype(np.uint16)


def opened_as(monkeypatch: pytest.MonkeyPatch, path: Path, image: FakeScenes | Exception) -> Path:
    """Write a file that starts as ND2 does, and let its library open it as `image`."""

    @contextmanager
    def fake(_path: Path) -> Iterator[FakeScenes]:
        if isinstance(image, Exception):
            raise image
        yield image

    path.write_bytes(ND2)
    library = replace(LIBRARIES["ND2"], module="numpy", opener=fake)
    monkeypatch.setattr("bmz.image.microscopes.LIBRARIES", {"ND2": library})
    return path


@pytest.mark.parametrize(
    ("name", "head", "found"),
    [
        ("a.czi", CZI, "CZI"),
        ("a.dat", CZI, "CZI"),
        ("a.lif", LIF, "LIF"),
        ("a.nd2", ND2, "ND2"),
        ("a.nd2", OLD_ND2, "ND2"),
    ],
)
def test_the_content_tells_the_microscope(
    tmp_path: Path, name: str, head: bytes, found: str
) -> None:
    (tmp_path / name).write_bytes(head)

    assert format_of(tmp_path / name) == found


@pytest.mark.parametrize("name", ["a.czi", "a.lif", "a.nd2"])
def test_other_content_is_of_no_microscope(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"hello world")

    with pytest.raises(CouldNotTell) as caught:
        inspect_image(tmp_path / name)

    assert caught.value.code == "image.format"


@pytest.mark.parametrize(("head", "library"), [(CZI, "pylibCZIrw"), (LIF, "liffile"), (ND2, "nd2")])
def test_a_library_that_is_not_installed_is_named_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, library: str
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("bmz.image.microscopes.import_module", missing)
    (tmp_path / "a").write_bytes(head)

    with pytest.raises(FormatPluginMissing, match=f"{library} is not installed") as caught:
        inspect_image(tmp_path / "a")

    assert (caught.value.code, caught.value.exit_status) == ("image.plugin", 3)
    assert "pip install 'bmz[formats]'" in caught.value.hint


def test_a_scene_is_told_in_our_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = opened_as(monkeypatch, tmp_path / "a.nd2", FakeScenes([PIXELS, PIXELS[:, :, :, :9]]))

    first, second = (inspect_image(path, series=i) for i in range(2))

    assert (first.axes, first.shape) == ("czyx", (2, 3, 20, 24))
    assert (first.pixel_um, first.pixel_from) == ({"z": 2.0, "y": 0.5, "x": 0.25}, "nd2")
    assert first.series_names == ("Scene:0", "Scene:1")
    assert first.channel_names == ("DAPI", "GFP")
    assert (second.shape, second.series, second.series_count) == ((2, 3, 9, 24), 1, 2)
    assert np.array_equal(read_image(second).transposed("czyx"), PIXELS[0, :, :, :9])
    with pytest.raises(SeriesOutOfRange):
        inspect_image(path, series=2)


def test_only_the_planes_of_a_region_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = FakeScenes([PIXELS])
    info = inspect_image(opened_as(monkeypatch, tmp_path / "a.nd2", image))
    box = {"c": slice(1, 2), "z": slice(0, 2), "y": slice(3, 9)}

    region = read_region(info, box)

    assert image.computed == [(1, 1, 2, 6, 24)]
    assert_same(region, read_image(info).part(box))


def test_a_single_plane_has_two_axes_and_no_length_of_z(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = FakeScenes([PIXELS[:, :1, :1]], um={"z": 2.0, "x": 0.25})

    info = inspect_image(opened_as(monkeypatch, tmp_path / "a.nd2", image))

    assert (info.axes, info.shape, info.channel_names) == ("yx", (20, 24), ())
    assert (info.pixel_um, info.odd_pixel) == ({"x": 0.25}, ())


def test_colour_samples_of_three_are_a_photograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.moveaxis(PIXELS, 2, -1)[:, :1, None]
    image = FakeScenes([pixels], order="TCZYXS", channel_names=["RGB"])

    info = inspect_image(opened_as(monkeypatch, tmp_path / "a.nd2", image))

    assert (info.axes, info.shape, info.colour) == ("yxc", (20, 24, 3), True)
    assert info.channel_names == ()


def test_colour_samples_within_channels_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = FakeScenes([np.zeros((1, 2, 1, 4, 5, 3), np.uint8)], order="TCZYXS")
    path = opened_as(monkeypatch, tmp_path / "a.nd2", image)

    with pytest.raises(TwoChannelAxes):
        inspect_image(path)


def test_whatever_a_library_raises_is_one_of_our_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OfTheLibrary(Exception):
        pass

    path = opened_as(monkeypatch, tmp_path / "a.nd2", OfTheLibrary("no frames\nat all"))

    with pytest.raises(CouldNotTell, match="is a damaged ND2 file: no frames at all") as caught:
        inspect_image(path)

    assert caught.value.code == "image.unreadable"


@pytest.mark.parametrize(("name", "plugin"), [("a.dv", "bioio-dv"), ("a.oib", "bioio-bioformats")])
def test_another_format_names_the_plugin_that_reads_it(
    tmp_path: Path, name: str, plugin: str
) -> None:
    pytest.importorskip("bioio")
    (tmp_path / name).write_bytes(b"pixels of a microscope")

    with pytest.raises(FormatPluginMissing) as caught:
        inspect_image(tmp_path / name)

    assert f"pip install {plugin}," in caught.value.hint


def test_a_plugin_that_is_installed_reads_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = pytest.importorskip("bioio.plugins")
    scenes = FakeScenes([PIXELS])

    @contextmanager
    def opened(_path: Path) -> Iterator[FakeScenes]:
        yield scenes

    library = replace(LIBRARIES["bioio"], opener=opened)
    monkeypatch.setattr("bmz.image.microscopes.LIBRARIES", {"bioio": library})
    monkeypatch.setattr(plugins, "get_plugins", lambda **_: {".xyz": [object()]})
    (tmp_path / "a.xyz").write_bytes(b"pixels of a microscope")

    info = inspect_image(tmp_path / "a.xyz")

    assert (info.axes, info.shape) == ("czyx", (2, 3, 20, 24))
    assert np.array_equal(read_image(info).transposed("czyx"), PIXELS[0])


@pytest.mark.parametrize(
    ("name", "head", "folder"),
    [("a.mrxs", b"\xff\xd8\xff\xe0", "a"), ("a.vsi", b"II*\0", "_a_")],
)
def test_a_preview_is_never_taken_for_the_image(
    tmp_path: Path, name: str, head: bytes, folder: str
) -> None:
    (tmp_path / name).write_bytes(head + bytes(99))

    with pytest.raises(PartsMissing, match=f"missing: '{folder}'"):
        inspect_image(tmp_path / name)

    (tmp_path / folder).mkdir()
    assert format_of(tmp_path / name) == "bioio"


@pytest.fixture
def czi_file(tmp_path: Path) -> Path:
    pytest.importorskip("pylibCZIrw")
    writer = importlib.import_module("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    with writer.create_czi(str(path)) as document:
        for c in range(2):
            for z in range(3):
                plane = {"C": c, "Z": z, "T": 0}
                document.write(data=PIXELS[0, c, z][..., None], plane=plane)
        names, um = {0: "DAPI", 1: "GFP"}, 1e-6
        document.write_metadata(
            "a", channel_names=names, scale_x=0.25 * um, scale_y=0.5 * um, scale_z=2 * um
        )
    return path


def test_a_real_czi_is_told_and_read_whole_and_by_region(czi_file: Path) -> None:
    info = inspect_image(czi_file)
    box = {"c": slice(1, 2), "y": slice(3, 9), "x": slice(5, 6)}

    image, region = read_image(info), read_region(info, box)

    assert (info.axes, info.shape, info.series_count) == ("czyx", (2, 3, 20, 24), 1)
    assert info.pixel_um == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.25})
    assert info.channel_names == ("DAPI", "GFP")
    assert np.array_equal(image.transposed("czyx"), PIXELS[0])
    assert_same(region, image.part(box))


def test_a_real_lif_is_told_and_read_whole_and_by_region(tmp_path: Path) -> None:
    pytest.importorskip("liffile")
    pixels = (PIXELS[0] % 256).astype(np.uint8)
    write_lif(tmp_path / "a.lif", pixels, {"z": 2, "y": 0.5, "x": 0.25}, ("Green", "Red"))
    info = inspect_image(tmp_path / "a.lif")
    box = {"c": slice(1, 2), "y": slice(3, 9), "x": slice(5, 6)}

    image, region = read_image(info), read_region(info, box)

    assert (info.axes, info.shape, info.series_count) == ("czyx", (2, 3, 20, 24), 1)
    assert info.pixel_um == pytest.approx({"z": 2.0, "y": 0.5, "x": 0.25})
    assert info.channel_names == ("Green", "Red")
    assert np.array_equal(image.transposed("czyx"), pixels)
    assert_same(region, image.part(box))


def test_a_real_nd2_is_told_and_read_whole_and_by_region(tmp_path: Path) -> None:
    pytest.importorskip("nd2")
    write_nd2(tmp_path / "a.nd2", PIXELS[0], {"z": 2, "x": 0.25}, ("DAPI", "GFP"))
    info = inspect_image(tmp_path / "a.nd2")
    box = {"c": slice(1, 2), "z": slice(1, 3), "x": slice(5, 6)}

    image, region = read_image(info), read_region(info, box)

    assert (info.axes, info.shape, info.series_count) == ("czyx", (2, 3, 20, 24), 1)
    assert info.pixel_um == pytest.approx({"z": 2.0, "y": 0.25, "x": 0.25})
    assert info.channel_names == ("DAPI", "GFP")
    assert np.array_equal(image.transposed("czyx"), PIXELS[0])
    assert_same(region, image.part(box))


@pytest.mark.parametrize(
    ("module", "name", "head"),
    [("pylibCZIrw", "a.czi", CZI), ("liffile", "a.lif", LIF), ("nd2", "a.nd2", ND2)],
)
def test_a_file_that_only_starts_right_is_one_of_our_errors(
    tmp_path: Path, module: str, name: str, head: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(module)
    (tmp_path / name).write_bytes(head + bytes(1000))

    with pytest.raises(CouldNotTell) as caught:
        inspect_image(tmp_path / name)

    assert caught.value.code in ("image.unreadable", "image.truncated")
    assert "\n" not in caught.value.message
    assert capfd.readouterr().err == ""


def test_a_czi_that_is_cut_short_is_one_of_our_errors(czi_file: Path) -> None:
    czi_file.write_bytes(czi_file.read_bytes()[:3000])

    with pytest.raises(CouldNotTell):
        read_image(inspect_image(czi_file))
