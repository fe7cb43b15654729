"""Download of one file: pooch verifies and moves it, and this downloader resumes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path

from bmz.base.files import move, sha256_of, whole_file
from bmz.base.progress import Listener, Progress
from bmz.base.values import dataclass
from bmz.zoo.errors import Unreachable
from bmz.zoo.http import Answer, Client, RetryError, TimeLimit
from bmz.zoo.settings import DOWNLOAD_VARIABLE

BYTES = "bytes"
"""Progress stage for downloading one file."""

_TELL_EVERY = 2**20
"""Bytes between two messages to the listener."""

_ENOUGH_PROGRESS = 1024
"""Bytes that an attempt must receive so that it does not count as a failure."""

_MOST_STARTS = 10
"""How often a download may restart because the file changes or ranges do not work."""

_NUMBER = r"[0-9]{1,18}"
_LENGTH = re.compile(_NUMBER)
_RANGE = re.compile(rf"bytes (?:(?P<first>{_NUMBER})-{_NUMBER}|\*)/(?P<total>{_NUMBER}|\*)")


@dataclass(frozen=True)
class Parcel:
    """A file to be downloaded.

    Parameters
    ----------
    url : address before it is rewritten by mirrors
    folder : folder for this file only, on its final disk; its lock must be held
    what : name of the file for the listener
    headers : returns the headers of each attempt, such as a signature
    """

    url: str
    folder: Path
    what: str
    headers: Callable[[], Mapping[str, str]] = dict


@dataclass(frozen=True)
class Arrival:
    """The result of a download.

    Parameters
    ----------
    path : path of the complete file; None if it is not the expected one
    sha256 : sha256 of what arrived
    """

    path: Path | None
    sha256: str


def bring(client: Client, parcel: Parcel, sha256: str | None, listener: Listener) -> Arrival:
    """Download a file, resuming an earlier attempt, and verify it.

    Parameters
    ----------
    sha256 : expected sha256; None if it is unknown

    Raises
    ------
    Offline, Unreachable, Refused, CertificateRefused
        The file cannot be downloaded; what has arrived is kept for the next attempt.
    OSError
        The file cannot be stored.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    _sweep(parcel)
    download = Download(client, parcel, listener)
    try:
        path = pooch.retrieve(
            parcel.url,
            known_hash=f"sha256:{sha256}" if sha256 else None,
            fname="whole",
            path=parcel.folder,
            downloader=download,
        )
    except ValueError:  # pooch found another hash, and has deleted the file
        return Arrival(None, download.sha256)
    return Arrival(Path(path), download.sha256 or sha256_of(Path(path)))


def bring_settled(
    client: Client,
    parcel: Parcel,
    sha256: str | None,
    listener: Listener,
    *,
    allow_changed: bool = False,
) -> Arrival:
    """Download a file as ``bring`` does, but request one that differs again before accepting it.

    If two downloads agree, they are the file of the service, which `allow_changed` accepts.
    Otherwise the first one was damaged.

    Raises
    ------
    Unreachable
        The content differs each time (and the errors of ``bring``).
    """
    last = ""
    for _ in range(3):
        arrival = bring(client, parcel, last if allow_changed and last else sha256, listener)
        if arrival.path is not None or arrival.sha256 == last:
            return arrival
        if arrival.sha256 == sha256:  # right this time, but the other one was expected
            return bring(client, parcel, sha256, listener)
        last = arrival.sha256
    raise Unreachable(parcel.url, "its content differs each time")


