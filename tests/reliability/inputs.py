"""Bad and odd inputs, made by rule: pictures of every kind, size and damage, names, values, checkpoints, options.

Each :class:`Case` is a folder and a command. Most folders hold a good pair beside the odd one, which must be done in
spite of it.
"""

import io
import itertools
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from datasets.toy import toy_scene
from models import SuperFusion
from models.weights import save_checkpoint

HEIGHT, WIDTH = 48, 64
GOOD = "good"  # the name of the good pair
SIDES = ("ir", "vi")
EXTENSIONS = ("png", "jpg", "bmp", "tif", "webp", "jp2", "pgm", "gif", "npy")


@dataclass
class Case:
    """A command of ``script`` with ``arguments``, in a folder that ``make`` fills; "{}" in an argument is the folder.

    ``expects``: the exit codes that are right; ``beside``: a good pair lies beside, and its results are due.
    """

    kind: str
    name: str
    make: Callable[[Path], object]
    arguments: list[str]
    script: str = "test"
    expects: tuple[int, ...] = (0, 2)
    beside: bool = True


def folders(*options: str) -> list[str]:
    """The arguments that register the pairs of a folder without a network."""
    return ["--mode", "Reg", "--registrar", "none", "--ir", "{}/ir", "--vi", "{}/vi", "--out", "{}/out", *options]


def scene() -> dict[str, np.ndarray]:
    """IR ``(H, W)`` and VI ``(H, W, 3)`` of a toy scene, uint8, in OpenCV's order of channels."""
    pair = toy_scene(0, HEIGHT, WIDTH)
    ir, vi = ((image.permute(1, 2, 0) * 255).round().byte().numpy() for image in (pair.ir, pair.vi.flip(0)))
    return {"ir": ir[:, :, 0], "vi": np.ascontiguousarray(vi)}


def good_pair(folder: Path, name: str = GOOD) -> dict[str, np.ndarray]:
    """Write the good pair below ``folder``; returns its pixels."""
    pixels = scene()
    for side in SIDES:
        (folder / side).mkdir(parents=True, exist_ok=True)
        (folder / side / f"{name}.png").write_bytes(encoded(pixels[side], "png"))
    return pixels


def encoded(pixels: np.ndarray, extension: str) -> bytes | None:
    """Encode pixels; None if the format does not take them."""
    buffer = io.BytesIO()
    if extension == "npy":
        np.save(buffer, pixels)
        return buffer.getvalue()
    if extension in ("jpg", "bmp", "webp", "gif") and pixels.dtype != np.uint8:
        return None  # OpenCV would write 8 bits
    if extension == "gif":
        Image.fromarray(pixels[:, :, 2::-1] if pixels.ndim == 3 else pixels).save(buffer, "GIF")
        return buffer.getvalue()
    level = cv2.utils.logging.setLogLevel(0)
    try:
        ok, data = cv2.imencode(f".{extension}", pixels)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    return bytes(data) if ok else None


def odd_pair(side: str, file: str, data: bytes) -> Callable[[Path], object]:
    """Return what writes a good pair, and ``data`` as the file ``odd.EXTENSION`` of a side, beside a good partner."""

    def make(folder: Path) -> None:
        pixels = good_pair(folder)
        other = SIDES[1 - SIDES.index(side)]
        (folder / other / "odd.png").write_bytes(encoded(pixels[other], "png"))
        (folder / side / file).write_bytes(data)

    return make


def formats() -> Iterator[Case]:
    """Every format with every type and number of channels that it can be made to hold."""
    gray = scene()["ir"]
    wide = gray.astype(np.float64) / 255
    kinds = {
        "uint8": gray,
        "uint8 RGB": scene()["vi"],
        "uint8 RGBA": np.dstack([scene()["vi"], gray]),
        "uint16": (wide * 65535).astype(np.uint16),
        "uint16 of 12 bits": (wide * 4095).astype(np.uint16),
        "uint16 RGB": (scene()["vi"] * np.uint16(257)),
        "int16": (wide * 4000 - 500).astype(np.int16),
        "int32": (wide * 1e6 - 500).astype(np.int32),
        "float32": (wide * 35 - 5).astype(np.float32),
        "float64": wide * 35 - 5,
        "float16": wide.astype(np.float16),
        "bool": gray > 128,
        "complex": wide.astype(np.complex64),
    }
    for side, extension, (kind, pixels) in itertools.product(SIDES, EXTENSIONS, kinds.items()):
        data = encoded(pixels, extension)
        if data is not None and (extension, side) != ("npy", "vi"):
            yield Case(
                "format", f"{extension} of {kind} as {side}", odd_pair(side, f"odd.{extension}", data), folders()
            )


