"""Chains: run several models on the same images in turn, and relate their objects."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from bmz.base.axes import channel_words, checked_channels
from bmz.base.errors import CouldNotTell, WrongUsage
from bmz.base.files import given_text, writable_folder
from bmz.base.progress import Listener, Note, nobody
from bmz.base.values import dataclass
from bmz.engine.further_images import FROM
from bmz.engine.image_result import names_within
from bmz.engine.memory import plan_images
from bmz.engine.relations import RELATIONS
from bmz.engine.request import LATER, SCALES, RunRequest
from bmz.engine.run_images import RunOfAll
from bmz.engine.setup import RunSetup, planned_or_failed, prepare
from bmz.image.formats import split_series
from bmz.image.listing import listed_images
from bmz.image.series import with_fields
from bmz.results.images import (
    ChainedImage,
    ChainedPlan,
    ChainSummary,
    ImageFailure,
    ImageRun,
    RunSummary,
)
from bmz.write.names import absolute, refuse_existing
from bmz.write.outputs import CSV, TABLE
from bmz.write.tables import Numbered, join_numbers, join_objects, write_record

CHAIN_RECORD, CHAIN_TABLE = ".chain.json", ".chain.csv"
"""Suffixes of the files that cover all steps of an image."""

_NAME = re.compile(r"[\w.-]+")


class ChainNotFound(CouldNotTell):
    """The file of a chain does not exist."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(
            f"there is no file '{path}'",
            hint="a MODEL that ends with .toml is the file of a chain: check the spelling",
            code="chain.not-found",
        )


