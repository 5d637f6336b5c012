"""Forward passes of fixed shapes on a CPU, recorded once and replayed without Python's modules."""
