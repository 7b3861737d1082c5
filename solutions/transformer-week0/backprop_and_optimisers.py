# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Backpropagation and optimisers
#     order: 2
#     exports: papers.transformer.foundations
#     minutes: 90
# ---

# %% [markdown]
# # Backpropagation and optimisers
#
# Prerequisites of *Attention Is All You Need*: deep learning basics; section 5.3 (optimizer) · about 90 minutes
#
# At the end of this notebook you can
#
# - compute every gradient of a small neural network by hand, and check it two ways;
# - write the two optimisers that train nearly everything: SGD with momentum, and Adam;
# - write a training loop, and name the four lines whose order matters.
#
# **Week 0 of the roadmap, point 3**: backpropagation, optimisation, activation functions.
#
# 1. Watch the [recommended PyTorch tutorial](https://www.youtube.com/watch?v=FHdlXe1bSe4), the parts on autograd (PyTorch's way to compute gradients) and the training loop, if you have not yet.
# 2. Keep paper and pencil ready: exercise 1 is the one piece of calculus in this course that is worth doing by hand once.

# %% tags=["export"]
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %%
import math

import matplotlib.pyplot as plt

from papers.transformer.foundations import cross_entropy

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## Learning is walking downhill
#
# A (neural) network is a function with knobs: its **parameters**. The **loss** $\ell$ says how wrong it is. The **gradient** of the loss holds, for each parameter, how fast the loss grows when this parameter
# alone is turned up a little. So to make the loss smaller, turn every parameter against its gradient:
#
# $$\theta \leftarrow \theta - \eta\, \frac{\partial \ell}{\partial \theta}$$
#
# $\theta$ stands for all the parameters, $\partial \ell / \partial \theta$ for the gradient, and the arrow reads "becomes". $\eta$ is the **learning rate**, `lr` in code: how far to turn. That is all of *gradient descent*; the rest of this notebook is how to get the gradients and how to step better (what does the stepping is called an *optimiser*).
#
# ## Why there is something between the layers
#
# A **linear layer** multiplies its input, a row $x$, by a matrix $W$ of parameters (its *weights*) and adds a row $b$ of them (its *bias*): $xW + b$. Two in a row are no more than one; without the biases, $(xW_1)W_2 = x(W_1W_2)$. A network gains from depth only if something bends in between: the **activation function**, applied number by number. Three are common (in code
# `torch.relu`, `torch.sigmoid`, `torch.tanh`):
#
# $$\mathrm{ReLU}(z) = \max(0, z), \qquad \text{sigmoid } \sigma(z) = \frac{1}{1 + e^{-z}}, \qquad \tanh(z) = \frac{e^z - e^{-z}}{e^z + e^{-z}}$$

# %% tags=["picture"]
z = torch.linspace(-4, 4, 401)
curves = {
    "ReLU": (z.clamp(min=0), (z > 0).float(), BLUE, "-"),
    "sigmoid": (torch.sigmoid(z), torch.sigmoid(z) * (1 - torch.sigmoid(z)), ORANGE, "--"),
    "tanh": (torch.tanh(z), 1 - torch.tanh(z) ** 2, GREEN, "-."),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharex=True)
for name, (value, slope, colour, style) in curves.items():
    left.plot(z, value, style, color=colour, label=name)
    right.plot(z, slope, style, color=colour, label=name)
left.set(title="activation", xlabel="input $z$", ylabel="output", ylim=(-1.2, 3))
right.set(title="its derivative", xlabel="input $z$", ylabel="slope")
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
left.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** ReLU, $\max(0, z)$, is the simplest bend there is: its slope is 1 or 0. Sigmoid and tanh flatten out on both sides, where their slope is nearly 0: a gradient that has to pass many of them becomes tiny.
# The sigmoid's slope is never above ¼. We will meet this again with recurrent networks in the next notebook.

# %% [markdown]
# ## Backpropagation is the chain rule, from the loss backwards
#
# The **chain rule**: if $\ell$ depends on $s$, and $s$ on $h$, then slopes multiply, $\frac{\partial \ell}{\partial h} = \frac{\partial \ell}{\partial s} \cdot \frac{\partial s}{\partial h}$; and where $h$ acts on the loss along several
# ways, the products are added up.
#
# Our network, a *multi-layer perceptron* (MLP), takes $B$ examples as rows of $x$ and computes
#
# $$z = xW_1 + b_1, \qquad h = \max(0, z), \qquad s = hW_2 + b_2, \qquad \ell = \frac1B\sum_{i=1}^{B}\bigl(\mathrm{logsumexp}(s_i) - s_{i,y_i}\bigr)$$
#
# The numbers in $h$, between the two layers, are its *hidden units*; $s$ holds the scores (logits) of the classes, a row $s_i$ for each example, and $y_i$ is the right class of example $i$. $\ell$ is the cross-entropy you know.
# Computing all this from left to right is the *forward pass*.
#
# Write $\bar{s}$ for $\partial\ell/\partial s$, and so on: a letter with a bar has the shape of the letter. Going backwards, each line needs only the bar that came before it, and what the
# forward pass computed.
#
# | step forward | step backward | in words |
# | --- | --- | --- |
# | $\ell$ from $s$ | $\bar s = \dfrac{\mathrm{softmax}(s) - \text{one-hot}(y)}{B}$ | what the network believed, minus the truth |
# | $s = hW_2 + b_2$ | $\bar W_2 = h^\top \bar s$, $\;\bar b_2 = $ the rows of $\bar s$ added up, $\;\bar h = \bar s\, W_2^\top$ | a linear layer passes blame back to its weights, its bias and its input |
# | $h = \max(0, z)$ | $\bar z = \bar h$ where $z > 0$, else 0 | a unit that was off gets no blame |
# | $z = xW_1 + b_1$ | ? | the same rule as two lines above |
#
# One-hot($y$) has in each row a 1 at the right class and 0 elsewhere. The table's first line is the derivative of $\mathrm{logsumexp}(s_i)$, which is the softmax, minus that of $s_{i,y_i}$. Its second line is the chain rule: entry $(k, c)$ of $W_2$ multiplies $h_{ik}$ and goes
# into $s_{ic}$, for every example $i$, so its slope is $\sum_i h_{ik}\,\bar s_{ic}$: entry $(k, c)$ of $h^\top \bar s$. You need not remember where the transposes go: only one order of the factors has the right shape.
#
# ## Exercise 1 · `mlp_gradients`
#
# *Difficulty ●●● · 30 minutes · 5 points*
#
# The $\tfrac1B$ of the mean belongs to the gradient as well. At $z = 0$ exactly the slope of ReLU is a matter of taste; like PyTorch, take 0.
# `cross_entropy` is there for you; `torch.softmax(s, dim=1)` and `F.one_hot(y, C)` (integers 0 and 1, with $C$ classes) give the first line of the table.

