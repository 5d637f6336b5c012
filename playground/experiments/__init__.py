"""Experiments: the measurements in the model cards, and the medical experiment."""
