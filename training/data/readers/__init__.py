"""Readers of frames: one file for each kind of source. `registry` lists them."""
