"""Time the networks on this machine: inference, the scan, a training step, our functions against library functions;
report on a GPU.

python benchmark.py inference [--sizes 640x480 1280x960] [--batch 1] [--network published] [--all_scans] [--plot FILE]
python benchmark.py scan [--widths 160 320 640 1280] [--height 480] [--plot FILE]
python benchmark.py step [--batch 4] [--crop 256]
python benchmark.py registration
python benchmark.py folder [--mode Fusion] [--pairs 24] [--no_sheets]
python benchmark.py libraries
python benchmark.py gpu --out DIR [--data_root data] [--minutes 6] [--smoke]
all with [--device auto|cpu|cuda|mps] [--repeats 3]

inference: register, fuse and both, on a pair of the embedded sample; "plain" is the network in float32 with unoptimised
operations, as in the paper; "x" is the speed-up over it at the same size. Every row is measured in its own processes,
interleaved with those of the other rows.

scan: one four-directional scan of 32 channels, each backend against the row-by-row reference; the time must be
proportional to the number of pixels.

step: one training step. In stage RF it draws and deforms BATCH images, matches and fuses their 2 x BATCH pairs in both
directions, and updates both networks; in stage R it matches BATCH pairs in both directions and updates the matcher.
"plain" is the published network in float32, one direction at a time; then ours, interleaved. All times are medians.

registration: narrow, for frames that are alike, without and with the network; wide, for two unlike cameras.

folder: pairs from file to file as test.py does them, reading and writing while computing, against one after the other.

libraries: functions of ours that a library also has, on the same input, the minimum time of each; docs/design.md lists
the reasons.

gpu: in at most 12 minutes on a CUDA machine, a report DIR/gpu.md: the tests that need a GPU, tables of inference, the
scan and a training step, and 6 minutes of configs/r_mixed.yaml from the shipped weights, in DIR/run, with the errors on
its validation sets before and after. --smoke runs a small form of it anywhere.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from models.deploy.inference import PRECISIONS, SMALLEST_TILE
from models.results import SMALLEST_SIDE
from utils.arguments import at_least, image_size
from utils.benchmark import folder, gpu, inference, libraries, registration, scan, step
from utils.device import pick_device
from utils.errors import UserError, run
from utils.files.writing import write_file
from utils.memory import keep_freed_memory


def time_inference(args: argparse.Namespace, device: torch.device) -> Figure:
    variants = inference.variants(device, args.all_scans, args.compile)
    tasks = [
        inference.Task(variant, width, height, args.batch, str(device), args.network, args.max_side, args.repeats)
        for width, height in args.sizes
        for variant in variants
        if variant.path != "plain" or width <= args.plain_up_to
    ]
    results = inference.run(tasks, args.turns)
    print(inference.table(results))
    return inference.plot(results, f"{args.network}, {machine(device)}")


def time_scan(args: argparse.Namespace, device: torch.device) -> Figure:
    results = scan.measure_all(device, args.widths, args.height, args.repeats)
    print(scan.table(results))
    return scan.plot(results, f"one scan, {args.height} rows, {machine(device)}")


def time_step(args: argparse.Namespace, device: torch.device) -> None:
    timings = step.measure(device, args.batch, args.crop, args.repeats)
    print(f"{args.batch} images of {args.crop}x{args.crop}, both directions; seconds")
    print(step.table(timings, args.batch))


def time_registration(args: argparse.Namespace, device: torch.device) -> None:
    keep_freed_memory()
    print(registration.table(device, args.repeats))


def time_folder(args: argparse.Namespace, device: torch.device) -> None:
    keep_freed_memory()
    print(f"{args.pairs} pairs of 640x480, mode {args.mode}, {args.precision}")
    print(folder.table(device, args.mode, args.precision, args.pairs, args.sheets, args.repeats))


def time_libraries(args: argparse.Namespace, device: torch.device) -> None:
    keep_freed_memory()
    print(libraries.table(device, args.repeats))


def report_on_gpu(args: argparse.Namespace, device: torch.device) -> None:
    if device.type != "cuda" and not args.smoke:
        raise UserError("benchmark.py gpu needs a CUDA device; --smoke runs a small form of it anywhere")
    gpu.write_report(device, args.out, args.data_root, args.minutes, args.smoke)


def machine(device: torch.device) -> str:
    """Name the machine that the times were measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()}-core CPU" if device.type == "cpu" else "MPS"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="inference|scan|step|registration|folder|libraries|gpu")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    common.add_argument("--repeats", type=at_least(1), default=3)

    command = commands.add_parser("inference", parents=[common], help="register and fuse")
    command.set_defaults(command=time_inference)
    command.add_argument("--sizes", type=image_size(SMALLEST_SIDE), nargs="+", default=[(640, 480)], metavar="WxH")
    command.add_argument("--batch", type=at_least(1), default=1, help="pairs at once")
    command.add_argument(
        "--network",
        choices=("ours", "published"),
        default="ours",
        help="ours with the shipped weights, or the published network",
    )
    command.add_argument("--all_scans", action="store_true", help="every scan backend, not only the fastest")
    command.add_argument("--compile", action="store_true", help="also with torch.compile")
    command.add_argument("--max_side", type=at_least(SMALLEST_TILE), default=1024, help="as in test.py")
    command.add_argument(
        "--plain_up_to", type=at_least(0), default=1280, metavar="WIDTH", help="largest width for the plain path"
    )
    command.add_argument("--turns", type=at_least(1), default=2, help="processes per row, with REPEATS timings each")
    command.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG")

    command = commands.add_parser("scan", parents=[common], help="one scan layer, by backend")
    command.set_defaults(command=time_scan)
    command.add_argument("--widths", type=at_least(1), nargs="+", default=[160, 320, 640, 1280], metavar="W")
    command.add_argument("--height", type=at_least(1), default=480)
    command.add_argument("--plot", type=Path, metavar="FILE", help="write a PNG")

    command = commands.add_parser("step", parents=[common], help="one training step")
    command.set_defaults(command=time_step, plot=None)
    command.add_argument("--batch", type=at_least(1), default=4, help="images per step")
    command.add_argument("--crop", type=at_least(64), default=256, help="side of the crops in pixels")

    command = commands.add_parser("registration", parents=[common], help="registration, narrow and wide")
    command.set_defaults(command=time_registration, plot=None)

    command = commands.add_parser("folder", parents=[common], help="a folder from file to file")
    command.set_defaults(command=time_folder, plot=None)
    command.add_argument("--mode", choices=("Fusion", "Reg", "Reg&Fusion"), default="Fusion")
    command.add_argument("--precision", choices=tuple(PRECISIONS), default="float32")
    command.add_argument("--pairs", type=at_least(2), default=24)
    command.add_argument("--no_sheets", dest="sheets", action="store_false", help="write the images only")

    command = commands.add_parser("libraries", parents=[common], help="our functions against library functions")
    command.set_defaults(command=time_libraries, plot=None)

    command = commands.add_parser("gpu", parents=[common], help="a report on a CUDA machine")
    command.set_defaults(command=report_on_gpu, plot=None)
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report and the run")
    command.add_argument("--data_root", default="data", help="the sets of configs/r_mixed.yaml")
    command.add_argument("--minutes", type=float, default=6.0, help="of training")
    command.add_argument("--smoke", action="store_true", help="a small form, on toy scenes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    device = pick_device(args.device)
    print(f"{machine(device)}, torch {torch.__version__}")
    figure = args.command(args, device)
    if args.plot:
        write_file(args.plot, lambda file: figure.savefig(file, format="png", dpi=120))


if __name__ == "__main__":
    run(main)
