"""Check whether the pixel size of the image matches that of the model's training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.spec.facts import PixelSize, known_diameter_px, known_pixel_size

FAR = 2.0
"""From this ratio, objects have a size that the network was not trained on."""

OFF = 1.25
"""From this ratio, the difference is worth checking."""

ABSURD = 100.0
"""From this ratio, one of the two numbers has another unit than stated: nobody gives a network
objects that are 100 times too large, but nm are confused with um."""

THOUSAND = 1000.0
"""Nanometres in a micrometre."""

ROUNDING = 1e-3
"""Tolerance for ratios just below a limit, since files store a pixel size as a fraction or with few
digits."""

PLAUSIBLE_UM: Mapping[str, tuple[float, float]] = {
    "y": (1e-5, 50.0),
    "x": (1e-5, 50.0),
    "z": (1e-5, 1000.0),
}
"""Smallest and largest plausible pixel size of a microscope: an atom is larger than the smallest,
and a cell smaller than the largest."""

LARGEST_USUAL_UM = 20.0
"""Larger pixels are checked further: slide scanners and overviews of plates have 0.25 to 10 um,
mesoscopes up to this size."""

WIDEST_FIELD_UM = 15_000.0
"""Widest plausible field of an image with such pixels: the field of a mesoscope is 5 to 6 mm wide,
and a mouse brain in an atlas of 25 or 50 um is 13 mm long. A 1000 x 1000 px camera exceeds it."""

LARGEST_PHOTOSITE_UM = 100.0
"""Largest plausible pixel of a camera: they are 2 to 24 um long, and four times that if binned. The
pixel size of the image is this divided by the magnification of the objective."""

SHAPES = (
    ("z", 2.0, "a voxel of the image is {:.3g} x as deep as wide, one of the model {:.3g} x"),
    ("y", OFF, "a pixel of the image is {:.3g} x as high as wide, one of the model {:.3g} x"),
)
"""Axis, the limit from which its ratio to x makes objects differ in shape from the training data,
and the message. The limit is lower within a plane, since a microscope blurs along z."""


def scale_to(model: Mapping[str, float], image: Mapping[str, float]) -> float | None:
    """Return the factor that resizes the image to the model's pixel size in y and x, if known."""
    ratios = [image[a] / model[a] for a in "yx" if a in model and a in image]
    return sum(ratios) / len(ratios) if ratios else None


def scale_findings(case: FitCase) -> Iterator[Finding]:
    """Yield pixel sizes that differ, are unknown, or are implausible."""
    compared = tuple(_compared(case))
    yield from compared
    if not any(finding.code == "scale.implausible" for finding in compared):
        yield from _carried_on(case)


def _compared(case: FitCase) -> Iterator[Finding]:
    size, found = known_pixel_size(case.model), case.image.pixel_um
    wanted = size.um
    where = f"{case.inputs[0].id}.x"
    yield from _anisotropy(case, wanted)  # a resize keeps it as it is
    if case.scale is not None:
        return
    if wanted and case.image.odd_pixel and not found:
        yield Finding.of(
            "scale.implausible", where,
            f"the pixel size in the file is impossible: {'; '.join(case.image.odd_pixel)}",
            wanted=_text(wanted), found="; ".join(case.image.odd_pixel),
            hint="give the true pixel size: --pixel-size 0.5um, or run without it: --scale off",
            evidence=_evidence(size.source),
        )  # fmt: skip
        return
    factor = scale_to(wanted, found)
    if factor is None:
        yield _unknown(case, size, where)
    elif _reaches(factor, ABSURD):
        yield _absurd(factor, size, found, where)
    elif _reaches(factor, OFF):
        yield _differs(factor, size, found, where)


def _carried_on(case: FitCase) -> Iterator[Finding]:
    """Yield an impossible pixel size even if the network does not need it."""
    factor = scale_to(known_pixel_size(case.model).um, case.image.pixel_um)
    if factor is not None and not _reaches(factor, ABSURD):
        return  # the model is made for such pixels
    stated = {axis: um for axis, um in case.image.pixel_um.items() if axis in case.image.sizes}
    absurd = {axis: um for axis, um in stated.items() if not _is_plausible(axis, um)}
    lengths = [f"{axis}: {um:.4g} um" for axis, um in absurd.items()]
    lengths += case.image.impossible_pixel.values()
    if not lengths:
        yield from _doubtful(case, stated)
    else:
        mixed = all(_is_plausible(axis, um / THOUSAND) for axis, um in absurd.items())
        units = "; perhaps nm and um were mixed up" if absurd and mixed else ""
        carried = (
            "; the mask and the table carry it" if absurd else "; the mask and the table have none"
        )
        least, most = PLAUSIBLE_UM["x"]
        yield Finding.of(
            "scale.implausible", f"{case.inputs[0].id}.x",
            f"the pixel size is impossible: {'; '.join(lengths)}{units}{carried}",
            wanted=f"{least:g} to {most:g} um", found="; ".join(lengths),
            hint="give the true pixel size: --pixel-size 0.5um", evidence="measured", milder=True,
        )  # fmt: skip


