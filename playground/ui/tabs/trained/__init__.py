"""The tab on how the variants were trained."""
