"""The GitHub action, pre-commit hooks and Dockerfile, as far as a plain shell runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from bmz.testing.package import description, write_package

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
BASH = shutil.which("bash") or "bash"


@dataclass
class Outcome:
    """What the steps of the action did."""

    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    told: str = ""


def run_steps(folder: Path, commands: Path, **given: str) -> Outcome:
    """Run the steps that are shell as GitHub does: stop at the first that fails."""
    inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()} | given
    done = Outcome()
    for step in ACTION["runs"]["steps"]:
        name = step.get("id", "")
        if (
            "run" not in step
            or name == "install"
            or not holds(step.get("if", "true"), inputs, done)
        ):
            continue
        path = folder / f"output-{name}"
        told = subprocess.run(
            [BASH, "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=folder, capture_output=True, text=True, check=False,
            env=environment(folder, path, commands)
            | {key: filled(value, inputs, done) for key, value in step["env"].items()},
        )  # fmt: skip
        done.told += told.stdout + told.stderr
        done.statuses[name] = told.returncode
        lines = path.read_text().splitlines() if path.exists() else []
        done.outputs[name] = dict(line.split("=", 1) for line in lines)
        if told.returncode:
            break
    return done


def environment(folder: Path, output: Path, commands: Path) -> dict[str, str]:
    python = str(Path(sys.executable).parent)
    path = os.pathsep.join((str(commands), python, os.environ["PATH"]))
    summary = str(folder / "summary.md")
    return {
        **os.environ,
        "PATH": path,
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": summary,
    }


def filled(text: str, inputs: dict[str, str], done: Outcome) -> str:
    """Put values in place of ``${{ inputs.x }}`` and ``${{ steps.x.outputs.y }}``."""

    def value(found: re.Match[str]) -> str:
        words = found[1].split(".")
        return (
            inputs[words[1]]
            if words[0] == "inputs"
            else done.outputs.get(words[1], {}).get(words[3], "")
        )

    return re.sub(r"\$\{\{ ([\w.]+) \}\}", value, text)


def holds(condition: str, inputs: dict[str, str], done: Outcome) -> bool:
    parts = condition.split(" && ")
    if parts == ["true"]:
        return True
    sides = (re.fullmatch(r"([\w.]+) (==|!=) '(.*)'", part) for part in parts)
    return all(
        m is not None and (filled(f"${{{{ {m[1]} }}}}", inputs, done) == m[3]) == (m[2] == "==")
        for m in sides
    )


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Make a model, two images (one with a space in its name) and one that does not fit."""
    write_package(tmp_path / "net", description(halo=4))
    y, x = np.indices((96, 112))
    image = (np.hypot(y - 40, x - 50) < 9).astype(np.float32)
    (tmp_path / "images").mkdir()
    for name in ("a", "b c"):
        tifffile.imwrite(tmp_path / f"images/{name}.tif", image, metadata={"axes": "YX"})
    np.save(tmp_path / "stack.npy", np.stack([image] * 3))
    return tmp_path


def test_images_that_fit_pass_and_their_findings_are_written(lab: Path, commands: Path) -> None:
    done = run_steps(
        lab, commands, model="./net", images="images/*.tif\n", report="report.html", test="false"
    )

    assert done.statuses == {"check": 0, "report": 0, "verdict": 0}, done.told
    assert done.outputs["check"] == {"status": "0"}
    sarif = json.loads((lab / "bmz.sarif").read_text())
    assert sarif["version"] == "2.1.0"
    assert (lab / "bmz-files.txt").read_text().splitlines() == ["images/a.tif", "images/b c.tif"]
    assert (lab / "report.html").stat().st_size > 10_000


def test_an_image_that_does_not_fit_fails_at_the_end_after_its_findings_are_written(
    lab: Path, commands: Path
) -> None:
    done = run_steps(
        lab,
        commands,
        model="./net",
        images="images/a.tif\nstack.npy",
        report="r.html",
        test="false",
    )

    assert done.statuses == {"check": 0, "report": 0, "verdict": 1}
    assert done.outputs["check"] == {"status": "1"}
    assert done.outputs["report"]["written"] == "true"
    assert done.told.count("::error file=stack.npy,title=axes.ambiguous") == 1
    results = json.loads((lab / "bmz.sarif").read_text())["runs"][0]["results"]
    assert "axes.ambiguous" in {result["ruleId"] for result in results}