class ChainUnreadable(WrongUsage):
    """A file is not a chain."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"{where} is not a chain: {why}",
            hint='a chain has a [[step]] for each model, such as model = "starter/nuclei", '
            'name = "nuclei", channels = [1]; and pair = "from:nuclei" in a later one',
            code="chain.unreadable",
        )


class ChainWithoutMasks(WrongUsage):
    """The call does not write label masks that a later step needs."""

    def __init__(self, steps: Sequence[str]) -> None:
        super().__init__(
            f"later steps need the label masks of {', '.join(steps)}, which --save leaves out",
            hint="add labels to --save",
            code="chain.no-labels",
        )


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("wanted a text")
    return value.strip()


def _channels(value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return channel_words(value)
    return checked_channels(value if isinstance(value, list) else [value])  # type: ignore[list-item]


def _scale(value: object) -> object:
    numeric = isinstance(value, int | float) and SCALES[0] <= value <= SCALES[1]
    if value != "auto" and not numeric:
        raise ValueError(f"wanted a factor between {SCALES[0]:g} and {SCALES[1]:g}, or auto")
    return value


def _number(value: object, kind: type) -> object:
    if isinstance(value, bool) or not isinstance(value, kind | int):
        raise TypeError("wanted a number")
    return kind(value)


def _words(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError("wanted a table of names and values")
    return {str(name): str(entry) for name, entry in value.items()}


def _reference(pattern: str, before: Sequence[str]) -> str:
    """Turn the number of an earlier step into its name."""
    step = pattern.removeprefix(FROM)
    if step == pattern:
        return pattern
    by_number = {str(number): name for number, name in enumerate(before, start=1)}
    name = step if step in before else by_number.get(step)
    if name is None:
        raise ValueError(
            f"no earlier step has that name; earlier steps: {', '.join(before) or 'none'}"
        )
    return f"{FROM}{name}"


def _references(patterns: Mapping[str, str], before: Sequence[str]) -> dict[str, str]:
    return {name: _reference(pattern, before) for name, pattern in patterns.items()}


@dataclass(frozen=True)
class StepKey:
    """A key that a step of a chain may have.

    Parameters
    ----------
    field : field of a request that it sets
    read : parses its value; a ValueError says what is expected
    put : inserts the names of earlier steps; a ValueError says which exist
    """

    field: str
    read: Callable[[object], Any]
    put: Callable[[Any, Sequence[str]], Any] = lambda value, _: value


STEP_KEYS: Mapping[str, StepKey] = {
    "model": StepKey("model", _word),
    "channels": StepKey("channels", _channels),
    "scale": StepKey("scale", _scale),
    "clip": StepKey("clip", partial(_number, kind=float)),
    "recipe": StepKey("recipe", _word),
    "set": StepKey("settings", _words),
    "tile": StepKey("tile", partial(_number, kind=int)),
    "weights": StepKey("weights", _word),
    "input": StepKey("inputs", _words, _references),
    "prompts": StepKey("prompts", _word, _reference),
}
"""Keys of a step that say how its model is run."""


@dataclass(frozen=True)
class ChainStep:
    """One model of a chain.

    Parameters
    ----------
    name : name of the folder of its results, and of its columns in the joint table
    options : fields of a request
    relations : relation (see `bmz.engine.relations`) -> ``from:`` and the name of an earlier step,
        or the pattern of a file
    """

    name: str
    options: Mapping[str, Any]
    relations: Mapping[str, str]

    @property
    def needs(self) -> tuple[str, ...]:
        """The earlier steps whose label masks it needs."""
        patterns = [*self.relations.values(), *self.options.get("inputs", {}).values()]
        patterns += [self.options["prompts"]] if "prompts" in self.options else []
        return tuple(p.removeprefix(FROM) for p in patterns if p.startswith(FROM))

    @property
    def waits(self) -> bool:
        """Whether it needs an image that does not exist yet, so that it cannot be checked."""
        return any(p.startswith(FROM) for p in self.options.get("inputs", {}).values())

    def request(self, request: RunRequest) -> RunRequest:
        """Return the request of this step, with a folder of its own."""
        folder = request.folder / self.name
        relations = {**request.relations, **self.relations}
        return replace(request, folder=folder, relations=relations, **self.options)


@dataclass(frozen=True)
class Chain:
    """Several models that are run on the same images, one after another.

    Parameters
    ----------
    steps : in the order in which they are run
    """

    steps: tuple[ChainStep, ...]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a chain from a TOML file.

        Raises
        ------
        ChainNotFound
            The file does not exist.
        ChainUnreadable
            It is not TOML, or names something unknown.
        """
        if not Path(path).exists():
            raise ChainNotFound(path)
        try:
            document = tomllib.loads(given_text(Path(path)))
        except (OSError, ValueError, RecursionError) as why:
            raise ChainUnreadable(f"'{path}'", str(why)) from why
        return cls.of(document, f"'{path}'")

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str = "this") -> Self:
        """Make a chain from the content of a file: ``{"step": [{"model": ...}, ...]}``.

        Raises
        ------
        ChainUnreadable
        """
        entries = document.get("step")
        if not isinstance(entries, list) or not entries or set(document) != {"step"}:
            raise ChainUnreadable(where, "it has no [[step]], or has something other than steps")
        steps: list[ChainStep] = []
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict):
                raise ChainUnreadable(where, f"step {number} is not a table")
            steps.append(_step(entry, [step.name for step in steps], where))
        return cls(tuple(steps))

    def run(
        self,
        images: Sequence[str | Path],
        folder: str | Path,
        *,
        overwrite: bool = False,
        resume: bool = False,
        listener: Listener = nobody,
    ) -> ChainSummary:
        """Run all steps on files, and write what ``bmz run`` writes.

        Parameters
        ----------
        images
            Files, folders or patterns
        folder
            Folder for the results, which has a folder for each step
        overwrite, resume
            Whether existing results may be replaced; or are kept if they have the same options
        listener
            Is notified of steps, files and tiles

        Raises
        ------
        BmzError
            Something is wrong for all images. What is wrong with one image is in the summary.
        """
        listing = listed_images([str(image) for image in images])
        request = RunRequest(
            "", listing.images, Path(folder), roots=listing.roots, absent=listing.absent,
            overwrite=overwrite, resume=resume,
        )  # fmt: skip
        return run_chain(self, request, listener)


