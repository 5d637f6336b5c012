"""The benchmark: every way to answer in a process of its own, taking turns."""
