"""A table of all detectors: `python -m training.detectors [--json PATH]`.

Parameters and input are those of each detector's YAML file; the networks are built without memory, on PyTorch's meta device.
"""

import argparse
import sys
from typing import Any

from common.cli import add_common, program
from common.cli import run as run_program

COLUMNS = ("name", "type", "paper", "year", "parameters", "input", "parity")
_LONGEST_TITLE = 58


def describe(name: str) -> dict[str, Any]:
    """Return one detector's row.

    `parameters` counts those of the network that the detector's YAML asks for, heads that are sized by the training data
    without any; `input` is what it takes, frames first for clips; `parity` what its agreement with the reference rests on.
    """
    import torch

    from training.config import load_config
    from training.config.loader import CONFIG_DIR
    from training.detectors.registry import build_detector, detector_class

    card = detector_class(name).card
    config = load_config(CONFIG_DIR / "detector" / f"{name}.yaml", quiet=True)
    with torch.device("meta"):
        detector = build_detector(config, pretrained=False)
    frames = f"{config.clip_size} × " if config.video_mode else ""
    return {
        "name": name,
        "title": card.title,
        "type": card.kind,
        "paper": card.paper,
        "url": card.url,
        "year": card.year,
        "parameters": sum(p.numel() for p in detector.parameters()),
        "input": f"{frames}3 × {config.resolution} × {config.resolution}",
        "parity": card.parity,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a text table."""
    cells = [list(COLUMNS)]
    for row in rows:
        shown = row | {"paper": _shortened(row["paper"]), "parameters": shown_count(row["parameters"])}
        cells.append([str(shown[column]) or "–" for column in COLUMNS])
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    cells.insert(1, ["-" * width for width in widths])
    number = COLUMNS.index("parameters")
    return "\n".join(
        "  ".join(
            text.rjust(w) if i == number else text.ljust(w) for i, (text, w) in enumerate(zip(line, widths))
        ).rstrip()
        for line in cells
    )


def _shortened(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1].rstrip() + "…"


def shown_count(number: int) -> str:
    """Return a number of parameters as it is shown: in millions from one million on."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,}"


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog=program("python -m training.detectors"), description="A table of all detectors."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--json", metavar="PATH", help="also write the rows, with full titles and addresses, as JSON")
    add_common(parser)
    arguments = parser.parse_args(argv)

    from training.detectors.registry import available_detectors

    rows = [describe(name) for name in arguments.names or available_detectors()]
    print(table(rows))
    if arguments.json:
        from common.io import write_json

        write_json(arguments.json, rows)
        print(f"written: {arguments.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
