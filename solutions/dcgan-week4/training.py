# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Training a DCGAN
#     order: 1
#     exports: papers.dcgan.training
#     minutes: 120
# ---

# %% [markdown]
# # Training a DCGAN
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, section 4 (details of adversarial training) · about 120 minutes
#
# At the end of this notebook you can
#
# - write one update of the discriminator and one of the generator, and say for every parameter and gradient whether it may change;
# - keep a training run in a file and go on from there as if it had never stopped;
# - train a DCGAN, watch it in TensorBoard, and see shapes come out of noise.
#
# **Week 4 of the roadmap, task 1**: *write the training loop; alternate training the generator and discriminator* (exercises 1, 2 and 4), *log losses and save generated images periodically* (exercises 3 and 4). Task 2, *visualize results using
# Matplotlib or save them to Google Drive*, begins here and goes on in the next notebook, as does task 3, troubleshooting.
#
# 1. Watch [Building a GAN from scratch](https://youtu.be/_pIMdDWK5sc?si=ymBJ9FSsBUU--1Mv) and [Pytorch DCGAN Tutorial](https://youtu.be/5RYETbFFQ7s?si=l6ptYkd-WwQl5UuF).
# 2. Play with [Visualize GAN Results](https://poloclub.github.io/ganlab/#:~:text=In%20GAN%20Lab%2C%20a%20random,manifold%20%5BOlah%2C%202014%5D.): two dimensions, in the browser. And look at [https://github.com/42x00/Visualize-GAN-Training](https://github.com/42x00/Visualize-GAN-Training).
# 3. Write the loop: this notebook.

# %% tags=["export"]
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

# %%
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np
import torch.nn.functional as F
from PIL import Image
from torchvision.utils import make_grid, save_image

from papers.datasets import ArrayImages, DatasetUnavailable, data_folder, drawn_glyphs, real_images
from papers.dcgan.data import build_dataloader, build_transform, denormalise
from papers.dcgan.models import Discriminator, Generator, build_criterion, build_optimizers, init_weights

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too
_ = torch.optim.SGD([torch.zeros(1)], lr=1.0)  # the first optimiser of a session loads much of PyTorch: once, here, and no check waits for it

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
DATASET = "cifar10"  # of the full profile: cifar10, celeba, mnist, fashion_mnist or svhn
STEPS = 0  # cuts training short after so many steps; 0: as many as the profile says

# %% [markdown]
# ## Two players, in turn
#
# The discriminator's cost is what week 1 derived, minus the value of the game; the generator's is the non-saturating one:
#
# $$L_D = -\,\mathbb{E}_x[\log D(x)] - \mathbb{E}_z[\log(1 - D(G(z)))], \qquad L_G = -\,\mathbb{E}_z[\log D(G(z))].$$
#
# Binary cross-entropy is all three terms: with label 1 it is $-\log D$, with label 0 it is $-\log(1 - D)$. So a training step is a question of labels, and of who moves:
#
# | | discriminator's step | generator's step |
# | --- | --- | --- |
# | sees | real and generated images | generated images |
# | labels | real 1, generated 0 | generated **1**: what G wants D to say |
# | loss | $L_D$, the sum of the two means | $L_G$, the mean |
# | gradients flow | through D, and stop at the generated images | through D and on into G |
# | moves | D alone | G alone |
# | mode | training, both | training, both |
#
# Most bugs of GANs are in this table, and most of them do not crash: something still learns, only badly. The checks below look at every entry of it.

# %% [markdown]
# Networks of a handful of parameters, to try a step on, and what the checks need besides.

# %%
class TinyGenerator(nn.Module):
    """Noise (B, nz, 1, 1) to images (B, 1, 2, 2): quick, and with batch-norm. For the checks, and for you to try a step on."""

    def __init__(self, nz):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(nz, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 4)

    def forward(self, z):
        return torch.tanh(self.last(torch.relu(self.norm(self.first(z.flatten(1)))))).view(-1, 1, 2, 2)


class TinyDiscriminator(nn.Module):
    """Images (B, 1, 2, 2) to logits (B,)."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5), nn.Linear(5, 1)

    def forward(self, x):
        return self.last(F.leaky_relu(self.norm(self.first(x.flatten(1))), 0.2)).squeeze(1)


class OneWeight(nn.Module):
    """weight · x + bias, number by number: images (B, 1, 1, 1), or logits (B,) if `flat`."""

    def __init__(self, flat=False):
        super().__init__()
        self.weight, self.bias, self.flat = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(())), flat

    def forward(self, x):
        y = self.weight * x + self.bias
        return y.flatten() if self.flat else y


def filled(module, case):
    """The module in training mode, its parameters drawn by the case: weights by their width, what scales or shifts around 1."""
    with torch.no_grad():
        for parameter in module.parameters():
            deep = parameter.dim() > 1
            parameter.copy_(case.normal(*parameter.shape, scale=(1.5 / parameter[0].numel()) ** 0.5) if deep else 1 + case.normal(*parameter.shape, scale=0.3))
    return module.to(case.device).train()


class CountedSGD(torch.optim.SGD):
    """Plain gradient descent that counts its updates."""

    updates = 0

    def step(self, closure=None):
        self.updates += 1
        return super().step(closure)


def parameters_of(module):
    """Its parameters by name, as they are now."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def number(loss):
    """A loss as a float, whether it is one or a tensor with one value; anything else as it is."""
    return float(loss) if isinstance(loss, (int, float)) or (isinstance(loss, Tensor) and loss.numel() == 1) else loss


# %% [markdown]
# ## Exercise 1 · `discriminator_step`
#
# *Difficulty ●●○ · 20 minutes · 5 points*
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | what is minimised | nothing; the game is that of Goodfellow et al. (2014), whose algorithm 1 climbs D's value | descends $L_D$ | the same thing with the sign that optimisers want |
# | real and generated images | nothing | two batches, one through D after the other | batch-norm takes its statistics from the batch: in a mixed one real images would be normalised by generated ones. In two, D has to judge each kind by its own |
# | factor | nothing | the sum of the two means | half of it is also common; with Adam that changes the reported number, and hardly the step |
# | D's updates for each of G's | $k$ in algorithm 1, with $k = 1$ in its experiments | one | the paper's (and most others') choice |

# %% tags=["export"]
def discriminator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    opt_d: torch.optim.Optimizer,
    criterion: Callable[[Tensor, Tensor], Tensor],
    real: Tensor,
    noise: Tensor,
) -> Tensor:
    """One update of the discriminator: real images towards label 1, generated ones towards label 0.

    Args:
        generator: noise to images. Its parameters stay as they are and get no gradient; its
            batch-norm statistics may change.
        discriminator: images (B, C, H, W) to logits (B,).
        opt_d: holds the discriminator's parameters. Gradients that were left in them before do not count.
        criterion: called with logits and labels of the same shape and dtype, gives a mean, like
            `build_criterion()`.
        real: images (B, C, H, W).
        noise: (B, nz, 1, 1), as many as there are real images; the generated images are made from it.

    Real and generated images go through the discriminator in two calls, so that batch-norm never
    mixes them. Both networks are in training mode, and are left so.

    Returns: the loss before the update, the sum of the means over real and over generated images (a
        tensor without dimensions, or a float).
    """
    ### BEGIN SOLUTION
    fake = generator(noise).detach()  # the discriminator's loss is none of the generator's business
    on_real, on_fake = discriminator(real), discriminator(fake)  # (B,) each
    loss = criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_fake))
    opt_d.zero_grad()
    loss.backward()
    opt_d.step()
    return loss.detach()
    ### END SOLUTION


