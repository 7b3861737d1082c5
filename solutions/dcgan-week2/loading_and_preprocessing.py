# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Loading and preprocessing images
#     order: 1
#     exports: papers.dcgan.data
#     minutes: 90
# ---

# %% [markdown]
# # Loading and preprocessing images
#
# *Unsupervised Representation Learning with Deep Convolutional GANs*, section 4 (details of adversarial training, first paragraph) · about 90 minutes
#
# At the end of this notebook you can
#
# - turn any image into what a DCGAN is trained on: 64 × 64 pixels, values in $[-1, 1]$, nothing squashed;
# - read a folder of your own images and be told by name which of them are broken;
# - feed them in shuffled, reproducible batches, and measure how fast they come;
# - look at a batch and say what is wrong with it, before a GAN has trained on it for an hour.
#
# **Week 2 of the roadmap.**
#
# 1. Choose a dataset: CIFAR-10, CelebA or MNIST through `torchvision.datasets`, or your own images. All of them are below, with a drawn dataset that needs no download.
# 2. Preprocess it: resize to 64 × 64, normalise to $[-1, 1]$. Watch [PyTorch GAN Data Preprocessing and Loading](https://youtu.be/6sDzJZIZdtM).
# 3. Test the `DataLoader`. Watch [PyTorch Datasets and DataLoaders – Simplilearn](https://www.youtube.com/watch?v=ZoZHd0Zm3RY).

# %% tags=["export"]
import warnings
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

# %%
import io
import multiprocessing
import os
import sys
import tempfile
import time

import matplotlib.pyplot as plt
import numpy as np

from papers.datasets import GLYPHS, ArrayImages, DatasetUnavailable, RandomDraws, data_folder, drawn_glyphs, handwritten_digits, real_images

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## Choose a dataset
#
# | dataset | images | as stored | how to open it here | to know |
# | --- | --- | --- | --- | --- |
# | drawn glyphs | as many as you like | 64 × 64, colour | `drawn_glyphs(2000, seed=SEED)` | 24 symbols of matplotlib's own font, in random pose and colour: no download, seconds |
# | digits | 1,797 | 8 × 8, grey | `handwritten_digits()` | real handwriting (UCI, 1998), comes with scikit-learn |
# | MNIST, Fashion-MNIST | 60,000 + 10,000 | 28 × 28, grey | `real_images("mnist", folder, download=True)`, `"fashion_mnist"` | 10 classes each |
# | CIFAR-10 | 50,000 + 10,000 | 32 × 32, colour | `real_images("cifar10", folder, download=True)` | 170 MB; 10 classes |
# | CelebA | 202,599 | 178 × 218, colour | `real_images("celeba", folder, download=True)` | 1.4 GB; faces of real people, for non-commercial research only; **its host often refuses** |
# | your own | | any | `ImageFolderDataset(folder)`, exercise 4 | did the people in it, and those who made it, agree? |
#
# *Already downloaded?* Set `DATA_DIR` above, or the environment variable `PAPER_TO_PYTORCH_DATA`, to the folder that holds `MNIST/`, `FashionMNIST/`, `cifar-10-batches-py/` or `celeba/`.
# Then nothing is fetched. With `PROFILE = "full"` and no such folder, CIFAR-10 is downloaded into `data/downloads`.
#
# *CelebA refused?* It lives on Google Drive, which closes a file for the day once too many have asked for it. Try tomorrow; or take `img_align_celeba.zip` from
# [the project's page](https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) in a browser, unpack it, and open the folder of images with your own `ImageFolderDataset`: a GAN needs no labels. Or use CIFAR-10.

# %%
glyphs, glyph_labels = drawn_glyphs(1000, seed=SEED)  # (1000, 64, 64, 3) uint8, (1000,)
class_names = list(GLYPHS)

# %% tags=["picture"]
first = [int(np.flatnonzero(glyph_labels == label)[0]) for label in range(len(class_names))]
figure, axes = plt.subplots(3, 8, figsize=(9, 3.9), layout="constrained")
for axis, index in zip(axes.flat, first):
    axis.imshow(glyphs[index])
    axis.set_title(class_names[glyph_labels[index]], fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# **What to see.** One image of each of the 24 drawn classes. Shape is what they have in common within a class; size, angle, place and both colours are drawn at random, and either the glyph or
# the ground may be the brighter one. A generator has to learn the shapes.

# %% [markdown]
# ## Why $[-1, 1]$
#
# Section 4 of the paper has one sentence on preprocessing: “No pre-processing was applied to training images besides scaling to the range of the tanh activation function [-1, 1].” The generator's last layer is a
# tanh, so it *cannot* make a value outside $[-1, 1]$. Whatever range the real images have, the generator's images have that one. If the two differ, the discriminator has an easy sign to tell them apart that has
# nothing to do with what is in the picture:
#
# - real images in $[0, 1]$ are never negative: one dark pixel gives a generated image away, and the generator learns to use the upper half of its tanh;
# - real images with ImageNet's statistics ($\mu \approx 0.45$, $\sigma \approx 0.22$ per channel, the habit from classification) reach $2.6$, where no tanh gets to.
#
# A byte $b$ from 0 to 255 becomes
#
# $$x = 2\,\frac{b}{255} - 1 = \frac{b/255 - 0.5}{0.5},$$
#
# so black is exactly $-1$ and white exactly $1$. `ToTensor` does the division by 255 and puts the channels first; `Normalize(0.5, 0.5)` does the rest.

# %% tags=["picture"]
byte = glyphs[:200].astype(np.float64)
scales = {
    "[0, 1]: no normalisation": (byte / 255, ORANGE),
    "ImageNet's mean and deviation": ((byte / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225], PINK),
    "[−1, 1]: the paper": (byte / 127.5 - 1, BLUE),
}
figure, axes = plt.subplots(3, 1, figsize=(8, 4.2), sharex=True, layout="constrained")
for axis, (title, (values, colour)) in zip(axes, scales.items()):
    axis.axvspan(-1, 1, color="#EEEEEE", label="what a tanh can make")
    axis.hist(values.ravel(), bins=np.linspace(-3, 3, 121), color=colour, weights=np.full(values.size, 100 / values.size))
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_ylabel("% of values")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].legend(frameon=False, loc="upper left", fontsize=9)
axes[-1].set_xlabel("value of a pixel's channel")
plt.show()

# %% [markdown]
# **What to see.** The same 200 glyphs under three normalisations; grey is the range of the generator's tanh. Only the last one fills exactly that range. The first leaves the left half empty, the second runs out of
# it on both sides: either is a give-away for the discriminator.

# %% [markdown]
# ## Exercise 1 · `build_transform`
#
# *Difficulty ●●○ · 20 minutes · 5 points*
#
# Images come in every shape, and the network takes squares. Three ways to a square, and what a generator would learn from each:
#
# | way | what happens to a face of 178 × 218 | what the generator learns |
# | --- | --- | --- |
# | squash to 64 × 64 | 22 % wider than it was | broad faces |
# | shrink, fill up with black | bars left and right | to draw bars |
# | **shrink until the short side is 64, cut 64 × 64 out of the middle** | loses forehead and chin | faces |
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | scaling | to the tanh's range $[-1, 1]$ (section 4) | the same, black exactly −1, white exactly 1 | |
# | size | 64 × 64 in figure 1; crops are mentioned for LSUN's near-duplicates only (section 4.1.1) | the short side to 64, then the centre | no shape is distorted |
# | augmentation | none (sections 4.1, 4.2) | none: the same image gives the same tensor | a GAN imitates what it sees, mirrored text included |
# | channels | colour | 3, or 1 for datasets such as MNIST; images of another mode are converted | real folders hold grey, transparent and palette images too |
#
# The last point of this exercise is partial credit for images of other modes. Which interpolation you shrink with is up to you.

# %% tags=["export"]
def build_transform(image_size: int = 64, channels: int = 3) -> Callable[[Image.Image], Tensor]:
    """What turns a PIL image into a training image.

    Args:
        image_size: pixels a side of the result.
        channels: 3 for colour, 1 for grey. An image of another mode (grey "L", palette "P",
            transparent "RGBA", …) is converted; transparency is dropped (what shows in its place is
            up to you).

    Returns: something to call with a PIL image of any size, which gives a float32 tensor (channels,
        image_size, image_size) in [-1, 1]:
        black is -1, white is 1. The short side is resized to image_size (up or down, aspect kept),
        then the centre is cut out. The same image always gives the same tensor. The image is not
        changed.

    torchvision.transforms, torchvision.transforms.v2, PIL and torch may all be used.
    """
    ### BEGIN SOLUTION
    return transforms.Compose(
        [
            methodcaller("convert", "L" if channels == 1 else "RGB"),
            transforms.Resize(image_size),  # an int: the shorter side; a pair would squash
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),  # (channels, H, W) in [0, 1]
            transforms.Normalize([0.5] * channels, [0.5] * channels),
        ]
    )
    ### END SOLUTION


