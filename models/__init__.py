"""The networks, their artifacts, and how they learn."""
