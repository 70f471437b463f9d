"""The table of conditions that are made from any labelled frames. A condition is its function and its row here.

The choice follows D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019), and C. Michaelis et al., "Benchmarking Robustness in Object Detection: Autonomous Driving
when Winter is Coming" (2019). Formulas and severities are our own: they have physical units where a formula has them.
"""

from __future__ import annotations

from training.conditions.condition import LENS, LIGHT, OBJECTS, SENSOR, VIEWPOINT, WEATHER, FrameCondition, of_image
from training.conditions.lens import defocus, dirt, glare, motion_blur
from training.conditions.lens_cover import lens_cover
from training.conditions.occlusion import occluded
from training.conditions.sensor import dead_rows, jpeg, low_light, read_noise, shot_noise
from training.conditions.viewpoint import pitched, rolled, zoomed
from training.conditions.weather import HEAVIEST_RAIN_MM_PER_H, THICKEST_SNOW_M, fog, rain, snow

_PHOTON_TRANSFER = "Poisson and normal noise in linear light: J. R. Janesick, Photon Transfer, SPIE 2007"
_HOMOGRAPHY = "homography of a camera: R. Hartley and A. Zisserman, Multiple View Geometry, 2004"

CONDITIONS: tuple[FrameCondition, ...] = (
    FrameCondition(
        "shot_noise",
        SENSOR,
        "noise of few photons",
        "electrons of a saturated pixel",
        (400.0, 120.0, 40.0, 14.0, 5.0),
        _PHOTON_TRANSFER,
        of_image(shot_noise),
    ),
    FrameCondition(
        "read_noise",
        SENSOR,
        "noise of the electronics, partly by rows",
        "standard deviation as a share of the saturated signal",
        (0.008, 0.02, 0.045, 0.1, 0.2),
        _PHOTON_TRANSFER,
        of_image(read_noise),
    ),
    FrameCondition(
        "dead_rows",
        SENSOR,
        "rows stuck at black, at white or at the row above",
        "share of the rows",
        (0.01, 0.04, 0.10, 0.22, 0.40),
        "faults of a sensor that reads row by row",
        of_image(dead_rows),
    ),
    FrameCondition(
        "jpeg",
        SENSOR,
        "blocks of a compression that is too strong",
        "quality of libjpeg, 0..100",
        (35.0, 20.0, 12.0, 7.0, 4.0),
        "ISO/IEC 10918-1; Hendrycks and Dietterich, 2019",
        of_image(jpeg),
    ),
    FrameCondition(
        "defocus",
        LENS,
        "the lens out of focus",
        "radius of the disc of a point, share of the width",
        (0.0015, 0.003, 0.0055, 0.009, 0.014),
        "disc kernel of a thin lens; Hendrycks and Dietterich, 2019",
        of_image(defocus),
    ),
    FrameCondition(
        "motion_blur",
        LENS,
        "the camera turns during the exposure",
        "length of the line of a point, share of the width",
        (0.005, 0.011, 0.02, 0.035, 0.06),
        "line kernel of a constant turn; Hendrycks and Dietterich, 2019",
        of_image(motion_blur),
    ),
    FrameCondition(
        "glare",
        LENS,
        "the sun in the picture, its light scattered in the lens",
        "scattered light ten degrees from the sun; 1 saturates",
        (0.05, 0.13, 0.3, 0.6, 1.2),
        "falls with the square of the angle: Stiles and Holladay, CIE 146:2002",
        of_image(glare),
    ),
    FrameCondition(
        "dirt",
        LENS,
        "mud and dust on the lens, out of focus",
        "share of the picture that is covered",
        (0.04, 0.10, 0.20, 0.35, 0.55),
        "blobs that take light away and add their own",
        of_image(dirt),
    ),
    FrameCondition(
        "covered_lens",
        LENS,
        "a blot, a finger or a leaf on the lens; pixels under it count",
        "share of the picture that is covered",
        (0.05, 0.12, 0.25, 0.40, 0.60),
        "an opaque shape with a soft edge, which grows",
        of_image(lens_cover),
    ),
    FrameCondition(
        "fog",
        WEATHER,
        "fog, thicker with distance",
        "visibility in metres",
        (500.0, 220.0, 110.0, 55.0, 28.0),
        "Koschmieder's law, beta = 3.912 / visibility (WMO No. 8)",
        fog,
    ),
    FrameCondition(
        "rain",
        WEATHER,
        "rain: grey light, haze, streaks, drops on the lens",
        "rain rate in mm per hour",
        (4.0, 12.0, 30.0, 65.0, HEAVIEST_RAIN_MM_PER_H),
        "haze: Atlas, 1953; streaks: Garg and Nayar, IJCV 2007",
        rain,
    ),
    FrameCondition(
        "snow",
        WEATHER,
        "falling snow: flakes, haze, pale light",
        "visibility in metres",
        (1200.0, 500.0, 250.0, 120.0, THICKEST_SNOW_M),
        "classes of snowfall by visibility: WMO No. 306, table 4677",
        snow,
    ),
    FrameCondition(
        "low_light",
        LIGHT,
        "less light at the same exposure, with the noise of it",
        "stops: how often the light is halved",
        (1.0, 2.0, 3.2, 4.5, 6.0),
        _PHOTON_TRANSFER,
        of_image(low_light),
    ),
    FrameCondition(
        "occlusion",
        OBJECTS,
        "a patch hides a part of every object; its pixels do not count",
        "share of each true box",
        (0.1, 0.25, 0.4, 0.6, 0.8),
        "boxes stay, masks become void",
        occluded,
        moves_labels=True,
    ),
    FrameCondition(
        "pitch",
        VIEWPOINT,
        "the camera looks up or down",
        "degrees",
        (1.5, 3.0, 5.5, 9.0, 14.0),
        _HOMOGRAPHY,
        pitched,
        moves_labels=True,
    ),
    FrameCondition(
        "roll",
        VIEWPOINT,
        "the camera leans to a side",
        "degrees",
        (2.0, 5.0, 10.0, 17.0, 25.0),
        _HOMOGRAPHY,
        rolled,
        moves_labels=True,
    ),
    FrameCondition(
        "longer_focus",
        VIEWPOINT,
        "a narrower view: everything is larger",
        "factor on the focal length",
        (1.15, 1.35, 1.7, 2.2, 3.0),
        _HOMOGRAPHY,
        zoomed,
        moves_labels=True,
    ),
    FrameCondition(
        "shorter_focus",
        VIEWPOINT,
        "a wider view: everything is smaller, with a grey border",
        "factor on the focal length",
        (0.85, 0.7, 0.55, 0.42, 0.3),
        _HOMOGRAPHY,
        zoomed,
        moves_labels=True,
    ),
)
