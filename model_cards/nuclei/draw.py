"""The two pictures: the cover of the package and the loss curve of the card."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from labels import Thresholds, labels_from
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray
from pictures import Image, scaled_range
from skimage.io import imsave
from skimage.segmentation import find_boundaries

GAMMA = 0.7
TIMES = 2


def draw_cover(raw: Image, output: Image, thresholds: Thresholds, path: Path) -> None:
    """Draw the image beside its labels, each twice as large as the test tensor."""
    draw_labels(raw, labels_from(output, raw.shape, thresholds), path)


def draw_labels(raw: Image, labels: NDArray[np.integer], path: Path) -> None:
    """Draw an image beside its labels."""
    grey = np.repeat((np.clip(scaled_range(raw), 0, 1) ** GAMMA)[..., None], 3, axis=2)
    both = np.concatenate([larger(grey), coloured(larger(labels), larger(grey))], axis=1)
    imsave(path, (255 * both).round().astype(np.uint8), check_contrast=False)


def larger(image: NDArray[np.generic]) -> NDArray[np.generic]:
    """Repeat every pixel twice along y and x."""
    return image.repeat(TIMES, axis=0).repeat(TIMES, axis=1)


def coloured(labels: NDArray[np.integer], grey: Image) -> Image:
    """Lay a colour over every object, stronger at its edge."""
    colours = plt.get_cmap("hsv")(np.random.default_rng(3).random(labels.max() + 1))[:, :3]
    edge = find_boundaries(labels, mode="inner")
    share = np.where(labels > 0, np.where(edge, 0.9, 0.35), 0.0)[..., None]
    return (1 - share) * grey + share * colours[labels]


def draw_losses(history: Path, path: Path) -> None:
    """Draw the loss of both parts of the data over the steps."""
    with history.open(newline="") as file:
        rows = [{name: float(v) for name, v in row.items()} for row in csv.DictReader(file)]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, text in (("train_loss", "training crops"), ("validation_loss", "validation crops")):
        axes.plot([r["step"] for r in rows], [r[name] for r in rows], label=text)
    axes.set(xlabel="step (8 crops each)", ylabel="loss", yscale="log")
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
