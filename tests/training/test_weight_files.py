"""Weight files: whole or not at all, and nothing in them is executed."""

import gzip
import json
import pickle
import tarfile
import zipfile

import pytest
import torch
from torch import nn

from common.errors import WeightsError
from training.networks.weights import assign_state, read_state, rename, unwrap_state
from training.trainer.checkpoint import read_checkpoint


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "module.module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "detector.",
     "model.net.", "_fsdp_wrapped_module.", "module.model._orig_mod."],
)  # fmt: skip
def test_wrappers_and_prefixes_come_off(tmp_path, wrap, prefix):
    source = network()
    torch.save(wrap({prefix + k: v for k, v in source.state_dict().items()}), tmp_path / "w.pth")
    target = network()
    nn.init.zeros_(target[0].weight)
    assign_state(target, read_state(tmp_path / "w.pth"), "w.pth")
    assert torch.equal(target[0].weight, source[0].weight)


PLACES = ("model_state", "teacher", "student", "weights", "state_dict_ema", "model_ema", "ema", "net", "network", "params",
          "generator", "checkpoint")  # fmt: skip


@pytest.mark.parametrize("place", [*PLACES, "checkpoint.ema", "outer.inner.state", "model.model"])
def test_the_one_network_in_a_checkpoint_is_found_wherever_it_stands(tmp_path, place):
    source = network()
    optimizer = torch.optim.Adam(source.parameters())
    source(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    content = source.state_dict()
    for key in reversed(place.split(".")):
        content = {key: content, "epoch": 3, "loss": torch.tensor(0.5)}
    content |= {"optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "best": {"auc": torch.tensor(0.9)}}
    torch.save(content, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == source.state_dict().keys()


def test_the_usual_place_comes_before_others_and_the_log_says_so(caplog):
    one, other = network().state_dict(), {key: value + 1 for key, value in network().state_dict().items()}
    with caplog.at_level("INFO", "clipdeepfake"):
        found = unwrap_state({"state_dict_ema": other, "state_dict": one})
    assert torch.equal(found["0.weight"], one["0.weight"])
    assert "`state_dict` is taken, not `state_dict_ema`" in caplog.text


def test_several_networks_are_listed_not_guessed():
    content = {"teacher": network().state_dict(), "student": network().state_dict(), "step": 3}
    with pytest.raises(
        WeightsError, match=r"several networks: `teacher` \(9 tensors\), `student` \(9 tensors\); save the one"
    ):
        unwrap_state(content, "both.pth")


def test_torchs_averaged_model_and_compiled_parts():
    source = network()
    averaged = torch.optim.swa_utils.AveragedModel(source)
    assert unwrap_state(averaged.state_dict()).keys() == source.state_dict().keys()
    inside = {f"backbone._orig_mod.{key}": value for key, value in source.state_dict().items()}
    assert unwrap_state(inside).keys() == {f"backbone.{key}" for key in source.state_dict()}


def test_a_checkpoint_that_contains_itself_ends():
    content = {"epoch": torch.tensor(3)}
    content["model"] = content["teacher"] = content
    unwrap_state(content)
    empty = {"epoch": 3}
    empty["model"] = empty
    with pytest.raises(WeightsError, match="holds no tensors"):
        unwrap_state(empty)


def test_a_prefix_stays_where_the_rest_would_not_fit_better():
    target = nn.ModuleDict({"net": network()})
    assign_state(target, target.state_dict(), "f")
    foreign = {f"model.{key}": value for key, value in nn.Linear(2, 2).state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"begin `model\.weight`, `model\.bias`, this network's `0\.weight`, `0\.bias`"
    ):
        assign_state(network(), foreign, "f")


def test_foreign_names_behind_a_prefix_are_translated():
    target = network()
    foreign = {f"detector.net.{k}": v + 1 for k, v in network().state_dict().items() if "num_batches" not in k}
    assign_state(
        target,
        foreign,
        "f",
        convert=lambda s: {k.replace("net.", "", 1): v for k, v in s.items() if k.startswith("net.")},
    )
    assert torch.equal(target[0].weight, network()[0].weight + 1)


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    save_file(network().state_dict(), tmp_path / "w.safetensors")
    assert torch.equal(read_state(tmp_path / "w.safetensors")["0.weight"], network()[0].weight)


class _Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("owned",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": _Evil()}))
    torch.save({"state_dict": _Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(WeightsError, match="may run code"):
            read_state(tmp_path / name)
    assert not (tmp_path / "owned").exists()


HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body></body></html>"
KINDS = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 83\n", "Git-LFS pointer.*git lfs pull"),
    "page": (HTML, "web page"),
    "page with a mark": (b"\xef\xbb\xbf\n <HTML>", "web page"),
    "server's answer": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "web page"),
    "text": (b"404: Not Found", "text that begins `404: Not Found`"),
    "json": (b'{"architectures": ["CLIPModel"]}', "text that begins"),
    "empty": (b"", "empty"),
    "zeros": (bytes(4096), "zeros"),
    "gzip": (gzip.compress(b"x" * 100), "gzip archive; unpack"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(3000), "HDF5"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(3000), "NumPy"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_weight_file_is_told_what_it_is(tmp_path, kind, suffix):
    data, match = KINDS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=match) as caught:
        read_state(path)
    assert str(caught.value).startswith(f"{path} is refused: it ")
    # A checkpoint to go on from is told the same.
    with pytest.raises(WeightsError, match=match):
        read_checkpoint(path)


def test_archives_of_something_are_told_what_they_hold(tmp_path):
    torch.save(network().state_dict(), tmp_path / "inner.pth")
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as out:
        out.write(tmp_path / "inner.pth", "folder/inner.pth")
    with pytest.raises(WeightsError, match=r"zip archive that holds `folder/inner\.pth`; unpack it"):
        read_state(tmp_path / "w.pth")
    with tarfile.open(tmp_path / "t.pth", "w") as out:
        out.add(tmp_path / "inner.pth", "inner.pth")
    with pytest.raises(WeightsError, match="tar archive; unpack it"):
        read_state(tmp_path / "t.pth")


def test_safetensors_under_another_ending_and_shards(tmp_path):
    from safetensors.torch import save_file

    state = network().state_dict()
    save_file(state, tmp_path / "w.bin")
    assert read_state(tmp_path / "w.bin").keys() == state.keys()
    folder = tmp_path / "hub"
    folder.mkdir()
    names = {key: f"model-0000{1 + key.startswith('2')}-of-00002.safetensors" for key in state}
    for shard in set(names.values()):
        save_file({key: value for key, value in state.items() if names[key] == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    for path in (folder, index):
        assert read_state(path).keys() == state.keys()
    index.write_text(json.dumps({"weight_map": {"a": "../w.bin"}}))
    with pytest.raises(WeightsError, match="leads out of its folder"):
        read_state(folder)
    with pytest.raises(WeightsError, match=r"holds none of model\.safetensors"):
        read_state(tmp_path)


def test_missing_truncated_and_empty_files(tmp_path):
    with pytest.raises(WeightsError, match="no such weight file"):
        read_state(tmp_path / "nowhere.pth")
    torch.save(network().state_dict(), tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"half\.pth"):
        read_state(tmp_path / "half.pth")
    torch.save({}, tmp_path / "empty.pth")
    with pytest.raises(WeightsError, match=r"no state_dict|no tensors"):
        read_state(tmp_path / "empty.pth")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.pop("2.bias"), "1 of 9 tensors are missing, first `2.bias`"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "first `extra.weight`"),
        (lambda s: s.update({"0.weight": torch.zeros(4, 5)}), r"shape (4, 5) there and (4, 3) here"),
    ],
)
def test_misfits_are_named_and_nothing_is_loaded(change, expected):
    target = network()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    state = {k: v + 1 for k, v in network().state_dict().items()}
    change(state)
    with pytest.raises(WeightsError) as caught:
        assign_state(target, state, "file.pth")
    assert expected in str(caught.value)
    assert "file.pth" in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_declared_parts_may_be_missing_or_ignored():
    target = network()
    state = network().state_dict()
    del state["2.bias"]
    state["head.weight"] = torch.zeros(2)
    assign_state(target, state, "f", may_miss=[r"^2\.bias$"], may_ignore=[r"^head\."])


def test_foreign_names_are_translated():
    target = network()
    foreign = {f"net.{k}": v for k, v in network().state_dict().items()}
    assign_state(target, foreign, "f", convert=lambda s: rename(s, [(r"^net\.(.*)", r"\1")]))
    with pytest.raises(WeightsError):
        assign_state(target, {"other.weight": torch.zeros(1)}, "f", convert=lambda s: rename(s, [(r"^net\.", "")]))


@pytest.mark.parametrize("word", ["model", "state_dict"])
def test_a_file_that_holds_itself_is_refused(tmp_path, word):
    content = {"epoch": 3}
    content[word] = content
    torch.save(content, tmp_path / "self.pth")
    with pytest.raises(WeightsError, match=r"self\.pth"):
        read_state(tmp_path / "self.pth")


def test_wrappers_of_wrappers_come_off(tmp_path):
    state = network().state_dict()
    torch.save({"model": {"state_dict": {"net": state}}}, tmp_path / "three.pth")
    assert read_state(tmp_path / "three.pth").keys() == state.keys()
