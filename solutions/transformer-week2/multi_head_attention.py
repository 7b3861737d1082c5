# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Multi-head attention
#     order: 2
#     exports: papers.transformer.attention
#     minutes: 75
# ---

# %% [markdown]
# # Multi-head attention
#
# *Attention Is All You Need*, section 3.2.2, and the three uses in section 3.2.3 · about 75 minutes
#
# At the end of this notebook you can
#
# - cut a representation into heads and put it together again, and tell a right reshape from one that only has the
#   right shape;
# - write multi-head attention for self- and cross-attention, with masks;
# - load the weights of `torch.nn.MultiheadAttention` into your module and show that both compute the same;
# - show by experiment what several heads can do that one cannot.
#
# **Week 2 of the roadmap, step 3.**
#
# 1. Watch
#    [Aladdin Persson's Transformer Implementation – Self-Attention](https://www.youtube.com/watch?v=U0s0f995w14)
#    (about 40 min). His code keeps the head axis in third place and uses einsum; ours moves it forward. Both are
#    right, and the checks accept both inside your functions.
# 2. Split the input into multiple heads: exercises 1 to 3.
# 3. Validate your implementation by comparing with `torch.nn.MultiheadAttention`, and debug using small input
#    tensors: exercise 4.

# %% tags=["export"]
import torch
from torch import Tensor, nn

# %%
import math

import matplotlib.pyplot as plt
import torch.nn.functional as F

from papers.transformer.attention import causal_mask, combine_masks, padding_mask, scaled_dot_product_attention

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## One softmax, one average
#
# A query has one row of weights, so one attention function hands it one average of the values. To learn two things
# about a word, say what stood before it and what it refers to, that average has to mix them. The paper (section
# 3.2.2): "Multi-head attention allows the model to jointly attend to information from different representation
# subspaces at different positions. With a single attention head, averaging inhibits this."
#
# $$\mathrm{MultiHead}(Q,K,V) = \mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)\,W^O, \qquad
# \mathrm{head}_i = \mathrm{Attention}(QW_i^Q,\; KW_i^K,\; VW_i^V)$$
#
# Each head is narrower: $d_k = d_v = d_{model}/h$. The matrices $W_1^Q, \dots, W_h^Q$, each $d_{model} \times d_k$,
# stand side by side in one matrix $d_{model} \times d_{model}$. So one multiplication projects for all heads, and
# what remains is to cut the result into $h$ strips. That is exercise 1.
#
# Here $Q$, $K$, $V$ are the *inputs* of the layer. In self-attention all three are the same tensor; in
# cross-attention $Q$ comes from the decoder, $K$ and $V$ from the encoder.

# %% [markdown]
# ## Exercise 1 · `split_heads`
#
# *Difficulty ●○○ · 10 minutes · 1 point*
#
# Head $i$ owns the features $i\,d_k$ to $(i+1)\,d_k - 1$ of **every** position. The head axis goes in front of the
# positions, where attention treats it like one more batch axis.


