"""Real faces with captions: the renderer knows what it draws, so an image–text model can be trained on what it says.

The people and films have random streams of their own, which no demo set draws from; lamps, backgrounds, camera and codec are
DemoForensics' (`STUDIO`), so that nothing of the unseen domains is seen. Nothing in these pictures is forged.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial

import cv2
import numpy as np

from common.geometry import similarity
from common.h264 import encode
from preprocessing.demo.camera import Camera, draw_camera
from preprocessing.demo.head import Light
from preprocessing.demo.identity import Identity, draw_identity
from preprocessing.demo.motion import Expression, Pose, perform
from preprocessing.demo.scene import LightRange, draw_background, draw_light, render
from preprocessing.demo.surface import project
from preprocessing.faces.alignment import template, warp_image

PERSON, FILM = 71, 72  # random streams; the demo's data sets draw from others of the same seed
SIZE, HEAD, TURN = (240, 320), (0.31, 0.36), 0.28
STUDIO = LightRange(0.6, (0.65, 0.9), (0.3, 0.5), (0.2, 0.6), (0.05, 0.2), (0.0, 0.1), 0.08)
BACKGROUNDS = ("studio", "room")
SOFTNESS, NOISE, CRF = (0.0, 1.4), (0.008, 0.02), 20
ACTED = 8  # frames of a performance, of which some are kept
CROP = 256  # as stored by the pipeline; the training resolution follows from it
JITTER = 0.8  # of a face finder's points, pixels

_COLOURS = ("skin", "lips", "hair", "iris", "shirt")
_SHAPES = tuple(f.name for f in fields(Identity) if f.name not in (*_COLOURS, "moles", "texture_seed"))
_FACES = tuple(f.name for f in fields(Expression))
_RGB = ("red", "green", "blue")
NAMES = (
    *_SHAPES, "moles", *(f"{part}_{c}" for part in _COLOURS for c in _RGB),
    "roll", "yaw", "pitch", *_FACES,
    "lamp_x", "lamp_y", "lamp_z", *(f"lamp_{c}" for c in _RGB), *(f"ambient_{c}" for c in _RGB), "wrap", "gloss", "rim",
    *(f"background_{c}" for c in _RGB), "softness", "noise", "gamma",
)  # fmt: skip
"""What a caption says, in this order: 72 numbers."""

MIRRORED = ("hair_part", "roll", "yaw", "gaze_x", "lamp_x")
"""What changes its sign when a picture is flipped."""


def films(seed: int, person: int, count: int, frames: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Film one person `count` times.

    Args:
        seed: of all people and films. person: number of the person. count: films. frames: kept of each, at most ACTED.
        side: of the crops in pixels.

    Yields:
        Crop `(side, side, 3)` uint8 RGB, aligned as the pipeline aligns, and its caption `(72,)` float32, not standardised.
    """
    who = draw_identity(np.random.default_rng([seed, PERSON, person]))
    for number in range(count):
        rng = np.random.default_rng([seed, FILM, person, number])
        light = draw_light(rng, STUDIO)
        background = draw_background(rng, SIZE, BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))])
        acting = perform(rng, ACTED, SIZE, HEAD, TURN)
        camera = draw_camera(rng, SOFTNESS, NOISE)
        kept = np.sort(rng.choice(ACTED, frames, replace=False))
        poses, faces = [acting.poses[i] for i in kept], [acting.expressions[i] for i in kept]
        clean = [render(background, who, pose, face, light) for pose, face in zip(poses, faces, strict=True)]
        filmed = _compressed([camera.film(picture, rng) for picture in clean])
        backdrop = background.mean(axis=(0, 1))
        for frame, pose, face in zip(filmed, poses, faces, strict=True):
            yield crop(frame, who, pose, face, rng, side), caption(who, pose, face, light, backdrop, camera)


def caption(
    who: Identity, pose: Pose, face: Expression, light: Light, backdrop: np.ndarray, camera: Camera
) -> np.ndarray:
    """Return the numbers that NAMES lists, `(72,)` float32."""
    return np.array(
        [
            *(float(getattr(who, name)) for name in _SHAPES), len(who.moles), *(c for p in _COLOURS for c in getattr(who, p)),
            pose.roll, pose.yaw, pose.pitch, *(getattr(face, name) for name in _FACES),
            *light.direction, *light.lamp, *light.ambient, light.wrap, light.gloss, light.rim,
            *backdrop, camera.softness, camera.noise, camera.gamma,
        ],
        np.float32,
    )  # fmt: skip


def crop(
    frame: np.ndarray, who: Identity, pose: Pose, face: Expression, rng: np.random.Generator, side: int
) -> np.ndarray:
    """Return the aligned face `(side, side, 3)`: five points as a finder gives them (whole pixels, not quite right)."""
    level, mouth = who.eye_level - 0.05, who.mouth_level
    plane = [
        (-who.eye_distance, level), (who.eye_distance, level), (0, who.nose_base - 0.10),
        (-0.75 * who.mouth_width, mouth), (0.75 * who.mouth_width, mouth),
    ]  # fmt: skip
    points = project(who, pose, face.mouth_open, np.array(plane)) + JITTER * rng.standard_normal((5, 2))
    aligned = warp_image(frame, similarity(points.round(), template(CROP)), CROP)
    return cv2.resize(aligned, (side, side), interpolation=cv2.INTER_CUBIC)


def _compressed(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return frames as they come out of a video, `(H, W, 3)` uint8."""
    import av

    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        encode(
            container,
            [(p * 255).round().astype(np.uint8) for p in pictures],
            10,
            {"crf": str(CRF), "preset": "veryfast"},
        )
    held.seek(0)
    with av.open(held) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def render_people(
    seed: int, people: Sequence[int], count: int, frames: int, side: int, workers: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield crops `(count · frames, side, side, 3)` and captions `(count · frames, 72)` of each person, in their order."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    one = partial(_filmed, seed, count, frames, side)
    if workers <= 1:
        yield from map(one, people)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        yield from pool.map(one, people, chunksize=8)


def _filmed(seed: int, count: int, frames: int, side: int, person: int) -> tuple[np.ndarray, np.ndarray]:
    crops, said = zip(*films(seed, person, count, frames, side), strict=True)
    return np.stack(crops), np.stack(said)
