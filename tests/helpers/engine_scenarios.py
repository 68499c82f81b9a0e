"""What is computed once alone and once by two processes, to be compared: `python -m helpers.engine_scenarios DATA OUT`.

Every function takes the process it runs on and returns plain values and tensors, on rank 0.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.errors import ProjectError
from common.rundir import RunDir
from helpers.video import VIDEO_TRANSFORMERS, clips, tiny
from training.config.schema import Config
from training.dataset import DataInfo, build_loader
from training.detectors import build_detector
from training.detectors.base import ClassificationDetector
from training.detectors.registry import config_class
from training.trainer import distributed
from training.trainer.distributed import Process
from training.trainer.evaluator import predict
from training.trainer.results import score
from training.trainer.step import NotFinite, Stepper, split_batch
from training.trainer.trainer import Trainer

INFO = DataInfo(identities={"a": 0, "b": 1, "c": 2}, domains={"x": 0, "y": 1})
# Not Adam, where weights are compared: it makes whole steps out of the rounding in gradients that are zero.
SGD = {"type": "sgd", "sgd": {"lr": 0.005, "momentum": 0.9}}
SAM = {"type": "sam", "sam": {"lr": 0.02, "momentum": 0.9, "rho": 0.05}}
LABELS = {"FF-real": 0, "FF-DF": 1, "FF-NT": 1}


def sphere(**keys) -> tuple[torch.nn.Module, Config]:
    """A small detector of the project with every loss that compares samples or counts known ones; nothing random in it."""
    settings = {
        "model_name": "clip_crossdomain", "backbone_name": "tiny", "pretrained": None, "resolution": 32, "tuning": "full",
        "head": "arcmargin", "slerp": False, "gather": True, "with_mask": True, "train_batchSize": 8,
        "freq_adapter": {"channels": 8}, "boundary": {"channels": 8}, "domain": {"enabled": True},
        "losses": {"alignment": 0.3, "uniformity": 0.3, "consistency": 0.0, "boundary": 0.3},
        "optimizer": {"type": "adamw", "adamw": {"lr": 0.003}}, **keys,
    }  # fmt: skip
    config = config_class("clip_crossdomain")(**settings)
    torch.manual_seed(0)
    return without_batch_norm(build_detector(config, INFO, pretrained=False)), config


def without_batch_norm(module: nn.Module) -> nn.Module:
    """Take BatchNorm out, in place: it would normalise by each share or micro-batch alone."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(parent, name, nn.Identity())
    return module


