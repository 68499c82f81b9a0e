"""The preprocessing of one dataset: list its videos, leave out finished ones, work the rest off, tell how it went."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from common.datasets import person_name, split_person
from common.errors import ConfigError, DataError
from preprocessing.extraction import Job, Outcome, Settings
from preprocessing.layouts import Group, Layout, find_layout
from preprocessing.layouts._base import SourceVideo, check_links
from preprocessing.manifest import Manifest
from preprocessing.media import some
from preprocessing.options import dataset_folder
from preprocessing.output_lock import hold_folders
from preprocessing.progress import VideoProgress

PEOPLE = ("largest", "all")


@dataclass(frozen=True)
class Request:
    """What is to be done; None leaves an option at its default. The words are those of the command line."""

    dataset_name: str
    dataset_root_path: str
    layout: str | None = None
    comp: str | None = None
    perturbation: str | None = None
    mode: str | None = None
    num_frames: int | None = None
    stride: int | None = None
    output: str | None = None
    workers: int | None = None
    engine: str | None = None
    shard: str | None = None
    detector: str | None = None
    detector_file: str | None = None
    predictor: str | None = None
    max_pixels: int | None = None
    video_timeout: int | None = None
    people: str | None = None

    def limits(self) -> dict[str, Any]:
        """Return the limits of a job that were given.

        Raises:
            ConfigError: one is no such number.
        """
        if self.max_pixels is not None and self.max_pixels < 1:
            raise ConfigError(
                f"--max_pixels {self.max_pixels}: write how many pixels a picture may have, for example 64000000"
            )
        if self.video_timeout is not None and self.video_timeout < 0:
            raise ConfigError(
                f"--video_timeout {self.video_timeout}: write how many seconds a video may take, 0 for any number"
            )
        given = {"max_pixels": self.max_pixels, "timeout": self.video_timeout}
        return {key: value for key, value in given.items() if value is not None}


def preprocess(request: Request) -> int:
    """Do a dataset. Returns the number to exit with: 1 when videos failed, else 0.

    Raises:
        ConfigError: an option is wrong. DataError: the dataset is not there or holds no videos. ProjectError: another run
            writes the same place, or it cannot be written.
    """
    dataset = request.dataset_name
    if not dataset:
        raise ConfigError("dataset_name is not set; give --dataset_name, for example FaceForensics++")
    rules = find_layout(dataset, request.layout)
    folder = rules.folder(dataset)
    root = dataset_folder(request.dataset_root_path, folder, rules.recognises)
    settings, part, limits = _settings(request), parse_shard(request.shard), request.limits()
    if request.workers is not None and request.workers < 0:
        raise ConfigError(f"--workers {request.workers}: write how many processes, 0 for none besides this one")
    target = Path(request.output).expanduser() / folder if request.output else root
    say(f"dataset: {root}" + (f" -> {target}" if target != root else ""))

    groups = chosen_groups(rules, root, dataset, request.comp, request.perturbation)
    jobs = [replace(job, **limits) for job in list_jobs(rules, root, groups, target, settings)]
    if not jobs:
        raise DataError(f"{root} holds no videos in {', '.join(group.folder for group in groups)}")
    with hold_folders((target / group.folder for group in groups), part):
        if target != root:
            copy_annotations(rules, root, target)
        if part:
            jobs = jobs[part[0] - 1 :: part[1]]
        manifest = Manifest(target, settings, part)
        todo = [job for job in jobs if not _finished(manifest, job)]
        say(f"{len(jobs)} videos, {len(jobs) - len(todo)} of them finished before")
        return _work(todo, jobs, manifest, request)


def say(text: str) -> None:
    """Print a plain line at once."""
    print(text, flush=True)


def _settings(request: Request) -> Settings:
    from preprocessing.faces.detection import build_face_detector
    from preprocessing.faces.landmarks import PREDICTOR_81, LandmarkPredictor, find_predictor
    from preprocessing.video_reader import choose_frames

    # All of this would go wrong with every video: say it once, before the first.
    model = find_predictor(request.predictor)
    given: dict[str, Any] = {
        name: getattr(request, name) for name in ("mode", "num_frames", "stride", "detector", "detector_file", "people")
    }
    if request.people not in (None, *PEOPLE):
        raise ConfigError(f"--people {request.people}: choose one of {', '.join(PEOPLE)}")
    settings = Settings(**{key: value for key, value in given.items() if value is not None}, predictor=str(model))
    choose_frames(1, settings.mode, settings.num_frames, settings.stride)
    build_face_detector(settings.detector, settings.detector_file)
    LandmarkPredictor(model)
    if model.name != PREDICTOR_81.name:
        say(
            f"landmarks: {model.name}; forehead points are extrapolated ({PREDICTOR_81.name} in dlib_tools/ predicts them)"
        )
    return settings


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return (i, n) of "i/n", 1 ≤ i ≤ n."""
    if text is None:
        return None
    first, slash, second = str(text).partition("/")
    if not (slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise ConfigError(f"--shard {text}: write it as i/n with 1 <= i <= n, for example 1/8")
    return int(first), int(second)


def chosen_groups(rules: Layout, root: Path, dataset: str, comp: str | None, perturbation: str | None) -> list[Group]:
    """Return the dataset's groups of the asked compression; say which folders are there."""
    groups = rules.groups(root, dataset, perturbation)
    if rules.compressed and comp not in (None, "all"):
        there = sorted({group.compression or "" for group in groups})
        groups = [group for group in groups if group.compression == comp]
        if not groups and there:
            raise DataError(f"{root} has no videos in compression {comp}; there is {', '.join(there)} (--comp)")
    if not groups:
        raise DataError(f"{root} has none of the folders of {rules.names[0]}; see preprocessing/README.md")
    for name in rules.unknown_folders(root):
        say(f"left out: {name} is no folder that the layout {rules.names[0]} knows")
    check_links(root, groups)
    return groups


def list_jobs(rules: Layout, root: Path, groups: Iterable[Group], target: Path, settings: Settings) -> list[Job]:
    """Return a job per video; a fake without its mask is named.

    Raises:
        DataError: a video is named like a further person of another one, and all people are wanted.
    """
    jobs = []
    for group in groups:
        videos = rules.sources(root, group)
        say(f"  {group.folder}: {len(videos)} videos")
        if left := rules.left_out(root, group):
            say(f"  {group.folder}: left out {len(left)} files, as their endings or a list tell: {some(left)}")
        others = _named_like_people(videos)
        if others and settings.people == "all":
            name, like = next((name, like[0]) for name, like in others.items())
            raise DataError(
                f"{root / group.folder}: {like} is the name of a video, and of a further person of {name}; rename the video, or "
                "take --people largest"
            )
        for video in videos:
            if group.masks and video.mask is None:
                say(f"  {video.path}: no mask in {group.masks}")
            mask = root / video.mask if video.mask else None
            folder = target / group.folder
            job = Job(video.path, root / video.path, folder, video.name, mask, settings, group.masked)
            jobs.append(replace(job, others=tuple(others.get(video.name, ()))))
    return jobs


def _named_like_people(videos: Iterable[SourceVideo]) -> dict[str, list[str]]:
    """Return name of a video → names of other videos that look like those of its people (`split_person`)."""
    names = {video.name for video in videos}
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        video, person = split_person(name)
        if person > 1 and video in names:
            found.setdefault(video, []).append(name)
    return found


def copy_annotations(rules: Layout, root: Path, target: Path) -> None:
    """Copy the small files that say splits and labels, so that the output can be indexed without the videos."""
    for path in chain.from_iterable(root.glob(pattern) for pattern in rules.annotations):
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _finished(manifest: Manifest, job: Job) -> bool:
    """Tell whether a video is done and what its line says is there: files may have been lost, or taken by another run."""
    if not manifest.finished(job.key):
        return False
    entry = manifest.entries[job.key]
    people = range(1, 1 + max(1, len(entry.get("people", ()))))
    wanted = {"frames": entry["faces"], "landmarks": entry["faces"], "masks": entry.get("masks")}
    return all(
        count is None
        or sum(_count(job.folder / kind / person_name(job.name, person), suffix) for person in people) == count
        for (kind, count), suffix in zip(wanted.items(), (".png", ".npy", ".png"), strict=True)
    )


def _count(folder: Path, suffix: str) -> int:
    try:
        with os.scandir(folder) as files:
            return sum(file.name.endswith(suffix) and not file.name.startswith(".") for file in files)
    except OSError:
        return 0


def _outcomes(jobs: list[Job], engine: str | None, workers: int | None) -> Iterator[Outcome]:
    from preprocessing.pool import run_here, run_on_ray

    if engine in (None, "local"):
        count = min(len(os.sched_getaffinity(0)) if workers is None else workers, len(jobs))
        return run_here(jobs, count)
    if engine == "ray":
        return run_on_ray(jobs, workers)
    raise ConfigError(f"--engine {engine}: there is no such engine; choose local or ray")


def _work(todo: list[Job], jobs: list[Job], manifest: Manifest, request: Request) -> int:
    progress = VideoProgress(len(todo), sys.stderr)
    for outcome in _outcomes(todo, request.engine, request.workers):
        manifest.add(outcome)
        progress.add(outcome)
    progress.close()
    for line in _summary(jobs, manifest):
        say(line)
    return 1 if any(manifest.entries.get(job.key, {}).get("state") == "failed" for job in jobs) else 0


def _summary(jobs: list[Job], manifest: Manifest) -> Iterator[str]:
    entries = [manifest.entries[job.key] for job in jobs if job.key in manifest.entries]
    states = [entry["state"] for entry in entries]
    count = {state: states.count(state) for state in ("partial", "no_face", "unmasked", "failed")}
    faces = sum(entry["faces"] for entry in entries)
    people = sum(max(0, len(entry.get("people", ())) - 1) for entry in entries)
    untouched = sum(entry.get("untouched", 0) for entry in entries)
    if people or untouched:
        words = f"{people} people beside each video's first"
        yield words + (f"; {untouched} in fakes are under no mask and were left out" if untouched else "")
    yield (
        f"{len(entries)} videos, {faces} faces, {count['no_face']} without a face, {count['partial']} partly unreadable, "
        + (f"{count['unmasked']} without a face under the mask, " if count["unmasked"] else "")
        + f"{count['failed']} failed; the list is {manifest.path}"
    )
