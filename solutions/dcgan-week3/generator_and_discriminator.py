# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Generator and discriminator
#     order: 1
#     exports: papers.dcgan.models
#     minutes: 90
# ---

# %% [markdown]
# # Generator and discriminator
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, sections 3 and 4 (figure 1) · about 90 minutes
#
# At the end of this notebook you can
#
# - build the DCGAN generator and discriminator for 64 × 64 images, in any style, and account for every one of their parameters;
# - say what batch normalisation does in training and what in evaluation, and where the paper leaves it out;
# - initialise the weights, and set up the loss and the two optimisers, as the paper does.
#
# **Week 3 of the roadmap.**
#
# 1. Watch [DCGAN Implementation from Scratch in PyTorch – Aladdin Persson](https://www.youtube.com/watch?v=IZtv9s_Wx9I) (about 35 min).
# 2. Implement the generator with `ConvTranspose2d` (exercise 1) and the discriminator with `Conv2d` (exercise 2), and initialise their weights (exercise 3).
# 3. Define the loss, binary cross-entropy, and the optimisers, Adam with `lr=0.0002` and `betas=(0.5, 0.999)` (exercises 4 and 5). Watch [Adam Optimizer Explained](https://www.youtube.com/watch?v=JXQT_vxqwIs).

# %% tags=["export"]
from collections.abc import Callable

import torch
from torch import Tensor, nn

# %%
import matplotlib.pyplot as plt

from papers.datasets import drawn_glyphs

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## Two networks, mirror images of each other
#
# The generator blows a vector of noise up to a picture, the discriminator boils a picture down to one number. Both work in steps of two: every layer doubles, or halves, the side of the image.
#
# | | generator: `ConvTranspose2d` | side | channels | | discriminator: `Conv2d` | side | channels |
# | --- | --- | --- | --- | --- | --- | --- | --- |
# | input | noise $z$ | 1 | nz | | image | 64 | nc |
# | 1 | kernel 4, stride 1, padding 0 | 4 | 8·ngf | | kernel 4, stride 2, padding 1 | 32 | ndf |
# | 2 | kernel 4, stride 2, padding 1 | 8 | 4·ngf | | the same | 16 | 2·ndf |
# | 3 | the same | 16 | 2·ngf | | the same | 8 | 4·ndf |
# | 4 | the same | 32 | ngf | | the same | 4 | 8·ndf |
# | 5 | the same | 64 | nc | | kernel 4, stride 1, padding 0 | 1 | 1 |
#
# The sides follow from week 0: a convolution gives $\lfloor (n + 2p - k)/s \rfloor + 1$, a transposed one $(n - 1)s - 2p + k$. With $k = 4$, $s = 2$, $p = 1$ that is exactly $n/2$ and $2n$. And 4 is a multiple of the stride 2: each
# output pixel of the transposed convolution gets equally many contributions. With kernel 3 some get one and others four, a checkerboard.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | pooling | strided convolutions instead (section 3) | the same | the network learns its own down- and upsampling |
# | batch-norm | in both networks, but not on G's output nor on D's input layer (section 3) | the same | there it made samples oscillate and training unstable |
# | activations | G: ReLU, tanh at the end. D: leaky ReLU, slope 0.2 (sections 3, 4) | the same, and **no sigmoid in D** | D returns the logit; the loss takes the sigmoid, stably |
# | kernels | 5 × 5 in figure 1 | 4 × 4 | as in the authors' own code and PyTorch's tutorial: sides come out even, no checkerboard |
# | widths | 1024 · 512 · 256 · 128 (figure 1) | 8·ngf · 4·ngf · 2·ngf · ngf, with ngf = 64 by default | half the width: fits a small GPU |
# | first layer of G | “project and reshape”: a matrix to 4 × 4 × 1024 | a transposed convolution of 1 × 1 | the same linear map, written as a convolution |
# | noise | uniform, 100 numbers | what you feed it; week 4 takes $\mathcal N(0, 1)$ | as most implementations since |
# | biases | not mentioned | none in any convolution | batch-norm subtracts the mean, and with it any bias in front of it; it has a bias of its own, β |

# %% [markdown]
# ## Exercise 1 · `Generator`
#
# *Difficulty ●●○ · 20 minutes · 5 points*
#
# Five transposed convolutions as in the table. After each of the first four: batch-norm, then ReLU. After the fifth: tanh, and no batch-norm.
#
# Write it as you like: `nn.Sequential`, a `ModuleList`, a loop, your own names. The check loads its own weights into your parameters by their shapes, in the order in which you register them (γ before β), and compares what comes out, in training
# and in evaluation mode. If the shapes do not fit, it says which.

# %% tags=["export"]
class Generator(nn.Module):
    """Noise to image (figure 1 of the paper, with kernels of 4).

    Args:
        nz: numbers in the noise vector.
        ngf: channels of the last hidden layer; the first has 8·ngf.
        nc: channels of the image.

    Its parameters are those of five transposed convolutions without bias and four batch-norms
    (PyTorch's defaults), and no others.
    """

    def __init__(self, nz: int = 100, ngf: int = 64, nc: int = 3) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        widths = [8 * ngf, 4 * ngf, 2 * ngf, ngf]
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=1, padding=0, bias=False)]  # 1 → 4
        for wide, narrow in zip(widths, [*widths[1:], nc]):
            layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]  # 4 → 8 → 16 → 32 → 64
        self.layers = nn.Sequential(*layers, nn.Tanh())
        ### END SOLUTION

    def forward(self, z: Tensor) -> Tensor:
        """Noise (B, nz, 1, 1) to images (B, nc, 64, 64) in (-1, 1)."""
        ### BEGIN SOLUTION
        return self.layers(z)
        ### END SOLUTION


