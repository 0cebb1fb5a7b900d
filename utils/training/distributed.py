"""What several processes, or a signal from outside, need to agree on while they train one network."""

import signal
import time

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    backward = forward


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, so that they train like one with the whole batch.

    torch's own works on GPUs only. All processes must hold batches of one shape. Keys and buffers are BatchNorm2d's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape, float32 in training."""
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


def synchronise_batch_norm(module: nn.Module) -> None:
    """Make every BatchNorm2d inside ``module`` a :class:`SynchronisedBatchNorm2d`, its state kept."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm2d:
            synchronised = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum, child.affine)
            synchronised.load_state_dict(child.state_dict())
            setattr(module, name, synchronised.to(next(child.buffers()).device))
        else:
            synchronise_batch_norm(child)


def largest(accelerator: Accelerator, *values: float) -> list[float]:
    """The largest of each value over all processes: with it they all take the same decision."""
    own = torch.tensor([values], dtype=torch.float32, device=accelerator.device)
    return accelerator.gather(own).amax(dim=0).tolist()


class Interruption:
    """Within ``with``, the first Ctrl-C (or SIGTERM) only sets ``requested``, so that a step ends and can be saved.

    The next one interrupts at once, unless it comes within a second: a launcher passes on what the terminal has sent
    to its processes already.
    """

    def __init__(self):
        self.requested = False

    def __enter__(self) -> "Interruption":
        self.previous = {kind: signal.signal(kind, self._request) for kind in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for kind, handler in self.previous.items():
            signal.signal(kind, handler)

    def _request(self, *_) -> None:
        if not self.requested:
            self.requested, self.since = True, time.monotonic()
        elif time.monotonic() - self.since > 1:
            raise KeyboardInterrupt
