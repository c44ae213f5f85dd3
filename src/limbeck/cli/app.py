"""The application: commands in the order in which a newcomer meets them, and what happens to errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from limbeck import __version__
from limbeck.cli import curves, decide, embed, evaluate, families, laws, losses, machine, methods, tasks, theory, train
from limbeck.errors import LimbeckError, MissingExtraError

COMMANDS: dict[str, list[Callable[..., None]]] = {
    "": [train.demo, laws.fit, laws.predict, laws.calibrate, train.distill, train.answer, evaluate.evaluate,
         evaluate.sample, evaluate.export, train.study, decide.report, train.reproduce, machine.doctor],
    "compare": [laws.compare_laws, methods.compare_methods, families.compare_families, families.compare_splits,
                losses.compare_losses],
    "plan": [decide.plan_compute, decide.plan_teacher, decide.plan_bits, decide.plan_keep, decide.plan_grade,
             curves.plan_batch, curves.plan_schedule, curves.plan_decay, curves.plan_annealed, families.plan_parts],
    "embed": [embed.embed_fit, embed.embed_apply, embed.embed_assess],
    "task": [tasks.transfer, tasks.passes, tasks.forecast, tasks.observe],
    "theory": [theory.exponents, theory.regimes, theory.superposition],
}  # fmt: skip
"""By group; a command's name is the last word of its function's."""
HELP = {
    "": "limbeck tells what a distillation will give before you pay for it, does it, and checks the prediction.\n\n"
    "Start with `limbeck demo` (the whole circle, minutes on two cores), or with a table of your own runs: "
    "`limbeck fit runs.csv`.",
    "compare": "Compare laws on the same runs, methods by their curves, or losses over seeds.",
    "plan": "Decide from a fitted law: how large, how long, which teacher.",
    "embed": "One embedding for a family of models, cut at any of their sizes.",
    "task": "What a task's scores say about larger scales.",
    "theory": "What theory says about a model or a table.",
}
GROUPS = {
    name: typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=HELP[name], add_completion=False,
                      pretty_exceptions_enable=False)
    for name in COMMANDS
}  # fmt: skip
app = GROUPS[""]
for name, commands in COMMANDS.items():
    for command in commands:
        GROUPS[name].command(command.__name__.rpartition("_")[2])(command)
    if name:
        app.add_typer(GROUPS[name], name=name)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"limbeck {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", help="Print the version.", is_eager=True, callback=_show_version),
) -> None:
    """Options of every command."""


def main() -> None:
    """Run the command line: the entry point `limbeck`."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:  # accepted anywhere on the line
        arguments = ["--debug", *[a for a in arguments if a != "--debug"]]
    if arguments[:1] == ["compare"] and "--protocol" in arguments:  # a protocol is a command of that name
        at = arguments.index("--protocol")
        arguments = ["compare", *arguments[at + 1 : at + 2], *arguments[1:at], *arguments[at + 2 :]]
    try:
        app(arguments, prog_name="limbeck")
    except LimbeckError as error:
        if debug:
            raise
        _refuse(str(error))
    except ModuleNotFoundError as error:
        extra = machine.extra_of(error.name or "")
        if debug or extra is None:
            raise
        _refuse(str(MissingExtraError(str(error.name), extra)))
    except BrokenPipeError:  # `limbeck ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if debug or error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}. Choose another path.")
    except SystemExit as end:
        if end.code == 130:
            print(_words_of_stop(end), file=sys.stderr)
        raise


def _refuse(reason: str) -> None:
    """One message, and the exit code of a user's mistake."""
    print(reason, file=sys.stderr)
    sys.exit(2)


def _words_of_stop(error: BaseException) -> str:
    """What the interrupted work said about going on: the command-line library wraps it in exceptions of its own."""
    reason: BaseException | None = error
    while reason is not None and not isinstance(reason, KeyboardInterrupt):
        reason = reason.__cause__ or reason.__context__
    return str(reason or "") or "stopped; what was finished is kept, and the same command goes on."
