"""Archives of torch.jit.save and files with plain data beside their tensors are read; what is made to do harm is refused."""

import argparse
import collections
import datetime
import decimal
import io
import os
import pathlib
import pickle
import struct
import sys
import types
import uuid
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import WeightsError
from training.networks import torch_archive
from training.networks.clip_tower import ClipConfig, build_clip_tower
from training.networks.weights import read_state


def tower(**keys):
    torch.manual_seed(4)
    given = {"model_name": "clip_ln", "backbone_name": "tiny", "pretrained": None, "resolution": 32, "tuning": "full"}
    return build_clip_tower(ClipConfig(**{**given, **keys}))


class Whole(nn.Module):
    """CLIP as OpenAI publishes it: a visual tower, the text's parts, and settings among the buffers."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.token_embedding = nn.Embedding(3, 4)
        self.text_projection = nn.Parameter(torch.ones(4, 4))
        for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 3)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image):
        return self.visual(image)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A tower, and an archive of torch.jit.save with its weights in half precision."""
    source = tower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Whole(source.visual).eval(), torch.zeros(1, 3, 32, 32), check_trace=False)
        path = tmp_path_factory.mktemp("clip") / "ViT-tiny.pt"
        torch.jit.save(traced.half(), path)
    return source, path


def test_a_script_archive_gives_its_tensors_and_runs_nothing(script, monkeypatch):
    source, path = script
    for name in ("load", "_script"):
        monkeypatch.setattr(torch.jit, name, lambda *_, **__: pytest.fail("the archive's code was run"))
    state = read_state(path)
    assert {"input_resolution", "logit_scale", "visual.class_embedding", "visual.conv1.weight"} <= state.keys()
    for key, value in source.visual.state_dict().items():
        torch.testing.assert_close(state[f"visual.{key}"], value.half())


def test_the_tower_is_taken_out_of_it_in_full_precision(script):
    source, path = script
    loaded = tower(pretrained=str(path))
    for name, value in loaded.visual.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, source.visual.state_dict()[name].half().float())


def rewritten(path, target, change):
    """Copy a zip archive; `change` gets each part's name and content and returns them, maybe other ones, or None."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            part = change(info.filename, old.read(info))
            if part is not None:
                new.writestr(*part)
    return target


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


class Evil:
    """A pickle of it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_code_in_an_archive_is_refused_and_not_run(script, tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    evil = pickle.dumps(Evil(), protocol)
    swapped = lambda name, data: (name, evil if name.endswith("/data.pkl") else data)  # noqa: E731
    refused(rewritten(script[1], tmp_path / "evil.pt", swapped), "may run code .it names `(posix|nt).mkdir`")
    torch.save({"w": torch.ones(2), "note": Evil()}, tmp_path / "beside.pth")
    refused(tmp_path / "beside.pth", "may run code .it names `(posix|nt).mkdir`")
    torch.save({"w": torch.ones(2), "note": Evil()}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    refused(tmp_path / "old.pth", "may run code")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("code", [b"cbuiltins\neval\n(S'1'\ntR.", b"cos\nsystem\n(S'true'\ntR.", b"c__main__\nx\n.",
                                  b"cbuiltins\ngetattr\n.", b"cnumpy.testing\nx\n(tRcos\nsystem\n(S'true'\ntR."])  # fmt: skip
def test_no_name_leads_to_a_function(script, tmp_path, code, monkeypatch):
    monkeypatch.setattr(os, "system", lambda _: pytest.fail("ran"))
    before = set(sys.modules)
    swapped = lambda name, data: (name, code if name.endswith("/data.pkl") else data)  # noqa: E731
    with pytest.raises(WeightsError):
        read_state(rewritten(script[1], tmp_path / "evil.pt", swapped))
    assert "numpy.testing" not in set(sys.modules) - before


def archive(path, *, shape=(2, 3), stride=(3, 1), count=6, key="0", data=None, compress=zipfile.ZIP_STORED, more=()):
    """Write a script archive of one module with one tensor, as told."""
    pickled = io.BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Storage) else None

    class Storage:
        pid = ("storage", torch.FloatStorage, key, "cpu", count)

    class Made:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), 0, shape, stride, False, collections.OrderedDict())

    class Module:
        pass

    Module.__module__, Module.__qualname__ = "__torch__", "Module"
    sys.modules["__torch__"] = types.SimpleNamespace(Module=Module)
    try:
        module = Module()
        module.weight = Made()
        Pickler(pickled, 2).dump(module)
    finally:
        del sys.modules["__torch__"]
    with zipfile.ZipFile(path, "w", compress) as out:
        out.writestr("a/data.pkl", pickled.getvalue())
        out.writestr(f"a/data/{key}", struct.pack(f"<{count}f", *range(count)) if data is None else data)
        out.writestr("a/constants.pkl", pickle.dumps((), 2))
        for name, content in more:
            out.writestr(name, content)
    return path


def test_an_archive_of_ones_own_making_is_read(tmp_path):
    state = read_state(archive(tmp_path / "own.pt"))
    assert torch.equal(state["weight"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"shape": (10**6, 10**6), "stride": (0, 0)}, "claims more numbers"),
        ({"shape": (2, 3), "stride": (10**9, 1)}, "claims more numbers"),
        ({"shape": (2, -3)}, "not described"),
        ({"shape": (2, 3.0)}, "not described"),
        ({"data": b"\0" * 8}, "not as long"),
        ({"data": b"\0" * 10**6, "compress": zipfile.ZIP_DEFLATED}, "packed or overlaps"),
    ],
)
def test_tensors_larger_than_what_is_stored_are_refused(tmp_path, how, match):
    refused(archive(tmp_path / "evil.pt", **how), match)