# %%
@check("discriminator_step", points=5, paper="section 4; Goodfellow et al. (2014), algorithm 1")
def _(case):
    def step(name, generator, discriminator, real, noise, criterion=None, left_over=0.0, steps=1, **options):
        generator, discriminator = filled(generator, case), filled(discriminator, case)
        optimiser = CountedSGD(discriminator.parameters(), **{"lr": 0.5, **options})
        if left_over:
            for parameter in discriminator.parameters():
                parameter.grad = torch.full_like(parameter, left_over)
        before = parameters_of(generator), parameters_of(discriminator)
        for count in range(1, steps + 1):
            said = f"{name}: loss" if steps == 1 else f"{name}: loss of step {count}"
            case.call(said, lambda real, noise: number(discriminator_step(generator, discriminator, optimiser, criterion or nn.BCEWithLogitsLoss(), real, noise)), real, noise)
        after = parameters_of(generator), parameters_of(discriminator)
        case.record(f"{name}: how far the discriminator moved", {key: after[1][key] - old for key, old in before[1].items()}, about="movement of the discriminator's", tol=1e-3)
        case.record(f"{name}: updates made", optimiser.updates)
        stays = {key: float((after[0][key] - old).abs().sum()) for key, old in before[0].items()}
        case.record(f"{name}: the generator stays", stays, exact=True, about="movement of the generator's")
        gradients = {key: 0.0 if value.grad is None else float(value.grad.abs().sum()) for key, value in generator.named_parameters()}
        case.record(f"{name}: the generator gets no gradient", gradients, exact=True, about="sum of the absolute gradient of the generator's")
        modes = {
            f"{who}: {what}": all(getattr(item, attribute) for item in items)
            for who, network in (("generator", generator), ("discriminator", discriminator))
            for what, attribute, items in (("in training mode", "training", network.modules()), ("trainable", "requires_grad", network.parameters()))
        }
        case.record(f"{name}: as the networks are left", modes, about="state of the")

    def images(count, channels=1, side=2):
        return case.uniform(count, channels, side, side, low=-1.0)

    def noise(count, nz):
        return case.normal(count, nz, 1, 1)

    step("one weight and one bias each", OneWeight(), OneWeight(flat=True), images(2, 1, 1), noise(2, 1))
    step("a discriminator that is nearly always right", OneWeight(), OneWeight(flat=True), 8 + images(2, 1, 1), noise(2, 1) - 16)
    step("2 × 2 pixels, batch-norm", TinyGenerator(3), TinyDiscriminator(), images(5), noise(5, 3))
    step("gradients left over in the discriminator", TinyGenerator(2), TinyDiscriminator(), images(4), noise(4, 2), left_over=0.7)
    step("another criterion, the squared error", TinyGenerator(3), TinyDiscriminator(), images(6), noise(6, 3), criterion=nn.MSELoss())
    alike = []

    def noting(logits, labels):
        alike.append((labels.dtype, labels.shape) == (logits.dtype, logits.shape))
        return F.binary_cross_entropy_with_logits(logits, labels)

    step("three steps", TinyGenerator(3), TinyDiscriminator(), images(4), noise(4, 3), steps=3, lr=0.2, criterion=noting)
    case.record("labels have the logits' shape and dtype", bool(alike) and all(alike))
    step("week 3's networks, ngf = ndf = 2", Generator(nz=5, ngf=2, nc=1), Discriminator(nc=1, ndf=2), images(3, 1, 64), noise(3, 5), lr=0.1)
    ### BEGIN HIDDEN TESTS
    step("another batch", TinyGenerator(4), TinyDiscriminator(), images(7), noise(7, 4))
    step("left over, with momentum", TinyGenerator(2), TinyDiscriminator(), images(3), noise(3, 2), left_over=-0.4, steps=2, momentum=0.9, lr=0.1)
    step("a third criterion", TinyGenerator(3), TinyDiscriminator(), images(5), noise(5, 3), criterion=nn.SmoothL1Loss(beta=0.5))
    step("three channels", Generator(nz=3, ngf=2, nc=3), Discriminator(nc=3, ndf=3), images(4, 3, 64), noise(4, 3), lr=0.1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "discriminator_step",
    "Go through the table above column by column. Which line of your code sees to each row? Which entry has no line?",
    "Algorithm 1 of Goodfellow et al. (2014), the inner loop: whose parameters is the gradient taken of? In PyTorch gradients are added to what is there, and they flow wherever a tensor remembers where it came from.",
    "Make images from the noise and cut them off from the generator. Ask the discriminator about the real images, then about these, each with its own labels, ones and zeros shaped like the logits. Add the two losses. Clear the discriminator's "
    "gradients, go backward, let its optimiser step, return the loss.",
)
equivalents(
    "discriminator_step",
    {
        "detach added: `on_real, on_fake = discriminator(real), discriminator(fake)` → `on_real, on_fake = discriminator(real), discriminator(fake.detach())`": "it is detached already",
        "variable: `loss = criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_fake))` → `loss = criterion(on_real, torch.ones_like(on_fake)) + criterion(on_fake, torch.zeros_like(on_fake))`": "as many real images as generated ones",
        "variable: `loss = criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_fake))` → `loss = criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_real))`": "as many real images as generated ones",
        "call dropped: `return loss.detach()` → `return loss`": "the loss may come with or without its graph",
    },
)
LOSS = "criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_fake))"
REAL_LOSS, FAKE_LOSS = LOSS.split(" + ")
UPDATE = "    opt_d.zero_grad()\n    loss.backward()\n    opt_d.step()\n"
misconceptions(
    "discriminator_step",
    mistake("no detach", ("generator(noise).detach()", "generator(noise)"), says="The generated images are not detached, so the discriminator's loss sends gradients into the generator. They cost time, and they are added to the next gradient of whoever does not clear them."),
    mistake("left-over gradients", ("    opt_d.zero_grad()\n", ""), says="The discriminator's gradients are not cleared, so this update also follows what was left in them, the generator's last step for instance."),
    mistake("cleared after the step only", (UPDATE, "    loss.backward()\n    opt_d.step()\n    opt_d.zero_grad()\n"), says="Gradients are cleared after the update, which is too early: the generator's step leaves new ones in the discriminator, and they count in this update."),
    mistake("cleared before they are used", (UPDATE, "    loss.backward()\n    opt_d.zero_grad()\n    opt_d.step()\n"), says="Gradients are cleared between the backward pass and the step: the discriminator never moves."),
    mistake("cleared between the halves", (UPDATE, f"    opt_d.zero_grad()\n    {REAL_LOSS}.backward()\n    opt_d.zero_grad()\n    {FAKE_LOSS}.backward()\n    opt_d.step()\n"), says="Gradients are cleared between the two backward passes, so only the generated images count. Clear once, before both."),
    mistake("labels swapped", (LOSS, LOSS.replace("ones", "no").replace("zeros", "ones").replace("no_like", "zeros_like")), says="The labels are swapped: real images get 0 and generated ones 1. The discriminator learns to call real what is not."),
    mistake("everything is real", (LOSS, LOSS.replace("zeros", "ones")), says="Generated images get label 1 as well; that is the generator's wish. For the discriminator they are 0."),
    mistake("everything is fake", (LOSS, LOSS.replace("ones", "zeros")), says="Real images get label 0 as well; they are 1."),
    mistake("mean of the halves", (LOSS, f"({LOSS}) / 2"), says="The loss is the mean of the two halves; their sum is asked for (twice that, and so is its gradient)."),
    mistake("sum over the batch", (LOSS, f"({LOSS}) * len(real)"), says="The loss is a sum over the batch; each half is a mean. As it is, the step grows with the batch."),
    mistake("smoothed labels", (LOSS, LOSS.replace("torch.ones_like(on_real)", "0.9 * torch.ones_like(on_real)")), says="Real images get the label 0.9 (one-sided label smoothing, a trick of a later paper); this paper's is 1."),
    mistake("only the real half", (LOSS, REAL_LOSS), says="Generated images do not take part in the loss."),
    mistake("only the generated half", (LOSS, FAKE_LOSS), says="Real images do not take part in the loss."),
    mistake("no gradient from the generated half", ("on_real, on_fake = discriminator(real), discriminator(fake)", "on_real = discriminator(real)\n    with torch.no_grad():\n        on_fake = discriminator(fake)\n   "), says="The discriminator looks at generated images under no_grad, so it learns nothing from them. It is the generator that needs no gradient."),
    mistake("mixed batch", ("on_real, on_fake = discriminator(real), discriminator(fake)", "on_real, on_fake = discriminator(torch.cat([real, fake])).split(len(real))"), says="Real and generated images go through the discriminator as one batch, so that batch-norm normalises them together; they go in two calls."),
    mistake("discriminator in evaluation mode", ("    on_real, on_fake", "    discriminator.eval()\n    on_real, on_fake"), ("    return ", "    discriminator.train()\n    return "), says="The discriminator is in evaluation mode, where batch-norm uses its running statistics instead of the batch's; a training step needs training mode."),
    mistake("generator in evaluation mode", ("fake = generator(noise).detach()", "generator.eval()\n    fake = generator(noise).detach()\n    generator.train()"), says="The generator makes its images in evaluation mode, with batch-norm's running statistics; these are not the images it makes in training, and not those it will be judged by."),
    mistake("left in evaluation mode", ("fake = generator(noise).detach()", "fake = generator(noise).detach()\n    generator.eval()"), says="The generator is left in evaluation mode: its next training step would use running statistics."),
    mistake("generator left frozen", ("fake = generator(noise).detach()", "generator.requires_grad_(False)\n    fake = generator(noise)"), says="The generator is frozen with requires_grad and not thawed again: its own step would have nothing to learn with."),
    mistake("sigmoid twice", (LOSS, LOSS.replace("(on_real,", "(torch.sigmoid(on_real),").replace("(on_fake,", "(torch.sigmoid(on_fake),")), says="A sigmoid comes before the criterion, which takes logits and has a sigmoid of its own."),
    mistake("criterion ignored", (LOSS, "F.softplus(-on_real).mean() + F.softplus(on_fake).mean()"), says="The loss is written out and the criterion that was passed is ignored; another one, a squared error say, changes nothing."),
    mistake("arguments exchanged", (LOSS, "criterion(torch.ones_like(on_real), on_real) + criterion(torch.zeros_like(on_fake), on_fake)"), says="The criterion's arguments are exchanged: logits come first, labels second."),
    mistake("uphill", ("    loss.backward()", "    (-loss).backward()"), says="The update goes uphill: the loss is negated before the backward pass, though it already is what should become small."),
    mistake("no update", ("    opt_d.step()\n", ""), says="The optimiser never steps: the discriminator does not move."),
    mistake("two updates", (UPDATE, UPDATE.replace("loss.", f"({REAL_LOSS}).") + "    on_fake = discriminator(fake)\n" + UPDATE.replace("loss.", f"({FAKE_LOSS}).")), says="There are two updates, one for the real half and one for the generated half; one update follows the sum of both."),
    mistake("the same update twice", ("    opt_d.step()\n", "    opt_d.step()\n    opt_d.step()\n"), says="The optimiser steps twice."),
    mistake("no update for a strong discriminator", ("    opt_d.step()\n", "    if loss > 0.5:\n        opt_d.step()\n"), says="The discriminator is not updated when its loss is small already, a trick to hold it back. Here every step is an update."),
    mistake("clipped gradients", ("    opt_d.step()\n", "    nn.utils.clip_grad_norm_(discriminator.parameters(), 0.1)\n    opt_d.step()\n"), says="The gradient is clipped before the update; the paper does not."),
    mistake("noise of its own", ("generator(noise)", "generator(torch.randn_like(noise))"), says="The images are made from noise drawn here; the noise that was passed is ignored."),
    mistake("generated for real", ("discriminator(real), discriminator(fake)", "discriminator(fake), discriminator(fake)"), says="The discriminator never sees the real images: both halves are generated."),
    mistake("loss after the update", ("    return loss.detach()", f"    on_real, on_fake = discriminator(real), discriminator(fake)\n    return ({LOSS}).detach()"), says="The loss is computed once more after the update; that of before is asked for, and is at hand."),
    mistake("only half of the loss returned", ("    return loss.detach()", f"    return {FAKE_LOSS}.detach()"), says="Only the generated half of the loss is returned; the sum of both is asked for."),
    mistake("two losses returned", ("    return loss.detach()", f"    return {REAL_LOSS}.detach(), {FAKE_LOSS}.detach()"), says="The two halves are returned one by one; one loss is asked for, their sum."),
    mistake("nothing returned", ("    return loss.detach()", "    return None"), says="Nothing is returned; the caller wants to see the loss."),
    mistake("clipped weights", ("    opt_d.step()\n", "    opt_d.step()\n    with torch.no_grad():\n        for p in discriminator.parameters():\n            p.clamp_(-0.5, 0.5)\n"), says="The discriminator's weights are clipped after the update; that belongs to another paper, the Wasserstein GAN."),
    mistake("the generator moves", ("    return loss", "    with torch.no_grad():\n        for p in generator.parameters():\n            p.add_(0.01)\n    return loss"), says="The generator's parameters change in the discriminator's step; they stay as they are."),
)


# %% tags=["alternative"]
@alternative("two backward passes, labels by full")
def discriminator_step(generator, discriminator, opt_d, criterion, real, noise):
    discriminator.zero_grad()
    output = discriminator(real)
    label = torch.full((real.size(0),), 1.0, dtype=output.dtype, device=real.device)
    err_real = criterion(output, label)
    err_real.backward()
    fake = generator(noise)
    label.fill_(0.0)
    err_fake = criterion(discriminator(fake.detach()), label)
    err_fake.backward()
    opt_d.step()
    return (err_real + err_fake).item()


# %% tags=["alternative"]
@alternative("no_grad, a helper inside, generated images first")
def discriminator_step(generator, discriminator, opt_d, criterion, real, noise):
    with torch.no_grad():
        fake = generator(noise)

    def half(images, label):
        logits = discriminator(images)
        return criterion(logits, logits.new_full(logits.shape, float(label)))

    opt_d.zero_grad(set_to_none=False)
    loss = sum(half(images, label) for images, label in ((fake, 0), (real, 1)))
    loss.backward()
    opt_d.step()
    opt_d.zero_grad()
    return float(loss)


