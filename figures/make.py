"""Draw the README's pictures.

python -m figures.make            all of them
python -m figures.make archi      figures/archi.png, the architecture
python -m figures.make house      figures/house.png, the way of the data through the rooms
python -m figures.make faces      figures/demo_faces.png, real and forged frames of the demo data (needs make demo-data)
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from common.cli import add_common, run

HERE = Path(__file__).parent


def archi() -> Path:
    """Draw the architecture of `clip_crossdomain`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    figure, axes = plt.subplots(figsize=(13, 5.6))
    axes.set(xlim=(0, 132), ylim=(0, 56))
    axes.axis("off")
    colours = {
        "io": "#e8e8e8",
        "clip": "#cfe2f3",
        "freq": "#d9ead3",
        "edge": "#fce5cd",
        "id": "#ead1dc",
        "head": "#fff2cc",
    }

    def box(x: float, y: float, w: float, h: float, text: str, kind: str, size: float = 10) -> None:
        patch = FancyBboxPatch(
            (x, y), w, h, boxstyle="round,pad=0.3,rounding_size=1", fc=colours[kind], ec="#444444", lw=1
        )
        axes.add_patch(patch)
        axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=size)

    def arrow(
        start: tuple[float, float], end: tuple[float, float], text: str = "", bend: float = 0, **style: str
    ) -> None:
        line = {"arrowstyle": "-|>", "mutation_scale": 12, "color": "#444444", **style}
        axes.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **line))
        if text:
            axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 1.2, text, fontsize=8, ha="center")

    box(1, 23, 13, 9, "aligned face\n(normalised)", "io")
    box(1, 5, 13, 9, "the same,\nde-normalised", "io")
    box(34, 38, 32, 12, "CLIP visual tower (open_clip)\nfrozen but for its LayerNorms", "clip", 11)
    box(34, 26, 32, 7, "FFT branch: soft radial high-pass", "freq")
    box(34, 16, 32, 7, "DWT branch: db2 detail bands", "freq")
    box(74, 20, 16, 9, "frequency\ntokens (B, N, D)", "freq")
    box(34, 2, 32, 10, "Boundary Mining: Gaussian and\nSRM residuals, edges → W ∈ [0, 1]", "edge")
    box(74, 45, 16, 7, "CLS", "clip")
    box(74, 36, 16, 7, "patch tokens", "clip")
    box(118, 24, 13, 12, "GRL →\nidentity\ndiscriminator", "id")
    box(98, 22, 16, 14, "fusion\nCLS, W·patches,\nW·frequency", "head")
    box(98, 6, 16, 8, "L2: unit\nhypersphere", "head")
    box(118, 6, 12, 8, "linear or\nArcMargin", "head")
    arrow((14.5, 29), (33.5, 43))
    arrow((14.5, 12), (33.5, 29))
    arrow((14.5, 10), (33.5, 19.5))
    arrow((14.5, 8), (33.5, 7))
    arrow((66.5, 29), (73.5, 26))
    arrow((66.5, 19.5), (73.5, 22.5))
    arrow((76, 29.6), (60, 37.4), bend=0.15, linestyle="--")
    axes.text(69.5, 33.4, "gated,\nzero at start", fontsize=8, ha="left")
    arrow((66.5, 47), (73.5, 48.5))
    arrow((66.5, 41), (73.5, 39.5))
    arrow((88, 44.5), (98.5, 36.3), bend=-0.1)
    arrow((90.5, 39), (97.5, 33))
    arrow((90.5, 25), (97.5, 28))
    arrow((66.5, 8), (97.5, 23), bend=0.12, linestyle="--")
    axes.text(76, 9, "W weights the pooling", fontsize=8)
    arrow((106, 21.5), (106, 14.7))
    arrow((114.5, 10), (117.5, 10))
    arrow((111, 14.7), (120, 23.4))
    axes.text(124, 2.5, "real / fake", ha="center", fontsize=10)
    path = HERE / "archi.png"
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return path


