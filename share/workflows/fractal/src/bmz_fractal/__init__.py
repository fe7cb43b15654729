"""Fractal tasks that run models of the BioImage Model Zoo."""
