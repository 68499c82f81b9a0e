"""What the runs of a table need and is not there: indexes, splits, labels, frames, pretrained weights. All of it at once."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.reproduction.jobs import Job
from common.datasets import plain_name
from common.errors import ProjectError
from common.rundir import RunDir

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
_WHY = {"train": "", "val": ", since it chooses the checkpoint", "test": ""}
_WEIGHTS = ("model_name", "pretrained", "backbone_name", "backbone_config")


SPLITS = Path(__file__).parents[1] / "reference" / "splits.csv"
_HANDFUL = 5  # of each class, where no count is published
_SHARE = 0.9  # of the published count: videos without a face, or that cannot be read, are left out


def missing(jobs: Iterable[Job], fetch: bool = False, fewest: int | None = None) -> list[str]:
    """Return a sentence for each thing that is missing or wrong, each once; empty when the runs can begin.

    Of every dataset and split the index is read whole and its videos are counted, those of the validation split that chooses the
    checkpoint too: about as many as are published must be there, of unknown datasets a handful, or `fewest` of each class. Of
    the first and of the last video a frame is read, with landmarks and mask where training asks for them. Weights must lie on
    this machine, and fit; with `fetch`, those that a tag names are fetched now, which can take long.
    """
    found: dict[str, None] = {}
    seen: set[str] = set()
    for job in jobs:
        try:
            config = job.config()
        except ProjectError as error:
            found[str(error)] = None
            continue
        for sentence in (*_missing_data(config, seen, fewest), *_missing_weights(config, job, seen, fetch)):
            found[sentence] = None
    return list(found)


def _first_time(config: Config, keys: Iterable[str], extra: str, seen: set[str]) -> bool:
    key = repr([extra, *(repr(getattr(config, name)) for name in keys)])
    known = key in seen
    seen.add(key)
    return not known


def _missing_data(config: Config, seen: set[str], fewest: int | None) -> Iterator[str]:
    named = {
        "train": config.train_dataset,
        "val": config.val_dataset or _validated(config),
        "test": config.test_dataset,
    }
    for split, names in named.items():
        for name in names:
            if _first_time(config, _DATA, f"{split} {name}", seen):
                try:
                    _look_at(config, name, split, fewest)
                except ProjectError as error:
                    yield str(error)


def _validated(config: Config) -> list[str]:
    """Return the training sets whose validation split chooses the checkpoint; all of them where none has one."""
    from training.dataset.index.selection import has_split

    try:
        return [name for name in config.train_dataset if has_split(config, name, "val")] or config.train_dataset
    except ProjectError:
        return config.train_dataset


def published_counts(dataset: str, split: str) -> tuple[int, int] | None:
    """Return how many real and fake videos a split is published with; None where that is not known."""
    with open(SPLITS, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["dataset"], row["split"]) == (plain_name(dataset), split):
                return int(row["real"]), int(row["fake"])
    return None


def _too_few(dataset: str, split: str, counts: tuple[int, int], fewest: int | None) -> str:
    """Return what a split lacks, as a sentence's end; empty when it holds enough."""
    published = published_counts(dataset, split) if fewest is None else None
    wanted = [_SHARE * count for count in published] if published else [fewest or _HANDFUL] * 2
    lacking = [word for word, count, needed in zip(("real", "fake"), counts, wanted) if count < needed]
    if not lacking:
        return ""
    held = f"holds {counts[0]} real and {counts[1]} fake videos, "
    if published:
        return held + f"and {published[0]} and {published[1]} are published"
    return held + f"and a reproduction needs at least {fewest or _HANDFUL} of each"


def _look_at(config: Config, dataset: str, split: str, fewest: int | None) -> None:
    """Raise DataError when a split of a dataset cannot be used, or is too small for what the run is to show."""
    from common.errors import DataError
    from training.dataset.index.selection import has_split, load_index
    from training.dataset.storage import forgery_mask, open_storage

    if not has_split(config, dataset, split):
        raise DataError(
            f"the {split} split of {dataset} is empty; write its index again with rearrange.py{_WHY[split]}"
        )
    index = load_index(config, [dataset], split)
    counts = index.label_counts()
    for word, count in zip(("real", "fake"), counts):
        if not count:
            raise DataError(
                f"the {split} split of {dataset} holds no {word} video; write its index again with rearrange.py"
            )
    if lack := _too_few(dataset, split, counts, fewest):
        raise DataError(
            f"the {split} split of {dataset} {lack}; preprocess the others and write its index again with rearrange.py, or "
            "set fewest_videos in a scale of your own"
        )
    storage = open_storage(config, dataset)
    for video in sorted({0, len(index) - 1}):
        storage.read_image(index.frame(video, 0)[0])
        if config.with_landmark and split == "train":
            storage.read_landmark(index.landmark(video, 0))
        if config.with_mask and split == "train":
            forgery_mask(storage, index, video, 0)


def _missing_weights(config: Config, job: Job, seen: set[str], fetch: bool) -> Iterator[str]:
    resumes = any(RunDir(job.run_dir).checkpoints.glob("*.pth"))
    if config.pretrained is None or resumes or not _first_time(config, _WEIGHTS, "weights", seen):
        return
    from training.dataset import DataInfo
    from training.detectors import build_detector
    from training.detectors.registry import detector_class

    network = detector_class(config.model_name)
    if not fetch and network.local_weights(config) is None:
        yield (
            f"the weights `{config.pretrained}` of {config.backbone_name}; put their file as "
            f"training/pretrained/{network.weights_file(config)} (or .pth, .pt, .bin), or fetch them with --fetch"
        )
        return
    info = DataInfo({"a:0": 0, "a:1": 1}, {"real": 0, "fake": 1}, {"a": 0}, {"real": 1, "fake": 1})
    try:
        # Only the network can say whether a file fits.
        build_detector(config, data_info=info, pretrained=True)
    except ProjectError as error:
        yield f"{config.model_name}: {error}"
