# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Evaluating and troubleshooting
#     order: 2
#     exports: papers.dcgan.evaluation
#     minutes: 120
# ---

# %% [markdown]
# # Evaluating and troubleshooting
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, section 6 (walking in the latent space, vector arithmetic) and section 3 (what makes training stable) · about 120 minutes
#
# At the end of this notebook you can
#
# - walk through the space of noise on a straight line and on an arc, and calculate with noise vectors;
# - put a number on how far generated images are from real ones, and say what that number depends on;
# - provoke a mode collapse, ring an alarm when it happens, and repair it;
# - tell four common failures apart by their losses, their scores and their pictures.
#
# **Week 4 of the roadmap, tasks 2 and 3.**
#
# - Task 2, *evaluate generated images*: "Experiment with different noise inputs to observe the diversity of generated samples" (exercises 1, 2 and 5) and put numbers beside the pictures (exercises 3 and 4).
# - Task 3, *troubleshoot common issues*: "Monitor training metrics for signs of instability (e.g., mode collapse, vanishing gradients)" (exercise 6) and "Adjust hyperparameters like learning rate or architecture" (the runs at the end).
#
# To look at while you work, from the roadmap's *Visualizing GAN Outputs*: [Visualize GAN Results](https://poloclub.github.io/ganlab/), a GAN that trains in your browser, and
# [https://github.com/42x00/Visualize-GAN-Training](https://github.com/42x00/Visualize-GAN-Training).

# %% tags=["export"]
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %%
import math
import time

import matplotlib.pyplot as plt
import numpy as np

from papers.datasets import data_folder, drawn_glyphs, real_images
from papers.dcgan.losses import saturating_generator_loss
from papers.dcgan.models import Discriminator, Generator, build_criterion, build_optimizers, init_weights
from papers.dcgan.training import discriminator_step, generator_step

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
STEPS = 0  # cuts every training run short after so many steps, and counts 200 images; 0: as the profile says

# %% [markdown]
# ## Why a picture is not enough
#
# A classifier has an accuracy. A GAN has two losses that mean little: the generator's can rise while its images get better, since its opponent gets better too. And sixteen handsome samples say nothing of what is *missing*: a generator that has learned one perfect image
# draws sixteen perfect images.
#
# Four questions, then, each with a number or an experiment of its own:
#
# | question | how it is answered | exercise |
# | --- | --- | --- |
# | did it memorise, or learn a space? | walk from one noise vector to another (section 6.1) | 1 `interpolate` |
# | do directions in that space mean anything? | calculate with noise vectors (section 6.3.2) | 2 `latent_arithmetic` |
# | are the images like real ones, as a crowd? | a Fréchet distance between features | 3 `feature_statistics`, 4 `frechet_distance` |
# | are they different from one another? | distances among them | 5 `diversity`, 6 `collapse_alarm` |

# %% [markdown]
# ## Exercise 1 · `interpolate`
#
# *Difficulty ●●○ · 20 minutes · 4 points*
#
# Section 6.1 of the paper walks from one noise vector to another and looks at every image on the way. Sharp jumps are a sign of memorisation; where objects appear and change smoothly, the generator has learned something about images.
#
# Two ways to walk, with $t$ from 0 to 1 in equal steps:
#
# $$\text{linear:}\quad (1-t)\,z_0 + t\,z_1 \qquad\qquad \text{spherical:}\quad \frac{\sin((1-t)\,\Omega)}{\sin\Omega}\,z_0 + \frac{\sin(t\,\Omega)}{\sin\Omega}\,z_1, \qquad \cos\Omega = \frac{z_0 \cdot z_1}{\|z_0\|\,\|z_1\|}$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | path | figure 4: "interpolation between a series of 9 random points in $Z$"; straight lines | straight or on an arc | noise of many independent normal numbers has length close to $\sqrt{n_z}$. The middle of a straight line is shorter, about $\sqrt{n_z/2}$: vectors like it were never seen in training ([White 2016](https://arxiv.org/pdf/1609.04468)) |
# | length | – | the vectors as given, neither normalised before nor after | then both ends are exactly $z_0$ and $z_1$ |
# | $\Omega \approx 0$ | – | linear | the formula is 0/0 there, and its limit is the straight line |

# %% tags=["export"]
def interpolate(z0: Tensor, z1: Tensor, steps: int, mode: str = "linear") -> Tensor:
    """Points on the way from one noise vector to another, both ends included.

    Args:
        z0, z1: two vectors of the same shape: (nz,), or (nz, 1, 1) as the generator takes them. All
            their numbers together are one vector; neither has length 0.
        steps: how many points, at least 2.
        mode: "linear", or "spherical": weights sin((1−t)Ω)/sin Ω and sin(tΩ)/sin Ω on the vectors
            as given, where Ω is the angle between them; linear where they are nearly parallel.

    Returns: (steps, *z0.shape), in the dtype of z0: the first point is z0, the last z1, and t grows
        by equal steps. z0 and z1 are not changed. (Opposite vectors: no arc is shorter than the
        others, and what comes out is not specified.)

    Raises: ValueError for any other mode.
    """
    ### BEGIN SOLUTION
    if mode not in ("linear", "spherical"):
        raise ValueError(f'mode is "linear" or "spherical", not {mode!r}')
    t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z0.dim())  # (steps, 1, …)
    if mode == "spherical":
        cosine = (z0 * z1).sum() / (z0.norm() * z1.norm())
        angle = torch.acos(cosine.clamp(-1, 1))  # rounding can make a cosine of 1.0000001, which has no angle
        if torch.sin(angle) >= 1e-4:
            return (torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1) / torch.sin(angle)
    return (1 - t) * z0 + t * z1
    ### END SOLUTION


# %%
@check("interpolate", points=4, paper="section 6.1, and figure 4")
def _(case):
    def walk(name, z0, z1, steps, *mode, **policy):
        case.call(name, interpolate, z0, z1, steps, **({"mode": mode[0]} if mode else {}), policy=policy)

    def along(*numbers):
        return torch.tensor(numbers, device=case.device)

    walk("linear, three points in the plane", case.normal(2), case.normal(2), 3, "linear")
    walk("two points: the ends", case.normal(2), case.normal(2), 2, "linear")
    walk("no mode given: linear", case.normal(3), case.normal(3), 5)
    walk("spherical, a quarter turn", along(1.0, 0.0), along(0.0, 1.0), 3, "spherical")
    walk("spherical, two points: the ends", along(2.0, 0.5), along(0.5, 1.5), 2, "spherical")
    walk("spherical, one vector longer than the other", along(3.0, 0.0), along(0.4, 1.0), 4, "spherical")
    walk("spherical, an obtuse angle", along(1.0, 0.2, 0.5), along(-1.5, 0.9, 0.3), 4, "spherical")
    walk("linear, noise as the generator takes it, (nz, 1, 1)", case.normal(6, 1, 1), case.normal(6, 1, 1), 4, "linear")
    walk("spherical, noise as the generator takes it, (nz, 1, 1)", case.normal(6, 1, 1), case.normal(6, 1, 1), 5, "spherical")
    walk("spherical, parallel, one twice as long: linear", along(3.0, 0.0), along(6.0, 0.0), 3, "spherical")
    again = case.normal(64, 5)
    case.record("spherical, from a vector to itself, 64 times", torch.stack([interpolate(z, z.clone(), 3, mode="spherical") for z in again]))
    walk("float64 stays float64", *case.cast(torch.float64, case.normal(5), case.normal(5)), 4, "linear", tol=1e-6)
    case.raises("a mode that does not exist", interpolate, case.normal(3), case.normal(3), 3, mode="cubic")
    ### BEGIN HIDDEN TESTS
    walk("linear, as many points as numbers", case.normal(4), case.normal(4), 4, "linear")
    walk("spherical, as many points as numbers", case.normal(4), case.normal(4), 4, "spherical")
    walk("spherical, 100 numbers", case.normal(100, 1, 1), case.normal(100, 1, 1), 8, "spherical")
    walk("spherical, short vectors", case.normal(7, scale=0.05), case.normal(7, scale=0.05), 6, "spherical")
    walk("spherical, long vectors", case.normal(7, scale=30.0), case.normal(7, scale=30.0), 3, "spherical")
    z = case.normal(8)
    walk("spherical, a small angle", z, z + 0.3 * case.normal(8), 5, "spherical", tol=1e-3)
    walk("spherical, parallel, a third as long", along(0.0, 6.0, 0.0), along(0.0, 2.0, 0.0), 5, "spherical")
    walk("float64 stays float64, spherical", *case.cast(torch.float64, case.normal(5, 1, 1), case.normal(5, 1, 1)), 3, "spherical", tol=1e-6)
    walk("linear, ten points", case.normal(3, 1, 1), case.normal(3, 1, 1), 10, "linear")
    walk("spherical, seven points", case.normal(3, 1, 1), case.normal(3, 1, 1), 7, "spherical")
    case.raises("another mode that does not exist", interpolate, case.normal(3), case.normal(3), 3, mode="Linear ")
    case.raises("a mode with a capital letter", interpolate, case.normal(3), case.normal(3), 3, mode="Linear")
    case.raises("a mode that begins alike", interpolate, case.normal(3), case.normal(3), 3, mode="sphere")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "interpolate",
    "With three points, which values does $t$ take? And with two? For the arc: what do the two weights become for $t = 0$ and for $t = 1$?",
    "Section 6.1 and figure 4; for the arc, the formula above. Only Ω needs lengths, and only to divide the dot product by them.",
    "Make a column of t from 0 to 1 with as many entries as steps, and as many axes as it takes to be multiplied with the vectors. Linear is one line. For the arc, compute one angle from all numbers of the two vectors, keep its cosine within −1 and 1, weigh by the sines, and fall back on the line where the sine of the angle is tiny.",
)
SPAN, ARC, LINE = "torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device)", "(torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1) / torch.sin(angle)", "    return (1 - t) * z0 + t * z1"
COSINE = "(z0 * z1).sum() / (z0.norm() * z1.norm())"
misconceptions(
    "interpolate",
    mistake("both ends missing", (SPAN, SPAN.replace("steps,", "steps + 2,") + "[1:-1]"), says="Neither end is among the points; the first point is z0 and the last z1."),
    mistake("the last end missing", (SPAN, "(torch.arange(steps, dtype=z0.dtype, device=z0.device) / steps)"), says="The last point is not z1: t grows by 1/steps and stops before 1. With both ends included there are steps − 1 equal parts."),
    mistake("the first end missing", (SPAN, "(torch.arange(1, steps + 1, dtype=z0.dtype, device=z0.device) / steps)"), says="The first point is not z0: t begins at 1/steps. With both ends included there are steps − 1 equal parts."),
    mistake("one point too many", (SPAN, SPAN.replace("steps,", "steps + 1,")), says="There is one point too many: `steps` counts the points, not the parts between them."),
    mistake("ends between", (SPAN, SPAN.replace("steps,", "steps + 2,")), says="There are two points too many: the ends are counted on top of `steps`, and belong to it."),
    mistake("the way back", (SPAN, SPAN.replace("(0, 1,", "(1, 0,")), says="The way is walked from z1 to z0; it begins at z0."),
    mistake("always linear", ('if mode == "spherical":', "if False:"), says="\"spherical\" walks on the straight line; it is asked for the arc, with sines for weights."),
    mistake("always spherical", ('if mode == "spherical":', "if True:"), says="\"linear\" walks on the arc; it is the straight line (1−t)·z0 + t·z1."),
    mistake("spherical by default", ('mode: str = "linear"', 'mode: str = "spherical"'), says="Without a mode the way is spherical; the default is linear."),
    mistake("unit vectors", (f"return {ARC}", f"z0, z1 = z0 / z0.norm(), z1 / z1.norm()\n            return {ARC}"), says="The vectors are normalised to length 1 before they are weighed, so the path neither begins at z0 nor ends at z1. Only the angle needs lengths."),
    mistake("unit vectors, then the length in between", (f"return {ARC}", f"length = (1 - t) * z0.norm() + t * z1.norm()\n            z0, z1 = z0 / z0.norm(), z1 / z1.norm()\n            return length * {ARC}"), says="The arc is walked with unit vectors and the length is interpolated separately. The formula weighs the vectors as they are given."),
    mistake("normalised at the end", (f"return {ARC}", f"points = {ARC}\n            return points / points.flatten(1).norm(dim=1).view(t.shape)"), says="Every point is scaled to length 1; the formula's result is taken as it is, so that the ends are z0 and z1."),
    mistake("a line pushed out to the arc", (f"return {ARC}", "points = (1 - t) * z0 + t * z1\n            return points * (((1 - t) * z0.norm() + t * z1.norm()) / points.flatten(1).norm(dim=1).view(t.shape))"), says="This is the straight line with its points' lengths corrected (nlerp): the direction does not turn evenly. The weights are sines of the angle."),
    mistake("the angle from the bare dot product", (COSINE, "(z0 * z1).sum()"), says="The angle is the arccosine of the dot product of the vectors as they are; divide by both lengths first."),
    mistake("divided by one length", (COSINE, "(z0 * z1).sum() / z0.norm()"), says="The dot product is divided by one length only; the cosine is the dot product over both lengths."),
    mistake("divided by squared length", (COSINE, "(z0 * z1).sum() / z0.norm() ** 2"), says="The dot product is divided by ‖z0‖²; the cosine is the dot product over ‖z0‖·‖z1‖."),
    mistake("an angle for each number", (COSINE, "(z0 * z1).sum(-1, keepdim=True) / (z0.norm(dim=-1, keepdim=True) * z1.norm(dim=-1, keepdim=True))"), ("if torch.sin(angle) >= 1e-4:", "if (torch.sin(angle) >= 1e-4).all():"), says="The angle is taken along the last axis alone, so for (nz, 1, 1) every number gets its own. All numbers together are one vector, with one angle."),
    mistake("cosine taken for the angle", ("torch.acos(cosine.clamp(-1, 1))", "cosine.clamp(-1, 1)"), says="The cosine itself is used as the angle; Ω is its arccosine."),
    mistake("arcsine", ("torch.acos(cosine.clamp(-1, 1))", "torch.asin(cosine.clamp(-1, 1))"), says="The angle is the arcsine of the normalised dot product; it is the arccosine."),
    mistake("degrees", ("torch.acos(cosine.clamp(-1, 1))", "torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))"), says="The angle is in degrees; torch.sin takes radians."),
    mistake("not divided by sin Ω", (ARC, "torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1"), says="The weights are not divided by sin Ω, so the path does not begin at z0."),
    mistake("angles for weights", (ARC, "((1 - t) * angle * z0 + t * angle * z1) / torch.sin(angle)"), says="The weights are angles over sin Ω; they are *sines* of the angles over sin Ω."),
    mistake("cosine and sine of a quarter turn", (ARC, "torch.cos(t * torch.pi / 2) * z0 + torch.sin(t * torch.pi / 2) * z1"), says="The weights are cos and sin of a quarter turn, whatever the angle; that is right for orthogonal vectors only. Use the angle between these two."),
    mistake("weights exchanged", (ARC, "(torch.sin(t * angle) * z0 + torch.sin((1 - t) * angle) * z1) / torch.sin(angle)"), says="The spherical weights have changed places: the arc begins at z1."),
    mistake("NaN where parallel", ("torch.acos(cosine.clamp(-1, 1))  # rounding", "torch.acos(cosine.clamp(-1, 1))  # ignoring"), ("if torch.sin(angle) >= 1e-4:", "if True:"), says="Parallel vectors give 0/0 = NaN, since sin Ω is 0. Walk straight where the angle is (nearly) 0."),
    mistake("NaN from rounding", ("cosine.clamp(-1, 1)", "cosine"), ("if torch.sin(angle) >= 1e-4:", "if not torch.sin(angle) <= 0:"), says="Rounding makes the cosine of a vector with itself a little more than 1 at times, and its arccosine NaN. Keep the cosine within −1 and 1."),
    mistake("parallel vectors stand still", (LINE, "    if mode == \"spherical\":\n        return z0 + 0 * t\n" + LINE), says="Between nearly parallel vectors the walk stays at z0; it is linear there, since their lengths may differ."),
    mistake("z0 not weighed", (LINE, "    return z0 + t * z1"), says="z0 keeps its full weight to the end (z0 + t·z1), so the last point is z0 + z1."),
    mistake("from zero", (LINE, "    return t * (z1 - z0)"), says="The line begins at 0 and ends at z1 − z0; add z0."),
    mistake("float32 always", ("dtype=z0.dtype, device", "dtype=torch.float32, device"), (LINE, "    return ((1 - t) * z0 + t * z1).float()"), says="The result is float32 whatever came in; the dtype of z0 is to be kept."),
    mistake("any mode is linear", ('    if mode not in ("linear", "spherical"):', "    if not isinstance(mode, str):"), says="A mode that does not exist is taken for another one without a word; raise a ValueError."),
    mistake("flattened", (LINE, "    return ((1 - t) * z0 + t * z1).flatten(1)"), says="The points are flattened to (steps, nz); they keep the shape of z0, as the generator takes it."),
    mistake("steps last", (LINE, "    return torch.movedim((1 - t) * z0 + t * z1, 0, -1)"), says="The points are stacked along the last axis; the first axis counts the steps."),
    mistake("a list", (LINE, "    return list((1 - t) * z0 + t * z1)"), says="The points come as a list; stack them into one tensor, (steps, …)."),
)  # fmt: skip
equivalents("interpolate", {
    "option dropped: `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z0.dim())` → `t = torch.linspace(0, 1, steps, device=z0.device).view(-1, *[1] * z0.dim())`": "t in float32 is exact to seven digits, and a float64 vector makes the product float64",
    "variable: `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z0.dim())` → `t = torch.linspace(0, 1, steps, dtype=z1.dtype, device=z0.device).view(-1, *[1] * z0.dim())`": "both vectors have the same dtype",
    "variable: `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z0.dim())` → `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z1.device).view(-1, *[1] * z0.dim())`": "both vectors are on the same device",
    "variable: `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z0.dim())` → `t = torch.linspace(0, 1, steps, dtype=z0.dtype, device=z0.device).view(-1, *[1] * z1.dim())`": "both vectors have the same shape",
    "call dropped: `angle = torch.acos(cosine.clamp(-1, 1))` → `angle = torch.acos(cosine)`": "a NaN angle is not ≥ 1e-4 either, so the walk is linear",
    "number: `angle = torch.acos(cosine.clamp(-1, 1))` → `angle = torch.acos(cosine.clamp(-2, 1))`": "reached by rounding of opposite vectors only, for which nothing is specified",
    "number: `angle = torch.acos(cosine.clamp(-1, 1))` → `angle = torch.acos(cosine.clamp(-1, 2))`": "a NaN angle is not ≥ 1e-4 either, so the walk is linear",
    "call dropped: `if torch.sin(angle) >= 1e-4` → `if angle >= 1e-4`": "differs for opposite vectors only, for which nothing is specified",
    "comparison: `if torch.sin(angle) >= 1e-4` → `if torch.sin(angle) > 1e-4`": "no angle hits the bar",
    "constant: `if torch.sin(angle) >= 1e-4` → `if torch.sin(angle) >= 0.001`": "at such angles line and arc agree to seven digits",
    "detach added: `return (torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1) / torch.sin(angle)` → `return ((torch.sin((1 - t) * angle) * z0 + torch.sin(t * angle) * z1) / torch.sin(angle)).detach()`": "gradients are not asked for: paths are for looking at",
    "detach added: `return (1 - t) * z0 + t * z1` → `return ((1 - t) * z0 + t * z1).detach()`": "gradients are not asked for: paths are for looking at",
})  # fmt: skip