def sizes() -> Iterator[Case]:
    """From one pixel to long strips."""
    for side, (height, width) in itertools.product(
        SIDES, ((1, 1), (1, 100), (100, 1), (15, 15), (16, 16), (31, 31), (31, 64), (32, 32), (47, 33), (20, 900))
    ):
        pixels = cv2.resize(scene()[side], (width, height))
        yield Case("size", f"{width}x{height} as {side}", odd_pair(side, "odd.png", encoded(pixels, "png")), folders())


NAMES = {
    "blanks": "  two  blanks ", "a dash": "--out", "quotes": "'\"`$HOME", "a newline": "a\nb", "a tab": "a\tb",
    "brackets": "[a]*?", "braces": "{0}", "per cent": "100%s", "a comma": "a,b", "a backslash": "a\\b", "dots": "a..b.",
    "one letter": "a", "digits": "0001", "composed": "caf\u00e9", "decomposed": "cafe\u0301", "emoji": "\U0001f525",
    "right to left": "\u202eabc", "Chinese": "\u7ea2\u5916", "capitals": "GOODNESS", "a tilde": "~", "a hash": "#1",
    "no UTF-8": os.fsdecode(b"a\xff\xfe"), "an equals sign": "a=b", "255 bytes": "n" * 251, "250 bytes": "n" * 246,
    "255 bytes of UTF-8": "\u00e9" * 125, "Windows' device": "CON", "a semicolon": "a;b",
}  # fmt: skip


def names() -> Iterator[Case]:
    """File names that a shell, a table or a file system may stumble over."""
    for label, name in NAMES.items():

        def make(folder: Path, name: str = name) -> None:
            good_pair(folder)
            good_pair(folder, name)

        yield Case("name", label, make, folders())
    for ir, vi in (("cafe\u0301", "caf\u00e9"), ("SHOT", "shot"), ("7", "0007"), ("a", "b"), ("ir_1", "vis_1")):

        def other(folder: Path, ir: str = ir, vi: str = vi) -> None:
            pixels = good_pair(folder)
            for side, name in zip(SIDES, (ir, vi)):
                (folder / side / f"{name}.png").write_bytes(encoded(pixels[side], "png"))

        yield Case("name", f"{ascii(ir)} and {ascii(vi)}", other, folders())


