"""The data of the notebooks: made on the spot for the quick profile, real for the full one. Holds no exercise and trains nothing.

Real data are looked for in a folder, in this order: the notebook's parameter `DATA_DIR`; the environment variable `PAPER_TO_PYTORCH_DATA`. Where
neither names a folder that holds a data set, its loader fetches it (and says so in its docstring).
"""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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


# -- text: little news and chats with summaries, SciTLDR, SAMSum, CNN/DailyMail ----------------------------------------------------

_FIRST = [
    "Ada", "Ben", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Klara", "Leo", "Maria", "Noah", "Olga", "Paul",
    "Rosa", "Simon", "Tara", "Victor",
]  # fmt: skip
_LAST = [
    "Adler", "Baker", "Costa", "Dahl", "Eriksen", "Fischer", "Gomez", "Hansen", "Ivanov", "Jensen", "Keller", "Lopez", "Meyer", "Novak",
    "Olsen", "Petrov", "Ricci", "Santos", "Torres", "Weber",
]  # fmt: skip
_PLACE = [
    "Ashby", "Brookside", "Carlow", "Denmouth", "Eastport", "Fairview", "Glenwood", "Harwick", "Ivybridge", "Kingsley", "Lakeside",
    "Milton", "Northgate", "Oakford", "Pinehill", "Redfield", "Stonebury", "Thornton", "Westbrook", "Yarrow",
]  # fmt: skip
_DAY = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
]  # fmt: skip
_JOB = ["a teacher", "a nurse", "a driver", "a student", "a farmer", "a clerk", "a singer", "a builder"]

_EVENTS: dict[str, list[tuple[str, str]]] = {  # how the text tells it, how the summary says it
    "news": [
        ("cut the ribbon of the new library", "opened a library"), ("served the first loaves of the new bakery", "opened a bakery"),
        ("beat the champion after five hours of chess", "won a chess match"), ("came first in the race along the river", "won a race"),
        ("pulled a child out of the icy river", "saved a child"), ("carried a dog out of the burning barn", "saved a dog"),
        ("dug up a jar of old coins in the garden", "found old coins"), ("came upon a forgotten painting in the attic", "found a painting"),
        ("was voted mayor by a few hundred votes", "became mayor"), ("was named head of the old school", "became head teacher"),
        ("gave all the prize money to the hospital", "gave money to a hospital"), ("handed a hundred books to the school", "gave books to a school"),
        ("forgot a violin on the last train", "lost a violin"), ("left a bag of letters on the bus", "lost some letters"),
        ("put four hundred lamps on the bridge", "lit up a bridge"), ("painted the wall of the market hall", "painted a wall"),
    ],
    "chats": [
        ("I have two tickets for the concert", "go to a concert"), ("I booked a table at the new restaurant", "have dinner"),
        ("I want to see that film at last", "see a film"), ("I got the keys of the boat", "go sailing"),
        ("I want to try the climbing wall", "go climbing"), ("I need help with the sofa", "move a sofa"),
        ("I found a court where we can play tennis", "play tennis"), ("I promised to paint the fence", "paint a fence"),
        ("I have to bake for the fair", "bake cakes"), ("I want to pick up the old car", "collect a car"),
        ("I must practise for the exam", "study together"), ("I signed us up for the dance class", "dance together"),
        ("I know where the mushrooms are", "pick mushrooms"), ("I heard there is a flea market", "visit a flea market"),
        ("I want to show you the museum", "visit a museum"), ("I am going to look at a flat", "see a flat"),
    ],
}  # fmt: skip