# %% tags=["alternative"]
@alternative("autograd.grad, gradients put in place by hand")
def discriminator_step(generator, discriminator, opt_d, criterion, real, noise):
    generator.train(), discriminator.train()
    with torch.inference_mode():
        images = generator(noise)
    d_real, d_fake = discriminator(real), discriminator(images.clone())
    loss = criterion(d_real, torch.ones(len(real)).to(d_real)) + criterion(d_fake, torch.zeros(len(noise)).to(d_fake))
    parameters = list(discriminator.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
        parameter.grad = gradient
    opt_d.step()
    return loss


# %% tags=["alternative"]
@alternative("a closure, the generator frozen for a while")
def discriminator_step(generator, discriminator, opt_d, criterion, real, noise):
    for parameter in generator.parameters():
        parameter.requires_grad_(False)

    def closure():
        opt_d.zero_grad()
        logits = torch.stack([discriminator(real), discriminator(generator(noise))])
        labels = torch.tensor([[1.0], [0.0]]).to(logits).expand_as(logits)
        loss = 2 * criterion(logits, labels)  # the mean over both is half the sum of the means
        loss.backward()
        return loss

    loss = opt_d.step(closure)
    generator.requires_grad_(True)
    return loss.detach()


# %% tags=["alternative"]
@alternative("the generator's gradients dropped by hand")
def discriminator_step(generator, discriminator, opt_d, criterion, real, noise):
    opt_d.zero_grad()
    images = generator(noise)
    cut = images.data.clone()
    scores = {"real": discriminator(real), "fake": discriminator(cut)}
    losses = [criterion(s, (torch.ones if name == "real" else torch.zeros)(s.shape, dtype=s.dtype)) for name, s in scores.items()]
    torch.autograd.backward(losses)
    opt_d.step()
    return torch.stack(losses).sum().item()


# %% [markdown]
# ## Exercise 2 · `generator_step`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# Now the generated images are *not* cut off: the gradient has to come back through the discriminator, pixel by pixel, and go on into the generator. It is the only way in which G ever learns anything about images; it never sees a real one.
#
# The backward pass cannot avoid D's parameters on its way unless you freeze them, so it may leave gradients there. Nobody steps on them: the next `discriminator_step` clears them first.

# %% tags=["export"]
def generator_step(
    generator: nn.Module,
    discriminator: nn.Module,
    opt_g: torch.optim.Optimizer,
    criterion: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
) -> Tensor:
    """One update of the generator: the discriminator shall give its images label 1 (the non-saturating loss).

    Args:
        generator: noise to images.
        discriminator: images to logits (B,). Its parameters stay as they are; gradients may be left
            in them, and its batch-norm statistics may change.
        opt_g: holds the generator's parameters. Gradients that were left in them before do not count.
        criterion: called with logits and labels of the same shape and dtype, gives a mean, like
            `build_criterion()`.
        noise: (B, nz, 1, 1), which the images are made from.

    Both networks are in training mode, and are left so; all parameters are trainable afterwards.

    Returns: the loss before the update (a tensor without dimensions, or a float).
    """
    ### BEGIN SOLUTION
    logits = discriminator(generator(noise))  # (B,)
    loss = criterion(logits, torch.ones_like(logits))
    opt_g.zero_grad()
    loss.backward()
    opt_g.step()
    return loss.detach()
    ### END SOLUTION


# %%
@check("generator_step", points=4, paper="section 4; Goodfellow et al. (2014), section 3, on log D(G(z))")
def _(case):
    def step(name, generator, discriminator, noise, criterion=None, left_over=(0.0, 0.0), steps=1, **options):
        generator, discriminator = filled(generator, case), filled(discriminator, case)
        optimiser = CountedSGD(generator.parameters(), **{"lr": 0.5, **options})
        connected = {"what the generator returns": False, "what the discriminator sees": False}
        generator.register_forward_hook(lambda module, given, images: connected.update({"what the generator returns": images.requires_grad}))
        discriminator.register_forward_pre_hook(lambda module, given: connected.update({"what the discriminator sees": given[0].requires_grad}))
        for network, value in zip((generator, discriminator), left_over):
            for parameter in network.parameters():
                parameter.grad = torch.full_like(parameter, value) if value else None
        before = parameters_of(generator), parameters_of(discriminator)
        for count in range(1, steps + 1):
            said = f"{name}: loss" if steps == 1 else f"{name}: loss of step {count}"
            case.call(said, lambda noise: number(generator_step(generator, discriminator, optimiser, criterion or nn.BCEWithLogitsLoss(), noise)), noise)
        after = parameters_of(generator), parameters_of(discriminator)
        case.record(f"{name}: how far the generator moved", {key: after[0][key] - old for key, old in before[0].items()}, about="movement of the generator's", tol=1e-3)
        case.record(f"{name}: updates made", optimiser.updates)
        case.record(f"{name}: gradients can flow", connected, about="through")
        stays = {key: float((after[1][key] - old).abs().sum()) for key, old in before[1].items()}
        case.record(f"{name}: the discriminator stays", stays, exact=True, about="movement of the discriminator's")
        modes = {
            f"{who}: {what}": all(getattr(item, attribute) for item in items)
            for who, network in (("generator", generator), ("discriminator", discriminator))
            for what, attribute, items in (("in training mode", "training", network.modules()), ("trainable", "requires_grad", network.parameters()))
        }
        case.record(f"{name}: as the networks are left", modes, about="state of the")

    def noise(count, nz):
        return case.normal(count, nz, 1, 1)

    step("one weight and one bias each", OneWeight(), OneWeight(flat=True), noise(2, 1))
    step("a discriminator that is nearly always deceived", OneWeight(), OneWeight(flat=True), noise(2, 1) + 6)
    step("2 × 2 pixels, batch-norm", TinyGenerator(3), TinyDiscriminator(), noise(5, 3))
    step("gradients left over in both networks", TinyGenerator(2), TinyDiscriminator(), noise(4, 2), left_over=(0.7, -0.4))
    step("another criterion, the squared error", TinyGenerator(3), TinyDiscriminator(), noise(6, 3), criterion=nn.MSELoss())
    alike = []

    def noting(logits, labels):
        alike.append((labels.dtype, labels.shape) == (logits.dtype, logits.shape))
        return F.binary_cross_entropy_with_logits(logits, labels)

    step("three steps", TinyGenerator(3), TinyDiscriminator(), noise(4, 3), steps=3, lr=0.2, criterion=noting)
    case.record("labels have the logits' shape and dtype", bool(alike) and all(alike))
    step("week 3's networks, ngf = ndf = 2", Generator(nz=5, ngf=2, nc=1), Discriminator(nc=1, ndf=2), noise(3, 5), lr=0.1)
    ### BEGIN HIDDEN TESTS
    step("another batch", TinyGenerator(4), TinyDiscriminator(), noise(7, 4))
    step("left over, with momentum", TinyGenerator(2), TinyDiscriminator(), noise(3, 2), left_over=(-0.4, 0.3), steps=2, momentum=0.9, lr=0.1)
    step("a third criterion", TinyGenerator(3), TinyDiscriminator(), noise(5, 3), criterion=nn.SmoothL1Loss(beta=0.5))
    step("three channels", Generator(nz=3, ngf=2, nc=3), Discriminator(nc=3, ndf=3), noise(4, 3), lr=0.1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "generator_step",
    "The criterion knows nothing of generators. Which label makes it large when the discriminator recognises the image as generated?",
    "Section 3 of Goodfellow et al. (2014): “Rather than training G to minimize log(1 − D(G(z))) we can train G to maximize log D(G(z)).” Compare with exercise 1: what was cut off there has to stay connected here.",
    "Make images from the noise, ask the discriminator about them, and compare its logits with ones. Clear the generator's gradients, go backward through both networks, and let the generator's optimiser alone step.",
)
equivalents("generator_step", {"call dropped: `return loss.detach()` → `return loss`": "the loss may come with or without its graph"})
LOSS = "criterion(logits, torch.ones_like(logits))"
LOGITS = "logits = discriminator(generator(noise))"
UPDATE = "    opt_g.zero_grad()\n    loss.backward()\n    opt_g.step()\n"
misconceptions(
    "generator_step",
    mistake("detached", (LOGITS, "logits = discriminator(generator(noise).detach())"), says="The generated images are detached, as in the discriminator's step. Here the gradient has to come through them: the generator gets none and never moves."),
    mistake("under no_grad", (LOGITS, "with torch.no_grad():\n        fake = generator(noise)\n    logits = discriminator(fake)"), says="The generator runs under no_grad in its own step, so no gradient reaches it and it never moves. It is D's step that can do so."),
    mistake("everything under no_grad", (LOGITS, "with torch.no_grad():\n        logits = discriminator(generator(noise))"), says="Both networks run under no_grad; then there is nothing to go backward through."),
    mistake("label 0", (LOSS, LOSS.replace("ones", "zeros")), says="The label is 0, which is the truth and the discriminator's label. The generator then learns to be recognised; what it wants D to say is 1."),
    mistake("saturating loss", (LOSS, f"-{LOSS.replace('ones', 'zeros')}"), says="This is the saturating loss: minus the discriminator's own loss on generated images. It has the right direction and hardly any gradient when D is sure; take the label 1 instead."),
    mistake("uphill", ("    loss.backward()", "    (-loss).backward()"), says="The update goes uphill: the loss is negated before the backward pass. With the label 1 it already is what should become small."),
    mistake("smoothed label", (LOSS, "criterion(logits, 0.9 * torch.ones_like(logits))"), says="The label is 0.9; it is 1 (and one-sided smoothing, a trick of a later paper, is for D's real images only)."),
    mistake("left-over gradients", ("    opt_g.zero_grad()\n", ""), says="The generator's gradients are not cleared, so this update also follows those of earlier steps."),
    mistake("cleared after the step only", (UPDATE, "    loss.backward()\n    opt_g.step()\n    opt_g.zero_grad()\n"), says="Gradients are cleared after the update only, so what was left in the generator before, by anyone, counts in the first one."),
    mistake("cleared before they are used", (UPDATE, "    loss.backward()\n    opt_g.zero_grad()\n    opt_g.step()\n"), says="Gradients are cleared between the backward pass and the step: nothing is left for the step, and the generator never moves. The order is clear, backward, step."),
    mistake("discriminator in evaluation mode", (LOGITS, f"discriminator.eval()\n    {LOGITS}"), ("    return ", "    discriminator.train()\n    return "), says="The discriminator judges in evaluation mode, with batch-norm's running statistics; both networks are in training mode in both steps."),
    mistake("generator in evaluation mode", (LOGITS, f"generator.eval()\n    {LOGITS}"), ("    return ", "    generator.train()\n    return "), says="The generator is in evaluation mode in its own training step, so batch-norm uses running statistics instead of the batch's."),
    mistake("discriminator left in evaluation mode", ("    return ", "    discriminator.eval()\n    return "), says="The discriminator is left in evaluation mode, in which its next training step would run."),
    mistake("discriminator left frozen", (LOGITS, f"discriminator.requires_grad_(False)\n    {LOGITS}"), says="The discriminator is frozen with requires_grad and not thawed again: from now on its own step has nothing to learn with."),
    mistake("sum over the batch", (LOSS, f"{LOSS} * len(noise)"), says="The loss is a sum over the batch; a mean is asked for. As it is, the step grows with the batch."),
    mistake("half the loss", (LOSS, f"{LOSS} / 2"), says="The loss is halved. There is only one term here, and it counts fully."),
    mistake("sigmoid twice", (LOSS, "criterion(torch.sigmoid(logits), torch.ones_like(logits))"), says="A sigmoid comes before the criterion, which takes logits and has a sigmoid of its own."),
    mistake("criterion ignored", (LOSS, "F.softplus(-logits).mean()"), says="The loss is written out and the criterion that was passed is ignored; another one, a squared error say, changes nothing."),
    mistake("arguments exchanged", (LOSS, "criterion(torch.ones_like(logits), logits)"), says="The criterion's arguments are exchanged: logits come first, labels second."),
    mistake("no update", ("    opt_g.step()\n", ""), says="The optimiser never steps: gradients are computed, and the generator does not move."),
    mistake("two updates", ("    opt_g.step()\n", "    opt_g.step()\n    opt_g.step()\n"), says="The optimiser steps twice for one batch of noise."),
    mistake("noise of its own", ("generator(noise)", "generator(torch.randn_like(noise))"), says="The images are made from noise drawn here; the noise that was passed is ignored."),
    mistake("no update for a strong generator", ("    opt_g.step()\n", "    if loss > 0.5:\n        opt_g.step()\n"), says="The generator is not updated when its loss is small already, a trick to hold it back. Here every step is an update."),
    mistake("clipped gradients", ("    opt_g.step()\n", "    nn.utils.clip_grad_norm_(generator.parameters(), 0.1)\n    opt_g.step()\n"), says="The gradient is clipped before the update; the paper does not."),
    mistake("the discriminator moves too", ("    return ", "    with torch.no_grad():\n        for p in discriminator.parameters():\n            p.sub_(opt_g.param_groups[0][\"lr\"] * p.grad)\n    return "), says="The discriminator follows the generator's gradient as well: it learns to call generated images real. Only the generator moves in this step."),
    mistake("loss after the update", ("    return loss.detach()", f"    {LOGITS}\n    return {LOSS}.detach()"), says="The loss is computed once more after the update; that of before is asked for, and is at hand."),
    mistake("what D believes", ("    return loss.detach()", "    return torch.sigmoid(logits).mean().detach()"), says="D(G(z)), the mean probability, is returned; the loss is asked for."),
    mistake("nothing returned", ("    return loss.detach()", "    return None"), says="Nothing is returned; the caller wants to see the loss."),
)


# %% tags=["alternative"]
@alternative("the discriminator frozen for a while")
def generator_step(generator, discriminator, opt_g, criterion, noise):
    discriminator.requires_grad_(False)
    generator.zero_grad()
    output = discriminator(generator(noise)).view(-1)
    err = criterion(output, torch.full((noise.size(0),), 1.0, dtype=output.dtype))
    err.backward()
    opt_g.step()
    discriminator.requires_grad_(True)
    return err.item()


# %% tags=["alternative"]
@alternative("autograd.grad of the generator alone")
def generator_step(generator, discriminator, opt_g, criterion, noise):
    parameters = [p for group in opt_g.param_groups for p in group["params"]]
    logits = discriminator(generator(noise))
    loss = criterion(logits, logits.new_ones(len(logits)))
    for p, g in zip(parameters, torch.autograd.grad(loss, parameters)):
        p.grad = g
    opt_g.step()
    return loss


# %% tags=["alternative"]
@alternative("in two stages: the image's gradient, then the generator's")
def generator_step(generator, discriminator, opt_g, criterion, noise):
    opt_g.zero_grad(set_to_none=False)
    images = generator(noise)
    leaf = images.detach().requires_grad_()
    logits = discriminator(leaf)
    loss = criterion(logits, torch.ones(logits.shape, dtype=logits.dtype))
    (at_images,) = torch.autograd.grad(loss, leaf)
    images.backward(at_images)
    opt_g.step()
    return float(loss.detach())


# %% tags=["alternative"]
@alternative("a closure; both networks cleared, before and after")
def generator_step(generator, discriminator, opt_g, criterion, noise):
    def closure():
        opt_g.zero_grad()
        discriminator.zero_grad()
        says = discriminator(generator(noise))
        cost = criterion(says, torch.zeros_like(says) + 1)
        cost.backward()
        return cost

    generator.train()
    discriminator.train()
    cost = opt_g.step(closure)
    discriminator.zero_grad()
    generator.zero_grad()
    return cost.detach().clone()


# %% [markdown]
# ## Exercise 3 · `Checkpoint`
#
# *Difficulty ●●○ · 25 minutes · 4 points*
#
# GANs train for hours, and Colab closes after a few. A run that is to go on *as if it had never stopped* needs more than the weights:
#
# | part | if it is forgotten |
# | --- | --- |
# | parameters and batch-norm's statistics of both networks | (no one forgets these; `parameters()` alone forgets the statistics) |
# | both optimisers: Adam's averages $m$, $v$ and its step number | bias correction begins anew and the first steps are large: D and G are thrown out of balance |
# | the generator of the noise, and that of the order of the images | the same noise and the same images come again |
# | how much is done | curves start at 0 again, and the run never ends |
#
# Two things can go wrong with the file. It may be half written when the machine goes away: write another file first, then give it the old one's name with `os.replace`, which the operating system does at once or not at all. And a
# file from elsewhere can run code when it is opened: with `weights_only=True`, torch.load's default since torch 2.6, it reads tensors and plain containers and refuses all else.

# %% tags=["export"]
class Checkpoint:
    """A training run in one file, so that it can go on as if it had never stopped.

    Args:
        path: of the file, in a folder that exists.
        parts: what belongs to the run, by name: modules and optimisers (whatever has state_dict and
            load_state_dict), and torch.Generators (get_state, set_state).
    """

    def __init__(self, path: str | Path, **parts: Any) -> None:
        ### BEGIN SOLUTION
        self.path = Path(path)
        self.parts = parts
        ### END SOLUTION

    def save(self, done: int) -> None:
        """Write the present state of every part, and how much is done, to the file. If that fails
        midway, the file stays as it was."""
        ### BEGIN SOLUTION
        states = {name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict() for name, part in self.parts.items()}
        unfinished = self.path.with_name(self.path.name + ".unfinished")
        torch.save({"done": done, "states": states}, unfinished)
        os.replace(unfinished, self.path)
        ### END SOLUTION

    def load(self) -> int:
        """Put the states in the file back into the parts, in place.

        Returns: how much was done when it was saved; 0 if there is no file yet, and then the parts
            stay as they are.
        """
        ### BEGIN SOLUTION
        if not self.path.exists():
            return 0
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            restore = part.set_state if isinstance(part, torch.Generator) else part.load_state_dict
            restore(saved["states"][name])
        return saved["done"]
        ### END SOLUTION


# %%
@check("Checkpoint", points=4)
def _(case):
    folder = Path(tempfile.mkdtemp())
    inputs = case.normal(4, 2)

    class Run:  # a network, its optimiser and a generator of noise
        def __init__(self, adam=False):
            self.network = filled(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), case)
            self.optimiser = torch.optim.Adam(self.network.parameters(), 0.1) if adam else torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9)
            self.noise = torch.Generator().manual_seed(case.integer(0, 1000))

        def on(self, steps):  # goes on for so many steps; the gradients are given
            for _ in range(steps):
                self.network(inputs)
                for number, parameter in enumerate(self.network.parameters()):
                    parameter.grad = torch.linspace(-1.0, 2.0, parameter.numel()).view_as(parameter) + number
                self.optimiser.step()
                torch.rand(3, generator=self.noise)

        def parts(self):
            return {"network": self.network, "optimiser": self.optimiser, "noise": self.noise}

        def next_noise(self):  # without drawing it
            ahead = torch.Generator()
            ahead.set_state(self.noise.get_state())
            return torch.rand(4, generator=ahead)

    def restored(name, run, noise, keeper):
        case.record(f"{name}: what load() returns", keeper.load())
        case.record(f"{name}: the network, with its batch-norm's statistics", {key: value.clone() for key, value in run.network.state_dict().items()}, about="state of the network,")
        case.record(f"{name}: the same noise comes next", torch.equal(run.next_noise(), noise))
        case.record(f"{name}: in training mode, as before", run.network.training)
        before = parameters_of(run.network)
        run.on(1)
        case.record(f"{name}: how far the optimiser then goes", {key: value - before[key] for key, value in parameters_of(run.network).items()}, about="movement of the network's", tol=1e-3)

    run = Run()
    keeper, noise = Checkpoint(folder / "run.pt", **run.parts()), run.next_noise()
    restored("no file yet", run, noise, keeper)
    noise = run.next_noise()
    keeper.save(3)
    run.on(2)
    restored("saved, gone on, restored", run, noise, keeper)
    other = Run()
    restored("another process, its parts named in another order", other, noise, Checkpoint(folder / "run.pt", **dict(reversed(other.parts().items()))))
    noise = run.next_noise()
    keeper.save(7)
    run.on(1)
    restored("saved again", run, noise, keeper)
    if (folder / "run.pt").exists():
        (folder / "kept").mkdir()
        os.replace(folder / "run.pt", folder / "kept" / "renamed")
    other = Run()
    restored("the file moved and renamed", other, noise, Checkpoint(folder / "kept" / "renamed", **other.parts()))
    run = Run(adam=True)
    keeper = Checkpoint(str(folder / "adam.pt"), adam=run.optimiser, draws=run.noise, net=run.network)
    run.on(4)
    run.optimiser.param_groups[0]["lr"] = 0.05  # as a schedule does
    keeper.save(2)
    noise = run.next_noise()
    run = Run(adam=True)
    restored("Adam, in another process", run, noise, Checkpoint(str(folder / "adam.pt"), adam=run.optimiser, draws=run.noise, net=run.network))

    class State:  # a part whose state is whatever it is told
        def __init__(self, state):
            self.state = state

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.state = state

    with case.part("a save that fails, a file that is not to be trusted", points=1):
        part = State({"value": torch.ones(2)})
        keeper = Checkpoint(folder / "broken.pt", part=part, last=part)
        keeper.save(5)
        part.state = {"value": torch.zeros(2), "cannot be saved": lambda: None}
        try:
            keeper.save(6)
        except Exception:
            pass
        case.record("after a save that failed: the file of before", Checkpoint(folder / "broken.pt", part=part, last=part).load())
        value = part.state.get("value")
        case.record("after a save that failed: the state of before", value if isinstance(value, torch.Tensor) and "cannot be saved" not in part.state else "not put back", about="the part's state")
        part.state = {"value": 2 * torch.ones(2)}
        try:
            keeper.save(8)
            outcome = keeper.load()
        except Exception as error:
            outcome = type(error).__name__
        case.record("after a save that failed: the next save, loaded", outcome)
        part.state = {"value": folder}  # no tensor, no number: what could be anything does not come in
        try:
            Checkpoint(folder / "object.pt", part=part).save(1)
            outcome = f"load() returns {Checkpoint(folder / 'object.pt', part=part).load()}"
        except Exception:
            outcome = "refused"
        case.record("a file with other objects than tensors, numbers and texts", outcome, about="what happens")
    ### BEGIN HIDDEN TESTS
    run, other = Run(), Run(adam=True)
    run.on(3)
    other.on(2)
    keeper = Checkpoint(folder / "hidden.pt", a=run.network, b=other.network, c=other.optimiser, d=run.optimiser, e=other.noise, f=run.noise)
    noises = run.next_noise(), other.next_noise()
    keeper.save(0)
    keeper.save(41)
    run.on(1)
    other.on(3)
    restored("six parts", run, noises[0], keeper)
    keeper.load()
    before = parameters_of(other.network)
    other.on(1)
    case.record("six parts: how far the other optimiser goes", {key: value - before[key] for key, value in parameters_of(other.network).items()}, about="movement of the network's", tol=1e-3)
    keeper.load()
    case.record("six parts: the other noise", torch.equal(other.next_noise(), noises[1]))
    run.on(2)
    other.on(1)
    keeper = Checkpoint(folder / "hidden.pt", f=run.noise, e=other.noise, d=run.optimiser, c=other.optimiser, b=other.network, a=run.network)
    restored("six parts, named in another order", run, noises[0], keeper)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Checkpoint",
    "Stop a run in your mind after step 1,000 and start a new Python. What does step 1,001 look at? Each of these things has a state.",
    "PyTorch's recipe for “saving and loading a general checkpoint” has the dictionary; “random generators” is what it leaves out. Optimisers have a state_dict like modules.",
    "Keep path and parts. To save, collect each part's state under its name, put what is done beside them, let torch.save write to a second name in the same folder, and replace the file by it. To load, return 0 without a file; else read "
    "it safely, hand each part its state, and return what was done.",
)
equivalents("Checkpoint", {"option dropped: `saved = torch.load(self.path, map_location=\"cpu\", weights_only=True)` → `saved = torch.load(self.path, weights_only=True)`": "what was saved on a CPU is loaded there; map_location is for a file from a GPU"})
STATES = "{name: part.get_state() if isinstance(part, torch.Generator) else part.state_dict() for name, part in self.parts.items()}"
WRITE = '        torch.save({"done": done, "states": states}, unfinished)\n        os.replace(unfinished, self.path)\n'
RESTORE = '            restore(saved["states"][name])\n'
misconceptions(
    "Checkpoint",
    mistake("without the optimisers", (RESTORE, RESTORE.replace("restore(", "if not isinstance(part, torch.optim.Optimizer):\n                restore(")), says="The optimisers are not restored: momentum and Adam's averages begin at nothing, and the first steps after a pause are of another size."),
    mistake("without the generators", (RESTORE, RESTORE.replace("restore(", "if not isinstance(part, torch.Generator):\n                restore(")), says="The random generators are not restored: the noise that comes next is not the noise that would have come."),
    mistake("without the networks", (RESTORE, RESTORE.replace("restore(", "if not isinstance(part, nn.Module):\n                restore(")), says="The networks are not restored: their parameters stay as they are."),
    mistake("only the first part", (RESTORE, RESTORE + "            break\n"), says="Only the first part is restored; there may be any number."),
    mistake("nothing restored", (RESTORE, "            pass\n"), says="load() returns the right number, but no part gets its state back."),
    mistake("parameters only", (STATES, STATES.replace("else part.state_dict()", "else dict(part.state_dict(), **{k: torch.zeros_like(v) for k, v in part.named_buffers()}) if isinstance(part, nn.Module) else part.state_dict()")), says="Only the parameters are kept, and batch-norm's running statistics are lost; state_dict() has both."),
    mistake("the learning rate only", (STATES, STATES.replace("else part.state_dict()", 'else {**part.state_dict(), "state": {}} if isinstance(part, torch.optim.Optimizer) else part.state_dict()')), says="Of the optimisers only the settings are kept, the learning rate for instance, and not what they have averaged so far."),
    mistake("the state at the beginning", ("self.parts = parts", "import copy\n\n        self.parts = copy.deepcopy({k: v for k, v in parts.items() if not isinstance(v, torch.Generator)}) | {k: torch.Generator().set_state(v.get_state()) for k, v in parts.items() if isinstance(v, torch.Generator)}"), says="The parts are copied when the Checkpoint is made; saved and restored are the copies, and the run never notices."),
    mistake("in memory", (WRITE, '        self.saved = {"done": done, "states": __import__("copy").deepcopy(states)}\n'), ("if not self.path.exists():", 'if not hasattr(self, "saved"):'), ('saved = torch.load(self.path, map_location="cpu", weights_only=True)', 'saved = __import__("copy").deepcopy(self.saved)'), says="The states stay in memory; another process finds no file."),
    mistake("a file for each save", ("os.replace(unfinished, self.path)", 'os.replace(unfinished, f"{self.path}.{done}")'), says="The file gets another name each time it is saved, so load() never finds it."),
    mistake("the first save stays", (WRITE, '        if not self.path.exists():\n            torch.save({"done": done, "states": states}, self.path)\n'), says="A file that exists is not written again: the first save stays for ever."),
    mistake("written in place", (WRITE, '        torch.save({"done": done, "states": states}, self.path)\n'), says="The file is written in place. If that fails midway, the old state is lost as well as the new; write another file and put it in the old one's place."),
    mistake("deleted first", ("        torch.save({", "        self.path.unlink(missing_ok=True)\n        torch.save({"), says="The old file is deleted before the new one is written: if that fails, neither is there."),
    mistake("any object", ("weights_only=True", "weights_only=False"), says="The file is read with weights_only=False, so it may hold any object, and code that runs when it is opened. Tensors, numbers and texts are all that a checkpoint needs."),
    mistake("no file is an error", ("        if not self.path.exists():\n            return 0\n", ""), says="Without a file load() fails; that is how every run begins, and 0 is to be returned."),
    mistake("None without a file", ("return 0", "return None"), says="Without a file load() returns None; 0 is asked for, for nothing is done yet."),
    mistake("one more", ('return saved["done"]', 'return saved["done"] + 1'), says="load() returns one more than was saved: an epoch would be left out."),
    mistake("a file for each part", (WRITE, '        for name, state in states.items():\n            torch.save({"done": done, "state": state}, f"{unfinished}.{name}")\n        for name in states:\n            os.replace(f"{unfinished}.{name}", f"{self.path}.{name}")\n        self.path.touch()\n'), ('        saved = torch.load(self.path, map_location="cpu", weights_only=True)\n', '        files = {name: torch.load(f"{self.path}.{name}", weights_only=True) for name in self.parts}\n        saved = {"done": max(file["done"] for file in files.values()), "states": {name: file["state"] for name, file in files.items()}}\n'), says="Every part has a file of its own, and `path` alone is not the run any more: whoever moves it loses the rest, and a crash between two of them mixes two states. One file holds everything."),
    mistake("by position", ("for name, part in self.parts.items():\n            restore", "for name, part in zip(saved[\"states\"], self.parts.values()):\n            restore"), says="States are handed out in the order in which they were saved; another run may name its parts in another order. Each state belongs to the part of its own name."),
    mistake("returns nothing", ('return saved["done"]', "return None"), says="load() does not return how much was done, so the run starts from the beginning."),
    mistake("returns the states", ('return saved["done"]', 'return len(saved["states"])'), says="load() returns how many parts there are; how much was done is asked for."),
    mistake("evaluation mode", (RESTORE, RESTORE + "            if isinstance(part, nn.Module):\n                part.eval()\n"), says="The networks are put into evaluation mode when they are restored; the run goes on training, and a mode is not what load() was asked about."),
    mistake("names swapped", ("for name, part in self.parts.items():\n            restore", "for name, part in zip(sorted(self.parts), self.parts.values()):\n            restore"), says="States are handed to the parts in alphabetical order of the names; each belongs to the part of its own name."),
)


