"""Networks with random values everywhere, as after a training, and all that they compute."""

from __future__ import annotations

from torch import Tensor, nn

import training  # noqa: F401  # before torch: it sets how threads wait
from training.networks.student import Student, StudentOutputs, build_student


def make_used(size: str) -> Student:
    """Build a network for both tasks with random values everywhere."""
    return used(build_student(size, 11, 4))


def used(student: Student) -> Student:
    """Give a network random normalisation, scales, biases and slopes, and return it."""
    for module in student.modules():
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.2, 1.2)
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, std=0.3)
    for name, values in student.named_parameters():
        if name.endswith("scale"):
            nn.init.uniform_(values, 0.5, 1.5)
        elif name.endswith(("classifier.bias", "1.bias")):
            nn.init.normal_(values)
    return student


def everything(outputs: StudentOutputs) -> list[Tensor]:
    """Return the outputs of all heads and branches that the network has."""
    found = [] if outputs.segmentation_logits is None else [outputs.segmentation_logits]
    for branch in (outputs.detection, outputs.detection_one_to_many):
        if branch is not None:
            found += [branch.flat_class_logits(), branch.flat_distance_logits()]
    return found
