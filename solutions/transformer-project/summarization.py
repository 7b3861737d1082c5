# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: "Project: a summarizer of your own"
#     order: 1
#     minutes: 480
# ---

# %% [markdown]
# # Project: a summarizer of your own
#
# *Attention Is All You Need*, all of it · a day of work
#
# **The roadmap:** "**Final Project Idea:** Implement **Transformer-based text summarization** using a dataset like **CNN/DailyMail**." Everything you need was built in weeks 1 to 4; the first video of week 3, [Code walkthrough of the Transformer in PyTorch](https://youtu.be/U0s0f995w14), shows once more how the parts fit together.
#
# ## The brief
#
# Build a summarizer: a Transformer that you train yourself, and a function `summarize(texts: list[str]) -> list[str]` around it. It is judged on **texts that nobody has seen**, against the baseline that a newspaper gives away for free, the first three sentences. Then write a report of a page: what you did, how good it is, how you know, and where it fails.
#
# - The texts are of two kinds, news of a small town and chats between two friends. Each states who, what, where and when in different sentences, among sentences that are beside the point. When you are graded, new ones are drawn.
# - You have `papers.transformer`: model, training, decoding, cleaning, ROUGE. Use what you like, change what you like, replace what you like.
# - When you are graded the notebook runs from top to bottom, on one core or two, without a network, and **trains your model again**: no cell may take more than a minute. Nothing is loaded from files.
# - Rules that take a summary apart sentence by sentence with patterns, written for this grammar, are not a summarizer: the report's reader sees your code.

# %% [markdown]
# ## How it is graded
#
# | part | points | by |
# | --- | --- | --- |
# | `fit`: training that keeps its best weights | 4 | check |
# | `facts_right`: a measure of your own beside ROUGE | 2 | check |
# | `summarize`: right in form, and better than lead-3 on ROUGE-1, -2 and -L, by a point (of a hundred) or more, in both domains | 4 | check |
# | … and 20 points better than lead-3 on all three, in both domains | 3 | check |
# | … and 40 points better | 3 | check |
# | report 1, data: where they come from, what was dropped, why no test text was trained on | 4 | a person |
# | report 2, model and training: what you tried, one thing changed at a time | 5 | a person |
# | report 3, results: a table with baselines, on texts written by the model alone | 5 | a person |
# | report 4, failures: kinds of mistakes with counts and examples, another domain | 6 | a person |
#
# The scores of the checked part are computed by the grader, from the summaries that your function wrote, and not by anything that runs in your notebook.

# %%
import json
import math
import random
import re
import time
from collections.abc import Callable, Iterable

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from papers.datasets import BOS_ID, EOS_ID, PAD_ID, DatasetUnavailable, pad_sentences, real_summaries, texts_with_summaries, untidy_json_lines
from papers.transformer.model import Transformer
from papers.transformer.summarization import build_dataset, clean, lead_k, rouge, similar_batches, train_tokenizer
from papers.transformer.training import beam_search, greedy_decode, noam_rate, train_epoch

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
REAL = "cnn_dailymail"  # full profile: the real dataset of the last part; or samsum, scitldr
STEPS = 0  # full profile: cuts the training on real data short after so many steps; 0: all epochs

# %% [markdown]
# ## 1 · Data
#
# Raw lines of both domains, as untidy as files are, through the `clean` of week 4. A tenth is kept for validation: it decides which weights are kept, so it may not be the test set. The test part of the grammar has other facts: pairs of names, and of events and places, that training never has.
#
# More data? Ask for other counts or seeds of the part `"train"`, in a cell of your own below. What is in part `"test"` is for the grader, and for the tables of your report.

# %%
raw_lines = [line for domain in ("news", "chats") for line in untidy_json_lines(texts_with_summaries(domain, 1200, "train", SEED), SEED)]
records, problems = clean(raw_lines)
random.Random(SEED).shuffle(records)
validation, training = records[:120], records[120:]
test = {domain: texts_with_summaries(domain, 100, "test", SEED) for domain in ("news", "chats")}
tokenizer = train_tokenizer((text for record in training for text in record.values()), 800)
print(f"{len(raw_lines)} lines: {len(training)} records to train on, {len(validation)} to validate, {len(problems)} lines dropped; {tokenizer.get_vocab_size()} tokens")

# %% tags=["picture"]
for domain, some in test.items():
    print(f"{domain}\n  text      {some[0]['text']}\n  summary   {some[0]['summary']}\n  lead-3    {lead_k(some[0]['text'])}\n")

# %% [markdown]
# ## 2 · Training that keeps its best weights: `fit`
#
# *Difficulty ●●○ · 30 minutes · 4 points*
#
# The last weights of a run are seldom its best. So after every epoch the model is validated, and in the end it gets back the weights of its best epoch. Two traps: a state dict *refers* to the parameters, and follows them when they change; and a validation in training mode measures dropout.
#
# The settings above the function are a start, and yours to change.

# %%
SETTINGS = dict(d_model=64, h=4, N=2, d_ff=128, dropout=0.0, tied=True, pre_norm=True)  # of the Transformer
BATCH_SIZE, EPOCHS, FACTOR, WARMUP = 32, 3, 0.5, 150  # the rate is FACTOR times noam_rate(step, d_model, WARMUP)
MAX_SOURCE, MAX_TARGET = 120, 24  # tokens


def fit(
    model: nn.Module,
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]],
    optimiser: torch.optim.Optimizer,
    rate: Callable[[int], float],
    epochs: int,
    validate: Callable[[nn.Module], float],
) -> tuple[list[float], list[float]]:
    """Train for some epochs, validate after each, and leave the model with the weights of its best one.

    Args:
        model, optimiser, rate: as of `papers.transformer.training.train_epoch`; steps are numbered
            from 1 and go on from epoch to epoch.
        batches: gives the batches of an epoch, which has a number from 0.
        epochs: how many, at least 1.
        validate: gives the model's score, higher is better. It is called once an epoch, with the
            model in evaluation mode.

    Returns: the losses of all steps, and the score after each epoch. Afterwards all of the model's
        state is that of the epoch with the highest score, the earliest of several, and the model is
        in evaluation mode.
    """
    ### BEGIN SOLUTION
    losses, scores, best = [], [], {}
    for epoch in range(epochs):
        losses += train_epoch(model, batches(epoch), optimiser, rate, step=len(losses))
        model.eval()
        scores.append(validate(model))
        if scores[-1] > max(scores[:-1], default=-math.inf):
            best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best)
    model.eval()  # whatever validate has left
    return losses, scores
    ### END SOLUTION