# %% tags=["alternative"]
@alternative("through memory, then a temporary file")
class Checkpoint:
    def __init__(self, path, **parts):
        self.path, self.parts = str(path), dict(parts)

    def save(self, done):
        import io

        everything = {"done": done}
        for name, part in self.parts.items():
            everything["part " + name] = part.get_state() if hasattr(part, "get_state") else part.state_dict()
        buffer = io.BytesIO()
        torch.save(everything, buffer)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(self.path))
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.rename(temporary, self.path)

    def load(self):
        try:
            with open(self.path, "rb") as file:
                everything = torch.load(file, weights_only=True)
        except FileNotFoundError:
            return 0
        for name, part in self.parts.items():
            state = everything["part " + name]
            part.set_state(state) if hasattr(part, "set_state") else part.load_state_dict(state)
        return everything["done"]


# %% tags=["alternative"]
@alternative("the modules' own methods, collected beforehand")
class Checkpoint:
    def __init__(self, path, **parts):
        self.file = Path(path)
        generators = {n: p for n, p in parts.items() if isinstance(p, torch.Generator)}
        others = {n: p for n, p in parts.items() if n not in generators}
        self.get = {n: p.get_state for n, p in generators.items()} | {n: p.state_dict for n, p in others.items()}
        self.set = {n: p.set_state for n, p in generators.items()} | {n: p.load_state_dict for n, p in others.items()}

    def save(self, done):
        new = self.file.parent / f"new-{self.file.name}"
        with new.open("wb") as stream:
            torch.save([done, {n: get() for n, get in self.get.items()}], stream)
        new.replace(self.file)

    def load(self):
        done = 0
        if self.file.is_file():
            done, states = torch.load(self.file, weights_only=True)
            for n, put in self.set.items():
                put(states[n])
        return done


