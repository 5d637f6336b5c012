"""Comparison: one prompt to three variants, and the record of their answers."""
