"""The `frontdesk` command. Owns one shortcut: a warm `frontdesk ask` must not wait for libraries it does not use."""

from __future__ import annotations

import sys

from bot import FrontdeskError


def main() -> None:
    """Ask the running service when that is all there is to do; otherwise the whole command line."""
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


if __name__ == "__main__":
    main()
