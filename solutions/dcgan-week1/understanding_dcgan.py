# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: DCGAN, its losses and its guidelines
#     order: 1
#     exports: papers.dcgan.losses
#     minutes: 90
# ---

# %% [markdown]
# # DCGAN, its losses and its guidelines
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, sections 1 to 3 · about 90 minutes
#
# At the end of this notebook you can
#
# - say what your machine is, and get a GPU in Colab;
# - write the losses of both players so that no logit, however large, makes them infinite;
# - show why the generator's loss in the original game stops teaching, and what is used in its place;
# - recite the paper's five architecture guidelines, and let code check a model for them.
#
# **Week 1 of the roadmap.** Task 1, study GANs and DCGAN:
#
# 1. Watch [Generative Adversarial Networks (GANs) Explained](https://www.youtube.com/watch?v=8L11aMN5KY8) (25 min; if you watched it last week, only the part on the loss functions) and
#    [DCGAN Explained](https://youtu.be/xBX2VlDgd4I) (15 min). Focus on the two architectures and their loss functions.
# 2. Read sections 1 to 3 of [the paper](https://arxiv.org/pdf/1511.06434). They are short; the box at the end of section 3 is what this notebook ends with.
#
# Task 2, set up the environment: the first cells below, and [PyTorch Tutorial for Beginners – Simplilearn](https://www.youtube.com/watch?v=Z_ikDlimN6A) (20 min).

# %% tags=["export"]
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## The environment
#
# **In Colab**: *Runtime → Change runtime type → T4 GPU → Save*, then run the set-up cell again (a new runtime is a new machine). `torch`, `torchvision` and `matplotlib` are there already.
# **On your own machine**: `pip install torch torchvision matplotlib`; [pytorch.org](https://pytorch.org/get-started/locally/) says which build fits your GPU.
#
# Weeks 0 to 2 need no GPU. The quick profile of every notebook runs on two CPU cores; the full profile of weeks 3 and 4 wants a GPU.

# %% tags=["picture"]
import importlib.metadata
import os
import platform


def environment() -> dict[str, str]:
    """What this machine is, in words: ask for this first when something is slow or missing."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE
    report = {"Python": platform.python_version()}
    for package in ("torch", "torchvision", "matplotlib"):
        try:
            report[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            report[package] = f"missing: pip install {package}"
    report["CPU"] = f"{os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()}"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        report["GPU"] = f"{gpu.name}, {gpu.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}"
    else:
        report["GPU"] = "none that PyTorch can use (in Colab: Runtime → Change runtime type → T4 GPU)"
    report["the notebooks will use"] = device
    return report


for key, value in environment().items():
    print(f"{key:>22}: {value}")

# %% [markdown]
# ## From probabilities to logits
#
# Last week $D$ gave probabilities. From now on it gives **logits**, numbers $a \in \mathbb{R}$ with $D = \sigma(a) = 1 / (1 + e^{-a})$. Then
#
# $$-\log D = \log(1 + e^{-a}) = \mathrm{softplus}(-a), \qquad -\log (1 - D) = \mathrm{softplus}(a).$$
#
# The left sides break: in float32 $\sigma(20)$ is already exactly 1, $\log(1 - 1) = -\infty$, and the gradient is NaN. The right sides do not: softplus$(a)$ is almost $a$ for large $a$ and almost 0 for very negative $a$, and libraries compute it so.
# A discriminator that wins has large logits, so this happens in real runs.

# %% [markdown]
# ## Exercise 1 · `discriminator_loss`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# The discriminator maximises $V$ of last week; an optimiser minimises, so its loss is $-V$:
#
# $$L_D = \underbrace{-\,\mathbb{E}_x\big[\log D(x)\big]}_{\text{real samples, label 1}} \; \underbrace{-\,\mathbb{E}_z\big[\log (1 - D(G(z)))\big]}_{\text{generated samples, label 0}}$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | output of $D$ | a sigmoid (section 3: "fed into a single sigmoid output") | logits; the sigmoid is inside the loss | finite for every logit, and so are the gradients |
# | the two terms | are added | the *sum* of two means | as in the equation. Some code halves it, which is the same as half the learning rate for plain gradient descent |
#
# It is the binary cross-entropy that the roadmap names. The loss and its gradients have to be finite for logits of ±10,000.


# %% tags=["export"]
def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator minimises: minus the value of the game, from logits.

    Args:
        real_logits: D's logits for real samples, any shape, (N,) or (N, 1) say.
        fake_logits: D's logits for generated samples; perhaps more or fewer of them.

    Returns: the sum of the two means, a tensor without dimensions, ≥ 0. The loss and its gradients
        are finite for logits of ±1e4. The inputs are not changed.
    """
    ### BEGIN SOLUTION
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
    ### END SOLUTION


# %%
@check("discriminator_loss", points=3, paper="section 3; Goodfellow et al. (2014), equation 1")
def _(case):
    case.call("one real, one generated", discriminator_loss, case.normal(1), case.normal(1))
    case.call("cannot tell: 2 log 2", discriminator_loss, torch.zeros(3), torch.zeros(3))
    case.call("three and three", discriminator_loss, case.normal(3, scale=2.0), case.normal(3, scale=2.0))
    case.call("a discriminator that is wrong", discriminator_loss, case.normal(2) - 3, case.normal(2) + 3)
    case.call("more generated than real", discriminator_loss, case.normal(2, scale=2.0), case.normal(5, scale=2.0))
    case.call("columns, (N, 1)", discriminator_loss, case.normal(4, 1), case.normal(4, 1))
    real, fake = case.normal(3).requires_grad_(), case.normal(4).requires_grad_()
    loss = case.call("logits that require gradients", discriminator_loss, real, fake)
    case.gradients("gradients", loss, {"real_logits": real, "fake_logits": fake})
    real, fake = torch.tensor([30.0, -30.0, 120.0, -120.0]).requires_grad_(), torch.tensor([-30.0, 30.0, -120.0, 120.0]).requires_grad_()
    loss = case.call("logits of ±30 and ±120", discriminator_loss, real, fake)
    case.gradients("gradients at ±30 and ±120", loss, {"real_logits": real, "fake_logits": fake})
    real, fake = torch.tensor([1e4, -1e4]).requires_grad_(), torch.tensor([1e4, -1e4]).requires_grad_()
    loss = case.call("logits of ±10,000", discriminator_loss, real, fake)
    case.gradients("gradients at ±10,000", loss, {"real_logits": real, "fake_logits": fake})
    ### BEGIN HIDDEN TESTS
    case.call("more real than generated", discriminator_loss, case.normal(7, scale=3.0), case.normal(2, scale=3.0))
    between = torch.tensor([3.2, 5.2, 8.2, -3.2, -5.2, -8.2])
    case.call("logits between ±3 and ±9", discriminator_loss, between, -between)
    case.call("a map of logits, (N, 1, 2, 2)", discriminator_loss, case.normal(3, 1, 2, 2), case.normal(3, 1, 2, 2))
    case.call("float64", discriminator_loss, case.normal(4, dtype=torch.float64), case.normal(3, dtype=torch.float64))
    case.call("a discriminator that is always right", discriminator_loss, torch.full((3,), 1e4), torch.full((2,), -1e4), policy={"at_most": 1e-6})
    real, fake = [(case.normal(n, 1, scale=40.0).abs() * (-1.0) ** torch.arange(n)[:, None]).requires_grad_() for n in (5, 3)]
    loss = case.call("large logits, columns", discriminator_loss, real, fake)
    case.gradients("gradients of large logits", loss, {"real_logits": real, "fake_logits": fake})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "discriminator_loss",
    "Which of your intermediate numbers becomes 0 or infinite for a logit of 10,000? Which of them did you need?",
    "Equation 1 of Goodfellow et al. with the sign turned, and the two identities with softplus above.",
    "The mean of softplus of minus the real logits, plus the mean of softplus of the generated ones. PyTorch's binary cross-entropy *with logits* does the same, with labels 1 and 0.",
)
misconceptions(
    "discriminator_loss",
    mistake("logarithm of a sigmoid", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "-torch.log(torch.sigmoid(real_logits)).mean() - torch.log(1 - torch.sigmoid(fake_logits)).mean()"),
            says="The sigmoid is computed first and its logarithm after: for large logits that is log 0 = −∞, and the gradient is NaN. Stay with logits."),
    mistake("a small number inside the logarithm", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "-torch.log(torch.sigmoid(real_logits) + 1e-8).mean() - torch.log(1 - torch.sigmoid(fake_logits) + 1e-8).mean()"),
            says="A small number inside the logarithm keeps the loss finite, but caps it, and where it is capped the gradient is 0: a discriminator that is very wrong would learn nothing."),
    mistake("sigmoid, then binary cross-entropy", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()",
            "F.binary_cross_entropy(torch.sigmoid(real_logits), torch.ones_like(real_logits)) + F.binary_cross_entropy(torch.sigmoid(fake_logits), torch.zeros_like(fake_logits))"),
            says="The sigmoid comes before the cross-entropy, which then caps its logarithm at −100: very wrong logits get no gradient. Use the form that takes logits."),
    mistake("logits clamped", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "F.softplus(-real_logits.clamp(-50, 50)).mean() + F.softplus(fake_logits.clamp(-50, 50)).mean()"),
            says="The logits are clamped, so beyond the clamp the loss is wrong and the gradient 0. No clamp is needed."),
    mistake("sigmoid twice", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "F.softplus(-torch.sigmoid(real_logits)).mean() + F.softplus(torch.sigmoid(fake_logits)).mean()"),
            says="A sigmoid is applied to the logits and the loss applies another one inside."),
    mistake("labels swapped", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "F.softplus(real_logits).mean() + F.softplus(-fake_logits).mean()"),
            says="The labels are swapped: real samples are taught as generated (0) and generated ones as real (1)."),
    mistake("everything labelled real", ("F.softplus(fake_logits)", "F.softplus(-fake_logits)"), says="Generated samples have label 1, as the real ones; their label is 0."),
    mistake("everything labelled generated", ("F.softplus(-real_logits)", "F.softplus(real_logits)"), says="Real samples have label 0, as the generated ones; their label is 1."),
    mistake("half the sum", ("return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2"),
            says="The two means are averaged; the loss is their sum."),
    mistake("one mean over both batches", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "2 * torch.cat([F.softplus(-real_logits).flatten(), F.softplus(fake_logits).flatten()]).mean()"),
            says="Both batches are put together before the mean, so the larger one weighs more; each has its own mean."),
    mistake("sums instead of means", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "F.softplus(-real_logits).sum() + F.softplus(fake_logits).sum()"),
            says="The losses are summed over the batch, so the step grows with the batch's size; an expectation is a mean."),
    mistake("only real samples", (" + F.softplus(fake_logits).mean()", " + 0 * fake_logits.mean()"), says="Generated samples do not count; the second term is missing."),
    mistake("only generated samples", ("F.softplus(-real_logits).mean() + ", "0 * real_logits.mean() + "), says="Real samples do not count; the first term is missing."),
    mistake("the value, not the loss", ("return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "return -(F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean())"),
            says="The sign is turned: this is V, which the discriminator maximises; an optimiser minimises −V."),
    mistake("labels smoothed", ("F.softplus(-real_logits).mean()", "F.binary_cross_entropy_with_logits(real_logits, torch.full_like(real_logits, 0.9))"),
            says="Real samples have label 0.9 (one-sided label smoothing, a later trick); here their label is 1."),
    mistake("hinge loss", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()"),
            says="This is the hinge loss of later GANs; this game's loss is the cross-entropy."),
    mistake("least squares", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "((real_logits - 1) ** 2).mean() + (fake_logits**2).mean()"),
            says="This is the least-squares loss of later GANs; this game's loss is the cross-entropy."),
    mistake("Wasserstein", ("F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()", "fake_logits.mean() - real_logits.mean()"),
            says="The logits themselves are compared (a Wasserstein critic); this game's loss is the cross-entropy."),
    mistake("gradients cut off", ("F.softplus(fake_logits).mean()", "F.softplus(fake_logits).mean().item()"), says="No gradient reaches the generated samples' logits (`.item()`, `detach` or numpy on the way)."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("binary cross-entropy with logits")
def discriminator_loss(real_logits, fake_logits):
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    return real + F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))


