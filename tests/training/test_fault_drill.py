"""What goes wrong in practice, done on purpose: each ends the program with one sentence, and what was saved stays good."""

import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from helpers.engine_scenarios import pack_config
from helpers.pack import write_lmdb, write_pack
from helpers.training_runs import arguments, call, spawn, state, write_settings

from common.errors import DataError
from training import test as test_program
from training.dataset import build_loader


@pytest.fixture
def pack(tmp_path):
    """(YAML, run directory) of a small run on a pack of its own, in `tmp_path`."""
    return write_settings(tmp_path, write_pack(tmp_path)), tmp_path / "run"


def frame_of(root, split_video="054", name="007.png"):
    return next(path for path in (root / "rgb").rglob(f"frames/{split_video}/{name}"))


def edit_index(root, change):
    path = root / "json" / "FaceForensics++.json"
    index = json.loads(path.read_text())
    change(index["FaceForensics++"])
    path.write_text(json.dumps(index))


@pytest.fixture
def sentence(capsys):
    """Check that the program just ended with one sentence, and return it."""

    def read(code):
        said = capsys.readouterr().err
        lines = said.rstrip("\n").splitlines()
        assert code == 2, said
        assert "Traceback" not in said
        assert lines[-1].startswith("error: ")
        assert sum(line.startswith("error:") for line in lines) == 1
        return lines[-1]

    return read


def test_a_corrupt_image_stops_or_is_left_out_and_listed(pack, tmp_path, sentence, capsys):
    broken = frame_of(tmp_path)
    broken.write_bytes(broken.read_bytes()[:40])
    assert "054/007.png" in sentence(call(arguments(*pack, "--max_steps", 7)))
    code = call(arguments(pack[0], tmp_path / "other", "--max_steps", 7, **{"data.on_error": "skip"}))
    assert code == 0
    assert capsys.readouterr().err.count("skipped FaceForensics++/FF-real/c23/054") == 1


def test_a_missing_lmdb_key_is_named(pack, tmp_path, sentence):
    frame_of(tmp_path).unlink()
    write_lmdb(tmp_path)
    said = sentence(call(arguments(*pack, "--max_steps", 7, lmdb="true")))
    assert "007.png" in said
    assert "FaceForensics++_lmdb" in said


def test_a_truncated_index_is_named(pack, tmp_path, sentence):
    path = tmp_path / "json" / "FaceForensics++.json"
    path.write_text(path.read_text()[:2000])
    assert "FaceForensics++.json" in sentence(call(arguments(*pack)))


def test_an_index_cannot_leave_its_root(pack, tmp_path, sentence):
    def leave(index):
        index["FF-real"]["train"]["c23"]["054"]["frames"][0] = "FaceForensics++/../../../../etc/frames/passwd/000.png"

    edit_index(tmp_path, leave)
    assert ".." in sentence(call(arguments(*pack, "--max_steps", 7)))


def test_a_label_that_no_key_knows_is_named_with_the_remedy(pack, tmp_path, sentence):
    def rename(index):
        index["FF-unheard"] = index.pop("FF-NT")
        for split in index["FF-unheard"].values():
            for video in split["c23"].values():
                video["label"] = "FF-unheard"

    edit_index(tmp_path, rename)
    said = sentence(call(arguments(*pack)))
    assert "FF-unheard" in said
    assert "label_dict" in said


def test_an_empty_dataset_is_named(pack, tmp_path, sentence):
    edit_index(tmp_path, lambda index: [group["train"].update(c23={}) for group in index.values()])
    said = sentence(call(arguments(*pack)))
    assert "FaceForensics++" in said
    assert "train" in said


def kill_a_worker(run, step, others):
    """Wait for a step of the run in this process, then kill one of its data-loading workers: a child not of `others`."""
    until, path = time.monotonic() + 200, run / "metrics.jsonl"
    while time.monotonic() < until:
        workers = psutil.Process().children()
        workers = [child for child in workers if child not in others and "tracker" not in "".join(child.cmdline())]
        if workers and path.exists() and path.read_text().count('"loss/overall"') >= step:
            workers[0].kill()
            return
        time.sleep(0.002)


