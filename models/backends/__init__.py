"""The backends: what answers for a trio, from weights here, from servers, or from both."""
