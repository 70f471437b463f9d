"""Pictures of stability: flicker over time, and the pair of frames that flips most."""

from __future__ import annotations

import io

import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from training.stability.figures import Stability
from training.stability.network_run import Worst

_NOT_SEEN, _EDGE, _BEYOND = 0.35, (0, 200, 255), (255, 0, 255)  # BGR
JPEG_QUALITY = 90


def course_png(stability: Stability) -> bytes:
    """Return flicker over time as PNG: a panel for each source, a line for each network."""
    sources = list(stability.sources)
    canvas, axes = pyplot.subplots(
        len(sources), 1, figsize=(9, 2.6 * len(sources)), squeeze=False, layout="constrained"
    )
    for panel, source in zip(axes[:, 0], sources, strict=True):
        for network, found in stability.networks.items():
            panel.plot([100 * share for share in found[source].course], linewidth=1.2, label=network)
        panel.set_title(source, fontsize=10, parse_math=False)
        panel.set_ylabel("pixels that flip, %")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    axes[-1, 0].set_xlabel("pair of frames")
    for text in axes[0, 0].legend(frameon=False, fontsize=9).get_texts():
        text.set_parse_math(False)  # names of files may hold signs of formulas
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=100)
    pyplot.close(canvas)
    return buffer.getvalue()


def worst_jpeg(worst: Worst) -> bytes | None:
    """Return the later frame of the worst pair as JPEG; None without a pair.

    Dark: not seen in both frames. Yellow: flips along edges. Magenta: flips beyond edges.
    """
    if worst.frame is None or worst.flips is None:
        return None
    picture = worst.frame.image_bgr.copy()
    hidden = ~worst.flips.counted
    picture[hidden] = (picture[hidden] * _NOT_SEEN).astype(np.uint8)
    picture[worst.flips.flips] = _EDGE
    picture[worst.flips.beyond_edges] = _BEYOND
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()
