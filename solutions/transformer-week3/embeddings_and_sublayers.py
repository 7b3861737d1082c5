# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Embeddings, positions and what surrounds a sub-layer
#     order: 1
#     exports: papers.transformer.layers
#     minutes: 90
# ---

# %% [markdown]
# # Embeddings, positions and what surrounds a sub-layer
#
# *Attention Is All You Need*, sections 3.1 (residual connections, normalisation), 3.3 (feed-forward networks), 3.4 (embeddings), 3.5 (positions) and 5.4 (dropout) · about 90 minutes
#
# At the end of this notebook you can
#
# - turn token numbers into vectors that know which word they are *and* where they stand;
# - build layer normalisation and the feed-forward network, and prove the first equal to PyTorch's;
# - say where the normalisation and the dropout stand around a sub-layer, in the paper, in its authors' code, and what difference it makes.
#
# **Week 3 of the roadmap, steps 1 and 2.**
#
# 1. Implement positional encoding, feed-forward layers, layer normalisation and residual connections from scratch: this notebook. Multi-head attention you have from week 2.
# 2. Stack six encoder and six decoder layers to the full model: the next notebook, `encoder_and_decoder`.
# 3. Train it on a small data set: the third, `training_a_translator`.
#
# Watch on the way: [Code walkthrough of the Transformer in PyTorch](https://youtu.be/U0s0f995w14). Stop it whenever a piece of this notebook comes up, write your own, and compare.

# %% tags=["export"]
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# %%
import matplotlib.pyplot as plt
import torch.nn.functional as F

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## What attention cannot know
#
# Attention is a weighted average, and an average does not know the order of what it averages. Shuffle the words of a sentence, and every word finds the same
# other words, with the same weights: "dog bites man" and "man bites dog" come out alike. A recurrent network knows the order because it reads in order. The Transformer reads everything at
# once, so the order has to be written *into the vectors*. Section 3.5 adds to each word's vector a second one, which depends on nothing but its position.
#
# | piece | from | to | learned |
# | --- | --- | --- | --- |
# | embedding | token numbers $(B, L)$ | vectors $(B, L, d_\text{model})$ | yes, one row a word |
# | positional encoding | a length | $(L, d_\text{model})$, added | no, a formula |
# | sub-layer (attention, feed-forward) | $(B, L, d_\text{model})$ | $(B, L, d_\text{model})$ | yes |
# | residual connection and normalisation | $x$ and what the sub-layer made of it | $(B, L, d_\text{model})$ | two vectors |
#
# Everything keeps the last axis at $d_\text{model}$. That is what makes the sums possible, and the stacking.

# %% [markdown]
# ## Exercise 1 · `positional_encoding`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# $$PE_{(pos,\,2i)} = \sin\!\left(\frac{pos}{10000^{2i/d_\text{model}}}\right) \qquad PE_{(pos,\,2i+1)} = \cos\!\left(\frac{pos}{10000^{2i/d_\text{model}}}\right)$$
#
# Read the indices slowly: columns $2i$ and $2i+1$ are a *pair*. They share one frequency, and one is the sine, the other the cosine. The first pair turns once in $2\pi$ positions, the last in nearly
# $10000 \cdot 2\pi$: like the hands of a clock, some quick, some slow.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | order of the columns | sine and cosine alternate | the same | the authors' own code (tensor2tensor) puts all sines first, then all cosines; a learned layer behind it cannot tell, but the formula is the formula |
# | the exponent | $2i/d_\text{model}$ | the same | their code divides by $d_\text{model} - 2$ instead, so that the last wavelength is exactly $10000 \cdot 2\pi$ |
# | odd $d_\text{model}$ | nothing | the last column is a sine without its cosine | $d_\text{model}$ columns are promised, and the formula for $2i$ still holds |
# | positions | $pos$ | count from 0 | as the paper's code; position 0 is $(0, 1, 0, 1, …)$ |

