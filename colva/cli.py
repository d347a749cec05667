"""The command ``colva``: sub-commands, nothing else.

Exit codes: 0 done; 1 something was left out and ``--strict`` was given; 2 wrong usage, an unreadable input or an output
that cannot be written; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

from typing import Any

import click

from colva.checkpoints.commands import convert, init_tiny, merge
from colva.evaluation import commands as evaluation
from colva.inference.commands import chat
from colva.training.commands import train
from mmvm_data.core.version import __version__
from mmvm_data.io import console


class _Colva(click.Group):
    def main(self, *args: Any, **given: Any) -> Any:
        """As click's, with errors of ours as one line."""
        if given.get("standalone_mode", True):
            return console.run_command(
                self, given.get("prog_name") or "colva", given.get("args", args[0] if args else None)
            )
        return super().main(*args, **given)


@click.group(cls=_Colva, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="colva")
def main() -> None:
    """Train and evaluate models of visual correspondence."""


main.add_command(evaluation.evaluate, "eval")
main.add_command(evaluation.compare)
main.add_command(evaluation.overview)
main.add_command(evaluation.task)
main.add_command(chat)
main.add_command(convert)
main.add_command(merge)
main.add_command(init_tiny)
main.add_command(train)

if __name__ == "__main__":
    main()