# %%
@check("Generator", points=5, paper="section 3 and figure 1")
def _(case):
    class Same(nn.Module):  # a network's own parameters, sorted by shape: the order of registration matters only among equal shapes
        pass

    def loaded(network):
        def place(parameter):  # batch-norm's β, all zeros, comes behind its γ, whatever the two are called
            return -parameter.dim(), *[-size for size in parameter.shape], parameter.dim() == 1 and not parameter.any()

        same, shapes = Same(), []
        for number, parameter in enumerate(sorted(network.parameters(), key=place)):
            child = nn.Module()
            child.register_parameter("bias" if shapes.count(parameter.shape) % 2 else "weight", parameter)
            same.add_module(f"{number:02d}", child)
            shapes.append(parameter.shape)
        Same.__name__ = type(network).__name__
        case.initialise(same, by="order")
        return network

    def pixels(network):  # every ninth pixel will do
        def run(z):
            images = network(z)
            return list(images.shape), images[..., ::9, ::9]

        return run

    torch.manual_seed(0)
    labels, close = ("shape", "every ninth pixel"), {"tol": 1e-3}
    network = loaded(Generator(nz=5, ngf=2, nc=1)).train()
    z = case.normal(3, 5, 1, 1)
    case.call("training mode: batch-norm with the batch's statistics", pixels(network), z, labels=labels, policy=close)
    network.eval()
    case.call("evaluation mode, after one batch: with the running statistics", pixels(network), z, labels=labels, policy=close)
    case.call("one image, evaluation mode", pixels(network), case.normal(1, 5, 1, 1), labels=labels, policy=close)
    case.record("in training mode, after a call in evaluation mode", network.training)
    network = loaded(Generator(nz=3, ngf=4, nc=3))
    z = case.normal(2, 3, 1, 1).requires_grad_()
    images = case.call("three channels", lambda z: network(z)[..., ::9, ::9], z, policy=close)
    case.gradients("gradient of the noise", images, z, tol=5e-3)
    case.record("the largest value, noise of size 30", float(network(30 * case.normal(2, 3, 1, 1)).detach().abs().max()), at_most=1.0)
    case.record("parameters with nz = 100, ngf = 64, nc = 3", sum(parameter.numel() for parameter in Generator().parameters()))
    ### BEGIN HIDDEN TESTS
    case.record("a fresh network is in training mode", Generator(2, 2, 2).training)
    case.record("all parameters are trained", all(parameter.requires_grad for parameter in Generator(2, 2, 2).parameters()))
    case.record("parameters with nz = 7, ngf = 6, nc = 4", sum(parameter.numel() for parameter in Generator(7, 6, 4).parameters()))
    network = loaded(Generator(nz=6, ngf=3, nc=2))
    for _ in range(3):
        network(case.normal(4, 6, 1, 1))
    network.eval()
    noise = case.normal(2, 6, 1, 1)
    case.call("evaluation mode, after three batches", pixels(network), noise, labels=labels, policy=close)
    case.call("evaluation mode, noise ten times as large", pixels(network), 10 * noise, labels=labels, policy=close)
    other = Generator(nz=6, ngf=3, nc=2).eval()
    other.load_state_dict(network.state_dict())
    case.record("the state dict brings it all over", float((other(noise) - network(noise)).abs().max().detach()), at_most=1e-6, about="largest difference")
    network.train()
    case.call("training mode again, one image", pixels(network), case.normal(1, 6, 1, 1), labels=labels, policy=close)
    unused = [parameter.grad is None for parameter in network.parameters()]
    network(noise).sum().backward()
    case.record("every parameter takes part", [all(unused), all(parameter.grad is not None for parameter in network.parameters())])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "Generator",
    "Follow one image through the table: 1, 4, 8, 16, 32, 64 pixels a side. Which kernel, stride and padding makes the first step, and which the other four?",
    "Section 3, “Architecture guidelines for stable Deep Convolutional GANs”, and section 3's exceptions: where batch-norm is *not* applied.",
    "A transposed convolution from the noise to 8·ngf channels with stride 1 and no padding, then four that halve the channels and double the side, the last one to nc channels. Batch-norm and ReLU between any two of them; tanh after the last. No biases.",
)
equivalents("Generator", {
    "option dropped: `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=1, padding=0, bias=False)]` → `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, padding=0, bias=False)]`": "1 is the default stride",
    "number: `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=1, padding=0, bias=False)]` → `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=2, padding=0, bias=False)]`": "the noise is one pixel: there is no second step to take",
    "option dropped: `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=1, padding=0, bias=False)]` → `layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, stride=1, bias=False)]`": "0 is the default padding",
})  # fmt: skip
misconceptions(
    "Generator",
    mistake("no tanh", (", nn.Tanh())", ")"), says="The last layer has no tanh: values are not bounded, while real images are in [−1, 1]."),
    mistake("a sigmoid at the end", ("nn.Tanh()", "nn.Sigmoid()"), says="The last activation is a sigmoid, which makes values in (0, 1); real images are in [−1, 1], so the paper takes tanh."),
    mistake("batch-norm on the output", (", nn.Tanh())", ", nn.BatchNorm2d(nc), nn.Tanh())"), says="The output layer is batch-normalised as well; section 3 leaves it out there, since it made samples oscillate and training unstable."),
    mistake("ReLU before tanh", (", nn.Tanh())", ", nn.ReLU(), nn.Tanh())"), says="There is a ReLU in front of the tanh, so nothing is below 0: half of the range is never used."),
    mistake("no batch-norm", ("[nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]", "[nn.ReLU(inplace=True)]"), says="There is no batch-norm between the layers; section 3 calls it critical for deep generators to begin learning."),
    mistake(
        "batch-norm missing once",
        ("layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]", "layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)] if wide != widths[0] else [nn.ReLU(inplace=True)]"),
        says="The first layer is not batch-normalised; in the generator only the output layer goes without.",
    ),
    mistake("leaky ReLU", ("nn.ReLU(inplace=True)", "nn.LeakyReLU(0.2)"), says="The generator uses leaky ReLU; that is the discriminator's. Section 3: ReLU in the generator."),
    mistake("no ReLU", ("[nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]", "[nn.BatchNorm2d(wide)]"), says="There is no activation between the layers: without it the five are one linear map (up to batch-norm)."),
    mistake("tanh everywhere", ("nn.ReLU(inplace=True)", "nn.Tanh()"), says="Every layer has a tanh; the paper has ReLU in the hidden layers and tanh at the end only."),
    mistake("ReLU before batch-norm", ("[nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]", "[nn.ReLU(), nn.BatchNorm2d(wide)]"), says="The ReLU comes before batch-norm; the other way round: normalise, then ReLU."),
    mistake("eps 0.8", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, 0.8)"), says="`BatchNorm2d(c, 0.8)`, a line that is copied a lot: the second argument is eps, not momentum. With 0.8 added to every variance the layer hardly normalises."),
    mistake("momentum 0.8", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, momentum=0.8)"), says="Batch-norm's running statistics follow the last batch almost alone (momentum 0.8); PyTorch's default, 0.1, is asked for."),
    mistake("no running statistics", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, track_running_stats=False)"), says="Batch-norm keeps no running statistics, so in evaluation mode an image still depends on the others of its batch."),
    mistake("instance-norm", ("nn.BatchNorm2d(wide)", "nn.InstanceNorm2d(wide, affine=True)"), says="Each image is normalised by itself (instance-norm); batch-norm takes the statistics over the batch."),
    mistake("no scale and shift", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, affine=False)"), says="Batch-norm has no γ and β here (affine=False), so every hidden feature is forced to mean 0 and deviation 1."),
    mistake("biases", ("stride=2, padding=1, bias=False", "stride=2, padding=1"), says="The convolutions have biases. In front of batch-norm they do nothing: it subtracts the mean. (And the last one's is not counted in 3,576,704.)"),
    mistake("a bias in the first layer", ("stride=1, padding=0, bias=False", "stride=1, padding=0"), says="The first layer has a bias. Batch-norm subtracts the mean, and the bias with it; leave it out."),
    mistake(
        "kernel 3",
        ("nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)", "nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1, bias=False)"),
        says="The kernels are 3 × 3. With stride 2 they overlap unevenly, a checkerboard; take 4 × 4.",
    ),
    mistake(
        "kernel 5",
        ("nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)", "nn.ConvTranspose2d(wide, narrow, 5, stride=2, padding=2, output_padding=1, bias=False)"),
        says="The kernels are 5 × 5 as in figure 1; this notebook takes 4 × 4, as the table says, whose windows overlap evenly.",
    ),
    mistake(
        "upsampling by copying",
        ("[nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)]", "[nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1, bias=False)]"),
        says="Pixels are copied and then convolved; the paper lets the network learn its upsampling with strided transposed convolutions.",
    ),
    mistake("ngf first", ("[8 * ngf, 4 * ngf, 2 * ngf, ngf]", "[ngf, 2 * ngf, 4 * ngf, 8 * ngf]"), says="The channels grow with the image; they begin with 8·ngf and halve with every layer."),
    mistake("one width", ("[8 * ngf, 4 * ngf, 2 * ngf, ngf]", "[ngf] * 4"), says="All hidden layers have ngf channels; they begin with 8·ngf and halve with every layer."),
    mistake("32 × 32", ("[8 * ngf, 4 * ngf, 2 * ngf, ngf]", "[8 * ngf, 4 * ngf, 2 * ngf]"), says="One layer is missing: the image has 32 × 32 pixels."),
    mistake("a fixed width", ("widths = [8 * ngf,", "ngf = 64\n        widths = [8 * ngf,"), says="The width is fixed at 64; take ngf."),
    mistake("three channels always", ("[*widths[1:], nc]", "[*widths[1:], 3]"), says="The image always has three channels; take nc."),
    mistake("always training", ("return self.layers(z)", "return self.train().layers(z)"), says="The network goes into training mode at every call, so `eval()` has no effect."),
    mistake("always evaluation", ("return self.layers(z)", "return self.eval().layers(z)"), says="The network goes into evaluation mode at every call: batch-norm never sees the batch's statistics."),
    mistake("without gradients", ("return self.layers(z)", "with torch.no_grad():\n            return self.layers(z)"), says="No gradient passes through the network, so it cannot learn."),
    mistake("the noise flattened", ("return self.layers(z)", "return self.layers(z.mean(dim=0, keepdim=True).expand_as(z))"), says="All images of a batch come from one and the same noise; each has its own."),
)


# %% tags=["alternative"]
@alternative("one Sequential, written out, as in PyTorch's tutorial")
class Generator(nn.Module):
    def __init__(self, nz=100, ngf=64, nc=3):
        super(Generator, self).__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(nz, ngf * 8, 4, 1, 0, bias=False), nn.BatchNorm2d(ngf * 8), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 8, ngf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 4), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 4, ngf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf * 2), nn.ReLU(True),
            nn.ConvTranspose2d(ngf * 2, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf), nn.ReLU(True),
            nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    def forward(self, input):
        return self.main(input)


# %% tags=["alternative"]
@alternative("two ModuleLists, all convolutions registered first, functional activations")
class Generator(nn.Module):
    def __init__(self, nz=100, ngf=64, nc=3):
        super().__init__()
        c = [nz, 8 * ngf, 4 * ngf, 2 * ngf, ngf, nc]
        self.convolutions = nn.ModuleList([nn.ConvTranspose2d(c[i], c[i + 1], 4, 1 if i == 0 else 2, 0 if i == 0 else 1, bias=False) for i in range(5)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) for n in c[1:5]])

    def forward(self, z):
        x = z
        for convolution, norm in zip(self.convolutions, self.norms):
            x = torch.relu(norm(convolution(x)))
        return torch.tanh(self.convolutions[-1](x))


# %% tags=["alternative"]
@alternative("blocks as modules of their own, other names")
class Generator(nn.Module):
    def __init__(self, nz=100, ngf=64, nc=3):
        super().__init__()

        class Up(nn.Module):
            def __init__(self, a, b, stride, padding):
                super().__init__()
                self.c = nn.ConvTranspose2d(a, b, kernel_size=(4, 4), stride=(stride, stride), padding=padding, bias=False)
                self.n = nn.BatchNorm2d(b)

            def forward(self, x):
                return self.n(self.c(x)).clamp(min=0)

        self.project = Up(nz, ngf * 8, 1, 0)
        self.up = nn.Sequential(*[Up(ngf * 2 ** (k + 1), ngf * 2**k, 2, 1) for k in (2, 1, 0)])
        self.paint = nn.ConvTranspose2d(ngf, nc, 4, stride=2, padding=1, bias=False)

    def forward(self, z):
        return self.paint(self.up(self.project(z))).tanh()


# %% tags=["alternative"]
@alternative("registered from the last layer to the first")
class Generator(nn.Module):
    def __init__(self, nz=100, ngf=64, nc=3):
        super().__init__()
        self.last = nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False)
        for k in (0, 1, 2):
            self.add_module(f"norm{k}", nn.BatchNorm2d(ngf * 2**k))
            self.add_module(f"conv{k}", nn.ConvTranspose2d(ngf * 2 ** (k + 1), ngf * 2**k, 4, 2, 1, bias=False))
        self.norm3 = nn.BatchNorm2d(ngf * 8)
        self.first = nn.ConvTranspose2d(nz, ngf * 8, 4, bias=False)
        self.relu = nn.ReLU()

    def forward(self, z):
        x = self.relu(self.norm3(self.first(z)))
        for k in (2, 1, 0):
            x = self.relu(getattr(self, f"norm{k}")(getattr(self, f"conv{k}")(x)))
        return nn.functional.tanh(self.last(x))


