# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: "Project: your own images"
#     order: 1
#     exports: papers.dcgan.project
#     minutes: 360
# ---

# %% [markdown]
# # Project: your own images
#
# *Final project of paper 2: “train a custom DCGAN on a dataset of your choice, generate high-quality images, and analyze the model's performance.”* · about 6 hours of your time, and those of a GPU
#
# At the end of this notebook you have
#
# - a DCGAN trained on a folder of images of your own, assembled from what you built in weeks 1 to 4;
# - numbers for it: a Fréchet distance, a diversity, a test against memorising, each beside the same number for real images;
# - a report that says what it draws well, what it does not, and why.
#
# Videos to come back to: [Building a GAN from scratch](https://youtu.be/_pIMdDWK5sc?si=ymBJ9FSsBUU--1Mv) and [Pytorch DCGAN Tutorial](https://youtu.be/5RYETbFFQ7s?si=l6ptYkd-WwQl5UuF) for the loop, [Visualize GAN Results](https://poloclub.github.io/ganlab/#:~:text=In%20GAN%20Lab%2C%20a%20random,manifold%20%5BOlah%2C%202014%5D.) for what may go wrong in it.
#
# | step | what | points |
# | --- | --- | --- |
# | 1 | assemble and train: exercise 1, `fit` | 6, automatic |
# | 2 | draw samples: exercise 2, `draw` | 3, automatic |
# | 3 | look for copies: exercises 3 and 4, `nearest_neighbours` and `memorised_share` | 6, automatic |
# | 4 | the report: data, samples, scores, failures | 15, by a person |
#
# **Rules.** Everything runs first on the embedded images, so that you know that it works. Then put a folder of your own in `IMAGES` and run it again. The automatic checks do not depend on your images. Use images you may use: your own, or of a licence that allows it; faces only of people who agreed.

# %% tags=["export"]
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from papers.dcgan.data import build_dataloader
from papers.dcgan.models import Discriminator, Generator, build_criterion, build_optimizers, init_weights
from papers.dcgan.training import train

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch.nn.functional as F
from PIL import Image
from torchvision.utils import make_grid

from papers.datasets import drawn_glyphs
from papers.dcgan.data import ImageFolderDataset, build_transform
from papers.dcgan.evaluation import diversity, feature_distance

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too
_ = torch.optim.SGD([torch.zeros(1)], lr=1.0)  # the first optimiser of a session loads much of PyTorch: once, here, and no check waits for it

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
IMAGES = ""  # a folder with images of your own; empty: spades, crescents and rooks, drawn on the spot
STEPS = 0  # cuts training short after so many steps; 0: as many as the profile says

# %% [markdown]
# ## Exercise 1 · `fit`
#
# *Difficulty ●●○ · 30 minutes · 6 points*
#
# All parts are there: networks and initialisation (week 3), loader (week 2), loss and optimisers (week 3), loop (week 4). What goes wrong when they are put together is seldom a part: optimisers in the wrong order, an initialisation that nobody calls, noise that is drawn once.
#
# The loop is an argument. So you can try the assembly with one that does nothing, or that prints what it is given; the check does just that.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | noise | uniform (figure 1) | $\mathcal N(0, 1)$ | most implementations since; interpolations stay near what was seen in training |
# | learning rate, batch | 0.0002, 128 | arguments with these defaults | small data sets need smaller batches |

# %% tags=["export"]
def fit(
    dataset: Dataset,
    epochs: int,
    nz: int = 100,
    ngf: int = 64,
    batch_size: int = 128,
    lr: float = 2e-4,
    seed: int = 0,
    device: str | torch.device = "cpu",
    loop: Callable[..., Any] = train,
    **options: Any,
) -> nn.Module:
    """A DCGAN for a dataset: assembled, initialised, trained.

    Args:
        dataset: of (image (C, 64, 64) in [-1, 1], label); C is read off the first image.
        epochs: how many.
        nz: numbers in a noise vector, drawn from N(0, 1), anew each time.
        ngf: width of the generator, and of the discriminator.
        batch_size: images a batch; shuffled, the last partial batch dropped (`build_dataloader`).
        lr: of both of the paper's optimisers (`build_optimizers`).
        seed: decides initial weights, order and noise: the same seed gives the same generator,
            another one another.
        device: of networks and noise.
        loop: called once, like `papers.dcgan.training.train`: loop(generator, discriminator,
            loader, epochs, opt_g, opt_d, criterion, sample_noise, **options). Both networks have
            been initialised by `init_weights`; criterion is `build_criterion()`.
        options: handed on to the loop: writer, checkpoint, report, fixed_noise.

    Returns: the generator that the loop has trained, in evaluation mode.
    """
    ### BEGIN SOLUTION
    torch.manual_seed(seed)
    channels = dataset[0][0].shape[0]
    generator = Generator(nz, ngf, channels).apply(init_weights).to(device)
    discriminator = Discriminator(channels, ngf).apply(init_weights).to(device)
    opt_g, opt_d = build_optimizers(generator, discriminator, lr=lr)
    loader = build_dataloader(dataset, batch_size, seed=seed)
    random = torch.Generator().manual_seed(seed)

    def sample_noise(n: int) -> Tensor:
        return torch.randn(n, nz, 1, 1, generator=random).to(device)

    loop(generator, discriminator, loader, epochs, opt_g, opt_d, build_criterion(), sample_noise, **options)
    return generator.eval()
    ### END SOLUTION


