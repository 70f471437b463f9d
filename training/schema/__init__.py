"""Descriptions of recipes that are made from the code: JSON schemas for editors, and a reference page."""
