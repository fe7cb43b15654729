"""What a command on a small image does not import: it takes longer than the image does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

NOT_NEEDED = {
    "xarray", "pandas", "pooch", "requests", "urllib3", "numba", "dask", "distributed", "torch",
    "tensorflow", "skimage", "zarr", "scipy", "PIL",
}  # fmt: skip

PROGRAM = f"""
import sys
from bmz.cli.main import status_of

status = status_of(sys.argv[1:])
print(status, sorted({NOT_NEEDED!r} & {{name.split(".")[0] for name in sys.modules}}))
"""

OF_RUNS = {
    "onnxruntime", "bmz.predict.formats", "bmz.engine.engines", "bmz.engine.pipeline",
    "bmz.engine.setup", "bmz.engine.run_image", "bmz.engine.image_result", "bmz.write.ome_zarr",
}  # fmt: skip
"""What opens, runs and writes: half of the program."""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plane of 96 px with two nuclei, pixel size in um."""
    pixels = np.full((96, 96), 20, np.uint8)
    rows, columns = np.ogrid[:96, :96]
    for y, x in ((30, 30), (60, 66)):
        pixels[(rows - y) ** 2 + (columns - x) ** 2 < 100] = 180
    path = tmp_path_factory.mktemp("image") / "a.ome.tif"
    metadata = {"axes": "YX", "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(path, pixels, metadata=metadata)
    return path


def last_line(program: str, *words: str, folder: Path | None = None) -> str:
    """Run a program with words in a process of its own, and give the last line that it prints."""
    command = [sys.executable, "-c", program, *words]
    result = subprocess.run(command, capture_output=True, check=True, text=True, cwd=folder)
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("words", [["check"], ["run", "-o", "out"]], ids=lambda words: words[0])
def test_a_small_image_loads_no_tables_no_downloads_no_compiler_and_no_scipy(
    words: list[str], image: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    command = [words[0], "starter/nuclei", str(image), *words[1:]]

    assert last_line(PROGRAM, *command, folder=tmp_path) == "0 []"
    assert words[0] == "check" or (tmp_path / "out/a.labels.tif").is_file()


def test_a_check_loads_nothing_that_runs_or_writes(image: Path) -> None:
    program = f"""
import sys
from bmz.cli.main import status_of

status = status_of(["check", "starter/nuclei", sys.argv[1]])
print(status, sorted({OF_RUNS!r} & sys.modules.keys()))
"""

    assert last_line(program, str(image)) == "0 []"


def test_no_class_of_values_is_compiled_before_one_is_made(image: Path) -> None:
    pytest.importorskip("onnxruntime")
    program = """
import dataclasses, inspect, sys
from bmz.cli.main import status_of

status = status_of(["run", "starter/nuclei", sys.argv[1], "-o", "out"])
modules = [module for name, module in sys.modules.items() if name.startswith("bmz.")]
kinds = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
values = [kind for kind in kinds if kind.__module__.startswith("bmz.")
    and "__dataclass_params__" in vars(kind)]
compiled = [kind.__qualname__ for kind in values if vars(kind)["__dataclass_params__"].init]
print(status, len(values) > 100, compiled)
"""

    assert last_line(program, str(image), folder=image.parent) == "0 True []"


NOT_OF_ONNX = {
    "bmz.predict.keras", "bmz.predict.tensorflow", "bmz.predict.torch_network",
    "bmz.predict.torchscript", "bmz.predict.state_dict", "bmz.predict.confined",
}  # fmt: skip


def test_a_run_of_onnx_loads_no_other_backend(image: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    program = f"""
import sys
from bmz.cli.main import status_of

status = status_of(["run", "starter/nuclei", sys.argv[1], "-o", "out"])
print(status, sorted({NOT_OF_ONNX!r} & sys.modules.keys()))
"""

    assert last_line(program, str(image), folder=tmp_path) == "0 []"


LISTS = {"cache": ["cache", "list"], "trust": ["trust", "list"], "help": ["--help"]}


@pytest.mark.parametrize("words", LISTS.values(), ids=LISTS)
def test_what_touches_no_image_does_without_numpy(words: list[str]) -> None:
    program = """
import sys
from bmz.cli.main import status_of

status = status_of(sys.argv[1:])
print(status, sorted({"numpy", "tifffile", "onnxruntime", "click"} & sys.modules.keys()))
"""

    assert last_line(program, *words) == "0 ['click']"


def test_what_is_not_saved_is_neither_measured_nor_drawn(image: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    program = """
import sys
from bmz.cli.main import status_of
import bmz.process.measure


def refuse(*given, **more):
    raise RuntimeError("a table is measured")


bmz.process.measure.measure_objects = refuse
command = ["run", "starter/nuclei", sys.argv[1], "-o", "out", "--save"]
status = status_of([*command, "labels"])
drawn = "bmz.write.overlay" in sys.modules
print(status, drawn, status_of([*command, "table", "--overwrite"]))
"""

    assert last_line(program, str(image), folder=tmp_path) == "0 False 70"


OTHERS = {
    "show": (["show", "starter/nuclei"], []),
    "fetch": (["fetch", "starter/nuclei"], []),
    "demo": (["demo", "-o", "out"], []),
    # they run every format of weights that the package has
    "test": (["test", "starter/nuclei"], ["torch"]),
    "card": (["card", "starter/nuclei"], ["torch"]),
}


@pytest.mark.parametrize(("words", "loaded"), OTHERS.values(), ids=OTHERS)
def test_other_commands_load_no_more_than_they_use(
    words: list[str], loaded: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")

    assert last_line(PROGRAM, *words, folder=tmp_path) == f"0 {loaded}"


def test_masks_are_scored_without_models_and_tables(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[4:12, 4:12], mask[20:30, 20:30] = 1, 2
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    line = last_line(PROGRAM, "score", "mask.tif", "mask.tif", folder=tmp_path)

    # pieces of labels are found by scikit-image, which loads SciPy
    assert line == "0 ['scipy', 'skimage']"


def test_an_array_is_run_by_the_api_without_xarray_until_its_labels_are_asked_for(
    image: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    program = """
import sys
import tifffile
import bmz

with bmz.load("starter/nuclei") as model:
    result = model.run(tifffile.imread(sys.argv[1]))
result.save("out")
before = {"xarray", "pandas"} & sys.modules.keys()
print(sorted(before), type(result.labels).__module__.split(".")[0], "pandas" in sys.modules)
"""

    assert last_line(program, str(image), folder=tmp_path) == "[] xarray True"


def test_recipes_without_compiled_loops_do_not_import_numba(image: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    program = """
import sys
from bmz.cli.main import status_of

command = ["run", "starter/nuclei-contour", sys.argv[1], "-o"]
by_components = status_of([*command, "b", "--recipe", "components"])
before = "numba" in sys.modules
print(by_components, before, status_of([*command, "a"]), "numba" in sys.modules)
"""

    assert last_line(program, str(image), folder=tmp_path) == "0 False 0 True"
