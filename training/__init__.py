"""Offline training of students: data, networks and one file for each job. Never installed on a vehicle."""

import os

# Before torch loads OpenMP. Its threads spin while they wait for each other; with data loading on the same cores that
# made a training step five times slower (student s, 2 cores), and sleeping costs nothing measurable when they are free.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
