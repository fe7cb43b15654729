"""The check of all GPU paths runs on a bare machine; here the same code runs on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]

# what a machine with PyTorch, NumPy, SciPy, tifffile, xarray, scikit-image and click may lack
ABSENT = (
    "pydantic", "pooch", "requests", "rich", "zarr", "numcodecs", "yaozarrs", "filelock",
    "platformdirs", "bioimageio", "onnxruntime", "onnx", "tensorflow", "keras", "imagecodecs",
    "stardist", "cellpose", "dask", "distributed", "pandas",
)  # fmt: skip

BARE = f"""
import runpy, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            return None
        return self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
sys.argv = ["gpu.py", *sys.argv[1:]]
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
runpy.run_path({str(ROOT / "benchmarks" / "gpu.py")!r}, run_name="__main__")
"""


def ran(*words: str) -> tuple[int, str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE, "--device", "cpu", "--small", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    lines, brace, document = done.stdout.partition("\n{")
    assert brace, done.stderr
    return done.returncode, lines, json.loads("{" + document)


def test_every_path_is_tried_and_passes_with_few_libraries() -> None:
    status, lines, found = ran()

    rows = found["rows"]
    failed = [row for row in rows if row["passed"] is False]
    assert (status, failed) == (0, [])
    tried = " ".join(row["what"] for row in rows if row["passed"])
    for word in (
        "torchscript", "pytorch_state_dict", "bfloat16", "float16", "auto", "batch of 4",
        "channels_last", "smaller batch", "smaller tile", "plain loop",
        "labels of stardist", "labels of flows", "that stay",
    ):  # fmt: skip
        assert word in tried
    assert len(lines.splitlines()) == len(rows)
    assert found["took_s"] > 0


def test_a_failed_check_is_told_by_the_exit_status(tmp_path: Path) -> None:
    package = tmp_path / "nuclei-broad"
    package.mkdir()
    (package / "weights.pt").write_bytes(b"no network")

    status, lines, _ = ran("--models", str(tmp_path), "--only", "copies", "--only", "real_network")

    assert status == 1
    skipped, failed = lines.splitlines()
    assert skipped.startswith("skip  pinned")
    assert failed.startswith("FAIL  real_network")
