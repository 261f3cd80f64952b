"""The `frontdesk` command. Owns one shortcut: a warm `frontdesk ask` must not wait for libraries it does not use."""

from __future__ import annotations

import os
import sys

from bot import FrontdeskError


def main() -> None:
    """Ask the running service when that is all there is to do; otherwise the whole command line."""
    # Only the name of a file may be no text: whatever else it is given for cannot store or print it.
    odd = next((given for given in sys.argv[1:] if not _is_text(given) and not os.path.exists(given)), None)
    if odd is not None:
        sys.stderr.write(f"frontdesk: {os.fsencode(odd)!r} is not UTF-8; give it in UTF-8\n")
        sys.exit(2)
    if sys.argv[1:2] == ["ask"]:
        from bot.ask import ask_running_service

        try:
            status = ask_running_service(sys.argv[2:])
        except (FrontdeskError, OSError):  # settings that cannot be read, which the whole command line tells
            status = None
        if status is not None:
            sys.exit(status)
    from bot.cli import app

    app()


def _is_text(given: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in given)


if __name__ == "__main__":
    main()