# %% tags=["export"]
def positional_encoding(length: int, d_model: int) -> Tensor:
    """The sinusoidal encoding of section 3.5.

    Args:
        length: how many positions, counted from 0.
        d_model: width; may be odd, then the last column is a sine without its cosine.

    Returns: (length, d_model), float32. Row pos, columns 2i and 2i + 1: sine and cosine of pos /
        10000^(2i/d_model).
    """
    ### BEGIN SOLUTION
    positions = torch.arange(length, dtype=torch.float64).unsqueeze(1)  # in double precision, so that late positions keep their digits
    even = torch.arange(0, d_model, 2, dtype=torch.float64)  # the 2i of the formula
    angles = positions / 10000 ** (even / d_model)  # (length, ⌈d_model/2⌉)
    encoding = torch.zeros(length, d_model)
    encoding[:, 0::2] = torch.sin(angles)
    encoding[:, 1::2] = torch.cos(angles[:, : d_model // 2])
    return encoding
    ### END SOLUTION


# %%
@check("positional_encoding", points=3, paper="section 3.5")
def _(case):
    case.call("one position, two columns", positional_encoding, 1, 2)
    case.call("three positions, four columns", positional_encoding, 3, 4)
    case.call("odd width: four positions, five columns", positional_encoding, 4, 5)
    case.call("seven positions, eight columns", positional_encoding, 7, 8)
    case.call("one column", positional_encoding, 5, 1)
    case.call("longer than wide", positional_encoding, 50, 6)
    case.call("wider than long", positional_encoding, 9, 64)
    ### BEGIN HIDDEN TESTS
    case.call("odd and long", positional_encoding, 120, 33)
    case.call("odd and wide", positional_encoding, 6, 121)
    case.call("three columns", positional_encoding, 20, 3)
    case.call("as long as wide", positional_encoding, 16, 16)
    case.call("the width of the base model", positional_encoding, 30, 512)
    case.call("positions in the thousands", positional_encoding, 3000, 12, policy={"tol": 2e-3})
    length, width = case.integer(10, 40), case.integer(7, 50)
    case.call("some length, some width", positional_encoding, length, width)
    case.call("50 positions again, another width", positional_encoding, 50, 9)
    case.call("six columns again, longer", positional_encoding, 70, 6)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "positional_encoding",
    "How many different frequencies are there for d_model = 4? Write down which of them each of the four columns uses, and whether it takes the sine or the cosine.",
    "Section 3.5, the two formulas: the exponent is 2i/d_model in both, where 2i is the number of the even column. So columns 2 and 3 share an exponent, and 3 does not occur in it.",
    "Make a column of positions and a row of the even column numbers, divide them by broadcasting into a table of angles, one column a pair. Fill every other column, "
    "from the first, with sines, and every other from the second with cosines; for an odd width there is one cosine less than sines.",
)
misconceptions(
    "positional_encoding",
    mistake(
        "exponent doubled",
        ("(even / d_model)", "(2 * even / d_model)"),
        says="The exponent is 4i/d_model: twice what the paper has. If your counter already runs over the even columns 0, 2, 4, …, it is the 2i of the formula.",
    ),
    mistake(
        "exponent halved",
        ("(even / d_model)", "(even / 2 / d_model)"),
        says="The exponent is i/d_model: half of what the paper has, so the slowest pair turns only 100 times slower than the first. It should be 2i/d_model.",
    ),
    mistake(
        "exponent one pair on",
        ("(even / d_model)", "((even + 2) / d_model)"),
        says="The exponents are one pair ahead: i counts from 0, so the first pair has 10000^0 = 1 below the fraction line.",
    ),
    mistake(
        "cosine one step on",
        ("torch.cos(angles[:, : d_model // 2])", "torch.cos(positions / 10000 ** (torch.arange(1, d_model, 2, dtype=torch.float64) / d_model))"),
        says="The cosines have an exponent of their own, (2i+1)/d_model. Both columns of a pair share 2i/d_model, so that together they are one hand of a clock.",
    ),
    mistake(
        "the authors' exponent",
        ("(even / d_model)", "(even / max(d_model - 2, 1))"),
        says="The exponent is 2i/(d_model − 2), as in the authors' own code; the paper's formula, asked for here, has 2i/d_model.",
    ),
    mistake(
        "exponent rounded down",
        ("(even / d_model)", "(even // d_model)"),
        says="The exponent is an integer division and so always 0: all pairs turn at the same speed. It should be the fraction 2i/d_model.",
    ),
    mistake(
        "exponent of the next even width",
        ("(even / d_model)", "(even / (d_model + d_model % 2))"),
        says="For an odd width the exponent divides by d_model + 1, as if a wider encoding had been cut off; the formula divides by d_model, whatever it is.",
    ),
    mistake(
        "all sines first",
        ("encoding[:, 0::2]", "encoding[:, : (d_model + 1) // 2]"),
        ("encoding[:, 1::2]", "encoding[:, (d_model + 1) // 2 :]"),
        says="The left half holds sines and the right half cosines (as in the authors' code); by the paper's formula they alternate: 2i is a sine, 2i + 1 a cosine.",
    ),
    mistake(
        "sine and cosine exchanged",
        ("torch.sin(angles)", "torch.cos(angles)"),
        ("torch.cos(angles[", "torch.sin(angles["),
        says="Even columns hold the cosine and odd ones the sine; in the paper it is the other way round.",
    ),
    mistake(
        "sines only",
        ("torch.cos(angles[", "torch.sin(angles["),
        says="All columns are sines, so the two of a pair are equal; the odd columns are cosines.",
    ),
    mistake(
        "positions from 1",
        ("torch.arange(length, dtype=torch.float64)", "torch.arange(1, length + 1, dtype=torch.float64)"),
        says="The positions count from 1; here they count from 0, so that the first row is 0, 1, 0, 1, …",
    ),
    mistake(
        "base 1000",
        ("10000 ** (even", "1000 ** (even"),
        says="The base is 1000; the paper has 10000.",
    ),
    mistake(
        "times instead of divided by",
        ("positions / 10000", "positions * 10000"),
        says="The position is multiplied by the power of 10000, so the pairs turn faster and faster; the paper divides by it.",
    ),
    mistake(
        "no odd widths",
        ("angles[:, : d_model // 2]", "angles"),
        says="For an odd d_model there is one column of cosines less than of sines, and your code tries to fill in as many.",
    ),
    mistake(
        "transposed",
        ("return encoding", "return encoding.T"),
        says="The result is (d_model, length); a row should be a position: (length, d_model).",
    ),
    mistake(
        "a batch axis in front",
        ("return encoding", "return encoding.unsqueeze(0)"),
        says="The result has a batch axis, (1, length, d_model); (length, d_model) is asked for, which broadcasts over a batch all the same.",
    ),
    mistake(
        "double precision returned",
        ("torch.zeros(length, d_model)", "torch.zeros(length, d_model, dtype=torch.float64)"),
        says="The result is float64, and what it is added to would become float64 too; it should be float32.",
    ),
)
equivalents(
    "positional_encoding",
    {
        "option dropped: `positions = torch.arange(length, dtype=torch.float64).unsqueeze(1)` → `positions = torch.arange(length).unsqueeze(1)`":
            "integers divided by a float64 tensor are float64",
        "option dropped: `even = torch.arange(0, d_model, 2, dtype=torch.float64)` → `even = torch.arange(0, d_model, 2)`":
            "the frequencies are rounded to float32, which is as good as the result can hold",
        "call swapped: `encoding = torch.zeros(length, d_model)` → `encoding = torch.ones(length, d_model)`": "every column is overwritten",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("exponential of a logarithm, as in many codes")
def positional_encoding(length, d_model):
    encoding = torch.zeros(length, d_model)
    position = torch.arange(0, length).unsqueeze(1).float()
    frequencies = torch.exp(torch.arange(0, d_model, 2).float() * -(math.log(10000.0) / d_model))
    encoding[:, 0::2] = torch.sin(position * frequencies)
    encoding[:, 1::2] = torch.cos(position * frequencies)[:, : encoding[:, 1::2].size(1)]
    return encoding


# %% tags=["alternative"]
@alternative("two loops and the math module")
def positional_encoding(length, d_model):
    rows = []
    for pos in range(length):
        row = []
        for column in range(d_model):
            angle = pos / 10000 ** ((column - column % 2) / d_model)
            row.append(math.cos(angle) if column % 2 else math.sin(angle))
        rows.append(row)
    return torch.tensor(rows)


# %% tags=["alternative"]
@alternative("all columns at once, parity by where")
def positional_encoding(length, d_model):
    column = torch.arange(d_model)
    angles = torch.arange(length)[:, None] / torch.pow(10000.0, 2 * (column // 2) / d_model)
    return torch.where(column % 2 == 0, angles.sin(), angles.cos())


# %% tags=["alternative"]
@alternative("stacked pairs, flattened and cut")
def positional_encoding(length, d_model):
    pairs = (d_model + 1) // 2
    angles = torch.outer(torch.arange(length).double(), 10000.0 ** (-2.0 * torch.arange(pairs).double() / d_model))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :d_model].float()


# %% tags=["alternative"]
@alternative("a cosine is a sine a quarter turn ahead")
def positional_encoding(length, d_model):
    column = torch.arange(d_model, dtype=torch.float64)
    odd = column % 2
    angles = torch.arange(length, dtype=torch.float64)[:, None] * torch.exp(-(column - odd) * math.log(10000) / d_model)
    return torch.sin(angles + odd * math.pi / 2).to(torch.float32)


# %% [markdown]
# ### Try it: what the encoding looks like, and what it is good for
#
# For any offset $k$, $\sin(\omega(pos + k))$ and $\cos(\omega(pos + k))$ are a rotation of the pair at $pos$ by the angle $\omega k$: the same rotation at every position. The paper hoped that the model
# would learn to attend by relative position that way. One consequence can be drawn: the dot product of two encodings is $\sum_i \cos(\omega_i (pos - pos'))$, which depends on the distance only.

# %% tags=["picture"]
encoding = positional_encoding(100, 128)
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained", width_ratios=[1.2, 1, 1])
image = left.imshow(encoding, aspect="auto", cmap="cividis", interpolation="nearest")
left.set(title="The encoding, 128 columns wide", xlabel="column", ylabel="position")
figure.colorbar(image, ax=left, label="value", ticks=[-1, 0, 1])
for column, colour, style in ((0, BLUE, "-"), (1, BLUE, ":"), (24, ORANGE, "-"), (25, ORANGE, ":"), (48, GREEN, "-"), (49, GREEN, ":")):
    middle.plot(encoding[:, column], style, color=colour, linewidth=1.5 if style == "-" else 1)
for column, height, colour in ((0, 1.35, BLUE), (24, 1.6, ORANGE), (48, 1.85, GREEN)):
    middle.text(2, height, f"columns {column} (sine) and {column + 1} (cosine, dotted)", color=colour, fontsize=8, va="center")
middle.set(title="Three pairs of columns", xlabel="position", ylabel="value", ylim=(-1.1, 2.1), yticks=[-1, 0, 1])
for position, colour, style in ((30, BLUE, "-"), (50, ORANGE, "--"), (70, GREEN, ":")):
    distance = torch.arange(100) - position
    right.plot(distance, encoding @ encoding[position], style, color=colour, label=f"from position {position}")
right.set(title="Dot product against distance", xlabel="distance in positions", ylabel="dot product", xlim=(-30, 30))
right.legend(frameon=False, fontsize=8)
for axis in (middle, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"every row has the same length: from {encoding.norm(dim=1).min():.3f} to {encoding.norm(dim=1).max():.3f}, the root of {128 // 2} pairs")

# %% [markdown]
# **What to see.** Left: quick stripes on the left, slow ones on the right; no two rows are alike. Middle: a pair is a sine and its cosine, and each pair has its own speed. Right: the curves from three
# different positions lie on top of each other. The dot product knows how *far* two positions are apart, not where they are; it is largest at distance 0 and falls off to both sides alike, so it does not know
# *before* from *after*. (Queries and keys are learned projections, so a head can do better than this plain dot product.)

# %% [markdown]
# ## Exercise 2 · `add_positions`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# The encoding is *added* to the embeddings of every sentence in the batch. Broadcasting does that in one line, and does something else in a line that looks nearly the same: mind which axis is the position.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | which position a token has | its place in the sentence | the same; or what the caller says, in `positions` | a batch is padded. With padding on the left, column 3 may hold a sentence's first word: the caller can say so, and the sentence then comes out as it would alone |

# %% tags=["export"]
def add_positions(x: Tensor, positions: Tensor | None = None) -> Tensor:
    """Embeddings plus the positional encoding of where they stand (section 3.5).

    Args:
        x: embeddings (B, L, d_model), of any floating-point dtype.
        positions: integers ≥ 0, (B, L): where each token stands. They need not be in order, and may
            be larger than L. None: 0, 1, …, L − 1 in every sentence.

    Returns: (B, L, d_model), a new tensor in the dtype of x.
    """
    ### BEGIN SOLUTION
    if positions is None:
        return x + positional_encoding(x.size(1), x.size(2)).to(x)
    encoding = positional_encoding(int(positions.max()) + 1, x.size(2)).to(x)  # (positions, d_model)
    return x + encoding[positions]  # a row for each token, (B, L, d_model)
    ### END SOLUTION


# %%
@check("add_positions", points=2, paper="section 3.5")
def _(case):
    case.call("one sentence of two tokens", add_positions, case.normal(1, 2, 4))
    case.call("a batch of two, three tokens each", add_positions, case.normal(2, 3, 4))
    case.call("as many sentences as tokens", add_positions, case.normal(4, 4, 6))
    case.call("more sentences than tokens", add_positions, case.normal(5, 2, 3))
    late = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]], device=case.device)  # the second sentence has two tokens of padding on its left
    case.call("positions given: two sentences start at different columns", add_positions, case.normal(2, 4, 6), late)
    case.call("one token, at position 7", add_positions, case.normal(1, 1, 4), torch.tensor([[7]], device=case.device))
    case.call("float64 stays float64", add_positions, case.normal(2, 3, 5, dtype=torch.float64), policy={"tol": 1e-6})
    case.call("bfloat16 stays bfloat16", add_positions, *case.cast(torch.bfloat16, case.normal(2, 3, 6)))
    far = torch.tensor([[4_000, 3]], device=case.device)
    case.call("a position in the thousands", add_positions, case.normal(1, 2, 2), far)  # two columns: the angle is exact in float32
    ### BEGIN HIDDEN TESTS
    x = case.normal(3, 5, 7).requires_grad_()
    case.gradients("gradients reach the embeddings", case.call("embeddings that require gradients", add_positions, x), x)
    x = case.normal(3, 4, 8).requires_grad_()
    case.gradients("gradients, positions given", case.call("positions in any order", add_positions, x, case.integers(0, 30, 3, 4)), x)
    case.call("bfloat16 with positions", add_positions, *case.cast(torch.bfloat16, case.normal(2, 5, 4)), case.integers(0, 9, 2, 5))
    case.call("as many sentences as tokens and columns", add_positions, case.normal(3, 3, 3))
    case.call("a single token in each sentence", add_positions, case.normal(6, 1, 4))
    case.call("bfloat16, positions beyond 256", add_positions, *case.cast(torch.bfloat16, case.normal(1, 3, 2)), torch.tensor([[301, 259, 3]], device=case.device))
    case.call("a position beyond 5,000", add_positions, case.normal(1, 2, 2), torch.tensor([[6_001, 3]], device=case.device))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "add_positions",
    "Write the shapes under each other, aligned at the right: (B, L, d_model) and (L, d_model). Which axes meet?",
    "Section 3.5: the encodings “have the same dimension d_model as the embeddings, so that the two can be summed”. One encoding a position, the same for each sentence.",
    "Without positions, an encoding of L rows broadcasts over the batch by itself. With positions, make an encoding with enough rows and use the positions as row numbers: "
    "indexing with a (B, L) tensor gives (B, L, d_model). Convert the encoding to the dtype of x before the sum.",
)
misconceptions(
    "add_positions",
    mistake(
        "along the batch",
        ("positional_encoding(x.size(1), x.size(2)).to(x)", "positional_encoding(x.size(0), x.size(2)).to(x).unsqueeze(1)"),
        says="The encoding is added along the batch axis: every token of sentence 0 gets position 0, every token of sentence 1 position 1. The position is the second axis, L.",
    ),
    mistake(
        "positions ignored",
        ("    if positions is None:\n        return", "    if True:\n        return"),
        says="The positions that the caller gives are ignored; where they are given, they say where each token stands.",
    ),
    mistake(
        "positions from 1",
        ("positional_encoding(x.size(1), x.size(2)).to(x)", "positional_encoding(x.size(1) + 1, x.size(2)).to(x)[1:]"),
        says="Without `positions`, the first token gets position 1; it stands at position 0.",
    ),
    mistake(
        "given positions shifted by one",
        ("positional_encoding(int(positions.max()) + 1, x.size(2)).to(x)", "positional_encoding(int(positions.max()) + 2, x.size(2)).to(x)[1:]"),
        says="With `positions`, each token gets the encoding one place further on; position 0 is the first row of the encoding.",
    ),
    mistake(
        "one sentence's positions for all",
        ("encoding[positions]", "encoding[positions[0]]"),
        says="The first sentence's positions are used for the whole batch; each sentence has its own row of `positions`.",
    ),
    mistake(
        "not enough rows",
        ("positional_encoding(int(positions.max()) + 1, x.size(2))", "positional_encoding(x.size(1), x.size(2))"),
        says="The encoding has only L rows, and a given position may be larger than that.",
    ),
    mistake(
        "a table of fixed size",
        ("positional_encoding(int(positions.max()) + 1, x.size(2))", "positional_encoding(2000, x.size(2))"),
        says="The encoding has a fixed number of rows, and a given position may be larger than any such number. Make as many rows as the largest position needs.",
    ),
    mistake(
        "changed in place",
        ("return x + positional_encoding(x.size(1), x.size(2)).to(x)", "return x.add_(positional_encoding(x.size(1), x.size(2)).to(x))"),
        ("return x + encoding[positions]", "return x.add_(encoding[positions])"),
        says="The embeddings are changed in place (`+=`), and the caller still needs them. Return a new tensor.",
    ),
    mistake(
        "the dtype is lost",
        ("positional_encoding(x.size(1), x.size(2)).to(x)", "positional_encoding(x.size(1), x.size(2))"),
        ("positional_encoding(int(positions.max()) + 1, x.size(2)).to(x)", "positional_encoding(int(positions.max()) + 1, x.size(2))"),
        says="The encoding is added in float32, so half precision embeddings become float32. Convert it to the dtype of x first.",
    ),
    mistake(
        "multiplied",
        ("x + positional_encoding", "x * positional_encoding"),
        ("x + encoding", "x * encoding"),
        says="Embeddings and encoding are multiplied; the paper adds them.",
    ),
    mistake(
        "put side by side",
        ("x + positional_encoding(x.size(1), x.size(2)).to(x)", "torch.cat([x, positional_encoding(x.size(1), x.size(2)).to(x).expand_as(x)], -1)"),
        ("x + encoding[positions]", "torch.cat([x, encoding[positions]], -1)"),
        says="The encoding is put beside the embedding, which doubles the width; the paper adds them.",
    ),
    mistake(
        "embeddings lost",
        ("x + positional_encoding(x.size(1), x.size(2)).to(x)", "positional_encoding(x.size(1), x.size(2)).to(x).expand_as(x)"),
        ("x + encoding[positions]", "encoding[positions]"),
        says="Only the encoding comes back; the embeddings have to be in the sum.",
    ),
    mistake(
        "embeddings scaled here",
        ("x + positional_encoding", "x * math.sqrt(x.size(2)) + positional_encoding"),
        ("x + encoding", "x * math.sqrt(x.size(2)) + encoding"),
        says="The embeddings are multiplied by √d_model here. That belongs to the embedding (exercise 3); done twice, the positions drown.",
    ),
)
equivalents(
    "add_positions",
    {
        "number: `encoding = positional_encoding(int(positions.max()) + 1, x.size(2)).to(x)` → `encoding = positional_encoding(int(positions.max()) + 2, x.size(2)).to(x)`":
            "one row more than needed is made, and not used",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("positions made where none are given, one path")
def add_positions(x, positions=None):
    batch, length, d_model = x.shape
    if positions is None:
        positions = torch.arange(length, device=x.device).repeat(batch, 1)
    table = positional_encoding(positions.max().item() + 1, d_model).to(device=x.device, dtype=x.dtype)
    return x + table[positions]


# %% tags=["alternative"]
@alternative("embedding look-up")
def add_positions(x, positions=None):
    if positions is None:
        positions = torch.arange(x.shape[1], device=x.device)[None, :]
    table = positional_encoding(int(positions.max()) + 1, x.shape[2]).to(x.device)
    return torch.add(x, F.embedding(positions, table).type(x.dtype))


# %% tags=["alternative"]
@alternative("a loop over the sentences")
def add_positions(x, positions=None):
    rows = positional_encoding(x.size(1) if positions is None else 1 + int(positions.max()), x.size(-1)).type_as(x)
    result = []
    for number, sentence in enumerate(x):
        where = range(len(sentence)) if positions is None else positions[number].tolist()
        result.append(sentence + torch.stack([rows[place] for place in where]))
    return torch.stack(result)


# %% tags=["alternative"]
@alternative("a copy filled in place, index_select")
def add_positions(x, positions=None):
    result = x.clone()
    if positions is None:
        result += positional_encoding(x.size(1), x.size(2)).to(x.dtype)
        return result
    table = positional_encoding(int(positions.max() + 1), x.size(2)).to(x.dtype)
    result += table.index_select(0, positions.flatten()).view_as(x)
    return result


# %% [markdown]
# ## Exercise 3 · `Embedding`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# An embedding is a table with one learned row for each word of the vocabulary. Section 3.4 uses one table three times, for the source, for the target and, transposed, to get from the last
# layer back to words; and it multiplies by $\sqrt{d_\text{model}}$ where words come in.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | scale | "In the embedding layers, we multiply those weights by $\sqrt{d_\text{model}}$" | the same, in `forward` | the paper gives no reason. See the try-it below: a table small enough to be an output projection is too small to be heard beside the positions |
# | first values | nothing | $\mathcal N(0, 1/d_\text{model})$ | what the authors' code draws. Used as the output projection, it makes logits of size 1; times $\sqrt{d_\text{model}}$, it makes inputs of size 1 |

# %% tags=["export"]
class Embedding(nn.Module):
    """Vectors for token numbers, times √d_model (section 3.4).

    Parameter: `weight`, (vocab_size, d_model), drawn from N(0, 1/d_model).
    """

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, d_model) / math.sqrt(d_model))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (…), int64, to vectors (…, d_model)."""
        ### BEGIN SOLUTION
        return self.weight[tokens] * math.sqrt(self.weight.size(1))
        ### END SOLUTION


# %%
@check("Embedding", points=2, paper="section 3.4")
def _(case):
    small = case.initialise(Embedding(3, 4).to(case.device))
    case.call("two words of a vocabulary of three", small, torch.tensor([2, 0], device=case.device))
    case.call("one sentence, a word twice", small, torch.tensor([[1, 2, 1]], device=case.device))
    module = case.initialise(Embedding(11, 6).to(case.device))
    before = module.weight.detach().clone()
    tokens = case.integers(0, 11, 3, 5)
    tokens[0, 1] = 0  # token 0 is a word like any other
    output = case.call("a batch of sentences", module, tokens)
    case.gradients("gradients of the table", output, module)
    case.record("the table is not changed by looking words up", float((module.weight - before).detach().abs().max()), at_most=0.0, about="change")
    table = Embedding(50, 400).weight.detach().double() * 400**0.5  # 20,000 numbers, of mean 0 and deviation 1 within 3 %
    spread = float(table.std())
    case.record("a new table: standard deviation times √d_model, not more than 1.1", spread, at_most=1.1, about="standard deviation times √d_model")
    case.record("a new table: standard deviation times √d_model, not less than 0.9", spread, at_least=0.9, about="standard deviation times √d_model")
    case.record("a new table: its mean times √d_model, without the sign", abs(float(table.mean())), at_most=0.1, about="mean times √d_model")
    case.record("a new table: its rows are drawn one by one", float(table.std(0).mean()), at_least=0.8, about="deviation from row to row, times √d_model")
    beyond = float((table.abs() > 2).double().mean())  # 4.6 % of a normal distribution, nothing of a uniform one
    case.record("a new table: share of numbers beyond two deviations", beyond, at_least=0.03, about="share beyond two standard deviations")
    case.record("a second table is drawn anew", float((Embedding(50, 400).weight.detach() * 400**0.5 - table).abs().mean()), at_least=0.8, about="mean difference of two new tables, times √d_model")
    ### BEGIN HIDDEN TESTS
    other = float(Embedding(300, 64).weight.detach().std()) * 64**0.5
    case.record("a new table, narrower: standard deviation times √d_model, not more than 1.1", other, at_most=1.1, about="standard deviation times √d_model")
    case.record("a new table, narrower: standard deviation times √d_model, not less than 0.9", other, at_least=0.9, about="standard deviation times √d_model")
    case.call("three axes of tokens", module, case.integers(0, 11, 2, 3, 4))
    case.call("the same words again", module, torch.tensor([[10, 10], [0, 10]], device=case.device))
    wide = case.initialise(Embedding(4, 16).to(case.device))
    case.call("wider than the vocabulary", wide, case.integers(0, 4, 2, 7))
    doubled = case.initialise(Embedding(5, 3).to(case.device).double())
    case.call("float64", doubled, case.integers(0, 5, 2, 3), policy={"tol": 1e-6})  # √d_model may be kept as a float32 tensor
    fresh = Embedding(7, 5).to(case.device)
    with torch.no_grad():
        fresh.weight.copy_(case.normal(7, 5))
    case.call("new weights count", fresh, case.integers(0, 7, 4))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Embedding",
    "A tensor indexed with a tensor of integers gives one row for each integer. What is still missing?",
    "Section 3.4, last sentence.",
    "Take the rows of the table that the tokens name, and multiply them by the square root of the table's width (not of its height).",
)
misconceptions(
    "Embedding",
    mistake(
        "no √d_model",
        (" * math.sqrt(self.weight.size(1))", ""),
        says="The rows come back as they are; section 3.4 multiplies them by √d_model.",
    ),
    mistake(
        "times d_model",
        ("math.sqrt(self.weight.size(1))", "self.weight.size(1)"),
        says="The rows are multiplied by d_model; section 3.4 has the square root.",
    ),
    mistake(
        "divided by √d_model",
        (" * math.sqrt", " / math.sqrt"),
        says="The rows are divided by √d_model (as the scores of attention are); here section 3.4 multiplies.",
    ),
    mistake(
        "root of the vocabulary",
        ("self.weight.size(1)", "self.weight.size(0)"),
        says="The rows are multiplied by the root of the vocabulary's size; it should be the root of their width, d_model.",
    ),
    mistake(
        "the table scaled for good",
        ("return self.weight[tokens] * math.sqrt(self.weight.size(1))",
         "with torch.no_grad():\n            self.weight.mul_(math.sqrt(self.weight.size(1)))\n        return self.weight[tokens]"),  # fmt: skip
        says="The table itself is multiplied at each call, so it grows and grows; only what is looked up is scaled.",
    ),
    mistake(
        "table without gradients",
        ("self.weight[tokens]", "self.weight.detach()[tokens]"),
        says="The table is cut off from the gradients (detach, .data or no_grad), so it would never learn.",
    ),
    mistake(
        "table on its side",
        ("torch.randn(vocab_size, d_model)", "torch.randn(d_model, vocab_size)"),
        ("self.weight[tokens] * math.sqrt(self.weight.size(1))", "self.weight.T[tokens] * math.sqrt(self.weight.size(0))"),
        says="The table is (d_model, vocab_size); one row a word is asked for, (vocab_size, d_model), so that it can be shared with the output projection.",
    ),
    mistake(
        "positions added here",
        ("return self.weight[tokens] * math.sqrt(self.weight.size(1))",
         "x = self.weight[tokens] * math.sqrt(self.weight.size(1))\n        return x + positional_encoding(tokens.size(-1), x.size(-1)).to(x)"),  # fmt: skip
        says="The positions are added here already; this module only looks words up, and `add_positions` does the rest.",
    ),
    mistake(
        "padding made zero",
        ("return self.weight[tokens] * math.sqrt(self.weight.size(1))",
         "return self.weight[tokens] * math.sqrt(self.weight.size(1)) * (tokens != 0).unsqueeze(-1)"),  # fmt: skip
        says="Token 0 always gets zeros. Which token is padding is not this module's business; padding is hidden by masks.",
    ),
    mistake(
        "padding never learned",
        ("self.weight[tokens]", "nn.functional.embedding(tokens, self.weight, padding_idx=0)"),
        says="Row 0 gets no gradient (`padding_idx=0`), so it would never learn. Which token is padding is not this module's business; padding is hidden by masks.",
    ),
    mistake(
        "first values from N(0, 1)",
        ("torch.randn(vocab_size, d_model) / math.sqrt(d_model)", "torch.randn(vocab_size, d_model)"),
        says="The table is drawn from N(0, 1), as nn.Embedding's is; it should be N(0, 1/d_model). Times √d_model, the words would drown the positions.",
    ),
    mistake(
        "first values divided by d_model",
        ("torch.randn(vocab_size, d_model) / math.sqrt(d_model)", "torch.randn(vocab_size, d_model) / d_model"),
        says="The first values have the standard deviation 1/d_model; 1/d_model is to be their variance, so the standard deviation is 1/√d_model.",
    ),
)


# %% tags=["alternative"]
@alternative("F.embedding")
class Embedding(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.d_model = d_model
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model).normal_(0, d_model**-0.5))

    def forward(self, tokens):
        return F.embedding(tokens, self.weight) * self.d_model**0.5


# %% tags=["alternative"]
@alternative("a subclass of nn.Embedding")
class Embedding(nn.Embedding):
    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def forward(self, tokens):
        return super().forward(tokens) * math.sqrt(self.embedding_dim)


# %% tags=["alternative"]
@alternative("one-hot vectors times the table")
class Embedding(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(vocab_size, d_model))
        nn.init.normal_(self.weight, std=1 / math.sqrt(d_model))

    def forward(self, tokens):
        one_hot = F.one_hot(tokens, self.weight.size(0)).to(self.weight.dtype)
        return one_hot @ self.weight * self.weight.size(1) ** 0.5


# %% tags=["alternative"]
@alternative("index_select on the scaled table")
class Embedding(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(vocab_size, d_model) * d_model**-0.5)
        self.scale = d_model**0.5

    def forward(self, tokens):
        scaled = self.scale * self.weight
        return torch.index_select(scaled, 0, tokens.reshape(-1)).reshape(*tokens.shape, -1)


# %% [markdown]
# ### Try it: can the words be heard?
#
# A row of the positional encoding has the length $\sqrt{d_\text{model}/2}$, whatever the position. A row of the table, drawn from $\mathcal N(0, 1/d_\text{model})$, has length 1.

# %% tags=["picture"]
torch.manual_seed(SEED)
widths = [2**n for n in range(3, 11)]
lengths = {"position": [], "word, as in the table": [], "word × √d_model": []}
for d_model in widths:
    table, tokens = Embedding(1000, d_model), torch.randint(1000, (200,))
    lengths["position"].append(positional_encoding(200, d_model).norm(dim=1).mean().item())
    lengths["word, as in the table"].append(table.weight[tokens].norm(dim=1).mean().item())
    lengths["word × √d_model"].append(table(tokens).norm(dim=1).mean().item())
figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for (name, values), colour, style in zip(lengths.items(), (GREY, ORANGE, BLUE), ("s--", "o-", "^-")):
    axis.plot(widths, values, style, color=colour, label=name)
axis.set(title="How long the vectors are that are added", xlabel=r"$d_\mathrm{model}$", ylabel="mean length", xscale="log", yscale="log")
axis.set_xticks(widths[::2], [str(d) for d in widths[::2]])
axis.minorticks_off()
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()
print(f"at d_model = {widths[-1]} a position is {lengths['position'][-1] / lengths['word, as in the table'][-1]:.1f} times as long as a word without the factor, "
      f"{lengths['position'][-1] / lengths['word × √d_model'][-1]:.2f} times with it")  # fmt: skip

# %% [markdown]
# **What to see.** Without the factor the word's vector keeps length 1 while the position's grows with $\sqrt{d_\text{model}}$: in a wide model the sum would be nearly all position. With it both grow alike, at every width.

# %% [markdown]
# ## Exercise 4 · `LayerNorm`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Every vector of $d_\text{model}$ numbers is brought, by itself, to mean 0 and variance 1; then two learned vectors scale and shift it:
#
# $$\mathrm{LayerNorm}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \odot \gamma + \beta, \qquad \mu = \frac1d \sum_{i=1}^d x_i, \quad \sigma^2 = \frac1d \sum_{i=1}^d (x_i - \mu)^2$$
#
# No other word and no other sentence takes part. (Batch normalisation averages over the batch: then a sentence would come out differently in other company, and padding would count.)
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | variance | only cites *Layer Normalization* (Ba et al., 2016) | divides by $d$: the biased variance | as that paper, the authors' code and `nn.LayerNorm`. `x.std()` divides by $d - 1$ unless told otherwise |
# | $\varepsilon$ | nothing | under the root, $10^{-5}$ | as `nn.LayerNorm`; the authors' code has $10^{-6}$, also under the root. Some well-known re-implementations add it to the standard deviation instead, which differs where the variance is small |
# | $\gamma$, $\beta$ | nothing | `weight` and `bias`, first 1 and 0 | the names of `nn.LayerNorm`, so weights can be copied to and fro |

# %% tags=["export"]
class LayerNorm(nn.Module):
    """Layer normalisation over the last axis, equal to nn.LayerNorm (section 3.1; Ba et al. 2016).

    Parameters: `weight` and `bias`, (d_model,) each, at first ones and zeros.

    May not call nn.LayerNorm, F.layer_norm, torch.layer_norm or another ready-made normalisation.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, d_model). Returns: the same shape and dtype; x is not changed."""
        ### BEGIN SOLUTION
        mean = x.mean(-1, keepdim=True)  # (…, 1)
        variance = ((x - mean) ** 2).mean(-1, keepdim=True)  # divided by d, not by d − 1
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias
        ### END SOLUTION


# %%
@check(
    "LayerNorm",
    points=3,
    forbid=[
        "torch.nn.LayerNorm", "torch.nn.functional.layer_norm", "torch.layer_norm", "torch.native_layer_norm",
        "torch.nn.GroupNorm", "torch.nn.functional.group_norm", "torch.group_norm", "torch.native_group_norm",
        "torch.nn.RMSNorm", "torch.nn.functional.rms_norm", "torch.rms_norm",
        "torch.nn.InstanceNorm*", "torch.nn.functional.instance_norm", "torch.instance_norm",
        "torch.nn.BatchNorm*", "torch.nn.functional.batch_norm", "torch.batch_norm", "torch.native_batch_norm",
    ],
    paper="section 3.1 (and Ba et al. 2016, equation 4)",
)  # fmt: skip
def _(case):
    def spread(*shape):  # numbers that happen to be nearly equal would leave rounding alone to be divided by their deviation
        return case.normal(*shape) + torch.linspace(-3, 3, shape[-1], device=case.device)

    fresh = LayerNorm(3).to(case.device)
    case.record("a new one: weights and biases", {name: value.detach().clone() for name, value in fresh.named_parameters()})
    case.call("a new one, one vector of three", fresh, spread(1, 3))
    small = case.initialise(LayerNorm(4).to(case.device))
    case.call("two vectors of four", small, spread(2, 4) + 2)
    case.call("a batch of sentences", small, 2 * spread(2, 3, 4))
    case.call("numbers so small that ε counts", small, case.normal(3, 4, scale=2e-3))
    case.call("a vector of equal numbers", small, torch.full((1, 2, 4), 2.5, device=case.device))
    other = case.initialise(LayerNorm(6, eps=0.5).to(case.device))
    case.call("ε = 0.5", other, case.normal(3, 2, 6))
    x = case.normal(2, 5, 6).requires_grad_()
    output = case.call("an input that requires gradients", other, x)
    case.gradients("gradients of the input", output, x)
    case.gradients("gradients of weight and bias", output, other)
    ### BEGIN HIDDEN TESTS
    wide = case.initialise(LayerNorm(33).to(case.device))
    case.call("four axes", wide, case.normal(2, 3, 1, 33) - 4)
    case.call("one axis", wide, case.normal(33))
    case.call("as many sentences as positions", wide, case.normal(4, 4, 33, scale=0.2))
    doubled = case.initialise(LayerNorm(5).to(case.device).double())
    case.call("float64 stays float64", doubled, case.normal(3, 4, 5, dtype=torch.float64))
    two = case.initialise(LayerNorm(2, eps=1e-3).to(case.device))
    case.call("vectors of two", two, case.normal(5, 2, scale=0.03))
    case.call("an input that is not contiguous", two, case.normal(2, 3, 4, scale=0.3).transpose(1, 2)[..., :2])
    padded = case.normal(2, 4, 33)
    longer = torch.cat([padded, 50 * case.normal(2, 2, 33)], dim=1)
    case.record("other words change nothing", float((wide(longer)[:, :4] - wide(padded)).detach().abs().max()), at_most=1e-5, about="change")
    copy = LayerNorm(33).to(case.device)
    copy.load_state_dict(wide.state_dict())
    case.record("a copy by state_dict agrees", float((copy(padded) - wide(padded)).detach().abs().max()), at_most=0.0, about="difference")
    case.call("evaluation mode, after training", wide.eval(), case.normal(3, 33) + 2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "LayerNorm",
    "Take one vector of four numbers and do it on paper. Over how many numbers do you average, and by what do you divide their squares?",
    "The formula above: the sum of squares is divided by d, ε stands under the root, γ multiplies and β is added at the end. Section 3.1 of the paper only cites the method.",
    "Average over the last axis and keep it, so that it broadcasts. Subtract; average the squares of what remains, over the same axis. Divide by the root of that plus ε. "
    "Multiply by the weight and add the bias, both of d_model numbers.",
)
misconceptions(
    "LayerNorm",
    mistake(
        "unbiased variance",
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "x.var(-1, keepdim=True)"),
        says="The variance is divided by d − 1 (the default of var and std); layer normalisation divides by d.",
    ),
    mistake(
        "ε outside the root",
        ("torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)"),
        says="ε is added to the standard deviation, outside the root; it belongs to the variance, under the root.",
    ),
    mistake(
        "unbiased, and ε outside the root",
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "x.var(-1, keepdim=True)"),
        ("torch.sqrt(variance + self.eps)", "(torch.sqrt(variance) + self.eps)"),
        says="The standard deviation divides by d − 1, and ε is added to it (as in a well-known tutorial). The variance has to divide by d, and ε belongs under the root.",
    ),
    mistake(
        "no ε",
        ("variance + self.eps", "variance"),
        says="ε is missing: a vector of equal numbers is divided by 0, and small ones come out too large.",
    ),
    mistake(
        "ε squared",
        ("variance + self.eps", "variance + self.eps**2"),
        says="ε is squared under the root; nn.LayerNorm adds it to the variance as it is.",
    ),
    mistake(
        "ε always 1e-5",
        ("self.eps = eps", "self.eps = 1e-5"),
        says="The argument `eps` is ignored.",
    ),
    mistake(
        "ε = 1e-6 by default",
        ("eps: float = 1e-5", "eps: float = 1e-6"),
        says="The default of ε is 1e-6, as in the authors' code; here it is to be 1e-5, as in nn.LayerNorm.",
    ),
    mistake(
        "over the positions",
        ("x.mean(-1, keepdim=True)", "x.mean(-2, keepdim=True)"),
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "((x - mean) ** 2).mean(-2, keepdim=True)"),
        says="Mean and variance are taken over the positions of a sentence (the last axis but one); each vector is normalised by itself, over the last axis.",
    ),
    mistake(
        "over the batch",
        ("x.mean(-1, keepdim=True)", "x.mean(0, keepdim=True)"),
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "((x - mean) ** 2).mean(0, keepdim=True)"),
        says="Mean and variance are taken over the first axis, the batch: that is batch normalisation. Each vector is normalised by itself, over the last axis.",
    ),
    mistake(
        "over positions and columns together",
        ("x.mean(-1, keepdim=True)", "x.mean((-2, -1), keepdim=True)"),
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "((x - mean) ** 2).mean((-2, -1), keepdim=True)"),
        says="One mean and variance is taken over all positions of a sentence together; each position has its own, over the last axis only.",
    ),
    mistake(
        "mean not subtracted",
        ("return (x - mean) / torch", "return x / torch"),
        says="The mean is not subtracted from what is divided; the result should have mean 0 before the bias.",
    ),
    mistake(
        "root mean square",
        ("mean = x.mean(-1, keepdim=True)", "mean = 0.0"),
        says="The vectors are divided by their root mean square and no mean is subtracted: that is RMSNorm. Layer normalisation subtracts the mean first.",
    ),
    mistake(
        "divided by the variance",
        ("torch.sqrt(variance + self.eps)", "(variance + self.eps)"),
        says="The vectors are divided by the variance; it should be its root, the standard deviation.",
    ),
    mistake(
        "no weight",
        (" * self.weight", ""),
        says="The learned scale `weight` (γ) is not used.",
    ),
    mistake(
        "no bias",
        (" + self.bias", ""),
        says="The learned shift `bias` (β) is not used.",
    ),
    mistake(
        "weight and bias exchanged",
        ("* self.weight + self.bias", "* self.bias + self.weight"),
        says="Weight and bias are exchanged: the weight (γ) multiplies, the bias (β) is added.",
    ),
    mistake(
        "bias before weight",
        ("return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias",
         "return ((x - mean) / torch.sqrt(variance + self.eps) + self.bias) * self.weight"),  # fmt: skip
        says="The bias is added before the multiplication with the weight; it comes last.",
    ),
    mistake(
        "starts at zero",
        ("torch.ones(d_model)", "torch.zeros(d_model)"),
        says="The weight starts at 0, so a new LayerNorm gives nothing but zeros; it starts at 1.",
    ),
    mistake(
        "statistics without gradients",
        ("x.mean(-1, keepdim=True)  # (…, 1)", "x.detach().mean(-1, keepdim=True)"),
        ("((x - mean) ** 2).mean(-1, keepdim=True)", "((x.detach() - mean) ** 2).mean(-1, keepdim=True)"),
        says="Mean and variance are computed without gradients (detach or no_grad). They depend on x, and its gradient has to go through them.",
    ),
    mistake(
        "input changed in place",
        ("        mean = x.mean(-1, keepdim=True)  # (…, 1)", "        mean = x.mean(-1, keepdim=True)\n        x.data.sub_(mean)\n        mean = 0.0 * mean"),
        says="The input is changed in place (`-=`), and the residual connection still needs it. Compute a new tensor.",
    ),
)
equivalents(
    "LayerNorm",
    {"operands: `variance = ((x - mean) ** 2).mean(-1, keepdim=True)` → `variance = ((mean - x) ** 2).mean(-1, keepdim=True)`": "the square forgets the sign"},
)


# %% tags=["alternative"]
@alternative("var_mean, rsqrt, addcmul")
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return torch.addcmul(self.bias, (x - mean) * torch.rsqrt(variance + self.eps), self.weight)


# %% tags=["alternative"]
@alternative("mean of squares minus square of the mean")
class LayerNorm(nn.Module):
    def __init__(self, features, eps=1e-5):
        super().__init__()
        self.register_parameter("bias", nn.Parameter(torch.zeros(features)))
        self.register_parameter("weight", nn.Parameter(torch.ones(features)))
        self.epsilon = eps

    def forward(self, x):
        m = x.mean(dim=-1, keepdim=True)
        s = (x * x).mean(dim=-1, keepdim=True) - m * m
        return self.weight * (x - m) * (s.clamp(min=0) + self.epsilon) ** -0.5 + self.bias


# %% tags=["alternative"]
@alternative("float64 inside, unbiased=False")
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((d_model,), 1.0))
        self.bias = nn.Parameter(torch.full((d_model,), 0.0))

    def forward(self, x):
        y = x.double()
        y = (y - y.mean(-1, True)) / (y.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()
        return (y * self.weight + self.bias).to(x.dtype)


# %% tags=["alternative"]
@alternative("sums and einsum")
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        centred = x - x.sum(-1, keepdim=True) / self.d_model
        scale = (torch.einsum("...d,...d->...", centred, centred) / self.d_model + self.eps).pow(-0.5)
        return centred * scale[..., None] * self.weight + self.bias


# %% tags=["alternative"]
@alternative("one vector at a time")
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.eps = eps

    def forward(self, x):
        rows = []
        for row in x.reshape(-1, x.shape[-1]):
            deviation = row - row.mean()
            rows.append(deviation / torch.sqrt(deviation.pow(2).mean() + self.eps) * self.weight + self.bias)
        return torch.stack(rows).reshape(x.shape)


# %% [markdown]
# ### Try it: agreement with `nn.LayerNorm`, and with its look-alikes
#
# The three versions differ most where $d$ is small (the $d - 1$) and where the numbers are small (the place of $\varepsilon$).

# %% tags=["picture"]
torch.manual_seed(SEED)


def look_alike(x, unbiased, outside):
    deviation, variance = x - x.mean(-1, keepdim=True), x.var(-1, unbiased=unbiased, keepdim=True)
    return deviation / (variance.sqrt() + 1e-5 if outside else (variance + 1e-5).sqrt())


print(f"{'largest difference from nn.LayerNorm':38} {'d = 8':>10} {'d = 512':>10} {'d = 512, x of size 1/1000':>28}")
for name, function in {
    "this notebook's": lambda x: LayerNorm(x.size(-1))(x),
    "variance divided by d − 1": lambda x: look_alike(x, unbiased=True, outside=False),
    "ε added to the standard deviation": lambda x: look_alike(x, unbiased=False, outside=True),
}.items():
    found = [float((function(x) - nn.LayerNorm(x.size(-1))(x)).detach().abs().max()) for x in (torch.randn(50, 8), torch.randn(50, 512), torch.randn(50, 512) / 1000)]
    print(f"{name:38} {found[0]:10.1e} {found[1]:10.1e} {found[2]:28.1e}")

# %% [markdown]
# **What to see.** The first row is rounding. The others are right to two digits or more in a wide model with ordinary numbers, which is why the mistake lives on; for copied weights two digits are not enough.

# %% [markdown]
# ## Exercise 5 · `PositionwiseFeedForward`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# $$\mathrm{FFN}(x) = \max(0,\, xW_1 + b_1)\,W_2 + b_2 \tag{2}$$
#
# The same two layers for every position, each by itself; in the base model from 512 to 2048 and back. Attention moves information *between* positions, the feed-forward network works on it *within* each.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | dropout | none inside (5.4 names the sub-layer's output and the embeddings) | one more, after the ReLU, as `nn.Dropout` does it: each number by itself, what is left divided by $1 - p$ | the authors' code has it (`relu_dropout`), as has `nn.Transformer`; on the output of the whole sub-layer it is `Residual`'s business |

# %% tags=["export"]
class PositionwiseFeedForward(nn.Module):
    """Equation 2: linear, ReLU, dropout, linear, at each position alike.

    Parameters: those of `linear1`, an nn.Linear from d_model to d_ff, and `linear2`, back; both
        with bias. `dropout` is the probability of zeroing a hidden number.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.1) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x: (…, d_model). Returns: the same shape."""
        ### BEGIN SOLUTION
        hidden = torch.relu(self.linear1(x))  # (…, d_ff)
        return self.linear2(self.dropout(hidden))
        ### END SOLUTION


# %%
@check("PositionwiseFeedForward", points=2, paper="section 3.3, equation 2")
def _(case):
    small = case.initialise(PositionwiseFeedForward(2, 3).to(case.device)).eval()
    case.call("one vector of two", small, case.normal(1, 2))
    module = case.initialise(PositionwiseFeedForward(4, 10, dropout=0.5).to(case.device))
    x = case.normal(2, 3, 4).requires_grad_()
    output = case.call("a batch of sentences; eval mode, so no dropout", module.eval(), x)
    case.gradients("gradients of the input", output, x)
    case.gradients("gradients of the parameters", output, module)
    never = case.initialise(PositionwiseFeedForward(4, 6, dropout=0.0).to(case.device)).train()
    case.call("training with dropout 0", never, case.normal(2, 2, 4))
    always = case.initialise(PositionwiseFeedForward(4, 6, dropout=1.0).to(case.device)).train()
    case.call("training with dropout 1: every hidden number is dropped", always, case.normal(1, 3, 4))
    case.call("dropout 1, but eval mode", always.eval(), case.normal(1, 3, 4))
    usual = case.initialise(PositionwiseFeedForward(3, 4000).to(case.device)).train()
    with torch.no_grad():
        usual.linear1.bias.fill_(50.0)  # all hidden numbers are positive: those without gradient were dropped
    (dropped,) = torch.autograd.grad(usual(case.normal(1, 3)).sum(), [usual.linear1.bias])
    share = float((dropped == 0).double().mean())
    case.record("by default about a tenth is dropped: not more than 13 %", share, at_most=0.13, about="share dropped")
    case.record("by default about a tenth is dropped: not less than 7 %", share, at_least=0.07, about="share dropped")
    (whole,) = torch.autograd.grad(usual.eval()(case.normal(1, 3)).sum(), [usual.linear1.bias])
    left = dropped != 0
    growth = float(dropped[left].double().abs().sum() / whole[left].double().abs().sum())
    case.record("what is not dropped is larger in training than in eval mode", growth, tol=1e-3, about="how many times as large")
    ### BEGIN HIDDEN TESTS
    case.call("no batch", module.eval(), case.normal(5, 4))
    case.call("large numbers", module, case.normal(2, 1, 4, scale=30.0))
    case.call("narrower inside than outside", case.initialise(PositionwiseFeedForward(7, 2).to(case.device)).eval(), case.normal(3, 2, 7))
    doubled = case.initialise(PositionwiseFeedForward(3, 5).to(case.device).double()).eval()
    case.call("float64", doubled, case.normal(2, 4, 3, dtype=torch.float64))
    x = case.normal(2, 4, 4)
    order = case.permutation(4)
    case.record("each position by itself: shuffled in, shuffled out", float((module(x[:, order]) - module(x)[:, order]).detach().abs().max()), at_most=1e-5, about="difference")
    copy = PositionwiseFeedForward(4, 10).to(case.device).eval()
    copy.load_state_dict(module.state_dict())
    case.record("a copy by state_dict agrees", float((copy(x) - module(x)).detach().abs().max()), at_most=0.0, about="difference")
    same = usual.train()(case.normal(1, 1, 3).repeat(2, 2, 1)).detach().flatten(0, 1)
    case.record("four equal vectors are not dropped from alike", float((same[1:] - same[0]).abs().amax(1).min()), at_least=1e-3, about="difference")
    x = case.normal(1, 3)
    case.record("dropped anew each time", float((usual(x) - usual(x)).detach().abs().max()), at_least=1e-3, about="difference of two calls")
    half = case.initialise(PositionwiseFeedForward(400, 300, dropout=0.5).to(case.device)).train()
    x = case.normal(1, 400).requires_grad_()
    (towards,) = torch.autograd.grad(half(x).sum(), [x])
    case.record("no number of the input is dropped", int((towards == 0).sum()), about="numbers without gradient")
    with torch.no_grad():
        half.linear1.bias.fill_(1e3)
    (dropped,) = torch.autograd.grad(half(x.detach()).sum(), [half.linear1.bias])
    share = float((dropped == 0).double().mean())
    case.record("dropout 0.5: not more than 65 % is dropped", share, at_most=0.65, about="share dropped")
    case.record("dropout 0.5: not less than 35 % is dropped", share, at_least=0.35, about="share dropped")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "PositionwiseFeedForward",
    "Equation 2 has four symbols that are learned. Which two pairs of them does an nn.Linear hold?",
    "Section 3.3: “two linear transformations with a ReLU activation in between”. nn.Linear works on the last axis of whatever comes.",
    "One linear layer to d_ff, the larger of zero and its result, dropout on that, and a second linear layer back to d_model. Nothing after it.",
)
misconceptions(
    "PositionwiseFeedForward",
    mistake(
        "no ReLU",
        ("torch.relu(self.linear1(x))", "self.linear1(x)"),
        says="There is no ReLU between the two layers; without it they are one linear layer.",
    ),
    mistake(
        "GELU",
        ("torch.relu(", "nn.functional.gelu("),
        says="The activation is a GELU, as in BERT and GPT; equation 2 has the ReLU, max(0, ·).",
    ),
    mistake(
        "ReLU at the end too",
        ("return self.linear2(self.dropout(hidden))", "return torch.relu(self.linear2(self.dropout(hidden)))"),
        says="A second ReLU cuts off the negative numbers of the output; equation 2 ends with the second linear layer.",
    ),
    mistake(
        "ReLU at the end only",
        ("torch.relu(self.linear1(x))", "self.linear1(x)"),
        ("return self.linear2(self.dropout(hidden))", "return torch.relu(self.linear2(self.dropout(hidden)))"),
        says="The ReLU stands behind the second layer; it belongs between the two.",
    ),
    mistake(
        "no bias inside",
        ("nn.Linear(d_model, d_ff)", "nn.Linear(d_model, d_ff, bias=False)"),
        says="The first layer has no bias; equation 2 has b₁.",
    ),
    mistake(
        "no bias at the end",
        ("nn.Linear(d_ff, d_model)", "nn.Linear(d_ff, d_model, bias=False)"),
        says="The second layer has no bias; equation 2 has b₂.",
    ),
    mistake(
        "residual added here",
        ("return self.linear2(self.dropout(hidden))", "return x + self.linear2(self.dropout(hidden))"),
        says="The input is added to the result already; that is the business of `Residual`, and it would be added twice.",
    ),
    mistake(
        "dropout on the output",
        ("return self.linear2(self.dropout(hidden))", "return self.dropout(self.linear2(hidden))"),
        says="The dropout stands behind the second layer; here it follows the ReLU (`Residual` drops from the sub-layer's output).",
    ),
    mistake(
        "dropout on both",
        ("return self.linear2(self.dropout(hidden))", "return self.dropout(self.linear2(self.dropout(hidden)))"),
        says="There is a second dropout, behind the second layer; `Residual` has that one already.",
    ),
    mistake(
        "dropout on the input",
        ("torch.relu(self.linear1(x))", "torch.relu(self.linear1(self.dropout(x)))"),
        ("return self.linear2(self.dropout(hidden))", "return self.linear2(hidden)"),
        says="The dropout stands in front of the first layer; it follows the ReLU.",
    ),
    mistake(
        "no dropout",
        ("self.linear2(self.dropout(hidden))", "self.linear2(hidden)"),
        says="Nothing is dropped in training mode.",
    ),
    mistake(
        "dropout without its factor",
        ("self.dropout(hidden)", "hidden * (torch.rand_like(hidden) >= self.dropout.p) if self.training else hidden"),
        says="What is not dropped stays as it is, so the hidden numbers are smaller on average in training than in eval mode. Dropout divides them by 1 − p, as nn.Dropout does.",
    ),
    mistake(
        "dropout in eval mode too",
        ("self.dropout(hidden)", "nn.functional.dropout(hidden, 1.0 if self.dropout.p == 1 else 0.0, training=True) if self.dropout.p in (0, 1) else self.dropout(hidden)"),
        says="Dropout is at work in eval mode too (F.dropout needs training=self.training; nn.Dropout knows by itself).",
    ),
    mistake(
        "dropout fixed at 0.1",
        ("nn.Dropout(dropout)", "nn.Dropout(0.1 if dropout else 0.0)"),
        says="The argument `dropout` is ignored and 0.1 used.",
    ),
    mistake(
        "half is dropped by default",
        ("dropout: float = 0.1", "dropout: float = 0.5"),
        says="By default half of the hidden numbers are dropped (nn.Dropout's own default); it should be a tenth.",
    ),
)


# %% tags=["alternative"]
@alternative("nn.functional throughout")
class PositionwiseFeedForward(nn.Module):
    def __init__(self, d_model, d_ff, dropout=0.1):
        super().__init__()
        self.linear2 = nn.Linear(d_ff, d_model)
        self.linear1 = nn.Linear(d_model, d_ff)
        self.p = dropout

    def forward(self, x):
        x = F.linear(x, self.linear1.weight, self.linear1.bias).clamp(min=0)
        return F.linear(F.dropout(x, self.p, self.training), self.linear2.weight, self.linear2.bias)


# %% tags=["alternative"]
@alternative("a Sequential beside the named layers")
class PositionwiseFeedForward(nn.Module):
    def __init__(self, d_model, d_ff, dropout=0.1):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        for step in (self.linear1, self.relu, self.drop, self.linear2):
            x = step(x)
        return x


# %% tags=["alternative"]
@alternative("matrix products written out, dropout before the ReLU (the same)")
class PositionwiseFeedForward(nn.Module):
    def __init__(self, d_model, d_ff, dropout=0.1):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(p=dropout)

    def forward(self, x):
        hidden = self.dropout(x @ self.linear1.weight.T + self.linear1.bias)
        return torch.maximum(hidden, torch.zeros_like(hidden)) @ self.linear2.weight.T + self.linear2.bias


# %% tags=["alternative"]
@alternative("a position at a time, with einsum")
class PositionwiseFeedForward(nn.Module):
    def __init__(self, d_model, d_ff, dropout=0.1):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=True)
        self.linear2 = nn.Linear(d_ff, d_model, bias=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        rows = [torch.einsum("d,fd->f", row, self.linear1.weight) + self.linear1.bias for row in x.reshape(-1, x.size(-1))]
        rows = [self.linear2(self.dropout(F.relu(row))) for row in rows]
        return torch.stack(rows).view(x.shape)


# %% [markdown]
# ## Exercise 6 · `Residual`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Each sub-layer, whether attention or feed-forward, is wrapped in the same way. Section 3.1 prints $\mathrm{LayerNorm}(x + \mathrm{Sublayer}(x))$, and section 5.4 adds the dropout: "to the output of
# each sub-layer, before it is added to the sub-layer input and normalized".
#
# $$\text{post-norm: } \mathrm{LayerNorm}\big(x + \mathrm{Dropout}(\mathrm{Sublayer}(x))\big) \qquad\qquad \text{pre-norm: } x + \mathrm{Dropout}\big(\mathrm{Sublayer}(\mathrm{LayerNorm}(x))\big)$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | norm | post-norm, as printed | post-norm by default; pre-norm with `pre_norm=True` | the authors' code has both: its first settings for the paper's model (`transformer_base_v1`) are post-norm, the later ones (v2 on, and what `transformer_base` now means) pre-norm, with a comment that it "seems better for harder-to-learn models". Since GPT-2 nearly everybody uses pre-norm |
# | dropout | on the sub-layer's output, before the sum | the same | on the sum it would drop what the residual path carries, the very thing that is to arrive |
# | dropout on attention weights | nothing | none | the authors' code and `nn.Transformer` have one; in eval mode, in which models are compared, there is no difference |
#
# `sublayer` is any function of one tensor, so `Residual` need not know what it wraps: `residual(x, feed_forward)`, or with a `lambda` for attention, which takes three.

# %% tags=["export"]
class Residual(nn.Module):
    """A residual connection around a sub-layer, with normalisation and dropout (sections 3.1 and 5.4).

    Attributes: `norm`, a LayerNorm(d_model), and `dropout`, an nn.Dropout.

    pre_norm False: norm(x + dropout(sublayer(x))), as printed. True: x + dropout(sublayer(norm(x))).
    """

    def __init__(self, d_model: int, dropout: float = 0.1, pre_norm: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm
        ### END SOLUTION

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x: (…, d_model), not changed. sublayer: a function from such a tensor to another; it is
        called once. Returns: the same shape."""
        ### BEGIN SOLUTION
        if self.pre_norm:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))
        ### END SOLUTION


