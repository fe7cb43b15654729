"""Whoever answers slowly, or never to any use, is given up on and named."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bmz.base.errors import CouldNotTell
from bmz.base.progress import nobody
from bmz.cli.main import status_of
from bmz.zoo.errors import LimitUnclear, Refused, Unreachable
from bmz.zoo.fetch import WantedFile, fetch_files
from bmz.zoo.http import Client, Handover, TimeLimit, TooSlowError
from bmz.zoo.package import Package, Remote
from bmz.zoo.settings import ANSWER_S, DOWNLOAD_S, ZooSettings, settings_from_environment
from bmz.zoo.transfer import Parcel, bring

Answering = Callable[[socket.socket, str, int], None]


@contextmanager
def server(answering: Answering) -> Iterator[tuple[str, list[str]]]:
    """Answer every connection with bytes of our own; gives address and heads of the questions."""
    log: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            head = b""
            while b"\r\n\r\n" not in head and (more := connection.recv(4096)):
                head += more
            log.append(head.decode("latin-1"))
            try:
                answering(connection, log[-1], len(log))
            except OSError:
                return  # who asked has gone

    def run() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.onnx", log
    finally:
        listening.close()


def drip(connection: socket.socket, text: bytes, seconds: float = 0.02) -> None:
    for byte in text:
        connection.sendall(bytes([byte]))
        time.sleep(seconds)


def drip_head(connection: socket.socket, _head: str, _number: int) -> None:
    drip(connection, b"HTTP/1.1 200 OK\r\nX-More: " + b"x" * 2000)


def drip_body(connection: socket.socket, _head: str, _number: int) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"x" * 2000)


def drip_error(connection: socket.socket, _head: str, _number: int) -> None:
    connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 100000\r\n\r\n")
    drip(connection, b"x" * 2000)


DRIPS = {"head": drip_head, "body": drip_body, "error": drip_error}


@pytest.mark.parametrize("answering", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_ends_with_the_limit(answering: Answering, tmp_path: Path) -> None:
    with (
        server(answering) as (url, _),
        Client(ZooSettings(tmp_path, answer_s=0.3)) as client,
        pytest.raises(Unreachable) as caught,
    ):
        client.get(url)

    assert "longer than 0.3 s (BMZ_ANSWER_SECONDS sets this limit)" in caught.value.message


@pytest.mark.parametrize("answering", DRIPS.values(), ids=DRIPS)
def test_a_file_that_drips_ends_with_the_limit(answering: Answering, tmp_path: Path) -> None:
    settings = ZooSettings(tmp_path, download_s=0.3)
    with (
        server(answering) as (url, _),
        Client(settings) as client,
        pytest.raises(Unreachable) as caught,
    ):
        bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)

    assert "longer than 0.3 s (BMZ_DOWNLOAD_SECONDS sets this limit)" in caught.value.message


@pytest.mark.parametrize("answering", DRIPS.values(), ids=DRIPS)
def test_an_answer_slower_than_any_line_is_given_up_after_some_tries(
    answering: Answering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.zoo.http.SLOWEST_S", 0.1)

    with (
        server(answering) as (url, log),
        Client(ZooSettings(tmp_path)) as client,
        pytest.raises(Unreachable, match=r"less than 16 kB arrived in 0\.1 s"),
    ):
        bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)

    assert len(log) == 5


def cut_with_another_tag(connection: socket.socket, _head: str, number: int) -> None:
    connection.sendall(
        b'HTTP/1.1 200 OK\r\nETag: "%d"\r\nContent-Length: 100000\r\n\r\n' % number + b"x" * 40_000
    )


def cut_without_ranges(connection: socket.socket, _head: str, _number: int) -> None:
    connection.sendall(
        b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 100000\r\n\r\n' + b"x" * 40_000
    )


def lie_about_ranges(connection: socket.socket, head: str, _number: int) -> None:
    if "Range: " in head:
        connection.sendall(
            b'HTTP/1.1 206 Part\r\nETag: "a"\r\nContent-Range: bytes 7-99999/100000\r\n'
            b"Content-Length: 99993\r\n\r\n" + b"x" * 40_000
        )
    else:
        cut_without_ranges(connection, head, 1)


def lie_about_the_end(connection: socket.socket, head: str, _number: int) -> None:
    if "Range: " in head:
        connection.sendall(
            b"HTTP/1.1 416 No\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n"
        )
    else:
        cut_without_ranges(connection, head, 1)


USELESS = {
    "another tag each time": cut_with_another_tag,
    "no ranges": cut_without_ranges,
    "a range that begins elsewhere": lie_about_ranges,
    "a file that is shorter": lie_about_the_end,
}


@pytest.mark.parametrize("answering", USELESS.values(), ids=USELESS)
def test_answers_that_lead_nowhere_are_counted(answering: Answering, tmp_path: Path) -> None:
    with (
        server(answering) as (url, log),
        Client(ZooSettings(tmp_path)) as client,
        pytest.raises(Unreachable, match="started 10 times but never finished"),
    ):
        bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)

    assert len(log) <= 20


def test_a_file_that_goes_on_where_it_broke_off_may_break_off_often(tmp_path: Path) -> None:
    body = bytes(range(256)) * 4096  # 1 MiB

    def go_on(connection: socket.socket, head: str, _number: int) -> None:
        start = int(head.partition("Range: bytes=")[2].partition("-")[0] or 0)
        status = b"206 Part" if start else b"200 OK"
        where = b"Content-Range: bytes %d-%d/%d\r\n" % (start, len(body) - 1, len(body))
        length = b"Content-Length: %d\r\n\r\n" % (len(body) - start)
        more = where + length if start else length
        connection.sendall(b'HTTP/1.1 %s\r\nETag: "a"\r\n' % status + more)
        connection.sendall(body[start : start + 40_000])

    with server(go_on) as (url, log), Client(ZooSettings(tmp_path)) as client:
        arrival = bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)

    assert arrival.path is not None
    assert arrival.path.read_bytes() == body
    assert len(log) > 20


STRANGE = {
    "no closing bracket": b"http://[::1/x",
    "bytes that are no text": b"http://\xff\xfe/\x80",
    "bytes in the path": b"/\xff\xfe",
    "another scheme": b"file:///etc/hostname",
    "a mailbox": b"mailto:a@b.org",
    "a port that is none": b"http://127.0.0.1:99999999/x",
    "nothing": b"",
    "a host that is none": b"http:///x",
    "a host of dots": b"http://a..b/x",
}


@pytest.mark.parametrize("location", STRANGE.values(), ids=STRANGE)
def test_a_strange_redirect_is_told(location: bytes, tmp_path: Path) -> None:
    def lead(connection: socket.socket, _head: str, _number: int) -> None:
        connection.sendall(
            b"HTTP/1.1 302 Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location
        )

    with server(lead) as (url, _), Client(ZooSettings(tmp_path)) as client:
        with pytest.raises(CouldNotTell) as caught:
            client.get(url)
        with pytest.raises(CouldNotTell):
            bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)

    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    "length", [b"\xb2", b"-5", b"1e3", b"9" * 5000, b""], ids=lambda one: repr(one)[:12]
)
def test_a_strange_length_is_told_or_does_no_harm(length: bytes, tmp_path: Path) -> None:
    def answer(connection: socket.socket, _head: str, _number: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\nabc" % length)

    with server(answer) as (url, _), Client(ZooSettings(tmp_path)) as client:
        try:
            arrival = bring(client, Parcel(url, tmp_path / "a", "a"), None, nobody)
        except CouldNotTell:
            return
        assert arrival.path is not None
        assert arrival.path.read_bytes() == b"abc"


@pytest.mark.parametrize("url", ["http://[::1/x", "http://a..b/x", "nonsense", "http://\udcff/x"])
def test_what_is_no_address_is_told(url: str, tmp_path: Path) -> None:
    manifest = tmp_path / "rdf.yaml"
    manifest.touch()
    package = Package("net", manifest, Remote("https://a.org/rdf.yaml"))
    file = WantedFile("a.onnx", None, "weights", url=url)

    with pytest.raises(CouldNotTell):
        fetch_files(package, [file], ZooSettings(tmp_path / "c"))
    with pytest.raises(CouldNotTell), Client(ZooSettings(tmp_path)) as client:
        client.get(url)


@pytest.mark.parametrize("address", ["http://[::1/index.json", "http://a..b/index.json"])
def test_an_index_at_no_address_is_told(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("BMZ_INDEX_URL", address)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BMZ_OFFLINE", "0")

    assert status_of(["search"]) == 3
    assert "[index.unavailable]" in capsys.readouterr().err


def test_limits_come_from_the_environment() -> None:
    given = {"BMZ_ANSWER_SECONDS": "5.5", "BMZ_DOWNLOAD_SECONDS": "60"}

    settings, usual = settings_from_environment(given), settings_from_environment({})

    assert (settings.answer_s, settings.download_s) == (5.5, 60)
    assert (usual.answer_s, usual.download_s) == (ANSWER_S, DOWNLOAD_S)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_a_limit_that_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(LimitUnclear) as caught:
        settings_from_environment({"BMZ_DOWNLOAD_SECONDS": text})

    assert (caught.value.code, caught.value.exit_status) == ("zoo.limit", 2)


def test_what_a_thread_hands_over_comes_in_order_and_ends() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(20)
        finally:
            closed.set()

    with Handover(items()) as handed:
        found = [handed.next(5) for _ in range(21)]

    assert found == [*range(20), None]
    assert closed.wait(5)


def test_what_is_not_wanted_any_more_is_closed() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with Handover(items()) as handed:
        handed.next(5)

    assert closed.wait(5)


def test_an_error_of_the_thread_is_raised_where_it_is_waited_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise Refused("a", 404, "")

    with Handover(items()) as handed:
        assert handed.next(5) == 1
        with pytest.raises(Refused):
            handed.next(5)


def test_nothing_in_time_is_too_slow() -> None:
    release = threading.Event()

    def items() -> Iterator[int]:
        release.wait(5)
        yield 1

    with Handover(items()) as handed, pytest.raises(TooSlowError):
        handed.next(0.01)
    release.set()


def test_a_limit_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)

    assert TimeLimit.begin(0.0, "X").left_s == 0
    assert TimeLimit.begin(10, "X").left_s == 10
    assert TimeLimit(10, "X", 4.0).left_s == 0
    assert TimeLimit.begin(1.5, "X").sentence == "it took longer than 1.5 s (X sets this limit)"
