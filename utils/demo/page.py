"""The page: two files in, pictures, the decision in words and files to take away, for each visitor apart.

Gradio serves all of it from this machine: no analytics, no fonts or scripts from elsewhere.
"""

import html
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
import torch

from models import SuperFusion
from models.deploy.inference import PRECISIONS
from models.registration import REGISTRARS, Transform
from models.registration.registrar import ROTATION, SCALE, SEARCHES
from utils.demo.marks import COUNT, Marks, start_of, to_pixels
from utils.demo.trial import Settings, Shown, new_folder, try_pair, without_folders
from utils.errors import UserError
from utils.jobs.pairs import FRAMES

# Fonts of the visitor's own system; Gradio's usual theme fetches others.
THEME = gr.themes.Base(
    primary_hue="violet",
    font=["system-ui", "sans-serif"],  # type: ignore[arg-type]
    font_mono=["ui-monospace", "monospace"],  # type: ignore[arg-type]
)
CSS = """
.verdict {border-left: 0.5rem solid; padding: 0.6rem 0.9rem; border-radius: 0.3rem; overflow-wrap: anywhere}
.verdict, .verdict * {color: #111}
.verdict p {margin: 0.2rem 0 0; font-size: 0.9em}
.accepted {background: #d9f5df; border-color: #1a8f3c}
.refused, .error {background: #fde0dc; border-color: #c62f1d}
#files .label-clear-button {display: none}
.judged {background: #e8e8ee; border-color: #77778a}
"""
_KEPT = 3600  # seconds that uploads and results are kept
_ADVICE = {
    "refused": "If both images show one scene, widen the search range, or mark four points below. 'Fuse refused pairs, "
    "too' in the settings takes the answer all the same.",
    "accepted": "Purple lines should lie on the edges of the picture beneath.",
    "not judged": "Look whether purple lines lie on the edges of the picture beneath.",
}


