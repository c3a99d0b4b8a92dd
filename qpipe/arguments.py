"""Reads the command line: options on one side, overrides on the other."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import NoReturn

USAGE_STATUS = 2
INFO_TOPICS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0].partition("=")[0]
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(unknown, known, n=1) if unknown else []
        hint = f"did you mean {near[0]}?" if near else "see --help"
        sys.stderr.write(f"error: {message}; {hint}\n")
        sys.exit(USAGE_STATUS)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns `overrides` and the options; a wrong option ends the process with status 2.

    Args:
        arguments: the command line without the program's name.
    """
    parser = _Parser(prog="qpipe", add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    parser.add_argument("-i", "--info", nargs="?", const="all", choices=INFO_TOPICS)
    parser.add_argument("-sc", "--shell-completion", action="store_true")
    options = parser.parse_intermixed_args(list(arguments))
    if (options.resolve or options.package) and not options.cfg:
        parser.error("--resolve and --package need --cfg")
    if options.cfg and options.multirun:
        parser.error("--cfg shows one job: leave out --multirun")
    return options
