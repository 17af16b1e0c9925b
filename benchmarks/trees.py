"""Prompt trees beside the other ways to read one history for many questions: time and peak memory, training and scoring.

    python benchmarks/trees.py --quick                       a line NAME RATIO each, in minutes
    python benchmarks/trees.py --json FILE                   every part on the CPU, an hour
    python benchmarks/trees.py --part score --sizes nano
    python benchmarks/trees.py --part large                  7B's shape in bf16, on a GPU

A ratio says how many times as long as a tree another way takes. All ways ask the same of one random Llama, in turn, in one
process, in one order and then in its reverse; before they are timed, their logits are compared. Of a way that has a prompt for
every sample or candidate a part is timed, for each costs as much as another. Seconds are those of the CPU in one thread, so
other work on the machine counts little. Peak memory is that of a fresh process for each way, above the model.

Training: one block of a user's samples, forward, backward and a step of AdamW; rank 8 on q and v, personal (``full``, u of 64)
unless said. The log is made on the spot, lines are as long as ML-1M's are. Beside the tree:

    last              a prompt each of the last K behaviours: another history, and what the papers train on
    growing           a prompt each of the tree's own history
    identity          a tree, without a user
    trainer           PEFT and transformers' Trainer, prompts of the last K, all logits

Scoring: 50 candidates of 40 tokens behind a history of 700. Beside the tree:

    authors           a prompt each, one after another, all logits
    prompts           ten prompts together, logits of the two answers at their ends
    cache             keys and values of the history, repeated for every candidate
    cache-10          the same, ten candidates together

Growth: seconds a sample of an epoch's order and of its trees, by samples; time and memory of a step, by a trunk's length.
vLLM and SGLang, which share prefixes when they score, are not among the ways: they need a GPU and were not installed.
"""

import argparse
import copy
import gc
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, TrainerCallback

from lifelora.data.dataset import Dataset
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora import Adaptation, Coupling, Full, Identity, personalise
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import Answers, YesNoBuilder
from lifelora.seeds import derive, torch_generator
from lifelora.tensors import to_device
from lifelora.training.order import Order
from prompts import made_log

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@dataclass(frozen=True)
class Size:
    """The shape of a Llama."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    tied: bool = False


SIZES = {
    "nano": Size(64, 2, 4, 4, 176, 2048, tied=True),
    "4x256": Size(256, 4, 4, 4, 688, 32_000),
    "smollm2-135m": Size(576, 30, 9, 3, 1536, 49_152, tied=True),
    "110m": Size(768, 12, 12, 12, 2048, 32_000),
    "7b": Size(4096, 32, 32, 32, 11_008, 32_000),
    "stand-in": Size(64, 2, 4, 4, 176, 2048),  # in the place of 7b, where there is no room for it
}
ON_CPU = ("nano", "4x256", "smollm2-135m", "110m")
USER, RANK, ANSWERS = 64, 8, Answers(5, 6)
SETTINGS = {"10-16": (10, 16), "30-32": (30, 32)}
"""K behaviours shown to a block's first sample, and its samples."""
MICRO = 4
"""Plain prompts of one micro-batch: 32 of them at once would take 18 GB at SmolLM2-135M's shape."""
TRAINED = ("tree", "last", "growing", "identity", "trainer")
HISTORY, CANDIDATES, BRANCH = 700, 50, 40
SCORED = ("tree", "authors", "prompts", "cache", "cache-10")
TOGETHER = 10
ROUNDS = {"nano": 9, "4x256": 7, "smollm2-135m": 2, "110m": 2, "7b": 5, "stand-in": 3}
TARGETS = {"train-10-16": 3.0, "train-30-32": 6.0, "score-4x256": 35.0, "score-110m": 18.0}
QUICK = {"train-10-16": "smollm2-135m", "train-30-32": "smollm2-135m", "score-4x256": "4x256", "score-110m": "110m"}
TIMED = 10
"""Candidates that are timed where each has a prompt: one costs as much as another. Of a step it is one micro-batch."""
SAME = 1e-4
MIB = 1 << 20