# %%
@check("fit", points=4)
def _(case):
    class Bigrams(nn.Module):
        """The next token from the present one and the mean of the source."""

        def __init__(self, vocabulary, width):
            super().__init__()
            self.pad_id = 0
            self.source, self.target = nn.Embedding(vocabulary, width), nn.Embedding(vocabulary, width)
            self.output = nn.Linear(width, vocabulary)
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, src, tgt):
            self.calls += 1
            return self.output(torch.tanh(self.target(tgt) + self.source(src).mean(1, keepdim=True)))

    class Descent:
        """Gradient descent with the face of an optimiser; made in no time, which torch's are not."""

        def __init__(self, parameters):
            self.param_groups = [{"params": list(parameters), "lr": 0.0}]

        def zero_grad(self, set_to_none=True):
            for parameter in self.param_groups[0]["params"]:
                parameter.grad = None

        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.data -= self.param_groups[0]["lr"] * parameter.grad

    def train(name, scores, per_epoch=2, rate=lambda step: 0.5 / step, leaves_training=False):
        V = 7
        counts = per_epoch if isinstance(per_epoch, list) else [per_epoch] * len(scores)
        pairs = [[(case.integers(3, V, 3, 4), torch.cat([torch.ones(3, 1, dtype=torch.int64), case.integers(2, V, 3, 4)], 1)) for _ in range(count)] for count in counts]
        model = case.initialise(Bigrams(V, 4).to(case.device))
        rates, modes, numbers, seen = [], [], [], []

        def mode(network):
            return "training mode" if any(module.training for module in network.modules()) else "evaluation mode"

        def batches(epoch):
            numbers.append(epoch)
            return iter(pairs[epoch])

        def noted(step):
            rates.append(step)
            return rate(step)

        def validate(network):
            modes.append(mode(network))
            seen.append(network.output.bias.detach().clone())
            network.train(leaves_training)
            return scores[len(modes) - 1]

        found = fit(model, batches, Descent(model.parameters()), noted, len(scores), validate)
        case.record(f"{name}: losses and scores", found, labels=("losses", "scores"))
        case.record(f"{name}: numbers of the epochs", numbers, about="epoch")
        case.record(f"{name}: numbers of the steps", rates, about="step")
        case.record(f"{name}: validated in", modes, about="mode")
        case.record(f"{name}: biases that validation saw", seen, about="bias at epoch")
        case.record(f"{name}: the weights afterwards", dict(model.state_dict()), about="weight")
        case.record(f"{name}: the mode afterwards", mode(model), about="mode")

    train("one epoch", [0.5])
    train("the second of three is the best", [0.2, 0.7, 0.4])
    train("the last is the best", [0.1, 0.2, 0.3])
    train("two are equally good", [0.3, 0.6, 0.6, 0.1])
    train("scores below zero, and validation leaves training mode on", [-3.0, -1.5, -2.0], leaves_training=True)
    train("worse, then better again", [0.5, 0.1, 0.6], per_epoch=1)
    train("the first is the best, and the third better than the second", [0.9, 0.1, 0.5, 0.2], per_epoch=1)
    train("epochs of 3, 1 and 2 batches", [0.1, 0.3, 0.2], per_epoch=[3, 1, 2])
    ### BEGIN HIDDEN TESTS
    best = case.integer(0, 5)
    train("five epochs, a best one drawn by chance", [1.0 if epoch == best else 0.1 * epoch for epoch in range(5)], per_epoch=3)
    train("a constant rate", [0.4, 0.8, 0.2], rate=lambda step: 0.3)
    train("all alike", [0.0, 0.0, 0.0])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "fit",
    "Print one value of `model.state_dict()` that you kept, before and after another epoch. Did it stay what it was?",
    "`train_epoch` of week 3 takes `step`, the number of updates made before, and returns one loss a step: so the losses so far say how many there were. Section 6.1 of the paper keeps checkpoints too, and averages them.",
    "For each epoch: train and collect the losses, switch to evaluation mode, validate and collect the score; if it is higher than all before, copy every entry of the state dict. In the end load the copy.",
)
misconceptions(
    "fit",
    mistake("the last weights", ("{name: value.clone() for name, value in model.state_dict().items()}", "model.state_dict()"),
            says="The model is left with its last weights. A state dict is no copy: its tensors are the model's own, and change with every further step. Clone them, and load the best in the end."),  # fmt: skip
    mistake("the worst epoch", ("scores[-1] > max(scores[:-1], default=-math.inf)", "scores[-1] < min(scores[:-1], default=math.inf)"),
            says="The epoch with the lowest score is kept; higher is better here (a loss would be the other way round)."),  # fmt: skip
    mistake("every epoch as long as the first", ("        losses += train_epoch(", "        first = len(losses) if epoch == 1 else 0 if epoch == 0 else first\n        losses += train_epoch("), ("step=len(losses))", "step=epoch * first)"),
            says="The steps are counted as if each epoch had as many batches as the first; go on from the number of updates made so far."),  # fmt: skip
    mistake("the latest of equals", ("scores[-1] > max", "scores[-1] >= max"), says="Of equally good epochs the latest is kept; the earliest is asked for."),
    mistake("better than the one before", ("max(scores[:-1], default=-math.inf)", "(scores[-2] if len(scores) > 1 else -math.inf)"),
            says="An epoch is kept as soon as it is better than the one before; it has to be better than all before."),  # fmt: skip
    mistake("starts from zero", ("max(scores[:-1], default=-math.inf)", "max([0.0, *scores[:-1]])"), ("best = [], [], {}", "best = [], [], model.state_dict()"),
            says="The best score so far starts at 0, so an epoch that scores 0 or less is never kept. Start below every number."),  # fmt: skip
    mistake("trains on from the best", ("    model.load_state_dict(best)\n    model.eval()  #", "        model.load_state_dict(best)\n    model.eval()  #"),
            says="After a worse epoch training goes on from the best weights; go on from where it is, and restore at the end only."),  # fmt: skip
    mistake("stops at the first worse epoch", ("    model.load_state_dict(best)\n", "        else:\n            break\n    model.load_state_dict(best)\n"),
            says="Training stops at the first epoch that is no better; all epochs are to be trained, a later one may be the best."),  # fmt: skip
    mistake("steps counted anew", ("step=len(losses)", "step=0"), says="Every epoch counts its steps from 1 again, so the warm-up is repeated; go on counting."),
    mistake("steps counted in epochs", ("step=len(losses)", "step=epoch"), says="The steps so far are counted as epochs; each batch is a step."),
    mistake("always the first epoch's batches", ("batches(epoch)", "batches(0)"), says="Every epoch asks for the batches of epoch 0, so the order never changes."),
    mistake("validated in training mode", ("        model.eval()\n", "        model.train()\n"), says="Validation runs in training mode, where dropout falsifies the score. Switch to evaluation mode first."),
    mistake("the mode left as validation left it", ("    model.eval()  # whatever validate has left\n", ""), says="The model is left in whatever mode validation ended with; leave it in evaluation mode."),
    mistake("left in training mode", ("    model.eval()  # whatever validate has left", "    model.train()"), says="The model is left in training mode; it is to be used next, so evaluation mode is wanted."),
    mistake("validated before training", ("        losses += train_epoch(model, batches(epoch), optimiser, rate, step=len(losses))\n        model.eval()\n        scores.append(validate(model))\n", "        model.eval()\n        scores.append(validate(model))\n        losses += train_epoch(model, batches(epoch), optimiser, rate, step=len(losses))\n"),
            says="The model is validated before the epoch instead of after it, so scores and weights do not belong together."),  # fmt: skip
    mistake("validated once", ("        scores.append(validate(model))\n", "        scores.append(validate(model) if epoch == epochs - 1 else 0.0)\n"),
            says="Only the last epoch is validated; without a score for each there is no best one."),  # fmt: skip
    mistake("one loss an epoch", ("losses += train_epoch(model, batches(epoch), optimiser, rate, step=len(losses))", "taken = train_epoch(model, batches(epoch), optimiser, rate, step=done)\n        done += len(taken)\n        losses.append(sum(taken) / len(taken))"), ("losses, scores, best = [], [], {}", "losses, scores, best, done = [], [], {}, 0"),
            says="One mean loss an epoch is returned; the loss of each step is wanted."),  # fmt: skip
    mistake("the best score alone", ("return losses, scores", "return losses, max(scores)"), says="Only the best score is returned; the score of every epoch is wanted."),
    mistake("scores first", ("return losses, scores", "return scores, losses"), says="Losses and scores are exchanged: the losses come first."),
    mistake("parameters only", ("model.state_dict().items()}", "model.named_parameters()}"), ("model.load_state_dict(best)", "model.load_state_dict({name: value.detach() for name, value in best.items()}, strict=False)"),
            says="Only the parameters are kept; buffers (running statistics, counters) belong to the state too. Use the state dict."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("deepcopy, and the best score in a variable")
def fit(model, batches, optimiser, rate, epochs, validate):
    import copy

    best_score, best_state, losses, scores = float("-inf"), None, [], []
    for epoch in range(epochs):
        for loss in train_epoch(model, batches(epoch), optimiser, rate, len(losses)):
            losses.append(loss)
        score = validate(model.eval())
        scores.append(score)
        if score > best_score:
            best_score, best_state = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    return losses, scores if not model.eval().training else []


# %% tags=["alternative"]
@alternative("all states are kept, the best is chosen afterwards")
def fit(model, batches, optimiser, rate, epochs, validate):
    history, losses = [], []
    for epoch in range(epochs):
        losses.extend(train_epoch(model, batches(epoch), optimiser, rate, step=len(losses)))
        model.train(False)
        state = {key: value.detach().clone() for key, value in model.state_dict().items()}
        history.append((validate(model), state))
    scores = [score for score, _ in history]
    model.load_state_dict(history[scores.index(max(scores))][1])
    model.train(False)
    return losses, scores


# %% tags=["alternative"]
@alternative("states on disk, as bytes")
def fit(model, batches, optimiser, rate, epochs, validate):
    import io

    losses, scores, kept = [], [], io.BytesIO()
    for epoch in range(epochs):
        losses = losses + train_epoch(model, batches(epoch), optimiser, rate, step=len(losses))
        model.eval()
        scores = scores + [validate(model)]
        if epoch == 0 or scores[epoch] > max(scores[:epoch]):
            kept = io.BytesIO()
            torch.save(model.state_dict(), kept)
    kept.seek(0)
    model.load_state_dict(torch.load(kept, weights_only=True))
    model.eval()
    return losses, scores


# %% tags=["alternative"]
@alternative("an own loop over the batches")
def fit(model, batches, optimiser, rate, epochs, validate):
    from papers.transformer.training import label_smoothing_loss, teacher_forcing

    losses, scores = [], []
    winner = None
    for epoch in range(epochs):
        model.train()
        for src, target in batches(epoch):
            lr = rate(len(losses) + 1)
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad()
            decoder_input, labels = teacher_forcing(target)
            loss = label_smoothing_loss(model(src, decoder_input).flatten(0, 1), labels.flatten(), 0.1, model.pad_id)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            scores.append(validate(model))
        if winner is None or scores[-1] > scores[winner[0]]:
            winner = epoch, [value.clone() for value in model.state_dict().values()]
    with torch.no_grad():
        for value, kept in zip(model.state_dict().values(), winner[1]):
            value.copy_(kept)
    model.eval()
    return losses, scores


# %% [markdown]
# ### Train it
#
# `trained` is the model that `summarize` will use. **To train another one, change the settings above, or add a cell below this one** that binds `trained` (and `tokenizer`, if you like) anew: your own cells run when you are graded, too, each within a minute.

# %%
device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if DEVICE == "auto" else DEVICE)


def encode(text):
    return tokenizer.encode(text).ids


def validation_score(model, records, write=greedy_decode):
    """ROUGE-2 of what the model writes about the records' texts."""
    sources = [source for source, _ in build_dataset(records, encode, MAX_SOURCE, MAX_TARGET)]
    written = []
    for start in range(0, len(sources), 60):
        written += tokenizer.decode_batch(write(model, pad_sentences(sources[start : start + 60]).to(device), BOS_ID, EOS_ID, MAX_TARGET).tolist())
    return rouge(written, [record["summary"] for record in records])["rouge2"]


def train_model(training, validation, epochs, seed=SEED, steps=None):
    """A Transformer with SETTINGS, trained by `fit`; returns the model, its losses and its validation scores. steps: at most so many an epoch."""
    dataset = build_dataset(training, encode, MAX_SOURCE, MAX_TARGET)
    torch.manual_seed(seed)
    model = Transformer(tokenizer.get_vocab_size(), tokenizer.get_vocab_size(), pad_id=PAD_ID, **SETTINGS).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)

    def batches(epoch):
        for number, (src, target) in enumerate(similar_batches(dataset, BATCH_SIZE, seed + epoch)):
            if number == steps:
                return
            yield src.to(device), target.to(device)

    losses, scores = fit(model, batches, optimiser, lambda step: FACTOR * noam_rate(step, SETTINGS["d_model"], WARMUP), epochs, lambda m: validation_score(m, validation))
    return model, losses, scores


