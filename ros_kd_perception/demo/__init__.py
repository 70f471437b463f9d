"""The live demo: a drive played to the node, recorded, and reported on. Start reading at `command.py`."""
