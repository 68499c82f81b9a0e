"""Effort: the reference's numbers, the paper's losses against plain NumPy, and the tuning on other detectors and towers."""

import numpy as np
import pytest
import torch
from helpers.detector_checks import check_gradients, check_losses, check_outputs, overfit
from helpers.faces import face_batch
from helpers.training_runs import check_resume
from parity.fill import fill_state_dict, load_golden
from torch import nn

from common.errors import ConfigError, WeightsError
from training.config import load_config
from training.config.loader import CONFIG_DIR
from training.detectors import build_detector
from training.detectors.registry import config_class
from training.networks.conversion.clip_keys import tower_state
from training.networks.tuning import strategy
from training.networks.tuning.effort import EffortKeys, SplitLinear, split_layers

TINY = {"backbone_name": "tiny", "pretrained": None, "resolution": 32}
KEYS = ("left", "scale", "right")


def build(name="effort", seed=0, **keys):
    """A detector on the tiny tower, decomposed as pre-trained weights would be."""
    torch.manual_seed(seed)
    return build_detector(config_class(name)(model_name=name, **{**TINY, **keys}))


def batch(size=8):
    return {**face_batch(size, 32), "domain": torch.zeros(size, dtype=torch.int64)}


def shaken(detector, amount=0.05):
    """Move the residuals off their start."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for layer in split_layers(detector):
            for name in KEYS:
                value = getattr(layer, name)
                value += amount * torch.randn(value.shape, generator=generator)
    return detector


@pytest.fixture(scope="module")
def reference():
    """ViT-L/14 with the golden's weights under the names of the authors' files, which also hold the frozen factors."""
    config = config_class("effort")(
        model_name="effort", pretrained=None, effort={"orthogonality": 0, "singular_values": 0}
    )
    with torch.device("meta"):
        detector = build_detector(config, pretrained=False)
    detector.to_empty(device="cpu")
    golden = load_golden("effort")
    state = {f"module.{key}": value for key, value in fill_state_dict(golden["keys"]).items()}
    state["module.backbone.encoder.layers.0.self_attn.q_proj.U_r"] = torch.zeros(1024, 1023)
    detector.load_weights(state)
    assert sum(p.numel() for p in detector.parameters()) == golden["params"]
    assert detector.trainable_parameters() == 24 * 4 * (2 * 1024 + 1) + 2 * 1024 + 2
    return detector


@pytest.mark.slow
def test_answers_and_trains_as_the_reference(reference):
    check_outputs(reference, tolerance=1e-4)
    check_losses(reference, {"overall": "overall", "real": "real_loss", "fake": "fake_loss"}, tolerance=1e-4)


def matrices(detector):
    """Yield (layer, part, frozen factors U_r and V_r by a full SVD, the matrix that the layer began with)."""
    start = build(effort=detector.tower.keys.model_dump())
    for layer, first in zip(split_layers(detector), split_layers(start), strict=True):
        parts = len(layer.left)
        for part, (main, whole) in enumerate(zip(first.weight.chunk(parts), first.whole().chunk(parts), strict=True)):
            u, _, vt = np.linalg.svd(main.detach().double().numpy())
            kept = len(u) - layer.scale.shape[1]
            yield layer, part, u[:, :kept], vt[:kept].T, whole.detach().double().numpy()


@pytest.mark.parametrize("rank", [1, 3])
def test_constraints_equal_the_products_written_out(rank):
    detector = shaken(build(effort={"residual_rank": rank, "orthogonality": 0.7, "singular_values": 0.3}))
    orthogonality, norm = [], []
    for layer, part, u_r, v_r, whole in matrices(detector):
        left, scale, right = (getattr(layer, name)[part].detach().double().numpy() for name in KEYS)
        for frozen, trained in ((u_r, left), (v_r, right.T)):
            basis = np.hstack([frozen, trained])
            orthogonality.append(np.square(basis.T @ basis - np.eye(basis.shape[1])).sum())
        now = layer.weight.detach().double().numpy().reshape(-1, *whole.shape)[part] + left @ np.diag(scale) @ right
        norm.append(abs(np.square(now).sum() - np.square(whole).sum()))
    faces = batch()
    prediction = detector(faces)
    losses = {name: value.item() for name, value in detector.get_losses(faces, prediction).items()}
    logits, label = prediction["cls"].detach().double().numpy(), faces["label"].numpy()
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), label]
    wanted = {
        "cls": each.mean(), "real": each[label == 0].mean(), "fake": each[label == 1].mean(),
        "orthogonality": 2 * np.mean(orthogonality), "singular_values": np.mean(norm),
    }  # fmt: skip
    assert wanted["orthogonality"] > 0.1
    assert wanted["singular_values"] > 1e-3
    wanted["overall"] = wanted["cls"] + 0.7 * wanted["orthogonality"] + 0.3 * wanted["singular_values"]
    assert losses == {name: pytest.approx(value, rel=1e-4) for name, value in wanted.items()}


def test_begins_with_the_tower_s_own_weights_and_without_constraints_broken():
    plain, split, faces = build("clip_linear"), build(), batch()
    torch.testing.assert_close(split(faces)["feat"], plain(faces)["feat"], atol=1e-5, rtol=1e-5)
    state = plain.tower.state_dict()
    for number, layers in enumerate(block.attn for block in split.tower.visual.transformer.resblocks):
        for ours, theirs in ((layers.qkv, "in_proj_weight"), (layers.out, "out_proj.weight")):
            torch.testing.assert_close(
                ours.whole(), state[f"visual.transformer.resblocks.{number}.attn.{theirs}"], atol=1e-5, rtol=0
            )
            values = torch.linalg.svdvals(ours.whole().unflatten(0, (len(ours.left), -1)))
            torch.testing.assert_close(ours.scale.detach(), values[:, -1:], atol=1e-5, rtol=1e-4)
    assert all(value.item() < 1e-5 for value, _ in split.tower.constraints().values())


def test_only_residuals_and_head_train_and_all_of_them_do():
    detector = shaken(build())
    check_gradients(detector, batch())
    trained = {name for name, p in detector.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 3 + 2  # blocks × layers × factors, and the head
    assert all(name.rpartition(".")[2] in KEYS or name.startswith("head.") for name in trained)
    before = {name: p.detach().clone() for name, p in detector.named_parameters()}
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=0.01)
    optimizer.step()
    assert {name for name, p in detector.named_parameters() if not torch.equal(p, before[name])} == trained


def test_learns_a_handful_of_faces_within_its_constraints():
    detector = build(backbone_name="demo", resolution=64, effort={"residual_rank": 8})
    assert overfit(detector, face_batch(6, 64), steps=150, lr=0.01) == 1.0
    assert all(value.item() < 1 for value, _ in detector.tower.constraints().values())


def hugging_face_names(rank=1, seed=5):
    """Return random Effort weights of the tiny tower's size under the published names, and the matrices that they mean."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator) * 0.2

    state = {
        "embeddings.class_embedding": normal(32), "embeddings.patch_embedding.weight": normal(32, 3, 8, 8),
        "embeddings.position_embedding.weight": normal(17, 32), "pre_layrnorm.weight": normal(32),
        "pre_layrnorm.bias": normal(32), "post_layernorm.weight": normal(32), "post_layernorm.bias": normal(32),
    }  # fmt: skip
    plain = {}
    width = 64  # the tiny tower's MLP
    for stem in ("encoder.layers.0.", "encoder.layers.1."):
        for norm in (1, 2):
            state |= {f"{stem}layer_norm{norm}.{leaf}": normal(32) for leaf in ("weight", "bias")}
        state |= {f"{stem}mlp.fc1.weight": normal(width, 32), f"{stem}mlp.fc1.bias": normal(width)}
        state |= {f"{stem}mlp.fc2.weight": normal(32, width), f"{stem}mlp.fc2.bias": normal(32)}
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            left, values, right = torch.linalg.svd(normal(32, 32))
            values[-rank:] = 0
            main, u, s, v = left @ torch.diag(values) @ right, normal(32, rank), normal(rank), normal(rank, 32)
            full = f"{stem}self_attn.{name}"
            state |= {f"{full}.weight_main": main, f"{full}.bias": normal(32)}
            state |= {f"{full}.U_residual": u, f"{full}.S_residual": s, f"{full}.V_residual": v}
            plain |= {f"{full}.weight": main + u @ torch.diag(s) @ v, f"{full}.bias": state[f"{full}.bias"]}
    common = {key: value for key, value in state.items() if "self_attn" not in key}
    head = {"head.weight": normal(2, 32), "head.bias": normal(2)}
    return state, {**common, **plain}, head


