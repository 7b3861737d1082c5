"""Embedded data and loaders that the notebooks share. It trains nothing, and fetches nothing unless asked to."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Path2D
from matplotlib.textpath import TextPath
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

# -- images: drawn glyphs, handwritten digits, torchvision's datasets ------------------------------------------------------

DATA_VARIABLE = "PAPER_TO_PYTORCH_DATA"
"""The environment variable that names a folder of datasets already downloaded, for whoever does not set a notebook's DATA_DIR."""

GLYPHS: dict[str, str] = {
    "star": "★", "heart": "♥", "diamond": "♦", "club": "♣", "spade": "♠", "disc": "●", "square": "■", "triangle": "▲",
    "crescent": "☾", "sun": "☀", "cloud": "☁", "umbrella": "☂", "telephone": "☎", "aeroplane": "✈", "knight": "♞", "queen": "♛",
    "rook": "♜", "anchor": "⚓", "note": "♫", "scissors": "✂", "flower": "✿", "snowflake": "❄", "cup": "☕", "gear": "⚙",
}  # fmt: skip
"""Names of the drawn classes, in the order of their labels, and the character of DejaVu Sans that each one is."""

REAL_IMAGES = ("mnist", "fashion_mnist", "cifar10", "svhn", "celeba")
"""Datasets that `real_images` opens."""

_FINE = 1 << 12
"""Fixed-point units a sub-pixel (and of a rotation's sine): integers alone decide which sub-pixel is inside."""


class DatasetUnavailable(RuntimeError):
    """A real dataset is neither on disk nor to be had from its host; the message says what to do."""


def data_folder(given: str | Path = "") -> Path | None:
    """The folder of datasets already downloaded: `given` (a notebook's DATA_DIR), else what PAPER_TO_PYTORCH_DATA names, else None.

    Raises: FileNotFoundError if a folder was named that does not exist.
    """
    named = str(given) or os.environ.get(DATA_VARIABLE, "")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        source = "DATA_DIR" if str(given) else f"the environment variable {DATA_VARIABLE}"
        raise FileNotFoundError(f"{source} names a folder that does not exist: {folder}")
    return folder


def drawn_glyphs(
    count: int, seed: int = 0, size: int = 64, classes: Sequence[str] | None = None, pose: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of matplotlib's own DejaVu Sans, drawn in random pose and colour: an image dataset that needs no download.

    The same arguments give the same bytes, and the first images of a larger set are the smaller set. Outlines come from the font, scaled without hinting and
    rounded to whole units; all that follows is integer arithmetic on numbers of numpy's frozen RandomState, so neither processor nor numpy's version
    matters. What could: another edition of DejaVu Sans than the 2.37 that matplotlib has shipped since 2.0.

    Args:
        count: how many images.
        seed: of the draws.
        size: pixels a side.
        classes: names out of GLYPHS to draw from; None: all of them.
        pose: how far the pose varies, from 0 (upright, centred, one size) to 1 (turned by up to 25°, moved, 55 to 85 % of the picture wide).

    Returns: images (count, size, size, 3) uint8, and labels (count,) int64: places in `classes`.
    """
    names = list(GLYPHS) if classes is None else list(classes)
    unknown = [name for name in names if name not in GLYPHS]
    if unknown or not names:
        raise ValueError(f"no glyph is named {', '.join(unknown) or 'nothing'}; there are {', '.join(GLYPHS)}")
    outlines = [_outline(GLYPHS[name]) for name in names]
    draws = np.random.RandomState(seed).randint(0, 1 << 16, size=(count, 11), dtype=np.int64)
    labels = draws[:, 0] * len(names) >> 16
    images = np.empty((count, size, size, 3), np.uint8)
    for image, draw, label in zip(images, draws, labels, strict=True):
        turn, wide, right, down = ((draw[1:5] / 32768 - 1) * pose).tolist()  # each in [-1, 1) · pose
        half = (0.35 + 0.075 * wide) * size
        free = (0.5 * size - half) * 0.7
        angle = math.radians(25 * turn)
        matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) * half
        coverage = _coverage(outlines[label], matrix, (0.5 * size + free * right, 0.5 * size + free * down), size)
        dark, bright = draw[5:8] * 106 >> 16, 150 + (draw[8:11] * 106 >> 16)
        ground, ink = (dark, bright) if draw[0] & 1 else (bright, dark)
        image[:] = (ground * (16 - coverage) + ink * coverage + 8) // 16
    return images, labels


def _outline(character: str) -> list[np.ndarray]:
    """A character's closed curves as polygons, (points, 2) int64 each, centred, the larger half-side 1,000 units, y downwards."""
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    path = TextPath((0, 0), character, size=1000, prop=FontProperties(fname=str(font)))
    curves: list[list[tuple[float, float]]] = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        if code == Path2D.MOVETO:
            curves.append([tuple(points)])
        elif code == Path2D.LINETO:
            curves[-1].append(tuple(points))
        elif code == Path2D.CURVE3:  # TrueType's quadratic curves: a control point, then the end
            (x0, y0), (x1, y1, x2, y2) = curves[-1][-1], points
            for t in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0):
                a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
                curves[-1].append((a * x0 + b * x1 + c * x2, a * y0 + b * y1 + c * y2))
    polygons = [np.array(curve) * (1, -1) for curve in curves if len(curve) > 2]
    low, high = np.min([p.min(0) for p in polygons], 0), np.max([p.max(0) for p in polygons], 0)
    return [np.rint((p - (low + high) / 2) * (2000 / (high - low).max())).astype(np.int64) for p in polygons]


