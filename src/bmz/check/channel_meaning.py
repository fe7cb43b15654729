"""Do the names of an image's channels tell other structures than the model is known to want?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.check.measured import EMPTY_CHANNEL
from bmz.spec.facts import facts_of

STRUCTURES: Mapping[str, tuple[str, ...]] = {
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
"""Structure -> words in the names of channels, stains and markers that stand for it."""

_WORDS = {
    structure: re.compile(rf"(?<![a-z])(?:{'|'.join(words)})(?![a-z])")
    for structure, words in STRUCTURES.items()
}


def structure_of(name: str) -> str | None:
    """Give the one structure that a channel's name tells; None for none, and for several.

    Examples
    --------
    >>> structure_of("Hoechst 33342"), structure_of("488"), structure_of("nuclei and membranes")
    ('nuclei', None, None)
    """
    text = re.sub("[_ ]+", " ", name.lower())
    found = [structure for structure, words in _WORDS.items() if words.search(text)]
    return found[0] if len(found) == 1 else None


def meaning_findings(case: FitCase) -> Iterator[Finding]:
    """Yield each channel that by its name shows another structure than the model is made for."""
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
            f"channel {channel} is named '{name}', and the model is made for {wanted}",
            wanted=wanted, found=name,
            hint=f"--channels {better}" if better else "look whether this is the right channel, or "
            "take a model for it ('bmz fit IMAGE' ranks them)",
            evidence=evidence,
        )  # fmt: skip


def likely_channels(case: FitCase) -> str:
    """Give the word for ``--channels`` that the names of the channels suggest; empty for none.

    It is given only when for each channel of the model exactly one channel of the image has its
    name, or tells the structure that the model is known to want.
    """
    names = [name.strip().lower() for name in case.image.channel_names]
    wanted_names = [name.strip().lower() for name in case.names_wanted]
    if wanted_names and all(names.count(name) == 1 for name in wanted_names):
        return ",".join(str(names.index(name)) for name in wanted_names)
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
    """Give what each channel of the model should show: as declared, else as the table knows it."""
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
