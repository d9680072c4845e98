"""The virtual dancer: from a model's chunks to poses that may be shown, on the beat and on their feet."""
