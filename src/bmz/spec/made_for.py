"""Define the kinds of image (modalities and structures), and read which kind a model is made for.

The same terms describe images (`bmz.check.kind`) and models, so that the two can be compared. What
a model is made for is stated in its description (``config.bmz.made_for``), in the table of facts,
or by its tags. The user states the kind of an image with ``--kind``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from bmz.base.errors import CouldNotTell
from bmz.base.values import dataclass
from bmz.spec.facts import Fact, Facts, facts_of
from bmz.spec.model import ModelSpec

Family = Literal[
    "fluorescence", "transmitted", "stained", "electron", "other", "not-microscopy", "prediction"
]
"""Groups of modalities that look alike to a network; models are confused only within a family.

``prediction`` is the family of predictions of another network. No image belongs to it, and a model
that takes predictions is not made for any image.
"""


FAMILY_TITLES: Mapping[Family, str] = {
    "fluorescence": "fluorescence",
    "transmitted": "transmitted light",
    "stained": "stained tissue",
    "electron": "electron microscopy",
    "other": "another kind of microscopy",
    "not-microscopy": "no microscopy",
    "prediction": "the prediction of a network",
}


@dataclass(frozen=True)
class Modality:
    """One way of making images.

    Parameters
    ----------
    title : plain name, as in "made for phase contrast"
    families : the families of images that the modality covers
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
    near : other structures that look like this one, or that a model for this one also finds
    ontology : identifier in a published ontology; empty for none
    """

    title: str
    near: tuple[str, ...] = ()
    ontology: str = ""


MODALITIES: Mapping[str, Modality] = {
    "fluorescence": Modality("fluorescence", ("fluorescence",), "FBbi:00000246"),
    "widefield": Modality(
        "wide-field fluorescence", ("fluorescence",), "EDAM-bioimaging:topic_Widefield_microscopy"
    ),
    "confocal": Modality("confocal fluorescence", ("fluorescence",), "FBbi:00000251"),
    "light-sheet": Modality("light-sheet fluorescence", ("fluorescence",), "FBbi:00000369"),
    "light-field": Modality(
        "light-field fluorescence",
        ("fluorescence",),
        "EDAM-bioimaging:topic_____Light_field_microscopy",
    ),
    "phase": Modality("phase contrast", ("transmitted",), "FBbi:00000247"),
    "dic": Modality("differential interference contrast", ("transmitted",), "FBbi:00000245"),
    "brightfield": Modality("bright field", ("transmitted",), "FBbi:00000243"),
    "transmitted": Modality(
        "transmitted light",
        ("transmitted",),
        "EDAM-bioimaging:topic__R9P5gEAm1wic4R2PcZ7ZpPA",
    ),
    "light": Modality("light microscopy", ("fluorescence", "transmitted"), "FBbi:00000345"),
    "he": Modality("H&E staining", ("stained",)),
    "ihc": Modality("immunohistochemistry", ("stained",)),
    "em": Modality("electron microscopy", ("electron",), "FBbi:00000256"),
    "tem": Modality("transmission electron microscopy", ("electron",), "FBbi:00000258"),
    "sem": Modality("scanning electron microscopy", ("electron",), "FBbi:00000257"),
    "volume-em": Modality("volume electron microscopy", ("electron",)),
    "shg": Modality(
        "second harmonic light",
        ("other",),  # EDAM: a kind of non-linear microscopy; nothing fluoresces
        "EDAM-bioimaging:topic_____Second-harmonic_imaging_microscopy",
    ),
    "gel": Modality("gel electrophoresis", ("other",)),
    "other": Modality("another kind of microscopy", ("other",)),
    "photograph": Modality("photographs", ("not-microscopy",)),
    "prediction": Modality("predictions of another network", ("prediction",)),
}

_FLUORESCENCE = ("widefield", "confocal", "light-sheet", "light-field")
_TRANSMITTED = ("phase", "dic", "brightfield")

MORE_EXACT: Mapping[str, tuple[str, ...]] = {
    "fluorescence": _FLUORESCENCE,
    "transmitted": _TRANSMITTED,
    "light": ("fluorescence", *_FLUORESCENCE, "transmitted", *_TRANSMITTED),
    "em": ("tem", "sem", "volume-em"),
}
"""General modality -> the more specific ones that it includes."""

STRUCTURES: Mapping[str, Structure] = {
    "nuclei": Structure("nuclei", (), "GO:0005634"),
    "cells": Structure("cells", ("membranes", "bacteria", "yeast"), "CL:0000000"),
    "membranes": Structure("membranes", ("cells", "neurites"), "GO:0005886"),
    "bacteria": Structure("bacteria", ("cells", "yeast")),
    "yeast": Structure("yeast", ("cells", "bacteria")),
    "mitochondria": Structure("mitochondria", (), "GO:0005739"),
    "neurites": Structure("neurites", ("membranes", "cells"), "GO:0043005"),
    "vesicles": Structure("vesicles", (), "GO:0031982"),
    "spots": Structure("spots"),
    "filaments": Structure("filaments", (), "GO:0099513"),
    "tissue": Structure("tissue", ("nuclei",), "UBERON:0000479"),
    "neurons": Structure("neurons", ("cells",), "CL:0000540"),
    "oocytes": Structure("oocytes", ("cells",), "CL:0000023"),
    "myotubes": Structure("myotubes", ("cells",), "CL:0002372"),
    "muscle-fibres": Structure("muscle fibres", ("cells", "tissue")),
    "embryos": Structure("embryos"),
    "leaves": Structure("leaves"),
    "gel-bands": Structure("gel bands"),
    "other": Structure("other structures"),
}


def with_near(structures: Iterable[str]) -> frozenset[str]:
    """Return the structures and all that are near to them, in either direction."""
    wanted = frozenset(structures)
    beside = (word for word, one in STRUCTURES.items() if wanted & {*one.near})
    return wanted.union(beside, *(STRUCTURES[word].near for word in wanted))


@dataclass(frozen=True)
class MadeFor:
    """The kind of image that a model is made for.

    Parameters
    ----------
    modalities : keys of `MODALITIES`; empty if nothing states one
    structures : keys of `STRUCTURES`; empty if nothing states one
    source : where modalities and structures are stated: the field and the sentence
    channels : what each channel of the image should show; empty if nothing states it
    channels_source : where the channels are stated
    """

    modalities: tuple[str, ...] = ()
    structures: tuple[str, ...] = ()
    source: str = ""
    channels: tuple[str, ...] = ()
    channels_source: str = ""

    @property
    def ontology(self) -> dict[str, str]:
        """Return the identifier of each term that is in a published ontology."""
        terms = {word: MODALITIES[word].ontology for word in self.modalities}
        terms |= {word: STRUCTURES[word].ontology for word in self.structures}
        return {word: identifier for word, identifier in terms.items() if identifier}

    @property
    def families(self) -> frozenset[Family]:
        """Return the families of images that the modalities cover; empty if none is stated."""
        return frozenset(f for word in self.modalities for f in MODALITIES[word].families)

    @property
    def states_any(self) -> bool:
        """Whether a modality or a structure is stated."""
        return bool(self.modalities or self.structures)

    @property
    def of_predictions(self) -> bool:
        """Whether the input is a prediction of another network instead of an image."""
        return self.families == {"prediction"}

    @property
    def title(self) -> str:
        """Return a title such as "nuclei in fluorescence"; empty if nothing is stated."""
        things = _listed(STRUCTURES[word].title for word in self.structures)
        ways = _listed(MODALITIES[word].title for word in self.modalities)
        return f"{things} in {ways}" if things and ways else things or ways


def _listed(names: Iterable[str]) -> str:
    *first, last = tuple(names) or ("",)
    return f"{', '.join(first)} or {last}" if first else last


class MadeForInvalid(CouldNotTell):
    """The block ``config.bmz.made_for`` of a description does not have the expected form."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"config.bmz.made_for of '{model}' is not valid: {why}",
            hint="correct it in the description of the model",
            code="package.made-for",
        )