# %% tags=["alternative"]
@alternative("the old file kept as a backup")
class Checkpoint:
    def __init__(self, path, **parts):
        self.path = Path(path)
        self.parts = parts

    def save(self, done):
        import shutil

        backup = Path(f"{self.path}.backup")
        if self.path.exists():
            shutil.copy(self.path, backup)
        try:
            torch.save({"": done, **{n: self._state(p) for n, p in self.parts.items()}}, self.path)
        except BaseException:
            if backup.exists():
                backup.replace(self.path)
            raise

    def load(self):
        if not os.path.exists(self.path):
            return 0
        saved = torch.load(self.path, map_location=torch.device("cpu"), weights_only=True)
        done = saved.pop("")
        for n, state in saved.items():
            if isinstance(self.parts[n], torch.Generator):
                self.parts[n].set_state(state)
            else:
                self.parts[n].load_state_dict(state)
        return int(done)

    @staticmethod
    def _state(part):
        return part.get_state() if isinstance(part, torch.Generator) else part.state_dict()


# %% tags=["alternative"]
@alternative("a tensor for the number, cleaned up afterwards")
class Checkpoint:
    def __init__(self, path, **parts):
        self.path, self.parts = Path(path), parts

    def save(self, done):
        blob = {}
        for name in self.parts:
            part = self.parts[name]
            blob[name] = {"random": part.get_state()} if type(part) is torch.Generator else {"state": part.state_dict()}
        blob["#"] = torch.tensor(done)
        half_way = self.path.with_suffix(".tmp")
        try:
            torch.save(blob, half_way)
            half_way.rename(self.path)
        finally:
            half_way.unlink(missing_ok=True)

    def load(self):
        blob = torch.load(self.path, weights_only=True) if self.path.exists() else {}
        for name in self.parts:
            if name in blob:
                state = blob[name]
                self.parts[name].set_state(state["random"]) if "random" in state else self.parts[name].load_state_dict(state["state"])
        return int(blob.get("#", 0))


# %% [markdown]
# ## Exercise 4 · `train`
#
# *Difficulty ●●● · 30 minutes · 6 points*
#
# The loop alternates the two steps and keeps a record for those who watch: numbers after every step, pictures after every epoch, a checkpoint after every epoch. Pictures are made from *fixed* noise, so that one sees the same image become clearer; and in evaluation
# mode, so that looking changes nothing (in training mode batch-norm's running statistics would move with every look).
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | batches | 128 images (section 4) | whatever the loader gives | small computers |
# | noise | uniform on a cube (section 4, figure 1) | what `sample_noise` draws, normal below | most implementations since; the check brings its own |
# | noise of the two steps | nothing; algorithm 1 of Goodfellow et al. samples twice | twice | saving the second sample saves a forward pass, and makes D and G see the same images |

# %% tags=["export"]
def train(
    generator: nn.Module,
    discriminator: nn.Module,
    loader: DataLoader,
    epochs: int,
    opt_g: torch.optim.Optimizer,
    opt_d: torch.optim.Optimizer,
    criterion: Callable[[Tensor, Tensor], Tensor],
    sample_noise: Callable[[int], Tensor],
    fixed_noise: Tensor | None = None,
    writer: Any = None,
    checkpoint: Any = None,
    report: Callable[[int, float, float], None] | None = None,
) -> dict[str, list[float]]:
    """Train until so many epochs are done: for each batch, one update of the discriminator, then
    one of the generator.

    Args:
        generator, discriminator: the networks; they are trained in training mode, in whatever mode they come.
        loader: gives (images, labels) for each batch of an epoch, and all of them again in the
            next; the labels do not matter. Has a length: batches an epoch.
        epochs: how many in all, those before a checkpoint included.
        opt_g, opt_d: the optimisers of the two.
        criterion: for both steps.
        sample_noise: sample_noise(n) draws fresh noise for n images. For each batch it is called
            twice, for the discriminator's step and then for the generator's.
        fixed_noise: after each epoch the generator draws these in evaluation mode, for `writer`.
            None: no images.
        writer: like TensorBoard's SummaryWriter. After each step: add_scalar("loss/discriminator",
            value, step) and add_scalar("loss/generator", value, step), where step counts from 1
            since the beginning of the first epoch. After each epoch: add_images("samples", images
            in [0, 1], step). None: nothing.
        checkpoint: like `Checkpoint`: load() is called before training and says how many epochs are
            done; save(epochs done) is called after each epoch. None: neither.
        report: called with (step, the discriminator's loss, the generator's loss) after each step,
            for a progress bar.

    Returns: {"discriminator": losses, "generator": losses}, a float for each step that was made now.
    """
    ### BEGIN SOLUTION
    device = next(generator.parameters()).device
    done = checkpoint.load() if checkpoint else 0
    step = done * len(loader)
    losses: dict[str, list[float]] = {"discriminator": [], "generator": []}
    for epoch in range(done, epochs):
        generator.train()
        discriminator.train()
        for images, _ in loader:
            step += 1
            real = images.to(device)
            loss_d = float(discriminator_step(generator, discriminator, opt_d, criterion, real, sample_noise(len(real))))
            loss_g = float(generator_step(generator, discriminator, opt_g, criterion, sample_noise(len(real))))
            losses["discriminator"].append(loss_d)
            losses["generator"].append(loss_g)
            if writer:
                writer.add_scalar("loss/discriminator", loss_d, step)
                writer.add_scalar("loss/generator", loss_g, step)
            if report:
                report(step, loss_d, loss_g)
        if writer and fixed_noise is not None:
            generator.eval()
            with torch.no_grad():
                writer.add_images("samples", (generator(fixed_noise) + 1) / 2, step)
        if checkpoint:
            checkpoint.save(epoch + 1)
    return losses
    ### END SOLUTION


