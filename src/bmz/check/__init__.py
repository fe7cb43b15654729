"""Check whether an image fits a model, and report this as findings."""
