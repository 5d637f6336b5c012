"""Backends that answer for a trio: with local weights, with servers, or with both."""
