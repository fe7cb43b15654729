from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bmz.engine.cards import newest_reports, published, reports_url
from bmz.results.models import ToolReport
from bmz.testing.package import SmallZoo, sha256_of, small_zoo, write_package
from bmz.zoo.locate import locate
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings

NAMES = ("weights.onnx",)


@pytest.fixture
def zoo(tmp_path: Path) -> Iterator[SmallZoo]:
    pytest.importorskip("onnx")
    write_package(tmp_path / "zoo" / "able-cat")
    with small_zoo(tmp_path / "zoo") as served:
        yield served


@pytest.fixture
def settings(zoo: SmallZoo, tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache", index_url=zoo.index_url)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.4.2b9", "1.4.2b10"),
        ("1.4.2b10", "1.4.2rc1"),
        ("1.4.2rc1", "1.4.2"),
        ("1.4.1.post1", "1.4.2b5"),
        ("0.9.6", "0.10.0"),
        ("3.1.0-snapshot", "3.1.0"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_only_the_newest_version_of_a_tool_counts(older: str, newer: str, turned: bool) -> None:
    versions = (newer, older) if turned else (older, newer)

    reports = newest_reports({f"tool_{version}": {"status": "passed"} for version in versions})

    assert reports == (ToolReport("tool", newer, "passed"),)


def test_what_is_no_report_is_left_out() -> None:
    found = newest_reports({"a_1": "odd", "b_1": {"status": "unsure"}, "c_1": {"status": "failed"}})

    assert found == (ToolReport("c", "1", "failed"),)


def test_the_zoo_is_asked_once_a_day(zoo: SmallZoo, settings: ZooSettings) -> None:
    zoo.reports["able-cat"] = {"tests": {"biapy_1": {"status": "passed"}}}
    package = locate("able-cat", settings)
    sha256 = sha256_of(package.manifest)

    first = published(package, sha256, NAMES, settings)
    asked = len(zoo.log)
    second = published(package, sha256, NAMES, settings)

    assert first == second
    assert first.sizes == {"weights.onnx": (zoo.folder / "able-cat/weights.onnx").stat().st_size}
    assert first.reports == (ToolReport("biapy", "1", "passed"),)
    assert first.again_at > time.time() + 3600
    assert len(zoo.log) == asked


def test_a_model_without_reports_has_none(zoo: SmallZoo, settings: ZooSettings) -> None:
    package = locate("able-cat", settings)

    assert published(package, "0", NAMES, settings).reports == ()
    assert zoo.log[-1].endswith("reports/bioimage-io/able-cat/v0/summary.json")


def test_reports_on_another_content_say_nothing(zoo: SmallZoo, settings: ZooSettings) -> None:
    report = {"biapy_1": {"status": "passed"}}
    zoo.reports["able-cat"] = {"tests": report, "rdf_yaml_sha256": "f" * 64}

    assert published(locate("able-cat", settings), "0", NAMES, settings).reports == ()


@pytest.mark.parametrize("odd", [[], {}, {"tests": 3}, "text"], ids=str)
def test_a_summary_of_another_form_is_no_answer(
    zoo: SmallZoo, settings: ZooSettings, odd: object
) -> None:
    zoo.reports["able-cat"] = odd

    found = published(locate("able-cat", settings), "0", NAMES, settings)

    assert found.reports is None
    assert found.again_at < time.time() + 3700


def test_without_a_network_the_last_answer_is_given(zoo: SmallZoo, settings: ZooSettings) -> None:
    package = locate("able-cat", settings)
    before = published(package, "0", NAMES, settings)
    asked = len(zoo.log)

    offline = replace(settings, offline=True)

    assert published(package, "0", NAMES, offline) == before
    assert published(package, "0", ("other.pt",), offline) == before
    assert len(zoo.log) == asked


def test_a_damaged_note_is_written_anew(zoo: SmallZoo, settings: ZooSettings) -> None:
    package = locate("able-cat", settings)
    sha256 = sha256_of(package.manifest)
    before = published(package, sha256, NAMES, settings)
    (note,) = (package.manifest.parent / ".bmz").glob("published.*")
    note.write_text("{")
    asked = len(zoo.log)

    again = published(package, sha256, NAMES, settings)

    assert again.sizes == before.sizes
    assert len(zoo.log) > asked


def test_a_package_that_is_only_here_is_not_asked_about(tmp_path: Path) -> None:
    package = Package("m", tmp_path / "rdf.yaml")

    assert published(package, "0", NAMES, ZooSettings(tmp_path)).reports == ()
    assert reports_url(package, ZooSettings(tmp_path)) is None
