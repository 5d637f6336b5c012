"""Experiments: what the model cards report, and the medical experiment."""
