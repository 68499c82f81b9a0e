"""The videos that one loader reads, from one or several datasets, as integers into shared tables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.datasets import family
from common.errors import ConfigError, DataError
from training.batch import DataInfo
from training.config.schema import Config
from training.dataset.index.paths import inside, sibling
from training.dataset.index.table import SPLITS, Table
from training.dataset.index.table_cache import load_table
from training.dataset.labels import check_labels, class_of

_LEVEL = re.compile(r"(.+)_(c23|c40|raw)$")


class Index:
    """Videos of one split.

    Videos are numbered from 0. Of each there is `dataset` (number in `datasets`), `frames` (how many there are), `label`
    (0 real, 1 fake), `method` (0 real, manipulations from 1, -1 one that training does not know), `target` and `source`
    (identities, -1 unknown), `domain` (training dataset, -1 none of them).

    Args:
        tables: by dataset. chosen: rows of each table. config: `label_dict` and `rgb_dir`.
        info: numbers that training gave to names; None to number them here.
        wanted: frames per video that are used at most, for `info.counts`.

    Raises:
        DataError: labels that neither `label_dict` nor their ending explains (all are named), or a path leaves `rgb_dir`.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        chosen: Mapping[str, np.ndarray],
        config: Config,
        info: DataInfo | None = None,
        wanted: int | None = None,
    ):
        self.datasets = list(tables)
        self._tables = list(tables.values())
        self._root = config.rgb_dir
        self._wanted = wanted
        rows = [np.asarray(chosen[name], np.int32) for name in self.datasets]
        self.row = np.concatenate(rows)
        self.dataset = np.repeat(np.arange(len(rows), dtype=np.int16), [len(part) for part in rows])
        self.frames = _join([np.diff(t.first)[r] for t, r in zip(self._tables, rows)], np.int32)
        self._number_labels(rows, config)
        self._number_people(rows, info)
        domains = {name: i for i, name in enumerate(self.datasets)} if info is None else info.domains
        self.domain = np.array([domains.get(name, -1) for name in self.datasets], np.int16)[self.dataset]
        self.info = DataInfo(self._people, self._manipulations(info), domains, self._counts())
        methods = np.array([self.info.manipulations.get(name, -1) for name in self._label_names], np.int16)
        self.method = methods[self._label_code]
        self._check_paths()

    def _number_labels(self, rows: list[np.ndarray], config: Config) -> None:
        self._label_names: list[str] = []
        codes = []
        said = zip(self.datasets, self._tables, rows)
        check_labels(
            {name: [t.label_names[c] for c in np.unique(t.label[r])] for name, t, r in said}, config.label_dict
        )
        for table, chosen in zip(self._tables, rows):
            used = np.unique(table.label[chosen])
            where = np.zeros(len(table.label_names), np.int16)
            for code in used:
                label = table.label_names[code]
                if label not in self._label_names:
                    self._label_names.append(label)
                where[code] = self._label_names.index(label)
            codes.append(where[table.label[chosen]])
        self._label_code = _join(codes, np.int16)
        self.label = np.array([class_of(name, config.label_dict) for name in self._label_names], np.int8)[
            self._label_code
        ]

    def _manipulations(self, info: DataInfo | None) -> dict[str, int]:
        fake = {name for name, code in zip(self._label_names, range(len(self._label_names))) if self._is_fake(code)}
        known = {name: i + 1 for i, name in enumerate(sorted(fake))} if info is None else info.manipulations
        return {**dict.fromkeys(sorted(set(self._label_names) - fake), 0), **known}

    def _is_fake(self, code: int) -> bool:
        return bool(self.label[self._label_code == code][0])

    def _number_people(self, rows: list[np.ndarray], info: DataInfo | None) -> None:
        """Fill `target` and `source`. People whom training never saw get numbers behind the known ones.

        Figures can then tell them apart; heads never see them, because they are trained on training videos.
        """
        used = [np.unique(np.concatenate([t.target[r], t.source[r]])) for t, r in zip(self._tables, rows)]
        names = {t.people[code] for t, codes in zip(self._tables, used) for code in codes if code >= 0}
        self._people = dict(info.identities) if info is not None else {}
        for name in sorted(names - self._people.keys()):
            self._people[name] = len(self._people)
        columns: dict[str, list[np.ndarray]] = {"target": [], "source": []}
        for table, chosen, codes in zip(self._tables, rows, used):
            # One place more than people, so that the code -1 finds "unknown" there.
            where = np.full(len(table.people) + 1, -1, np.int32)
            for code in codes[codes >= 0]:
                where[code] = self._people[table.people[code]]
            for key, column in columns.items():
                column.append(where[getattr(table, key)[chosen]])
        self.target, self.source = (_join(columns[key], np.int32) for key in ("target", "source"))

    def _counts(self) -> dict[str, int]:
        used = self.frames if self._wanted is None else np.minimum(self.frames, self._wanted)
        return {
            "real": int(used[self.label == 0].sum()),
            "fake": int(used[self.label == 1].sum()),
            "videos_real": int((self.label == 0).sum()),
            "videos_fake": int((self.label == 1).sum()),
        }

    def _check_paths(self) -> None:
        """Meet a path that leaves the root now, and not hours later in a worker."""
        for number, table in enumerate(self._tables):
            rows = self.row[self.dataset == number]
            for path in {table.folder[r] or table.file[table.first[r]] for r in rows}:
                inside(path, self._root)

    def __len__(self) -> int:
        return len(self.row)

    def label_name(self, video: int) -> str:
        """Return the name of a video's label in the index."""
        return self._label_names[self._label_code[video]]

    def name(self, video: int) -> str:
        """Return a video's own name, which other videos may share."""
        return self._tables[self.dataset[video]].name[self.row[video]]

    def video_id(self, video: int) -> str:
        """Return the unique name `dataset/label/compression/name`; an empty compression is left out."""
        table, row = self._tables[self.dataset[video]], self.row[video]
        level = table.compressions[table.compression[row]]
        parts = (self.datasets[self.dataset[video]], self.label_name(video), level, table.name[row])
        return "/".join(part for part in parts if part)

    def video_ids(self) -> list[str]:
        """Return all unique names, in order."""
        return [self.video_id(i) for i in range(len(self))]

    def same_video_keys(self) -> list[str]:
        """Return `family/label/name` of each video: equal for one video under two dataset names or compressions."""
        families = [family(name) for name in self.datasets]
        return [f"{families[self.dataset[i]]}/{self.label_name(i)}/{self.name(i)}" for i in range(len(self))]

    def videos_overlapping(self, other: Index) -> list[str]:
        """Return the unique names of those videos that `other` holds too, perhaps under another dataset name."""
        theirs = set(other.same_video_keys())
        return [self.video_id(i) for i, key in enumerate(self.same_video_keys()) if key in theirs]

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
            stem = table.file[at].rpartition("/")[2].rpartition(".")[0]
            return inside(f"{table.mask_folder[row]}/{stem}{table.mask_suffix[row]}", self._root)
        return None if self.label[video] == 0 else sibling(self.frame(video, position)[0], "masks", ".png")

    def landmark(self, video: int, position: int) -> str:
        """Return the path of a frame's landmarks."""
        return sibling(self.frame(video, position)[0], "landmarks", ".npy")

    def label_counts(self) -> tuple[int, int]:
        """Return how many videos are real and how many fake."""
        return int((self.label == 0).sum()), int((self.label == 1).sum())

    def keep(self, mask: np.ndarray) -> None:
        """Keep the videos where `mask` is true; identities and manipulations stay as numbered."""
        for name in ("row", "dataset", "label", "frames", "method", "target", "source", "domain", "_label_code"):
            setattr(self, name, getattr(self, name)[mask])
        self.info = DataInfo(self.info.identities, self.info.manipulations, self.info.domains, self._counts())


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype)


