"""Adds the nodes from our uint8 images to the input of a foreign network."""

from __future__ import annotations

import numpy as np

from training.foreign.description import InputDescription
from training.foreign.graph_writer import GraphWriter
from training.foreign.network import Network

IMAGES = "images"


def write_input(writer: GraphWriter, network: Network, description: InputDescription) -> None:
    """Normalise the images and write the network's input.

    The normalisation stays apart from the first convolution: a network that pads with zeros pads normalised values.
    """
    value = IMAGES
    if network.input_dtype != np.uint8:
        value = writer.cast(value, np.float32)
        if description.divide != 1.0:
            value = writer.add("Div", value, np.float32(description.divide))
        if any(description.mean):
            value = writer.add("Sub", value, np.array(description.mean, np.float32))
        if any(std != 1.0 for std in description.std):
            value = writer.add("Div", value, np.array(description.std, np.float32))
        if network.input_dtype != np.float32:
            value = writer.cast(value, network.input_dtype)
    if description.layout == "nchw":
        writer.add("Transpose", value, output=network.input_name, perm=[0, 3, 1, 2])
    else:
        writer.add("Identity", value, output=network.input_name)
