# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Scaled dot-product attention
#     order: 1
#     exports: papers.transformer.attention
#     minutes: 75
# ---

# %% [markdown]
# # Scaled dot-product attention
#
# *Attention Is All You Need*, sections 3.2.1 (equation 1) and 3.2.3 (masks) · about 75 minutes
#
# At the end of this notebook you can
#
# - compute attention for any number of leading dimensions, in single and half precision;
# - show by experiment where the $\sqrt{d_k}$ comes from;
# - build the two masks of a Transformer, combine them, and say what happens to a query that may attend to nothing.
#
# **Week 2 of the roadmap, steps 1 and 2.**
#
# 1. Watch [Attention Is All You Need – Yannic Kilcher](https://www.youtube.com/watch?v=iDulhoQ2pro) (about 32 min).
# 2. Read sections 3 and 5 of [the paper](https://arxiv.org/pdf/1706.03762). Break down scaled dot-product attention
#    and multi-head attention mathematically in your notes: write the shape of every matrix under it.
# 3. Implement scaled dot-product attention in PyTorch from scratch: this notebook.
#
# Step 3 of the roadmap, multi-head attention, is the next notebook.

# %% tags=["export"]
import math

import torch
from torch import Tensor

# %%
import matplotlib.pyplot as plt
import torch.nn.functional as F

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## A look-up that is allowed to hesitate
#
# A Python dictionary compares a query with every key and returns the value of the one key that is equal. Attention
# compares a query with every key and returns a weighted average of all the values, where a key that is more similar
# to the query weighs more. An average can be differentiated, so what to look for (queries), how to be found (keys)
# and what to hand over (values) can all be learned.
#
# | symbol | shape | holds, row by row |
# | --- | --- | --- |
# | $Q$ | $L_q \times d_k$ | a query: what this position looks for |
# | $K$ | $L_k \times d_k$ | a key: how this position is found |
# | $V$ | $L_k \times d_v$ | a value: what this position hands over |
#
# There are as many keys as values, since they come in pairs. There may be more or fewer queries, and $d_v$ need not
# be $d_k$. Keep these letters apart in your head: most mistakes below compute something of the right shape along the
# wrong one.

# %% [markdown]
# ## Where $\sqrt{d_k}$ comes from
#
# Similarity is the dot product $q \cdot k = \sum_{i=1}^{d_k} q_i k_i$. Footnote 4 of the paper does the arithmetic:
# if all components are independent with mean 0 and variance 1, each product $q_i k_i$ has mean 0 and variance 1, and
# the sum of $d_k$ of them has variance $d_k$. So the scores' standard deviation is $\sqrt{d_k}$: the wider the
# vectors, the larger the scores, though nothing became more similar.
#
# Large scores are a problem because of the softmax. With weights $p = \mathrm{softmax}(s)$,
#
# $$\frac{\partial p_i}{\partial s_j} = p_i\,(\delta_{ij} - p_j),$$
#
# which is 0 for all $i, j$ as soon as one $p_i$ is 1. Below we draw random queries and 16 random keys and measure
# both.

# %% tags=["picture"]
generator = torch.Generator().manual_seed(SEED)
widths = [2**n for n in range(1, 11)]
spread, slope = {"raw": [], "scaled": []}, {"raw": [], "scaled": []}
for d_k in widths:
    queries, keys = torch.randn(500, 1, d_k, generator=generator), torch.randn(500, 16, d_k, generator=generator)
    raw = (queries * keys).sum(-1)  # 500 rows of 16 scores
    for name, s in {"raw": raw, "scaled": raw / math.sqrt(d_k)}.items():
        p = torch.softmax(s, dim=-1)
        jacobian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        spread[name].append(s.std().item())
        slope[name].append(jacobian.flatten(1).norm(dim=1).mean().item())

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(widths, [math.sqrt(d) for d in widths], color=GREY, linestyle="--", label=r"$\sqrt{d_k}$")
styles = {"raw": (r"$q \cdot k$", ORANGE, "o"), "scaled": (r"$q \cdot k\,/\sqrt{d_k}$", BLUE, "s")}
for name, (label, colour, marker) in styles.items():
    left.plot(widths, spread[name], marker, color=colour, label=label)
    right.plot(widths, slope[name], marker + "-", color=colour, label=label)
left.set(title="How large the scores are", yscale="log", ylabel="standard deviation of the scores")
left.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
right.set(title="How much the weights still respond", ylim=(0, None), ylabel=r"mean $\|\partial p/\partial s\|$")
for axis in (left, right):
    axis.set(xscale="log", xlabel=r"width of queries and keys, $d_k$")
    axis.set_xticks(widths[1::2], [str(d) for d in widths[1::2]])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
plt.show()
for name, what in {"raw": "q·k", "scaled": "q·k / √d_k"}.items():
    print(f"d_k = {widths[-1]}, {what:10}: spread of the scores {spread[name][-1]:5.2f}, slope {slope[name][-1]:.3f}")

# %% [markdown]
# **What to see.** Left: the raw scores lie on the dashed line $\sqrt{d_k}$; divided by it they stay at 1 for every
# width. Right: the slope of the softmax, as the Frobenius norm of $\partial p/\partial s$. With raw scores it falls
# towards 0 once $d_k$ is larger than about 8, and with it whatever gradient descent could learn. With scaled scores it
# is the same at every width.

# %% [markdown]
# ## Exercise 1 · `scaled_dot_product_attention`
#
# *Difficulty ●●○ · 25 minutes · 5 points*
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}}\right)V \tag{1}$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | leading dimensions | $Q$, $K$, $V$ are matrices | any dimensions in front: batch, heads | one call for all sentences and heads |
# | mask | scores that must not count are set to $-\infty$ (section 3.2.3) | a boolean mask, True = *may attend*, broadcast to the scores | reads as the question "may this query see this key?" |
# | a query with nothing to attend to | nothing | zero weights, a zero output, finite gradients | a softmax over $-\infty$ alone is 0/0 = NaN, and one NaN spreads to every parameter |
# | result | the output | the output and the weights | we want to look at the weights |
#
# The mask takes part *before* the softmax, so the weights of what remains add up to 1. The last two points of this
# exercise are partial credit: one is for queries with nothing to attend to, one for half precision, where numbers end
# at 65,504.
#
# Stuck? `hint("scaled_dot_product_attention")` gives a nudge; call it again for the paper's sentence, and a third
# time for the approach in words.


# %% tags=["export"]
def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Equation 1 of the paper, for any leading dimensions.

    Args:
        q: queries, (…, Lq, d_k).
        k: keys, (…, Lk, d_k).
        v: values, (…, Lk, d_v).
        mask: boolean, broadcastable to (…, Lq, Lk); True where a query may attend to a key.
            None: every query may attend to every key.

    Returns: the output (…, Lq, d_v) and the weights (…, Lq, Lk), both in the dtype of the inputs.
        A query that may attend to no key has weights and output 0. The inputs are not changed.

    May not call F.scaled_dot_product_attention, F.multi_head_attention_forward,
        nn.MultiheadAttention or nn.Transformer*.
    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (…, Lq, Lk)
    if mask is not None:
        # the lowest finite number instead of −∞: a row of nothing else then has a softmax, and gradients, without NaN
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)  # only changes rows with nothing to attend to
    return weights @ v, weights
    ### END SOLUTION


