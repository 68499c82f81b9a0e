"""The predictor: the same numbers as evaluation gives, and honest words where there is nothing to judge."""

import json

import cv2
import numpy as np
import pytest
import torch
from helpers.drawn import boasting_png, draw_face, scene, write_video
from helpers.training_runs import as_program

from common import cli
from common.errors import DataError, WeightsError
from common.io import write_json
from prediction import predict as program
from prediction.answers import words
from prediction.predictor import Verdict, to_json
from prediction.timeline import write_timeline
from preprocessing.demo import build
from preprocessing.demo.build import Size
from preprocessing.faces.tracking import faces_of_video
from training import Predictor


def person(seed: int = 0) -> np.ndarray:
    image = scene(seed=seed)
    draw_face(image, (160, 120), 110)
    return image


def ask(capsys, *words) -> tuple[int, str, str]:
    with as_program([str(word) for word in words]), pytest.raises(SystemExit) as stop:
        cli.run(program.main)
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_a_video_is_judged_by_its_faces(run, video):
    predictor = Predictor(run, device="cpu")
    verdict = predictor.predict(video, num_frames=4)
    faces = faces_of_video(video, num_frames=4)
    assert [score.frame for score in verdict.scores] == [face.frame for face in faces]
    assert len(faces) == verdict.looked == 4
    size = predictor.config.resolution
    wanted = []
    for face in faces:
        small = cv2.resize(face.crop, (size, size), interpolation=cv2.INTER_AREA)
        image = (torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            wanted.append(predictor.detector({"image": image}, inference=True)["prob"].item())
    assert [score.prob for score in verdict.scores] == pytest.approx(wanted, abs=1e-6)
    assert verdict.prob == pytest.approx(np.mean(wanted), abs=1e-6)
    assert verdict.fake == (verdict.prob > 0.5)
    assert (verdict.level, verdict.calibrated) == ("video", False)


def test_a_picture_and_an_array_say_the_same(run, tmp_path):
    image = person()
    cv2.imwrite(str(tmp_path / "face.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    predictor = Predictor(run, device="cpu")
    assert predictor.predict(tmp_path / "face.png").prob == predictor.predict_image(image).prob


def test_without_a_face_there_is_no_verdict(run):
    verdict = Predictor(run, device="cpu").predict_image(np.full((120, 120, 3), 90, np.uint8))
    assert verdict.prob is None
    assert verdict.fake is None


def test_the_stored_threshold_holds_for_its_own_weights_only(run):
    plain = Predictor(run, device="cpu")
    assert plain.threshold == 0.5
    from prediction.trained import load_trained

    point = {"level": "video", "threshold": 0.25, "fingerprint": load_trained(run, device="cpu").fingerprint()}
    stored = run / "checkpoints/operating_point.json"
    try:
        write_json(stored, point)
        assert Predictor(run, device="cpu").threshold == 0.25
        assert "chosen on validation" in Predictor(run, device="cpu").describe()
        assert Predictor(run, device="cpu", overrides=["mean=[0.4,0.5,0.5]"]).threshold == 0.5
        write_json(stored, {**point, "fingerprint": "of others"})
        assert Predictor(run, device="cpu").threshold == 0.5
    finally:
        stored.unlink()


def test_a_threshold_judges_what_it_was_fitted_on(run, video):
    """A video's mean by that of videos, a picture by that of frames; and what they cost is said."""
    from prediction.trained import load_trained

    stored = run / "checkpoints/operating_point.json"
    own = {"fingerprint": load_trained(run, device="cpu").fingerprint()}
    videos = {"level": "video", "threshold": 0.0, "validation": {"found": 0.95, "false_alarms": 0.125}}
    frames = {"level": "frame", "threshold": 0.999, "validation": {"found": 0.9, "false_alarms": 0.0625}}
    try:
        write_json(stored, own | videos | {"frame": frames})
        predictor = Predictor(run, device="cpu")
        of_video, of_picture = predictor.predict(video, 2), predictor.predict_image(person())
        assert (of_video.level, of_video.threshold, of_video.fake) == ("video", 0.0, True)
        assert (of_picture.level, of_picture.threshold, of_picture.fake) == ("frame", 0.999, False)
        written = json.loads(to_json([of_video, of_picture]))
        assert [row["false_alarms"] for row in written] == [0.125, 0.0625]
        assert [row["level"] for row in written] == ["video", "frame"]
        assert "for videos (chosen on validation, means of videos: false alarms there 12.5%" in predictor.describe()
        assert "for pictures (chosen on validation, single frames: false alarms there 6.2%" in predictor.describe()
        # Of one level only: the other one is not calibrated.
        write_json(stored, own | frames)
        points = Predictor(run, device="cpu").points
        assert (points["video"].threshold, points["video"].calibrated) == (0.5, False)
        assert points["frame"].threshold == 0.999
        # As the first version wrote them: fitted on frames, without saying so.
        write_json(stored, own | {"threshold": 0.056, "temperature": 1.0})
        old = Predictor(run, device="cpu")
        assert (old.threshold, old.calibrated) == (0.5, False)
        assert "does not say of what level its threshold is" in old.describe()
    finally:
        stored.unlink()


def test_between_the_limits_nothing_is_said(run, video, capsys, tmp_path):
    """The limits of the level decide, not the threshold; the words, the JSON and the exit code say so."""
    from prediction.trained import load_trained

    stored = run / "checkpoints/operating_point.json"
    silent = {"low": 0.0, "high": None, "alpha": 0.1}
    videos = {"level": "video", "threshold": 0.0, "limits": silent}
    frames = {"level": "frame", "threshold": 0.999, "limits": {"low": 0.0, "high": 0.0, "alpha": 0.2}}
    try:
        write_json(stored, {"fingerprint": load_trained(run, device="cpu").fingerprint()} | videos | {"frame": frames})
        cv2.imwrite(str(tmp_path / "face.png"), person())
        words = [video, tmp_path / "face.png", "--run", run, "--device", "cpu", "--num_frames", 2]
        code, out, _ = ask(capsys, *words, "--json", tmp_path / "out.json", "--timeline", tmp_path)
        assert code == 0
        assert "cannot say by the video limits (real below 0.000, nothing is called fake, else cannot say" in out
        assert (
            "called fake by the frame limits (real below 0.000, fake above 0.000, else cannot say; at most 20%" in out
        )
        of_video, of_picture = json.loads((tmp_path / "out.json").read_text())
        assert (of_video["fake"], of_video["answer"], of_video["limits"]) == (None, "cannot say", silent)
        assert (of_picture["fake"], of_picture["answer"]) == (True, "fake")
        assert [one["fake"] for one in of_video["people"]] == [None]
        for bad in ([], {"low": 0.5}, {"low": 0.6, "high": 0.5, "alpha": 0.1}, {"low": "x", "high": 1, "alpha": 0.1}):
            write_json(stored, videos | {"limits": bad})
            with pytest.raises(DataError, match="holds limits that are none"):
                Predictor(run, device="cpu")
    finally:
        stored.unlink()


def test_at_the_threshold_itself_the_verdict_is_that_of_the_metrics():
    for threshold in (0.5, 0.25):
        assert Verdict("x", threshold, threshold, 1).fake is False
        assert Verdict("x", float(np.nextafter(threshold, 1)), threshold, 1).fake is True


def test_the_number_format_of_testing_holds_for_prediction_too(run):
    """`predict_images`, which calibration and robustness use too, computes in the configured precision."""
    from prediction.trained import predict_images
    from training.trainer.precision import autocast

    crops = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    found = {}
    for precision in ("fp32", "bf16"):
        predictor = Predictor(run, device="cpu", overrides=[f"precision={precision}"])
        images = torch.from_numpy(crops.transpose(0, 3, 1, 2).copy())
        with torch.inference_mode(), autocast(precision, torch.device("cpu")):
            wanted = predictor.detector(predictor.detector.prepare({"image": images}), inference=True)["prob"]
        found[precision] = predict_images(predictor.detector, images.numpy(), 4)
        assert found[precision] == pytest.approx(wanted.double().numpy(), abs=1e-6)
        size = predictor.config.resolution
        if size == 32:
            assert predictor.score(crops) == pytest.approx(found[precision], abs=1e-6)
    assert np.abs(found["fp32"] - found["bf16"]).max() > 1e-6


def test_what_is_said_of_the_training_data_is_said_as_that(run, tmp_path):
    predictor = Predictor(run, device="cpu", overrides=["data_note=Nobody in them exists."])
    assert predictor.describe().endswith("About the training data: Nobody in them exists.")
    torch.save(predictor.detector.state_dict(), tmp_path / "bare.pth")
    foreign = Predictor(run, tmp_path / "bare.pth", device="cpu", overrides=["data_note=Nobody in them exists."])
    assert "Nobody" not in foreign.describe(), "nobody knows what somebody else's weights were trained on"


def test_an_operating_point_that_is_none_is_said(run):
    stored = run / "checkpoints/operating_point.json"
    try:
        for content in ("{", "[]", '{"threshold": "high"}'):
            stored.write_text(content)
            with pytest.raises(DataError, match=r"operating_point\.json"):
                Predictor(run, device="cpu")
    finally:
        stored.unlink()


def test_frames_carry_the_times_at_which_they_are_shown(run, tmp_path):
    times = [0, 1, 5, 6, 20, 30]  # 25ths of a second
    path = write_video(tmp_path / "uneven.mp4", len(times), lambda number: person(), times)
    scores = Predictor(run, device="cpu").predict_video(path, 6).scores
    assert [score.frame for score in scores] == list(range(6))
    assert [score.time for score in scores] == pytest.approx([time / 25 for time in times], abs=1e-3)
    left, top, right, bottom = scores[0].box
    assert left < 160 < right
    assert top < 120 < bottom


def test_a_rendered_video_is_judged(run, tmp_path):
    job = build.jobs(Size(train=2, val=2, test=2, unseen=2, frames=2), seed=0)[0]
    build.run(job, tmp_path)
    verdict = Predictor(run, device="cpu").predict(tmp_path / build.paths(job)[0])
    assert verdict.looked == 2
    assert verdict.prob is not None
    assert 0 <= verdict.prob <= 1


def test_an_array_that_is_no_picture_is_said(run):
    predictor = Predictor(run, device="cpu")
    for array in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(DataError, match=r"\(H, W, 3\)"):
            predictor.predict_image(array)


def test_foreign_weights_do_not_pretend_to_know_their_training_data(run, tmp_path):
    of_run = Predictor(run, device="cpu")
    assert of_run.trained_on == ["FaceForensics++"]
    torch.save(of_run.detector.state_dict(), tmp_path / "bare.pth")
    bare = Predictor(run / "config.yaml", tmp_path / "bare.pth", device="cpu")
    assert bare.trained_on == []
    assert "does not name" in bare.describe()


def test_weights_of_a_file_predict_as_the_run_does(run, video):
    of_run = Predictor(run, device="cpu")
    of_file = Predictor(run / "config.yaml", of_run.weights, device="cpu", faces=of_run.faces)
    assert of_file.predict(video, 2).prob == of_run.predict(video, 2).prob
    with pytest.raises(WeightsError, match="no weights"):
        Predictor("training/config/detector/meso4.yaml")


def test_the_command_judges_what_it_can_and_names_what_it_cannot(run, video, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    out = tmp_path / "scores.json"
    (tmp_path / "huge.png").write_bytes(boasting_png())
    words = [
        tmp_path / "broken.mp4",
        tmp_path / "none.png",
        tmp_path / "huge.png",
        video,
        "--detector_path",
        run,
        "--json",
        out,
    ]
    blank = write_video(tmp_path / "blank.mp4", 2, lambda number: scene())
    assert "no face was found in 2 frames" in ask(capsys, blank, "--run", run, "--device", "cpu")[1]
    code, said, errors = ask(capsys, *words, "--num_frames", 2, "--device", "cpu")
    assert code == 2
    assert "broken.mp4" in errors
    assert "none.png" in errors
    assert "huge.png says it has 40000x40000 pixels" in errors
    assert "trained on FaceForensics++" in said
    (verdict,) = json.loads(out.read_text())
    assert f"score {verdict['prob']:.3f}" in said
    assert len(verdict["scores"]) == 2
    assert ask(capsys, video, "--detector_path", run, "--num_frames", 2, "--device", "cpu")[0] == 0
    low = ask(capsys, video, "--run", run, "--device", "cpu", "--set", "data.max_pixels=1000")
    assert low[0] == 2
    assert "face.mp4 says it has 320x240 pixels" in low[2]


class Flicker(torch.nn.Module):
    """A detector of clips: fake is what changes from frame to frame."""

    name, asked = "flicker", 0

    def prepare(self, batch):
        return {"image": batch["image"].float() / 255}

    def forward(self, batch, inference=False):
        self.asked += len(batch["image"])
        return {"prob": batch["image"].flatten(2).mean(2).std(1).clamp(0, 1)}  # (B, T, 3, H, W) → (B,)


def test_a_video_is_judged_clip_by_clip_and_drawn_over_time(run, video, tmp_path):
    """Seven faces make two clips of three, spread as in testing; each is scored once."""
    predictor = Predictor(run, device="cpu")
    predictor.config = predictor.config.model_copy(update={"video_mode": True, "clip_size": 3})
    predictor.detector = Flicker()
    verdict = predictor.predict(video, 7)
    faces = faces_of_video(video, num_frames=7)
    clips = np.stack([np.stack([face.crop for face in faces[start : start + 3]]) for start in (0, 4)])
    assert predictor.detector.asked == 2
    assert [score.prob for score in verdict.scores] == pytest.approx(predictor.score(clips).tolist())
    assert verdict.prob == pytest.approx(np.mean([score.prob for score in verdict.scores]))
    spans = [(faces[start].frame, faces[start + 2].frame) for start in (0, 4)]
    assert [(score.frame, score.last) for score in verdict.scores] == spans
    assert [row["last"] for row in json.loads(to_json([verdict]))[0]["scores"]] == [last for _, last in spans]
    assert "(2 clips scored, 7 frames looked at)" in words(verdict)
    table, *figures = write_timeline(verdict, tmp_path, 3)
    assert sorted(path.name for path in figures) == ["03_face.pdf", "03_face.png"]
    lines = [line.split(",") for line in table.read_text().splitlines()]
    assert lines[0] == ["first_frame", "last_frame", "from_s", "to_s", "prob"]
    assert [(int(a), int(b)) for a, b, *_ in lines[1:]] == spans
    assert [float(line[4]) for line in lines[1:]] == pytest.approx([score.prob for score in verdict.scores])
    assert float(lines[2][2]) == pytest.approx(verdict.scores[1].time, abs=1e-3)
    with pytest.raises(DataError, match="is one picture, but flicker judges clips of 3; give it a video"):
        predictor.predict_image(person())


def test_single_frames_are_drawn_over_time_too(run, video, tmp_path):
    verdict = Predictor(run, device="cpu").predict(video, 3)
    table = write_timeline(verdict, tmp_path)[0].read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == [line.split(",")[1] for line in table[1:]]
    assert len(table) == 4


def test_too_few_faces_for_a_clip_are_said(run, video):
    predictor = Predictor(run, device="cpu")
    predictor.config = predictor.config.model_copy(update={"video_mode": True, "clip_size": 8})
    with pytest.raises(DataError, match="clips of 8"):
        predictor.predict(video, 4)


def two_people(_: int = 0) -> np.ndarray:
    image = scene(520, 260, 3)
    draw_face(image, (150, 130), 130)
    draw_face(image, (400, 130), 90, skin=(160, 110, 80))
    return image


def test_each_person_of_a_video_and_of_a_picture_is_scored(run, tmp_path, capsys):
    """The verdict is about the largest, whom training's faces are of; the others have scores of their own."""
    clip = write_video(tmp_path / "two.mp4", 6, two_people)
    predictor = Predictor(run, device="cpu")
    of_video, of_picture = predictor.predict(clip, num_frames=3), predictor.predict_image(two_people())
    for verdict, frames in ((of_video, 3), (of_picture, 1)):
        assert len(verdict.people) == 2
        first, second = verdict.people
        assert (verdict.prob, verdict.scores) == (first.prob, first.scores)
        assert (len(first.scores), len(second.scores)) == (frames, frames)
        assert first.scores[0].box[0] < 200 < second.scores[0].box[0]
        assert second.prob == pytest.approx(np.mean([score.prob for score in second.scores]))
        assert (verdict.finder, verdict.finder_note) == ("hog", "")
    code, out, _ = ask(capsys, clip, "--run", run, "--num_frames", 2, "--device", "cpu")
    assert code == 0
    assert "2 people, each on their own" in out


def test_where_the_trainings_finder_sees_nobody_the_other_looks_and_that_is_said(run, capsys):
    class Blind:
        name = "hog"

        def detect(self, image, near=None, smallest=0.0):
            return []

    predictor = Predictor(run, device="cpu")
    seeing, predictor.faces.detector = predictor.faces.detector, Blind()
    assert predictor.predict_image(np.full((120, 120, 3), 90, np.uint8)).finder_note == ""
    seeing.name = "mtcnn"
    predictor.sight.second.detector = seeing
    verdict = predictor.predict_image(person())
    assert verdict.prob is not None
    assert verdict.finder == "mtcnn"
    assert "found no face; mtcnn did" in verdict.finder_note
    given = Predictor(run, device="cpu", faces=predictor.faces)
    assert given.predict_image(person()).prob is None, "who chooses a finder gets that one only"
