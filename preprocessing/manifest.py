"""`manifest.jsonl`: one line per video with its state, so that a run can stop at any moment and go on later."""

import json
from dataclasses import asdict
from pathlib import Path

from common.errors import ProjectError
from preprocessing.extraction import Outcome, Settings

FINISHED = ("done", "partial", "no_face", "unmasked")
_OF_SEVERAL = ("people", "untouched")  # what only a line of a video with several people tells
CROPS_VERSION = 1
"""Of how crops are cut; raise it when the same settings come to cut other pixels. Lines of before it was written tell none."""


class Manifest:
    """Lines are only appended; the last line of a video counts, and a torn last line (kill -9) is dropped.

    Args:
        folder: the dataset's output folder.
        shard: (i, n) of a sharded run, which writes a file of its own; every run reads all of them.
    """

    def __init__(self, folder: Path, settings: Settings, shard: tuple[int, int] | None = None):
        name = "manifest.jsonl" if shard is None else f"manifest.{shard[0]}-of-{shard[1]}.jsonl"
        self.path = folder / name
        self._settings = asdict(settings)
        # Keys that came later stand there only when set: what was made before them stays finished.
        if settings.detector_file is None:
            del self._settings["detector_file"]
        else:
            self._settings["detector_file"] = Path(settings.detector_file).name
        if settings.people == "largest":
            del self._settings["people"]
        if settings.predictor:
            self._settings["predictor"] = Path(settings.predictor).name  # machines keep it in different places
        self.entries = read_manifests(folder)

    def finished(self, key: str) -> bool:
        """Tell whether a video needs no more work under these settings; failed ones are tried again."""
        entry = self.entries.get(key)
        return entry is not None and entry["state"] in FINISHED and entry.get("settings") == self._settings

    def add(self, outcome: Outcome) -> None:
        """Append one outcome; it has reached the operating system when this returns. ProjectError: it cannot be written."""
        values = asdict(outcome)
        values = {key: value for key, value in values.items() if key not in _OF_SEVERAL or value}
        entry = {"video": values.pop("key"), **values, "settings": self._settings, "crops": CROPS_VERSION}
        self.entries[entry["video"]] = entry
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+") as file:
                if file.tell():
                    file.seek(-1, 2)
                    if file.read(1) != b"\n":
                        line = b"\n" + line  # the run before was killed in the middle of a line
                file.write(line)
        except OSError as error:
            raise ProjectError(
                f"cannot write {self.path}: {error.strerror}; free some space or choose another --output"
            ) from error


def read_manifests(folder: Path) -> dict[str, dict]:
    """Return video → its last entry, of all manifests of a dataset's folder."""
    paths = sorted(folder.glob("manifest*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    return {entry["video"]: entry for path in paths for entry in read_manifest(path)}


def read_manifest(path: Path) -> list[dict]:
    """Return the entries of a manifest in writing order, without lines that were torn by a kill."""
    entries = []
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "video" in entry and "state" in entry:
            entries.append(entry)
    return entries
