"""The measure of W against true boundaries, on maps whose answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from analysis.boundary import edge_band, maps_of, measure, pixel_auc, summarise
from common.errors import DataError


def square(side=32):
    mask = np.zeros((side, side), np.uint8)
    mask[8:24, 8:24] = 1
    return mask


def test_the_band_follows_the_edge_and_not_the_frame():
    band = edge_band(square(), 2)
    assert band[8, 16]
    assert band[23, 16]
    assert band[6, 16]
    assert not band[5, 16]
    assert not band[16, 16]
    half = np.zeros((32, 32), np.uint8)
    half[:, :16] = 1
    touching = edge_band(half, 2)
    assert touching[:, 14:18].all()
    assert touching.sum() == 32 * 4


def test_pixel_auc_equals_scikit_learn():
    rng = np.random.default_rng(0)
    band, heat = edge_band(square(), 2), rng.integers(0, 9, (32, 32)) / 9
    assert pixel_auc(band, heat) == pytest.approx(roc_auc_score(band.ravel(), heat.ravel()))


class Oracle:
    """A detector whose W is a blurred version of what stands in the red channel."""

    name = "oracle"

    def prepare(self, batch):
        return batch

    def __call__(self, batch, inference):
        return {"boundary": F.adaptive_avg_pool2d(batch["image"][:, :1].float() / 255, (16, 16))}


def batch():
    """One target: a real frame without, and a fake with, the band painted red; another fake without mask."""
    image = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    image[1, 0] = torch.tensor(edge_band(square(), 2) * 255)
    mask = torch.zeros(3, 1, 32, 32, dtype=torch.uint8)
    mask[1, 0] = torch.tensor(square())
    return {
        "image": image, "mask": mask, "label": torch.tensor([0, 1, 1]), "video": ["real", "fake", "other"],
        "target_id": torch.tensor([4, 4, 4]), "frame": torch.tensor([7, 7, 8]),
    }  # fmt: skip


def test_a_map_that_knows_scores_high_on_fakes_and_chance_on_their_reals():
    rows = measure(Oracle(), [batch()], width=2)
    assert [(row["video"], row["kind"]) for row in rows] == [("fake", "fake"), ("fake", "real")]
    assert rows[0]["W"] > 0.97
    assert rows[1]["W"] == 0.5
    table = {(row["map"], row["kind"]): row for row in summarise(rows * 3)}
    assert table["W", "fake"]["auc"] == pytest.approx(rows[0]["W"])
    assert table["W", "real"]["frames"] == 3
    assert table["W", "fake"]["low"] == pytest.approx(table["W", "fake"]["high"])


def test_a_detector_without_w_is_told_so():
    class Plain(Oracle):
        def __call__(self, batch, inference):
            return {"prob": torch.zeros(len(batch["image"]))}

    with pytest.raises(DataError, match=r"boundary\.enabled"):
        maps_of(Plain(), torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
