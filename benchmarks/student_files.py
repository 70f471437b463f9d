#!/usr/bin/env python3
"""Compare students in one table and one plot: size, latency and accuracy, all measured in one run.

A YAML file names the rows and the frames:

    rows:                                  # .onnx files, checkpoints or weights; several of a row are its seeds
      n: [out/n_0.ckpt, out/n_1.ckpt, out/n_2.ckpt]
      s int8: [models/student_int8.onnx]
    scores:                                # as in a recipe of `compress`
      - {name: left-out drive, frames: {kind: camvid, folder: data/camvid/train, include_drives: [0001TP]}}
    threads: 1                             # of the network (1)
    rounds: 100                            # in which every file is timed once (100)

All files are timed in one process in turns. A row of one file has the bootstrap's interval over frames, a row of
several the smallest and largest value of its seeds. A row is on the front, in bold, if no other row beats it: none is
as quick and as accurate, and better in one of both. Writes table.md, table.json and table.png. What was perceived is
kept in the folder, so a second run only times.

Usage: python benchmarks/student_files.py ROWS.yaml -o FOLDER [--device DEVICE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from device_option import add_device_option


def main() -> int:
    """Measure, print the table and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="the YAML file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write into")
    add_device_option(parser, "cpu")
    arguments = parser.parse_args()

    from ros_kd_perception.model.onnx_model import ModelError
    from training.compression.student_table import TableRecipe, write_table
    from training.config.loading import load_settings
    from training.errors import CheckpointError, DataError, RecipeError

    try:
        recipe = load_settings(arguments.rows, TableRecipe)
        print(write_table(recipe, arguments.output, arguments.device))
    except (CheckpointError, DataError, ModelError, RecipeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