def load_index(config: Config, datasets: Sequence[str], split: str, info: DataInfo | None = None) -> Index:
    """Return the videos of a split of several datasets.

    A dataset named `<name>_c23`, `_c40` or `_raw` without an index file of its own is `<name>` at that compression.

    Raises:
        DataError: an index is missing, a split or compression is not in it, or a label is not in `label_dict`.
    """
    if not datasets:
        raise ConfigError(f"no dataset is named for the {split} split; set {split}_dataset in the YAML")
    tables: dict[str, Table] = {}
    chosen: dict[str, np.ndarray] = {}
    for dataset in datasets:
        if dataset in tables:
            raise ConfigError(f"the dataset {dataset} is named twice; name it once")
        table, level = open_dataset(config, dataset)
        rows = _select(table, dataset, split, level or config.compression)
        if config.dry_run:
            rows = _a_few(table, rows)
        tables[dataset], chosen[dataset] = table, rows
    return Index(tables, chosen, config, info, frames_wanted(config, split))


def frames_wanted(config: Config, split: str) -> int:
    """Return how many frames of a video a split uses at most."""
    wanted = config.frame_num
    return {"train": wanted.train, "val": wanted.val or wanted.test, "test": wanted.test}[split]


def open_dataset(config: Config, dataset: str) -> tuple[Table, str | None]:
    """Return the table of a dataset, and the compression that its name asks for."""
    folder = Path(config.dataset_json_folder)
    path, name, level = folder / f"{dataset}.json", dataset, None
    found = _LEVEL.match(dataset)
    if found and (not path.exists() or _top_key(path) == found.group(1)):
        # DeepfakeBench keeps such an index in a file of its own, under the plain name's key.
        name, level = found.groups()
        path = path if path.exists() else folder / f"{name}.json"
    if not path.exists():
        there = sorted(p.stem for p in folder.glob("*.json"))
        close = difflib.get_close_matches(dataset, there, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        empty = "no index is there" if folder.is_dir() else f"there is no folder {folder.absolute()}"
        listed = f"datasets there: {', '.join(there)}" if there else empty
        raise DataError(
            f"there is no index {folder / f'{dataset}.json'} for the dataset {dataset}; {hint}{listed} "
            "(preprocessing/rearrange.py writes them, dataset_json_folder says where they are)"
        )
    return load_table(path, name), level


def _top_key(path: Path) -> str | None:
    """Return the first key of a JSON file without reading the rest of it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        found = re.match(r'\s*\{\s*"([^"]*)"\s*:', file.read(4096))
    return found.group(1) if found else None


def has_split(config: Config, dataset: str, split: str) -> bool:
    """Return whether a dataset's index holds videos of a split; DataError when there is no such index."""
    table, _ = open_dataset(config, dataset)
    return bool((table.split == SPLITS.index(split)).any())


def _select(table: Table, dataset: str, split: str, compression: str) -> np.ndarray:
    rows = np.flatnonzero(table.split == SPLITS.index(split))
    if not len(rows):
        there = ", ".join(name for code, name in enumerate(SPLITS) if (table.split == code).any())
        raise DataError(
            f"the dataset {dataset} has no {split} split in its index, only {there}; name another dataset, or write that "
            "split with rearrange.py"
        )
    levels = table.compression[rows]
    wanted = table.compressions.index(compression) if compression in table.compressions else -1
    if (levels > 0).any() and not (levels == wanted).any():
        there = ", ".join(table.compressions[code] for code in np.unique(levels) if code)
        raise DataError(
            f"the dataset {dataset} has no compression {compression} in its {split} split, only {there}; set `compression`"
        )
    # Labels without a level (a dataset whose real videos come in one quality) take part as they are.
    return rows[(levels == wanted) | (levels == 0)]


def _a_few(table: Table, rows: np.ndarray, per_label: int = 2) -> np.ndarray:
    """Return the first few videos of each label, for `dry_run`."""
    return np.concatenate([rows[table.label[rows] == code][:per_label] for code in np.unique(table.label[rows])])