# %% tags=["alternative"]
@alternative("a batch-norm of one's own, with parameters beta and gamma")
class Generator(nn.Module):
    def __init__(self, nz=100, ngf=64, nc=3):
        super().__init__()

        class Norm(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.beta, self.gamma = nn.Parameter(torch.zeros(n)), nn.Parameter(torch.ones(n))
                self.register_buffer("mean", torch.zeros(n))
                self.register_buffer("variance", torch.ones(n))

            def forward(self, x):
                return nn.functional.batch_norm(x, self.mean, self.variance, self.gamma, self.beta, self.training)

        c = [nz, 8 * ngf, 4 * ngf, 2 * ngf, ngf, nc]
        self.kernels = nn.ParameterList([nn.Parameter(0.02 * torch.randn(a, b, 4, 4)) for a, b in zip(c, c[1:])])
        self.norms = nn.ModuleList([Norm(n) for n in c[1:5]])

    def forward(self, z):
        x = nn.functional.conv_transpose2d(z, self.kernels[0])
        for norm, kernel in zip(self.norms, self.kernels[1:]):
            x = nn.functional.conv_transpose2d(norm(x).relu(), kernel, stride=2, padding=1)
        return x.tanh()


# %% [markdown]
# ### Try it: the shapes, layer by layer
#
# Where are the 3,576,704 parameters? A hook on every layer says what passes through it.

# %% tags=["picture"]
def walk(network, x):
    print(f"{'layer':<18}{'output':<22}{'parameters':>10}")
    layers = [module for module in network.modules() if not list(module.children())]
    def tell(module, inputs, output):
        print(f"{type(module).__name__:<18}{str(tuple(output.shape)):<22}{sum(p.numel() for p in module.parameters()):>10,}")
    hooks = [layer.register_forward_hook(tell) for layer in layers]
    network(x)
    for hook in hooks:
        hook.remove()
    print(f"{'':<40}{sum(p.numel() for p in network.parameters()):>10,}")

walk(Generator(), torch.randn(2, 100, 1, 1))

# %% [markdown]
# **What to see.** The side doubles, the channels halve, so each layer's output has twice the numbers of the one before. The parameters go the other way: nearly nine tenths sit in the first three convolutions, where the image is smallest.

# %% [markdown]
# ## Exercise 2 · `Discriminator`
#
# *Difficulty ●●○ · 20 minutes · 5 points*
#
# The other way round: five convolutions as in the table. After each of the first four: leaky ReLU with slope 0.2, with a batch-norm before it **except in the first layer**, the one that sees the image. The fifth gives one number
# for each image: the logit, whose sigmoid is the probability that the image is real. No sigmoid here, the loss takes it.

# %% tags=["export"]
class Discriminator(nn.Module):
    """Image to logit: how real it looks (section 3 of the paper).

    Args:
        nc: channels of the image.
        ndf: channels of the first hidden layer; the last has 8·ndf.

    Its parameters are those of five convolutions without bias and three batch-norms (PyTorch's
    defaults), and no others.
    """

    def __init__(self, nc: int = 3, ndf: int = 64) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        widths = [ndf, 2 * ndf, 4 * ndf, 8 * ndf]
        layers: list[nn.Module] = [nn.Conv2d(nc, widths[0], 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2, inplace=True)]  # 64 → 32
        for narrow, wide in zip(widths, widths[1:]):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)]  # 32 → 16 → 8 → 4
            layers += [nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False))  # 4 → 1
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, nc, 64, 64) to logits (B,)."""
        ### BEGIN SOLUTION
        return self.layers(x).flatten()
        ### END SOLUTION


# %%
@check("Discriminator", points=5, paper="section 3")
def _(case):
    class Same(nn.Module):  # a network's own parameters, sorted by shape: the order of registration matters only among equal shapes
        pass

    def loaded(network):
        def place(parameter):  # batch-norm's β, all zeros, comes behind its γ, whatever the two are called
            return -parameter.dim(), *[-size for size in parameter.shape], parameter.dim() == 1 and not parameter.any()

        same, shapes = Same(), []
        for number, parameter in enumerate(sorted(network.parameters(), key=place)):
            child = nn.Module()
            child.register_parameter("bias" if shapes.count(parameter.shape) % 2 else "weight", parameter)
            same.add_module(f"{number:02d}", child)
            shapes.append(parameter.shape)
        Same.__name__ = type(network).__name__
        case.initialise(same, by="order")
        return network

    def images(*shape):
        return case.uniform(*shape, 64, 64, low=-1.0)

    def alone(name, image, batch):  # a single logit may be nearly 0, where rounding looks large: those of a batch say how large logits are
        case.call(name, lambda image, batch: (network(image), network(batch)), image, batch, labels=("its logit", "logits of a batch"), policy=close)

    torch.manual_seed(0)
    close = {"tol": 1e-3}
    network = loaded(Discriminator(nc=1, ndf=2)).train()
    x = images(3, 1)
    case.call("training mode: batch-norm with the batch's statistics", network, x, policy=close)
    network.eval()
    case.call("evaluation mode, after one batch: with the running statistics", network, x, policy=close)
    alone("one image, evaluation mode", images(1, 1), x)
    case.record("in training mode, after a call in evaluation mode", network.training)
    network = loaded(Discriminator(nc=3, ndf=4))
    x = images(2, 3).requires_grad_()
    logits = case.call("three channels", network, x, policy=close)
    (gradient,) = torch.autograd.grad(logits.double().sum(), x, allow_unused=True) if logits.requires_grad else (None,)
    case.record("gradient of the image (every ninth pixel)", None if gradient is None else gradient[..., ::9, ::9], tol=5e-3, about="gradient")
    case.record("parameters with nc = 3, ndf = 64", sum(parameter.numel() for parameter in Discriminator().parameters()))
    ### BEGIN HIDDEN TESTS
    case.record("a fresh network is in training mode", Discriminator(2, 2).training)
    case.record("all parameters are trained", all(parameter.requires_grad for parameter in Discriminator(2, 2).parameters()))
    case.record("parameters with nc = 4, ndf = 6", sum(parameter.numel() for parameter in Discriminator(4, 6).parameters()))
    network = loaded(Discriminator(nc=2, ndf=3))
    for _ in range(3):
        network(images(4, 2))
    network.eval()
    x = images(2, 2)
    case.call("evaluation mode, after three batches", network, x, policy=close)
    case.call("evaluation mode, images 20 times as bright", network, 20 * x, policy=close)
    other = Discriminator(nc=2, ndf=3).eval()
    other.load_state_dict(network.state_dict())
    case.record("the state dict brings it all over", float((other(x) - network(x)).abs().max().detach()), at_most=1e-6, about="largest difference")
    network.train()
    alone("training mode again, one image", images(1, 2), images(3, 2))
    case.call("images 50 times as bright", network, 50 * images(3, 2), policy=close)
    network(x).sum().backward()
    case.record("every parameter takes part", all(parameter.grad is not None for parameter in network.parameters()))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "Discriminator",
    "It is the generator's table read from the bottom. Which of its layers sees the image, and what does section 3 say about batch-norm there?",
    "Section 3: “not applying batchnorm to … the discriminator input layer”, and the last guideline: leaky ReLU in the discriminator for all layers. The slope, 0.2, is in section 4.",
    "Four convolutions that halve the side and double the channels, each followed by a leaky ReLU; batch-norm between the two from the second on. Then one convolution to a single number, "
    "flattened to one axis so that a batch of one keeps it. No biases, no sigmoid.",
)
equivalents("Discriminator", {
    "option dropped: `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False))` → `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=0, bias=False))`": "1 is the default stride",
    "number: `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False))` → `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=2, padding=0, bias=False))`": "4 × 4 features and a kernel of 4: there is one window only",
    "option dropped: `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False))` → `self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, stride=1, bias=False))`": "0 is the default padding",
})  # fmt: skip
misconceptions(
    "Discriminator",
    mistake("a sigmoid", ("return self.layers(x).flatten()", "return torch.sigmoid(self.layers(x).flatten())"), says="The result is a probability; the logit is wanted, without the sigmoid. The loss takes it, in a way that does not overflow."),
    mistake("tanh at the end", ("return self.layers(x).flatten()", "return torch.tanh(self.layers(x).flatten())"), says="The result is squeezed by a tanh; that is the generator's. The plain logit is wanted."),
    mistake("ReLU", ("nn.Conv2d(nc, widths[0], 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2, inplace=True)", "nn.Conv2d(nc, widths[0], 4, stride=2, padding=1, bias=False), nn.ReLU()"), ("[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]", "[nn.BatchNorm2d(wide), nn.ReLU()]"), says="The discriminator uses ReLU; section 3 takes leaky ReLU there, so that gradients reach the generator through inactive units too."),
    mistake("ReLU in the first layer", ("bias=False), nn.LeakyReLU(0.2, inplace=True)]  # 64", "bias=False), nn.ReLU()]  # 64"), says="The first layer uses ReLU; all layers of the discriminator are leaky."),
    mistake("slope 0.01", ("bias=False), nn.LeakyReLU(0.2, inplace=True)]  # 64", "bias=False), nn.LeakyReLU()]  # 64"), ("[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]", "[nn.BatchNorm2d(wide), nn.LeakyReLU()]"), says="The slope of the leaky ReLU is PyTorch's default, 0.01; section 4 sets it to 0.2."),
    mistake("batch-norm on the input layer", ("bias=False), nn.LeakyReLU(0.2, inplace=True)]  # 64", "bias=False), nn.BatchNorm2d(widths[0]), nn.LeakyReLU(0.2)]  # 64"), says="The first layer is batch-normalised; section 3 leaves it out on the discriminator's input layer."),
    mistake("the image normalised", ("layers: list[nn.Module] = [", "layers: list[nn.Module] = [nn.BatchNorm2d(nc), "), says="The image itself is batch-normalised before the first convolution; section 3 leaves batch-norm out at the discriminator's input."),
    mistake("no batch-norm", ("[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]", "[nn.LeakyReLU(0.2)]"), says="There is no batch-norm; the paper has it in every layer but the first and the last."),
    mistake("batch-norm on the output", ("padding=0, bias=False))  # 4", "padding=0, bias=False), nn.BatchNorm2d(1))  # 4"), says="The logit is batch-normalised, so how real an image looks depends on the others of its batch. The last layer has no batch-norm."),
    mistake("no activation in the first layer", (", nn.LeakyReLU(0.2, inplace=True)]  # 64", "]  # 64"), says="The first layer has no activation; leaky ReLU follows every convolution but the last."),
    mistake("activation before batch-norm", ("[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]", "[nn.LeakyReLU(0.2), nn.BatchNorm2d(wide)]"), says="The activation comes before batch-norm; normalise first, then leaky ReLU."),
    mistake("eps 0.8", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, 0.8)"), says="`BatchNorm2d(c, 0.8)`: the second argument is eps, not momentum, and 0.8 added to every variance leaves little of the normalisation. Take the default."),
    mistake("momentum 0.8", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, momentum=0.8)"), says="Batch-norm's running statistics follow the last batch almost alone (momentum 0.8); the default, 0.1, is asked for."),
    mistake("instance-norm", ("nn.BatchNorm2d(wide)", "nn.InstanceNorm2d(wide, affine=True)"), says="Each image is normalised by itself (instance-norm); batch-norm takes the statistics over the batch."),
    mistake("no running statistics", ("nn.BatchNorm2d(wide)", "nn.BatchNorm2d(wide, track_running_stats=False)"), says="Batch-norm keeps no running statistics, so in evaluation mode a logit still depends on the other images of the batch."),
    mistake("biases", ("layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)]", "layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1)]"), says="The convolutions in front of batch-norm have biases, which it subtracts again. Leave them out."),
    mistake("biases at both ends", ("nn.Conv2d(nc, widths[0], 4, stride=2, padding=1, bias=False)", "nn.Conv2d(nc, widths[0], 4, stride=2, padding=1)"), ("stride=1, padding=0, bias=False", "stride=1, padding=0"), says="The first and last convolution have biases. They would not be wrong in themselves, but the network is specified without: 2,765,568 parameters."),
    mistake("kernel 3", ("nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)", "nn.Conv2d(narrow, wide, 3, stride=2, padding=1, bias=False)"), says="The kernels are 3 × 3; take 4 × 4, the mirror image of the generator."),
    mistake("pooling", ("[nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False)]", "[nn.Conv2d(narrow, wide, 4, padding='same', bias=False), nn.MaxPool2d(2)]"), says="The image is shrunk by max-pooling; the paper replaces pooling by strided convolutions."),
    mistake("dropout", ("[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True)]", "[nn.BatchNorm2d(wide), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]"), says="There is dropout, from another GAN recipe; the paper's discriminator has none."),
    mistake("a mean instead of the last convolution", ("nn.Conv2d(widths[-1], 1, 4, stride=1, padding=0, bias=False)", "nn.Conv2d(widths[-1], 1, 1, bias=False), nn.AdaptiveAvgPool2d(1)"), says="The last 4 × 4 features are averaged; the paper's last layer sees where they are. Take a convolution over all of the 4 × 4."),
    mistake("the widths turned round", ("[ndf, 2 * ndf, 4 * ndf, 8 * ndf]", "[8 * ndf, 4 * ndf, 2 * ndf, ndf]"), says="The channels shrink with the image; they begin with ndf and double with every layer."),
    mistake("one width", ("[ndf, 2 * ndf, 4 * ndf, 8 * ndf]", "[ndf] * 4"), says="All hidden layers have ndf channels; they double with every layer."),
    mistake("a fixed width", ("widths = [ndf,", "ndf = 64\n        widths = [ndf,"), says="The width is fixed at 64; take ndf."),
    mistake("three channels always", ("nn.Conv2d(nc,", "nn.Conv2d(3,"), says="It always expects three channels; take nc."),
    mistake("four axes", ("return self.layers(x).flatten()", "return self.layers(x)"), says="The logits have shape (B, 1, 1, 1); one axis, (B,), is wanted, as the labels have."),
    mistake("two axes", ("return self.layers(x).flatten()", "return self.layers(x).flatten(1)"), says="The logits have shape (B, 1); one axis, (B,), is wanted. (With labels of shape (B,) a difference of the two would be B × B.)"),
    mistake("squeezed", ("return self.layers(x).flatten()", "return self.layers(x).squeeze()"), says="`squeeze` takes away every axis of length 1, the batch's too when it holds one image. Flatten instead, or squeeze by name."),
    mistake("always training", ("return self.layers(x)", "return self.train().layers(x)"), says="The network goes into training mode at every call, so `eval()` has no effect."),
    mistake("always evaluation", ("return self.layers(x)", "return self.eval().layers(x)"), says="The network goes into evaluation mode at every call: batch-norm never uses the batch's statistics."),
    mistake("without gradients", ("return self.layers(x).flatten()", "with torch.no_grad():\n            return self.layers(x).flatten()"), says="No gradient passes through the network: neither it nor the generator behind it can learn."),
    mistake("the sign", ("return self.layers(x).flatten()", "return -self.layers(x).flatten()"), says="The sign of the logit is turned round."),
)


# %% tags=["alternative"]
@alternative("one Sequential, written out, as in PyTorch's tutorial")
class Discriminator(nn.Module):
    def __init__(self, nc=3, ndf=64):
        super(Discriminator, self).__init__()
        self.main = nn.Sequential(
            nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf, ndf * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 2), nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf * 2, ndf * 4, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 4), nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf * 4, ndf * 8, 4, 2, 1, bias=False), nn.BatchNorm2d(ndf * 8), nn.LeakyReLU(0.2, True),
            nn.Conv2d(ndf * 8, 1, 4, 1, 0, bias=False),
        )  # fmt: skip

    def forward(self, input):
        return self.main(input).view(-1)


# %% tags=["alternative"]
@alternative("two ModuleLists, all norms registered first, functional activations")
class Discriminator(nn.Module):
    def __init__(self, nc=3, ndf=64):
        super().__init__()
        self.norms = nn.ModuleList([nn.Identity()] + [nn.BatchNorm2d(ndf * 2**k) for k in (1, 2, 3)])
        sizes = [nc] + [ndf * 2**k for k in range(4)]
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip(sizes[:-1], sizes[1:])])
        self.head = nn.Conv2d(sizes[-1], 1, 4, bias=False)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms):
            x = nn.functional.leaky_relu(norm(conv(x)), negative_slope=0.2)
        return self.head(x)[:, 0, 0, 0]


# %% tags=["alternative"]
@alternative("a method that makes blocks, leaky ReLU as a maximum")
class Discriminator(nn.Module):
    def __init__(self, nc=3, ndf=64):
        super().__init__()
        self.one = nn.Conv2d(nc, ndf, 4, 2, 1, bias=False)
        self.two, self.three, self.four = (self.block(ndf * k) for k in (1, 2, 4))
        self.five = nn.Conv2d(ndf * 8, 1, 4, bias=False)

    def block(self, width):
        return nn.Sequential(nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width))

    def forward(self, x):
        for layer in (self.one, self.two, self.three, self.four):
            x = layer(x)
            x = torch.maximum(x, 0.2 * x)
        return self.five(x).reshape(x.shape[0])


# %% tags=["alternative"]
@alternative("the last layer as an inner product with its kernel")
class Discriminator(nn.Module):
    def __init__(self, nc=3, ndf=64):
        super().__init__()
        features, channels = [], nc
        for k in range(4):
            features.append(nn.Conv2d(channels, ndf << k, kernel_size=4, stride=2, padding=1, bias=False))
            if k > 0:
                features.append(nn.BatchNorm2d(ndf << k))
            features.append(nn.LeakyReLU(negative_slope=0.2))
            channels = ndf << k
        self.features = nn.Sequential(*features)
        self.weight = nn.Parameter(0.02 * torch.randn(1, channels, 4, 4))

    def forward(self, x):
        return (self.features(x) * self.weight).sum((1, 2, 3))


# %% tags=["alternative"]
@alternative("a batch-norm of one's own, with parameters gamma and beta")
class Discriminator(nn.Module):
    def __init__(self, nc=3, ndf=64):
        super().__init__()

        class Norm(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.gamma, self.beta = nn.Parameter(torch.ones(n)), nn.Parameter(torch.zeros(n))
                self.register_buffer("mean", torch.zeros(n))
                self.register_buffer("variance", torch.ones(n))

            def forward(self, x):
                return nn.functional.batch_norm(x, self.mean, self.variance, self.gamma, self.beta, self.training)

        c = [nc] + [ndf * 2**k for k in range(4)]
        self.down = nn.ModuleList([nn.Conv2d(a, b, 4, 2, 1, bias=False) for a, b in zip(c, c[1:])])
        self.norms = nn.ModuleList([nn.Identity(), *[Norm(n) for n in c[2:]]])
        self.last = nn.Conv2d(c[-1], 1, 4, bias=False)

    def forward(self, x):
        for layer, norm in zip(self.down, self.norms):
            x = norm(layer(x))
            x = torch.where(x > 0, x, 0.2 * x)
        return torch.squeeze(self.last(x), (1, 2, 3))


# %% [markdown]
# ### Try it: the discriminator, layer by layer

# %% tags=["picture"]
walk(Discriminator(), torch.randn(2, 3, 64, 64))

# %% [markdown]
# **What to see.** The same sides and widths as the generator's, from the bottom up, with one batch-norm less. The two networks are about equally strong; neither outgrows the other at once.

# %% [markdown]
# ## Exercise 3 · `init_weights`
#
# *Difficulty ●○○ · 10 minutes · 3 points*
#
# Section 4: “All weights were initialized from a zero-centered Normal distribution with standard deviation 0.02.”
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | convolutions | $\mathcal N(0, 0.02^2)$ | the same | |
# | batch-norm's scale γ | “all weights” would make it $\mathcal N(0, 0.02^2)$ | $\mathcal N(1, 0.02^2)$ | γ multiplies: near 0 it would switch every feature off, with a random sign. The authors' own code has a mean of 1 |
# | batch-norm's shift β | not mentioned | 0 | |

# %% tags=["export"]
def init_weights(module: nn.Module) -> None:
    """Initialise one layer in place, as `network.apply(init_weights)` does to all layers in turn.

    Weights of nn.Conv2d and nn.ConvTranspose2d are drawn from N(0, 0.02²). Of nn.BatchNorm2d, the
    weight γ is drawn from N(1, 0.02²) and the bias β is 0. The draws come from torch's global
    generator as it is: it is not seeded. Parameters stay the same objects.

    Args:
        module: any layer or network. Other kinds (fully connected, embeddings, other norms) are
            left alone; convolutions and batch-norms of other dimensions may be treated alike.
    """
    ### BEGIN SOLUTION
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, mean=0.0, std=0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, mean=1.0, std=0.02)
        nn.init.zeros_(module.bias)
    ### END SOLUTION


# %%
@check("init_weights", points=3, paper="section 4, “zero-centered Normal distribution with standard deviation 0.02”")
def _(case):
    def spread(values):  # statistics that hardly depend on the draw
        x = values.detach().double().flatten()
        centred = x - x.mean()
        kurtosis = float((centred**4).mean() / (centred**2).mean() ** 2) if float(x.std()) > 1e-9 else 0.0
        return {"mean, to two digits": round(float(x.mean()), 2) + 0.0, "standard deviation": float(x.std()), "kurtosis, 3 if normal": kurtosis}

    def fresh(*layers):  # every parameter 7 before: what is left alone shows
        network = nn.Sequential(*layers)
        for parameter in network.parameters():
            nn.init.constant_(parameter, 7.0)
        return network

    torch.manual_seed(case.integer(0, 2**31))
    network = fresh(nn.Conv2d(32, 64, 4, bias=False), nn.ConvTranspose2d(64, 32, 4, bias=False), nn.BatchNorm2d(4096), nn.LeakyReLU(0.2))
    before = [id(parameter) for parameter in network.parameters()]
    network.apply(init_weights)
    case.record("weights of a convolution", spread(network[0].weight), tol=0.1)
    case.record("weights of a transposed convolution", spread(network[1].weight), tol=0.1)
    case.record("batch-norm's γ", spread(network[2].weight), tol=0.1)
    case.record("batch-norm's β, smallest and largest", [network[2].bias.min().item(), network[2].bias.max().item()])
    case.record("the parameters are still the same objects", [id(parameter) for parameter in network.parameters()] == before)
    case.record("they are still trained", all(parameter.requires_grad for parameter in network.parameters()))
    case.record("running statistics are left alone", [float(network[2].running_mean.abs().max()), float((network[2].running_var - 1).abs().max())])
    one, other = (fresh(nn.Conv2d(8, 8, 4, bias=False)).apply(init_weights)[0].weight for _ in range(2))
    case.record("two layers get different weights", not torch.equal(one, other))
    pair = [fresh(nn.Conv2d(3, 4, 4, bias=False), nn.ConvTranspose2d(4, 3, 4, bias=False), nn.BatchNorm2d(6)) for _ in range(2)]
    for network in pair:
        torch.manual_seed(5)
        network.apply(init_weights)
    same = {type(one).__name__: "the same" if torch.equal(one.weight, other.weight) else "others" for one, other in zip(*pair)}
    case.record("twice with torch's generator seeded alike outside", same, about="the second weights of")
    twins = fresh(*[layer for _ in range(2) for layer in (nn.Conv2d(3, 4, 4, bias=False), nn.ConvTranspose2d(4, 3, 4, bias=False), nn.BatchNorm2d(6))]).apply(init_weights)
    same = {type(one).__name__: "the same" if torch.equal(one.weight, other.weight) else "others" for one, other in zip(twins[:3], twins[3:])}
    case.record("two layers of each kind in one network", same, about="the second weights of")

    def left(*layers):
        network = fresh(*layers).apply(init_weights)
        return {type(layer).__name__: "left alone" if all(bool((parameter == 7).all()) for parameter in layer.parameters()) else "changed" for layer in network}

    case.record("a fully connected layer", left(nn.Linear(5, 4)), about="what becomes of")
    case.record("other norms", left(nn.LayerNorm(6), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True)), about="what becomes of")
    ### BEGIN HIDDEN TESTS
    inner = fresh(nn.Sequential(nn.Conv2d(16, 64, 4, bias=False), nn.Sequential(nn.BatchNorm2d(4096))))
    inner.apply(init_weights)
    case.record("layers inside of layers: a convolution", spread(inner[0][0].weight), tol=0.1)
    case.record("layers inside of layers: γ", spread(inner[0][1][0].weight), tol=0.1)
    single = fresh(nn.BatchNorm2d(4096))
    init_weights(single[0])
    case.record("called on one layer: γ", spread(single[0].weight), tol=0.1)
    wide = fresh(nn.Conv2d(128, 16, 4, bias=False)).apply(init_weights)
    case.record("many input channels", spread(wide[0].weight), tol=0.1)
    small = fresh(nn.ConvTranspose2d(4, 256, 4, bias=False)).apply(init_weights)
    case.record("few input channels", spread(small[0].weight), tol=0.1)
    case.record("other layers with weights", left(nn.Embedding(5, 4), nn.PReLU(3), nn.Bilinear(2, 3, 4)), about="what becomes of")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "init_weights",
    "`network.apply(f)` calls f with every layer and with the network itself. How do you find out what kind of layer you were given?",
    "Section 4 for the convolutions. For batch-norm remember what γ does: it multiplies a normalised feature. What is its neutral value?",
    "Ask with isinstance. For the two kinds of convolution fill the weight in place from a normal distribution around 0; for batch-norm fill the weight from one around 1 and the bias with 0. `torch.nn.init` fills in place.",
)
equivalents("init_weights", {
    "option dropped: `nn.init.normal_(module.weight, mean=0.0, std=0.02)` → `nn.init.normal_(module.weight, std=0.02)`": "0 is the default mean",
})  # fmt: skip
CONV, NORM = "nn.init.normal_(module.weight, mean=0.0, std=0.02)", "nn.init.normal_(module.weight, mean=1.0, std=0.02)"
misconceptions(
    "init_weights",
    mistake("γ around 0", (NORM, CONV), says="Batch-norm's γ is drawn around 0, which switches nearly every feature off. It multiplies, so its mean is 1."),
    mistake("γ exactly 1", (NORM, "nn.init.ones_(module.weight)"), says="Batch-norm's γ is exactly 1; N(1, 0.02²) is asked for."),
    mistake("γ left alone", (f"        {NORM}\n", ""), says="Batch-norm's γ is not initialised."),
    mistake("β drawn", ("nn.init.zeros_(module.bias)", "nn.init.normal_(module.bias, 0.0, 0.02)"), says="Batch-norm's β is drawn at random; it is to be 0."),
    mistake("β left alone", ("\n        nn.init.zeros_(module.bias)", ""), says="Batch-norm's β is not set to 0."),
    mistake("β is 1", ("nn.init.zeros_", "nn.init.ones_"), says="Batch-norm's β is 1; it shifts, so its neutral value is 0."),
    mistake("γ and β swapped", (NORM, "nn.init.normal_(module.bias, mean=1.0, std=0.02)"), ("nn.init.zeros_(module.bias)", "nn.init.zeros_(module.weight)"), says="γ and β have changed places: γ, the weight, multiplies and is near 1; β, the bias, is 0."),
    mistake("deviation 0.2", (CONV, CONV.replace("0.02", "0.2")), says="The convolutions' standard deviation is 0.2; the paper's is 0.02."),
    mistake("variance 0.02", (CONV, CONV.replace("0.02", "0.02**0.5")), says="0.02 is taken for the variance; it is the standard deviation."),
    mistake("squared", (CONV, CONV.replace("0.02", "0.02**2")), says="The standard deviation is 0.0004, 0.02 squared; PyTorch's functions take the standard deviation, not the variance."),
    mistake("γ too wide", (NORM, NORM.replace("0.02", "0.2")), says="γ's standard deviation is 0.2; 0.02 is asked for."),
    mistake("uniform", (CONV, "nn.init.uniform_(module.weight, -0.02 * 3**0.5, 0.02 * 3**0.5)"), says="The convolutions' weights are uniform, of the right deviation; the paper's are normal."),
    mistake("uniform up to 0.02", (CONV, "nn.init.uniform_(module.weight, -0.02, 0.02)"), says="The convolutions' weights are uniform in [−0.02, 0.02]; the paper's are normal with standard deviation 0.02."),
    mistake("mean 1 everywhere", (CONV, NORM.replace("mean=1.0", "mean=1")), says="The convolutions' weights are drawn around 1; only batch-norm's γ is."),
    mistake("Xavier", (CONV, "nn.init.xavier_normal_(module.weight)"), says="The convolutions have Xavier's initialisation, whose deviation depends on the layer's size; the paper's is 0.02 for all."),
    mistake("Kaiming", (CONV, "nn.init.kaiming_normal_(module.weight, 0.2)"), says="The convolutions have He's initialisation, whose deviation depends on the layer's size; the paper's is 0.02 for all."),
    mistake("only Conv2d", ("(nn.Conv2d, nn.ConvTranspose2d)", "nn.Conv2d"), says="Transposed convolutions are left alone (ConvTranspose2d is not a kind of Conv2d), so the generator keeps PyTorch's default."),
    mistake("only ConvTranspose2d", ("(nn.Conv2d, nn.ConvTranspose2d)", "nn.ConvTranspose2d"), says="Plain convolutions are left alone, so the discriminator keeps PyTorch's default."),
    mistake("another generator", (CONV, CONV[:-1] + ", generator=source)"), ("    if isinstance(module, (nn", "    source = torch.Generator()\n    source.seed()\n    if isinstance(module, (nn"), says="The convolutions' weights come from another generator than torch's global one (numpy's, or one made here), so `torch.manual_seed` outside does not make them again."),
    mistake("Linear too", ("(nn.Conv2d, nn.ConvTranspose2d)", "(nn.Conv2d, nn.ConvTranspose2d, nn.Linear)"), says="Fully connected layers are initialised as well; only convolutions and batch-norm are, all else is left alone."),
    mistake("every norm", ("isinstance(module, nn.BatchNorm2d)", "isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d))"), says="Other norms than batch-norm are initialised as well; they are to be left alone."),
    mistake("everything with a weight", ("    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):", '    if isinstance(getattr(module, "weight", None), Tensor) and not isinstance(module, nn.BatchNorm2d):'), says="Every layer that has a weight is initialised like a convolution; kinds of layer that are not named are left alone."),
    mistake("not in place", (CONV, "module.weight.detach().clone().normal_(0.0, 0.02)"), says="Convolutions are not changed: a copy of the weights is filled and thrown away."),
    mistake("seeded", ("    if isinstance(module, (nn", "    torch.manual_seed(0)\n    if isinstance(module, (nn"), says="The generator is seeded at every call, so layers of one shape get the very same weights."),
    mistake("new parameters", (CONV, "module.weight = nn.Parameter(0.02 * torch.randn_like(module.weight))"), says="The weights are replaced by new parameters; an optimiser made before would go on with the old ones. Fill them in place."),
    mistake("frozen", (CONV, CONV + ".requires_grad_(False)"), says="The weights are frozen: `requires_grad` is off afterwards."),
    mistake("the running statistics", ("        nn.init.zeros_(module.bias)", "        nn.init.zeros_(module.bias)\n        nn.init.normal_(module.running_mean, 0.0, 0.02)"), says="Batch-norm's running mean is drawn at random; it is measured, not learned, and starts at 0."),
)


# %% tags=["alternative"]
@alternative("by the class's name, as in PyTorch's tutorial")
def init_weights(m):
    classname = m.__class__.__name__
    if classname.find("Conv") != -1:
        nn.init.normal_(m.weight.data, 0.0, 0.02)
    elif classname.find("BatchNorm") != -1:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


# %% tags=["alternative"]
@alternative("no_grad and copy_")
def init_weights(module):
    with torch.no_grad():
        if type(module) in (nn.Conv2d, nn.ConvTranspose2d):
            module.weight.copy_(0.02 * torch.randn(module.weight.shape))
        if type(module) is nn.BatchNorm2d:
            module.weight.copy_(1 + 0.02 * torch.randn(module.num_features))
            module.bias.zero_()


# %% tags=["alternative"]
@alternative("by the parameters' dimensions")
def init_weights(module):
    for name, parameter in module.named_parameters(recurse=False):
        if parameter.dim() == 4:
            parameter.data.normal_(0, 0.02)
        elif getattr(module, "running_mean", None) is None:
            continue  # no batch-norm
        elif name == "weight":
            parameter.data.normal_(1, 0.02)
        elif name == "bias":
            parameter.data.fill_(0)


# %% tags=["alternative"]
@alternative("match")
def init_weights(module):
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            torch.nn.init.trunc_normal_(module.weight, std=0.02)  # cut at ±2: a hundred deviations away
        case nn.BatchNorm2d():
            module.weight.data = torch.normal(1.0, 0.02, module.weight.shape)
            module.bias.data = torch.zeros_like(module.bias)
        case _:
            pass


# %% [markdown]
# ### Try it: what the initialisation does
#
# Left: the weights of both networks. Right: what an untrained generator makes of 200 noise vectors, with the paper's γ around 1 and with γ around 0, the most common slip in copies of this code.

# %% tags=["picture"]
torch.manual_seed(SEED)
generator, discriminator = Generator(ngf=16).apply(init_weights), Discriminator(ndf=16).apply(init_weights)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.1), layout="constrained")
kinds = {
    "convolutions": ([m.weight for n in (generator, discriminator) for m in n.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))], BLUE),
    "batch-norm's γ, minus 1": ([m.weight - 1 for n in (generator, discriminator) for m in n.modules() if isinstance(m, nn.BatchNorm2d)], ORANGE),
}
for label, (tensors, colour) in kinds.items():
    values = torch.cat([tensor.detach().flatten() for tensor in tensors])
    left.hist(values.numpy(), bins=32, range=(-0.08, 0.08), density=True, histtype="step", color=colour, linewidth=1.6, label=label)
left.set(xlabel="value", ylabel="density", title="Weights after init_weights", ylim=(0, 30))
noise = torch.randn(200, 100, 1, 1)
for label, mean, colour in (("γ around 1", 1.0, BLUE), ("γ around 0", 0.0, ORANGE)):
    for layer in generator.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, mean, 0.02)
    with torch.no_grad():
        images = generator(noise)
    right.hist(images.flatten()[::97].numpy(), bins=80, range=(-0.8, 0.8), histtype="step", color=colour, linewidth=1.6, label=f"{label}: deviation {images.std():.1e}", log=True)
right.set(xlabel="value of a pixel", ylabel="count", title="Pixels of an untrained generator", ylim=(0.5, 3e5))
for axis in (left, right):
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Left: both are bells of deviation 0.02, the one around 0, the other around 1 (drawn minus 1, so that they can be compared). Right (mind the logarithmic axis): with γ around 1 the generator already answers to its noise. With γ around 0 its last
# batch-norm lets a fiftieth through: every pixel is nearly 0, whatever the noise.

# %% [markdown]
# ## Exercise 4 · `build_criterion`
#
# *Difficulty ●○○ · 5 minutes · 2 points*
#
# Week 1's losses are both binary cross-entropy, with other labels. For a logit $s$ and a label $y$ (1 real, 0 generated), with $\sigma$ the sigmoid:
#
# $$\mathrm{BCE}(s, y) = -\,y \log \sigma(s) - (1 - y) \log(1 - \sigma(s)),$$
#
# averaged over the batch. The roadmap asks for binary cross-entropy; PyTorch has it in two forms. One takes probabilities, the other logits. Your discriminator returns logits.

# %% tags=["export"]
def build_criterion() -> Callable[[Tensor, Tensor], Tensor]:
    """Binary cross-entropy for a discriminator that returns logits.

    Returns: something to call with logits (B,) and labels (B,) between 0 and 1, which gives their
        mean binary cross-entropy, one number that gradients flow through. It is finite, and so are
        its gradients, for logits of ±10,000.
    """
    ### BEGIN SOLUTION
    return nn.BCEWithLogitsLoss()
    ### END SOLUTION


# %%
@check("build_criterion", points=2)
def _(case):
    def compute(logits, labels):
        return build_criterion()(logits, labels)

    case.call("one logit of 0, label 1", compute, torch.zeros(1, device=case.device), torch.ones(1, device=case.device))
    case.call("three logits, all real", compute, case.normal(3, scale=2.0), torch.ones(3, device=case.device))
    case.call("three logits, all generated", compute, case.normal(3, scale=2.0), torch.zeros(3, device=case.device))
    case.call("logits of ±10,000, on the wrong side", compute, torch.tensor([1e4, -1e4, 1e4], device=case.device), torch.tensor([0.0, 1.0, 0.0], device=case.device))
    logits = (case.normal(4) * 3).requires_grad_()
    case.gradients("gradient", compute(logits, torch.tensor([1.0, 0.0, 0.0, 1.0], device=case.device)), logits)
    ### BEGIN HIDDEN TESTS
    case.call("labels that are smoothed to 0.9", compute, case.normal(6, scale=2.0), torch.full((6,), 0.9, device=case.device))
    case.call("a label for each", compute, case.normal(7, scale=3.0), case.boolean(7).float())
    logits = torch.tensor([1e4, -1e4, 3.0, -30.0], device=case.device, requires_grad=True)
    loss = case.call("large logits", compute, logits, torch.tensor([0.0, 1.0, 1.0, 1.0], device=case.device))
    case.gradients("gradient at large logits", loss, logits)
    case.call("logits of ±10,000, on the right side", compute, torch.tensor([1e4, -1e4], device=case.device), torch.tensor([1.0, 0.0], device=case.device))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "build_criterion",
    "Look at the names of PyTorch's losses that begin with BCE. What does each expect as its first argument?",
    "Goodfellow's loss, which the DCGAN paper uses unchanged; PyTorch's documentation says which of the two forms is numerically stable, and why.",
    "Return an instance of the loss that takes logits and does sigmoid and logarithm in one step, with its default reduction.",
)
misconceptions(
    "build_criterion",
    mistake("BCE of logits", ("nn.BCEWithLogitsLoss()", "nn.BCELoss()"), says="This loss expects probabilities, and the discriminator returns logits: values outside [0, 1] are an error. Take the form for logits."),
    mistake("sigmoid, then BCE", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: nn.functional.binary_cross_entropy(torch.sigmoid(logits), labels)"), says="The sigmoid is taken first, and the logarithm of its rounded 0 or 1 afterwards: far from 0 the loss is cut off at 100 and its gradient is lost. Take the form for logits, which does both in one."),
    mistake("the sum", ("nn.BCEWithLogitsLoss()", 'nn.BCEWithLogitsLoss(reduction="sum")'), says="The loss is summed over the batch, so it (and the step) grows with the batch size; the mean is wanted."),
    mistake("no reduction", ("nn.BCEWithLogitsLoss()", 'nn.BCEWithLogitsLoss(reduction="none")'), says="There is one loss for each image; their mean is wanted."),
    mistake("squared error", ("nn.BCEWithLogitsLoss()", "nn.MSELoss()"), says="This is the squared error (of another GAN, LSGAN); the paper has binary cross-entropy."),
    mistake("absolute error", ("nn.BCEWithLogitsLoss()", "nn.L1Loss()"), says="This is the absolute error; the paper has binary cross-entropy."),
    mistake("sigmoid twice", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: nn.functional.binary_cross_entropy_with_logits(torch.sigmoid(logits), labels)"), says="The sigmoid is taken twice: once by hand, once inside the loss."),
    mistake("labels swapped", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: nn.functional.binary_cross_entropy_with_logits(logits, 1 - labels)"), says="The labels are turned round."),
    mistake("arguments swapped", ("nn.BCEWithLogitsLoss()", "lambda labels, logits: nn.functional.binary_cross_entropy_with_logits(logits, labels)"), says="Logits and labels have changed places: the logits come first."),
    mistake("the sign", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: -nn.functional.binary_cross_entropy_with_logits(logits, labels)"), says="The loss has the wrong sign."),
    mistake("the class", ("nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss"), says="The class is returned instead of an instance: the brackets are missing."),
    mistake("softplus", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: nn.functional.softplus(-logits).mean()"), says="The labels are not used: every image is treated as real."),
    mistake("real images count twice", ("nn.BCEWithLogitsLoss()", "nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0))"), says="Images with label 1 count twice; all count the same."),
    mistake("hinge", ("nn.BCEWithLogitsLoss()", "lambda logits, labels: torch.relu(1 - (2 * labels - 1) * logits).mean()"), says="This is the hinge loss, of later GANs; the paper has binary cross-entropy."),
)


# %% tags=["alternative"]
@alternative("the function")
def build_criterion():
    return torch.nn.functional.binary_cross_entropy_with_logits


# %% tags=["alternative"]
@alternative("softplus")
def build_criterion():
    def criterion(logits, labels):
        return (nn.functional.softplus(logits) - labels * logits).mean()

    return criterion


# %% tags=["alternative"]
@alternative("logsigmoid")
def build_criterion():
    return lambda s, y: -(y * nn.functional.logsigmoid(s) + (1 - y) * nn.functional.logsigmoid(-s)).mean()


# %% tags=["alternative"]
@alternative("a module, the maximum taken out")
def build_criterion():
    class BinaryCrossEntropy(nn.Module):
        def forward(self, logits, labels):
            each = logits.clamp(min=0) - logits * labels + torch.log1p(torch.exp(-logits.abs()))
            return each.sum() / len(each)

    return BinaryCrossEntropy()


# %% [markdown]
# ## Exercise 5 · `build_optimizers`
#
# *Difficulty ●○○ · 10 minutes · 3 points*
#
# Two networks with opposite aims need two optimisers: a step of the one must not move the other.
#
# | | the paper says (section 4) | this code does | why |
# | --- | --- | --- | --- |
# | optimiser | Adam | Adam, one for each network | |
# | learning rate | 0.0002, since 0.001 was “too high” | the same by default | |
# | $\beta_1$ | 0.5, since 0.9 “resulted in training oscillation and instability” | the same by default | the other player moves: old gradients mislead |
# | $\beta_2$ | not mentioned | 0.999 | Adam's default |
# | all else | not mentioned | PyTorch's defaults ($\varepsilon = 10^{-8}$) | |

# %% tags=["export"]
def build_optimizers(
    generator: nn.Module, discriminator: nn.Module, lr: float = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999)
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Adam for each of the two networks.

    Args:
        generator, discriminator: the networks.
        lr, betas: Adam's learning rate and decay rates, for both.

    Returns: (the generator's optimiser, the discriminator's). No weight decay.
    """
    ### BEGIN SOLUTION
    opt_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)
    opt_d = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)
    return opt_g, opt_d
    ### END SOLUTION


