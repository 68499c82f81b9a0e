"""LRL: agreement with the reference, its frequency image, what masks teach, gradients, and that it can learn."""

import cv2
import numpy as np
import pytest
import torch
from helpers.detector_checks import build, check_gradients, check_outputs, filled, overfit
from helpers.faces import face_batch
from parity.fill import load_golden
from torch.nn import functional as F

from common.errors import ConfigError, WeightsError
from training.detectors.registry import detector_class

SMALL = {"resolution": 64, "patch": 1}


@pytest.fixture(scope="module")
def reference():
    return filled(build("lrl"), prefix="module.")


@pytest.fixture(scope="module")
def small():
    return build("lrl", **SMALL, mask_weight=0.5, similarity_weight=2.0).eval()


def test_answers_as_the_reference(reference):
    batch, _, height, width = load_golden("lrl")["input_shape"]
    generator = torch.Generator().manual_seed(7)
    torch.rand(batch, 3, height, width, generator=generator)  # the image, after which `idct` was drawn
    idct = torch.rand(batch, 1, height, width, generator=generator) * 2 - 1
    check_outputs(reference, tolerance=1e-4, extra={"idct": idct})


def test_states_of_another_network_are_refused(reference):
    state = {key: value for key, value in reference.state_dict().items() if "decoder.refine.2" not in key}
    with pytest.raises(WeightsError, match=r"missing, first `decoder\.refine\.2\."):
        reference.load_weights(state)


