"""Exports three networks of Keras with random weights; run as a program, with torch as the backend of Keras.

Usage: keras_networks.py FOLDER. Writes NAME.onnx, and NAME.npz with images, uint8 [2, H, W, 3] RGB, and what Keras
itself predicts for them, float32 [2, h, w, C].
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

HEIGHT, WIDTH, CLASSES = 128, 192, 19
# The layer where a backbone is cut, and its stride there. Both later parts of ImageNet networks add nothing here.
BACKBONES = {
    "MobileNetV2": ("block_6_expand_relu", 8),
    "ResNet50": ("conv3_block2_out", 8),
    "InceptionV3": ("mixed3", 16),
}


def network(name: str) -> Any:
    """Return a backbone without pretrained weights, with a segmentation head that gives logits, NHWC."""
    import keras

    cut, stride = BACKBONES[name]
    backbone = getattr(keras.applications, name)(input_shape=(HEIGHT, WIDTH, 3), include_top=False, weights=None)
    features = backbone.get_layer(cut).output
    logits = keras.layers.Conv2D(CLASSES, 1, name="head")(features)
    if name != "InceptionV3":  # whose padding leaves cells that fit no stride
        logits = keras.layers.UpSampling2D(stride, interpolation="bilinear")(logits)
    return keras.Model(backbone.input, logits)


def spread_classes(model: Any, pixels: Any) -> None:
    """Scale the head so that every class is the best one somewhere."""
    head = model.get_layer("head")
    logits = model.predict(pixels, verbose=0)
    kernel, bias = head.get_weights()
    factor = 3 / np.maximum(logits.std(axis=(0, 1, 2)), 1e-9)
    head.set_weights([kernel * factor, (bias - logits.mean(axis=(0, 1, 2))) * factor])


def main(folder: Path) -> None:
    import keras

    keras.utils.set_random_seed(1)
    images = np.random.default_rng(1).integers(0, 256, (2, HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    pixels = images.astype(np.float32) / 127.5 - 1
    for name in BACKBONES:
        model = network(name)
        spread_classes(model, pixels)
        model.export(str(folder / f"{name}.onnx"), format="onnx", verbose=False)
        np.savez(folder / f"{name}.npz", images=images, logits=model.predict(pixels, verbose=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