def _step(entry: Mapping[str, Any], before: Sequence[str], where: str) -> ChainStep:
    number = len(before) + 1
    name = str(entry.get("name", number))
    if not _NAME.fullmatch(name) or name in before:
        why = f"step {number} is called '{name}', which is not a valid folder name or is used twice"
        raise ChainUnreadable(where, why)
    known = {"name", *STEP_KEYS, *RELATIONS}
    if strange := sorted(set(entry) - known):
        why = f"step '{name}' has {strange[0]}, but a step may only have {', '.join(sorted(known))}"
        raise ChainUnreadable(where, why)
    if "model" not in entry:
        raise ChainUnreadable(where, f"step '{name}' has no model")
    options, relations = {}, {}
    for key, value in entry.items():
        try:
            if key in RELATIONS:
                relations[key] = _reference(_word(value), before)
            elif key in STEP_KEYS:
                read = STEP_KEYS[key].read(value)
                options[STEP_KEYS[key].field] = STEP_KEYS[key].put(read, before)
        except (TypeError, ValueError) as why:
            raise ChainUnreadable(where, f"{key} of step '{name}' is {value!r}: {why}") from why
    return ChainStep(name, options, relations)


def prepared_steps(
    chain: Chain, request: RunRequest, listener: Listener = nobody, *, measure: bool = True
) -> list[tuple[ChainStep, RunSetup]]:
    """Prepare all steps, as far as that does not depend on an image, before any is run.

    Raises
    ------
    ChainWithoutMasks
        Label masks are needed that would not be written.
    BmzError
        Whatever is wrong with a model or an option.
    """
    needed = [step.name for step in chain.steps if any(step.name in s.needs for s in chain.steps)]
    if needed and "labels" not in request.save:
        raise ChainWithoutMasks(needed)
    return [
        (step, prepare(step.request(request), listener, measure=measure)) for step in chain.steps
    ]


def plan_chain(
    chain: Chain, request: RunRequest, listener: Listener = nobody
) -> Iterator[ChainedPlan]:
    """Yield how each step would run each image, without masks that do not exist yet.

    Steps whose input is made by another step have no images.

    Raises
    ------
    BmzError
        See `prepared_steps`.
    """
    for step, setup in prepared_steps(chain, request, listener, measure=False):
        plans = () if step.waits else tuple(plan_images(_without_masks(setup)))
        yield ChainedPlan(step.name, setup.request.model, setup.request.relations, plans)


def _without_masks(setup: RunSetup) -> RunSetup:
    """Leave out relations and prompts that earlier steps have yet to make."""
    request = setup.request
    made = {name: p for name, p in request.relations.items() if not p.startswith(FROM)}
    prompts = LATER if (request.prompts or "").startswith(FROM) else request.prompts
    return replace(setup, request=replace(request, relations=made, prompts=prompts))


def run_chain(chain: Chain, request: RunRequest, listener: Listener = nobody) -> ChainSummary:
    """Run all steps on all images, after every image has been checked for every step.

    Parameters
    ----------
    request : the options of the call; its model is ignored

    Raises
    ------
    BmzError
        Something is wrong for all images: a model, an option, the folder, existing outputs.
    """
    setups = prepared_steps(chain, request, listener)
    unfit = dict(_unfit(setups, request))
    images = tuple(image for image in request.images if image not in unfit)
    before: dict[str, Mapping[Path, Path]] = {}
    steps: dict[str, RunSummary] = {}
    for number, (step, setup) in enumerate(setups, start=1):
        model = setup.request.model
        listener(Note(f"step {number} of {len(setups)}: {step.name}, with {model}"))
        own = replace(setup.request, images=images, before=dict(before))
        of_step = RunOfAll(replace(setup, request=own), with_fields(images, own.series))
        steps[step.name] = of_step.summary(tuple(of_step.outcomes(listener)))
        before[step.name] = {
            done.image: done.files["labels"]
            for done in steps[step.name].done
            if "labels" in done.files
        }
    outcomes = tuple(unfit.values()) + tuple(_chained(chain, steps, request, unfit))
    _write_joint(outcomes, request)
    return ChainSummary(outcomes)


