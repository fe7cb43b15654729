"""Lengths: the units that files and people write, all turned into micrometres."""

from __future__ import annotations

import math
import re

UM_PER_UNIT: dict[str, float] = {
    "pm": 1e-6,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25400.0,
}

_SPELLINGS: dict[str, str] = {
    "picometer": "pm", "picometre": "pm",
    "å": "angstrom", "a": "angstrom", "ångström": "angstrom",
    "nanometer": "nm", "nanometre": "nm", "nanometers": "nm", "nanometres": "nm",
    "µm": "um", "μm": "um", "\\u00b5m": "um", "micron": "um", "microns": "um",
    "micrometer": "um", "micrometre": "um", "micrometers": "um", "micrometres": "um",
    "millimeter": "mm", "millimetre": "mm",
    "centimeter": "cm", "centimetre": "cm",
    "meter": "m", "metre": "m",
    "in": "inch", "inches": "inch",
}  # fmt: skip

_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]*[.,]?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\D*?)\s*$")


def um_per(unit: str) -> float | None:
    r"""Give the length of one `unit` in um; None when it is no length (``pixel``, ``px``, empty).

    Both signs for micro (U+00B5, U+03BC) and ImageJ's escaped ``\\u00B5m`` count as um.

    Examples
    --------
    >>> um_per("micron"), um_per("nm"), um_per("px")
    (1.0, 0.001, None)
    """
    word = unit.strip().lower()
    return UM_PER_UNIT.get(_SPELLINGS.get(word, word))


def parse_length_um(text: str) -> float | None:
    """Read ``0.5um``, ``650 nm`` or a bare ``0.5`` (um) as um; None when it is no positive length.

    Examples
    --------
    >>> parse_length_um("650 nm"), parse_length_um("0.5"), parse_length_um("two")
    (0.65, 0.5, None)
    """
    match = _NUMBER_AND_UNIT.match(text)
    if match is None:
        return None
    number = float(match[1].replace(",", "."))
    factor = um_per(match[2]) if match[2] else 1.0
    um = number * factor if factor is not None else 0.0
    return um if um > 0 and math.isfinite(um) else None


def lengths_by_axis(text: str) -> dict[str, float]:
    """Read ``0.5um``, which is meant for y and x, or ``z=2um,y=0.5um,x=0.5um``, as um by axis.

    Raises
    ------
    ValueError
        A part is no length, or names another axis; the message says which. There are more lengths
        than axes: of ``1,5um`` nobody knows whether its comma is a decimal one.

    Examples
    --------
    >>> lengths_by_axis("z=2um,y=500nm,x=500nm")
    {'z': 2.0, 'y': 0.5, 'x': 0.5}
    """
    lengths: dict[str, float] = {}
    for part in text.split(","):
        axes, equals, length = part.rpartition("=")
        um = parse_length_um(length)
        if um is None or (equals and axes.strip() not in {"z", "y", "x"}):
            raise ValueError(f"'{part}' is no length; write 0.5um or z=2um,y=0.5um,x=0.5um")
        if axes.strip() in lengths or ("," in text and not equals):
            raise ValueError(
                f"'{text}' has more lengths than axes; write 1.5um or z=2um,y=1.5um,x=1.5um"
            )
        lengths |= dict.fromkeys(axes.strip() or "yx", um)
    return lengths
