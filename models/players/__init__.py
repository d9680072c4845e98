"""Other players of music to a dance, beside which the dance -> music model is measured."""
