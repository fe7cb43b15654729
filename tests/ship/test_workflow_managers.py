"""What share/workflows gives workflow managers: its options exist, and it does what it says.

Those that need a manager are skipped where it is not installed: ``make test-workflows``.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import click
import numpy as np
import pytest
import yaml

from bmz.cli.run import run
from bmz.write.outputs import saved_kinds

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / "share/workflows"
IMAGE = WORKFLOWS / "galaxy/test-data/nuclei.png"
NEXTFLOW = WORKFLOWS / "nextflow/bmz/run"
FRACTAL = WORKFLOWS / "fractal/src"
GALAXY = WORKFLOWS / "galaxy/bmz_run.xml"
CALLS = (
    WORKFLOWS / "snakemake/wrapper.py",
    WORKFLOWS / "snakemake/test/Snakefile",
    NEXTFLOW / "main.nf",
    GALAXY,
    FRACTAL / "bmz_fractal/run_model.py",
    ROOT / "docs/how-to/workflow-managers.md",
)
OF_OTHERS = {"--version", "--cores", "--sdm", "--target"}
"""Options of other programs, and of bmz itself."""


def manager(name: str) -> str:
    """Give the path of a program of a manager, or skip."""
    command = shutil.which(name, path=os.environ.get("BMZ_MANAGERS", os.environ["PATH"]))
    if command is None:
        pytest.skip("needs workflow managers: make test-workflows")
    return str(Path(command).absolute())


def told(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that must succeed, with this bmz first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path, **environment}, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("path", CALLS, ids=lambda path: path.name)
def test_every_option_that_a_manager_gives_is_one_of_bmz_run(path: Path) -> None:
    known = {word for option in run.params for word in option.opts}

    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text(encoding="utf-8")))

    assert named - known - OF_OTHERS == set()


def test_every_kind_that_a_manager_asks_for_can_be_saved() -> None:
    texts = "\n".join(path.read_text(encoding="utf-8") for path in CALLS)

    named = re.findall(r"--save[ '\",]+((?:labels|overlay|table)[a-z,]*)", texts)

    assert named
    assert {kind for kinds in named for kind in kinds.split(",")} <= {*saved_kinds()}


def test_every_environment_asks_for_the_version_of_the_recipe_of_conda() -> None:
    recipe = (ROOT / "share/conda/recipe.yaml").read_text(encoding="utf-8")
    version = re.findall(r'(?m)^  version: "(.+)"', recipe)[0]
    texts = {
        WORKFLOWS / "snakemake/environment.yaml": f"bmz ={version}",
        NEXTFLOW / "environment.yml": f"conda-forge::bmz={version}",
        NEXTFLOW / "main.nf": f'container "bmz:{version}"',
        WORKFLOWS / "galaxy/macros.xml": f'"@TOOL_VERSION@">{version}<',
        WORKFLOWS / "fractal/pyproject.toml": f'version = "{version}"',
    }

    for path, words in texts.items():
        assert words in path.read_text(encoding="utf-8"), path


class Named(dict[str, str]):
    """Files of a rule: they are counted, and taken by place or name."""

    def __getitem__(self, key: Any) -> str:
        return [*self.values()][key] if isinstance(key, int) else super().__getitem__(key)


def in_wrapper(folder: Path, outputs: dict[str, str], extra: str = "") -> None:
    """Run the wrapper as Snakemake does, with its object `snakemake`."""
    rule = SimpleNamespace(
        input=Named(image=str(IMAGE)), output=Named(outputs), log=Named(log=str(folder / "log")),
        params=SimpleNamespace(model="starter/nuclei", get={"extra": extra}.get),
    )  # fmt: skip
    runpy.run_path(str(WORKFLOWS / "snakemake/wrapper.py"), {"snakemake": rule})


def test_the_wrapper_of_snakemake_gives_each_output_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    in_wrapper(tmp_path, {"labels": "l.tif", "table": "t.csv", "rois": "r.zip", "record": "r.json"})

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "l.tif", "log", "r.json", "r.zip", "t.csv",
    ]  # fmt: skip
    record = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["objects"] > 5
    assert "objects" in (tmp_path / "log").read_text(encoding="utf-8")


def test_the_wrapper_of_snakemake_says_why_bmz_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    with pytest.raises(RuntimeError, match=r"ended with 2: (.|\n)*--axes"):
        in_wrapper(tmp_path, {"labels": "l.tif"}, "--axes 7")

    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert "--axes" in (tmp_path / "log").read_text(encoding="utf-8")


def test_snakemake_has_nothing_to_say_of_the_example_and_runs_it(tmp_path: Path) -> None:
    snakemake = manager("snakemake")
    example = str(WORKFLOWS / "snakemake/test/Snakefile")
    (tmp_path / "images").mkdir()
    shutil.copy(IMAGE, tmp_path / "images")

    lint = told(snakemake, "-s", example, "--lint", cwd=tmp_path, HOME=str(tmp_path))
    told(
        snakemake, "-s", example, "--cores", "1", "results/nuclei.labels.tif",
        cwd=tmp_path, HOME=str(tmp_path),
    )  # fmt: skip

    assert "good condition" in lint
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "nuclei.labels.tif", "nuclei.objects.csv", "nuclei.overlay.png", "nuclei.run.json",
    }  # fmt: skip


def test_the_meta_of_the_nextflow_module_names_what_the_process_takes_and_gives() -> None:
    process = (NEXTFLOW / "main.nf").read_text(encoding="utf-8")
    meta = yaml.safe_load((NEXTFLOW / "meta.yml").read_text(encoding="utf-8"))

    emitted = dict(
        re.findall(r"(?m)^    tuple .*?, (.*?)\s*, (?:topic: \w+, )?emit: (\w+)", process)
    )
    emits = re.findall(r"emit: (\w+)", process)
    paths = re.findall(r'path\((".*?")\)\s*, emit', process)

    assert emitted
    assert emits == [*meta["output"]]
    assert meta["name"].upper() == re.findall(r"process (\w+)", process)[0]
    assert f'"{meta["name"].upper()}"' in (NEXTFLOW / "tests/main.nf.test").read_text("utf-8")
    stated = [key for of in meta["output"].values() for entry in of[0][1:] for key in entry]
    assert [path.strip('"') for path in paths] == [key for key in stated if "prefix" in key]
    inputs = [key for entry in meta["input"] for part in np.atleast_1d(entry) for key in part]
    assert inputs == ["meta", "image", "model"]


def test_the_nextflow_module_has_the_fields_of_the_template_of_nf_core() -> None:
    python = Path(manager("nf-core")).with_name("python")
    command = "import nf_core, pathlib; print(pathlib.Path(nf_core.__file__).parent)"
    folder = Path(told(str(python), "-c", command).strip()) / "module-template"
    written = (folder / "meta.yml").read_text(encoding="utf-8")
    template = set(re.findall(r"(?m)^(\w+):", written))
    script = (folder / "main.nf").read_text(encoding="utf-8")
    process = (NEXTFLOW / "main.nf").read_text(encoding="utf-8")

    meta = yaml.safe_load((NEXTFLOW / "meta.yml").read_text(encoding="utf-8"))

    assert set(meta) == template
    for section in ("input:", "output:", "when:", "script:", "stub:", "topic: versions"):
        assert section in script
        assert section in process


def rendered(values: dict[str, str]) -> str:
    """Fill in the command of the Galaxy tool; the branches of options that are not given go."""
    command = ET.ElementTree(file=GALAXY).findtext("command") or ""
    short = re.sub(r"(?s)#if .*?#end if\n", "", command)
    for name, value in values.items():
        short = short.replace(f"${name}", value)
    assert "$" not in short
    assert "#" not in short
    return " ".join(short.split())


def test_the_command_of_the_galaxy_tool_makes_its_outputs(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    outputs = {name: str(tmp_path / name) for name in ("labels", "table", "picture", "record")}
    values = {"image.ext": "png", "image": str(IMAGE), "model": "starter/nuclei", "scale": "off",
              "overlay": "numbers", "force": "", **outputs}  # fmt: skip

    told("bash", "-c", rendered(values), cwd=tmp_path)

    assert all(Path(path).stat().st_size for path in outputs.values())
    lines = Path(outputs["table"]).read_text(encoding="utf-8").splitlines()
    for expression in re.findall(
        r'has_line_matching expression="(.*?)"', GALAXY.read_text("utf-8")
    ):
        assert any(re.fullmatch(expression, line) for line in lines)


def test_every_value_of_a_field_of_the_galaxy_tool_is_one_that_bmz_takes() -> None:
    options = {word: option for option in run.params for word in option.opts}

    for field in ET.ElementTree(file=GALAXY).iterfind("inputs/param[@type='select']"):
        option = options[field.attrib["argument"]]
        for value in field.iterfind("option"):
            option.type.convert(value.attrib["value"], option, click.Context(run))


LINT = """
import sys
from galaxy.tool_util.lint import LintContext, LintLevel, XMLLintMessageLine, lint_tool_source_with
from galaxy.tool_util.parser import get_tool_source

