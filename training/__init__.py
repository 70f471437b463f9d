"""Offline training of students: configuration, data, networks, losses and commands. Never installed on a vehicle."""

import os

# Must be set before torch loads OpenMP. By default its threads spin while they wait for each other. With data loading
# on the same cores this made a training step five times slower (student s, 2 cores). Sleeping threads have no
# measurable cost when the cores are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
