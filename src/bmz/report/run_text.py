"""A run as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bmz.base.progress import Loudness, Note
from bmz.check.finding import DoesNotFit, Finding
from bmz.image.faults import NotWhole
from bmz.image.formats import name_of
from bmz.image.given_names import given_name
from bmz.image.series import FieldMissing
from bmz.report.text import Line, counted, document_text, failure_of
from bmz.results.images import (
    ChainedPlan,
    ChainSummary,
    DeviceUse,
    ImageFailure,
    ImagePlan,
    ImageRun,
    RunSummary,
)

if TYPE_CHECKING:
    from bmz.results.image_documents import (
        ChainDocument,
        ChainPlanDocument,
        FailedImage,
        PlanDocument,
        PlannedImage,
        RunRecord,
        RunsDocument,
    )


_TWO_DIGITS = 99.5
"""From this value on, ``.2g`` would print a power of ten."""

LOUDNESS: Mapping[str, Loudness] = {"error": "error", "warning": "warning", "note": "detail"}
"""How findings are reported while images run, by severity."""


def finding_notes(findings: Iterable[Finding], image: str) -> list[Note]:
    """Return the findings as notes for a listener, to be shown before the network starts."""
    notes: list[Note] = []
    for finding in worst_first(findings):
        told = f"{finding.message} [{finding.code}]"
        notes.append(Note(told, LOUDNESS[finding.severity], image, finding.code))
        if finding.hint and finding.severity != "note":
            notes.append(Note(finding.hint, "hint", image, finding.code))
    return notes


def arrival_lines(outcome: ImageRun | ImageFailure) -> list[Line]:
    """Report an image of a watched folder as soon as it has run."""
    if isinstance(outcome, ImageRun):
        return _done(outcome)
    if isinstance(outcome.error, NotWhole):
        return [("note", f"not complete yet, will be run when it changes: {outcome.error}")]
    return _failed(outcome)


def watch_lines(summary: RunSummary, waiting: Sequence[Path]) -> list[Line]:
    """Report at the end of a watch how many images are done, and which are not.

    Parameters
    ----------
    waiting : images that were still waiting
    """
    count = len(summary.done)
    lines: list[Line] = [("answer", f"{count} image{'s' * (count != 1)} done")]
    if waiting:
        names = ", ".join(path.name for path in waiting)
        lines.append(("note", f"not run yet, left for the next call: {names}"))
    return lines + _failed_names(summary)


def run_lines(summary: RunSummary) -> list[Line]:
    """Report every image, then list the failed ones again at the end."""
    lines: list[Line] = []
    absent: dict[Path, list[str]] = {}
    for outcome in summary.outcomes:
        if not isinstance(outcome, ImageFailure):
            lines += _done(outcome)
        elif isinstance(outcome.error, FieldMissing):
            field = outcome.error.field
            absent.setdefault(field.plate, []).append(str(field.within))
        else:
            lines += _failed(outcome)
    for plate, fields in absent.items():
        verb = "is" if len(fields) == 1 else "are"
        lines.append(
            ("error", f"{given_name(plate)}: {', '.join(fields)} {verb} listed but not there")
        )
    lines += _failed_names(summary) if len(summary.outcomes) > 1 else []
    return lines + _use_of_gpu(summary.use)


def _use_of_gpu(use: DeviceUse | None) -> list[Line]:
    if use is None or use.device == "cpu":
        return []
    times = f"{use.computed_s:.1f} of the {use.run_s:.1f} s since the network was loaded"
    return [("note", f"{use.device} computed for {100 * use.share:.0f} % of the time: {times}")]


def _failed_names(summary: RunSummary) -> list[Line]:
    if not summary.failed:
        return []
    names = ", ".join(map(_name_of, summary.failed))
    count = f"{len(summary.failed)} of {len(summary.outcomes)}"
    return [("error", f"{count} images failed: {names}")]


def _name_of(failure: ImageFailure) -> str:
    """Return the name of an image, or for a field of a plate its place in the plate."""
    plate = next((p for p in failure.image.parents if p.name.lower().endswith(".zarr")), None)
    return name_of(failure.image) if plate is None else failure.image.relative_to(plate).as_posix()


def _failed(failure: ImageFailure) -> list[Line]:
    lines = [("error", str(failure.error)), ("hint", failure.error.hint)]
    others = failure.error.errors[1:] if isinstance(failure.error, DoesNotFit) else ()
    return lines + finding_lines(others, name_of(failure.image))


def _done(done: ImageRun) -> list[Line]:
    # records of earlier versions lack them
    apart, joined = (done.record.get(key, {}) for key in ("objects_in", "joined_over"))
    count = "" if done.objects is None else f"{counted(done.objects, apart, joined)}, "
    main = done.files.get("labels") or done.files.get("raw") or done.files["record"]
    lines: list[Line] = [("answer", f"{given_name(done.image)}: {count}{main}")]
    if "overlay" in done.files:
        lines.append(("answer", f"  look at {done.files['overlay']}"))
    return lines


FIRST_DOUBTED = 5
"""Number of objects that are named; the record and the table have more."""


def quality_sentences(record: Mapping[str, Any]) -> list[str]:
    """Describe how good the mask of a run is likely to be, and which objects to look at first.

    Parameters
    ----------
    record : record of the run
    """
    quality, doubted = record.get("quality"), record.get("doubted", ())
    sentences = []
    if quality is not None:
        span = f"{quality['low']:.2f} to {quality['high']:.2f}"
        sentences.append(f"mask: {quality['word']}, F1 about {quality['f1']:.2f} ({span})")
    if doubted:
        named = ", ".join(f"{d['label']} ({d['confidence']:.2f})" for d in doubted[:FIRST_DOUBTED])
        sentences.append(f"objects least likely to be true, with their confidence: {named}")
    return sentences


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort errors before warnings, and warnings before notes."""
    order = ("error", "warning", "note")
    return sorted(findings, key=lambda f: order.index(f.severity))