def rows(number: int, size: int = 8, side: int = 32) -> dict:
    """Return global batch `number`: the first half has no known identity, so that shares count different numbers."""
    generator = np.random.default_rng([7, number])
    target = generator.integers(0, 3, size)
    target[: size // 2] = -1
    mask = np.zeros((size, 1, side, side), np.uint8)
    mask[1::2, :, 8:16, 8:16] = 1
    other = np.random.default_rng([8, number])
    return {
        "image": torch.from_numpy(generator.integers(0, 256, (size, 3, side, side), dtype=np.uint8)),
        "label": torch.from_numpy(np.arange(size) % 2),
        "target_id": torch.from_numpy(target),
        "source_id": torch.from_numpy(target),
        "domain": torch.from_numpy(generator.integers(0, 2, size)),
        "mask": torch.from_numpy(mask),
        # What could be forged into them, and as which numbers choose.
        **{
            k: torch.from_numpy(other.integers(0, 256, (size, 3, side, side), dtype=np.uint8))
            for k in ("reference", "source")
        },
        "parts": torch.from_numpy(other.integers(0, 256, (size, 5, side, side), dtype=np.uint8)),
        "chance": torch.from_numpy(other.random((size, 2), dtype=np.float32)),
        "frame": torch.arange(size),
        "index": torch.arange(size),
        "video": [f"{number}/{i}" for i in range(size)],
    }


def part(batch: dict, chosen: list[int]) -> dict:
    """Return some rows of a batch."""
    return {k: v[chosen] if isinstance(v, torch.Tensor) else [v[i] for i in chosen] for k, v in batch.items()}


def share(batch: dict, process: Process) -> dict:
    """Return this process's rows."""
    size = len(batch["label"]) // process.world_size
    return part(batch, list(range(process.rank * size, (process.rank + 1) * size)))


def flat(detector: nn.Module) -> torch.Tensor:
    """Return all parameters as one vector."""
    return torch.cat([p.detach().flatten() for p in detector.parameters()])


def gradients(process: Process) -> dict:
    """One step's gradient: of the losses, identity among them at full strength, over the global batch."""
    detector, config = sphere(optimizer={"type": "sgd", "sgd": {"lr": 1e-9}})
    stepper = Stepper(detector, config, process, 20, 5)
    losses, _ = stepper.step(share(rows(0), process), 15)
    found = {name: p.grad.clone() for name, p in detector.named_parameters() if p.grad is not None}
    unused = getattr(stepper.module, "find_unused_parameters", False)
    return {"losses": losses, "gradients": found, "find_unused_parameters": unused}


# Detectors whose first step is taken alone and by two, with the keys that keep them small.
FIRST_STEPS = {
    "effort": {"backbone_name": "tiny", "resolution": 32, "effort": {"residual_rank": 2}},
    "rfm": {"erasing": {"blocks": 1, "largest": 12}, "resolution": 32},
    "sbi": {"backbone_config": {"drop_path": 0.0}, "resolution": 32},
    "pcl_xception": {"resolution": 32},
    "sia": {"resolution": 64},
    "multi_attention": {
        "backbone_config": {"drop_path": 0.0},
        "resolution": 32,
        "AGDA": {"images": "original"},
        "feature_layer": "b1",  # without BatchNorm little is left of deeper maps
        "attention_layer": "b1",
        "dropout_rate": 0.0,
        "dropout_rate_final": 0.0,
    },
    "uia_vit": {"backbone_name": "vit_tiny_patch16_224", "resolution": 32, "warmup_epochs": 0.2, "update_epochs": 0.2},
    "iid": {"explicit_extractor": "tiny", "explicit_extractor_pretrained": None, "resolution": 32},
    "i3d": {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4, "dropout": 0.0},
    "ftcn": {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4, "dropout": 0.0, "hidden": 64, "heads": 4},
    "altfreezing": {"backbone_name": "resnet3d_tiny", "resolution": 32, "clip_size": 4, "dropout": 0.0},
    "lsda": {
        **dict.fromkeys(("teacher", "student", "real_encoder"), "test_efficientnet"), "domains": 1, "resolution": 32,
    },
    "lrl": {"backbone_config": {"drop_path": 0.0}, "drop_rate": 0.0, "patch": 1, "resolution": 64},
    **{name: tiny(name) for name in VIDEO_TRANSFORMERS},
    "stil": {"backbone_name": "scnet_tiny", "resolution": 64, "clip_size": 3},
    "tall": {
        "embed_dim": 16, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 2], "resolution": 32, "drop_path_rate": 0.0,
    },
    "sladd": {"resolution": 32, "synthesizer_dropout": 0.0},
}  # fmt: skip
# Those that train on several roles: how many; and what else batches hold.
ROLES = {"lsda": {"roles": 2, "chance": torch.arange(4).repeat(2), "label": torch.arange(2).repeat_interleave(4)}}
# Those that see their faces at another size than 32 pixels: at which.
SIDES = {"lrl": 64}
# Those whose losses are all there only in a later step: its number.
LATER = {"uia_vit": 1}

# Without BatchNorm their activations grow, and with them what single precision rounds off.
IN_DOUBLE = {"lrl", "rfm", "stil"}