# %%
trained, losses, scores = None, [], []
started = time.perf_counter(), time.process_time()
trained, losses, scores = train_model(training, validation, EPOCHS)
print(f"{sum(p.numel() for p in trained.parameters()):,} parameters, {len(losses)} steps; {time.perf_counter() - started[0]:.0f} s, {time.process_time() - started[1]:.0f} s of CPU, on {device}")
print("ROUGE-2 on validation, epoch by epoch:", ", ".join(f"{100 * score:.1f}" for score in scores))

# %% tags=["picture"]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
left.plot(range(1, len(losses) + 1), losses, color=BLUE)
left.set(title="Training", xlabel="step", ylabel="smoothed loss (nats)", ylim=(0, None))
right.plot(range(1, len(scores) + 1), scores, "o-", color=ORANGE)
right.set(title="Validation, by the model alone", xlabel="epoch", ylabel="ROUGE-2 (F1)", ylim=(0, 1))
right.set_xticks(range(1, len(scores) + 1))
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Left, the loss on what is trained; right, the score that decides which weights are kept. If the right curve still rises at the end, more epochs would help; a minute is the limit.

# %% [markdown]
# ## 3 · A measure of your own: `facts_right`
#
# *Difficulty ●○○ · 15 minutes · 2 points*
#
# ROUGE gives a summary with one wrong name nine tenths of the points. A reader gives it none. So count the summaries whose facts are *all* there. What a fact is has to be cheap to find: here the names, places, days and numbers of the reference, that is, its words that begin with a capital letter or a digit.

