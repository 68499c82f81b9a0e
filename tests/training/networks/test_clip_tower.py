"""The CLIP tower: its tokens, injected residuals, what trains, and where weights come from."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.errors import ConfigError, WeightsError
from training.networks import clip_tower, weights
from training.networks.clip_names import openai_tower
from training.networks.clip_tower import ClipConfig, ClipTower, build_clip_tower
from training.networks.low_rank import LoraConfig


def config(**keys):
    given = {"model_name": "clip_ln", "backbone_name": "tiny", "pretrained": None, "resolution": 32, "tuning": "full"}
    return ClipConfig(**{**given, **keys})


def tower(seed=0, **keys) -> ClipTower:
    torch.manual_seed(seed)
    return build_clip_tower(config(**keys))


def images(*shape, seed=1):
    return torch.randn(shape or (2, 3, 32, 32), generator=torch.Generator().manual_seed(seed))


def test_tokens_are_those_of_open_clip():
    ours, x = tower().eval(), images()
    ours.visual.output_tokens = True
    pooled, patches = ours.visual(x)
    cls, tokens = ours(x)
    torch.testing.assert_close(cls, pooled)
    torch.testing.assert_close(tokens, patches)
    assert tokens.shape == (2, 16, 32)
    assert ours.grid(x) == (4, 4)


@pytest.mark.parametrize(
    ("name", "width", "depth", "patch"),
    [("ViT-B-16", 768, 12, 16), ("ViT-B-32", 768, 12, 32), ("ViT-L-14", 1024, 24, 14), ("ViT-L-14-336", 1024, 24, 14)],
)
def test_published_towers_have_their_shapes_and_quick_gelu(name, width, depth, patch):
    with torch.device("meta"):
        found = ClipTower(*clip_tower._shape_of(name, "openai"))
    assert (found.width, found.depth, found.patch) == (width, depth, patch)
    assert type(found.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def test_layernorm_tuning_of_vit_l_14_trains_three_in_ten_thousand():
    with torch.device("meta"):
        found = ClipTower(*clip_tower._shape_of("ViT-L-14", "openai"))
    found.tune("layernorm")
    share = sum(p.numel() for p in found.parameters() if p.requires_grad) / sum(p.numel() for p in found.parameters())
    assert share == pytest.approx(0.0003, abs=0.00005)


def test_without_residuals_or_with_zero_ones_nothing_changes_at_all():
    plain, x = tower().eval(), images()
    zero = {0: torch.zeros(2, 16, 32), 1: torch.zeros(2, 16, 32)}
    for a, b in zip(plain(x), plain(x, zero), strict=True):
        assert torch.equal(a, b)


def test_a_residual_joins_the_patch_tokens_before_its_block():
    plain, x, residual = tower().eval(), images(), images(2, 16, 32, seed=3)
    seen = {}
    block = plain.visual.transformer.resblocks[1]
    handle = block.register_forward_pre_hook(lambda _, args: seen.setdefault("before", args[0].detach()))
    plain(x)
    handle.remove()
    tokens = seen["before"].clone()
    tokens[:, 1:] += residual
    wanted = plain.visual.ln_post(block(tokens))
    cls, patches = plain(x, {1: residual})
    torch.testing.assert_close(cls, wanted[:, 0])
    torch.testing.assert_close(patches, wanted[:, 1:])


def test_a_frozen_tower_stays_in_evaluation_but_lets_residuals_learn():
    frozen = tower(tuning="none")
    detector = nn.ModuleList([frozen, nn.Dropout(0.5)]).train()
    assert detector[1].training
    assert not any(module.training for module in frozen.modules())
    cls, _ = frozen(images())
    assert not cls.requires_grad
    residual = torch.zeros(2, 16, 32, requires_grad=True)
    frozen(images(), {0: residual})[0].mul(images(2, 32, seed=8)).sum().backward()
    assert residual.grad.abs().sum() > 0
    assert all(p.grad is None for p in frozen.parameters())


def test_checkpointing_changes_neither_outputs_nor_gradients():
    plain, saving = tower(), tower(grad_checkpointing=True)
    for network in (plain, saving):
        network.train()
        network(images())[0].mul(images(2, 32, seed=8)).sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_position_embeddings_stretch_to_other_resolutions():
    ours = tower().eval()
    with torch.no_grad():
        rows = torch.arange(4.0).repeat_interleave(4)  # a ramp from top to bottom stays one
        ours.visual.positional_embedding[1:] = rows[:, None]
    stretched = ours._positions((8, 8))[1:].reshape(8, 8, -1)
    assert (stretched[1:, :, 0] > stretched[:-1, :, 0]).all()
    assert torch.allclose(stretched[:, 0], stretched[:, 7], atol=1e-5)
    assert torch.equal(ours._positions((4, 4)), ours.visual.positional_embedding)
    cls, patches = ours(images(1, 3, 48, 64))
    assert patches.shape == (1, 6 * 8, 32)
    assert torch.isfinite(cls).all()


@pytest.mark.parametrize("tuning", ["none", "layernorm", "bias", "full"])
def test_tuning_chooses_what_trains(tuning):
    ours = tower(tuning=tuning)
    norms = {
        f"{name}.{part}"
        for name, m in ours.named_modules()
        if isinstance(m, nn.LayerNorm)
        for part in ("weight", "bias")
    }
    every = {name for name, _ in ours.named_parameters()}
    wanted = {"none": set(), "layernorm": norms, "bias": {n for n in every if n.endswith("bias")}, "full": every}
    assert {name for name, p in ours.named_parameters() if p.requires_grad} == wanted[tuning]


def low_rank(seed=0, **keys):
    return tower(seed, tuning="lora", lora=LoraConfig(rank=3, alpha=6.0, **keys))


def test_low_rank_updates_begin_silent_and_reach_every_matrix():
    plain, adapted, x = tower().eval(), low_rank().eval(), images()
    for a, b in zip(plain(x), adapted(x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    trained = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 4 * 2  # blocks × matrices × (A, B)
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    adapted(x)[0].mul(images(2, 32, seed=8)).sum().backward()
    for name, p in adapted.named_parameters():
        assert (p.grad is not None and p.grad.abs().sum() > 0) == ("lora_" in name), name


def test_low_rank_updates_equal_the_tower_with_the_sums_written_out():
    adapted, x = low_rank().eval(), images()
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_B" in name:
                p.normal_(std=0.1)
    named = dict(adapted.named_parameters())
    plain = tower().eval()
    places = {"attn.qkv": "attn.in_proj_weight", "attn.out": "attn.out_proj.weight", "mlp.c_fc": "mlp.c_fc.weight",
              "mlp.c_proj": "mlp.c_proj.weight"}  # fmt: skip
    state = plain.state_dict()
    for number in (0, 1):
        for ours, theirs in places.items():
            stem = f"visual.transformer.resblocks.{number}.{ours}"
            update = named[f"{stem}.lora_B.default.weight"] @ named[f"{stem}.lora_A.default.weight"]
            state[f"visual.transformer.resblocks.{number}.{theirs}"] += 6.0 / 3 * update.detach()
    plain.load_state_dict(state)
    wanted = plain(x)[0]
    assert (wanted - tower().eval()(x)[0]).abs().max() > 1e-2
    torch.testing.assert_close(adapted(x)[0], wanted, atol=1e-5, rtol=1e-5)
    adapted.merge()
    assert list(adapted.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(adapted(x)[0], wanted, atol=1e-5, rtol=1e-5)


def test_training_low_rank_updates_leaves_the_matrices_untouched():
    adapted = low_rank().train()
    before = {n: p.detach().clone() for n, p in adapted.named_parameters() if "lora_" not in n}
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        adapted(images(seed=step))[0].mul(images(2, 32, seed=8)).sum().backward()
        optimizer.step()
    assert all(torch.equal(p, before[n]) for n, p in adapted.named_parameters() if "lora_" not in n)


def hugging_face(size=32):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(5)
    shape = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=size, patch_size=8,
        hidden_act="quick_gelu", attn_implementation="eager",
    )  # fmt: skip
    return CLIPVisionModel(shape).eval()


@pytest.mark.parametrize("prefix", ["", "vision_model.", "backbone.", "feature_extractor.vision_model."])
def test_hugging_face_weights_give_hugging_face_tokens(prefix, tmp_path):
    theirs, x = hugging_face(), images()
    bare = {key.removeprefix("vision_model."): value for key, value in theirs.state_dict().items()}
    state = {prefix + key: value for key, value in bare.items()}
    if prefix:
        state["visual_projection.weight"] = torch.zeros(4, 32)
    torch.save(state, tmp_path / "clip.pth")
    with torch.no_grad():
        answer = theirs(pixel_values=x)
        cls, patches = tower(pretrained=str(tmp_path / "clip.pth")).eval()(x)
        pooled = answer.pooler_output
        vision = getattr(theirs, "vision_model", theirs)
        wanted = vision.post_layernorm(answer.last_hidden_state)[:, 1:]
    torch.testing.assert_close(cls, pooled, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(patches, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_open_clip_files_load_whole_or_bare(suffix, tmp_path):
    source, x = tower(seed=9).eval(), images()
    whole = {f"visual.{k}": v for k, v in source.visual.state_dict().items()}
    whole |= {
        "visual.proj": torch.zeros(32, 32),
        "logit_scale": torch.zeros(()),
        "token_embedding.weight": torch.ones(3, 4),
    }
    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in whole.items()}, path)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in whole.items()}}, path)
    assert torch.equal(tower(pretrained=str(path)).eval()(x)[0], source(x)[0])
    torch.save(source.visual.state_dict(), tmp_path / "bare.pt")
    assert torch.equal(tower(pretrained=str(tmp_path / "bare.pt")).eval()(x)[0], source(x)[0])


def test_weights_of_another_tower_are_refused(tmp_path):
    torch.save(tower(backbone_name="demo", resolution=96).visual.state_dict(), tmp_path / "demo.pt")
    with pytest.raises(WeightsError, match="shape"):
        tower(pretrained=str(tmp_path / "demo.pt"))


def test_unknown_tags_and_backbones_are_named():
    with pytest.raises(WeightsError, match="laion400m"):
        tower(backbone_name="ViT-B-32", resolution=224, pretrained="opnai")
    with pytest.raises(ConfigError, match="ViT-L-14"):
        tower(backbone_name="ViT-XL")
    with pytest.raises(ConfigError, match="use 32"):
        tower(resolution=33)


def test_a_tag_that_cannot_be_fetched_says_which_file_to_put_where(monkeypatch, tmp_path):
    import open_clip

    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip, "download_pretrained", no_network)
    monkeypatch.setattr(clip_tower, "PRETRAINED_DIR", tmp_path)
    with pytest.raises(WeightsError, match=r"put them as .*ViT-B-32\.safetensors"):
        clip_tower._weights_of("ViT-B-32", "openai")
    (tmp_path / "ViT-B-32.pt").touch()
    assert clip_tower._weights_of("ViT-B-32", "openai") == tmp_path / "ViT-B-32.pt"


@pytest.mark.parametrize(
    "name",
    ["ViT-L/14", "ViT-L-14", "vit_l_14", "openai/clip-vit-large-patch14", "hf-hub:openai/clip-vit-large-patch14"],
)
def test_names_of_other_places_mean_the_tower(name, tmp_path, monkeypatch):
    assert config(backbone_name=name).backbone_name == "ViT-L-14"
    assert openai_tower("ViT-L/14@336px") == openai_tower("openai/clip-vit-large-patch14-336") == "ViT-L-14-336"
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path)
    monkeypatch.setattr(clip_tower, "PRETRAINED_DIR", tmp_path)
    (tmp_path / "ViT-L-14.pt").touch()
    assert clip_tower.local_tower("ViT-L-14", name) == tmp_path / "ViT-L-14.pt"
    with pytest.raises(
        WeightsError, match="is the tower ViT-L-14, and backbone_name is ViT-B-16; set backbone_name to ViT-L-14"
    ):
        clip_tower._weights_of("ViT-B-16", name)


def test_openais_own_file_names_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path)
    monkeypatch.setattr(clip_tower, "PRETRAINED_DIR", tmp_path)
    for backbone, file in (
        ("ViT-L-14", "ViT-L-14.pt"),
        ("ViT-L-14-336", "ViT-L-14-336px.pt"),
        ("ViT-B-16", "ViT-B-16.pt"),
    ):
        assert clip_tower.local_tower(backbone, "openai") is None
        (tmp_path / file).touch()
        assert clip_tower.local_tower(backbone, "openai") == tmp_path / file
    assert clip_tower.local_tower("ViT-B-32", "openai") is None


@pytest.mark.parametrize("layout", ["model.safetensors", "pytorch_model.bin", "snapshots/0f/model.safetensors"])
def test_a_hugging_face_folder_is_read(tmp_path, layout, monkeypatch):
    theirs, x = hugging_face(), images()
    path = tmp_path / "clip-vit" / layout
    path.parent.mkdir(parents=True)
    (save_file if path.suffix == ".safetensors" else torch.save)(theirs.state_dict(), path)
    with torch.no_grad():
        wanted = theirs(pixel_values=x).pooler_output
        torch.testing.assert_close(
            tower(pretrained=str(tmp_path / "clip-vit")).eval()(x)[0], wanted, atol=2e-5, rtol=1e-4
        )
    monkeypatch.setattr(weights, "PRETRAINED_DIR", tmp_path)
    assert clip_tower.local_tower("tiny", "someone/clip-vit") == path


def test_weights_of_another_known_tower_name_the_backbone(tmp_path):
    torch.save(tower(backbone_name="demo", resolution=96).visual.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(
        WeightsError, match=r"weights\.pt holds the tower demo, and backbone_name is tiny; set backbone_name to demo"
    ):
        tower(pretrained=str(tmp_path / "weights.pt"))


@pytest.mark.parametrize(("tuning", "said"), [("none", True), ("layernorm", True), ("lora", True), ("full", False)])
def test_a_tower_that_stays_random_is_said(tuning, said, caplog):
    tower(tuning=tuning)
    assert ("keeps the random weights" in caplog.text) == said
    caplog.clear()
    build_clip_tower(config(tuning=tuning), pretrained=False)  # a checkpoint follows
    assert "random" not in caplog.text