def first_step(process: Process, name: str) -> dict:
    """The losses and gradients of a detector's first step with all losses over a global batch, without BatchNorm."""
    keys = {"pretrained": None, "train_batchSize": 8, "optimizer": {"type": "sgd", "sgd": {"lr": 1e-9}}}
    config = config_class(name)(**{"model_name": name, **keys, **FIRST_STEPS[name]})
    torch.manual_seed(0)
    detector = without_batch_norm(build_detector(config, INFO))
    if name in IN_DOUBLE:
        detector = detector.double()
    stepper = Stepper(detector, config, process, 20, 5)
    for number in range(LATER.get(name, 0) + 1):
        batch = rows(number, side=SIDES.get(name, 32)) | ROLES.get(name, {})
        if config.video_mode:
            batch["image"] = clips(batch["image"], config.clip_size)
        losses, _ = stepper.step(list(split_batch(batch, process.world_size))[process.rank], number)
    return {
        "losses": losses,
        "gradients": {n: p.grad.clone() for n, p in detector.named_parameters() if p.grad is not None},
    }


def steps(process: Process, count: int = 20, **keys) -> dict:
    """The loss curve and final weights of some steps."""
    detector, config = sphere(**keys)
    stepper = Stepper(detector, config, process, count, 5)
    curve = [stepper.step(share(rows(number), process), number)[0]["overall"] for number in range(count)]
    return {"curve": curve, "weights": flat(detector)}


def unreadable(process: Process) -> dict:
    """Steps in which samples of the second half of the batch could not be read: some, then all of that share."""
    detector, config = sphere(optimizer=SGD)
    stepper = Stepper(detector, config, process, 4, 5)
    curve = []
    for number, left in enumerate([[4, 6, 7], [], [5], [4, 5, 6, 7]]):
        chosen = [0, 1, 2, 3, *left]
        if process.distributed:
            chosen = [0, 1, 2, 3] if process.main else left
        curve.append(stepper.step(part(rows(number), chosen), number)[0]["overall"])
    return {"curve": curve, "weights": flat(detector)}


class Spare(ClassificationDetector):
    """Has a layer that only every second step uses, and says so."""

    find_unused_parameters = True

    def __init__(self, config):
        super().__init__(config)
        self.head, self.spare, self.count = nn.Linear(3, 2), nn.Linear(3, 2), 0

    def before_step(self, clock):
        self.count = clock.step

    def features(self, image):
        return image.mean((2, 3))

    def classifier(self, feat):
        return self.head(feat) + (self.spare(feat) if self.count % 2 else 0)


def spare(process: Process) -> dict:
    """A detector that declares parameters which a step may leave out."""
    torch.manual_seed(0)
    config = Config(model_name="spare", train_batchSize=8)
    detector = Spare(config)
    stepper = Stepper(detector, config, process, 4, 5)
    for number in range(4):
        stepper.step(share(rows(number), process), number)
    return {
        "weights": flat(detector),
        "find_unused_parameters": getattr(stepper.module, "find_unused_parameters", True),
    }


def bad(process: Process) -> dict:
    """A NaN in the last row: whoever holds it, all stop, and nothing is updated."""
    detector, config = sphere()
    stepper = Stepper(detector, config, process, 4, 5)
    before, batch = flat(detector), rows(0)
    batch["image"] = batch["image"].float()
    batch["image"][-1] = float("nan")
    try:
        stepper.step(share(batch, process), 3)
    except NotFinite as error:
        stopped = str(error)
    said = process.gather_everywhere(stopped)
    return {"said": said, "same": torch.equal(before, flat(detector))}


def pack_config(data: Path, **keys) -> Config:
    """Return the configuration of the project's detector on the written pack."""
    places = {"rgb_dir": str(data / "rgb"), "dataset_json_folder": str(data / "json"), "lmdb_dir": str(data / "lmdb")}
    settings = {
        "model_name": "clip_crossdomain", "backbone_name": "tiny", "pretrained": None, "resolution": 32, "tuning": "full",
        "slerp": False, "with_mask": True, "train_batchSize": 4, "test_batchSize": 3, "workers": 0, "nEpochs": 4,
        "frame_num": {"train": 4, "val": 3, "test": 3}, "label_dict": LABELS, "rec_iter": 1, "metric_level": "video",
        "freq_adapter": {"channels": 8}, "boundary": {"channels": 8},
        "losses": {"consistency": 0.0, "boundary": 0.3}, "train_dataset": "FaceForensics++", "max_steps": 20,
        "gather": True, "optimizer": SGD, **places, **keys,
    }  # fmt: skip
    return config_class("clip_crossdomain")(**settings)


