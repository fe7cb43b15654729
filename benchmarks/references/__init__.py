"""The parts of ``benchmarks/parity.py``: tools, maps of real masks, and what is compared."""
