"""The automatic decoder of a package: what its network makes of the image becomes three maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.process.ideal_maps import cells
from tests.promptable import carrying_decoder, picture_of, write_promptable

import bmz
from bmz.app.run import run
from bmz.base.arrays import AnyArray
from bmz.base.errors import BmzError
from bmz.cli.main import status_of
from bmz.engine.load import load_model
from bmz.engine.request import RunRequest
from bmz.engine.setup import prepare
from bmz.plan.plan import Blocks
from bmz.predict.backend import CPU, LoadRequest
from bmz.predict.map_decoder import DecodedBackend, DecoderDiffers, open_map_decoder
from bmz.process.matching import match_labels

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

TRUTH = cells(4, 180, 3)
BLOCKS = Blocks(side_px=64, overlap_px=24, stack_px=4 * 64**2, least_side_px=32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_promptable(tmp_path_factory.mktemp("sam") / "net", decoder=carrying_decoder())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.tif"
    tifffile.imwrite(path, picture_of(TRUTH), photometric="rgb")
    return path


def asked(package: Path, picture: Path, folder: Path, **more: Any) -> RunRequest:
    request = RunRequest(str(package), (picture,), folder, trust="unconfined", prompts="none")
    return replace(request, **{"save": frozenset({"labels"}), "blocks": BLOCKS, **more})


@pytest.mark.parametrize("tile", [None, 120])
def test_the_objects_of_the_maps_are_found_whole_and_in_parts(
    tile: int | None, package: Path, picture: Path, tmp_path: Path
) -> None:
    written = []
    for memory_gb in (None, 0.0):
        folder = tmp_path / str(memory_gb)
        (done,) = run(asked(package, picture, folder, tile=tile, memory_gb=memory_gb)).done
        assert ("streamed" in done.record) == (memory_gb is not None)
        assert done.record["recipe"]["name"] == "distances"
        written.append(done.files["labels"])

    whole, parts = (tifffile.imread(path) for path in written)
    assert match_labels(whole, TRUTH, 0.6).f1 >= 0.95
    assert np.array_equal(whole, parts)


def test_a_word_for_no_prompts_and_the_recipe_choose_the_decoder(
    package: Path, picture: Path, tmp_path: Path
) -> None:
    request = asked(package, picture, tmp_path)
    named = replace(request, prompts=None, recipe="distances")

    asked_otherwise = replace(request, prompts=None)
    choices = [prepare(each).decided.recipe for each in (request, named, asked_otherwise)]

    told = [(choice.name, "vit_b_decoder.pt" in choice.why) for choice in choices]
    assert told == [("distances", True), ("distances", True), ("prompts", False)]


def test_maps_of_the_decoder_are_kept_as_they_are(
    package: Path, picture: Path, tmp_path: Path
) -> None:
    request = asked(package, picture, tmp_path, recipe="none")

    (done,) = run(replace(request, save=frozenset({"raw"}))).done

    raw = tifffile.imread(done.files["raw"])
    assert raw.shape == (3, *TRUTH.shape)
    assert (raw[0] > 0.5).mean() == pytest.approx((TRUTH > 0).mean(), abs=0.2)


class Encoder:
    """A network that gives the mean of each image as what it makes of it."""

    name, device = "encoder", CPU

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Sequence[AnyArray]) -> list[AnyArray]:
        self.shapes += [array.shape for array in inputs]
        embeddings = np.random.default_rng(0).random((1, 256, 8, 8), np.float32)
        return [np.zeros(1), embeddings * inputs[0].mean()]

    def close(self) -> None:
        self.shapes.append(())


def test_each_image_of_a_batch_is_encoded_once_and_has_maps_of_its_size(tmp_path: Path) -> None:
    encoder = Encoder()
    torch.save(carrying_decoder(), tmp_path / "vit_b_decoder.pt")
    request = LoadRequest(tmp_path / "w.pt", ("image",), ("masks", "embeddings"))
    decoder = open_map_decoder(tmp_path / "vit_b_decoder.pt", 3, request)
    backend = DecodedBackend(encoder, decoder, 1, "bcyx")
    images = np.random.default_rng(1).random((2, 3, 70, 33)).astype(np.float32)

    (both,) = backend.run([images])
    (second,) = backend.run([images[1:]])
    backend.close()

    assert encoder.shapes == [(1, 3, 70, 33)] * 3 + [()]
    assert both.shape == (2, 3, 70, 33)
    assert np.array_equal(both[1], second[0])


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def with_more(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "skip.weight": torch.zeros(2)}


def with_wider(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "deconv2.block.1.block.weight": torch.zeros(3, 3, 1, 1)}


def with_two_maps(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "out_conv.weight": state["out_conv.weight"][:2]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without("base.block.1.weight"), "it lacks base.block.1.weight"),
        (without("deconv_out.conv.bias"), "it lacks deconv_out.conv.bias"),
        (with_more, "it also has skip.weight"),
        (with_wider, "deconv2.block.1.block.weight (3, 3, 1, 1), not (16, 16, 3, 3)"),
        (with_two_maps, "but 3 maps are expected"),
        (lambda _: {"base.block.1.weight": torch.zeros(4)}, "it lacks out_conv.weight"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(
    change: Callable[[dict[str, Any]], dict[str, Any]], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "vit_b_decoder.pt"
    torch.save(change(carrying_decoder()), path)

    with pytest.raises(DecoderDiffers) as caught:
        open_map_decoder(path, 3, LoadRequest(path, ("image",), ("masks",)))

    assert told in caught.value.message
    assert "--prompts grid" in caught.value.hint


def test_weights_that_hold_code_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "vit_b_decoder.pt"
    torch.save({"base.block.1.weight": print}, path)

    with pytest.raises(BmzError, match="more than tensors") as caught:
        open_map_decoder(path, 3, LoadRequest(path, ("image",), ("masks",)))

    assert caught.value.code == "package.weights-unreadable"


@pytest.mark.parametrize("transposed", [False, True])
def test_both_ways_to_grow_are_told_by_the_names_of_the_tensors(
    transposed: bool, tmp_path: Path
) -> None:
    from bmz.predict.known_networks import MapsLayout, SamMapsDecoder, _Twice

    path = tmp_path / "vit_b_decoder.pt"
    network = SamMapsDecoder(MapsLayout(16, 2, 3, transposed))
    torch.save(network.state_dict(), path)

    backend = open_map_decoder(path, 3, LoadRequest(path, ("image",), ("masks",)))
    (maps,) = backend.run([np.ones((1, 16, 4, 4), np.float32), np.array([20, 64])])

    assert maps.shape == (1, 3, 20, 64)
    grown = [part for part in network.modules() if isinstance(part, _Twice)]
    assert {hasattr(part, "block") for part in grown} == {transposed}


def test_a_decoder_that_is_absent_or_another_file_is_told(picture: Path, tmp_path: Path) -> None:
    other = write_promptable(tmp_path / "net", decoder=carrying_decoder())
    (other / "vit_b_decoder.pt").write_bytes(b"other")
    request = asked(other, picture, tmp_path / "out")

    with pytest.raises(BmzError) as differs:
        run(request)
    (other / "vit_b_decoder.pt").unlink()
    with pytest.raises(BmzError) as missing:
        run(request)

    assert (differs.value.code, missing.value.code) == (
        "package.hash-differs", "package.missing-file",
    )  # fmt: skip
    assert prepare(replace(request, prompts="grid")).labelling.prompted


def test_python_loads_both_networks_by_the_recipe(package: Path) -> None:
    with bmz.load(package, trust="unconfined", recipe="distances") as model:
        found = model.run(picture_of(TRUTH), axes="yxc")
    with bmz.load(package, trust="unconfined") as model, pytest.raises(BmzError) as caught:
        model.run(picture_of(TRUTH), axes="yxc", prompts="none")

    assert match_labels(np.asarray(found.labels), TRUTH, 0.6).f1 >= 0.95
    assert caught.value.code == "recipe.decoder"
    assert "recipe='distances'" in caught.value.hint


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"engine": "core"}, "recipe.decoder"),
        ({"prompts": "grid", "recipe": "distances"}, "recipe.no-prompts"),
    ],
)
def test_what_a_decoder_does_not_go_with_is_told(
    more: dict[str, Any], code: str, package: Path, picture: Path, tmp_path: Path
) -> None:
    request = asked(package, picture, tmp_path, **more)

    with pytest.raises(BmzError) as caught:
        run(request)

    assert caught.value.code == code


def test_show_tells_of_the_decoder(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["show", str(package)]) == 0
    text = capsys.readouterr().out
    assert status_of(["show", str(package), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert "automatic decoder, vit_b_decoder.pt" in text
    assert "--prompts none" in text
    assert document["decoder"] == "vit_b_decoder.pt"


def test_a_decoder_beside_a_network_that_gives_no_embeddings_is_not_offered(package: Path) -> None:
    model = load_model(str(package))
    closed = replace(model, outputs=model.outputs[:2])

    assert (model.has_decoder, closed.has_decoder) == (True, False)
    with pytest.raises(ValueError, match="no automatic decoder"):
        closed.decoded()


def test_maps_are_those_of_torch_em(tmp_path: Path) -> None:
    torch_em = pytest.importorskip("torch_em.model", reason="torch-em is the reference")

    class Patches(torch.nn.Module):  # type: ignore[misc,name-defined]
        img_size, in_chans = 64, 3

        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = torch.nn.Module()
            self.patch_embed.proj = torch.nn.Conv2d(3, 256, 16, 16)

        def forward(self, x: Any) -> Any:
            return self.patch_embed.proj(x)

    reference = torch_em.UNETR(
        img_size=64, encoder=Patches(), out_channels=3, use_sam_stats=True,
        final_activation="Sigmoid", use_skip_connection=False,
    ).eval()  # fmt: skip
    state = {k: v for k, v in reference.state_dict().items() if not k.startswith("encoder")}
    path = tmp_path / "vit_b_decoder.pt"
    torch.save(state, path)
    image = torch.rand(1, 3, 50, 90) * 255
    with torch.no_grad():
        embeddings = reference.encoder(reference.preprocess(image)[0]).numpy()
        expected = reference(image).numpy()

    backend = open_map_decoder(path, 3, LoadRequest(path, ("image",), ("masks",)))
    (maps,) = backend.run([embeddings, np.array([50, 90])])

    assert np.allclose(maps, expected, atol=1e-5)
