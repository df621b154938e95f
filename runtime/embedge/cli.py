"""The command line. A mistake of the user is one line on stderr and exit code 2; Ctrl-C is exit code 130.

    embedge build     TensorRT plans of a bundle, for the GPU here
    embedge embed     texts in, vectors out
    embedge doctor    what this machine has and which backend would run models
    embedge inspect   the contents of a bundle
    embedge verify    repeat a bundle's gate on this device
    embedge serve     serve an engine repository over gRPC

Other packages add commands through the entry-point group `embedge.commands`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated

import typer

from embedge.commands.build import build
from embedge.commands.disk import FAULTS
from embedge.commands.doctor import doctor
from embedge.commands.embed.command import embed
from embedge.commands.inspect import inspect
from embedge.commands.verify import verify
from embedge.config import renamed
from embedge.errors import EmbedgeError
from embedge.serving.main import serve
from embedge.version import __version__

__all__ = ["app", "main"]

USER_ERROR = 2
INTERRUPTED = 130

app = typer.Typer(
    name="embedge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (build, doctor, embed, inspect, verify, serve):
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"embedge {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Proven embeddings on any device."""


def main() -> None:
    """Run the command line and exit the process."""
    for entry in sorted(entry_points(group="embedge.commands"), key=lambda entry: entry.name):
        _join(entry)
    sys.exit(_run(sys.argv[1:] or ["--help"]))


def _run(args: list[str]) -> int:
    """Return the exit code of a command. Mistakes of the user become one line; other faults keep their traceback."""
    try:
        return int(app(args, prog_name="embedge", standalone_mode=False) or 0)
    except BrokenPipeError:
        _end_output()  # the reader has gone
        return 1
    except EmbedgeError as error:
        return _fault(str(error))
    except typer.TyperException as error:
        return _fault(error.format_message() + _hint(error))  # unlike str(), it names the option
    except OSError as error:
        if error.filename is None and error.errno not in FAULTS:
            raise
        _end_output()
        return _fault(f"{error.filename or 'reading or writing'}: {error.strerror}")
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED


def _hint(error: typer.TyperException) -> str:
    """Return the new name of a setting whose old name was given as an option."""
    hint = renamed(str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_"))
    return f"; {hint}, a key of [runtime] in the --config file" if hint else ""


def _end_output() -> None:
    """Discard the output that stdout refuses; flushing it at exit would fail once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fault(message: str) -> int:
    """Print what is wrong in one line."""
    typer.echo(f"embedge: {' '.join(message.split())}", err=True)
    return USER_ERROR


def _join(entry: EntryPoint) -> None:
    """Add another package's command. If it cannot be loaded, only calling it fails."""
    try:
        joined = entry.load()
    except ImportError as error:
        app.command(entry.name, help="Cannot be loaded.")(_missing(entry.name, error))
        return
    if isinstance(joined, typer.Typer):
        app.add_typer(joined, name=entry.name)
    else:
        app.command(entry.name)(joined)


def _missing(name: str, error: ImportError) -> Callable[[], None]:
    def command() -> None:
        raise EmbedgeError(f"command {name!r} cannot be loaded: {error}; pip install 'embedge[{name}]'")

    return command


if __name__ == "__main__":
    main()
