# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Encoder and decoder
#     order: 2
#     exports: papers.transformer.model
#     minutes: 110
# ---

# %% [markdown]
# # Encoder and decoder: the whole of Figure 1
#
# *Attention Is All You Need*, sections 3.1 (stacks), 3.2.3 (the three uses of attention), 3.4 (shared weights) and 5.4 (dropout) · about 110 minutes
#
# At the end of this notebook you can
#
# - wire attention, feed-forward networks and residual connections to an encoder and a decoder of any depth;
# - say which of the three attentions gets which mask, and prove that no word sees its own future;
# - show that your Transformer computes what `torch.nn.Transformer` computes, with the same weights.
#
# **Week 3 of the roadmap, step 2.** Stack multiple layers (6 encoder and 6 decoder blocks) to the full model. It is trained in the next notebook.
#
# Watch on the way: [Code walkthrough of the Transformer in PyTorch](https://youtu.be/U0s0f995w14), the second half, where the blocks are put together. Its mask of the source and its mask of the target are your exercise 1.

# %% tags=["export"]
import torch
from torch import Tensor, nn

from papers.transformer.attention import MultiHeadAttention, causal_mask, combine_masks, padding_mask
from papers.transformer.layers import Embedding, LayerNorm, PositionwiseFeedForward, Residual, add_positions

# %%
import inspect
import math
import warnings

import matplotlib.pyplot as plt
import torch.nn.functional as F

from papers.transformer.architecture import TransformerConfig, parameter_count
from papers.transformer.attention import scaled_dot_product_attention
from papers.transformer.layers import positional_encoding

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## The plan
#
# The encoder reads the source sentence and hands over its *memory*: one vector for each source word. The decoder writes the target sentence word by word; each of its layers looks at what has been written so far, then at the memory.
#
# | attention | queries from | keys and values from | may not see |
# | --- | --- | --- | --- |
# | encoder self-attention | source | source | padding of the source |
# | decoder self-attention | target | target | padding of the target, and the future |
# | cross-attention ("encoder-decoder attention") | target | memory | padding of the source |
#
# While training, the whole target sentence is fed in at once, and the model predicts at each position the word that comes next: $T$ exercises for the price of one. That only works if position $t$ cannot see
# position $t + 1$, where its answer stands. So the causal mask is not a matter of taste, and it is needed in training *and* in use: a model must not meet in use what it never met in training.

# %% [markdown]
# ## Exercise 1 · `make_masks`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Two masks serve all three attentions: one of the source, used by the encoder and by cross-attention, and one of the target.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | future | masked in the decoder (section 3.2.3) | the same: `causal_mask` of week 2 | |
# | padding | nothing | hidden as a *key*, everywhere | sentences of a batch differ in length. A padded *query* may ask what it likes: nobody looks at its answer, and the loss leaves it out |

# %% tags=["export"]
def make_masks(src: Tensor, tgt: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """What may be attended to in a batch of sentence pairs; True = may attend.

    Args:
        src: token numbers (B, S). tgt: token numbers (B, T). Padding may stand on either side.
        pad_id: the number that stands for padding.

    Returns: src_mask (B, 1, S), for encoder self-attention and cross-attention: source words, not
        padding; and tgt_mask (B, T, T), for decoder self-attention: entry (b, i, j) is True where j
        is not padding and does not come after i.
    """
    ### BEGIN SOLUTION
    future_hidden = causal_mask(tgt.size(1)).to(tgt.device)  # (T, T)
    return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)
    ### END SOLUTION


