# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Optimisation and debugging
#     order: 3
#     exports: papers.transformer.optimisation
#     minutes: 150
# ---

# %% [markdown]
# # Optimisation and debugging
#
# *Attention Is All You Need*, sections 5.1 to 5.3 (batches, hardware, optimiser), and what a training run needs that no paper prints · about 150 minutes
#
# At the end of this notebook you can
#
# - clip gradients, schedule the learning rate, accumulate a large batch from small ones, and train in mixed precision;
# - save a run so that, killed at any moment, it goes on to exactly the weights it would have had;
# - find the bug in a run that learns badly, by experiment;
# - say of each of these what it costs and what it brings, on your machine, in numbers.
#
# **Week 4 of the roadmap, Advanced Topics & Optimization, step 2: Optimization & Debugging (Day 17-18).**
#
# | the roadmap's task | exercise |
# | --- | --- |
# | Optimize training time using **gradient clipping**, **learning rate scheduling**, and **model checkpointing** | 1 `clip_gradients`, 2 `warmup_cosine`, 5 `save_checkpoint`, 6 `load_checkpoint` |
# | Try using **mixed precision training** (`torch.cuda.amp`) | 4 `amp_step`, with 3 `accumulate_gradients` for batches that do not fit |
# | debugging | 7 `first_non_finite`, 8 `diagnose` |
#
# Watch: [video 1](https://youtu.be/ks3oZ7Va8HU?si=rimrBHV2Uf6_jLik), [video 2](https://youtu.be/KrQp1TxTCUY?si=57Z0TjECJxtKLFnP), [video 3](https://youtu.be/81NJgoR5RfY?si=0sSiyjz_SyFvquZo). The roadmap says what they cover:
# "**Gradient clipping** to prevent exploding gradients", "**Learning rate scheduling** for efficient training", "How **torch.cuda.amp** speeds up training", "**Model checkpointing** to save and resume training".

# %% tags=["export"]
import math
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# %%
import copy
import tempfile
import time

import matplotlib.pyplot as plt
import torch.nn.functional as F

from papers.datasets import PAD_ID, copy_batches, multi30k_text, numbers_in_words
from papers.transformer.attention import MultiHeadAttention, merge_heads, padding_mask, split_heads
from papers.transformer.model import Transformer
from papers.transformer.training import teacher_forcing

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
STEPS = 0  # cuts the long run of the last section short after so many steps; 0: as many as the profile says

# %% [markdown]
# ## Exercise 1 · `clip_gradients`
#
# *Difficulty ●○○ · 15 minutes · 3 points*
#
# One unlucky batch can have a gradient a hundred times as large as usual, and one step along it can undo an hour of training. Clipping bounds the length of the step and keeps its direction (Pascanu et al. 2013). With $g$ the gradients of *all* parameters, laid end to end as one vector,
#
# $$g \leftarrow g \cdot \min\!\left(1, \frac{c}{\lVert g \rVert}\right), \qquad \lVert g \rVert = \sqrt{\textstyle\sum_i g_i^2} .$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | clipping | nothing; its Transformer is trained without | the whole gradient's norm, at most `max_norm` | the usual guard today; 1.0 is the usual bound |
# | $\lVert g \rVert = 0$ | – | nothing changes | `clip_grad_norm_` adds $10^{-6}$ to the norm, which changes the result in the seventh digit; either is accepted |
# | what is returned | – | the norm *before* clipping | that is what you want to plot |


# %% tags=["export"]
def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor | float:
    """Scale all gradients by one factor, so that together they have a norm of at most max_norm.

    Args:
        parameters: can be gone through once (`model.parameters()` is a generator). Those whose
            `.grad` is None do not count. All on one device.
        max_norm: largest Euclidean norm of all gradients together, > 0; math.inf is no bound.
            Gradients whose norm is not larger stay as they are.

    Returns: the norm before clipping, as a float or a tensor without dimensions; 0 if there is no
        gradient. The gradients keep their dtype; whether `.grad` is changed in place or replaced is
        open, and so is what happens to norms that are not finite.

    May not call torch.nn.utils.clip_grad_norm_ or its relatives.
    """
    ### BEGIN SOLUTION
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return 0.0
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()  # the norm of the norms: √Σ‖g‖²
    scale = (max_norm / norm).clamp(max=1.0)  # no `if`: on a GPU it would wait for the number; norm 0 gives ∞, and so 1
    for gradient in gradients:
        gradient.mul_(scale)
    return norm
    ### END SOLUTION


# %%
@check("clip_gradients", points=3, forbid=["torch.nn.utils.clip_*", "torch.nn.utils.get_total_norm", "torch.nn.utils.clip_grad.*"])
def _(case):
    def clip(name, gradients, max_norm, once=False, tol=None):
        parameters = [nn.Parameter(case.normal(*(gradient.shape if gradient is not None else (2,))).to(gradient.dtype if gradient is not None else torch.float32)) for gradient in gradients]
        before = [parameter.detach().clone() for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = None if gradient is None else gradient.clone()
        norm = clip_gradients(iter(parameters) if once else parameters, max_norm)
        norm = norm.item() if isinstance(norm, Tensor) and norm.dim() == 0 else norm
        case.record(f"{name}: norm returned", norm, tol=tol, about="norm")
        case.record(f"{name}: gradients afterwards", {f"of parameter {i + 1}": parameter.grad for i, parameter in enumerate(parameters)}, tol=tol, about="gradient")
        same = all(torch.equal(old, parameter.detach()) for old, parameter in zip(before, parameters))
        case.record(f"{name}: the parameters themselves", "as they were" if same else "changed", about="their state")

    def tensor(*values):
        return torch.tensor(values, device=case.device)

    clip("one gradient (3, 4), at most 1", [tensor(3.0, 4.0)], 1.0)
    clip("two gradients, (3, 0) and (0, 4), at most 2.5", [tensor(3.0, 0.0), tensor(0.0, 4.0)], 2.5)
    clip("small ones stay: (0.3, 0.4), at most 1", [tensor(0.3, 0.4)], 1.0)
    clip("three shapes, at most 0.5", [case.normal(2, 3), case.normal(4), case.normal(2, 1, 5)], 0.5)
    clip("unequal sizes, all below the bound", [case.normal(3, scale=0.01), case.normal(2, 2)], 50.0)
    clip("the first has no gradient", [None, case.normal(5), None, case.normal(2, 4)], 0.7)
    clip("parameters from a generator", [case.normal(3, 3), case.normal(7)], 1.5, once=True)
    clip("all gradients are 0", [torch.zeros(3, device=case.device), torch.zeros(2, 2, device=case.device)], 1.0)
    clip("no gradient at all", [None, None], 1.0)
    clip("no bound: max_norm is ∞", [tensor(3.0, 4.0), case.normal(2, 3)], math.inf)
    clip("float64", case.cast(torch.float64, case.normal(4, 3), case.normal(5)), 0.25, tol=1e-5)
    clip("bfloat16", case.cast(torch.bfloat16, case.normal(4, 3), case.normal(6)), 0.5, tol=3e-2)
    ### BEGIN HIDDEN TESTS
    clip("one number", [0.5 + case.uniform(1)], 0.125)
    clip("a norm between the bound and 1", [tensor(0.3, 0.4)], 0.25)
    clip("many small parameters, a generator", [case.normal(n) for n in (1, 5, 2, 7, 3, 1, 4)], 2.0, once=True)
    clip("one spike among small ones", [case.normal(6, scale=0.1), case.normal(3, scale=400.0), case.normal(2, 2, scale=0.1)], 1.0)
    clip("just above the bound", [0.51 * tensor(3.0, 4.0)], 2.5)
    clip("just below the bound", [0.49 * tensor(3.0, 4.0)], 2.5)
    clip("each below the bound, together above", [0.4 * torch.ones(4, device=case.device) for _ in range(4)], 1.0)
    clip("bfloat16, below the bound", case.cast(torch.bfloat16, case.normal(3, 5), case.normal(2)), 100.0, tol=3e-2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "clip_gradients",
    "If each parameter were clipped by itself, would the step still point in the same direction? Which one number decides for all of them?",
    "Pascanu, Mikolov and Bengio (2013), algorithm 1: if the norm of the gradient is larger than the threshold, the gradient becomes threshold over norm times itself. `gradient` there is the vector of all of them.",
    "Collect the gradients that exist into a list, since the parameters can be gone through only once. Square, add up over everything, take the root. Multiply every gradient by max_norm over that norm, but never by more than 1. Return the norm you began with.",
)
misconceptions(
    "clip_gradients",
    mistake("each parameter by itself", ("    for gradient in gradients:\n        gradient.mul_(scale)", "    for gradient in gradients:\n        gradient.mul_((max_norm / gradient.norm()).clamp(max=1.0))"),
            says="Each parameter's gradient is clipped by its own norm, which turns the direction of the step. One norm over all gradients gives one factor for all."),  # fmt: skip
    mistake("clipped by value", ("        gradient.mul_(scale)", "        gradient.clamp_(-max_norm, max_norm)"),
            says="Each entry is cut off at ±max_norm (clipping by value), which changes the direction. Multiply all entries by one factor."),  # fmt: skip
    mistake("no root", ("gradients]).norm()", "gradients]).pow(2).sum()"),
            says="The sum of squares is used as the norm; its root is missing."),  # fmt: skip
    mistake("small gradients scaled up", (".clamp(max=1.0)", ".nan_to_num(posinf=1.0)"),
            says="Gradients below the bound are scaled up to it. Clipping only ever makes them smaller: the factor is at most 1."),  # fmt: skip
    mistake("the sum of the norms", ("gradients]).norm()", "gradients]).sum()"),
            says="The parameters' norms are added up. The norm of all gradients together is the root of the sum of their squares."),  # fmt: skip
    mistake("the largest of the norms", ("gradients]).norm()", "gradients]).max()"),
            says="The largest of the parameters' norms is taken for the whole; together the gradients are longer than that."),  # fmt: skip
    mistake("the mean of the norms", ("gradients]).norm()", "gradients]).mean()"),
            says="The mean of the parameters' norms is taken; all gradients together are one vector, and longer."),  # fmt: skip
    mistake("absolute values", ("gradient.norm() for", "gradient.abs().sum() for"),
            says="Absolute values are added up within a parameter (the 1-norm); the Euclidean norm adds squares and takes the root."),  # fmt: skip
    mistake("absolute values throughout", ("torch.stack([gradient.norm() for gradient in gradients]).norm()", "torch.stack([gradient.abs().sum() for gradient in gradients]).sum()"),
            says="The 1-norm is used, the sum of absolute values; clipping takes the Euclidean norm."),  # fmt: skip
    mistake("the largest entry", ("torch.stack([gradient.norm() for gradient in gradients]).norm()", "torch.stack([gradient.abs().max() for gradient in gradients]).max()"),
            says="The largest absolute entry is used as the norm (the ∞-norm); clipping takes the Euclidean norm."),  # fmt: skip
    mistake("root of the mean", ("gradient.norm() for", "gradient.pow(2).mean().sqrt() for"),
            says="The mean square is used where the sum of squares belongs, so large parameters count too little."),  # fmt: skip
    mistake("the clipped norm is returned", ("    return norm\n", "    return norm * scale\n"),
            says="The norm after clipping is returned; it is the one before that tells a spike."),  # fmt: skip
    mistake("the factor is returned", ("    return norm\n", "    return scale\n"),
            says="The factor is returned; the norm before clipping is wanted."),  # fmt: skip
    mistake("nothing is clipped", ("    for gradient in gradients:\n        gradient.mul_(scale)\n", ""),
            says="The norm is right, but the gradients stay as they are. (A product that is only bound to the loop's variable, `g = g * …`, reaches no parameter.)"),  # fmt: skip
    mistake("a generator is empty the second time",
            ("    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]\n    if not gradients:\n        return 0.0\n", ""),
            ("torch.stack([gradient.norm() for gradient in gradients]).norm()", "torch.stack([torch.zeros(()), *[p.grad.norm() for p in parameters if p.grad is not None]]).norm()"),
            ("    for gradient in gradients:\n        gradient.mul_(scale)", "    for p in parameters:\n        if p.grad is not None:\n            p.grad.mul_(scale)"),
            says="The parameters are gone through twice: once for the norm, once to scale. `model.parameters()` is a generator and is empty the second time, so nothing is clipped. Keep a list."),  # fmt: skip
    mistake("scaled to length 1", ("(max_norm / norm).clamp(max=1.0)", "(1 / norm).clamp(max=1.0)"),
            says="The bound is 1 whatever max_norm says."),  # fmt: skip
    mistake("the wrong way round", ("(max_norm / norm).clamp(max=1.0)", "(norm / max_norm).clamp(max=1.0)"),
            says="The factor is norm over bound; it has to be bound over norm, so that the product is the bound."),  # fmt: skip
    mistake("large gradients set to 0", ("(max_norm / norm).clamp(max=1.0)", "(norm <= max_norm).float()"),
            says="Where the norm is too large the gradient is set to 0, so the batch teaches nothing. It is made shorter, not thrown away."),  # fmt: skip
    mistake("the parameters are clipped", ("[parameter.grad for parameter in parameters if parameter.grad is not None]", "[parameter.data for parameter in parameters if parameter.grad is not None]"),
            says="The parameters themselves are measured and scaled; it is their gradients that are clipped."),  # fmt: skip
    mistake("stops at a missing gradient", (" if parameter.grad is not None]", "]"),
            says="A parameter without a gradient (`.grad` is None: frozen, or not used in this batch) ends in an error; it is to be skipped."),  # fmt: skip
    mistake("divides by 0", ("    scale = (max_norm / norm).clamp(max=1.0)", "    scale = max_norm / norm\n    scale = scale if scale < 1 else scale / scale"),
            says="If all gradients are 0 the factor is max_norm / 0, and ∞ · 0 is NaN. Nothing has to be clipped then."),  # fmt: skip
    mistake("∞ over ∞", ("(max_norm / norm).clamp(max=1.0)", "max_norm / norm.clamp(min=max_norm)"),
            says="With max_norm = ∞ the factor is ∞/∞, and every gradient becomes NaN. Without a bound nothing is to be clipped."),  # fmt: skip
    mistake("vectors left out", ("[parameter.grad for parameter in parameters if parameter.grad is not None]", "[parameter.grad for parameter in parameters if parameter.grad is not None and parameter.dim() > 1]"),
            says="Only parameters with two or more axes count; biases and all other vectors belong to the gradient too."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("a loop over float64, an if, new tensors")
def clip_gradients(parameters, max_norm):
    parameters = list(parameters)
    total = 0.0
    for parameter in parameters:
        if parameter.grad is not None:
            total += float(parameter.grad.double().pow(2).sum())
    norm = math.sqrt(total)
    if norm > max_norm:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = parameter.grad * (max_norm / norm)
    return norm


# %% tags=["alternative"]
@alternative("one long vector")
def clip_gradients(parameters, max_norm):
    with_gradient = [p for p in parameters if p.grad is not None]
    if len(with_gradient) == 0:
        return torch.zeros(())
    vector = torch.cat([p.grad.detach().flatten() for p in with_gradient])
    norm = torch.linalg.vector_norm(vector)
    for p in with_gradient:
        p.grad.copy_(p.grad * min(1.0, max_norm / (norm.item() + 1e-6)))
    return norm


# %% tags=["alternative"]
@alternative("as in torch, all tensors at once")
@torch.no_grad()
def clip_gradients(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.tensor(0.0)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)), 2.0)
    torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm


# %% tags=["alternative"]
@alternative("a running hypotenuse, division in place")
def clip_gradients(parameters, max_norm):
    kept, norm = [], 0.0
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        kept.append(gradient)
        norm = math.hypot(norm, gradient.float().norm().item())
    for gradient in kept:
        gradient /= max(1.0, norm / max_norm)
    return norm


# %% tags=["alternative"]
@alternative("einsum and where")
def clip_gradients(parameters, max_norm):
    parameters = tuple(p for p in parameters if p.grad is not None)
    squares = [torch.einsum("i,i->", p.grad.float().reshape(-1), p.grad.float().reshape(-1)) for p in parameters]
    norm = sum(squares, torch.tensor(0.0)).sqrt()
    for p in parameters:
        p.grad = torch.where(norm > max_norm, p.grad * (max_norm / norm), p.grad).to(p.dtype)
    return norm


# %% [markdown]
# ### Try it: a run with spikes
#
# A small Transformer copies random sequences. Every 25th batch is spoilt: its loss is multiplied by 20, as a batch of garbage would do by itself. The same run, with and without clipping. SGD, because Adam divides by the size of past gradients and so hides part of the damage.

# %% tags=["picture"]
if PROFILE == "quick":
    torch.set_num_threads(1)  # matrices as small as these gain nothing from a second thread


def copying_model(**changes):
    torch.manual_seed(SEED)
    return Transformer(12, 12, **{**dict(d_model=32, h=4, N=1, d_ff=64, dropout=0.0, pad_id=PAD_ID), **changes})


def copying_loss(model, src, target):
    reading, labels = teacher_forcing(target)
    return F.cross_entropy(model(src, reading).flatten(0, 1), labels.flatten(), ignore_index=PAD_ID)


def spiky_run(max_norm, steps=150):
    model = copying_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses, before, after = [], [], []
    for step, (src, target) in enumerate(copy_batches(steps, batch_size=16, longest=5, seed=SEED), start=1):
        optimizer.zero_grad()
        loss = copying_loss(model, src, target)
        (loss * (20 if step % 25 == 0 else 1)).backward()
        before.append(float(clip_gradients(model.parameters(), max_norm)))
        after.append(float(clip_gradients(model.parameters(), math.inf)))
        optimizer.step()
        losses.append(loss.item())
    return losses, before, after


without, with_clipping = spiky_run(math.inf), spiky_run(1.0)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
steps = range(1, len(without[0]) + 1)
left.plot(steps, with_clipping[1], color=ORANGE, linewidth=1, label="before clipping")
left.plot(steps, with_clipping[2], color=BLUE, linestyle="--", label="after clipping at 1")
left.set(title="Gradient norm", xlabel="step", ylabel="‖g‖", yscale="log", ylim=(0.6, 500))
right.plot(steps, without[0], color=ORANGE, linewidth=1, label="not clipped")
right.plot(steps, with_clipping[0], color=BLUE, linestyle="--", label="clipped at 1")
right.set(title="Loss", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, 8))
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
plt.show()
for name, run in (("not clipped", without), ("clipped at 1", with_clipping)):
    print(f"{name:13} largest norm {max(run[1]):8.1f}   mean loss of the last 20 steps {sum(run[0][-20:]) / 20:.3f}")
reference = copying_model()
copying_loss(reference, *next(copy_batches(1, seed=SEED))).backward()
ours, theirs = reference, copy.deepcopy(reference)
for one, other in zip(ours.parameters(), theirs.parameters()):
    other.grad = one.grad.clone()
norms = clip_gradients(ours.parameters(), 0.1), torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
difference = max((a.grad - b.grad).abs().max().item() for a, b in zip(ours.parameters(), theirs.parameters()))
print(f"against clip_grad_norm_: norms {norms[0]:.6f} and {norms[1]:.6f}, gradients differ by {difference:.0e} at most")

# %% [markdown]
# **What to see.** Left: the spikes stand out by an order of magnitude before clipping; after it, nothing is above 1. Right: without clipping each spike throws the parameters somewhere else, and the run never recovers what it had learned; with clipping the loss goes on falling.