# %%
@check("build_transform", points=5, paper="section 4, “scaling to the range of the tanh activation function [-1, 1]”")
def _(case):
    def picture(*shape):  # a PIL image of random bytes, (H, W) or (H, W, 3)
        return Image.fromarray(case.integers(0, 256, *shape).to(torch.uint8).cpu().numpy())

    def blocks(rows, columns, side):  # an image of random single-coloured blocks: what is inside one does not depend on the interpolation
        colours = case.integers(0, 256, rows, columns, 3).to(torch.uint8).cpu().numpy()
        return Image.fromarray(colours.repeat(side, 0).repeat(side, 1))

    def transformed(name, image, at=slice(None), policy=None, **options):
        def run(image):
            x = build_transform(**options)(image)
            return (list(x.shape), x[..., at, :][..., at])

        return case.call(name, run, image, labels=("shape", "values"), policy=policy)

    def kept(image, **options):  # whether the image that was passed is as before
        before = image.mode, image.size, image.tobytes()
        build_transform(**options)(image)
        after = image.mode, image.size, image.tobytes()
        return "as before" if after == before else "another mode" if image.mode != before[0] else "another size" if image.size != before[1] else "other pixels"

    def again_and_again(image, **options):  # whether the same image always gives the same tensor
        build = build_transform(**options)
        first, *others = [build(image) for _ in range(12)]
        if all(torch.equal(first, x) for x in others):
            return "the same tensor each time"
        mirrored = all(torch.equal(first, x) or torch.equal(first.flip(-1), x) for x in others)
        return "sometimes mirrored" if mirrored else "another tensor each time"

    # Every right solution resizes with an interpolation of its own. So only what they share is compared: images that need no resizing, images of one
    # colour, and the middles of blocks, which are at least three pixels (the reach of the widest usual kernel, Lanczos) away from any edge.
    middle = slice(3, None, 8)  # of blocks that are 8 pixels wide in the result
    transformed("2 × 2 pixels that stay 2 × 2", picture(2, 2, 3), image_size=2, channels=3)
    black_and_white = Image.fromarray(np.array([[[0] * 3, [255] * 3], [[255] * 3, [0] * 3]], np.uint8))
    transformed("black and white", black_and_white, image_size=2, channels=3)
    transformed("a grey image for one channel", picture(3, 3), image_size=3, channels=1)
    transformed("grey, from dark to less dark", Image.fromarray(np.array([[40, 60], [80, 100]], np.uint8)), image_size=2, channels=1)
    transformed("the default: 64 × 64, three channels (every ninth pixel)", picture(64, 64, 3), at=slice(None, None, 9))
    ochre = (204, 119, 34)
    transformed("one colour, 24 × 48 to 32 × 32 (every eighth pixel)", Image.new("RGB", (48, 24), ochre), at=middle, policy={"tol": 0.02}, image_size=32)
    transformed("one colour, 13 × 9 to 8 × 8", Image.new("RGB", (9, 13), ochre), policy={"tol": 0.02}, image_size=8)
    transformed("64 × 128, resized to 32 × 64 and cut (the middle of every block)", blocks(4, 8, 16), at=middle, policy={"tol": 0.05}, image_size=32)
    transformed("128 × 64, resized to 64 × 32 and cut (the middle of every block)", blocks(8, 4, 16), at=middle, policy={"tol": 0.05}, image_size=32)
    transformed("16 × 16, enlarged to 32 × 32 (the middle of every block)", blocks(2, 2, 8), at=slice(7, None, 16), policy={"tol": 0.05}, image_size=32)
    ink = Image.new("RGB", (8, 8), (250, 194, 186))  # brightness 210 by the usual weights and by a plain mean, 205 by those of newer television
    transformed("a colour image for one channel", ink, policy={"tol": 0.04}, image_size=4, channels=1)
    case.record("the same image again and again", again_and_again(picture(20, 31, 3), image_size=16))
    case.record("the image itself, after it was shrunk to 8 × 8", kept(picture(20, 31, 3), image_size=8), about="the image")
    edges = Image.fromarray(np.where(case.boolean(20, 31).cpu().numpy()[..., None], 255, 0).repeat(3, -1).astype(np.uint8))
    case.record("sharp edges, resized, stay within [−1, 1]", float(build_transform(16)(edges).abs().max()), at_most=1.00001, about="largest magnitude")

    with case.part("images of other modes", points=1):
        transformed("a grey image for three channels", picture(3, 3), image_size=3)
        transparent = picture(3, 3, 3)
        transparent.putalpha(255)
        transformed("RGBA, nowhere transparent, for three channels", transparent, image_size=3)
        palette = Image.fromarray(case.integers(0, 4, 4, 4).to(torch.uint8).cpu().numpy())
        palette.putpalette(case.integers(0, 256, 12).tolist())
        transformed("a palette image for three channels", palette, image_size=4)
        inks = Image.new("P", (4, 4))  # colours of which every usual formula makes nearly the same brightness
        inks.putpalette([250, 194, 186, 30, 30, 30])
        inks.putpixel((1, 2), 1)
        transformed("a palette image for one channel", inks, policy={"tol": 0.04}, image_size=4, channels=1)
    ### BEGIN HIDDEN TESTS
    transformed("48 × 48 (every seventh pixel)", picture(48, 48, 3), at=slice(None, None, 7), image_size=48, channels=3)
    transformed("one channel, the default size (every ninth pixel)", picture(64, 64), at=slice(None, None, 9), channels=1)
    transformed("32 × 96, no resizing, two thirds cut off (every third pixel)", picture(32, 96, 3), at=slice(None, None, 3), policy={"tol": 0.02}, image_size=32)
    transformed("50 × 24, no resizing, half of it cut off (every third pixel)", picture(50, 24, 3), at=slice(None, None, 3), policy={"tol": 0.02}, image_size=24)
    transformed("32 × 64, enlarged to 64 × 128, grey", blocks(2, 4, 16).convert("L"), at=slice(15, None, 32), policy={"tol": 0.05}, image_size=64, channels=1)
    for number, (height, width) in enumerate([(37, 53), (51, 24), (100, 151)]):
        even = Image.new("RGB", (width, height), tuple(case.integers(0, 256, 3).tolist()))
        transformed(f"one colour, {height} × {width} to 24 × 24", even, at=slice(None, None, 23), policy={"tol": 0.02}, image_size=24)
    case.record("the image is not changed", kept(picture(8, 13, 3), image_size=8) == "as before")
    case.record("a large image, after it was shrunk to 8 × 8", kept(Image.new("RGB", (310, 200), ochre), image_size=8), about="the image")
    build, two = build_transform(4), (picture(4, 4, 3), picture(4, 4, 3))
    case.record("one transform, two images of the same size", [build(image) for image in two], labels=("the first tensor", "the second"))
    with case.part("images of other modes"):
        half = picture(9, 7, 3)
        half.putalpha(128)
        case.record("a half transparent image is not changed", [kept(half, image_size=4), kept(half, image_size=4, channels=1)], about="the image")
        solid = Image.new("RGBA", (4, 4), (250, 194, 186, 255))
        transformed("RGBA, nowhere transparent, for one channel", solid, policy={"tol": 0.04}, image_size=4, channels=1)
        transformed("black and white only, mode 1, for three channels", Image.fromarray(case.boolean(4, 4).cpu().numpy()), image_size=4)
        letters = picture(4, 4)
        letters.putalpha(255)
        transformed("grey with alpha for one channel", letters, image_size=4, channels=1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "build_transform",
    "Which values can a tanh make, and which values does an image have right after `ToTensor`? And what does `Resize` do differently when it gets one number instead of two?",
    "Section 4: “scaling to the range of the tanh activation function [-1, 1]”. In torchvision's documentation, read what `Resize(size)` says about an int, and what `Normalize(mean, std)` computes.",
    "Chain five steps: convert to the mode that has the wanted number of channels; resize by one number, so that the short side gets it; cut the centre; to a tensor; subtract a half and divide by a half, in every channel.",
)
misconceptions(
    "build_transform",
    mistake(
        "values in [0, 1]",
        ("            transforms.Normalize([0.5] * channels, [0.5] * channels),\n", ""),
        says="The values are in [0, 1]: black is 0. The generator's tanh covers [−1, 1], so half of its range would never be seen in a real image.",
    ),
    mistake(
        "bytes, not scaled",
        ("            transforms.ToTensor(),  # (channels, H, W) in [0, 1]\n            transforms.Normalize([0.5] * channels, [0.5] * channels),",
         "            transforms.PILToTensor(), transforms.ConvertImageDtype(torch.uint8), transforms.Lambda(lambda x: x.float()),"),  # fmt: skip
        says="The values run from 0 to 255; they must be scaled to [−1, 1].",
    ),
    mistake(
        "ImageNet's statistics",
        ("[0.5] * channels, [0.5] * channels", "[0.485, 0.456, 0.406][:channels], [0.229, 0.224, 0.225][:channels]"),
        says="The image is normalised with ImageNet's mean and standard deviation, as for a classifier: values reach from −2.1 to 2.6. The paper scales to [−1, 1], the range of the generator's tanh.",
    ),
    mistake(
        "standard deviation 1",
        ("[0.5] * channels, [0.5] * channels", "[0.5] * channels, [1.0] * channels"),
        says="The values are in [−½, ½]: a half is subtracted, but not divided by a half.",
    ),
    mistake(
        "mean 0",
        ("[0.5] * channels, [0.5] * channels", "[0.0] * channels, [0.5] * channels"),
        says="The values are in [0, 2]: divided by a half, but nothing was subtracted.",
    ),
    mistake(
        "normalised twice",
        ("[0.5] * channels),\n        ]", "[0.5] * channels),\n            transforms.Normalize([0.5] * channels, [0.5] * channels),\n        ]"),
        says="The normalisation is applied twice: values reach from −3 to 1.",
    ),
    mistake(
        "divided by 256",
        ("            transforms.Normalize", "            transforms.Lambda(lambda x: x * 255 / 256),\n            transforms.Normalize"),
        says="White is 0.992: bytes end at 255, so divide by 255 and not by 256.",
    ),
    mistake(
        "squashed",
        ("transforms.Resize(image_size),", "transforms.Resize((image_size, image_size)),"),
        says="Images that are not square are squashed to one: faces become broad or narrow. Resize the short side (one number, not a pair), then cut the centre.",
    ),
    mistake(
        "cut without resizing",
        ("            transforms.Resize(image_size),  # an int: the shorter side; a pair would squash\n", ""),
        says="The centre is cut out of the image at its full size (nothing is resized, or only afterwards), so most of a large image is lost and a small one gets a black border. Resize the short side first.",
    ),
    mistake(
        "resized without cutting",
        ("            transforms.CenterCrop(image_size),\n", ""),
        says="The short side is right, but nothing is cut off the long one: images of different shapes do not fit into one batch.",
    ),
    mistake(
        "filled up instead of cut",
        ("            transforms.Resize(image_size),  # an int: the shorter side; a pair would squash\n",
         "            transforms.Lambda(lambda image: transforms.functional.resize(transforms.functional.center_crop(image, max(image.size)), image_size)),\n"),  # fmt: skip
        says="The image is filled up with black to a square. The generator would learn to draw the bars; cut the long side instead.",
    ),
    mistake(
        "a corner",
        ("transforms.CenterCrop(image_size)", "transforms.Lambda(lambda image: image.crop((0, 0, image_size, image_size)))"),
        says="The upper left corner is cut out; the subject is usually in the centre.",
    ),
    mistake(
        "a random crop",
        ("transforms.CenterCrop(image_size)", "transforms.RandomCrop(image_size)"),
        says="The place that is cut out is random: the same image gives another tensor each time. The centre is wanted, and no augmentation.",
    ),
    mistake(
        "mirrored",
        ("            transforms.ToTensor(),", "            transforms.RandomHorizontalFlip(1.0),\n            transforms.ToTensor(),"),
        says="The image is mirrored; a GAN imitates what it sees, and the paper uses no augmentation.",
    ),
    mistake(
        "mirrored at random",
        ("            transforms.ToTensor(),", "            transforms.RandomHorizontalFlip(),\n            transforms.ToTensor(),"),
        says="The image is mirrored at random: the same image gives two different tensors. The paper uses no augmentation.",
    ),
    mistake(
        "BGR",
        ("[0.5] * channels),\n        ]", "[0.5] * channels),\n            transforms.Lambda(lambda x: x.flip(0)),\n        ]"),
        says="Red and blue have changed places, as OpenCV stores colours. PIL, matplotlib and torchvision take red, green, blue.",
    ),
    mistake(
        "channels last",
        ("[0.5] * channels),\n        ]", "[0.5] * channels),\n            transforms.Lambda(lambda x: x.permute(1, 2, 0)),\n        ]"),
        says="The channels are the last axis, as in numpy and matplotlib; PyTorch's convolutions want (channels, height, width).",
    ),
    mistake(
        "height and width swapped",
        ("[0.5] * channels),\n        ]", "[0.5] * channels),\n            transforms.Lambda(lambda x: x.transpose(1, 2)),\n        ]"),
        says="Rows and columns have changed places. PIL's `size` is (width, height), an array's shape is (height, width).",
    ),
    mistake(
        "bytes reshaped",
        ("            transforms.ToTensor(),  # (channels, H, W) in [0, 1]",
         "            transforms.Lambda(lambda image: torch.from_numpy(np.array(image)).reshape(channels, image_size, image_size) / 255),"),  # fmt: skip
        says="The bytes of (height, width, channels) are reshaped to (channels, height, width): right shape, scrambled pixels. Permute the axes.",
    ),
    mistake(
        "always grey",
        ('"L" if channels == 1 else "RGB"', '"L"'),
        ("            transforms.Normalize", "            transforms.Lambda(lambda x: x.expand(channels, -1, -1)),\n            transforms.Normalize"),
        says="Every image is made grey, even for three channels.",
    ),
    mistake(
        "always colour",
        ('"L" if channels == 1 else "RGB"', '"RGB"'),
        ("[0.5] * channels, [0.5] * channels", "0.5, 0.5"),
        says="The result has three channels even where one is asked for.",
    ),
    mistake(
        "the red channel for grey",
        ('methodcaller("convert", "L" if channels == 1 else "RGB")',
         'transforms.Lambda(lambda image: image.convert("RGB").split()[0] if channels == 1 else image.convert("RGB"))'),  # fmt: skip
        says="For one channel the red one is taken; grey is the brightness, a weighted mean of all three.",
    ),
    mistake(
        "modes not converted",
        ('            methodcaller("convert", "L" if channels == 1 else "RGB"),\n', "            *([transforms.Grayscale(1)] if channels == 1 else []),\n"),
        says="A grey, palette or transparent image keeps its mode, so it has another number of channels than asked for (or a palette's indices for colours). Convert it first.",
    ),
    mistake(
        "only colour made grey",
        ('methodcaller("convert", "L" if channels == 1 else "RGB")',
         'transforms.Lambda(lambda image: image.convert("RGB") if channels == 3 else image.convert("L") if image.mode == "RGB" else image)'),  # fmt: skip
        says="For one channel only RGB images are converted: of a palette image the numbers of its colours are taken for brightness, and a transparent one keeps all its channels.",
    ),
    mistake(
        "shrunk in place",
        ('methodcaller("convert", "L" if channels == 1 else "RGB")',
         'transforms.Lambda(lambda image: (image.thumbnail([max(image.size) * image_size // min(image.size) + 1] * 2), image.convert("L" if channels == 1 else "RGB"))[1])'),  # fmt: skip
        says="`thumbnail` shrinks the caller's image itself; take `resize`, which returns a new one.",
    ),
    mistake(
        "the size ignored",
        ("transforms.Resize(image_size)", "transforms.Resize(64)"),
        ("transforms.CenterCrop(image_size)", "transforms.CenterCrop(64)"),
        says="The result is always 64 × 64, whatever `image_size` is.",
    ),
    mistake(
        "float64",
        ("            transforms.Normalize", "            transforms.Lambda(lambda x: x.double()),\n            transforms.Normalize"),
        says="The result is float64 (numpy's habit); the networks are float32 and will not take it.",
    ),
    mistake(
        "zoomed in",
        ("transforms.Resize(image_size)", "transforms.Resize(image_size * 9 // 8)"),
        says="The short side is made longer than the image that is cut out, so the border is lost on all four sides. That is augmentation's habit; the short side should get exactly `image_size`.",
    ),
    mistake(
        "stretched to the image",
        ("[0.5] * channels),\n        ]", "[0.5] * channels),\n            transforms.Lambda(lambda x: 2 * (x - x.min()) / (x.max() - x.min()).clamp(min=1e-6) - 1),\n        ]"),
        says="Each image's own smallest and largest values are stretched to −1 and 1, so dark pictures lose their darkness. The same byte has to give the same value in every image: 0 gives −1, 255 gives 1.",
    ),
    mistake(
        "overshooting",
        ("            transforms.Resize(image_size),  # an int: the shorter side; a pair would squash\n            transforms.CenterCrop(image_size),\n            transforms.ToTensor(),  # (channels, H, W) in [0, 1]",
         "            transforms.ToTensor(),\n            transforms.Resize(image_size, transforms.InterpolationMode.BICUBIC),\n            transforms.CenterCrop(image_size),"),  # fmt: skip
        says="Bicubic interpolation of a float tensor overshoots at sharp edges: values leave [−1, 1]. Resize the PIL image, or clamp afterwards.",
    ),
)