_NEWS_FACTS = (  # one sentence of each row is in every story: who, where, when, what
    ["{first} {last}, {job}, had waited a long time for this.", "{first} {last} says that it was luck.", "“I could hardly believe it”, says {first} {last}.",
     "Nobody was more surprised than {first} {last}, {job}."],
    ["It happened in {place}.", "The people of {place} still talk about it.", "In {place} nobody had expected it.", "All of {place} has heard of it."],
    ["It was on {day}, shortly after {hour}.", "On {day} the square was full early.", "The news spread on {day}.", "By {day} evening everyone knew."],
    ["In the end it was one person who {told}.", "Someone {told}.", "One of them {told}.", "Before anybody noticed, someone {told}."],
)  # fmt: skip
_NEWS_BESIDES = [
    "Visitors had come from as far as {other_place}.", "A neighbour, {other_first}, brought tea for everyone.", "It rained from morning to night.",
    "The local paper sent a photographer.", "Such a thing had last been seen ten years ago.", "There was music until late.",
    "Next {other_day} the council will talk about it.", "Two streets were closed for hours.", "The weather was mild for the season.",
    "{other_first} {other_last} from {other_place} could not come.",
]  # fmt: skip
_CHAT_FACTS = (  # what, when, where; each is a question or remark of one and the answer of the other
    ["{a}: {told}. {b}: Count me in!", "{a}: Guess what! {told}. {b}: I will come along.", "{b}: What are you up to? {a}: {told}. Are you in? {b}: Yes!"],
    ["{b}: Is {other_day} fine? {a}: No, it has to be {day}.", "{a}: Shall we say {day}? {b}: {day} is good.", "{b}: Not {other_day}, please. {a}: Then {day}.",
     "{a}: {day} would suit me. {b}: Me too."],
    ["{b}: Where is it? {a}: In {place}.", "{a}: It is in {place}. {b}: Not in {other_place}? {a}: No.", "{b}: I shall be in {other_place} before. {a}: Come to {place} then.",
     "{a}: Do you know the way to {place}? {b}: I do."],
)  # fmt: skip
_CHAT_BESIDES = [
    "{b}: I saw {other_first} yesterday. {a}: How nice.", "{a}: Bring something to drink. {b}: I will.", "{b}: My phone is nearly empty. {a}: Mine as well.",
    "{a}: I hope it stays dry. {b}: They say it will.", "{b}: Has {other_first} written to you? {a}: Not yet.", "{a}: I am so tired today! {b}: Go to bed early.",
]  # fmt: skip

SUMMARY_DOMAINS = ("news", "chats")
"""What `texts_with_summaries` can write."""


def texts_with_summaries(domain: str, count: int, part: str = "train", seed: int = 0) -> list[dict[str, str]]:
    """Short texts and their one-sentence summaries, written by a grammar: who did what, where, and when.

    The four facts stand in different sentences, in any order, among sentences that are beside the point and name other people, places and days. So no
    single sentence is a summary, and a good one has to find all four and to say them in its own words.

    Args:
        domain: "news", stories of a local paper, or "chats" between two friends. count: how many.
        part: "train" or "test". In the test part every pair of names, and every pair of event and place, is one that the training part never has.
        seed: the same seed gives the same records on every machine, and other seeds other ones.

    Returns: {"text": …, "summary": …} each. ValueError for an unknown domain or part.
    """
    if domain not in SUMMARY_DOMAINS or part not in ("train", "test"):
        raise ValueError(
            f"there are the domains {', '.join(SUMMARY_DOMAINS)} and the parts train, test; not {domain!r}, {part!r}"
        )
    draw = random.Random(f"{domain}/{part}/{seed}")
    records: dict[str, str] = {}
    while len(records) < count:
        text, summary = (_news if domain == "news" else _chat)(draw, part)
        records.setdefault(text, summary)
    return [{"text": text, "summary": summary} for text, summary in records.items()]


def _news(draw: random.Random, part: str) -> tuple[str, str]:
    told, said, slots = _facts(draw, "news", part)
    first, last = _pair(draw, len(_FIRST), len(_LAST), part)
    slots |= {
        "first": _FIRST[first],
        "last": _LAST[last],
        "other_first": _another(draw, _FIRST, first),
        "other_last": _another(draw, _LAST, last),
    }
    slots |= {"job": draw.choice(_JOB), "hour": draw.choice(["noon", "nine", "sunrise", "lunch"]), "told": told}
    sentences = [draw.choice(row) for row in _NEWS_FACTS]
    draw.shuffle(sentences)
    for aside in draw.sample(
        _NEWS_BESIDES, draw.randint(2, 4)
    ):  # what matters comes a little earlier than the rest, as in a newspaper
        sentences.insert(max(draw.randint(0, len(sentences)), draw.randint(0, len(sentences))), aside)
    return " ".join(sentences).format(
        **slots
    ), f"{slots['first']} {slots['last']} {said} in {slots['place']} on {slots['day']}."


def _chat(draw: random.Random, part: str) -> tuple[str, str]:
    told, said, slots = _facts(draw, "chats", part)
    a, b = _pair(draw, len(_FIRST), len(_FIRST), part)
    others = [name for index, name in enumerate(_FIRST) if index not in (a, b)]
    slots |= {"a": _FIRST[a], "b": _FIRST[b], "other_first": draw.choice(others), "told": told}
    turns = [draw.choice(row) for row in _CHAT_FACTS]
    tail = turns[1:] + draw.sample(_CHAT_BESIDES, draw.randint(1, 3))
    draw.shuffle(tail)  # a chat begins with its subject, or with something else
    turns = [turns[0], *tail] if draw.random() < 0.6 else [tail[0], turns[0], *tail[1:]]
    return " ".join(turns).format(
        **slots
    ), f"{slots['a']} and {slots['b']} will {said} in {slots['place']} on {slots['day']}."


