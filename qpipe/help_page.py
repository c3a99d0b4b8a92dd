"""The page that `python -m qpipe --help` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from qpipe.config.catalog import group_options

WIDTH = 120

TOP = """qpipe: declarative quantization for Keras.
A YAML file says which model, data, folding, bitwidths and method; one command trains or loads the float model,
folds, quantizes, trains or calibrates, measures, and logs everything to MLflow.

Usage: python -m qpipe [options] [group=option ...] [key=value ...]        (or just: qpipe ...)

Everyday commands
  python -m qpipe experiment=mobilenet_8bit                       run an experiment
  python -m qpipe experiment=mobilenet_8bit dry_run=true          print the plan for every layer and stop
  python -m qpipe experiment=mobilenet_8bit debug=fast            see in seconds whether it runs
  python -m qpipe experiment=mobilenet_8bit quantizer.weight.bitwidth=4 folding.exclude=[conv1]
  python -m qpipe --multirun experiment=mobilenet_8bit quantizer.weight.bitwidth=8,6,4
  python -m qpipe --cfg job --resolve experiment=mobilenet_8bit   print the whole configuration and stop
  python -m qpipe --config-dir my_configs experiment=mine         use configuration files of your own
"""

BOTTOM = """
Keys above the groups
  name=TEXT        name of the job, its folder and its MLflow run
  seed=0           seed of splits, shuffling, augmentation and initial weights
  dry_run=false    true: print the plan for every layer and stop, without training or logging
  runs_dir=runs    where results go, relative to the working folder; also the environment variable QPIPE_RUNS
Any key of `--cfg job` can be set in the same way: data.limit=1000, training.qat.epochs=4, tracking.uri=...

Options
  -m, --multirun            run one job for each combination of comma-separated values
  -cd, --config-dir FOLDER  a folder of your own with groups such as experiment/mine.yaml
  -c, --cfg job|hydra|all   print the configuration and stop
      --resolve             with --cfg: with all interpolations resolved
  -p, --package KEY         with --cfg: only this part, such as quantizer
  -i, --info [TOPIC]        how the configuration is composed: all, config, defaults, defaults-tree, searchpath, ...
  -sc, --shell-completion install=bash|zsh|fish    print what completes keys and options in your shell
      --hydra-help          Hydra's own help
      --version             print the version and stop
  -h, --help                print this page and stop

QPIPE_DEBUG=1 in the environment shows the stack trace of an error.
Documentation: README.md and docs/ of the source tree.
How overrides are written: https://hydra.cc/docs/advanced/override_grammar/basic
"""


def help_page(directories: Iterable[Path]) -> str:
    """Returns the page, with the groups and options that lie in the configuration folders."""
    groups = group_options(directories)
    lines = ["", "Groups and their options"]
    for group, options in groups.items():
        width = max(len(option.name) for option in options)
        lines.append(f"  {group}=")
        lines += [line for option in options for line in _wrapped(f"    {option.name:<{width}}  ", option.summary)]
    return TOP + "\n".join(lines) + "\n" + BOTTOM


def _wrapped(label: str, summary: str) -> list[str]:
    return textwrap.wrap(summary, WIDTH, initial_indent=label, subsequent_indent=" " * len(label)) or [label.rstrip()]
