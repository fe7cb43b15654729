"""The script for OMERO, with objects that have the methods that it needs of omero-py 5.23."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import tifffile
import xarray as xr
from skimage.draw import polygon2mask

import bmz
from bmz.app.run import demo_image

pytest.importorskip("onnxruntime")

SCRIPT = Path(__file__).parents[2] / "share" / "omero" / "bmz_omero.py"


class RType(NamedTuple):
    kind: str
    val: Any


class Shape:
    """A shape takes the values of omero.rtypes alone; bytes are plain."""

    KINDS: ClassVar = {"TheT": "int", "TheZ": "int", "TextValue": "string", "StrokeColor": "int"}

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        field = name.removeprefix("set")
        if not name.startswith("set") or field not in self.KINDS:
            raise AttributeError(name)

        def put(value: Any) -> None:
            wanted = self.KINDS[field]
            assert type(value) is bytes if wanted == "bytes" else value.kind == wanted
            self.fields[field] = value if wanted == "bytes" else value.val

        return put


class PolygonI(Shape):
    KINDS: ClassVar = Shape.KINDS | {"Points": "string"}


class MaskI(Shape):
    KINDS: ClassVar = {
        **Shape.KINDS,
        **dict.fromkeys(("X", "Y", "Width", "Height"), "double"),
        "Bytes": "bytes",
    }


class RoiI:
    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def setImage(self, image: object) -> None:
        self.image = image

    def addShape(self, shape: Shape) -> None:
        self.shapes.append(shape)


class Wrapper:
    """An ``ImageWrapper``, whose pixels are asked for plane by plane: z, c, t."""

    def __init__(self, tczyx: np.ndarray, um: tuple[float | None, ...] = (None,) * 3) -> None:
        self.planes = tczyx
        self._obj = object()
        self.annotations: list[Any] = []
        t, c, z, _, _ = tczyx.shape
        facts = {
            "SizeT": t, "SizeC": c, "SizeZ": z, "PixelSizeZ": um[0], "PixelSizeY": um[1],
            "PixelSizeX": um[2], "Name": "/lab/../cells.tif", "Id": 101, "PrimaryPixels": self,
            "ChannelLabels": [f"stain {n}" for n in range(c)],
        }  # fmt: skip
        for name, value in facts.items():
            setattr(self, f"get{name}", lambda value=value: value)

    def getPlanes(self, places: list[tuple[int, int, int]]) -> Iterator[np.ndarray]:
        for z, c, t in places:
            yield self.planes[t, c, z]

    def linkAnnotation(self, annotation: object) -> None:
        self.annotations.append(annotation)


class Gateway:
    """A ``BlitzGateway`` that is its own update service."""

    lets_in = True
    SERVICE_OPTS = object()

    def __init__(self, *_: Any, **__: Any) -> None:
        self.closed = False
        self.rois: list[RoiI] = []
        Gateway.last = self

    last: ClassVar[Gateway]
    images: ClassVar[dict[int, Wrapper]] = {}

    def __getattr__(self, name: str) -> Any:
        known = {
            "connect": lambda: self.lets_in,
            "close": lambda: setattr(self, "closed", True),
            "getUpdateService": lambda: self,
            "getObject": lambda kind, number: self.images.get(number) if kind == "Image" else None,
            "saveArray": self._save,
            "createFileAnnfromLocalFile": self._annotation,
        }
        if name not in known:
            raise AttributeError(name)
        return known[name]

    def _save(self, rois: list[RoiI], options: object) -> None:
        assert options is self.SERVICE_OPTS
        self.rois += rois

    @staticmethod
    def _annotation(path: str, *, origFilePathAndName: str, mimetype: str, ns: str) -> Any:
        return origFilePathAndName, mimetype, ns, Path(path).read_text(encoding="utf-8")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with omero-py in its place."""
    rtypes = {
        f"r{kind}": (lambda value, kind=kind: RType(kind, value))
        for kind in ("int", "double", "string")
    }
    parts: dict[str, dict[str, Any]] = {
        "omero": {},
        "omero.model": {"RoiI": RoiI, "PolygonI": PolygonI, "MaskI": MaskI},
        "omero.rtypes": rtypes,
        "omero.gateway": {"BlitzGateway": Gateway},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("OMERO_PASSWORD", "secret")
    monkeypatch.setattr(Gateway, "lets_in", True)
    monkeypatch.setattr(Gateway, "images", {})
    spec = importlib.util.spec_from_file_location("bmz_omero", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def drawn(rois: list[RoiI], shape: tuple[int, ...]) -> np.ndarray:
    """Draw ROIs into a mask of tzyx, as OMERO's viewers do: a pixel counts by its middle."""
    mask = np.zeros(shape, np.int64)
    for roi in rois:
        for part in roi.shapes:
            plane = mask[part.fields["TheT"], part.fields["TheZ"]]
            label = int(part.fields["TextValue"])
            if isinstance(part, PolygonI):
                points = [point.split(",") for point in part.fields["Points"].split(" ")]
                corners = np.array(points, float)[:, ::-1] - 0.5
                plane[polygon2mask(plane.shape, corners)] = label
            else:
                left, top, width, height = (
                    int(part.fields[name]) for name in ("X", "Y", "Width", "Height")
                )
                bits = np.unpackbits(np.frombuffer(part.fields["Bytes"], np.uint8))
                inside = bits[: width * height].reshape(height, width).astype(bool)
                plane[top : top + height, left : left + width][inside] = label
    return mask


def test_an_image_is_fetched_with_its_axes_lengths_and_channels(script: ModuleType) -> None:
    planes = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.uint16).reshape(2, 3, 4, 5, 6)

    image = script.fetched(Wrapper(planes, (2.0, 0.5, 0.25)))

    assert image.dims == ("t", "c", "z", "y", "x")
    assert np.array_equal(image.values, planes)
    assert image.coords["c"].values.tolist() == ["stain 0", "stain 1", "stain 2"]
    assert [float(image.coords[a][1]) for a in "zyx"] == [2.0, 0.5, 0.25]


def test_axes_of_one_position_are_left_out_and_unknown_lengths_too(script: ModuleType) -> None:
    image = script.fetched(Wrapper(np.zeros((1, 1, 1, 5, 6), np.uint8)))

    assert image.dims == ("y", "x")
    assert list(image.coords) == []


def test_rois_that_are_drawn_again_are_the_mask(script: ModuleType) -> None:
    labels = np.zeros((2, 3, 40, 50), np.uint16)
    labels[0, 0, 2:9, 3:9] = 1
    labels[0, :, 20:30, 20:30] = 2
    labels[0, 1, 23:26, 24:27] = 0  # a hole
    labels[1, 2, 5:9, 5:9] = labels[1, 2, 30:33, 5:9] = 7  # two pieces
    labels[1, 2, 24, 24] = 300  # the object is larger than a byte, and one pixel
    image = Wrapper(np.zeros((2, 1, 3, 40, 50)))

    rois = list(script.rois_of(xr.DataArray(labels, dims=tuple("tzyx")), image))

    assert np.array_equal(drawn(rois, labels.shape), labels)
    assert [roi.shapes[0].fields["TextValue"] for roi in rois] == ["1", "2", "7", "300"]
    assert [len(roi.shapes) for roi in rois] == [1, 3, 2, 1]
    assert sum(isinstance(part, MaskI) for roi in rois for part in roi.shapes) == 1
    assert all(roi.image is image._obj for roi in rois)


def test_a_colour_is_the_signed_number_that_omero_stores(script: ModuleType) -> None:
    assert (script.YELLOW & 0xFFFFFFFF).to_bytes(4) == bytes([255, 255, 0, 255])
    assert -(2**31) <= script.YELLOW < 2**31


WORDS = ["starter/nuclei", "--host", "omero.lab.org", "--user", "jane"]


def test_the_script_saves_rois_and_attaches_table_and_record(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Wrapper(tifffile.imread(demo_image())[None, None, None], (None, 0.65, 0.65))
    monkeypatch.setattr(script, "AT_ONCE", 50)
    Gateway.images[101] = image

    status = script.main([*WORDS, "101"])

    with bmz.load("starter/nuclei") as model:
        expected = model.run(script.fetched(image))
    assert expected.labels is not None
    assert status == 0
    assert Gateway.last.closed
    assert len(Gateway.last.rois) == expected.objects > 100
    mask = drawn(Gateway.last.rois, (1, 1, *expected.labels.shape))
    assert np.array_equal(mask[0, 0], expected.labels.values)
    table, record = image.annotations
    assert table[:3] == ("101.objects.csv", "text/csv", "bmz")
    assert table[3].count("\n") == expected.objects + 1
    assert "area_um2" in table[3]
    assert record[:2] == ("101.run.json", "application/json")
    assert f"{expected.objects} ROIs saved" in capsys.readouterr().out


def test_images_that_are_absent_or_do_not_fit_are_told_and_others_are_done(
    script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    Gateway.images[1] = Wrapper(np.full((1, 1, 1, 64, 64), np.nan, np.float32))
    Gateway.images[2] = Wrapper(tifffile.imread(demo_image())[None, None, None, :200, :200])

    status = script.main([*WORDS, "9", "1", "2"])

    told = capsys.readouterr().out
    assert status == 1
    assert "image 9 does not exist" in told
    assert "does not fit" in told
    assert Gateway.images[1].annotations == []
    assert len(Gateway.images[2].annotations) == 2


@pytest.mark.parametrize(
    ("model", "lets_in", "told"),
    [
        ("starter/nuclei", False, "jane cannot log in"),
        ("starter/no-such-model", True, "no model 'starter/no-such-model'"),
    ],
)
def test_without_a_server_or_a_model_nothing_is_done(
    model: str,
    lets_in: bool,
    told: str,
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Gateway.lets_in = lets_in

    assert script.main([model, *WORDS[1:], "101"]) == 3
    assert told in capsys.readouterr().err
