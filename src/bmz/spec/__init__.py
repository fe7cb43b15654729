"""Read the folder of a model, of any format version, into one ModelSpec."""
