"""Answer the requests of the page of ``bmz open``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bmz.app.open import Workbench, objects_of
from bmz.base.axes import ChannelKey, channel_text, channel_words
from bmz.base.errors import WrongUsage
from bmz.base.files import write_whole_text
from bmz.base.progress import Listener
from bmz.engine.attempts import Attempt, Choice, parameters_of
from bmz.engine.image_view import Plane, Window
from bmz.page.server import Answer, Calls, Words, document, pixels
from bmz.process.edits import Edit
from bmz.process.judged import Place, object_of
from bmz.report.check_text import check_json
from bmz.report.zoo_text import fit_json
from bmz.write.judgements import Judgement, keep_judgement

OFFERED = 12
"""Maximum number of models of the zoo that are offered for an image."""


def page_calls(bench: Workbench, state: Path) -> Calls:
    """Return the calls that a page may make.

    Parameters
    ----------
    bench : workbench that does the work
    state : file that stores what the page shows, so that it can be restored later
    """
    return Calls(
        read={
            "images": lambda _: document(_images(bench)),
            "image": lambda words: document(bench.view(int(words["image"])).facts()),
            "part": lambda words: _part(bench, words),
            "objects": lambda words: document(_objects(bench, words)),
            "mask": lambda words: _mask(bench, words),
            "state": lambda _: _kept(state),
        },
        change={
            "relabel": lambda words: _relabelled_part(bench, words),
            "command": lambda words: document(
                {"command": bench.command(int(words["attempt"]), _setting(words))}
            ),
            "judge": lambda words: document(_judged(bench, words)),
            "state": lambda words: _keep(state, words),
        },
        work={
            "check": lambda words, listener: json.loads(
                check_json(bench.check(choice_of(words), listener))
            ),
            "fit": lambda words, listener: json.loads(
                fit_json(bench.fit(int(words["image"]), listener), OFFERED)
            ),
            "attempt": lambda words, listener: _attempt(bench, words, listener),
            "save": lambda words, listener: _saved(bench, words, listener),
        },
    )


def choice_of(words: Words) -> Choice:
    """Parse the choice that the user made on the page.

    Raises
    ------
    KeyError, ValueError, TypeError
        The request does not have the form that the page sends.
    """
    scale = words.get("scale")
    channels, invert = words.get("channels"), words.get("invert")
    window = words.get("window")
    return Choice(
        int(words["image"]),
        str(words["model"]),
        None if channels is None else _channels(str(channels)),
        scale if scale in (None, "auto") else float(scale),
        None if invert is None else bool(invert),
        {axis: int(at) for axis, at in (words.get("at") or {}).items() if axis in ("t", "z")},
        None if window is None else _window(window),
    )


class ChannelsRefused(WrongUsage):
    """The text in the channels field does not name any channels."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(
            f"the channels '{text}': {why}",
            hint="numbers from 0 or names, one for each channel of the model, such as 1,0",
            code="open.channels",
        )


def _channels(text: str) -> tuple[ChannelKey, ...]:
    try:
        return channel_words(text)
    except ValueError as why:
        raise ChannelsRefused(text, str(why)) from why


def _window(words: Words) -> Window:
    top, left, bottom, right = (int(words[name]) for name in ("top", "left", "bottom", "right"))
    return Window(top, left, bottom, right, max(int(words.get("step", 1)), 1))


def _images(bench: Workbench) -> dict[str, Any]:
    request = bench.request
    return {
        "images": [path.name for path in request.images],
        "models": list(request.models),
        "folder": str(request.options.folder),
    }


def _part(bench: Workbench, words: Words) -> Answer:
    plane = Plane(*(int(words.get(name, 0)) for name in ("c", "t", "z")))
    array, window = bench.view(int(words["image"])).part(plane, _window(words))
    return pixels(array, _place(window))


def _mask(bench: Workbench, words: Words) -> Answer:
    at = {axis: int(words.get(axis, 0)) for axis in "tz"}
    array, window = bench.mask(int(words["attempt"]), at, _window(words))
    return pixels(array, _place(window))


def _place(window: Window) -> dict[str, int]:
    return {"top": window.top, "left": window.left, "step": window.step}


