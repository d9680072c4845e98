"""What runs on stage: types, clock, sensors, beats, pipeline, scheduler, runner, command line."""

__version__ = "0.1.0"
