"""Who may ask the server of a page, and what it sends."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.resources import files

import numpy as np
import pytest

from bmz.base.errors import CouldNotTell
from bmz.base.progress import Listener, Note, Progress
from bmz.page.server import (
    Calls,
    PageServer,
    Words,
    document,
    pixels,
    serving,
)


def refused(_words: Words) -> object:
    raise CouldNotTell("there is no such thing", hint="ask for another", code="page.nothing")


def slow(words: Words, listener: Listener) -> object:
    listener(Note("it begins"))
    for done in range(int(words["steps"])):
        listener(Progress("steps", done, int(words["steps"])))
    return {"done": words["steps"]}


@pytest.fixture
def server() -> Iterator[PageServer]:
    calls = Calls(
        read={
            "echo": lambda words: document(dict(words)),
            "array": lambda _: pixels(np.arange(6, dtype=">u2").reshape(2, 3), {"top": 4}),
            "refused": refused,  # type: ignore[dict-item]
        },
        change={"set": lambda words: document(words["value"])},
        work={"slow": slow},
    )
    with serving(calls) as running:
        yield running


def asked(
    server: PageServer,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: str | None = None,
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    method = "GET" if body is None else "POST"
    connection.request(method, path, body, dict(headers or {}))
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_a_question_is_answered_under_the_address_with_the_token(server: PageServer) -> None:
    response, content = asked(server, f"/{server.token}/api/echo?a=1&b=x%20y")

    assert response.status == 200
    assert json.loads(content) == {"a": "1", "b": "x y"}


def test_the_page_and_its_scripts_are_sent_and_no_other_file(server: PageServer) -> None:
    page, content = asked(server, f"/{server.token}/")
    script, _ = asked(server, f"/{server.token}/page.js")
    other, _ = asked(server, f"/{server.token}/../server.py")
    third, _ = asked(server, f"/{server.token}/%2e%2e/server.py")

    assert (page.status, script.status) == (200, 200)
    assert b"page.js" in content
    assert page.getheader("Content-Security-Policy", "").startswith("default-src 'none'")
    assert script.getheader("Content-Type") == "text/javascript; charset=utf-8"
    assert (other.status, third.status) == (404, 404)


def test_the_viewer_is_sent_beside_the_page_and_hides_none_of_its_files(
    server: PageServer,
) -> None:
    page, viewer = files("bmz.page") / "assets", files("bmz.report") / "viewer"

    script, content = asked(server, f"/{server.token}/viewport.js")

    assert script.status == 200
    assert content == (viewer / "viewport.js").read_bytes()
    assert not {file.name for file in page.iterdir()} & {file.name for file in viewer.iterdir()}


@pytest.mark.parametrize("path", ["/", "/api/echo", "/wrong/api/echo", "//api/echo"])
def test_nothing_is_told_without_the_token(server: PageServer, path: str) -> None:
    response, content = asked(server, path)

    assert response.status == 404
    assert content == b"Not Found"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_is_refused_even_if_it_knows_the_token(
    server: PageServer, headers: dict[str, str]
) -> None:
    filled = {name: word.format(port=server.server_port) for name, word in headers.items()}

    response, _ = asked(server, f"/{server.token}/api/echo", filled)

    assert response.status == 403


def test_a_form_of_another_site_cannot_change_anything(server: PageServer) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    text = {"Content-Type": "text/plain"}

    statuses = [
        asked(server, f"/{server.token}/api/set", kind, '{"value": 1}')[0].status
        for kind in (form, text)
    ]

    assert statuses == [415, 415]


def test_an_array_comes_as_bytes_of_the_order_of_a_browser(server: PageServer) -> None:
    response, content = asked(server, f"/{server.token}/api/array")

    facts = json.loads(response.getheader("X-Facts", ""))
    assert facts == {"top": 4, "shape": [2, 3], "dtype": "uint16"}
    assert np.frombuffer(content, "<u2").tolist() == [0, 1, 2, 3, 4, 5]


def test_an_error_is_told_with_the_next_step(server: PageServer) -> None:
    response, content = asked(server, f"/{server.token}/api/refused")

    assert response.status == 422
    assert json.loads(content) == {
        "error": "there is no such thing [page.nothing]",
        "hint": "ask for another",
        "code": "page.nothing",
    }


def test_words_that_the_page_never_sends_are_refused(server: PageServer) -> None:
    json_kind = {"Content-Type": "application/json"}

    lacking, told = asked(server, f"/{server.token}/api/set", json_kind, "{}")
    broken, _ = asked(server, f"/{server.token}/api/set", json_kind, "{")
    unknown, _ = asked(server, f"/{server.token}/api/nothing", json_kind, "{}")

    assert (lacking.status, broken.status, unknown.status) == (400, 400, 404)
    assert b"value" in told


def test_work_tells_how_far_it_is_before_its_answer(server: PageServer) -> None:
    kind = {"Content-Type": "application/json"}

    _, content = asked(server, f"/{server.token}/api/slow", kind, '{"steps": 2}')

    assert [json.loads(line) for line in content.splitlines()] == [
        {"note": "it begins"},
        {"stage": "steps", "done": 0, "total": 2, "what": ""},
        {"stage": "steps", "done": 1, "total": 2, "what": ""},
        {"answer": {"done": 2}},
    ]


def test_the_server_is_not_reached_from_other_computers(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32


def sent(server: PageServer, content: bytes) -> bytes:
    """Send bytes as they are, and give what comes until the server hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.server_port), 30) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            answer += part
    return answer


