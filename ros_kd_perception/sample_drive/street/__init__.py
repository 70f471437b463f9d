"""The street of a seed: road, weather, layout and what moves on it."""
