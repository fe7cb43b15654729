"""A network that answers prompts: it knows the objects of a picture by their grey values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bmz.base.arrays import AnyArray, LabelArray
from bmz.testing.package import Description, description, put_state_dict, sha256_of, write_package

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


KNOWING = (
    CODE
    + '''

class Encoder(Net):
    """Puts three maps of the objects into what it makes of the image, 1 where an object is sure.

    They are the foreground, the nearness to the middle of the object, and the same again.
    """

    def forward(self, image, boxes=None, points=None, labels=None, masks=None, embeddings=None):
        found, scores, _ = super().forward(image, boxes, points, labels, masks)
        near = torch.zeros(image.shape[2:])
        for mask in found[0, :, 0].bool():
            places = torch.nonzero(mask).float()
            far = (places - places.mean(0)).norm(dim=1)
            near[mask] = 1 - 0.9 * far / far.max().clamp(min=1)
        maps = torch.stack([(near > 0).float(), near, near])[None]
        height, width = (int(n * 16 / max(near.shape) + 0.5) for n in near.shape)
        small = torch.nn.functional.interpolate(
            maps, (height, width), mode="bilinear", antialias=True
        )
        known = torch.zeros(1, 256, 16, 16)
        known[:, :3, :height, :width] = small
        return found, scores, known
'''
)
"""The same with an automatic decoder behind it, see `carrying_decoder`."""


def tensors(side: int = 64) -> tuple[list[Description], list[Description]]:
    """Give inputs and outputs with the ids and axes of micro-sam's packages.

    Parameters
    ----------
    side : of the embeddings
    """
    batch, any_size = {"type": "batch"}, {"min": 1, "step": 1}
    objects = {"type": "index", "id": "object", "size": any_size}
    points = {"type": "index", "id": "point", "size": any_size}
    planes = [{"type": "space", "id": axis, "size": any_size} for axis in "yx"]
    like = [{"type": "space", "id": a, "size": {"tensor_id": "image", "axis_id": a}} for a in "yx"]
    grid = [{"type": "space", "id": axis, "size": side} for axis in "yx"]
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


def carrying_decoder(width: int = 4) -> dict[str, Any]:
    """Give the state dict of a decoder that passes on the first three maps that it is given.

    The first of them stays high where it is, the others become low.

    Parameters
    ----------
    width : channels of its finest level
    """
    import torch

    from bmz.predict.known_networks import MapsLayout, SamMapsDecoder

    network = SamMapsDecoder(MapsLayout(256, width, 3, transposed=False))
    state = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for name, tensor in state.items():
        middle = [size // 2 for size in tensor.shape[2:]]
        if tensor.ndim == 4 and name.startswith(("deconv", "decoder_head.block.4")):
            for channel in range(3):
                tensor[(channel, channel, *middle)] = 1
        elif name.endswith(("running_var", "block.2.weight")):
            tensor.add_(1)
    for channel, sign in enumerate((1, -1, -1)):
        state["decoder_head.block.1.weight"][channel, width + channel, 1, 1] = 1
        state["out_conv.weight"][channel, channel] = 20 * sign
        state["out_conv.bias"][channel] = -2 * sign
    return state


def write_promptable(
    folder: Path, *, alone: bool = False, decoder: Mapping[str, Any] | None = None
) -> Path:
    """Write such a network as a package; it needs PyTorch.

    Parameters
    ----------
    alone : it takes the image alone, and gives all objects
    decoder : state dict of an automatic decoder, which is attached
    """
    import torch

    content = description()
    content["inputs"], content["outputs"] = tensors(64 if decoder is None else 16)
    content["inputs"] = content["inputs"][:1] if alone else content["inputs"]
    content["tags"] = ["instance-segmentation"]

    def change(content: Description) -> None:
        code = CODE if decoder is None else KNOWING.replace("class Net(", "class Answering(", 1)
        code = code.replace("class Encoder(Net)", "class Net(Answering)")
        put_state_dict(folder, content, code, {"background": torch.zeros(1)})
        if decoder is not None:
            torch.save(dict(decoder), folder / "vit_b_decoder.pt")
            digest = sha256_of(folder / "vit_b_decoder.pt")
            content["attachments"] = [{"source": "vit_b_decoder.pt", "sha256": digest}]

    return write_package(folder, content, change=change).parent


def picture_of(labels: LabelArray) -> AnyArray:
    """Give objects the grey values 1, 2, ... of a colour picture (y, x, 3)."""
    return np.repeat(labels.astype(np.uint8)[..., None], 3, axis=2)
