#!/bin/bash
# Run a command with the ROS installation and the workspace sourced.
set -e
# shellcheck disable=SC1091  # both files exist in the image only
source "/opt/ros/$ROS_DISTRO/setup.bash" --
# shellcheck disable=SC1091
source /opt/perception/install/local_setup.bash --
exec "$@"