# %%
def facts_right(predictions: list[str], references: list[str]) -> float:
    """The share of the predictions that name every fact of their reference.

    A word is a run of letters and digits; a fact is a word of the reference whose first character
    is an upper-case letter or a digit. It is named if the same word, letter by letter and in the
    same case, is a word of the prediction; how often, and in which order, does not matter.

    Args:
        predictions, references: as many of the one as of the other, at least one.

    Returns: from 0 to 1. A reference without facts counts as named.
    """
    ### BEGIN SOLUTION
    right = 0
    for prediction, reference in zip(predictions, references):
        found = set(re.findall(r"[^\W_]+", prediction))
        facts = {word for word in re.findall(r"[^\W_]+", reference) if word[0].isupper() or word[0].isdigit()}
        right += facts <= found
    return right / len(references)
    ### END SOLUTION


# %%
@check("facts_right", points=2)
def _(case):
    def share(name, predictions, references):
        case.call(name, facts_right, predictions, references)

    share("one summary, all right", ["Ada ran in Milton."], ["Ada won a race in Milton."])
    share("one summary, one name wrong", ["Ada ran in Ashby."], ["Ada won a race in Milton."])
    share("three of four", ["Ada ran.", "Leo sat.", "Ben ate.", "Eva slept."], ["Ada won.", "Leo sat.", "Tom ate.", "Eva dreamt."])
    share("half of the facts are not half a point", ["Ada Novak ran."], ["Ada Baker ran."])
    share("in another order, with other words", ["On Monday, in Milton: Ada!"], ["Ada won in Milton on Monday."])
    share("more facts than asked for", ["Ada and Leo ran in Milton and Ashby."], ["Ada ran in Milton."])
    share("numbers are facts", ["It cost 35 euros.", "It cost 53 euros."], ["It was 35.", "It was 35."])
    share("a part of a word is no word", ["Annabel ran."], ["Anna ran."])
    share("lower case is another word", ["ada ran in milton"], ["Ada ran in Milton."])
    share("a reference without facts", ["nothing", ""], ["they went home", "Ada went home"])
    share("small words do not matter", ["Ada: Milton"], ["Ada went to see a film in Milton"])
    share("a fact that the reference says twice", ["Ada Baker ran."], ["Ada Baker met Ada."])
    share("a letter beyond a to z belongs to its word", ["Zo left."], ["Zoë left."])
    share("a hyphen separates", ["Ada Baker-Weber ran."], ["Ada Weber ran."])
    share("an apostrophe separates", ["Ada's dog ran."], ["Ada ran."])
    share("an underscore separates", ["Ada_Baker ran."], ["Ada Baker ran."])
    share("a fact may have more capitals than the first", ["they won", "they sold"], ["NATO won", "McDonald sold"])
    share("a capital further inside makes no fact", ["it rang"], ["an iPhone rang"])
    share("a digit further inside makes no fact", ["it froze"], ["the x2 froze"])
    share("a capital letter beyond A to Z", ["he left"], ["Özil left"])
    ### BEGIN HIDDEN TESTS
    names = "Ada Ben Eva Leo Tom Milton Ashby Monday Friday 7 12".split()
    predictions, references = ([" ".join(names[i] for i in case.integers(0, len(names), n).tolist()) for _ in range(15)] for n in (9, 2))
    share("fifteen pairs drawn by chance", predictions, references)
    share("letters beyond ASCII", ["Zoë met Özil.", "Zoe met Ozil."], ["Zoë met Özil.", "Zoë met Özil."])
    share("digits and letters in one word", ["the 3rd", "the 3"], ["it was the 3rd", "it was the 3rd"])
    share("an empty prediction", ["", "Ada"], ["Ada", "Ada"])
    share("five, two of them right", ["A b", "B c", "C d", "D e", "E f"], ["A", "X", "C", "Y", "Z"])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "facts_right",
    "Which words of “Ada Baker won a race in Milton on Monday.” would make the report false if they were exchanged?",
    r"`re.findall(r\"[^\W_]+\", text)` gives runs of letters and digits of any language. `set` has `<=`, is a subset of.",
    "For each pair, take the words of both texts; of the reference only those that begin with an upper-case letter or a digit. The pair counts if all of these are among the prediction's words. Divide by the number of pairs.",
)
misconceptions(
    "facts_right",
    mistake("share of the facts", ("right += facts <= found", "right += len(facts & found) / len(facts) if facts else 1"),
            says="The share of facts is averaged, so half a report counts half; a summary counts only if all its facts are named."),  # fmt: skip
    mistake("any fact", ("right += facts <= found", "right += bool(facts & found) or not facts"), says="One fact is enough here; all of them have to be named."),
    mistake("no other facts allowed", ("right += facts <= found", "right += facts == {word for word in found if word[0].isupper() or word[0].isdigit()}"),
            says="A summary that names more than the reference is rejected; only what is missing counts here."),  # fmt: skip
    mistake("the other way round", ("facts <= found", "{word for word in found if word[0].isupper() or word[0].isdigit()} <= set(re.findall(r\"[^\\W_]+\", reference))"),
            says="It is asked whether the prediction's facts are in the reference; the reference's facts have to be in the prediction."),  # fmt: skip
    mistake("all words", ("if word[0].isupper() or word[0].isdigit()}", "}"), says="All words of the reference have to occur; facts are those that begin with a capital letter or a digit."),
    mistake("numbers forgotten", ("word[0].isupper() or word[0].isdigit()", "word[0].isupper()"), says="Numbers are not counted as facts; a word that begins with a digit is one."),
    mistake("only numbers", ("word[0].isupper() or word[0].isdigit()", "word[0].isdigit()"), says="Only numbers are counted as facts; so are words that begin with a capital letter."),
    mistake("found inside other words", ("facts <= found", "all(fact in prediction for fact in facts)"), says="A fact is found inside another word (Anna in Annabel); compare whole words."),
    mistake("case ignored", ("set(re.findall(r\"[^\\W_]+\", prediction))", "set(re.findall(r\"[^\\W_]+\", prediction.lower()))"), ("facts = {word for", "facts = {word.lower() for"),
            says="Upper and lower case are not told apart; the same word in the same case is asked for."),  # fmt: skip
    mistake("split at blanks", ("set(re.findall(r\"[^\\W_]+\", prediction))", "set(prediction.split())"), says="The prediction is split at blanks, so “Milton.” is not Milton; a word is a run of letters and digits."),
    mistake("split at blanks, both", ("set(re.findall(r\"[^\\W_]+\", prediction))", "set(prediction.split())"), ("re.findall(r\"[^\\W_]+\", reference)", "reference.split()"),
            says="Both texts are split at blanks, so punctuation makes other words; a word is a run of letters and digits."),  # fmt: skip
    mistake("underscores in words", ("re.findall(r\"[^\\W_]+\", prediction)", "re.findall(r\"\\w+\", prediction)"), ("re.findall(r\"[^\\W_]+\", reference)", "re.findall(r\"\\w+\", reference)"),
            says=r"`\w` takes the underscore as well, so Ada_Baker is one word; a word is a run of letters and digits."),  # fmt: skip
    mistake("how often matters", ("right += facts <= found", "right += all(re.findall(r\"[^\\W_]+\", prediction).count(fact) >= re.findall(r\"[^\\W_]+\", reference).count(fact) for fact in facts)"),
            says="A fact has to be said as often as in the reference; once is enough."),  # fmt: skip
    mistake("one capital at most", ("word[0].isupper()", "word.istitle()"), says="`istitle` wants small letters behind the capital, so NATO and McDonald are no facts; only the first character decides."),
    mistake("a capital anywhere", ("word[0].isupper()", "any(letter.isupper() for letter in word)"), says="A capital anywhere in a word makes a fact of it (iPhone); only the first character decides."),
    mistake("a digit anywhere", ("word[0].isdigit()", "any(letter.isdigit() for letter in word)"), says="A digit anywhere in a word makes a fact of it (x2); only the first character decides."),
    mistake("facts out of the middle of words", ("re.findall(r\"[^\\W_]+\", reference)", "re.findall(r\"[A-Z0-9][^\\W_]*\", reference)"),
            says="The pattern for facts may begin inside a word (the Phone of iPhone), and with A to Z alone; find whole words first, then look at their first character."),  # fmt: skip
    mistake("capitals from A to Z", ("word[0].isupper() or word[0].isdigit()", "re.match(\"[A-Z0-9]\", word)"), says="Only the capitals A to Z begin a fact; other upper-case letters do, too (Özil)."),
    mistake("ASCII letters only", ("set(re.findall(r\"[^\\W_]+\", prediction))", "set(re.findall(r\"[A-Za-z0-9]+\", prediction))"), ("re.findall(r\"[^\\W_]+\", reference)", "re.findall(r\"[A-Za-z0-9]+\", reference)"),
            says="Only the letters a to z make words; a name may have others (Zoë)."),  # fmt: skip
    mistake("how many", ("right / len(references)", "right"), says="The number of summaries is returned; their share is wanted."),
    mistake("percent", ("right / len(references)", "100 * right / len(references)"), says="The share is in percent; it should lie between 0 and 1."),
    mistake("how many are wrong", ("right / len(references)", "1 - right / len(references)"), says="The share of wrong summaries is returned; that of the right ones is wanted."),
    mistake("all or nothing", ("right / len(references)", "float(right == len(references))"), says="It is 1 only if every summary is right; the share of the right ones is wanted."),
    mistake("without facts left out", ("right += facts <= found", "right += bool(facts) and facts <= found"), says="A reference without facts counts as wrong; there is nothing that the prediction fails to name, so it counts as right."),
)
equivalents("facts_right", {"variable: `return right / len(references)` → `return right / len(predictions)`": "there are as many predictions as references"})