def finding_lines(findings: Iterable[Finding], image: str = "") -> list[Line]:
    """Report findings, worst first.

    Parameters
    ----------
    image : name of the image, which starts each line; empty if the lines are below the name
    """
    start = f"{image}: " if image else ""
    lines: list[Line] = []
    for finding in worst_first(findings):
        lines.append((finding.severity, f"{start}{finding.message} [{finding.code}]"))
        if finding.hint and finding.severity != "note":
            lines.append(("hint", finding.hint))
    return lines


def plan_lines(planned: ImagePlan | ImageFailure) -> list[Line]:
    """Describe how one image would be run."""
    if isinstance(planned, ImageFailure):
        return _failed(planned)
    lines = finding_lines(planned.findings, name_of(planned.image))
    lines.append(("answer", given_name(planned.image)))
    texts = [*planned.plan.describe(), *_prompts(planned), f"memory  {_memory(planned)}"]
    texts += _estimate(planned)
    return lines + [("answer", f"  {text}") for text in texts]


def _memory(planned: ImagePlan) -> str:
    gigabytes = planned.bytes_in_one_piece / 1e9
    amount = f"{gigabytes:.2g}" if gigabytes < _TWO_DIGITS else f"{gigabytes:.0f}"
    size = f"about {amount} GB in one piece"
    blocks = planned.plan.blocks
    above = f"{size}, above the limit of {(blocks.memory_bytes or 0) / 1e9:.2g} GB"
    if planned.in_parts:
        cut = f"{blocks.side_px} px with {blocks.overlap_px} px of overlap"
        return f"{above}: runs in parts, in blocks of {cut}"
    if planned.in_one_piece_why:
        return f"{above}, but cannot run in parts: {planned.in_one_piece_why}"
    return f"{size}, in addition to the network"


def _prompts(planned: ImagePlan) -> list[str]:
    if planned.prompts_later:
        of = "they are the objects of a mask that an earlier step has yet to make"
        return [f"prompts unknown: {of}; the time is that of the first ones in each tile"]
    return [] if planned.prompts is None else [f"prompts {planned.prompts} in all"]


def _estimate(planned: ImagePlan) -> list[str]:
    estimate, plan = planned.estimate, planned.plan
    if estimate is None:
        return []
    tiles = f"for {plan.batch} tiles" if plan.batch > 1 else "a tile"
    whole, once = _seconds(estimate.network_s), _seconds(estimate.run_s)
    lines = [f"time    about {whole} for the network, {once} {tiles}"]
    if estimate.peak_bytes is not None and estimate.network_bytes is not None:
        parts = (estimate.held_bytes, estimate.network_bytes, estimate.image_bytes)
        program, network, image = (f"{size / 1e9:.2f}" for size in parts)
        peak, free = f"{estimate.peak_bytes / 1e9:.2f} GB", f"{estimate.free_bytes / 1e9:.1f} GB"
        shares = f"program {program}, and then network {network} or image {image}"
        lines.append(f"peak    about {peak} of {free} free: {shares}")
    if estimate.workers > 1:
        lines.append(
            f"workers up to {estimate.workers} on this machine (--workers {estimate.workers})"
        )
    return lines


