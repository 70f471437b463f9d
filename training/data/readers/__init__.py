"""Data on disk: one reader for each kind of folder."""
