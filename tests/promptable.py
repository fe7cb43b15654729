"""A network that answers prompts: it knows the objects of a picture by their grey values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.testing.package import Description, description, put_state_dict, write_package

CODE = '''
import torch


class Background(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.background = torch.nn.Parameter(torch.zeros(1))


class Holder:
    """Is no network, and holds one, as the SamPredictor of segment-anything does."""

    def __init__(self, model):
        self.model = model


class Net(torch.nn.Module):
    """Gives the pixels with the value of the pixel at each prompt, as the object there.

    The value is that of the first point, of the middle of the box, or the most frequent one in
    the mask. Like that of micro-sam it answers for the first picture where it is given no other
    embeddings.
    """

    def __init__(self):
        super().__init__()
        self.sam = Holder(Background())
        self.kept = None

    def load_state_dict(self, state):
        self.sam.model.load_state_dict(state)

    @property
    def background(self):
        assert not self.sam.model.training
        return self.sam.model.background

    def forward(self, image, boxes=None, points=None, labels=None, masks=None, embeddings=None):
        picture = image[0, 0].float()
        if embeddings is not None:
            self.kept = embeddings
        elif self.kept is None:
            self.kept = torch.full((1, 256, 64, 64), float(picture.sum() % 97))
        assert self.kept[0, 0, 0, 0] == float(picture.sum() % 97)
        values = self.values(picture, boxes, points, labels, masks)
        objects = picture[None] == values[:, None, None]
        scores = torch.where(values > self.background, 0.95, 0.5)
        return objects[None, :, None].to(torch.uint8), scores[None, :, None], self.kept

    def values(self, picture, boxes, points, labels, masks):
        if points is not None:
            assert (labels == 1).all()
            x, y = points[0, :, 0].unbind(1)
            return picture[y, x]
        if boxes is not None:
            x, y = ((boxes[0, :, :2] + boxes[0, :, 2:]) // 2).unbind(1)
            return picture[y, x]
        if masks is not None:
            factor = max(picture.shape) / masks.shape[-1]
            return torch.stack([self.in_mask(picture, mask[0], factor) for mask in masks[0]])
        values = torch.unique(picture)
        return values[values > self.background]

    def in_mask(self, picture, mask, factor):
        y, x = (torch.nonzero(mask > 0).unbind(1))
        at = [((place + 0.5) * factor).long() for place in (y, x)]
        inside = (at[0] < picture.shape[0]) & (at[1] < picture.shape[1])
        return picture[at[0][inside], at[1][inside]].mode().values
'''
"""It fails where it is given what belongs to another tile, or prompts in another order."""


def tensors() -> tuple[list[Description], list[Description]]:
    """Give inputs and outputs with the ids and axes of micro-sam's packages."""
    batch, any_size = {"type": "batch"}, {"min": 1, "step": 1}
    objects = {"type": "index", "id": "object", "size": any_size}
    points = {"type": "index", "id": "point", "size": any_size}
    planes = [{"type": "space", "id": axis, "size": any_size} for axis in "yx"]
    like = [{"type": "space", "id": a, "size": {"tensor_id": "image", "axis_id": a}} for a in "yx"]
    grid = [{"type": "space", "id": axis, "size": 64} for axis in "yx"]
    low = [{"type": "space", "id": axis, "size": 256} for axis in "yx"]

    def named(*names: str) -> Description:
        return {"type": "channel", "channel_names": list(names)}

    def tensor(name: str, dtype: str, *axes: Description, **more: Any) -> Description:
        return {"id": name, "data": {"type": dtype}, "axes": [batch, *axes], **more}

    deep = named(*(f"c{n}" for n in range(256)))
    given = {"type": "index", "id": "object", "size": {}}
    inputs = [
        tensor("image", "uint8", named("R", "G", "B"), *planes),
        tensor("box_prompts", "int64", objects, named("h", "w", "x", "y"), optional=True),
        tensor("point_prompts", "int64", objects, points, named("x", "y"), optional=True),
        tensor("point_labels", "int64", objects, points, optional=True),
        tensor("mask_prompts", "float32", objects, named("channel"), *low, optional=True),
        tensor("embeddings", "float32", deep, *grid, optional=True),
    ]
    outputs = [
        tensor("masks", "uint8", given, named("mask"), *like),
        tensor("scores", "float32", given, named("mask")),
        tensor("embeddings", "float32", deep, *grid),
    ]
    return inputs, outputs


def write_promptable(folder: Path, *, alone: bool = False) -> Path:
    """Write such a network as a package; it needs PyTorch.

    Parameters
    ----------
    alone : it takes the image alone, and gives all objects
    """
    import torch

    content = description()
    content["inputs"], content["outputs"] = tensors()
    content["inputs"] = content["inputs"][:1] if alone else content["inputs"]
    content["tags"] = ["instance-segmentation"]

    def change(content: Description) -> None:
        put_state_dict(folder, content, CODE, {"background": torch.zeros(1)})

    return write_package(folder, content, change=change).parent


def picture_of(labels: LabelArray) -> AnyArray:
    """Give objects the grey values 1, 2, ... of a colour picture (y, x, 3)."""
    return np.repeat(labels.astype(np.uint8)[..., None], 3, axis=2)
