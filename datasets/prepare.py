"""Fetch a public data set, check it, and lay it out as train.py, test.py and datasets/paired.py read it.

python -m datasets.prepare msrs|roadscene|roadscene_rig|m3svd [--root data] [--source FOLDER|ARCHIVE|URL]

Files read, files written, and numbers of pairs::

    msrs       {train,test}/{ir,vi,Segmentation_labels}/00001D.png
               ROOT/MSRS/{train,val,test}/{ir,vi,label}/00001D.png      1023, 60 and 361
    roadscene  {cropinfrared,crop_LR_visible}/FLIR_00006.jpg
               ROOT/RoadScene/{train,val}/{ir,vi}/FLIR_00006.jpg        170 and 19
    roadscene_rig
               {infrared,crop_HR_visible,cropinfrared}/FLIR_00006.jpg
               ROOT/RoadScene/rig/{ir,vi}/FLIR_00006.jpg, truth.json    43, as two unlike cameras gave them
    m3svd      Video/test/{infrared,visible}/CLIP.mp4
               ROOT/M3SVD/{train,val}/{ir,vi}/vCLIP_INDEX.png           16 frames of each video

MSRS/test is the authors' split (their registration test set of the same name, with flows, belongs under another root);
MSRS/val are training pairs, evenly spaced by name. The others follow the lists in datasets/splits; RoadScene's leave
out 32 pairs, the authors' 20 registration test pairs (which come with their code) and their neighbours in time.
The true maps of roadscene_rig (datasets/truth.py) are found by datasets/rig.py; its pairs are among those of
RoadScene/train.

Before any file is put in place, it is checked that no pair is missing, that every image can be read, that the images of
an aligned pair have one size, that labels are class maps, and that no split would be mixed with other files.

Run the same command again to repair a set, or after an interruption. A download resumes where it stopped if its server
supports that; GitHub, which hosts the sets, starts over. ROOT/downloads may be deleted afterwards. --source takes a
folder or an archive (.zip, .tar, .tar.gz, .tgz) that contains the set, also nested, or the URL of an archive or a .git.
"""

import argparse
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from datasets.fetch import Contents, Source, fetch
from datasets.paired import read_label
from datasets.rig import find_part, visible_to_crop
from datasets.truth import TRUTH, Truth, read_truth, truth_file
from utils.errors import UserError, run
from utils.files.images import read_image
from utils.files.writing import write_bytes

SPLITS = Path(__file__).with_name("splits")
MSRS_PAIRS = {"train": 1083, "test": 361}
MSRS_VAL = 30  # pairs by day, and as many by night
FRAMES = 16  # of each M3SVD video, evenly spaced


class Entry(NamedTuple):
    """A pair of images or videos: its split, its file name, and the path of each part in the source."""

    split: str
    name: str
    members: dict[str, str]


class PublicSet(NamedTuple):
    """A public data set: its URL, the folder of each part, its split (``plan``), its conversion to files, and notes."""

    name: str
    url: str
    folders: dict[str, str]
    plan: Callable[["PublicSet", Source], tuple[list[Entry], int]]
    produce: Callable[[Source, list[Entry]], Iterator[tuple[str, bytes]]]
    licence: str
    recipe: str = ""  # to train on it, and a note on that
    note: str = ""
    splits: tuple[str, ...] = ("train", "val")  # that have lists
    aligned: bool = True  # the images of a pair have one size


def plan_msrs(public: PublicSet, source: Source) -> tuple[list[Entry], int]:
    """List all pairs of the folders train and test, of which none is left out (0)."""
    contents = source.contents([f"{group}/{folder}" for group in MSRS_PAIRS for folder in public.folders.values()])
    entries = []
    for group, expected in MSRS_PAIRS.items():
        folders = {part: f"{group}/{folder}" for part, folder in public.folders.items()}
        names = set().union(*(contents[folder] for folder in folders.values()))
        names = sorted(name for name in names if re.fullmatch(r"\d{5}[DN]\.png", name))
        found = find_pairs(group, names, folders, contents, source.path)
        if len(names) != expected:
            raise UserError(f"{source.path}: {len(names)} pairs in {group}, expected {expected}; not the whole set")
        val = msrs_val(names) if group == "train" else set()
        entries += [entry._replace(split="val") if entry.name in val else entry for entry in found]
    return entries, 0


