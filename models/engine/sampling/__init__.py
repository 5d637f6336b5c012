"""From hidden states to logits, and from logits to the next token id."""