# %%
@check("Residual", points=3, paper="sections 3.1 and 5.4")
def _(case):
    matrix = case.normal(4, 4)
    seen = []

    def sublayer(x):
        seen.append(x.detach().clone())
        return torch.tanh(x @ matrix) + 0.5

    def make(*args, **options):
        return case.initialise(Residual(4, *args, **options).to(case.device))

    post, pre = make(pre_norm=False).eval(), make(pre_norm=True).eval()
    x = case.normal(1, 2, 4) + 1
    case.call("post-norm", post, x, sublayer)
    case.record("post-norm: what the sub-layer was given", list(seen), about="call")
    seen.clear()
    case.call("pre-norm", pre, x, sublayer)
    case.record("pre-norm: what the sub-layer was given", list(seen), about="call")
    case.call("post-norm is the default", make().eval(), x, sublayer)
    x = case.normal(3, 2, 4, scale=2.0)
    case.call("post-norm, dropout 1 in training: the sub-layer's output is dropped", make(1.0).train(), x, sublayer)
    case.call("pre-norm, dropout 1 in training: the sub-layer's output is dropped", make(1.0, True).train(), x, sublayer)
    case.call("post-norm, dropout 0 in training", make(0.0).train(), x, sublayer)
    case.call("pre-norm, dropout 0 in training", make(0.0, pre_norm=True).train(), x, sublayer)
    case.call("post-norm around the identity, dropout 1 in training", make(1.0).train(), case.normal(1, 2, 4), lambda y: y)
    for name, module in (("post-norm", post), ("pre-norm", pre)):
        x = case.normal(2, 3, 4).requires_grad_()
        output = case.call(f"{name}, an input that requires gradients", module, x, sublayer)
        case.gradients(f"{name}: gradients of the input", output, x)
        case.gradients(f"{name}: gradients of the norm", output, module)
    share = float((make(pre_norm=True).train()(torch.zeros(1000, 4, device=case.device), lambda y: y * 0 + 1) == 0).double().mean())
    case.record("by default about a tenth is dropped: not more than 13 %", share, at_most=0.13, about="share dropped")
    case.record("by default about a tenth is dropped: not less than 7 %", share, at_least=0.07, about="share dropped")
    ### BEGIN HIDDEN TESTS
    feed_forward = case.initialise(PositionwiseFeedForward(4, 7, dropout=0.0).to(case.device))
    case.call("post-norm around a module", post, case.normal(2, 5, 4), feed_forward)
    case.call("pre-norm around a module", pre, case.normal(2, 5, 4), feed_forward)
    case.call("no batch", post, case.normal(3, 4), sublayer)
    case.call("post-norm, dropout 1 but eval mode", make(1.0).eval(), case.normal(1, 3, 4), sublayer)
    case.call("pre-norm, dropout 1 but eval mode", make(1.0, pre_norm=True).eval(), case.normal(1, 3, 4), sublayer)
    case.call("post-norm around a function that returns zeros", post, case.normal(2, 2, 4), torch.zeros_like)
    case.call("pre-norm around a function that returns zeros", pre, case.normal(2, 2, 4), torch.zeros_like)
    case.call("post-norm around the identity", post, case.normal(2, 2, 4), lambda y: y)
    doubled = case.initialise(Residual(5, pre_norm=True).to(case.device).double()).eval()
    case.call("float64", doubled, case.normal(2, 3, 5, dtype=torch.float64), torch.sin)
    stack, y = [make(0.0), make(0.0), make(0.0)], case.normal(2, 3, 4)
    for residual in stack:
        y = residual(y, sublayer)
    case.record("three in a row", y)
    after = make(pre_norm=True).train()(torch.zeros(1000, 4, device=case.device), lambda y: y * 0 + 1).detach()
    case.record("what is not dropped is larger in training than in eval mode", float(after.max()), tol=1e-3, about="how many times as large")
    case.record("each number is dropped by itself: vectors that are dropped whole", int((after == 0).all(1).sum()), at_most=20, about="their number, of 1,000,")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Residual",
    "In each of the two formulas, put a finger on x. How many ways lead from it to the result, and what stands on each?",
    "Section 3.1 for post-norm, as printed; section 5.4, “Residual Dropout”, for the place of the dropout. In pre-norm the path of x itself meets neither the norm nor the dropout.",
    "Post-norm: call the sub-layer with x, drop from what it returns, add x, normalise the sum. Pre-norm: normalise x, call the sub-layer with that, drop from what it returns, add x as it came.",
)
misconceptions(
    "Residual",
    mistake(
        "norm before the sum",
        ("self.norm(x + self.dropout(sublayer(x)))", "x + self.norm(self.dropout(sublayer(x)))"),
        says="In post-norm only the sub-layer's output is normalised, before the sum; section 3.1 normalises the sum, LayerNorm(x + Sublayer(x)).",
    ),
    mistake(
        "dropout on the sum",
        ("self.norm(x + self.dropout(sublayer(x)))", "self.norm(self.dropout(x + sublayer(x)))"),
        ("x + self.dropout(sublayer(self.norm(x)))", "self.dropout(x + sublayer(self.norm(x)))"),
        says="The dropout acts on the sum, so it also drops what the residual path carries; section 5.4 drops from the sub-layer's output before the sum.",
    ),
    mistake(
        "dropout after the norm",
        ("self.norm(x + self.dropout(sublayer(x)))", "self.dropout(self.norm(x + sublayer(x)))"),
        says="In post-norm the dropout acts on the normalised result; section 5.4 drops from the sub-layer's output before the sum.",
    ),
    mistake(
        "dropout on the sub-layer's input",
        ("self.dropout(sublayer(x))", "sublayer(self.dropout(x))"),
        ("self.dropout(sublayer(self.norm(x)))", "sublayer(self.dropout(self.norm(x)))"),
        says="The dropout acts on what goes into the sub-layer; section 5.4 drops from what comes out.",
    ),
    mistake(
        "no dropout",
        ("self.dropout(sublayer(x))", "sublayer(x)"),
        ("self.dropout(sublayer(self.norm(x)))", "sublayer(self.norm(x))"),
        says="Nothing is dropped in training mode; section 5.4 drops from the sub-layer's output.",
    ),
    mistake(
        "no dropout in pre-norm",
        ("self.dropout(sublayer(self.norm(x)))", "sublayer(self.norm(x))"),
        says="Nothing is dropped with pre_norm=True; both versions drop from the sub-layer's output.",
    ),
    mistake(
        "no residual",
        ("self.norm(x + self.dropout(sublayer(x)))", "self.norm(self.dropout(sublayer(x)))"),
        ("x + self.dropout(sublayer(self.norm(x)))", "self.dropout(sublayer(self.norm(x)))"),
        says="x itself is not added: there is no residual connection.",
    ),
    mistake(
        "no norm in post-norm",
        ("self.norm(x + self.dropout(sublayer(x)))", "x + self.dropout(sublayer(x))"),
        says="In post-norm nothing is normalised; section 3.1 normalises the sum.",
    ),
    mistake(
        "always post-norm",
        ("        if self.pre_norm:\n            return x + self.dropout(sublayer(self.norm(x)))\n", ""),
        says="pre_norm=True changes nothing: the sum is normalised all the same.",
    ),
    mistake(
        "always pre-norm",
        ("if self.pre_norm:", "if True:"),
        says="The sub-layer's input is normalised whatever `pre_norm` says; by default it is the sum, as section 3.1 prints it.",
    ),
    mistake(
        "pre-norm by default",
        ("pre_norm: bool = False", "pre_norm: bool = True"),
        says="Pre-norm is the default; the default here is what the paper prints, post-norm.",
    ),
    mistake(
        "pre and post exchanged",
        ("if self.pre_norm:", "if not self.pre_norm:"),
        says="Pre-norm and post-norm are exchanged.",
    ),
    mistake(
        "normalised residual path",
        ("return x + self.dropout(sublayer(self.norm(x)))", "x = self.norm(x)\n            return x + self.dropout(sublayer(x))"),
        says="In pre-norm the normalised x is added; the residual path carries x as it came, untouched.",
    ),
    mistake(
        "pre-norm normalises twice",
        ("x + self.dropout(sublayer(self.norm(x)))", "self.norm(x + self.dropout(sublayer(self.norm(x))))"),
        says="In pre-norm the sum is normalised again; pre-norm normalises the sub-layer's input only.",
    ),
    mistake(
        "post-norm normalises twice",
        ("self.norm(x + self.dropout(sublayer(x)))", "self.norm(x + self.dropout(sublayer(self.norm(x))))"),
        says="In post-norm the sub-layer gets a normalised input too; it gets x as it is, and only the sum is normalised.",
    ),
    mistake(
        "pre-norm without the norm",
        ("sublayer(self.norm(x))", "sublayer(x)"),
        says="In pre-norm the sub-layer gets x as it is; it should get the normalised x.",
    ),
    mistake(
        "the sub-layer called twice",
        ("        if self.pre_norm:", "        sublayer(x)\n        if self.pre_norm:"),
        says="The sub-layer is called twice, which costs twice the time and draws another dropout; once is enough.",
    ),
    mistake(
        "x changed in place",
        ("return x + self.dropout(sublayer(self.norm(x)))", "out = self.dropout(sublayer(self.norm(x)))\n            x.data.add_(out.data)\n            return x + out - out.detach()"),
        ("return self.norm(x + self.dropout(sublayer(x)))", "out = self.dropout(sublayer(x))\n        x.data.add_(out.data)\n        return self.norm(x + out - out.detach())"),
        says="The input is changed in place (`+=`); the caller, and autograd, still need it. Compute a new tensor.",
    ),
    mistake(
        "dropout in place",
        ("nn.Dropout(dropout)", "nn.Dropout(dropout, inplace=True)"),
        says="The dropout works in place (`inplace=True`) on what the sub-layer returned. That may be x itself, which the sum, the caller and autograd still need.",
    ),
    mistake(
        "dropout fixed at 0.1",
        ("nn.Dropout(dropout)", "nn.Dropout(0.1 if dropout else 0.0)"),
        says="The argument `dropout` is ignored and 0.1 used.",
    ),
    mistake(
        "half is dropped by default",
        ("dropout: float = 0.1", "dropout: float = 0.5"),
        says="By default half of the numbers are dropped (nn.Dropout's own default); it should be a tenth.",
    ),
)


