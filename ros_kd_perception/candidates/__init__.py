"""Runs candidate models in a child process: tries a model before it may drive, or runs it as a shadow."""