def made_for(model: ModelSpec) -> MadeFor:
    """Return what a model is made for, from its description, the facts or its tags, in this order.

    Only the first of the three that states a modality or a structure is used. Since tags are often
    copied from another model, they are supplemented by modalities that the name and the first
    sentence of the description clearly state. If the tags state nothing, the whole description is
    read. Channels that the description does not state are taken from the facts.

    Raises
    ------
    MadeForInvalid
        The block in the description does not have the expected form, or has an unknown term.
    """
    facts = (facts_of(model.alias) if model.alias else None) or Facts()
    own = _declared(model)
    stated = next((one for one in (own, _curated(facts)) if one.states_any), None) or _read(model)
    if own.channels:
        return replace(stated, channels=own.channels, channels_source=own.source)
    return replace(stated, channels=_value(facts.channels), channels_source=_source(facts.channels))


_BLOCK: Mapping[str, Mapping[str, Any] | None] = {
    "modality": MODALITIES,
    "structure": STRUCTURES,
    "channels": None,
}
"""Entry of ``config.bmz.made_for`` -> its terms; None if any text is allowed."""


def _declared(model: ModelSpec) -> MadeFor:
    block = model.ours.get("made_for", {})
    if not isinstance(block, Mapping):
        raise MadeForInvalid(model.id, f"wanted modality, structure and channels, found {block!r}")
    if unknown := set(map(str, block)) - set(_BLOCK):
        raise MadeForInvalid(
            model.id, f"it has {', '.join(sorted(unknown))}; it may have {', '.join(_BLOCK)}"
        )
    words = {name: _words(model.id, name, block.get(name)) for name in _BLOCK}
    return MadeFor(words["modality"], words["structure"], "config.bmz.made_for", words["channels"])