# %% [markdown]
# ## Exercise 2 · `warmup_cosine`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Week 3's learning rate (equation 3) rises in a line and falls as $1/\sqrt{\text{step}}$, for ever. If you know how long you will train, you can land softly instead: half a cosine from 1 down to a floor (Loshchilov & Hutter 2017; most language models since GPT-3 are trained so). As a factor on the highest rate,
#
# $$f(s) = \begin{cases} s / w & s < w \\ \varphi + (1 - \varphi)\,\tfrac12\left(1 + \cos \pi\,\frac{s - w}{n - w}\right) & w \le s \le n \\ \varphi & s > n \end{cases}$$
#
# for step $s$, warm-up $w$, total $n$ and floor $\varphi$.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | after the warm-up | inverse square root of the step, without an end (equation 3) | half a cosine, to a floor at `total` | the last steps, with a small rate, are where the loss settles |
# | step | from 1 | from 0, as `LambdaLR` counts | the factor at 0 is 0: the very first update of a `LambdaLR` changes nothing. Pass `step + 1` if you mind |
# | scale | $d_\text{model}^{-0.5}$ | none: a factor for the optimiser's own rate | the rate is then one number that you can tune |


# %% tags=["export"]
def warmup_cosine(step: int, warmup: int, total: int, floor: float = 0.0) -> float:
    """What the highest learning rate is multiplied by: a line up, half a cosine down.

    Args:
        step: number of the step, ≥ 0.
        warmup: the step at which 1 is reached; 0: no warm-up, the cosine begins at once. total: the
            step at which the floor is reached, > warmup.
        floor: the factor from then on, 0 … 1. The warm-up begins at 0 all the same.
    """
    ### BEGIN SOLUTION
    if step < warmup:
        return step / warmup
    progress = min((step - warmup) / (total - warmup), 1.0)  # 0 at the end of the warm-up, 1 from `total` on
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


# %%
@check("warmup_cosine", points=2, paper="section 5.3, for what this replaces")
def _(case):
    def factors(name, steps, *args, **kwargs):
        case.record(name, {str(step): warmup_cosine(step, *args, **kwargs) for step in steps}, about="factor at step")

    factors("warm-up of 4, 12 steps: the rise", [0, 1, 2, 3, 4], 4, 12)
    factors("warm-up of 4, 12 steps: the fall", [4, 6, 8, 10, 12], 4, 12)
    factors("the middle of the fall, with a floor of 0.2", [4, 8, 12], 4, 12, floor=0.2)
    factors("the rise, with a floor of 0.2", [0, 1, 3], 4, 12, floor=0.2)
    factors("near the end, with a floor of 0.1", [97, 98, 99, 100], 10, 100, floor=0.1)
    factors("after the end", [13, 16, 20, 1000], 4, 12)
    factors("after the end, with a floor of 0.3", [13, 20, 1000], 4, 12, floor=0.3)
    factors("no warm-up", [0, 1, 2, 5, 9, 10, 11], 0, 10)
    ### BEGIN HIDDEN TESTS
    factors("warm-up of 1", [0, 1, 2, 3], 1, 3, floor=0.05)
    factors("a long run", [0, 1, 1999, 2000, 2001, 7000, 50_000, 99_999, 100_000, 100_001], 2000, 100_000, floor=0.1)
    warmup, rest = case.integer(3, 9), case.integer(11, 30)
    factors("drawn by chance", [0, warmup - 1, warmup, warmup + 2, warmup + rest - 1, warmup + rest, warmup + rest + 3], warmup, warmup + rest, 0.25)
    factors("a floor of 1", [0, 2, 5, 9, 12], 3, 9, floor=1.0)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "warmup_cosine",
    "At which step is the cosine's argument 0, and at which is it π? Write the share of the way between the two that a step has covered.",
    "Equation 3 for the rise. For the fall: Loshchilov and Hutter (2017), equation 5, with η_min the floor and η_max = 1; T_cur counts from the end of the warm-up.",
    "Three cases: before the warm-up is over, the step over its length. After it, the share of the way from warm-up to total, at most 1, turned into a number from 1 to 0 by half a cosine, and that number stretched to lie between 1 and the floor.",
)
misconceptions(
    "warmup_cosine",
    mistake("one step early", ("return step / warmup", "return (step + 1) / warmup"),
            says="The warm-up counts from 1: at step 0 the factor has to be 0, and it reaches 1 at step `warmup`."),  # fmt: skip
    mistake("one step late", ("return step / warmup", "return step / (warmup + 1)"),
            says="The warm-up is divided by warmup + 1, so there is a jump where it ends."),  # fmt: skip
    mistake("the cosine begins at step 0", ("(step - warmup) / (total - warmup)", "step / total"),
            says="The cosine counts from step 0, so part of it is over when the warm-up ends. It begins where the warm-up ends."),  # fmt: skip
    mistake("the total does not contain the warm-up", ("(total - warmup)", "total"),
            says="The fall is `total` steps long; it ends *at* step `total`, which counts the warm-up."),  # fmt: skip
    mistake("the cosine begins at 0 and ends late", ("(step - warmup)", "step"),
            says="The share of the way is measured from step 0; it is 0 at the end of the warm-up."),  # fmt: skip
    mistake("floor ignored", ("floor + (1 - floor) * (1", "0 * floor + (1"),
            says="The floor is ignored: the factor falls to 0."),  # fmt: skip
    mistake("floor added", ("floor + (1 - floor) *", "floor +"),
            says="The floor is added to the whole curve, which then begins at 1 + floor. The curve is squeezed: from 1 down to the floor."),  # fmt: skip
    mistake("floor as a cut", ("return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2", "return max(floor, (1 + math.cos(math.pi * progress)) / 2)"),
            says="The curve falls towards 0 and is cut off at the floor. It should be squeezed, so that it reaches the floor only at `total`."),  # fmt: skip
    mistake("floor multiplied", ("floor + (1 - floor) * (1", "(1 - floor) * (1"),
            says="The curve is made flatter by the floor and not lifted by it: it begins at 1 − floor and ends at 0."),  # fmt: skip
    mistake("the warm-up begins at the floor", ("return step / warmup", "return floor + (1 - floor) * step / warmup"),
            says="The warm-up begins at the floor; it begins at 0."),  # fmt: skip
    mistake("rises again", ("min((step - warmup) / (total - warmup), 1.0)", "(step - warmup) / (total - warmup)"),
            says="After `total` the cosine goes up again; from there on the factor is the floor."),  # fmt: skip
    mistake("0 after the end", ("    progress = ", "    if step > total:\n        return 0.0\n    progress = "),
            says="After `total` the factor is 0; it stays at the floor."),  # fmt: skip
    mistake("a quarter of a period", ("(1 + math.cos(math.pi * progress)) / 2", "math.cos(math.pi / 2 * progress)"),
            says="The fall is a quarter of a cosine's period; it is half of one, from 1 to −1, moved to lie between 1 and 0."),  # fmt: skip
    mistake("a whole period", ("math.pi *", "2 * math.pi *"),
            says="The fall is a whole period of the cosine, so it is up again at `total`; half a period is wanted."),  # fmt: skip
    mistake("no half", ("(1 + math.cos(math.pi * progress)) / 2", "math.cos(math.pi * progress)"),
            says="The cosine is not moved and halved: it goes from 1 to −1."),  # fmt: skip
    mistake("a straight line down", ("(1 + math.cos(math.pi * progress)) / 2", "(1 - progress)"),
            says="The fall is a straight line; half a cosine is wanted, which leaves and arrives with slope 0."),  # fmt: skip
    mistake("no warm-up", ("    if step < warmup:\n        return step / warmup\n", ""),
            says="There is no rise: during the warm-up the factor is step / warmup."),  # fmt: skip
    mistake("the warm-up is a cosine too", ("return step / warmup", "return (1 - math.cos(math.pi * step / warmup)) / 2"),
            says="The rise is half a cosine; it is a straight line."),  # fmt: skip
    mistake("division by a warm-up of 0", ("    if step < warmup:\n        return step / warmup\n", "    rise = step / warmup\n    if rise < 1:\n        return rise\n"),
            says="A warm-up of 0 steps ends in a division by 0; it means that there is none."),  # fmt: skip
    mistake("a whole number", ("return step / warmup", "return step // warmup"),
            says="The rise is rounded down to a whole number (`//`), so it is 0 until the warm-up is over."),  # fmt: skip
    mistake("the middle lies at the floor", ("floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2", "floor + (1 - floor) * max(math.cos(math.pi * progress), 0.0)"),
            says="The cosine's lower half is cut off, so the floor is reached half-way; the whole half-period is stretched from 1 to the floor."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("the minimum of a line and a curve")
def warmup_cosine(step, warmup, total, floor=0.0):
    rise = step / warmup if warmup else 1.0
    share = (min(max(step, warmup), total) - warmup) / (total - warmup)
    return min(rise, 1.0) * (floor + (1 - floor) * math.cos(math.pi / 2 * share) ** 2)


# %% tags=["alternative"]
@alternative("numpy, interpolation of the angle")
def warmup_cosine(step, warmup, total, floor=0.0):
    if step < warmup:
        return float(np.interp(step, [0, warmup], [0.0, 1.0]))
    angle = np.interp(step, [warmup, total], [0.0, np.pi])
    return float(0.5 * (1 + floor) + 0.5 * (1 - floor) * np.cos(angle))


# %% tags=["alternative"]
@alternative("three returns, a sine")
def warmup_cosine(step, warmup, total, floor=0.0):
    if step >= total:
        return floor
    if step >= warmup:
        half = math.sin(math.pi * (step - warmup) / (2 * (total - warmup)))
        return 1.0 - (1.0 - floor) * half * half
    return step / max(warmup, 1)


# %% tags=["alternative"]
@alternative("torch tensors in float64")
def warmup_cosine(step, warmup, total, floor=0.0):
    s = torch.tensor(step, dtype=torch.float64)
    fall = (((s - warmup) / (total - warmup)).clamp(0, 1) * math.pi).cos()
    value = floor + (1 - floor) * 0.5 * (1 + fall)
    return float(torch.where(s < warmup, s / max(1, warmup), value))


# %% tags=["picture"]
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
steps = range(0, 1201)
for warmup, floor, colour, style in ((100, 0.0, BLUE, "-"), (100, 0.1, ORANGE, "--"), (400, 0.0, GREEN, "-.")):
    axis.plot(steps, [warmup_cosine(step, warmup, 1000, floor) for step in steps], style, color=colour, label=f"warm-up {warmup}, floor {floor}")
axis.plot(steps, [min((step / 100), (100 / max(step, 1)) ** 0.5) for step in steps], ":", color=GREY, label="equation 3, warm-up 100")
axis.set(title="Warm-up and half a cosine, 1,000 steps", xlabel="step", ylabel="factor on the highest rate", ylim=(0, 1.05))
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** All rise in a line. Equation 3 (dotted) falls fast at first and is still at almost a third of its peak at step 1,000; the cosine stays high for longer and then comes down to its floor. It has to know where the end is: a run that is to go on afterwards starts from a rate of (almost) nothing.

# %% [markdown]
# ## Exercise 3 · `accumulate_gradients`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# The paper's batches hold about 25,000 source and 25,000 target tokens, on eight GPUs. Where such a batch does not fit, it can be worked off in pieces: `backward()` *adds* to `.grad`, so the gradients of the pieces add up by themselves. With $n_b$ examples in piece $b$ and $n = \sum_b n_b$,
#
# $$\frac1n \sum_{i=1}^{n} \ell_i = \sum_b \frac{n_b}{n} \cdot \underbrace{\frac{1}{n_b} \sum_{i \in b} \ell_i}_{\text{what the loss function returns}} .$$
#
# So each piece's mean counts with the share of the examples it holds. With equal pieces that is one over their number; the last piece of an epoch is seldom equal.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | batch size | 25,000 + 25,000 tokens (section 5.1) | several small batches make one update | memory: only one piece's activations are kept at a time |
# | the mean | – | over examples | if your loss is a mean over *tokens* that are not padding, tokens are what has to be counted: see question 2 |
# | layers that look at the whole batch | layer normalisation does not | – | batch normalisation would see the statistics of the pieces: the gradient is then another |


# %% tags=["export"]
def accumulate_gradients(
    model: nn.Module, loss_fn: Callable[[Any, Tensor], Tensor],
    batches: list[tuple[Tensor, Tensor]],
) -> float:
    """The gradient of one large batch that comes in pieces.

    Args:
        model: called once for each piece, as model(inputs); its mode stays as it is.
        loss_fn: loss_fn(outputs, targets) is the mean over the examples of the piece.
        batches: pairs (inputs, targets); the examples lie along the first axis of both. The pieces
            may be of unequal size.

    Returns: the mean loss over all examples, as a float. Afterwards the parameters' `.grad` is the
        gradient of that mean; what was in `.grad` before does not count. No update is made.
    """
    ### BEGIN SOLUTION
    model.zero_grad()
    examples = sum(len(targets) for _, targets in batches)
    total = 0.0
    for inputs, targets in batches:
        loss = loss_fn(model(inputs), targets) * (len(targets) / examples)
        loss.backward()  # adds to .grad, and frees this piece's activations
        total += loss.item()
    return total
    ### END SOLUTION


# %%
@check("accumulate_gradients", points=3, paper="section 5.1, on batches")
def _(case):
    class Network(nn.Module):
        """Two layers, and a note of how many examples it was given in each call."""

        def __init__(self, width, outputs):
            super().__init__()
            self.hidden, self.output = nn.Linear(width, 4), nn.Linear(4, outputs)
            self.unused = nn.Linear(2, 2)
            self.sizes = []

        def forward(self, x):
            self.sizes.append(len(x))
            x = torch.tanh(self.hidden(x))
            return self.output(x if self.training else 0.5 * x)

    def squares(outputs, targets):
        return (outputs - targets).pow(2).mean()

    def accumulate(name, sizes, width=3, outputs=2, loss_fn=squares, left_over=False, training=True):
        model = case.initialise(Network(width, outputs).to(case.device)).train(training)
        parameters = {key: value for key, value in model.named_parameters()}
        before = [value.detach().clone() for value in parameters.values()]
        batches = [(case.normal(n, width), case.integers(0, outputs, n) if loss_fn is F.cross_entropy else case.normal(n, outputs) + index) for index, n in enumerate(sizes)]
        if left_over:
            for value in parameters.values():
                value.grad = torch.ones_like(value)
        loss = accumulate_gradients(model, loss_fn, batches)
        case.record(f"{name}: loss", loss, about="loss")
        gradients = {key: torch.zeros_like(value) if value.grad is None else value.grad for key, value in parameters.items()}
        case.record(f"{name}: gradients", gradients, about="gradient of")
        case.record(f"{name}: examples in each call of the model", str(sorted(model.sizes)), about="the list of them, smallest first,")
        same = all(torch.equal(old, new.detach()) for old, new in zip(before, parameters.values())) and model.training == training
        case.record(f"{name}: parameters and mode", "as before" if same else "changed", about="their state")
        return loss

    loss = accumulate("one piece of two examples", [2])
    case.record("the loss is a float", isinstance(loss, (float, np.floating)), about="so:")
    accumulate("two equal pieces", [3, 3])
    accumulate("pieces of 3, 1 and 5", [3, 1, 5])
    accumulate("gradients left over from before", [2, 4], left_over=True)
    accumulate("cross-entropy, 4 classes", [1, 4, 2], width=5, outputs=4, loss_fn=F.cross_entropy)
    accumulate("evaluation mode stays", [2, 1], training=False)
    ### BEGIN HIDDEN TESTS
    accumulate("single examples", [1, 1, 1, 1], width=2)
    accumulate("left over, unequal", [5, 1], width=4, outputs=3, left_over=True)
    accumulate("the largest last", [1, 2, 9], width=6, outputs=3, loss_fn=F.cross_entropy)
    sizes = [1 + n for n in case.permutation(6).tolist()]
    accumulate("six pieces, in any order of size", sizes, outputs=1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "accumulate_gradients",
    "Two pieces, of 1 and 3 examples, with mean losses 4 and 0. What is the mean over the four examples? And what does (4 + 0)/2 give?",
    "The formula above, read from right to left: what loss_fn returns, times the piece's share of the examples. `Tensor.backward` adds to `.grad` where something is there already.",
    "Clear the gradients once. Count all examples. For each piece run the model, take the loss, multiply it by the piece's share, back-propagate at once, and add its value to a running total, which you return.",
)
misconceptions(
    "accumulate_gradients",
    mistake("averaged over pieces", ("(len(targets) / examples)", "(1 / len(batches))"),
            says="Each piece counts alike, whatever its size: a mean of means. An example in a small piece then weighs more; weigh each piece by its share of the examples."),  # fmt: skip
    mistake("nothing divided", (" * (len(targets) / examples)", ""),
            says="The pieces' means are added up and nothing is divided, so the gradient grows with the number of pieces."),  # fmt: skip
    mistake("multiplied by the size, not divided", ("(len(targets) / examples)", "len(targets)"),
            says="Each piece is weighed by its size, but never divided by the number of all examples: this is the sum of the losses, not their mean."),  # fmt: skip
    mistake("divided by the number of examples", ("(len(targets) / examples)", "(1 / examples)"),
            says="The pieces' means are divided by the number of examples, but a mean has been divided once already: multiply it by the piece's size first."),  # fmt: skip
    mistake("divided twice", ("(len(targets) / examples)", "(len(targets) / examples / len(batches))"),
            says="Weighed by the share of the examples and then divided by the number of pieces as well; the shares add up to 1 already."),  # fmt: skip
    mistake("left-over gradients count", ("    model.zero_grad()\n", ""),
            says="What was in `.grad` before is still in it: clear the gradients before the first piece."),  # fmt: skip
    mistake("only the last piece", ("    model.zero_grad()\n", ""), ("        loss = ", "        model.zero_grad()\n        loss = "),
            says="Only the last piece's gradient is left: the gradients are cleared for every piece (clear them once, before the first), or only the last piece is back-propagated."),  # fmt: skip
    mistake("no gradient in the end", ("    return total", "    model.zero_grad()\n    return total"),
            says="There is no gradient in the end: nothing is back-propagated, or the gradients are cleared when the caller wants them."),  # fmt: skip
    mistake("the first piece's size for all", ("examples = sum(len(targets) for _, targets in batches)", "examples = len(batches[0][1]) * len(batches)"),
            says="All pieces are taken to be as large as the first when the examples are counted."),  # fmt: skip
    mistake("the weights are the wrong way round", ("(len(targets) / examples)", "(examples / len(targets))"),
            says="The share is upside down: examples of the piece over all examples."),  # fmt: skip
    mistake("the mean of means is returned", ("total += loss.item()", "total += loss.item() * examples / len(targets) / len(batches)"),
            says="The gradients are right, but the loss that is returned averages over pieces and not over examples."),  # fmt: skip
    mistake("the sum of the means is returned", ("total += loss.item()", "total += loss.item() * examples / len(targets)"),
            says="The gradients are right, but the loss that is returned is the sum of the pieces' means."),  # fmt: skip
    mistake("the last loss is returned", ("total += loss.item()", "total = loss.item() * examples / len(targets)"),
            says="The gradients are right, but the loss that is returned is that of the last piece."),  # fmt: skip
    mistake("gradients divided at the end, too", ("    return total", "    for parameter in model.parameters():\n        if parameter.grad is not None:\n            parameter.grad /= len(batches)\n    return total"),
            says="After the shares have been taken into account, the gradients are divided by the number of pieces as well."),  # fmt: skip
    mistake("an update is made", ("    return total", "    with torch.no_grad():\n        for parameter in model.parameters():\n            if parameter.grad is not None:\n                parameter -= 0.1 * parameter.grad\n    return total"),
            says="The parameters are changed; updating is the optimiser's business, when all pieces are in."),  # fmt: skip
    mistake("evaluation mode", ("    model.zero_grad()", "    model.eval()\n    model.zero_grad()"),
            says="The model is put into evaluation mode; its mode has to stay as it is."),  # fmt: skip
    mistake("training mode", ("    model.zero_grad()", "    model.train()\n    model.zero_grad()"),
            says="The model is put into training mode; its mode has to stay as it is."),  # fmt: skip
    mistake("one large batch after all",
            ("    for inputs, targets in batches:\n        loss = loss_fn(model(inputs), targets) * (len(targets) / examples)", "    for inputs, targets in [tuple(map(torch.cat, zip(*batches)))]:\n        loss = loss_fn(model(inputs), targets)"),
            says="The pieces are put together and the model is given all examples at once. That is the batch that did not fit: give it one piece at a time."),  # fmt: skip
    mistake("every piece runs twice", ("        total += loss.item()", "        total += loss_fn(model(inputs), targets).item() * len(targets) / examples"),
            says="The model runs twice for each piece, the second time only for the loss, which the first one has given already."),  # fmt: skip
    mistake("features counted instead of examples", ("examples = sum(len(targets) for _, targets in batches)", "examples = sum(targets.numel() for _, targets in batches)"),
            says="Numbers in the targets are counted where examples should be: the mean is over the first axis."),  # fmt: skip
    mistake("a tensor", ("total += loss.item()", "total += loss.detach()"),
            says="The loss comes back as a tensor; a float is wanted, as `.item()` gives it."),  # fmt: skip
)
equivalents(
    "accumulate_gradients",
    {
        "detach added: `loss = loss_fn(model(inputs), targets) * (len(targets) / examples)` → `loss = loss_fn(model(inputs.detach()), targets) * (len(targets) / examples)`": "inputs are data and need no gradient",
    },
)


# %% tags=["alternative"]
@alternative("sums first, divided at the end")
def accumulate_gradients(model, loss_fn, batches):
    for parameter in model.parameters():
        parameter.grad = None
    seen, total = 0, 0.0
    for inputs, targets in batches:
        n = inputs.shape[0]
        loss = n * loss_fn(model(inputs), targets)
        loss.backward()
        seen, total = seen + n, total + float(loss)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(seen)
    return total / seen


# %% tags=["alternative"]
@alternative("the weight goes in with the backward pass")
def accumulate_gradients(model, loss_fn, batches):
    model.zero_grad(set_to_none=False)
    sizes = torch.tensor([float(targets.size(0)) for _, targets in batches])
    shares = sizes / sizes.sum()
    losses = []
    for share, (x, y) in zip(shares, batches):
        loss = loss_fn(model(x), y)
        loss.backward(gradient=share.to(loss))
        losses.append(loss.detach())
    return (torch.stack(losses).cpu() @ shares).item()


# %% tags=["alternative"]
@alternative("autograd.grad, a running mean")
def accumulate_gradients(model, loss_fn, batches):
    trained = [p for p in model.parameters() if p.requires_grad]
    mean, value, seen = [torch.zeros_like(p) for p in trained], 0.0, 0
    for inputs, targets in batches:
        n = len(inputs)
        seen += n
        loss = loss_fn(model(inputs), targets)
        value += (loss.item() - value) * n / seen
        for m, g in zip(mean, torch.autograd.grad(loss, trained, allow_unused=True)):
            if g is not None:
                m += (g - m) * (n / seen)
    for p, m in zip(trained, mean):
        p.grad = m
    return value


# %% tags=["alternative"]
@alternative("the largest piece first")
def accumulate_gradients(model, loss_fn, batches):
    model.zero_grad()
    count = sum(len(x) for x, _ in batches)
    losses = []
    for x, y in sorted(batches, key=lambda piece: -len(piece[0])):
        losses.append(loss_fn(model(x), y) * len(x) / count)
        losses[-1].backward()
    return sum(map(float, losses))


# %% tags=["alternative"]
@alternative("an optimiser clears, losses added up, one backward pass")
def accumulate_gradients(model, loss_fn, batches):
    torch.optim.SGD(model.parameters(), lr=0.0).zero_grad()
    count = sum(inputs.size(0) for inputs, _ in batches)
    loss = sum(loss_fn(model(inputs), targets) * inputs.size(0) for inputs, targets in batches) / count
    loss.backward()
    return float(loss)


# %% [markdown]
# ### Try it: the same gradient, less memory
#
# What a forward pass keeps for the backward pass can be counted: `torch.autograd.graph.saved_tensors_hooks` shows every tensor that is saved. We add up their bytes, each storage once, parameters left out, and note the most that is alive at one time.

# %% tags=["export"]
class SavedBytes:
    """Counts the bytes that autograd keeps for the backward pass, while the `with` block runs: `peak` is the most at one time.

    Every storage counts once; those of the model's parameters do not count. It sees what is saved for the backward pass and nothing else: no gradients, no optimiser state, no
    workspace. (On a GPU `torch.cuda.max_memory_allocated` sees everything; tracemalloc sees no tensor at all.)

    Args:
        model: whose parameters do not count.
    """

    def __init__(self, model: nn.Module) -> None:
        self.peak = self._now = 0
        self._counts: dict[int, int] = {parameter.untyped_storage().data_ptr(): 1 for parameter in model.parameters()}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> "_Kept":
        return _Kept(tensor, self)


class _Kept:
    """A saved tensor; when autograd lets go of it, its bytes are taken off the count."""

    def __init__(self, tensor: Tensor, counter: SavedBytes) -> None:
        self.tensor, self.counter = tensor, counter
        self.storage, self.bytes = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        holders = counter._counts.get(self.storage, 0)
        counter._counts[self.storage] = holders + 1
        if not holders:
            counter._now += self.bytes
            counter.peak = max(counter.peak, counter._now)

    def __del__(self) -> None:
        self.counter._counts[self.storage] -= 1
        if not self.counter._counts[self.storage]:
            self.counter._now -= self.bytes


# %% tags=["picture"]
class CopyFromOneTensor(nn.Module):
    """The small Transformer, with source and decoder input side by side in one tensor (B, S + T)."""

    def __init__(self, width, **changes):
        super().__init__()
        self.transformer, self.width = copying_model(**changes), width

    def forward(self, tokens):
        return self.transformer(tokens[:, : self.width], tokens[:, self.width :])


def mean_over_sentences(logits, labels):
    """Mean over the sentences of each sentence's mean over its tokens (B, T): a mean over examples."""
    losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=PAD_ID, reduction="none")
    words = labels != PAD_ID
    return ((losses * words).sum(1) / words.sum(1)).mean()


src, target = next(copy_batches(1, batch_size=64, longest=8, seed=SEED))
reading, labels = teacher_forcing(target)
tokens, network = torch.cat([src, reading], dim=1), CopyFromOneTensor(src.size(1))
rows = []
for name, cuts in (("one batch of 64", [64]), ("4 pieces of 16", [16] * 4), ("pieces of 30, 30, 4", [30, 30, 4]), ("16 pieces of 4", [4] * 16)):
    pieces = list(zip(tokens.split(cuts), labels.split(cuts)))
    with SavedBytes(network) as saved:
        started = time.process_time()
        loss = accumulate_gradients(network, mean_over_sentences, pieces)
        seconds = time.process_time() - started
    rows.append((name, loss, [parameter.grad.clone() for parameter in network.parameters()], saved.peak, seconds))
print(f"{'':20}{'loss':>10}{'largest difference of a gradient':>36}{'kept for backward':>20}{'CPU time':>12}")
for name, loss, gradients, peak, seconds in rows:
    difference = max((a - b).abs().max().item() for a, b in zip(gradients, rows[0][2]))
    print(f"{name:20}{loss:10.6f}{difference:36.1e}{peak / 2**20:16.2f} MiB{1e3 * seconds:9.0f} ms")

# %% [markdown]
# **What to see.** The gradients agree up to the rounding of another order of summation, also where the last piece is smaller. What has to be kept falls with the size of the largest piece. It is not free: small pieces use the hardware less well, so the time goes up.

# %%
_ = torch.optim.SGD([nn.Parameter(torch.zeros(1))])  # the first optimiser of a process takes PyTorch a second to make: here, and not in a check

# %% [markdown]
# ## Exercise 4 · `amp_step`
#
# *Difficulty ●●● · 25 minutes · 4 points*
#
# The roadmap asks for `torch.cuda.amp`. That is the old name of *automatic mixed precision*; since PyTorch 2.4 `torch.cuda.amp.autocast()` and `torch.cuda.amp.GradScaler()` are deprecated, and the same things are
# `torch.autocast("cuda")` and `torch.amp.GradScaler("cuda")`, which also know other devices. Two tools:
#
# **Autocast.** Within `with torch.autocast(…)` matrix products take their inputs in a half precision, while what needs precision (softmax, losses, norms) stays in float32. The parameters are float32 and stay so. Only the forward pass and the loss belong inside; each backward operation runs in the dtype that its forward had.
#
# | dtype | largest | smallest normal | digits | needs a scaler |
# | --- | --- | --- | --- | --- |
# | float32 | 3.4e38 | 1.2e−38 | about 7 | – |
# | bfloat16 | 3.4e38 | 1.2e−38 | 2–3 | no: the range is that of float32 |
# | float16 | 65,504 | 6.1e−5 | 3–4 | yes: small gradients would become 0 |
#
# **The scaler** multiplies the loss by a large number before the backward pass, so that small float16 gradients do not vanish, and divides the gradients again before the optimiser uses them. If something overflowed (∞ or NaN in a gradient), it skips the step and halves the factor. The order is
#
# `scale(loss).backward()` → `unscale_(optimizer)` → clip → `step(optimizer)` → `update()`
#
# and clipping has to come after `unscale_`: otherwise it is the scaled gradients that are measured.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | precision | nothing; float32 on P100 GPUs in 2017 | bfloat16 by default, float16 with a scaler | bfloat16 needs no scaler and runs on CPUs too; older GPUs (T4) have only float16 |
# | when nothing is to be clipped | – | `unscale_` is optional | `scaler.step` does it, if nobody has |


# %% tags=["export"]
def amp_step(
    model: nn.Module,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    scaler: torch.amp.GradScaler | None = None,
    dtype: torch.dtype = torch.bfloat16,
    max_norm: float | None = None,
) -> float:
    """One update in mixed precision.

    Args:
        model, loss_fn: called as loss_fn(model(inputs), targets), both within autocast, which ends
            before the backward pass.
        optimizer: of the model's parameters. What is left over in `.grad` does not count.
        inputs, targets: on the device of the model; autocast is for that device.
        scaler: scales the loss, makes the step and is updated, once each. None: no scaling.
        dtype: the half precision of autocast.
        max_norm: clip the (unscaled) gradients to this norm. None: do not clip.

    Returns: the loss before the update, not scaled, as a float. The parameters keep their dtype.
    """
    ### BEGIN SOLUTION
    optimizer.zero_grad()
    with torch.autocast(inputs.device.type, dtype=dtype):
        loss = loss_fn(model(inputs), targets)
    if scaler is None:
        loss.backward()
    else:
        scaler.scale(loss).backward()
    if max_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)  # the norm of scaled gradients would mean nothing
        clip_gradients(model.parameters(), max_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)  # skips the update if a gradient is not finite
        scaler.update()
    return loss.item()
    ### END SOLUTION


