"""Preparation: published motion and music into what the networks learn from."""