# %%
@check(
    "scaled_dot_product_attention",
    points=5,
    forbid=[
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.multi_head_attention_forward",
        "torch.nn.MultiheadAttention",
        "torch.nn.Transformer*",
    ],
    paper="section 3.2.1, equation 1",
)
def _(case):
    def attend(name, q, k, v, mask=None):
        masked = {} if mask is None else {"mask": mask.to(case.device)}
        return case.call(name, scaled_dot_product_attention, q, k, v, labels=("output", "weights"), **masked)

    def qkv(*leading, Lq, Lk, d_k, d_v, scale=1.0):
        return [case.normal(*leading, *shape, scale=scale) for shape in ((Lq, d_k), (Lk, d_k), (Lk, d_v))]

    def keys_with_offset(offset):  # scores of one size, `offset`, plus something small: all exact in half precision
        q, k, v = case.integers(-1, 2, 3, 16).float(), case.integers(-1, 2, 5, 16).float(), case.normal(5, 2)
        q[:, 0], k[:, 0] = 16.0, offset / 4
        return q, k, v

    attend("one query, three keys", *qkv(Lq=1, Lk=3, d_k=2, d_v=1))
    mask = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0]]).bool()
    attend("two queries, four keys, a mask", *qkv(Lq=2, Lk=4, d_k=2, d_v=1), mask)
    attend("a batch of three, no heads", *qkv(3, Lq=2, Lk=4, d_k=5, d_v=6))
    attend("batch and heads", *qkv(2, 3, Lq=4, Lk=5, d_k=8, d_v=6))
    causal = torch.ones(4, 4).tril().bool()
    attend("causal mask (Lq, Lk), shared by batch and heads", *qkv(2, 3, Lq=4, Lk=4, d_k=5, d_v=6), causal)
    padding = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]).bool()[:, None, None, :]  # right and left
    attend("padding mask (batch, 1, 1, Lk), another for each sentence", *qkv(2, 3, Lq=4, Lk=6, d_k=5, d_v=2), padding)
    first, second = [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], [[1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    heads = torch.tensor([first, second]).bool()
    attend("a mask for each head, (heads, Lq, Lk), shared by the batch", *qkv(2, 2, Lq=3, Lk=4, d_k=5, d_v=6), heads)

    q, k, v = [x.requires_grad_() for x in qkv(2, 3, Lq=4, Lk=5, d_k=3, d_v=2)]
    mask = case.boolean(4, 5)
    mask[:, 0] = True
    output, _ = attend("inputs that require gradients", q, k, v, mask)
    case.gradients("gradients of the output", output, q, k, v)
    # √9 is exact in float32 as well: it may be computed there
    attend("float64 stays float64", *case.cast(torch.float64, *qkv(2, Lq=3, Lk=4, d_k=9, d_v=2)), mask[:3, :4])
    attend("scores of about 120: their exponential overflows", *keys_with_offset(120.0))
    q, k, v = keys_with_offset(120.0)
    q[1, 0], q[2, 0], k[0, 0] = -14.0, 2.0, 480.0
    mask = torch.ones(3, 5).bool()
    mask[:, 0] = False  # its scores: about 1920, −1680 and 240
    attend("scores of about 120, −105 and 15, and a hidden key far above or below", q, k, v, mask)
    q, k = (torch.tensor(column, device=case.device)[:, None] for column in ([100.0, 1.0], [0.0, -200.0, -300.0]))
    attend("scores of −20000 and −30000 beside a hidden one of 0", q, k, case.normal(3, 2), torch.tensor([False, True, True]).expand(2, 3))

    with case.part("a query with nothing to attend to", points=1):
        blind = torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()
        attend("the second query sees nothing", *qkv(Lq=2, Lk=3, d_k=2, d_v=1), blind)
        padding = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()[:, None, None, :]
        q, k, v = [x.requires_grad_() for x in qkv(3, 2, Lq=5, Lk=4, d_k=3, d_v=2)]
        output, weights = attend("one sentence of three is all padding", q, k, v, padding)
        nothing = {"output": output[1].abs().sum().item(), "weights": weights[1].abs().sum().item()}
        case.record("its outputs and weights are exactly 0", nothing, exact=True, about="sum of the absolute")
        case.gradients("gradients are finite although a row is empty", output, q, k, v)

    with case.part("half precision", points=1):
        mask = torch.ones(4, 5).tril().bool()
        halves = case.cast(torch.float16, *qkv(2, 3, Lq=4, Lk=5, d_k=6, d_v=2, scale=0.8))
        attend("float16", *halves)
        attend("float16 with a mask", *halves, mask)
        halves = case.cast(torch.bfloat16, *qkv(3, 2, Lq=4, Lk=5, d_k=6, d_v=7, scale=0.8))
        attend("bfloat16 with a mask", *halves, mask)
        halves = case.cast(torch.float16, *keys_with_offset(14.0))
        attend("float16, scores of about 14: their exponential overflows", *halves)
    ### BEGIN HIDDEN TESTS
    attend("one key", *qkv(2, Lq=3, Lk=1, d_k=4, d_v=2))
    words = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]]).bool()
    attend("padding mask (batch, 1, Lk), no heads", *qkv(3, Lq=2, Lk=4, d_k=6, d_v=5), words[:, None, :])
    attend("three leading dimensions", *qkv(2, 1, 3, Lq=5, Lk=2, d_k=7, d_v=4))
    attend("no leading dimensions, more keys than queries", *qkv(Lq=3, Lk=9, d_k=12, d_v=5))
    q, k, v = case.normal(3, 6, 2, 8), case.normal(3, 7, 2, 8), case.normal(3, 7, 2, 5)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    attend("inputs that are not contiguous", q, k, v)
    mask = case.boolean(3, 2, 6, 7)
    mask.scatter_(-1, case.integers(0, 7, 3, 2, 6, 1), True)
    attend("another mask for each head", q, k, v, mask)
    attend("a mask for each sentence, shared by its heads", q, k, v, mask[:, :1])
    attend("a mask for each of two heads, shared by three sentences", q, k, v, mask[0])
    attend("an expanded mask", q, k, v, mask[:1, :1].expand(3, 2, 6, 7))
    attend("a mask of the keys alone, (Lk,)", q, k, v, mask[0, 0, 0])
    attend("a mask of the queries alone, (Lq, 1)", q, k, v, torch.tensor([1, 0, 1, 1, 0, 1]).bool()[:, None])
    attend("a mask that allows everything", q, k, v, torch.ones_like(mask))
    late = k.clone()
    late[:, :, 4:] += 3.0
    causal = torch.ones(6, 7).tril().bool()
    before, _ = attend("causal, fewer queries than keys", q, k, v, causal)
    after, _ = attend("causal, later keys changed", q, late, v, causal)
    change = (after - before)[:, :, :4].abs().max().item()
    case.record("later keys do not change earlier outputs", change, at_most=1e-6, about="change")
    q, k, v = [x.requires_grad_() for x in qkv(2, Lq=5, Lk=3, d_k=4, d_v=6)]
    output, weights = attend("more queries than keys", q, k, v)
    case.gradients("gradients, no mask", output, q, k, v)
    attend("scores of about −120: their exponential is 0", *keys_with_offset(-120.0))
    mask = case.boolean(6)
    mask[2] = True
    attend("float64, batch and heads", *case.cast(torch.float64, *qkv(2, 3, Lq=2, Lk=6, d_k=4, d_v=5)), mask)
    with case.part("a query with nothing to attend to"):
        mask = case.boolean(2, 1, 4, 6, p=0.6)
        mask[0, 0, 1], mask[1, 0, 3] = False, False
        q, k, v = [x.requires_grad_() for x in qkv(2, 3, Lq=4, Lk=6, d_k=5, d_v=3)]
        output, _ = attend("single queries that see nothing", q, k, v, mask)
        case.gradients("gradients are finite, empty rows among others", output, q, k, v)
        attend("no query sees anything", *qkv(2, Lq=3, Lk=2, d_k=4, d_v=5), torch.zeros(3, 2).bool())
    with case.part("half precision"):
        attend("bfloat16, no leading dimensions", *case.cast(torch.bfloat16, *qkv(Lq=3, Lk=4, d_k=8, d_v=9, scale=0.7)))
        mask = case.boolean(2, 1, 4, 6)
        mask[..., 0] = True
        halves = case.cast(torch.float16, *qkv(2, 3, Lq=4, Lk=6, d_k=8, d_v=5, scale=0.7))
        attend("float16, a mask for each sentence", *halves, mask)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "scaled_dot_product_attention",
    "Write the shapes of $Q$, $K$ and the scores on paper. Which two axes of K have to change places, whatever "
    "stands in front of them? "
    "And along which axis must the weights add up to 1, so that each query has its own average?",
    "Equation 1 for the order of the steps; section 3.2.3 for the mask: it acts on “the input of the softmax”, not "
    "on its result. "
    "The paper does not say what to do with a row in which every score is masked.",
    "Multiply queries with keys transposed in their last two axes and divide by the root of the queries' last "
    "dimension. Replace scores "
    "that are not allowed by a number so low, in this dtype, that its exponential is 0. Take the softmax over the "
    "keys. A row with nothing allowed is "
    "still not 0 now (or is NaN): set what is not allowed to 0 once more, then average the values.",
)
misconceptions(
    "scaled_dot_product_attention",
    mistake(
        "no scaling",
        (" / math.sqrt(q.size(-1))", ""),
        says="The scores are not divided by √d_k; equation 1 divides them before the softmax.",
    ),
    mistake(
        "divides by d_k",
        ("math.sqrt(q.size(-1))", "q.size(-1)"),
        says="The scores are divided by d_k; equation 1 divides by √d_k, the standard deviation of a dot product of "
        "d_k terms.",
    ),
    mistake(
        "divides by √d_v",
        ("q.size(-1)", "v.size(-1)"),
        says="The scores are divided by √d_v, the width of the values; equation 1 takes d_k, the width of queries "
        "and keys.",
    ),
    mistake(
        "divides by √Lk",
        ("q.size(-1)", "k.size(-2)"),
        says="The scores are divided by the root of the number of keys; the dot product sums over d_k components, "
        "so √d_k is the scale.",
    ),
    mistake(
        "divides by √Lq",
        ("q.size(-1)", "q.size(-2)"),
        says="The scores are divided by the root of the number of queries; the dot product sums over d_k "
        "components, so √d_k is the scale.",
    ),
    mistake(
        "divides by √d_model",
        ("q.size(-1)", "(q.size(-1) * (q.size(-3) if q.dim() == 4 else 1))"),
        says="With heads, the scores are divided by √d_model = √(h·d_k); equation 1 divides by √d_k, the width of "
        "one head.",
    ),
    mistake(
        "multiplies by √d_k",
        (" / math.sqrt", " * math.sqrt"),
        says="The scores are multiplied by √d_k, so the softmax saturates even more; equation 1 divides.",
    ),
    mistake(
        "scales after the softmax",
        (" / math.sqrt(q.size(-1))", ""),
        ("torch.softmax(scores, dim=-1)", "torch.softmax(scores, dim=-1) / math.sqrt(q.size(-1))"),
        says="The weights are divided by √d_k after the softmax, so they no longer add up to 1; equation 1 divides "
        "the scores before it.",
    ),
    mistake(
        "softmax over the queries",
        ("dim=-1", "dim=-2"),
        says="The softmax runs over the queries (dim −2): the weights of a key add up to 1. Each query's weights "
        "over the keys (dim −1) must.",
    ),
    mistake(
        "softmax over dimension 1",
        ("dim=-1", "dim=1"),
        says="The softmax runs over dimension 1, which is the heads once there is a batch and a head axis; it "
        "belongs on the last axis, the keys.",
    ),
    mistake(
        "softmax over dimension 0",
        ("dim=-1", "dim=0"),
        says="The softmax runs over the first dimension, so sentences of a batch compete with each other; it "
        "belongs on the last axis, the keys.",
    ),
    mistake(
        "one softmax for the whole matrix",
        ("torch.softmax(scores, dim=-1)", "torch.softmax(scores.flatten(-2), dim=-1).view_as(scores)"),
        says="One softmax is taken over all scores of the matrix together; every query needs its own, over its keys.",
    ),
    mistake(
        "logarithms of weights",
        ("torch.softmax", "torch.log_softmax"),
        says="The logarithm of the softmax is used as weights; equation 1 takes the softmax itself, whose values "
        "are positive and add up to 1.",
    ),
    mistake(
        "no softmax",
        ("torch.softmax(scores, dim=-1)", "scores"),
        says="The scores themselves are used as weights; equation 1 takes their softmax, so that they are positive "
        "and add up to 1.",
    ),
    mistake(
        "mask inverted",
        ("scores.masked_fill(~mask,", "scores.masked_fill(mask,"),
        ("weights.masked_fill(~mask,", "weights.masked_fill(mask,"),
        says="The mask is read the wrong way round: True means that the query may attend to the key, and your code "
        "hides those keys.",
    ),
    mistake(
        "mask inverted in the softmax",
        ("scores.masked_fill(~mask,", "scores.masked_fill(mask,"),
        says="The scores of the keys that may be attended to are hidden, and the others take part in the softmax: "
        "True means that the query may attend.",
    ),
    mistake(
        "mask ignored",
        ("scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", "scores"),
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="The mask changes nothing: keys that may not be attended to still get weight.",
    ),
    mistake(
        "mask after the softmax",
        ("scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", "scores"),
        says="The mask acts after the softmax, so hidden keys still take their share and the remaining weights add "
        "up to less than 1. "
        "Section 3.2.3 masks the input of the softmax.",
    ),
    mistake(
        "mask fill near 0",
        ("torch.finfo(scores.dtype).min", "-1e-9"),
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="Hidden scores are set to a number near 0 (perhaps −1e−9 for −1e9), and exp(0) = 1 is a good deal of "
        "weight. The paper sets them to −∞.",
    ),
    mistake(
        "hidden scores are −100",
        ("torch.finfo(scores.dtype).min", "-100.0"),
        says="Hidden scores are set to a number such as −100. Where the scores of allowed keys are lower still, the "
        "hidden ones take their weight. The paper sets them to −∞.",
    ),
    mistake(
        "hidden scores lowered by 1000",
        ("scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", "scores - 1e3 * (~mask).to(scores.dtype)"),
        says="A fixed number is subtracted from hidden scores, so a hidden key whose score is high enough still takes "
        "weight from the others. The paper sets hidden scores to −∞, whatever they were.",
    ),
    mistake(
        "each row's maximum, hidden keys included",
        (
            "    if mask is not None:\n        # the",
            "    highest = scores.amax(-1, keepdim=True)\n    if mask is not None:\n        # the",
        ),
        (
            "torch.softmax(scores, dim=-1)",
            "(e := torch.exp(scores - highest)) / e.sum(-1, keepdim=True).clamp(min=1e-30)",
        ),
        says="The maximum that is subtracted is taken over hidden keys too. Where a hidden score is far above the "
        "others, all their exponentials round to 0, as if there were nothing to attend to. Mask first.",
    ),
    mistake(
        "one maximum for everything",
        (
            "torch.softmax(scores, dim=-1)",
            "(e := torch.exp(scores - scores.max())) / e.sum(-1, keepdim=True).clamp(min=1e-30)",
        ),
        says="The largest of all scores is subtracted, so a query whose scores are all much lower is left with "
        "exponentials of 0. Each row needs its own maximum.",
    ),
    mistake(
        "one maximum for everything, hidden keys included",
        (
            "    if mask is not None:\n        # the",
            "    highest = scores.max()\n    if mask is not None:\n        # the",
        ),
        (
            "torch.softmax(scores, dim=-1)",
            "(e := torch.exp(scores - highest)) / e.sum(-1, keepdim=True).clamp(min=1e-30)",
        ),
        says="The largest of all scores is subtracted, hidden ones included, so exponentials of rows far below it are "
        "all 0. Mask first, then take each row's own maximum.",
    ),
    mistake(
        "an axis for the heads in the mask",
        (
            "    if mask is not None:\n        # the",
            "    if mask is not None:\n        mask = mask.unsqueeze(1) if mask.dim() == scores.dim() - 1 == 3 else mask\n        # the",
        ),
        says="A mask of three dimensions gets an axis for the heads, as if it were (batch, Lq, Lk). Here masks "
        "broadcast to the scores as they are: next to (batch, heads, Lq, Lk) it is (heads, Lq, Lk).",
    ),
    mistake(
        "what any query may see",
        (
            "    if mask is not None:\n        # the",
            "    if mask is not None:\n        mask = mask.any(-2, keepdim=True)\n        # the",
        ),
        says="A key that one query may attend to is open to all of them; each query has its own row of the mask.",
    ),
    mistake(
        "mask added as a number",
        ("scores.masked_fill(~mask, torch.finfo(scores.dtype).min)", "scores + mask"),
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="The boolean mask is added to the scores, so allowed keys gain 1 and hidden ones lose nothing; hidden "
        "scores must become −∞.",
    ),
    mistake(
        "one mask for the whole batch",
        (
            "    if mask is not None:\n        # the",
            "    if mask is not None:\n        mask = mask[:1] if mask.dim() == 4 else mask\n        # the",
        ),
        says="The first sentence's mask is used for the whole batch; each sentence has its own.",
    ),
    mistake(
        "−1e9 in float16",
        ("torch.finfo(scores.dtype).min", "-1e9"),
        says="Hidden scores are filled with −1e9, which float16 cannot hold: its numbers end at −65,504. Ask the "
        "dtype for its lowest number, or use −∞.",
    ),
    mistake(
        "an empty row becomes an average",
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="Where a query may attend to nothing, every score is equally low and the softmax gives each key the "
        "same weight. Those weights must be 0.",
    ),
    mistake(
        "−1e9 and an average for an empty row",
        ("torch.finfo(scores.dtype).min", "-1e9"),
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="Hidden scores are filled with −1e9. A row of nothing else has a uniform softmax where zeros are "
        "wanted, and float16 cannot hold −1e9 at all.",
    ),
    mistake(
        "an empty row becomes NaN",
        ("torch.finfo(scores.dtype).min", "-math.inf"),
        ("weights.masked_fill(~mask, 0.0)", "weights"),
        says="Where a query may attend to nothing, the softmax of −∞ alone is 0/0 = NaN, which then spreads through "
        "the whole network. Those weights must be 0.",
    ),
    mistake(
        "an empty row has NaN gradients",
        (
            "scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
            "scores + torch.zeros_like(scores).masked_fill(~mask, -math.inf)",
        ),
        ("weights.masked_fill(~mask, 0.0)", "weights.nan_to_num(0.0)"),
        says="The NaN of an empty row are replaced in the output, but come back in the gradients: the softmax's "
        "backward pass multiplies by them, and "
        "adding −∞ lets them through to every query and key. Keep them from arising, or cut the masked scores off "
        "with masked_fill or where.",
    ),
    mistake(
        "empty row: output 0, weights not",
        (
            "        weights = weights.masked_fill(~mask, 0.0)  # only changes rows with nothing to attend to\n    return weights @ v, weights",
            "        return (weights * mask) @ v, weights\n    return weights @ v, weights",
        ),
        says="For a query with nothing to attend to the output is 0, but the weights returned beside it are not.",
    ),
    mistake(
        "empty row: weights 0, output not",
        ("return weights @ v, weights", "return torch.softmax(scores, dim=-1) @ v, weights"),
        says="For a query with nothing to attend to the weights returned are 0, but the output was computed from "
        "others.",
    ),
    mistake(
        "K reshaped, not transposed",
        ("k.transpose(-2, -1)", "k.reshape(*k.shape[:-2], k.size(-1), k.size(-2))"),
        says="K is reshaped to (d_k, Lk), which has the right shape and the wrong numbers: a reshape keeps the "
        "order of the elements, a transpose swaps the axes.",
    ),
    mistake(
        "weights times K",
        ("weights @ v", "weights @ k"),
        says="The weights average the keys; equation 1 averages the values.",
    ),
    mistake(
        "cosine similarity",
        (
            "q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
            "torch.cosine_similarity(q.unsqueeze(-2), k.unsqueeze(-3), dim=-1)",
        ),
        says="Queries and keys are normalised to length 1 first; equation 1 compares them by their dot product, "
        "whose size counts.",
    ),
    mistake(
        "softmax without subtracting the maximum",
        ("torch.softmax(scores, dim=-1)", "scores.exp() / scores.exp().sum(-1, keepdim=True)"),
        says="The exponential of large scores overflows (or all of a row's underflow) and inf/inf is NaN. Subtract "
        "the row's maximum first; the softmax does not change.",
    ),
    mistake(
        "a query changed in place",
        (
            "scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
            "q /= math.sqrt(q.size(-1))\n    scores = q @ k.transpose(-2, -1)",
        ),
        says="The queries are scaled in place (`/=`), which changes the caller's tensor. Compute a new one.",
    ),
    mistake(
        "the mask changed in place",
        (
            "    if mask is not None:\n        # the",
            "    if mask is not None:\n        mask.logical_not_()\n        # the",
        ),
        ("scores.masked_fill(~mask,", "scores.masked_fill(mask,"),
        ("weights.masked_fill(~mask,", "weights.masked_fill(mask,"),
        says="The mask is inverted in place, so the caller's mask means the opposite after the call. Compute a new "
        "one.",
    ),
    mistake(
        "everything becomes float32",
        ("    scores = q", "    q, k, v = q.float(), k.float(), v.float()\n    scores = q"),
        says="The result is float32 whatever came in; the dtype of the inputs must be kept, or the next layer "
        "cannot multiply.",
    ),
    mistake(
        "weights stay float32",
        ("torch.softmax(scores, dim=-1)", "torch.softmax(scores.float(), dim=-1)"),
        ("return weights @ v, weights", "return weights.to(v.dtype) @ v, weights"),
        says="The softmax in float32 is a good idea, but the weights returned have to go back to the dtype of the "
        "inputs.",
    ),
    mistake(
        "weights before output",
        ("return weights @ v, weights", "return weights, weights @ v"),
        says="The two results are in the wrong order: the output comes first, then the weights.",
    ),
    mistake(
        "only the output",
        ("return weights @ v, weights", "return weights @ v"),
        says="Only the output is returned; the weights are wanted beside it.",
    ),
)
equivalents(
    "scaled_dot_product_attention",
    {
        "variable: `scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))` → "
        "`scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))`": "queries and keys have the same width d_k",
    },
)


