# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: What the discriminator has learned
#     order: 3
#     exports: papers.dcgan.representation
#     minutes: 90
# ---

# %% [markdown]
# # What the discriminator has learned
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, sections 2.1 and 5 (tables 1 and 2) · about 90 minutes
#
# At the end of this notebook you can
#
# - take a discriminator's features as the paper does, from all its convolutions, without disturbing it;
# - draw few labels fairly, standardise without looking at the test set, and fit the paper's classifier, a linear SVM with squared hinge;
# - build the baseline that the paper had to beat, k-means on patches;
# - say what a GAN's features are worth beside raw pixels and beside *the same network with random weights*, a comparison that the paper leaves out.
#
# **Where this is in the roadmap.** “Learning a useful representation of the underlying data distribution” is half of the paper's title and the primary aim that the roadmap names; its high-level overview asks for “unsupervised feature extraction”. Week 0's task 4, *understand the
# concept of unsupervised learning and how representation learning can be used for tasks like feature extraction and clustering*, gets its answer here (exercises 1 to 4 extract features, exercise 5 clusters).
#
# 1. Watch [Unsupervised Learning Overview](https://youtu.be/yteYU_QpUxs?si=yiFT2V_ewCUD0EPS), if you have not in week 0.
# 2. Read sections 2.1 and 5 of [the paper](https://arxiv.org/pdf/1511.06434): two pages.
# 3. Redo its experiment: this notebook.

# %% tags=["export"]
import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %%
import random
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.svm import LinearSVC
from torch.utils.data import TensorDataset

from papers.datasets import DatasetUnavailable, data_folder, drawn_glyphs, real_images
from papers.dcgan.data import build_dataloader
from papers.dcgan.foundations import k_means
from papers.dcgan.models import Discriminator, Generator, build_criterion, build_optimizers, init_weights
from papers.dcgan.training import train

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
STEPS = 0  # full profile: cuts training short after so many steps, of narrower networks, and tests less; 0: as the profile says

# %% [markdown]
# ## The question, and how the paper asks it
#
# To tell real images from generated ones, a discriminator has to notice what real images look like: edges, textures, parts. Nobody gave it a label. Is what it notices of any use for a question that it was never asked, such as *which object is this*?
#
# Section 5 answers with a **linear** classifier on frozen features. It can only use what the features already lay open: if it does well, the network has done the work.
#
# | section 5.1, CIFAR-10 | accuracy, all labels | accuracy, 400 labels a class | feature units, at most |
# | --- | --- | --- | --- |
# | k-means, 1 layer (Coates and Ng 2011) | 80.6 % | 63.7 % | 4,800 |
# | k-means, 3 layers, learned receptive fields | 82.0 % | 70.7 % | 3,200 |
# | view-invariant k-means | 81.9 % | 72.6 % | 6,400 |
# | exemplar CNN | **84.3 %** | **77.4 %** | 1,024 |
# | **DCGAN + L2-SVM** | 82.8 % | 73.8 % | 512 |
#
# That is the paper's table 1. Its DCGAN has never seen CIFAR-10: it was trained on ImageNet-1k at 32 × 32. In table 2 the DCGAN is trained on SVHN without labels, and a thousand labels are then enough for an error of 22.48 % (the same network trained with those labels alone: 28.87 %, on the validation set).
#
# | step | the paper says (sections 5.1, 5.2) | this code does | why |
# | --- | --- | --- | --- |
# | which network | D trained on ImageNet-1k, 32 × 32: in the authors' released code six convolutions of 128, 128, 256, 256, 512, 512 channels | week 3's D, 64 × 64: four of ndf, 2·ndf, 4·ndf, 8·ndf, trained on the images in question | ImageNet takes days; nobody sees labels in either case |
# | features | from all layers, each max-pooled to 4 × 4, flattened, concatenated: (128 + 128 + 256 + 256 + 512 + 512) · 16 = 28,672 | the same: (64 + 128 + 256 + 512) · 16 = 15,360 with ndf = 64 | |
# | scaling | nothing | each feature to mean 0, deviation 1, by the training images | the strength of the penalty then means the same for every feature |
# | classifier | “a regularized linear L2-SVM” | scikit-learn's `LinearSVC`: squared hinge, one class against the rest | the authors use the same class |
# | few labels | the same number of each class, drawn at random | the same, and several draws | one draw says little |

# %% [markdown]
# ## Exercise 1 · `extract_features`
#
# *Difficulty ●●● · 25 minutes · 5 points*
#
# “We use the discriminator's convolutional features from all layers, maxpooling each layers representation to produce a 4 × 4 spatial grid” (section 5.1). A layer's representation is what leaves its leaky ReLU.
#
# Two ways lead there: send the images through the layers one by one and keep what comes by, or ask PyTorch to call you whenever a module has computed something (`register_forward_hook`). Either way the network is somebody else's, perhaps in the middle of its training, and must be found as
# it was left. The check looks at everything that a careless extraction changes.


