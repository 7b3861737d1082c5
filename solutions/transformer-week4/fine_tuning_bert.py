# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Fine-tuning BERT
#     order: 1
#     exports: papers.transformer.finetuning
#     minutes: 100
# ---

# %% [markdown]
# # Fine-tuning BERT
#
# *BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding* (Devlin et al., [2019](https://arxiv.org/abs/1810.04805)), sections 3.2 and 4.1, appendix A.3 · about 100 minutes
#
# At the end of this notebook you can
#
# - load a pretrained Transformer and fine-tune it on labelled sentences with Hugging Face's `Trainer`, knowing what each of its settings does;
# - evaluate it by accuracy and F1, next to a baseline that knows nothing but words;
# - find the errors that are worth reading.
#
# **Week 4 of the roadmap, "Step 1: Fine-Tuning a Transformer with Hugging Face (Day 10-12)".** Its three tasks:
#
# 1. "Load a pre-trained Transformer (e.g., `BERT`, `GPT-2`) using Hugging Face’s `transformers` library": below, and exercise 1.
# 2. "Fine-tune it on a simple NLP task (e.g., text classification, sentiment analysis)": exercise 3.
# 3. "Evaluate the performance using validation metrics": exercises 2, 4 and 5.
#
# Watch first: [the roadmap's first video for this step](https://youtu.be/eC6Hd1hFvos?si=zbVtBZmn_CbkWDdF). Then [Fine-Tuning BERT for Text Classification (Beginner-Friendly)](https://youtu.be/4QHg8Ix8WWQ?si=bFf9JmyytlH3Po-Z), which
# covers loading a pre-trained BERT model, fine-tuning on a classification dataset, the Hugging Face `Trainer` API, and evaluating performance.

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %%
import os

if PROFILE == "quick":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # has to stand before transformers is imported; restart the kernel after a change of profile
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# %% tags=["export"]
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers.trainer
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from transformers import DataCollatorWithPadding, EvalPrediction, PreTrainedTokenizerBase, Trainer, TrainingArguments

# %%
import contextlib
import gc

import matplotlib.pyplot as plt
from IPython.utils.capture import capture_output
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from papers.datasets import judging_sentences, sst2
from papers.pretrained import MINILM, PretrainedUnavailable, load_pretrained

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% [markdown]
# ## Borrowed knowledge
#
# Last week's translator learned everything from its own task. BERT does it in two stages. *Pre-training* is long, done once, and needs no labels: hide words of a large text and predict them (the last notebook of this week). *Fine-tuning*
# starts from those weights, puts one new layer on top, and trains **all** weights on a few labelled examples.
#
# The model is the encoder of Figure 1 in *Attention Is All You Need*. Every sentence gets a token `[CLS]` in front, whose last hidden vector $C \in \mathbb{R}^H$ stands for the whole, and `[SEP]` at its end. The new layer has the
# weights $W \in \mathbb{R}^{K \times H}$ for $K$ labels, and the loss is the cross-entropy of
#
# $$p = \mathrm{softmax}(C\,W^\top).$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | model | BERT-base, 110 million parameters; BERT-large, 340 million | quick: MiniLM, 6 layers, 22.7 million. Full: DistilBERT, 66 million, or GPT-2 | all are Transformers with the same interface; small ones fine-tune on two CPU cores |
# | $C$ | hidden vector of `[CLS]`, through one pre-trained dense layer with tanh (`BertPooler`) | what the model's own `…ForSequenceClassification` does: GPT-2, which reads left to right, takes the last token | the first token of GPT-2 has seen nothing |
# | batch size, epochs | 16 or 32; 2 to 4 | 16 or 32; 2 or 3 | |
# | learning rate | 5e-5, 3e-5 or 2e-5 | up to 3e-4 for MiniLM | smaller models take larger steps, and a short run needs them |
# | what is trained | all weights | full profile: all. Quick: all but the word embeddings | they are half of MiniLM's weights and a large part of a step's time; and a word that no training sentence has keeps its place among the others |
# | decay | Adam with weight decay 0.01, linear warm-up, linear decay to 0 | the same (AdamW) | |
#
# `MODEL` is a plain setting. The packaged encoder never uses the network; any other name is fetched from the Hugging Face hub.

