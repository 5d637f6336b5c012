"""Examines a machine and a trio on it: what is there, what is used, and what is wrong."""
