"""Does a pixel of the image cover the length that a pixel of the model's training data did?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bmz.check.finding import Evidence, Finding
from bmz.check.question import Question
from bmz.spec.pixels import PixelSize, known_diameter_px, known_pixel_size

FAR = 2.0
"""From this ratio on a network meets objects of a size it was not trained on."""

OFF = 1.25
"""From this ratio on a look is worth it."""


def scale_to(model: Mapping[str, float], image: Mapping[str, float]) -> float | None:
    """Give the factor that brings the image to the model's pixel size in y and x, if both know."""
    ratios = [image[a] / model[a] for a in "yx" if a in model and a in image]
    return sum(ratios) / len(ratios) if ratios else None


def scale_findings(asked: Question) -> Iterator[Finding]:
    """Yield pixel sizes that differ, that nobody knows, or that cannot be meant."""
    if asked.scale is not None:
        return
    size, found = known_pixel_size(asked.model), asked.pixel_um
    wanted = size.um
    where = f"{asked.inputs[0].id}.x"
    if wanted and asked.image.odd_pixel and not found:
        yield Finding(
            "scale.implausible", "error", where,
            f"the file's pixel size cannot be meant: {'; '.join(asked.image.odd_pixel)}",
            wanted=_text(wanted), found="; ".join(asked.image.odd_pixel),
            hint="say the true one: --pixel-size 0.5um, or --scale off to run without",
            evidence=_evidence(size.source),
        )  # fmt: skip
        return
    factor = scale_to(wanted, found)
    if factor is None:
        yield _unknown(asked, size, where)
    elif max(factor, 1 / factor) >= OFF:
        yield _differs(factor, size, found, where)


def _unknown(asked: Question, size: PixelSize, where: str) -> Finding:
    wanted, found = size.um, asked.pixel_um
    who = "the image" if wanted else "the model" if found else "neither the model nor the image"
    verb = "states" if who.startswith("neither") else "states no"
    diameter = known_diameter_px(asked.model)
    objects, source = "", size.source
    if diameter is not None:
        source = source or diameter.source
        told = f" ({diameter.source})" if diameter.source else ""
        objects = f"; its objects are about {diameter.value:g} px across{told}"
    return Finding(
        "scale.unknown", "note", where,
        f"{who} {verb} {'a ' * (verb == 'states')}pixel size{objects}",
        wanted=_text(wanted), found=_text(found),
        hint="compare the object size by eye, and give --scale FACTOR when they differ",
        evidence=_evidence(source),
    )  # fmt: skip


def _differs(factor: float, size: PixelSize, found: Mapping[str, float], where: str) -> Finding:
    far = max(factor, 1 / factor) >= FAR
    told = f", which {size.source} tells" if size.source else ""
    return Finding(
        "scale.far" if far else "scale.off", "error" if far else "warning", where,
        f"a pixel of the image is {factor:.3g} x as long as one of the model{told}",
        wanted=_text(size.um), found=_text(found),
        hint=f"let the image be resized: --scale {factor:.3g} (or --scale auto)",
        evidence=_evidence(size.source),
    )  # fmt: skip


def _evidence(source: str) -> Evidence:
    return "curated" if source else "declared"


def _text(pixel_um: Mapping[str, float]) -> str:
    if not pixel_um:
        return "unknown"
    return ", ".join(f"{axis} {size:.4g} um" for axis, size in pixel_um.items())
