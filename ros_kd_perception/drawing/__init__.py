"""Pictures for people: overlays, mosaics, videos, plots."""