# %% tags=["export"]
def extract_features(discriminator: nn.Module, images: Tensor, size: int = 4) -> Tensor:
    """What a discriminator's convolutions see in each image (section 5.1).

    Args:
        discriminator: as papers.dcgan.models builds it: `layers` is an nn.Sequential of
            convolutions, batch-norms and leaky ReLUs. An nn.LeakyReLU ends each layer but the last;
            the last convolution makes the logit, which is no feature.
        images: (B, nc, 64, 64) in [-1, 1].
        size: every channel is max-pooled to size × size (4, 2 or 1).

    Returns: (B, D): layer after layer, from the image upwards; in a layer channel after channel; in
        a channel row after row. D is size² times the channels of all layers. No gradient hangs on
        it.

    Batch-norm normalises with its running statistics, so an image's features do not depend on the
    rest of its batch. The discriminator is left as it was:
        parameters and their gradients, batch-norm's statistics, the mode of every module, no hooks.
        So are the images and torch's gradient mode.
    """
    ### BEGIN SOLUTION
    modes = [(module, module.training) for module in discriminator.modules()]
    pooled: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: pooled.append(F.adaptive_max_pool2d(output, size)))
        for module in discriminator.modules()
        if isinstance(module, nn.LeakyReLU)
    ]
    discriminator.eval()
    try:
        with torch.no_grad():
            discriminator(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return torch.cat([grid.flatten(1) for grid in pooled], dim=1)  # (B, channels · size²) each
    ### END SOLUTION


# %%
@check("extract_features", points=5, paper="section 5.1")
def _(case):
    def network(nc, ndf):  # a discriminator that has seen something: its batch-norms know other statistics than a small batch's
        discriminator = case.initialise(Discriminator(nc, ndf).to(case.device))
        for module in discriminator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(case.normal(module.num_features, scale=0.3))
                module.running_var.copy_(case.uniform(module.num_features, low=0.4, high=1.6))
        return discriminator

    def pictures(*shape):
        return case.uniform(*shape, 64, 64, low=-1.0, high=1.0)

    def features(name, discriminator, images, **options):
        return case.call(name, lambda images: extract_features(discriminator, images, **options), images)

    def modes(discriminator):
        found = {module.training for module in discriminator.modules()}
        return "some of each" if len(found) > 1 else "training" if found.pop() else "evaluation"

    one = network(1, 1)
    features("one image, four layers of 1, 2, 4, 8 channels, one number each", one, pictures(1, 1), size=1)
    features("the same, 2 × 2 numbers each", one, pictures(1, 1), size=2)
    three = network(3, 2)
    images = pictures(3, 3)
    result = features("three colour images, 4 × 4 numbers each by default", three, images)
    case.record("a gradient hangs on it", result.requires_grad)
    extract_features(three, images)
    case.record("the images want a gradient afterwards", images.requires_grad)
    alone = extract_features(three, images[1:2])
    case.record("the second image alone: its features differ by", float((alone - result[1:2]).abs().max().detach()), at_most=1e-4, about="largest difference")

    discriminator = network(1, 2).train()
    before, described = {name: value.clone() for name, value in discriminator.state_dict().items()}, repr(discriminator)
    features("a discriminator in training mode", discriminator, pictures(2, 1))
    case.record("found in training mode, left in mode", modes(discriminator))
    changed = [name for name, value in discriminator.state_dict().items() if not torch.equal(value, before[name])]
    case.record("what has changed in it", ", ".join(changed) or "nothing")
    case.record("parameters that can still be trained", sum(parameter.requires_grad for parameter in discriminator.parameters()))
    case.record("gradients that were left behind", sum(parameter.grad is not None for parameter in discriminator.parameters()))
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    case.record("hooks that were left behind", sum(len(getattr(module, kind)) for module in discriminator.modules() for kind in hooks))
    case.record("torch still keeps track of gradients", torch.is_grad_enabled())
    case.record("its layers' settings are as before", repr(discriminator) == described)
    for parameter in discriminator.parameters():
        parameter.grad = torch.ones_like(parameter)
    features("a discriminator with gradients of its own", discriminator, pictures(2, 1), size=1)
    case.record("its gradients are kept", all(parameter.grad is not None and bool((parameter.grad == 1).all()) for parameter in discriminator.parameters()))
    discriminator.eval()
    extract_features(discriminator, pictures(2, 1))
    case.record("found in evaluation mode, left in mode", modes(discriminator))
    discriminator.train().layers[3].eval()
    extract_features(discriminator, pictures(2, 1))
    case.record("found with one layer frozen in evaluation mode, left in mode", modes(discriminator))
    ### BEGIN HIDDEN TESTS
    features("two channels, five images", network(2, 1), pictures(5, 2), size=4)
    features("an image twice", one, pictures(1, 1).expand(2, 1, 64, 64), size=2)
    with torch.no_grad():
        extract_features(discriminator, pictures(1, 1), 1)
        case.record("called where gradients are off", torch.is_grad_enabled())
    features("black and white", network(1, 3), torch.cat([-torch.ones(1, 1, 64, 64), torch.ones(1, 1, 64, 64)]).to(case.device), size=1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "extract_features",
    "Print `discriminator.layers`. After which modules does a layer's result lie before you, and how many such places are there before the logit?",
    "Section 5.1, first paragraph of the method: *all layers*, *maxpooling*, *4 × 4*, *flattened and concatenated*. For the rest, week 3: what does batch-norm do in training mode, besides normalising?",
    "Remember every module's mode, go into evaluation mode, switch gradients off; pass the images on from layer to layer and keep a pooled, flattened copy of what leaves each leaky ReLU; put the modes back; join the copies along the second axis.",
)
misconceptions(
    "extract_features",
    mistake("averaged", ("F.adaptive_max_pool2d", "F.adaptive_avg_pool2d"), says="The grids are averages; section 5.1 takes the maximum: whether a feature is there at all, not how much of the area it fills."),
    mistake(
        "batch statistics",
        ("    discriminator.eval()\n", ""),
        says="Batch-norm works in training mode: it normalises by this batch, so an image's features depend on its neighbours, and its running statistics change. Go into evaluation mode.",
    ),
    mistake(
        "statistics of the batch, buffers put back",
        ("    discriminator.eval()\n", "    discriminator.train()\n    state = {name: value.clone() for name, value in discriminator.state_dict().items()}\n"),
        ("        for hook in hooks:\n", "        discriminator.load_state_dict(state)\n        for hook in hooks:\n"),
        says="Batch-norm normalises by this batch (the running statistics are put back afterwards, but were not used): an image's features depend on its neighbours. Go into evaluation mode.",
    ),
    mistake("left in evaluation mode", ("            module.training = mode\n", "            pass\n"), says="The discriminator is left in evaluation mode. If it was in training, its training goes on wrongly from here. Put back the mode that you found."),
    mistake("always back to training", ("            module.training = mode\n", "            module.training = True\n"), says="The discriminator is put into training mode at the end, whatever it was in before."),
    mistake(
        "only the mode of the whole",
        ("            module.training = mode\n", "            module.training = modes[0][1]\n"),
        says="Only the mode of the network as a whole is remembered, and all its layers get it: a layer that somebody froze thaws. Remember each module's.",
    ),
    mistake("gradients", ("        with torch.no_grad():\n            discriminator(images)", "        discriminator(images)"), says="A gradient hangs on the features, and with it the memory of every layer for every image. Switch gradients off."),
    mistake("gradients off for good", ("        with torch.no_grad():\n            discriminator(images)", "        torch.set_grad_enabled(False)\n        discriminator(images)"), says="Gradients are switched off and stay off: whatever is trained next learns nothing. Switch them off for this call alone."),
    mistake(
        "frozen parameters",
        ("        with torch.no_grad():\n            discriminator(images)", "        discriminator.requires_grad_(False)\n        discriminator(images)"),
        says="The parameters are frozen (`requires_grad_(False)`) and stay so: the discriminator cannot be trained any more.",
    ),
    mistake(
        "gradients cleared",
        ("        with torch.no_grad():\n            discriminator(images)", "        discriminator.zero_grad()\n        with torch.no_grad():\n            discriminator(images)"),
        says="The discriminator's gradients are cleared. Nothing is trained here, so leave them alone: somebody may be between `backward` and `step`.",
    ),
    mistake(
        "statistics held by momentum 0",
        ("    discriminator.eval()\n", "    for module in discriminator.modules():\n        if isinstance(module, nn.BatchNorm2d):\n            module.momentum = 0.0\n    discriminator.eval()\n"),
        says="Batch-norm's momentum is set to 0 and stays so: its running statistics will not move any more when training goes on. Evaluation mode is enough to keep them.",
    ),
    mistake("hooks left behind", ("            hook.remove()", "            pass"), says="The hooks are never removed: from now on every call of the discriminator, in training too, fills the list. Remove them."),
    mistake(
        "the last layer only",
        ("[grid.flatten(1) for grid in pooled]", "[grid.flatten(1) for grid in pooled[-1:]]"),
        says="Only the last hidden layer is used; section 5.1 takes all of them: edges from the first, parts from the last.",
    ),
    mistake("the first layer missing", ("[grid.flatten(1) for grid in pooled]", "[grid.flatten(1) for grid in pooled[1:]]"), says="The first layer is missing. It has no batch-norm, but it is a convolutional layer like the others."),
    mistake("the last layer missing", ("[grid.flatten(1) for grid in pooled]", "[grid.flatten(1) for grid in pooled[:-1]]"), says="The last hidden layer is missing; only the logit is left out."),
    mistake(
        "the logit too",
        ("            discriminator(images)\n", "            logit = discriminator(images)\n            pooled.append(logit.view(-1, 1, 1, 1))\n"),
        says="The logit is among the features. “Real or generated” is D's verdict, not a feature of a layer; section 5.1 takes the convolutional layers' activations.",
    ),
    mistake("from top to bottom", ("[grid.flatten(1) for grid in pooled]", "[grid.flatten(1) for grid in pooled[::-1]]"), says="The layers come in reverse order, the last one first; the docstring begins at the image."),
    mistake(
        "before the activation",
        ("if isinstance(module, nn.LeakyReLU)", "if isinstance(module, nn.Conv2d) and module.stride == (2, 2)"),
        says="What is kept is the convolutions' output, before batch-norm and leaky ReLU. A layer's representation is what it hands on: take it after the leaky ReLU.",
    ),
    mistake(
        "ReLU",
        ("F.adaptive_max_pool2d(output, size)", "F.adaptive_max_pool2d(output.relu(), size)"),
        says="What is negative is cut off. The discriminator has leaky ReLUs, whose negative values say something too: keep what leaves them as it is.",
    ),
    mistake("sigmoid", ("F.adaptive_max_pool2d(output, size)", "F.adaptive_max_pool2d(output.sigmoid(), size)"), says="The features are sent through a sigmoid; take the activations as they are."),
    mistake("not pooled", ("F.adaptive_max_pool2d(output, size)", "output"), says="The layers are not pooled: the first alone gives 32 × 32 numbers for each channel. Pool each channel to size × size."),
    mistake("pooled to one number", ("F.adaptive_max_pool2d(output, size)", "F.adaptive_max_pool2d(output, 1)"), says="Each channel is pooled to a single number, whatever `size` is: where in the image something is gets lost."),
    mistake("always 4 × 4", ("F.adaptive_max_pool2d(output, size)", "F.adaptive_max_pool2d(output, 4)"), says="Each channel is pooled to 4 × 4 whatever `size` is."),
    mistake(
        "windows of 4 × 4",
        ("F.adaptive_max_pool2d(output, size)", "F.max_pool2d(output, size)"),
        says="Each layer is pooled in windows of size × size, so a large map keeps a large grid (32 × 32 becomes 8 × 8). It is the *result* that is to be size × size: the window depends on the layer.",
    ),
    mistake("the corner", ("F.adaptive_max_pool2d(output, size)", "output[..., :size, :size]"), says="The upper left corner of each map is cut out instead of pooling the whole map."),
    mistake("thinned out", ("F.adaptive_max_pool2d(output, size)", "output[..., :: output.size(-1) // size, :: output.size(-1) // size]"), says="Every so many-th pixel is taken instead of the maximum of each window."),
    mistake("channels last", ("[grid.flatten(1) for grid in pooled]", "[grid.permute(0, 2, 3, 1).flatten(1) for grid in pooled]"), says="The numbers of a layer are in the order row, column, channel; the docstring says channel after channel."),
    mistake(
        "interleaved",
        ("torch.cat([grid.flatten(1) for grid in pooled], dim=1)", "torch.cat([grid.flatten(2) for grid in pooled], dim=1).transpose(1, 2).flatten(1)"),
        says="The numbers are sorted by place in the grid first; the docstring has layer, then channel, then place.",
    ),
    mistake("one long list", ("torch.cat([grid.flatten(1) for grid in pooled], dim=1)", "torch.cat([grid.flatten() for grid in pooled])"), says="The images of the batch are run together into one vector; each image has a row of its own."),
    mistake("mean over the batch", ("torch.cat([grid.flatten(1) for grid in pooled], dim=1)", "torch.cat([grid.flatten(1) for grid in pooled], dim=1).mean(0)"), says="The features are averaged over the batch; each image has a row of its own."),
    mistake("images in [0, 1]", ("discriminator(images)", "discriminator((images + 1) / 2)"), says="The images are brought to [0, 1] first; the discriminator was trained on [−1, 1]."),
    mistake("images in place", ("        with torch.no_grad():\n", "        images.mul_(0.5)\n        with torch.no_grad():\n"), says="The caller's images are changed."),
    mistake("unit length", ("    return torch.cat(", "    return F.normalize(torch.cat("), ("dim=1)  # (B", "dim=1))  # (B"), says="Each image's features are scaled to length 1; they are wanted as they are."),
    mistake("a list", ("torch.cat([grid.flatten(1) for grid in pooled], dim=1)", "[grid.flatten(1) for grid in pooled]"), says="A list of layers is returned; join them to one matrix."),
)


# %% tags=["alternative"]
@alternative("layer by layer")
@torch.no_grad()
def extract_features(discriminator, images, size=4):
    modes = {module: module.training for module in discriminator.modules()}
    discriminator.eval()
    x, found = images, []
    for layer in discriminator.layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            window = x.shape[-1] // size
            found.append(F.max_pool2d(x, window).reshape(len(images), -1))
    for module, mode in modes.items():
        module.training = mode
    return torch.cat(found, 1)


# %% tags=["alternative"]
@alternative("a copy of the network")
def extract_features(discriminator, images, size=4):
    import copy

    double = copy.deepcopy(discriminator).eval().requires_grad_(False)
    maps = []
    for layer in list(double.layers)[:-1]:
        images = layer(images)
        if type(layer) is nn.LeakyReLU:
            maps.append(images)
    grids = [m.unflatten(-1, (size, -1)).unflatten(-3, (size, -1)).amax(dim=(-3, -1)) for m in maps]
    return torch.hstack([g.flatten(start_dim=1) for g in grids]).detach()


# %% tags=["alternative"]
@alternative("batch-norm by formula, nothing switched")
def extract_features(discriminator, images, size=4):
    pool = nn.AdaptiveMaxPool2d((size, size))
    parts = []
    with torch.inference_mode(False), torch.no_grad():
        x = images.clone()
        for layer in discriminator.layers:
            if isinstance(layer, nn.BatchNorm2d):
                x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, training=False, eps=layer.eps)
            elif isinstance(layer, nn.Conv2d) and layer.stride == (1, 1):
                break
            else:
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU):
                    parts.append(pool(x).view(x.size(0), -1))
    return torch.cat(parts, dim=-1)


# %% tags=["alternative"]
@alternative("hooks that keep everything, one image at a time, float64")
def extract_features(discriminator, images, size=4):
    kept, modes = {}, [module.training for module in discriminator.modules()]
    handles = []
    for name, module in discriminator.named_modules():
        if module.__class__.__name__ == "LeakyReLU":
            handles.append(module.register_forward_hook(lambda m, i, o, name=name: kept.setdefault(name, []).append(o.detach().clone())))
    before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    discriminator.eval()
    for image in images:
        discriminator(image[None])
    torch.set_grad_enabled(before)
    for module, mode in zip(discriminator.modules(), modes):
        module.training = mode
    for handle in handles:
        handle.remove()
    rows = [torch.cat([F.adaptive_max_pool2d(kept[name][i].double(), size).flatten() for name in kept]) for i in range(len(images))]
    return torch.stack(rows).to(images.dtype)