# %%
@check("make_masks", points=2, paper="section 3.2.3")
def _(case):
    def tokens(*rows):
        return torch.tensor(rows, device=case.device)

    labels = ("src_mask", "tgt_mask")
    case.call("three words each, no padding", make_masks, tokens([4, 5, 6]), tokens([7, 8, 9]), 0, labels=labels)
    case.call("padding on the right", make_masks, tokens([4, 5, 0, 0]), tokens([7, 8, 9, 0]), 0, labels=labels)
    case.call("padding on the left", make_masks, tokens([0, 4, 5, 6]), tokens([0, 0, 8, 9]), 0, labels=labels)
    src, tgt = tokens([4, 5, 6, 0, 0], [4, 5, 6, 7, 8]), tokens([3, 9, 0], [3, 3, 3])
    case.call("two pairs, source and target of different lengths", make_masks, src, tgt, 0, labels=labels)
    case.call("padding has the number 3", make_masks, src, tgt, 3, labels=labels)
    case.call("two pairs, no padding", make_masks, tokens([4, 5], [6, 7]), tokens([7, 8, 9], [3, 5, 4]), 0, labels=labels)
    ### BEGIN HIDDEN TESTS
    case.call("three pairs of random tokens", make_masks, case.integers(0, 3, 3, 4), case.integers(0, 3, 3, 6), 1, labels=labels)
    case.call("one word each", make_masks, tokens([5]), tokens([6]), 0, labels=labels)
    case.call("a source that is all padding", make_masks, tokens([0, 0, 0], [1, 0, 0]), tokens([5, 6], [0, 0]), 0, labels=labels)
    case.call("as many pairs as words", make_masks, case.integers(0, 2, 4, 4), case.integers(0, 2, 4, 4), 0, labels=labels)
    case.call("padding has the number −1", make_masks, tokens([5, -1]), tokens([-1, 6, 0]), -1, labels=labels)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "make_masks",
    "Week 2 built three functions for this. Which of them gives (B, 1, S), and which two together give (B, T, T)?",
    "Section 3.2.3, third item, for the future. For padding, ask of each of the three attentions in the table above: where do its keys come from?",
    "The source's mask is its padding mask. The target's is the padding mask of the target and the causal mask of its length, combined: both have to allow a key.",
)
misconceptions(
    "make_masks",
    mistake(
        "no causal mask",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)", "padding_mask(tgt, pad_id).repeat(1, tgt.size(1), 1)"),
        says="The target's mask does not hide the future: each word sees the word it is to predict.",
    ),
    mistake(
        "target padding forgotten",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)", "future_hidden.repeat(tgt.size(0), 1, 1)"),
        says="The target's mask does not hide padding; with padding on the left, words would attend to it.",
    ),
    mistake(
        "target padding on the query axis",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)", "combine_masks(padding_mask(tgt, pad_id).transpose(1, 2), future_hidden)"),
        says="The target's padding is hidden on the query axis (the rows). Keys are the columns, the last axis: padding is to be hidden there.",
    ),
    mistake(
        "source padding on the query axis",
        ("return padding_mask(src, pad_id),", "return padding_mask(src, pad_id).transpose(1, 2),"),
        says="The source's mask is (B, S, 1) and so hides queries; it should be (B, 1, S) and hide keys.",
    ),
    mistake(
        "padded queries hidden too",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)",
         "combine_masks(padding_mask(tgt, pad_id), padding_mask(tgt, pad_id).transpose(1, 2), future_hidden)"),  # fmt: skip
        says="The target's mask hides padding as keys and as queries, so padded rows have nothing to attend to. Only keys are to be hidden.",
    ),
    mistake(
        "a square mask of the source",
        ("return padding_mask(src, pad_id),", "return padding_mask(src, pad_id).repeat(1, src.size(1), 1),"),
        says="The source's mask is (B, S, S), which does not fit cross-attention with its T queries; (B, 1, S) serves both.",
    ),
    mistake(
        "causal mask on the source",
        ("return padding_mask(src, pad_id),", "return combine_masks(padding_mask(src, pad_id), causal_mask(src.size(1))),"),
        says="The source's mask hides the future too; the source sentence is known from the start, and every word of it may see every other.",
    ),
    mistake(
        "the source's padding in the target's mask",
        ("combine_masks(padding_mask(tgt, pad_id),", "combine_masks(padding_mask(src, pad_id),"),
        says="The target's mask hides the padding of the source; it needs the padding of the target.",
    ),
    mistake(
        "masks inverted",
        ("return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)",
         "return ~padding_mask(src, pad_id), ~combine_masks(padding_mask(tgt, pad_id), future_hidden)"),  # fmt: skip
        says="The masks are True where attention is forbidden (torch's own modules read them so); here True means *may attend*.",
    ),
    mistake(
        "a word may not see itself",
        ("causal_mask(tgt.size(1))", "causal_mask(tgt.size(1)).tril(-1)"),
        says="A target word may not see itself, which leaves the first one nothing; the diagonal belongs to what it may see.",
    ),
    mistake(
        "the past hidden",
        ("causal_mask(tgt.size(1))", "causal_mask(tgt.size(1)).T"),
        says="The target's mask hides the past and shows the future: rows are queries, columns keys, and j ≤ i is allowed.",
    ),
    mistake(
        "either is enough",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)", "padding_mask(tgt, pad_id) | future_hidden"),
        says="A key is allowed if it is not padding *or* not in the future; both have to hold.",
    ),
    mistake(
        "one mask for all where nothing is padded",
        ("combine_masks(padding_mask(tgt, pad_id), future_hidden)",
         "combine_masks(padding_mask(tgt, pad_id), future_hidden) if (tgt == pad_id).any() else future_hidden[None]"),  # fmt: skip
        says="Without padding the target's mask is (1, T, T); (B, T, T) is asked for, one for each sentence, whether there is padding or not.",
    ),
    mistake(
        "padding is always 0",
        ("    future_hidden", "    pad_id = 0\n    future_hidden"),
        says="Padding is taken to be 0, whatever `pad_id` says.",
    ),
    mistake(
        "exchanged",
        ("return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)",
         "return combine_masks(padding_mask(tgt, pad_id), future_hidden), padding_mask(src, pad_id)"),  # fmt: skip
        says="The two masks come back in the wrong order: the source's first, then the target's.",
    ),
    mistake(
        "an axis for heads",
        ("return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)",
         "return padding_mask(src, pad_id)[:, None], combine_masks(padding_mask(tgt, pad_id), future_hidden)[:, None]"),  # fmt: skip
        says="The masks have an axis for the heads; MultiHeadAttention adds it. (B, 1, S) and (B, T, T) are asked for.",
    ),
)
equivalents(
    "make_masks",
    {
        "variable: `future_hidden = causal_mask(tgt.size(1)).to(tgt.device)` → `future_hidden = causal_mask(tgt.size(1)).to(src.device)`":
            "source and target are on the same device",
        "arguments swapped: `return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)` → "
        "`return padding_mask(pad_id, src), combine_masks(padding_mask(tgt, pad_id), future_hidden)`": "unequal is unequal from either side",
        "arguments swapped: `return padding_mask(src, pad_id), combine_masks(padding_mask(tgt, pad_id), future_hidden)` → "
        "`return padding_mask(src, pad_id), combine_masks(padding_mask(pad_id, tgt), future_hidden)`": "unequal is unequal from either side",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("comparisons and tril, nothing from week 2")
def make_masks(src, tgt, pad_id):
    T = tgt.shape[1]
    tgt_mask = (tgt != pad_id)[:, None, :].expand(-1, T, -1).tril()
    return (src != pad_id)[:, None, :], tgt_mask


# %% tags=["alternative"]
@alternative("positions compared with each other")
def make_masks(src, tgt, pad_id):
    place = torch.arange(tgt.size(1), device=tgt.device)
    not_later = place[None, :] <= place[:, None]
    return src.ne(pad_id).unsqueeze(-2), tgt.ne(pad_id).unsqueeze(-2) & not_later


# %% tags=["alternative"]
@alternative("a product of masks")
def make_masks(src, tgt, pad_id):
    tgt_mask = padding_mask(tgt, pad_id) * torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool).tril()
    return padding_mask(src, pad_id), tgt_mask


# %% tags=["alternative"]
@alternative("filled in sentence by sentence")
def make_masks(src, tgt, pad_id):
    (B, S), T = src.shape, tgt.size(1)
    src_mask, tgt_mask = torch.zeros(B, 1, S, dtype=torch.bool), torch.zeros(B, T, T, dtype=torch.bool)
    for b in range(B):
        src_mask[b, 0] = src[b] != pad_id
        for i in range(T):
            tgt_mask[b, i, : i + 1] = tgt[b, : i + 1] != pad_id
    return src_mask, tgt_mask


# %% [markdown]
# ## Exercise 2 · `EncoderLayer`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# "Each layer has two sub-layers. The first is a multi-head self-attention mechanism, and the second is a simple, position-wise fully connected feed-forward network" (section 3.1). Each has its own `Residual` around it, from the last notebook. That
# takes a function of one tensor, and attention takes three and a mask: a `lambda` bridges the two.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | what attention gets in pre-norm | nothing: it prints post-norm only | query, key *and* value are the normalised tensor | the sub-layer's whole input is normalised; with a raw key, sizes would differ within one dot product |

# %% tags=["export"]
class EncoderLayer(nn.Module):
    """One layer of the encoder: self-attention, then the feed-forward network, each in a Residual
    (section 3.1).

    Attributes: `self_attention`, a MultiHeadAttention(d_model, h); `feed_forward`, a
        PositionwiseFeedForward(d_model, d_ff, dropout); `residual1` around the first and
        `residual2` around the second, each a Residual(d_model, dropout, pre_norm).

    May not call nn.Transformer* or nn.MultiheadAttention.
    """

    def __init__(self, d_model: int, h: int, d_ff: int, dropout: float = 0.1, pre_norm: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.self_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual1 = Residual(d_model, dropout, pre_norm)
        self.residual2 = Residual(d_model, dropout, pre_norm)
        ### END SOLUTION

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, S, d_model). mask: (B, 1, S) or broadcastable to (B, S, S), True = may attend;
        None: no restriction. Returns: (B, S, d_model)."""
        ### BEGIN SOLUTION
        x = self.residual1(x, lambda y: self.self_attention(y, y, y, mask)[0])  # [1] would be the weights
        return self.residual2(x, self.feed_forward)
        ### END SOLUTION


# %%
@check(
    "EncoderLayer", points=3, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention", "torch.nn.functional.multi_head_attention_forward"],
    paper="section 3.1, Encoder",
)  # fmt: skip
def _(case):
    def make(*args, **options):
        return case.initialise(EncoderLayer(*args, **options).to(case.device))

    post, pre = make(4, 2, 6).eval(), make(4, 2, 6, pre_norm=True).eval()
    case.call("one sentence of two words", post, case.normal(1, 2, 4))
    case.call("a batch, no mask", post, case.normal(2, 3, 4, scale=2.0))
    right = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], device=case.device).bool()[:, None]
    left = right.flip(-1)
    case.call("padding on the right is hidden", post, case.normal(2, 5, 4), right)
    case.call("padding on the left is hidden", post, case.normal(2, 5, 4), left)
    case.call("pre-norm", pre, case.normal(2, 3, 4, scale=2.0))
    case.call("pre-norm with a mask", pre, case.normal(2, 5, 4), right)
    x = case.normal(2, 4, 4).requires_grad_()
    output = case.call("an input that requires gradients", post, x)
    case.gradients("gradients of the input", output, x)
    case.gradients("gradients of the parameters", output, post)
    case.call("dropout 1 in training: the sub-layers' outputs are dropped", make(4, 2, 6, dropout=1.0).train(), case.normal(1, 3, 4, scale=2.0))
    half = make(4, 2, 6, dropout=1.0).train()
    half.residual1.eval(), half.residual2.eval()
    case.call("dropout 1 inside the feed-forward network", half, case.normal(1, 3, 4))
    case.call("training without dropout", make(4, 2, 6, dropout=0.0).train(), case.normal(2, 3, 4))
    usual = EncoderLayer(4, 2, 6)
    case.record("by default a tenth is dropped", {name: getattr(usual, name).dropout.p for name in ("residual1", "residual2")}, about="dropout of")
    ### BEGIN HIDDEN TESTS
    wide = make(12, 3, 5, 0.3, False).eval()
    x = case.normal(3, 6, 12)
    case.call("three heads, narrow inside", wide, x)
    case.call("another mask for each query", wide, x, case.boolean(3, 6, 6) | torch.eye(6, dtype=torch.bool, device=case.device))
    case.call("a mask shared by the batch, (S, S)", wide, x, torch.ones(6, 6, dtype=torch.bool, device=case.device).tril())
    mask = torch.ones(3, 1, 6, dtype=torch.bool, device=case.device)
    mask[:, :, 4:] = False
    changed = x.clone()
    changed[:, 4:] = 9.0
    change = float((wide(changed, mask) - wide(x, mask))[:, :4].detach().abs().max())
    case.record("what stands in hidden places changes nothing elsewhere", change, at_most=1e-5, about="change")
    order = case.permutation(6)
    case.record("shuffled in, shuffled out", float((wide(x[:, order]) - wide(x)[:, order]).detach().abs().max()), at_most=1e-4, about="difference")
    doubled = make(6, 1, 4, pre_norm=True).double().eval()
    x = case.normal(2, 3, 6, dtype=torch.float64)
    case.call("float64, one head, pre-norm", doubled, x)
    copy = EncoderLayer(6, 1, 4, pre_norm=True).to(case.device).double().eval()
    copy.load_state_dict(doubled.state_dict())
    case.record("a copy by state_dict agrees", float((copy(x) - doubled(x)).detach().abs().max()), at_most=0.0, about="difference")
    case.call("training without dropout, with a mask", make(12, 3, 5, 0.0).train(), case.normal(3, 6, 12), mask)
    watched, given = make(4, 2, 6, dropout=0.5, pre_norm=True).train(), []
    with torch.no_grad():
        for linear in (watched.self_attention.w_o, watched.feed_forward.linear2):
            linear.weight.zero_(), linear.bias.fill_(1.0)  # both sub-layers say 1, whatever they read
    added = watched(torch.zeros(50, 4, 4, device=case.device)).detach()
    case.record("dropout 0.5 in training: two sub-layers that say 1 add 2 each, or nothing", float(added.max()), tol=1e-3, about="most that is added")
    watched = make(4, 2, 6, dropout=0.5).train()
    watched.self_attention.register_forward_pre_hook(
        lambda module, args, kwargs: given.extend([*inspect.signature(module.forward).bind(*args, **kwargs).arguments.values()][:3]), with_kwargs=True
    )
    x = case.normal(2, 3, 4)
    watched(x)
    vectors = [tensor for tensor in given if isinstance(tensor, Tensor) and tensor.shape[-1] == 4]  # and no mask
    whole = all(bool(torch.isin(tensor, x).all()) for tensor in vectors)  # a sentence at a time will do as well
    case.record("training, dropout 0.5: what attention is given", "the layer's input" if whole else "other numbers than the layer's input", about="it")
    x = case.normal(3, 6, 12).requires_grad_()
    case.gradients("gradient of the input, with a mask", make(12, 3, 5).eval()(x, mask), x)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "EncoderLayer",
    "Two sub-layers, so two residuals. What does the first of them hand to its sub-layer, and what does MultiHeadAttention want?",
    "Section 3.1, Encoder; in Figure 1 the left block: three arrows go into the attention, all from the same place.",
    "The first residual gets x and a function that attends with its argument as query, key and value, under the mask, and keeps the output without the weights. "
    "The second gets that result and the feed-forward network, which is a function of one tensor already.",
)
misconceptions(
    "EncoderLayer",
    mistake(
        "mask ignored",
        ("(y, y, y, mask)", "(y, y, y)"),
        says="The mask is not handed on to the attention, so padding is attended to.",
    ),
    mistake(
        "mask inverted",
        ("(y, y, y, mask)", "(y, y, y, None if mask is None else ~mask)"),
        says="The mask is inverted before the attention gets it; True means *may attend* everywhere in this course.",
    ),
    mistake(
        "always causal",
        ("(y, y, y, mask)", "(y, y, y, combine_masks(mask, causal_mask(y.size(1))))"),
        says="The encoder's words cannot see what follows them; the causal mask belongs to the decoder only.",
    ),
    mistake(
        "raw keys and values",
        ("self.residual1(x, lambda y: self.self_attention(y, y, y, mask)[0])", "self.residual1(x, lambda y, x=x: self.self_attention(y, x, x, mask)[0])"),
        says="In pre-norm only the queries are normalised, keys and values are not; all three are the tensor that Residual hands over.",
    ),
    mistake(
        "no residual around the attention",
        ("self.residual1(x, lambda y: self.self_attention(y, y, y, mask)[0])", "self.self_attention(x, x, x, mask)[0]"),
        says="The attention has no residual connection and no norm around it; section 3.1 puts one around each of the two sub-layers.",
    ),
    mistake(
        "no residual around the feed-forward network",
        ("self.residual2(x, self.feed_forward)", "self.feed_forward(x)"),
        says="The feed-forward network has no residual connection and no norm around it; section 3.1 puts one around each of the two sub-layers.",
    ),
    mistake(
        "no feed-forward network",
        ("return self.residual2(x, self.feed_forward)", "return x"),
        says="The second sub-layer, the feed-forward network, is never called.",
    ),
    mistake(
        "no attention",
        ("x = self.residual1(x, lambda y: self.self_attention(y, y, y, mask)[0])", "x = x + 0.0"),
        says="The first sub-layer, self-attention, is never called.",
    ),
    mistake(
        "feed-forward first",
        ("x = self.residual1(x, lambda y: self.self_attention(y, y, y, mask)[0])", "x = self.residual1(x, self.feed_forward)"),
        ("return self.residual2(x, self.feed_forward)", "return self.residual2(x, lambda y: self.self_attention(y, y, y, mask)[0])"),
        says="The feed-forward network comes before the attention; section 3.1 has attention first.",
    ),
    mistake(
        "one residual for both",
        ("self.residual2(x, self.feed_forward)", "self.residual1(x, self.feed_forward)"),
        says="Both sub-layers go through `residual1` and so share one norm; the second has its own.",
    ),
    mistake(
        "one norm for both",
        ("        self.residual2 = Residual(d_model, dropout, pre_norm)", "        self.residual2 = self.residual1"),
        says="`residual2` is the same object as `residual1`, so the two sub-layers share one norm; each has its own.",
    ),
    mistake(
        "residuals exchanged",
        ("self.residual1(x, lambda", "self.residual2(x, lambda"),
        ("self.residual2(x, self.feed_forward)", "self.residual1(x, self.feed_forward)"),
        says="`residual2` is around the attention and `residual1` around the feed-forward network: exchanged, which copied weights would show.",
    ),
    mistake(
        "no pre-norm",
        ("self.residual1 = Residual(d_model, dropout, pre_norm)", "self.residual1 = Residual(d_model, dropout)"),
        ("self.residual2 = Residual(d_model, dropout, pre_norm)", "self.residual2 = Residual(d_model, dropout)"),
        says="`pre_norm` is not handed on to the residuals.",
    ),
    mistake(
        "residuals without the dropout asked for",
        ("self.residual1 = Residual(d_model, dropout, pre_norm)", "self.residual1 = Residual(d_model, pre_norm=pre_norm, dropout=0.0)"),
        ("self.residual2 = Residual(d_model, dropout, pre_norm)", "self.residual2 = Residual(d_model, pre_norm=pre_norm, dropout=0.0)"),
        says="`dropout` is not handed on to the residuals.",
    ),
    mistake(
        "feed-forward network without the dropout asked for",
        ("self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)", "self.feed_forward = PositionwiseFeedForward(d_model, d_ff, 0.0)"),
        says="`dropout` is not handed on to the feed-forward network.",
    ),
    mistake(
        "one head",
        ("self.self_attention = MultiHeadAttention(d_model, h)", "self.self_attention = MultiHeadAttention(d_model, 1)"),
        says="The attention has one head, whatever `h` says.",
    ),
    mistake(
        "d_ff ignored",
        ("self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)", "self.feed_forward = PositionwiseFeedForward(d_model, 4 * d_model, dropout)"),
        says="The feed-forward network is 4·d_model wide, whatever `d_ff` says.",
    ),
    mistake(
        "weights instead of output",
        ("self.self_attention(y, y, y, mask)[0]", "(lambda output, weights: weights.mean((1, 3)).unsqueeze(-1) + 0 * output)(*self.self_attention(y, y, y, mask))"),
        says="What the attention returns is a pair; its weights are used where its output is wanted.",
    ),
)


# %% tags=["alternative"]
@alternative("named inner function, keywords")
class EncoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.residual1 = Residual(d_model, dropout=dropout, pre_norm=pre_norm)
        self.residual2 = Residual(d_model, dropout=dropout, pre_norm=pre_norm)
        self.self_attention = MultiHeadAttention(d_model=d_model, h=h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout=dropout)

    def forward(self, x, mask=None):
        def attend(y):
            output, _ = self.self_attention(query=y, key=y, value=y, mask=mask)
            return output

        return self.residual2(self.residual1(x, attend), lambda y: self.feed_forward(y))


# %% tags=["alternative"]
@alternative("an attention with a shorter call")
class EncoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.self_attention = SelfAttention(d_model, h)
        self.residual1 = Residual(d_model, dropout, pre_norm)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual2 = Residual(d_model, dropout, pre_norm)

    def forward(self, x, mask=None):
        return self.residual2(self.residual1(x, lambda y: self.self_attention(y, mask)), self.feed_forward)


class SelfAttention(MultiHeadAttention):
    def forward(self, x, mask=None):
        return super().forward(x, x, x, mask)[0]


# %% tags=["alternative"]
@alternative("the residual's parts used directly")
class EncoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual1, self.residual2 = (Residual(d_model, dropout, pre_norm) for _ in range(2))
        self.pre_norm = pre_norm

    def forward(self, x, mask=None):
        for r, f in ((self.residual1, lambda y: self.self_attention(y, y, y, mask)[0]), (self.residual2, self.feed_forward)):
            x = x + r.dropout(f(r.norm(x))) if self.pre_norm else r.norm(x + r.dropout(f(x)))
        return x


# %% tags=["alternative"]
@alternative("a mask made where there is none")
class EncoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.add_module("self_attention", MultiHeadAttention(d_model, h))
        self.add_module("feed_forward", PositionwiseFeedForward(d_model, d_ff, dropout))
        for name in ("residual1", "residual2"):
            self.add_module(name, Residual(d_model, dropout, pre_norm))

    def forward(self, x, mask=None):
        if mask is None:
            mask = torch.ones(x.size(0), 1, x.size(1), dtype=torch.bool, device=x.device)
        x = self.residual1(x, lambda z: self.self_attention(z, z, z, mask)[0])
        x = self.residual2(x, self.feed_forward)
        return x


# %% tags=["alternative"]
@alternative("functools.partial and a method")
class EncoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, h)
        self.residual1 = Residual(d_model, dropout, pre_norm)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual2 = Residual(d_model, dropout, pre_norm)

    def attend(self, x, mask):
        return self.self_attention(x, x, x, mask)[0]

    def forward(self, x, mask=None):
        from functools import partial

        attended = self.residual1(x, partial(self.attend, mask=mask))
        return self.residual2(attended, self.feed_forward)


# %% [markdown]
# ## Exercise 3 · `DecoderLayer`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# "In addition to the two sub-layers in each encoder layer, the decoder inserts a third sub-layer, which performs multi-head attention over the output of the encoder stack" (section 3.1). Mind where
# things come from in that one: "the queries come from the previous decoder layer, and the memory keys and values come from the output of the encoder" (section 3.2.3).
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | the memory in pre-norm | nothing | goes in as it is, not through this layer's norm | the encoder ends with a norm of its own in pre-norm (exercise 4), so the memory is normalised already |

# %% tags=["export"]
class DecoderLayer(nn.Module):
    """One layer of the decoder: self-attention, cross-attention to the memory, feed-forward
    network, each in a Residual (section 3.1).

    Attributes: `self_attention` and `cross_attention`, each a MultiHeadAttention(d_model, h);
        `feed_forward`, a PositionwiseFeedForward(d_model, d_ff, dropout); `residual1`, `residual2`,
        `residual3` around them in this order, each a Residual(d_model, dropout, pre_norm).

    May not call nn.Transformer* or nn.MultiheadAttention.
    """

    def __init__(self, d_model: int, h: int, d_ff: int, dropout: float = 0.1, pre_norm: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.self_attention = MultiHeadAttention(d_model, h)
        self.cross_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual1 = Residual(d_model, dropout, pre_norm)
        self.residual2 = Residual(d_model, dropout, pre_norm)
        self.residual3 = Residual(d_model, dropout, pre_norm)
        ### END SOLUTION

    def forward(
        self, x: Tensor, memory: Tensor, tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            x: target, (B, T, d_model). memory: the encoder's output, (B, S, d_model); neither is changed.
            tgt_mask: (B, T, T) or broadcastable, for self-attention; True = may attend. None: no restriction.
            memory_mask: (B, 1, S) or broadcastable to (B, T, S), for cross-attention.

        Returns: (B, T, d_model).
        """
        ### BEGIN SOLUTION
        x = self.residual1(x, lambda y: self.self_attention(y, y, y, tgt_mask)[0])
        x = self.residual2(x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0])
        return self.residual3(x, self.feed_forward)
        ### END SOLUTION


