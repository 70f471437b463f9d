"""The table of the backbones in this folder that a recipe selects by name.

`backbone.architecture` is one of these names, or a model type of transformers; see `selected_backbone`.
"""

from __future__ import annotations

from training.networks.efficientnet_lite import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from training.networks.espnetv2 import ESPNetV2, ESPNetV2Quarter
from training.networks.selectable_backbone import SelectableBackbone
from training.networks.squeezenet import SqueezeNet

BACKBONES: dict[str, type[SelectableBackbone]] = {
    network.architecture: network
    for network in (
        EfficientNetLite0,
        EfficientNetLite1,
        EfficientNetLite2,
        ESPNetV2,
        ESPNetV2Quarter,
        SqueezeNet,
    )
}