Found = dict[str, Any]
"""Figures as JSON has them."""
Call = Callable[[], float]
"""Does it, or a part; how much of the whole that was."""


# A model, and what is asked of it


def made_model(name: str, seed: int, device: str = "cpu") -> Any:
    """A random Llama, made where it stays; in bf16 on a GPU."""
    size = SIZES[name]
    torch.manual_seed(derive(seed, "backbone"))
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        tie_word_embeddings=size.tied,
        max_position_embeddings=16_384,
        # As wide apart as a trained model's: with the usual 0.02 a deep random one hardly looks at its history.
        initializer_range=1.0 / math.sqrt(size.width),
        attn_implementation="sdpa",
    )
    with torch.device(device):
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    return made.requires_grad_(False)


def sharing(model: Any) -> Any:
    """A copy of the modules around the same tensors."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


def made_lm(model: Any, coupling: Coupling.Config, seed: int) -> YesNoLM:
    """With adapters as if they had learnt: with B = 0 all users would be one."""
    adaptation = Adaptation(coupling=coupling, targets=("q_proj", "v_proj"), dropout=0.0)
    device = next(model.parameters()).device
    adapters = personalise(model, adaptation, user_width=USER, generator=torch_generator(seed, "adapters"))
    ready(model)
    lm = YesNoLM(model, adapters, ANSWERS)
    generator = torch_generator(seed, "as if trained")
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.add_((torch.randn(parameter.shape, generator=generator) * 0.02).to(device))
    return lm


def cut(prompts: Prompts, rows: slice) -> Prompts:
    """Some of the prompts, without columns of padding."""
    mask_BL = prompts.mask_BL[rows]
    first = int(mask_BL.any(dim=0).long().argmax())
    return Prompts(prompts.tokens_BL[rows, first:], mask_BL[:, first:], prompts.shown_B[rows])


def log_and_builder(users: int, seed: int, folder: Path) -> tuple[Dataset, YesNoBuilder]:
    """A behaviour is about 14 tokens, a question 24, a head 20: as with ML-1M's films, plainly worded."""
    dataset = made_log(users, 3883, seed, folder)
    genres = "(Action, Adventure, Comedy, Romance)?"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = ["They watched these films, oldest first: (1 star) (2 stars) female male writer farmer"]
    words += [f"Would they like {genres}", "Answer: Yes No"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # A small vocabulary makes a line about as long as a film's title is with Llama's tokenizer.
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*dataset.titles, *words * 200], trainer)
    return dataset, YesNoBuilder.make(
        dataset, Plain(question=("Would they like {title} " + genres,)), tokenizer, max_tokens=1 << 14
    )


