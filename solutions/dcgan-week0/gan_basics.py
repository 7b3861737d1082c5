# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: What a GAN is, and how it collapses
#     order: 1
#     exports: papers.dcgan.foundations
#     minutes: 75
# ---

# %% [markdown]
# # What a GAN is, and how it collapses
#
# Prerequisites of *Unsupervised Representation Learning with Deep Convolutional GANs*, section 2.2 · about 75 minutes
#
# At the end of this notebook you can
#
# - write down the game that a generator and a discriminator play, and compute its value;
# - say what the best discriminator answers, and why the generator then minimises a distance between distributions;
# - watch a GAN learn eight Gaussians, and make its collapse a number.
#
# **Week 0 of the roadmap, task 1: understand GAN basics.** Learn the theory behind generative adversarial networks: the generator, the discriminator, adversarial training.
#
# 1. Watch [What are GANs?](https://youtu.be/MZmNxvLDdV0)
# 2. Watch [A friendly introduction to GANs](https://youtu.be/8L11aMN5KY8), with a network small enough for pen and paper.
# 3. Read [the paper's](https://arxiv.org/pdf/1511.06434) section 2.2 and, for the theory below, sections 3 and 4 of [Goodfellow et al. (2014)](https://arxiv.org/pdf/1406.2661), where GANs come from.
#
# Everything here has one or two dimensions, so that you can see all of it. Images come from week 2 on.

# %% tags=["export"]
import math

import torch
from torch import Tensor

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from torch import nn

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## A game for two
#
# A **generator** $G$ turns noise $z$ into a sample $G(z)$. A **discriminator** $D$ looks at a sample and gives the probability that it came from the data and not from $G$. $D$ wants to be right.
# $G$ wants $D$ to be wrong. Nobody ever tells $G$ what data look like: all it learns comes from $D$.
#
# | symbol | is |
# | --- | --- |
# | $p_{\mathrm{data}}$ | the distribution of the data |
# | $p_g$ | the distribution of $G(z)$: what the generator makes |
# | $D(x) \in (0, 1)$ | the discriminator's probability that $x$ is real |

# %% [markdown]
# ## Exercise 1 · `value_function`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# $$\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_{\mathrm{data}}}\big[\log D(x)\big] + \mathbb{E}_{z}\big[\log\,(1 - D(G(z)))\big] \tag{Goodfellow et al., equation 1}$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | expectation | over a distribution | the mean over a batch, for each of the two batches by itself | samples are all we have; the batches may differ in size |
# | $D$ | gives a probability | is given as probabilities | to read as the equation. From week 1 on we keep *logits*, which cannot overflow a logarithm |
#
# A discriminator that is always right has $V \to 0$; one that says ½ to everything has $V = -\log 4$. Lower is worse for $D$.


# %% tags=["export"]
def value_function(d_real: Tensor, d_fake: Tensor) -> Tensor:
    """The value of the game for one batch of real and one of generated samples.

    Args:
        d_real: D's probabilities for real samples, strictly between 0 and 1, any shape, (N,) or (N, 1) say.
        d_fake: D's probabilities for generated samples, alike; perhaps more or fewer of them.

    Returns: V, in nats, a tensor without dimensions through which gradients flow. The inputs are not changed.
    """
    ### BEGIN SOLUTION
    return torch.log(d_real).mean() + torch.log(1 - d_fake).mean()
    ### END SOLUTION


