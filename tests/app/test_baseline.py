"""``bmz test --baseline``: what was wrong before is known, what became worse fails."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmz.app.model_test import (
    BaselineUnreadable,
    changes,
    read_baseline,
    read_models,
    with_known_failures,
)
from bmz.cli.main import status_of
from bmz.report import tested_text
from bmz.report.tested_text import change_lines
from bmz.results.models import CheckStatus, ModelCheck, ModelTestResult, exit_status, strictly
from bmz.testing.package import description, write_package

STATUSES: tuple[CheckStatus, ...] = ("passed", "warning", "failed", "skipped")


def outcome(model: str = "m", **checks: CheckStatus) -> ModelTestResult:
    return ModelTestResult(
        model, tuple(ModelCheck(name, status, "why") for name, status in checks.items())
    )


def kept(folder: Path, *models: ModelTestResult) -> Path:
    (folder / "base.json").write_text(tested_text.model_tests_json(models), encoding="utf-8")
    return folder / "base.json"


@given(statuses=st.lists(st.sampled_from(STATUSES), min_size=1, max_size=5))
def test_a_result_has_not_changed_since_itself(
    statuses: list[CheckStatus], tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = outcome(**{f"c{i}": status for i, status in enumerate(statuses)})
    before = read_baseline(kept(tmp_path_factory.mktemp("b"), model))

    found = changes([model], before)

    assert found == ()
    assert exit_status([model], found) == 0
    assert "failed" not in {c.status for c in with_known_failures([model], found)[0].checks}


@pytest.mark.parametrize("was", [*STATUSES, None])
@pytest.mark.parametrize("now", [*STATUSES, None])
def test_what_is_worse_than_before_fails(was: CheckStatus | None, now: CheckStatus | None) -> None:
    before = {"m": {} if was is None else {"c": str(was)}}
    model = outcome() if now is None else outcome(c=now)

    found = changes([model], before)

    works = ("passed", "warning")
    worse = (now == "failed" and was != "failed") or (was in works and now not in works)
    assert exit_status([model], found) == int(worse)
    assert bool(found) == (was != now and not (was is None and now != "failed"))


def test_a_failure_of_a_model_that_the_baseline_does_not_know_fails() -> None:
    found = changes([outcome("new", c="failed")], {"m": {"c": "passed"}})

    assert exit_status([], found) == 1


def test_the_worse_come_first_in_words() -> None:
    models = [outcome("a", c="passed"), outcome("b", c="failed")]

    lines = change_lines(changes(models, {"a": {"c": "failed"}, "b": {"c": "passed"}}))

    assert [kind for kind, _ in lines] == ["error", "answer"]
    assert lines[0][1] == "b: c was passed, is failed (why)"
    assert change_lines(()) == [("answer", "nothing has changed since the baseline")]


def test_only_new_failures_are_failures_of_junit() -> None:
    models = [outcome("a", old="failed", new="failed")]
    found = changes(models, {"a": {"old": "failed", "new": "passed"}})

    (known,) = with_known_failures(models, found)

    assert [check.status for check in known.checks] == ["skipped", "failed"]
    assert known.checks[0].detail == "known before: why"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"schema": "bmz.check/1", "models": []}', '{"schema": "bmz.test/1"}']
)
def test_what_is_no_baseline_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(text)

    with pytest.raises(BaselineUnreadable, match="not a baseline"):
        read_baseline(tmp_path / "b.json")


def test_a_baseline_of_an_earlier_version_is_read_and_its_failures_are_known(
    tmp_path: Path,
) -> None:
    path = kept(tmp_path, outcome(halo="failed", loads="passed"))
    path.write_text(path.read_text().replace("bmz.test/2", "bmz.test/1"))

    found = changes([outcome(halo="warning", loads="passed")], read_baseline(path))

    assert [(one.before, one.now, one.worse) for one in found] == [("failed", "warning", False)]


def test_a_warning_that_was_there_before_is_known_to_a_strict_test_too(tmp_path: Path) -> None:
    path = kept(tmp_path, outcome(halo="warning", seams="passed"))
    now = strictly([outcome(halo="warning", seams="warning")])

    found = changes(now, read_baseline(path, strict=True))

    assert [(one.check, one.worse) for one in found] == [("seams", True)]


def test_models_are_read_one_a_line_without_comments(tmp_path: Path) -> None:
    (tmp_path / "models.txt").write_text("starter/nuclei\n\n# all\n  ./net  # ours\n")

    assert read_models(tmp_path / "models.txt") == ("starter/nuclei", "./net")
    with pytest.raises(BaselineUnreadable):
        read_models(tmp_path / "absent.txt")


def test_the_command_holds_a_model_to_its_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    manifest = write_package(tmp_path / "net", description(halo=4))
    status_of(["test", "./net", "--json"])
    (tmp_path / "base.json").write_text(capsys.readouterr().out)
    (tmp_path / "models.txt").write_text("./net\n")

    same = status_of(["test", "--list", "models.txt", "--baseline", "base.json"])
    words = capsys.readouterr().out
    (manifest.parent / "weights.onnx").write_bytes(b"damaged")
    worse = status_of(["test", "--baseline", "base.json", "--json"])
    document = json.loads(capsys.readouterr().out)
    junit = status_of(["test", "--baseline", "base.json", "--format", "junit"])
    failures = ET.fromstring(capsys.readouterr().out).findall(".//failure")  # noqa: S314  (our own)

    assert (same, worse, junit) == (0, 1, 1)
    assert "nothing has changed" in words
    assert any(change["worse"] for change in document["changes"])
    assert failures


def test_no_model_at_all_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["test"]) == 2
    assert "--baseline" in capsys.readouterr().err
