"""Serve the page of ``bmz open`` to one browser on this computer, and to no one else."""
