"""Access to the operating system: child processes, priorities, shared memory, signals and paths."""
