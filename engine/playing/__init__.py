"""The band that a dancer plays: steps to notes, triggers, the timeline it shares, and the core of that direction."""