# %% tags=["export"]
def mlp_gradients(
    x: Tensor, y: Tensor, W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of a network with one hidden layer of ReLU units: linear, ReLU, linear,
    mean cross-entropy.

    Args:
        x: B examples of D numbers, (B, D).
        y: their classes, 0 … C−1, (B,), int64.
        W1, b1: the first layer, (D, H) and (H,).
        W2, b2: the second layer, (H, C) and (C,).

    Returns: the mean cross-entropy in nats (a tensor without dimensions), and its gradients {"W1",
        "b1", "W2", "b2"}, each in the shape and dtype of its parameter. The slope of ReLU at 0
        counts as 0. No finite scores give NaN. The inputs are not changed.

    May not call autograd: no backward(), torch.autograd, torch.func, requires_grad_().
    """
    ### BEGIN SOLUTION
    z = x @ W1 + b1  # (B, H)
    h = z.clamp(min=0)
    s = h @ W2 + b2  # (B, C)
    loss = (torch.logsumexp(s, dim=1) - s.gather(1, y[:, None])[:, 0]).mean()

    ds = (torch.softmax(s, dim=1) - F.one_hot(y, s.shape[1])) / len(y)  # (B, C)
    dh = ds @ W2.T  # (B, H)
    dz = dh * (z > 0)
    return loss, {"W1": x.T @ dz, "b1": dz.sum(0), "W2": h.T @ ds, "b2": ds.sum(0)}
    ### END SOLUTION


# %%
@check(
    "mlp_gradients",
    points=5,
    forbid=["torch.autograd.*", "torch.func.*", "functorch.*", "torch.Tensor.backward", "torch.Tensor.requires_grad_"],
)
def _(case):
    def network(B, D, H, C, scale=1.0, dtype=torch.float32):
        W1, W2 = case.normal(D, H, scale=D**-0.5, dtype=dtype), case.normal(H, C, scale=H**-0.5, dtype=dtype)
        b1, b2 = case.normal(H, scale=0.5, dtype=dtype), case.normal(C, scale=0.5, dtype=dtype)
        return case.normal(B, D, scale=scale, dtype=dtype), case.integers(0, C, B), W1, b1, W2, b2

    def by_hand(x, y, W1, b1, W2, b2):
        loss, gradients = mlp_gradients(x, y, W1, b1, W2, b2)
        return {"loss": float(loss), **gradients}

    x, W1, W2 = (torch.tensor(rows, device=case.device) for rows in ([[1.0, 2.0]], [[1.0, -1.0], [1.0, 0.5]], [[1.0, 0.0], [0.5, 2.0]]))
    zero = torch.zeros(2, device=case.device)
    case.call("one example, two hidden units, one of them off", by_hand, x, torch.tensor([1], device=case.device), W1, zero - 0.25, W2, zero)
    loss, _ = mlp_gradients(x, torch.tensor([1], device=case.device), W1, zero - 0.25, W2, zero)
    case.record("the loss is a tensor without dimensions", f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}", about="the loss")
    # a gradient is what is left of softmax minus one-hot: where all examples are surely right, or all that counts cancels, it would be rounding alone,
    # hence several classes or examples
    case.call("three examples, everything 3×3", by_hand, *network(3, 3, 3, 3))
    case.call("four examples, every size another", by_hand, *network(4, 3, 5, 6))
    case.call("more classes than examples", by_hand, *network(3, 2, 4, 6))
    case.call("float64 stays float64", by_hand, *network(3, 2, 4, 3, dtype=torch.float64))
    case.call("sixteen examples, eight hidden units", by_hand, *network(16, 4, 8, 3))
    x, y, W1, b1, W2, b2 = network(3, 2, 4, 3)
    x[0], b1 = 0.0, torch.zeros_like(b1)
    case.call("hidden units at exactly 0", by_hand, x, y, W1, b1, W2, b2)
    case.call("very large scores", by_hand, *network(12, 3, 6, 3, scale=300.0))
    ### BEGIN HIDDEN TESTS
    case.call("one hidden unit", by_hand, *network(5, 3, 1, 4))
    case.call("one input number, one example", by_hand, *network(1, 1, 6, 3, scale=0.5))
    case.call("a batch of 64", by_hand, *network(64, 6, 12, 4))
    case.call("ten classes, float64", by_hand, *network(7, 5, 9, 10, dtype=torch.float64))
    x, y, W1, b1, W2, b2 = network(6, 3, 5, 4)
    case.call("every hidden unit off", by_hand, x, y, W1, torch.full_like(b1, -50.0), W2, b2)
    case.call("every hidden unit on", by_hand, x, y, W1, torch.full_like(b1, 10.0), W2, b2)
    case.call("every example of one class", by_hand, x, torch.full_like(y, 2), W1, b1, W2, b2)
    _, first = mlp_gradients(x, y, W1, b1, W2, b2)
    mlp_gradients(x + 1, y, W1, b1, W2, b2)
    case.record("the first result after a second call", first)
    case.call("very large scores, many classes", by_hand, *network(12, 2, 3, 7, scale=300.0))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "mlp_gradients",
    "First get the loss right: four lines, as in the formula. Then walk the table from top to bottom; after each line compare the shape of what you have with the shape of its letter.",
    "The table above the exercise. The last line is the second one with other letters; remember the division by B in the first.",
    "Backwards: probabilities minus one-hot, divided by the number of examples. That times the transposed second matrix is the blame of the hidden units; set it to 0 where the hidden input was not "
    "positive. A weight's gradient is the layer's input, transposed, times the blame of its output; a bias's is that blame added up over the examples.",
)
misconceptions(
    "mlp_gradients",
    mistake(
        "gradient not averaged",
        (" / len(y)", ""),
        says="The gradients are those of the sum of the losses, the batch's size times too large. The loss is a mean, so its gradient has the 1/B as well.",
    ),
    mistake(
        "sums throughout",
        (" / len(y)", ""),
        ("[:, 0]).mean()", "[:, 0]).sum()"),
        says="Loss and gradients are sums over the examples; the mean is wanted, so that the batch's size does not change the size of a step.",
    ),
    mistake("loss not averaged", ("[:, 0]).mean()", "[:, 0]).sum()"), says="The gradients are right, but the loss is the sum over the examples; it is the mean."),
    mistake("loss as a Python number", ("[:, 0]).mean()", "[:, 0]).mean().item()"), says="The loss is a Python number; a tensor without dimensions is wanted, as PyTorch's own losses are."),
    mistake("loss with a dimension", ("[:, 0]).mean()", "[:, 0]).mean(0, keepdim=True)"), says="The loss has the shape (1,); a tensor without dimensions is wanted, shape ()."),
    mistake("divided by the classes", ("len(y)", "s.shape[1]"), says="The gradient is divided by the number of classes; the mean runs over the examples."),
    mistake("biases averaged once more", ("dz.sum(0)", "dz.mean(0)"), ("ds.sum(0)", "ds.mean(0)"), says="The gradients of the biases are averaged over the examples although the 1/B is in already; they are sums of the rows."),
    mistake("biases not added up", ("dz.sum(0)", "dz"), ("ds.sum(0)", "ds"), says="The gradients of the biases still have a row for each example; a bias serves all examples, so their rows are added up."),
    mistake("biases as rows", ("dz.sum(0)", "dz.sum(0, keepdim=True)"), ("ds.sum(0)", "ds.sum(0, keepdim=True)"), says="The gradients of the biases have the shape (1, …); a gradient has the shape of its parameter."),
    mistake(
        "ReLU mask from the gradient",
        ("(z > 0)", "(dh > 0)"),
        says="The ReLU lets gradients pass where the *gradient* is positive; what decides is whether its input z was positive in the forward pass.",
    ),
    mistake("ReLU mask from the scores", ("(z > 0)", "(ds[:, :1] > 0)"), says="The ReLU's mask is taken from the output layer; what decides is the ReLU's own input z."),
    mistake("no ReLU mask", ("dh * (z > 0)", "dh"), says="The gradient passes the ReLU unchanged; where z was not positive, the unit was off and nothing comes back."),
    mistake("no mask on the first weights", ("x.T @ dz", "x.T @ dh"), says="The first layer's weights get the gradient from behind the ReLU, without its mask (the bias does have it)."),
    mistake("no mask on the first bias", ("dz.sum(0)", "dh.sum(0)"), says="The first layer's bias gets the gradient from behind the ReLU, without its mask (the weights do have it)."),
    mistake("mask inverted", ("(z > 0)", "(z < 0)"), says="The gradient passes where the unit was off; it passes where z was positive."),
    mistake("times the activation", ("dh * (z > 0)", "dh * h"), says="The gradient is multiplied by the hidden value; the ReLU's slope is 1 or 0, not the value itself."),
    mistake("open at 0", ("(z > 0)", "(z >= 0)"), says="A hidden unit at exactly 0 lets the gradient pass; like PyTorch, the slope of ReLU at 0 counts as 0."),
    mistake("truth not subtracted", (" - F.one_hot(y, s.shape[1])", ""), says="The gradient of the scores is only the softmax; the truth (1 at the right class) has to be subtracted."),
    mistake("sign", ("(torch.softmax(s, dim=1) - F.one_hot(y, s.shape[1]))", "(F.one_hot(y, s.shape[1]) - torch.softmax(s, dim=1))"), says="All gradients have the wrong sign: it is belief minus truth. With this sign, descent would climb."),
    mistake(
        "softmax differentiated twice",
        ("/ len(y)  # (B, C)", "* torch.softmax(s, dim=1) * (1 - torch.softmax(s, dim=1)) / len(y)  # (B, C)"),
        says="The derivative p(1 − p) is multiplied in once more; softmax and cross-entropy *together* have the derivative p − one-hot.",
    ),
    mistake("second weights from z", ("h.T @ ds", "z.T @ ds"), says="The second layer's gradient is built from z, before the ReLU; the layer's input was h."),
    mistake("first weights from h", ("x.T @ dz", "x.T @ (h * dz)"), says="The first layer's gradient has the hidden values multiplied in; a weight's gradient is the layer's input, transposed, times the gradient of its output."),
    mistake("gradients transposed", ("x.T @ dz", "dz.T @ x"), ("h.T @ ds", "ds.T @ h"), says="The gradients of the matrices are transposed; a gradient has the shape of its parameter."),
    mistake("first bias forgotten", ("x @ W1 + b1", "x @ W1"), says="The first layer's bias is missing from the forward pass."),
    mistake("second bias forgotten", ("h @ W2 + b2", "h @ W2"), says="The second layer's bias is missing from the forward pass."),
    mistake("no ReLU", ("z.clamp(min=0)", "z"), ("dh * (z > 0)", "dh"), says="There is no ReLU between the layers, so the network is a single linear layer."),
    mistake("no ReLU forward", ("z.clamp(min=0)", "z"), says="The forward pass has no ReLU (the backward pass has its mask): h = max(0, z)."),
    mistake("tanh", ("z.clamp(min=0)", "torch.tanh(z)"), ("(z > 0)", "(1 - h * h)"), says="The hidden layer uses tanh; ReLU is asked for."),
    mistake("ReLU on the scores", ("h @ W2 + b2", "(h @ W2 + b2).clamp(min=0)"), says="The scores go through a ReLU as well; only the hidden layer does."),
    mistake(
        "exponentials overflow",
        ("torch.logsumexp(s, dim=1)", "s.exp().sum(1).log()"),
        ("torch.softmax(s, dim=1)", "s.exp() / s.exp().sum(1, keepdim=True)"),
        says="Large scores overflow in the exponential and the result is NaN or infinite; take the maximum out first (torch.logsumexp and torch.softmax do).",
    ),
    mistake(
        "the weights are updated",
        ("    return loss, {", "    W2.sub_(h.T @ ds)\n    return loss, {"),
        says="The function already changes the parameters in place; it should only say what the gradients are.",
    ),
    mistake("gradients first", ("return loss, {\"W1\": x.T @ dz, \"b1\": dz.sum(0), \"W2\": h.T @ ds, \"b2\": ds.sum(0)}", "return {\"W1\": x.T @ dz, \"b1\": dz.sum(0), \"W2\": h.T @ ds, \"b2\": ds.sum(0)}, loss"), says="The two results are in the wrong order: the loss comes first, then the gradients."),
    mistake("everything becomes float32", ("x @ W1 + b1", "x.float() @ W1.float() + b1.float()"), ("h @ W2 + b2", "h @ W2.float() + b2.float()"), ("ds @ W2.T", "ds @ W2.float().T"), ("x.T @ dz", "x.float().T @ dz"), says="The gradients are float32 whatever came in; a gradient has the dtype of its parameter."),
)


# %% tags=["alternative"]
@alternative("F.cross_entropy for the loss, indexing for the truth")
def mlp_gradients(x, y, W1, b1, W2, b2):
    n = x.size(0)
    hidden = torch.relu(x.mm(W1) + b1)
    scores = hidden.mm(W2) + b2
    loss = F.cross_entropy(scores, y)
    d = F.softmax(scores, -1)
    d[torch.arange(n), y] -= 1
    d /= n
    back = d.mm(W2.t())
    back[hidden <= 0] = 0
    return loss, dict(W1=x.t().mm(back), b1=back.sum(dim=0), W2=hidden.t().mm(d), b2=d.sum(dim=0))


# %% tags=["alternative"]
@alternative("einsum, log-softmax")
def mlp_gradients(x, y, W1, b1, W2, b2):
    z = torch.einsum("bd,dh->bh", x, W1) + b1
    h = torch.where(z > 0, z, torch.zeros_like(z))
    log_p = torch.log_softmax(torch.einsum("bh,hc->bc", h, W2) + b2, dim=-1)
    truth = torch.eye(W2.shape[1], dtype=x.dtype)[y]
    ds = (log_p.exp() - truth) / x.shape[0]
    dz = torch.einsum("bc,hc->bh", ds, W2) * torch.sign(h)
    return -(truth * log_p).sum(-1).mean(), {
        "b2": torch.einsum("bc->c", ds),
        "W2": torch.einsum("bh,bc->hc", h, ds),
        "b1": torch.einsum("bh->h", dz),
        "W1": torch.einsum("bd,bh->dh", x, dz),
    }


# %% tags=["alternative"]
@alternative("example by example")
def mlp_gradients(x, y, W1, b1, W2, b2):
    total, grads = 0.0, {"W1": torch.zeros_like(W1), "b1": torch.zeros_like(b1), "W2": torch.zeros_like(W2), "b2": torch.zeros_like(b2)}
    for row, label in zip(x, y):
        z = row @ W1 + b1
        h = F.relu(z)
        s = h @ W2 + b2
        total = total + torch.logsumexp(s, 0) - s[label]
        blame = torch.softmax(s, 0)
        blame[label] -= 1.0
        blame_z = (W2 @ blame) * (z > 0).to(z.dtype)
        grads["W2"] += torch.outer(h, blame)
        grads["b2"] += blame
        grads["W1"] += torch.outer(row, blame_z)
        grads["b1"] += blame_z
    return total / len(y), {name: g / len(y) for name, g in grads.items()}


# %% tags=["alternative"]
@alternative("the mean taken last, float64 inside")
def mlp_gradients(x, y, W1, b1, W2, b2):
    kind = W1.dtype
    x, W1, b1, W2, b2 = (t.double() for t in (x, W1, b1, W2, b2))
    a = x @ W1
    a = a + b1
    h = torch.maximum(a, torch.zeros(1, dtype=a.dtype))
    out = torch.addmm(b2, h, W2)
    top = out - out.max(dim=1, keepdim=True).values
    p = top.exp() / top.exp().sum(dim=1, keepdim=True)
    loss = (top.exp().sum(1).log() - top[range(len(y)), y]).mean()
    d_out = p - F.one_hot(y, num_classes=p.shape[-1])
    d_a = d_out @ W2.T * (a > 0)
    grads = {"W1": (d_a.T @ x).T, "b1": d_a.sum(0), "W2": (d_out.T @ h).T, "b2": d_out.sum(0)}
    return loss.to(kind), {k: (g / len(y)).to(kind) for k, g in grads.items()}


# %% tags=["misconceptions"]
equivalents(
    "mlp_gradients",
    {
        "index: `loss = (torch.logsumexp(s, dim=1) - s.gather(1, y[:, None])[:, 0]).mean()` → `loss = (torch.logsumexp(s, dim=1) - s.gather(1, y[:, None])).mean()`":
            "(B,) minus (B, 1) holds every pair; its mean is still the mean of the one minus the mean of the other",
        "variable: `ds = (torch.softmax(s, dim=1) - F.one_hot(y, s.shape[1])) / len(y)` → `ds = (torch.softmax(s, dim=1) - F.one_hot(y, s.shape[1])) / len(x)`":
            "there are as many examples as targets",
    },
)

# %% [markdown]
# ### Try it: three ways to the same gradient
#
# Your function, PyTorch's **autograd** (which records what happens in the forward pass and does for any program what you just did for one) and the definition: turn one parameter up and down by a little and
# look at the loss (a *numerical* gradient; two runs of the network for every single parameter).

# %% tags=["picture"]
generator = torch.Generator().manual_seed(SEED)
draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
x, y = draw(8, 3), torch.randint(3, (8,), generator=generator)
parameters = {"W1": draw(3, 4), "b1": draw(4), "W2": draw(4, 3), "b2": draw(3)}
_, mine = mlp_gradients(x, y, **parameters)

leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}  # requires_grad: "I want this one's gradient"
loss = F.cross_entropy(torch.relu(x @ leaves["W1"] + leaves["b1"]) @ leaves["W2"] + leaves["b2"], y)
loss.backward()  # fills .grad of every leaf

step = 1e-6
for name, value in parameters.items():
    numerical = torch.zeros_like(value)
    for i in range(value.numel()):
        losses = []
        for sign in (1, -1):
            moved = {key: other.clone() for key, other in parameters.items()}
            moved[name].view(-1)[i] += sign * step
            losses.append(float(mlp_gradients(x, y, **moved)[0]))
        numerical.view(-1)[i] = (losses[0] - losses[1]) / (2 * step)
    autograd, difference = leaves[name].grad, lambda other: f"{(mine[name] - other).abs().max():.0e}"
    print(f"{name}: {tuple(value.shape)!s:7} largest difference to autograd {difference(autograd)}, to the numerical gradient {difference(numerical)}")

# %% [markdown]
# **What to see.** To autograd the difference is rounding ($10^{-16}$ or less, in double precision). The numerical gradient agrees to many digits but not exactly, since its step is not infinitely small.
# From here on we let autograd do it: `loss.backward()`. Two habits of it to remember: it **adds** to `.grad` rather than replacing it, and it only knows what was computed with tensors that require gradients.

# %% [markdown]
# ## Stepping better: momentum
#
# Plain gradient descent zigzags where the loss is a narrow valley: steep across, shallow along. **Momentum** keeps a running sum of gradients, the *velocity*, and steps along that. Across the valley gradients
# alternate in sign and cancel; along it they agree and add up.
#
# $$v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v$$
#
# $g$ is the gradient, $p$ the parameter and $v$ the velocity. $\mu$ (`momentum`) is usually 0.9: an old gradient counts 10 % less with each step.
#
# ## Exercise 2 · `sgd_momentum_step`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# "SGD" is *stochastic* gradient descent: the gradient comes from a random batch rather than from all data. This is `torch.optim.SGD`'s convention: the whole gradient goes into the velocity, and the learning rate acts
# on the velocity, at the end.

# %% tags=["export"]
def sgd_momentum_step(
    param: Tensor, grad: Tensor, velocity: Tensor, lr: float, momentum: float,
) -> tuple[Tensor, Tensor]:
    """One step of gradient descent with momentum: v ← μv + g, then p ← p − lr·v.

    Args:
        param, grad, velocity: tensors of one shape; the velocity is 0 before the first step.
        lr: learning rate.
        momentum: μ, from 0 (plain gradient descent) to below 1.

    Returns: the new parameter and the new velocity, as new tensors in the dtype of the inputs. The
        inputs are not changed.

    May not call torch.optim.
    """
    ### BEGIN SOLUTION
    new_velocity = momentum * velocity + grad
    return param - lr * new_velocity, new_velocity
    ### END SOLUTION


# %%
@check("sgd_momentum_step", points=2, forbid=["torch.optim.*"])
def _(case):
    def step(name, *shape, lr, momentum, dtype=torch.float32):
        state = [case.normal(*shape, dtype=dtype) for _ in range(3)]
        case.call(name, sgd_momentum_step, *state, lr=lr, momentum=momentum, labels=("param", "velocity"))

    def steps(param, lr, momentum, count):
        velocity = torch.zeros_like(param)
        for _ in range(count):
            param, velocity = sgd_momentum_step(param, 2 * param + 1, velocity, lr, momentum)
        return param, velocity

    def cleared(param, grad, velocity, lr, momentum):  # what a training does before the next batch
        grad = grad.clone()
        after = sgd_momentum_step(param, grad, velocity, lr, momentum)
        grad.zero_()
        return after

    param, grad = case.normal(2), case.normal(2)
    case.call("the first step, from rest", sgd_momentum_step, param, grad, torch.zeros_like(param), lr=0.5, momentum=0.9, labels=("param", "velocity"))
    case.call("the first step, then the gradient is cleared", cleared, param, grad, torch.zeros_like(param), lr=0.5, momentum=0.9, labels=("param", "velocity"))
    step("a step in motion", 3, lr=0.5, momentum=0.9)
    step("no momentum", 3, lr=0.3, momentum=0.0)
    case.call("no momentum, then the gradient is cleared", cleared, param, grad, grad + 1, lr=0.3, momentum=0.0, labels=("param", "velocity"))
    step("a matrix", 2, 3, lr=0.2, momentum=0.5)
    step("float64 stays float64", 3, lr=0.1, momentum=0.8, dtype=torch.float64)
    case.call("four steps down a parabola", steps, case.normal(2), 0.1, 0.9, 4, labels=("param", "velocity"))
    ### BEGIN HIDDEN TESTS
    step("a large learning rate", 4, lr=3.0, momentum=0.7)
    step("a single number", 1, lr=0.1, momentum=0.9)
    step("a kernel of four dimensions", 2, 3, 1, 2, lr=0.4, momentum=0.95)
    step("a tiny learning rate, float64", 2, 5, lr=1e-3, momentum=0.99, dtype=torch.float64)
    case.call("ten steps down a parabola", steps, case.normal(3, 2), 0.05, 0.8, 10, labels=("param", "velocity"))
    step("a learning rate of 0: only the velocity changes", 3, lr=0.0, momentum=0.6)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "sgd_momentum_step",
    "Two lines, in the order of the formula. Which velocity does the parameter step along: the old or the new one?",
    "The two arrows above the exercise. The paper itself uses Adam (section 5.3), which starts from the same idea.",
    "Make the new velocity: momentum times the old one, plus the gradient. The new parameter is the old one minus the learning rate times the new velocity. Return both as new tensors.",
)
misconceptions(
    "sgd_momentum_step",
    mistake("steps along the old velocity", ("param - lr * new_velocity", "param - lr * velocity"), says="The parameter steps along the velocity from before this gradient; update the velocity first, then step along the new one."),
    mistake("momentum never used", ("momentum * velocity + grad", "grad"), says="The velocity is only the current gradient; the old velocity, times the momentum, belongs to it."),
    mistake("velocity kept, not used", ("param - lr * new_velocity", "param - lr * grad"), says="The velocity is computed, but the parameter steps along the gradient alone."),
    mistake("gradient weighted by 1 − momentum", ("momentum * velocity + grad", "momentum * velocity + (1 - momentum) * grad"), says="The gradient is weighted by 1 − μ (a running average); in this convention, PyTorch's, all of it goes into the velocity."),
    mistake("learning rate inside the velocity", ("momentum * velocity + grad", "momentum * velocity + lr * grad"), ("lr * new_velocity", "new_velocity"), says="The learning rate is in the velocity already; here it acts on the velocity, so that changing it acts on the whole step."),
    mistake("learning rate twice", ("momentum * velocity + grad", "momentum * velocity + lr * grad"), says="The learning rate acts twice, on the gradient and on the velocity; it belongs to the last step only."),
    mistake("uphill", ("param - lr", "param + lr"), says="The parameter moves along the gradient: uphill. Subtract."),
    mistake("Nesterov", ("lr * new_velocity", "lr * (grad + momentum * new_velocity)"), says="This is Nesterov's variant, which looks one step ahead; the plain one steps along the velocity."),
    mistake("momentum on the gradient", ("momentum * velocity + grad", "velocity + momentum * grad"), says="The momentum weighs the new gradient; it weighs the old velocity, which fades."),
    mistake("momentum on both", ("momentum * velocity + grad", "momentum * (velocity + grad)"), says="The momentum weighs the gradient as well; it weighs the old velocity only."),
    mistake("velocity subtracts the gradient", ("momentum * velocity + grad", "momentum * velocity - grad"), ("param - lr", "param + lr"), says="The velocity has the opposite sign of this convention: add the gradient to it, and subtract it from the parameter."),
    mistake("old velocity returned", ("param - lr * new_velocity, new_velocity", "param - lr * new_velocity, velocity"), says="The old velocity is returned, so the next step starts from it again; return the new one."),
    mistake("only the parameter", ("param - lr * new_velocity, new_velocity", "param - lr * new_velocity"), says="Only the parameter is returned; the new velocity is needed for the next step."),
    mistake("velocity first", ("param - lr * new_velocity, new_velocity", "new_velocity, param - lr * new_velocity"), says="The results are in the wrong order: the parameter first, then the velocity."),
    mistake("velocity changed in place", ("momentum * velocity + grad", "velocity.mul_(momentum).add_(grad)"), says="The caller's velocity is changed in place; return a new tensor."),
    mistake("the gradient itself without momentum", ("momentum * velocity + grad", "momentum * velocity + grad if momentum > 0 else grad"), says="Without momentum the velocity that comes back is the caller's gradient itself. When that is cleared for the next batch, the velocity is 0 as well; return a new tensor."),
    mistake("the gradient itself in the first step", ("momentum * velocity + grad", "momentum * velocity + grad if velocity.any() else grad"), says="In the first step the velocity that comes back is the caller's gradient itself. When that is cleared for the next batch, the velocity is 0 as well; return a new tensor."),
    mistake("parameter changed in place", ("return param - lr * new_velocity, new_velocity", "return param.sub_(lr * new_velocity), new_velocity"), says="The caller's parameter is changed in place; return a new tensor."),
    mistake("everything becomes float32", ("momentum * velocity + grad", "(momentum * velocity + grad).float()"), ("return param - lr", "return param.float() - lr"), says="The result is float32 whatever came in; the dtype of the inputs has to be kept."),
)


# %% tags=["alternative"]
@alternative("copies, then in place")
def sgd_momentum_step(param, grad, velocity, lr, momentum):
    v = velocity.clone().mul_(momentum).add_(grad)
    return param.clone().sub_(v, alpha=lr), v


# %% tags=["alternative"]
@alternative("torch.add with alpha")
def sgd_momentum_step(p, g, v, lr, momentum):
    v = torch.add(g, v, alpha=momentum)
    return torch.add(p, v, alpha=-lr), v


# %% tags=["alternative"]
@alternative("without gradients being recorded, as a list")
def sgd_momentum_step(param, grad, velocity, lr, momentum):
    with torch.no_grad():
        velocity = velocity * momentum
        velocity = velocity + grad
        step = velocity * lr
    return [param - step, velocity]


# %% tags=["alternative"]
@alternative("lerp-like: float64 inside")
def sgd_momentum_step(param, grad, velocity, lr, momentum):
    v = momentum * velocity.double() + grad.double()
    return (param.double() - lr * v).to(param.dtype), v.to(param.dtype)


# %% tags=["misconceptions"]
equivalents(
    "sgd_momentum_step",
    {
        "detach added: `return param - lr * new_velocity, new_velocity` → `return (param - lr * new_velocity).detach(), new_velocity`":
            "nobody differentiates through a step of the optimiser; torch's own does not allow it",
    },
)

# %% [markdown]
# ## Adam: a step size for every parameter
#
# Gradients of different parameters can differ a thousandfold in size. **Adam** divides each parameter's step by the recent size of its own gradients, so every parameter moves at about the rate `lr`.
# It keeps two running averages, $m$ of the gradients and $v$ of their squares:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\,g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\,g^2$$
#
# The numbers $\beta_1$ and $\beta_2$ (`betas`), just below 1, say how much of the old average is kept in each step; this $v$ is another than the velocity above, and $g^2$ is taken number by number. Both averages start at 0, so at first they are too small: after $t$ steps the weights of all gradients add up to $1-\beta^t$ rather than 1. Dividing by that is the **bias correction**:
#
# $$\hat m = \frac{m}{1-\beta_1^{\,t}}, \qquad \hat v = \frac{v}{1-\beta_2^{\,t}}, \qquad p \leftarrow p - \eta\,\frac{\hat m}{\sqrt{\hat v} + \epsilon}$$
#
# In the first step $\hat m = g$ and $\sqrt{\hat v} = |g|$, so every parameter moves by `lr`, whatever its gradient's size. $\epsilon$ only keeps a division by 0 away.
#
# ## Exercise 3 · `adam_step`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# | | the paper says (section 5.3) | this code does | why |
# | --- | --- | --- | --- |
# | $\beta_1, \beta_2$ | 0.9 and 0.98 | 0.9 and 0.999 unless told otherwise | the defaults of `torch.optim.Adam`, so you can compare |
# | $\epsilon$ | $10^{-9}$ | $10^{-8}$ unless told otherwise | the same |
# | learning rate | changes with the step | an argument | the schedule is week 3's `noam_rate` |

# %% tags=["export"]
def adam_step(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    t: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Adam, as torch.optim.Adam does it.

    Args:
        param, grad: tensors of one shape.
        m, v: the running averages of the gradient and of its square, not bias-corrected; 0 before
            the first step.
        t: the number of this step, from 1.
        lr, betas, eps: learning rate, decay of the two averages, and what keeps the denominator
            from 0 (added outside the root).

    Returns: the new parameter, m and v (not bias-corrected), as new tensors in the dtype of the
        inputs. The inputs are not changed.

    May not call torch.optim.
    """
    ### BEGIN SOLUTION
    beta1, beta2 = betas
    new_m = beta1 * m + (1 - beta1) * grad
    new_v = beta2 * v + (1 - beta2) * grad**2
    m_hat = new_m / (1 - beta1**t)
    v_hat = new_v / (1 - beta2**t)
    return param - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v
    ### END SOLUTION


# %%
@check("adam_step", points=4, forbid=["torch.optim.*"], paper="section 5.3")
def _(case):
    labels = ("param", "m", "v")

    def state(*shape, dtype=torch.float32):
        return [case.normal(*shape, dtype=dtype) for _ in range(3)] + [case.uniform(*shape, low=0.1, high=2.0, dtype=dtype)]

    def steps(param, count, **options):
        m, v = torch.zeros_like(param), torch.zeros_like(param)
        for t in range(1, count + 1):
            param, m, v = adam_step(param, 2 * param + 1, m, v, t, **options)
        return param, m, v

    param, grad = case.normal(2), case.normal(2)
    zero = torch.zeros_like(param)
    case.call("the first step, lr 0.5", adam_step, param, grad, zero, zero.clone(), 1, lr=0.5, labels=labels)
    case.call("the third step", adam_step, *state(2), 3, lr=0.5, labels=labels)
    case.call("defaults, small parameters", adam_step, case.normal(3, scale=1e-3), *state(3)[1:], 2, labels=labels)
    tiny = torch.tensor([1e-8, -2e-8, 3e-8], device=case.device)
    case.call("defaults, gradients as small as eps", adam_step, 1e5 * tiny, tiny, torch.zeros_like(tiny), torch.zeros_like(tiny), 1, labels=labels)
    case.call("a large eps, step 2000", adam_step, *state(4), 2000, lr=0.5, eps=0.8, labels=labels)
    case.call("other betas", adam_step, *state(3), 2, lr=0.5, betas=(0.5, 0.8), labels=labels)
    case.call("a matrix", adam_step, *state(2, 3), 10, lr=0.2, labels=labels)
    case.call("float64 stays float64", adam_step, *state(3, dtype=torch.float64), 4, lr=0.1, labels=labels)
    case.call("a gradient that has always been 0", adam_step, param, zero, zero.clone(), zero.clone(), 1, lr=0.5, labels=labels)
    case.call("a gradient of 0 in motion", adam_step, param, zero, *state(2)[2:], 3, lr=0.5, labels=labels)
    case.call("four steps down a parabola", steps, case.normal(2), 4, lr=0.3, labels=labels)
    ### BEGIN HIDDEN TESTS
    case.call("step 1000", adam_step, *state(4), 1000, lr=0.5, labels=labels)
    case.call("the paper's betas and eps", adam_step, *state(3), 7, lr=0.4, betas=(0.9, 0.98), eps=1e-9, labels=labels)
    case.call("tiny gradients beside eps", adam_step, *(x * scale for x, scale in zip(state(3), (1.0, 1e-4, 1e-4, 1e-8))), 6, lr=0.5, eps=1e-4, labels=labels)
    case.call("a single number", adam_step, *state(1), 2, lr=0.7, labels=labels)
    param, _, m, v = state(3)
    grad = torch.tensor([-0.3, 1.2, 0.6], device=case.device) * case.uniform(3, low=0.5, high=1.5)  # β = 0: what is small beside m and v is lost to rounding
    case.call("hardly any averaging: betas of 0.001", adam_step, param, grad, m, v, 3, lr=0.5, betas=(1e-3, 1e-3), labels=labels)
    case.call("twenty steps down a parabola", steps, case.normal(3, 2, dtype=torch.float64), 20, lr=0.1, betas=(0.8, 0.95), eps=1e-3, labels=labels)
    param, grad, m, v = state(4)
    case.call("all arguments in order", adam_step, param, grad, m, v, 2, 0.2, (0.7, 0.9), 0.01, labels=labels)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "adam_step",
    "Five lines, one for each formula. Which of the two m, the running average or the corrected one, does the next step have to start from?",
    "Section 5.3 of the paper names Adam and its constants; the formulae stand above the exercise. Mind what the root covers: ε stands outside it.",
    "Update both averages. Make corrected copies, divided by one minus beta to the power of t, each with its own beta. Step by the learning rate times the corrected m over (root of the corrected v, plus ε). "
    "Return the parameter and the uncorrected averages.",
)
misconceptions(
    "adam_step",
    mistake("no bias correction", (" / (1 - beta1**t)", ""), (" / (1 - beta2**t)", ""), says="The averages are used as they are. They start at 0 and are too small in the first steps: divide them by 1 − β^t."),
    mistake("m not corrected", (" / (1 - beta1**t)", ""), says="Only v is bias-corrected; m starts at 0 as well and needs its own, with β₁."),
    mistake("v not corrected", (" / (1 - beta2**t)", ""), says="Only m is bias-corrected; v starts at 0 as well and needs its own, with β₂."),
    mistake("both corrected with β₁", ("1 - beta2**t", "1 - beta1**t"), says="v is corrected with β₁; its own decay is β₂."),
    mistake("correction without the power", ("1 - beta1**t", "1 - beta1"), ("1 - beta2**t", "1 - beta2"), says="The correction is that of the first step for ever, 1 − β; it is 1 − β to the power of t."),
    mistake("β times t", ("beta1**t", "beta1 * t"), ("beta2**t", "beta2 * t"), says="β is multiplied by t; it is raised to the power of t."),
    mistake("t counted from 0", ("beta1**t", "beta1 ** (t + 1)"), ("beta2**t", "beta2 ** (t + 1)"), says="The power is t + 1; t itself counts from 1."),
    mistake("t − 1", ("beta1**t", "beta1 ** (t - 1)"), ("beta2**t", "beta2 ** (t - 1)"), says="The power is t − 1, which divides by 0 in the first step; t counts from 1."),
    mistake("eps inside the root", ("v_hat.sqrt() + eps", "(v_hat + eps).sqrt()"), says="ε is inside the root; it is added to the root, so that it acts only where the gradient is that small."),
    mistake("eps inside and outside", ("v_hat.sqrt() + eps", "(v_hat + eps).sqrt() + eps"), says="ε is added inside the root as well; it belongs outside only."),
    mistake("no eps", ("v_hat.sqrt() + eps", "v_hat.sqrt()"), says="ε is missing, so a parameter whose gradient has always been 0 becomes 0/0 = NaN."),
    mistake("eps before the correction", ("v_hat.sqrt() + eps", "(new_v.sqrt() + eps) / (1 - beta2**t) ** 0.5"), says="ε is added to the root of the uncorrected v, so the correction scales ε as well; torch.optim.Adam adds it after the correction."),
    mistake("eps is always 1e−8", ("v_hat.sqrt() + eps", "v_hat.sqrt() + 1e-8"), says="ε is 1e−8 whatever is asked for; use the argument."),
    mistake("default eps of 1e−9", ("eps: float = 1e-8", "eps: float = 1e-9"), says="ε is 1e−9 by default, as in the paper; here it is 1e−8 unless told otherwise, torch.optim.Adam's."),
    mistake("the larger of root and eps", ("v_hat.sqrt() + eps", "v_hat.sqrt().clamp(min=eps)"), says="The root is limited from below by ε; ε is added to it."),
    mistake("no root", ("v_hat.sqrt()", "v_hat"), says="The step is divided by v itself, a squared gradient; its root is wanted."),
    mistake("gradient not squared", ("grad**2", "grad.abs()"), says="v averages the gradients' sizes; it averages their squares."),
    mistake("square of m", ("grad**2", "new_m**2"), says="v averages the square of m; it averages the square of the gradient itself."),
    mistake("variance instead of square", ("grad**2", "(grad - new_m) ** 2"), says="v averages the squared distance of the gradient to m; it averages the square of the gradient itself."),
    mistake("betas exchanged", ("beta1, beta2 = betas", "beta2, beta1 = betas"), says="β₁ and β₂ are exchanged: the first is for m, the second for v."),
    mistake("betas fixed", ("beta1, beta2 = betas", "beta1, beta2 = 0.9, 0.999"), says="The betas are 0.9 and 0.999 whatever is asked for; use the argument."),
    mistake("learning rate fixed", ("lr * m_hat", "1e-3 * m_hat"), says="The learning rate is 0.001 whatever is asked for; use the argument."),
    mistake("m without its weight", ("(1 - beta1) * grad\n", "grad\n"), says="All of the gradient is added to m; in a running average its weight is 1 − β₁."),
    mistake("v as a sum", ("beta2 * v + (1 - beta2) * grad**2", "v + grad**2"), says="v adds up all squares (that is Adagrad); in Adam it is a running average that forgets."),
    mistake("gradient instead of m", ("lr * m_hat", "lr * grad"), says="The step goes along the current gradient (that is RMSProp); Adam steps along the corrected average of gradients."),
    mistake("uphill", ("param - lr", "param + lr"), says="The parameter moves uphill. Subtract the step."),
    mistake("no step where the gradient is 0", ("return param - lr * m_hat / (v_hat.sqrt() + eps)", "return torch.where(grad == 0, param, param - lr * m_hat / (v_hat.sqrt() + eps))"), says="A parameter whose gradient is 0 stays where it is; Adam steps along m, which still holds earlier gradients."),
    mistake("corrected averages returned", (", new_m, new_v\n", ", m_hat, v_hat\n"), says="The bias-corrected averages are returned; the next step would correct them once more. Return the plain ones."),
    mistake("old averages returned", (", new_m, new_v\n", ", m, v\n"), says="The old averages are returned, so the next step starts from them again; return the new ones."),
    mistake("m and v exchanged", (", new_m, new_v\n", ", new_v, new_m\n"), says="The results are in the wrong order: parameter, m, v."),
    mistake("only the parameter", (" + eps), new_m, new_v\n", " + eps)\n"), says="Only the parameter is returned; the new m and v are needed for the next step."),
    mistake("averages changed in place", ("new_m = beta1 * m + (1 - beta1) * grad", "new_m = m.mul_(beta1).add_((1 - beta1) * grad)"), ("new_v = beta2 * v + (1 - beta2) * grad**2", "new_v = v.mul_(beta2).add_((1 - beta2) * grad**2)"), says="The caller's averages are changed in place; return new tensors."),
    mistake("parameter changed in place", ("return param - lr * m_hat / (v_hat.sqrt() + eps)", "return param.sub_(lr * m_hat / (v_hat.sqrt() + eps))"), says="The caller's parameter is changed in place; return a new tensor."),
    mistake("everything becomes float32", ("new_m = beta1 * m", "param, grad, m, v = param.float(), grad.float(), m.float(), v.float()\n    new_m = beta1 * m"), says="The result is float32 whatever came in; the dtype of the inputs has to be kept."),
)


