"""Which of the datasets' videos a split and a compression choose."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.coverage import is_coverage
from common.datasets import SPLITS, other_names, split_level
from common.errors import ConfigError, DataError
from training.batch import DataInfo
from training.config.schema import Config
from training.dataset.index.covered import Covered, covered
from training.dataset.index.left_out import check_held_out, paired_or_not, without_held_out
from training.dataset.index.table import Table
from training.dataset.index.table_cache import load_table
from training.dataset.index.videos import Index


def load_index(config: Config, datasets: Sequence[str], split: str, info: DataInfo | None = None) -> Index:
    """Return the videos of a split of several datasets.

    A dataset named `<name>_c23`, `_c40` or `_raw` without an index file of its own is `<name>` at that compression.

    Raises:
        DataError: an index is missing, a split or compression is not in it, or a label is not in `label_dict`.
    """
    if not datasets:
        raise ConfigError(f"no dataset is named for the {split} split; set {split}_dataset in the YAML")
    tables: dict[str, Table] = {}
    coverage: dict[str, Covered] = {}
    chosen: dict[str, np.ndarray] = {}
    for dataset in datasets:
        if dataset in tables:
            raise ConfigError(f"the dataset {dataset} is named twice; name it once")
        path, name, level = find_index(config, dataset)
        table = load_table(path, name)
        rows = _select(table, dataset, split, level or config.compression)
        coverage[dataset] = covered(path, split, level or config.compression, len(rows), config.label_dict)
        if split != "test":
            rows = without_held_out(table, rows, config.hold_out)
        if split == "train" and config.pairing:
            rows = paired_or_not(table, dataset, rows, config.pairing, config.label_dict)
        if config.dry_run:
            rows = _a_few(table, rows)
            coverage[dataset] = replace(coverage[dataset], classes=None)  # who asks for a few expects no more
        tables[dataset], chosen[dataset] = table, rows
    if split == "train":
        check_held_out(tables.values(), config)
    return Index(tables, chosen, config, info, frames_wanted(config, split), coverage)


def frames_wanted(config: Config, split: str) -> int:
    """Return how many frames of a video a split uses at most."""
    wanted = config.frame_num
    return {"train": wanted.train, "val": wanted.val or wanted.test, "test": wanted.test}[split]


def open_dataset(config: Config, dataset: str) -> tuple[Table, str | None]:
    """Return the table of a dataset, and the compression that its name asks for."""
    path, name, level = find_index(config, dataset)
    return load_table(path, name), level


def find_index(config: Config, dataset: str) -> tuple[Path, str, str | None]:
    """Return a dataset's index file, the key in it, and the compression that the dataset's name asks for."""
    folder = Path(config.dataset_json_folder)
    path, name, level = folder / f"{dataset}.json", dataset, None
    plain, asked = split_level(dataset)
    if asked and (not path.exists() or _top_key(path) == plain):
        # DeepfakeBench keeps such an index in a file of its own, under the plain name's key.
        name, level = plain, asked
        path = path if path.exists() else folder / f"{name}.json"
    if not path.exists():
        path = next((file for other in other_names(name) if (file := folder / f"{other}.json").exists()), path)
    if path.exists() and _top_key(path) in other_names(name):
        name = str(_top_key(path))
    if not path.exists():
        there = sorted(p.stem for p in folder.glob("*.json") if not is_coverage(p))
        close = difflib.get_close_matches(dataset, there, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        empty = "no index is there" if folder.is_dir() else f"there is no folder {folder.absolute()}"
        listed = f"datasets there: {', '.join(there)}" if there else empty
        raise DataError(
            f"there is no index {folder / f'{dataset}.json'} for the dataset {dataset}; {hint}{listed} "
            "(preprocessing/rearrange.py writes them, dataset_json_folder says where they are)"
        )
    return path, name, level


def _top_key(path: Path) -> str | None:
    """Return the first key of a JSON file without reading the rest of it."""
    with open(path, "rb") as file:
        start = file.read(4096)
    text = start.decode(json.detect_encoding(start), errors="replace")
    found = re.match(r'\s*\{\s*"([^"]*)"\s*:', text)
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
