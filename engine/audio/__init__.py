"""Hearing: audio sources and sample-rate conversion."""