# %%
@check("train", points=6, paper="section 4")
def _(case):
    phase = float(case.uniform(1, high=6.0))

    class Batches:  # in another order each epoch
        def __init__(self, *sizes):
            self.batches = [(case.uniform(n, 1, 2, 2, low=-1.0), case.integers(0, 3, n)) for n in sizes]

        def __len__(self):
            return len(self.batches)

        def __iter__(self):
            yield from self.batches
            self.batches = [*self.batches[1:], self.batches[0]]

    class Noise:  # the k-th call gives the k-th noise, whoever asks; notes how much was asked for
        def __init__(self, nz):
            self.nz, self.asked = nz, []

        def __call__(self, n):
            self.asked.append(n)
            return torch.sin(phase + (0.3 + 0.7 * len(self.asked)) * torch.arange(1.0, n * self.nz + 1)).view(n, self.nz, 1, 1).to(case.device)

    class Writer:  # what TensorBoard's SummaryWriter is told
        def __init__(self):
            self.scalars, self.images = {}, {}

        def add_scalar(self, tag, scalar_value, global_step=None, *rest, **more):
            self.scalars.setdefault(tag, []).append((global_step, float(scalar_value)))

        def add_images(self, tag, img_tensor, global_step=None, *rest, **more):
            self.images.setdefault(tag, []).append((global_step, img_tensor.detach().clone()))

        def flush(self):
            pass

        close = flush

    class Book:  # a checkpoint that only notes what it is asked for
        def __init__(self, done):
            self.done, self.calls = done, []

        def load(self):
            self.calls.append("load()")
            return self.done

        def save(self, done):
            self.calls.append(f"save({done})")

    def run(name, sizes, epochs, nz=3, fixed=5, writing=True, done=None, reporting=True, evaluating=False, criterion=None):
        generator, discriminator = filled(TinyGenerator(nz), case), filled(TinyDiscriminator(), case)
        before = parameters_of(generator), parameters_of(discriminator)
        if evaluating:
            generator.eval(), discriminator.eval()
        opt_g, opt_d = torch.optim.SGD(generator.parameters(), 0.3), torch.optim.SGD(discriminator.parameters(), 0.2)
        noise, writer, book, reports = Noise(nz), Writer(), None if done is None else Book(done), []
        fixed_noise = case.normal(fixed, nz, 1, 1) if fixed else None
        losses = train(
            generator, discriminator, Batches(*sizes), epochs, opt_g, opt_d, criterion or nn.BCEWithLogitsLoss(), noise,
            fixed_noise=fixed_noise, writer=writer if writing else None, checkpoint=book, report=(lambda *what: reports.append(what)) if reporting else None,
        )  # fmt: skip
        case.record(f"{name}: how often noise was asked for", len(noise.asked))
        case.record(f"{name}: noise asked for", noise.asked, about="noise vectors in call")
        if isinstance(losses, dict):
            floats = {f"the returned losses of the {key} are floats": all(isinstance(loss, float) for loss in values) for key, values in losses.items()}
            floats["the reported losses are floats"] = all(isinstance(loss, float) for what in reports for loss in what[1:])
            case.record(f"{name}: floats", floats, about="it is true that")
            losses = {key: [number(loss) for loss in values] for key, values in losses.items()}
        case.record(f"{name}: losses", losses, about="loss of the", tol=1e-3)
        if writing:
            case.record(f"{name}: steps of the scalars", {tag: [step for step, _ in values] for tag, values in writer.scalars.items()}, about="step of")
            case.record(f"{name}: values of the scalars", {tag: [value for _, value in values] for tag, values in writer.scalars.items()}, about="value of", tol=1e-3)
            case.record(f"{name}: steps of the images", {tag: [step for step, _ in values] for tag, values in writer.images.items()} or "no images", about="step of")
            case.record(f"{name}: images", {tag: [value for _, value in values] for tag, values in writer.images.items()} or "no images", about="images of", tol=1e-3)
        if reporting:
            case.record(f"{name}: reports", [[number(value) for value in what] for what in reports], about="report", tol=1e-3)
        if book:
            case.record(f"{name}: the checkpoint's calls", ", ".join(book.calls), about="what was called:")
        after = parameters_of(generator), parameters_of(discriminator)
        case.record(f"{name}: how far the generator moved", {key: after[0][key] - old for key, old in before[0].items()}, about="movement of the generator's", tol=2e-3)
        case.record(f"{name}: how far the discriminator moved", {key: after[1][key] - old for key, old in before[1].items()}, about="movement of the discriminator's", tol=2e-3)

    run("one batch", [4], 1)
    run("two epochs of two unequal batches", [4, 3], 2)
    run("in evaluation mode before", [4, 5], 2, evaluating=True)
    run("nothing to write to", [3, 4], 1, nz=2, fixed=0, writing=False, reporting=False)
    run("a checkpoint, but no file yet", [4, 3], 2, done=0)
    run("two of three epochs are done", [3, 4, 3], 3, done=2)
    ### BEGIN HIDDEN TESTS
    run("three epochs, one fixed noise", [4, 3, 5], 3, nz=2, fixed=1, done=1)
    run("all is done", [3, 4], 2, done=2)
    run("a checkpoint, nothing to write to", [4, 3], 2, fixed=0, writing=False, done=0)
    run("no fixed noise", [5, 3], 2, fixed=0)
    run("fixed noise, nothing to write to, another criterion", [6, 4], 2, fixed=4, writing=False, criterion=nn.MSELoss())
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "train",
    "Write down the events of two epochs of two batches in order: noise, step, number, report, picture, file. What is counted from the very beginning, and what from this call?",
    "Algorithm 1 of Goodfellow et al. (2014), two nested loops: in each iteration noise is sampled for the discriminator, and sampled again for the generator. Figures 2 and 3 of the DCGAN paper are pictures taken on the way, after one epoch and after five.",
    "Ask the checkpoint how many epochs are done; the step begins at that many times the loader's length. For every epoch left: training mode, and for each batch both steps with fresh noise each, then numbers to history, writer and report. After the epoch the "
    "fixed noise through the generator in evaluation mode, mapped to [0, 1], to the writer; then the checkpoint.",
)
equivalents("train", {"call swapped: `with torch.no_grad()` → `with torch.enable_grad()`": "the same pictures; it only costs memory"})
D_STEP, G_STEP = "opt_d, criterion, real, sample_noise(len(real))", "opt_g, criterion, sample_noise(len(real))"
D_LINE = "            loss_d = float(discriminator_step(generator, discriminator, opt_d, criterion, real, sample_noise(len(real))))\n"
G_LINE = "            loss_g = float(generator_step(generator, discriminator, opt_g, criterion, sample_noise(len(real))))\n"
SCALARS = '            if writer:\n                writer.add_scalar("loss/discriminator", loss_d, step)\n                writer.add_scalar("loss/generator", loss_g, step)\n'
SAMPLES = 'writer.add_images("samples", (generator(fixed_noise) + 1) / 2, step)'
MODES = "        generator.train()\n        discriminator.train()\n"
misconceptions(
    "train",
    mistake("the same noise every step", (D_STEP, "opt_d, criterion, real, always[: len(real)]"), (G_STEP, "opt_g, criterion, always[: len(real)]"), ("    for epoch in", "    always = sample_noise(max(len(images) for images, _ in loader))\n    for epoch in"), says="Noise is drawn once, before the loop, and used in every step: the generator only learns what to do with these few vectors."),
    mistake("one noise for both steps", (D_LINE, "            noise = sample_noise(len(real))\n" + D_LINE.replace("sample_noise(len(real))", "noise")), (G_STEP, "opt_g, criterion, noise"), says="Both steps of a batch use the same noise; algorithm 1 draws it anew for the generator. (Reusing it is common and saves time; here fresh noise is asked for.)"),
    mistake("generator first", (D_LINE + G_LINE, G_LINE + D_LINE), says="The generator's step comes first; the discriminator's does."),
    mistake("the discriminator never learns", (D_LINE, D_LINE.replace("discriminator_step(generator, discriminator, opt_d", "discriminator_step(generator, __import__('copy').deepcopy(discriminator), opt_d")), says="The discriminator's step runs on a copy: the discriminator never learns."),
    mistake("losses as tensors", (D_LINE + G_LINE, (D_LINE + G_LINE).replace("float(discriminator_step", "torch.as_tensor(discriminator_step").replace("float(generator_step", "torch.as_tensor(generator_step")), says="The losses are kept and reported as tensors; floats are asked for. A tensor may drag along its whole graph, and on a GPU it stays there: float(loss), or loss.item()."),
    mistake("two discriminator steps", (D_LINE, D_LINE + D_LINE), says="The discriminator has two updates for each of the generator's; here it is one each."),
    mistake("fixed noise drawn anew", ("generator(fixed_noise)", "generator(sample_noise(len(fixed_noise)))"), says="The pictures are drawn from new noise after each epoch. From fixed noise one sees the same image become clearer; new noise shows other images each time."),
    mistake("pictures in training mode", ("            generator.eval()\n", ""), says="The pictures are drawn in training mode: batch-norm takes its statistics from them, and its running statistics change because somebody looked. Draw in evaluation mode."),
    mistake("evaluation mode from then on", (MODES, ""), ("    for epoch in", "    generator.train()\n    discriminator.train()\n    for epoch in"), says="After the first pictures the generator stays in evaluation mode: from the second epoch on it trains with running statistics. Put it back into training mode."),
    mistake("modes left as they are", (MODES, ""), says="The networks are never put into training mode. They may come in evaluation mode, and the pictures put the generator into it."),
    mistake("only the generator in training mode", (MODES, MODES.replace("        discriminator.train()\n", "")), says="Only the generator is put into training mode; the discriminator may come in evaluation mode as well."),
    mistake("pictures in [−1, 1]", ("(generator(fixed_noise) + 1) / 2", "generator(fixed_noise)"), says="The pictures go to the writer as the generator draws them, in [−1, 1]; TensorBoard takes [0, 1] and cuts off the dark half."),
    mistake("pictures numbered by epoch", ("(generator(fixed_noise) + 1) / 2, step)", "(generator(fixed_noise) + 1) / 2, epoch + 1)"), says="The pictures are numbered by epoch and the losses by step; in one run they share one axis, the step."),
    mistake("pictures after every step", (f"        if writer and fixed_noise is not None:\n            generator.eval()\n            with torch.no_grad():\n                {SAMPLES}\n", f"            if writer and fixed_noise is not None:\n                generator.eval()\n                with torch.no_grad():\n                    {SAMPLES}\n                generator.train()\n"), says="Pictures are drawn after every step; once an epoch is enough, and quicker."),
    mistake("no pictures", (f"                {SAMPLES}\n", "                pass\n"), says="No pictures are handed to the writer."),
    mistake("steps from 0", (SCALARS, SCALARS.replace(", step)", ", step - 1)")), says="The scalars' steps count from 0; they count from 1."),
    mistake("steps anew each epoch", (MODES, MODES + "        step = 0\n"), says="The steps begin anew in each epoch, so the curves lie on top of each other; count from the beginning of the run."),
    mistake("a resumed run starts at step 0", ("step = done * len(loader)", "step = 0"), says="A run that goes on from a checkpoint counts its steps from 0 again: the curve goes back over itself. Count those before."),
    mistake("a resumed run does it all again", ("range(done, epochs)", "range(epochs)"), says="A run that goes on from a checkpoint trains all epochs again; those that are done count."),
    mistake("so many epochs more", ("range(done, epochs)", "range(done, done + epochs)"), says="A run that goes on from a checkpoint trains `epochs` more; that many in all are asked for."),
    mistake("one epoch too few", ("range(done, epochs)", "range(done + 1, epochs)"), says="An epoch is left out: the first one that is not done is number `done`, counted from 0."),
    mistake("never loaded", ("checkpoint.load() if checkpoint else 0", "0"), says="The checkpoint is never loaded: a run that was stopped begins anew, and writes over what it had."),
    mistake("never saved", ("            checkpoint.save(epoch + 1)", "            pass"), says="The checkpoint is never saved."),
    mistake("saved at the end", ("        if checkpoint:\n            checkpoint.save(epoch + 1)", "    if checkpoint:\n        checkpoint.save(epochs)"), says="The checkpoint is saved once, at the end, when nothing can be lost any more; save after each epoch."),
    mistake("saved with the epoch's number", ("checkpoint.save(epoch + 1)", "checkpoint.save(epoch)"), says="The checkpoint is told the number of the epoch, counted from 0; after the first one, 1 is done."),
    mistake("saved with the step", ("checkpoint.save(epoch + 1)", "checkpoint.save(step)"), says="The checkpoint is told the number of steps; epochs are what load() is expected to return."),
    mistake("losses exchanged", ('"loss/discriminator", loss_d, step', '"loss/discriminator", loss_g, step'), ('"loss/generator", loss_g, step', '"loss/generator", loss_d, step'), says="The two losses are exchanged on their way to the writer."),
    mistake("history exchanged", ('losses["discriminator"].append(loss_d)', 'losses["discriminator"].append(loss_g)'), ('losses["generator"].append(loss_g)', 'losses["generator"].append(loss_d)'), says="The two losses are exchanged in the history that is returned."),
    mistake("the last losses only", ("return losses", "return {name: values[-1:] for name, values in losses.items()}"), says="Only the last losses are returned; one for each step is wanted."),
    mistake("the first batch only", ("            if report:\n                report(step, loss_d, loss_g)\n", "            if report:\n                report(step, loss_d, loss_g)\n            break\n"), says="Each epoch ends after its first batch."),
    mistake("no report", ("                report(step, loss_d, loss_g)", "                pass"), says="report is never called: the progress bar stands still."),
    mistake("report without the losses' order", ("report(step, loss_d, loss_g)", "report(step, loss_g, loss_d)"), says="The report gets the losses in the wrong order; the discriminator's comes first."),
    mistake("a report each epoch", ("            if report:\n                report(step, loss_d, loss_g)\n", ""), ("        if checkpoint:", "        if report:\n            report(step, loss_d, loss_g)\n        if checkpoint:"), says="There is a report after each epoch; one after each step is asked for."),
    mistake("real images are noise", (D_STEP, "opt_d, criterion, real.flip(0), sample_noise(4)"), says="The noise has always 4 vectors; as many as the batch has images are asked for, and the last batch may be smaller."),
    mistake("pictures cost noise", ("            generator.eval()\n", "            generator.eval()\n            sample_noise(len(fixed_noise))\n"), says="Noise is drawn after each epoch besides that of the steps."),
    mistake("both optimisers in both steps", (D_LINE, D_LINE + "            opt_g.step()\n"), says="The generator's optimiser steps after the discriminator's step too, with the gradients that its own last step has left."),
)


