"""Message definitions for machines without a ROS install, and the builder that makes Python packages of them."""
