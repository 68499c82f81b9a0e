"""What is worth looking at while a run goes, and when it breaks: learning rates, memory, inputs and maps, bad batches."""

import math
import resource
from pathlib import Path

import numpy as np
import torch

from common.io import write_json
from training.batch import Batch, is_map
from training.detectors.base import Prediction
from training.trainer.distributed import Process, flatten
from training.trainer.journal import Journal
from training.trainer.step import WEIGHTED


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Return `lr`, and `lr/1`, `lr/2` … where groups of parameters have smaller ones."""
    rates = sorted({group["lr"] for group in optimizer.param_groups}, reverse=True)
    return {f"lr/{number}" if number else "lr": rate for number, rate in enumerate(rates)}


def losses_by_name(losses: dict[str, float], prefix: str = "loss") -> dict[str, float]:
    """Return every loss as it is under `loss/`, and what each adds to `overall` under `loss_weighted/`.

    Of a detector that weighs its losses and does not say so (`loss_weights`) there is no `loss_weighted/`: it would sum to
    something else than `overall`.
    """
    raw, shares = _split(losses)
    added = shares if _sum_up(raw, shares) else {}
    return {f"{prefix}/{name}": v for name, v in raw.items()} | {
        f"{prefix}_weighted/{name}": v for name, v in added.items()
    }


def losses_in_words(losses: dict[str, float]) -> str:
    """Return `loss 0.8317 = cls 0.6931 + identity 0.1386 (raw 1.3863)`; only raw parts where they are no such sum.

    What weighs nothing (a loss of one class alone, say) stands behind: `; beside it real 0.7012`.
    """
    raw, shares = _split(losses)
    overall = f"loss {raw.pop('overall', math.nan):.4f}"
    if not _sum_up(losses, shares):
        return f"{overall} (raw: {', '.join(f'{name} {value:.4f}' for name, value in raw.items())})"
    counted = {name: value for name, value in raw.items() if shares[name] or not value}
    words = [
        f"{name} {shares[name]:.4f}" + (f" (raw {v:.4f})" if v != shares[name] else "") for name, v in counted.items()
    ]
    beside = [f"{name} {value:.4f}" for name, value in raw.items() if name not in counted]
    return f"{overall} = {' + '.join(words)}" + (f"; beside it {', '.join(beside)}" if beside else "")


def _split(losses: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return the raw losses with `overall`, and the shares of the parts."""
    shares = {name.removeprefix(WEIGHTED): value for name, value in losses.items() if name.startswith(WEIGHTED)}
    return {name: value for name, value in losses.items() if not name.startswith(WEIGHTED)}, shares


def _sum_up(losses: dict[str, float], shares: dict[str, float]) -> bool:
    """Say whether the shares make up `overall`, within what mixed precision rounds."""
    return math.isclose(sum(shares.values()), losses.get("overall", math.nan), rel_tol=0.01, abs_tol=0.01)


def memory_gib(device: torch.device) -> float:
    """Return the most memory taken so far in GiB: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(journal: Journal, step: int, batch: Batch, prediction: Prediction) -> None:
    """Send a few inputs, as the network sees them after augmentation, and the detector's maps (W, energies) to TensorBoard."""
    if "image" not in batch:
        return
    image = batch["image"][:8]
    image = image[:, image.shape[1] // 2] if image.ndim == 5 else image
    if image.dtype == torch.uint8:
        journal.images(step, "inputs", image.cpu().numpy())
    for name, value in prediction.items():
        if is_map(value):
            maps = value.detach()[:8].float().cpu().numpy()
            top = maps.max(axis=(1, 2, 3), keepdims=True)
            journal.images(step, f"maps/{name}", np.clip(maps / np.maximum(top, 1e-12), 0, 1))


def list_bad_batch(path: Path, process: Process, step: int, batch: Batch, values: dict[str, float]) -> None:
    """Write `bad_batch.json`: the videos and frames of a global batch whose loss or gradient is not finite.

    Every process calls it: losses and gradient are sums over all of them.
    """
    shares = process.gather((batch["video"], batch["frame"].tolist()))
    if shares is not None:
        listing = {
            "step": step,
            "values": {name: repr(value) for name, value in values.items()},
            "videos": flatten([videos for videos, _ in shares]),
            "frames": flatten([frames for _, frames in shares]),
        }
        write_json(path, listing)
