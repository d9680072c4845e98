"""Seeing: cameras, video files and recorded poses; from 33 landmarks of a person to a pose of the skeleton."""