# %%
@check("amp_step", points=4)
def _(case):
    def precision():
        return str(torch.get_autocast_dtype(case.device.type)).removeprefix("torch.") if torch.is_autocast_enabled(case.device.type) else "no autocast"

    def experiment(name, scale=None, left_over=False, real=None, spike=1.0, B=3, **options):
        happened = []

        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden, self.output = nn.Linear(5, 4), nn.Linear(4, 2)

            def forward(self, x):
                happened.append(f"model ({precision()}, parameters {str(self.hidden.weight.dtype).removeprefix('torch.')})")
                y = self.output(torch.tanh(self.hidden(x)))
                if y.requires_grad:
                    y.register_hook(lambda gradient: happened.append(f"backward ({precision()})"))
                return y

        class Noting(torch.optim.SGD):
            def step(self, closure=None):
                happened.append("optimizer.step")
                return super().step(closure)

        class NotingScaler:
            """Does what a GradScaler does, and notes in which order it is asked to."""

            def __init__(self, factor):
                self.factor, self.unscaled = factor, False

            def scale(self, loss):
                happened.append("scaler.scale")
                return loss * self.factor

            def unscale_(self, optimizer):
                if "max_norm" in options:  # without clipping it is optional
                    happened.append("scaler.unscale_")
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.grad /= self.factor
                self.unscaled = True

            def step(self, optimizer, *args, **kwargs):
                happened.append("scaler.step")
                if not self.unscaled:
                    for group in optimizer.param_groups:
                        for parameter in group["params"]:
                            if parameter.grad is not None:
                                parameter.grad /= self.factor
                return optimizer.step()

            def update(self, *args):
                happened.append("scaler.update")
                self.unscaled = False

            def get_scale(self):
                return self.factor

            def is_enabled(self):
                return True

        def loss_fn(outputs, targets):
            happened.append(f"loss ({precision()})")
            return spike * (outputs.float() - 2 * targets).pow(2).mean()

        model = case.initialise(Network().to(case.device))
        optimizer = Noting(model.parameters(), lr=0.5)
        if left_over:
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
        scaler = real if real is not None else None if scale is None else NotingScaler(scale)
        given = {} if scaler is None else {"scaler": scaler}
        inputs, targets = case.normal(B, 5), case.normal(B, 2)
        loss = amp_step(model, loss_fn, optimizer, inputs, targets, **given, **options)
        case.record(f"{name}: what happened", " → ".join(happened), about="the order")
        case.record(f"{name}: loss returned", loss, tol=1e-2, about="loss")
        case.record(f"{name}: parameters afterwards", {key: value.detach().clone() for key, value in model.named_parameters()}, tol=1e-2, about="parameter")
        fine = any(bool((parameter != parameter.to(torch.bfloat16).float()).any()) for parameter in model.parameters())
        case.record(f"{name}: digits of the parameters afterwards", "float32's" if fine else "only bfloat16's", about="they are")
        if real is not None:
            case.record(f"{name}: the scaler's factor afterwards", float(scaler.get_scale()), about="factor")
        return loss

    loss = experiment("bfloat16, no scaler")
    case.record("the loss is a float", isinstance(loss, (float, np.floating)), about="so:")
    experiment("gradients left over from before", left_over=True, B=4)
    experiment("clipped at 0.05, no scaler", max_norm=0.05)
    experiment("a scaler, nothing clipped", scale=256.0)
    experiment("a scaler, clipped at 0.05", scale=1024.0, max_norm=0.05, left_over=True)
    experiment("autocast to float16", dtype=torch.float16, scale=128.0)
    kind = case.device.type
    experiment("PyTorch's own scaler", real=torch.amp.GradScaler(kind, init_scale=64.0, growth_interval=1), B=2)
    experiment("PyTorch's own scaler, an overflow", real=torch.amp.GradScaler(kind, init_scale=64.0), spike=1e38, max_norm=1.0)
    ### BEGIN HIDDEN TESTS
    experiment("one example, a large bound", max_norm=1000.0, B=1)
    experiment("scaler and large bound", scale=4096.0, max_norm=1000.0, B=6)
    experiment("float16 without a scaler", dtype=torch.float16, B=5, left_over=True)
    experiment("PyTorch's own scaler, clipped", real=torch.amp.GradScaler(kind, init_scale=2.0**12, growth_interval=1), max_norm=0.1, B=4, left_over=True)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "amp_step",
    "Write the five calls of the scaler on five slips of paper and lay them in order. Which of them change the gradients, and who looks at gradients in between? Then ask of each line whether it belongs inside autocast.",
    "PyTorch's documentation, “Automatic Mixed Precision examples”, section “Gradient clipping”; and of `torch.autocast`: “should wrap only the forward pass(es) of your network, including the loss computation(s)”.",
    "Clear; run model and loss within autocast for the inputs' device; leave it; back-propagate the loss, through the scaler if there is one. If there is a bound: unscale first (with a scaler), then clip. Then let the scaler step and update, or the optimiser step. Return the loss that was not scaled.",
)
misconceptions(
    "amp_step",
    mistake("no autocast", ("torch.autocast(inputs.device.type, dtype=dtype)", "torch.enable_grad()"),
            says="There is no autocast: everything is computed in float32."),  # fmt: skip
    mistake("the loss outside autocast", ("        loss = loss_fn(model(inputs), targets)", "        outputs = model(inputs)\n    loss = loss_fn(outputs, targets)"),
            says="The loss is computed outside autocast. It belongs inside, where PyTorch knows which operations need float32."),  # fmt: skip
    mistake("backward pass within autocast",
            ("    if scaler is None:\n        loss.backward()\n    else:\n        scaler.scale(loss).backward()\n", "        if scaler is None:\n            loss.backward()\n        else:\n            scaler.scale(loss).backward()\n"),
            says="The backward pass runs within autocast. It belongs outside: its operations take the dtype that their forward had."),  # fmt: skip
    mistake("always bfloat16", (", dtype=dtype", ", dtype=torch.bfloat16"),
            says="Autocast always goes to bfloat16; the argument dtype is ignored."),  # fmt: skip
    mistake("left-over gradients count", ("    optimizer.zero_grad()\n", ""),
            says="What was left in `.grad` takes part in the update: clear the gradients before the backward pass."),  # fmt: skip
    mistake("cleared after the backward pass", ("    optimizer.zero_grad()\n", ""), ("    if max_norm is not None:", "    optimizer.zero_grad()\n    if max_norm is not None:"),
            says="The gradients are cleared between the backward pass and the step, so nothing is learned."),  # fmt: skip
    mistake("the loss is not scaled", ("scaler.scale(loss).backward()", "loss.backward()"),
            says="The scaler never scales the loss, yet it divides the gradients before the step: the update becomes smaller by its factor."),  # fmt: skip
    mistake("the optimiser steps by itself", ("scaler.step(optimizer)  # skips the update if a gradient is not finite", "optimizer.step()"),
            says="The optimiser steps by itself, with whatever the gradients hold: scaled where nothing was unscaled, and not finite after an overflow. The scaler looks first, if you let it make the step."),  # fmt: skip
    mistake("the scaler is never updated", ("        scaler.update()\n", ""),
            says="The scaler is never updated: its factor cannot adapt, and the next `unscale_` raises an error."),  # fmt: skip
    mistake("updated before the step", ("        scaler.step(optimizer)  # skips the update if a gradient is not finite\n        scaler.update()", "        scaler.update()\n        scaler.step(optimizer)"),
            says="The scaler is updated before its step; the order is step, then update."),  # fmt: skip
    mistake("clipped before unscaling", ("        if scaler is not None:\n            scaler.unscale_(optimizer)  # the norm of scaled gradients would mean nothing\n        clip_gradients(model.parameters(), max_norm)", "        clip_gradients(model.parameters(), max_norm)\n        if scaler is not None:\n            scaler.unscale_(optimizer)"),
            says="The gradients are clipped while they are still scaled, and divided afterwards: the update is far smaller than the bound. First `unscale_`, then clip."),  # fmt: skip
    mistake("clipped without unscaling", ("        if scaler is not None:\n            scaler.unscale_(optimizer)  # the norm of scaled gradients would mean nothing\n", ""),
            says="The gradients are never unscaled before they are clipped; the scaler divides them in its step, after you have bounded them."),  # fmt: skip
    mistake("not clipped", ("        clip_gradients(model.parameters(), max_norm)\n", ""),
            says="max_norm does not change the update: nothing is clipped, or only when the step has been made."),  # fmt: skip
    mistake("clipped by value", ("        clip_gradients(model.parameters(), max_norm)\n", "        for parameter in model.parameters():\n            parameter.grad.clamp_(-max_norm, max_norm)\n"),
            says="Each entry of the gradients is clipped by itself, which turns the gradient into another direction; scale them all by one factor, as `clip_gradients` does."),  # fmt: skip
    mistake("not clipped with a scaler", ("            scaler.unscale_(optimizer)  # the norm of scaled gradients would mean nothing\n        clip_gradients", "            scaler.unscale_(optimizer)\n        else:\n            clip_gradients"),
            says="With a scaler nothing is clipped, only unscaled."),  # fmt: skip
    mistake("the scaled loss is returned", ("        scaler.scale(loss).backward()", "        loss = scaler.scale(loss)\n        loss.backward()"),
            says="The scaled loss is returned; the loss itself is wanted."),  # fmt: skip
    mistake("no update without a scaler", ("        optimizer.step()\n    else:", "        pass\n    else:"),
            says="Without a scaler there is no update at all: the optimiser has to step itself then."),  # fmt: skip
    mistake("the scaler's step and the optimiser's", ("        scaler.update()\n", "        scaler.update()\n        optimizer.step()\n"),
            says="With a scaler two updates are made: the scaler's step calls that of the optimiser itself."),  # fmt: skip
    mistake("the model in half precision", ("    with torch.autocast(inputs.device.type, dtype=dtype):\n        loss = loss_fn(model(inputs), targets)", "    model.to(dtype)\n    loss = loss_fn(model(inputs.to(dtype)), targets)"),
            says="The model itself is cast to half precision, and its parameters stay there: small updates are rounded away. Autocast leaves the parameters in float32 and casts inside the operations."),  # fmt: skip
    mistake("the loss of a second run", ("    return loss.item()", "    return loss_fn(model(inputs), targets).item()"),
            says="The model runs a second time, after the update, for the loss that is returned. The loss of the first run is wanted."),  # fmt: skip
    mistake("scaler expected", ("    if scaler is None:\n        loss.backward()\n    else:\n        scaler.scale(loss).backward()", "    scaler.scale(loss).backward()"),
            says="A scaler is used where none was given (scaler=None): the loss is then back-propagated as it is."),  # fmt: skip
    mistake("clipped only without a scaler", ("    if max_norm is not None:", "    if max_norm is not None and scaler is None:"),
            says="With a scaler nothing is clipped: max_norm holds there as well, after `unscale_`."),  # fmt: skip
    mistake("a scaler of its own", ("    optimizer.zero_grad()\n", "    scaler = torch.amp.GradScaler(inputs.device.type)\n    optimizer.zero_grad()\n"),
            says="A new scaler is made, and the one that was given is ignored: its factor never adapts. With scaler=None nothing is scaled."),  # fmt: skip
    mistake("a tensor", ("return loss.item()", "return loss.detach()"),
            says="The loss comes back as a tensor; a float is wanted, as `.item()` gives it."),  # fmt: skip
)
equivalents(
    "amp_step",
    {
        "variable: `with torch.autocast(inputs.device.type, dtype=dtype)` → `with torch.autocast(targets.device.type, dtype=dtype)`": "inputs and targets are on one device",
    },
)


