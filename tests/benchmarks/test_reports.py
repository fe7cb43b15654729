from __future__ import annotations

import json
from pathlib import Path

from benchmarks.reports import table_text

from bmz.spec.facts import REPORTS_TABLE, Reports, reports_of


def test_the_table_counts_the_newest_report_of_each_tool_and_what_a_tool_takes() -> None:
    matrix = {
        "core": {"0.9": {"cat": "passed"}, "0.10": {"cat": "failed", "dog": "passed"}},
        "ilastik": {"1.4": {"cat": "not-applicable", "dog": "passed"}},
    }

    assert json.loads(table_text(matrix))["models"] == {"cat": [0, 1], "dog": [2, 0]}


def test_the_table_is_what_the_published_reports_say(shared: Path) -> None:
    matrix = json.loads((shared / "zoo" / "compat_matrix.json").read_text())

    assert REPORTS_TABLE.read_text(encoding="utf-8") == table_text(matrix)


def test_a_model_of_which_nothing_is_published_has_no_reports() -> None:
    assert reports_of("no-such-model") == Reports()
    assert reports_of("bioimage-io/affable-shark/v0").passed > 0