# %% tags=["alternative"]
@alternative("logsigmoid")
def discriminator_loss(real_logits, fake_logits):
    return -(F.logsigmoid(real_logits).mean() + F.logsigmoid(-fake_logits).mean())


# %% tags=["alternative"]
@alternative("nn.BCEWithLogitsLoss, an object")
def discriminator_loss(real_logits, fake_logits):
    criterion = nn.BCEWithLogitsLoss()
    labels_real, labels_fake = real_logits.new_ones(real_logits.shape), fake_logits.new_zeros(fake_logits.shape)
    return criterion(real_logits, labels_real) + criterion(fake_logits, labels_fake)


# %% tags=["alternative"]
@alternative("logaddexp")
def discriminator_loss(real_logits, fake_logits):
    real = torch.logaddexp(torch.zeros_like(real_logits), -real_logits).sum() / real_logits.numel()
    return real + torch.logaddexp(torch.zeros_like(fake_logits), fake_logits).sum() / fake_logits.numel()


# %% tags=["alternative"]
@alternative("softplus by hand: the larger of a and 0, plus log1p")
def discriminator_loss(real_logits, fake_logits):
    def softplus(a):
        return torch.relu(a) + torch.log1p(torch.exp(-a.abs()))

    return torch.mean(softplus(-real_logits)) + torch.mean(softplus(fake_logits))


# %% [markdown]
# ## Exercise 2 · `saturating_generator_loss`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# In the game, the generator minimises $V$. Only the second expectation depends on it:
#
# $$L_G^{\text{saturating}} = \mathbb{E}_z\big[\log (1 - D(G(z)))\big]$$
#
# It is negative. Lower is better for the generator: the more a sample looks real, the more negative. Write it from logits, finite for ±10,000.


# %% tags=["export"]
def saturating_generator_loss(fake_logits: Tensor) -> Tensor:
    """The generator's loss of the original game, E[log(1 − D(G(z)))], from logits. It is minimised,
    and never positive.

    Args:
        fake_logits: D's logits for generated samples, any shape.

    Returns: the mean, a tensor without dimensions. The loss and its gradients are finite for logits
        of ±1e4. The input is not changed.
    """
    ### BEGIN SOLUTION
    return -F.softplus(fake_logits).mean()
    ### END SOLUTION


# %%
@check("saturating_generator_loss", points=2, paper="Goodfellow et al. (2014), equation 1")
def _(case):
    case.call("one sample", saturating_generator_loss, case.normal(1))
    case.call("D cannot tell: −log 2", saturating_generator_loss, torch.zeros(3))
    case.call("four samples", saturating_generator_loss, case.normal(4, scale=2.0))
    case.call("columns, (N, 1)", saturating_generator_loss, case.normal(5, 1))
    fake = case.normal(3).requires_grad_()
    case.gradients("gradients", case.call("logits that require gradients", saturating_generator_loss, fake), {"fake_logits": fake})
    fake = torch.tensor([30.0, -30.0, 120.0, -120.0]).requires_grad_()
    case.gradients("gradients at ±30 and ±120", case.call("logits of ±30 and ±120", saturating_generator_loss, fake), {"fake_logits": fake})
    fake = torch.tensor([1e4, -1e4]).requires_grad_()
    case.gradients("gradients at ±10,000", case.call("logits of ±10,000", saturating_generator_loss, fake), {"fake_logits": fake})
    ### BEGIN HIDDEN TESTS
    between = torch.tensor([3.2, 5.2, 8.2, -3.2, -5.2, -8.2])
    case.call("logits between ±3 and ±9", saturating_generator_loss, between)
    case.call("a map of logits", saturating_generator_loss, case.normal(2, 1, 3, 3))
    case.call("float64", saturating_generator_loss, case.normal(4, dtype=torch.float64))
    fake = (case.normal(6, 1, scale=40.0).abs() * torch.tensor([[1.0], [-1.0]] * 3)).requires_grad_()
    case.gradients("gradients of large logits", case.call("large logits", saturating_generator_loss, fake), {"fake_logits": fake})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "saturating_generator_loss",
    "Which sign does log(1 − D) have? Which way does it go when D believes the sample?",
    "Equation 1 of Goodfellow et al.: the generator's part of it, with the sign as it stands there.",
    "log(1 − σ(a)) is minus softplus(a). Take the mean.",
)
misconceptions(
    "saturating_generator_loss",
    mistake("the non-saturating loss", ("-F.softplus(fake_logits)", "F.softplus(-fake_logits)"),
            says="This is −log D(G(z)), the loss of the next exercise; the game itself has log(1 − D(G(z)))."),
    mistake("the sign turned", ("-F.softplus(fake_logits)", "F.softplus(fake_logits)"),
            says="The sign is turned: the generator would minimise −log(1 − D(G(z))), and so help the discriminator."),
    mistake("log D", ("-F.softplus(fake_logits)", "-F.softplus(-fake_logits)"),
            says="This is log D(G(z)), which the generator would have to maximise; its loss here is log(1 − D(G(z)))."),
    mistake("logarithm of a sigmoid", ("-F.softplus(fake_logits)", "torch.log(1 - torch.sigmoid(fake_logits))"),
            says="The sigmoid is computed first and the logarithm after: for large logits that is log 0 = −∞, and the gradient is NaN. Stay with logits."),
    mistake("a small number inside the logarithm", ("-F.softplus(fake_logits)", "torch.log(1 - torch.sigmoid(fake_logits) + 1e-8)"),
            says="A small number inside the logarithm keeps the loss finite, but caps it, and where it is capped the gradient is 0."),
    mistake("sigmoid, then binary cross-entropy", ("-F.softplus(fake_logits).mean()", "-F.binary_cross_entropy(torch.sigmoid(fake_logits), torch.zeros_like(fake_logits))"),
            says="The sigmoid comes before the cross-entropy, which then caps its logarithm at −100. Use the form that takes logits."),
    mistake("logits clamped", ("F.softplus(fake_logits)", "F.softplus(fake_logits.clamp(-50, 50))"), says="The logits are clamped, so beyond the clamp the loss is wrong and the gradient 0."),
    mistake("sigmoid twice", ("F.softplus(fake_logits)", "F.softplus(torch.sigmoid(fake_logits))"), says="A sigmoid is applied to the logits and the loss applies another one inside."),
    mistake("sum instead of mean", (".mean()", ".sum()"), says="The loss is summed over the batch; an expectation is a mean."),
    mistake("a loss for each sample", (".mean()", ""), says="There is a loss for each sample; the mean is wanted."),
    mistake("1 − D without the logarithm", ("-F.softplus(fake_logits)", "(1 - torch.sigmoid(fake_logits))"), says="The logarithm is missing."),
    mistake("minus the logits", ("-F.softplus(fake_logits)", "-fake_logits"), says="The logits themselves are used (a Wasserstein loss); the game has log(1 − D(G(z)))."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("logsigmoid")
def saturating_generator_loss(fake_logits):
    return F.logsigmoid(-fake_logits).mean()


# %% tags=["alternative"]
@alternative("minus binary cross-entropy with label 0")
def saturating_generator_loss(fake_logits):
    return -F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))


