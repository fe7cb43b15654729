"""Run the pre-commit hooks of this tree as a stranger does: ``python .ci/hooks.py PRE-COMMIT``.

``pre-commit try-repo`` installs bmz into an environment of its own and runs a hook on the files of
a small repository: a model, ``bmz.toml``, an image that fits it, and one that does not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
STARTER = ROOT / "src/bmz/starter"

CASES = (
    ("bmz-check", ["nuclei.tif"], 0),
    ("bmz-check", ["nuclei.tif", "empty.png"], 1),
    ("bmz-test", ["net/bioimageio.yaml"], 0),
)
"""Hook, files of the commit, and the exit status that is right."""

TEXT_AS_PICTURE = b"this is not a picture\n"


def lab(folder: Path) -> None:
    """Make the repository."""
    shutil.copytree(STARTER / "nuclei", folder / "net")
    shutil.copy(STARTER / "demo" / "nuclei.tif", folder)
    (folder / "empty.png").write_bytes(TEXT_AS_PICTURE)
    (folder / "bmz.toml").write_text('model = "./net"\n', encoding="utf-8")
    git = shutil.which("git") or "git"
    for words in (["init", "--quiet"], ["add", "."]):
        subprocess.run([git, *words], cwd=folder, check=True)


def main(pre_commit: str) -> int:
    """Run all cases; 1 where one ends otherwise."""
    wrong = 0
    home = ROOT / "build" / "pre-commit-home"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        lab(folder)
        for hook, files, expected in CASES:
            words = [pre_commit, "try-repo", str(ROOT), hook, "--verbose", "--files", *files]
            environment = {**os.environ, "PRE_COMMIT_HOME": str(home)}
            status = subprocess.run(words, cwd=folder, env=environment, check=False).returncode
            sys.stdout.write(f"{hook} {' '.join(files)}: exit status {status}\n")
            wrong += status != expected
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