# %% tags=["alternative"]
@alternative("a scaler that is switched off")
def amp_step(model, loss_fn, optimizer, inputs, targets, scaler=None, dtype=torch.bfloat16, max_norm=None):
    kind = inputs.device.type
    scaler = scaler or torch.amp.GradScaler(kind, enabled=False)
    with torch.amp.autocast(device_type=kind, dtype=dtype):
        outputs = model(inputs)
        loss = loss_fn(outputs, targets)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    if max_norm:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    scaler.step(optimizer)
    scaler.update()
    return float(loss)


# %% tags=["alternative"]
@alternative("two paths, always unscaled, cleared at both ends")
def amp_step(model, loss_fn, optimizer, inputs, targets, scaler=None, dtype=torch.bfloat16, max_norm=None):
    bound = float("inf") if max_norm is None else max_norm
    model.zero_grad()
    context = torch.autocast(device_type=next(model.parameters()).device.type, dtype=dtype, enabled=True)
    with context:
        loss = loss_fn(model(inputs), targets)
    if scaler is not None:
        scaled = scaler.scale(loss)
        scaled.backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], bound)
        scaler.step(optimizer)
        scaler.update()
    else:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), bound)
        optimizer.step()
    optimizer.zero_grad()
    return loss.detach().float().item()


# %% tags=["alternative"]
@alternative("an inner function under autocast")
def amp_step(model, loss_fn, optimizer, inputs, targets, scaler=None, dtype=torch.bfloat16, max_norm=None):
    @torch.autocast(inputs.device.type, dtype=dtype)
    def forward():
        return loss_fn(model(inputs), targets)

    optimizer.zero_grad()
    loss = forward()
    (loss if scaler is None else scaler.scale(loss)).backward()
    if max_norm is not None and scaler is not None:
        scaler.unscale_(optimizer)
    if max_norm is not None:
        clip_gradients((p for p in model.parameters() if p.requires_grad), max_norm)
    if scaler is None:
        optimizer.step()
        return loss.item()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


# %% tags=["alternative"]
@alternative("autograd.grad into .grad")
def amp_step(model, loss_fn, optimizer, inputs, targets, scaler=None, dtype=torch.bfloat16, max_norm=None):
    parameters = list(model.parameters())
    with torch.autocast(str(inputs.device).split(":")[0], dtype):
        loss = loss_fn(model(inputs), targets)
    root = loss if scaler is None else scaler.scale(loss)
    for parameter, gradient in zip(parameters, torch.autograd.grad(root, parameters)):
        parameter.grad = gradient
    if max_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        clip_gradients(parameters, max_norm)
    if scaler is not None:
        scaler.step(optimizer), scaler.update()
    else:
        optimizer.step()
    return loss.item()


# %% [markdown]
# ### Try it: why float16 needs a scaler
#
# Gradients of a Transformer are small numbers. How many of them does each half precision lose? Below are the gradients of the small Transformer on one batch, rounded to each dtype, and to float16 after multiplication by $2^{16}$.

# %% tags=["picture"]
network = CopyFromOneTensor(src.size(1))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(60):  # a little training: gradients shrink
    last = amp_step(network, mean_over_sentences, optimizer, tokens, labels)
gradients = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]) / 1000  # as of a mean over a thousand times as many tokens
gradients = gradients[gradients != 0]
exponents = gradients.abs().log2()
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.hist(exponents.numpy(), bins=range(-40, -7), color=BLUE)
for exponent, label, style in ((-24, "float16: smallest number", "-"), (-14, "float16: full precision from here", "--")):
    axis.axvline(exponent, color=ORANGE, linestyle=style, label=label)
axis.axvspan(-40, -24, color=GREY, alpha=0.25, label=r"saved by a factor of $2^{16}$")
axis.set(title="Sizes of gradients", xlabel="log₂ of the absolute gradient", ylabel="how many")
axis.legend(frameon=False, fontsize=8)
axis.spines[["top", "right"]].set_visible(False)
plt.show()
for name, dtype, factor in (("bfloat16", torch.bfloat16, 1.0), ("float16", torch.float16, 1.0), ("float16, scaled by 2¹⁶", torch.float16, 2.0**16)):
    rounded = (gradients * factor).to(dtype)
    print(f"{name:24} {100 * (rounded == 0).float().mean():5.1f} % become 0, {100 * rounded.isinf().float().mean():.1f} % overflow")

# %% [markdown]
# **What to see.** float16 has nothing left of the left orange line: those gradients become 0 and their parameters stop learning. Multiplied by $2^{16}$ the whole distribution moves 16 places to the right, into float16's range. bfloat16 reaches as far down as float32 and loses nothing; it pays with digits.

# %% [markdown]
# ## Exercise 5 · `save_checkpoint`
#
# *Difficulty ●●○ · 20 minutes · 3 points*
#
# The paper's big model trained for 3.5 days. Colab gives you hours. A checkpoint is enough to go on *exactly* if it holds everything that the next step depends on:
#
# | what | why the weights alone are not enough |
# | --- | --- |
# | model | parameters, and buffers such as running means |
# | optimiser | Adam's two averages and its step; with fresh ones the first steps are too large |
# | schedule | else the learning rate warms up again |
# | gradient scaler | its factor took thousands of steps to find |
# | random numbers | dropout draws from torch's generator; augmentation often from numpy's or Python's |
# | position in the data | else some examples come twice and others not at all |
#
# All but the random numbers are objects with `state_dict()` and `load_state_dict()`, or can be made to be. The random numbers have three global generators, of torch, numpy and Python (and on a GPU one more for each device).
#
# And the process may be killed *while it saves*. Whoever writes into the old file has neither the old checkpoint nor the new one then. So write to another file in the same folder, and rename it when it is complete: on one file system a rename (`os.replace`) happens at once or not at all.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | checkpoints | "written at 10-minute intervals" (section 6.1), for averaging | every so many steps, for going on | the averaging of week 3 needs the weights alone; going on needs the rest |
# | format | – | one file of `torch.save` with tensors, numbers, strings, lists and dicts | `torch.load(path, weights_only=True)` can read it (numpy's keys as a list or tensor; an array is accepted here, but not by `weights_only=True`): a pickle of whole objects runs code when it is loaded, and breaks when a class moves |
#
# This check looks into your file with `torch.load`. How things are arranged in it is up to you, but the generators' states have to be in it as numbers (lists, tensors, arrays of the values themselves), not pickled into bytes; `load_checkpoint`, the next exercise, reads it back.


# %% tags=["export"]
def save_checkpoint(path: str | Path, step: int, **parts: Any) -> None:
    """Write all that is needed to go on from here, in one file that torch.load can read.

    Args:
        path: the file; its folder exists. A checkpoint that is there is replaced (best by a rename,
            see above; how is not graded).
        step: how many steps have been made.
        parts: by name, whatever has `state_dict()`: model, optimizer, scheduler, scaler, position
            in the data.

    The file holds the step, the state dict of each part, and the states of the global generators of
    torch (on a GPU also CUDA's), numpy and Python. Saving changes neither parts nor generators.
    """
    ### BEGIN SOLUTION
    kind, keys, *rest = np.random.get_state()
    checkpoint = {
        "step": step,
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "random": {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),  # a list, empty without a GPU
            "numpy": (kind, keys.tolist(), *rest),  # a list, since weights_only=True knows tensors and no arrays
            "python": random.getstate(),
        },
    }
    temporary = Path(f"{path}.incomplete")  # in the same folder: a rename does not cross file systems
    with temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())  # on the disk before the rename, even if the power fails
    temporary.replace(path)
    ### END SOLUTION


# %% [markdown]
# The checks of this and the next exercise train a small network with dropout, Adam, a schedule and a scaler, on data whose reader can say where it is. That network and its reader come first.


# %%
class Reader:
    """Goes through data in an order of its own, for ever; can say where it is and go on from there."""

    def __init__(self, inputs, targets, size):
        self.inputs, self.targets, self.size, self.position = inputs, targets, size, 1600

    def next(self):
        rows = (torch.arange(self.size, device=self.inputs.device) + self.position) % len(self.inputs)
        self.position += self.size
        return self.inputs[rows], self.targets[rows]

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def fresh_parts(case, inputs, targets, dropout=0.0, adam=True, size=2):
    """A model, its optimiser, schedule, scaler and reader, none of which has done anything yet."""
    model = nn.Sequential(nn.Linear(inputs.size(1), 4), nn.BatchNorm1d(4), nn.Dropout(dropout), nn.Linear(4, targets.size(1))).to(inputs.device)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(case.normal(*parameter.shape, scale=0.7))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1) if adam else torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.4375)
    scaler = torch.amp.GradScaler(inputs.device.type)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "data": Reader(inputs, targets, size)}


def go_on(parts, steps, noise=False):
    """Some steps of training; with `noise` numpy and Python draw as well. Returns the losses."""
    losses = []
    for _ in range(steps):
        inputs, targets = parts["data"].next()
        if noise:
            inputs = inputs + torch.as_tensor(np.random.standard_normal(inputs.shape), dtype=inputs.dtype, device=inputs.device)
            targets = targets * random.gauss(1.0, 0.3)
        parts["optimizer"].zero_grad()
        loss = (parts["model"](inputs) - targets).pow(2).mean()
        loss.backward()
        parts["optimizer"].step()
        parts["scheduler"].step()
        losses.append(loss.item())
    return losses


# %%
@check("save_checkpoint", points=3)
def _(case):
    def leaves(thing):
        """All tensors, lists of numbers and numbers in what was loaded, whatever it is arranged in."""
        if isinstance(thing, Tensor):
            yield thing.detach().cpu().double().flatten().numpy()
        elif isinstance(thing, np.ndarray):
            yield thing.astype(np.float64).ravel()
        elif isinstance(thing, (bool, int, float)):
            yield np.array([float(thing)])
        elif isinstance(thing, dict):
            for value in thing.values():
                yield from leaves(value)
        elif isinstance(thing, (list, tuple)):
            if thing and all(isinstance(item, (int, float)) for item in thing):
                yield np.array([float(item) for item in thing])
            for item in thing:
                yield from leaves(item)

    def holds(found, values):
        values = np.asarray(values, dtype=np.float64).ravel()
        return any(len(leaf) >= len(values) and np.array_equal(leaf[: len(values)], values) for leaf in found)

    def holds_keys(found, keys, place):
        """Whether a generator's keys and its place in them are held: how they are arranged is open, so anywhere in a leaf."""
        keys = np.asarray(keys, dtype=np.float64)
        starts = ((leaf, start) for leaf in found if len(leaf) >= len(keys) for start in np.flatnonzero(leaf[: len(leaf) - len(keys) + 1] == keys[0]))
        if not any(np.array_equal(leaf[start : start + len(keys)], keys) for leaf, start in starts):
            return "missing"
        return "held" if any((leaf == place).any() for leaf in found) else "held without the place in its keys"

    def look(name, path, step, parts):
        case.record(f"{name}: a file at the path", "there" if path.is_file() else "not there", about="the file")
        if not path.is_file():
            return []
        found = list(leaves(torch.load(path, weights_only=False, map_location="cpu")))
        near = sorted({int(leaf[0]) for leaf in found if len(leaf) == 1 and abs(leaf[0] - step) <= 2})
        case.record(f"{name}: the step", str(near), about="numbers near it in the file")
        for key, part in parts.items():
            wanted = list(leaves(part.state_dict()))
            missing = sum(not holds(found, values) for values in wanted)
            case.record(f"{name}: state of the {key}", "held" if not missing else "missing" if missing == len(wanted) else "held in part", about="the state")
        held = {f"{i}": next((torch.as_tensor(leaf.copy()) for leaf in found if np.array_equal(leaf, value.cpu().double().flatten().numpy())), None) for i, value in enumerate(parts["model"].state_dict().values())}
        case.record(f"{name}: the model's tensors, as the file holds them", held, about="tensor")
        return found

    def experiment(name, step, as_text=False, **options):
        inputs, targets = case.normal(6, 3), case.normal(6, 2)
        parts = fresh_parts(case, inputs, targets, **options)
        go_on(parts, 3)
        np.random.seed(3), random.seed(3)
        torch.rand(5), np.random.random_sample(200), random.getrandbits(300 * 32)  # places in the keys, 400 and 300 then, that nothing else in the file is
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "last.pt"
            before = torch.get_rng_state(), np.random.get_state(), random.getstate()
            state = copy.deepcopy({key: part.state_dict() for key, part in parts.items()})
            gradients = [parameter.grad.clone() for parameter in parts["model"].parameters()]
            save_checkpoint(str(path) if as_text else path, step, **parts)
            after = torch.get_rng_state(), np.random.get_state(), random.getstate()
            same = torch.equal(before[0], after[0]) and np.array_equal(before[1][1], after[1][1]) and before[1][2:] == after[1][2:] and before[2] == after[2]
            case.record(f"{name}: the generators after saving", "as before" if same else "changed", about="their state")
            same = all(np.array_equal(a, b) for a, b in zip(leaves(state), leaves({key: part.state_dict() for key, part in parts.items()}), strict=True))
            case.record(f"{name}: the parts after saving", "as before" if same else "changed", about="their state")
            same = all(parameter.grad is not None and torch.equal(parameter.grad, gradient) for parameter, gradient in zip(parts["model"].parameters(), gradients))
            training = all(module.training for module in parts["model"].modules())
            case.record(f"{name}: the model after saving", {"mode": "as before" if training else "changed", "gradients": "as before" if same else "changed"}, about="its")
            found = look(name, path, step, parts)
            place = "held" if holds(found, before[0].numpy()) else "missing, but its seed is there" if holds(found, [torch.initial_seed()]) else "missing"
            case.record(f"{name}: state of torch's generator", place, about="the state")
            *keys, place = before[2][1]
            generators = {"numpy": holds_keys(found, *before[1][1:3]), "Python": holds_keys(found, keys, place)}
        return generators

    def replace(name):
        inputs, targets = case.normal(4, 5), case.normal(4, 2)
        parts = fresh_parts(case, inputs, targets)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "last.pt"
            save_checkpoint(path, 100, **parts)
            if not path.is_file():
                return
            old = path.read_bytes()
            go_on(parts, 2)
            save_checkpoint(path, 200, **parts)
            case.record(f"{name}: the new one", "at the path" if path.read_bytes() != old else "not at the path", about="the new checkpoint")

    generators = experiment("first save", 4321)
    with case.part("numpy's and Python's generators", points=1):
        case.record("states of numpy's and Python's generators", generators, about="generator of")
    replace("a checkpoint is there already")
    ### BEGIN HIDDEN TESTS
    generators = experiment("path as text, SGD", 98765, as_text=True, adam=False)
    with case.part("numpy's and Python's generators"):
        case.record("states of numpy's and Python's generators, again", generators, about="generator of")
    replace("one is there, and is replaced")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "save_checkpoint",
    "Kill the process in your mind, after every line. What lies at the path then? And after loading: what would the next step ask for that is not in the file?",
    "The table above for what; `os.replace` or `Path.replace` for how. The generators: `torch.get_rng_state`, `numpy.random.get_state`, `random.getstate`.",
    "Put the step, a dict of the parts' state dicts and the states of the generators into one dict. torch.save it to a second file beside the path. When that is complete, rename it to the path.",
)
misconceptions(
    "save_checkpoint",
    mistake("no random numbers", ("\"torch\": torch.get_rng_state(),", ""), ("\"numpy\": (kind, keys.tolist(), *rest),", ""), ("\"python\": random.getstate(),", ""),
            says="The states of the generators are not saved, so dropout and everything else that draws goes on with other numbers."),  # fmt: skip
    mistake("only torch's generator", ("\"numpy\": (kind, keys.tolist(), *rest),", ""), ("\"python\": random.getstate(),", ""),
            says="Only torch's generator is saved; numpy and Python have their own, which shuffling and augmentation often use."),  # fmt: skip
    mistake("numpy's generator forgotten", ("\"numpy\": (kind, keys.tolist(), *rest),", ""),
            says="The state of numpy's generator is not saved."),  # fmt: skip
    mistake("Python's generator forgotten", ("\"python\": random.getstate(),", ""),
            says="The state of Python's generator (the module `random`) is not saved."),  # fmt: skip
    mistake("torch's generator forgotten", ("\"torch\": torch.get_rng_state(),", ""),
            says="The state of torch's generator is not saved; dropout draws from it."),  # fmt: skip
    mistake("the model alone", ("for name, part in parts.items()}", "for name, part in parts.items() if isinstance(part, nn.Module)}"),
            says="Only the model is saved. To go on, optimiser, schedule, scaler and position in the data are needed just as much."),  # fmt: skip
    mistake("model and optimiser", ("for name, part in parts.items()}", "for name, part in parts.items() if name in (\"model\", \"optimizer\")}"),
            says="Model and optimiser are saved, the other parts are not: schedule, scaler and position begin anew."),  # fmt: skip
    mistake("schedule forgotten", ("for name, part in parts.items()}", "for name, part in parts.items() if \"sched\" not in name}"),
            says="The schedule is not saved, so the learning rate begins anew."),  # fmt: skip
    mistake("optimiser forgotten", ("for name, part in parts.items()}", "for name, part in parts.items() if \"opti\" not in name}"),
            says="The optimiser is not saved; its averages begin anew."),  # fmt: skip
    mistake("position in the data forgotten", ("for name, part in parts.items()}", "for name, part in parts.items() if name != \"data\"}"),
            says="The position in the data is not saved: the data begin anew."),  # fmt: skip
    mistake("scaler forgotten", ("for name, part in parts.items()}", "for name, part in parts.items() if \"scaler\" not in name}"),
            says="The scaler is not saved; its factor has to be found again."),  # fmt: skip
    mistake("parameters without buffers", ("part.state_dict() for", "(dict(part.named_parameters()) if isinstance(part, nn.Module) else part.state_dict()) for"),
            says="Of the model only the parameters are saved; its buffers (the running statistics of batch normalisation) are missing. `state_dict()` has both."),  # fmt: skip
    mistake("no step", ("\"step\": step,", ""),
            says="The step is not in the file."),  # fmt: skip
    mistake("the next step", ("\"step\": step,", "\"step\": step + 1,"),
            says="The step is saved as one more than it is."),  # fmt: skip
    mistake("the seed instead of the state", ("torch.get_rng_state()", "torch.initial_seed()"),
            says="The seed is saved and not the generator's state: started from its seed, it repeats the numbers that it has drawn already."),  # fmt: skip
    mistake("another name", ("    temporary.replace(path)", "    temporary.replace(f\"{path}.pt\")"),
            says="There is no file at the path: the name has been changed (an ending added, perhaps). Whoever loads looks at the path that was given."),  # fmt: skip
    mistake("weights in half precision", ("part.state_dict() for", "({key: value.half() if value.is_floating_point() else value for key, value in part.state_dict().items()} if isinstance(part, nn.Module) else part.state_dict()) for"),
            says="The model is saved in half precision. What is rounded away does not come back: the run goes on from other weights."),  # fmt: skip
    mistake("seeded on the way", ("    kind, keys, *rest = ", "    torch.manual_seed(step)\n    kind, keys, *rest = "),
            says="A generator is seeded while saving. Saving must change nothing: a run that saves often would else be another run."),  # fmt: skip
    mistake("whole objects", ("part.state_dict() for", "part for"),
            says="No part's state dict is in the file: it holds the objects themselves (such a file runs code when it is loaded, depends on where classes are defined, and the objects that exist cannot be filled from it), or the states are in other files."),  # fmt: skip
    mistake("numpy's place in its keys forgotten", ("(kind, keys.tolist(), *rest)", "keys.tolist()"),
            says="Of numpy's generator the keys are saved, but not the place in them: the numbers drawn since they were made would come again."),  # fmt: skip
    mistake("Python's place in its keys forgotten", ("random.getstate()", "random.getstate()[1][:-1]"),
            says="Of Python's generator the keys are saved, but not the place in them, the last of the numbers: those drawn since they were made would come again."),  # fmt: skip
    mistake("evaluation mode", ("    kind, keys, *rest = ", "    for part in parts.values():\n        if isinstance(part, nn.Module):\n            part.eval()\n    kind, keys, *rest = "),
            says="Saving puts the model into evaluation mode: the run goes on without dropout, and its running statistics stand still."),  # fmt: skip
    mistake("gradients cleared", ("    kind, keys, *rest = ", "    for part in parts.values():\n        if isinstance(part, nn.Module):\n            part.zero_grad()\n    kind, keys, *rest = "),
            says="Saving clears the gradients; where they are being accumulated, the update that comes next is another."),  # fmt: skip
)
equivalents(
    "save_checkpoint",
    {
        'variable: `checkpoint = { "step": step, "parts": {name: part.state_dict() for name, part in parts.items()}, "random": { "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "numpy": (kind, keys.tolist(), *rest), "python": random.getstate(), }, }` → `checkpoint = { "step": step, "parts": {name: part.state_dict() for name, part in parts.items()}, "random": { "torch": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all(), "numpy": (keys, keys.tolist(), *rest), "python": random.getstate(), }, }`': "how the file is arranged is free, so this check does not ask; the next one loads it",
        "line missing: `file.flush()` → `pass`": "closing the file writes what is left; flushing matters to fsync alone",
        "line missing: `os.fsync(file.fileno())` → `pass`": "only a power cut could tell",
        "call dropped: `os.fsync(file.fileno())` → `os.fsync(file)`": "fsync takes whatever has a fileno",
    },
)


