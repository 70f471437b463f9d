"""Distillation terms as YAML: the example of each class of the table, and other settings of these classes.

Tests that take EVERY_TERM include a new term as soon as it is in the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

from training.distillation.base import DistillationTerm
from training.distillation.table import TERMS

OTHER_SETTINGS = (
    *(f"{{kind: {kind}}}" for kind in ("temperature_kl", "logit_mse", "dist", "standardized_kl")),
    *(f"{{kind: {kind}, labeled_only: true}}" for kind in ("temperature_kl", "logit_mse", "dist", "standardized_kl")),
    "{kind: hint, at: p5}",
    "{kind: channel_wise, at: segmentation}",
    "{kind: channel_wise, at: p4}",
    "{kind: pearson, at: p3}",
    "{kind: pairwise_affinity, at: p4, grid: 4}",
    "{kind: distance_relation, at: p4}",
    "{kind: angle_relation, at: p4}",
    "{kind: cross_image_relation, at: p4, grid: 4}",
    "{kind: soft_classification, sharpness: 0}",
    "{kind: foreground_imitation, at: p4}",
)


def example_of(term: type[DistillationTerm]) -> str:
    """Return the line of a recipe that the docstring of a term shows."""
    found = re.findall(r"^ *- (\{kind: .*\})$", term.__doc__ or "", re.MULTILINE)
    assert len(found) == 1, f"expected one line '- {{kind: ...}}' in the docstring of {term.__name__}, got {found}"
    return str(found[0])


def kinds_in(module: str) -> set[str]:
    """Return the kinds of the terms that a module of training.distillation defines."""
    terms = (term for term in TERMS if term.__module__ == f"training.distillation.{module}")
    return {str(term.model_fields["kind"].default) for term in terms}


def value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the loss, checked to be a float32 scalar, and its gradient by the student's tensor."""
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, student)
    return value.detach(), gradient


EVERY_TERM = f"[{', '.join([*map(example_of, TERMS), *OTHER_SETTINGS])}]"
EVERY_TERM_COUNT = len(TERMS) + len(OTHER_SETTINGS)
