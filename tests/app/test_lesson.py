"""The lesson of the docs, run line by line on the module's images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs/tutorial/lesson.md"
IMAGES = {
    "membranes_nuclei.tif": "xyc_8bit__membranes_nuclei.tif",
    "hot_pixel.tif": "xyc_16bit__membranes_nuclei_hot_pixel.tif",
    "big.tif": "xyc_8bit__membranes_nuclei_big.tif",
}


def test_every_command_of_the_lesson_says_what_the_page_says(
    shared: Path, tmp_path: Path, commands: Path
) -> None:
    for model in ("cellpose-cyto", "stardist-dsb2018"):
        (tmp_path / model).symlink_to(shared / "models" / model)
    for name, source in IMAGES.items():
        shutil.copy(shared / "data/neubias" / source, tmp_path / name)
    path = os.pathsep.join((str(commands), os.environ["PATH"]))
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    for block in blocks:
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-ec", block], cwd=tmp_path,
            env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert done.returncode == 0, f"{block}\n{done.stderr}"
        for wanted in re.findall(r"^# -> (.*)$", block, re.MULTILINE):
            assert wanted in done.stdout, f"{block}\n{done.stdout}"
    assert len(blocks) == 11