# %% tags=["alternative"]
@alternative("written where it belongs, at once")
def save_checkpoint(path, step, **parts):
    states = {name: part.state_dict() for name, part in parts.items()}
    generators = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    torch.save({"step": step, **states, "generators": generators}, path)


# %% tags=["alternative"]
@alternative("a flat dictionary, os.replace")
def save_checkpoint(path, step, **parts):
    state = {"step": step, "torch_rng": torch.random.get_rng_state(), "numpy_rng": np.random.get_state(), "python_rng": random.getstate()}
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state_all()
    for name, part in parts.items():
        state["part:" + name] = part.state_dict()
    torch.save(state, str(path) + ".tmp")
    os.replace(str(path) + ".tmp", path)


# %% tags=["alternative"]
@alternative("a named temporary file, os.rename")
def save_checkpoint(path, step, **parts):
    path = Path(path)
    _, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, gauss_next = random.getstate()
    states = [torch.get_rng_state(), torch.tensor(keys.astype(np.int64)), [position, has_gauss, gauss], [version, list(internal), gauss_next]]
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        torch.save([step, {name: part.state_dict() for name, part in parts.items()}, states], file)
    os.rename(file.name, path)


# %% tags=["alternative"]
@alternative("through memory, then a second file")
def save_checkpoint(path, step, **parts):
    import io

    buffer, path = io.BytesIO(), Path(path)
    content = dict(step=torch.tensor(step), states=copy.deepcopy({name: part.state_dict() for name, part in parts.items()}))
    content["random"] = {"torch": torch.get_rng_state().clone(), "numpy": np.random.get_state(legacy=False), "python": random.getstate()}
    torch.save(content, buffer)
    second = path.parent / (path.stem + "-new" + path.suffix)
    second.write_bytes(buffer.getvalue())
    second.replace(path)


# %% tags=["alternative"]
@alternative("a temporary folder beside it, cleaned up if saving fails")
def save_checkpoint(path, step, **parts):
    path = Path(path).absolute()
    everything = {
        "model and so on": [(name, parts[name].state_dict()) for name in sorted(parts)],
        "generators": (torch.default_generator.get_state(), random.getstate(), np.random.get_state()),
        "meta": {"format": 1, "steps made": int(step)},
    }
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        torch.save(everything, Path(folder) / "checkpoint")
        os.replace(Path(folder) / "checkpoint", path)


# %% tags=["alternative"]
@alternative("the generators' numbers in flat rows, their places in front")
def save_checkpoint(path, step, **parts):
    _, keys, *rest = np.random.get_state()
    version, internal, reserve = random.getstate()
    rows = {"torch": torch.get_rng_state(), "numpy": np.concatenate([rest, keys.astype(np.float64)]), "python": [version, internal[-1], *internal[:-1]], "reserve": reserve}
    torch.save({"parts": {name: part.state_dict() for name, part in parts.items()}, "rows": rows, "done": torch.tensor(step)}, path)


# %% [markdown]
# ## Exercise 6 · `load_checkpoint`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# The other half: fill fresh objects from the file, put the generators where they were, and say how many steps had been made. "Resumes" has a sharp meaning here: the run that was interrupted and the run that was not end with the same bits.
#
# A checkpoint is often loaded elsewhere: for evaluation (the model alone), or on a machine without a GPU. So ask for fewer parts than the file holds, and let `map_location="cpu"` bring the tensors in; `load_state_dict` copies them to where each part lives. The states of the generators have to be CPU tensors anyway.


# %% tags=["export"]
def load_checkpoint(path: str | Path, **parts: Any) -> int:
    """Fill the parts from a file that save_checkpoint wrote, and put the global generators back to
    where they were.

    Args:
        path: the file.
        parts: by the names used when saving, whatever has `load_state_dict()`; changed in place.
            There may be fewer than the file holds.

    Returns: the step, as it was given to save_checkpoint. What comes next is bit for bit what would
        have come without the interruption, on the same machine and version of torch.
    """
    ### BEGIN SOLUTION
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(checkpoint["parts"][name])
    states = checkpoint["random"]
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])
    return checkpoint["step"]
    ### END SOLUTION


# %%
@check("load_checkpoint", points=4)
def _(case):
    def seed(number):
        torch.manual_seed(number), np.random.seed(number), random.seed(number)

    def seeded(number):
        return torch.Generator().manual_seed(number).get_state()

    def numpys_state():
        """Its keys, its place in them, the normal number that it has in reserve."""
        _, keys, place, *reserve = np.random.get_state()
        return keys.tolist(), place, reserve

    def pythons_state():
        _, (*keys, place), reserve = random.getstate()
        return keys, place, reserve

    def state(part):
        """A part's state as numbers that can be compared."""
        if isinstance(part, nn.Module):
            return {key: value.clone() for key, value in part.state_dict().items()}
        if isinstance(part, torch.optim.Optimizer):
            averages = {f"{key} {name}": value for key, entry in part.state_dict()["state"].items() for name, value in entry.items() if value is not None}
            return {**averages, "learning rate": part.param_groups[0]["lr"]} if averages else "empty"
        if isinstance(part, Reader):
            return part.position
        return part.get_scale() if isinstance(part, torch.amp.GradScaler) else {"steps": part.last_epoch, "rate": part.get_last_lr()[0]}

    def reload(name, step, wanted=("data", "model", "optimizer", "scheduler", "scaler"), as_text=False, **options):
        inputs, targets = case.normal(6, 3), case.normal(6, 2)
        parts = fresh_parts(case, inputs, targets, **options)
        parts["scaler"] = torch.amp.GradScaler(inputs.device.type, init_scale=4096.0)
        parts["scaler"].scale(inputs.sum())
        go_on(parts, 3)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "last.pt"
            path = str(path) if as_text else path
            save_checkpoint(path, step, **parts)
            there = torch.get_rng_state()
            others = fresh_parts(case, inputs, targets, **options)
            torch.set_rng_state(seeded(77))  # as in another process
            case.record(f"{name}: the step", load_checkpoint(path, **{key: others[key] for key in wanted}), about="step")
        place = "where it was" if torch.equal(torch.get_rng_state(), there) else "elsewhere"
        for key in wanted:
            case.record(f"{name}: the {key}", state(others[key]), about=key)
        case.record(f"{name}: torch's generator after loading", place, about="the generator")

    def interrupt(name, steps, more, dropout=0.4, numpys=False, pythons=False, **options):
        inputs, targets = case.normal(7, 3), case.normal(7, 2)
        whole = fresh_parts(case, inputs, targets, dropout, **options)
        start = copy.deepcopy(whole["model"].state_dict())
        noise = numpys or pythons

        def parts_at_the_start():
            parts = fresh_parts(case, inputs, targets, dropout, **options)
            parts["model"].load_state_dict(start)
            return parts

        seed(1)
        losses = go_on(whole, steps + more, noise)
        half = parts_at_the_start()
        seed(1)
        go_on(half, steps, noise)
        with tempfile.TemporaryDirectory() as folder:
            save_checkpoint(Path(folder) / "last.pt", steps, **half)
            there, elsewhere = torch.get_rng_state(), seeded(77)
            before = {"numpy": numpys_state(), "Python": pythons_state()}
            if numpys:
                np.random.seed(77)
            if pythons:
                random.seed(77)
            resumed = fresh_parts(case, inputs, targets, dropout, **options)
            torch.set_rng_state(elsewhere)  # as in another process
            load_checkpoint(Path(folder) / "last.pt", **resumed)
        loaded = torch.get_rng_state()
        places = {"where it was": there, "as it was before loading": elsewhere, "as at the beginning of the run": seeded(1), "seeded by the step": seeded(steps)}
        place = next((place for place, there in places.items() if torch.equal(loaded, there)), "somewhere else")
        case.record(f"{name}: torch's generator after loading", place, about="the generator")
        after = {"numpy": numpys_state(), "Python": pythons_state()}
        for whose in [who for who, drew in (("numpy", numpys), ("Python", pythons)) if drew]:
            same = [one == other for one, other in zip(before[whose], after[whose])]
            place = "where it was" if all(same) else "elsewhere" if not same[0] else "at another place in its keys" if not same[1] else "without the number that it had in reserve"
            case.record(f"{name}: {whose}'s generator after loading", place, about="the generator")
        rest = go_on(resumed, more, noise)
        same = all(torch.equal(a, b) for a, b in zip(whole["model"].state_dict().values(), resumed["model"].state_dict().values()))
        case.record(f"{name}: losses after the interruption", "bit-identical" if rest == losses[steps:] else "different", about="the comparison with the run that was not interrupted")
        case.record(f"{name}: weights at the end", "bit-identical" if same else "different", about="the comparison with the run that was not interrupted")

    reload("all parts", 3)
    reload("the model alone", 40, wanted=("model",))
    interrupt("with dropout, after 2 of 5 steps", 2, 3)
    with case.part("numpy's and Python's generators", points=1):
        interrupt("numpy draws", 3, 2, dropout=0.0, numpys=True, size=3)  # an odd number of normal ones, so that numpy has one in reserve
        interrupt("Python draws", 3, 2, dropout=0.0, pythons=True)  # an odd number here, too
    ### BEGIN HIDDEN TESTS
    reload("SGD, path as text, step 0", 0, as_text=True, adam=False)
    reload("all but the optimiser", 123_456, wanted=("scheduler", "data", "model"))
    interrupt("SGD, after 3 of 7 steps", 3, 4, adam=False)
    interrupt("larger pieces of data", 3, 3, size=5)
    with case.part("numpy's and Python's generators"):
        interrupt("all three draw", 4, 2, numpys=True, pythons=True, adam=False)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
OF_ALL_PARTS = "    for name, part in parts.items():\n"
SEEDS = '''
def save_checkpoint(path, step, **parts):
    state = {"step": step, "parts": {name: part.state_dict() for name, part in parts.items()}, "seed": torch.initial_seed()}
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


def load_checkpoint(path, **parts):
    state = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state["parts"][name])
    torch.manual_seed(state["seed"])
    return state["step"]
'''
hints(
    "load_checkpoint",
    "Which calls of `save_checkpoint` asked for a state? Each of them has a counterpart that sets it.",
    "`torch.load` for the file; `load_state_dict` of each part; `torch.set_rng_state`, `numpy.random.set_state`, `random.setstate`. “Saving and loading a general checkpoint” in PyTorch's recipes has the first half.",
    "Read the file onto the CPU. Give each part that was asked for its state dict, by name. Set the three generators (and CUDA's, where there is a GPU). Return the step.",
)
misconceptions(
    "load_checkpoint",
    mistake("the next step", ("return checkpoint[\"step\"]", "return checkpoint[\"step\"] + 1"),
            says="The step returned is one more than what was saved; a step would be skipped."),  # fmt: skip
    mistake("nothing returned", ("    return checkpoint[\"step\"]", "    checkpoint[\"step\"]"),
            says="Nothing is returned; the caller has to know at which step to go on."),  # fmt: skip
    mistake("the parts come back instead of the step", ("return checkpoint[\"step\"]", "return checkpoint[\"step\"], parts"),
            says="Step and parts are returned; the parts have been filled in place, and the step alone is wanted."),  # fmt: skip
    mistake("no random numbers", ("    torch.set_rng_state(states[\"torch\"])\n", ""), ("    np.random.set_state(states[\"numpy\"])\n    random.setstate(states[\"python\"])\n", ""),
            says="The generators are not put back, so dropout and everything else that draws goes on with other numbers."),  # fmt: skip
    mistake("left in evaluation mode", ("    return checkpoint[\"step\"]", "    for part in parts.values():\n        if isinstance(part, nn.Module):\n            part.eval()\n    return checkpoint[\"step\"]"),
            says="The model is left in evaluation mode, so training goes on without dropout and with frozen running statistics. Its mode is not in the file; leave it as it is."),  # fmt: skip
    mistake("torch's generator forgotten", ("    torch.set_rng_state(states[\"torch\"])\n", ""),
            says="torch's generator is not put back; dropout draws other numbers than it would have."),  # fmt: skip
    mistake("numpy's generator forgotten", ("    np.random.set_state(states[\"numpy\"])\n", ""),
            says="numpy's generator is not put back."),  # fmt: skip
    mistake("Python's generator forgotten", ("    random.setstate(states[\"python\"])\n", ""),
            says="Python's generator (the module `random`) is not put back."),  # fmt: skip
    mistake("only torch's generator", ("    np.random.set_state(states[\"numpy\"])\n    random.setstate(states[\"python\"])\n", ""),
            says="Only torch's generator is put back; numpy's and Python's are not."),  # fmt: skip
    mistake("the seed instead of the state", SEEDS,
            says="The generator is seeded as it was at the beginning of the run; so it repeats the numbers it has drawn already. Its state has to be saved and put back."),  # fmt: skip
    mistake("seeded by the step", ("torch.set_rng_state(states[\"torch\"])", "torch.manual_seed(checkpoint[\"step\"])"),
            says="The generator is seeded with the step. That gives the same numbers at each loading, but not those that the run would have drawn."),  # fmt: skip
    mistake("the model alone", (OF_ALL_PARTS, OF_ALL_PARTS + "        if not isinstance(part, nn.Module):\n            continue\n"),
            says="Only the model is filled; optimiser, schedule, scaler and position begin anew."),  # fmt: skip
    mistake("model and optimiser", (OF_ALL_PARTS, OF_ALL_PARTS + "        if name not in (\"model\", \"optimizer\"):\n            continue\n"),
            says="Model and optimiser are filled; schedule, scaler and position in the data begin anew."),  # fmt: skip
    mistake("optimiser forgotten", (OF_ALL_PARTS, OF_ALL_PARTS + "        if name == \"optimizer\":\n            continue\n"),
            says="The optimiser is not filled; its averages begin anew."),  # fmt: skip
    mistake("schedule forgotten", (OF_ALL_PARTS, OF_ALL_PARTS + "        if name == \"scheduler\":\n            continue\n"),
            says="The schedule is not filled, so it begins anew."),  # fmt: skip
    mistake("position in the data forgotten", (OF_ALL_PARTS, OF_ALL_PARTS + "        if name == \"data\":\n            continue\n"),
            says="The position in the data is not filled: the data begin anew."),  # fmt: skip
    mistake("scaler forgotten", (OF_ALL_PARTS, OF_ALL_PARTS + "        if name == \"scaler\":\n            continue\n"),
            says="The scaler is not filled; its factor is the one it was made with."),  # fmt: skip
    mistake("the names are bound anew", ("        part.load_state_dict(checkpoint[\"parts\"][name])", "        parts[name] = checkpoint[\"parts\"][name]"),
            says="The parts that were passed are not changed: another object is bound to their names in a dict that ends with the function. Fill them, with `load_state_dict`."),  # fmt: skip
    mistake("only the first part", ("        part.load_state_dict(checkpoint[\"parts\"][name])", "        part.load_state_dict(checkpoint[\"parts\"][name])\n        break"),
            says="Only the first part is filled."),  # fmt: skip
    mistake("every part that the file holds", ("    for name, part in parts.items():\n        part.load_state_dict(checkpoint[\"parts\"][name])", "    for name, state in checkpoint[\"parts\"].items():\n        parts[name].load_state_dict(state)"),
            says="Every part in the file is filled, and whoever asks for fewer gets a KeyError. Go through the parts that were passed."),  # fmt: skip
    mistake("a number is drawn after all is set", ("    return checkpoint[\"step\"]", "    torch.rand(1)\n    return checkpoint[\"step\"]"),
            says="Something draws from torch's generator after it has been put back, so all that follows is shifted. Put the generators back last."),  # fmt: skip
    mistake("generators only with all parts", ("    torch.set_rng_state(states[\"torch\"])\n", "    if set(parts) == set(checkpoint[\"parts\"]):\n        torch.set_rng_state(states[\"torch\"])\n"),
            says="torch's generator is put back only if all parts are asked for; the generators are put back in any case."),  # fmt: skip
    mistake("another place in numpy's keys", ("np.random.set_state(states[\"numpy\"])", "np.random.set_state((*states[\"numpy\"][:2], 624, *states[\"numpy\"][3:]))"),
            says="numpy's generator gets its keys back, but another place in them than it had. Put back all that `get_state` gave."),  # fmt: skip
    mistake("numpy's number in reserve forgotten", ("np.random.set_state(states[\"numpy\"])", "np.random.set_state(states[\"numpy\"][:3])"),
            says="numpy's generator is put back without the last two entries of its state. It makes normal numbers in pairs and keeps the second in reserve: that one is lost."),  # fmt: skip
    mistake("Python's number in reserve forgotten", ("random.setstate(states[\"python\"])", "random.setstate((*states[\"python\"][:2], None))"),
            says="Python's generator is put back without the last entry of its state. `random.gauss` makes numbers in pairs and keeps the second in reserve: that one is lost."),  # fmt: skip
)
equivalents(
    "load_checkpoint",
    {
        'option dropped: `checkpoint = torch.load(path, map_location="cpu", weights_only=True)` → `checkpoint = torch.load(path, weights_only=True)`': "checks run where the tensors were saved",
        'truth value: `checkpoint = torch.load(path, map_location="cpu", weights_only=True)` → `checkpoint = torch.load(path, map_location="cpu", weights_only=False)`': "a precaution against files of others",
        "condition: `if torch.cuda.is_available()` → `if True`": "without a GPU the list is empty",
        "condition: `if torch.cuda.is_available()` → `if False`": "without a GPU there is nothing to set",
        "condition: `if torch.cuda.is_available()` → `if not (torch.cuda.is_available())`": "without a GPU the list is empty",
    },
)


