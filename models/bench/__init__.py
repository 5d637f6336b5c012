"""The benchmark: ways to answer, run in turn by long-lived child processes."""
