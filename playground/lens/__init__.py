"""The lens: next-token distributions and the loss of each token of a text."""
