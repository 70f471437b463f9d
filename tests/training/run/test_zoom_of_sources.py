"""Sources whose frames have other sizes: their zoom makes objects as large as those of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT

from training.data.sampling import Draw
from training.recipe import load_recipe
from training.run.data_module import TrainingSet

RECIPE = ROOT / "training" / "recipes" / "student_s_smoke.yaml"


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_the_zoom_of_a_source_is_a_factor_on_that_of_the_augmentation(rendered_samples: Path, zoom: float) -> None:
    still = [f"augmentation.{name}=0" for name in ("aspect", "flip", "rare_paste", "erase")]
    recipe = load_recipe(
        RECIPE,
        [
            f"data.train=[{{kind: rendered, folder: {rendered_samples}}}, "
            f"{{kind: rendered, folder: {rendered_samples}, zoom: {zoom}}}]",
            "augmentation.scale_min=0.5",
            "augmentation.scale_max=0.5",
            "augmentation.visible_share_min=1",
            "validation={}",
            *still,
        ],
    )
    label_set = recipe.student_classes()
    sources = [source.open(source.mapping_to(label_set)) for source in recipe.data.train]
    samples = TrainingSet(sources, recipe, label_set)
    heights = [
        np.concatenate(
            [np.diff(samples[Draw(source, index, 0, index)].boxes_xyxy[:, 1::2]).ravel() for index in range(6)]
        )
        for source in (0, 1)
    ]
    whole = np.diff(np.concatenate([sources[0][index].boxes_xyxy for index in range(6)])[:, 1::2]).ravel()
    for found, factor in zip(heights, (0.5, 0.5 * zoom), strict=True):
        assert len(found)
        # Each whole box of a crop is one of the frame, as much smaller as the zoom says.
        nearest = np.abs(found[:, None] - factor * whole[None]).min(axis=1)
        assert nearest.max() < 1.0