@pytest.mark.parametrize("prefix", ["backbone.", "module.backbone."])
def test_published_names_mean_the_same_matrices(prefix):
    state, plain, head = hugging_face_names()
    split, whole, faces = build(), build("clip_linear"), batch()
    outer = prefix.removesuffix("backbone.")
    split.load_weights({prefix + k: v for k, v in state.items()} | {outer + k: v for k, v in head.items()})
    whole.tower.visual.load_state_dict(tower_state(plain), strict=False)
    torch.testing.assert_close(split.eval()(faces)["feat"], whole.eval()(faces)["feat"], atol=1e-4, rtol=1e-4)
    assert torch.equal(split.head.weight, head["head.weight"])
    # Training goes on from there: the directions are found from the principal part, the norm counts from here.
    losses = {name: value.item() for name, (value, _) in split.tower.constraints().items()}
    assert losses["singular_values"] < 1e-5
    u, _, vt = (f.double().numpy() for f in torch.linalg.svd(state["encoder.layers.1.self_attn.out_proj.weight_main"]))
    stem = "encoder.layers.1.self_attn.out_proj."
    wanted = 0
    for frozen, name in ((u[:, :31], "U_residual"), (vt[:31].T, "V_residual")):
        trained = state[stem + name].double().numpy().reshape(32, 1)
        basis = np.hstack([frozen, trained])
        wanted += np.square(basis.T @ basis - np.eye(32)).sum()
    found = split.tower.visual.transformer.resblocks[1].attn.out.orthogonality()
    assert found.item() == pytest.approx(wanted, rel=1e-4)
    del state["encoder.layers.1.self_attn.v_proj.S_residual"]
    with pytest.raises(WeightsError, match=r"layers\.1\.self_attn\.v_proj\.S_residual"):
        build().load_weights({prefix + k: v for k, v in state.items()} | head)


