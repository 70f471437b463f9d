"""Train and score several recipes over several seeds, and report the differences."""
