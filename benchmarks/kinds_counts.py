"""Count the right and the wrong answers about the kinds of images.

The meanings are those of ``../shared/data/kinds/measure.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmz.check.kind import SURE

TRANSMITTED = frozenset({"phase", "dic", "brightfield"})
BOTH_LIGHTS = "light (any)"

FAMILIES: Mapping[str, str] = {
    **dict.fromkeys(TRANSMITTED, "transmitted"),
    "fluorescence": "fluorescence",
    "he": "stained",
    "ihc": "stained",
    "em": "electron",
    "photo": "not-microscopy",
}
"""Modality of the index -> family that bmz reports; all others are other microscopy."""

MADE_FOR: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "01": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"nuclei"})),
    "02": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"cells", "membranes"})),
    "03": (TRANSMITTED | {BOTH_LIGHTS}, frozenset({"cells", "myotubes"})),
    "04": (TRANSMITTED | {BOTH_LIGHTS}, frozenset({"bacteria", "cells"})),
    "05": (frozenset({"he"}), frozenset({"nuclei", "tissue"})),
    "06": (frozenset({"em"}), frozenset({"neurites", "membranes", "cells"})),
    "07": (frozenset({"em"}), frozenset({"mitochondria"})),
    "08": (frozenset({"fluorescence"}), frozenset({"spots"})),
    "09": (frozenset({"fluorescence"}), frozenset({"filaments"})),
    "10": (frozenset({"fluorescence", BOTH_LIGHTS}), frozenset({"membranes", "cells"})),
}
"""Number of a kind -> modalities and structures of the models that are made for it."""

WELL_SERVED = ("01", "02", "03", "04", "05", "06", "07", "10")
SPOTS_AND_FILAMENTS = ("08", "09")
NOT_MICROSCOPY = "14"

STARTER = "starter/"
NUCLEI = ("fluorescence", "nuclei")
PACKAGES: Mapping[str, tuple[str, str]] = {
    "starter/nuclei": NUCLEI,
    "starter/nuclei-flows": NUCLEI,
    "starter/nuclei-contour": NUCLEI,
    "nuclei-broad": NUCLEI,
    "stardist-dsb2018": NUCLEI,
    "stardist-dsb2018-declared": NUCLEI,
    "cellpose-cyto": (BOTH_LIGHTS, "cells"),
    "unmicst-nuclei": NUCLEI,
    "cremi-membrane": ("em", "membranes"),
    "psc-keras": ("phase", "cells"),
    "psc-keras-full": ("phase", "cells"),
    "multi-tensor": ("fluorescence", "cells"),
}
"""Packages that are checked -> modality and structure that they are made for."""

TAKEN_AT_ONCE = frozenset({*list(PACKAGES)[:3], "nuclei-broad", "stardist-dsb2018"})
"""Packages that must not warn about the content of images of their kind."""

COUNTED_ONCE = frozenset(PACKAGES) - {"starter/nuclei-flows", "starter/nuclei-contour"}
"""Packages among which silent pairs are counted: one of those that come with bmz."""

SHOWN_STRUCTURES: Mapping[str, frozenset[str]] = {
    "nuclei": frozenset({"nuclei"}),
    "cells": frozenset({"cells", "membranes", "bacteria", "yeast"}),
    "membranes": frozenset({"neurites", "membranes"}),
}
"""Structure that a package is made for -> structures of images that it is right for."""


@dataclass(frozen=True)
class Picture:
    """An image, and its entry in the index.

    Parameters
    ----------
    path : path of the image
    kind : kind of the image, such as ``01_fluo_nuclei``
    modality, structure : modality and structure in the terms of the index
    channels : 3 for a colour image
    """

    path: Path
    kind: str
    modality: str
    structure: str
    channels: int

    @property
    def number(self) -> str:
        """The number of the kind."""
        return self.kind[:2]

    @property
    def is_harmonic(self) -> bool:
        """Return whether it shows second harmonic light, which only looks like fluorescence.

        Models for fluorescence are not made for it, but kind 09 expects them to come first.
        """
        return self.number == "09" and self.modality == "other"

    @property
    def family(self) -> str:
        """The family of modalities, as bmz names them."""
        if self.number == NOT_MICROSCOPY:
            return "not-microscopy"
        return FAMILIES.get(self.modality, "other")


@dataclass(frozen=True)
class Pair:
    """The result of the check for one image and one package.

    Parameters
    ----------
    package : package as in `PACKAGES`
    picture : the image
    silent : whether the image is accepted without a warning
    codes : codes of the findings that are more severe than a note
    same_channels : whether the image has as many channels as the package takes
    """

    package: str
    picture: Picture
    silent: bool
    codes: tuple[str, ...]
    same_channels: bool

    @property
    def right_modality(self) -> bool:
        """Return whether the image is made in a way that the package is made for."""
        modality = PACKAGES[self.package][0]
        if modality == BOTH_LIGHTS:
            return self.picture.family in {"fluorescence", "transmitted"}
        return self.picture.family == FAMILIES[modality]

    @property
    def right_kind(self) -> bool:
        """Return whether the image is of the kind that the package is made for."""
        shown = SHOWN_STRUCTURES[PACKAGES[self.package][1]]
        return self.right_modality and self.picture.structure in shown


@dataclass(frozen=True)
class Ranked:
    """The models that are reported to fit one image, the best first.

    Parameters
    ----------
    picture : the image
    models : ids of the models that fit or adapt, in order
    """

    picture: Picture
    models: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """One statement about an image that is made with certainty.

    Parameters
    ----------
    picture : the image
    words : the statement, with its probability
    right : whether it is true
    """

    picture: Picture
    words: str
    right: bool


@dataclass(frozen=True)
class Figure:
    """A share that is measured, and what counts against it.

    Parameters
    ----------
    name : what is counted
    wanted : required share with its comparison: ``">= 95 %"``
    counted, total : number of cases that count, and of all cases
    against : descriptions of the cases that count against it
    """

    name: str
    wanted: str
    counted: int
    total: int
    against: tuple[str, ...] = ()


def of_checks(pairs: Sequence[Pair]) -> Iterator[Figure]:
    """Count the pairs of images and packages that the check accepts silently, as it should."""
    wrong = [p for p in pairs if p.package in COUNTED_ONCE and not p.right_modality]
    alike = [p for p in wrong if p.same_channels]
    yield _share("wrong modality, no warning, channels match", "<= 5 %", alike, _is_silent)
    yield _share("wrong modality, no warning, all pairs", "", wrong, _is_silent)
    first = [p for p in pairs if p.package == "starter/nuclei"]
    grey = [
        p
        for p in first
        if p.picture.number == NOT_MICROSCOPY
        or (p.picture.channels == 1 and p.picture.family in {"electron", "transmitted"})
    ]
    name = "`starter/nuclei` warns of or refuses grey EM, phase, DIC, bright field; photographs"
    yield _share(name, ">= 95 %", grey, lambda pair: not pair.silent, against_true=False)
    right = [p for p in pairs if p.package in TAKEN_AT_ONCE and p.right_kind]
    name = "right kind: nothing of `content.*` or `sample.*` above a note"
    yield _share(name, ">= 96 %", right, lambda p: not _content(p), against_true=False)


def _is_silent(pair: Pair) -> bool:
    return pair.silent


def _content(pair: Pair) -> tuple[str, ...]:
    return tuple(code for code in pair.codes if code.startswith(("content.", "sample.")))


def _share(
    name: str,
    wanted: str,
    pairs: Sequence[Pair],
    counts: Callable[[Pair], bool],
    *,
    against_true: bool = True,
) -> Figure:
    against = (p for p in pairs if counts(p) is against_true)
    words = tuple(
        f"{p.package}: {named(p.picture)}: {' '.join(p.codes) or 'silent'}" for p in against
    )
    return Figure(name, wanted, sum(map(counts, pairs)), len(pairs), words)


def named(picture: Picture) -> str:
    """Return the name of an image with its kind."""
    return f"{picture.kind}/{picture.path.name} ({picture.modality}, {picture.structure})"


def is_made_for(picture: Picture, model: tuple[str, str] | None) -> bool:
    """Return whether a model is made for the kind of an image."""
    modalities, structures = MADE_FOR.get(picture.number, (frozenset(), frozenset()))
    return model is not None and model[0] in modalities and model[1] in structures


def is_wrong(picture: Picture, model: tuple[str, str]) -> bool:
    """Return whether a model is made for another modality than that of an image."""
    light = {BOTH_LIGHTS} if picture.family in {"fluorescence", "transmitted"} else set[str]()
    alike = {word for word, family in FAMILIES.items() if family == picture.family} | light
    return not model[0].startswith(tuple(alike or {picture.modality}))


def of_ranks(ranked: Sequence[Ranked], made_for: Mapping[str, tuple[str, str]]) -> Iterator[Figure]:
    """Count the images for which models of their kind come first."""
    for numbers, most, wanted in (
        (WELL_SERVED, 5, ">= 92 %"),
        (WELL_SERVED, 1, ">= 75 %"),
        (SPOTS_AND_FILAMENTS, 5, ">= 75 %"),
    ):
        ours = [one for one in ranked if one.picture.number in numbers]
        against = [one for one in ours if not _made_among(one, most, made_for)]
        which = "kinds 08, 09" if numbers == SPOTS_AND_FILAMENTS else "kinds 01 to 07, 10"
        place = "first" if most == 1 else f"among the first {most}"
        name = f"{which}: a model made for the kind is {place}"
        words = tuple(f"{named(one.picture)}: {_first(one, most)}" for one in against)
        yield Figure(name, wanted, len(ours) - len(against), len(ours), words)
    known = [
        (one, id_) for one in ranked for id_ in one.models
        if made_for.get(id_, ("unknown", ""))[0] != "unknown"
    ]  # fmt: skip
    wrong = [(one, id_) for one, id_ in known if is_wrong(one.picture, made_for[id_])]
    words = tuple(f"{named(one.picture)}: {id_}, for {made_for[id_][0]}" for one, id_ in wrong)
    name = "models of another modality among those said to fit"
    yield Figure(name, "<= 8 %", len(wrong), len(known), words)
    counted, total = (
        sum(not one.picture.is_harmonic for one, _ in some) for some in (wrong, known)
    )
    yield Figure("the same without second harmonic light", "", counted, total)
    photographs = [one for one in ranked if one.picture.number == NOT_MICROSCOPY]
    against = [one for one in photographs if one.models]
    words = tuple(f"{named(one.picture)}: {len(one.models)}: {_first(one, 3)}" for one in against)
    name = "kind 14: no model is said to fit"
    yield Figure(name, ">= 92 %", len(photographs) - len(against), len(photographs), words)


def _made_among(one: Ranked, most: int, made_for: Mapping[str, tuple[str, str]]) -> bool:
    return any(is_made_for(one.picture, made_for.get(id_)) for id_ in one.models[:most])


def _first(one: Ranked, most: int) -> str:
    return ", ".join(one.models[:most]) or "no model fits"


def of_kinds(answers: Sequence[Told]) -> Iterator[Figure]:
    """Count how many of the statements made with certainty are right."""
    against = tuple(f"{named(one.picture)}: {one.words}" for one in answers if not one.right)
    name = f"families told with {SURE:.0%} certainty that are right"
    yield Figure(name, ">= 85 %", len(answers) - len(against), len(answers), against)


def percent(counted: int, total: int) -> str:
    """Return a share in words; a dash for one of nothing."""
    return f"{counted / total:.1%}".replace("%", " %") if total else "-"


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as a table in Markdown."""
    rows = [
        f"| {one.name} | {one.counted} of {one.total} | {percent(one.counted, one.total)} "
        f"| {one.wanted or '-'} |"
        for one in figures
    ]
    return "\n".join(["| measure | counted | share | wanted |", "|---|---:|---:|---:|", *rows])


