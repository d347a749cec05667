"""The command ``colva``: lists its commands and imports the one that runs.

Exit codes: 0 done; 1 something was left out and ``--strict`` was given; 2 wrong usage, an unreadable input or an output
that cannot be written; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

from typing import Any

import click

from colva.evaluation.scoring.extract import extract_option
from mmvm_data.core.version import __version__
from mmvm_data.io import console
from mmvm_data.io.lazy_group import LazyCommand, LazyGroup

COMMANDS = {
    "chat": LazyCommand("colva.inference.commands:chat", "Ask a model about a case, or about images of your own."),
    "compare": LazyCommand("colva.evaluation.report_commands:compare", "Compare runs over the same cases."),
    "configs": LazyCommand(
        "colva.training.commands:configs", "List the configurations that `colva train` knows by name."
    ),
    "convert": LazyCommand(
        "colva.checkpoints.commands:convert", "Convert a published checkpoint to a CoLVA one, or back."
    ),
    "eval": LazyCommand("colva.evaluation.eval_command:evaluate", "Ask a model all questions of a benchmark."),
    "export-inspect": LazyCommand("colva.evaluation.task_commands:inspect", "Write a benchmark as a task for Inspect."),
    "export-lighteval": LazyCommand(
        "colva.evaluation.task_commands:lighteval", "Write a benchmark as a task for lighteval."
    ),
    "export-lmms-eval": LazyCommand(
        "colva.evaluation.task_commands:lmms_eval", "Write a benchmark as a task for lmms-eval."
    ),
    "init-small": LazyCommand("colva.checkpoints.commands:init_small", "Write a small pretrained checkpoint."),
    "init-tiny": LazyCommand("colva.checkpoints.commands:init_tiny", "Write a toy checkpoint."),
    "merge": LazyCommand("colva.checkpoints.commands:merge", "Fold LoRA and an adapter into their model."),
    "overview": LazyCommand(
        "colva.evaluation.report_commands:overview", "Write one page that links all runs in a folder."
    ),
    "train": LazyCommand("colva.training.commands:train", "Train a stage from a configuration file."),
}
"""Where each command is, with its short help."""


class _Colva(LazyGroup):
    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's, with errors as one line."""
        if kwargs.get("standalone_mode", True):
            return console.run_command(
                self, kwargs.get("prog_name") or "colva", kwargs.get("args", args[0] if args else None)
            )
        return super().main(*args, **kwargs)


@click.group(
    cls=_Colva,
    lazy_commands=COMMANDS,
    # obj: `colva chat` reads options from generated text by the rule of the evaluation
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "obj": extract_option},
)
@click.version_option(__version__, prog_name="colva")
def main() -> None:
    """Train and evaluate models of visual correspondence."""


if __name__ == "__main__":
    main()
