"""Many files: what is named is found, answers come in order and equal those of one at a time, and one bad file is one line."""

import csv
import io
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

import av
import cv2
import numpy as np
import pytest
from helpers.drawn import draw_face, scene
from helpers.training_runs import as_program

from common import cli
from common.errors import ConfigError, DataError
from common.rendered import REASON, is_rendered, trained_on_rendered
from prediction import pipeline
from prediction import predict as program
from prediction.pipeline import files_of, judged
from prediction.verdict import EVIDENCE
from preprocessing.faces.tracking import FacePipeline
from training import Predictor

PIPELINE = lru_cache(FacePipeline)
RENDERED = ["--set", "train_dataset=[DemoForensics]"]


@pytest.fixture(autouse=True)
def faces_once(monkeypatch):
    """Build each finder's pipeline once for all these tests: it reads 100 MB of model."""
    monkeypatch.setattr("preprocessing.faces.pipeline.FacePipeline", PIPELINE)


def write_picture(path, seed=0):
    image = scene(seed=seed)
    draw_face(image, (160, 120), 110)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])
    return path


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of one name in two folders, a wall, a text, a sound."""
    root = tmp_path_factory.mktemp("files")
    write_picture(root / "a/face.png", 0)
    write_picture(root / "b/deep/face.png", 1)
    cv2.imwrite(str(root / "b/wall.png"), np.full((90, 90, 3), 80, np.uint8))
    (root / "b/notes.txt").write_text("no picture")
    return root


def ask(capsys, monkeypatch, *words, stdin=""):
    monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
    with as_program([str(word) for word in words]), pytest.raises(SystemExit) as stop:
        cli.run(program.main)
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_files_folders_and_patterns_are_found_once(folder):
    pictures = [str(folder / name) for name in ("a/face.png", "b/wall.png", "b/deep/face.png")]
    assert sorted(files_of([str(folder)])) == sorted(pictures)
    assert sorted(files_of([f"{folder}/**/face.png", pictures[0], "gone.mp4"])) == sorted(
        [pictures[0], pictures[2], "gone.mp4"]
    )
    for empty in (f"{folder}/*.mp4", str(folder / "b/deep/none*")):
        with pytest.raises(ConfigError, match="holds no picture and no video"):
            files_of([empty])


def test_a_folder_in_every_format(run, folder, capsys, monkeypatch, tmp_path):
    base = [folder, "--run", run, "--device", "cpu", "--workers", 0]
    code, out, _ = ask(capsys, monkeypatch, *base, "--format", "jsonl")
    assert code == 3, "a wall shows no face"
    rows = [json.loads(line) for line in out.splitlines()]
    assert None in {row["answer"] for row in rows}
    assert all(row["trained_on"] == ["FaceForensics++"] and row["note"] == EVIDENCE for row in rows)
    probs = {row["path"]: row["prob"] for row in rows}
    code, out, _ = ask(capsys, monkeypatch, *base, "--format", "csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert {row["file"]: row["score"] for row in table if row["of"] == "whole"} == {
        path: "" if prob is None else f"{prob:.9g}" for path, prob in probs.items()
    }
    assert sum(row["of"] == "face" for row in table) == 2
    assert all("FaceForensics++" in row["trained_on"] and row["note"] for row in table if row["of"] == "whole")
    code, out, _ = ask(capsys, monkeypatch, "-", *base[1:], "--format", "table", stdin=f"{folder}/a/face.png\n\n")
    assert code == 0
    assert EVIDENCE in out
    assert "trained on FaceForensics++" in out
    assert f"{probs[str(folder / 'a/face.png')]:.3f}" in out.splitlines()[-1]
    assert "list of files is empty" in ask(capsys, monkeypatch, "-", *base[1:])[2]


def test_a_sound_is_said_and_the_rest_goes_on(run, folder, tmp_path, capsys, monkeypatch):
    sound = sound_only(tmp_path / "sound.mp4")
    code, out, err = ask(capsys, monkeypatch, sound, folder / "a/face.png", "--run", run, "--device", "cpu")
    assert code == 2
    assert "sound only" in err
    assert "face.png: the detector's score" in out


def test_batches_across_files_score_as_one_file_after_another(run, folder, video, monkeypatch):
    """In order, whoever is ready first; never more under way than promised."""
    under_way, most, lock = [0], [0], threading.Lock()
    real, sight = pipeline._look, Predictor(run, device="cpu").sight

    def look(_sight, path, num_frames):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        return real(sight, path, num_frames)

    monkeypatch.setattr(pipeline, "_look", look)
    monkeypatch.setattr(pipeline, "_pool", ThreadPoolExecutor)
    paths = [*files_of([str(folder)]), "gone.png", str(video)] * 2
    predictor = Predictor(run, device="cpu")
    asked = []
    score = predictor.probabilities
    monkeypatch.setattr(predictor, "probabilities", lambda images: asked.append(len(images)) or score(images))
    together = []
    for _, verdict in judged(predictor, paths, 3, workers=1):
        together.append(verdict)
        under_way[0] = 0
    assert max(asked) > 3, "no batch held faces of several files"
    for path, verdict in zip(paths, together, strict=True):
        if path == "gone.png":
            assert isinstance(verdict, DataError)
            continue
        alone = predictor.predict(path, 3)
        assert verdict.path == path
        assert verdict.prob == (None if alone.prob is None else pytest.approx(alone.prob, abs=1e-6))
        assert len(verdict.scores) == len(alone.scores)
        assert verdict.answer == alone.answer


def test_no_more_files_are_handed_out_than_promised(run, monkeypatch):
    handed = []

    class Pool(ThreadPoolExecutor):
        def submit(self, function, *words):
            handed.append(words[2])
            return super().submit(lambda: DataError(words[2]))

    monkeypatch.setattr(pipeline, "_pool", Pool)
    answers = pipeline.looked_at(pipeline.Sight(), [str(number) for number in range(50)], 1, workers=2)
    assert str(next(answers)) == "0"
    assert len(handed) <= pipeline.AHEAD * 2
    assert [str(answer) for answer in answers] == [str(number) for number in range(1, 50)]


def test_a_file_that_kills_its_process_costs_nobody_else(monkeypatch):
    class Pool(ThreadPoolExecutor):
        def submit(self, function, *words):
            def work():
                if words[2] == "bad":
                    raise BrokenProcessPool
                return DataError(words[2])

            return super().submit(work)

    monkeypatch.setattr(pipeline, "_pool", Pool)
    said = [str(answer) for answer in pipeline.looked_at(pipeline.Sight(), ["a", "bad", "c", "d", "e", "f"], 1, 2)]
    assert said == ["a", "bad: the decoder crashed on this file; download or re-encode it", "c", "d", "e", "f"]


def test_processes_see_what_this_one_sees(run, folder):
    predictor = Predictor(run, device="cpu")
    path = str(folder / "a/face.png")
    ((seen, verdict),) = judged(predictor, [path], 1, workers=1)
    assert verdict.prob == pytest.approx(predictor.predict(path).prob, abs=1e-6)
    assert seen.people[0][0].crop.shape == (256, 256, 3)


def test_overlays_of_one_name_keep_apart_and_show_what_was_seen(run, folder, video, tmp_path, capsys, monkeypatch):
    out = tmp_path / "seen"
    words = [folder / "a/face.png", folder / "b/deep/face.png", video, "--run", run, "--device", "cpu"]
    assert ask(capsys, monkeypatch, *words, "--overlay", out, "--num_frames", 4)[0] == 0
    assert sorted(os.listdir(out)) == ["01_face.png", "02_face.png", "03_face.mp4"]
    before, after = cv2.imread(str(folder / "a/face.png")), cv2.imread(str(out / "01_face.png"))
    assert before.shape == after.shape
    changed = np.argwhere((before.astype(int) != after).any(axis=2))
    assert 0 < len(changed) < before[:, :, 0].size
    with av.open(str(out / "03_face.mp4")) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].codec_context.name == "h264"
    assert len(frames) == 4


# Rendered faces.


def test_what_is_rendered_is_told_by_its_name():
    assert trained_on_rendered(["DemoForensics", "DemoWild_c23"], None)
    assert trained_on_rendered(["Mine"], "These are synthetic faces.")
    assert not trained_on_rendered(["DemoForensics", "FaceForensics++"], None)
    assert not trained_on_rendered([], None)
    assert is_rendered("datasets/demo/videos/DemoWild/real/1.mp4")
    assert not is_rendered("datasets/DemoWild.mp4")
    assert not is_rendered("photo.jpg")


def test_weights_of_rendered_faces_cannot_say_anything_of_a_photograph(run, folder, tmp_path, capsys, monkeypatch):
    """Neither in text nor in a table, JSON or CSV does a score stand before that sentence."""
    photo = folder / "a/face.png"
    base = [photo, "--run", run, "--device", "cpu", *RENDERED]
    said = {form: ask(capsys, monkeypatch, *base, "--format", form) for form in program.FORMATS}
    score = Predictor(run, device="cpu").predict(photo).prob
    assert all(code == 0 for code, *_ in said.values())
    assert f"cannot say: {REASON}" in said["text"][1]
    for form in ("text", "table", "csv"):
        assert REASON in said[form][1]
        assert f"{score:.3f}" not in said[form][1]
    row = json.loads(said["jsonl"][1])
    assert (row["answer"], row["reason"], row["fake"], row["prob"]) == ("cannot say", REASON, None, None)
    assert (row["scores"], row["people"]) == ([], [])
    assert list(row).index("reason") < list(row).index("without_verdict")
    assert row["without_verdict"]["prob"] == pytest.approx(score)
    assert row["without_verdict"]["people"][0]["fake"] is None
    text = ask(capsys, monkeypatch, *base, "--even_so")[1]
    assert text.index("cannot say") < text.index(f"{score:.3f}")
    written = tmp_path / "out.json"
    ask(capsys, monkeypatch, *base, "--json", written)
    assert json.loads(written.read_text())[0]["prob"] is None
    assert f"{score:.3f}" in ask(capsys, monkeypatch, *base, "--rendered")[1]
    inside = write_picture(tmp_path / "DemoCeleb/real/face.png")
    assert "the detector's score" in ask(capsys, monkeypatch, inside, *base[1:])[1]
    verdict = Predictor(run, device="cpu", overrides=RENDERED[1:]).predict_image(scene())
    assert (verdict.answer, verdict.reason) == (None, "")


def test_from_run_says_what_the_command_says(run, video, tmp_path, capsys, monkeypatch):
    written = tmp_path / "out.json"
    ask(capsys, monkeypatch, video, "--run", run, "--num_frames", 3, "--device", "cpu", "--json", written)
    verdict = Predictor.from_run(run, device="cpu").predict(video, 3)
    (row,) = json.loads(written.read_text())
    assert (row["prob"], row["answer"]) == (verdict.prob, verdict.answer)
    assert [score["prob"] for score in row["scores"]] == [score.prob for score in verdict.scores]
