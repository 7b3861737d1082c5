# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Vectors and softmax
#     order: 1
#     exports: papers.transformer.foundations
#     minutes: 75
# ---

# %% [markdown]
# # Vectors and softmax
#
# Prerequisites of *Attention Is All You Need*: linear algebra and probability · about 75 minutes
#
# At the end of this notebook you can
#
# - compare every vector of one set with every vector of another by a single matrix product;
# - turn any scores into probabilities, without overflow;
# - say how wrong a prediction is (cross-entropy) and how undecided it is (entropy);
# - put the three together: that is already attention.
#
# The paper's model, the *Transformer*, translates sentences. Its main part is *attention*: each word gathers what it needs from the others as a weighted average, in which what
# suits it counts most. This notebook builds that average from its parts.
#
# **Week 0 of the roadmap, points 1, 2 and 5**: linear algebra and matrices, probability and statistics, a first look at self-attention.
#
# 1. Watch [Math Behind Softmax & Dot Product Attention](https://youtu.be/KphmOJnLAdI), and keep it open beside exercises 1 and 2.
# 2. New to PyTorch? Watch [this PyTorch tutorial](https://www.youtube.com/watch?v=FHdlXe1bSe4); the next section holds all that this notebook needs.
# 3. Watch [Attention Mechanism Explained](https://youtu.be/eMlx5fFNoYc) before the last section.
#
# How a notebook works: each exercise is a function with a gap. Fill it, run the cell, then run the check below it. The check says what is right, or shows the
# smallest example on which your code differs. `hint("name of the exercise")` helps when you are stuck, and `score()` at the end adds up your points.
#
# You need not read a check's code: it calls your function with the inputs it lists (`case.normal(2, 3)` is a 2 × 3 matrix drawn by chance) and compares what comes back. The cell with `PROFILE` holds settings;
# leave them as they are.

# %% tags=["export"]
import math

import torch
from torch import Tensor

# %%
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## PyTorch in fifteen lines
#
# A **tensor** is a block of numbers with a **shape**. A vector has one dimension, a matrix two, a batch of matrices three (a *batch* is several examples computed at once). In a shape
# such as (…, 3) the dots stand for any dimensions in front. Nearly every mistake you will make in this
# course is a mistake about shapes, so print them often.
#
# | you write | you get |
# | --- | --- |
# | `torch.tensor([[1.0, 2.0]])`, `torch.zeros(2, 3)`, `torch.arange(3)` | a new tensor: with these numbers; with zeros in the shape (2, 3); with 0, 1, 2 |
# | `x.shape` | the sizes of all dimensions, such as `(2, 3)`: 2 rows of 3 numbers |
# | `x.dtype` | the kind of its numbers: `float32` (about 7 digits, the usual one), `float64` (about 16), `int64` (whole numbers), `bool` (True or False) |
# | `x * y`, `x + y`, `torch.exp(x)`, `torch.log(x)` | number by number, so the shapes have to fit |
# | `x @ y` | the matrix product, $(n, d)$ times $(d, m)$ makes $(n, m)$ |
# | `x.T` | rows and columns changed over (the transpose) |
# | `x.sum(dim=0)`, `x.sum(dim=1)` | dimension 0 (or 1) is added up and disappears; `dim=-1` is the last one |
# | `x.sum(dim=1, keepdim=True)` | the same, but the dimension stays, with size 1 |
# | `x.amax(dim=1)` | the largest number of each row; `x.max(dim=1)` gives the numbers *and* their places |
# | `x[0]`, `x[:, 1]`, `x[:, None]` | row 0; column 1; a new dimension of size 1 |
# | `x[torch.arange(2), columns]` | one number a row: from row $i$ the one in column `columns[i]` (a tensor of integers) |
# | `x.sum()`, `x.sum().item()` | all numbers added up: a tensor without dimensions; the same as a Python number |
# | `mask = x == 0`, `mask.sum()` | True or False for each number (such a tensor is called a *mask*); how many are True |
# | `torch.where(mask, a, b)`, `x.masked_fill(mask, 0.0)`, `x.clamp(min=1)` | `a` where True, else `b`; 0 where True, else `x`; 1 where `x` is below 1, else `x` |
# | `x.exp_()`, `x += 1`, `x[0] = 1` | change `x` itself, which the caller still needs: avoid it on inputs |
#
# **Broadcasting**: if two shapes differ, a dimension of size 1 is repeated until they fit. So a column `(2, 1)` and a matrix `(2, 3)` can be
# divided by each other. This is why `keepdim=True` matters: without it the shape is `(2,)`, which PyTorch reads as one *row*.
#
# Some checks ask that *gradients* can flow back: PyTorch has to be able to say how much the result changes when an input is changed a little. The next notebook explains them; here it is enough to compute with tensors from the first line to the last, and not
# to turn them into Python numbers in between.
#
# Run the cell and predict each line before you read it.

# %% tags=["picture"]
x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print("shape                 ", tuple(x.shape))
print("x.sum(dim=0)          ", x.sum(dim=0), " one number a column")
print("x.sum(dim=1)          ", x.sum(dim=1), " one number a row")
print("keepdim=True          ", x.sum(dim=1, keepdim=True).tolist(), " a column: shape", tuple(x.sum(dim=1, keepdim=True).shape))
print("each row divided by its sum:")
print(x / x.sum(dim=1, keepdim=True))

# %% [markdown]
# ## The dot product says how well two vectors agree
#
# $$x \cdot y = \sum_{i=1}^{d} x_i y_i = \|x\|\,\|y\|\cos\varphi$$
#
# It multiplies two vectors of $d$ numbers, $x_1 \ldots x_d$ and $y_1 \ldots y_d$, number by number and adds up. With $\varphi$ for the angle between them, it is large if they point the same way, 0 if they stand at a right
# angle ($\varphi = 90°$), negative if they point apart; and it grows with their lengths $\|x\|$, $\|y\|$. Machines store words as vectors, and this sum is how they ask "how similar are these two?".
#
# Now let $x_i$ be a whole vector. To compare each of $n$ vectors $x_i$ with each of $m$ vectors $y_j$, write the $x_i$ as rows of a matrix and the $y_j$ as rows of another, and look at what a matrix product is:
#
# $$(AB)_{ij} = \sum_k A_{ik} B_{kj}$$
#
# $A_{ik}$ is the number in row $i$ and column $k$. Row $i$ of $A$ meets **column** $j$ of $B$. We want row $i$ of $X$ to meet **row** $j$ of $Y$. What has to be done to $Y$ first?
#
# ## Exercise 1 · `pairwise_dot_products`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Result: the entry in row $i$ and column $j$ is $x_i \cdot y_j$. In the paper this is $QK^\top$, the first thing attention computes: $Q$ and $K$ are two matrices of vectors, and the
# little $\top$ is the transpose.

# %% tags=["export"]
def pairwise_dot_products(x: Tensor, y: Tensor) -> Tensor:
    """The dot product of every row of x with every row of y.

    Args:
        x: n vectors as rows, (n, d), floating-point.
        y: m vectors as rows, (m, d), of the same dtype.

    Returns: (n, m), in the dtype of the inputs; entry [i, j] is the dot product of x[i] and y[j].
        The inputs are not changed, and gradients can flow back to both.
    """
    ### BEGIN SOLUTION
    return x @ y.T
    ### END SOLUTION


