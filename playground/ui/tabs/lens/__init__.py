"""The Lens tab."""
