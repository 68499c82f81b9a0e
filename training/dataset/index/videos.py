"""The videos that one loader reads, from one or several datasets, as integers into shared tables."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from common.datasets import same_video_key, split_person
from common.errors import DataError
from training.batch import DataInfo
from training.config.schema import Config
from training.dataset.index.covered import Covered
from training.dataset.index.paths import Ground, inside, sibling
from training.dataset.index.same_video import groups_of_one_video, in_both
from training.dataset.index.table import Table
from training.dataset.labels import check_labels, class_of

log = logging.getLogger("clipdeepfake.data")


class Index:
    """Videos of one split.

    Videos are numbered from 0. Of each there is `dataset` (number in `datasets`), `frames` (how many there are), `label`
    (0 real, 1 fake), `method` (0 real, manipulations from 1, -1 one that training does not know), `target` and `source`
    (identities, -1 unknown), `domain` (training dataset, -1 none of them).

    Args:
        tables: by dataset. chosen: rows of each table. config: `label_dict` and `rgb_dir`.
        info: numbers that training gave to names; None to number them here.
        wanted: frames per video that are used at most, for `info.counts`.
        coverage: of each dataset, what is known besides its videos with frames.

    Raises:
        DataError: labels that neither `label_dict` nor their ending explains (all are named), a path leaves `rgb_dir`, or
            one video is called real and fake.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        chosen: Mapping[str, np.ndarray],
        config: Config,
        info: DataInfo | None = None,
        wanted: int | None = None,
        coverage: Mapping[str, Covered] | None = None,
    ):
        self.coverage = {name: (coverage or {}).get(name, Covered()) for name in tables}
        self.datasets = list(tables)
        self._tables = list(tables.values())
        self._root, self._prefixes, self._roots = config.rgb_dir, config.path_prefix, config.data.roots
        self._in_files = not config.lmdb
        self._wanted = wanted
        rows = [np.asarray(chosen[name], np.int32) for name in self.datasets]
        self.row = np.concatenate(rows)
        self.dataset = np.repeat(np.arange(len(rows), dtype=np.int16), [len(part) for part in rows])
        self.frames = _join([np.diff(t.first)[r] for t, r in zip(self._tables, rows)], np.int32)
        self._number_labels(rows, config)
        self._number_people(rows, info)
        domains = {name: i for i, name in enumerate(self.datasets)} if info is None else info.domains
        self.domain = np.array([domains.get(name, -1) for name in self.datasets], np.int16)[self.dataset]
        crops = (
            {name: found.crops for name, found in self.coverage.items() if found.crops} if info is None else info.crops
        )
        self.info = DataInfo(self._people, self._manipulations(info), domains, self._counts(), crops)
        methods = np.array([self.info.manipulations.get(name, -1) for name in self._label_names], np.int16)
        self.method = methods[self._label_code]
        self._pieces: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._marks: dict[tuple[int, int], str] = {}
        self._unite()
        self._mark_ids()

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

    def places(self) -> list[str]:
        """Return where each video's frames lie: their folder, or where they lie in several the first of them.

        Of files it is the real place, whatever links lead there, so that two names of one folder are one place.

        Raises:
            DataError: a path or a link leaves the root. That is met here, and not hours later in a worker.
        """
        ground = Ground(self._root, self._roots) if self._in_files else None
        found = []
        for number, row in zip(self.dataset.tolist(), self.row.tolist()):
            table = self._tables[number]
            place = self._inside(table.folder[row] or table.file[table.first[row]])
            found.append(ground.real(place) if ground else place)
        return found

    def _inside(self, path: str) -> str:
        return inside(path, self._root, self._prefixes, self._roots)

    def _unite(self) -> None:
        """Make one video of the entries of a dataset that name the same frames, and count it once."""
        keep = np.ones(len(self), bool)
        for group in groups_of_one_video(self, self.places()):
            reals, fakes = ([v for v in group if self.label[v] == label] for label in (0, 1))
            if reals and fakes:
                raise DataError(
                    f"the frames {self.frame(reals[0], 0)[0]} and those beside it are real by {self._entry(reals[0])} and fake "
                    f"by {self._entry(fakes[0])}; correct the index that is wrong"
                )
            for number in np.unique(self.dataset[group]):
                first, *others = (v for v in group if self.dataset[v] == number)
                keep[others] = False
                if others:
                    self._join_frames([first, *others])
        if not keep.all():
            log.warning(
                "%d of %d videos name the frames of another one, first %s; they are one video and counted once",
                (~keep).sum(),
                len(keep),
                self._entry(int(np.flatnonzero(~keep)[0])),
            )
            self.keep(keep)

    def _join_frames(self, entries: list[int]) -> None:
        """Give the first entry the frames of all, each once, in the order of their numbers."""
        table = self._tables[self.dataset[entries[0]]]
        chosen: dict[str, tuple[int, int]] = {}
        for row in self.row[entries].tolist():
            for at in range(table.first[row], table.first[row + 1]):
                known = chosen.setdefault(table.file[at], (row, at))
                if table.masked[at] and not table.masked[known[1]]:
                    chosen[table.file[at]] = row, at
        pieces = sorted(chosen.values(), key=lambda piece: table.number[piece[1]])
        first = entries[0]
        self._pieces[int(self.dataset[first]), int(self.row[first])] = pieces
        self.frames[first] = len(pieces)

    def _mark_ids(self) -> None:
        """Tell apart videos of one label and name: by the index's key above them, else by their folder."""
        for words in (self._group, lambda video: posixpath.dirname(self.frame(video, 0)[0])):
            if not self._marks and not self._may_share_names():
                return
            ids = self.video_ids()
            counts = Counter(ids)
            for video in (video for video, name in enumerate(ids) if counts[name] > 1):
                self._marks[self._entry_of(video)] = words(video)

    def _may_share_names(self) -> bool:
        """Return whether one label stands in several groups of an index: within a group, names are keys."""
        for number, table in enumerate(self._tables):
            rows = self.row[self.dataset == number]
            pairs = np.unique(np.stack([table.label[rows], table.group[rows]]), axis=1)
            if pairs.shape[1] > len(np.unique(pairs[0])):
                return True
        return False

    def _entry_of(self, video: int) -> tuple[int, int]:
        return int(self.dataset[video]), int(self.row[video])

    def _group(self, video: int) -> str:
        table, row = self._tables[self.dataset[video]], self.row[video]
        return table.group_names[table.group[row]]

    def _entry(self, video: int) -> str:
        """Return where a video stands in its index, for messages."""
        return (
            f"{self.datasets[self.dataset[video]]}/{self._group(video)}/{self.name(video)} ({self.label_name(video)})"
        )

    def __len__(self) -> int:
        return len(self.row)

    def label_name(self, video: int) -> str:
        """Return the name of a video's label in the index."""
        return self._label_names[self._label_code[video]]

    def name(self, video: int) -> str:
        """Return a video's own name, which other videos may share."""
        return self._tables[self.dataset[video]].name[self.row[video]]

    def video_id(self, video: int) -> str:
        """Return the unique name `dataset/label/compression/name`; an empty compression is left out.

        Where an index holds the same twice for different frames, its own key above the video stands before the name.
        """
        table, row = self._tables[self.dataset[video]], self.row[video]
        level, mark = table.compressions[table.compression[row]], self._marks.get(self._entry_of(video), "")
        parts = (self.datasets[self.dataset[video]], self.label_name(video), level, mark, table.name[row])
        return "/".join(part for part in parts if part)

    def video_ids(self) -> list[str]:
        """Return all unique names, in order."""
        return [self.video_id(i) for i in range(len(self))]

    def same_video_keys(self) -> list[str]:
        """Return `datasets.same_video_key` of each video: equal for one video under two dataset names or compressions."""
        return [
            same_video_key(self.datasets[self.dataset[i]], self.label_name(i), bool(self.label[i]), self.name(i))
            for i in range(len(self))
        ]

    def further_people(self) -> dict[str, str]:
        """Return the unique names of entries that show a further person of a video → that of its first person's entry.

        A name tells this (`datasets.split_person`) where the index also has the entry of the first person.
        """
        ids = set(self.video_ids())
        pairs = ((name, split_person(name)[0]) for name in ids)
        return {name: video for name, video in pairs if video != name and video in ids}

    def shared_with(self, other: Index) -> np.ndarray:
        """Return which videos `other` holds too, `(N,)` bool: the same files, or the same video by its name elsewhere."""
        return in_both(self, other)

    def videos_overlapping(self, other: Index) -> list[str]:
        """Return the unique names of those videos that `other` holds too, perhaps under another dataset name."""
        return [self.video_id(int(i)) for i in np.flatnonzero(self.shared_with(other))]

    def files(self, video: int) -> list[str]:
        """Return the names of a video's frames, or their whole paths where they lie in several folders."""
        table = self._tables[self.dataset[video]]
        return [table.file[at] for _, at in (self._at(video, i) for i in range(self.frames[video]))]

    def scope(self, video: int) -> str:
        """Return `dataset/compression` of a video."""
        table, row = self._tables[self.dataset[video]], self.row[video]
        return f"{self.datasets[self.dataset[video]]}/{table.compressions[table.compression[row]]}"

    def _at(self, video: int, position: int) -> tuple[int, int]:
        """Return the table's row that names a frame, and the frame's place in the table."""
        pieces = self._pieces.get(self._entry_of(video))
        if pieces is not None:
            return pieces[position]
        row = int(self.row[video])
        return row, int(self._tables[self.dataset[video]].first[row]) + position

    def frame(self, video: int, position: int) -> tuple[str, int]:
        """Return the path of a frame relative to the RGB root, and its number in the source video."""
        table = self._tables[self.dataset[video]]
        row, at = self._at(video, position)
        folder = table.folder[row]
        path = f"{folder}/{table.file[at]}" if folder else table.file[at]
        return self._inside(path), int(table.number[at])

    def mask(self, video: int, position: int) -> str | None:
        """Return the path of a frame's mask: as listed, else where it would lie beside the frames of a fake.

        None for a frame of a real video, and of a fake whose frames lie in no folder named `frames`.
        """
        table = self._tables[self.dataset[video]]
        row, at = self._at(video, position)
        if table.masked[at]:
            stem = table.file[at].rpartition("/")[2].rpartition(".")[0]
            return self._inside(f"{table.mask_folder[row]}/{stem}{table.mask_suffix[row]}")
        path = self.frame(video, position)[0]
        return (
            None if self.label[video] == 0 or "frames" not in path.split("/")[:-1] else sibling(path, "masks", ".png")
        )

    def lists_mask(self, video: int, position: int) -> bool:
        """Return whether the index itself names a frame's mask, which must then be there."""
        return bool(self._tables[self.dataset[video]].masked[self._at(video, position)[1]])

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
        self.info = replace(self.info, counts=self._counts())


def _join(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(parts).astype(dtype)