# %% tags=["alternative"]
@alternative("einsum, masked_fill with −∞, NaN replaced")
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = torch.einsum("...id,...jd->...ij", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
    weights = scores.softmax(-1).nan_to_num(0.0)
    return torch.einsum("...ij,...jd->...id", weights, v), weights


# %% tags=["alternative"]
@alternative("softmax by hand, the mask as a product, queries scaled first")
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = (q / q.size(-1) ** 0.5) @ k.mT
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    highest = torch.where(mask, scores, torch.finfo(scores.dtype).min).amax(-1, keepdim=True).detach()
    e = torch.exp(torch.where(mask, scores - highest, 0.0)) * mask
    total = e.sum(-1, keepdim=True)
    weights = e / torch.where(total > 0, total, torch.ones_like(total))
    return weights @ v, weights


# %% tags=["alternative"]
@alternative("float64 inside, where instead of masked_fill")
def scaled_dot_product_attention(query, key, value, mask=None):
    q, k, v = query.double(), key.double(), value.double()
    scores = torch.matmul(q, torch.swapaxes(k, -1, -2)).div(k.shape[-1] ** 0.5)
    if mask is None:
        weights = F.softmax(scores, dim=-1)
    else:
        weights = F.softmax(torch.where(mask, scores, -1e300), dim=-1)
        weights = torch.where(mask.any(-1, keepdim=True), weights, 0.0)
    return (weights @ v).to(value.dtype), weights.to(value.dtype)


# %% tags=["alternative"]
@alternative("loops over everything, one query at a time, only the keys it may see")
def scaled_dot_product_attention(q, k, v, mask=None):
    *leading, Lq, d_k = q.shape
    Lk, d_v = v.shape[-2:]
    allowed = torch.ones(*leading, Lq, Lk, dtype=torch.bool) if mask is None else mask.expand(*leading, Lq, Lk)
    outputs, rows = [], []
    flat = zip(q.reshape(-1, Lq, d_k), k.reshape(-1, Lk, d_k), v.reshape(-1, Lk, d_v), allowed.reshape(-1, Lq, Lk))
    for queries, keys, values, visible in flat:
        for query, seen in zip(queries, visible):
            row = torch.zeros(Lk, dtype=q.dtype)
            if seen.any():
                chosen = seen.nonzero().squeeze(-1)
                row = row.index_put((chosen,), torch.softmax(keys[chosen] @ query / math.sqrt(d_k), 0))
            rows.append(row)
            outputs.append(row @ values)
    return torch.stack(outputs).view(*leading, Lq, d_v), torch.stack(rows).view(*leading, Lq, Lk)


# %% tags=["alternative"]
@alternative("an additive mask, log-sum-exp")
def scaled_dot_product_attention(q, k, v, mask=None):
    scores = q.matmul(k.transpose(-1, -2)) / math.sqrt(k.size(-1))
    if mask is not None:
        scores = scores + (~mask).to(scores.dtype) * torch.finfo(scores.dtype).min / 2
    weights = torch.exp(scores - scores.logsumexp(dim=-1, keepdim=True))
    if mask is not None:
        weights = weights * mask
    return weights.matmul(v), weights


# %% tags=["alternative"]
@alternative("all leading dimensions folded into one, bmm")
def scaled_dot_product_attention(q, k, v, mask=None):
    leading, (Lq, d_k), (Lk, d_v) = q.shape[:-2], q.shape[-2:], v.shape[-2:]
    q, k, v = q.reshape(-1, Lq, d_k), k.reshape(-1, Lk, d_k), v.reshape(-1, Lk, d_v)
    scores = torch.bmm(q, k.permute(0, 2, 1)).mul(1 / math.sqrt(d_k))
    if mask is not None:
        hidden = torch.broadcast_to(~mask, (*leading, Lq, Lk)).reshape(-1, Lq, Lk)
        scores[hidden] = -math.inf
        scores[hidden.all(-1)] = 0
        weights = scores.softmax(-1) * ~hidden.all(-1, keepdim=True)
    else:
        weights = scores.softmax(-1)
    return torch.bmm(weights, v).reshape(*leading, Lq, d_v), weights.reshape(*leading, Lq, Lk)


# %% [markdown]
# ### Try it: agreement with PyTorch
#
# PyTorch has the same function, with the same meaning of a boolean mask. It may choose among several ways to compute
# it and never builds the weights where it need not, which is why you cannot look at them there.

# %% tags=["picture"]
torch.manual_seed(SEED)
q, k, v = torch.randn(2, 4, 6, 16), torch.randn(2, 4, 9, 16), torch.randn(2, 4, 9, 8)
allowed = torch.rand(2, 1, 6, 9) < 0.6
allowed[1, 0, 3] = False  # this query sees nothing
for name, mask in {"no mask": None, "a mask with an empty row": allowed}.items():
    ours, _ = scaled_dot_product_attention(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    print(f"{name:>25}: largest difference {(ours - theirs).abs().max().item():.1e}")
print(f"{'the empty row':>25}: {ours[1, 0, 3, :4].tolist()} …")

# %% [markdown]
# ## Exercise 2 · `causal_mask`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# A decoder is trained on whole sentences, yet must predict each word from earlier ones only. Section 3.2.3: "We need
# to prevent leftward information flow in the decoder to preserve the auto-regressive property." So position $i$ may
# attend to positions $j \le i$, itself included: its input is already the sentence *shifted right* by one (section
# 3.1), and the word to be predicted stands one place further on.


# %% tags=["export"]
def causal_mask(n: int) -> Tensor:
    """Which of n positions each of n positions may attend to, when none may see what comes after it.

    Returns: boolean (n, n); entry (i, j) is True where query i may attend to key j.
    """
    ### BEGIN SOLUTION
    return torch.ones(n, n, dtype=torch.bool).tril()
    ### END SOLUTION


# %%
@check("causal_mask", points=1, paper="section 3.2.3, third point")
def _(case):
    case.call("n = 3", causal_mask, 3)
    case.call("n = 1: a position may attend to itself", causal_mask, 1)
    case.call("n = 6", causal_mask, 6)
    ### BEGIN HIDDEN TESTS
    case.call("n = 2", causal_mask, 2)
    case.call("n = 17", causal_mask, 17)
    n = case.integer(7, 12)
    case.call("a length drawn by chance", causal_mask, n)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "causal_mask",
    "Draw the 3×3 table with queries as rows and keys as columns and tick what may be seen. What shape do the ticks "
    "have?",
    "Section 3.2.3, third point: positions may attend “to all positions in the decoder up to and including that "
    "position”.",
    "Start from a boolean square of ones and keep the part on and below the diagonal, or compare a column of row "
    "numbers with a row of column numbers.",
)
misconceptions(
    "causal_mask",
    mistake(
        "diagonal excluded",
        (".tril()", ".tril(-1)"),
        says="A position may not see itself, and the first position sees nothing at all. Section 3.2.3 allows "
        "positions up to and including the position itself.",
    ),
    mistake(
        "looks ahead",
        (".tril()", ".triu()"),
        says="The triangle points the other way: each position sees itself and the future. Rows are queries, "
        "columns are keys.",
    ),
    mistake(
        "True where hidden",
        (".tril()", ".triu(1)"),
        says="The mask is True for the future, which is what may not be seen; here True means *may attend*.",
    ),
    mistake(
        "one step too far",
        (".tril()", ".tril(1)"),
        says="Each position also sees the next one, which is the very word it has to predict.",
    ),
    mistake(
        "a float mask",
        (", dtype=torch.bool", ""),
        says="The mask holds ones and zeros as floating-point numbers; it has to be boolean.",
    ),
    mistake(
        "an integer mask",
        ("dtype=torch.bool", "dtype=torch.long"),
        says="The mask holds ones and zeros as integers; it has to be boolean (and `~` of an integer 1 is −2).",
    ),
    mistake(
        "an additive mask",
        ("torch.ones(n, n, dtype=torch.bool).tril()", "torch.full((n, n), -math.inf).triu(1)"),
        says="This mask is one to be added to scores, 0 and −∞, as nn.Transformer uses; ours is boolean with True "
        "where a query may attend.",
    ),
    mistake(
        "everything hidden",
        ("torch.ones", "torch.zeros"),
        says="Nothing may be attended to at all: every entry is False.",
    ),
    mistake(
        "nothing hidden",
        (".tril()", ""),
        says="Every position sees every position; the future has to be hidden.",
    ),
    mistake(
        "only the position itself",
        (".tril()", ".tril().triu()"),
        says="A position sees itself alone; it may see all earlier positions too.",
    ),
    mistake(
        "an axis too many",
        (".tril()", ".tril().unsqueeze(0)"),
        says="The mask has an axis for the batch; (n, n) is wanted, which broadcasts to any batch.",
    ),
)


# %% tags=["alternative"]
@alternative("compare positions")
def causal_mask(n):
    position = torch.arange(n)
    return position[None, :] <= position[:, None]


# %% tags=["alternative"]
@alternative("not the upper triangle")
def causal_mask(size):
    return ~torch.triu(torch.ones(size, size), diagonal=1).bool()


# %% tags=["alternative"]
@alternative("a list of lists")
def causal_mask(n):
    return torch.tensor([[j <= i for j in range(n)] for i in range(n)])


# %% tags=["alternative"]
@alternative("filled in row by row")
def causal_mask(n):
    mask = torch.zeros((n, n), dtype=torch.bool)
    for i in range(n):
        mask[i, : i + 1] = True
    return mask


# %% tags=["alternative"]
@alternative("a running sum of the identity")
def causal_mask(n):
    return torch.eye(n).cumsum(0).bool()


# %% [markdown]
# ## Exercise 3 · `padding_mask`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# Sentences of one batch have different lengths; the shorter ones are filled up with a token of no meaning. No query
# may attend to it. The mask of a batch is $(B, 1, L)$: a row of keys for each sentence, and an axis of length 1 that
# broadcasts over that sentence's queries.
#
# | the paper says | this code does | why |
# | --- | --- | --- |
# | nothing about padding (sentences were batched by similar length, section 5.1) | hides padding as a *key*; a padded position still asks as a *query* | its output is never used: the loss skips it and nobody attends to it |


# %% tags=["export"]
def padding_mask(tokens: Tensor, pad_id: int) -> Tensor:
    """Which positions of each sentence are words and may be attended to.

    Args:
        tokens: token numbers (B, L).
        pad_id: the number that stands for padding; it may be any, and padding may stand on either side.

    Returns: boolean (B, 1, L), True where there is a word; broadcasts over the queries of (B, Lq, L).
    """
    ### BEGIN SOLUTION
    return (tokens != pad_id).unsqueeze(1)
    ### END SOLUTION


# %%
@check("padding_mask", points=1)
def _(case):
    def tokens(*sentences):
        return torch.tensor(sentences, device=case.device)

    case.call("padding on the right, pad_id 0", padding_mask, tokens([5, 7, 0, 0], [4, 0, 0, 0], [3, 1, 6, 2]), 0)
    case.call("padding on the left, pad_id 1", padding_mask, tokens([1, 1, 8], [1, 0, 5]), 1)
    case.call("the padding token has the highest number", padding_mask, case.integers(0, 4, 3, 6), 3)
    case.call("a sentence of nothing but padding", padding_mask, tokens([2, 2, 2], [3, 2, 2]), 2)
    ### BEGIN HIDDEN TESTS
    case.call("no padding", padding_mask, case.integers(1, 9, 2, 5), 0)
    case.call("one sentence of one word", padding_mask, case.integers(3, 4, 1, 1), 0)
    case.call("as many sentences as positions", padding_mask, case.integers(0, 3, 4, 4), 2)
    case.call("padding on both sides", padding_mask, tokens([9, 9, 4, 0, 9], [9, 3, 9, 9, 9]), 9)
    case.call("int32 tokens", padding_mask, case.integers(0, 3, 5, 7).int(), 1)
    case.call("a negative pad_id", padding_mask, case.integers(-1, 3, 3, 8), -1)
    case.call("tokens that are not contiguous", padding_mask, case.integers(0, 3, 6, 4).T, 0)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "padding_mask",
    "What is True for a word and False for padding? One comparison answers it for the whole batch.",
    "The scores are (B, Lq, Lk). The mask knows the sentence and the key but not the query: think of which of the "
    "three axes it lacks.",
    "Compare the tokens with pad_id for inequality, then insert an axis of length 1 between batch and length.",
)
misconceptions(
    "padding_mask",
    mistake(
        "no axis for the queries",
        (".unsqueeze(1)", ""),
        says="The mask is (B, L). Against scores (B, Lq, Lk) its batch axis would be taken for the queries; (B, 1, "
        "L) keeps them apart.",
    ),
    mistake(
        "the new axis at the end",
        ("unsqueeze(1)", "unsqueeze(-1)"),
        says="The mask is (B, L, 1), which hides padded queries and lets every query see padded keys. The keys are "
        "the last axis: (B, 1, L).",
    ),
    mistake(
        "the new axis in front",
        ("unsqueeze(1)", "unsqueeze(0)"),
        says="The mask is (1, B, L), so the sentences stand where the queries belong; (B, 1, L) is wanted.",
    ),
    mistake(
        "an axis for the heads as well",
        (".unsqueeze(1)", "[:, None, None, :]"),
        says="The mask is (B, 1, 1, L). Multi-head attention adds the axis for its heads itself; here (B, 1, L) is "
        "wanted.",
    ),
    mistake(
        "expanded to (B, L, L)",
        (".unsqueeze(1)", ".unsqueeze(1).expand(-1, tokens.size(1), -1)"),
        says="The mask is repeated for every query of the same sentence, (B, L, L). In cross-attention there is "
        "another number of queries: leave the axis at 1.",
    ),
    mistake(
        "True for padding",
        ("!=", "=="),
        says="The mask is True for padding; here True means *may attend*, so it is True for words.",
    ),
    mistake(
        "pad_id taken to be 0",
        ("!= pad_id", "!= 0"),
        says="Padding is taken to be token 0 whatever pad_id says.",
    ),
    mistake(
        "pad_id taken to be the lowest number",
        ("!= pad_id", "> pad_id"),
        says="Tokens with a number below pad_id are hidden as well; only pad_id itself is padding.",
    ),
    mistake(
        "everything from the first padding on",
        ("(tokens != pad_id)", "(tokens != pad_id).cumprod(1).bool()"),
        says="Everything after the first padding token is hidden, so a sentence that is padded on the left disappears.",
    ),
    mistake(
        "a float mask",
        ("(tokens != pad_id)", "(tokens != pad_id).float()"),
        says="The mask holds ones and zeros as floating-point numbers; it has to be boolean.",
    ),
    mistake(
        "an integer mask",
        ("(tokens != pad_id)", "(tokens != pad_id).long()"),
        says="The mask holds ones and zeros as integers; it has to be boolean (and `~` of an integer 1 is −2).",
    ),
    mistake(
        "padded queries hidden too",
        ("(tokens != pad_id).unsqueeze(1)", "(tokens != pad_id).unsqueeze(1) & (tokens != pad_id).unsqueeze(2)"),
        says="Padded positions are hidden as queries as well, (B, L, L). That leaves them nothing to attend to, and "
        "does not fit cross-attention; hide keys only.",
    ),
)


