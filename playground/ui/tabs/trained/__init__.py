"""The tab that shows how the variants were trained."""
