"""A log that grew is the log that was prepared with everything: the same choice, tokens, samples and scores.

Events are cut at times, so that none of a second stand on both sides, and the rest is put behind in one or several goes. Ids of
new users and items are such that ``prepare`` numbers them as they come.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from llm_world import tiny_llama, tiny_tokenizer

from chat_world import FAMILIES, chatting
from lifelora.conventional.als import ALS
from lifelora.conventional.base import Counted, Recommender
from lifelora.conventional.bpr import BPR
from lifelora.conventional.caser import Caser
from lifelora.conventional.dcnv2 import DCNv2
from lifelora.conventional.din import DIN
from lifelora.conventional.ease import EASE
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.itemknn import ItemKNN
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sasrec import SASRec
from lifelora.data.column import Column
from lifelora.data.dataset import Dataset, Targets
from lifelora.data.extend import Event
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.lora.coupling import Full
from lifelora.lora.inject import Adaptation, personalise
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.towers import TowerBuilder
from lifelora.prompts.wording.titles import TitleTemplate
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.retrieval import similar
from lifelora.retrieval.select import MostRecent, SameField, Selector
from lifelora.retrieval.similar import MostSimilar, SimilarAndRecent

LEVELS = (1.0, 2.5, 4.0, 5.0)
GENRES = ("Crime", "", "War")
ROOM = 400
SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6, "min_users": 1}


def item_row(item: str) -> dict[str, str]:
    number = int(item[1:])
    genre = "Comedy" if item == "z2" else GENRES[number % 3]
    return {
        "item": item,
        "title": "" if item == "z3" else f"The {item} of {number * 37}",
        "genre": genre,
        "description": f"number {number}",
    }


def user_row(user: str) -> dict[str, str]:
    number = int(user[1:])
    return {"user": user, "gender": ("", "male", "female")[number % 3]}


@dataclass(frozen=True)
class Drawn:
    """Events (user, item, code of a rating, time) in order of time, with new users and items (z…) in the order they come."""

    events: tuple[tuple[str, str, int, int], ...]
    cuts: tuple[int, ...]

    def prepared(self, folder: Path, before: int | None) -> Dataset:
        """All that happened before a time, or everything; a user of its own gives every rating and enough samples."""
        events = [("u0", f"i{k}", k % 4, k) for k in range(6)] + [e for e in self.events if before is None or e[3] < before]
        user, item, code, time = zip(*events, strict=True)
        items = sorted({*item, *(f"i{k}" for k in range(8))})
        raw = RawTables(
            pa.table(
                {
                    "user": user,
                    "item": item,
                    "rating": pa.array([LEVELS[c] for c in code], pa.float32()),
                    "time": pa.array(time, pa.int64()),
                }
            ),
            pa.Table.from_pylist([item_row(i) for i in items]),
            pa.Table.from_pylist([user_row(u) for u in sorted(set(user))]),
            Words(),
        )
        return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "drawn")

    def grown(self, base: Dataset) -> list[Dataset]:
        """The data set after each go."""
        found = [base]
        for first, end in zip(self.cuts, (*self.cuts[1:], 10**6), strict=True):
            go = [e for e in self.events if first <= e[3] < end]
            last, (users, items) = found[-1], (sorted({e[k] for e in go}) for k in (0, 1))
            found.append(
                last.extended(
                    [Event(user, item, LEVELS[code], time) for user, item, code, time in reversed(go)],
                    [item_row(i) for i in items if i not in last.items],
                    [user_row(u) for u in users if u not in last.users],
                )
            )
        return found


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    place = st.tuples(st.integers(0, 9), st.integers(0, 11), st.integers(0, 3), st.integers(6, 30))
    rows = draw(st.lists(place, min_size=1, max_size=40, unique_by=lambda row: (row[0], row[1], row[3])))
    cuts = sorted(draw(st.sets(st.integers(6, 31), min_size=1, max_size=3)))
    rows.sort(key=lambda row: row[3])
    users, items = {0: "u0"}, {number: f"i{number}" for number in range(8)}
    new_users, new_items = (f"z{number}" for number in range(10)), (f"z{number}" for number in range(10))
    for user, item, _, time in rows:
        late = time >= cuts[0]
        if user not in users:
            users[user] = next(new_users) if late else f"u{user}"
        if item not in items:
            items[item] = next(new_items) if late else f"i{item}"
    return Drawn(tuple((users[user], items[item], code, time) for user, item, code, time in rows), tuple(cuts))


TIES = Drawn(
    (
        ("u0", "i3", 1, 8),
        ("u1", "i1", 0, 8),
        ("u0", "i1", 2, 12),
        ("u0", "i2", 3, 12),
        ("z0", "z0", 0, 12),
        ("z0", "i1", 3, 12),
        ("z0", "z0", 3, 20),
        ("u1", "z1", 2, 20),
        ("z1", "i1", 1, 20),
        ("u0", "i1", 0, 21),
    ),
    (12, 20, 31),
)
"""Events of one second, in several goes of which one is empty; new users with new items and with known ones, again and again."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    number = iter(range(10**6))
    return lambda: tmp_path_factory.mktemp(f"grown{next(number)}")