def msrs_val(names: list[str]) -> set[str]:
    """Select the validation pairs from the sorted training pairs: evenly spaced, as many by day (D) as by night (N)."""
    day, night = ([name for name in names if name.endswith(f"{light}.png")] for light in "DN")
    return {some[index * len(some) // MSRS_VAL] for some in (day, night) for index in range(MSRS_VAL)}


def plan_by_lists(public: PublicSet, source: Source) -> tuple[list[Entry], int]:
    """List the pairs named in the set's split lists, and count the other files' names, with or without a partner."""
    contents = source.contents(public.folders.values())
    whole = set.intersection(*map(set, contents.values()))
    entries = []
    for split in public.splits:
        lines = (SPLITS / f"{public.name}_{split}.txt").read_text().splitlines()
        listed = [line.partition(" ?") for line in lines if not line.startswith("#")]  # "NAME ?" may be missing
        names = [name for name, optional, _ in listed if not optional or name in whole]
        entries += find_pairs(split, names, public.folders, contents, source.path)
    return entries, len(set().union(*contents.values()) - {entry.name for entry in entries})


def find_pairs(split: str, names: list[str], folders: dict[str, str], contents: Contents, source: Path) -> list[Entry]:
    """Make the entries of the pairs ``names`` from ``folders`` of ``contents``; UserError if a file is missing."""
    for folder in folders.values():
        missing = sorted(set(names) - contents[folder].keys())
        if missing:
            others = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
            raise UserError(f"{source}: {folder} lacks {', '.join(missing[:5])}{others}; the source is incomplete")
    return [Entry(split, name, {part: contents[folder][name] for part, folder in folders.items()}) for name in names]


def copies(source: Source, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of image pairs unchanged, as (SPLIT/PART/NAME, bytes)."""
    targets = {member: f"{e.split}/{part}/{e.name}" for e in entries for part, member in e.members.items()}
    for name in source.names:  # in storage order, since seeking backwards in a compressed tar is slow
        if name in targets:
            yield targets[name], source.read(name)


def frames(source: Source, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
    """Yield ``FRAMES`` frames of each pair of videos as PNG files: infrared with one channel, visible with three."""
    for entry in entries:
        videos = {part: open_video(source, member) for part, member in entry.members.items()}
        step = int(min(video.get(cv2.CAP_PROP_FRAME_COUNT) for video in videos.values())) // FRAMES
        if step < 1:
            raise UserError(f"{source.path}: {entry.name} has fewer than {FRAMES} frames")
        for part, video in videos.items():
            for index in range((FRAMES - 1) * step + 1):
                if not video.grab():
                    raise UserError(f"{source.path}: {entry.members[part]} cannot be read beyond frame {index}")
                if index % step == 0:
                    frame = video.retrieve()[1]
                    pixels = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) if part == "ir" else frame
                    name = f"v{Path(entry.name).stem}_{index:04d}.png"
                    yield f"{entry.split}/{part}/{name}", cv2.imencode(".png", pixels)[1].tobytes()


def camera_pairs(source: Source, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
    """Yield the unchanged files of the pairs of RoadScene's two cameras, and then their true maps."""
    wanted = {member for entry in entries for member in entry.members.values()}
    data = {name: source.read(name) for name in source.names if name in wanted}
    truths = {}
    for split, name, members in entries:
        for part in ("ir", "vi"):
            yield f"{split}/{part}/{name}", data[members[part]]
        ir, vi, crop = (gray_picture(source, members[part], data) for part in ("ir", "vi", "crop"))
        part = find_part(crop, ir)
        if not part.is_certain():
            raise UserError(
                f"{source.path}: {members['crop']} is not seen in {members['ir']} through a homography: "
                f"{part.share:.0%} of {part.matches} matches agree, to {part.residual:.1f} px"
            )
        vi_size, ir_size, crop_size = ((picture.shape[1], picture.shape[0]) for picture in (vi, ir, crop))
        vi_to_ir = part.matrix @ visible_to_crop(vi_size, crop_size)
        truths[Path(name).stem] = Truth(vi_to_ir, vi_size, ir_size)
    yield f"{entries[0].split}/{TRUTH}", truth_file(truths)


def gray_picture(source: Source, member: str, data: dict[str, bytes]) -> np.ndarray:
    """Decode the image ``member`` of the source to ``(H, W)`` uint8; UserError if it cannot be read."""
    content = np.frombuffer(data[member], np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION) if content.size else None
    if picture is None:
        raise UserError(f"{source.path}: {member} is not a readable image")
    return picture


def open_video(source: Source, member: str) -> cv2.VideoCapture:
    """Open a video of the source through a temporary file, since OpenCV cannot read from memory."""
    data = source.read(member)
    if data.startswith(b"version https://git-lfs"):
        raise UserError(f"{source.path}: {member} only points to Git LFS; give a clone made with git-lfs as --source")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: our own message names the problem
    level = cv2.utils.logging.setLogLevel(0)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / Path(member).name
        path.write_bytes(data)
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    if not video.isOpened():
        raise UserError(f"{source.path}: {member} is not a readable video")
    return video


def lay_out(files: Iterable[tuple[str, bytes]], folder: Path, source: Path, aligned: bool) -> Counter[str]:
    """Write ``files`` (SPLIT/PART/NAME or SPLIT/truth.json, bytes), check them all, then move them into ``folder``.

    Identical files in ``folder`` are kept; the images of ``aligned`` pairs must have one size. Returns the number of
    pairs of each split.
    """
    staging = folder / ".prepare"
    shutil.rmtree(staging, ignore_errors=True)  # left by an interrupted run
    targets = set()
    sizes: dict[tuple[str, str], str] = {}
    for target, data in tqdm(files, unit="file", disable=None):
        path = folder / target
        if not (path.is_file() and path.read_bytes() == data):
            path = staging / target
            write_bytes(path, data)
        targets.add(target)
        split, *parts, name = target.split("/")
        if name == TRUTH:
            read_truth(path)
            continue
        try:
            pixels = read_label(path) if parts == ["label"] else read_image(path)
        except UserError as error:
            raise UserError(f"{source}: a bad file in it: {error}") from error
        size = "{} x {}".format(*pixels.shape[-2:])
        if sizes.setdefault((split, name), size) != size and aligned:
            raise UserError(f"{source}: {target} has {size} pixels (height x width), its partner {sizes[split, name]}")
    publish(staging, folder, targets)
    return Counter(split for split, _ in sizes)


def publish(staging: Path, folder: Path, targets: set[str]) -> None:
    """Move the staged ones of ``targets`` into ``folder``; raises UserError if a split there holds other files."""
    splits = sorted({target.split("/")[0] for target in targets})
    for path in (path for split in splits for path in sorted((folder / split).rglob("[!.]*"))):
        if path.is_file() and path.relative_to(folder).as_posix() not in targets:
            raise UserError(f"{path}: not a file of this split; move the split away or choose another --root")
    for split in splits:
        if not (folder / split).exists():
            (staging / split).rename(folder / split)  # a new split appears whole
    for target in sorted(targets):
        if (staging / target).exists():
            (folder / target).parent.mkdir(exist_ok=True)
            (staging / target).replace(folder / target)
    shutil.rmtree(staging, ignore_errors=True)


SETS = {
    "msrs": PublicSet(
        name="MSRS",
        url="https://github.com/Linfeng-Tang/MSRS/archive/refs/heads/main.zip",
        folders={"ir": "ir", "vi": "vi", "label": "Segmentation_labels"},
        plan=plan_msrs,
        produce=copies,
        recipe="rf_msrs",
        licence="research use; cite Tang et al., PIAFusion, Information Fusion 2022, and MFNet, whose images it has",
    ),
    "roadscene": PublicSet(
        name="RoadScene",
        url="https://github.com/hanna-xu/RoadScene/archive/refs/heads/master.zip",
        folders={"ir": "cropinfrared", "vi": "crop_LR_visible"},
        plan=plan_by_lists,
        produce=copies,
        recipe="rf_roadscene",
        licence="research use; cite Xu et al., AAAI 2020",
    ),
    "roadscene_rig": PublicSet(
        name="RoadScene",
        url="https://github.com/hanna-xu/RoadScene/archive/refs/heads/master.zip",
        folders={"ir": "infrared", "vi": "crop_HR_visible", "crop": "cropinfrared"},
        plan=plan_by_lists,
        produce=camera_pairs,
        licence="research use; cite Xu et al., AAAI 2020",
        splits=("rig",),
        aligned=False,
    ),
    "m3svd": PublicSet(
        name="M3SVD",
        url="https://github.com/Linfeng-Tang/M3SVD/archive/refs/heads/main.zip",
        folders={"ir": "Video/test/infrared", "vi": "Video/test/visible"},
        plan=plan_by_lists,
        produce=frames,
        recipe="rf_mixed",
        licence="MIT; cite Tang et al., VideoFusion, CVPR 2026",
        note="  # reads MSRS and RoadScene, too",
    ),
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data root to make; default: data")
    parser.add_argument("--source", help="a folder, an archive or a URL; default: the archive of the set's repository")
    args = parser.parse_args(argv)
    public = SETS[args.set]
    folder = args.root / public.name
    source = Source(fetch(args.source or public.url, args.root / "downloads", public.name))
    entries, left_out = public.plan(public, source)
    pairs = lay_out(public.produce(source, entries), folder, source.path, public.aligned)
    print(f"{folder}/")
    for split, count in sorted(pairs.items()):
        print(f"  {split:<6}{count:>6} pairs")
    if left_out:
        print(f"left out: {left_out} (in no list of {SPLITS.name}, or without a partner)")
    print(f"licence:  {public.licence}")
    if public.recipe:
        command = f"python train.py --config configs/{public.recipe}.yaml --out runs/{public.recipe}"
        print(f"next:     {command} --set {shlex.quote(f'data.root={args.root}')}{public.note}")
    else:
        (split,) = public.splits
        print(f"next:     python test.py --mode Reg --dataset_name {split} --data_root {shlex.quote(str(folder))}")


if __name__ == "__main__":
    run(main)
