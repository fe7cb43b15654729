"""What works on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FormatView:
    """One weights format.

    Parameters
    ----------
    format : as in model descriptions
    framework : what runs it
    version : of the framework; None where it is not installed
    devices : that it sees
    trouble : what is wrong; empty where nothing is
    install : the line that installs the framework
    """

    format: str
    framework: str
    version: str | None
    devices: tuple[str, ...]
    trouble: str
    install: str


@dataclass(frozen=True)
class DoctorView:
    """What ``bmz doctor`` tells.

    Parameters
    ----------
    versions : of bmz, Python and libraries
    system : the platform
    cpus, memory_bytes : what the process may use, and what there is; None where unknown
    cache, cache_bytes : the cache folder and what lies in it
    confinement : means to shut the code of models in -> empty text, or why it is lacking
    """

    versions: Mapping[str, str]
    system: str
    cpus: int
    memory_bytes: int | None
    cache: str
    cache_bytes: int
    formats: Sequence[FormatView]
    starters: Sequence[str]
    confinement: Mapping[str, str]

    @property
    def runs_something(self) -> bool:
        """Say whether any weights format can run."""
        return any(entry.devices and not entry.trouble for entry in self.formats)
