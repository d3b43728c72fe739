"""One-line errors for Hub, network and disk failures."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import LocalTokenNotFoundError

from hf_paint.errors import InputError, JobError, one_line
from hf_paint.repositories import FAILURES


@contextmanager
def hub_errors(summary: str) -> Iterator[None]:
    """Turn Hub, network and disk failures into one-line errors.

    Args:
        summary: Start of the error message, for example "Pushing the branch main failed".

    Raises:
        InputError: If there is no token, or the Hub refuses it.
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
        advice = "Run the same command again to continue."
        if status in (401, 403):
            advice = "Log in with an account that has write access: hf auth login"
        message = one_line(getattr(error, "server_message", None) or error) or type(error).__name__
        failure = InputError if status == 401 else JobError
        raise failure(f"{summary}: {message.rstrip('. ')}. {advice}") from error
