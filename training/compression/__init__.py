"""Chains of compression: prune, distil, quantise, with the proof of what was lost."""
