"""Shows, models and training runs as data, and the demo song."""
