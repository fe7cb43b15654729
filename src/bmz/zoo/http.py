"""Requests to servers, with retries, and within limits of time and size."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Generic, Self, TypeVar
from urllib.parse import urljoin, urlsplit

from bmz.base.computer import version
from bmz.base.values import dataclass
from bmz.zoo.address import path_of
from bmz.zoo.errors import CertificateRefused, Offline, Refused, Unreachable
from bmz.zoo.settings import ANSWER_VARIABLE, DOWNLOAD_VARIABLE, ZooSettings

if TYPE_CHECKING:
    import requests


Item = TypeVar("Item")

_LOOKS_S = 0.5
"""How often the thread checks whether its items are still wanted."""


@dataclass(frozen=True)
class TimeLimit:
    """The time limit for all attempts to reach one address.

    Parameters
    ----------
    seconds : length of the limit
    variable : the environment variable that sets it
    ends_at : its end, in seconds of ``time.monotonic``
    """

    seconds: float
    variable: str
    ends_at: float

    @classmethod
    def begin(cls, seconds: float, variable: str) -> TimeLimit:
        """Start the limit now."""
        return cls(seconds, variable, time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds until it ends, at least 0."""
        return max(self.ends_at - time.monotonic(), 0.0)

    @property
    def sentence(self) -> str:
        """State that the limit is over, as a part of a sentence."""
        return f"it took longer than {self.seconds:g} s ({self.variable} sets this limit)"


class TooSlowError(Exception):
    """Nothing arrived in time."""