# %%
@check("value_function", points=2, paper="section 2.2; Goodfellow et al. (2014), equation 1")
def _(case):
    def chances(*shape, **options):
        return case.uniform(*shape, low=0.05, high=0.95, **options)

    case.call("one real, one generated", value_function, chances(1), chances(1))
    case.call("two and two", value_function, chances(2), chances(2))
    case.call("a discriminator that cannot tell: −log 4", value_function, torch.full((3,), 0.5), torch.full((3,), 0.5))
    case.call("a good discriminator", value_function, case.uniform(4, low=0.9, high=0.99), case.uniform(4, low=0.01, high=0.1))
    case.call("surer than a hundred to one that all is generated", value_function, torch.tensor([5e-4, 0.002, 0.003, 0.004]), torch.tensor([0.001, 0.005]))
    case.call("more generated than real", value_function, chances(3), chances(5))
    case.call("columns, (N, 1)", value_function, chances(4, 1), chances(4, 1))
    real, fake = chances(3).requires_grad_(), chances(4).requires_grad_()
    value = case.call("probabilities that require gradients", value_function, real, fake)
    case.gradients("gradients of V", value, {"d_real": real, "d_fake": fake})
    ### BEGIN HIDDEN TESTS
    case.call("more real than generated", value_function, chances(7), chances(2))
    case.call("a map of probabilities, (N, 1, 2, 2)", value_function, chances(3, 1, 2, 2), chances(3, 1, 2, 2))
    case.call("float64", value_function, chances(4, dtype=torch.float64), chances(6, dtype=torch.float64), policy={"tol": 1e-5})
    case.call("a discriminator that is always wrong", value_function, case.uniform(5, low=0.01, high=0.1), case.uniform(5, low=0.9, high=0.99))
    case.call("surer than a hundred to one that all is real", value_function, torch.tensor([0.999, 0.995]), 1 - torch.tensor([5e-4, 0.002, 0.003, 0.004]))
    real, fake = chances(2, 1).requires_grad_(), chances(6, 1).requires_grad_()
    value = case.call("columns that require gradients", value_function, real, fake)
    case.gradients("gradients of V, columns", value, {"d_real": real, "d_fake": fake})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "value_function",
    "What is V if D says ½ to everything? Compute it on paper first, then with your function.",
    "Equation 1 of Goodfellow et al.: two expectations, one over data, one over noise. Which logarithm belongs to which?",
    "Take the logarithm of the probabilities for real samples and its mean; the logarithm of one minus the probabilities for generated samples and its mean; add the two.",
)
misconceptions(
    "value_function",
    mistake("sums instead of means", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log(d_real).sum() + torch.log(1 - d_fake).sum()"),
            says="The logarithms are summed; an expectation is a mean over the batch."),
    mistake("one mean over both batches", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.cat([torch.log(d_real).flatten(), torch.log(1 - d_fake).flatten()]).mean()"),
            says="One mean is taken over both batches together; each expectation has its own, and the two are added."),
    mistake("half the sum", ("return torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "return (torch.log(d_real).mean() + torch.log(1 - d_fake).mean()) / 2"),
            says="The two expectations are averaged; the equation adds them."),
    mistake("log D of the generated", ("torch.log(1 - d_fake)", "torch.log(d_fake)"), says="log D(G(z)) is taken for generated samples; the equation has log(1 − D(G(z)))."),
    mistake("1 − D of the real", ("torch.log(d_real)", "torch.log(1 - d_real)"), says="log(1 − D(x)) is taken for real samples; the equation has log D(x)."),
    mistake("real and generated swapped", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log(d_fake).mean() + torch.log(1 - d_real).mean()"),
            says="Real and generated have changed places: the discriminator would be paid for being wrong."),
    mistake("the loss, not the value", ("return torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "return -(torch.log(d_real).mean() + torch.log(1 - d_fake).mean())"),
            says="The sign is turned: this is the loss that the discriminator minimises, and V is what it maximises."),
    mistake("the difference", (".mean() + torch", ".mean() - torch"), says="The second expectation is subtracted; the equation adds it."),
    mistake("only real samples", (" + torch.log(1 - d_fake).mean()", " + 0 * d_fake.mean()"), says="Only the real samples count; the second expectation, over generated samples, is missing."),
    mistake("only generated samples", ("torch.log(d_real).mean() + ", "0 * d_real.mean() + "), says="Only the generated samples count; the first expectation, over data, is missing."),
    mistake("logarithm to base 2", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log2(d_real).mean() + torch.log2(1 - d_fake).mean()"),
            says="The logarithm is to base 2; V is in nats, the natural logarithm's unit."),
    mistake("logarithm of the mean", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log(d_real.mean()) + torch.log(1 - d_fake.mean())"),
            says="The logarithm of the mean is taken; the expectation is of the logarithm, the mean comes last."),
    mistake("probabilities clamped", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log(d_real.clamp(0.01, 0.99)).mean() + torch.log(1 - d_fake.clamp(0.01, 0.99)).mean()"),
            says="Probabilities are clamped before the logarithm, so a discriminator that is very sure gets another value. They lie strictly between 0 and 1: no logarithm overflows."),
    mistake("no logarithm", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "d_real.mean() + (1 - d_fake).mean()"),
            says="The logarithms are missing: this is twice the accuracy that D expects of itself."),
    mistake("a value for each sample", ("torch.log(d_real).mean() + torch.log(1 - d_fake).mean()", "torch.log(d_real) + torch.log(1 - d_fake).mean()"),
            says="There is a value for every real sample; an expectation is one number, the mean over the batch."),
    mistake("gradients cut off", ("torch.log(1 - d_fake).mean()", "torch.log(1 - d_fake).mean().item()"),
            says="No gradient reaches the probabilities of generated samples, through which the generator would learn (`.item()`, `detach` or numpy on the way)."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("log1p and a division by the counts")
def value_function(d_real, d_fake):
    return d_real.log().sum() / d_real.numel() + torch.log1p(-d_fake).sum() / d_fake.numel()


# %% tags=["alternative"]
@alternative("minus two binary cross-entropies")
def value_function(d_real, d_fake):
    return -F.binary_cross_entropy(d_real, torch.ones_like(d_real)) - F.binary_cross_entropy(d_fake, torch.zeros_like(d_fake))


# %% tags=["alternative"]
@alternative("through logits")
def value_function(d_real, d_fake):
    real, fake = torch.logit(d_real), torch.logit(d_fake)
    return F.logsigmoid(real).mean() + F.logsigmoid(-fake).mean()


# %% tags=["alternative"]
@alternative("a loop over the samples")
def value_function(d_real, d_fake):
    real, fake = [torch.log(p) for p in d_real.reshape(-1)], [torch.log(1 - p) for p in d_fake.reshape(-1)]
    return sum(real) / len(real) + sum(fake) / len(fake)


# %% [markdown]
# ## Exercise 2 · `optimal_discriminator`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Hold the generator still. What should $D$ answer at one point $x$? Write both expectations as integrals over $x$; at every point $D(x)$ has to maximise
#
# $$p_{\mathrm{data}}(x) \log D(x) + p_g(x) \log (1 - D(x)).$$
#
# Set the derivative with respect to $D(x)$ to 0 (do it: question 1 asks for it) and find
#
# $$D^*(x) = \frac{p_{\mathrm{data}}(x)}{p_{\mathrm{data}}(x) + p_g(x)} .$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | where neither $p_{\mathrm{data}}$ nor $p_g$ has anything | $D$ need not be defined there | ½ | 0/0 is NaN, and a plot with NaN in it hides the rest; ½ is "I cannot tell" |


# %% tags=["export"]
def optimal_discriminator(p_data: Tensor, p_g: Tensor) -> Tensor:
    """What the best discriminator answers where the two distributions have these densities.

    Args:
        p_data: densities (or probabilities) of the data, ≥ 0, any shape.
        p_g: of the generator, at the same points, in the same shape.

    Returns: D* at each point, in the same shape and dtype; ½ where both are 0. The inputs are not changed.
    """
    ### BEGIN SOLUTION
    total = p_data + p_g
    return torch.where(total == 0, 0.5, p_data / total)
    ### END SOLUTION


# %%
@check("optimal_discriminator", points=2, paper="Goodfellow et al. (2014), proposition 1")
def _(case):
    def densities(*shape, high=1.0, **options):
        return case.uniform(*shape, low=0.05, high=high, **options)

    case.call("two points", optimal_discriminator, densities(2), densities(2))
    case.call("the same density: ½", optimal_discriminator, torch.tensor([0.3, 0.7]), torch.tensor([0.3, 0.7]))
    case.call("only data, only generated", optimal_discriminator, torch.tensor([0.4, 0.0]), torch.tensor([0.0, 0.2]))
    case.call("neither: ½", optimal_discriminator, torch.tensor([0.0, 0.4, 0.0]), torch.tensor([0.0, 0.1, 0.3]))
    case.call("tiny densities, far out in the tails", optimal_discriminator, torch.tensor([3e-8, 1e-8]), torch.tensor([1e-8, 4e-8]))
    case.call("densities above 1", optimal_discriminator, densities(4, high=6.0), densities(4, high=3.0))
    case.call("a grid of points", optimal_discriminator, densities(3, 4), densities(3, 4))
    ### BEGIN HIDDEN TESTS
    case.call("one point", optimal_discriminator, densities(1), densities(1))
    p, q = densities(5, 6), densities(5, 6)
    p, q = p * case.boolean(5, 6), q * case.boolean(5, 6)
    p[0, 0], q[0, 0] = 0.0, 0.0
    case.call("a grid with empty points", optimal_discriminator, p, q)
    case.call("nothing anywhere", optimal_discriminator, torch.zeros(2, 3), torch.zeros(2, 3))
    case.call("float64", optimal_discriminator, densities(4, dtype=torch.float64), densities(4, dtype=torch.float64), policy={"tol": 1e-5})
    case.call("a point without dimensions", optimal_discriminator, densities(), densities())
    # Who adds a little so as not to divide by 0 is right as long as it is little.
    case.call("densities farther out still: small, not 0", optimal_discriminator, torch.tensor([3e-10, 1e-10]), torch.tensor([1e-10, 4e-10]), policy={"tol": 1e-2})
    case.call("small densities", optimal_discriminator, case.uniform(4, low=0.002, high=0.01), case.uniform(4, low=0.002, high=0.01))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "optimal_discriminator",
    "At a point where data are three times as frequent as generated samples, how often is a sample found there real?",
    "Proposition 1 of Goodfellow et al.; it is Bayes' rule with equally many real and generated samples.",
    "Divide the density of the data by the sum of both. Where the sum is 0, put ½ by torch.where.",
)
misconceptions(
    "optimal_discriminator",
    mistake("the generator's share", ("p_data / total", "p_g / total"), says="This is the probability that a sample is *generated*; D gives the probability that it is real."),
    mistake("the ratio of the two", ("p_data / total)", "p_data / p_g)"),
            says="The two densities are divided by one another; D* is the data's share of their sum."),
    mistake("NaN where both are 0", ("torch.where(total == 0, 0.5, p_data / total)", "p_data / total"),
            says="Where neither distribution has anything, 0/0 is NaN; the answer there is ½."),
    mistake("0 where both are 0", ("total == 0, 0.5,", "total == 0, 0.0,"),
            says="Where neither distribution has anything, D* comes out as 0 (perhaps from a small number added below the fraction); the answer there is ½."),
    mistake("1 where both are 0", ("total == 0, 0.5,", "total == 0, 1.0,"), says="Where neither distribution has anything, D* comes out as 1; the answer there is ½."),
    mistake("½ where either is 0", ("total == 0,", "(p_data == 0) | (p_g == 0),"),
            says="½ is answered wherever one density is 0. Where only one of them is 0, D knows for sure: 1 or 0."),
    mistake("½ where the densities are tiny", ("total == 0,", "total < 1e-6,"),
            says="½ is answered wherever the densities are tiny, too. Only where both are exactly 0 is it ½; far out in the tails their ratio still counts."),
    mistake("a noticeable number added to both", ("return torch.where(total == 0, 0.5, p_data / total)", "return (p_data + 1e-8) / (total + 2e-8)"),
            says="The number added to both densities against 0/0 is not small beside tiny densities, so D* is drawn to ½ in the tails. Treat 0/0 by itself."),
    mistake("the sum halved", ("total = p_data + p_g", "total = (p_data + p_g) / 2"), says="The density is divided by the mean of both; it is divided by their sum."),
    mistake("which is larger", ("p_data / total", "torch.where(p_data == p_g, 0.5, (p_data > p_g).to(p_data.dtype))"),
            says="D* is 1 or 0, whichever density is larger; it is the probability in between, the data's share."),
    mistake("sigmoid of the difference", ("p_data / total", "torch.sigmoid(p_data - p_g)"),
            says="A sigmoid of the difference of densities is taken; it would be one of the difference of their *logarithms*."),
    mistake("normalised over the points", ("p_data / total", "p_data / total.sum().clamp(min=1e-9)"),
            says="The sum runs over all points; each point has its own p_data + p_g."),
    mistake("the data changed in place", ("return torch.where(total == 0, 0.5, p_data / total)", "p_data /= total\n    return torch.where(total == 0, 0.5, p_data)"),
            says="The data's densities are divided in place, and the caller still needs them."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("nan_to_num")
def optimal_discriminator(p_data, p_g):
    return torch.nan_to_num(p_data / (p_data + p_g), nan=0.5)


# %% tags=["alternative"]
@alternative("a sigmoid of the log-ratio")
def optimal_discriminator(p_data, p_g):
    answer = torch.sigmoid(torch.log(p_data) - torch.log(p_g))
    answer[(p_data == 0) & (p_g == 0)] = 0.5
    return answer


# %% tags=["alternative"]
@alternative("a little in both")
def optimal_discriminator(p_data, p_g):
    eps = 1e-12
    return (p_data + eps) / (p_data + p_g + 2 * eps)


# %% tags=["alternative"]
@alternative("a softmax of logarithms, float64 inside")
def optimal_discriminator(p_data, p_g):
    both = torch.stack([p_data, p_g], dim=-1).double().clamp(min=1e-300).log()
    return both.softmax(-1)[..., 0].to(p_data.dtype)


# %% tags=["alternative"]
@alternative("start from ½")
def optimal_discriminator(p_data, p_g):
    answer = torch.full_like(p_data, 0.5)
    some = p_data + p_g > 0
    answer[some] = p_data[some] / (p_data[some] + p_g[some])
    return answer


# %% [markdown]
# ## Exercise 3 · `jensen_shannon`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Put $D^*$ back into $V$. What the generator then minimises is
#
# $$V(D^*, G) = -\log 4 + 2 \,\mathrm{JS}(p_{\mathrm{data}} \,\|\, p_g), \qquad
# \mathrm{JS}(p \,\|\, q) = \tfrac12 \mathrm{KL}(p \,\|\, m) + \tfrac12 \mathrm{KL}(q \,\|\, m), \quad m = \tfrac12 (p + q),$$
#
# with $\mathrm{KL}(p \,\|\, m) = \sum_k p_k \log (p_k / m_k)$. The **Jensen–Shannon divergence** is 0 for equal distributions, $\log 2$ for distributions that share nothing, and the same both ways round. So against
# the best possible discriminator the generator has one aim: $p_g = p_{\mathrm{data}}$.
#
# Where $p_k = 0$ the term is 0: $\lim_{p \to 0} p \log p = 0$. Computers think that $0 \cdot \log 0$ is NaN.
#
# Build it from logarithms: `scipy.spatial.distance.jensenshannon`, which is (the square root of) the whole exercise, may not be called.


# %% tags=["export"]
def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """The Jensen–Shannon divergence of two discrete distributions, in nats.

    Args:
        p, q: probabilities, (…, K): along the last axis they are ≥ 0 and add up to 1. Zeros are allowed.

    Returns: (…), one divergence for each pair, between 0 and log 2, in the dtype of p. The inputs
        are not changed.
    """
    ### BEGIN SOLUTION
    m = (p + q) / 2
    to_p = torch.xlogy(p, p) - torch.xlogy(p, m)  # xlogy(0, ·) is 0
    to_q = torch.xlogy(q, q) - torch.xlogy(q, m)
    return (to_p + to_q).sum(dim=-1) / 2
    ### END SOLUTION


# %%
@check("jensen_shannon", points=3, forbid=["scipy.spatial.distance.jensenshannon"], paper="Goodfellow et al. (2014), theorem 1")
def _(case):
    def distributions(*shape, p=1.0, tilt=1.0, **options):
        weights = case.uniform(*shape, low=0.3, **options)
        weights[..., ::2] *= tilt  # other than a neighbour without: two that are nearly equal leave nothing but rounding
        if p < 1:
            weights = weights * case.boolean(*shape, p=p)
            weights[..., 0] = weights[..., 0].clamp(min=0.2)
        return weights / weights.sum(-1, keepdim=True)

    case.call("two coins", jensen_shannon, torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
    case.call("nothing in common: log 2", jensen_shannon, torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.1, 0.9]))
    case.call("a zero in one, a zero in both", jensen_shannon, torch.tensor([0.5, 0.0, 0.5, 0.0]), torch.tensor([0.2, 0.3, 0.5, 0.0]))
    case.call("four outcomes", jensen_shannon, distributions(4), distributions(4, tilt=12.0))
    rows, other = distributions(3, 5), distributions(3, 5, tilt=12.0)
    other[1] = rows[1]
    case.call("three pairs, the second of them equal", jensen_shannon, rows, other)
    case.call("the other way round", jensen_shannon, other, rows)
    case.call("as many pairs as outcomes", jensen_shannon, distributions(4, 4), distributions(4, 4, tilt=12.0))
    ### BEGIN HIDDEN TESTS
    case.call("more leading dimensions", jensen_shannon, distributions(2, 3, 6), distributions(2, 3, 6))
    case.call("many zeros", jensen_shannon, distributions(5, 8, p=0.5), distributions(5, 8, p=0.5))
    case.call("certain outcomes", jensen_shannon, torch.eye(4), distributions(4, 4))
    case.call("float64", jensen_shannon, distributions(2, 4, dtype=torch.float64), distributions(2, 4, dtype=torch.float64), policy={"tol": 1e-5})
    case.call("a hundred outcomes", jensen_shannon, distributions(2, 100), distributions(2, 100, p=0.8))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "jensen_shannon",
    "What should come out for two coins that always fall on different sides? If you get NaN, look at the zeros; if you get infinity, look at what you divide by.",
    "Theorem 1 of Goodfellow et al.: both distributions are compared with their *mean* m, never with each other.",
    "Form m, the mean of the two. Sum p log(p/m) over the last axis, counting 0 where p is 0 (torch.xlogy and torch.where both help); the same for q; take half of the sum.",
)
misconceptions(
    "jensen_shannon",
    mistake("Kullback–Leibler of p and q", ("    m = (p + q) / 2", "    m = q"), says="p is compared with q directly (that is the Kullback–Leibler divergence, which is infinite where only q is 0); compare both with their mean m."),
    mistake("only the first half", ("(to_p + to_q)", "to_p"), says="Only p is compared with the mean; q is, too, so that the result is the same both ways round."),
    mistake("not halved", (".sum(dim=-1) / 2", ".sum(dim=-1)"), says="The two divergences are added; each counts one half, so that the result lies between 0 and log 2."),
    mistake("m is the sum", ("(p + q) / 2", "(p + q)"), says="m is the sum of both distributions; it is their mean, which adds up to 1."),
    mistake("bits", ("/ 2\n    ### END", "/ 2 / math.log(2)\n    ### END"), says="The divergence is in bits (logarithm to base 2, so at most 1); nats are wanted, at most log 2."),
    mistake("the square root", ("return (to_p + to_q).sum(dim=-1) / 2", "return ((to_p + to_q).sum(dim=-1) / 2).clamp(min=0).sqrt()"),
            says="The square root is taken: that is the Jensen–Shannon *distance* (what scipy returns); the divergence itself is wanted."),
    mistake("NaN at zeros", ("torch.xlogy(p, p) - torch.xlogy(p, m)", "p * torch.log(p / m)"), ("torch.xlogy(q, q) - torch.xlogy(q, m)", "q * torch.log(q / m)"),
            says="Where a probability is 0, 0 · log 0 becomes NaN; such a term counts 0."),
    mistake("mean over the outcomes", (".sum(dim=-1) / 2", ".mean(dim=-1) / 2"), says="The terms are averaged over the outcomes; a divergence sums them."),
    mistake("over all pairs at once", (".sum(dim=-1) / 2", ".sum() / 2"), says="All pairs are summed into one number; each pair along the leading dimensions has its own."),
    mistake("over the first axis", (".sum(dim=-1) / 2", ".sum(dim=0) / 2"), says="The sum runs over the first axis; outcomes are along the last."),
    mistake("mean of the pairs", (".sum(dim=-1) / 2", ".sum(dim=-1).mean() / 2"), says="The pairs are averaged into one number; each pair has its own divergence."),
    mistake("the geometric mean", ("(p + q) / 2", "(p * q).sqrt().clamp(min=1e-9)"), says="m is the geometric mean; it is the ordinary one, half the sum."),
    mistake("the sign turned", ("return (to_p + to_q)", "return -(to_p + to_q)"), says="The sign is turned; a divergence is never negative."),
    mistake("m compared with p and q", ("torch.xlogy(p, p) - torch.xlogy(p, m)", "torch.xlogy(m, m) - torch.xlogy(m, p.clamp(min=1e-9))"),
            ("torch.xlogy(q, q) - torch.xlogy(q, m)", "torch.xlogy(m, m) - torch.xlogy(m, q.clamp(min=1e-9))"),
            says="The mean is compared with p and q, KL(m‖p); the distributions are compared with the mean, KL(p‖m)."),
    mistake("keeps the last axis", (".sum(dim=-1) / 2", ".sum(dim=-1, keepdim=True) / 2"), says="The last axis is kept with length 1; it is summed away."),
)  # fmt: skip
equivalents(
    "jensen_shannon",
    {"detach added: `return (to_p + to_q).sum(dim=-1) / 2` → `return ((to_p + to_q).sum(dim=-1) / 2).detach()`": "nothing is learned through it; the exercise asks for numbers"},
)


# %% tags=["alternative"]
@alternative("entropy of the mean minus mean of the entropies")
def jensen_shannon(p, q):
    def entropy(x):
        return torch.special.entr(x).sum(-1)

    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


# %% tags=["alternative"]
@alternative("where, with a safe logarithm")
def jensen_shannon(p, q):
    m = 0.5 * p + 0.5 * q

    def kl(a):
        ratio = torch.where(a > 0, a / m.clamp(min=1e-30), torch.ones_like(a))
        return (a * ratio.log()).sum(dim=-1)

    return 0.5 * kl(p) + 0.5 * kl(q)


# %% tags=["alternative"]
@alternative("NaN counted as 0")
def jensen_shannon(p, q):
    m = (p + q) / 2
    return 0.5 * (torch.nan_to_num(p * (p / m).log()) + torch.nan_to_num(q * (q / m).log())).sum(-1)


# %% tags=["alternative"]
@alternative("F.kl_div")
def jensen_shannon(p, q):
    log_m = ((p + q) / 2).clamp(min=1e-38).log()
    return (F.kl_div(log_m, p, reduction="none").sum(-1) + F.kl_div(log_m, q, reduction="none").sum(-1)) / 2


# %% tags=["alternative"]
@alternative("loops in Python")
def jensen_shannon(p, q):
    results = []
    for a, b in zip(p.reshape(-1, p.shape[-1]).tolist(), q.reshape(-1, q.shape[-1]).tolist()):
        total = 0.0
        for x, y in zip(a, b):
            total += (x * math.log(2 * x / (x + y)) if x > 0 else 0.0) + (y * math.log(2 * y / (x + y)) if y > 0 else 0.0)
        results.append(total / 2)
    return torch.tensor(results, dtype=p.dtype).reshape(p.shape[:-1])


# %% [markdown]
# ### Try it: the best discriminator, and what it leaves the generator to do
#
# Data are a Gaussian at 0. The generator makes the same Gaussian, shifted. We compute $V(D^*, G)$ from samples-free densities on a fine grid and compare it with $-\log 4 + 2\,\mathrm{JS}$.

# %% tags=["picture"]
x = torch.linspace(-8, 14, 2201, dtype=torch.float64)
cell = x[1] - x[0]


def gaussian(centre: float) -> Tensor:
    return torch.exp(-((x - centre) ** 2) / 2) / math.sqrt(2 * math.pi)


data = gaussian(0.0)
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
made = gaussian(2.0)
left.fill_between(x, data, color=BLUE, alpha=0.35, label=r"$p_{\mathrm{data}}$")
left.fill_between(x, made, color=ORANGE, alpha=0.35, label=r"$p_g$")
left.plot(x, optimal_discriminator(data, made), color="black", label=r"$D^*(x)$")
left.set(xlim=(-4, 6), xlabel="x", ylabel="density, or probability", title="The best discriminator, generator 2 to the right")
shifts = torch.linspace(0, 6, 25)
divergence = torch.stack([jensen_shannon(data * cell, gaussian(s.item()) * cell) for s in shifts])
values = []
for s in shifts:
    best, g = optimal_discriminator(data, gaussian(s.item())), gaussian(s.item())
    doubt = optimal_discriminator(g, data)  # 1 − D*, exact where D* is nearly 1
    values.append((torch.xlogy(data, best) + torch.xlogy(g, doubt)).sum() * cell)  # the two expectations of V, as integrals
right.plot(shifts, torch.stack(values), "o", color=BLUE, label=r"$V(D^*, G)$ from its definition")
right.plot(shifts, -math.log(4) + 2 * divergence, color=ORANGE, label=r"$-\log 4 + 2\,\mathrm{JS}$")
right.axhline(0, color=GREY, linestyle="--", linewidth=1)
right.axhline(-math.log(4), color=GREY, linestyle="--", linewidth=1)
right.set(xlabel="how far the generator is off", ylabel="nats", title="What the generator minimises")
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# **What to see.** Left: $D^*$ is ½ where the two densities cross and near-certain where one of them is alone. Right: the two ways to compute the value agree. It is lowest, $-\log 4$, when the generator is
# right, and flat when it is far off: $D^*$ then tells everything apart, and moving a little changes nothing. There is no slope to learn from: keep this in mind for week 1.

# %% [markdown]
# ## Eight Gaussians on a ring
#
# Data that a GAN can get wrong in an interesting way: eight small Gaussians, equally likely. A generator that makes only one of them fools a discriminator for a while, and yet has missed seven eighths of the data.


# %% tags=["export"]
def ring_centres(modes: int = 8, radius: float = 2.0) -> Tensor:
    """The centres of the Gaussians, (modes, 2)."""
    angle = torch.arange(modes) * 2 * math.pi / modes
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring_samples(n: int, generator: torch.Generator, spread: float = 0.1) -> Tensor:
    """n points (n, 2) from the eight Gaussians, each as likely."""
    chosen = torch.randint(8, (n,), generator=generator)
    return ring_centres()[chosen] + spread * torch.randn(n, 2, generator=generator)


# %% [markdown]
# ## Exercise 4 · `mode_coverage`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Two numbers that say how well samples cover the modes of data whose centres we know:
#
# - **covered**: how many centres have at least one sample;
# - **share**: which fraction of the samples counts at all.
#
# A sample counts for its *nearest* centre, and only if it is within `radius` of it. (So where circles overlap, a sample still counts once.)


# %% tags=["export"]
def mode_coverage(samples: Tensor, centres: Tensor, radius: float) -> tuple[int, float]:
    """How many modes samples cover, and which share of the samples lies near one.

    Args:
        samples: (N, 2), N ≥ 1.
        centres: (K, 2).
        radius: how near (in Euclidean distance) a sample has to be to its nearest centre to count.

    Returns: (covered, share): the number of centres with at least one sample that counts for it,
        and the fraction of samples that count.
    """
    ### BEGIN SOLUTION
    distance, nearest = torch.cdist(samples, centres).min(dim=1)  # (N,)
    counts = distance <= radius
    return int(nearest[counts].unique().numel()), float(counts.double().mean())
    ### END SOLUTION


# %%
@check("mode_coverage", points=3)
def _(case):
    def coverage(samples, centres, radius):
        covered, share = mode_coverage(samples, centres, radius)
        return int(covered), float(share)

    def measure(name, samples, centres, radius):
        case.call(name, coverage, samples, centres, radius, labels=("covered", "share"))

    def away(*at, scale):  # points around given ones, none exactly on a circle
        return torch.tensor(at) + scale * case.uniform(len(at), 2, low=-1.0, high=1.0)

    two = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    measure("one sample near the first of two centres", torch.tensor([[0.1, 0.2]]), two, 0.5)
    measure("one near, one far from both", torch.tensor([[0.4, 0.0], [2.0, 2.0]]), two, 0.5)
    measure("both covered, one twice", torch.tensor([[0.1, 0.2], [4.2, 0.1], [3.9, -0.2]]), two, 0.5)
    measure("nothing near", torch.tensor([[2.0, 1.0], [2.0, -1.0], [9.0, 9.0]]), two, 0.5)
    measure("a radius above 1", torch.tensor([[1.2, 0.5], [0.0, 1.7], [6.0, 0.0]]), two, 1.5)
    measure("circles that overlap: the nearest centre only", torch.tensor([[1.5, 0.0], [1.0, 0.3], [-9.0, 0.0]]), two, 3.0)
    measure("a corner of the square is not in the circle", torch.tensor([[0.4, 0.4], [0.3, 0.3]]), two, 0.5)
    ring = ring_centres()
    measure("the ring, every mode, some samples lost", torch.cat([ring[case.permutation(8)] + case.normal(8, 2, scale=0.02), torch.zeros(2, 2)]), ring, 0.3)
    measure("the ring, all samples on one mode", ring[[3]] + case.normal(20, 2, scale=0.02), ring, 0.3)
    ### BEGIN HIDDEN TESTS
    measure("the ring, three modes", ring[case.integers(0, 3, 30)] + case.normal(30, 2, scale=0.02), ring, 0.3)
    measure("samples all over the place", case.uniform(50, 2, low=-3.0, high=3.0), ring, 0.5)
    measure("large circles", case.uniform(12, 2, low=0.0, high=3.0), ring, 1.8)
    measure("three centres, more of them than samples", away((0.0, 1.0), (5.0, 5.0), scale=0.1), torch.tensor([[0.0, 1.0], [5.0, 5.0], [-5.0, 0.0]]), 0.4)
    measure("nearest by the Euclidean distance, not along the axes", torch.tensor([[2.0, 2.0]]), torch.tensor([[0.0, 0.0], [5.2, 2.0]]), 3.0)
    measure("nearest by the Euclidean distance, not by the larger coordinate", torch.tensor([[0.0, 0.0]]), torch.tensor([[2.9, 0.0], [2.2, 2.2]]), 3.0)
    measure("one centre", case.normal(40, 2), torch.tensor([[0.1, 0.0]]), 1.0)
    measure("float64", case.uniform(20, 2, low=-3.0, high=3.0, dtype=torch.float64), ring.double(), 0.6)
    measure("a thousand samples", case.normal(1000, 2, scale=1.5), ring, 0.25)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "mode_coverage",
    "Draw two centres and five samples on paper. For each sample: which centre is nearest, and is it near enough? Only then count.",
    "The paper speaks of the generator *collapsing all samples to a single point* (section 3, batch normalisation). What would `covered` be then, and what `share`?",
    "Compute all distances, (N, K). The minimum along the centres gives each sample's distance and its nearest centre. Compare with the radius; count the different centres among those that pass, and the fraction that passes.",
)
misconceptions(
    "mode_coverage",
    mistake("every centre within the radius", ("nearest[counts].unique().numel()", "(torch.cdist(samples, centres) <= radius).any(0).sum()"),
            says="A sample counts for every centre within the radius; it counts for its nearest only."),
    mistake("nearest centre, however far", ("nearest[counts].unique()", "nearest.unique()"), says="`covered` counts the nearest centre of every sample, however far away; the sample has to be within the radius."),
    mistake("squared distances", ("counts = distance <= radius", "counts = distance**2 <= radius"), says="The squared distance is compared with the radius; the distance itself has to be."),
    mistake("a square, not a circle", ("torch.cdist(samples, centres)", "torch.cdist(samples, centres, p=float('inf'))"),
            says="The larger coordinate's difference is compared with the radius, which makes a square; the Euclidean distance makes a circle."),
    mistake("city-block distance", ("torch.cdist(samples, centres)", "torch.cdist(samples, centres, p=1.0)"),
            says="The coordinates' differences are added; the distance is Euclidean, the root of the sum of squares."),
    mistake("share of the centres", ("float(counts.double().mean())", "nearest[counts].unique().numel() / len(centres)"),
            says="`share` is the fraction of the centres that are covered; it is the fraction of the samples that count."),
    mistake("number of samples as covered", ("int(nearest[counts].unique().numel())", "int(counts.sum())"),
            says="`covered` is the number of samples that count; it is the number of different centres they count for."),
    mistake("number of samples as share", ("float(counts.double().mean())", "float(counts.sum())"), says="`share` is the number of samples that count; it is their fraction."),
    mistake("share of what is lost", ("float(counts.double().mean())", "1 - float(counts.double().mean())"), says="`share` is the fraction of samples that count for nothing; it is the fraction that count."),
    mistake("share per centre", ("float(counts.double().mean())", "float(counts.double().sum() / len(centres))"),
            says="The samples that count are divided by the number of centres; divide by the number of samples."),
    mistake("nearest sample of each centre", ("torch.cdist(samples, centres).min(dim=1)", "torch.cdist(centres, samples).min(dim=1)"),
            says="The nearest *sample* of each centre is looked for; each sample has to find its nearest centre."),
    mistake("outside the radius", ("distance <= radius", "distance > radius"), says="Samples outside the radius are counted; those within it count."),
    mistake("share, then covered", ("return int(nearest[counts].unique().numel()), float(counts.double().mean())", "return float(counts.double().mean()), int(nearest[counts].unique().numel())"),
            says="The two results are in the wrong order: covered first, then share."),
    mistake("two samples at least", ("nearest[counts].unique().numel()", "(torch.bincount(nearest[counts]) > 1).sum()"),
            says="A centre counts as covered only with two samples; one is enough."),
    mistake("covered as a fraction", ("int(nearest[counts].unique().numel())", "nearest[counts].unique().numel() / len(centres)"),
            says="`covered` is a fraction of the centres; it is their number."),
    mistake("radius taken for the diameter", ("distance <= radius", "distance <= radius / 2"), says="The radius is halved, as if it were the diameter of the circle."),
)  # fmt: skip
equivalents(
    "mode_coverage",
    {"comparison: `counts = distance <= radius` → `counts = distance < radius`": "a sample exactly on the circle has no weight, and rounding decides about it"},
)


# %% tags=["alternative"]
@alternative("loops and a set")
def mode_coverage(samples, centres, radius):
    found, near = set(), 0
    for x, y in samples.tolist():
        distances = [math.hypot(x - a, y - b) for a, b in centres.tolist()]
        best = min(range(len(distances)), key=distances.__getitem__)
        if distances[best] < radius:
            found.add(best)
            near += 1
    return len(found), near / len(samples)


# %% tags=["alternative"]
@alternative("broadcasting and one-hot")
def mode_coverage(samples, centres, radius):
    squared = ((samples[:, None] - centres[None]) ** 2).sum(-1)  # (N, K)
    hit = F.one_hot(squared.argmin(1), len(centres)).bool() & (squared <= radius**2)
    return hit.any(0).sum(), hit.any(1).float().mean()


# %% tags=["alternative"]
@alternative("numpy")
def mode_coverage(samples, centres, radius):
    s, c = samples.numpy(), centres.numpy()
    distance = np.linalg.norm(s[:, None, :] - c[None, :, :], axis=2)
    nearest, near = distance.argmin(axis=1), distance.min(axis=1) <= radius
    return len(np.unique(nearest[near])), near.mean()


# %% tags=["alternative"]
@alternative("bincount")
def mode_coverage(samples, centres, radius):
    distance = torch.linalg.vector_norm(samples.unsqueeze(1) - centres, dim=2)
    smallest, index = torch.sort(distance, dim=1)
    kept = index[:, 0][smallest[:, 0] <= radius]
    counts = torch.bincount(kept, minlength=centres.shape[0])
    return (counts > 0).sum().item(), counts.sum().item() / samples.shape[0]


# %% [markdown]
# ## Watch it learn, and watch it collapse
#
# Both players are small networks of two hidden layers. One round is one step of each: the discriminator sees 256 real and 256 generated points, then the generator moves 256 new points towards what the discriminator calls real.
# (The losses are the topic of week 1. `softplus(−a)` is $-\log D$ for a logit $a$.) Three runs that differ in one number each:
#
# - **as in the paper**: Adam with $\beta_1 = 0.5$ for both;
# - **$\beta_1 = 0.9$**, Adam's usual value, of which section 4 of the paper says that it "resulted in training oscillation and instability";
# - **a slow discriminator**: its learning rate is a tenth of the generator's.

# %% tags=["picture"]
STEPS = {"quick": 2000, "full": 8000}[PROFILE]
SHOWN = [0, STEPS // 20, STEPS // 4, STEPS // 2, STEPS]


def network(inputs: int, outputs: int, activation: nn.Module, width: int = 64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), activation, nn.Linear(width, width), activation, nn.Linear(width, outputs))


def train_on_ring(beta1: float = 0.5, lr_d: float = 1e-3, lr_g: float = 1e-3, noise: int = 2, batch: int = 256) -> dict:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks so small are faster on one core
    torch.manual_seed(SEED)
    chance = torch.Generator().manual_seed(SEED)
    generator, discriminator = network(noise, 2, nn.ReLU()), network(2, 1, nn.LeakyReLU(0.2))
    opt_g = torch.optim.Adam(generator.parameters(), lr=lr_g, betas=(beta1, 0.999))
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr_d, betas=(beta1, 0.999))
    fixed = torch.randn(1000, noise, generator=chance)  # the same noise each time we look
    axis = torch.linspace(-3, 3, 60)
    grid = torch.cartesian_prod(axis, axis)
    history = {"step": [], "covered": [], "share": [], "samples": {}, "field": {}}
    for step in range(STEPS + 1):
        if step % 50 == 0 or step in SHOWN:
            with torch.no_grad():
                samples = generator(fixed)
                covered, share = mode_coverage(samples, ring_centres(), radius=0.4)
                history["step"].append(step), history["covered"].append(covered), history["share"].append(share)
                if step in SHOWN:
                    history["samples"][step] = samples
                    history["field"][step] = torch.sigmoid(discriminator(grid)).view(60, 60).T
        real, fake = ring_samples(batch, chance), generator(torch.randn(batch, noise, generator=chance)).detach()
        loss_d = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()
        loss_g = F.softplus(-discriminator(generator(torch.randn(batch, noise, generator=chance)))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
    torch.set_num_threads(threads)
    return history


runs = {
    "as in the paper, β₁ = 0.5": train_on_ring(),
    "β₁ = 0.9": train_on_ring(beta1=0.9),
    "slow discriminator": train_on_ring(lr_d=1e-4),
}

# %% tags=["picture"]
centres = ring_centres()
figure, axes = plt.subplots(len(runs), len(SHOWN), figsize=(2.3 * len(SHOWN), 2.4 * len(runs)), layout="constrained", sharex=True, sharey=True)
for row, (title, history) in zip(axes, runs.items()):
    for axis, step in zip(row, SHOWN):
        field = axis.imshow(history["field"][step], extent=(-3, 3, -3, 3), origin="lower", cmap="PuOr", vmin=0, vmax=1, alpha=0.75)
        axis.scatter(*centres.T, marker="o", s=90, facecolors="none", edgecolors="black", linewidths=0.8)
        axis.scatter(*history["samples"][step].T.clamp(-2.95, 2.95), s=2, color="black", alpha=0.35)
        covered, share = mode_coverage(history["samples"][step], centres, radius=0.4)
        axis.set_title(f"step {step}\n{covered} modes, share {share:.2f}", fontsize=8)
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(title, fontsize=9)
figure.colorbar(field, ax=axes, label="discriminator: probability that a point is real", shrink=0.6)
plt.show()

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
for (title, history), colour in zip(runs.items(), (BLUE, ORANGE, GREEN)):
    left.plot(history["step"], history["covered"], color=colour, label=title)
    right.plot(history["step"], history["share"], color=colour)
left.set(xlabel="step", ylabel="modes covered, of 8", ylim=(-0.3, 8.5))
right.set(xlabel="step", ylabel="share of samples near a mode", ylim=(-0.03, 1.03))
figure.legend(frameon=False, fontsize=9, loc="outside upper center", ncols=3)
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
plt.show()
for title, history in runs.items():
    print(f"{title:>34}: {history['covered'][-1]} of 8 modes, share {history['share'][-1]:.2f}")

# %% [markdown]
# **What to see.** Purple is where the discriminator sees data, orange where it sees fakes; black dots are samples (those outside are drawn at the rim), circles the eight centres. *First row*: the samples spread, find all eight modes, and there the field turns pale, ½: the discriminator cannot tell
# any more; it is only sure about the places between. *Third row*: the samples stay together in one clump. When the discriminator has at last learned that this place is fake, the whole clump moves on to another: mode collapse, and the clump runs in circles. *Second row*: with $\beta_1 = 0.9$
# the optimiser keeps its momentum in the old direction while the game has turned; the samples swing across the ring for a long time before they settle. The curves say the same in two numbers: a collapsed generator's share may be high or low, but its modes are few.

# %% [markdown] written="best_discriminator" points=3
# ## Question 1 · the best discriminator
#
# *3 points, graded by a person*
#
# (a) Derive $D^*(x)$ from the expression in exercise 2. (b) What is $V(D^*, G)$ when $p_g = p_{\mathrm{data}}$? (c) The two distributions share no point. What is $D^*$, and what can the generator learn from the slope of $V$?
#
# ### BEGIN SOLUTION
# (a) With $a = p_{\mathrm{data}}(x)$, $b = p_g(x)$ and $d = D(x)$: $\frac{\partial}{\partial d}\,(a \log d + b \log(1-d)) = \frac{a}{d} - \frac{b}{1-d} = 0$, so $a(1-d) = bd$ and $d = \frac{a}{a+b}$. The second derivative
# $-a/d^2 - b/(1-d)^2$ is negative: a maximum.
#
# (b) $D^* = ½$ everywhere, so $V = \log ½ + \log ½ = -\log 4$.
#
# (c) $D^*$ is 1 on all data and 0 on all samples; $V = 0$, the highest value. It stays 0 when the samples move a little (the divergence is $\log 2$, constant), so the slope is 0 and nothing can be learned.
#
# **Rubric.** 1 point: derivative set to 0 and solved. 1 point: $-\log 4$ with the ½. 1 point: $D^*$ is 1 and 0, *and* the flat value.
# ### END SOLUTION

# %% [markdown] written="collapse" points=2
# ## Question 2 · collapse
#
# *2 points, graded by a person*
#
# (a) Look at the generator's loss: what in it asks for *different* samples? (b) Use that to explain the third row of the picture.
#
# ### BEGIN SOLUTION
# (a) Nothing. It is a mean over samples, each judged alone. The best answer to a discriminator that stands still is to put every sample where $D$ is highest. Only the discriminator's *next* answer punishes a crowd.
#
# (b) The discriminator learns slowly, so the generator has many steps against nearly the same $D$: it moves all samples to the one highest place. By the time $D$ has lowered it, another place is highest, and all samples go there. With a quick discriminator the
# crowd is punished before it has gathered.
#
# **Rubric.** 1 point: each sample is judged by itself. 1 point: the generator's best answer to a nearly fixed $D$ is one point, and the discriminator's later reaction makes it move.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - $D$ maximises and $G$ minimises $V = \mathbb{E}[\log D(x)] + \mathbb{E}[\log(1 - D(G(z)))]$.
# - The best discriminator is $p_{\mathrm{data}} / (p_{\mathrm{data}} + p_g)$; against it the generator minimises a Jensen–Shannon divergence, lowest where $p_g = p_{\mathrm{data}}$.
# - In practice neither is ever at its best. A generator may collapse to a few modes; `mode_coverage` says how many.
#
# **Next**: `convolutions`, the layers that make a GAN draw images.

# %% tags=["picture"]
score()