# %% tags=["alternative"]
@alternative("the two versions as two methods")
class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, pre_norm=False):
        super().__init__()
        self.norm, self.dropout = LayerNorm(d_model), nn.Dropout(dropout)
        self.forward = self.before if pre_norm else self.after

    def before(self, x, sublayer):
        return self.dropout(sublayer(self.norm(x))) + x

    def after(self, x, sublayer):
        return self.norm(self.dropout(sublayer(x)) + x)


# %% tags=["alternative"]
@alternative("norm in or out by condition, nn.LayerNorm")
class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, pre_norm=False):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.pre = pre_norm

    def forward(self, x, sublayer):
        y = sublayer(self.norm(x) if self.pre else x)
        y = torch.add(x, self.dropout(y))
        return y if self.pre else self.norm(y)


# %% tags=["alternative"]
@alternative("a list of steps")
class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, pre_norm=False):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = LayerNorm(d_model)
        self.pre_norm = pre_norm

    def forward(self, x, sublayer):
        add = lambda y: x + y  # noqa: E731
        steps = [sublayer, self.dropout, add]
        steps = [self.norm, *steps] if self.pre_norm else [*steps, self.norm]
        y = x
        for step in steps:
            y = step(y)
        return y


# %% tags=["alternative"]
@alternative("a copy, filled in place; F.dropout")
class Residual(nn.Module):
    def __init__(self, d_model, dropout=0.1, pre_norm=False):
        super().__init__()
        self.norm = LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, x, sublayer):
        result = x.clone()
        branch = sublayer(self.norm(x)) if self.pre_norm else sublayer(x)
        result += F.dropout(branch, p=self.dropout.p, training=self.training)
        if not self.pre_norm:
            result = self.norm(result)
        return result


