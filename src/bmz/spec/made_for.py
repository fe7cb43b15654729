"""What kinds of image there are, and for which a model is made: modalities and structures.

The same terms describe images (`bmz.check.kind`) and models, so that the two can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Family = Literal["fluorescence", "transmitted", "stained", "electron", "other", "not-microscopy"]
"""Modalities that look alike to a network; models are confused within a family, not across."""


@dataclass(frozen=True)
class Modality:
    """One way to make an image.

    Parameters
    ----------
    title : plain name, as in "made for phase contrast"
    families : the families of images that it covers
    ontology : identifier in a published ontology, such as ``FBbi:00000243``; empty for none
    """

    title: str
    families: tuple[Family, ...]
    ontology: str = ""


@dataclass(frozen=True)
class Structure:
    """One thing that is segmented or shown.

    Parameters
    ----------
    title : plain name in the plural, as in "made for mitochondria"
    near : other structures that a model of this one finds, too, or that look like it
    ontology : identifier in a published ontology; empty for none
    """

    title: str
    near: tuple[str, ...] = ()
    ontology: str = ""


MODALITIES: Mapping[str, Modality] = {
    "fluorescence": Modality("fluorescence", ("fluorescence",)),
    "widefield": Modality("wide-field fluorescence", ("fluorescence",)),
    "confocal": Modality("confocal fluorescence", ("fluorescence",)),
    "light-sheet": Modality("light-sheet fluorescence", ("fluorescence",)),
    "phase": Modality("phase contrast", ("transmitted",)),
    "dic": Modality("differential interference contrast", ("transmitted",)),
    "brightfield": Modality("bright field", ("transmitted",)),
    "light": Modality("light microscopy", ("fluorescence", "transmitted")),
    "he": Modality("stained tissue (H&E)", ("stained",)),
    "ihc": Modality("stained tissue (IHC)", ("stained",)),
    "em": Modality("electron microscopy", ("electron",)),
    "tem": Modality("transmission electron microscopy", ("electron",)),
    "sem": Modality("scanning electron microscopy", ("electron",)),
    "volume-em": Modality("volume electron microscopy", ("electron",)),
    "other": Modality("another kind of microscopy", ("other",)),
    "photograph": Modality("photographs", ("not-microscopy",)),
}

STRUCTURES: Mapping[str, Structure] = {
    "nuclei": Structure("nuclei"),
    "cells": Structure("cells", ("membranes", "bacteria", "yeast")),
    "membranes": Structure("membranes", ("cells", "neurites")),
    "bacteria": Structure("bacteria", ("cells", "yeast")),
    "yeast": Structure("yeast", ("cells", "bacteria")),
    "mitochondria": Structure("mitochondria"),
    "neurites": Structure("neurites", ("membranes", "cells")),
    "vesicles": Structure("vesicles"),
    "spots": Structure("spots"),
    "filaments": Structure("filaments"),
    "tissue": Structure("tissue", ("nuclei",)),
    "other": Structure("other structures"),
}


@dataclass(frozen=True)
class MadeFor:
    """The kind of image that a model is made for.

    Parameters
    ----------
    modalities : keys of `MODALITIES`; empty where nothing states one
    structures : keys of `STRUCTURES`; empty where nothing states one
    source : where it is stated: the field and the sentence
    """

    modalities: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    source: str = ""

    @property
    def families(self) -> frozenset[Family]:
        """Give the families of images that the modalities cover; empty where none is stated."""
        return frozenset(f for word in self.modalities for f in MODALITIES[word].families)
