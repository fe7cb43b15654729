"""Fractal task: labels of a model of the BioImage Model Zoo in an OME-Zarr image."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile

logger = logging.getLogger(__name__)


def run_model(
    *,
    zarr_url: str,
    model: str,
    label_name: str = "bmz",
    channels: list[str] | None = None,
    scale: str = "off",
    link_iou: float | None = None,
    results: str | None = None,
    overwrite: bool = False,
) -> None:
    """Run a model of the BioImage Model Zoo on an OME-Zarr image.

    The labels are written into the image, with a pyramid and a record of where they come from. The
    image is checked first; where it does not fit the model, the task fails and says why.

    Args:
        zarr_url: Path of the OME-Zarr image.
        model: Nickname, DOI, URL or path of a model, such as `affable-shark`.
        label_name: Name of the labels in the image.
        channels: Names or numbers of the channels that the model gets, in its order.
        scale: `auto` resizes the image to the object size of the model; `off`, or a factor.
        link_iou: Least overlap by which objects of neighbouring planes are joined, such as 0.25.
        results: Folder for a table of objects, an overlay and the record; none by default.
        overwrite: Whether results of an earlier run are replaced.
    """
    command = [
        sys.executable, "-m", "bmz", "run", model, zarr_url, "--into-image", label_name,
        "--save", "labels" if results is None else "overlay,table", "--scale", scale,
    ]  # fmt: skip
    if channels:
        command += ["--channels", ",".join(channels)]
    if link_iou is not None:
        command += ["--link", str(link_iou)]
    if overwrite:
        command.append("--overwrite")
    with tempfile.TemporaryDirectory() as scratch:
        command += ["--output", scratch if results is None else results]
        logger.info("running %s", " ".join(command))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    logger.info("%s%s", done.stdout, done.stderr)
    if done.returncode:
        raise RuntimeError(f"bmz run ended with {done.returncode}: {done.stderr.strip()}")


if __name__ == "__main__":
    from fractal_task_tools.task_wrapper import run_fractal_task

    run_fractal_task(task_function=run_model)