class Handover(Generic[Item]):
    """The items of an iterator that runs in its own thread; use it in a ``with`` block.

    The timeout of a socket applies only between two bytes, so a server that sends a byte now and
    then would never time out. The thread may outlive the block: it ends with the connection,
    or with the program.

    Parameters
    ----------
    items : what the thread reads; closed at the end of the block, or soon afterwards
    """

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self._queue: Queue[tuple[Item] | BaseException | None] = Queue(4)
        self._unwanted = Event()

    def __enter__(self) -> Self:
        Thread(target=self._run, name="answer", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unwanted.set()

    def next(self, limit_s: float) -> Item | None:
        """Return the next item; None after the last one.

        Raises
        ------
        TooSlowError
            No item arrived within `limit_s`.
        BaseException
            Whatever the iterator raised.
        """
        try:
            message = self._queue.get(timeout=max(limit_s, 1e-3))
        except Empty:
            raise TooSlowError from None
        if isinstance(message, BaseException):
            raise message
        return None if message is None else message[0]

    def _run(self) -> None:
        try:
            for item in self._items:
                if not self._put((item,)):
                    break
            else:
                self._put(None)
        except BaseException as why:  # noqa: BLE001  (`next` raises it)
            self._put(why)
        finally:
            getattr(self._items, "close", lambda: None)()

    def _put(self, message: tuple[Item] | BaseException | None) -> bool:
        while not self._unwanted.is_set():
            try:
                self._queue.put(message, timeout=_LOOKS_S)
            except Full:
                continue
            return True
        return False


TRIES = 5
"""How many times in a row a request may fail before it is given up."""

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
TIMEOUT_S = (10.0, 60.0)
"""Limits in seconds to connect, and between two pieces of an answer."""

AT_ONCE = 8
"""Simultaneous connections; far below the service's limit of 100 requests per second."""

MOST_BYTES = 64 * 2**20
"""Largest answer that is read into memory: an index, a listing or a manifest."""

PIECE = 2**14
"""Bytes that are read at once; if an answer breaks off, fewer than these are lost."""

SLOWEST_S = 120.0
"""Limit for the head of an answer and for each piece: below 140 bytes per second it fails."""

_MOST_REDIRECTS = 5
_SIGNS = re.compile(r"authorization$|x-amz-", re.IGNORECASE)
_OK = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, 416})
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class RetryError(Exception):
    """The request failed, but may succeed later."""

    def __init__(self, why: str, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Answer:
    """The head of an answer, and its body piece by piece (``RetryError`` when it breaks off)."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


def wait_s(failed: int, retry_after_s: float | None) -> float | None:
    """Return how long to wait after `failed` failures in a row; None means to give up.

    Parameters
    ----------
    retry_after_s : the wait that the service requests; it is obeyed up to a minute
    """
    if failed >= TRIES:
        return None
    if retry_after_s is not None:
        return retry_after_s if retry_after_s <= LONGEST_WAIT_S else None
    return min(FIRST_WAIT_S * 2.0 ** (failed - 1), LONGEST_WAIT_S)


def read_retry_after(text: str | None, now_s: float) -> float | None:
    """Return the seconds that ``Retry-After`` requests, as a number or a date."""
    from email.utils import parsedate_to_datetime

    if not text:
        return None
    with suppress(ValueError):
        seconds = float(text)
        return None if math.isnan(seconds) else max(seconds, 0.0)
    with suppress(ValueError, OverflowError):
        return max(parsedate_to_datetime(text).timestamp() - now_s, 0.0)
    return None


class Client:
    """A pool of connections to the services; use it in a ``with`` block.

    Addresses are rewritten by the mirrors of `settings` before a request, and again after a
    redirect. ``file`` addresses are read from disk. TLS is always verified. Headers that sign a
    request are not passed to another host.

    Parameters
    ----------
    refuse : raises an error if a server redirects to an address that must not be requested
    """

    def __init__(
        self, settings: ZooSettings, refuse: Callable[[str], None] = lambda _: None
    ) -> None:
        self.settings = settings
        self._refuse = refuse
        self._session: requests.Session | None = None
        self._not_before: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            self._session.close()

    def get(self, url: str, *, tries: int = TRIES) -> bytes:
        """Return the whole body of a small answer.

        Raises
        ------
        Offline, Unreachable, Refused, CertificateRefused
            There is no answer.
        """
        limit = TimeLimit.begin(self.settings.answer_s, ANSWER_VARIABLE)

        def ask() -> bytes:
            with self.stream(url, limit=limit) as answer:
                return _whole(url, answer)

        failed = 0
        while True:
            try:
                return ask()
            except RetryError as why:
                failed += 1
                self.wait_or_give_up(url, failed + TRIES - tries, why, limit)

    def wait_or_give_up(self, url: str, failed: int, why: RetryError, limit: TimeLimit) -> None:
        """Wait before the next attempt, also for other requests to the same host.

        Parameters
        ----------
        failed : number of failures in a row
        limit : time limit of all attempts

        Raises
        ------
        Unreachable
            There are no further attempts.
        """
        wait = wait_s(failed, why.retry_after_s)
        if wait is None:
            raise Unreachable(url, why.why) from why
        if wait >= limit.left_s:
            raise Unreachable(url, f"{why.why}; {limit.sentence}") from why
        if why.retry_after_s is not None:
            host = urlsplit(self.settings.mirrored(url)).netloc
            with self._lock:
                self._not_before[host] = time.monotonic() + wait
        else:
            pause(wait)

    @contextmanager
    def stream(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit: TimeLimit | None = None,
    ) -> Iterator[Answer]:
        """Send one request; yield status 200, 206 or 416, with the body still to be read.

        Parameters
        ----------
        limit : time limit of all attempts; None for that of downloading a file

        Raises
        ------
        RetryError
            The connection broke off, timed out or was too slow, or the service is busy.
        Offline, Refused, CertificateRefused, Unreachable
            There is no answer, or not in time.
        """
        mirrored = self.settings.mirrored(url)
        if _scheme(mirrored) == "file":
            with _open_file(mirrored) as stream:
                yield Answer(HTTPStatus.OK, {}, iter(lambda: stream.read(PIECE), b""))
            return
        if self.settings.offline:
            raise Offline(mirrored)
        ends = limit or TimeLimit.begin(self.settings.download_s, DOWNLOAD_VARIABLE)
        self._wait_for_turn(mirrored)
        with Handover(self._exchange(mirrored, headers or {})) as handed:
            head = _in_time(handed, mirrored, ends)
            if not isinstance(head, Answer):
                raise RetryError("it did not answer")
            yield Answer(head.status, head.headers, _pieces_in_time(handed, mirrored, ends))

    def _exchange(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer | bytes]:
        """Yield the head of an answer, and then its pieces."""
        with self._follow(url, headers) as response:
            _refuse(url, response)
            lower = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status_code, lower, iter(()))
            yield from _pieces(response)

    def _follow(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        for _ in range(_MOST_REDIRECTS):
            response = self._ask(url, headers)
            if not response.is_redirect:
                return response
            response.close()
            location = response.headers["location"]
            try:
                target = urljoin(url, location)
                self._refuse(target)
                target = self.settings.mirrored(target)
            except ValueError as why:
                reason = f"it redirects to '{location[:100]}', which is not an address"
                raise Refused(url, response.status_code, reason) from why
            if _scheme(url) == "https" and _scheme(target) != "https":
                raise Refused(url, response.status_code, f"it redirects to the insecure {target}")
            if urlsplit(url).netloc != urlsplit(target).netloc:
                headers = {n: value for n, value in headers.items() if not _SIGNS.match(n)}
            url = target
        raise Refused(url, response.status_code, "it redirects too often")

    def _ask(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        import requests

        self._wait_for_turn(url)
        try:
            return self._connected().get(
                url, headers=dict(headers), stream=True, timeout=TIMEOUT_S, allow_redirects=False
            )
        except requests.exceptions.SSLError as why:
            if "certificate" in str(why).lower():
                raise CertificateRefused(url, _reason(why)) from why
            raise RetryError(_reason(why)) from why
        except (requests.ConnectionError, requests.Timeout) as why:
            raise RetryError(_reason(why)) from why
        except requests.RequestException as why:
            raise Unreachable(url, _reason(why)) from why
        except ValueError as why:
            raise Unreachable(url, f"it is not an address ({_reason(why)})") from why

    def _connected(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter

        with self._lock:
            if self._session is None:
                self._session = requests.Session()
                # requests would follow redirects itself, and raise other errors: see `_follow`
                self._session.get_redirect_target = _leads_nowhere  # type: ignore[method-assign]
                self._session.headers["User-Agent"] = f"bmz/{version()}"
                for scheme in ("https://", "http://"):
                    self._session.mount(scheme, HTTPAdapter(pool_maxsize=AT_ONCE))
            return self._session

    def _wait_for_turn(self, url: str) -> None:
        with self._lock:
            turn = self._not_before.get(urlsplit(url).netloc, 0.0)
        left = turn - time.monotonic()
        if left > 0:
            pause(left)


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def _leads_nowhere(resp: requests.Response) -> str | None:  # noqa: ARG001  (as requests has it)
    return None


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as why:
        raise Unreachable(url, f"it is not an address ({why})") from why


def _in_time(handed: Handover[Answer | bytes], url: str, limit: TimeLimit) -> Answer | bytes | None:
    wait = min(SLOWEST_S, limit.left_s)
    try:
        return handed.next(wait)
    except TooSlowError:
        if limit.left_s == 0:
            raise Unreachable(url, limit.sentence) from None
        raise RetryError(f"less than {PIECE // 1024} kB arrived in {SLOWEST_S:g} s") from None


def _pieces_in_time(
    handed: Handover[Answer | bytes], url: str, limit: TimeLimit
) -> Iterator[bytes]:
    while (piece := _in_time(handed, url, limit)) is not None:
        if isinstance(piece, bytes):
            yield piece
        if limit.left_s == 0:
            raise Unreachable(url, limit.sentence)


def _whole(url: str, answer: Answer) -> bytes:
    body = bytearray()
    for piece in answer.pieces:
        body += piece
        if len(body) > MOST_BYTES:
            raise Refused(url, answer.status, f"more than {MOST_BYTES} bytes")
    return bytes(body)


def _refuse(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in _OK:
        return
    try:
        answer = next(_pieces(response), b"").decode("utf-8", "replace")
    except RetryError as why:
        answer = why.why
    # the service answers 500 for a version that does not exist
    if status in _LATER and "does not exist" not in answer:
        after = read_retry_after(response.headers.get("retry-after"), time.time())
        raise RetryError(f"it answered {status}", after)
    raise Refused(url, status, " ".join(answer.split())[:200])


def _pieces(response: requests.Response) -> Iterator[bytes]:
    import requests

    try:
        yield from response.iter_content(PIECE)
    except (requests.RequestException, OSError) as why:
        raise RetryError(f"the answer was interrupted ({_reason(why)})") from why


@contextmanager
def _open_file(url: str) -> Iterator[BinaryIO]:
    path = path_of(url)
    try:
        stream = path.open("rb")
    except OSError as why:
        raise Refused(url, HTTPStatus.NOT_FOUND, why.strerror or "") from why
    with stream:
        yield stream


def _reason(why: BaseException) -> str:
    inner: object = why
    while isinstance(inner, BaseException) and (
        nested := getattr(inner, "reason", None) or next(iter(inner.args), None)
    ):
        if not isinstance(nested, BaseException):
            break
        inner = nested
    return f"{type(inner).__name__}: {str(inner)[:200]}"