def _words(model: str, name: str, value: object) -> tuple[str, ...]:
    words = [value] if isinstance(value, str) else value
    if words is None:
        return ()
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise MadeForInvalid(model, f"{name} is {value!r}, not a list of words")
    terms = _BLOCK[name]
    unknown = [word for word in words if terms is not None and word not in terms]
    if unknown:
        raise MadeForInvalid(
            model, f"{name} has {', '.join(unknown)}; the terms are {', '.join(terms or ())}"
        )
    return tuple(words)


def _curated(facts: Facts) -> MadeFor:
    modality, structure = facts.modality, facts.structure
    return MadeFor(_value(modality), _value(structure), _source(modality, structure))


def _value(fact: Fact[tuple[str, ...]] | None) -> tuple[str, ...]:
    return () if fact is None else fact.value


def _source(*facts: Fact[tuple[str, ...]] | None) -> str:
    parts = (part for fact in facts if fact is not None for part in fact.source.split("; "))
    return "; ".join(dict.fromkeys(parts))


TAGS: Mapping[str, tuple[str, ...]] = {
    "fluorescence": (
        "fluorescence",
        "fluorescence-microscopy",
        "fluorescence-light-microscopy",
        "immunofluorescence",
    ),
    "widefield": ("widefield-fluorescence", "wide-field-fluorescence"),
    "confocal": ("confocal", "confocal-microscopy"),
    "light-sheet": (
        "light-sheet",
        "light-sheet-microscopy",
        "light-sheet-fluorescence-microscopy",
    ),
    "light-field": ("light-field-microscopy",),
    "phase": ("phase-contrast", "phase-contrast-microscopy"),
    "dic": ("dic", "differential-interference-contrast"),
    "brightfield": ("brightfield", "bright-field", "brightfield-microscopy"),
    "transmitted": ("transmission-light-microscopy",),
    "he": ("h-e", "he-staining", "hne", "hematoxylin-eosin"),
    "ihc": ("ihc", "immunohistochemistry"),
    "em": ("electron-microscopy",),
    "tem": ("transmission-electron-microscopy",),
    "sem": ("scanning-electron-microscopy",),
    "volume-em": ("volume-electron-microscopy", "fib-sem", "sbf-sem", "sbem"),
    "nuclei": ("nuclei", "nucleus", "nuclei-segmentation", "nucleus-segmentation"),
    "cells": ("cells", "cell", "cell-segmentation"),
    "membranes": ("membrane", "membranes", "cell-membrane"),
    "bacteria": ("bacteria",),
    "yeast": ("yeast",),
    "mitochondria": ("mitochondria", "mitochondrion", "mitochondrial-segmentation"),
    "neurites": ("neurites", "connectomics"),
    "vesicles": ("vesicles", "extracellular-vesicles"),
    "spots": ("spots", "spot-detection", "diffraction-limited-spots"),
    "filaments": ("filaments", "microtubules", "actin-segmentation"),
}
"""Each term and the tags that state it.

Ambiguous tags are left out, such as ``histology`` (there are many stains) or ``tem`` (a model of
the zoo for phase contrast has this tag).
"""


PHRASES: Mapping[str, str] = {
    "fluorescence": r"\w*fluorescen\w*|DAPI|Hoechst",
    "confocal": r"confocal",
    "light-sheet": r"light[- ]?sheet",
    "phase": r"phase[- ]contrast",
    "dic": r"differential interference contrast",
    "brightfield": r"bright[- ]?field",
    "he": r"H&E|ha?ematoxylin",
    "ihc": r"immunohistochemi\w+",
    "em": r"electron micro\w+",
    "tem": r"transmission electron micro\w+",
    "sem": r"scanning electron micro\w+",
    "nuclei": r"nucleus|nuclei",
    "cells": r"cells?",
    "membranes": r"(?:cell )?membranes?|cell boundar(?:y|ies)",
    "bacteria": r"bacteri(?:a|um|al)",
    "yeast": r"yeasts?",
    "mitochondria": r"mitochondri(?:a|on|al)",
    "neurites": r"neurites?",
    "vesicles": r"vesicles?",
    "filaments": r"filaments?|microtubules",
}
"""Each term and the words in a name or description that state it."""


