"""Faces from videos: ours beside the straightforward path, with the agreement of their crops.

The straightforward path is what the field's packs were made with, written plainly: decode every frame, search the whole
of each wanted frame doubled, landmarks, align, search the crop again for its landmarks. Both run in this process, one
after the other, and write the same files.

Videos: those that PREPROCESS_VIDEOS names (paths joined like PATH), else drawn ones of 1280x720 and 1920x1080.
"""

import os
import statistics
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from numpy.typing import NDArray

from benchmarks import row
from preprocessing.faces.box import Box

VARIABLE = "PREPROCESS_VIDEOS"
FRAMES = 32
SIZE = 256
SHAPES = ((1280, 720), (1920, 1080))

Matrices = dict[int, np.ndarray]


def run(quick: bool = False) -> list[dict]:
    """Return three rows per video, of one process each: videos/s, faces/s, and CPU seconds (all threads) for the video."""
    named = [Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        videos = named or [
            draw_video(Path(folder) / f"{height}p.mp4", width, height, 60 if quick else 310) for width, height in SHAPES
        ]
        for video in videos:
            rows += compare(video, Path(folder), repeats=1 if quick else 3)
    return rows


def compare(video: Path, folder: Path, repeats: int) -> list[dict]:
    """Time both paths on one video, alternately, and compare their crops."""
    from preprocessing.faces import faces_of_video
    from preprocessing.video_reader import VideoReader

    with VideoReader(video) as reader:
        count = reader.frame_count
        height, width = next(iter(reader.frames([0])))[1].shape[:2]
    reference = StraightForward()
    ours(video, folder / "warm")  # reads the models
    crops = {face.frame: face.matrix for face in faces_of_video(video, FRAMES)}
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    busy: dict[str, list[float]] = {"ours": [], "reference": []}
    theirs: Matrices = {}
    for _ in range(repeats):
        for name, work in (("ours", ours), ("reference", reference)):
            start, used = perf_counter(), process_time()
            theirs = work(video, folder / name) or theirs
            seconds[name].append(perf_counter() - start)
            busy[name].append(process_time() - used)
    mine, other = (statistics.median(seconds[name]) for name in ("ours", "reference"))
    errors = [corner_error(crops[number], matrix) for number, matrix in theirs.items() if number in crops]
    agreement = (
        f"corners {np.median(errors):.2f} px, p95 {np.percentile(errors, 95):.2f} px" if errors else "no common face"
    )
    agreement += f"; faces {len(crops)}, reference {len(theirs)}"
    name = f"faces of {FRAMES} frames of {count}, {width}x{height}"
    return [
        row(name, "videos/s", 1 / mine, 1 / other, agreement),
        row(name, "faces/s", len(crops) / mine, len(theirs) / other, agreement),
        row(name, "CPU s", statistics.median(busy["ours"]), statistics.median(busy["reference"]), agreement),
    ]


def ours(video: Path, folder: Path) -> None:
    """Preprocess one video as `preprocess.py` does."""
    from preprocessing.extraction import Job, Settings, process_video

    process_video(Job(video.name, video, folder, video.stem, None, Settings(num_frames=FRAMES, size=SIZE)))


def draw_video(path: Path, width: int, height: int, count: int) -> Path:
    """Write a video of an invented person who moves about a little, `count` frames, H.264."""
    import av
    import cv2

    from common.h264 import encoder_frame
    from preprocessing.demo.build import QUICK, jobs, paths
    from preprocessing.demo.build import run as film

    job = jobs(QUICK, 0)[0]
    film(job, path.parent)
    with av.open(str(path.parent / paths(job)[0])) as small:
        pictures = [frame.to_ndarray(format="rgb24") for frame in small.decode(video=0)]
    side = int(0.8 * height)
    pictures = [_resized(picture, side, side) for picture in pictures]
    backdrop = cv2.GaussianBlur(_resized(pictures[0], width, height), (0, 0), height / 20)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "g": "250"}
        for number in range(count):
            canvas = np.asarray(backdrop, np.uint8).copy()
            left = int((width - side) * (0.5 + 0.2 * np.sin(number / 40)))
            top = int((height - side) * (0.5 + 0.3 * np.sin(number / 25)))
            canvas[top : top + side, left : left + side] = pictures[number // 6 % len(pictures)]
            container.mux(stream.encode(encoder_frame(canvas)))
        container.mux(stream.encode(None))
    return path


def _resized(picture: np.ndarray, width: int, height: int) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


class StraightForward:
    """The plain path; models are read once, outside the time taken."""

    def __init__(self) -> None:
        import dlib

        from preprocessing.faces.landmarks import LandmarkPredictor

        self.find = dlib.get_frontal_face_detector()
        self.landmarks = LandmarkPredictor()

    def __call__(self, video: Path, folder: Path) -> Matrices:
        import cv2

        from preprocessing.faces.alignment import align
        from preprocessing.video_reader import choose_frames

        for kind in ("frames", "landmarks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        capture = cv2.VideoCapture(str(video))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        wanted = set(choose_frames(count, "fixed_num_frames", FRAMES, 1))
        matrices: Matrices = {}
        for number in range(count):
            read, picture = capture.read()
            if not read:
                break
            if number not in wanted:
                continue
            image = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
            box = self._largest(image)
            if box is None:
                continue
            crop, matrix = align(image, self.landmarks(image, box), SIZE)
            again = self._largest(crop)
            if again is None:
                continue
            cv2.imwrite(str(folder / "frames" / f"{number:03d}.png"), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
            np.save(folder / "landmarks" / f"{number:03d}.npy", self.landmarks(crop, again))
            matrices[number] = matrix
        capture.release()
        return matrices

    def _largest(self, image: np.ndarray) -> Box | None:
        boxes = [Box(r.left(), r.top(), r.right(), r.bottom()) for r in self.find(image, 1)]
        return max(boxes, key=lambda box: box.area, default=None)


def corner_error(ours: np.ndarray, reference: np.ndarray) -> float:
    """Return how far, on average, the corners of the reference's crop lie from there in ours, in pixels of the crop."""
    corners = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]], float)
    frame = np.linalg.solve(reference[:, :2], (corners - reference[:, 2]).T).T
    return float(np.linalg.norm(frame @ ours[:, :2].T + ours[:, 2] - corners, axis=1).mean())