# %% tags=["alternative"]
@alternative("enumerate, an inner function for the log")
def train(generator, discriminator, loader, epochs, opt_g, opt_d, criterion, sample_noise, fixed_noise=None, writer=None, checkpoint=None, report=None):
    history = {"generator": [], "discriminator": []}

    def log(step, **losses):
        for name, loss in losses.items():
            history[name].append(loss)
            if writer is not None:
                writer.add_scalar(tag=f"loss/{name}", scalar_value=loss, global_step=step)
        if report is not None:
            report(step, losses["discriminator"], losses["generator"])

    start = 0 if checkpoint is None else checkpoint.load()
    for epoch in range(start, epochs):
        for network in (generator, discriminator):
            network.train()
        for step, batch in enumerate(loader, start=epoch * len(loader) + 1):
            real = batch[0]
            first = float(discriminator_step(generator, discriminator, opt_d, criterion, real, sample_noise(real.shape[0])))
            second = float(generator_step(generator, discriminator, opt_g, criterion, sample_noise(real.shape[0])))
            log(step, generator=second, discriminator=first)
        if not (writer is None or fixed_noise is None):
            generator.eval()
            pictures = generator(fixed_noise).detach().mul(0.5).add(0.5)
            generator.train()
            writer.add_images("samples", pictures, global_step=(epoch + 1) * len(loader))
        if checkpoint is not None:
            checkpoint.save(epoch + 1)
    return history


# %% tags=["alternative"]
@alternative("while, lists, tensors turned to floats at the end")
def train(generator, discriminator, loader, epochs, opt_g, opt_d, criterion, sample_noise, fixed_noise=None, writer=None, checkpoint=None, report=None):
    epoch, losses_d, losses_g = 0, [], []
    if checkpoint:
        epoch = checkpoint.load()
    while epoch < epochs:
        count = 0
        generator.train(True)
        discriminator.train(True)
        for images, labels in loader:
            count += 1
            losses_d.append(torch.as_tensor(discriminator_step(generator, discriminator, opt_d, criterion, images, sample_noise(len(labels)))))
            losses_g.append(torch.as_tensor(generator_step(generator, discriminator, opt_g, criterion, sample_noise(len(labels)))))
            step = epoch * len(loader) + count
            if writer:
                writer.add_scalar("loss/generator", losses_g[-1], step)
                writer.add_scalar("loss/discriminator", losses_d[-1], step)
            if report:
                report(step, losses_d[-1].item(), losses_g[-1].item())
        epoch += 1
        if fixed_noise is not None:
            discriminator.eval()
            generator.eval()
            with torch.inference_mode():
                grid = ((generator(fixed_noise) + 1) / 2).clamp(0, 1)
            if writer:
                writer.add_images("samples", grid.clone(), epoch * len(loader))
        if checkpoint:
            checkpoint.save(epoch)
    return {"discriminator": [loss.item() for loss in losses_d], "generator": [loss.item() for loss in losses_g]}


# %% tags=["alternative"]
@alternative("a generator function yields the steps")
def train(generator, discriminator, loader, epochs, opt_g, opt_d, criterion, sample_noise, fixed_noise=None, writer=None, checkpoint=None, report=None):
    done = checkpoint.load() if checkpoint is not None else 0

    def steps():
        for real, _ in loader:
            generator.train(), discriminator.train()
            b = real.size(0)
            z_d = sample_noise(b)
            d = discriminator_step(generator, discriminator, opt_d, criterion, real, z_d)
            z_g = sample_noise(b)
            g = generator_step(generator, discriminator, opt_g, criterion, z_g)
            yield float(d), float(g)

    pairs = []
    for epoch in range(done + 1, epochs + 1):
        for pair in steps():
            pairs.append(pair)
            step = done * len(loader) + len(pairs)
            for name, value in zip(("discriminator", "generator"), pair):
                if writer:
                    writer.add_scalar("loss/" + name, value, step)
            if report:
                report(step, *pair)
        if writer and fixed_noise is not None:
            with torch.no_grad():
                writer.add_images("samples", 0.5 * generator.eval()(fixed_noise) + 0.5, step)
        if checkpoint is not None:
            checkpoint.save(epoch)
    return {"discriminator": [d for d, _ in pairs], "generator": [g for _, g in pairs]}


# %% tags=["alternative"]
@alternative("pictures by a copy in evaluation mode, logged epoch by epoch")
def train(generator, discriminator, loader, epochs, opt_g, opt_d, criterion, sample_noise, fixed_noise=None, writer=None, checkpoint=None, report=None):
    import copy

    generator.train()
    discriminator.train()
    finished = checkpoint.load() if checkpoint is not None else 0
    total = {"discriminator": [], "generator": []}
    for epoch in range(epochs):
        if epoch < finished:
            continue
        rows = []
        for index, (real, _) in enumerate(loader):
            d = float(discriminator_step(generator, discriminator, opt_d, criterion, real, sample_noise(len(real))))
            g = float(generator_step(generator, discriminator, opt_g, criterion, sample_noise(len(real))))
            rows.append((epoch * len(loader) + index + 1, d, g))
            (report or (lambda *_: None))(*rows[-1])
        for step, d, g in rows:
            total["discriminator"].append(d)
            total["generator"].append(g)
            if writer:
                writer.add_scalar("loss/discriminator", d, step)
                writer.add_scalar("loss/generator", g, step)
        if writer and fixed_noise is not None:
            painter = copy.deepcopy(generator).eval()
            writer.add_images("samples", (painter(fixed_noise).detach() + 1) / 2, rows[-1][0])
        if checkpoint is not None:
            checkpoint.save(epoch + 1)
    return total


# %% [markdown]
# ## A DCGAN, trained
#
# Quick profile: four glyphs, grey, dark on bright, in slightly varying pose. Full profile: photographs. Same code, other numbers:
#
# | | the paper | quick: glyphs | full: CIFAR-10, CelebA, … | why |
# | --- | --- | --- | --- | --- |
# | images | LSUN bedrooms, faces, ImageNet; 64 × 64 (ImageNet 32 × 32) | 1,024 drawn glyphs, 64 × 64, one channel | 64 × 64, as many channels as they have | two CPU cores |
# | widths | ngf = 128 (figure 1) | ngf = ndf = 16 | 64 and 64 | |
# | batch | 128 | 16 | 128 | a small data set: 64 updates an epoch instead of 8 |
# | learning rate | 0.0002 | 0.001 | 0.0002 | narrow networks that begin with N(0, 0.02²) are slow to get going |
# | epochs | 5 on LSUN's 3 million | 8 | 25 on CIFAR-10 | |
# | precision | single | single | on a GPU, convolutions in bfloat16, images stored channels last | tensor cores take both; losses, parameters and Adam stay in single precision |
#
# `Autocast` below is the whole of mixed precision: *forward* in bfloat16 where PyTorch thinks it safe, logits and images handed on in single precision. bfloat16 has the range of single precision, so no loss scaling is needed. (A Colab T4 computes bfloat16 without tensor
# cores: there it is left out.)

# %%
class Autocast(nn.Module):
    """The same network, its forward pass in bfloat16 where that is safe; what comes out is single precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x).float()


def progress_bar(total, batch_size):
    """A `report` for `train`: a progress bar with both losses and images a second."""
    from tqdm import tqdm

    bars, started = [], time.perf_counter()

    def report(step, loss_d, loss_g):
        if not bars:  # only now it is known at which step this run begins
            bars.append(tqdm(total=total, initial=step - 1, unit="step", mininterval=4.0, ncols=100))
        done = step - bars[0].initial
        bars[0].set_postfix_str(f"D {loss_d:.2f} · G {loss_g:.2f} · {batch_size * done / (time.perf_counter() - started):.0f} images/s", refresh=False)
        bars[0].update(1)
        if step == total:
            bars[0].close()

    return report


# %% [markdown]
# The images, through week 2's `build_transform` and `build_dataloader`. The loader shuffles with a generator of its own, whose state a checkpoint can hold.

# %% tags=["picture"]
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)
if PROFILE == "full":
    channels, ngf, batch_size, lr, epochs = (1 if "mnist" in DATASET else 3), 64, 128, 2e-4, 25
    folder = data_folder(DATA_DIR)
    try:
        dataset = real_images(DATASET, folder or "data", transform=build_transform(64, channels), download=folder is None)
    except DatasetUnavailable as problem:
        raise SystemExit(f"{problem}\nOr stay with PROFILE = \"quick\".")
else:
    channels, ngf, batch_size, lr, epochs = 1, 16, 16, 1e-3, 8
    drawn, kinds = drawn_glyphs(3000, seed=SEED, classes=("heart", "star", "triangle", "disc"), pose=0.3)
    bright = drawn[:, 0, 0].mean(-1) > 127  # dark on bright only: nobody has time here to learn colours and their inversion as well
    grey, kinds = drawn[bright][:1024].mean(-1).astype(np.uint8), kinds[bright][:1024]
    dataset = ArrayImages(grey, kinds, build_transform(64, channels))
if STEPS:  # a short run: fewer images if that is enough, else fewer epochs
    dataset = torch.utils.data.Subset(dataset, range(min(len(dataset), batch_size * STEPS)))
    epochs = max(1, min(epochs, STEPS * batch_size // len(dataset)))
print(f"{len(dataset):,} images, {channels} channel(s), {epochs} epochs of {len(dataset) // batch_size} steps, ngf = ndf = {ngf}, on {device}")

# %% [markdown]
# Everything that a run consists of is made in one place, so that it can be made twice: once at the beginning, once more after an interruption.

# %% tags=["picture"]
runs = Path(tempfile.mkdtemp(prefix="dcgan-"))
fixed_noise = torch.randn(64, 100, 1, 1, generator=torch.Generator().manual_seed(SEED + 2)).to(device)  # the same before and after an interruption
half_precision = device.type == "cuda" and torch.cuda.get_device_capability()[0] >= 8


class Run:
    """One training run: networks, optimisers, data, noise, log and checkpoint."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        self.generator, self.discriminator = Generator(ngf=ngf, nc=channels).apply(init_weights), Discriminator(ndf=ngf, nc=channels).apply(init_weights)
        for network in (self.generator, self.discriminator):
            network.to(device, memory_format=torch.channels_last if half_precision else torch.contiguous_format)
        if half_precision:
            self.generator, self.discriminator = Autocast(self.generator), Autocast(self.discriminator)
        self.opt_g, self.opt_d = build_optimizers(self.generator, self.discriminator, lr=lr)
        self.loader = build_dataloader(dataset, batch_size, seed=seed, workers=4 if device.type == "cuda" else 0)
        self.noise = torch.Generator().manual_seed(seed + 1)
        networks = {"generator": self.generator, "discriminator": self.discriminator, "opt_g": self.opt_g, "opt_d": self.opt_d}
        self.checkpoint = Checkpoint(runs / "checkpoint.pt", **networks, order=self.loader.generator, noise=self.noise)

    def sample_noise(self, n):
        return torch.randn(n, 100, 1, 1, generator=self.noise).to(device)

    def train(self, epochs, writer):
        report = progress_bar(epochs * len(self.loader), batch_size)
        networks = self.generator, self.discriminator
        return train(*networks, self.loader, epochs, self.opt_g, self.opt_d, build_criterion(), self.sample_noise, fixed_noise, writer, self.checkpoint, report)


