"""What the Hub, the network and the disk did not let be done, said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from hf_paint.errors import InputError, JobError
from hf_paint.repositories import FAILURES


START_AGAIN = "Start the same command again to go on."


@contextmanager
def said_clearly(what: str) -> Iterator[None]:
    """Turn what the Hub, the network or the disk raises into one line that begins with what failed.

    Raises:
        JobError: If they raise.
    """
    try:
        yield
    except (InputError, JobError):
        raise
    except FAILURES as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        advice = "Are you logged in, and may you write there?" if status in (401, 403) else START_AGAIN
        raise JobError(f"{what}: {said(error)}. {advice}") from error


def said(error: Exception) -> str:
    """Return the type of an error and what the Hub said."""
    return f"{type(error).__name__}, {getattr(error, 'server_message', None) or error}"
