"""Your own videos or pictures: a folder `real/` and a folder `fake/`, or a table.

    real/*.mp4  fake/*.mp4                    everything is for testing
    train/real/…  val/fake/…  test/real/…     with splits
    masks/<name>.mp4                          optional, a mask video (or picture) of a fake
    index.csv                                 optional, a list: columns path,label[,split,identity,source_id,method]

Folders may be written in any case. Pictures are videos of one frame. Labels become `<dataset>_real` and `<dataset>_fake`, and
`<dataset>_<method>_fake` where the list names a method. Identity: what index.csv says (`identity`, or `target_id`, whose head it
is; `source_id`, whose face was put there). Where the list is there, it names every video that is taken, and must not contradict
the folders; cells may be parted by commas, semicolons or tabs, and columns stand in any order and case.
"""

import difflib
import re
from pathlib import Path, PurePosixPath

from common.errors import DataError
from preprocessing.frame_folders import find_frames
from preprocessing.layouts._annotations import Row, agree, by_key, find_split, read_kind, read_rows, read_split
from preprocessing.layouts._base import MANIFESTS, Describe, Facts, Group, Layout, SourceVideo, unique_names
from preprocessing.manifest import read_manifest
from preprocessing.media import is_picture, is_video, walk

_KINDS = ("real", "fake")
_TABLE = "index.csv"
_COLUMNS = ("path", "label", "split", "identity", "target_id", "source_id", "method")


class Custom(Layout):
    """Plain folders or a CSV."""

    names = ("custom",)
    annotations = (_TABLE,)

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        masks = "masks" if (root / "masks").is_dir() else None
        groups = [
            Group(
                folder,
                f"{dataset}_{kind}",
                masks=masks if kind == "fake" else None,
                masked=kind == "fake" and masks is not None,
                images=True,
                extra=split,
            )
            for folder, kind, split in _class_folders(root)
        ]
        table = _read_table(root)
        known = {group.folder: group for group in groups}
        for path, (where, row) in table.items():
            holder = next((known[str(above)] for above in PurePosixPath(path).parents if str(above) in known), None)
            if holder is not None:
                because = f"the folder {holder.folder}"
                agree(f"{dataset}_{row['label']}", holder.label or "", "label", where, because)
                if row["split"] and holder.extra:
                    agree(row["split"], holder.extra, "split", where, because)
        inside = {path for path in table if any(str(above) in known for above in PurePosixPath(path).parents)}
        for folder in sorted({str(PurePosixPath(path).parent) for path in table.keys() - inside}):
            groups.append(Group(folder, masks=masks, images=True))
        _check_places(root, table, groups)
        return groups

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        table = _read_table(root)
        rows: dict[tuple[str, str], Row] = {}
        for group in self.groups(root, dataset):
            # Frames may have been moved away from their videos: then folder and name have to tell.
            rows |= {(group.folder, name): table[path] for name, path in _names_in(group, table).items()}
            rows |= {(group.folder, v.name): table[v.path] for v in self.sources(root, group) if v.path in table}

        def describe(group: Group, name: str) -> Facts:
            if not table:
                assert group.label is not None
                return Facts(group.label, (group.extra or "test",))
            if (group.folder, name) not in rows:
                return Facts("", (), why=f"is not in {_TABLE}")
            _, row = rows[group.folder, name]
            return Facts(
                "_".join(filter(None, (dataset, row["method"], row["label"]))),
                (row["split"] or group.extra or "test",),
                row["target_id"] or None,
                row["source_id"] or row["target_id"] or None,
            )

        return describe

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        table = _read_table(root)
        return [v for v in super().sources(root, group) if _belongs(v.path, group) and (not table or v.path in table)]

    def left_out(self, root: Path, group: Group) -> list[str]:
        taken = {video.path for video in self.sources(root, group)}
        unlisted = [video.path for video in super().sources(root, group) if video.path not in taken]
        return [path for path in super().left_out(root, group) + unlisted if _belongs(path, group)]


def _belongs(path: str, group: Group) -> bool:
    """Tell whether a path is a group's own: a class's folder has all below it, one that only the table names what lies in it."""
    above = PurePosixPath(path).parent
    return above.is_relative_to(group.folder) if group.label else above == PurePosixPath(group.folder)