# %% tags=["alternative"]
@alternative("logaddexp")
def saturating_generator_loss(fake_logits):
    return torch.logaddexp(fake_logits, torch.zeros_like(fake_logits)).neg().mean()


# %% tags=["alternative"]
@alternative("softplus by hand")
def saturating_generator_loss(fake_logits):
    a = fake_logits
    return -(a.clamp(min=0) + (-a.abs()).exp().log1p()).sum() / a.numel()


# %% [markdown]
# ## Exercise 3 · `generator_loss`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# At the start every sample is bad and $D$ knows it: $D(G(z)) \approx 0$. There $\log(1 - D)$ is flat. So Goodfellow et al. (section 3) give the generator another loss with the same aim and a steep slope just there:
#
# $$L_G = -\,\mathbb{E}_z\big[\log D(G(z))\big]$$
#
# | | the game says | this code does | why |
# | --- | --- | --- | --- |
# | generator | minimises $\log(1 - D(G(z)))$ | minimises $-\log D(G(z))$, "non-saturating" | "this objective function results in the same fixed point of the dynamics of G and D but provides much stronger gradients early in learning" (Goodfellow et al.) |
#
# In code it is the cross-entropy of generated samples with the *wrong* label, 1: "make $D$ say real".


# %% tags=["export"]
def generator_loss(fake_logits: Tensor) -> Tensor:
    """What the generator minimises: the non-saturating −E[log D(G(z))], from logits.

    Args:
        fake_logits: D's logits for generated samples, any shape.

    Returns: the mean, a tensor without dimensions, ≥ 0. The loss and its gradients are finite for
        logits of ±1e4. The input is not changed.
    """
    ### BEGIN SOLUTION
    return F.softplus(-fake_logits).mean()
    ### END SOLUTION


# %%
@check("generator_loss", points=2, paper="Goodfellow et al. (2014), section 3")
def _(case):
    case.call("one sample", generator_loss, case.normal(1))
    case.call("D cannot tell: log 2", generator_loss, torch.zeros(3))
    case.call("four samples", generator_loss, case.normal(4, scale=2.0))
    case.call("columns, (N, 1)", generator_loss, case.normal(5, 1))
    fake = case.normal(3).requires_grad_()
    case.gradients("gradients", case.call("logits that require gradients", generator_loss, fake), {"fake_logits": fake})
    fake = torch.tensor([30.0, -30.0, 120.0, -120.0]).requires_grad_()
    case.gradients("gradients at ±30 and ±120", case.call("logits of ±30 and ±120", generator_loss, fake), {"fake_logits": fake})
    fake = torch.tensor([1e4, -1e4]).requires_grad_()
    case.gradients("gradients at ±10,000", case.call("logits of ±10,000", generator_loss, fake), {"fake_logits": fake})
    ### BEGIN HIDDEN TESTS
    between = torch.tensor([3.2, 5.2, 8.2, -3.2, -5.2, -8.2])
    case.call("logits between ±3 and ±9", generator_loss, between)
    case.call("a map of logits", generator_loss, case.normal(2, 1, 3, 3))
    case.call("float64", generator_loss, case.normal(4, dtype=torch.float64))
    fake = (case.normal(6, 1, scale=40.0).abs() * torch.tensor([[1.0], [-1.0]] * 3)).requires_grad_()
    case.gradients("gradients of large logits", case.call("large logits", generator_loss, fake), {"fake_logits": fake})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "generator_loss",
    "The generator wants D to say “real”. Which label is that, and what is its cross-entropy?",
    "Goodfellow et al., the last paragraph before section 4: rather than training G to minimise log(1 − D(G(z))) …",
    "−log σ(a) is softplus(−a). Take the mean.",
)
misconceptions(
    "generator_loss",
    mistake("the saturating loss", ("F.softplus(-fake_logits)", "-F.softplus(fake_logits)"),
            says="This is log(1 − D(G(z))), the game's own loss, which is flat where samples are bad; the non-saturating one is −log D(G(z))."),
    mistake("label 0", ("F.softplus(-fake_logits)", "F.softplus(fake_logits)"),
            says="Generated samples have label 0, as in the discriminator's loss: the generator would help D to find them. Its label is 1."),
    mistake("the sign turned", ("F.softplus(-fake_logits)", "-F.softplus(-fake_logits)"), says="The sign is turned: log D(G(z)) is to be maximised, so the loss is minus that."),
    mistake("logarithm of a sigmoid", ("F.softplus(-fake_logits)", "-torch.log(torch.sigmoid(fake_logits))"),
            says="The sigmoid is computed first and its logarithm after: for very negative logits that is log 0 = −∞, and the gradient is NaN. Stay with logits."),
    mistake("a small number inside the logarithm", ("F.softplus(-fake_logits)", "-torch.log(torch.sigmoid(fake_logits) + 1e-8)"),
            says="A small number inside the logarithm keeps the loss finite, but caps it, and where it is capped the gradient is 0: the worst samples would learn nothing."),
    mistake("sigmoid, then binary cross-entropy", ("F.softplus(-fake_logits).mean()", "F.binary_cross_entropy(torch.sigmoid(fake_logits), torch.ones_like(fake_logits))"),
            says="The sigmoid comes before the cross-entropy, which then caps its logarithm at −100. Use the form that takes logits."),
    mistake("logits clamped", ("F.softplus(-fake_logits)", "F.softplus(-fake_logits.clamp(-50, 50))"), says="The logits are clamped, so beyond the clamp the loss is wrong and the gradient 0."),
    mistake("sigmoid twice", ("F.softplus(-fake_logits)", "F.softplus(-torch.sigmoid(fake_logits))"), says="A sigmoid is applied to the logits and the loss applies another one inside."),
    mistake("sum instead of mean", (".mean()", ".sum()"), says="The loss is summed over the batch; an expectation is a mean."),
    mistake("a loss for each sample", (".mean()", ""), says="There is a loss for each sample; the mean is wanted."),
    mistake("D without the logarithm", ("F.softplus(-fake_logits)", "-torch.sigmoid(fake_logits)"), says="The logarithm is missing: −D(G(z)) is flat where samples are bad."),
    mistake("minus the logits", ("F.softplus(-fake_logits)", "-fake_logits"), says="The logits themselves are used (a Wasserstein loss); −log D(G(z)) is wanted."),
    mistake("label 0.9", ("F.softplus(-fake_logits).mean()", "F.binary_cross_entropy_with_logits(fake_logits, torch.full_like(fake_logits, 0.9))"), says="The label is smoothed to 0.9; here it is 1."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("logsigmoid")
def generator_loss(fake_logits):
    return -F.logsigmoid(fake_logits).mean()


# %% tags=["alternative"]
@alternative("binary cross-entropy with label 1")
def generator_loss(fake_logits):
    return nn.functional.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


# %% tags=["alternative"]
@alternative("the discriminator's loss of them as real ones")
def generator_loss(fake_logits):
    return discriminator_loss(fake_logits, torch.full_like(fake_logits, -1e9))


# %% tags=["alternative"]
@alternative("logaddexp")
def generator_loss(fake_logits):
    return torch.logaddexp(-fake_logits, torch.zeros_like(fake_logits)).mean()


# %% [markdown]
# ### Try it: the gradient picture
#
# Left and middle: both losses of one sample, and their slopes, against its logit. Right: an experiment. A generator that has learned nothing is held still while a discriminator learns to tell eight Gaussians from its samples; after every step we measure the
# gradient that the generator *would* get.

# %% tags=["picture"]
from papers.dcgan.foundations import ring_samples

threads = torch.get_num_threads()
torch.set_num_threads(1)  # networks so small are faster on one core
logit = torch.linspace(-10, 10, 201, requires_grad=True)
losses = {"non-saturating": generator_loss, "saturating": saturating_generator_loss}
colours = {"non-saturating": BLUE, "saturating": ORANGE}

torch.manual_seed(SEED)
chance = torch.Generator().manual_seed(SEED)
small_generator = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 2))
small_discriminator = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
optimiser = torch.optim.Adam(small_discriminator.parameters(), lr=2e-3)
norms = {name: [] for name in losses}
for step in range(301):
    fake = small_generator(torch.randn(256, 2, generator=chance))
    for name, loss in losses.items():
        gradient = torch.autograd.grad(loss(small_discriminator(fake)), small_generator.parameters(), retain_graph=True)
        norms[name].append(torch.cat([g.flatten() for g in gradient]).norm().item())
    optimiser.zero_grad()
    discriminator_loss(small_discriminator(ring_samples(256, chance)), small_discriminator(fake.detach())).backward()
    optimiser.step()
