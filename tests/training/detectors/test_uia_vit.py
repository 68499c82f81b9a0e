"""UIA-ViT: agreement with the reference, its terms and Gaussians against plain NumPy, and that nothing is lost by a resume."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_losses, check_outputs, filled, overfit
from helpers.faces import face_batch
from helpers.training_runs import check_resume
from parity.fill import fill_state_dict, load_golden
from sklearn.covariance import LedoitWolf

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors.base import Clock
from training.detectors.parts.uia_vit.consistency import patch_consistency, wanted_consistency
from training.detectors.parts.uia_vit.gaussian import Gaussian, Moments, shrunk_covariance
from training.detectors.parts.uia_vit.trunk import attend, walk

TINY = {"backbone_name": "vit_tiny_patch16_224", "resolution": 64}


def tiny(**keys):
    return build("uia_vit", **{**TINY, **keys})


def batch(size=6):
    return face_batch(size, 64)


def taught(detector, faces, step=10):
    """Return a detector in training whose Gaussians were fitted to a batch; `step` is of 20, 10 an epoch."""
    detector.train().before_step(Clock(4, 20, 10))
    with torch.no_grad():
        detector.get_losses(faces, detector(faces))
    detector.after_backward(Clock(4, 20, 10))
    detector.before_step(Clock(step, 20, 10))
    return detector


@pytest.fixture(scope="module")
def reference():
    return filled(build("uia_vit"), prefix="module.")


def test_answers_as_the_reference(reference):
    # Its maps are sorted by label, of which the golden had one each.
    own = reference.forward

    def answer(*args, **keys):
        found = own(*args, **keys)
        maps = {"attention_map_real": found["attention"][:1], "attention_map_fake": found["attention"][1:]}
        return {**found, **maps, "feat": found["feat"].unflatten(1, (14, 14))}

    reference.forward = answer
    try:
        check_outputs(reference, tolerance=1e-5)
    finally:
        del reference.forward


@pytest.mark.slow
def test_loss_and_gradients_as_the_reference(reference):
    check_losses(reference, {"overall": "overall", "cls": "overall"}, tolerance=1e-4)
    without = {name for name, p in reference.named_parameters() if p.grad is None}
    assert without == {"c_real", "c_fake", "c_cross", "norm_middle.weight", "norm_middle.bias"}


@pytest.mark.parametrize("spread", [0.0, 5.0])
def test_the_covariance_is_ledoit_and_wolfs(spread):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 12)) @ rng.normal(size=(12, 12)) + spread * rng.normal(size=12)
    moments = Moments.none(12)
    for part in np.split(rows, [3, 20]):  # in any portions
        moments = moments.plus(torch.tensor(part))
    wanted = LedoitWolf().fit(rows)
    assert 0.01 < wanted.shrinkage_ < 1
    np.testing.assert_allclose(shrunk_covariance(moments).numpy(), wanted.covariance_, rtol=1e-8, atol=1e-8)
    found = Gaussian.of(moments)
    new = rng.normal(size=(2, 3, 12))
    off = new - rows.mean(0)
    distance = np.einsum("bni,ij,bnj->bn", off, np.linalg.inv(wanted.covariance_), off)
    np.testing.assert_allclose(found.distance(torch.tensor(new)).numpy(), distance, rtol=1e-3)


def test_what_does_not_vary_has_no_gaussian():
    assert Gaussian.of(Moments.none(3)) is None
    assert Gaussian.of(Moments.none(3).plus(torch.ones(1, 3))) is None
    assert Gaussian.of(Moments.none(3).plus(torch.ones(5, 3))) is None


def test_consistency_is_the_papers_pair_by_pair():
    rng = np.random.default_rng(1)
    label, found, forged = np.array([0, 1, 1, 0, 1]), rng.random((5, 6, 6)), rng.random((5, 6)) > 0.5
    real, fake, cross = 0.6, 0.7, 0.2
    sums = {0: [], 1: []}
    for image in range(5):
        total = 0.0
        for i in range(6):
            for j in range(6):
                if label[image] == 0:
                    level = 1.0 if i == j else real
                elif forged[image, i] != forged[image, j]:
                    level = cross
                else:
                    level = fake if forged[image, i] else real
                total += abs(found[image, i, j] - level)
        sums[label[image]].append(total / 30)
    levels = [torch.tensor(value, dtype=torch.float64) for value in (real, fake, cross)]
    labels = torch.tensor(label)
    wanted = wanted_consistency(torch.tensor(forged), labels, *levels)
    loss = patch_consistency(torch.tensor(found), wanted, labels)
    assert float(loss) == pytest.approx(np.mean(sums[0]) + np.mean(sums[1]), rel=1e-6)
    alone = patch_consistency(torch.tensor(found)[:1], wanted[:1], labels[:1])
    assert float(alone) == pytest.approx(sums[0][0], rel=1e-6)


def test_the_sum_is_the_papers_and_only_after_the_warm_up():
    faces = batch()
    detector = taught(tiny(warmup_epochs=1.0), faces, step=9)
    prediction = detector(faces)
    before = detector.get_losses(faces, prediction)
    assert before["overall"].item() == before["cls"].item()
    assert [float(before[name]) for name in ("consistency", "distinct", "cross")] == [0, 0, 0]
    detector.before_step(Clock(10, 20, 10))
    with torch.no_grad():
        detector.c_real += 0.1
    losses = detector.get_losses(faces, prediction)
    levels = [c.detach() for c in (detector.c_real, detector.c_fake, detector.c_cross)]
    wanted = wanted_consistency(detector.forged(prediction["feat"]), faces["label"], *levels)
    consistency = patch_consistency(prediction["attention"], wanted, faces["label"]).item()
    assert consistency > 0.1
    cls = before["cls"].item()
    values = {"cls": cls, "consistency": consistency, "distinct": 1 / 0.7 + 1 / 0.6, "cross": 0.2}
    values["overall"] = cls + 0.06 * consistency + 0.05 * (1 / 0.7 + 1 / 0.6) + 0.5 * 0.2
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(values, rel=1e-5)


def test_gaussians_are_of_the_first_images_and_of_a_fake_s_inner_patches():
    faces = batch(8)
    detector = tiny(gaussian_images=3).train()
    detector.before_step(Clock(0, 20, 10))
    feat = detector(faces)["feat"]
    for part in (slice(0, 2), slice(2, 8)):  # two micro-batches of a step
        some = {key: value[part] for key, value in faces.items() if isinstance(value, torch.Tensor)}
        detector.get_losses(some, detector(some))
    grid = feat.detach().double().unflatten(1, (4, 4)).numpy()
    label = faces["label"].numpy()
    real = grid[label == 0][:3].reshape(-1, 192)
    fake = grid[label == 1][:3, 1:3, 1:3].reshape(-1, 192)
    for name, rows in (("real", real), ("fake", fake)):
        sums = detector.moments[name]
        assert float(sums.count) == len(rows)
        np.testing.assert_allclose(sums.second.numpy(), rows.T @ rows, atol=1e-3)
    # Five of ten steps make half an epoch.
    for step in range(4):
        detector.after_backward(Clock(step, 20, 10))
    assert not detector.gaussians
    detector.after_backward(Clock(4, 20, 10))
    np.testing.assert_allclose(detector.gaussians["real"].mean.numpy(), real.mean(0), atol=1e-4)
    assert float(detector.moments["real"].count) == 0
    nearer = detector.forged(feat)
    assert nearer.shape == (8, 16)
    wanted = [detector.gaussians[name].distance(feat.detach()) for name in ("real", "fake")]
    assert torch.equal(nearer, wanted[0] > wanted[1])


def test_without_fakes_the_last_gaussian_stays_and_it_is_said(caplog):
    faces = batch()
    detector = taught(tiny(), faces)
    kept = detector.gaussians["fake"]
    real = {"image": faces["image"], "label": torch.zeros_like(faces["label"])}
    detector.get_losses(real, detector(real))
    with caplog.at_level("WARNING", "clipdeepfake"):
        detector.after_backward(Clock(9, 20, 10))
    assert detector.gaussians["fake"] is kept
    assert "no patches of fake images" in caplog.text


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (2, 1.0), (10, None), (14, None)])
def test_patches_are_assembled_evenly_first_and_by_attention_later(step, share):
    detector, faces = tiny().train(), batch(2)
    detector.before_step(Clock(step, 20, 10))
    seen = detector(faces)["localization"].detach().flatten(1)
    progress = step / 20
    even = share or 1 / (1 + np.exp(12 * (progress - 0.7)))
    np.testing.assert_allclose(detector._assembly(seen).numpy(), even + (1 - even) * seen.numpy(), rtol=1e-5)
    late = 1 / (1 + np.exp(12 * 0.3))
    np.testing.assert_allclose(detector.eval()._assembly(seen).numpy(), late + (1 - late) * seen.numpy(), rtol=1e-5)


def test_the_trunk_s_tokens_are_timms_and_affinities_are_of_every_head():
    detector, image = tiny().eval(), batch(2)["image"]
    with torch.no_grad():
        tokens, middle, affinity = walk(detector.trunk, image)
        torch.testing.assert_close(tokens, detector.trunk.forward_features(image), atol=1e-5, rtol=1e-5)
        block = detector.trunk.blocks[8]
        layer = block.attn
        query, key, _ = layer.qkv(block.norm1(middle)).unflatten(-1, (3, layer.num_heads, -1)).unbind(2)
        logits = torch.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(layer.head_dim)
        torch.testing.assert_close(attend(block, middle)[1], logits.mean(1), atol=1e-5, rtol=1e-5)
    assert affinity.shape == (2, 17, 17)


def test_gradients_reach_everything_after_the_warm_up():
    faces = batch()
    detector = taught(tiny(), faces, step=12)
    check_gradients(detector, faces)
    assert {n for n, p in detector.named_parameters() if not p.requires_grad} == {
        "norm_middle.weight",
        "norm_middle.bias",
    }


def test_learns_a_handful_of_faces():
    faces = batch()
    assert overfit(taught(tiny(), faces, step=12), faces, steps=15, lr=5e-4) == 1.0


def test_inference_reads_the_image_only():
    detector, faces = tiny().eval(), batch(2)
    with torch.no_grad():
        alone, together = detector({"image": faces["image"]}, inference=True), detector(faces)
    torch.testing.assert_close(alone["prob"], together["prob"])
    assert alone["localization"].shape == (2, 1, 4, 4)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    # 7 steps an epoch: Gaussians are fitted after 3 and 6, and the run is cut between them, while they already count.
    kept = check_resume(tmp_path, "uia_vit", 8, 5, backbone_name="vit_tiny_patch16_224", warmup_epochs=0.5)
    assert all(kept["training_state"]["moments"][name]["count"] > 0 for name in ("real", "fake"))
    assert set(kept["training_state"]["gaussians"]) == {"real", "fake"}


def test_weights_of_the_authors_load_and_others_are_refused(reference):
    golden = load_golden("uia_vit")
    state = fill_state_dict(golden["keys"], skip=golden["not_filled"])
    authors = {f"module.{key.removeprefix('model.')}": value for key, value in state.items()}
    with torch.device("meta"):
        detector = build("uia_vit")
    detector.to_empty(device="cpu").load_weights(authors)
    assert torch.equal(detector.trunk.blocks[3].attn.qkv.weight, reference.trunk.blocks[3].attn.qkv.weight)
    del authors["module.blocks.7.attn.qkv.weight"]
    with pytest.raises(WeightsError, match=r"missing, first `trunk\.blocks\.7\.attn\.qkv\.weight"):
        reference.load_weights(authors)


def test_trunk_weights_of_another_resolution_are_fitted(tmp_path):
    detector = tiny(resolution=32)
    state = detector.trunk.state_dict() | {"head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "vit.pth")
    larger = build("uia_vit", weights=str(tmp_path / "vit.pth"), **TINY)
    assert larger.trunk.pos_embed.shape == (1, 17, 192)
    assert torch.equal(larger.trunk.pos_embed[:, 0], detector.trunk.pos_embed[:, 0])
    assert torch.equal(larger.trunk.blocks[0].mlp.fc1.weight, detector.trunk.blocks[0].mlp.fc1.weight)


def test_its_files_and_the_field_s_load(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "uia_vit.yaml")
    assert (paper.train_batchSize, paper.nEpochs, paper.optimizer.adam.weight_decay) == (96, 8, 0)
    benchmark = load_config(CONFIG_DIR / "detector" / "uia_vit_benchmark.yaml")
    assert (benchmark.train_batchSize, benchmark.nEpochs, benchmark.optimizer.adam.weight_decay) == (64, 10, 1e-5)
    path = tmp_path / "theirs.yaml"
    path.write_text(
        "model_name: uia_vit\npretrained: jx_vit_base_p16_224-80ecf9dd.pth\nresolution: 224\n"
        "loss_func:\n cls_loss: cross_entropy\n pcl_loss: patch_consistency_loss\n weights: [0.1, 0.05, 0.5]\n"
        "losstype: null\nbatch_per_epoch: 1796\n"
    )
    theirs = load_config(path, quiet=True)
    assert theirs.loss_func.weights == [0.1, 0.05, 0.5]
    with pytest.raises(ConfigError, match=r"resolution.*multiple of 16"):
        load_config(CONFIG_DIR / "detector" / "uia_vit.yaml", ["resolution=100"])
