"""A judged file with what was seen in it: boxes, scores, and where the detector looked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.io import atomic_path, atomic_write
from prediction.judge import Judge, resized
from prediction.operating_point import UNSURE
from prediction.sight import Seen
from prediction.verdict import FrameScore, Verdict

SIDE = 1280  # the longer one, at most
COLOURS = {"fake": (213, 94, 0), "real": (0, 114, 178), UNSURE: (120, 120, 120)}
_STRENGTH = 0.45


def write_overlay(judge: Judge, seen: Seen, verdict: Verdict, folder: Path, number: int, even_so: bool = False) -> Path:
    """Write `<number>_<name>.png`, or `.mp4` of the frames looked at; return the path.

    The number keeps files of one name from different folders apart. A video keeps its length: each frame looked at stands as
    long as it was from it to the next.

    Args:
        even_so: draw the scores also where the detector cannot say.
    """
    target = folder / f"{number:02d}_{Path(seen.path).stem}{'.png' if seen.level == 'frame' else '.mp4'}"
    frames = _drawn(judge, seen, verdict, even_so)
    if seen.level == "frame":
        ok, data = cv2.imencode(".png", next(frames)[:, :, ::-1])
        assert ok
        atomic_write(target, data.tobytes())
        return target
    import av

    from common.h264 import encode

    times = [time for time in seen.times.values() if time is not None]
    length = max(times) - min(times) if times else 0.0
    fps = min(30, max(1, round((len(seen.times) - 1) / length))) if length > 0 else 5
    with atomic_path(target) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        encode(container, frames, fps, {"crf": "20", "preset": "fast"})
    return target


def _drawn(judge: Judge, seen: Seen, verdict: Verdict, even_so: bool) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames with what was seen in them, of one size, even for a video."""
    from preprocessing.video_reader import VideoReader

    shown: dict[int, list[tuple[Any, int]]] = {}
    for person, faces in enumerate(seen.people):
        for face in faces:
            shown.setdefault(face.frame, []).append((face, person))
    size = None
    with VideoReader(seen.path, judge.sight.max_pixels) if seen.level == "video" else _Still(seen, judge) as source:
        for frame, pixels in source.frames(sorted(shown)):
            canvas = np.ascontiguousarray(pixels)
            for face, person in shown[frame]:
                canvas = _draw(judge, canvas, face, person, verdict, even_so)
            if size is None:
                factor = min(1.0, SIDE / max(canvas.shape[:2]))
                even = 2 if seen.level == "video" else 1
                size = tuple(max(even, round(side * factor) // even * even) for side in canvas.shape[1::-1])
            yield cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


class _Still:
    """A picture as a video of one frame."""

    def __init__(self, seen: Seen, judge: Judge):
        self._path, self._most = seen.path, judge.sight.max_pixels

    def __enter__(self) -> _Still:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def frames(self, _: object) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        from common.images import read_rgb

        yield 0, read_rgb(self._path, self._most)


def _draw(judge: Judge, canvas: NDArray, face: Any, person: int, verdict: Verdict, even_so: bool) -> NDArray:
    told = verdict.people[person] if person < len(verdict.people) else None
    score = _score_at(told.scores, face.frame) if told is not None else None
    hidden = bool(verdict.reason) and not even_so
    if told is None or told.fake is None:
        colour, text = COLOURS[UNSURE], UNSURE if told is not None else "not scored"
    else:
        colour, text = COLOURS["fake" if told.fake else "real"], "fake" if told.fake else "real"
    if score is not None and not hidden:
        text += f" {score:.2f}"
        heat = judge.heat(np.ascontiguousarray(resized(face.crop, judge.resolution)))
        if heat is not None:
            canvas = _warmed(canvas, face, heat)
    thick = max(2, round(max(canvas.shape[:2]) / 500))
    left, top, right, bottom = (round(float(value)) for value in face.box[:4])
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, thick)
    cv2.putText(
        canvas, text, (left, max(14, top - 6)), cv2.FONT_HERSHEY_SIMPLEX, 0.35 * thick, colour, thick, cv2.LINE_AA
    )
    return canvas


def _warmed(canvas: NDArray, face: Any, heat: NDArray) -> NDArray:
    """Lay a heat map of a crop over the frame that the crop is from."""
    side = face.crop.shape[0]
    heat = cv2.resize(heat.astype(np.float32), (side, side))
    back = cv2.warpAffine(
        heat, face.matrix, canvas.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=0
    )
    colours = cv2.applyColorMap((back * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = (_STRENGTH * back)[:, :, None]
    return (canvas * (1 - share) + colours * share).astype(np.uint8)


def _score_at(scores: list[FrameScore], frame: int) -> float | None:
    """Return the score of a frame, or of the clip that it is in; None where there is none."""
    for score in scores:
        if score.frame <= frame <= (score.frame if score.last is None else score.last):
            return score.prob
    return None
