"""Which entries of an index, or of two, are one video: by their files, or by their name within a family of datasets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from common.datasets import split_person


class Videos(Protocol):
    """What is asked of an index here; see `training.dataset.index.videos.Index`."""

    dataset: np.ndarray

    def __len__(self) -> int: ...

    def name(self, video: int) -> str: ...

    def label_name(self, video: int) -> str: ...

    def files(self, video: int) -> Iterable[str]: ...

    def scope(self, video: int) -> str: ...

    def places(self) -> list[str]: ...

    def same_video_keys(self) -> list[str]: ...


def groups_of_one_video(index: Videos, places: Sequence[str]) -> Iterator[list[int]]:
    """Yield, in order, the entries that are one video, where they are more than one.

    Entries of one place that name a common file are one video, and so are those with one label and name. A place alone is not
    enough: a flat folder holds the frames of many videos.

    Args:
        places: `index.places()`.
    """
    at: dict[str, list[int]] = defaultdict(list)
    for video, place in enumerate(places):
        at[place].append(video)
    for entries in at.values():
        if len(entries) > 1:
            yield from (group for group in _connected(index, entries) if len(group) > 1)


def _connected(index: Videos, entries: list[int]) -> list[list[int]]:
    """Return the entries in groups that hang together by a file, or by dataset, label and name."""
    leader = {entry: entry for entry in entries}

    def lead(entry: int) -> int:
        while leader[entry] != entry:
            leader[entry] = entry = leader[leader[entry]]
        return entry

    owner: dict[object, int] = {}
    for entry in entries:
        named = (index.dataset[entry], index.label_name(entry), index.name(entry))
        for mark in (named, *index.files(entry)):
            low, high = sorted((lead(entry), lead(owner.setdefault(mark, entry))))
            leader[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for entry in entries:
        groups[lead(entry)].append(entry)
    return list(groups.values())


def in_both(index: Videos, other: Videos) -> np.ndarray:
    """Return which videos of `index` are also in `other`, `(N,)` bool.

    One video is what has common files, under whatever dataset name; what has one key (`datasets.same_video_key`) in two
    datasets or compressions; and what has one key and one folder. Within a dataset, one name in two folders is two videos. The
    people of one video are one video: their folders count as that of the first.
    """
    mine, theirs = index.places(), other.places()
    common = set(mine) & set(theirs)
    files: dict[str, set[str]] = defaultdict(set)
    named: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for video, (place, key) in enumerate(zip(theirs, other.same_video_keys(), strict=True)):
        named[key].add((other.scope(video), split_person(place)[0]))
        if place in common:
            files[place].update(other.files(video))
    found = np.zeros(len(index), bool)
    for video, (place, key) in enumerate(zip(mine, index.same_video_keys(), strict=True)):
        own = index.scope(video)
        by_name = any(scope != own or where == split_person(place)[0] for scope, where in named.get(key, ()))
        found[video] = by_name or (place in common and not files[place].isdisjoint(index.files(video)))
    return found