torch.set_num_threads(threads)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.3), layout="constrained")
for name, loss in losses.items():
    each = torch.stack([loss(a[None]) for a in logit])
    (slope,) = torch.autograd.grad(each.sum(), logit)
    left.plot(logit.detach(), each.detach(), color=colours[name], label=name)
    middle.plot(logit.detach(), slope.abs(), color=colours[name])
    right.plot(norms[name], color=colours[name])
left.set(xlabel="logit $a$ of a generated sample", ylabel="loss (nats)", title="The loss")
left.legend(frameon=False)
middle.set(xlabel="logit $a$ of a generated sample", ylabel="size of its slope", title="What the sample is taught")
right.set(xlabel="steps of the discriminator", ylabel="norm of the generator's gradient", yscale="log", title="A discriminator that gets better")
for axis in (left, middle):
    axis.axvspan(-10, -2, color=GREY, alpha=0.15, linewidth=0)
for axis in (left, middle, right):
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
plt.show()
print(f"after {len(norms['saturating']) - 1} steps: gradient norm {norms['non-saturating'][-1]:.3g} (non-saturating), {norms['saturating'][-1]:.3g} (saturating)")

# %% [markdown]
# **What to see.** Grey is where a bad sample is: $D$ is sure that it is generated. There the saturating loss is flat and teaches nothing, while the other has slope 1; on the far right, where samples are good, it is the other way round, which does no harm. In the experiment both begin
# alike; as the discriminator gets better, the saturating loss's gradient dies away, and the other's does not.

# %% [markdown]
# ## Five guidelines
#
# For years GANs of convolutions did not train. Section 3 of the paper names what made them stable, in a box:
#
# > **Architecture guidelines for stable Deep Convolutional GANs**
# >
# > - Replace any pooling layers with strided convolutions (discriminator) and fractional-strided convolutions (generator).
# > - Use batchnorm in both the generator and the discriminator.
# > - Remove fully connected hidden layers for deeper architectures.
# > - Use ReLU activation in generator for all layers except for the output, which uses Tanh.
# > - Use LeakyReLU activation in the discriminator for all layers.
#
# The text around the box says more, and the exercise takes it at its word:
#
# | guideline | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | batch norm | "not applying batchnorm to the generator output layer and the discriminator input layer" | counts those two as violations | everywhere, it "resulted in sample oscillation and model instability" |
# | fully connected | *hidden* ones go; $G$'s first layer, on $z$, "could be called fully connected"; $D$ ends in a single output | `nn.Linear` is allowed as $G$'s first and as $D$'s last layer | the paper's own models have them |
# | upsampling | "allowing it to learn its own spatial upsampling" | `nn.Upsample` counts as pooling | it is as fixed as pooling is |
# | sigmoid | $D$'s output is a sigmoid | a final `nn.Sigmoid` in $D$ is allowed, and none is fine | ours is inside the loss |
#
# ## Exercise 4 · `guideline_violations`
#
# *Difficulty ●●● · 25 minutes · 5 points*
#
# A model is a tree of modules. `layers(model)` is given: the modules without children, in the order in which they were registered, which in this exercise is the order in which they are used.


# %% tags=["export"]
POOLING = "pooling"
BATCH_NORM = "batch norm"
FULLY_CONNECTED = "fully connected"
GENERATOR_ACTIVATION = "generator activation"
DISCRIMINATOR_ACTIVATION = "discriminator activation"
GUIDELINES = (POOLING, BATCH_NORM, FULLY_CONNECTED, GENERATOR_ACTIVATION, DISCRIMINATOR_ACTIVATION)  # in the paper's order

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
POOLING_LAYERS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.LPPool2d, nn.FractionalMaxPool2d, nn.Upsample)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Softplus, nn.Hardtanh, nn.Tanh, nn.Sigmoid)


def layers(model: nn.Module) -> list[nn.Module]:
    """The modules without children, in order of registration, however deeply nested."""
    return [module for module in model.modules() if not list(module.children())]


# %% tags=["export"]
def guideline_violations(generator: nn.Module, discriminator: nn.Module) -> set[str]:
    """Which of the paper's five architecture guidelines the two models break.

    Args:
        generator, discriminator: models of two or more convolutions each (CONVOLUTIONS), whose
            modules are registered in the order of use.

    Returns: a set of strings out of GUIDELINES, empty if none is broken. The strings, and when each
        is in the set:
        "pooling" (POOLING): either model holds one of POOLING_LAYERS.
        "batch norm" (BATCH_NORM): either model has no nn.BatchNorm2d at all; or one stands behind
            the generator's last convolution; or one stands before the discriminator's second
            convolution.
        "fully connected" (FULLY_CONNECTED): there is an nn.Linear that is neither the generator's
            first nor the discriminator's last layer with weights (nn.Linear and CONVOLUTIONS are
            layers with weights).
        "generator activation" (GENERATOR_ACTIVATION): of the generator's ACTIVATIONS, the last is
            not an nn.Tanh behind the last convolution, or another one is not an nn.ReLU, or there
            is no nn.ReLU.
        "discriminator activation" (DISCRIMINATOR_ACTIVATION): one of the discriminator's
            ACTIVATIONS is not an nn.LeakyReLU (the last one may be an nn.Sigmoid), or there is no
            nn.LeakyReLU.
        The models are not changed.
    """
    ### BEGIN SOLUTION
    g, d = layers(generator), layers(discriminator)
    found = set()

    def where(model: list[nn.Module], kinds: type | tuple[type, ...]) -> list[int]:
        return [index for index, layer in enumerate(model) if isinstance(layer, kinds)]

    if where(g + d, POOLING_LAYERS):
        found.add(POOLING)

    norms_g, norms_d = where(g, nn.BatchNorm2d), where(d, nn.BatchNorm2d)
    last_convolution = where(g, CONVOLUTIONS)[-1]
    if not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]:
        found.add(BATCH_NORM)

    weighted = (nn.Linear, *CONVOLUTIONS)
    hidden = where(g, weighted)[1:], where(d, weighted)[:-1]
    if any(isinstance(g[i], nn.Linear) for i in hidden[0]) or any(isinstance(d[i], nn.Linear) for i in hidden[1]):
        found.add(FULLY_CONNECTED)

    active = where(g, ACTIVATIONS)
    ends_in_tanh = bool(active) and isinstance(g[active[-1]], nn.Tanh) and active[-1] > last_convolution
    if not ends_in_tanh or not where(g, nn.ReLU) or active[:-1] != where(g, nn.ReLU):
        found.add(GENERATOR_ACTIVATION)

    active = where(d, ACTIVATIONS)
    if active and isinstance(d[active[-1]], nn.Sigmoid):
        active = active[:-1]
    if not active or active != where(d, nn.LeakyReLU):
        found.add(DISCRIMINATOR_ACTIVATION)
    return found
    ### END SOLUTION


