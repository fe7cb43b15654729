"""Determine from names or pixels what each channel shows, and which channels a model expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import permutations
from math import prod

from bmz.base.axes import EMPTY_CHANNEL, ChannelUnknown, channel_numbers, channel_text
from bmz.base.values import dataclass
from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.spec.facts import facts_of
from bmz.spec.made_for import STRUCTURES, made_for

NAMES: Mapping[str, tuple[str, ...]] = {
    "nuclei": (
        "nuclei", "nucleus", "nuclear", "dapi", "hoechst", "draq5", "sytox", "to-?pro", "h2a",
        "h2b", "histone", "dna",
    ),
    "membranes": (
        "membranes?", "boundar(?:y|ies)", "wga", "cellmask", "e-?cadherin", "cell walls?",
    ),
    "actin": ("actin", "phalloidin", "lifeact"),
    "mitochondria": ("mitochondria", "mitotracker", "tomm?20"),
}  # fmt: skip
"""Structure -> words for it in the names of channels, stains and markers."""

_WORDS = {
    structure: re.compile(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])")
    for structure, words in NAMES.items()
}


def structure_of(name: str) -> str | None:
    """Return the structure that a channel's name indicates; None for none or several.

    Examples
    --------
    >>> structure_of("Hoechst 33342"), structure_of("488"), structure_of("nuclei and membranes")
    ('nuclei', None, None)
    """
    text = re.sub("[_ ]+", " ", name.lower())
    found = [structure for structure, words in _WORDS.items() if words.search(text)]
    return found[0] if len(found) == 1 else None


def meaning_findings(case: FitCase) -> Iterator[Finding]:
    """Yield each channel whose name indicates another structure than the model is made for."""
    meant, evidence = _meant(case)
    if len(meant) != len(case.channels_taken):
        return
    better = likely_channels(case)
    for position, (wanted, channel) in enumerate(zip(meant, case.channels_taken, strict=True)):
        name = _name(case, channel)
        structures = structure_of(wanted), structure_of(name)
        if None in structures or structures[0] == structures[1]:
            continue
        yield Finding.of(
            "channel.order", f"{case.inputs[0].id}.c{position}",
            f"channel {channel} is named '{name}', but the model is made for {wanted}",
            wanted=wanted, found=name,
            hint=f"--channels {better}" if better else "check that this is the right channel, or "
                                                       "use a model for it ('bmz fit IMAGE' "
                                                       "ranks them)",
            evidence=evidence,
        )  # fmt: skip


def likely_channels(case: FitCase) -> str:
    """Return the value of ``--channels`` that the channel names suggest; empty for none.

    There is one only if, for each channel of the model, exactly one channel of the image has its
    name or indicates the structure that the model is known to expect.
    """
    if case.names_wanted:
        with suppress(ChannelUnknown):  # then use the meaning of the names
            return channel_text(channel_numbers(case.names_wanted, case.image.channel_names))
    meant, _ = _meant(case)
    structures = [structure_of(name) for name in case.image.channel_names]
    taken = []
    for wanted in meant:
        structure = structure_of(wanted)
        if structure is None or structures.count(structure) != 1:
            return ""
        taken.append(str(structures.index(structure)))
    return ",".join(taken)


def _meant(case: FitCase) -> tuple[tuple[str, ...], Evidence]:
    """Return what each channel of the model should show: as declared, else from the facts."""
    axes = [tensor.axis("c") for tensor in case.inputs]
    declared = tuple(name for axis in axes if axis for name in axis.names)
    if len(declared) == case.channels_wanted and any(map(structure_of, declared)):
        return declared, "declared"
    facts = facts_of(case.model.alias) if case.model.alias else None
    fact = facts.channels if facts else None
    if fact is not None and len(fact.value) == case.channels_wanted:
        return fact.value, "curated"
    return (), "curated"


def _name(case: FitCase, channel: int) -> str:
    names = case.image.channel_names
    return names[channel] if channel != EMPTY_CHANNEL and channel < len(names) else ""


SHOWS: Mapping[str, frozenset[str]] = {
    "nuclei": frozenset({"nuclei"}),
    "membranes": frozenset({"membranes", "cells"}),
    "cytoplasm": frozenset({"cells", "membranes"}),
    "actin": frozenset({"filaments", "cells", "membranes"}),
    "mitochondria": frozenset({"mitochondria"}),
}
"""Structure that a channel's name indicates -> what the pixels of such a channel show."""

