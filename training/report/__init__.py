"""One page about a model that a reviewer can read: `python -m training report`."""
