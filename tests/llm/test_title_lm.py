"""What is learnt from a title, and in which form: the loss by hand, the curriculum, and a tiny LM taught by heart."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from llm_world import tiny_tokenizer
from titles_world import COUPLINGS, FAMILIES, ROWS, TITLES, asked_lm, batch_of, prompts_of, row_of, surprise
from transformers import LlamaConfig, LlamaForCausalLM

from lifelora.data.candidates import Candidates
from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError, ScopeError
from lifelora.llm.item_form import Curriculum, form_asked, form_at, hybrid_share
from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.reading import Reader, exact, hits
from lifelora.llm.search import choose
from lifelora.llm.soft import SoftTokens
from lifelora.llm.titles import TitleLM
from lifelora.llm.write import write
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.wording.titles import PHRASINGS, TitleTemplate
from lifelora.seeds import torch_generator
from lifelora.training import TrainingConfig, fit

ANSWERS = [row[place] for row, place in zip(TITLES, (1, 2, 5, 4), strict=True)]  # of 4, 1, 30 and 6 tokens


def taught(lm, soft=False):
    prompts = prompts_of(ROWS, ANSWERS)
    if soft:
        soft_BL = torch.full_like(prompts.tokens_BL, -1)
        for row, (ids, answer) in enumerate(zip(ROWS, ANSWERS, strict=True)):
            soft_BL[row, -len(answer) - len(ids)] = row
        prompts = replace(prompts, soft_BL=soft_BL)
    return batch_of(prompts)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_the_loss_is_the_mean_of_each_rows_mean(family, coupling):
    lm = asked_lm(family, COUPLINGS[coupling])
    batch, question = taught(lm), batch_of(prompts_of(ROWS))
    with torch.no_grad(), lm.scope(batch):
        loss = lm.loss(batch)
    by_hand = [-surprise(lm, question, row, answer).mean() for row, answer in enumerate(ANSWERS)]
    torch.testing.assert_close(loss.double(), torch.stack(by_hand).mean(), atol=1e-5, rtol=1e-5)


def test_a_batch_is_the_mean_of_its_rows():
    """So the loop's micro-batches add up to the batch; and padding at the left is none."""
    lm = asked_lm(soft=True)
    for batch in (taught(lm), taught(lm, soft=True)):
        losses = []
        for some in (batch, *(row_of(batch, row) for row in range(4))):
            with torch.no_grad(), lm.scope(some):
                losses.append(lm.loss(some).item())
        assert losses[0] == pytest.approx(np.mean(losses[1:]), abs=1e-5)


def test_logits_are_made_where_an_answer_is_and_nowhere_else():
    lm, seen = asked_lm(), []
    batch = taught(lm)
    lm.model.get_output_embeddings().register_forward_hook(lambda _, args, out: seen.append(out.shape[1]))
    with torch.no_grad(), lm.scope(batch):
        lm.loss(batch)
    assert seen == [max(map(len, ANSWERS)) + 1]
    assert batch.prompts.tokens_BL.shape[1] > seen[0]


def test_text_leaves_the_projector_alone_and_hybrid_teaches_it():
    lm = asked_lm(soft=True)
    for soft in (False, True):
        batch = taught(lm, soft)
        lm.zero_grad()
        with lm.scope(batch):
            lm.loss(batch).backward()
        grads = [parameter.grad for parameter in lm.soft.parameters()]
        assert all(grad is not None and grad.any() for grad in grads) if soft else grads == [None] * len(grads)
        assert all(p.grad is not None and p.grad.any() for p in lm.adapters.parameters())
    assert lm.model.get_input_embeddings().weight.grad is None


def test_what_cannot_be_learnt_from():
    lm = asked_lm()
    question = batch_of(prompts_of(ROWS))
    with lm.scope(question), pytest.raises(ConfigError, match="the loss needs answers"):
        lm.loss(question)
    batch = taught(lm, soft=True)
    with lm.scope(batch), pytest.raises(ConfigError, match="no vectors came"):
        lm.loss(batch)
    with pytest.raises(ScopeError):
        lm.loss(taught(lm))


def test_an_exception_in_a_layer_is_not_swallowed():
    """iLoRA's layer prints it and goes on with zeros."""
    lm = asked_lm()
    batch = taught(lm)
    lm.adapters.layers[1][1].base.register_forward_hook(lambda *_: 1 / 0)
    with lm.scope(batch), pytest.raises(ZeroDivisionError):
        lm.loss(batch)


