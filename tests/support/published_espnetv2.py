"""Random weights of ESPNetv2 in the form in which its authors publish theirs."""

from __future__ import annotations

import torch
from torch import Tensor

from training.networks.espnetv2 import ESPNetV2
from training.networks.espnetv2_weights import CLASSIFIER, UNUSED, layer_names


def published(network: ESPNetV2, outputs: int = 20) -> dict[str, Tensor]:
    """Return random weights of a network as their authors publish them."""
    theirs = {ours: name for name, ours in layer_names().items()}
    state = {}
    for name, value in network.state_dict().items():
        layer, _, kind = name.rpartition(".")
        state[f"{theirs[layer]}.{kind}"] = value
    state |= {f"{layer}.weight": torch.zeros(1) for layer in UNUSED}
    torch.manual_seed(1)
    return state | {f"{CLASSIFIER}.weight": torch.rand(outputs, 10, 1, 1), f"{CLASSIFIER}.bias": torch.rand(outputs)}
