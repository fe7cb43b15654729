"""A model and an image become findings that say whether the image fits."""