context = LintContext(level=LintLevel.SILENT, lint_message_class=XMLLintMessageLine)
lint_tool_source_with(context, get_tool_source(sys.argv[1]))
print(*(m for m in context.message_list if m.level in ("warning", "error")), sep="\\n")
print(len(context.message_list), "messages")
"""


def test_galaxy_has_nothing_to_say_against_the_tool() -> None:
    python = Path(manager("galaxy-tool-test")).with_name("python")

    answer = told(str(python), "-c", LINT, str(GALAXY)).split("\n", 1)

    assert answer[0] == ""
    assert int(answer[1].split()[0]) > 5


def test_the_manifest_of_fractal_names_a_script_and_its_keywords() -> None:
    manifest = json.loads((FRACTAL / "bmz_fractal/__FRACTAL_MANIFEST__.json").read_text("utf-8"))
    (task,) = manifest["task_list"]

    function = runpy.run_path(str(FRACTAL / "bmz_fractal" / task["executable_parallel"]))

    schema = task["args_schema_parallel"]
    keywords = function["run_model"].__kwdefaults__
    assert {*schema["properties"]} == {"zarr_url", "model", *keywords}
    assert schema["required"] == ["zarr_url", "model"]
    for name, default in keywords.items():
        assert schema["properties"][name].get("default") == default


def test_the_task_of_fractal_writes_labels_into_the_image(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import zarr
    from PIL import Image

    pixels = np.asarray(Image.open(IMAGE))
    group = zarr.open_group(tmp_path / "0", mode="w", zarr_format=2)
    array = group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype)
    array[:] = pixels
    axes: Any = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale: Any = [{"type": "scale", "scale": [0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    script = runpy.run_path(str(FRACTAL / "bmz_fractal/run_model.py"))

    script["run_model"](zarr_url=str(tmp_path / "0"), model="starter/nuclei", label_name="nuclei")

    labels = zarr.open_array(tmp_path / "0/labels/nuclei/0", mode="r")
    assert np.asarray(labels[...]).max() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    with pytest.raises(RuntimeError, match=r"ended with 2: (.|\n)*nowhere"):
        script["run_model"](zarr_url=str(tmp_path / "nowhere"), model="starter/nuclei")


def test_the_manifest_of_fractal_is_that_of_its_tool() -> None:
    check = manager("fractal-manifest")

    answer = told(
        check, "check", "--package", "bmz_fractal", cwd=WORKFLOWS / "fractal",
        PYTHONPATH=str(FRACTAL), PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip

    assert "up to date" in answer
