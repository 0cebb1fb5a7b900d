"""Train SuperFusion: stage RF (registration and fusion together), F (fusion), FS (fusion for segmentation) or SEG (the
segmenter).

python train.py --config configs/rf_msrs.yaml --out runs/rf [--set train.minutes=25] [--resume]
accelerate launch train.py ...        or torchrun --nproc_per_node 2 train.py ...: several GPUs, or processes

Writes OUT/last.safetensors and, with validation pairs, OUT/best.safetensors (the averaged weights, which rebuild their
own model), OUT/state.pt (everything --resume needs), OUT/validation.csv and OUT/tensorboard/.
"""

import argparse
import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from pytorch_optimizer import SOAP
from torch import Tensor, nn
from tqdm import tqdm

from datasets.crops import CropSampler
from datasets.paired import Pair
from losses.objectives import f_objective, fs_objective, rf_objective, seg_objective
from models import BiSeNet, SuperFusion, load_segmenter, load_weights
from models.build import build_superfusion
from models.warping import valid_mask, warp
from models.weights import save_checkpoint
from utils.colour import luminance, rgb_to_ycbcr, ycbcr_to_rgb
from utils.device import warn_of_slow_bfloat16
from utils.errors import UserError, run
from utils.files.results import write_csv
from utils.files.writing import check_writable
from utils.memory import keep_freed_memory
from utils.training.config import Config, load_config
from utils.training.distributed import Interruption, largest, synchronise_batch_norm
from utils.training.log import Log
from utils.training.schedule import averaged, learning_rate, progress
from utils.training.state import Position, gather_random, load_state, restore_random, save_state
from utils.training.validation import (
    fusion_scores,
    fusion_sheets,
    registration_scores,
    registration_sheets,
    segmentation_scores,
    validation_pairs,
)

Terms = dict[str, Tensor]


def rf_step(model: SuperFusion, batch: dict[str, Tensor], config: Config) -> Terms:
    """Stage RF: match both ways, warp both images, fuse both ways, score. Returns weighted terms and ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.deformed`. Networks run in the precision of the run, warps
    and losses in float32.
    """
    ir, y, n = batch["ir"], batch["y"], len(batch["ir"]) // 2
    k = min(config.train.fusion_batch, n)
    flows = model.matcher(batch["match_ir"].expand(-1, 3, -1, -1), batch["match_vi"], directions=("ir2vi", "vi2ir"))
    with torch.autocast(ir.device.type, enabled=False):
        flows = {way: [flow.float() for flow in scales] for way, scales in flows.items()}
        warped_ir, warped_vi = warp(ir, flows["ir2vi"][-1]), warp(y, flows["vi2ir"][-1])
        # (registered IR, VI), and its counterpart (IR, registered VI), which shows the same.
        fused_ir, fused_vi = torch.cat((warped_ir[:k], ir[n : n + k])), torch.cat((y[:k], warped_vi[n : n + k]))
        seen = {way: valid_mask(flows[way][-1]) * batch[f"valid_{way}"] for way in flows}
        valid = torch.cat((seen["ir2vi"][:k], seen["vi2ir"][n : n + k]))
    result = {"flows": flows, "warped_ir": warped_ir, "warped_vi": warped_vi}
    if config.loss.fusion or config.loss.consistency:
        fused = model.fusion(fused_ir, fused_vi).float()
        result |= {"fused": fused, "fused_ir": fused_ir, "fused_vi": fused_vi, "fused_valid": valid}
    with torch.autocast(ir.device.type, enabled=False):
        return rf_objective(result, batch, config.loss)


def fuse_aligned(model: SuperFusion, batch: dict[str, Tensor]) -> Terms:
    """The fused luminance of an aligned batch, with what the fusion terms look at."""
    ir, y = batch["ir"], luminance(batch["vi"])
    fused = model.fusion(ir, y).float()
    return {"fused": fused, "fused_ir": ir, "fused_vi": y, "fused_valid": torch.ones_like(y)}


def f_step(model: SuperFusion, batch: dict[str, Tensor], config: Config) -> Terms:
    """Stage F: fuse an aligned pair, score. Returns weighted terms and ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.aligned`.
    """
    result = fuse_aligned(model, batch)
    with torch.autocast(result["fused"].device.type, enabled=False):
        return f_objective(result, config.loss)


