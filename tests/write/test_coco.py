"""COCO instances give back the mask, and are what the COCO API encodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.write.parts import ArrayResult
from tests.write.test_geojson import table_of
from tests.write.test_rois import ragged

from bmz.base.arrays import AnyArray
from bmz.image.faults import ImageUnreadable
from bmz.image.shapes import painted, read_shapes
from bmz.process.matching import Overlap
from bmz.write.coco import write_coco

MASKS = arrays.arrays(np.int32, st.tuples(*(st.integers(1, 9),) * 2), elements=st.integers(0, 2))

OF_PYCOCOTOOLS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def written(path: Path, axes: str, mask: AnyArray, **columns: AnyArray) -> Any:
    result = ArrayResult(axes, mask, table_of(mask, **columns), {}, {"y": 0.5, "x": 0.25})
    write_coco(result.as_result(), path)
    return json.loads(path.read_text(encoding="utf-8"))


def decoded(counts: str, height: int, width: int) -> AnyArray:
    """Decode letter by letter, as ``rleFrString`` of the COCO API does."""
    numbers: list[int] = []
    place = 0
    while place < len(counts):
        value = shift = 0
        more = True
        while more:
            letter = ord(counts[place]) - 48
            value |= (letter & 0x1F) << (5 * shift)
            more = bool(letter & 0x20)
            place, shift = place + 1, shift + 1
            if not more and letter & 0x10:
                value |= -1 << (5 * shift)
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    inside = np.repeat(np.arange(len(numbers)) % 2 == 1, numbers)
    assert inside.size == height * width
    return inside.reshape(width, height).T


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_run_lengths_follow_the_rules_of_coco(
    tmp_path_factory: pytest.TempPathFactory, mask: AnyArray
) -> None:
    path = tmp_path_factory.mktemp("coco") / "a.coco.json"

    document = written(path, "yx", mask)

    assert [one["label"] for one in document["annotations"]] == table_of(mask)["label"].tolist()
    for one in document["annotations"]:
        inside = decoded(one["segmentation"]["counts"], *mask.shape)
        assert np.array_equal(inside, mask == one["label"])
        y, x = np.nonzero(inside)
        assert one["area"] == len(y)
        assert one["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]


@OF_PYCOCOTOOLS
def test_pycocotools_gives_the_same_run_lengths_and_the_mask(tmp_path: Path) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    mask = ragged(0, (42, 30), 9)

    document = written(tmp_path / "a.coco.json", "yx", mask)

    drawn = np.zeros_like(mask)
    for one in document["annotations"]:
        encoded = coco_mask.encode(np.asfortranarray(mask == one["label"], np.uint8))
        assert one["segmentation"]["counts"] == encoded["counts"].decode()
        assert one["area"] == coco_mask.area(encoded)
        assert one["bbox"] == coco_mask.toBbox(encoded).tolist()
        drawn[coco_mask.decode(one["segmentation"]) > 0] = one["label"]
    assert np.array_equal(drawn, mask)
    assert Overlap.of(drawn, mask).matching(0.9).f1 == 1
    assert document["info"]["pixel_um"] == {"y": 0.5, "x": 0.25}


@OF_PYCOCOTOOLS
def test_the_api_of_coco_indexes_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api = pytest.importorskip("pycocotools.coco")
    mask = ragged(0, (42, 30), 3)
    written(tmp_path / "a.coco.json", "yx", mask, **{"class": np.array(["a", "b"])})

    coco = api.COCO(str(tmp_path / "a.coco.json"))

    capsys.readouterr()
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == ["a", "b"]
    assert len(coco.getAnnIds(imgIds=[1])) == 2
    assert coco.annToMask(coco.loadAnns([1])[0]).shape == mask.shape


@pytest.mark.parametrize("axes", ["yx", "tyx", "zyx"])
def test_bmz_reads_back_the_mask_in_all_planes(axes: str, tmp_path: Path) -> None:
    mask = np.stack([ragged(k, (42, 30), 9) for k in range(3)])
    mask = mask if len(axes) > 2 else mask[0]

    document = written(tmp_path / "a.coco.json", axes, mask)

    assert len(document["images"]) == (3 if len(axes) > 2 else 1)
    ids = [one["id"] for one in document["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    found = read_shapes(tmp_path / "a.coco.json")
    assert np.array_equal(painted(found.shapes, dict(zip(axes, mask.shape, strict=True))), mask)


def test_polygons_and_plain_counts_of_others_are_read(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": 4, "width": 5}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": 8, "image_id": 3, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
            {"id": 9, "image_id": 3, "category_id": 1,
             "segmentation": {"size": [4, 5], "counts": [14, 2, 2, 1, 1]}},
        ],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document), encoding="utf-8")

    found = read_shapes(tmp_path / "a.json")

    assert found.size == (4, 5)
    assert painted(found.shapes, {"y": 4, "x": 5}).tolist() == [
        [8, 8, 0, 0, 0], [8, 8, 0, 0, 0], [0, 0, 0, 9, 9], [0, 0, 0, 9, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("content", ['{"a": 1}', "[1, 2]", "{", '{"annotations": []}'])
def test_other_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")

    with pytest.raises(ImageUnreadable):
        read_shapes(tmp_path / "a.json")


def test_coco_of_several_images_is_refused(tmp_path: Path) -> None:
    images = [{"id": k, "height": 4, "width": 5} for k in range(2)]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": []}))

    with pytest.raises(ImageUnreadable, match="contains the masks of 2 images"):
        read_shapes(tmp_path / "a.json")
