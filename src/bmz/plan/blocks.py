"""The blocks of an image that is run in parts, and the memory from which on it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Blocks:
    """How an image is cut for its statistics and its labels, where it is run in parts.

    Parameters
    ----------
    side_px : of a block of a plane along y and x
    overlap_px : how far a block sees beyond its edge; grows where objects are larger
    stack_px : pixels of a block of a stack, which holds all planes, as far as its sides allow
    least_side_px : side of a block of a stack of however many planes
    memory_bytes : an image that would need more in one piece is run in parts; None for no limit
    """

    side_px: int = 2048
    overlap_px: int = 128
    stack_px: int = 4 * 2048**2
    least_side_px: int = 256
    memory_bytes: int | None = None

    def side_for(self, planes: int) -> int:
        """Give the side along y and x of the blocks of a stack of so many planes, px."""
        return min(self.side_px, max(self.least_side_px, int((self.stack_px / planes) ** 0.5)))