# %%
@check("fit", points=6, paper="section 4, details of adversarial training")
def _(case):
    def images(count, channels):  # each of one grey, so that an image is known by its first pixel
        greys = -1 + 2 * (case.permutation(count) + 0.5) / count
        return [(grey.expand(channels, 64, 64), 0) for grey in greys]

    def assembled(dataset, epochs, z=None, **options):  # fit with a loop that only looks; "drawn" is what the generator makes of z when the loop is done
        seen = {}

        def loop(generator, discriminator, loader, epochs, opt_g, opt_d, criterion, sample_noise, fixed_noise=None, writer=None, checkpoint=None, report=None):
            def first_pixels():
                return [round(float(pixel), 6) for batch, _ in loader for pixel in batch[:, 0, 0, 0]]

            def held(optimiser):
                return {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}

            def own(network):
                return {id(parameter) for parameter in network.parameters()}

            weights = torch.cat([p.detach().flatten() for network in (generator, discriminator) for p in network.parameters() if p.dim() > 1])
            gammas = [torch.cat([p.detach().flatten() for name, p in network.named_parameters() if p.dim() == 1 and "weight" in name]) for network in (generator, discriminator)]
            order = first_pixels()
            noise = sample_noise(400)
            seen.update(
                epochs=epochs, weights=weights, gammas=gammas, noise=noise, again=sample_noise(400), order=order, order2=first_pixels(),
                writer=writer, report=report, checkpoint=checkpoint, fixed_noise=fixed_noise,
                parameters=[sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)],
                holds={"opt_g, all of the generator": held(opt_g) == own(generator), "opt_d, all of the discriminator": held(opt_d) == own(discriminator),
                       "opt_g, nothing of the discriminator": not held(opt_g) & own(discriminator), "opt_d, nothing of the generator": not held(opt_d) & own(generator)},
                settings={f"{who}'s {what}": value for who, optimiser in (("opt_g", opt_g), ("opt_d", opt_d)) for group in optimiser.param_groups[:1]
                          for what, value in zip(("lr", "β₁", "β₂", "weight decay"), (group["lr"], *group["betas"], group.get("weight_decay", 0)))},
                shapes=[list(batch.shape) for batch, _ in loader],
                loss=float(criterion(torch.tensor([3.0, -1.0, 0.5]), torch.tensor([1.0, 1.0, 0.0]))),
            )  # fmt: skip
            with torch.no_grad():
                for parameter in generator.parameters():
                    parameter.mul_(1.5)
                if z is not None:
                    seen["drawn"] = generator.eval()(z)
            generator.train(), discriminator.train()  # as the loop of week 4 leaves them

        seen["returned"] = fit(dataset, epochs, loop=loop, **options)
        if "epochs" not in seen:
            raise RuntimeError("fit() never called the loop that it was given")
        return seen

    def look(name, count, channels, epochs, nz, ngf, batch_size, **options):
        dataset = images(count, channels)
        z = case.normal(3, nz, 1, 1)
        seen = assembled(dataset, epochs, z, nz=nz, ngf=ngf, batch_size=batch_size, **options)
        case.record(f"{name}: epochs", seen["epochs"])
        case.record(f"{name}: parameters of generator and discriminator", seen["parameters"], about="parameters of network")
        case.record(f"{name}: who holds whose parameters", seen["holds"], about="it is true that")
        case.record(f"{name}: learning rate, betas and weight decay", seen["settings"], about="setting")
        case.record(f"{name}: the criterion on three logits", seen["loss"])
        case.record(f"{name}: shapes of the batches", seen["shapes"], about="batch")
        case.record(f"{name}: images in an epoch", sorted(seen["order"]) if count % batch_size == 0 else len(set(seen["order"])), about="image")
        case.record(f"{name}: shuffled, and anew each epoch", [seen["order"] != [round(float(image[0, 0, 0]), 6) for image, _ in dataset], seen["order"] != seen["order2"]], about="order")
        case.record(f"{name}: spread of the weights is not below", float(seen["weights"].std()), at_least=0.018)
        case.record(f"{name}: spread of the weights is not above", float(seen["weights"].std()), at_most=0.022)
        case.record(f"{name}: batch-norm's γ is drawn too", {who: float(gammas.std()) > 0.005 for who, gammas in zip(("generator", "discriminator"), seen["gammas"])}, about="drawn in the")
        case.record(f"{name}: shape of the noise", list(seen["noise"].shape), about="noise")
        case.record(f"{name}: spread of the noise is not below", float(seen["noise"].std()), at_least=0.9)
        case.record(f"{name}: spread of the noise is not above", float(seen["noise"].std()), at_most=1.1)
        case.record(f"{name}: mean of the noise", abs(float(seen["noise"].mean())), at_most=0.15)
        case.record(f"{name}: numbers beyond ±2.2 occur", bool((seen["noise"].abs() > 2.2).any()))
        case.record(f"{name}: new noise each time", not torch.equal(seen["noise"], seen["again"]))
        back = seen["returned"]
        case.record(f"{name}: a module comes back", isinstance(back, nn.Module))
        case.record(f"{name}: it is in training mode", isinstance(back, nn.Module) and any(module.training for module in back.modules()))
        if isinstance(back, nn.Module):
            with torch.no_grad():
                difference = float((seen["drawn"] - back.eval()(z)).abs().max())
            case.record(f"{name}: how far its images are from those of the generator that was trained", difference, at_most=1e-5)
        return seen

    look("twelve grey images", 12, 1, 3, nz=6, ngf=4, batch_size=4, lr=1e-3)
    seen = look("colour, a last batch that is not full", 11, 3, 2, nz=9, ngf=3, batch_size=4, writer="a writer", report="a report", checkpoint="a checkpoint", fixed_noise=case.normal(2, 9, 1, 1))
    case.record("options arrive at the loop", {what: seen[what] for what in ("writer", "report", "checkpoint", "fixed_noise")}, about="option")
    dataset = images(8, 1)
    runs = [assembled(dataset, 1, nz=5, ngf=2, batch_size=4, seed=seed) for seed in (3, 3, 4)]
    case.record("the same seed: the same weights, noise and order", [torch.equal(runs[0][what], runs[1][what]) for what in ("weights", "noise")] + [runs[0]["order"] == runs[1]["order"]], about="equal")
    case.record("another seed: other weights, noise and order", [torch.equal(runs[0][what], runs[2][what]) for what in ("weights", "noise")] + [runs[0]["order"] == runs[2]["order"]], about="equal")
    ### BEGIN HIDDEN TESTS
    look("more images", 15, 1, 4, nz=4, ngf=5, batch_size=5, lr=3e-4, seed=7)
    unsaid, zero = assembled(dataset, 1, nz=5, ngf=2, batch_size=4), assembled(dataset, 1, nz=5, ngf=2, batch_size=4, seed=0)
    case.record("no seed given: weights, noise and order are those of seed 0", [torch.equal(unsaid[what], zero[what]) for what in ("weights", "noise")] + [unsaid["order"] == zero["order"]], about="equal")
    seen = assembled(images(130, 1), 1)
    case.record("nothing given but images and epochs: numbers in a noise vector", seen["noise"].shape[1])
    case.record("nothing given but images and epochs: parameters of generator and discriminator", seen["parameters"], about="parameters of network")
    case.record("nothing given but images and epochs: shapes of the batches", seen["shapes"], about="batch")
    case.record("nothing given but images and epochs: learning rate, betas and weight decay", seen["settings"], about="setting")
    trained = [fit(images(4, 1), epochs, nz=3, ngf=2, batch_size=2, lr=1e-2) for epochs in (0, 1)]  # with the loop of week 4
    z = case.normal(2, 3, 1, 1)
    with torch.no_grad():
        before, after = trained[0](z), trained[1](z)
    case.record("with week 4's own loop: shape, finite, changed by training", [list(after.shape), bool(after.isfinite().all()), not torch.equal(before, after)])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "fit",
    "List the loop's arguments and write beside each the week in which you built it. Which of them must exist before another one can be made?",
    "Section 4, “Details of adversarial training”: initial weights, optimiser, batch, learning rate. `build_optimizers` says in which order it returns its two.",
    "Seed. Read the channels off the first image. Make both networks, initialise them with apply, move them to the device, then make the optimisers. Make the loader with the seed, and a function that draws noise from a generator seeded once, outside of it. Call the loop and return the generator in "
    "evaluation mode.",
)
equivalents("fit", {"number: `channels = dataset[0][0].shape[0]` → `channels = dataset[1][0].shape[0]`": "all images have the same channels"})
misconceptions(
    "fit",
    mistake("optimisers exchanged", ("opt_g, opt_d = build_optimizers(generator, discriminator, lr=lr)", "opt_d, opt_g = build_optimizers(generator, discriminator, lr=lr)"), says="The optimisers are exchanged: each network is moved by the other's step. build_optimizers returns the generator's first."),
    mistake("networks exchanged", ("loop(generator, discriminator, loader, epochs, opt_g, opt_d, build_criterion()", "loop(discriminator, generator, loader, epochs, opt_g, opt_d, build_criterion()"), says="Generator and discriminator are exchanged in the call of the loop."),
    mistake("not initialised", ("Generator(nz, ngf, channels).apply(init_weights)", "Generator(nz, ngf, channels)"), ("Discriminator(channels, ngf).apply(init_weights)", "Discriminator(channels, ngf)"), says="init_weights is never applied: the networks begin with PyTorch's own weights, not with N(0, 0.02²)."),
    mistake("optimisers of other networks", ("build_optimizers(generator, discriminator, lr=lr)", "build_optimizers(Generator(nz, ngf, channels), Discriminator(channels, ngf), lr=lr)"), says="The optimisers hold parameters of other networks than those that are trained: nothing will move. Make the networks first, and only once."),
    mistake("noise drawn once", ("    def sample_noise(n: int) -> Tensor:\n        return torch.randn(n, nz, 1, 1, generator=random).to(device)", "    always = torch.randn(1000, nz, 1, 1, generator=random)\n\n    def sample_noise(n: int) -> Tensor:\n        return always[:n].to(device)"), says="Each call gives the same noise: it is drawn only once, or its generator is seeded within the function. The networks would see the same few vectors in every step."),
    mistake("uniform noise on [0, 1)", ("torch.randn(n,", "torch.rand(n,"), says="The noise is uniform on [0, 1), and never negative; N(0, 1) is asked for."),
    mistake("uniform noise on [−1, 1)", ("torch.randn(n, nz, 1, 1, generator=random)", "(2 * torch.rand(n, nz, 1, 1, generator=random) - 1)"), says="The noise is uniform on [−1, 1), as in the paper; this project takes N(0, 1)."),
    mistake("flat noise", ("torch.randn(n, nz, 1, 1,", "torch.randn(n, nz,"), says="The noise has shape (n, nz); transposed convolutions want (n, nz, 1, 1)."),
    mistake("always 100 numbers of noise", ("Generator(nz, ngf, channels)", "Generator(100, ngf, channels)"), ("torch.randn(n, nz,", "torch.randn(n, 100,"), says="The noise has always 100 numbers, whatever nz says."),
    mistake("always three channels", ("channels = dataset[0][0].shape[0]", "channels = 3"), says="The networks have always three channels; read them off the images."),
    mistake("an unseeded run", ("    torch.manual_seed(seed)\n", ""), says="The initial weights do not depend on the seed."),
    mistake("the order without the seed", (", seed=seed)\n    random", ")\n    random"), says="The order of the images does not depend on the seed: hand it to the loader as well."),
    mistake("the same seed always", ("torch.manual_seed(seed)", "torch.manual_seed(0)"), (".manual_seed(seed)\n\n", ".manual_seed(0)\n\n"), says="The seed is always 0, whatever the caller says."),
    mistake("the paper's learning rate always", (", lr=lr)", ")"), says="The optimisers are not told the learning rate and keep their default."),
    mistake("the generator twice as wide", ("Discriminator(channels, ngf)", "Discriminator(channels, 2 * ngf)"), says="The discriminator is twice as wide as the generator; both have ngf."),
    mistake("the paper's width always", ("Generator(nz, ngf, channels)", "Generator(nz, 64, channels)"), ("Discriminator(channels, ngf)", "Discriminator(channels, 64)"), says="The networks have always the width 64; ngf is an argument."),
    mistake("the paper's batch always", ("build_dataloader(dataset, batch_size, seed=seed)", "build_dataloader(dataset, 2, seed=seed)"), says="The batch size is not handed on to the loader."),
    mistake("not shuffled", ("build_dataloader(dataset, batch_size, seed=seed)", "torch.utils.data.DataLoader(dataset, batch_size, drop_last=True)"), says="The images come in the same order each epoch; `build_dataloader` shuffles them."),
    mistake("partial batches kept", ("build_dataloader(dataset, batch_size, seed=seed)", "torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed))"), says="The last batch is kept although it is not full; batch-norm on one or two images is noise. `build_dataloader` drops it."),
    mistake("one epoch", ("epochs, opt_g, opt_d, build_criterion()", "1, opt_g, opt_d, build_criterion()"), says="The loop is always told to train one epoch."),
    mistake("a sigmoid too many", ("build_criterion(), sample_noise", "nn.BCELoss(), sample_noise"), says="The criterion is nn.BCELoss, which wants probabilities; the discriminator returns logits."),
    mistake("another loss", ("build_criterion(), sample_noise", "nn.MSELoss(), sample_noise"), says="The criterion is a squared error (of a later paper, LSGAN); binary cross-entropy is asked for."),
    mistake("options forgotten", ("build_criterion(), sample_noise, **options)", "build_criterion(), sample_noise)"), says="The options (writer, report, checkpoint, fixed_noise) are not handed on to the loop."),
    mistake("only some of the options", ("build_criterion(), sample_noise, **options)", 'build_criterion(), sample_noise, writer=options.get("writer"), report=options.get("report"))'), says="Only some of the options are handed on to the loop; all of them are, with **options: writer, checkpoint, report and fixed_noise."),
    mistake("discriminator not initialised in full", ("Discriminator(channels, ngf).apply(init_weights)", "Discriminator(channels, ngf)"), ("    opt_g, opt_d =", "    for p in discriminator.parameters():\n        if p.dim() > 1:\n            nn.init.normal_(p, 0.0, 0.02)\n    opt_g, opt_d ="), says="The discriminator's batch-norms keep γ = 1; `init_weights` draws γ too, from N(1, 0.02²). Apply it to both networks."),
    mistake("weight decay", ("build_optimizers(generator, discriminator, lr=lr)", "(torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=1e-4) for network in (generator, discriminator))"), says="The optimisers have a weight decay, which the paper's have not; `build_optimizers` makes them."),
    mistake("training mode", ("return generator.eval()", "return generator.train()"), says="The generator comes back in training mode, as the loop leaves it, where an image depends on the others of its batch. Put it into evaluation mode when the loop is done."),
    mistake("an untrained generator", ("return generator.eval()", "return Generator(nz, ngf, channels).apply(init_weights).to(device).eval()"), says="What comes back is not as training has left it: a new generator, or one that was initialised again after the loop. Initialise once, before the optimisers are made, and return the generator that the loop was given."),
    mistake("never trained", ("    loop(generator, discriminator, loader, epochs, opt_g, opt_d, build_criterion(), sample_noise, **options)\n", ""), says="The loop is never called."),
    mistake("returns what the loop returns", ("    loop(", "    history = loop("), ("return generator.eval()", "return history"), says="What the loop returns is handed on; the generator is asked for."),
)


