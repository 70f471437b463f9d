"""Bags: read, ordered by time, written; MCAP and SQLite, packed or plain."""
