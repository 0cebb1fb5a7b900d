"""Register and fuse infrared and visible images: two files, two folders, or a test set.

python test.py                                                   the embedded sample scenes
python test.py --ir thermal.tif --vi visible.jpg                 two files
python test.py --ir thermal/ --vi visible/                       two folders, pairs by file name
python test.py --dataset_name MSRS --data_root DIR               a test set, errors in pixels reported
"""

import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from datasets.paired import Pair, PairedFolders, test_set
from datasets.sample import SampleScenes
from evaluate import evaluate, metric_names, open_results
from models import SuperFusion, load_model
from models.warping import valid_mask
from utils.device import pick_device
from utils.errors import UserError, run
from utils.images import check_writable, write_bytes, write_image
from utils.metrics.registration import central_rectangle, registration_metrics
from utils.plots import checkerboard, flow_colours, gradient_overlay, sheet, warped_grid
from utils.results import means, write_csv, write_json

SHIPPED = Path(__file__).parent / "checkpoints" / "superfusion.safetensors"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--mode", choices=("Reg", "Fusion", "Reg&Fusion"), default="Reg&Fusion")
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument("--data_root", type=Path, help="holds NAME/test/{ir,vi,...} or the authors' test/NAME/")
    parser.add_argument("--ir", type=Path, help="an infrared image, or a folder of them")
    parser.add_argument("--vi", type=Path, help="a visible image, or a folder of them")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="our .safetensors or the authors' .pth")
    parser.add_argument("--save_dir", type=Path, default=Path("results"), help="default: results")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pairs")
    parser.add_argument("--save_flow", action="store_true", help="also write SAVE_DIR/flow/NAME.npz")
    parser.add_argument("--metrics", help="also score the results: all, paper (the paper's six) or names: MI,SSIM,...")
    args = parser.parse_args(argv)
    if (args.ir is None) != (args.vi is None):
        parser.error("--ir and --vi go together")
    if (args.dataset_name is None) != (args.data_root is None):
        parser.error("--dataset_name and --data_root go together")
    if args.ir is not None and args.dataset_name is not None:
        parser.error("give either --ir and --vi, or --dataset_name and --data_root")
    if args.limit is not None and args.limit < 1:
        parser.error("--limit must be at least 1")
    return args


def open_pairs(args: argparse.Namespace) -> PairedFolders | SampleScenes:
    if args.dataset_name:
        pairs = test_set(args.data_root, args.dataset_name)
    elif args.ir:
        pairs = PairedFolders(args.ir, args.vi)
    else:
        pairs = SampleScenes()
    pairs.names = pairs.names[: args.limit]
    return pairs


def process(model: SuperFusion, pair: Pair, mode: str, device: torch.device) -> dict[str, Tensor]:
    """Run ``mode`` on one pair; returns images ``(C, H, W)`` and the flow, on the CPU.

    ``ir`` (what the network saw) and ``vi``; after registration ``registered``, ``flow_ir2vi`` and ``valid``; after
    fusion ``fused``, in which the visible image stands where ``valid`` is 0.
    """
    ir = (pair.ir if pair.ir_warp is None or mode == "Fusion" else pair.ir_warp)[None]
    vi = pair.vi[None].to(device)
    if pair.flow is None:
        # Cameras differ in resolution; the registration works in the visible image's frame.
        ir = F.interpolate(ir, vi.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
    ir = ir.to(device)
    result = {"ir": ir, "vi": vi}
    with torch.inference_mode():
        if mode == "Reg":
            result |= model.register(ir, vi)
        elif mode == "Fusion":
            result["fused"] = model.fuse(ir, vi)
        else:
            result |= model(ir, vi)
            result["fused"] = torch.where(result["valid"] > 0, result["fused"], vi)
    return {key: tensor[0].cpu() for key, tensor in result.items()}


def save(save_dir: Path, name: str, result: dict[str, Tensor], save_flow: bool) -> None:
    """Write what :func:`process` made of one pair, and a sheet that shows it at a glance."""
    panels = {"visible (VI)": result["vi"], "infrared (IR) as given": result["ir"]}
    if "fused" in result:
        write_image(save_dir / "fused" / f"{name}.png", result["fused"])
        panels["fused"] = result["fused"]
    if "registered" in result:
        write_image(save_dir / "registered" / f"{name}.png", result["registered"])
        panels["IR registered"] = result["registered"]
        panels["before: IR gradients on VI"] = gradient_overlay(result["ir"], result["vi"])
        panels["after: IR gradients on VI"] = gradient_overlay(result["registered"], result["vi"])
        panels["checkerboard of VI and registered IR"] = checkerboard(result["vi"], result["registered"])
        panels["flow: colours for direction"] = flow_colours(result["flow_ir2vi"])
        panels["flow: what it makes of a grid"] = warped_grid(result["flow_ir2vi"])
        if save_flow:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, flow_ir2vi=result["flow_ir2vi"].numpy(), valid=result["valid"].numpy())
            write_bytes(save_dir / "flow" / f"{name}.npz", buffer.getvalue())
    write_image(save_dir / "sheets" / f"{name}.png", sheet(panels))


