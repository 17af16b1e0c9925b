"""`lifelora export`: users' adapters as ordinary LoRAs; `lifelora inspect`: how a recipe starts from one."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lifelora.commands.opening import reading, say
from lifelora.commands.words import SYSTEM, Add, finished, options

if TYPE_CHECKING:
    from lifelora.run import Run


def add(command: Add) -> None:
    """export and inspect."""
    sub = command("export", "Write users' adapters as ordinary LoRAs, which PEFT and vLLM load.", handle)
    finished(sub)
    whose = sub.add_mutually_exclusive_group()
    whose.add_argument("--user", help="The user's id, as in the log. Omit it for a system with one adapter for all users.")
    whose.add_argument(
        "--cohort",
        metavar="FILE|all|N",
        help="Many users: a text file with one id per line, all users, or the N users with the most events.",
    )
    sub.add_argument("--item", help="The target's id, for an adapter that also depends on the target.")
    sub.add_argument("--system", help=SYSTEM)
    sub.add_argument("--out", type=Path, required=True, help="The folder to write. With --cohort it gets one folder per user.")
    sub.add_argument(
        "--layout",
        choices=("peft", "vllm"),
        default="peft",
        help="peft (the default): folders named by user. vllm: folders named USER@HASH, and an index; it can be run again.",
    )
    sub.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="With --layout vllm: of the weights. By default fp32.")
    sub.add_argument("--estimate", action="store_true", help="With --layout vllm: say what it will take, and stop.")
    sub.add_argument(
        "--prune", action="store_true", help="With --layout vllm: then remove the adapters that newer ones replaced."
    )
    options(sub)

    sub = command("inspect", "Read an ordinary LoRA, and print the recipe that starts from it.", inspect)
    sub.add_argument("adapter", type=Path, metavar="FOLDER", help="A folder with the two files that PEFT saves.")


def handle(arguments: argparse.Namespace) -> int:
    """Write adapters."""
    from lifelora.errors import ConfigError
    from lifelora.run.cohort import cohort
    from lifelora.run.export import export

    vllm = arguments.layout == "vllm"
    for wrong, what in (
        (arguments.dtype and not vllm, "--dtype belongs to --layout vllm"),
        (arguments.estimate and not vllm, "--estimate belongs to --layout vllm"),
        (arguments.prune and not vllm, "--prune belongs to --layout vllm"),
        (arguments.item and vllm, "--layout vllm takes no --item: a name in vLLM stands for one adapter of a user"),
    ):
        if wrong:
            raise ConfigError(f"{what}.")
    with reading(arguments, arguments.run) as (run,):
        users = None if arguments.user is None else [arguments.user]
        if arguments.cohort is not None:
            users = cohort(run.context.dataset, arguments.cohort)
        if vllm:
            return _for_vllm(run, arguments, users)
        written = export(run, arguments.out, system=arguments.system, users=users, item=arguments.item)
        say(f"export: {len(written):,} adapter{'s' * (len(written) > 1)} in {arguments.out}, for {run.context.base_model}")
    return 0


def _for_vllm(run: "Run", arguments: argparse.Namespace, users: list[str] | None) -> int:
    from lifelora.progress import say as note
    from lifelora.run.vllm import Plan

    plan = Plan.of(run, arguments.out, system=arguments.system, users=users, dtype=arguments.dtype or "fp32")
    if arguments.estimate:
        say(str(plan))
        plan.refuse()
        return 0
    note(str(plan))
    plan.refuse()
    written = plan.write()
    if arguments.prune:
        removed, stay = written.prune()
        note(f"{removed:,} older adapters were removed.")
        for place in stay:
            note(f"{place} holds what lifelora did not put there; it was left as it is.")
    say(str(written))
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Read one."""
    from lifelora.run.export import how_to_start

    say(how_to_start(arguments.adapter))
    return 0