# %% tags=["alternative"]
@alternative("a loop with math's functions")
def interpolate(z0, z1, steps, mode="linear"):
    points = []
    for i in range(steps):
        t = i / (steps - 1)
        if mode == "linear":
            a, b = 1 - t, t
        elif mode == "spherical":
            x, y = z0.flatten().tolist(), z1.flatten().tolist()
            cosine = sum(p * q for p, q in zip(x, y)) / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y))
            omega = math.acos(max(-1.0, min(1.0, cosine)))
            a, b = (1 - t, t) if omega < 1e-3 else (math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega))
        else:
            raise ValueError(mode)
        points.append(a * z0 + b * z1)
    return torch.stack(points)


# %% tags=["alternative"]
@alternative("torch.lerp; the usual threshold on the cosine; a dictionary of modes")
def interpolate(z0, z1, steps, mode="linear"):
    def linear(t):
        return torch.lerp(z0, z1, t)

    def spherical(t):
        cosine = F.cosine_similarity(z0.reshape(1, -1), z1.reshape(1, -1)).squeeze()
        if cosine.abs() > 0.9995:
            return linear(t)
        theta = torch.arccos(cosine)
        return z0 * torch.sin((1.0 - t) * theta) / torch.sin(theta) + z1 * torch.sin(t * theta) / torch.sin(theta)

    modes = {"linear": linear, "spherical": spherical}
    if mode not in modes:
        raise ValueError(f"unknown mode {mode}")
    return torch.stack([modes[mode](t) for t in torch.linspace(0, 1, steps, dtype=z0.dtype)])


# %% tags=["alternative"]
@alternative("numpy, an angle by arctangent, outer products")
def interpolate(z0, z1, steps, mode="linear"):
    a, b = z0.numpy().astype(np.float64).ravel(), z1.numpy().astype(np.float64).ravel()
    t = np.linspace(0.0, 1.0, steps)
    weights = np.stack([1 - t, t])
    if mode == "spherical":
        u, v = a / np.linalg.norm(a), b / np.linalg.norm(b)
        omega = 2 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
        if omega > 1e-6:
            weights = np.sin(weights * omega) / np.sin(omega)
    elif mode != "linear":
        raise ValueError("mode")
    return torch.from_numpy(weights.T @ np.stack([a, b])).to(z0.dtype).reshape(steps, *z0.shape)


# %% tags=["alternative"]
@alternative("float64 inside, einsum, NaN replaced by the line")
def interpolate(z0, z1, steps, mode="linear"):
    if mode != "linear" and mode != "spherical":
        raise ValueError("linear or spherical")
    ends = torch.stack([z0, z1]).double()
    t = torch.arange(steps, dtype=torch.float64) / (steps - 1)
    line = torch.stack([1 - t, t], dim=1)
    weights = line
    if mode == "spherical":
        flat = ends.flatten(1)
        gram = flat @ flat.T
        omega = (gram[0, 1] / (gram[0, 0] * gram[1, 1]).sqrt()).clamp(max=1.0, min=-1.0).arccos()
        arc = torch.sin(line * omega) / torch.sin(omega)
        weights = torch.where(arc.isfinite(), arc, line)
    return torch.einsum("sk,k...->s...", weights, ends).to(z0.dtype)


# %% tags=["alternative"]
@alternative("the arc from an orthonormal frame")
def interpolate(z0, z1, steps, mode="linear"):
    match mode:
        case "linear":
            return torch.stack([z0 + (z1 - z0) * (k / (steps - 1)) for k in range(steps)])
        case "spherical":
            r0, r1 = z0.norm(), z1.norm()
            cosine = torch.dot(z0.flatten() / r0, z1.flatten() / r1)
            if cosine > 1 - 1e-6:
                return interpolate(z0, z1, steps, "linear")
            sine = torch.sqrt(1 - cosine**2)
            omega = torch.atan2(sine, cosine)
            angles = torch.linspace(0, 1, steps, dtype=z0.dtype) * omega
            # sin((1 − t)Ω) = sin Ω cos tΩ − cos Ω sin tΩ
            return torch.stack([z0 * (angle.cos() - cosine / sine * angle.sin()) + z1 * (angle.sin() / sine) for angle in angles])
        case _:
            raise ValueError(mode)


# %% [markdown]
# ### Try it: what is in the middle
#
# A thousand pairs of noise vectors with $n_z = 100$, and the lengths of the points on the way.

# %% tags=["picture"]
chance = torch.Generator().manual_seed(SEED)
pairs = torch.randn(1000, 2, 100, generator=chance)
t = torch.linspace(0, 1, 11)
figure, axis = plt.subplots(figsize=(6.5, 3), layout="constrained")
axis.axhspan(*pairs.norm(dim=-1).quantile(torch.tensor([0.01, 0.99])).tolist(), color=GREY, alpha=0.25, label="98 % of all noise vectors")
for mode, colour, marker in (("linear", ORANGE, "o"), ("spherical", BLUE, "s")):
    lengths = torch.stack([interpolate(a, b, 11, mode=mode).norm(dim=1) for a, b in pairs])
    axis.plot(t, lengths.mean(0), marker + "-", color=colour, label=mode)
axis.set(xlabel="$t$, from the first vector (0) to the second (1)", ylabel="length of the point", ylim=(0, None), title="Mean length on the way between two noise vectors, $n_z$ = 100")
axis.legend(frameon=False, loc="lower left")
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Noise of 100 normal numbers has a length near 10, hardly ever below 8. The straight line leaves that shell and passes through lengths near 7, where the generator was never trained; the arc stays in it. In two dimensions nobody would notice; the more numbers, the thinner the shell.

# %% [markdown]
# ## Exercise 2 · `latent_arithmetic`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Section 6.3.2 calculates with noise as others had done with word vectors, vector("King") − vector("Man") + vector("Woman"). A single noise vector per concept was too unstable; averages of three worked:
#
# $$z = \bar z_{\text{smiling woman}} - \bar z_{\text{neutral woman}} + \bar z_{\text{neutral man}}$$
#
# gave smiling men (figure 7).
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | exemplars | three for each concept, picked by eye | any number for each, perhaps different | below, a classifier picks them |
# | noise | uniform; the result "with uniform noise sampled with scale ±0.25" added gives eight variations | the result alone | variations are one more line for the caller |

# %% tags=["export"]
def latent_arithmetic(base: Tensor, minus: Tensor, plus: Tensor) -> Tensor:
    """mean(base) − mean(minus) + mean(plus), on noise vectors (section 6.3.2).

    Args:
        base: noise vectors of images that show the one concept, (A, …).
        minus: of what is to be taken away, (B, …).
        plus: of what is to be added, (C, …). A, B and C may differ; what follows them is the same,
            (nz,) or (nz, 1, 1).

    Returns: one noise vector, in the shape of one of the exemplars and their dtype. The inputs are
        not changed.
    """
    ### BEGIN SOLUTION
    return base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)
    ### END SOLUTION