def run(process: Process, data: Path, folder: Path) -> dict:
    """A whole training with augmentation, validation and checkpoints, into a run directory."""
    config = pack_config(data, ema_decay=0.5, SWA=True, swa_start=0.5)
    ranks = {"rank": process.rank, "world_size": process.world_size}
    train, val = build_loader(config, "train", **ranks), build_loader(config, "val", **ranks)
    torch.manual_seed(1)
    detector = without_batch_norm(build_detector(config, train.info, pretrained=False))
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(detector, config, process, RunDir(folder), train, val)
    trainer.fit()
    trainer.conclude({})
    return {"weights": flat(detector), "best": trainer.best}


class Statistics(ClassificationDetector):
    """A network with BatchNorm, in which the processes' statistics drift apart while they train."""

    def __init__(self, config):
        super().__init__(config)
        torch.manual_seed(3)
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3))
        self.norm, self.head = nn.BatchNorm1d(16), nn.Linear(16, 2)

    def features(self, image):
        return self.norm(self.trunk(image).mean((2, 3)))

    def classifier(self, feat):
        return self.head(feat)


def evaluation(process: Process, data: Path, batch: int = 4) -> dict | None:
    """Predictions and metrics of an odd number of frames, by a network whose other processes hold other statistics."""
    config = pack_config(data, test_batchSize=batch)
    loader = build_loader(config, "test", "FaceForensics++", rank=process.rank, world_size=process.world_size)
    detector = Statistics(config)
    detector.norm.running_mean += process.rank
    found = predict(detector, loader, process, save_feat=True, examples=True)
    if found is None:
        return None
    return {
        "count": len(found.prob),
        "video": found.video,
        "prob": found.prob.tolist(),
        "feat": found.feat.tolist(),
        "frame": found.frame.tolist(),
        "metrics": score(found, config, "test", bootstrap=50),
        "examples": {group: [(e.video, e.frame, e.prob) for e in kept] for group, kept in found.examples.items()},
    }


def everything(process: Process, data: Path, out: Path) -> dict:
    """Return all results by name."""
    return {
        "gradients": gradients(process),
        "first_steps": {name: first_step(process, name) for name in FIRST_STEPS},
        "adamw": steps(process),
        "momentum": steps(process, optimizer=SGD),
        "sam": steps(process, 6, optimizer=SAM),
        "sam_accumulate": steps(process, 6, optimizer=SAM, accumulate=2, gather=False, losses={
            "alignment": 0.0, "uniformity": 0.0, "consistency": 0.0, "boundary": 0.3}),
        "sam_bf16": steps(process, 6, optimizer=SAM, precision="bf16"),
        "unreadable": unreadable(process),
        "spare": spare(process),
        "bad": bad(process),
        "run": run(process, data, out / f"run{process.world_size}"),
        "evaluation": evaluation(process, data),
        "one_batch": evaluation(process, data, batch=64),
    }  # fmt: skip


def main() -> None:
    """Run as one of several processes; rank 0 writes `OUT/results.pth`."""
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    process = distributed.start("cpu", ddp=True)
    found = everything(process, data, out)
    try:
        _, config = sphere(sync_batchnorm=True)
        Stepper(Statistics(config), config, process, 4, 5)
    except ProjectError as error:
        found["sync_batchnorm"] = str(error)
    if process.main:
        torch.save(found, out / "results.pth")
    process.barrier()
    distributed.stop()


if __name__ == "__main__":
    main()
