"""Render the demo data sets: one job per target person, so that the clean frames are drawn once for all its videos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from common.datasets import SPLITS
from common.io import atomic_write
from preprocessing.demo.camera import draw_camera
from preprocessing.demo.domains import CELEB, FORENSICS, WILD, Domain, Method
from preprocessing.demo.forgery import around, forge, region_mask
from preprocessing.demo.identity import Identity, draw_identity
from preprocessing.demo.motion import Expression, Performance, act, perform
from preprocessing.demo.scene import draw_background, draw_light, render
from preprocessing.demo.video import write_masks, write_video


@dataclass(frozen=True)
class Size:
    """How much is rendered. Identities of the training domain per split; targets of each unseen domain; frames a video."""

    train: int = 32
    val: int = 8
    test: int = 8
    unseen: int = 18
    frames: int = 8


QUICK = Size(train=2, val=2, test=2, unseen=2, frames=4)


@dataclass(frozen=True)
class Job:
    """One target person of one domain and the videos that show it.

    `fakes`: (manipulation number within the domain, source person's number).
    """

    domain: Domain
    target: int
    fakes: tuple[tuple[int, int], ...]
    frames: int
    seed: int


def jobs(size: Size, seed: int) -> list[Job]:
    """Return all jobs; identities of the three domains and of the splits are all different people."""
    found = []
    for people in _splits(size).values():
        for i, target in enumerate(people):
            source = people[_partner(i)] if _partner(i) < len(people) else people[i - 1]
            found.append(Job(FORENSICS, target, tuple((m, source) for m in range(4)), size.frames, seed))
    for number, domain in ((1, CELEB), (2, WILD)):
        first = 1000 * number
        for i in range(size.unseen):
            source = first + (i + 1) % size.unseen
            method = i % len(domain.methods)
            found.append(Job(domain, first + i, ((method, source),), size.frames, seed))
    return found


def _splits(size: Size) -> dict[str, list[int]]:
    ends = np.cumsum([0, size.train, size.val, size.test])
    return {s: list(range(ends[i], ends[i + 1])) for i, s in enumerate(SPLITS)}


def _partner(i: int) -> int:
    """As in FaceForensics++, people come in pairs that swap faces with one another."""
    return i + 1 if i % 2 == 0 else i - 1


def person(seed: int, number: int) -> Identity:
    """Return an invented person by number."""
    return draw_identity(np.random.default_rng([seed, 1, number]))


@dataclass
class _Film:
    """A target's clean material: what its real video and its fakes are made from."""

    job: Job
    rng: np.random.Generator

    def __post_init__(self) -> None:
        domain, rng = self.job.domain, self.rng
        self.light = draw_light(rng, domain.light)
        kind = domain.backgrounds[int(rng.integers(len(domain.backgrounds)))]
        self.background = draw_background(rng, domain.size, kind)
        self.acting: Performance = perform(rng, self.job.frames, domain.size, domain.head, domain.turn)
        self.other_acting: tuple[Expression, ...] = act(rng, self.job.frames)
        self.camera = draw_camera(rng, domain.softness, domain.noise)
        self.forger = draw_camera(rng, domain.softness, domain.noise)
        self.target = person(self.job.seed, self.job.target)
        self._pictures: dict[tuple[int, bool], list[np.ndarray]] = {}

    def pictures(self, number: int, anew: bool) -> list[np.ndarray]:
        """Return clean frames of a person in the target's pose, with the target's expressions or other ones."""
        if (number, anew) not in self._pictures:
            who = person(self.job.seed, number)
            faces = self.other_acting if anew else self.acting.expressions
            self._pictures[number, anew] = [
                render(self.background, who, pose, face, self.light)
                for pose, face in zip(self.acting.poses, faces, strict=True)
            ]
        return self._pictures[number, anew]

    @cached_property
    def real(self) -> list[np.ndarray]:
        """The filmed frames of the target."""
        return [
            self.camera.film(picture, np.random.default_rng([self.job.seed, 2, self.job.target, i]))
            for i, picture in enumerate(self.pictures(self.job.target, False))
        ]

    def fake(self, method: Method, source: int, stream: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the falsified frames and their masks."""
        rng = np.random.default_rng([self.job.seed, 3, self.job.target, stream])
        recipe = method.draw(rng)
        shown = source if method.swap else self.job.target
        frames, masks = [], []
        for i, real in enumerate(self.real):
            face = self.acting.expressions[i] if method.swap else self.other_acting[i]
            clean = self.pictures(shown, not method.swap)[i]
            mask = region_mask(self.target, self.acting.poses[i], face, recipe.shape, self.job.domain.size)
            part = around(mask)
            tone = np.clip(clean[part], 0, 1) ** np.float32(self.camera.gamma)
            noise = self.forger.grain(tone, rng)
            frame = real.copy()
            frame[part] = forge(real[part], tone, mask[part], recipe, method.blend, noise)
            frames.append(frame)
            masks.append(mask)
        return frames, masks


def run(job: Job, root: Path) -> int:
    """Render one job's videos under `root`; return how many."""
    film = _Film(job, np.random.default_rng([job.seed, 4, job.target]))
    real, fakes = paths(job)
    habits = {"crf": job.domain.crf, "preset": job.domain.preset}
    write_video(root / real, map(_bytes, film.real), **habits)
    for stream, ((number, source), (video, mask)) in enumerate(zip(job.fakes, fakes, strict=True)):
        frames, masks = film.fake(job.domain.methods[number], source, stream)
        write_video(root / video, map(_bytes, frames), **habits)
        write_masks(root / mask, masks)
    return 1 + len(fakes)


def _bytes(frame: np.ndarray) -> np.ndarray:
    return (frame.clip(0, 1) * 255).round().astype(np.uint8)


def paths(job: Job) -> tuple[str, list[tuple[str, str]]]:
    """Return where a job's real video, its fakes and their masks lie."""
    name = job.domain.name
    if job.domain == FORENSICS:
        real = f"{name}/original_sequences/youtube/c23/videos/{job.target:03d}.mp4"
        fakes = []
        for number, source in job.fakes:
            folder = f"{name}/manipulated_sequences/{job.domain.methods[number].name}"
            video = f"{job.target:03d}_{source:03d}.mp4"
            fakes.append((f"{folder}/c23/videos/{video}", f"{folder}/masks/videos/{video}"))
        return real, fakes
    pairs = [f"{job.target}_{source}.mp4" for _, source in job.fakes]
    return f"{name}/real/{job.target}.mp4", [(f"{name}/fake/{p}", f"{name}/masks/{p}") for p in pairs]


def write_lists(size: Size, seed: int, root: Path) -> None:
    """Write FaceForensics++'s split files and the unseen domains' index.csv."""
    for split, people in _splits(size).items():
        pairs = [[f"{people[i]:03d}", f"{people[i + 1]:03d}"] for i in range(0, len(people) - 1, 2)]
        atomic_write(root / FORENSICS.name / "splits" / f"{split}.json", json.dumps(pairs) + "\n")
    for domain in (CELEB, WILD):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "split", "target_id", "source_id"])
        for job in jobs(size, seed):
            if job.domain == domain:
                real, fakes = paths(job)
                writer.writerow([real.removeprefix(f"{domain.name}/"), "real", "test", job.target, job.target])
                for (_, source), (video, _) in zip(job.fakes, fakes, strict=True):
                    writer.writerow([video.removeprefix(f"{domain.name}/"), "fake", "test", job.target, source])
        atomic_write(root / domain.name / "index.csv", text.getvalue())


def render_all(root: Path, size: Size, seed: int, workers: int) -> Iterator[int]:
    """Render everything; yield how many videos each finished job gave. The result does not depend on `workers`."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    write_lists(size, seed, root)
    todo = jobs(size, seed)
    if workers <= 1:
        for job in todo:
            yield run(job, root)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_single_thread) as pool:
        for done in as_completed([pool.submit(run, job, root) for job in todo]):
            yield done.result()


def _single_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
