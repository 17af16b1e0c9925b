"""`lifelora recommend`: ranked items for a user, or for many."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lifelora.commands.opening import reading, say
from lifelora.commands.words import SYSTEM, Add, finished, options

if TYPE_CHECKING:
    from lifelora.run import Run


def add(command: Add) -> None:
    """recommend."""
    sub = command("recommend", "Rank items for one user or for many, and print what the model was shown.", handle)
    finished(sub)
    whose = sub.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", help="The user's id, as in the log.")
    whose.add_argument("--users", type=Path, metavar="FILE", help="Many users: ids one a line, or a table with a column 'user'.")
    whose.add_argument("--all-users", action="store_true", help="All users of the run.")
    whose.add_argument(
        "--history",
        nargs="+",
        metavar="ITEM[:RATING]",
        help="A new user, by what he or she did, oldest first: ids or titles of items, perhaps with ratings.",
    )
    sub.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="With --history: a field of the profile. Can be repeated.",
    )
    sub.add_argument("--items", nargs="+", metavar="ITEM", help="For one user: rank these items, seen or not.")
    sub.add_argument(
        "--items-from",
        type=Path,
        metavar="FILE",
        help="Recommend these items only (in stock, say): ids one a line, or a table with a column 'item'.",
    )
    sub.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="Recommend items with this value of a field only. Can be repeated: values of one field are alternatives.",
    )
    sub.add_argument("--allow-seen", action="store_true", help="Recommend also what the user has seen.")
    sub.add_argument(
        "--new-items", type=Path, metavar="FILE", help="Items that the run does not know: a table with item, title and fields."
    )
    sub.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help="What happened since: a table with user, item and, as the run has them, rating and time in Unix seconds.",
    )
    sub.add_argument(
        "--store",
        metavar="URL",
        help="What happened since: the event store of `lifelora serve`, a file or postgresql://…. Nothing is written into it.",
    )
    sub.add_argument("-k", type=int, default=10, help="The number of items for a user. By default 10.")
    sub.add_argument("--system", help=SYSTEM)
    sub.add_argument(
        "--cold",
        choices=("refuse", "popularity"),
        help="What an unknown user gets: an error (by default with --user) or the most popular items (by default with --users).",
    )
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="With many users: write a .parquet, .csv or .jsonl file. The same command goes on after a kill.",
    )
    sub.add_argument("--json", action="store_true", help="Print JSON; with many users an object a line.")
    options(sub)


def handle(arguments: argparse.Namespace) -> int:
    """Rank, and print or write."""
    from lifelora.errors import ConfigError
    from lifelora.progress import say as note
    from lifelora.run.recommend.cold import newcomer
    from lifelora.run.recommend.told import add_items, known_items

    several = arguments.users is not None or arguments.all_users
    for wrong, what in (
        (arguments.items and arguments.items_from, "--items and --items-from name items; give one of them"),
        (arguments.profile and not arguments.history, "--profile belongs to --history"),
        (arguments.out and not several, "--out belongs to --users or --all-users"),
        (
            arguments.store and arguments.events,
            "--store and --events both tell what happened since the run; give one of them (POST /v1/events of `lifelora serve` "
            "brings events into a store)",
        ),
        (arguments.items and several, "--items belongs to one user; give --items-from FILE"),
    ):
        if wrong:
            raise ConfigError(f"{what}.")
    with reading(arguments, arguments.run) as (run,):
        notes = add_items(run.context, arguments.new_items) if arguments.new_items else []
        more, as_of = _since(run, arguments)
        notes += more
        among = None
        if arguments.items_from:
            among, more = known_items(run.context.dataset, arguments.items_from, "--items-from")
            notes += more
        for text in notes:
            note(text)
        if several:
            return _many(run, arguments, among, as_of)
        from lifelora.run.recommend import recommend

        answer = recommend(
            run,
            newcomer(run.context, arguments.history, arguments.profile) if arguments.history else arguments.user,
            arguments.items,
            arguments.k,
            arguments.system,
            among=among,
            where=arguments.where,
            allow_seen=arguments.allow_seen,
            cold=arguments.cold or "refuse",
        )
    say(json.dumps(answer.as_json(), ensure_ascii=False, indent=1) if arguments.json else str(answer))
    return 0


def _since(run: "Run", arguments: argparse.Namespace) -> tuple[list[str], Sequence[int]]:
    """Put behind the log what happened since; notes for a reader, and how far a store was read."""
    if arguments.events:
        from lifelora.run.recommend.since import add_events

        return add_events(run.context, arguments.events), ()
    if not arguments.store:
        return [], ()
    from lifelora.run.recommend.out import Out
    from lifelora.serving.following import Position, add_store

    begun = Out(arguments.out).as_of if arguments.out else []
    notes, as_of = add_store(run.context, arguments.store, Position(*begun[:2]))
    if begun:
        notes.append(f"{arguments.out} was begun with what the store had then: what it has got since does not count.")
    return notes, as_of


def _many(run: "Run", arguments: argparse.Namespace, among: list[str] | None, as_of: Sequence[int]) -> int:
    from lifelora.errors import on_one_line
    from lifelora.progress import say as note
    from lifelora.run.recommend.many import Batch
    from lifelora.run.recommend.out import Out
    from lifelora.run.recommend.told import known_users

    users, notes = known_users(run.context, arguments.users) if arguments.users else (None, [])
    batch = Batch(
        run,
        users,
        arguments.k,
        system=arguments.system,
        among=among,
        where=arguments.where,
        allow_seen=arguments.allow_seen,
        cold=arguments.cold or "popularity",
    )
    notes.append(f"{len(batch.users):,} users, by '{batch.scorer.name}'{f' ({batch.why})' if batch.why else ''}.")
    for text in notes:
        note(text)
    if arguments.out:
        notes = Out(arguments.out).write(batch, run.context.shows_progress, as_of)
        say(f"recommend: {arguments.out}")
    else:
        notes = []
        for number in range(batch.blocks):
            table = batch.block(number)
            for row in table.to_pylist():
                if arguments.json:
                    say(json.dumps(row, ensure_ascii=False))
                else:
                    say("\t".join("" if value is None else on_one_line(str(value)) for value in row.values()))
            notes.append(table)
        notes = batch.notes(notes)
    for text in notes:
        note(text)
    return 0
