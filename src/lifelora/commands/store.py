"""`lifelora store`: the event store as the next run's data, and a run's data as the store's beginning."""

import argparse
from pathlib import Path

from lifelora.commands.opening import reading, say, store_of
from lifelora.commands.words import Add, Parser, finished, kept


def add(command: Add) -> None:
    """store."""
    sub = command("store", "Export the events of a service as the next run's data, or import a run's log.", exported)
    actions = sub.add_subparsers(dest="action", metavar="export|import", required=True, parser_class=Parser)

    about = "Write the run's data and what the store has since, without forgotten users, as the data of the next run."
    out = actions.add_parser("export", help=about, description=about)
    out.set_defaults(handler=exported)
    finished(out)
    out.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="The folder to write: new, or of an export before."
    )
    kept(out)

    about = "Add the run's own log to the store, once: then the store has whole histories."
    into = actions.add_parser("import", help=about, description=about)
    into.set_defaults(handler=imported)
    finished(into)
    kept(into)


def exported(arguments: argparse.Namespace) -> int:
    """Write the files, and say what the next run is."""
    from lifelora.data.split import NewItems
    from lifelora.progress import say as note
    from lifelora.serving.store import Form, Store
    from lifelora.serving.store.exports import export

    with reading(arguments, arguments.run) as (run,):
        data, rules = run.stages.data.require(), run.recipe.data.rules
        with Store.open(store_of(arguments), Form.of(data), make=False) as store:
            made = export(store, data, arguments.out)
        if rules.core > 1 or rules.keep_from is not None or isinstance(rules.split, NewItems):
            note("data.rules of this run left events out of its log (core, keep_from or new-items): they are not in the export.")
    if made.unnamed:
        note(f"{made.unnamed:,} events of the store are below data.rules.keep_from and have no name; they were left out.")
    say(
        f"export: {made.events:,} events ({made.new:,} that the run lacks), {made.items:,} new items; "
        f"forgotten users left out: {made.forgotten:,}.\n"
        f"Next: lifelora run {arguments.run}/recipe.toml --data tables:{made.toml} --out ANOTHER"
    )
    return 0


def imported(arguments: argparse.Namespace) -> int:
    """Add the log, and say what became of it."""
    from lifelora.serving.store import Form, Store

    with reading(arguments, arguments.run) as (run,):
        data = run.stages.data.require()
        with Store.open(store_of(arguments), Form.of(data)) as store:
            made = store.import_data(data)
    say(f"import: {made.events:,} new events; {made.there:,} were there; forgotten users left out: {made.forgotten:,}.")
    return 0
