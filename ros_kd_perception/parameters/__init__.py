"""Parameters and camera names: their rules, parameter files, launch arguments. No ROS needed."""