def _class_folders(root: Path) -> list[tuple[str, str, str]]:
    """Return (folder, real or fake, split or nothing) of the folders that say a class: `real`, `Fake`, `train/real`, …"""
    found = []
    top = next(walk(root), None)
    for name in top.folders if top else ():
        split = find_split(name)
        if name.lower() in _KINDS:
            found.append((name, name.lower(), ""))
        elif split is not None:
            inner = next(walk(root / name), None)
            kinds = [kind for kind in (inner.folders if inner else ()) if kind.lower() in _KINDS]
            found += [(f"{name}/{kind}", kind.lower(), split) for kind in kinds]
    order = {"": 0, "train": 1, "val": 2, "test": 3}
    return sorted(found, key=lambda each: (order[each[2]], _KINDS.index(each[1]), each[0]))


def _names_in(group: Group, table: dict[str, Row]) -> dict[str, str]:
    """Return name of a video → its path in the table, for the rows below a group's folder."""
    paths = [path for path in table if _belongs(path, group)]
    inner = [Path(path).relative_to(group.folder) for path in paths]
    found = dict(zip(unique_names(inner), paths))
    return (
        {PurePosixPath(path).name: path for path in paths} | {Path(path).stem: path for path in reversed(paths)} | found
    )


def _read_table(root: Path) -> dict[str, Row]:
    """Return path → row of index.csv, with `label`, `split`, `target_id`, `source_id` and `method`; empty without that file.

    Raises:
        DataError: a missing column, a label, split or method that is none, a path that leaves the folder or has blanks around it,
            two rows that contradict each other.
    """
    path = root / _TABLE
    if not path.is_file():
        return {}
    rows: list[Row] = []
    listed = read_rows(path, "path", "label")
    if not listed:
        raise DataError(f"{path} names columns and nothing else; add a line for each video, or take it away")
    for column in listed[0][1].keys() - set(_COLUMNS):
        # Further columns are anybody's own; a known one misspelt would be lost without a word.
        if near := difflib.get_close_matches(column, _COLUMNS, 1, cutoff=0.75):
            raise DataError(f"{path}: the column `{column}` means nothing here; did you mean `{near[0]}`? Rename it")
    for where, row in listed:
        said = row["path"]
        place = PurePosixPath(said.replace("\\", "/"))
        if said != said.strip():
            raise DataError(f"{where}: the path `{said}` begins or ends with a blank; take the blank away")
        if place.is_absolute() or ".." in place.parts or not place.name:
            raise DataError(f"{where}: the path `{said}` must lie inside {root}")
        split = row.get("split", "").strip()
        plain = {name: row.get(name, "").strip() for name in ("target_id", "source_id", "method")}
        if identity := row.get("identity", "").strip():
            if plain["target_id"]:
                agree(identity, plain["target_id"], "identity", where, "the column target_id")
            plain["target_id"] = identity
        if not re.fullmatch(r"[\w.+-]*", plain["method"]):
            raise DataError(f"{where}: the method `{plain['method']}` must be letters, digits and _ . + -; rename it")
        plain |= {"path": str(place), "label": read_kind(row["label"], where)}
        if plain["label"] == "real":
            plain["method"] = ""  # "original", "youtube": a real video is none of a manipulation
        rows.append((where, plain | {"split": read_split(split, where) if split else ""}))
    return by_key(rows, lambda row: row["path"])


def _check_places(root: Path, table: dict[str, Row], groups: list[Group]) -> None:
    """Raise DataError for a row whose video is neither here, nor its frames, nor was it preprocessed in vain."""
    gone = [path for path in table if not _is_there(root / path)]
    if not gone:
        return
    made = {entry["video"] for manifest in root.glob(MANIFESTS) for entry in read_manifest(manifest)}
    for group in groups:
        names = {video.name for video in find_frames(root, group).videos}
        made |= {path for name, path in _names_in(group, table).items() if name in names}
    for path in gone:
        if path in made:
            continue
        where, _ = table[path]
        if (root / path).is_file():
            raise DataError(
                f"{where}: {path} is neither a video nor a picture by its ending; convert it, or take the line out"
            )
        there = [
            (v.path / name).as_posix() for v in walk(root) for name in v.files if is_video(name) or is_picture(name)
        ]
        near = difflib.get_close_matches(path, there, 1)
        hint = f"did you mean {near[0]}?" if near else "correct it, or run preprocess.py to its end"
        raise DataError(f"{where}: there is no {path} in {root}, and no frames of it; {hint}")


def _is_there(path: Path) -> bool:
    return path.is_file() and (is_video(path) or is_picture(path))


LAYOUT = Custom()