# %% [markdown]
# ### Try it: where the numbers come from

# %% tags=["picture"]
torch.manual_seed(SEED)
fresh = Discriminator(nc=3, ndf=64).apply(init_weights)
picture = torch.from_numpy(drawn_glyphs(1, seed=SEED + 3, classes=["umbrella"])[0]).permute(0, 3, 1, 2).float() / 127.5 - 1
maps, x = [], picture
with torch.no_grad():
    for layer in fresh.eval().layers:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU):
            maps.append(x)
print(f"{'layer':>5}{'channels':>10}{'map':>9}{'pooled':>9}{'features':>10}")
for number, found in enumerate(maps, 1):
    print(f"{number:>5}{found.size(1):>10}{'{2} × {3}'.format(*found.shape):>9}{'4 × 4':>9}{found.size(1) * 16:>10,}")
print(f"{'together':>33}{extract_features(fresh, picture).size(1):>10,}")

figure, axes = plt.subplots(2, 5, figsize=(9, 3.7), layout="constrained")
axes[0, 0].imshow((picture[0].permute(1, 2, 0) + 1) / 2)
axes[0, 0].set_title("the image", fontsize=10)
axes[1, 0].set_visible(False)
for number, found in enumerate(maps, 1):
    busiest = found[0].flatten(1).std(dim=1).argmax()
    axes[0, number].imshow(found[0, busiest], cmap="cividis")
    axes[1, number].imshow(F.adaptive_max_pool2d(found, 4)[0, busiest], cmap="cividis")
    axes[0, number].set_title(f"layer {number}, one channel", fontsize=10)
for axis in axes.flat:
    axis.set_xticks([])
    axis.set_yticks([])
axes[0, 1].set_ylabel("map")
axes[1, 1].set_ylabel("max-pooled")
plt.show()

# %% [markdown]
# **What to see.** The busiest channel of each layer (yellow is high; every panel has a scale of its own) for a network with *random* weights, and below it the 4 × 4 grid that becomes 16 features. Even random filters keep the shape; remember that when we measure.

# %% [markdown]
# ## Exercise 2 · `class_balanced_subset`
#
# *Difficulty ●○○ · 10 minutes · 3 points*
#
# Section 5.2 trains on “1000 uniformly class distributed training examples” that are “randomly selected”; table 1's last column has 400 a class. With few labels the draw matters: leave the balance to chance, and a class may come with a single image.


# %% tags=["export"]
def class_balanced_subset(labels: Tensor, per_class: int, seed: int = 0) -> Tensor:
    """Places of equally many, randomly drawn examples of each class.

    Args:
        labels: (N,), int64, in any order. The classes are the numbers that occur.
        per_class: how many of each.
        seed: the same seed draws the same examples, another seed others; no other generator is used
            or seeded.

    Returns: int64 (classes · per_class,): places in `labels`, none twice, in any order. Each
        example of a class is equally likely to be drawn.

    Raises: ValueError, which names the class, if one has fewer than per_class examples.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        places = (labels == label).nonzero().flatten().cpu()
        if len(places) < per_class:
            raise ValueError(f"class {int(label)} has {len(places)} examples, fewer than {per_class}")
        chosen.append(places[torch.randperm(len(places), generator=generator)[:per_class]])
    return torch.cat(chosen)
    ### END SOLUTION


# %%
@check("class_balanced_subset", points=3, paper="section 5.2, “uniformly class distributed”")
def _(case):
    def draw(name, labels, per_class, **options):  # what can be compared whatever generator draws
        def run(labels):
            chosen = class_balanced_subset(labels, per_class, **options)
            kind = f"{str(chosen.dtype).removeprefix('torch.')}, {chosen.dim()} axis" if isinstance(chosen, Tensor) else type(chosen).__name__
            if kind != "int64, 1 axis" or len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(labels):
                return {"result": kind}
            classes = labels.unique().tolist()
            counts = [int((labels[chosen.cpu()] == label).sum()) for label in classes]
            return {"result": kind, "examples of each class": torch.tensor(counts), "different places": len(set(chosen.tolist()))}

        return case.call(name, run, labels)

    def shuffled(*counts):
        labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
        return labels[case.permutation(len(labels)).cpu()]

    def complaint(name, labels, per_class):
        def run(labels):
            try:
                found = class_balanced_subset(labels, per_class)
            except ValueError as error:
                return f"a ValueError that names {', '.join(word for word in ('7', '11') if word in str(error)) or 'no class'}"
            except NotImplementedError:
                raise
            except Exception as error:
                return type(error).__name__
            return f"no error, {len(found)} places"

        case.call(name, run, labels)

    draw("two classes, one of each", torch.tensor([0, 1, 1, 0, 0]), 1)
    draw("three classes in any order, two of each", shuffled(5, 3, 4), 2)
    draw("all that a class has", shuffled(3, 6), 3)
    draw("classes 7, 11 and 20", torch.tensor([7, 11, 20])[shuffled(4, 3, 5)], 2)
    draw("one class alone", torch.zeros(6, dtype=torch.int64), 4)
    complaint("class 11 has one example, two are wanted", torch.tensor([7, 11, 7, 7]), 2)

    labels = torch.arange(2).repeat_interleave(10)
    draws = [class_balanced_subset(labels, 3, seed=seed) for seed in range(300)]
    sets = [frozenset(chosen.tolist()) for chosen in draws]
    case.record("the same seed, the same examples", all(sets[seed] == frozenset(class_balanced_subset(labels, 3, seed=seed).tolist()) for seed in (0, 5, 17)))
    case.record("seed 0 is the default", frozenset(class_balanced_subset(labels, 3).tolist()) == sets[0])
    case.record("20 seeds draw", "the same examples" if len(set(sets[:20])) == 1 else "various examples" if len(set(sets[:20])) > 15 else "few different examples")
    often = torch.bincount(torch.cat([chosen.flatten() for chosen in draws]).long(), minlength=20)[:20]  # 90 times each, give or take 8
    case.record("over 300 seeds", "each about equally often" if 45 <= int(often.min()) <= int(often.max()) <= 135 else "some never" if int(often.min()) == 0 else "some more often than others")
    alike = sum({place - 10 for place in chosen if place >= 10} == {place for place in chosen if place < 10} for chosen in sets)
    case.record("in two classes", "other places in each" if alike < 100 else "always the same places in each")
    together = sum(max(places) - min(places) == 2 for chosen in sets for places in [[place for place in chosen if place < 10]] if places)
    case.record("three of a class", "anywhere in it" if together < 150 else "always next to each other")
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    class_balanced_subset(labels, 3, seed=1)
    same = torch.equal(states[0], torch.get_rng_state()), states[1] == str(np.random.get_state()), states[2] == random.getstate()
    case.record("the global generators are left alone", dict(zip(("torch", "numpy", "random"), same)))
    torch.manual_seed(case.integer(0, 1000))
    np.random.seed(case.integer(0, 1000))
    random.seed(case.integer(0, 1000))
    case.record("the same seed, though the notebook is seeded otherwise", frozenset(class_balanced_subset(labels, 3, seed=3).tolist()) == sets[3])
    ### BEGIN HIDDEN TESTS
    counts = [case.integer(4, 12) for _ in range(6)]
    draw("six classes, four of each", shuffled(*counts), 4, seed=11)
    draw("one of each of nine", shuffled(*[2] * 9), 1, seed=2)
    complaint("class 7 has two examples, three are wanted", torch.tensor([7, 11, 7, 11, 11]), 3)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "class_balanced_subset",
    "Solve it for one class: where are its examples, and how do you draw some of them without drawing one twice? Then do that for each class.",
    "`Tensor.unique`, `Tensor.nonzero`, and `torch.randperm` with its argument `generator`. The paper's two words are “uniformly class distributed” and “randomly selected”.",
    "One seeded generator of your own. For each class that occurs: find its places, complain if there are too few, take the first per_class of them in a random order. Join what you found.",
)
misconceptions(
    "class_balanced_subset",
    mistake("the first ones", ("places[torch.randperm(len(places), generator=generator)[:per_class]]", "places[:per_class]"), says="The first examples of each class are taken, whatever the seed. They are to be drawn at random: files are often sorted by more than their class."),
    mistake(
        "not balanced",
        ("    return torch.cat(chosen)", "    return torch.randperm(len(labels), generator=generator)[: len(chosen) * per_class]"),
        says="The right number of examples is drawn, but from all classes at once: how many of each is left to chance. The paper draws the same number of each.",
    ),
    mistake(
        "drawn with repetition",
        ("torch.randperm(len(places), generator=generator)[:per_class]", "torch.randint(len(places), (per_class,), generator=generator)"),
        says="An example can be drawn twice, and then there are fewer different labels than claimed.",
    ),
    mistake("the seed ignored", ("manual_seed(seed)", "manual_seed(0)"), says="Every seed draws the same examples; the generator has to get the seed that was asked for."),
    mistake(
        "the global generator",
        ("generator = torch.Generator().manual_seed(seed)", "generator = torch.default_generator"),
        says="The global generator draws: the same seed gives other examples each time, and the notebook's random state moves on. Make a generator of your own and seed it.",
    ),
    mistake(
        "the global seed",
        ("generator = torch.Generator().manual_seed(seed)", "generator = torch.manual_seed(seed)"),
        says="`torch.manual_seed` seeds the global generator: the caller's random state is lost. Seed a generator of your own.",
    ),
    mistake(
        "numpy's global seed",
        ("generator = torch.Generator().manual_seed(seed)", "np.random.seed(seed)"),
        ("torch.randperm(len(places), generator=generator)", "torch.from_numpy(np.random.permutation(len(places)))"),
        says="`np.random.seed` seeds numpy's global generator: the caller's random state is lost. Use a generator of your own (`np.random.RandomState(seed)`, say).",
    ),
    mistake(
        "Python's global seed",
        ("generator = torch.Generator().manual_seed(seed)", "random.seed(seed)"),
        ("torch.randperm(len(places), generator=generator)[:per_class]", "random.sample(range(len(places)), per_class)"),
        says="`random.seed` seeds Python's global generator: the caller's random state is lost. Use a generator of your own (`random.Random(seed)`, say).",
    ),
    mistake(
        "seeded anew for each class",
        ("torch.randperm(len(places), generator=generator)", "torch.randperm(len(places), generator=generator.manual_seed(seed))"),
        says="The generator is seeded anew for each class, so the same places are drawn in each. Seed it once.",
    ),
    mistake(
        "neighbours",
        ("places[torch.randperm(len(places), generator=generator)[:per_class]]", "places.roll(int(torch.randint(len(places), (1,), generator=generator)))[:per_class]"),
        says="Where a class's examples begin is drawn at random, and then its neighbours are taken: those are often alike. Draw each of them.",
    ),
    mistake(
        "the last ones never",
        ("torch.randperm(len(places), generator=generator)", "torch.randperm(max(per_class, len(places) // 2), generator=generator)"),
        says="Only a part of each class can be drawn; every example has to have the same chance.",
    ),
    mistake(
        "too few, without a word",
        ('        if len(places) < per_class:\n            raise ValueError(f"class {int(label)} has {len(places)} examples, fewer than {per_class}")\n', ""),
        says="A class with too few examples gives what it has, and the subset is no longer balanced. Raise a ValueError.",
    ),
    mistake("the class not named", ('class {int(label)} has', "a class has"), says="The error does not say which class is too small."),
    mistake("an assertion", ("raise ValueError(f", "raise AssertionError(f"), says="The error is an AssertionError, which Python leaves out when it optimises; the docstring promises a ValueError."),
    mistake("per class or in all", ("[:per_class]]", "[: per_class // len(labels.unique())]]"), says="per_class is taken for the size of the whole subset; it is the number for *each* class."),
    mistake("one more", ("[:per_class]]", "[: per_class + 1]]"), says="One example too many of each class is drawn."),
    mistake("classes counted from 0", ("for label in labels.unique():", "for label in torch.arange(len(labels.unique())):"), says="The classes are taken to be 0, 1, 2, …; they are the numbers that occur in `labels`."),
    mistake("labels for places", ("chosen.append(places[", "chosen.append(labels[places["), ("[:per_class]])", "[:per_class]]])"), says="The drawn examples' labels are returned; their places are wanted."),
    mistake("a mask", ("    return torch.cat(chosen)", "    return torch.zeros(len(labels), dtype=torch.bool).index_fill(0, torch.cat(chosen), True)"), says="A mask is returned; the places (int64) are wanted."),
    mistake("a list", ("    return torch.cat(chosen)", "    return torch.cat(chosen).tolist()"), says="A list is returned; a tensor is wanted."),
    mistake("a row for each class", ("    return torch.cat(chosen)", "    return torch.stack(chosen)"), says="The places form a table, a row for each class; one row of all places is wanted."),
)


# %% tags=["alternative"]
@alternative("numpy's RandomState and choice")
def class_balanced_subset(labels, per_class, seed=0):
    chance, y = np.random.RandomState(seed), labels.numpy()
    picked = []
    for c, n in zip(*np.unique(y, return_counts=True)):
        if n < per_class:
            raise ValueError(f"only {n} of class {c}")
        picked.extend(chance.choice(np.flatnonzero(y == c), size=per_class, replace=False))
    return torch.tensor(picked, dtype=torch.int64)


# %% tags=["alternative"]
@alternative("one random order of all, the first of each class in it")
def class_balanced_subset(labels, per_class, seed=0):
    g = torch.Generator()
    g.manual_seed(seed)
    left = {c: per_class for c in labels.tolist()}
    result = []
    for i in torch.randperm(labels.numel(), generator=g).tolist():
        c = int(labels[i])
        if left[c] > 0:
            left[c] -= 1
            result.append(i)
    short = [c for c, n in left.items() if n]
    if short:
        raise ValueError("too few examples of class " + ", ".join(map(str, short)))
    return torch.LongTensor(result)


# %% tags=["alternative"]
@alternative("Python's Random and sample")
def class_balanced_subset(labels, per_class, seed=0):
    dice, groups = random.Random(seed), {}
    for place, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(place)
    if any(len(group) < per_class for group in groups.values()):
        raise ValueError(f"classes too small: {sorted(c for c, group in groups.items() if len(group) < per_class)}")
    return torch.tensor(sorted(place for group in groups.values() for place in dice.sample(group, per_class)))


# %% tags=["alternative"]
@alternative("random keys, sorted within the class")
def class_balanced_subset(labels, per_class, seed=0):
    keys = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    classes, counts = torch.unique(labels, return_counts=True)
    if (counts < per_class).any():
        raise ValueError(f"fewer than {per_class} of class {classes[counts < per_class].tolist()}")
    return torch.cat([torch.where(labels == c, keys, 2.0).argsort()[:per_class] for c in classes])


# %% [markdown]
# ### Try it: 1,000 labels, drawn fairly and left to chance

# %% tags=["picture"]
many = torch.randint(10, (50_000,), generator=torch.Generator().manual_seed(SEED))
for name, per_class in (("1,000", 100), ("50", 5)):
    fair = torch.bincount(many[class_balanced_subset(many, per_class, seed=SEED)], minlength=10)
    chance = torch.bincount(many[: 10 * per_class], minlength=10)
    print(f"{name:>5} labels of 10 classes: drawn by class {fair.min():>3} to {fair.max():>3} of each; left to chance {chance.min():>3} to {chance.max():>3}")

# %% [markdown]
# **What to see.** With a thousand labels chance is nearly fair; with fifty, some classes have several times as many examples as others.

# %% [markdown]
# ## Exercise 3 · `standardise`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# The SVM's penalty is on $\lVert w \rVert^2$: a feature of small scale needs a large weight and is punished for it. The layers of a network differ in scale, so bring each feature to mean 0 and deviation 1:
#
# $$\tilde x_{ij} = \frac{x_{ij} - \mu_j}{\sigma_j}, \qquad \mu_j = \frac1N \sum_i x_{ij}, \quad \sigma_j^2 = \frac1N \sum_i (x_{ij} - \mu_j)^2, \qquad \text{sums over the training images.}$$
#
# The test images are measured with the **training** images' $\mu$ and $\sigma$. Their own would be information from the test set, and one test image alone would have no deviation.
#
# A feature that never varies has $\sigma = 0$. On a computer it often has a little more: the mean of thirteen times 0.7 is rounded, every value then differs from it by some $10^{-7}$, and so does $\sigma$ from 0. The values themselves are exact.


# %% tags=["export"]
def standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features with mean 0 and deviation 1 over the training images, and the test images on the same scale.

    Args:
        train: (N, D). test: (M, D).

    Returns: new tensors (N, D) and (M, D), of the same dtype. σ is the root of the mean square
        (division by N, not N − 1). A feature that is the same in all training images is only
        shifted, in both.
    """
    ### BEGIN SOLUTION
    mean = train.mean(dim=0)
    deviation = train.std(dim=0, correction=0)
    constant = (train == train[0]).all(dim=0)  # asked of the values: the deviation of equal numbers may be rounded to 1e-8
    deviation = torch.where(constant, torch.ones_like(deviation), deviation)
    return (train - mean) / deviation, (test - mean) / deviation
    ### END SOLUTION


