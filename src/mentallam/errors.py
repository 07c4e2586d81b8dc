"""The one exception that a user of mentallam meets."""

import click


class MentallamError(click.ClickException):
    """Something that the user can put right: bad input, bad configuration, missing weights.

    The message is one sentence that names the file, row or key and the way out, and never holds post text. It
    derives from click's exception so that `kedro run` and `mentallam` print that sentence and exit with code 1.
    """