# %% tags=["alternative"]
@alternative("step by step, noise from torch's global generator")
def fit(dataset, epochs, nz=100, ngf=64, batch_size=128, lr=2e-4, seed=0, device="cpu", loop=train, **options):
    torch.manual_seed(seed)
    image, _ = dataset[0]
    g = Generator(nz=nz, ngf=ngf, nc=image.size(0))
    d = Discriminator(nc=image.size(0), ndf=ngf)
    g.apply(init_weights)
    d.apply(init_weights)
    g, d = g.to(device), d.to(device)
    og, od = build_optimizers(g, d, lr)
    batches = build_dataloader(dataset, batch_size=batch_size, seed=seed)
    loop(g, d, batches, epochs, og, od, build_criterion(), lambda n: torch.randn((n, nz, 1, 1), device=device), **options)
    g.eval()
    return g


# %% tags=["alternative"]
@alternative("keywords, initialised after the move, noise by normal_")
def fit(dataset, epochs, nz=100, ngf=64, batch_size=128, lr=2e-4, seed=0, device="cpu", loop=train, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        c = len(dataset[0][0])
        networks = [network.to(device).apply(init_weights) for network in (Generator(nz, ngf, c), Discriminator(c, ngf))]
    opt_g, opt_d = build_optimizers(*networks, lr=lr, betas=(0.5, 0.999))
    source = torch.Generator().manual_seed(10_000 + seed)
    loop(
        generator=networks[0], discriminator=networks[1], loader=build_dataloader(dataset, batch_size, seed), epochs=epochs, opt_g=opt_g, opt_d=opt_d,
        criterion=build_criterion(), sample_noise=lambda n: torch.empty(n, nz, 1, 1).normal_(generator=source).to(device), **options,
    )  # fmt: skip
    return networks[0].train(False)


# %% tags=["alternative"]
@alternative("own DataLoader and own Adam, numpy's noise")
def fit(dataset, epochs, nz=100, ngf=64, batch_size=128, lr=2e-4, seed=0, device="cpu", loop=train, **options):
    import numpy as np

    torch.manual_seed(seed)
    random = np.random.RandomState(seed)
    channels = dataset[0][0].shape[-3]
    generator, discriminator = Generator(nz, ngf, channels).to(device), Discriminator(channels, ngf).to(device)
    for network in (discriminator, generator):
        network.apply(init_weights)
    opt_g, opt_d = (torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999)) for network in (generator, discriminator))
    loader = torch.utils.data.DataLoader(dataset, batch_size, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(seed))

    def noise(n):
        return torch.from_numpy(random.standard_normal((n, nz, 1, 1)).astype("float32")).to(device)

    loop(generator, discriminator, loader, epochs, opt_g, opt_d, nn.BCEWithLogitsLoss(), noise, **options)
    return generator.requires_grad_(True).eval()


# %% tags=["alternative"]
@alternative("a class for the noise, a copy comes back")
def fit(dataset, epochs, nz=100, ngf=64, batch_size=128, lr=2e-4, seed=0, device="cpu", loop=train, **options):
    import copy

    class Noise:
        def __init__(self):
            self.random = torch.Generator()
            self.random.manual_seed(seed)

        def __call__(self, n):
            return torch.normal(0.0, 1.0, (n, nz, 1, 1), generator=self.random).to(device)

    torch.manual_seed(seed)
    size = next(iter(torch.utils.data.DataLoader(dataset, 1)))[0].shape[1]
    pair = nn.ModuleDict({"g": Generator(nz, ngf, size), "d": Discriminator(size, ngf)}).apply(init_weights).to(device)
    optimisers = build_optimizers(pair["g"], pair["d"], lr=lr)
    loop(pair["g"], pair["d"], build_dataloader(dataset, batch_size, seed=seed), epochs, *optimisers, build_criterion(), Noise(), **options)
    return copy.deepcopy(pair["g"]).eval()


# %% [markdown]
# ## Exercise 2 · `draw`
#
# *Difficulty ●○○ · 10 minutes · 3 points*
#
# Every number below needs hundreds of samples: drawn in batches that fit the memory, in evaluation mode, without gradients, in [0, 1], and without leaving a trace in the generator.