# %%
@check("build_optimizers", points=3, paper="section 4")
def _(case):
    def network(*sizes):  # any networks will do; float64, so that a small step is seen exactly
        made = nn.Sequential(*[nn.Linear(a, b).double() for a, b in zip(sizes, sizes[1:])])
        for parameter in made.parameters():
            nn.init.constant_(parameter, 0.5)
        return made

    def moves(steps, which, sizes=((2, 2, 1), (3, 1)), **options):  # how far each network has moved, in units of 1e-4
        g, d = network(*sizes[0]), network(*sizes[1])
        optimizers = build_optimizers(g, d, **options)
        for step in range(steps):
            for parameter in (*g.parameters(), *d.parameters()):
                parameter.grad = case.normal(*parameter.shape, dtype=torch.float64) / (1 + 3 * step)  # smaller and smaller, of changing sign
            for index in which:
                optimizers[index].step()
        return {name: torch.cat([(p.detach() - 0.5).flatten() for p in net.parameters()]) * 1e4 for name, net in (("generator", g), ("discriminator", d))}

    case.record("one step of the first: the generator's", moves(1, [0]), about="movement of the")
    case.record("one step of the second: the discriminator's", moves(1, [1]), about="movement of the")
    case.record("three steps of the first", moves(3, [0]), about="movement of the", tol=1e-6)
    case.record("three steps of the second", moves(3, [1]), about="movement of the", tol=1e-6)
    case.record("another learning rate", moves(2, [0, 1], lr=3e-3), about="movement of the", tol=1e-6)
    case.record("other betas", moves(4, [0, 1], betas=(0.3, 0.6)), about="movement of the", tol=1e-6)
    ### BEGIN HIDDEN TESTS
    case.record("networks of several layers", moves(3, [0, 1], sizes=((2, 3, 2), (3, 2, 2, 1))), about="movement of the", tol=1e-6)
    case.record("seven steps of both", moves(7, [1, 0]), about="movement of the", tol=1e-6)
    case.record("the other learning rate and betas", moves(5, [0, 1], lr=1e-5, betas=(0.0, 0.9)), about="movement of the", tol=1e-6)
    optimizers = build_optimizers(Generator(2, 1, 1), Discriminator(1, 1))
    counts = [sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"]) for optimizer in optimizers]
    case.record("parameters in the hands of each", counts)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "build_optimizers",
    "Whose parameters does each optimiser get? And which of Adam's defaults are not the paper's?",
    "Section 4, the paragraph on training details: Adam, its learning rate, its momentum term β₁.",
    "Make one Adam with the generator's parameters and one with the discriminator's, hand the learning rate and betas on to both, and return them in this order.",
)
GEN, DIS = "torch.optim.Adam(generator.parameters(), lr=lr, betas=betas)", "torch.optim.Adam(discriminator.parameters(), lr=lr, betas=betas)"
misconceptions(
    "build_optimizers",
    mistake("β₁ = 0.9", (GEN, GEN.replace(", betas=betas", "")), (DIS, DIS.replace(", betas=betas", "")), says="β₁ is Adam's default, 0.9, whatever `betas` says; section 4: 0.9 made training oscillate, 0.5 stabilised it."),
    mistake("β₁ = 0.9 for the generator", (GEN, GEN.replace(", betas=betas", "")), says="The generator's β₁ is Adam's default, 0.9; both have the betas of the caller."),
    mistake("β₁ = 0.9 for the discriminator", (DIS, DIS.replace(", betas=betas", "")), says="The discriminator's β₁ is Adam's default, 0.9; both have the betas of the caller."),
    mistake("Keras's epsilon", (GEN, GEN.replace("betas=betas", "betas=betas, eps=1e-7")), (DIS, DIS.replace("betas=betas", "betas=betas, eps=1e-7")), says="Adam's ε is not PyTorch's 1e-8 (Keras has 1e-7); leave it as it is."),
    mistake("Adam's learning rate", (GEN, GEN.replace("lr=lr, ", "")), (DIS, DIS.replace("lr=lr, ", "")), says="The learning rate is Adam's default, 0.001; section 4 found it too high and took 0.0002."),
    mistake("0.002", (GEN, GEN.replace("lr=lr", "lr=2e-3")), (DIS, DIS.replace("lr=lr", "lr=2e-3")), says="The learning rate is 0.002 whatever the caller says; the paper's is 0.0002."),
    mistake("a slower discriminator", (DIS, DIS.replace("lr=lr", "lr=lr / 2")), says="The discriminator's learning rate is half the generator's; both have the same."),
    mistake("a faster discriminator", (DIS, DIS.replace("lr=lr", "lr=4 * lr")), says="The discriminator's learning rate is four times the generator's (of a later paper, TTUR); both have the same."),
    mistake("fixed numbers", (GEN, GEN.replace("lr=lr, betas=betas", "lr=2e-4, betas=(0.5, 0.999)")), (DIS, DIS.replace("lr=lr, betas=betas", "lr=2e-4, betas=(0.5, 0.999)")), says="The paper's numbers are written in; the caller's `lr` and `betas` are ignored."),
    mistake("betas swapped", (GEN, GEN.replace("betas=betas", "betas=betas[::-1]")), (DIS, DIS.replace("betas=betas", "betas=betas[::-1]")), says="β₁ and β₂ have changed places."),
    mistake("the order", ("return opt_g, opt_d", "return opt_d, opt_g"), says="The discriminator's optimiser comes first; the generator's is to."),
    mistake("one for both", ("    return opt_g, opt_d", "    opt_g = opt_d = torch.optim.Adam([*generator.parameters(), *discriminator.parameters()], lr=lr, betas=betas)\n    return opt_g, opt_d"), says="One optimiser holds both networks: the step that teaches the discriminator moves the generator as well, in the wrong direction."),
    mistake("the generator twice", (DIS, DIS.replace("(discriminator.", "(generator.")), says="Both optimisers hold the generator's parameters; the discriminator never learns."),
    mistake("the discriminator twice", (GEN, GEN.replace("(generator.", "(discriminator.")), says="Both optimisers hold the discriminator's parameters; the generator never learns."),
    mistake("SGD", (GEN, "torch.optim.SGD(generator.parameters(), lr=lr, momentum=betas[0])"), (DIS, "torch.optim.SGD(discriminator.parameters(), lr=lr, momentum=betas[0])"), says="The optimiser is SGD with momentum; the paper's is Adam."),
    mistake("RMSprop", (GEN, "torch.optim.RMSprop(generator.parameters(), lr=lr)"), (DIS, "torch.optim.RMSprop(discriminator.parameters(), lr=lr)"), says="The optimiser is RMSprop; the paper's is Adam."),
    mistake("AdamW", (GEN, GEN.replace("Adam(", "AdamW(")), (DIS, DIS.replace("Adam(", "AdamW(")), says="The optimiser is AdamW, whose weight decay pulls every weight towards 0; plain Adam is asked for."),
    mistake("weight decay", (GEN, GEN.replace("betas=betas", "betas=betas, weight_decay=1e-2")), (DIS, DIS.replace("betas=betas", "betas=betas, weight_decay=1e-2")), says="There is weight decay; the paper has none."),
    mistake("AMSGrad", (GEN, GEN.replace("betas=betas", "betas=betas, amsgrad=True")), (DIS, DIS.replace("betas=betas", "betas=betas, amsgrad=True")), says="This is the AMSGrad variant; the paper's is plain Adam."),
    mistake("maximised", (GEN, GEN.replace("betas=betas", "betas=betas, maximize=True")), says="The generator's optimiser goes uphill; both losses are minimised."),
    mistake("the last layer only", (GEN, "torch.optim.Adam(list(generator.parameters())[-2:], lr=lr, betas=betas)"), says="The generator's optimiser holds only its last parameters."),
)