def _facts(draw: random.Random, domain: str, part: str) -> tuple[str, str, dict[str, str]]:
    event, place = _pair(draw, len(_EVENTS[domain]), len(_PLACE), part)
    day = draw.randrange(len(_DAY))
    slots = {
        "place": _PLACE[place],
        "other_place": _another(draw, _PLACE, place),
        "day": _DAY[day],
        "other_day": _another(draw, _DAY, day),
    }
    return *_EVENTS[domain][event], slots


def _pair(draw: random.Random, n: int, m: int, part: str) -> tuple[int, int]:
    """Two different numbers below n and m. Every fifth pair is kept for the test part, and each number is in pairs of either part."""
    while True:
        one, other = draw.randrange(n), draw.randrange(m)
        if one != other and ((one + 2 * other) % 5 == 0) == (part == "test"):
            return one, other


def _another(draw: random.Random, names: Sequence[str], not_this: int) -> str:
    return names[(not_this + draw.randrange(1, len(names))) % len(names)]


def untidy_json_lines(records: Sequence[dict[str, str]], seed: int = 0) -> list[str]:
    """The records as lines of JSON, as they come from a web site: HTML entities, stray white space, and lines that are no use.

    One record in ten or so is followed by a line that is broken, has no summary, an empty one, or repeats an earlier text. All records themselves are there.
    """
    draw = random.Random(f"untidy/{seed}")
    lines: list[str] = []
    for number, record in enumerate(records):
        untidy = dict(record)
        if draw.random() < 0.3:
            untidy["text"] = (
                untidy["text"].replace("“", "&ldquo;").replace("”", "&rdquo;").replace(" the ", "  the&nbsp;")
            )
        if draw.random() < 0.2:
            untidy = {key: f" {value}\n" for key, value in untidy.items()}
        line = json.dumps(untidy, ensure_ascii=draw.random() < 0.5)
        lines.append(line)
        if draw.random() < 0.1:
            earlier = records[draw.randrange(number + 1)]
            lines.append(
                draw.choice([line[: len(line) // 2], json.dumps({"text": record["text"] + " More."}), json.dumps({"text": f"{record['text']} More.", "summary": " "}),
                             json.dumps({**earlier, "text": earlier["text"] + "  "}), ""])
            )  # fmt: skip
    return lines


SUMMARY_DATASETS = {
    "scitldr": ("allenai/scitldr", "Abstract"),
    "samsum": ("knkarthick/samsum", None),
    "cnn_dailymail": ("abisee/cnn_dailymail", "3.0.0"),
}
"""Real data sets of texts with summaries, with their names on the Hugging Face hub."""


def real_summaries(name: str, part: str, data_dir: str | Path = "", limit: int | None = None) -> list[dict[str, str]]:
    """Texts with summaries: abstracts of papers (SciTLDR, Cachola et al. 2020), chats (SAMSum, Gliwa et al. 2019) or news (CNN/DailyMail).

    Args:
        name: "scitldr", "samsum" or "cnn_dailymail". part: "train", "validation" or "test". limit: at most so many records, the first ones.
        data_dir: a folder with `scitldr/train.jsonl` (dev, test) or `samsum/train.json` (validation, test; JSON lines too), as they are published; else the
            environment variable PAPER_TO_PYTORCH_DATA names it. CNN/DailyMail, and the others where no folder is named: fetched by `datasets` from the hub.

    Returns: {"text": …, "summary": …} each, as published: nothing is cleaned. Of several summaries the first. FileNotFoundError if a named folder lacks the
        data set; DatasetUnavailable where the hub cannot be reached; ValueError for another name or part.
    """
    if name not in SUMMARY_DATASETS or part not in ("train", "validation", "test"):
        raise ValueError(
            f"there are {', '.join(SUMMARY_DATASETS)} with the parts train, validation, test; not {name!r}, {part!r}"
        )
    folder = data_folder(data_dir)
    files = {"scitldr": "dev.jsonl" if part == "validation" else f"{part}.jsonl", "samsum": f"{part}.json"}
    rows: Iterable[Any]
    if folder is not None and name in files:
        path = folder / name / files[name]
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}: the folder lacks this part of {name}")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    else:
        rows = _from_hub(*SUMMARY_DATASETS[name], part)
    records = []
    for row in islice(rows, limit):
        if name == "scitldr":
            records.append({"text": " ".join(row["source"]), "summary": row["target"][0]})
        elif name == "samsum":
            records.append({"text": row["dialogue"], "summary": row["summary"]})
        else:
            records.append({"text": row["article"], "summary": row["highlights"]})
    return records


