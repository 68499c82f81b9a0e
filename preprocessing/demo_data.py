"""Render the demo data: short H.264 videos of procedural faces and forgeries of them. Nobody in them exists.

python preprocessing/demo_data.py --output datasets/demo/videos
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from common.cli import MOST_SEED, add_common, run, whole

VERSION = 7  # raise it when the pictures change, so that old ones are rendered again


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Render three small synthetic data sets: DemoForensics (laid out like FaceForensics++), DemoCeleb and "
        "DemoWild (other lamps, cameras, forgers and codecs, for testing only)."
    )
    p.add_argument("--output", default="datasets/demo/videos", metavar="DIR", help="where the data sets go")
    p.add_argument("--seed", type=whole(high=MOST_SEED), default=0, metavar="N", help="other people, other films")
    p.add_argument("--workers", type=whole(), default=None, metavar="N", help="processes (default: one per core)")
    p.add_argument("--quick", action="store_true", help="a handful of videos")
    p.add_argument("--force", action="store_true", help="render again even if it is all there")
    add_common(p)
    return p


def main() -> None:
    """Render, unless the same set is there already."""
    args = parser().parse_args()
    from dataclasses import asdict

    from common.errors import ConfigError
    from common.io import make_folder, write_json
    from preprocessing.demo.build import QUICK, Size, jobs, render_all

    for flag, value in (("--seed", args.seed), ("--workers", args.workers)):
        if value is not None and value < 0:
            raise ConfigError(f"{flag} {value}: write 0 or more")
    root, size = make_folder(args.output, "--output"), QUICK if args.quick else Size()
    stamp = root / "demo.json"
    wanted = {"version": VERSION, "seed": args.seed, "size": asdict(size)}
    if not args.force and _read(stamp) == wanted:
        print(f"demo videos are there: {root}")
        return
    stamp.unlink(missing_ok=True)
    workers = args.workers if args.workers is not None else len(os.sched_getaffinity(0))
    todo, began, videos = jobs(size, args.seed), time.monotonic(), 0
    rendered = render_all(root, size, args.seed, workers)
    if sys.stderr.isatty():
        from tqdm import tqdm

        rendered = tqdm(rendered, total=len(todo), desc="rendering people", leave=False)
    for done, count in enumerate(rendered, 1):
        videos += count
        if not sys.stderr.isatty() and done % 20 == 0:
            print(f"rendered {done} of {len(todo)} people", file=sys.stderr, flush=True)
    write_json(stamp, json.loads(json.dumps(wanted)))
    print(f"rendered {videos} videos of {len(todo)} invented people in {time.monotonic() - began:.0f} s: {root}")


def _read(stamp: Path) -> object:
    """Return what an earlier call says it rendered; one that is missing or damaged says nothing."""
    from common.errors import DataError
    from common.io import read_json

    try:
        return read_json(stamp)
    except DataError:
        return None


if __name__ == "__main__":
    run(main)
