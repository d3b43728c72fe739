"""The server of the demo, which runs on this machine and sends nothing anywhere else."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from hf_paint.report.demo import Demo


LEAST = (6, 31)
"""Version of Gradio that the page is written for; before 6.24, there was no history of pictures to switch off."""
MOST_BYTES = 50 * 2**20
"""Size of the largest picture that may be uploaded."""
SWITCHED_OFF = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Environment variables under which Gradio calls nobody."""


def check_gradio() -> None:
    """Check that Gradio is installed, and is not too old.

    Raises:
        InputError: If it is not.
    """
    try:
        version = metadata.version("gradio")
    except metadata.PackageNotFoundError:
        raise InputError('The demo needs Gradio: pip install "hf-paint[demo]".') from None
    if tuple(map(int, version.split(".")[:2])) < LEAST:
        needed = ".".join(map(str, LEAST))
        raise InputError(
            f'The demo needs Gradio {needed} or newer, but {version} is installed: pip install "hf-paint[demo]".'
        )


@contextmanager
def served(
    demo: "Demo", *, host: str = "127.0.0.1", port: int | None = None, share: bool = False, browser: bool = False
) -> Iterator[str]:
    """Serve the page inside the block, and yield its address.

    The user's pictures are kept in a temporary folder, which is deleted at the end of the block.

    Args:
        demo: What to show.
        host: Address to listen on.
        port: Port; by default, the first free one from 7860.
        share: Also make the page public through Gradio's servers.
        browser: Open the page in a browser.

    Raises:
        InputError: If Gradio is missing, or the port is taken.
    """
    check_gradio()
    from hf_paint.report.demo_page import build_page

    with tempfile.TemporaryDirectory(prefix="hf-paint-demo-") as folder, _environment(folder):
        page, look = build_page(demo)
        try:
            page.launch(
                server_name=host,
                server_port=port,
                share=share,
                inbrowser=browser,
                inline=False,
                quiet=True,
                prevent_thread_lock=True,
                show_error=True,
                max_file_size=MOST_BYTES,
                ssr_mode=False,
                run_history=False,
                enable_monitoring=False,
                mcp_server=False,
                pwa=False,
                footer_links=[],
                allowed_paths=[] if demo.subject.run is None else [str(demo.subject.run.examples)],
                **look,
            )
        except OSError as error:  # Gradio's word for a taken port
            raise InputError(f"The demo cannot listen on {host}, port {port or 'any from 7860'}: {error}") from error
        try:
            yield page.share_url or page.local_url
        finally:
            page.close(verbose=False)


@contextmanager
def _environment(folder: str) -> Iterator[None]:
    """Keep Gradio's files in a folder, and its analytics switched off, also while it is imported."""
    values = {**SWITCHED_OFF, "GRADIO_TEMP_DIR": folder}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