# %% tags=["alternative"]
@alternative("torchvision's transforms v2")
def build_transform(image_size=64, channels=3):
    from torchvision.transforms import v2

    return v2.Compose([
        v2.Lambda(lambda image: image.convert("RGB" if channels == 3 else "L")),
        v2.Resize(image_size, interpolation=v2.InterpolationMode.LANCZOS),
        v2.CenterCrop((image_size, image_size)),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.5] * channels, std=[0.5] * channels),
    ])  # fmt: skip


# %% tags=["alternative"]
@alternative("PIL and numpy by hand, the square cut out first")
def build_transform(image_size=64, channels=3):
    def transform(image):
        image = image.convert({1: "L", 3: "RGB"}[channels])
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((image_size, image_size), Image.Resampling.BICUBIC)
        array = np.asarray(image, dtype=np.float32).reshape(image_size, image_size, channels)
        return torch.from_numpy(array.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))

    return transform


# %% tags=["alternative"]
@alternative("a class, ImageOps.fit")
def build_transform(image_size=64, channels=3):
    from PIL import ImageOps

    class ToTraining:
        def __call__(self, image):
            image = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (image_size, image_size), Image.Resampling.BILINEAR)
            x = torch.tensor(list(image.tobytes()), dtype=torch.float32).view(image_size, image_size, channels)
            return x.permute(2, 0, 1).contiguous().div(255).mul(2).sub(1)

    return ToTraining()


# %% tags=["alternative"]
@alternative("tensors from the start, interpolate, clamp")
def build_transform(image_size=64, channels=3):
    import torch.nn.functional as F

    def transform(image):
        x = transforms.functional.to_tensor(image.convert("RGB"))[None]
        if channels == 1:
            x = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
        height, width = x.shape[-2:]
        scale = image_size / min(height, width)
        new = max(image_size, round(height * scale)), max(image_size, round(width * scale))
        if new != (height, width):
            x = F.interpolate(x, size=new, mode="bicubic", antialias=True, align_corners=False)
        top, left = (new[0] - image_size) // 2, (new[1] - image_size) // 2
        return (x[0, :, top : top + image_size, left : left + image_size].clamp(0, 1) - 0.5) / 0.5

    return transform


# %% tags=["alternative"]
@alternative("v2, bytes as tensors, no antialiasing")
def build_transform(image_size=64, channels=3):
    from torchvision.transforms import v2

    steps = v2.Compose([
        v2.PILToTensor(), v2.Resize([image_size], antialias=False), v2.CenterCrop(image_size),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * channels, [0.5] * channels),
    ])  # fmt: skip
    return lambda image: steps(image.convert("L") if channels == 1 else image.convert("RGB"))


# %% tags=["alternative"]
@alternative("numpy alone: the mean of what falls into a pixel")
def build_transform(image_size=64, channels=3):
    def shares(length):  # (image_size, length): how much of each old pixel lies in each new one
        borders = np.arange(image_size + 1)[:, None] * length / image_size
        low, high = np.maximum(borders[:-1], np.arange(length)), np.minimum(borders[1:], np.arange(length) + 1)
        covered = (high - low).clip(0)
        return covered / covered.sum(1, keepdims=True)

    def transform(image):
        pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
        if channels == 1:
            pixels = pixels @ [[0.299], [0.587], [0.114]]
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        square = pixels[top : top + side, left : left + side]
        weights = shares(side)
        return torch.from_numpy(np.einsum("ai,bj,ijc->cab", weights, weights, square) * (2 / 255) - 1).float()

    return transform


# %% tags=["alternative"]
@alternative("modes by hand, bytes as tensors, bicubic and clamped by the byte")
def build_transform(image_size=64, channels=3):
    F = transforms.functional

    def transform(image):
        x = F.pil_to_tensor(image.convert({"P": "RGB", "1": "L"}.get(image.mode, image.mode)))
        x = x[: 3 if len(x) > 2 else 1]  # without alpha
        if len(x) > channels:
            x = F.rgb_to_grayscale(x)
        x = F.resize(x.expand(channels, -1, -1), [image_size], F.InterpolationMode.BICUBIC)
        return F.center_crop(x, [image_size, image_size]) / 127.5 - 1

    return transform


# %% tags=["alternative"]
@alternative("Grayscale for one channel, nearest neighbours, normalise in a lambda")
def build_transform(image_size=64, channels=3):
    steps = [transforms.Lambda(lambda image: image.convert("RGB"))]
    if channels == 1:
        steps.append(transforms.Grayscale(num_output_channels=1))
    steps += [transforms.Resize(image_size, transforms.InterpolationMode.NEAREST), transforms.CenterCrop(image_size)]
    steps += [transforms.PILToTensor(), transforms.Lambda(lambda x: 2 * (x.float() / 255) - 1)]
    return transforms.Compose(steps)


# %% [markdown]
# ### Try it: three ways to a square
#
# A drawn postcard of 96 × 160 pixels, and what becomes of it.

# %% tags=["picture"]
card = np.full((96, 160, 3), 235, np.uint8)
card[:, :, 2] = np.linspace(255, 170, 160)  # a ground that changes from left to right
heads, _ = drawn_glyphs(3, seed=SEED + 1, classes=["disc"], pose=0)
card[16:80, 48:112] = np.where((heads[0] != heads[0][0, 0]).any(-1)[..., None], (0, 114, 178), card[16:80, 48:112])
card[30:66, 4:34], card[30:66, 126:156] = (213, 94, 0), (0, 158, 115)
postcard = Image.fromarray(card)
ways = {
    "96 × 160, as it came": postcard,
    "squashed": postcard.resize((64, 64)),
    "filled up": transforms.functional.resize(transforms.functional.center_crop(postcard, 160), 64),
    "build_transform": ((build_transform()(postcard) + 1) / 2).permute(1, 2, 0).numpy(),
}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained", width_ratios=[5 / 3, 1, 1, 1])
for axis, (title, image) in zip(axes, ways.items()):
    axis.imshow(image)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("pixels")
plt.show()

# %% [markdown]
# **What to see.** The blue disc is round only in the original, between the bars, and in the crop. The crop pays for it with what stood at the sides.

# %% [markdown]
# ## Exercise 2 · `denormalise`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# To look at a training image, or at what the generator made, its values have to come back to $[0, 1]$, which matplotlib and `torchvision.utils.save_image` take for colours. Without it matplotlib cuts
# everything below 0, and half of each picture is black.

# %% tags=["export"]
def denormalise(x: Tensor) -> Tensor:
    """From [-1, 1], where training images are, to [0, 1], where pictures are.

    Args:
        x: floating-point values in [-1, 1], of any shape.

    Returns: a new tensor of the same shape and dtype; -1 becomes 0, 1 becomes 1, linearly between.
        (Values outside may be clamped or not.)
    """
    ### BEGIN SOLUTION
    return (x + 1) / 2
    ### END SOLUTION


# %%
@check("denormalise", points=1)
def _(case):
    case.call("the ends, the middle, a quarter", denormalise, torch.tensor([-1.0, 0.0, 1.0, -0.5], device=case.device))
    case.call("one image", denormalise, case.uniform(3, 2, 4, low=-1.0))
    case.call("a batch that uses only a part of the range", denormalise, case.uniform(2, 1, 3, 3, low=-0.3, high=0.1))
    case.call("a bright batch, all of it above 0", denormalise, case.uniform(2, 3, low=0.2, high=1.0))
    bytes_ = case.integers(0, 256, 2, 3, 4).float()
    case.call("there and back", denormalise, bytes_ / 127.5 - 1)
    case.call("float64 stays float64", denormalise, case.uniform(4, low=-1.0, dtype=torch.float64))
    ### BEGIN HIDDEN TESTS
    case.call("float64, two axes more", denormalise, case.uniform(2, 3, 5, low=-1.0, dtype=torch.float64))
    case.call("bfloat16", denormalise, case.uniform(3, 4, low=-1.0).bfloat16())
    case.call("not contiguous", denormalise, case.uniform(2, 5, 4, 3, low=-1.0).permute(0, 3, 1, 2))
    case.call("one dark image among others", denormalise, torch.cat([case.uniform(1, 3, 2, 2, low=-1.0, high=-0.8), case.uniform(2, 3, 2, 2, low=-1.0)]))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
equivalents("denormalise", {
    "detach added: `return (x + 1) / 2` → `return ((x + 1) / 2).detach()`": "pictures to look at need no gradient; the docstring asks for none",
})  # fmt: skip
hints(
    "denormalise",
    "Draw the line that passes through (−1, 0) and (1, 1).",
    "Undo the formula in “Why [−1, 1]”, step by step and backwards; leave out the factor of 255.",
    "Add one, then halve. The result is a new tensor.",
)
misconceptions(
    "denormalise",
    mistake("clamped", ("(x + 1) / 2", "x.clamp(0, 1)"), says="Everything below 0 is cut off; half of the range becomes black. Shift and scale instead."),
    mistake("halved first", ("(x + 1) / 2", "x / 2 + 1"), says="The result runs from ½ to 1½: the one is added after halving."),
    mistake("not halved", ("(x + 1) / 2", "x + 1"), says="The result runs from 0 to 2: it is shifted, but not halved."),
    mistake("not shifted", ("(x + 1) / 2", "x / 2"), says="The result runs from −½ to ½: it is halved, but not shifted."),
    mistake("bytes", ("(x + 1) / 2", "(x + 1) * 127.5"), says="The result runs from 0 to 255; [0, 1] is wanted."),
    mistake("once more normalised", ("(x + 1) / 2", "2 * x - 1"), says="This is the normalisation once more, to [−3, 1]; its inverse is wanted."),
    mistake("sigmoid", ("(x + 1) / 2", "torch.sigmoid(x)"), says="A sigmoid is not linear, and maps [−1, 1] to [0.27, 0.73]."),
    mistake("magnitude", ("(x + 1) / 2", "x.abs()"), says="The magnitude makes black as bright as white."),
    mistake(
        "stretched to the batch",
        ("(x + 1) / 2", "(x - x.min()) / (x.max() - x.min())"),
        says="The smallest and largest value of the batch are stretched to 0 and 1, so the same image looks different in another batch (`normalize=True` of make_grid does that).",
    ),
    mistake("left alone if not negative", ("return (x + 1) / 2", "return x.clone() if x.min() >= 0 else (x + 1) / 2"), says="A batch without a negative value is taken to be in [0, 1] already; a bright image of [−1, 1] has none either."),
    mistake("in place", ("return (x + 1) / 2", "return x.add_(1).div_(2)"), says="The caller's tensor is changed in place, and with it the training image. Compute a new one."),
    mistake("float32", ("(x + 1) / 2", "(x.float() + 1) / 2"), says="The result is float32 whatever came in; keep the dtype."),
    mistake(
        "ImageNet's statistics",
        ("(x + 1) / 2", "x * 0.225 + 0.45"),
        says="ImageNet's mean and deviation are undone; the images were normalised with ½ and ½.",
    ),
)


# %% tags=["alternative"]
@alternative("times a half, plus a half")
def denormalise(x):
    return x * 0.5 + 0.5


# %% tags=["alternative"]
@alternative("clamped for safety")
def denormalise(x):
    return x.add(1).div(2).clamp(0, 1)


# %% tags=["alternative"]
@alternative("interpolated between 0 and 1")
def denormalise(x):
    return torch.lerp(torch.full_like(x, 0.5), torch.ones_like(x), x)


# %% tags=["alternative"]
@alternative("Normalize turned round")
def denormalise(x):
    mean, std = torch.tensor(0.5, dtype=x.dtype), torch.tensor(0.5, dtype=x.dtype)
    return ((x - (-mean / std)) / (1 / std)).detach()


# %% tags=["alternative"]
@alternative("a clone changed in place, without gradients")
@torch.no_grad()
def denormalise(x):
    y = x.clone()
    y += 1
    y *= 0.5
    return y


# %% [markdown]
# ## Exercise 3 · `read_image`
#
# *Difficulty ●●○ · 10 minutes · 2 points*
#
# A folder of thousands of images holds a few broken ones: a download that stopped half-way, a page of HTML saved as `.jpg`, an empty file. PIL reports them, but
#
# - `Image.open` only reads the head of a file. A truncated JPEG opens without complaint and fails *later*, when its pixels are wanted: in the middle of an epoch, in a worker process;
# - the message then is `image file is truncated (9 bytes not processed)`: true, and no help among 200,000 files.
#
# So: decode all of it at once, and say which file it was.

# %% tags=["export"]
def read_image(path: str | Path) -> Image.Image:
    """One image file, decoded whole.

    Args:
        path: of the file.

    Returns: the image, mode "RGB" whatever the file's was, independent of the file from now on.

    Raises: ValueError with the path in its message if the file is no image, or is broken or cut
        short anywhere.
    """
    ### BEGIN SOLUTION
    try:
        with Image.open(path) as image:
            return image.convert("RGB")  # decodes every pixel; Image.open alone reads only the head
    except Exception as error:  # OSError, SyntaxError, ValueError, …: each format has its own
        raise ValueError(f"{path} is not an image that can be read: {error}") from error
    ### END SOLUTION


