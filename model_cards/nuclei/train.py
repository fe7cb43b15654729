"""Train a network of nuclei on DSB2018 and keep the weights that validate best."""

import copy
import csv
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import click
import numpy as np
import torch
from crops import Crops, validation_batches
from families import FAMILIES, Family, Losses
from network import parameter_count
from pictures import read_pictures, scaled, split
from torch import Tensor, nn
from torch.utils.data import DataLoader

BATCH = 8
LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
LARGEST_GRADIENT = 5.0
VALIDATE_EVERY = 200
THREADS = 2

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Progress:
    """One row of `history.csv`; the losses are means since the row before."""

    step: int
    took_s: float
    learning_rate: float
    train_loss: float
    validation_loss: float
    validation_first_loss: float
    validation_second_loss: float


def losses(family: Family, network: nn.Module, image: Tensor, wanted: Tensor) -> Losses:
    """Give both parts of the loss; in training the convolutions compute in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=network.training):
        return family.losses(network, image.contiguous(memory_format=torch.channels_last), wanted)


def learning_rate_share(steps: int) -> Callable[[int], float]:
    """Rise in a straight line for 100 steps, then fall along half a cosine."""

    def share(step: int) -> float:
        rise = min(1.0, (step + 1) / WARM_UP_STEPS)
        return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))

    return share


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Move the averaged weights a little towards the trained ones."""
    keep = min(0.995, (step + 1) / (step + 10))
    for old, new in zip(average.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - keep)


@torch.no_grad()
def validated(family: Family, network: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Give the mean of both losses over the validation crops."""
    network.eval()
    values = [[float(v) for v in losses(family, network, *batch)] for batch in batches]
    first, second = np.mean(values, axis=0)
    return float(first), float(second)


class Training:
    """The network in training, its averaged weights, and what has been reached so far."""

    def __init__(self, family: Family, out: Path, steps: int) -> None:
        self.family, self.out = family, out
        self.network = family.fresh().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=LEARNING_RATE, weight_decay=1e-4
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, learning_rate_share(steps)
        )
        self.best = math.inf
        self.history: list[Progress] = []

    def step(self, step: int, image: Tensor, wanted: Tensor) -> float:
        """Learn from one batch."""
        self.network.train()
        first, second = losses(self.family, self.network, image, wanted)
        loss = first + self.family.second_weight * second
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimizer.step()
        self.schedule.step()
        follow(self.average, self.network, step)
        return float(loss.detach())

    def record(self, progress: Progress) -> None:
        """Add a row to the history and save the weights: the last, and the best."""
        self.history.append(progress)
        with (self.out / "history.csv").open("w", newline="") as file:
            rows = csv.DictWriter(file, [f.name for f in fields(Progress)])
            rows.writeheader()
            rows.writerows(asdict(p) for p in self.history)
        state = self.average.state_dict()
        torch.save(state, self.out / "last.pt")
        if progress.validation_loss <= self.best:
            self.best = progress.validation_loss
            torch.save(state, self.out / "best.pt")

    def run(self, crops: Iterable[Batch], batches: list[Batch]) -> None:
        """Train until the crops end; validate and save every few steps."""
        began, seen = time.perf_counter(), []
        for step, (image, wanted) in enumerate(crops, start=1):
            seen.append(self.step(step, image, wanted))
            if step % VALIDATE_EVERY:
                continue
            first, second = validated(self.family, self.average, batches)
            progress = Progress(
                step=step,
                took_s=round(time.perf_counter() - began, 1),
                learning_rate=self.schedule.get_last_lr()[0],
                train_loss=float(np.mean(seen)),
                validation_loss=first + self.family.second_weight * second,
                validation_first_loss=first,
                validation_second_loss=second,
            )
            self.record(progress)
            click.echo(str(progress))
            seen = []


@click.command()
@click.argument("model", type=click.Choice(list(FAMILIES)))
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data/dsb2018/train")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for weights.")
@click.option("--steps", default=6000, show_default=True, help="Batches of 8 crops.")
@click.option("--stop", type=int, help="Stop after this step; the schedule stays that of --steps.")
@click.option("--seed", default=2018, show_default=True)
def train(model: str, data: Path, out: Path, steps: int, stop: int | None, seed: int) -> None:
    """Train MODEL on the pictures of DATA and write best.pt, last.pt and history.csv to OUT."""
    torch.manual_seed(seed)
    torch.set_num_threads(THREADS)
    family = FAMILIES[model]
    out.mkdir(parents=True, exist_ok=True)
    train_pictures, validation_pictures = split(scaled(read_pictures(data)), seed)
    crops = Crops(train_pictures, family.targets, seed)
    loader = DataLoader(crops, BATCH, num_workers=1, prefetch_factor=8)
    training = Training(family, out, steps)
    click.echo(f"{parameter_count(training.network)} parameters, {len(train_pictures)} pictures")
    held = validation_batches(validation_pictures, family.targets)
    training.run(islice(loader, stop or steps), held)


if __name__ == "__main__":
    train()
