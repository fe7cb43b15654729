"""A zip is unpacked whole or refused by the name that the user knows it by, never halfway."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmz.base.errors import BmzError
from bmz.base.progress import Note
from bmz.zoo.archive import MOST_BYTES, MOST_FILES, refuse_unsafe, unpack
from bmz.zoo.cache import export_archive, import_archive
from bmz.zoo.errors import (
    ArchiveRefused,
    CacheFull,
    CacheUnwritable,
    ExportDamaged,
    ModelNotFound,
    NotAPackage,
    Offline,
)
from bmz.zoo.fetch import WantedFile, fetch_files, top_manifest
from bmz.zoo.locate import locate
from bmz.zoo.settings import ARTIFACTS, ZooSettings
from bmz.zoo.store import Origin, files_in, keep_manifest

if TYPE_CHECKING:
    from tests.zoo.conftest import Service

ZIP = f"{ARTIFACTS}/affable-shark/create-zip-file"


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


MANIFEST = b"type: model\n" * 20
SOUND = packed({"rdf.yaml": MANIFEST, "gr\xf6\xdfe/\u6a21.bin": b"x" * 50})


def in_header(raw: bytes, local: int, central: int, value: int) -> bytes:
    """Change one byte of the first member, both where it lies and in the list of members."""
    changed = bytearray(raw)
    changed[raw.index(b"PK\x03\x04") + local] = value
    changed[raw.index(b"PK\x01\x02") + central] = value
    return bytes(changed)


LOCKED = in_header(SOUND, 6, 8, 1)
DEFLATE64 = in_header(SOUND, 8, 10, 9)
"""What Windows makes of folders beyond 2 GB."""


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<html>not here</html>", "File is not a zip file"),
        (LOCKED, "is encrypted, password required"),
        (DEFLATE64, "compression method is not supported"),
        (packed({"a": b"", "a/rdf.yaml": MANIFEST}), "Not a directory"),
        (packed({"n" * 300: MANIFEST}), "File name too long"),
        (SOUND[:-30], "File is not a zip file"),
    ],
    ids=["page", "locked", "deflate64", "file-and-folder", "long-name", "cut"],
)
def test_a_zip_that_cannot_be_unpacked_is_no_package_and_leaves_nothing(
    tmp_path: Path, raw: bytes, why: str
) -> None:
    path = tmp_path / "m.zip"
    path.write_bytes(raw)

    with pytest.raises(NotAPackage, match=why) as caught:
        locate(str(path), ZooSettings(tmp_path / "cache", offline=True))

    assert caught.value.message.startswith(f"'{path}' is not a model package: it is not a zip file")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix not in {".zip", ".lock"}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, len(SOUND) - 1), bit=st.integers(0, 7))
def test_a_zip_with_a_flipped_bit_is_refused_or_holds_what_it_held(
    tmp_path: Path, at: int, bit: int
) -> None:
    raw = bytearray(SOUND)
    raw[at] ^= 1 << bit
    path = tmp_path / f"{at}-{bit}.zip"
    path.write_bytes(raw)

    try:
        folder = unpack(path, tmp_path / "cache")
    except (NotAPackage, ArchiveRefused):
        return

    contents = sorted(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    # a wrong length may hide a later member, which is then missed by its name
    assert contents in ([MANIFEST, b"x" * 50], [MANIFEST])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(data=st.data())
def test_an_export_with_a_flipped_bit_is_refused_or_gives_the_same_package(
    tmp_path: Path, data: st.DataObject
) -> None:
    own, archive = ZooSettings(tmp_path / "own", offline=True), tmp_path / "carry.zip"
    manifest = keep_manifest(own, MANIFEST, "rdf.yaml", Origin("net", "v0", "https://a.org/m"))
    if not archive.exists():
        export_archive(own, archive)
    raw = bytearray(archive.read_bytes())
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    raw[at] ^= 1 << bit
    (tmp_path / "flipped.zip").write_bytes(raw)
    away = ZooSettings(tmp_path / f"away-{at}-{bit}", offline=True)

    try:
        import_archive(away, tmp_path / "flipped.zip")
    except (ExportDamaged, ArchiveRefused):
        assert not [p for p in away.cache.rglob("*") if p.is_file()]
    else:
        assert (away.cache / manifest.relative_to(own.cache)).read_bytes() == MANIFEST


@pytest.mark.parametrize("name", ["M.ZIP", "Mod\xe8le \u6a21.zip"])
def test_names_with_capitals_blanks_and_any_letters_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(SOUND)
    monkeypatch.chdir(tmp_path)

    found = locate(name, ZooSettings(tmp_path / "cache", offline=True))

    assert found.id == name[:-4]
    assert found.manifest.read_bytes() == MANIFEST
    assert files_in(found.manifest.parent) == ("gr\xf6\xdfe/\u6a21.bin", "rdf.yaml")


def test_a_manifest_whose_ending_is_in_capitals_is_one(tmp_path: Path) -> None:
    (tmp_path / "shark").mkdir()
    path = tmp_path / "shark" / "RDF.YAML"
    path.write_bytes(MANIFEST)

    found = locate(str(path), ZooSettings(tmp_path / "cache"))

    assert (found.id, found.manifest) == ("shark", path)


def test_a_zip_without_a_manifest_is_called_by_its_own_path(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    path.write_bytes(packed({"readme.md": b"hello", "one/two/rdf.yaml": MANIFEST}))

    with pytest.raises(NotAPackage) as caught:
        locate(str(path), ZooSettings(tmp_path / "cache"))

    names = "bioimageio.yaml, rdf.yaml, model.yaml"
    assert caught.value.message == f"'{path}' is not a model package: it contains none of {names}"


def refuse(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, CacheFull), (errno.EROFS, CacheUnwritable)]
)
def test_a_cache_that_takes_no_zip_is_told_as_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[BmzError]
) -> None:
    path = tmp_path / "m.zip"
    path.write_bytes(SOUND)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", refuse(code))

    with pytest.raises(kind, match=f"'{tmp_path / 'cache'}'") as caught:
        locate(str(path), ZooSettings(tmp_path / "cache"))

    assert "BMZ_CACHE_DIR" in caught.value.hint


def test_a_cache_that_is_a_file_takes_no_zip(tmp_path: Path) -> None:
    (tmp_path / "m.zip").write_bytes(SOUND)
    (tmp_path / "cache").touch()

    with pytest.raises(CacheUnwritable) as caught:
        locate(str(tmp_path / "m.zip"), ZooSettings(tmp_path / "cache"))

    assert caught.value.hint == "set BMZ_CACHE_DIR to a folder of your own"


def test_a_zip_that_may_not_be_read_is_not_the_fault_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.zip"
    path.write_bytes(SOUND)
    monkeypatch.setattr(Path, "open", refuse(errno.EACCES))

    with pytest.raises(NotAPackage) as caught:
        locate(str(path), ZooSettings(tmp_path / "cache"))

    why = "it cannot be read (Permission denied)"
    assert caught.value.message == f"'{path}' is not a model package: {why}"


@pytest.mark.parametrize("word", ["./" + "x" * 300, "x" * 300])
def test_a_word_too_long_for_a_path_is_no_model(tmp_path: Path, word: str) -> None:
    with pytest.raises((ModelNotFound, Offline)) as caught:
        locate(word, ZooSettings(tmp_path, offline=True))

    assert caught.value.exit_status == 3


def sizes(*, files: int = 1, unpacked: int = 1, packed_bytes: int = 1) -> list[zipfile.ZipInfo]:
    members = [zipfile.ZipInfo(f"f{i}") for i in range(files)]
    members[0].file_size, members[0].compress_size = unpacked, packed_bytes
    return members


@pytest.mark.parametrize(
    ("within", "beyond", "why"),
    [
        (sizes(files=MOST_FILES), sizes(files=MOST_FILES + 1), "10001 files, more than the 10000"),
        (
            sizes(unpacked=MOST_BYTES, packed_bytes=2**34),
            sizes(unpacked=MOST_BYTES + 1, packed_bytes=2**34),
            "17179869184 bytes would unpack to 68719476737",
        ),
        (sizes(unpacked=2**28), sizes(unpacked=2**28 + 1), "1 bytes would unpack to 268435457"),
        (
            sizes(unpacked=2**31, packed_bytes=2**31 // 200 + 1),
            sizes(unpacked=2**31, packed_bytes=2**31 // 200),
            "10737418 bytes would unpack to 2147483648",
        ),
        ([zipfile.ZipInfo("a..b/c")], [zipfile.ZipInfo("a/..")], "'a/..' leaves its folder"),
    ],
    ids=["files", "bytes", "small", "ratio", "dots"],
)
def test_a_zip_is_refused_beyond_its_bounds_and_not_before(
    within: list[zipfile.ZipInfo], beyond: list[zipfile.ZipInfo], why: str
) -> None:
    refuse_unsafe("m.zip", within)

    with pytest.raises(ArchiveRefused) as caught:
        refuse_unsafe("m.zip", beyond)

    assert caught.value.message.startswith("the archive 'm.zip' is refused: ")
    assert why in caught.value.message


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFDIR])
def test_a_member_that_is_a_file_or_folder_of_unix_is_no_link(kind: int) -> None:
    member = zipfile.ZipInfo("a")
    member.external_attr = (kind | 0o644) << 16

    refuse_unsafe("m.zip", [member])


def test_the_newest_name_in_the_one_folder_that_has_one_is_the_manifest(tmp_path: Path) -> None:
    for name in ("b/readme.md", "a/model.yaml", "a/rdf.yaml", "__MACOSX/._rdf.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = top_manifest(tmp_path)

    (tmp_path / "model.yaml").touch()

    assert before == tmp_path / "a" / "rdf.yaml"
    assert top_manifest(tmp_path) == tmp_path / "model.yaml"


def test_of_several_packages_in_a_folder_none_is_chosen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rdf.yaml").touch()

    with pytest.raises(NotAPackage, match="it contains 2 packages: one, two"):
        locate(str(tmp_path), ZooSettings(tmp_path / "cache"))


@pytest.mark.parametrize("spoilt", [b"<html>we are back soon</html>", packed({"a.txt": b"a"})])
def test_a_zip_of_the_net_that_was_no_package_is_loaded_anew_the_next_time(
    service: Service, tmp_path: Path, spoilt: bytes
) -> None:
    word = "https://hypha.aicell.io/bioimage-io/artifacts/site/files/m.zip"
    service.packages["site"] = {"m.zip": spoilt}
    known = service.settings(tmp_path)
    with pytest.raises(NotAPackage) as caught:
        locate(word, known)

    service.packages["site"]["m.zip"] = SOUND
    found = locate(word, known)

    assert caught.value.message.startswith(f"'{word}' is not a model package: it ")
    assert found.manifest.read_bytes() == MANIFEST
    assert not list((tmp_path / "arrivals").iterdir())


def test_a_kept_zip_needs_no_network_and_a_removed_one_says_so(
    service: Service, tmp_path: Path
) -> None:
    known = service.settings(tmp_path)
    found = locate(ZIP, known)
    notes: list[object] = []

    away = ZooSettings(tmp_path, offline=True)
    again = locate(ZIP, away, listener=notes.append)
    (found.manifest.parent / "weights.onnx").unlink()

    assert (again, [n for n in notes if isinstance(n, Note)]) == (found, [])
    with pytest.raises(Offline, match=r"file 'weights\.onnx' \(weights\) of 'affable-shark'"):
        fetch_files(again, [WantedFile("weights.onnx", None, "weights")], away)