# %% tags=["alternative"]
@alternative("ne and an index with None")
def padding_mask(tokens, pad_id):
    return tokens.ne(pad_id)[:, None, :]


# %% tags=["alternative"]
@alternative("not equal, reshaped")
def padding_mask(tokens, pad_id):
    batch, length = tokens.shape
    return torch.logical_not(torch.eq(tokens, pad_id)).reshape(batch, 1, length)


# %% tags=["alternative"]
@alternative("Python lists")
def padding_mask(tokens, pad_id):
    return torch.tensor([[[token != pad_id for token in sentence]] for sentence in tokens.tolist()], dtype=torch.bool)


# %% tags=["alternative"]
@alternative("a full mask with padding cut out")
def padding_mask(tokens, pad_id):
    mask = torch.full(tokens.shape, True)
    mask[tokens == pad_id] = False
    return torch.stack([mask], dim=1)


# %% tags=["alternative"]
@alternative("the distance from pad_id")
def padding_mask(tokens, pad_id):
    return (tokens - pad_id).bool().unsqueeze(-2)


# %% [markdown]
# ## Exercise 4 · `combine_masks`
#
# *Difficulty ●○○ · 10 minutes · 1 point*
#
# The decoder needs both: a key may be attended to if it is not in the future **and** is not padding. A caller that
# has no mask of some kind passes `None`, and may have none at all.


