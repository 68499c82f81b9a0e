"""The command of an installation: the same programs as the files, from anywhere, and cheap to ask."""

import importlib
import re
import subprocess
import sys

import pytest
from helpers.training_runs import ROOT, environment

from common import command

HEAVY = {"torch", "cv2", "scipy", "sklearn", "matplotlib", "av", "dlib", "timm", "onnx", "onnxruntime", "gradio"}


def ask(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["clipdeepfake", *words])
    with pytest.raises(SystemExit) as stop:
        command.entry()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_it_is_the_installations_script():
    module, function = re.search(r'clipdeepfake = "([\w.]+):(\w+)"', (ROOT / "pyproject.toml").read_text()).groups()
    assert getattr(importlib.import_module(module), function) is command.entry


def test_every_program_is_listed_and_is_the_file(monkeypatch, capsys):
    known = command.programs()
    assert {"train", "test", "predict", "preprocess", "rearrange", "to_lmdb", "report", "leaderboard"} <= set(known)
    files = [
        path
        for room in command.ROOMS
        for path in (ROOT / room).glob("*.py")
        if "\n    run(main)" in path.read_text() or "\n    cli.run(main)" in path.read_text()
    ]
    assert len(known) == len(files) + len(command.PACKAGES), "two programs of one name, or one that is not found"
    code, out, _ = ask(monkeypatch, capsys, "--help")
    assert code == 0
    assert all(re.search(rf"^  {name} +\S", out, re.M) for name in known)
    assert ask(monkeypatch, capsys)[1] == out


def test_a_wrong_name_is_answered_with_the_nearest(monkeypatch, capsys):
    code, _, said = ask(monkeypatch, capsys, "predct", "clip.mp4")
    assert (code, said) == (2, "error: there is no command `predct`; did you mean `predict`?\n")
    assert "known: " in ask(monkeypatch, capsys, "zzz")[2]


def test_words_reach_the_program_and_its_answer_comes_back(monkeypatch, capsys):
    code, out, _ = ask(monkeypatch, capsys, "predict", "--help")
    assert code == 0
    assert out.startswith("usage: clipdeepfake predict ")
    code, _, said = ask(monkeypatch, capsys, "report", "/nowhere")
    assert code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_asking_for_help_anywhere_loads_nothing_heavy(tmp_path):
    """All programs in one process: what one of them loads stays loaded."""
    script = f"""
import contextlib, io, json, sys
from common import command
for name in command.programs():
    sys.argv = ["clipdeepfake", name, "--help"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            command.main()
        except SystemExit as stop:
            assert not stop.code, name
    assert said.getvalue().startswith("usage: "), name
    loaded = sorted({HEAVY!r} & set(sys.modules))
    assert not loaded, (name, loaded)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
