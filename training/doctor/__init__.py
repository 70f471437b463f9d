"""What this machine has for training, and what is missing: `python -m training doctor`."""
