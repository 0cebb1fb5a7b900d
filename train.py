"""Train SuperFusion: stage RF (registration and fusion together).

    python train.py --config configs/rf_half.yaml --out runs/rf [--set train.minutes=30] [--resume]

Writes OUT/last.safetensors (a checkpoint that rebuilds its own model), OUT/state.pt (everything --resume needs) and
OUT/log.csv.
"""

import argparse
import dataclasses
import io
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.crops import CropSampler
from losses.objectives import rf_objective
from models import SuperFusion, load_weights
from models.warping import valid_mask, warp
from utils.checkpoint import save_checkpoint
from utils.colour import luminance
from utils.config import Config, load_config
from utils.device import pick_device
from utils.errors import UserError, run
from utils.images import check_writable, write_bytes
from utils.results import write_csv


def rf_step(model: SuperFusion, batch: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Stage RF: match both ways, register, fuse, score. Returns the weighted loss terms and their ``total``."""
    ir, vi = batch["ir"], batch["vi"]
    with torch.autocast(ir.device.type, torch.bfloat16, enabled=config.train.bfloat16):
        flows = model.matcher(ir.expand(-1, 3, -1, -1), vi, directions=("ir2vi", "vi2ir"))
    result = {"flows": flows}
    if config.loss.fusion:
        # The first pairs of a batch are those whose IR image is warped, as at test time.
        n = config.train.fusion_pairs
        flow = flows["ir2vi"][-1][:n].float()
        registered, y = warp(ir[:n], flow), luminance(vi[:n])
        with torch.autocast(ir.device.type, torch.bfloat16, enabled=config.train.bfloat16):
            fused = model.fusion(registered, y)
        result |= {"fused": fused.float(), "registered": registered, "vi": y, "valid": valid_mask(flow)}
    return rf_objective(result, batch, config.loss)


def learning_rate(progress: float, config: Config) -> float:
    """Linear warm-up, constant, linear decay to a thousandth over the last part; ``progress`` runs from 0 to 1."""
    rise = min(1.0, progress / config.train.warmup) if config.train.warmup else 1.0
    fall = min(1.0, (1 - progress) / config.train.decay) if config.train.decay else 1.0
    return config.train.lr * max(1e-3, min(rise, fall))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="assignments")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    args = parser.parse_args(argv)

    config = load_config(args.config, args.assignments)
    device = pick_device(args.device)
    torch.manual_seed(config.train.seed)
    generator = torch.Generator().manual_seed(config.train.seed)
    try:
        model = SuperFusion(**config.model).to(device)
    except (TypeError, ValueError) as error:
        raise UserError(f"{args.config}: model: {error}") from error
    check_writable(args.out)
    if config.train.init:
        load_weights(model, config.train.init)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay)
    sampler = CropSampler(config.data, generator)
    step, elapsed, history = 0, 0.0, []

    state_file = args.out / "state.pt"
    if args.resume:
        if not state_file.is_file():
            raise UserError(f"{state_file}: no such file; nothing to resume")
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        generator.set_state(state["generator"].cpu())
        step, elapsed, history = state["step"], state["elapsed"], state["history"]

    def save() -> None:
        buffer = io.BytesIO()
        state = dict(model=model.state_dict(), optimizer=optimizer.state_dict(), generator=generator.get_state())
        torch.save(state | dict(step=step, elapsed=elapsed, history=history), buffer)
        write_bytes(state_file, buffer.getvalue())
        recipe = dataclasses.asdict(config)
        save_checkpoint(args.out / "last.safetensors", model, recipe=recipe, step=step, minutes=elapsed / 60)
        write_csv(args.out / "log.csv", history)

    model.train()
    bar = tqdm(total=config.train.steps, initial=step, unit="step")
    while True:
        progress = step / config.train.steps
        if config.train.minutes is not None:
            progress = max(progress, elapsed / 60 / config.train.minutes)
        if progress >= 1:
            break
        start = time.perf_counter()
        batch = sampler.batch(config.train.batch, device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, config)
        terms = rf_step(model, batch, config)
        if not torch.isfinite(terms["total"]):
            raise UserError(f"step {step}: the loss is not finite ({ {k: float(v) for k, v in terms.items()} })")
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.train.clip)
        optimizer.step()
        step, elapsed = step + 1, elapsed + time.perf_counter() - start
        history.append({"step": step, "minutes": elapsed / 60} | {k: v.item() for k, v in terms.items()})
        bar.update()
        bar.set_postfix(total=f"{history[-1]['total']:.3f}")
        if step % config.train.save_every == 0:
            save()
    bar.close()
    save()


if __name__ == "__main__":
    run(main)