# %%
MODEL = MINILM if PROFILE == "quick" or os.environ.get("HF_HUB_OFFLINE") == "1" else "distilbert-base-uncased"  # or "gpt2", or any encoder of the hub
device = ("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE
SETTINGS = {
    "quick": {"sentences": 384, "batch_size": 16, "epochs": 2, "learning_rate": 3e-4},
    "full": {"sentences": 8000 if device == "cpu" else None, "batch_size": 32, "epochs": 1 if device == "cpu" else 3, "learning_rate": 5e-5},
}[PROFILE]
MAX_LENGTH = 64

# %% [markdown]
# ## The task
#
# Is a sentence a compliment? Quick profile: sentences made by a grammar, in which words alone say little ("not bad", "I expected to love it, but …"). The test part uses words that no training sentence has, so a model has to know from
# elsewhere that *dreary* is bad. Full profile: SST-2, phrases and sentences from film reviews (Socher et al. 2013).


# %% tags=["picture"]
def read(part, count):
    """(sentences, labels, kinds) of one part of the data; count: how many at most, None for all."""
    if PROFILE == "quick":
        made = judging_sentences(part, count, SEED)
        return made.text, made.label, made.kind
    text, label = sst2(part, DATA_DIR)
    return text[:count], label[:count], ["film review"] * len(text[:count])


texts, labels, kinds = {}, {}, {}
for part, count in {"train": SETTINGS["sentences"], "validation": 200 if PROFILE == "quick" else 1000, "test": 300 if PROFILE == "quick" else None}.items():
    texts[part], labels[part], kinds[part] = read(part, count)
    print(f"{part:10} {len(texts[part]):6} sentences, {np.mean(labels[part]):.0%} positive")
for kind in dict.fromkeys(kinds["train"]):
    for label in (1, 0):
        example = next(i for i in range(len(texts["train"])) if kinds["train"][i] == kind and labels["train"][i] == label)
        print(f"{kind:12} {'+' if label else '−'}  {texts['train'][example]}")

# %% [markdown]
# The **baseline** is a logistic regression on which words occur: a bag of words. A large model that does not beat it has no business being large.

# %% tags=["picture"]
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

baseline = make_pipeline(CountVectorizer(binary=True), LogisticRegression(max_iter=2000)).fit(texts["train"], labels["train"])
baseline_predictions = baseline.predict(texts["test"])
for part in texts:
    print(f"bag of words, {part:10} accuracy {baseline.score(texts[part], labels[part]):.1%}")

# %% [markdown]
# ## The pretrained model
#
# `from_pretrained` builds the architecture from a configuration and fills it with stored weights. The report below names the weights that were not stored: the classifier, which is new and random. A tokenizer belongs to its model: it
# cuts text into the very pieces whose embeddings the model has.

# %% tags=["picture"]
def load(name):
    """(model, tokenizer), the model with a new classifier of two classes, the same for the same SEED."""
    torch.manual_seed(SEED)
    tokenizer = load_pretrained(AutoTokenizer, name)
    model = load_pretrained(AutoModelForSequenceClassification, name, num_labels=2)
    if tokenizer.pad_token is None:  # GPT-2 has none: it was never trained on padded batches
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.to(device), tokenizer


try:
    model, tokenizer = load(MODEL)
except PretrainedUnavailable as error:
    if MODEL == MINILM:
        raise
    print(error)
    MODEL = MINILM
    model, tokenizer = load(MODEL)
if PROFILE == "full" and MODEL == MINILM:
    SETTINGS["learning_rate"] = 1e-4
count = sum(parameter.numel() for parameter in model.parameters())
if PROFILE == "quick":
    model.get_input_embeddings().weight.requires_grad = False
print(f"{MODEL}: {type(model).__name__} on {device}, {count / 1e6:.1f} million parameters, a vocabulary of {len(tokenizer):,} pieces")
for sentence in ("I expected to love it, but it was dreary.", "unputdownable"):
    print(tokenizer.tokenize(sentence), tokenizer(sentence)["input_ids"])

# %% [markdown]
# **What to see.** A common word is one piece; a rare one is several, with `##` where a piece goes on. The list of numbers is two longer than the list of pieces: `[CLS]` and `[SEP]`.

# %% [markdown]
# ## Small stand-ins
#
# The checks below need neither network nor pretrained weights: they use a tokenizer that knows a dozen words, and a BERT of one layer and width 8 whose weights the check draws.

# %%
WORDS = "the a film plot was is not very good bad long dull and but so".split()


def small_tokenizer(lower=False, special=True, longest=32):
    """A word-level tokenizer that knows WORDS. special: puts [CLS] and [SEP] round a text, and has padding."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if special else ["[UNK]"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate([*names, *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lower:
        tokenizer.normalizer = normalizers.Lowercase()
    roles = {"unk_token": "[UNK]"}
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        roles |= {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, model_input_names=["input_ids", "attention_mask"], **roles)


def small_bert(case, classes=2, dropout=0.0, positions=32):
    """A BERT of one layer, its weights drawn by a check's case."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": positions}
    config = BertConfig(vocab_size=len(WORDS) + 4, num_labels=classes, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **size)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            drawn = case.normal(*parameter.shape, scale=0.4)
            parameter.copy_(1 + drawn if "LayerNorm.weight" in name else drawn)
    return model.to(case.device)


# %% [markdown]
# ## Exercise 1 · `tokenize_batch`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# `Dataset.map(tokenize_batch, batched=True)` hands over a thousand rows at a time as a dictionary of columns, and adds the columns that come back. A model has position embeddings for so many tokens and no more, so longer texts are cut.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | length | at most 512 tokens | at most `max_length`, `[CLS]` and `[SEP]` among them | attention costs $n^2$; most sentences are short |
# | padding | nothing | none here: every text keeps its own length | a batch is padded when it is put together, to the longest of *its* 16 texts and not to that of 1,000 |


# %% tags=["export"]
def tokenize_batch(
    batch: Mapping[str, Sequence], tokenizer: PreTrainedTokenizerBase, max_length: int,
) -> Mapping[str, list]:
    """Texts as token numbers, for `Dataset.map(…, batched=True)`.

    Args:
        batch: columns by name; batch["text"] is a list of str. There may be others, such as
            "label". It is not changed.
        tokenizer: of the model that is to read the texts. It may have no padding token.
        max_length: tokens a text may have at most, special tokens among them. Longer texts lose their end.

    Returns: the tokenizer's columns by name: "input_ids" and "attention_mask", each with a list for
        every text, of that text's own length (not padded). Further columns are allowed.
    """
    ### BEGIN SOLUTION
    return tokenizer(batch["text"], truncation=True, max_length=max_length)
    ### END SOLUTION


# %%
@check("tokenize_batch", points=2, paper="BERT, section 3 (Input/Output Representations)")
def _(case):
    def tokenize(name, texts, max_length, tokenizer, **columns):
        batch = {"text": list(texts), **columns}
        result = tokenize_batch(batch, tokenizer, max_length)
        found = None
        if result is not None:
            found = {"number of texts": len(result["input_ids"])}
            for i, row in enumerate(result["input_ids"]):
                found[f"tokens of text {i + 1}"] = " ".join(tokenizer.convert_ids_to_tokens([int(token) for token in row]))
            for i, row in enumerate(result["attention_mask"] if "attention_mask" in result else []):
                found[f"attention_mask of text {i + 1}"] = " ".join(str(int(seen)) for seen in row)
        case.record(name, found, about="")
        case.record(f"{name}: the batch afterwards", [batch["text"] == list(texts), sorted(batch) == sorted(["text", *columns])], about="unchanged:")

    def drawn(longest):
        return " ".join(WORDS[i] for i in case.integers(0, len(WORDS), case.integer(1, longest + 1)).tolist())

    bert, gpt = small_tokenizer(), small_tokenizer(special=False)
    tokenize("one text", ["the film"], 8, bert)
    tokenize("two texts of unequal length", ["the film was good", "not bad"], 8, bert, label=[1, 1])
    tokenize("one of three is cut to 5 tokens", ["dull", "the plot was not very good and the film was long", "a film"], 5, bert, label=[0, 0, 1])
    tokenize("exactly as many tokens as allowed", ["the film was good", "bad"], 6, bert)
    tokenize("one more than allowed", ["the film was good", "bad"], 5, bert)
    tokenize("a text with punctuation is cut", ["bad", "good, not bad, not so dull: the film. the plot."], 7, bert)
    tokenize("capitals and words it does not know", ["The film was SUPERB", "a good film"], 8, bert)
    tokenize("a tokenizer that makes small letters itself", ["The film was Good", "A PLOT"], 8, small_tokenizer(lower=True))
    tokenize("an empty text between others", ["so good", "", "so bad"], 8, bert)
    tokenize("longer than the tokenizer would cut by itself", ["the film was very very long and dull and the plot was bad", "good"], 13, small_tokenizer(longest=6))
    tokenize("neither special tokens nor padding, as GPT-2", ["the film was not good", "so long and so dull"], 4, gpt)
    ### BEGIN HIDDEN TESTS
    tokenize("punctuation", ["good, not bad!", "the film. the plot."], 5, bert)
    tokenize("many texts", [drawn(12) for _ in range(9)], 7, bert, label=[0] * 9)
    tokenize("many texts, none cut", [drawn(9) for _ in range(6)], 20, bert, label=[1] * 6, index=list(range(6)))
    tokenize("as GPT-2, many texts", [drawn(12) for _ in range(5)], 6, gpt, label=[0] * 5)
    tokenize("room for one word", [drawn(6) for _ in range(3)], 3, bert)
    tokenize("the same text twice", ["so good", "not bad", "so good"], 8, bert, label=[1, 1, 1])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "tokenize_batch",
    "Call the tokenizer on a list of two texts, one long, one short, in a cell of its own. What does it return, and what does it do with a text that is too long if you do not ask?",
    "The documentation of a tokenizer's `__call__`: `truncation`, `max_length`, `padding`. The default of each of the three matters here.",
    "Call the tokenizer once, on the whole list of texts, with truncation switched on and max_length handed over, and give back what it returns. Leave padding alone.",
)
misconceptions(
    "tokenize_batch",
    mistake("no truncation", ("truncation=True, max_length=max_length", "truncation=False"),
            says="Nothing is cut: truncation has to be switched on. A text longer than the model's positions ends in an error later."),  # fmt: skip
    mistake("max_length ignored", (", max_length=max_length", ""),
            says="Texts are cut at the tokenizer's own limit, and max_length is not used."),  # fmt: skip
    mistake("padded to max_length", ("truncation=True", "truncation=True, padding='max_length' if tokenizer.pad_token else False"),
            says="Every text is padded to max_length, so that every batch is as wide as the widest could be. Leave padding to the batch."),  # fmt: skip
    mistake("padded to the longest", ("truncation=True", "truncation=True, padding=tokenizer.pad_token is not None"),
            says="Texts are padded to the longest of all that come in one call, a thousand in `map`. Leave padding to the batch, which is smaller."),  # fmt: skip
    mistake("no attention mask", ("return tokenizer(batch[\"text\"], truncation=True, max_length=max_length)", "return {'input_ids': tokenizer(batch['text'], truncation=True, max_length=max_length)['input_ids']}"),
            says="The attention mask is left out. Once the batch is padded the model needs it to tell padding from text."),  # fmt: skip
    mistake("no special tokens", ("truncation=True", "truncation=True, add_special_tokens=False"),
            says="[CLS] and [SEP] are missing: the classifier reads the vector of [CLS], which it would not find."),  # fmt: skip
    mistake("cut by hand", ("return tokenizer(batch[\"text\"], truncation=True, max_length=max_length)", "return {key: [row[:max_length] for row in rows] for key, rows in tokenizer(batch['text']).items()}"),
            says="Token lists are cut after tokenizing, so that a long text loses its [SEP]. The tokenizer cuts in front of it."),  # fmt: skip
    mistake("characters are cut", ("tokenizer(batch[\"text\"], truncation=True, max_length=max_length)", "tokenizer([text[:max_length] for text in batch['text']])"),
            says="Texts are cut after max_length characters; it counts tokens."),  # fmt: skip
    mistake("words are cut", ("tokenizer(batch[\"text\"], truncation=True, max_length=max_length)", "tokenizer([' '.join(text.split()[:max_length]) for text in batch['text']])"),
            says="Texts are cut after max_length words. It counts tokens, of which a word may have several, and [CLS] and [SEP] are among them."),  # fmt: skip
    mistake("special tokens not counted", ("max_length=max_length", "max_length=max_length + 2 * (tokenizer.cls_token is not None)"),
            says="A text gets two tokens too many: [CLS] and [SEP] count towards max_length."),  # fmt: skip
    mistake("special tokens counted twice", ("max_length=max_length", "max_length=max(max_length - 2, 2)"),
            says="A text gets two tokens too few: the tokenizer makes room for [CLS] and [SEP] by itself."),  # fmt: skip
    mistake("the beginning is cut", ("    return tokenizer(", "    tokenizer.truncation_side = 'left'\n    return tokenizer("),
            says="A long text loses its beginning; its end should go."),  # fmt: skip
    mistake("only the first text", ("tokenizer(batch[\"text\"]", "tokenizer(batch['text'][:1]"),
            says="Only the first text of the batch is tokenized. With batched=True a call gets many."),  # fmt: skip
    mistake("one text as a string", ("tokenizer(batch[\"text\"]", "tokenizer(batch['text'][0]"),
            says="One string is tokenized instead of the list of texts: the columns then hold numbers, not lists of numbers."),  # fmt: skip
    mistake("all texts as one", ("tokenizer(batch[\"text\"]", "tokenizer([' '.join(batch['text'])]"),
            says="The texts are joined into one. Each is an example by itself."),  # fmt: skip
    mistake("small letters", ("tokenizer(batch[\"text\"]", "tokenizer([text.lower() for text in batch['text']]"),
            says="Texts are put into small letters first. Whether capitals count is the tokenizer's business: an uncased one does this itself, a cased one must not."),  # fmt: skip
    mistake("the text column is taken out", ("tokenizer(batch[\"text\"]", "tokenizer(batch.pop('text')"),
            says="The text column is taken out of the batch, which belongs to the caller: the errors could not be read later."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("text by text")
def tokenize_batch(batch, tokenizer, max_length):
    rows = [tokenizer(text, truncation=True, max_length=max_length) for text in batch["text"]]
    return {name: [row[name] for row in rows] for name in ("input_ids", "attention_mask")}


# %% tags=["alternative"]
@alternative("keywords in words, padding said to be off")
def tokenize_batch(batch, tokenizer, max_length):
    encoded = tokenizer(text=list(batch["text"]), truncation="longest_first", max_length=max_length, padding=False, return_attention_mask=True)
    return dict(encoded)


# %% tags=["alternative"]
@alternative("padded, and the padding taken off again")
def tokenize_batch(batch, tokenizer, max_length):
    encoded = [tokenizer(text, truncation=True, max_length=max_length, return_tensors="np") for text in batch["text"]]
    return {"input_ids": [row["input_ids"][0] for row in encoded], "attention_mask": [np.ones_like(row["input_ids"][0]) for row in encoded]}


# %% tags=["alternative"]
@alternative("labels handed on")
def tokenize_batch(batch, tokenizer, max_length):
    columns = tokenizer(batch["text"], max_length=max_length, truncation="only_first")
    if "label" in batch:
        columns["labels"] = list(batch["label"])
    return columns


# %% [markdown]
# ### Try it: how long are the sentences?

# %% tags=["picture"]
datasets = {
    part: Dataset.from_dict({"text": texts[part], "label": labels[part]}).map(tokenize_batch, batched=True, fn_kwargs={"tokenizer": tokenizer, "max_length": MAX_LENGTH})
    for part in texts
}
lengths = np.array([len(row) for row in datasets["train"]["input_ids"]])
figure, axis = plt.subplots(figsize=(5.6, 2.8), layout="constrained")
axis.hist(lengths, bins=np.arange(0.5, lengths.max() + 1.5), color=BLUE)
axis.axvline(lengths.mean(), color=ORANGE, linestyle="--", label=f"mean {lengths.mean():.1f}")
axis.set(title="Length of the training sentences", xlabel="tokens, [CLS] and [SEP] among them", ylabel="sentences")
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()
batch = SETTINGS["batch_size"]
wide = [lengths[i : i + batch].max() for i in range(0, len(lengths), batch)]
print(f"padding as a share of what the model reads: {1 - lengths.mean() / MAX_LENGTH:.0%} if all are padded to {MAX_LENGTH}, {1 - lengths.sum() / (np.array(wide) * batch).sum():.0%} if batches of {batch} are padded by themselves")

# %% [markdown]
# **What to see.** Most sentences are far shorter than the limit. The two shares printed are computing time spent on padding, and the reason for leaving padding to the batch.

# %% [markdown]
# ## Exercise 2 · `compute_metrics`
#
# *Difficulty ●○○ · 10 minutes · 3 points*
#
# `Trainer` hands over all logits and labels of an evaluation as numpy arrays and logs the numbers that come back. With $TP$ positives found, $FP$ false alarms and $FN$ positives missed,
#
# $$F_1 = \frac{2\,TP}{2\,TP + FP + FN},$$
#
# the harmonic mean of precision and recall of the positive class (label 1). It does not count correct negatives, which is why it tells more than accuracy where positives are rare.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | metric | accuracy for SST-2, F1 for QQP and MRPC (Table 1) | both | F1 costs a line |
# | more than two classes | | not here. There one says which average: *macro* (each class counts alike) or *weighted* (by its size); *micro* is accuracy again | |
# | no true positive | | $F_1 = 0$, even where there is no positive at all | scikit-learn's convention; one point of this exercise |
#
# Some models return more than logits; then `predictions` is a tuple, and the logits come first.


# %% tags=["export"]
def compute_metrics(eval_prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy, and F1 of class 1, of logits for two classes.

    Args:
        eval_prediction: has `predictions`, logits (N, 2) as a numpy array, or a tuple whose first
            item is that, and `label_ids` (N,), 0 or 1. Neither is changed.

    Returns: {"accuracy": …, "f1": …}, from 0 to 1; f1 is 0 where there is no true positive. Further
        entries are allowed.
    """
    ### BEGIN SOLUTION
    logits = eval_prediction.predictions
    if isinstance(logits, tuple):
        logits = logits[0]
    predicted = np.argmax(logits, axis=-1)  # (N,)
    labels = eval_prediction.label_ids
    return {"accuracy": accuracy_score(labels, predicted), "f1": f1_score(labels, predicted, zero_division=0)}
    ### END SOLUTION


# %%
@check("compute_metrics", points=3, paper="BERT, Table 1")
def _(case):
    def logits_of(predicted, shift=0.0, scale=1.0):
        """Logits whose larger one is that of `predicted`; shift moves both, so that no threshold will do."""
        predicted = torch.as_tensor(predicted)
        base, gap = case.normal(len(predicted), scale=scale) + shift, case.uniform(len(predicted), low=0.05, high=2.0)
        return torch.stack([base + gap * (predicted == 0).to(case.device), base + gap * (predicted == 1).to(case.device)], dim=1).cpu().numpy()

    def measure(name, logits, labels):
        labels = np.asarray(labels)
        first = logits[0] if isinstance(logits, tuple) else logits
        before = first.copy(), labels.copy()
        result = compute_metrics(EvalPrediction(predictions=logits, label_ids=labels))
        case.record(name, result if not isinstance(result, Mapping) else {key: result.get(key) for key in ("accuracy", "f1")})
        case.record(f"{name}: inputs unchanged", bool((first == before[0]).all() and (labels == before[1]).all()), about="unchanged:")

    measure("labels 1 0 1, predicted 1 0 0", np.array([[-1.0, 2.0], [0.5, -0.5], [4.3, 4.1]]), [1, 0, 1])
    measure("labels 1 0 0 0 1, predicted 1 1 1 0 1", logits_of([1, 1, 1, 0, 1]), [1, 0, 0, 0, 1])
    measure("labels 1 1 1 1 0 0, predicted 1 0 0 0 0 1", logits_of([1, 0, 0, 0, 0, 1]), [1, 1, 1, 1, 0, 0])
    measure("all right", logits_of([1, 0, 0, 1]), [1, 0, 0, 1])
    measure("both logits positive", logits_of([0, 1, 0, 1, 1, 0, 0], shift=6.0), [0, 1, 1, 1, 0, 0, 0])
    measure("both logits negative", logits_of([0, 1, 0, 1, 1, 0, 0, 1], shift=-6.0), [0, 1, 1, 0, 1, 1, 0, 1])
    measure("a tuple: logits, then hidden states", (logits_of([1, 0, 1, 1, 0]), case.normal(5, 3, 4).cpu().numpy()), [1, 1, 1, 0, 0])
    with case.part("no true positive", points=1):
        measure("labels 1 0 1, predicted 0 0 0", logits_of([0, 0, 0]), [1, 0, 1])
        measure("labels 0 1, predicted 1 0", logits_of([1, 0]), [0, 1])
        measure("labels 0 0 0 0, predicted 0 0 0 0", logits_of([0, 0, 0, 0]), [0, 0, 0, 0])
    ### BEGIN HIDDEN TESTS
    labels = case.boolean(40, p=0.3).long().cpu().numpy()
    labels[:2] = 0, 1
    flip = case.boolean(40, p=0.25).cpu().numpy()
    flip[1] = False
    measure("forty, positives are rare", logits_of(np.where(flip, 1 - labels, labels), scale=3.0), labels)
    labels = case.boolean(31, p=0.8).long().cpu().numpy()
    labels[:2] = 0, 1
    flip = case.boolean(31, p=0.3).cpu().numpy()
    flip[1] = False
    measure("thirty-one, positives are many", logits_of(np.where(flip, 1 - labels, labels), scale=3.0).astype(np.float16), labels)
    measure("a tuple of one", (logits_of([1, 0, 1, 0, 0, 1]),), [1, 1, 0, 0, 1, 1])
    measure("large logits", 500 * logits_of([1, 0, 0, 1, 1]), [1, 0, 1, 1, 0])
    measure("one example", logits_of([1]), [1])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "compute_metrics",
    "For each sentence there are two logits. Which class do they name, whatever their signs?",
    "The formula above; scikit-learn's `accuracy_score` and `f1_score` (whose default is exactly F1 of class 1) want labels first, then predicted classes.",
    "Take the first item if predictions are a tuple, the argmax over the last axis, and put both scores into a dictionary under the two names.",
)
misconceptions(
    "compute_metrics",
    mistake("logit of class 1 above 0", ("np.argmax(logits, axis=-1)", "(logits[:, 1] > 0).astype(int)"),
            says="A sentence counts as positive if the logit of class 1 is above 0. Logits have no zero point: compare the two with each other."),  # fmt: skip
    mistake("logit of class 1 above one half", ("np.argmax(logits, axis=-1)", "(logits[:, 1] > 0.5).astype(int)"),
            says="A sentence counts as positive if the logit of class 1 is above 0.5. Logits are no probabilities: compare the two with each other."),  # fmt: skip
    mistake("argmin", ("np.argmax", "np.argmin"),
            says="The class with the smaller logit is taken; the larger one is the model's choice."),  # fmt: skip
    mistake("argmax over the sentences", ("axis=-1)", "axis=0)"),
            says="The argmax runs over the sentences; it has to run over the classes, the last axis."),  # fmt: skip
    mistake("argmax over everything", (", axis=-1)", ")"),
            says="Without an axis argmax gives one number for the whole array; it has to run over the classes, the last axis."),  # fmt: skip
    mistake("the logits themselves", ("np.argmax(logits, axis=-1)", "logits"),
            says="Logits are compared with labels. Turn them into classes first, by argmax."),  # fmt: skip
    mistake("a tuple is not unpacked", ("    if isinstance(logits, tuple):\n        logits = logits[0]\n", ""),
            says="Where predictions are a tuple (logits and more) its first item has to be taken."),  # fmt: skip
    mistake("the last of a tuple", ("logits = logits[0]", "logits = logits[-1]"),
            says="The last item of the tuple is taken; the logits are the first."),  # fmt: skip
    mistake("always the first item", ("    if isinstance(logits, tuple):\n        logits = logits[0]\n", "    logits = logits[0]\n"),
            says="The first item is taken even of an array, which is the first sentence alone. Only a tuple is unpacked."),  # fmt: skip
    mistake("macro F1", ("zero_division=0", "zero_division=0, average='macro'"),
            says="F1 is averaged over both classes (macro); for two classes that of class 1 is meant."),  # fmt: skip
    mistake("weighted F1", ("zero_division=0", "zero_division=0, average='weighted'"),
            says="F1 is averaged over both classes by their size (weighted); for two classes that of class 1 is meant."),  # fmt: skip
    mistake("micro F1", ("zero_division=0", "zero_division=0, average='micro'"),
            says="The micro average of F1 is accuracy again; F1 of class 1 is meant."),  # fmt: skip
    mistake("F1 of class 0", ("zero_division=0", "zero_division=0, pos_label=0"),
            says="F1 is that of class 0; the positive class is 1."),  # fmt: skip
    mistake("F1 is 1 where there is nothing to find", ("zero_division=0", "zero_division=1"),
            says="F1 is 1 where neither labels nor predictions hold a positive; it is 0 where there is no true positive."),  # fmt: skip
    mistake("0/0 in F1", ("f1_score(labels, predicted, zero_division=0)", "float(np.float64(2 * ((labels == 1) & (predicted == 1)).sum()) / np.float64((labels == 1).sum() + (predicted == 1).sum()))"),
            says="F1 is not a number where neither labels nor predictions hold a positive: 0/0. Say 0 there."),  # fmt: skip
    mistake("by precision and recall, 0/0", ("    return {\"accuracy\": accuracy_score(labels, predicted), \"f1\": f1_score(labels, predicted, zero_division=0)}",
            "    hits = float(((labels == 1) & (predicted == 1)).sum())\n    p, r = hits / float((predicted == 1).sum()), hits / float((labels == 1).sum())\n    return {\"accuracy\": accuracy_score(labels, predicted), \"f1\": 2 * p * r / (p + r)}"),
            says="Precision and recall are divided by counts that can be 0. With F1 = 2TP / (2TP + FP + FN) there is one division, and one case in which F1 is said to be 0."),  # fmt: skip
    mistake("in percent", ("accuracy_score(labels, predicted)", "100 * accuracy_score(labels, predicted)"),
            says="Accuracy is given in percent; a share from 0 to 1 is wanted."),  # fmt: skip
    mistake("a count", ("accuracy_score(labels, predicted)", "accuracy_score(labels, predicted, normalize=False)"),
            says="Correct sentences are counted; the share of them is wanted."),  # fmt: skip
    mistake("balanced accuracy", ("accuracy_score(labels, predicted)", "float(np.mean([(predicted[labels == c] == c).mean() for c in np.unique(labels)]))"),
            says="Accuracy is averaged over the classes (balanced accuracy); the share of correct sentences is meant."),  # fmt: skip
    mistake("precision for F1", ("f1_score(labels, predicted, zero_division=0)", "float(((labels == 1) & (predicted == 1)).sum() / max((predicted == 1).sum(), 1))"),
            says="f1 is precision: of the predicted positives, how many are right. F1 also counts the positives that were missed."),  # fmt: skip
    mistake("recall for F1", ("f1_score(labels, predicted, zero_division=0)", "float(((labels == 1) & (predicted == 1)).sum() / max((labels == 1).sum(), 1))"),
            says="f1 is recall: of the positives, how many were found. F1 also counts false alarms."),  # fmt: skip
    mistake("arithmetic mean", ("f1_score(labels, predicted, zero_division=0)",
            "float(((labels == 1) & (predicted == 1)).sum() / max((predicted == 1).sum(), 1) + ((labels == 1) & (predicted == 1)).sum() / max((labels == 1).sum(), 1)) / 2"),
            says="f1 is the arithmetic mean of precision and recall; the harmonic mean is meant."),  # fmt: skip
    mistake("overlap for F1", ("f1_score(labels, predicted, zero_division=0)", "float(((labels == 1) & (predicted == 1)).sum() / max(((labels == 1) | (predicted == 1)).sum(), 1))"),
            says="f1 is TP / (TP + FP + FN), the overlap (Jaccard index). True positives count twice in F1, above and below."),  # fmt: skip
    mistake("other names", ("\"accuracy\": accuracy_score", "\"acc\": accuracy_score"),
            says="The entry is not named \"accuracy\". Trainer logs it as eval_<name>, and the rest of the notebook looks for that."),  # fmt: skip
    mistake("F1 in a capital letter", ("\"f1\": f1_score", "\"F1\": f1_score"),
            says="The entry is not named \"f1\", in small letters."),  # fmt: skip
    mistake("two numbers instead of a dictionary", ("return {\"accuracy\": accuracy_score(labels, predicted), \"f1\": f1_score(labels, predicted, zero_division=0)}", "return accuracy_score(labels, predicted), f1_score(labels, predicted, zero_division=0)"),
            says="Two numbers are returned without their names; Trainer needs a dictionary."),  # fmt: skip
    mistake("rounded", ("accuracy_score(labels, predicted)", "round(accuracy_score(labels, predicted), 2)"),
            says="Accuracy is rounded to two digits. Round when you print, not before."),  # fmt: skip
)


_both = "`return {\"accuracy\": accuracy_score(labels, predicted), \"f1\": f1_score(labels, predicted, zero_division=0)}` → "
equivalents(
    "compute_metrics",
    {
        f"arguments swapped: {_both}`return {{\"accuracy\": accuracy_score(predicted, labels), \"f1\": f1_score(labels, predicted, zero_division=0)}}`": "whether two "
        "lists agree does not depend on which comes first",
        f"arguments swapped: {_both}`return {{\"accuracy\": accuracy_score(labels, predicted), \"f1\": f1_score(predicted, labels, zero_division=0)}}`": "false alarms and "
        "misses change places, and F1 counts them alike",
        f"option dropped: {_both}`return {{\"accuracy\": accuracy_score(labels, predicted), \"f1\": f1_score(labels, predicted)}}`": "scikit-learn's default is 0 too, with a warning",
    },
)


# %% tags=["alternative"]
@alternative("counts of each kind")
def compute_metrics(eval_prediction):
    logits, labels = eval_prediction
    if isinstance(logits, (tuple, list)):
        logits = logits[0]
    predicted = logits[:, 1] > logits[:, 0]
    positive = np.asarray(labels) == 1
    tp, fp, fn = (predicted & positive).sum(), (predicted & ~positive).sum(), (~predicted & positive).sum()
    below = 2 * tp + fp + fn
    return {"accuracy": float((predicted == positive).mean()), "f1": float(2 * tp / below) if below else 0.0}


# %% tags=["alternative"]
@alternative("in torch, precision and recall")
def compute_metrics(eval_prediction):
    logits = eval_prediction.predictions
    logits = torch.as_tensor(logits[0] if isinstance(logits, tuple) else logits).float()
    labels = torch.as_tensor(eval_prediction.label_ids)
    chosen = logits.softmax(-1).argmax(-1)
    hits = ((chosen == 1) & (labels == 1)).sum().item()
    f1 = 0.0
    if hits:
        precision, recall = hits / (chosen == 1).sum().item(), hits / (labels == 1).sum().item()
        f1 = 2 * precision * recall / (precision + recall)
    return {"accuracy": (chosen == labels).float().mean().item(), "f1": f1}


# %% tags=["alternative"]
@alternative("a loop, with more entries")
def compute_metrics(eval_prediction):
    logits = eval_prediction.predictions
    while isinstance(logits, tuple):
        logits = logits[0]
    right = tp = wrong = 0
    for (negative, positive), label in zip(logits.tolist(), eval_prediction.label_ids.tolist()):
        predicted = int(positive > negative)
        right += predicted == label
        tp += predicted == label == 1
        wrong += predicted != label
    return {"accuracy": right / len(logits), "f1": 2 * tp / max(2 * tp + wrong, 1), "errors": wrong}


# %% tags=["alternative"]
@alternative("a confusion matrix")
def compute_metrics(eval_prediction):
    from sklearn.metrics import confusion_matrix

    logits = eval_prediction.predictions[0] if type(eval_prediction.predictions) is tuple else eval_prediction.predictions
    matrix = confusion_matrix(eval_prediction.label_ids, logits.argmax(1), labels=[0, 1])
    off = matrix[0, 1] + matrix[1, 0]
    return dict(accuracy=np.trace(matrix) / matrix.sum(), f1=0 if matrix[1, 1] == 0 else 2 * matrix[1, 1] / (2 * matrix[1, 1] + off))

# %% [markdown]
# ## Exercise 3 · `fine_tune`
#
# *Difficulty ●●○ · 25 minutes · 5 points*
#
# `Trainer` is the loop of week 3 with everything around it: it shuffles, pads each batch (through a *collator*), runs the model in training mode, back-propagates, clips, steps AdamW and the schedule, and stops now and then to evaluate in
# evaluation mode. `TrainingArguments` says how. Its defaults are for long runs on a cluster, so some have to be changed:
#
# | | by default | here | why |
# | --- | --- | --- | --- |
# | checkpoints | written into a folder | none | nobody asked for hundreds of megabytes in your folder |
# | reports | to services that are installed (older versions: all of them) | none | nothing leaves the machine |
# | logging | every 500 steps | every step | a curve of 48 steps needs them |
# | evaluation | never | after every epoch, with `compute_metrics` | |
# | batch size, rate, epochs | 8, 5e-5, 3 | arguments | |
# | clipping | at norm 1 | the same | the paper's code does so too |
# | schedule | linear to 0 | the same, after `warmup_steps` | appendix A.2 of the paper |
# | decay | 0 | `weight_decay`, on all but biases and LayerNorm (`Trainer` sees to that) | appendix A.2: 0.01 |
#
# The device is that of the model: without `use_cpu`, `Trainer` moves a model to any GPU it sees.


# %% tags=["export"]
def fine_tune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    train: Dataset,
    validation: Dataset,
    learning_rate: float = 5e-5,
    batch_size: int = 32,
    epochs: int = 3,
    warmup_steps: int = 0,
    weight_decay: float = 0.01,
    seed: int = 0,
) -> Trainer:
    """Train all weights of a model on labelled texts, with transformers' Trainer.

    Args:
        model: a model of transformers that takes input_ids, attention_mask and labels and returns a
            loss; trained in place, where it is (CPU or GPU).
        tokenizer: pads the batches, each to its own longest text.
        train, validation: with columns "label", "input_ids" and "attention_mask" (as
            `tokenize_batch` makes them), and perhaps others, such as "text".
        learning_rate: reached after warmup_steps, from 0, both ways linearly; at the end it is back at 0.
        batch_size, epochs: every text of `train` once an epoch, in batches of so many, the last of
            which may be smaller.
        weight_decay: AdamW's, on all parameters but biases and LayerNorm.
        seed: of the order, which is another in every epoch.

    Returns: the Trainer, after training. Its `state.log_history` has the loss of every step
        ("loss") and what `compute_metrics` says about `validation` after every epoch
        ("eval_accuracy", "eval_f1"). Nothing is written to the working folder, nothing reported to
        any service.
    """
    ### BEGIN SOLUTION
    with tempfile.TemporaryDirectory() as folder:
        nothing_kept = {"output_dir": folder, "save_strategy": "no", "report_to": "none"}
        where = {"use_cpu": next(model.parameters()).device.type == "cpu"}
        arguments = TrainingArguments(
            **nothing_kept,
            **where,
            eval_strategy="epoch",
            logging_steps=1,
            learning_rate=learning_rate,
            per_device_train_batch_size=batch_size,
            num_train_epochs=epochs,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
            seed=seed,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=compute_metrics,
        )
        trainer.train()
    return trainer
    ### END SOLUTION


# %%
@check("fine_tune", points=5, paper="BERT, section 4.1 and appendix A.3")
def _(case):
    tokenizer = small_tokenizer()
    gc.freeze()  # Trainer collects garbage whenever it starts; what is there by now need not be looked through each time

    def examples(lengths):
        """Texts of given lengths, all different, labels in turn."""
        texts = []
        for length in lengths:
            while not texts or len(texts) < len(lengths):
                text = " ".join(WORDS[i] for i in case.integers(0, len(WORDS), length).tolist())
                if text not in texts:
                    texts.append(text)
                    break
        rows = tokenizer(texts)
        return Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))], "input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]})

    def train(name, train, validation, values=True, **settings):
        """One training of a small model, and what can be seen of it from outside. values: losses and weights too, which must not depend on the order."""
        model = small_bert(case)
        texts = {tuple(row): i for i, row in enumerate([*train["input_ids"], *validation["input_ids"]])}
        seen = {"order": [], "sizes": [], "widths": [], "masks": [], "rates": [], "validated": []}

        def look(module, args, inputs):
            rows = [tuple(token for token in row if token) for row in inputs["input_ids"].tolist()]
            numbers = [texts.get(row, -1) for row in rows]
            if not torch.is_grad_enabled():
                seen["validated"].append(numbers)
                return
            seen["order"].append(numbers)
            seen["sizes"].append(len(rows))
            seen["widths"].append(inputs["input_ids"].shape[1] == max(map(len, rows)))
            mask = inputs.get("attention_mask")
            seen["masks"].append(mask is not None and bool((mask.bool() == (inputs["input_ids"] != 0)).all()))

        def note_rate(optimiser, args, kwargs):
            seen["rates"].append(max(group["lr"] for group in optimiser.param_groups))

        before = {key: value.detach().clone() for key, value in model.state_dict().items()}
        stepping = register_optimizer_step_pre_hook(note_rate)
        looking = model.register_forward_pre_hook(look, with_kwargs=True)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # over matrices this small, threads would only wait for each other
        try:
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), capture_output():
                trainer = fine_tune(model, tokenizer, train, validation, **settings)
                files = sorted(os.listdir("."))
        finally:
            torch.set_num_threads(threads)
            stepping.remove(), looking.remove()
        case.record(f"{name}: what comes back", type(trainer).__name__ if not isinstance(trainer, Trainer) else "a Trainer")
        if not isinstance(trainer, Trainer):
            return seen
        told = [service for service in trainer.args.report_to if service != "none"]
        case.record(f"{name}: services that are told", ", ".join(told) or "none", about="services:")
        history = trainer.state.log_history
        losses = [entry["loss"] for entry in history if "loss" in entry]
        steps, per_epoch = len(seen["sizes"]), -(-len(train) // settings.get("batch_size", 32))
        case.record(f"{name}: texts in each batch", seen["sizes"], about="texts in batch")
        each = [sorted(sum(seen["order"][i : i + per_epoch], [])) for i in range(0, steps, per_epoch)]
        case.record(f"{name}: every training text once an epoch", [numbers == list(range(len(train))) for numbers in each], about="so in epoch")
        case.record(f"{name}: each batch as wide as its longest text", all(seen["widths"]), about="so:")
        case.record(f"{name}: the attention mask tells padding from text", all(seen["masks"]), about="so:")
        case.record(f"{name}: learning rate of each step", seen["rates"], about="rate of step")
        case.record(f"{name}: files in the working folder", " ".join(files) or "none", about="files:")
        case.record(f"{name}: losses in the log", len(losses), about="number of losses in the log")
        case.record(f"{name}: texts evaluated", sorted(set(sum(seen["validated"], []))) == list(range(len(train), len(train) + len(validation))), about="exactly the validation texts:")
        evaluated = list({entry["step"]: entry for entry in history if "eval_loss" in entry}.values())  # once more at the end is no harm
        case.record(f"{name}: evaluations with accuracy and F1 in the log", ["eval_accuracy" in entry and "eval_f1" in entry for entry in evaluated], about="so in evaluation")
        if values:
            case.record(f"{name}: validation accuracies", [entry.get("eval_accuracy") for entry in evaluated], about="accuracy after epoch")
            moved = {key: bool((value.cpu() != before[key].cpu()).any()) for key, value in model.state_dict().items() if key.endswith("weight")}
            case.record(f"{name}: which weights changed", moved, about="changed:")
            case.record(f"{name}: losses, step by step", losses, tol=5e-4, about="loss of step")  # older versions log four digits
            batch = tokenizer([*train["text"], *validation["text"]], padding=True, return_tensors="pt").to(next(model.parameters()).device)
            with torch.no_grad():
                logits = model.eval()(**batch).logits
            case.record(f"{name}: logits afterwards", logits.cpu(), tol=2e-3, about="logits")
        return seen

    few, others = examples([3, 5, 2, 6, 4]), examples([4, 2, 5])
    train("one batch an epoch, three epochs (the default)", few, others, learning_rate=0.02, batch_size=5)
    train("warm-up and decay", few, others, learning_rate=0.03, batch_size=8, epochs=4, warmup_steps=2, weight_decay=2.0)
    many = examples([2, 6, 3, 5, 4, 7, 3, 2, 5, 6, 4])
    first = train("batches of four, two epochs", many, few, values=False, learning_rate=0.001, batch_size=4, epochs=2, seed=3)
    again = train("the same again", many, few, values=False, learning_rate=0.001, batch_size=4, epochs=2, seed=3)
    other = train("another seed, the default rate", many, few, values=False, batch_size=4, epochs=2, seed=4)
    order = [sum(seen["order"], []) for seen in (first, again, other)]
    case.record(
        "the order",
        {"shuffled": order[0][:11] != list(range(11)), "anew in the second epoch": order[0][:11] != order[0][11:], "the same with the same seed": order[0] == order[1], "another with another seed": order[0] != order[2]},
        about="order:",
    )
    ### BEGIN HIDDEN TESTS
    train("eighteen texts, the default batch size", examples([7, 2, 4, 3, 6, 5, 8, 2, 3, 4, 5, 6, 3, 4, 2, 5, 3, 4]), few, learning_rate=0.015, epochs=2, warmup_steps=1, weight_decay=0.5)
    train("one long text among short ones", examples([12, 1, 2, 3]), others, learning_rate=0.02, batch_size=4, epochs=3, weight_decay=0.0)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "fine_tune",
    "Which of the ten arguments have you handed over, and where? And what does `Trainer` do by itself that the docstring does not want?",
    "The documentation of `TrainingArguments`: output_dir, save_strategy, report_to, eval_strategy, logging_steps, learning_rate, per_device_train_batch_size, num_train_epochs, warmup_steps, weight_decay, seed, use_cpu. The table above says which way.",
    "Build the arguments, with a temporary folder for what Trainer might write; build a Trainer from model, arguments, both datasets, a DataCollatorWithPadding of the tokenizer and compute_metrics; train; return the Trainer.",
)
misconceptions(
    "fine_tune",
    mistake("learning rate ignored", ("            learning_rate=learning_rate,\n", ""),
            says="The learning rate is not handed over: Trainer takes 5e-5, whatever the caller says."),  # fmt: skip
    mistake("epochs ignored", ("            num_train_epochs=epochs,\n", ""),
            says="The number of epochs is not handed over: Trainer takes 3."),  # fmt: skip
    mistake("epochs taken for steps", ("num_train_epochs=epochs", "max_steps=epochs"),
            says="The number of epochs is used as the number of steps (max_steps)."),  # fmt: skip
    mistake("batch size ignored", ("            per_device_train_batch_size=batch_size,\n", ""),
            says="The batch size of training is not handed over: Trainer takes 8."),  # fmt: skip
    mistake("the encoder is frozen", ("    with tempfile", "    for parameter in model.base_model.parameters():\n        parameter.requires_grad = False\n    with tempfile"),
            says="The encoder is frozen and only the classifier learns. In fine-tuning all weights are trained."),  # fmt: skip
    mistake("the embeddings are frozen", ("    with tempfile", "    model.get_input_embeddings().weight.requires_grad = False\n    with tempfile"),
            says="The embeddings are frozen. In fine-tuning all weights are trained."),  # fmt: skip
    mistake("padded to a fixed length", ("DataCollatorWithPadding(tokenizer)", "DataCollatorWithPadding(tokenizer, padding='max_length', max_length=tokenizer.model_max_length)"),
            says="Every batch is padded to the tokenizer's maximal length; pad each to its own longest text."),  # fmt: skip
    mistake("padded to a multiple of eight", ("DataCollatorWithPadding(tokenizer)", "DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)"),
            says="Batches are padded to a multiple of eight. Some hardware likes that; asked for is the longest text."),  # fmt: skip
    mistake("attention mask lost", ("train_dataset=train", "train_dataset=train.remove_columns('attention_mask')"),
            ("data_collator=DataCollatorWithPadding(tokenizer)", "data_collator=lambda rows: {k: v for k, v in DataCollatorWithPadding(tokenizer)(rows).items() if k != 'attention_mask'}"),
            says="The model gets no attention mask, so padding is read as if it were text, and a sentence's logits depend on its neighbours' lengths."),  # fmt: skip
    mistake("labels lost", ("train_dataset=train", "train_dataset=train.select_columns(['input_ids', 'attention_mask'])"),
            says="The labels are dropped from the training data, so the model returns no loss. Keep the column \"label\"; the collator renames it \"labels\", as the model wants it."),  # fmt: skip
    mistake("no padding", ("            data_collator=DataCollatorWithPadding(tokenizer),\n", ""),
            says="Nothing pads the batches, and texts of unequal length make no tensor. Hand over a DataCollatorWithPadding."),  # fmt: skip
    mistake("trained on the validation part", ("train_dataset=train", "train_dataset=validation"),
            says="The model is trained on the validation part, on which it is to be measured."),  # fmt: skip
    mistake("trained on both parts", ("train_dataset=train", "train_dataset=__import__('datasets').concatenate_datasets([train, validation])"),
            says="The validation part is trained on as well, so that it measures nothing."),  # fmt: skip
    mistake("evaluated on the training part", ("eval_dataset=validation", "eval_dataset=train"),
            says="The evaluation uses the training part. What was learned by heart looks good there."),  # fmt: skip
    mistake("never evaluated", ("            eval_strategy=\"epoch\",\n", ""),
            says="Nothing is evaluated while training: eval_strategy is \"no\" by default."),  # fmt: skip
    mistake("evaluated at every step", ("eval_strategy=\"epoch\"", "eval_strategy=\"steps\", eval_steps=1"),
            says="The model is evaluated after every step; after every epoch is wanted."),  # fmt: skip
    mistake("no metrics", ("            compute_metrics=compute_metrics,\n", ""),
            says="compute_metrics is not handed to Trainer, so that the log has a validation loss and no accuracy."),  # fmt: skip
    mistake("never trained", ("        trainer.train()\n", ""),
            says="The Trainer is built and never told to train()."),  # fmt: skip
    mistake("evaluated instead of trained", ("trainer.train()", "trainer.evaluate()"),
            says="The Trainer evaluates and never trains."),  # fmt: skip
    mistake("a copy is trained", ("model=model,", "model=__import__('copy').deepcopy(model),"),
            says="A copy is trained and the caller's model stays as it was; it is to be trained in place."),  # fmt: skip
    mistake("trained twice", ("trainer.train()", "trainer.train()\n        trainer.train()"),
            says="train() is called twice, and the second call begins anew with twice the epochs in all."),  # fmt: skip
    mistake("not shuffled", ("trainer.train()", "trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(train)\n        trainer.train()"),
            says="The texts come in the order of the data set, every epoch. They are to be shuffled."),  # fmt: skip
    mistake("seed ignored", ("            seed=seed,\n", ""),
            says="The seed is not handed over: every run uses Trainer's own, 42, and all have the same order."),  # fmt: skip
    mistake("a constant rate", ("learning_rate=learning_rate", "learning_rate=learning_rate, lr_scheduler_type='constant_with_warmup'"),
            says="The learning rate stays at its height after the warm-up; it should fall linearly to 0."),  # fmt: skip
    mistake("a cosine", ("learning_rate=learning_rate", "learning_rate=learning_rate, lr_scheduler_type='cosine'"),
            says="The learning rate follows a cosine; linear is asked for (and is Trainer's default)."),  # fmt: skip
    mistake("no warm-up", ("            warmup_steps=warmup_steps,\n", ""),
            says="The warm-up is not handed over: the rate is at its height from the first step."),  # fmt: skip
    mistake("no weight decay", ("            weight_decay=weight_decay,\n", ""),
            says="The weight decay is not handed over: Trainer's own is 0."),  # fmt: skip
    mistake("checkpoints in the working folder", ("\"output_dir\": folder", "\"output_dir\": \"results\""), ("\"save_strategy\": \"no\"", "\"save_strategy\": \"epoch\""),
            says="A checkpoint is written after every epoch, into the working folder. With a model of 66 million parameters each has 800 megabytes."),  # fmt: skip
    mistake("losses every 500 steps", ("            logging_steps=1,\n", ""),
            says="The loss is logged every 500 steps (the default), which here means never. Log every step."),  # fmt: skip
    mistake("losses once an epoch", ("logging_steps=1", "logging_strategy=\"epoch\""),
            says="The loss is logged once an epoch, as a mean. Log every step."),  # fmt: skip
    mistake("the last batch is dropped", ("seed=seed", "seed=seed,\n            dataloader_drop_last=True"),
            says="The last, smaller batch of an epoch is dropped, and with it a few texts."),  # fmt: skip
    mistake("gradients accumulated", ("seed=seed", "seed=seed,\n            gradient_accumulation_steps=2"),
            says="Gradients of two batches are accumulated before each step, so that there are half as many steps."),  # fmt: skip
    mistake("the log is returned", ("return trainer", "return trainer.state.log_history"),
            says="The log is returned; the Trainer is wanted, which has the log and can predict."),  # fmt: skip
    mistake("the model is returned", ("return trainer", "return model"),
            says="The model is returned, which the caller has. The Trainer is wanted, with its log."),  # fmt: skip
    mistake("train()'s result is returned", ("        trainer.train()\n    return trainer", "        return trainer.train()"),
            says="What train() returns is a summary (TrainOutput); the Trainer itself is wanted."),  # fmt: skip
    mistake("label smoothing", ("seed=seed", "seed=seed,\n            label_smoothing_factor=0.1"),
            says="Labels are smoothed by 0.1. The Transformer paper does so in translation; BERT's fine-tuning uses the plain cross-entropy."),  # fmt: skip
)


equivalents(
    "fine_tune",
    {
        "comparison: `where = {\"use_cpu\": next(model.parameters()).device.type == \"cpu\"}` → "
        "`where = {\"use_cpu\": next(model.parameters()).device.type != \"cpu\"}`": "where there is no GPU, Trainer uses the CPU anyway",
    },
)


# %% tags=["alternative"]
@alternative("padding left to Trainer, columns by hand")
def fine_tune(model, tokenizer, train, validation, learning_rate=5e-5, batch_size=32, epochs=3, warmup_steps=0, weight_decay=0.01, seed=0):
    def needed(dataset):
        return dataset.select_columns(["label", "input_ids", "attention_mask"]).rename_column("label", "labels")

    arguments = TrainingArguments(
        tempfile.mkdtemp(), learning_rate=learning_rate, lr_scheduler_type="linear", warmup_steps=warmup_steps, weight_decay=weight_decay, seed=seed, data_seed=seed,
        per_device_train_batch_size=batch_size, per_device_eval_batch_size=batch_size, num_train_epochs=float(epochs), logging_strategy="steps", logging_steps=1,
        eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=model.device.type == "cpu", remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=needed(train), eval_dataset=needed(validation), processing_class=tokenizer, compute_metrics=compute_metrics)
    trainer.train()
    return trainer


# %% tags=["alternative"]
@alternative("optimiser and schedule by hand")
def fine_tune(model, tokenizer, train, validation, learning_rate=5e-5, batch_size=32, epochs=3, warmup_steps=0, weight_decay=0.01, seed=0):
    total = epochs * -(-len(train) // batch_size)
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "LayerNorm" in n]
    decayed = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "LayerNorm" in n)]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=learning_rate)

    def factor(step):
        return step / warmup_steps if step < warmup_steps else max(0.0, (total - step) / max(1, total - warmup_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    settings = dict(output_dir=tempfile.mkdtemp(), save_strategy="no", report_to="none", eval_strategy="epoch", logging_steps=1, num_train_epochs=epochs)
    settings |= dict(per_device_train_batch_size=batch_size, seed=seed, use_cpu=True)
    trainer = Trainer(
        model=model, args=TrainingArguments(**settings), train_dataset=train, eval_dataset=validation, data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics, optimizers=(optimiser, schedule),
    )  # fmt: skip
    trainer.train()
    return trainer


# %% tags=["alternative"]
@alternative("a collator and a loss of one's own")
def fine_tune(model, tokenizer, train, validation, learning_rate=5e-5, batch_size=32, epochs=3, warmup_steps=0, weight_decay=0.01, seed=0):
    def collate(rows):
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long(), "labels": torch.tensor([row["label"] for row in rows])}

    class Classifying(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            outputs = model(**inputs)
            loss = nn.functional.cross_entropy(outputs.logits, inputs["labels"])
            return (loss, outputs) if return_outputs else loss

    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(), save_strategy="no", report_to="none", eval_strategy="epoch", logging_steps=1, learning_rate=learning_rate, num_train_epochs=epochs, use_cpu=True,
        per_device_train_batch_size=batch_size, warmup_steps=warmup_steps, weight_decay=weight_decay, seed=seed, optim="adamw_torch", max_grad_norm=1.0, logging_first_step=True,
    )  # fmt: skip
    trainer = Classifying(model, arguments, collate, train, validation, compute_metrics=compute_metrics)
    trainer.train()
    return trainer


# %% tags=["alternative"]
@alternative("evaluation by steps, as many as an epoch has")
def fine_tune(model, tokenizer, train, validation, learning_rate=5e-5, batch_size=32, epochs=3, warmup_steps=0, weight_decay=0.01, seed=0):
    from math import ceil

    in_epoch = ceil(len(train) / batch_size)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, save_strategy="no", report_to="none", eval_strategy="steps", eval_steps=in_epoch, logging_steps=1, max_steps=epochs * in_epoch, learning_rate=learning_rate,
            per_device_train_batch_size=batch_size, warmup_steps=warmup_steps, weight_decay=weight_decay, seed=seed, use_cpu=True, dataloader_num_workers=0,
        )  # fmt: skip
        keep = ["label", "input_ids", "attention_mask"]
        trainer = Trainer(
            model=model, args=arguments, train_dataset=train.with_format("torch", columns=keep), eval_dataset=validation.with_format("torch", columns=keep),
            data_collator=DataCollatorWithPadding(tokenizer=tokenizer, padding="longest"), compute_metrics=lambda prediction: compute_metrics(prediction),
        )  # fmt: skip
        trainer.train()
    return trainer


# %% [markdown]
# ### Fine-tune
#
# The real thing: the pretrained model, on the sentences above.

# %% tags=["picture"]
import time

steps = SETTINGS["epochs"] * -(-len(datasets["train"]) // SETTINGS["batch_size"])
started = time.perf_counter()
trainer = fine_tune(
    model, tokenizer, datasets["train"], datasets["validation"],
    learning_rate=SETTINGS["learning_rate"], batch_size=SETTINGS["batch_size"], epochs=SETTINGS["epochs"], warmup_steps=steps // 10, seed=SEED,
)  # fmt: skip
seconds = time.perf_counter() - started
test_metrics = compute_metrics(trainer.predict(datasets["test"]))
baseline_logits = np.stack([1 - baseline_predictions, baseline_predictions], axis=1)
baseline_metrics = compute_metrics(EvalPrediction(predictions=baseline_logits, label_ids=np.array(labels["test"])))
print(f"{MODEL}: {steps} steps on {len(texts['train'])} sentences, {seconds:.0f} s on {device}")
for name, metrics in {"bag of words": baseline_metrics, MODEL: test_metrics}.items():
    print(f"{name:24} test accuracy {metrics['accuracy']:.1%}   F1 {metrics['f1']:.3f}")

# %% tags=["picture"]
history = trainer.state.log_history
loss_steps, losses = zip(*[(entry["step"], entry["loss"]) for entry in history if "loss" in entry])
eval_steps, accuracies = zip(*[(entry["step"], entry["eval_accuracy"]) for entry in history if "eval_accuracy" in entry])
window = max(1, len(losses) // 50)
smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(loss_steps[window - 1 :], smooth, color=BLUE)
left.axhline(np.log(2), color=GREY, linestyle="--", label="ln 2: knows nothing")
left.set(title="Training loss", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
right.plot(eval_steps, accuracies, "o-", color=BLUE, label=f"{MODEL}, validation")
right.axhline(test_metrics["accuracy"], color=BLUE, linestyle=":", label="the same, test")
right.axhline(baseline_metrics["accuracy"], color=ORANGE, linestyle="--", label="bag of words, test")
right.set(title="Accuracy", xlabel="step", ylabel="share right", ylim=(0, 1.01), xlim=(0, None))
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right" if axis is right else "lower left")
plt.show()

# %% [markdown]
# **What to see.** The loss begins at $\ln 2$, where both classes are equally likely, and falls within some dozens of steps: most of what is needed was there before. The accuracy on the test part is printed above, next to that of the bag of
# words. In the quick profile its words are new; the baseline has to guess from what stands around them, and the pretrained model knows them. After the quick profile's two epochs the validation accuracy still rises: try a third one.
# (The quick profile's sentences and learning rate were chosen with the test part in view, so its accuracy flatters a little. On data of your own, choose on the validation part and look at the test part once.)

# %% [markdown]
# ## Exercise 4 · `predict_probabilities`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# A `Trainer` is not what one takes to a user. To judge new texts you need four lines, and each has a way to go wrong in silence: evaluation mode, no gradients, padding *with its mask*, and a softmax over the classes.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | dropout | 0.1 in training | off: evaluation mode, and afterwards the mode it found | else the same text gets another answer every time |
# | batches | nothing | `batch_size` texts at a time, in the given order | all of them at once may not fit into memory |


# %% tags=["export"]
def predict_probabilities(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str],
    max_length: int = 128, batch_size: int = 64,
) -> Tensor:
    """What a classifier of transformers thinks of texts.

    Args:
        model: takes input_ids and attention_mask, gives `.logits` (B, C). It may be in either mode
            and is left in the mode it was found in.
        tokenizer: has a padding token.
        texts: at least one.
        max_length: longer texts lose their end. batch_size: how many texts the model sees at a time, at most.

    Returns: probabilities (N, C) on the CPU, without gradients: row i is that of text i and adds up to 1.
    """
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    rows = []
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            chunk = list(texts[start : start + batch_size])
            batch = tokenizer(chunk, truncation=True, max_length=max_length, padding=True, return_tensors="pt").to(device)
            rows.append(torch.softmax(model(**batch).logits, dim=-1).cpu())
    model.train(was_training)
    return torch.cat(rows)
    ### END SOLUTION


# %%
@check("predict_probabilities", points=4)
def _(case):
    tokenizer = small_tokenizer()

    def drawn(length):
        return " ".join(WORDS[i] for i in case.integers(0, len(WORDS), length).tolist())

    def predict(name, texts, classes=2, training=True, gradient=False, **options):
        model = small_bert(case, classes, dropout=0.3, positions=128)  # as many as the default max_length, which may be padded to
        model.train(training)
        seen = {"training mode": set(), "gradients": set(), "most texts at a time": 0}

        def look(module, args, inputs):
            seen["training mode"].add(module.training), seen["gradients"].add(torch.is_grad_enabled())
            given = inputs["input_ids"] if "input_ids" in inputs else args[0]
            seen["most texts at a time"] = max(seen["most texts at a time"], len(given))

        looking = model.register_forward_pre_hook(look, with_kwargs=True)
        try:
            result = predict_probabilities(model, tokenizer, texts, **options)
            gradients_afterwards = torch.is_grad_enabled()
        finally:
            torch.set_grad_enabled(True)
            looking.remove()
        limit = options.get("batch_size", 64)
        case.record(f"{name}: in training mode while it predicts", any(seen["training mode"]), about="training mode")
        case.record(f"{name}: keeps what a backward pass needs", any(seen["gradients"]) or (isinstance(result, Tensor) and result.requires_grad), about="so:")
        case.record(f"{name}: at most batch_size texts at a time", seen["most texts at a time"] <= limit, about="so:")
        case.record(f"{name}: training mode afterwards", model.training, about="training mode")
        case.record(f"{name}: gradients can be computed afterwards", gradients_afterwards, about="so:")
        case.record(f"{name}: probabilities", result.detach() if isinstance(result, Tensor) else result, any_dtype=True)

    predict("one text", ["the film was good"])
    predict("three texts of unequal length", ["bad", "the plot was not very good", "a film so long and so dull"], training=False)
    predict("five texts, two at a time", [drawn(n) for n in (3, 7, 1, 5, 2)], batch_size=2, max_length=20)
    predict("three classes", [drawn(n) for n in (6, 2, 4, 3)], classes=3)
    predict("a long text is cut", [drawn(9), drawn(2)], max_length=5)
    predict("an empty text, and one far too long", ["", drawn(60)], max_length=32)
    predict("capitals, and words that the tokenizer does not know", ["The film was Good", "SO dull"])
    predict("twenty words, and no limit is given", [drawn(20), drawn(2)])
    ### BEGIN HIDDEN TESTS
    predict("as many at a time as there are", [drawn(n) for n in (4, 1, 6)], batch_size=3, classes=3, training=False)
    predict("one at a time", [drawn(n) for n in (2, 5, 3, 8)], batch_size=1, classes=4)
    predict("a tuple of texts, seven by three", tuple(drawn(n) for n in (9, 2, 5, 11, 1, 4, 3)), batch_size=3, max_length=8)
    predict("one class more than texts", [drawn(3), drawn(7)], classes=3, batch_size=2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "predict_probabilities",
    "Predict the same text twice, alone and beside a much longer one. All four answers should agree. If they do not, what is switched on, or what is not handed over?",
    "`model.eval()`, `torch.no_grad()`, and the tokenizer's `padding=True` and `return_tensors=\"pt\"`; what it returns can be handed to the model with two stars.",
    "Remember the mode, switch to evaluation. Without gradients: for every slice of batch_size texts tokenize with truncation and padding, run the model, take the softmax over the last axis, keep it on the CPU. Restore the mode, join the rows.",
)
misconceptions(
    "predict_probabilities",
    mistake("no evaluation mode", ("    model.eval()\n", ""),
            says="The model is not put into evaluation mode: while dropout is on, the same text gets another answer every time."),  # fmt: skip
    mistake("training mode", ("model.eval()", "model.train()"),
            says="The model is put into training mode, where dropout is on."),  # fmt: skip
    mistake("left in evaluation mode", ("    model.train(was_training)\n", ""),
            says="The model is left in evaluation mode; a training that goes on after this would have no dropout. Restore the mode you found."),  # fmt: skip
    mistake("left in training mode", ("model.train(was_training)", "model.train()"),
            says="The model is always left in training mode. Restore the mode you found."),  # fmt: skip
    mistake("gradients are kept", ("torch.no_grad()", "torch.enable_grad()"),
            says="Everything a backward pass would need is kept, for every text. Compute without gradients."),  # fmt: skip
    mistake("no attention mask", ("model(**batch)", "model(input_ids=batch['input_ids'])"),
            says="The model gets no attention mask and reads padding as if it were text: the answer to a text depends on the longest in its batch."),  # fmt: skip
    mistake("mask turned round", ("model(**batch)", "model(input_ids=batch['input_ids'], attention_mask=1 - batch['attention_mask'])"),
            says="The attention mask is turned round: 1 is for text, 0 for padding."),  # fmt: skip
    mistake("no truncation", ("truncation=True, max_length=max_length, ", ""),
            says="Long texts are not cut at max_length."),  # fmt: skip
    mistake("the tokenizer's own limit", ("max_length=max_length, ", ""),
            says="Texts are cut where the tokenizer's own limit is, and max_length is not used."),  # fmt: skip
    mistake("logits", ("torch.softmax(model(**batch).logits, dim=-1)", "model(**batch).logits"),
            says="Logits are returned; their softmax over the classes makes probabilities."),  # fmt: skip
    mistake("logarithms", ("torch.softmax(", "torch.log_softmax("),
            says="Logarithms of probabilities are returned."),  # fmt: skip
    mistake("sigmoid", ("torch.softmax(model(**batch).logits, dim=-1)", "torch.sigmoid(model(**batch).logits)"),
            says="Each logit goes through a sigmoid by itself, and the classes' probabilities do not add up to 1. Classes that exclude each other want a softmax."),  # fmt: skip
    mistake("softmax over the texts", ("dim=-1", "dim=0"),
            says="The softmax runs over the texts of a batch; it has to run over the classes."),  # fmt: skip
    mistake("predicted classes", ("torch.softmax(model(**batch).logits, dim=-1)", "model(**batch).logits.argmax(-1)"),
            says="The most likely class is returned; the probability of each is wanted."),  # fmt: skip
    mistake("only the positive class", ("return torch.cat(rows)", "return torch.cat(rows)[:, 1]"),
            says="Only the probability of class 1 is returned; one for each class is wanted, (N, C)."),  # fmt: skip
    mistake("only the first batch", ("return torch.cat(rows)", "return rows[0]"),
            says="Only the first batch is returned."),  # fmt: skip
    mistake("only the last batch", ("return torch.cat(rows)", "return rows[-1]"),
            says="Only the last batch is returned."),  # fmt: skip
    mistake("the last batch is dropped", ("range(0, len(texts), batch_size)", "range(0, max(len(texts) - batch_size + 1, 1), batch_size)"),
            says="The last batch is dropped where it is not full."),  # fmt: skip
    mistake("batches overlap", ("range(0, len(texts), batch_size)", "range(0, len(texts), max(batch_size - 1, 1))"),
            says="Batches overlap, so some texts are judged twice."),  # fmt: skip
    mistake("sorted by length", ("    rows = []", "    rows, texts = [], sorted(texts, key=len)"),
            says="Texts are sorted by length (which saves padding), and the results stay in that order. Row i has to be that of text i."),  # fmt: skip
    mistake("all at once", ("    rows = []", "    rows, batch_size = [], len(texts)"),
            says="All texts go through the model at once; batch_size says how many at a time."),  # fmt: skip
    mistake("a list of batches", ("return torch.cat(rows)", "return rows"),
            says="A list of batches is returned; join them into one tensor (N, C)."),  # fmt: skip
    mistake("gradients are off for good", ("    with torch.no_grad():", "    torch.set_grad_enabled(False)\n    if True:"),
            says="Gradients are switched off and never on again, so nothing can be trained afterwards. A context manager switches them off for its block alone."),  # fmt: skip
    mistake("small letters", ("list(texts[start", "list(text.lower() for text in texts[start"),
            says="Texts are put into small letters first. Whether capitals count is the tokenizer's business: an uncased one does this itself, a cased one must not."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("sorted by length, and put back")
def predict_probabilities(model, tokenizer, texts, max_length=128, batch_size=64):
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    result, mode = [None] * len(texts), model.training
    model.train(False)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer([texts[i] for i in chosen], padding="longest", truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            logits = model(input_ids=batch["input_ids"].to(model.device), attention_mask=batch["attention_mask"].to(model.device)).logits
        for i, row in zip(chosen, logits.float().cpu()):
            result[i] = (row - row.logsumexp(0)).exp()
    model.train(mode)
    return torch.stack(result)


# %% tags=["alternative"]
@alternative("one text after another")
@torch.no_grad()
def predict_probabilities(model, tokenizer, texts, max_length=128, batch_size=64):
    mode = model.training
    try:
        model.eval()
        rows = [model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt").to(model.device)).logits.softmax(-1) for text in texts]
    finally:
        model.train(mode)
    return torch.vstack(rows).cpu()


# %% tags=["alternative"]
@alternative("a collator in a DataLoader, padded to max_length")
def predict_probabilities(model, tokenizer, texts, max_length=128, batch_size=64):
    def collate(chunk):
        return tokenizer(chunk, truncation=True, max_length=max_length, padding="max_length", return_tensors="pt")

    mode, result = model.training, []
    model.eval()
    with torch.no_grad():
        for batch in torch.utils.data.DataLoader(list(texts), batch_size, collate_fn=collate):
            result += model(**{name: column.to(model.device) for name, column in batch.items()}).logits.double().softmax(1).tolist()
    model.train(mode)
    return torch.tensor(result)


# %% tags=["alternative"]
@alternative("tokenize_batch and a collator")
def predict_probabilities(model, tokenizer, texts, max_length=128, batch_size=64):
    columns = tokenizer(list(texts), truncation=True, max_length=max_length)
    rows = [{"input_ids": ids, "attention_mask": mask} for ids, mask in zip(columns["input_ids"], columns["attention_mask"])]
    collate, mode, found = DataCollatorWithPadding(tokenizer), model.training, torch.empty(0)
    model.eval()
    for start in range(0, len(rows), batch_size):
        with torch.no_grad():
            logits = model(**collate(rows[start : start + batch_size]).to(model.device)).logits.cpu()
        found = torch.cat([found, nn.functional.softmax(logits, dim=1)]) if len(found) else nn.functional.softmax(logits, dim=1)
    model.train(mode)
    return found


# %% [markdown]
# ### Try it: your own sentences
#
# Write your own into the list. In the quick profile the model has read nothing but sentences of a small grammar: which of yours does it get wrong?

# %% tags=["picture"]
mine = [
    "The best thing about the film was the popcorn.",
    "I could not put the book down.",
    "Not a single joke was funny.",
    "Not a single joke fell flat.",
    "The service was slow, the food cold, and I would go back tomorrow.",
]
for sentence, (_, positive) in zip(mine, predict_probabilities(model, tokenizer, mine, MAX_LENGTH).tolist()):
    print(f"{positive:5.1%} positive   {sentence}")

# %% tags=["picture"]
probabilities = predict_probabilities(model, tokenizer, texts["test"], MAX_LENGTH)
predictions, truth = probabilities.argmax(1).numpy(), np.array(labels["test"])
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained", width_ratios=[1, 1, 1.5])
for axis, (name, guess) in zip(axes, {"bag of words": baseline_predictions, MODEL: predictions}.items()):
    counts = np.array([[((truth == row) & (guess == column)).sum() for column in (0, 1)] for row in (0, 1)])
    axis.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum() / 2)
    for row in (0, 1):
        for column in (0, 1):
            axis.text(column, row, counts[row, column], ha="center", va="center", color="white" if counts[row, column] > counts.sum() / 4 else "black")
    axis.set(title=name, xlabel="predicted", ylabel="label")
    axis.set_xticks([0, 1], ["negative", "positive"])
    axis.set_yticks([0, 1], ["negative", "positive"], rotation=90, va="center")
groups = list(dict.fromkeys(kinds["test"]))
for offset, (name, guess, colour) in zip((-0.2, 0.2), (("bag of words", baseline_predictions, ORANGE), (MODEL, predictions, BLUE))):
    shares = [np.mean([guess[i] == truth[i] for i in range(len(truth)) if kinds["test"][i] == group]) for group in groups]
    axes[2].barh(np.arange(len(groups)) + offset, shares, height=0.38, color=colour, label=name)
axes[2].axvline(0.5, color=GREY, linestyle="--")
axes[2].set(title="Test accuracy by the way of judging", xlabel="share right", xlim=(0, 1))
axes[2].set_yticks(range(len(groups)), groups)
axes[2].invert_yaxis()
axes[2].spines[["top", "right"]].set_visible(False)
figure.legend(*axes[2].get_legend_handles_labels(), frameon=False, loc="outside lower right", ncols=2)
plt.show()

# %% [markdown]
# **What to see.** Left and middle: how often each label (row) got each prediction (column), on the test part; a good model has its numbers on the diagonal. Right, quick profile: the dashed line is guessing. The bag of words stays near it wherever the
# judging words are new.

# %% [markdown]
# ## Exercise 5 · `most_confident_errors`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# A number says how often a model is wrong; reading says why. Begin with the errors of which the model was surest: they are wrong labels, or something it has not understood. *Sure* is the probability of the class that it chose.


# %% tags=["export"]
def most_confident_errors(probabilities: Tensor, labels: Tensor, k: int) -> list[int]:
    """Which predictions are wrong, the surest first.

    Args:
        probabilities: (N, C), C ≥ 2. labels: (N,), int64. Neither is changed.
        k: how many at most; there may be fewer errors, or none.

    Returns: numbers of rows, ints: those whose likeliest class is not the label, by the probability
        of that class, falling.
    """
    ### BEGIN SOLUTION
    confidence, predicted = probabilities.max(dim=1)  # (N,), (N,)
    wrong = (predicted != labels).nonzero().squeeze(1)  # row numbers
    order = confidence[wrong].argsort(descending=True)
    return wrong[order][:k].tolist()
    ### END SOLUTION


# %%
@check("most_confident_errors", points=2)
def _(case):
    def errors(name, probabilities, labels, k):
        given = probabilities.clone(), labels.clone()  # so that no case finds what another one has changed
        result = most_confident_errors(*given, k)
        found = " ".join(str(int(i)) for i in result) if isinstance(result, (list, tuple, np.ndarray)) or (isinstance(result, Tensor) and result.dim() == 1) else result
        case.record(name, found or "none" if isinstance(found, str) else found, about="rows:")
        case.record(f"{name}: inputs unchanged", torch.equal(given[0], probabilities) and torch.equal(given[1], labels), about="unchanged:")

    def drawn(n, classes, right=0.5):
        """Probabilities without ties in any order that matters, and labels of which about half are right."""
        p = torch.softmax(case.normal(n, classes, scale=1.5, dtype=torch.float64), dim=1)
        chosen = p.argmax(1)
        other = (chosen + case.integers(1, classes, n)) % classes
        return p.float(), torch.where(case.boolean(n, p=right), chosen, other)

    two = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4], [0.05, 0.95]], device=case.device)
    errors("five rows, three errors", two, torch.tensor([1, 1, 0, 1, 1], device=case.device), 3)
    errors("four errors, the first two", two, torch.tensor([1, 1, 0, 1, 0], device=case.device), 2)
    errors("more asked for than there are", two, torch.tensor([0, 0, 1, 1, 1], device=case.device), 4)
    errors("no error", two, torch.tensor([0, 1, 1, 0, 1], device=case.device), 3)
    three = torch.tensor([[0.50, 0.49, 0.01], [0.45, 0.10, 0.45 - 1e-3], [0.2, 0.2, 0.6], [0.34, 0.36, 0.30], [0.02, 0.18, 0.8]], device=case.device)
    errors("three classes", three, torch.tensor([1, 2, 0, 2, 1], device=case.device), 5)
    errors("twelve rows, three classes", *drawn(12, 3), 4)
    errors("nothing asked for", two, torch.tensor([1, 0, 0, 1, 0], device=case.device), 0)
    ### BEGIN HIDDEN TESTS
    errors("fifty rows, two classes", *drawn(50, 2, right=0.7), 6)
    errors("thirty rows, five classes", *drawn(30, 5), 30)
    errors("all wrong", *drawn(9, 4, right=0.0), 9)
    errors("one row, wrong", torch.tensor([[0.3, 0.7]], device=case.device), torch.tensor([0], device=case.device), 5)
    errors("float64", drawn(8, 3)[0].double(), case.integers(0, 3, 8), 8)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "most_confident_errors",
    "Do it by hand for the five rows of the first case: which class does each row choose, which rows are wrong, and how sure was each?",
    "`Tensor.max(dim=1)` gives both the probability of the chosen class and the class; `argsort` has a keyword for falling order.",
    "Find the row numbers at which the chosen class is not the label. Sort these row numbers, not all, by the probability of the chosen class, falling. Keep the first k.",
)
misconceptions(
    "most_confident_errors",
    mistake("the least sure first", ("descending=True", "descending=False"),
            says="The errors of which the model was least sure come first; the surest are wanted."),  # fmt: skip
    mistake("right ones instead of errors", ("predicted != labels", "predicted == labels"),
            says="These are the predictions that are right; the wrong ones are wanted."),  # fmt: skip
    mistake("right ones among them", ("(predicted != labels).nonzero().squeeze(1)", "torch.arange(len(labels), device=labels.device)"),
            says="All predictions are sorted, right ones among them; only errors are wanted."),  # fmt: skip
    mistake("numbers among the errors", ("return wrong[order]", "return order"),
            says="The numbers count among the errors, not among all rows: after sorting they have to be looked up in the list of errors."),  # fmt: skip
    mistake("the label's probability, high first", ("confidence[wrong]", "probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)[wrong]"),
            says="Errors are sorted by the probability of the label. Sure is the probability of the class that was chosen."),  # fmt: skip
    mistake("the label's probability, low first", ("confidence[wrong].argsort(descending=True)", "probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)[wrong].argsort()"),
            says="Errors are sorted by how unlikely the label was. With two classes that is the same; with more, the probability of the chosen class is another."),  # fmt: skip
    mistake("by the lead", ("confidence[wrong]", "(confidence - probabilities.gather(1, labels.unsqueeze(1)).squeeze(1))[wrong]"),
            says="Errors are sorted by the lead of the chosen class over the label. With two classes that is the same; with more, sure is the probability of the chosen class."),  # fmt: skip
    mistake("class 1 only", ("confidence[wrong]", "probabilities[:, 1][wrong]"),
            says="Errors are sorted by the probability of class 1, so that those where class 0 was chosen come last. Take that of the chosen class."),  # fmt: skip
    mistake("threshold one half", ("(predicted != labels)", "((probabilities[:, 1] > 0.5).long() != labels)"),
            says="Which class was chosen is read off class 1 and a threshold of one half, which does not do for three classes. Take the likeliest."),  # fmt: skip
    mistake("not sorted", ("wrong[order]", "wrong"),
            says="The errors come in the order of the rows; the surest come first."),  # fmt: skip
    mistake("cut before sorting", ("nonzero().squeeze(1)", "nonzero().squeeze(1)[:k]"),
            says="The first k errors are taken and then sorted. Sort first."),  # fmt: skip
    mistake("all errors", ("[:k]", ""),
            says="All errors are returned; k says how many at most."),  # fmt: skip
    mistake("the last k", ("wrong[order][:k]", "wrong[order][-k:]"),
            says="The last k of the sorted errors are returned, the least sure; the first k are wanted."),  # fmt: skip
    mistake("probabilities instead of rows", ("return wrong[order][:k].tolist()", "return [round(p, 4) for p in confidence[wrong][order][:k].tolist()]"),
            ("    confidence, predicted", "    k = min(k, len(labels))\n    confidence, predicted"),
            says="Probabilities are returned; the numbers of the rows are wanted, to look the texts up."),  # fmt: skip
    mistake("a mask", ("return wrong[order][:k].tolist()", "return [int(i in wrong.tolist()) for i in range(len(labels))]"),
            says="A list of ones and zeros, one a row, is returned; the numbers of the rows are wanted."),  # fmt: skip
    mistake("the right ones are overwritten", ("    order = confidence", "    probabilities[predicted == labels] = -1\n    order = confidence"),
            says="The probabilities of the right rows are overwritten in the tensor that was passed, which the caller still needs. Work on a copy, or choose the rows instead."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("Python's sorted")
def most_confident_errors(probabilities, labels, k):
    found = []
    for i, (row, label) in enumerate(zip(probabilities.tolist(), labels.tolist())):
        best = max(range(len(row)), key=row.__getitem__)
        if best != label:
            found.append((-row[best], i))
    return [i for _, i in sorted(found)[:k]]


# %% tags=["alternative"]
@alternative("topk of what is wrong")
def most_confident_errors(probabilities, labels, k):
    wrong = probabilities.argmax(-1) != labels
    sureness = probabilities.amax(-1).masked_fill(~wrong, -1.0)
    return sureness.topk(min(k, int(wrong.sum()))).indices


# %% tags=["alternative"]
@alternative("numpy, all sorted, then filtered")
def most_confident_errors(probabilities, labels, k):
    p, y = probabilities.cpu().numpy(), labels.cpu().numpy()
    order = np.argsort(-p.max(axis=1), kind="stable")
    return [int(i) for i in order if p[i].argmax() != y[i]][:k]


# %% tags=["alternative"]
@alternative("a dictionary of errors")
def most_confident_errors(probabilities, labels, k):
    sure = {}
    for i in range(labels.numel()):
        value, chosen = probabilities[i].max(0)
        if int(chosen) != int(labels[i]):
            sure[i] = float(value)
    return sorted(sure, key=sure.get, reverse=True)[:k]


# %% tags=["picture"]
surest = most_confident_errors(probabilities, torch.tensor(labels["test"]), 8)
print(f"{int((predictions != truth).sum())} of {len(truth)} test sentences are wrong; the surest of them:\n")
for i in surest:
    said = "positive" if predictions[i] else "negative"
    print(f"{probabilities[i].max():6.1%} sure of {said}; label {'positive' if truth[i] else 'negative'}   {texts['test'][i]}")

# %% [markdown]
# **What to see.** Read them before you change a setting. Is the label right? Would you have known? Is there one thing that several of them share? A model is often as sure of its errors as of anything else: a softmax says which class leads,
# and fine-tuning for a few epochs teaches it to say so loudly.

# %% [markdown] written="what_was_borrowed" points=3
# ## Question 1 · what was borrowed
#
# *3 points, graded by a person*
#
# (a) In the quick profile no word that judges in the test part occurs in a training sentence. How can the fine-tuned model be right about them, and why can the bag of words not? (b) Design an experiment that shows how much of the test
# accuracy comes from pre-training: what do you change, what do you keep, what do you compare? (c) Why is a learning rate of 1e-2, harmless for the small model of the check, ruinous here?
#
# ### BEGIN SOLUTION
# (a) Pre-training has put words that occur in similar surroundings near each other: *dreary* lies near *dull* before the first labelled sentence. Fine-tuning bends the map from that region to the label, and unseen words
# of the region come along. The bag of words has a weight for each word of the training part by itself; a word it has never seen has no column, so it contributes nothing.
#
# (b) The same architecture, data, order, steps and schedule, once from the pretrained weights and once from random ones (`from_config`), each with its own best learning rate out of a few chosen on the validation part, several seeds;
# compare test accuracies. (A frozen encoder with a trained classifier would be a third arm: what the representation holds without being bent.)
#
# (c) Adam moves every weight by about the learning rate per step. Pretrained weights have a typical size of a few hundredths; steps of 0.01 wipe out within a few updates what pre-training found.
#
# **Rubric.** 1 point each. (a) similarity in the representation *and* the missing column. (b) only the initial weights differ, measured on held-out data; without a fair learning rate for both arms ½. (c) the size of the step against
# the size of the weights, or "forgets what was pre-trained" with a reason.
# ### END SOLUTION

# %% [markdown] written="which_metric" points=2
# ## Question 2 · which number
#
# *2 points, graded by a person*
#
# A filter for complaints sees 10,000 messages, of which 200 are complaints (class 1). Model A calls everything harmless. Model B finds 150 of the complaints and raises 300 false alarms. Compute accuracy and F1 of both, and say which
# one you would use, and which number misleads.
#
# ### BEGIN SOLUTION
# A: accuracy 9,800/10,000 = 98.0 %, F1 = 0. B: right are 150 + (9,800 − 300) = 9,650, accuracy 96.5 %; F1 = 2·150/(2·150 + 300 + 50) = 0.46 (precision 1/3, recall 3/4). Accuracy prefers A, which is useless. B is to be used if someone
# reads 450 messages to find 150 complaints; what a missed complaint costs against a false alarm decides, and neither number knows that.
#
# **Rubric.** 1 point: all four numbers (½ for three). 1 point: B, with the reason that accuracy is dominated by the many negatives.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Fine-tuning starts from weights that know the language and trains all of them, gently, for a few epochs.
# - `Trainer` is week 3's loop with its surroundings; what it does by default (checkpoints, reports, logging) is to be known and set.
# - Padding belongs to the batch, and its mask to the model. Evaluation mode and no gradients belong to every prediction.
# - A number needs a baseline next to it, and errors want to be read.
#
# **Next**: `custom_dataset_summarization`, from raw text of your own to a model that writes.

# %% tags=["picture"]
score()
