"""PCL-I2G: agreement with the reference, the volume of consistency and its loss, gradients, and that it can learn."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch

from common.errors import ConfigError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.dataset.recipes.recipe import recipe_class
from training.detectors.parts.pcl import benchmark_consistency_loss, consistency_loss


@pytest.fixture(scope="module")
def reference():
    return filled(build("pcl_xception", pcl_loss_weight=1.0, pcl_loss="deepfakebench"), prefix="module.")


def small_batch(count=6, seed=0):
    batch = face_batch(count, 64, seed)
    return {**batch, "blend": torch.nn.functional.avg_pool2d(batch["mask"].float(), 5, stride=1, padding=2)}


def test_answers_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)


def test_losses_and_gradients_as_the_reference(reference):
    names = {"overall": "overall", "cls": "det_loss", "pcl": "pcl_loss"}
    check_losses(reference, names, tolerance=1e-4)
    assert all(p.grad is not None for p in reference.parameters())


def wanted_loss(logit, mask, rows=None):
    """Return the mean cross-entropy over pairs of patches, patch by patch."""
    total = []
    for volume, blended in zip(
        logit.reshape(len(logit), -1, logit.shape[-1]), mask.reshape(len(mask), -1), strict=True
    ):
        for i, mine in enumerate(blended):
            for j, other in enumerate(blended):
                p, same = 1 / (1 + np.exp(-volume[i, j])), 1 - abs(mine - other)
                total.append(-same * np.log(p) - (1 - same) * np.log(1 - p))
    return np.mean(total)


def test_the_losses_are_the_papers():
    rng = np.random.default_rng(0)
    detector, mask = build("pcl_xception"), rng.random((4, 1, 3, 3))
    cls, logit, label = rng.normal(size=(4, 2)), rng.normal(size=(4, 9, 9)), np.array([0, 0, 1, 1])
    batch = {"label": torch.tensor(label), "blend": torch.tensor(mask, dtype=torch.float32)}
    prediction = {"cls": torch.tensor(cls), "consistency": torch.tensor(logit)}
    losses = {k: float(v) for k, v in detector.get_losses(batch, prediction).items()}
    entropy = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), label])
    assert losses["pcl"] == pytest.approx(wanted_loss(logit, mask), rel=1e-5)
    assert losses["cls"] == pytest.approx(entropy, rel=1e-5)
    assert losses["overall"] == pytest.approx(entropy + 10 * losses["pcl"], rel=1e-5)


def test_the_volume_compares_every_patch_with_every_other():
    detector = build("pcl_xception").eval()
    x = torch.randn(2, 728, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        volume = detector.consistency(x).numpy()
    weight, bias = (p.detach().double().numpy() for p in detector.consistency.embed.parameters())
    patches = np.einsum("oc,bcn->bno", weight[:, :, 0, 0], x.double().flatten(2).numpy()) + bias
    for b in range(2):
        for i in range(6):
            for j in range(6):
                wanted = patches[b, i] @ patches[b, j] / np.sqrt(728)
                assert volume[b, i, j] == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_what_is_surely_wrong_has_a_gradient_and_in_the_benchmarks_loss_none():
    patches = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    for loss, moves in ((consistency_loss, True), (benchmark_consistency_loss, False)):
        logit = torch.full((1, 4, 4), 60.0, requires_grad=True)
        loss(logit, patches).sum().backward()
        assert bool(logit.grad[0, 1, 0].abs() > 1e-3) == moves


def test_masks_that_nobody_recorded_count_in_no_loss():
    detector, batch = build("pcl_xception").eval(), face_batch(6, 64)
    batch["mask"][-1] = 0
    with torch.no_grad():
        prediction = detector(batch)
    known = detector.get_losses(batch, prediction)["pcl"].item()
    assert detector.counts(batch)["pcl"] == 5
    five = {key: value[:5] for key, value in batch.items()}
    alone = detector.get_losses(five, {key: value[:5] for key, value in prediction.items()})["pcl"].item()
    assert known == pytest.approx(alone, rel=1e-5)
    shared = {**batch, "counts": {"pcl": torch.tensor(10.0)}}
    assert detector.get_losses(shared, prediction)["pcl"].item() == pytest.approx(alone / 2, rel=1e-5)
    assert detector.counts({**batch, "blend": batch["mask"]})["pcl"] == 6  # the recipe knows all
    with pytest.raises(ConfigError, match=r"dataset_type: i2g.*with_mask"):
        detector.get_losses({"label": batch["label"]}, prediction)


def test_gradients_reach_everything():
    check_gradients(build("pcl_xception"), small_batch())


def test_learns_a_handful_of_faces():
    assert overfit(build("pcl_xception"), small_batch(), steps=12, lr=1e-3) == 1.0


def test_learns_which_patches_belong_together():
    # The embedding alone, on features that stay: the loss must fall at once.
    detector, batch = build("pcl_xception").eval(), small_batch()
    detector.requires_grad_(False).consistency.requires_grad_(True)
    optimizer = torch.optim.Adam(detector.consistency.parameters(), lr=1e-3)
    found = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = detector.get_losses(batch, detector(batch))["pcl"]
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.9 * found[0]


def test_inference_reads_the_image_only_and_compares_nothing():
    detector, batch = build("pcl_xception").eval(), small_batch(2)
    with torch.no_grad():
        alone, together = detector({"image": batch["image"]}, inference=True), detector(batch)
    assert "consistency" not in alone
    assert together["consistency"].shape == (2, 16, 16)
    torch.testing.assert_close(alone["prob"], together["prob"])


def test_its_files_hold_the_papers_settings_and_the_benchmarks(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "pcl_xception.yaml")
    assert (paper.dataset_type, paper.pcl_loss_weight, paper.pcl_loss) == ("i2g", 10, "paper")
    assert (paper.optimizer.type, paper.nEpochs, paper.lr_scheduler) == ("adam", 150, "linear")
    assert (paper.lr_rise, paper.lr_hold) == (0.25, 0.75)
    benchmark = load_config(CONFIG_DIR / "detector" / "pcl_xception_benchmark.yaml")
    assert (benchmark.model_name, benchmark.pcl_loss_weight, benchmark.pcl_loss) == ("pcl_xception", 1, "deepfakebench")
    path = tmp_path / "pcl_xception.yaml"
    path.write_text(
        "model_name: pcl_xception\npretrained: ./training/pretrained/xception-b5690688.pth\nbackbone_name: xception_sladd\n"
        "backbone_config: {mode: original, num_classes: 2, inc: 3, dropout: false}\ndataset_type: I2G\npcl_loss_weight: 1\n"
    )
    theirs = load_config(path, quiet=True)
    assert (theirs.backbone_name, theirs.pcl_loss_weight, recipe_class(theirs).name) == ("xception", 1, "i2g")
