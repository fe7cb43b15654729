"""The napari plugin, which opens results and runs models on layers."""
