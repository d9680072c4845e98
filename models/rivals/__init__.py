"""Systems that dance to a song, side by side behind one small interface: ours, its rivals, and real dance itself."""
