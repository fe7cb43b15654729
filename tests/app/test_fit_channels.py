"""Which channels of an image ``bmz fit`` gives a model: what each shows is made up here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.app.small_models import model, tensor

from bmz.check.fit_case import FitCase
from bmz.check.kind import ImageKind
from bmz.check.pixel_values import ValueSummary
from bmz.engine.fit_image import ChannelAbsent, MeasuredImage, numbers_in
from bmz.engine.fit_judge import best_channels, channel_choices, content_for
from bmz.image.pixels import Pixels, inspect_array
from bmz.results.fit import SeenImage
from bmz.spec.made_for import MadeFor

NUCLEI = MadeFor(("fluorescence",), ("nuclei",))
CELLS = MadeFor(("fluorescence",), ("cells",), channels=("cytoplasm", "nuclei"))


def showing(structure: str, share: float = 0.8) -> ImageKind:
    return ImageKind({"fluorescence": 0.9, "electron": 0.05}, {structure: share})


def image(
    *shown: str, whole: ImageKind | None = None, names: tuple[str, ...] = ()
) -> MeasuredImage:
    """Give an image of which each channel shows a structure; an empty word for nothing.

    Parameters
    ----------
    whole : of an RGB image, which is seen as one
    """
    array = np.zeros((len(shown), 8, 8), np.uint8)
    info = inspect_array(array, axes="cyx")
    info = replace(info, colour=whole is not None, channel_names=names)
    kinds = {n: showing(word) for n, word in enumerate(shown) if word}
    seen = SeenImage("a.tif", whole or next(iter(kinds.values()), None), kinds, apart=whole is None)
    return MeasuredImage(info, ValueSummary(Pixels(array, tuple("cyx"))), {}, seen)


def case_of(seen: MeasuredImage, channels: int, names: tuple[str, ...] = ()) -> FitCase:
    first = tensor(channels=channels)
    axes = tuple(replace(a, names=names) if a.letter == "c" else a for a in first.axes)
    return FitCase(model(inputs=[replace(first, axes=axes)]), seen.info)


def choices(seen: MeasuredImage, channels: int, made: MadeFor = NUCLEI, **more: Any) -> list[Any]:
    return list(channel_choices(case_of(seen, channels, **more), made))


@pytest.mark.parametrize(
    ("shown", "wanted", "made", "best"),
    [
        (("membranes", "nuclei"), 1, NUCLEI, (1,)),
        (("nuclei", "membranes"), 1, NUCLEI, (0,)),
        (("membranes", "spots", "nuclei", "spots"), 1, NUCLEI, (2,)),
        (("nuclei", "cells"), 2, CELLS, (1, 0)),
        (("cells", "nuclei"), 2, CELLS, None),
        (("spots", "nuclei", "cells"), 2, CELLS, (2, 1)),
        (("nuclei",), 1, NUCLEI, None),
        (("cells",), 2, CELLS, (0, -1)),
        (("", ""), 1, NUCLEI, (0,)),
    ],
    ids=str,
)
def test_the_channels_that_show_what_a_model_is_made_for_are_chosen(
    shown: tuple[str, ...], wanted: int, made: MadeFor, best: tuple[int, ...] | None
) -> None:
    seen = image(*shown)

    assert best_channels(case_of(seen, wanted), [seen], made) == best


def test_images_with_the_same_channels_are_given_the_same_ones() -> None:
    clear, doubtful = image("spots", "nuclei"), image("cells", "spots")
    doubtful = replace(doubtful, seen=replace(doubtful.seen, channels={0: showing("nuclei", 0.3)}))

    assert best_channels(case_of(doubtful, 1), [doubtful], NUCLEI) == (0,)
    assert best_channels(case_of(doubtful, 1), [clear, doubtful], NUCLEI) == (1,)


def test_all_singles_and_ordered_pairs_of_the_first_six_channels_are_tried() -> None:
    eight = image(*["nuclei"] * 8)

    assert choices(eight, 1) == [(n,) for n in range(6)]
    assert len(choices(eight, 2)) == len(set(choices(eight, 2))) == 30


def test_colours_are_kept_together_and_seen_as_a_whole() -> None:
    stained = ImageKind({"stained": 0.9}, {"nuclei": 0.8})
    photograph = image("spots", "spots", "spots", whole=stained)
    made = MadeFor(("he",), ("nuclei",))

    assert choices(photograph, 3) == [None]
    content = content_for(None, case_of(photograph, 3), photograph, made)
    assert content.family == pytest.approx(0.9)
    assert content.structure > 0.8


def test_a_grey_image_stands_for_all_colours_but_for_no_stains_that_nobody_names() -> None:
    grey = image("cells")

    assert choices(grey, 3, names=("R", "G", "B")) == [(0, 0, 0)]
    assert choices(grey, 3, names=("er", "tubulin", "dna")) == [None]
    assert choices(grey, 2, CELLS) == [(0, -1)]


def test_names_that_both_have_decide() -> None:
    named = image("nuclei", "membranes", names=("nuclei", "membrane"))

    assert choices(named, 2, CELLS, names=("membrane", "nuclei")) == [None]


def test_channels_that_the_user_names_are_looked_for_in_each_image() -> None:
    one, other = image("nuclei", "", names=("DAPI", "GFP")), image("", "", names=("GFP", "DAPI"))

    assert [numbers_in(each, ("dapi", 1)) for each in (one, other)] == [(0, 1), (1, 1)]
    assert numbers_in(one, None) is None
    with pytest.raises(ChannelAbsent, match=r"asks for .Cy5., but .* 2 .*: 0 DAPI, 1 GFP"):
        numbers_in(one, ("Cy5",))
    with pytest.raises(ChannelAbsent, match="asks for number 2"):
        numbers_in(one, ("GFP", 2))
