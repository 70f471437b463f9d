"""Learning from a larger network: what is compared with it, and how."""
