"""What week 2 hands to later weeks computes what PyTorch computes: the exported module against torch's own, never against our recordings."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from papers.transformer.attention import (
    MultiHeadAttention,
    causal_mask,
    combine_masks,
    from_torch,
    padding_mask,
    scaled_dot_product_attention,
)


@pytest.mark.parametrize(
    ("leading", "Lq", "Lk", "d_k", "d_v"), [((), 3, 5, 8, 2), ((2,), 4, 4, 6, 7), ((2, 3), 5, 1, 4, 9)]
)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_agree_with_torch(leading, Lq, Lk, d_k, d_v, masked):
    torch.manual_seed(0)
    shapes = ((Lq, d_k), (Lk, d_k), (Lk, d_v))
    inputs = [torch.randn(*leading, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    mask = torch.rand(*leading, Lq, Lk) < 0.7 if masked else None
    ours, theirs = (
        scaled_dot_product_attention(*inputs, mask)[0],
        F.scaled_dot_product_attention(*inputs, attn_mask=mask),
    )
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for mine, other in zip(
        torch.autograd.grad(ours, inputs, upstream), torch.autograd.grad(theirs, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(mine, other)


def test_multi_head_attention_trains_like_torchs_on_copied_weights():
    """Same numbers before a step of SGD and after it: forward pass, gradients and copied weights all agree."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = from_torch(theirs)
    assert isinstance(ours, MultiHeadAttention)
    x, tokens = torch.randn(2, 5, 12), torch.tensor([[4, 5, 6, 0, 0], [4, 5, 6, 7, 8]])
    mask = combine_masks(causal_mask(5), None, padding_mask(tokens, pad_id=0))
    optimisers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in (ours, theirs)]
    for _ in range(2):
        output, weights = ours(x, x, x, mask)
        their_output, their_weights = theirs(
            x, x, x, attn_mask=~mask.repeat_interleave(3, dim=0), average_attn_weights=False
        )
        torch.testing.assert_close(output, their_output)
        torch.testing.assert_close(weights, their_weights)
        for optimiser, result in zip(optimisers, (output, their_output), strict=True):
            optimiser.zero_grad()
            result.square().mean().backward()
            optimiser.step()