def damage() -> Iterator[Case]:
    """Truncated, overwritten and foreign files."""
    rng = np.random.default_rng(0)
    for side, extension in itertools.product(SIDES, EXTENSIONS):
        pixels = scene()["ir"] if extension == "pgm" else scene()[side]
        whole = encoded(pixels, extension)
        if (extension, side) == ("npy", "vi"):
            continue
        for share in (0.0, 0.1, 0.5, 0.95):
            data = whole[: int(share * len(whole))]
            yield Case(
                "damage",
                f"{extension}, {share:.0%} left, as {side}",
                odd_pair(side, f"odd.{extension}", data),
                folders(),
            )
        for place in ("head", "whole"):
            broken = bytearray(whole)
            end = min(64, len(whole)) if place == "head" else len(whole)
            for position in rng.integers(0, end, 12):
                broken[position] = rng.integers(256)
            label = f"{extension}, 12 bytes of the {place} overwritten, as {side}"
            yield Case("damage", label, odd_pair(side, f"odd.{extension}", bytes(broken)), folders())
    foreign = {
        "text": b"not a picture\n",
        "zeros": bytes(1000),
        "a JPEG named png": encoded(scene()["vi"], "jpg"),
        "a header of 60000x60000 pixels": png_header(60000, 60000),
        "a header of 2147483647x2147483647 pixels": png_header(2**31 - 1, 2**31 - 1),
        "a header of 0x0 pixels": png_header(0, 0),
        "a pickle": pickle.dumps([1, 2]),
        "half a PDF": b"%PDF-1.7\n",
    }
    for side, (label, data) in itertools.product(SIDES, foreign.items()):
        yield Case("foreign file", f"{label}, as {side}", odd_pair(side, "odd.png", data), folders())

    def other(act: Callable[[Path], object]) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            pixels = good_pair(folder)
            (folder / "ir" / "odd.png").write_bytes(encoded(pixels["ir"], "png"))
            act(folder / "vi" / "odd.png")

        return make

    yield Case("foreign file", "a folder named odd.png", other(Path.mkdir), folders())
    yield Case("foreign file", "a link to nothing", other(lambda path: path.symlink_to("nothing")), folders())
    yield Case("foreign file", "a link to itself", other(lambda path: path.symlink_to(path.name)), folders())
    yield Case("foreign file", "a pipe", other(os.mkfifo), folders())


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds a few pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def values() -> Iterator[Case]:
    """Measurements that hold odd numbers."""
    base = (scene()["ir"].astype(np.float32) * 0.1 + 10).astype(np.float32)

    def spoiled(number: float, rows: slice) -> np.ndarray:
        pixels = base.copy()
        pixels[rows] = number
        return pixels

    cases = {
        f"{label} in {share}": spoiled(number, rows)
        for (label, number), (share, rows) in itertools.product(
            {"NaN": np.nan, "infinity": np.inf, "-9999": -9999, "1e38": 1e38, "1e-42": 1e-42}.items(),
            {"a row": slice(20, 21), "half": slice(24, None), "all": slice(None)}.items(),
        )
    }
    counts = (base * 100).astype(np.uint16)
    cases |= {f"all {number}": np.full_like(counts, number) for number in (0, 7000, 65535)}
    hot = counts.copy()
    hot[10, 10] = 65535
    telemetry = counts.copy()
    telemetry[:2] = np.random.default_rng(0).integers(0, 65536, (2, WIDTH))
    dead = counts.copy()
    dead.flat[::97] = 16383
    cases |= {"one hot pixel": hot, "telemetry rows": telemetry, "dead pixels": dead}
    for label, pixels in cases.items():
        yield Case("values", f"{label}, as ir", odd_pair("ir", "odd.npy", encoded(pixels, "npy")), folders())
    for label in ("NaN in a row", "1e38 in half", "all 0", "all 65535", "one hot pixel"):
        yield Case("values", f"{label}, as vi", odd_pair("vi", "odd.tif", encoded(cases[label], "tif")), folders())


