"""Reads and writes ROS 2 bags without ROS: MCAP and SQLite, compressed or not. Start with `reader`."""
