"""What passes from the data to everything that learns or evaluates: a batch, and what is known of the data behind it.

A batch is a dictionary. It is flat and role-major: all samples of role 0, then all of role 1, and so on (`roles` says how many
roles there are); what is given per sample has B rows.

============= ======================== =============================================================== ==========================
key           shape                    what it is                                                      not known
============= ======================== =============================================================== ==========================
`image`       (B, 3, H, W) uint8       RGB; clips are (B, T, 3, H, W). `Detector.prepare` normalises    –
`label`       (B,) int64               0 real, 1 fake                                                  –
`method`      (B,) int64               the manipulation by `DataInfo.manipulations`; 0 real             –
`target_id`   (B,) int64               whose head is seen, by `DataInfo.identities`                     −1
`source_id`   (B,) int64               whose face was put there                                        −1
`domain`      (B,) int64               the dataset by `DataInfo.domains`                               –
`frame`       (B,) int64               its number in the video                                         –
`index`       (B,) int64               position of the draw in its epoch                               –
`video`       list of B texts          unique: dataset/label/compression or perturbation/name          –
`mask`        (B, 1, H, W) uint8       1 where manipulated; with `with_mask`                           all 0 for a fake
`landmark`    (B, 81, 2) float32       x, y in pixels; with `with_landmark`                            –
`roles`       int                      how many roles the batch has                                    1
`counts`      dict of tensors          denominators of masked means (`Detector.counts`), by the trainer none: the batch's own
`frozen`      (B, D)                   features of a part that never trains, in the image's place      absent
============= ======================== =============================================================== ==========================

A recipe may add keys of its own; they are stacked as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

Sample = dict[str, Any]
Batch = dict[str, Any]
# Whole numbers of a sample, of which a batch has a row each.
NUMBERS = ("label", "method", "target_id", "source_id", "domain", "frame", "index")
# Those of them that tell who is seen.
PEOPLE = ("target_id", "source_id")
UNKNOWN_PERSON = -1
# What only training reads, and is large.
PIXELS = ("image", "mask", "landmark")


class BatchSource(Protocol):
    """What gives a process its batches, epoch by epoch: from files, or from features that were computed once."""

    @property
    def info(self) -> DataInfo:
        """Names behind the integer labels."""
        ...

    @property
    def skipped(self) -> list[str]:
        """What could not be read and was left out, each once."""
        ...

    def __len__(self) -> int:
        """Batches of a whole epoch on this process (in training the same on all)."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """Yield the epoch's batches from the chosen one on."""
        ...

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose the epoch that the next iterations run over, and the batch that they begin with."""
        ...


def is_map(value: Any, size: int | None = None) -> bool:
    """Return whether a prediction is one spatial map per image: a tensor `(B, 1, h, w)`, of `size` images where given."""
    if getattr(value, "ndim", 0) != 4 or value.shape[1] != 1 or min(value.shape[2:]) < 2:
        return False
    return size is None or len(value) == size


def stack_batch(samples: Sequence[Sample], roles: int) -> Batch:
    """Return the batch of samples in their order: `image` `(…, H, W, 3)`, `mask` `(…, H, W)`, `landmark` `(…, 81, 2)` each."""
    import numpy as np
    import torch

    first = samples[0]
    # Each image is written into its place at once: a batch of clips is large, and would otherwise be copied twice.
    views = [torch.from_numpy(np.require(s["image"], requirements=["C", "W"])).movedim(-1, -3) for s in samples]
    images = torch.empty((len(views), *views[0].shape), dtype=views[0].dtype)
    for place, view in zip(images, views, strict=True):
        place.copy_(view)
    batch: Batch = {"image": images, "video": [s["video"] for s in samples], "roles": roles}
    for key in NUMBERS:
        if key in first:
            batch[key] = torch.tensor([s[key] for s in samples], dtype=torch.int64)
    if "mask" in first:
        batch["mask"] = torch.from_numpy(np.stack([s["mask"] for s in samples])).unsqueeze(-3)
    if "landmark" in first:
        batch["landmark"] = torch.from_numpy(np.stack([s["landmark"] for s in samples]).astype(np.float32))
    for key in sorted(first.keys() - batch.keys()):
        batch[key] = torch.from_numpy(np.stack([np.asarray(s[key]) for s in samples]))
    return batch


def empty_batch(size: int, clip: int | None, mask: bool, landmark: bool, roles: int) -> Batch:
    """Return a batch of no samples: of images of `size` pixels, of clips of `clip` frames where it is given."""
    import torch

    frames = () if clip is None else (clip,)
    batch: Batch = {"image": torch.empty((0, *frames, 3, size, size), dtype=torch.uint8), "video": [], "roles": roles}
    batch |= {key: torch.empty(0, dtype=torch.int64) for key in NUMBERS}
    if mask:
        batch["mask"] = torch.empty((0, *frames, 1, size, size), dtype=torch.uint8)
    if landmark:
        batch["landmark"] = torch.empty((0, *frames, 81, 2))
    return batch


def stand_in(batch: Batch) -> Batch:
    """Return one blank sample per role in the form of a batch, marked `stand_in`.

    A process whose samples could all not be read must still take part in the step; its loss then weighs nothing.
    """
    import torch

    roles = int(batch.get("roles", 1))
    filled: Batch = {"roles": roles, "stand_in": True}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor) and value.ndim:
            filled[key] = value.new_full((roles, *value.shape[1:]), UNKNOWN_PERSON if key in PEOPLE else 0)
        elif isinstance(value, list):
            filled[key] = [""] * roles
    filled["label"] = torch.arange(roles, device=filled["label"].device).clamp(max=1)
    return filled


@dataclass(frozen=True)
class DataInfo:
    """Names behind the integer labels of batches; kept in the run's configuration and checkpoint.

    Attributes:
        identities: class index of each known identity, `<family>:<id>`, 0 … n−1.
        manipulations: index of each label name; every real label is 0, manipulations count from 1.
        domains: index of each training dataset.
        counts: `real` and `fake` samples, `videos_real` and `videos_fake`.
        crops: training dataset → how its faces were cut (`common.coverage`), of those that tell.
    """

    identities: dict[str, int] = field(default_factory=dict)
    manipulations: dict[str, int] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    crops: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def num_manipulations(self) -> int:
        """How many kinds of fakes there are."""
        return max(self.manipulations.values(), default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {each.name: dict(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> DataInfo:
        """Take back what `to_dict` returned."""
        return cls(**{each.name: dict(value.get(each.name, {})) for each in fields(cls)})