def make_page(model: SuperFusion, device: torch.device, examples: dict[str, tuple[Path, Path]], folder: Path):
    """Build the page, a ``gradio.Blocks``. ``examples``: IR and VI files by name; results are kept in ``folder``."""
    precisions = [name for name in PRECISIONS if name != "float16" or device.type != "cpu"]
    with gr.Blocks(title="SuperFusion", analytics_enabled=False, delete_cache=(_KEPT // 6, _KEPT)) as page:
        results = gr.State(None, time_to_live=_KEPT, delete_callback=_remove)
        marks = {"vi": gr.State(Marks()), "ir": gr.State(Marks())}
        gr.Markdown("# SuperFusion\nRegister a thermal image to a visible one, and fuse them, on this machine.")
        with gr.Row():
            ir = gr.File(label="Thermal image (IR): picture, TIFF, .npy, radiometric JPEG", elem_id="ir", height=160)
            vi = gr.File(label="Visible image (VI)", elem_id="vi", height=160)
        with gr.Row():
            buttons = [gr.Button(name, size="sm", min_width=120) for name in examples]
        settings = _settings(precisions)
        go = gr.Button("Register and fuse", variant="primary", elem_id="go")
        verdict = gr.HTML(elem_id="verdict")
        with gr.Row():
            slider = gr.ImageSlider(label="Visible and thermal image, registered", elem_id="slider", format="png")
            fused = gr.Image(label="Fused", elem_id="fused", format="png", buttons=["fullscreen"])
        with gr.Row():
            before = gr.Image(label="Before: thermal edges in purple", elem_id="before", buttons=["fullscreen"])
            after = gr.Image(label="After", elem_id="after", buttons=["fullscreen"])
        with gr.Row():
            flow = gr.Image(label="Flow: hue for direction", elem_id="flow", buttons=["fullscreen"])
            files = gr.File(label="Take away", file_count="multiple", interactive=False, elem_id="files")
        with gr.Accordion(f"By hand: mark the same {COUNT} points in both images", open=False, elem_id="by_hand"):
            gr.Markdown(
                f"For a pair that was refused. Click {COUNT} points in either image, in the same order; a further "
                "click moves the nearest one. The registration starts from them, and is judged as ever."
            )
            with gr.Row():
                pictures = {
                    "ir": gr.Image(label="Thermal", interactive=False, elem_id="mark_ir", format="png", buttons=[]),
                    "vi": gr.Image(label="Visible", interactive=False, elem_id="mark_vi", format="png", buttons=[]),
                }
            with gr.Row():
                by_points = gr.Button("Start from these points", elem_id="by_points")
                clear = gr.Button("Clear the points", elem_id="clear")

        shown = [verdict, slider, fused, before, after, flow, files]
        for side, file in (("ir", ir), ("vi", vi)):
            _on(file.change, partial(_opened, side == "ir"), file, [marks[side], pictures[side], verdict])
            _on(pictures[side].select, _marked, marks[side], [marks[side], pictures[side]])
        for button, pair in zip(buttons, examples.values()):
            _on(button.click, partial(_both, pair), None, [ir, vi])
        _on(clear.click, _cleared, list(marks.values()), [*marks.values(), pictures["vi"], pictures["ir"]])
        run = partial(_run, partial(try_pair, model, device), folder)
        inputs = [results, ir, vi, *settings]
        by_hand = partial(_run_by_points, run), [*marks.values(), *inputs]
        for button, (function, given) in ((go, (run, inputs)), (by_points, by_hand)):
            # One pair after the other: two at once would take twice the memory, and as long.
            _on(button.click, function, given, [results, *shown], concurrency_limit=1, concurrency_id="compute")
    return page


def _on(event: Callable, function: Callable, inputs: object, outputs: list, **options) -> None:
    """Call ``function`` at an event of the page; other programs are not offered it."""
    event(function, inputs, outputs, api_visibility="private", **options)


def _settings(precisions: list[str]) -> list:
    """Lay out the settings, in the order of :func:`_run`'s last arguments."""
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row():
            registrar = gr.Dropdown(
                [(f"{name}: {entry.description}", name) for name, entry in REGISTRARS.items()],
                value="auto",
                label="Registrar",
            )
            search = gr.Radio(
                list(SEARCHES), value="auto", label="Search", info="narrow: one frame but for some degrees"
            )
        with gr.Row():
            low = gr.Number(SCALE[0], label="Field of view of IR, smallest", info="of VI's width", minimum=0.05)
            high = gr.Number(SCALE[1], label="Field of view of IR, largest", info="of VI's width", maximum=20)
            rotation = gr.Slider(0, 180, ROTATION, step=1, label="Rotation, at most", info="degrees")
        with gr.Row():
            strength = gr.Slider(0, 1, 1.0, step=0.05, label="How much of IR", elem_id="strength")
            frame = gr.Radio(list(FRAMES), value="vi", label="Frame", info="of the results")
            precision = gr.Radio(precisions, value="float32", label="Precision")
        keep = gr.Checkbox(False, label="Fuse refused pairs, too", elem_id="keep")
    return [registrar, search, low, high, rotation, strength, frame, precision, keep]


def _run(
    try_files: Callable,
    folder: Path,
    last: Path | None,
    ir: str | None,
    vi: str | None,
    registrar: str,
    search: str,
    low: float,
    high: float,
    rotation: float,
    strength: float,
    frame: str,
    precision: str,
    keep: bool,
    start: Transform | None = None,
) -> tuple:
    """Try a pair; returns the new folder of results, and values for all that is shown."""
    _remove(last)
    try:
        if ir is None or vi is None:
            missing = "thermal" if ir is None else "visible"
            raise UserError(f"there is no {missing} image; drop a file, or take an example")
        if low is None or high is None or not 0 < low <= high:
            raise UserError("the field of view takes two numbers above 0, the smaller first")
        settings = Settings(registrar, search, (low, high), rotation, frame, strength, precision, keep)
        here = new_folder(folder)
        trial = try_files(Path(ir), Path(vi), settings, here, start=start)
    except UserError as error:
        return None, _box("error", "Error", str(error), []), *[None] * 6
    lines = [_ADVICE[trial.verdict], *trial.notes]
    box = _box(trial.verdict, trial.verdict.capitalize(), trial.words, lines)
    return here, box, *_shown(trial.pictures), [str(path) for path in trial.files]


def _run_by_points(run: Callable, vi: Marks, ir: Marks, last: Path | None, *inputs) -> tuple:
    try:
        start = start_of(vi, ir)
    except UserError as error:
        return last, _box("error", "Error", str(error), []), *[gr.skip()] * 6
    return run(last, *inputs, start=start)


def _shown(pictures: Shown) -> list:
    fixed, moved, fused, before, after, flow = (
        None if image is None else to_pixels(image)
        for image in (
            pictures.fixed,
            pictures.moved,
            pictures.fused,
            pictures.before,
            pictures.after,
            pictures.flow,
        )
    )
    return [(fixed, moved), fused, before, after, flow]


def _opened(thermal: bool, path: str | None) -> tuple:
    """Read a file for the pictures that points are marked in; a line where it cannot be read."""
    if path is None:
        return Marks(), None, gr.skip()
    try:
        marks = Marks.of_file(Path(path), thermal)
    except UserError as error:
        return Marks(), None, _box("error", "Error", without_folders(str(error), Path(path)), [])
    return marks, marks.drawn(), gr.skip()


def _marked(marks: Marks, event: gr.SelectData) -> tuple:
    marks.mark(*event.index)
    return marks, marks.drawn()


def _cleared(vi: Marks, ir: Marks) -> tuple:
    vi.points, ir.points = [], []
    return vi, ir, vi.drawn(), ir.drawn()


def _both(pair: tuple[Path, Path]) -> tuple[str, str]:
    return str(pair[0]), str(pair[1])


def _box(kind: str, title: str, words: str, lines: list[str]) -> str:
    """Write a coloured box; all text is escaped, as names of files are among it."""
    below = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f'<div class="verdict {kind}" role="status"><b>{title}</b>: {html.escape(words)}{below}</div>'


def _remove(folder: Path | None) -> None:
    if folder is not None and folder.is_dir():  # it has an end of its own after an hour
        shutil.rmtree(folder)
