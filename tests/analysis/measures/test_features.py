import json

import numpy as np
import pytest

from analysis.measures.features import alignment, identity_probe, subsample, uniformity
from analysis.tsne import embed, gather_features, main
from common.rundir import open_run


def test_alignment_and_uniformity_by_the_loop():
    rng = np.random.default_rng(0)
    feat, label = rng.normal(size=(12, 5)) * 7, np.array([0, 1] * 6)
    points = feat / np.linalg.norm(feat, axis=1, keepdims=True)
    same, every = [], []
    for i in range(12):
        for j in range(i):
            distance = ((points[i] - points[j]) ** 2).sum()
            every.append(np.exp(-2 * distance))
            if label[i] == label[j]:
                same.append(distance)
    assert alignment(feat, label) == pytest.approx(np.mean(same))
    assert uniformity(feat) == pytest.approx(np.log(np.mean(every)))


def test_probe_reads_identity_where_it_is_and_only_there():
    rng = np.random.default_rng(0)
    person = np.arange(6).repeat(20)
    video = np.array([f"{p}-{i // 5}" for i, p in enumerate(person)])
    centre = rng.normal(size=(6, 8)) * 4
    clear = identity_probe(centre[person] + rng.normal(size=(120, 8)), person, video, np.random.default_rng(1))
    noise = identity_probe(rng.normal(size=(120, 8)), person, video, np.random.default_rng(1))
    assert clear["identities"] == 6
    assert clear["chance"] == pytest.approx(1 / 6)
    assert clear["accuracy"] > 0.9
    assert noise["accuracy"] < 0.4


def test_probe_does_not_pass_by_knowing_the_video():
    # Features say which video it is, and nothing of the person: half the videos are unseen, so the probe is lost.
    rng = np.random.default_rng(0)
    person = np.arange(6).repeat(20)
    code = np.arange(24).repeat(5)
    feat = (rng.normal(size=(24, 30)) * 4)[code] + 0.1 * rng.normal(size=(120, 30))
    assert identity_probe(feat, person, code.astype(str), np.random.default_rng(1))["accuracy"] < 0.45


def test_a_faint_identity_is_found_by_the_standardised_probe():
    rng = np.random.default_rng(0)
    person, video = np.arange(4).repeat(30), np.arange(24).repeat(5).astype(str)
    faint = 0.002 * (np.eye(4)[person] + 0.05 * rng.normal(size=(120, 4)))
    feat = np.concatenate([rng.normal(size=(120, 2)) + 5, faint], axis=1)
    seen = identity_probe(feat, person, video, np.random.default_rng(1))
    found = identity_probe(feat, person, video, np.random.default_rng(1), standardise=True)
    assert seen["accuracy"] < 0.5
    assert found["accuracy"] > 0.9


def test_probe_is_the_mean_over_splits_of_the_videos():
    rng = np.random.default_rng(0)
    person, video = np.arange(4).repeat(9), np.arange(12).repeat(3).astype(str)
    feat = np.eye(4)[person] + rng.normal(size=(36, 4))
    draws = np.random.default_rng(1)
    each = [identity_probe(feat, person, video, draws, splits=1) for _ in range(5)]
    together = identity_probe(feat, person, video, np.random.default_rng(1), splits=5)
    assert together["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in each]))
    assert together["deviation"] == pytest.approx(np.std([one["accuracy"] for one in each]))
    assert together["deviation"] > 0


def test_probe_needs_people_with_two_videos():
    rng = np.random.default_rng(0)
    assert identity_probe(rng.normal(size=(4, 2)), np.array([-1, -1, 0, 1]), np.array(list("abcd")), rng) is None


def test_principal_components_keep_the_widest_directions():
    rng = np.random.default_rng(0)
    feat = rng.normal(size=(300, 6)) * np.array([0.1, 5, 0.1, 0.1, 3, 0.1])
    flat = embed(feat, "pca", 0)
    assert abs(np.corrcoef(flat[:, 0], feat[:, 1])[0, 1]) > 0.99
    assert abs(np.corrcoef(flat[:, 1], feat[:, 4])[0, 1]) > 0.99


def test_tsne_keeps_two_clouds_apart_and_repeats():
    rng = np.random.default_rng(0)
    feat = np.concatenate([rng.normal(0, 1, (40, 60)), rng.normal(6, 1, (40, 60))])
    flat = embed(feat, "tsne", 0)
    a, b = flat[:40], flat[40:]
    assert np.linalg.norm(a.mean(0) - b.mean(0)) > 2 * max(a.std(), b.std())
    np.testing.assert_array_equal(flat, embed(feat, "tsne", 0))


def test_subsample():
    rng = np.random.default_rng(0)
    assert subsample(5, 10, rng).tolist() == [0, 1, 2, 3, 4]
    rows = subsample(1000, 100, rng)
    assert len(set(rows.tolist())) == 100
    assert (np.diff(rows) > 0).all()


def test_manipulations_are_named_by_the_video(run_dir):
    data = gather_features(open_run(run_dir), ["DFDCP", "Celeb-DF-v2"])
    assert set(data["manipulation"]) == {"real", "Deepfakes", "NeuralTextures"}
    assert set(data["manipulation"][data["label"] == 0]) == {"real"}
    assert (data["dataset"] == "DFDCP").sum() == len(open_run(run_dir).features("DFDCP")["label"])


def test_command(own_run, capsys):
    main([str(own_run), "--methods", "pca", "--points", "100"])
    folder = own_run / "analysis/tsne"
    found = json.loads((folder / "features.json").read_text())
    assert set(found) == {"FaceForensics++", "Celeb-DF-v2"}
    assert found["Celeb-DF-v2"]["identity_probe"]["accuracy"] > 0.5
    assert {"pca.png", "pca.pdf", "section.json"} <= {path.name for path in folder.iterdir()}
    assert "Identity probe" in (own_run / "report.html").read_text()
    assert "uniformity" in capsys.readouterr().out
