"""The codes of findings: their severities, which never change, and how people look them up."""

from __future__ import annotations

import re

import pytest

from bmz.check.codes import CODES, CodeUnknown, explain
from bmz.check.finding import ADAPTED, CheckReport, Finding, Severity

NOTES = (
    "axes.extra axes.order dtype.cast scale.unknown size.below-least size.off-step size.fixed "
    "task.no-labels objects.nothing-to-join"
)
WARNINGS = (
    "channel.empty channel.order dtype.narrowed object.size objects.not-joined "
    "objects.not-tracked output.nonfinite output.no-objects "
    "range.flat range.inverted range.outlier range.outside range.saturated range.unit "
    "scale.anisotropy scale.off"
)
ERRORS = (
    "axes.ambiguous axes.missing channel.count channel.rgb range.nonfinite scale.far "
    "scale.implausible package.missing-file package.hash-differs package.runs-code "
    "package.unknown-op "
    "weights.no-backend contract.model contract.image contract.intensity contract.objects "
    "contract.size"
)


@pytest.mark.parametrize(
    ("severity", "codes"), [("note", NOTES), ("warning", WARNINGS), ("error", ERRORS)]
)
def test_a_code_keeps_its_severity(severity: Severity, codes: str) -> None:
    assert sorted(codes.split()) == sorted(c for c, p in CODES.items() if p.severity == severity)


def test_only_notes_tell_of_what_is_adapted() -> None:
    assert {CODES[code].severity for code in ADAPTED} == {"note"}
    assert set(NOTES.split()) - ADAPTED == {
        "objects.nothing-to-join", "scale.unknown", "task.no-labels",
    }  # fmt: skip


def test_a_code_has_a_group_and_a_case_and_its_page_has_all_parts() -> None:
    for code, page in CODES.items():
        assert re.fullmatch(r"[a-z]+\.[a-z]+(-[a-z]+)*", code)
        assert page == explain(code)
        assert page.cause.endswith(".")
        assert page.cure.endswith((".", "?"))
        assert page.example
        assert page.example == page.example.strip()


@pytest.mark.parametrize(
    ("code", "listed"),
    [
        ("scale.fra", "scale.far, scale.off, scale.unknown, scale.implausible, scale.anisotropy"),
        ("object", "object.size"),
        ("task.no_labels", "task.no-labels"),
        ("Scale.far", ", ".join(CODES)),
        ("", ", ".join(CODES)),
    ],
)
def test_of_an_unknown_code_those_of_its_group_are_listed_or_all(code: str, listed: str) -> None:
    with pytest.raises(CodeUnknown) as caught:
        explain(code)

    assert caught.value.message == f"there is no finding with the code '{code}'"
    assert caught.value.hint == f"codes are: {listed}"
    assert (caught.value.code, caught.value.exit_status) == ("check.code-unknown", 2)


def of(code: str, severity: Severity) -> Finding:
    return Finding(code, severity, "raw", "so it is")


ADAPTS, UNKNOWN, LOOK, WRONG = (
    of("size.fixed", "note"),
    of("scale.unknown", "note"),
    of("scale.off", "warning"),
    of("scale.far", "error"),
)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ((), "fits"),
        ((UNKNOWN,), "fits"),
        ((LOOK,), "fits"),
        ((LOOK, ADAPTS, UNKNOWN), "adapts"),
        ((ADAPTS, WRONG), "mismatch"),
        ((LOOK, of("size.fixed", "error")), "mismatch"),
    ],
)
def test_the_verdict_is_that_of_the_worst_finding(
    findings: tuple[Finding, ...], verdict: str
) -> None:
    assert CheckReport(findings).verdict == verdict
    assert CheckReport(findings[::-1]).verdict == verdict


def test_errors_keep_their_order_and_a_report_with_more_leaves_the_first_as_it_was() -> None:
    other = of("channel.rgb", "error")
    report = CheckReport((WRONG, LOOK))

    more = report.with_more([other, UNKNOWN])

    assert more.findings == (WRONG, LOOK, other, UNKNOWN)
    assert more.errors == (WRONG, other)
    assert report.findings == (WRONG, LOOK)
