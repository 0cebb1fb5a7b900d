"""Time each fusion metric on one seeded, textured 640x480 triple: ``python -m utils.benchmark.metrics``.

It uses PyTorch's number of threads; set ``OMP_NUM_THREADS=1`` for one core.
"""

import time

import torch

from utils.metrics.fusion import METRICS, PAPER_SCALE

HEIGHT, WIDTH = 480, 640


def textured_image(generator: torch.Generator) -> torch.Tensor:
    """Draw gray noise ``(480, 640)``, integers in 0..255: five octaves, coarser ones with larger amplitude."""
    image = torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    for step in (2, 4, 8, 16, 32):
        noise = torch.randn(1, 1, HEIGHT // step, WIDTH // step, generator=generator, dtype=torch.float64)
        image += step**0.5 * torch.nn.functional.interpolate(noise, size=(HEIGHT, WIDTH), mode="bilinear")
    low, high = image.aminmax()
    return ((image - low) / (high - low) * 255).round()[0, 0]


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    ir, vi = textured_image(generator), textured_image(generator)
    fused = (0.5 * ir + 0.5 * vi).round()
    print(f"{WIDTH}x{HEIGHT}, {torch.get_num_threads()} thread(s); best of 3, seconds")
    total = 0.0
    for name, metric in (METRICS | PAPER_SCALE).items():
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            metric(ir, vi, fused).item()
            seconds.append(time.perf_counter() - start)
        total += min(seconds) if name in METRICS else 0.0
        print(f"{name:14s} {min(seconds):.4f}")
    print(f"{'total':14s} {total:.4f}  (without the variants {', '.join(PAPER_SCALE)})")


if __name__ == "__main__":
    main()
