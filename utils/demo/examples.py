"""The embedded examples, as the files that anyone might upload."""

from pathlib import Path

from datasets.cameras import unlike_cameras
from datasets.paired import PairedFolders
from datasets.sample import SamplePairs
from utils.files.images import write_image

_CAMERAS = ("dusk", 1)  # the pair and the seed of the two unlike cameras


def write_examples(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Write the sample's pairs, each deformed, and one as two unlike cameras see it; return IR and VI by name."""
    sample = SamplePairs()
    images = {name: (sample[i].ir_warp, sample[i].vi) for i, name in enumerate(sample.names)}
    name, seed = _CAMERAS
    aligned = PairedFolders.__getitem__(sample, sample.names.index(name))
    cameras = unlike_cameras(aligned, seed)
    images["two unlike cameras"] = cameras.ir, cameras.vi
    files = {}
    for name, pair in images.items():
        stem = name.replace(" ", "_")
        files[name] = folder / f"{stem}_ir.png", folder / f"{stem}_vi.png"
        for path, image in zip(files[name], pair):
            write_image(path, image)
    return files
