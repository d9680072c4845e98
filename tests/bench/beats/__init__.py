"""The benchmark of causal beat tracking: a hard set of music with known beats, scored at the moment of emission.

    python -m tests.bench.beats.run --data DATA --cache CACHE --soundfont MuseScore_General.sf3 --peers aubio,ours

`hard_set` builds the music, `peers` runs trackers hop by hop, `score` says how well they did. Nothing here is needed
on stage, and no peer is a dependency of the project.
"""