# %% tags=["alternative"]
@alternative("character by character, and all()")
def facts_right(predictions, references):
    def tokens(text):
        return "".join(c if c.isalnum() else " " for c in text).split()

    good = [all(word in tokens(p) for word in tokens(r) if not word[0].islower()) for p, r in zip(predictions, references)]
    return sum(good) / len(good)


# %% tags=["alternative"]
@alternative("one pattern for facts")
def facts_right(predictions, references):
    pattern = re.compile(r"[^\W_]+")
    count = 0
    for i in range(len(references)):
        there = pattern.findall(predictions[i])
        missing = [w for w in pattern.findall(references[i]) if (w[:1].isupper() or w[:1].isdigit()) and w not in there]
        if not missing:
            count += 1
    return count / len(predictions)


# %% tags=["alternative"]
@alternative("a mean by statistics; word boundaries")
def facts_right(predictions, references):
    from statistics import fmean

    def named(prediction, fact):
        return re.search(rf"(?<![^\W_]){re.escape(fact)}(?![^\W_])", prediction) is not None

    def facts(reference):
        return filter(lambda word: word[0].isupper() or word[0].isnumeric(), re.findall(r"[^\W_]+", reference))

    return fmean(all(named(p, fact) for fact in facts(r)) for p, r in zip(predictions, references))


# %% tags=["alternative"]
@alternative("a tensor, set differences")
def facts_right(predictions, references):
    def split(text):
        return set(re.split(r"[\W_]+", text)) - {""}

    missing = [[w for w in split(r) - split(p) if w[0] != w[0].lower() or w[0] in "0123456789"] for p, r in zip(predictions, references)]
    return torch.tensor([len(m) == 0 for m in missing]).double().mean().item()


# %% [markdown]
# ## 4 · The summarizer: `summarize`
#
# *Difficulty ●●○ · the heart of the project · 10 points*
#
# Texts in, summaries out, in the same order: encode as in training, let `trained` write by itself, and turn its tokens back into text. Greedy or with a beam is up to you, and so is everything before and after.
#
# The check asks for the form first (no text at all, the same text twice, a very long text, an empty one, letters it has never seen). Then it draws texts, and compares your summaries with lead-3. Scores count up to 100 here: a point better on all three, in both domains, is worth 4 of the 10 marks, 20 points better 3 more, and 40 points better another 3. The
# summaries themselves are handed to the grader, which computes ROUGE.

# %%
def summarize(texts: list[str]) -> list[str]:
    """A summary of each text, by `trained`.

    Args:
        texts: clean texts, any number, of any length; there may be none. The list is not changed.

    Returns: as many summaries, in the order of the texts: plain text without special tokens. The
        same text gives the same summary, wherever it stands.
    """
    ### BEGIN SOLUTION
    if not texts:
        return []
    records = [{"text": text, "summary": ""} for text in texts]
    sources = [source for source, _ in build_dataset(records, encode, MAX_SOURCE, MAX_TARGET)]
    written = greedy_decode(trained, pad_sentences(sources).to(device), BOS_ID, EOS_ID, MAX_TARGET)
    return [tokenizer.decode(row) for row in written.tolist()]
    ### END SOLUTION


