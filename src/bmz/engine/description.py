"""Propose missing entries of a description that are known or measurable; write a new package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.errors import AnswerIsNo, BmzError, WrongUsage
from bmz.base.files import unfinished, writable_folder, write_whole_text
from bmz.base.progress import Listener, nobody
from bmz.base.values import dataclass
from bmz.engine.load import fetch_model, find_model
from bmz.engine.made_tests import NothingRan, lacks_tests, made_tests, tensor_files
from bmz.engine.model_trial import ModelTrial
from bmz.engine.test_tensors import as_maps, read_test_tensors, sample_measures
from bmz.plan.geometry import axis_rules, output_rules
from bmz.plan.recipe_choice import choose_recipe, declares_recipe
from bmz.predict.reach import measured_reach
from bmz.results.models import ModelTestResult, ObjectSizes
from bmz.results.packages import DescribedPackage, Proposal
from bmz.spec.facts import facts_of, known_diameter_px, known_pixel_size, model_pixel_um
from bmz.spec.made_for import made_for
from bmz.spec.manifest import (
    Content,
    DescriptionRefused,
    current_content,
    file_entry,
    newest_content,
    refuse_invalid,
    write_manifest,
)
from bmz.spec.model import ModelSpec
from bmz.zoo.settings import ZooSettings

BY_FAMILY: Mapping[str, str] = {
    "fluorescence": "fluorescence",
    "transmitted": "transmitted",
    "electron": "em",
}
"""Image family recognised from pixels -> equally broad term of ``made_for``, if there is one."""


NEWEST = "0.5"
"""Prefix of the format versions that entries can be added to."""


class NothingLacks(AnswerIsNo):
    """No entry was found that could be added to the description."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"found nothing to add to the description of '{model}'",
            hint="'bmz card MODEL' shows what is measured; --pixel-size states a pixel size",
            code="describe.nothing",
        )