# %%
@check(
    "DecoderLayer", points=4, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention", "torch.nn.functional.multi_head_attention_forward"],
    paper="sections 3.1, Decoder, and 3.2.3",
)  # fmt: skip
def _(case):
    def make(*args, **options):
        return case.initialise(DecoderLayer(*args, **options).to(case.device))

    def causal(n):
        return torch.ones(n, n, dtype=torch.bool, device=case.device).tril()

    post, pre = make(4, 2, 6).eval(), make(4, 2, 6, pre_norm=True).eval()
    case.call("two target words, two source words, no masks", post, case.normal(1, 2, 4), case.normal(1, 2, 4))
    hidden = torch.tensor([[1, 1, 0]], device=case.device).bool()[:, None]
    case.call("three and three, both masks", post, case.normal(1, 3, 4), case.normal(1, 3, 4), causal(3), hidden)
    case.call("pre-norm, three and three, both masks", pre, case.normal(1, 3, 4, scale=2.0), case.normal(1, 3, 4, scale=2.0), causal(3), hidden)
    case.call("source longer than target", post, case.normal(2, 2, 4), case.normal(2, 5, 4))
    padding = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1]], device=case.device).bool()[:, None]
    case.call("source padded right and left", post, case.normal(2, 3, 4), case.normal(2, 5, 4), causal(3), padding)
    case.call("only the target's mask", post, case.normal(2, 3, 4), case.normal(2, 5, 4), causal(3))
    case.call("only the source's mask", post, case.normal(2, 3, 4), case.normal(2, 5, 4), None, padding)
    x, memory = case.normal(2, 3, 4).requires_grad_(), case.normal(2, 4, 4).requires_grad_()
    output = case.call("inputs that require gradients", post, x, memory, causal(3))
    case.gradients("gradients of target and memory", output, x, memory)
    case.gradients("gradients of the parameters", output, post)
    x, memory = case.normal(1, 3, 4, scale=2.0), case.normal(1, 2, 4)
    case.call("dropout 1 in training: the sub-layers' outputs are dropped", make(4, 2, 6, dropout=1.0).train(), x, memory)
    half = make(4, 2, 6, dropout=1.0).train()
    half.residual1.eval(), half.residual2.eval(), half.residual3.eval()
    case.call("dropout 1 inside the feed-forward network", half, x, memory)
    case.call("training without dropout", make(4, 2, 6, dropout=0.0).train(), x, memory, causal(3))
    usual = DecoderLayer(4, 2, 6)
    case.record("by default a tenth is dropped", {name: getattr(usual, name).dropout.p for name in ("residual1", "residual2", "residual3")}, about="dropout of")
    ### BEGIN HIDDEN TESTS
    wide = make(12, 3, 5, 0.3, False).eval()
    x, memory = case.normal(3, 5, 12), case.normal(3, 7, 12)
    target = causal(5) & (case.boolean(3, 1, 5) | (torch.arange(5, device=case.device) == 0))
    source = case.boolean(3, 1, 7) | (torch.arange(7, device=case.device) == 2)
    case.call("three heads, all masks", wide, x, memory, target, source)
    late, rest = x.clone(), memory.clone()
    late[:, 3:] += 2.0
    rest += 5.0 * ~source.transpose(1, 2)
    before = wide(x, memory, causal(5), source)
    case.record("later words change nothing earlier", float((wide(late, memory, causal(5), source) - before)[:, :3].detach().abs().max()), at_most=1e-5, about="change")
    case.record("hidden source words change nothing", float((wide(x, rest, causal(5), source) - before).detach().abs().max()), at_most=1e-5, about="change")
    first = x.clone()
    first[:, 0] += 2.0
    case.record("the first word reaches the last", float((wide(first, memory, causal(5), source) - before)[:, -1].detach().abs().max()), at_least=1e-3, about="change")
    doubled = make(6, 1, 4, pre_norm=True).double().eval()
    x, memory = case.normal(2, 3, 6, dtype=torch.float64), case.normal(2, 1, 6, dtype=torch.float64)
    case.call("float64, one head, pre-norm, one source word", doubled, x, memory, causal(3))
    copy = DecoderLayer(6, 1, 4, pre_norm=True).to(case.device).double().eval()
    copy.load_state_dict(doubled.state_dict())
    case.record("a copy by state_dict agrees", float((copy(x, memory) - doubled(x, memory)).detach().abs().max()), at_most=0.0, about="difference")
    nothing = torch.zeros(2, 1, 5, dtype=torch.bool, device=case.device)
    case.call("a source that is all padding", post, case.normal(2, 3, 4), case.normal(2, 5, 4), causal(3), nothing)
    still = make(12, 3, 5, 0.0).train()
    case.call("training without dropout, both masks", still, case.normal(3, 5, 12), case.normal(3, 7, 12), target, source)
    each = case.boolean(3, 5, 7) | (torch.arange(7, device=case.device) == 2)
    case.call("another mask of the source for each query", wide, case.normal(3, 5, 12), case.normal(3, 7, 12), target, each)
    watched, given = make(4, 2, 6, dropout=0.5).train(), []
    watched.cross_attention.register_forward_pre_hook(
        lambda module, args, kwargs: given.extend([*inspect.signature(module.forward).bind(*args, **kwargs).arguments.values()][1:3]), with_kwargs=True
    )
    memory = case.normal(2, 3, 4)
    watched(case.normal(2, 3, 4), memory)
    vectors = [tensor for tensor in given if isinstance(tensor, Tensor) and tensor.shape[-1] == 4]  # and no mask
    whole = all(bool(torch.isin(tensor, memory).all()) for tensor in vectors)
    case.record("training, dropout 0.5: what cross-attention is given as keys and values", "the memory" if whole else "other numbers than the memory", about="it")
    watched = make(4, 2, 6, dropout=0.5, pre_norm=True).train()
    with torch.no_grad():
        for linear in (watched.self_attention.w_o, watched.cross_attention.w_o, watched.feed_forward.linear2):
            linear.weight.zero_(), linear.bias.fill_(1.0)
    added = watched(torch.zeros(50, 4, 4, device=case.device), case.normal(50, 3, 4)).detach()
    case.record("dropout 0.5 in training: three sub-layers that say 1 add 2 each, or nothing", float(added.max()), tol=1e-3, about="most that is added")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "DecoderLayer",
    "Draw the right half of Figure 1. For each of the two attentions: which arrows come from below, and which from the encoder?",
    "Section 3.2.3, first item (“encoder-decoder attention”): queries from the decoder, keys and values from the memory. Third item: which attention is masked against the future?",
    "Three residuals in a row. Self-attention with its argument three times, under the target's mask. Cross-attention with its argument as the query and the memory as key and value, under the memory's mask. The feed-forward network.",
)
misconceptions(
    "DecoderLayer",
    mistake(
        "memory used as query",
        ("self.cross_attention(y, memory, memory, memory_mask)", "self.cross_attention(memory, y, y, memory_mask)"),
        says="In cross-attention the memory asks and the target answers. It is the other way round: queries from the target, keys and values from the memory.",
    ),
    mistake(
        "self-attention unmasked",
        ("(y, y, y, tgt_mask)", "(y, y, y)"),
        says="Self-attention ignores `tgt_mask`, so every target word sees its future.",
    ),
    mistake(
        "cross-attention unmasked",
        ("memory, memory, memory_mask)", "memory, memory)"),
        says="Cross-attention ignores `memory_mask`, so the padding of the source is attended to.",
    ),
    mistake(
        "cross-attention under the target's mask",
        ("memory, memory, memory_mask)", "memory, memory, tgt_mask)"),
        says="Cross-attention is masked with `tgt_mask`. Its keys are source words: it needs `memory_mask`; the source has no future to hide.",
    ),
    mistake(
        "masks exchanged",
        ("(y, y, y, tgt_mask)", "(y, y, y, memory_mask)"),
        ("memory, memory, memory_mask)", "memory, memory, tgt_mask)"),
        says="The two masks are exchanged: `tgt_mask` is for self-attention, `memory_mask` for cross-attention.",
    ),
    mistake(
        "no memory",
        ("self.cross_attention(y, memory, memory, memory_mask)", "self.cross_attention(y, y, y, tgt_mask)"),
        says="Cross-attention attends to the target itself, so the source sentence is never seen; keys and values come from the memory.",
    ),
    mistake(
        "values from the target",
        ("self.cross_attention(y, memory, memory, memory_mask)", "self.cross_attention(y, memory, y, memory_mask)"),
        says="In cross-attention the keys come from the memory but the values from the target; both come from the memory.",
    ),
    mistake(
        "keys from the target",
        ("self.cross_attention(y, memory, memory, memory_mask)", "self.cross_attention(y, y, memory, memory_mask)"),
        says="In cross-attention the values come from the memory but the keys from the target; both come from the memory.",
    ),
    mistake(
        "memory through the layer's norm",
        ("self.cross_attention(y, memory, memory, memory_mask)",
         "self.cross_attention(y, *(2 * [self.residual2.norm(memory) if self.residual2.pre_norm else memory]), memory_mask)"),  # fmt: skip
        says="In pre-norm the memory goes through this layer's norm; it is the encoder's output, normalised at its end, and goes in as it is.",
    ),
    mistake(
        "raw keys and values",
        ("self.residual1(x, lambda y: self.self_attention(y, y, y, tgt_mask)[0])", "self.residual1(x, lambda y, x=x: self.self_attention(y, x, x, tgt_mask)[0])"),
        says="In pre-norm only the queries of self-attention are normalised; keys and values are the same tensor as the queries.",
    ),
    mistake(
        "raw queries in cross-attention",
        ("self.residual2(x, lambda y: self.cross_attention(y, memory,", "self.residual2(x, lambda y, x=x: self.cross_attention(x, memory,"),
        says="In pre-norm the queries of cross-attention are not normalised; they are what Residual hands over.",
    ),
    mistake(
        "cross-attention first",
        ("x = self.residual1(x, lambda y: self.self_attention(y, y, y, tgt_mask)[0])\n        x = self.residual2(x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0])",
         "x = self.residual2(x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0])\n        x = self.residual1(x, lambda y: self.self_attention(y, y, y, tgt_mask)[0])"),  # fmt: skip
        says="Cross-attention comes before self-attention; Figure 1 has self-attention first.",
    ),
    mistake(
        "no residual around cross-attention",
        ("self.residual2(x, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0])", "self.cross_attention(x, memory, memory, memory_mask)[0]"),
        says="Cross-attention has no residual connection and no norm around it; each of the three sub-layers has one.",
    ),
    mistake(
        "no residual around the feed-forward network",
        ("self.residual3(x, self.feed_forward)", "self.feed_forward(x)"),
        says="The feed-forward network has no residual connection and no norm around it; each of the three sub-layers has one.",
    ),
    mistake(
        "no feed-forward network",
        ("return self.residual3(x, self.feed_forward)", "return x"),
        says="The third sub-layer, the feed-forward network, is never called.",
    ),
    mistake(
        "one attention for both",
        ("self.cross_attention = MultiHeadAttention(d_model, h)", "self.cross_attention = self.self_attention"),
        says="Self- and cross-attention are one object and share their weights; each has its own.",
    ),
    mistake(
        "one residual for two sub-layers",
        ("self.residual3(x, self.feed_forward)", "self.residual2(x, self.feed_forward)"),
        says="The feed-forward network goes through `residual2` and shares its norm with cross-attention; it has `residual3`.",
    ),
    mistake(
        "no pre-norm",
        ("self.residual1 = Residual(d_model, dropout, pre_norm)", "self.residual1 = Residual(d_model, dropout)"),
        ("self.residual2 = Residual(d_model, dropout, pre_norm)", "self.residual2 = Residual(d_model, dropout)"),
        ("self.residual3 = Residual(d_model, dropout, pre_norm)", "self.residual3 = Residual(d_model, dropout)"),
        says="`pre_norm` is not handed on to the residuals.",
    ),
    mistake(
        "residuals without the dropout asked for",
        ("self.residual1 = Residual(d_model, dropout, pre_norm)", "self.residual1 = Residual(d_model, 0.0, pre_norm)"),
        ("self.residual2 = Residual(d_model, dropout, pre_norm)", "self.residual2 = Residual(d_model, 0.0, pre_norm)"),
        ("self.residual3 = Residual(d_model, dropout, pre_norm)", "self.residual3 = Residual(d_model, 0.0, pre_norm)"),
        says="`dropout` is not handed on to the residuals.",
    ),
    mistake(
        "feed-forward network without the dropout asked for",
        ("self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)", "self.feed_forward = PositionwiseFeedForward(d_model, d_ff, 0.0)"),
        says="`dropout` is not handed on to the feed-forward network.",
    ),
    mistake(
        "causal by itself",
        ("(y, y, y, tgt_mask)", "(y, y, y, combine_masks(tgt_mask, causal_mask(y.size(1)).to(y.device)))"),
        says="The layer adds a causal mask of its own; what may be seen is the caller's to say, in `tgt_mask` (None: no restriction).",
    ),
    mistake(
        "memory cut off",
        ("self.cross_attention(y, memory, memory, memory_mask)", "self.cross_attention(y, memory.detach(), memory.detach(), memory_mask)"),
        says="The memory is detached, so no gradient reaches the encoder, which would never learn.",
    ),
)


