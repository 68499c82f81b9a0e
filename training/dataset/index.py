"""The videos that one loader reads, from one or several datasets, as integers into shared tables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from training.config.schema import Config
from training.dataset.info import DataInfo
from training.dataset.table import Table, inside, load_table
from training.errors import DataError

_LEVEL = re.compile(r"(.+)_(c23|c40|raw)$")


class Index:
    """Videos of one split.

    Attributes:
        datasets: their names; `dataset[i]` is the number of video i's. `domain` is the same for training indexes.
        label: int8, 0 real, 1 fake. method: int16, 0 real, manipulations from 1, −1 unknown to the training set.
        target, source: int32 identities, −1 unknown. frames: int64, frames per video.
        info: names behind those integers.
    """

    def __init__(
        self, tables: Mapping[str, Table], chosen: Mapping[str, np.ndarray], config: Config, info: DataInfo | None
    ):
        self.datasets = list(tables)
        self._tables = list(tables.values())
        self._root = config.rgb_dir
        self.row = np.concatenate([chosen[name] for name in self.datasets]).astype(np.int32)
        sizes = [len(chosen[name]) for name in self.datasets]
        self.dataset = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)
        self.label_names = [self._tables[d].label_names[self._tables[d].label[r]] for d, r in self._pairs()]
        self.label = self._labels(config)
        self.frames = np.array([t.first[r + 1] - t.first[r] for t, r in self._table_rows()], np.int64)
        self.info = self._make_info(info)
        self.method = np.array(
            [0 if real else self.info.manipulations.get(n, -1) for n, real in zip(self.label_names, self.label == 0)],
            np.int16,
        )
        self.target, self.source = self._identities("target"), self._identities("source")
        self.domain = np.array([self.info.domains.get(self.datasets[d], -1) for d in self.dataset], np.int64)

    def __len__(self) -> int:
        return len(self.row)

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.dataset.tolist(), self.row.tolist(), strict=True))

    def _table_rows(self) -> list[tuple[Table, int]]:
        return [(self._tables[d], r) for d, r in self._pairs()]

    def _labels(self, config: Config) -> np.ndarray:
        for name, dataset in zip(self.label_names, self.dataset, strict=True):
            if name not in config.label_dict:
                raise DataError(
                    f"the label `{name}` of {self.datasets[dataset]} is not in label_dict; add it there with 0 (real) or 1 (fake)"
                )
        return np.array([config.label_dict[name] for name in self.label_names], np.int8)

    def _make_info(self, given: DataInfo | None) -> DataInfo:
        fakes = sorted({n for n, label in zip(self.label_names, self.label, strict=True) if label})
        reals = sorted({n for n, label in zip(self.label_names, self.label, strict=True) if not label})
        people = sorted({p for t, r in self._table_rows() for p in (t.target[r], t.source[r]) if p})
        counts = {
            "real": int(self.frames[self.label == 0].sum()),
            "fake": int(self.frames[self.label == 1].sum()),
            "videos_real": int((self.label == 0).sum()),
            "videos_fake": int((self.label == 1).sum()),
        }
        if given is None:
            manipulations = {**dict.fromkeys(reals, 0), **{name: i + 1 for i, name in enumerate(fakes)}}
            return DataInfo(
                {p: i for i, p in enumerate(people)}, manipulations, {n: i for i, n in enumerate(self.datasets)}, counts
            )
        # People whom training never saw get numbers behind the known ones: figures tell them apart, heads never see them.
        new = [p for p in people if p not in given.identities]
        known = {**given.identities, **{p: len(given.identities) + i for i, p in enumerate(new)}}
        return DataInfo(known, {**dict.fromkeys(reals, 0), **given.manipulations}, given.domains, counts)

    def _identities(self, which: str) -> np.ndarray:
        names = [getattr(t, which)[r] for t, r in self._table_rows()]
        return np.array([self.info.identities[name] if name else -1 for name in names], np.int32)

    def video_id(self, video: int) -> str:
        """Return the unique name `dataset/label/compression/name`; an empty compression is left out."""
        table, row = self._tables[self.dataset[video]], self.row[video]
        parts = (
            self.datasets[self.dataset[video]],
            self.label_names[video],
            table.compressions[table.compression[row]],
            table.name[row],
        )
        return "/".join(part for part in parts if part)

    def video_ids(self) -> list[str]:
        """Return all unique names, in order."""
        return [self.video_id(i) for i in range(len(self))]

    def same_video_keys(self) -> list[str]:
        """Return `family/label/name` of each video: equal for one video under two dataset names or compressions."""
        from training.dataset.identity import family

        return [
            f"{family(self.datasets[self.dataset[i]])}/{self.label_names[i]}/{self._tables[self.dataset[i]].name[self.row[i]]}"
            for i in range(len(self))
        ]

    def frame(self, video: int, position: int) -> tuple[str, int]:
        """Return the path of a frame relative to the RGB root, and its number in the source video."""
        table, row = self._tables[self.dataset[video]], self.row[video]
        at = table.first[row] + position
        folder = table.folder[row]
        path = f"{folder}/{table.file[at]}" if folder else table.file[at]
        return inside(path, self._root), int(table.number[at])

    def mask(self, video: int, position: int) -> str | None:
        """Return the path of a frame's mask: as listed, else beside the frames; None for a frame of a real video."""
        table, row = self._tables[self.dataset[video]], self.row[video]
        at = table.first[row] + position
        if table.masked[at]:
            name = table.file[at].rpartition("/")[2].rpartition(".")[0]
            return inside(f"{table.mask_folder[row]}/{name}.png", self._root)
        if self.label[video] == 0:
            return None
        return _sibling(self.frame(video, position)[0], "masks", ".png")

    def landmark(self, video: int, position: int) -> str:
        """Return the path of a frame's landmarks."""
        return _sibling(self.frame(video, position)[0], "landmarks", ".npy")

    def label_counts(self) -> tuple[int, int]:
        """Return how many videos are real and how many fake."""
        return int((self.label == 0).sum()), int((self.label == 1).sum())

    def keep(self, mask: np.ndarray) -> None:
        """Keep the videos where `mask` is true; identities and manipulations stay as numbered."""
        for name in ("row", "dataset", "label", "frames", "method", "target", "source", "domain"):
            setattr(self, name, getattr(self, name)[mask])
        self.label_names = [name for name, kept in zip(self.label_names, mask, strict=True) if kept]


