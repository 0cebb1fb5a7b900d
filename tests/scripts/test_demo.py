"""The page in a real browser: what a visitor does, sees, and takes away. Skipped where there is no Chromium."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.geometry.linalg import transform_points

import demo
import test as test_script
from datasets.toy import toy_scene
from models.registration.transform import Transform
from models.warping import pixel_grid, sample
from utils.errors import UserError
from utils.files.images import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(find_spec("gradio") is None, reason="no Gradio"),
]

PATIENCE = 300_000  # ms: a machine may be busy with other things
WIDTH, HEIGHT = 192, 144
# A camera that is turned by 37 degrees, farther than the search looks.
TURNED = torch.tensor([[0.4, 0.3, -8.0], [-0.3, 0.4, 50.0], [0, 0, 1]], dtype=torch.float64)
MARKED = torch.tensor([[60.0, 40.0], [140.0, 35.0], [150.0, 110.0], [55.0, 100.0]])


@pytest.fixture(scope="module")
def page_process(tmp_path_factory):
    """``python demo.py``, its address, and the folder in which it keeps its temporary one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("page")
    command = [sys.executable, str(ROOT / "demo.py"), "--port", str(port), "--max_upload", "1", "--device", "cpu"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(folder)}, **pipes)
    assert process.stdout.readline().startswith(f"http://127.0.0.1:{port} "), process.communicate()[1]
    assert len(list(folder.glob("superfusion_*"))) == 1
    yield f"http://127.0.0.1:{port}", folder
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=PATIENCE / 1000)[1]
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert not list(folder.glob("superfusion_*"))  # nothing of what was uploaded is left


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


class Visitor:
    """One visitor of the page, with a browser profile of their own."""

    def __init__(self, browser, address: str, **viewport: int):
        self.context = browser.new_context(viewport=viewport or None)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.problems, self.requests = [], []
        self.page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#go")
        self.settle()

    def settle(self) -> None:
        """Wait until the browser has nothing to do, however slow it is."""
        self.page.evaluate("new Promise(done => requestIdleCallback(() => requestIdleCallback(done)))")
        self.page.wait_for_timeout(300)

    def give(self, ir: Path, vi: Path) -> None:
        self.give_side("ir", ir)
        self.give_side("vi", vi)

    def give_side(self, side: str, path: Path) -> None:
        self.page.set_input_files(f"#{side} input[type=file]", path)
        self.page.get_by_text(path.stem, exact=True).first.wait_for()
        self.settle()

    def run(self, verdict: str, button: str = "#go") -> str:
        """Press the button and wait for a box of this kind; returns its words."""
        self.page.click(button)
        self.page.wait_for_selector(f".verdict.{verdict}")
        return self.page.inner_text("#verdict")

    def taken(self, folder: Path) -> dict[str, Path]:
        """Download all files; returns them by name."""
        links = {link.get_attribute("download"): link.get_attribute("href") for link in self.files()}
        for name, address in links.items():
            (folder / name).write_bytes(self.context.request.get(address).body())
        return {name: folder / name for name in links}

    def files(self) -> list:
        self.page.wait_for_selector("#files a[download]")
        return self.page.query_selector_all("#files a[download]")


@pytest.fixture
def visitor(browser, page_process):
    visitors = []

    def arrive(**viewport: int) -> Visitor:
        visitors.append(Visitor(browser, page_process[0], **viewport))
        return visitors[-1]

    yield arrive
    for one in visitors:
        assert one.problems == []
        assert [url for url in one.requests if not re.match(rf"{page_process[0]}|data:|blob:", url)] == []
        one.context.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """IR and VI of two scenes, the first IR as temperatures; and of the second as a turned camera sees it."""
    folder = tmp_path_factory.mktemp("made")
    for seed, name in enumerate("ab"):
        scene = toy_scene(seed + 3, HEIGHT, WIDTH)
        write_image(folder / f"{name}_vi.png", scene.vi)
        write_image(folder / f"{name}_ir.png", scene.ir)
    np.save(folder / "a_ir.npy", toy_scene(3, HEIGHT, WIDTH).ir[0].numpy() * 30 - 5)
    positions = transform_points(torch.linalg.inv(TURNED)[None], pixel_grid(96, 128, TURNED).flatten(2).mT)
    turned = sample(toy_scene(3, HEIGHT, WIDTH).ir[None], positions.mT.reshape(1, 2, 96, 128).float(), "border")
    write_image(folder / "turned_ir.png", turned[0])
    return folder


def test_a_port_in_use_is_one_line(page_process, monkeypatch):
    """The first, as Gradio and the browser's driver want a loop of their own."""
    port = page_process[0].rpartition(":")[2]
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)  # it would be for all tests that follow
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")
    with pytest.raises(UserError, match=rf"^--host 127.0.0.1 --port {port}: .*"):
        demo.main(["--port", port, "--device", "cpu"])


def test_it_loads_without_errors_and_asks_no_other_host(visitor):
    page = visitor().page
    assert page.title() == "SuperFusion"
    assert page.get_by_role("button", name="two unlike cameras").is_visible()


def test_an_example_runs(visitor, tmp_path):
    one = visitor()
    one.page.get_by_role("button", name="two unlike cameras").click()
    one.page.get_by_text("two_unlike_cameras_vi").first.wait_for()
    words = one.run("accepted")
    assert re.search(r"Accepted: confidence 1\.00, found among other fields of view and rotations; \d+\.\d s", words)
    files = one.taken(tmp_path)
    assert read_image(files["fused_two_unlike_cameras_vi.png"]).shape == (3, 480, 640)
    assert Transform.load(files["two_unlike_cameras_vi.json"]).vi_size == (640, 480)
    for part, count in (("slider", 2), ("fused", 1), ("before", 1), ("after", 1), ("flow", 1)):
        assert one.page.locator(f"#{part} img").count() == count, part