@pytest.mark.parametrize("planned", [1, 2, 50, 2000])
def test_the_share_of_hybrid_batches_reaches_one(planned):
    """The authors' begins again in each epoch's workers, so that with five epochs it never exceeds 0.2."""
    shares = [hybrid_share(step, planned) for step in range(planned)]
    assert shares[-1] == 1
    assert planned == 1 or shares[0] == 0
    assert shares == sorted(shares)
    forms = [form_at("text-to-hybrid", 7, step, planned) for step in range(planned)]
    assert forms[-1] == "hybrid"
    assert planned == 1 or forms[0] == "text"
    if planned == 2000:
        for fifth in range(5):  # p = step / (planned - 1), so its mean over the n-th fifth is (2n + 1) / 10
            part = forms[fifth * 400 : fifth * 400 + 400]
            assert part.count("hybrid") / 400 == pytest.approx((2 * fifth + 1) / 10, abs=0.08)
        assert form_at("text-to-hybrid", 7, 1234, planned) == forms[1234]
        assert [form_at("text-to-hybrid", 8, step, planned) for step in range(planned)] != forms


def test_a_step_mixes_forms_as_its_share_says():
    """Of 16 micro-batches at a share of 1/4 hybrid ones are binomial: mean 4, variance 3; the first is the form of the step."""
    counts = []
    for step in range(2000):
        forms = [form_at("text-to-hybrid", step, 25, 101, part) for part in range(16)]
        assert forms[0] == form_at("text-to-hybrid", step, 25, 101)
        counts.append(forms.count("hybrid"))
    assert np.mean(counts) == pytest.approx(4, abs=4 * math.sqrt(3 / 2000))
    assert np.var(counts) == pytest.approx(3, rel=0.2)  # one form per step would give 48


@pytest.mark.parametrize("item_form", ["text", "hybrid", "ids"])
def test_other_courses_have_one_form(item_form):
    assert {form_at(item_form, 0, step, 30) for step in range(30)} == {item_form} == {form_asked(item_form)}
    assert form_asked("text-to-hybrid") == "hybrid"


# A tiny LM taught by heart.

NAMES = ["Alien", "Aliens", "Heat", "Heat", "Fargo", "Big Night", "Night", "The Thing", "Thing", "Up", "Jaws 2", "Jaws"]


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Dataset:
    """Ten users who each watched seven of twelve films; some titles are alike, and one begins another."""
    rng = np.random.default_rng(1)
    item = np.concatenate([rng.permutation(len(NAMES))[:7] for _ in range(10)])
    log = pa.table(
        {
            "user": [f"u{n // 7}" for n in range(70)],
            "item": [f"i{i:02}" for i in item],
            "rating": pa.array(np.full(70, 5), pa.float32()),
            "time": pa.array(np.arange(70), pa.int64()),
        }
    )
    catalogue = pa.table({"item": [f"i{i:02}" for i in range(len(NAMES))], "title": NAMES})
    profiles = pa.table({"user": [f"u{n}" for n in range(10)]})
    raw = RawTables(log, catalogue, profiles, Words(item="film", items="films", did="watched"))
    rules = Rules(split=LeaveOneOut(), min_history=3, candidates=Candidates(count=5))
    return prepare(raw, rules, tmp_path_factory.mktemp("films"), "films")


class Lessons:
    """Everything that belongs together: the data, prompts, a vector for each user and an LM."""

    def __init__(self, films: Dataset, phrasings: int = 3) -> None:
        self.films, self.tokenizer = films, tiny_tokenizer()
        template = TitleTemplate(phrasings=PHRASINGS[:phrasings])
        self.builder = TitleBuilder.make(films, template, self.tokenizer, 400, seed=0, forms=("text", "hybrid"))
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=400,
            )
        )
        adapters = personalise(
            model, Adaptation(coupling=Full.Config(rank=4), dropout=0.0), user_width=4, generator=torch_generator(0, "adapters")
        )
        model.requires_grad_(True)  # nobody has taught it a language yet
        self.lm = TitleLM(model, adapters, soft=SoftTokens(32, torch.randn(films.n_items, 6)))
        self.users_UD = torch.randn(films.n_users, 4)
        self.forms: list[str] = []

    def gather(self, rows_B, form) -> PersonalBatch:
        self.forms.append(form)
        return self.batch(rows_B, form)

    def batch(self, rows_B, form, answered=True) -> PersonalBatch:
        part = self.films.samples["train"]
        candidates_BC = self.films.lists["train"][np.searchsorted(part, rows_B)]
        targets = self.films.targets(rows_B)
        make = self.builder.answered if answered else self.builder.question
        prompts = make(targets, *self.films.history(targets, 4), candidates_BC, form)
        return PersonalBatch(prompts, self.users_UD[torch.from_numpy(targets.user_B)])

    def validate(self) -> dict[str, float]:
        batch = self.batch(np.asarray(self.films.samples["train"], np.int64), "hybrid")
        with self.lm.scope(batch):
            return {"loss": self.lm.loss(batch).item()}

    def fit(self, folder, **changes):
        config = TrainingConfig(**{"batch_size": 4, "learning_rate": 5e-3, "select": "-loss"} | changes)
        rows_N = np.asarray(self.films.samples["train"], np.int64)
        return fit(
            self.lm,
            rows_N,
            Curriculum(self.gather, "text-to-hybrid", 3),
            self.validate,
            config,
            folder,
            0,
            device="cpu",
            progress=False,
            checkpoint_seconds=0.0,
        )


