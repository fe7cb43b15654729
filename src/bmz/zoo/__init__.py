"""An address of a model becomes a verified folder on disk."""
