"""The arguments of a command that name labelled frames."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ros_kd_perception.system.command_arguments import path_argument
from training.arguments import some_text, whole_number
from training.config.loading import load_settings
from training.data.readers.bag import BagSource
from training.data.readers.registry import BAG_KIND, OWN_FOLDER_KIND, RENDERED_KIND, recognize, source_of
from training.data.readers.source import Source
from training.label_sets.label_set import NameTable

_KEYS = ("limit", "labels", "include_drives", "exclude_drives")


def add_source_arguments(parser: argparse.ArgumentParser, kinds: Sequence[str]) -> None:
    """Add the arguments. `data` comes after those that the command has added before.

    Args:
        parser: Parser of the command.
        kinds: Kinds of readers that it takes.
    """
    parser.add_argument("data", type=path_argument, help="labelled frames, such as a folder with images/ and masks/")
    parser.add_argument(
        "--kind", choices=("auto", *kinds), default="auto", help="reader; auto: by the files in the folder"
    )
    parser.add_argument(
        "--labels",
        type=some_text,
        metavar="NAME",
        help="label set of the data: its name, or its .yaml; default: that of the reader or of the folder",
    )
    parser.add_argument(
        "--map",
        type=path_argument,
        metavar="FILE",
        help="a .yaml with what classes of the data become in the model, by name, like map: in a source of a recipe",
    )
    for option, words in (("--include-drives", "only frames"), ("--exclude-drives", "no frames")):
        parser.add_argument(
            option, nargs="*", default=[], type=some_text, metavar="PREFIX", help=f"{words} of these drives"
        )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the folder's reader, as in a source of a recipe, for example split=val",
    )
    parser.add_argument("--limit", type=whole_number(0), default=0, help="number of frames, from the first on; 0 = all")


def chosen_source(arguments: argparse.Namespace) -> Source:
    """Return the settings of the frames. Keys are left out unless chosen, because not every kind has all of them.

    Raises:
        RecipeError: A key or value does not fit the kind.
    """
    kind = arguments.kind
    if kind == "auto":
        otherwise = OWN_FOLDER_KIND if arguments.labels else RENDERED_KIND
        kind = BAG_KIND if BagSource.recognizes(arguments.data) else recognize(arguments.data, otherwise)
    chosen = {key: value for key in _KEYS if (value := getattr(arguments, key))}
    if arguments.map:
        chosen["map"] = load_settings(arguments.map, NameTable)
    return source_of(kind, {"folder": arguments.data, **chosen}, arguments.source)
