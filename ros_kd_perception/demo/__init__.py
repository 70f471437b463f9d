"""The live demo: play a drive to the node, record the results, write a report. Start reading at `command.py`."""