def _from_hub(repository: str, configuration: str | None, part: str) -> Any:
    """A part of a data set of the Hugging Face hub. DatasetUnavailable, saying what to do, where it is not to be had."""
    from datasets import load_dataset  # only who fetches needs it

    try:
        return load_dataset(repository, configuration, split=part)
    except Exception as error:  # no network, no such host, refused: whatever it is, the remedy is the same
        raise DatasetUnavailable(
            f"{repository} is not to be had from the Hugging Face hub ({type(error).__name__}). Is there a network? Else give a folder that has it as "
            "DATA_DIR, or use the quick profile."
        ) from error


# -- text: sentences that judge ----------------------------------------------------------------------------------------------------

SENTIMENT_PARTS = ("train", "validation", "test")

_KNOWN = {
    "good": "good great wonderful excellent lovely funny beautiful charming clever moving impressive fresh pleasant memorable fascinating "
    "brilliant enjoyable amusing touching exciting",
    "bad": "bad terrible awful boring dull stupid ugly poor weak tedious annoying disappointing clumsy horrible pointless messy tiresome "
    "predictable painful unpleasant",
    "thing": "film story acting music ending dialogue meal service hotel book plot room concert play speech tour game album",
    "like": "love:loved enjoy:enjoyed admire:admired recommend:recommended",
    "dislike": "hate:hated dislike:disliked regret:regretted avoid:avoided",
}
_HELD_OUT = {
    "good": "superb delightful splendid gripping marvellous magnificent heartwarming captivating hilarious terrific elegant thrilling "
    "outstanding fantastic",
    "bad": "dreadful dreary lousy ridiculous mediocre irritating appalling forgettable shallow atrocious dismal silly sloppy abysmal",
    "thing": "novel soundtrack performance dessert breakfast exhibition screenplay photography lecture sequel restaurant cast",
    "like": "adore:adored treasure:treasured cherish:cherished",
    "dislike": "despise:despised detest:detested loathe:loathed",
}
_JUDGEMENTS = {
    "plain": (
        "the {thing} was {as_judged}",
        "i found the {thing} {as_judged}",
        "the {thing} is really {as_judged}",
        "everything about the {thing} was {as_judged}",
        "i {felt} the {thing}",
        "i {felt} the {thing}, and the {other} was {as_judged} too",
    ),
    "negation": (
        "the {thing} was not {opposite}",
        "there is nothing {opposite} about the {thing}",
        "nobody could call the {thing} {opposite}",
        "the {thing} was anything but {opposite}",
        "the {thing} was never {opposite}",
        "i did not {feel_opposite} the {thing}",
        "the {thing} is far from {opposite}",
    ),
    "contrast": (
        "i expected the {thing} to be {opposite}, but it was {as_judged}",
        "the {thing} was {opposite} at first, yet {as_judged} in the end",
        "i expected to {feel_opposite} the {thing}, but i {felt} it",
        "although the {thing} was {opposite}, the {other} was so {as_judged} that nothing else mattered",
        "people call the {thing} {opposite}, and they are wrong",
        "the {thing} is {as_judged}, whatever those who find it {opposite} may say",
        "the {thing} was more {as_judged} than {opposite}",
    ),
    "comparison": (
        "the {thing} was less {opposite} than i had expected",
        "the last {thing} was {opposite}, and this one is {better}",
        "the last {thing} was {as_judged}, and this one is no {worse}",
        "the {other} was {opposite}; the {thing} was the very reverse",
    ),
    "unreal": (
        "i {hoped} that the {thing} might be {opposite}, and it never was",
        "the {thing} could have been {opposite}, and was not",
        "whoever came for something {opposite} was in the wrong place",
    ),
}
"""Ways to judge. `as_judged` is a word of the sentence's own polarity, `opposite` one of the other: single words say little outside of "plain"."""

_ORDER = ("plain", "negation", "plain", "contrast", "comparison", "unreal")
_OPENINGS = ("", "", "", "", "honestly, ", "to be fair, ", "in short, ", "i must say that ", "as so often, ")
_ENDINGS = (".", ".", ".", ".", " .", "!", ", i think.", ", if you ask me.")


