"""Every live manifest as a stand-in package through bmz and bioimageio.core; writes the page.

``python -m tests.conformance.run SHARED [ALIAS…] [--page docs/reference/conformance.md]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bmz.app.model_test import ModelTestRequest, check_models
from bmz.app.run import run
from bmz.base.errors import BmzError
from bmz.engine.load import load_model
from bmz.engine.model_trial import DEPARTURES
from bmz.engine.request import RunRequest
from bmz.results.models import ModelTestResult
from bmz.spec.made_for import StatedKind, made_for
from bmz.spec.model import ModelSpec

UNREADABLE = {
    "independent-mouse": "the manifest is not valid YAML",
    "modest-spider": "the manifest is invalid: a tensor has two axes of one name",
}
"""Manifests of which no package can be made."""

SAMPLE = (
    "affable-shark", "ambitious-sloth", "charismatic-whale", "chatty-frog",
    "conscientious-seashell", "diplomatic-bug", "joyful-deer", "naked-microbe", "placid-llama",
    "stupendous-sheep",
)  # fmt: skip
"""Every weights format, both format versions, 2-D and 3-D, several inputs and outputs."""

THEIRS = """
import json, os, sys, warnings
# else it asks the network for every link of a description
os.environ["BIOIMAGEIO_PERFORM_IO_CHECKS"] = "0"
warnings.simplefilter("ignore")
from loguru import logger
logger.remove()
from bioimageio.core import test_model
for folder in sys.argv[1:]:
    try:
        summary = test_model(folder + "/rdf.yaml")
        errors = [e.msg for d in summary.details for e in d.errors]
        told = {"status": summary.status, "why": errors[0] if errors else ""}
    except Exception as why:
        told = {"status": "crashed", "why": f"{type(why).__name__}: {why}"}
    print("RESULT " + json.dumps({"folder": folder, **told}), flush=True)
"""


@dataclass(frozen=True)
class Row:
    """What became of one stand-in.

    Parameters
    ----------
    formats : weights formats of the live manifest
    ours, theirs : ``passed``, ``failed``, ...
    ran : what ``bmz run`` made of the test input as an image: ``done``, or the code of its error
    reason : why ours did not pass, or what had to differ in the stand-in
    """

    alias: str
    formats: tuple[str, ...]
    ours: str
    theirs: str
    reason: str
    ran: str = "-"


def main(words: Sequence[str]) -> int:
    """Make the stand-ins, run both, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    parser.add_argument("aliases", nargs="*")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ours-only", action="store_true")
    told = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        rows = conformance(
            told.shared, Path(folder), told.aliases, workers=told.workers, core=not told.ours_only
        )
    text = page(rows)
    if told.page:
        told.page.write_text(text, encoding="utf-8")
    for row in rows:
        if row.ours != "passed":
            pass
    return 0


def live_aliases(shared: Path) -> list[str]:
    """Name the models of the live zoo; the examples of the specification do not count."""
    folders = (shared / "zoo" / "models").iterdir()
    return sorted(one.name for one in folders if not one.name.startswith("ex-"))


def conformance(
    shared: Path,
    folder: Path,
    aliases: Iterable[str] = (),
    *,
    workers: int = 1,
    core: bool = True,
) -> list[Row]:
    """Make stand-ins below `folder` and test them with both.

    Parameters
    ----------
    aliases : of the live models; all of them when there are none
    workers : processes that test models; 1 is this process
    core : run bioimageio.core too
    """
    wanted = list(aliases) or live_aliases(shared)
    rows, notes = [], {}
    for alias in wanted:
        if alias in UNREADABLE:
            rows.append(Row(alias, (), "no stand-in", "-", UNREADABLE[alias]))
        else:
            notes[alias] = _made(shared, folder, alias)
    words = {str(folder / alias): alias for alias in notes}
    tested = tested_models(tuple(words), workers)
    theirs = core_results(list(words)) if core else {}
    with ThreadPoolExecutor(workers) as pool:  # the networks run in processes of their own
        ran = dict(zip(words, pool.map(run_on_its_own_input, words), strict=True))
    for one in tested:
        alias = words[one.model]
        formats, remarks = notes[alias]
        other, why = theirs.get(one.model, ("-", ""))
        known = departures(load_model(one.model)) if "disagree" in why else []
        rows.append(
            Row(alias, formats, one.status, other, reason(one, remarks, why, known), ran[one.model])
        )
    return sorted(rows, key=lambda row: row.alias)


def tested_models(models: tuple[str, ...], workers: int) -> list[ModelTestResult]:
    """Give what ``bmz test --trust`` says of each model."""
    # of a single model it asks no other process, which would import each framework again
    calls = [models] if workers > 1 else [(model,) for model in models]
    requests = [ModelTestRequest(call, trust="confined", workers=workers) for call in calls]
    return [result for request in requests for result in check_models(request)]


