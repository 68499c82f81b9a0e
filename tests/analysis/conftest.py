"""A made-up run directory with everything that a real one holds."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from training.metrics import evaluate

NOTE = "These are procedurally rendered faces, not real people: the figures prove the path, not accuracy."


def make_predictions(rng, dataset, videos=40, frames=6, gain=1.5):
    kinds = ("real", "Deepfakes", "NeuralTextures")
    rows = []
    for number in range(videos):
        method = (0, 0, 1, 2)[number % 4]
        base = rng.normal() + gain * (method > 0) * (1.4 - 0.4 * method)
        for frame in range(frames):
            prob = 1 / (1 + np.exp(-(base + 0.7 * rng.normal() - gain / 2)))
            video = f"{dataset}/{kinds[method]}/c23/{number:03d}"
            rows.append((video, frame * 10, int(method > 0), method, float(f"{prob:.9g}")))
    return rows


def write_examples(folder, rng, rows, tile=32):
    grid = np.mgrid[0:tile, 0:tile] / tile - 0.5
    lines, description = [], []
    for group in ("fake, called real", "real, called fake"):
        chosen = [row for row in rows if row[2] == (group[:4] == "fake")][:6]
        for name in ("image", "W"):
            faces = []
            for _ in chosen:
                oval = (grid[1] ** 2 * 2 + grid[0] ** 2 < 0.16)[..., None]
                skin = np.array([205, 160, 130]) if name == "image" else np.array([250, 120, 20])
                faces.append(np.where(oval, skin + rng.normal(0, 8, (tile, tile, 3)), 60).clip(0, 255).astype(np.uint8))
            lines.append(np.concatenate(faces, axis=1))
            description.append({"group": group, "map": name})
        description[-2]["tiles"] = [{"video": r[0], "frame": r[1], "prob": r[4]} for r in chosen]
    Image.fromarray(np.concatenate(lines)).save(folder / "examples.png")
    (folder / "examples.json").write_text(json.dumps({"tile": tile, "rows": description}))


def make_run(path, datasets=("FaceForensics++", "Celeb-DF-v2", "DFDCP"), gain=1.5, seed=0, detector="clip_ln"):
    """Write a run directory whose detector finds fakes the better, the larger `gain`."""
    rng = np.random.default_rng(seed)
    results = {}
    for position, dataset in enumerate(datasets):
        folder = path / "results" / dataset
        folder.mkdir(parents=True)
        rows = make_predictions(rng, dataset, gain=gain * (1 - 0.3 * position))
        with open(folder / "predictions.csv", "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["video", "frame", "label", "method", "prob"])
            writer.writerows(rows)
        video, frame, label, method, prob = (list(column) for column in zip(*rows))
        results[dataset] = evaluate(label, prob, video, bootstrap=100)
        (folder / "metrics.json").write_text(json.dumps(results[dataset]))
        identity = np.array([int(name[-3:]) % 5 for name in video])
        feat = rng.normal(size=(len(label), 16)) + 3 * rng.normal(size=(5, 16))[identity] * 0.5
        feat[:, 0] += 4 * np.array(label)
        np.savez_compressed(
            folder / "features.npz",
            feat=feat.astype(np.float32),
            label=np.array(label),
            method=np.array(method),
            target_id=identity,
            source_id=np.full(len(label), -1),
            video=np.array(video),
            frame=np.array(frame),
        )
        write_examples(folder, rng, rows)
    summary = {
        "detector": detector,
        "weights": "checkpoints/best.pth",
        "train_dataset": ["FaceForensics++"],
        "data_note": NOTE,
        "datasets": results,
        "selection": {
            "split": "val",
            "metric": "auc",
            "level": "frame",
            "value": 0.91,
            "note": "best frame auc on val",
        },
        "environment": {"commit": "0123456789ab", "python": "3.11", "torch": "2.12.1", "device": "CPU"},
    }
    (path / "results" / "results.json").write_text(json.dumps(summary))
    (path / "config.yaml").write_text("model_name: clip_ln\noptimizer:\n  type: adam\n")
    lines = [
        {"step": step, "epoch": step // 50, "loss/overall": 0.7 * 0.99**step, "loss/cls": 0.5 * 0.99**step, "lr": 1e-4}
        for step in range(0, 200, 5)
    ]
    lines += [{"step": 50 * e, "epoch": e, "val/auc": 0.8 + 0.03 * e, "val/eer": 0.3 - 0.03 * e} for e in range(1, 5)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    """A run directory that tests only read."""
    return make_run(tmp_path_factory.mktemp("runs") / "clip_ln")


@pytest.fixture
def own_run(tmp_path):
    """A run directory of one test's own."""
    return make_run(tmp_path / "run", datasets=("FaceForensics++", "Celeb-DF-v2"))


@pytest.fixture
def make_run_dir(tmp_path):
    """The builder of run directories: `make_run_dir(name, **options)`."""
    return lambda name, **options: make_run(tmp_path / name, **options)
