"""The base of every section of a recipe: a pydantic model that refuses unknown keys and values of another type."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from training.config.names import FOLDER_NAME_RULE, is_folder_name
from training.config.sentences import sentence_about
from training.errors import RecipeError

Section = TypeVar("Section", bound="Settings")


def _path_of_text(value: Any) -> Any:
    return Path(value) if isinstance(value, str) and value and "\0" not in value else value


# A path as a recipe writes it: text that is not empty.
PathText = Annotated[Path, pydantic.BeforeValidator(_path_of_text, json_schema_input_type=str)]


def _checked_folder_name(name: str) -> str:
    if not is_folder_name(name):
        raise RecipeError(f"name becomes a folder: expected {FOLDER_NAME_RULE}, got {name!r}")
    return name


# A name that becomes a folder, see `training.config.names`.
FolderName = Annotated[str, pydantic.AfterValidator(_checked_folder_name)]


class Settings(pydantic.BaseModel):
    """A section of a recipe.

    A subclass names its keys as annotated attributes, gives ranges with `pydantic.Field`, and describes each key in a
    docstring below it. The JSON schema and docs/recipe_reference.md show these docstrings.

        class Blur(Settings):
            \"\"\"Blurs some images.\"\"\"

            chance: Annotated[float, Field(ge=0, le=1)] = 0.15
            \"\"\"Chance that an image is blurred.\"\"\"

    Values keep their type: "3" is not a number, 3.0 is not a whole number, "yes" is not a bool. NaN and infinity are
    refused. Only a whole number may stand for a float, and a list for a tuple.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def _tuples_for_lists(cls, values: Any) -> Any:
        """YAML has lists; settings hold tuples, which cannot be changed either."""
        if not isinstance(values, dict):
            return values
        return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}

    @classmethod
    def checked(cls: type[Section], content: Any) -> Section:
        """Return the settings that a mapping of plain values describes.

        Raises:
            RecipeError: A key is unknown or missing, or a value is not valid or does not fit the others.
        """
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise RecipeError(sentence_about(error, cls, content)) from None

    def replace(self: Section, **changes: Any) -> Section:
        """Return a copy with some values changed, checked like a new one.

        Raises:
            RecipeError: A value is not valid, or does not fit the others.
        """
        return self.checked(dict(self) | changes)
