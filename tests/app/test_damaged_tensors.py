"""Test tensors that are no arrays, or of other axes, are told by `bmz test` and harm no check."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from bmz.base.arrays import AnyArray
from bmz.cli.main import status_of
from bmz.testing.package import Description, description, sha256_of, write_package

pytest.importorskip("onnxruntime")

IMAGE = np.random.default_rng(0).integers(0, 200, (64, 64)).astype(np.uint8)


def saved(array: AnyArray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=IMAGE)
    return stream.getvalue()


DAMAGED = {
    "a zip of arrays": zipped(),
    "of too few axes": saved(IMAGE),
    "of too many axes": saved(IMAGE[None, None, None]),
    "without an entry": saved(np.zeros((1, 1, 0, 8), np.float32)),
    "of no axes": saved(np.zeros((), np.float32)),
    "cut short": saved(IMAGE[None, None])[:-100],
    "of a head that is none": saved(IMAGE[None, None]).replace(b"'descr'", b"'d(scr'"),
    "of a head without end": saved(IMAGE[None, None]).replace(b"}", b"(((", 1),
    "nothing": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("which", ["inputs", "outputs"])
def test_a_tensor_that_is_wrong_is_told_and_nothing_else_fails(
    name: str, which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(content: Description) -> None:
        tensor = content[which][0]["test_tensor"]
        path = tmp_path / "net" / tensor["source"]
        path.write_bytes(DAMAGED[name])
        tensor["sha256"] = sha256_of(path)

    net = str(write_package(tmp_path / "net", description(halo=4), change=change).parent)
    np.save(tmp_path / "a.npy", IMAGE)
    capsys.readouterr()

    image = str(tmp_path / "a.npy")
    others = [status_of(["check", net, image]), status_of(["run", net, image, "-o", str(tmp_path)])]
    status = status_of(["test", net])

    told = capsys.readouterr()
    assert set(others) <= {0, 1}
    assert status in {1, 3}
    assert "bug in bmz" not in told.err
