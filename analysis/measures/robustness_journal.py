"""Scores of a test set's videos under every perturbation, kept video by video so that a measurement can go on later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import DataError
from training.dataset.perturbations import SEVERITIES, VERSION, perturb

if TYPE_CHECKING:
    from prediction.trained import Video

CLEAN = "clean"


def conditions(kinds: Sequence[str], severities: Sequence[int]) -> list[tuple[str, int]]:
    """Return the untouched condition and every perturbation asked for."""
    return [(CLEAN, 0), *((kind, severity) for kind in kinds for severity in severities)]


def journal_key(fingerprint: str, seed: int) -> str:
    """Return what the name of a journal ends with: another checkpoint, parameter or seed means another journal."""
    return hashlib.sha256(json.dumps([fingerprint, seed, SEVERITIES, VERSION]).encode()).hexdigest()[:12]


def image_digest(video: Video) -> str:
    """Return a digest of a video's pixels as the detector gets them: data made anew under old names are scored anew."""
    return hashlib.blake2b(video.image.tobytes(), digest_size=8).hexdigest()


def read_done(path: Path, wanted: Sequence[tuple[str, int]]) -> dict[str, dict]:
    """Return the videos of a journal that have every condition; a last line cut short by a crash is left out."""
    done: dict[str, dict] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise DataError(
                    f"{path}, line {number} is damaged ({error.msg}); delete the file to start anew"
                ) from error
            continue
        if all(f"{kind}-{severity}" in entry["prob"] for kind, severity in wanted):
            done[entry["video"]] = entry
    return done


def score_video(detector: Any, video: Video, wanted: Sequence[tuple[str, int]], seed: int, batch_size: int) -> dict:
    """Return the video's fake probabilities under every condition.

    Returns:
        `{"video", "image": digest of its pixels, "label", "prob": {"jpeg-3": [...]}}`.
    """
    import numpy as np

    from prediction.trained import predict_images

    # (N, 3, H, W) or, for clips, (N, T, 3, H, W) → (N T, H, W, 3)
    frames = video.image.reshape(-1, *video.image.shape[-3:]).transpose(0, 2, 3, 1)
    frames = np.ascontiguousarray(frames)
    prob = {}
    for kind, severity in wanted:
        changed = frames if kind == CLEAN else perturb(frames, kind, severity, seed=seed, video=video.name)
        image = changed.transpose(0, 3, 1, 2).reshape(video.image.shape)
        found = predict_images(detector, image, batch_size)
        prob[f"{kind}-{severity}"] = [float(f"{value:.9g}") for value in found]
    return {"video": video.name, "image": image_digest(video), "label": video.label, "prob": prob}


def measure(
    detector: Any,
    source: Iterable[Video],
    path: Path,
    wanted: Sequence[tuple[str, int]],
    *,
    seed: int = 0,
    batch_size: int = 32,
) -> list[dict]:
    """Score every video that `path` does not hold yet, with these pixels, adding a line each; return all entries.

    What is returned has also each video's `person`, which a measurement does not depend on.
    """
    done = read_done(path, wanted)
    entries = []
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        # The rewritten journal ends with a whole line, so that new ones do not grow on to a cut one.
        from common.io import atomic_write

        atomic_write(path, "".join(json.dumps(entry) + "\n" for entry in done.values()))
    with open(path, "a", encoding="utf-8") as journal:
        for video in source:
            if video.name not in done or done[video.name].get("image") != image_digest(video):
                done[video.name] = score_video(detector, video, wanted, seed, batch_size)
                journal.write(json.dumps(done[video.name]) + "\n")
                journal.flush()
            entries.append({**done[video.name], "person": video.person})
    return entries