def pictures(images, columns=8):
    """Images in [−1, 1] as one picture for matplotlib, with thin lines between them."""
    return make_grid(denormalise(images.float().cpu()).clamp(0, 1), nrow=columns, padding=2, pad_value=1).permute(1, 2, 0).numpy()


# %% [markdown]
# Half of the epochs; then the run is dropped, as when Colab closes. A new one is made from nothing and goes on from the checkpoint.

# %% tags=["picture"]
from torch.utils.tensorboard import SummaryWriter

started = time.perf_counter(), time.process_time()
first = Run(SEED)
if epochs > 1:
    with SummaryWriter(runs / "log") as writer:
        history = first.train(epochs // 2, writer)
    print(f"stopped after {epochs // 2} epochs, {len(history['discriminator'])} steps")
    del first
run = Run(SEED + 1000)  # other weights, other noise: all of it is replaced by what the checkpoint holds
with SummaryWriter(runs / "log") as writer:
    history = run.train(epochs, writer)
seconds, steps = time.perf_counter() - started[0], epochs * len(run.loader)
print(f"went on for {len(history['discriminator'])} steps; in all {steps} steps, {seconds:.0f} s, {time.process_time() - started[1]:.0f} s of processor time, {steps * batch_size / seconds:.0f} images a second on {device}")

# %% [markdown]
# ### What it draws
#
# Left: 32 images from fixed noise, by the generator in evaluation mode. Right: 32 of the images it learned from.

# %% tags=["picture"]
run.generator.eval()
with torch.no_grad():
    samples = run.generator(fixed_noise)
real = torch.stack([dataset[i][0] for i in range(min(32, len(dataset)))])
figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), layout="constrained")
for axis, images, title in zip(axes, (samples[:32], real), ("generated", "real")):
    axis.imshow(pictures(images), vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()
save_image(denormalise(samples[:32].float()).clamp(0, 1), runs / "samples.png", nrow=8, padding=2, pad_value=1)

# %% [markdown]
# **What to see.** Quick profile: hearts, stars, triangles and discs one can tell apart, some of them half one and half the other: between two kinds of noise the generator has to pass from one shape to the next, and it has had a few hundred steps. Edges are rougher than the
# font's.

# %% [markdown]
# ### From noise to shapes
#
# The pictures that `train` handed to TensorBoard, read back from its file: a row for each epoch, a column for each fixed noise vector. This is what the *Images* tab shows with a slider.

# %% tags=["picture"]
import io

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

log = EventAccumulator(str(runs / "log"), size_guidance={"images": 0, "scalars": 0})
log.Reload()
events = log.Images("samples")
shown = [events[round(i * (len(events) - 1) / max(1, min(8, len(events)) - 1))] for i in range(min(8, len(events)))]
rows = [np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("RGB"))[:64] for event in shown]  # of 8 × 8 images the first row
figure, axes = plt.subplots(len(rows), 1, figsize=(7, 0.95 * len(rows)), layout="constrained", squeeze=False)
for axis, row, event in zip(axes[:, 0], rows, shown):
    axis.imshow(row)
    axis.set_ylabel(f"step {event.step}", rotation=0, ha="right", va="center")
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# **What to see.** First a grey average with a dark middle, then blots, then blots with corners, then shapes. Follow one column: what becomes a heart often was something else before. The run was stopped and resumed in the middle, and nothing shows it.

# %% tags=["picture"]
curves = {name: [(event.step, event.value) for event in log.Scalars(f"loss/{name}")] for name in ("discriminator", "generator")}
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
for (name, points), colour in zip(curves.items(), (BLUE, ORANGE)):
    at, values = zip(*points)
    width = max(1, len(values) // 40)
    smooth = [sum(values[max(0, i - width) : i + 1]) / len(values[max(0, i - width) : i + 1]) for i in range(len(values))]
    axis.plot(at, values, color=colour, alpha=0.25, linewidth=0.8)
    axis.plot(at, smooth, color=colour, label=f"{name}, mean of {width + 1} steps")
axis.axhline(2 * np.log(2), color=GREY, linestyle="--", linewidth=1, label="2 log 2: D tosses a coin")
axis.set(xlabel="step", ylabel="loss (nats)", title="Both losses, as logged", ylim=(0, 8 if PROFILE == "quick" else None))
axis.legend(frameon=False)
axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Neither curve falls the way a classifier's does, and neither says how good the pictures are: each loss is measured against an opponent that changes as well. After the first steps, in which G's loss leaves the picture (it ends at 8), the mean of D's stays below $2 \log 2$ (it can tell the kinds apart) and away from 0 (it is not sure of everything). A loss of D at 0 and one of G
# that climbs and climbs would be the sign of trouble; the next notebook provokes it.
#
# **TensorBoard** shows the same, live, while training runs. In Colab or JupyterLab: `%load_ext tensorboard`, then `%tensorboard --logdir` and the folder printed below; in a terminal: `tensorboard --logdir` and the folder, then open the address it prints.
#
# **To keep the results** in Google Drive: `from google.colab import drive; drive.mount("/content/drive")` before training, and `runs = Path("/content/drive/MyDrive/dcgan")` in the cell above. Checkpoint, log and samples are then there when Colab closes, and the run goes on from
# them when you come back.

# %% tags=["picture"]
print("log, checkpoint and samples are in", runs)
print(", ".join(sorted(f"{path.name} ({path.stat().st_size / 1e6:.1f} MB)" for path in runs.rglob("*") if path.is_file())))

# %% [markdown]
# ### Try it: one step under the magnifying glass
#
# Take a batch of noise and of glyphs, run `discriminator_step` on the trained networks, and ask D about the *same* images before and after. Then do the same with `generator_step`. Who moves whose logits?

# %% tags=["picture"]
batch, noise = next(iter(run.loader))[0].to(device), run.sample_noise(batch_size)


def mean_logits():
    run.generator.train(), run.discriminator.train()
    with torch.no_grad():
        return f"real {run.discriminator(batch).mean():+.3f}, generated {run.discriminator(run.generator(noise)).mean():+.3f}"


print("before              ", mean_logits())
discriminator_step(run.generator, run.discriminator, run.opt_d, build_criterion(), batch, noise)
print("after D's step      ", mean_logits())
generator_step(run.generator, run.discriminator, run.opt_g, build_criterion(), noise)
print("after G's step      ", mean_logits())

# %% [markdown]
# **What to see.** After D's step the two mean logits lie farther apart; G's step brings the generated one back up and leaves the real one where it was, since nothing that real images pass through has changed.

# %% [markdown] written="who_learns_what" points=3
# ## Question 1 · who learns what from where
#
# *3 points, graded by a person*
#
# (a) Without `detach` in the discriminator's step G's gradients are filled, but `opt_d` does not hold G's parameters. Name two ways in which it can nevertheless do harm, and one in which it only costs. (b) The generator's step leaves gradients in D. Why is that no mistake, and what makes it one? (c) Why
# do real and generated images go through D in two batches? Say what D could do in a mixed one.
#
# ### BEGIN SOLUTION
# (a) Harm: G's next step adds its own gradient to these if it clears nothing (or clears with the wrong optimiser): G then follows the gradient that makes its images *worse* as well. Gradient clipping, or logging of gradient norms, over all parameters sees them. An optimiser that holds both networks
# moves G with them. Cost: the backward pass runs through G for nothing, and G's activations are kept for it: time and memory.
#
# (b) Only D's optimiser uses D's gradients, and the discriminator's step clears them before its own backward pass. It becomes a mistake where D's step does not clear first (or clears only afterwards): its update then contains the generator's wish, “call generated images real”.
#
# (c) Batch-norm normalises with mean and variance of the batch. In a mixed batch, real images are normalised with statistics that generated ones take part in, and the reverse: each image's logit depends on the others, and the difference in mean between the two halves is something D reads
# off the batch at once, instead of from the image. In two batches each kind is normalised by itself, as G's images are in its own step, where there are no real ones at hand.
#
# **Rubric.** 1 point for (a): two harms and the cost (⅓ each). 1 point for (b): who uses the gradients ½, the order of clearing ½. 1 point for (c): statistics of the batch are shared ½, a consequence ½.
# ### END SOLUTION

# %% [markdown] written="reading_the_curves" points=2
# ## Question 2 · reading the curves
#
# *2 points, graded by a person*
#
# Look at your pictures and at your loss curves. (a) Between two epochs the pictures become better while the generator's loss *rises*. How can that be? (b) You resume a run, and for a hundred steps the losses jump about although the weights are those of the checkpoint. What was most likely left out of it, and what
# would the curves look like had batch-norm's running statistics been left out instead?
#
# ### BEGIN SOLUTION
# (a) The loss is measured by D, which has become better as well. $L_G$ says how well G deceives *this* D, not how good the images are; both can improve while the balance shifts towards D.
#
# (b) The optimisers: with empty averages Adam's first steps have full size in every coordinate (the ratio of the corrected averages is ±1), and for D and G together that upsets the balance. Training mode does not use running statistics, so without them the losses would look as before; only
# pictures in evaluation mode would be wrong, until the averages have caught up.
#
# **Rubric.** 1 point for (a): the measure changes with D. 1 point for (b): optimiser state ½, running statistics only matter in evaluation mode ½.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - D's step: two batches, labels 1 and 0, the sum of the means, generated images cut off, D alone moves. G's step: label 1, gradients through D, G alone moves. Clear, backward, step, each optimiser for itself.
# - A run is weights, statistics, optimisers, random generators and a count. Kept in one file, replaced in one go, it goes on as if nothing had happened.
# - Pictures from fixed noise in evaluation mode show progress; the losses do not.
#
# **Next**: `evaluating_and_troubleshooting`, where pictures become numbers, and training is broken on purpose. What you built here is there already: `from papers.dcgan.training import discriminator_step, generator_step, train`.

# %% tags=["picture"]
score()