# %%
@check("read_image", points=2)
def _(case):
    def pixels(path):
        image = read_image(path)
        return {"mode": image.mode, "pixels": torch.from_numpy(np.array(image))}

    def complaint(path):  # what comes of a broken file
        try:
            image = read_image(path)
        except NotImplementedError:
            raise
        except ValueError as error:
            said = str(error).replace("\\\\", "\\")  # as repr writes Windows's paths
            if str(path) in said or os.path.realpath(path) in said:
                return "ValueError, names the file"
            return "ValueError, with the file's name and not its path" if Path(path).name in said else "ValueError, without the file's name"
        except Exception as error:
            return f"another error, {type(error).__name__}"
        try:
            return "no error, and a black image" if image.getbbox() is None else "no error, and an image"
        except AttributeError:
            return "no error, and no image"
        except Exception:
            return "no error, but one when the pixels are looked at"

    def saved(name, image, cut=1.0):
        image.save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * cut)])
        return folder / name

    def noise(*shape):
        return Image.fromarray(case.integers(0, 256, *shape).to(torch.uint8).cpu().numpy())

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        case.call("a PNG of 2 × 3 pixels", pixels, saved("small.png", noise(2, 3, 3)))
        case.call("a grey PNG becomes RGB", pixels, saved("grey.png", noise(2, 2)))
        case.call("the path as a string", pixels, str(saved("text.png", noise(1, 2, 3))))
        case.call("a JPEG cut in half", complaint, saved("half.jpg", noise(40, 40, 3), cut=0.5))
        (folder / "page.jpg").write_text("<html>quota exceeded</html>")
        case.call("a web page saved as .jpg", complaint, folder / "page.jpg")
        (folder / "nothing.png").touch()
        case.call("an empty file", complaint, folder / "nothing.png")
        kept = read_image(saved("gone.png", noise(2, 2, 3)))
        (folder / "gone.png").unlink()
        case.record("the image outlives its file", torch.from_numpy(np.array(kept)))
        ### BEGIN HIDDEN TESTS
        case.call("a JPEG without its last bytes", complaint, saved("tail.jpg", noise(64, 48, 3), cut=0.97))
        case.call("a PNG cut in half", complaint, saved("half.png", noise(30, 40, 3), cut=0.5))
        case.call("a PNG cut in its head", complaint, saved("head.png", noise(30, 40, 3), cut=0.005))
        case.call("a BMP cut short", complaint, saved("short.bmp", noise(30, 40, 3), cut=0.8))
        whole = saved("damaged.png", noise(5, 6, 3)).read_bytes()
        (folder / "damaged.png").write_bytes(whole[:8] + b"\0\0\0\5" + whole[12:])
        case.call("a PNG whose head says a wrong length", complaint, folder / "damaged.png")
        case.record("the size of a whole JPEG", list(read_image(saved("whole.jpg", noise(64, 48, 3))).size))
        with_alpha = noise(3, 2, 3)
        with_alpha.putalpha(255)
        case.call("RGBA becomes RGB", pixels, saved("alpha.png", with_alpha))
        case.call("black and white, mode 1", pixels, saved("one.png", Image.fromarray(case.boolean(3, 5).cpu().numpy())))
        case.call("a larger PNG", pixels, saved("large.png", noise(17, 11, 3)))
        ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "read_image",
    "When does PIL look at the pixels: in `Image.open`, or when somebody asks for them?",
    "Pillow's documentation, `Image.open`: “This is a lazy operation”. And `Image.verify`: it does not decode either.",
    "Open the file in a `with`, convert it to RGB while it is open (that decodes it), and turn whatever error comes up into a ValueError whose text holds the path.",
)
misconceptions(
    "read_image",
    mistake(
        "PIL's own errors",
        ('        raise ValueError(f"{path} is not an image that can be read: {error}") from error', "        raise"),
        says="PIL's own error goes through; for a truncated file it does not name the file. A ValueError with the path is wanted.",
    ),
    mistake(
        "no name",
        ('{path} is not an image', "this is not an image"),
        says="The error does not name the file: nobody finds it among thousands.",
    ),
    mistake(
        "the name alone",
        ('{path} is not an image', "{Path(path).name} is not an image"),
        says="The error names the file without its folder, and subfolders may each hold a file of that name. The path is wanted.",
    ),
    mistake(
        "only files that do not open",
        ('    try:\n        with Image.open(path) as image:\n            return image.convert("RGB")  # decodes every pixel; Image.open alone reads only the head\n    except',
         '    try:\n        image = Image.open(path)\n    except'),  # fmt: skip
        ('from error', 'from error\n    return image.convert("RGB")'),
        says="Only the opening is guarded, and that reads no more than the head of a file: the error of a truncated image comes later, without the file's name.",
    ),
    mistake(
        "verified, not decoded",
        ('            return image.convert("RGB")  # decodes every pixel; Image.open alone reads only the head',
         '            image.verify()\n        try:\n            return Image.open(path).convert("RGB")\n        except OSError:\n            return Image.new("RGB", image.size)'),  # fmt: skip
        says="`verify` does not decode the pixels, so a truncated JPEG passes it. Decode the image.",
    ),
    mistake(
        "not decoded",
        ('            return image.convert("RGB")  # decodes every pixel; Image.open alone reads only the head',
         '            pass\n        image = Image.open(path)\n        return image if image.mode == "RGB" else image.convert("RGB")'),  # fmt: skip
        says="The image returned is not decoded yet: it still hangs on its file, and a truncated file goes unnoticed until its pixels are wanted.",
    ),
    mistake(
        "the mode kept",
        ('image.convert("RGB")', "image.copy()"),
        says="The image keeps its file's mode (grey, transparent, palette); RGB is wanted, whatever the file's was.",
    ),
    mistake("grey", ('image.convert("RGB")', 'image.convert("L")'), says="Every image becomes grey; RGB is wanted."),
    mistake("RGBA", ('image.convert("RGB")', 'image.convert("RGBA")'), says="The image has a fourth channel for transparency; RGB is wanted."),
    mistake(
        "BGR",
        ('image.convert("RGB")', 'Image.merge("RGB", image.convert("RGB").split()[::-1])'),
        says="Red and blue have changed places.",
    ),
    mistake(
        "None for a broken file",
        ('        raise ValueError(f"{path} is not an image that can be read: {error}") from error', "        return None"),
        says="A broken file gives None without a word; the caller's next line fails somewhere else. Raise a ValueError that names the file.",
    ),
    mistake(
        "black for a broken file",
        ('        raise ValueError(f"{path} is not an image that can be read: {error}") from error', '        return Image.new("RGB", (64, 64))'),
        says="A broken file becomes a black image, and the generator learns black images. Raise a ValueError that names the file.",
    ),
    mistake(
        "truncated images loaded",
        ("    try:\n", "    from PIL import ImageFile\n\n    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True\n    try:\n"),
        ("from error", "from error\n    finally:\n        ImageFile.LOAD_TRUNCATED_IMAGES = before"),
        says="`LOAD_TRUNCATED_IMAGES` fills the missing part of a truncated image with grey, and the generator learns grey bars. Such a file has to be refused.",
    ),
    mistake(
        "the wrong error",
        ("raise ValueError", "raise RuntimeError"),
        says="The error is a RuntimeError; the docstring promises a ValueError, which callers will catch.",
    ),
)


# %% tags=["alternative"]
@alternative("open, load, convert")
def read_image(path):
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path}") from error
    return image.convert("RGB")


# %% tags=["alternative"]
@alternative("the bytes first")
def read_image(path):
    data = io.BytesIO(Path(path).read_bytes())
    try:
        return Image.open(data).convert("RGB")
    except Exception as problem:
        message = "broken image: " + os.fspath(path)
        raise ValueError(message + f" ({problem})") from None


# %% tags=["alternative"]
@alternative("an error of its own")
def read_image(path):
    class BrokenImage(ValueError):
        pass

    with open(path, "rb") as file:
        try:
            image = Image.open(file)
            pixels = np.array(image.convert("RGB"))
        except Exception as error:
            raise BrokenImage(Path(path)) from error
    return Image.fromarray(pixels)


# %% tags=["alternative"]
@alternative("verified and then decoded")
def read_image(path):
    try:
        with Image.open(path) as image:
            image.verify()
        with Image.open(path) as image:
            rgb = Image.new("RGB", image.size)
            rgb.paste(image.convert("RGB"))
            return rgb
    except BaseException as error:
        raise ValueError("{!s}: {!r}".format(path, error))


# %% [markdown]
# ## Exercise 4 · `ImageFolderDataset`
#
# *Difficulty ●●○ · 20 minutes · 4 points*
#
# A `Dataset` is anything with a length and items. Yours lists the images of a folder once, finds the broken ones *before* training starts, and reads each image when it is asked for: a folder
# may be larger than the memory. What happens to broken files is the learner's choice, and they are named in either case: `"refuse"` stops with an error, `"skip"` goes on without them and warns.
#
# Looking at every file costs one pass over the folder, about a millisecond an image of CelebA's size: minutes for all of CelebA. The alternative is a run that dies in its second epoch.
#
# Every item is a pair (image, 0): a GAN has no use for a class, but the datasets of torchvision all give pairs, and so `for images, _ in loader` fits them all.

# %% tags=["export"]
EXTENSIONS = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


class ImageFolderDataset(Dataset):
    """The images of a folder and its subfolders.

    Args:
        folder: where they are. Files whose name does not end in one of EXTENSIONS, in small or
            capital letters, are passed over.
        transform: called with each image (PIL, RGB) when it is read; None leaves it a PIL image.
        on_error: what to do with files that `read_image` cannot read. "refuse": a ValueError that
            names them all. "skip": leave them out, and warn (`warnings.warn`), naming them all.

    Attributes: paths: the images' paths, sorted. skipped: the paths left out, sorted.

    Raises: ValueError if files are broken and on_error is "refuse", if no image is left, or if
        on_error is anything else.
    """

    def __init__(
        self, folder: str | Path, transform: Callable[[Image.Image], Any] | None = None,
        on_error: str = "refuse",
    ) -> None:
        ### BEGIN SOLUTION
        if on_error not in ("refuse", "skip"):
            raise ValueError(f'on_error is "refuse" or "skip", not {on_error!r}')
        self.transform = transform
        self.paths: list[Path] = []
        self.skipped: list[Path] = []
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in EXTENSIONS:
                try:
                    read_image(path)
                    self.paths.append(path)
                except ValueError:
                    self.skipped.append(path)
        if self.skipped:
            report = f"{len(self.skipped)} broken images: " + ", ".join(map(str, self.skipped))
            if on_error == "refuse":
                raise ValueError(report + '. Delete or replace them, or leave them out with on_error="skip".')
            warnings.warn(report)
        if not self.paths:
            raise ValueError(f"no image that can be read in {folder}")
        ### END SOLUTION

    def __len__(self) -> int:
        """How many images there are."""
        ### BEGIN SOLUTION
        return len(self.paths)
        ### END SOLUTION

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """(the image, transformed, and 0). It is read now, not kept. ValueError, with the name, if
        it has been broken since."""
        ### BEGIN SOLUTION
        image = read_image(self.paths[index])
        return (image if self.transform is None else self.transform(image)), 0
        ### END SOLUTION


