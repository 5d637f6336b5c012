"""Serving: runs the requests of several people, step by step, on one compute thread."""
