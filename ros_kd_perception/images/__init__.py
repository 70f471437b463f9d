"""Image messages in, BGR pixels out: encodings, compressed formats, damaged JPEGs."""
