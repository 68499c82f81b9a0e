"""Say what a trained detector makes of pictures and videos.

python prediction/predict.py clip.mp4 face.jpg --run logs/clip_crossdomain/2026-01-01-12-00-00
python prediction/predict.py clip.mp4 --run logs/i3d/2026-01-01-12-00-00 --num_frames 128 --timeline figures
python prediction/predict.py clip.mp4 --detector_path training/config/detector/xception.yaml --weights_path xception.pth
"""

import argparse
import sys
from pathlib import Path

from common.cli import add_common, add_set, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Score pictures and videos with a trained detector: find the face, align it, judge it.",
        epilog="The score is the detector's opinion, and worth what its figures on data like yours are worth; it proves nothing.",
    )
    p.add_argument("files", nargs="+", metavar="FILE", help="pictures and videos")
    p.add_argument(
        "--run",
        "--detector_path",
        dest="detector_path",
        required=True,
        metavar="RUN|YAML",
        help="a run directory, or a detector YAML with --weights_path",
    )
    p.add_argument(
        "--weights_path", metavar="FILE", help="weights (default for a run directory: its best, else its last)"
    )
    p.add_argument(
        "--num_frames", type=whole(), default=32, metavar="N", help="frames looked at in a video (default 32)"
    )
    p.add_argument("--json", metavar="FILE", help="write the scores of all frames or clips there")
    p.add_argument(
        "--timeline", metavar="DIR", help="draw each video's scores over time there, with the figures beside as CSV"
    )
    p.add_argument("--device", metavar="cpu|cuda", help="default: a GPU where there is one")
    add_set(p)
    add_common(p)
    return p


def main() -> int:
    """Judge each file; one that cannot be read does not stop the others. Exit code 2 if there was one."""
    args = parser().parse_args()
    from common.errors import ConfigError, DataError
    from common.io import atomic_write
    from prediction.predictor import Predictor, to_json
    from prediction.timeline import write_timeline

    if args.num_frames < 1:
        raise ConfigError(f"--num_frames {args.num_frames} is too few; look at one frame at least")
    predictor = Predictor(args.detector_path, args.weights_path, args.device, args.set)
    print(predictor.describe())
    verdicts, unread = [], 0
    for number, path in enumerate(args.files, 1):
        try:
            verdict = predictor.predict(path, args.num_frames)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            unread += 1
            continue
        verdicts.append(verdict)
        print(f"{path}: {_words(verdict)}", flush=True)
        if args.timeline and verdict.level == "video" and verdict.scores:
            for written in write_timeline(verdict, Path(args.timeline), number):
                print(written)
    if args.json:
        atomic_write(Path(args.json), to_json(verdicts))
    return 2 if unread else 0


def _side(fake: bool | None) -> str:
    from prediction.operating_point import UNSURE

    return UNSURE if fake is None else "fake" if fake else "real"


def _words(verdict) -> str:
    from prediction.operating_point import describe_limits

    if verdict.prob is None:
        text = f"no face was found in {verdict.looked} frame{'s' * (verdict.looked > 1)}; nothing to judge"
        return f"{text} ({verdict.damage})" if verdict.damage else text
    side = f"called {verdict.answer} at the {verdict.level} threshold {verdict.threshold:.3f}"
    if verdict.limits is not None:
        side = f"{verdict.answer} by the {verdict.level} limits ({describe_limits(verdict.limits)})"
        side = side if verdict.fake is None else f"called {side}"
    scored = f"{len(verdict.scores)} scored of {verdict.looked} looked at"
    if verdict.scores[0].last is not None:
        scored = (
            f"{len(verdict.scores)} clip{'s' * (len(verdict.scores) > 1)} scored, {verdict.looked} frames looked at"
        )
    text = f"the detector's score {verdict.prob:.3f}, {side} ({scored})"
    if len(verdict.people) > 1:
        each = ", ".join(f"{person.prob:.3f} {_side(person.fake)}" for person in verdict.people)
        text += f"; {len(verdict.people)} people, each on their own: {each}"
    text = f"{text}; {verdict.finder_note}" if verdict.finder_note else text
    return f"{text}; {verdict.damage}" if verdict.damage else text


if __name__ == "__main__":
    run(main)
