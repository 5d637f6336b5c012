"""Tokenizers, chat templates and ends of texts, from the files of a base or an adapter."""
