"""Fetch a public data set and lay it out as train.py, test.py and datasets/paired.py read it.

python -m datasets.prepare msrs|roadscene|m3svd [--root data] [--source FOLDER|ARCHIVE|URL]

Writes, whole splits only and checked::

    ROOT/MSRS/{train,val,test}/{ir,vi,label}/00001D.png     1023, 60 and 361 pairs
    ROOT/RoadScene/{train,val}/{ir,vi}/FLIR_00006.jpg       170 and 19 pairs
    ROOT/M3SVD/{train,val}/{ir,vi}/vCLIP_INDEX.png          16 frames of each video
    ROOT/downloads/                                         what was fetched; may be deleted afterwards

Run the same command again to go on after an interruption or to repair a set: what is there and right is kept.
--source is what you have already, the set itself or a folder or archive (.zip, .tar, .tar.gz, .tgz) that holds it
some folders deep, or the URL of an archive or of a git repository (ending in .git).

MSRS/test is the authors' split (their registration test set of the same name, with flows, belongs under another
root); MSRS/val are 60 of their training pairs, 30 by day and 30 by night, evenly spaced by name. RoadScene and M3SVD
(by clip) follow the lists in datasets/splits. RoadScene's leave out 32 pairs, the authors' 20 registration test pairs
and their neighbours in time, since nothing may be trained or chosen on them; the test pairs themselves come ready-made
with the authors' code.
"""

import argparse
import contextlib
import hashlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
from tqdm import tqdm

from datasets.paired import read_label
from utils.errors import UserError, run
from utils.images import check_writable, read_image, write_bytes

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
SPLITS = Path(__file__).with_name("splits")
MSRS_PAIRS = {"train": 1083, "test": 361}
MSRS_VAL = 30  # pairs by day, and as many by night
FRAMES = 16  # of each M3SVD video, evenly spaced

# What zipfile, tarfile and the decompressors raise for a damaged archive (RuntimeError: for an encrypted one).
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError)


def fetch(source: str, folder: Path, name: str) -> Path:
    """The local copy of ``source``: itself if it is one, otherwise what is fetched into ``folder``, once."""
    if Path(source).exists():
        return Path(source)
    if "://" not in source and not source.endswith(".git"):
        raise UserError(f"{source}: no such file or folder, and not a URL")
    kind = next((kind for kind in (".git", *ARCHIVES) if urllib.parse.urlparse(source).path.endswith(kind)), None)
    if kind is None:
        raise UserError(f"{source}: neither an archive ({', '.join(ARCHIVES)}) nor a git repository (.git)")
    check_writable(folder)
    path = folder / f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}{kind}"
    if not path.exists():
        part = path.with_name(path.name + ".part")
        (clone if kind == ".git" else download)(source, part)
        part.rename(path)
    return path


