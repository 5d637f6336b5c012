"""Weights: fetched, loaded, shared between models, and counted in memory."""
