"""What pixel and spectral statistics alone give away: a logistic regression that a good data set keeps near chance.

python -m preprocessing.demo.leakage datasets/demo/videos
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from preprocessing.demo.build import Size, jobs, paths


def statistics(face: np.ndarray) -> np.ndarray:
    """Return mean and deviation of each channel and the log azimuthal power spectrum of `(H, W, 3)` uint8, `(6 + H/2,)`."""
    picture = face.astype(np.float64)
    gray = picture.mean(axis=2)
    side = min(gray.shape)
    gray = gray[:side, :side] - gray[:side, :side].mean()
    power = np.abs(np.fft.fftshift(np.fft.fft2(gray))) ** 2
    y, x = np.indices(power.shape) - side // 2
    ring = np.hypot(y, x).astype(int).ravel()
    spectrum = np.bincount(ring, power.ravel())[: side // 2] / np.bincount(ring)[: side // 2]
    return np.concatenate([picture.mean(axis=(0, 1)), picture.std(axis=(0, 1)), np.log(spectrum + 1e-6)])


def middle(frame: np.ndarray, side: int = 176) -> np.ndarray:
    """Return the square in the middle of a frame, where the head is."""
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    return frame[top : top + side, left : left + side]


def frames_of(root: Path, size: Size, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return statistics and labels: `train` (DemoForensics' training people) and each unseen domain."""
    import av

    rows: dict[str, list[np.ndarray]] = {}
    labels: dict[str, list[int]] = {}
    for job in jobs(size, seed):
        group = job.domain.name if job.domain.name != "DemoForensics" else "train"
        if group == "train" and job.target >= size.train:
            continue
        real, fakes = paths(job)
        for video, label in [(real, 0), *((fake, 1) for fake, _ in fakes)]:
            with av.open(str(root / video)) as container:
                for frame in container.decode(video=0):
                    rows.setdefault(group, []).append(statistics(middle(frame.to_ndarray(format="rgb24"))))
                    labels.setdefault(group, []).append(label)
    return {group: (np.array(rows[group]), np.array(labels[group])) for group in rows}


def leak(root: Path, size: Size, seed: int = 0) -> dict[str, float]:
    """Return the AUC of a logistic regression on `statistics`, trained on DemoForensics, on each unseen domain."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = frames_of(root, size, seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000, class_weight="balanced"))
    model.fit(*data.pop("train"))
    return {name: float(roc_auc_score(y, model.predict_proba(x)[:, 1])) for name, (x, y) in data.items()}


def main(arguments: Iterable[str]) -> None:
    """Print the figures of a rendered set."""
    for name, auc in leak(Path(next(iter(arguments), "datasets/demo/videos")), Size()).items():
        print(f"{name}: AUC {auc:.3f} from pixel and spectral statistics alone")


if __name__ == "__main__":
    main(sys.argv[1:])