# %%
@check("guideline_violations", points=5, paper="section 3, the box of architecture guidelines")
def _(case):
    def up(n, m):
        return nn.ConvTranspose2d(n, m, 4, 2, 1)

    def down(n, m):
        return nn.Conv2d(n, m, 4, 2, 1)

    def build(parts, changes):  # a part that is None is left out; names keep their places
        assert not set(changes) - set(parts), changes
        return nn.Sequential(*[part for part in {**parts, **changes}.values() if part is not None])

    def G(**changes):
        parts = {"start": nn.ConvTranspose2d(6, 8, 4, 1, 0), "norm1": nn.BatchNorm2d(8), "act1": nn.ReLU(), "extra1": None, "conv2": up(8, 4), "norm2": nn.BatchNorm2d(4),
                 "act2": nn.ReLU(), "extra2": None, "conv3": up(4, 3), "norm3": None, "act3": nn.Tanh(), "end": None}  # fmt: skip
        return build(parts, changes)

    def D(**changes):
        parts = {"start": None, "conv1": down(3, 4), "norm1": None, "act1": nn.LeakyReLU(0.2), "extra1": None, "conv2": down(4, 8), "norm2": nn.BatchNorm2d(8), "act2": nn.LeakyReLU(0.2),
                 "extra2": None, "conv3": nn.Conv2d(8, 1, 4), "act3": None, "end": None}  # fmt: skip
        return build(parts, changes)

    def look(name, g, d):
        case.call(name, guideline_violations, g, d, policy={"about": "the set"})

    def kind(generator, discriminator):
        found = guideline_violations(generator, discriminator)
        return "a set" if isinstance(found, (set, frozenset)) else "None" if found is None else f"a {type(found).__name__}"

    case.call("what is returned", kind, G(), D(), policy={"about": "the result"})
    g, d = G(), D()
    look("two models that keep all five", g, d)
    case.record("both models stay in training mode", [g.training, d.training])
    look("max-pooling in D", G(), D(extra1=nn.MaxPool2d(2)))
    look("upsampling in G", G(extra1=nn.Upsample(scale_factor=2)), D())
    look("max-pooling in G", G(extra2=nn.MaxPool2d(2)), D())
    look("no batch norm in G", G(norm1=None, norm2=None), D())
    look("no batch norm in D", G(), D(norm2=None))
    look("batch norm on G's output", G(norm3=nn.BatchNorm2d(3)), D())
    look("batch norm on D's input layer", G(), D(norm1=nn.BatchNorm2d(4)))
    look("batch norm before D's first convolution", G(), D(start=nn.BatchNorm2d(3)))
    look("the only batch norm of G is on vectors, BatchNorm1d", G(norm1=None, norm2=None, start=nn.Sequential(nn.Linear(6, 128), nn.BatchNorm1d(128), nn.Unflatten(1, (8, 4, 4)))), D())
    look("allowed: G's last convolution is a plain one", G(conv3=nn.Conv2d(4, 3, 3, padding=1)), D())
    look("a fully connected layer in the middle of D", G(), D(extra2=nn.Linear(8, 8)))
    look("a fully connected layer in the middle of G", G(extra2=nn.Linear(4, 4)), D())
    look("G ends fully connected", G(end=nn.Linear(8, 8)), D())
    look("two fully connected layers at the start of G", G(start=nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 128), nn.Unflatten(1, (8, 4, 4)))), D())
    look("allowed: G begins, D ends fully connected", G(start=nn.Sequential(nn.Linear(6, 128), nn.Unflatten(1, (8, 4, 4)))), D(end=nn.Sequential(nn.Flatten(), nn.Linear(1, 1))))
    look("allowed: layers without weights before and behind them", G(start=nn.Sequential(nn.Flatten(), nn.Linear(6, 128), nn.Unflatten(1, (8, 4, 4)))), D(end=nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Sigmoid())))
    look("LeakyReLU in one layer of G", G(act2=nn.LeakyReLU(0.2)), D())
    look("GELU in G", G(act1=nn.GELU()), D())
    look("G with a tanh and no ReLU", G(act1=None, act2=None), D())
    look("G ends in a sigmoid", G(act3=nn.Sigmoid()), D())
    look("tanh before G's last convolution", G(extra2=nn.Tanh(), act3=None), D())
    look("allowed: something behind G's tanh", G(end=nn.Identity()), D())
    look("a ReLU behind G's tanh", G(end=nn.ReLU()), D())
    look("ReLU in one layer of D", G(), D(act2=nn.ReLU()))
    look("allowed: D ends in a sigmoid", G(), D(act3=nn.Sigmoid()))
    look("a sigmoid in the middle of D", G(), D(act1=nn.Sigmoid()))
    look("allowed: D's last activation is a sigmoid, and a convolution follows", G(), D(act2=nn.Sigmoid()))
    look("D without any activation", G(), D(act1=None, act2=None))
    look("two at once: pooling, no batch norm in D", G(), D(extra1=nn.AvgPool2d(2), norm2=None))
    look("all five at once", G(extra1=nn.Upsample(scale_factor=2), norm3=nn.BatchNorm2d(3), act3=None), D(extra2=nn.Linear(8, 8), act1=nn.ReLU()))

    class Block(nn.Module):
        def __init__(self, convolution, norm, activation):
            super().__init__()
            self.convolution, self.inner = convolution, nn.Sequential(norm, activation)

    look("modules within modules, all kept", nn.Sequential(Block(nn.ConvTranspose2d(6, 4, 4), nn.BatchNorm2d(4), nn.ReLU()), up(4, 3), nn.Tanh()),
         nn.Sequential(down(3, 4), nn.LeakyReLU(), Block(down(4, 4), nn.BatchNorm2d(4), nn.LeakyReLU()), down(4, 1)))  # fmt: skip

    class Whole(nn.Module):  # as week 3's networks: no nn.Sequential
        def __init__(self, main):
            super().__init__()
            self.main = main

    look("models that are no nn.Sequential, all kept", Whole(G()), Whole(D()))
    look("modules within modules, D's inner activation is wrong", nn.Sequential(Block(nn.ConvTranspose2d(6, 4, 4), nn.BatchNorm2d(4), nn.ReLU()), up(4, 3), nn.Tanh()),
         nn.Sequential(down(3, 4), nn.LeakyReLU(), Block(down(4, 4), nn.BatchNorm2d(4), nn.GELU()), down(4, 1)))  # fmt: skip
    ### BEGIN HIDDEN TESTS
    look("average pooling in D", G(), D(extra2=nn.AvgPool2d(2)))
    look("SiLU in G", G(act1=nn.SiLU()), D())
    for layer in (nn.LPPool2d(2, 2), nn.FractionalMaxPool2d(2, output_ratio=0.5)):
        look(f"{type(layer).__name__} in D", G(), D(extra1=layer))
    for layer in (nn.SELU(), nn.Softplus(), nn.Hardtanh(), nn.PReLU(), nn.ELU(), nn.Sigmoid()):
        look(f"{type(layer).__name__} in the middle of G", G(act1=layer), D())
    for layer in (nn.ELU(), nn.SELU(), nn.Hardtanh(), nn.PReLU(), nn.SiLU(), nn.Softplus()):
        look(f"{type(layer).__name__} in the middle of D", G(), D(act1=layer))
    look("the only batch norm of D is on vectors", G(), D(norm2=None, end=nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1))))
    look("allowed: D's last Linear before a batch norm", G(), D(end=nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.BatchNorm1d(1))))
    look("global pooling at the end of D", G(), D(end=nn.AdaptiveAvgPool2d(1)))
    look("upsampling in D", G(), D(extra1=nn.Upsample(scale_factor=2)))
    look("nearest-neighbour upsampling, a class of its own", G(extra1=nn.UpsamplingNearest2d(scale_factor=2)), D())
    look("no batch norm anywhere", G(norm1=None, norm2=None), D(norm2=None))
    look("batch norm behind D's first activation", G(), D(extra1=nn.BatchNorm2d(4)))
    look("batch norm behind G's tanh", G(end=nn.BatchNorm2d(3)), D())
    look("another norm is not batch norm", G(norm1=nn.InstanceNorm2d(8), norm2=nn.InstanceNorm2d(4)), D())
    look("batch norm in one layer of G is some", G(norm1=None), D())
    look("two fully connected layers at the end of D", G(), D(end=nn.Sequential(nn.Flatten(), nn.Linear(1, 4), nn.Linear(4, 1))))
    look("D begins fully connected", G(), D(start=nn.Linear(8, 8)))
    look("allowed: G's first Linear behind a batch norm", G(start=nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 128), nn.Unflatten(1, (8, 4, 4)))), D())
    look("G without an output activation", G(act3=None), D())
    look("G without any activation", G(act1=None, act2=None, act3=None), D())
    look("tanh in G's hidden layer", G(act1=nn.Tanh()), D())
    look("G ends in ReLU", G(act3=nn.ReLU()), D())
    look("D with a sigmoid and no LeakyReLU", G(), D(act1=None, act2=None, act3=nn.Sigmoid()))
    look("allowed: a sigmoid, then a flattening", G(), D(act3=nn.Sigmoid(), end=nn.Flatten()))
    look("D ends in a tanh", G(), D(act3=nn.Tanh()))
    look("PReLU in one layer of D", G(), D(act2=nn.PReLU()))
    look("a LeakyReLU behind G's tanh", G(end=nn.LeakyReLU(0.2)), D())
    g, d = G(act1=nn.ELU()).eval(), D().eval()
    look("models in evaluation mode", g, d)
    case.record("they stay in evaluation mode", [g.training, d.training])
    look("D ends in a sigmoid behind ReLUs", G(), D(act1=nn.ReLU(), act2=nn.ReLU(), act3=nn.Sigmoid()))
    look("three at once", G(act1=nn.ELU(), extra1=nn.Linear(8, 8)), D(norm2=None))
    look("three others at once", G(act3=nn.Sigmoid()), D(act2=nn.SiLU(), extra1=nn.AdaptiveMaxPool2d(8)))
    look("four at once", G(norm1=None, norm2=None, extra2=nn.Linear(4, 4), act1=nn.PReLU()), D(act1=nn.Softplus()))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "guideline_violations",
    "Print layers(model) of a small model. Write for each guideline one sentence of the form “there is a … such that …”; each is one `any` or one comparison of positions.",
    "The box of section 3 for the five, and the paragraphs right before it for what is allowed: which layer of G may be fully connected, and where batch norm must not stand?",
    "List both models' layers once. A small function that gives the *positions* of layers of some kind does most of the work: batch norm is compared with the last (or second) convolution's position, the tanh too; the fully connected ones "
    "are looked for among the layers with weights, without the first (G) or the last (D).",
)
misconceptions(
    "guideline_violations",
    mistake("top level only", ("g, d = layers(generator), layers(discriminator)", "g, d = list(generator.children()), list(discriminator.children())"),
            says="Only the outermost modules are looked at; layers inside blocks are missed."),
    mistake("pooling in D only", ("where(g + d, POOLING_LAYERS)", "where(d, POOLING_LAYERS)"), says="Pooling and upsampling are looked for in the discriminator only; in the generator they break the guideline too."),
    mistake("pooling in G only", ("where(g + d, POOLING_LAYERS)", "where(g, POOLING_LAYERS)"), says="Pooling is looked for in the generator only."),
    mistake("upsampling not counted", ("where(g + d, POOLING_LAYERS)", "where(g + d, POOLING_LAYERS[:-1])"), says="Upsampling is not counted; the guideline wants fractional-strided convolutions in its place."),
    mistake("only max-pooling", ("where(g + d, POOLING_LAYERS)", "where(g + d, (nn.MaxPool2d, nn.Upsample))"), says="Only max-pooling (and upsampling) is found; the guideline is about *any* pooling layer."),
    mistake("batch norm in either is enough", ("if not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]:",
            "if not norms_g and not norms_d or norms_g and norms_g[-1] > last_convolution or norms_d and norms_d[0] < where(d, CONVOLUTIONS)[1]:"),
            says="Batch norm in one of the two models is taken to be enough; both need it."),
    mistake("batch norm in D not asked for", ("not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0]", "not norms_g or norms_g[-1] > last_convolution or norms_d and norms_d[0]"),
            says="A discriminator without batch norm passes; both models need it."),
    mistake("batch norm in G not asked for", ("not norms_g or not norms_d or norms_g[-1] >", "not norms_d or norms_g and norms_g[-1] >"), says="A generator without batch norm passes; both models need it."),
    mistake("batch norm on G's output allowed", (" or norms_g[-1] > last_convolution", ""), says="Batch norm behind the generator's last convolution passes; the paper leaves it out there."),
    mistake("batch norm on D's input allowed", (" or norms_d[0] < where(d, CONVOLUTIONS)[1]", ""), says="Batch norm on the discriminator's input layer passes; the paper leaves it out there."),
    mistake("batch norm only looked for before D's first convolution", ("where(d, CONVOLUTIONS)[1]", "where(d, CONVOLUTIONS)[0]"),
            says="Batch norm behind the discriminator's first convolution passes; its input *layer* has none, so the first may stand behind the second convolution."),
    mistake("batch norm nowhere to stand", ("norms_g[-1] > last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]", "norms_g or norms_d"),
            says="Any batch norm is taken for a violation; it is forbidden on G's output and D's input layer only."),
    mistake("BatchNorm1d counts", ("where(g, nn.BatchNorm2d), where(d, nn.BatchNorm2d)", "where(g, (nn.BatchNorm1d, nn.BatchNorm2d)), where(d, (nn.BatchNorm1d, nn.BatchNorm2d))"),
            says="nn.BatchNorm1d counts as batch norm; only nn.BatchNorm2d, between convolutions, is meant."),
    mistake("only transposed convolutions in G", ("where(g, CONVOLUTIONS)[-1]", "where(g, nn.ConvTranspose2d)[-1]"),
            says="The generator's last convolution is looked for among the transposed ones only; a plain nn.Conv2d is one too."),
    mistake("the very first and last module", ("where(g, weighted)[1:], where(d, weighted)[:-1]", "range(1, len(g)), range(len(d) - 1)"),
            says="A fully connected layer passes only as the very first (or last) module; it is the first or last layer *with weights* that may be one, whatever stands before or behind it."),
    mistake("any fully connected layer", ("where(g, weighted)[1:], where(d, weighted)[:-1]", "where(g, weighted), where(d, weighted)"),
            says="Every fully connected layer counts; the guideline removes *hidden* ones. G may begin, and D may end, with one."),
    mistake("G's fully connected layers not looked at", ("any(isinstance(g[i], nn.Linear) for i in hidden[0]) or ", ""), says="Fully connected layers of the generator are not found."),
    mistake("D's fully connected layers not looked at", (" or any(isinstance(d[i], nn.Linear) for i in hidden[1])", ""), says="Fully connected layers of the discriminator are not found."),
    mistake("first and last allowed in both", ("where(g, weighted)[1:], where(d, weighted)[:-1]", "where(g, weighted)[1:-1], where(d, weighted)[1:-1]"),
            says="Both models may begin and end with a fully connected layer here; only G's first and D's last are allowed."),
    mistake("allowed ends mixed up", ("where(g, weighted)[1:], where(d, weighted)[:-1]", "where(g, weighted)[:-1], where(d, weighted)[1:]"),
            says="The allowed places are mixed up: G may *begin* with a fully connected layer and D may *end* with one."),
    mistake("two fully connected layers allowed at the ends", ("where(g, weighted)[1:], where(d, weighted)[:-1]",
            "[i for i in where(g, weighted) if i > where(g, CONVOLUTIONS)[0]], [i for i in where(d, weighted) if i < where(d, CONVOLUTIONS)[-1]]"),
            says="Several fully connected layers before G's first (or behind D's last) convolution pass; only the very first, or last, one is allowed."),
    mistake("tanh not asked for", ("not ends_in_tanh or not where(g, nn.ReLU) or active[:-1] != where(g, nn.ReLU)", "not where(g, nn.ReLU) or [i for i in active if not isinstance(g[i], (nn.Tanh, nn.Sigmoid))] != where(g, nn.ReLU)"),
            says="The generator's output activation is not looked at; it has to be tanh."),
    mistake("G's hidden activations not looked at", ("not ends_in_tanh or not where(g, nn.ReLU) or active[:-1] != where(g, nn.ReLU)", "not ends_in_tanh"),
            says="Only the generator's output is looked at; its hidden activations have to be ReLU."),
    mistake("any ReLU in G is enough", ("not where(g, nn.ReLU) or active[:-1] != where(g, nn.ReLU)", "not where(g, nn.ReLU)"),
            says="One ReLU in the generator is taken to be enough; all its hidden activations have to be."),
    mistake("LeakyReLU allowed in G", ("active[:-1] != where(g, nn.ReLU)", "active[:-1] != where(g, (nn.ReLU, nn.LeakyReLU))"), says="LeakyReLU passes in the generator; that is the discriminator's activation."),
    mistake("tanh anywhere", (" and active[-1] > last_convolution", ""), says="A tanh before the generator's last convolution passes for its output activation."),
    mistake("any tanh behind the last convolution", ("bool(active) and isinstance(g[active[-1]], nn.Tanh) and active[-1] > last_convolution", "any(i > last_convolution for i in where(g, nn.Tanh))"),
            ("active[:-1] != where(g, nn.ReLU)", "[i for i in active if not isinstance(g[i], nn.Tanh)] != where(g, nn.ReLU)"),
            says="A tanh that is followed by another activation passes; tanh has to be the generator's last."),
    mistake("tanh has to be the very last module", ("active[-1] > last_convolution\n", "active[-1] == len(g) - 1\n"), says="A module behind the tanh that is no activation is taken for a violation."),
    mistake("D's sigmoid not allowed", ("    if active and isinstance(d[active[-1]], nn.Sigmoid):\n        active = active[:-1]\n", ""), says="A final sigmoid in the discriminator counts as a violation; the paper's own discriminator has one."),
    mistake("D's sigmoid only behind its last convolution", ("isinstance(d[active[-1]], nn.Sigmoid):", "isinstance(d[active[-1]], nn.Sigmoid) and active[-1] > where(d, CONVOLUTIONS)[-1]:"),
            says="The discriminator's last activation may be a sigmoid wherever it stands; here it has to stand behind the last convolution."),
    mistake("D's sigmoids all allowed", ("active != where(d, nn.LeakyReLU)", "[i for i in active if not isinstance(d[i], nn.Sigmoid)] != where(d, nn.LeakyReLU)"),
            says="A sigmoid passes anywhere in the discriminator; only its last activation may be one."),
    mistake("one LeakyReLU in D is enough", ("not active or active != where(d, nn.LeakyReLU)", "not where(d, nn.LeakyReLU)"), says="One LeakyReLU in the discriminator is taken to be enough; all its activations have to be."),
    mistake("ReLU allowed in D", ("active != where(d, nn.LeakyReLU)", "active != where(d, (nn.LeakyReLU, nn.ReLU))"), says="ReLU passes in the discriminator; LeakyReLU is wanted, so that no unit's gradient dies."),
    mistake("D without activations passes", ("not active or active != where", "active != where"), says="A discriminator without any activation passes; it is one long linear map."),
    mistake("the last activation of D never looked at", ("if active and isinstance(d[active[-1]], nn.Sigmoid):", "if active and not isinstance(d[active[-1]], nn.LeakyReLU):"),
            says="Whatever the discriminator's last activation is passes; apart from LeakyReLU only a sigmoid may end it."),
    mistake("the two activations mixed up", ("found.add(GENERATOR_ACTIVATION)", "found.add(\"discriminator activation\")"), ("found.add(DISCRIMINATOR_ACTIVATION)", "found.add(\"generator activation\")"),
            says="The names of the two activation guidelines are mixed up."),
    mistake("evaluation mode", ("    found = set()", "    generator.eval(), discriminator.eval()\n    found = set()"), says="The models are left in evaluation mode; they are not to be changed."),
    mistake("a list", ("    return found", "    return sorted(found)"), says="The result is a list; a set of strings is wanted."),
    mistake("the first violation only", ("    return found", "    return set(sorted(found, key=GUIDELINES.index)[:1])"), says="Only the first violation is reported; the set holds all of them."),
    mistake("the kept guidelines", ("    return found", "    return set(GUIDELINES) - found"), says="The set holds the guidelines that are kept; it has to hold those that are broken."),
    mistake("the rule's number", ("    return found", "    return {str(GUIDELINES.index(name) + 1) for name in found}"), says="The set holds numbers; it has to hold the names listed in GUIDELINES."),
)  # fmt: skip
equivalents(
    "guideline_violations",
    {
        "comparison: `if not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]` → "
        "`if not norms_g or not norms_d or norms_g[-1] >= last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]`": "no layer is both at once, so the positions are never equal",
        "comparison: `if not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0] < where(d, CONVOLUTIONS)[1]` → "
        "`if not norms_g or not norms_d or norms_g[-1] > last_convolution or norms_d[0] <= where(d, CONVOLUTIONS)[1]`": "no layer is both at once, so the positions are never equal",
        "comparison: `ends_in_tanh = bool(active) and isinstance(g[active[-1]], nn.Tanh) and active[-1] > last_convolution` → "
        "`ends_in_tanh = bool(active) and isinstance(g[active[-1]], nn.Tanh) and active[-1] >= last_convolution`": "no layer is both at once, so the positions are never equal",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("names of classes in a string of the model")
def guideline_violations(generator, discriminator):
    g = [type(layer).__name__ for layer in layers(generator)]
    d = [type(layer).__name__ for layer in layers(discriminator)]
    pools = {kind.__name__ for kind in POOLING_LAYERS} | {"UpsamplingNearest2d", "UpsamplingBilinear2d"}
    acts = {kind.__name__ for kind in ACTIVATIONS}
    convs = {"Conv2d", "ConvTranspose2d"}
    broken = {name: False for name in GUIDELINES}
    broken["pooling"] = bool(pools & set(g + d))
    last = max(i for i, name in enumerate(g) if name in convs)
    second = [i for i, name in enumerate(d) if name in convs][1]
    broken["batch norm"] = "BatchNorm2d" not in g or "BatchNorm2d" not in d or "BatchNorm2d" in g[last:] or "BatchNorm2d" in d[:second]
    broken["fully connected"] = "Linear" in [n for n in g if n in convs | {"Linear"}][1:] + [n for n in d if n in convs | {"Linear"}][:-1]
    g_acts, d_acts = [n for n in g if n in acts], [n for n in d if n in acts]
    broken["generator activation"] = [n for n in g[last:] if n in acts][-1:] != ["Tanh"] or set(g_acts[:-1]) != {"ReLU"}
    broken["discriminator activation"] = set(d_acts[:-1] if d_acts[-1:] == ["Sigmoid"] else d_acts) != {"LeakyReLU"}
    return {name for name, value in broken.items() if value}


# %% tags=["alternative"]
@alternative("one pass over each model, with flags")
def guideline_violations(generator, discriminator):
    result = set()
    convolutions, weights, norms, behind, hidden, tail = 0, 0, 0, False, [], None
    for layer in layers(generator):
        if isinstance(layer, POOLING_LAYERS):
            result.add(POOLING)
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            convolutions, weights, behind, tail = convolutions + 1, weights + 1, False, None
        elif isinstance(layer, nn.Linear):
            if weights:
                result.add(FULLY_CONNECTED)
            weights += 1
        elif isinstance(layer, nn.BatchNorm2d):
            norms, behind = norms + 1, True
        elif isinstance(layer, ACTIVATIONS):
            hidden.append(layer)
            tail = layer
    if not norms or behind:
        result.add(BATCH_NORM)
    if not isinstance(tail, nn.Tanh) or len(hidden) < 2 or any(not isinstance(a, nn.ReLU) for a in hidden[:-1]):
        result.add(GENERATOR_ACTIVATION)
    convolutions, norms, pending, active = 0, 0, False, []
    for layer in layers(discriminator):
        if isinstance(layer, POOLING_LAYERS):
            result.add(POOLING)
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            if pending:
                result.add(FULLY_CONNECTED)
            pending = isinstance(layer, nn.Linear)
            convolutions += not pending
        elif isinstance(layer, nn.BatchNorm2d):
            norms += 1
            if convolutions < 2:
                result.add(BATCH_NORM)
        elif isinstance(layer, ACTIVATIONS):
            active.append(layer)
    if not norms:
        result.add(BATCH_NORM)
    if active and isinstance(active[-1], nn.Sigmoid):
        active.pop()
    if not active or not all(isinstance(a, nn.LeakyReLU) for a in active):
        result.add(DISCRIMINATOR_ACTIVATION)
    return result


# %% tags=["alternative"]
@alternative("one function for each guideline, a frozenset")
def guideline_violations(generator, discriminator):
    g, d = layers(generator), layers(discriminator)

    def of(model, *kinds):
        return [layer for layer in model if isinstance(layer, kinds)]

    def pooling():
        return len(of(g, *POOLING_LAYERS)) + len(of(d, *POOLING_LAYERS)) > 0

    def batch_norm():
        order_g, order_d = of(g, nn.BatchNorm2d, *CONVOLUTIONS), of(d, nn.BatchNorm2d, *CONVOLUTIONS)
        if not of(g, nn.BatchNorm2d) or not of(d, nn.BatchNorm2d):
            return True
        return isinstance(order_g[-1], nn.BatchNorm2d) or any(isinstance(layer, nn.BatchNorm2d) for layer in order_d[:2])

    def fully_connected():
        hidden = of(g, nn.Linear, *CONVOLUTIONS)[1:] + of(d, nn.Linear, *CONVOLUTIONS)[:-1]
        return bool(of(hidden, nn.Linear))

    def generator_activation():
        order = of(g, *ACTIVATIONS, *CONVOLUTIONS)
        *before, last = order
        inner = of(before, *ACTIVATIONS)
        return not (isinstance(last, nn.Tanh) and inner and inner == of(before, nn.ReLU))

    def discriminator_activation():
        active = of(d, *ACTIVATIONS)
        if active and type(active[-1]) is nn.Sigmoid:
            del active[-1]
        return not (active and all(type(layer) is nn.LeakyReLU for layer in active))

    rules = (pooling, batch_norm, fully_connected, generator_activation, discriminator_activation)
    return frozenset(name for name, rule in zip(GUIDELINES, rules) if rule())


# %% tags=["alternative"]
@alternative("a regular expression over a string of letters")
def guideline_violations(generator, discriminator):
    import re

    def letter(layer):
        kinds = ((POOLING_LAYERS, "p"), (nn.BatchNorm2d, "b"), (nn.Linear, "l"), (CONVOLUTIONS, "c"), (nn.ReLU, "r"), (nn.LeakyReLU, "k"), (nn.Tanh, "t"), (nn.Sigmoid, "s"), (ACTIVATIONS, "x"))
        return next((sign for kind, sign in kinds if isinstance(layer, kind)), "")

    g, d = "".join(map(letter, layers(generator))), "".join(map(letter, layers(discriminator)))
    rules = {
        POOLING: "p" in g + d,
        BATCH_NORM: "b" not in g or "b" not in d or re.search(r"b[^c]*$", g) or re.match(r"[^c]*(c[^c]*)?b", d),
        FULLY_CONNECTED: re.search(r"[lc].*l", g) or re.search(r"l.*[lc]", d),
        GENERATOR_ACTIVATION: not re.fullmatch(r"[^rktsxc]*(c[^ktsx]*)?r[^ktsx]*c[^ktsxrc]*t[^rktsxc]*", g) and not re.fullmatch(r"[^ktsx]*r[^ktsx]*c[^rktsxc]*t[^rktsxc]*", g),
        DISCRIMINATOR_ACTIVATION: not re.fullmatch(r"[^rktsx]*k[^rtsx]*s?[^rktsx]*", d),
    }
    return {name for name, broken in rules.items() if broken}


# %% [markdown]
# ### Try it: three models under inspection
#
# A model that keeps everything, a classifier's architecture of the time turned into a GAN, and one with a single slip.

# %% tags=["picture"]
def block(convolution: nn.Module, channels: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), activation)


good_g = nn.Sequential(block(nn.ConvTranspose2d(100, 128, 4), 128, nn.ReLU()), block(nn.ConvTranspose2d(128, 64, 4, 2, 1), 64, nn.ReLU()), nn.ConvTranspose2d(64, 3, 4, 2, 1), nn.Tanh())
good_d = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), block(nn.Conv2d(64, 128, 4, 2, 1), 128, nn.LeakyReLU(0.2)), nn.Conv2d(128, 1, 4))
old_g = nn.Sequential(nn.Linear(100, 512), nn.ReLU(), nn.Linear(512, 2048), nn.Unflatten(1, (128, 4, 4)), nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1), nn.ReLU(),
                      nn.Upsample(scale_factor=2), nn.Conv2d(64, 3, 3, padding=1), nn.Sigmoid())  # fmt: skip
