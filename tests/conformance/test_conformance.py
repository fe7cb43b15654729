"""A sample of the zoo's manifests, as stand-ins, passes, and the page of all of them is current."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.conformance.run import (
    SAMPLE,
    UNREADABLE,
    Row,
    conformance,
    live_aliases,
    page,
    row_line,
)
from tests.installed import skip_without

from bmz.predict.confine import means_here

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "conformance.md"

skip_without("torch", "tensorflow", "keras", "onnx", "onnxruntime", "bioimageio.core")


def table() -> dict[str, list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]
    return {row[0]: row for row in cells}


@pytest.mark.skipif(any(means_here().values()), reason="this computer cannot confine")
def test_a_sample_of_stand_ins_fares_as_the_page_says(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))

    rows = conformance(shared, tmp_path, SAMPLE, core=False)

    told = table()
    found = {row.alias: [row.ours, row.ran] for row in rows}
    assert found == {row.alias: told[row.alias][2:4] for row in rows}
    assert {row.alias: ", ".join(row.formats) for row in rows} == {
        row.alias: told[row.alias][1] for row in rows
    }


def test_the_page_has_every_live_model_and_counts_right(shared: Path) -> None:
    told = table()

    passed = sum(row[2] == "passed" for row in told.values())
    assert sorted(told) == live_aliases(shared)
    assert f"{passed} of {len(told)} stand-ins pass" in PAGE.read_text(encoding="utf-8")
    assert passed >= 130
    assert all(row[5] for row in told.values() if row[2] != "passed")
    assert set(UNREADABLE) <= {alias for alias, row in told.items() if row[2] == "no stand-in"}


def test_the_sample_names_every_format_of_the_zoo() -> None:
    told = table()

    of_sample = {name for alias in SAMPLE for name in told[alias][1].split(", ")}
    of_all = {name for row in told.values() for name in row[1].split(", ")} - {"-"}
    assert of_sample == of_all


def test_a_row_is_a_line_of_a_table_whatever_the_reason_says() -> None:
    row = Row("net", ("onnx",), "failed", "-", "a \\| b", "done")

    assert row_line(row) == "| net | onnx | failed | done | - | a \\| b |"
    assert row_line(row) in page([row])
