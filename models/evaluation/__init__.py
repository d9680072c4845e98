"""Measuring systems side by side: one dance, a system over all songs, and the tables that are printed."""