# %% tags=["alternative"]
@alternative("a loop over both")
def build_optimizers(generator, discriminator, lr=2e-4, betas=(0.5, 0.999)):
    return tuple(torch.optim.Adam(network.parameters(), lr, betas) for network in (generator, discriminator))


# %% tags=["alternative"]
@alternative("a function that makes one, without foreach")
def build_optimizers(generator, discriminator, lr=2e-4, betas=(0.5, 0.999)):
    from torch import optim

    def adam(network):
        return optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr, betas=tuple(betas), foreach=False)

    return adam(generator), adam(discriminator)


# %% tags=["alternative"]
@alternative("AdamW without decay")
def build_optimizers(generator, discriminator, lr=2e-4, betas=(0.5, 0.999)):
    options = {"lr": lr, "betas": betas, "weight_decay": 0.0}
    return torch.optim.AdamW(generator.parameters(), **options), torch.optim.AdamW(discriminator.parameters(), **options)


# %% tags=["alternative"]
@alternative("a parameter group for each tensor")
def build_optimizers(generator, discriminator, lr=2e-4, betas=(0.5, 0.999)):
    b1, b2 = betas
    opt_d = torch.optim.Adam([{"params": [p]} for p in discriminator.parameters()], lr=lr, betas=(b1, b2), eps=1e-8)
    opt_g = torch.optim.Adam([{"params": [p]} for p in generator.parameters()], lr=lr, betas=(b1, b2), eps=1e-8)
    return opt_g, opt_d