@pytest.mark.parametrize("name", ["clip", "clip_linear", "clip_ln", "clip_crossdomain"])
def test_other_detectors_take_the_tuning_and_its_losses(name):
    detector = shaken(build(name, tuning="effort", effort={"orthogonality": 0.5, "singular_values": 0.25}))
    detector.train()
    faces = batch()
    losses = detector.get_losses(faces, detector(faces))
    weighed = {n: v.item() * w for n, (v, w) in detector.tower.constraints().items()}
    assert set(weighed) == {"orthogonality", "singular_values"} < set(losses)
    detector.tower.keys.orthogonality = detector.tower.keys.singular_values = 0
    torch.manual_seed(0)
    with_them, without = losses["overall"], detector.get_losses(faces, detector(faces))
    if name != "clip_crossdomain" and name != "clip_ln":  # whose slerp draws anew
        assert (with_them - without["overall"]).item() == pytest.approx(sum(weighed.values()), rel=1e-3)
    with_them.backward()
    for layer in split_layers(detector):
        assert all(getattr(layer, key).grad.abs().sum() > 0 for key in KEYS)
        assert layer.weight.grad is None


def test_merging_gives_the_plain_tower_back():
    detector, faces = shaken(build()).eval(), batch()
    before = detector(faces)["cls"]
    detector.merge()
    torch.testing.assert_close(detector(faces)["cls"], before, atol=1e-5, rtol=1e-5)
    plain = build("clip_linear", seed=9).eval()
    plain.load_weights(detector.state_dict())
    torch.testing.assert_close(plain(faces)["cls"], before, atol=1e-5, rtol=1e-5)
    assert not plain.tower.constraints()