# %%
@check("ImageFolderDataset", points=4)
def _(case):
    def colour(image):  # what a case looks at: the first pixel
        return torch.tensor(image.getpixel((0, 0)))

    def fill(folder, names):  # images of one random colour each, written in the order given; a name with "!" is cut short
        for name in names:
            path = folder / name.strip("!")
            path.parent.mkdir(parents=True, exist_ok=True)
            size = [side * 40 if path.suffix == ".jpg" else side for side in case.integers(3, 9, 2).tolist()]
            Image.new("RGB", size, tuple(case.integers(0, 256, 3).tolist())).save(path)
            if name.endswith("!"):
                data = path.read_bytes()  # both open without complaint: what is missing is pixels
                path.write_bytes(data[:50] if path.suffix == ".png" else data[:-20])
        return folder

    def where(folder, paths):  # relative to the folder, whatever form the paths have
        return ", ".join(os.path.relpath(os.path.realpath(path), folder).replace(os.sep, "/") for path in paths) or "none"

    def told(run):  # an error by its kind alone: its text holds the name of a folder that is another one each time
        try:
            return run()
        except (ValueError, OSError) as error:
            return f"{type(error).__name__}"

    def outcome(folder, **options):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dataset = told(lambda: ImageFolderDataset(folder, colour, **options))
        if isinstance(dataset, str):
            return dataset
        said = " ".join(str(warning.message) for warning in caught)
        named = ", ".join(sorted(path.name for path in folder.rglob("*.*") if path.name in said)) or "none"
        lists = {"paths": where(folder, dataset.paths), "skipped": where(folder, dataset.skipped)}
        return {"length": len(dataset), **lists, "a warning": bool(caught), "it names": named}

    def items(dataset):
        return told(lambda: [dataset[index] for index in range(len(dataset))])

    def refusal(folder, options=None):  # which files the error names
        try:
            dataset = ImageFolderDataset(folder, colour, **(options or {}))
        except ValueError as error:
            return "ValueError, which names: " + (", ".join(sorted(path.name for path in folder.rglob("*.*") if path.name in str(error))) or "none")
        except OSError as error:
            return type(error).__name__
        return f"no error, {len(dataset)} images"

    def quietly(run):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    def complaint(run, name):
        try:
            run()
        except ValueError as error:
            return "ValueError, names the file" if name in str(error) else "ValueError, without the file's name"
        except OSError as error:
            return f"another error, {type(error).__name__}"
        return "no error"

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(os.path.realpath(temporary))
        three = fill(root / "three", ["b.png", "c.png", "a.png"])
        case.call("three images, written as b, c, a", outcome, three)
        dataset = ImageFolderDataset(three, colour)
        case.record("their items", items(dataset))
        image, label = ImageFolderDataset(str(three))[1]
        case.record("without a transform, the path as a string", {"mode": image.mode, "size": list(image.size), "colour": colour(image), "label": label})
        case.call("subfolders, capital letters, and files that are no images", outcome, fill(root / "deep", ["x/1.png", "x/y/2.PNG", "3.jpeg", "w/4.JPG", "5.bmp"]))
        for name in ("notes.txt", "x/list.csv", "x/png", "thumbs.db", "x/6.jpg.part"):
            (root / "deep" / name).write_text("no image")
        for name in ("x/moving.gif", "scan.tiff"):  # images, but of other kinds
            Image.new("RGB", (3, 4), "teal").save(root / "deep" / name)
        case.call("the same with such files beside them", outcome, root / "deep")
        broken = fill(root / "broken", ["one.png", "two.png!", "three.png", "four.jpg!", "s/five.png!", "s/six.png"])
        case.call("three broken files, refused by default", refusal, broken)
        case.call("three broken files, refused", refusal, broken, {"on_error": "refuse"})
        case.call("three broken files, skipped", outcome, broken, on_error="skip")
        dataset = quietly(lambda: told(lambda: ImageFolderDataset(broken, colour, on_error="skip")))
        case.record("the items that are left", dataset if isinstance(dataset, str) else items(dataset))
        case.call("nothing to skip", outcome, three, on_error="skip")
        pages = fill(root / "pages", ["me.png", "you.jpg"])
        (pages / "quota.jpg").write_text("<html>quota exceeded</html>")
        (pages / "nothing.png").touch()
        case.call("a web page and an empty file, named like images, skipped", outcome, pages, on_error="skip")
        case.call("an unknown on_error", refusal, three, {"on_error": "ignore"})
        (root / "empty").mkdir()
        case.call("an empty folder", refusal, root / "empty")
        dataset = ImageFolderDataset(three, colour)
        dataset[1]
        fill(three, ["b.png"])
        case.record("read when it is asked for: a file that has changed since", dataset[1])
        ### BEGIN HIDDEN TESTS
        case.call("nothing but broken files, skipped", lambda: quietly(lambda: refusal(fill(root / "all", ["p.png!", "q.jpg!"]), {"on_error": "skip"})).partition(",")[0])
        case.call("one broken file of two, refused", refusal, fill(root / "two", ["left.png", "right.png!"]))
        case.call("the broken one comes first, skipped", outcome, fill(root / "first", ["a1.jpg!", "a2.png", "a3.png"]), on_error="skip")
        (root / "first" / "a4.webp").write_bytes(b"")
        case.call("and an empty file", outcome, root / "first", on_error="skip")
        (root / "greys").mkdir()
        Image.new("L", (3, 4), 90).save(root / "greys" / "grey.png")
        case.record("a grey image, as the transform gets it", ImageFolderDataset(root / "greys", lambda image: image.mode)[0])
        (three / "c.png").write_bytes((three / "c.png").read_bytes()[:50])
        case.call("broken after the dataset was made", lambda: complaint(lambda: dataset[2], "c.png"))
        case.record("a transform to training images", ImageFolderDataset(fill(root / "last", ["z.png"]), build_transform(2, 1))[0])
        ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "ImageFolderDataset",
    "Separate three things: which files there are, which of them can be read, and what to do about the others. All three belong into `__init__`; the pixels belong into `__getitem__`.",
    "`Path.rglob` finds files in subfolders too, in no order that you can rely on. `read_image` raises what you need to know.",
    "Go through the sorted files with a known ending; try to read each, and put its path into one of two lists. If the second list is not empty, raise or warn with all its names. "
    "An item is the image read anew, transformed if there is a transform, and a 0.",
)
misconceptions(
    "ImageFolderDataset",
    mistake(
        "other kinds of images too",
        ("in EXTENSIONS:", 'in EXTENSIONS | {".gif", ".tif", ".tiff"}:'),
        says="Files of other kinds than EXTENSIONS are taken as well; they are to be passed over.",
    ),
    mistake(
        "not looked at",
        ("                    read_image(path)\n", ""),
        says="The files are listed, not read: a broken one is found in the middle of training. Read each once at the start.",
    ),
    mistake(
        "only opened",
        ("                    read_image(path)\n                    self.paths.append(path)\n                except ValueError:",
         "                    Image.open(path).close()\n                    self.paths.append(path)\n                except Exception:"),  # fmt: skip
        says="The files are opened, not decoded: `Image.open` reads the head alone, so truncated images pass.",
    ),
    mistake(
        "only verified",
        ("                    read_image(path)\n                    self.paths.append(path)\n                except ValueError:",
         "                    Image.open(path).verify()\n                    self.paths.append(path)\n                except Exception:"),  # fmt: skip
        says="The files are checked with `verify`, which decodes nothing: truncated JPEGs pass. Read them.",
    ),
    mistake(
        "only the first broken file",
        ("                except ValueError:\n                    self.skipped.append(path)",
         "                except ValueError:\n                    if on_error == 'refuse':\n                        raise\n                    self.skipped.append(path)"),  # fmt: skip
        says="The error comes with the first broken file, so whoever has fifty of them repairs and starts again fifty times. Name them all.",
    ),
    mistake(
        "the error without names",
        ("if on_error == \"refuse\":\n                raise ValueError(report + '. Delete", "if on_error == \"refuse\":\n                raise ValueError('some images are broken. Delete"),
        says="The error does not say which files are broken.",
    ),
    mistake(
        "the warning without names",
        ("warnings.warn(report)", 'warnings.warn(f"{len(self.skipped)} images skipped")'),
        says="The warning says how many files were skipped, not which.",
    ),
    mistake(
        "skipped in silence",
        ("            warnings.warn(report)\n", ""),
        says="Broken files are left out without a warning that names them. (A `print` is none: programs cannot catch, count or silence it. `warnings.warn` is asked for.)",
    ),
    mistake(
        "always a warning",
        ("        if self.skipped:\n", "        if on_error == 'skip' and not self.skipped:\n            warnings.warn('skipped nothing of ' + ', '.join(map(str, self.paths)))\n        if self.skipped:\n"),
        says="There is a warning although nothing was skipped; after a while nobody reads it any more.",
    ),
    mistake(
        "skips by default",
        ('on_error: str = "refuse"', 'on_error: str = "skip"'),
        says="Without `on_error` broken files are skipped; the default is to refuse.",
    ),
    mistake(
        "never refuses",
        ('if on_error == "refuse":', 'if on_error == "raise":'),
        says="Broken files are skipped even with \"refuse\".",
    ),
    mistake(
        "always refuses",
        ('if on_error == "refuse":', "if True:"),
        says="Broken files are refused even with \"skip\".",
    ),
    mistake(
        "on_error not looked at",
        ("        if on_error not in (\"refuse\", \"skip\"):\n            raise ValueError(f'on_error is \"refuse\" or \"skip\", not {on_error!r}')\n", ""),
        says="An `on_error` with a slip of the pen is accepted and means something by chance; a ValueError is wanted.",
    ),
    mistake(
        "an empty dataset",
        ('        if not self.paths:\n            raise ValueError(f"no image that can be read in {folder}")\n', ""),
        says="A folder without an image gives an empty dataset, and the error comes from somewhere deep in the loader. Raise a ValueError here.",
    ),
    mistake(
        "unsorted",
        ("sorted(Path(folder).rglob(\"*\"))", "sorted(Path(folder).rglob(\"*\"), key=lambda path: path.stat().st_mtime_ns)"),
        says="The order is the file system's (of writing, say), so another machine has another order and the same seed means other batches. Sort the paths.",
    ),
    mistake(
        "sorted backwards",
        ("sorted(Path(folder).rglob(\"*\"))", "sorted(Path(folder).rglob(\"*\"), reverse=True)"),
        says="The paths are sorted backwards.",
    ),
    mistake(
        "no subfolders",
        (".rglob(", ".glob("),
        says="Only the folder itself is searched, not its subfolders.",
    ),
    mistake(
        "capital letters",
        ("path.suffix.lower()", "path.suffix"),
        says="Files such as PHOTO.JPG are passed over: the ending is compared with small letters only.",
    ),
    mistake(
        "every file",
        ("if path.suffix.lower() in EXTENSIONS:", "if path.is_file():"),
        says="Every file counts, so a text file among the images is taken for a broken image. Pass over what does not have a known ending.",
    ),
    mistake(
        "only PNG",
        ("in EXTENSIONS:", 'in {".png"}:'),
        says="Only PNG files are found; all of EXTENSIONS count.",
    ),
    mistake(
        "skipped not kept",
        ("            warnings.warn(report)", "            warnings.warn(report)\n            self.skipped = []"),
        says="`skipped` is empty although files were left out.",
    ),
    mistake(
        "the transform ignored",
        ("(image if self.transform is None else self.transform(image)), 0", "image, 0"),
        says="The transform is never called.",
    ),
    mistake(
        "a transform is a must",
        ("(image if self.transform is None else self.transform(image)), 0", "self.transform(image), 0"),
        says="Without a transform an item cannot be read: None is called like a function.",
    ),
    mistake(
        "no label",
        ("return (image if self.transform is None else self.transform(image)), 0", "return image if self.transform is None else self.transform(image)"),
        says="An item is the image alone; a pair (image, 0) is wanted, as torchvision's datasets give.",
    ),
    mistake(
        "the index for a label",
        ("self.transform(image)), 0", "self.transform(image)), index"),
        says="The second of the pair is the image's number; 0 is wanted.",
    ),
    mistake(
        "the first image always",
        ("self.paths[index]", "self.paths[0]"),
        says="Every item is the first image.",
    ),
    mistake(
        "all images kept",
        ("        if not self.paths:\n", "        self.images = [read_image(path) for path in self.paths]\n        if not self.paths:\n"),
        ("read_image(self.paths[index])", "self.images[index]"),
        says="All images are read at the start and kept: a folder larger than the memory cannot be used. Read an image when it is asked for.",
    ),
    mistake(
        "broken files counted",
        ("return len(self.paths)", "return len(self.paths) + len(self.skipped)"),
        says="The length counts the skipped files as well; the last items do not exist.",
    ),
)


# %% tags=["alternative"]
@alternative("os.walk, strings for paths")
class ImageFolderDataset(Dataset):
    def __init__(self, folder, transform=None, on_error="refuse"):
        assert_known = {"refuse": True, "skip": False}
        if on_error not in assert_known:
            raise ValueError(on_error)
        self.transform = transform
        found = []
        for where, _, files in os.walk(folder):
            found += [os.path.join(where, file) for file in files if file.lower().endswith(tuple(EXTENSIONS))]
        good, bad = [], []
        for path in found:
            try:
                read_image(path)
            except ValueError:
                bad.append(path)
            else:
                good.append(path)
        self.paths, self.skipped = sorted(good), sorted(bad)
        if bad and assert_known[on_error]:
            raise ValueError("broken: " + "; ".join(self.skipped))
        if bad:
            warnings.warn("skipped: " + "; ".join(self.skipped), stacklevel=2)
        if len(good) == 0:
            raise ValueError("no images")

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = read_image(self.paths[index])
        if self.transform is not None:
            image = self.transform(image)
        return image, 0


# %% tags=["alternative"]
@alternative("a helper method, a dictionary of errors, an identity transform")
class ImageFolderDataset(Dataset):
    def __init__(self, folder, transform=None, on_error="refuse"):
        super().__init__()
        self.transform = transform or (lambda image: image)
        candidates = [path for path in Path(folder).glob("**/*") if path.is_file() and path.suffix.casefold() in EXTENSIONS]
        errors = {path: error for path in candidates if (error := self.problem(path))}
        self.paths = sorted(set(candidates) - set(errors))
        self.skipped = sorted(errors)
        names = "\n".join(f"{path.name}: {errors[path]}" for path in self.skipped)
        if on_error == "skip":
            if errors:
                warnings.warn(names, RuntimeWarning)
        elif on_error == "refuse":
            if errors:
                raise ValueError(names)
        else:
            raise ValueError("on_error?")
        if not len(self):
            raise ValueError(f"{folder} holds no images")

    @staticmethod
    def problem(path):
        try:
            return read_image(path) and None
        except ValueError as error:
            return error

    def __len__(self):
        return self.paths.__len__()

    def __getitem__(self, index):
        return self.transform(read_image(self.paths[index])), 0


# %% tags=["alternative"]
@alternative("PIL alone, resolved paths")
class ImageFolderDataset(Dataset):
    def __init__(self, folder, transform=None, on_error="refuse"):
        self.root, self.transform, self.paths, self.skipped = Path(folder).resolve(), transform, [], []
        if on_error not in {"refuse", "skip"}:
            raise ValueError("on_error: refuse or skip")
        for path in sorted(p for p in self.root.rglob("*.*") if p.suffix.lower() in EXTENSIONS):
            target = self.paths if self._load(path) is not None else self.skipped
            target.append(path)
        if self.skipped:
            message = " ".join(p.relative_to(self.root).as_posix() for p in self.skipped)
            if on_error == "refuse":
                raise ValueError(message)
            warnings.warn(UserWarning(message))
        if self.paths == []:
            raise ValueError("nothing to read")

    def _load(self, path):
        try:
            with open(path, "rb") as file:
                return Image.open(file).convert("RGB")
        except Exception:
            return None

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = self._load(self.paths[index])
        if image is None:
            raise ValueError(f"{self.paths[index]} has been broken since")
        return (self.transform(image), 0) if self.transform else (image, 0)


