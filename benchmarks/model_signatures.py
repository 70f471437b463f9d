#!/usr/bin/env python3
"""Time what `require_signature` adds: the check of a large file, and of a model when it is opened.

A file of random bytes is signed with a new key. Timed are reading and hashing it, as without a signature, and the check
of its signature after that; the first check of a process also loads the package `cryptography`. A model is opened with
and without the check, in turns. Prints a table, and with --json writes milliseconds.

Usage: python benchmarks/model_signatures.py [--model MODEL.onnx] [--megabytes N] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from device_option import add_device_option

from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.model.signature import check_signature, signature_of, signature_path
from ros_kd_perception.system.shipped_files import SHIPPED_STUDENT, shipped_file


def elapsed_ms(call: Callable[[], object]) -> float:
    """Return how long a call took."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=shipped_file(SHIPPED_STUDENT), help="model to open")
    parser.add_argument("--megabytes", type=float, default=10, help="size of the file of random bytes")
    parser.add_argument("--rounds", type=int, default=20, help="runs of everything")
    parser.add_argument("--json", type=Path, help="write milliseconds there")
    add_device_option(parser, "cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options)
    print(f"network: {OnnxModel.open(options.model, device=options.device).provider.what_runs}")
    for name, milliseconds in result.items():
        print(f"{name:<46}{milliseconds:8.2f} ms")
    if options.json:
        options.json.write_text(json.dumps(result, allow_nan=False))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return milliseconds by what was timed: medians, except for the first check."""
    file, model, key = folder / "random.onnx", folder / "model.onnx", folder / "key.pub"
    file.write_bytes(os.urandom(round(options.megabytes * 1e6)))
    shutil.copyfile(options.model, model)
    sign_in_a_child(folder, file, model)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    first_ms = elapsed_ms(lambda: check_signature(file, sha256, key))
    hashing, checking, opening, opening_signed = [], [], [], []
    for _ in range(options.rounds):
        hashing.append(elapsed_ms(lambda: hashlib.sha256(file.read_bytes()).hexdigest()))
        checking.append(elapsed_ms(lambda: check_signature(file, sha256, key)))
        opening.append(elapsed_ms(lambda: OnnxModel.open(model, device=options.device)))
        opening_signed.append(elapsed_ms(lambda: OnnxModel.open(model, device=options.device, signature_key=str(key))))
    return {
        f"read and hash {options.megabytes:g} MB": statistics.median(hashing),
        "check the signature, first time in a process": first_ms,
        "check the signature": statistics.median(checking),
        "open the model": statistics.median(opening),
        "open the model, signature checked": statistics.median(opening_signed),
    }


def sign_in_a_child(folder: Path, *files: Path) -> None:
    """Sign files in another process, so that this one has not loaded `cryptography` yet."""
    child = os.fork()
    if child == 0:
        from ros_kd_perception.model.signature_key import PrivateKey

        private = PrivateKey.new()
        (folder / "key.pub").write_bytes(private.public.to_pem())
        for file in files:
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            signature_path(file).write_bytes(signature_of(file.name, sha256, private))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("expected to sign the files, the process that signs has failed")


if __name__ == "__main__":
    main()
