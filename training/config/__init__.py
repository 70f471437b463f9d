"""Sections of recipes, and how YAML becomes settings. `training.recipe` puts the sections together."""
