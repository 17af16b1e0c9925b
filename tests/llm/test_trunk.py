"""Trunks that are kept: branches read against them are their prompts, and lines read on are trunks read anew."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from families_world import VOCABULARY, tiny
from test_trees import COUPLINGS, D
from torch import Tensor
from trees_world import prompt, prompts, trees

from lifelora.errors import ConfigError
from lifelora.llm.personal import CoupledOn, PersonalBatch
from lifelora.llm.soft import SoftTokens
from lifelora.llm.stretches import Stretches
from lifelora.llm.trees.ready import ready
from lifelora.llm.trees.room import Room
from lifelora.llm.trunk import Trunk
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.inject import personalise
from lifelora.prompts.fill import Prompts
from lifelora.prompts.slots import USER
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import Answers

ITEMS, WIDTH, X = 9, 5, 4


def made_lm(coupling: str, coupled_on: CoupledOn, family: str = "llama", soft: bool = False) -> YesNoLM:
    """As if it had learnt, in double precision."""
    torch.manual_seed(0)
    model = tiny(family).double()
    ready(model)
    config = Adaptation(coupling=COUPLINGS[coupling], targets=("all-linear",), dropout=0.0)
    adapters = personalise(model, config, user_width=D)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    tokens = SoftTokens(32, torch.randn(ITEMS, WIDTH), X).double() if soft else None
    return YesNoLM(model, adapters, Answers(7, 8), coupling_on=coupled_on, soft=tokens).eval()


def batch_of(made: PromptTrees, coupled_on: CoupledOn) -> PersonalBatch:
    """Trees and their users."""
    user_RD = torch.randn(2, D, generator=torch.Generator().manual_seed(2))
    return PersonalBatch(made, user_RD if coupled_on == "prompt" else user_RD[made.tree_G])


def whole(lm: YesNoLM, made: PromptTrees) -> Tensor:
    """The logits after every branch, by plain prompts of the family's own attention."""
    user_RD = torch.randn(2, D, generator=torch.Generator().manual_seed(2))
    batch = PersonalBatch(prompts(made), user_RD[made.tree_G])
    return last(lm, batch)


@torch.no_grad()
def last(lm: YesNoLM, batch: PersonalBatch) -> Tensor:
    """Of plain prompts."""
    with lm.scope(batch):
        logits_BV: Tensor = lm.run(batch, logits_to_keep=1, use_cache=False).logits[:, -1]
    return logits_BV


def asked(trunk: Trunk, branches: Stretches, memory: int = 1 << 30) -> Tensor:
    return torch.cat([logits_EV for _, logits_EV in trunk.ask(branches, memory=memory)])


