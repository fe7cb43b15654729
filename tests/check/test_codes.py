"""The codes of findings: their severities, which never change, and how people look them up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bmz
from bmz.base.errors import WrongUsage
from bmz.check.codes import CODES, CodeUnknown, Severity, explain
from bmz.check.finding import CheckReport, DoesNotFit, Finding, refuse_errors
from bmz.plan.recipe_choice import MakesNoLabels

NOTES = (
    "axes.extra axes.order dtype.cast scale.unknown size.below-least size.off-step size.fixed "
    "task.no-labels objects.nothing-to-join file.remark channel.grey channel.filled"
)
WARNINGS = (
    "content.structure content.not-microscopy sample.unlike "
    "file.caution channel.empty channel.order dtype.narrowed object.size objects.not-joined "
    "objects.not-tracked output.nonfinite output.no-objects prompts.outside "
    "range.flat range.inverted range.outlier range.outside range.saturated range.unit "
    "scale.anisotropy scale.off trial.doubtful trial.wrong"
)
ERRORS = (
    "axes.ambiguous axes.missing input.grid channel.count channel.rgb range.nonfinite scale.far "
    "scale.implausible package.missing-file package.hash-differs package.runs-code "
    "package.unknown-op "
    "weights.no-backend contract.model contract.image contract.intensity contract.objects "
    "contract.size contract.kind content.modality"
)


@pytest.mark.parametrize(
    ("severity", "codes"), [("note", NOTES), ("warning", WARNINGS), ("error", ERRORS)]
)
def test_a_code_keeps_its_severity(severity: Severity, codes: str) -> None:
    assert sorted(codes.split()) == sorted(c for c, p in CODES.items() if p.severity == severity)


def test_only_notes_tell_of_what_is_adapted() -> None:
    adapted = {code for code, known in CODES.items() if known.adapted}

    assert {"note"} == {CODES[code].milder or CODES[code].severity for code in adapted}
    assert set(NOTES.split()) - adapted == {
        "file.remark", "objects.nothing-to-join", "scale.unknown", "task.no-labels",
    }  # fmt: skip
    assert adapted - set(NOTES.split()) == {"channel.order"}


def test_the_table_gives_a_finding_its_severity() -> None:
    assert Finding.of("scale.off", "raw.x", "so it is").severity == "warning"
    assert Finding.of("scale.implausible", "raw.x", "so it is").severity == "error"
    assert Finding.of("scale.implausible", "raw.x", "so it is", milder=True).severity == "warning"


def test_a_finding_has_a_code_of_the_table_and_only_its_severities() -> None:
    with pytest.raises(KeyError, match=r"no\.code"):
        Finding.of("no.code", "raw", "so it is")
    with pytest.raises(ValueError, match=r"'scale\.off' has no milder case"):
        Finding.of("scale.off", "raw", "so it is", milder=True)


def test_an_error_of_another_room_is_a_finding_as_severe_as_its_code() -> None:
    known = MakesNoLabels("model", "its task is denoising")
    other = WrongUsage("it has none", hint="take another", code="weights.absent")

    assert Finding.of_error(known, "model").severity == "note"
    assert Finding.of_error(other, "model") == Finding(
        "weights.absent", "error", "model", "it has none", hint="take another"
    )


@pytest.mark.parametrize("code", ["axes.ambiguous", "axes.missing", "channel.count", "channel.rgb"])
def test_what_only_the_user_can_tell_is_refused_also_when_forced(code: str) -> None:
    forced, other = Finding.of("scale.far", "raw", "so it is"), Finding.of(code, "raw", "so it is")

    refuse_errors(Path("a.tif"), CheckReport((forced,)), force=True)
    with pytest.raises(DoesNotFit) as caught:
        refuse_errors(Path("a.tif"), CheckReport((forced, other)), force=True)

    assert caught.value.errors == (other,)
    assert "--force" not in caught.value.hint


def test_an_option_that_cures_a_finding_stands_on_its_page() -> None:
    cured = {code: entry for code, entry in CODES.items() if entry.cured_by}

    assert {entry.cured_by for entry in cured.values()} == {"--channels", "--scale", "--trust"}
    told = {code: entry.cure + entry.example for code, entry in cured.items()}
    assert [code for code in cured if cured[code].cured_by not in told[code]] == []


def test_no_module_that_sees_findings_decides_by_a_set_of_codes() -> None:
    root, rooms = Path(bmz.__file__).parent, ("app", "check", "engine", "report", "results")

    sets = [
        (path.name, node.lineno)
        for path in (path for room in rooms for path in (root / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Set)
        and any(isinstance(part, ast.Constant) and part.value in CODES for part in node.elts)
    ]

    assert sets == []


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
    assert caught.value.hint == f"the codes are: {listed}"
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