# %% tags=["alternative"]
@alternative("generators first, parts by a sorted loop")
def load_checkpoint(path, **parts):
    with open(path, "rb") as file:
        content = torch.load(file, map_location=torch.device("cpu"))
    random.setstate(content["random"]["python"])
    np.random.set_state(content["random"]["numpy"])
    torch.random.set_rng_state(content["random"]["torch"].cpu())
    for name in sorted(parts):
        parts[name].load_state_dict(content["parts"][name])
    return int(content["step"])


# %% tags=["alternative"]
@alternative("the file read into memory, a dict of setters")
def load_checkpoint(path, **parts):
    import io

    saved = torch.load(io.BytesIO(Path(path).read_bytes()), map_location=lambda storage, place: storage, weights_only=False)
    setters = {"torch": torch.default_generator.set_state, "numpy": np.random.set_state, "python": random.setstate}
    for name in parts.keys() & saved["parts"].keys():
        parts[name].load_state_dict(copy.deepcopy(saved["parts"][name]))
    for name, put_back in setters.items():
        put_back(saved["random"][name])
    return saved["step"]


# %% tags=["alternative"]
@alternative("copied into the model's tensors by hand")
def load_checkpoint(path, **parts):
    checkpoint = torch.load(str(path), weights_only=True)
    for name, part in parts.items():
        saved = checkpoint["parts"][name]
        if isinstance(part, nn.Module):
            with torch.no_grad():
                for key, tensor in part.state_dict().items():
                    tensor.copy_(saved[key])
        else:
            part.load_state_dict(saved)
    kind, keys, *rest = checkpoint["random"]["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    random.setstate(checkpoint["random"]["python"])
    torch.set_rng_state(checkpoint["random"]["torch"])
    return checkpoint["step"]


# %% tags=["alternative"]
@alternative("map, and the rest in one go")
def load_checkpoint(path, **parts):
    checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    list(map(lambda item: item[1].load_state_dict(checkpoint["parts"][item[0]]), parts.items()))
    torch.set_rng_state(checkpoint["random"]["torch"].clone()), np.random.set_state(checkpoint["random"]["numpy"]), random.setstate(checkpoint["random"]["python"])
    return checkpoint["step"]

# %% [markdown]
# ### Try it: interrupted, resumed, drawn on top of each other
#
# The small Transformer, with dropout. One run makes 60 steps. The other makes 25, saves, and is thrown away; new objects, built with another seed, load the file and go on.

# %% tags=["picture"]
class CopyStream:
    """Batches of the copy task, one after the other; batch n is the same whenever it is asked for, so its position is one number."""

    def __init__(self):
        self.position = 0

    def next(self):
        self.position += 1
        return next(copy_batches(1, batch_size=16, longest=5, seed=1000 + self.position))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def copying_parts(seed):
    model = copying_model(dropout=0.1)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step + 1, 10, 60))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "data": CopyStream()}


def copying_steps(parts, steps):
    losses = []
    for _ in range(steps):
        loss = copying_loss(parts["model"], *parts["data"].next())
        parts["optimizer"].zero_grad()
        loss.backward()
        clip_gradients(parts["model"].parameters(), 1.0)
        parts["optimizer"].step(), parts["scheduler"].step()
        losses.append(loss.item())
    return losses


with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "last.pt"
    uninterrupted = copying_parts(seed=1)
    whole = copying_steps(uninterrupted, 60)
    first = copying_parts(seed=1)
    beginning = copying_steps(first, 25)
    save_checkpoint(file, 25, **first)
    size = file.stat().st_size
    resumed = copying_parts(seed=999)
    step = load_checkpoint(file, **resumed)
    rest = copying_steps(resumed, 60 - step)
    weights_alone = copying_parts(seed=999)  # what many scripts do
    load_checkpoint(file, model=weights_alone["model"])
    rest_of_those = copying_steps(weights_alone, 60 - step)
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(range(1, 61), whole, color=GREY, linewidth=4, alpha=0.6, label="not interrupted")
axis.plot(range(1, 26), beginning, color=BLUE, label="until it was killed")
axis.plot(range(26, 61), rest, color=ORANGE, label="resumed, all parts")
axis.plot(range(26, 61), rest_of_those, ":", color=GREEN, label="resumed, weights alone")
axis.axvline(25.5, color=GREY, linestyle="--", linewidth=1)
axis.set(title="A run with an interruption after step 25", xlabel="step", ylabel="cross-entropy (nats)")
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()
same = all(torch.equal(a, b) for a, b in zip(uninterrupted["model"].parameters(), resumed["model"].parameters()))
print(f"losses of steps 26 to 60 equal: {rest == whole[25:]};  weights after step 60 equal, bit for bit: {same};  the file has {size / 1024:.0f} KiB")
print(f"mean loss of steps 26 to 60: {sum(whole[25:]) / 35:.4f} not interrupted, {sum(rest) / 35:.4f} resumed, {sum(rest_of_those) / 35:.4f} with the weights alone")

# %% [markdown]
# **What to see.** The orange line runs exactly in the middle of the grey one: same losses, same weights, bit for bit. The dotted one has the weights and nothing else. Its schedule warms up again, Adam knows nothing of the past and the data begin anew: it looks like training, and is another run.
#
# Bit for bit holds on one machine with one version of torch. On GPUs some operations add up in no fixed order; `torch.use_deterministic_algorithms(True)` says which, or replaces them.

# %% [markdown]
# ## Exercise 7 · `first_non_finite`
#
# *Difficulty ●●○ · 15 minutes · 2 points*
#
# One NaN is enough: it spreads through every sum, and after one update all parameters are NaN. By then the loss says only *that* it happened. *Where* it began can be seen in the forward pass, module by module, with a hook: a function that PyTorch calls whenever a module has returned something. (A hook that hung there before you came is somebody else's: take off your own alone.)
#
# A module returns after the modules inside it. So if `encoder.layers.0.self_attention.w_q` is fine and `encoder.layers.0.self_attention` is not, then the mistake is in what the attention does itself, between its layers.


# %% tags=["export"]
def first_non_finite(model: nn.Module, *inputs: Any) -> str | None:
    """The module in which NaN or ±∞ first appears, in the order in which modules return.

    Args:
        model: called once, as model(*inputs), in the mode it is in.
        inputs: what it is called with.

    Returns: the qualified name, as in `model.named_modules()`, of the first module that returns a
        tensor with an entry that is not finite, perhaps within tuples, lists or dicts, which may
        hold one another. "" if that is the model itself, and no module in it. None if everything
        that is returned is finite. No hook stays behind, also if the model raises an error.
    """
    ### BEGIN SOLUTION
    found: list[str] = []

    def finite(output: Any) -> bool:
        if isinstance(output, Tensor):
            return bool(output.isfinite().all())
        if isinstance(output, dict):
            output = list(output.values())
        return all(finite(item) for item in output) if isinstance(output, (tuple, list)) else True

    def listen(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if not finite(output):
                found.append(name)

        return hook  # made by a function, so that each hook has its own name

    hooks = [module.register_forward_hook(listen(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
    ### END SOLUTION


# %%
@check("first_non_finite", points=2)
def _(case):
    class Spoil(nn.Module):
        """Hands its input on, with one entry spoilt; in what form it hands it on is its own business."""

        def __init__(self, value=None, form="tensor", only_in=None):
            super().__init__()
            self.value, self.form, self.only_in = value, form, only_in

        def forward(self, x):
            while not isinstance(x, Tensor):
                x = x["y"] if isinstance(x, dict) else x[-1]
            y = x.clone()
            if self.value is not None and self.only_in in (None, self.training):
                y[0, -1] = self.value
            return {"nested": (torch.ones_like(x), [{"y": y}]), "tensor": y, "tuple": (x.abs().clamp(max=1), y), "head": (y, x), "list": [torch.ones_like(x), y], "dict": {"n": 3, "none": None, "y": y}}[self.form]

    class Block(nn.Module):
        """Two layers and something of its own in between."""

        def __init__(self, own=None, **inside):
            super().__init__()
            self.second, self.first = inside.get("second", nn.Linear(3, 3)), inside.get("first", nn.Linear(3, 3))  # not in the order of use
            self.own = own

        def forward(self, x):
            x = self.first(x)
            x = self.second(x if self.own is None else x + self.own)
            return x[-1] if isinstance(x, tuple) else x["y"] if isinstance(x, dict) else x

    def hooks(model):
        return {number for module in model.modules() for number in (*module._forward_hooks, *module._forward_pre_hooks)}

    def ask(name, model, *inputs, evaluating=False):
        model = model.to(case.device)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.eye(*parameter.shape) if parameter.dim() == 2 else torch.zeros_like(parameter))
        model.train(not evaluating)
        inputs = inputs or (case.uniform(2, 3, low=0.5, high=1.5),)
        calls = []
        theirs = model.register_forward_pre_hook(lambda *given: calls.append(1)), model.register_forward_hook(lambda *given: None)
        before = hooks(model)
        error = None
        try:
            result = first_non_finite(model, *inputs)
        except ZeroDivisionError as raised:  # the model's own
            result, error = "the model's error", raised
        case.record(name, result, about="the name")
        after = hooks(model)
        called = {0: "never", 1: "once"}.get(len(calls), "more than once")
        mode = "as before" if model.training != evaluating else "changed"
        case.record(f"{name}: afterwards", {"hooks left": len(after - before), "hooks of others": "as before" if before <= after else "removed", "calls of the model": called, "mode": mode}, about="state,")
        [hook.remove() for hook in theirs]

    nan, inf = math.nan, math.inf
    ask("all is finite", nn.Sequential(nn.Linear(3, 3), nn.Tanh()))
    ask("NaN in the second of three", nn.Sequential(nn.Linear(3, 3), Spoil(nan), nn.Linear(3, 3)))
    ask("∞ in the first", nn.Sequential(Spoil(inf), nn.Linear(3, 3)))
    ask("−∞ in the first, bounded by the second", nn.Sequential(Spoil(-inf), nn.Sigmoid()))
    ask("two levels down", nn.Sequential(nn.Linear(3, 3), Block(first=Spoil(nan)), nn.Linear(3, 3)))
    ask("in what a block does between its layers", nn.Sequential(Block(), Block(own=nan, second=nn.Identity())))
    ask("within a tuple", nn.Sequential(nn.Linear(3, 3), Spoil(nan, "tuple"), Spoil()))
    ask("at the head of a tuple", nn.Sequential(nn.Linear(3, 3), Spoil(nan, "head"), Spoil()))
    ask("∞ handed on twice, then bounded", nn.Sequential(Spoil(inf), nn.Identity(), nn.Sigmoid()))
    ask("all is finite, a number and None beside it", nn.Sequential(nn.Linear(3, 3), Spoil(None, "dict"), Spoil()))
    ask("in training mode only, trained", nn.Sequential(nn.Linear(3, 3), Spoil(nan, only_in=True), nn.Tanh()))
    ask("the model itself, no module in it", Spoil(inf))

    class Alone(Block):
        def forward(self, x):
            return super().forward(x) / torch.zeros(3, device=x.device)

    ask("a division by 0 in the model's own forward", Alone())

    class Raises(Block):
        def forward(self, x):
            super().forward(x)
            raise ZeroDivisionError("division by zero")

    ask("the model raises an error", Raises())
    ### BEGIN HIDDEN TESTS
    ask("within a dict", nn.Sequential(Spoil(nan, "dict"), Spoil()))
    ask("within a list", nn.Sequential(nn.Tanh(), Spoil(inf, "list"), Spoil()))
    ask("within a dict in a list in a tuple", nn.Sequential(nn.Tanh(), Spoil(nan, "nested"), Spoil()))
    ask("what an inner block does after its layers", nn.Sequential(Alone(), nn.Tanh()))
    ask("∞ comes in and is bounded at once", nn.Sequential(nn.Sigmoid(), nn.Linear(3, 3)), torch.full((2, 3), inf, device=case.device))
    ask("in evaluation mode only", nn.Sequential(nn.Linear(3, 3), Spoil(nan, only_in=False), nn.Tanh()), evaluating=True)
    ask("in training mode only, evaluated", nn.Sequential(nn.Linear(3, 3), Spoil(nan, only_in=True), nn.Tanh()), evaluating=True)
    ask("used first, registered last", nn.Sequential(Block(first=Spoil(nan), second=Spoil(inf))))
    ask("large, but finite", nn.Sequential(nn.Linear(3, 3), nn.Tanh()), 3e38 * torch.ones(2, 3, device=case.device))
    ask("three levels down", nn.Sequential(nn.Sequential(nn.Tanh(), Block(second=Block(first=Spoil(-inf))))))

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Identity(), Spoil(nan)

        def forward(self, tokens, x):
            return self.left(tokens), self.right(x)

    ask("two inputs, whole numbers among them", Two(), case.integers(0, 5, 2, 3), case.uniform(2, 3))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "first_non_finite",
    "Which returns first, a layer or the block that holds it? Then the first hook that sees something bad has the name you want.",
    "`torch.nn.Module.register_forward_hook`: the hook is called as hook(module, args, output) *after* forward, and registering returns a handle with `remove()`. `named_modules()` has all modules with their qualified names.",
    "Hang a hook on every module that notes the module's name if its output (a tensor, or something that holds tensors) is not finite everywhere. Make each hook in a function that takes the name. Run the model; remove the hooks whatever happens; return the first name noted.",
)
misconceptions(
    "first_non_finite",
    mistake("NaN only", ("bool(output.isfinite().all())", "not bool(output.isnan().any())"),
            says="Only NaN counts; ±∞ is where most NaN come from (∞ − ∞, ∞/∞)."),  # fmt: skip
    mistake("∞ only", ("bool(output.isfinite().all())", "not bool(output.isinf().any())"),
            says="Only ±∞ counts, NaN does not."),  # fmt: skip
    mistake("−∞ forgotten", ("bool(output.isfinite().all())", "not bool((output.isnan() | output.isposinf()).any())"),
            says="−∞ is not noticed; isfinite covers NaN and both infinities."),  # fmt: skip
    mistake("the last module", ("return found[0] if found else None", "return found[-1] if found else None"),
            says="The last module that shows it is named, which is the model itself; the first one is where it begins."),  # fmt: skip
    mistake("what comes in", ("if not finite(output):", "if not finite(given):"),
            says="The hooks look at what goes into a module, so the culprit's successor is named. Look at what comes out."),  # fmt: skip
    mistake("innermost modules only", ("for name, module in model.named_modules()]", "for name, module in model.named_modules() if not list(module.children())]"),
            says="Only modules without modules inside are listened to. What a block does between its layers (a softmax in an attention, say) belongs to the block."),  # fmt: skip
    mistake("outermost modules only", ("in model.named_modules()]", "in model.named_children()]"),
            says="Only the model's direct children are listened to (`named_children`); it has more levels: `named_modules`."),  # fmt: skip
    mistake("the model itself left out", ("for name, module in model.named_modules()]", "for name, module in model.named_modules() if name]"),
            says="What the model itself spoils is not reported: it has no hook, or its name \"\" was taken for nothing because it counts as false."),  # fmt: skip
    mistake("hooks left behind", ("        for hook in hooks:\n            hook.remove()", "        pass"),
            says="The hooks stay on the modules: every later call is slowed down, and calls add up. Remove them."),  # fmt: skip
    mistake("hooks left behind after an error", ("    try:\n        with torch.no_grad():\n            model(*inputs)\n    finally:\n        for hook in hooks:\n            hook.remove()", "    model(*inputs)\n    for hook in hooks:\n        hook.remove()"),
            says="If the model raises an error the hooks stay behind. Remove them in a `finally`."),  # fmt: skip
    mistake("all hooks have the last name", ("    hooks = [module.register_forward_hook(listen(name)) for name, module in model.named_modules()]\n",
            "    hooks = []\n    for name, module in model.named_modules():\n        def look(module, given, output):\n            if not finite(output):\n                found.append(name)\n        hooks.append(module.register_forward_hook(look))\n"),
            says="All hooks share one variable, which holds the last module's name when they are called (a closure in a loop). Bind the name, in a function or as a default argument."),  # fmt: skip
    mistake("tensors alone", ("        if isinstance(output, dict):\n            output = list(output.values())\n        return all(finite(item) for item in output) if isinstance(output, (tuple, list)) else True", "        return True"),
            says="Only outputs that are a tensor are looked at; an attention returns a tuple. Look into tuples, lists and dicts."),  # fmt: skip
    mistake("only the first of a tuple", ("return all(finite(item) for item in output) if", "return finite(output[0]) if"),
            says="Of a tuple only the first item is looked at."),  # fmt: skip
    mistake("the kind of module", ("found.append(name)", "found.append(type(module).__name__)"),
            says="The class is returned, of which there may be many; the qualified name says which one it is."),  # fmt: skip
    mistake("the last part of the name", ("found.append(name)", "found.append(name.rpartition(\".\")[2])"),
            says="Only the last part of the name is returned; the qualified name has the whole path."),  # fmt: skip
    mistake("in the order of registration", ("return found[0] if found else None", "return next((name for name, _ in model.named_modules() if name in found), None)"),
            says="The names are gone through in the order of `named_modules`, where a block stands before its layers: the outermost is named. Go by the order in which modules return."),  # fmt: skip
    mistake("evaluation mode", ("    hooks = ", "    model.eval()\n    hooks = "),
            says="The model is put into evaluation mode; leave the mode as it is, since some NaN arise in one mode only."),  # fmt: skip
    mistake("evaluated, the mode put back", ("    hooks = ", "    mode = model.training\n    model.eval()\n    hooks = "), ("            hook.remove()\n", "            hook.remove()\n        model.train(mode)\n"),
            says="The model runs in evaluation mode, though its mode is put back afterwards; run it as it is, since some NaN arise in one mode only."),  # fmt: skip
    mistake("an empty text for nothing", ("found else None", "found else \"\""),
            says="Where everything is finite \"\" is returned, which is the name of the model itself; None is wanted."),  # fmt: skip
    mistake("all of them", ("return found[0] if found else None", "return \", \".join(found) or None"),
            says="All modules that show it are returned; the first one is wanted."),  # fmt: skip
    mistake("called twice", ("            model(*inputs)\n", "            model(*inputs)\n            found.clear()\n            model(*inputs)\n"),
            says="The model is called more than once. A call can change things (running statistics, a generator), and of a large model it is dear: hang up all hooks, then call it once."),  # fmt: skip
    mistake("the hooks of others removed", ("        for hook in hooks:\n            hook.remove()", "        for module in model.modules():\n            module._forward_hooks.clear()"),
            says="All forward hooks are removed, those of others too. Keep the handles that registering returned, and remove these."),  # fmt: skip
)
equivalents(
    "first_non_finite",
    {
        "call swapped: `with torch.no_grad()` → `with torch.enable_grad()`": "a forward pass gives the same with and without a graph; it only costs more",
    },
)


# %% tags=["alternative"]
@alternative("default arguments, stopped by an exception")
def first_non_finite(model, *inputs):
    class Found(Exception):
        pass

    def bad(output):
        if torch.is_tensor(output):
            return bool((~torch.isfinite(output)).any())
        if isinstance(output, (list, tuple)):
            return any(map(bad, output))
        return isinstance(output, dict) and any(map(bad, output.values()))

    handles = []
    for name, module in model.named_modules():
        def hook(module, args, output, name=name):
            if bad(output):
                raise Found(name)

        handles.append(module.register_forward_hook(hook))
    try:
        model(*inputs)
        return None
    except Found as found:
        return found.args[0]
    finally:
        [handle.remove() for handle in handles]


# %% tags=["alternative"]
@alternative("one global hook, names looked up")
def first_non_finite(model, *inputs):
    from torch.nn.modules.module import register_module_forward_hook
    from torch.utils import _pytree

    names, log = {module: name for name, module in model.named_modules()}, []

    def hook(module, args, output):
        leaves = [leaf for leaf in _pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if module in names and not all(torch.isfinite(leaf).all() for leaf in leaves):
            log.append(names[module])

    handle = register_module_forward_hook(hook)
    try:
        model(*inputs)
    finally:
        handle.remove()
    return next(iter(log), None)


# %% tags=["alternative"]
@alternative("functools.partial and an ExitStack")
def first_non_finite(model, *inputs):
    from contextlib import ExitStack
    from functools import partial

    first = []

    def tensors(thing):
        if isinstance(thing, Tensor):
            yield thing
        elif isinstance(thing, dict):
            yield from (t for value in thing.values() for t in tensors(value))
        elif isinstance(thing, (tuple, list)):
            yield from (t for value in thing for t in tensors(value))

    def look(name, module, args, output):
        if not first and any(t.isnan().any() or t.isinf().any() for t in tensors(output)):
            first.append(name)

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(partial(look, name)).remove)
        with torch.inference_mode():
            model(*inputs)
    return first[0] if first else None


# %% tags=["alternative"]
@alternative("by recursion over the children")
def first_non_finite(model, *inputs):
    handles, seen = [], []

    def sound(output):
        if isinstance(output, dict):
            return sound(list(output.values()))
        if isinstance(output, (list, tuple)):
            return min([sound(item) for item in output], default=True)
        return not isinstance(output, Tensor) or torch.equal(output - output, torch.zeros_like(output))  # x − x is 0 for finite x alone

    def attach(module, path):
        for name, child in module.named_children():
            attach(child, path + [name])
        handles.append(module.register_forward_hook(lambda m, a, output: None if sound(output) else seen.append(".".join(path))))

    attach(model, [])
    try:
        model(*inputs)
    finally:
        while handles:
            handles.pop().remove()
    if not seen:
        return None
    return seen[0]

# %% [markdown]
# ### Try it: a NaN in a real model
#
# Below, one attention of the small Transformer masks with $-\infty$ and does not think of queries that may attend to nothing (week 2, question 2). One sentence of the second batch is empty. The loss only says that it is NaN.

# %%
class UnguardedAttention(MultiHeadAttention):
    """Multi-head attention with −∞ for what is masked, and no thought of rows in which everything is."""

    def forward(self, query, key, value, mask=None):
        q, k, v = (split_heads(projection(x), self.h) for projection, x in ((self.w_q, query), (self.w_k, key), (self.w_v, value)))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, h, Lq, Lk)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), -math.inf)
        weights = torch.softmax(scores, dim=-1)
        return self.w_o(merge_heads(weights @ v)), weights


