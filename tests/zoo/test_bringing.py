"""One file is brought here: measured, asked for again where it differs, and never half believed."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bmz.base.progress import Event, Progress, nobody
from bmz.zoo.errors import (
    FileNotInPackage,
    HashRefused,
    ModelNotFound,
    Offline,
    Refused,
    Unreachable,
)
from bmz.zoo.fetch import FetchedFile, WantedFile, fetch_files, sizes_of
from bmz.zoo.http import Answer, Client, RetryError
from bmz.zoo.locate import locate
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ARTIFACTS, ZooSettings
from bmz.zoo.store import Origin, keep_manifest
from bmz.zoo.transfer import Arrival, Download, Parcel, bring_settled

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

SHARK = f"{ARTIFACTS}/affable-shark"
BODY = b"0123456789"


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def taken(tmp_path: Path, answer: Answer, listener: Any = nobody) -> Download:
    room = tmp_path / "room"
    room.mkdir(exist_ok=True)
    parcel = Parcel("https://a.org/w", room, "w")
    download = Download(Client(ZooSettings(tmp_path)), parcel, listener)
    download._take(answer, 0, "")
    return download


def test_packed_answers_are_not_measured_by_the_length_of_the_package(tmp_path: Path) -> None:
    headers = {"content-length": "4", "content-encoding": "gzip"}

    download = taken(tmp_path, Answer(200, headers, iter([BODY])))

    assert download.sha256 == sha256_of(BODY)
    assert (tmp_path / "room" / "part").read_bytes() == BODY


def test_progress_is_told_each_megabyte_and_at_the_end(tmp_path: Path) -> None:
    events: list[Event] = []
    piece, count = b"x" * 2**18, 10

    taken(
        tmp_path,
        Answer(200, {"content-length": str(2**18 * count)}, iter([piece] * count)),
        events.append,
    )

    done = [2**20, 2**21, 2**18 * count]
    assert events == [Progress("bytes", n, 2**18 * count, "w") for n in done]


def test_of_an_answer_of_unknown_length_the_total_is_what_has_come(tmp_path: Path) -> None:
    events: list[Event] = []

    taken(tmp_path, Answer(200, {}, iter([b"x" * 2**20, b"x"])), events.append)

    assert events == [Progress("bytes", 2**20, 2**20, "w")]


def test_more_than_was_announced_is_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(RetryError, match="10 bytes arrived instead of 9"):
        taken(tmp_path, Answer(200, {"content-length": "9"}, iter([BODY])))

    assert not (tmp_path / "room" / "part").exists()


def bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *come: bytes, **how: Any) -> Arrival:
    """Bring a file of which `BODY` is wanted, while `come` comes, one after the other."""
    sent = iter(come)

    def stream(*_: object, **__: object) -> Any:
        return nullcontext(Answer(200, {}, iter([next(sent)])))

    monkeypatch.setattr(Client, "stream", stream)
    parcel = Parcel("https://a.org/w", tmp_path / "room", "w")
    client = Client(ZooSettings(tmp_path))
    found = bring_settled(client, parcel, sha256_of(BODY), nobody, **how)
    assert next(sent, None) is None  # all of them were asked for
    return found


@pytest.mark.parametrize(
    ("come", "allow_changed", "kept"),
    [
        ([BODY], False, BODY),
        ([b"a", BODY], False, BODY),
        ([b"a", b"a"], False, None),
        ([b"a", b"a"], True, b"a"),
        ([b"a", BODY, BODY], True, BODY),
        ([b"a", b"b", BODY], False, BODY),
    ],
)
def test_two_downloads_that_agree_are_believed_and_one_that_is_right(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    come: list[bytes],
    kept: bytes | None,
    *,
    allow_changed: bool,
) -> None:
    arrival = bodies(tmp_path, monkeypatch, *come, allow_changed=allow_changed)

    assert arrival.sha256 == sha256_of(come[-1])
    assert (arrival.path.read_bytes() if arrival.path else None) == kept


def test_a_file_that_comes_different_each_time_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unreachable, match=r"no answer from https://a\.org/w: its content differs"):
        bodies(tmp_path, monkeypatch, b"a", b"b", b"c")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, FileNotInPackage), (410, FileNotInPackage), (401, Refused), (403, Refused)],
)
def test_only_what_is_gone_counts_as_missing(
    service: Service, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    known = service.settings(tmp_path)
    package = locate("affable-shark", known)
    service.faults.refuse = status

    with pytest.raises(kind):
        fetch_files(package, [WantedFile("weights.onnx", None, "weights")], known)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, ModelNotFound), (410, ModelNotFound), (401, Refused), (403, Refused)]
)
def test_an_address_that_is_refused_is_not_told_as_one_where_nothing_lies(
    service: Service, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    service.faults.refuse = status

    with pytest.raises(kind, match=f"answered {status}: File not found"):
        locate(f"{SHARK}/files/rdf.yaml", service.settings(tmp_path))


def test_without_an_index_the_kept_version_that_was_asked_for_is_used_else_the_last(
    tmp_path: Path,
) -> None:
    away = ZooSettings(tmp_path, index_url="https://a.org/i.json", offline=True)
    for number, at in ((1, 300.0), (2, 100.0), (3, 200.0)):
        origin = Origin("net", f"v{number}", f"https://a.org/{number}", fetched_at=at)
        keep_manifest(away, f"id: net{number}".encode(), "rdf.yaml", origin)

    last, second = locate("net", away), locate("net/v2", away)

    assert last.manifest.read_bytes() == b"id: net1"  # the last that was fetched
    assert (second.manifest.read_bytes(), second.remote) == (
        b"id: net2",
        Remote("https://a.org/2", "v2"),
    )
    with pytest.raises(Offline, match=r"the description of 'net/v9'"):
        locate("net/v9", away)


def test_where_no_link_can_be_made_a_file_of_a_layer_is_copied(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_right(*_: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    weights = service.packages["affable-shark"]["weights.onnx"]
    file = WantedFile("weights.onnx", sha256_of(weights), "weights")
    fetch_files(
        locate("affable-shark", service.settings(tmp_path / "layer")),
        [file],
        service.settings(tmp_path / "layer"),
    )
    away = ZooSettings(tmp_path / "own", layers=(tmp_path / "layer",), offline=True)
    package = locate("affable-shark", away)
    monkeypatch.setattr(Path, "symlink_to", no_right)

    report = fetch_files(package, [file], away)

    here = package.manifest.parent / "weights.onnx"
    assert report.files == (FetchedFile("weights.onnx", "cached", len(weights), file.sha256 or ""),)
    assert not here.is_symlink()
    assert here.read_bytes() == weights


def test_a_file_of_a_zip_that_is_not_the_one_described_is_refused_unless_allowed(
    service: Service, tmp_path: Path
) -> None:
    known = service.settings(tmp_path)
    package = locate(f"{SHARK}/create-zip-file", known)
    wrong = WantedFile("weights.onnx", "0" * 64, "weights")

    with pytest.raises(HashRefused, match=f"wanted sha256 {'0' * 64}, found"):
        fetch_files(package, [wrong], known)
    taken_as_it_is = fetch_files(package, [wrong], known, allow_changed=True).files[0]
    asked = len(service.log)
    again = fetch_files(package, [wrong], known, allow_changed=True).files[0]

    assert (taken_as_it_is.action, again, len(service.log)) == (
        "changed-allowed", taken_as_it_is, asked,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("listing", "size"),
    [
        (b'[{"name": "w", "size": 3}, {"name": "v", "size": 4}]', 3),
        (b'[7, {"name": "v"}, {"size": 5}, {"name": "w", "size": 0}]', 0),
        (b"<html>", None),
        (b'{"name": "w", "size": 3}', None),
        (b'["w"]', None),
        (b'[{"name": "w"}]', None),
        (b'[{"name": "w", "size": "3"}]', None),
    ],
)
def test_a_size_is_what_a_sound_listing_says_and_else_unknown(
    tmp_path: Path, listing: bytes, size: int | None
) -> None:
    (tmp_path / "list").write_bytes(listing)
    files = "https://a.org/artifacts/net/files"
    mirrors = (
        (f"{files}/?silent=true", (tmp_path / "list").as_uri()),
        ("https://a.org", (tmp_path / "nothing").as_uri()),
    )
    known = ZooSettings(tmp_path / "cache", mirrors=mirrors)
    package = Package("net", tmp_path / "rdf.yaml", Remote(f"{files}/rdf.yaml"))

    assert sizes_of(package, ["w", "sub/x"], known) == {"w": size, "sub/x": None}


def test_names_of_files_are_written_so_that_no_part_of_them_is_a_query() -> None:
    name = "gr\xf6\xdfe/a b#1?x=2%.onnx"

    url = Remote(f"{SHARK}/files/rdf.yaml").file_url(name)

    assert url == f"{SHARK}/files/gr%C3%B6%C3%9Fe/a%20b%231%3Fx%3D2%25.onnx?silent=true"
