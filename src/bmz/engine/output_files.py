"""The files that a job writes: their paths, and whether they may be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bmz.base.files import writable_folder
from bmz.engine.image_result import ImageResult, finish_plates, joint_tables, write_joint_tables
from bmz.engine.scratch import files_of_mask, finished, remove_leftovers, remove_replaced
from bmz.engine.setup import PlannedImage, RunSetup, planned_or_failed
from bmz.image.plates import PlateField
from bmz.plan.plan import Plan
from bmz.results.run import ImageDone, ImageFailed
from bmz.write.names import output_paths, refuse_existing
from bmz.write.outputs import OUTPUT_KINDS, RECORD, kinds_to_write


def output_kinds(setup: RunSetup) -> tuple[str, ...]:
    """Give the kinds of output that a job writes: those of ``--save``, and the record.

    Which tables of joined objects there are depends on the axes of an image, see `files_of`.
    """
    request = setup.request
    labels = setup.labelling.recipe is not None
    return kinds_to_write(request.save, labels=labels, joined=request.link, tables=request.tables)


def claim_files(
    setup: RunSetup, images: Mapping[Path, PlateField | None]
) -> dict[Path, dict[str, Path]]:
    """Give the path of every output of every image, in a folder that can be written to.

    Parameters
    ----------
    images : see `bmz.engine.image_result.with_fields`

    Returns
    -------
    dict of dict
        by image, then by kind

    Raises
    ------
    OutputExists
        Files of these names are there, and the call neither replaces them nor resumes.
    OutputIsInput
        A result would lie where an image lies.
    FolderNotWritable
        No file can be made in the folder.
    """
    request = setup.request
    zarr = request.labels_format == "zarr"
    kinds = output_kinds(setup)
    there = {image: field for image, field in images.items() if image not in request.absent}
    files = output_paths(
        list(there), request.folder, kinds, zarr=zarr, fields=there, roots=request.roots
    )
    if not (request.overwrite or request.resume):
        joint = joint_tables(request.folder) if len(images) > 1 else {}
        of_all = [path for kind, path in joint.items() if kind in kinds]
        refuse_existing([*(path for paths in files.values() for path in paths.values()), *of_all])
    writable_folder(request.folder)
    if request.resume:
        remove_leftovers(request.folder, "writing")
    return files


def image_states(
    setup: RunSetup,
    images: Mapping[Path, PlateField | None],
    files: Mapping[Path, Mapping[str, Path]],
) -> list[PlannedImage | ImageDone | ImageFailed]:
    """Plan the run of every image, or give the results of an earlier call that resumes."""
    resume = setup.request.resume
    return [
        (finished(setup, image, files[image]) if resume and image in files else None)
        or planned_or_failed(setup, image, field)
        for image, field in images.items()
    ]


def files_of_states(
    states: Iterable[PlannedImage | ImageDone | ImageFailed],
    files: Mapping[Path, Mapping[str, Path]],
) -> dict[Path, Mapping[str, Path]]:
    """Give the outputs of each image that is run, without those that its plan does not make."""
    return {
        state.image: files_of(state.plan, files[state.image])
        for state in states
        if isinstance(state, PlannedImage)
    }


def files_of(plan: Plan, files: Mapping[str, Path]) -> dict[str, Path]:
    """Leave out the tables of joined objects where the plan joins nothing over their axis."""
    return {
        kind: path
        for kind, path in files.items()
        if kind == RECORD or OUTPUT_KINDS[kind].joined_over in ("", *plan.joined)
    }


def finish_folder(
    setup: RunSetup, images: Mapping[Path, PlateField | None], done: Iterable[ImageDone]
) -> None:
    """Write what concerns all images, or a plate, and remove what only a resumed run would need.

    Parameters
    ----------
    images : see `bmz.engine.image_result.with_fields`
    done : the images that have a result
    """
    request, done = setup.request, tuple(done)
    write_joint_tables(request.folder, done)
    finish_plates(request.folder, images, done, zarr=request.labels_format == "zarr")
    if request.resume:
        remove_leftovers(request.folder, "scratch")  # of other options, or of images that failed


def save_result(
    result: ImageResult, kinds: Sequence[str], folder: Path, *, overwrite: bool
) -> dict[str, Path]:
    """Write the result of an image that was run in memory.

    Parameters
    ----------
    kinds : see `output_kinds`
    folder : made when it is not there
    overwrite : files of these names may be replaced

    Returns
    -------
    dict
        kind -> path

    Raises
    ------
    OutputExists
        Files of these names are there.
    FolderNotWritable
        No file can be made in the folder.
    """
    (paths,) = output_paths([result.image.info.place], folder, kinds).values()
    files = files_of(result.plan, paths)
    if not overwrite:
        refuse_existing(list(files.values()))
    writable_folder(folder)
    earlier = files_of_mask(files["record"])
    result.write(files, folder)
    remove_replaced(earlier, files["record"])
    return files
