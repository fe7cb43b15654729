"""Images on servers: files whole, OME-Zarr by what is read of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bmz.app.run import run
from bmz.base.errors import BmzError
from bmz.base.progress import Event, Progress
from bmz.engine.image_view import ImageView, Plane, Window
from bmz.engine.remote_images import HOSTS_VARIABLE, follow_addresses, local_image
from bmz.engine.request import RunRequest
from bmz.image.inspect import inspect_image
from bmz.image.region import open_image, read_image
from bmz.image.remote import address_of
from bmz.image.series import content_sha256
from bmz.plan.plan import Blocks
from bmz.testing.package import description, write_package
from bmz.zoo.settings import ZooSettings

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 96)).astype(np.uint8)


class Server(ThreadingHTTPServer):
    """Serves a folder, and keeps what it was asked for.

    Parameters
    ----------
    cut : how many answers break off in the middle
    chunks_left : how many chunks it gives before it is dead; None for all
    leads_to : the start of addresses to which it leads every request; empty for none
    code : of the refusal by which it answers every request, as a store has it; empty for none
    wait_s : before each answer
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.asked: list[str] = []
        self.cut = 0
        self.chunks_left: int | None = None
        self.chunks: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.leads_to = self.code = ""
        self.wait_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    """Serves files without ranges."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        time.sleep(self.server.wait_s)
        if self.server.leads_to:
            self.send_response(302)
            self.send_header("Location", f"{self.server.leads_to}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.server.code:
            words = f"<Error><Code>{self.server.code}</Code></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)
            return
        if self.server.cut:
            self.server.cut -= 1
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"II*\0")
            return
        if re.search(r"/0/\d", self.path):
            if self.server.chunks_left == 0:
                self.close_connection = True  # no answer, as from a process that was killed
                return
            if self.server.chunks_left is not None:
                self.server.chunks_left -= 1
            self.server.chunks.append(self.path)
        super().do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def write_image(path: Path, pixels: np.ndarray[Any, Any], axes: str) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    chunks = (*[1] * (pixels.ndim - 2), 32, 32)
    array = group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=chunks)
    array[...] = pixels
    scale: Any = [{"type": "scale", "scale": [0.5] * pixels.ndim}]
    named: Any = [
        {"name": a, "type": "time"} if a == "t" else
        {"name": a, "type": "space", "unit": "micrometer"} for a in axes
    ]  # fmt: skip
    datasets: Any = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": named, "datasets": datasets}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "bucket").mkdir()
    for name in ("cells 1.tif", "bucket/cells 1.tif"):
        tifffile.imwrite(folder / name, PIXELS)
    write_image(folder / "cells.zarr", PIXELS, "yx")
    with served(folder) as made:
        yield made


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    made = Server(folder)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> ZooSettings:
    return ZooSettings(tmp_path / "cache")


def test_a_file_is_brought_once_and_kept(server: Server, settings: ZooSettings) -> None:
    address = f"{server.url}/cells%201.tif"

    paths = {local_image(address, settings) for _ in range(2)}

    (path,) = paths
    assert path.name == "cells 1.tif"
    assert np.array_equal(np.asarray(read_image(inspect_image(path))), PIXELS)
    assert len(server.asked) == 1


def test_an_answer_that_breaks_off_is_asked_for_again(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.zoo.http.FIRST_WAIT_S", 0.01)
    server.cut = 2

    path = local_image(f"{server.url}/cells%201.tif", settings)

    assert np.array_equal(np.asarray(read_image(inspect_image(path))), PIXELS)


def test_of_an_ome_zarr_only_the_chunks_of_a_region_are_brought(
    server: Server, settings: ZooSettings
) -> None:
    info = inspect_image(local_image(f"{server.url}/cells.zarr", settings))
    with open_image(info) as image:
        region = image.region({"y": slice(33, 40), "x": slice(60, 70)})

    assert info.pixel_um == {"y": 0.5, "x": 0.5}
    assert np.array_equal(region.array, PIXELS[33:40, 60:70])
    chunks = [path for path in server.asked if path.startswith("/cells.zarr/0/1")]
    assert sorted(chunks) == ["/cells.zarr/0/1.1", "/cells.zarr/0/1.2"]


def test_what_was_read_is_there_without_the_server(server: Server, settings: ZooSettings) -> None:
    address = f"{server.url}/cells.zarr"
    first = read_image(inspect_image(local_image(address, settings)))
    asked = len(server.asked)

    again = read_image(inspect_image(local_image(address, settings)))

    assert np.array_equal(first.array, PIXELS)
    assert np.array_equal(again.array, PIXELS)
    assert len(server.asked) == asked


@pytest.mark.parametrize("name", ["no.tif", "no.zarr"])
def test_an_address_that_leads_nowhere_is_told(
    server: Server, settings: ZooSettings, name: str
) -> None:
    with pytest.raises(BmzError, match="there is no image at") as caught:
        local_image(f"{server.url}/{name}", settings)

    assert caught.value.code == "image.not-found"


@pytest.mark.parametrize("name", ["cells%201.tif", "cells.zarr"])
def test_without_a_network_an_image_that_is_not_kept_is_refused(
    server: Server, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BmzError) as caught:
        local_image(f"{server.url}/{name}", ZooSettings(tmp_path / "cache", offline=True))

    assert caught.value.code == "zoo.offline"
    assert server.asked == []


def test_only_hosts_that_are_allowed_are_asked(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server.url}/cells.zarr"
    monkeypatch.setenv(HOSTS_VARIABLE, "images.example.org")
    with pytest.raises(BmzError, match="are not allowed") as caught:
        local_image(address, settings)
    assert (caught.value.code, server.asked) == ("image.host", [])

    monkeypatch.setenv(HOSTS_VARIABLE, "images.example.org, 127.0.0.1")
    assert inspect_image(local_image(address, settings)).shape == PIXELS.shape


def test_a_bucket_is_read_at_the_endpoint_of_the_environment(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)

    path = local_image("s3://cells.zarr/0", settings)

    assert np.array_equal(read_image(inspect_image(path)).array, PIXELS)


@pytest.mark.parametrize("name", ["cells.ozx", "cells.zarr.zip"])
@pytest.mark.parametrize("inner", ["", "cells.zarr/"])
def test_a_zipped_ome_zarr_is_read(
    server: Server, tmp_path: Path, settings: ZooSettings, name: str, inner: str
) -> None:
    folder = tmp_path / "served" / "cells.zarr"
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(file, f"{inner}{file.relative_to(folder)}")

    info = inspect_image(local_image(str(tmp_path / name), settings))

    assert (info.path.name, info.pixel_um) == ("cells.zarr", {"y": 0.5, "x": 0.5})
    assert np.array_equal(read_image(info).array, PIXELS)
    assert server.asked == []


def test_a_zip_that_is_damaged_is_told(tmp_path: Path, settings: ZooSettings) -> None:
    (tmp_path / "cells.ozx").write_bytes(b"PK\x03\x04" + bytes(99))

    with pytest.raises(BmzError, match="damaged zipped OME-Zarr"):
        local_image(str(tmp_path / "cells.ozx"), settings)


@pytest.mark.parametrize("memory_gb", [1e3, 0.0])
def test_a_server_that_dies_in_a_run_fails_one_image_and_resume_goes_on(
    server: Server, memory_gb: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("BMZ_OFFLINE", raising=False)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bmz.zoo.http.FIRST_WAIT_S", 0.01)
    tifffile.imwrite(tmp_path / "local.tif", PIXELS)
    remote = local_image(f"{server.url}/cells.zarr")
    model = write_package(tmp_path / "net", description(halo=4)).parent
    request = RunRequest(
        str(model), (remote, tmp_path / "local.tif"), tmp_path / "out", tile=32, force=True,
        memory_gb=memory_gb, blocks=Blocks(side_px=32, overlap_px=8, least_side_px=16),
    )  # fmt: skip

    server.chunks_left = 3
    stopped = run(request)
    server.chunks_left = None
    summary = run(replace(request, resume=True))

    assert [(failed.image, failed.error.code) for failed in stopped.failed] == [
        (remote, "zoo.unreachable")
    ]
    assert [done.image.name for done in stopped.done] == ["local.tif"]
    assert not summary.failed
    first, second = (tifffile.imread(done.files["labels"]) for done in summary.done)
    assert np.array_equal(first, second)
    assert len(server.chunks) == len(set(server.chunks)) == 6  # each chunk is brought once


def test_a_mark_in_an_image_from_elsewhere_asks_no_server(server: Server, tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "mine.zarr"), mode="w", zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.4", "axes": ["y", "x"], "datasets": []}]
    (tmp_path / "mine.zarr" / ".bmz-address").write_text(f"{server.url}/cells.zarr")
    follow_addresses(ZooSettings(tmp_path / "cache"))

    with pytest.raises(BmzError):
        inspect_image(tmp_path / "mine.zarr")

    assert address_of(tmp_path / "mine.zarr") is None
    assert server.asked == []


def test_a_server_that_leads_to_a_host_which_is_not_allowed_is_not_followed(
    server: Server, tmp_path: Path, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOSTS_VARIABLE, "127.0.0.1")
    with served(tmp_path / "served") as other:
        server.leads_to = f"http://localhost:{other.server_port}"
        for name in ("cells%201.tif", "cells.zarr"):
            with pytest.raises(BmzError, match="images from localhost") as caught:
                local_image(f"{server.url}/{name}", settings)
            assert caught.value.code == "image.host"
        assert other.asked == []

        monkeypatch.setenv(HOSTS_VARIABLE, "127.0.0.1,localhost")
        path = local_image(f"{server.url}/cells.zarr", settings)
        assert np.array_equal(read_image(inspect_image(path)).array, PIXELS)


def test_a_bucket_is_asked_with_a_signature_that_no_other_host_gets(
    server: Server, tmp_path: Path, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    path = local_image("s3://cells.zarr", settings)
    assert np.array_equal(read_image(inspect_image(path)).array, PIXELS)
    assert all("Credential=AKID/" in headers["authorization"] for headers in server.headers)
    assert address_of(path) == "s3://cells.zarr"  # its chunks are signed by the next call, too

    with served(tmp_path / "served") as other:
        server.leads_to = f"http://localhost:{other.server_port}"
        local_image("s3://bucket/cells 1.tif", settings)
        assert other.asked == ["/bucket/cells%201.tif"]
        assert not {"authorization", "x-amz-security-token"} & set(other.headers[0])


def test_an_address_of_the_web_is_never_signed(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    local_image(f"{server.url}/cells.zarr", settings)

    assert not any("authorization" in headers for headers in server.headers)


def test_a_chunk_that_wrong_credentials_keep_away_is_no_empty_chunk(
    server: Server, settings: ZooSettings
) -> None:
    info = inspect_image(local_image(f"{server.url}/cells.zarr", settings))
    server.code = "SignatureDoesNotMatch"

    with pytest.raises(BmzError, match="SignatureDoesNotMatch") as caught:
        read_image(info)

    assert caught.value.code == "zoo.refused"
    assert "credentials" in caught.value.hint


def test_what_a_store_does_not_show_is_not_there_and_credentials_are_named(
    server: Server, settings: ZooSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    server.code = "AccessDenied"

    with pytest.raises(BmzError, match=r"there is no image at s3://bucket/cells\.zarr") as caught:
        local_image("s3://bucket/cells.zarr", settings)

    assert "AWS_PROFILE" in caught.value.hint


def test_the_hash_of_an_image_does_not_change_as_its_chunks_come(
    server: Server, settings: ZooSettings
) -> None:
    path = local_image(f"{server.url}/cells.zarr", settings)
    inspect_image(path)
    before = content_sha256(path)

    read_image(inspect_image(path))

    assert content_sha256(path) == before


def test_chunks_are_on_their_way_once_a_region_is_told_of(
    server: Server, settings: ZooSettings
) -> None:
    path = local_image(f"{server.url}/cells.zarr", settings)
    with open_image(inspect_image(path)) as image:
        image.expect({"y": slice(33, 40), "x": slice(60, 70)})
        deadline = time.monotonic() + 30
        while len(list(path.glob("0/1.*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)

    assert sorted(server.chunks) == ["/cells.zarr/0/1.1", "/cells.zarr/0/1.2"]


def test_a_chunk_that_two_threads_want_is_asked_for_once(
    server: Server, settings: ZooSettings
) -> None:
    info = inspect_image(local_image(f"{server.url}/cells.zarr", settings))
    server.wait_s = 0.1
    threads = [threading.Thread(target=read_image, args=(info,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(server.chunks) == len(set(server.chunks)) == 6


def test_a_chunk_that_two_processes_want_is_asked_for_once(
    server: Server, settings: ZooSettings
) -> None:
    address = f"{server.url}/cells.zarr"
    server.wait_s = 0.2
    code = (
        "import sys; from bmz.engine.remote_images import local_image\n"
        "from bmz.image.inspect import inspect_image; from bmz.image.region import read_image\n"
        "print(int(read_image(inspect_image(local_image(sys.argv[1]))).array.sum()))"
    )
    environment = {**os.environ, "BMZ_CACHE_DIR": str(settings.cache), "BMZ_OFFLINE": ""}

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, address],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    sums = {process.communicate()[0].strip() for process in processes}

    assert sums == {str(PIXELS.sum(dtype=int))}
    assert len(server.chunks) == len(set(server.chunks)) == 6


def test_tiles_that_were_predicted_before_a_server_died_are_not_predicted_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("BMZ_OFFLINE", raising=False)
    monkeypatch.setenv("BMZ_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("bmz.zoo.http.FIRST_WAIT_S", 0.01)
    for room in ("image_header", "planes_in_blocks"):
        monkeypatch.setattr(f"bmz.engine.{room}.SAMPLE_PX", 3 * 16 * 16)
    write_image(tmp_path / "served" / "film.zarr", np.stack([PIXELS] * 3), "tyx")
    remote = local_image(f"{server.url}/film.zarr")
    model = write_package(tmp_path / "net", description(halo=4)).parent
    request = RunRequest(
        str(model), (remote,), tmp_path / "out", tile=32, force=True, memory_gb=0.0,
        blocks=Blocks(side_px=32, overlap_px=8, least_side_px=16),
    )  # fmt: skip
    tiles: list[list[int]] = [[], []]

    def heard(number: int, event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "tiles":
            tiles[number].append(event.done)

    server.chunks_left = 13  # some of each frame are in the sample
    (failed,) = run(request, partial(heard, 0)).failed
    server.chunks_left = None
    summary = run(replace(request, resume=True), partial(heard, 1))

    assert (failed.error.code, len(summary.done)) == ("zoo.unreachable", 1)
    assert len(tiles[0]) > 12
    assert [*tiles[0], *tiles[1]] == 3 * list(range(1, 13))
    assert not list((tmp_path / "out").glob(".scratch-*"))


def test_a_coarse_view_of_an_ome_zarr_brings_chunks_of_a_coarser_array_alone(
    server: Server, settings: ZooSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmz.engine.image_view.WHOLE_PX", 100)
    group = zarr.open_group(str(tmp_path / "served" / "cells.zarr"), zarr_format=2)
    array = group.create_array("1", shape=(32, 48), dtype=PIXELS.dtype, chunks=(16, 16))
    array[...] = PIXELS[::2, ::2]
    images: Any = group.attrs["multiscales"]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    images[0]["datasets"].append({"path": "1", "coordinateTransformations": scale})
    group.attrs["multiscales"] = images

    path = local_image(f"{server.url}/cells.zarr", settings)
    with ExitStack() as stack:
        view = ImageView(path, RunRequest("", (), tmp_path), stack)
        part, _ = view.part(Plane(), Window(0, 0, 64, 96, 2))

    assert np.array_equal(part, PIXELS[::2, ::2])
    assert server.chunks == []  # those of the finest array
    assert len([name for name in server.asked if re.search(r"/1/\d", name)]) == 6