@dataclass(frozen=True)
class JudgingSentences:
    """Sentences with a sentiment. text: as written. label: 1 where it is positive, else 0. kind: how it judges, a key such as "negation"."""

    text: list[str]
    label: list[int]
    kind: list[str]

    def __len__(self) -> int:
        return len(self.text)


def judging_sentences(part: str, count: int, seed: int = 0) -> JudgingSentences:
    """Sentences that judge a film, a meal, a hotel …, made from a grammar: positive and negative in turn, a third of them plain.

    Outside of the plain third, which words occur says little about the label, and how they are put together says all. The parts have no sentence in common; in "test", what is judged and
    with which words is new too ("superb", "detest"), and only the grammar is the same. The same arguments give the same sentences on every machine.

    Args:
        part: "train", "validation" or "test". count: how many, at most 5,000. seed: of the draws.
    """
    if part not in SENTIMENT_PARTS:
        raise ValueError(f"there is no part {part!r}: {', '.join(SENTIMENT_PARTS)}")
    if count > 5000:
        raise ValueError(f"the grammar is good for 5,000 different sentences a part, not {count}")
    draw = random.Random(f"{seed} {'test' if part == 'test' else 'known'}")
    source = _HELD_OUT if part == "test" else _KNOWN
    words = {name: text.split() for name, text in source.items()}

    def pick(items: Sequence[str]) -> str:
        return items[int(draw.random() * len(items))]  # random() gives the same numbers in every version of Python

    found: dict[str, tuple[int, str]] = {}
    # training and validation sentences come out of one stream, in turn: none is in both
    wanted = count if part == "test" else 2 * count
    while len(found) < wanted:
        number = len(found) if part == "test" else len(found) // 2
        label, kind = number % 2, _ORDER[number // 2 % len(_ORDER)]
        same, other = ("good", "bad") if label else ("bad", "good")
        feel, feel_opposite = ("like", "dislike") if label else ("dislike", "like")
        thing = pick(words["thing"])
        sentence = pick(_JUDGEMENTS[kind]).format(
            thing=thing,
            other=pick([word for word in words["thing"] if word != thing]),
            as_judged=pick(words[same]),
            opposite=pick(words[other]),
            felt=pick(words[feel]).split(":")[1],
            feel_opposite=pick(words[feel_opposite]).split(":")[0],
            better="better" if label else "worse",
            worse="worse" if label else "better",
            hoped="feared" if label else "hoped",
        )
        found.setdefault(pick(_OPENINGS) + sentence + pick(_ENDINGS), (label, kind))
    chosen = list(found.items())
    if part != "test":
        chosen = chosen[SENTIMENT_PARTS.index(part) :: 2]
    return JudgingSentences(
        [text for text, _ in chosen], [label for _, (label, _) in chosen], [kind for _, (_, kind) in chosen]
    )


SST2_ON_THE_HUB = "stanfordnlp/sst2"


def sst2(part: str, data_dir: str | Path = "") -> tuple[list[str], list[int]]:
    """SST-2: phrases and sentences from film reviews, positive (1) or negative (0) (Socher et al. 2013; as in GLUE, Wang et al. 2019).

    Args:
        part: "train", "validation" (a tenth of GLUE's training phrases) or "test" (GLUE's 872 validation sentences: the labels of its own test part are not
            public).
        data_dir: a folder with `sst2/train.tsv`, `dev.tsv` and `test.tsv` (a head, then sentence, tab, label); else the environment variable
            PAPER_TO_PYTORCH_DATA names it. Neither: fetched by `datasets` from the Hugging Face hub.

    Returns: (sentences, labels). DatasetUnavailable, saying what to do, if the hub cannot be reached.
    """
    files = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}
    if part not in files:
        raise ValueError(f"SST-2 has no part {part!r}: {', '.join(files)}")
    folder = data_folder(data_dir)
    if folder is not None:
        path = folder / "sst2" / files[part]
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: the folder lacks this part of SST-2")
        rows = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]]
        return [text.strip() for text, _ in rows], [int(label) for _, label in rows]
    rows = _from_hub(SST2_ON_THE_HUB, None, "validation" if part == "test" else "train")
    texts, labels = [text.strip() for text in rows["sentence"]], list(rows["label"])
    if part != "test":
        chosen = [i for i in range(len(texts)) if (i % 10 == 9) == (part == "validation")]
        texts, labels = [texts[i] for i in chosen], [labels[i] for i in chosen]
    return texts, labels


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