# %% tags=["export"]
def draw(generator: nn.Module, noise: Tensor, batch_size: int = 64) -> Tensor:
    """Images from noise.

    Args:
        generator: noise (B, nz, 1, 1) to images (B, C, H, W) in [-1, 1]. It runs in evaluation
            mode, and is left in the mode in which it came.
        noise: (N, nz, 1, 1), N ≥ 1. It is not changed.
        batch_size: at most so many at once.

    Returns: images (N, C, H, W) in [0, 1], in the order of the noise, on the CPU; they need no gradient.
    """
    ### BEGIN SOLUTION
    mode = generator.training
    generator.eval()
    with torch.no_grad():
        images = torch.cat([generator(batch).cpu() for batch in noise.split(batch_size)])
    generator.train(mode)
    return (images + 1) / 2
    ### END SOLUTION


# %%
@check("draw", points=3)
def _(case):
    calls = []  # how many at once: noted here, since a copy of the generator will do as well

    class Small(nn.Module):  # noise (B, nz, 1, 1) to images (B, C, 2, 3)
        def __init__(self, nz, channels):
            super().__init__()
            self.channels = channels
            self.first, self.norm = nn.Linear(nz, 6 * channels), nn.BatchNorm1d(6 * channels)

        def forward(self, z):
            calls.append(len(z))
            return torch.tanh(self.norm(self.first(z.flatten(1)))).view(-1, self.channels, 2, 3)

    def drawn(name, count, batch_size, nz=4, channels=1, training=True, **options):
        generator = case.initialise(Small(nz, channels).to(case.device)).train()
        with torch.no_grad():
            generator(case.normal(7, nz, 1, 1))  # running statistics that are not 0 and 1
        generator.train(training)
        calls.clear()
        for parameter in generator.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {key: value.clone() for key, value in generator.named_buffers()}
        images = case.call(f"{name}: images", draw, generator, case.normal(count, nz, 1, 1), **({} if batch_size is None else {"batch_size": batch_size}))
        case.record(f"{name}: at most batch_size at once", max(calls, default=0) <= (batch_size or 64))
        case.record(f"{name}: images drawn in all", sum(calls))
        case.record(f"{name}: needs a gradient", images.requires_grad)
        modes = {module.training for module in generator.modules()}
        mode = "some of each" if len(modes) > 1 else "training mode" if modes.pop() else "evaluation mode"
        case.record(f"{name}: the generator's mode afterwards", mode, about="mode")
        case.record(f"{name}: its statistics stay", all(torch.equal(value, before[key]) for key, value in generator.named_buffers()))
        kept = all(parameter.grad is not None and bool((parameter.grad == 1).all()) for parameter in generator.parameters())
        case.record(f"{name}: gradients that the parameters had", "kept" if kept else "changed", about="they are")
        case.record(f"{name}: the generator can still be trained", all(parameter.requires_grad for parameter in generator.parameters()))
        case.record(f"{name}: torch still keeps track of gradients", torch.is_grad_enabled())
        torch.set_grad_enabled(True)

    drawn("one", 1, 2)
    drawn("five in batches of two", 5, 2)
    drawn("evaluation mode before", 4, 3, channels=3, training=False)
    drawn("batches as they come", 70, None, nz=3)
    ### BEGIN HIDDEN TESTS
    drawn("a full last batch", 6, 3, channels=2)
    drawn("one at a time", 4, 1, nz=2)
    drawn("more room than needed", 3, 50, training=False)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "draw",
    "Which mode does the generator come in, and which does it leave in? Ask for both cases.",
    "Section 3: batch normalisation is over the batch. In which mode does an image not depend on its neighbours?",
    "Remember the mode, change to evaluation, split the noise, collect what the generator makes of each part without gradients, put the mode back, and map [−1, 1] to [0, 1].",
)
equivalents("draw", {"detach added: `return (images + 1) / 2` → `return ((images + 1) / 2).detach()`": "nothing is left to detach"})
MAP = "return (images + 1) / 2"
misconceptions(
    "draw",
    mistake("training mode", ("    generator.eval()\n", ""), says="The images are drawn in whatever mode the generator is in: in training mode batch-norm mixes the images of a batch, and its statistics change."),
    mistake("left in evaluation mode", ("    generator.train(mode)\n", ""), says="The generator is left in evaluation mode; it was in training mode before, and training would go on without batch statistics."),
    mistake("put into training mode", ("generator.train(mode)", "generator.train()"), says="The generator is always left in training mode, although it came in evaluation mode once."),
    mistake("gradients", ("torch.no_grad()", "torch.enable_grad()"), says="The images remember how they were made (they need a gradient), which keeps all activations in memory; draw under no_grad."),
    mistake("gradients off for good", ("    with torch.no_grad():\n        images", "    torch.set_grad_enabled(False)\n    images"), says="Gradients are switched off and stay off: whatever is trained next learns nothing. Switch them off for these lines alone, with torch.no_grad()."),
    mistake("frozen parameters", ("    generator.eval()\n", "    generator.eval().requires_grad_(False)\n"), says="The generator's parameters are frozen (`requires_grad_(False)`) and stay so: it cannot be trained any more."),
    mistake("in [−1, 1]", (MAP, "return images"), says="The images are in [−1, 1], as the generator makes them; [0, 1] is asked for."),
    mistake("cut off below 0", (MAP, "return images.clamp(0, 1)"), says="Negative values are cut off instead of mapped: everything darker than middle grey is black."),
    mistake("halved", (MAP, "return images / 2 + 1"), says="The images are in [½, 1½]: 1 is added after halving. Halve after adding, or add ½."),
    mistake("bytes", (MAP, "return ((images + 1) * 127.5).round()"), says="The images are in [0, 255]; [0, 1] is asked for."),
    mistake("each stretched", (MAP, "return (images - images.min()) / (images.max() - images.min())"), says="The images are stretched to fill [0, 1]: their brightness then depends on the others. The map is fixed: −1 to 0, 1 to 1."),
    mistake("all at once", ("noise.split(batch_size)", "[noise]"), says="All images are drawn at once, whatever batch_size says."),
    mistake("the first batch only", ("noise.split(batch_size)", "[noise[:batch_size]]"), says="Only the first batch is drawn."),
    mistake("the last batch dropped", ("noise.split(batch_size)", "(noise.split(batch_size)[: max(1, len(noise) // batch_size)])"), says="The last batch is left out when it is not full."),
    mistake("other noise", ("generator(batch)", "generator(torch.randn_like(batch))"), says="The images are made from noise drawn here, not from that of the caller."),
    mistake("batches stacked", ("torch.cat(", "torch.stack("), says="The batches are stacked (which needs them all of one size and adds an axis); they are to be joined one behind the other."),
    mistake("in reverse", ("noise.split(batch_size)", "noise.split(batch_size)[::-1]"), says="The batches come in the reverse order; image i belongs to noise i."),
)


# %% tags=["alternative"]
@alternative("preallocated, by index, try and finally")
def draw(generator, noise, batch_size=64):
    was_training, pieces = generator.training, []
    try:
        generator.train(False)
        with torch.inference_mode():
            for start in range(0, noise.shape[0], batch_size):
                pieces.append(generator(noise[start : start + batch_size]).mul(0.5).add(0.5).to("cpu"))
    finally:
        generator.train(was_training)
    return torch.vstack(pieces).clone()


# %% tags=["alternative"]
@alternative("a copy of the generator")
def draw(generator, noise, batch_size=64):
    import copy

    with torch.no_grad():
        painter = copy.deepcopy(generator).eval()
        painter.calls = getattr(generator, "calls", None)
        return torch.cat([painter(z) for z in torch.split(noise, batch_size)], 0).detach().cpu() * 0.5 + 0.5