def close(one: Tensor, other: Tensor, family: str = "llama") -> None:
    # Llama's norms round to fp32, whatever the model's dtype.
    torch.testing.assert_close(one.double(), other.double(), atol=1e-10 if family == "gpt2" else 1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_branches_of_a_kept_trunk_are_their_prompts(coupling: str, coupled_on: CoupledOn, family: str) -> None:
    lm, made = made_lm(coupling, coupled_on, family), trees(VOCABULARY)
    batch = batch_of(made, coupled_on)
    trunk, branches, expected = Trunk.of(lm, batch), Stretches.of(lm, batch), whole(lm, made)
    close(asked(trunk, branches), expected, family)
    close(asked(trunk, branches, memory=1), expected, family)  # one by one


def grown(made: PromptTrees, by: tuple[int, int]) -> PromptTrees:
    """The same trees, their trunks so many tokens longer at the end."""
    generator = torch.Generator().manual_seed(3)
    ends = [0, *made.trunk_R.cumsum(0).tolist()]
    rows = []
    for count, (start, stop) in zip(by, pairwise(ends), strict=True):
        rows += [made.tokens_L[start:stop], torch.randint(5, VOCABULARY, (count,), generator=generator)]
    tokens_L = torch.cat([*rows, made.tokens_L[ends[-1] :]])
    return replace(
        made, tokens_L=tokens_L, trunk_R=made.trunk_R + torch.tensor(by), place_G=made.place_G + torch.tensor(by)[made.tree_G]
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
@pytest.mark.parametrize("coupling", COUPLINGS)
def test_a_trunk_that_was_read_on_is_one_read_anew(coupling: str, coupled_on: CoupledOn, family: str) -> None:
    """By nothing, by a few tokens and by more than it had; once and twice."""
    lm, made = made_lm(coupling, coupled_on, family), trees(VOCABULARY)
    later = grown(made, (3, 9))
    latest = grown(later, (0, 2))
    trunk = Trunk.of(lm, batch_of(made, coupled_on))
    for trees_now in (later, latest):
        batch = batch_of(trees_now, coupled_on)
        trunk, anew = trunk.extended(trunk.beyond(batch)), Trunk.of(lm, batch)
        assert torch.equal(trunk.length_R, anew.length_R)
        assert torch.equal(trunk.code_T2, anew.code_T2)
        for layer, kept in anew.kept.items():
            for mine, other in zip(trunk.kept[layer], kept, strict=True):
                close(mine, other, family)
        assert trunk.logits_RV is not None
        assert anew.logits_RV is not None
        close(trunk.logits_RV, anew.logits_RV, family)
        close(asked(trunk, Stretches.of(lm, batch)), whole(lm, trees_now), family)


def test_a_trunk_is_read_on_only_from_its_beginning() -> None:
    lm, made = made_lm("full", "prompt"), trees(VOCABULARY)
    trunk = Trunk.of(lm, batch_of(made, "prompt"))
    gone = replace(
        made, tokens_L=made.tokens_L[1:], trunk_R=made.trunk_R - torch.tensor([1, 0]), place_G=(made.place_G - 1).clamp(min=0)
    )
    other = replace(made, tokens_L=(made.tokens_L + 1) % VOCABULARY)
    one = PromptTrees(
        made.tokens_L[:12], made.trunk_R[:1], torch.tensor([2]), torch.tensor([0]), torch.tensor([10]), torch.tensor([0])
    )
    soft = replace(made, soft_L=torch.where(torch.arange(len(made.tokens_L)) == 4, 2, -1))
    for came, why in (
        (gone, "oldest behaviours went"),
        (other, "no beginning"),
        (soft, "no beginning"),
        (one, "1 trunks came, and 2 are kept"),
    ):
        with pytest.raises(ConfigError, match=why):
            trunk.beyond(batch_of(came, "prompt"))


@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
def test_a_branch_becomes_the_end_of_a_trunk(coupled_on: CoupledOn) -> None:
    """Each branch on its own copy of the trunk's beginning, read on by the branch; then each is a prompt that is read on."""
    lm, made = made_lm("full", coupled_on), trees(VOCABULARY)
    batch = batch_of(made, coupled_on)
    branches = Stretches.of(lm, batch)
    copies = Trunk.of(lm, batch).at(made.tree_G, made.place_G)
    assert copies.logits_RV is None
    whole_prompts = copies.extended(replace(branches, tree_N=torch.arange(len(made))))
    assert whole_prompts.logits_RV is not None
    close(whole_prompts.logits_RV, whole(lm, made))
    titles = Stretches(torch.tensor([9, 10, 11]), torch.tensor([1, 2]), torch.tensor([1, 4]), whole_prompts.length_R[[1, 4]])
    rows = [torch.cat([prompt(made, branch), tail]) for branch, tail in ((1, torch.tensor([9])), (4, torch.tensor([10, 11])))]
    user_RD = torch.randn(2, D, generator=torch.Generator().manual_seed(2))
    for row, tree, question, logits_V in zip(rows, (1, 0), (6 + 1, 4 + 2), asked(whole_prompts, titles), strict=True):
        alone = PersonalBatch(plain(row, question), user_RD[[tree]])
        close(logits_V[None], last(lm, alone))


def test_every_token_of_a_branch_may_be_read() -> None:
    """The last of each is what is read otherwise; and the first sees itself and the trunk, as the last of a shorter one."""
    lm, made = made_lm("experts", "prompt"), trees(VOCABULARY)
    batch = batch_of(made, "prompt")
    trunk, branches = Trunk.of(lm, batch), Stretches.of(lm, batch)
    every_XV = torch.cat([logits_EV for _, logits_EV in trunk.ask(branches, every=True, memory=30_000)])
    ends_N = branches.length_N.cumsum(0) - 1
    close(every_XV[ends_N], asked(trunk, branches))
    first_N = ends_N + 1 - branches.length_N
    short = replace(branches, tokens_X=branches.tokens_X[first_N], length_N=torch.ones_like(branches.length_N))
    close(every_XV[first_N], asked(trunk, short))


def test_copies_of_trunks_in_another_order_and_of_other_users() -> None:
    lm, made = made_lm("full", "prompt"), trees(VOCABULARY)
    batch = batch_of(made, "prompt")
    trunk, branches, expected = Trunk.of(lm, batch), Stretches.of(lm, batch), whole(lm, made)
    swapped = trunk.at(torch.tensor([1, 0, 1]))
    close(asked(swapped, replace(branches, tree_N=torch.tensor([1, 0, 1, 2, 1]))), expected)
    assert trunk.logits_RV is not None
    assert swapped.logits_RV is not None
    assert torch.equal(swapped.logits_RV, trunk.logits_RV[[1, 0, 1]])


@pytest.mark.parametrize("coupled_on", ["prompt", "question"])
def test_soft_tokens_stand_in_trunks_and_branches(coupled_on: CoupledOn) -> None:
    lm, made = made_lm("full", coupled_on, soft=True), trees(VOCABULARY)
    soft_L = torch.full_like(made.tokens_L, -1)
    soft_L[3], soft_L[12], soft_L[made.starts] = 4, 7, USER
    soft_L[made.starts + 1] = torch.tensor([0, 1, 2, 3, 8])
    made = replace(made, soft_L=soft_L)
    user_GX = torch.randn(5, X, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    batch = replace(batch_of(made, coupled_on), soft_user_BX=user_GX)
    trunk = Trunk.of(lm, batch)
    read_GV = asked(trunk, Stretches.of(lm, batch), memory=20_000)
    with torch.no_grad(), lm.scope(batch):
        close(read_GV, lm.logits(batch))
    user_RD = torch.randn(2, D, generator=torch.Generator().manual_seed(2))
    for branch in range(len(made)):
        soft = prompt(replace(made, tokens_L=soft_L), branch)
        alone = PersonalBatch(
            plain(prompt(made, branch), int(made.branch_G[branch]), soft),
            user_RD[[int(made.tree_G[branch])]],
            soft_user_BX=user_GX[[branch]],
        )
        close(read_GV[[branch]], last(lm, alone))
    later = grown(replace(made, soft_L=None), (2, 1))
    soft_later = torch.cat([soft_L[:10], torch.tensor([6, -1]), soft_L[10:17], torch.tensor([5]), soft_L[17:]])
    batch = replace(batch, prompts=replace(later, soft_L=soft_later))
    anew, again = Trunk.of(lm, batch), trunk.extended(trunk.beyond(batch))
    assert torch.equal(anew.code_T2, again.code_T2)
    close(asked(again, Stretches.of(lm, batch)), asked(anew, Stretches.of(lm, batch)))


def plain(row_L: Tensor, question: int, soft_L: Tensor | None = None) -> Prompts:
    """One prompt alone."""
    mask_BL = torch.ones(1, len(row_L), dtype=torch.bool)
    soft_BL = None if soft_L is None else soft_L[None]
    return Prompts(row_L[None], mask_BL, torch.zeros(1, dtype=torch.int64), soft_BL, question_B=torch.tensor([question]))


def test_a_window_of_attention_has_to_hold_trunk_and_branch() -> None:
    torch.manual_seed(0)
    lm, made = made_lm("identity", "prompt"), trees(VOCABULARY)
    batch = batch_of(made, "prompt")
    trunk, branches = Trunk.of(lm, batch), Stretches.of(lm, batch)
    seen: list[int] = []

    def narrow(window: int) -> Callable[..., Tensor]:
        def attend(*args: object, **options: object) -> Tensor:
            reading = options["prompt_tree"]
            seen.append(reading.longest)  # type: ignore[attr-defined]
            raise InterruptedError

        return attend

    for layer in lm.model.model.layers:  # type: ignore[union-attr]
        layer.self_attn.forward = narrow(12)  # type: ignore[union-attr]
    with pytest.raises(InterruptedError):
        next(trunk.ask(branches))
    # The longest prompt has 10 tokens of its trunk and 4 of its own.
    assert seen == [14]


def test_branches_go_together_as_far_as_there_is_room() -> None:
    """By hand: width 8, 2 heads of 4, keys and values of one, a vocabulary of 100, fp32.

    Two branches of 3 and 2 tokens on one trunk of 10, one token read of each:
    10·8 + 5·16·8 + (5·2 + 2·3·4)·8 + 5·10 = 1042 numbers, 50 bytes of which sees which, 2·100·2 logits of 4 bytes.
    """
    room = Room(width=8, heads=2, kept=8, head_width=4, vocabulary=100, number=4)
    both = 1042 * 4 + 50 + 400 * 4
    assert room.bytes(trunks=1, longest=10, asking=5, branches=2, branch=3, tokens=5, read=2) == both
    # Of the second trunk, of 4 tokens, the first one has 10 columns, too.
    lengths = ([10, 4], [3, 2, 3], [0, 0, 1], [1, 1, 1])
    three = room.bytes(trunks=2, longest=10, asking=5, branches=3, branch=3, tokens=8, read=3)
    for memory, parts in ((three, [3]), (three - 1, [2, 1]), (both, [2, 1]), (both - 1, [1, 1, 1]), (0, [1, 1, 1])):
        slices = list(room.slices(*lengths, memory))
        assert [some.stop - some.start for some in slices] == parts
        assert [some.start for some in slices] == [0, *(some.stop for some in slices[:-1])]
    assert list(room.slices([10], [], [], [], 1)) == []
