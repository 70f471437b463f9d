"""A deterministic renderer of road scenes with exact masks and boxes: free data for the demo, tests and training."""

from ros_kd_perception.sample_drive.camera import CameraModel, default_cameras, random_camera
from ros_kd_perception.sample_drive.drive import RenderedView, SampleDrive
from ros_kd_perception.sample_drive.street.weather import WEATHERS

__all__ = ["WEATHERS", "CameraModel", "RenderedView", "SampleDrive", "default_cameras", "random_camera"]