def download(url: str, part: Path) -> None:
    """Fetch ``url`` into the file ``part``, going on where it ends if the server can; UserError if not all came."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                have = 0
            length = response.headers["Content-Length"]  # GitHub sends none with an archive it has just made
            total = None if length is None else have + int(length)
            with (
                part.open("ab" if have else "wb") as file,
                tqdm(desc=url, initial=have, total=total, unit="B", unit_scale=True, disable=None) as bar,
            ):
                while block := response.read(1 << 20):
                    bar.update(file.write(block))
        size = part.stat().st_size
        if total is not None and size != total:
            raise OSError(f"ended after {size} of {total} bytes")
    except (OSError, http.client.HTTPException) as error:
        if have and isinstance(error, urllib.error.HTTPError) and error.code == 416:  # nothing follows what we have
            part.unlink()
            return download(url, part)
        raise UserError(f"{url}: {error}; run the same command again to go on") from error


def clone(url: str, part: Path) -> None:
    """Clone the last commit of the repository ``url`` into the folder ``part``."""
    if part.exists():
        shutil.rmtree(part)  # git cannot go on with an interrupted clone
    print(f"cloning {url}", flush=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "--", url, str(part)]
    try:
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"})
    except FileNotFoundError as error:
        raise UserError(f"{url}: git is not installed; install it, or give an archive as --source") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.decode(errors="replace").split())
        raise UserError(f"{url}: {reason}; run the same command again") from error


class Source:
    """The files of a folder or an archive: their paths in it in ``names``, as they are stored, and ``read(name)``."""

    def __init__(self, path: Path):
        self.path = path
        with self._damage_named():
            if path.is_dir():
                files = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
                self.names = [file.as_posix() for file in files]
                self._read = lambda name: (path / name).read_bytes()
            elif path.name.endswith(".zip"):
                archive = zipfile.ZipFile(path)
                self.names = [name for name in archive.namelist() if not name.endswith("/")]
                self._read = archive.read
            elif path.name.endswith(ARCHIVES):
                archive = tarfile.open(path)
                members = {member.name: member for member in archive.getmembers() if member.isfile()}
                self.names, self._read = list(members), lambda name: archive.extractfile(members[name]).read()
            else:
                raise UserError(f"{path}: neither a folder nor an archive ({', '.join(ARCHIVES)})")
        # Nothing is ever written under a path taken from here, but no honest archive has such paths either.
        outside = next((name for name in self.names if name.startswith("/") or ".." in re.split(r"[/\\]", name)), None)
        if outside is not None:
            raise UserError(f"{path}: holds {outside}, a path that leads out of it; do not use it")

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise UserError(
                f"{self.path}: cannot be read ({error}); if it is a damaged download, delete it and fetch it again"
            ) from error

    def read(self, name: str) -> bytes:
        with self._damage_named():
            return self._read(name)

    def contents(self, folders: Iterable[str]) -> dict[str, dict[str, str]]:
        """The files of each of ``folders``, which lie in one parent, as ``{folder: {file name: name in here}}``."""
        files: dict[str, dict[str, str]] = defaultdict(dict)
        for name in self.names:
            folder, _, file = name.rpartition("/")
            files[folder][file] = name
        tops = {folder.removesuffix(end) for folder in files for end in folders if f"/{folder}".endswith(f"/{end}")}
        missing = {top: [end for end in folders if top + end not in files] for top in tops} or {"": list(folders)}
        top = min(missing, key=lambda top: (len(missing[top]), top.count("/"), top))
        if missing[top]:
            raise UserError(f"{self.path}: no files in {', '.join(missing[top])}; this is not the whole data set")
        return {end: files[top + end] for end in folders}


class Entry(NamedTuple):
    """A pair, of images or videos: its split, their file name, and where each part is in the source."""

    split: str
    name: str
    members: dict[str, str]


def require(names: Iterable[str], folder: str, files: dict[str, str], source: Path) -> None:
    """Raise UserError if one of ``names`` is not among the ``files`` of ``folder``."""
    lost = sorted(set(names) - files.keys())
    if lost:
        others = f" and {len(lost) - 5} others" if len(lost) > 5 else ""
        raise UserError(f"{source}: {folder} lacks {', '.join(lost[:5])}{others}; the source is incomplete")


def plan_msrs(source: Source) -> tuple[list[Entry], int]:
    """All pairs, with their labels; none stays out."""
    parts = {"ir": "ir", "vi": "vi", "label": "Segmentation_labels"}
    contents = source.contents([f"{group}/{folder}" for group in MSRS_PAIRS for folder in parts.values()])
    entries = []
    for group, expected in MSRS_PAIRS.items():
        files = {part: contents[f"{group}/{folder}"] for part, folder in parts.items()}
        names = sorted(name for name in set().union(*files.values()) if re.fullmatch(r"\d{5}[DN]\.png", name))
        for part, folder in parts.items():
            require(names, f"{group}/{folder}", files[part], source.path)
        if len(names) != expected:
            raise UserError(
                f"{source.path}: {len(names)} pairs in {group}, expected {expected}; it is not the whole set"
            )
        val = msrs_val(names) if group == "train" else set()
        entries += [Entry("val" if n in val else group, n, {part: files[part][n] for part in parts}) for n in names]
    return entries, 0


def msrs_val(names: list[str]) -> set[str]:
    """The validation pairs among the sorted training pairs: evenly spaced, as many by day (D) as by night (N)."""
    day, night = ([name for name in names if name.endswith(f"{light}.png")] for light in "DN")
    return {some[index * len(some) // MSRS_VAL] for some in (day, night) for index in range(MSRS_VAL)}


def plan_by_lists(set_name: str, parts: dict[str, str], source: Source) -> tuple[list[Entry], int]:
    """The pairs named in the set's split lists, and how many others, or halves of pairs, there are."""
    contents = source.contents(parts.values())
    entries = []
    for split in ("train", "val"):
        lines = (SPLITS / f"{set_name}_{split}.txt").read_text().splitlines()
        names = [line for line in lines if not line.startswith("#")]
        for folder in parts.values():  # "NAME ?" may be missing
            require([name for name in names if not name.endswith("?")], folder, contents[folder], source.path)
        for name in (name.removesuffix("?").rstrip() for name in names):
            if all(name in files for files in contents.values()):
                entries.append(Entry(split, name, {part: contents[folder][name] for part, folder in parts.items()}))
    return entries, len(set().union(*contents.values()) - {entry.name for entry in entries})


