"""What measures the service can be trusted: plans, latencies, diaries, and the check of a store; and each tool runs, small."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "service"
sys.path.insert(0, str(FOLDER))  # as when one of its scripts runs

import fault_check  # noqa: E402
from diary import Diary, Pen  # noqa: E402
from machine import facts  # noqa: E402
from memory import EVERY, slope  # noqa: E402
from traffic import OK, STOOD_IN, Client, Sent, arrivals, asks, closed_loop, keeps_up, open_loop, summary  # noqa: E402

from lifelora.serving.store import Form, NewEvent, Store  # noqa: E402


async def stalling(seconds: float, requests: int, answer: bytes, status: int = 200) -> list[Any]:
    """Open loop, a request each hundredth of a second, against a server that is silent at first and then answers at once."""
    began = asyncio.get_running_loop().time()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(max(0.0, began + seconds - asyncio.get_running_loop().time()))
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    async with server:
        client = Client("127.0.0.1", server.sockets[0].getsockname()[1], 30.0)
        bodies = asks(["a", "b"], ["x", "y", "z"], 2, {}, 0)
        return await open_loop(client, bodies, [0.01 * (1 + number) for number in range(requests)])


def test_a_latency_counts_from_the_planned_time():
    """Silent for half a second, 50 requests planned in it: they wait 0.49, 0.48, … s, a mean of about a quarter of a second.

    A client that waited for each answer before the next request would have seen half a second once, and nothing 49 times.
    """
    sent = asyncio.run(stalling(0.5, 50, b"{}"))
    assert [round(one.planned, 2) for one in sent] == [round(0.01 * (1 + n), 2) for n in range(50)]
    assert all(one.ended - one.planned >= 0.5 - one.planned - 0.05 for one in sent)
    told = summary(sent, 0.5)
    assert told["seconds"]["p50"] >= 0.2
    assert told["outcomes"] == {OK: 50}


def test_a_command_leaves_out_the_folders_of_this_machine_alone(monkeypatch: pytest.MonkeyPatch):
    words = ["/home/me/bench.py", "/home/me/runs/nano", "--data", "movielens:/data/ml", "--out", "benchmarks/results/x.json"]
    monkeypatch.setattr(sys, "argv", words)
    told = "python benchmarks/service/bench.py nano --data movielens:ml --out benchmarks/results/x.json"
    assert facts(0)["command"] == told


def test_the_last_answer_may_come_after_the_window():
    """Four requests, each a second, answered after 2 s each: 4 in 4 s; or one after another in 2 s each, until 9: 4 in 7 s."""
    side_by_side = [Sent(at, at, at + 2, OK) for at in (1.0, 2.0, 3.0, 4.0)]
    assert summary(side_by_side, 4.0)["answered a second"] == 1.0
    in_turn = [Sent(at, at, end, OK) for at, end in ((1.0, 3.0), (2.0, 5.0), (3.0, 7.0), (4.0, 9.0))]
    assert summary(in_turn, 4.0)["answered a second"] == round(4 / 7, 4)


def test_answers_are_told_apart():
    told = asyncio.run(stalling(0.0, 3, json.dumps({"fallback": True}).encode()))
    assert {one.outcome for one in told} == {STOOD_IN}
    assert {one.outcome for one in asyncio.run(stalling(0.0, 3, b"{}", 503))} == {"503"}
    nobody = Client("127.0.0.1", 1, 5.0)
    assert asyncio.run(nobody.outcome({})) == "ConnectionRefusedError"


def test_a_server_keeps_up_only_where_all_is_well():
    good = {"outcomes": {OK: 9}, "seconds": {"p99": 1.0}, "answered a second": 9.5, "offered a second": 10.0}
    assert keeps_up(good, 2.0)
    assert not keeps_up(good, 0.5)
    assert not keeps_up(good | {"outcomes": {OK: 8, STOOD_IN: 1}}, 2.0)
    assert not keeps_up(good | {"outcomes": {OK: 8, "503": 1}}, 2.0)
    assert not keeps_up(good | {"answered a second": 8.9}, 2.0)


def test_plans_are_drawn_by_seed():
    planned = arrivals(50.0, 2000, 3)
    assert planned == sorted(arrivals(50.0, 2000, 3))
    assert planned[-1] == pytest.approx(2000 / 50, rel=0.1)
    bodies = asks([f"u{n}" for n in range(8)], [f"i{n}" for n in range(60)], 50, {"system": "own"}, 1)
    drawn = [next(bodies) for _ in range(2000)]
    assert all(len(set(one["candidates"])) == 50 and one["system"] == "own" for one in drawn)
    first, second = (sum(one["user"] == user for one in drawn) for user in ("u0", "u1"))
    assert first / second == pytest.approx(2.0, rel=0.2)  # 1/1 against 1/2: Zipf's law


def test_a_closed_loop_goes_on_until_it_is_told():
    class Quick(Client):
        async def outcome(self, body: Any) -> str:
            await asyncio.sleep(0)
            return OK

    bodies = asks(["a"], ["x"], 1, {}, 0)
    sent = asyncio.run(closed_loop(Quick("", 0, 1.0), bodies, 3, lambda seconds, answered: answered < 30))
    assert 30 <= len(sent) <= 32


def test_a_slope_is_found():
    """40 bytes a request in 30 samples, the first ten of which do not count."""
    rss_S = [10**9] * 10 + [10**6 + 40 * EVERY * number for number in range(20)]
    found = slope(rss_S, 10 * EVERY)
    assert found["bytes a request"] == pytest.approx(40)
    assert found["mean of steps"] == pytest.approx(40)
    assert found["its standard error"] == pytest.approx(0)
    assert found["grew by, MB"] == pytest.approx(40 * EVERY * 19 / 1e6)


def sends(number: int, user: str = "c0-0") -> dict[str, Any]:
    return {"user": user, "item": f"i{number}", "rating": 4, "time": 100 + number, "id": f"{user}/{number}"}


def test_a_torn_line_is_cut_off(tmp_path: Path):
    path = tmp_path / "diary"
    Pen(path).write({"sends": sends(0)})
    with path.open("ab") as file:
        file.write(b'{"kept": "c0-0/0", "se')
    pen = Pen(path)
    assert pen.diary.pending == sends(0)
    pen.write({"kept": "c0-0/0", "seq": 7})
    read = Diary.read(path)
    assert read.pending is None
    assert read.kept == {"c0-0": [sends(0) | {"seq": 7}]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "events.db", Form((1.0, 2.0, 3.0, 4.0, 5.0))) as opened:
        yield opened


def test_what_is_lost_doubled_or_misplaced_is_found(store: Store):
    """Three events of a user are kept, in another order than the diary has; one of the diary is missing, one there of nobody."""
    seqs = [store.append([NewEvent(**sends(number))])[0].seq for number in range(3)]
    whole = Diary({"c0-0": [sends(number) | {"seq": seq} for number, seq in enumerate(seqs)]})
    nothing = {"lost": 0, "doubled": 0, "misplaced": 0, "unknown": 0, "pending": 0}
    assert fault_check.events([whole], store) == nothing | {"acknowledged": 3}
    lost = Diary({"c0-0": [*whole.kept["c0-0"], sends(3) | {"seq": 99}]})
    assert fault_check.events([lost], store)["lost"] == 1
    other = Diary({"c0-0": [whole.kept["c0-0"][0] | {"item": "i9"}, *whole.kept["c0-0"][1:]]})
    assert fault_check.events([other], store)["lost"] == 1
    swapped = Diary({"c0-0": [whole.kept["c0-0"][place] for place in (1, 0, 2)]})
    assert fault_check.events([swapped], store)["misplaced"] == 1
    fewer = Diary({"c0-0": whole.kept["c0-0"][:2]})
    assert fault_check.events([fewer], store)["unknown"] == 1
    assert fault_check.events([replace(fewer, pending=sends(2))], store) == nothing | {"acknowledged": 2, "pending": 1}
    store.append([NewEvent(**(sends(0) | {"time": 50, "id": "twice"}))])
    assert fault_check.events([whole], store)["unknown"] == 1


def test_another_score_or_item_is_wrong():
    right = [("a", 0.5), ("b", 0.25), ("c", None)]
    assert fault_check.apart([["a", 0.5], ["b", 0.25], ["c", None]], right) == 0
    assert fault_check.apart([["a", 0.5], ["b", 0.25 + 1e-6], ["c", None]], right) == pytest.approx(1e-6)
    assert fault_check.apart([["a", 0.5], ["b", 0.26], ["c", None]], right) == 1
    assert fault_check.apart([["b", 0.5], ["a", 0.25], ["c", None]], right) == pytest.approx(0.25)
    assert fault_check.apart([["b", 0.25], ["a", 0.5], ["c", None]], right) == 1
    assert fault_check.apart([["a", 0.5], ["d", 0.25], ["c", None]], right) == 0  # as good as the last one: not in the list
    assert fault_check.apart([["a", 0.5], ["b", 0.25]], right) == 1
    assert fault_check.apart([["a", 0.5], ["b", 0.25], ["c", 0.1]], right) == 1


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    ran = subprocess.run([sys.executable, FOLDER / "runs.py", folder, "--tiny"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder


SMALL = {
    "load.py": ("--users", "2", "--candidates", "4", "--rounds", "1", "--seconds", "1", "--least", "4", "--shares", "0.2"),
    "faults.py": ("--minutes", "0.2", "--clients", "2"),
    "memory.py": ("--requests", "2000", "--growing", "1000", "--after", "0"),
    "schema.py": ("--examples", "1", "--phases", "examples"),
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SMALL)
def test_it_runs(script: str, tiny: Path, tmp_path: Path):
    out = () if script == "schema.py" else ("--out", tmp_path / "result.json")
    words = [sys.executable, FOLDER / script, tiny, "--work", tmp_path / "work", *SMALL[script], *out]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]
    if not out:
        return
    found = json.loads((tmp_path / "result.json").read_text())
    assert {"command", "date", "seed", "machine", "run"} <= set(found)
    if script == "load.py":
        assert found["equal"]["largest difference"] < 2e-6
        assert set(found["open"]) == {"warm", "cold", "plain"}
    elif script == "faults.py":
        assert found["events"]["acknowledged"] > 0
    else:
        assert not [outcome for outcome in found["bounded"]["outcomes"] if outcome.endswith("500")]


def test_there_is_one_for_each():
    with_main = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    assert with_main == {*SMALL, "runs.py", "plain_server.py", "fault_client.py"}
