"""The `frontdesk` command line: the only place that reads settings and wires the parts together.

Owns what a person sees on the terminal and the exit status: 0 done, 1 refused, 2 bad input. One function a command.
"""

from __future__ import annotations

import errno
import sys

import typer

from bot import FrontdeskError
from bot.cli import demo, discovery, evaluation, knowledge, learning, models, people, record, service, sites
from finetune.examples import FinetuneError
from retriever.passages import RetrieverError

commands = typer.Typer(
    name="frontdesk",
    help="A customer-service bot that you run yourself and that learns from your own chats.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (demo, service, knowledge, learning, discovery, models, evaluation, record, people, sites):
    part.register(commands)

DISK = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the folder is read-only; choose another `home` in frontdesk.toml",
    errno.EACCES: "not allowed; check owner and mode of the file or choose another `home`",
    errno.EPERM: "not allowed; check owner and mode of the file or choose another `home`",
    errno.EEXIST: "a file is in the place of a folder; choose another `home`",
    errno.ENOTDIR: "a file is in the place of a folder; choose another `home`",
}


def app() -> None:
    """Run the command line and leave with its exit status; a person never sees a traceback for bad input."""
    try:
        commands()
    except (FrontdeskError, RetrieverError, FinetuneError) as error:
        status = _say(str(error))
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        if error.errno not in DISK:
            raise
        status = _say(f"{error.filename or 'a file'}: {DISK[error.errno]}")
    sys.exit(status)


def _say(problem: str) -> int:
    for line in problem.splitlines():
        sys.stderr.write(f"frontdesk: {line}\n")
    return 2