# %% tags=["alternative"]
@alternative("a generator of results, one warning at the end")
class ImageFolderDataset(Dataset):
    def __init__(self, folder, transform=None, on_error="refuse"):
        if not (on_error == "refuse" or on_error == "skip"):
            raise ValueError(f"unknown on_error {on_error}")
        self.transform = transform

        def readable(path):
            try:
                read_image(path)
                return True
            except ValueError:
                return False

        files = sorted(path for extension in EXTENSIONS for path in Path(folder).rglob("*") if path.name.lower().endswith(extension))
        verdicts = [readable(path) for path in files]
        self.paths = [path for path, good in zip(files, verdicts) if good]
        self.skipped = [path for path, good in zip(files, verdicts) if not good]
        if not all(verdicts):
            text = f"cannot read {[str(path) for path in self.skipped]}"
            if on_error == "refuse":
                raise ValueError(text)
            warnings.warn(text)
        if not any(verdicts):
            raise ValueError("no readable image")

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = read_image(str(self.paths[index]))
        return image if self.transform is None else self.transform(image), 0


# %% [markdown]
# ### Try it: a folder with a broken file
#
# Forty glyphs as PNG files, one of them cut short as a broken download would be. (With a folder of your own: `ImageFolderDataset("path/to/it", build_transform(), on_error="skip")`. In Colab,
# upload an archive in the files panel and unpack it with `!unzip -q images.zip -d images`.)

# %% tags=["picture"]
with tempfile.TemporaryDirectory() as own:
    for number in range(40):
        Image.fromarray(glyphs[number]).save(Path(own, f"{number:03d}.png"))
    Path(own, "017.png").write_bytes(Path(own, "017.png").read_bytes()[:300])
    try:
        ImageFolderDataset(own, build_transform())
    except ValueError as error:
        print("refuse:", str(error).replace(own, "my_images"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = ImageFolderDataset(own, build_transform(), on_error="skip")
    print("skip:  ", str(caught[0].message).replace(own, "my_images"))
    print(f"{len(dataset)} images are left, the first of shape {tuple(dataset[0][0].shape)}")

# %% [markdown]
# ## Exercise 5 · `build_dataloader`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# The `DataLoader` draws an order, gathers batches, and lets worker processes prepare them while the network computes. Four settings matter here:
#
# | setting | why |
# | --- | --- |
# | shuffled anew each epoch | batches of neighbours are alike, and batch-norm computes its statistics from the batch |
# | the same order for the same seed | to repeat a run. `torch.manual_seed` is not enough: the noise of every training step draws from the same global generator, so one more step shifts everything. Give the loader a generator of its own |
# | the last, partial batch dropped | a last batch of one image would normalise itself away: with a single value a channel, batch-norm gives 0 |
# | seeded workers | each worker is a process with random generators of its own; PyTorch seeds them (numpy's and Python's too) from the loader's generator |
#
# The paper's batch size is 128 (section 4).

# %% tags=["export"]
def build_dataloader(dataset: Dataset, batch_size: int, seed: int = 0, workers: int = 0) -> DataLoader:
    """Shuffled, reproducible batches of equal size.

    Args:
        dataset: of any kind, with a length.
        batch_size: images a batch.
        seed: what decides the order of each epoch, whatever else draws random numbers in between.
            Another seed gives another order.
        workers: processes that prepare batches; 0: none, this process does it. What a dataset draws
            at random in a worker (from torch, numpy or Python's random) depends on the seed alone,
            and is not repeated by other workers or in other epochs.

    Returns: a DataLoader that goes through the dataset in another random order each epoch, each
        image at most once, and drops the last partial batch. Python's, numpy's and torch's global
        generators are not seeded.
    """
    ### BEGIN SOLUTION
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        generator=torch.Generator().manual_seed(seed),  # decides the order, and seeds the workers
    )
    ### END SOLUTION


# %%
@check("build_dataloader", points=4)
def _(case):
    def epochs(count, n, batch_size, between=None, **options):  # the numbers of the items, in the order in which they come
        loader = build_dataloader(RandomDraws(n), batch_size, **options)
        found = []
        for _ in range(count):
            found.append([batch[0].tolist() for batch in loader])
            if between is not None:
                between()
        return found

    def flat(epoch):
        return [number for batch in epoch for number in batch]

    def state():
        return {"torch": torch.get_rng_state().tolist(), "numpy": str(np.random.get_state()), "random": random.getstate()}

    import random

    one, two = epochs(2, 23, 5)
    case.record("23 items in batches of 5: sizes of the batches", [len(batch) for batch in one])
    case.record("each item at most once", len(set(flat(one))), exact=True, about="different items")
    case.record("items are of the dataset", set(flat(one)) <= set(range(23)))
    case.record("shuffled", flat(one) != sorted(flat(one)))
    neighbours = all(sorted(batch) == list(range(min(batch), min(batch) + len(batch))) for batch in one)
    case.record("what is in a batch", "neighbours of the dataset" if neighbours else "items from all over the dataset")
    case.record("shuffled anew in the second epoch", one != two)
    case.record("the same seed, the same two epochs", epochs(2, 23, 5) == [one, two])
    case.record("another seed, another order", epochs(1, 23, 5, seed=1) != [one])
    case.record("seed 0 is the default", epochs(1, 23, 5, seed=0) == [one])
    case.record("the same order though noise is drawn in between", epochs(2, 23, 5, between=lambda: (torch.rand(7), random.random())) == [one, two])
    first, second = build_dataloader(RandomDraws(23), 5, seed=0), build_dataloader(RandomDraws(23), 5, seed=1)
    both = [[batch[0].tolist() for batch in loader] for loader in (first, second, first)]
    case.record("the same order though another loader is made and used in between", both[::2] == [one, two] and both[1] == epochs(1, 23, 5, seed=1)[0])
    torch.manual_seed(case.integer(0, 1000))
    case.record("the same order though the notebook has another global seed", epochs(2, 23, 5) == [one, two])
    before = state()
    list(build_dataloader(list(range(6)), 2, seed=3))
    after = state()
    case.record("the global generators are left alone", {name: before[name] == after[name] for name in before})
    batch = next(iter(build_dataloader(ArrayImages(*drawn_glyphs(6, size=8), build_transform(8)), 4)))
    case.record("a batch of images and labels", {"images": list(batch[0].shape), "labels": list(batch[1].shape)})
    left_out = [set(range(23)) - set(flat(epoch)) for epoch in epochs(6, 23, 5)]
    case.record("it is not always the same items that are left out", len(set(map(frozenset, left_out))) > 1)

    def with_workers(seed, times):
        usual = multiprocessing.get_start_method()
        if sys.platform == "linux":  # forked workers start at once and need not pickle; elsewhere whatever is usual there
            multiprocessing.set_start_method("fork", force=True)
        try:
            loader = build_dataloader(RandomDraws(12), 3, seed=seed, workers=2)
            found = [[(numbers.tolist(), draws) for numbers, draws in loader] for _ in range(times)]
        finally:
            multiprocessing.set_start_method(usual, force=True)
        processes = loader.num_workers
        del loader
        return processes, [torch.cat([draws for _, draws in epoch]) for epoch in found], [[n for numbers, _ in epoch for n in numbers] for epoch in found]

    processes, draws, order = with_workers(4, 2)
    _, again, order_again = with_workers(4, 1)
    case.record("two workers: processes", processes)
    case.record("two workers: every item once, in the second epoch too", [sorted(epoch) == list(range(12)) for epoch in order])
    case.record("two workers, the same seed: the same order", order[:1] == order_again)
    names = ("torch", "numpy", "random")
    case.record("two workers, the same seed: the same random draws", {name: bool((draws[0][:, i] == again[0][:, i]).all()) for i, name in enumerate(names)})
    case.record("two workers: no draw twice", {name: torch.cat([draws[0][:, i], draws[1][:, i]]).unique().numel() for i, name in enumerate(names)}, about="different draws of 24,")
    ### BEGIN HIDDEN TESTS
    case.record("24 items in batches of 6: nothing to drop", [sorted(flat(epoch)) == list(range(24)) for epoch in epochs(2, 24, 6, seed=9)])
    case.record("batches of one", [len(batch) for batch in epochs(1, 3, 1)[0]])
    case.record("one batch", [len(batch) for batch in epochs(1, 11, 8, seed=5)[0]])
    case.record("three epochs, three orders", len({str(epoch) for epoch in epochs(3, 31, 4, seed=2)}), exact=True)
    case.record("large seeds differ too", epochs(1, 30, 10, seed=10**6) != epochs(1, 30, 10, seed=10**6 + 1))
    loader = build_dataloader(RandomDraws(20), 4, seed=6)
    case.record("its length", len(loader))
    half = [numbers.tolist() for (numbers, _), _ in zip(loader, range(2))]
    case.record("an epoch broken off half-way", flat(half) == flat(epochs(1, 20, 4, seed=6)[0])[:8] and len(set(flat([b[0].tolist() for b in loader]))) == 20)
    case.record("no worker process is left", len(multiprocessing.active_children()), at_most=0)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "build_dataloader",
    "Everything but the seed is an argument of `DataLoader` that you know. For the seed, look for the argument that takes a `torch.Generator`.",
    "PyTorch's notes on reproducibility, the paragraph on DataLoader, and `DataLoader`'s documentation of `shuffle`, `drop_last`, `num_workers` and `generator`.",
    "Make a generator, seed it, and hand it to the loader together with shuffling, dropping the last batch, and the number of workers. The loader draws each epoch's order and the workers' seeds from it.",
)
misconceptions(
    "build_dataloader",
    mistake("not shuffled", ("shuffle=True", "shuffle=False"), says="The order is that of the dataset; neighbours are often alike. Shuffle."),
    mistake("the last batch kept", ("drop_last=True", "drop_last=False"), says="The last, partial batch is kept; batch-norm's statistics of a few images are poor, and of one image useless. Drop it."),
    mistake("not seeded", ("        generator=torch.Generator().manual_seed(seed),  # decides the order, and seeds the workers\n", ""), says="The order depends on the global random state: the same seed does not give the same order. Give the loader a seeded generator."),
    mistake(
        "the global generator",
        ("    return DataLoader", "    torch.manual_seed(seed)\n    return DataLoader"),
        ("        generator=torch.Generator().manual_seed(seed),  # decides the order, and seeds the workers\n", ""),
        says="`torch.manual_seed` seeds the global generator, from which the noise of every step draws too: one more draw, and the order is another. And the caller's random state is lost. Give the loader a generator of its own.",
    ),
    mistake("one generator for all loaders", ("torch.Generator().manual_seed(seed)", 'vars(build_dataloader).setdefault("generator", torch.Generator()).manual_seed(seed)'), says="All loaders share one generator, seeded anew for each: a second loader changes the order of the first. Make a generator for each."),
    mistake("the seed ignored", ("manual_seed(seed)", "manual_seed(0)"), says="The order is the same for every seed: the generator has to be given the seed that was asked for."),
    mistake("a chance generator", ("torch.Generator().manual_seed(seed)", "(lambda g: (g.seed(), g)[1])(torch.Generator())"), says="The generator's seed is drawn from the system: the order cannot be repeated."),
    mistake(
        "one order for ever",
        ("        shuffle=True,\n", "        sampler=torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed)).tolist(),\n"),
        says="One random order is drawn when the loader is made and used in every epoch, and it is always the same images that are dropped at the end. Each epoch needs a new order.",
    ),
    mistake(
        "drawn with repetition",
        ("        shuffle=True,\n", "        sampler=torch.utils.data.RandomSampler(dataset, replacement=True, generator=torch.Generator().manual_seed(seed)),\n"),
        says="Images are drawn with repetition: in an epoch some come twice and others never.",
    ),
    mistake(
        "batches shuffled, images not",
        ("    return DataLoader", "    batches = list(torch.utils.data.BatchSampler(range(len(dataset)), batch_size, True))\n    return DataLoader"),
        ("        batch_size=batch_size,\n        shuffle=True,\n        drop_last=True,\n", "        batch_sampler=torch.utils.data.SubsetRandomSampler(batches, generator=torch.Generator().manual_seed(seed)),\n"),
        says="Whole batches are shuffled; the images in each are always the same neighbours, and the last images are never seen.",
    ),
    mistake("the batch size ignored", ("batch_size=batch_size", "batch_size=4"), says="The batch size is fixed; take the caller's."),
    mistake("no workers", ("num_workers=workers", "num_workers=0"), says="`workers` is ignored: this process does all the work."),
    mistake("one worker more", ("num_workers=workers", "num_workers=workers + (workers > 0)"), says="There is one worker process more than asked for."),
    mistake(
        "all workers seeded alike",
        ("        num_workers=workers,\n", "        num_workers=workers,\n        worker_init_fn=lambda worker: (torch.manual_seed(seed), np.random.seed(seed), __import__('random').seed(seed)),\n"),
        says="Every worker gets the same seed, in every epoch: their “random” draws repeat each other. PyTorch already gives each worker a seed of its own.",
    ),
    mistake(
        "numpy seeded alike",
        ("        num_workers=workers,\n", "        num_workers=workers,\n        worker_init_fn=lambda worker: np.random.seed(seed),\n"),
        says="numpy has the same seed in every worker and every epoch: its draws repeat. PyTorch already seeds numpy, differently in each.",
    ),
    mistake(
        "the same draws every epoch",
        ("        num_workers=workers,\n", "        num_workers=workers,\n        worker_init_fn=lambda worker: (torch.manual_seed(seed + worker), np.random.seed(seed + worker), __import__('random').seed(seed + worker)),\n"),
        says="Each worker has a seed of its own, but the same one in every epoch, so every epoch repeats the first one's draws.",
    ),
    mistake(
        "workers not seeded",
        ("        shuffle=True,\n", "        sampler=torch.utils.data.RandomSampler(dataset, generator=torch.Generator().manual_seed(seed)),\n"),
        ("        generator=torch.Generator().manual_seed(seed),  # decides the order, and seeds the workers\n", ""),
        says="The order follows the seed, but the workers' seeds are drawn from the global generator: what a dataset draws in a worker is not repeated. Give the loader itself the generator as well.",
    ),
    mistake(
        "torch seeded alike",
        ("        num_workers=workers,\n", "        num_workers=workers,\n        worker_init_fn=lambda worker: torch.manual_seed(seed),\n"),
        says="torch has the same seed in every worker and every epoch: its draws repeat. PyTorch already seeds it, differently in each.",
    ),
    mistake(
        "the last images never",
        ("        dataset,\n", "        torch.utils.data.Subset(dataset, range(len(dataset) // batch_size * batch_size)),\n"),
        says="The dataset is cut to a multiple of the batch size, so its last images are never seen. Drop the last batch of each epoch's order instead: then it is other images each time.",
    ),
    mistake("a new seed for Python only", ("    return DataLoader", "    __import__('random').seed(seed)\n    return DataLoader"), says="Python's global generator is seeded: the caller's random state is lost. Only the loader's own generator may be seeded."),
    mistake("numpy's global seed", ("    return DataLoader", "    np.random.seed(seed)\n    return DataLoader"), says="numpy's global generator is seeded: the caller's random state is lost. Only the loader's own generator may be seeded."),
    mistake("a list of batches", ("    return DataLoader(", "    return list(DataLoader("), ("seeds the workers\n    )", "seeds the workers\n    ))"), says="A list of batches is returned: every epoch has the same order, and all images are in memory at once. Return the loader."),
)