class Download:
    """A downloader for ``pooch.retrieve``, which calls it with address and target.

    Until the file is complete, the part that has arrived is kept next to the target, with the
    ``ETag`` of the answer, so that a later call requests only the rest.
    """

    def __init__(self, client: Client, parcel: Parcel, listener: Listener) -> None:
        self.sha256 = ""
        self._starts = 0
        self._client = client
        self._parcel = parcel
        self._listener = listener
        self._part = parcel.folder / "part"
        self._tag = parcel.folder / "etag"

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        """Download `url` into the file `output_file`."""
        failed, before, starts = 0, self._size(), self._starts
        limit = TimeLimit.begin(self._client.settings.download_s, DOWNLOAD_VARIABLE)
        while True:
            try:
                self._resume(url, limit)
                break
            except RetryError as why:
                if self._starts >= _MOST_STARTS:
                    raise Unreachable(url, _useless(why)) from why
                if self._starts > starts:
                    before, starts = 0, self._starts
                moved = self._size() - before >= _ENOUGH_PROGRESS
                before = max(before, self._size())
                failed = 1 if moved else failed + 1
                self._client.wait_or_give_up(url, failed, why, limit)
        move(self._part, Path(output_file))
        self._tag.unlink(missing_ok=True)

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _resume(self, url: str, limit: TimeLimit) -> None:
        tag = self._noted_tag()
        start = (
            self._size() if tag else 0
        )  # without a tag, nobody knows whether it is the same file
        # with a content encoding, lengths and ranges would not refer to the file
        headers = {**self._parcel.headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
            if tag.startswith('"'):
                headers["If-Range"] = tag
        with self._client.stream(url, headers, limit=limit) as answer:
            if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._already_whole(answer, start)
            else:
                self._take(answer, start, tag)

    def _already_whole(self, answer: Answer, start: int) -> None:
        content_range = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if content_range is None or content_range["total"] != str(start) or not start:
            self._forget("the stored part is longer than the file")
        self.sha256 = self._digest_so_far(start).hexdigest()

    def _take(self, answer: Answer, start: int, tag: str) -> None:
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            self._must_continue(answer, start, tag)
        else:
            start = 0
            self._begin(answer)
        total = _total(answer, start)
        digest, reported = self._digest_so_far(start), start
        with self._part.open("ab") as part:
            for piece in answer.pieces:
                part.write(piece)
                digest.update(piece)
                start += len(piece)
                if start - reported >= _TELL_EVERY or start == total:
                    self._listener(Progress(BYTES, start, total or start, self._parcel.what))
                    reported = start
        if total is not None and start < total:
            raise RetryError(f"{start} of {total} bytes arrived")
        if total is not None and start > total:
            self._forget(f"{start} bytes arrived instead of {total}")
        self.sha256 = digest.hexdigest()

    def _must_continue(self, answer: Answer, start: int, tag: str) -> None:
        content_range = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if content_range is None or content_range["first"] != str(start):
            self._forget("the rest does not start where the download stopped")
        if answer.headers.get("etag", "") != tag:
            self._forget("the file has changed since the download started")

    def _begin(self, answer: Answer) -> None:
        self._starts += 1
        self._part.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)
        self._part.touch()
        with whole_file(self._tag) as temporary:
            temporary.write_text(answer.headers.get("etag", ""), encoding="utf-8")

    def _forget(self, why: str) -> None:
        self._part.unlink(missing_ok=True)
        raise RetryError(why)

    def _noted_tag(self) -> str:
        return self._tag.read_text(encoding="utf-8") if self._tag.is_file() else ""

    def _digest_so_far(self, size: int) -> hashlib._Hash:
        if not size:
            return hashlib.sha256()
        with self._part.open("rb") as stream:
            make: Callable[[], hashlib._Hash] = hashlib.sha256
            return hashlib.file_digest(stream, make)


def _total(answer: Answer, start: int) -> int | None:
    if answer.headers.get("content-encoding", "identity") != "identity":
        return None
    if answer.status == HTTPStatus.PARTIAL_CONTENT:
        content_range = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        return (
            int(content_range["total"]) if content_range and content_range["total"] != "*" else None
        )
    length = answer.headers.get("content-length", "")
    return start + int(length) if _LENGTH.fullmatch(length) else None


def _useless(why: RetryError) -> str:
    return (
        f"the download started {_MOST_STARTS} times but never finished: the file keeps changing, "
        f"or the server cannot resume a download ({why.why})"
    )


def _sweep(parcel: Parcel) -> None:
    # pooch leaves an empty "tmp..." if it is killed; this process holds the lock of the folder
    parcel.folder.mkdir(parents=True, exist_ok=True)
    for litter in parcel.folder.glob("tmp*"):
        litter.unlink(missing_ok=True)
