"""An evaluation as one page: tables, curves, players; a single file that opens from disk and loads nothing."""
