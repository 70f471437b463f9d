"""Measures how well ids stay with their objects."""