def fs_step(model: SuperFusion, batch: dict[str, Tensor], config: Config, segmenter: BiSeNet) -> Terms:
    """Stage FS: fuse an aligned pair, segment the fused image, score. Returns weighted terms and ``total``.

    ``batch`` is that of :meth:`datasets.crops.CropSampler.aligned`, with labels. The segmenter is frozen; the gradient
    passes through it to the fusion network.
    """
    result = fuse_aligned(model, batch)
    if config.loss.semantic:
        fused, (_, cb, cr) = result["fused"], rgb_to_ycbcr(batch["vi"])
        logits, auxiliary = segmenter(ycbcr_to_rgb(fused, cb, cr))
        result |= {"logits": logits, "auxiliary": auxiliary}
    with torch.autocast(result["fused"].device.type, enabled=False):
        return fs_objective(result, batch["label"], config.loss)


def seg_step(segmenter: BiSeNet, batch: dict[str, Tensor], config: Config, picture: Callable) -> Terms:
    """Stage SEG: segment the visible, infrared or fused image (``picture`` of IR and VI), score."""
    logits, auxiliary = segmenter(picture(batch["ir"], batch["vi"]).expand(-1, 3, -1, -1))
    with torch.autocast(logits.device.type, enabled=False):
        return seg_objective(logits, auxiliary, batch["label"], config.loss)


@dataclasses.dataclass
class Stage:
    """What a stage trains, on what, and how it is scored."""

    network: nn.Module  # trained, averaged and saved
    step: Callable[[nn.Module, dict[str, Tensor]], Terms]
    draw: Callable[[int], tuple[dict[str, Tensor], list[str]]]  # a batch of so many images, and their names
    pairs: list[Pair]  # validated on
    validate: Callable[[nn.Module], tuple[dict[str, float], dict[str, Tensor]]]  # gives figures, and pictures by name
    best: str  # the figure by which the best weights are kept
    lower_is_better: bool = False


def rf_stage(config: Config, sampler: CropSampler, device: torch.device) -> Stage:
    """Stage RF trains the whole SuperFusion on aligned pairs."""
    pairs = validation_pairs(config.data, labels=False)

    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        figures = registration_scores(model, pairs, device) | fusion_scores(model, pairs, device)
        return figures, registration_sheets(model, pairs, device)

    step = partial(rf_step, config=config)
    model = superfusion(config, device)
    return Stage(model, step, sampler.deformed, pairs, validate, "EPE_band_free", lower_is_better=True)


def f_stage(config: Config, sampler: CropSampler, device: torch.device) -> Stage:
    """Stage F trains SuperFusion's fusion network on aligned pairs; its matcher stays as it is."""
    model = superfusion(config, device)
    model.matcher.requires_grad_(False)
    pairs = validation_pairs(config.data, labels=False)

    @torch.inference_mode()
    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        batches = ({"ir": luminance(pair.ir[None]).to(device), "vi": pair.vi[None].to(device)} for pair in pairs)
        loss = statistics.fmean(float(f_step(model, batch, config)["total"]) for batch in batches)
        figures = {"fusion_loss": loss} | fusion_scores(model, pairs, device)
        return figures, fusion_sheets(model, pairs, device)

    return Stage(model, partial(f_step, config=config), sampler.aligned, pairs, validate, "fusion_loss", True)


def fs_stage(config: Config, sampler: CropSampler, device: torch.device) -> Stage:
    """Stage FS trains SuperFusion's fusion network on aligned pairs with labels, through a frozen segmenter."""
    if not config.train.segmenter:
        raise UserError("stage FS needs train.segmenter: the weights of a BiSeNet, of stage SEG or SeAFusion's")
    if not config.train.init:
        raise UserError("stage FS needs train.init: the weights of a SuperFusion, whose fusion network it tunes")
    segmenter = load_segmenter(config.train.segmenter).to(device).requires_grad_(False)
    model = superfusion(config, device)
    model.matcher.requires_grad_(False)
    pairs = validation_pairs(config.data, labels=True)

    def validate(model: SuperFusion) -> tuple[dict[str, float], dict[str, Tensor]]:
        figures, sheets = segmentation_scores(segmenter, model.fuse, pairs, device)
        return figures | fusion_scores(model, pairs, device), sheets

    return Stage(model, partial(fs_step, config=config, segmenter=segmenter), sampler.aligned, pairs, validate, "mIoU")