def _read(model: ModelSpec) -> MadeFor:
    tags = {re.sub(r"[\s_&]+", "-", tag.strip().lower()): tag for tag in model.tags}
    tagged = {term: _first(words, tags) for term, words in TAGS.items()}
    first = re.split(r"(?<=[a-z)])\.\s", model.description, maxsplit=1)[0]
    ways, things = (_stated("tags", terms, tagged) for terms in (MODALITIES, STRUCTURES))
    ways = ways + _written(MODALITIES, model.name, first if ways else model.description)
    things = things or _written(STRUCTURES, model.name, model.description)
    source = "; ".join(dict.fromkeys(found.source for found in (ways, things) if found.source))
    return MadeFor(_most_exact(ways.terms), things.terms, source)


@dataclass(frozen=True)
class _Stated:
    terms: tuple[str, ...] = ()
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __add__(self, other: _Stated) -> _Stated:
        """Add the terms that only another source states."""
        terms = tuple(term for term in other.terms if term not in self.terms)
        if not terms:
            return self
        return _Stated((*self.terms, *terms), "; ".join(filter(None, (self.source, other.source))))


def _first(words: Iterable[str], tags: Mapping[str, str]) -> str:
    return next((tags[word] for word in words if word in tags), "")


def _written(terms: Iterable[str], *texts: str) -> _Stated:
    words = {term: _phrase(pattern, ". ".join(texts)) for term, pattern in PHRASES.items()}
    return _stated("name, description", terms, words)


def _phrase(pattern: str, text: str) -> str:
    found = re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE)
    return found[0] if found else ""


def _stated(where: str, terms: Iterable[str], words: Mapping[str, str]) -> _Stated:
    """Return the terms that have a word; a general one only if no more specific one has a word."""
    found = {term: words[term] for term in terms if words.get(term)}
    exact = _most_exact(found)
    named = ", ".join(dict.fromkeys(found[term] for term in exact))
    return _Stated(exact, f"{where}: {named}" if exact else "")


def _most_exact(terms: Iterable[str]) -> tuple[str, ...]:
    known = tuple(terms)
    return tuple(term for term in known if not set(MORE_EXACT.get(term, ())) & set(known))


@dataclass(frozen=True)
class StatedKind:
    """The kind of an image as the user states it; it overrides what the pixels suggest.

    Parameters
    ----------
    modality : key of `bmz.spec.made_for.MODALITIES`
    structure : key of `bmz.spec.made_for.STRUCTURES`; None if the user states none
    """

    modality: str
    structure: str | None = None

    def __str__(self) -> str:
        """Return the words that the user writes to state this kind.

        Examples
        --------
        >>> str(StatedKind("em", "neurites")), str(StatedKind("phase"))
        ('em,neurites', 'phase')
        """
        return self.modality if self.structure is None else f"{self.modality},{self.structure}"

    @property
    def families(self) -> tuple[Family, ...]:
        """Return the families of images that the modality covers."""
        return MODALITIES[self.modality].families

    @property
    def title(self) -> str:
        """Return the kind in plain words.

        Examples
        --------
        >>> StatedKind("em", "neurites").title
        'electron microscopy of neurites'
        """
        modality = MODALITIES[self.modality].title
        if self.structure is None:
            return modality
        return f"{modality} of {STRUCTURES[self.structure].title}"


def stated_kind(words: str) -> StatedKind:
    """Parse a modality, optionally followed by a comma and a structure.

    Raises
    ------
    ValueError
        A word is not a term, or there are more than two; the message names the terms.

    Examples
    --------
    >>> stated_kind("EM, neurites")
    StatedKind(modality='em', structure='neurites')
    """
    modality, comma, structure = (word.strip().lower() for word in words.partition(","))
    if modality not in MODALITIES:
        raise ValueError(f"'{modality}' is not a modality; choose one of {', '.join(MODALITIES)}")
    if not comma:
        return StatedKind(modality)
    if structure not in STRUCTURES:
        raise ValueError(f"'{structure}' is not a structure; choose one of {', '.join(STRUCTURES)}")
    return StatedKind(modality, structure)
