"""A tiny image–text model: a CLIP tower beside a text tower that reads captions of numbers, and pairs to train it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import DataError
from training.networks.clip_tower import ClipConfig, build_clip_tower

SPACE = 64  # dimensions that image and text share
FARTHEST = 4.0  # standard deviations that a caption's number may lie from the middle


@dataclass
class Pairs:
    """Faces `(n, H, W, 3)` uint8 and what is said of them `(n, A)`, standardised by `mean` and `std` `(A,)`.

    `names`: of the captions' numbers. `signs`: −1 where a flip turns a number's sign, else 1.
    """

    faces: np.ndarray
    captions: Tensor
    mean: Tensor
    std: Tensor
    names: list[str]
    signs: np.ndarray

    def batch(self, rows: np.ndarray, flip: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised images `(B, 3, H, W)` and captions `(B, A)`, flipped together where asked."""
        faces, captions = self.faces[rows], self.captions[rows]
        if flip is not None:
            faces = np.where(flip[:, None, None, None], faces[:, :, ::-1], faces)
            raw = captions * self.std + self.mean
            turned = (raw * torch.from_numpy(self.signs) - self.mean) / self.std
            captions = torch.where(torch.from_numpy(flip)[:, None], turned, captions)
        return normalised(faces), captions


def normalised(faces: np.ndarray) -> Tensor:
    """Return `(B, 3, H, W)` float32, as detectors on a CLIP tower normalise, of uint8 `(B, H, W, 3)`."""
    image = torch.from_numpy(np.ascontiguousarray(faces.transpose(0, 3, 1, 2))).float() / 255
    keys = ClipConfig(model_name="clip_linear")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (keys.mean, keys.std))
    return (image - mean) / std


def read_pairs(path: str | Path, held_out: int) -> tuple[Pairs, Pairs]:
    """Return what is learnt from and what is measured on: the last `held_out` people of a file of captioned faces.

    Raises:
        DataError: no such file, another one, or too few people.
    """
    try:
        with np.load(path) as file:
            faces, captions, person = file["faces"], file["captions"].astype(np.float32), file["person"]
            names, mirrored = file["names"].tolist(), file["mirrored"].tolist()
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} holds no captioned faces ({error}); write it with preprocessing/demo_faces.py"
        ) from error
    people = np.unique(person)
    if len(people) <= held_out:
        raise DataError(f"{path} holds {len(people)} people, {held_out} are to be held out; render more")
    learns = ~np.isin(person, people[-held_out:])
    mean, std = captions[learns].mean(0), captions[learns].std(0) + 1e-6
    standard = np.clip((captions - mean) / std, -FARTHEST, FARTHEST).astype(np.float32)
    signs = np.array([-1.0 if name in mirrored else 1.0 for name in names], np.float32)
    split = [
        Pairs(
            faces[rows], torch.from_numpy(standard[rows]), torch.from_numpy(mean), torch.from_numpy(std), names, signs
        )
        for rows in (learns, ~learns)
    ]
    return split[0], split[1]


class ImageText(nn.Module):
    """Both towers, the space that they share, and the caption's readout."""

    def __init__(self, backbone: str, side: int, words: int, hidden: int = 256):
        super().__init__()
        keys = ClipConfig(
            model_name="clip_linear", backbone_name=backbone, pretrained=None, resolution=side, tuning="full"
        )
        self.tower = build_clip_tower(keys)
        self.to_space = nn.Linear(self.tower.width, SPACE, bias=False)
        self.captioner = nn.Linear(self.tower.width, words)
        # A caption is the numbers that are said and which those are.
        self.text = nn.Sequential(
            nn.Linear(2 * words, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, SPACE)
        )
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def losses(self, image: Tensor, caption: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contrastive loss of a batch and the squared error of the captions that are read from the images.

        Args:
            image: `(B, 3, H, W)`. caption: `(B, A)` standardised. said: `(B, A)` 1 where the text tower is told the number.
        """
        token, _ = self.tower(image)
        ours = F.normalize(self.to_space(token), dim=1)
        theirs = F.normalize(self.text(torch.cat([caption * said, said], dim=1)), dim=1)
        logits = self.log_scale.exp().clamp(max=100) * ours @ theirs.T  # (B, B)
        pairs = torch.arange(len(logits))
        contrast = 0.5 * (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs))
        return contrast, F.mse_loss(self.captioner(token), caption)

    @torch.no_grad()
    def features(self, pairs: Pairs, batch: int = 256) -> Tensor:
        """Return the image token `(n, D)` of every face."""
        rows = np.arange(len(pairs.faces))
        parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
        return torch.cat([self.tower(pairs.batch(part)[0])[0] for part in parts])

    @torch.no_grad()
    def read(self, pairs: Pairs) -> Tensor:
        """Return what the captioner reads from every face, `(n, A)` standardised."""
        return self.captioner(self.features(pairs))


def ridge(features: Tensor, targets: Tensor, strength: float = 1e-3) -> tuple[Tensor, Tensor]:
    """Return weight `(A, D)` and bias `(A,)` of the linear readout; `strength`: penalty as a share of the mean variance."""
    x, y = features.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    penalty = strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram + penalty, x.T @ y).T
    return weight.float(), (mean_y - weight @ mean_x).float()


def r2(read: Tensor, said: Tensor) -> Tensor:
    """Return the share of each number's variance that is read, `(A,)`; `said` is standardised, so its middle is 0."""
    return 1 - (read - said).square().mean(0) / said.square().mean(0)
