"""The table of forms of smaller files: which types, and which operators get them. A new form is a new line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IntegerType = Literal["uint8", "int8"]


@dataclass(frozen=True)
class Form:
    """Which nodes of a network change their type.

    Attributes:
        weighted: Operators with constant weights. They hold the work of a network.
        between: Operators that change only on the way from one weighted operator to another.
        words: The form in a sentence.
    """

    weighted: frozenset[str]
    between: frozenset[str]
    words: str


@dataclass(frozen=True)
class IntegerForm(Form):
    """How a network becomes integers for one kind of hardware.

    Attributes:
        activations: Type of the activations.
        weights: Type of the weights. They are always symmetric.
        symmetric_activations: Whether the zero of activations is the middle of their range.
        per_channel: Whether each output channel of a weight has its own scale.
        at_inputs: Whether values become integers only where an operator reads them, with biases and stored weights in
            fp32, as TensorRT wants it. Otherwise also where an operator writes them, with all stored as integers.
    """

    activations: IntegerType
    weights: IntegerType
    symmetric_activations: bool
    per_channel: bool
    at_inputs: bool


INTEGER_FORMS: dict[str, IntegerForm] = {
    # The integer kernels of ONNX Runtime on x86 multiply unsigned activations with signed weights.
    "cpu": IntegerForm(
        activations="uint8",
        weights="int8",
        symmetric_activations=False,
        per_channel=True,
        weighted=frozenset({"Conv"}),
        # Sigmoid and Mul are the SiLU of YOLO networks. Without them such a network changes to floats and back after
        # each layer.
        between=frozenset({"Add", "Clip", "Concat", "MaxPool", "Mul", "Relu", "Resize", "Sigmoid"}),
        at_inputs=False,
        words="int8 for CPUs",
    ),
    # TensorRT has int8 alone, with its zero in the middle, and fuses by the rules of `tensorrt_rules`.
    "tensorrt": IntegerForm(
        activations="int8",
        weights="int8",
        symmetric_activations=True,
        per_channel=True,
        weighted=frozenset({"Conv"}),
        between=frozenset({"Add", "Clip", "Concat", "MaxPool", "Relu", "Resize"}),
        at_inputs=True,
        words="int8 for TensorRT",
    ),
}

# Operators whose float inputs and outputs have one type, except for the inputs that `half_precision` names.
HALF_FORM = Form(
    weighted=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    between=frozenset(
        {
            *("Add", "Div", "Mul", "Sub"),
            *("Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"),
            *("AveragePool", "GlobalAveragePool", "MaxPool", "Resize"),
            *("Concat", "Flatten", "Reshape", "Transpose"),
        }
    ),
    words="half precision for CUDA",
)