def table_of_kinds(
    pairs: Sequence[Pair], ranked: Sequence[Ranked], made_for: Mapping[str, tuple[str, str]]
) -> str:
    """Return the figures of each kind as a table in Markdown."""
    head = (
        "| kind | images | `starter/nuclei` is silent | a model made for it is first "
        "| among five | any fits |\n|---|---:|---:|---:|---:|---:|"
    )
    return "\n".join([head, *(
        _row_of_kind(kind, pairs, ranked, made_for)
        for kind in sorted({one.picture.kind for one in ranked})
    )])  # fmt: skip


def _row_of_kind(
    kind: str,
    pairs: Sequence[Pair],
    ranked: Sequence[Ranked],
    made_for: Mapping[str, tuple[str, str]],
) -> str:
    ours = [one for one in ranked if one.picture.kind == kind]
    silent = sum(
        p.silent for p in pairs if p.package == "starter/nuclei" and p.picture.kind == kind
    )
    first, five = (
        str(sum(_made_among(one, most, made_for) for one in ours)) if kind[:2] in MADE_FOR else "-"
        for most in (1, 5)
    )
    fitting = sum(bool(one.models) for one in ours)
    words = kind[3:].replace("_", " ")
    return f"| {kind[:2]} {words} | {len(ours)} | {silent} | {first} | {five} | {fitting} |"


def failures(figures: Iterable[Figure]) -> str:
    """List what counts against each figure."""
    parts = [
        f"{one.name}: {one.counted} of {one.total} = {percent(one.counted, one.total)}, "
        f"wanted {one.wanted or '-'}\n" + "".join(f"    {words}\n" for words in one.against)
        for one in figures
    ]
    return "\n".join(parts)
