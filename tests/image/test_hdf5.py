"""Datasets of HDF5 files: which one is the image, its axes, its regions, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmz.base.errors import BmzError
from bmz.image.formats import format_of, name_of
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image
from bmz.image.series import content_sha256, in_dataset

h5py = pytest.importorskip("h5py")

PIXELS = np.random.default_rng(0).integers(0, 60_000, (5, 20, 30)).astype(np.uint16)


def write(path: Path, name: str = "exp/raw", array: Any = PIXELS, **attributes: Any) -> Path:
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(name, data=array, chunks=True, compression="gzip")
        dataset.attrs.update(attributes)
    return path


def tags(*keys: str) -> str:
    return json.dumps({"axes": [{"key": key, "typeFlags": 2, "resolution": 0} for key in keys]})


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<i4", ">f4", "f8", "?"])
def test_regions_of_a_dataset_have_its_pixels(dtype: str, tmp_path: Path) -> None:
    array = (PIXELS % 200).astype(dtype)
    path = write(tmp_path / "a.h5", array=array, axistags=tags("z", "y", "x"))

    info = inspect_image(path)
    with open_image(info) as image:
        part = image.region({"z": slice(1, 3), "x": slice(7, 19)}).array

    assert (format_of(path), info.axes, info.dtype) == (
        "HDF5",
        "zyx",
        array.dtype.newbyteorder("="),
    )
    assert np.array_equal(part, array[1:3, :, 7:19])
    assert np.array_equal(read_image(info).array, array)


@pytest.mark.parametrize(
    ("attributes", "shape", "axes"),
    [
        ({"axistags": tags("y", "x", "c")}, (20, 30, 4), "yxc"),
        ({"axistags": tags("t", "z", "y", "x", "c")}, (1, 5, 20, 30, 2), "zyxc"),
        ({"DIMENSION_LABELS": ["time", "y", "x"]}, (5, 20, 30), "tyx"),
        ({"DIMENSION_LABELS": ["", "y", "x"]}, (5, 20, 30), "qyx"),
        ({"element_size_um": [2, 0.5, 0.5]}, (5, 20, 30), "zyx"),
        ({"element_size_um": [2, 0.5, 0.5]}, (3, 5, 20, 30), "qqqq"),
        ({"axistags": "no JSON"}, (5, 20, 30), "qqq"),
        ({"axistags": tags("y", "x")}, (5, 20, 30), "qqq"),
        ({}, (20, 30), "yx"),
        ({}, (5, 20, 30), "qqq"),
    ],
)
def test_axes_are_those_that_the_file_states(
    attributes: dict[str, Any], shape: tuple[int, ...], axes: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.h5", array=np.ones(shape, np.uint8), **attributes)

    assert inspect_image(path).axes == axes


def test_tags_of_fewer_axes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", axistags=tags("y", "x"))

    assert inspect_image(path, axes="zyx").cautions == (
        "its axistags name 2 axes, but its dataset has 3",
    )


def test_the_length_of_a_pixel_is_that_of_element_size(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", axistags=tags("z", "y", "x"), element_size_um=[2, 0.5, 0.25])
    plane = write(tmp_path / "b.h5", array=PIXELS[0], element_size_um=[2, 0.5, 0.25])
    turned = write(tmp_path / "c.h5", axistags=tags("x", "y", "z"), element_size_um=[2, 0.5, 0.25])

    assert inspect_image(path).pixel_um == {"z": 2, "y": 0.5, "x": 0.25}
    assert "element_size_um" in inspect_image(path).pixel_from
    assert inspect_image(plane).pixel_um == {"y": 0.5, "x": 0.25}
    assert inspect_image(turned).pixel_um == {}
    assert "not used" in inspect_image(turned).cautions[0]


def test_the_only_image_of_a_file_is_taken_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    write(path, "table", np.zeros((300, 3)))
    write(path, "names", np.array([b"a", b"b"]))

    info = inspect_image(path, axes="zyx")

    assert info.path == path
    assert np.array_equal(read_image(info).array, PIXELS)
    assert info.remarks == ("its dataset '/exp/raw' is used, the only one that can be an image",)


def test_several_images_are_listed_and_one_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    write(path, "labels", PIXELS[0].astype(np.uint32))

    with pytest.raises(BmzError, match="2 datasets that could be the image") as caught:
        inspect_image(path)
    assert "/labels (20 x 30, uint32), /exp/raw (5 x 20 x 30, uint16)" in caught.value.message
    assert "--dataset /labels" in caught.value.hint
    assert f"'{path}[/labels]'" in caught.value.hint
    (named,) = in_dataset([path], "labels")
    info = inspect_image(named)
    assert (info.shape, info.path, name_of(named)) == ((20, 30), named, "a.h5[/labels]")
    assert content_sha256(named) == content_sha256(path)


def test_a_dataset_that_is_absent_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")

    for name in ("/exp", "/exp/row", "/exp/raw/more"):
        with pytest.raises(BmzError, match=f"no dataset '{name}'") as caught:
            inspect_image(Path(f"{path}[{name}]"))
        assert caught.value.code == "image.dataset"
        assert name == "/exp/raw/more" or "/exp/raw (5 x 20 x 30, uint16)" in caught.value.hint


def test_a_file_without_an_image_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", array=np.arange(30))

    with pytest.raises(BmzError, match="no dataset of numbers with two or more axes"):
        inspect_image(path)


def test_blocks_of_bigdataviewer_are_unsigned_and_without_their_reduced_copies(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.h5", "t00000/s00/0/cells", PIXELS.view(np.int16))
    write(path, "t00000/s00/1/cells", PIXELS[:, ::1].view(np.int16))
    write(path, "s00/resolutions", np.ones((2, 3)))

    info = inspect_image(path)

    assert (info.axes, info.dtype.name) == ("zyx", "uint16")
    assert np.array_equal(read_image(info).array, PIXELS)


def test_a_link_within_the_file_is_followed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", axistags=tags("z", "y", "x"))
    with h5py.File(path, "a") as file:
        file["here"] = h5py.SoftLink("exp/raw")
        file["exp/there"] = h5py.SoftLink("raw")
        file["group"] = h5py.SoftLink("/exp")

    for name in ("/here", "/exp/there", "/group/there"):
        assert np.array_equal(read_image(inspect_image(Path(f"{path}[{name}]"))).array, PIXELS)
    assert inspect_image(path).shape == PIXELS.shape  # links are no further images


def _external_link(file: Any, secret: Path) -> None:
    file["bad"] = h5py.ExternalLink(secret.name, "/exp/raw")


def _link_through_external(file: Any, secret: Path) -> None:
    file["away"] = h5py.ExternalLink(secret.name, "/exp")
    file["bad"] = h5py.SoftLink("/away/raw")


def _virtual(file: Any, secret: Path) -> None:
    layout = h5py.VirtualLayout((5, 20, 30), np.uint16)
    layout[:] = h5py.VirtualSource(str(secret), "/exp/raw", shape=(5, 20, 30))
    file.create_virtual_dataset("bad", layout)


def _external_storage(file: Any, secret: Path) -> None:
    external = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    file.create_dataset("bad", (20, 30), np.uint8, external=external)


def _circle(file: Any, _: Path) -> None:
    file["bad"] = h5py.SoftLink("/other")
    file["other"] = h5py.SoftLink("/bad")


def _records(file: Any, _: Path) -> None:
    fields = [(f"f{number}", "u1") for number in range(300)]
    file.create_dataset("bad", (20, 30), np.dtype(fields))


def _references(file: Any, _: Path) -> None:
    file["bad"] = np.full((20, 30), file["/"].ref, h5py.ref_dtype)


def _texts(file: Any, _: Path) -> None:
    file["bad"] = np.full((20, 30), b"text")


def _lists(file: Any, _: Path) -> None:
    file.create_dataset("bad", (20, 30), h5py.vlen_dtype(np.uint8))


def _single(file: Any, _: Path) -> None:
    file["bad"] = 7


def _unwritten(file: Any, _: Path) -> None:
    file.create_dataset("bad", (2**30, 2**30), np.uint16, chunks=(64, 64))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_external_link, "is in another file"),
        (_link_through_external, "is in another file"),
        (_virtual, "takes its values from other files"),
        (_external_storage, "takes its values from other files"),
        (_circle, "is a circular link"),
        (_records, "records of 300 fields"),
        (_references, "references to objects"),
        (_texts, "contains text"),
        (_lists, "lists of varying lengths"),
        (_single, "a single value"),
        (_unwritten, "was never written"),
    ],
)
def test_what_is_no_array_of_numbers_in_its_own_file_is_refused(
    spoil: Callable[[Any, Path], None], why: str, tmp_path: Path
) -> None:
    secret = write(tmp_path / "secret.h5")
    path = write(tmp_path / "a.h5", "image", PIXELS[0])
    with h5py.File(path, "a") as file:
        spoil(file, secret)

    with pytest.raises(BmzError, match=why) as caught:
        inspect_image(Path(f"{path}[/bad]"))

    assert caught.value.code == "image.dataset-refused"
    if spoil is not _unwritten:  # it may be the image that is meant
        assert inspect_image(path).shape == (20, 30)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
@pytest.mark.parametrize("spoil", [_external_link, _virtual, _external_storage])
def test_no_other_file_is_opened(spoil: Callable[[Any, Path], None], tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.h5")
    path = write(tmp_path / "a.h5", "image", PIXELS[0])
    with h5py.File(path, "a") as file:
        spoil(file, secret)
    secret.unlink()
    os.mkfifo(secret)  # whoever opens it waits for ever
    code = (
        "import sys; from pathlib import Path; from bmz.image.inspect import inspect_image\n"
        "print(inspect_image(Path(sys.argv[1])).shape)\n"
        "try: inspect_image(Path(sys.argv[1] + '[/bad]'))\n"
        "except Exception as why: print(why.code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip

    assert done.stdout.split("\n")[:2] == ["(20, 30)", "image.dataset-refused"]


def test_a_file_that_is_cut_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(BmzError, match="ends too early") as caught:
        inspect_image(path)

    assert caught.value.code == "image.truncated"


def test_damaged_chunks_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("raw", data=PIXELS, chunks=(5, 20, 30), compression="gzip")
        start = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[start + 50 : start + 90] = bytes(40)
    path.write_bytes(content)

    with pytest.raises(BmzError) as caught:
        read_image(inspect_image(path, axes="zyx"))

    assert caught.value.code in {"image.unreadable", "image.truncated"}


def test_a_packing_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((20, 30))
        made.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((20, 30))
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, made)
        file["raw"][...] = 1

    with pytest.raises(BmzError, match="filter 32999") as caught:
        inspect_image(path)

    assert caught.value.code == "image.plugin"
    assert caught.value.hint.startswith("pip install hdf5plugin")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)

    with pytest.raises(BmzError, match="h5py is not installed") as caught:
        inspect_image(path)

    assert "pip install 'bmz[formats]'" in caught.value.hint


def test_a_file_of_imaris_is_left_to_its_plugin(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ims")

    assert format_of(path) == "bioio"  # its datasets are padded to whole chunks


def test_a_dataset_is_named_where_files_have_some(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    other = tmp_path / "b.tif"

    assert in_dataset([path, other], "/exp/raw") == (Path(f"{path}[/exp/raw]"), other)
    with pytest.raises(BmzError, match="none of the images is an HDF5 file"):
        in_dataset([other], "/exp/raw")
