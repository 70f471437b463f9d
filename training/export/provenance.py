"""The origin of a student's weights, as it is written into the contract."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from training.config.licence import NOT_STATED, use_of
from training.label_sets.of_model import LABEL_SET_KEY

if TYPE_CHECKING:
    from training.checkpoint import CheckpointInfo


def provenance(info: CheckpointInfo) -> dict[str, Any]:
    """Return the origin of the weights, as it is written into the contract."""
    now = datetime.datetime.now(datetime.timezone.utc)
    licences = info.licences or {}
    return {
        LABEL_SET_KEY: info.classes.name,
        "recipe_sha256": info.recipe_sha256,
        "data_sha256": info.data_sha256,
        **({"mean_of_sha256": list(info.mean_of)} if info.mean_of else {}),
        **({"pretrained_share": info.pretrained_share} if info.pretrained_share else {}),
        **({"pretrained_sha256": info.pretrained_sha256} if info.pretrained_sha256 else {}),
        "teachers": info.taught_by or "none",
        "use": use_of(licences) if licences else NOT_STATED,
        "licences": {name: entry["terms"] for name, entry in licences.items()},
        "git_commit": info.git_commit,
        "created": now.isoformat(timespec="seconds"),
    }
