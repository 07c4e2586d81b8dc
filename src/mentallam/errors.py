"""The exception for every problem that a user can solve."""

from collections.abc import Iterator

import click


class MentallamError(click.ClickException):
    """A problem that the user can solve: bad input, bad configuration, missing weights.

    The message is one sentence that names the file, row or key and the way out; it never holds the text of a post. The
    class derives from click's exception, so `kedro run` and `mentallam` print the sentence and exit with code 1.
    """


class RejectedRowsError(MentallamError):
    """Some rows of a batch could not be answered; the answers to the others are saved, and the exit code is 3."""

    exit_code = 3


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it, the root last."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
