"""Figures as text: numbers, intervals, and tables of them in columns. Knows no report and no model."""

import math
from collections.abc import Mapping, Sequence

from lifelora.evaluation.significance import ENOUGH_USERS, Figure


def short(value: float, digits: int = 4) -> str:
    """.7962 for 0.7962, −.012 for -0.012 and – for what does not exist."""
    if math.isnan(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    sign = "−" if value < 0 and float(text) else ""
    return sign + (text[1:] if text.startswith("0") else text)


def span(figure: Figure, digits: int = 4) -> str:
    """The interval, as [.7921, .8003]; nothing where there is none."""
    return "" if math.isnan(figure.low) else f"[{short(figure.low, digits)}, {short(figure.high, digits)}]"


def reach(figure: Figure, digits: int = 4) -> str:
    """The interval as the page has it, .7921 to .8003, or "no interval"; nothing where there is no value."""
    if math.isnan(figure.value):
        return ""
    return "no interval" if math.isnan(figure.low) else f"{short(figure.low, digits)} to {short(figure.high, digits)}"


def with_span(figure: Figure, digits: int = 4) -> str:
    """The value and its interval."""
    return f"{short(figure.value, digits)} {span(figure, digits)}".rstrip()


def p_value(p: float) -> str:
    """A p, as p = .012 or p < .001; "no test" where there is none."""
    return "no test" if math.isnan(p) else "p < .001" if p < 0.001 else f"p = {short(p, 3)}"


def sureness(users: int, *, tested: bool = False) -> str:
    """What intervals (and p, where ``tested``) are, or why there are none."""
    if users < ENOUGH_USERS:
        return f"no intervals and no tests: {users} users say too little of others, at least {ENOUGH_USERS} are needed"
    return f"[95 % interval]{' and p' if tested else ''} over users, none where fewer than {ENOUGH_USERS} count or all agree"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 0.1:
        return "< .1 s"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def amount(tokens: float) -> str:
    """312 for 312.4, and 8.3 for 8.31."""
    return f"{tokens:,.0f}" if tokens >= 9.95 else f"{tokens:.1f}"


def columns_of(systems: Mapping[str, Mapping[str, Figure]], names: Mapping[str, str]) -> list[list[str]]:
    """A column of the systems' names, and one of values and intervals for each metric of ``names``."""
    columns = [["", *systems]]
    for metric, name in names.items():
        cells = [with_span(f[metric]) if metric in f else "" for f in systems.values()]
        columns += [[name, *cells]] if any(cells) else []
    return columns


def in_blocks(columns: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table as text, in as many blocks, each with the first column, as keep the lines within ``width``."""
    widths = [max(map(len, column)) for column in columns]
    blocks, used = [[0]], widths[0]
    for index in range(1, len(columns)):
        used += widths[index] + 2
        if used > width and len(blocks[-1]) > 1:
            blocks, used = [*blocks, [0]], widths[0] + widths[index] + 2
        blocks[-1].append(index)
    tables = []
    for block in blocks:
        lines = max(len(columns[index]) for index in block[1:])
        tables.append(
            "\n".join(
                "  ".join("".join(columns[index][line : line + 1]).ljust(widths[index]) for index in block).rstrip()
                for line in range(lines)
            )
        )
    return tables