def seg_stage(config: Config, sampler: CropSampler, device: torch.device) -> Stage:
    """Stage SEG trains a BiSeNet on labelled visible, infrared or fused images."""
    start = config.train.segmenter
    segmenter = (load_segmenter(start) if start else BiSeNet()).to(device)
    pairs = validation_pairs(config.data, labels=True)
    picture = {"vi": lambda ir, vi: vi, "ir": lambda ir, vi: luminance(ir)}.get(config.data.input)
    if config.data.input == "fused":
        if not config.train.init:
            raise UserError("data.input=fused needs train.init: the weights of the SuperFusion to fuse with")
        picture = torch.no_grad()(superfusion(config, device).eval().fuse)

    def validate(segmenter: BiSeNet) -> tuple[dict[str, float], dict[str, Tensor]]:
        return segmentation_scores(segmenter, picture, pairs, device)

    return Stage(segmenter, partial(seg_step, config=config, picture=picture), sampler.aligned, pairs, validate, "mIoU")


STAGES = {"RF": rf_stage, "F": f_stage, "FS": fs_stage, "SEG": seg_stage}


def superfusion(config: Config, device: torch.device) -> SuperFusion:
    """The SuperFusion of the config, with the weights of ``train.init`` if there are any."""
    try:
        model = build_superfusion(**config.model)
    except (TypeError, ValueError) as error:
        raise UserError(f"config: model: {error}") from error
    if config.train.init:
        load_weights(model, config.train.init)
    return model.to(device)


