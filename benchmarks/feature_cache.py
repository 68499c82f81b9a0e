"""An epoch of the linear probe: on features computed once, against running the frozen tower again."""

import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks import row


def _write_frames(root: Path, videos: int, frames: int, size: int) -> dict:
    """Write noise pictures of `videos` real and as many fake videos; return the configuration's keys that read them."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    index: dict = {"Noise": {}}
    for label in ("real", "fake"):
        listed = {}
        for video in range(videos):
            folder = root / "rgb" / "Noise" / label / "frames" / f"{video:03d}"
            folder.mkdir(parents=True)
            paths = [folder / f"{number:03d}.png" for number in range(frames)]
            for path in paths:
                cv2.imwrite(str(path), rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
            listed[f"{video:03d}"] = {"label": label, "frames": [str(path) for path in paths]}
        index["Noise"][label] = {"train": listed}
    (root / "json").mkdir()
    (root / "json" / "Noise.json").write_text(json.dumps(index))
    return {
        "rgb_dir": str(root / "rgb"),
        "dataset_json_folder": str(root / "json"),
        "label_dict": {"real": 0, "fake": 1},
    }


def _epochs(places: dict, backbone: str, size: int, cached: bool, count: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each epoch, and the losses of all steps."""
    import torch

    from training.dataset import build_loader
    from training.detectors import build_detector
    from training.detectors.registry import config_class
    from training.trainer.distributed import Process, pick_device
    from training.trainer.feature_cache import CachedLoader
    from training.trainer.step import Stepper

    settings = {
        "model_name": "clip_linear", "backbone_name": backbone, "pretrained": None, "resolution": size,
        "train_dataset": ["Noise"], "train_batchSize": 16, "test_batchSize": 16, "frame_num": {"train": 32},
        "workers": max(1, (os.cpu_count() or 1) // 2), "use_data_augmentation": False, "cache_features": cached,
        "nEpochs": count, **places,
    }  # fmt: skip
    config = config_class("clip_linear").model_validate(settings)
    torch.manual_seed(0)
    process = Process(0, 1, pick_device(None))
    detector = build_detector(config, None, pretrained=False).to(process.device)
    plain = build_loader(config, "train")
    loader = CachedLoader(plain, detector, process) if cached else plain
    stepper = Stepper(detector, config, process, count * len(loader), len(loader))
    seconds: list[float] = []
    losses: list[float] = []
    for epoch in range(count):
        started = time.perf_counter()
        loader.set_epoch(epoch)
        for batch in loader:
            losses.append(stepper.step(batch, len(losses))[0]["overall"])
        seconds.append(time.perf_counter() - started)
    return seconds, losses


def run(quick: bool = False) -> list[dict]:
    """Measure a first and a later epoch with the cache, and an epoch without it."""
    backbone, size, videos, frames = ("tiny", 32, 4, 8) if quick else ("ViT-B-32", 224, 6, 8)
    with tempfile.TemporaryDirectory() as folder:
        places = _write_frames(Path(folder), videos, frames, size)
        without, losses = _epochs(places, backbone, size, cached=False, count=2)
        cached, same = _epochs(places, backbone, size, cached=True, count=6)
    apart = max(abs(a - b) for a, b in zip(losses, same))
    count = 2 * videos * frames
    agreement = f"losses within {apart:.1e}"
    title = f"{backbone}, {count} frames of {size} pixels"
    later = sorted(cached[1:])[len(cached[1:]) // 2]
    return [
        row(f"later epoch on cached features, {title}", "s", later, without[-1], agreement),
        row(f"first epoch, which fills the cache, {title}", "s", cached[0], without[0], agreement),
    ]
