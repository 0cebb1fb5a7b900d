"""The options that select a script's pairs: a test set, or an IR and a VI image or folder."""

import argparse
import sys
from pathlib import Path

from datasets.paired import PairedFolders, PairSet, test_set
from datasets.sample import SamplePairs
from utils.arguments import at_least
from utils.files.images import BITS
from utils.files.infrared import Reading
from utils.files.polarity import POLARITIES
from utils.files.stretch import stretch_argument
from utils.files.thermal import COLOURS


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset_name`` with ``--data_root``, and ``--ir`` with ``--vi``, ``--label`` and how they are read."""
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument(
        "--data_root", type=Path, help="holds NAME/test/{ir,vi,...}, the authors' test/NAME/ or NAME/truth.json"
    )
    parser.add_argument("--ir", type=Path, help="an infrared image, a folder of them, or a video")
    parser.add_argument("--vi", type=Path, help="a visible image, a folder of them, or a video")
    parser.add_argument(
        "--rgbt", type=Path, metavar="PATH", help="in place of both: files with the thermal image as fourth channel"
    )
    parser.add_argument("--label", type=Path, help="class maps (8-bit PNG) of --vi, for segmentation")
    parser.add_argument(
        "--pairs",
        type=Path,
        metavar="FILE.csv",
        help="the pairs of --ir and --vi (or relative to the list) whose names do not tell: columns ir, vi",
    )
    parser.add_argument("--recursive", action="store_true", help="folders within --ir and --vi, too")
    parser.add_argument(
        "--page", type=at_least(1), metavar="N", help="of files with several pages (default: the first)"
    )
    parser.add_argument(
        "--thermal_colours",
        choices=COLOURS,
        default="auto",
        help="auto: turn a false-colour IR picture back into one value; keep: take its colours as they are",
    )
    parser.add_argument(
        "--stretch",
        type=stretch_argument,
        default="pair",
        metavar="pair|set|LOW,HIGH",
        help="IR values that become black and white: percentiles of each image, of the set, or given (default: pair; a "
        "video has one for all its frames)",
    )
    parser.add_argument(
        "--polarity", choices=POLARITIES, default="auto", help="of IR pictures; black hot is inverted (default: auto)"
    )
    parser.add_argument(
        "--vi_bits",
        type=int,
        choices=(*BITS, 16),
        help="how many bits 16-bit files of --vi use (default: as many as the set reaches)",
    )


def check_data_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with a usage error for options that do not go together."""
    if (args.ir is None) != (args.vi is None):
        parser.error("--ir and --vi go together")
    if (args.dataset_name is None) != (args.data_root is None):
        parser.error("--dataset_name and --data_root go together")
    if args.rgbt is not None and (args.ir is not None or args.pairs is not None):
        parser.error("--rgbt takes the place of --ir and --vi, and of --pairs")
    own = own_files(args)
    if own and args.dataset_name is not None:
        parser.error("give either --ir and --vi, or --dataset_name and --data_root")
    if args.label is not None and not own:
        parser.error("--label goes with --ir and --vi; a data set has its own labels, in NAME/test/label")
    if args.pairs is not None and args.recursive:
        parser.error("--recursive looks for pairs; --pairs lists them")
    if not own:
        for option in ("recursive", "page", "thermal_colours", "stretch", "polarity", "vi_bits"):
            if getattr(args, option) != parser.get_default(option):
                parser.error(f"--{option} goes with --ir and --vi, --rgbt or --pairs")


def own_files(args: argparse.Namespace) -> bool:
    """Tell whether the options name files rather than a test set."""
    return any(path is not None for path in (args.ir, args.pairs, args.rgbt))


def reading(args: argparse.Namespace) -> Reading:
    """Return how the options say that files are read."""
    return Reading(args.page, args.thermal_colours, args.stretch, args.polarity, args.vi_bits, args.rgbt is not None)


def open_pairs(args: argparse.Namespace, num_classes: int, labels: bool) -> PairSet:
    """Open the pairs that the options name, or the embedded sample without options.

    With ``labels`` the labels of a test set are read too; they contain classes 0 .. ``num_classes`` - 1. How files were
    paired, and which were left out, is told on standard error. Raises UserError for missing files.
    """
    if args.dataset_name is not None:
        return test_set(args.data_root, args.dataset_name, num_classes, labels)
    if not own_files(args):
        return SamplePairs()
    pairs = PairedFolders(
        args.rgbt or args.ir,
        args.rgbt or args.vi,
        label=args.label,
        num_classes=num_classes,
        reading=reading(args),
        recursive=args.recursive,
        pairs=args.pairs,
        complete=False,
    )
    for line in pairs.lines:
        print(f"note: {line}", file=sys.stderr)
    return pairs
