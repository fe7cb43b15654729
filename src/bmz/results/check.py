"""What the check of several images came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bmz.base.errors import BmzError
from bmz.check.finding import CheckReport
from bmz.check.kind_words import kind_title
from bmz.image.given_names import given_name
from bmz.spec.made_for import StatedKind


@dataclass(frozen=True)
class ImageChecked:
    """One image (one series of a file) against one model.

    Parameters
    ----------
    series : its number where the file holds several; else None
    error : why there is no answer; None when there is one
    """

    image: Path
    series: int | None
    report: CheckReport
    error: BmzError | None

    @property
    def name(self) -> str:
        """Give the path, and the series where there are several."""
        name = given_name(self.image)
        return name if self.series is None else f"{name}[{self.series}]"

    @property
    def verdict(self) -> str | None:
        """Give ``fits``, ``adapts`` or ``mismatch``; None when there is no answer."""
        return None if self.error else self.report.verdict

    @property
    def warnings(self) -> int:
        """Count the warnings."""
        return len(self.report.warnings)


@dataclass(frozen=True)
class CheckSummary:
    """All images of one call, in its order.

    Parameters
    ----------
    stated : the user's word for what the images are; None where there is none
    """

    model: str
    model_sha256: str
    images: tuple[ImageChecked, ...]
    stated: StatedKind | None = None

    @property
    def kinds(self) -> Mapping[str, int]:
        """Count the images of each kind, the commonest first; those not looked at are left out."""
        seen = [image.report.kind for image in self.images]
        return dict(Counter(kind_title(kind) for kind in seen if kind is not None).most_common())

    @property
    def exit_status(self) -> int:
        """Say 1 when an image does not fit, else 3 when one could not be told, else 0."""
        verdicts = {image.verdict for image in self.images}
        return 1 if "mismatch" in verdicts else 3 if None in verdicts else 0
