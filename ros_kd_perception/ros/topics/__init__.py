"""What the node subscribes to and publishes, one module for each kind of topic. `sinks.py` lists the outputs."""
