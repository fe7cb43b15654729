"""Run the models of the BioImage Model Zoo from the terminal and from Python."""

__version__ = "0.1.0"