old_d = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2048, 256), nn.ReLU(), nn.Linear(256, 1))
slip_d = nn.Sequential(nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2), block(nn.Conv2d(64, 128, 4, 2, 1), 128, nn.ReLU()), nn.Conv2d(128, 1, 4))

pairs = {"a small DCGAN": (good_g, good_d), "a classifier of the time": (old_g, old_d), "one ReLU in D": (good_g, slip_d)}
table = np.array([[name in guideline_violations(*pair) for name in GUIDELINES] for pair in pairs.values()])
figure, axis = plt.subplots(figsize=(8, 2.2), layout="constrained")
axis.imshow(table, cmap="PuOr_r", vmin=-1.6, vmax=1.6, aspect="auto")
for i, row in enumerate(table):
    for j, broken in enumerate(row):
        axis.text(j, i, "broken" if broken else "kept", ha="center", va="center", fontsize=9)
axis.set_xticks(range(5), [name.replace(" ", "\n") for name in GUIDELINES], fontsize=9)
axis.set_yticks(range(len(pairs)), pairs, fontsize=9)
axis.spines[:].set_visible(False)
axis.tick_params(length=0)
plt.show()
with torch.no_grad():
    images = good_g(torch.randn(2, 100, 1, 1))
    print("the small DCGAN:", tuple(images.shape), "→", tuple(good_d(images).shape))

