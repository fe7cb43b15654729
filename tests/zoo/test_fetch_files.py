"""The files of a package arrive whole and verified, or not at all."""

from __future__ import annotations

import errno
import io
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bmz.base.errors import CouldNotTell
from bmz.base.files import sha256_of
from bmz.base.progress import Event, Note, Progress
from bmz.zoo.cache import verify_cache
from bmz.zoo.errors import (
    CacheFull,
    CacheUnwritable,
    CertificateRefused,
    FileLeavesPackage,
    FileNotInPackage,
    HashRefused,
    Offline,
    Refused,
    Unreachable,
)
from bmz.zoo.fetch import FetchReport, WantedFile, fetch_files, judge, sizes_of
from bmz.zoo.locate import locate
from bmz.zoo.package import Package
from bmz.zoo.settings import ARTIFACTS, ZooSettings
from bmz.zoo.store import Stamp

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

SHARK = f"{ARTIFACTS}/affable-shark"


def wanted(service: Service, name: str = "weights.onnx", *, hashed: bool = True) -> WantedFile:
    body = service.packages["affable-shark"][name]
    return WantedFile(name, hash_of(body) if hashed else None, "a part")


def hash_of(body: bytes) -> str:
    from hashlib import sha256

    return sha256(body).hexdigest()


def fetch(
    service: Service, cache: Path, *files: WantedFile, word: str = "affable-shark", **how: Any
) -> FetchReport:
    settings = service.settings(cache)
    return fetch_files(locate(word, settings), files or [wanted(service)], settings, **how)


