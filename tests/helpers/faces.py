"""Synthetic faces: 81 landmarks in dlib's order and a picture with texture, for the recipes that blend."""

from pathlib import Path

import cv2
import numpy as np


def _ellipse(
    count: int, start: float, stop: float, centre: tuple[float, float], size: tuple[float, float]
) -> np.ndarray:
    angle = np.linspace(start, stop, count)
    return np.stack([centre[0] + size[0] * np.cos(angle), centre[1] + size[1] * np.sin(angle)], axis=1)


def landmarks(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    """Return float32 `(81, 2)` pixels of a face that fills most of a `size`-pixel crop, posed a little at random."""
    pi = np.pi
    parts = [
        _ellipse(17, pi, 0, (0.5, 0.45), (0.33, 0.45)),  # jaw, over the chin
        np.stack([np.linspace(0.24, 0.43, 5), np.full(5, 0.33)], axis=1),
        np.stack([np.linspace(0.57, 0.76, 5), np.full(5, 0.33)], axis=1),
        np.stack([np.full(4, 0.5), np.linspace(0.38, 0.55, 4)], axis=1),
        np.stack([np.linspace(0.43, 0.57, 5), np.full(5, 0.6)], axis=1),
        _ellipse(6, pi, -2 * pi / 3, (0.35, 0.4), (0.06, 0.025)),
        _ellipse(6, pi, -2 * pi / 3, (0.65, 0.4), (0.06, 0.025)),
        _ellipse(12, pi, -5 * pi / 6, (0.5, 0.73), (0.13, 0.05)),
        _ellipse(8, pi, -3 * pi / 4, (0.5, 0.73), (0.1, 0.02)),
        _ellipse(13, pi + 0.1, 2 * pi - 0.1, (0.5, 0.35), (0.33, 0.28)),  # forehead
    ]
    points = np.concatenate(parts) - 0.5
    angle, scale = rng.uniform(-0.1, 0.1), rng.uniform(0.85, 1.0)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = points @ turn + 0.5 + rng.uniform(-0.03, 0.03, 2)
    return ((moved + rng.normal(0, 0.004, moved.shape)) * size).astype(np.float32)


def picture(rng: np.random.Generator, points: np.ndarray, size: int = 64) -> np.ndarray:
    """Return an RGB uint8 picture: smooth background, a face of another tone, and fine noise everywhere."""
    coarse = rng.integers(30, 200, (5, 5, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    face = np.zeros((size, size), np.float32)
    cv2.fillConvexPoly(face, cv2.convexHull(points).astype(np.int32), 1.0)
    image = image * (1 - face[..., None]) + face[..., None] * rng.uniform(80, 200, 3)
    for x, y in points[36:]:
        cv2.circle(image, (int(x), int(y)), max(1, size // 64), (30, 30, 30), -1)
    return (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def give_faces(rgb: Path, seed: int = 0) -> None:
    """Replace frames and landmarks of a written pack by synthetic faces, one pose per frame."""
    for path in sorted(rgb.rglob("*.npy")):
        rng = np.random.default_rng([seed, *path.as_posix().encode()[-40:]])
        frame = Path(*["frames" if part == "landmarks" else part for part in path.parts]).with_suffix(".png")
        size = cv2.imread(str(frame)).shape[0]
        points = landmarks(rng, size)
        np.save(path, points)
        cv2.imwrite(str(frame), cv2.cvtColor(picture(rng, points, size), cv2.COLOR_RGB2BGR))


def face_batch(count: int = 8, size: int = 64, seed: int = 0) -> dict:
    """Return a batch as after `prepare`: half real faces, half whose middle was smoothed and tinted, with their masks.

    `image` float32 `(count, 3, size, size)` in [-1, 1], `label` int64, `mask` uint8 `(count, 1, size, size)`.
    """
    import torch

    rng = np.random.default_rng(seed)
    images, masks, labels = [], [], [int(i >= count // 2) for i in range(count)]
    for label in labels:
        points = landmarks(rng, size)
        image, mask = picture(rng, points, size), np.zeros((size, size), np.uint8)
        if label:
            cv2.fillConvexPoly(mask, cv2.convexHull(points[17:68]).astype(np.int32), 1)
            smooth = cv2.GaussianBlur(image, (7, 7), 0).astype(np.float32) + np.float32([25, -10, -10])
            image = np.where(mask[..., None] == 1, smooth.clip(0, 255).astype(np.uint8), image)
        images.append(image)
        masks.append(mask)
    image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return {"image": image, "label": torch.tensor(labels), "mask": torch.from_numpy(np.stack(masks)).unsqueeze(1)}