# %%
@check("pairwise_dot_products", points=2, paper="section 3.2.1: the product QKᵀ in equation 1")
def _(case):
    case.call("two vectors against two", pairwise_dot_products, case.normal(2, 2), case.normal(2, 2))
    case.call("three against three, in three dimensions", pairwise_dot_products, case.normal(3, 3), case.normal(3, 3))
    case.call("two against three, in four dimensions", pairwise_dot_products, case.normal(2, 4), case.normal(3, 4))
    case.call("one against five", pairwise_dot_products, case.normal(1, 3), case.normal(5, 3))
    case.call("float64 stays float64", pairwise_dot_products, *case.cast(torch.float64, case.normal(3, 2), case.normal(4, 2)))
    x, y = case.normal(3, 2).requires_grad_(), case.normal(4, 2).requires_grad_()
    case.gradients("gradients reach both inputs", case.call("vectors that require gradients", pairwise_dot_products, x, y), x, y)
    ### BEGIN HIDDEN TESTS
    case.call("one number each", pairwise_dot_products, case.normal(4, 1), case.normal(3, 1))
    case.call("many against one", pairwise_dot_products, case.normal(6, 5), case.normal(1, 5))
    case.call("64 dimensions", pairwise_dot_products, case.normal(7, 64), case.normal(9, 64))
    case.call("a view that is not contiguous", pairwise_dot_products, case.normal(5, 3).T, case.normal(5, 4).T)
    x = case.normal(4, 6)
    case.call("a set with itself", pairwise_dot_products, x, x)
    x, y = case.normal(2, 5).requires_grad_(), case.normal(6, 5).requires_grad_()
    case.gradients("gradients, more of y than of x", pairwise_dot_products(x, y), x, y)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "pairwise_dot_products",
    "Write the shapes under each other: (n, d) and (m, d). A matrix product needs the two inner sizes to be equal, and the outer two are the result's. Which matrix has to be turned?",
    "Equation 1 of the paper (section 3.2.1) writes the same thing with queries and keys as rows: $QK^\\top$. Read the little ⊤ as “transposed”.",
    "One matrix product of the first matrix with the transpose of the second. Transposing changes rows and columns over, which is not the same as giving the numbers another shape.",
)
misconceptions(
    "pairwise_dot_products",
    mistake("rows and columns exchanged", ("x @ y.T", "y @ x.T"), says="The result is turned over: row i must belong to x[i] and column j to y[j], (n, m)."),
    mistake("number by number", ("x @ y.T", "x * y"), says="The vectors are multiplied number by number and nothing is added up; a dot product is the sum of these products."),
    mistake("not transposed", ("x @ y.T", "x @ y"), says="The second matrix is not transposed, so rows of x meet columns of y. They have to meet rows of y."),
    mistake(
        "partners only",
        ("x @ y.T", "(x * y).sum(-1)"),
        says="Only partners are compared, x[0] with y[0], x[1] with y[1] and so on; every row of x has to meet every row of y.",
    ),
    mistake(
        "normalised to length 1",
        ("x @ y.T", "(x / x.norm(dim=-1, keepdim=True)) @ (y / y.norm(dim=-1, keepdim=True)).T"),
        says="The vectors are brought to length 1 first, which gives the cosine of the angle. A dot product also grows with the lengths.",
    ),
    mistake(
        "reshaped, not transposed",
        ("x @ y.T", "x @ y.reshape(y.shape[1], y.shape[0])"),
        says="The second matrix is reshaped to (d, m), which has the right shape and the wrong numbers: a reshape keeps the order of the numbers, a transpose exchanges rows and columns.",
    ),
    mistake(
        "divided by the root of d",
        ("x @ y.T", "x @ y.T / x.shape[1] ** 0.5"),
        says="The products are divided by √d already. Attention does that later; here the plain dot products are asked for.",
    ),
    mistake("mean instead of sum", ("x @ y.T", "x @ y.T / x.shape[1]"), says="The products are averaged over the d numbers; a dot product adds them up."),
    mistake(
        "distances",
        ("x @ y.T", "(x[:, None] - y[None]).norm(dim=-1)"),
        says="These are distances between the vectors; the dot product multiplies and adds, and is large where vectors agree.",
    ),
    mistake("x with itself", ("x @ y.T", "x @ x.T"), says="The first set is compared with itself; the second one is never used."),
    mistake("y with itself", ("x @ y.T", "y @ y.T"), says="The second set is compared with itself; the first one is never used."),
    mistake("all added up", ("x @ y.T", "(x @ y.T).sum()"), says="Everything is added up to a single number; an (n, m) matrix is wanted, with a number for each pair."),
    mistake("sign lost", ("x @ y.T", "(x @ y.T).abs()"), says="The sign is lost. Vectors that point apart have a negative dot product."),
    mistake(
        "not added up",
        ("x @ y.T", "x[:, None, :] * y[None, :, :]"),
        says="All products are there, (n, m, d), but the last dimension has still to be added up.",
    ),
    mistake(
        "added up over the wrong dimension",
        ("x @ y.T", "(x[:, None, :] * y[None, :, :]).sum(1)"),
        says="The products are added up over the vectors of y; the sum of a dot product runs over the d numbers of a vector, the last dimension.",
    ),
    mistake(
        "cut off from gradients",
        ("x @ y.T", "(x @ y.T).detach()"),
        says="The values are right, but they are cut off from the inputs (detach, .data, .tolist(), no_grad): no gradient can flow back, so nothing could be learned.",
    ),
    mistake(
        "everything becomes float32",
        ("x @ y.T", "x.float() @ y.float().T"),
        says="The result is float32 whatever came in; the dtype of the inputs has to be kept.",
    ),
    mistake(
        "y turned in place",
        ("x @ y.T", "x @ y.t_()"),
        says="The second matrix is transposed in place (a method whose name ends in _), so the caller's matrix is turned over as well.",
    ),
)


# %% tags=["alternative"]
@alternative("einsum")
def pairwise_dot_products(x, y):
    return torch.einsum("nd,md->nm", x, y)


# %% tags=["alternative"]
@alternative("broadcasting, then a sum")
def pairwise_dot_products(x, y):
    return (x.unsqueeze(1) * y.unsqueeze(0)).sum(dim=-1)


# %% tags=["alternative"]
@alternative("two loops")
def pairwise_dot_products(a, b):
    rows = []
    for i in range(len(a)):
        rows.append(torch.stack([torch.dot(a[i], b[j]) for j in range(len(b))]))
    return torch.stack(rows)


# %% tags=["alternative"]
@alternative("a matrix filled in place")
def pairwise_dot_products(x, y):
    out = torch.empty(x.size(0), y.size(0), dtype=x.dtype)
    for j, row in enumerate(y):
        out[:, j] = torch.mv(x, row)
    return out


# %% tags=["alternative"]
@alternative("a linear layer's function, float64 inside")
def pairwise_dot_products(x, y):
    return torch.nn.functional.linear(x.double(), y.double()).to(x.dtype)


# %% [markdown]
# ### Try it: words as arrows, and what happens in many dimensions
#
# Left: six words as made-up vectors in two dimensions. Middle: your function compares each with each. Right: the dot products of 1000 pairs of *random* vectors, whose
# numbers are independent with mean 0 and variance 1, for growing *width* $d$, the count of numbers in a vector. (The variance is the mean of the squared distances from the mean; its root is the
# standard deviation. Variances of independent numbers add up.)

# %% tags=["picture"]
words = ["cat", "dog", "kitten", "car", "truck", "not"]
vectors = torch.tensor([[2.0, 0.6], [1.8, 1.1], [1.3, 0.2], [-0.4, 1.9], [-0.9, 2.2], [-1.2, -1.0]])
products = pairwise_dot_products(vectors, vectors)
generator = torch.Generator().manual_seed(SEED)
widths = [4**n for n in range(1, 6)]
draws = [(torch.randn(1000, d, generator=generator) * torch.randn(1000, d, generator=generator)).sum(1) for d in widths]

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for word, (a, b) in zip(words, vectors.tolist()):
    left.annotate("", (a, b), (0, 0), arrowprops={"arrowstyle": "->", "color": BLUE, "linewidth": 1.5})
    left.annotate(word, (a, b), xytext=(6, 3 if b > 0 else -12), textcoords="offset points")
