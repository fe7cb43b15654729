"""The reader of the plugin of napari, and what it makes of layers, without napari."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from bmz.app.run import run
from bmz.base.errors import BmzError
from bmz.engine.request import RunRequest
from bmz.image.pixels import Pixels
from bmz.napari.layers import (
    LayersDiffer,
    Placement,
    image_layer,
    image_of,
    labels_layer,
    placement_of,
)
from bmz.napari.reader import MOST, NotARecord, TooManyResults, demo_layers, read_layers, reader_of
from bmz.testing.package import description, write_package

ROOT = Path(__file__).parents[2]

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    """A run of two images of two squares each, with a pixel size."""
    model = write_package(tmp_path / "model", description(halo=4)).parent
    for name in ("a", "b"):
        image = np.zeros((60, 80), np.float32)
        image[5:15, 5:25] = image[30:50, 40:60] = 1
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            image,
            metadata={
                "axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "um",
                "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "um",
            },
        )  # fmt: skip
    images = (tmp_path / "a.ome.tif", tmp_path / "b.ome.tif")
    return RunRequest(str(model), images, tmp_path / "out")


def test_a_folder_of_results_gives_images_and_labels_with_their_table(
    request_: RunRequest,
) -> None:
    run(request_)

    reader = reader_of(str(request_.folder))
    assert reader is not None
    layers = reader(str(request_.folder))

    assert [(words["name"], kind) for _, words, kind in layers] == [
        ("a.ome.tif", "image"), ("a.labels.tif", "labels"),
        ("b.ome.tif", "image"), ("b.labels.tif", "labels"),
    ]  # fmt: skip
    assert [words["visible"] for _, words, _ in layers] == [True, True, False, False]
    (image, of_image, _), (labels, of_labels, _) = layers[:2]
    assert image.shape == labels.shape
    assert of_image["scale"] == of_labels["scale"] == (0.5, 0.5)
    assert of_image["units"] == of_labels["units"] == ("um", "um")
    features = of_labels["features"]
    assert features["index"].tolist() == [1, 2]
    assert [int((labels == label).sum()) for label in features["index"]] == [200, 400]
    assert features["area_um2"].tolist() == [50, 100]


@pytest.mark.parametrize("form", ["tiff", "zarr"])
def test_a_mask_or_a_record_opens_the_same_as_the_folder(form: Any, request_: RunRequest) -> None:
    request = replace(request_, images=request_.images[:1], labels_format=form)
    run(request)
    (mask,) = (path for path in request.folder.iterdir() if ".labels." in path.name)

    named = [read_layers(str(p)) for p in (mask, request.folder / "a.run.json", request.folder)]

    for image, labels in named:
        assert image[1]["name"] == "a.ome.tif"
        assert labels[1]["name"] == mask.name
        assert np.asarray(labels[0]).max() == 2
        assert labels[1]["scale"] == (0.5, 0.5)
        assert len(labels[1]["features"]) == 2


def test_an_image_that_has_moved_is_told_and_found_beside_the_results(
    request_: RunRequest,
) -> None:
    run(request_)
    record = str(request_.folder / "a.run.json")
    (image,) = request_.images[:1]
    image.rename(image.with_name("elsewhere.tif"))

    with pytest.warns(UserWarning, match="does not exist"):
        alone = read_layers(record)
    image.with_name("elsewhere.tif").rename(request_.folder / image.name)

    assert [kind for *_, kind in alone] == ["labels"]
    assert [kind for *_, kind in read_layers(record)] == ["image", "labels"]


def test_a_mask_without_a_record_is_opened_alone(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.labels.tif", np.eye(20, dtype=np.uint8), metadata={"axes": "YX"})

    ((labels, words, kind),) = read_layers([str(tmp_path / "x.labels.tif")])

    assert (kind, int(labels.sum())) == ("labels", 20)
    assert "features" not in words


@pytest.mark.parametrize("name", ["a.tif", "a.csv", "folder", "not-there"])
def test_what_is_not_a_result_is_left_to_other_readers(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tif").touch()

    assert reader_of(str(tmp_path / name)) is None
    assert reader_of([str(tmp_path / "b.labels.tif"), str(tmp_path / name)]) is None


@pytest.mark.parametrize("text", ["", "[]", '{"image": 1}', "{" * 2000, "\0\1"])
def test_a_record_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.run.json").write_text(text)

    with pytest.raises(NotARecord, match="is not the record of a run"):
        read_layers(str(tmp_path / "a.run.json"))


def test_a_damaged_mask_is_told_as_every_damaged_image(tmp_path: Path) -> None:
    (tmp_path / "a.labels.tif").write_bytes(b"II*\0rubbish")

    with pytest.raises(BmzError):
        read_layers(str(tmp_path / "a.labels.tif"))


def test_more_results_than_can_be_looked_at_are_refused(tmp_path: Path) -> None:
    for number in range(MOST + 1):
        (tmp_path / f"{number}.run.json").write_text("{}")

    with pytest.raises(TooManyResults, match=f"{MOST + 1} images"):
        read_layers(str(tmp_path))


def test_features_are_those_of_objects_or_of_tracks_where_frames_are_joined(
    tmp_path: Path,
) -> None:
    model = write_package(tmp_path / "model", description(halo=4)).parent
    stack = np.zeros((3, 60, 80), np.float32)
    stack[:, 5:15, 5:25] = 1
    np.save(tmp_path / "a.npy", stack)
    for name, link in (("apart", {}), ("joined", {"t": 0.25})):
        run(RunRequest(str(model), (tmp_path / "a.npy",), tmp_path / name, axes="tyx", link=link))

    (_, apart), (_, joined) = (read_layers(str(tmp_path / n)) for n in ("apart", "joined"))

    assert apart[1]["axis_labels"] == ("t", "y", "x")
    assert apart[1]["features"]["index"].tolist() == [1, 2, 3]
    assert apart[1]["features"]["t"].tolist() == [0, 1, 2]
    assert joined[1]["features"]["index"].tolist() == [1]
    assert joined[1]["features"]["frames"].tolist() == [3]
    assert len(joined[1]["metadata"]["bmz"]["table"]) == 3


def test_channels_become_layers_and_a_photograph_stays_one() -> None:
    array = np.zeros((3, 5, 6), np.uint8)
    stains = Pixels(array, ("c", "y", "x"), {"y": 2.0, "x": 2.0}, ("DAPI", "GFP", "RFP"))

    _, words, _ = image_layer(stains, "a")
    colours, photograph, _ = image_layer(replace(stains, colour=True), "b")

    assert words["name"] == ["a DAPI", "a GFP", "a RFP"]
    assert words["channel_axis"] == 0
    assert words["scale"] == (2.0, 2.0)
    assert photograph["rgb"] is True
    assert colours.shape == (5, 6, 3)


def layer(array: Any, name: str = "a", **words: Any) -> Any:
    ndim = array.ndim - words.get("rgb", False)
    defaults = {
        "name": name, "data": array, "rgb": False, "multiscale": False, "scale": [1.0] * ndim,
        "translate": [0.0] * ndim, "units": ["pixel"] * ndim,
        "axis_labels": tuple(f"axis {i - ndim}" for i in range(ndim)),
    }  # fmt: skip
    return SimpleNamespace(**(defaults | words))


@pytest.mark.parametrize(
    ("units", "um"),
    [
        (("micrometer", "micrometer"), {"y": 0.25, "x": 0.5}),
        (("nanometer", "nanometer"), {"y": 0.00025, "x": 0.0005}),
        (("pixel", "pixel"), {}),
        (("second", "um"), {"x": 0.5}),
    ],
)
def test_the_pixel_size_is_the_scale_where_its_unit_is_a_length(
    units: tuple[str, str], um: dict[str, float]
) -> None:
    placed = placement_of(layer(np.zeros((4, 5)), scale=[0.25, 0.5], units=units), "")

    assert placed.axes == "yx"
    assert placed.pixel_um == pytest.approx(um)


@pytest.mark.parametrize(
    ("stated", "labels", "axes"),
    [
        ("", ("axis -3", "axis -2", "axis -1"), ""),
        ("zyx", ("axis -3", "axis -2", "axis -1"), "zyx"),
        ("", ("t", "y", "x"), "tyx"),
        ("yx", ("t", "y", "x"), ""),
        ("cyx", ("t", "y", "x"), ""),
        ("cheese", ("t", "y", "x"), ""),
    ],
)
def test_axes_are_those_that_are_stated_and_are_never_guessed(
    stated: str, labels: tuple[str, ...], axes: str
) -> None:
    stack = layer(np.zeros((3, 4, 5)), axis_labels=labels)

    placed = placement_of(stack, stated)

    assert placed.axes == axes
    assert getattr(image_of([stack], placed), "dims", ()) == tuple(axes)


def test_several_layers_are_the_channels_of_one_image() -> None:
    layers = [layer(np.full((4, 5), value), name) for value, name in ((1, "DNA"), (2, "actin"))]

    image = image_of(layers, placement_of(layers[0], ""))

    assert image.dims == ("c", "y", "x")  # type: ignore[union-attr]
    assert image.coords["c"].values.tolist() == ["DNA", "actin"]  # type: ignore[union-attr]
    with pytest.raises(LayersDiffer, match=r"'DNA' 4 x 5, 'b' 2 x 2"):
        image_of([layers[0], layer(np.zeros((2, 2)), "b")], placement_of(layers[0], ""))


def test_a_photograph_loses_how_opaque_it_is_and_a_pyramid_gives_its_finest_level() -> None:
    colours = layer(np.zeros((4, 5, 4), np.uint8), rgb=True)
    pyramid = SimpleNamespace(**(vars(layer(np.ones((4, 5)))) | {"multiscale": True}))
    pyramid.data = [np.ones((4, 5)), np.ones((2, 2))]

    photograph = image_of([colours], placement_of(colours, ""))

    assert photograph.dims == ("y", "x", "c")  # type: ignore[union-attr]
    assert photograph.attrs["colour"] is True  # type: ignore[union-attr]
    assert photograph.shape == (4, 5, 3)
    assert image_of([pyramid], placement_of(pyramid, "")).shape == (4, 5)


def test_labels_lie_where_their_image_lies() -> None:
    moved = Placement("yx", {"y": 2.0, "x": 3.0}, {"y": 7.0, "x": 8.0}, {"y": "nm", "x": "nm"})

    _, words, _ = labels_layer(np.zeros((4, 5), np.uint8), moved, "n", {})

    assert (words["scale"], words["translate"], words["units"]) == ((2, 3), (7, 8), ("nm", "nm"))


def test_the_bundled_image_can_be_opened() -> None:
    ((image, words, kind),) = demo_layers()

    assert (image.shape, words["name"], kind) == ((520, 696), "nuclei", "image")


def test_what_the_manifest_names_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    package, _, file = project["entry-points"]["napari.manifest"]["bmz"].partition(":")

    manifest = yaml.safe_load((files(package) / file).read_text(encoding="utf-8"))

    offers = manifest["contributions"]
    commands = {command["id"]: command["python_name"] for command in offers["commands"]}
    used = [
        one["command"] for part in ("readers", "widgets", "sample_data") for one in offers[part]
    ]
    assert sorted(used) == sorted(commands)
    for place in commands.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_record_that_the_reader_needs_has_its_fields(request_: RunRequest) -> None:
    run(replace(request_, images=request_.images[:1], save=frozenset({"table"})))

    record = json.loads((request_.folder / "a.run.json").read_text())
    layers = read_layers(str(request_.folder))

    assert {"image", "image_series", "files", "request"} <= record.keys()
    assert [kind for *_, kind in layers] == ["image"]
