"""`python -m training COMMAND`: train, evaluate, compare or export students.

Help, and errors in recipes and paths, take a second or two at most: this module, the module `command` of each wing and
the reading of recipes do not load torch or packages that depend on it. A command imports them after all checks that do
not need them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ros_kd_perception.model.onnx_file import ModelFileError
from ros_kd_perception.system.output_paths import OutputPathError
from training.errors import CheckpointError, DataError, RecipeError, sentence_about

DESCRIPTION = "Train, evaluate, compare or export students."
COMMANDS = {
    "train": ("training.run.command", "train a student by a recipe"),
    "evaluate": ("training.evaluation.command", "score models on labelled frames, side by side"),
    "report": ("training.report.command", "write one page about a model, with a verdict"),
    "conditions": ("training.conditions.command", "measure files in noise, blur, weather, poor light and other views"),
    "calibrate": ("training.calibration.command", "make the scores of a student mean what they say, with proof"),
    "stability": ("training.stability.command", "measure flicker, lost objects and waits from frame to frame"),
    "tracking": ("training.tracking.command", "measure how well ids stay with their objects: HOTA and IDF1"),
    "compare": ("training.compare.command", "train several recipes over several seeds and report the differences"),
    "compress": ("training.compression.command", "prune, distil and quantise a student, with proof of what was lost"),
    "export": ("training.export.command", "write a checkpoint's student as one ONNX file"),
    "adopt": ("training.adoption.command", "make a file for a vehicle of an ONNX file of others"),
    "keep-weights": ("training.keep_weights.command", "keep weights alone, of a checkpoint or the mean of several"),
    "extract-frames": ("training.extraction.command", "take frames out of a bag into a folder to train on"),
    "doctor": ("training.doctor.command", "say what is installed, which devices there are, and what is missing"),
    "labels": ("training.label_tables.command", "show label sets, and what maps to what between them"),
    "inspect-data": ("training.inspection.command", "look at the frames and labels of a recipe or a folder"),
    "bill-of-materials": ("training.bill_of_materials.command", "write what a release is made of, as CycloneDX JSON"),
    "schema": ("training.schema.command", "write JSON schemas of recipes for editors, and their reference page"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Return exit status 2, with one sentence on standard error, for wrong input or a full disk.

    After an interrupt, return 130, as shells do.
    """
    try:
        arguments = _read(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:  # imports take seconds on a busy machine
        return 130
    return _run(arguments)


def _read(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of the command that is asked for, whose module alone is imported."""
    parser = argparse.ArgumentParser(prog="python -m training", description=DESCRIPTION)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((word for word in words if word in COMMANDS), None)
    for name, (module_name, what) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=what, description=what)
        if name == asked:  # the others are not needed
            module = importlib.import_module(module_name)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser.parse_args(words)


def _run(arguments: argparse.Namespace) -> int:
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads the output, such as `head`, has ended; the rest of it goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CheckpointError, DataError, ModelFileError, OutputPathError, RecipeError) as error:
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
