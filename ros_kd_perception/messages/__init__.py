"""Perceptions in, ROS messages out."""