class DescribedExists(WrongUsage):
    """The path of the new package or of its text already exists."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"'{path}' already exists, and bmz does not overwrite it",
            hint="choose another folder with -o, or remove this one",
            code="describe.exists",
        )


@dataclass(frozen=True)
class DescribeRequest:
    """The options of one call of ``bmz describe``.

    Parameters
    ----------
    package : name, folder or zip of a package
    folder : folder of the new package; None for one in the working folder, named after the model
    pixel_um : axis -> pixel size stated by the author, um; empty to use the known one, if any
    """

    package: str
    folder: Path | None = None
    pixel_um: Mapping[str, float] | None = None


def described(
    request: DescribeRequest, settings: ZooSettings, listener: Listener = nobody
) -> DescribedPackage:
    """Propose missing entries, and write a new package with them and a text for a pull request.

    Raises
    ------
    NothingLacks, DescribedExists
    BmzError
        The package does not exist, or is invalid even after conversion to the newest format.
    """
    package, model = find_model(request.package, settings, listener=listener)
    if package.remote is not None:
        fetch_model(request.package, None, settings, listener)
    folder = request.folder or Path(f"{model.id.replace('/', '-')}-described")
    text = folder.with_name(f"{folder.name}.md")
    for place in (folder, text):
        if place.exists():
            raise DescribedExists(place)
    writable_folder(folder.parent)
    draft = folder.parent / f"{unfinished('writing')}{os.urandom(8).hex()}"
    try:
        base = _Base.of(package.manifest, model, draft)
        base = base.with_tests(settings, listener)
        opened = find_model(str(base.manifest.parent.resolve()), settings, listener=listener)
        own = opened if base.entries else (package, model)
        found = _Findings.of(ModelTrial(*own, settings, listener=listener))
        proposals = tuple(_proposals(found, request))
        if not (proposals or base.entries):
            raise NothingLacks(request.package)
        kept, refused = _written(base.manifest, folder, proposals)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    kept, refused = (*base.entries, *kept), (*base.refused, *refused)
    write_whole_text(text, pull_request(model, kept))
    return DescribedPackage(request.package, folder, text, kept, refused)


@dataclass(frozen=True)
class _Base:
    """The package that entries are added to: the original, or a copy that had to be changed first.

    Parameters
    ----------
    manifest : manifest of the package itself, or of the copy in `draft`
    draft : folder for the copy
    entries : entries that the copy has in addition to those of the package
    refused : entries that could not be added, with the reason
    """

    manifest: Path
    draft: Path
    entries: tuple[Proposal, ...] = ()
    refused: tuple[Proposal, ...] = ()

    @classmethod
    def of(cls, manifest: Path, model: ModelSpec, draft: Path) -> _Base:
        """Return the package, converted to the newest format if it has an older one."""
        if model.format_version.startswith(NEWEST):
            return cls(manifest, draft)
        content = newest_content(manifest)
        why = f"converted from {model.format_version} by bioimageio.spec"
        entry = Proposal("format_version", content["format_version"], why)
        return cls(manifest, draft).copied(content, entry)

    def with_tests(self, settings: ZooSettings, listener: Listener) -> _Base:
        """Add missing test tensors; record them as refused if the model cannot be run."""
        package, model = find_model(str(self.manifest.parent.resolve()), settings)
        if not lacks_tests(model):
            return self
        try:
            made = made_tests(ModelTrial(package, model, settings, listener=listener))
        except NothingRan as why:
            return replace(self, refused=(Proposal("test tensors", "none", why.message),))
        base = self.copied(current_content(self.manifest))
        content, entries = current_content(base.manifest), base.entries
        for tensor, file in tensor_files(made):
            np.save(base.draft / file, made.arrays[tensor])
            entry = file_entry(base.draft / file)
            every = (*content["inputs"], *content["outputs"])
            next(t for t in every if t["id"] == tensor)["test_tensor"] = entry
            entries += (Proposal(f"{tensor}: test tensor", file, made.why[tensor]),)
        refuse_invalid(write_manifest(base.draft, content))
        return replace(base, entries=entries)

    def copied(self, content: Content, *entries: Proposal) -> _Base:
        """Copy the files, unless this is the copy already, and write `content` as description."""
        if self.manifest.parent != self.draft:
            hidden = shutil.ignore_patterns(".*")
            shutil.copytree(self.manifest.parent, self.draft, ignore=hidden)
            (self.draft / self.manifest.name).unlink()
        manifest = write_manifest(self.draft, content)
        return replace(self, manifest=manifest, entries=(*self.entries, *entries))


@dataclass(frozen=True)
class _Findings:
    """Properties of a model that were measured on its test input.

    Parameters
    ----------
    sizes : sizes of the objects in the test output; None if there are none
    reach_px : radius of the receptive field, px; None if unknown, or if it is the whole image
    sees_whole : whether the receptive field is the whole image
    family, structure : what the test input shows; empty if the pixels do not reveal it
    """

    model: ModelSpec
    sizes: ObjectSizes | None = None
    reach_px: int | None = None
    sees_whole: bool = False
    family: str = ""
    structure: str = ""

    @classmethod
    def of(cls, trial: ModelTrial) -> _Findings:
        """Measure the first weights that reproduce the test output."""
        model = trial.model
        measures = sample_measures(trial.package, model, trial.settings)
        kind = measures[0].kind if 0 in measures else None
        found = cls(
            model,
            family=BY_FAMILY.get(kind.family or "", "") if kind else "",
            structure=(kind.structure or "") if kind else "",
        )
        formats = ModelTestResult(model.id, tuple(trial.checks())).reproduced_formats
        if not formats:
            return found
        _, sizes = trial.measured(formats)
        entry = next(w for w in model.weights if w.format in formats)
        tensors = read_test_tensors(model)
        try:
            with closing(trial.open(entry)) as backend:
                maps = partial(as_maps, model, tensors.taken)
                rules, outputs = axis_rules(model), output_rules(model)
                reach = measured_reach(backend, tensors.inputs, rules, outputs, maps)
        except BmzError:  # the output is on no grid of the input: `bmz test` reports it
            return replace(found, sizes=sizes)
        px = max(reach.pixel_px, reach.edge_px)
        whole = reach.sees_whole or px >= reach.seen_px - 1
        return replace(found, sizes=sizes, reach_px=None if whole else px, sees_whole=whole)


def _proposals(found: _Findings, request: DescribeRequest) -> Iterator[Proposal]:
    yield from _of_pixels(found, request)
    yield from _of_objects(found)
    yield from _of_purpose(found)
    yield from _of_channels(found)
    yield from _of_recipe(found)
    yield from _of_reach(found)


def _of_pixels(found: _Findings, request: DescribeRequest) -> Iterator[Proposal]:
    if model_pixel_um(found.model):
        return
    known = known_pixel_size(found.model)
    sizes, why = (
        (request.pixel_um, "as stated by its author")
        if request.pixel_um
        else (known.um, known.source)
    )
    if sizes:
        yield Proposal("inputs and outputs: pixel size", dict(sizes), why)


def _of_objects(found: _Findings) -> Iterator[Proposal]:
    sizes = found.sizes
    if sizes is None or known_diameter_px(found.model) is not None:
        return
    why = (
        f"the median of {sizes.count} objects of its test output by the recipe {sizes.recipe}; 5 % "
        f"to 95 %: {sizes.low_px:.1f} to {sizes.high_px:.1f} px"
    )
    yield Proposal("config.bmz.object_diameter_px", round(sizes.median_px, 1), why)


def _of_purpose(found: _Findings) -> Iterator[Proposal]:
    if "made_for" in found.model.ours:
        return
    purpose = made_for(found.model)
    block: Content = {}
    if purpose.states_any:
        block = {"modality": list(purpose.modalities), "structure": list(purpose.structures)}
        why = purpose.source
    else:
        block = {"modality": [found.family] if found.family else []}
        block["structure"] = [found.structure] if found.structure else []
        why = "what the pixels of its test input show; check this before you publish it"
    if purpose.channels:
        block["channels"] = list(purpose.channels)
    block = {name: words for name, words in block.items() if words}
    if block:
        yield Proposal("config.bmz.made_for", block, why)


def _of_channels(found: _Findings) -> Iterator[Proposal]:
    facts = facts_of(found.model.alias) if found.model.alias else None
    meaning = facts.output_channels if facts is not None else None
    if meaning is None or len(found.model.outputs) != 1:
        return
    axis = found.model.outputs[0].axis("c")
    if (
        axis is not None
        and not axis.names
        and found.model.outputs[0].channels == len(meaning.value)
    ):
        yield Proposal("outputs.0: channel names", list(meaning.value), meaning.source)


def _of_recipe(found: _Findings) -> Iterator[Proposal]:
    if declares_recipe(found.model) or found.model.prompts is not None:
        return
    try:
        choice = choose_recipe(found.model)
    except BmzError:  # there is no recipe, or no evidence for one: `bmz show` reports the reason
        return
    block: Content = {"name": choice.name}
    if choice.parameters:
        block["parameters"] = dict(choice.parameters)
    if len(found.model.outputs) > 1:
        block["output"] = choice.output
    yield Proposal("config.bmz.recipe", block, f"{choice.why}; stated, so that nobody has to guess")


def _of_reach(found: _Findings) -> Iterator[Proposal]:
    if found.model.receptive_field:
        return
    if found.sees_whole:
        why = "a change at one border of its test input changes the output at the other"
        yield Proposal("config.bmz.receptive_field", {"global_context": True}, why)
    elif found.reach_px:
        block = {"radius_px": found.reach_px, "global_context": False}
        why = (
            "measured on its test input: pixels farther away change no output by 0.1 % of its range"
        )
        yield Proposal("config.bmz.receptive_field", block, why)
        if not any(axis.halo for tensor in found.model.outputs for axis in tensor.axes):
            yield Proposal("outputs: halo", found.reach_px, why)


def _written(
    manifest: Path, folder: Path, proposals: tuple[Proposal, ...]
) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...]]:
    """Write a copy with every proposal that keeps it valid; return those kept and those refused."""
    draft = folder.parent / f"{unfinished('writing')}{os.urandom(8).hex()}"
    shutil.copytree(manifest.parent, draft, ignore=shutil.ignore_patterns(".*"))
    try:
        (draft / manifest.name).unlink()
        kept: tuple[Proposal, ...] = ()
        refused: tuple[Proposal, ...] = ()
        for proposal in proposals:
            content = _with_all(manifest, (*kept, proposal))
            try:
                refuse_invalid(write_manifest(draft, content))
            except DescriptionRefused as why:
                # for example, a halo that leaves nothing of the smallest image
                refused = (*refused, replace(proposal, why=why.message))
            else:
                kept = (*kept, proposal)
        refuse_invalid(write_manifest(draft, _with_all(manifest, kept)))
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kept, refused


def _with_all(manifest: Path, proposals: tuple[Proposal, ...]) -> Content:
    content = current_content(manifest)
    for proposal in proposals:
        _CHANGES.get(proposal.where, _of_config)(content, proposal)
    return content


def _of_config(content: Content, proposal: Proposal) -> None:
    ours = content.setdefault("config", {}).setdefault("bmz", {})
    ours[proposal.where.rpartition(".")[2]] = proposal.value


def _spatial(content: Content, kind: str) -> Iterator[Content]:
    for tensor in content[kind]:
        yield from (axis for axis in tensor["axes"] if axis["type"] == "space")


def _put_pixels(content: Content, proposal: Proposal) -> None:
    for kind in ("inputs", "outputs"):
        for axis in _spatial(content, kind):
            um = proposal.value.get(axis.get("id", "x"))
            if um:
                # scales that relate tensors to each other are ratios, which are kept
                axis["scale"] = axis.get("scale", 1.0) * um
                axis["unit"] = "micrometer"


def _put_halo(content: Content, proposal: Proposal) -> None:
    for axis in _spatial(content, "outputs"):
        axis["halo"] = int(-(-proposal.value // max(axis.get("scale", 1), 1)))


def _put_names(content: Content, proposal: Proposal) -> None:
    for axis in content["outputs"][0]["axes"]:
        if axis["type"] == "channel":
            axis["channel_names"] = [name.replace(" ", "_") for name in proposal.value]


_CHANGES: Mapping[str, Any] = {
    "inputs and outputs: pixel size": _put_pixels,
    "outputs: halo": _put_halo,
    "outputs.0: channel names": _put_names,
}
"""Functions that apply the proposals that are not entries of ``config.bmz``."""


def pull_request(model: ModelSpec, proposals: tuple[Proposal, ...]) -> str:
    """Return the text of a pull request that lists the added entries and their evidence."""
    rows = "\n".join(
        f"| {proposal.where} | `{proposal.value}` | {proposal.why} |" for proposal in proposals
    )
    return (
        f"# State what {model.name} is made for\n\nUsers cannot tell whether a model fits their "
        "image if its description does not say so. This adds the entries below; the weights and "
        "everything else are unchanged.\n\n| entry | value | evidence "
        f"|\n|---|---|---|\n{rows}\n\nMeasured by `bmz describe` on the package with sha256 "
        f"`{model.sha256}`.\n"
    )
