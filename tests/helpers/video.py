"""Clips and the smallest of the video transformers."""

import torch
from torch import Tensor

from helpers.faces import face_batch

VIDEO_TRANSFORMERS = ("timesformer", "videomae", "xclip")


def tiny(name: str, **shape: int) -> dict:
    """Return the keys of a network of two blocks and four places a frame, or of another shape, for clips of four frames."""
    own = {"message_frames": 2} if name == "xclip" else {}
    shape = {"width": 32, "depth": 2, "heads": 2, "patch": 16, **own, **shape}
    return {"backbone_config": shape, "resolution": 32, "clip_size": 4}


def clips(image: Tensor, frames: int) -> Tensor:
    """Return clips `(B, T, …)` of so many frames: each image wandering to the right, a pixel a frame."""
    return torch.stack([image.roll(frame, -1) for frame in range(frames)], dim=1)


def clip_batch(count: int = 6, size: int = 32, frames: int = 4) -> dict:
    """Return a batch as after `prepare`: clips of `face_batch`'s faces, half of them fake."""
    batch = face_batch(count, size)
    return {"image": clips(batch["image"], frames), "label": batch["label"]}
