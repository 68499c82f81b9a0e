"""What the runs of a table need and is not there: indexes, splits, labels, frames, pretrained weights. All of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.reproduction.jobs import Job
from common.errors import ProjectError

if TYPE_CHECKING:
    from training.config import Config

_DATA = (
    "dataset_json_folder",
    "rgb_dir",
    "lmdb",
    "lmdb_dir",
    "compression",
    "label_dict",
    "with_mask",
    "with_landmark",
)
_WEIGHTS = ("model_name", "pretrained", "backbone_name", "backbone_config")


def missing(jobs: Iterable[Job], fetch: bool = False) -> list[str]:
    """Return a sentence for each thing that is missing or wrong, each once; empty when the runs can begin.

    Of every dataset and split the index is read whole, and of its first and of its last video a frame, with landmarks and mask
    where training asks for them. Weights must lie on this machine, and fit; with `fetch`, those that a tag names are fetched
    now, which can take long.
    """
    found: dict[str, None] = {}
    seen: set[str] = set()
    for job in jobs:
        try:
            config = job.config()
        except ProjectError as error:
            found[str(error)] = None
            continue
        for sentence in (*_missing_data(config, seen), *_missing_weights(config, job, seen, fetch)):
            found[sentence] = None
    return list(found)


def _first_time(config: Config, keys: Iterable[str], extra: str, seen: set[str]) -> bool:
    key = repr([extra, *(repr(getattr(config, name)) for name in keys)])
    known = key in seen
    seen.add(key)
    return not known


def _missing_data(config: Config, seen: set[str]) -> Iterator[str]:
    named = {"train": config.train_dataset, "val": config.val_dataset or [], "test": config.test_dataset}
    for split, names in named.items():
        for name in names:
            if _first_time(config, _DATA, f"{split} {name}", seen):
                try:
                    _look_at(config, name, split)
                except ProjectError as error:
                    yield str(error)


def _look_at(config: Config, dataset: str, split: str) -> None:
    """Raise DataError when a split of a dataset cannot be used."""
    from common.errors import DataError
    from training.dataset.index.selection import load_index
    from training.dataset.storage import forgery_mask, open_storage

    index = load_index(config, [dataset], split)
    for word, count in zip(("real", "fake"), index.label_counts()):
        if not count:
            raise DataError(
                f"the {split} split of {dataset} holds no {word} video; write its index again with rearrange.py"
            )
    storage = open_storage(config, dataset)
    for video in sorted({0, len(index) - 1}):
        storage.read_image(index.frame(video, 0)[0])
        if config.with_landmark and split == "train":
            storage.read_landmark(index.landmark(video, 0))
        if config.with_mask and split == "train":
            forgery_mask(storage, index, video, 0)


def _missing_weights(config: Config, job: Job, seen: set[str], fetch: bool) -> Iterator[str]:
    resumes = any((job.run_dir / "checkpoints").glob("*.pth"))
    if config.pretrained is None or resumes or not _first_time(config, _WEIGHTS, "weights", seen):
        return
    from training.dataset import DataInfo
    from training.detectors import build_detector

    if not fetch and _local_weights(config) is None:
        yield (
            f"the weights `{config.pretrained}` of {config.backbone_name}; put their file as "
            f"training/pretrained/{_file_name(config)} (or .pth, .pt, .bin), or fetch them with --fetch"
        )
        return
    info = DataInfo({"a:0": 0, "a:1": 1}, {"real": 0, "fake": 1}, {"a": 0}, {"real": 1, "fake": 1})
    try:
        # Only the network can say whether a file fits.
        build_detector(config, data_info=info, pretrained=True)
    except ProjectError as error:
        yield f"{config.model_name}: {error}"


def _local_weights(config: Config) -> Path | None:
    from training.networks.clip_tower import ClipConfig, local_tower
    from training.networks.pretrained import local_trunk

    if config.pretrained is None:
        return None
    if isinstance(config, ClipConfig):
        return local_tower(config.backbone_name, config.pretrained)
    return local_trunk(config.pretrained)


def _file_name(config: Config) -> str:
    from training.networks.clip_tower import ClipConfig

    if isinstance(config, ClipConfig):
        tag = "" if config.pretrained == "openai" else f"-{config.pretrained}"
        return f"{config.backbone_name}{tag}.safetensors"
    return f"{config.pretrained}.safetensors"
