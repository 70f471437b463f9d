"""Wire definitions restated here for places without a ROS install, and the builder that turns them into support."""