# %%
@check("standardise", points=2, forbid=["sklearn.preprocessing.*"])
def _(case):
    def scaled(name, train, test):
        return case.call(name, standardise, train, test, labels=("training", "test"), policy={"tol": 1e-3})

    def features(n, d):  # every feature with a mean and a deviation of its own
        return case.normal(n, d) * case.uniform(d, low=0.2, high=4.0) + case.normal(d, scale=3.0)

    def split(n, m, d):
        both = features(n + m, d)
        return both[:n], both[n:]

    scaled("one feature", torch.tensor([[1.0], [3.0], [5.0], [7.0]], device=case.device), torch.tensor([[4.0], [13.0]], device=case.device))
    scaled("three features, five training images, two test images", *split(5, 2, 3))
    scaled("one test image", *split(6, 1, 4))
    train, test = split(4, 3, 3)
    train[:, 1], test[:, 1] = 2.0, torch.tensor([2.0, 5.0, -1.0])
    scaled("the second feature is always 2 in training", train, test)
    train, test = split(7, 4, 5)
    scaled("test images of another kind", train, 3 * test + 2)
    scaled("float64 stays float64", *[x.double() for x in split(5, 2, 3)])
    scaled("features of very different size", *[x * torch.tensor([1e-4, 1.0, 1e3], device=case.device) for x in split(9, 2, 3)])
    ### BEGIN HIDDEN TESTS
    scaled("many features, few images", *split(3, 2, 40))
    train, test = split(6, 5, 4)
    train[:, 0], test[:, 0] = 0.0, 0.0
    train[:, 3] = -4.0
    scaled("two constant features, one of them 0 everywhere", train, test)
    scaled("transposed, not contiguous", *[x.T.contiguous().T for x in split(8, 3, 6)])
    scaled("two training images", *split(2, 5, 3))
    scaled("one training image: every feature is constant", *split(1, 3, 4))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
