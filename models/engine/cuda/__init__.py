"""The decode step as a CUDA graph, with a KV cache of one fixed shape."""
