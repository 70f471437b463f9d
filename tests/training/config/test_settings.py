"""The base of all sections accepts and refuses values by their exact type."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import Field

from training.config.settings import PathText, Settings
from training.errors import RecipeError


class Blur(Settings):
    """Blurs some images."""

    kind: Literal["blur"] = "blur"
    chance: float = Field(0.5, ge=0, le=1)
    """Chance that an image is blurred."""
    radius: int = 1
    twice: bool = False
    label: str = ""
    folder: PathText = Path("masks")
    weights: tuple[Annotated[float, Field(ge=0)], ...] = ()


@pytest.mark.parametrize(
    "values",
    [
        {"chance": "0.5"},
        {"chance": True},
        {"chance": 1.5},
        {"chance": float("nan")},
        {"chance": float("inf")},
        {"chance": 10**400},
        {"radius": 3.0},
        {"radius": "3"},
        {"radius": True},
        {"twice": "yes"},
        {"twice": 1},
        {"label": 3},
        {"label": b"text"},
        {"folder": ""},
        {"folder": "a\0b"},
        {"folder": b"masks"},
        {"weights": "12"},
        {"weights": {1.0: 2.0}},
        {"weights": {1.0, 2.0}},
        {"weights": [-1.0]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_another_type_value_or_key_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        Blur.model_validate(values)


def test_lists_whole_numbers_and_text_become_tuples_floats_and_paths() -> None:
    blur = Blur.model_validate({"chance": 1, "weights": [1, 2.5], "folder": "elsewhere"})
    assert blur == Blur(chance=1.0, weights=(1.0, 2.5), folder=Path("elsewhere"))
    assert isinstance(blur.chance, float)


def test_settings_are_immutable_and_changed_copies_are_checked() -> None:
    blur = Blur()
    with pytest.raises(pydantic.ValidationError):
        blur.chance = 0.1  # type: ignore[misc]
    assert blur.replace(chance=0.1) == Blur(chance=0.1)
    with pytest.raises(RecipeError, match=r"^chance must be from 0 to 1, got 2\.0$"):
        blur.replace(chance=2.0)


def test_settings_can_be_pickled_and_hashed() -> None:
    blur = Blur(weights=(1.0,))
    assert pickle.loads(pickle.dumps(blur)) == blur
    assert len({blur, Blur(weights=(1.0,)), Blur()}) == 2


def test_docstrings_of_keys_become_descriptions() -> None:
    schema = Blur.model_json_schema()
    assert schema["description"] == "Blurs some images."
    assert schema["properties"]["chance"]["description"] == "Chance that an image is blurred."
    assert schema["properties"]["folder"]["type"] == "string"


class Lengths(Settings):
    """Values with limits on their lengths, and a pattern."""

    names: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)] = ("a",)
    title: Annotated[str, Field(min_length=1, max_length=3)] = "a"
    figure: Annotated[str, Field(pattern="^(miou|ap50)$")] = "miou"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"names": []}, "names must have at least 1 entry, got []"),
        ({"names": ["a", "b", "c"]}, "names must have at most 2 entries, got ['a', 'b', 'c']"),
        ({"title": ""}, "title must have at least 1 character, got ''"),
        ({"title": "abcd"}, "title must have at most 3 characters, got 'abcd'"),
        ({"figure": "mean"}, "figure must match the pattern ^(miou|ap50)$, got 'mean'"),
    ],
)
def test_lengths_and_patterns_are_told_in_our_words(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as refused:
        Lengths.checked(values)
    assert str(refused.value) == sentence
