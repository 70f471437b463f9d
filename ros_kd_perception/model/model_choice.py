"""Chooses between the shipped students by what this machine runs fastest: `model: auto`."""

from __future__ import annotations

from dataclasses import dataclass

from ros_kd_perception.model.execution_provider import CPU, available_providers, wanted_provider
from ros_kd_perception.system.cpu_kernels import int8_kernels
from ros_kd_perception.system.shipped_files import AUTO_MODEL, SHIPPED_INT8_STUDENT, SHIPPED_STUDENT, shipped_file


@dataclass(frozen=True)
class ModelChoice:
    """The model file to run.

    Attributes:
        path: Path of the file.
        reason: Which shipped student was chosen and why, as one clause. Empty if the user named the file.
    """

    path: str
    reason: str = ""


def choose_model(model: str, device: str = "auto", precision: str = "auto") -> ModelChoice:
    """Return the file of a `model` that may be `auto` or empty, which choose the shipped student.

    The quantised student is only faster on a CPU with instructions for INT8; a GPU would compute it in floats.

    Args:
        model: Path of a file, `auto` or empty.
        device: The requested device, one of `DEVICES`.
        precision: The requested precision, one of `PRECISIONS`.
    """
    if model not in ("", AUTO_MODEL):
        return ModelChoice(model)
    provider = wanted_provider(device, available_providers())
    kernels, quantised = int8_kernels(), shipped_file(SHIPPED_INT8_STUDENT)
    table = (
        (not quantised.is_file(), SHIPPED_STUDENT, f"{SHIPPED_INT8_STUDENT} is not installed"),
        (precision == "int8", SHIPPED_INT8_STUDENT, "precision int8 was asked for"),
        (precision != "auto", SHIPPED_STUDENT, f"precision {precision} was asked for"),
        (provider != CPU, SHIPPED_STUDENT, f"{provider} runs networks of floats faster"),
        (not kernels.found, SHIPPED_STUDENT, kernels.reason),
        (True, SHIPPED_INT8_STUDENT, kernels.reason),
    )
    file, why = next((file, why) for holds, file, why in table if holds)
    return ModelChoice(str(shipped_file(file)), f"model auto is {file}: {why}")