# %% tags=["export"]
def combine_masks(*masks: Tensor | None) -> Tensor | None:
    """What all of the masks allow.

    Args:
        masks: boolean masks that broadcast with each other, such as (L, L) and (B, 1, L).
            None stands for "no restriction".

    Returns: the boolean mask that is True where every mask is, in their broadcast shape; None if
        there is no mask. The masks are not changed.
    """
    ### BEGIN SOLUTION
    combined = None
    for mask in masks:
        if mask is not None:
            combined = mask if combined is None else combined & mask
    return combined
    ### END SOLUTION


# %%
@check("combine_masks", points=1)
def _(case):
    one = torch.tensor([[True, False], [True, True]], device=case.device)
    case.call("two masks of one shape", combine_masks, one, one.T)
    case.call("no mask", combine_masks)
    case.call("nothing but None", combine_masks, None, None)
    case.call("None, then a mask", combine_masks, None, one)
    case.call("a mask, then None", combine_masks, one, None)
    case.call("three masks", combine_masks, case.boolean(3, 4), case.boolean(3, 4), case.boolean(3, 4))
    padding, causal = case.boolean(2, 1, 4), torch.ones(4, 4, dtype=torch.bool, device=case.device).tril()
    case.call("(B, 1, L) and (L, L) make (B, L, L)", combine_masks, padding, causal)
    case.call("a mask, None, a mask", combine_masks, causal, None, padding)
    case.call("one mask", combine_masks, padding)
    case.call("one of them hides everything", combine_masks, causal, torch.zeros(4, dtype=torch.bool, device=case.device))
    case.call("three masks of different shapes", combine_masks, causal, causal.T, padding)
    ### BEGIN HIDDEN TESTS
    first, second, third = case.boolean(5, 1, 3, p=0.8), case.boolean(2, 3, p=0.8), case.boolean(3, p=0.8)
    case.call("three masks with None between", combine_masks, None, first, None, second, third, None)
    case.call("as many sentences as positions", combine_masks, case.boolean(4, 1, 4), case.boolean(4, 4))
    case.call("(B, L, 1) and (B, 1, L)", combine_masks, case.boolean(3, 5, 1), case.boolean(3, 1, 2))
    case.call("expanded masks", combine_masks, case.boolean(1, 1, 6).expand(3, 6, 6), case.boolean(6, 6).T)
    case.call(
        "None in front of three masks", combine_masks, None, case.boolean(2, 5), case.boolean(2, 5), case.boolean(2, 5)
    )
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "combine_masks",
    "True means *may attend*. If one mask says yes and another says no, what is the answer?",
    "The paper combines nothing by name, but its decoder needs it: section 3.2.3 hides the future, and a batch "
    "hides its padding. Both restrictions hold at once.",
    "Leave out what is None. Of what remains take the logical and, one mask after the other, into a new tensor; if "
    "nothing remains, return None.",
)
misconceptions(
    "combine_masks",
    mistake(
        "or instead of and",
        ("combined & mask", "combined | mask"),
        says="A key is allowed as soon as one mask allows it; it must be allowed by all.",
    ),
    mistake(
        "the masks are added",
        ("combined & mask", "combined.int() + mask.int()"),
        says="The masks are added as numbers; the result must be boolean, True where all are True.",
    ),
    mistake(
        "multiplied as numbers",
        ("combined & mask", "combined.float() * mask.float()"),
        says="The product of ones and zeros is the right rule, but the mask is now floating-point; it has to stay "
        "boolean.",
    ),
    mistake(
        "exclusive or",
        ("combined & mask", "combined ^ mask"),
        says="A key is allowed where the masks disagree; it must be allowed by all.",
    ),
    mistake(
        "one None makes None",
        (
            "        if mask is not None:\n            combined = mask if combined is None else combined & mask",
            "        if mask is None:\n            return None\n        combined = mask if combined is None else combined & mask",
        ),
        says="As soon as one mask is None the others are forgotten; None only means that this one restricts nothing.",
    ),
    mistake(
        "stops at the first None",
        (
            "        if mask is not None:\n            combined = mask if combined is None else combined & mask",
            "        if mask is None:\n            break\n        combined = mask if combined is None else combined & mask",
        ),
        says="Masks that come after a None are forgotten; None is to be skipped.",
    ),
    mistake(
        "only the first two masks",
        ("for mask in masks:", "for mask in masks[:2]:"),
        says="Only the first two arguments count; there may be any number of masks.",
    ),
    mistake(
        "the last mask wins",
        ("mask if combined is None else combined & mask", "mask"),
        says="The last mask replaces the others; all of them hold at once.",
    ),
    mistake(
        "the first mask wins",
        ("combined & mask", "combined"),
        says="Only the first mask counts; all of them hold at once.",
    ),
    mistake(
        "a single mask forgotten",
        ("    combined = None", "    if len(masks) < 2:\n        return None\n    combined = None"),
        says="A mask that stands alone is forgotten; there is nothing to combine it with, so it is the result.",
    ),
    mistake(
        "True for no mask",
        ("combined = None", "combined = torch.tensor(True)"),
        says="Without any mask the result is a tensor that holds True; None is wanted, so that attention can skip "
        "masking.",
    ),
    mistake(
        "changes the first mask",
        (
            "mask if combined is None else combined & mask",
            "mask.expand(torch.broadcast_shapes(mask.shape, *[m.shape for m in masks if m is not None])) "
            "if combined is None else combined.contiguous().logical_and_(mask)",
        ),
        says="The first mask is overwritten with the result (an in-place and, such as `&=`); the caller still needs "
        "it.",
    ),
)


