"""Tensors become tensors, tile by tile, on one small backend a framework."""
