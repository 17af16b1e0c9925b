"""A LoRA for each user behind FastAPI, transformers and PEFT, as one writes it without lifelora, of which it knows nothing.

``python plain_server.py FOLDER``; the folder has ``plain.json``: the base model, the user's adapters in PEFT's format, and the
texts. It is written with care: every adapter is loaded before the first request; the candidates of a request are one padded batch
through the model, without gradients and without a cache; the head is computed at the last position alone.
"""

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import fastapi
import peft
import torch
import transformers
import uvicorn
from pydantic import BaseModel


class ScoreBody(BaseModel):
    """What is asked."""

    user: str
    candidates: list[str]


class Scorer:
    """One model with many adapters; one request at a time is in it, for the adapter that is set is the model's state."""

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "plain.json").read_text())
        self.before, self.question, self.answers = told["before"], told["question"], (told["yes"], told["no"])
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(told["base"], padding_side="left")
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.convert_ids_to_tokens(0)
        base = transformers.AutoModelForCausalLM.from_pretrained(told["base"], dtype=torch.float32)
        (first, place), *others = told["adapters"].items()
        self.model: Any = peft.PeftModel.from_pretrained(base, folder / place, adapter_name=first)
        for user, place in others:
            self.model.load_adapter(folder / place, adapter_name=user)
        self.model.eval()
        self.lock = threading.Lock()

    @torch.no_grad()
    def score(self, user: str, candidates: list[str]) -> list[float]:
        """P(yes) of each candidate."""
        texts = [self.before[user] + self.question[item] for item in candidates]
        batch = self.tokenizer(texts, return_tensors="pt", padding=True)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        places = (mask.cumsum(-1) - 1).clamp(min=0)
        with self.lock:
            self.model.set_adapter(user)
            made = self.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False, logits_to_keep=1)
        scores: list[float] = made.logits[:, -1, list(self.answers)].double().softmax(-1)[:, 0].tolist()
        return scores


def application(scorer: Scorer) -> fastapi.FastAPI:
    """One endpoint."""
    app = fastapi.FastAPI()

    @app.post("/v1/score")
    def score(body: ScoreBody) -> dict[str, Any]:
        made = scorer.score(body.user, body.candidates)
        return {"items": [{"item": item, "score": one} for item, one in zip(body.candidates, made, strict=True)]}

    return app


def main() -> None:
    """Until a signal ends it."""
    scorer = Scorer(Path(sys.argv[1]))
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        print(f"serving {sys.argv[1]} at http://127.0.0.1:{listening.getsockname()[1]};", flush=True)
        uvicorn.Server(uvicorn.Config(application(scorer), log_level="warning")).run([listening])


if __name__ == "__main__":
    main()
