"""A page on this machine: drop a thermal and a visible image, and see them registered and fused.

python demo.py                    then open http://127.0.0.1:7860
python demo.py --host 0.0.0.0     for others in your network, too: there is no password

Uploads and results lie in a temporary folder, which is removed when the page ends. Nothing is sent anywhere.
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from models import load_model
from models.weights import SHIPPED
from utils.arguments import at_least
from utils.demo.examples import write_examples
from utils.device import pick_device
from utils.errors import MissingPackage, UserError, run
from utils.memory import keep_freed_memory


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--port", type=at_least(1), default=7860, help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED, help="our .safetensors or the authors' .pth")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda[:i] or mps")
    parser.add_argument(
        "--max_upload", type=at_least(1), default=100, metavar="MB", help="largest file (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.port > 65535:
        parser.error("--port goes to 65535")
    return args


def _end(*_) -> None:
    """Leave by the way on which the folder is removed, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    keep_freed_memory()
    device = pick_device(args.device)
    model = load_model(args.checkpoint).to(device)
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory(prefix="superfusion_") as folder:
        # Gradio reads both when it is imported.
        os.environ |= {"GRADIO_TEMP_DIR": f"{folder}/uploads", "GRADIO_ANALYTICS_ENABLED": "False"}
        try:
            from utils.demo.page import CSS, THEME, make_page
        except ModuleNotFoundError as error:
            if error.name != "gradio":
                raise
            raise MissingPackage("the page needs Gradio: pip install -r requirements-demo.txt") from error
        page = make_page(model, device, write_examples(Path(folder)), Path(folder))
        page.queue(max_size=32)
        try:
            page.launch(
                server_name=args.host,
                server_port=args.port,
                max_file_size=args.max_upload << 20,
                theme=THEME,
                css=CSS,
                footer_links=[],
                share=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:
            raise UserError(f"--host {args.host} --port {args.port}: {error}") from error
        print(f"http://{args.host}:{args.port}  (Ctrl-C ends it)", flush=True)
        page.block_thread()


if __name__ == "__main__":
    run(main)
