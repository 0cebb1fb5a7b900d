"""Train SuperFusion: stage R (registration), RF (registration and fusion together), F (fusion), FS (fusion for
segmentation) or SEG (the segmenter).

python train.py --config configs/rf_msrs.yaml --out runs/rf [--set train.minutes=25] [--resume]
accelerate launch train.py ...        or torchrun --nproc_per_node 2 train.py ...: several GPUs, or processes

The method is in utils/training/stages/, one file per stage: r_step, rf_step, f_step, fs_step and seg_step
compute one step.
This file contains the loop, which is the same for all stages.

Writes OUT/last.safetensors and, with validation pairs, OUT/best.safetensors (the averaged weights, which rebuild their
own model), OUT/state.pt (everything --resume needs), OUT/validation.csv and .png, and OUT/tensorboard/.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from utils.device import warn_of_slow_bfloat16
from utils.errors import UserError, run
from utils.files.writing import check_apart
from utils.memory import keep_freed_memory
from utils.training.config import choose, load_config
from utils.training.distributed import Interruption, largest, make_accelerator, synchronise_batch_norm
from utils.training.log import Log
from utils.training.optimizers import OPTIMIZERS
from utils.training.record import Record
from utils.training.run import Run
from utils.training.schedule import Average, learning_rate, share_done
from utils.training.stages import STAGES
from utils.training.stages.base import Step
from utils.training.state import load_state


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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    config = load_config(args.config, args.assignments)
    train, state_file = config.train, args.out / "state.pt"
    make_stage = choose("stage", config.stage, STAGES)
    make_optimizer = choose("train.optimizer", train.optimizer, OPTIMIZERS)
    written = [state_file, *(args.out / f"{name}.safetensors" for name in ("last", "best"))]
    given = {name: Path(path) for name in ("init", "segmenter") if (path := getattr(train, name))}
    for name, path in given.items():  # also where the stage would not read it
        if not path.is_file():
            raise UserError(f"train.{name}: {path}: no such checkpoint file")
    check_apart(list(given.values()), files=written)
    existing = next((path for path in written if path.exists()), None)
    if existing and not args.resume:
        raise UserError(f"{existing}: a run is there already; go on with --resume, or choose another --out")
    state = load_state(state_file, config) if args.resume else None

    # Set-up.
    keep_freed_memory()
    accelerator = make_accelerator(train.precision, train.accumulate, args.device)
    device, is_main = accelerator.device, accelerator.is_main_process
    if is_main and train.precision == "bfloat16":
        warn_of_slow_bfloat16(device, "train.precision=float32")
    torch.manual_seed(train.seed)
    stage = make_stage(config, device, train.seed + accelerator.process_index)
    if is_main:
        for line in stage.sampler.lines:
            print(line, file=sys.stderr)
        for name in given:
            if name in stage.unused:
                print(f"note: train.{name} is not used by stage {config.stage}", file=sys.stderr)
        if not stage.pairs:
            print("note: no pairs to validate on, so no best weights; set data.hold_out or data.val", file=sys.stderr)
    network = stage.network.train()
    if accelerator.num_processes > 1:
        synchronise_batch_norm(network, device)
    if train.channels_last:
        network.to(memory_format=torch.channels_last)
    average = Average(network, train.ema).eval()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(parameters, lr=train.lr, weight_decay=train.weight_decay)
    if train.compile:
        network.compile_convolutions()
    run_step, optimizer = accelerator.prepare(Step(stage), optimizer)
    this_run = Run(args.out, config, accelerator, stage, average, optimizer)
    if state:
        this_run.restore(state)

    # The loop.
    progress = this_run.progress
    bar = tqdm(total=train.steps, initial=progress.step, unit="step", disable=None if is_main else True)
    with Interruption() as interruption, Log(args.out, progress.step, is_main) as log, bar:
        record = Record(log, stage.sampler.names, state_file, accelerator.num_processes, accelerator.scaler is not None)
        begun = time.perf_counter() - 60 * progress.minutes
        while True:
            progress.minutes = (time.perf_counter() - begun) / 60
            done = share_done(progress.step, progress.minutes, train)
            done, stop = largest(accelerator, done, interruption.requested)
            if stop or done >= 1:
                break
            rate = learning_rate(done, train)
            for group in optimizer.param_groups:
                group["lr"] = rate
            stage.sampler.config = config.data_at(done)
            for _ in range(train.accumulate):
                batch, picked = stage.draw(train.batch)
                norm = None
                with accelerator.accumulate(run_step):
                    terms = run_step(batch)
                    accelerator.backward(terms["total"])
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(parameters, train.clip)
                    optimizer.step()
                    optimizer.zero_grad()
                record.add(progress.step, rate, terms, norm, picked)
            average.update_parameters(network)
            progress.step += 1
            bar.update()

            # Between these steps nothing waits for the device.
            validates, saves = progress.step % train.validate_every == 0, progress.step % train.save_every == 0
            if validates or saves or progress.step % train.log_every == 0:
                bar.set_postfix({name: f"{value:.3g}" for name, value in record.flush().items()})
            if validates:
                this_run.validate(log)
            if saves:
                this_run.save()
        record.flush()
        if not stop and progress.validated != progress.step:
            this_run.validate(log)
        this_run.save()
    accelerator.end_training()

    if is_main and stop:
        print(f"stopped after step {progress.step}, all is saved in {args.out}/; --resume goes on", file=sys.stderr)
    elif is_main and stage.pairs:
        best = f"best {stage.best} {abs(progress.best):.3f}"
        print(f"done after step {progress.step}, {best}; weights in {args.out}/")
    elif is_main:
        print(f"done after step {progress.step}; nothing to validate on, no best weights; weights in {args.out}/")
    if stop:
        sys.exit(130)


if __name__ == "__main__":
    run(main)
