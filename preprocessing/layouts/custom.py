"""Your own videos or pictures: a folder `real/` and a folder `fake/`, or a table.

    real/*.mp4  fake/*.mp4                    everything is for testing
    train/real/…  val/fake/…  test/real/…     with splits
    masks/<name>.mp4                          optional, a mask video (or picture) of a fake
    index.csv                                 optional; columns path,label[,split[,target_id[,source_id]]]

Pictures are videos of one frame. Labels become `<dataset>_real` and `<dataset>_fake`. Identity: what index.csv says.
"""

import csv
import io
from pathlib import Path, PurePosixPath

from common.errors import DataError
from preprocessing.layouts._base import SPLITS, Describe, Facts, Group, Layout, SourceVideo

_KINDS = ("real", "fake")
_WORDS = {"real": "real", "0": "real", "fake": "fake", "1": "fake"}


class Custom(Layout):
    """Plain folders or a CSV."""

    names = ("custom",)
    annotations = ("index.csv",)

    def groups(self, root: Path, dataset: str, perturbation: str | None = None) -> list[Group]:
        masks = "masks" if (root / "masks").is_dir() else None
        folders = [("", kind) for kind in _KINDS] + [(split, kind) for split in SPLITS for kind in _KINDS]
        groups = []
        for split, kind in folders:
            folder = f"{split}/{kind}" if split else kind
            if (root / folder).is_dir():
                groups.append(
                    Group(
                        folder,
                        f"{dataset}_{kind}",
                        masks=masks if kind == "fake" else None,
                        masked=kind == "fake" and masks is not None,
                        images=True,
                        extra=split,
                    )
                )
        known = {group.folder for group in groups}
        for folder in sorted({str(PurePosixPath(path).parent) for path in _read_table(root)} - known):
            inside = any(PurePosixPath(folder).is_relative_to(other) for other in known)
            if (root / folder).is_dir() and not inside:
                groups.append(Group(folder, masks=masks, images=True))
        return groups

    def describer(self, root: Path, dataset: str, as_deepfakebench: bool = False) -> Describe:
        table = _read_table(root)
        by_video = {}
        for group in self.groups(root, dataset):
            for video in self.sources(root, group):
                by_video[group.folder, video.name] = video.path
        by_stem = {(str(PurePosixPath(path).parent), PurePosixPath(path).stem): path for path in table}

        def describe(group: Group, name: str) -> Facts:
            # Frames may have been moved away from their videos: then folder and name have to tell.
            path = by_video.get((group.folder, name)) or by_stem.get((group.folder, name))
            row = table.get(path or "")
            if table and row is None:
                return Facts(group.label or f"{dataset}_fake", ())
            if row is None:
                assert group.label is not None
                return Facts(group.label, (group.extra or "test",))
            return Facts(
                f"{dataset}_{row['label']}",
                (row["split"] or group.extra or "test",),
                row["target_id"] or None,
                row["source_id"] or row["target_id"] or None,
            )

        return describe

    def sources(self, root: Path, group: Group) -> list[SourceVideo]:
        table = _read_table(root)
        return [video for video in super().sources(root, group) if not table or video.path in table]


def _read_table(root: Path) -> dict[str, dict[str, str]]:
    """Return path → row of index.csv; empty without that file.

    Raises:
        DataError: a missing column, a label or split that is none, a path that leaves the folder.
    """
    path = root / "index.csv"
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} ({error}); write it as UTF-8 text") from error
    table = {}
    with io.StringIO(text, newline="") as file:
        reader = csv.DictReader(file)
        missing = {"path", "label"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{path} lacks the column `{min(missing)}`; its first line must name path,label[,split,...]"
            )
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            place = PurePosixPath((row["path"] or "").replace("\\", "/"))
            if place.is_absolute() or ".." in place.parts or not place.name:
                raise DataError(f"{where}: the path `{row['path']}` must lie inside {root}")
            label = _WORDS.get((row["label"] or "").strip().lower())
            if label is None:
                raise DataError(f"{where}: the label `{row['label']}` must be real or fake (or 0 or 1)")
            split = (row.get("split") or "").strip()
            if split and split not in SPLITS:
                raise DataError(f"{where}: the split `{split}` must be one of {', '.join(SPLITS)}")
            table[str(place)] = {
                "label": label,
                "split": split,
                "target_id": (row.get("target_id") or "").strip(),
                "source_id": (row.get("source_id") or "").strip(),
            }
    return table


LAYOUT = Custom()
