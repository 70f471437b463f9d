"""The options --accelerator, --devices and --num-nodes, and their checks before a run starts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager

from training.arguments import whole_number
from training.errors import RecipeError

MAX_NODES = 1024
MAX_CPU_PROCESSES = 256
ALL_DEVICES = ("auto", "-1")
_EXPECTED = "a number of devices, at least 1, a list such as 0,1, or auto"
_NUMBERS = re.compile(r"[0-9]{1,18}(\s*,\s*[0-9]{1,18})*")


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Add the options --accelerator and --devices."""
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--devices", default="1", type=device_numbers, help="how many, or a list such as 0,1")


def add_nodes(parser: argparse.ArgumentParser) -> None:
    """Add the option --num-nodes."""
    what = "machines; start the same command on each"
    parser.add_argument("--num-nodes", type=whole_number(1, MAX_NODES), default=1, help=what)


def device_numbers(text: str) -> str:
    """Return the text if it is a number of devices, a list of numbers with commas, `auto` or `-1` (all devices).

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    text = text.strip()
    if text not in ALL_DEVICES and not _NUMBERS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected {_EXPECTED}, got {text[:80]!r}")
    return text


def check_devices(accelerator: str, devices: str | int) -> None:
    """Refuse devices that this machine does not have.

    Args:
        accelerator: `auto`, `cpu` or `gpu`.
        devices: Result of `device_numbers`, or a number of devices.

    Raises:
        RecipeError: There is no GPU, or there are fewer devices than asked for.
    """
    import torch  # here, because it takes seconds to load and the options do not need it

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = gpus or int(torch.backends.mps.is_available())
    if accelerator == "gpu" and not gpus:
        raise RecipeError("--accelerator gpu: expected a GPU that torch can use, found none; use cpu or auto")
    on_gpu = accelerator != "cpu" and gpus > 0
    available = gpus if on_gpu else MAX_CPU_PROCESSES
    if devices in ALL_DEVICES:
        return
    numbers = [int(part) for part in str(devices).split(",")]
    if len(numbers) == 1 and not 1 <= numbers[0] <= available:
        where = f"{available} GPUs of this machine" if on_gpu else f"{available} processes on a CPU"
        raise RecipeError(f"--devices {devices}: expected {_EXPECTED}, and at most the {where}")
    if len(numbers) > 1 and not on_gpu:
        raise RecipeError(f"--devices {devices}: a list names GPUs, this run uses the CPU; give a number of processes")
    if len(numbers) > 1 and (len(set(numbers)) < len(numbers) or max(numbers) >= gpus):
        raise RecipeError(f"--devices {devices}: expected different GPUs from 0 to {gpus - 1}; correct the list")


@contextmanager
def refused_devices(accelerator: str, devices: str | int, num_nodes: int) -> Iterator[None]:
    """Turn any error while Lightning makes a trainer for the devices into a RecipeError.

    Raises:
        RecipeError: Lightning cannot make the trainer.
    """
    try:
        yield
    except Exception as error:  # errors of Lightning, Python and torch
        raise RecipeError(
            f"--accelerator {accelerator}, --devices {devices}, --num-nodes {num_nodes}: expected devices that this "
            f"recipe can be trained on, Lightning says: {' '.join(str(error).split())[:200]}; choose others"
        ) from error
