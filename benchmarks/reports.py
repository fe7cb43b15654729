"""Count the published reports about the models of the zoo, for ``src/bmz/spec/reports.json``.

Every tool publishes for each of its versions which models pass their own test. The newest version
of each tool with a report about a model counts. Models that a tool does not support are not
counted. Repeat: ``python benchmarks/reports.py ../shared/zoo/compat_matrix.json``, a file of
tool -> version -> model -> status, collected from the ``summary.json`` of each model below
https://bioimage-io.github.io/collection/reports/bioimage-io.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from bmz.engine.cards import newest_reports
from bmz.spec.facts import REPORTS_TABLE

Matrix = Mapping[str, Mapping[str, Mapping[str, str]]]
SOURCE = "reports of https://bioimage-io.github.io/collection as of 2026-05-20"


def counted(matrix: Matrix) -> dict[str, list[int]]:
    """Count for each model the tools that passed and that failed.

    Parameters
    ----------
    matrix : tool -> version -> model -> status
    """
    models = sorted({m for versions in matrix.values() for made in versions.values() for m in made})
    counts = {}
    for model in models:
        tests = {
            f"{tool}_{version}": {"status": made[model]}
            for tool, versions in matrix.items()
            for version, made in versions.items()
            if model in made
        }
        states = [report.status for report in newest_reports(tests)]
        counts[model] = [states.count("passed"), states.count("failed")]
    return counts


def table_text(matrix: Matrix) -> str:
    """Return the table as text with one line per model."""
    lines = ",\n".join(f"  {json.dumps(m)}: {json.dumps(c)}" for m, c in counted(matrix).items())
    return f'{{"source": {json.dumps(SOURCE)},\n "models": {{\n{lines}\n }}}}\n'


if __name__ == "__main__":
    REPORTS_TABLE.write_text(
        table_text(json.loads(Path(sys.argv[1]).read_text())), encoding="utf-8"
    )
