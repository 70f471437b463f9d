"""Tiny models of the transformers library with random weights, saved as folders like those that users download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

NAMES = ("road", "car", "person", "tree", "sky")


def _names(names: tuple[str, ...]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def _resnet() -> Any:
    from transformers import ResNetConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    return ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )


def _segformer(names: tuple[str, ...]) -> Any:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        **_names(names),
    )
    return SegformerForSemanticSegmentation(config)


def _upernet(names: tuple[str, ...]) -> Any:
    from transformers import UperNetConfig, UperNetForSemanticSegmentation

    config = UperNetConfig(
        backbone_config=_resnet(), hidden_size=16, use_auxiliary_head=False, pool_scales=[1, 2], **_names(names)
    )
    return UperNetForSemanticSegmentation(config)


def _deeplabv3(names: tuple[str, ...]) -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    return MobileNetV2ForSemanticSegmentation(
        MobileNetV2Config(depth_multiplier=0.1, output_stride=16, **_names(names))
    )


def _mask2former(names: tuple[str, ...]) -> Any:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=stages)
    sizes = dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim", "dim_feedforward"), 32)
    config = Mask2FormerConfig(
        backbone_config=swin,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=10,
        **sizes,
        **_names(names),
    )
    return Mask2FormerForUniversalSegmentation(config)


def _rt_detr(names: tuple[str, ...]) -> Any:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], layer_type="basic", out_features=stages
    )
    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=backbone, **_small_detector(), **_names(names)))


def _d_fine(names: tuple[str, ...]) -> Any:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 16, 16],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        out_features=["stage2", "stage3", "stage4"],
    )
    settings = _small_detector() | {"decoder_n_points": [2, 2, 2]}
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, **settings, **_names(names)))


def _small_detector() -> dict[str, Any]:
    narrow = dict.fromkeys(("encoder_hidden_dim", "encoder_ffn_dim", "d_model", "decoder_ffn_dim"), 16)
    return {
        **narrow,
        "encoder_in_channels": [16, 16, 16],
        "decoder_in_channels": [16, 16, 16],
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "decoder_layers": 2,
        "num_queries": 12,
        "anchor_image_size": None,
    }


def _yolos(names: tuple[str, ...]) -> Any:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=[64, 96],
        num_detection_tokens=10,
        use_mid_position_embeddings=False,
        **_names(names),
    )
    return YolosForObjectDetection(config)


SEGMENTERS: dict[str, Callable[[tuple[str, ...]], Any]] = {
    "segformer": _segformer,
    "upernet": _upernet,
    "deeplabv3": _deeplabv3,
    "mask2former": _mask2former,
}
DETECTORS: dict[str, Callable[[tuple[str, ...]], Any]] = {"rt_detr": _rt_detr, "d_fine": _d_fine, "yolos": _yolos}


def save_tiny(architecture: str, folder: Path, names: tuple[str, ...] = NAMES) -> Any:
    """Save a model with random weights that differ between classes, and return it in eval mode."""
    torch.manual_seed(0)
    model = (SEGMENTERS | DETECTORS)[architecture](names)
    # Random weights hardly tell classes apart: activations shrink from layer to layer.
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and any(part in name for part in ("class", "decode_head", "mask_embedder")):
                value.mul_(30 if "class_predictor" in name else 8)
        if architecture in SEGMENTERS:
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0
            model.train()(pixel_values=torch.randn(4, 3, 64, 96))
    model.save_pretrained(folder)
    return model.eval()
