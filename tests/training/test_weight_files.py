"""Weight files: whole or not at all, and nothing in them is executed."""

import pickle

import pytest
import torch
from torch import nn

from common.errors import WeightsError
from training.networks.weights import assign_state, read_state, rename


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module."])
def test_wrappers_and_prefixes_come_off(tmp_path, wrap, prefix):
    source = network()
    torch.save(wrap({prefix + k: v for k, v in source.state_dict().items()}), tmp_path / "w.pth")
    target = network()
    nn.init.zeros_(target[0].weight)
    assign_state(target, read_state(tmp_path / "w.pth"), "w.pth")
    assert torch.equal(target[0].weight, source[0].weight)


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
