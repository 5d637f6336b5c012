"""Prompting: what a person fills in, as one prompt, and what is odd about it."""