def questions(dataset: Dataset) -> Targets:
    """Every event as a target, by user and time, and a few items put to every user now."""
    user_U = np.arange(dataset.n_users)
    number_P, row_P = dataset.log.past(user_U, dataset.log.count(user_U))
    logged = dataset.targets(row_P)
    assert (logged.user_B == user_U[number_P]).all()
    now = [dataset.candidates(user, np.arange(0, dataset.n_items, 3)) for user in user_U.tolist()]
    return Targets(
        *(
            np.concatenate([getattr(part, name) for part in (logged, *now)])
            for name in ("user_B", "item_B", "position_B", "label_B")
        )
    )


EVERYTHING = settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(drawn())
@example(TIES)
@EVERYTHING
def test_it_holds_the_same_events_in_the_same_order(folder, case: Drawn):
    whole, base = case.prepared(folder(), None), case.prepared(folder(), case.cuts[0])
    before = {name: np.array(column) for name, column in base.log.columns.items()}
    *steps, grown = case.grown(base)
    every = np.arange(whole.n_users)
    assert grown.users.outside(every) == whole.users.outside(every)
    assert grown.items.outside(np.arange(whole.n_items)) == whole.items.outside(np.arange(whole.n_items))
    assert (grown.catalogue.to_pydict(), grown.titles) == (whole.catalogue.to_pydict(), whole.titles)
    assert grown.profiles.to_pydict() == whole.profiles.to_pydict()
    assert grown.log.count(every).tolist() == whole.log.count(every).tolist()
    count_U = whole.log.count(every)
    (_, ours_P), (_, row_P) = (one.log.past(every, count_U) for one in (grown, whole))
    for name, column in whole.log.columns.items():
        np.testing.assert_array_equal(grown.log.columns[name][ours_P], column[row_P])
    assert sorted(ours_P.tolist()) == list(range(len(whole)))
    assert np.array_equal(grown.log.positions(ours_P), whole.log.positions(row_P))
    for step in steps:  # what was there keeps its row, in every step
        for name, column in step.log.columns.items():
            np.testing.assert_array_equal(grown.log.columns[name][np.arange(len(step))], np.asarray(column))
    for name, column in base.log.columns.items():
        assert np.array_equal(column, before[name])
        assert not isinstance(grown.log.columns[name], Column) or grown.log.columns[name].first is column
    for part, rows in base.samples.items():
        assert np.array_equal(grown.samples[part], rows)
    assert np.array_equal(grown.training_events(), base.training_events())


def selectors(known: int, count: int, own: bool) -> list[Selector]:
    """All of them; with ``own``, vectors of items beyond the first ``known`` come later. Some vectors are equal, some zero."""
    vectors_ME = torch.randint(-1, 2, (20, 3), generator=torch.Generator().manual_seed(5)).float()[:count]
    made: list[Selector] = [
        MostRecent(MostRecent.Config(k=3)),
        MostRecent(MostRecent.Config(k=2, liked=True)),
        SameField(SameField.Config(k=3)),
    ]
    alike = [
        MostSimilar.Config(k=3, similarity=kind, order=order)
        for kind, order in (("cosine", "time"), ("dot", "high"), ("l2", "low"))
    ]
    for config in (*alike, SimilarAndRecent.Config(similar=2, recent=2)):
        first = (SimilarAndRecent if isinstance(config, SimilarAndRecent.Config) else MostSimilar)(
            config, vectors_ME[:known] if own else vectors_ME
        )
        for place in range(known, count) if own else ():  # one by one: of equal ones the later is told from the earlier
            first = first.extended(vectors_ME[place : place + 1])
        made.append(first)
    return made


