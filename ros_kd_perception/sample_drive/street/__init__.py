"""Build the street of a seed: road, weather, layout, and everything that moves on it."""