# %% [markdown]
# **What to see.** The classifier's habits of 2014 break all five guidelines at once; the third pair breaks one, with a single word. In week 3 you build the full models for 64×64 images and let this function look at them.

# %% [markdown] written="two_slopes" points=3
# ## Question 1 · two slopes
#
# *3 points, graded by a person*
#
# (a) Derive the slopes of both generator losses with respect to the logit $a$ of one sample, in terms of $D = \sigma(a)$. (b) What are they for a sample that $D$ is sure about, $D \approx 0$? (c) Both losses want $D(G(z))$ to go up. Why then does it matter which one is used?
#
# ### BEGIN SOLUTION
# (a) $\sigma' = \sigma (1 - \sigma)$. Saturating: $\frac{d}{da} \log(1 - \sigma(a)) = -\frac{\sigma(1-\sigma)}{1-\sigma} = -\sigma(a) = -D$. Non-saturating: $\frac{d}{da}(-\log \sigma(a)) = -\frac{\sigma(1-\sigma)}{\sigma} = -(1 - D)$.
#
# (b) Saturating: about 0. Non-saturating: about −1.
#
# (c) The signs agree, the sizes do not. Early in training all samples are bad and $D \approx 0$: the saturating loss then gives nearly no gradient, so the generator stays bad and $D$ stays sure. The other teaches most where samples are worst.
#
# **Rubric.** 1 point: both derivatives. 1 point: both limits. 1 point: early training, when every sample is in the flat region.
# ### END SOLUTION

