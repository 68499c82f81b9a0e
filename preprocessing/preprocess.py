"""Cut aligned faces, landmarks and masks out of a dataset's videos.

    python preprocessing/preprocess.py --dataset_name FaceForensics++ --dataset_root_path /data --comp c23

Start it again after an interruption and it goes on where it was; `manifest.jsonl` tells what became of each video.
"""

import argparse

from common.cli import add_common, run, whole


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition; what is left out comes from config.yaml."""
    p = argparse.ArgumentParser(description="Cut aligned faces, landmarks and masks out of a dataset's videos.")
    p.add_argument(
        "--dataset_name", metavar="NAME", help="for example FaceForensics++, Celeb-DF-v2, or your own with --layout"
    )
    p.add_argument(
        "--dataset_root_path", metavar="DIR", help="the folder that contains the dataset's folder (or that folder)"
    )
    p.add_argument("--layout", metavar="NAME", help="the dataset is laid out like this one; `custom`: real/ and fake/")
    p.add_argument("--comp", metavar="raw|c23|c40|all", help="compression, in datasets that have them")
    p.add_argument("--perturbation", metavar="NAME", help="DeeperForensics-1.0: one of its eleven sets, or all")
    p.add_argument("--mode", metavar="fixed_num_frames|fixed_stride", help="how frames are chosen")
    p.add_argument("--num_frames", type=whole(), metavar="N", help="frames per video, evenly spread (fixed_num_frames)")
    p.add_argument("--stride", type=whole(), metavar="N", help="every N-th frame (fixed_stride)")
    p.add_argument(
        "--output", metavar="DIR", help="write below DIR instead of beside the videos; it becomes the rgb_dir"
    )
    p.add_argument(
        "--workers", type=whole(), metavar="N", help="processes (default: one per core; 0: none besides this)"
    )
    p.add_argument("--engine", metavar="local|ray", help="where videos are worked on (default: local)")
    p.add_argument("--shard", metavar="i/n", help="do only part i of n (1/n … n/n), for batch systems")
    p.add_argument(
        "--detector",
        metavar="NAME",
        help="face finder: hog (default), mtcnn, cnn, or with --detector_file yunet, scrfd, retinaface",
    )
    p.add_argument("--detector_file", metavar="ONNX", help="the network of yunet, scrfd or retinaface")
    p.add_argument(
        "--people",
        metavar="largest|all",
        help="whom to cut: the largest, or under a mask the marked (default), or everybody, each as a video of their own",
    )
    p.add_argument("--predictor", metavar="FILE", help="dlib landmark file (default: see dlib_tools/README.md)")
    p.add_argument(
        "--max_pixels", type=whole(1), metavar="N", help="refuse larger pictures and frames (default: 64000000)"
    )
    p.add_argument(
        "--video_timeout",
        type=whole(),
        metavar="SECONDS",
        help="give up a video after so long (default: 600; 0: never)",
    )
    p.add_argument("--config", metavar="YAML", help="defaults (default: preprocessing/config.yaml)")
    add_common(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Parse and run; 0 when every video was read, 1 when some failed."""
    arguments = vars(parser().parse_args(argv))
    arguments.pop("debug")
    config = arguments.pop("config")
    from preprocessing.options import choose
    from preprocessing.run_preprocess import Request, preprocess

    return preprocess(Request(**choose(arguments, config, "preprocess")))


if __name__ == "__main__":
    run(main)
