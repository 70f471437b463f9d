"""The table of forms of 8-bit files: which types, and which operators become integers. A new form is a new line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IntegerType = Literal["uint8", "int8"]


@dataclass(frozen=True)
class IntegerForm:
    """How a network becomes integers for one kind of hardware.

    Attributes:
        activations: Type of the activations.
        weights: Type of the weights. They are always symmetric.
        symmetric_activations: Whether the zero of activations is the middle of their range.
        per_channel: Whether each output channel of a weight has its own scale.
        weighted: Operators with constant weights. They hold the work of a network.
        between: Operators that become integers only on the way from one weighted operator to another.
        words: The form in a sentence.
    """

    activations: IntegerType
    weights: IntegerType
    symmetric_activations: bool
    per_channel: bool
    weighted: frozenset[str]
    between: frozenset[str]
    words: str


INTEGER_FORMS: dict[str, IntegerForm] = {
    # The integer kernels of ONNX Runtime on x86 multiply unsigned activations with signed weights.
    "cpu": IntegerForm(
        activations="uint8",
        weights="int8",
        symmetric_activations=False,
        per_channel=True,
        weighted=frozenset({"Conv"}),
        # Sigmoid and Mul are the SiLU of YOLO networks. Without them such a network changes to floats and back after
        # each layer: YOLOX-Nano took 1.5 times as long as in fp32, and 0.9 times with them.
        between=frozenset({"Add", "Clip", "Concat", "MaxPool", "Mul", "Relu", "Resize", "Sigmoid"}),
        words="int8 for CPUs",
    ),
}
