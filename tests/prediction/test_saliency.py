from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from analysis.gradcam import draw, explain, faithfulness, pick, summary
from analysis.measures.faithfulness import GRID, cell_order, deletion_insertion, mass_inside
from prediction.saliency import all_maps, attention_rollout, fake_logit, grad_cam, own_maps
from prediction.trained import Video


class Wrapped(nn.Module):
    """A detector around a classifier of images of values from 0 to 1."""

    def __init__(self, network):
        super().__init__()
        self.network, self.config = network, getattr(network, "config", None)

    def prepare(self, batch):
        return {**batch, "image": batch["image"].float() / 255}

    def forward(self, batch, inference=False):
        cls = self.network(batch["image"])
        return {"cls": cls, "prob": cls.softmax(1)[:, 1]}


class SmallViT(nn.Module):
    """Patch embedding, class token, two attention layers; CLS is classified."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, 16))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.attention = nn.ModuleList(nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2))
        self.head = nn.Linear(16, 2)
        self.frozen = False

    def forward(self, x):
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), self.patch(x).flatten(2).transpose(1, 2)], 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for norm, attention in zip(self.norms, self.attention):
                y = norm(tokens)
                tokens = tokens + attention(y, y, y, need_weights=False)[0]
        return self.head(tokens[:, 0])


def cnn():
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *end).eval()


@pytest.fixture
def image():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32)).astype(np.uint8))


def test_grad_cam_equals_the_library(image):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = cnn()
    # The margin of two logits is one class of a network whose last layer is the difference of both rows.
    margin = cnn()
    with torch.no_grad():
        margin[-1].weight[1] = network[-1].weight[1] - network[-1].weight[0]
    with GradCAM(model=margin, target_layers=[margin[3]]) as library:
        expected = library(input_tensor=image.float() / 255, targets=[ClassifierOutputTarget(1)] * 2)
    found = grad_cam(Wrapped(network), image)
    assert found.shape == (2, 32, 32)
    for ours, theirs in zip(found, expected):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


def test_rollout_equals_the_product_by_hand(image):
    torch.manual_seed(1)
    network = SmallViT().eval()
    seen = []
    with torch.no_grad():
        x = image.float() / 255
        tokens = torch.cat([network.cls.expand(2, -1, -1), network.patch(x).flatten(2).transpose(1, 2)], 1)
        for norm, attention in zip(network.norms, network.attention):
            y = norm(tokens)
            out, weights = attention(y, y, y)
            seen.append(0.5 * weights + 0.5 * torch.eye(17))
            tokens = tokens + out
    flow = (seen[1] @ seen[0])[:, 0, 1:].reshape(2, 4, 4)
    flow = nn.functional.interpolate(flow[:, None], size=(32, 32), mode="bilinear")[:, 0]
    expected = flow / flow.amax(dim=(1, 2), keepdim=True)
    np.testing.assert_allclose(attention_rollout(Wrapped(network), image), expected.numpy(), atol=1e-5)
    assert attention_rollout(Wrapped(cnn()), image) is None


def test_transformers_have_grad_cam_also_when_the_tower_is_frozen(image):
    torch.manual_seed(1)
    network = SmallViT().eval()
    free = grad_cam(Wrapped(network), image)
    network.frozen = True
    network.requires_grad_(False)
    held = grad_cam(Wrapped(network), image)
    assert network.frozen
    assert free.max() == 1
    np.testing.assert_allclose(held, free, atol=1e-6)


def test_maps_leave_no_trace(image):
    detector = Wrapped(SmallViT().eval())
    before = detector({"image": image.float() / 255})["prob"]
    assert set(all_maps(detector, image)) == {"Grad-CAM", "attention roll-out"}
    assert all(p.grad is None for p in detector.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in detector.modules())
    torch.testing.assert_close(detector({"image": image.float() / 255})["prob"], before)


class Bright(nn.Module):
    """Fake is what is bright; the last layer with places holds those of a clip `(B, 4, 3, 32, 32)` in one way or another."""

    def __init__(self, way):
        super().__init__()
        self.way, self.config = way, SimpleNamespace(thumbnail_rows=2 if way == "thumbnail" else None)
        self.pool = (nn.AvgPool3d if way == "volume" else nn.AvgPool2d)((1, 4, 4) if way == "volume" else 4)
        self.last, self.dropout = nn.ReLU(), nn.Dropout(0.5)

    def forward(self, clip):
        x = clip.mean(2, keepdim=True).repeat(1, 1, 8, 1, 1) - 0.5  # (B, T, 8, 32, 32)
        if self.way == "volume":
            x = self.pool(x.transpose(1, 2))  # (B, 8, T, 8, 8)
        elif self.way == "thumbnail":
            x = self.pool(x.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5).reshape(len(x), 8, 64, 64))  # (B, 8, 16, 16)
        else:
            x = self.pool(x.flatten(0, 1))  # (B T, 8, 8, 8)
        if self.way == "channels last":
            x = x.permute(0, 2, 3, 1)[..., :6].repeat(1, 1, 1, 2)
        if "tokens" in self.way:
            x = x.flatten(2).transpose(1, 2)  # (B T, 64, 8)
        if self.way == "tokens in a row":
            x = x.unflatten(0, (len(clip), 4)).flatten(1, 2)  # (B, T 64, 8)
        x = self.last(x).reshape(len(clip), -1).mean(1)
        # As weights of attention would come last, after a dropout: squares that are no places.
        x = self.dropout(x.view(-1, 1, 1, 1).expand(-1, 8, 5, 5)).flatten(1).mean(1)
        return torch.stack([-x, x], dim=1)


@pytest.mark.parametrize(
    "way", ["volume", "frames in the batch", "channels last", "tokens in the batch", "tokens in a row", "thumbnail"]
)
def test_grad_cam_over_time_finds_frame_and_place(way):
    clip = torch.zeros((2, 4, 3, 32, 32), dtype=torch.uint8)
    clip[0, 2, :, :16, 16:] = 250
    clip[1, 1, :, 16:, :16] = 200
    clip[1, 3, :, 16:, :16] = 250
    heat = grad_cam(Wrapped(Bright(way)).eval(), clip)
    assert heat.shape == (2, 4, 32, 32)
    assert heat.max(axis=(1, 2, 3)) == pytest.approx([1, 1]), "one scale for all frames of a clip"
    assert heat[0, 2, 2:14, 18:30].min() > 0.9
    assert heat[1, 3, 18:30, 2:14].min() > 0.9
    assert 0.1 < heat[1, 1, 18:30, 2:14].mean() < 0.8
    for row, frames in ((0, [0, 1, 3]), (1, [0, 2])):
        assert heat[row, frames, 4:28, 4:28].max() < 0.2


def test_clips_are_drawn_as_filmstrips_and_measured(tmp_path):
    clip = np.zeros((1, 4, 3, 32, 32), np.uint8)
    clip[0, :, :, :16, 16:] = 250
    mask = np.zeros((1, 4, 1, 32, 32), np.uint8)
    mask[..., :16, 16:] = 1
    detector = Wrapped(Bright("volume")).eval()
    detector.config = None
    (entry,) = explained = explain(detector, pick([Video("1/0", 1, 1, np.arange(1), clip, mask)], 1))
    assert entry["maps"]["Grad-CAM"].shape == entry["mask"].shape == (4, 32, 32)
    (row,) = faithfulness(detector, explained)
    assert row["deletion"] < row["deletion_random"]
    assert row["insertion"] > row["insertion_random"]
    assert row["mass"] > 0.8
    assert row["chance"] == 0.25
    assert [path.name for path in draw(explained, tmp_path / "strip")] == ["strip.png", "strip.pdf"]


def test_no_layer_with_places_no_map(image):
    flat = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)).eval())
    assert grad_cam(flat, image) is None
    assert all_maps(flat, image) == {}


def test_fake_logit_of_one_logit_has_a_gradient_where_its_probability_is_saturated():
    logit = torch.tensor([40.0, -3.0], requires_grad=True)
    odds = fake_logit({"cls": logit.sigmoid()[:, None], "prob": logit.sigmoid(), "logit": logit})
    odds.sum().backward()
    assert odds.tolist() == [40.0, -3.0]
    assert logit.grad.tolist() == [1.0, 1.0]


def test_fake_logit_of_a_probability():
    prob = torch.tensor([0.2, 0.9])
    torch.testing.assert_close(fake_logit({"prob": prob}), torch.log(prob / (1 - prob)))


class Corner(nn.Module):
    """Fake is as bright as the upper left quarter; it says so in a map of its own."""

    def prepare(self, batch):
        return {"image": batch["image"].float() / 255}

    def forward(self, batch, inference=False):
        side = batch["image"].shape[-1] // 2
        corner = batch["image"][:, :, :side, :side]
        heat = torch.zeros(len(corner), 1, 4, 4)
        heat[:, :, :2, :2] = 1
        return {"prob": corner.flatten(1).mean(1), "where": heat, "cls": corner}


def corner_image(side=56):
    # Bright corner on dark ground: blur takes the brightness away.
    image = np.zeros((3, side, side), np.uint8)
    image[:, : side // 2, : side // 2] = 250
    return image


def test_a_true_map_beats_random_and_its_opposite():
    image = corner_image()
    heat = own_maps(Corner(), torch.from_numpy(image)[None])["where"][0]
    order = cell_order(heat)
    good, opposite = deletion_insertion(Corner(), image, order), deletion_insertion(Corner(), image, order[::-1])
    assert good[0] < opposite[0] - 0.02
    assert good[1] > opposite[1] + 0.02


def test_deletion_and_insertion_areas_cell_by_cell():
    """Another way to the same curves: cells are blurred one after the other, and the trapezoids are summed by hand."""
    import cv2

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 2 * GRID, 2 * GRID), dtype=np.uint8)
    order = rng.permutation(GRID * GRID)
    blurred = cv2.GaussianBlur(image.transpose(1, 2, 0), (0, 0), 2 * GRID / 16).transpose(2, 0, 1)

    def curve(start, end):
        now, values = start.copy(), []
        for done in range(GRID * GRID + 1):
            if done % (GRID * GRID // 4) == 0:
                values.append(now[:, :GRID, :GRID].mean() / 255)
            if done < GRID * GRID:
                y, x = divmod(order[done], GRID)
                now[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] = end[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        return sum((a + b) / 2 * 0.25 for a, b in pairwise(values))

    found = deletion_insertion(Corner(), image, order, steps=4)
    assert found == pytest.approx((curve(image, blurred), curve(blurred, image)), abs=1e-6)


def test_cells_are_ranked_by_their_heat():
    heat = np.zeros((56, 56))
    heat[8:12, 20:24] = 1  # row 2, column 5 of 14 cells of 4 pixels
    assert cell_order(heat)[0] == 2 * GRID + 5
    assert sorted(cell_order(heat)) == list(range(GRID * GRID))


def test_mass_inside():
    heat, mask = np.ones((4, 4)), np.zeros((4, 4))
    mask[:2] = 1
    heat[:2] = 3
    assert mass_inside(heat, mask) == (0.75, 0.5)


def test_faces_are_taken_in_turn_and_faithfulness_is_measured_on_fakes():
    image = np.stack([corner_image()] * 3)
    mask = np.zeros((3, 1, 56, 56), np.uint8)
    mask[..., :28, :28] = 1
    source = [
        Video(f"{m}/{n}", int(m > 0), m, np.arange(3), image, mask * (m > 0)) for m in (0, 1, 2) for n in range(4)
    ]
    chosen = pick(source, 5)
    assert [video.name for video, _ in chosen] == ["1/0", "2/1", "0/2", "1/1", "2/2"]
    assert chosen[0][0].frame.tolist() == [1]
    heat = np.pad(np.ones((28, 28)), ((0, 28), (0, 28)))
    explained = [
        {"video": v, "position": p, "image": v.image[p], "prob": 0.9, "maps": {"where": heat}, "mask": v.mask[p, 0]}
        for v, p in chosen
    ]
    rows = faithfulness(Corner(), explained)
    assert [row["video"] for row in rows] == ["1/0", "2/1", "1/1", "2/2"]
    for row in rows:
        assert row["deletion"] < row["deletion_random"]
        assert (row["mass"], row["chance"]) == (1, 0.25)
    assert summary(rows)[0][0] == "where"
    assert summary(rows)[0][5:] == ["1.000 (0.250)", "+0.750 ± 0.000", "4"]
    every = pick(source, 12)
    assert sorted(video.name for video, _ in every) == sorted(video.name for video in source), "each once"


def test_a_map_without_heat_is_counted_and_not_measured():
    video = Video("1/0", 1, 1, np.arange(1), corner_image()[None], None)
    maps = {"empty": np.zeros((56, 56)), "full": np.ones((56, 56))}
    entry = {
        "video": video,
        "position": 0,
        "image": video.image[0],
        "prob": 0.9,
        "maps": maps,
        "mask": np.ones((56, 56)),
    }
    empty, full = summary(faithfulness(Corner(), [entry]))
    assert empty == ["empty", *["–"] * 6, "1 (1 without heat)"]
    assert full[5] == "1.000 (1.000)"
    assert full[-1] == "1"


@pytest.mark.parametrize(("gain", "marked"), [(0.1, False), (-0.1, False), (0.01, True), (0.0, True)])
def test_a_difference_whose_interval_holds_0_is_marked(gain, marked):
    spread = [-0.05, 0.05, -0.03, 0.03]
    row = {"map": "W", "insertion": None, "insertion_random": None, "mass": None, "chance": None}
    rows = [row | {"deletion": 0.5 + gain + s, "deletion_random": 0.5} for s in spread]
    (line,) = summary(rows)
    assert ("(as chance)" in line[2]) == marked
    (alone,) = summary(rows[:1])
    assert "(as chance)" in alone[2], "one face has no interval"


def test_gain_over_chance_has_the_interval_of_the_paired_t_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    value, chance = rng.normal(0.3, 0.1, 9), rng.normal(0.2, 0.05, 9)
    keys = ("map", "deletion", "deletion_random", "insertion", "insertion_random", "mass", "chance")
    rows = [dict(zip(keys, ("boundary", v, c, v, c, None, None))) for v, c in zip(value, chance)]
    (line,) = summary(rows)
    low, high = ttest_rel(value, chance).confidence_interval(0.95)
    assert line[0] == "Boundary Mining's W"
    assert line[2] == f"{(low + high) / 2:+.3f} ± {(high - low) / 2:.3f}"
    assert line[5:] == ["–", "–", "9"]
