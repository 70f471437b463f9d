"""Reads the published weights of ESPNetv2 for street scenes, under the names of our layers.

The file is the state dict of `espnetv2_s_2.0_city_1024x512.pth` from github.com/sacmehta/EdgeNets, trained on
Cityscapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.errors import RecipeError

LARGEST_FILE_BYTES = 64 << 20
CLASSIFIER = "bu_dec_l4.merge_layer.3"
LABEL_SET = "cityscapes19"  # of the classifier's first outputs; the last output stands for everything else
UNUSED = tuple(f"base_net.level{stride}_0.eesp.module_act" for stride in (2, 3, 4))  # no output depends on them
BRANCHES, REPEATS = 4, {3: 3, 4: 7}
SCALES = 5


@dataclass(frozen=True)
class PublishedWeights:
    """The content of the file.

    Attributes:
        backbone: State dict of `ESPNetV2`.
        classifier_weight: Kernel of the classifier, float [classes, channels, 1, 1], in the order of `LABEL_SET`.
        classifier_bias: Its bias, float [classes].
    """

    backbone: dict[str, Tensor]
    classifier_weight: Tensor
    classifier_bias: Tensor


def read_published_weights(path: Path, classes: int) -> PublishedWeights:
    """Read the file.

    Args:
        path: Path of the file.
        classes: Number of classes of `LABEL_SET`.

    Raises:
        RecipeError: The file is missing, too large or damaged, or holds other weights.
    """
    state, names = _read(path), layer_names()
    backbone, strange = {}, []
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer in names:
            backbone[f"{names[layer]}.{kind}"] = value
        elif layer not in (*UNUSED, CLASSIFIER):
            strange.append(name)
    weight, bias = (state.get(f"{CLASSIFIER}.{kind}") for kind in ("weight", "bias"))
    if strange or weight is None or bias is None or len(weight) < classes or len(bias) != len(weight):
        found = strange[0] if strange else f"no classifier of {classes} classes"
        raise other_weights(path, found)
    return PublishedWeights(backbone, weight[:classes], bias[:classes])


def other_weights(path: Path | str, found: str) -> RecipeError:
    """Return the error about a file of other weights.

    Args:
        path: Path of the file.
        found: What is in it that does not fit.
    """
    return RecipeError(
        f"backbone.pretrained {path}: expected the weights of ESPNetv2 at twice the width for Cityscapes, got {found}; "
        "name another file, or leave backbone.pretrained empty"
    )


def _read(path: Path) -> dict[str, Tensor]:
    expected = f"backbone.pretrained {path}: expected a file of weights"
    remedy = "docs/training.md says where it comes from; or leave backbone.pretrained empty"
    if not path.is_file():
        raise RecipeError(f"{expected}, there is no file; {remedy}")
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise RecipeError(f"{expected} of at most {LARGEST_FILE_BYTES >> 20} MB, it is larger; {remedy}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises many types of errors for damaged files
        raise RecipeError(f"{expected}, it cannot be read ({' '.join(str(error).split())[:120]}); {remedy}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RecipeError(f"{expected}, it holds other things than tensors; {remedy}")
    return {str(name): value for name, value in state.items()}


def layer_names() -> dict[str, str]:
    """Return the name of our layer for each layer that the file may have."""
    names = _encoder_block("base_net.level1", "stem")
    for place, stride in enumerate((2, 3, 4)):
        halving, ours = f"base_net.level{stride}_0", f"halvings.{place}"
        names |= _branches(f"{halving}.eesp", f"{ours}.branches") | {f"{halving}.act": f"{ours}.activation"}
        for step in (0, 1):
            names |= _encoder_block(f"{halving}.inp_reinf.{step}", f"{ours}.image.{step}")
        for number in range(REPEATS.get(stride, 0)):
            unit, ours = f"base_net.level{stride}.{number}", f"units.{place}.{number}"
            names |= _branches(unit, f"{ours}.branches") | {f"{unit}.module_act": f"{ours}.activation"}
    for place in range(3):
        stage, pyramid, lateral = f"decoder.stages.{place}", f"bu_dec_l{place + 1}", f"merge_enc_dec_l{place + 2}"
        names |= _pyramid(pyramid, f"{stage}.pyramid")
        names |= {f"{pyramid}.merge_layer.3": f"{stage}.widen"} | _activation(f"{pyramid}.br.br", f"{stage}.widen")
        names |= {f"{lateral}.wt_layer.1": f"{stage}.lateral.gate"}
        names |= _decoder_block(f"{lateral}.expansion_layer", f"{stage}.lateral.project")
        names |= _activation(f"bu_br_l{place + 2}", f"{stage}.normalize")
    return names | _pyramid("bu_dec_l4", "decoder.pyramid")


def _branches(theirs: str, ours: str) -> dict[str, str]:
    names = {f"{theirs}.spp_dw.{number}.conv": f"{ours}.branches.{number}" for number in range(BRANCHES)}
    for layer, our_layer in (("proj_1x1", "reduce"), ("br_after_cat", "normalize"), ("conv_1x1_exp", "mix")):
        names |= _encoder_block(f"{theirs}.{layer}", f"{ours}.{our_layer}")
    return names


def _pyramid(theirs: str, ours: str) -> dict[str, str]:
    names = {f"{theirs}.stages.{number}": f"{ours}.levels.{number}" for number in range(SCALES)}
    names |= _decoder_block(f"{theirs}.projection_layer", f"{ours}.reduce")
    names |= _activation(f"{theirs}.merge_layer.0.br", f"{ours}.normalize")
    return names | _decoder_block(f"{theirs}.merge_layer.2", f"{ours}.merge")


def _encoder_block(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.conv": ours, f"{theirs}.bn": f"{ours}.normalization", f"{theirs}.act": f"{ours}.activation"}


def _decoder_block(theirs: str, ours: str) -> dict[str, str]:
    layers = ("", ".normalization", ".activation")
    return {f"{theirs}.cbr.{number}": f"{ours}{layer}" for number, layer in enumerate(layers)}


def _activation(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.0": f"{ours}.normalization", f"{theirs}.1": f"{ours}.activation"}
