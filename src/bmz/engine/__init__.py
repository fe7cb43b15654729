"""The engine: what runs a model on an image, from the words of a call to the files."""