# %% tags=["alternative"]
@alternative("named inner functions")
class DecoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.residual1 = Residual(d_model, dropout, pre_norm)
        self.residual2 = Residual(d_model, dropout, pre_norm)
        self.residual3 = Residual(d_model, dropout, pre_norm)
        self.self_attention, self.cross_attention = MultiHeadAttention(d_model, h), MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        def look_back(y):
            return self.self_attention(y, y, y, mask=tgt_mask)[0]

        def look_over(y):
            return self.cross_attention(query=y, key=memory, value=memory, mask=memory_mask)[0]

        return self.residual3(self.residual2(self.residual1(x, look_back), look_over), self.feed_forward)


# %% tags=["alternative"]
@alternative("a table of sub-layers")
class DecoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, h)
        self.cross_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        for i in (1, 2, 3):
            setattr(self, f"residual{i}", Residual(d_model, dropout, pre_norm))

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        steps = [
            (self.residual1, lambda y: self.self_attention(y, y, y, tgt_mask)[0]),
            (self.residual2, lambda y: self.cross_attention(y, memory, memory, memory_mask)[0]),
            (self.residual3, self.feed_forward),
        ]
        for residual, sublayer in steps:
            x = residual(x, sublayer)
        return x


# %% tags=["alternative"]
@alternative("the residual's parts used directly")
class DecoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, h)
        self.cross_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual1, self.residual2, self.residual3 = [Residual(d_model, dropout, pre_norm) for _ in range(3)]
        self.pre = pre_norm

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        r1, r2, r3 = self.residual1, self.residual2, self.residual3
        if self.pre:
            n = r1.norm(x)
            x = x + r1.dropout(self.self_attention(n, n, n, tgt_mask)[0])
            x = x + r2.dropout(self.cross_attention(r2.norm(x), memory, memory, memory_mask)[0])
            return x + r3.dropout(self.feed_forward(r3.norm(x)))
        x = r1.norm(x + r1.dropout(self.self_attention(x, x, x, tgt_mask)[0]))
        x = r2.norm(x + r2.dropout(self.cross_attention(x, memory, memory, memory_mask)[0]))
        return r3.norm(x + r3.dropout(self.feed_forward(x)))


# %% tags=["alternative"]
@alternative("one attend method for both attentions")
class DecoderLayer(nn.Module):
    def __init__(self, d_model, h, d_ff, dropout=0.1, pre_norm=False):
        super().__init__()
        self.cross_attention = MultiHeadAttention(d_model, h)
        self.self_attention = MultiHeadAttention(d_model, h)
        self.feed_forward = PositionwiseFeedForward(d_model, d_ff, dropout)
        self.residual3 = Residual(d_model, dropout, pre_norm)
        self.residual2 = Residual(d_model, dropout, pre_norm)
        self.residual1 = Residual(d_model, dropout, pre_norm)

    @staticmethod
    def attending(attention, context, mask):
        return lambda y: attention(y, y if context is None else context, y if context is None else context, mask)[0]

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        x = self.residual1(x, self.attending(self.self_attention, None, tgt_mask))
        x = self.residual2(x, self.attending(self.cross_attention, memory, memory_mask))
        return self.residual3(x, self.feed_forward)


# %% [markdown]
# ## Exercise 4 · `Encoder`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# "A stack of $N = 6$ identical layers" (section 3.1): identical in structure, each with weights of its own.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | a last norm | nothing: in post-norm each layer ends with one | none in post-norm, one at the end in pre-norm | in pre-norm nothing has normalised the last sum. The authors' code does the same. `nn.Transformer` adds a last norm in *both*: norm upon norm in post-norm, and 2·2·$d_\text{model}$ parameters more |

# %% tags=["export"]
class Encoder(nn.Module):
    """A stack of N encoder layers (section 3.1); with pre_norm, a LayerNorm at the end.

    Attributes: `layers`, a list of EncoderLayer(d_model, h, d_ff, dropout, pre_norm) that PyTorch
        knows of; `norm`, with pre_norm only.
    """

    def __init__(
        self, N: int = 6, d_model: int = 512, h: int = 8, d_ff: int = 2048, dropout: float = 0.1,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.layers = nn.ModuleList(EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))
        self.norm = LayerNorm(d_model) if pre_norm else nn.Identity()  # in post-norm the last layer has ended with a norm
        ### END SOLUTION

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: embedded source (B, S, d_model). mask: as of EncoderLayer, the same for all layers.
        Returns: the memory (B, S, d_model)."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)
        ### END SOLUTION


# %%
@check("Encoder", points=2, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention"], paper="section 3.1, Encoder")
def _(case):
    def make(*args, **options):  # filled layer by layer, in the order in which PyTorch knows them
        encoder = Encoder(*args, **options).to(case.device)
        layers = [module for module in encoder.modules() if isinstance(module, EncoderLayer)]
        inside = {id(module) for layer in layers for module in layer.modules()}
        others = [module for module in encoder.modules() if isinstance(module, (LayerNorm, nn.LayerNorm)) and id(module) not in inside]
        name = f"Encoder({', '.join(map(str, args))}{''.join(f', {key}={value}' for key, value in options.items())})"
        case.record(f"{name}: layers, norms beside them, parameters", [len(layers), len(others), sum(p.numel() for p in encoder.parameters())])
        for module in [*layers, *others]:
            case.initialise(module)
        return encoder

    two, three = make(2, 4, 2, 6).eval(), make(3, 4, 1, 5, pre_norm=True).eval()
    case.call("two layers, one sentence", two, case.normal(1, 2, 4))
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]], device=case.device).bool()[:, None]
    case.call("two layers with a mask", two, case.normal(2, 4, 4), mask)
    case.call("three layers, pre-norm, with a mask", three, case.normal(2, 4, 4, scale=2.0), mask)
    case.call("one layer", make(1, 4, 2, 3).eval(), case.normal(1, 3, 4))
    words = case.normal(1, 3, 4)
    alone = two(words)
    padding, hidden = 7 * torch.ones(1, 2, 4, device=case.device), torch.ones(1, 1, 5, dtype=torch.bool, device=case.device)
    right, left = hidden.clone(), hidden.clone()
    right[..., 3:], left[..., :2] = False, False
    case.record("padding on the right changes nothing", float((two(torch.cat([words, padding], 1), right)[:, :3] - alone).detach().abs().max()), at_most=1e-5, about="change")
    case.record("padding on the left changes nothing", float((two(torch.cat([padding, words], 1), left)[:, 2:] - alone).detach().abs().max()), at_most=1e-5, about="change")
    case.call("dropout 1 in training", make(2, 4, 2, 6, dropout=1.0).train(), case.normal(1, 2, 4, scale=2.0))
    options = inspect.signature(Encoder).parameters
    defaults = {name: options[name].default for name in ("N", "d_model", "h", "d_ff", "dropout") if name in options}
    case.record("by default, the paper's base model", defaults, about="the default of")
    ### BEGIN HIDDEN TESTS
    x = case.normal(2, 5, 4).requires_grad_()
    output = case.call("an input that requires gradients", three, x)
    case.gradients("gradients of the input", output, x)
    deep = make(5, 6, 3, 4, 0.0).train()
    case.call("five layers, training without dropout", deep, case.normal(3, 4, 6))
    case.call("a mask for each query", deep, case.normal(2, 3, 6), torch.ones(3, 3, dtype=torch.bool, device=case.device).tril())
    x = case.normal(2, 3, 6)
    copy = Encoder(5, 6, 3, 4, 0.0).to(case.device)
    copy.load_state_dict(deep.state_dict())
    case.record("a copy by state_dict agrees", float((copy(x) - deep(x)).detach().abs().max()), at_most=0.0, about="difference")
    case.call("pre-norm, dropout 1 in training", make(2, 4, 2, 6, dropout=1.0, pre_norm=True).train(), case.normal(1, 2, 4, scale=2.0))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Encoder",
    "How many sets of weights does a stack of N layers have, and does `encoder.parameters()` find them all?",
    "Section 3.1: N identical layers. In pre-norm, follow the residual path to the end of the last layer: which norm has it passed?",
    "Make N layers, one after the other, in an nn.ModuleList. Hand x through all of them with the same mask. With pre_norm, normalise once at the end.",
)
misconceptions(
    "Encoder",
    mistake(
        "one layer N times",
        ("nn.ModuleList(EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))", "nn.ModuleList([EncoderLayer(d_model, h, d_ff, dropout, pre_norm)] * N)"),
        says="A list multiplied with N holds one layer N times, with one set of weights; each layer has its own.",
    ),
    mistake(
        "a plain list",
        ("nn.ModuleList(EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))", "[EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N)]"),
        says="The layers stand in a plain Python list, in which PyTorch does not look: they would not be trained, saved or moved. Use nn.ModuleList.",
    ),
    mistake(
        "a last norm in post-norm too",
        ("LayerNorm(d_model) if pre_norm else nn.Identity()", "LayerNorm(d_model)"),
        says="There is a norm at the end in post-norm too, as in nn.Transformer; each layer has ended with one already, and the paper has no other.",
    ),
    mistake(
        "no last norm in pre-norm",
        ("LayerNorm(d_model) if pre_norm else nn.Identity()", "nn.Identity()"),
        says="In pre-norm the last sum is never normalised; the stack needs a norm at its end.",
    ),
    mistake(
        "last norm in post-norm instead",
        ("LayerNorm(d_model) if pre_norm else nn.Identity()", "nn.Identity() if pre_norm else LayerNorm(d_model)"),
        says="The last norm is there in post-norm, where each layer ends with one, and missing in pre-norm, which needs it.",
    ),
    mistake(
        "last norm never called",
        ("return self.norm(x)", "return x"),
        says="The norm at the end exists in pre-norm but is never called.",
    ),
    mistake(
        "norm after every layer",
        ("x = layer(x, mask)\n        return self.norm(x)", "x = self.norm(layer(x, mask))\n        return x"),
        says="In pre-norm the last norm is applied after every layer; it belongs to the end of the stack alone.",
    ),
    mistake(
        "mask not handed on",
        ("layer(x, mask)", "layer(x)"),
        says="The mask is not handed on to the layers.",
    ),
    mistake(
        "mask for the first layer only",
        ("x = layer(x, mask)\n", "x = layer(x, mask)\n            mask = None\n"),
        says="Only the first layer gets the mask; every layer needs it.",
    ),
    mistake(
        "layers in reverse",
        ("in self.layers:", "in reversed(self.layers):"),
        says="The layers are run through from the last to the first.",
    ),
    mistake(
        "one layer left out",
        ("in self.layers:", "in (self.layers[:-1] if len(self.layers) > 1 else self.layers):"),
        says="The last layer is never called.",
    ),
    mistake(
        "always six layers",
        ("range(N)", "range(6)"),
        says="There are six layers, whatever `N` says.",
    ),
    mistake(
        "pre_norm not handed on",
        ("EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for", "EncoderLayer(d_model, h, d_ff, dropout) for"),
        says="`pre_norm` is not handed on to the layers.",
    ),
    mistake(
        "dropout not handed on",
        ("EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for", "EncoderLayer(d_model, h, d_ff, 0.0, pre_norm) for"),
        says="`dropout` is not handed on to the layers.",
    ),
    mistake(
        "a residual around the stack",
        ("        for layer in", "        start = x\n        for layer in"),
        ("return self.norm(x)", "return self.norm(x + start)"),
        says="The input is added to the output of the whole stack; there are residual connections around the sub-layers only.",
    ),
    mistake(
        "every layer gets the first input",
        ("        for layer in self.layers:\n            x = layer(x, mask)", "        start = x\n        for layer in self.layers:\n            x = layer(start, mask)"),
        says="Every layer is given the stack's input; each works on what the one before it returned.",
    ),
)


# %% tags=["alternative"]
@alternative("attributes by number")
class Encoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.N = N
        for i in range(N):
            self.add_module(f"layer{i}", EncoderLayer(d_model, h, d_ff, dropout, pre_norm))
        if pre_norm:
            self.last = nn.LayerNorm(d_model)

    def forward(self, x, mask=None):
        for i in range(self.N):
            x = getattr(self, f"layer{i}")(x, mask)
        return self.last(x) if hasattr(self, "last") else x


# %% tags=["alternative"]
@alternative("copies of one layer, as torch does")
class Encoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        import copy

        super().__init__()
        first = EncoderLayer(d_model, h, d_ff, dropout, pre_norm)
        self.blocks = nn.ModuleList([copy.deepcopy(first) for _ in range(N)])
        self.final_norm = LayerNorm(d_model) if pre_norm else None

    def forward(self, x, mask=None):
        for block in self.blocks:
            x = block(x, mask=mask)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return x


# %% tags=["alternative"]
@alternative("functools.reduce")
class Encoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.norm = nn.Sequential(*([LayerNorm(d_model)] if pre_norm else []))
        self.layers = nn.ModuleList()
        for _ in range(N):
            self.layers.append(EncoderLayer(d_model, h, d_ff, dropout=dropout, pre_norm=pre_norm))

    def forward(self, x, mask=None):
        from functools import reduce

        return self.norm(reduce(lambda y, layer: layer(y, mask), self.layers, x))


# %% tags=["alternative"]
@alternative("a ModuleDict, run through by recursion")
class Encoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.stack = nn.ModuleDict({str(n): EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for n in range(N)})
        self.norm = LayerNorm(d_model) if pre_norm else nn.Identity()

    def through(self, n, x, mask):
        return x if n == 0 else self.stack[str(n - 1)](self.through(n - 1, x, mask), mask)

    def forward(self, x, mask=None):
        return self.norm(self.through(len(self.stack), x, mask))


