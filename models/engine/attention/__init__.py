"""Attention, and the KV cache that it reads."""