# %% [markdown]
# ### Try it: all of it together, for a moment
#
# Before two networks play against each other, let one learn alone. The discriminator (ndf = 16) gets drawn glyphs and the images of an *untrained* generator, which stays as it is. If anything is wrong with network, initialisation, loss or
# optimiser, it shows here, within seconds.

# %% tags=["picture"]
torch.manual_seed(SEED)
generator, discriminator = Generator(ngf=16).apply(init_weights), Discriminator(ndf=16).apply(init_weights)
_, opt_d = build_optimizers(generator, discriminator)
criterion = build_criterion()
real = torch.from_numpy(drawn_glyphs(20 * 32, seed=SEED)[0]).permute(0, 3, 1, 2).float() / 127.5 - 1  # [−1, 1]
losses, logits = [], {"real": [], "generated": []}
for batch in real.split(32):
    with torch.no_grad():
        fake = generator(torch.randn(len(batch), 100, 1, 1))
    on_real, on_fake = discriminator(batch), discriminator(fake)
    loss = criterion(on_real, torch.ones_like(on_real)) + criterion(on_fake, torch.zeros_like(on_fake))
    opt_d.zero_grad()
    loss.backward()
    opt_d.step()
    losses.append(loss.item())
    logits["real"].append(on_real.mean().item())
    logits["generated"].append(on_fake.mean().item())
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(losses, "o-", color=GREEN)
left.axhline(2 * torch.log(torch.tensor(2.0)).item(), color=GREY, linestyle="--", label="2 log 2: tossing a coin")
left.set(xlabel="step", ylabel="loss, nats", title="The discriminator's loss", ylim=(0, None))
for (label, values), colour, marker in zip(logits.items(), (BLUE, ORANGE), "os"):
    right.plot(values, marker + "-", color=colour, label=label)
