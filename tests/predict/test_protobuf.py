"""Protocol buffers whose bytes are written by hand, after the page on their encoding."""

from __future__ import annotations

import pytest

from bmz.predict.onnx_files import ProtobufError, fields, texts


def read(message: bytes, *path: int) -> list[bytes]:
    return [bytes(part) for part in fields(memoryview(message), *path)]


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"\x08\x96\x01",  # field 1, the number 150
        b"\x09" + b"\xff" * 8,  # field 1, 64 bits
        b"\x0d" + b"\xff" * 4,  # field 1, 32 bits
        b"\x08" + b"\xff" * 9 + b"\x01",  # the longest number there is
        b"\xf8\xff\xff\xff\x0f\x00",  # the highest number of a field
        b"\x0a\x00",  # field 1, no text
    ],
    ids=["nothing", "number", "64 bits", "32 bits", "ten bytes", "far field", "empty text"],
)
def test_fields_of_other_kinds_are_stepped_over(before: bytes) -> None:
    assert read(before + b"\x12\x02hi" + before, 2) == [b"hi"]


def test_a_field_that_is_no_text_or_message_is_not_given() -> None:
    assert read(b"\x08\x96\x01\x0d\0\0\0\0\x0a\x01a", 1) == [b"a"]


def test_all_fields_along_a_path_are_given_in_their_order() -> None:
    # 3 { 1: "a"  2: "no"  1: "b" }  3 { }  2: "no"  3 { 1: "c" }
    message = b"\x1a\x0a\x0a\x01a\x12\x02no\x0a\x01b\x1a\x00\x12\x02no\x1a\x03\x0a\x01c"

    assert read(message, 3, 1) == [b"a", b"b", b"c"]
    assert read(message, 3) == [message[2:12], b"", message[-3:]]
    assert read(message, 4, 1) == []


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (127, b"\x7f"),
        (128, b"\x80\x01"),  # 7 bits a byte, the lowest first
        (300, b"\xac\x02"),  # 2 * 128 + 44
        (16384, b"\x80\x80\x01"),
    ],
)
def test_lengths_and_numbers_of_fields_may_take_several_bytes(length: int, words: bytes) -> None:
    text = bytes(length)

    assert read(b"\x0a" + words + text, 1) == [text]
    # field 1000: 1000 << 3 | 2 = 8002 = 62 * 128 + 66
    assert read(b"\xc2\x3e" + words + text, 1000) == [text]


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",  # no length
        b"\x0a\x03ab",  # shorter than it says
        b"\x09\0\0\0\0\0\0\0",  # 7 bytes of 8
        b"\x0d\0\0\0",  # 3 bytes of 4
        b"\x08",  # no number
        b"\x08\xff",  # a number that goes on
        b"\x08" + b"\xff" * 10 + b"\x01",  # of more than 64 bits
        b"\x0b",  # a group begins
        b"\x0c",  # a group ends
        b"\x0e",  # kinds that there are not
        b"\x0f",
    ],
    ids=lambda message: message.hex(),
)
@pytest.mark.parametrize("before", [b"", b"\x0a\x01a"], ids=["alone", "behind a field"])
def test_what_is_no_whole_message_is_refused(message: bytes, before: bytes) -> None:
    with pytest.raises(ProtobufError, match="it is not a complete protocol buffer"):
        read(before + message, 1)


def test_a_damaged_message_within_is_refused_only_where_it_is_looked_into() -> None:
    message = b"\x0a\x02\x0a\x05\x12\x01a"

    assert read(message, 2) == [b"a"]
    assert read(message, 1) == [b"\x0a\x05"]
    with pytest.raises(ProtobufError):
        read(message, 1, 1)


def test_bytes_that_are_no_text_are_shown_as_numbers() -> None:
    message = memoryview(b"\x0a\x03\xc3\xa4b\x0a\x02\xffa")

    assert list(texts(message, 1)) == ["äb", "\\xffa"]


@pytest.mark.parametrize(
    "key",
    [
        b"\x9a\x80\x80\x80\x10",  # field 3 and one bit more than 32, which others cut off
        b"\x9a\x80\x80\x80\x80\x01",
        b"\x02",  # field 0
    ],
)
def test_a_key_that_others_read_as_another_field_is_no_message(key: bytes) -> None:
    with pytest.raises(ProtobufError):
        read(key + b"\x02hi", 2)
