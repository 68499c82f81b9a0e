"""Take the census of a dataset: every video that should be in its index, and why some have no frames.

A video is expected that lies on the disk, stands in a manifest or in a list of the dataset's own, and belongs to a split; what
was published is the least there should be. `common/coverage.py` says what is written.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from common.coverage import WHY, Crops
from common.datasets import record_of, split_person
from common.errors import DataError
from preprocessing.frame_folders import NO_FRAMES, FoundFrames
from preprocessing.layouts import Facts, Group, Layout
from preprocessing.layouts._base import Describe, unique_names
from preprocessing.manifest import read_manifests
from preprocessing.media import some

Tree = dict[str, Any]
_STATES = {"no_face": "no_face", "unmasked": "no_face", "failed": "unreadable"}


class Census:
    """Counts a dataset's videos, group by group.

    Args:
        rules: the dataset's layout. root: its folder. dataset: its name. groups: those that are looked at.
        describe: says what a video is.

    Attributes:
        tree: label → split → [compression] → expected, frames, and the names of those without any by the reason; where there are
            any, `people`, the names of entries beside those of their videos' first people.
    """

    def __init__(self, rules: Layout, root: Path, dataset: str, groups: list[Group], describe: Describe):
        self.tree: Tree = {}
        self._rules, self._root, self._dataset, self._describe = rules, root, dataset, describe
        self._entries = read_manifests(root)
        self._keys = _by_group(self._entries, groups)
        self._listed: dict[Group, list[str]] = {group: [] for group in groups}
        for group, name in rules.listed(root, dataset, groups):
            self._listed.setdefault(group, []).append(name)
        self._cuts: list[Crops] = []
        self._untouched = 0

    def indexed(self, group: Group, facts: Facts, name: str, first: bool) -> None:
        """Count a video that has an entry in the index; of its people the `first` one stands for it."""
        for slot in self._slots(group, facts):
            if first:
                slot["expected"] += 1
                slot["frames"] += 1
            else:
                slot.setdefault("people", []).append(name)

    def others(self, group: Group, found: FoundFrames) -> dict[str, str]:
        """Count the videos of a group that have no frames, and remember how the faces of the others were cut.

        Returns:
            name of a folder of frames → its video's, which differs for all but the first of a video's people.
        """
        here = set() if found.aligned and not found.missing else set(self._rules.on_disk(self._root, group))
        keys = self._known(group, here)
        folders = {video.name for video in found.videos}
        # A folder that is named like a further person of a video is one, unless it is known for a video by itself.
        video_of = {
            name: base if name not in keys and (base := split_person(name)[0]) in folders | keys.keys() else name
            for name in folders
        }
        have = {name for name, video in video_of.items() if name == video}
        for name in have & keys.keys():
            entry = self._entries.get(keys[name], {})
            self._untouched += entry.get("untouched", 0)
            cut = _cut(entry)
            if cut is not None and cut not in self._cuts:
                self._cuts.append(cut)
        empty = [PurePosixPath(path).name for path in found.left_out.get(NO_FRAMES, [])]
        for name in sorted({*keys, *self._listed.pop(group, []), *empty} - have):
            key = keys.get(name, "")
            state = _STATES.get(self._entries.get(key, {}).get("state", ""))
            self._missing(group, name, state or ("to_do" if key in here else "absent"))
        return video_of

    def remarks(self) -> list[str]:
        """Return what is to be said of videos with several people."""
        if not self._untouched:
            return []
        return [f"{self._untouched} people in fakes are under no mask: nothing of theirs is indexed as a fake"]

    def close(self) -> None:
        """Count what only lists name, of groups without a folder, and what was published."""
        for group, names in self._listed.items():
            for name in dict.fromkeys(names):
                self._missing(group, name, "absent")
        record = record_of(self._dataset)
        for label, splits in (record.counts if record else {}).items():
            for split, count in splits.items():
                content = self.tree.get(label, {}).get(split, {})
                for slot in [content] if "expected" in content else content.values():
                    slot["expected"] = max(slot["expected"], count)

    @property
    def crops(self) -> Crops | None:
        """How faces were cut; a list of values where they were not all cut alike; None where no manifest tells."""
        merged: Crops = {}
        for key in self._cuts[0] if self._cuts else ():
            values = list(dict.fromkeys(cut[key] for cut in self._cuts))
            merged[key] = values[0] if len(values) == 1 else sorted(values, key=str)
        return merged or None

    def _known(self, group: Group, here: set[str]) -> dict[str, str]:
        """Return name → key in the manifest of the videos that lie `here` and of those in manifests."""
        keys = sorted({*here, *self._keys.get(group, ())})
        names = unique_names([Path(key).relative_to(group.folder) for key in keys])
        return dict(zip(names, keys, strict=True))

    def _missing(self, group: Group, name: str, why: str) -> None:
        try:
            facts = self._describe(group, name)
        except DataError:  # a video that no list knows: with frames it would be an error, without any it is nobody's
            return
        for slot in self._slots(group, facts):
            slot["expected"] += 1
            slot[why].append(name)

    def _slots(self, group: Group, facts: Facts) -> list[Tree]:
        found = []
        for split in facts.splits:
            place = self.tree.setdefault(facts.label, {}).setdefault(split, {})
            if group.compression:
                place = place.setdefault(group.compression, {})
            if not place:
                place |= {"expected": 0, "frames": 0, **{why: [] for why in WHY}}
            found.append(place)
        return found


def _by_group(keys: Iterable[str], groups: list[Group]) -> dict[Group, list[str]]:
    """Return the manifest's keys of each group: a file belongs to the deepest group's folder that it lies in."""
    at = {PurePosixPath(group.folder): group for group in groups}
    found: dict[Group, list[str]] = {}
    for key in keys:
        holder = next((at[above] for above in PurePosixPath(key).parents if above in at), None)
        if holder is not None:
            found.setdefault(holder, []).append(key)
    return found


def _cut(entry: Tree) -> Crops | None:
    """Return how a video's faces were cut, by its line in the manifest."""
    said = entry.get("settings")
    if not isinstance(said, dict) or not said.get("detector"):
        return None
    predictor = said.get("predictor")
    return {
        "finder": said["detector"],
        "predictor": Path(predictor).name if predictor else None,
        "scale": said.get("scale"),
        "size": said.get("size"),
        "version": entry.get("crops"),
    }


def content(name: str, tree: Tree, crops: Crops | None) -> Tree:
    """Return what a coverage file holds of the index whose key is `name`."""
    return {"dataset": name, "crops": crops, "labels": tree}


def lines(tree: Tree, all_of_them: bool = False) -> list[str]:
    """Return a sentence for each label, split and compression of which videos are missing, or for all."""
    found = []
    for label, splits in tree.items():
        for split, place in splits.items():
            for level, slot in ({"": place} if "expected" in place else place).items():
                short = slot["expected"] - slot["frames"]
                if short or all_of_them:
                    where = ", ".join(word for word in (label, split, level) if word)
                    found.append(f"{where}: {slot['frames']} of {slot['expected']} videos{_why(slot)}")
    return found


def _why(slot: Tree) -> str:
    words = {"no_face": "without a face", "unreadable": "unreadable", "to_do": "to be preprocessed"}
    told = [f"{len(slot[key])} {word} ({some(slot[key])})" for key, word in words.items() if slot[key]]
    absent = slot["expected"] - slot["frames"] - sum(len(slot[key]) for key in words)
    if absent:
        named = f" ({some(slot['absent'])})" if slot["absent"] else ""
        told.append(f"{absent} absent{named}")
    return f"; {', '.join(told)}" if told else ""