# %% tags=["alternative"]
@alternative("a sampler of its own")
def build_dataloader(dataset, batch_size, seed=0, workers=0):
    generator = torch.Generator()
    generator.manual_seed(seed)
    sampler = torch.utils.data.RandomSampler(dataset, generator=generator)
    return DataLoader(dataset, batch_size, sampler=sampler, drop_last=True, num_workers=workers, generator=generator)


# %% tags=["alternative"]
@alternative("the recipe of PyTorch's notes on reproducibility")
def build_dataloader(dataset, batch_size, seed=0, workers=0):
    import random

    def seed_worker(worker_id):
        worker_seed = torch.initial_seed() % 2**32
        np.random.seed(worker_seed)
        random.seed(worker_seed)

    g = torch.Generator()
    g.manual_seed(seed)
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=workers, worker_init_fn=seed_worker, generator=g, drop_last=True)


# %% tags=["alternative"]
@alternative("a batch sampler, workers that stay")
def build_dataloader(dataset, batch_size, seed=0, workers=0):
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.utils.data.RandomSampler(dataset, generator=generator)
    batches = torch.utils.data.BatchSampler(order, batch_size, drop_last=True)
    return DataLoader(dataset, batch_sampler=batches, num_workers=workers, generator=generator, persistent_workers=workers > 0)


# %% tags=["alternative"]
@alternative("orders from numpy")
def build_dataloader(dataset, batch_size, seed=0, workers=0):
    class Orders(torch.utils.data.Sampler):
        def __init__(self):
            self.random = np.random.RandomState(seed)

        def __iter__(self):
            return iter(self.random.permutation(len(dataset)).tolist())

        def __len__(self):
            return len(dataset)

    generator = torch.Generator().manual_seed(seed)
    return DataLoader(dataset, batch_size=batch_size, sampler=Orders(), drop_last=True, num_workers=workers, generator=generator)


# %% [markdown]
# ### Try it: how fast do the images come?
#
# A GPU waits for its images if they come too slowly. The table reads 64 × 64 glyphs through `build_transform`; on another machine the numbers will be other ones. A worker costs a process and some
# memory, and its start; it pays where preparing an image takes long (large JPEGs), not where it takes a tenth of a millisecond. Take as many as make the loader faster than the network, and no more than there are cores.

# %% tags=["picture"]
dataset = ArrayImages(glyphs, glyph_labels, build_transform())
rates = {}
for workers in (0, 1, 2):
    loader = build_dataloader(dataset, batch_size=50, seed=SEED, workers=workers)
    started = time.perf_counter()
    count = sum(len(images) for images, _ in loader)
    rates[workers] = count / (time.perf_counter() - started)
    print(f"{workers} workers: {rates[workers]:6,.0f} images a second, {rates[workers] * 3 * 64 * 64 * 4 / 2**20:5.1f} MiB/s of tensors, start included")
del loader
print("worker processes left over:", len(multiprocessing.active_children()))

# %% [markdown]
# **What to see.** With workers, the first batch has to wait until the processes have started; on a thousand small images that may eat up what they gain. In the last line: once an epoch is over, its workers are gone.

# %% [markdown]
# ## Exercise 6 · `batch_problems`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# The roadmap's last task of this week: *ensure that batches are loading correctly*. A GAN does not crash on wrong data. It trains for an hour and draws mud. So look first, and let a function look that does not
# get tired:
#
# | name | when |
# | --- | --- |
# | `"dtype"` | the batch is not float32 |
# | `"shape"` | the shape is not (B, channels, image_size, image_size) for some B |
# | `"not finite"` | there is a NaN or an infinity |
# | `"out of range"` | there is a value below −1 or above 1 |
# | `"never negative"` | there is no value below 0: probably $[0, 1]$, or bytes |
# | `"all alike"` | there are two images or more, and all are equal |

# %% tags=["export"]
def batch_problems(images: Tensor, image_size: int = 64, channels: int = 3) -> set[str]:
    """What is wrong with a batch of training images.

    Args:
        images: a batch as a loader gives it, any shape and dtype; its first axis is the batch.
        image_size, channels: what the images should be.

    Returns: the names, out of the table above, of everything that is wrong; the empty set if
        nothing is. Each line of the table is judged by itself, whatever the others say: a NaN is
        neither out of range nor below 0, an infinity is out of range. The batch is not changed.
    """
    ### BEGIN SOLUTION
    rules = {
        "dtype": images.dtype != torch.float32,
        "shape": tuple(images.shape[1:]) != (channels, image_size, image_size),
        "not finite": not torch.isfinite(images).all(),
        "out of range": (images < -1).any() or (images > 1).any(),
        "never negative": not (images < 0).any(),
        "all alike": len(images) > 1 and (images == images[:1]).all(),
    }
    return {name for name, broken in rules.items() if broken}
    ### END SOLUTION


# %%
@check("batch_problems", points=3)
def _(case):
    def problems(name, images, **options):
        def run(images):
            found = batch_problems(images, **options)
            if not isinstance(found, (set, frozenset)):
                return "None, no set" if found is None else f"a {type(found).__name__}, no set"
            return ", ".join(sorted(found)) or "nothing"

        return case.call(name, run, images)

    def good(*shape):  # a batch of which nothing is wrong
        x = case.uniform(*shape, low=-1.0, high=1.0)
        x.view(-1)[0] = -0.5
        return x

    small = {"image_size": 2, "channels": 1}
    problems("two good images of 2 × 2 pixels, one channel", good(2, 1, 2, 2), **small)
    problems("a good batch at the defaults", good(3, 3, 64, 64))
    problems("values in [0, 1]", case.uniform(2, 1, 2, 2), **small)
    problems("values in [0, 255]", case.uniform(2, 1, 2, 2, low=2.0, high=255.0), **small)
    problems("values in [−2, 2]", torch.tensor([[[[-2.0, 0.5], [1.0, 2.0]]], [[[-1.0, 0.1], [0.3, 1.5]]]], device=case.device), **small)
    problems("bytes", case.integers(2, 256, 2, 1, 2, 2).to(torch.uint8), **small)
    problems("float64", good(2, 1, 2, 2).double(), **small)
    problems("half precision", good(2, 1, 2, 2).half(), **small)
    problems("channels last", good(2, 4, 4, 3), image_size=4, channels=3)
    problems("one channel instead of three", good(2, 1, 4, 4), image_size=4)
    problems("too large", good(2, 3, 5, 5), image_size=4)
    problems("not square", good(2, 3, 4, 5), image_size=4)
    problems("one image without a batch axis", good(3, 4, 4), image_size=4)
    problems("an axis too many at the end", good(2, 3, 4, 4, 1), image_size=4)
    x = good(2, 1, 2, 2)
    x[1, 0, 1, 1] = float("nan")
    problems("one NaN", x, **small)
    x = x.clone()
    x[0, 0, 1, 0] = 2.0
    problems("one NaN, and a value above 1", x, **small)
    x = good(3, 1, 2, 2)
    x[2, 0, 0, 1] = float("inf")
    problems("one infinity", x, **small)
    problems("three times the same image", good(1, 1, 2, 2).expand(3, 1, 2, 2).clone(), **small)
    problems("one image alone", good(1, 1, 2, 2), **small)
    x = good(1, 1, 2, 2).repeat(3, 1, 1, 1)
    x[1] *= -1
    problems("the first and the last image are the same, the second is not", x, **small)
    x[2], x[1] = x[1].clone(), x[0]
    problems("the first two images are the same, the third is not", x, **small)
    problems("only one value too low", torch.tensor([[[[-1.01, 0.0], [0.2, 0.9]]]], device=case.device), **small)
    problems("zeros and more", torch.tensor([[[[0.0, 0.5], [0.2, 0.9]]]], device=case.device), **small)
    problems("−1 and 1 themselves", torch.tensor([[[[-1.0, 1.0], [1.0, -1.0]]], [[[1.0, 1.0], [1.0, -1.0]]]], device=case.device), **small)
    ### BEGIN HIDDEN TESTS
    x = good(4, 1, 2, 2)
    x[1:] = x[1]
    x[0] = -x[1]
    problems("all but the first are alike", x, **small)
    x = good(1, 1, 2, 2).repeat(4, 1, 1, 1)
    x[3, 0, 1, 1] += 0.25 if x[3, 0, 1, 1] < 0.5 else -0.25
    problems("one pixel of the last image differs", x, **small)
    x = torch.tensor([[[[-0.5, 0.25], [0.75, 0.5]]]], device=case.device)
    problems("the same pixels in another order", torch.cat([x, x.flip(-1)]), **small)
    x = x.repeat(2, 1, 1, 1)
    x[1, 0, 0, 1] += 2 / 255
    problems("one pixel is one byte's step brighter", x, **small)
    problems("zeros", torch.zeros(3, 1, 2, 2, device=case.device), **small)
    problems("−1 everywhere, two images", -torch.ones(2, 1, 2, 2, device=case.device), **small)
    problems("a little too high", torch.tensor([[[[-0.2, 0.0], [1.0005, 0.9]]]], device=case.device), **small)
    problems("a little too low", torch.tensor([[[[-0.2, 0.0], [-1.0005, 0.9]]]], device=case.device), **small)
    problems("the only value below 0 is byte 127's", torch.tensor([[[[-1 / 255, 0.5], [0.2, 0.9]]]], device=case.device), **small)
    problems("only one value too high", torch.tensor([[[[-0.2, 0.0], [1.01, 0.9]]]], device=case.device), **small)
    x = good(2, 1, 2, 2)
    x[0, 0, 1, 1] = -float("inf")
    problems("minus infinity", x, **small)
    problems("nothing but NaN, float64, too small", torch.full((2, 3, 4, 4), float("nan"), dtype=torch.float64, device=case.device))
    problems("everything at once", case.integers(2, 256, 1, 4, 4, 3).to(torch.uint8).expand(2, 4, 4, 3))
    problems("wider than high", good(2, 3, 3, 4), image_size=4)
    problems("five axes", good(1, 2, 3, 4, 4), image_size=4)
    problems("bfloat16 in [0, 1]", case.uniform(2, 3, 4, 4).bfloat16(), image_size=4)
    problems("a large good batch", good(5, 1, 8, 8), image_size=8, channels=1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "batch_problems",
    "One line of the table is one question with the answer yes or no. Write six of them, then collect the names.",
    "The table above the exercise. Mind “for some B”, “two images or more”, and what a comparison with NaN gives.",
    "Compare the dtype; compare the shape from the second axis on; look for anything that is not finite; for any value below −1 or above 1; for the absence of values below 0; "
    "for equality of every image with the first, if there is more than one.",
)
misconceptions(
    "batch_problems",
    mistake("any float", ("images.dtype != torch.float32", "not images.is_floating_point()"), says="float64 and half precision pass as floating-point; the networks are float32."),
    mistake(
        "only the size",
        ("tuple(images.shape[1:]) != (channels, image_size, image_size)", "tuple(images.shape[-2:]) != (image_size, image_size)"),
        says="Only height and width are compared; the channels and the number of axes count as well.",
    ),
    mistake(
        "only the height",
        ("tuple(images.shape[1:]) != (channels, image_size, image_size)", "tuple(images.shape[1:3]) != (channels, image_size)"),
        says="The width is not compared (nor what comes after it).",
    ),
    mistake(
        "channels last expected",
        ("(channels, image_size, image_size)", "(image_size, image_size, channels)"),
        says="The shape is expected as (B, height, width, channels), as in matplotlib; PyTorch has the channels first.",
    ),
    mistake(
        "the number of pixels",
        ("tuple(images.shape[1:]) != (channels, image_size, image_size)", "images[0].numel() != channels * image_size**2"),
        says="Only the number of values is compared, so channels last passes.",
    ),
    mistake("the first four axes", ("tuple(images.shape[1:])", "tuple(images.shape[1:4])"), says="Only four axes are compared, so a batch with a fifth passes."),
    mistake("the defaults", ("(channels, image_size, image_size)", "(3, 64, 64)"), says="The shape is compared with the defaults, whatever the caller asks for."),
    mistake("only NaN", ("not torch.isfinite(images).all()", "torch.isnan(images).any()"), says="Infinities pass; anything that is not finite is wrong."),
    mistake("only if all are", ("not torch.isfinite(images).all()", "not torch.isfinite(images).any()"), says="It is reported only when no value is finite; a single one is enough."),
    mistake("minimum and maximum", ("(images < -1).any() or (images > 1).any()", "images.min() < -1 or images.max() > 1"), says="With a NaN in the batch, minimum and maximum are NaN as well, and a value out of range goes unnoticed."),
    mistake("only above", ("(images < -1).any() or (images > 1).any()", "(images > 1).any()"), says="Values below −1 pass."),
    mistake("only below", ("(images < -1).any() or (images > 1).any()", "(images < -1).any()"), says="Values above 1 pass."),
    mistake(
        "[0, 1] expected",
        ("(images < -1).any()", "(images < 0).any()"),
        says="Negative values are taken to be out of range; the range is [−1, 1].",
    ),
    mistake("the ends excluded", ("(images < -1).any() or (images > 1).any()", "(images <= -1).any() or (images >= 1).any()"), says="−1 and 1 themselves are taken to be out of range; black and white are exactly that."),
    mistake(
        "NaN out of range",
        ("(images < -1).any() or (images > 1).any()", "not ((images >= -1) & (images <= 1)).all()"),
        says="A NaN counts as out of range: “not within” is not the same as “beyond” for it.",
    ),
    mistake(
        "the range of finite values",
        ("(images < -1).any() or (images > 1).any()", "(images[torch.isfinite(images)].abs() > 1).any()"),
        says="An infinity is not counted as out of range; it is above 1.",
    ),
    mistake("the mean", ("not (images < 0).any()", "images.double().mean() >= 0"), says="It looks at the mean: a good batch of bright images is reported. No value at all below 0 is the sign."),
    mistake("zeros are negative", ("not (images < 0).any()", "not (images <= 0).any()"), says="A 0 is taken for a negative value, so an image in [0, 1] with a black pixel passes."),
    mistake("one image is alike", ("len(images) > 1 and ", ""), says="A batch of one is reported as all alike; it takes two."),
    mistake("the first two", ("(images == images[:1]).all()", "(images[1:2] == images[:1]).all()"), says="Only the first two images are compared."),
    mistake("first and last", ("(images == images[:1]).all()", "(images[-1:] == images[:1]).all()"), says="Only the first and the last image are compared."),
    mistake("any pixel", ("(images == images[:1]).all()", "(images[1:] == images[:1]).any()"), says="One equal pixel is enough for it to call the images alike; all have to be."),
    mistake("constant images", ("len(images) > 1 and (images == images[:1]).all()", "(images == images.flatten()[0]).all()"), says="It looks for one value everywhere; equal images need not be of one colour."),
    mistake("only the first problem", ("return {name for name, broken in rules.items() if broken}", "return set([name for name, broken in rules.items() if broken][:1])"), says="It stops at the first problem; all of them are wanted."),
    mistake("a list", ("return {name for name, broken in rules.items() if broken}", "return [name for name, broken in rules.items() if broken]"), says="The result is a list; a set is wanted."),
    mistake("what is right", ("if broken}", "if not broken}"), says="It names what is right, not what is wrong."),
    mistake(
        "clamped first",
        ("    rules = {", "    images.clamp_(-1, 1)\n    rules = {"),
        says="The batch is changed in place, and what was out of range is not reported.",
    ),
    mistake("a sentence", ("return {name for name, broken in rules.items() if broken}", 'return {f"problem: {name}" for name, broken in rules.items() if broken}'), says="The names are not those of the table."),
)