equivalents("standardise", {
    "detach added: `return (train - mean) / deviation, (test - mean) / deviation` → `return ((train - mean) / deviation).detach(), (test - mean) / deviation`": "features come from a frozen network: there is no gradient to lose",
})  # fmt: skip
hints(
    "standardise",
    "Which numbers may you know before you have seen a single test image?",
    "The formula above: over which index do the sums run, and over whose images?",
    "Mean and deviation of each column of the training matrix, the deviation with division by N; where all of a column's values equal the first, put 1; subtract and divide in both matrices.",
)
misconceptions(
    "standardise",
    mistake(
        "the test set's own",
        ("(test - mean) / deviation", "(test - test.mean(dim=0)) / torch.where(test.std(dim=0, correction=0) == 0, torch.ones_like(mean), test.std(dim=0, correction=0))"),
        says="The test images are scaled with their own mean and deviation. That is knowledge of the test set, and the classifier meets a scale that it was not trained on.",
    ),
    mistake(
        "both together",
        ("    mean = train.mean(dim=0)\n    deviation = train.std(dim=0, correction=0)", "    mean = torch.cat([train, test]).mean(dim=0)\n    deviation = torch.cat([train, test]).std(dim=0, correction=0)"),
        says="Mean and deviation are taken over training and test images together: the test set leaks into training. The training images alone decide.",
    ),
    mistake("each image by itself", ("    mean = train.mean(dim=0)\n    deviation = train.std(dim=0, correction=0)", "    test = (test - test.mean(1, True)) / test.std(1, keepdim=True, correction=0).clamp(min=1e-12)\n    train = (train - train.mean(1, True)) / train.std(1, keepdim=True, correction=0).clamp(min=1e-12)\n    return train, test\n    mean, deviation = 0, torch.ones(1)"), says="Each image is scaled by itself, across its features; each *feature* is to be scaled, across the images."),
    mistake("one number for all", ("    mean = train.mean(dim=0)\n    deviation = train.std(dim=0, correction=0)", "    mean = train.mean()\n    deviation = train.std(correction=0)"), says="One mean and one deviation for all features together: they still differ in scale. Each feature has its own."),
    mistake("N − 1", ("train.std(dim=0, correction=0)", "train.std(dim=0)"), says="The deviation is divided by N − 1 (torch's default); the formula has N."),
    mistake("the variance", ("train.std(dim=0, correction=0)", "train.var(dim=0, correction=0)"), says="The features are divided by their variance instead of its root."),
    mistake("not centred", ("(train - mean) / deviation, (test - mean) / deviation", "train / deviation, test / deviation"), says="The features are divided by their deviation, but not centred."),
    mistake("only centred", ("(train - mean) / deviation, (test - mean) / deviation", "train - mean, test - mean"), says="The features are centred, but keep their scale."),
    mistake("only the training images", ("(test - mean) / deviation", "test.clone()"), says="The test images stay as they were; they have to go through the same scaling as the training images."),
    mistake("the wrong order", ("(train - mean) / deviation, (test - mean) / deviation", "train / deviation - mean, test / deviation - mean"), says="The features are divided first and centred afterwards, with a mean that no longer fits."),
    mistake("constant features", ("    deviation = torch.where(constant, torch.ones_like(deviation), deviation)\n", ""), says="A feature that is constant in training is divided by 0 and gives NaN or infinity. Leave its scale alone."),
    mistake("constant features blown up", ("torch.where(constant, torch.ones_like(deviation), deviation)", "deviation.clamp(min=1e-6)"), says="A feature that is constant in training is divided by something tiny: in a test image it becomes enormous and decides alone. Divide it by 1."),
    mistake("small spreads taken for constant", ("(train == train[0]).all(dim=0)", "deviation < 1e-3"), says="A feature with a deviation below a fixed bar is left as it is. Small is not constant: its scale may be small altogether, and then it is exactly what needs scaling. Ask whether all values are equal."),
    mistake("constant features put to 0", ("(test - mean) / deviation", "torch.where(constant, torch.zeros_like(mean), (test - mean) / deviation)"), says="A feature that is constant in training is set to 0 in the test images; it is only to be shifted."),
    mistake("a little added", ("torch.where(constant, torch.ones_like(deviation), deviation)", "torch.where(constant, torch.ones_like(deviation), (deviation**2 + 1e-2).sqrt())"), says="Something is added to the variance, so features of small scale stay small."),
    mistake("to [0, 1]", ("    mean = train.mean(dim=0)\n    deviation = train.std(dim=0, correction=0)", "    mean = train.min(dim=0).values\n    deviation = train.max(dim=0).values - mean"), says="The features are brought to [0, 1] by their smallest and largest value; mean 0 and deviation 1 are wanted."),
    mistake("in place", ("    return (train - mean)", "    train.sub_(mean).div_(deviation)\n    return train, (test - mean) / deviation\n    return (train - mean)"), says="The caller's features are changed in place."),
    mistake("the test images first", ("return (train - mean) / deviation, (test - mean) / deviation", "return (test - mean) / deviation, (train - mean) / deviation"), says="The two come back in the wrong order: training first."),
    mistake("float32", ("    mean = train.mean(dim=0)\n", "    train, test = train.float(), test.float()\n    mean = train.mean(dim=0)\n"), says="The result is float32 whatever came in; keep the dtype."),
)


# %% tags=["alternative"]
@alternative("the formula")
def standardise(train, test):
    n = train.shape[0]
    mu = train.sum(0) / n
    sigma = ((train - mu) ** 2).sum(0).div(n).sqrt()
    sigma[(train == train[0]).all(0)] = 1.0
    return (train - mu) / sigma, (test - mu) / sigma


# %% tags=["alternative"]
@alternative("column by column")
def standardise(train, test):
    a, b = train.clone(), test.clone()
    for j in range(train.size(1)):
        mean, std = train[:, j].mean(), train[:, j].std(unbiased=False)
        a[:, j] -= mean
        b[:, j] -= mean
        if train[:, j].unique().numel() > 1:
            a[:, j] /= std
            b[:, j] /= std
    return a, b


# %% tags=["alternative"]
@alternative("numpy in float64")
def standardise(train, test):
    x, y = train.double().cpu().numpy(), test.double().cpu().numpy()
    scale = x.std(axis=0)
    scale = np.where(scale > 1e-9 * abs(x).max(axis=0), scale, 1)
    back = [torch.from_numpy((z - x.mean(axis=0)) / scale).to(train) for z in (x, y)]
    return back[0], back[1]


# %% tags=["alternative"]
@alternative("var_mean and rsqrt")
def standardise(train, test):
    variance, mean = torch.var_mean(train, dim=0, correction=0, keepdim=True)
    factor = torch.where(train.amax(0) > train.amin(0), variance.rsqrt(), torch.ones_like(variance))
    return tuple((x - mean) * factor for x in (train, test))


# %% [markdown]
# ### Try it: how the layers differ

# %% tags=["picture"]
some = torch.from_numpy(drawn_glyphs(60, seed=SEED + 4)[0]).permute(0, 3, 1, 2).float() / 127.5 - 1
found = extract_features(fresh, some)
after, _ = standardise(found, found)
begin = 0
for number, channels in enumerate((64, 128, 256, 512), 1):
    layer = slice(begin, begin + 16 * channels)
    begin += 16 * channels
    print(f"layer {number}: median deviation of a feature {found[:, layer].std(0).median():.2e}, standardised {after[:, layer].std(0, correction=0).median():.2f}")

# %% [markdown]
# **What to see.** In the untrained network above (its batch-norms have not seen any image yet) the deviations shrink from layer to layer. A penalty counts their squares, so without scaling a classifier would listen to the first layer and hardly to the last.

# %% [markdown]
# ## Exercise 4 · `squared_hinge_loss`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# A linear SVM scores each class by $s_k = w_k^\top x + b_k$. “L2-SVM” means the *squared* hinge, one class against the rest: with $y_k = +1$ for the image's own class and $-1$ for every other,
#
# $$L = \frac1N \sum_{i=1}^{N} \sum_{k=1}^{C} \max(0,\; 1 - y_{ik}\, s_{ik})^2, \qquad \min_{W, b}\; \tfrac12 \lVert W \rVert^2 + \tfrac12 \lVert b \rVert^2 + c\,N\,L.$$
#
# $c$ is `LinearSVC`'s argument `C`: the larger, the less regularised. (`LinearSVC` punishes the bias too.) An image that is on the right side by a margin of 1 costs nothing and pulls at nothing; what is left are the *support vectors*.


# %% tags=["export"]
def squared_hinge_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """The loss of a one-against-the-rest linear L2-SVM: the mean over images of the sum over classes.

    Args:
        scores: (N, C), one for each class.
        labels: (N,), int64, in [0, C).

    Returns: one number, in the dtype of the scores, that gradients flow through.

    May not call F.multi_margin_loss, nn.MultiMarginLoss, the other margin and hinge losses of
    torch, or sklearn.metrics.
    """
    ### BEGIN SOLUTION
    signs = 2 * F.one_hot(labels, scores.size(1)).to(scores.dtype) - 1  # (N, C): +1 for the own class, −1 for the others
    return (1 - signs * scores).clamp(min=0).square().sum(dim=1).mean()
    ### END SOLUTION


# %%
@check(
    "squared_hinge_loss",
    points=3,
    forbid=["torch.nn.functional.multi*margin_loss", "torch.nn.functional.*hinge*", "torch.nn.MultiMarginLoss", "torch.nn.MultiLabel*", "torch.nn.Hinge*", "torch.nn.SoftMarginLoss", "sklearn.metrics.*"],
    paper="section 5.1, “a regularized linear L2-SVM”",
)
def _(case):
    def loss(name, scores, labels, slope=True):
        scores = scores.requires_grad_()
        value = case.call(name, squared_hinge_loss, scores, labels)
        if slope:
            case.gradients(f"{name}: gradient", value, scores)

    loss("one image, two classes", torch.tensor([[0.5, -0.25]], device=case.device), torch.tensor([0], device=case.device))
    # (a loop may leave out what costs nothing, and with it the way of the gradient)
    loss("well classified: nothing to pay", torch.tensor([[-1.5, 2.0, -3.0]], device=case.device), torch.tensor([1], device=case.device), slope=False)
    loss("the margin has to be kept by the others too", torch.tensor([[3.0, 0.5, -0.5]], device=case.device), torch.tensor([0], device=case.device))
    loss("three images, four classes", case.normal(3, 4, scale=1.5), torch.tensor([2, 0, 3], device=case.device))
    loss("on the wrong side", torch.tensor([[-2.0, 3.0], [4.0, -1.0]], device=case.device), torch.tensor([0, 1], device=case.device))
    loss("a class without an image", case.normal(5, 3), torch.tensor([0, 2, 2, 0, 0], device=case.device))
    loss("float64 stays float64", case.normal(2, 5, dtype=torch.float64), torch.tensor([4, 1], device=case.device))
    ### BEGIN HIDDEN TESTS
    loss("seven images, three classes", case.normal(7, 3, scale=2.0), case.integers(0, 3, 7))
    loss("one class alone", case.normal(4, 1), torch.zeros(4, dtype=torch.int64, device=case.device))
    loss("large scores", case.normal(6, 4, scale=300.0), case.integers(0, 4, 6))
    loss("not contiguous", case.normal(4, 6).T, case.integers(0, 4, 6))
    loss("exactly at the margin", torch.tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 0.0]], device=case.device), torch.tensor([0, 1], device=case.device))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
