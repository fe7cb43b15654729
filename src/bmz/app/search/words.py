"""The words of a search: in the singular, and which kinds of images they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

_LEAST = 3
"""Letters of a word before its plural s."""

_SINGULAR: Mapping[str, str] = {
    "nuclei": "nucleus",
    "nuclear": "nucleus",
    "mitochondria": "mitochondrion",
    "mitochondrial": "mitochondrion",
    "bacteria": "bacterium",
    "bacterial": "bacterium",
    "leaves": "leaf",
    "boundaries": "boundary",
    "labelling": "labeling",
}

MEANINGS: Mapping[str, tuple[str, ...]] = {
    "fluorescence": ("fluorescence", "fluorescent", "immunofluorescence"),
    "widefield": ("widefield", "wide field"),
    "confocal": ("confocal",),
    "light-sheet": ("light sheet", "lightsheet", "SPIM"),
    "light-field": ("light field", "lightfield"),
    "phase": ("phase", "phase contrast"),
    "dic": ("DIC", "differential interference contrast", "Nomarski"),
    "brightfield": ("brightfield", "bright field"),
    "transmitted": ("transmitted light", "transmission light"),
    "light": ("light microscopy", "LM"),
    "he": ("H&E", "HE", "HnE", "hematoxylin", "haematoxylin", "histology", "histopathology"),
    "ihc": ("IHC", "immunohistochemistry", "DAB"),
    "em": ("EM", "electron microscopy", "electron"),
    "tem": ("TEM", "transmission electron microscopy"),
    "sem": ("SEM", "scanning electron microscopy"),
    "volume-em": ("volume EM", "volume electron microscopy", "FIB-SEM", "SBF-SEM"),
    "gel": ("gel", "electrophoresis"),
    "photograph": ("photograph", "photo"),
    "nuclei": ("nucleus", "DAPI", "Hoechst"),
    "cells": ("cell", "cytoplasm"),
    "membranes": ("membrane", "cell membrane", "boundary", "cell boundary"),
    "bacteria": ("bacterium", "E. coli"),
    "yeast": ("yeast",),
    "mitochondria": ("mitochondrion",),
    "neurites": ("neurite", "axon", "dendrite", "neuron"),
    "neurons": ("neuron",),
    "vesicles": ("vesicle", "exosome"),
    "spots": ("spot", "puncta", "foci", "smFISH"),
    "filaments": ("filament", "actin", "microtubule", "tubulin"),
    "tissue": ("tissue", "histology"),
    "oocytes": ("oocyte",),
    "myotubes": ("myotube",),
    "muscle-fibres": ("muscle fibre", "muscle fiber", "myofiber"),
    "embryos": ("embryo",),
    "leaves": ("leaf",),
    "gel-bands": ("gel band",),
}
"""Each term of `bmz.spec.made_for` and what people call it."""


@dataclass(frozen=True)
class Wanted:
    """A word of a search, or several that mean one thing.

    Parameters
    ----------
    tokens : as `tokens` gives them
    terms : the modalities or structures that they mean; empty for other words
    """

    tokens: tuple[str, ...]
    terms: tuple[str, ...] = ()


def tokens(text: str) -> list[str]:
    """Part a text into lower-case words in the singular.

    Examples
    --------
    >>> tokens("Nuclei of 3D-cells")
    ['nucleus', 'of', '3d', 'cell']
    """
    return [_singular(word) for word in re.findall(r"[^\W_]+", text.lower())]


def _singular(word: str) -> str:
    if word in _SINGULAR:
        return _SINGULAR[word]
    ends = len(word) > _LEAST and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if ends else word


def wanted_of(words: Iterable[str]) -> list[Wanted]:
    """Find what words mean together, whatever their order; the longest phrases go first.

    Examples
    --------
    >>> wanted_of(["electron", "mouse", "microscopy"])
    [Wanted(tokens=('electron', 'microscopy'), terms=('em',)), Wanted(tokens=('mouse',), terms=())]
    """
    left, wanted = list(words), []
    for phrase, terms in _phrases().items():
        while set(phrase) <= set(left):
            for token in phrase:
                left.remove(token)
            wanted.append(Wanted(phrase, terms))
    return [*wanted, *(Wanted((token,)) for token in left)]


def meaning(word: str, terms: Iterable[str]) -> str | None:
    """Give the one of `terms` that a word names or means; None where none does.

    Examples
    --------
    >>> meaning("Electron microscopy", ["em", "phase"])
    'em'
    """
    known = tuple(terms)
    if word.strip().lower() in known:
        return word.strip().lower()
    meant = _phrases().get(tuple(sorted(tokens(word))), ())
    return next((term for term in meant if term in known), None)


@cache
def _phrases() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Give the tokens of each phrase, in order of the alphabet, and the terms that they mean."""
    phrases: dict[tuple[str, ...], tuple[str, ...]] = {}
    for term, names in MEANINGS.items():
        for name in names:
            phrase = tuple(sorted(tokens(name)))
            phrases[phrase] = (*phrases.get(phrase, ()), term)
    return dict(sorted(phrases.items(), key=lambda entry: (-len(entry[0]), entry[0])))
