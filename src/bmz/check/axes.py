"""The file, its axes and its channels: which there are, and what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bmz.base.axes import NAMES
from bmz.check.finding import Evidence, Finding
from bmz.check.fit_case import FitCase
from bmz.check.measured import EMPTY_CHANNEL
from bmz.image.info import UNKNOWN_AXIS
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


COLOURS = frozenset({"r", "g", "b", "red", "green", "blue"})
"""Names of the channels of a photograph."""

NO_NAME = re.compile(r"(c|ch|channel|slice|image)?[ :_#-]*[0-9]*(/[0-9]+)?")
"""What programs write in place of a name; any channel may bear it, also one of a photograph."""


def file_findings(case: FitCase) -> Iterator[Finding]:
    """Yield what the reader says of the file."""
    for text in case.image.cautions:
        yield Finding.of("file.caution", "file", text)
    for text in case.image.remarks:
        yield Finding.of("file.remark", "file", text)


def axes_findings(case: FitCase) -> Iterator[Finding]:
    """Yield what is unnamed, missing, looped over or reordered."""
    info, first = case.image, case.inputs[0]
    shape = " x ".join(map(str, info.shape))
    if UNKNOWN_AXIS in info.axes:
        yield Finding.of(
            "axes.ambiguous", first.id,
            f"the file does not say what its axes {shape} are",
            wanted=first.letters, found=info.axes,
            hint=_naming_hint(len(info.shape)),
        )  # fmt: skip
        return
    stack = info.axes.replace("yx", "zyx") if "yx" in info.axes else "zyx"
    for axis in case.model.space:
        if axis not in info.sizes:
            yield Finding.of(
                "axes.missing", f"{first.id}.{axis}",
                f"the model works on {case.model.space}, but the image has no axis {axis}",
                wanted=case.model.space, found=info.axes,
                hint=f"take a 2-D model, or a stack; of a stack of one plane say --axes {stack}",
            )  # fmt: skip
    for axis in case.loop:
        if (planes := info.sizes[axis]) > 1:
            yield Finding.of(
                "axes.extra", f"{first.id}.{axis}",
                f"the model takes no {NAMES[axis]}: each of the {planes} planes is run by itself",
                wanted=first.letters, found=info.axes,
            )  # fmt: skip
    yield from _order(case)


def _order(case: FitCase) -> Iterator[Finding]:
    first = case.inputs[0]
    wanted = "".join(a for a in first.letters if a in case.image.sizes)
    found = "".join(a for a in case.image.axes if a in wanted)
    if wanted != found:
        yield Finding.of(
            "axes.order", first.id,
            f"the axes are reordered from {found} to {wanted}", wanted=wanted, found=found,
        )  # fmt: skip


def _naming_hint(ndim: int) -> str:
    if ndim not in range(2, 6):
        return "an image has y and x, and c, z and t at most; cut or reshape it"
    example = {2: "yx", 3: "zyx", 4: "zcyx", 5: "tzcyx"}[ndim]
    return f"name them, slowest first, such as --axes {example}"


def channel_findings(case: FitCase) -> Iterator[Finding]:
    """Yield wrong counts, wrong order, and a colour photograph where stains are wanted."""
    wanted, found = case.channels_wanted, case.channels_found
    given = case.channels
    absent = [n for n in given or () if n != EMPTY_CHANNEL and n not in range(found)]
    where = f"{case.inputs[0].id}.c"
    if given is not None and len(given) != wanted:
        yield _count(case, f"--channels names {len(given)}", where)
    elif absent:
        yield _count(case, f"--channels asks for number {max(absent)} (the first is 0)", where)
    elif given is None and case.image.colour and (wanted == 1 or _wants_stains(case)):
        yield _photograph(case, where)
    elif given is None and wanted != found:
        yield _count(case, f"the image has {found}", where)
    elif given is None and _stains_for_colours(case):
        yield _stains(case, where)
    else:
        yield from meaning_findings(case)
        if given is None:
            yield from _taken_by_name(case, where)


def _photograph(case: FitCase, where: str) -> Finding:
    return Finding.of(
        "channel.rgb", where,
        "the image is a colour photograph, the model wants stains, one a channel",
        wanted=_wanted_channels(case), found="red, green, blue",
        hint="if one colour holds the stain, name it: --channels 0 (red), 1 or 2",
    )  # fmt: skip


def _stains(case: FitCase, where: str) -> Finding:
    return Finding.of(
        "channel.rgb", where,
        "the channels of the image are stains, the model wants a colour photograph",
        wanted=_wanted_channels(case), found=", ".join(case.image.channel_names),
        hint="take a model for stains; if they are to stand for colours, say --channels 0,1,2",
    )  # fmt: skip


def _count(case: FitCase, found: str, where: str) -> Finding:
    example = ",".join(str(i) for i in range(min(case.channels_wanted, case.channels_found)))
    missing = case.channels_wanted - case.channels_found
    example = likely_channels(case) or example + ",none" * max(missing, 0)
    names = ", ".join(f"{i} {name}" for i, name in enumerate(case.image.channel_names))
    has = f" (the image has {names})" if names else ""
    return Finding.of(
        "channel.count", where,
        f"the model wants {_wanted_channels(case)}, {found}{has}",
        wanted=str(case.channels_wanted), found=str(case.channels_found),
        hint=f"say which channel goes where, such as --channels {example}"
        + (" ('none' fills with zeros)" if missing > 0 else ""),
    )  # fmt: skip


def _wanted_channels(case: FitCase) -> str:
    number = case.channels_wanted
    names = ", ".join(case.names_wanted)
    return f"{number} channel{'s' * (number != 1)}" + (f" ({names})" if names else "")


def _stains_for_colours(case: FitCase) -> bool:
    """Say whether the file names its channels otherwise than by colours, which the model wants."""
    wanted = {name.lower() for name in case.names_wanted}
    found = {name.lower() for name in case.image.channel_names}
    named = bool(found) and not any(NO_NAME.fullmatch(name) for name in found)
    return len(wanted) > 1 and wanted <= COLOURS and named and not found & COLOURS


def _wants_stains(case: FitCase) -> bool:
    if {name.lower() for name in case.names_wanted} & COLOURS:
        return False
    return any("fluorescence" in tag.lower() for tag in case.model.tags)


def _taken_by_name(case: FitCase, where: str) -> Iterator[Finding]:
    taken = case.channels_by_name
    if taken is not None and list(taken) != sorted(taken):
        names = case.image.channel_names
        order, plain = (",".join(map(str, numbers)) for numbers in (taken, sorted(taken)))
        yield Finding.of(
            "channel.order", where,
            "the channels are in another order than the model's and are taken by their names: "
            + ", ".join(f"{channel} {names[channel]}" for channel in taken),
            wanted=", ".join(case.names_wanted), found=", ".join(names),
            hint=f"the same as --channels {order}; --channels {plain} takes them as they lie",
            milder=True,
        )  # fmt: skip