def unguarded(attention):
    """The same attention with the same weights, unguarded."""
    attention.__class__ = UnguardedAttention
    return attention


# %% tags=["picture"]
model = copying_model()
unguarded(model.encoder.layers[0].self_attention)
batches = list(copy_batches(3, batch_size=4, longest=5, seed=SEED))
batches[1][0][2] = PAD_ID  # an empty source sentence
for number, (src, target) in enumerate(batches, start=1):
    reading, _ = teacher_forcing(target)
    print(f"batch {number}: loss {copying_loss(model, src, target).item():.3f}, first module that is not finite: {first_non_finite(model, src, reading)}")

# %% [markdown]
# **What to see.** The name ends in an output projection, `w_o`, since that is the first *module* to return what the softmax before it has spoilt; its inputs, `w_q`, `w_k` and `w_v`, are fine. So it lies between: in the lines of the attention itself.

# %% [markdown]
# ## Exercise 8 · `diagnose`
#
# *Difficulty ●●● · 35 minutes · 4 points*
#
# Most bugs in training code raise no error. The run goes on, and learns badly, or suspiciously well. Four of them, and the experiment that finds each:
#
# | finding | the bug | experiment |
# | --- | --- | --- |
# | `"not finite"` | for some batch, a module returns NaN or ∞ | **find the NaN**: `first_non_finite`, for every batch |
# | `"sees the future"` | a position can look at target tokens that come after it, so its answer | change the last token the decoder reads: nothing may change before it |
# | `"graph cut"` | somewhere the graph is cut (`detach`, `.data`, `no_grad`), and what lies before it learns nothing | **overfit one batch**: a model that cannot learn a few sentences by heart is broken. But a decoder can learn them although its encoder does not, so also ask which parts have a gradient |
# | `"gradients pile up"` | gradients are not cleared | **watch the gradient norm**: with a learning rate of 0 nothing changes, so the same batch has to give the same gradient each time |
# | `"healthy"` | none | – |
#
# You write the function that tells them apart. It gets a run with at most one of these bugs, and may do with it what it likes: train it, change its learning rate, look at gradients. There is no dropout: when you look for a bug, first switch off everything that draws.
#
# Runs come from the cell below. `run.update` is one step of training as somebody wrote it; you are not meant to read the bug off the code (a thousand lines of somebody else's would not tell you either), but to find it by what the run *does*.


# %%
class Run:
    """A training run to be examined.

    Attributes: `model`, a Transformer without dropout; `optimizer`; `batches`, a list of (src (B, S), target (B, T)), all small.
    """

    def __init__(self, model, batches, lr=0.01):
        self.model, self.batches = model, batches
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self._prepare = self.optimizer.zero_grad

    def loss(self, src, target):
        """Mean cross-entropy over what is not padding, with teacher forcing; a tensor without dimensions."""
        reading, labels = teacher_forcing(target)
        return F.cross_entropy(self.model(src, reading).flatten(0, 1), labels.flatten(), ignore_index=self.model.pad_id)

    def update(self, src, target):
        """One update. Returns the loss before it, as a float; the gradients it was made with are still in `.grad` afterwards."""
        self._prepare()
        loss = self.loss(src, target)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def plant(run, bug, cut="memory"):
    """Give a healthy run one of the bugs."""
    model = run.model
    encode, decode = model.encode, model.decode

    def without_causal_mask(tgt, memory, src):
        hidden = model.decoder(model.embed(tgt, model.tgt_embedding), memory, padding_mask(tgt, model.pad_id), padding_mask(src, model.pad_id))
        return model.output(hidden)

    if bug == "not finite":
        unguarded(model.encoder.layers[-1].self_attention)
    elif bug == "sees the future":
        model.decode = without_causal_mask
    elif bug == "graph cut" and cut == "memory":
        model.encode = lambda src: encode(src).detach()
    elif bug == "graph cut":
        decoder = model.decoder.forward
        model.decoder.forward = lambda *given: decoder(*given).detach()
    elif bug == "gradients pile up":
        run._prepare = lambda: None
    return run


# %% tags=["export"]
def diagnose(run: Any) -> str:
    """Which bug a training run has, found by experiment.

    Args:
        run: has `model` (a Transformer without dropout, in training mode), `optimizer`, `batches`
            (a list of (src (B, S), target (B, T)), padded with model.pad_id), `loss(src, target)`
            and `update(src, target)`, which makes one update and leaves its gradients in `.grad`.
            It may be changed.

    Returns: "not finite", "sees the future", "graph cut", "gradients pile up" or "healthy".
    """
    ### BEGIN SOLUTION
    for src, target in run.batches:  # one bad batch is enough, and it need not be the first
        if first_non_finite(run.model, src, target[:, :-1]) is not None:
            return "not finite"

    src, target = run.batches[0]
    reading = target[:, :-1]
    other = reading.clone()
    other[:, -1] = reading[:, 1]  # another word at the last position
    with torch.no_grad():
        before, after = run.model(src, reading)[:, :-1], run.model(src, other)[:, :-1]
    if not torch.allclose(before, after, atol=1e-4):
        return "sees the future"

    for group in run.optimizer.param_groups:
        group["lr"] = 0.0  # nothing moves: the same batch has the same gradient
    norms = []
    for _ in range(2):
        run.update(src, target)
        norms.append(clip_gradients(run.model.parameters(), math.inf))  # clips nothing, and says the norm
    for part in run.model.children():
        parameters = list(part.parameters())
        if parameters and all(p.grad is None or not p.grad.any() for p in parameters):
            return "graph cut"
    return "gradients pile up" if norms[1] > 1.5 * norms[0] else "healthy"
    ### END SOLUTION


# %%
@check("diagnose", points=4)
def _(case):
    def sentences(count, B, length, empty):
        batches = []
        for number in range(count):
            src = case.integers(3, 11, B, length)
            target = torch.cat([torch.ones_like(src[:, :1]), src, torch.full_like(src[:, :1], 2)], dim=1)
            target[:, -2] = 3 + (target[:, 1] - 2) % 8  # the last word is not the first
            if number == empty:
                src[-1] = PAD_ID
            batches.append((src, target))
        return batches

    def examine(name, bug, count=3, B=4, length=5, empty=1, N=1, pre_norm=False, cut="memory"):
        model = Transformer(12, 12, d_model=16, h=2, N=N, d_ff=24, dropout=0.0, pad_id=PAD_ID, pre_norm=pre_norm).to(case.device)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(case.normal(*parameter.shape, scale=parameter.shape[-1] ** -0.5))
        run = plant(Run(model, sentences(count, B, length, empty)), "healthy" if cut == "target" else bug, cut)
        if cut == "target":  # behind the embedding of what the decoder reads
            embed = model.embed
            model.embed = lambda tokens, embedding: embed(tokens, embedding).detach() if embedding is model.tgt_embedding else embed(tokens, embedding)
        case.record(name, diagnose(run), about="the finding")

    bugs = ["healthy", "gradients pile up", "not finite", "graph cut", "sees the future"]
    for number, bug in enumerate(bugs, start=1):
        examine(f"run {number}", bug, empty=0)
    examine("run 6: another place", "graph cut", cut="decoder")
    examine("run 7: another batch", "not finite", count=4, empty=3)
    examine("run 8: other sizes", "healthy", B=3, length=7, N=2)
    examine("run 9: a third place", "graph cut", cut="target")
    ### BEGIN HIDDEN TESTS
    for number, index in enumerate(case.permutation(5).tolist(), start=10):
        examine(f"run {number}", bugs[index], B=5, length=4, pre_norm=True)
    for number, index in enumerate(case.permutation(5)[:3].tolist(), start=15):
        examine(f"run {number}", bugs[index], count=2, B=2, length=6, empty=0, N=2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
HEALTHY = "    return \"gradients pile up\" if norms[1] > 1.5 * norms[0] else \"healthy\""
hints(
    "diagnose",
    "Which of the experiments can be spoilt by the other bugs? (Is NaN equal to NaN?) That decides the order.",
    "The table above has an experiment for each. For `graph cut`: a parameter of a part that learns nothing has `.grad` None, or zeros. For `gradients pile up`: set the optimiser's learning rate to 0 and update twice on one batch.",
    "First every batch through first_non_finite. Then two forward passes whose inputs differ in the last token the decoder reads; compare all earlier positions, with a little tolerance. Then, at a learning rate of 0, two updates on one batch: is there a child of the model without any gradient? Is the second gradient twice the first?",
)
misconceptions(
    "diagnose",
    mistake("only the first batch", ("for src, target in run.batches:", "for src, target in run.batches[:1]:"),
            says="Only the first batch is looked at for NaN; the one that spoils everything may be any of them."),  # fmt: skip
    mistake("NaN taken for the future", ("            return \"not finite\"\n", "            return \"sees the future\"\n"),
            says="A run that is not finite is said to see the future: NaN differs from everything, itself included. Look for NaN first."),  # fmt: skip
    mistake("NaN not looked for", ("    for src, target in run.batches:  # one bad batch is enough, and it need not be the first\n        if first_non_finite(run.model, src, target[:, :-1]) is not None:\n            return \"not finite\"\n", ""),
            ("    src, target = run.batches[0]", "    def bad(src, target):\n        return first_non_finite(run.model, src, target[:, :-1]) is not None\n\n    src, target = run.batches[0]\n    if any(bad(*batch) for batch in run.batches):\n        return \"healthy\""),
            says="A run that is not finite is called healthy: look at every batch with first_non_finite."),  # fmt: skip
    mistake("the last position counts", ("run.model(src, reading)[:, :-1], run.model(src, other)[:, :-1]", "run.model(src, reading), run.model(src, other)"),
            says="Healthy runs are said to see the future. The position that reads the changed token has to change, and so do those after it: change the last token, and compare only what stands before it."),  # fmt: skip
    mistake("the future not looked for", ("        return \"sees the future\"", "        return \"healthy\""),
            says="A run whose decoder sees the future is called healthy. It learns suspiciously well: change a later token and see what happens to earlier logits."),  # fmt: skip
    mistake("missing gradients not looked for", ("            return \"graph cut\"", "            return \"healthy\""),
            says="A run whose graph is cut is called healthy. What lies behind the cut still has gradients, and may even overfit a batch: ask each part of the model by itself."),  # fmt: skip
    mistake("a zero counts as a cut", ("        if parameters and all(p.grad is None or not p.grad.any() for p in parameters):", "        if any(p.grad is not None and not p.grad.all() for p in parameters):"),
            says="Single zeros in a gradient count as a cut graph. Words that do not occur and units that ReLU has switched off have gradient 0 in every healthy run; ask whether a whole part has none."),  # fmt: skip
    mistake("piling up not looked for", (HEALTHY, "    return \"healthy\""),
            says="A run whose gradients pile up is called healthy. Watch the gradient norm at a learning rate of 0: on the same batch it has to stay the same."),  # fmt: skip
    mistake("any gradient piles up", ("norms[1] > 1.5 * norms[0]", "norms[1] > 0.5 * norms[0]"),
            says="Healthy runs are said to pile up gradients. With a learning rate of 0 a healthy run has the same gradient twice, a run that piles up twice the gradient."),  # fmt: skip
    mistake("the other way round", ("norms[1] > 1.5 * norms[0] else \"healthy\"", "norms[1] < 1.5 * norms[0] else \"healthy\""),
            says="Healthy and piling up are exchanged: the gradient that grows is the ill one."),  # fmt: skip
    mistake("everything is healthy", ("    for src, target in run.batches:  # one", "    return \"healthy\"\n    for src, target in run.batches:  # one"),
            says="Every run is called healthy."),  # fmt: skip
    mistake("cut and piled up exchanged", ("            return \"graph cut\"", "            return \"gradients pile up\""), (HEALTHY, HEALTHY.replace("gradients pile up", "graph cut")),
            says="The findings “graph cut” and “gradients pile up” are exchanged."),  # fmt: skip
    mistake("two findings in other words", ("return \"not finite\"", "return \"nan\""),
            says="A run that is not finite is called by another name; the five findings are written as in the table."),  # fmt: skip
    mistake("only the encoder is asked", ("    for part in run.model.children():", "    for part in [run.model.encoder]:"),
            says="Only the encoder is asked for its gradients, so a cut of which it knows nothing goes unseen (behind the embedding of the target, say). Ask each part of the model."),  # fmt: skip
)
equivalents(
    "diagnose",
    {
        'option dropped: `if not torch.allclose(before, after, atol=1e-4)` → `if not torch.allclose(before, after)`': "without a leak the two are equal to the last bit on a CPU",
        'constant: `if not torch.allclose(before, after, atol=1e-4)` → `if not torch.allclose(before, after, atol=0.001)`': "a leak changes far more",
        'constant: `if not torch.allclose(before, after, atol=1e-4)` → `if not torch.allclose(before, after, atol=0.0)`': "without a leak the two are equal to the last bit on a CPU",
        'arguments swapped: `run.update(src, target)` → `run.update(target, src)`': "any batch of numbers does, and both are",
        'variable: `run.update(src, target)` → `run.update(target, target)`': "any batch of numbers does",
        'variable: `run.update(src, target)` → `run.update(src, src)`': "any batch of numbers does",
        'number: `for _ in range(2)` → `for _ in range(3)`': "the first two are compared",
        'comparison: `return "gradients pile up" if norms[1] > 1.5 * norms[0] else "healthy"` → `return "gradients pile up" if norms[1] >= 1.5 * norms[0] else "healthy"`': "the ratio is 1 or 2",
        'term dropped: `return "gradients pile up" if norms[1] > 1.5 * norms[0] else "healthy"` → `return "gradients pile up" if norms[1] > norms[0] else "healthy"`': "the ratio is 1 to the last bit, or 2",
        'arithmetic: `return "gradients pile up" if norms[1] > 1.5 * norms[0] else "healthy"` → `return "gradients pile up" if norms[1] > 1.5 + norms[0] else "healthy"`': "these norms are larger than 1.5",
        "variable: `if first_non_finite(run.model, src, target[:, :-1]) is not None` → `if first_non_finite(run.model, src, src[:, :-1]) is not None`": "an empty source spoils the encoder, whatever the decoder reads",
        "index: `if first_non_finite(run.model, src, target[:, :-1]) is not None` → `if first_non_finite(run.model, src, target) is not None`": "an empty source spoils the encoder, whatever the decoder reads",
        "sign: `if first_non_finite(run.model, src, target[:, :-1]) is not None` → `if first_non_finite(run.model, src, target[:, :1]) is not None`": "an empty source spoils the encoder, whatever the decoder reads",
        "number: `if first_non_finite(run.model, src, target[:, :-1]) is not None` → `if first_non_finite(run.model, src, target[:, :-2]) is not None`": "an empty source spoils the encoder, whatever the decoder reads",
        "line missing: `src, target = run.batches[0]` → `pass`": "the last batch of the loop does as well",
        "number: `src, target = run.batches[0]` → `src, target = run.batches[1]`": "any batch does",
        "index: `reading = target[:, :-1]` → `reading = target`": "a decoder without a leak has none in longer inputs either",
        "number: `reading = target[:, :-1]` → `reading = target[:, :-2]`": "nor in shorter ones",
        "variable: `reading = target[:, :-1]` → `reading = src[:, :-1]`": "nor in any other tokens; a leak shows as long as the last one is another than the second",
        "number: `other[:, -1] = reading[:, 1]` → `other[:, -1] = reading[:, 2]`": "any other token at the last position does",
        "number: `other[:, -1] = reading[:, 1]` → `other[:, -1] = reading[:, 0]`": "any other token at the last position does",
        "call swapped: `with torch.no_grad()` → `with torch.enable_grad()`": "a graph changes no value",
    },
)


# %% tags=["alternative"]
@alternative("gradients by autograd, clones of the logits, ratios of single parameters")
def diagnose(run):
    model = run.model
    if any(first_non_finite(model, src, target[:, :-1]) is not None for src, target in run.batches):
        return "not finite"
    src, target = run.batches[-1]
    reading = teacher_forcing(target)[0]
    before = model(src, reading).detach().clone()
    changed = torch.cat([reading[:, :-1], 3 + (reading[:, -1:] - 2) % 8], dim=1)
    after = model(src, changed).detach()
    if not torch.allclose(before[:, :-1], after[:, :-1], atol=1e-4):
        return "sees the future"
    try:
        found = torch.autograd.grad(run.loss(src, target), list(model.parameters()), allow_unused=True)
    except RuntimeError:
        return "graph cut"
    parts = {}
    for (name, _), gradient in zip(model.named_parameters(), found):
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0.0) + (0.0 if gradient is None else gradient.abs().sum().item())
    if min(parts.values()) == 0:
        return "graph cut"
    optimizer_rates = [group["lr"] for group in run.optimizer.param_groups]
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    sizes = []
    for _ in range(3):
        run.update(src, target)
        sizes.append(model.output.weight.grad.norm().item())
    for group, rate in zip(run.optimizer.param_groups, optimizer_rates):
        group["lr"] = rate
    return "gradients pile up" if sizes[2] > 2 * sizes[0] else "healthy"