def _unfit(
    setups: Sequence[tuple[ChainStep, RunSetup]], request: RunRequest
) -> Iterator[tuple[Path, ImageFailure]]:
    """Yield the images that a step could not run, judged by their headers."""
    of_call = with_fields(request.images, request.series)
    for image, field in of_call.items():
        for step, setup in setups:
            if step.waits:
                continue
            state = planned_or_failed(_without_masks(setup), image, field)
            if isinstance(state, ImageFailure):
                yield image, state
                break


def _chained(
    chain: Chain,
    steps: Mapping[str, RunSummary],
    request: RunRequest,
    unfit: Collection[Path],
) -> Iterator[ChainedImage | ImageFailure]:
    """Yield the outcome of each image: all steps with record and table, or the first failure."""
    of_steps = [{o.image: o for o in summary.outcomes} for summary in steps.values()]
    for image in of_steps[0]:
        if image in unfit:
            continue
        outcomes = [of_step[image] for of_step in of_steps if image in of_step]
        fault = next((one for one in outcomes if isinstance(one, ImageFailure)), None)
        if fault is not None:
            yield fault
            continue
        done = [one for one in outcomes if isinstance(one, ImageRun)]
        yield _written(chain, dict(zip(steps, done, strict=True)), request)


def _written(chain: Chain, done: Mapping[str, ImageRun], request: RunRequest) -> ChainedImage:
    """Write the record of all steps of an image, and the joint table of its objects."""
    first, one = next(iter(done.items()))
    within = one.files["record"].relative_to(request.folder / first)
    base = str(request.folder / within).removesuffix(".run.json")
    record, table = Path(f"{base}{CHAIN_RECORD}"), Path(f"{base}{CHAIN_TABLE}")
    numbered = numbered_tables(chain, {name: of_step.files for name, of_step in done.items()})
    if not (request.overwrite or request.resume):
        refuse_existing([record, *([table] if numbered else [])])
    writable_folder(record.parent)
    if numbered:
        join_numbers(table, numbered)
    chained = ChainedImage(one.image, done, record, table if numbered else None)
    write_record(record, chained.document())
    return chained


def numbered_tables(chain: Chain, files: Mapping[str, Mapping[str, Path]]) -> list[Numbered]:
    """Return the tables of the steps whose objects share their numbers.

    These belong to the first step that another step is paired with, or has parents in.

    Parameters
    ----------
    files : step -> kind of output -> path

    Returns
    -------
    list of Numbered
        empty if no step is related to another, or no tables are written
    """
    leads: dict[str, str] = {}
    counted: dict[str, str] = {}
    for step in chain.steps:
        pair, parent = (
            pattern.removeprefix(FROM) if pattern.startswith(FROM) else None
            for pattern in (step.relations.get("pair", ""), step.relations.get("parent", ""))
        )
        leads[step.name] = step.name if pair is None else leads[pair]
        if parent is not None:
            counted[step.name] = leads[parent]
    groups = [leads[name] for name in leads if leads[name] != name] + list(counted.values())
    if not groups or not all(TABLE in of_step for of_step in files.values()):
        return []
    lead = groups[0]
    own = [Numbered(n, files[n][TABLE]) for n in leads if leads[n] == lead and n not in counted]
    return own + [Numbered(n, files[n][TABLE], counted=True) for n in counted if counted[n] == lead]


def _write_joint(outcomes: Sequence[ChainedImage | ImageFailure], request: RunRequest) -> None:
    """Write the joint tables of several images as one table."""
    tables = {
        one.image: one.table
        for one in outcomes
        if isinstance(one, ChainedImage) and one.table is not None
    }
    if len(tables) < 2 or CSV not in request.tables:  # noqa: PLR2004 - several
        return
    files = {image: split_series(absolute(image)) for image in tables}
    names = names_within((file for file, _ in files.values()), None)
    columns = {
        table: {"image": names[files[image][0]], "series": files[image][1]}
        for image, table in tables.items()
    }
    join_objects(request.folder / CHAIN_TABLE.lstrip("."), columns)
