"""What training minimises; `training.losses.SupervisedLoss` is the whole of supervised training."""

from training.losses.supervised import SupervisedLoss

__all__ = ["SupervisedLoss"]