# %% tags=["alternative"]
@alternative("gradients of the logits with respect to what was read; what an update's gradient should be")
def diagnose(run):
    for src, target in run.batches:
        with torch.no_grad():
            if not run.loss(src, target).isfinite() or first_non_finite(run.model, src, target[:, :-1]) is not None:
                return "not finite"
    src, target = run.batches[0]
    reading = target[:, :-1]
    full, short = run.model(src, reading), run.model(src, reading[:, :2])
    if (full[:, :2] - short).abs().max() > 1e-3:  # two words, alone and with their future
        return "sees the future"
    run.update(src, target)
    moved = copy.deepcopy(run.model.state_dict())
    run.optimizer.param_groups[0]["lr"] = 0.0
    run.update(src, target)
    after_two = {name: p.grad.clone() for name, p in run.model.named_parameters() if p.grad is not None}
    run.model.zero_grad()
    loss = run.loss(src, target)
    if not loss.requires_grad:
        return "graph cut"
    loss.backward()
    alone = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
    for part in ("src_embedding", "tgt_embedding", "encoder", "decoder", "output"):
        if not any(name.startswith(part) and gradient.any() for name, gradient in alone.items()):
            return "graph cut"
    far = sum((after_two[name] - alone[name]).norm() ** 2 for name in alone) ** 0.5
    return "gradients pile up" if far > 0.05 * sum(g.norm() ** 2 for g in alone.values()) ** 0.5 else "healthy"


# %% tags=["alternative"]
@alternative("leftovers planted in .grad")
def diagnose(run):
    found = [first_non_finite(run.model, src, teacher_forcing(target)[0]) for src, target in run.batches]
    if found != [None] * len(found):
        return "not finite"
    src, target = run.batches[0]
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)  # whoever clears them never sees them
    for group in run.optimizer.param_groups:
        group["lr"] = 0.0
    try:
        run.update(src, target)
    except RuntimeError:
        return "graph cut"
    gradients = {name: parameter.grad for name, parameter in run.model.named_parameters()}
    if all(gradient is not None and gradient.abs().max() > 1e5 for gradient in gradients.values()):
        return "gradients pile up"
    for part in ("src_embedding", "tgt_embedding", "encoder", "decoder", "output"):
        if all(gradient is None or gradient.abs().sum() == 0 for name, gradient in gradients.items() if name.startswith(part)):
            return "graph cut"
    with torch.no_grad():
        earlier = [run.model(src, torch.cat([target[:, :-2], word.expand(len(target), 1)], 1))[:, :-1] for word in (torch.tensor([[4]]), torch.tensor([[7]]))]
    return "healthy" if torch.allclose(*earlier, atol=1e-4) else "sees the future"


# %% tags=["alternative"]
@alternative("a table of experiments")
def diagnose(run):
    def not_finite():
        return any(first_non_finite(run.model, s, t[:, :-1]) is not None for s, t in run.batches)

    def future():
        s, t = run.batches[0]
        with torch.no_grad():
            a = run.model(s, t[:, :-1])
            b = run.model(s, torch.where(torch.arange(t.size(1) - 1) == t.size(1) - 2, torch.full_like(t[:, :-1], 6), t[:, :-1]))
            c = run.model(s, torch.where(torch.arange(t.size(1) - 1) == t.size(1) - 2, torch.full_like(t[:, :-1], 5), t[:, :-1]))
        return max((a - b)[:, :-1].abs().max().item(), (a - c)[:, :-1].abs().max().item(), (b - c)[:, :-1].abs().max().item()) > 1e-4

    def cut():
        run.model.zero_grad()
        loss = run.loss(*run.batches[0])
        if loss.grad_fn is None:
            return True
        loss.backward()
        return any(p.grad is None for p in run.model.parameters())

    def piles_up():
        for group in run.optimizer.param_groups:
            group.update(lr=0.0)
        run.model.zero_grad()
        norms = []
        for _ in range(4):
            run.update(*run.batches[0])
            norms.append(float(clip_gradients(run.model.parameters(), math.inf)))
        return norms[-1] / norms[0] > 2

    table = {"not finite": not_finite, "sees the future": future, "graph cut": cut, "gradients pile up": piles_up}
    return next((finding for finding, experiment in table.items() if experiment()), "healthy")


# %% [markdown]
# ### The four bugs, and what each looks like from outside
#
# Same model, same data, same seed; grey is the healthy run.

# %% tags=["picture"]
def patient(bug=None, **options):
    run = Run(copying_model(), [(src, target) for src, target in copy_batches(60, batch_size=16, longest=5, seed=SEED)])
    run.batches[30][0][0] = PAD_ID  # one empty sentence, harmless to a guarded attention
    return plant(run, bug, **options) if bug else run


def watch(run, batches):
    losses, norms = [], []
    for src, target in batches:
        losses.append(run.update(src, target))
        norms.append(float(clip_gradients(run.model.parameters(), math.inf)))
    return losses, norms


def mended_loss(run):
    """The loss of a run's weights in a model that cannot see the future."""
    model = copying_model()
    model.load_state_dict(run.model.state_dict())
    with torch.no_grad():
        return sum(copying_loss(model, *batch).item() for batch in list(copy_batches(5, longest=5, seed=SEED + 1))) / 5


healthy = patient()
healthy_losses, healthy_norms = watch(healthy, healthy.batches)
one_batch = [healthy.batches[0]] * 60
curves = {}
for bug in ("not finite", "sees the future", "gradients pile up"):
    run = patient(bug)
    curves[bug] = (*watch(run, run.batches), run)
curves["graph cut"] = (*watch(patient("graph cut", cut="decoder"), one_batch), None)
hidden_cut, _ = watch(patient("graph cut", cut="memory"), one_batch)
healthy_overfit, _ = watch(patient(), one_batch)
figure, axes = plt.subplots(1, 4, figsize=(14, 3.1), layout="constrained")
steps = range(1, 61)
panels = (
    ("not finite", "loss (nats)", healthy_losses, curves["not finite"][0]), ("sees the future", "loss (nats)", healthy_losses, curves["sees the future"][0]),
    ("graph cut", "loss on one batch (nats)", healthy_overfit, curves["graph cut"][0]), ("gradients pile up", "gradient norm", healthy_norms, curves["gradients pile up"][1]),
)  # fmt: skip
for axis, (bug, label, well, ill) in zip(axes, panels):
    axis.plot(steps, well, color=GREY, label="healthy")
    axis.plot(steps, ill, "--", color=ORANGE, label=bug)
    axis.set(title=bug, xlabel="step", ylabel=label)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
end = next(step for step, loss in enumerate(curves["not finite"][0], start=1) if not math.isfinite(loss))
axes[0].axvline(end, color=ORANGE, linestyle=":")
axes[0].annotate("NaN from here", (end + 1, 1.9), rotation=90, color=ORANGE)
axes[3].set(yscale="log")
plt.show()
print(f"graph cut, loss on one batch after 60 steps: {curves['graph cut'][0][-1]:.3f} cut behind the decoder, {hidden_cut[-1]:.3f} cut behind the encoder, {healthy_overfit[-1]:.3f} healthy")
print(f"sees the future: training loss {curves['sees the future'][0][-1]:.3f}; the same weights with a causal mask {mended_loss(curves['sees the future'][2]):.3f} (healthy run: {mended_loss(healthy):.3f})")
for bug in ("not finite", "sees the future", "graph cut", "gradients pile up", None):
    print(f"planted: {bug or 'nothing':18} diagnosed: {diagnose(patient(bug))}")

# %% [markdown]
# **What to see.** *Not finite*: a loss like any other, and from the empty sentence on nothing at all. *Sees the future*: the training loss gives nothing away, it falls as it should. Put the mask back, and the same weights are worth little (printed below the picture).
# *Graph cut*: on a single batch a healthy model's loss goes towards 0. Cut behind the decoder, only the output matrix learns, and it takes far longer. Cut behind the encoder, the decoder learns the batch by heart all the same: overfitting shows some cuts, and only the gradients show all of them. *Gradients pile up*: the norm grows although nothing about the data does. Its loss alone might have passed for a learning rate that is a little too high.

# %% [markdown]
# ## What does it all bring? A measured table
#
# One Transformer, one budget of updates, one change after the other: each row adds to the row before. *Kept for backward* is the peak of `SavedBytes` in one step; on a GPU the device's own peak, `torch.cuda.max_memory_allocated`, stands beside it. The time is the median over the steps. The loss is
# that of held-out sentences, per token, computed in float32 for all rows. The first row is there twice, with another seed: what two seeds differ by, a method may differ by, too, without meaning anything.
#
# Quick profile: numbers in English to German words. Full profile: Multi30k, a model of some millions of parameters.

# %% tags=["picture"]
device = ("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE
if PROFILE == "full":
    training, _, held_out = multi30k_text(DATA_DIR)
    size, batch_size, budget, peak_rate = dict(d_model=256, h=8, N=3, d_ff=1024, dropout=0.1), 128, 600, 1e-3
else:
    training, held_out = numbers_in_words(seed=SEED)
    size, batch_size, budget, peak_rate = dict(d_model=64, h=4, N=1, d_ff=128, dropout=0.0), 64, 110, 1e-2
budget = STEPS or budget


class FromOneTensor(nn.Module):
    """A Transformer that reads source and decoder input side by side in one tensor (B, S + T); `width` is S."""

    def __init__(self):
        super().__init__()
        self.transformer = Transformer(len(training.source_vocabulary), len(training.target_vocabulary), pad_id=PAD_ID, **size)
        self.width = 0

    def forward(self, tokens):
        return self.transformer(tokens[:, : self.width], tokens[:, self.width :])


def endless(seed):
    while True:
        yield from training.batches(batch_size, seed=seed, similar=True)
        seed += 1


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


def measure(clip=None, schedule=False, pieces=1, half=False, seed=SEED):
    torch.manual_seed(seed)
    network = FromOneTensor().to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=peak_rate, betas=(0.9, 0.98), eps=1e-9)
    seconds, losses, norms = [], [], []

    def step(number, src, target):
        if schedule:
            optimizer.param_groups[0]["lr"] = peak_rate * warmup_cosine(number, budget // 5, budget, floor=0.02)
        reading, labels = teacher_forcing(target)
        network.width = src.size(1)
        tokens = torch.cat([src, reading], dim=1)
        if half:
            return amp_step(network, mean_over_sentences, optimizer, tokens, labels, max_norm=clip)
        part = math.ceil(len(tokens) / pieces)
        loss = accumulate_gradients(network, mean_over_sentences, list(zip(tokens.split(part), labels.split(part))))
        if clip is not None:
            norms.append(float(clip_gradients(network.parameters(), clip)))
        optimizer.step()
        return loss

    for number, (src, target) in zip(range(1, budget + 1), endless(seed)):
        src, target = src.to(device), target.to(device)
        wait()
        started = time.perf_counter()
        losses.append(step(number, src, target))
        wait()
        seconds.append(time.perf_counter() - started)
    with torch.no_grad():
        network.eval()
        total = words = 0.0
        for src, target in held_out.batches(250):
            reading, labels = teacher_forcing(target.to(device))
            logits = network.transformer(src.to(device), reading)
            total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=PAD_ID, reduction="sum").item()
            words += (labels != PAD_ID).sum().item()
    network.train()
    src, target = (x.to(device) for x in training.batch(range(batch_size)))
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with SavedBytes(network) as saved:
        step(budget, src, target)
    on_device = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    return {"ms": 1e3 * sorted(seconds)[len(seconds) // 2], "kept": saved.peak / 2**20, "device": on_device, "loss": total / words, "losses": losses}


rows = {
    "baseline, constant rate": {}, "baseline, another seed": {"seed": SEED + 1}, "+ clipping at 1": {"clip": 1.0}, "+ warm-up and cosine": {"clip": 1.0, "schedule": True},
    "+ accumulation, 4 pieces": {"clip": 1.0, "schedule": True, "pieces": 4}, "bfloat16 instead of pieces": {"clip": 1.0, "schedule": True, "half": True},
}  # fmt: skip
measure_only_once = measure(**rows["baseline, constant rate"]) if device == "cuda" else None  # warms the GPU up
table = {name: measure(**options) for name, options in rows.items()}
print(f"{PROFILE} profile on {device}, {torch.get_num_threads()} threads, {budget} updates of {batch_size} sentences")
print(f"{'':28}{'time per step':>14}{'kept for backward':>20}{'peak on device':>17}{'held-out loss':>16}")
for name, row in table.items():
    on_device = "–" if row["device"] is None else f"{row['device']:.0f} MiB"
    print(f"{name:28}{row['ms']:11.1f} ms{row['kept']:16.2f} MiB{on_device:>17}{row['loss']:16.3f}")
base, with_schedule, in_pieces, halved = (table[name] for name in ("baseline, constant rate", "+ warm-up and cosine", "+ accumulation, 4 pieces", "bfloat16 instead of pieces"))
noise = abs(base["loss"] - table["baseline, another seed"]["loss"])
print()
for what, before, after in (("clipping", base, table["+ clipping at 1"]), ("the schedule", table["+ clipping at 1"], with_schedule)):
    gain = before["loss"] - after["loss"]
    verdict = "within what two seeds differ by" if abs(gain) <= noise else "better" if gain > 0 else "worse"
    print(f"{what}: loss {before['loss']:.3f} → {after['loss']:.3f}: {verdict} ({noise:.3f})")
print(f"four pieces: {in_pieces['kept'] / with_schedule['kept']:.2f} of the memory for {in_pieces['ms'] / with_schedule['ms']:.2f} times the time")
print(f"bfloat16: {halved['kept'] / with_schedule['kept']:.2f} of the memory, {halved['ms'] / with_schedule['ms']:.2f} times the time: it {'helps' if halved['ms'] < with_schedule['ms'] else 'does not help'} here")

# %% tags=["picture"]
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
styles = {"baseline, constant rate": (GREY, "-"), "+ clipping at 1": (PINK, ":"), "+ warm-up and cosine": (BLUE, "-"), "+ accumulation, 4 pieces": (GREEN, "--"), "bfloat16 instead of pieces": (ORANGE, "-.")}
window = max(1, budget // 20)
for name, (colour, style) in styles.items():
    losses = table[name]["losses"]
    smooth = [sum(losses[max(0, i - window) : i + 1]) / len(losses[max(0, i - window) : i + 1]) for i in range(len(losses))]
    axis.plot(range(1, len(smooth) + 1), smooth, style, color=colour, label=name)
axis.set(title=f"Training loss, mean of the last {window} steps", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** Read the four lines under the table before you believe the roadmap's "speeds up training". Clipping costs next to no time and changes little where nothing explodes: it is an insurance. The schedule costs nothing. Pieces buy memory with time, and give the same curve as the whole batch. bfloat16 halves only what matrix
# products keep (softmax and norms stay in float32). Whether it is faster depends on the machine: on a GPU with tensor cores and matrices of a thousand rows, clearly; on a CPU with matrices as small as these, casting can cost more than it saves, and then the honest answer is to leave it off.

# %% [markdown] written="order_of_clipping" points=2
# ## Question 1 · what clipping does, and when
#
# *2 points, graded by a person*
#
# (a) Two parameters have gradients (3, 0) and (0, 4), and the bound is 1. Write down the step's direction when the whole gradient is clipped, and when each parameter is clipped by itself. Which one is a step of gradient descent? (b) With a scaler of factor 65,536, somebody clips at 1 before `unscale_`. What is the largest norm that the update's
# gradient can have, and what will the loss curve look like?
#
# ### BEGIN SOLUTION
# (a) The norm is 5. Whole: (0.6, 0) and (0, 0.8), in the direction of the gradient, a shorter step down the same slope. Each by itself: (1, 0) and (0, 1), at 45° although the slope is steeper along the second: another direction, in general not that of steepest descent.
#
# (b) The scaled gradients are cut to norm 1 and then divided by 65,536: the norm is at most 1.5e−5. With SGD the loss hardly moves: training seems to stand still. (Adam divides by the gradients' own size and hides it, until its ε matters.) As the scaler changes its factor, the bound changes with it.
#
# **Rubric.** 1 point for (a): both directions, and that only the first keeps the gradient's. 1 point for (b): 1/65,536 ½, what one sees ½.
# ### END SOLUTION

# %% [markdown] written="tokens_or_sentences" points=3
# ## Question 2 · a mean over what?
#
# *3 points, graded by a person*
#
# Your loss is a mean over the tokens of a batch that are not padding. You accumulate four pieces of eight sentences each and divide the sum of the four losses by 4. (a) Why is that not the loss of the 32 sentences, although all pieces are equal in size? (b) Which sentences count too much? (c) How do you mend it? Why does
# `accumulate_gradients`, as it stands, not do it?
#
# ### BEGIN SOLUTION
# (a) Each piece's loss has been divided by *its* number of tokens. The pieces have equally many sentences and unequally many tokens, so the mean of the four means is not the mean over all tokens.
#
# (b) Tokens in pieces with few tokens, so short sentences that happen to lie together (with batches sorted by length, all short sentences).
#
# (c) Weigh each piece by its share of the tokens: sum the tokens' losses (`reduction="sum"`) and divide by the number of tokens in all pieces, counted before the first backward pass. `accumulate_gradients` counts rows of the targets; it cannot know what loss_fn averages over. A loss that is a mean over sentences, as in the table above, fits it.
#
# **Rubric.** 1 point each. (c) needs both the weights and why the function does not know.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Clipping scales the whole gradient by one factor and never up. The schedule rises in a line and comes down a cosine. Accumulation weighs each piece by its share of the examples.
# - Mixed precision: autocast round forward pass and loss, nothing else; with float16 a scaler: scale, backward, unscale, clip, step, update. `torch.cuda.amp` is the old name of `torch.amp`.
# - A checkpoint holds everything the next step depends on, and replaces the last one by a rename.
# - Bugs in training are found by experiments with a known outcome: overfit one batch, change the future, watch the norm with a learning rate of 0, listen for the first NaN.
# - What helps is what has been measured to help, on this machine, against the difference of two seeds.
#
# **Next**: `bert_gpt_vit`. What you built here is in `papers.transformer.optimisation`.

# %% tags=["picture"]
score()