def _seconds(seconds: float) -> str:
    if seconds < _TWO_DIGITS:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def run_json(summary: RunSummary) -> str:
    """Return the run record of a single image, or a list of them with the failures."""
    if len(summary.outcomes) == 1 and summary.done:
        return document_text(summary.done[0].record)
    return runs_json(summary)


def runs_json(summary: RunSummary) -> str:
    """Return the run records of all images, and the failures."""
    document: RunsDocument = {
        "schema": "bmz.runs/1",
        "runs": [cast("RunRecord", done.record) for done in summary.done],
        "device_busy": None if summary.use is None else round(summary.use.share, 4),
        "failed": [_failure(failure) for failure in summary.failed],
    }
    return document_text(document)


def chain_lines(summary: ChainSummary) -> list[Line]:
    """Report every image of a chain, step by step."""
    lines: list[Line] = []
    for outcome in summary.outcomes:
        if isinstance(outcome, ImageFailure):
            lines += _failed(outcome)
            continue
        lines.append(("answer", given_name(outcome.image)))
        for name, done in outcome.steps.items():
            apart, joined = (done.record.get(key, {}) for key in ("objects_in", "joined_over"))
            count = "" if done.objects is None else f"{counted(done.objects, apart, joined)}, "
            main = done.files.get("labels") or done.files["record"]
            lines.append(("answer", f"  {name}: {count}{main}"))
        if outcome.table is not None:
            lines.append(("answer", f"  all steps by number: {outcome.table}"))
    return lines


def chain_json(summary: ChainSummary) -> str:
    """Return the records of all steps on all images, and the failures."""
    document: ChainDocument = {
        "schema": "bmz.chain/1",
        "images": [done.chained() for done in summary.done],
        "failed": [_failure(failure) for failure in summary.failed],
    }
    return document_text(document)


def chain_plan_lines(steps: Sequence[ChainedPlan]) -> list[Line]:
    """Describe how each step of a chain would be run."""
    lines: list[Line] = []
    for number, step in enumerate(steps, start=1):
        with_masks = "".join(f", {name} {of}" for name, of in step.relations.items())
        lines.append(("answer", f"step {number}  {step.name}: {step.model}{with_masks}"))
        for image in step.images:
            lines += plan_lines(image)
        if not step.images:
            lines.append(("note", "its input does not exist yet; it is checked when the step runs"))
    return lines


def chain_plan_json(steps: Sequence[ChainedPlan]) -> str:
    """Return what each step of a chain would do with each image."""
    document: ChainPlanDocument = {
        "schema": "bmz.chain-plan/1",
        "steps": [
            {
                "name": step.name,
                "relations": step.relations,
                "plan": plan_document(step.model, step.images),
            }
            for step in steps
        ],
    }
    return document_text(document)


def plan_json(model: str, planned: Sequence[ImagePlan | ImageFailure]) -> str:
    """Return what would be done with each image."""
    return document_text(plan_document(model, planned))


def plan_document(model: str, planned: Sequence[ImagePlan | ImageFailure]) -> PlanDocument:
    """Return what would be done with each image, as a document."""
    plans: list[PlannedImage] = [
        {
            "image": given_name(image.image),
            "plan": image.plan.as_record(),
            "bytes_in_one_piece": image.bytes_in_one_piece,
            "in_parts": image.in_parts,
            "estimate": image.estimate,
            "prompts": image.prompts,
            "prompts_later": image.prompts_later,
            "recipe": {
                "name": image.plan.recipe.name,
                "why": image.plan.recipe.why,
                "output": image.plan.recipe.output,
                "parameters": image.plan.parameters,
            },
            "findings": image.findings,
        }
        for image in planned
        if isinstance(image, ImagePlan)
    ]
    failed = [_failure(image) for image in planned if isinstance(image, ImageFailure)]
    return {"schema": "bmz.plan/1", "model": model, "plans": plans, "failed": failed}


def _failure(failure: ImageFailure) -> FailedImage:
    return {"image": given_name(failure.image), **failure_of(failure.error)}
