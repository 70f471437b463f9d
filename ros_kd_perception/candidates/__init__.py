"""A model that is tried or shadowed in a child process before it may run."""
