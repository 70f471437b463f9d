"""Losses that compare outputs with labels; `SupervisedLoss` is the complete loss of supervised training."""

from training.losses.supervised import SupervisedLoss

__all__ = ["SupervisedLoss"]