def content(report: FetchReport, name: str = "weights.onnx") -> bytes:
    return (report.package.manifest.parent / name).read_bytes()


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make young files count as old."""
    monkeypatch.setattr("bmz.zoo.store.SETTLED_S", -60.0)
    assert folder.is_dir()


def test_files_come_once_and_lie_beside_the_manifest(service: Service, tmp_path: Path) -> None:
    files = [wanted(service), wanted(service, "sub/more.txt"), wanted(service, "test_input.npy")]

    first = fetch(service, tmp_path, *files)
    asked = len(service.log)
    second = fetch(service, tmp_path, *files)

    assert [file.action for file in first.files] == ["downloaded"] * 3
    assert [file.action for file in second.files] == ["cached"] * 3
    assert [replace(f, action="cached") for f in first.files] == list(second.files)
    assert content(second, "sub/more.txt") == b"more"
    assert len(service.log) == asked


def test_a_download_tells_how_far_it_is(service: Service, tmp_path: Path) -> None:
    events: list[Event] = []

    fetch(service, tmp_path, listener=events.append)

    assert events[-1] == Progress("bytes", 200_000, 200_000, "weights.onnx")


@pytest.mark.parametrize("redirect", [False, True])
def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    service: Service, tmp_path: Path, *, redirect: bool
) -> None:
    service.faults.cuts, service.faults.redirect = 7, redirect

    report = fetch(service, tmp_path)

    ranges = [line.rsplit(" ", 1)[-1] for line in service.asked_for("weights.onnx")]
    assert content(report) == service.packages["affable-shark"]["weights.onnx"]
    if not redirect:
        assert ranges == ["", *(f"bytes={16_384 * n}-" for n in range(1, 8))]


def test_a_service_without_ranges_is_asked_for_the_whole_again(
    service: Service, tmp_path: Path
) -> None:
    service.faults.cuts, service.faults.ranges = 2, False

    report = fetch(service, tmp_path)

    assert content(report) == service.packages["affable-shark"]["weights.onnx"]


def test_a_file_that_changes_while_it_comes_is_begun_anew(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.faults.cuts = 1
    name = "test_input.npy"
    service.packages["affable-shark"][name] = b"a" * 90_000
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)

    def change(_: float) -> None:
        service.packages["affable-shark"][name] = b"b" * 90_000

    monkeypatch.setattr("bmz.zoo.http.pause", change)
    report = fetch_files(package, [WantedFile(name, None, "x")], settings)

    assert content(report, name) == b"b" * 90_000


def test_a_part_from_an_earlier_run_is_continued(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.faults.cuts = 1
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)

    def leave(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("bmz.zoo.http.pause", leave)
        with pytest.raises(KeyboardInterrupt):
            fetch_files(package, [wanted(service)], settings)
    report = fetch_files(package, [wanted(service)], settings)

    assert service.log[-1].endswith("bytes=16384-")
    assert content(report) == service.packages["affable-shark"]["weights.onnx"]


def test_a_file_that_differs_is_refused_with_both_hashes_named(
    service: Service, tmp_path: Path
) -> None:
    right = wanted(service)
    service.packages["affable-shark"]["weights.onnx"] = b"another"

    with pytest.raises(HashRefused) as caught:
        fetch(service, tmp_path, right)

    assert str(right.sha256) in caught.value.message
    assert hash_of(b"another") in caught.value.message
    assert caught.value.code == "package.hash-differs"
    assert len(service.asked_for("weights.onnx")) == 2
    assert not list(tmp_path.rglob("weights.onnx"))


def test_a_file_that_differs_is_taken_when_that_is_allowed_and_only_then(
    service: Service, tmp_path: Path
) -> None:
    right = wanted(service)
    service.packages["affable-shark"]["weights.onnx"] = b"another"

    first = fetch(service, tmp_path, right, allow_changed=True)
    asked = len(service.log)
    second = fetch(service, tmp_path, right, allow_changed=True)

    assert [first.files[0].action, second.files[0].action] == ["changed-allowed"] * 2
    assert first.files[0].sha256 == hash_of(b"another")
    assert len(service.log) == asked
    assert {state.status for state in verify_cache(service.settings(tmp_path))} == {"whole"}
    with pytest.raises(HashRefused):
        fetch(service, tmp_path, right)


@pytest.mark.parametrize("allow_changed", [False, True])
def test_a_file_damaged_on_its_way_is_asked_for_again(
    service: Service, tmp_path: Path, *, allow_changed: bool
) -> None:
    locate("affable-shark", service.settings(tmp_path))
    service.faults.flips = 1

    report = fetch(service, tmp_path, allow_changed=allow_changed)

    assert report.files[0].action == "downloaded"
    assert content(report) == service.packages["affable-shark"]["weights.onnx"]


def test_a_file_without_a_hash_must_stay_what_it_was_first(
    service: Service, tmp_path: Path
) -> None:
    unhashed = wanted(service, "test_input.npy", hashed=False)
    first = fetch(service, tmp_path, unhashed)
    path = first.package.manifest.parent / "test_input.npy"
    path.write_bytes(b"damaged")

    mended = fetch(service, tmp_path, unhashed)
    path.unlink()
    service.packages["affable-shark"]["test_input.npy"] = b"replaced in the zoo"

    assert mended.files[0].action == "downloaded"
    assert mended.files[0].sha256 == first.files[0].sha256
    with pytest.raises(HashRefused, match=first.files[0].sha256):
        fetch(service, tmp_path, unhashed)


def test_a_file_is_hashed_again_only_when_it_was_touched(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch)
    report = fetch(service, tmp_path)
    path = report.package.manifest.parent / "weights.onnx"
    hashed: list[Path] = []

    def noting(path: Path) -> str:
        hashed.append(path)
        return sha256_of(path)

    monkeypatch.setattr("bmz.zoo.store.sha256_of", noting)

    fetch(service, tmp_path)
    untouched = len(hashed)
    path.touch()
    fetch(service, tmp_path)

    assert (untouched, len(hashed)) == (0, 1)


def test_a_flipped_bit_is_seen_even_when_size_and_time_were_put_back(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch)
    report = fetch(service, tmp_path)
    path = report.package.manifest.parent / "weights.onnx"
    before = path.stat()
    time.sleep(0.02)
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    mended = fetch(service, tmp_path)

    assert mended.files[0].action == "downloaded"
    assert content(mended) == service.packages["affable-shark"]["weights.onnx"]


def test_a_young_stamp_is_not_trusted() -> None:
    stamp = Stamp("w", "a", "a", 1, 10, 10, 10)

    assert judge(stamp, "a", allow_changed=False) == "cached"
    assert judge(stamp, "b", allow_changed=True) is None
    assert judge(None, None, allow_changed=True) is None
    assert not stamp.is_of(Path(__file__))


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a/../../x", "C:/x", "..\\x", ".bmz/origin.json", ""]
)
def test_a_file_outside_its_package_is_refused_before_anything_is_asked(
    service: Service, tmp_path: Path, name: str
) -> None:
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)
    service.log.clear()

    with pytest.raises(FileLeavesPackage):
        fetch_files(package, [WantedFile(name, None, "x")], settings)

    assert not service.log


def test_a_file_that_the_zoo_lacks_is_named(service: Service, tmp_path: Path) -> None:
    with pytest.raises(FileNotInPackage, match=r"weights\.pt.*\(torch weights\)"):
        fetch(service, tmp_path, WantedFile("weights.pt", None, "torch weights"))


def test_a_refusal_carries_the_words_of_the_service(service: Service, tmp_path: Path) -> None:
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)
    service.faults.refuse = 403

    with pytest.raises(Refused, match="403: File not found"):
        fetch_files(package, [wanted(service)], settings)


def test_a_service_that_stays_busy_is_given_up_after_growing_waits(
    service: Service, tmp_path: Path, waits: list[float]
) -> None:
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)
    service.faults.busy = 99

    with pytest.raises(Unreachable) as caught:
        fetch_files(package, [wanted(service)], settings)

    assert "503" in caught.value.message
    assert waits == [0.5, 1.0, 2.0, 4.0]


def test_a_file_with_an_address_of_its_own_is_fetched_from_there(
    service: Service, tmp_path: Path
) -> None:
    there = WantedFile("weights.pt", None, "x", url=f"{service.url}/s3/affable-shark/weights.onnx")

    report = fetch(service, tmp_path, there)

    assert content(report, "weights.pt") == service.packages["affable-shark"]["weights.onnx"]


def test_sizes_are_known_before_anything_is_fetched(service: Service, tmp_path: Path) -> None:
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)

    sizes = sizes_of(package, ["weights.onnx", "sub/more.txt", "nothing"], settings)
    offline = sizes_of(package, ["weights.onnx"], replace(settings, offline=True))

    assert sizes == {"weights.onnx": 200_000, "sub/more.txt": 4, "nothing": None}
    assert offline == {"weights.onnx": None}


def test_a_damaged_file_of_a_zip_package_is_taken_from_the_zip_again(
    service: Service, tmp_path: Path
) -> None:
    word = f"{SHARK}/create-zip-file"
    first = fetch(service, tmp_path, word=word)
    (first.package.manifest.parent / "weights.onnx").write_bytes(b"damaged")

    mended = fetch(service, tmp_path, word=word)

    assert [first.files[0].action, mended.files[0].action] == ["cached", "downloaded"]
    assert content(mended) == service.packages["affable-shark"]["weights.onnx"]
    assert len(service.asked_for("create-zip-file")) == 2
    with pytest.raises(FileNotInPackage):
        fetch(service, tmp_path, WantedFile("nothing", None, "x"), word=word)


def test_files_of_a_local_package_are_verified_where_they_lie(
    service: Service, tmp_path: Path
) -> None:
    (tmp_path / "rdf.yaml").write_text("type: model")
    (tmp_path / "w.onnx").write_bytes(b"weights")
    package, settings = Package("mine", tmp_path / "rdf.yaml"), service.settings(tmp_path / "c")
    right = WantedFile("w.onnx", hash_of(b"weights").upper(), "weights")
    wrong = replace(right, sha256="0" * 64)

    report = fetch_files(package, [right], settings)
    allowed = fetch_files(package, [wrong], settings, allow_changed=True)

    assert (report.files[0].action, report.files[0].bytes) == ("cached", 7)
    assert allowed.files[0].action == "changed-allowed"
    with pytest.raises(HashRefused):
        fetch_files(package, [wrong], settings)
    with pytest.raises(FileNotInPackage):
        fetch_files(package, [replace(right, name="x.onnx")], settings)
    assert not (tmp_path / "c").exists()
    assert not service.log


def test_a_layer_serves_what_it_has_and_is_never_written_to(
    service: Service, tmp_path: Path
) -> None:
    fetch(service, tmp_path / "layer")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "layer").rglob("*")}
    layered = ZooSettings(tmp_path / "own", layers=(tmp_path / "layer",), offline=True)
    package = locate("affable-shark", layered)

    report = fetch_files(package, [wanted(service)], layered)
    again = fetch_files(package, [wanted(service)], layered)

    assert package.manifest.is_relative_to(tmp_path / "own")
    assert report.files == again.files
    assert report.files[0].action == "cached"
    assert (package.manifest.parent / "weights.onnx").is_symlink()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "layer").rglob("*")}


def test_a_damaged_file_of_a_layer_is_fetched_instead(service: Service, tmp_path: Path) -> None:
    shared = fetch(service, tmp_path / "layer")
    (shared.package.manifest.parent / "weights.onnx").write_bytes(b"damaged")
    layered = service.settings(tmp_path / "own", layers=(tmp_path / "layer",))

    report = fetch_files(locate("affable-shark", layered), [wanted(service)], layered)

    assert report.files[0].action == "downloaded"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_and_the_download_goes_on_when_there_is_room(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Full(io.BufferedWriter):
        def write(self, piece: Any, /) -> int:
            if self.tell() + len(piece) > 20_000:
                super().write(piece[: 20_000 - self.tell()])
                raise OSError(code, os.strerror(code))
            return super().write(piece)

    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)
    opened = Path.open

    def full(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if mode == "ab":
            return Full(io.FileIO(path, "ab"))
        return opened(path, mode, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(CacheFull) as caught:
            fetch_files(package, [wanted(service)], settings)
    report = fetch_files(package, [wanted(service)], settings)

    assert (caught.value.code, caught.value.exit_status) == ("cache.full", 3)
    assert content(report) == service.packages["affable-shark"]["weights.onnx"]
    assert service.log[-1].endswith("bytes=20000-")


def test_a_cache_that_is_a_file_is_unwritable(service: Service, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")

    with pytest.raises(CacheUnwritable, match="cannot write to the cache"):
        locate("affable-shark", service.settings(tmp_path / "cache"))


def test_a_certificate_that_is_not_accepted_is_no_reason_to_try_again(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    import requests

    def refuse(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("certificate verify failed: self-signed certificate")

    monkeypatch.setattr("requests.Session.get", refuse)

    with pytest.raises(CertificateRefused, match="self-signed") as caught:
        locate(f"{SHARK}/files/rdf.yaml", service.settings(tmp_path))

    assert "REQUESTS_CA_BUNDLE" in caught.value.hint
    assert not waits


def test_nobody_at_the_other_end_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

    with pytest.raises(Unreachable, match="refused"):
        locate(f"http://127.0.0.1:{port}/x/rdf.yaml", ZooSettings(tmp_path))


def test_offline_opens_no_socket_and_what_is_cached_works(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bmz.zoo.index import load_index

    load_index(service.settings(tmp_path))
    fetch(service, tmp_path)
    settings = replace(service.settings(tmp_path), offline=True)

    def guard(*_: object) -> None:
        raise AssertionError("a socket was connected")

    monkeypatch.setattr(socket.socket, "connect", guard)
    monkeypatch.setattr(socket, "getaddrinfo", guard)
    package = locate("10.5281/zenodo.5874841", settings)
    report = fetch_files(locate("affable-shark", settings), [wanted(service)], settings)

    assert package.id == "kind-seashell"
    assert report.files[0].action == "cached"
    assert len(load_index(settings, refresh=True).entries) == 3
    assert sizes_of(package, ["weights.onnx"], settings) == {"weights.onnx": None}
    with pytest.raises(Offline) as caught:
        fetch_files(package, [WantedFile("weights.onnx", None, "onnx weights")], settings)
    assert "'weights.onnx' (onnx weights) of 'kind-seashell'" in caught.value.message
    assert "bmz fetch kind-seashell" in caught.value.hint
    for word in ("huggingface/a/b", f"{SHARK}/m.zip", "https://a.org/rdf.yaml", "no-model"):
        with pytest.raises(CouldNotTell):
            locate(word, settings)


def test_two_at_once_download_once_and_the_second_says_that_it_waits(
    service: Service, tmp_path: Path
) -> None:
    settings = service.settings(tmp_path)
    package = locate("affable-shark", settings)
    begun = threading.Event()
    service.log.clear()
    heard: list[Event] = []
    reports: list[FetchReport] = []

    def first(_: Event) -> None:
        begun.set()
        time.sleep(0.15)

    def load(listener: Any) -> None:
        reports.append(fetch_files(package, [wanted(service)], settings, listener=listener))

    one = threading.Thread(target=load, args=(first,))
    one.start()
    begun.wait()
    load(heard.append)
    one.join()

    assert [report.files[0].sha256 for report in reports] == [wanted(service).sha256] * 2
    assert sorted(report.files[0].action for report in reports) == ["cached", "downloaded"]
    assert "waiting" in next(event.text for event in heard if isinstance(event, Note))
    assert len(service.log) == 1
