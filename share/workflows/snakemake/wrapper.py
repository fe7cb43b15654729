"""Snakemake wrapper: one image through one model by ``bmz run``.

Each named output is a kind of ``bmz run --save`` (or ``record``) and gets that file. Results are
made in a folder of their own and moved when all of them are there.
"""

__author__ = "bmz developers"
__copyright__ = "Copyright 2026, bmz developers"
__license__ = "BSD-3-Clause"

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

outputs = dict(snakemake.output.items())
if not outputs:
    raise ValueError("name the outputs of this rule as kinds of 'bmz run --save', such as labels")
extra = snakemake.params.get("extra", "")
kinds = [kind for kind in outputs if kind != "record"] or ["labels"]
form = "zarr" if outputs.get("labels", "").endswith(".zarr") else "tiff"

with tempfile.TemporaryDirectory(prefix=".bmz-", dir=".") as folder:
    command = [
        "bmz", "run", snakemake.params.model, snakemake.input[0], "--output", folder,
        "--save", ",".join(kinds), "--format", form,
        *(shlex.split(extra) if isinstance(extra, str) else map(str, extra)),
    ]  # fmt: skip
    with Path(snakemake.log[0] if len(snakemake.log) else os.devnull).open("w") as log:
        done = subprocess.run(command, check=False, stdout=log, stderr=subprocess.PIPE, text=True)
        log.write(done.stderr)
    if done.returncode:
        raise RuntimeError(f"bmz run ended with {done.returncode}: {done.stderr.strip()}")
    (record,) = Path(folder).rglob("*.run.json")
    files = json.loads(record.read_text(encoding="utf-8"))["files"]
    for kind, path in outputs.items():
        shutil.move(record.with_name(files[kind]), path)
