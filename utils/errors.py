"""One way to end on bad input: a line that says what is wrong and what to do, and exit code 2."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input from outside; the message names the file or option and says what to do."""


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a script's ``main``; a UserError becomes one line on standard error and exit code 2, Ctrl-C one and 130."""
    try:
        main(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