# %% tags=["alternative"]
@alternative("as torch.optim writes it: lerp, addcmul, addcdiv on copies")
def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    m = m.clone().lerp_(grad, 1 - betas[0])
    v = v.clone().mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    denominator = (v.sqrt() / (1 - betas[1] ** t) ** 0.5).add_(eps)
    return param.clone().addcdiv_(m, denominator, value=-lr / (1 - betas[0] ** t)), m, v


# %% tags=["alternative"]
@alternative("float64 inside, torch.sqrt, torch.square")
def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    b1, b2 = betas
    g = grad.double()
    m1 = b1 * m.double() + (1 - b1) * g
    v1 = b2 * v.double() + (1 - b2) * torch.square(g)
    p = param.double() - lr * (m1 / (1 - b1**t)) / (torch.sqrt(v1 / (1 - b2**t)) + eps)
    return p.to(param.dtype), m1.to(param.dtype), v1.to(param.dtype)


# %% tags=["alternative"]
@alternative("the averages as corrections of the old value")
def adam_step(p, g, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    m = m + (1.0 - betas[0]) * (g - m)
    v = v + (1.0 - betas[1]) * (g * g - v)
    corrected = [x / (1.0 - b**t) for x, b in zip((m, v), betas)]
    return p - lr * corrected[0] / (corrected[1] ** 0.5 + eps), m, v


# %% tags=["alternative"]
@alternative("the correction moved into the learning rate, ε scaled to match")
def adam_step(param, grad, m, v, t, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
    (b1, b2), root = betas, math.sqrt(1 - betas[1] ** t)
    m = m * b1 + grad * (1 - b1)
    v = v * b2 + grad.pow(2) * (1 - b2)
    rate = lr * root / (1 - b1**t)
    return param - rate * m.div(v.sqrt() + eps * root), m, v


# %% tags=["misconceptions"]
equivalents(
    "adam_step",
    {
        "detach added: `return param - lr * m_hat / (v_hat.sqrt() + eps), new_m, new_v` → `return (param - lr * m_hat / (v_hat.sqrt() + eps)).detach(), new_m, new_v`":
            "nobody differentiates through a step of the optimiser; torch's own does not allow it",
    },
)

# %% [markdown]
# ### Try it: three walks down one valley
#
# The loss is $\tfrac12(x^2 + 100\,y^2)$, a hundred times steeper in one direction than in the other. All three start at the same point; your functions do the walking.

# %% tags=["picture"]
slope = lambda p: p * torch.tensor([1.0, 100.0])
height = lambda p: 0.5 * (p**2 * torch.tensor([1.0, 100.0])).sum(-1)
start, count = torch.tensor([-4.0, 0.6]), 100
walks = {"SGD, lr 0.018": [start], "SGD with momentum 0.9, lr 0.02": [start], "Adam, lr 0.2": [start]}
plain, heavy = torch.zeros(2), torch.zeros(2)
m, v = torch.zeros(2), torch.zeros(2)
for t in range(1, count + 1):
    one, two, three = (path[-1] for path in walks.values())
    one, plain = sgd_momentum_step(one, slope(one), plain, lr=0.018, momentum=0.0)
    two, heavy = sgd_momentum_step(two, slope(two), heavy, lr=0.02, momentum=0.9)
    three, m, v = adam_step(three, slope(three), m, v, t, lr=0.2)
    for path, place in zip(walks.values(), (one, two, three)):
        path.append(place)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", width_ratios=[3, 2])
a, b = torch.meshgrid(torch.linspace(-4.6, 2.6, 200), torch.linspace(-0.8, 0.8, 200), indexing="xy")
left.contour(a, b, height(torch.stack([a, b], -1)), levels=[0.1, 0.5, 2, 5, 10, 20, 30], colors=GREY, linewidths=0.7)
for (name, path), colour, marker in zip(walks.items(), (ORANGE, BLUE, GREEN), "os^"):
    points = torch.stack(path)
    left.plot(points[:, 0], points[:, 1], marker + "-", color=colour, markersize=3, linewidth=1, label=name)
    right.plot(height(points), color=colour, label=name)
left.plot(0, 0, "*", color="black", markersize=12)
left.set(title="paths in the valley (★ is the lowest point)", xlabel="$x$", ylabel="$y$")
left.legend(frameon=False, fontsize=8, loc="upper right")
right.set(yscale="log", ylim=(1e-6, 40), title="height after each step", xlabel="step", ylabel="loss")
right.grid(alpha=0.3)
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Plain SGD zigzags across the valley (from a learning rate of 0.02 on it would fly out of it) and creeps along it. Momentum swings, but its steps along the valley add up, and
# after a hundred steps it is far lower.
# Adam's first steps are equally long in both directions, $x$ and $y$, although one gradient is much larger than the other: it walks diagonally. Near the bottom it still moves by about `lr`, which is why learning rates are lowered towards the end of a training.

# %% [markdown]
# ## The training loop
#
# In PyTorch a network is an `nn.Module`: it holds its parameters and computes when called, `model(inputs)`. `nn.Linear(2, 16)` is a linear layer from 2 numbers to 16, `nn.Sequential(a, b, c)` does one after the other. An optimiser object from `torch.optim` holds the parameters and does your exercise 2 or 3 for each. One **update** is four lines:
#
# ```
# loss = loss_fn(model(inputs), targets)     forward
# optimizer.zero_grad()                      forget the last gradients: backward() adds to them
# loss.backward()                            backward: fill .grad
# optimizer.step()                           move the parameters
# ```
#
# `loss.item()` is the loss as a Python number. One pass through all batches is an **epoch**. And there is a switch: some layers behave differently while training (dropout puts random numbers to 0; batch normalisation uses the mean and deviation of
# the batch at hand). `model.train()` switches training mode on, `model.eval()` off.
#
# ## Exercise 4 · `train`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# The task: two moons, interlocked, that no straight line can separate. The check trains tiny models for a few steps and compares every parameter, then asks for a network that really separates the moons.

# %%
def two_moons(angle: Tensor, label: Tensor, noise: Tensor) -> Tensor:
    """Points (N, 2) on one of two half circles: `angle` from 0 to π says where on it, `label` (0 or 1) on which, and `noise` (N, 2) is added."""
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    return torch.where(label[:, None] == 0, upper, lower) + noise


# %% tags=["export"]
def train(
    model: nn.Module, batches, loss_fn, optimizer: torch.optim.Optimizer, epochs: int = 1,
) -> list[float]:
    """Train a model: one update of its parameters for each batch, in the given order, `epochs` times over.

    Args:
        model: called as model(inputs).
        batches: a list (or anything that can be gone through repeatedly) of (inputs, targets).
        loss_fn: called as loss_fn(outputs, targets); gives a tensor without dimensions, to be made small.
        optimizer: holds the parameters to be trained; its gradients may be cleared.
        epochs: how often to go through the batches.

    Each update uses the gradient of its own batch alone. The model trains in training mode,
    whatever mode it comes in, and is handed back in evaluation mode.

    Returns: the loss of every batch as it was before its update, in order, as Python floats: epochs
        × number of batches.
    """
    ### BEGIN SOLUTION
    model.train()
    losses = []
    for _ in range(epochs):
        for inputs, targets in batches:
            loss = loss_fn(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    return losses
    ### END SOLUTION


# %%
@check("train", points=4)
def _(case):
    def squared(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def lopsided(outputs, targets):  # other than `squared` not symmetrical: a mix-up shows
        return torch.exp((outputs - targets).clamp(max=3.0)).mean()

    def numbers(losses):
        return [loss.item() if isinstance(loss, Tensor) else loss for loss in losses]

    def result(name, model, losses):
        state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
        case.record(f"{name}: parameters afterwards", state)
        case.record(f"{name}: the losses", torch.as_tensor(numbers(losses), dtype=torch.float64), tol=1e-4, about="losses")

    def regression(count, rows, D=2, C=1):
        return [(case.normal(rows, D), case.normal(rows, C)) for _ in range(count)]

    model = case.initialise(nn.Linear(2, 1))
    result("one update", model, train(model, regression(1, 3), squared, torch.optim.SGD(model.parameters(), lr=0.1)))
    model = case.initialise(nn.Linear(2, 1))
    losses = train(model, regression(3, 4), squared, torch.optim.SGD(model.parameters(), lr=0.1))
    result("three batches", model, losses)
    case.record("losses are Python floats", all(isinstance(loss, float) for loss in losses), about="all losses are floats:")
    model = case.initialise(nn.Linear(3, 2))
    result("two epochs of two batches", model, train(model, regression(2, 4, 3, 2), squared, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), epochs=2))
    model = case.initialise(nn.Linear(2, 1))
    result("a loss that is not symmetrical", model, train(model, regression(2, 4), lopsided, torch.optim.SGD(model.parameters(), lr=0.2)))
    model = case.initialise(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 1)))
    model.eval()
    result("a model that comes in evaluation mode", model, train(model, regression(2, 5), squared, torch.optim.SGD(model.parameters(), lr=0.1), epochs=2))
    case.record("the model is handed back in evaluation mode", not any(module.training for module in model.modules()), about="in evaluation mode, with all its layers:")
    model = case.initialise(nn.Linear(2, 1)).train()
    result("in training mode before", model, train(model, regression(2, 3), squared, torch.optim.SGD(model.parameters(), lr=0.1)))
    case.record("a model that comes in training mode is handed back in evaluation mode", not model.training, about="in evaluation mode:")

    def moons(count):
        y = case.integers(0, 2, count)
        return two_moons(case.uniform(count, high=math.pi), y, case.normal(count, 2, scale=0.12)), y

    x, y = moons(320)
    model = case.initialise(nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2)))
    losses = train(model, list(zip(x.split(32), y.split(32))), cross_entropy, torch.optim.Adam(model.parameters(), lr=0.05), epochs=15)
    x, y = moons(500)
    case.record("two moons: share of new points on the right side", float((model(x).argmax(1) == y).double().mean()), at_least=0.96, about="accuracy")
    case.record("two moons: last loss against the first", numbers(losses)[-1] / numbers(losses)[0], at_most=0.5, about="ratio")
    ### BEGIN HIDDEN TESTS
    model = case.initialise(nn.Linear(4, 3))
    batches = [(case.normal(5, 4), case.integers(0, 3, 5)) for _ in range(4)]
    result("Adam, cross-entropy, three epochs", model, train(model, batches, cross_entropy, torch.optim.Adam(model.parameters(), lr=0.1), epochs=3))
    model = case.initialise(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    result("an optimiser that holds the last layer only", model, train(model, regression(3, 4), squared, torch.optim.SGD(model[2].parameters(), lr=0.3), epochs=2))
    model = case.initialise(nn.Linear(2, 2))
    result("batches of different sizes, in a tuple", model, train(model, (*regression(1, 5, 2, 2), *regression(2, 1, 2, 2)), squared, torch.optim.SGD(model.parameters(), lr=0.2, weight_decay=0.1), epochs=3))
    model = case.initialise(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    data = torch.utils.data.TensorDataset(case.normal(12, 3), case.normal(12, 2))
    result("batches from a DataLoader", model, train(model, torch.utils.data.DataLoader(data, batch_size=4), squared, torch.optim.SGD(model.parameters(), lr=0.1), epochs=2))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
FOUR = """            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
"""
hints(
    "train",
    "Two loops, one inside the other: epochs, then batches. Inside stand the four lines of the section above, and one that remembers the loss.",
    "The four lines above the exercise, in this order; and the docstring's sentence about the two modes.",
    "Switch to training mode. For each epoch and each batch: forward, clear the gradients, backward, step, and append the loss as a number (.item()). After both loops switch to evaluation mode and return the list.",
)
misconceptions(
    "train",
    mistake("gradients not cleared", ("            optimizer.zero_grad()\n", ""), says="The gradients are never cleared. backward() adds to what is there, so each update uses the gradients of all batches before it too."),
    mistake("nothing to step along", (FOUR, "            loss.backward()\n            optimizer.zero_grad()\n            optimizer.step()\n"), says="No parameter moves: step() is never called, or the gradients are cleared between backward() and step(), so that it finds nothing."),
    mistake("step before backward", (FOUR, "            optimizer.step()\n            optimizer.zero_grad()\n            loss.backward()\n"), says="step() comes before backward(), so each update uses the gradient of the batch before, and the last one is never used."),
    mistake("gradients cleared once an epoch", ("        for inputs, targets in batches:\n", "        optimizer.zero_grad()\n        for inputs, targets in batches:\n"), ("            optimizer.zero_grad()\n            loss.backward()", "            loss.backward()"), says="The gradients are cleared once an epoch, so within it they pile up; each update is to use its own batch alone."),
    mistake(
        "one step an epoch",
        (FOUR, "            loss.backward()\n"),
        ("            losses.append(loss.item())\n", "            losses.append(loss.item())\n        optimizer.step()\n        optimizer.zero_grad()\n"),
        says="There is one step at the end of each epoch, along the sum of all gradients; each batch is to have its own.",
    ),
    mistake("two steps", ("            optimizer.step()\n", "            optimizer.step()\n            optimizer.step()\n"), says="step() is called twice for each batch."),
    mistake("evaluation mode while training", ("    model.train()\n", ""), says="Training mode is never switched on; a model that comes in evaluation mode trains in it, and dropout and batch normalisation do not do their work."),
    mistake("training mode left on", ("    model.eval()\n", ""), says="The model comes back in training mode; it should be handed back in evaluation mode, ready to be used."),
    mistake("evaluation mode after the first epoch", ("    model.eval()\n    return", "    return"), ("            losses.append(loss.item())\n", "            losses.append(loss.item())\n        model.eval()\n"), says="Evaluation mode is switched on inside the loop, so only the first epoch trains in training mode."),
    mistake("a single epoch", ("range(epochs)", "range(1)"), says="There is one pass through the batches, whatever `epochs` says."),
    mistake("one epoch too many", ("range(epochs)", "range(epochs + 1)"), says="There is one epoch more than asked for."),
    mistake("only the first batch", ("in batches:", "in list(batches)[:1]:"), says="Only the first batch is used; each epoch goes through all of them."),
    mistake("batches backwards", ("in batches:", "in reversed(list(batches)):"), says="The batches are not used in the given order."),
    mistake("arguments of the loss exchanged", ("loss_fn(model(inputs), targets)", "loss_fn(targets, model(inputs))"), says="The loss gets the targets first; it is called with the outputs, then the targets."),
    mistake("climbing", ("loss.backward()", "(-loss).backward()"), says="The sign is turned over, so the loss is made larger."),
    mistake("loss divided by the number of batches", ("loss.backward()", "(loss / len(batches)).backward()"), says="The loss is divided by the number of batches before backward(); each update uses its own batch's loss as it is."),
    mistake("an optimiser of its own", ("    model.train()\n", "    model.train()\n    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"), says="A new optimiser is made inside; the one that was handed in, with its learning rate and its parameters, is to be used."),
    mistake("loss after the update", ("losses.append(loss.item())", "losses.append(loss_fn(model(inputs), targets).item())"), says="The losses are measured once more after each update; the ones from before it are asked for (and cost nothing extra)."),
    mistake(
        "one loss an epoch", ("            losses.append(loss.item())\n", "        losses += [loss.item()]\n"), says="Only the last loss of each epoch is kept; one for each batch is wanted."),
    mistake("losses added up", ("losses.append(loss.item())", "losses.append(loss.item() + (losses[-1] if losses else 0.0))"), says="Each entry is the sum of all losses so far; one loss for each batch is wanted."),
    mistake("losses as tensors", ("loss.item()", "loss"), says="The list holds something other than Python floats (tensors, which keep their batch's whole computation in memory, or numpy's numbers); take the number out with .item()."),
    mistake("nothing returned", ("return losses", "return None"), says="Nothing comes back; the list of losses is wanted."),
    mistake("only the last loss returned", ("return losses", "return losses[-1:]"), says="Only the last loss comes back; all of them are wanted, in order."),
)


# %% tags=["alternative"]
@alternative("cleared after the step")
def train(model, batches, loss_fn, optimizer, epochs=1):
    history = []
    model.train(True)
    optimizer.zero_grad(set_to_none=True)
    for epoch in range(epochs):
        for x, y in batches:
            output = model(x)
            loss = loss_fn(output, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            history.append(float(loss))
    model.train(False)
    return history


# %% tags=["alternative"]
@alternative("gradients set to None by hand")
def train(model, batches, loss_fn, optimizer, epochs=1):
    losses, epoch = [], 0
    while epoch < epochs:
        model.train()
        for batch in batches:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None
            for parameter in model.parameters():
                parameter.grad = None
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            losses += [loss.detach().cpu().numpy().item()]
        epoch += 1
    model.eval()
    return losses


# %% tags=["alternative"]
@alternative("gradients by torch.autograd.grad")
def train(model, batches, loss_fn, optimizer, epochs=1):
    model.train()
    held = [p for group in optimizer.param_groups for p in group["params"]]

    def update(inputs, targets):
        loss = loss_fn(model(inputs), targets)
        for p, g in zip(held, torch.autograd.grad(loss, held)):
            p.grad = g
        optimizer.step()
        return loss.item()

    losses = [update(inputs, targets) for _ in range(epochs) for inputs, targets in batches]
    model.eval()
    return losses


# %% tags=["alternative"]
@alternative("a closure for the optimiser")
def train(model, batches, loss_fn, optimizer, epochs=1):
    losses = []
    model.train()
    for _ in range(epochs):
        for inputs, targets in batches:

            def closure():
                model.zero_grad()
                loss = loss_fn(model(inputs), targets)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
    return [model.eval(), losses][1]


# %% tags=["misconceptions"]
equivalents(
    "train",
    {
        "detach added: `loss = loss_fn(model(inputs), targets)` → `loss = loss_fn(model(inputs.detach()), targets)`":
            "the inputs are data: nobody asks for their gradient",
    },
)

# %% [markdown]
# ### Try it: fit the moons
#
# A network with one hidden layer, the same as in exercise 1, trained by your loop. Change the number of hidden units (try 2), the learning rate (try 3), or the noise, and run the cell again.

# %% tags=["picture"]
hidden_units, learning_rate, noise = 16, 0.03, 0.15
generator = torch.Generator().manual_seed(SEED)
torch.manual_seed(SEED)


def moons(count):
    y = torch.randint(2, (count,), generator=generator)
    angle = torch.rand(count, generator=generator) * math.pi
    return two_moons(angle, y, noise * torch.randn(count, 2, generator=generator)), y


x, y = moons(512)
new_x, new_y = moons(2000)
model = nn.Sequential(nn.Linear(2, hidden_units), nn.ReLU(), nn.Linear(hidden_units, 2))
losses = train(model, list(zip(x.split(32), y.split(32))), cross_entropy, torch.optim.Adam(model.parameters(), lr=learning_rate), epochs=25)
with torch.no_grad():  # no gradients wanted: cheaper
    accuracy = (model(new_x).argmax(1) == new_y).float().mean().item()
    a, b = torch.meshgrid(torch.linspace(-1.6, 2.6, 200), torch.linspace(-1.2, 1.7, 150), indexing="xy")
    p = torch.softmax(model(torch.stack([a, b], -1).view(-1, 2)), dim=1)[:, 1].view_as(a)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", width_ratios=[3, 2])
image = left.contourf(a, b, p, levels=torch.linspace(0, 1, 11).tolist(), cmap="RdBu_r", alpha=0.4)
left.contour(a, b, p, levels=[0.5], colors="black", linewidths=1)
for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "^")):
    left.plot(*x[y == label].T, marker, color=colour, markersize=3, label=f"class {label}")
figure.colorbar(image, ax=left, label="probability of class 1")
left.set(title=f"what the network learned: {100 * accuracy:.1f} % of new points right", xlabel="$x_1$", ylabel="$x_2$")
left.legend(frameon=False, loc="lower right", fontsize=8)
right.plot(losses, color=GREY, linewidth=0.6, label="each batch")
right.plot(torch.tensor(losses).view(-1, 16).mean(1).repeat_interleave(16), color=BLUE, label="mean of each epoch")
right.set(yscale="log", title="the loss", xlabel="update", ylabel="cross-entropy [nat]")
right.legend(frameon=False)
right.grid(alpha=0.3)
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** The black line is where the network is undecided. It is made of straight pieces, one bend for each ReLU that switches there. The loss of single batches jumps (each is a small sample); the
# mean of an epoch falls quickly and then flattens, at a value that the noise decides: where the moons overlap, nobody can be right every time.

# %% [markdown] written="why_zero_grad" points=2
# ## Question 1 · a forgotten line
#
# *2 points, graded by a person*
#
# (a) A training loop lacks `optimizer.zero_grad()`. Which gradient does the $n$-th update use? Why does the training often still seem to work at first, and what goes wrong later?
# (b) Name a use for the fact that `backward()` adds.
#
# ### BEGIN SOLUTION
# (a) The sum of the gradients of batches 1 to $n$ (each at the parameters of its time). At first these gradients all point roughly the same way, so it acts like momentum with $\mu = 1$: steps that
# grow and grow. Nothing is ever forgotten, so when the right direction changes, the old gradients keep pushing: the parameters overshoot, the loss oscillates or diverges.
#
# (b) Accumulating the gradients of several small batches into that of a large one that does not fit into memory (week 4); or one parameter used in several places, whose contributions have to add up (shared weights, a recurrent network over time).
#
# **Rubric.** 1 point: the sum over all batches so far *and* what follows from it (growing or stale steps). 1 point: any right use.
# ### END SOLUTION

# %% [markdown] written="bias_correction" points=2
# ## Question 2 · the first step without correction
#
# *2 points, graded by a person*
#
# (a) By what factor does Adam's first step differ from `lr` if both bias corrections are left out ($\beta_1 = 0.9$, $\beta_2 = 0.999$)? (b) Is it smaller or larger, and why can that hurt at the very start of training?
#
# ### BEGIN SOLUTION
# (a) $m = 0.1\,g$ and $v = 0.001\,g^2$, so the step is $\eta \cdot 0.1\,g / (\sqrt{0.001}\,|g|) = \pm\,\eta \cdot 0.1/0.0316 \approx 3.16\,\eta$.
#
# (b) Larger: the average of squares, with the slower decay, is more too small than the average of gradients. The first steps are those for which the least is known (one batch, random parameters), and they would be the longest.
# (The paper goes further and warms the learning rate up over 4000 steps.)
#
# **Rubric.** 1 point: 3.16 (or $\sqrt{10}$) with the derivation. 1 point: larger, and a reason why early large steps are harmful.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Backpropagation: from the loss backwards, each layer turns the gradient of its output into that of its input and its parameters. Autograd does it for any program.
# - Momentum adds gradients up over time; Adam also divides by their recent size, with a correction for averages that start at 0.
# - Forward, `zero_grad`, `backward`, `step`. Training mode while training, evaluation mode afterwards.
#
# **Next**: `sequence_models`: words as numbers, networks that read one word after the other, and why they forget.

# %% tags=["picture"]
score()