# %% [markdown] written="guidelines_why" points=2
# ## Question 2 · why these guidelines
#
# *2 points, graded by a person*
#
# Choose two of the five guidelines. For each, say in two or three sentences what it is good for: in terms of gradients, of the range of pixels, or of what the paper reports without it.
#
# ### BEGIN SOLUTION
# For instance: *Strided convolutions*: every pixel gets a gradient, and shrinking and growing are learned. *Batch norm*: keeps the input of each unit at mean 0 and variance 1, so that gradients flow in deep models in spite of a poor start; the paper reports that it prevented the generator from
# collapsing all samples to a single point. *No fully connected hidden layers*: convolutions keep the picture's layout and have far fewer weights; the paper found that global average pooling helped stability but hurt convergence speed, and joined the top convolution to input and output directly.
# *ReLU and tanh in G*: tanh bounds the output to [−1, 1], the range of the images; "a bounded activation allowed the model to learn more quickly to saturate and cover the color space". *LeakyReLU in D*: units that are off pass some gradient, and the generator learns only from what passes through D.
#
# **Rubric.** 1 point for each guideline with a reason that is about training or about the data's range. Repeating the guideline is 0.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Losses are computed from logits: $-\log D = \mathrm{softplus}(-a)$. They are finite, with finite gradients, for every logit.
# - $L_D$ is minus the value of the game. The generator minimises $-\log D(G(z))$, which teaches most where samples are worst.
# - Five guidelines make convolutional GANs stable, and a program can look for all of them before any training.
#
# **Next**: `loading_and_preprocessing` in week 2: images, 64×64, in $[-1, 1]$. What you built here is in `papers.dcgan.losses`.

# %% tags=["picture"]
score()