def shown(dataset: Dataset, rows_BK: np.ndarray, mask_BK: np.ndarray) -> list[list[tuple[int, float, int]]]:
    """Item, rating and time of what was chosen."""
    read = (dataset.item_N[rows_BK], dataset.rating_N[rows_BK], dataset.time_N[rows_BK])
    return [[tuple(int(column[b, k]) for column in read) for k in np.flatnonzero(mask_BK[b])] for b in range(len(rows_BK))]


@given(drawn())
@example(TIES)
@EVERYTHING
def test_selectors_choose_the_same(folder, case: Drawn):
    whole, base = case.prepared(folder(), None), case.prepared(folder(), case.cuts[0])
    grown = case.grown(base)[-1]
    asked, ours = questions(whole), questions(grown)
    assert all(map(np.array_equal, vars(asked).values(), vars(ours).values()))
    pairs = zip(selectors(base.n_items, whole.n_items, True), selectors(base.n_items, whole.n_items, False), strict=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "ROWS", 2)
        for grown_one, whole_one in pairs:
            rows_BK, mask_BK = grown_one.select(grown, ours)
            expected_BK, expected_mask_BK = whole_one.select(whole, asked)
            assert np.array_equal(mask_BK, expected_mask_BK)
            assert shown(grown, rows_BK, mask_BK) == shown(whole, expected_BK, expected_mask_BK)


TOKENIZER = tiny_tokenizer()
CHATTING = chatting(tiny_tokenizer().backend_tokenizer, FAMILIES["chatml"])


@pytest.mark.parametrize("chat", [False, True])
@given(drawn())
@example(TIES)
@settings(EVERYTHING, max_examples=3)
def test_prompts_are_the_same_token_by_token(folder, chat: bool, case: Drawn):
    tokenizer = CHATTING if chat else TOKENIZER
    whole, base = case.prepared(folder(), None), case.prepared(folder(), case.cuts[0])
    *_, grown = steps = case.grown(base)
    yes_no, ours = (
        YesNoBuilder.make(one, Plain(chat=chat), tokenizer, ROOM, ("behaviours", "target", "user")) for one in (whole, base)
    )
    titles, our_titles = (
        TitleBuilder.make(one, TitleTemplate(chat=chat), tokenizer, 3 * ROOM, 0, ("text", "hybrid", "ids"))
        for one in (whole, base)
    )
    towers, our_towers = (TowerBuilder(one, Plain(), TOKENIZER, ROOM) for one in (whole, base))
    before = ours.lines.tokens_T.copy()
    for step in steps[1:]:
        ours, our_titles, our_towers = (builder.extended(step) for builder in (ours, our_titles, our_towers))
    assert ours.lines.tokens_T.first is not None
    assert np.array_equal(ours.lines.tokens_T.first, before)
    asked, (rows_BK, mask_BK) = questions(whole), MostRecent(MostRecent.Config(k=4)).select(whole, questions(whole))
    our_rows_BK, _ = MostRecent(MostRecent.Config(k=4)).select(grown, questions(grown))
    lists_BC = (asked.item_B[:, None] + np.arange(3)) % whole.n_items
    equal = [(yes_no.build(asked, rows_BK, mask_BK), ours.build(asked, our_rows_BK, mask_BK))]
    for form in ("text", "hybrid", "ids"):
        for listed in (lists_BC, None):
            equal.append(
                (
                    titles.question(asked, rows_BK, mask_BK, listed, form),
                    our_titles.question(asked, our_rows_BK, mask_BK, listed, form),
                )
            )
    for expected, made in equal:
        for name in ("tokens_BL", "mask_BL", "shown_B", "soft_BL"):
            one, other = getattr(expected, name), getattr(made, name)
            assert (one is None and other is None) or torch.equal(one, other), name
    for one, other in zip(titles.titles(lists_BC).__dict__.values(), our_titles.titles(lists_BC).__dict__.values(), strict=True):
        assert torch.equal(one, other)
    expected, made = towers.batch(asked, rows_BK, mask_BK), our_towers.batch(asked, our_rows_BK, mask_BK)
    for (one, which), (other, ours_which) in (
        ((expected.users, expected.user_B), (made.users, made.user_B)),
        ((expected.items, expected.item_B), (made.items, made.item_B)),
    ):

        def read(texts, place):
            return texts.tokens_NL[place][texts.mask_NL[place]].tolist()

        assert [read(one, place) for place in which] == [read(other, place) for place in ours_which]


