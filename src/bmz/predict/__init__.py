"""Run networks tile by tile, through one small backend per framework."""
