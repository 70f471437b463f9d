"""What the package needs of the machine: child processes, priorities, shared memory, signals, paths."""
