"""The table of distillation losses: it is complete, does not load torch, and has a valid example of each loss."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from typing import get_args

import pytest
from checkout import ROOT
from distillation_terms import example_of

import training.distillation
from training.distillation.base import DistillationTerm, FeaturePlace
from training.distillation.table import TERMS
from training.networks.student import StudentFeatures
from training.recipe import parse_recipe


def all_terms(base: type[DistillationTerm]) -> set[type[DistillationTerm]]:
    """Return a class and its subclasses, without abstract ones."""
    below = {term for child in base.__subclasses__() for term in all_terms(child)}
    return below if inspect.isabstract(base) else below | {base}


def test_every_loss_is_in_the_table() -> None:
    for module in pkgutil.iter_modules(training.distillation.__path__):
        importlib.import_module(f"training.distillation.{module.name}")
    ours = {term for term in all_terms(DistillationTerm) if term.__module__.startswith("training.")}
    missing = [term.__name__ for term in ours - set(TERMS)]
    assert not missing, f"add {missing} to training/distillation/table.py, or no recipe can name it"
    assert set(TERMS) <= ours, "a term of the table has no formula"


def test_names_are_unique() -> None:
    names = [term.model_fields["kind"].default for term in TERMS]
    assert len(set(names)) == len(TERMS)


def test_every_term_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "distillation.md").read_text(encoding="utf-8")
    missing = [kind for kind in (term.model_fields["kind"].default for term in TERMS) if f"`{kind}`" not in page]
    assert not missing, f"add {missing} to the table of docs/distillation.md"


def test_recipes_know_the_places_that_networks_have() -> None:
    assert get_args(FeaturePlace) == tuple(item.name for item in dataclasses.fields(StudentFeatures))


def test_the_table_does_not_load_torch() -> None:
    script = "import sys, training.distillation.settings; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0, "a file of losses loads torch; import it from training.distillation.lazy"


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.__name__)
def test_a_recipe_accepts_the_example_in_the_docstring(term: type[DistillationTerm]) -> None:
    section = f"{{teacher: t, terms: [{example_of(term)}]}}"
    recipe = parse_recipe(f"name: x\ndata: {{train: [{{kind: rendered, folder: x}}]}}\ndistillation: {section}")
    assert recipe.distillation is not None
    assert type(recipe.distillation.terms[0]) is term
