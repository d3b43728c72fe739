"""One-line errors for Hub, network and disk failures."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import LocalTokenNotFoundError

from hf_paint.errors import InputError, JobError
from hf_paint.repositories import FAILURES


@contextmanager
def hub_errors(summary: str) -> Iterator[None]:
    """Turn Hub, network and disk failures into one-line errors.

    Args:
        summary: Start of the error message, for example "Pushing the branch main failed".

    Raises:
        InputError: If there is no token.
        JobError: If the Hub, the network or the disk fails.
    """
    try:
        yield
    except (InputError, JobError):
        raise
    except LocalTokenNotFoundError as error:
        raise InputError(f"{summary}: you are not logged in. Log in with write access: hf auth login") from error
    except FAILURES as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = "Rerun the same command to continue."
        if status in (401, 403):
            advice = "Log in with an account that has write access: hf auth login"
        message = getattr(error, "server_message", None) or error
        raise JobError(f"{summary}: {type(error).__name__}, {message}. {advice}") from error