# %% tags=["alternative"]
@alternative("reduce with logical_and")
def combine_masks(*masks):
    from functools import reduce

    present = [mask for mask in masks if mask is not None]
    return reduce(torch.logical_and, present) if present else None


# %% tags=["alternative"]
@alternative("broadcast, stack, all")
def combine_masks(*masks):
    present = tuple(filter(lambda mask: mask is not None, masks))
    if len(present) == 0:
        return None
    return torch.stack(torch.broadcast_tensors(*present)).all(dim=0)


# %% tags=["alternative"]
@alternative("what any of them forbids")
def combine_masks(*masks):
    forbidden = None
    for mask in masks:
        if mask is None:
            continue
        forbidden = ~mask if forbidden is None else torch.logical_or(forbidden, ~mask)
    return None if forbidden is None else ~forbidden


# %% tags=["alternative"]
@alternative("a product of booleans, by recursion")
def combine_masks(*masks):
    if not masks:
        return None
    first, rest = masks[0], combine_masks(*masks[1:])
    if first is None or rest is None:
        return rest if first is None else first
    return first * rest


# %% tags=["alternative"]
@alternative("a copy, then and in place")
def combine_masks(*masks):
    present = [mask for mask in masks if mask is not None]
    if not present:
        return None
    result = torch.ones(torch.broadcast_shapes(*(mask.shape for mask in present)), dtype=torch.bool)
    for mask in present:
        result &= mask
    return result