def copies(source: Source, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
    """The files of image pairs, as (SPLIT/PART/NAME, bytes)."""
    targets = {member: f"{e.split}/{part}/{e.name}" for e in entries for part, member in e.members.items()}
    for name in source.names:  # in the order they are stored, since a compressed tar has no quick way back
        if name in targets:
            yield targets[name], source.read(name)


def frames(source: Source, entries: list[Entry]) -> Iterator[tuple[str, bytes]]:
    """``FRAMES`` frames of each pair of videos, as PNG: infrared of one channel, visible of three."""
    for entry in entries:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            videos = {part: open_video(source, member, Path(folder)) for part, member in entry.members.items()}
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


def open_video(source: Source, member: str, folder: Path) -> cv2.VideoCapture:
    """Open a video of the source by way of a file in ``folder``, since OpenCV reads from files only."""
    data = source.read(member)
    if data.startswith(b"version https://git-lfs"):
        raise UserError(f"{source.path}: {member} only points to Git LFS; give a clone made with git-lfs as --source")
    path = folder / member.replace("/", "_")
    path.write_bytes(data)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: our one line says what is wrong
    level = cv2.utils.logging.setLogLevel(0)
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    cv2.utils.logging.setLogLevel(level)
    if not video.isOpened():
        raise UserError(f"{source.path}: {member} is not a readable video")
    return video


def lay_out(files: Iterable[tuple[str, bytes]], folder: Path, source: Path) -> Counter[str]:
    """Write ``files`` (SPLIT/PART/NAME, bytes), check them all, and only then put them into ``folder``.

    A file that is there and the same is kept. Returns the number of pairs of each split.
    """
    staging = folder / ".prepare"
    sizes: dict[tuple[str, str], dict[str, tuple[int, ...]]] = defaultdict(dict)
    targets = set()
    for target, data in tqdm(files, unit="file", disable=None):
        path = folder / target if holds(folder / target, data) else staging / target
        if not holds(path, data):
            write_bytes(path, data)
        split, part, name = target.split("/")
        try:
            pixels = read_label(path) if part == "label" else read_image(path)
        except UserError as error:
            raise UserError(f"{source}: a bad file in it: {error}") from error
        sizes[split, name][part] = tuple(pixels.shape[-2:])
        targets.add(target)
    for (split, name), parts in sizes.items():
        if len(set(parts.values())) > 1:
            differing = ", ".join(f"{part} {height}x{width}" for part, (height, width) in parts.items())
            raise UserError(f"{source}: the images of {split}/{name} differ in size (height x width): {differing}")
    publish(staging, folder, targets)
    return Counter(split for split, _ in sizes)


def holds(path: Path, data: bytes) -> bool:
    """Whether ``path`` is a file with just this content."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def publish(staging: Path, folder: Path, targets: set[str]) -> None:
    """Move what is staged into ``folder``; UserError, before anything is moved, if a split there holds other files."""
    splits = sorted({target.split("/")[0] for target in targets})
    for split in splits:
        for path in visible_files(folder / split):
            if path.relative_to(folder).as_posix() not in targets:
                raise UserError(
                    f"{path}: not a file of this split; move {folder / split} away or choose another --root"
                )
    for path in visible_files(staging):
        if path.relative_to(staging).as_posix() not in targets:
            path.unlink()  # left by an interrupted run with another source
    for split in splits:
        if (staging / split).exists() and not (folder / split).exists():
            (staging / split).rename(folder / split)  # a new split appears whole
        for path in visible_files(staging / split):
            target = folder / path.relative_to(staging)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)
    shutil.rmtree(staging, ignore_errors=True)


def visible_files(folder: Path) -> list[Path]:
    """The files below ``folder``, which need not exist, without hidden ones."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


class PublicSet(NamedTuple):
    """A data set: where it is, which pairs go where, how they become files, and what to say of it."""

    name: str
    url: str
    plan: Callable[[Source], tuple[list[Entry], int]]
    produce: Callable[[Source, list[Entry]], Iterator[tuple[str, bytes]]]
    recipe: str
    licence: str
    left_out: str = ""


SETS = {
    "msrs": PublicSet(
        name="MSRS",
        url="https://github.com/Linfeng-Tang/MSRS/archive/refs/heads/main.zip",
        plan=plan_msrs,
        produce=copies,
        recipe="rf_msrs",
        licence="research use; cite Tang et al., PIAFusion, Information Fusion 2022, and MFNet, whose images it has",
    ),
    "roadscene": PublicSet(
        name="RoadScene",
        url="https://github.com/hanna-xu/RoadScene/archive/refs/heads/master.zip",
        plan=partial(plan_by_lists, "RoadScene", {"ir": "cropinfrared", "vi": "crop_LR_visible"}),
        produce=copies,
        recipe="rf_roadscene",
        licence="research use; cite Xu et al., AAAI 2020",
        left_out="the authors' registration test pairs and their neighbours in time",
    ),
    "m3svd": PublicSet(
        name="M3SVD",
        url="https://github.com/Linfeng-Tang/M3SVD/archive/refs/heads/main.zip",
        plan=partial(plan_by_lists, "M3SVD", {"ir": "Video/test/infrared", "vi": "Video/test/visible"}),
        produce=frames,
        recipe="rf_mixed",
        licence="MIT; cite Tang et al., VideoFusion, CVPR 2026",
        left_out="videos in neither split list, or without their partner",
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
    entries, left_out = public.plan(source)
    pairs = lay_out(public.produce(source, entries), folder, source.path)
    print(f"{folder}/")
    for split in sorted(pairs):
        print(f"  {split:<6}{pairs[split]:>6} pairs")
    if left_out:
        print(f"left out: {left_out} ({public.left_out})")
    print(f"licence:  {public.licence}")
    root = shlex.quote(f"data.root={args.root}")
    print(f"next:     python train.py --config configs/{public.recipe}.yaml --out runs/{public.recipe} --set {root}")


if __name__ == "__main__":
    run(main)
