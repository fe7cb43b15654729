"""The page of ``bmz open``: served to one browser on this computer, and to nobody else."""
