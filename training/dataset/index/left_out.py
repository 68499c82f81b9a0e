"""What training and validation leave out on purpose: manipulations held out for testing, and pairs of a fake and its original."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from common.by_name import nearest
from common.errors import ConfigError, DataError
from training.config.schema import Config
from training.dataset.index.table import Strings, Table
from training.dataset.labels import class_of


def check_held_out(tables: Iterable[Table], config: Config) -> None:
    """Refuse a name in `hold_out` that is no label of a fake in any of the tables."""
    fakes = {name for table in tables for name in table.label_names if class_of(name, config.label_dict) == 1}
    for name in config.hold_out:
        if name not in fakes:
            raise ConfigError(f"hold_out: there is no manipulation `{name}`; {nearest(name, sorted(fakes))}")


def without_held_out(table: Table, rows: np.ndarray, held_out: Iterable[str]) -> np.ndarray:
    """Return the rows whose label is not held out."""
    codes = [code for code, name in enumerate(table.label_names) if name in set(held_out)]
    return rows[~np.isin(table.label[rows], codes)]


def paired_or_not(
    table: Table, dataset: str, rows: np.ndarray, pairing: str, label_dict: Mapping[str, int]
) -> np.ndarray:
    """Return as many videos with fakes of the reals' own people (`paired`) as with fakes of other people (`unpaired`).

    People with a real video are dealt into two halves, every other one by name. The reals are those of the first half, in
    both cases. Fakes are `paired` when the person in whose video they are made is of the first half, `unpaired` when that
    person and the one whose face was put there are both known to be none of it. Of each label both cases have the same number
    of videos: the first ones, as many as the rarer of the two has.

    Raises:
        DataError: the index does not tell people, or one of the two cases has no fake.
    """
    fake = np.array([class_of(name, label_dict) == 1 for name in table.label_names])[table.label[rows]]
    target, source = table.target[rows], table.source[rows]
    people = sorted({table.people[code] for code in target[~fake] if code >= 0})
    if not people:
        raise DataError(f"pairing: the index of {dataset} does not tell who is seen in its videos; write null")
    # One place more than people, so that the code -1, unknown, finds "of neither" there.
    first, second = (np.array([*(name in half for name in _all(table.people)), False]) for half in _halves(people))
    cases = {
        "paired": fake & first[target],
        "unpaired": fake & second[target] & ~first[source] & (source >= 0),
    }
    kept = ~fake & first[target]
    for code in np.unique(table.label[rows][fake]):
        of_label = table.label[rows] == code
        fewest = min(int((case & of_label).sum()) for case in cases.values())
        kept[np.flatnonzero(cases[pairing] & of_label)[:fewest]] = True
    if not (kept & fake).any():
        raise DataError(f"pairing: {dataset} has no fakes of some people beside fakes of others; write null")
    return rows[kept]


def _halves(people: list[str]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(people[::2]), frozenset(people[1::2])


def _all(texts: Strings) -> list[str]:
    return [texts[i] for i in range(len(texts))]
