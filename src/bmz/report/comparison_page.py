"""Write the page of a comparison: one file with its viewer, pictures, label masks and tables."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import product
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, FloatArray
from bmz.base.errors import not_none
from bmz.base.values import dataclass
from bmz.check.finding import Finding
from bmz.image.formats import name_of
from bmz.image.given_names import given_name, with_given_names
from bmz.image.pixels import Pixels
from bmz.process.consensus import supports
from bmz.report import compare_text
from bmz.report.html import picture_uri
from bmz.report.scripts import joined
from bmz.report.text import counted, encodable
from bmz.results.compare import Comparison, ImageComparison, SettingResult
from bmz.write.overlay import fullest_plane
from bmz.write.shown import COLOURS, Limits, nearest, percentile_limits, shrunk, stretched

LARGEST_PX = 2048
"""Longest side of a picture in the page; larger images are downscaled."""

LEAST_PX = 512
"""Pictures are not downscaled below this longest side to make room for planes and masks."""

MOST_LAYERS = 48
"""Maximum number of results with outlines, the best first; the others are only in the table."""

MOST_COMPARED = 8
"""Maximum number of results, the best ones, whose objects are matched with each other."""

MOST_PLANES = 64
"""Maximum number of planes along t and z together, evenly spaced; the others are left out."""

IMAGE_PX, PAGE_PX = 2**26, 2**28
"""Maximum pixels of all masks of one image and of all images: 16 and 64 of the largest pictures."""

MOST_ROWS, IMAGE_ROWS = 4000, 60_000
"""Maximum rows of the object table of one result, largest first, and of all results of an image."""

MOST_ERRORS = 2000
"""Maximum number of errors against the truth, the largest first."""

MODULES = (
    "parts.js", "viewport.js", "picture.js", "mask.js", "outlines.js", "stage.js", "chart.js",
    "controls.js",
    "document.js", "pixels.js", "entries.js", "display.js", "tables.js", "panels.js", "compare.js",
)  # fmt: skip
"""Modules of the script: those of the viewer, which ``bmz open`` also uses, and of the page."""

_PERCENTS = (0.1, 99.9)
_NAMED = 3  # maximum number of images named in the title

_COLUMNS = ("label", "area_um2", "area_px", "volume_um3", "volume_px",
            "equivalent_diameter_area_um", "equivalent_diameter_area_px",
            "solidity", "eccentricity", "score", "confidence")  # fmt: skip


def comparison_page(comparison: Comparison) -> str:
    """Return the page as text.

    The page contains everything: style, script, pictures and label masks. Its security policy
    forbids requests and any other script.
    """
    done = [image for image in comparison.images if image.done]
    budget = min(IMAGE_PX, PAGE_PX // max(len(done), 1))
    document = {
        "command": comparison.command,
        "versions": dict(comparison.versions),
        "models": [dict(model) for model in comparison.models],
        "images": [_image(image, budget) for image in done],
        "over": _over_images(comparison) if len(done) > 1 else None,
        "failed": [
            with_given_names(f"{_title(image)}: {result.name}: {result.error}")
            for image in comparison.images
            if not image.done
            for result in image.results
        ],
    }
    script = joined({name: _asset(name) for name in MODULES})
    digest = base64.b64encode(sha256(script.encode()).digest()).decode("ascii")
    replaced = {
        "@TITLE@": escape(encodable(_names(comparison)), quote=False),
        "@STYLE@": _asset("viewer.css") + _asset("compare.css"),
        "@SCRIPT@": script,
        "@DIGEST@": f"sha256-{digest}",
        # a name that contains </script> must not end the data
        "@DATA@": json.dumps(document, separators=(",", ":")).replace("<", "\\u003c"),
    }
    # all at once: the name of an image may itself look like a placeholder
    return re.sub("|".join(replaced), lambda mark: replaced[mark[0]], _asset("compare.html"))


def _names(comparison: Comparison) -> str:
    names = [_title(image) for image in comparison.images]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"bmz compare: {', '.join(names[:_NAMED])}{more}"


def _title(image: ImageComparison) -> str:
    """Return the name of the file, or the address of an image on a server."""
    name = given_name(image.path)
    return name_of(image.path) if name == str(image.path) else name


def _asset(name: str) -> str:
    folder = "assets" if name in _OWN else "viewer"
    return (files("bmz.report") / folder / name).read_text(encoding="utf-8")


_OWN = frozenset({*MODULES[8:], "compare.css", "compare.html"})


def _over_images(comparison: Comparison) -> dict[str, Any]:
    headings, rows = compare_text.table_over_images(comparison)
    worst = [setting.least[1] for setting in comparison.over_images]
    done = [image.path for image in comparison.images if image.done]
    return {
        "headings": ("result", *headings[1:]),
        "rows": rows,
        "names": [setting.name for setting in comparison.over_images],
        "worst": [None if image is None else done.index(image) for image in worst],
    }


@dataclass(frozen=True)
class Kept:
    """The parts of an image that the page contains.

    Parameters
    ----------
    layers : number of results with outlines, the best first
    at : positions that are shown along t and z, for the axes that the labels have
    sides : height and width of the picture in px
    """

    layers: int
    at: Mapping[str, tuple[int, ...]]
    sides: tuple[int, int]

    @property
    def planes(self) -> list[dict[str, int]]:
        """Return the planes in order; the last axis varies fastest."""
        return [dict(zip(self.at, place, strict=True)) for place in product(*self.at.values())]


def kept_of(layers: int, sizes: Mapping[str, int], start: Mapping[str, int], budget: int) -> Kept:
    """Choose the parts of an image for the page, so that its masks stay within a pixel budget.

    Pictures are downscaled, to `LEAST_PX` at most, before planes are left out, and planes are left
    out before results.

    Parameters
    ----------
    layers : number of results that have labels
    sizes : sizes of the labels by axis
    start : the plane that is shown first, which is always kept
    budget : maximum number of pixels of all masks
    """
    layers = min(layers, MOST_LAYERS)
    planes = min(math.prod(n for axis, n in sizes.items() if axis in "tz"), MOST_PLANES)
    longest = max(sizes["y"], sizes["x"])
    area = sizes["y"] * sizes["x"] / longest**2  # of a picture whose longer side is 1
    side = math.sqrt(budget / (layers * planes * area))
    side = min(longest, LARGEST_PX, max(side, LEAST_PX))
    planes = min(planes, max(int(budget / (layers * side**2 * area)), 1))
    layers = min(layers, max(int(budget / (planes * side**2 * area)), 2))
    height, width = (max(1, math.floor(sizes[axis] * side / longest)) for axis in "yx")
    others = {axis: n for axis, n in sizes.items() if axis in "tz"}
    return Kept(layers, _spread(others, start, planes), (height, width))


def _spread(
    sizes: Mapping[str, int], start: Mapping[str, int], planes: int
) -> dict[str, tuple[int, ...]]:
    """Space planes evenly over t and z, including the start plane."""
    counts: dict[str, int] = {}
    for i, (axis, size) in enumerate(sizes.items()):
        rest = math.prod(list(sizes.values())[i + 1 :])
        left = planes // math.prod(counts.values())
        even = int(left ** (1 / (len(sizes) - i)) + 1e-9)
        counts[axis] = max(min(size, max(even, left // rest)), 1)
    at = {}
    for axis, count in counts.items():
        places = np.linspace(0, sizes[axis] - 1, count).round().astype(int)
        places[np.argmin(np.abs(places - start[axis]))] = start[axis]
        at[axis] = tuple(sorted({int(n) for n in places}))
    return at


def _image(image: ImageComparison, budget: int) -> dict[str, Any]:
    best = image.done[0]
    labels, pixels = not_none(best.labels), not_none(image.pixels)
    start = fullest_plane(labels)
    kept = kept_of(len(image.done), labels.sizes, start, budget)
    layers = image.done[: kept.layers]
    compared = image.done[: min(MOST_COMPARED, kept.layers)]
    support = supports([np.asarray(result.labels) for result in compared])
    support += [np.zeros(0)] * (len(layers) - len(compared))
    whole = image.consensus if image.truth is None else image.truth
    truth = None if whole is None else replace(labels, array=whole.reshape(labels.shape))
    factor = labels.sizes["y"] / kept.sides[0]
    length = pixels.pixel_um.get("x")
    return {
        "name": _title(image),
        "width": kept.sides[1],
        "height": kept.sides[0],
        "factor": factor,
        "um": None if length is None else length * labels.sizes["x"] / kept.sides[1],
        "unit": "um" if "equivalent_diameter_area_um" in best.table else "px",
        "at": kept.at,
        "sizes": {axis: labels.sizes[axis] for axis in kept.at},
        "start": start,
        "channels": _channels(pixels, kept),
        "warnings": _warnings(image),
        "reason": compare_text.why_first(image),
        "headings": compare_text.headings(image),
        "ranking": compare_text.table(image),
        "sorted_by": _sorted_by(image),
        "truth": None if truth is None else _masks(truth, kept),
        "known": image.truth is not None,
        "sweep": _sweep(image.results),
        "left_out": len(image.done) - len(layers),
        "results": [
            *(
                _layer(result, image, part, kept)
                for result, part in zip(layers, support, strict=True)
            ),
            # the best come first, the failed ones last
            *map(_bare, image.results[len(layers) :]),
        ],
    }


def _sorted_by(image: ImageComparison) -> str:
    """Return the name of the first figure by which the results are sorted."""
    names = compare_text.headings(image)
    return next(name for name in compare_text.SORTED_BY if name in names)


def _sweep(results: Iterable[SettingResult]) -> dict[str, list[str]]:
    """Return the values of each parameter that was swept, numbers in ascending order."""
    values: dict[str, dict[str, None]] = {}
    for result in results:
        for key, value in result.settings.items():
            values.setdefault(key, {})[value] = None
    return {key: _in_order(list(tried)) for key, tried in values.items()}


def _in_order(words: list[str]) -> list[str]:
    try:
        return sorted(words, key=float)
    except ValueError:
        return sorted(words)


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
    return {
        "name": result.name,
        "model": result.model,
        "title": replace(result, settings={}).name,
        "settings": dict(result.settings),
        "command": result.command,
        "masks": None,
        "error": error,
    }


def _layer(
    result: SettingResult, image: ImageComparison, support: FloatArray, kept: Kept
) -> dict[str, Any]:
    labels = not_none(result.labels)
    factor = kept.sides[0] / labels.sizes["y"]
    return {
        **_bare(result),
        "masks": _masks(labels, kept),
        "objects": result.objects,
        "counted": _counted(result),
        "figure": _figure(result, image),
        **_table(result, support, kept),
        "errors": _errors(result, factor),
    }


def _masks(labels: Pixels, kept: Kept) -> list[str]:
    """Pack each plane that is in the page."""
    return [
        packed(nearest(labels.part(place).transposed("yx").array, kept.sides))
        for place in kept.planes
    ]


def _counted(result: SettingResult) -> str:
    return "" if result.objects is None else counted(result.objects, result.apart, result.joined)


def _figure(result: SettingResult, image: ImageComparison) -> str:
    """Return the figure by which results are sorted, with its name."""
    name = _sorted_by(image)
    worth = dict(zip(compare_text.SORTED_BY, result.ranks, strict=True))[name]
    return "" if worth is None else f"{name} {worth:.2f}"


def _table(result: SettingResult, support: FloatArray, kept: Kept) -> dict[str, Any]:
    """Return the object table and positions; only the largest objects if there are too many."""
    table = dict(result.table)
    names = [n for n in _COLUMNS if n in table]
    # lengths in px are redundant if those in um are known
    names = [n for n in names if not (n.endswith("_px") and n.replace("_px", "_um") in table)]
    names = [n for n in names if not (n == "area_px" and "area_um2" in table)]
    names = [n for n in names if not (n == "volume_px" and "volume_um3" in table)]
    names += [n for n in table if n.startswith("intensity_mean")]
    if len(support):
        table["shared_by"] = support[table["label"] - 1]
        names.append("shared_by")
    size = table["equivalent_diameter_area_px"]
    factor = kept.sides[0] / not_none(result.labels).sizes["y"]
    most = min(MOST_ROWS, IMAGE_ROWS // kept.layers)
    rows = np.sort(np.argsort(-size, kind="stable")[:most])
    x, y = (table[f"centroid_{axis}_px"][rows] * factor for axis in "xy")
    in_um = "equivalent_diameter_area_um" in table
    sized = "equivalent_diameter_area_um" if in_um else "equivalent_diameter_area_px"
    return {
        "table": {"names": names, "columns": [_short(table[name][rows]) for name in names]},
        "places": [_short(part) for part in (x, y, size[rows] * factor / 2)],
        "sizes": _short(table[sized][rows]),
        "frames": table["t"][rows].tolist() if "t" in table else None,  # of tracks
        "without_row": len(size) - len(rows),
    }


def _errors(result: SettingResult, factor: float) -> list[dict[str, Any]]:
    """Return the wrong objects, each with the mask (predicted or true) that its label refers to."""
    return [
        {
            "what": f"{error.kind}, {error.area_px} px",
            "label": error.label,
            "true": error.kind in {"split", "missed"},
            "y": round(error.centroid[-2] * factor, 1),
            "x": round(error.centroid[-1] * factor, 1),
            "r": round(math.sqrt(error.area_px / math.pi) * factor, 1),
        }
        for error in result.quality.errors[:MOST_ERRORS]
    ]


def _short(column: AnyArray) -> list[Any]:
    if column.dtype.kind != "f":
        return list(column.tolist())
    return [None if not math.isfinite(v) else float(f"{v:.5g}") for v in column.tolist()]


def packed(labels: AnyArray) -> str:
    """Encode labels for the page: differences along rows, split into bytes, deflated, base64.

    Parameters
    ----------
    labels : (y, x) integers below 2^31
    """
    steps = np.diff(labels.astype(np.int32), axis=1, prepend=np.int32(0))
    planes = np.ascontiguousarray(steps.astype("<i4").view(np.uint8).reshape(-1, 4).T)
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def _channels(pixels: Pixels, kept: Kept) -> list[dict[str, Any]]:
    """Return each channel that is shown as one picture per plane, scaled to 0 to 255."""
    planes = [
        shrunk(pixels.part({a: i for a, i in place.items() if a in pixels.axes}), kept.sides)
        for place in kept.planes
    ]
    stack = np.stack([plane.with_channel_axis().transposed("cyx").array for plane in planes], 1)
    stack = stack[: max(COLOURS)]
    photograph = pixels.colour and len(stack) == max(COLOURS)
    colours: Sequence[Sequence[float]] = COLOURS[len(stack)]
    numbered = [f"channel {i}" for i in range(len(stack))] if len(stack) > 1 else ["intensity"]
    names = list(pixels.channel_names) or numbered
    if photograph:
        colours, names = ((1, 0, 0), (0, 1, 0), (0, 0, 1)), ["red", "green", "blue"]
    return [
        {
            "name": name,
            "colour": "#" + "".join(f"{round(255 * share):02x}" for share in colour),
            "limits": [float(f"{value:.5g}") for value in limits],
            "uris": [picture_uri(nearest(plane, kept.sides), small=True) for plane in channel],
        }
        for name, colour, (channel, limits) in zip(
            names, colours, _as_bytes(stack, together=photograph), strict=False
        )
    ]


def _as_bytes(stack: AnyArray, *, together: bool) -> list[tuple[AnyArray, Limits]]:
    """Scale each channel (or a photograph as a whole) from its percentiles to 0 to 255.

    Parameters
    ----------
    stack : (c, plane, y, x); percentiles are taken over all planes

    Returns
    -------
    list of (plane, y, x) uint8, and the intensities that became 0 and 255
    """
    parts = stack[None] if together else stack
    limits = [percentile_limits(part, _PERCENTS) for part in parts]
    shown = np.concatenate(
        [stretched(part, _PERCENTS).reshape(-1, *stack.shape[1:]) for part in parts]
    )
    bytes_ = np.rint(shown * 255).astype(np.uint8)
    return list(zip(bytes_, limits * (len(stack) // len(parts)), strict=True))
