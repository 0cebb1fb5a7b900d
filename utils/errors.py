"""Exit on bad input: one line that names the problem and the remedy, and exit code 2."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Invalid user input; the message names the file or option and the remedy."""


class MissingPackage(UserError):
    """An optional package that a whole kind of files needs is not installed: there is no use in going on."""


def run(main: Callable[[list[str] | None], None]) -> None:
    """Run a script's ``main``; print a UserError as one line on stderr and exit with code 2 (130 for Ctrl-C)."""
    try:
        main(None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