def _theirs(image):
    """Return the field's frequency image of one RGB uint8 picture, by OpenCV."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    height, width = grey.shape
    rows, columns = np.mgrid[:height, :width]
    low = width / height * rows + columns < 0.33 * width
    return (cv2.idct(np.where(low, np.float32(0), cv2.dct(grey))) / 255 - 0.5) / 0.5


@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
def test_prepare_makes_the_frequency_image_of_the_field(small, shape):
    pictures = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    ready = small.prepare({"image": torch.from_numpy(pictures).permute(0, 3, 1, 2)})
    assert ready["idct"].shape == (2, 1, *shape)
    for found, picture in zip(ready["idct"][:, 0].numpy(), pictures, strict=True):
        np.testing.assert_allclose(found, _theirs(picture), atol=2e-6)


def test_what_a_batch_gives_or_was_normalised_before_is_taken_as_it_is(small):
    picture = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8))
    ready = small.prepare({"image": picture})
    torch.testing.assert_close(small.prepare({"image": ready["image"]})["idct"], ready["idct"], atol=1e-6, rtol=0)
    given = torch.rand(1, 1, 64, 64)
    assert torch.equal(small.prepare({"image": picture, "idct": given})["idct"], given)
    with torch.inference_mode():
        answers = [small(batch, inference=True)["cls"] for batch in (ready, {"image": ready["image"]})]
        assert torch.equal(*answers)
        assert not torch.equal(small({"image": ready["image"], "idct": given})["cls"], answers[0])


def _prediction(rng, grid=4, side=16):
    tensors = {"cls": rng.normal(size=(4, 2)), "mask_logit": rng.normal(size=(4, 1, side, side)) * 3}
    return {**{k: torch.tensor(v) for k, v in tensors.items()}, "sim": torch.tensor(rng.random((4, grid**2, grid**2)))}


def _wanted(prediction, mask, label):
    """Return the losses of four samples, the last of them a fake whose mask nobody has, one pixel and one pair at a time."""
    cls, logit, similarity = (prediction[key].numpy() for key in ("cls", "mask_logit", "sim"))
    entropy = np.mean(np.log(np.exp(cls).sum(1)) - cls[np.arange(4), label])
    masks, alike = [], []
    for i in range(3):
        drawn = 1 / (1 + np.exp(-logit[i, 0]))
        masks.append(-np.mean(np.where(mask[i] == 1, np.log(drawn), np.log(1 - drawn))))
        share = [mask[i][4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for r in range(4) for c in range(4)]
        alike.append(
            np.mean([(similarity[i, a, b] - 1 + abs(share[a] - share[b])) ** 2 for a in range(16) for b in range(16)])
        )
    return entropy, np.mean(masks), np.mean(alike)


def test_losses_are_the_papers_and_unknown_masks_count_in_none(small):
    rng = np.random.default_rng(2)
    label, mask = np.array([0, 0, 1, 1]), rng.integers(0, 2, (4, 16, 16))
    mask[[0, 1, 3]] = 0
    prediction = _prediction(rng)
    batch = {"label": torch.tensor(label), "mask": torch.tensor(mask, dtype=torch.uint8).unsqueeze(1)}
    losses = {name: float(value) for name, value in small.get_losses(batch, prediction).items()}
    entropy, drawn, alike = _wanted(prediction, mask, label)
    assert losses == pytest.approx(
        {"overall": entropy + 0.5 * drawn + 2 * alike, "cls": entropy, "mask": drawn, "similarity": alike}, rel=1e-5
    )


def test_each_share_of_a_global_batch_divides_by_its_known_masks(small):
    rng = np.random.default_rng(3)
    batch = {"label": torch.tensor([0, 0, 1, 1]), "mask": torch.zeros(4, 1, 16, 16, dtype=torch.uint8)}
    prediction = {key: value.requires_grad_() for key, value in _prediction(rng).items()}
    assert small.counts(batch)["mask"] == 2
    alone = small.get_losses(batch, prediction)
    shared = small.get_losses({**batch, "counts": {"mask": torch.tensor(3.0)}}, prediction)
    for name in ("mask", "similarity"):
        assert shared[name].item() == pytest.approx(alone[name].item() * 2 / 3)
        (moved,) = torch.autograd.grad(
            alone[name], prediction["mask_logit" if name == "mask" else "sim"], retain_graph=True
        )
        assert torch.equal(moved.flatten(1).any(dim=1), batch["label"] == 0)
    batch["label"][:] = 1
    none = small.get_losses(batch, prediction)
    assert none["mask"] == none["similarity"] == 0
    none["overall"].backward()  # and they still hang together with the network, as other processes' do


def test_attention_weighs_each_place_of_either_stream(small):
    block = small.attention[0]
    colour, frequency = torch.randn(2, 2, 56, 5, 5)
    with torch.no_grad():
        a, b = block(colour, frequency)
        weight = block.weigh(torch.cat((colour, frequency), 1))
    assert weight.shape == (2, 2, 5, 5)
    assert 0 < weight.min() < weight.max() < 1
    torch.testing.assert_close(a, colour * weight[:, :1])
    torch.testing.assert_close(b, frequency * weight[:, 1:])


def test_the_pattern_is_the_cosine_of_every_two_different_patches():
    module = detector_class("lrl")(
        detector_class("lrl").Config(model_name="lrl", resolution=128), pretrained=False
    ).similarity
    features = np.random.default_rng(4).normal(size=(2, 3, 4, 4))
    pattern, similarity = module(torch.tensor(features))
    for found, matrix, of_one in zip(pattern.numpy(), similarity.numpy(), features, strict=True):
        patches = [of_one[:, r : r + 2, c : c + 2].ravel() for r in (0, 2) for c in (0, 2)]
        cosine = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in patches] for a in patches]
        np.testing.assert_allclose(matrix, (np.array(cosine) + 1) / 2, atol=1e-6)
        np.testing.assert_array_equal(found, [matrix[i, j] for i in range(4) for j in range(4) if i != j])


def test_gradients_reach_all_but_the_biases_that_normalisation_takes_out():
    detector = build("lrl", **SMALL)
    check_gradients(detector, face_batch(4, 64))
    still = {name for name, parameter in detector.named_parameters() if not parameter.requires_grad}
    assert still == {f"decoder.{part}.{i}.bias" for part in ("widen", "refine") for i in range(4)}
    features = torch.randn(1, 2008, 2, 2)
    with torch.no_grad():
        before = detector.decoder(features, (64, 64))
        for layer in (*detector.decoder.widen, *detector.decoder.refine):
            layer.bias += 0.5
        torch.testing.assert_close(detector.decoder(features, (64, 64)), before, atol=1e-3, rtol=0)


def test_without_masks_nothing_is_drawn_and_only_the_class_counts():
    config = detector_class("lrl").Config
    detector = build("lrl", **SMALL, with_mask=False, mask_weight=0, similarity_weight=0)
    batch = {key: value for key, value in face_batch(4, 64).items() if key != "mask"}
    assert detector.counts(batch) == {}
    assert set(detector.get_losses(batch, {"cls": torch.zeros(4, 2)})) == {"overall", "cls"}
    assert not any(parameter.requires_grad for parameter in detector.decoder.parameters())
    with pytest.raises(ValueError, match="needs with_mask: true; without masks set mask_weight"):
        config(model_name="lrl", with_mask=False)
    assert config(model_name="lrl", dataset_type="lrl").dataset_type is None  # the field's file
    assert config(model_name="lrl", dataset_type="sbi").dataset_type == "sbi"


@pytest.mark.parametrize("keys", [{"resolution": 64}, {"resolution": 256, "patch": 3}, {"resolution": 256, "patch": 8}])
def test_patches_that_leave_places_over_or_are_alone_are_refused(keys):
    with pytest.raises(ConfigError, match="set `patch` to a divisor"):
        build("lrl", **keys)


def test_the_frequency_stems_kernels_are_those_of_the_colours_together(small, tmp_path):
    state = {key: torch.randn_like(value) for key, value in small.encoder_rgb.state_dict().items() if value.ndim}
    torch.save(state, tmp_path / "b4.pth")
    detector = build("lrl", weights=str(tmp_path / "b4.pth"), **SMALL)
    colour, frequency = detector.encoder_rgb.conv_stem.weight, detector.encoder_idct.conv_stem.weight
    torch.testing.assert_close(colour, state["conv_stem.weight"])
    torch.testing.assert_close(frequency, colour.sum(1, keepdim=True))


@pytest.mark.slow  # two trunks learn at once
def test_learns_a_handful_of_faces():
    detector = build("lrl", **SMALL, backbone_config={"drop_path": 0.0}, drop_rate=0.0)
    assert overfit(detector, face_batch(4, 64), steps=12, lr=1e-3) == 1.0


def test_learns_where_they_were_changed():
    detector, batch = build("lrl", **SMALL).eval(), face_batch(4, 64)
    with torch.no_grad():
        features = detector(batch)["feat"]
    optimizer, found = torch.optim.Adam(detector.decoder.parameters(), lr=5e-3), []
    for _ in range(8):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(detector.decoder(features, (64, 64)), batch["mask"].float())
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert found[-1] < 0.7 * found[0]