def house() -> Path:
    """Draw the way of the data: what each room hands to the next."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    rows = [
        ("preprocessing/", "#cfe2f3", ["videos", "preprocess", "frames, masks,\nlandmarks", "rearrange", "JSON index"]),
        ("training/", "#d9ead3", ["dataset\n(recipe)", "uint8 batch", "detector", "losses", "trainer"]),
        ("training/,\nprediction/", "#fff2cc",
         ["checkpoints", "evaluator,\npredictor", "predictions.csv", "metrics", "results.json"]),
        ("analysis/", "#ead1dc", ["report.html", "leaderboard", "robustness", "maps, features", "reproduce"]),
    ]  # fmt: skip
    made_by = {
        "preprocess",
        "rearrange",
        "dataset\n(recipe)",
        "detector",
        "losses",
        "trainer",
        "evaluator,\npredictor",
        "metrics",
    }
    figure, axes = plt.subplots(figsize=(13, 6.2))
    axes.set(xlim=(-22, 111), ylim=(-3, 59))
    axes.axis("off")
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": "#444444"}
    for row, (room, colour, boxes) in enumerate(rows):
        y = 48 - 15 * row
        axes.text(-21, y + 4, room, fontsize=11, va="center", fontweight="bold")
        for column, text in enumerate(boxes):
            x = 22 * column
            shape = f"round,pad=0.2,rounding_size={3 if text in made_by else 0.4}"
            axes.add_patch(FancyBboxPatch((x, y), 17, 8, boxstyle=shape, fc=colour, ec="#444444", lw=1))
            axes.text(x + 8.5, y + 4, text, ha="center", va="center", fontsize=10)
            if column and row < 3:
                axes.add_patch(FancyArrowPatch((x - 4.6, y + 4), (x - 0.4, y + 4), **style))
        if row:  # from the end of the row above to the beginning of this one
            axes.plot([96.5, 96.5, 8.5], [y + 14.6, y + 11.5, y + 11.5], color="#444444", lw=1)
            axes.add_patch(FancyArrowPatch((8.5, y + 11.9), (8.5, y + 8.2), **style))
    axes.text(
        -21,
        -2.4,
        "round: what is done    square: what is kept on disk or handed on    common/ lies under all of it",
        fontsize=9,
    )
    path = HERE / "house.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)
    return path


def faces() -> Path:
    """Tile frames of one invented person and four forgeries of it, and two pairs of the unseen domains."""
    import av
    import cv2
    import numpy as np

    from common.errors import DataError

    root = HERE.parent / "datasets" / "demo" / "videos"
    if not (root / "demo.json").exists():
        raise DataError(f"no demo videos in {root}; run make demo-data first")

    def frame(path: Path, number: int = 3) -> np.ndarray:
        with av.open(str(path)) as container:
            picture = list(container.decode(video=0))[number].to_ndarray(format="rgb24")
        return cv2.resize(picture, (256, 192), interpolation=cv2.INTER_AREA)

    forensics = root / "DemoForensics"
    real = sorted((forensics / "original_sequences/youtube/c23/videos").glob("*.mp4"))[0]
    row = [frame(real)]
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        row.append(
            frame(next((forensics / "manipulated_sequences" / method / "c23/videos").glob(f"{real.stem}_*.mp4")))
        )
    second = []
    for name in ("DemoCeleb", "DemoWild"):
        fake = sorted((root / name / "fake").glob("*.mp4"))[0]
        second += [frame(root / name / "real" / f"{fake.stem.split('_')[0]}.mp4"), frame(fake)]
    second.append(np.full_like(second[0], 255))
    sheet = np.concatenate([np.concatenate(row, axis=1), np.concatenate(second, axis=1)])
    path = HERE / "demo_faces.png"
    cv2.imwrite(str(path), sheet[..., ::-1])
    return path


PICTURES: dict[str, Callable[[], Path]] = {"archi": archi, "house": house, "faces": faces}


def main() -> None:
    """Draw what is asked for."""
    p = argparse.ArgumentParser(description="Draw the README's pictures.")
    p.add_argument("names", nargs="*", metavar="NAME", help=f"which ones ({', '.join(PICTURES)}; default: all)")
    add_common(p)
    args = p.parse_args()
    unknown = [name for name in args.names if name not in PICTURES]
    if unknown:
        p.error(f"unknown picture {unknown[0]}; there are {', '.join(PICTURES)}")
    for name in args.names or PICTURES:
        print(PICTURES[name]())


if __name__ == "__main__":
    run(main)
