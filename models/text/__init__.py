"""Text: prompts rendered and tokenised, and token ids turned back into text."""
