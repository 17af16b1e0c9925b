"""Progress: silent for short work, a line now and then away from a terminal, a bar on one."""

import io

import pytest
from rich.console import Console

from lifelora import progress
from lifelora.progress import Progress, duration


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "7 s"), (187.0, "3:07"), (7509.0, "2:05:09")])
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_lines_away_from_a_terminal(clock):
    out = io.StringIO()
    with Progress("din", 1000, done=200, console=Console(file=out, width=300)) as ticker:
        for _ in range(8):
            clock[0] += 10.0
            ticker.advance(50, "loss 0.5000")
    # After 30 s: 3 · 50 samples in 30 s, 650 left at 5 samples/s; after 60 s: 500 left. What was done before is no speed.
    assert out.getvalue().splitlines() == [
        "din: 350 of 1,000 samples (35%), 5 samples/s, 2:10 left  loss 0.5000",
        "din: 500 of 1,000 samples (50%), 5 samples/s, 1:40 left  loss 0.5000",
    ]


def test_silent_when_short_or_switched_off(clock):
    out = io.StringIO()
    console = Console(file=out)
    with Progress("din", 10, console=console) as ticker:
        ticker.advance(10)
    with Progress("din", 10, console=console, enabled=False) as ticker:
        clock[0] += 60.0
        ticker.advance(10)
    assert out.getvalue() == ""


def test_bar_on_a_terminal():
    out = io.StringIO()
    with Progress("din", 10, unit="prompts", console=Console(file=out, force_terminal=True, width=120)) as ticker:
        ticker.advance(10, "auc 0.7900")
    assert "din" in out.getvalue()
    assert "100%" in out.getvalue()
    assert "prompts/s" in out.getvalue()
    assert "auc 0.7900" in out.getvalue()