def test_only_what_is_new_is_tokenised(folder, monkeypatch: pytest.MonkeyPatch):
    case = Drawn((("u0", "i1", 0, 7), ("u0", "i2", 2, 8), ("z0", "z0", 2, 9)), (7,))  # i2 was rated so before
    base = case.prepared(folder(), 7)
    yes_no = YesNoBuilder.make(base, Plain(), TOKENIZER, ROOM)
    titles, towers = TitleBuilder.make(base, TitleTemplate(), TOKENIZER, ROOM, 0), TowerBuilder(base, Plain(), TOKENIZER, ROOM)
    grown, said = case.grown(base)[-1], list[str]()
    tokenizer = type(yes_no.lines.writer.by)
    lines, many = tokenizer.lines, tokenizer.many
    monkeypatch.setattr(tokenizer, "lines", lambda self, texts, *rest: said.extend(texts) or lines(self, texts, *rest))
    monkeypatch.setattr(tokenizer, "many", lambda self, texts: said.extend(texts) or many(self, texts))
    yes_no.extended(grown)
    # Item 1 had the rating 2.5 before, and has 1 now; item z0, called "The z0 of 0", is new, and so is its user.
    assert sorted({text.split("\n")[0] for text in said}) == sorted(
        {
            "The i1 of 37 (1 star)",
            "The z0 of 0 (4 stars)",
            "Would they like The z0 of 0 (Crime) (number 0)?",
            "They rated these items, oldest first:",
            "What they rated is not known.",
            "Answer:",
        }
    )
    said.clear()
    titles.extended(grown)
    assert {text.strip() for text in said} == {"The z0 of 0", "The z0 of 0 (genre: Crime; number 0)"}
    said.clear()
    towers.extended(grown)
    assert not any("Answer" in text for text in said)


def as_known(whole: Dataset, asked: Targets, base: Dataset, length: int) -> list[torch.Tensor]:
    """What ``gather`` gives for a log that was prepared with everything, with what the first log has not read as unknown."""
    made = whole.gather(asked, length)
    new_BH = made.mask_BH & (made.history_BH >= base.n_items)
    mask_BH = made.mask_BH & ~new_BH
    return [
        made.user_B.clamp(max=base.n_users),
        made.item_B.clamp(max=base.n_items),
        made.label_B,
        torch.where(mask_BH, made.history_BH, base.n_items),
        torch.where(mask_BH, made.rating_BH, len(LEVELS)),
        mask_BH,
        made.position_B,
    ]


CONFIGS = (
    DIN.Config(**SMALL, user_id=True),
    SASRec.Config(**SMALL),
    GRU4Rec.Config(**SMALL),
    Caser.Config(**SMALL, heights=2),
    DCNv2.Config(**SMALL, user_id=True),
    Popularity.Config(),
    EASE.Config(history_length=6),
    ItemKNN.Config(history_length=6),
    ALS.Config(history_length=6, factors=3),
    BPR.Config(factors=3),
)


