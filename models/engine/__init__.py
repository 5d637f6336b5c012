"""Rows of ids → the next id of each row. Knows ids, not text, and nobody who asks."""