def samples_of_block(dataset: Dataset, k: int, block: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A user's targets from the K-th event on, and all events before each of them."""
    # Whose training samples reach from there to the block's end.
    train = np.sort(dataset.samples["train"])
    position_N = dataset.targets(train).position_B
    ends = np.flatnonzero(position_N == k + block - 1)
    user = dataset.user_N[train[ends[len(ends) // 2]]]
    within = (dataset.user_N[train] == user) & (position_N >= k) & (position_N < k + block)
    targets = dataset.targets(train[within])
    assert len(targets) == block
    return targets, *dataset.history(targets, k + block - 1)


# Training


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """CPU seconds of the Trainer's steps."""

    def __init__(self) -> None:
        self.began, self.seconds = 0.0, 0.0

    def on_step_begin(self, *args: object, **options: object) -> None:
        self.began = time.process_time()

    def on_step_end(self, *args: object, **options: object) -> None:
        self.seconds = time.process_time() - self.began


class Training:
    """One block of samples, learnt from in all ways. A call of a way does a step of it, or a share of one."""

    def __init__(self, size: str, setting: str, seed: int, ways: Collection[str], device: str = "cpu") -> None:
        k, block = SETTINGS[setting]
        model, self.device = made_model(size, seed, device), device
        with tempfile.TemporaryDirectory() as folder:
            dataset, builder = log_and_builder(100, seed, Path(folder))
            targets, event_BK, mask_BK = samples_of_block(dataset, k, block)
            self.trees = builder.trees(targets, event_BK, mask_BK, np.zeros(block, np.int64))
            last_BK = mask_BK & (np.arange(mask_BK.shape[1]) >= mask_BK.shape[1] - k)
            self.last, self.growing = (builder.build(targets, event_BK, mask) for mask in (last_BK, mask_BK))
        self.label_B = torch.from_numpy(targets.label_B.astype(np.float32))
        self.user_1D = torch.randn(1, USER, generator=torch_generator(seed, "u"))
        bare = sharing(model) if {"identity", "trainer"} & {*ways} else None
        theirs = sharing(model) if "trainer" in ways else None
        self.lm = made_lm(model, Full.Config(rank=RANK), seed)
        self.identity = None if bare is None else made_lm(bare, Identity.Config(rank=RANK), seed)
        self.peft = None if theirs is None else self._peft(theirs)
        self.optimisers = {id(lm): self._optimiser(lm) for lm in (self.lm, self.identity) if lm is not None}

    @staticmethod
    def _optimiser(lm: YesNoLM) -> torch.optim.Optimizer:
        return torch.optim.AdamW([p for p in lm.adapters.parameters() if p.requires_grad], lr=1e-4)

    def _peft(self, model: Any) -> Any:
        """PEFT's LoRA with the same A and B."""
        import peft  # takes seconds, and the quick way does without

        assert self.identity is not None
        config = peft.LoraConfig(
            r=RANK,
            lora_alpha=round(self.identity.coupling.config.scaling * RANK),
            lora_dropout=0.0,
            target_modules=["q_proj", "v_proj"],
            task_type="CAUSAL_LM",
        )
        made = peft.get_peft_model(model, config)
        peft.set_peft_model_state_dict(made, {name: tensor.clone() for name, tensor in self.identity.adapters.state().items()})
        return made

    def _batches(self, prompts: Prompts) -> list[PersonalBatch]:
        """Micro-batches as ``fit`` makes them, padded at the left."""
        count = len(self.label_B)
        rows = [slice(start, min(start + MICRO, count)) for start in range(0, count, MICRO)]
        batches = [
            PersonalBatch(cut(prompts, some), self.user_1D.expand(len(self.label_B[some]), -1), self.label_B[some])
            for some in rows
        ]
        return [self._there(batch) for batch in batches]

    def _there(self, batch: PersonalBatch) -> PersonalBatch:
        return to_device(batch, torch.device(self.device))

    def tree(self) -> PersonalBatch:
        """All samples on one trunk."""
        return self._there(PersonalBatch(self.trees, self.user_1D, self.label_B))

    def call(self, way: str) -> Call:
        """A step in one way."""
        if way == "trainer":
            return self._trainer()
        lm = self.identity if way == "identity" else self.lm
        assert lm is not None
        if way in ("tree", "identity"):
            whole = [self.tree()]
            return lambda: self._step(lm, whole, 1.0)
        batches = self._batches(self.last if way == "last" else self.growing)
        # Growing prompts are as long as on average in the middle.
        part = batches[(len(batches) - 1) // 2]
        return lambda: self._step(lm, [part], 1 / len(batches))

    def _step(self, lm: YesNoLM, batches: list[PersonalBatch], share: float) -> float:
        for batch in batches:
            assert batch.label_B is not None
            with lm.scope(batch):
                (lm.loss(batch) * (len(batch.label_B) / len(self.label_B))).backward()  # type: ignore[no-untyped-call]
        optimiser = self.optimisers[id(lm)]
        optimiser.step()
        optimiser.zero_grad()
        return share

    def _trainer(self) -> Call:
        """As a user would write it: rows of ids whose labels are the answer's alone, padded by a collator."""
        from transformers import PrinterCallback, Trainer, TrainingArguments

        answer_B = torch.where(self.label_B > 0.5, ANSWERS.yes, ANSWERS.no)
        rows = []
        for ids, real, answer in zip(self.last.tokens_BL[:MICRO], self.last.mask_BL, answer_B, strict=False):
            tokens = torch.cat([ids[real], answer[None]])
            labels = torch.full_like(tokens, -100)
            labels[-1] = answer
            rows.append({"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels})

        def padded(some: list[dict[str, Tensor]]) -> dict[str, Tensor]:
            fills = {"input_ids": 0, "attention_mask": 0, "labels": -100}
            return {
                name: torch.nn.utils.rnn.pad_sequence([row[name] for row in some], True, fill, padding_side="left")
                for name, fill in fills.items()
            }

        watch = Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            options = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=MICRO,
                max_steps=1,
                learning_rate=1e-4,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
                dataloader_pin_memory=False,
            )
        trainer = Trainer(model=self.peft, args=options, train_dataset=rows, data_collator=padded, callbacks=[watch])
        trainer.remove_callback(PrinterCallback)

        def call() -> float:
            began = time.process_time()
            trainer.train()
            # What stands around the step is done once in a training: it is left out, by way of the share.
            return (time.process_time() - began) / watch.seconds * MICRO / len(answer_B)

        return call

    @torch.no_grad()
    def compared(self) -> dict[str, float]:
        """The largest difference between logits of the two answers: of a tree and its prompts, of PEFT and ours.

        ``another history``: what they would differ by if the trunk had other tokens; far more, or the first would say nothing.
        """
        tree, some = self.tree(), [0, len(self.label_B) // 2, len(self.label_B) - 1]
        found = self._logits(self.lm, tree)
        asked = self._logits(self.lm, self._rows(self.growing, some))
        wrong_L = self.trees.tokens_L.clone()
        trunk = int(self.trees.trunk_R.sum())
        wrong_L[:trunk] = wrong_L[:trunk].flip(0)
        wrong = self._logits(self.lm, self._there(PersonalBatch(replace(self.trees, tokens_L=wrong_L), self.user_1D)))
        apart = {"of a tree and its prompts": _apart(found[some], asked), "another history": _apart(found, wrong)}
        if self.identity is not None and self.peft is not None:
            rows = self._rows(self.last, some)
            prompts = cast(Prompts, rows.prompts)
            theirs = self.peft(input_ids=prompts.tokens_BL, attention_mask=prompts.mask_BL.long()).logits[:, -1]
            apart["of PEFT and ours"] = _apart(self._logits(self.identity, rows), theirs[:, [ANSWERS.yes, ANSWERS.no]])
        return _checked(apart, self.device)

    def _rows(self, prompts: Prompts, rows: list[int]) -> PersonalBatch:
        picked = Prompts(prompts.tokens_BL[rows], prompts.mask_BL[rows], prompts.shown_B[rows])
        return self._there(PersonalBatch(cut(picked, slice(None)), self.user_1D.expand(len(rows), -1)))

    @staticmethod
    def _logits(lm: YesNoLM, batch: PersonalBatch) -> Tensor:
        with lm.scope(batch):
            return lm.answer_logits(batch)

    @property
    def tokens(self) -> dict[str, int]:
        """That are read by a step in each way, without padding."""
        return {
            "tree": len(self.trees.tokens_L),
            "last": int(self.last.mask_BL.sum()),
            "growing": int(self.growing.mask_BL.sum()),
        }


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _checked(apart: dict[str, float], device: str) -> dict[str, float]:
    """Two ways that should be one are, and another history is another; in bf16 it is said, and left to the reader."""
    if device == "cpu":
        assert apart["another history"] > 100 * SAME, apart
        assert max(value for name, value in apart.items() if name != "another history") <= SAME, apart
    return {name: float(f"{value:.2g}") for name, value in apart.items()}


# Scoring


class Scoring:
    """Candidates behind one history, scored in all ways."""

    def __init__(self, size: str, seed: int, device: str = "cpu") -> None:
        self.lm, self.device = made_lm(made_model(size, seed, device), Full.Config(rank=RANK), seed), device
        self.lm.eval()
        generator = torch_generator(seed, "candidates")
        high = SIZES[size].vocabulary
        self.trunk_T = torch.randint(7, high, (HISTORY,), generator=generator).to(device)
        self.branch_GX = torch.randint(7, high, (CANDIDATES, BRANCH), generator=generator).to(device)
        self.user_1D = torch.randn(1, USER, generator=generator).to(device)
        self.C = self.lm.adapters.couplings(self.user_1D)
        self.prompt_GL = torch.cat([self.trunk_T.expand(CANDIDATES, -1), self.branch_GX], dim=1)

    @property
    def trees(self) -> PromptTrees:
        """One trunk, and a branch for each candidate."""
        count_G = torch.full((CANDIDATES,), BRANCH, device=self.device)
        none_G = torch.zeros_like(count_G)
        tokens_L = torch.cat([self.trunk_T, self.branch_GX.flatten()])
        trunk_R = torch.tensor([HISTORY], device=self.device)
        return PromptTrees(tokens_L, trunk_R, count_G, none_G, torch.full_like(count_G, HISTORY), none_G)

    @torch.no_grad()
    def logits(self, way: str, candidates: int = CANDIDATES) -> Tensor:
        """Of the two answers, of the first candidates or of all."""
        if way == "tree":
            batch = PersonalBatch(self.trees, self.user_1D)
            with self.lm.scope(batch):
                return self.lm.answer_logits(batch)
        two = [ANSWERS.yes, ANSWERS.no]
        if way == "authors":
            with self.lm.adapters.holding(self.C):
                asked = self.prompt_GL[:candidates].split(1)  # type: ignore[no-untyped-call]
                return torch.cat([self.lm.model(prompt_1L, use_cache=False).logits.float()[:, -1, two] for prompt_1L in asked])
        if way == "prompts":
            found = []
            for prompt_BL in self.prompt_GL[:candidates].split(TOGETHER):  # type: ignore[no-untyped-call]
                whole = Prompts(prompt_BL, torch.ones_like(prompt_BL, dtype=torch.bool), prompt_BL[:, 0])
                batch = PersonalBatch(whole, self.user_1D.expand(len(prompt_BL), -1))
                with self.lm.scope(batch):
                    found.append(self.lm.answer_logits(batch))
            return torch.cat(found)
        return torch.cat(self._by_cache(CANDIDATES if way == "cache" else TOGETHER))[:, two]

    def _by_cache(self, together: int) -> list[Tensor]:
        with self.lm.adapters.holding(self.C):
            read = self.lm.model(self.trunk_T[None], use_cache=True, logits_to_keep=1).past_key_values
        found = []
        for branch_BX in self.branch_GX.split(together):  # type: ignore[no-untyped-call]
            cache = copy.deepcopy(read) if together < CANDIDATES else read
            cache.batch_repeat_interleave(len(branch_BX))
            with self.lm.adapters.holding(self.C, len(branch_BX)):
                found.append(self.lm.model(branch_BX, past_key_values=cache, logits_to_keep=1).logits[:, -1])
        return found

    def call(self, way: str) -> Call:
        """All candidates in one way, or a share of them where each is a prompt of its own."""
        some = TIMED if way in ("authors", "prompts") else CANDIDATES

        def call() -> float:
            self.logits(way, some)
            return some / CANDIDATES

        return call

    def compared(self, ways: Collection[str]) -> dict[str, float]:
        """The largest difference between the tree's logits and those of each other way."""
        tree = self.logits("tree")
        apart = {}
        for way in set(ways) - {"tree"}:
            found = self.logits(way, 3)
            apart[way] = _apart(tree[: len(found)], found)
        right, self.trunk_T = self.trunk_T, self.trunk_T.flip(0)
        apart["another history"] = _apart(tree, self.logits("tree"))
        self.trunk_T = right
        return _checked(apart, self.device)


# Clock and memory


def seconds_of(call: Call, device: str = "cpu") -> float:
    """Of the whole: of this process on the CPU, on a GPU until its work has ended."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    began = clock()
    share = call()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock() - began) / share


def in_turn(calls: dict[str, Call], rounds: int, device: str = "cpu") -> dict[str, Found]:
    """Seconds of every way, and how many times as long as the tree of the same round it took."""
    for call in calls.values():
        call()  # to warm up
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        gc.collect()  # here, and not within a measurement
        for name in calls if number % 2 == 0 else reversed(calls):
            taken[name].append(seconds_of(calls[name], device))
    table = {}
    for name, own in taken.items():
        times = sorted(a / b for a, b in zip(own, taken["tree"], strict=True))
        table[name] = {
            "seconds": round(statistics.median(own), 4),
            "times": round(statistics.median(times), 2),
            "times_range": [round(times[0], 2), round(times[-1], 2)],
        }
    return table


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at its highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def peak(*words: str) -> float:
    """MiB at the highest, above the built model, of one way in a process of its own."""
    command = [sys.executable, __file__, "--alone", *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if ran.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {ran.returncode}:\n{ran.stderr}")
    return float(ran.stdout.splitlines()[-1])


def alone(part: str, size: str, setting: str, way: str, seed: int) -> None:
    """What ``peak`` runs."""
    if part == "train":
        call = Training(size, setting, seed, (way,) if way != "trainer" else ("identity", "trainer")).call(way)
    elif part == "score":
        call = Scoring(size, seed).call(way)
    else:
        call = trunk_call(size, int(way), seed)
    gc.collect()
    built = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: making the model is none of it
    call()
    print(round(resident("VmHWM") - built, 1))


# The parts


def train(size: str, setting: str, args: argparse.Namespace, ways: Collection[str]) -> Found:
    """Seconds and memory of a step."""
    training = Training(size, setting, args.seed, ways)
    apart = training.compared()
    table = in_turn({way: training.call(way) for way in ways}, args.rounds or ROUNDS[size])
    tokens = training.tokens
    del training
    if args.memory:
        for way, row in table.items():
            row["mib"] = peak("train", size, setting, way, str(args.seed))
    k, block = SETTINGS[setting]
    return {"k": k, "block": block, "micro_batch": MICRO, "tokens": tokens, "apart": apart, "ways": table}


def score(size: str, args: argparse.Namespace, ways: Collection[str]) -> Found:
    """Seconds and memory of 50 candidates."""
    scoring = Scoring(size, args.seed)
    apart = scoring.compared(ways)
    table = in_turn({way: scoring.call(way) for way in ways}, args.rounds or ROUNDS[size])
    del scoring
    if args.memory:
        for way, row in table.items():
            row["mib"] = peak("score", size, "-", way, str(args.seed))
    return {"history": HISTORY, "candidates": CANDIDATES, "branch": BRANCH, "apart": apart, "ways": table}


def growth(args: argparse.Namespace) -> Found:
    """Of samples, and of trunks."""
    counts = [count for count in (1_000, 10_000, 100_000, 1_000_000) if count <= args.most_samples]
    lengths = [length for length in (1_000, 2_000, 4_000, 8_000) if length <= args.longest_trunk]
    return {
        "samples": {f"{count}": growth_of_samples(count, args.seed) for count in counts},
        "trunks": {f"{length}": growth_of_trunk(args.sizes[0], length, args) for length in lengths},
    }


def growth_of_samples(count: int, seed: int, k: int = 10, block: int = 16, batch: int = 256) -> Found:
    """Microseconds a sample of an epoch's order, and of all its trees."""
    with tempfile.TemporaryDirectory() as folder:
        # A user has 160 events, of which about 124 are training samples.
        dataset, builder = log_and_builder(max(10, math.ceil(count / 110)), seed, Path(folder))
        rows_N = np.sort(dataset.samples["train"])[:count]
        assert len(rows_N) == count
        began = time.process_time()
        targets = dataset.targets(rows_N)
        _, together_N = np.unique(np.column_stack([targets.user_B, targets.position_B // block]), axis=0, return_inverse=True)
        order = Order(rows_N, batch, seed, together_N.ravel())
        steps = [order.step(number) for number in range(order.steps)]
        ordered = time.process_time() - began
        tokens, began = 0, time.process_time()
        for places_B in steps:
            asked = dataset.targets(rows_N[places_B])
            start_B = asked.position_B - asked.position_B % block
            event_BK, mask_BK = dataset.history(asked, k + block - 1)
            shown_B = asked.position_B - np.maximum(0, start_B - k)
            mask_BK = mask_BK & (np.arange(k + block - 1) >= k + block - 1 - shown_B[:, None])
            tokens += len(builder.trees(asked, event_BK, mask_BK, together_N.ravel()[places_B]).tokens_L)
        built = time.process_time() - began
    return {
        "microseconds_order": round(ordered / count * 1e6, 2),
        "microseconds_trees": round(built / count * 1e6, 2),
        "samples_per_second": round(count / (ordered + built)),
        "tokens_a_sample": round(tokens / count, 1),
    }


def trunk_call(size: str, length: int, seed: int) -> Call:
    """Forward and backward of a trunk with 16 questions of 25 tokens along it."""
    lm = made_lm(made_model(size, seed), Full.Config(rank=RANK), seed)
    branches, question = 16, 25
    place_G = torch.linspace(length // 2, length, branches).long()
    generator = torch_generator(seed, "trunk")
    tokens_L = torch.randint(7, SIZES[size].vocabulary, (length + branches * question,), generator=generator)
    branch_G = torch.full((branches,), question)
    none_G = torch.zeros_like(branch_G)
    trees = PromptTrees(tokens_L, torch.tensor([length]), branch_G, none_G, place_G, none_G)
    batch = PersonalBatch(trees, torch.randn(1, USER, generator=generator), (torch.arange(branches) % 2).float())

    def call() -> float:
        with lm.scope(batch):
            lm.loss(batch).backward()  # type: ignore[no-untyped-call]
        return 1.0

    return call


def growth_of_trunk(size: str, length: int, args: argparse.Namespace) -> Found:
    """Seconds and memory; one number for every two tokens of a trunk would be ``mib_of_all_pairs`` for each head."""
    call = trunk_call(size, length, args.seed)
    call()
    seconds = statistics.median(seconds_of(call) for _ in range(args.rounds or 3))
    found: Found = {"seconds": round(seconds, 3), "milliseconds_a_token": round(seconds / length * 1e3, 4)}
    if args.memory:
        found |= {
            "mib": peak("growth", size, "-", str(length), str(args.seed)),
            "mib_of_all_pairs": round(4 * length**2 / MIB, 1),
        }
    return found


def large(args: argparse.Namespace) -> Found:
    """In bf16 at 7B's shape on a GPU, with gradient checkpointing: seconds, peak memory and MFU of trees and of prompts."""
    if not torch.cuda.is_available():
        raise SystemExit("--part large needs a GPU that torch can use (CUDA), and there is none; the other parts run on the CPU.")
    training = Training(args.large_shape, "30-32", args.seed, ("tree", "last"), device="cuda")
    training.lm.train()
    training.lm.adapters.enable_checkpointing()
    found: Found = {"train": {"apart": training.compared(), **measured_there(training.call, ("tree", "last"), args)}}
    model, tokens = training.lm.model, training.tokens
    for way, row in found["train"]["ways"].items():
        # W x and W^T dy; a frozen W has no gradient of its own, and what checkpointing runs again does not count.
        row["mfu"] = round(4 * linear_parameters(model) * tokens[way] / row["seconds"] / (args.peak_tflops * 1e12), 4)
    del training, model
    gc.collect()
    scoring = Scoring(args.large_shape, args.seed, device="cuda")
    found["score"] = {"apart": scoring.compared(SCORED), **measured_there(scoring.call, SCORED, args)}
    whole, shared = CANDIDATES * (HISTORY + BRANCH), HISTORY + CANDIDATES * BRANCH
    for way, row in found["score"]["ways"].items():
        read = whole if way in ("authors", "prompts") else shared
        row["mfu"] = round(2 * linear_parameters(scoring.lm.model) * read / row["seconds"] / (args.peak_tflops * 1e12), 4)
    return found


def linear_parameters(model: Any) -> int:
    """Of the backbone's layers: nearly all FLOPs of a token; attention, head and adapters are left out of MFU."""
    return sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name and not p.requires_grad)


def measured_there(call: Callable[[str], Call], ways: tuple[str, ...], args: argparse.Namespace) -> Found:
    """On a GPU, seconds and the peak above what stands there."""
    calls = {way: call(way) for way in ways}
    table = in_turn(calls, args.rounds or ROUNDS[args.large_shape], "cuda")
    for way, row in table.items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        calls[way]()
        row["mib"] = round((torch.cuda.max_memory_allocated() - before) / MIB, 1)
    return {"ways": table}


def quick(args: argparse.Namespace) -> Found:
    """One ratio each."""
    found = {}
    for name, size in QUICK.items():
        part, _, setting = name.partition("-")
        if part == "train":
            table, against = train(size, setting, args, ("tree", "last")), "last"
        else:
            table, against = score(size, args, ("tree", "authors")), "authors"
        ratio = table["ways"][against]["times"]
        print(f"{name} {ratio:.1f}", flush=True)
        found[name] = {"size": size, "ratio": ratio, "target": TARGETS[name], **table}
        gc.collect()
    return found


def provenance(args: argparse.Namespace) -> Found:
    """By whom, of what and where."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "seed": args.seed,
        "rounds": args.rounds or ROUNDS,
        "threads": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("lifelora", "torch", "transformers", "peft")},
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four ratios, without memory")
    parser.add_argument("--part", nargs="+", choices=["train", "score", "growth", "large"], default=["train", "score", "growth"])
    parser.add_argument("--sizes", nargs="+", choices=ON_CPU, default=list(ON_CPU))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="K and block of 'train'")
    everything = list(dict.fromkeys((*TRAINED, *SCORED)))
    parser.add_argument("--ways", nargs="+", choices=everything, default=everything, help="beside 'tree'")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="measure time alone")
    parser.add_argument("--most-samples", type=int, default=1_000_000, help="of 'growth'")
    parser.add_argument("--longest-trunk", type=int, default=8_000, help="of 'growth'")
    parser.add_argument("--large-shape", choices=["7b", "stand-in"], default="7b")
    parser.add_argument("--peak-tflops", type=float, default=790, help="of the GPU on matrix products in bf16, for MFU")
    parser.add_argument("--json", type=Path, help="a file for the results; what other parts left in it stays")
    parser.add_argument("--alone", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.memory = args.memory and not args.quick
    torch.set_num_threads(1)
    if args.alone:
        part, size, setting, way, seed = args.alone
        alone(part, size, setting, way, int(seed))
        return
    run = provenance(args)
    if args.quick:
        keep(args.json, "quick", "all", quick(args) | {"run": run})
        return
    if "large" in args.part:
        keep(args.json, "large", args.large_shape, told("large", large(args)) | {"run": run})
    trained, scored = ([way for way in ways if way in ("tree", *args.ways)] for ways in (TRAINED, SCORED))
    for size in args.sizes:
        for setting in args.settings if "train" in args.part else ():
            found = told(f"train {size} {setting}", train(size, setting, args, trained))
            keep(args.json, "train", f"{size}, {setting}", found | {"run": run})
        if "score" in args.part:
            keep(args.json, "score", size, told(f"score {size}", score(size, args, scored)) | {"run": run})
    if "growth" in args.part:
        keep(args.json, "growth", args.sizes[0], told(f"growth {args.sizes[0]}", growth(args)) | {"run": run})


def told(title: str, found: Found) -> Found:
    """What was found, a line for each way or size."""
    for name, rows in found.items():
        if isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values()):
            for key, row in rows.items():
                print(f"{title}, {key if name == 'ways' else f'{name} {key}'}: {row}", flush=True)
    return found


def keep(out: Path | None, part: str, key: str, found: Found) -> None:
    """Into the file of results, beside what is there."""
    if out is None:
        return
    results = json.loads(out.read_text()) if out.exists() else {}
    results.setdefault(part, {})[key] = found
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
