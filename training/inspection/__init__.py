"""Looks at the frames and labels of a recipe or a folder before a training: the command `inspect-data`."""
