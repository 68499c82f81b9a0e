"""Moving points of the plane onto others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def similarity(source: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Return the 2×3 matrix of the least-squares rotation, scale and shift that takes points `(N, 2)` to points `(N, 2)`.

    Umeyama (IEEE PAMI 13(4), 1991) without reflection; in the plane that is one complex division.

    Raises:
        ValueError: all source points coincide, so that no scale exists.
    """
    a, b = (np.asarray(points, np.float64) @ [1, 1j] for points in (source, target))
    centred = a - a.mean()
    variance = np.vdot(centred, centred).real
    if variance == 0:
        raise ValueError("the points coincide; no similarity exists")
    turn = np.vdot(centred, b - b.mean()) / variance
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
