"""Clips of synthetic faces, and what the detectors of clips are tested for alike."""

from collections.abc import Iterable
from pathlib import Path

import torch

from helpers.faces import face_batch
from helpers.pack import write_pack
from helpers.training_runs import arguments, call, differences, state


def clip_batch(count: int = 6, frames: int = 4, size: int = 32, seed: int = 0) -> dict:
    """Return a batch as after `prepare`: half real faces that drift in brightness, half whose middle also flickers.

    `image` float32 `(count, frames, 3, size, size)`, `label` int64.
    """
    batch = face_batch(count, size, seed)
    generator = torch.Generator().manual_seed(seed)
    drift = torch.linspace(-0.05, 0.05, frames).view(1, frames, 1, 1, 1)
    flicker = 0.8 * (torch.rand((count, frames, 3, 1, 1), generator=generator) - 0.5)
    image = batch["image"][:, None] + drift + flicker * batch["mask"][:, None]
    return {"image": image + 0.02 * torch.randn(image.shape, generator=generator), "label": batch["label"]}


def check_resume(folder: Path, name: str, lines: Iterable[str], steps: int = 4, cut: int = 2) -> None:
    """Train once without a stop, once from a checkpoint in the middle; the ends must be the same bits.

    Args:
        lines: of the detector's YAML, besides data and optimiser.
    """
    places = [f"{key}: {value}" for key, value in write_pack(folder, frames=6).items()]
    settings = folder / "settings.yaml"
    settings.write_text(
        f"model_name: {name}\npretrained: null\nresolution: 32\ntrain_dataset: [FaceForensics++]\ntrain_batchSize: 2\n"
        "workers: 0\nframe_num: {train: 4, val: 4, test: 4}\nlabel_dict: {FF-real: 0, FF-DF: 1, FF-NT: 1}\nrec_iter: 1\n"
        "video_mode: true\nclip_size: 4\n" + "\n".join([*lines, *places])
    )
    whole, parts = folder / "whole", folder / "parts"
    keys = {"max_steps": steps, "save_every_steps": cut, "keep_checkpoints": 4}
    assert call(arguments(settings, whole, **keys)) == 0
    kept = next(path for path in (whole / "checkpoints").glob("last*.pth") if state(path)["step"] == cut)
    assert call(arguments(settings, parts, "--resume", kept, **keys)) == 0
    one, other = (state(run / "checkpoints" / "last.pth") for run in (whole, parts))
    assert one["step"] == other["step"] == steps
    for part in ("model", "optimizer", "training_state"):
        assert differences(one[part], other[part]) == [], part