def clashes() -> Iterator[Case]:
    """Options that do not go together, and outputs that are inputs."""
    own = ["--ir", "{}/ir", "--vi", "{}/vi"]
    reg = ["--mode", "Reg", "--registrar", "none"]
    bad = [
        ["--ir", "{}/ir"], ["--vi", "{}/vi"], [*own, "--rgbt", "{}/ir"],
        [*own, "--dataset_name", "A", "--data_root", "B"],
        ["--dataset_name", "A"], ["--data_root", "{}"], ["--dataset_name", "A", "--data_root", "{}"], 
        [*own, "--page", "0"],
        [*own, "--page", "-1"], [*own, "--stretch", "9,3"], [*own, "--stretch", "nan,1"], [*own, "--polarity", "warm"],
        ["--polarity", "black_hot"], ["--pairs", "{}/none.csv"], ["--pairs", "{}/ir", *own], ["--recursive"],
        [*own, "--pairs", "{}/x", "--recursive"], [*own, "--limit", "0"], [*own, "--max_side", "5"],
        [*own, "--rotation", "181"],
        [*own, "--scale", "2", "1"], [*own, "--scale", "0", "1"], [*own, "--mode", "Fusion", "--transform", "{}/x"],
        [*own, "--label", "{}/ir"], [*own, "--seg_input", "vi"], [*own, "--segmenter", "x"], [*own, "--mode", "Seg"],
        [*own, "--mode", "Seg", "--segmenter", "{}/none"], [*own, "--device", "tpu"], [*own, "--device", "cuda:99"],
        [*own, "--checkpoint", "{}/none"], [*own, "--checkpoint", "{}/ir"],
        [*own, "--transform", "{}/none.json", *reg[:2]],
        [*own, "--metrics", "beauty"], [*own, "--precision", "float16"], [*own, "--vi_bits", "11"], [*own, "--unknown"],
        ["--ir", "{}/ir/good.png", "--vi", "{}/vi"], ["--ir", "{}/none", "--vi", "{}/vi"], ["--ir", "", "--vi", ""],
        [*reg, *own, "--out", "{}/ir/good.png"], ["--rgbt", "{}/vi", *reg],
    ]  # fmt: skip
    for arguments in bad:
        arguments = arguments if "--out" in arguments else [*arguments, "--out", "{}/out"]
        label = " ".join(arguments[:-2]).replace("{}/", "")
        yield Case("options of test.py", label, good_pair, arguments, expects=(2,), beside=False)
    scores = ["--out", "{}/out", "--workers", "1"]
    for arguments in (
        [*own], [*own, "--results", "x"], [*own, "--results", "x={}/none"], [*own, "--results", "=x"],
        [*own, "--results", "a={}/vi", "a={}/ir"], [*own, "--results", "a={}/vi", "--metrics", "none"],
        [*own, "--results", "a={}/vi", "--metrics", "x"], ["--results", "a={}/vi"],
        [*own, "--results", "a={}/vi", "--workers", "0"], [*own, "--results", "a={}/vi", "--segmenter", "{}/none"],
    ):  # fmt: skip
        label = " ".join(arguments).replace("{}/", "")
        yield Case("options of evaluate.py", label, good_pair, [*scores, *arguments], "evaluate", (2,), False)
    for setting in (
        "stage=X", "train.steps=0", "train.steps=many", "train.lr=-1", "data.hold_out=1", "data.crop=8",
        "data.crop=9999",
        "data.sets={}", "data.sets=[a]", "train.unknown=1", "nonsense", "train.init={}/none",
        "model.matcher=x", "model.width=-1", "data.scale=0", "data.zoom=[2,1]", "curriculum.2={crop: 64}", "train.lr=[",
        "stage=FS", "data.val=[none]", "loss.fusion=x", "train.ema=1", "train.precision=int8", "data.root={}/none",
    ):  # fmt: skip
        arguments = ["--config", "{}/tiny.yaml", "--out", "{}/out", "--device", "cpu", "--set", setting]
        yield Case("options of train.py", setting.replace("{}/", ""), training, arguments, "train", (2,), False)

    def inside(folder: Path) -> None:
        pixels = scene()
        for name in ("registered", "sheets", "transform", "deep/registered"):
            (folder / "out" / name).mkdir(parents=True)
            (folder / "out" / name / "good.png").write_bytes(encoded(pixels["ir"], "png"))
        good_pair(folder)
        (folder / "link").symlink_to(folder / "out")

    for ir in ("out/registered", "out/sheets", "out/transform", "link/registered", "out/../out/sheets", "link/sheets"):
        for out in ("out", "link", "vi/../out"):
            arguments = [*reg, "--ir", f"{{}}/{ir}", "--vi", "{}/vi", "--out", f"{{}}/{out}"]
            yield Case("output is input", f"--ir {ir} --out {out}", inside, arguments, expects=(2,), beside=False)


def training(folder: Path) -> None:
    """Write four small pairs and a recipe of two steps."""
    for n in range(4):
        good_pair(folder / "mine", f"{n}")
    text = (
        "data: {root: ROOT, sets: {mine: 1}, crop: 32}\ntrain: {batch: 1, fusion_batch: 1, steps: 2, save_every: 1}\n"
    )
    (folder / "tiny.yaml").write_text(text.replace("ROOT", str(folder)))


