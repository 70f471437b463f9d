"""Follows objects from frame to frame by their boxes, one camera at a time. Does not use ROS."""
