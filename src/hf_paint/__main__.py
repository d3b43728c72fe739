"""Entry point of `python -m hf_paint`, which is the same as `hf-paint`."""

import sys

from hf_paint.cli.main import main


if __name__ == "__main__":
    sys.exit(main())
