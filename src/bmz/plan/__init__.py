"""Findings and options become a frozen plan that can be printed."""
