"""BoxMotion: where boxes are, how fast they move and how sure that is, for all tracks of a camera at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ros_kd_perception.model.boxes import centers_and_sizes
from ros_kd_perception.structures import Float32Array

Float64Array = npt.NDArray[np.float64]

# Shares of the size of a box, which is the root of its area.
MEASURED_SHARE = 0.05
"""Standard deviation of a measured centre, width or height."""
FIRST_SPEED_SHARE = 2.0
"""Standard deviation of the unknown speed of a new box, per second."""
ACCELERATION_SHARE = 2.0
"""Standard deviation of the change of speed within a second."""
SMALLEST_SIDE_PX = 1.0


class BoxMotion:
    """A Kalman filter of constant velocity for each of many boxes.

    Centre x, centre y, width and height of a box are four values with a speed each. Their errors are taken as
    independent, so a filter is four small ones of two states, and all of them are updated with a few array operations.
    The noise grows with time, so that two predictions over 50 ms equal one over 100 ms: frames may be lost.
    """

    def __init__(self) -> None:
        # One array, because every operation on a small array costs about the same.
        self._states = np.zeros((5, 0, 4))

    def __len__(self) -> int:
        return int(self._states.shape[1])

    @property
    def values(self) -> Float64Array:
        """Centre x, centre y, width and height, float64 `[n, 4]`, pixels."""
        part: Float64Array = self._states[0]
        return part

    @property
    def speeds(self) -> Float64Array:
        """The change of the values, float64 `[n, 4]`, pixels per second."""
        part: Float64Array = self._states[1]
        return part

    @property
    def value_variances(self) -> Float64Array:
        """Variances of the values, float64 `[n, 4]`."""
        part: Float64Array = self._states[2]
        return part

    @property
    def covariances(self) -> Float64Array:
        """Covariances of each value with its speed, float64 `[n, 4]`."""
        part: Float64Array = self._states[3]
        return part

    @property
    def speed_variances(self) -> Float64Array:
        """Variances of the speeds, float64 `[n, 4]`."""
        part: Float64Array = self._states[4]
        return part

    @property
    def boxes_xyxy(self) -> Float32Array:
        """The boxes, float32 `[n, 4]`, pixels."""
        boxes = np.empty((len(self), 4), np.float32)
        half = self.values[:, 2:] * 0.5
        boxes[:, :2], boxes[:, 2:] = self.values[:, :2] - half, self.values[:, :2] + half
        return boxes

    def predict(self, seconds: float) -> None:
        """Move all boxes on by a time, seconds."""
        values, speeds, value_variances, covariances, speed_variances = self._states
        noise = _areas(values) * (ACCELERATION_SHARE**2 * seconds)
        values += seconds * speeds
        np.maximum(values[:, 2:], SMALLEST_SIDE_PX, out=values[:, 2:])
        value_variances += seconds * (2 * covariances + seconds * speed_variances) + noise * (seconds**2 / 3)
        covariances += seconds * speed_variances + noise * (seconds / 2)
        speed_variances += noise

    def correct(self, rows: npt.NDArray[np.intp], boxes_xyxy: Float32Array) -> None:
        """Take in where boxes were found.

        Args:
            rows: `[k]`, rows of the boxes, each once.
            boxes_xyxy: float32 `[k, 4]`, where they were found, pixels.
        """
        found = _values_of(boxes_xyxy)
        states = self._states[:, rows]
        values, speeds, value_variances, covariances, speed_variances = states
        sums = value_variances + _areas(found) * MEASURED_SHARE**2
        gains, speed_gains, errors = value_variances / sums, covariances / sums, found - values
        values += gains * errors
        speeds += speed_gains * errors
        speed_variances -= speed_gains * covariances
        states[2:4] *= 1 - gains
        self._states[:, rows] = states

    def hold_sizes(self, rows: npt.NDArray[np.intp]) -> None:
        """Let boxes that are not seen keep their width and height. They would grow or shrink without end."""
        self._states[1, rows, 2:] = 0.0

    def add(self, boxes_xyxy: Float32Array) -> None:
        """Append boxes that were found for the first time, float32 `[k, 4]`, pixels."""
        states = np.zeros((5, len(boxes_xyxy), 4))
        states[0] = _values_of(boxes_xyxy)
        np.maximum(states[0, :, 2:], SMALLEST_SIDE_PX, out=states[0, :, 2:])
        areas = _areas(states[0])
        states[2], states[4] = areas * MEASURED_SHARE**2, areas * FIRST_SPEED_SHARE**2
        self._states = np.concatenate((self._states, states), axis=1)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> None:
        """Forget all boxes but those that are chosen, bool `[n]`."""
        self._states = self._states[:, chosen]


def _values_of(boxes_xyxy: Float32Array) -> Float64Array:
    return np.concatenate(centers_and_sizes(boxes_xyxy), axis=1)


def _areas(values: Float64Array) -> Float64Array:
    """Return the areas of boxes, float64 `[n, 1]`, square pixels, of sides of at least one pixel."""
    sides = np.maximum(values[:, 2:], SMALLEST_SIDE_PX)
    return sides[:, :1] * sides[:, 1:]