CLEARLY = 2.0
"""Channels are proposed if every other choice is less likely by at least this factor."""

_PAIR = 2


@dataclass(frozen=True)
class ChannelChoice:
    """Channels of an image that suit a model.

    Parameters
    ----------
    channels : image channel for each channel of the model
    reason : why these were chosen, such as "where nuclei were detected"
    """

    channels: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        """Return the option and the reason, as in "--channels 1, where nuclei were detected"."""
        return f"--channels {channel_text(self.channels)}, {self.reason}"


def proposed_channels(case: FitCase) -> ChannelChoice | None:
    """Propose the channels that show what the model is made for; None if they are not clear.

    Names take precedence over pixels.
    """
    by_name = likely_channels(case)
    if by_name:
        return ChannelChoice(tuple(map(int, by_name.split(","))), "from the names of the channels")
    return seen_channels(case)


def seen_channels(case: FitCase) -> ChannelChoice | None:
    """Propose channels by what their pixels show; None if this is not clear.

    At most two channels are proposed: more could be ordered in too many ways to distinguish.
    """
    wanted = structures_wanted(case)
    if not wanted or len(wanted) > _PAIR or case.channels_found < len(wanted):
        return None
    choices = permutations(sorted(case.kinds), len(wanted))
    likelihoods = {choice: shown_in(case, choice) for choice in choices}
    choice = max(likelihoods, key=lambda one: likelihoods[one], default=None)
    if choice is None or not _is_shown(case, wanted, choice):
        return None
    others = (shown for one, shown in likelihoods.items() if one != choice)
    if max(others, default=0.0) * CLEARLY > likelihoods[choice]:
        return None
    return ChannelChoice(choice, _seen_words(case, wanted, choice))


def _is_shown(case: FitCase, wanted: tuple[frozenset[str], ...], choice: tuple[int, ...]) -> bool:
    """Return whether, in each channel, no structure is more likely than the wanted ones."""
    shown = ((case.kinds[channel].structures, structures)
             for channel, structures in zip(choice, wanted, strict=True))  # fmt: skip
    return all(
        _share(seen, structures)
        >= max((p for word, p in seen.items() if word not in structures), default=0.0)
        for seen, structures in shown
    )


def shown_in(case: FitCase, channels: tuple[int, ...]) -> float:
    """Return the probability that all channels show what the model expects; 0 if one is unknown.

    Parameters
    ----------
    channels : image channel for each channel of the model
    """
    pairs = zip(structures_wanted(case), channels, strict=True)
    return prod(
        _share(case.kinds[channel].structures, structures) if channel in case.kinds else 0.0
        for structures, channel in pairs
    )


def _share(shown: Mapping[str, float], structures: frozenset[str]) -> float:
    return sum(shown.get(word, 0.0) for word in structures)


def structures_wanted(case: FitCase) -> tuple[frozenset[str], ...]:
    """Return what each channel of the model should show; empty if this is unknown for any."""
    meant, _ = _meant(case)
    told = [SHOWS.get(_told(words) or "", frozenset[str]()) for words in meant]
    if told and all(told):
        return tuple(told)
    made = frozenset(made_for(case.model).structures)
    return (made,) if made and case.channels_wanted == 1 else ()


def _told(words: str) -> str | None:
    return structure_of(words) or ("cytoplasm" if "cyto" in words.lower() else None)


def _seen_words(case: FitCase, wanted: tuple[frozenset[str], ...], choice: tuple[int, ...]) -> str:
    seen = [
        STRUCTURES[max(structures, key=lambda word: case.kinds[channel].structures.get(word, 0))]
        for structures, channel in zip(wanted, choice, strict=True)
    ]
    return "where " + " and ".join(structure.title for structure in seen) + " were detected"