def test_two_uploads_give_the_files_of_the_command_line(visitor, made, tmp_path):
    one = visitor()
    one.give(made / "a_ir.npy", made / "a_vi.png")
    one.run("accepted")
    files = one.taken(tmp_path)
    pair = ["--ir", made / "a_ir.npy", "--vi", made / "a_vi.png", "--save_thermal", "--device", "cpu"]
    test_script.main([str(argument) for argument in [*pair, "--out", tmp_path / "out"]])
    expected = {
        "fused_a_vi.png": "fused/a_vi.png",
        "registered_a_vi.png": "registered/a_vi.png",
        "thermal_a_vi.tiff": "thermal/a_vi.tiff",
        "a_vi.json": "transform/a_vi.json",
        "a_vi.npz": "transform/a_vi.npz",
    }
    assert sorted(files) == sorted(expected)
    for name, path in expected.items():
        assert files[name].read_bytes() == (tmp_path / "out" / path).read_bytes(), name


def test_a_refused_pair_is_shown_as_such_and_found_from_marked_points(visitor, made):
    one = visitor(width=1280, height=1000)
    one.give(made / "turned_ir.png", made / "a_vi.png")
    words = one.run("refused")
    assert words.startswith("Refused: confidence 0.") and "mark four points" in words
    assert [link.get_attribute("download") for link in one.files() if "fused" in link.get_attribute("download")] == []
    assert one.page.locator("#fused img").count() == 0
    one.page.click("#by_hand > button")
    assert one.run("error", "#by_points").startswith("Error: 0 points are marked in VI and 0 in IR")
    partners = Transform(TURNED, (WIDTH, HEIGHT), (128, 96)).to_ir(MARKED)
    for side, points, size in (("vi", MARKED, (WIDTH, HEIGHT)), ("ir", partners, (128, 96))):
        selector = f"#mark_{side} img"
        image = one.page.locator(selector)
        for x, y in points.tolist():
            before, box = image.get_attribute("src"), image.bounding_box()
            shift = {"x": (x + 0.5) * box["width"] / size[0], "y": (y + 0.5) * box["height"] / size[1]}
            image.click(position=shift)
            one.page.wait_for_function("([s, b]) => document.querySelector(s).src != b", arg=[selector, before])
    assert "your points, refined" in one.run("accepted", "#by_points")


def test_a_bad_and_a_missing_file_are_one_line(visitor, made, tmp_path):
    (tmp_path / "letter.png").write_text("no picture")
    one = visitor()
    assert one.run("error") == "Error: there is no thermal image; drop a file, or take an example"
    is_one_line = "start => {const said = document.querySelector('#verdict').innerText; \
        return said.startsWith(start) && !said.includes('\\n')}"
    line = "Error: letter.png: not a readable image (damaged, or not png, jpg, "
    one.page.set_input_files("#ir input[type=file]", tmp_path / "letter.png")
    one.page.wait_for_function(is_one_line, arg=line)  # at once
    one.page.click("#go")
    one.page.wait_for_function(is_one_line, arg="Error: there is no visible image")
    one.give_side("vi", made / "a_vi.png")
    one.page.click("#go")
    one.page.wait_for_function(is_one_line, arg=line)
    assert "Traceback" not in one.page.content()


def test_a_file_that_is_too_large_is_not_taken(visitor, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(3 << 20))
    one = visitor()
    one.page.set_input_files("#ir input[type=file]", tmp_path / "large.png")
    one.page.get_by_text("exceed the maximum allowed size").wait_for()
    one.problems.clear()  # the browser logs the refused upload


def test_a_phone_is_wide_enough(visitor, made):
    one = visitor(width=390, height=844)
    one.give(made / "b_ir.png", made / "b_vi.png")
    one.run("accepted")
    one.page.click("#settings > button")
    one.page.click("#by_hand > button")
    fits = "part => {const box = document.querySelector(part).getBoundingClientRect(); \
        return box.left >= 0 && box.right <= 390 && box.width > 250}"
    for part in ("#go", "#slider", "#fused", "#files", "#strength", "#mark_vi", "#by_points"):
        one.page.locator(part).wait_for()
        one.page.wait_for_function(fits, arg=part)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_two_visitors_at_once_get_their_own_results(visitor, made, tmp_path):
    visitors = {name: visitor() for name in "ab"}
    for name, one in visitors.items():
        one.give(made / f"{name}_ir.png", made / f"{name}_vi.png")
    visitors["b"].page.click("#settings > button")
    strength = visitors["b"].page.locator("#strength")
    while strength.locator("input[type=range]").input_value() != "0":  # while the settings unfold, they are set anew
        strength.locator("input[type=number]").fill("0")
        visitors["b"].page.keyboard.press("Tab")
        visitors["b"].settle()
    for one in visitors.values():
        one.page.click("#go")
    for name, one in visitors.items():
        one.page.wait_for_selector(".verdict.accepted")
        files = one.taken(tmp_path)
        assert sorted(files)[0] == f"{name}_vi.json"
        fused, vi = read_image(files[f"fused_{name}_vi.png"]), read_image(made / f"{name}_vi.png")
        assert torch.equal(fused, vi) == (name == "b")
