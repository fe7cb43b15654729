"""Bring the files of a package beside its manifest, each verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bmz.base.progress import Listener, nobody
from bmz.zoo.bringing import Action, FetchedFile, Job, WantedFile, bring_beside, judge
from bmz.zoo.errors import FileNotInPackage, HashRefused
from bmz.zoo.http import Client
from bmz.zoo.package import Package
from bmz.zoo.settings import ZooSettings
from bmz.zoo.sizes import sizes_of
from bmz.zoo.stamps import NOTES, seen, sha256_of
from bmz.zoo.stand_ins import stand_in
from bmz.zoo.store import alone, inside, keeping, key_of

__all__ = ["Action", "FetchReport", "FetchedFile", "WantedFile", "fetch_files", "sizes_of"]


@dataclass(frozen=True)
class FetchReport:
    """What became of each file, in the order in which they were wanted."""

    package: Package
    files: tuple[FetchedFile, ...]


def fetch_files(
    package: Package,
    wanted: Sequence[WantedFile],
    settings: ZooSettings,
    *,
    listener: Listener = nobody,
    allow_changed: bool = False,
) -> FetchReport:
    """Bring `wanted` beside the manifest of `package` and verify each.

    A file that is there is hashed when its size or times differ from when it was hashed last.
    One without a stated sha256 must stay what it was when it was seen first. One that a
    read-only layer holds is linked. Tells `listener` ``Progress`` of the stage ``bytes``.

    Parameters
    ----------
    package : from ``locate``; of one without a remote, the files are only verified
    allow_changed : take a file whose sha256 is not the one of the manifest

    Raises
    ------
    HashRefused, FileNotInPackage, FileLeavesPackage
        A file is another one, is not there, or lies outside the package.
    Offline, Unreachable, Refused, CertificateRefused, CacheFull, CacheUnwritable
        A file cannot be had, or not be kept.
    """
    for file in wanted:
        inside(package.id, file.name)
    with Client(settings) as client:
        job = Job(package, client, listener, allow_changed=allow_changed)
        return FetchReport(package, tuple(_one(job, file) for file in wanted))


def _one(job: Job, file: WantedFile) -> FetchedFile:
    sha256 = file.sha256.lower() if file.sha256 else None
    if job.package.remote is None and file.url is None:
        return _verified_here(job, file, sha256)
    done = _as_it_lies(job, file, sha256)
    if done is not None:
        return done
    lock = job.folder / NOTES / "locks" / f"{key_of(file.name)}.lock"
    with keeping(job.client.settings), alone(lock, job.listener, file.name):
        # another process may have brought it while we waited
        return _as_it_lies(job, file, sha256) or bring_beside(job, file, sha256)


def _as_it_lies(job: Job, file: WantedFile, sha256: str | None) -> FetchedFile | None:
    stamp = seen(job.folder, file.name)
    if stamp is not None and sha256 is None and stand_in(job.folder / file.name, file.name):
        return None
    action = judge(stamp, sha256, allow_changed=job.allow_changed)
    if stamp is None or action is None:
        return None
    return FetchedFile(file.name, action, stamp.size, stamp.sha256)


def _verified_here(job: Job, file: WantedFile, sha256: str | None) -> FetchedFile:
    path = job.folder / file.name
    if not path.is_file():
        hint = "get the whole package again, or choose weights that are there with --weights"
        raise FileNotInPackage(job.package.id, file.name, file.what, hint=hint)
    found = sha256_of(path)
    right = sha256 in {None, found}
    if not right and not job.allow_changed:
        raise HashRefused(job.package.id, file.name, wanted=sha256 or "", found=found)
    return FetchedFile(
        file.name, "cached" if right else "changed-allowed", path.stat().st_size, found
    )
