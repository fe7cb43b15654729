"""A zip is taken only if every program finds the same members in it."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.redteam.zips import VARIANTS, end, written

from bmz.zoo.archive import opened_zip, refuse_torn, unpack
from bmz.zoo.errors import ArchiveRefused, NotAPackage

GOOD = written({"a.txt": b"good", "c/a.txt": b"also"})
EVIL = written({"a.txt": b"evil", "c/a.txt": b"evil"}, pad=400)


def kept(folder: Path, content: bytes) -> Path:
    path = folder / "a.zip"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_zip_in_which_programs_may_find_two_archives_is_refused(
    variant: str, tmp_path: Path
) -> None:
    path = kept(tmp_path, VARIANTS[variant](GOOD, EVIL))

    with pytest.raises((ArchiveRefused, zipfile.BadZipFile)), opened_zip(path):
        pass
    with pytest.raises((ArchiveRefused, NotAPackage)):
        unpack(path, tmp_path / "cache")


@pytest.mark.parametrize(
    "variant", ["end points elsewhere", "preceded", "with gap", "locator points elsewhere"]
)
def test_python_alone_finds_a_whole_archive_in_it(variant: str, tmp_path: Path) -> None:
    path = kept(tmp_path, VARIANTS[variant](GOOD, EVIL))

    with zipfile.ZipFile(path) as archive:
        assert archive.read("a.txt") == b"good"


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.txt", "A.TXT"), ("c/a", "c//a"), ("c/a", "c\\a"), ("c/a", "./c/a"), ("\u00e9", "e\u0301")],
)
def test_two_members_that_some_system_takes_for_one_are_refused(
    one: str, other: str, tmp_path: Path
) -> None:
    path = kept(tmp_path, written({one: b"1", other: b"2"}))

    with pytest.raises(ArchiveRefused, match="occurs twice"), opened_zip(path):
        pass


def test_a_name_with_a_byte_of_zero_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path, written({"a.txt#": b"1"}).replace(b"a.txt#", b"a.txt\0"))

    with pytest.raises(ArchiveRefused), opened_zip(path):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("seekable", [True, False], ids=["sizes-before", "sizes-after"])
@pytest.mark.parametrize("comment", [b"", b"by hand"])
def test_what_zipfile_writes_is_taken(
    method: int, seekable: bool, comment: bytes, tmp_path: Path
) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return seekable

        def tell(self) -> int:
            return super().tell() if seekable else self._refuse()

        @staticmethod
        def _refuse() -> int:
            raise OSError("a pipe")

    buffer = Pipe()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.comment = comment
        archive.writestr("a/", b"")
        archive.writestr("a/b.txt", b"x" * 1000)
        with archive.open("large", "w", force_zip64=True) as target:
            target.write(b"large")
    path = kept(tmp_path, buffer.getvalue())

    with opened_zip(path) as opened:
        assert opened.read("large") == b"large"


def test_an_empty_zip_is_one(tmp_path: Path) -> None:
    with opened_zip(kept(tmp_path, end(0, 0, 0))) as archive:
        assert archive.infolist() == []


@example(place=177, value=0)  # a name that ends before its first letter
@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255))
def test_a_byte_changed_in_a_zip_is_told_or_changes_nothing_that_is_read(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    content = GOOD[:place] + bytes([value]) + GOOD[place + 1 :]
    path = kept(tmp_path_factory.mktemp("zip"), content)

    try:
        with opened_zip(path) as archive:
            found = {member.filename: archive.read(member) for member in archive.infolist()}
    except (ArchiveRefused, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return

    assert sorted(found.values()) == [b"also", b"good"]


@pytest.mark.parametrize("length", range(0, len(GOOD), 7))
def test_a_zip_that_is_cut_off_is_refused(length: int, tmp_path: Path) -> None:
    path = kept(tmp_path, GOOD[:length])

    with pytest.raises((ArchiveRefused, zipfile.BadZipFile)), opened_zip(path):
        pass


def test_a_damaged_member_of_any_method_is_told(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a", bytes(range(256)) * 4)
        content = bytearray(buffer.getvalue())
        content[40:60] = b"\xff" * 20
        path = kept(tmp_path, bytes(content))

        with pytest.raises(NotAPackage):
            unpack(path, tmp_path / "cache")


def test_the_layout_is_asked_of_a_file_alone(tmp_path: Path) -> None:
    path = kept(tmp_path, GOOD)
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()

    refuse_torn(path, members)

    with pytest.raises(ArchiveRefused, match="2 members are stated, but 1 are listed"):
        refuse_torn(path, members[:1])
    path.write_bytes(GOOD[:-22] + struct.pack("<4s", b"none"))
    with pytest.raises(ArchiveRefused, match="it has no end"):
        refuse_torn(path, members)


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    path = kept(tmp_path, written({"": b"1"}))

    with pytest.raises(ArchiveRefused, match="a member has no name"), opened_zip(path):
        pass
