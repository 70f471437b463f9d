"""Rules for parameters and camera names, parameter files and launch arguments. Does not use ROS."""
