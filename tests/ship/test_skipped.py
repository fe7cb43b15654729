"""What tests are skipped for lack of is told at the end, in one line for each thing."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def test_tests_that_lack_the_same_thing_have_one_line_at_the_end(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BMZ_TEST_DATA", str(pytester.path / "absent"))
    monkeypatch.setenv("PATH", str(pytester.path))
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    for name in ("test_one", "test_two"):
        functions = "def test_a(shared): ...\ndef test_b(shared): ...\ndef test_c(chromium): ...\n"
        pytester.makepyfile(**{name: functions})

    result = pytester.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=6)
    shared, chromium = (line for line in result.outlines if line.startswith("SKIPPED"))
    assert shared.startswith("SKIPPED [4] conftest.py: needs ../shared")
    assert chromium.startswith("SKIPPED [2] conftest.py: needs Chromium")