# %% tags=["alternative"]
@alternative("a set that grows")
def batch_problems(images, image_size=64, channels=3):
    found = set()
    if images.dtype is not torch.float32:
        found.add("dtype")
    if images.dim() != 4 or images.shape[1] != channels or images.shape[2] != image_size or images.shape[3] != image_size:
        found.add("shape")
    values = images.detach().double()
    if values.isnan().any() or values.isinf().any():
        found.add("not finite")
    if (values.abs() > 1).any():
        found.add("out of range")
    if (values < 0).sum() == 0:
        found.add("never negative")
    if images.shape[0] >= 2 and all(torch.equal(image, images[0]) for image in images[1:]):
        found.add("all alike")
    return found


# %% tags=["alternative"]
@alternative("numpy")
def batch_problems(images, image_size=64, channels=3):
    x = images.double().numpy()
    names = np.array(["dtype", "shape", "not finite", "out of range", "never negative", "all alike"])
    wrong = [
        images.dtype != torch.float32,
        x.shape[1:] != (channels, image_size, image_size),
        not np.isfinite(x).all(),
        bool((np.abs(x) > 1).any()),
        not (x < 0).any(),
        x.shape[0] > 1 and len({image.tobytes() for image in x}) == 1 and not np.isnan(x).any(),
    ]
    return set(names[np.array(wrong, dtype=bool)].tolist())


# %% tags=["alternative"]
@alternative("minimum and maximum without NaN")
def batch_problems(images, image_size=64, channels=3):
    numbers = images[images == images].double()
    low, high = (numbers.min().item(), numbers.max().item()) if len(numbers) else (0.0, 0.0)
    checks = [("dtype", images.dtype == torch.float32)]
    checks.append(("shape", images.shape == (len(images), channels, image_size, image_size)))
    checks.append(("not finite", len(numbers) == images.numel() and abs(low) != float("inf") and abs(high) != float("inf")))
    checks.append(("out of range", -1 <= low and high <= 1))
    checks.append(("never negative", low < 0))
    checks.append(("all alike", len(images) == 1 or bool((images[1:] != images[:-1]).any())))
    return {name for name, fine in checks if not fine}


# %% tags=["alternative"]
@alternative("rules as functions")
def batch_problems(images, image_size=64, channels=3):
    expected = torch.Size([channels, image_size, image_size])
    rules = dict(zip(
        ["dtype", "shape", "not finite", "out of range", "never negative", "all alike"],
        [
            lambda x: x.dtype not in (torch.float32,),
            lambda x: x.shape[1:] != expected,
            lambda x: bool(torch.logical_not(torch.isfinite(x)).any()),
            lambda x: bool(torch.logical_or(x.float() > 1, x.float() < -1).any()),
            lambda x: bool((x.float() >= 0).logical_or(x.isnan()).all()),
            lambda x: x.size(0) != 1 and (x - x[0]).float().abs().sum().item() == 0,
        ],
    ))  # fmt: skip
    return set(filter(lambda name: rules[name](images), rules))


# %% [markdown]
# ### Look at a batch
#
# The embedded sets, and the real ones where they are. The line under each picture is what `batch_problems` says.

# %% tags=["picture"]
folder = data_folder(DATA_DIR)
if folder is None and PROFILE == "full":
    folder = Path("data/downloads")
    folder.mkdir(parents=True, exist_ok=True)
loaders = {
    "drawn glyphs": (ArrayImages(glyphs, glyph_labels, build_transform()), 3),
    "digits": (ArrayImages(*handwritten_digits(), build_transform(channels=1)), 1),
}
for name, channels in (("mnist", 1), ("fashion_mnist", 1), ("cifar10", 3), ("celeba", 3)):
    if folder is not None:
        try:
            fetch = PROFILE == "full" and name == "cifar10"
            loaders[name] = real_images(name, folder, transform=build_transform(channels=channels), download=fetch), channels
        except DatasetUnavailable as error:
            print(error)
if folder is None:
    print("No DATA_DIR: the embedded sets only.")

figure, axes = plt.subplots(1, len(loaders), figsize=(2.9 * len(loaders), 3.1), layout="constrained")
for axis, (name, (dataset, channels)) in zip(axes, loaders.items()):
    loader = build_dataloader(dataset, batch_size=16, seed=SEED)
    images, _ = next(iter(loader))
    grid = denormalise(images).unflatten(0, (4, 4)).permute(0, 3, 1, 4, 2).reshape(256, 256, channels)
    axis.imshow(grid.expand(-1, -1, 3))
    axis.set_title(f"{name}: {len(dataset):,} images", fontsize=10)
    axis.set_xlabel(f"problems: {', '.join(sorted(batch_problems(images, channels=channels))) or 'none'}", fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    started = time.perf_counter()
    count = sum(len(images) for (images, _), _ in zip(loader, range(60)))
    rate = count / (time.perf_counter() - started)
    print(f"{name:14} {len(dataset):>7,} images, {rate:6,.0f} a second without workers: {len(dataset) / rate:5.1f} s an epoch")
plt.show()

# %% [markdown]
# **What to see.** Upright, undistorted, in their own colours, with black that is black: if anything here looks odd, the generator will learn to draw it oddly. The digits were 8 × 8; enlarged to 64 × 64 they are
# blurred, and a DCGAN trained on them draws blur, faithfully.

# %% [markdown] written="range_and_tanh" points=2
# ## Question 1 · the range
#
# *2 points, graded by a person*
#
# Someone leaves the normalisation out, so the real images are in $[0, 1]$, and keeps the tanh in the generator. (a) How can the discriminator tell real from generated in the first minutes, without looking at shapes? (b) Training goes on
# for a long time. What will the generator's outputs, shown with `denormalise`, look like, and why?
#
# ### BEGIN SOLUTION
# (a) A freshly initialised generator makes values around 0, about half of them negative. Real images have none: the sign of a few pixels (or their mean) is enough, a feature that a single convolution computes. D wins
# easily, and its gradient says little about content.
#
# (b) The generator learns the distribution that it is shown: values in $[0, 1]$, using the upper half of its tanh. `denormalise` maps $[0, 1]$ to $[½, 1]$: the pictures are pale and without black. (Dark areas are at 0, where
# the tanh is steepest, and no longer at its saturated end, so flat black is harder to hit.)
#
# **Rubric.** 1 point: negative values, or the mean, as the give-away. 1 point: pale pictures *because* the values stay in $[0, 1]$ and are shown as $[½, 1]$; "wrong colours" without the mechanism is ½.
# ### END SOLUTION

# %% [markdown] written="your_own_folder" points=3
# ## Question 2 · a dataset of your own
#
# *3 points, graded by a person*
#
# You want to train on 3,000 pictures of your own choice (say which). (a) Name two properties that you would check *before* training, besides what `batch_problems` looks at, and what you would do about them. (b) A centre crop
# loses the sides. Give an example of pictures for which that ruins the dataset, and a remedy. (c) Who might object to the use of these pictures, and how do you find out whether you may?
#
# ### BEGIN SOLUTION
# (a) For instance: near-duplicates (several photos of one scene make memorising easy; compare small versions and keep one of each); very small originals (enlarged, they teach blur; set a minimum size); borders, captions, watermarks (they are what all
# images share, so they are learned first; cut or drop); photos lying on their side (EXIF orientation; `ImageOps.exif_transpose`); a mixture of drawings and photos; too few images for so varied a subject.
#
# (b) Subjects at the edge or longer than the short side: full-length portraits, skylines, lines of text, trains. Remedies: crop by hand or by a detector around the subject (the paper does so for faces, section 4.2), choose only
# pictures of suitable shape, or take several crops of each.
#
# (c) Whoever is in them (privacy; faces above all, CelebA included) and whoever made them (copyright, the site's terms). Look for the licence of each source, prefer sets made for the purpose, ask the people; and do not publish a model that has memorised what
# you could not publish itself.
#
# **Rubric.** 1 point each. (a) needs two properties *with* what to do; one is ½. (b) needs the example and a remedy. (c) needs at least one of the two parties and a way to find out.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Real images go to the range of the generator's tanh: black −1, white 1. Short side to 64, centre cut out, nothing squashed.
# - Broken files are found before training and named; whether to stop or to go on is a choice, silence is not.
# - A loader with a generator of its own gives the same order for the same seed, whatever else draws random numbers.
# - Look at a batch before you train on it.
#
# **Next**: `generator_and_discriminator`, the two networks that these batches are for. What you built here is there already: `from papers.dcgan.data import build_transform, build_dataloader, denormalise`.

# %% tags=["picture"]
score()
