"""Inputs that people had trouble with: each ends as it should, or says what is wrong."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CASES: dict[str, tuple[tuple[int, str], ...]] = {
    "01_micromanager_display_settings": ((0, r"\b25 objects"), (0, r"\b25 objects")),
    "03_first_image_of_several": ((0, r"(?s)25 objects.*16 objects"),) * 2,
    "05_ometiff_part_alone": ((3, r"missing: 'img_C1\.ome\.tif'"),),
    "07_ometiff_counts_more_planes": ((0, r"\b25 objects"),),
    "08_palette_tiff": (
        (0, r"(?s)25 objects.*25 objects"),
        (0, r"0\.95\s+1\.000"),
    ),
    "09_score_foreground_as_truth": ((3, r"25 separate pieces"),),
    "11_score_indexed_png": ((0, r"0\.95\s+1\.000"),),
    "12_score_labels_in_zarr": ((0, r"0\.95\s+1\.000"),),
    "14_plate_with_missing_wells": ((1, r"A/2/1, A/3, B/2, B/3 are listed but not there"),),
    "15_stack_of_one_plane": ((0, r"objects?\b"),),
    "18_words_that_mislead": (
        (3, r"is a link to '/nowhere/x\.tif', which does not exist"),
        (1, r"NaN or infinite"),
        (3, r"format 1\.0"),
    ),
    "19_pixel_size_of_lsm_and_svs": ((1, r"scale\.far"), (0, r"0\.768")),
}
"""Script -> exit status of each command that it prints, and what its output must hold."""


@pytest.mark.parametrize("name", CASES)
def test_a_case_that_stopped_people_ends_as_it_should(
    name: str, shared: Path, tmp_path: Path, commands: Path
) -> None:
    script = shared / "cases" / f"{name}.py"
    told = subprocess.run(
        [sys.executable, script, tmp_path], cwd=shared.parent / "shared", check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    lines = re.findall(r"^run: +bmz (.*)$", told, re.MULTILINE)

    assert len(lines) == len(CASES[name])
    for number, (line, (status, text)) in enumerate(zip(lines, CASES[name], strict=True)):
        words = [w.replace("../shared", str(shared)) for w in shlex.split(line)]
        words = [f"{w}{number}" if w.endswith("/results") else w for w in words]
        done = subprocess.run(
            [commands / "bmz", *words], capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == status, output
        assert re.search(text, output), output
        assert "RuntimeWarning" not in output
