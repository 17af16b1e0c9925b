"""Prompts and titles as bare token ids, LMs of two families to answer them, and the plain way to score an answer."""

from dataclasses import replace

import torch
from llm_world import tiny_llama
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, Lfm2Config, Lfm2ForCausalLM

from lifelora.llm.personal import PersonalBatch
from lifelora.llm.soft import SoftTokens
from lifelora.llm.titles import TitleLM
from lifelora.llm.trees.ready import ready
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Coupling, Experts, Full, Identity
from lifelora.lora.inject import personalise
from lifelora.prompts.fill import Prompts
from lifelora.prompts.slots import USER
from lifelora.prompts.titles import Titles
from lifelora.seeds import torch_generator

VOCABULARY, D, M, E, X = 50, 6, 9, 5, 4
END = 1
"The token of the end of a line."
COUPLINGS = {"identity": Identity.Config(rank=4), "experts": Experts.Config(rank=4, experts=2), "full": Full.Config(rank=4)}


def tiny_gpt2() -> nn.Module:
    """Learnt positions, and no more of them than are needed: one too many is an error."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=48,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    ).eval()


def tiny_hybrid() -> nn.Module:
    """Convolutions and attention in turn: a recurrent layer keeps a state of its prompt, and not keys and values."""
    torch.manual_seed(0)
    return Lfm2ForCausalLM(
        Lfm2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            layer_types=["conv", "full_attention"],
            max_position_embeddings=64,
            initializer_range=0.2,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    ).eval()


FAMILIES = {
    "llama": (lambda: tiny_llama(VOCABULARY), ("q_proj", "v_proj", "down_proj")),
    "gpt2": (tiny_gpt2, ("c_attn", "c_fc")),
    "lfm2": (tiny_hybrid, ("in_proj", "q_proj", "v_proj")),
}


def asked_lm(
    family: str = "llama", coupling: Coupling.Config = COUPLINGS["full"], soft: bool = False, users: bool = False
) -> TitleLM:
    """An LM whose adapters are as if they had learnt."""
    made, targets = FAMILIES[family]
    model = made()
    if family != "lfm2":  # whose convolutions see no tree
        ready(model)
    adapters = personalise(
        model,
        Adaptation(coupling=coupling, targets=targets, dropout=0.0),
        user_width=D,
        generator=torch_generator(1, "adapters"),
    )
    generator = torch_generator(2, "learnt")
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += torch.empty(parameter.shape).normal_(std=0.3, generator=generator)
    torch.manual_seed(3)
    tokens = SoftTokens(32, torch.randn(M, E), X if users else None) if soft else None
    return TitleLM(adapters.model, adapters, soft=tokens).eval()


def tokens(length: int, seed: int) -> list[int]:
    return torch.randint(2, VOCABULARY, (length,), generator=torch_generator(seed, "tokens")).tolist()


def prompts_of(rows: list[list[int]], answers: list[list[int]] | None = None) -> Prompts:
    whole = [torch.tensor(row + (answers[place] if answers else [])) for place, row in enumerate(rows)]
    longest = max(map(len, whole))
    tokens_BL, mask_BL = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, ids in enumerate(whole):
        tokens_BL[place, longest - len(ids) :], mask_BL[place, longest - len(ids) :] = ids, True
    answer_BA = None
    if answers:
        A = max(map(len, answers))
        answer_BA = torch.arange(A) >= A - torch.tensor([len(answer) for answer in answers])[:, None]
    return Prompts(tokens_BL, mask_BL, torch.zeros(len(rows), dtype=torch.int64), None, answer_BA)


def titles_of(rows: list[list[list[int]]]) -> Titles:
    A = max(len(title) for row in rows for title in row)
    tokens_BCA = torch.tensor([[title + [0] * (A - len(title)) for title in row] for row in rows])
    mask_BCA = torch.tensor([[[place < len(title) for place in range(A)] for title in row] for row in rows])
    return Titles(tokens_BCA, mask_BCA)


LENGTHS = (9, 4, 17, 1)
ROWS = [tokens(length, length) for length in LENGTHS]
LONG = tokens(29, 99)
TITLES = [
    [
        [7, 8, END],
        [7, 8, 9, END],
        [END],
        [7, 8, END],
        [*tokens(5, 10 + row), END],  # contained, one token, twice the same
        (LONG if row == 2 else LONG[:12]) + [END],
        [8, END],
        [*tokens(3, 20 + row), END],
    ]
    for row in range(len(ROWS))
]


def batch_of(prompts: Prompts, users: Tensor | None = None) -> PersonalBatch:
    users_BD = torch.randn(len(prompts.tokens_BL), D, generator=torch_generator(4, "people")) if users is None else users
    return PersonalBatch(prompts, users_BD)


def row_of(batch: PersonalBatch, row: int) -> PersonalBatch:
    """One prompt alone, without padding."""
    prompts, real = batch.prompts, batch.prompts.mask_BL[row]
    answer_BA = prompts.answer_BA
    if answer_BA is not None:
        answer_BA = answer_BA[[row]][:, answer_BA[row]]
    return PersonalBatch(
        replace(
            prompts,
            tokens_BL=prompts.tokens_BL[[row]][:, real],
            mask_BL=prompts.mask_BL[[row]][:, real],
            shown_B=prompts.shown_B[[row]],
            soft_BL=None if prompts.soft_BL is None else prompts.soft_BL[[row]][:, real],
            answer_BA=answer_BA,
        ),
        batch.user_BD[[row]],
        soft_user_BX=None if batch.soft_user_BX is None else batch.soft_user_BX[[row]],
    )


def titles_at(titles: Titles, row: int) -> Titles:
    return Titles(titles.tokens_BCA[[row]], titles.mask_BCA[[row]])


@torch.no_grad()
def surprise(lm: TitleLM, batch: PersonalBatch, row: int, title: list[int]) -> Tensor:
    """log p of each token of a title, from transformers' ordinary forward over one whole unpadded text."""
    alone = row_of(batch, row)
    ids = alone.prompts.tokens_BL[0].tolist() + title
    embedding = lm.model.get_input_embeddings()
    embedded = embedding(torch.tensor([ids]))
    if alone.prompts.soft_BL is not None:
        for place, item in enumerate(alone.prompts.soft_BL[0].tolist()):
            if item >= 0:
                embedded[0, place] = lm.soft.item(lm.soft.vectors_ME[[item]])[0]
            if item == USER:
                embedded[0, place] = lm.soft.user(alone.soft_user_BX)[0]
    with lm.adapters.scope(alone.user_BD):
        logp_LV = lm.model(inputs_embeds=embedded).logits[0].double().log_softmax(-1)
    return torch.stack([logp_LV[len(ids) - len(title) + place - 1, token] for place, token in enumerate(title)])
