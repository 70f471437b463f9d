"""Camera perception for ROS 2: a distilled student network on the vehicle's graph. Start reading at `perceiver.py`."""

__version__ = "0.1.0"