equivalents("squared_hinge_loss", {
    "call dropped: `signs = 2 * F.one_hot(labels, scores.size(1)).to(scores.dtype) - 1` → `signs = 2 * F.one_hot(labels, scores.size(1)) - 1`": "in the product with the scores, integers take on their dtype",
    "variable: `signs = 2 * F.one_hot(labels, scores.size(1)).to(scores.dtype) - 1` → `signs = 2 * F.one_hot(labels, scores.size(1)).to(labels.dtype) - 1`": "in the product with the scores, integers take on their dtype",
})  # fmt: skip
hints(
    "squared_hinge_loss",
    "Write the table of $y_{ik}$ for three images and four classes. How many +1 are there in a row?",
    "The formula above: outside in, a mean over images, a sum over classes, a square, and inside it what is missing to a margin of 1, or 0.",
    "Make the table of +1 and −1 from the labels, multiply it with the scores, subtract from 1, cut off what is negative, square, sum over classes, mean over images.",
)
misconceptions(
    "squared_hinge_loss",
    mistake("not squared", (".square()", ""), says="The hinge is not squared: that is the L1-SVM. The paper's is the L2-SVM."),
    mistake("no hinge", (".clamp(min=0)", ""), says="Scores beyond the margin are punished as well: without the max(0, ·) this is least squares, not a hinge."),
    mistake("no margin", ("(1 - signs * scores)", "(-signs * scores)"), says="There is no margin: whatever is on the right side costs nothing. A margin of 1 is to be kept."),
    mistake("the sign", ("(1 - signs * scores)", "(1 + signs * scores)"), says="The sign is the wrong way round: right answers are punished."),
    mistake("0 and 1", ("2 * F.one_hot(labels, scores.size(1)).to(scores.dtype) - 1", "F.one_hot(labels, scores.size(1)).to(scores.dtype)"), says="The other classes have y = 0, so their scores do not count (and cost 1 each); they have y = −1."),
    mistake("only the own class", (".square().sum(dim=1)", ".square()[torch.arange(len(labels)), labels]"), says="Only the score of the own class counts; the others have to stay below −1."),
    mistake("only the others", (".square().sum(dim=1)", ".square().sum(dim=1).sub((1 - scores[torch.arange(len(labels)), labels]).clamp(min=0).square())"), says="Only the scores of the other classes count; the own one has to rise above 1."),
    mistake("mean over the classes", (".sum(dim=1).mean()", ".mean()"), says="The mean is taken over classes too; the formula sums over them."),
    mistake("summed over the images", (".sum(dim=1).mean()", ".sum()"), says="The losses of the images are summed; the mean is wanted, so that a larger batch is no larger step."),
    mistake("mean over classes, sum over images", (".sum(dim=1).mean()", ".sum(dim=0).mean()"), says="It is summed over the images and averaged over the classes; the other way round."),
    mistake(
        "against the own score",
        ("    signs = 2", "    own = scores.gather(1, labels[:, None])\n    other = (1 + scores - own).clamp(min=0).square()\n    return (other.sum(dim=1) - 1).mean()\n    signs = 2"),
        says="The classes' scores are compared with the own class's (the multi-class SVM of Weston and Watkins). `LinearSVC` trains each class against the rest: compare each score with its own margin.",
    ),
    mistake(
        "against the best other",
        ("    signs = 2", "    own = scores.gather(1, labels[:, None]).squeeze(1)\n    best = scores.scatter(1, labels[:, None], -1e9).amax(dim=1)\n    return (1 + best - own).clamp(min=0).square().mean()\n    signs = 2"),
        says="The own score is compared with the best of the others (Crammer and Singer's multi-class SVM). `LinearSVC` trains each class against the rest: compare each score with its own margin.",
    ),
    mistake("cross-entropy", ("    signs = 2", "    return F.cross_entropy(scores, labels)\n    signs = 2"), says="This is the cross-entropy of a softmax; an SVM has a hinge, which is exactly 0 beyond the margin."),
    mistake("logistic", (".clamp(min=0).square()", ".sub(1).exp().log1p()"), says="This is the logistic loss, which never is exactly 0; the hinge is, beyond the margin."),
    mistake("half of it", (".square()", ".square().div(2)"), says="There is a factor of ½ too much."),
    mistake("the square of the sum", (".square().sum(dim=1)", ".sum(dim=1).square()"), says="It is summed over the classes before squaring; each class is squared by itself."),
    mistake("the root", (".sum(dim=1).mean()", ".sum(dim=1).sqrt().mean()"), says="The root of each image's loss is taken; the squares are to stay squares."),
    mistake("detached", (".sum(dim=1).mean()", ".sum(dim=1).mean().detach()"), says="No gradient flows through the loss (`detach`, `item` or `no_grad`), so nothing can be fitted with it."),
    mistake("float32", ("scores.size(1)).to(scores.dtype)", "scores.size(1)).float()"), ("(1 - signs * scores)", "(1 - signs * scores.float())"), says="The loss is float32 whatever the scores are; keep their dtype."),
)


# %% tags=["alternative"]
@alternative("two terms, own class and others")
def squared_hinge_loss(scores, labels):
    own = scores.gather(1, labels.unsqueeze(1)).squeeze(1)
    everyone = F.relu(1 + scores) ** 2
    return (everyone.sum(1) - F.relu(1 + own) ** 2 + F.relu(1 - own) ** 2).sum() / len(labels)


# %% tags=["alternative"]
@alternative("loops")
def squared_hinge_loss(scores, labels):
    total = scores.new_zeros(())
    for row, label in zip(scores, labels.tolist()):
        for k in range(len(row)):
            y = 1 if k == label else -1
            total = total + max(torch.zeros_like(row[k]), 1 - y * row[k]) ** 2
    return total / scores.shape[0]


# %% tags=["alternative"]
@alternative("scatter and where")
def squared_hinge_loss(scores, labels):
    y = torch.full_like(scores, -1.0).scatter_(1, labels[:, None], 1.0)
    margin = y * scores
    return torch.where(margin < 1, (1 - margin).pow(2), torch.zeros_like(margin)).mean() * scores.size(1)


# %% tags=["alternative"]
@alternative("compared with the numbers of the classes, einsum")
def squared_hinge_loss(scores, labels):
    own = labels[:, None] == torch.arange(scores.shape[1], device=scores.device)
    short = torch.relu(1 - torch.where(own, scores, -scores))
    return torch.einsum("nc,nc->n", short, short).mean(0)


# %% [markdown]
# ### Try it: three losses, and the same minimum as `LinearSVC`

