"""Data frames: summaries, intervals and tests."""
