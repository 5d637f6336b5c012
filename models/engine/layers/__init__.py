"""Layers that replace those of transformers where a CPU computes them faster."""
