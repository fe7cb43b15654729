"""Run one image: in one piece, or in parts where it would need too much memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.base.files import claimed, disk_faults_told
from bmz.base.memory import free_memory
from bmz.base.progress import Listener
from bmz.engine.image_run import run_image
from bmz.engine.in_parts import bytes_in_one_piece, can_stream
from bmz.engine.job import Job, Ready, make_ready
from bmz.engine.memory_probe import with_fitting_tiles
from bmz.engine.request import RunRequest
from bmz.engine.resume import finished
from bmz.engine.stream_network import ThisProcess
from bmz.engine.streamed import run_streamed
from bmz.image.plates import PlateField
from bmz.predict.backend import Backend
from bmz.results.run import ImageDone, ImageFailed
from bmz.write.names import OutputClaimed, refuse_existing


def ready_or_failed(job: Job, image: Path, field: PlateField | None = None) -> Ready | ImageFailed:
    """Check the header of an image and plan its run, or give the error."""
    try:
        return make_ready(job, image, field)
    except BmzError as error:
        return ImageFailed(image, error)


def run_one(
    job: Job, ready: Ready, backend: Backend, files: Mapping[str, Path], listener: Listener
) -> ImageDone:
    """Run one image: in one piece, or in parts where it would need too much memory.

    Raises
    ------
    OutputClaimed, OutputExists
        Another run is writing these files, or has written them since this one began.
    FolderNotWritable
        The disk is full or limits files, or the folder is no more.
    BmzError
        See `bmz.engine.image_run.run_image`.
    """
    with claimed_output(job, ready.image, files) as done:
        if done is not None:
            return done
        if job.request.engine == "bmz":
            ready = with_fitting_tiles(job, ready, backend)
        if in_parts(ready, job):
            return run_streamed(job, ready, ThisProcess(backend), files, listener)
        return run_image(job, ready, backend, files, listener)


@contextmanager
def claimed_output(job: Job, image: Path, files: Mapping[str, Path]) -> Iterator[ImageDone | None]:
    """Hold the only right to write the files of an image while the block runs.

    Yields
    ------
    ImageDone or None
        what another run with ``--resume`` has finished meanwhile

    Raises
    ------
    OutputClaimed, OutputExists, FolderNotWritable
        See `run_one`.
    """
    request = job.request
    number = sha256(str(files["record"].absolute()).encode()).hexdigest()[:16]
    with disk_faults_told(request.folder), claimed(request.folder / number) as ours:
        if not ours:
            raise OutputClaimed(files["record"])
        replaces = request.overwrite
        done = finished(job, image, files) if request.resume and not replaces else None
        if not (replaces or request.resume):
            refuse_existing(list(files.values()))
        yield done


def in_parts(ready: Ready, job: Job) -> bool:
    """Say whether an image needs more memory than it may have, and can be run in parts."""
    return bytes_in_one_piece(ready, job) > memory_limit(job.request) and can_stream(ready, job)


def in_one_piece(job: Job, ready: Ready) -> bool:
    """Say whether an image is read and labelled as a whole."""
    return not in_parts(ready, job)


def memory_limit(request: RunRequest) -> float:
    """Give the bytes from which on an image is run in parts."""
    if request.memory_gb is not None:
        return request.memory_gb * 1e9
    return free_memory() / 2
