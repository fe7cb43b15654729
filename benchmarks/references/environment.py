"""An environment of the reference tools' own, and one call into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray

NEEDED = (
    "numpy==2.4.6", "scipy==1.17.1", "scikit-image==0.26.0", "numba==0.68.1", "torch==2.13.0",
    "tqdm", "tifffile", "imagecodecs", "fastremap", "fill-voids", "natsort", "six", "cython",
    "opencv-python-headless", "setuptools", "wheel", "pandas",
    "scikit-learn", "edt==3.1.2", "pyinstrument", "cloudpickle", "pyyaml",
)  # fmt: skip
"""What the functions that are called need, not all that their packages name."""

TOOLS = (
    "stardist==0.9.2", "csbdeep==0.8.2", "cellpose==3.1.1.3", "biapy==3.7.1", "torch-em==0.10.9",
    "python-elf==0.9.2", "bioimage-cpp==0.10.0", "tiatoolbox==2.1.3", "empanada-dl==0.1.7",
    "spotiflow==0.6.5", "omnipose==1.1.4", "ncolor==1.5.3", "dbscan==1.0.0",
)  # fmt: skip
"""The reference tools, without what they depend on: their pins exclude each other."""

CELLPOSE_4 = "cellpose==4.2.1.1"
"""In a folder of its own, that is put before the other Cellpose."""

SOURCE_ONLY = "deepcell-toolbox==0.12.1"
"""Only as source, and for Python before 3.11; two of its modules are run from the source."""

READY = "ready"
"""Name of the file that says that all of these versions are installed."""

WORKER = Path(__file__).with_name("worker.py")

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Environment:
    """A folder with a virtual environment, with what it takes to call the tools in it.

    Parameters
    ----------
    folder : made and filled by `prepared`, a few hundred MB
    """

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "venv" / "bin" / "python"

    def prepared(self) -> Environment:
        """Install what is missing; asks PyPI only where something is."""
        wanted = json.dumps([NEEDED, TOOLS, CELLPOSE_4, SOURCE_ONLY])
        planned = self.folder / READY
        if planned.exists() and planned.read_text() == wanted:
            return self
        venv.create(self.folder / "venv", with_pip=True, clear=True)
        self._pip("install", *NEEDED)
        self._pip("install", "--no-deps", *TOOLS)
        beside = ("--upgrade", "--target", self.folder / "cellpose4")
        self._pip("install", "--no-deps", *beside, CELLPOSE_4)
        self._pip(
            "download", "--no-deps", "--ignore-requires-python", "--no-binary", ":all:",
            "--no-build-isolation", "--dest", self.folder, SOURCE_ONLY,
        )  # fmt: skip
        (archive,) = self.folder.glob("*eep*ell*oolbox*.tar.gz")
        with tarfile.open(archive) as source:
            source.extractall(self.folder / "deepcell", filter="data")
        planned.write_text(wanted)
        return self

    def call(
        self, work: str, arrays: Sequence[AnyArray], options: Mapping[str, Any]
    ) -> tuple[list[AnyArray], list[float]]:
        """Let the worker do `work` with each of the arrays.

        Parameters
        ----------
        work : a name of ``WORKS`` in ``worker.py``
        arrays : one for each call
        options : keywords of the work

        Returns
        -------
        list of arrays, list of float
            what the work made of each, and the processor seconds that it took
        """
        with tempfile.TemporaryDirectory() as scratch:
            sent, back = Path(scratch, "sent.npz"), Path(scratch, "back.npz")
            np.savez(sent, **{str(n): values for n, values in enumerate(arrays)})
            subprocess.run(  # noqa: S603  (our own worker)
                [self.python, WORKER, self.folder, work, sent, back, json.dumps(options)],
                check=True,
                env=os.environ | ONE_THREAD,
            )
            with np.load(back) as done:
                made = [done[f"made{n}"] for n in range(len(arrays))]
                return made, done["seconds"].tolist()

    def _pip(self, *words: object) -> None:
        command = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
        subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr)  # noqa: S603  (as above)
