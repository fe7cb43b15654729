"""Serve one browser on this computer: check its requests, answer them, and report progress."""

from __future__ import annotations

import json
import re
import secrets
import select
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.message import Message
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socketserver import TCPServer
from threading import BoundedSemaphore, Thread, Timer
from typing import Any, Final, NoReturn
from urllib.parse import parse_qs, urlsplit

from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Listener, Note, Progress, Stopped
from bmz.base.values import dataclass
from bmz.image.given_names import with_given_names

HOST: Final = "127.0.0.1"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}

_FOLDERS = (("bmz.page", "assets"), ("bmz.report", "viewer"))
"""Packages and folders of the files to serve: the page, and the viewer it shares with reports."""

_MOST_BYTES = 2**20
"""Maximum size of the body of a request."""

_MOST_FIELDS = 100
"""Maximum number of fields in the query of an address."""

MOST_CONNECTIONS = 64
"""Maximum number of open connections; a browser opens six."""

WAIT_S = 30.0
"""Seconds in which a whole request must arrive, however slow the connection."""


@dataclass(frozen=True)
class Answer:
    """The response to a call.

    Parameters
    ----------
    content : body of the response
    kind : media type of the body
    facts : description of an array, sent as JSON in a header
    status : HTTP status
    """

    content: bytes
    kind: str = "application/json"
    facts: Mapping[str, Any] | None = None
    status: HTTPStatus = HTTPStatus.OK


def document(value: object) -> Answer:
    """Return a value as JSON.

    Raises
    ------
    ValueError
        The value contains NaN or an infinite number, which JSON cannot represent.
    """
    return Answer(json.dumps(value, allow_nan=False).encode())


def pixels(array: AnyArray, facts: Mapping[str, Any]) -> Answer:
    """Return an array as little-endian bytes in C order, with its shape and dtype."""
    told = {**facts, "shape": array.shape, "dtype": array.dtype.name}
    content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return Answer(content, "application/octet-stream", told)


Words = Mapping[str, Any]
"""The arguments of a call, from the query of its address or its JSON body."""

Call = Callable[[Words], Answer]
Work = Callable[[Words, Listener], object]


@dataclass(frozen=True)
class Calls:
    """The calls that a page may make.

    Parameters
    ----------
    read : name -> function that returns an answer and changes nothing
    change : name -> function that returns an answer and has an effect
    work : name -> function that takes long; its progress is sent line by line, then its answer
    """

    read: Mapping[str, Call]
    change: Mapping[str, Call]
    work: Mapping[str, Work]


