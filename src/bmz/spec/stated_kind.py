"""What the user says an image is: the words of ``--kind``."""

from __future__ import annotations

from dataclasses import dataclass

from bmz.spec.made_for import MODALITIES, STRUCTURES, Family


@dataclass(frozen=True)
class StatedKind:
    """The kind of an image, as the user states it; it overrules what the pixels tell.

    Parameters
    ----------
    modality : key of `bmz.spec.made_for.MODALITIES`
    structure : key of `bmz.spec.made_for.STRUCTURES`; None where the user states none
    """

    modality: str
    structure: str | None = None

    def __str__(self) -> str:
        """Give the words that state it.

        Examples
        --------
        >>> str(StatedKind("em", "neurites")), str(StatedKind("phase"))
        ('em,neurites', 'phase')
        """
        return self.modality if self.structure is None else f"{self.modality},{self.structure}"

    @property
    def families(self) -> tuple[Family, ...]:
        """Give the families of images that the modality covers."""
        return MODALITIES[self.modality].families

    @property
    def title(self) -> str:
        """Give it in plain words.

        Examples
        --------
        >>> StatedKind("em", "neurites").title
        'electron microscopy of neurites'
        """
        modality = MODALITIES[self.modality].title
        if self.structure is None:
            return modality
        return f"{modality} of {STRUCTURES[self.structure].title}"


def stated_kind(words: str) -> StatedKind:
    """Read a modality, and after a comma a structure.

    Raises
    ------
    ValueError
        A word is no term, or there are more than two; the message names the terms.

    Examples
    --------
    >>> stated_kind("EM, neurites")
    StatedKind(modality='em', structure='neurites')
    """
    modality, comma, structure = (word.strip().lower() for word in words.partition(","))
    if modality not in MODALITIES:
        raise ValueError(f"'{modality}' is no modality; choose one of {', '.join(MODALITIES)}")
    if not comma:
        return StatedKind(modality)
    if structure not in STRUCTURES:
        raise ValueError(f"'{structure}' is no structure; choose one of {', '.join(STRUCTURES)}")
    return StatedKind(modality, structure)