# %%
@check("latent_arithmetic", points=2, paper="section 6.3.2 and figure 7")
def _(case):
    case.call("one exemplar each, two numbers", latent_arithmetic, case.normal(1, 2), case.normal(1, 2), case.normal(1, 2))
    case.call("two exemplars each", latent_arithmetic, case.normal(2, 3), case.normal(2, 3), case.normal(2, 3))
    case.call("three, two and four exemplars", latent_arithmetic, case.normal(3, 5), case.normal(2, 5), case.normal(4, 5))
    case.call("noise as the generator takes it, (nz, 1, 1)", latent_arithmetic, case.normal(3, 6, 1, 1), case.normal(2, 6, 1, 1), case.normal(5, 6, 1, 1))
    ### BEGIN HIDDEN TESTS
    case.call("as many exemplars as numbers", latent_arithmetic, case.normal(4, 4), case.normal(4, 4), case.normal(4, 4))
    case.call("one, many, one", latent_arithmetic, case.normal(1, 7, 1, 1), case.normal(20, 7, 1, 1), case.normal(1, 7, 1, 1))
    case.call("float64 stays float64", latent_arithmetic, *case.cast(torch.float64, case.normal(2, 3), case.normal(4, 3), case.normal(3, 3)))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "latent_arithmetic",
    "What does a single exemplar show besides the concept: its pose, its place, its colour? What happens to those when you average?",
    "Section 6.3.2, the paragraph on averaging “the Z vector for three examplars”, and the caption of figure 7.",
    "Average each of the three over its exemplars, the first axis, and only then subtract and add.",
)
misconceptions(
    "latent_arithmetic",
    mistake("sums", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base.sum(dim=0) - minus.sum(dim=0) + plus.sum(dim=0)"), says="The exemplars are summed; their means are wanted, or the one with more exemplars outweighs the others."),
    mistake("minus and plus exchanged", ("- minus.mean(dim=0) + plus", "+ minus.mean(dim=0) - plus"), says="`minus` is added and `plus` is subtracted."),
    mistake("both added", ("- minus", "+ minus"), says="`minus` is added; it is to be taken away."),
    mistake("both taken away", ("+ plus", "- plus"), says="`plus` is taken away; it is to be added."),
    mistake("nothing taken away", (" - minus.mean(dim=0)", ""), says="`minus` is ignored."),
    mistake("nothing added", (" + plus.mean(dim=0)", ""), says="`plus` is ignored: this is only what the two concepts differ in."),
    mistake("the difference alone", ("base.mean(dim=0) - minus", "-minus"), says="`base` is ignored."),
    mistake("the first exemplars", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base[0] - minus[0] + plus[0]"), says="Only the first exemplar of each concept is used. The paper found that unstable, and averages."),
    mistake("the average of the three", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "(base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)) / 3"), says="The result is divided by three; it is one concept minus another plus a third, not their average."),
    mistake("one number", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base.mean() - minus.mean() + plus.mean()"), says="The mean is taken over all numbers; take it over the exemplars, the first axis."),
    mistake("averaged over the noise", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base.mean(dim=-1)[0] - minus.mean(dim=-1)[0] + plus.mean(dim=-1)[0]"), says="The mean is taken over the last axis; take it over the exemplars, the first axis."),
    mistake("a batch of one", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base.mean(0, True) - minus.mean(0, True) + plus.mean(0, True)"), says="The result has an axis of exemplars left, of length 1; it has the shape of one exemplar."),
    mistake("not averaged", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base[: min(len(base), len(minus), len(plus))] - minus[: min(len(base), len(minus), len(plus))] + plus[: min(len(base), len(minus), len(plus))]"), says="The exemplars are combined one by one and not averaged: there are as many results as exemplars."),
    mistake("normalised", ("return base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "z = base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)\n    return z / z.norm()"), says="The result is scaled to length 1; the paper takes it as it is."),
    mistake("unit exemplars", ("base.mean(dim=0) -", "F.normalize(base, dim=1).mean(dim=0) -"), ("minus.mean(dim=0) +", "F.normalize(minus, dim=1).mean(dim=0) +"), ("+ plus.mean(dim=0)", "+ F.normalize(plus, dim=1).mean(dim=0)"), says="Every exemplar is scaled to length 1 before it is averaged; the paper averages them as they are."),
    mistake("the median", ("base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)", "base.median(0).values - minus.median(0).values + plus.median(0).values"), says="The median of the exemplars is taken; the paper takes their mean."),
)  # fmt: skip
equivalents("latent_arithmetic", {
    "detach added: `return base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)` → `return (base.mean(dim=0) - minus.mean(dim=0) + plus.mean(dim=0)).detach()`": "gradients are not asked for: the exemplars are fixed",
})  # fmt: skip


# %% tags=["alternative"]
@alternative("a signed loop")
def latent_arithmetic(base, minus, plus):
    result = torch.zeros_like(base[0])
    for sign, exemplars in ((1, base), (-1, minus), (1, plus)):
        for z in exemplars:
            result = result + sign * z / len(exemplars)
    return result


# %% tags=["alternative"]
@alternative("sums over counts")
def latent_arithmetic(base, minus, plus):
    a, b, c = (torch.sum(z, 0) / z.shape[0] for z in (base, minus, plus))
    return a.add(c).sub(b)


# %% tags=["alternative"]
@alternative("a matrix product with signed weights")
def latent_arithmetic(base, minus, plus):
    everything = torch.cat([base, minus, plus])
    weights = torch.cat([torch.full((len(base),), 1 / len(base)), torch.full((len(minus),), -1 / len(minus)), torch.full((len(plus),), 1 / len(plus))])
    return (weights.to(everything.dtype) @ everything.flatten(1)).view(everything.shape[1:]) if everything.dtype == torch.float32 else base.mean(0) - minus.mean(0) + plus.mean(0)


# %% tags=["alternative"]
@alternative("numpy in float64")
def latent_arithmetic(base, minus, plus):
    means = [z.numpy().astype(np.float64).mean(axis=0) for z in (base, minus, plus)]
    return torch.as_tensor(means[0] - means[1] + means[2], dtype=base.dtype)


# %% [markdown]
# What such a calculation looks like needs a trained generator: further down.

# %% [markdown]
# ## From images to features
#
# Are generated images like real ones, as a crowd? Pixels are a bad ruler: move a picture by one pixel and it is far from itself. So images go through a *feature network*, a classifier without its last layer, whose features say what is to be seen and little of where. Then the two crowds of feature vectors are compared.
#
# [Heusel et al. 2017](https://arxiv.org/pdf/1706.08500) describe each crowd by its mean and covariance, as if it were a normal distribution, and measure the Fréchet distance between the two. With an Inception network trained on ImageNet that is the *Fréchet Inception Distance*, FID. With another
# network the numbers are others, on another scale. So what we compute below is **not called FID**: it is a Fréchet distance on such and such features.

# %% [markdown]
# ## Exercise 3 · `feature_statistics`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# $$\mu = \frac1N \sum_{i=1}^N f_i \qquad\qquad \Sigma = \frac{1}{N-1} \sum_{i=1}^N (f_i - \mu)(f_i - \mu)^\top$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | covariance | "mean and covariance" (Heusel et al.) | unbiased, over $N - 1$ | as numpy.cov, which the authors' code calls |
# | precision | – | float64 | the next exercise takes roots, which turn a rounding error of $10^{-7}$ into one of $3 \cdot 10^{-4}$ |

# %% tags=["export"]
def feature_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a crowd of feature vectors.

    Args:
        features: one row for each image, (N, d), N ≥ 2.

    Returns: (mu (d,), sigma (d, d)): the mean, and the unbiased covariance (divided by N − 1), in
        float64 (the dtype that came in is accepted); accurate also where features are much larger
        than their spread. The input is not changed.

    May not call torch.cov, torch.corrcoef, numpy.cov or numpy.corrcoef.
    """
    ### BEGIN SOLUTION
    features = features.double()
    mu = features.mean(dim=0)
    centred = features - mu
    return mu, centred.T @ centred / (len(features) - 1)
    ### END SOLUTION


# %%
@check("feature_statistics", points=2, forbid=["torch.cov", "torch.corrcoef", "torch.Tensor.cov", "torch.Tensor.corrcoef", "numpy.cov", "numpy.corrcoef"], paper="Heusel et al. (2017), equation 6")
def _(case):
    def statistics(name, features):
        case.call(name, feature_statistics, features, labels=("mu", "sigma"), policy={"any_dtype": True, "tol": 1e-4})

    statistics("three images, two features", case.normal(3, 2))
    statistics("two images, three features", case.normal(2, 3))
    statistics("seven images; the third feature is the sum of the others", torch.cat([x := case.normal(7, 2), x.sum(1, keepdim=True)], dim=1))
    statistics("features of different size", case.normal(9, 4) * torch.tensor([0.5, 1.0, 3.0, 5.0], device=case.device) + torch.tensor([0.0, 2.0, -1.0, 4.0], device=case.device))
    statistics("features around 1,000 with spread 1", case.normal(8, 2) + 1000)
    statistics("float64", case.normal(6, 3, dtype=torch.float64) + 2)
    ### BEGIN HIDDEN TESTS
    statistics("one feature", case.normal(5, 1))
    statistics("as many images as features", case.normal(4, 4) + 1)
    statistics("fewer images than features", case.normal(3, 10))
    statistics("a feature that is always 0, as behind a ReLU", case.normal(6, 3) * torch.tensor([1.0, 0.0, 2.0], device=case.device))
    statistics("many images", case.normal(300, 5, scale=2.0) + case.normal(5))
    case.record("float64 around 140,000 with spread 1: sigma", feature_statistics(case.normal(8, 6, dtype=torch.float64) + 1.4e5)[1], any_dtype=True, tol=1e-4)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "feature_statistics",
    "Of which two things is entry (i, j) of Σ a product, summed over what? Which shape has it for 100 images with 32 features each?",
    "The two formulas above; Heusel et al. call mean and covariance the “first two moments”, of which the second one is taken about the mean.",
    "In float64: the mean over the rows, the rows minus the mean, and the product of that matrix, transposed, with itself, over N − 1.",
)
CENTRED = "centred.T @ centred / (len(features) - 1)"
misconceptions(
    "feature_statistics",
    mistake("divided by N", (CENTRED, "centred.T @ centred / len(features)"), says="The covariance is divided by N; the unbiased one is divided by N − 1, since the mean was taken from the same images."),
    mistake("not divided", (CENTRED, "centred.T @ centred"), says="The products are summed and not divided: Σ grows with the number of images. Divide by N − 1."),
    mistake("divided by the number of features", (CENTRED, "centred.T @ centred / (features.size(1) - 0.5)"), says="The products are divided by a number that has nothing to do with how many images there are; divide by N − 1."),
    mistake("images by images", (CENTRED, "centred @ centred.T / (len(features) - 1)"), says="Σ has a row for each image; it is a matrix of features by features, summed over images (rows are images, as numpy.cov has them only with rowvar=False)."),
    mistake("not centred", ("centred = features - mu", "centred = features"), says="The mean is not subtracted before the products: that is the second moment about 0."),
    mistake("one mean for all", ("centred = features - mu", "centred = features - features.mean()"), says="One mean over all features is subtracted; each feature has its own."),
    mistake("centred within an image", ("centred = features - mu", "centred = features - features.mean(dim=1, keepdim=True)"), says="The mean over an image's own features is subtracted; subtract each feature's mean over the images."),
    mistake("variances only", (CENTRED, "torch.diag((centred**2).sum(0) / (len(features) - 1))"), says="Only the variances are computed, and 0 off the diagonal: how features vary *together* is lost."),
    mistake("a vector of variances", (CENTRED, "features.var(dim=0)"), says="σ is a vector of variances; Σ is the whole matrix, (d, d)."),
    mistake("correlations", ("return mu, centred", "centred = centred / centred.norm(dim=0).clamp(min=1e-12) * (len(features) - 1) ** 0.5\n    return mu, centred"), says="These are correlations: features were divided by their deviations. A covariance keeps the scale."),
    mistake("square roots", (CENTRED, "(centred.T @ centred / (len(features) - 1)).abs().sqrt()"), says="Roots were taken of the covariance's entries; they stay squares (and covariances may be negative)."),
    mistake("mean of squares minus square of mean, in float32", ("features = features.double()", "features = features.float()"), (CENTRED, "(features.T @ features - len(features) * mu[:, None] * mu) / (len(features) - 1)"), says="“Mean of the products minus product of the means” subtracts two large numbers, and float32 has no digits left for their difference. Subtract the mean first (or use float64)."),
    mistake("mean over the features", ("mu = features.mean(dim=0)", "mu = features.mean(dim=0)\n    wrong = features.mean(dim=1)"), ("return mu, centred", "return wrong, centred"), says="The mean is taken along the features, one number for each image; it is taken over the images, one for each feature."),
    mistake("a row of means", ("return mu, centred", "return mu[None], centred"), says="μ has shape (1, d); it is a vector, (d,)."),
    mistake("Σ first", ("return mu, centred.T @ centred / (len(features) - 1)", "return centred.T @ centred / (len(features) - 1), mu"), says="The two results are in the wrong order: the mean first, then the covariance."),
    mistake("products of absolute values", (CENTRED, "centred.abs().T @ centred.abs() / (len(features) - 1)"), says="Absolute deviations are multiplied, so nothing is ever negative; features that move in opposite directions have a negative covariance."),
)  # fmt: skip
equivalents("feature_statistics", {
    "line missing: `features = features.double()` → `pass`": "the dtype that came in is accepted, too, and centred first it has digits enough",
    "operands: `centred = features - mu` → `centred = mu - features`": "both factors change sign",
})  # fmt: skip


# %% tags=["alternative"]
@alternative("an outer product for each image")
def feature_statistics(features):
    n = features.shape[0]
    mu = features.double().sum(0) / n
    sigma = torch.zeros(len(mu), len(mu), dtype=torch.float64)
    for f in features.double():
        sigma += torch.outer(f - mu, f - mu)
    return mu, sigma / (n - 1)


# %% tags=["alternative"]
@alternative("einsum in the dtype that came in")
def feature_statistics(features):
    mu = features.mean(0)
    d = features - mu[None, :]
    return mu, torch.einsum("ni,nj->ij", d, d).div(features.size(0) - 1)


# %% tags=["alternative"]
@alternative("moments in float64")
def feature_statistics(features):
    f = features.to(torch.float64)
    n, mu = len(f), f.mean(0)
    return mu, (f.T @ f / n - torch.outer(mu, mu)) * n / (n - 1)


# %% tags=["alternative"]
@alternative("Welford's recursion, one image after the other")
def feature_statistics(features):
    mu, moment = torch.zeros(features.size(1), dtype=torch.float64), 0.0
    for count, f in enumerate(features.double(), start=1):
        before = f - mu
        mu = mu + before / count
        moment = moment + before[:, None] * (f - mu)[None, :]
    return mu, moment / (count - 1)


# %% tags=["alternative"]
@alternative("numpy, then back")
def feature_statistics(features):
    x = features.numpy().astype("float64")
    x0 = x - x.mean(axis=0, keepdims=True)
    return torch.from_numpy(x.mean(axis=0)), torch.from_numpy(np.dot(x0.T, x0) / (x.shape[0] - 1))


# %% [markdown]
# ## Exercise 4 · `frechet_distance`
#
# *Difficulty ●●● · 30 minutes · 5 points*
#
# $$d^2 = \|\mu_1 - \mu_2\|^2 + \mathrm{tr}\big(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2}\big) \tag{Heusel et al., equation 6}$$
#
# The root is the *matrix* root: $A^{1/2}$ is the matrix whose product with itself is $A$, not the roots of its entries. Of it only the trace is needed, and the trace of a matrix is the sum of its eigenvalues; those of $A^{1/2}$ are the roots of those of $A$. One catch: $\Sigma_1\Sigma_2$ is not symmetric, though
# both factors are. It has the same eigenvalues as $\Sigma_1^{1/2}\,\Sigma_2\,\Sigma_1^{1/2}$, which is.
#
# In one dimension the formula becomes $(\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2$: try it on paper.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | which number | equation 6 is $d^2$, and is called the distance | $d^2$, no root | so does everybody since; numbers would not compare otherwise |
# | singular covariances | – | allowed | with fewer images than features, or a feature that is always 0, they always are. Then eigenvalues that should be 0 come out as $\pm 10^{-17}$, and half of them have no root |
# | result | – | a float | a score is for people and plots; nobody trains on it |

# %% tags=["export"]
def frechet_distance(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> float:
    """The squared Fréchet distance ‖μ1 − μ2‖² + tr(Σ1 + Σ2 − 2(Σ1Σ2)^½) between two normal distributions.

    Args:
        mu1, mu2: means, tensors (d,), float32 or float64.
        sigma1, sigma2: covariances, tensors (d, d): symmetric, no eigenvalue negative, some perhaps 0.

    Returns: a float, ≥ 0 up to rounding. The inputs are not changed.
    """
    ### BEGIN SOLUTION
    mu1, sigma1, mu2, sigma2 = (x.double() for x in (mu1, sigma1, mu2, sigma2))
    values, vectors = torch.linalg.eigh(sigma1)
    root1 = vectors * values.clamp(min=0).sqrt() @ vectors.T  # Σ1^½
    # Σ1Σ2 is not symmetric; Σ1^½ Σ2 Σ1^½ is, and has the same eigenvalues
    trace_of_root = torch.linalg.eigvalsh(root1 @ sigma2 @ root1).clamp(min=0).sqrt().sum()
    return float((mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2 * trace_of_root)
    ### END SOLUTION


# %%
@check("frechet_distance", points=5, paper="Heusel et al. (2017), equation 6")
def _(case):
    def covariance(d, rank=None):  # of `rank` random directions; the eigenvalues that are not 0 are well away from 0
        x = case.normal(d, rank or d, dtype=torch.float64)
        return x @ x.T + (0.3 * torch.eye(d, dtype=torch.float64, device=case.device) if rank is None else 0)

    def mean(d):
        return case.normal(d, dtype=torch.float64)

    def distance(name, *statistics, tol=1e-4):
        case.call(name, frechet_distance, *statistics, policy={"tol": tol, "about": "distance"})

    def zero(name, mu, sigma):  # right solutions differ by rounding alone, which a root can make larger
        case.record(name, abs(float(frechet_distance(mu, sigma, mu.clone(), sigma.clone()))), at_most=1e-3, about="distance")

    def diagonal(*numbers):
        return torch.diag(torch.tensor(numbers, dtype=torch.float64, device=case.device))

    point = torch.tensor([1.0], dtype=torch.float64, device=case.device)
    distance("one feature: (1 − 3)² + (2 − 5)²", point, 4 * point[:, None], 3 * point, 25 * point[:, None])
    distance("only the means differ", mean(3), sigma := covariance(3), mean(3), sigma.clone())
    distance("two diagonal covariances", mu := mean(3), diagonal(1.0, 4.0, 9.0), mu.clone(), diagonal(4.0, 0.25, 1.0))
    distance("two features, covariances with different axes", mean(2), covariance(2), mean(2), covariance(2))
    distance("five features", mean(5), covariance(5), mean(5), covariance(5))
    zero("the same statistics twice: 0", mean(4), covariance(4))
    distance("both in float32", *case.cast(torch.float32, mean(4), covariance(4), mean(4), covariance(4)), tol=1e-3)
    with case.part("singular covariances", points=1):
        distance("a feature that is always 0", mean(3), diagonal(2.0, 0.0, 1.0), mean(3), diagonal(0.5, 0.0, 3.0), tol=5e-3)
        distance("one crowd is always the same image", mean(3), torch.zeros(3, 3, dtype=torch.float64, device=case.device), mean(3), covariance(3), tol=5e-3)
        distance("fewer images than features, both crowds", mean(6), covariance(6, rank=2), mean(6), covariance(6, rank=3), tol=5e-3)
        distance("fewer images than features, one crowd", mean(5), covariance(5), mean(5), covariance(5, rank=2), tol=5e-3)
    ### BEGIN HIDDEN TESTS
    distance("one feature, another pair", 2 * point, 9 * point[:, None], -point, 0.25 * point[:, None])
    distance("the covariances the other way round", mean(3), covariance(3), mean(3), covariance(3))
    distance("twelve features", mean(12), covariance(12) / 12, mean(12), covariance(12) / 12)
    distance("small features", 0.01 * mean(4), 1e-4 * covariance(4), 0.01 * mean(4), 1e-4 * covariance(4), tol=1e-3)
    distance("large features", 100 * mean(4), 1e4 * covariance(4), 100 * mean(4), 1e4 * covariance(4))
    distance("one covariance is a multiple of the other", mean(4), sigma := covariance(4), mean(4), 3 * sigma)
    zero("the same statistics twice, seven features", mean(7), covariance(7))
    distance("float32, eight features", *case.cast(torch.float32, mean(8), covariance(8), mean(8), covariance(8)), tol=1e-3)
    with case.part("singular covariances"):
        distance("rank 1 and rank 1", mean(4), covariance(4, rank=1), mean(4), covariance(4, rank=1), tol=5e-3)
        distance("rank 4 of 9 and full", mean(9), covariance(9, rank=4), mean(9), covariance(9), tol=5e-3)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "frechet_distance",
    "Work out one feature on paper: $(\\mu_1 - \\mu_2)^2 + \\sigma_1^2 + \\sigma_2^2 - 2\\sigma_1\\sigma_2$. Which part of your code becomes $\\sigma_1\\sigma_2$ there? And which for two diagonal matrices?",
    "Equation 6 of Heusel et al. The root stands over the *product* of the covariances, and the trace over everything.",
    "The trace of the root is the sum of the roots of the eigenvalues of Σ1Σ2. They are real and not negative, but rounding does not know that: take real parts and cut off below 0, or take the eigenvalues of the symmetric product with Σ1^½ on both sides. scipy.linalg.sqrtm works, too.",
)
TRACE = "torch.linalg.eigvalsh(root1 @ sigma2 @ root1).clamp(min=0).sqrt().sum()"
SUM = "(mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2 * trace_of_root"
misconceptions(
    "frechet_distance",
    mistake("the root of it", (f"float({SUM})", f"float(({SUM}).clamp(min=0).sqrt())"), says="The root of the whole is taken; what is called the Fréchet distance here (and in every FID) is the square, d²."),
    mistake("once, not twice", ("- 2 * trace", "- trace"), says="The root of Σ1Σ2 is subtracted once; the formula subtracts it twice. For two equal distributions nothing may be left."),
    mistake("added", ("- 2 * trace", "+ 2 * trace"), says="The root of Σ1Σ2 is added; it is subtracted."),
    mistake("the roots of the entries", (TRACE, "(sigma1 @ sigma2).clamp(min=0).sqrt().trace()"), says="The root is taken of each entry of Σ1Σ2; $A^{1/2}$ is the matrix root, whose product with itself is A."),
    mistake("entry by entry", (TRACE, "(sigma1 * sigma2).clamp(min=0).sqrt().trace()"), says="Only the diagonals are compared (or the covariances multiplied entry by entry, which comes to the same), as if features did not vary together. It is the matrix product, and the matrix root."),
    mistake("the product of the roots", (TRACE, "(root1 @ (lambda w, v: v * w.clamp(min=0).sqrt() @ v.T)(*torch.linalg.eigh(sigma2))).trace()"), says="This is Σ1^½ Σ2^½, the product of the roots; the formula has the root of the product. They agree only where the two covariances have the same axes."),
    mistake("singular values of the product", (TRACE, "torch.linalg.svdvals(sigma1 @ sigma2).sqrt().sum()"), says="The roots of the *singular values* of Σ1Σ2 are summed; the product is not symmetric, so its eigenvalues are others."),
    mistake("eigvalsh of the product", (TRACE, "torch.linalg.eigvalsh(sigma1 @ sigma2).clamp(min=0).sqrt().sum()"), says="eigvalsh is for symmetric matrices and looks at one triangle only; Σ1Σ2 is not symmetric."),
    mistake("symmetrised", (TRACE, "torch.linalg.eigvalsh((sigma1 @ sigma2 + sigma2 @ sigma1) / 2).clamp(min=0).sqrt().sum()"), says="Σ1Σ2 is averaged with its transpose before the root is taken, which changes its eigenvalues."),
    mistake("no root", (TRACE, "(sigma1 @ sigma2).trace()"), says="The trace is taken of Σ1Σ2 itself; the formula takes its matrix root first."),
    mistake("root of the trace", (TRACE, "(sigma1 @ sigma2).trace().clamp(min=0).sqrt()"), says="The root is taken of the trace; it is the trace of the root."),
    mistake("the root of one", (TRACE, "root1.trace()"), says="Only Σ1 is under the root; the product Σ1Σ2 belongs there."),
    mistake("only Σ1 + Σ2", (" - 2 * trace_of_root", ""), says="The root of Σ1Σ2 is missing: two equal distributions would be far apart."),
    mistake("means only", (f"float({SUM})", "float((mu1 - mu2).square().sum())"), says="Only the means are compared. A collapsed generator can have the right mean."),
    mistake("covariances only", ("(mu1 - mu2).square().sum() + ", ""), says="The means are not compared."),
    mistake("the distance of the means, not squared", ("(mu1 - mu2).square().sum()", "(mu1 - mu2).norm()"), says="The distance between the means is not squared."),
    mistake("absolute differences", ("(mu1 - mu2).square().sum()", "(mu1 - mu2).abs().sum()"), says="The absolute differences of the means are summed; it is their squares."),
    mistake("the mean of squares", ("(mu1 - mu2).square().sum()", "(mu1 - mu2).square().mean()"), says="The squared differences of the means are averaged over the features; ‖·‖² is their sum."),
    mistake("squared sum", ("(mu1 - mu2).square().sum()", "(mu1 - mu2).sum().square()"), says="The differences are summed and then squared; square each, then sum."),
    mistake("averaged over the features", (f"float({SUM})", f"float(({SUM}) / len(mu1))"), says="The whole is divided by the number of features; the formula sums."),
    mistake("Frobenius distance", (f"float({SUM})", "float((mu1 - mu2).square().sum() + (sigma1 - sigma2).square().sum())"), says="The covariances are compared by the squares of their entries' differences; the formula takes traces and a matrix root."),
    mistake("variances taken for deviations", (f"float({SUM})", "float((mu1 - mu2).square().sum() + (sigma1.diagonal() - sigma2.diagonal()).square().sum())"), says="The variances' differences are squared, and the rest of the covariances is ignored."),
    mistake("NaN where singular", (TRACE, "torch.linalg.eigvals(sigma1 @ sigma2).real.sqrt().sum()"), (f"float({SUM})", f"float(({SUM}) if min(torch.linalg.eigvalsh(sigma1).min(), torch.linalg.eigvalsh(sigma2).min()) > 1e-9 else torch.tensor(torch.nan))"), says="With a singular covariance some eigenvalues are a little below 0 by rounding, and their roots are NaN. Cut off below 0 first."),
    mistake("Cholesky", ("root1 = vectors * values.clamp(min=0).sqrt() @ vectors.T", "root1 = torch.linalg.cholesky(sigma1 if values.min() > 1e-9 else -torch.eye(len(mu1)))"), (TRACE, "torch.linalg.eigvalsh(root1.T @ sigma2 @ root1).clamp(min=0).sqrt().sum()"), says="Cholesky's factor does as a root, but it exists only where no eigenvalue is 0. With fewer images than features there always is one."),
    mistake("a complex number", (f"return float({SUM})", f"return complex({SUM})"), says="The result is complex (as scipy's sqrtm and eigvals give it); its imaginary part is rounding. Return the real part."),
)  # fmt: skip
equivalents("frechet_distance", {
    "line missing: `mu1, sigma1, mu2, sigma2 = (x.double() for x in (mu1, sigma1, mu2, sigma2))` → `pass`": "without eigenvalues near 0, float32 is right to three digits, and that is what its case asks",
    "call dropped: `mu1, sigma1, mu2, sigma2 = (x.double() for x in (mu1, sigma1, mu2, sigma2))` → `mu1, sigma1, mu2, sigma2 = (x for x in (mu1, sigma1, mu2, sigma2))`": "as above",
    "operands: `return float((mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2 * trace_of_root)` → `return float((mu2 - mu1).square().sum() + sigma1.trace() + sigma2.trace() - 2 * trace_of_root)`": "the difference is squared",
})  # fmt: skip


# %% tags=["alternative"]
@alternative("scipy's sqrtm, as the first FID code")
def frechet_distance(mu1, sigma1, mu2, sigma2):
    from scipy import linalg

    mu1, sigma1, mu2, sigma2 = (np.asarray(x, dtype=np.float64) for x in (mu1, sigma1, mu2, sigma2))
    root = linalg.sqrtm(sigma1.dot(sigma2))
    if not np.isfinite(root).all():
        offset = np.eye(len(mu1)) * 1e-6
        root = linalg.sqrtm((sigma1 + offset).dot(sigma2 + offset))
    if np.iscomplexobj(root):
        root = root.real
    difference = mu1 - mu2
    return difference.dot(difference) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root)


# %% tags=["alternative"]
@alternative("eigenvalues of the product, real parts")
def frechet_distance(mu1, sigma1, mu2, sigma2):
    eigenvalues = torch.linalg.eigvals(sigma1 @ sigma2)
    cross = eigenvalues.real.clamp(min=0).sqrt().sum()
    return (torch.dot(mu1 - mu2, mu1 - mu2) + torch.trace(sigma1 + sigma2) - 2 * cross).item()


# %% tags=["alternative"]
@alternative("complex roots, their real part")
def frechet_distance(mu1, sigma1, mu2, sigma2):
    cross = torch.linalg.eigvals((sigma1 @ sigma2).to(torch.complex128)).sqrt().real.sum()
    return float(torch.norm(mu1 - mu2) ** 2 + sigma1.diagonal().sum() + sigma2.diagonal().sum() - 2.0 * cross)


# %% tags=["alternative"]
@alternative("the nuclear norm of the product of two roots")
def frechet_distance(mu1, sigma1, mu2, sigma2):
    def root(sigma):
        u, s, _ = torch.linalg.svd(sigma.double())
        return (u * s.sqrt()) @ u.T

    cross = torch.linalg.matrix_norm(root(sigma1) @ root(sigma2), ord="nuc")
    return ((mu1.double() - mu2.double()) ** 2).sum() + torch.trace(sigma1.double()) + torch.trace(sigma2.double()) - 2 * cross


# %% tags=["alternative"]
@alternative("everything inside the trace, numpy, the second covariance on the outside")
def frechet_distance(mu1, sigma1, mu2, sigma2):
    a, b = np.array(sigma1.tolist()), np.array(sigma2.tolist())
    w, v = np.linalg.eigh(b)
    root = v @ np.diag(np.sqrt(np.maximum(w, 0))) @ v.T
    w, v = np.linalg.eigh(root @ a @ root)
    inner = v @ np.diag(np.sqrt(np.abs(w))) @ v.T
    return sum((x - y) ** 2 for x, y in zip(mu1.tolist(), mu2.tolist())) + float(np.trace(a + b - 2 * inner))


# %% [markdown]
# The score of two crowds of images, then, whatever network the features come from. And, for real photographs, a network that somebody else has trained: SqueezeNet on ImageNet, with 512 features, where its weights are at hand.

# %% tags=["export"]
FeatureNetwork = Callable[[Tensor], Tensor]  # images (N, C, H, W) in [−1, 1] -> features (N, d)


def feature_distance(features: FeatureNetwork, images: Tensor, others: Tensor, batch_size: int = 256) -> float:
    """The squared Fréchet distance between the features of two crowds of images: a FID-like score, whose scale is the feature network's.

    Args:
        features: from images to features, without randomness; in evaluation mode.
        images, others: (N, C, H, W) and (M, C, H, W) in [−1, 1]. More images make the score lower and steadier: compare only scores of equally many.
    """
    with torch.no_grad():
        crowds = [torch.cat([features(batch) for batch in crowd.split(batch_size)]) for crowd in (images, others)]
    return frechet_distance(*feature_statistics(crowds[0]), *feature_statistics(crowds[1]))


def squeezenet_features(weights: str | Path, device: torch.device | str = "cpu") -> FeatureNetwork:
    """SqueezeNet 1.0's last feature maps, averaged over the image: 512 features.

    Args:
        weights: an .npz file of arrays in torchvision's names, trained on ImageNet.
    """
    import numpy as np
    from torchvision.models import squeezenet1_0

    network = squeezenet1_0(weights=None)
    with np.load(weights) as arrays:
        network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    network = network.features.eval().to(device)
    mean, std = torch.tensor([0.485, 0.456, 0.406], device=device), torch.tensor([0.229, 0.224, 0.225], device=device)

    def features(images: Tensor) -> Tensor:
        images = images.expand(-1, 3, -1, -1) / 2 + 0.5
        images = F.interpolate(images, size=128, mode="bilinear", antialias=True)
        return network((images - mean[:, None, None]) / std[:, None, None]).mean(dim=(2, 3))

    return features


# %% [markdown]
# ## Exercise 5 · `diversity`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# A Fréchet distance answers two questions with one number: are the images good, and are they as varied as real ones? To recognise a collapse we want the second by itself, and cheaply, so that it can be taken every few steps:
#
# $$\mathrm{diversity}(x_1 \dots x_N) = \frac{2}{N(N-1)} \sum_{i < j} \|x_i - x_j\|$$
#
# the mean Euclidean distance between two different images of a batch, all pixels and channels as one long vector.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | collapse | batch-norm "prevent[s] the generator from collapsing all samples to a single point" (section 3); by eye | a mean distance in pixels | it needs no network, and is 0 for exactly that single point. Noise has a high diversity, too: read it beside a score, never alone |

# %% tags=["export"]
def diversity(images: Tensor) -> float:
    """The mean Euclidean distance between two different images.

    Args:
        images: (N, C, H, W), or (N, anything), floating point, N ≥ 2.

    Returns: a float: the mean, over all pairs of images i ≠ j, of ‖x_i − x_j‖, where all numbers of
        an image are one vector. The input is not changed.
    """
    ### BEGIN SOLUTION
    return float(torch.pdist(images.flatten(1).double()).mean())  # pdist: the distances of all pairs i < j
    ### END SOLUTION


# %%
@check("diversity", points=2, paper="section 3, on batch-norm and collapse")
def _(case):
    def measure(name, images):
        case.call(name, diversity, images, policy={"tol": 1e-3, "about": "diversity"})

    measure("two images of two pixels", case.normal(2, 1, 1, 2))
    measure("three images of 2 × 2 pixels", case.uniform(3, 1, 2, 2, low=-1.0))
    measure("four images, three channels, 2 × 3 pixels", case.uniform(4, 3, 2, 3, low=-1.0))
    one = case.uniform(1, 3, 4, 5, low=-1.0)
    case.record("six times the same image", abs(float(diversity(one.expand(6, -1, -1, -1).clone()))), at_most=0.05, about="diversity")
    measure("two kinds of image, three and five of them", case.uniform(2, 3, 4, 4, low=-1.0)[torch.tensor([0, 0, 0, 1, 1, 1, 1, 1], device=case.device)])
    measure("every image of one colour: they differ, their pixels do not", case.uniform(5, 1, 1, 1, low=-1.0).expand(5, 1, 3, 3).clone())
    measure("vectors", case.normal(7, 4))
    ### BEGIN HIDDEN TESTS
    measure("two images, three channels", case.uniform(2, 3, 3, 2, low=-1.0))
    measure("forty images", case.uniform(40, 2, 5, 4, low=-1.0))
    measure("as many images as channels and pixels a side", case.uniform(3, 3, 3, 3, low=-1.0))
    measure("bright images", 5 + case.uniform(6, 1, 4, 3))
    measure("float64", case.uniform(5, 3, 2, 2, low=-1.0, dtype=torch.float64))
    measure("not contiguous", case.uniform(4, 5, 6, 3, low=-1.0).permute(0, 3, 1, 2))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "diversity",
    "How many pairs are there among three images? Is the distance of an image to itself one of them?",
    "Section 3, on batch-norm: “collapsing all samples to a single point”. What is the diversity of that?",
    "Make each image one row, compute the distances between all rows, and average those of different images: torch.pdist gives exactly these; of a whole matrix of distances, divide the sum by N(N − 1).",
)
PDIST = "torch.pdist(images.flatten(1).double()).mean()"
misconceptions(
    "diversity",
    mistake("each image with itself", (PDIST, "torch.cdist(images.flatten(1), images.flatten(1)).mean()"), says="The distance of each image to itself, 0, is averaged in: divide by N(N − 1), the pairs of different images, not by N²."),
    mistake("half of it", (PDIST, "torch.pdist(images.flatten(1)).sum() / (len(images) * (len(images) - 1))"), says="Everything comes out half: the pairs i < j are summed and divided by N(N − 1), twice their number, or the images were brought to [0, 1] first."),
    mistake("twice as much", (PDIST, "2 * torch.pdist(images.flatten(1)).mean()"), says="Each pair is counted twice; divide by the number of pairs you summed."),
    mistake("squared distances", (PDIST, "torch.pdist(images.flatten(1)).square().mean()"), says="Squared distances are averaged; it is the distances themselves."),
    mistake("root of the mean square", (PDIST, "torch.pdist(images.flatten(1)).square().mean().sqrt()"), says="Squared distances are averaged and the root taken at the end (which is also what the pixels' variances give); it is the mean of the distances."),
    mistake("city-block", (PDIST, "torch.pdist(images.flatten(1), p=1.0).mean()"), says="Absolute differences are summed; a Euclidean distance is the root of the sum of squares."),
    mistake("per pixel", (PDIST, "(torch.pdist(images.flatten(1)) / images[0].numel() ** 0.5).mean()"), says="The distances are divided by the root of the number of pixels (a root of a *mean* of squares); it is the root of the sum."),
    mistake("mean absolute difference", (PDIST, "(torch.pdist(images.flatten(1), p=1.0) / images[0].numel()).mean()"), says="The mean absolute difference of pixels is taken; it is the Euclidean distance of images."),
    mistake("largest difference of a pixel", (PDIST, "torch.pdist(images.flatten(1), p=float('inf')).mean()"), says="The largest difference of any pixel is taken; it is the Euclidean distance, in which all take part."),
    mistake("within an image", (PDIST, "images.flatten(1).std(dim=1).mean()"), says="This is how much the pixels *within* an image vary: an image full of contrast, drawn a thousand times, would be called diverse."),
    mistake("each pixel's deviation", (PDIST, "images.flatten(1).std(dim=0).mean()"), says="This is the mean deviation of each pixel over the images; what is wanted is the mean distance between pairs of images."),
    mistake("deviation of everything", (PDIST, "images.std()"), says="This is the deviation of all pixels of all images together, contrast within an image included."),
    mistake("distance to the mean image", (PDIST, "(images - images.mean(0)).flatten(1).norm(dim=1).mean()"), says="The distances to the mean image are averaged; it is the distances between pairs of images."),
    mistake("neighbours in the batch", (PDIST, "(images[1:] - images[:-1]).flatten(1).norm(dim=1).mean()"), says="Only images next to each other in the batch are compared; take all pairs."),
    mistake("the first against the others", (PDIST, "(images[1:] - images[:1]).flatten(1).norm(dim=1).mean()"), says="All images are compared with the first one only; take all pairs."),
    mistake("nearest neighbours", (PDIST, "(torch.cdist(images.flatten(1), images.flatten(1)) + torch.diag(torch.full((len(images),), float('inf')))).min(1).values.mean()"), says="The distance of each image to its nearest neighbour is averaged; take all pairs."),
    mistake("the furthest two", (PDIST, "torch.pdist(images.flatten(1)).max()"), says="The largest distance is returned; two outliers decide it. Take the mean."),
    mistake("the median", (PDIST, "torch.pdist(images.flatten(1)).quantile(0.5)"), says="The median of the distances is returned; it is the mean."),
    mistake("the sum", (PDIST, "torch.pdist(images.flatten(1)).sum()"), says="The distances are summed, so more images are more diverse; take their mean."),
    mistake("each channel by itself", (PDIST, "torch.stack([torch.pdist(x.flatten(1)) for x in images.split(1, dim=1)]).mean()"), says="Distances are taken channel by channel and averaged; all numbers of an image are one vector."),
    mistake("the first channel", (PDIST, "torch.pdist(images[:, :1].flatten(1)).mean()"), says="Only the first channel counts; all numbers of an image are one vector."),
    mistake("cosine distance", (PDIST, "(1 - torch.cosine_similarity(images.flatten(1)[:, None], images.flatten(1)[None], dim=-1)).sum() / (len(images) * (len(images) - 1))"), says="Angles between images are compared; it is their Euclidean distance."),
    mistake("a distance for each pair", (f"float({PDIST})", PDIST.replace(".mean()", "")), says="There is a distance for every pair; return their mean, one number."),
)  # fmt: skip
equivalents("diversity", {
    "call dropped: `return float(torch.pdist(images.flatten(1).double()).mean())` → `return float(torch.pdist(images.flatten(1)).mean())`": "float32 is exact enough for a mean of distances",
})  # fmt: skip


# %% tags=["alternative"]
@alternative("two loops")
def diversity(images):
    distances = []
    for i in range(len(images)):
        for j in range(i + 1, len(images)):
            distances.append((images[i] - images[j]).pow(2).sum().sqrt().item())
    return sum(distances) / len(distances)


# %% tags=["alternative"]
@alternative("cdist in float32, the upper triangle")
def diversity(images):
    x = images.reshape(len(images), -1)
    distance = torch.cdist(x, x)
    i, j = torch.triu_indices(len(x), len(x), offset=1)
    return distance[i, j].mean()


# %% tags=["alternative"]
@alternative("Gram matrix, the whole sum over N(N − 1)")
def diversity(images):
    n = images.shape[0]
    x = images.reshape(n, -1).double()
    gram = x @ x.T
    squares = gram.diagonal()[:, None] + gram.diagonal()[None, :] - 2 * gram
    return (squares.clamp(min=0).sqrt().fill_diagonal_(0).sum() / (n * (n - 1))).item()


# %% tags=["alternative"]
@alternative("broadcasting, numpy")
def diversity(images):
    x = images.numpy().reshape(images.shape[0], -1)
    distance = np.linalg.norm(x[:, None] - x[None, :], axis=-1)
    return float(distance[~np.eye(len(x), dtype=bool)].mean())


# %% tags=["alternative"]
@alternative("itertools, torch.dist")
def diversity(images):
    from itertools import combinations
    from statistics import fmean

    return fmean(float(torch.dist(a, b)) for a, b in combinations(images, 2))


# %% [markdown]
# ## Exercise 6 · `collapse_alarm`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Nobody watches a run of ten hours. The training loop measures the diversity of a batch of samples every so often and compares it with that of real images. One low value may be chance, several in a row are not. And an untrained generator draws nothing but grey: the first measurements do not count.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | a sign of collapse | nothing: "we noticed as models are trained longer they sometimes collapse a subset of filters to a single oscillating mode" (section 7) | diversity below a share of the real images' for several measurements in a row | simple enough to trust. Whatever share you choose: look at the pictures when it rings |
# | NaN | – | counts as low | a run that has blown up shall ring, too, and no comparison with NaN is true |

# %% tags=["export"]
def collapse_alarm(
    diversities: Sequence[float], reference: float, share: float = 0.5, patience: int = 3,
    warmup: int = 0,
) -> int | None:
    """When an alarm against mode collapse rings.

    Args:
        diversities: of generated images, one measurement after the other.
        reference: the diversity of real images, > 0.
        share: a measurement is low if it is below share · reference, or NaN.
        patience: so many low measurements in a row ring the alarm, ≥ 1.
        warmup: the first so many measurements are ignored: they neither ring nor count towards a row.

    Returns: the index, in `diversities`, of the measurement at which the alarm rings first, which
        is the last of the row; None if it never does.
    """
    ### BEGIN SOLUTION
    row = 0
    for index, value in enumerate(diversities):
        if index >= warmup:
            row = 0 if value >= share * reference else row + 1  # NaN is not ≥ anything
            if row == patience:
                return index
    return None
    ### END SOLUTION


# %%
@check("collapse_alarm", points=3, paper="section 7")
def _(case):
    nan = float("nan")

    def ring(name, diversities, **options):
        case.call(name, collapse_alarm, diversities, 4.0, **options, policy={"about": "index"})

    ring("three low ones in a row", [4.0, 1.0, 1.5, 0.5, 1.0])
    ring("never low", [3.0, 4.0, 5.0, 4.0])
    ring("low for ever", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    ring("three low ones, but not in a row", [1.0, 3.0, 1.0, 3.0, 1.0, 1.0, 3.0])
    ring("recovered, and low again", [1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 3.0])
    ring("exactly half of the real images' is not low", [2.0, 2.0, 2.0, 2.0])
    ring("one is enough", [3.0, 3.0, 1.0, 3.0], patience=1)
    ring("the very first one is enough", [1.0, 3.0, 1.0], patience=1)
    ring("exactly 0 (all images the same) is low", [3.0, 1.0, 0.0, 1.0, 1.0, 3.0])
    ring("low at first, as any generator is: a warm-up of 4", [0.1, 0.2, 0.3, 0.4, 3.0, 3.0, 3.0], warmup=4)
    ring("a row that begins in the warm-up", [1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0], warmup=3)
    ring("NaN in the middle of a row", [3.0, 1.0, nan, 1.0, 1.0, 3.0])
    ring("two rows: the first one rings", [3.0, 1.0, 1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0])
    case.call("another reference and share", collapse_alarm, [9.0, 7.0, 4.0, 4.0, 4.0, 4.0, 9.0], 10.0, share=0.8, patience=4, policy={"about": "index"})
    case.call("no measurements", collapse_alarm, [], 4.0, policy={"about": "index"})
    ### BEGIN HIDDEN TESTS
    ring("shorter than the patience", [1.0, 1.0])
    ring("measurements in a tuple, with a warm-up", (1.0, 3.0, 1.0, 1.0, 1.0), warmup=1)
    ring("shorter than the warm-up", [1.0, 1.0, 1.0, 1.0], warmup=6)
    ring("a warm-up that ends inside a row", [3.0, 1.0, 1.0, 1.0, 1.0, 1.0], patience=2, warmup=3)
    ring("0 to the end", [4.0, 0.0, 0.0, 0.0, 0.0])
    ring("NaN to the end", [3.0, 3.0, nan, nan, nan, nan])
    ring("at the very end", [3.0, 2.5, 1.9, 1.8, 1.9])
    ring("the mean of three is low, one of them is not", [4.0, 0.1, 2.1, 0.1, 2.1, 0.1])
    lows = [bool(low) for low in case.boolean(40, p=0.6)]
    ring("forty measurements drawn by chance", [1.0 if low else 3.0 for low in lows], patience=4, warmup=2)
    case.call("a small reference", collapse_alarm, [0.3, 0.1, 0.02, 0.01, 0.02, 0.01], 0.1, share=0.25, policy={"about": "index"})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "collapse_alarm",
    "Keep one number while you walk through the measurements: how many of the last ones, without a gap, were low. When does it go back to 0?",
    "Section 7 speaks of collapse only as something one notices. The docstring has the rest: what is low, what counts, which index.",
    "Walk with an index from 0; skip the warm-up but keep counting; a measurement that is high enough sets the row to 0, anything else (NaN, too) makes it one longer; when it is as long as the patience, return the index.",
)
misconceptions(
    "collapse_alarm",
    mistake("gaps allowed", ("row = 0 if value >= share * reference else row + 1", "row = row if value >= share * reference else row + 1"), says="A measurement that is high enough does not start the count anew: low ones are counted, not low ones in a row."),
    mistake("where the row begins", ("return index", "return index - patience + 1"), says="The index is that of the first low measurement of the row; the alarm rings at the last."),
    mistake("the number of measurements", ("return index", "return index + 1"), says="The index is one too high: measurements are counted from 0."),
    mistake("counted from the warm-up", ("return index", "return index - warmup"), says="The index counts from the end of the warm-up; it is the place in `diversities`."),
    mistake("one more", ("row == patience", "row > patience"), says="The alarm rings one measurement late: `patience` low ones are enough."),
    mistake("one less", ("row == patience", "row >= patience - 1"), says="The alarm rings one measurement early: it takes `patience` low ones in a row."),
    mistake("at most", ("value >= share", "value > share"), says="A measurement of exactly share · reference counts as low; only one *below* it does."),
    mistake("NaN is fine", ("row = 0 if value >= share * reference else row + 1", "row = row + 1 if value < share * reference else 0"), says="NaN counts as high, because no comparison with it is true. A run that has blown up has to ring."),
    mistake("an index of 0 is lost", ("                return index\n", "                return index or None\n"), says="Where the first measurement rings, its index 0 is taken for nothing (`index or None`), and the alarm never rings."),
    mistake("0 is no measurement", ("            row = 0 if", "            if not value:\n                continue\n            row = 0 if"), says="A diversity of exactly 0 is passed over as if nothing had been measured (`if not value`). It is the worst collapse there is: all images the same."),
    mistake("0 is high", ("value >= share * reference else", "not value or value >= share * reference else"), says="A diversity of exactly 0 counts as high. It is the worst collapse there is: all images the same."),
    mistake("NaN is skipped", ("            row = 0 if", "            if value != value:\n                continue\n            row = 0 if"), says="NaN is passed over; it counts as low."),
    mistake("no warm-up", ("index >= warmup", "index >= 0"), says="The warm-up is not ignored: every generator is uniform at first."),
    mistake("warm-up one too long", ("index >= warmup", "index > warmup"), says="One measurement too many is ignored: the first `warmup` ones have indices below warmup."),
    mistake("rows begin in the warm-up", ("        if index >= warmup:\n            row =", "        if True:\n            row ="), ("if row == patience:", "if row >= patience and index >= warmup:"), says="Low measurements of the warm-up count towards the row; they are ignored altogether."),
    mistake("an absolute bar", ("share * reference", "share"), says="The measurements are compared with `share` itself; it is a share of the real images' diversity."),
    mistake("the reference itself", ("share * reference", "reference"), says="The measurements are compared with the whole reference; only those below share · reference are low."),
    mistake("one minus the share", ("share * reference", "(1 - share) * reference"), says="A measurement counts as low if it has *lost* the share; it is low below share · reference."),
    mistake("a share of the first", ("share * reference", "share * diversities[0]"), says="The measurements are compared with the first one; compare them with the real images' diversity."),
    mistake("too high", ("value >= share", "value < share"), says="The alarm rings for high diversity; collapse is when it is low."),
    mistake("the last row", ("            if row == patience:\n                return index\n    return None", "            if row == patience:\n                found = index\n    return found"), ("    row = 0\n", "    row, found = 0, None\n"), says="The last row that rings is reported; the first is asked for."),
    mistake("low at the end", ("    return None", "    return None"), ("            if row == patience:\n                return index", "    if row >= patience:\n        return len(diversities) - 1"), says="Only the last measurements are looked at; the alarm rings when it happens, even if the run recovers."),
    mistake("the mean of the last", ("            row = 0 if value >= share * reference else row + 1  # NaN is not ≥ anything\n            if row == patience:", "            window = diversities[max(warmup, index - patience + 1) : index + 1]\n            if len(window) == patience and not sum(window) / patience >= share * reference:"), says="The mean of the last measurements is compared; every one of them has to be low."),
    mistake("−1 for never", ("    return None", "    return -1"), says="−1 is returned where the alarm never rings; return None (−1 is an index, too)."),
    mistake("yes or no", ("return index", "return True"), ("    return None", "    return False"), says="The answer is yes or no; the index is asked for, or None."),
    mistake("patience fixed", ("row == patience", "row == 3"), says="Three in a row ring, whatever `patience` says."),
    mistake("share fixed", ("share * reference", "0.5 * reference"), says="The bar is half of the reference, whatever `share` says."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("windows")
def collapse_alarm(diversities, reference, share=0.5, patience=3, warmup=0):
    low = [not (value >= share * reference) for value in diversities]
    for end in range(warmup + patience, len(low) + 1):
        if all(low[end - patience : end]):
            return end - 1
    return None


# %% tags=["alternative"]
@alternative("a string of letters and a regular expression")
def collapse_alarm(diversities, reference, share=0.5, patience=3, warmup=0):
    import re

    letters = "".join("h" if v >= share * reference else "l" for v in diversities)
    found = re.search("l" * patience, letters[warmup:])
    return None if found is None else warmup + found.end() - 1


# %% tags=["alternative"]
@alternative("convolution of a boolean array")
def collapse_alarm(diversities, reference, share=0.5, patience=3, warmup=0):
    values = np.array(list(diversities)[warmup:], dtype=float)
    if len(values) < patience:
        return None
    low = ~(values >= share * reference)
    rows = np.convolve(low.astype(int), np.ones(patience, dtype=int), mode="valid")
    hits = np.flatnonzero(rows == patience)
    return int(hits[0]) + patience - 1 + warmup if len(hits) else None


# %% tags=["alternative"]
@alternative("itertools.groupby")
def collapse_alarm(diversities, reference, share=0.5, patience=3, warmup=0):
    from itertools import groupby

    place = warmup
    for low, group in groupby(diversities[warmup:], key=lambda v: math.isnan(v) or v / reference < share):
        length = len(list(group))
        if low and length >= patience:
            return place + patience - 1
        place += length


# %% tags=["alternative"]
@alternative("backwards from each measurement, torch")
def collapse_alarm(diversities, reference, share=0.5, patience=3, warmup=0):
    values = torch.nan_to_num(torch.tensor(diversities, dtype=torch.float64), nan=-1.0)
    for i in range(len(values)):
        begin = i + 1 - patience
        if begin >= warmup and bool((values[begin : i + 1] < share * reference).all()):
            return i
    return None


# %% [markdown]
# ## Images, a ruler for them, and what the ruler says about images that are no riddle
#
# Quick profile: drawn glyphs, 16 × 16 pixels, one channel, six kinds, dark on bright or bright on dark. Full profile: CIFAR-10, 64 × 64 in colour. Half of the images are for training GANs, the other half is held out, as the crowd that everything is compared with.

# %% tags=["picture"]
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)
if PROFILE == "quick":
    torch.set_num_threads(1)  # networks so small are faster on one core

if PROFILE == "quick":
    side, channels, nz, width, lr, batch_size, updates, counted = 16, 1, 32, 8, 2e-3, 32, 350, 1000
    kinds = ["star", "heart", "disc", "triangle", "square", "crescent"]

    def images_of(seed):  # where ink is, by how much a pixel differs from the corner: colours go, dark or bright stays
        pixels, labels = drawn_glyphs(2000, seed=seed, size=side, classes=kinds, pose=0.3)
        difference = torch.from_numpy(pixels).float().mean(dim=3)[:, None]
        difference = difference - difference[..., :1, :1]
        ink = difference.abs() / difference.abs().amax(dim=(2, 3), keepdim=True)
        return (2 * ink - 1) * difference.sum(dim=(2, 3), keepdim=True).sign(), torch.from_numpy(labels)

    real, labels = images_of(SEED)
    held_out, held_labels = images_of(SEED + 1)
else:
    side, channels, nz, width, lr, batch_size, updates, counted = 64, 3, 100, 64, 2e-4, 64, 6000, 5000
    folder = data_folder(DATA_DIR)
    photographs = real_images("cifar10", folder or "data/cifar10", download=folder is None)
    kinds = photographs.classes
    pixels, labels = torch.from_numpy(photographs.data).permute(0, 3, 1, 2), torch.tensor(photographs.targets)
    (real, held_out), (labels, held_labels) = pixels.split(25000), labels.split(25000)
if STEPS:
    updates, counted = STEPS, 200


def shown(images):  # what networks get: `side` pixels a side, in [−1, 1], on the device
    if images.dtype == torch.uint8:
        images = F.interpolate(images.to(device).float(), size=side, mode="bilinear", antialias=True) / 127.5 - 1
    return images.to(device)


def sheet(axis, images, columns=8, title=""):
    rows = [torch.cat(list(F.pad(row, (1, 1, 1, 1), value=1.0)), dim=2) for row in images.detach().cpu().split(columns)]
    picture = torch.cat(rows, dim=1).permute(1, 2, 0).clamp(-1, 1) / 2 + 0.5
    axis.imshow(picture.squeeze(-1), cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


figure, axis = plt.subplots(figsize=(8, 2.1), layout="constrained")
sheet(axis, shown(real[:48]), columns=16, title=f"real images, {side} × {side}")
plt.show()

# %% [markdown]
# The feature network is an ordinary classifier: a few strided convolutions, a layer of features, logits. It is trained on the kinds of the real images, and then the last layer is taken off.

# %% tags=["picture"]
torch.manual_seed(SEED)
epochs, hidden = (3, 32) if PROFILE == "quick" else (1 if STEPS else 8, 64)
trunk = nn.Sequential(
    nn.Conv2d(channels, hidden // 2, 3, stride=2, padding=1), nn.ReLU(),
    nn.Conv2d(hidden // 2, hidden, 3, stride=2, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(4), nn.Flatten(),
    nn.Linear(16 * hidden, hidden), nn.ReLU(),
).to(device)  # fmt: skip
head = nn.Linear(hidden, len(kinds)).to(device)
optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=2e-3)
for epoch in range(epochs):
    for chosen in torch.randperm(len(real)).split(64):
        loss = F.cross_entropy(head(trunk(shown(real[chosen]))), labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def kind_of(images):
    with torch.no_grad():
        return head(trunk(images)).argmax(dim=1).cpu()


accuracy = (kind_of(shown(held_out[:counted])) == held_labels[:counted]).float().mean().item()
print(f"the feature network names {100 * accuracy:.1f} % of {counted} held-out images rightly; {hidden} features")
rulers = {"own network": trunk}
weights = (data_folder(DATA_DIR) or Path()) / "squeezenet1_0.npz"
if PROFILE == "full" and weights.is_file():
    rulers["SqueezeNet, ImageNet"] = squeezenet_features(weights, device)
yardstick = shown(held_out[:counted])  # the crowd that every other is compared with
variety = diversity(yardstick[:128].cpu())

# %% [markdown]
# Before a ruler measures anything unknown, it measures what is known. Real images against other real images should be close; blurred ones further off; noise very far. And how many images are counted changes the score of *the same* crowd.

# %% tags=["picture"]
fresh = shown(real[:counted])
reach = side // 16  # of the blur, in pixels to either side
crowds = {
    "real, another half": fresh,
    "real, blurred": F.avg_pool2d(F.pad(fresh, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1),
    "real, half of the kinds": shown(real[labels < len(kinds) // 2][:counted]),
    "one real image, again and again": fresh[:1].expand(counted, -1, -1, -1),
    "noise": torch.rand(fresh.shape, generator=torch.Generator().manual_seed(SEED)).to(device) * 2 - 1,
}
print(f"{'compared with held-out real images':34}" + "".join(f"{name:>22}" for name in rulers) + f"{'diversity':>11}")
for name, crowd in crowds.items():
    scores = [feature_distance(ruler, crowd, yardstick) for ruler in rulers.values()]
    print(f"{name:34}" + "".join(f"{score:22.1f}" for score in scores) + f"{diversity(crowd[:128].cpu()):11.2f}")
print(f"{'held-out real images themselves':34}" + "".join(f"{0:22.1f}" for _ in rulers) + f"{variety:11.2f}")

counts = [n for n in (50, 100, 200, 500, 1000, 2000, 5000) if n <= counted]
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for (name, ruler), colour, marker in zip(rulers.items(), (BLUE, ORANGE), "os"):
    axis.plot(counts, [feature_distance(ruler, fresh[:n], yardstick[:n]) for n in counts], marker + "-", color=colour, label=name)
axis.set(xscale="log", xlabel="images in each of the two crowds", ylabel="squared Fréchet distance", title="Real against real")
if len(rulers) > 1:
    axis.set_yscale("log")  # each ruler has units of its own
else:
    axis.set_ylim(0, None)
axis.set_xticks(counts, [f"{n:,}" for n in counts])
axis.minorticks_off()
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** The score orders the crowds as an eye would: real, blurred, noise. In the quick profile half of the kinds missing costs a good deal, although every single image is real, and one real image, again and again, costs more still, although it is *perfect*. Diversity alone is fooled the other way: noise is far from collapsed.
# The curve: two crowds of real images have nothing to tell them apart, and yet the score is not 0, and the larger the fewer are counted. So a score without its number of images says nothing, and neither does one without its feature network.

# %% [markdown]
# ## A run that works, and six ways to spoil it
#
# In the quick profile the networks are week 3's with their two outer layers left out, so that images have 16 × 16 pixels, and an eighth as wide. Each run below changes *one* thing.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | learning rate | 0.0002 (section 4) | 0.002 in the quick profile, the paper's in the full | networks an eighth as wide, with a few hundred updates to go; for the paper's it would be too high |
# | length | several passes over the data | a few hundred updates (quick), a few thousand (full) | enough to tell the runs apart |
# | model selection | – | none: what counts is the last measurement | picking the best point by the score that is reported flatters |

# %% tags=["picture"]
def networks(batch_norm=True):
    """Week 3's two networks, for images of 64, 32 or 16 pixels: the smaller, the fewer of the outer layers."""
    generator, discriminator = list(Generator(nz, width, channels).layers), list(Discriminator(channels, width).layers)
    left_out = {64: 0, 32: 1, 16: 2}[side]
    if left_out:
        generator, discriminator = generator[: -2 - 3 * left_out], discriminator[: -1 - 3 * left_out]
        outer = width * 2**left_out
        deepest = [layer for layer in discriminator if isinstance(layer, nn.Conv2d)][-1].out_channels
        generator += [nn.ConvTranspose2d(outer, channels, 4, stride=2, padding=1, bias=False), nn.Tanh()]
        discriminator += [nn.Conv2d(deepest, 1, 4, bias=False)]
    discriminator.append(nn.Flatten(0))  # logits (B,)
    return [
        nn.Sequential(*[layer for layer in layers if batch_norm or not isinstance(layer, nn.BatchNorm2d)]).apply(init_weights).to(device)
        for layers in (generator, discriminator)
    ]


class Run:
    """One GAN, what was changed in it, and what was measured on the way."""

    def __init__(self, lr_g=lr, lr_d=lr, criterion_g=None, batch_norm=True):
        torch.manual_seed(SEED)
        self.generator, self.discriminator = networks(batch_norm)
        self.opt_g, self.opt_d = build_optimizers(self.generator, self.discriminator)
        self.criterion = build_criterion()
        self.criterion_g = criterion_g or self.criterion
        self.set_rates(lr_g, lr_d)
        self.chance = torch.Generator().manual_seed(SEED)
        self.fixed = self.noise(128)  # the same each time we look
        self.steps, self.loss_d, self.loss_g = 0, [], []
        self.measured = {"step": [], "diversity": []}

    def set_rates(self, lr_g, lr_d):
        for optimizer, rate in ((self.opt_g, lr_g), (self.opt_d, lr_d)):
            for group in optimizer.param_groups:
                group["lr"] = rate

    def noise(self, count):
        return torch.randn(count, nz, 1, 1, generator=self.chance).to(device)

    def draw(self, noise):
        with torch.no_grad():
            return torch.cat([self.generator(z) for z in noise.split(128)])

    def measure(self):
        images = self.draw(self.fixed)
        self.measured["step"].append(self.steps)
        self.measured["diversity"].append(diversity(images.cpu()))

    def go(self, updates):
        for _ in range(updates):
            if self.steps % max(1, updates // 14) == 0:
                self.measure()
            batch = shown(real[torch.randint(len(real), (batch_size,), generator=self.chance)])
            loss_d = discriminator_step(self.generator, self.discriminator, self.opt_d, self.criterion, batch, self.noise(batch_size))
            loss_g = generator_step(self.generator, self.discriminator, self.opt_g, self.criterion_g, self.noise(batch_size))
            self.loss_d.append(float(loss_d)), self.loss_g.append(float(loss_g))
            self.steps += 1
        self.measure()
        return self


def score_of(run, ruler="own network"):
    return feature_distance(rulers[ruler], run.draw(run.noise(counted)), yardstick)


began = time.perf_counter()
works = Run().go(updates)
print(f"{updates} updates in {time.perf_counter() - began:.0f} s. Score {score_of(works):.1f}; diversity {works.measured['diversity'][-1]:.2f}, of real images {variety:.2f}")
figure, axis = plt.subplots(figsize=(8, 2.1), layout="constrained")
sheet(axis, works.draw(works.fixed[:48]), columns=16, title=f"generated, after {updates} updates")
plt.show()

# %% [markdown]
# **What to see.** Not beautiful, and better judged by the numbers than by taste: shapes of several kinds, dark and bright. The diversity is close to the real images', the score far below that of noise, and far above that of real images: there is room left.

# %% [markdown]
# ### A walk, and a calculation
#
# Exercises 1 and 2 with this generator. For the calculation the feature network picks exemplars: images of one kind, dark on bright, minus images of the same kind, bright on dark, plus another kind, bright on dark. If directions mean anything, that is the other kind, dark on bright.

# %% tags=["picture"]
works.generator.eval()  # batch-norm with running statistics: an image no longer depends on its neighbours in the batch
ends = works.noise(4)
figure, axes = plt.subplots(2, 1, figsize=(8, 2.9), layout="constrained")
for axis, mode in zip(axes, ("linear", "spherical")):
    paths = torch.cat([interpolate(ends[i], ends[i + 1], 16, mode=mode) for i in (0, 2)])
    sheet(axis, works.draw(paths), columns=16, title=f"{mode}: two walks of 16 points")
plt.show()

candidates = works.noise(2000)
images = works.draw(candidates)
kind = kind_of(images)
border = torch.cat([images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]], dim=-1).mean(dim=(1, 2)).cpu()
dark, bright = border > 0.5, border < -0.5  # a dark thing has a bright border
if PROFILE == "full":
    dark, bright = border > border.quantile(0.7), border < border.quantile(0.3)
pairs = (dark[:, None] & F.one_hot(kind, len(kinds)).bool()).sum(0).minimum((bright[:, None] & F.one_hot(kind, len(kinds)).bool()).sum(0))
one, other = pairs.topk(2).indices.tolist()  # the two kinds with most exemplars of both sorts
exemplars = [candidates[(kind == k) & sort] for k, sort in ((one, dark), (one, bright), (other, bright))]
if all(len(zs) for zs in exemplars):
    z = latent_arithmetic(*exemplars)
    varied = z + 0.25 * (2 * torch.rand(8, *z.shape, generator=works.chance).to(device) - 1)  # the paper's ±0.25
    result = works.draw(torch.cat([z[None], varied]))
    figure, axes = plt.subplots(1, 4, figsize=(9, 2.3), layout="constrained")
    names = [f"{kinds[one]}, bright around", f"− {kinds[one]}, dark around", f"+ {kinds[other]}, dark around"]
    for axis, zs, name in zip(axes, exemplars, names):
        sheet(axis, works.draw(zs[:9]), columns=3, title=f"{name} ({len(zs)})")
    sheet(axes[3], result, columns=3, title="= the result, and 8 near it")
    plt.show()
    found = kind_of(result)
    edge = torch.cat([result[..., 0, :], result[..., -1, :]], dim=-1).mean(dim=(1, 2)).cpu()
    print(f"of 9 results the feature network calls {int((found == other).sum())} {kinds[other]}; {int((edge > 0).sum())} have a bright border")
else:
    print("The generator has not drawn two kinds in both sorts yet: train it longer.")
_ = works.generator.train()

# %% [markdown]
# **What to see.** Along a walk one thing turns into another without a jump, and what is in between is mostly a blend that is neither: the sign that the generator has learned a space and not a list. Between linear and spherical hardly anything differs to the eye when noise has only so many numbers and the generator is small.
# The calculation: read the two counts printed. In the quick profile the border obeys: dark or bright is a direction in the space of noise. The kind does not: what was to become another kind stayed the first, so the two do not simply add up in so small a generator.
# The paper shows calculations that worked; counting those that did not is the part that is easily left out.

# %% [markdown]
# ### Collapse: provoked, measured, repaired
#
# A generator's best answer to a discriminator that stands still is to draw one and the same image (week 0 showed it on a ring). So here is a discriminator that nearly does: its learning rate is a fortieth of the generator's. After as many updates as above, **nothing is changed but that learning rate**, back to its proper value, and the
# same two networks go on.

# %% tags=["picture"]
collapse = Run(lr_d=lr / 40).go(updates)
after_collapse = (score_of(collapse), collapse.draw(collapse.fixed[:48]))
collapse.set_rates(lr, lr)
collapse.go(updates)
after_repair = (score_of(collapse), collapse.draw(collapse.fixed[:48]))

figure, axes = plt.subplot_mosaic("CC;AB", figsize=(9, 5), layout="constrained", height_ratios=(1.15, 1))
for run, colour, label in ((works, BLUE, "as it should be"), (collapse, ORANGE, "slow discriminator, then repaired")):
    axes["C"].plot(run.measured["step"], run.measured["diversity"], "o-", color=colour, label=label, markersize=4)
axes["C"].axhline(variety, color=GREY, linestyle="--", label="real images")
axes["C"].axhline(variety / 2, color=GREY, linestyle=":", label="the alarm's bar")
axes["C"].axvline(updates, color=GREEN, label="discriminator's learning rate × 40")
axes["C"].set(xlabel="updates", ylabel="diversity", ylim=(0, None), title="Mean distance between two generated images")
axes["C"].legend(frameon=False, fontsize=8, loc="lower right")
axes["C"].spines[["top", "right"]].set_visible(False)
sheet(axes["A"], after_collapse[1], columns=12, title=f"collapsed: score {after_collapse[0]:.0f}")
sheet(axes["B"], after_repair[1], columns=12, title=f"repaired: score {after_repair[0]:.0f}")
plt.show()

warmup = len(works.measured["step"]) // 2
half = collapse.measured["diversity"][: len(works.measured["step"])]
for name, measurements in (("as it should be", works.measured["diversity"]), ("slow discriminator", half)):
    index = collapse_alarm(measurements, variety, warmup=warmup)
    print(f"{name:20} " + ("no alarm" if index is None else f"alarm after {works.measured['step'][index]} updates"))
print(f"diversity of the slow run: {half[-1]:.2f} before the repair, {collapse.measured['diversity'][-1]:.2f} after it; real images {variety:.2f}")

# %% [markdown]
# **What to see.** With the slow discriminator all images are alike, whatever the noise, and they are not even good: the whole crowd runs after a judge that hardly moves. The alarm rings, soon after its warm-up. With the learning rate put back, the same networks recover within the same number of updates. Collapse is no scar, it is
# a balance between the two players that was lost.

# %% [markdown]
# ### Four failures, side by side
#
# One run each; everything else is as in the run that works.
#
# - **saturating loss**: the generator minimises $\log(1 - D(G(z)))$, the original game's loss, whose slope vanishes when $D$ is sure;
# - **too strong a discriminator**: it learns ten times as fast as the generator, whose learning rate is a tenth;
# - **no batch-norm**, in neither network;
# - **learning rate too high**, fifty times as high, for both.

# %% tags=["picture"]
def saturating(logits, ones):  # in the place of the criterion; the labels are not needed
    return saturating_generator_loss(logits)


runs = {
    "as it should be": works,
    "saturating loss": Run(criterion_g=saturating).go(updates),
    "too strong a discriminator": Run(lr_g=lr / 10).go(updates),
    "no batch-norm": Run(batch_norm=False).go(updates),
    "learning rate × 50": Run(lr_g=50 * lr, lr_d=50 * lr).go(updates),
}

# %% tags=["picture"]
figure, axes = plt.subplots(len(runs), 3, figsize=(10, 1.75 * len(runs)), layout="constrained", width_ratios=(1.5, 1, 1), sharex="col")
for (picture, losses, spread), (name, run) in zip(axes, runs.items()):
    sheet(picture, run.draw(run.fixed[:36]), columns=12, title=f"{name}: score {score_of(run):.0f}")
    losses.plot(run.loss_d, color=BLUE, linewidth=0.8, label="discriminator")
    losses.plot(run.loss_g, color=ORANGE, linewidth=0.8, label="generator")
    losses.set_yscale("symlog", linthresh=1)
    losses.yaxis.set_major_locator(plt.FixedLocator([-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20]))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.tick_params(axis="y", labelsize=7)
    losses.set_ylabel("loss, nats", fontsize=8)
    spread.plot(run.measured["step"], run.measured["diversity"], "o-", color=GREEN, markersize=3)
    spread.axhline(variety, color=GREY, linestyle="--")
    spread.set(ylim=(0, 1.4 * variety))
    spread.set_ylabel("diversity", fontsize=8)
    for axis in (losses, spread):
        axis.spines[["top", "right"]].set_visible(False)
axes[-1, 1].legend(frameon=False, fontsize=7, loc="center right")
axes[0, 1].set_title("losses (log scale beyond ±1)", fontsize=9)
axes[0, 2].set_title("diversity (dashed: real images)", fontsize=9)
for axis in axes[-1, 1:]:
    axis.set_xlabel("updates")
plt.show()

print(f"{'run':28}" + "".join(f"{name:>22}" for name in rulers) + f"{'diversity':>11}{'kinds':>7}{'loss D':>9}{'loss G':>9}")
for name, run in {**runs, "slow discriminator, repaired": collapse}.items():
    share = torch.bincount(kind_of(run.draw(run.fixed)), minlength=len(kinds)) / len(run.fixed)
    last = len(run.loss_d) // 10 + 1
    figures = [score_of(run, ruler) for ruler in rulers]
    print(
        f"{name:28}" + "".join(f"{score:22.1f}" for score in figures)
        + f"{run.measured['diversity'][-1]:11.2f}{int((share > 0.02).sum()):7d}{np.mean(run.loss_d[-last:]):9.2f}{np.mean(run.loss_g[-last:]):9.2f}"
    )  # fmt: skip


def slope(run, criterion):  # how long the generator's gradient is
    logits = run.discriminator(run.generator(run.fixed))
    gradients = torch.autograd.grad(criterion(logits, torch.ones_like(logits)), list(run.generator.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


print("\nlength of the generator's gradient, of the same two networks, for either loss")
for name in ("as it should be", "too strong a discriminator"):
    one, other = slope(runs[name], works.criterion), slope(runs[name], saturating)
    print(f"{name:28} non-saturating {one:8.3f}   saturating {other:8.3f}   ratio {one / other:6.1f}")

# %% [markdown]
# **What to see.** Read each row from its losses to its picture. (Every score is measured on noise drawn anew, so the one above a picture and the one in the table differ a little.)
#
# - *Saturating loss*: hardly any harm here, and that is worth knowing. The slope vanishes only where the discriminator is sure, and in a balanced run it never is. The last lines printed show where the danger lies: for the networks of the next row the saturating loss has a far shorter gradient than the other.
# - *Too strong a discriminator*: its loss is near 0, the generator's is high and stays there, and the images hardly change. The non-saturating gradient is long, but it points to no better place, since everything the generator can reach is judged alike.
# - *No batch-norm*: the losses look harmless, and nothing in them says that images are too much alike and come late. Diversity does.
# - *Learning rate × 50*: one player wins early by accident and the other never comes back.
#
# Losses alone would have shown two of these. That is what the other columns are for.
#
# | symptom | look at | first remedy |
# | --- | --- | --- |
# | D's loss near 0, G's large or (saturating) near 0 | logits of real and generated | non-saturating loss; equal updates; a smaller learning rate for D |
# | diversity far below the real images' | the picture; `collapse_alarm` | speed D up or slow G down; batch-norm |
# | all looks right and the score stays high | blurred? kinds missing? | more updates, wider networks |
# | losses jump or become NaN | gradient norms | a smaller learning rate; β₁ = 0.5 |

# %% [markdown] written="what_the_score_cannot_say" points=3
# ## Question 1 · what the score cannot say
#
# *3 points, graded by a person*
#
# (a) Two groups report a "FID" of 12 and of 19 on the same dataset. Name three things to ask before you believe that the first is better. (b) A generator has stored the training set and draws its images unchanged. What is its Fréchet distance to held-out images, and its diversity? Which experiment of the notebook would
# still expose it? (c) The formula compares means and covariances only. Describe two crowds of features that are plainly different and have distance 0.
#
# ### BEGIN SOLUTION
# (a) For instance: how many images were counted (the score falls with the number)? Which feature network, with which weights? How were images resized and saved (interpolation, JPEG)? Compared with which real images, training or held-out? Was the reported checkpoint picked by that same score? How much does it vary from seed to seed?
#
# (b) Both look perfect: the crowd *is* real images, so the distance is that of two halves of the real ones, and the diversity is theirs. Walking in the noise (exercise 1) exposes it: images jump from one stored picture to the next; so does a search for nearest neighbours in the training set.
#
# (c) Any two distributions with equal first and second moments. In one dimension: half of the features at −1 and half at +1, against a normal distribution with mean 0 and variance 1.
#
# **Rubric.** 1 point: three questions that can change the number (two: ½). 1 point: both numbers like real images' (½), and an experiment that shows jumps or copies (½). 1 point: an example with equal mean and covariance.
# ### END SOLUTION

# %% [markdown] written="a_run_to_diagnose" points=3
# ## Question 2 · a run to diagnose
#
# *3 points, graded by a person*
#
# After 20,000 updates a run shows: discriminator's loss 0.01, generator's (non-saturating) 9, the diversity 90 % of the real images', and the score has not moved for 15,000 updates. (a) Is this a collapse? (b) What happened, and why does the generator not recover, although its loss is large? (c) Propose two changes, and say for each which measurement should move first
# if you are right.
#
# ### BEGIN SOLUTION
# (a) No: images differ nearly as much as real ones. (Noise does, too: they may be different and bad.)
#
# (b) The discriminator wins completely. The generator's gradient is not zero in size, −log D has slope near 1 in the logit, but the discriminator's logit is as good as constant around what the generator draws: no direction is better than another, so the steps lead nowhere. (With Adam, steps keep their size and wander.)
#
# (c) For instance: a smaller learning rate for D or fewer of its updates (first its loss rises from 0.01, then the score moves); a new start with the paper's settings and batch-norm (D's loss stays well above 0 from the first updates on); noise on the images D sees, or smoothed labels (the gap between logits of real and generated images shrinks first); a wider generator.
#
# **Rubric.** 1 point: no, with the diversity as the reason. 1 point: D is sure, and what G receives has no useful direction (“vanishing gradients” alone: ½). 1 point: two changes (½), each with a measurement that would move (½).
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Noise space: a walk shows whether the generator learned a space; an arc keeps the length of noise; averages of exemplars can be added and subtracted.
# - $\|\mu_1 - \mu_2\|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2(\Sigma_1\Sigma_2)^{1/2})$ on features, always with its network and its number of images. It is called FID with Inception features only.
# - Diversity is cheap, knows nothing about quality, and is the first to see a collapse. Losses are the last.
# - A collapse is a lost balance: with the discriminator's learning rate put right, the same networks recovered.
#
# **Next**: `representation_learning`: what the discriminator has learned on the side, and what it is good for. What you built here is in `papers.dcgan.evaluation`.

# %% tags=["picture"]
score()
