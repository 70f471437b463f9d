"""Automatic mixed precision: the most sensitive layers stay in fp32 until the loss is within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from ros_kd_perception.model.contract import ModelContract
from ros_kd_perception.model.onnx_model import OnnxModel
from ros_kd_perception.perceiver import Perceiver
from training.data.readers.frame_folder import FrameFolder
from training.data.readers.registry import open_source
from training.errors import RecipeError
from training.evaluation.scoring import SCORE_FLOOR, FrameScorer
from training.export.derived_file import derived_contract, open_graph
from training.label_sets.of_model import label_set_of
from training.quantization.quantise import Quantiser
from training.quantization.settings import MixedSettings


@dataclass(frozen=True)
class Scores:
    """Figures of a network on labelled frames. None for a task that it does not do, or that the frames do not have.

    Attributes:
        miou: Mean IoU, 0..1.
        ap50: AP50, 0..1.
    """

    miou: float | None
    ap50: float | None

    @classmethod
    def of(cls, model: OnnxModel, frames: FrameFolder, words: str) -> Scores:
        """Score a model on all frames of a source, with a progress bar."""
        perceiver, scorer = Perceiver(model, SCORE_FLOOR), FrameScorer(model.contract)
        for number in tqdm(range(len(frames)), desc=words, unit="frame", disable=None):
            scorer.score(perceiver, frames[number])
        results = scorer.results()
        return cls(results.get("miou"), results.get("detection", {}).get("ap50"))

    def lost_by(self, other: Scores) -> tuple[float, float]:
        """Return what another network loses against this one, of mIoU and AP50; 0 where one of them has no figure."""
        return _difference(self.miou, other.miou), _difference(self.ap50, other.ap50)


def layers_in_fp32(
    quantiser: Quantiser, ordered: Sequence[str], frames: FrameFolder, mixed: MixedSettings
) -> list[str]:
    """Return the layers that must stay in fp32 so that the loss is within the budget.

    Args:
        quantiser: The network with its ranges.
        ordered: Its layers, the most sensitive first.
        frames: Labelled frames, see `labelled_frames`.
        mixed: The budget.

    Raises:
        RecipeError: The most layers that may stay in fp32 are not enough; the sentence has the nearest budget that is.
    """
    parent = Scores.of(open_graph(quantiser.fp32, quantiser.contract), frames, "scoring in fp32")
    int8 = derived_contract(quantiser.contract, "int8", {})
    most = min(mixed.most_layers, len(ordered) - 1)
    nearest: tuple[float, float, float, int] | None = None
    for count in range(most + 1):
        model = open_graph(quantiser.graph(ordered[:count]), int8)
        found = Scores.of(model, frames, f"scoring with {count} layers in fp32")
        miou, ap50 = parent.lost_by(found)
        if miou <= mixed.miou and ap50 <= mixed.ap50:
            return list(ordered[:count])
        excess = max(miou - mixed.miou, ap50 - mixed.ap50)
        nearest = min(nearest or (excess, miou, ap50, count), (excess, miou, ap50, count))
    assert nearest is not None
    raise RecipeError(_no_budget(nearest, mixed))


def labelled_frames(mixed: MixedSettings, contract: ModelContract) -> FrameFolder:
    """Open the labelled frames of the budget, in the classes of a contract.

    Raises:
        DataError, RecipeError: They cannot be read, or have classes that map to nothing.
    """
    return open_source(mixed.frames, label_set_of(contract).as_student())


def _difference(ours: float | None, theirs: float | None) -> float:
    return 0.0 if ours is None or theirs is None else ours - theirs


def _no_budget(nearest: tuple[float, float, float, int], mixed: MixedSettings) -> str:
    _, miou, ap50, count = nearest
    lost = [(miou, mixed.miou, "mIoU", "miou"), (ap50, mixed.ap50, "AP50", "ap50")]
    over = [(loss, name, key) for loss, budget, name, key in lost if loss > budget]
    points = " and ".join(f"{100 * loss:.1f} points of {name}" for loss, name, _ in over)
    # Rounded up, so that the budget that is named suffices.
    allow = " and ".join(f"{key}: {-(-loss * 1e4 // 1) / 1e4:.4f}" for loss, _, key in over)
    return (
        f"mixed: expected to meet the budget with at most {mixed.most_layers} layers in fp32, the best of these, "
        f"{count} layers, still loses {points}; allow {allow}, raise most_layers, or train for 8 bits (aware)"
    )
