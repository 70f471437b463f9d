"""Where the ground is free: from a class map and a calibration to distances."""
