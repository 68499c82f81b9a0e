"""Render real synthetic faces with captions, for the demo's image–text model. Nobody in them exists; nothing is forged.

python preprocessing/demo_faces.py --output datasets/demo/captioned.npz
"""

import argparse
import os
import sys
import time

from common.cli import MOST_SEED, add_common, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(
        description="Render aligned real faces of invented people whom no demo set shows, each with a caption of 72 numbers "
        "(shape, colours, pose, expression, light, camera): what training/demo_tower.py learns from."
    )
    p.add_argument("--output", default="datasets/demo/captioned.npz", metavar="NPZ", help="where to write")
    p.add_argument("--seed", type=whole(0, MOST_SEED), default=0, metavar="N", help="other people, other films")
    p.add_argument("--first", type=whole(0), default=0, metavar="N", help="number of the first person")
    p.add_argument("--people", type=whole(1), default=2000, metavar="N", help="how many people")
    p.add_argument("--films", type=whole(1, 1000), default=2, metavar="N", help="of each person")
    p.add_argument("--frames", type=whole(1, 8), default=3, metavar="N", help="of each film")
    p.add_argument("--side", type=whole(16, 256), default=128, metavar="PX", help="of the crops")
    p.add_argument(
        "--workers", type=whole(1, 1024), default=None, metavar="N", help="processes (default: one per core)"
    )
    add_common(p)
    return p


def main() -> None:
    """Render and write."""
    args = parser().parse_args()
    import numpy as np

    from common.io import atomic_path
    from preprocessing.demo.captions import MIRRORED, NAMES, render_people

    began, people = time.monotonic(), range(args.first, args.first + args.people)
    per_person = args.films * args.frames
    faces = np.empty((len(people) * per_person, args.side, args.side, 3), np.uint8)
    captions = np.empty((len(faces), len(NAMES)), np.float32)
    workers = args.workers or len(os.sched_getaffinity(0))
    rendered = render_people(args.seed, people, args.films, args.frames, args.side, workers)
    for number, (pictures, said) in enumerate(rendered):
        here = slice(number * per_person, (number + 1) * per_person)
        faces[here], captions[here] = pictures, said
        if (number + 1) % 100 == 0:
            print(f"rendered {number + 1} of {len(people)} people", file=sys.stderr, flush=True)
    with atomic_path(args.output) as temporary, open(temporary, "wb") as file:
        np.savez(file, faces=faces, captions=captions, person=np.repeat(np.array(people), per_person),
                 names=np.array(NAMES), mirrored=np.array(MIRRORED))  # fmt: skip
    print(f"{len(faces)} faces of {len(people)} invented people in {time.monotonic() - began:.0f} s: {args.output}")


if __name__ == "__main__":
    run(main)
