"""Run two networks as one: the first embeds an image, and the second decodes this into maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmz.base.arrays import AnyArray
from bmz.base.errors import CouldNotTell
from bmz.predict.backend import Backend, LoadRequest
from bmz.predict.state_dict import read_state
from bmz.predict.torch_network import TorchBackend, ready_torch
from bmz.spec.model import MapDecoder

if TYPE_CHECKING:
    from torch import Tensor, nn

_OUT_IN_Y_X = 4
_FIRST, _LAST, _GROWING = "base.block.1.weight", "out_conv.weight", "decoder.samplers.0."


class DecoderDiffers(CouldNotTell):
    """The weights of an automatic decoder do not match the known network."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"'{path.name}' is not an automatic decoder in the form that micro-sam writes: {why}",
            hint="use --prompts grid or --prompts FILE, which do not need it",
            code="weights.state-differs",
        )


def open_map_decoder(path: Path, maps: int, request: LoadRequest) -> TorchBackend:
    """Load micro-sam's automatic decoder; its tensors are read with ``weights_only``.

    Parameters
    ----------
    path : path of its weights
    maps : number of maps that it must return
    request : request of the preceding network, on whose device the decoder runs

    Raises
    ------
    DecoderDiffers
        Tensors are missing, unexpected or of another shape.
    WeightsUnreadable, ArchiveRefused
        As in ``bmz.predict.state_dict.read_state``.
    NoBackend
        PyTorch is not installed.
    """
    own = LoadRequest(
        path, ("embeddings", "sizes"), ("maps",), request.device, threads=request.threads
    )
    torch = ready_torch(own)
    network = built_decoder(path, read_state(torch, path), maps)
    return TorchBackend(network.to(str(own.device)), own)


def built_decoder(path: Path, state: Mapping[str, Tensor], maps: int) -> nn.Module:
    """Build the decoder for a state dict and load it; see `open_map_decoder`."""
    # imported here, where PyTorch has been imported
    from bmz.predict.known_networks import MapsLayout, SamMapsDecoder, filled

    first, last = (tuple(state[name].shape) if name in state else () for name in (_FIRST, _LAST))
    if not first or not last:
        raise DecoderDiffers(path, f"it lacks {_LAST if first else _FIRST}")
    if {len(first), len(last)} != {_OUT_IN_Y_X} or last[0] != maps:
        shapes = f"{_FIRST} is {first} and {_LAST} {last}"
        raise DecoderDiffers(path, f"{shapes}, but {maps} maps are expected")
    grows = any(name.startswith(f"{_GROWING}block.") for name in state)
    network, wrong = filled(SamMapsDecoder(MapsLayout(first[1], last[1], maps, grows)), state)
    if wrong:
        raise DecoderDiffers(path, wrong)
    return network


class DecodedBackend:
    """A network whose output for each image is passed through a decoder.

    Parameters
    ----------
    network : network that takes only the image
    decoder : decoder from `open_map_decoder`
    takes : position of the network's output that is passed to the decoder
    axes : letters of the axes of the image
    """

    def __init__(self, network: Backend, decoder: TorchBackend, takes: int, axes: str) -> None:
        self.name, self.device = network.name, network.device
        self._network, self._decoder = network, decoder
        self._takes, self._axes = takes, axes

    @classmethod
    def of(
        cls, network: Backend, decoder: MapDecoder, request: LoadRequest, maps: int
    ) -> DecodedBackend:
        """Attach the decoder of a package to its network, which was opened with `request`.

        Raises
        ------
        BmzError
            The decoder cannot be opened, as in `open_map_decoder`; the network is then closed.
        """
        takes = [tensor.id for tensor in decoder.outputs].index(decoder.takes)
        try:
            opened = open_map_decoder(decoder.file.path, maps, request)
        except BaseException:
            network.close()
            raise
        return cls(network, opened, takes, request.input_axes[0])

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        """Run both networks on each image of a batch; see `Backend`."""
        (images,) = inputs
        batch = self._axes.index("b")
        sizes = np.array([images.shape[self._axes.index(axis)] for axis in "yx"], np.int64)
        maps = []
        for number in range(images.shape[batch]):
            image = images.take([number], axis=batch)
            embeddings = self._network.run([image])[self._takes]
            maps += self._decoder.run([np.asarray(embeddings, np.float32), sizes])
        return [np.concatenate(maps)]

    def close(self) -> None:
        """Free both networks."""
        self._network.close()
        self._decoder.close()
