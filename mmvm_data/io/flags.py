"""Python arguments in error messages, replaced by the flags of the command that is running.

Library code names Python arguments: an ``OptionError`` has one in its ``argument``, and the text of any ``UsageError``
may quote arguments in backquotes. Where the running command has a parameter of that name, the message names its flag:

    ======================================  ================================
    library                                 command line
    ======================================  ================================
    ``none_share must be in [0, 1]``        ``--none-share must be in …``
    ```out` is a file``                     ``--out is a file``
    ```existing='overwrite'` replaces it``  ``--overwrite replaces it``
    ```engine='ray'` needs Ray``            ``--engine ray needs Ray``
    ```variants=True` needs …``             ``--variants needs …``
    ======================================  ================================
"""

from __future__ import annotations

import re
import traceback

import click

from mmvm_data.core.errors import UsageError

_QUOTED = re.compile(r"`([A-Za-z_][\w.]*)(?:=(True|False|'[^'`]*'|\"[^\"`]*\"|[^`'\"]*))?`")
_NAME = re.compile(r"(?<![\w`-])(?:^[a-z]\w*|[a-z]+(?:_\w+)+)(?![\w`])")


def message_with_flags(error: UsageError) -> str:
    """The text of an error, with the flags of the command that raised it for the Python arguments that it names.

    Args:
        error: as it was caught; the command is found in its traceback.

    Returns:
        The text of the error where no command was running, or where the command has no such parameter.
    """
    from mmvm_data.core.options import OptionError

    command = _running_command(error)
    if command is None:
        return str(error)
    text = str(error)
    if isinstance(error, OptionError):
        if error.argument:
            text = f"{_flag_of(command, error.argument) or error.argument} {error.reason}"
        else:  # a rule over several arguments, which names them itself
            text = _NAME.sub(lambda match: _flag_of(command, match[0]) or match[0], text)
    return _QUOTED.sub(lambda match: _flag_of(command, match[1], match[2]) or match[0], text)


def _running_command(error: BaseException) -> click.Command | None:
    """The innermost command whose context the error passed through."""
    command = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        context = frame.f_locals.get("ctx")
        if isinstance(context, click.Context):
            command = context.command
    return command


def _flag_of(command: click.Command, argument: str, value: str | None = None) -> str | None:
    """How a Python argument, and the value if there is one, is typed; None when the command has no such parameter."""
    name = argument.rsplit(".", 1)[-1]
    value = value if value is None else value.strip("'\"")
    flag = f"--{name.replace('_', '-')}"
    # a parameter of that name; else one with that flag under another name
    params = [param for param in command.params if param.name == name]
    params = params or [param for param in command.params if flag in (*param.opts, *param.secondary_opts)]
    if not params:
        return None
    param = params[0]
    if not isinstance(param, click.Option):
        return param.human_readable_name if value is None else f"{param.human_readable_name} {value}"
    if not param.is_flag:
        return _longest(param.opts) if value is None else f"{_longest(param.opts)} {value}"
    # several flags may share one parameter, as --resume and --overwrite do; on/off flags have secondary ones
    flags = [option for option in params if isinstance(option, click.Option)]
    if value == "False" and param.secondary_opts:
        return _longest(param.secondary_opts)
    if value not in (None, "True"):
        flags = [option for option in flags if str(option.flag_value) == value]
    elif value is None and len(flags) > 1:
        return "/".join(_longest(option.opts) for option in flags)
    return _longest(flags[0].opts) if flags else None


def _longest(flags: list[str]) -> str:
    return max(flags, key=len)
