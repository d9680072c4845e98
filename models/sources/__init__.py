"""Where dances come from: each module reads one published layout, as `models.clip_sources.ClipSource`s."""
