"""Training data: rows made from raw texts, and rows explained token by token."""