left.set(xlim=(-1.8, 3.0), ylim=(-1.6, 2.8), title="words as vectors", xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
left.axhline(0, color=GREY, linewidth=0.6)
left.axvline(0, color=GREY, linewidth=0.6)
image = middle.imshow(products, cmap="PuOr", vmin=-6, vmax=6)
for i in range(6):
    for j in range(6):
        middle.text(j, i, f"{products[i, j]:.1f}", ha="center", va="center", fontsize=8, color="white" if abs(products[i, j]) > 4 else "black")
middle.set_xticks(range(6), words, rotation=45)
middle.set_yticks(range(6), words)
middle.set_title("dot product of each with each")
figure.colorbar(image, ax=middle, shrink=0.8)
right.plot(widths, [draw.std() for draw in draws], "o", color=BLUE, label="measured")
right.plot(widths, [math.sqrt(d) for d in widths], "--", color=GREY, label=r"$\sqrt{d}$")
right.set(xscale="log", yscale="log", title="random vectors", xlabel="width $d$", ylabel="standard deviation of $x \\cdot y$")
right.set_xticks(widths, [str(d) for d in widths])
right.set_yticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
right.minorticks_off()
right.grid(alpha=0.3)
right.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** Animals agree with animals and vehicles with vehicles, the word that points away has negative products, and long vectors have large products even with
# themselves. The matrix is symmetric, since $x \cdot y = y \cdot x$. Right: dot products of random vectors grow as $\sqrt{d}$. Each of the $d$ products
# adds variance 1, so the sum has variance $d$: wide vectors get large scores without being more similar. Keep this in mind until week 2, where it explains the $\sqrt{d_k}$ of
# attention ($d_k$ is the width of the vectors that attention compares).

# %% [markdown]
# ## From scores to probabilities
#
# Scores can be any numbers. Probabilities are positive and add up to 1. The **softmax** makes one out of the other: the exponential makes every score positive and keeps
# their order, and dividing by the sum does the rest.
#
# $$\mathrm{softmax}(x)_i = \frac{e^{x_i}}{\sum_j e^{x_j}}$$
#
# Only differences count: adding the same $c$ to all scores multiplies the numerator and the sum by $e^c$, which cancels. That is not just elegant, it is the rescue. In single precision
# (`float32`) $e^{89}$ is already larger than the largest number, so it becomes `inf` (it *overflows*), and inf/inf is `nan` ("not a number"). Subtract the largest score first: then the largest exponential is
# $e^0 = 1$ and nothing can overflow.
#
# ## Exercise 2 · `softmax`
#
# *Difficulty ●●○ · 20 minutes · 4 points*
#
# | | mathematics says | this code does | why |
# | --- | --- | --- | --- |
# | which scores belong together | a vector | those along `dim` | a batch of rows goes in at once |
# | large scores | no problem | the maximum *of each row* is subtracted first | floating-point numbers end |
# | a score of $-\infty$ | probability $e^{-\infty} = 0$ | the same | it means "not allowed": attention's masks use it |
# | nothing but $-\infty$ | $0/0$, undefined | zeros | a row in which nothing is allowed must not spoil the rest with `nan` |
#
# In code, $-\infty$ is `-math.inf`; masks were in the table above. One of the points is for rows of nothing but $-\infty$. Solve the rest first.

# %% tags=["export"]
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Probabilities from scores, along one dimension.

    Args:
        x: scores of any shape with at least one dimension; finite, or −∞ for what must not be chosen.
        dim: the dimension along which the result adds up to 1.

    Returns: the shape and dtype of x. Scores of any size give no NaN. Where all scores along `dim`
        are −∞, all results are 0. The input is not changed.

    May not call torch's softmax or log_softmax in any form (torch.softmax, F.softmax,
    F.log_softmax, nn.Softmax, x.softmax(), …).
    """
    ### BEGIN SOLUTION
    highest = x.amax(dim=dim, keepdim=True)
    highest = highest.masked_fill(highest == -math.inf, 0.0)  # −∞ minus −∞ would be NaN
    e = torch.exp(x - highest)
    total = e.sum(dim=dim, keepdim=True)  # at least 1, or 0 where all scores are −∞
    return e / total.masked_fill(total == 0, 1.0)
    ### END SOLUTION


# %%
@check(
    "softmax",
    points=4,
    forbid=[
        "torch.*softmax",
        "torch.nn.functional.*softmax",
        "torch.nn.functional.softmin",
        "torch.nn.Softm*",
        "torch.nn.LogSoftmax",
        "torch.Tensor.softmax",
        "torch.Tensor.log_softmax",
        "scipy.special.*softmax",
    ],
    paper="section 3.2.1, equation 1",
)
def _(case):
    def minus_infinity(x, *places):
        for place in places:
            x[place] = -math.inf
        return x

    case.call("three scores", softmax, case.normal(3))
    case.call("three rows of three", softmax, case.normal(3, 3))
    case.call("two rows of three", softmax, case.normal(2, 3))
    case.call("columns: dim=0", softmax, case.normal(2, 3), dim=0)
    case.call("rows of a batch of matrices: dim=-1", softmax, case.normal(2, 4, 3), dim=-1)
    case.call("the middle dimension: dim=1", softmax, case.normal(2, 3, 4), dim=1)
    case.call("float64 stays float64", softmax, case.normal(2, 3, dtype=torch.float64))
    x = case.normal(2, 4).requires_grad_()
    case.gradients("gradients", case.call("scores that require gradients", softmax, x), x)
    case.call("one score is −∞", softmax, minus_infinity(case.normal(2, 3), (0, 1)))
    case.call("the largest score is exactly 0", softmax, torch.tensor([[0.0, -1.0, -2.0], [-0.5, 0.0, 0.0]], device=case.device))
    case.call("scores near 1000", softmax, case.normal(2, 3) + 1000)
    case.call("scores near −1000", softmax, case.normal(2, 3) - 1000)
    case.call("scores near −1000 and one −∞", softmax, minus_infinity(case.normal(2, 3) - 1000, (0, 1)))
    case.call("scores far below any that stands for −∞", softmax, torch.tensor([[-2e30, -3e30, -math.inf], [-20000.0, -20100.0, -20200.0]], device=case.device))
    # only the largest will do: less the first, the last, the smallest or the mean, 200 overflows
    case.call("scores of 100, 200, 0 and 50", softmax, torch.tensor([[100.0, 200.0, 0.0, 50.0]], device=case.device) + case.normal(1, 4))
    case.call("one row near 1000, the next near −1000", softmax, case.normal(2, 3) + torch.tensor([[1000.0], [-1000.0]], device=case.device))
    with case.part("nothing but −∞", points=1):
        case.call("a row of −∞ alone", softmax, minus_infinity(case.normal(2, 3), 1))
    ### BEGIN HIDDEN TESTS
    case.call("one score: probability 1", softmax, case.normal(4, 1))
    case.call("the last but one dimension: dim=-2", softmax, case.normal(3, 2, 5), dim=-2)
    case.call("four dimensions, dim=1", softmax, case.normal(2, 3, 2, 3), dim=1)
    case.call("a cube, dim=0", softmax, case.normal(3, 3, 3), dim=0)
    case.call("a view that is not contiguous", softmax, case.normal(5, 4).T)
    case.call("1000 scores", softmax, case.normal(2, 1000, scale=3.0))
    case.call("scores of very different size, dim=0", softmax, case.uniform(5, 3, low=-400.0, high=400.0), dim=0)
    case.call("columns of different size, dim=0", softmax, case.normal(3, 2) + torch.tensor([[500.0, -500.0]], device=case.device), dim=0)
    case.call("−∞ here and there", softmax, minus_infinity(case.normal(4, 6), (0, 1), (0, 2), (1, 5), (3, 0)))
    x = minus_infinity(case.normal(3, 4), (0, 1), (2, 3)).requires_grad_()
    case.gradients("gradients are finite beside −∞", softmax(x), x)
    x = case.normal(3, 2, 4, dtype=torch.float64).requires_grad_()
    case.gradients("gradients along dim=1", softmax(x, dim=1), x)
    with case.part("nothing but −∞"):
        case.call("a column of −∞ alone, dim=0", softmax, minus_infinity(case.normal(3, 4), (slice(None), 2)), dim=0)
        case.call("all of it −∞", softmax, torch.full((2, 3), -math.inf, device=case.device))
        case.call("rows near 1000 and rows of −∞", softmax, minus_infinity(case.normal(4, 3) + 1000, 0, 3))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "softmax",
    "Which numbers have to add up to 1? Only the sum along `dim` counts; keep that dimension (keepdim=True), so that each row is divided by its own sum.",
    "Equation 1 of the paper has the softmax around the scores; section 3.2.3 sets scores to −∞ before it. For large scores, reread the paragraph above on what cancels.",
    "Take the largest score along `dim`, keeping the dimension, and subtract it. Exponentiate, sum along `dim`, divide. Where the largest score is itself −∞ subtract 0 instead, "
    "and where the sum is 0 divide by 1.",
)
misconceptions(
    "softmax",
    mistake(
        "the maximum is not subtracted",
        ("x - highest", "x"),
        says="The largest score is not subtracted first, so the exponential of large scores overflows to inf (and that of very negative ones is 0 everywhere): the result is NaN or 0.",
    ),
    mistake(
        "one maximum for everything",
        ("x.amax(dim=dim, keepdim=True)", "x.max()"),
        says="The largest score of the whole tensor is subtracted, so a row whose scores are all much lower has nothing left but 0. Each row needs its own maximum.",
    ),
    mistake(
        "the minimum is subtracted",
        ("x.amax(", "x.amin("),
        says="The smallest score is subtracted, so the largest can still overflow. Subtract the largest: then no exponential exceeds 1.",
    ),
    mistake(
        "not the largest is subtracted",
        ("x.amax(dim=dim, keepdim=True)", "x.narrow(dim, 0, 1)"),
        says="What is subtracted need not be the largest score (but is the first, the last or the mean, say), so larger ones can still overflow. Subtract the largest: then no exponential exceeds 1.",
    ),
    mistake(
        "scores clipped",
        ("x - highest", "x.clamp(-80, 80)"),
        says="Large scores are clipped, so scores that differ beyond the bound look equal. Subtracting the maximum changes nothing in the result.",
    ),
    mistake("always the last dimension", ("e.sum(dim=dim,", "e.sum(dim=-1,"), says="The results add up to 1 along the last dimension, whatever `dim` says."),
    mistake("always the first dimension", ("e.sum(dim=dim,", "e.sum(dim=0,"), says="The results add up to 1 along the first dimension, whatever `dim` says."),
    mistake("dim is 0 unless told", ("dim: int = -1", "dim: int = 0"), says="Without `dim` your function works along the first dimension; the default is the last one."),
    mistake("one sum for everything", ("e.sum(dim=dim, keepdim=True)", "e.sum()"), says="The whole tensor adds up to 1; each row along `dim` has to."),
    mistake(
        "the dimension is not kept",
        ("e.sum(dim=dim, keepdim=True)", "e.sum(dim=dim)"),
        says="The sum loses its dimension, so broadcasting divides by the wrong sums (or finds no shape that fits). Keep the dimension: keepdim=True.",
    ),
    mistake("powers of two", ("torch.exp(", "torch.exp2("), says="These are powers of 2; the softmax takes powers of e."),
    mistake("no exponential", ("torch.exp(x - highest)", "x"), says="The scores themselves are divided by their sum; without the exponential, results can be negative or infinite."),
    mistake("sigmoid", ("torch.exp(x - highest)", "torch.sigmoid(x)"), says="Each score goes through a sigmoid first; the softmax takes the exponential, and nothing else, before it divides by the sum."),
    mistake(
        "divided by the largest",
        ("e.sum(dim=dim, keepdim=True)", "e.amax(dim=dim, keepdim=True)"),
        says="The exponentials are divided by the largest of them, so the largest result is 1; divide by their sum.",
    ),
    mistake(
        "divided by the length",
        ("e.sum(dim=dim, keepdim=True)", "e.norm(dim=dim, keepdim=True)"),
        says="The exponentials are divided by their length (Euclidean norm), so their squares add up to 1; divide by their sum.",
    ),
    mistake("mean instead of sum", ("e.sum(dim=dim, keepdim=True)", "e.mean(dim=dim, keepdim=True)"), says="The exponentials are divided by their mean, so they add up to their number; divide by their sum."),
    mistake(
        "logarithm of the softmax",
        ("return e / total.masked_fill(total == 0, 1.0)", "return x - highest - total.log()"),
        says="This is the logarithm of the softmax: negative numbers. Probabilities are wanted.",
    ),
    mistake("scaled by the root of the length", ("x - highest", "(x - highest) / x.shape[dim] ** 0.5"), says="The scores are divided by the root of their number first; the softmax takes them as they are."),
    mistake("low scores win", ("x - highest", "x.amin(dim=dim, keepdim=True) - x"), says="The sign is turned over, so the lowest score gets the largest probability."),
    mistake(
        "−∞ counts as 0",
        ("highest = x.amax(", "x = torch.where(x == -math.inf, 0.0, x)\n    highest = x.amax("),
        says="A score of −∞ is replaced by 0, and e⁰ = 1 is a good deal of probability. e^(−∞) = 0: it needs no replacement.",
    ),
    mistake(
        "−∞ counts as −100",
        ("highest = x.amax(", "x, nothing = x.masked_fill(x == -math.inf, -100.0), (x == -math.inf).all(dim=dim, keepdim=True)\n    highest = x.amax("),
        ("return e / total.masked_fill(total == 0, 1.0)", "return (e / total.masked_fill(total == 0, 1.0)).masked_fill(nothing, 0.0)"),
        says="A score of −∞ is replaced by a number such as −100, which wins where all other scores are lower still. e^(−∞) = 0: it needs no replacement.",
    ),
    mistake(
        "a row of −∞ gives NaN",
        ("highest.masked_fill(highest == -math.inf, 0.0)", "highest"),
        says="A row of nothing but −∞ gives NaN (−∞ minus its maximum −∞, or 0 divided by 0); it should give zeros.",
    ),
    mistake(
        "a row of −∞ gives equal shares",
        ("highest = x.amax(", "x = x.clamp(min=-1e9)\n    highest = x.amax("),
        says="A row of nothing but −∞ gives each entry the same share, as if all were equally likely; nothing is allowed there, so it should give zeros.",
    ),
    mistake(
        "the input is changed",
        ("e = torch.exp(x - highest)", "x -= highest\n    e = torch.exp(x)"),
        says="The maximum is subtracted in place (`-=`), which changes the caller's scores. Compute a new tensor.",
    ),
    mistake(
        "cut off from gradients",
        ("return e / total.masked_fill(total == 0, 1.0)", "return (e / total.masked_fill(total == 0, 1.0)).detach()"),
        says="The values are right, but cut off from the input (detach, .data, no_grad): no gradient can flow back.",
    ),
    mistake(
        "everything becomes float32",
        ("highest = x.amax(", "x = x.float()\n    highest = x.amax("),
        says="The result is float32 whatever came in; the dtype of the input has to be kept.",
    ),
)


# %% tags=["alternative"]
@alternative("max with keepdim, NaN replaced at the end")
def softmax(x, dim=-1):
    shifted = x - x.max(dim, keepdim=True).values
    e = shifted.exp()
    return torch.nan_to_num(e / e.sum(dim, keepdim=True), nan=0.0)


# %% tags=["alternative"]
@alternative("log-sum-exp, where")
def softmax(x, dim=-1):
    total = torch.logsumexp(x, dim=dim, keepdim=True)
    return torch.where(torch.isinf(total), torch.zeros_like(x), torch.exp(x - total))


# %% tags=["alternative"]
@alternative("the dimension moved to the front")
def softmax(scores, dim=-1):
    rows = scores.movedim(dim, 0)
    top = rows.max(dim=0).values
    top = torch.where(top.isinf(), torch.zeros_like(top), top)
    e = torch.exp(rows - top)
    total = e.sum(0)
    return (e / torch.where(total > 0, total, torch.ones_like(total))).movedim(0, dim)


# %% tags=["alternative"]
@alternative("row by row, in float64, the allowed entries only")
def softmax(x, dim=-1):
    turned = x.double().transpose(dim, -1)
    rows = []
    for row in turned.reshape(-1, turned.shape[-1]):
        seen = row > float("-inf")
        e = torch.zeros_like(row)
        if seen.any():
            e = torch.where(seen, torch.exp(torch.where(seen, row, row[seen].max()) - row[seen].max()), 0.0)
            e = e / e.sum()
        rows.append(e)
    return torch.stack(rows).reshape(turned.shape).transpose(dim, -1).to(x.dtype)


# %% tags=["alternative"]
@alternative("the maximum limited from below, the sum as well")
def softmax(x, dim=-1):
    e = torch.exp(x - torch.amax(x, dim, True).clamp_min(torch.finfo(x.dtype).min).detach())
    return e / torch.sum(e, dim, True).clamp(min=torch.finfo(x.dtype).tiny)


# %% tags=["misconceptions"]
equivalents(
    "softmax",
    {
        "constant: `highest = highest.masked_fill(highest == -math.inf, 0.0)` → `highest = highest.masked_fill(highest == -math.inf, 1.0)`":
            "any finite number will do: −∞ minus it is −∞, and its exponential 0",
        "constant: `return e / total.masked_fill(total == 0, 1.0)` → `return e / total.masked_fill(total == 0, 10)`":
            "any number but 0 will do: it only divides zeros",
        "constant: `return e / total.masked_fill(total == 0, 1.0)` → `return e / total.masked_fill(total == 0, -1.0)`":
            "any number but 0 will do: it only divides zeros (a −0 is equal to 0)",
    },
)

# %% [markdown]
# ### Try it: temperature
#
# Divide the scores by a number $T$ before the softmax. It is called the *temperature*. Language models, which write by drawing each next word from such probabilities, use it to write more or less freely.

# %% tags=["picture"]
scores = torch.tensor([2.0, 1.0, 0.5, -0.5, -2.0])
figure, axes = plt.subplots(1, 4, figsize=(12, 2.8), layout="constrained", sharey=True)
for axis, temperature in zip(axes, (0.1, 0.5, 1.0, 5.0)):
    p = softmax(scores / temperature)
    bars = axis.bar(range(5), p, color=BLUE)
    axis.bar_label(bars, [f"{value:.2f}" for value in p.tolist()], fontsize=8)
    axis.set(title=f"$T = {temperature:g}$", xlabel="score", ylim=(0, 1.12))
    axis.set_xticks(range(5), [f"{score:g}" for score in scores.tolist()])
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("probability")
plt.show()

# %% [markdown]
# **What to see.** Always the same five scores. At a low temperature nearly everything goes to the largest (hence "soft max"); at a high one the five become equal. The order never changes.
# Large scores act like a low temperature, and a softmax that is nearly 0 or 1 everywhere hardly responds to small changes of its scores: it has little left to learn from.

# %% [markdown]
# ## How wrong is a prediction?
#
# A model that chooses among $C$ classes (of a picture, or of all words that could come next) gives a score $x_j$ to each; such scores are called **logits**. With $p = \mathrm{softmax}(x)$ and $y$ for the number of the right
# class, the **loss**, which says how bad the answer was, is how *surprised* the model is by the truth:
#
# $$\ell = -\log p_y = -\log \frac{e^{x_y}}{\sum_j e^{x_j}} = \log\sum_j e^{x_j} - x_y$$
#
# A sure and right prediction costs $-\log 1 = 0$; a sure and wrong one costs without bound. The logarithm is the natural one, and the unit of the loss is called a *nat*. Averaged over examples, this is the
# **cross-entropy**.
#
# The third form is the one to compute. If you take the softmax first and then its logarithm, a very small $p_y$ is rounded to 0 and the loss becomes $-\log 0 = \infty$, although the true
# value may be, say, 200. The function $\log\sum_j e^{x_j}$ is called log-sum-exp; computed with the maximum taken out, $m + \log\sum_j e^{x_j - m}$, it never overflows. `torch.logsumexp(x, dim=1)` does that for each row.
#
# ## Exercise 3 · `cross_entropy`
#
# *Difficulty ●●● · 25 minutes · 5 points*
#
# Sentences in a batch have different lengths, so the shorter ones are filled up with padding, and what the model predicts there must not count. Positions with the target `ignore_index` add nothing to the sum
# **and nothing to the number of examples it is divided by**. One of the points is for batches in which every target is ignored: the loss is 0 and still has a gradient, all zeros, so that training, which asks
# for the gradient of every batch, can go on.

# %% tags=["export"]
def cross_entropy(logits: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
    """Mean cross-entropy in nats, over the examples that count.

    Args:
        logits: scores of C classes for each of N examples, (N, C), floating-point.
        targets: the right class of each example, 0 … C−1, or `ignore_index`; (N,), int64.
        ignore_index: the target of examples that do not count. It may be a class's number (that of
            padding, say).

    Returns: a tensor without dimensions, in the logits' dtype. Logits of any finite size give a
        finite loss. If every target is ignored it is 0, with a gradient of zeros. The inputs are not
        changed.

    May not call F.cross_entropy, F.nll_loss, nn.CrossEntropyLoss or nn.NLLLoss. torch.logsumexp is welcome.
    """
    ### BEGIN SOLUTION
    kept = targets != ignore_index
    chosen = logits.gather(1, targets.masked_fill(~kept, 0).unsqueeze(1)).squeeze(1)  # (N,); any class where ignored
    losses = torch.logsumexp(logits, dim=1) - chosen
    return losses.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)
    ### END SOLUTION


# %%
@check(
    "cross_entropy",
    points=5,
    forbid=[
        "torch.nn.functional.cross_entropy",
        "torch.nn.functional.nll_loss*",
        "torch.nn.CrossEntropyLoss",
        "torch.nn.NLLLoss*",
        "torch.nn.loss.*",
        "torch.cross_entropy_loss",
        "torch.nll_loss*",
    ],
)
def _(case):
    def targets(n, classes, *ignored, ignore_index=-100):
        y = case.integers(0, classes, n)
        y[list(ignored)] = ignore_index
        return y

    case.call("two examples, two classes", cross_entropy, case.normal(2, 2), torch.tensor([1, 0], device=case.device))
    case.call("one example, three classes", cross_entropy, case.normal(1, 3), torch.tensor([2], device=case.device))
    case.call("four examples, three classes", cross_entropy, case.normal(4, 3), targets(4, 3))
    case.call("one of three ignored, −100", cross_entropy, case.normal(3, 2), torch.tensor([1, -100, 0], device=case.device))
    case.call("six examples, two ignored", cross_entropy, case.normal(6, 4), targets(6, 4, 1, 4))
    case.call("ignore_index=-1", cross_entropy, case.normal(5, 3), targets(5, 3, 0, 2, ignore_index=-1), ignore_index=-1)
    case.call("ignore_index=255: more than there are classes", cross_entropy, case.normal(5, 3), targets(5, 3, 0, 2, ignore_index=255), ignore_index=255)
    padded = torch.tensor([2, 1, 0, 0], device=case.device)
    case.call("ignore_index=0: class 0 is padding", cross_entropy, case.normal(4, 3), padded, ignore_index=0)
    case.call("float64 stays float64", cross_entropy, case.normal(3, 4, dtype=torch.float64), targets(3, 4, 0))
    x = case.normal(4, 3).requires_grad_()
    case.gradients("gradients", case.call("logits that require gradients", cross_entropy, x, targets(4, 3, 2)), x)
    case.call("logits near 1000", cross_entropy, case.normal(3, 4) + 1000, targets(3, 4))
    case.call("logits near −1000", cross_entropy, case.normal(3, 4) - 1000, targets(3, 4))
    wrong = torch.tensor([[300.0, 0.0], [0.0, 1.0]], device=case.device)
    case.call("very sure and wrong: p rounds to 0", cross_entropy, wrong + case.normal(2, 2), torch.tensor([1, 1], device=case.device))
    with case.part("every target ignored", points=1):
        x = case.normal(2, 3).requires_grad_()
        loss = case.call("two targets, both ignored", cross_entropy, x, targets(2, 3, 0, 1))
        case.gradients("its gradient is 0, not missing and not NaN", loss, x)
    ### BEGIN HIDDEN TESTS
    case.call("one class, one example ignored", cross_entropy, case.normal(3, 1), targets(3, 1, 1))
    case.call("more classes than examples", cross_entropy, case.normal(3, 50), targets(3, 50, 1))
    case.call("200 examples, every third ignored", cross_entropy, case.normal(200, 7, scale=3.0), targets(200, 7, *range(0, 200, 3)))
    case.call("ignore_index is the last class", cross_entropy, case.normal(8, 4), targets(8, 4, 1, 5, ignore_index=3), ignore_index=3)
    case.call("ignore_index that does not occur", cross_entropy, case.normal(4, 5), torch.tensor([0, 4, 2, 1], device=case.device), ignore_index=3)
    case.call("all but one ignored", cross_entropy, case.normal(5, 3), targets(5, 3, 0, 1, 2, 4))
    case.call("logits of ±10000", cross_entropy, case.normal(6, 4, scale=10000.0), targets(6, 4, 3))
    case.call("logits that are not contiguous", cross_entropy, case.normal(4, 6).T, targets(6, 4, 0))
    x = case.normal(7, 5, scale=30.0, dtype=torch.float64).requires_grad_()
    case.gradients("gradients, large logits, some ignored", cross_entropy(x, targets(7, 5, 0, 6)), x)
    x = case.normal(6, 3).requires_grad_()
    case.gradients("gradients, ignore_index=0", cross_entropy(x, torch.tensor([1, 0, 2, 0, 0, 1], device=case.device), ignore_index=0), x)
    with case.part("every target ignored"):
        x = case.normal(4, 3, dtype=torch.float64).requires_grad_()
        loss = case.call("all padding, ignore_index=0", cross_entropy, x, torch.zeros(4, dtype=torch.int64, device=case.device), ignore_index=0)
        case.gradients("its gradient is 0 as well", loss, x)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "cross_entropy",
    "Start without ignored targets: for each row you need two numbers, the score of the right class and the log-sum-exp of all scores. Then ask by how many examples the sum is divided.",
    "The third form of the formula above this exercise. The paper trains with this loss (section 5.4 adds label smoothing, in week 3), and week 3's batches are full of padding.",
    "Mark which targets count. Where they do not, look up any valid class, class 0 say, so that indexing cannot fail. Log-sum-exp over the classes minus the chosen score gives a loss for each example; set "
    "those that do not count to 0, add up, and divide by how many count, or by 1 if none does.",
)
misconceptions(
    "cross_entropy",
    mistake(
        "averaged over ignored examples too",
        ("kept.sum().clamp(min=1)", "targets.numel()"),
        says="The sum is divided by the number of all examples, ignored ones included, so a batch with more padding seems to have a smaller loss. Divide by how many count.",
    ),
    mistake(
        "ignored examples count",
        ("losses.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)", "losses.mean()"),
        says="Ignored examples still add a loss, that of some class they were given instead; they must add nothing, and not be counted.",
    ),
    mistake("only −100 is ignored", ("targets != ignore_index", "targets != -100"), says="Only the target −100 is ignored, whatever `ignore_index` says."),
    mistake(
        "only −100 is ignored, and other negative targets are class 0",
        ("targets != ignore_index", "targets != -100"),
        ("targets.masked_fill(~kept, 0)", "targets.clamp(min=0)"),
        says="Only the target −100 is ignored, whatever `ignore_index` says; other targets that should be ignored count as a class.",
    ),
    mistake("only negative targets are ignored", ("targets != ignore_index", "targets >= 0"), says="Every negative target is ignored and nothing else; `ignore_index` may be the number of a class."),
    mistake("sum instead of mean", (" / kept.sum().clamp(min=1)", ""), says="The losses are added up; their mean over the examples that count is wanted, so that the size of the batch does not matter."),
    mistake(
        "divided by the classes too",
        ("kept.sum().clamp(min=1)", "(kept.sum().clamp(min=1) * logits.shape[1])"),
        says="The loss is also divided by the number of classes; the mean runs over examples alone.",
    ),
    mistake(
        "logarithm of the softmax",
        ("torch.logsumexp(logits, dim=1) - chosen", "-torch.log(torch.softmax(logits, dim=1).gather(1, targets.masked_fill(~kept, 0).unsqueeze(1)).squeeze(1))"),
        says="The logarithm is taken of a probability, which rounds to 0 when the model is very sure and wrong, so the loss becomes infinite. Use log-sum-exp minus the right class's score.",
    ),
    mistake(
        "logarithm of the softmax plus something small",
        ("torch.logsumexp(logits, dim=1) - chosen", "-torch.log(torch.softmax(logits, dim=1).gather(1, targets.masked_fill(~kept, 0).unsqueeze(1)).squeeze(1) + 1e-9)"),
        says="Something like 1e−9 keeps the logarithm from 0, but then no example can cost more than about 20, and those that are most wrong give no gradient. Use log-sum-exp minus the right class's score.",
    ),
    mistake(
        "log-sum-exp without the maximum",
        ("torch.logsumexp(logits, dim=1)", "logits.exp().sum(1).log()"),
        says="The exponentials are summed as they are, which overflows for large logits (and is log 0 for very negative ones). Take the maximum out first, or let torch.logsumexp do it.",
    ),
    mistake("sign", ("torch.logsumexp(logits, dim=1) - chosen", "chosen - torch.logsumexp(logits, dim=1)"), says="The sign is turned over: this is the logarithm of the probability, which is negative. The loss is minus that."),
    mistake("along the wrong dimension", ("dim=1)", "dim=0)"), says="The log-sum-exp runs over the examples (dimension 0); each example's scores over the classes belong together (dimension 1)."),
    mistake("no log-sum-exp", ("torch.logsumexp(logits, dim=1) - chosen", "-chosen"), says="The loss is only minus the score of the right class; without the log-sum-exp of all scores, raising every score would lower the loss."),
    mistake("not averaged at all", (".sum() / kept.sum().clamp(min=1)", ""), says="A loss for each example comes back; a single number is wanted, their mean over the examples that count."),
    mistake("bits instead of nats", ("torch.logsumexp(logits, dim=1) - chosen", "(torch.logsumexp(logits, dim=1) - chosen) / math.log(2)"), says="The logarithm has base 2, which measures in bits; the natural one is wanted (nats)."),
    mistake(
        "softmax twice",
        ("kept = targets", "logits = torch.softmax(logits, dim=1)\n    kept = targets"),
        says="The logits go through a softmax before the loss takes its own; the loss wants the scores as they are.",
    ),
    mistake(
        "one minus the probability",
        ("torch.logsumexp(logits, dim=1) - chosen", "1 - torch.exp(chosen - torch.logsumexp(logits, dim=1))"),
        says="The loss is 1 − p of the right class; the cross-entropy is −log p.",
    ),
    mistake(
        "every example meets every target",
        ("logits.gather(1, targets.masked_fill(~kept, 0).unsqueeze(1)).squeeze(1)", "logits[:, targets.masked_fill(~kept, 0)].mean(1)"),
        says="Indexing with `logits[:, targets]` gives (N, N): each example with the targets of all. Each needs its own.",
    ),
    mistake(
        "squared error",
        ("torch.logsumexp(logits, dim=1) - chosen", "(torch.softmax(logits, dim=1) - torch.eye(logits.shape[1], dtype=logits.dtype)[targets.masked_fill(~kept, 0)]).square().sum(1)"),
        says="This is the squared distance between the probabilities and the truth; the cross-entropy is −log of the right class's probability.",
    ),
    mistake(
        "nothing left gives NaN",
        (".clamp(min=1)", ""),
        says="If every target is ignored the loss is 0/0 = NaN; it should be 0, with a gradient of zeros.",
    ),
    mistake(
        "nothing left gives a constant",
        ("kept = targets != ignore_index\n", "kept = targets != ignore_index\n    if not kept.any():\n        return torch.zeros((), dtype=logits.dtype)\n"),
        says="If every target is ignored the loss is 0, but a new 0 that hangs on nothing: `backward()` fails on it, or reaches no logits. It should have a gradient, of zeros.",
    ),
    mistake(
        "targets changed",
        ("targets.masked_fill(~kept, 0)", "targets.masked_fill_(~kept, 0)"),
        says="Ignored targets are overwritten in the caller's tensor (an in-place operation); the next look at them finds class 0.",
    ),
    mistake(
        "cut off from gradients",
        ("return losses.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)", "return (losses.masked_fill(~kept, 0.0).sum() / kept.sum().clamp(min=1)).detach()"),
        says="The values are right, but cut off from the logits (detach, .item(), no_grad): nothing could be learned from this loss.",
    ),
    mistake("everything becomes float32", ("kept = targets", "logits = logits.float()\n    kept = targets"), says="The loss is float32 whatever came in; the dtype of the logits has to be kept."),
)


# %% tags=["alternative"]
@alternative("only the rows that count, arange indexing")
def cross_entropy(logits, targets, ignore_index=-100):
    keep = targets.ne(ignore_index)
    if not keep.any():
        return logits.sum() * 0.0
    x, y = logits[keep], targets[keep]
    return (torch.logsumexp(x, -1) - x[torch.arange(len(y)), y]).mean()


# %% tags=["alternative"]
@alternative("log-sum-exp by hand, a product with the mask")
def cross_entropy(logits, targets, ignore_index=-100):
    mask = (targets != ignore_index).to(logits.dtype)
    safe = torch.where(targets == ignore_index, torch.zeros_like(targets), targets)
    m = logits.max(dim=1, keepdim=True).values
    lse = (m + (logits - m).exp().sum(dim=1, keepdim=True).log()).squeeze(1)
    loss = (lse - torch.take_along_dim(logits, safe[:, None], dim=1)[:, 0]) * mask
    return loss.sum() / torch.clamp(mask.sum(), min=1.0)


# %% tags=["alternative"]
@alternative("one-hot rows times log-softmax, float64 inside")
def cross_entropy(logits, targets, ignore_index=-100):
    log_p = torch.log_softmax(logits.double(), dim=-1)
    kept = targets != ignore_index
    one_hot = torch.nn.functional.one_hot(targets * kept, logits.shape[-1]) * kept[:, None]
    return (-(one_hot * log_p).sum() / max(int(kept.sum()), 1)).to(logits.dtype)


# %% tags=["alternative"]
@alternative("a loop over the examples")
def cross_entropy(logits, targets, ignore_index=-100):
    total, count = (logits * 0).sum(), 0
    for row, target in zip(logits, targets.tolist()):
        if target == ignore_index:
            continue
        total = total + torch.log(torch.exp(row - row.max()).sum()) + row.max() - row[target]
        count += 1
    return total / count if count else total


# %% [markdown]
# ### Try it: the price of being sure
#
# Two classes, the first is right. Left: the loss against the probability that the model gave to the right class. Right: computed two ways against the score of the *wrong* class. Learning changes the
# scores little by little in the direction in which the loss falls, so the slope of these curves counts as much as their height.

# %% tags=["picture"]
p = torch.linspace(0.005, 1, 200)
gap = torch.linspace(0, 140, 141)
logits = torch.stack([torch.zeros_like(gap), gap], dim=1)
stable = [cross_entropy(row[None], torch.tensor([0])).item() for row in logits]
naive = [-torch.log(softmax(row)[0]).item() for row in logits]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(p, -p.log(), color=BLUE)
left.set(title=r"$-\log p$", xlabel="probability of the right class", ylabel="loss [nat]")
right.plot(gap, stable, color=BLUE, linewidth=4, alpha=0.5, label="log-sum-exp minus score")
right.plot(gap, naive, "--", color=ORANGE, label="log of softmax")
broken = next(i for i, value in enumerate(naive) if math.isinf(value))
right.axvline(gap[broken], color=GREY, linewidth=1)
right.annotate(f"infinite from {gap[broken]:.0f} on", (gap[broken], 20), xytext=(-6, 0), textcoords="offset points", ha="right")
right.set(title="two ways to compute it", xlabel="score of the wrong class minus score of the right one", ylabel="loss [nat]")
right.legend(frameon=False)
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Left: between 1 and ½ being wrong is cheap, near 0 it becomes very expensive. Right: both ways agree until the probability rounds to 0 (`float32` ends near $e^{-103}$);
# from there the logarithm of the softmax is infinite, while the other way simply goes on.

# %% [markdown]
# ## How undecided is a distribution?
#
# Probabilities for all possible outcomes, $p_1 \ldots p_C$, are called a **distribution**. Its **entropy** is the surprise one has to expect on average:
#
# $$H(p) = -\sum_i p_i \log p_i$$
#
# It is 0 when the outcome is certain and $\log C$ when all $C$ outcomes are equally likely, its largest value. $e^{H}$ reads as "as undecided as a fair choice among so many"; for a language model this is
# called *perplexity*. We will use entropy to see whether attention looks at one word or at all of them.
#
# ## Exercise 4 · `entropy`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# | | mathematics says | this code does | why |
# | --- | --- | --- | --- |
# | $p_i = 0$ | $0 \log 0 = 0$, as a limit | the same, but not by itself | in floating-point $0 \cdot (-\infty)$ is `nan` |

# %% tags=["export"]
def entropy(p: Tensor) -> Tensor:
    """Entropy in nats of the distributions in the last dimension.

    Args:
        p: probabilities, (…, C): not negative, adding up to 1 in the last dimension. They may be 0.

    Returns: (…), in the dtype of p. The input is not changed.

    May not call torch.special.entr, torch.distributions or scipy.
    """
    ### BEGIN SOLUTION
    return -torch.xlogy(p, p).sum(dim=-1)  # xlogy(0, 0) is 0
    ### END SOLUTION


# %%
@check("entropy", points=2, forbid=["torch.entr", "torch.special.entr", "torch.distributions.*", "scipy.*"])
def _(case):
    def distributions(*shape, zeros=()):
        p = case.uniform(*shape, low=0.05, dtype=torch.float64)
        for place in zeros:
            p[place] = 0.0
        return (p / p.sum(-1, keepdim=True)).float()

    case.call("a fair coin", entropy, torch.tensor([0.5, 0.5], device=case.device))
    case.call("a loaded coin", entropy, torch.tensor([0.9, 0.1], device=case.device))
    case.call("two distributions over three outcomes", entropy, distributions(2, 3))
    case.call("three over three", entropy, distributions(3, 3))
    case.call("a batch of matrices", entropy, distributions(2, 3, 4))
    case.call("certain: one probability is 1, the others are 0", entropy, torch.tensor([0.0, 1.0, 0.0], device=case.device))
    case.call("a probability of 0 among others", entropy, distributions(2, 4, zeros=[(0, 2)]))
    unlikely = torch.tensor([0.995] + [5e-5] * 100, device=case.device)
    case.call("one likely outcome and a hundred unlikely ones", entropy, unlikely)
    case.call("float64 stays float64", entropy, distributions(2, 3).double(), policy={"tol": 1e-6})
    # through a softmax: formulas that agree on distributions alone may have gradients that differ by a constant, which the softmax removes
    scores = case.normal(2, 3).requires_grad_()
    case.gradients("gradients", entropy(torch.softmax(scores, dim=-1)), scores)
    ### BEGIN HIDDEN TESTS
    case.call("a thousand equally likely outcomes", entropy, torch.full((2, 1000), 1e-3, device=case.device))
    case.call("one outcome", entropy, torch.ones(4, 1, device=case.device))
    case.call("one distribution over seven outcomes", entropy, distributions(7))
    case.call("many zeros", entropy, distributions(5, 6, zeros=[(0, 0), (0, 5), (1, 3), (4, slice(1, 4))]))
    case.call("four dimensions", entropy, distributions(2, 1, 3, 5))
    case.call("a view that is not contiguous", entropy, distributions(4, 3).repeat(1, 2)[:, ::2])
    case.call("very unlikely outcomes", entropy, torch.tensor([[1 - 2e-6, 1e-6, 1e-6], [1e-5, 0.5, 0.49999]], device=case.device))
    case.call("batch and heads, with zeros, float64", entropy, distributions(2, 3, 4, zeros=[(0, 1, 2), (1, 0, 0)]).double(), policy={"tol": 1e-6})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "entropy",
    "First write the sum for probabilities above 0. Then try it on (0, 1, 0) and find the NaN: which product makes it?",
    "The formula above; the row of the table on 0 · log 0.",
    "Multiply each probability by its logarithm, with 0 wherever the probability is 0 (torch.where around a safe logarithm, or torch.xlogy), add up over the last dimension, and turn the sign.",
)
misconceptions(
    "entropy",
    mistake("no minus sign", ("-torch.xlogy", "torch.xlogy"), says="The minus sign is missing: logarithms of probabilities are negative, entropy is not."),
    mistake("NaN where p is 0", ("torch.xlogy(p, p)", "(p * p.log())"), says="A probability of 0 gives 0 · log 0 = 0 · (−∞) = NaN; it should add 0."),
    mistake(
        "a 0 silences the whole distribution",
        ("-torch.xlogy(p, p).sum(dim=-1)", "torch.nan_to_num(-(p * p.log()).sum(dim=-1))"),
        says="The NaN of one probability 0 has already spread to the sum when it is replaced, so the whole distribution counts as certain. Only that one term is 0.",
    ),
    mistake(
        "small probabilities raised",
        ("torch.xlogy(p, p)", "p * p.clamp(min=1e-4).log()"),
        says="Probabilities are limited from below before the logarithm, by a bound that real ones fall under: many small ones add up to a good deal of surprise. Only 0 needs care.",
    ),
    mistake("bits instead of nats", (".sum(dim=-1)", ".sum(dim=-1) / math.log(2)"), says="The logarithm has base 2, which measures in bits; the natural one is wanted (nats)."),
    mistake("mean instead of sum", (".sum(dim=-1)", ".mean(dim=-1)"), says="The terms are averaged over the outcomes; they are to be added up. The probabilities are the weights of the average already."),
    mistake("everything added up", (".sum(dim=-1)", ".sum()"), says="The entropies of all distributions are added up to one number; each distribution in the last dimension has its own."),
    mistake("along the first dimension", ("dim=-1", "dim=0"), says="The sum runs over the first dimension; a distribution's outcomes are in the last."),
    mistake(
        "not weighted",
        ("torch.xlogy(p, p).sum(dim=-1)", "torch.where(p > 0, p, 1.0).log().mean(dim=-1)"),
        says="The surprises −log p are averaged with equal weights; each counts with its own probability p.",
    ),
    mistake("perplexity", ("return -torch.xlogy(p, p).sum(dim=-1)", "return torch.exp(-torch.xlogy(p, p).sum(dim=-1))"), says="This is e to the power of the entropy, the perplexity; the entropy itself is wanted."),
    mistake("between 0 and 1", (".sum(dim=-1)", ".sum(dim=-1) / math.log(max(p.shape[-1], 2))"), says="The entropy is divided by its largest value log C; it is wanted in nats."),
    mistake("dimension kept", ("dim=-1", "dim=-1, keepdim=True"), says="The last dimension stays with size 1; the result has one dimension fewer than p."),
    mistake("softmax first", ("torch.xlogy(p, p)", "torch.xlogy(torch.softmax(p, -1), torch.softmax(p, -1))"), says="The probabilities go through a softmax once more; they are probabilities already."),
    mistake("one minus the squares", ("-torch.xlogy(p, p).sum(dim=-1)", "1 - p.square().sum(dim=-1)"), says="This is 1 − Σp², the Gini index; entropy weighs the logarithms."),
    mistake(
        "yes and no counted for each outcome",
        ("-torch.xlogy(p, p).sum(dim=-1)", "-(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)).sum(dim=-1)"),
        says="For each outcome the surprise of its not happening is added as well; the sum runs over the outcomes alone.",
    ),
    mistake("zeros overwritten", ("torch.xlogy(p, p)", "torch.xlogy(p.masked_fill_(p == 0, 1.0), p)"), says="Probabilities of 0 are overwritten in the caller's tensor. Compute a new one."),
    mistake("cut off from gradients", ("torch.xlogy(p, p)", "torch.xlogy(p, p).detach()"), says="The values are right, but cut off from the input: no gradient can flow back."),
    mistake("everything becomes float32", ("torch.xlogy(p, p)", "torch.xlogy(p.float(), p.float())"), says="The result is float32 whatever came in; the dtype of the input has to be kept."),
)


# %% tags=["alternative"]
@alternative("where, with a safe logarithm")
def entropy(p):
    logs = torch.log(torch.where(p > 0, p, torch.ones_like(p)))
    return -(p * logs).sum(-1)


# %% tags=["alternative"]
@alternative("something tiny inside the logarithm")
def entropy(p):
    return -torch.sum(p * torch.log(p + 1e-12), dim=-1)


# %% tags=["alternative"]
@alternative("NaN replaced term by term")
def entropy(p):
    return torch.nansum(-p * p.log(), dim=-1)


# %% tags=["alternative"]
@alternative("clamped, einsum")
def entropy(probabilities):
    return torch.einsum("...c,...c->...", probabilities, probabilities.clamp(min=1e-30).log().neg())


# %% tags=["alternative"]
@alternative("a loop over the outcomes, in float64")
def entropy(p):
    h = torch.zeros(p.shape[:-1], dtype=torch.float64)
    for i in range(p.shape[-1]):
        q = p[..., i].double()
        h = h - torch.where(q > 0, q * torch.log(q.clamp(min=1e-300)), 0.0)
    return h.to(p.dtype)


# %% [markdown]
# ## All together: this is attention
#
# You now hold every piece of the paper's equation 1. A **query** (what I look for) is compared with all **keys** by dot products; the softmax turns the scores into weights; the result is the
# average of the **values** with these weights.
#
# Here each word of a tiny sentence has a key, and its value is a colour: (red, green, blue). We ask with the query "something like an animal". Change the query, or the temperature, and run the cell again.

# %% tags=["picture"]
words = ["the", "cat", "saw", "a", "truck"]
keys = torch.tensor([[0.1, 0.2], [2.0, 0.5], [0.3, -1.0], [0.1, 0.1], [-0.8, 2.1]])
values = torch.tensor([[0.6, 0.6, 0.6], [0.84, 0.37, 0.0], [0.0, 0.62, 0.45], [0.6, 0.6, 0.6], [0.0, 0.45, 0.7]])
query = torch.tensor([[1.5, 0.0]])

figure, axes = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained", width_ratios=[5, 5, 5])
for axis, (title, temperature) in zip(axes, {"hesitant: T = 4": 4.0, "T = 1": 1.0, "decided: T = 0.2": 0.2}.items()):
    weights = softmax(pairwise_dot_products(query, keys) / temperature)  # (1, 5)
    answer = weights @ values  # (1, 3): the average colour
    axis.bar(words, weights[0], color=values.tolist())
    axis.axhspan(1.1, 1.3, color=answer[0].tolist())
    axis.text(2, 1.2, "the answer", ha="center", va="center", color="white")
    axis.set(title=f"{title}, entropy {entropy(weights)[0]:.2f} nat", ylim=(0, 1.3), yticks=[0, 0.5, 1])
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("weight")
plt.show()

# %% [markdown]
# **What to see.** The strip on top is the answer: the mixture of the words' colours. Decided, it is the cat's colour; hesitant, it is close to the average of all. The entropy says the same
# in a number: from $\log 5 \approx 1.61$ (undecided among five) down to nearly 0. Unlike looking something up in a dictionary, all of this can be differentiated, so queries, keys and values can be *learned*.
# Week 2 builds it for whole batches, and finds out why the paper's temperature is $\sqrt{d_k}$.

# %% [markdown] written="temperature" points=2
# ## Question 1 · hot and cold
#
# *2 points, graded by a person*
#
# (a) What becomes of $\mathrm{softmax}(x/T)$ as $T \to 0$ and as $T \to \infty$? Say what happens if two scores are tied for the largest. (b) Your attention scores are dot products of random vectors
# of width 64 and then of width 1024. Using the right-hand picture after exercise 1: which temperature would keep the weights equally decided in both cases, and why?
#
# ### BEGIN SOLUTION
# (a) As $T \to 0$ differences grow without bound: all probability goes to the largest score; tied largest scores share it equally. As $T \to \infty$ differences vanish and
# every one of the $C$ probabilities tends to $1/C$.
#
# (b) The scores' standard deviation is $\sqrt d$: 8 and 32. Dividing by $T = \sqrt d$ brings both to standard deviation 1, so the softmax sees scores of the same spread. Without it the wide vectors
# act like a temperature four times lower.
#
# **Rubric.** 1 point: both limits (½ if the tie is missing). 1 point: $T = \sqrt d$ (or proportional to it) *and* the reason, equal spread of the scores. "Divide by $d$" gets 0 for (b).
# ### END SOLUTION

# %% [markdown] written="why_log_sum_exp" points=2
# ## Question 2 · the same formula, computed twice
#
# *2 points, graded by a person*
#
# $-\log(\mathrm{softmax}(x)_y)$ and $\mathrm{logsumexp}(x) - x_y$ are equal on paper. (a) Where does the first fail in floating point although your softmax never overflows? (b) Why is adding $10^{-9}$ inside
# the logarithm not a repair, if the loss is used for learning?
#
# ### BEGIN SOLUTION
# (a) Where the right class's score lies far below the largest: $e^{x_y - \max}$ underflows to exactly 0 (in `float32` from a gap of about 103), and $-\log 0 = \infty$. The softmax is right, to rounding; what is lost
# is how small the number was, and the logarithm needs just that.
#
# (b) The loss stops growing near $-\log 10^{-9} \approx 20.7$. Beyond that it is flat: its derivative with respect to the logits is nearly 0, so the examples that are most wrong no longer
# teach anything. (It also changes all other losses a little.)
#
# **Rubric.** 1 point: underflow to 0 of the right class's probability, not overflow. 1 point: the loss saturates, hence no gradient; "it is inexact" alone is ½.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - $XY^\top$ holds the dot product of every row of $X$ with every row of $Y$. For random vectors it grows as $\sqrt d$.
# - The softmax turns scores into probabilities along one dimension; subtract the maximum of each row first; $-\infty$ means "never".
# - Cross-entropy is $\mathrm{logsumexp}(x) - x_y$, averaged over what counts. Entropy says how undecided a distribution is.
# - Attention = dot products → softmax → weighted average.
#
# **Next**: `backprop_and_optimisers`: where gradients come from and what is done with them. The functions of this notebook are kept for you:
# `from papers.transformer.foundations import softmax`.

# %% tags=["picture"]
score()
