from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from bmz.base.errors import BmzError
from bmz.spec.facts import TABLE, facts_of
from bmz.spec.made_for import (
    MODALITIES,
    PHRASES,
    STRUCTURES,
    TAGS,
    Family,
    MadeFor,
    MadeForInvalid,
    made_for,
)
from bmz.spec.model import ModelSpec
from bmz.spec.read import read_model
from bmz.zoo.locate import starter_folder, starter_names

NEWER = {"famous-sheep", "idealistic-eagle", "passionate-bug"}  # no manifest is at hand
ALIASES = tuple(set(json.loads(TABLE.read_text(encoding="utf-8"))) - NEWER)
UNREADABLE = "independent-mouse"
"""Its manifest is not YAML, so that nothing is known of it."""


def model(block: Any = None, *, alias: str = "", **more: Any) -> ModelSpec:
    config = {} if block is None else {"bmz": {"made_for": block}}
    return ModelSpec("m", "M", Path(), "", "0.5.4", (), (), (), alias=alias, config=config, **more)


def stated() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Alias, name, value and source of each fact on what a model is made for."""
    for alias in ALIASES:
        facts = facts_of(alias)
        assert facts is not None
        for name in ("modality", "structure", "channels"):
            fact = getattr(facts, name)
            if fact is not None:
                yield alias, name, fact.value, fact.source


def test_every_model_of_the_zoo_has_facts_of_modality_and_structure() -> None:
    known = {(alias, name) for alias, name, _, _ in stated()}

    assert {
        (alias, name)
        for alias in ALIASES
        for name in ("modality", "structure")
        if (alias, name) not in known
    } == {(UNREADABLE, "modality"), (UNREADABLE, "structure")}


def test_facts_are_terms_and_what_is_not_stated_anywhere_is_said_to_be_so() -> None:
    terms = {"modality": MODALITIES, "structure": STRUCTURES}
    for alias, name, value, source in stated():
        assert set(value) <= set(terms.get(name, value)), alias
        assert bool(value) != source.startswith("not stated: "), (alias, name)


QUOTED = re.compile(r'manifest: (\w+): "([^"]+)"')


def test_a_sentence_quoted_from_a_manifest_stands_in_it(shared: Path) -> None:
    yaml = pytest.importorskip("yaml")
    seen = set()
    for alias, name, _, source in stated():
        text = (shared / "zoo" / "models" / alias / "rdf.yaml").read_text(encoding="utf-8")
        manifest = yaml.load(text, yaml.CSafeLoader)
        for field, quoted in QUOTED.findall(source):
            seen.add(alias)
            there = manifest[field]
            if field == "tags":
                assert quoted in there, (alias, name)
            else:
                words = json.dumps(there, ensure_ascii=False) if field != "cite" else str(there)
                assert quoted in " ".join(words.split()), (alias, name)

    assert len(seen) > 120


def test_every_term_has_a_family_or_neighbours_that_exist() -> None:
    families = set(get_args(Family))

    assert {f for entry in MODALITIES.values() for f in entry.families} == families
    assert {near for entry in STRUCTURES.values() for near in entry.near} <= set(STRUCTURES)
    assert not set(MODALITIES) & set(STRUCTURES) - {"other"}
    assert set(TAGS) | set(PHRASES) <= set(MODALITIES) | set(STRUCTURES)


def test_the_page_of_facts_lists_every_term() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "facts.md").read_text("utf-8")

    for word, modality in MODALITIES.items():
        families = ", ".join(modality.families)
        assert f"| `{word}` | {modality.title} | {families} | {modality.ontology} |" in page
    for word, structure in STRUCTURES.items():
        near = ", ".join(structure.near)
        assert f"| `{word}` | {structure.title} | {near} | {structure.ontology} |" in page


def test_the_own_block_wins_over_facts_and_these_over_tags() -> None:
    block = {"modality": ["em"], "structure": "mitochondria", "channels": ["raw"]}
    tags = ("phase-contrast", "cells")

    own = made_for(model(block, alias="affable-shark", tags=tags))
    curated = made_for(model(alias="affable-shark", tags=tags))
    tagged = made_for(model(tags=tags))

    assert own == MadeFor(
        ("em",), ("mitochondria",), "config.bmz.made_for", ("raw",), "config.bmz.made_for"
    )
    assert (curated.modalities, curated.structures) == (("fluorescence",), ("nuclei",))
    assert "Nucleus segmentation for fluorescence microscopy" in curated.source
    assert tagged == MadeFor(("phase",), ("cells",), "tags: phase-contrast; tags: cells")


def test_a_block_of_channels_alone_leaves_modality_and_structure_to_the_tags() -> None:
    told = made_for(model({"channels": ["DAPI"]}, tags=("nuclei",)))

    assert (told.structures, told.channels, told.source) == (("nuclei",), ("DAPI",), "tags: nuclei")


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("nuclei", "wanted modality, structure and channels"),
        ({"modality": ["electrons"]}, "modality has electrons; the terms are fluorescence"),
        ({"structure": [3]}, "structure is .3., not a list"),
        ({"modalities": ["em"]}, "it has modalities; it may have modality, structure, channels"),
    ],
)
def test_a_block_that_is_not_of_its_form_is_refused(block: Any, why: str) -> None:
    with pytest.raises(MadeForInvalid, match=why) as caught:
        made_for(model(block))

    assert isinstance(caught.value, BmzError)
    assert caught.value.code == "package.made-for"


@pytest.mark.parametrize(
    ("tags", "words", "modalities", "structures"),
    [
        (("fluorescence-light-microscopy", "confocal"), "", ("confocal",), ()),
        (("Bright Field", "Cell Segmentation"), "", ("brightfield",), ("cells",)),
        (("H&E", "nuclei"), "", ("he",), ("nuclei",)),
        (("transmission-light-microscopy", "phase-contrast"), "", ("phase",), ()),
        (("histology", "tem", "unet"), "", (), ()),
        (("nucleus",), "trained on fluorescence nuclei of cells", ("fluorescence",), ("nuclei",)),
        ((), "Bacteria in phase-contrast images", ("phase",), ("bacteria",)),
        (
            ("fluorescence-light-microscopy", "nuclei"),
            "CHO cells in live-cell brightfield microscopy",
            ("fluorescence", "brightfield"),
            ("nuclei",),
        ),
        (("electron-microscopy",), "EM of cells. Invert fluorescence.", ("em",), ("cells",)),
        (("fluorescence",), "nuclei, confocal", ("confocal",), ("nuclei",)),
        ((), "bright-field to fluorescence", ("fluorescence", "brightfield"), ()),
        ((), "a U-Net for demonstration, submembranes and yeasty things", (), ()),
    ],
)
def test_tags_and_then_words_of_the_description_state_what_is_clear(
    tags: tuple[str, ...], words: str, modalities: tuple[str, ...], structures: tuple[str, ...]
) -> None:
    told = made_for(model(tags=tags, description=words))

    assert (told.modalities, told.structures) == (modalities, structures)
    assert bool(told.source) == bool(modalities or structures)


def test_a_model_of_predictions_is_for_no_family_of_images() -> None:
    enhancers = {alias for alias in ALIASES if made_for(model(alias=alias)).of_predictions}

    assert enhancers == {
        "amiable-crocodile",
        "determined-chipmunk",
        "hiding-blowfish",
        "independent-shrimp",
    }
    assert not MadeFor().of_predictions


def test_a_sentence_that_states_both_is_told_once() -> None:
    source = made_for(model(alias="noisy-ox")).source

    assert source.count("mitochodria and nuclei in electron microscopy data") == 1
    assert 'manifest: name: "em_organelles"' in source


def test_terms_have_the_identifiers_of_published_ontologies() -> None:
    told = MadeFor(("em", "volume-em"), ("mitochondria", "leaves")).ontology

    assert told == {"em": "FBbi:00000256", "mitochondria": "GO:0005739"}


def test_bundled_models_state_it_themselves() -> None:
    for name in starter_names():
        told = made_for(read_model(starter_folder() / name / "bioimageio.yaml"))

        assert (told.modalities, told.structures) == (("fluorescence",), ("nuclei",))
        assert told.source == told.channels_source == "config.bmz.made_for"


def test_what_a_model_is_made_for_is_said_in_words() -> None:
    assert MadeFor(("em",), ("mitochondria", "nuclei")).title == (
        "mitochondria or nuclei in electron microscopy"
    )
    assert MadeFor((), ("nuclei",)).title == "nuclei"
    assert MadeFor(("phase", "dic", "em"), ()).title == (
        "phase contrast, differential interference contrast or electron microscopy"
    )
    assert MadeFor().title == ""


@pytest.mark.parametrize(
    ("name", "modality", "structure"),
    [
        ("cremi-membrane", "em", "membranes"),
        ("nuclei-broad", "fluorescence", "nuclei"),
        ("stardist-dsb2018", "fluorescence", "nuclei"),
        ("psc-keras-full", "phase", "cells"),
        ("cellpose-cyto", "fluorescence", "cells"),
        ("multi-tensor", "fluorescence", "cells"),
    ],
)
def test_packages_without_a_block_state_it_by_tags_or_words(
    shared: Path, name: str, modality: str, structure: str
) -> None:
    told = made_for(read_model(shared / "models" / name / "bioimageio.yaml"))

    assert told.modalities == (modality,)
    assert structure in told.structures
