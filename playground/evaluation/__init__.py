"""Evaluation: labelled tasks, scored, with intervals."""