# %%
@check("summarize", points=10)
def _(case):
    def drawn(domain, seed, count=24):
        return texts_with_summaries(domain, count, "test", seed)

    def form(name, texts):
        before = list(texts)
        written = summarize(texts)
        shape = f"{len(written)} summaries" + ("" if all(isinstance(text, str) for text in written) else ", not all of them strings")
        case.record(f"{name}: what comes back", f"a {type(written).__name__} of {shape}", about="the result")
        case.record(f"{name}: the texts afterwards", "as before" if texts == before else "changed", about="their state")
        return written

    form("one text", ["Ada Baker was voted mayor by a few hundred votes. It happened in Milton. On Monday the square was full early."])
    seeds = {domain: case.integer(0, 2**31 - 1) for domain in ("news", "chats")}
    form("three texts", [record["text"] for record in drawn("news", seeds["news"], 3)])
    texts = [record["text"] for domain, seed in seeds.items() for record in drawn(domain, seed, 5)]
    case.record("no text: what comes back", f"{len(summarize([]))} summaries", about="the result")
    written = form("ten texts", texts)
    tokens = {token for summary in written if isinstance(summary, str) for token in re.findall(r"<\w+>|▁", summary)}
    case.record("special tokens in the summaries", ", ".join(sorted(tokens)) or "none", about="what was found")
    case.record("the longest summary", "longer than 60 words" if max(len(str(summary).split()) for summary in written) > 60 else "at most 60 words", about="its length")
    again = summarize(texts[::-1])[::-1]
    case.record("the same texts in reverse order", "the same summaries, in reverse order" if again == written else "other summaries, or another order", about="the result")
    twice = summarize([texts[0], texts[7], texts[0]])
    case.record("a text that comes twice", f"{len(twice)} summaries" + (", equal ones for equal texts" if len(twice) == 3 and twice[0] == twice[2] == written[0] else ", and not the same for the same text"), about="the result")
    form("an empty text among others", [texts[0], "", texts[1]])
    form("a very long text and a short one", [" ".join(texts * 12), texts[3]])
    form("letters that no training text had", ["Жанна ☃ 漢字. " + texts[0]])

    def quality(kind, seeds):
        results = {}
        for domain, seed in seeds.items():
            written = summarize([record["text"] for record in drawn(domain, seed)])
            records = drawn(domain, seed)
            results[domain] = written, {"references": tuple(r["summary"] for r in records), "baseline": tuple(lead_k(r["text"]) for r in records), "about": "summary"}
            case.record(f"{domain}{kind}: better than lead-3", written, margin=0.01, **results[domain][1])
        return results

    def margins(kind, results, **points):
        for margin in (20, 40):
            with case.part(f"{margin} points better than lead-3", **points):
                for domain, (written, policy) in results.items():
                    case.record(f"{domain}{kind}: {margin} points better than lead-3", written, margin=margin / 100, **policy)

    results = quality("", seeds)
    margins("", results, points=3)
    ### BEGIN HIDDEN TESTS
    seeds = {domain: case.integer(0, 2**31 - 1) for domain in ("chats", "news")}
    margins(", other texts", quality(", other texts", seeds))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "summarize",
    "Do for one text, by hand, what `train_model` does for its sources. Then ask what a second, longer text in the same batch changes.",
    "`build_dataset` gives sources as in training, `pad_sentences` makes them a tensor, `greedy_decode` and `beam_search` write, `tokenizer.decode` leaves special tokens out.",
    "Turn each text into a source with <eos>, cut to MAX_SOURCE. Take so many at a time, pad them, decode with `trained`, collect the rows, and decode each row to text. With no text there is nothing to pad.",
)
misconceptions(
    "summarize",
    mistake("lead-3", ("[tokenizer.decode(row) for row in written.tolist()]", "[lead_k(text) for text in texts]"), says="The first three sentences come back: that is the baseline, and `trained` is not used."),
    mistake("the whole text", ("[tokenizer.decode(row) for row in written.tolist()]", "list(texts)"), says="The texts come back as they are; they should be summarised by `trained`."),
    mistake("the first sentence", ("[tokenizer.decode(row) for row in written.tolist()]", "[lead_k(text, 1) for text in texts]"), says="The first sentence comes back; it has one fact of four, and `trained` is not used."),
    mistake("empty summaries", ("[tokenizer.decode(row) for row in written.tolist()]", '["" for row in written]'), says="All summaries are empty."),
    mistake("special tokens left", ("tokenizer.decode(row)", "tokenizer.decode(row, skip_special_tokens=False)"), says="The summaries hold <eos> and <pad>; cut each at <eos>, and leave special tokens out."),
    mistake("tokens instead of text", ("tokenizer.decode(row)", '" ".join(tokenizer.id_to_token(token) for token in row if token > 3)'), says="Tokens are joined as they are, with ▁ in front of words and blanks inside them; decode them with the tokenizer."),
    mistake("numbers instead of text", ("[tokenizer.decode(row) for row in written.tolist()]", "written.tolist()"), says="Token numbers come back; they have to be decoded to text."),
    mistake("one string", ("[tokenizer.decode(row) for row in written.tolist()]", '" ".join(tokenizer.decode(row) for row in written.tolist())'), says="All summaries are pasted into one string; a list with one for each text is wanted."),
    mistake("sorted by length, and left so", ("    written = ", "    sources = sorted(sources, key=len)\n    written = "), says="The texts are sorted by length, and their summaries stay in that order; put them back into the order of the texts."),
    mistake("equal texts once", ("for text in texts]\n", "for text in dict.fromkeys(texts)]\n"), says="A text that comes twice gets one summary; there should be as many summaries as texts."),
    mistake("only the first few", ("for row in written.tolist()]", "for row in written.tolist()[:8]]"), says="Only the first few texts are summarised; go on until all are."),
    mistake("empty texts left out", ("for text in texts]\n", "for text in texts if text]\n"), says="An empty text gets no summary, so all that follow are one place off; give it one, if only an empty one."),
    mistake("no answer to no text", ("    if not texts:\n        return []\n", ""), says="With no text at all it raises an error (there is no longest one to pad to); the answer is an empty list."),
    mistake("stops after one token", ("BOS_ID, EOS_ID, MAX_TARGET)\n", "BOS_ID, EOS_ID, 1)\n"), says="Writing stops after one token: max_len is too small."),
    mistake("reads ten tokens", ("encode, MAX_SOURCE, MAX_TARGET)", "encode, 10, MAX_TARGET)"), says="Only the first few tokens of a text are read, so most of its facts are never seen: the limit is too small."),
    mistake("the list is emptied", ('    records = [{"text": text, "summary": ""} for text in texts]\n', '    records = []\n    while texts:\n        records.append({"text": texts.pop(0), "summary": ""})\n'), says="The list of texts is emptied on the way (pop); the caller still needs it."),
    mistake("fresh weights", ("    written = greedy_decode(trained,", "    torch.manual_seed(0)\n    untrained = Transformer(tokenizer.get_vocab_size(), tokenizer.get_vocab_size(), pad_id=PAD_ID, **SETTINGS).to(device)\n    written = greedy_decode(untrained,"),
            says="The model that writes has fresh weights: a new Transformer was made instead of using `trained`."),  # fmt: skip
    mistake("the same sentence for all", ("[tokenizer.decode(row) for row in written.tolist()]", '["They went to Milton on Monday."] * len(texts)'), says="Every text gets the same sentence, whatever it says."),
    mistake("a letter a token", ("encode, MAX_SOURCE, MAX_TARGET)", "lambda text: [number for letter in text for number in encode(letter)], MAX_SOURCE, MAX_TARGET)"),
            says="The texts are encoded letter by letter, which the model has never seen; encode them as in training."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("one text after the other")
def summarize(texts):
    summaries = []
    for text in texts:
        ids = tokenizer.encode(text).ids[: MAX_SOURCE - 1] + [EOS_ID]
        row = greedy_decode(trained, torch.tensor([ids], device=device), BOS_ID, EOS_ID, MAX_TARGET)[0].tolist()
        summaries.append(tokenizer.decode([token for token in row if token not in (PAD_ID, EOS_ID)]))
    return summaries


# %% tags=["alternative"]
@alternative("sorted by length, and put back; cut at <eos> by hand")
def summarize(texts):
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    summaries = [""] * len(texts)
    for start in range(0, len(order), 16):
        chosen = order[start : start + 16]
        src = pad_sentences([(*encode(texts[i])[: MAX_SOURCE - 1], EOS_ID) for i in chosen])
        rows = greedy_decode(trained, src.to(device), BOS_ID, EOS_ID, MAX_TARGET)
        for i, row in zip(chosen, rows.tolist()):
            end = row.index(EOS_ID) if EOS_ID in row else len(row)
            summaries[i] = tokenizer.decode(row[:end]).strip()
    return summaries


# %% tags=["alternative"]
@alternative("a beam of three")
def summarize(texts):
    if not texts:
        return []
    src = pad_sentences([source for source, _ in build_dataset([{"text": t, "summary": t} for t in texts], encode, MAX_SOURCE, MAX_TARGET)])
    return tokenizer.decode_batch(beam_search(trained, src.to(device), BOS_ID, EOS_ID, MAX_TARGET, beam=3).tolist())


# %% tags=["alternative"]
@alternative("an own loop of the likeliest token, each text once")
def summarize(texts):
    known = {}
    trained.eval()
    with torch.no_grad():
        for text in texts:
            if text in known:
                continue
            src = torch.tensor([[*encode(text)[: MAX_SOURCE - 1], EOS_ID]], device=device)
            memory, tokens = trained.encode(src), [BOS_ID]
            while len(tokens) < 30 and (len(tokens) == 1 or tokens[-1] != EOS_ID):
                tokens.append(int(trained.decode(torch.tensor([tokens], device=device), memory, src)[0, -1].argmax()))
            known[text] = tokenizer.decode(tokens)
    return [known[text] for text in texts]


# %% tags=["alternative"]
@alternative("a text is shortened by sentences, not by tokens")
def summarize(texts):
    def shorten(text):
        k = 1
        while k < 60 and lead_k(text, k) != text and len(encode(lead_k(text, k + 1))) < MAX_SOURCE:
            k += 1
        return encode(lead_k(text, k))[: MAX_SOURCE - 1]

    return [
        tokenizer.decode(greedy_decode(trained, pad_sentences([[*shorten(text), EOS_ID]]).to(device), BOS_ID, EOS_ID, MAX_TARGET)[0].tolist()) for text in texts
    ]


# %% [markdown]
# ## 5 · How good is it?
#
# The table that belongs into a report: the same test texts for every row, written by the model alone, in both domains, with the facts beside ROUGE.

# %% tags=["picture"]
for domain, some in test.items():
    texts, references = [record["text"] for record in some], [record["summary"] for record in some]
    rows = {f"lead-{k}": [lead_k(text, k) for text in texts] for k in (1, 2, 3)} | {"summarize": summarize(texts)}
    print(f"{domain:12}ROUGE-1  ROUGE-2  ROUGE-L   facts right")
    for name, written in rows.items():
        print(f"  {name:10}" + "".join(f"{100 * value:7.1f}  " for value in rouge(written, references).values()) + f"{100 * facts_right(written, references):10.0f} %")

# %% [markdown]
# ### What it gets wrong
#
# Sort mistakes by kind before you explain them. Which of the four facts is wrong, and where does the wrong one come from: a neighbour in the same text, or nowhere?

# %% tags=["picture"]
counts = {}
for domain, some in test.items():
    written = summarize([record["text"] for record in some])
    for record, summary in zip(some, written):
        facts = re.findall(r"[^\W_]+", record["summary"])
        missing = [word for word in facts if word[0].isupper() and word not in summary]
        places = {"place": facts[-3], "day": facts[-1]}
        for word in missing:
            kind = next((kind for kind, fact in places.items() if fact == word), "person")
            invented = [w for w in re.findall(r"[^\W_]+", summary) if w[0].isupper() and w not in facts]
            source = "another one from the text" if any(w in record["text"] for w in invented) else "one that the text does not have" if invented else "left out"
            counts[domain, kind, source] = counts.get((domain, kind, source), 0) + 1
kinds = ["person", "place", "day"]
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
for axis, domain in zip(axes, test):
    bottom = [0] * len(kinds)
    for source, colour in (("another one from the text", BLUE), ("one that the text does not have", ORANGE), ("left out", GREY)):
        heights = [counts.get((domain, kind, source), 0) for kind in kinds]
        axis.bar(kinds, heights, bottom=bottom, color=colour, label=source, width=0.6)
        bottom = [a + b for a, b in zip(bottom, heights)]
    axis.set(title=f"{domain}: wrong names in {len(test[domain])} summaries", xlabel="which fact")
    axis.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("how many")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, title="in its place stands")
plt.show()
some = test["news"]
shown = 0
for record, summary in zip(some, summarize([record["text"] for record in some])):
    if facts_right([summary], [record["summary"]]) == 0 and shown < 3:
        print(f"text       {record['text']}\nreference  {record['summary']}\nsummarize  {summary}\n")
        shown += 1

# %% [markdown]
# **What to see.** Blue: the model took a name from the text, but the wrong one (it found the kind of word, not the part it plays). Orange: it wrote a name that does not stand there at all, which is worse for a reader, since nothing in the text warns them.

# %% [markdown]
# ## 6 · Real data
#
# `PROFILE = "full"` trains the same code on a dataset of people's texts (`REAL`: CNN/DailyMail through the hub, or SAMSum or SciTLDR, which a folder named by `DATA_DIR` may hold) and prints the same table. It is not part of the checks. Expect to lose: a model of a few million parameters, trained from scratch on some ten thousand texts, learns what
# summaries sound like, and little of what texts say. Say so in your report, with the numbers. A pretrained model (the last section of week 4's notebook) is the honest way to do better.

# %% tags=["picture"]
if PROFILE == "full":
    try:
        real = {part: clean(json.dumps(record) for record in real_summaries(REAL, part, DATA_DIR, limit))[0] for part, limit in (("train", None), ("validation", 60), ("test", 150))}
    except DatasetUnavailable as reason:
        print(reason)
    else:
        held_out = {record["text"] for part in ("validation", "test") for record in real[part]}
        real["train"] = [record for record in real["train"] if record["text"] not in held_out]
        kept = trained, tokenizer, SETTINGS, MAX_SOURCE, MAX_TARGET, FACTOR, WARMUP  # those of the graded part
        tokenizer = train_tokenizer((text for record in real["train"][:20_000] for text in record.values()), 8000)
        SETTINGS = dict(d_model=128, h=4, N=2, d_ff=512, dropout=0.2, tied=True, pre_norm=True)
        MAX_SOURCE, MAX_TARGET, FACTOR, WARMUP = 192, 60, 0.7, 600
        trained, losses, scores = train_model(real["train"], real["validation"], 1 if STEPS else 6, steps=STEPS or None)
        texts, references = [record["text"] for record in real["test"]], [record["summary"] for record in real["test"]]
        print(f"{REAL}: {len(real['train'])} records, {len(losses)} steps, last loss {sum(losses[-20:]) / len(losses[-20:]):.2f}")
        for name, written in {"lead-1": [lead_k(text, 1) for text in texts], "lead-3": [lead_k(text) for text in texts], "summarize": summarize(texts)}.items():
            print(f"  {name:10}" + "".join(f"{100 * value:7.1f}  " for value in rouge(written, references).values()))
        print("\nreference ", references[0], "\nsummarize ", summarize(texts[:1])[0])
        trained, tokenizer, SETTINGS, MAX_SOURCE, MAX_TARGET, FACTOR, WARMUP = kept
else:
    print('Real data are for PROFILE = "full".')

# %% [markdown] written="report_data" points=4
# ## Report 1 · data
#
# *4 points, graded by a person. About 100 words.*
#
# Where do your texts come from, how many are there in training, validation and test? What did cleaning drop, and why? How do you know that no test text, and no fact of one, was trained on? What is the longest text, and what is lost by your limits?
#
# ### BEGIN SOLUTION
# *A worked example.* Both domains are written by the grammar of `papers.datasets`, 1,200 records each, turned into untidy JSON lines and read back by `clean`. The counts that the data cell prints: dropped lines are those that `untidy_json_lines` put in on purpose (broken, without a field, empty, duplicates); all real records survived. 120 shuffled records validate, the rest trains.
# Test texts come from the part "test", whose pairs of first and last name and of event and place are disjoint from training by construction (every fifth pair), so that neither a text nor such a pair can have been seen; day and single names are shared, on purpose. No text has more than 120 tokens (checked with the length statistics of week 4), so that nothing is cut.
#
# **Rubric.** 1: source and counts of three separate parts. 1: what was dropped, with numbers. 1: an argument or a count against leakage (½ if only equal texts are considered). 1: lengths and what the limits cut.
# ### END SOLUTION

# %% [markdown] written="report_model" points=5
# ## Report 2 · model and training
#
# *5 points, graded by a person. About 150 words and a table.*
#
# Which model, how many parameters, how many steps, which rate, how long did it take? Compare at least three variants that differ in **one** thing each (depth, width, tied matrices, norm, warm-up, data, beam …), on validation data, and say what you conclude, and what the differences may be worth, given what another seed changes.
#
# ### BEGIN SOLUTION
# *A worked example.* A Transformer of two layers each, width 64, pre-norm, tied matrices (parameters, steps and seconds: printed by the training cell). Variants, each with everything else as in the settings, validated with ROUGE-2 after the last epoch: as it is; two other seeds; not tied; post-norm; half the data for twice the epochs; beam 4 instead of greedy. The table is filled from
# `train_model(…, seed=…)` runs. What to conclude: the spread of the three seeds is the yardstick; a variant whose difference is smaller than that has not been shown to matter. Tying matters most early on: the untied model needs about twice the steps before it begins to copy names, since it has to learn for each name that the word read and the word written are the same. Beam against greedy differs by
# less than the seeds do: the model is sure of its sentences, right or wrong.
#
# **Rubric.** 1: model and training described so that it can be repeated. 2: three variants, one change each, on validation data (1 for two, or if test data chose). 1: a second seed, or another estimate of the noise. 1: conclusions that the numbers bear.
# ### END SOLUTION

# %% [markdown] written="report_results" points=5
# ## Report 3 · results
#
# *5 points, graded by a person.*
#
# A table with ROUGE-1, -2 and -L and your fact measure, for lead-1 to lead-3 and your final model, in both domains, on test texts, written by the model alone; say how ROUGE was computed. Two sentences on what the table shows, and one on what it cannot show. If your model loses anywhere, say where.
#
# ### BEGIN SOLUTION
# *A worked example.* The table is the one printed in part 5 (100 test texts a domain, greedy decoding, F1, lower case, no stemmer, mean over texts). The model beats every lead by more than 40 points on all three scores in both domains. Yet only part of the news summaries have all facts right: the last column is far below ROUGE, because one wrong name of four costs a whole report and a tenth of ROUGE. What
# the table cannot show: the texts were written by a grammar with one way of summarising, so ROUGE near 90 says nothing about texts that people write; for those, run part 6, and report what it prints.
#
# **Rubric.** 2: the complete table, with baselines, both domains, test texts. 1: decoding and ROUGE's options are named. 1: what it shows, honestly. 1: what it cannot show.
# ### END SOLUTION

# %% [markdown] written="report_failures" points=6
# ## Report 4 · failures
#
# *6 points, graded by a person. About 200 words.*
#
# Sort the wrong summaries of at least 50 texts by kind, with counts and one example of each kind. Propose a cause for the most frequent kind, and **test it** with an experiment of your own (a changed text, a changed training set, an attention map). Then give your model something foreign (a real message, an article, the other domain left out of training) and describe what happens. Who could be
# harmed by a summarizer that fails like this one?
#
# ### BEGIN SOLUTION
# *A worked example.* The figure of part 5 has the counts: most mistakes in news concern the person, and a wrong last name nearly always is another last name from the same text, mostly the one in "… from … could not come". Cause: in that sentence, as in the one about the hero, a first and a last name stand side by side, and the two are told apart only by words further away. Test: delete this sentence from the
# test texts (a `replace` with a pattern) and summarise again: the share of right facts rises by more than any variant of report 2 brought, and other facts stay as they were. So the model finds persons by kind of word first, and by role only partly.
#
# Foreign text: given a paragraph of a real newspaper the model still writes "X did Y in Z on D" with names from its training, fluent and false; nothing in the output says that it is lost. Trained on news alone it falls by half on chats (week 4). Harm: a reader who trusts fluent sentences would put an innocent person's name to a deed. Such a system needs a check of names against the text, and a person.
#
# **Rubric.** 2: kinds with counts (1) and examples (1). 2: a cause *and* an experiment that could have refuted it (1 for a cause alone). 1: foreign text, described with an example. 1: a concrete harm, or who should not use it.
# ### END SOLUTION

# %% [markdown]
# ## The end of this track
#
# From a softmax to a summarizer: you have built every part of the Transformer, trained it, and measured what it can and cannot do. The roadmap's "Final Outcome": understood theoretically, implemented from scratch, fine-tuned a pretrained one, applied to real tasks. The other track builds a model that draws.

# %% tags=["picture"]
score()