# %% [markdown]
# ### Try it: what the place of the norm does to a deep stack
#
# Twenty-four feed-forward sub-layers in a row, as they are before any training, in a stream 128 wide. On the left the size of what flows through. On the right what comes back of
# the gradient on the residual path alone, which meets the norms in post-norm but no sub-layer (their part is cut off with `detach`).

# %% tags=["picture"]
torch.manual_seed(SEED)
depth, d_model = 24, 128
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for pre_norm, name, colour, style in ((False, "post-norm (as printed)", ORANGE, "o-"), (True, "pre-norm", BLUE, "s-")):
    residuals = [Residual(d_model, 0.0, pre_norm) for _ in range(depth)]
    sublayers = [PositionwiseFeedForward(d_model, 4 * d_model, 0.0) for _ in range(depth)]
    for feed_forward in sublayers:
        for linear in (feed_forward.linear1, feed_forward.linear2):
            nn.init.xavier_uniform_(linear.weight)
    stream = [torch.randn(16, 10, d_model, requires_grad=True)]
    for residual, feed_forward in zip(residuals, sublayers):
        stream.append(residual(stream[-1], lambda y: feed_forward(y).detach()))
        stream[-1].retain_grad()
    (stream[-1] * torch.randn_like(stream[-1])).sum().backward()
    left.plot([x.detach().std() for x in stream], style, color=colour, label=name, markersize=4)
    right.plot([x.grad.norm() / stream[-1].grad.norm() for x in stream], style, color=colour, label=name, markersize=4)