for axis in (left, right):
    axis.set_xticks(range(0, 20, 4))
right.set(xlabel="step", ylabel="mean logit", title="What it says about the images")
for axis in (left, right):
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** The loss begins not far from $2 \log 2 \approx 1.39$, a coin tossed twice, since the first logits say little about either kind of image. It falls within a few steps, and the logits of real and generated images part, to positive and negative.
# An untrained generator is no opponent. In week 4 it fights back.

# %% [markdown] written="count_by_hand" points=2
# ## Question 1 · count by hand
#
# *2 points, graded by a person*
#
# (a) Write the generator's 3,576,704 parameters (nz = 100, ngf = 64, nc = 3) as a sum of its nine layers' parameters. (b) You need images of 128 × 128. What do you change in each network, and about how many parameters does the generator gain if
# the widest layer is to have 16·ngf channels?
#
# ### BEGIN SOLUTION
# (a) Convolutions, $16 \cdot c_\text{in} c_\text{out}$: $16 \cdot (100 \cdot 512 + 512 \cdot 256 + 256 \cdot 128 + 128 \cdot 64 + 64 \cdot 3)$ = 819,200 + 2,097,152 + 524,288 + 131,072 + 3,072 = 3,574,784.
# Batch-norms, γ and β: $2 \cdot (512 + 256 + 128 + 64)$ = 1,920. Together 3,576,704.
#
# (b) One more transposed convolution with stride 2 (and batch-norm, ReLU) in G, one more strided convolution (with batch-norm, leaky ReLU) in D. With 16·ngf = 1024 channels in front: the first layer becomes $16 \cdot 100 \cdot 1024$ = 1,638,400 (819,200 more), a new layer $16 \cdot
# 1024 \cdot 512$ = 8,388,608, its batch-norm 2,048: about 9.2 million more.
#
# **Rubric.** 1 point: (a) with kernels squared, input times output channels, and two numbers a channel for batch-norm. 1 point: one layer more in both networks, and the gain within 10 % (the new layer alone, 8.4 million, is ½).
# ### END SOLUTION

