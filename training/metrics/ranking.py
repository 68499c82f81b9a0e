"""Ranking figures (AUC, EER, AP, TNR at a TPR) from weighted counts of real and fake samples per score.

Everything here takes two arrays `(K, R)`: row k is one score (rows run from the highest score to the lowest), column r one
weighting of the samples, so that a thousand bootstrap resamples are a thousand columns of one computation. Ties are exact
because samples of equal score share a row. Fake is the positive class.
"""

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


def _cumulative(counts: Counts) -> Counts:
    """Return `(K + 1, R)`: how many samples lie at or above each threshold; row 0 is the threshold above all scores."""
    out = np.zeros((counts.shape[0] + 1, counts.shape[1]))
    np.cumsum(counts, axis=0, out=out[1:])
    return out


def auc(fp: Counts, tp: Counts) -> Counts:
    """Area under the ROC curve (trapezoids, so that a tie between a real and a fake counts one half)."""
    area = np.einsum("kr,kr->r", np.diff(fp, axis=0), tp[1:] + tp[:-1]) / 2
    return area / (fp[-1] * tp[-1])


def average_precision(fp: Counts, tp: Counts) -> Counts:
    """Sum over thresholds of precision times the step in recall (no interpolation, as scikit-learn has it)."""
    selected = fp[1:] + tp[1:]
    precision = np.divide(tp[1:], selected, out=np.zeros_like(selected), where=selected > 0)
    return np.einsum("kr,kr->r", np.diff(tp, axis=0), precision) / tp[-1]


def equal_error_rate(fp: Counts, tp: Counts) -> Counts:
    """Rate at which false positives and false negatives meet, on the ROC curve's straight segments.

    The curve joins its points linearly, so the meeting point is interpolated between the last threshold whose FPR is below
    its FNR and the first where it is not. (The nearest point of the curve, a common shortcut, depends on the sampling.)
    """
    fpr, fnr = fp / fp[-1], 1 - tp / tp[-1]
    after = np.argmax(fpr >= fnr, axis=0)[None]  # the last row has FPR 1, FNR 0: there always is one; row 0 never
    before = after - 1
    fpr_0, fpr_1 = np.take_along_axis(fpr, before, 0)[0], np.take_along_axis(fpr, after, 0)[0]
    fnr_0, fnr_1 = np.take_along_axis(fnr, before, 0)[0], np.take_along_axis(fnr, after, 0)[0]
    gap_0, gap_1 = fnr_0 - fpr_0, fpr_1 - fnr_1  # > 0 and >= 0
    return fpr_0 + (fpr_1 - fpr_0) * gap_0 / (gap_0 + gap_1)


def tnr_at_tpr(fp: Counts, tp: Counts, tpr: float) -> Counts:
    """Share of reals kept by the highest threshold that still finds at least `tpr` of the fakes (no interpolation)."""
    # The slack keeps 19 of 20 fakes from missing a target of 0.95 by a rounding error.
    reached = np.argmax(tp >= tpr * tp[-1] * (1 - 1e-12), axis=0)[None]
    return 1 - np.take_along_axis(fp, reached, 0)[0] / fp[-1]


def tpr_key(tpr: float) -> str:
    """Return the name of TNR at `tpr` in metrics.json: 0.95 is `tnr_at_tpr95`, 0.995 is `tnr_at_tpr99.5`."""
    return f"tnr_at_tpr{tpr * 100:.10g}"


def ranking_keys(tpr: tuple[float, ...]) -> list[str]:
    """Return the names of the ranking figures, in the order of `ranking_figures`."""
    return ["auc", "eer", "ap", *(tpr_key(target) for target in tpr)]


def ranking_figures(real: Counts, fake: Counts, tpr: tuple[float, ...]) -> dict[str, Counts]:
    """Return every ranking figure.

    Args:
        real, fake: `(K, R)` weights of the samples at each score, highest score first; each column has both classes.
        tpr: the targets of TNR at TPR, in (0, 1).

    Returns:
        `auc`, `eer`, `ap` and one `tnr_at_tpr…` per target, each `(R,)`.
    """
    fp, tp = _cumulative(real), _cumulative(fake)
    figures = {"auc": auc(fp, tp), "eer": equal_error_rate(fp, tp), "ap": average_precision(fp, tp)}
    return figures | {tpr_key(target): tnr_at_tpr(fp, tp, target) for target in tpr}


def roc_points(label: NDArray, prob: NDArray) -> tuple[Counts, Counts, Counts]:
    """Return the ROC curve's `(fpr, tpr, threshold)` at every distinct score; the first point is (0, 0, inf).

    Args:
        label: `(N,)` of 0 (real) and 1 (fake), both present.
        prob: `(N,)` fake probability, finite.
    """
    thresholds, row = np.unique(-np.asarray(prob, np.float64), return_inverse=True)
    fake = np.asarray(label) == 1
    fp = np.cumsum(np.bincount(row[~fake], minlength=len(thresholds)))
    tp = np.cumsum(np.bincount(row[fake], minlength=len(thresholds)))
    return (
        np.concatenate([[0.0], fp / fp[-1]]),
        np.concatenate([[0.0], tp / tp[-1]]),
        np.concatenate([[np.inf], -thresholds]),
    )
