"""Numbers about saved features: alignment, uniformity, how much of identity a linear probe can read off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST = 4000  # samples taken for sums over pairs


def unit(feat: NDArray) -> NDArray[np.float64]:
    """Return features `(N, D)` with length 1; a zero feature stays zero."""
    feat = np.asarray(feat, np.float64)
    return feat / np.maximum(np.linalg.norm(feat, axis=1, keepdims=True), 1e-12)


def _squared_distances(points: NDArray) -> NDArray[np.float64]:
    """Return |x - y|² of unit vectors for all pairs i < j."""
    rows, columns = np.triu_indices(len(points), 1)
    return np.maximum(2 - 2 * (points @ points.T)[rows, columns], 0)


def alignment(feat: NDArray, label: NDArray) -> float:
    """Return the mean squared distance on the unit sphere between two samples of one class (Wang & Isola, ICML 2020)."""
    points, same = unit(feat), np.asarray(label)
    rows, columns = np.triu_indices(len(points), 1)
    return float(_squared_distances(points)[same[rows] == same[columns]].mean())


def uniformity(feat: NDArray, t: float = 2.0) -> float:
    """Return log of the mean Gaussian potential exp(-t |x - y|²) over pairs (Wang & Isola, ICML 2020); lower is more uniform."""
    return float(np.log(np.exp(-t * _squared_distances(unit(feat))).mean()))


def subsample(count: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `most` of `count` row numbers, sorted."""
    return np.arange(count) if count <= most else np.sort(rng.choice(count, most, replace=False))


def identity_probe(
    feat: NDArray,
    identity: NDArray,
    video: NDArray,
    rng: np.random.Generator,
    splits: int = 5,
    standardise: bool = False,
) -> dict[str, float] | None:
    """Return how well a linear classifier reads the identity off the features of videos that it has not seen.

    Each identity with several videos gives half of them (rounded up) to training and the others to testing; which ones is drawn
    anew for each of `splits`, since with few videos the draw moves the accuracy more than a change of the features does. Logistic
    regression on features of length √D, as the detector's head sees them but for a factor. `standardise` gives every dimension
    the same spread first, which also finds what is too faint to matter to a head. Accuracy counts every identity alike.

    Returns:
        `accuracy` (mean over the splits), `deviation` (over the splits), `chance` (1 / identities) and `identities`; None when
        fewer than two identities have two videos.
    """
    videos = {person: np.unique(video[identity == person]) for person in np.unique(identity[identity >= 0])}
    people = [person for person, names in videos.items() if len(names) > 1]
    if len(people) < 2:
        return None
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    feat = unit(feat) * np.sqrt(feat.shape[1])
    known, scores = np.isin(identity, people), []
    for _ in range(splits):
        train = np.zeros(len(feat), bool)
        for person in people:
            names = rng.permutation(videos[person])
            train |= (identity == person) & np.isin(video, names[: (len(names) + 1) // 2])
        test = known & ~train
        scaler = StandardScaler(with_mean=standardise, with_std=standardise)
        probe = make_pipeline(scaler, LogisticRegression(max_iter=1000)).fit(feat[train], identity[train])
        scores.append(balanced_accuracy_score(identity[test], probe.predict(feat[test])))
    return {
        "accuracy": float(np.mean(scores)),
        "deviation": float(np.std(scores)),
        "chance": 1 / len(people),
        "identities": len(people),
    }
