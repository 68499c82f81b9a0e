"""Face finders on rendered heads: found when turned, small, dark or half covered, false boxes, milliseconds; HOG beside them.

Heads are those of the demo data in 480x360 pictures, one of each person and condition. A head counts as found where a box's
centre lies within half the head's half height of the face's; all other boxes are false ones. The turn comes from the renderer's
ellipsoid: hair and ears stay in front, and no nose stands out, so that a drawn profile is poorer than a real one. Finders
beside `hog` and `mtcnn` are those whose networks FACE_FINDERS names: `yunet=FILE` and so on, joined like PATH.
"""

import os
import statistics
import time

import numpy as np
from numpy.typing import NDArray

from benchmarks import row

VARIABLE = "FACE_FINDERS"
TURNS = (0, 30, 45, 60, 75)
CONDITIONS = (*(f"{turn} degrees" for turn in TURNS), "small", "dark", "occluded")
SIZE = (360, 480)
PLAIN, SMALL = 95.0, 24.0  # half a head's height, pixels


def run(quick: bool = False) -> list[dict]:
    """Return a row per finder and condition (share of heads found), for false boxes per picture, and for milliseconds."""
    from preprocessing.faces.detection import build_face_detector

    named = [part.partition("=") for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    finders = {"hog": None, "mtcnn": None} | {name: file for name, _, file in named}
    measured = {
        name: measure(build_face_detector(name, file), people=3 if quick else 12) for name, file in finders.items()
    }
    return [
        row(f"{name}: {what}", unit(what), value, None, None) | {"reference": measured["hog"][what]}
        for name, values in measured.items()
        for what, value in values.items()
    ]


def unit(what: str) -> str:
    return {"false boxes": "per picture", "time": "ms"}.get(what, "found")


def measure(finder, people: int) -> dict[str, float]:
    """Return by condition the share of heads that a finder finds; `false boxes` per picture; `time` in ms."""
    found: dict[str, list[bool]] = {condition: [] for condition in CONDITIONS}
    false, seconds = [], []
    for number in range(people):
        for condition in (*CONDITIONS, "nobody"):
            picture, centre, reach = head(number, condition)
            start = time.process_time()
            boxes = finder.detect(picture)
            seconds.append(time.process_time() - start)
            near = [np.hypot(box.centre[0] - centre[0], box.centre[1] - centre[1]) < reach for box in boxes]
            if condition != "nobody":
                found[condition].append(any(near))
            false.append(len(near) - any(near) if condition != "nobody" else len(near))
    shares = {condition: float(np.mean(hits)) for condition, hits in found.items()}
    return shares | {"false boxes": float(np.mean(false)), "time": statistics.median(seconds) * 1e3}


def head(number: int, condition: str) -> tuple[NDArray[np.uint8], tuple[float, float], float]:
    """Return the picture (360, 480, 3) of a person under a condition (`nobody`: without one), the face's centre, and a reach.

    Odd persons look to the left, even ones to the right.
    """
    import cv2

    from preprocessing.demo.identity import draw_identity
    from preprocessing.demo.motion import Expression, Pose
    from preprocessing.demo.scene import LightRange, draw_background, draw_light, render

    rng = np.random.default_rng([7, number])
    person = draw_identity(rng)
    light = draw_light(rng, LightRange(0.5, (0.6, 0.8), (0.35, 0.45), (0.4, 0.8), (0.0, 0.2), (0.0, 0.05), 0.05))
    background = draw_background(rng, SIZE, ("studio", "room", "street")[number % 3])
    scale = SMALL if condition == "small" else PLAIN
    turn = float(condition.split()[0]) if condition.endswith("degrees") else 0.0
    pose = Pose(SIZE[1] / 2, SIZE[0] * 0.47, scale, 0.0, np.radians(turn) * (-1) ** number, 0.0)
    clean = background if condition == "nobody" else render(background, person, pose, Expression(), light)
    picture = np.clip(clean * (0.2 if condition == "dark" else 1.0) + rng.normal(0, 0.008, clean.shape), 0, 1)
    picture = np.rint(picture * 255).astype(np.uint8)
    if condition == "occluded":  # a scarf up to the nose
        top = int(pose.y + 0.3 * scale)
        cv2.rectangle(
            picture, (int(pose.x - scale), top), (int(pose.x + scale), int(pose.y + 1.2 * scale)), (90, 60, 50), -1
        )
    return picture, (pose.x, pose.y + 0.15 * scale), 0.5 * scale
