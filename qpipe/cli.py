"""The command line: `python -m qpipe` and the console script `qpipe`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import qpipe
from qpipe.arguments import parse_arguments
from qpipe.errors import QpipeError

FAILURE_STATUS = 1
INTERRUPTED_STATUS = 130
TERMINATED_STATUS = 143
LONGEST_MESSAGE = 300


class Terminated(KeyboardInterrupt):
    """SIGTERM: everything that cleans up after an interrupt does so for this as well."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for.

    Args:
        argv: the command line without the program's name; None takes the process's own.

    Returns:
        The exit status: 0, 1 for a failure, 130 after an interrupt, 143 after SIGTERM. A wrong option ends
        the process with status 2.
    """
    options = parse_arguments(sys.argv[1:] if argv is None else argv)
    with _sigterm_as_interrupt():
        try:
            _dispatch(options)
        except QpipeError as error:
            return _failure(str(error))
        except Terminated:
            return _failure("terminated", TERMINATED_STATUS)
        except KeyboardInterrupt:
            return _failure("interrupted", INTERRUPTED_STATUS)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILURE_STATUS
        except Exception as error:
            return _failure(_unexpected(error))
    return 0


def _dispatch(options: argparse.Namespace) -> None:
    if options.version:
        print(f"qpipe {qpipe.__version__}")
        return
    from qpipe.config.location import config_directories, user_directory

    config_dir = user_directory(options.config_dir)
    if options.help:
        from qpipe.help_page import help_page

        print(help_page(config_directories(config_dir)), end="")
    elif options.cfg:
        _show_config(options, config_dir)
    elif options.hydra_help or options.info or options.shell_completion:
        from qpipe.sweep.hydra_command import run_hydra

        run_hydra(_hydra_options(options), options.overrides, config_dir)
    elif options.multirun or "hydra.mode=MULTIRUN" in options.overrides:
        from qpipe.sweep.run import sweep

        sweep(options.overrides, config_dir)
    else:
        from qpipe.launch import launch

        launch(options.overrides, config_dir, configure_logging=True)


def _show_config(options: argparse.Namespace, config_dir: Path | None) -> None:
    from omegaconf import Container, OmegaConf

    from qpipe.config.composition import composed, job_tree
    from qpipe.config.errors import plain_errors
    from qpipe.errors import ConfigError

    with composed(options.overrides, config_dir) as tree, plain_errors(config_dir):
        shown: Any = {"job": job_tree(tree), "hydra": OmegaConf.create({"hydra": tree.hydra}), "all": tree}[options.cfg]
        if options.package:
            shown = OmegaConf.select(shown, options.package, throw_on_missing=False)
            if shown is None:
                raise ConfigError(f"--package: there is no key {options.package!r} with a value")
        if options.resolve and isinstance(shown, Container):
            OmegaConf.resolve(shown)
        text = OmegaConf.to_yaml(shown).rstrip("\n") if isinstance(shown, Container) else str(shown)
    print(text)


def _hydra_options(options: argparse.Namespace) -> list[str]:
    if options.hydra_help:
        return ["--hydra-help"]
    if options.shell_completion:
        return ["--shell-completion"]
    return ["--info", options.info]


def _unexpected(error: Exception) -> str:
    message = (str(error).strip() or "no message").splitlines()[0][:LONGEST_MESSAGE]
    notes = getattr(error, "__notes__", [])
    return "; ".join([f"unexpected {type(error).__name__}: {message}", *notes, "QPIPE_DEBUG=1 shows the stack trace"])


def _failure(sentence: str, status: int = FAILURE_STATUS) -> int:
    if os.environ.get("QPIPE_DEBUG") == "1":
        traceback.print_exc()
    sys.stderr.write(f"error: {sentence}\n")
    return status


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
