"""Prompting: prompts made of the fields that a person fills in, and checks of them."""