# %% tags=["picture"]
def linear_svm(features, labels, C=0.01, steps=60):
    """Weights (D + 1, classes) that minimise the L2-SVM's objective on (N, D) features; the last row is the bias. By L-BFGS."""
    x = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    weight = x.new_zeros(x.size(1), int(labels.max()) + 1).requires_grad_()
    descent = torch.optim.LBFGS([weight], max_iter=steps, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def objective():
        descent.zero_grad()
        value = squared_hinge_loss(x @ weight, labels) + weight.square().sum() / (2 * C * len(x))
        value.backward()
        return value

    descent.step(objective)
    return weight.detach()


blobs = torch.randn(90, 5, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
names = torch.arange(3).repeat(30)
blobs[torch.arange(90), names] += 2.0
ours = linear_svm(blobs, names, C=0.5, steps=300)
theirs = LinearSVC(C=0.5, tol=1e-8, max_iter=100_000, dual=True).fit(blobs, names)
both = np.concatenate([theirs.coef_.T, theirs.intercept_[None]])
print(f"largest difference between our weights and LinearSVC's: {np.abs(ours.numpy() - both).max():.1e} (weights up to {np.abs(both).max():.2f})")

margin = torch.linspace(-2.0, 3.0, 200)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.plot(margin, (margin <= 0).float(), color=GREY, label="wrong or right (0/1)")
axis.plot(margin, (1 - margin).clamp(min=0), "--", color=ORANGE, label="hinge (L1-SVM)")
axis.plot(margin, [squared_hinge_loss(m.view(1, 1), torch.tensor([0])) for m in margin], color=BLUE, label="squared hinge (L2-SVM)")
axis.plot(margin, torch.log1p(torch.exp(-margin)), ":", color=GREEN, label="logistic")
axis.set(xlabel=r"$y\,s$, how far on the right side", ylabel="loss", ylim=(-0.2, 5))
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** Beyond the margin of 1 both hinges are exactly 0; the logistic loss never is. Far on the wrong side the square grows fastest: one bad image pulls hard. And the loss of this exercise has its minimum where scikit-learn's `LinearSVC` finds it.

# %% [markdown]
# ## Exercise 5 · `triangle_encoding`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# The paper's baselines in table 1 are built on k-means: cut patches out of images, find $K$ centres (week 0's `k_means`), and describe every patch by how near it is to each. With the “triangle” code of Coates and Ng (2011),
#
# $$z_k = \lVert x - c_k \rVert, \qquad f_k(x) = \max(0,\; \bar z - z_k), \qquad \bar z = \frac1K \sum_{k=1}^{K} z_k,$$
#
# a feature is positive where the centre is nearer than the average centre, and 0 otherwise: about half of them. No gradient, no network, no adversary: that is what a GAN's features have to beat.


# %% tags=["export"]
def triangle_encoding(patches: Tensor, centres: Tensor) -> Tensor:
    """How much nearer than the average each centre is (Coates and Ng's triangle code).

    Args:
        patches: (…, d), any leading dimensions.
        centres: (K, d).

    Returns: (…, K), not negative; 0 for a centre that is as far as the average or farther.
        Distances are Euclidean, not squared.
    """
    ### BEGIN SOLUTION
    distances = torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)  # (…, 1, d) − (K, d) → (…, K)
    return (distances.mean(dim=-1, keepdim=True) - distances).clamp(min=0)
    ### END SOLUTION


# %%
@check("triangle_encoding", points=3, paper="section 5.1, its baselines; Coates and Ng (2011)")
def _(case):
    def encode(name, patches, centres):
        return case.call(name, triangle_encoding, patches, centres)

    encode("one patch, two centres on a line", torch.tensor([[0.0]], device=case.device), torch.tensor([[1.0], [4.0]], device=case.device))
    encode("two patches, three centres in a plane", case.normal(2, 2), case.normal(3, 2))
    encode("five patches, four centres", case.normal(5, 6, scale=2.0), case.normal(4, 6))
    encode("images of patches: (2, 3, 4)", case.normal(2, 3, 4), case.normal(5, 4))
    encode("one patch without leading dimensions", case.normal(7), case.normal(3, 7) * torch.tensor([[1.0], [2.0], [3.0]], device=case.device))
    encode("one centre: nothing is nearer than the average", case.normal(4, 3), case.normal(1, 3))
    encode("centres far away from the patches", case.normal(3, 4), 20 + case.normal(6, 4, scale=3.0))
    encode("float64 stays float64", case.normal(2, 5, dtype=torch.float64), case.normal(3, 5, dtype=torch.float64))
    centres = case.normal(40, 27)
    case.call("forty patches that are the centres themselves", triangle_encoding, centres, centres, policy={"tol": 5e-3})  # the root of a rounded 0 is some 1e-3
    ### BEGIN HIDDEN TESTS
    encode("more centres than patches", case.normal(2, 3), case.normal(11, 3))
    encode("two leading dimensions, eight centres", case.normal(3, 2, 5), case.normal(8, 5, scale=1.5))
    encode("not contiguous", case.normal(6, 4).T, case.normal(6, 5).T)
    alike = triangle_encoding(case.normal(3, 4), case.normal(1, 4).expand(3, 4))
    case.record("all centres alike: none is nearer", float(alike.abs().max()), at_most=1e-5, about="largest feature")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
equivalents("triangle_encoding", {
    "operands: `distances = torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)` → `distances = torch.linalg.vector_norm(centres - patches.unsqueeze(-2), dim=-1)`": "a distance is the same from either end",
})  # fmt: skip
hints(
    "triangle_encoding",
    "For one patch and three centres at distances 1, 2 and 6: what is the average, and which features are positive?",
    "The formula above. The average runs over the centres, for each patch by itself.",
    "All distances of patches to centres, by broadcasting or `torch.cdist`; their mean over the centres, kept as an axis; the mean minus the distances; what is negative becomes 0.",
)
misconceptions(
    "triangle_encoding",
    mistake("squared distances", ("dim=-1)  # (…, 1, d)", "dim=-1).square()  # (…, 1, d)"), says="The distances are squared; z is the distance itself."),
    mistake("the nearest alone", ("(distances.mean(dim=-1, keepdim=True) - distances).clamp(min=0)", "F.one_hot(distances.argmin(dim=-1), len(centres)).to(distances.dtype)"), says="Only the nearest centre counts, with a 1 (hard assignment). The triangle code keeps how near all the near ones are; Coates and Ng found it far better."),
    mistake("not cut off", (".clamp(min=0)", ""), says="Centres farther away than the average give negative features; they give 0."),
    mistake("the far ones", ("(distances.mean(dim=-1, keepdim=True) - distances)", "(distances - distances.mean(dim=-1, keepdim=True))"), says="It is the far centres that are positive; the near ones should be."),
    mistake("the distances", ("(distances.mean(dim=-1, keepdim=True) - distances).clamp(min=0)", "distances"), says="The distances themselves are returned; near centres should give large features, and far ones 0."),
    mistake("averaged over the patches", ("distances.mean(dim=-1, keepdim=True)", "distances.reshape(-1, len(centres)).mean(dim=0)"), says="The average runs over the patches; each patch is compared with its own average over the centres."),
    mistake("averaged over everything", ("distances.mean(dim=-1, keepdim=True)", "distances.mean()"), says="One average over all patches and centres is used; each patch is compared with its own."),
    mistake("the median", ("distances.mean(dim=-1, keepdim=True)", "distances.median(dim=-1, keepdim=True).values"), says="The median takes the place of the mean."),
    mistake("the farthest", ("distances.mean(dim=-1, keepdim=True)", "distances.amax(dim=-1, keepdim=True)"), says="The distances are compared with the largest one instead of the mean, so nearly every feature is positive."),
    mistake("absolute differences", ("torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)", "(patches.unsqueeze(-2) - centres).abs().sum(dim=-1)"), says="The distance is the sum of absolute differences; the Euclidean one is wanted."),
    mistake("root of the mean square", ("dim=-1)  # (…, 1, d)", "dim=-1) / patches.size(-1) ** 0.5  # (…, 1, d)"), says="The squares are averaged over the components instead of summed: everything is too small by √d."),
    mistake("dot products", ("torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)", "-(patches.unsqueeze(-2) * centres).sum(dim=-1)"), says="Patches and centres are compared by dot product, which also depends on how long they are; the distance is wanted."),
    mistake(
        "the root of less than 0",
        ("torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)", "(patches.square().sum(-1, keepdim=True) + centres.square().sum(-1) - 2 * patches @ centres.T).sqrt()"),
        says="The squared distance is taken apart into ‖x‖² + ‖c‖² − 2x·c. Where a patch is a centre, rounding leaves a little less than 0, and its root is NaN; k-means does make single patches centres. Clamp it at 0 before the root.",
    ),
    mistake("directions", ("torch.linalg.vector_norm(patches.unsqueeze(-2) - centres, dim=-1)", "torch.linalg.vector_norm(F.normalize(patches, dim=-1).unsqueeze(-2) - F.normalize(centres, dim=-1), dim=-1)"), says="Patches and centres are scaled to length 1 first; take them as they are."),
    mistake("softmax", ("(distances.mean(dim=-1, keepdim=True) - distances).clamp(min=0)", "torch.softmax(-distances, dim=-1)"), says="This is a softmax over the distances; the triangle code is a difference, cut off at 0."),
    mistake("divided by the average", ("(distances.mean(dim=-1, keepdim=True) - distances)", "(1 - distances / distances.mean(dim=-1, keepdim=True))"), says="The difference is divided by the average; the formula does not."),
    mistake("float32", ("patches.unsqueeze(-2) - centres", "patches.float().unsqueeze(-2) - centres.float()"), says="The result is float32 whatever came in; keep the dtype."),
)


# %% tags=["alternative"]
@alternative("cdist")
def triangle_encoding(patches, centres):
    z = torch.cdist(patches.reshape(-1, patches.size(-1)), centres.contiguous(), compute_mode="donot_use_mm_for_euclid_dist")
    return F.relu(z.mean(1, keepdim=True) - z).view(*patches.shape[:-1], len(centres))


# %% tags=["alternative"]
@alternative("the binomial formula, in float64")
def triangle_encoding(patches, centres):
    x, c = patches.double(), centres.double()
    squares = x.square().sum(-1, keepdim=True) - 2 * x @ c.T + c.square().sum(-1)
    z = squares.clamp(min=0).sqrt()
    f = z.mean(-1, keepdim=True) - z
    return torch.maximum(f, torch.zeros_like(f)).to(patches.dtype)


# %% tags=["alternative"]
@alternative("centre by centre")
def triangle_encoding(patches, centres):
    z = torch.stack([((patches - centre) ** 2).sum(dim=-1) ** 0.5 for centre in centres], dim=-1)
    average = z.sum(dim=-1) / centres.shape[0]
    f = average[..., None] - z
    return torch.where(f > 0, f, torch.zeros_like(f))


# %% tags=["alternative"]
@alternative("numpy, patch by patch")
def triangle_encoding(patches, centres):
    rows, c = patches.reshape(-1, patches.shape[-1]).numpy(), centres.numpy()
    out = np.empty((len(rows), len(c)), dtype=rows.dtype)
    for i, row in enumerate(rows):
        z = np.linalg.norm(c - row, axis=1)
        out[i] = np.clip(z.mean() - z, 0, None)
    return torch.from_numpy(out).reshape(*patches.shape[:-1], len(c))


# %% [markdown]
# ## The baseline, whole
#
# Around the triangle code stands Coates and Ng's pipeline: patches of 6 × 6, each brought to the same brightness and contrast; whitened, so that no direction dominates because neighbouring pixels are alike; encoded; and averaged over the four quadrants of the image, which
# gives $4K$ features.

# %% tags=["picture"]
def normalised_patches(images, side=6):
    """Overlapping patches of (B, C, H, W), each with mean 0 and deviation 1: (B, patches, C · side²), and how many a row."""
    stride = images.size(-1) // 16
    found = F.unfold(images, side, stride=stride).transpose(1, 2)
    found = found - found.mean(dim=-1, keepdim=True)
    return found / (found.var(dim=-1, keepdim=True) + 0.05).sqrt(), (images.size(-1) - side) // stride + 1


def fit_k_means(images, k=64, count=4000, steps=10, seed=0):
    """Centres of whitened random patches of the images, and what whitens: (centres (k, d), mean (d,), matrix (d, d))."""
    generator = torch.Generator().manual_seed(seed)
    found = normalised_patches(images)[0].flatten(0, 1)
    found = found[torch.randperm(len(found), generator=generator)[:count]]
    mean = found.mean(dim=0)
    values, directions = torch.linalg.eigh(torch.cov(found.T))
    whiten = directions @ torch.diag((values.clamp(min=0) + 0.1).rsqrt()) @ directions.T
    found = (found - mean) @ whiten
    return k_means(found, found[:k], steps)[0], mean, whiten


def k_means_features(images, centres, mean, whiten):
    """Triangle codes averaged over four quadrants: (B, 4 · K)."""
    found, side = normalised_patches(images)
    codes = triangle_encoding((found - mean) @ whiten, centres)  # (B, side², K)
    grid = codes.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (B, K, side, side)
    return F.adaptive_avg_pool2d(grid, 2).flatten(1)


# %% [markdown]
# ## The experiment
#
# A discriminator is trained on images without their labels (week 4's `train`). Then the same few labelled images are described in four ways, and the same SVM is fitted to each:
#
# | description | what it knows |
# | --- | --- |
# | pixels | nothing |
# | k-means | what patches are common |
# | random D | the architecture alone: the very network, untrained; only its batch-norms have seen the images |
# | trained D | the architecture, and what it took to tell real images from generated ones |
#
# The third line is not in the paper. It is the one that tells what *training* adds: a convolutional network with random filters and max-pooling is no mean feature extractor.
#
# How strongly to regularise is chosen for each description on validation images; the test images are used once, at the end. (The authors' code does so for SVHN, too.) A linear SVM looks at its training images only through their inner products, so more
# features than images can be turned into as many coordinates as there are images, without any change to the result: that makes it quick.
#
# With `PROFILE = "full"` the images are CIFAR-10 and SVHN, from `DATA_DIR` or downloaded. Each D is trained on its own training set.

# %% tags=["picture"]
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)
quick = PROFILE == "quick"
ndf, epochs, batch, per_class, draws = (16, 2, 32, (2, 5, 20), 3) if quick else (64, 25, 128, (10, 100, 400), 5)
tested = 10_000
if STEPS and not quick:
    ndf, batch, draws, tested = 32, 32, 1, 5_000


def as_tensors(images, labels):
    """uint8 images (N, H, W, 3) and labels as tensors, colours first."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).contiguous(), torch.as_tensor(labels, dtype=torch.int64)


def prepare(images):
    """uint8 (B, 3, H, W) to what the discriminator takes: (B, 3, 64, 64) in [-1, 1]."""
    x = images.float() / 127.5 - 1
    return x if x.size(-1) == 64 else F.interpolate(x, size=64, mode="bilinear", antialias=True)


def load(name):
    """(training images, labels, test images, labels) of "glyphs", "cifar10" or "svhn"."""
    if name == "glyphs":
        return *as_tensors(*drawn_glyphs(2000, seed=SEED)), *as_tensors(*drawn_glyphs(600, seed=SEED + 1))
    folder = data_folder(DATA_DIR)
    parts = [real_images(name, folder or "data/downloads", train=part, download=folder is None) for part in (True, False)]
    if name == "svhn":
        return tuple(piece for part in parts for piece in as_tensors(part.data.transpose(0, 2, 3, 1), part.labels))
    return tuple(piece for part in parts for piece in as_tensors(part.data, part.targets))


class Prepared(TensorDataset):
    """Images and labels, the images prepared when they are asked for."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return prepare(image[None])[0], label


def describe(images, discriminator):
    """`extract_features` in pieces that fit into memory, on the CPU."""
    return torch.cat([extract_features(discriminator, prepare(piece).to(device)).cpu() for piece in images.split(200)])


