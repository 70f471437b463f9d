"""Score a checkpoint or an exported student."""