def test_what_trained_is_kept_alone_and_finds_its_tower_again(tmp_path):
    torch.save(build("clip_linear", seed=4).tower.visual.state_dict(), tmp_path / "tower.pth")
    keys = {"pretrained": str(tmp_path / "tower.pth")}
    detector, faces = shaken(build(**keys)).eval(), batch()
    detector.save_trained(tmp_path / "small.pth")
    torch.save({"model": detector.state_dict()}, tmp_path / "whole.pth")
    names = torch.load(tmp_path / "small.pth", weights_only=True)["state_dict"].keys()
    assert not any(name.endswith("attn.qkv.weight") for name in names)
    # As test.py and predict.py do: nothing pre-trained is loaded before the file is.
    torch.manual_seed(8)
    again = build_detector(detector.config, pretrained=False).eval()
    again.load_weights(tmp_path / "small.pth")
    torch.testing.assert_close(again(faces)["cls"], detector(faces)["cls"], atol=1e-5, rtol=1e-5)
    with pytest.raises(WeightsError, match="another tower than `pretrained: None`"):
        build(seed=5).load_weights(tmp_path / "small.pth")


class Attention(nn.Module):
    """As timm writes it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj((q @ k.mT).softmax(-1) @ v)


def test_towers_of_other_libraries_are_split_too():
    torch.manual_seed(0)
    network, x = nn.Sequential(Attention(), nn.MultiheadAttention(16, 2)), torch.randn(2, 5, 16)
    before = network[0](x)
    network.requires_grad_(False)
    strategy("effort").apply(network, EffortKeys(), trained=True)
    torch.testing.assert_close(network[0](x), before, atol=1e-5, rtol=1e-5)
    assert [len(layer.left) for layer in split_layers(network)] == [3, 1, 3, 1]
    with pytest.raises(ConfigError, match="no attention"):
        strategy("effort").apply(nn.Sequential(nn.Linear(4, 4)), EffortKeys(), trained=True)


def test_matrices_need_not_be_square():
    torch.manual_seed(0)
    linear, x = nn.Linear(12, 20), torch.randn(3, 12)
    layer = SplitLinear(linear, 1, 2, trained=True)
    torch.testing.assert_close(layer(x), linear(x), atol=1e-5, rtol=1e-5)
    assert (layer.orthogonality() + layer.singular_values()).item() < 1e-6
    u, _, vt = np.linalg.svd(linear.weight.detach().double().numpy())
    with torch.no_grad():
        layer.left += 0.1 * torch.randn(layer.left.shape)
    wanted = 0
    for frozen, trained in ((u[:, :10], layer.left[0]), (vt[:10].T, layer.right[0].T)):
        basis = np.hstack([frozen, trained.detach().double().numpy()])
        wanted += np.square(basis.T @ basis - np.eye(12)).sum()
    assert layer.orthogonality().item() == pytest.approx(wanted, rel=1e-4)


def test_pefts_osf_would_only_let_lengths_train():
    """Why the project has layers of its own."""
    from peft import OSFConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(nn.Sequential(nn.Linear(8, 8)), OSFConfig(target_modules=["0"], effective_rank=7))
    model(torch.randn(4, 8)).square().sum().backward()
    named = dict(model.named_parameters())
    for name in ("U_low", "V_low"):
        found = next(p for key, p in named.items() if key.endswith(name))
        direction, gradient = found.detach().flatten(), found.grad.flatten()
        along = (gradient @ direction) * direction
        torch.testing.assert_close(gradient, along, atol=1e-4, rtol=1e-4)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    check_resume(tmp_path, "effort", 9, 4, backbone_name="tiny", optimizer={"type": "adam", "adam": {"lr": 0.01}})


def test_mistakes_are_said():
    with pytest.raises(ConfigError, match="residual_rank 32 leaves no principal part of 32×32"):
        build(effort={"residual_rank": 32})
    with pytest.raises(ConfigError, match="did you mean `effort`"):
        load_config(CONFIG_DIR / "detector" / "effort.yaml", ["tuning=efort"])


def test_its_files_and_the_field_s_load(tmp_path):
    paper = load_config(CONFIG_DIR / "detector" / "effort.yaml")
    assert (paper.tuning, paper.effort.orthogonality, paper.effort.singular_values) == ("effort", 1, 1)
    benchmark = load_config(CONFIG_DIR / "detector" / "effort_benchmark.yaml")
    assert (benchmark.model_name, benchmark.effort.orthogonality, benchmark.effort.singular_values) == ("effort", 0, 0)
    path = tmp_path / "effort.yaml"
    path.write_text("pretrained: 'no need to provide this'\nmodel_name: effort\nbackbone_name: vit\n")
    config = load_config(path, quiet=True)
    assert (config.backbone_name, config.pretrained) == ("ViT-L-14", "openai")