def accuracy(train_features, train_labels, test_features, test_labels, C):
    """Of a linear L2-SVM, in percent."""
    x, y = standardise(train_features, test_features)
    if x.size(1) > x.size(0):  # coordinates in the span of the training images: the same inner products, fewer numbers
        basis = torch.linalg.qr(x.T)[0]
        x, y = x @ basis, y @ basis
    weight = linear_svm(x, train_labels, C)
    guesses = (y @ weight[:-1] + weight[-1]).argmax(dim=1)
    return 100 * (guesses == test_labels).double().mean().item()


def probe(train_features, train_labels, held_features, held_labels, test_features, test_labels):
    """{labels a class: accuracies of several draws}; C is chosen on the held-out images, for the middle number of labels."""
    middle = class_balanced_subset(train_labels, per_class[1], seed=SEED)
    trials = {C: accuracy(train_features[middle], train_labels[middle], held_features, held_labels, C) for C in (1e-4, 1e-3, 1e-2, 1e-1)}
    C = max(trials, key=trials.get)
    found = {}
    for n in per_class:
        subsets = [class_balanced_subset(train_labels, n, seed=SEED + draw) for draw in range(draws)]
        found[n] = [accuracy(train_features[chosen], train_labels[chosen], test_features, test_labels, C) for chosen in subsets]
    return found


def train_gan(images, labels):
    """(discriminator, generator, losses) after training on the images; the labels are not used."""
    torch.manual_seed(SEED)
    generator = Generator(100, ndf, 3).apply(init_weights).to(device)
    discriminator = Discriminator(3, ndf).apply(init_weights).to(device)
    noise = torch.Generator().manual_seed(SEED)
    count = min(len(images), batch * STEPS) if STEPS else len(images)  # a short run: fewer images if that is enough, else fewer epochs
    losses = train(
        generator, discriminator, build_dataloader(Prepared(images[:count], labels[:count]), batch, seed=SEED), max(1, min(epochs, STEPS * batch // count)) if STEPS else epochs,
        *build_optimizers(generator, discriminator), build_criterion(), lambda n: torch.randn(n, 100, 1, 1, generator=noise).to(device),
    )  # fmt: skip
    return discriminator, generator, losses


def random_discriminator(images):
    """Untrained, with batch-norm statistics of the images: averages over some batches."""
    torch.manual_seed(SEED + 1)
    discriminator = Discriminator(3, ndf).apply(init_weights).to(device)
    for module in discriminator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average
    with torch.no_grad():
        for piece in images[:500].split(100):
            discriminator(prepare(piece).to(device))
    return discriminator


# %% tags=["picture"]
results, shown = {}, {}
for name in ["glyphs"] if quick else ["cifar10", "svhn"]:
    try:
        images, labels, test_images, test_labels = load(name)
    except DatasetUnavailable as error:
        print(error)
        continue
    started = time.perf_counter()
    discriminator, generator, losses = train_gan(images, labels)
    steps = len(losses["generator"])
    print(f"{name}: {steps} steps of D and G with ndf = {ndf} in {time.perf_counter() - started:.0f} s; last losses D {losses['discriminator'][-1]:.2f}, G {losses['generator'][-1]:.2f}")
    with torch.no_grad():
        shown[name] = generator.eval()(torch.randn(8, 100, 1, 1, generator=torch.Generator().manual_seed(1)).to(device)).cpu()

    # images to choose C by, and apart from them the labelled images
    held = class_balanced_subset(labels, max(4, per_class[-1] // 4), seed=SEED + 100)
    rest = torch.ones(len(labels), dtype=torch.bool).index_fill(0, held, False).nonzero().flatten()
    chosen = rest[class_balanced_subset(labels[rest], min(2 * per_class[-1], int(torch.bincount(labels[rest]).min())), seed=SEED)]
    sets = images[chosen], images[held], test_images[:tested]
    untrained = random_discriminator(images)
    unlabelled, *plain = [part.float() / 127.5 - 1 for part in (images[:1000], *sets)]  # at their own size, as k-means takes them
    centres = fit_k_means(unlabelled, k=64 if quick else 400, count=6000 if quick else 50_000)
    descriptions = {
        "pixels": [F.adaptive_avg_pool2d(part, 32).flatten(1) for part in plain],
        "k-means": [torch.cat([k_means_features(piece, *centres) for piece in part.split(20)]) for part in plain],
        "random D": [describe(part, untrained) for part in sets],
        "trained D": [describe(part, discriminator) for part in sets],
    }
    results[name] = {}
    for kind, (a, b, c) in descriptions.items():
        results[name][kind] = probe(a, labels[chosen], b, labels[held], c, test_labels[:tested])
        report = ", ".join(f"{np.mean(found):.1f}{f' ± {np.std(found):.1f}' if draws > 1 else ''} % with {n}" for n, found in results[name][kind].items())
        print(f"  {kind:<10}{a.size(1):>7,} features: {report} labels a class")


# %% tags=["picture"]
styles = {"pixels": (GREY, "o", ":"), "k-means": (GREEN, "^", "-."), "random D": (ORANGE, "s", "--"), "trained D": (BLUE, "D", "-")}
figure, axes = plt.subplots(1, max(1, len(results)), figsize=(5.6 * max(1, len(results)), 3.6), layout="constrained", squeeze=False)
for axis, (name, found) in zip(axes[0], results.items()):
    for kind, (colour, marker, line) in styles.items():
        mean, spread = (np.array([measure(found[kind][n]) for n in per_class]) for measure in (np.mean, np.std))
        axis.errorbar(per_class, mean, spread, color=colour, marker=marker, linestyle=line, capsize=3, label=kind)
    axis.set(xscale="log", xlabel="labels a class", ylabel="accuracy on test images, %", title=name, ylim=(0, 100))
    axis.set_xticks(per_class, [str(n) for n in per_class])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
if results:
    axes[0, 0].legend(frameon=False)
plt.show()
for name, pictures in shown.items():
    figure, axes = plt.subplots(1, 8, figsize=(9, 1.5), layout="constrained")
    for axis, x in zip(axes, pictures):
        axis.imshow((x.permute(1, 2, 0) + 1) / 2)
        axis.axis("off")
    figure.suptitle(f"{name}: what the generator draws by now", fontsize=10)
    plt.show()

# %% [markdown]
# **What to see.** Markers are means over several draws of the labelled images, bars their standard deviations. With the drawn glyphs, whose colours, size and angle are random, pixels say little about the class. With 20 labels a class the *untrained* discriminator does about three times as well: max-pooled convolutions
# keep shapes and forget where exactly they are. The trained one is above it everywhere, although its generator draws no more than texture yet (lower picture): telling drawings from *that* was enough to learn from. What training has added is the distance to the *dashed* line, not to the dotted one.
#
# And k-means, which needs no network? With few labels it is level with the trained discriminator, with a fraction of the features; with 20 labels a class it falls behind. It moves by several points with the density of its patches, so a baseline deserves as much care as the method. In the paper's
# table, too, DCGAN is a little above k-means, and the exemplar CNN above both.
#
# ### Beside the paper
#
# | | features | labels | CIFAR-10, accuracy |
# | --- | --- | --- | --- |
# | the paper's DCGAN | 28,672, trained on 1.2 million images of ImageNet | 400 a class | 73.8 % |
# | the same | the same | all 50,000 | 82.8 % |
# | yours | printed above with `PROFILE = "full"` | 10, 100, 400 a class | |
#
# Expect less than the paper's: your D has seen 50,000 images instead of 1.2 million, has four layers instead of six, and looks at CIFAR-10 blown up from 32 × 32 to 64 × 64, where its first layer sees hardly more than interpolated pixels.

# %% [markdown] written="what_training_adds" points=3
# ## Question 1 · what is the evidence?
#
# *3 points, graded by a person*
#
# (a) Someone shows that an SVM on a trained D's features beats an SVM on pixels, and concludes that adversarial training has learned a good representation. Which comparison is missing, and what do your own results say about it? (b) The paper's D was trained on ImageNet-1k, and CIFAR-10 is the test.
# Why is that a stronger claim than training D on CIFAR-10's own training images, and in which respect is it a weaker one? (c) Why does the paper not simply take the last hidden layer?
#
# ### BEGIN SOLUTION
# (a) The same network with random weights. Architecture alone (local filters, sharing, pooling) makes features that are better than pixels, so part of the gain is not learned. The plot above has both lines: the untrained D is far above pixels, and the trained one is above the untrained. What training adds is that second step. (K-means, which needs no network, belongs beside it too, and is level with it where labels are few.)
#
# (b) Stronger: the features were never fitted to this dataset, so they are general and not just a memory of CIFAR-10's look; the paper calls it domain robustness. Weaker: ImageNet has 1.2 million images that contain CIFAR's classes many times over, so the network has seen far more (unlabelled) pictures than a method that is
# confined to CIFAR-10; baselines such as k-means were fitted to CIFAR-10 alone. The comparison is of data as well as of methods.
#
# (c) The last layer is what D needs to tell real from generated, and what the generator attacks; it may ignore what does not help that one question. Early layers have edges and colours, later ones parts; the linear classifier picks what it can use. (That it is better can be tried: one slice of the features.)
#
# **Rubric.** 1 point each. (a) random weights named *and* related to the own plot; one of them is ½. (b) both directions; one is ½. (c) any argument from what the last layer is trained for, or from levels of abstraction.
# ### END SOLUTION

# %% [markdown] written="leaks" points=2
# ## Question 2 · four leaks
#
# *2 points, graded by a person*
#
# Which of these four use information that a fair test must not use, and which do not? Say why in a sentence each. (a) D is trained on the test images too, without labels. (b) Mean and deviation are taken over training and test images together. (c) C is chosen so that the accuracy on the test images is highest.
# (d) Batch-norm stays in training mode while the test images' features are computed, in batches sorted by class.
#
# ### BEGIN SOLUTION
# (a) Uses the test images, not their labels: “transductive”. It is not forbidden as such, but it is another task, and must be said; results beside methods that have not seen them are not comparable. (b) The same in small: statistics of the test set enter the training. Usually worth little, and easy to avoid. (c) The worst: test
# *labels* decide about the classifier, and the reported accuracy is the best of several tries; use validation images. (d) Each test image's features depend on the others of its batch, and when batches are sorted by class, the batch's statistics give the class away: the labels leak through batch-norm.
#
# **Rubric.** ½ point each, for the verdict *with* its reason. In (a) both "allowed if said" and "not comparable" count.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - A discriminator's features: all layers, max-pooled to 4 × 4, in evaluation mode, with the network left as it was found.
# - The test of a representation is a linear classifier with few labels, drawn evenly, several times, scaled by the training images alone.
# - Baselines decide what a number means: k-means, pixels, and above all the same network untrained.
#
# **Next**: the project, a DCGAN on images of your own. There `extract_features` serves as a measure, too: distances between features say more about images than distances between pixels.

# %% tags=["picture"]
score()