def test_the_curriculum_runs_over_all_epochs_and_goes_on_after_a_kill(films, tmp_path):
    whole = Lessons(films)
    history = whole.fit(tmp_path / "whole", epochs=6, accumulation=2)
    planned, n_rows = history.planned, len(films.samples["train"])
    sizes = [-(-min(4, n_rows - 4 * place) // 2) for place in range(history.steps_per_epoch)] * 6  # micro-batches of each step
    expected = [form_at("text-to-hybrid", 3, step, planned, part) for step in range(planned) for part in range(sizes[step])]
    assert whole.forms == expected
    assert any(len({form_at("text-to-hybrid", 3, step, planned, part) for part in range(2)}) == 2 for step in range(planned))
    assert planned == 6 * history.steps_per_epoch
    assert expected[0] == "text"
    assert expected[-history.steps_per_epoch :].count("hybrid") > history.steps_per_epoch / 2
    killed = Lessons(films)
    gather, calls = killed.gather, iter(range(10**6))

    def until(rows_B, form):
        if next(calls) == 11:
            raise KeyboardInterrupt
        return gather(rows_B, form)

    killed.gather = until
    with pytest.raises(KeyboardInterrupt):
        killed.fit(tmp_path / "killed", epochs=6, accumulation=2)
    again = Lessons(films)
    again.fit(tmp_path / "killed", epochs=6, accumulation=2)
    assert again.forms == whole.forms[-len(again.forms) :]
    assert 0 < len(again.forms) < len(whole.forms)
    for (name, one), other in zip(whole.lm.state_dict().items(), again.lm.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    curve = [point.loss for point in history.training]
    assert curve[-1] < curve[0]


def test_it_can_be_taught_by_heart(films, tmp_path):
    """Then every way of answering gives the film that came next: scores, free and constrained writing, greedy and beams."""
    lessons = Lessons(films, phrasings=1)  # what is known by heart is known in the words it was learnt in
    history = lessons.fit(tmp_path, epochs=60)
    assert history.evaluations[history.best].metrics["loss"] < 0.1
    rows_B = np.asarray(films.samples["train"], np.int64)
    batch = lessons.batch(rows_B, "hybrid", answered=False)
    lists_BC = np.asarray(films.lists["train"])
    titles = lessons.builder.titles(lists_BC)
    target_B = torch.from_numpy((lists_BC == films.item_N[rows_B][:, None]).argmax(axis=1))
    called = [[NAMES[item] for item in row] for row in lists_BC]
    twins_B = torch.tensor([row.count(row[place]) for row, place in zip(called, target_B.tolist(), strict=True)])
    best = 1 / twins_B  # of two films called alike, either may be meant

    score_BC = likelihoods(lessons.lm, batch, titles).score_BC
    own_B = score_BC.gather(1, target_B[:, None])
    assert (score_BC <= own_B).all()
    for beams in (1, 3):
        named = choose(lessons.lm, batch, titles, beams=beams).named_BC
        assert torch.equal(hits(named, target_B), best)
        reader = Reader(lessons.tokenizer)
        lines = write(lessons.lm, batch, reader, beams=beams, limit=12).lines
        assert lines == [row[place] for row, place in zip(called, target_B.tolist(), strict=True)]
        assert torch.equal(hits(exact(lines, called), target_B), best)
        assert reader.titles(titles) == called
