"""`hf-paint demo`: try a patch on pictures and words of one's own, on a local page."""

import argparse
import sys
from threading import Event

from hf_paint.cli.parser import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = (
        "Try a patch on your own pictures and words, on a page with a slider for alpha. It runs on this machine, and "
        "no request leaves it."
    )
    example = (
        "  hf-paint demo runs/mnist\n"
        "  hf-paint demo me/clip-mnist --port 8000\n"
        "  hf-paint demo my-finetuned-clip --base openai/clip-vit-base-patch32"
    )
    command = add_command(commands, "demo", run, summary=text, example=example)
    names = "run folder, or folder, Hub repository id or id@revision of a patched model, a patch or an adapter"
    command.add_argument("name", metavar="RUN | MODEL", help=names)
    command.add_argument("--base", help="model before patching (default: the one that RUN or MODEL names)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=_port, help="port to listen on (default: the first free one from 7860)")
    command.add_argument("--no_browser", action="store_true", help="do not open the page in a browser")
    command.add_argument(
        "--share", action="store_true", help="also make the page public for a week, through Gradio's servers"
    )


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command, until Ctrl+C."""
    from hf_paint.report.demo_server import check_gradio, served

    check_gradio()  # before torch is imported and models are loaded
    from hf_paint.report.demo import Demo
    from hf_paint.report.opening import open_subject

    demo = Demo(open_subject(parsed.name, parsed.base))
    browser = not parsed.no_browser
    try:
        with served(demo, host=parsed.host, port=parsed.port, share=parsed.share, browser=browser) as address:
            sys.stdout.write(f"The demo is at {address} until you press Ctrl+C.\n")
            sys.stdout.flush()
            Event().wait()
    except KeyboardInterrupt:
        sys.stdout.write("The demo has ended.\n")


def _port(text: str) -> int:
    """Parse a port."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"must be a port from 1 to 65535, got '{text}'")
    return int(text)
