"""Train the demo's CLIP: a tiny image–text model on rendered real faces and what the renderer says of them.

    python preprocessing/demo_faces.py --output datasets/demo/captioned.npz
    python training/demo_tower.py --faces datasets/demo/captioned.npz --output demo-clip-faces.safetensors

Faces and captions find each other in a batch (CLIP; Radford et al., ICML 2021), and a linear layer reads the caption from the
image's token (the captioning loss of CoCa; Yu et al., TMLR 2022), which teaches small details long after the batch is told apart.
No forgery is seen. What is written is the visual tower in half precision, and a linear readout of the captions for its test.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import MOST_SEED, add_common, run, whole

if TYPE_CHECKING:
    from training.networks.image_text import ImageText, Pairs


def parser() -> argparse.ArgumentParser:
    """Return the command line's definition."""
    p = argparse.ArgumentParser(description="Train the demo's image-text model and write its visual tower.")
    p.add_argument("--faces", required=True, metavar="NPZ", help="what preprocessing/demo_faces.py wrote")
    p.add_argument(
        "--output", required=True, metavar="FILE", help="safetensors; its card of the same name, .json, comes beside it"
    )
    p.add_argument("--backbone", default="demo-clip", metavar="NAME", help="a file of training/config/backbone/")
    p.add_argument("--steps", type=whole(1), default=4000, metavar="N", help="of the optimiser (default: 4000)")
    p.add_argument("--batch", type=whole(2), default=64, metavar="N", help="pairs a step")
    p.add_argument(
        "--held_out", type=whole(1), default=150, metavar="N", help="people who are only measured on: the last"
    )
    p.add_argument("--caption", type=float, default=1.0, metavar="W", help="weight of the captioning loss")
    p.add_argument("--lr", type=float, default=0.002, metavar="RATE", help="highest learning rate")
    p.add_argument("--seed", type=whole(0, MOST_SEED), default=0, metavar="N", help="of weights, batches and flips")
    p.add_argument("--threads", type=whole(1, 1024), default=1, metavar="N", help="of the arithmetic")
    p.add_argument("--every", type=whole(1), default=250, metavar="N", help="steps between measurements, each saved")
    add_common(p)
    return p


def main() -> None:
    """Train, or go on where an interrupted call with the same output stopped; measure; write."""
    args = parser().parse_args()
    import hashlib
    import math
    import time

    import torch

    from common.errors import ConfigError
    from common.io import write_json
    from training.networks.image_text import ImageText, read_pairs

    if not (0 < args.lr < math.inf and 0 <= args.caption < math.inf):
        raise ConfigError(f"--lr {args.lr}, --caption {args.caption}: write a rate above 0 and a weight of 0 or more")
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    learn, held = read_pairs(args.faces, args.held_out)
    model = ImageText(args.backbone, learn.faces.shape[1], learn.captions.shape[1])
    optimizer = torch.optim.AdamW(_groups(model), lr=args.lr, betas=(0.9, 0.98))
    state, done, log = Path(f"{args.output}.state.pth"), 0, []
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done, log = saved["step"], saved["log"]
    sums, cpu = torch.zeros(2), time.process_time()
    for step in range(done, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * _rate(step, args.steps)
        sums += _step(model, optimizer, learn, args, step)
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            contrast, caption = (sums / (step + 1 - (log[-1]["step"] if log else 0))).tolist()
            r2 = float(_head_r2(model, held).mean())
            row = {"step": step + 1, "contrastive": contrast, "caption": caption, "held_out_r2": r2}
            log.append({**{k: round(v, 4) for k, v in row.items()}, "cpu_s": round(time.process_time() - cpu)})
            print(log[-1], flush=True)
            sums.zero_()
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "log": log}, state
            )
    figures = _write(Path(args.output), model, learn, held)
    settings = {k: v for k, v in vars(args).items() if k not in ("faces", "output", "debug", "every")}
    card = {"sha256": hashlib.sha256(Path(args.output).read_bytes()).hexdigest(), **figures, "settings": settings}
    card |= {"training_frames": len(learn.faces), "held_out_frames": len(held.faces), "log": log}
    write_json(Path(args.output).with_suffix(".json"), card)
    state.unlink(missing_ok=True)
    print(f"{args.output}: held-out captions read with a mean R² of {figures['held_out_r2']:.3f}")


def _groups(model: ImageText) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return [
        {"params": matrices, "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _rate(step: int, steps: int, warmup: int = 100, end: float = 0.02) -> float:
    """Return the share of the highest rate: up in a line, down in half a cosine."""
    import math

    warmup = min(warmup, steps // 10 + 1)
    if step < warmup:
        return (step + 1) / warmup
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _step(model: ImageText, optimizer: Any, learn: Pairs, args: argparse.Namespace, step: int) -> Any:
    """Take one step; return both losses `(2,)`. All of its chance comes from (seed, step)."""
    import numpy as np
    import torch

    rng = np.random.default_rng([args.seed, step])
    image, caption = learn.batch(rng.choice(len(learn.faces), args.batch, replace=False), rng.random(args.batch) < 0.5)
    # Whole captions first; when a batch is told apart by them, shorter ones of random words.
    share = rng.uniform(0.1, 0.6) if step > 0.4 * args.steps else 1.0
    said = torch.from_numpy((rng.random(caption.shape) < share).astype(np.float32))
    contrast, read = model.losses(image, caption, said)
    optimizer.zero_grad(set_to_none=True)
    (contrast + args.caption * read).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return torch.stack([contrast, read]).detach()


def _head_r2(model: ImageText, held: Pairs) -> Any:
    from training.networks.image_text import r2

    return r2(model.read(held), held.captions)


def _write(path: Path, model: ImageText, learn: Pairs, held: Pairs) -> dict[str, Any]:
    """Write tower and readout; return the figures of what was written."""
    import torch
    from safetensors.torch import save_file

    from common.io import atomic_path
    from training.networks.image_text import r2, ridge

    visual = {f"visual.{k}": v.detach().half().contiguous() for k, v in model.tower.visual.state_dict().items()}
    with torch.no_grad():
        for name, tensor in model.tower.visual.state_dict().items():
            tensor.copy_(visual[f"visual.{name}"])
    weight, bias = ridge(model.features(learn), learn.captions)
    readout = {"weight": weight, "bias": bias, "mean": learn.mean, "std": learn.std}
    scores = r2(model.features(held) @ weight.half().float().T + bias.half().float(), held.captions)
    tensors = visual | {f"readout.{k}": v.half() if k in ("weight", "bias") else v for k, v in readout.items()}
    with atomic_path(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, {"captions": " ".join(learn.names)})
    return {
        "held_out_r2": round(float(scores.mean()), 4),
        "by_attribute": {name: round(float(s), 3) for name, s in zip(learn.names, scores, strict=True)},
    }


if __name__ == "__main__":
    run(main)
