"""Write what an installation takes into README, docs, action and the recipe of conda.

``python docs/install.py`` is a part of ``make reference``. `SOURCE` is the one place to switch on
the day of the release. What is needed comes from pyproject.toml.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

SOURCE = "repository"
"""Where bmz is installed from: ``repository`` until it is on PyPI, then ``pypi``."""

REPOSITORY = "https://github.com/bmz-dev/bmz"

LINES: Mapping[str, Mapping[str, str]] = {
    "repository": {
        "clone": "pip install -c constraints.txt '.[{extras}]'",
        "line": f"pip install 'bmz[{{extras}}] @ git+{REPOSITORY}'",
        "tool": f"uv tool install 'bmz[{{extras}}] @ git+{REPOSITORY}'",
        "pipx": f"pipx install 'bmz[{{extras}}] @ git+{REPOSITORY}'",
        "package": f"bmz[{{extras}}] @ git+{REPOSITORY}",
    },
    "pypi": {
        "clone": "pip install 'bmz[{extras}]'",
        "line": "pip install 'bmz[{extras}]'",
        "tool": "uv tool install 'bmz[{extras}]'",
        "pipx": "pipx install 'bmz[{extras}]'",
        "package": "bmz[{extras}]",
    },
}
"""By source, then by kind: in a clone, elsewhere, by uv, by pipx, and what an action installs."""

PLACES: Mapping[str, str] = {
    "README.md": "clone",
    "docs/index.md": "line",
    "docs/tutorial/lesson.md": "line",
    "docs/how-to/ci.md": "line",
    "docs/how-to/cluster.md": "line",
    "docs/how-to/mcp.md": "line",
    "docs/how-to/napari.md": "line",
    "docs/how-to/omero.md": "line",
    "action.yml": "package",
}
"""The kind of the line of each file that says how bmz is installed first."""

TABLE_PAGES = ("README.md", "docs/index.md")
"""Files that say which extra runs how many models of the zoo."""

TABLE_MARK = "<!-- zoo: docs/install.py, of ../shared/zoo -->"

EXTRAS: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnx",),
    "torch": ("torchscript", "pytorch_state_dict"),
    "tensorflow": ("tensorflow_saved_model_bundle", "keras_hdf5", "keras_v3"),
    "keras": ("keras_hdf5", "keras_v3", "torchscript", "pytorch_state_dict"),
    "openvino": ("onnx", "torchscript", "tensorflow_saved_model_bundle"),
    "onnx,torch": ("onnx", "torchscript", "pytorch_state_dict"),
    "onnx,torch,tensorflow": (
        "onnx", "torchscript", "pytorch_state_dict", "tensorflow_saved_model_bundle",
        "keras_hdf5", "keras_v3",
    ),
}  # fmt: skip
"""Extras -> formats of weights that run with them; a test compares them with `bmz.predict`."""

WITH_CODE = "pytorch_state_dict"
"""The format whose network is code in the package, in nearly all models."""

RECIPE = "share/conda/recipe.yaml"
NAMES_OF_CONDA = {"typing-extensions": "typing_extensions"}


def with_lines(text: str, kind: str, source: str = SOURCE) -> str:
    """Put the lines of `source` in the place of those of any source; extras stay.

    Parameters
    ----------
    text : of a file
    kind : of the line that the file shows; lines of uv and pipx are always found
    source : ``repository`` or ``pypi``
    """
    if kind == "package":
        pattern = r"(?m)(?<=^    default: \")bmz\[(?P<extras>[\w,-]+)\][^\"\n]*"
        return re.sub(pattern, lambda m: _line(m, "package", source), text)
    start = {"clone": "pip", "line": "pip"} | {"tool": "uv tool", "pipx": "pipx"}
    for each in (kind, "tool", "pipx"):
        pattern = (
            rf"(?<![\w-]){start[each]} install (?:-c constraints\.txt )?"
            rf"'(?:bmz|\.)\[(?P<extras>[\w,-]+)\](?: @ [^'\n]*)?'"
        )
        text = re.sub(pattern, lambda m, each=each: _line(m, each, source), text)  # type: ignore[misc]
    return text


def _line(match: re.Match[str], kind: str, source: str) -> str:
    return LINES[source][kind].format(extras=match["extras"])


def zoo_table(zoo: Path) -> str:
    """Count the live models of the zoo that have weights for each choice of extras.

    Parameters
    ----------
    zoo : folder with ``manifest.json`` (the formats of each model) and ``seg_models.json``
    """
    listed = json.loads((zoo / "manifest.json").read_text(encoding="utf-8"))
    entries = [entry for entry in listed["entries"] if entry["group"].startswith("live")]
    live = {entry["alias"]: set(entry["weights"] or ()) for entry in entries}
    segmenting = json.loads((zoo / "seg_models.json").read_text(encoding="utf-8"))
    masks = {model["alias"] for model in segmenting}
    day = listed["index_timestamp"][:10]
    counts = f"has weights to run of {len(live)} models | of {len(masks)} that segment"
    lines = [f"| extras | {counts} | without code of their own |", "|---|---|---|---|"]
    for extras, formats in EXTRAS.items():
        run = {alias for alias, shipped in live.items() if shipped & set(formats)}
        plain = {a for a in run if live[a] & (set(formats) - {WITH_CODE})}
        lines.append(f"| `{extras}` | {len(run)} | {len(run & masks)} | {len(plain)} |")
    counted = f"Counted from the manifests of {day}. Code of their own needs `--trust`, and "
    counted += "in some models further packages, which `bmz show` names."
    return "\n".join([*lines, "", counted])


def with_table(text: str, zoo: Path) -> str:
    """Put the table between its marks; without the manifests it stays as it is."""
    if not (zoo / "manifest.json").is_file():
        return text
    pattern = re.compile(f"{re.escape(TABLE_MARK)}\n.*?{re.escape(TABLE_MARK)}", re.DOTALL)
    table = zoo_table(zoo)
    return pattern.sub(lambda _: f"{TABLE_MARK}\n{table}\n{TABLE_MARK}", text)


def with_requirements(recipe: str, needed: list[str]) -> str:
    """Write the requirements of the package into the recipe of conda, in the words of conda."""
    head, _, rest = recipe.partition("  run:\n")
    tail = rest[rest.index("\n\n") :]
    lines = ["    - python >=${{ python_min }}", *(f"    - {_of_conda(text)}" for text in needed)]
    lines.append("    - onnxruntime >=1.19  # the extra onnx, as conda has no extras")
    return head + "  run:\n" + "\n".join(lines) + tail


def _of_conda(text: str) -> str:
    requirement = Requirement(text)
    versions = ",".join(sorted(map(str, requirement.specifier), key=lambda word: word[0] != ">"))
    return f"{NAMES_OF_CONDA.get(requirement.name, requirement.name)} {versions}"


def written(root: Path = ROOT, source: str = SOURCE) -> dict[Path, str]:
    """Give the content that each file is to have."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pages = {
        root / name: with_lines((root / name).read_text(encoding="utf-8"), kind, source)
        for name, kind in PLACES.items()
    }
    for name in TABLE_PAGES:
        pages[root / name] = with_table(pages[root / name], root.parent / "shared" / "zoo")
    recipe = (root / RECIPE).read_text(encoding="utf-8")
    return {**pages, root / RECIPE: with_requirements(recipe, project["dependencies"])}


def main() -> int:
    """Write all files."""
    for path, text in written().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