class Bomb:
    """What, unpickled, leaves a file behind."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def checkpoints(weights: Path) -> Iterator[Case]:
    """Hostile and wrong checkpoints, made from good ``weights``."""
    whole = weights.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    model = SuperFusion()
    tensors = model.state_dict()
    first = next(iter(tensors))

    def changed(change: Callable[[dict], object]) -> bytes:
        metadata = dict(header["__metadata__"])
        change(metadata)
        return save(tensors, metadata)

    def architecture(text: str) -> bytes:
        return changed(lambda metadata: metadata.update(architecture=text))

    files: dict[str, bytes] = {
        "empty.safetensors": b"", "text.safetensors": b"weights", "half.safetensors": whole[: len(whole) // 2],
        "a header of 2^63 bytes.safetensors": struct.pack("<Q", 2**63) + whole[8:],
        "a header of 100 MB.safetensors": struct.pack("<Q", 10**8) + b"{" + bytes(99),
        "a header that is no JSON.safetensors": struct.pack("<Q", 4) + b"nono",
        "offsets outside.safetensors": outside(header, whole[8 + size :]),
        "no metadata.safetensors": save(tensors),
        "a tensor missing.safetensors": save({k: v for k, v in tensors.items() if k != first}, header["__metadata__"]),
        "a tensor more.safetensors": save(tensors | {"more": torch.zeros(3)}, header["__metadata__"]),
        "a wrong shape.safetensors": save(tensors | {first: torch.zeros(3)}, header["__metadata__"]),
        "integers.safetensors": save(tensors | {first: tensors[first].int()}, header["__metadata__"]),
        "metadata no JSON.safetensors": architecture("{"),
        "architecture a list.safetensors": architecture("[1]"),
        "architecture a number.safetensors": architecture("7"),
        "unknown matcher.safetensors": architecture(json.dumps({"matcher": {"name": "os.system"}})),
        "unknown argument.safetensors": architecture(json.dumps({"exec": "x"})),
        "negative passes.safetensors": architecture(json.dumps({"passes": [-1.0]})),
        "no architecture.safetensors": changed(lambda metadata: metadata.pop("architecture")),
        "another kind.safetensors": changed(lambda metadata: metadata.update(kind='"BiSeNet"')),
        "text.pth": b"weights", "empty.pth": b"", "a picture.pth": encoded(scene()["vi"], "png"),
    }  # fmt: skip
    arguments = ["--mode", "Fusion", "--ir", "{}/ir", "--vi", "{}/vi", "--out", "{}/out", "--checkpoint"]

    def holding(name: str, content: Callable[[Path], bytes]) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            good_pair(folder)
            (folder / name).write_bytes(content(folder))

        return make

    for name, data in files.items():
        label = name if name.endswith("pth") else name.removesuffix(".safetensors")
        expects = (0, 2) if "integers" in name else (2,)
        make = holding(name, lambda folder, data=data: data)
        yield Case("checkpoint", label, make, [*arguments, f"{{}}/{name}"], expects=expects, beside=False)
    pickles = {
        "a pickle with code": lambda folder: pickle.dumps(Bomb(folder / "owned")),
        "a PyTorch file with code": lambda folder: torch_file(Bomb(folder / "owned")),
        "weights beside code": lambda folder: torch_file({"DM": tensors, "FN": Bomb(folder / "owned")}),
        "a PyTorch list": lambda folder: torch_file([1, 2]),
        "a PyTorch dictionary of text": lambda folder: torch_file({"DM": "x", "FN": "y"}),
        "a PyTorch dictionary of numbers": lambda folder: torch_file({"DM": {"a": 1}, "FN": {"b": 2}}),
        "an empty PyTorch dictionary": lambda folder: torch_file({}),
    }
    for label, content in pickles.items():
        make = holding("x.pth", content)
        yield Case("checkpoint", label, make, [*arguments, "{}/x.pth"], expects=(2,), beside=False)
        segment = ["--mode", "Seg", *arguments[2:-1], "--segmenter", "{}/x.pth"]
        yield Case("checkpoint", f"{label}, as segmenter", make, segment, expects=(2,), beside=False)

        def resumed(folder: Path, content: Callable[[Path], bytes] = content) -> None:
            training(folder)
            (folder / "out").mkdir()
            (folder / "out" / "state.pt").write_bytes(content(folder))

        train = ["--config", "{}/tiny.yaml", "--out", "{}/out", "--device", "cpu", "--resume"]
        yield Case("checkpoint", f"{label}, as state.pt", resumed, train, "train", (2,), False)


def torch_file(content: object) -> bytes:
    """The bytes that ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def outside(header: dict, body: bytes) -> bytes:
    """A safetensors file whose first tensor lies outside of it."""
    changed = json.loads(json.dumps(header))
    first = next(key for key in changed if key != "__metadata__")
    changed[first]["data_offsets"] = [len(body), len(body) + 4 * int(np.prod(changed[first]["shape"]))]
    text = json.dumps(changed).encode()
    return struct.pack("<Q", len(text)) + text + body


def all_cases(weights: Path) -> list[Case]:
    """All cases; ``weights`` is a checkpoint that is written for them."""
    torch.manual_seed(0)
    save_checkpoint(weights, SuperFusion())
    kinds = (formats(), sizes(), names(), damage(), values(), clashes(), checkpoints(weights))
    return list(itertools.chain.from_iterable(kinds))