# %% [markdown]
# ### Try it: what the masks do to the weights
#
# Eight positions, the last two of them padding, with random queries and keys. Rows are queries, columns are keys;
# hatched cells are hidden.

# %% tags=["picture"]
torch.manual_seed(SEED)
words = ["the", "cat", "sat", "on", "the", "mat", "<pad>", "<pad>"]
tokens = torch.tensor([[3, 4, 5, 6, 3, 7, 0, 0]])
q, k, v = torch.randn(1, 8, 32), torch.randn(1, 8, 32), torch.randn(1, 8, 32)
masks = {
    "no mask": combine_masks(),
    "padding mask": padding_mask(tokens, pad_id=0),
    "causal mask": causal_mask(8),
    "both": combine_masks(causal_mask(8), padding_mask(tokens, pad_id=0)),
}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained", sharey=True)
for axis, (title, mask) in zip(axes, masks.items()):
    _, weights = scaled_dot_product_attention(q, k, v, mask)
    visible = torch.ones(8, 8, dtype=torch.bool) if mask is None else mask.expand(1, 8, 8)[0]
    axis.fill_between([-0.5, 7.5], -0.5, 7.5, facecolor="none", edgecolor=GREY, hatch="///", linewidth=0, zorder=0)
    image = axis.imshow(weights[0].masked_fill(~visible, math.nan), cmap="Blues", vmin=0, vmax=1, zorder=1)
    axis.set(title=title, xlabel="key")
    axis.set_xticks(range(8), words, rotation=60)
    axis.set_yticks(range(8), words)