def test_a_model_that_is_not_there_leaves_findings_that_say_so(lab: Path, commands: Path) -> None:
    done = run_steps(lab, commands, model="./no-such-model", images="images/a.tif", test="false")

    (run,) = json.loads((lab / "bmz.sarif").read_text())["runs"]
    assert done.outputs["check"] == {"status": "3"}
    assert done.statuses["verdict"] == 3
    assert run["invocations"][0]["executionSuccessful"] is False
    assert "::error title=" in done.told


def test_the_steps_of_others_are_pinned_and_upload_whatever_the_check_says() -> None:
    for step in ACTION["runs"]["steps"]:
        if "uses" in step:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"])
        if step.get("uses", "").startswith(("github/", "actions/upload")):
            assert step["if"].startswith("always() && ")


def test_a_pattern_without_a_file_stops_at_once(lab: Path, commands: Path) -> None:
    done = run_steps(lab, commands, model="./net", images="pictures/*.tif", test="false")

    assert done.statuses == {"check": 2}
    assert "no file is called 'pictures/*.tif'" in done.told


def test_words_of_the_user_are_no_shell(lab: Path, commands: Path) -> None:
    done = run_steps(
        lab,
        commands,
        model="./net",
        images="images/a.tif",
        options="$(touch hacked) ; touch hacked",
        test="false",
    )

    assert not (lab / "hacked").exists()
    assert done.statuses["verdict"] != 0


def test_a_contract_is_held(lab: Path, commands: Path) -> None:
    lock = [str(commands / "bmz"), "check", "./net", "images/a.tif", "--lock", "lab.toml"]
    subprocess.run(lock, cwd=lab, check=True, capture_output=True)
    text = (lab / "lab.toml").read_text()
    kept = run_steps(
        lab, commands, model="./net", images="images/a.tif", contract="lab.toml", test="false"
    )
    (lab / "lab.toml").write_text(re.sub(r"count = .*", "count = [7, 9]", text))
    broken = run_steps(
        lab, commands, model="./net", images="images/a.tif", contract="lab.toml", test="false"
    )

    assert kept.statuses["verdict"] == 0
    assert broken.statuses["verdict"] == 1
    assert "contract.objects" in broken.told


def test_a_model_is_tested_and_its_failure_is_that_of_the_action(lab: Path, commands: Path) -> None:
    (lab / "net/weights.onnx").write_bytes(b"damaged")

    done = run_steps(lab, commands, model="./net")

    assert done.outputs["test"] == {"status": "1"}
    assert done.statuses == {"test": 0, "verdict": 1}
    assert "files.verified" in (lab / "summary.md").read_text()


def test_every_input_is_used_and_every_expression_names_one() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", text))

    assert used == set(ACTION["inputs"])
    # an expression within a script would be run as shell
    assert not any("${{" in step.get("run", "") for step in ACTION["runs"]["steps"])


def test_the_example_gives_the_action_inputs_that_it_has() -> None:
    text = (ROOT / ".github/workflows/example.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()

    given = job["steps"][-1]["with"]

    assert set(given) <= set(ACTION["inputs"])
    assert {name for name, one in ACTION["inputs"].items() if one.get("required")} <= set(given)


def test_the_example_passes_on_the_bundled_image(tmp_path: Path, commands: Path) -> None:
    text = (ROOT / ".github/workflows/example.yml").read_text(encoding="utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    (tmp_path / "src").symlink_to(ROOT / "src")

    done = run_steps(tmp_path, commands, **job["steps"][-1]["with"])

    assert done.statuses == {"check": 0, "test": 0, "report": 0, "verdict": 0}, done.told


@pytest.mark.parametrize(("number", "words"), [(0, ["./net", "images/a.tif"]), (1, ["./net"])])
def test_pre_commit_hooks_run(number: int, words: list[str], lab: Path) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    entry = shlex.split(hooks[number]["entry"])

    done = subprocess.run(
        [*entry, *words],
        cwd=lab,
        env=environment(lab, lab / "o", lab),
        check=False,
        capture_output=True,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(hooks[number]["files"], "net/bioimageio.yaml" if number else "images/a.tif")


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed")

    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