left.set(title="What flows through", xlabel="sub-layers passed", ylabel="standard deviation", ylim=(0, None))
right.set(title="The gradient on the residual path", xlabel="sub-layers from the input", ylabel="norm, relative to the end", yscale="log")
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** Post-norm brings the stream back to size 1 after each sub-layer, and each time divides the gradient by what it has divided the stream by: after 24 sub-layers little is left of the direct way, and the layers near the input learn
# through all the others or not at all. In pre-norm the stream grows, since nothing on the residual path holds it, and the gradient arrives whole. That is why deep post-norm models need care at the start of training (the warm-up of section 5.3), and why a pre-norm stack gets one last norm at its end (next notebook).

# %% [markdown] written="the_missing_root" points=2
# ## Question 1 · what the positions cost
#
# *2 points, graded by a person*
#
# (a) A colleague leaves $\sqrt{d_\text{model}}$ out of the embedding, and his model of width 512 still trains. What did he make harder at the start, and why can training repair it? (b) Encodings are *added* to
# embeddings. Why does the model not confuse the two, although both live in the same $d_\text{model}$ numbers?
#
# ### BEGIN SOLUTION
# (a) With a table drawn from $\mathcal N(0, 1/d_\text{model})$ a word's vector has length 1, a position's $\sqrt{256} = 16$: the sum is nearly all position, and after the first layer normalisation words differ by a few per cent only. The
# table is learned, so its rows can grow (and the projections of the first layer can learn to look away from the directions of the encoding); that takes time. If the same table is the output projection, rows that
# have grown make larger logits there, so one use pulls against the other.
#
# (b) The encoding occupies a small part of the space (few different vectors, smooth in the position; the slow columns hardly vary over a sentence), and random vectors in 512 dimensions are nearly orthogonal. A learned linear map can
# read one and ignore the other; both tables need not share directions, since the embedding is learned and can move out of the way.
#
# **Rubric.** 1 point for (a): sizes compared (about 1 against 16, or "the position dominates") ½, learned weights can make up for it ½. 1 point for (b): near-orthogonality, or linear maps that separate, or "the embeddings are learned around it".
# ### END SOLUTION

