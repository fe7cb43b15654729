"""A model folder becomes one ModelSpec, whatever the format version."""
