"""Where dances come from: each module reads one published layout, as `models.data.clip_sources.ClipSource`s."""