# %% [markdown]
# ## Exercise 5 · `Decoder`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# The same for the decoder. Every layer gets the same memory: the encoder's *final* output, "the output of the encoder stack", and not, as Figure 1 can be misread, the output of the encoder layer beside it.

# %% tags=["export"]
class Decoder(nn.Module):
    """A stack of N decoder layers (section 3.1); with pre_norm, a LayerNorm at the end.

    Attributes: `layers`, a list of DecoderLayer(d_model, h, d_ff, dropout, pre_norm) that PyTorch
        knows of; `norm`, with pre_norm only.
    """

    def __init__(
        self, N: int = 6, d_model: int = 512, h: int = 8, d_ff: int = 2048, dropout: float = 0.1,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.layers = nn.ModuleList(DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))
        self.norm = LayerNorm(d_model) if pre_norm else nn.Identity()
        ### END SOLUTION

    def forward(
        self, x: Tensor, memory: Tensor, tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """x: embedded target (B, T, d_model). memory: (B, S, d_model). Masks: as of DecoderLayer,
        the same for all layers. Returns: (B, T, d_model)."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            x = layer(x, memory, tgt_mask, memory_mask)
        return self.norm(x)
        ### END SOLUTION


# %%
@check("Decoder", points=2, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention"], paper="section 3.1, Decoder")
def _(case):
    def make(*args, **options):  # filled layer by layer, in the order in which PyTorch knows them
        decoder = Decoder(*args, **options).to(case.device)
        layers = [module for module in decoder.modules() if isinstance(module, DecoderLayer)]
        inside = {id(module) for layer in layers for module in layer.modules()}
        others = [module for module in decoder.modules() if isinstance(module, (LayerNorm, nn.LayerNorm)) and id(module) not in inside]
        name = f"Decoder({', '.join(map(str, args))}{''.join(f', {key}={value}' for key, value in options.items())})"
        case.record(f"{name}: layers, norms beside them, parameters", [len(layers), len(others), sum(p.numel() for p in decoder.parameters())])
        for module in [*layers, *others]:
            case.initialise(module)
        return decoder

    def causal(n):
        return torch.ones(n, n, dtype=torch.bool, device=case.device).tril()

    two, three = make(2, 4, 2, 6).eval(), make(3, 4, 1, 5, pre_norm=True).eval()
    case.call("two layers, two words each, no masks", two, case.normal(1, 2, 4), case.normal(1, 2, 4))
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]], device=case.device).bool()[:, None]
    case.call("two layers with both masks", two, case.normal(2, 3, 4), case.normal(2, 4, 4), causal(3), mask)
    case.call("three layers, pre-norm, with both masks", three, case.normal(2, 3, 4, scale=2.0), case.normal(2, 4, 4), causal(3), mask)
    case.call("one layer", make(1, 4, 2, 3).eval(), case.normal(1, 3, 4), case.normal(1, 2, 4))
    case.call("training without dropout, both masks", make(2, 4, 2, 6, dropout=0.0).train(), case.normal(2, 3, 4), case.normal(2, 4, 4), causal(3), mask)
    words, memory = case.normal(1, 3, 4), case.normal(1, 2, 4)
    alone = two(words, memory, causal(3))
    padding = 7 * torch.ones(1, 2, 4, device=case.device)
    right = causal(5) & (torch.arange(5, device=case.device) < 3)
    left = causal(5) & (torch.arange(5, device=case.device) >= 2)
    case.record("padding on the right changes nothing", float((two(torch.cat([words, padding], 1), memory, right)[:, :3] - alone).detach().abs().max()), at_most=1e-5, about="change")
    case.record("padding on the left changes nothing", float((two(torch.cat([padding, words], 1), memory, left)[:, 2:] - alone).detach().abs().max()), at_most=1e-5, about="change")
    case.call("dropout 1 in training", make(2, 4, 2, 6, dropout=1.0).train(), case.normal(1, 2, 4, scale=2.0), memory)
    options = inspect.signature(Decoder).parameters
    defaults = {name: options[name].default for name in ("N", "d_model", "h", "d_ff", "dropout") if name in options}
    case.record("by default, the paper's base model", defaults, about="the default of")
    ### BEGIN HIDDEN TESTS
    x, memory = case.normal(2, 5, 4).requires_grad_(), case.normal(2, 3, 4).requires_grad_()
    output = case.call("inputs that require gradients", three, x, memory, causal(5))
    case.gradients("gradients of target and memory", output, x, memory)
    case.call("as many words as in the source, both masks", three, case.normal(2, 4, 4), case.normal(2, 4, 4), causal(4), mask)
    deep = make(5, 6, 3, 4, 0.0).train()
    x, memory = case.normal(3, 4, 6), case.normal(3, 2, 6)
    before = case.call("five layers, training without dropout", deep, x, memory, causal(4))
    late = x.clone()
    late[:, 2:] += 3.0
    case.record("later words change nothing earlier", float((deep(late, memory, causal(4)) - before)[:, :2].detach().abs().max()), at_most=1e-5, about="change")
    copy = Decoder(5, 6, 3, 4, 0.0).to(case.device)
    copy.load_state_dict(deep.state_dict())
    case.record("a copy by state_dict agrees", float((copy(x, memory) - deep(x, memory)).detach().abs().max()), at_most=0.0, about="difference")
    case.call("pre-norm, dropout 1 in training", make(2, 4, 2, 6, dropout=1.0, pre_norm=True).train(), case.normal(1, 2, 4, scale=2.0), case.normal(1, 2, 4))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Decoder",
    "What changes from layer to layer, and what stays the same for all of them?",
    "Section 3.1, Decoder: attention “over the output of the encoder stack”, in each of the N layers.",
    "As the encoder, with DecoderLayer. Only x goes from layer to layer; memory and both masks are handed to each as they are.",
)
misconceptions(
    "Decoder",
    mistake(
        "one layer N times",
        ("nn.ModuleList(DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))", "nn.ModuleList([DecoderLayer(d_model, h, d_ff, dropout, pre_norm)] * N)"),
        says="A list multiplied with N holds one layer N times, with one set of weights; each layer has its own.",
    ),
    mistake(
        "a plain list",
        ("nn.ModuleList(DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))", "[DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N)]"),
        says="The layers stand in a plain Python list, in which PyTorch does not look: they would not be trained, saved or moved. Use nn.ModuleList.",
    ),
    mistake(
        "a last norm in post-norm too",
        ("LayerNorm(d_model) if pre_norm else nn.Identity()", "LayerNorm(d_model)"),
        says="There is a norm at the end in post-norm too, as in nn.Transformer; each layer has ended with one already, and the paper has no other.",
    ),
    mistake(
        "no last norm in pre-norm",
        ("LayerNorm(d_model) if pre_norm else nn.Identity()", "nn.Identity()"),
        says="In pre-norm the last sum is never normalised; the stack needs a norm at its end.",
    ),
    mistake(
        "last norm never called",
        ("return self.norm(x)", "return x"),
        says="The norm at the end exists in pre-norm but is never called.",
    ),
    mistake(
        "memory replaced",
        ("x = layer(x, memory,", "x = memory = layer(x, memory,"),
        says="After the first layer the memory is replaced by the target; every layer attends to the encoder's output.",
    ),
    mistake(
        "masks exchanged",
        ("tgt_mask, memory_mask)\n        return", "memory_mask, tgt_mask)\n        return"),
        says="The two masks are handed on in the wrong order: the target's first, then the memory's.",
    ),
    mistake(
        "no target mask",
        ("tgt_mask, memory_mask)\n        return", "None, memory_mask)\n        return"),
        says="The target's mask is not handed on: every word sees its future.",
    ),
    mistake(
        "no memory mask",
        ("tgt_mask, memory_mask)\n        return", "tgt_mask)\n        return"),
        says="The memory's mask is not handed on: the padding of the source is attended to.",
    ),
    mistake(
        "no causal mask in eval mode",
        ("x = layer(x, memory, tgt_mask, memory_mask)", "x = layer(x, memory, tgt_mask if self.training else None, memory_mask)"),
        says="In eval mode the target's mask is left out. It holds in both: a word may not see its future when the model is used, either.",
    ),
    mistake(
        "masks for the first layer only",
        ("memory_mask)\n        return", "memory_mask)\n            tgt_mask = memory_mask = None\n        return"),
        says="Only the first layer gets the masks; every layer needs them, or the second one leaks what the first has hidden.",
    ),
    mistake(
        "layers in reverse",
        ("in self.layers:", "in reversed(self.layers):"),
        says="The layers are run through from the last to the first.",
    ),
    mistake(
        "one layer left out",
        ("in self.layers:", "in (self.layers[:-1] if len(self.layers) > 1 else self.layers):"),
        says="The last layer is never called.",
    ),
    mistake(
        "always six layers",
        ("range(N)", "range(6)"),
        says="There are six layers, whatever `N` says.",
    ),
    mistake(
        "pre_norm not handed on",
        ("DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for", "DecoderLayer(d_model, h, d_ff, dropout) for"),
        says="`pre_norm` is not handed on to the layers.",
    ),
    mistake(
        "dropout not handed on",
        ("DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for", "DecoderLayer(d_model, h, d_ff, 0.0, pre_norm) for"),
        says="`dropout` is not handed on to the layers.",
    ),
)


# %% tags=["alternative"]
@alternative("attributes by number")
class Decoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.N = N
        for i in range(N):
            self.add_module(f"layer{i}", DecoderLayer(d_model, h, d_ff, dropout, pre_norm))
        if pre_norm:
            self.last = nn.LayerNorm(d_model)

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        for i in range(self.N):
            x = getattr(self, f"layer{i}")(x, memory, tgt_mask=tgt_mask, memory_mask=memory_mask)
        return self.last(x) if hasattr(self, "last") else x


# %% tags=["alternative"]
@alternative("copies of one layer, as torch does")
class Decoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        import copy

        super().__init__()
        first = DecoderLayer(d_model, h, d_ff, dropout, pre_norm)
        self.blocks = nn.ModuleList([copy.deepcopy(first) for _ in range(N)])
        self.final_norm = LayerNorm(d_model) if pre_norm else None

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        for block in self.blocks:
            x = block(x, memory, tgt_mask, memory_mask)
        return x if self.final_norm is None else self.final_norm(x)


# %% tags=["alternative"]
@alternative("functools.reduce")
class Decoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.norm = nn.Sequential(*([LayerNorm(d_model)] if pre_norm else []))
        self.layers = nn.ModuleList()
        for _ in range(N):
            self.layers.append(DecoderLayer(d_model, h, d_ff, dropout=dropout, pre_norm=pre_norm))

    def forward(self, x, memory, tgt_mask=None, memory_mask=None):
        from functools import reduce

        return self.norm(reduce(lambda y, layer: layer(y, memory, tgt_mask, memory_mask), self.layers, x))


# %% tags=["alternative"]
@alternative("a list of functions")
class Decoder(nn.Module):
    def __init__(self, N=6, d_model=512, h=8, d_ff=2048, dropout=0.1, pre_norm=False):
        super().__init__()
        self.layers = nn.ModuleList([DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N)])
        self.norm = LayerNorm(d_model) if pre_norm else None

    def forward(self, target, memory, tgt_mask=None, memory_mask=None):
        steps = [lambda y, layer=layer: layer(y, memory, tgt_mask, memory_mask) for layer in self.layers]
        if self.norm is not None:
            steps.append(self.norm)
        for step in steps:
            target = step(target)
        return target


# %% [markdown]
# ## Exercise 6 · `Transformer`
#
# *Difficulty ●●● · 30 minutes · 5 points*
#
# Now everything of Figure 1: words to vectors, positions, both stacks, and the way back to words.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | weights | the two embeddings and the output projection share one matrix (section 3.4) | the same with `tied=True`; by default three matrices | one matrix needs one vocabulary for both languages. The paper has that (37,000 word pieces for English and German together); we often have not |
# | output projection | "linear transformation" | no bias | one matrix shared three ways has no room for it; the authors' code has none |
# | result | probabilities | logits, before the softmax | the loss wants logits, and takes the softmax itself, safely |
# | dropout on embeddings | on "the sums of the embeddings and the positional encodings", in both stacks (5.4) | the same | |
# | positions with padding | nothing | counted from a sentence's first word, padding left out | so padding changes nothing, on whichever side it stands. Most code counts columns; that is the same as long as padding stands on the right. The check accepts both |
# | first weights | nothing | `xavier_uniform_` in the stacks | the authors' code draws all matrices from a uniform distribution of the same kind |
#
# The parts are made for you in `__init__`; you tie the weights there, and write how they work together. `decode` takes `src` only for its padding.

# %% tags=["export"]
class Transformer(nn.Module):
    """The model of Figure 1: source and target tokens in, logits of the next target token out.

    Args:
        src_vocab, tgt_vocab: sizes of the vocabularies. d_model, h, N, d_ff, dropout: as in the
            paper, whose base model is the default.
        pad_id: the token number that stands for padding, in both languages.
        tied: source embedding, target embedding and output projection are one matrix, one
            nn.Parameter (section 3.4). ValueError if the vocabularies differ in size.
        pre_norm: norms in front of the sub-layers, see Residual.

    Positions are counted from the first token that is not padding: so padding changes no logit at a
        word, whether it stands on the left or on the right. (What comes out at padded places means
        nothing.)

    May not call nn.Transformer* or nn.MultiheadAttention.
    """

    def __init__(
        self, src_vocab: int, tgt_vocab: int, d_model: int = 512, h: int = 8, N: int = 6,
        d_ff: int = 2048, dropout: float = 0.1,
        pad_id: int = 0, tied: bool = False, pre_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.pad_id = pad_id
        self.src_embedding = Embedding(src_vocab, d_model)
        self.tgt_embedding = Embedding(tgt_vocab, d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.decoder = Decoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.output = nn.Linear(d_model, tgt_vocab, bias=False)
        for matrix in [*self.encoder.parameters(), *self.decoder.parameters()]:
            if matrix.dim() > 1:
                nn.init.xavier_uniform_(matrix)
        nn.init.normal_(self.output.weight, std=d_model**-0.5)  # as the embeddings
        ### BEGIN SOLUTION
        if tied:
            if src_vocab != tgt_vocab:
                raise ValueError(f"tied weights need one vocabulary for both languages, not {src_vocab} and {tgt_vocab} words")
            self.tgt_embedding.weight = self.output.weight = self.src_embedding.weight  # the same parameter, not a copy
        ### END SOLUTION

    def embed(self, tokens: Tensor, embedding: Embedding) -> Tensor:
        """Tokens (B, L) to vectors (B, L, d_model): embedding plus positions, then dropout
        (sections 3.4, 3.5, 5.4)."""
        ### BEGIN SOLUTION
        positions = ((tokens != self.pad_id).cumsum(1) - 1).clamp(min=0)  # words counted, not columns; (B, L)
        return self.dropout(add_positions(embedding(tokens), positions))
        ### END SOLUTION

    def encode(self, src: Tensor) -> Tensor:
        """Source tokens (B, S) to the memory (B, S, d_model)."""
        ### BEGIN SOLUTION
        return self.encoder(self.embed(src, self.src_embedding), padding_mask(src, self.pad_id))
        ### END SOLUTION

    def decode(self, tgt: Tensor, memory: Tensor, src: Tensor) -> Tensor:
        """Target tokens (B, T), the memory (B, S, d_model) and its source tokens (B, S) to logits
        (B, T, tgt_vocab).

        The logits at position t are of the token at t + 1, and depend on no target token after t,
        in training and in eval mode.
        """
        ### BEGIN SOLUTION
        src_mask, tgt_mask = make_masks(src, tgt, self.pad_id)
        return self.output(self.decoder(self.embed(tgt, self.tgt_embedding), memory, tgt_mask, src_mask))
        ### END SOLUTION

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """Source (B, S) and target (B, T) tokens to logits (B, T, tgt_vocab)."""
        ### BEGIN SOLUTION
        return self.decode(tgt, self.encode(src), src)
        ### END SOLUTION


# %%
@check(
    "Transformer", points=5, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention", "torch.nn.functional.multi_head_attention_forward"],
    paper="Figure 1; sections 3.1, 3.4 and 5.4",
)  # fmt: skip
def _(case):
    tables = {}

    def make(name, src_vocab, tgt_vocab, d_model, **options):
        """A model filled from the seed, whatever its parts are called: layers, norms beside them, embeddings, output projection."""
        model = Transformer(src_vocab, tgt_vocab, d_model, **options).to(case.device)
        modules = list(model.modules())
        layers = [m for kind in (EncoderLayer, DecoderLayer) for m in modules if isinstance(m, kind)]
        inside = {id(m) for layer in layers for m in layer.modules()}
        norms = [m for m in modules if isinstance(m, (LayerNorm, nn.LayerNorm)) and id(m) not in inside]
        in_decoder = {id(m) for decoder in modules if isinstance(decoder, Decoder) for m in decoder.modules()}
        norms.sort(key=lambda norm: id(norm) in in_decoder)  # the encoder's first, whichever was made first
        known = {id(p) for m in [*layers, *norms] for p in m.parameters()}
        others = [p for p in model.parameters() if id(p) not in known]
        case.record(f"{name}: parameters", sum(p.numel() for p in model.parameters()))
        case.record(f"{name}: beside layers and norms", sorted(str(tuple(p.shape)) for p in others) or "nothing", about="matrix")
        case.record(f"{name}: layers and norms beside them", [len(layers), len(norms)])
        for module in [*layers, *norms]:
            case.initialise(module)
        values = tables[name] = [case.normal(rows, d_model, scale=d_model**-0.5) for rows in (src_vocab, tgt_vocab, tgt_vocab)]
        looked_up = {id(p) for m in modules if isinstance(m, (Embedding, nn.Embedding)) for p in m.parameters()}
        embeddings = [p for p in others if id(p) in looked_up]
        with torch.no_grad():
            for p in others:
                candidates = values[:1] if len(others) == 1 else values[:2] if id(p) in looked_up else values[2:]
                value = next((v for v in candidates if v.shape == p.shape), None)
                if len(embeddings) == 2 and p is embeddings[1] and src_vocab == tgt_vocab:
                    value = values[1]
                p.copy_(torch.full_like(p, 0.5) if value is None else value)
        return model

    def tokens(*rows):
        return torch.tensor(rows, device=case.device)

    def at_words(model, src, tgt):
        return model(src, tgt)[tgt != model.pad_id]

    model = make("untied", 7, 5, 4, h=2, N=2, d_ff=6).eval()
    case.call("two source words, two target words", model, tokens([3, 1]), tokens([1, 2]))
    case.call("one source word, three target words", model, tokens([6]), tokens([1, 4, 2]))
    src, tgt = tokens([3, 1, 6, 0, 0], [5, 4, 3, 2, 1]), tokens([1, 2, 0, 0], [1, 4, 3, 2])
    case.call("two sentences, padded on the right; logits at words", lambda: at_words(model, src, tgt))
    case.record("encode: the memory at words", model.encode(src)[src != 0])
    model.encode(src.flip(0))  # another source in between: `decode` goes by the one it is given
    case.record("decode: logits at words, for a memory of its own", model.decode(tgt, case.normal(2, 5, 4), src)[tgt != 0])
    other = make("padding has the number 3", 7, 5, 4, h=1, N=1, d_ff=3, pad_id=3).eval()
    case.call("padding has the number 3; logits at words", lambda: at_words(other, tokens([2, 0, 5, 3], [2, 0, 1, 4]), tokens([0, 1, 3], [2, 4, 0])))

    leaky = make("for causality", 9, 8, 6, h=3, N=2, d_ff=5, dropout=0.0)
    src, tgt = case.integers(1, 9, 3, 4), case.integers(1, 8, 3, 6)
    once, again = leaky.train()(src, tgt), leaky(src, tgt)
    case.record("training with dropout 0: the same logits twice", float((again - once).detach().abs().max()), at_most=1e-5, about="difference")
    for mode in ("eval", "train"):
        leaky.train(mode == "train")
        src, tgt = case.integers(1, 9, 3, 4), case.integers(1, 8, 3, 6)
        late, early, source = tgt.clone(), tgt.clone(), src.clone()
        late[:, 3:], early[:, 0], source[:, 0] = late[:, 3:] % 7 + 1, early[:, 0] % 7 + 1, source[:, 0] % 8 + 1
        before = leaky(src, tgt)
        case.record(f"{mode} mode: later words change no earlier logit", float((leaky(src, late) - before)[:, :3].detach().abs().max()), at_most=1e-5, about="change")
        case.record(f"{mode} mode: the first target word reaches the last logits", float((leaky(src, early) - before)[:, -1].detach().abs().max()), at_least=1e-4, about="change")
        case.record(f"{mode} mode: the first source word reaches the first logits", float((leaky(source, tgt) - before)[:, 0].detach().abs().max()), at_least=1e-4, about="change")

    words, answer = case.integers(1, 7, 1, 3), case.integers(1, 5, 1, 3)
    alone, padding = model(words, answer), tokens([0, 0])
    longer = model(torch.cat([words, padding], 1), torch.cat([answer, padding], 1))[:, :3]
    case.record("padding on the right changes nothing", float((longer - alone).detach().abs().max()), at_most=1e-5, about="change")
    left = [torch.cat([padding, words], 1), torch.cat([padding, answer], 1)]
    before = model(*left)[:, 2:].detach()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (Embedding, nn.Embedding)):
                module.weight[0] += 3.0
    case.record("with padding on the left, what the padding holds changes nothing", float((model(*left)[:, 2:] - before).detach().abs().max()), at_most=1e-5, about="change")

    tied = make("tied", 7, 7, 4, h=2, N=1, d_ff=6, tied=True).eval()
    output = case.call("tied weights", tied, tokens([3, 1, 2]), tokens([1, 6]))
    table = next(p for p in tied.parameters() if p.shape == (7, 4))
    case.gradients("tied weights: gradients of the one matrix", output, {"matrix": table})
    case.raises("tied weights, but vocabularies of different sizes", Transformer, 5, 6, d_model=4, h=1, N=1, d_ff=4, tied=True, errors=(ValueError,))
    pre = make("pre-norm", 6, 5, 4, h=2, N=2, d_ff=6, pre_norm=True).eval()
    case.call("pre-norm", pre, tokens([3, 1, 2]), tokens([1, 4]))
    case.call("dropout 1 in training: nothing of the words is left", make("dropout 1", 6, 5, 4, h=2, N=1, d_ff=6, dropout=1.0).train(), tokens([3, 1]), tokens([1, 2, 4]))
    options = inspect.signature(Transformer).parameters
    defaults = {name: options[name].default for name in ("d_model", "h", "N", "d_ff", "dropout", "pad_id", "tied", "pre_norm") if name in options}
    case.record("by default, the paper's base model", defaults, about="the default of")
    ### BEGIN HIDDEN TESTS
    wide = make("wider", 12, 10, 12, h=4, N=2, d_ff=7).eval()
    src, tgt = case.integers(1, 12, 4, 9), case.integers(1, 10, 4, 5)
    src[1, 4:], src[2, 7:], tgt[0, 2:], tgt[2, 4:] = 0, 0, 0, 0
    case.call("four sentences of different lengths; logits at words", lambda: at_words(wide, src, tgt))
    case.record("encode and decode make forward", float((wide.decode(tgt, wide.encode(src), src) - wide(src, tgt)).detach().abs().max()), at_most=1e-6, about="difference")
    case.record("its memory at words", wide.encode(src)[src != 0])
    case.record("pad_id is an attribute", wide.pad_id)
    ours = [m for kind in (EncoderLayer, DecoderLayer) for m in wide.modules() if isinstance(m, kind)]
    every = {f"layer {number}, {name}": parameter for number, layer in enumerate(ours, start=1) for name, parameter in layer.named_parameters()}
    case.gradients("gradients of all layers", at_words(wide, src, tgt), every)
    copy = Transformer(12, 10, 12, h=4, N=2, d_ff=7).to(case.device).eval()
    copy.load_state_dict(wide.state_dict())
    case.record("a copy by state_dict agrees", float((copy(src, tgt) - wide(src, tgt)).detach().abs().max()), at_most=0.0, about="difference")
    copy = Transformer(7, 7, 4, h=2, N=1, d_ff=6, tied=True).to(case.device).eval()
    copy.load_state_dict(tied.state_dict())
    src, tgt = tokens([3, 1, 2]), tokens([1, 6])
    case.record("a copy by state_dict agrees, tied", float((copy(src, tgt) - tied(src, tgt)).detach().abs().max()), at_most=0.0, about="difference")
    theirs = nn.Transformer(12, 4, 2, 2, 7, 0.0, batch_first=True).to(case.device).eval()
    theirs.encoder.norm = theirs.decoder.norm = None  # the paper's post-norm has no last norm
    with torch.no_grad():
        for our, their in zip(ours, [*theirs.encoder.layers, *theirs.decoder.layers]):
            for a, b in [(our.self_attention, their.self_attn)] + ([(our.cross_attention, their.multihead_attn)] if isinstance(our, DecoderLayer) else []):
                b.in_proj_weight.copy_(torch.cat([a.w_q.weight, a.w_k.weight, a.w_v.weight]))
                b.in_proj_bias.copy_(torch.cat([a.w_q.bias, a.w_k.bias, a.w_v.bias]))
                b.out_proj.load_state_dict(a.w_o.state_dict())
            their.linear1.load_state_dict(our.feed_forward.linear1.state_dict())
            their.linear2.load_state_dict(our.feed_forward.linear2.state_dict())
            for i in range(1, 4 if isinstance(our, DecoderLayer) else 3):
                getattr(their, f"norm{i}").load_state_dict(getattr(our, f"residual{i}").norm.state_dict())
    src, tgt, (source_table, target_table, projection) = case.integers(1, 12, 2, 6), case.integers(1, 10, 2, 4), tables["wider"]
    src[0, 4:], tgt[1, 3:] = 0, 0
    embedded = [table[words] * math.sqrt(12) + positional_encoding(words.size(1), 12).to(case.device) for table, words in ((source_table, src), (target_table, tgt))]
    future = torch.ones(4, 4, dtype=torch.bool, device=case.device).triu(1)
    expected = theirs(*embedded, tgt_mask=future, src_key_padding_mask=src == 0, memory_key_padding_mask=src == 0, tgt_key_padding_mask=tgt == 0) @ projection.T
    case.record("agrees with nn.Transformer on copied weights", float((wide(src, tgt) - expected)[tgt != 0].detach().abs().max()), at_most=1e-4, about="difference")
    both = make("tied, pre-norm", 8, 8, 6, h=2, N=1, d_ff=4, tied=True, pre_norm=True).eval()
    case.call("tied weights, pre-norm, padded; logits at words", lambda: at_words(both, tokens([3, 1, 2], [5, 0, 0]), tokens([1, 6], [7, 0])))
    sums = make("dropout 1 on the sums", 7, 5, 4, h=2, N=1, d_ff=6, dropout=1.0).train()
    for module in sums.modules():
        if isinstance(module, (Encoder, EncoderLayer, Decoder, DecoderLayer)):
            module.eval()
    src, tgt = tokens([3, 1, 6], [5, 4, 2]), tokens([1, 4, 2], [3, 2, 1])
    case.record("dropout 1 on the sums alone: encode", sums.encode(src))
    case.record("dropout 1 on the sums alone: decode", sums.decode(tgt, case.normal(2, 3, 4), src))
    often, seen = make("dropout 0.1 on the sums", 7, 5, 40, h=2, N=1, d_ff=6).train(), []
    for module in often.modules():
        if isinstance(module, Encoder):
            module.register_forward_pre_hook(
                lambda module, args, kwargs: seen.append([*inspect.signature(module.forward).bind(*args, **kwargs).arguments.values()][0]), with_kwargs=True
            )
    often.encode(case.integers(1, 7, 20, 30))
    share = float((seen[0] == 0).double().mean()) if seen else 0.1  # who calls the layers themselves is not watched
    case.record("by default about a tenth of the sums is dropped", share, tol=0.25, about="share dropped")
    still = make("padded, training with dropout 0", 9, 8, 6, h=3, N=2, d_ff=5, dropout=0.0).train()
    case.call("training with dropout 0, padded on the right; logits at words", lambda: at_words(still, tokens([3, 1, 6, 0], [5, 4, 3, 2]), tokens([1, 2, 0], [1, 4, 3])))
    src, tgt = tokens([0, 0, 3, 1, 6], [5, 4, 3, 2, 1]), tokens([0, 1, 2, 4], [1, 4, 3, 2])
    apart = torch.cat([still(src[i : i + 1], tgt[i : i + 1]) for i in range(2)])
    case.record("two sentences padded on the left: each as if it were alone", float((still(src, tgt) - apart)[tgt != 0].detach().abs().max()), at_most=1e-4, about="difference")
    make("untied, as many words in both languages", 7, 7, 4, h=2, N=1, d_ff=6)
    case.raises("tied weights, a larger source vocabulary", Transformer, 6, 5, d_model=4, h=1, N=1, d_ff=4, tied=True, errors=(ValueError,))
    before = still(src, tgt).detach()
    with torch.no_grad():
        for p in [p for m in still.modules() if isinstance(m, EncoderLayer) for p in m.parameters()]:
            p += 0.3 * case.normal(*p.shape)
    case.record("after other weights, other logits", float((still(src, tgt) - before).detach().abs().max()), at_least=1e-3, about="change")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Transformer",
    "Follow one source word and one target word through Figure 1 with a finger, and name each part as you pass it. Which of them are made in `__init__` already?",
    "Section 3.4 for the shared matrix, 5.4 for the dropout on the sums, 3.2.3 for the masks. nn.Linear keeps its matrix as (outputs, inputs): the same shape as an embedding's table.",
    "Embed: look up, add positions, drop. Encode: embed the source, and run the encoder under the source's padding mask. Decode: make both masks, embed the target, run the decoder with memory and masks, "
    "and project to the vocabulary. Forward is decode of encode. To tie, assign one nn.Parameter to all three places.",
)
misconceptions(
    "Transformer",
    mistake(
        "no positions",
        ("add_positions(embedding(tokens), positions)", "embedding(tokens)"),
        says="No positions are added to the embeddings, so the model cannot tell the order of the source words.",
    ),
    mistake(
        "positions along the batch",
        ("add_positions(embedding(tokens), positions)", "embedding(tokens) + positional_encoding(tokens.size(0), embedding.weight.size(1)).unsqueeze(1).to(tokens.device)"),
        says="The positions are added along the batch axis: all words of a sentence get the same one.",
    ),
    mistake(
        "positions from 1",
        ("add_positions(embedding(tokens), positions)", "add_positions(embedding(tokens), positions + 1)"),
        says="The first word stands at position 1; positions count from 0.",
    ),
    mistake(
        "padding is always 0",
        ("self.pad_id = pad_id", "self.pad_id = 0"),
        says="Padding is taken to be 0, whatever `pad_id` says.",
    ),
    mistake(
        "no dropout on the embeddings",
        ("self.dropout(add_positions(embedding(tokens), positions))", "add_positions(embedding(tokens), positions)"),
        says="Nothing is dropped from the sums of embeddings and positions; section 5.4 does, in both stacks.",
    ),
    mistake(
        "embeddings dropped at a rate of their own",
        ("self.dropout(add_positions(embedding(tokens), positions))", "nn.functional.dropout(add_positions(embedding(tokens), positions), 0.1, self.training)"),
        says="A tenth of the embedded words is dropped in training, whatever `dropout` says.",
    ),
    mistake(
        "dropout before the positions",
        ("self.dropout(add_positions(embedding(tokens), positions))", "add_positions(self.dropout(embedding(tokens)), positions)"),
        says="The dropout acts on the embeddings before the positions are added; section 5.4 drops from the sum.",
    ),
    mistake(
        "√d_model twice",
        ("add_positions(embedding(tokens), positions)", "add_positions(embedding(tokens) * math.sqrt(embedding.weight.size(1)), positions)"),
        says="The embeddings are multiplied by √d_model a second time; `Embedding` does that already.",
    ),
    mistake(
        "source padding not hidden from the encoder",
        ("self.encoder(self.embed(src, self.src_embedding), padding_mask(src, self.pad_id))", "self.encoder(self.embed(src, self.src_embedding))"),
        says="The encoder gets no mask, so source words attend to padding.",
    ),
    mistake(
        "source padding not hidden from the decoder",
        ("memory, tgt_mask, src_mask))", "memory, tgt_mask))"),
        says="Cross-attention gets no mask, so target words attend to the source's padding.",
    ),
    mistake(
        "no target mask",
        ("memory, tgt_mask, src_mask))", "memory, None, src_mask))"),
        says="The decoder's self-attention gets no mask: each word sees the word it is to predict, and the target's padding.",
    ),
    mistake(
        "no causal mask in eval mode",
        ("memory, tgt_mask, src_mask))", "memory, tgt_mask if self.training else padding_mask(tgt, self.pad_id), src_mask))"),
        says="In eval mode the future is not hidden. It has to be in both: otherwise the logits are computed from words the model will not have.",
    ),
    mistake(
        "no causal mask in training",
        ("memory, tgt_mask, src_mask))", "memory, padding_mask(tgt, self.pad_id) if self.training else tgt_mask, src_mask))"),
        says="In training mode the future is not hidden: the model learns to copy the next word, which stands before it, and nothing else.",
    ),
    mistake(
        "causal encoder",
        ("padding_mask(src, self.pad_id))", "combine_masks(padding_mask(src, self.pad_id), causal_mask(src.size(1)).to(src.device)))"),
        says="The encoder hides the future of the source; the source is known from the start, and every word of it may see every other.",
    ),
    mistake(
        "target embedded with the source's table",
        ("self.embed(tgt, self.tgt_embedding)", "self.embed(tgt, self.src_embedding)"),
        says="The target's tokens are looked up in the source's table; each language has its own, unless they are tied.",
    ),
    mistake(
        "target padding forgotten",
        ("make_masks(src, tgt, self.pad_id)", "(padding_mask(src, self.pad_id), causal_mask(tgt.size(1)).to(tgt.device))"),
        says="The target's mask hides the future but not the padding; with padding on the left, words attend to it.",
    ),
    mistake(
        "source mask kept from encode",
        ("return self.encoder(self.embed(src, self.src_embedding), padding_mask(src, self.pad_id))",
         "self.src_mask = padding_mask(src, self.pad_id)\n        return self.encoder(self.embed(src, self.src_embedding), self.src_mask)"),  # fmt: skip
        ("memory, tgt_mask, src_mask))", "memory, tgt_mask, self.src_mask))"),
        says="`decode` hides the padding of the source that was encoded last, not of the `src` that it is given.",
    ),
    mistake(
        "memory ignored",
        ("memory, tgt_mask, src_mask))", "self.embed(src, self.src_embedding), tgt_mask, src_mask))"),
        says="The decoder attends to the embedded source instead of the memory: the encoder has no effect.",
    ),
    mistake(
        "probabilities",
        ("return self.output(self.decoder(self.embed(tgt, self.tgt_embedding), memory, tgt_mask, src_mask))",
         "return self.output(self.decoder(self.embed(tgt, self.tgt_embedding), memory, tgt_mask, src_mask)).softmax(-1)"),  # fmt: skip
        says="The result is probabilities; logits are asked for. The loss takes the softmax itself, and a second one would flatten everything.",
    ),
    mistake(
        "log-probabilities",
        ("return self.output(self.decoder(self.embed(tgt, self.tgt_embedding), memory, tgt_mask, src_mask))",
         "return self.output(self.decoder(self.embed(tgt, self.tgt_embedding), memory, tgt_mask, src_mask)).log_softmax(-1)"),  # fmt: skip
        says="The result is log-probabilities; logits are asked for.",
    ),
    mistake(
        "a bias in the output projection",
        ("tgt_vocab, bias=False)", "tgt_vocab)"),
        says="The output projection has a bias; here it has none, since the matrix it can be shared with has no room for one.",
    ),
    mistake(
        "weights never tied",
        ("            self.tgt_embedding.weight = self.output.weight = self.src_embedding.weight  # the same parameter, not a copy", "            pass"),
        says="tied=True changes nothing: there are still three matrices.",
    ),
    mistake(
        "tied two ways",
        ("self.tgt_embedding.weight = self.output.weight = self.src_embedding.weight", "self.output.weight = self.tgt_embedding.weight"),
        says="The output projection shares the target's embedding, but the source has its own; section 3.4 shares one matrix three ways.",
    ),
    mistake(
        "only the embeddings tied",
        ("self.tgt_embedding.weight = self.output.weight = self.src_embedding.weight", "self.tgt_embedding.weight = self.src_embedding.weight"),
        says="The two embeddings share a matrix, but the output projection has its own; section 3.4 shares one matrix three ways.",
    ),
    mistake(
        "always tied where possible",
        ("        if tied:\n            if src_vocab != tgt_vocab:", "        if True:\n            if not tied and src_vocab != tgt_vocab:\n                self.output.weight = self.tgt_embedding.weight\n                return\n            if src_vocab != tgt_vocab:"),
        says="The output projection shares the target's embedding though tied is False; then all three are separate.",
    ),
    mistake(
        "no error for unequal vocabularies",
        ("                raise ValueError(f\"tied weights need one vocabulary for both languages, not {src_vocab} and {tgt_vocab} words\")", "                return"),
        says="tied=True with vocabularies of different sizes is passed over in silence; one matrix cannot serve both, and an error has to say so.",
    ),
    mistake(
        "an assertion for unequal vocabularies",
        ("            if src_vocab != tgt_vocab:\n                raise ValueError(f\"tied weights need one vocabulary for both languages, not {src_vocab} and {tgt_vocab} words\")",
         "            assert src_vocab == tgt_vocab"),  # fmt: skip
        says="tied=True with vocabularies of different sizes fails at an `assert`; a ValueError is asked for. An assertion is for what cannot happen, and `python -O` leaves it out.",
    ),
    mistake(
        "always post-norm",
        ("self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm)", "self.encoder = Encoder(N, d_model, h, d_ff, dropout)"),
        ("self.decoder = Decoder(N, d_model, h, d_ff, dropout, pre_norm)", "self.decoder = Decoder(N, d_model, h, d_ff, dropout)"),
        says="`pre_norm` is not handed on to the stacks.",
    ),
    mistake(
        "one head always",
        ("self.encoder = Encoder(N, d_model, h,", "self.encoder = Encoder(N, d_model, 1,"),
        ("self.decoder = Decoder(N, d_model, h,", "self.decoder = Decoder(N, d_model, 1,"),
        says="`h` is not handed on to the stacks.",
    ),
    mistake(
        "one encoder layer too few",
        ("Encoder(N, d_model", "Encoder(N - 1 or 1, d_model"),
        says="The encoder has one layer less than `N` says.",
    ),
)
equivalents(
    "Transformer",
    {
        "call dropped: `positions = ((tokens != self.pad_id).cumsum(1) - 1).clamp(min=0)` → `positions = (tokens != self.pad_id).cumsum(1) - 1`":
            "only padding on the left gets position −1, and padding is hidden",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("columns counted, encoding in a buffer, other names")
class Transformer(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=512, h=8, N=6, d_ff=2048, dropout=0.1, pad_id=0, tied=False, pre_norm=False):
        super().__init__()
        if tied and src_vocab != tgt_vocab:
            raise ValueError("tied weights need equal vocabularies")
        self.pad_id = pad_id
        self.enc = Encoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.dec = Decoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.source_words, self.target_words = Embedding(src_vocab, d_model), Embedding(tgt_vocab, d_model)
        self.generator = nn.Linear(d_model, tgt_vocab, bias=False)
        if tied:
            self.target_words.weight = self.source_words.weight
            self.generator.weight = self.source_words.weight
        self.drop = nn.Dropout(dropout)
        self.register_buffer("pe", positional_encoding(512, d_model))

    def encode(self, src):
        x = self.drop(self.source_words(src) + self.pe[: src.size(1)])
        return self.enc(x, (src != self.pad_id).unsqueeze(1))

    def decode(self, tgt, memory, src):
        src_mask, tgt_mask = make_masks(src, tgt, self.pad_id)
        y = self.drop(self.target_words(tgt) + self.pe[: tgt.size(1)])
        return self.generator(self.dec(y, memory, tgt_mask, src_mask))

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)


# %% tags=["alternative"]
@alternative("the table itself as the output projection; layers without the stacks")
class Transformer(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=512, h=8, N=6, d_ff=2048, dropout=0.1, pad_id=0, tied=False, pre_norm=False):
        super().__init__()
        if tied and src_vocab != tgt_vocab:
            raise ValueError("one matrix, one vocabulary")
        self.pad_id, self.p = pad_id, dropout
        self.src_embedding = Embedding(src_vocab, d_model)
        self.tgt_embedding = self.src_embedding if tied else Embedding(tgt_vocab, d_model)
        self.projection = None if tied else nn.Parameter(torch.randn(tgt_vocab, d_model) * d_model**-0.5)
        self.encoder_layers = nn.ModuleList(EncoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))
        self.decoder_layers = nn.ModuleList(DecoderLayer(d_model, h, d_ff, dropout, pre_norm) for _ in range(N))
        self.encoder_norm = LayerNorm(d_model) if pre_norm else nn.Identity()
        self.decoder_norm = LayerNorm(d_model) if pre_norm else nn.Identity()

    def encode(self, src):
        x = F.dropout(add_positions(self.src_embedding(src)), self.p, self.training)
        for layer in self.encoder_layers:
            x = layer(x, padding_mask(src, self.pad_id))
        return self.encoder_norm(x)

    def decode(self, tgt, memory, src):
        x = F.dropout(add_positions(self.tgt_embedding(tgt)), self.p, self.training)
        src_mask, tgt_mask = make_masks(src, tgt, self.pad_id)
        for layer in self.decoder_layers:
            x = layer(x, memory, tgt_mask, src_mask)
        return F.linear(self.decoder_norm(x), self.tgt_embedding.weight if self.projection is None else self.projection)

    def forward(self, src, tgt):
        memory = self.encode(src)
        return self.decode(tgt, memory, src)


# %% tags=["alternative"]
@alternative("tied first, nn.Embedding scaled by hand")
class Transformer(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=512, h=8, N=6, d_ff=2048, dropout=0.1, pad_id=0, tied=False, pre_norm=False):
        super().__init__()
        self.pad_id, self.scale = pad_id, math.sqrt(d_model)
        self.output = nn.Linear(d_model, tgt_vocab, bias=False)
        self.src_embedding, self.tgt_embedding = nn.Embedding(src_vocab, d_model), nn.Embedding(tgt_vocab, d_model)
        if tied:
            if src_vocab != tgt_vocab:
                raise ValueError("tied needs src_vocab == tgt_vocab")
            self.src_embedding.weight = self.tgt_embedding.weight = self.output.weight
        self.dropout = nn.Dropout(dropout)
        self.encoder, self.decoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm), Decoder(N, d_model, h, d_ff, dropout, pre_norm)

    def words(self, table, tokens):
        x = table(tokens) * self.scale
        return self.dropout(x + positional_encoding(tokens.shape[1], x.shape[2]).to(x)[None])

    def encode(self, src):
        return self.encoder(self.words(self.src_embedding, src), mask=make_masks(src, src, self.pad_id)[0])

    def decode(self, tgt, memory, src):
        masks = make_masks(src, tgt, self.pad_id)
        x = self.decoder(self.words(self.tgt_embedding, tgt), memory, tgt_mask=masks[1], memory_mask=masks[0])
        return self.output(x)

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)


# %% tags=["alternative"]
@alternative("words counted sentence by sentence, einsum at the end")
class Transformer(nn.Module):
    def __init__(self, src_vocab, tgt_vocab, d_model=512, h=8, N=6, d_ff=2048, dropout=0.1, pad_id=0, tied=False, pre_norm=False):
        super().__init__()
        if tied and src_vocab != tgt_vocab:
            raise ValueError("vocabularies differ")
        self.pad_id = pad_id
        self.dropout = nn.Dropout(dropout)
        self.decoder = Decoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm)
        self.src_embedding = Embedding(src_vocab, d_model)
        self.tgt_embedding = Embedding(tgt_vocab, d_model)
        self.output = nn.Linear(d_model, tgt_vocab, bias=False)
        if tied:
            shared = nn.Parameter(torch.randn(src_vocab, d_model) / math.sqrt(d_model))
            for module in (self.src_embedding, self.tgt_embedding, self.output):
                module.weight = shared

    def _embed(self, table, tokens):
        places = torch.zeros_like(tokens)
        for row, sentence in zip(places, tokens):
            words = sentence != self.pad_id
            row[words] = torch.arange(int(words.sum()), device=tokens.device)
        return self.dropout(add_positions(table(tokens), places))

    def encode(self, src):
        return self.encoder(self._embed(self.src_embedding, src), padding_mask(src, self.pad_id))

    def decode(self, tgt, memory, src):
        mask = padding_mask(tgt, self.pad_id) & causal_mask(tgt.size(1)).to(tgt.device)
        x = self.decoder(self._embed(self.tgt_embedding, tgt), memory, mask, padding_mask(src, self.pad_id))
        return torch.einsum("btd,vd->btv", x, self.output.weight)

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)


# %% [markdown]
# ### Try it: does week 1's formula count this model?
#
# In week 1 you counted the parameters of a model that did not exist yet. Here it is.

# %% tags=["picture"]
for config in (
    TransformerConfig(N=2, d_model=24, h=3, d_ff=50, src_vocab=31, tgt_vocab=29, tied=False),
    TransformerConfig(N=3, d_model=20, h=5, d_ff=30, src_vocab=70, tgt_vocab=70, tied=True),
    TransformerConfig(),
    TransformerConfig(d_model=1024, h=16, d_ff=4096),
):
    with torch.device("meta"):  # sizes without memory
        model = Transformer(config.src_vocab, config.tgt_vocab, config.d_model, config.h, config.N, config.d_ff, tied=config.tied)
    built, counted = sum(parameter.numel() for parameter in model.parameters()), parameter_count(config)
    print(f"built {built:11,}   counted {counted:11,}   {'equal' if built == counted else 'DIFFERENT'}   {config}")

# %% [markdown]
# ### Try it: the same as `nn.Transformer`
#
# PyTorch has the whole model ready-made. We copy our weights into it, layer by layer, and give both the same embedded sentences. Two differences have to be taken out first: PyTorch adds a last norm to each stack even in
# post-norm, which the paper has not, and its masks mean the opposite (True = may *not*).

# %% tags=["picture"]
def copy_into_torch(model, theirs):
    """Our layers' weights into an nn.Transformer's."""
    with torch.no_grad():
        for ours, torchs in zip([*model.encoder.layers, *model.decoder.layers], [*theirs.encoder.layers, *theirs.decoder.layers]):
            pairs = [(ours.self_attention, torchs.self_attn)]
            if isinstance(ours, DecoderLayer):
                pairs.append((ours.cross_attention, torchs.multihead_attn))
            for attention, packed in pairs:
                packed.in_proj_weight.copy_(torch.cat([attention.w_q.weight, attention.w_k.weight, attention.w_v.weight]))
                packed.in_proj_bias.copy_(torch.cat([attention.w_q.bias, attention.w_k.bias, attention.w_v.bias]))
                packed.out_proj.load_state_dict(attention.w_o.state_dict())
            torchs.linear1.load_state_dict(ours.feed_forward.linear1.state_dict())
            torchs.linear2.load_state_dict(ours.feed_forward.linear2.state_dict())
            for i in range(1, 2 + len(pairs)):
                getattr(torchs, f"norm{i}").load_state_dict(getattr(ours, f"residual{i}").norm.state_dict())


warnings.filterwarnings("ignore", message=".*nested tensors.*")  # PyTorch's own way with padding, announced as a prototype
torch.manual_seed(SEED)
model = Transformer(50, 40, d_model=64, h=4, N=3, d_ff=128).eval()
with torch.no_grad():
    for parameter in model.parameters():  # move everything at random, as training would
        parameter += 0.1 * torch.randn_like(parameter)
theirs = nn.Transformer(64, 4, 3, 3, 128, batch_first=True).eval()
copy_into_torch(model, theirs)
src, tgt = torch.randint(1, 50, (3, 9)), torch.randint(1, 40, (3, 7))
src[0, 6:], tgt[1, 5:] = 0, 0
hidden = {"src_key_padding_mask": src == 0, "memory_key_padding_mask": src == 0, "tgt_key_padding_mask": tgt == 0}
with torch.no_grad():
    embedded = model.embed(src, model.src_embedding), model.embed(tgt, model.tgt_embedding)
    future = ~causal_mask(7)
    for name in ("as torch builds it, with two last norms", "without them, as in the paper"):
        difference = (model.output(theirs(*embedded, tgt_mask=future, **hidden)) - model(src, tgt))[tgt != 0].abs().max()
        print(f"nn.Transformer {name}: largest difference of a logit {difference:.1e}")
        theirs.encoder.norm = theirs.decoder.norm = None

# %% [markdown]
# **What to see.** Without the extra norms the difference is rounding. With them it is not, since the weights have been moved from where they start. (At the start it would be tiny: a new norm has weight 1 and bias 0, and the norm of something that has
# just been normalised changes next to nothing. A comparison of fresh models can miss a superfluous norm.)

# %% [markdown]
# ### Try it: who can hear whom
#
# How much do the logits at a target position change with the vector of a target or source word? The picture shows the size of that derivative for every pair, for a pair of sentences with padding, on the right and on the left.

# %% tags=["picture"]
torch.manual_seed(SEED)
model = Transformer(30, 30, d_model=32, h=4, N=2, d_ff=64).eval()
german, english = [5, 6, 7, 8], [9, 10, 11, 12, 13]  # four words, five words


def hearing(src, tgt):
    """The size of d logits[t] / d embedding[s], for source and target words."""
    found = {}
    x, y = model.embed(src, model.src_embedding).detach().requires_grad_(), model.embed(tgt, model.tgt_embedding).detach().requires_grad_()
    src_mask, tgt_mask = make_masks(src, tgt, 0)
    logits = model.output(model.decoder(y, model.encoder(x, src_mask), tgt_mask, src_mask))[0]
    rows = [torch.autograd.grad((row * torch.linspace(-1, 1, 30)).sum(), [x, y], retain_graph=True) for row in logits]
    found["source"] = torch.stack([row[0][0].norm(dim=-1) for row in rows])
    found["target"] = torch.stack([row[1][0].norm(dim=-1) for row in rows])
    return found


figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
batches = {
    "right": (torch.tensor([german + [0, 0, 0]]), torch.tensor([english + [0, 0]])),
    "left": (torch.tensor([[0, 0, 0] + german]), torch.tensor([[0, 0] + english])),
}
for pair, (side, (src, tgt)) in zip((axes[:2], axes[2:]), batches.items()):
    found = hearing(src, tgt)
    for axis, (name, sentence) in zip(pair, (("target", tgt), ("source", src))):
        image = axis.imshow(found[name], cmap="cividis", vmin=0, vmax=found[name].max())
        labels = [f"{name[0]}{n}" if token else "pad" for n, token in zip(((sentence[0] != 0).cumsum(0)).tolist(), sentence[0])]
        axis.set_xticks(range(len(labels)), labels, fontsize=8)
        axis.set_yticks(range(tgt.size(1)), [f"t{n}" if token else "pad" for n, token in zip(((tgt[0] != 0).cumsum(0)).tolist(), tgt[0])], fontsize=8)
        axis.set(title=f"padding on the {side}", xlabel=f"the vector of this {name} word")
        figure.colorbar(image, ax=axis, shrink=0.6, label="size of the derivative" if axis is axes[-1] else None)
axes[0].set_ylabel("logits at")
plt.show()
with torch.no_grad():
    logits = [model(src, tgt)[tgt != 0] for src, tgt in batches.values()]
print(f"logits at words, padding on the right against the left: largest difference {(logits[0] - logits[1]).abs().max():.1e}")

# %% [markdown]
# **What to see.** Target on target: nothing above the diagonal, the future is silent, and columns of padding are dark (but for a padded place's residual path to itself, and nobody looks at what comes out there). Target on source: every target word hears every source word, and no padding. The two sides show the same pattern, moved,
# and the logits agree to rounding: since positions are counted from the first word, a sentence comes out the same whichever side it is padded on.

# %% [markdown] written="three_masks" points=2
# ## Question 1 · a leak
#
# *2 points, graded by a person*
#
# A colleague's model reaches a training loss of nearly 0 within minutes; when it translates word by word, it writes nonsense. (a) Which line would you look at first, and why does that mistake produce just these two signs?
# (b) Describe a test of five lines that finds it without any training.
#
# ### BEGIN SOLUTION
# (a) The mask of the decoder's self-attention. If the future is not hidden, position $t$ sees the token at $t + 1$, which is its own label: copying it gives a loss near 0, and nothing else is learned. When translating, the
# token at $t + 1$ does not exist yet, so the model has nothing to copy and never learned to do without. (The same signs come from targets that were not shifted: then the label is the input at the *same* position.)
#
# (b) Run the model on some tokens; change the tokens after a position $t$; run it again; the logits up to $t$ have to be equal (to rounding), in training mode (dropout 0) and in eval mode. Or: the derivative of logits at $t$ with respect
# to the embedding of a later word has to be 0.
#
# **Rubric.** 1 point for (a): mask (or shift) named ½, both signs explained ½. 1 point for (b): later tokens changed, earlier outputs compared; ½ if only "check the mask" or only one mode where the mode matters.
# ### END SOLUTION

# %% [markdown] written="one_matrix" points=2
# ## Question 2 · one matrix for three jobs
#
# *2 points, graded by a person*
#
# (a) How many parameters does tying save in the base model with 37,000 word pieces, and what share of the untied model is that? (b) Why is it plausible that one matrix can serve as embedding *and* as output projection? (c) When would
# you not tie?
#
# ### BEGIN SOLUTION
# (a) Two of three matrices of $37{,}000 \times 512 = 18{,}944{,}000$: 37,888,000 parameters. The untied model has $44{,}138{,}496$ in its layers plus $3 \cdot 18{,}944{,}000$, about 101.0 million, so 38 %.
#
# (b) The logit of a word is the dot product of the decoder's output with that word's row. Rows of words that mean similar things should be similar for both jobs: in the embedding because they are to be treated alike, in the projection because they
# are likely in the same places.
#
# (c) With separate vocabularies (other scripts, other word pieces), where equal numbers mean unrelated words, at least the source is left out; when there is so much data that the extra parameters help.
#
# **Rubric.** ½ the saving, ½ the share (37 to 38 %). ½ similar rows for similar words. ½ any sound reason not to.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - An encoder layer has two sub-layers, a decoder layer three; each is wrapped in a residual connection, with the norm behind (as printed) or in front.
# - Two masks serve three attentions: source words for the encoder and for cross-attention, target words up to here for the decoder, in training and in use alike.
# - Weights can be tied three ways; then `nn.Linear` and both embeddings hold the same parameter.
# - With our weights, `nn.Transformer` computes what your `Transformer` computes.
#
# **Next**: `training_a_translator`, where it learns: first to copy, then to count in German. It is there already:
# `from papers.transformer.model import Transformer, make_masks`.

# %% tags=["picture"]
score()
