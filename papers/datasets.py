"""The data of the notebooks: made on the spot for the quick profile, real for the full one. Holds no exercise and trains nothing.

Real data are looked for in a folder, in this order: the notebook's parameter `DATA_DIR`; the environment variable `PAPER_TO_PYTORCH_DATA`. Where
neither names a folder that holds a data set, its loader fetches it (and says so in its docstring).
"""

from __future__ import annotations

import gzip
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

DATA_VARIABLE = "PAPER_TO_PYTORCH_DATA"
"""Environment variable that names the folder with real data; a notebook's parameter DATA_DIR comes before it."""


def data_folder(data_dir: str | Path = "") -> Path | None:
    """The folder with real data: `data_dir`, else the environment variable PAPER_TO_PYTORCH_DATA, else None. FileNotFoundError if it is no folder."""
    named = str(data_dir) or os.environ.get(DATA_VARIABLE, "")
    if not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {folder}: DATA_DIR or the environment variable {DATA_VARIABLE} has to name one that exists, or nothing"
        )
    return folder


# -- text: sequences to copy, numbers in two languages, Multi30k -------------------------------------------------------------------

PAD_ID, BOS_ID, EOS_ID, UNK_ID = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Every vocabulary of ours begins with these four: padding, beginning and end of a sentence, a token that is not in the vocabulary."""

NUMBER_PIECES = [
    "null", "eins", "ein", "zwan", "zwei", "drei", "vier", "fünf", "sechs", "sech", "sieben",
    "sieb", "acht", "neun", "zehn", "elf", "zwölf", "zig", "ßig", "und", "hundert", "tausend",
]  # fmt: skip
"""What German number words below 10,000 are made of. Where two of them fit, the longer is taken."""


class Vocabulary:
    """Tokens and their numbers; the four special tokens come first.

    Args:
        tokens: the tokens besides the special ones, in the order of their numbers.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = [*SPECIAL_TOKENS, *tokens]
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            raise ValueError("a token occurs twice in the vocabulary")

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], at_least: int = 1) -> Vocabulary:
        """The tokens that occur at least so many times in the sentences, the most frequent first, ties in alphabetical order."""
        counts = Counter(token for sentence in sentences for token in sentence)
        return cls(
            token for token, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= at_least
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, sentence: Sequence[str], bos: bool = False, eos: bool = False) -> list[int]:
        """Numbers of the tokens, <unk> for those it does not know, with <bos> in front and <eos> behind if asked for."""
        return [BOS_ID] * bos + [self._ids.get(token, UNK_ID) for token in sentence] + [EOS_ID] * eos

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Tokens of the numbers up to the first <eos>, without <bos> and <pad>."""
        tokens = []
        for number in map(int, numbers):
            if number == EOS_ID:
                break
            if number not in (PAD_ID, BOS_ID):
                tokens.append(self.tokens[number])
        return tokens


def pad_sentences(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Lists of numbers as one tensor (B, longest), int64, filled up with PAD_ID on the right."""
    longest = max(map(len, sentences))
    return torch.tensor([[*sentence, *[PAD_ID] * (longest - len(sentence))] for sentence in sentences])


