"""Write a trained detector as one graph, uint8 images → fake probability: `torch.export` and ONNX, compared with the detector.

python prediction/export.py --run logs/xception/2026-01-01-12-00-00 --output exported --int8
python prediction/predict.py clip.mp4 --onnx exported                      without torch
"""

import argparse
from pathlib import Path

from common.cli import add_common, add_set, run


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Write a trained detector as detector.pt2 (torch.export) and detector.onnx, normalisation inside, for any "
        "batch; compare both with it (1e-4) and write parity.json.",
    )
    p.add_argument(
        "--run",
        "--detector_path",
        dest="detector_path",
        required=True,
        metavar="RUN|YAML",
        help="a run directory, or a detector YAML with --weights_path",
    )
    p.add_argument("--weights_path", metavar="FILE", help="weights (default: the run's best, else its last)")
    p.add_argument("--output", required=True, metavar="DIR", help="where the files go")
    p.add_argument("--int8", action="store_true", help="also detector.int8.onnx: matrices in 8 bits, for CPUs")
    add_set(p)
    add_common(p)
    return p


def main() -> int:
    """Export, compare, and say what came out."""
    args = parser().parse_args()
    from prediction.graph import export, told
    from prediction.predictor import Predictor

    predictor = Predictor(args.detector_path, args.weights_path, "cpu", args.set)
    print(told(export(predictor, Path(args.output), args.int8)))
    print(f"written: {args.output}")
    return 0


if __name__ == "__main__":
    run(main)
