"""The temperature of a class map: pixels with their logits, the fit, and what it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from tqdm import tqdm

from ros_kd_perception.model.letterbox import letterbox
from training.data.readers.frame_folder import FrameFolder
from training.data.sample import Sample
from training.evaluation.confidence import Reliability, reliability_of
from training.evaluation.torch_model import TorchModel
from training.networks.strides import SEGMENTATION_STRIDE

PIXELS_OF_A_FRAME = 2000
# A network that needs less or more has not learned its task.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.1, 10.0


@dataclass(frozen=True)
class Pixels:
    """Pixels of labelled frames, drawn at random.

    Attributes:
        logits: float32 (n, classes).
        truth: int64 (n,), their true classes.
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.int64]

    def negative_log_likelihood(self, temperature: float) -> float:
        """Return the mean of -ln p of the true class at a temperature."""
        logarithms = log_softmax(self.logits / temperature, axis=1)
        return float(-logarithms[np.arange(len(self.truth)), self.truth].mean())

    def reliability(self, temperature: float) -> Reliability:
        """Return the probability of the likeliest class beside the share that is right."""
        probabilities = np.exp(log_softmax(self.logits / temperature, axis=1))
        right = probabilities.argmax(axis=1) == self.truth
        return reliability_of(probabilities.max(axis=1), right)


def draw_pixels(model: TorchModel, frames: FrameFolder, title: str) -> Pixels | None:
    """Run a student on frames and draw pixels of each; None if no pixel is labelled.

    Args:
        model: The student.
        frames: Frames with labels in its classes.
        title: Text beside the progress bar.
    """
    drawn = [
        _pixels_of(model, frames[number], np.random.default_rng(number))
        for number in tqdm(range(len(frames)), desc=title, unit="frame", disable=None)
    ]
    found = Pixels(
        np.concatenate([pixels.logits for pixels in drawn]), np.concatenate([pixels.truth for pixels in drawn])
    )
    return found if len(found.truth) else None


@torch.inference_mode()
def _pixels_of(model: TorchModel, sample: Sample, random: np.random.Generator) -> Pixels:
    spec = model.contract.input
    image = np.empty((spec.height, spec.width, 3), np.uint8)
    placed = letterbox(sample.image_bgr, image, spec.pad_value)
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2).float().to(model.device)
    logits = model.deployed.student(batch).segmentation_logits
    assert logits is not None
    classes = logits.shape[1]
    rows, columns = np.nonzero(sample.mask < classes)
    chosen = random.permutation(len(rows))[:PIXELS_OF_A_FRAME]
    rows, columns = rows[chosen], columns[chosen]
    at = [
        ((place + 0.5) * length / whole).astype(np.int64) // SEGMENTATION_STRIDE
        for place, length, whole in (
            (rows, placed.placed_height, placed.source_height),
            (columns, placed.placed_width, placed.source_width),
        )
    ]
    return Pixels(logits[0].cpu().numpy()[:, at[0], at[1]].T, sample.mask[rows, columns].astype(np.int64))


def fit_temperature(sets: Mapping[str, Pixels]) -> float:
    """Return the temperature at which the true classes are likeliest, each set with the same weight.

    Logits are divided by it (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2). No class of
    a pixel changes by it.
    """

    def loss(logarithm: float) -> float:
        return float(np.mean([pixels.negative_log_likelihood(np.exp(logarithm)) for pixels in sets.values()]))

    bounds = (np.log(LEAST_TEMPERATURE), np.log(MOST_TEMPERATURE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))
