#!/bin/bash
# Exit with 0 if the perception node is active, else with 1 and one sentence. docker shows the sentence.
#
# PERCEPTION_NODE is the full name of the node, for a node in a namespace: /robot/perception.
# Without the daemon of ros2cli, which would stay as a second process in the container.
node=${PERCEPTION_NODE:-/perception}
state=$(ros2 lifecycle get --no-daemon --spin-time 3 "$node" 2>&1)
if [[ $state == "active ["* ]]; then
    exit 0
fi
echo "expected $node to be active, got: ${state:-no answer}"
exit 1
