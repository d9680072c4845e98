"""The other systems of the field, built here and trained on the same data by the same command as our own."""