def _coverage(polygons: list[np.ndarray], matrix: np.ndarray, centre: tuple[float, float], size: int) -> np.ndarray:
    """How many of a pixel's 4 × 4 sub-pixels lie inside the polygons by the non-zero winding rule, (size, size, 1) int64.

    Args:
        matrix: (2, 2), from outline units / 1,000 to pixels. centre: in pixels.
    """
    fine = 4 * size
    linear = np.rint(matrix * 4 * _FINE).astype(np.int64)
    offset = np.rint(np.array(centre) * 4 * _FINE).astype(np.int64)
    placed = [polygon @ linear.T // 1000 + offset for polygon in polygons]
    start = np.concatenate(placed)
    end = np.concatenate([np.roll(points, -1, axis=0) for points in placed])
    up = start[:, 1] < end[:, 1]
    low, high = np.where(up[:, None], start, end), np.where(up[:, None], end, start)
    # an edge crosses the middles of the rows from `first` to before `last`
    first, last = (((edge[:, 1] + _FINE // 2 - 1) // _FINE).clip(0, fine) for edge in (low, high))
    rows_each = last - first
    edge = np.repeat(np.arange(len(low)), rows_each)
    row = np.arange(len(edge)) - np.repeat(rows_each.cumsum() - rows_each, rows_each) + first[edge]
    middle = row * _FINE + _FINE // 2
    x = low[edge, 0] + (middle - low[edge, 1]) * (high - low)[edge, 0] // (high - low)[edge, 1]
    column = ((x + _FINE // 2 - 1) // _FINE).clip(0, fine)
    place = row * (fine + 1) + column
    winding = np.zeros(fine * (fine + 1), np.int8)
    np.add.at(winding, place, np.where(up[edge], 1, -1).astype(np.int8))
    inside = winding.reshape(fine, fine + 1).cumsum(1, dtype=np.int8)[:, :fine] != 0
    columns = inside.reshape(size, 4, fine).sum(1, dtype=np.uint8)
    return columns.reshape(size, size, 4).sum(2, dtype=np.int64)[..., None]


def handwritten_digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's 1,797 handwritten digits (UCI, 1998), which come with the package.

    Returns: images (1797, 8, 8) uint8 from 0 (paper) to 255 (ink), and labels (1797,) int64.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    return (digits.images.astype(np.int64) * 255 // 16).astype(np.uint8), digits.target.astype(np.int64)


class ArrayImages(Dataset):
    """Images that are in memory, as a dataset of (image, label) like torchvision's.

    Args:
        images: (N, H, W) or (N, H, W, 3) uint8.
        labels: (N,).
        transform: called with the PIL image; None gives the PIL image.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Image.Image], Any] | None = None
    ) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels")
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.images[index])
        return (image if self.transform is None else self.transform(image)), int(self.labels[index])


class RandomDraws(Dataset):
    """Tells whether workers are seeded: item i is (i, what torch, numpy and Python's random draw next), float64, nothing else."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        if not 0 <= index < self.count:
            raise IndexError(index)
        draws = [float(torch.rand((), dtype=torch.float64)), float(np.random.random_sample()), random.random()]
        return index, torch.tensor(draws, dtype=torch.float64)


def real_images(
    name: str,
    folder: str | Path | None,
    train: bool = True,
    transform: Callable[[Image.Image], Any] | None = None,
    download: bool = False,
) -> Dataset:
    """One of REAL_IMAGES through torchvision, as a dataset of (image, label).

    Args:
        folder: where it is, as torchvision lays it out (`MNIST/`, `FashionMNIST/`, `cifar-10-batches-py/`, `train_32x32.mat`, `celeba/`); or where to put it.
        train: the training part, or the test part.
        transform: called with the PIL image.
        download: fetch it if it is not there.

    Raises: DatasetUnavailable, saying what to do, if it is not there and was not, or could not be, fetched. ValueError for another name.
    """
    from torchvision import datasets

    openers = {
        "mnist": lambda root, fetch: datasets.MNIST(root, train, transform, download=fetch),
        "fashion_mnist": lambda root, fetch: datasets.FashionMNIST(root, train, transform, download=fetch),
        "cifar10": lambda root, fetch: datasets.CIFAR10(root, train, transform, download=fetch),
        "svhn": lambda root, fetch: datasets.SVHN(root, "train" if train else "test", transform, download=fetch),
        "celeba": lambda root, fetch: datasets.CelebA(
            root, "train" if train else "test", transform=transform, download=fetch
        ),
    }
    if name not in openers:
        raise ValueError(f"no dataset is named {name!r}; there are {', '.join(openers)}")
    if folder is None:
        raise DatasetUnavailable(
            f"{name}: no folder given. Set DATA_DIR, or the environment variable {DATA_VARIABLE}, to where it is or shall be."
        )
    try:
        return openers[name](str(folder), False)
    except (RuntimeError, OSError) as error:
        if not download:
            raise DatasetUnavailable(
                f"{name} is not in {folder}, or not whole ({error}). {_remedy(name, folder)}"
            ) from error
    try:
        return openers[name](str(folder), True)
    # a host may fail in any way: refused, over its quota, a page of HTML instead of the archive
    except Exception as error:
        raise DatasetUnavailable(
            f"{name} could not be fetched ({type(error).__name__}: {error}). {_remedy(name, folder)}"
        ) from error


def _remedy(name: str, folder: str | Path) -> str:
    if name == "celeba":
        images = Path(folder, "celeba", "img_align_celeba")
        return (
            "CelebA's host (Google Drive) refuses when too many have asked that day. Try tomorrow; or take img_align_celeba.zip from the project's page, "
            f"mmlab.ie.cuhk.edu.hk/projects/CelebA.html, in a browser, unpack it so that {images / '000001.jpg'} exists, and open {images} as a "
            "folder of your own images: a GAN needs no labels. Or take CIFAR-10."
        )
    return "Call with download=True where there is a network, or copy the dataset there."
