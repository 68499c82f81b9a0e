"""The most wrong and the most right pictures: one of a video, whatever the batches and processes."""

import cv2
import numpy as np
import pytest
import torch

from common.rundir import TestFiles
from training.trainer.evaluator import EXAMPLES, Example, _Gallery
from training.trainer.results import TILE, _write_examples

VIDEOS, FRAMES = 3 * EXAMPLES, 5


def samples(seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, VIDEOS).repeat(FRAMES)
    return {
        "video": [f"X/{number:02d}" for number in range(VIDEOS) for _ in range(FRAMES)],
        "frame": np.tile(np.arange(FRAMES), VIDEOS),
        "label": label,
        "prob": rng.random(VIDEOS * FRAMES).round(2),
    }


def fill(data, rows, size):
    gallery = _Gallery()
    for start in range(0, len(rows), size):
        own = rows[start : start + size]
        batch = {
            "video": [data["video"][row] for row in own],
            "frame": torch.from_numpy(data["frame"][own]),
            "label": torch.from_numpy(data["label"][own]),
            "image": torch.zeros(len(own), 3, 4, 4, dtype=torch.uint8),
        }
        gallery.offer(batch, {"where": torch.ones(len(own), 1, 2, 2)}, data["prob"][own])
    return gallery


def seen(gallery):
    return {group: [(e.score, e.video, e.frame) for e in examples] for group, examples in gallery.ranked().items()}


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_best_picture_of_each_video_and_of_these_the_best(size):
    data = samples()
    found = seen(fill(data, np.arange(len(data["prob"])), size))["fake, called real"]
    best = {}
    for video, frame, label, prob in zip(data["video"], data["frame"], data["label"], data["prob"]):
        if label:
            best[video] = max(best.get(video, (-1, "", 0)), (1 - prob, video, -frame))
    expected = sorted(best.values(), reverse=True)[:EXAMPLES]
    assert found == [(score, video, -frame) for score, video, frame in expected]


def test_order_and_processes_do_not_matter():
    data = samples(1)
    rows = np.random.default_rng(2).permutation(len(data["prob"]))
    whole = fill(data, np.arange(len(rows)), 9)
    one, other = fill(data, rows[:50], 4), fill(data, rows[50:], 11)
    one.merge(other)
    assert seen(one) == seen(whole)


def test_faint_maps_are_drawn_relative_to_their_largest_value(tmp_path):
    heat = np.zeros((4, 4), np.float32)
    heat[:2] = 1e-3
    example = Example(1.0, "X/1", 0, 0.9, np.zeros((8, 8, 3), np.uint8), {"energy": heat})
    _write_examples(TestFiles(tmp_path), {"fake, called fake": [example]})
    sheet = cv2.imread(str(tmp_path / "examples.png")).astype(int)
    assert sheet.shape[0] == 2 * TILE
    drawn = sheet[TILE:, :TILE]
    assert drawn[: TILE // 4].mean() > drawn[-TILE // 4 :].mean() + 60
