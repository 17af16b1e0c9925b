"""`lifelora export`: a user's adapter as an ordinary LoRA; `lifelora inspect`: how a recipe starts from one."""

import argparse
from pathlib import Path

from lifelora.commands.opening import reading, say
from lifelora.commands.words import SYSTEM, Add, finished, options


def add(command: Add) -> None:
    """export and inspect."""
    sub = command("export", "Write a user's adapter as an ordinary LoRA, which PEFT and vLLM load.", handle)
    finished(sub)
    whose = sub.add_mutually_exclusive_group()
    whose.add_argument("--user", help="The user's id, as in the log. Omit it for a system with one adapter for all users.")
    whose.add_argument("--cohort", type=Path, metavar="FILE", help="Many users: a text file with one id per line.")
    sub.add_argument("--item", help="The target's id, for an adapter that also depends on the target.")
    sub.add_argument("--system", help=SYSTEM)
    sub.add_argument("--out", type=Path, required=True, help="The folder to write. With --cohort it gets one folder per user.")
    options(sub)

    sub = command("inspect", "Read an ordinary LoRA, and print the recipe that starts from it.", inspect)
    sub.add_argument("adapter", type=Path, metavar="FOLDER", help="A folder with the two files that PEFT saves.")


def handle(arguments: argparse.Namespace) -> int:
    """Write adapters."""
    from lifelora.run.export import export, read_cohort

    users = read_cohort(arguments.cohort) if arguments.cohort else None if arguments.user is None else [arguments.user]
    with reading(arguments, arguments.run) as (run,):
        written = export(run, arguments.out, system=arguments.system, users=users, item=arguments.item)
        say(f"export: {len(written):,} adapter{'s' * (len(written) > 1)} in {arguments.out}, for {run.context.base_model}")
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Read one."""
    from lifelora.run.export import how_to_start

    say(how_to_start(arguments.adapter))
    return 0
