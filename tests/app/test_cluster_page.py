"""The job script of the page on clusters works, with a stand-in for SLURM's ``srun``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

pytest.importorskip("onnxruntime")
pytest.importorskip("distributed")

PAGE = Path(__file__).parents[2] / "docs/how-to/cluster.md"


def test_the_job_of_the_page_runs_all_images(tmp_path: Path) -> None:
    (script,) = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "bmz.sbatch").write_text(script, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "srun"
    stand_in.write_text('#!/bin/bash\ntrap \'kill $(jobs -p)\' TERM\n"$@" & "$@" & wait\n')
    stand_in.chmod(0o755)
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = (ndimage.gaussian_filter(rng.random((200, 200)), 5) * 40_000 - 18_000).clip(0)
        path = tmp_path / f"images/{number}.tif"
        tifffile.imwrite(path, pixels.astype(np.uint16), metadata={"axes": "YX"})
    places = (tmp_path / "bin", Path(sys.executable).parent, os.environ["PATH"])
    environment = {**os.environ, "PATH": os.pathsep.join(map(str, places)), "SLURM_JOB_ID": "7"}

    command = [shutil.which("bash") or "bash", "bmz.sbatch"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
        check=False, start_new_session=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").glob("*.labels.tif"))) == 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_only_who_holds_a_certificate_of_the_page_reaches_the_scheduler(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Who may reach the scheduler")[2]
    keys, start = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[:2]
    (settings,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = tmp_path / ".config" / "dask"
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.eye(64, dtype=np.uint8))
    places = (Path(sys.executable).parent, os.environ["PATH"])
    environment = {
        **os.environ, "PATH": os.pathsep.join(map(str, places)), "HOME": str(tmp_path),
        "DASK_CONFIG": str(config),
    }  # fmt: skip
    script = "\n".join(
        ["set -e", "cd", keys, "cat > ~/.config/dask/tls.yaml <<'END'",
         settings.replace("/home/me", str(tmp_path)), "END", "cd", "trap 'kill $(jobs -p)' EXIT",
         start, "status=$?", "bare=$(mktemp -d)",
         "export HOME=$bare DASK_CONFIG=$bare",
         "! bmz run starter/nuclei images/a.tif -o bare --scheduler scheduler.json",
         "exit $status"]
    )  # fmt: skip

    done = subprocess.run(
        [shutil.which("bash") or "bash", "-c", script], env=environment,
        capture_output=True, text=True, timeout=300, check=False, start_new_session=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "a.labels.tif").exists()
    assert "[cluster.no-scheduler]" in done.stderr
    assert (config / "tls" / "key.pem").stat().st_mode & 0o077 == 0