@dataclass(frozen=True)
class ParallelText:
    """Sentence pairs, as text, as tokens and as numbers.

    source, target: the sentences as written. source_tokens, target_tokens: split. source_vocabulary, target_vocabulary: may be one and the same.
    join: makes a target sentence as written from its tokens.
    """

    source: list[str]
    target: list[str]
    source_tokens: list[list[str]]
    target_tokens: list[list[str]]
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    join: Callable[[Sequence[str]], str]

    def __len__(self) -> int:
        return len(self.source)

    def texts(self, numbers: Tensor) -> list[str]:
        """Target sentences as written, from token numbers (B, T): up to the first <eos>, without <bos> and <pad>."""
        return [self.join(self.target_vocabulary.decode(row)) for row in numbers.tolist()]

    def batch(self, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """(src (B, S), target (B, T)) of some pairs, padded; sources end with <eos>, targets begin with <bos> and end with <eos>."""
        chosen = list(indices)
        src = [self.source_vocabulary.encode(self.source_tokens[i], eos=True) for i in chosen]
        tgt = [self.target_vocabulary.encode(self.target_tokens[i], bos=True, eos=True) for i in chosen]
        return pad_sentences(src), pad_sentences(tgt)

    def batches(
        self, batch_size: int, seed: int | None = None, similar: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All pairs once, in batches of at most so many.

        Args:
            seed: shuffles; the same seed gives the same order. None: in the order of the text.
            similar: pairs of similar length stand in one batch (section 5.1), so that there is less padding; the batches come in random order.
        """
        order = list(range(len(self)))
        shuffle = random.Random(seed)
        if seed is not None:
            shuffle.shuffle(order)
        if similar:
            order.sort(
                key=lambda i: (len(self.source_tokens[i]), len(self.target_tokens[i]))
            )  # stable: equal lengths stay shuffled
        groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        if similar and seed is not None:
            shuffle.shuffle(groups)
        for group in groups:
            yield self.batch(group)


def copy_batches(
    count: int, batch_size: int = 64, symbols: int = 8, longest: int = 8, seed: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """The copy task: random sequences whose target is the sequence itself.

    Args:
        count: how many batches. symbols: how many different symbols; their numbers follow the special tokens. longest: sequences have 1 … longest symbols.
        seed: the same seed gives the same batches on every machine.

    Yields: (src (B, S), target (B, T)), sources ending with <eos>, targets with <bos> in front and <eos> behind; padded on the right.
    """
    draw = random.Random(seed)
    for _ in range(count):
        rows = [
            [
                draw.randrange(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + symbols)
                for _ in range(draw.randint(1, longest))
            ]
            for _ in range(batch_size)
        ]
        yield pad_sentences([[*row, EOS_ID] for row in rows]), pad_sentences([[BOS_ID, *row, EOS_ID] for row in rows])


def english_tokens(number_words: str) -> list[str]:
    """English number words, split at blanks and hyphens, commas left out: "one hundred and twenty-one" has five tokens."""
    return number_words.replace(",", "").replace("-", " ").split()


def german_tokens(number_word: str) -> list[str]:
    """A German number word below 10,000 as its pieces: "einundzwanzig" is ein·und·zwan·zig. ValueError where something is left over."""
    pieces = re.findall("|".join(sorted(NUMBER_PIECES, key=len, reverse=True)), number_word)
    if "".join(pieces) != number_word:
        raise ValueError(f"{number_word!r} is not made of the pieces of German number words below 10,000")
    return pieces


def numbers_in_words(held_out: int = 1000, below: int = 10_000, seed: int = 0) -> tuple[ParallelText, ParallelText]:
    """Numbers 0 … below − 1 in English and German words (num2words), English as words and German as pieces of words.

    Args:
        held_out: how many numbers, chosen by `seed`, are kept for testing. below: at most 10,000.

    Returns: (training, held out). No number is in both. Both share the vocabularies, which are made from the training part.
    """
    from num2words import num2words  # only who translates numbers needs it

    numbers = list(range(below))
    random.Random(seed).shuffle(numbers)
    english = [num2words(n) for n in numbers]
    german = [num2words(n, lang="de") for n in numbers]
    words, pieces = [english_tokens(text) for text in english], [german_tokens(text) for text in german]
    vocabularies = Vocabulary.of(words[held_out:]), Vocabulary.of(pieces[held_out:])
    train, test = (
        ParallelText(english[part], german[part], words[part], pieces[part], *vocabularies, _join_pieces)
        for part in (slice(held_out, None), slice(None, held_out))
    )
    return train, test


def _join_pieces(pieces: Sequence[str]) -> str:
    return "".join(pieces)


MULTI30K_ON_THE_HUB = "bentrevett/multi30k"


def multi30k(part: str, data_dir: str | Path = "") -> tuple[list[str], list[str]]:
    """Multi30k, task 1: image captions in English and German (Elliott et al. 2016), as written.

    Args:
        part: "train" (29,000 pairs), "val" (1,014), "test_2016_flickr" (1,000) or "test_2017_flickr" (1,000; not on the hub).
        data_dir: a folder with `multi30k/train.en.gz` and so on (names `<part>.<language>.gz`, or without `.gz`); else the
            environment variable PAPER_TO_PYTORCH_DATA names it. Neither: fetched by `datasets` from the Hugging Face hub.

    Returns: (English sentences, German sentences), line by line. FileNotFoundError if a named folder lacks a file; ValueError for another part.
    """
    if part not in ("train", "val", "test_2016_flickr", "test_2017_flickr"):
        raise ValueError(f"Multi30k has no part {part!r}: train, val, test_2016_flickr, test_2017_flickr")
    folder = data_folder(data_dir)
    if folder is not None:
        english, german = (_lines(folder / "multi30k" / f"{part}.{language}") for language in ("en", "de"))
    else:
        names = {"train": "train", "val": "validation", "test_2016_flickr": "test"}
        if part not in names:
            raise ValueError(f"{part} is not on the hub; give a folder that has it as DATA_DIR")
        from datasets import load_dataset  # only who fetches needs it

        rows = load_dataset(MULTI30K_ON_THE_HUB, split=names[part])
        english, german = list(rows["en"]), list(rows["de"])
    if len(english) != len(german):
        raise ValueError(
            f"Multi30k {part}: {len(english)} English lines, {len(german)} German ones; they have to pair up"
        )
    return english, german


def multi30k_text(
    data_dir: str | Path = "", vocabulary: int = 10_000, test: str = "test_2016_flickr"
) -> tuple[ParallelText, ParallelText, ParallelText]:
    """(training, validation, test) of Multi30k as byte-pair pieces; both languages share one vocabulary of at most so many pieces (section 5.1).

    The pieces are learned by `tokenizers` from the training part. A piece that begins a word is marked by ▁.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # only the full profile needs it

    parts = [multi30k(part, data_dir) for part in ("train", "val", test)]
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK_ID]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS), special_tokens=[SPECIAL_TOKENS[UNK_ID]], show_progress=False
    )
    tokenizer.train_from_iterator([*parts[0][0], *parts[0][1]], trainer)

    def pieces(sentences: Sequence[str]) -> list[list[str]]:
        return [encoding.tokens for encoding in tokenizer.encode_batch(list(sentences))]

    tokens = [(pieces(english), pieces(german)) for english, german in parts]
    shared = Vocabulary.of([*tokens[0][0], *tokens[0][1]])
    train, val, held_out = (
        ParallelText(english, german, english_pieces, german_pieces, shared, shared, _join_marked_pieces)
        for (english, german), (english_pieces, german_pieces) in zip(parts, tokens, strict=True)
    )
    return train, val, held_out


def _join_marked_pieces(pieces: Sequence[str]) -> str:
    return "".join(pieces).replace("▁", " ").strip()


def _lines(path: Path) -> list[str]:
    packed = path.with_name(path.name + ".gz")
    if packed.is_file():
        with gzip.open(packed, "rt", encoding="utf-8") as file:
            return file.read().rstrip("\n").split("\n")
    if path.is_file():
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    raise FileNotFoundError(
        f"neither {packed} nor {path.name} beside it is there: the folder lacks this part of Multi30k"
    )


# -- end of text -------------------------------------------------------------------------------------------------------------------


# -- images: drawn glyphs, handwritten digits, torchvision's datasets ------------------------------------------------------

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
    import matplotlib
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path as Path2D
    from matplotlib.textpath import TextPath

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