def test_parts_are_read_inside_the_archive_only(tmp_path):
    (tmp_path / "secret").write_bytes(struct.pack("<6f", *range(6)))
    path = archive(tmp_path / "evil.pt", key="../../secret")
    state = read_state(path)  # a member of that name is a member, no path
    assert torch.equal(state["weight"], torch.arange(6.0).reshape(2, 3))
    without = rewritten(path, tmp_path / "without.pt", lambda name, data: None if "secret" in name else (name, data))
    refused(without, "lacks its part")
    for key in (str(tmp_path / "secret"), "../secret"):
        missing = rewritten(
            archive(tmp_path / "x.pt", key=key), tmp_path / "y.pt", lambda n, d: None if "secret" in n else (n, d)
        )
        refused(missing, "lacks its part")


def test_pickles_that_ask_for_room_or_never_end_are_refused(script, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_archive, "_MOST_ITEMS", 20_000)

    def swapped(code):
        return rewritten(script[1], tmp_path / "evil.pt", lambda n, d: (n, code if n.endswith("/data.pkl") else d))

    refused(swapped(b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1) + b"."), "instruction")
    refused(swapped(b"\x80\x02N\x82\x01."), "instruction")
    refused(swapped(b"\x80\x02X" + struct.pack("<I", 2**31) + b"abc."), "cannot be read")
    # Modules that stand in each other twice, forty times over: 2^40 of them for a reader that does not count.
    bag = b"c__torch__\nM\n)\x81}"
    laughs = b"\x80\x02" + bag + b"b" + b"".join(
        b"q" + bytes([i]) + bag + b"(X\x01\0\0\0ah" + bytes([i]) + b"X\x01\0\0\0bh" + bytes([i]) + b"ub" for i in range(40)
    )  # fmt: skip
    refused(swapped(laughs + b"."), "too often|instruction|contains itself")
    itself = b"\x80\x02" + bag + b"q\x01(X\x01\0\0\0ah\x00ub."
    with pytest.raises(WeightsError):
        read_state(swapped(itself.replace(b"M\n)\x81}", b"M\n)\x81q\x00}")))


PLAIN = {
    "numpy float": np.float64(0.91),
    "numpy float32": np.float32(0.91),
    "numpy integer": np.int64(3),
    "numpy bool": np.bool_(True),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "numpy strings": np.array(["real", "fake"]),
    "numpy dtype": np.dtype("float32"),
    "numpy random state": np.random.RandomState(0).get_state(),
    "arguments": argparse.Namespace(lr=1e-3, name="x", parts=[1, 2]),
    "path": pathlib.PurePosixPath("/data/rgb"),
    "paths as keys": {pathlib.PurePosixPath("/data"): 1},
    "date": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "decimal": decimal.Decimal("0.1"),
    "uuid": uuid.UUID(int=3),
    "simple namespace": types.SimpleNamespace(lr=1),
    "deque": collections.deque([1, 2], maxlen=3),
    "default dictionary": collections.defaultdict(list, {"loss": [0.5, np.float32(0.4)]}),
    "counter": collections.Counter("abc"),
    "set": {1, 2, np.int64(3)},
    "frozen set": frozenset({1}),
    "slice": slice(1, 2),
    "range": range(3),
    "complex": 1 + 2j,
    "bytes": b"abc",
    "device and type": (torch.device("cpu"), torch.float16, torch.Size([2, 3])),
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain_data_beside_the_tensors_is_data(tmp_path, what):
    state = {
        "a.weight": torch.arange(6.0).reshape(2, 3).T,
        "a.count": torch.tensor(3),
        "b": torch.ones(2, dtype=torch.bfloat16),
    }
    content = {"state_dict": collections.OrderedDict(state), "epoch": 3, "beside": PLAIN[what]}
    content["optimizer"] = {
        "state": {0: {"exp_avg": torch.ones(3)}},
        "param_groups": [{"lr": np.float64(0.1), "params": [0]}],
    }
    for name, how in (
        ("new.pth", {}),
        ("old.pth", {"_use_new_zipfile_serialization": False}),
        ("four.pth", {"pickle_protocol": 4}),
    ):
        torch.save(content, tmp_path / name, **how)
        found = read_state(tmp_path / name)
        assert found.keys() == state.keys(), name
        for key, value in state.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value), (name, key)


def test_settings_objects_of_known_packages_are_data(tmp_path, monkeypatch):
    made = types.ModuleType("omegaconf.dictconfig")

    class DictConfig(dict):
        def __reduce__(self):
            return DictConfig, (), {"_content": {"lr": 1}}

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    made.DictConfig = DictConfig
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        patch.setitem(sys.modules, "omegaconf.dictconfig", made)
        torch.save(
            {"state_dict": {"a.w": torch.ones(2)}, "hyper_parameters": DictConfig()}, tmp_path / "lightning.ckpt"
        )
    assert read_state(tmp_path / "lightning.ckpt").keys() == {"a.w"}


def test_old_files_that_break_off_are_refused(tmp_path):
    content = {"state_dict": {"a.w": torch.ones(1000)}, "best": np.float64(1)}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pth").read_bytes()
    for share in (0.05, 0.5, 0.99):
        (tmp_path / "part.pth").write_bytes(data[: int(len(data) * share)])
        refused(tmp_path / "part.pth", r"part\.pth is refused")
