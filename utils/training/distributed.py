"""Devices and processes: set-up, synchronised batch normalisation, and a common stop."""

import os
import signal
import time

import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from utils.device import pick_device
from utils.errors import UserError
from utils.training.config import choose

# train.precision -> Accelerate's mixed_precision.
PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(precision: str, accumulate: int, device: str) -> Accelerator:
    """Set up the launcher's processes on ``device`` (:func:`utils.device.pick_device`), with mixed ``precision``.

    A step accumulates the gradients of ``accumulate`` batches. Raises UserError for an unavailable device or precision.
    """
    mixed_precision, chosen = choose("train.precision", precision, PRECISIONS), pick_device(device)
    if chosen.index is not None:
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise UserError(f"--device {device}: several processes take a GPU each; use --device cuda")
        torch.cuda.set_device(chosen)
    if chosen.type == "cpu" and precision == "float16":
        raise UserError("train.precision=float16 needs a GPU; on a CPU use float32 or bfloat16")
    try:
        return Accelerator(
            # Without a GPU, several processes connect only if the CPU is requested.
            cpu=chosen.type == "cpu",
            mixed_precision=mixed_precision,
            gradient_accumulation_steps=accumulate,
            # Parameters that only a term of weight 0 would train get no gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UserError(f"train.precision={precision}: {error}") from error


class _Sum(torch.autograd.Function):
    """Sum a tensor over all processes; the gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    backward = forward


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes on CPUs; nn.SyncBatchNorm supports only GPUs.

    The batches of all processes must have one shape. Keys and buffers are those of BatchNorm2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``; same shape, float32 in training."""
        if not self.training:
            return super().forward(x)
        x, processes = x.float(), dist.get_world_size()
        mean = _Sum.apply(x.mean(dim=(0, 2, 3))) / processes
        centred = x - mean.view(1, -1, 1, 1)
        variance = _Sum.apply(centred.square().mean(dim=(0, 2, 3))) / processes
        with torch.no_grad():
            count = processes * x.numel() / x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        normalised = centred * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if not self.affine:
            return normalised
        return normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Replace every BatchNorm2d in ``module`` by one that normalises over the batches of all processes.

    States and keys are kept; returns ``module``, changed in place unless it is a BatchNorm2d itself.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    if type(module) is nn.BatchNorm2d:
        synchronised = SynchronisedBatchNorm2d(module.num_features, module.eps, module.momentum, module.affine)
        synchronised.load_state_dict(module.state_dict())
        return synchronised.to(next(module.buffers()).device)
    for name, child in module.named_children():
        setattr(module, name, synchronise_batch_norm(child, device))
    return module


def largest(accelerator: Accelerator, *values: float) -> list[float]:
    """Return the maximum of each value over all processes, so that they all make the same decision.

    A single process does not wait for its device.
    """
    if accelerator.num_processes == 1:
        return list(values)
    local = torch.tensor([values], dtype=torch.float32, device=accelerator.device)
    return accelerator.gather(local).amax(dim=0).tolist()


class Interruption:
    """Convert the first Ctrl-C (or SIGTERM) inside ``with`` to the flag ``requested``, so that the step can finish.

    The next one interrupts immediately, unless it follows within a second: a launcher forwards the signal that its
    processes have already received from the terminal.
    """

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "Interruption":
        self.previous = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _request(self, *_) -> None:
        if not self.requested:
            self.requested, self.since = True, time.monotonic()
        elif time.monotonic() - self.since > 1:
            raise KeyboardInterrupt
