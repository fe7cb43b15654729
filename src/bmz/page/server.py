"""A server for one browser on this computer: who may ask, what is sent, and how work is told."""

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
"""Of the files that are sent: those of the page, and the viewer that it shares with reports."""

_MOST_BYTES = 2**20
"""Of what a page sends."""

_MOST_FIELDS = 100
"""Of the query of an address."""

MOST_CONNECTIONS = 64
"""So many are open at a time; a browser opens six."""

WAIT_S = 30.0
"""A request must be there so soon, however slowly it comes."""


@dataclass(frozen=True)
class Answer:
    """What is sent for a call.

    Parameters
    ----------
    content : the bytes
    kind : their media type
    facts : of an array, in a header as JSON
    status : of HTTP
    """

    content: bytes
    kind: str = "application/json"
    facts: Mapping[str, Any] | None = None
    status: HTTPStatus = HTTPStatus.OK


def document(value: object) -> Answer:
    """Give a value as JSON.

    Raises
    ------
    ValueError
        It holds NaN or an infinite number, which JSON does not have.
    """
    return Answer(json.dumps(value, allow_nan=False).encode())


def pixels(array: AnyArray, facts: Mapping[str, Any]) -> Answer:
    """Give an array as bytes in C order, lowest byte first, with its shape and dtype."""
    told = {**facts, "shape": array.shape, "dtype": array.dtype.name}
    content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return Answer(content, "application/octet-stream", told)


Words = Mapping[str, Any]
"""What a call says: the query of its address, or its JSON."""

Call = Callable[[Words], Answer]
Work = Callable[[Words, Listener], object]


@dataclass(frozen=True)
class Calls:
    """What a page may ask.

    Parameters
    ----------
    read : name -> gives an answer, and changes nothing
    change : the same, with an effect
    work : name -> what takes long; how far it is, is sent line by line, the answer at last
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
"""What comes of words that the page does not send, or of a fault of ours."""


def _bug(why: Exception) -> dict[str, str]:
    """Tell the page, and whoever looks at the terminal, of what should not happen."""
    traceback.print_exception(why)
    return {"error": f"This should not happen, and is our fault: {why!r}.", "code": "page.bug"}


Connection = socket.socket | tuple[bytes, socket.socket]
"""As `socketserver` has it."""


class PageServer(ThreadingHTTPServer):
    """Serves one page, under an address that only who was given it knows.

    Parameters
    ----------
    calls : what the page may ask
    port : of this computer; 0 for any that is free
    """

    daemon_threads = True
    # on Windows another program could otherwise take over the port; elsewhere a page that is
    # started again gets it back at once
    allow_reuse_address = sys.platform != "win32"

    def __init__(self, calls: Calls, port: int = 0) -> None:
        self.calls = calls
        self.token = secrets.token_urlsafe(24)
        self._room = BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Listen, without asking what this computer is called, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """The address of the page, with its token."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def is_own(self, headers: Message) -> bool:
        """Say whether a request comes from the page, or from the user who opens it.

        The name of the host is looked at, for a page of another site may let its own name lead to
        this computer (DNS rebinding).
        """
        hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        origin = headers.get("Origin")
        return (
            headers.get("Host") in hosts
            and (origin is None or origin in {f"http://{host}" for host in hosts})
            and headers.get("Sec-Fetch-Site", "none") in {"none", "same-origin"}
        )

    def process_request(self, request: Connection, client_address: object) -> None:
        """Answer a connection in a thread of its own; close it where too many are open."""
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
        """Say nothing of a browser that has closed a connection; tell of all else."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = WAIT_S
    server_version, sys_version = "bmz", ""

    def handle_one_request(self) -> None:
        """Take a request, and hang up on one that has not come after a while."""
        self._deadline = Timer(WAIT_S, self._hang_up)
        self._deadline.daemon = True
        self._deadline.start()
        try:
            super().handle_one_request()
        finally:
            self._deadline.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # it was closed already
            self.connection.shutdown(socket.SHUT_RD)

    def send_error(self, code: int, *_: object, **__: object) -> None:
        """Refuse what is no request of HTTP, or one of another method."""
        self._refuse(HTTPStatus(code))

    def log_message(self, *_: object, **__: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Send a file of the page, or the answer to a question."""
        name, words = self._asked()
        if name is None:
            return
        if name.startswith("api/"):
            self._answer(self.server.calls.read, name.removeprefix("api/"), words)
        else:
            self._send_file(name or "index.html")

    def do_POST(self) -> None:
        """Do what the page asks for."""
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
        """Read the JSON of a request; None where the request is refused."""
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
        """Give what is asked for; None where the request is refused."""
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
        """Send how far the work is, a line of JSON for each event, and its answer at last."""
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
        # only files of the page are sent: no name can lead elsewhere
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
    """Give an error for the page: what happened, and the next step."""
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