def _made(shared: Path, folder: Path, alias: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from tests.conformance.package import write_standin

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the frameworks that write old formats
        made = write_standin(shared / "zoo" / "models" / alias / "rdf.yaml", folder / alias)
    return tuple(made.manifest.formats), made.notes


def run_on_its_own_input(word: str) -> str:
    """Run ``bmz run`` on the first test input of a model, stored as an image."""
    model = load_model(word)
    tensor = next(t for t in model.inputs if not t.optional)
    if tensor.test is None or not {"y", "x"} <= set(tensor.letters):
        return "no image"
    array = np.load(tensor.test.path)
    kept = [i for i, axis in enumerate(tensor.letters) if axis in "tczyx"]
    array = array[tuple(slice(None) if i in kept else 0 for i in range(array.ndim))]
    image = Path(word) / "as_image.npy"
    np.save(image, array)
    request = RunRequest(
        word,
        (image,),
        Path(word) / "out",
        axes="".join(tensor.letters[i] for i in kept),
        kind=kind_made_for(model),
        recipe="none" if model.prompts is None else None,  # without prompts it gives nothing
        save=frozenset({"raw"}),
        device="cpu",
        trust="confined",
    )
    try:
        summary = run(request)
    except BmzError as why:
        return why.code
    return summary.failed[0].error.code if summary.failed else "done"


def kind_made_for(model: ModelSpec) -> StatedKind | None:
    """State that an image is what a model is made for: a test input of a stand-in shows nothing."""
    made = made_for(model)
    structure = made.structures[0] if made.structures else None
    return StatedKind(made.modalities[0], structure) if made.modalities else None


def departures(model: ModelSpec) -> list[str]:
    """Name the steps of a model in which bioimageio.core departs from the specification."""
    steps = {step.name for tensor in (*model.inputs, *model.outputs) for step in tensor.steps}
    return [f"{name}: {DEPARTURES[name]}" for name in sorted(steps & set(DEPARTURES))]


def reason(
    tested: ModelTestResult, remarks: Sequence[str], why: str, known: Sequence[str] = ()
) -> str:
    """Say what explains a row: our worst check, what differs in the stand-in, their message.

    Parameters
    ----------
    known : departures of bioimageio.core in steps of the model
    """
    worst = tested.worst
    ours = [f"{worst.name}: {worst.detail}"] if worst else []
    theirs = [f"bioimageio.core: {why}"] if why else []
    return "; ".join(_short(one) for one in (*ours, *remarks, *theirs, *known))


def _short(text: str) -> str:
    words = " ".join(text.split()).replace("|", "\\|")
    most = 160
    return words if len(words) <= most else f"{words[: most - 1]}…"


def core_results(folders: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Run bioimageio.core on packages, a few in each process; one that hangs is stopped."""
    found: dict[str, tuple[str, str]] = {}
    for start in range(0, len(folders), 8):
        some = folders[start : start + 8]
        found |= _core_on(some)
    return found


def _core_on(folders: Sequence[str]) -> dict[str, tuple[str, str]]:
    command = [sys.executable, "-c", THEIRS, *folders]
    with tempfile.TemporaryDirectory() as here:  # it unpacks bundles into the working folder
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=900, check=False, cwd=here
            )
            printed = done.stdout
        except subprocess.TimeoutExpired as late:
            printed = (late.stdout or b"").decode() if isinstance(late.stdout, bytes) else ""
    lines = [line for line in printed.splitlines() if line.startswith("RESULT ")]
    told: list[dict[str, Any]] = [json.loads(line.removeprefix("RESULT ")) for line in lines]
    found = {one["folder"]: (str(one["status"]), str(one["why"])) for one in told}
    return {f: found.get(f, ("crashed", "the process ended or took too long")) for f in folders}


def totals(rows: Sequence[Row]) -> str:
    """Count both in one sentence."""
    ours, theirs = (Counter(getattr(row, who) for row in rows) for who in ("ours", "theirs"))
    passed = f"{ours['passed']} of {len(rows)} stand-ins pass `bmz test`"
    core = sum(n for status, n in theirs.items() if status.startswith("passed"))
    return f"{passed}, {core} pass bioimageio.core {version('bioimageio.core')}."


def page(rows: Sequence[Row]) -> str:
    """Give the page of the documentation."""
    lines = [
        "# How the models of the zoo fare",
        "",
        "For each live manifest a *stand-in* is made: the same description over small random",
        "networks of exactly its inputs, outputs, dtypes, size rules and halo, in each weights",
        "format that it names, with test tensors that the plain framework computed. What passes",
        "here is what bmz can run of the zoo as soon as the real weights are there; whether real",
        "weights reproduce their test output, `bmz test MODEL` tells. `passed` says that it loads",
        "and reproduces; what `bmz test` warns of, such as a narrow halo, is not counted here.",
        "",
        totals(rows),
        "",
        "Made by `python -m tests.conformance.run ../shared --page docs/reference/conformance.md`",
        "(all with `--trust`); a sample is compared in CI.",
        "",
        "Where bioimageio.core did not pass: 'Name or service not known' is its wish for a",
        "network to look up what a description refers to, which there was not; where its values",
        "disagree, the steps follow in which it departs from the specification",
        "([steps](../design/steps.md)).",
        "",
        "`bmz run` is tried on the first test input, stored as an image: `done`, or the code of",
        "what it says instead; a network with prompts is asked for a grid of points.",
        "",
        "| model | formats | bmz test | bmz run | bioimageio.core | remark |",
        "|---|---|---|---|---|---|",
    ]
    lines += [row_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def row_line(row: Row) -> str:
    """Give the line of a stand-in in the table."""
    formats = ", ".join(row.formats) or "-"
    cells = (row.alias, formats, row.ours, row.ran, row.theirs, row.reason)
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
