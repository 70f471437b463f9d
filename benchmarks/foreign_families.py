"""Networks of the families that `adoption_agreement.py` adopts, as ONNX files with random weights.

Random weights make no difference to the arithmetic that is compared. Each head is scaled on one frame, so that every
class is seen and boxes have high scores: a file that never fires would prove nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

HEIGHT, WIDTH = 192, 320
CLASSES = 8


class ConvBackbone(nn.Module):
    """Convolutions with strides 8, 16 and 32, padded with zeros."""

    def __init__(self, channels: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1), nn.SiLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.SiLU()
        )
        self.levels = nn.ModuleList(nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.SiLU()) for _ in range(3))

    def forward(self, images: Tensor) -> list[Tensor]:
        found, features = [], self.stem(images)
        for level in self.levels:
            features = level(features)
            found.append(features)
        return found


class YoloV8Shaped(nn.Module):
    """Distances to the four sides from each cell, and class scores: [1, 4 + C, A], as Ultralytics' export has it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ConvBackbone()
        self.distances = nn.ModuleList(nn.Conv2d(24, 4, 1) for _ in range(3))
        self.classes = nn.ModuleList(nn.Conv2d(24, CLASSES, 1) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        rows = []
        for level, features in enumerate(self.backbone(images)):
            stride = 8 << level
            y, x = torch.meshgrid(
                torch.arange(HEIGHT // stride) + 0.5, torch.arange(WIDTH // stride) + 0.5, indexing="ij"
            )
            cells = torch.stack([x, y])[None] * stride
            left_top, right_bottom = (functional.softplus(self.distances[level](features)) * 2 * stride).chunk(2, 1)
            first, second = cells - left_top, cells + right_bottom
            boxes = torch.cat([(first + second) / 2, second - first], 1)
            rows.append(torch.cat([boxes, self.classes[level](features).sigmoid()], 1).flatten(2))
        return torch.cat(rows, 2)


class FcnShaped(nn.Module):
    """Fully convolutional network: logits at stride 8, enlarged bilinearly to the input size inside of the file."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.backbone, self.head = ConvBackbone(), nn.Conv2d(24, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.backbone(images)[0])
        return functional.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)


class SegNetShaped(nn.Module):
    """Encoder and decoder as in SegNet (Badrinarayanan et al., 2015): the decoder unpools by the pooling's indices."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)])
        self.decoder = nn.ModuleList([nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)])
        self.head = nn.Conv2d(16, classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features, pooled = images, []
        for layer in self.encoder:
            features, indices = functional.max_pool2d(functional.relu(layer(features)), 2, return_indices=True)
            pooled.append(indices)
        for layer, indices in zip(self.decoder, reversed(pooled), strict=True):
            features = functional.relu(layer(functional.max_unpool2d(features, indices, 2)))
        logits: Tensor = self.head(features)
        return logits


class Outputs(nn.Module):
    """Returns chosen outputs of a network of transformers."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(pixel_values=pixel_values)
        return tuple(getattr(outputs, name) for name in self.names)


def segformer() -> nn.Module:
    """Return a small SegFormer: logits at stride 4."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        num_labels=CLASSES, hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], decoder_hidden_size=64
    )
    return Outputs(SegformerForSemanticSegmentation(config), ["logits"])


def rt_detr() -> nn.Module:
    """Return a small RT-DETR: logits and relative boxes of 60 queries."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=32,
        hidden_sizes=[32, 64, 96, 128],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_in_channels=[64, 96, 128],
        encoder_hidden_dim=64,
        encoder_ffn_dim=128,
        d_model=64,
        num_queries=60,
        decoder_layers=2,
        decoder_ffn_dim=128,
        decoder_in_channels=[64, 64, 64],
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_labels=CLASSES,
        anchor_image_size=None,
    )
    return Outputs(RTDetrForObjectDetection(config), ["logits", "pred_boxes"])


@torch.no_grad()
def spread_classes(head: nn.Conv2d, network: nn.Module, images: Tensor, spread: float, mean: float) -> None:
    """Scale a head so that, on the given images, each class has the same mean and spread of its values."""
    seen: list[Tensor] = []
    hook = head.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(images)
    hook.remove()
    deviation, center = torch.std_mean(seen[-1], dim=(0, 2, 3))
    factor = spread / deviation.clamp(min=1e-6)
    assert head.bias is not None
    head.weight.mul_(factor[:, None, None, None])
    head.bias.copy_((head.bias - center) * factor + mean)


def export(network: nn.Module, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Export a network for one frame, as torch's exporter does it without further options."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, HEIGHT, WIDTH)
        torch.onnx.export(
            network.eval(),
            (example,),
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamo=True,
            verbose=False,
        )


Builder = Callable[[Path, Tensor], None]


def save_yolov8(path: Path, images: Tensor) -> None:
    """Save a network with the output of YOLOv8."""
    network = YoloV8Shaped().eval()
    for head in network.classes:
        spread_classes(head, network, images, spread=1.5, mean=-4.0)
    export(network, path, ["images"], ["output0"])


def save_fcn(path: Path, images: Tensor) -> None:
    """Save a fully convolutional network."""
    network = FcnShaped().eval()
    spread_classes(network.head, network, images, spread=3.0, mean=0.0)
    export(network, path, ["image"], ["out"])


def save_segnet(path: Path, images: Tensor) -> None:
    """Save a network that unpools by indices."""
    network = SegNetShaped().eval()
    spread_classes(network.head, network, images, spread=3.0, mean=0.0)
    export(network, path, ["image"], ["out"])


def save_segformer(path: Path, images: Tensor) -> None:
    """Save a SegFormer."""
    network = segformer().eval()
    spread_classes(network.network.decode_head.classifier, network, images, spread=3.0, mean=0.0)
    export(network, path, ["pixel_values"], ["logits"])


@torch.no_grad()
def save_rt_detr(path: Path, images: Tensor) -> None:
    """Save an RT-DETR."""
    network = rt_detr().eval()
    heads = [module for name, module in network.named_modules() if name.endswith("class_embed.1")]
    logits = network(images)[0]
    for head in heads:
        head.weight.mul_(1.5 / logits.std().clamp(min=1e-6))
        head.bias.fill_(-1.0)
    export(network, path, ["pixel_values"], ["logits", "pred_boxes"])
