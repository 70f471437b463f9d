"""What a run is computed on: --accelerator, --devices and --num-nodes, refused in a sentence before anything starts."""

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
    """The options --accelerator and --devices."""
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--devices", default="1", type=device_numbers, help="how many, or a list such as 0,1")


def add_nodes(parser: argparse.ArgumentParser) -> None:
    """The option --num-nodes."""
    what = "machines; start the same command on each"
    parser.add_argument("--num-nodes", type=whole_number(1, MAX_NODES), default=1, help=what)


def device_numbers(text: str) -> str:
    """A number of devices, a list of numbers with commas, or all devices: `auto` or `-1`."""
    text = text.strip()
    if text not in ALL_DEVICES and not _NUMBERS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected {_EXPECTED}, got {text[:80]!r}")
    return text


def check_devices(accelerator: str, devices: str | int) -> None:
    """Refuse devices that are not here.

    Args:
        accelerator: `auto`, `cpu` or `gpu`.
        devices: as `device_numbers` gives them, or how many.

    Raises:
        RecipeError: no GPU, or fewer devices than asked for.
    """
    import torch  # here, for it takes seconds to load, and the options alone do not need it

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = gpus or int(torch.backends.mps.is_available())
    if accelerator == "gpu" and not gpus:
        raise RecipeError("--accelerator gpu: expected a GPU that torch can use, there is none; use cpu or auto")
    on_gpu = accelerator != "cpu" and gpus > 0
    available = gpus if on_gpu else MAX_CPU_PROCESSES
    if devices in ALL_DEVICES:
        return
    numbers = [int(part) for part in str(devices).split(",")]
    if len(numbers) == 1 and not 1 <= numbers[0] <= available:
        where = f"{available} GPUs that are here" if on_gpu else f"{available} processes on a CPU"
        raise RecipeError(f"--devices {devices}: expected {_EXPECTED}, and at most the {where}")
    if len(numbers) > 1 and not on_gpu:
        raise RecipeError(f"--devices {devices}: a list names GPUs, and none is used here; give a number of processes")
    if len(numbers) > 1 and (len(set(numbers)) < len(numbers) or max(numbers) >= gpus):
        raise RecipeError(f"--devices {devices}: a list names different GPUs, 0 to {gpus - 1}; there are {gpus}")


@contextmanager
def refused_devices(accelerator: str, devices: str | int, num_nodes: int) -> Iterator[None]:
    """Make a sentence of what Lightning says against the devices while a trainer is made for them.

    Raises:
        RecipeError: instead of whatever it raises.
    """
    try:
        yield
    except Exception as error:  # it has classes of its own, and raises those of Python and of torch besides
        raise RecipeError(
            f"--accelerator {accelerator}, --devices {devices}, --num-nodes {num_nodes}: expected devices that this "
            f"recipe can be trained on, Lightning says: {' '.join(str(error).split())[:200]}; choose others"
        ) from error
