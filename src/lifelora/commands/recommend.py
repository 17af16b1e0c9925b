"""`lifelora recommend`: ranked items for a user."""

import argparse
import json

from lifelora.commands.opening import reading, say
from lifelora.commands.words import SYSTEM, Add, finished, options


def add(command: Add) -> None:
    """recommend."""
    sub = command("recommend", "Rank items for one user, and print what the model was shown.", handle)
    finished(sub)
    sub.add_argument("--user", required=True, help="The user's id, as in the log.")
    sub.add_argument(
        "--items", nargs="+", metavar="ITEM", help="Rank these items. By default all items that the user has not seen."
    )
    sub.add_argument("-k", type=int, default=10, help="The number of items to print. By default 10.")
    sub.add_argument("--system", help=SYSTEM)
    sub.add_argument("--json", action="store_true", help="Print JSON.")
    options(sub)


def handle(arguments: argparse.Namespace) -> int:
    """Rank and print."""
    from lifelora.run.recommend import recommend

    with reading(arguments, arguments.run) as (run,):
        answer = recommend(run, arguments.user, arguments.items, arguments.k, arguments.system)
    say(json.dumps(answer.as_json(), ensure_ascii=False, indent=1) if arguments.json else str(answer))
    return 0
