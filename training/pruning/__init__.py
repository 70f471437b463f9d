"""Structured pruning: a student with fewer channels, which trains, exports and quantises like any other."""