def score(model: SuperFusion, pair: Pair, result: dict[str, Tensor], device: torch.device) -> dict[str, dict]:
    """Registration errors under both protocols, before and after, where the pair's true displacement is known.

    "official" is the pair as shipped; "band_free" registers it anew, cropped to the largest central rectangle that
    shows no black band of ``ir_warp``. Empty without a true displacement, or without registration.
    """
    if pair.flow is None or pair.ir_warp is None or "flow_ir2vi" not in result:
        return {}
    scores = {"official": before_and_after(result["flow_ir2vi"], pair.flow)}
    rows, columns = central_rectangle(valid_mask(pair.flow[None])[0, 0])
    parts = (pair.ir, pair.vi, pair.ir_warp, pair.flow)
    cropped = Pair(pair.name, *(part[:, rows, columns] for part in parts))
    if min(cropped.vi.shape[-2:]) >= 32:
        flow = process(model, cropped, "Reg", device)["flow_ir2vi"]
        scores["band_free"] = before_and_after(flow, cropped.flow)
    return scores


def before_and_after(estimated: Tensor, true: Tensor) -> dict[str, dict[str, float]]:
    return {
        "before": registration_metrics(torch.zeros_like(true)[None], true[None]),
        "after": registration_metrics(estimated[None], true[None]),
    }


def flatten(scores: dict[str, dict]) -> dict[str, float]:
    """The scores of one pair as columns: ``EPE_after`` of the official protocol, ``EPE_after_band_free`` ..."""
    return {
        f"{metric}_{when}" + ("" if protocol == "official" else f"_{protocol}"): value
        for protocol, stages in scores.items()
        for when, figures in stages.items()
        for metric, value in figures.items()
    }


def summarise(rows: list[dict], scores: list[dict[str, dict]]) -> dict:
    """The content of summary.json; the official means also stand directly below "registration"."""
    summary = {"pairs": len(rows), "seconds_per_pair": means(rows, ["seconds"])["seconds"]}
    registration = {}
    for protocol in ("official", "band_free"):
        scored = [s[protocol] for s in scores if protocol in s]
        if scored:
            stages = {when: [s[when] for s in scored] for when in ("before", "after")}
            registration[protocol] = {when: means(figures, figures[0]) for when, figures in stages.items()}
    return summary | ({"registration": registration["official"] | registration} if registration else {})


def report(summary: dict, save_dir: Path) -> None:
    """Print the final lines."""
    print(f"{summary['pairs']} pairs, {summary['seconds_per_pair']:.2f} s each; results in {save_dir}/")
    for protocol in ("official", "band_free"):
        if protocol in summary.get("registration", {}):
            before, after = (summary["registration"][protocol][when] for when in ("before", "after"))
            figures = (f"{name} {before[name]:.2f} -> {after[name]:.2f} px" for name in ("EPE", "RE", "EPE_p95"))
            print(f"{protocol:>10}:  " + "   ".join(figures))


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    metrics = metric_names(args.metrics) if args.metrics else ()
    pairs = open_pairs(args)
    model = load_model(args.checkpoint).to(device)
    check_writable(args.save_dir)

    rows, scores, failures = [], [], []
    bar = tqdm(pairs.names, unit="pair", disable=None)
    for index, name in enumerate(bar):
        try:
            pair = pairs[index]
            start = time.perf_counter()
            result = process(model, pair, args.mode, device)
            seconds = time.perf_counter() - start
            scored = score(model, pair, result, device)
        except (UserError, ValueError) as error:
            failures.append(str(error) if isinstance(error, UserError) else f"{name}: {error}")
            continue
        save(args.save_dir, name, result, args.save_flow)
        rows.append({"name": name} | flatten(scored) | {"seconds": seconds})
        scores.append(scored)
        bar.set_postfix_str(f"{seconds:.2f} s/pair")

    if rows:
        summary = summarise(rows, scores)
        write_csv(args.save_dir / "per_image.csv", rows)
        write_json(args.save_dir / "summary.json", summary)
        report(summary, args.save_dir)
    if rows and metrics:
        results = open_results(f"SuperFusion={args.save_dir}", pairs.has_flow)
        failures += evaluate(pairs, [results], metrics, args.save_dir / "scores", os.cpu_count())
    if failures:
        raise UserError("\nerror: ".join(failures))


if __name__ == "__main__":
    run(main)
