"""The plugin of napari: opens results, and runs models on layers."""
