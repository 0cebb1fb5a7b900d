"""The script that test_distributed.py launches in two processes: ``torchrun ... distributed_worker.py FOLDER``.

FOLDER holds recipe.yaml and batch.pt, and pairs to register in shared/. Each process writes its results to
FOLDER/found<rank>.pt.
"""

import contextlib
import io
import os
import signal
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import test as test_script
import train
from utils.errors import UserError
from utils.training.config import load_config
from utils.training.distributed import make_accelerator, synchronise_batch_norm
from utils.training.stages import STAGES
from utils.training.stages.base import Step

RANK = int(os.environ["RANK"])

# Every run here is to leave the process group to the next one.
Accelerator.end_training = lambda self: None


def normalised(images):
    """Normalise this process's half of ``images``: returns output, gradients and buffers."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3))
    nn.init.normal_(module[0].weight)
    synchronise_batch_norm(module, images.device)
    half = images.chunk(2)[RANK].requires_grad_()
    result = module(half)
    result.square().mul(half.detach()).sum().backward()
    evaluated = module.eval()(half)
    gradients = {"images": half.grad, "weight": module[0].weight.grad, "bias": module[0].bias.grad}
    return {"result": result, "evaluated": evaluated, "buffers": module.state_dict(), **gradients}


def gradients(folder):
    """The gradients of stage RF on this process's half of the batch, averaged over the processes by the step."""
    config = load_config(folder / "recipe.yaml")
    accelerator = make_accelerator("float32", 1, "cpu" if torch.accelerator.is_available() else "auto")
    assert accelerator.num_processes == 2 and accelerator.process_index == RANK
    torch.manual_seed(0)
    stage = STAGES["RF"](config, accelerator.device, 0)
    synchronise_batch_norm(stage.network.train(), accelerator.device)
    step = accelerator.prepare(Step(stage))
    batch = torch.load(folder / "batch.pt", weights_only=True)
    n = len(batch["ir"]) // 2
    accelerator.backward(step({key: value[[RANK, RANK + n]] for key, value in batch.items()})["total"])
    found = {name: parameter.grad for name, parameter in stage.network.named_parameters()}
    images = normalised(torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0)))
    return {"gradients": found, "buffers": dict(stage.network.named_buffers()), "normalised": images}


def run(folder, name, *options):
    """Train; returns the exit code and this process's weights."""
    networks, average = [], train.Average
    train.Average = lambda network, decay: networks.append(network) or average(network, decay)
    code = 0
    try:
        train.main(["--config", str(folder / "recipe.yaml"), "--out", str(folder / name), "--device", "cpu", *options])
    except SystemExit as ended:
        code = ended.code
    train.Average = average
    return code, networks[0].state_dict()


def interrupted_run(folder, name):
    """A run in which only the second process is interrupted, in the second step."""
    make_stage, steps = STAGES["RF"], []

    def interrupted(config, device, seed):
        stage = make_stage(config, device, seed)
        original = stage.step

        def step(model, batch):
            steps.append(len(steps))
            if RANK == 1 and len(steps) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return original(model, batch)

        stage.step = step
        return stage

    STAGES["RF"] = interrupted
    result = run(folder, name)
    STAGES["RF"] = make_stage
    return result


def shared(folder):
    """Register the pairs of a folder; returns what is printed, and the error at the end."""
    data = ("--ir", folder / "shared" / "ir", "--vi", folder / "shared" / "vi", "--mode", "Reg", "--registrar", "none")
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            arguments = (*data, "--device", "cpu", "--sheets", "2", "--out", folder / "shared" / "out")
            test_script.main([str(argument) for argument in arguments])
        except UserError as raised:
            error = str(raised)
    return printed.getvalue(), error


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    found = gradients(folder)
    found["straight"] = run(folder, "straight")
    found["interrupted"] = interrupted_run(folder, "interrupted")
    found["resumed"] = run(folder, "interrupted", "--resume")
    found["shared"] = shared(folder)
    torch.save(found, folder / f"found{RANK}.pt")
    torch.distributed.destroy_process_group()