def _sibling(path: str, folder: str, suffix: str) -> str:
    """Return the path of the same frame under `masks` or `landmarks` (the last folder named `frames` is replaced)."""
    parts = path.split("/")
    at = len(parts) - 1 - parts[::-1].index("frames") if "frames" in parts else None
    if at is None:
        raise DataError(f"{path} does not lie under a folder named frames, so its {folder} cannot be found")
    parts[at] = folder
    return "/".join(parts).rpartition(".")[0] + suffix


def load_index(config: Config, datasets: Sequence[str], split: str, info: DataInfo | None = None) -> Index:
    """Return the videos of a split of several datasets.

    A dataset named `<name>_c23`, `_c40` or `_raw` without an index file of its own is `<name>` at that compression.

    Raises:
        DataError: an index is missing, a split or compression is not in it, or a label is not in `label_dict`.
    """
    tables: dict[str, Table] = {}
    chosen: dict[str, np.ndarray] = {}
    for dataset in datasets:
        if dataset in tables:
            raise DataError(f"the dataset {dataset} is named twice; name it once")
        table, level = open_dataset(config, dataset)
        rows = _select(table, dataset, split, level or config.compression)
        if config.dry_run:
            rows = _a_few(table, rows)
        tables[dataset], chosen[dataset] = table, rows
    return Index(tables, chosen, config, info)


def open_dataset(config: Config, dataset: str) -> tuple[Table, str | None]:
    """Return the table of a dataset, and the compression that its name asks for."""
    folder = Path(config.dataset_json_folder)
    path, level = folder / f"{dataset}.json", None
    name = dataset
    found = _LEVEL.match(dataset)
    if not path.exists() and found:
        name, level = found.groups()
        path = folder / f"{name}.json"
    if not path.exists():
        there = sorted(p.stem for p in folder.glob("*.json")) if folder.is_dir() else []
        close = difflib.get_close_matches(dataset, there, n=1)
        hint = f"did you mean {close[0]}?" if close else f"indexes there: {', '.join(there) or 'none'}"
        raise DataError(
            f"there is no index {path} for the dataset {dataset}; make it with preprocessing/rearrange.py ({hint})"
        )
    return load_table(path, name), level


def has_split(config: Config, dataset: str, split: str) -> bool:
    """Return whether a dataset's index holds videos of a split."""
    table, _ = open_dataset(config, dataset)
    return bool((table.split == ("train", "val", "test").index(split)).any())


def _select(table: Table, dataset: str, split: str, compression: str) -> np.ndarray:
    code = ("train", "val", "test").index(split)
    rows = np.flatnonzero(table.split == code)
    if not len(rows):
        raise DataError(
            f"{dataset} has no {split} split in its index; use another dataset, or write the split with rearrange.py"
        )
    levels = table.compression[rows]
    if not (levels > 0).any():
        return rows
    wanted = table.compressions.index(compression) if compression in table.compressions else -1
    # Labels without that level in their tree (a dataset whose reals come in one quality) take part as they are.
    rows = rows[(levels == wanted) | (levels == 0)]
    if wanted < 0 or not (table.compression[rows] == wanted).any():
        there = ", ".join(name for name in table.compressions if name)
        raise DataError(
            f"{dataset} has no compression {compression} in its {split} split; it has {there}: set `compression`"
        )
    return rows


def _a_few(table: Table, rows: np.ndarray, per_label: int = 2) -> np.ndarray:
    """Return the first few videos of each label, for `dry_run`."""
    return np.concatenate([rows[table.label[rows] == code][:per_label] for code in np.unique(table.label[rows])])
