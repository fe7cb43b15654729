"""The engine: what runs a model on an image, from the options of a call to the files."""