@given(drawn())
@example(TIES)
@settings(EVERYTHING, max_examples=5)
def test_conventional_models_read_and_score_the_same(folder, case: Drawn):
    whole, base = case.prepared(folder(), None), case.prepared(folder(), case.cuts[0])
    grown, asked = case.grown(base)[-1], questions(whole)
    ours, expected = grown.gather(questions(grown), 6), as_known(whole, asked, base, 6)
    names = ("user_B", "item_B", "label_B", "history_BH", "rating_BH", "mask_BH", "position_B")
    for name, value in zip(names, expected, strict=True):
        assert torch.equal(getattr(ours, name), value), name
    same = grown.n_users == base.n_users and grown.n_items == base.n_items
    for config in CONFIGS:
        torch.manual_seed(0)
        model: Recommender = config.build(base.schema())
        if isinstance(model, Counted) and base.label_N[base.training_events()].any():
            model.fit(base)
        model.eval()
        with torch.inference_mode():
            score_B = model.score(ours)
            assert score_B.isfinite().all()
            if same:  # then the log that was prepared with everything is one that this model can be asked about, too
                assert torch.equal(score_B, model.score(whole.gather(asked, 6)))


def test_a_model_reads_whoever_and_whatever_is_new_as_unknown(folder):
    """By hand: a new user is one of whom no field is known, a new target an item with the padding's vector and no genre."""
    case = Drawn((("z0", "i1", 3, 20), ("z0", "z0", 3, 21), ("z1", "i1", 3, 22)), (20,))
    base = case.prepared(folder(), 20)
    grown = case.grown(base)[-1]
    torch.manual_seed(0)
    model = DIN.Config(**SMALL, user_id=True).build(base.schema()).eval()
    new, other = (int(user) for user in grown.users.inside(["z0", "z1"]))
    batch = grown.gather(grown.candidates(new, np.array([1, base.n_items])), 6)
    table = model.inputs.table.weight
    fields_BFE = model.inputs.vectors(batch)  # id, gender; item, genre
    assert torch.equal(fields_BFE[0, 0], table[base.n_items])
    assert torch.equal(fields_BFE[1, 2], table[base.n_items])
    sizes = (base.n_items + 1, len(LEVELS) + 1, base.n_users, *base.schema().user_field_sizes, *base.schema().item_field_sizes)
    assert torch.equal(fields_BFE[0, 1], table[sum(sizes[:3])])
    assert torch.equal(fields_BFE[1, 3], table[sum(sizes[:4])])
    # Their second behaviour is with the new item: it is left out, and the other user's past is the same.
    same = grown.gather(grown.candidates(other, np.array([1, base.n_items])), 6)
    assert batch.mask_BH.sum(dim=1).tolist() == same.mask_BH.sum(dim=1).tolist() == [1, 1]
    with torch.inference_mode():
        represented, expected = model.represent(batch), model.represent(same)
    torch.testing.assert_close(represented, expected)


@given(drawn())
@example(TIES)
@settings(EVERYTHING, max_examples=2)
def test_a_language_model_with_couplings_scores_the_same(folder, case: Drawn):
    whole, base = case.prepared(folder(), None), case.prepared(folder(), case.cuts[0])
    grown = case.grown(base)[-1]
    torch.manual_seed(0)
    model, conventional = tiny_llama(len(TOKENIZER)), SASRec.Config(**SMALL).build(base.schema()).eval()
    adapters = personalise(model, Adaptation(coupling=Full.Config(rank=2), dropout=0.0), user_width=4)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter.normal_(std=0.3)

    def scores(builder: YesNoBuilder, dataset: Dataset) -> torch.Tensor:
        asked = questions(dataset)
        prompts = builder.build(asked, *MostRecent(MostRecent.Config(k=2)).select(dataset, asked))
        samples = grown.gather(asked, 6) if dataset is grown else as_samples(whole, asked, base)
        with torch.inference_mode(), adapters.scope(conventional.represent(samples)):
            logits_BLV = model(input_ids=prompts.tokens_BL, attention_mask=prompts.mask_BL.long()).logits
        return logits_BLV[:, -1, [builder.answers.yes, builder.answers.no]]

    ours = YesNoBuilder.make(base, Plain(), TOKENIZER, ROOM).extended(grown)
    assert torch.equal(scores(ours, grown), scores(YesNoBuilder.make(whole, Plain(), TOKENIZER, ROOM), whole))


def as_samples(whole: Dataset, asked: Targets, base: Dataset):
    made = whole.gather(asked, 6)
    return type(made)(*as_known(whole, asked, base, 6))
