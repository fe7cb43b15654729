"""Channels as a user says them: by their numbers, or by the names that a file gives them."""

from __future__ import annotations

from collections.abc import Sequence

EMPTY_CHANNEL = -1
"""In place of the number of a channel: zeros."""

EMPTY_WORD = "none"
"""The word for it."""

ChannelKey = int | str
"""A number from 0, `EMPTY_CHANNEL`, or a name."""


class ChannelUnknown(LookupError):
    """No channel, or more than one, has this name.

    Parameters
    ----------
    name : that was asked for
    names : that the channels have
    """

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name)
        self.name, self.names = name, tuple(names)


def channel_words(text: str) -> tuple[ChannelKey, ...]:
    """Read ``1,0``, ``DAPI,GFP`` or ``0,none``: a number stays a number, all else is a name.

    Raises
    ------
    ValueError
        A word is missing, or no channel is of the image; the message says why.

    Examples
    --------
    >>> channel_words("1,none,Alexa 488")
    (1, -1, 'Alexa 488')
    """
    return checked_channels([word.strip() for word in text.split(",")])


def checked_channels(words: Sequence[ChannelKey]) -> tuple[ChannelKey, ...]:
    """Give numbers and names where each can be meant; see `channel_words`."""
    channels = tuple(map(_channel, words))
    if set(channels) == {EMPTY_CHANNEL}:
        raise ValueError("at least one channel must come from the image")
    return channels


def _channel(channel: ChannelKey) -> ChannelKey:
    if not isinstance(channel, str):
        return int(channel)
    if not channel.strip():
        raise ValueError("a channel is missing; write numbers from 0 or names, such as 1,0 or DAPI")
    if channel.startswith("-"):
        raise ValueError(
            f"'{channel}' is not a channel; write numbers from 0 or names, such as 1,0"
        )
    if channel == EMPTY_WORD:
        return EMPTY_CHANNEL
    return int(channel) if channel.isdecimal() else channel


def channel_text(channels: Sequence[ChannelKey]) -> str:
    """Give the word for ``--channels`` that `channel_words` reads.

    Examples
    --------
    >>> channel_text((1, -1, "GFP"))
    '1,none,GFP'
    """
    return ",".join(EMPTY_WORD if word == EMPTY_CHANNEL else str(word) for word in channels)


def channel_numbers(words: Sequence[ChannelKey], names: Sequence[str]) -> tuple[int, ...]:
    """Give the number of each channel; case does not matter in names.

    Parameters
    ----------
    words : numbers, which are given back as they are, and names
    names : of the channels of an image

    Raises
    ------
    ChannelUnknown
        No channel, or more than one, has a name.
    """
    return tuple(word if isinstance(word, int) else _number(word, names) for word in words)


def _number(name: str, names: Sequence[str]) -> int:
    known = [each.strip().casefold() for each in names]
    wanted = name.strip().casefold()
    if known.count(wanted) != 1:
        raise ChannelUnknown(name, names)
    return known.index(wanted)
