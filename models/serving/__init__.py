"""Serving: several people's answers, step by step, on the one thread that computes."""