# %% tags=["export"]
def split_heads(x: Tensor, h: int) -> Tensor:
    """Cut the features of every position into h strips, one a head.

    Args:
        x: (B, L, d_model), where h divides d_model.
        h: the number of heads.

    Returns: (B, h, L, d_model / h).
    """
    ### BEGIN SOLUTION
    B, L, d_model = x.shape
    return x.reshape(B, L, h, d_model // h).transpose(1, 2)  # (B, L, h, d_k) → (B, h, L, d_k)
    ### END SOLUTION


# %%
@check("split_heads", points=1, paper="section 3.2.2")
def _(case):
    numbers = torch.arange(12.0, device=case.device)
    case.call("three positions, two heads of width 2", split_heads, numbers.view(1, 3, 4), 2)
    case.call("three sentences, four heads of width 2", split_heads, case.normal(3, 5, 8), 4)
    case.call("two sentences, two heads of width 3", split_heads, case.normal(2, 4, 6), 2)
    case.call("one head", split_heads, case.normal(2, 3, 5), 1)
    x = case.normal(2, 3, 8).requires_grad_()
    case.gradients("gradients", split_heads(x, 2), x)
    ### BEGIN HIDDEN TESTS
    case.call("as many heads as features", split_heads, case.normal(2, 3, 4), 4)
    case.call("one position", split_heads, case.normal(4, 1, 6), 3)
    case.call("as many heads as positions", split_heads, case.normal(2, 3, 6), 3)
    case.call("input that is not contiguous", split_heads, case.normal(5, 2, 12).transpose(0, 1), 3)
    case.call("features that are not contiguous", split_heads, case.normal(2, 12, 5).transpose(1, 2), 4)
    case.call("float64", split_heads, case.normal(3, 2, 10, dtype=torch.float64), 5)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, hints, misconceptions, mistake

hints(
    "split_heads",
    "Write the numbers 0 to 11 as three positions of four features. Which numbers belong to the first of two heads? "
    "Now look at what your code puts there.",
    "Section 3.2.2: each head works on d_model/h features, and on *all* positions. Only the last axis is cut.",
    "Cut the last axis into (h, d_k), which keeps every number in its place, and only then swap the axis of the "
    "positions with that of the heads.",
)
misconceptions(
    "split_heads",
    mistake(
        "a view without a transpose",
        ("x.reshape(B, L, h, d_model // h).transpose(1, 2)", "x.reshape(B, h, L, d_model // h)"),
        says="The shape is right but the sequence is cut instead of the features: with this reshape the first head "
        "gets the first positions. Cut the last axis, then transpose.",
    ),
    mistake(
        "no transpose",
        (".transpose(1, 2)", ""),
        says="The head axis stands behind the positions, (B, L, h, d_k); (B, h, L, d_k) is wanted, so that "
        "attention runs over positions within a head.",
    ),
    mistake(
        "features dealt out in turn",
        ("x.reshape(B, L, h, d_model // h).transpose(1, 2)", "x.reshape(B, L, d_model // h, h).permute(0, 3, 1, 2)"),
        says="The features are dealt out to the heads in turn (0, h, 2h, …); a head owns neighbouring features, as "
        "the columns of its own W_i do.",
    ),
    mistake(
        "h taken for the width",
        ("h, d_model // h)", "d_model // h, h)"),
        says="h is taken for the width of a head; it is the number of heads.",
    ),
    mistake(
        "heads before the batch",
        (".transpose(1, 2)", ".permute(2, 0, 1, 3)"),
        says="The head axis stands before the batch, (h, B, L, d_k); the batch comes first everywhere.",
    ),
    mistake(
        "positions last",
        (".transpose(1, 2)", ".permute(0, 2, 3, 1)"),
        says="Each head is transposed, (B, h, d_k, L). The keys get transposed in attention itself; here the "
        "features stay last.",
    ),
    mistake(
        "heads folded into the batch",
        (".transpose(1, 2)", ".transpose(1, 2).reshape(B * h, L, d_model // h)"),
        says="Heads and batch are folded into one axis of B·h; keep them apart: (B, h, L, d_k).",
    ),
    mistake(
        "always two heads",
        ("x.reshape(B, L, h, d_model // h)", "x.reshape(B, L, 2, d_model // 2)"),
        says="The number of heads is fixed in the code; it is the argument h.",
    ),
    mistake(
        "a tuple of heads",
        ("x.reshape(B, L, h, d_model // h).transpose(1, 2)", "x.chunk(h, dim=-1)"),
        says="The heads come as a tuple of tensors; one tensor with a head axis is wanted.",
    ),
)


# %% tags=["alternative"]
@alternative("unflatten and movedim")
def split_heads(x, h):
    return x.unflatten(-1, (h, -1)).movedim(-2, 1)


# %% tags=["alternative"]
@alternative("chunks of features, stacked")
def split_heads(x, h):
    return torch.stack(x.chunk(h, dim=-1), dim=1)


# %% tags=["alternative"]
@alternative("slices, one head at a time, copied into a new tensor")
def split_heads(x, h):
    d_k = x.size(-1) // h
    heads = x.new_zeros(x.size(0), h, x.size(1), d_k)
    for i in range(h):
        heads[:, i] = x[:, :, i * d_k : (i + 1) * d_k]
    return heads


# %% tags=["alternative"]
@alternative("view, permute, contiguous")
def split_heads(x, h):
    batch, length, width = x.size()
    return x.contiguous().view(batch, length, h, -1).permute(0, 2, 1, 3).contiguous()


# %% tags=["alternative"]
@alternative("einsum with a table of who owns what")
def split_heads(x, h):
    width = x.size(-1)
    owner = torch.eye(width, dtype=x.dtype).view(width, h, width // h)
    return torch.einsum("blm,mhd->bhld", x, owner)


# %% [markdown]
# ### Look at it: which head gets which number
#
# Four positions (rows) of six features (columns), numbered in the order in which they lie in memory, for two heads.
# On the left `split_heads`; on the right the most common mistake, a `view` straight to (B, h, L, d_k).

# %% tags=["picture"]
L, d_model, h = 4, 6, 2
x = torch.arange(float(L * d_model)).view(1, L, d_model)
ways = {"split_heads(x, 2)": split_heads(x, h), "x.view(1, 2, 4, 3)": x.view(1, h, L, d_model // h)}
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
for axis, (title, heads) in zip(axes, ways.items()):
    owner = torch.zeros(L * d_model)
    owner[heads[0, 1].flatten().long()] = 1  # numbers that landed in the second head
    for number in range(L * d_model):
        row, column = divmod(number, d_model)
        colour = (BLUE, ORANGE)[int(owner[number])]
        square = plt.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=0.25, edgecolor="w", lw=2)
        axis.add_patch(square)
        axis.text(column, row, number, ha="center", va="center", color="black")
    axis.set(title=title, xlabel="feature", ylabel="position", xlim=(-0.5, d_model - 0.5), ylim=(L - 0.5, -0.5))
    axis.set_xticks(range(d_model))
    axis.set_yticks(range(L))
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
handles = [plt.Rectangle((0, 0), 1, 1, facecolor=c, alpha=0.25) for c in (BLUE, ORANGE)]
figure.legend(handles, ["head 0", "head 1"], loc="outside right center", frameon=False)
plt.show()

# %% [markdown]
# **What to see.** On the left each head owns three columns: some features of every position. On the right each head
# owns two rows: all features of half of the sentence, so no head ever sees the whole of it. Both results have the
# shape (1, 2, 4, 3), and a model with the wrong one trains without complaint, only worse.

# %% [markdown]
# ## Exercise 2 · `merge_heads`
#
# *Difficulty ●○○ · 10 minutes · 1 point*
#
# The way back: $\mathrm{Concat}(\mathrm{head}_1, \dots, \mathrm{head}_h)$. `merge_heads(split_heads(x, h))` is `x`
# for every $h$. A transposed tensor is not contiguous in memory, which is why `view` may refuse where `reshape` makes
# a copy.


# %% tags=["export"]
def merge_heads(x: Tensor) -> Tensor:
    """Put the heads' features side by side again; the inverse of `split_heads`.

    Args:
        x: (B, h, L, d_k), contiguous or not.

    Returns: (B, L, h · d_k).
    """
    ### BEGIN SOLUTION
    B, h, L, d_k = x.shape
    return x.transpose(1, 2).reshape(B, L, h * d_k)  # (B, h, L, d_k) → (B, L, h, d_k) → (B, L, d_model)
    ### END SOLUTION


# %%
@check("merge_heads", points=1, paper="section 3.2.2")
def _(case):
    numbers = torch.arange(12.0, device=case.device)
    case.call("two heads of width 2, three positions", merge_heads, numbers.view(1, 2, 3, 2))
    case.call("three sentences, four heads of width 2", merge_heads, case.normal(3, 4, 5, 2))
    case.call("two heads of width 3", merge_heads, case.normal(4, 2, 5, 3))
    case.call("one head", merge_heads, case.normal(2, 1, 3, 5))
    x = case.normal(2, 3, 4, 5)
    case.call("input that is not contiguous", merge_heads, x.transpose(1, 2))
    x.requires_grad_()
    case.gradients("gradients", merge_heads(x), x)
    ### BEGIN HIDDEN TESTS
    case.call("heads of width 1", merge_heads, case.normal(2, 4, 3, 1))
    case.call("one position", merge_heads, case.normal(3, 2, 1, 4))
    case.call("as many heads as positions", merge_heads, case.normal(2, 3, 3, 4))
    case.call("features that are not contiguous", merge_heads, case.normal(2, 3, 5, 4).transpose(2, 3))
    case.call("what split_heads gives", merge_heads, split_heads(case.normal(2, 3, 12), 4))
    case.call("float64", merge_heads, case.normal(3, 2, 4, 5, dtype=torch.float64))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "merge_heads",
    "Do what `split_heads` does, backwards. Which of its two steps was the last?",
    "Section 3.2.2: Concat puts the outputs of the heads side by side, for each position: first all features of "
    "head 1, then those of head 2.",
    "Swap the axes of heads and positions back, so that heads and their width stand next to each other at the end; "
    "then join these two axes into one.",
)
misconceptions(
    "merge_heads",
    mistake(
        "no transpose",
        ("x.transpose(1, 2)", "x"),
        says="The heads are joined without swapping the axes back: the shape is right, but a row now mixes "
        "positions of one head instead of heads of one position.",
    ),
    mistake(
        "view after a transpose",
        (".reshape(B, L, h * d_k)", ".view(B, L, h * d_k)"),
        says="`view` cannot join axes that a transpose has moved apart in memory. Use `reshape`, or `contiguous()` "
        "before `view`.",
    ),
    mistake(
        "features of the heads interleaved",
        ("x.transpose(1, 2)", "x.permute(0, 2, 3, 1)"),
        says="The heads' features are interleaved (feature 0 of every head, then feature 1 …); Concat puts whole "
        "heads side by side.",
    ),
    mistake(
        "positions and features swapped",
        ("x.transpose(1, 2)", "x.transpose(2, 3)"),
        says="Positions and features are swapped instead of heads and positions.",
    ),
    mistake(
        "heads averaged",
        ("x.transpose(1, 2).reshape(B, L, h * d_k)", "x.mean(dim=1)"),
        says="The heads are averaged, which gives (B, L, d_k); Concat puts them side by side, (B, L, h·d_k).",
    ),
    mistake(
        "heads added",
        ("x.transpose(1, 2).reshape(B, L, h * d_k)", "x.sum(dim=1)"),
        says="The heads are added up, which gives (B, L, d_k); Concat puts them side by side, (B, L, h·d_k).",
    ),
    mistake(
        "transposed but not joined",
        (".reshape(B, L, h * d_k)", ""),
        says="The axes are swapped back but heads and features are still two axes; join them into one of h·d_k.",
    ),
    mistake(
        "positions before the batch",
        ("x.transpose(1, 2).reshape(B, L, h * d_k)", "x.permute(2, 0, 1, 3).reshape(L, B, h * d_k)"),
        says="The result is (L, B, d_model); the batch comes first everywhere.",
    ),
    mistake(
        "everything in one row",
        (".reshape(B, L, h * d_k)", ".flatten(1)"),
        says="Positions are joined too, (B, L·h·d_k); only heads and features are to be joined.",
    ),
)


# %% tags=["alternative"]
@alternative("movedim and flatten")
def merge_heads(x):
    return x.movedim(1, -2).flatten(-2)


# %% tags=["alternative"]
@alternative("concatenate the heads")
def merge_heads(x):
    return torch.cat([x[:, i] for i in range(x.shape[1])], dim=-1)


# %% tags=["alternative"]
@alternative("permute, contiguous, view")
def merge_heads(x):
    batch, heads, length, width = x.size()
    return x.permute(0, 2, 1, 3).contiguous().view(batch, length, heads * width)


# %% tags=["alternative"]
@alternative("unbind and hstack, one sentence at a time")
def merge_heads(x):
    return torch.stack([torch.hstack(sentence.unbind(0)) for sentence in x])


# %% tags=["alternative"]
@alternative("einsum with a table of who owns what")
def merge_heads(x):
    width = x.size(1) * x.size(3)
    owner = torch.eye(width, dtype=x.dtype).view(x.size(1), x.size(3), width)
    return torch.einsum("bhld,hdm->blm", x, owner)


# %% [markdown]
# ## Exercise 3 · `MultiHeadAttention`
#
# *Difficulty ●●○ · 20 minutes · 5 points*
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | projections | $h$ matrices $W_i^Q$ of $d_{model} \times d_k$ each | one `nn.Linear(d_model, d_model)` for all heads | the same numbers side by side, one multiplication |
# | biases | none in the equation | `w_q`, `w_k`, `w_v`, `w_o` have biases | as in `torch.nn.MultiheadAttention`, so that weights can be exchanged |
# | width of a head | $d_k = d_v = d_{model}/h$, 64 in the base model | the same; `h` must divide `d_model` | the cost then hardly depends on $h$ |
# | mask | one for each use of attention | (B, Lq, Lk), (B, 1, Lk) or (Lq, Lk); the same for all heads | a head is a way of looking, not another text |
# | result | the output | the output, and the weights of every head | to see what the heads do |
#
# The scores still are divided by $\sqrt{d_k}$, the width of *one head*: that is what the dot products sum over. The
# mask has no head axis and the scores have one in second place; broadcasting lines axes up from the right, so think
# about what (B, Lq, Lk) means next to (B, h, Lq, Lk).
#
# A query with nothing to attend to gets an output of 0 from every head, so the layer's output there is the bias of
# `w_o` alone. Two of the five points are for masks.


# %% tags=["export"]
class MultiHeadAttention(nn.Module):
    """Section 3.2.2: h attention functions side by side, each on its own projection of the inputs.

    Args:
        d_model: width of the inputs and of the output.
        h: number of heads; divides d_model.

    Holds four layers nn.Linear(d_model, d_model), with biases: `w_q`, `w_k`, `w_v` for queries, keys
    and values, and `w_o` for the output.

    May call what you have built so far, but not F.scaled_dot_product_attention,
        F.multi_head_attention_forward, nn.MultiheadAttention or nn.Transformer*.
    """

    def __init__(self, d_model: int, h: int) -> None:
        super().__init__()
        if d_model % h:
            raise ValueError(f"{h} heads cannot share d_model = {d_model} evenly")
        self.h = h
        ### BEGIN SOLUTION
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)
        ### END SOLUTION

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend from each position of `query` to the positions of `key`.

        Args:
            query: (B, Lq, d_model).
            key, value: (B, Lk, d_model) each.
            mask: boolean, (B, Lq, Lk) or (B, 1, Lk) or (Lq, Lk); True where a query may attend to a key,
                in every head. None: every query may attend to every key.

        Returns: the output (B, Lq, d_model) and the weights of every head (B, h, Lq, Lk).
        """
        ### BEGIN SOLUTION
        q = split_heads(self.w_q(query), self.h)  # (B, h, Lq, d_k)
        k = split_heads(self.w_k(key), self.h)  # (B, h, Lk, d_k)
        v = split_heads(self.w_v(value), self.h)  # (B, h, Lk, d_k)
        if mask is not None:
            mask = mask.unsqueeze(-3)  # an axis of 1 for the heads, in front of (Lq, Lk)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)  # (B, h, Lq, d_k), (B, h, Lq, Lk)
        return self.w_o(merge_heads(heads)), weights
        ### END SOLUTION


# %%
@check(
    "MultiHeadAttention",
    points=5,
    forbid=[
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.multi_head_attention_forward",
        "torch.nn.MultiheadAttention",
        "torch.nn.Transformer*",
    ],
    paper="section 3.2.2",
)
def _(case):
    labels = ("output", "weights")

    def build(d_model, h, dtype=torch.float32):
        return case.initialise(MultiHeadAttention(d_model, h).to(case.device, dtype))

    def attend(name, layer, *inputs, mask=None):
        masked = {} if mask is None else {"mask": mask.to(case.device)}
        return case.call(name, layer, *inputs, labels=labels, **masked)

    x = case.normal(1, 2, 4)
    attend("self-attention, two positions, two heads of width 2", build(4, 2), x, x, x)
    x = case.normal(2, 5, 12)
    attend("self-attention, three heads of width 4", build(12, 3), x, x, x)
    layer = build(10, 2)
    query, key, value = case.normal(3, 4, 10), case.normal(3, 6, 10), case.normal(3, 6, 10)
    attend("cross-attention, keys and values of their own", layer, query, key, value)
    attend("one head", build(5, 1), case.normal(2, 3, 5), case.normal(2, 4, 5), case.normal(2, 4, 5))

    query.requires_grad_(), key.requires_grad_(), value.requires_grad_()
    output, _ = layer(query, key, value)
    case.gradients("gradients of the inputs", output, {"query": query, "key": key, "value": value})
    # w_k's bias adds the same number to a whole row of scores, which the softmax ignores: its gradient is only noise
    parameters = {name: p for name, p in layer.named_parameters() if name != "w_k.bias"}
    case.gradients("gradients of the parameters", output, parameters)
    copy = MultiHeadAttention(10, 2).to(case.device)
    copy.load_state_dict(layer.state_dict())
    case.record("a state_dict loaded into another module", copy(query, key, value), labels=labels)
    case.record("in eval mode", layer.eval()(query, key, value), labels=labels)

    with case.part("masks", points=2):
        layer, x = build(8, 2), case.normal(2, 3, 8)  # B = h: a misplaced axis shows in nothing but the values
        mask = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 1, 1]], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]]).bool()
        attend("(B, Lq, Lk) with as many sentences as heads", layer, x, x, x, mask=mask)
        layer, x = build(12, 3).eval(), case.normal(2, 5, 12)
        causal = torch.ones(5, 5).tril().bool().to(case.device)
        before, _ = attend("causal, (Lq, Lk)", layer, x, x, x, mask=causal)
        attend("then without a mask", layer, x, x, x)
        attend("causal, as many positions as sentences", layer, *[case.normal(5, 5, 12)] * 3, mask=causal)
        padding = torch.tensor([[[1, 1, 1, 0, 0]], [[0, 1, 1, 1, 1]]]).bool()
        attend("padding on the right and on the left, (B, 1, Lk)", layer, x, x, x, mask=padding)
        query = case.normal(2, 4, 12)
        mask = case.boolean(2, 4, 5)
        mask[:, :, 2] = True
        attend("cross-attention, (B, Lq, Lk)", layer.train(), query, x, x, mask=mask)
        mask[1, 3] = False
        output, _ = attend("a query with nothing to attend to", layer, query, x, x, mask=mask)
        difference = (output[1, 3] - layer.w_o.bias).abs().max().item()
        case.record("its output is the bias of w_o", difference, at_most=1e-6, about="largest difference")
    ### BEGIN HIDDEN TESTS
    layer, x = build(6, 6), case.normal(2, 4, 6)
    attend("heads of width 1", layer, x, x, x)
    attend("one position looks at many", build(14, 2), *[case.normal(3, n, 14) for n in (1, 7, 7)])
    attend("as many heads as positions", build(12, 4), *[case.normal(3, 4, 12) for _ in "qkv"])
    q, k, v = case.normal(5, 2, 12).transpose(0, 1), case.normal(2, 12, 3).mT, case.normal(3, 2, 12).transpose(0, 1)
    attend("inputs that are not contiguous", build(12, 3), q, k, v)
    # d_k = 4, whose root is exact in float32 as well: a scale may be kept there
    attend("float64", build(12, 3, torch.float64), *[case.normal(2, n, 12, dtype=torch.float64) for n in (3, 5, 5)])
    q, k, v = [case.normal(2, n, 12, scale=0.7, dtype=torch.bfloat16) for n in (3, 5, 5)]
    attend("bfloat16", build(12, 2, torch.bfloat16), q, k, v)
    two = MultiHeadAttention(4, 2), MultiHeadAttention(4, 2)
    different = len({id(p) for layer in two for p in layer.parameters()})
    case.record("two layers share no parameter", different, about="number of parameters")
    with case.part("masks"):
        layer, x = build(15, 5), case.normal(3, 6, 15)
        causal = torch.ones(6, 6).tril().bool().to(case.device)
        for mode in ("train", "eval"):
            layer.train(mode == "train")
            changed = x.clone()
            changed[:, 4:] += 1.0
            before, _ = attend(f"causal, {mode} mode", layer, x, x, x, mask=causal)
            after, _ = attend(f"causal, later positions changed, {mode} mode", layer, *[changed] * 3, mask=causal)
            change = (after - before)[:, :4].abs().max().item()
            case.record(f"the future changes nothing, {mode} mode", change, at_most=1e-5, about="change")
        first = x.clone().requires_grad_()
        output, _ = layer(first, first, first, causal)
        case.gradients("the first position reaches the last output", output[:, -1], first)
        mask = causal & (case.integers(0, 3, 3, 1, 6) > 0)
        attend("causal and padding, (B, Lq, Lk)", layer, x, x, x, mask=mask)
        attend("an expanded mask, (B, Lq, Lk)", layer, x, x, x, mask=causal.expand(3, 6, 6))
        layer = build(9, 3)
        mask = case.boolean(3, 3, 4)
        mask[:, :, 0] = True
        q, k, v = [case.normal(3, n, 9) for n in (3, 4, 4)]
        attend("as many sentences as heads and queries", layer, q, k, v, mask=mask)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "MultiHeadAttention",
    "Follow one tensor through the layer and write its shape beside each line. Where is the axis of the heads made, "
    "where does it go, and which of your functions does each step?",
    "Section 3.2.2 and the right half of Figure 2, read from below: three linear layers, scaled dot-product "
    "attention, Concat, one more linear layer.",
    "Project query, key and value, each with its own layer, and split each into heads. Give the mask an axis of "
    "length 1 where the scores have their heads. Attend, "
    "merge the heads, and apply the output layer to what you merged.",
)
misconceptions(
    "MultiHeadAttention",
    mistake(
        "divides by √d_model",
        ("scaled_dot_product_attention(q, k, v, mask)", "scaled_dot_product_attention(q / self.h**0.5, k, v, mask)"),
        says="The scores are divided by √d_model in all; each head's dot products sum over d_k = d_model/h "
        "components, so √d_k is the scale.",
    ),
    mistake(
        "heads split by a view alone",
        (
            "        q = split",
            "        split_heads = lambda x, h: x.reshape(x.size(0), h, -1, x.size(-1) // h)\n        q = split",
        ),
        says="The heads are split by a view without a transpose: right shape, wrong values, since each head then "
        "gets a part of the sequence. Cut the features, then transpose.",
    ),
    mistake(
        "heads merged without a transpose",
        ("merge_heads(heads)", "heads.reshape(query.shape)"),
        says="The heads are merged without swapping the axes back: right shape, wrong values, since a row then "
        "mixes positions of one head.",
    ),
    mistake(
        "heads split and merged by views alone",
        (
            "        q = split",
            "        split_heads = lambda x, h: x.reshape(x.size(0), h, -1, x.size(-1) // h)\n        q = split",
        ),
        ("merge_heads(heads)", "heads.reshape(query.shape)"),
        says="The heads are split and merged by views without a transpose. The shapes agree everywhere, but each "
        "head attends within a piece of the sequence.",
    ),
    mistake(
        "one projection for queries, keys and values",
        ("self.w_k(key)", "self.w_q(key)"),
        ("self.w_v(value)", "self.w_q(value)"),
        says="Queries, keys and values are projected with the same layer; each has its own: w_q, w_k, w_v.",
    ),
    mistake(
        "keys and values share a projection",
        ("self.w_v(value)", "self.w_k(value)"),
        says="The values are projected with w_k; they have a layer of their own, w_v.",
    ),
    mistake(
        "one projection shared by the heads",
        ("self.w_q = nn.Linear(d_model, d_model)", "self.w_q = nn.Linear(d_model, d_model // h)"),
        ("self.w_k = nn.Linear(d_model, d_model)", "self.w_k = nn.Linear(d_model, d_model // h)"),
        ("self.w_v = nn.Linear(d_model, d_model)", "self.w_v = nn.Linear(d_model, d_model // h)"),
        (
            "        q = split",
            "        split_heads = lambda x, h: x.unsqueeze(1).expand(-1, h, -1, -1)\n        q = split",
        ),
        says="All heads share one projection to d_k features, so they all compute the same. Each head i has its own "
        "W_i: together a d_model × d_model matrix.",
    ),
    mistake(
        "a layer for each head",
        (
            "self.w_q = nn.Linear(d_model, d_model)",
            "self.w_q = nn.ModuleList(nn.Linear(d_model, d_model // h) for _ in range(h))",
        ),
        (
            "self.w_k = nn.Linear(d_model, d_model)",
            "self.w_k = nn.ModuleList(nn.Linear(d_model, d_model // h) for _ in range(h))",
        ),
        (
            "self.w_v = nn.Linear(d_model, d_model)",
            "self.w_v = nn.ModuleList(nn.Linear(d_model, d_model // h) for _ in range(h))",
        ),
        ("split_heads(self.w_q(query), self.h)", "torch.stack([w(query) for w in self.w_q], 1)"),
        ("split_heads(self.w_k(key), self.h)", "torch.stack([w(key) for w in self.w_k], 1)"),
        ("split_heads(self.w_v(value), self.h)", "torch.stack([w(value) for w in self.w_v], 1)"),
        says="Each head has small layers of its own. That computes the same, but here w_q, w_k and w_v are one "
        "nn.Linear(d_model, d_model) each, so that weights can be exchanged.",
    ),
    mistake(
        "projections without bias",
        ("self.w_q = nn.Linear(d_model, d_model)", "self.w_q = nn.Linear(d_model, d_model, bias=False)"),
        ("self.w_k = nn.Linear(d_model, d_model)", "self.w_k = nn.Linear(d_model, d_model, bias=False)"),
        ("self.w_v = nn.Linear(d_model, d_model)", "self.w_v = nn.Linear(d_model, d_model, bias=False)"),
        ("self.w_o = nn.Linear(d_model, d_model)", "self.w_o = nn.Linear(d_model, d_model, bias=False)"),
        says="The layers have no bias, as in the paper's equation; here all four have one, so that torch's weights "
        "fit.",
    ),
    mistake(
        "queries projected as keys",
        ("self.w_q(query)", "self.w_k(query)"),
        says="The queries are projected with w_k; they have a layer of their own, w_q.",
    ),
    mistake(
        "keys projected as values",
        ("self.w_k(key)", "self.w_v(key)"),
        says="The keys are projected with w_v; they have a layer of their own, w_k.",
    ),
    mistake(
        "values projected with the output layer",
        ("self.w_v(value)", "self.w_o(value)"),
        says="The values are projected with w_o, the output's layer; theirs is w_v.",
    ),
    mistake(
        "output projected as queries",
        ("self.w_o(merge_heads(heads))", "self.w_q(merge_heads(heads))"),
        says="The merged heads go through w_q, the queries' layer; the output's is w_o.",
    ),
    mistake(
        "queries not projected",
        ("self.w_q(query)", "query"),
        says="The queries go into the heads as they came; W^Q projects them first.",
    ),
    mistake(
        "keys not projected",
        ("self.w_k(key)", "key"),
        says="The keys go into the heads as they came; W^K projects them first.",
    ),
    mistake(
        "nothing projected",
        ("self.w_q(query)", "query"),
        ("self.w_k(key)", "key"),
        ("self.w_v(value)", "value"),
        says="Queries, keys and values are cut into heads as they came; W^Q, W^K and W^V project them first.",
    ),
    mistake(
        "no output projection",
        ("self.w_o(merge_heads(heads))", "merge_heads(heads)"),
        says="The concatenated heads are returned as they are; W^O still has to mix them.",
    ),
    mistake(
        "values not projected",
        ("self.w_v(value)", "value"),
        says="The values go into the heads as they came; W^V projects them first.",
    ),
    mistake(
        "values taken from the keys",
        ("self.w_v(value)", "self.w_v(key)"),
        says="The values are projected from `key`; in cross-attention with values of their own that is another "
        "tensor. Project `value`.",
    ),
    mistake(
        "keys taken from the values",
        ("self.w_k(key)", "self.w_k(value)"),
        says="The keys are projected from `value`; where keys and values differ that is another tensor. Project `key`.",
    ),
    mistake(
        "queries and keys handed over in the wrong order",
        ("scaled_dot_product_attention(q, k, v, mask)", "scaled_dot_product_attention(k, q, v, mask)"),
        says="Attention gets keys as queries and queries as keys: the matrix of scores is transposed. Its arguments "
        "are queries, keys, values.",
    ),
    mistake(
        "keys and values handed over in the wrong order",
        ("scaled_dot_product_attention(q, k, v, mask)", "scaled_dot_product_attention(q, v, k, mask)"),
        says="Attention gets values as keys and keys as values. Its arguments are queries, keys, values.",
    ),
    mistake(
        "keys and values swapped",
        ("self.w_k(key)", "self.w_k(value)"),
        ("self.w_v(value)", "self.w_v(key)"),
        says="Keys are projected from `value` and values from `key`; it is the other way round.",
    ),
    mistake(
        "always self-attention",
        ("self.w_k(key)", "self.w_k(query)"),
        ("self.w_v(value)", "self.w_v(query)"),
        says="Keys and values are projected from `query`, so the layer always attends to itself; in cross-attention "
        "they come from elsewhere.",
    ),
    mistake(
        "mask without an axis for the heads",
        ("mask.unsqueeze(-3)  # an axis", "mask  # an axis"),
        says="A mask (B, Lq, Lk) meets scores (B, h, Lq, Lk) without an axis for the heads: its batch axis is lined "
        "up with the heads. That fails when B ≠ h, and is silently "
        "wrong when B = h.",
    ),
    mistake(
        "mask axis behind the batch, always",
        ("mask.unsqueeze(-3)", "mask.unsqueeze(1)"),
        says="The axis for the heads is inserted in second place whatever the mask's shape. That is right for (B, "
        "Lq, Lk), but (Lq, Lk) becomes (Lq, 1, Lk), whose first axis is then taken for "
        "the heads.",
    ),
    mistake(
        "one mask for the whole batch",
        ("mask.unsqueeze(-3)", "mask.unsqueeze(-3)[:1]"),
        says="The first sentence's mask is used for the whole batch; each sentence has its own.",
    ),
    mistake(
        "mask inverted",
        ("mask.unsqueeze(-3)", "~mask.unsqueeze(-3)"),
        says="The mask is read the wrong way round: True means that the query may attend to the key "
        "(nn.MultiheadAttention has it the other way).",
    ),
    mistake(
        "mask forgotten",
        ("scaled_dot_product_attention(q, k, v, mask)", "scaled_dot_product_attention(q, k, v)"),
        says="The mask is not handed on to attention, so every query sees every key.",
    ),
    mistake(
        "mask only while training",
        ("        if mask", "        mask = mask if self.training else None\n        if mask"),
        says="The mask counts in train mode only; in eval mode the future and the padding become visible.",
    ),
    mistake(
        "softmax over the heads",
        (
            "heads, weights = scaled_dot_product_attention(q, k, v, mask)",
            "scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5\n"
            "        weights = torch.softmax(scores if mask is None else scores.masked_fill(~mask, -1e9), dim=1)\n"
            "        heads = weights @ v",
        ),
        says="The softmax runs over the heads (dimension 1); each head has its own weights over the keys, which add "
        "up to 1 along the last axis.",
    ),
    mistake(
        "weights averaged over the heads",
        ("merge_heads(heads)), weights", "merge_heads(heads)), weights.mean(dim=1)"),
        says="The weights are averaged over the heads, as nn.MultiheadAttention does unless told otherwise; every "
        "head's own are wanted, (B, h, Lq, Lk).",
    ),
    mistake(
        "a residual connection inside",
        ("return self.w_o(", "return query + self.w_o("),
        says="The query is added to the output. The residual connection stands around this layer (section 3.1), not "
        "in it.",
    ),
    mistake(
        "dropout inside",
        ("merge_heads(heads))", "merge_heads(nn.functional.dropout(heads, 0.1, self.training)))"),
        says="Dropout is applied inside the layer. In the paper it is applied to a sub-layer's output (section "
        "5.4), which is week 3's work; here train and eval mode agree.",
    ),
    mistake(
        "always eight heads",
        ("self.h = h", "self.h = 8"),
        says="The number of heads is fixed at the paper's 8; it is the argument h.",
    ),
    mistake(
        "sequence first",
        (
            "        q = split",
            "        query, key, value = (x.transpose(0, 1) for x in (query, key, value))\n        q = split",
        ),
        ("return self.w_o(merge_heads(heads))", "return self.w_o(merge_heads(heads)).transpose(0, 1)"),
        says="The inputs are taken as (L, B, d_model), nn.MultiheadAttention's default, so the sentences of a batch "
        "attend to each other; here the batch comes first.",
    ),
    mistake(
        "heads in place of weights",
        ("merge_heads(heads)), weights", "merge_heads(heads)), heads"),
        says="The heads' outputs are returned beside the result; the weights are wanted, (B, h, Lq, Lk).",
    ),
    mistake(
        "only the output",
        ("merge_heads(heads)), weights", "merge_heads(heads))"),
        says="Only the output is returned; the weights of every head are wanted beside it.",
    ),
)


# %% tags=["alternative"]
@alternative("one head after the other, on slices of the weights")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, h):
        super().__init__()
        self.d_k = d_model // h
        self.w_q, self.w_k, self.w_v, self.w_o = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, query, key, value, mask=None):
        outputs, weights = [], []
        for strip in torch.arange(self.w_q.out_features).split(self.d_k):
            q, k, v = (
                F.linear(x, w.weight[strip], w.bias[strip])
                for x, w in ((query, self.w_q), (key, self.w_k), (value, self.w_v))
            )
            output, weight = scaled_dot_product_attention(q, k, v, mask)
            outputs.append(output)
            weights.append(weight)
        return self.w_o(torch.cat(outputs, dim=-1)), torch.stack(weights, dim=1)


# %% tags=["alternative"]
@alternative("einsum with the head axis in third place, its own softmax")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, h):
        super().__init__()
        self.h, self.d_k = h, d_model // h
        self.w_o = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_q = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask=None):
        B = query.shape[0]
        q = self.w_q(query).reshape(B, -1, self.h, self.d_k)
        k = self.w_k(key).reshape(B, -1, self.h, self.d_k)
        v = self.w_v(value).reshape(B, -1, self.h, self.d_k)
        energy = torch.einsum("nqhd,nkhd->nhqk", [q, k]) / self.d_k**0.5
        if mask is not None:
            mask = mask.unsqueeze(1) if mask.dim() == 3 else mask
            energy = energy.masked_fill(mask == 0, float("-inf"))
            weights = torch.softmax(energy, dim=3).nan_to_num(0.0)
        else:
            weights = torch.softmax(energy, dim=3)
        output = torch.einsum("nhql,nlhd->nqhd", [weights, v]).reshape(B, -1, self.h * self.d_k)
        return self.w_o(output), weights


# %% tags=["alternative"]
@alternative("the equation to the letter: a W_i for each head, W^O applied strip by strip, mask expanded")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, h):
        super().__init__()
        self.h = h
        for name in ("w_q", "w_k", "w_v", "w_o"):
            self.add_module(name, nn.Linear(d_model, d_model))

    def forward(self, query, key, value, mask=None):
        per_head = [
            x.unsqueeze(1) @ w.weight.T.unflatten(1, (self.h, -1)).transpose(0, 1)
            + w.bias.unflatten(0, (self.h, 1, -1))
            for x, w in ((query, self.w_q), (key, self.w_k), (value, self.w_v))
        ]
        q, k, v = per_head
        if mask is not None:
            mask = torch.broadcast_to(mask, (query.size(0), query.size(1), key.size(1)))
            mask = torch.stack([mask] * self.h, dim=1)
        heads, weights = scaled_dot_product_attention(q, k, v, mask)
        strips = self.w_o.weight.T.unflatten(0, (self.h, -1))
        return (heads @ strips).sum(dim=1) + self.w_o.bias, weights


# %% tags=["alternative"]
@alternative("float64 inside, heads folded into the batch, bmm")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, h):
        super().__init__()
        self.num_heads = h
        self.w_q, self.w_k = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.w_v, self.w_o = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def _fold(self, x):
        B, L, d_model = x.shape
        return x.double().view(B, L, self.num_heads, -1).permute(0, 2, 1, 3).reshape(B * self.num_heads, L, -1)

    def forward(self, query, key, value, mask=None):
        B, Lq, d_model = query.shape
        q, k, v = self._fold(self.w_q(query)), self._fold(self.w_k(key)), self._fold(self.w_v(value))
        scores = torch.bmm(q, k.mT) * (d_model / self.num_heads) ** -0.5
        allowed = torch.ones_like(scores, dtype=torch.bool)
        if mask is not None:
            allowed = mask.expand(B, Lq, key.size(1)).repeat_interleave(self.num_heads, dim=0)
        weights = torch.where(allowed, torch.softmax(torch.where(allowed, scores, -1e30), dim=-1), 0.0)
        heads = torch.bmm(weights, v).view(B, self.num_heads, Lq, -1).transpose(1, 2).flatten(2)
        return self.w_o(heads.to(query.dtype)), weights.view(B, self.num_heads, Lq, -1).to(query.dtype)


# %% tags=["alternative"]
@alternative("one multiplication for all three projections")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, h):
        super().__init__()
        self.h = h
        self.w_q = nn.Linear(d_model, d_model)
        self.w_k = nn.Linear(d_model, d_model)
        self.w_v = nn.Linear(d_model, d_model)
        self.w_o = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask=None):
        layers, lengths = (self.w_q, self.w_k, self.w_v), (query.size(1), key.size(1), value.size(1))
        weight, bias = torch.cat([w.weight for w in layers]), torch.cat([w.bias for w in layers])
        packed = F.linear(torch.cat([query, key, value], dim=1), weight, bias)
        parts = [block.chunk(3, dim=-1)[i] for i, block in enumerate(packed.split(lengths, dim=1))]
        q, k, v = (torch.stack(part.split(part.size(-1) // self.h, dim=-1), dim=1) for part in parts)
        mask = mask[None] if mask is not None and mask.dim() == 2 else mask
        heads, weights = scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None])
        return self.w_o(torch.cat(heads.unbind(1), dim=-1)), weights


# %% [markdown]
# ### Try it: what changes with the number of heads
#
# Section 3.2.2: "Due to the reduced dimension of each head, the total computational cost is similar to that of
# single-head attention with full dimensionality."

# %% tags=["picture"]
torch.manual_seed(SEED)
x = torch.randn(2, 10, 64)
for h in (1, 4, 16):
    layer = MultiHeadAttention(64, h)
    output, weights = layer(x, x, x, combine_masks(causal_mask(10), padding_mask(torch.ones(2, 10), pad_id=0)))
    parameters = sum(p.numel() for p in layer.parameters())
    print(f"h = {h:2}, d_k = {64 // h:2}: {parameters} parameters, weights {tuple(weights.shape)}")

# %% [markdown]
# ## Exercise 4 · `from_torch`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# `torch.nn.MultiheadAttention` computes the same thing, so with the same weights it must give the same numbers. That
# makes it the best test of your module there is, and the roadmap's task for this week. It keeps its weights
# differently:
#
# | | yours | `nn.MultiheadAttention` |
# | --- | --- | --- |
# | projections | `w_q`, `w_k`, `w_v` | `in_proj_weight` $(3\,d_{model} \times d_{model})$: those of queries, keys and values on top of each other; `in_proj_bias` likewise |
# | output | `w_o` | `out_proj` |
# | heads | `h` | `num_heads` |
#
# A fresh `nn.MultiheadAttention` has biases of 0. Whoever forgets to copy them notices nothing, until the weights
# come from training. The checks draw the biases at random.


# %% tags=["export"]
def from_torch(reference: nn.MultiheadAttention) -> MultiHeadAttention:
    """Our module with the weights of torch's.

    Args:
        reference: keys and values as wide as the queries (no kdim, no vdim), with biases, no add_bias_kv and
            no add_zero_attn; float32. It is not changed.

    Returns: a MultiHeadAttention that computes the same. Its parameters are its own and can be trained:
        what happens to one module later does not change the other.

    May not call or keep nn.MultiheadAttention: the copy has to compute by itself. (Annotations and
        `isinstance` are fine.)
    """
    ### BEGIN SOLUTION
    ours = MultiHeadAttention(reference.embed_dim, reference.num_heads)
    weights = [*reference.in_proj_weight.chunk(3), reference.out_proj.weight]  # queries, keys, values, output
    biases = [*reference.in_proj_bias.chunk(3), reference.out_proj.bias]
    with torch.no_grad():
        for layer, weight, bias in zip((ours.w_q, ours.w_k, ours.w_v, ours.w_o), weights, biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    return ours
    ### END SOLUTION


# %%
@check(
    "from_torch",
    points=3,
    forbid=[
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.multi_head_attention_forward",
        "torch.nn.MultiheadAttention",
        "torch.nn.Transformer*",
    ],
    paper="section 3.2.2",
)
def _(case):
    def copy(name, d_model, h):
        theirs = nn.MultiheadAttention(d_model, h, batch_first=True, device=case.device)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.copy_(case.normal(*parameter.shape, scale=d_model**-0.5))
        ours = from_torch(theirs)
        kind = "a MultiHeadAttention" if isinstance(ours, MultiHeadAttention) else f"a {type(ours).__name__}"  # a subclass is one
        case.record(f"{name}: a module comes back", kind, about="it")
        case.record(f"{name}: its parameters", dict(sorted(ours.named_parameters())), about="parameter")
        return theirs, ours

    def compare(name, theirs, ours, query, key, value, mask=None):
        case.record(f"{name}: what it computes", ours(query, key, value, mask), labels=("output", "weights"))
        hidden = None if mask is None else ~mask.repeat_interleave(theirs.num_heads, dim=0)  # True = may not attend
        output, weights = theirs(query, key, value, attn_mask=hidden, average_attn_weights=False)
        our_output, our_weights = ours(query, key, value, mask)
        for what, mine, other in (("outputs", our_output, output), ("weights", our_weights, weights)):
            difference = (mine - other).abs().max().item() if mine.shape == other.shape else math.inf
            name_of_case = f"{name}: {what} agree with nn.MultiheadAttention"
            case.record(name_of_case, difference, at_most=1e-5, about="largest difference")

    theirs, ours = copy("two heads of width 1", 2, 2)
    compare("two heads of width 1", theirs, ours, *[case.normal(1, 2, 2)] * 3)
    theirs, ours = copy("three heads of width 4", 12, 3)
    query, memory = case.normal(2, 4, 12), case.normal(2, 5, 12)
    compare("three heads of width 4", theirs, ours, query, memory, memory)
    mask = case.boolean(2, 4, 5)
    mask[:, :, 1] = True
    compare("three heads of width 4, masked", theirs, ours, query, memory, memory, mask)

    theirs, ours = copy("copied, then the original changes", 8, 4)
    trainable = all(parameter.requires_grad for parameter in theirs.parameters())
    untouched = {"is in train mode": theirs.training, "can be trained": trainable}
    case.record("the original is left as it was", untouched, about="the original")
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(2).add_(1)
    case.record("the copy has parameters of its own", ours(*[query[..., :8]] * 3), labels=("output", "weights"))
    case.record("all of its parameters can be trained", all(p.requires_grad for p in ours.parameters()))
    ### BEGIN HIDDEN TESTS
    theirs, ours = copy("one head", 5, 1)
    compare("one head", theirs, ours, case.normal(3, 2, 5), case.normal(3, 4, 5), case.normal(3, 4, 5))
    theirs, ours = copy("five heads of width 2", 10, 5)
    compare("five heads of width 2", theirs, ours, case.normal(4, 3, 10), case.normal(4, 6, 10), case.normal(4, 6, 10))
    theirs, ours = copy("four heads of width 2", 8, 4)
    compare("four heads of width 2", theirs, ours, *[case.normal(2, 3, 8)] * 3)
    before = {name: parameter.detach().clone() for name, parameter in theirs.named_parameters()}
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(1)
    changed = {name: (p.detach() - before[name]).abs().max().item() for name, p in theirs.named_parameters()}
    case.record("the original keeps its weights when the copy changes", changed, exact=True, about="change of")
    still = nn.MultiheadAttention(4, 2, batch_first=True, device=case.device).eval().requires_grad_(False)
    from_torch(still)
    left = {"is in train mode": still.training, "can be trained": any(parameter.requires_grad for parameter in still.parameters())}
    case.record("an original in eval mode that is not to be trained is left as it was", left, about="the original")
    theirs, ours = copy("copied twice", 6, 2)
    again = from_torch(theirs)
    different = len({p.data_ptr() for module in (ours, again) for p in module.parameters()})
    case.record("two copies share nothing", different, about="number of parameters")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "from_torch",
    "Print the names and shapes of `nn.MultiheadAttention(4, 2).named_parameters()` and of your own module's. Which "
    "numbers have to go where?",
    "Section 3.2.2 has four projections: W^Q, W^K, W^V and W^O. In torch the first three are stacked in that order "
    "along the rows, because nn.Linear keeps its weight as (out, in).",
    "Build your own module with the same width and number of heads. Cut the packed weight and bias into three equal "
    "parts along the first axis. Copy *values* into your parameters, without recording gradients; do the same for "
    "the output layer.",
)
misconceptions(
    "from_torch",
    mistake(
        "keys and values swapped",
        ("(ours.w_q, ours.w_k, ours.w_v, ours.w_o)", "(ours.w_q, ours.w_v, ours.w_k, ours.w_o)"),
        says="The second third of the packed weights goes to w_v and the last to w_k; torch stacks queries, keys, "
        "values in this order.",
    ),
    mistake(
        "queries and keys swapped",
        ("(ours.w_q, ours.w_k, ours.w_v, ours.w_o)", "(ours.w_k, ours.w_q, ours.w_v, ours.w_o)"),
        says="The first third of the packed weights goes to w_k and the second to w_q; torch stacks queries, keys, "
        "values in this order.",
    ),
    mistake(
        "weights transposed",
        ("layer.weight.copy_(weight)", "layer.weight.copy_(weight.T)"),
        says="The weights are transposed on the way; nn.Linear and the packed weight both are (out, in).",
    ),
    mistake(
        "every third row",
        (
            "[*reference.in_proj_weight.chunk(3), ",
            "[reference.in_proj_weight[0::3], reference.in_proj_weight[1::3], reference.in_proj_weight[2::3], ",
        ),
        says="The packed weight is dealt out row by row in turn; it holds three whole blocks on top of each other.",
    ),
    mistake(
        "packed head by head",
        (
            "[*reference.in_proj_weight.chunk(3), ",
            "[*reference.in_proj_weight.reshape(reference.num_heads, 3, -1, reference.embed_dim).transpose(0, 1).flatten(1, 2), ",
        ),
        says="The packed weight is read as if each head's queries, keys and values stood together (some models do "
        "pack so); torch has all heads' queries first, then all keys, then all values.",
    ),
    mistake(
        "input biases forgotten",
        (
            "            layer.bias.copy_(bias)",
            "            if layer is ours.w_o:\n                layer.bias.copy_(bias)",
        ),
        says="in_proj_bias is not copied, so w_q, w_k and w_v keep the random biases they were born with.",
    ),
    mistake(
        "input biases set to 0",
        ("layer.bias.copy_(bias)", "layer.bias.copy_(bias if layer is ours.w_o else torch.zeros_like(bias))"),
        says="The biases of w_q, w_k and w_v are set to 0. That is what a fresh nn.MultiheadAttention has, but not "
        "a trained one: copy in_proj_bias.",
    ),
    mistake(
        "all biases set to 0",
        ("layer.bias.copy_(bias)", "layer.bias.zero_()"),
        says="All biases are set to 0. That is what a fresh nn.MultiheadAttention has, but not a trained one: copy "
        "in_proj_bias and out_proj.bias.",
    ),
    mistake(
        "only the biases copied",
        ("            layer.weight.copy_(weight)", "            pass"),
        says="The biases are copied but no weight is: all four layers keep the random weights they were born with.",
    ),
    mistake(
        "nothing copied",
        ("            layer.weight.copy_(weight)\n            layer.bias.copy_(bias)", "            pass"),
        says="Nothing is copied: the module that comes back is a new one, with random weights of its own.",
    ),
    mistake(
        "the original returned",
        ("return ours", "return reference"),
        says="torch's own module comes back; the copy has to be a MultiHeadAttention of yours.",
    ),
    mistake(
        "no biases copied",
        ("            layer.bias.copy_(bias)", "            pass"),
        says="No bias is copied: all four layers keep the random ones they were born with.",
    ),
    mistake(
        "output layer forgotten",
        (
            "            layer.weight.copy_(weight)\n            layer.bias.copy_(bias)",
            "            if layer is not ours.w_o:\n                layer.weight.copy_(weight)\n                layer.bias.copy_(bias)",
        ),
        says="out_proj is not copied, so w_o keeps the random values it was born with.",
    ),
    mistake(
        "output bias forgotten",
        (
            "            layer.bias.copy_(bias)",
            "            if layer is not ours.w_o:\n                layer.bias.copy_(bias)",
        ),
        says="out_proj.bias is not copied, so w_o keeps the random bias it was born with.",
    ),
    mistake(
        "parameters shared with the original",
        ("layer.weight.copy_(weight)", "layer.weight.data = weight.detach()"),
        ("layer.bias.copy_(bias)", "layer.bias.data = bias.detach()"),
        says="The copy's parameters are views of the original's memory: training one changes the other. Copy the "
        "values.",
    ),
    mistake(
        "width of a head taken for the number of heads",
        ("reference.num_heads", "reference.head_dim"),
        says="The number of heads is set to head_dim, the width of a head; it is num_heads.",
    ),
    mistake(
        "one head",
        ("reference.num_heads", "1"),
        says="The copy has one head whatever the original has; it needs num_heads.",
    ),
    mistake(
        "the original frozen",
        ("    return ours", "    reference.requires_grad_(False)\n    return ours"),
        says="The original's parameters no longer require gradients after the call, so it cannot be trained any "
        "further; it is to stay as it was. torch.no_grad() around the copying is enough.",
    ),
    mistake(
        "the original put in eval mode",
        ("    return ours", "    reference.eval()\n    return ours"),
        says="The original is in eval mode after the call; it is to stay as it was.",
    ),
    mistake(
        "parameters that cannot be trained",
        ("    return ours", "    return ours.requires_grad_(False)"),
        says="The copy's parameters do not require gradients, so it could not be trained any further.",
    ),
)


# %% tags=["alternative"]
@alternative("new parameters from slices")
def from_torch(mha):
    d = mha.embed_dim
    module = MultiHeadAttention(d, mha.num_heads)
    bias = mha.in_proj_bias if mha.in_proj_bias is not None else torch.zeros(3 * d, dtype=mha.in_proj_weight.dtype)
    for i, name in enumerate(["w_q", "w_k", "w_v"]):
        layer = getattr(module, name)
        layer.weight = nn.Parameter(mha.in_proj_weight[i * d : (i + 1) * d].detach().clone())
        layer.bias = nn.Parameter(bias[i * d : (i + 1) * d].detach().clone())
    module.w_o.weight = nn.Parameter(mha.out_proj.weight.detach().clone())
    out_bias = mha.out_proj.bias if mha.out_proj.bias is not None else torch.zeros(d, dtype=mha.out_proj.weight.dtype)
    module.w_o.bias = nn.Parameter(out_bias.detach().clone())
    return module


# %% tags=["alternative"]
@alternative("a state_dict, renamed")
def from_torch(reference):
    theirs = reference.state_dict()
    weight = theirs["in_proj_weight"].unflatten(0, (3, -1))
    bias = theirs.get("in_proj_bias", weight.new_zeros(weight.size(0) * weight.size(1))).unflatten(0, (3, -1))
    ours = MultiHeadAttention(reference.embed_dim, reference.num_heads).to(weight.dtype)
    state = {f"w_{name}.weight": weight[i] for i, name in enumerate("qkv")}
    state |= {f"w_{name}.bias": bias[i] for i, name in enumerate("qkv")}
    state["w_o.weight"] = theirs["out_proj.weight"]
    state["w_o.bias"] = theirs.get("out_proj.bias", torch.zeros_like(bias[0]))
    ours.load_state_dict(state)
    return ours


# %% tags=["alternative"]
@alternative("numpy in between, when it can")
def from_torch(reference):
    d, dtype = reference.embed_dim, reference.in_proj_weight.dtype
    ours = MultiHeadAttention(d, reference.num_heads).to(dtype=dtype)
    packed = torch.cat([reference.in_proj_weight, reference.out_proj.weight]).detach().double().numpy().copy()
    if reference.in_proj_bias is not None:
        biases = torch.cat([reference.in_proj_bias, reference.out_proj.bias]).detach().double().numpy().copy()
    else:
        biases = [0.0] * (4 * d)
    for i, layer in enumerate(ours.children()):
        layer.weight.data[:] = torch.tensor(packed[i * d : (i + 1) * d])
        layer.bias.data[:] = torch.tensor(biases[i * d : (i + 1) * d])
    return ours


# %% tags=["alternative"]
@alternative("deep copies of whole layers")
def from_torch(reference):
    from copy import deepcopy

    def layer(weight, bias):
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        linear.weight.data = deepcopy(weight.data)
        linear.bias.data = weight.data.new_zeros(weight.shape[0]) if bias is None else deepcopy(bias.data)
        return linear

    ours = MultiHeadAttention(reference.embed_dim, reference.num_heads)
    biases = [None] * 3 if reference.in_proj_bias is None else reference.in_proj_bias.split(reference.embed_dim)
    weights = reference.in_proj_weight.split(reference.embed_dim)
    ours.w_q, ours.w_k, ours.w_v = (
        layer(weight.clone(), None if b is None else b.clone()) for weight, b in zip(weights, biases)
    )
    ours.w_o = layer(reference.out_proj.weight, reference.out_proj.bias)
    return ours


# %% tags=["alternative"]
@alternative("torch.nn.init and in-place addition under no_grad")
@torch.no_grad()
def from_torch(reference):
    ours = MultiHeadAttention(reference.embed_dim, reference.num_heads).type(reference.out_proj.weight.dtype)
    for parameter in ours.parameters():
        nn.init.zeros_(parameter)
    (q, k, v), has_bias = reference.in_proj_weight.view(3, reference.embed_dim, -1), reference.in_proj_bias is not None
    for layer, weight in {ours.w_q: q, ours.w_k: k, ours.w_v: v, ours.w_o: reference.out_proj.weight}.items():
        layer.weight += weight
    if has_bias:
        q, k, v = torch.tensor_split(reference.in_proj_bias, 3)
        for layer, bias in ((ours.w_q, q), (ours.w_k, k), (ours.w_v, v), (ours.w_o, reference.out_proj.bias)):
            layer.bias += bias
    return ours


# %% [markdown]
# ## Debugging with small tensors
#
# When two implementations disagree on large tensors, "they differ" is all one learns. Two habits find the line that
# is wrong.
#
# **Weights that do nothing.** With identity matrices and no biases, multi-head attention is plain attention on each
# strip of features, which can be checked by hand.

# %% tags=["picture"]
layer = MultiHeadAttention(d_model=4, h=2)
with torch.no_grad():
    for linear in (layer.w_q, layer.w_k, layer.w_v, layer.w_o):
        linear.weight.copy_(torch.eye(4))
        linear.bias.zero_()
    x = torch.tensor([[[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]])  # to head 0 two words, to head 1 one word twice
    output, weights = layer(x, x, x)
torch.set_printoptions(precision=3, sci_mode=False)
print("weights of head 0\n", weights[0, 0], "\nweights of head 1\n", weights[0, 1], "\noutput\n", output[0])
e = math.exp(1 / math.sqrt(2))
print(
    f"by hand: head 0 has the scores 1/√2 and 0; a word weighs e^(1/√2) / (e^(1/√2) + 1) = {e / (e + 1):.3f} to itself"
)

# %% [markdown]
# **Stage by stage.** Compute every stage both ways and look at the *first* one that differs: what comes after it
# cannot agree. The table does so with a `torch.nn.MultiheadAttention` whose weights `from_torch` copied. Note three
# differences in how it is called: its batch comes second unless `batch_first=True`, its boolean mask is True where a
# query may **not** attend, and it averages the weights over heads unless told not to.

# %% tags=["picture"]
torch.manual_seed(SEED)
B, Lq, Lk, d_model, h = 2, 3, 4, 6, 2
theirs = nn.MultiheadAttention(d_model, h, batch_first=True)
nn.init.normal_(theirs.in_proj_bias)  # as if trained: fresh ones are 0 and would hide a forgotten copy
nn.init.normal_(theirs.out_proj.bias)
ours = from_torch(theirs)
query, memory = torch.randn(B, Lq, d_model), torch.randn(B, Lk, d_model)
mask = padding_mask(torch.tensor([[5, 6, 7, 8], [5, 6, 0, 0]]), pad_id=0).expand(B, Lq, Lk)

with torch.no_grad():
    stages = {}
    weight, bias = theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3)
    projections = {"queries": (ours.w_q, query), "keys": (ours.w_k, memory), "values": (ours.w_v, memory)}
    for i, (name, (layer, x)) in enumerate(projections.items()):
        stages[f"projected {name}"] = (layer(x), F.linear(x, weight[i], bias[i]))
    output, weights = ours(query, memory, memory, mask)
    hidden = ~mask.repeat_interleave(h, dim=0)  # (B·h, Lq, Lk), True = may not attend
    their_output, their_weights = theirs(query, memory, memory, attn_mask=hidden, average_attn_weights=False)
    stages["weights, each head"] = (weights, their_weights)
    values = split_heads(ours.w_v(memory), h)
    stages["concatenated heads"] = (merge_heads(weights @ values), merge_heads(their_weights @ values))
    stages["output"] = (output, their_output)
print(f"{'stage':20} {'shape':15} largest difference")
for name, (mine, other) in stages.items():
    print(f"{name:20} {str(tuple(mine.shape)):15} {(mine - other).abs().max().item():.1e}")

# %% [markdown]
# **What to see.** Differences of about 1e−7 or 0, the rounding of float32 (the two add up in another order). A wrong
# line shows as a jump to 0.1 or 1. One difference of behaviour remains, and it is deliberate: give both modules a
# query with nothing to attend to.

# %% tags=["picture"]
blind = mask.clone()
blind[1, 0] = False  # the second sentence's first query sees nothing
with torch.no_grad():
    output, _ = ours(query, memory, memory, blind)
    their_output, _ = theirs(query, memory, memory, attn_mask=~blind.repeat_interleave(h, dim=0))
print("ours:                 ", output[1, 0])
print("bias of w_o:          ", ours.w_o.bias.detach())
print("nn.MultiheadAttention:", their_output[1, 0])

# %% [markdown]
# ## What the heads do
#
# The paper's claim can be tested in seconds. Each position of a random sequence of letters has to name three letters:
# the one **before** it, the one **after** it, and the **first** of the sequence (the sequence is a ring: before the
# first comes the last). One layer of attention does all the moving of information, and a linear readout names the
# letters. We train it with 1, 2 and 3 heads. The number of parameters is the same each time, and guessing is right in
# one of 26 cases.

# %% tags=["picture"]
letters, length, d_model, steps = 26, 12, 48, 500 if PROFILE == "quick" else 3000
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)
questions = ("before", "after", "first")
torch.set_num_threads(1)  # matrices this small only lose time by being shared out


class LetterModel(nn.Module):
    """Embeddings of letters and positions, one layer of attention, a readout with one answer for each question."""

    def __init__(self, h):
        super().__init__()
        self.letter, self.position = nn.Embedding(letters, d_model), nn.Embedding(length, d_model)
        self.attention = MultiHeadAttention(d_model, h)
        self.readout = nn.Linear(d_model, len(questions) * letters)

    def forward(self, x):
        embedded = self.letter(x) + self.position.weight
        output, weights = self.attention(embedded, embedded, embedded)
        return self.readout(output).unflatten(-1, (len(questions), letters)), weights


def batch_of(size, generator):
    x = torch.randint(letters, (size, length), generator=generator)
    return x.to(device), torch.stack([x.roll(1, 1), x.roll(-1, 1), x[:, :1].expand(-1, length)], dim=-1).to(device)


def train(h):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = LetterModel(h).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        x, answers = batch_of(64, generator)
        logits, _ = model(x)
        loss = F.cross_entropy(logits.flatten(0, 2), answers.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        x, answers = batch_of(500, generator)
        logits, weights = model(x)
    correct = (logits.argmax(-1) == answers).float().mean(dim=(0, 1))
    return correct.tolist(), weights.mean(0).cpu()


results = {h: train(h) for h in (1, 2, 3)}
for h, (correct, _) in results.items():
    shares = ", ".join(f"{question} {share:.0%}" for question, share in zip(questions, correct))
    print(f"h = {h}: {shares}")

# %% tags=["picture"]
figure, axes = plt.subplots(1, 4, figsize=(12, 3.1), layout="constrained", width_ratios=[1.25, 1, 1, 1])
for place, (question, colour) in enumerate(zip(questions, (BLUE, ORANGE, GREEN))):
    heights = [results[h][0][place] for h in (1, 2, 3)]
    axes[0].bar([h + (place - 1) * 0.25 for h in (1, 2, 3)], heights, width=0.23, color=colour, label=question)
axes[0].set(title="Letters named right", xlabel="number of heads", ylabel="share", ylim=(0, 1.19), xlim=(0.5, 3.5))
axes[0].set_xticks([1, 2, 3])
axes[0].set_yticks([0, 0.5, 1])
axes[0].legend(frameon=False, ncol=3, loc="upper center", fontsize=8, columnspacing=1, handlelength=1)
axes[0].spines[["top", "right"]].set_visible(False)
for head, axis in enumerate(axes[1:]):
    image = axis.imshow(results[3][1][head], cmap="Blues", vmin=0, vmax=1)
    axis.set(title=f"head {head} of 3", xlabel="position attended to")
    axis.set_xticks(range(0, length, 2))
    axis.set_yticks(range(0, length, 2))
axes[1].set_ylabel("position that asks")
figure.colorbar(image, ax=axes[1:], label="mean weight", shrink=0.85, pad=0.01)
plt.show()

# %% [markdown]
# **What to see.** With one head the three letters arrive added up in one average, and the readout has to guess which is
# which: it names each of them right only part of the time. With two heads one question is still left over. With three
# heads every question is answered, and each head has taken one of them: a diagonal just below the middle looks back,
# one just above it looks ahead, a full column looks at the first letter. Nobody told them to divide the work so. (Heads
# of large models are rarely as tidy.)

# %% [markdown] written="several_heads" points=3
# ## Question 1 · why several heads and not one large one?
#
# *3 points, graded by a person*
#
# (a) What can $h$ heads of width $d_{model}/h$ represent that one head of width $d_{model}$ cannot, although both
# have the same number of parameters? Use the experiment above. (b) What does a head lose by being narrow? (c) Suppose
# one head were allowed two rows of weights for each query, but only one $W^V$. Would it solve two of the three
# questions?
#
# ### BEGIN SOLUTION
# (a) A head has one softmax for each query and returns one convex combination of (projected) values. $h$ heads return
# $h$ different combinations, of differently projected values, and $W^O$ receives them side by side. With one head,
# information from several places is added before anything else sees it ("averaging inhibits this"): in the experiment
# the three letters arrive as one sum, and which came from where is lost, so no question is answered reliably. Each
# further head makes one more question answerable.
#
# (b) Scores are dot products of only $d_k$ components: the matrix of scores $QK^\top$ has rank at most $d_k$ in each
# head, so a narrow head can tell fewer things apart; with $d_k$ too small quality drops (Table 3, rows A and B, of
# the paper: single-head attention is worse, and too many heads are too).
#
# (c) If the two averages are kept side by side, yes: what matters is that they are not added up before the readout.
# Both carry values projected alike, which is enough here, since both questions ask for the same kind of thing (a
# letter). If they are added, no: it is then one average again.
#
# **Rubric.** 1 point for each part. (a) needs *one distribution for each head and query*, or one average, tied to the
# experiment; "heads learn different features" alone is ½. (b) any sound reason: rank, fewer dimensions to compare in,
# Table 3. (c) the point is given for the reason (side by side against added), whichever reading is chosen.
# ### END SOLUTION

# %% [markdown] written="as_many_sentences_as_heads" points=2
# ## Question 2 · the mask that does not fail
#
# *2 points, graded by a person*
#
# Someone forgets the axis for the heads and hands a mask (B, Lq, Lk) to scores (B, h, Lq, Lk). (a) What happens for B
# = 4, h = 8, and what for B = 8, h = 8? Say what the mask then means. (b) Name the shapes of a test that would have
# found it, and one that never could.
#
# ### BEGIN SOLUTION
# (a) Broadcasting lines shapes up from the right: the mask becomes (1, B, Lq, Lk), so its sentences stand where the
# heads are. With B = 4 and h = 8, sizes 4 and 8 do not fit: an error. With B = 8 nothing fails, but head $i$ of
# *every* sentence is masked with the mask of sentence $i$: each sentence sees with seven heads what it may not see,
# and padding and future leak.
#
# (b) Any B ≠ h with B > 1 gives the error; B = h with masks that differ between sentences, compared by value, gives
# wrong numbers. Never found with B = 1, with a mask that is the same for all sentences (a causal mask alone), or with
# h = 1 and B = 1; nor by any test that looks at shapes only when B = h.
#
# **Rubric.** 1 point: error against silent misreading, with the mask's sentence axis taken for heads. 1 point: one
# shape that finds it *and* one that cannot, both right (½ for one of them).
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - The heads are strips of features; a reshape alone cuts the sequence instead. Right shapes prove little: compare
#   values.
# - Multi-head attention is four linear layers around the attention of the last notebook. It costs as much as one wide
#   head and can look at several places at once.
# - With copied weights it agrees with `torch.nn.MultiheadAttention` to the last digits: equal numbers from
#   independent code are the strongest evidence there is.
#
# **Next**, in week 3: everything around it. Attention knows no order, so positions have to be added; then
# feed-forward layers, layer normalisation and residual connections, encoder and decoder, and a model that learns to
# translate. It starts from your work: `from papers.transformer.attention import MultiHeadAttention`.

# %% tags=["picture"]
score()
