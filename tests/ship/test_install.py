"""What an installation takes stands in one place, and README, docs, action and recipe follow it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bmz.base import computer
from bmz.cli.main import status_of
from bmz.predict import frameworks
from bmz.predict.frameworks import FRAMEWORKS, OTHER_FRAMEWORKS
from bmz.testing.package import description, write_package

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "docs/install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_as_the_script_writes_it(install: ModuleType) -> None:
    for path, text in install.written().items():
        assert path.read_text(encoding="utf-8") == text, f"make reference writes {path} again"


def test_on_the_day_of_the_release_one_word_changes_every_line(install: ModuleType) -> None:
    pages = install.written(source="pypi")

    for name, kind in install.PLACES.items():
        text = pages[ROOT / name]
        assert "git+https" not in text
        assert install.with_lines(text, kind) == (ROOT / name).read_text(encoding="utf-8")
    assert "pip install 'bmz[onnx]'" in pages[ROOT / "README.md"]
    assert re.search(r'(?m)^    default: "bmz\[onnx\]"$', pages[ROOT / "action.yml"])


def test_no_page_shows_an_installation_from_where_bmz_is_not(install: ModuleType) -> None:
    """What adds an extra to a bmz that is there works from anywhere; the first line does not."""
    first = re.compile(r"(?m)^(pip|pipx|uv tool) install '?bmz")
    every = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages = [path for path in every if path.parent.name != "reference"]  # of what bmz itself says

    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in pages
        for line in first.finditer(path.read_text(encoding="utf-8"))
        if install.SOURCE == "repository"
        and "git+" not in path.read_text(encoding="utf-8")[line.start() :].splitlines()[0]
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        (
            "see `pip install 'bmz[a,b]'`.",
            "clone",
            "see `pip install -c constraints.txt '.[a,b]'`.",
        ),
        ("uv tool install 'bmz[a]'", "line", "uv tool install 'bmz[a] @ git+https://x/y'"),
        ("pipx install 'bmz[a]'", "line", "pipx install 'bmz[a] @ git+https://x/y'"),
        ("pip install torch", "line", "pip install torch"),
    ],
)
def test_lines_are_found_by_their_form(
    text: str, kind: str, line: str, install: ModuleType
) -> None:
    told = install.with_lines(text, kind).replace(install.REPOSITORY, "https://x/y")

    assert told == line


def test_the_table_of_extras_knows_the_formats_that_frameworks_run(install: ModuleType) -> None:
    other = {name for names in OTHER_FRAMEWORKS.values() for name in names}
    for extras, formats in install.EXTRAS.items():
        brought = set(extras.split(","))
        by_framework = {
            name
            for name, entry in FRAMEWORKS.items()
            for extra in brought
            if f"bmz[{extra}]" in entry.install or (extra == "keras" and entry.module == "torch")
        }
        by_others = {n for n, names in OTHER_FRAMEWORKS.items() if set(names) & brought & other}
        keras = {"keras_hdf5", "keras_v3"} if "tensorflow" in brought else set()

        assert set(formats) == by_framework | by_others | keras


def test_the_table_of_extras_is_counted_from_the_manifests(
    install: ModuleType, shared: Path
) -> None:
    table = install.zoo_table(shared / "zoo")

    for name in install.TABLE_PAGES:
        assert table in (ROOT / name).read_text(encoding="utf-8"), "make reference writes it again"
    # what a person counts by hand: six models have ONNX, of which two segment
    assert "| `onnx` | 6 | 2 | 6 |" in table


def test_a_hint_names_the_line_for_the_environment_that_bmz_runs_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    write_package(tmp_path / "net", description(halo=4))
    np.save(tmp_path / "a.npy", np.zeros((64, 64), np.float32))
    monkeypatch.setattr(frameworks, "find_spec", lambda _name: None)
    words = ["run", str(tmp_path / "net"), str(tmp_path / "a.npy"), "-o", str(tmp_path / "out")]

    assert status_of([*words, "--axes", "yx"]) == 3
    plain = capsys.readouterr().err
    monkeypatch.setattr(computer, "PREFIX", "/home/a/.local/share/pipx/venvs/bmz")
    assert status_of([*words, "--axes", "yx"]) == 3
    by_pipx = capsys.readouterr().err

    assert "hint: pip install 'bmz[onnx]'" in plain
    assert "hint: pipx runpip bmz install 'bmz[onnx]'" in by_pipx


def test_the_recipe_of_conda_renders_to_what_the_package_asks_for() -> None:
    rattler = pytest.importorskip("rattler_build", reason="make conda installs py-rattler-build")
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    (variant,) = rattler.Stage0Recipe.from_file(str(ROOT / "share/conda/recipe.yaml")).render(
        rattler.VariantConfig()
    )

    recipe = variant.recipe.to_dict()
    run = {str(entry).split()[0] for entry in recipe["requirements"]["run"]}
    assert {
        re.split(r"[<>=!]", text)[0].replace("typing-", "typing_")
        for text in needed["dependencies"]
    } <= run
    assert recipe["build"]["noarch"] == "python"
