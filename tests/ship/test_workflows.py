"""The workflows of the repository, and the check of a release."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / ".github/workflows").glob("*.yml")), ROOT / "action.yml"]


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def steps(file: Path) -> Iterator[dict[str, Any]]:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    for job in jobs:
        yield from job["steps"]


def test_every_action_is_pinned_by_one_hash_with_its_version() -> None:
    hashes = defaultdict(set)
    for file in FILES:
        for line in re.findall(r"uses: (.*)", file.read_text(encoding="utf-8")):
            if line.startswith("./"):
                continue
            told = re.fullmatch(r"([\w./-]+)@([0-9a-f]{40}) # v\d+\.\d+\.\d+", line)
            assert told is not None, f"{file.name}: {line}"
            hashes[told[1]].add(line)

    assert {name: len(lines) for name, lines in hashes.items()} == dict.fromkeys(hashes, 1)


@pytest.mark.parametrize("file", FILES[:-1], ids=lambda file: file.stem)
def test_no_job_has_a_right_that_it_does_not_name(file: Path) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))

    writing = {
        name: {right for right, level in job.get("permissions", {}).items() if level == "write"}
        for name, job in document["jobs"].items()
    }

    assert "permissions" in document
    if file.stem == "release":
        assert writing == {
            "build": {"id-token", "attestations"},
            "pypi": {"id-token"},
            "github": {"contents"},
        }
    else:
        assert not any(writing.values())
    assert "secrets." not in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_expression_stands_in_a_script(file: Path) -> None:
    assert [step["run"] for step in steps(file) if "${{" in step.get("run", "")] == []


def test_every_target_that_a_workflow_makes_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?m)^([a-z-]+):", makefile))
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    text += (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")

    asked = {
        word
        for line in re.findall(r"run: make ([a-z -]+)$", text, re.MULTILINE)
        for word in line.split()
    }
    (listed,) = re.findall(r"target: \[(.*)\]", text)

    assert asked | set(listed.split(", ")) <= targets


def test_every_system_and_python_that_the_package_names_is_tested() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    document = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))

    matrix = document["jobs"]["systems"]["strategy"]["matrix"]

    assert matrix["python"] == named
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "windows", "macos"]


def test_the_workflows_pass_zizmor() -> None:
    zizmor = shutil.which("zizmor") or shutil.which("zizmor", path=str(Path(sys.executable).parent))
    if zizmor is None:
        pytest.skip("make workflows installs zizmor")

    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", ".github", "action.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


CHANGES = (
    "# Changelog\n\n## 0.2.0 (2027-01-02)\n\n* This is new.\n\n## 0.1.0 (2026-12-01)\n\n* All.\n"
)


def test_a_release_tells_what_is_new_in_it() -> None:
    told = script("docs/changelog.py").section_of("v0.2.0", CHANGES)

    assert told == "* This is new.\n"


@pytest.mark.parametrize(
    ("tag", "changes", "why"),
    [
        ("0.2.0", CHANGES, "not of the form"),
        ("v0.2", CHANGES, "the first section is of 0.2.0"),
        ("v0.3.0", CHANGES, "the first section is of 0.2.0"),
        ("v0.1.0", CHANGES, "the first section is of 0.2.0"),
        ("vnext", CHANGES, "is not a version"),
        ("v0.2.0.dev1", CHANGES, "not of the form"),
        ("v0.2.0", CHANGES.replace("2027-01-02", "not released"), "in place of the day"),
        ("v0.2.0", CHANGES.replace("* This is new.\n", ""), "tells of nothing"),
    ],
)
def test_a_tag_that_the_changelog_does_not_know_is_not_released(
    tag: str, changes: str, why: str
) -> None:
    module = script("docs/changelog.py")

    with pytest.raises(module.NotReady, match=why):
        module.section_of(tag, changes)


def test_the_changelog_has_the_form_that_a_release_needs() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    # a first release is tried before its day is known
    assert script("docs/changelog.py").section_of("v0.1.0rc1", text).startswith("* ")
