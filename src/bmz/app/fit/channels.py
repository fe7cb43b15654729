"""Which channels of an image a model is given: the choice that shows what it is made for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations

from bmz.app.fit.image import Channels, MeasuredImage
from bmz.base.channels import EMPTY_CHANNEL
from bmz.check.axes import COLOURS
from bmz.check.fit_case import FitCase
from bmz.check.fit_score import Content, content_of, structures_wanted
from bmz.check.measured import MOST_CHANNELS
from bmz.spec.made_for import MadeFor

_PAIR = 2
"""Pairs are tried in both orders; of more channels there would be too many orders to tell apart."""


def best_channels(case: FitCase, images: Sequence[MeasuredImage], made: MadeFor) -> Channels:
    """Choose the channels in which images show best what a model is made for.

    Where the content tells nothing, the channels are taken as they lie.

    Parameters
    ----------
    case : of one of the images, without channels
    images : all that have the same channels
    made : what the model is made for
    """
    choices = tuple(channel_choices(case, made))

    def seen(choice: Channels) -> float:
        contents = [content_for(choice, case, image, made) for image in images]
        return round(sum(content.probability for content in contents), 6)

    return max(choices, key=seen)


def content_for(channels: Channels, case: FitCase, image: MeasuredImage, made: MadeFor) -> Content:
    """Hold the content of some channels against what a model is made for."""
    taken = case.channels_taken if channels is None else channels
    if not image.seen.apart:
        return content_of([image.seen.whole], made)
    return content_of([image.seen.channels.get(channel) for channel in taken], _named(case, made))


def _named(case: FitCase, made: MadeFor) -> MadeFor:
    """Put the names of the channels that the description declares where nothing else is known."""
    return made if made.channels else replace(made, channels=case.names_wanted)


def channel_choices(case: FitCase, made: MadeFor) -> Iterator[Channels]:
    """Yield the choices of channels, the usual one first.

    Parameters
    ----------
    case : without channels
    """
    wanted, found = case.channels_wanted, case.channels_found
    some = range(min(found, MOST_CHANNELS))
    together = case.channels_by_name is not None or (wanted == found and wanted != _PAIR)
    if case.taken_as_grey or together or (case.image.colour and wanted == len("rgb")):
        yield None
    elif wanted == 1:
        yield from ((channel,) for channel in some)
    elif wanted == _PAIR and found >= _PAIR:
        if found == _PAIR:
            yield None
        yield from (pair for pair in permutations(some, _PAIR) if found > _PAIR or pair != (0, 1))
    elif found == 1 and _takes_colours(case):
        yield (0,) * wanted
    elif found < wanted and all(structures_wanted(_named(case, made), wanted)):
        yield (*some, *([EMPTY_CHANNEL] * (wanted - found)))
    else:
        yield None


def _takes_colours(case: FitCase) -> bool:
    """Say whether all channels of the model are colours, which are alike in a grey image."""
    names = {name.strip().lower() for name in case.names_wanted}
    return case.channels_wanted == len("rgb") and bool(names) and names <= COLOURS
