"""HTML: what notebooks show, and the page of a comparison; neither makes a request."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, features

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.errors import not_none
from bmz.check.finding import Finding
from bmz.image.formats import name_of
from bmz.image.given_names import given_name, with_given_names
from bmz.image.pixels import Pixels
from bmz.process.consensus import supports
from bmz.report import compare_text
from bmz.report.model_text import model_rows
from bmz.report.run_text import finding_lines
from bmz.report.text import counted, encodable
from bmz.results.compare import Comparison, ImageComparison, SettingResult
from bmz.results.models import ModelView
from bmz.write.overlay import fullest_plane
from bmz.write.shown import COLOURS, nearest, shrunk, stretched

TEXT_COLOURS = {"error": "#b3261e", "warning": "#8a5a00", "note": "#4a5568", "hint": "#4a5568"}
"""Of text on a white ground; each has a contrast of at least 4.5 to 1."""

_QUALITY = 90  # of WebP
_CELL = 'style="text-align:left;vertical-align:top;padding:2px 12px 2px 0"'


def model_html(view: ModelView) -> str:
    """Show what a model is, as ``bmz show`` does."""
    rows = "".join(
        f"<tr><th {_CELL}>{escape(heading)}</th><td {_CELL}>{escape(text)}</td></tr>"
        for heading, text in model_rows(view)
    )
    return f"<table>{rows}</table>"


def findings_html(heading: str, findings: Iterable[Finding]) -> str:
    """Show a verdict with all findings, the worst first."""
    items = "".join(
        f'<li style="color:{TEXT_COLOURS[kind]}">{"" if kind == "hint" else f"<b>{kind}</b> "}'
        f"{escape(text)}</li>"
        for kind, text in finding_lines(findings)
    )
    return f'<p><b>{escape(heading)}</b></p><ul style="list-style:none">{items}</ul>'


def result_html(words: Sequence[str], picture: AnyArray | None, findings: Iterable[Finding]) -> str:
    """Show a result: the overlay, a few words, and what the check said.

    Parameters
    ----------
    words : sentences; the first one is the heading
    picture : (y, x, 3) uint8; None without labels
    """
    shown = (
        "" if picture is None else f'<img alt="{escape(words[0])}" src="{picture_uri(picture)}"/>'
    )
    rest = "".join(f"<p>{escape(text)}</p>" for text in words[1:])
    return f"{shown}{rest}{findings_html(words[0], findings)}"


def picture_uri(picture: AnyArray, *, small: bool = False) -> str:
    """Give a picture as an address that holds it.

    Parameters
    ----------
    picture : (y, x) or (y, x, 3) uint8
    small : lossy WebP where Pillow can write it; else PNG
    """
    form = "webp" if small and features.check("webp") else "png"
    data = BytesIO()
    Image.fromarray(picture).save(data, form, **({"quality": _QUALITY} if form == "webp" else {}))
    return f"data:image/{form};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


LARGEST_PX = 2048
"""Longer side of the picture in the page; larger images are shown smaller."""

MOST_LAYERS = 8
"""Results with outlines, the best first; the others are in the table alone."""

MOST_WORST = 200
_PERCENTS = (0.1, 99.9)

_COLUMNS = ("label", "area_um2", "area_px", "volume_um3", "volume_px",
            "equivalent_diameter_area_um", "equivalent_diameter_area_px",
            "solidity", "eccentricity", "score", "confidence")  # fmt: skip


def comparison_page(comparison: Comparison) -> str:
    """Give the page as text.

    Everything is inside: style, script, pictures, label masks. Its security policy forbids it to
    ask for anything.
    """
    document = {
        "command": comparison.command,
        "versions": dict(comparison.versions),
        "models": [dict(model) for model in comparison.models],
        "images": [_image(image) for image in comparison.images if image.done],
        "failed": [
            with_given_names(f"{_title(image)}: {result.name}: {result.error}")
            for image in comparison.images
            if not image.done
            for result in image.results
        ],
    }
    names = ", ".join(map(_title, comparison.images[:3]))
    replaced = {
        "@TITLE@": escape(encodable(f"bmz compare: {names}"), quote=False),
        "@STYLE@": _asset("compare.css"),
        "@SCRIPT@": _asset("compare.js"),
        # a name with </script> in it must not end the data
        "@DATA@": json.dumps(document, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # all at once: the name of an image may itself look like a mark
    return re.sub("|".join(replaced), lambda mark: replaced[mark[0]], _asset("compare.html"))


def _title(image: ImageComparison) -> str:
    """Give the name of the file, or the address of an image on a server."""
    name = given_name(image.path)
    return name_of(image.path) if name == str(image.path) else name


def _asset(name: str) -> str:
    return (files("bmz.report") / "assets" / name).read_text(encoding="utf-8")


def _image(image: ImageComparison) -> dict[str, Any]:
    best = image.done[0]
    labels, pixels = not_none(best.labels), not_none(image.pixels)
    plane = fullest_plane(labels)
    sides = _sides(labels)
    shown = pixels.part({a: i for a, i in plane.items() if a in pixels.axes})
    layers = image.done[:MOST_LAYERS]
    support = supports([np.asarray(result.labels) for result in layers])
    whole = image.consensus if image.truth is None else image.truth
    truth = None if whole is None else _plane_of_truth(whole, labels, plane)
    return {
        "name": _title(image),
        "width": sides[1],
        "height": sides[0],
        "unit": "um" if "equivalent_diameter_area_um" in best.table else "px",
        "channels": _channels(shrunk(shown, sides), sides),
        "warnings": _warnings(image),
        "reason": compare_text.why_first(image),
        "headings": compare_text.headings(image),
        "ranking": compare_text.table(image),
        "truth": None if truth is None else packed(nearest(truth, sides)),
        "known": image.truth is not None,
        "left_out": len(image.done) - len(layers),
        "results": [
            *(
                _layer(result, image, part, plane, sides)
                for result, part in zip(layers, support, strict=True)
            ),
            # the best come first, and those that failed last
            *map(_bare, image.results[len(layers) :]),
        ],
    }


def _sides(labels: Pixels) -> tuple[int, int]:
    height, width = (labels.sizes[axis] for axis in "yx")
    scale = min(LARGEST_PX / max(height, width), 1.0)
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def _plane_of_truth(truth: AnyArray, labels: Pixels, plane: Mapping[str, int]) -> AnyArray:
    whole = truth.reshape(labels.shape)
    return whole[tuple(plane.get(axis, slice(None)) for axis in labels.axes)]


def _warnings(image: ImageComparison) -> list[str]:
    warnings: dict[str, None] = {}
    for result in image.results:
        for finding in result.findings:
            if finding.severity != "note":
                warnings[_warning(result.model, finding)] = None
    return list(warnings)


def _warning(model: str, finding: Finding) -> str:
    return f"{model}: {finding.message} [{finding.code}] {finding.hint}".strip()


def _bare(result: SettingResult) -> dict[str, Any]:
    error = None if result.error is None else with_given_names(str(result.error))
    return {"name": result.name, "command": result.command, "packed": None, "error": error}


def _layer(
    result: SettingResult,
    image: ImageComparison,
    support: FloatArray,
    plane: Mapping[str, int],
    sides: tuple[int, int],
) -> dict[str, Any]:
    labels = not_none(result.labels).part(plane).transposed("yx").array
    there = np.isin(result.table["label"], np.unique(labels))
    for axis, position in plane.items():
        if axis in result.table:  # a track has a row for each frame
            there &= result.table[axis] == position
    if len(support):
        support = support[result.table["label"] - 1]
    factor = sides[0] / labels.shape[0]
    x, y = (result.table[f"centroid_{axis}_px"][there] * factor for axis in "xy")
    radius = result.table["equivalent_diameter_area_px"][there] * factor / 2
    in_um = "equivalent_diameter_area_um" in result.table
    sized = "equivalent_diameter_area_um" if in_um else "equivalent_diameter_area_px"
    return {
        **_bare(result),
        "packed": packed(nearest(labels, sides)),
        "objects": result.objects,
        "counted": _counted(result),
        "verdict": _verdict(result),
        "table": _table(result, there, support),
        "places": [_short(part) for part in (x, y, radius)],
        "sizes": _short(result.table[sized][there]),
        "sure": "confidence" in result.table,
        "worst": _worst(result, image, there, support, factor),
    }


def _counted(result: SettingResult) -> str:
    return "" if result.objects is None else counted(result.objects, result.apart, result.joined)


def _verdict(result: SettingResult) -> str:
    if result.quality.f1 is not None:
        return f"F1 {result.quality.f1:.2f}"
    return _counted(result)


def _table(result: SettingResult, there: AnyArray, support: FloatArray) -> dict[str, Any]:
    table = dict(result.table)
    names = [n for n in _COLUMNS if n in table]
    # where lengths are known in um those in px say the same again
    names = [n for n in names if not (n.endswith("_px") and n.replace("_px", "_um") in table)]
    names = [n for n in names if not (n == "area_px" and "area_um2" in table)]
    names = [n for n in names if not (n == "volume_px" and "volume_um3" in table)]
    names += [n for n in table if n.startswith("intensity_mean")]
    if len(support):
        table["shared_by"] = support
        names.append("shared_by")
    return {"names": names, "columns": [_short(table[name][there]) for name in names]}


def _worst(
    result: SettingResult,
    image: ImageComparison,
    there: AnyArray,
    support: FloatArray,
    factor: float,
) -> list[dict[str, Any]]:
    if image.truth is not None:
        return [
            {
                "what": f"{error.kind}, {error.area_px} px",
                "y": round(error.centroid[-2] * factor, 1),
                "x": round(error.centroid[-1] * factor, 1),
                "r": round(math.sqrt(error.area_px / math.pi) * factor, 1),
            }
            for error in result.quality.errors[:MOST_WORST]
        ]
    if "confidence" in result.table:
        worth, words = result.table["confidence"], "{:.0%} likely to be a true one"
    elif len(support):
        worth, words = support, "in {:.0%} of the others"
    else:
        return []
    worth = np.where(there, worth, 1)
    order = np.argsort(worth, kind="stable")[:MOST_WORST]
    return [
        {
            "what": f"object {result.table['label'][i]}: {words.format(worth[i])}",
            "y": round(float(result.table["centroid_y_px"][i]) * factor, 1),
            "x": round(float(result.table["centroid_x_px"][i]) * factor, 1),
            "r": round(float(result.table["equivalent_diameter_area_px"][i]) * factor / 2, 1),
        }
        for i in order
        if worth[i] < 1
    ]


def _short(column: AnyArray) -> list[Any]:
    if column.dtype.kind != "f":
        return list(column.tolist())
    return [None if not math.isfinite(v) else float(f"{v:.5g}") for v in column.tolist()]


def packed(labels: AnyArray) -> str:
    """Give labels as text for the page: differences along rows, byte by byte, deflated, base64.

    Parameters
    ----------
    labels : (y, x) integers below 2^31
    """
    steps = np.diff(labels.astype(np.int32), axis=1, prepend=np.int32(0))
    planes = np.ascontiguousarray(steps.astype("<i4").view(np.uint8).reshape(-1, 4).T)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def _channels(image: Pixels, sides: tuple[int, int]) -> list[dict[str, Any]]:
    planes = image.with_channel_axis().transposed("cyx").array[: max(COLOURS)]
    photograph = image.colour and len(planes) == max(COLOURS)
    colours: Sequence[Sequence[float]] = COLOURS[len(planes)]
    numbered = [f"channel {i}" for i in range(len(planes))] if len(planes) > 1 else ["intensity"]
    names = list(image.channel_names) or numbered
    if photograph:
        colours, names = ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ["red", "green", "blue"]
    bytes_ = _as_bytes(planes, together=photograph)
    return [
        {
            "name": name,
            "colour": list(colour),
            "uri": picture_uri(nearest(plane, sides), small=True),
        }
        for name, colour, plane in zip(names, colours, bytes_, strict=False)
    ]


def _as_bytes(planes: AnyArray, *, together: bool) -> list[AnyArray]:
    """Bring each channel (a photograph as a whole) from its percentiles to 0 to 255."""
    parts = planes[None] if together else planes
    shown = np.concatenate(
        [stretched(part, _PERCENTS).reshape(-1, *planes.shape[1:]) for part in parts]
    )
    return list(np.rint(shown * 255).astype(np.uint8))
