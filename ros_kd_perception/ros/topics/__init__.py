"""What the node subscribes to and publishes, one module a kind of topic."""
