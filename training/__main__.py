"""`python -m training COMMAND`: train, evaluate, compare or export students."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from training.checkpoint import CheckpointError
from training.data.source import DataError
from training.disk_errors import sentence_about
from training.recipe import RecipeError

COMMANDS = {
    "train": ("training.train", "train a student by a recipe"),
    "evaluate": ("training.evaluate", "score a checkpoint or an exported file on labelled frames"),
    "compare": ("training.compare", "train several ways over several seeds and say what it was worth"),
    "export": ("training.export_command", "write a checkpoint's student as one ONNX file"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; exit status 2 and one sentence on standard error where its input is wrong or the disk full."""
    words = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the command that was asked for is imported: the others need seconds to load.
    asked = next((word for word in words if word in COMMANDS), None)
    for name, (module_name, what) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=what, description=what)
        if name == asked:
            module = importlib.import_module(module_name)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(words)
    try:
        return int(arguments.run(arguments))
    except (CheckpointError, DataError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        sentence = sentence_about(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
