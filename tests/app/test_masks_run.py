"""A model that gives objects one by one, as Detectron2 does, through ``bmz run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.engine.request import RunRequest
from bmz.testing.package import Description, description, sha256_of, write_package

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

BOXES = np.array([[4, 6, 24, 16], [30, 20, 44, 30], [0, 0, 9, 9]], np.float32)
SCORES = np.array([0.9, 0.8, 0.1], np.float32)
MASKS = np.ones((3, 1, 28, 28), np.float32)
OUTPUTS = {"boxes": BOXES, "masks": MASKS, "scores": SCORES}
LETTERS = {"boxes": "sp", "masks": "smyx", "scores": "s"}


def constant_network(path: Path) -> None:
    """Write a network that finds the same three objects in every image."""
    helper, tensors = onnx.helper, onnx.numpy_helper
    nodes = [
        helper.make_node("Constant", [], [name], value=tensors.from_array(values))
        for name, values in OUTPUTS.items()
    ]
    value = helper.make_tensor_value_info
    image = value("image", onnx.TensorProto.FLOAT, [1, 1, 64, 64])
    given = [value(name, onnx.TensorProto.FLOAT, v.shape) for name, v in OUTPUTS.items()]
    graph = helper.make_graph(nodes, "objects", [image], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, str(path))


def package(folder: Path) -> Path:
    def change(content: Description) -> None:
        constant_network(folder / "weights.onnx")
        content["weights"]["onnx"]["sha256"] = sha256_of(folder / "weights.onnx")
        content["outputs"] = []
        for name, values in OUTPUTS.items():
            np.save(folder / f"{name}.npy", values)
            content["outputs"].append(
                {
                    "id": name,
                    "axes": [
                        {"type": "space", "id": letter, "size": size}
                        for letter, size in zip(LETTERS[name], values.shape, strict=True)
                    ],
                    "test_tensor": {
                        "source": f"{name}.npy",
                        "sha256": sha256_of(folder / f"{name}.npy"),
                    },
                }
            )

    return write_package(folder, description(size=64), change=change).parent


def image(folder: Path, side: tuple[int, int] = (48, 60)) -> Path:
    tifffile.imwrite(folder / "leaf.tif", np.zeros(side, np.uint8) + 7, metadata={"axes": "YX"})
    return folder / "leaf.tif"


def labels_of(request: RunRequest) -> AnyArray:
    summary = run(request)
    assert not summary.failed
    return tifffile.imread(summary.done[0].files["labels"])


def words(output: str = "masks") -> dict[str, str]:
    return {"output": output, "boxes": "boxes", "scores": "scores"}


def test_objects_are_painted_on_the_grid_of_the_image(tmp_path: Path) -> None:
    model = str(package(tmp_path / "model"))
    request = RunRequest(
        model, (image(tmp_path),), tmp_path / "out", recipe="masks", settings=words()
    )

    labels = labels_of(request)

    assert labels.shape == (48, 60)
    assert np.bincount(labels.ravel()).tolist() == [48 * 60 - 340, 200, 140]
    assert labels[10, 10] == 1


def test_the_raw_map_is_the_largest_mask(tmp_path: Path) -> None:
    request = RunRequest(
        str(package(tmp_path / "model")),
        (image(tmp_path),),
        tmp_path / "out",
        recipe="masks",
        settings=words(),
        save=frozenset({"labels", "raw"}),
    )

    (done,) = run(request).done

    raw = tifffile.imread(done.files["raw"])
    assert raw.shape[-2:] == (48, 60)
    assert raw.max() == 1


@pytest.mark.parametrize(
    ("recipe", "side", "code"),
    [
        ("none", (48, 60), "recipe.no-map"),
        ("components", (48, 60), "recipe.no-map"),
        ("masks", (200, 60), "predict.not-tileable"),
    ],
)
def test_what_cannot_be_done_with_single_objects_is_refused(
    recipe: str, side: tuple[int, int], code: str, tmp_path: Path
) -> None:
    request = RunRequest(
        str(package(tmp_path / "model")),
        (image(tmp_path, side),),
        tmp_path / "out",
        recipe=recipe,
        settings=words() if recipe == "masks" else {"output": "masks"},
        save=frozenset({"raw"}),
    )

    (failed,) = run(request).failed

    assert isinstance(failed.error, BmzError)
    assert failed.error.code == code