axes[0].set_ylabel("query")
figure.colorbar(image, ax=axes, label="weight", shrink=0.85, pad=0.01)
plt.show()
for title, mask in masks.items():
    sums = scaled_dot_product_attention(q, k, v, mask)[1].sum(-1)
    print(f"{title:12}: the weights of a row add up to 1, within {(sums - 1).abs().max():.0e}")

# %% [markdown]
# **What to see.** Hiding keys does not merely blank their cells: the rest of the row becomes darker, since each row
# still adds up to 1. Under the causal mask the first word can only look at itself, with weight 1. The padded
# positions at the bottom still ask (their rows are not empty), but nobody looks at their columns.

# %% [markdown] written="why_the_root" points=3
# ## Question 1 · why $\sqrt{d_k}$, in your own words
#
# *3 points, graded by a person*
#
# (a) Derive the variance of $q \cdot k$ for independent components with mean 0 and variance 1. (b) Say what happens
# to the weights, and to the gradient that reaches $Q$ and $K$, when the scores are not divided. (c) Why $\sqrt{d_k}$
# and not $d_k$?
#
# ### BEGIN SOLUTION
# (a) $\mathrm{E}[q_i k_i] = \mathrm{E}[q_i]\,\mathrm{E}[k_i] = 0$ and
# $\mathrm{Var}[q_i k_i] = \mathrm{E}[q_i^2]\,\mathrm{E}[k_i^2] = 1$. The $d_k$ terms are independent, so variances
# add: $\mathrm{Var}[q \cdot k] = d_k$, a standard deviation of $\sqrt{d_k}$.
#
# (b) Scores of size $\sqrt{d_k}$ make the softmax put nearly all weight on the largest one. There
# $\partial p_i / \partial s_j = p_i(\delta_{ij} - p_j)$ is nearly 0 for all $i, j$, and every gradient to $Q$ and $K$
# passes through it: they hardly learn. (The gradient to $V$ remains: it is multiplied by $p$, not by its derivative.)
#
# (c) Dividing by $\sqrt{d_k}$ brings the variance to 1 for every width. Dividing by $d_k$ brings it to $1/d_k$: for
# wide vectors all scores are nearly equal, the weights nearly uniform, and the output is the plain average of the
# values, whatever the query.
#
# **Rubric.** 1 point: the variance, with independence used (mean 0 of the product or addition of variances may be
# left implicit). 1 point: saturation *and* the vanishing derivative; "the gradient vanishes" without a reason is ½. 1
# point: unit variance against variance $1/d_k$, or near-uniform weights.
# ### END SOLUTION

# %% [markdown] written="nothing_to_attend_to" points=2
# ## Question 2 · a query with nothing to attend to
#
# *2 points, graded by a person*
#
# (a) Name a situation in which every key of a query is masked, although the code is right. (b) With $-\infty$ in the
# scores, what do the weights of this one query become, and why may *all* parameters of the model be lost one training
# step later, even if that output is never used?
#
# ### BEGIN SOLUTION
# (a) For instance: padding on the left together with a causal mask (the first, padded position may only see itself,
# and is padding); a sentence that is empty; a source sentence of padding only, seen by cross-attention; a local
# window that holds only padding.
#
# (b) $e^{-\infty} = 0$ for every key, so the softmax is $0/0$ = NaN. If the output enters a sum or a mean (a loss, a
# layer that mixes positions), that is NaN too. Even if the loss skips that position, the gradient that flows back is
# $0 \cdot \mathrm{NaN} = \mathrm{NaN}$: the softmax's derivative at that row is NaN. The gradients of the weight
# matrices sum over positions, so each entry becomes NaN, and after one step of the optimiser every parameter is.
#
# **Rubric.** 1 point: any real situation. 1 point: 0/0 *and* the spreading, by sums over positions in the forward or
# backward pass ("NaN spreads" without saying how is ½).
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Attention is a weighted average of values; the weights are the softmax of scaled dot products (equation 1).
# - $\sqrt{d_k}$ is the standard deviation of a dot product of $d_k$ terms. Without it the softmax saturates and its
#   slope vanishes.
# - Masks are boolean, act before the softmax, and combine by *and*. A query with nothing to attend to is a case that
#   the paper leaves open and code cannot.
#
# **Next**: `multi_head_attention`, where eight of these run side by side and are compared with
# `torch.nn.MultiheadAttention`. What you built here is there already:
# `from papers.transformer.attention import scaled_dot_product_attention`.

# %% tags=["picture"]
score()
