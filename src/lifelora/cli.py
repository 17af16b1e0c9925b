"""The way in: from the words of the command line to a command, and its exit status. Knows no command.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

import os
import sys
from collections.abc import Sequence

from lifelora import __version__
from lifelora.commands import parser
from lifelora.commands.opening import say
from lifelora.commands.words import Handler
from lifelora.door import through


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (by default the process's own); return the exit status."""
    return through(lambda: _obey(argv), sys.argv[1:] if argv is None else argv)


def _obey(argv: Sequence[str] | None) -> int:
    words = parser()
    try:
        arguments = words.parse_args(argv)
    except SystemExit:  # help, or a wrong word
        sys.stdout.flush()  # here, where a closed pipe (`| head`) is no surprise
        raise
    if arguments.version:
        say(f"lifelora {__version__}")
        return 0
    if arguments.command is None:
        words.print_help()
        return 2
    # The tokenizers library warns when a process that used its threads forks; we never fork while tokenising.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # This must be set before torch is imported. A thread that has finished its part of a product then sleeps; by default it
    # spins. With one busy core, two spinning threads took five times as long as one thread for a small LM.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "RANK" in os.environ:  # of several processes each would warn that no parameter was unused in its first batch
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    handler: Handler = arguments.handler
    return handler(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