# %% [markdown] written="no_batch_norm_at_the_ends" points=2
# ## Question 2 · the two ends
#
# *2 points, graded by a person*
#
# The paper leaves batch-norm out at the generator's output and the discriminator's input. For each of the two, say what batch-norm there would make impossible. (b) In the check, evaluation mode gave other images than training mode for the same noise. Why?
#
# ### BEGIN SOLUTION
# At G's output: every channel of every batch would have the mean β and deviation γ, over all images of the batch. A batch of mostly dark images, or one picture's overall colour, could not be had independently of its neighbours; the data's distribution of brightness could not be matched.
# At D's input: mean and scale of real and generated batches would be normalised away before anything looks at them. D could not tell a batch that is too bright or too pale from a real one, so G would never be told.
#
# (b) In training mode batch-norm uses mean and variance of the batch at hand; in evaluation mode the running averages over the batches seen so far, here hardly more than their initial values 0 and 1.
#
# **Rubric.** 1 point: both ends with a consequence (½ each; “instability” alone, as quoted from the paper, is ¼). 1 point: batch statistics against running averages.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Five layers each way, side doubled or halved by kernel 4, stride 2, padding 1; 3,576,704 and 2,765,568 parameters, no biases.
# - Batch-norm everywhere but at G's output and D's input (and D's last layer). ReLU and a tanh in G, leaky ReLU (0.2) and a bare logit in D.
# - Convolutions from N(0, 0.02²), γ from N(1, 0.02²), β = 0. Adam, 0.0002, β₁ = 0.5, one for each network; binary cross-entropy on logits.
#
# **Next**: week 4, where the two play against each other. What you built here is there already: `from papers.dcgan.models import Generator, Discriminator, init_weights`.

# %% tags=["picture"]
score()