def test_a_killed_worker_is_a_sentence_and_the_run_continues_from_its_checkpoint(pack, sentence):
    settings, run = pack
    killer = threading.Thread(target=kill_a_worker, args=(run, 6, psutil.Process().children()))
    killer.start()
    endless = {"nEpochs": 1000, "save_every_steps": 2}  # it must still be at work when the killer strikes
    code = call(arguments(settings, run, **endless))
    killer.join()
    said = sentence(code)
    assert "worker" in said
    assert "died" in said
    saved = state(run / "checkpoints" / "last.pth")["step"]
    assert saved >= 4
    assert call(arguments(settings, run, "--resume", "auto", "--max_steps", saved + 2, nEpochs=1000)) == 0
    assert state(run / "checkpoints" / "last.pth")["step"] == saved + 2


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(pack):
    settings, run = pack
    assert call(arguments(settings, run, "--max_steps", 3)) == 0
    before = (run / "checkpoints" / "last.pth").read_bytes()
    # A quota's double: no file may grow beyond 100 kB, which a checkpoint does and a log does not.
    program = spawn(arguments(settings, run, "--resume", "auto", workers=0), largest_file=100_000)
    said = program.communicate(timeout=120)[1]
    assert program.returncode == 2, said
    assert said.splitlines()[-1].startswith("error: cannot write")
    assert "Traceback" not in said
    assert (run / "checkpoints" / "last.pth").read_bytes() == before
    assert not list((run / "checkpoints").glob(".*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's disk that is always full")
def test_records_that_cannot_be_written_are_a_sentence(pack, sentence):
    settings, run = pack
    run.mkdir()
    (run / "metrics.jsonl").symlink_to("/dev/full")
    said = sentence(call(arguments(settings, run)))
    assert "No space left" in said
    assert "free some space" in said


def test_a_run_directory_that_cannot_be_made_is_a_sentence(pack, tmp_path, sentence):
    (tmp_path / "file").write_text("")
    assert "--log_dir" in sentence(call(arguments(pack[0], tmp_path / "file" / "run")))


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_weights_of_another_network_and_pickles_with_code_are_refused(pack, tmp_path, sentence):
    settings, run = pack
    owned = str(tmp_path / "owned")
    torch.save({"state_dict": {"head.weight": torch.zeros(2, 3)}}, tmp_path / "other.pth")
    torch.save({"format": 1, "model": Evil(owned)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"format": 1, "model": Evil(owned)}))
    words = arguments(settings, run, "--test_dataset", "FaceForensics++")
    said = sentence(call([*words, "--weights_path", str(tmp_path / "other.pth")], test_program.main))
    assert "does not hold the weights of this network" in said
    for name in ("evil.pth", "evil.pkl"):
        said = sentence(call([*words, "--weights_path", str(tmp_path / name)], test_program.main))
        assert "may run code" in said
        assert "may run code" in sentence(call(arguments(settings, run, "--resume", tmp_path / name)))
    assert not Path(owned).exists()


def test_yaml_with_code_is_refused(pack, tmp_path, sentence):
    settings, run = pack
    owned = tmp_path / "owned"
    settings.write_text(settings.read_text() + f"task_target: !!python/object/apply:os.mkdir ['{owned}']\n")
    assert "settings.yaml" in sentence(call(arguments(settings, run)))
    assert not owned.exists()


def test_one_run_directory_is_written_by_one_run(pack, sentence):
    settings, run = pack
    first = spawn(arguments(settings, run, "--max_steps", 20, workers=0))
    until = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it holds the directory while it sleeps
    try:
        assert "another run is writing" in sentence(call(arguments(settings, run)))
    finally:
        first.send_signal(signal.SIGCONT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 0, said
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "loss/overall" in row]
    assert steps == list(range(1, 21))


class Broken:
    """Breaks as a worker's connection does when it is killed while it hands over a batch, or as its code does."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        return self

    def __next__(self):
        raise self.error


def test_a_broken_connection_is_a_death_and_an_error_in_a_worker_is_not(tmp_path):
    loader = build_loader(pack_config(tmp_path, **write_pack(tmp_path)), "train")
    loader._loader = Broken(ConnectionResetError(104, "Connection reset by peer"))
    with pytest.raises(DataError, match="worker of the train split died"):
        next(iter(loader))
    for error in (OSError("Caught OSError in DataLoader worker process 0."), RuntimeError("Caught RuntimeError in …")):
        loader._loader = Broken(error)
        with pytest.raises(type(error), match="Caught"):
            next(iter(loader))
