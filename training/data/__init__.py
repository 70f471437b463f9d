"""Readers, augmentation and batches for training."""