# %% tags=["alternative"]
@alternative("chunks, detached, clamped")
def draw(generator, noise, batch_size=64):
    training = generator.training
    generator.eval()
    count = -(-len(noise) // batch_size)
    images = [generator(z).detach() for z in noise.tensor_split([batch_size * i for i in range(1, count)])]
    if training:
        generator.train()
    return torch.cat(images).add(1).div(2).clamp(0, 1).cpu()


# %% tags=["alternative"]
@alternative("a decorator, a list filled image by image")
@torch.no_grad()
def draw(generator, noise, batch_size=64):
    before = generator.training
    generator.eval()
    images = []
    for z in noise.split(min(batch_size, len(noise))):
        images.extend(generator(z).cpu())
    generator.train(before)
    return torch.stack([image / 2 + 0.5 for image in images])


# %% [markdown]
# ## Exercise 3 · `nearest_neighbours`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# A generator that has memorised its training set draws perfect pictures. Section 4.1 of the paper asks whether it has: the authors show samples after a single epoch, when memorising is unlikely, and remove near-duplicates from the data (4.1.1). With images of your own there are fewer of them and more epochs, so the
# question is more pressing. Look up for each sample the training images that are nearest to it, and look at both:
#
# $$d(x, y) = \lVert x - y \rVert = \sqrt{\textstyle\sum_i (x_i - y_i)^2},$$
#
# over all pixels and channels. It is a crude measure (an image moved by two pixels is far away), but a copy is near.

# %% tags=["export"]
def nearest_neighbours(samples: Tensor, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k images that are nearest to each sample, by Euclidean distance over all pixels and channels.

    Args:
        samples: (N, C, H, W).
        images: (M, C, H, W), M ≥ k.
        k: how many, at least 1.

    Returns: distances (N, k), ascending, and indices into images (N, k), int64. (In which order
        equally near ones come is open.) The inputs are not changed.
    """
    ### BEGIN SOLUTION
    distances = torch.cdist(samples.flatten(1), images.flatten(1))  # (N, M)
    nearest = distances.topk(k, largest=False)
    return nearest.values, nearest.indices
    ### END SOLUTION


# %%
@check("nearest_neighbours", points=3, paper="section 4.1, on memorisation")
def _(case):
    def look(name, samples, images, k, **policy):
        return case.call(name, nearest_neighbours, samples, images, k=k, labels=("distances", "indices"), policy={"any_dtype": True, **policy})

    look("one sample, three images of one pixel", torch.tensor([0.2]).view(1, 1, 1, 1), torch.tensor([0.9, 0.3, -0.4]).view(3, 1, 1, 1), 1)
    look("two of three", torch.tensor([0.2, 0.8]).view(2, 1, 1, 1), torch.tensor([0.9, 0.3, -0.4]).view(3, 1, 1, 1), 2)
    found = look("1 × 2 pixels", case.uniform(3, 1, 1, 2), case.uniform(5, 1, 1, 2), 2)
    if isinstance(found, (tuple, list)) and len(found) == 2:
        case.record("dtype of the indices", str(getattr(found[1], "dtype", type(found[1]).__name__)).removeprefix("torch."))
    look("three channels, 2 × 4 pixels", case.uniform(4, 3, 2, 4), case.uniform(6, 3, 2, 4), 3)
    look("all of them", case.uniform(2, 1, 3, 2), case.uniform(4, 1, 3, 2), 4)
    images = case.uniform(7, 1, 3, 3)
    look("two samples are copies", torch.stack([images[4], case.uniform(1, 3, 3), images[1]]), images, 1, tol=5e-3)
    look("brighter copies, scaled by 2", 2 * images[[5, 2]], images, 3)
    ### BEGIN HIDDEN TESTS
    look("more samples than images", case.uniform(9, 2, 2, 3), case.uniform(5, 2, 2, 3), 2)
    look("as many samples as images", case.uniform(6, 3, 4, 2), case.uniform(6, 3, 4, 2), 5)
    look("the nearest of forty", case.uniform(11, 1, 5, 4), case.uniform(40, 1, 5, 4), 1)
    look("in [−1, 1]", case.uniform(3, 3, 4, 3, low=-1.0), case.uniform(8, 3, 4, 3, low=-1.0), 2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "nearest_neighbours",
    "An image is one vector. How long is it, and how many distances are there in all?",
    "The equation above. torch.cdist gives all distances between two sets of vectors; Tensor.topk gives values and indices.",
    "Flatten each image, compute the table of distances, samples by images, and take the k smallest of each row with their places.",
)
DISTANCES = "torch.cdist(samples.flatten(1), images.flatten(1))"
misconceptions(
    "nearest_neighbours",
    mistake("squared", (DISTANCES, DISTANCES + " ** 2"), says="The distances are squared; the root is missing."),
    mistake("mean over the pixels", (DISTANCES, DISTANCES + " / samples[0].numel() ** 0.5"), says="This is the root of the mean over the pixels; the distance is the root of the sum."),
    mistake("city block", (DISTANCES, DISTANCES.replace("flatten(1))", "flatten(1), p=1)").replace("images.flatten(1), p=1)", "images.flatten(1), p=1)")), says="The distances add up absolute differences; the Euclidean distance is asked for."),
    mistake("the largest difference", (DISTANCES, DISTANCES.replace("images.flatten(1))", 'images.flatten(1), p=float("inf"))')), says="The distance is the largest difference of any one pixel; the Euclidean distance is asked for."),
    mistake("the angle", (DISTANCES, "1 - F.cosine_similarity(samples.flatten(1)[:, None], images.flatten(1)[None], dim=-1)"), says="This is one minus the cosine, which does not see brightness; the Euclidean distance is asked for."),
    mistake("the farthest", ("largest=False", "largest=True"), says="These are the farthest images, not the nearest."),
    mistake("the nearest left out", ("return nearest.values, nearest.indices", "nearest = distances.topk(min(k + 1, distances.size(1)), largest=False)\n    return nearest.values[:, 1:], nearest.indices[:, 1:]"), says="The nearest image is left out (as one does when looking for the neighbours of an image among itself and others); here it is exactly what one is looking for."),
    mistake("the other way round", ("nearest = distances.topk(k, largest=False)", "nearest = distances.T.topk(min(k, len(samples)), largest=False)"), says="For each image the nearest samples are returned; for each sample the nearest images are asked for."),
    mistake("always the nearest one", ("distances.topk(k,", "distances.topk(1,"), says="Only the nearest image is returned, whatever k says."),
    mistake("only distances", ("return nearest.values, nearest.indices", "return nearest.values"), says="Only distances are returned; which images they belong to is asked for as well."),
    mistake("indices first", ("return nearest.values, nearest.indices", "return nearest.indices, nearest.values"), says="The indices come first; the distances are to."),
    mistake("int32", ("return nearest.values, nearest.indices", "return nearest.values, nearest.indices.int()"), says="The indices are int32; int64 (torch.long) is asked for, as torch's own functions return them and want them."),
    mistake("descending", ("return nearest.values, nearest.indices", "return nearest.values.flip(1), nearest.indices.flip(1)"), says="The neighbours come from far to near; the nearest is first."),
    mistake("all means removed", (DISTANCES, "torch.cdist((samples - samples.mean((1, 2, 3), keepdim=True)).flatten(1), (images - images.mean((1, 2, 3), keepdim=True)).flatten(1))"), says="Each image's mean is subtracted first, so brightness does not count; the plain distance is asked for."),
    mistake("first channel only", (DISTANCES, "torch.cdist(samples[:, 0].flatten(1), images[:, 0].flatten(1))"), says="Only the first channel counts; all do."),
    mistake("images normalised", (DISTANCES, "torch.cdist(F.normalize(samples.flatten(1)), F.normalize(images.flatten(1)))"), says="The vectors are brought to length 1 first, so brightness does not count; the plain distance is asked for."),
)


# %% tags=["alternative"]
@alternative("broadcast and sort")
def nearest_neighbours(samples, images, k):
    squares = (samples[:, None] - images[None]).pow(2).sum(dim=(2, 3, 4))
    values, indices = squares.sqrt().sort(dim=1)
    return values[:, :k], indices[:, :k]


# %% tags=["alternative"]
@alternative("loops and Python's sorted")
def nearest_neighbours(samples, images, k):
    rows = []
    for sample in samples:
        found = sorted((float(torch.linalg.vector_norm(sample - image)), index) for index, image in enumerate(images))
        rows.append(found[:k])
    return torch.tensor([[d for d, _ in row] for row in rows]), torch.tensor([[i for _, i in row] for row in rows])


# %% tags=["alternative"]
@alternative("scalar products by einsum, float64 inside")
def nearest_neighbours(samples, images, k):
    a, b = samples.double(), images.double()
    squares = torch.einsum("nchw,nchw->n", a, a)[:, None] + torch.einsum("mchw,mchw->m", b, b) - 2 * torch.einsum("nchw,mchw->nm", a, b)
    order = squares.argsort(dim=1)[:, :k]
    return squares.gather(1, order).clamp(min=0).sqrt().to(samples.dtype), order


# %% tags=["alternative"]
@alternative("numpy, one sample at a time")
def nearest_neighbours(samples, images, k):
    import numpy as np

    flat = images.reshape(len(images), -1).numpy()
    pairs = []
    for sample in samples.reshape(len(samples), -1).numpy():
        d = np.linalg.norm(flat - sample, axis=1)
        best = np.argsort(d, kind="stable")[:k]
        pairs.append((torch.from_numpy(d[best]), torch.from_numpy(best)))
    distances, indices = zip(*pairs)
    return torch.stack(distances), torch.stack(indices)


# %% tags=["alternative"]
@alternative("float64 distances")
def nearest_neighbours(samples, images, k):
    difference = samples.double()[:, None] - images.double()
    return difference.flatten(2).norm(dim=2).topk(k, largest=False)


# %% tags=["alternative"]
@alternative("the smallest, k times")
def nearest_neighbours(samples, images, k):
    table = torch.stack([torch.stack([torch.dist(s, x) for x in images]) for s in samples])
    distances, indices = [], []
    for _ in range(k):
        values, places = table.min(dim=1)
        distances.append(values)
        indices.append(places)
        table = table.scatter(1, places[:, None], float("inf"))
    return torch.stack(distances, dim=1), torch.stack(indices, dim=1)


# %% [markdown]
# ## Exercise 4 · `memorised_share`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# “Near” needs something to compare with. Keep as many images back as you train on, of the same kind, and ask for each sample: is its nearest neighbour among the images that the generator has seen, or among those that it has not? A generator that has learned *what such images look like* cannot know which ones were held back, so the training
# images win half of the time. A generator that has learned *the images* has them win nearly always.
#
# $$\text{share} = \frac1N \sum_{n=1}^{N} \begin{cases} 1 & d_\text{train}(x_n) < d_\text{held out}(x_n) \\ \tfrac12 & d_\text{train}(x_n) = d_\text{held out}(x_n) \\ 0 & \text{otherwise} \end{cases}$$
#
# with $d$ the distance to the nearest image of each set. Near ½ is good; near 1 is memorising. (Near 0 is a hint that the two sets differ in kind.) With $N$ samples the standard error at ½ is $1/(2\sqrt N)$, so 200 samples tell 0.57 from 0.5, hardly less.

# %% tags=["export"]
def memorised_share(samples: Tensor, training: Tensor, held_out: Tensor) -> float:
    """The share of samples that are nearer to a training image than to any image that was held out.

    Args:
        samples: (N, C, H, W).
        training, held_out: (M, C, H, W), equally many of each: of a larger set the nearest image is
            nearer by chance alone.

    Returns: a float from 0 to 1. A sample whose nearest images in both sets are exactly equally
        near counts one half.

    Raises: ValueError if there are not equally many training and held-out images.
    """
    ### BEGIN SOLUTION
    if len(training) != len(held_out):
        raise ValueError(f"{len(training)} training images and {len(held_out)} held-out ones: the larger set would be nearer by chance; give equally many")
    seen, unseen = (nearest_neighbours(samples, images, k=1)[0] for images in (training, held_out))
    return ((seen < unseen).double() + 0.5 * (seen == unseen).double()).mean().item()
    ### END SOLUTION


# %%
@check("memorised_share", points=3)
def _(case):
    def pixels(*values):
        return torch.tensor(values, dtype=torch.float32, device=case.device).view(-1, 1, 1, 1)

    def whole(*shape):  # small whole numbers: distances without rounding
        return case.integers(0, 5, *shape).float()

    case.call("two samples, one of them near a training image", memorised_share, pixels(0.1, 0.8), pixels(0.2, 0.3), pixels(0.9, 1.0))
    case.call("four samples, three near training images", memorised_share, pixels(0.1, 0.2, 0.3, 0.9), pixels(0.12, 0.28), pixels(0.6, 1.0))
    case.call("equally near: one half each", memorised_share, pixels(0.0, 3.0), pixels(1.0, 8.0), pixels(-1.0, 4.0))
    case.call("one equally near, one nearer to training, one to held out", memorised_share, pixels(0.0, 5.0, -7.0), pixels(1.0, 5.5), pixels(-1.0, -6.5))
    case.call("a nearer second neighbour does not count", memorised_share, pixels(0.0), pixels(1.0, 9.0), pixels(2.0, -2.5))
    case.call("copies of training images", memorised_share, *[(images := whole(4, 3, 2, 3))[:3], images, whole(4, 3, 2, 3) + 0.5])
    case.call("2 × 3 pixels, two channels", memorised_share, case.uniform(9, 2, 2, 3), case.uniform(6, 2, 2, 3), case.uniform(6, 2, 2, 3))
    case.raises("more training images than held-out ones", memorised_share, pixels(0.1, 0.2), pixels(0.2, 0.3, 0.4), pixels(0.9, 1.0))
    case.raises("fewer training images than held-out ones", memorised_share, pixels(0.1, 0.2), pixels(0.2), pixels(0.9, 1.0))
    samples = whole(5, 1, 2, 3) + 50.0 * torch.arange(5, device=case.device).view(-1, 1, 1, 1)  # far from one another
    case.call("the nearest image stands at another place than the sample", memorised_share, samples, torch.cat([whole(4, 1, 2, 3) + 20, samples + 1]), torch.cat([samples + 2, whole(4, 1, 2, 3) + 20]))
    ### BEGIN HIDDEN TESTS
    case.call("more samples", memorised_share, case.uniform(31, 1, 3, 2), case.uniform(8, 1, 3, 2), case.uniform(8, 1, 3, 2))
    case.call("nearly equally near is not equally near", memorised_share, pixels(0.0, 6.0), pixels(1.0, 9.0), pixels(-1.0005, 9.0005))
    case.call("one image each", memorised_share, case.uniform(11, 1, 2, 2), case.uniform(1, 1, 2, 2), case.uniform(1, 1, 2, 2))
    images = whole(5, 1, 2, 2)
    case.call("the same images in both sets", memorised_share, whole(7, 1, 2, 2), images, images.flip(0))
    case.call("held-out images copied", memorised_share, *[(images := whole(5, 1, 3, 2))[1:4], whole(5, 1, 3, 2) + 0.5, images])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "memorised_share",
    "Take one sample. Which two numbers do you compare? What should come out if both sets were the same?",
    "The formula above; d is what the previous exercise returns for k = 1.",
    "Refuse sets of unequal size. Find the distance to the nearest training image and to the nearest held-out image for each sample. Count 1 where the first is smaller, ½ where they are equal, and take the mean.",
)
MEAN = "((seen < unseen).double() + 0.5 * (seen == unseen).double()).mean().item()"
misconceptions(
    "memorised_share",
    mistake("the wrong side", ("(seen < unseen)", "(seen > unseen)"), says="Samples near held-out images are counted; those near training images are asked for."),
    mistake("ties do not count", (MEAN, "(seen < unseen).double().mean().item()"), says="Samples that are equally near to both count 0; they count one half, or a set compared with itself would look better than ½."),
    mistake("ties count fully", (MEAN, "(seen <= unseen).double().mean().item()"), says="Samples that are equally near to both count 1; they count one half, or duplicates would look like memorising."),
    mistake("a count", (".mean().item()", ".sum().item()"), says="The number of samples is returned; their share is asked for."),
    mistake("a percentage", (".mean().item()", ".mean().item() * 100"), says="The share is in per cent; a number from 0 to 1 is asked for."),
    mistake("any sizes", ("if len(training) != len(held_out):", "if False:"), says="Sets of unequal size are accepted (or cut to one size in silence). From the larger one the nearest image is nearer by chance alone, so the share says nothing."),
    mistake("only too few held out", ("len(training) != len(held_out)", "len(training) > len(held_out)"), says="More held-out than training images are accepted, which makes the share too small; both sets need the same size."),
    mistake("only too few for training", ("len(training) != len(held_out)", "len(training) < len(held_out)"), says="More training than held-out images are accepted, which makes the share too large; both sets need the same size."),
    mistake("the mean distance", ("nearest_neighbours(samples, images, k=1)[0] for", "nearest_neighbours(samples, images, k=len(images))[0].mean(1) for"), says="The mean distance to all images of a set is compared; memorising shows in the nearest one."),
    mistake("the second nearest", ("nearest_neighbours(samples, images, k=1)[0] for", "nearest_neighbours(samples, images, k=min(2, len(images)))[0][:, -1] for"), says="The second nearest images are compared; the nearest are asked for."),
    mistake("the images' neighbours", ("nearest_neighbours(samples, images, k=1)[0] for", "nearest_neighbours(images, samples, k=1)[0] for"), says="For each image the nearest sample is looked up; for each sample the nearest image is asked for."),
    mistake("the image at the same place", ("nearest_neighbours(samples, images, k=1)[0] for", "(samples - images.repeat(len(samples), 1, 1, 1)[: len(samples)]).flatten(1).norm(dim=1) for"), says="Each sample is compared with one image, the one at the same place in the set; the nearest of all of them is asked for."),
    mistake("all distances together", (MEAN, "float(seen.mean() < unseen.mean())"), says="The two mean distances are compared, which gives 0 or 1; each sample is to be judged by itself."),
    mistake("places instead of distances", ("k=1)[0] for", "k=1)[1] for"), says="Indices are compared instead of distances."),
)


# %% tags=["alternative"]
@alternative("cdist and sign")
def memorised_share(samples, training, held_out):
    if training.shape[0] != held_out.shape[0]:
        raise ValueError("unequal sizes")
    x, a, b = samples.flatten(1), training.flatten(1), held_out.flatten(1)
    difference = torch.cdist(x, b).amin(1) - torch.cdist(x, a).amin(1)
    return float((1 + difference.sign()).mean() / 2)


# %% tags=["alternative"]
@alternative("a loop over the samples")
def memorised_share(samples, training, held_out):
    if not len(training) == len(held_out):
        raise ValueError("as many held-out images as training images, please")
    score = 0.0
    for sample in samples:
        near = min(torch.dist(sample, image).item() for image in training)
        far = min(torch.dist(sample, image).item() for image in held_out)
        score += 1.0 if near < far else 0.5 if near == far else 0.0
    return score / len(samples)


# %% tags=["alternative"]
@alternative("squared distances, heaviside")
def memorised_share(samples, training, held_out):
    if len(training) - len(held_out):
        raise ValueError("sizes differ")
    nearest = [(samples[:, None] - images).square().flatten(2).sum(-1).min(dim=1).values for images in (training, held_out)]
    return torch.heaviside(nearest[1] - nearest[0], torch.tensor(0.5)).mean().item()


# %% tags=["alternative"]
@alternative("both sets in one, numpy's compare")
def memorised_share(samples, training, held_out):
    import numpy as np

    m = len(training)
    if m != len(held_out):
        raise ValueError(f"{m} and {len(held_out)} images")
    distances, places = nearest_neighbours(samples, torch.cat([training, held_out]), 2 * m)
    share = []
    for d, p in zip(distances.numpy(), places.numpy()):
        a, b = d[p < m].min(), d[p >= m].min()
        share.append(np.mean([a < b, a <= b]))
    return float(np.mean(share))


# %% [markdown]
# ## Step 1 · your images
#
# A folder of images, any sizes, any subfolders. Some hundreds are the least; thousands are better. All of one kind and roughly centred is easiest (flowers, faces you may use, logos, leaves, tiles). Broken files are named and left out.
#
# Of the images, 45 % are for training, 45 % are held out for the test against memorising, and 10 % are a yardstick: real images that nobody has trained on, measured like generated ones.
#
# | profile | `IMAGES` | what is used |
# | --- | --- | --- |
# | either | a folder | your images |
# | quick | empty | 1,280 drawn glyphs of three kinds, bright on dark |
# | full | empty | the 5,000 horses of CIFAR-10, from `DATA_DIR` or the network |

# %% tags=["picture"]
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)
channels, ngf, batch_size, lr, epochs = (1, 16, 16, 1e-3, 8) if PROFILE == "quick" else (3, 64, 64, 2e-4, 100)
folder = Path(IMAGES) if IMAGES else Path(tempfile.mkdtemp(prefix="own-images-"))
if not IMAGES and PROFILE == "quick":
    drawn, _ = drawn_glyphs(2700, seed=SEED + 5, classes=("spade", "crescent", "rook"), pose=0.3)
    for number, image in enumerate(drawn[drawn[:, 0, 0].mean(-1) < 128][:1280]):
        Image.fromarray(image).save(folder / f"{number:05}.png")
elif not IMAGES:
    from papers.datasets import data_folder, real_images

    where = data_folder(DATA_DIR)
    cifar = real_images("cifar10", where or "data", download=where is None)
    for number, (image, label) in enumerate(cifar):
        if label == cifar.class_to_idx["horse"]:
            image.save(folder / f"{number:05}.png")
files = ImageFolderDataset(folder, build_transform(64, channels), on_error="skip")
order = torch.randperm(len(files), generator=torch.Generator().manual_seed(SEED)).tolist()
part = int(0.45 * len(files))
training_set = torch.utils.data.Subset(files, order[:part])
training, held_out, yardstick = (torch.stack([files[i][0] for i in chosen]) / 2 + 0.5 for chosen in (order[:part], order[part : 2 * part], order[2 * part :]))
print(f"{len(files)} images: {len(training)} for training, {len(held_out)} held out, {len(yardstick)} as a yardstick; {len(files.skipped)} broken")


def pictures(images, columns=8):
    """Images in [0, 1] as one picture for matplotlib, with thin lines between them."""
    return make_grid(images, nrow=columns, padding=2, pad_value=1).permute(1, 2, 0).numpy()


# %% [markdown]
# ## Step 2 · training and samples

# %% tags=["picture"]
steps_an_epoch = len(training_set) // batch_size
if STEPS:
    epochs = max(1, STEPS // steps_an_epoch)
curves = []
started = time.perf_counter(), time.process_time()
generator = fit(training_set, epochs, ngf=ngf, batch_size=batch_size, lr=lr, seed=SEED, device=device, report=lambda *numbers: curves.append(numbers))
print(f"{len(curves)} steps in {time.perf_counter() - started[0]:.0f} s, {time.process_time() - started[1]:.0f} s of processor time, on {device}")
noise = torch.randn(len(yardstick), 100, 1, 1, generator=torch.Generator().manual_seed(SEED + 1)).to(device)
samples = draw(generator, noise)
figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), layout="constrained")
for axis, images, title in zip(axes, (samples[:32], yardstick[:32]), ("generated, not chosen", "real, never trained on")):
    axis.imshow(pictures(images), vmin=0, vmax=1)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# **What to see.** The first 32 samples as they came. Choosing the best ones is what makes papers look good; choose nothing, or say that you did. Quick profile: spades, crescents and rooks, some of them unfinished; compare how *many* of each there are with the right-hand side.

# %% [markdown]
# ## Step 3 · numbers, each beside its yardstick
#
# No number means anything alone. Below, four crowds of equal size are measured in the same way:
#
# - **real**: the yardstick, which is as good as it gets;
# - **generated**: yours;
# - **untrained**: what the generator drew before it learned anything;
# - **copied**: training images with a little noise on them, as a generator would draw that had learned them by heart. The first two numbers love it. The third does not.
#
# The first number is the squared Fréchet distance to the held-out images between thumbnails of 8 × 8 pixels. It is computed like the FID and must not be called so: FID means the features of one certain Inception network and 50,000 images, and only then can numbers be compared between papers. This one compares rows of this
# table.

# %% tags=["picture"]
def thumbnails(images):
    """8 × 8 pixels of each image, as its features."""
    return F.adaptive_avg_pool2d(images, 8).flatten(1)


torch.manual_seed(SEED)
untrained = Generator(ngf=ngf, nc=channels).apply(init_weights).to(device)
crowds = {
    "real": yardstick,
    "generated": samples,
    "untrained": draw(untrained, noise),
    "copied": (training[: len(yardstick)] + 0.02 * torch.randn(yardstick.shape, generator=torch.Generator().manual_seed(SEED))).clamp(0, 1),
}
reference = held_out[: len(yardstick)]
print(f"{len(yardstick)} images of each      Fréchet distance   diversity   nearer to training images than to held-out ones")
for name, crowd in crowds.items():
    share = memorised_share(crowd, training, held_out)
    print(f"{name:24} {feature_distance(thumbnails, crowd, reference):13.3f} {diversity(crowd):14.2f} {share:12.2f}  ± {0.5 / len(crowd) ** 0.5:.2f}")

# %% [markdown]
# **What to see.** The distance of the generated crowd lies between that of real and untrained ones; a diversity far below the real one would be mode collapse, and one far above it noise. The copies have a distance and a diversity like real images and are unmasked by the last column alone, which is ½ within about two standard
# errors for whoever does not copy and draws about as variedly as the real images (crowds that are nearly one image, or nothing yet, can lie anywhere).

# %% [markdown]
# ### The nearest training images
#
# A share can hide a few copies among many originals. So look: the samples that lie *nearest* to any training image, with their three nearest neighbours.

# %% tags=["picture"]
distances, indices = nearest_neighbours(samples, training, k=3)
own, _ = nearest_neighbours(yardstick, training, k=1)
suspects = distances[:, 0].argsort()[:8]
rows = [torch.cat([samples[i : i + 1], training[indices[i]]]) for i in suspects]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained", width_ratios=[2.2, 1])
left.imshow(pictures(torch.stack(rows, 1).flatten(0, 1), columns=8), vmin=0, vmax=1)
left.set(title="the eight samples nearest to training images", xticks=[])
left.set_yticks([33 + 66 * i for i in range(4)], ["sample", "nearest", "second", "third"])
bins = torch.linspace(0, float(max(own.max(), distances[:, 0].max())), 25).numpy()
right.hist(own[:, 0].numpy(), bins, color=GREY, alpha=0.6, label="real, never trained on")
right.hist(distances[:, 0].numpy(), bins, histtype="step", linewidth=2, color=ORANGE, label="generated")
right.set(xlabel="distance to the nearest training image", ylabel="images")
right.margins(y=0.3)  # room for the legend above the bars
right.legend(frameon=False, fontsize=8)
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Left: the suspects. They resemble their neighbours in kind and pose; a copy would agree with *one* of them in every detail. Right: a generator that copies has a heap at 0, left of everything that real images do. Generated images are often *farther* from the training set than real ones are: they are
# blemished in ways no real image is.

# %% [markdown]
# ### The worst ones
#
# Failures teach more than successes. The eight samples that are farthest from every training image:

# %% tags=["picture"]
worst = distances[:, 0].argsort(descending=True)[:8]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.4), layout="constrained", width_ratios=[1.6, 1])
left.imshow(pictures(torch.cat([samples[worst], training[indices[worst, 0]]])), vmin=0, vmax=1)
left.set(title="the worst (above) and what they are nearest to", xticks=[], yticks=[])
at = [step for step, _, _ in curves]
for column, label, colour in ((1, "discriminator", BLUE), (2, "generator", ORANGE)):
    values = [row[column] for row in curves]
    width = max(1, len(values) // 30)
    right.plot(at, [sum(values[max(0, i - width) : i + 1]) / len(values[max(0, i - width) : i + 1]) for i in range(len(values))], color=colour, label=label)
right.set(xlabel="step", ylabel="loss (nats)", title="losses, running means", ylim=(0, 8 if PROFILE == "quick" else None))
right.legend(frameon=False, fontsize=8)
right.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Sort them by cause before you read on: between two kinds (the noise vector lies where one shape turns into another), unfinished (edges, holes), a texture of small squares (transposed convolutions), wrong brightness. Each has another remedy.

# %% [markdown] written="report_data_and_training" points=4
# ## Report 1 · data and training
#
# *4 points, graded by a person. Write for someone who wants to repeat it.*
#
# (a) The images: where from, how many, how large, which licence, what you left out, what a person would say they have in common. (b) The settings that differ from the paper's, each with a reason. (c) How long it ran on which machine, and how you decided to stop. (d) 32 samples that were not chosen.
#
# ### BEGIN SOLUTION
# *Worked reference, for the quick profile; numbers are those printed above.*
#
# (a) 1,280 drawn glyphs (spade, crescent, rook; DejaVu Sans, a free font) in slightly varying pose, bright on dark, 64 × 64, used in grey. 576 for training, as many held out, 128 as a yardstick. Left out: dark on bright, colours. One bright shape in the middle of a dark ground. (b) ngf = ndf = 16 instead of 128: two processor cores. Batch
# 16 instead of 128: 576 images would give 4 steps an epoch. Learning rate 0.001 instead of 0.0002: narrow networks from N(0, 0.02²) are slow to start. Normal noise instead of uniform. (c) 8 epochs, 288 steps; time as printed. Stopped by budget, not by quality: samples were still improving. (d) The grid of step 2, first 32 of a fixed seed.
#
# **Rubric.** 1 point each: (a) origin, number, licence and what they share, (b) every deviation with a reason, (c) time, machine and stopping, (d) unchosen samples, visible.
# ### END SOLUTION

# %% [markdown] written="report_scores" points=6
# ## Report 2 · what the numbers say
#
# *6 points, graded by a person*
#
# (a) Your table of step 3, and one sentence a column on what it says about *your* generator, with the yardstick. (b) Does it memorise? Use the share with its standard error, the histogram, and the suspects; say what each could have shown and did not. (c) Why must your Fréchet distance not be called FID, and what two changes would lower it
# without any better image? (d) A generator that always draws the same perfect image: what do the three columns say about it?
#
# ### BEGIN SOLUTION
# (a) As printed. Distance: nearer to real than to untrained, yet clearly above the yardstick: mean brightness and shapes are right on the whole, blemishes remain. Diversity: near the real one: no collapse. Share: compare with ½ ± the standard error printed beside it.
#
# (b) No sign of it. Share: copies would give nearly 1, as in the last row. Histogram: copies would pile up near 0. Suspects: a copy would match one training image in every detail; these match several in kind and pose only. None of the three would see a memorised image that is shifted by two pixels, since pixels are compared: that would ask for distances of features.
#
# (c) FID is defined by one Inception network's features and 50,000 samples; thumbnails of 8 × 8 measure something else, on another scale. Lower without better images: more samples (the estimate is biased upwards for few), coarser thumbnails, fewer features, another reference set that lies nearer, chosen samples.
#
# (d) Its distance is large (no covariance at all), its diversity 0, its share 0 or 1: all samples have the same answer, and the standard error printed does not apply, since they are not independent.
#
# **Rubric.** (a) 2: each column read against its yardstick. (b) 2: three kinds of evidence, and one blind spot. (c) 1: definition ½, two ways ½. (d) 1: two columns right ½ each.
# ### END SOLUTION

# %% [markdown] written="report_failures" points=5
# ## Report 3 · failures
#
# *5 points, graded by a person*
#
# (a) Show at least eight failures and sort them into kinds. (b) For two of the kinds: a hypothesis on the cause, and the experiment that would tell. (c) Carry out one of the experiments, with one thing changed, the same seed and the same measure, and say what came out, also if nothing did. (d) Who might be harmed by such a generator, or by how its
# images were collected?
#
# ### BEGIN SOLUTION
# *Worked reference, for the quick profile.*
#
# (a) The grid of the worst: between two kinds (a spade with a rook's foot), unfinished (holes, frayed edges), a ground that is not uniform. (b) In between: the noise is continuous and the kinds are not, so somewhere G has to pass from one to another; experiment: interpolate between two samples of different kinds and look whether the failures lie on the way; a class as
# an input should remove them. Unfinished: too few steps; experiment: twice the epochs, everything else the same. (c) Twice the epochs: run step 2 again with `epochs = 16` and compare the table of step 3. A good answer shows both rows, with the remark that a difference below that between two seeds says nothing. (d) Glyphs harm nobody. With faces: people who did not agree, pictures
# of events that never were, a training set with few of some group whose members are then drawn badly.
#
# **Rubric.** (a) 1: eight failures, sorted. (b) 1: cause and experiment for two kinds. (c) 2: one change, same seed and measure ½ each, result reported honestly 1. (d) 1: one concrete harm, of collection or of use.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Assembly is where things go wrong unnoticed; a loop that only looks shows what it was given.
# - A score needs the same score for real images beside it. Distance and diversity do not see copying; nearest neighbours and held-out images do.
# - Unchosen samples, worst samples and one honest experiment are worth more than one beautiful picture.
#
# What you have built on the way is all there: `papers.dcgan`. **Next**: the other paper, or a better generator; what you know now is what one needs to read StyleGAN's papers.

# %% tags=["picture"]
score()
