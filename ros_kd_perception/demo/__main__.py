"""Entry point of `python -m ros_kd_perception.demo`."""

import sys

from ros_kd_perception.demo.command import main

if __name__ == "__main__":
    sys.exit(main())