def _doubtful(case: FitCase, stated: Mapping[str, float]) -> Iterator[Finding]:
    """Yield a pixel size that is large for a microscope and contradicts other known values."""
    for axis in (a for a in "xy" if stated.get(a, 0.0) > LARGEST_USUAL_UM):
        um, times = stated[axis], case.image.magnification or 0.0
        field_um = um * case.image.sizes[axis]
        if field_um > WIDEST_FIELD_UM:
            why = f"the image would be {field_um / THOUSAND:.3g} mm long along {axis}"
        elif um * times > LARGEST_PHOTOSITE_UM:
            why = f"with the {times:g}x objective a camera pixel would be {um * times:.4g} um"
        else:
            continue
        yield Finding.of(
            "scale.implausible", f"{case.inputs[0].id}.{axis}",
            f"the pixel size is implausible: {axis}: {um:.4g} um, and {why}; perhaps nm and um "
            "were mixed up; the mask and the table carry it",
            wanted=f"{LARGEST_USUAL_UM:g} um or less", found=f"{axis}: {um:.4g} um",
            hint="give the true pixel size: --pixel-size 0.5um", evidence="measured", milder=True,
        )  # fmt: skip
        return


def _is_plausible(axis: str, um: float) -> bool:
    least, most = PLAUSIBLE_UM.get(axis, (0.0, float("inf")))
    return least <= um <= most


def _reaches(ratio: float, limit: float) -> bool:
    return max(ratio, 1 / ratio) >= limit * (1 - ROUNDING)


def _anisotropy(case: FitCase, wanted: Mapping[str, float]) -> Iterator[Finding]:
    found = case.image.pixel_um
    for axis, limit, words in SHAPES:
        known = {axis, "x"} <= wanted.keys() & found.keys()
        if axis not in case.model.space or not known:
            continue
        model, image = wanted[axis] / wanted["x"], found[axis] / found["x"]
        if _reaches(image / model, limit):
            yield Finding.of(
                "scale.anisotropy", f"{case.inputs[0].id}.{axis}",
                words.format(image, model), wanted=_text(wanted), found=_text(found),
                hint=f"resample the image along {axis} first, to {model * found['x']:.3g} um",
            )  # fmt: skip


def _absurd(factor: float, size: PixelSize, found: Mapping[str, float], where: str) -> Finding:
    thousand = _reaches(factor, THOUSAND / FAR) and not _reaches(factor, THOUSAND * FAR)
    units = "; perhaps nm and um were mixed up" if thousand else ""
    times = f"{float(f'{factor:.3g}'):g}"  # 1000, not 1e+03
    return Finding.of(
        "scale.implausible", where,
        f"a pixel of the image would be {times} x as long as a pixel of the model{units}",
        wanted=_text(size.um), found=_text(found),
        hint="give the true pixel size: --pixel-size 0.5um, or run without it: --scale off",
        evidence=_evidence(size.source),
    )  # fmt: skip


def _unknown(case: FitCase, size: PixelSize, where: str) -> Finding:
    wanted, found = size.um, case.image.pixel_um
    # a depth alone is not compared, so stating only that counts as no pixel size
    by_model, by_image = ({"y", "x"} & sizes.keys() for sizes in (wanted, found))
    lacking = (
        "the pixel size of the image is not known"
        if by_model
        else "the pixel size of the model is not known"
        if by_image
        else "neither the pixel size of the model nor that of the image is known"
    )
    diameter = known_diameter_px(case.model)
    objects, source = "", size.source
    if diameter is not None:
        source = source or diameter.source
        origin = f" ({diameter.source})" if diameter.source else ""
        objects = f"; the model was made for objects about {diameter.value:g} px wide{origin}"
    return Finding.of(
        "scale.unknown", where,
        f"{lacking}{objects}",
        wanted=_text(wanted), found=_text(found),
        hint="compare the object sizes by eye, and give --scale FACTOR if they differ",
        evidence=_evidence(source),
    )  # fmt: skip


def _differs(factor: float, size: PixelSize, found: Mapping[str, float], where: str) -> Finding:
    far = _reaches(factor, FAR)
    origin = f", according to {size.source}" if size.source else ""
    return Finding.of(
        "scale.far" if far else "scale.off", where,
        f"a pixel of the image is {factor:.3g} x as long as a pixel of the model{origin}",
        wanted=_text(size.um), found=_text(found),
        hint=f"resize the image: --scale {factor:.3g} (or --scale auto)",
        evidence=_evidence(size.source),
    )  # fmt: skip


def _evidence(source: str) -> Evidence:
    return "curated" if source else "declared"


def _text(pixel_um: Mapping[str, float]) -> str:
    if not pixel_um:
        return "unknown"
    return ", ".join(f"{axis} {size:.4g} um" for axis, size in pixel_um.items())
