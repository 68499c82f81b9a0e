"""Say what a trained detector makes of pictures and videos.

python prediction/predict.py clip.mp4 face.jpg --run logs/clip_crossdomain/2026-01-01-12-00-00
python prediction/predict.py holiday/ 'more/**/*.jpg' --run RUN --format csv > scores.csv
find . -name '*.mp4' | python prediction/predict.py - --run RUN --overlay seen --timeline figures
python prediction/predict.py clip.mp4 --detector_path training/config/detector/xception.yaml --weights_path xception.pth
"""

import argparse
import sys
from pathlib import Path

from common.cli import add_common, add_set, run, whole

FORMATS = ("text", "table", "jsonl", "csv")


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Score pictures and videos with a trained detector: find the faces, align them, judge them.",
        epilog="Exit code 0: all files were judged; 3: some show no face; 2: some could not be read. "
        "The score is the detector's opinion, and worth what its figures on data like yours are worth; it proves nothing.",
    )
    p.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="pictures, videos, folders of them, patterns (*, **), or - for a list of them, one a line",
    )
    source = p.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--run",
        "--detector_path",
        dest="detector_path",
        metavar="RUN|YAML",
        help="a run directory, or a detector YAML with --weights_path",
    )
    source.add_argument("--onnx", metavar="DIR|FILE", help="what export.py wrote; needs no torch, runs on the CPU")
    p.add_argument(
        "--weights_path", metavar="FILE", help="weights (default for a run directory: its best, else its last)"
    )
    p.add_argument(
        "--num_frames", type=whole(), default=32, metavar="N", help="frames looked at in a video (default 32)"
    )
    p.add_argument("--format", choices=FORMATS, default="text", help="what is printed (default text)")
    p.add_argument("--json", metavar="FILE", help="write the scores of all frames or clips there")
    p.add_argument(
        "--timeline", metavar="DIR", help="draw each video's scores over time there, with the figures beside as CSV"
    )
    p.add_argument("--overlay", metavar="DIR", help="write each file there with boxes, scores and heat maps")
    p.add_argument(
        "--even_so", action="store_true", help="show scores also where the detector cannot say, behind that sentence"
    )
    p.add_argument(
        "--rendered",
        action="store_true",
        help="the files are rendered ones, of which weights of rendered faces may speak",
    )
    p.add_argument(
        "--workers",
        type=whole(0),
        metavar="N",
        help="processes that decode and find faces (default by cores and files)",
    )
    p.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(p)
    add_common(p)
    return p


def main() -> int:
    """Judge each file; one that cannot be read does not stop the others. Exit code 2 if there was one, 3 if one shows no face."""
    args = parser().parse_args()
    from common.errors import ConfigError, DataError
    from common.io import atomic_write
    from prediction.answers import answer, head
    from prediction.pipeline import files_of, judged, workers_for
    from prediction.verdict import to_json

    if args.num_frames < 1:
        raise ConfigError(f"--num_frames {args.num_frames} is too few; look at one frame at least")
    listed = [line.rstrip("\n") for line in sys.stdin if line.strip()] if "-" in args.files else []
    paths = files_of([name for word in args.files for name in (listed if word == "-" else [word])])
    if not paths:
        raise ConfigError("the list of files is empty; write one a line")
    judge = _judge(args)
    for line in head(judge, args.format):
        print(line, flush=True)
    verdicts, unread, faceless = [], 0, 0
    workers = workers_for(len(paths)) if args.workers is None else args.workers
    for number, (seen, verdict) in enumerate(judged(judge, paths, args.num_frames, workers), 1):
        if isinstance(verdict, DataError):
            print(f"error: {verdict}", file=sys.stderr, flush=True)
            unread += 1
            continue
        verdicts.append(verdict)
        faceless += verdict.prob is None
        print(answer(judge, verdict, args.format, args.even_so), flush=True)
        for written in _pictures(args, judge, seen, verdict, number):
            print(written, file=sys.stdout if args.format == "text" else sys.stderr)
    if args.json:
        atomic_write(Path(args.json), to_json(verdicts, judge.about()))
    return 2 if unread else 3 if faceless else 0


def _judge(args):
    from common.errors import ConfigError

    rendered = True if args.rendered else None
    if args.onnx:
        if args.weights_path or args.set or args.device not in (None, "cpu"):
            raise ConfigError(
                "--onnx brings weights and settings, and runs on the CPU; leave --weights_path, --set, --device out"
            )
        from prediction.graph import OnnxPredictor

        return OnnxPredictor(args.onnx, rendered)
    from prediction.predictor import Predictor

    return Predictor(args.detector_path, args.weights_path, args.device, args.set, rendered_files=rendered)


def _pictures(args, judge, seen, verdict, number: int) -> list[Path]:
    written: list[Path] = []
    if args.timeline and verdict.level == "video" and verdict.scores and (args.even_so or not verdict.reason):
        from prediction.timeline import write_timeline

        written += write_timeline(verdict, Path(args.timeline), number)
    if args.overlay and verdict.prob is not None:
        from prediction.overlay import write_overlay

        written.append(write_overlay(judge, seen, verdict, Path(args.overlay), number, args.even_so))
    return written


if __name__ == "__main__":
    run(main)
