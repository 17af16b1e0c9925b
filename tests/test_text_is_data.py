"""What stands in files gives no orders to a terminal: neither in errors, nor in what commands print."""

import json
from pathlib import Path

import pytest

from lifelora import errors
from lifelora.cli import main
from lifelora.commands.opening import say
from lifelora.errors import UNSAFE, DataError, LifeloraError, Problem, harmless, on_one_line
from lifelora.evaluation.report import Behaviour
from lifelora.run.recommend import Answer, Recommended

ORDERS = "\x1b]0;owned\x07 \x1b[2J\x9b31m \u202eevil\u2066 \r\x00\x7f\ud800"


def test_orders_are_written_out_and_letters_stay():
    """Letters of all scripts, joined emoji (U+200D) and lines stay; whatever Unicode calls a control, or turns the line, goes."""
    assert harmless("Amélie, שלום، 你好 👩\u200d🚀 \t\n") == "Amélie, שלום، 你好 👩\u200d🚀 \t\n"
    assert harmless(ORDERS).encode().decode().isprintable()
    assert on_one_line("a\nb\tc\x1b") == "a\\nb\\tc\\u001b"
    controls = [chr(code) for code in range(0x10000) if chr(code) not in "\t\n" and harmless(chr(code)) != chr(code)]
    assert {chr(code) for code in [*range(9), *range(11, 32), *range(127, 160)]} <= set(controls)
    assert all(not sign.isprintable() for sign in controls)


def test_json_stays_json():
    value = {"title": ORDERS, "more": ["é", 1]}
    assert json.loads(harmless(json.dumps(value, ensure_ascii=False))) == value


@pytest.mark.parametrize("kind", [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, LifeloraError)])
def test_no_error_of_the_family_passes_an_order_on(kind: type[LifeloraError]):
    error = (
        kind([Problem(ORDERS, 3, ORDERS, ORDERS, ORDERS)])
        if issubclass(kind, DataError)
        else kind(ORDERS, "x", "y")
        if kind is errors.MissingExtraError
        else kind(ORDERS)
    )
    assert "owned" in str(error)
    assert not UNSAFE.search(str(error))
    str(error).encode()


def test_a_problem_is_one_line_whatever_it_quotes():
    problem = Problem("a\nb.csv", 3, "col\numn", "val\nue", "what is wrong")
    assert len(str(problem).splitlines()) == 1


def evil_shop(folder: Path) -> Path:
    """A log without a catalogue: ids stand for titles."""
    rows = (f'"u{ORDERS[:-1]}{u}","i\x1b[31m{i}",{i},{1_700_000_000 + u}\n' for u in range(2) for i in range(3))
    log = "user,item,rating,time\n" + "".join(rows)
    (folder / "interactions.csv").write_bytes(log.encode())
    (folder / "users.csv").write_bytes(f'user,"ci\x1b[31mty"\n"u{ORDERS[:-1]}0",x\n'.encode())
    return folder


def test_data_prints_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from lifelora.data.sources import parse_source

    shop = evil_shop(tmp_path)
    assert main(["data", f"tables:{shop}"]) == 0
    said = capsys.readouterr().out
    assert not UNSAFE.search(said)
    assert r"users      ci\u001b[31mty" in said
    raw = parse_source(f"tables:{shop}").read()
    assert "i\x1b[31m0" in raw.interactions.column("item").to_pylist()  # an id is what it is
    assert not any(UNSAFE.search(title) for title in raw.catalogue.column("title").to_pylist())  # a title is one line of text


def test_a_wrong_header_prints_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "interactions.csv").write_text("us\x1b[31mer,item,rating\na,b,3\n")
    assert main(["data", f"tables:{tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert not UNSAFE.search(said)
    assert r"us\u001b[31mer" in said


def test_an_answer_is_one_line_an_item(capsys: pytest.CaptureFixture[str]):
    shown = (Behaviour(f"seen\n{ORDERS}", "5 stars"),)
    answer = Answer(f"u\n{ORDERS}", "lm", "3 items", (Recommended(1, f"i\n{ORDERS}", f"t\n{ORDERS}", 0.5, shown),))
    assert not UNSAFE.search(str(answer))
    assert len(str(answer).splitlines()) == 3
    say(json.dumps(answer.as_json(), ensure_ascii=False, indent=1))
    printed = capsys.readouterr().out
    assert not UNSAFE.search(printed)
    assert json.loads(printed)["items"][0]["title"] == f"t\n{ORDERS}"


def test_import_prints_no_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import torch
    from safetensors.torch import save_file

    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], "base_model_name_or_path": ORDERS})
    )
    save_file(
        {"base_model.model.q.lora_A.weight": torch.ones(2, 4), "base_model.model.q.lora_B.weight": torch.ones(4, 2)},
        tmp_path / "adapter_model.safetensors",
    )
    assert main(["inspect", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "owned" in said
    assert not UNSAFE.search(said)
