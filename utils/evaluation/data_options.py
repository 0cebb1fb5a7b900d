"""The options that select a script's pairs: a test set, or an IR and a VI image or folder."""

import argparse
from pathlib import Path

from datasets.paired import PairedFolders, PairSet, test_set
from datasets.sample import SamplePairs


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset_name`` with ``--data_root``, and ``--ir`` with ``--vi`` and ``--label``."""
    parser.add_argument("--dataset_name", help="a test set below --data_root, such as MSRS or RoadScene")
    parser.add_argument(
        "--data_root", type=Path, help="holds NAME/test/{ir,vi,...}, the authors' test/NAME/ or NAME/truth.json"
    )
    parser.add_argument("--ir", type=Path, help="an infrared image, or a folder of them")
    parser.add_argument("--vi", type=Path, help="a visible image, or a folder of them")
    parser.add_argument("--label", type=Path, help="class maps (8-bit PNG) of --vi, for segmentation")


def check_data_options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with a usage error for options that do not go together."""
    if (args.ir is None) != (args.vi is None):
        parser.error("--ir and --vi go together")
    if (args.dataset_name is None) != (args.data_root is None):
        parser.error("--dataset_name and --data_root go together")
    if args.ir is not None and args.dataset_name is not None:
        parser.error("give either --ir and --vi, or --dataset_name and --data_root")
    if args.label is not None and args.ir is None:
        parser.error("--label goes with --ir and --vi; a data set has its own labels, in NAME/test/label")


def open_pairs(args: argparse.Namespace, num_classes: int, labels: bool) -> PairSet:
    """Open the pairs that the options name, or the embedded sample without options.

    With ``labels`` the labels of a test set are read too; they contain classes 0 .. ``num_classes`` - 1. Raises
    UserError for missing files.
    """
    if args.dataset_name is not None:
        return test_set(args.data_root, args.dataset_name, num_classes, labels)
    if args.ir is not None:
        return PairedFolders(args.ir, args.vi, label=args.label, num_classes=num_classes)
    return SamplePairs()