_ODD = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors due to arguments that the page never sends, or to a bug in bmz."""


def _bug(why: Exception) -> dict[str, str]:
    """Report an unexpected error to the page, and its traceback on the terminal."""
    traceback.print_exception(why)
    return {"error": f"This should not happen, and is our fault: {why!r}.", "code": "page.bug"}


Connection = socket.socket | tuple[bytes, socket.socket]
"""A connection, as in `socketserver`."""


class PageServer(ThreadingHTTPServer):
    """Server of one page at an address that contains a secret token.

    Parameters
    ----------
    calls : the calls that the page may make
    port : port of this computer; 0 for any free one
    """

    daemon_threads = True
    # on Windows, reuse would let another program take over the port; elsewhere it lets a page that
    # is started again have the port back at once
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, calls: Calls, port: int = 0) -> None:
        self.calls = calls
        self.token = secrets.token_urlsafe(24)
        self._room = BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Listen without looking up the name of this computer, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def is_own(self, headers: Message) -> bool:
        """Return whether a request comes from the page, or from the user who opens it.

        The host name is checked because another site may let its own name resolve to this computer
        (DNS rebinding).
        """
        hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        origin = headers.get("Origin")
        return (
            headers.get("Host") in hosts
            and (origin is None or origin in {f"http://{host}" for host in hosts})
            and headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}
        )

    def process_request(self, request: Connection, client_address: object) -> None:
        """Answer a connection in its own thread; close it if too many are open."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Connection, client_address: object) -> None:
        """Answer a connection until it is closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a connection that the browser has closed; report any other error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = WAIT_S
    server_version, sys_version = "bmz", ""

    def handle_one_request(self) -> None:
        """Handle a request; close the connection if it does not arrive within `WAIT_S`."""
        self._deadline = Timer(WAIT_S, self._hang_up)
        self._deadline.daemon = True
        self._deadline.start()
        try:
            super().handle_one_request()
        finally:
            self._deadline.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # the connection was already closed
            self.connection.shutdown(socket.SHUT_RD)

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """Refuse a request that is not valid HTTP or has another method."""
        self._refuse(HTTPStatus(code))

    def log_message(self, *_: object, **__: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Send a file of the page, or the answer to a call that reads."""
        name, words = self._asked()
        if name is None:
            return
        if name.startswith("api/"):
            self._answer(self.server.calls.read, name.removeprefix("api/"), words)
        else:
            self._send_file(name or "index.html")

    def do_POST(self) -> None:
        """Run a call that changes something or takes long, and send its answer."""
        name, _ = self._asked()
        if name is None:
            return
        words = self._sent()
        if words is None:
            return
        self._deadline.cancel()
        name = name.removeprefix("api/")
        if name in self.server.calls.work:
            self._stream(partial(self.server.calls.work[name], words))
        else:
            self._answer(self.server.calls.change, name, words)

    def _sent(self) -> Words | None:
        """Read the JSON body of a request; None if the request is refused."""
        length = self.headers.get("Content-Length", "")
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        elif not _DIGITS.fullmatch(length) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            try:
                words = json.loads(self.rfile.read(int(length)), parse_constant=_no_number)
            except (ValueError, RecursionError):
                words = None
            if isinstance(words, dict):
                return words
            self._refuse(HTTPStatus.BAD_REQUEST)
        return None

    def _asked(self) -> tuple[str | None, Words]:
        """Return the requested name and its arguments; None if the request is refused."""
        if not self.server.is_own(self.headers):
            self._refuse(HTTPStatus.FORBIDDEN)
            return None, {}
        try:
            parts = urlsplit(self.path)
            words = parse_qs(parts.query, max_num_fields=_MOST_FIELDS)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None, {}
        _, token, *rest = [*parts.path.split("/", 2), ""]
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None, {}
        return rest[0], {key: values[-1] for key, values in words.items()}

    def _answer(self, calls: Mapping[str, Call], name: str, words: Words) -> None:
        if name not in calls:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            answer = calls[name](words)
        except BmzError as why:
            failed = document(error_document(why))
            answer = Answer(failed.content, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        except _ODD as why:
            answer = replace(document(_bug(why)), status=HTTPStatus.BAD_REQUEST)
        more = {} if answer.facts is None else {"X-Facts": json.dumps(answer.facts)}
        self._send(answer.status, answer.kind, answer.content, more)

    def _stream(self, work: Callable[[Listener], object]) -> None:
        """Send the progress of the work as one line of JSON per event, then its answer."""
        self.send_response(HTTPStatus.OK)
        self._common_headers("application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            last: object = {"answer": work(self._tell)}
        except BmzError as why:
            last = error_document(why)
        except (Stopped, ConnectionError):
            return
        except _ODD as why:
            last = _bug(why)
        self._line(last)

    def _tell(self, event: Event) -> None:
        readable, _, _ = select.select([self.connection], [], [], 0)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise Stopped
        if isinstance(event, Progress):
            done = {"stage": event.stage, "done": event.done, "total": event.total}
            self._line({**done, "what": event.what})
        elif isinstance(event, Note):
            self._line({"note": with_given_names(event.sentence)})
        else:
            self._line({"stage": event.what})

    def _line(self, value: object) -> None:
        try:
            self.wfile.write(json.dumps(value, allow_nan=False).encode() + b"\n")
        except (ConnectionError, TimeoutError) as why:
            raise Stopped from why

    def _send_file(self, name: str) -> None:
        # only known files are served, so no name can lead outside these folders
        folders = (files(package) / name for package, name in _FOLDERS)
        known = {entry.name: entry for folder in folders for entry in folder.iterdir()}
        kind = _KINDS.get(name.rpartition(".")[2])
        if name not in known or kind is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        self._send(HTTPStatus.OK, kind, known[name].read_bytes())

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", status.phrase.encode())

    def _send(
        self, status: HTTPStatus, kind: str, content: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self._common_headers(kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _common_headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")


_DIGITS = re.compile(r"[0-9]{1,18}")


def _no_number(word: str) -> NoReturn:
    raise ValueError(word)


def error_document(error: BmzError) -> dict[str, str]:
    """Return an error as the page expects it: message, hint and code."""
    hint = with_given_names(error.hint or "")
    return {"error": with_given_names(str(error)), "hint": hint, "code": error.code or ""}


@contextmanager
def serving(calls: Calls, port: int = 0) -> Iterator[PageServer]:
    """Serve a page until the block ends.

    Raises
    ------
    OSError
        The port is taken.
    """
    with PageServer(calls, port) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
