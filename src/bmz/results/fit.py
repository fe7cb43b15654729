"""How well the models of the zoo fit images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from bmz.base.errors import BmzError
from bmz.base.values import dataclass
from bmz.check.finding import Finding, Verdict
from bmz.check.fit_score import Content, factor_of, worst_of_code
from bmz.check.kind import ImageKind
from bmz.results.models import Status
from bmz.spec.made_for import MadeFor

if TYPE_CHECKING:
    from bmz.process.quality import Quality
    from bmz.results.images import ImageTrial

SHOWN = 10
"""Default number of lines in the table."""

_REASONS = 2


@dataclass(frozen=True)
class ImageFit:
    """One model against one image.

    Parameters
    ----------
    image
        The image, by its path
    verdict
        ``fits``, ``adapts`` or ``mismatch``; the last also if the model is made for another kind of
        image
    score
        0 to 1: the probability that the model is made for what the image shows, reduced by the size
        of the objects and by the findings
    channels
        Image channel for each model channel, from 0; -1 for zeros; None if image and model have
        different numbers of channels
    named
        Whether ``--channels`` must state them; otherwise the model takes the channels in order
    axes
        Value for ``--axes`` if the image must be taken as a stack of one plane, or if a plane or
        projection of a stack is taken; else None
    scale
        Factor by which ``--scale auto`` would resize the image; None if unknown
    resized
        Whether the factor is far enough from 1 to be used
    content
        Probability that the image is of the kind that the model is made for
    findings
        Findings of the check, with these channels and this scale
    """

    image: str
    verdict: Verdict
    score: float
    channels: tuple[int, ...] | None = None
    named: bool = False
    axes: str | None = None
    scale: float | None = None
    resized: bool = False
    content: Content = field(default_factory=Content)
    findings: tuple[Finding, ...] = ()

    @property
    def of_stack(self) -> str:
        """What is taken from a stack: the number of a plane, or ``max``; empty for neither."""
        return (self.axes or "").partition("z=")[2].partition(",")[0]

    @property
    def warnings(self) -> int:
        """Count the warnings."""
        return sum(finding.severity == "warning" for finding in self.findings)

    @property
    def reasons(self) -> tuple[Finding, ...]:
        """Return the two findings that lower the score most, the worst first.

        Findings that do not lower the score are left out.
        """
        costly = (f for f in worst_of_code(self.findings) if factor_of(f) < 1)
        return tuple(costly)[:_REASONS]


@dataclass(frozen=True)
class AboutModel:
    """What is known about a model itself, independent of the image.

    Parameters
    ----------
    title
        Its own name
    task
        According to its tags, such as ``instance-segmentation``
    labels
        The recipe that turns its output into labels; None without evidence for one
    only_restores
        Whether it makes no label mask: it restores, translates or classifies images
    made_for
        The kind of image that it is made for
    weights
        Weights formats whose framework is installed
    needs
        What must be allowed or installed before it runs here; empty if nothing is missing
    download_bytes
        Bytes of the weights that are still to be downloaded; None if unknown
    passed, failed
        Number of tools that reproduce its test output, and that do not, by the published reports
    sampled
        Whether its own sample is in the cache and was compared with the image
    """

    title: str = ""
    task: str | None = None
    labels: str | None = None
    only_restores: bool = False
    made_for: MadeFor = field(default_factory=MadeFor)
    weights: tuple[str, ...] = ()
    needs: tuple[Finding, ...] = ()
    download_bytes: int | None = None
    passed: int = 0
    failed: int = 0
    sampled: bool = False


@dataclass(frozen=True)
class ModelFit:
    """One model against all images.

    Parameters
    ----------
    id, version
        Alias and version in the zoo
    images
        How each image fits, in the order of the call; empty if the model cannot be read
    about
        What is known about the model itself
    status, broken
        ``ok``; else ``broken`` or ``invalid``, and why
    trials
        Results of its trials on crops of the images; empty if it was not tried
    agreement
        Mean F1 of its masks with those of the other models that were tried, weighted by the
        predicted quality of these; None if there are no others
    beside
        Predicted quality of its masks, judged on their own and against those of the other models;
        None if no other was tried
    untried
        Why it could not be tried; None if it was tried, or was not meant to be
    """

    id: str
    version: str
    images: tuple[ImageFit, ...] = ()
    about: AboutModel = field(default_factory=AboutModel)
    status: Status = "ok"
    broken: str | None = None
    trials: tuple[ImageTrial, ...] = ()
    agreement: float | None = None
    beside: Quality | None = None
    untried: BmzError | None = None

    @property
    def quality(self) -> Quality | None:
        """How good its masks are likely to be; None if it was not tried.

        If no other model was tried, this is the value of the image with the lowest prediction.
        """
        worst = min((trial.quality for trial in self.trials), key=lambda q: q.f1, default=None)
        return self.beside or worst

    @property
    def guess(self) -> float:
        """The value that orders the models that were tried: the predicted F1; 0 without a trial."""
        return 0.0 if self.quality is None else self.quality.f1

    @property
    def worst(self) -> ImageFit | None:
        """The image that fits worst; None if the model cannot be read."""
        return min(
            self.images, key=lambda fit: (fit.verdict != "mismatch", fit.score), default=None
        )

    @property
    def verdict(self) -> Verdict | None:
        """Verdict of the worst image; None if the model cannot be read."""
        return None if self.worst is None else self.worst.verdict

    @property
    def score(self) -> float:
        """Score of the worst image; 0 if the model cannot be read."""
        return 0.0 if self.worst is None else self.worst.score

    @property
    def fits(self) -> bool:
        """Whether it is made for every image, and fits as it is or adapted."""
        return self.verdict in {"fits", "adapts"}


@dataclass(frozen=True)
class SeenImage:
    """What the classifier found in an image.

    Parameters
    ----------
    image
        Its path
    whole
        What all channels show together; None if they are flat
    channels
        Channel -> what it shows; channels that are flat or not examined are left out
    apart
        Whether each channel was examined on its own; those of a colour image count as one
    """

    image: str
    whole: ImageKind | None = None
    channels: Mapping[int, ImageKind] = field(default_factory=dict)
    apart: bool = True

    @property
    def family(self) -> str | None:
        """The family of modalities that is more likely than not, or None."""
        return None if self.whole is None else self.whole.family


@dataclass(frozen=True, repr=False)
class Ranking:
    """The models of the zoo by how well they fit images, the best first.

    Parameters
    ----------
    images
        What each image was found to show
    models
        The best first; models that make no labels come after the others, and models that cannot be
        read come last
    left_out
        Model -> why it is not ranked
    fetched_at
        When the index was read, seconds since 1970
    stale
        Whether the index is old and could not be read again
    words
        Option -> value that the user stated about the images, to repeat when a model is run
    unread
        Image -> why it could not be read; the models were ranked for the others
    """

    images: tuple[SeenImage, ...]
    models: tuple[ModelFit, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    fetched_at: float = 0.0
    stale: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    unread: Mapping[str, BmzError] = field(default_factory=dict)

    def __repr__(self) -> str:
        first = f"; the first is {self.models[0].id}" if self.models else ""
        many = "s" * (len(self.images) != 1)
        counted = f"{len(self.models)} models for {len(self.images)} image{many}"
        return f"<bmz.Ranking of {counted}: {len(self.fitting)} fit{first}>"

    @property
    def ranked(self) -> tuple[ModelFit, ...]:
        """The models that can be read."""
        return tuple(model for model in self.models if model.verdict is not None)

    @property
    def fitting(self) -> tuple[ModelFit, ...]:
        """The models that are made for all of the images, and fit as they are or adapted."""
        return tuple(model for model in self.models if model.fits)

    @property
    def tried(self) -> tuple[ModelFit, ...]:
        """The models that were tried, the best first."""
        return tuple(model for model in self.models if model.trials)

    @property
    def tied(self) -> tuple[ModelFit, ...]:
        """The models that were tried whose masks may be as good as those of the first."""
        first, *others = (model.quality for model in self.tried) if self.tried else (None,)
        return tuple(
            model
            for model, quality in zip(self.tried[1:], others, strict=True)
            if quality is not None and first is not None and quality.ties_with(first)
        )

    @property
    def any_works(self) -> bool:
        """Whether any model that was tried makes a mask that is not likely to be wrong."""
        return any(
            model.quality is not None and model.quality.word != "likely wrong"
            for model in self.tried
        )

    @property
    def any_fits(self) -> bool:
        """Whether any model is made for all of the images."""
        return bool(self.fitting)

    @property
    def exit_status(self) -> int:
        """Return 0 if a model is made for all of the images and all could be read, else 1.

        If models were tried, one of them must work.
        """
        works = self.any_works or not self.tried
        return 0 if self.any_fits and works and not self.unread else 1
