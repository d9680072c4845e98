"""Music as four voices on a grid of sixteenths: read from MIDI and abc, transcribed from audio, written as MIDI."""