def _setting(words: Words) -> dict[str, str]:
    return {str(name): str(value) for name, value in (words.get("settings") or {}).items()}


def _edits(words: Words) -> list[Edit]:
    return [
        Edit(
            str(edit["kind"]),
            tuple((float(y), float(x)) for y, x in edit["points"]),
            {axis: int(n) for axis, n in edit["at"].items() if axis in ("t", "z")},
        )
        for edit in words.get("edits") or ()
    ]


def _attempt(bench: Workbench, words: Words, listener: Listener) -> dict[str, Any]:
    attempt = bench.attempt(choice_of(words), listener)
    return {
        "attempt": attempt.number,
        "parameters": parameters_of(attempt.outputs.setup),
        **_told(attempt),
        **_relabelled(bench, {**words, "attempt": attempt.number}),
    }


def _told(attempt: Attempt) -> dict[str, Any]:
    plan, request = attempt.outputs.work.plan, attempt.outputs.setup.request
    made = attempt.made_px
    return {
        "model": request.model,
        "channels": None if request.channels is None else channel_text(request.channels),
        "fed": ",".join(channel_text(channels) for channels in plan.channels),
        "invert": request.invert,
        "recipe": attempt.outputs.setup.labelling.choice.name,
        "scale": plan.scale,
        "made_px": made,
        "box": {axis: [along.start, along.stop] for axis, along in attempt.box.items()},
        "findings": [
            {"code": f.code, "severity": f.severity, "message": f.message, "hint": f.hint}
            for f in attempt.outputs.report.findings
        ],
    }


def _relabelled_part(bench: Workbench, words: Words) -> Answer:
    """Compute a mask with other settings, and return the part of it that is in view."""
    told = _relabelled(bench, words)
    at = {axis: int(n) for axis, n in words["at"].items() if axis in ("t", "z")}
    array, window = bench.mask(int(words["attempt"]), at, _window(words["window"]))
    return pixels(array, {**told, **_place(window)})


def _relabelled(bench: Workbench, words: Words) -> dict[str, Any]:
    return {"count": bench.relabel(int(words["attempt"]), _setting(words), _edits(words))}


def _objects(bench: Workbench, words: Words) -> dict[str, Any]:
    number = int(words["attempt"])
    columns = objects_of(bench.objects(number), bench.attempt_of(number).corner)
    table = {name: [_number(value) for value in values] for name, values in columns.items()}
    return {"table": table}


def _number(value: object) -> object:
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _saved(bench: Workbench, words: Words, listener: Listener) -> dict[str, Any]:
    setting = _setting(words)
    number = int(words["attempt"])
    summary = bench.save(number, setting, _edits(words), listener)
    return {
        "folder": str(bench.request.options.folder),
        "done": len(summary.done),
        "failed": [str(failure.error) for failure in summary.failed],
        "command": bench.command(number, setting),
    }


def _judged(bench: Workbench, words: Words) -> dict[str, Any]:
    told, view = words.get("object"), bench.view(int(words["image"]))
    named = {"label": "label", "y": "y_px", "x": "x_px", "area_px": "area_px"}
    height, width = (view.info.sizes[axis] for axis in "yx")
    everything = Window(0, 0, height, width)
    plane, shown = bench.mask(int(words["attempt"]), words["at"], everything)
    corner = shown.top, shown.left
    place = Place(*corner, plane) if told is None else object_of(plane, told["label"], corner)
    judgement = Judgement(
        bench.request.images[int(words["image"])].name,
        bench.attempt_of(int(words["attempt"])).outputs.setup.request.model,
        _setting(words),
        {axis: int(n) for axis, n in words["at"].items() if axis in view.info.axes},
        str(words["verdict"]),
        place,
        {} if told is None else {heading: told.get(key) for key, heading in named.items()},
    )
    path, rows = keep_judgement(bench.request.options.folder, judgement)
    return {"file": str(path), "rows": rows}


def _kept(state: Path) -> Answer:
    try:
        kept: Mapping[str, Any] = json.loads(state.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {}  # nothing was stored, or the page was killed while storing it
    return document(kept)


def _keep(state: Path, words: Words) -> Answer:
    write_whole_text(state, json.dumps(words))
    return document({})