class Step(nn.Module):
    """A network with its step as ``forward``, so that Accelerate can wrap both at once."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.network, self.step = stage.network, stage.step

    def forward(self, batch: dict[str, Tensor]) -> Terms:
        return self.step(self.network, batch)


def check_finite(values: dict[str, float], step: int, names: list[str], state_file: Path) -> None:
    """Raise UserError if one of ``values`` is not finite; the state saved last stays as it is."""
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise UserError(
            f"step {step}: {bad[0]} is {values[bad[0]]} on a batch of {', '.join(names)}; stopped, with {state_file} "
            "as it was saved last; a lower train.lr or a smaller weight of that term may help"
        )


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="YAML file, see configs/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="assignments",
        help="change one value, as often as needed; 'data.sets={A: 1}' replaces, data.sets.A=1 adds",
    )
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: the GPU that Accelerate finds")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    return parser.parse_args(argv)


def make_accelerator(config: Config, device: str) -> Accelerator:
    """Devices, processes, precision and accumulation as the config, the launcher and ``device`` ask for."""
    # Without a GPU, several processes find one another only if the CPU is asked for.
    cpu = device == "cpu" or not torch.accelerator.is_available()
    if cpu and config.train.precision == "fp16":
        raise UserError("train.precision=fp16 needs a GPU; on a CPU use no or bf16")
    try:
        return Accelerator(
            cpu=cpu,
            mixed_precision=config.train.precision,
            gradient_accumulation_steps=config.train.accumulate,
            # What a term of weight 0 would train gets no gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UserError(f"train.precision={config.train.precision}: {error}") from error


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    config = load_config(args.config, args.assignments)
    train, state_file = config.train, args.out / "state.pt"
    if state_file.exists() and not args.resume:
        raise UserError(f"{state_file}: a run is there already; go on with --resume, or choose another --out")
    state = load_state(state_file, config) if args.resume else None

    keep_freed_memory()
    accelerator = make_accelerator(config, args.device)
    device, chief = accelerator.device, accelerator.is_main_process
    if chief and train.precision == "bf16":
        warn_of_slow_bfloat16(device, "train.precision=no")
    torch.manual_seed(train.seed)
    labels = config.stage in ("FS", "SEG")
    sampler = CropSampler(config.data, train.seed + accelerator.process_index, device, labels)
    stage = STAGES[config.stage](config, sampler, device)
    network = stage.network.train()
    if chief:
        check_writable(args.out)
        for left_behind in args.out.glob(".*.tmp"):  # by a run that was killed while it saved
            left_behind.unlink()
    if accelerator.num_processes > 1:
        synchronise_batch_norm(network)
    if train.channels_last:
        network.to(memory_format=torch.channels_last)
    average = averaged(network, train.ema).eval()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kind = {"adam": torch.optim.Adam, "soap": SOAP}[train.optimizer]
    optimizer = kind(parameters, lr=train.lr, weight_decay=train.weight_decay)
    if train.compile:
        network.compile_convolutions()
    run_step, optimizer = accelerator.prepare(Step(stage), optimizer)
    here, parts = Position(), dict(network=network, average=average, optimizer=optimizer)
    if accelerator.scaler is not None:
        parts["scaler"] = accelerator.scaler
    if state:
        here = Position(**state["position"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
        restore_random(state["random"], sampler, accelerator, state_file)

    def save() -> None:
        random = gather_random(sampler, accelerator)
        if chief:
            states = {name: part.state_dict() for name, part in parts.items()}
            save_state(state_file, config, position=dataclasses.asdict(here), random=random, **states)
            keep("last")

    def keep(name: str) -> None:
        about = dict(recipe=dataclasses.asdict(config), step=here.step, minutes=here.minutes)
        save_checkpoint(args.out / f"{name}.safetensors", average.module, **about, validation=here.validations[-1:])

    def validate() -> None:
        if chief and stage.pairs:
            figures, pictures = stage.validate(average.module)
            here.validations.append({"step": here.step, "minutes": round(here.minutes, 2)} | figures)
            log.write({f"validation/{name}": value for name, value in figures.items()}, here.step, pictures)
            bar.write(f"step {here.step}: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
            write_csv(args.out / "validation.csv", here.validations)
            score = -figures[stage.best] if stage.lower_is_better else figures[stage.best]
            if score > here.best:
                here.best = score
                keep("best")
        here.validated = here.step
        accelerator.wait_for_everyone()

    bar = tqdm(total=train.steps, initial=here.step, unit="step", disable=None if chief else True)
    with Interruption() as interruption, Log(args.out, here.step, chief) as log, bar:
        begun = time.perf_counter() - 60 * here.minutes
        while True:
            here.minutes = (time.perf_counter() - begun) / 60
            done, stop = largest(accelerator, progress(here.step, here.minutes, train), interruption.requested)
            if stop or done >= 1:
                break
            start, rate = time.perf_counter(), learning_rate(done, train)
            for group in optimizer.param_groups:
                group["lr"] = rate
            for _ in range(train.accumulate):
                batch, names = stage.draw(train.batch)
                with accelerator.accumulate(run_step):
                    terms = run_step(batch)
                    values = dict(zip(terms, torch.stack(list(terms.values())).tolist()))
                    check_finite(values, here.step, names, state_file)
                    accelerator.backward(terms["total"])
                    if accelerator.sync_gradients:
                        norm = float(accelerator.clip_grad_norm_(parameters, train.clip))
                        if accelerator.scaler is None:  # which in fp16 skips such steps itself
                            check_finite({"the gradient's norm": norm}, here.step, names, state_file)
                    optimizer.step()
                    optimizer.zero_grad()
            average.update_parameters(network)
            here.step += 1
            speed = train.batch * train.accumulate * accelerator.num_processes / (time.perf_counter() - start)
            run_values = {"learning_rate": rate, "gradient_norm": norm, "samples_per_second": speed}
            log.write({f"loss/{name}": value for name, value in values.items()} | run_values, here.step)
            bar.update()
            bar.set_postfix(total=f"{values['total']:.3f}", samples_per_second=f"{speed:.2f}")
            if here.step % train.validate_every == 0:
                validate()
            if here.step % train.save_every == 0:
                save()
        if not stop and here.validated != here.step:
            validate()
        save()
    accelerator.end_training()
    if chief and stop:
        print(f"stopped after step {here.step}, all is saved in {args.out}/; --resume goes on", file=sys.stderr)
    elif chief:
        best = (
            f", best {stage.best} {abs(here.best):.3f}" if stage.pairs else "; nothing to validate on, no best weights"
        )
        print(f"done after step {here.step}{best}; weights in {args.out}/")
    if stop:
        sys.exit(130)


if __name__ == "__main__":
    run(main)