def head(server: PageServer, first: str, *more: str) -> bytes:
    host = f"Host: 127.0.0.1:{server.server_port}"
    kind = "Content-Type: application/json"
    return "\r\n".join([first.format(server.token), host, kind, *more, "", ""]).encode()


@pytest.mark.parametrize(
    ("first", "more", "status"),
    [
        ("GET http://[/{}/api/echo HTTP/1.1", (), 400),
        ("GET /{}/api/echo?" + "&".join(f"a{n}=1" for n in range(200)) + " HTTP/1.1", (), 400),
        ("POST /{}/api/set HTTP/1.1", (), 411),
        ("POST /{}/api/set HTTP/1.1", ("Content-Length: many",), 411),
        ("POST /{}/api/set HTTP/1.1", ("Content-Length: -1",), 411),
        ("POST /{}/api/set HTTP/1.1", ("Content-Length: 2", "Transfer-Encoding: chunked"), 411),
        ("POST /{}/api/set HTTP/1.1", ("Content-Length: 99999999999",), 413),
        ("DELETE /{}/api/set HTTP/1.1", (), 501),
        ("GET /{}/../../../etc/passwd HTTP/1.1", (), 404),
        ("GET /{}/%2e%2e%2fserver.py HTTP/1.1", (), 404),
        ("GET /{}/__pycache__ HTTP/1.1", (), 404),
        ("GET /{}/api/echo\x00 HTTP/1.1", (), 404),
    ],
)
def test_a_request_that_no_browser_sends_is_refused_in_a_word(
    server: PageServer,
    capfd: pytest.CaptureFixture[str],
    first: str,
    more: tuple[str, ...],
    status: int,
) -> None:
    answer = sent(server, head(server, first, *more))

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Python" not in answer
    assert capfd.readouterr().err == ""  # no traceback
    assert asked(server, f"/{server.token}/api/echo")[0].status == 200


@pytest.mark.parametrize(
    "body", ["[]", "1", "null", '{"value": NaN}', '{"value": Infinity}', "[" * 200_000, "\x00"]
)
def test_json_that_is_no_object_or_no_json_is_refused(server: PageServer, body: str) -> None:
    response, _ = asked(
        server, f"/{server.token}/api/set", {"Content-Type": "application/json"}, body
    )

    assert response.status == 400


def test_who_sends_a_request_too_slowly_is_hung_up_on(
    server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.page.server.WAIT_S", 0.3)

    with socket.create_connection(("127.0.0.1", server.server_port), 30) as connection:
        connection.sendall(f"GET /{server.token}/api/echo HTTP/1.1\r\n".encode())
        answer = connection.recv(1 << 16)

    assert answer == b"" or b" 403 " in answer  # it did not say whom it asks


def test_more_connections_than_a_browser_opens_are_closed_and_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bmz.page.server.MOST_CONNECTIONS", 3)
    calls = Calls(read={"echo": lambda words: document(dict(words))}, change={}, work={})
    with serving(calls) as server:
        address = ("127.0.0.1", server.server_port)
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(socket.create_connection(address, 30))
            one_more = stack.enter_context(socket.create_connection(address, 30))

            assert one_more.recv(1) == b""

        deadline = time.monotonic() + 30
        while not answers(server):  # the others are let go by and by
            assert time.monotonic() < deadline


def answers(server: PageServer) -> bool:
    try:
        return asked(server, f"/{server.token}/api/echo")[0].status == 200
    except (ConnectionError, http.client.HTTPException):
        return False


def test_a_fault_of_ours_is_told_to_the_page_and_the_server_goes_on(
    server: PageServer, capfd: pytest.CaptureFixture[str]
) -> None:
    kind = {"Content-Type": "application/json"}

    response, content = asked(server, f"/{server.token}/api/slow", kind, '{"steps": "many"}')

    assert response.status == 200
    assert json.loads(content.splitlines()[-1])["code"] == "page.bug"
    assert "Traceback" in capfd.readouterr().err
    assert asked(server, f"/{server.token}/api/echo")[0].status == 200


def test_a_page_gets_its_port_again_at_once() -> None:
    nothing = Calls(read={"echo": lambda words: document(dict(words))}, change={}, work={})
    with serving(nothing) as first:
        port = first.server_port
        asked(first, f"/{first.token}/api/echo")

    with serving(nothing, port) as second:
        assert asked(second, f"/{second.token}/api/echo")[0].status == 200
        with pytest.raises(OSError, match="in use"):
            PageServer(nothing, port)
