"""From bags to a training set: `python -m training extract-frames`."""
