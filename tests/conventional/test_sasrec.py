"""SASRec against torch's own transformer layer, and what it may and may not see."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from lifelora.conventional.sasrec import Block, SASRec

from .contract import RecommenderContract


class TestSASRec(RecommenderContract):
    config = SASRec.Config(history_length=10, embedding=8, hidden=16, layers=1, init_std=0.3)
    golden = 0.6950779


class TestTwoBlocks(RecommenderContract):
    config = SASRec.Config(history_length=10, embedding=8, hidden=16, layers=1, blocks=2, heads=1, user_id=True, init_std=0.3)
    golden = 0.7046975

    @torch.no_grad()
    def test_it_equals_torchs_transformer(self, data):
        """Causal and padding masks, pre-norm and the shortcut of the last block, against nn.TransformerEncoderLayer."""
        torch.manual_seed(5)
        config = SASRec.Config(history_length=6, embedding=8, blocks=2, heads=2, hidden=8, init_std=1.0)
        model = config.build(data.schema()).double().eval()
        batch = self.batch(model, data, "train", slice(0, 6))
        h_BHE = model.inputs.joined(batch.history_BH, batch.rating_BH, batch.mask_BH) + model.position_HE
        for block in model.blocks:
            layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, batch_first=True, norm_first=True).double().eval()
            q, kv = block.query, block.key_value
            layer.load_state_dict(
                {
                    "self_attn.in_proj_weight": torch.cat([q.weight, kv.weight]),
                    "self_attn.in_proj_bias": torch.cat([q.bias, kv.bias]),
                    "self_attn.out_proj.weight": block.join.weight,
                    "self_attn.out_proj.bias": block.join.bias,
                    "linear1.weight": block.ffn[0].weight,
                    "linear1.bias": block.ffn[0].bias,
                    "linear2.weight": block.ffn[2].weight,
                    "linear2.bias": block.ffn[2].bias,
                    "norm1.weight": block.before_attention.weight,
                    "norm1.bias": block.before_attention.bias,
                    "norm2.weight": block.before_ffn.weight,
                    "norm2.bias": block.before_ffn.bias,
                }
            )
            # One user at a time, padding cut off: only causality is left to mask.
            states = [
                layer(h[m][None], torch.ones(int(m.sum()), int(m.sum()), dtype=torch.bool).triu(1))[0]
                for h, m in zip(h_BHE, batch.mask_BH, strict=True)
            ]
            h_BHE = torch.stack([F.pad(state, (0, 0, 6 - len(state), 0)) for state in states])
        torch.testing.assert_close(model.represent(batch), model.norm(h_BHE[:, -1]))

    @torch.no_grad()
    def test_behaviours_beyond_its_length_are_not_read(self, model, data):
        targets = data.targets(data.samples["test"][:6])
        wide, exact = data.gather(targets, 15), data.gather(targets, 10)
        torch.testing.assert_close(model.score(wide), model.score(exact))


class TestCausality:
    @torch.no_grad()
    def test_a_state_does_not_see_what_comes_after_it(self):
        block_in = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
        changed = block_in.clone()
        changed[:, 3, 0] += 3.0  # (a shift of all features alike would vanish in the LayerNorm)
        torch.manual_seed(0)
        block, seen = Block(8, 2, 0.0).eval(), torch.ones(2, 5, 5, dtype=torch.bool).tril()
        before, after = block(block_in, seen, last=5), block(changed, seen, last=5)
        torch.testing.assert_close(before[:, :3], after[:, :3])
        assert not torch.isclose(before[:, 3:], after[:, 3:]).all(dim=2).any()

    @torch.no_grad()
    def test_a_user_without_a_past_is_nobody_whichever_user_it_is(self, data):
        torch.manual_seed(0)
        model = SASRec.Config(embedding=8, hidden=8).build(data.schema()).eval()
        batch = data.gather(data.targets(data.samples["test"][:3]), model.history_length)
        u_BD = model.represent(replace(batch, mask_BH=torch.zeros_like(batch.mask_BH)))
        assert torch.equal(u_BD, u_BD[:1].expand(3, -1))
        assert u_BD.isfinite().all()


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="embedding = 10 is not a multiple of heads = 4"):
        SASRec.Config(embedding=10, heads=4)
