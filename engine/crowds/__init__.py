"""Dancers behind the lead: the same rules for many at once, in processes of their own."""
