"""Build the conda package of this tree by its recipe: ``python .ci/conda.py SDIST [CHANNEL]``.

The recipe names the sdist of a release on PyPI; here it is built of `SDIST`, a file or an unpacked
folder. It takes Python, pip and hatchling from `CHANNEL`, conda-forge or a folder. The tests of the
recipe need all that bmz needs, and run on the feedstock; what must be in the package is asked here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from rattler_build import (
    EnvironmentIsolation,
    Package,
    Stage0Recipe,
    ToolConfiguration,
    VariantConfig,
)

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "share/conda/recipe.yaml"
OUTPUT = ROOT / "build/conda"

WANTED = ("site-packages/bmz/cli/main.py", "site-packages/bmz/spec/facts.json")
"""Files without which the package is of no use."""


def main(sdist: Path, channel: str) -> int:
    """Build, and print what was made; 1 where a file is not in it."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe["source"] = {"path": str(sdist.resolve())}
    (variant,) = Stage0Recipe.from_dict(recipe).render(VariantConfig())
    made = variant.run_build(
        ToolConfiguration(test_strategy="skip"),
        OUTPUT,
        channels=[channel],
        env_isolation=EnvironmentIsolation.NONE,  # pip keeps its settings
    )
    (path,) = made.packages
    package = Package.from_file(path)
    files = set(map(str, package.files))
    missing = sorted(set(WANTED) - files)
    print(f"{path}: {package.name} {package.version}, {len(files)} files; not in it: {missing}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *(sys.argv[2:] or ["conda-forge"])))
