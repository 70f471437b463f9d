"""Chooses among all conditions: those that change any labelled frame, and those that the renderer makes."""

from __future__ import annotations

from collections.abc import Sequence

from training.conditions.condition import Condition, named
from training.conditions.rendered import RENDERED_CONDITIONS
from training.conditions.table import CONDITIONS
from training.errors import RecipeError

ALL_CONDITIONS: tuple[Condition, ...] = (*CONDITIONS, *RENDERED_CONDITIONS)


def chosen_conditions(only: Sequence[str], rendered: int, option: str, count_option: str) -> tuple[Condition, ...]:
    """Return conditions by their names and families.

    Args:
        only: Names of conditions and families; empty takes all.
        rendered: Number of rendered frames of each setting; 0 leaves the conditions of the renderer out.
        option: Name of `only` in errors.
        count_option: Name of `rendered` in errors, with what stands between it and its value.

    Raises:
        RecipeError: A name is unknown, or is that of a rendered condition and no frames are rendered.
    """
    known = {name for each in ALL_CONDITIONS for name in (each.family, each.name)}
    if unknown := [name for name in only if name not in known]:
        raise RecipeError(f"{option}: expected names of {', '.join(sorted(known))}, got {unknown[0]!r}")
    missing = [each.name for each in RENDERED_CONDITIONS if each.name in only and not rendered]
    if missing:
        raise RecipeError(
            f"{missing[0]} needs rendered frames, {count_option.strip(' :')} is 0; say how many, such as "
            f"{count_option}12"
        )
    return tuple(each for each in named(ALL_CONDITIONS, only) if rendered or each not in RENDERED_CONDITIONS)
