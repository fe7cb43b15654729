"""What Linux has and other systems lack is asked for only where it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytest.importorskip("onnxruntime")

HIDDEN = """
import os, sys

import platformdirs  # it asks os.getuid for a module of Linux, of which other systems have others

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "pwd", "grp", "termios"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Hidden())
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
for name in ("memfd_create", "getuid", "getgid", "sched_getaffinity", "fork", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)

from bmz.cli.main import status_of

sys.exit(status_of(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "-o", "demo"),
        ("check", "starter/nuclei", "image.tif"),
        ("run", "starter/nuclei", "image.tif", "-o", "results"),
        ("test", "starter/nuclei"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_works_without_the_modules_that_windows_lacks(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).normal(20, 3, (96, 96))
    y, x = np.mgrid[:96, :96]
    for centre in ((24, 30), (60, 70), (70, 22)):
        noise += 120 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 60)
    tifffile.imwrite(tmp_path / "image.tif", noise.clip(0, 255).astype(np.uint8))

    ended = subprocess.run(
        [sys.executable, "-c", HIDDEN, *words], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("layout", ["text", "junit"])
def test_a_name_that_the_code_page_of_the_terminal_lacks_is_written_with_escapes(
    layout: str, tmp_path: Path
) -> None:
    image = tmp_path / "Кириллица-中.tif"
    tifffile.imwrite(image, np.zeros((64, 64), np.uint8))

    words = ["-m", "bmz", "check", "starter/nuclei", str(image), "--format", layout]
    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", *words],
        env={"PYTHONIOENCODING": "cp1252", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)},
        capture_output=True, check=False,
    )  # fmt: skip

    told = ended.stdout + ended.stderr
    assert ended.returncode in (0, 1), told.decode("cp1252")
    escaped = {"text": "backslashreplace", "junit": "xmlcharrefreplace"}[layout]
    assert image.name.encode("ascii", escaped) in told
