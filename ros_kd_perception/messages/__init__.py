"""Turns perceptions into ROS messages."""
