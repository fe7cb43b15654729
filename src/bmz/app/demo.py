"""``bmz demo``: the main job on a bundled image with a bundled model."""

from __future__ import annotations

from pathlib import Path

from bmz.app.run import run
from bmz.base.progress import Listener, nobody
from bmz.engine.request import RunRequest
from bmz.results.images import RunSummary
from bmz.zoo.locate import starter_folder

MODEL = "starter/nuclei"


def demo_image() -> Path:
    """Give the bundled image: nuclei of DSB 2018 stage 1, CC0."""
    return starter_folder() / "demo" / "nuclei.tif"


def run_demo(folder: Path, listener: Listener = nobody) -> RunSummary:
    """Run the bundled model on the bundled image; earlier results are replaced.

    Parameters
    ----------
    folder : for the outputs
    """
    request = RunRequest(model=MODEL, images=(demo_image(),), folder=folder, overwrite=True)
    return run(request, listener)