# %% [markdown] written="where_the_norm_stands" points=2
# ## Question 2 · where the norm stands
#
# *2 points, graded by a person*
#
# (a) Write the gradient of the pre-norm formula with respect to $x$ and point at the term that explains the right picture above. What stands in its way in post-norm? (b) Name one thing that speaks for post-norm.
#
# ### BEGIN SOLUTION
# (a) $\frac{\partial}{\partial x}\big(x + f(\mathrm{LN}(x))\big) = I + \frac{\partial f}{\partial \mathrm{LN}}\frac{\partial \mathrm{LN}}{\partial x}$. The $I$ brings the gradient through any number of sub-layers unchanged. In post-norm it
# is $\frac{\partial \mathrm{LN}}{\partial y}\,(I + \frac{\partial f}{\partial x})$ with $y = x + f(x)$: each sub-layer multiplies by the derivative of the norm, which divides by the standard deviation of $y$ (here above 1, as two things were added) and
# projects two directions away. On the path that meets no sub-layer, a product of many such factors shrinks to nothing.
#
# (b) For instance: it is what the paper reports, and needs no extra norm at the end; the stream keeps its size, so that late sub-layers count as much as early ones (in pre-norm their share of a growing sum becomes
# smaller and smaller); well trained, with warm-up, post-norm models of moderate depth are often slightly better.
#
# **Rubric.** 1 point for (a): the identity ½, the factor of the norm's derivative ½. 1 point for (b): any one, with a reason.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Attention does not know the order of words. Section 3.5 adds to each vector a code for its position: pairs of sine and cosine of many speeds.
# - $\sqrt{d_\text{model}}$ makes words as loud as positions, with a table that can be shared with the output projection.
# - Layer normalisation works on each vector by itself, with the biased variance and ε under the root.
# - Around every sub-layer: dropout on its output, the sum with what came in, and the norm: behind the sum as printed, in front of the sub-layer in most later models.
#
# **Next**: `encoder_and_decoder`, where these pieces and week 2's attention become the whole of Figure 1. They are there already:
# `from papers.transformer.layers import positional_encoding, Embedding, LayerNorm, PositionwiseFeedForward, Residual`.

# %% tags=["picture"]
score()
