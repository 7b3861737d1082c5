# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: BERT, GPT and the Vision Transformer
#     order: 4
#     exports: papers.transformer.variants
#     minutes: 150
# ---

# %% [markdown]
# # BERT, GPT and the Vision Transformer
#
# *BERT* (Devlin et al. 2018), section 3.1 · *Improving Language Understanding by Generative Pre-Training*, "GPT" (Radford et al. 2018), sections 3.1 and 4.1 · *An Image is Worth 16×16 Words*, "ViT" (Dosovitskiy et al. 2020), section 3.1 ·
# about 150 minutes
#
# At the end of this notebook you can
#
# - say of each of the three what it keeps of Figure 1 of "Attention Is All You Need", what it drops and what it changes;
# - build and train all three, small, from the encoder of week 3;
# - measure which inputs an output depends on, and so find a model that sees its own answer.
#
# **Week 4 of the roadmap, "Advanced Topics & Optimization", step 1.**
#
# 1. Watch [Transformers in Vision (ViTs) – Explained](https://www.youtube.com/watch?v=ovB0ddFtzzA) (about 20 min) and [this video](https://youtu.be/ewjlmLQI9kc?si=SeAyl6FTqOXlfmEN).
# 2. Read about [BERT](https://arxiv.org/pdf/1810.04805), [GPT](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf) and [Vision Transformers](https://arxiv.org/pdf/2010.11929), "and how they modify the
#    Transformer architecture": exercises 1 and 2 are BERT, 2 and 3 GPT, 4 and 5 the Vision Transformer; exercise 6 and question 1 compare them.

# %% tags=["export"]
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers.transformer.attention import causal_mask, combine_masks, padding_mask
from papers.transformer.model import Encoder

# %%
import random
import re
import time

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from papers.datasets import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    DatasetUnavailable,
    Vocabulary,
    data_folder,
    drawn_glyphs,
    multi30k,
    pad_sentences,
    real_images,
)
from papers.transformer.model import Transformer

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
STEPS = 0  # cuts every training run short after so many steps; 0: as many as the profile says

# %% [markdown]
# ## Figure 1, three times less
#
# The Transformer of 2017 translates: an encoder reads, a decoder writes. Within three years its halves went separate ways. What they have in common is left over when you take away what each paper dropped.
#
# | | Transformer | BERT | GPT | ViT |
# | --- | --- | --- | --- | --- |
# | half of Figure 1 | both | encoder | decoder, without cross-attention | encoder |
# | reads | words of two languages | words, some of them hidden | words | patches of an image |
# | a position sees | the source; the target so far | everything | what came before, and itself | everything |
# | positions | sines and cosines | learned | learned | learned |
# | predicts | the next target word | the hidden words | the next word | the class of the image, from a token of its own |
# | norms | after the sum | after the sum | after the sum (GPT-2: before the sub-layer) | before the sub-layer |
# | between the two linear layers | ReLU | GELU | GELU | GELU |
# | layers, width, heads (smallest model of the paper) | 6 + 6, 512, 8 | 12, 768, 12 | 12, 768, 12 | 12, 768, 12 |

# %% tags=["picture"]
# (name, text, height); a stack is drawn from the bottom to the top
ENCODER = [("inputs", "Inputs", 0.0), ("embedding", "Input\nEmbedding", 1.1), ("positions", "+ Positional\nEncoding", 2.3), ("attention", "Multi-Head\nAttention", 4.1),
           ("norm 1", "Add & Norm", 5.1), ("feed-forward", "Feed Forward", 6.3), ("norm 2", "Add & Norm", 7.2)]  # fmt: skip
DECODER = [("inputs", "Outputs\n(shifted right)", 0.0), ("embedding", "Output\nEmbedding", 1.1), ("positions", "+ Positional\nEncoding", 2.3), ("attention", "Masked Multi-\nHead Attention", 4.1),
           ("norm 1", "Add & Norm", 5.1), ("cross-attention", "Multi-Head\nAttention", 6.3), ("norm 2", "Add & Norm", 7.3), ("feed-forward", "Feed Forward", 8.5),
           ("norm 3", "Add & Norm", 9.4), ("linear", "Linear", 11.1), ("softmax", "Softmax", 12.0), ("outputs", "Output\nProbabilities", 13.1)]  # fmt: skip
LOOKS = {"kept": ("#F2F2F2", "#444444", "-", 1.0), "changed": ("#F9CFAF", ORANGE, "-", 2.2), "dropped": ("white", "#BBBBBB", ":", 1.2)}

VARIANTS = {  # title: (the stack that is kept, what is changed in it, what is dropped of it, what stands on top of it instead)
    "Transformer (2017)": ("both", {}, (), {}),
    "BERT (2018)": ("encoder", {"inputs": "Words, 15 %\nto be guessed", "positions": "+ segments,\nlearned positions", "feed-forward": "Feed Forward\n(GELU)"}, (),
                    {"linear": ("Linear", 9.6), "softmax": ("Softmax", 10.5), "outputs": ("Words that\nwere hidden", 11.7)}),
    "GPT (2018)": ("decoder", {"inputs": "Words", "positions": "+ learned\npositions", "feed-forward": "Feed Forward\n(GELU)", "outputs": "The next word"},
                   ("cross-attention", "norm 2"), {}),
    "ViT (2020)": ("encoder", {"inputs": "Patches of\nan image", "embedding": "Linear + a\nclass token", "positions": "+ learned\npositions", "norm 1": "Add (Norm\nbefore)", "norm 2": "Add (Norm\nbefore)",
                               "feed-forward": "Feed Forward\n(GELU)"}, (), {"norm": ("Norm", 8.5), "linear": ("Linear, class\ntoken only", 9.8), "softmax": ("Softmax", 10.8), "outputs": ("Class", 11.8)}),
}  # fmt: skip


def draw_box(axis, x, y, text, look):
    face, edge, style, width = LOOKS[look]
    tall = 0.72 if "\n" in text else 0.5
    axis.add_patch(FancyBboxPatch((x - 1.42, y - tall / 2), 2.84, tall, boxstyle="round,pad=0.03,rounding_size=0.1", facecolor=face, edgecolor=edge, linestyle=style, linewidth=width, zorder=3))
    axis.text(x, y, text, ha="center", va="center", fontsize=8, color="#AAAAAA" if look == "dropped" else "black", zorder=4, linespacing=1.05)


def draw_stack(axis, x, side, stack, changed, dropped, alive):
    """One half of Figure 1: boxes, the path between them, and the residual connections on the outer side."""
    colour = {True: "#444444", False: "#CCCCCC"}
    layers = [part for part in stack if part[0] in ("attention", "norm 1", "cross-attention", "norm 2", "feed-forward", "norm 3")]
    low, high = layers[0][2] - 0.95, layers[-1][2] + 0.5
    axis.add_patch(FancyBboxPatch((x - 1.95, low), 3.9, high - low, boxstyle="round,pad=0.02,rounding_size=0.2", facecolor="none", edgecolor=colour[alive], linewidth=1.0, zorder=0))
    axis.text(x + side * 2.15, (low + high) / 2, "N×", ha="left" if side > 0 else "right", va="center", fontsize=10, color=colour[alive])
    axis.plot([x, x], [stack[0][2], stack[-1][2]], color=colour[alive], linewidth=1.1, zorder=1)
    for (name, _, y), (norm, _, above) in zip(layers[::2], layers[1::2]):
        there = alive and name not in dropped
        axis.plot([x, x + side * 1.65, x + side * 1.65, x + side * 1.45], [y - 0.62, y - 0.62, above, above], color=colour[there], linewidth=1.1, linestyle="-" if there else ":", zorder=1)
    for name, text, y in stack:
        look = "dropped" if not alive or name in dropped else "changed" if name in changed else "kept"
        draw_box(axis, x, y, changed.get(name, text) if alive else text, look)


figure, axes = plt.subplots(1, 4, figsize=(16, 8.2), layout="constrained")
for axis, (title, (half, changed, dropped, top)) in zip(axes, VARIANTS.items()):
    axis.set(xlim=(-2.9, 7.9), ylim=(-0.7, 13.8))
    axis.axis("off")
    axis.set_title(title, fontsize=12, weight="bold")
    draw_stack(axis, 0, -1, ENCODER, changed, dropped, half != "decoder")
    draw_stack(axis, 5, 1, DECODER, changed, dropped, half != "encoder")
    memory = half == "both"
    axis.plot([0, 0, 2.5, 2.5, 3.65], [7.5, 8.1, 8.1, 6.3, 6.3], color="#444444" if memory else "#CCCCCC", linewidth=1.1, linestyle="-" if memory else ":", zorder=1)
    if top:
        axis.plot([0, 0], [7.5, max(y for _, y in top.values())], color="#444444", linewidth=1.1, zorder=1)
    for text, y in top.values():
        draw_box(axis, 0, y, text, "changed")
handles = [plt.Rectangle((0, 0), 1, 1, facecolor=face, edgecolor=edge, linestyle=style, linewidth=width) for face, edge, style, width in LOOKS.values()]
figure.legend(handles, ["kept", "changed or added", "dropped"], loc="outside lower center", ncols=3, frameon=False, fontsize=11)
plt.show()

# %% [markdown]
# **What to see.** Leftmost is Figure 1 itself. The grey core, attention and feed-forward network with their residual connections, is the same four times: nobody changed what you built in weeks 2 and 3. What changes stands at the ends (what goes in,
# what is asked), in the mask, and in where the norms are. GPT's decoder without its cross-attention has the two sub-layers of an encoder: with a causal mask it *is* one. So one class will do for BERT and GPT.

# %% [markdown]
# ## BERT: guess what is hidden
#
# A model that sees the whole sentence cannot be trained to predict the next word: it sees that, too. BERT hides some of the words and asks for those. That needs no labels: the text is its own answer.
#
# ## Exercise 1 · `mask_tokens`
#
# *Difficulty ●●○ · 25 minutes · 5 points*
#
# | chosen for prediction | of those | goes in | label |
# | --- | --- | --- | --- |
# | 15 % of the tokens | 80 % | `[MASK]` | the token |
# | | 10 % | a random token | the token |
# | | 10 % | the token itself | the token |
# | all the others | | the token itself | −100: no prediction, no loss |
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | how many | 15 % of the tokens "in each sequence" (section 3.1, task 1) | each token that is not special with a probability of 15 %; exactly 15 % of them is fine too | on average the same; needs no sorting |
# | `[CLS]`, `[SEP]`, padding | nothing | never chosen | there is nothing to learn from guessing them |
# | random token | nothing on how | uniform over the vocabulary; whether special tokens, or the token itself, may come up is up to you | it hardly matters among 30,000 |
# | label of the rest | nothing | −100 | `F.cross_entropy` leaves it out by default |


# %% tags=["export"]
def mask_tokens(
    tokens: Tensor, mask_id: int, vocab_size: int, special_ids: Sequence[int],
    probability: float = 0.15, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Hide some tokens for a masked language model (BERT, section 3.1, task 1).

    Args:
        tokens: token numbers (B, L), int64.
        mask_id: the number of the [MASK] token.
        vocab_size: random tokens come from 0 … vocab_size − 1.
        special_ids: a list of token numbers that are never chosen: padding, beginning, end, [MASK] itself.
        probability: that a token which is not special is chosen. 0: none, 1: all of them.
        generator: where all random numbers come from, on the CPU; the global generator of torch if
            None. A generator in the same state gives the same result, and every call moves it on.

    Returns: inputs (B, L): of the chosen tokens 80 % are mask_id, 10 % a random token, 10 %
        unchanged; and labels (B, L): the tokens where chosen (the unchanged ones too), −100
        elsewhere. Both int64 and new: `tokens` is not changed. Each token has its own fate,
        whatever row or column it is in. Random tokens are uniform over the vocabulary, with or
        without the special ones.
    """
    ### BEGIN SOLUTION
    special = torch.isin(tokens, torch.tensor(special_ids))
    chosen = (torch.rand(tokens.shape, generator=generator) < probability) & ~special  # (B, L)
    labels = tokens.masked_fill(~chosen, -100)
    fate = torch.rand(tokens.shape, generator=generator)
    drawn = torch.randint(vocab_size, tokens.shape, generator=generator)
    inputs = tokens.masked_fill(chosen & (fate < 0.8), mask_id)
    return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels
    ### END SOLUTION


# %%
@check("mask_tokens", points=5, paper="BERT, section 3.1, task 1")
def _(case):
    def seeded():
        return torch.Generator().manual_seed(case.integer(0, 2**31))

    def sentences(rows, length, special, vocab_size):  # with special tokens at both ends and here and there; only the first half of the vocabulary occurs
        ordinary = torch.tensor([token for token in range(vocab_size // 2) if token not in special])
        tokens = ordinary[case.integers(0, len(ordinary), rows, length)]
        at = case.boolean(rows, length, p=0.1)
        at[:, 0] = at[:, -1] = True
        return torch.where(at, torch.tensor(special)[case.integers(0, len(special), rows, length)], tokens)

    def facts(tokens, inputs, labels, special):  # what holds exactly, whatever is drawn
        at = torch.isin(tokens, torch.tensor(special))
        predicted = labels != -100
        return {
            "shapes": [list(inputs.shape), list(labels.shape)],
            "dtypes": [str(inputs.dtype), str(labels.dtype)],
            "special tokens predicted": int((predicted & at).sum()),
            "labels that are neither the token nor −100": int((predicted & (labels != tokens)).sum()),
            "tokens changed that are not predicted": int((~predicted & (inputs != tokens)).sum()),
            "inputs outside the vocabulary": int(((inputs < 0) | (inputs >= vocab_size)).sum()),
        }

    def fates(tokens, inputs, labels, mask_id):  # shares among the predicted tokens
        predicted = labels != -100
        given, true = inputs[predicted], tokens[predicted]
        masked, same = (given == mask_id).double().mean(), (given == true).double().mean()
        return torch.stack([masked, 1 - masked - same, same]).nan_to_num(-1.0)

    def run(tokens, *args, **kwargs):
        kept = tokens.clone()
        inputs, labels = mask_tokens(tokens, *args, **kwargs)
        return kept, inputs, labels

    labels = ("inputs", "labels")
    special, mask_id, vocab_size = [0, 1, 2, 3], 3, 1000
    few = torch.tensor([[1, 7, 8, 2, 0], [1, 9, 7, 5, 2]])
    case.call("probability 0: nothing is chosen", mask_tokens, few, mask_id, 10, special, probability=0.0, generator=seeded(), labels=labels)
    case.call("probability 1: labels are all tokens that are not special", lambda tokens: mask_tokens(tokens, mask_id, 10, special, probability=1.0, generator=seeded())[1], few)
    case.call("probability 1, special_ids=[3]: labels are all other tokens, 0 too", lambda tokens: mask_tokens(tokens, 3, 10, [3], probability=1.0, generator=seeded())[1], torch.tensor([[0, 1, 2, 3, 4]]))

    tokens = sentences(40, 50, special, vocab_size)
    generator = seeded()
    state = generator.get_state()
    first = run(tokens, mask_id, vocab_size, special, generator=generator)
    second = run(tokens, mask_id, vocab_size, special, generator=generator)
    case.record("2,000 tokens: what holds for any draw", facts(*first, special), about="number of")
    generator.set_state(state)
    torch.manual_seed(case.integer(0, 2**31))  # of no influence
    again = run(tokens, mask_id, vocab_size, special, generator=generator)
    case.record("the same generator state gives the same result", [torch.equal(a, b) for a, b in zip(first[1:], again[1:])], about="the same")
    case.record("the next call gives another one", torch.equal(first[2], second[2]), about="the same labels")
    others = [run(tokens, mask_id, vocab_size, special)[2] for _ in range(2)]
    case.record("without a generator, two calls differ", torch.equal(*others), about="the same labels")
    torch.manual_seed(7)
    one = run(tokens, mask_id, vocab_size, special)
    torch.manual_seed(7)
    two = run(tokens, mask_id, vocab_size, special)
    case.record("without a generator, torch's global seed decides", [torch.equal(a, b) for a, b in zip(one[1:], two[1:])], about="the same")

    tokens = sentences(120, 150, special, vocab_size)
    ordinary = ~torch.isin(tokens, torch.tensor(special))
    generator = seeded()
    one, two = (run(tokens, mask_id, vocab_size, special, probability=1.0, generator=generator)[1] for _ in range(2))
    masked = (one == mask_id) & ordinary
    for axis, name in ((1, "rows"), (0, "columns")):
        there, hidden = ordinary.sum(axis), masked.sum(axis)
        case.record(f"18,000 tokens, probability 1: {name} of which all ordinary tokens become [MASK], or none", int((((hidden == 0) | (hidden == there)) & (there > 0)).sum()), about="how many")
    case.record("probability 1: of the places with [MASK], the share that has it after the next call, too", float(two[masked].eq(mask_id).sum() / masked.sum().clamp(min=1)), at_most=0.9, about="share")
    drawn = (one != tokens) & (two != tokens) & (one != mask_id) & (two != mask_id)
    case.record("probability 1: of the places with a random token, twice, the share where it is the same one", float(one[drawn].eq(two[drawn]).sum() / drawn.sum().clamp(min=1)), at_most=0.5, about="share")

    tokens = sentences(520, 500, special, vocab_size)
    kept, inputs, found = run(tokens, mask_id, vocab_size, special, generator=seeded())
    ordinary, predicted = ~torch.isin(kept, torch.tensor(special)), found != -100
    case.record("260,000 tokens: what holds for any draw", facts(kept, inputs, found, special), about="number of")
    case.record("260,000 tokens: share of the ordinary ones that is predicted", float(predicted[ordinary].double().mean()), tol=0.025, about="share")
    case.record("of those: shares of [MASK], another token, the token itself", fates(kept, inputs, found, mask_id), tol=0.018, about="shares")
    for axis, name in ((1, "rows"), (0, "columns")):
        there, chosen = ordinary.sum(axis), (predicted & ordinary).sum(axis)
        case.record(f"260,000 tokens: {name} of which all ordinary tokens are predicted, or none", int((((chosen == 0) | (chosen == there)) & (there > 0)).sum()), about="how many")

    vocab_size = 64
    tokens = sentences(400, 420, special, vocab_size)
    kept, inputs, found = run(tokens, mask_id, vocab_size, special, probability=1.0, generator=seeded())
    case.record("probability 1: what holds for any draw", facts(kept, inputs, found, special), about="number of")
    case.record("probability 1: shares of [MASK], another token, the token itself", fates(kept, inputs, found, mask_id), tol=0.01, about="shares")
    drawn = inputs[(found != -100) & (inputs != kept) & ~torch.isin(inputs, torch.tensor(special))]
    counts = torch.bincount(drawn.clamp(0, vocab_size - 1), minlength=vocab_size)[len(special) :]
    case.record("random tokens: numbers of ordinary tokens that never came up", int((counts == 0).sum()), about="how many")
    unseen = counts[vocab_size // 2 - len(special) :].double()  # tokens that do not occur in the text
    case.record("random tokens: the share of those that do not occur in the text", float(unseen.sum() / counts.sum().clamp(min=1)), tol=0.04, about="share")
    case.record("random tokens: how much more often than the mean the most frequent one comes up", float(unseen.max() / unseen.mean().clamp(min=1e-9)), at_most=1.5, about="ratio")
    ### BEGIN HIDDEN TESTS
    special, mask_id, vocab_size = [120, 7, 0, 31], 120, 122
    tokens = sentences(300, 700, special, vocab_size)
    kept, inputs, found = run(tokens, mask_id, vocab_size, special, probability=0.4, generator=seeded())
    ordinary = ~torch.isin(kept, torch.tensor(special))
    case.record("special tokens anywhere in the vocabulary, probability 0.4: what holds for any draw", facts(kept, inputs, found, special), about="number of")
    case.record("probability 0.4: share of the ordinary tokens that is predicted", float((found != -100)[ordinary].double().mean()), tol=0.015, about="share")
    case.record("probability 0.4: shares of [MASK], another token, the token itself", fates(kept, inputs, found, mask_id), tol=0.013, about="shares")
    text = torch.unique(kept)
    drawn = torch.unique(inputs[inputs != kept])
    missing = [token for token in range(vocab_size) if token not in special and token not in drawn.tolist()]
    case.record("probability 0.4: ordinary tokens that never came up at random", len(missing), about="how many")
    case.record("one column", facts(*run(sentences(50, 3, special, vocab_size)[:, 1:2], mask_id, vocab_size, special, generator=seeded()), special), about="number of")
    only = torch.tensor([special, special])
    case.call("nothing but special tokens", mask_tokens, only, mask_id, vocab_size, special, probability=1.0, generator=seeded(), labels=labels)
    case.call("labels with probability 1, special tokens anywhere", lambda tokens: mask_tokens(tokens, mask_id, vocab_size, special, 1.0, seeded())[1], tokens[:3, :9])
    alike = case.integers(150, 300, 400, 400)
    _, inputs, found = run(alike, 3, 300, [0, 1, 2, 3], probability=0.4, generator=seeded())
    chosen, masked = found != -100, inputs == 3
    for name, here, there in (("to the right", lambda t: t[:, :-1], lambda t: t[:, 1:]), ("below", lambda t: t[:-1], lambda t: t[1:])):
        case.record(f"probability 0.4: of the chosen tokens, the share whose neighbour {name} is chosen, too", float(there(chosen)[here(chosen)].double().mean()), tol=0.03, about="share")
        both = here(chosen) & there(chosen)
        case.record(f"probability 0.4: of chosen neighbours, one {name} of the other, the share where both are [MASK]", float((here(masked) & there(masked))[both].double().mean()), tol=0.04, about="share")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "mask_tokens",
    "Two questions are asked of each token, one after the other: is it to be predicted? If so, what goes in in its place? Which of the two decides the labels?",
    "BERT, section 3.1, “Task #1: Masked LM”: 15 % are chosen; if the i-th token is chosen, it is replaced by [MASK] 80 % of the time, by a random token 10 % of the time, and stays unchanged 10 % of the time.",
    "Draw a number in [0, 1) for each token and choose where it is below the probability and the token is not special. Copy the tokens to the labels there and put −100 elsewhere. Draw a second number for each token: below 0.8 the mask goes in, from 0.9 on a token drawn from the vocabulary. Hand the generator to every draw.",
)
misconceptions(
    "mask_tokens",
    mistake("always [MASK]", ("return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels", "return tokens.masked_fill(chosen, mask_id), labels"), says="Every chosen token becomes [MASK]. In use there is no [MASK]: so 10 % become a random token and 10 % stay as they are."),
    mistake("80/20/0", ("fate >= 0.9", "fate >= 0.8"), says="No chosen token stays as it is: 80 % become [MASK] and 20 % a random token. 10 % are to stay."),
    mistake("80/0/20", ("torch.where(chosen & (fate >= 0.9), drawn, inputs)", "inputs"), says="No token is replaced by a random one: 20 % of the chosen ones stay as they are, where 10 % are to be random."),
    mistake("10 % of the rest", ("chosen & (fate >= 0.9)", "chosen & (fate >= 0.8) & (torch.rand(tokens.shape, generator=generator) < 0.1)"), says="10 % of the tokens that were not masked are random: that is 2 % of the chosen. It takes half of the remaining 20 %."),
    mistake("60/20/20", ("fate < 0.8", "fate < 0.6"), ("fate >= 0.9", "fate >= 0.8"), says="Of the chosen tokens 60 % are masked, 20 % random and 20 % unchanged; it is 80, 10 and 10 %."),
    mistake("one draw for both questions", ("    fate = torch.rand(tokens.shape, generator=generator)\n", ""), ("chosen = (torch.rand(tokens.shape, generator=generator) < probability)", "fate = torch.rand(tokens.shape, generator=generator)\n    chosen = (fate < probability)"), says="One random number decides both whether a token is chosen and what becomes of it. Those with a number below 15 % are all below 80 %, so every one is masked; draw a second number."),
    mistake("special tokens too", (" & ~special  # (B, L)", ""), says="Special tokens are chosen as well; the beginning, the end and padding are never to be predicted."),
    mistake("only padding is special", ("torch.tensor(special_ids)", "torch.tensor(special_ids[:1])"), says="Only the first of the special tokens is left alone; none of them may be chosen."),
    mistake("15 % of all, from the ordinary ones", ("< probability)", "< probability / (~special).double().mean())"), says="The share is taken of all tokens, special ones included, so more than 15 % of the ordinary ones are chosen."),
    mistake("labels only where the input changed", ("return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels", "inputs = torch.where(chosen & (fate >= 0.9), drawn, inputs)\n    return inputs, labels.masked_fill(inputs == tokens, -100)"), says="Chosen tokens that stay as they are have no label. They are to be predicted too: that is what they are for, the model cannot know which of the visible words are true."),
    mistake("labels everywhere", ("labels = tokens.masked_fill(~chosen, -100)", "labels = tokens.clone()"), says="Every token has a label; only the chosen ones are to be predicted, the others get −100."),
    mistake("labels only where masked", ("labels = tokens.masked_fill(~chosen, -100)\n    fate = torch.rand(tokens.shape, generator=generator)", "fate = torch.rand(tokens.shape, generator=generator)\n    labels = tokens.masked_fill(~(chosen & (fate < 0.8)), -100)"), says="Only tokens that became [MASK] have a label; the random and the unchanged ones are to be predicted too."),
    mistake("labels of the masked input", ("return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels", "inputs = torch.where(chosen & (fate >= 0.9), drawn, inputs)\n    return inputs, inputs.masked_fill(~chosen, -100)"), says="The labels hold what goes in; they have to hold the true tokens, from before anything was replaced."),
    mistake("labels inverted", ("masked_fill(~chosen, -100)", "masked_fill(chosen, -100)"), says="The chosen tokens get −100 and the others a label: the wrong way round."),
    mistake("0 instead of −100", ("-100", "0"), says="Tokens that are not predicted have label 0, which is a token; the loss leaves out −100."),
    mistake("rows chosen alike", ("(torch.rand(tokens.shape, generator=generator) < probability)", "(torch.rand(tokens.size(1), generator=generator) < probability)"), says="The same columns are chosen in every row of the batch; each token has its own draw."),
    mistake("columns chosen alike", ("(torch.rand(tokens.shape, generator=generator) < probability)", "(torch.rand(tokens.size(0), 1, generator=generator) < probability)"), says="Whole sentences are chosen or not; each token has its own draw."),
    mistake("sentences share a fate", ("fate = torch.rand(tokens.shape, generator=generator)", "fate = torch.rand(tokens.size(0), 1, generator=generator)"), says="What becomes of chosen tokens is drawn once for each sentence, so all of them become [MASK] or none; each token has its own draw."),
    mistake("columns share a fate", ("fate = torch.rand(tokens.shape, generator=generator)", "fate = torch.rand(tokens.size(1), generator=generator)"), says="What becomes of chosen tokens is drawn once for each column, for all sentences alike; each token has its own draw."),
    mistake("the same fates in every call", ("fate = torch.rand(tokens.shape, generator=generator)", "fate = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0))"), says="What becomes of a chosen token is drawn with a fixed seed, so a place has the same fate in every call. This draw, too, comes from the generator."),
    mistake("the same random tokens in every call", ("torch.randint(vocab_size, tokens.shape, generator=generator)", "torch.randint(vocab_size, tokens.shape, generator=torch.Generator().manual_seed(0))"), says="Random tokens are drawn with a fixed seed, so a place gets the same one in every call. This draw, too, comes from the generator."),
    mistake("0 is always special", ("& ~special  # (B, L)", "& ~special & (tokens != 0)  # (B, L)"), says="Token 0 is never chosen, whatever `special_ids` says; padding may have another number."),
    mistake("one random token for all", ("torch.randint(vocab_size, tokens.shape, generator=generator)", "torch.randint(vocab_size, (1,), generator=generator)"), says="All random tokens of a call are one and the same; each has its own draw."),
    mistake("random tokens from the text", ("torch.randint(vocab_size, tokens.shape, generator=generator)", "tokens.flatten()[torch.randint(tokens.numel(), tokens.shape, generator=generator)]"), says="Random tokens are taken from the text of the batch; they are to be uniform over the vocabulary, 0 … vocab_size − 1."),
    mistake("the last token never comes up", ("torch.randint(vocab_size,", "torch.randint(vocab_size - 1,"), says="The last token of the vocabulary never comes up: randint leaves out its upper bound already."),
    mistake("one past the vocabulary", ("torch.randint(vocab_size,", "torch.randint(vocab_size + 1,"), says="Random tokens can be vocab_size, one past the last; an embedding cannot look that up."),
    mistake("random numbers of another place", ("torch.randint(vocab_size, tokens.shape, generator=generator)", "torch.randint(vocab_size, tokens.shape)"), says="The random tokens do not come from the generator, so a run cannot be repeated. Hand it to every draw."),
    mistake("generator ignored", ("generator=generator) < probability", "generator=None) < probability"), ("fate = torch.rand(tokens.shape, generator=generator)", "fate = torch.rand(tokens.shape)"), ("torch.randint(vocab_size, tokens.shape, generator=generator)", "torch.randint(vocab_size, tokens.shape)"), says="The generator is not used, so the same state gives another result each time. Hand it to every draw."),
    mistake("a fixed seed", ("    special =", "    generator = torch.Generator().manual_seed(0)\n    special ="), says="Every call begins with the same seed, so the same places are hidden each time; an epoch is to hide others than the one before."),
    mistake("the tokens are overwritten", ("inputs = tokens.masked_fill(chosen", "inputs = tokens.masked_fill_(chosen"), says="The masks are written into the caller's tokens: in the next epoch the text would have holes. Work on a copy."),
    mistake("always 15 %", ("< probability)", "< 0.15)"), says="15 % are chosen whatever `probability` says."),
    mistake("labels before inputs", ("drawn, inputs), labels", "drawn, labels), inputs"), says="The two results are mixed up: inputs first, then labels."),
    mistake("float labels", ("labels = tokens.masked_fill(~chosen, -100)", "labels = tokens.double().masked_fill(~chosen, -100)"), says="The labels are floating-point numbers; cross-entropy wants class numbers, int64."),
)
equivalents(
    "mask_tokens",
    {
        "comparison: `chosen = (torch.rand(tokens.shape, generator=generator) < probability) & ~special` → `chosen = (torch.rand(tokens.shape, generator=generator) <= probability) & ~special`": "a draw of exactly this number has a probability of 2⁻²⁴, and the share hardly changes",
        "comparison: `inputs = tokens.masked_fill(chosen & (fate < 0.8), mask_id)` → `inputs = tokens.masked_fill(chosen & (fate <= 0.8), mask_id)`": "a draw of exactly this number has a probability of 2⁻²⁴, and the share hardly changes",
        "comparison: `return torch.where(chosen & (fate >= 0.9), drawn, inputs), labels` → `return torch.where(chosen & (fate > 0.9), drawn, inputs), labels`": "a draw of exactly this number has a probability of 2⁻²⁴, and the share hardly changes",
    },
)


# %% tags=["alternative"]
@alternative("a copy, written to by index, Bernoulli draws one after the other")
def mask_tokens(tokens, mask_id, vocab_size, special_ids, probability=0.15, generator=None):
    inputs, labels = tokens.clone(), tokens.clone()
    weights = torch.full(tokens.shape, probability)
    for token in special_ids:
        weights[tokens == token] = 0.0
    chosen = torch.bernoulli(weights, generator=generator).bool()
    labels[~chosen] = -100
    masked = torch.bernoulli(torch.full(tokens.shape, 0.8), generator=generator).bool() & chosen
    inputs[masked] = mask_id
    random = torch.bernoulli(torch.full(tokens.shape, 0.5), generator=generator).bool() & chosen & ~masked
    inputs[random] = torch.randint(vocab_size, tokens.shape, generator=generator)[random]
    return inputs, labels


# %% tags=["alternative"]
@alternative("exactly the share, by a random order; ordinary random tokens only")
def mask_tokens(tokens, mask_id, vocab_size, special_ids, probability=0.15, generator=None):
    inputs, labels = tokens.clone().flatten(), torch.full((tokens.numel(),), -100)
    ordinary = torch.tensor([token for token in range(vocab_size) if token not in set(special_ids)])
    places = torch.isin(tokens.flatten(), ordinary).nonzero().squeeze(1)
    order = places[torch.randperm(len(places), generator=generator)][: round(probability * len(places))]
    labels[order] = tokens.flatten()[order]
    eight, nine = round(0.8 * len(order)), round(0.9 * len(order))
    inputs[order[:eight]] = mask_id
    inputs[order[eight:nine]] = ordinary[torch.randint(len(ordinary), (nine - eight,), generator=generator)]
    return inputs.view_as(tokens), labels.view_as(tokens)


# %% tags=["alternative"]
@alternative("a loop over tokens, lists")
def mask_tokens(tokens, mask_id, vocab_size, special_ids, probability=0.15, generator=None):
    choose, fate = (torch.rand(tokens.numel(), generator=generator).tolist() for _ in range(2))
    drawn = torch.randint(0, vocab_size, (tokens.numel(),), generator=generator).tolist()
    special, inputs, labels = set(special_ids), [], []
    for token, a, b, other in zip(tokens.flatten().tolist(), choose, fate, drawn):
        hidden = a < probability and token not in special
        labels.append(token if hidden else -100)
        inputs.append(token if not hidden or b < 0.1 else other if b < 0.2 else mask_id)
    return torch.tensor(inputs).reshape(tokens.shape), torch.tensor(labels).reshape(tokens.shape)


# %% tags=["alternative"]
@alternative("a categorical draw, sentence by sentence")
def mask_tokens(tokens, mask_id, vocab_size, special_ids, probability=0.15, generator=None):
    shares = torch.tensor([1 - probability, 0.8 * probability, 0.1 * probability, 0.1 * probability])
    rows = []
    for sentence in tokens:
        fate = torch.multinomial(shares, len(sentence), replacement=True, generator=generator)
        fate = torch.where(sum(sentence == token for token in special_ids) > 0, 0, fate)
        other = (torch.rand(len(sentence), generator=generator) * vocab_size).long()
        given = torch.where(fate == 1, torch.full_like(sentence, mask_id), torch.where(fate == 2, other, sentence))
        rows.append((given, torch.where(fate > 0, sentence, -100)))
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


# %% tags=["alternative"]
@alternative("random tokens first, masks over them, only the chosen places drawn for")
def mask_tokens(tokens, mask_id, vocab_size, special_ids, probability=0.15, generator=None):
    eligible = torch.ones_like(tokens, dtype=torch.bool)
    for token in special_ids:
        eligible &= tokens.ne(token)
    chosen = eligible.logical_and(torch.empty(tokens.shape).uniform_(generator=generator) < probability)
    labels = torch.full_like(tokens, -100)
    labels[chosen] = tokens[chosen]
    true = tokens[chosen]
    fate = torch.rand(len(true), generator=generator)
    given = torch.where(fate < 0.1, torch.randint(vocab_size, true.shape, generator=generator), true)
    given[fate >= 0.2] = mask_id
    inputs = tokens.clone()
    inputs[chosen] = given
    return inputs, labels


# %% [markdown]
# ### Try it: a sentence, hidden five times
#
# Each row is a new draw on the same sentence. Numbers count how often each fate befell a chosen token in 100,000.

# %% tags=["picture"]
generator = torch.Generator().manual_seed(SEED)
words = "<pad> <bos> <eos> <mask> the small dog that sees a bird sings".split()
sentence = torch.tensor([[1, 4, 5, 6, 7, 8, 9, 10, 11, 2]])
for _ in range(5):
    inputs, labels = mask_tokens(sentence, 3, len(words), [0, 1, 2, 3], generator=generator)
    shown = [words[token] + (f" ({words[label]})" if label != -100 else "") for token, label in zip(inputs[0].tolist(), labels[0].tolist())]
    print(" ".join(shown))
tokens = torch.randint(4, 1000, (1000, 700), generator=generator)
inputs, labels = mask_tokens(tokens, 3, 1000, [0, 1, 2, 3], generator=generator)
chosen = labels != -100
print(f"\nchosen {chosen.double().mean():.4f}; of those [MASK] {(inputs == 3)[chosen].double().mean():.4f}, unchanged {(inputs == tokens)[chosen].double().mean():.4f}")

# %% [markdown]
# ## Exercise 2 · `LanguageModel`
#
# *Difficulty ●●○ · 25 minutes · 4 points*
#
# BERT is the encoder of week 3 with a vocabulary on top. GPT is the same with a causal mask. So one class has both, with a switch.
#
# | | the papers say | this code does | why |
# | --- | --- | --- | --- |
# | positions | a learned vector for each (BERT, figure 2; GPT, section 4.1) | the same | |
# | segments, next sentence | BERT also learns which of two sentences a word is in, and whether they follow each other | left out | later work trains as well without |
# | embedding × √d_model | not mentioned; their code does not | no | vectors start small, N(0, 0.02²), and are normalised before anything else happens |
# | norms | after the sum; GPT-2 and all that followed: before the sub-layer | before (`pre_norm=True`), with one more at the end | trains without a warm-up as careful |
# | feed-forward | GELU | ReLU: `Encoder` of week 3 | one thing at a time; the difference is small |
# | output | BERT: a linear layer, GELU and a norm in front of the vocabulary, and a bias for each word | the dot product with each word's embedding, nothing else | GPT's way (equation 2); weights tied as in section 3.4 of "Attention Is All You Need" |


# %% tags=["export"]
class LanguageModel(nn.Module):
    """BERT's encoder, or with a causal mask GPT's decoder: tokens in, logits of a token at every
    position out.

    Args:
        vocab_size: how many tokens there are. max_len: the longest sentence.
        d_model, h, N, d_ff, dropout: as of Encoder.
        causal: True for GPT: a position sees itself and what came before. False for BERT: it sees everything.
        pad_id: the number of padding, which stands on the right and is seen by nobody.

    Attributes: `token_embedding` and `position_embedding`, each an nn.Embedding; `dropout`, an
        nn.Dropout of the sum of the two; `encoder`, an Encoder(N, d_model, h, d_ff, dropout,
        pre_norm=True) of week 3. No other parameters: logits are dot products with the rows of the
        token embedding.

    May not call nn.Transformer* or nn.MultiheadAttention.
    """

    def __init__(
        self, vocab_size: int, max_len: int, d_model: int = 64, h: int = 4, N: int = 2,
        d_ff: int = 128, dropout: float = 0.1, causal: bool = False, pad_id: int = 0
    ) -> None:
        super().__init__()
        self.causal, self.pad_id = causal, pad_id
        ### BEGIN SOLUTION
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(max_len, d_model)
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        ### END SOLUTION
        for embedding in (self.token_embedding, self.position_embedding):
            nn.init.normal_(embedding.weight, std=0.02)  # as BERT and GPT do

    def forward(self, tokens: Tensor) -> Tensor:
        """Token numbers (B, L), L ≤ max_len, to logits (B, L, vocab_size). What comes out at
        padding means nothing."""
        ### BEGIN SOLUTION
        L = tokens.size(1)
        places = torch.arange(L, device=tokens.device)
        x = self.token_embedding(tokens) + self.position_embedding(places)  # (B, L, d_model)
        not_later = causal_mask(L).to(tokens.device) if self.causal else None
        mask = combine_masks(padding_mask(tokens, self.pad_id), not_later)  # (B, 1, L) or (B, L, L)
        x = self.encoder(self.dropout(x), mask)
        return x @ self.token_embedding.weight.T  # (B, L, vocab_size)
        ### END SOLUTION


# %%
@check(
    "LanguageModel", points=4, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention", "torch.nn.functional.multi_head_attention_forward"],
    paper="BERT, section 3; GPT, section 3.1, equation 2",
)  # fmt: skip
def _(case):
    def make(*args, **options):
        model = case.initialise(LanguageModel(*args, **options).to(case.device))
        return model.eval()

    def words(model, pad_id=0):  # what comes out at padding is not compared
        return lambda tokens: model(tokens)[tokens != pad_id]

    def tokens(*rows):
        return torch.tensor(rows, device=case.device)

    bert, gpt = make(9, 6, 8, 2, 2, 10), make(9, 6, 8, 2, 2, 10, causal=True)
    case.call("two words, not causal", bert, tokens([4, 7]))
    case.call("two words, causal", gpt, tokens([4, 7]))
    case.call("the same word twice: only positions differ", bert, tokens([5, 5, 5]))
    case.call("a batch, not causal", bert, tokens([4, 7, 1, 8, 3], [2, 2, 6, 4, 1]))
    case.call("a batch, causal", gpt, tokens([4, 7, 1, 8, 3], [2, 2, 6, 4, 1]))
    padded = tokens([4, 7, 1, 0, 0, 0], [2, 2, 6, 4, 1, 8])
    case.call("padding on the right is seen by nobody", words(bert), padded)
    case.call("padding on the right, causal", words(gpt), padded)
    case.call("causal in training mode, too", make(9, 6, 8, 2, 1, 10, dropout=0.0, causal=True).train(), tokens([4, 7, 1, 8]))
    output = bert(tokens([4, 7, 1, 3]))
    case.gradients("gradients of the parameters", output, {name: p for name, p in bert.named_parameters() if name in ("token_embedding.weight", "position_embedding.weight")})
    dropped = LanguageModel(9, 6, 8, 2, 2, 10, dropout=1.0)
    case.initialise(dropped.train())
    case.call("dropout 1 in training: no word and no position gets through", dropped, tokens([4, 7, 1]))
    other = make(9, 6, 8, 2, 1, 10, pad_id=5)
    case.call("padding has the number 5", words(other, 5), tokens([4, 0, 1, 5], [3, 5, 5, 5]))
    ### BEGIN HIDDEN TESTS
    wide = make(20, 11, 12, 3, 3, 7, 0.2, True, 2)
    text = case.integers(3, 20, 4, 11)
    before = case.call("three layers, three heads, the longest sentence, causal", wide, text)
    text[:, 6:] = case.integers(3, 20, 4, 5)
    after = case.call("three layers, other words from position 6 on", wide, text)
    case.record("later words change nothing earlier", float((after - before)[:, :6].abs().max().detach()), at_most=1e-5, about="change")
    text[:, 7:] = 2
    case.call("three layers, padding, causal", words(wide, 2), text)
    open_ = make(15, 8, 12, 4, 1, 5, 0.0, False, 0)
    text = case.integers(1, 15, 3, 7)
    case.call("not causal, one layer, four heads", open_, text)
    text[1, 3:] = 0
    case.call("not causal, one layer, padding", words(open_), text)
    case.call("one word", open_, text[:, :1])
    sizes = {"not causal": LanguageModel(30, 12, 16, 4, 2, 20), "causal": LanguageModel(30, 12, 16, 4, 2, 20, causal=True)}
    case.record("how many parameters", {name: sum(p.numel() for p in model.parameters()) for name, model in sizes.items()}, about="parameters,")
    case.call("sizes by default", make(9, 6), tokens([4, 7, 1, 3]))
    case.record("dropout by default", LanguageModel(9, 6).dropout.p, about="the rate")
    still = make(15, 8, 12, 4, 1, 5, 0.0).train()
    case.call("training without dropout, padded", words(still), tokens([4, 7, 1, 0, 0], [2, 2, 6, 4, 1]))
    given, seen = LanguageModel(9, 6, 40).train(), []
    given.encoder.register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0] if args else kwargs["x"]), with_kwargs=True)
    given(case.integers(1, 9, 50, 6))
    case.record("by default a tenth of the sums is dropped", float((seen[0] == 0).double().mean()) if seen else 0.1, tol=0.25, about="share")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "LanguageModel",
    "Week 3's `Transformer.encode` does nearly all of it. What is different about its positions, and what about its mask?",
    "BERT, figure 2: the input is a sum of embeddings. GPT, equation 2: embeddings plus positions, the layers, then a product with the transposed token embedding.",
    "Look up each token's vector and each column's position vector, add, drop out. Combine the padding mask with the causal mask if `causal`, else with nothing. Through the encoder; then multiply with the token embedding, transposed.",
)
misconceptions(
    "LanguageModel",
    mistake("never causal", ("causal_mask(L).to(tokens.device) if self.causal else None", "None"), says="There is no causal mask, so with causal=True each position sees the word it is to predict."),
    mistake("always causal", ("causal_mask(L).to(tokens.device) if self.causal else None", "causal_mask(L).to(tokens.device)"), says="The causal mask is always on; BERT's positions see the whole sentence."),
    mistake("causal the wrong way round", ("if self.causal else None", "if not self.causal else None"), says="The switch is the wrong way round: causal=True has to hide what comes later."),
    mistake("causal in training only", ("if self.causal else None", "if self.causal and self.training else None"), says="The causal mask is on in training only. Then the model meets in use what it never met in training."),
    mistake("causal in eval only", ("if self.causal else None", "if self.causal and not self.training else None"), says="The causal mask is off in training: there the model sees the word it is to predict, and learns to copy."),
    mistake("sees the future, not the past", ("causal_mask(L).to(tokens.device) if", "causal_mask(L).T.to(tokens.device) if"), says="The causal mask is transposed: a position sees what comes after it."),
    mistake("a word may not see itself", ("causal_mask(L).to(tokens.device) if", "causal_mask(L).tril(-1).to(tokens.device) if"), says="A position may not see itself. It has to: what it predicts is the next word, not its own."),
    mistake("padding not hidden", ("combine_masks(padding_mask(tokens, self.pad_id), not_later)", "not_later"), says="Padding is attended to, so a sentence's logits depend on how long its neighbours in the batch are."),
    mistake("padding is always 0", ("padding_mask(tokens, self.pad_id)", "padding_mask(tokens, 0)"), says="Padding is taken to be 0, whatever `pad_id` says."),
    mistake("no positions", (" + self.position_embedding(places)", ""), says="No positions are added: without them the model cannot tell the order of the words (the causal one hardly)."),
    mistake("position 0 everywhere", ("self.position_embedding(places)", "self.position_embedding(places * 0)"), says="Every position gets the vector of position 0."),
    mistake("positions from 1", ("torch.arange(L, device=tokens.device)", "torch.arange(1, L + 1, device=tokens.device)"), says="Positions are counted from 1; the first is 0, or the longest sentence runs out of the table."),
    mistake("positions looked up by token", ("self.position_embedding(places)", "self.position_embedding(tokens.clamp(max=self.position_embedding.num_embeddings - 1))"), says="Positions are looked up by the token's number; they go by the place in the sentence, 0, 1, 2, …"),
    mistake("sines and cosines", ("self.position_embedding(places)", "positional_encoding(L, x_width).to(tokens.device)"), ("        L = tokens.size(1)", "        from papers.transformer.layers import positional_encoding\n\n        L, x_width = tokens.size(1), self.token_embedding.embedding_dim"), says="Positions are sines and cosines, as in 2017; here each position has a learned vector, `position_embedding`."),
    mistake("embedding times √d_model", ("self.token_embedding(tokens) +", "self.token_embedding(tokens) * self.token_embedding.embedding_dim**0.5 +"), says="The embedding is multiplied by √d_model, as in 2017; BERT and GPT do not."),
    mistake("norms after the sum", ("self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)", "self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=False)"), says="The encoder has its norms after the sum (pre_norm=False); here they stand before each sub-layer, with one at the end."),
    mistake("no dropout", ("self.encoder(self.dropout(x), mask)", "self.encoder(x, mask)"), says="The sum of the embeddings is not dropped out."),
    mistake("dropout before the positions", ("x = self.token_embedding(tokens) +", "x = self.dropout(self.token_embedding(tokens)) +"), ("self.encoder(self.dropout(x), mask)", "self.encoder(x, mask)"), says="Dropout is on the words only; it is on the sum of words and positions."),
    mistake("weights not tied", ("        self.dropout = nn.Dropout(dropout)", "        self.output = nn.Linear(d_model, vocab_size, bias=False)\n        self.dropout = nn.Dropout(dropout)"), ("x @ self.token_embedding.weight.T", "self.output(x)"), says="The output has a matrix of its own; it is to be the token embedding, so that there are no other parameters."),
    mistake("probabilities", ("return x @ self.token_embedding.weight.T", "return torch.softmax(x @ self.token_embedding.weight.T, dim=-1)"), says="The result is a softmax; logits are asked for, the loss takes the softmax itself."),
    mistake("the last vectors", ("return x @ self.token_embedding.weight.T", "return x"), says="The encoder's vectors come back; the product with the token embedding is missing, which makes logits of them."),
    mistake("without gradient to the output", ("self.token_embedding.weight.T", "self.token_embedding.weight.detach().T"), says="The output's embedding is detached, so it learns from the input side only. It is one matrix with two uses, and both count."),
    mistake("one layer", ("self.encoder = Encoder(N,", "self.encoder = Encoder(1,"), says="There is one layer, whatever N says."),
)


# %% tags=["alternative"]
@alternative("F.linear, F.embedding, masks by comparison")
class LanguageModel(nn.Module):
    def __init__(self, vocab_size, max_len, d_model=64, h=4, N=2, d_ff=128, dropout=0.1, causal=False, pad_id=0):
        super().__init__()
        self.causal, self.pad_id, self.p = causal, pad_id, dropout
        self.position_embedding = nn.Embedding(max_len, d_model)
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens):
        B, L = tokens.shape
        x = F.embedding(tokens, self.token_embedding.weight) + self.position_embedding.weight[:L].unsqueeze(0)
        mask = (tokens != self.pad_id)[:, None, :].expand(B, L, L)
        if self.causal:
            mask = mask & torch.ones(L, L, dtype=torch.bool, device=tokens.device).tril()
        return F.linear(self.encoder(self.dropout(x), mask), self.token_embedding.weight)


# %% tags=["alternative"]
@alternative("a tied linear layer, registered after the embedding")
class LanguageModel(nn.Module):
    def __init__(self, vocab_size, max_len, d_model=64, h=4, N=2, d_ff=128, dropout=0.1, causal=False, pad_id=0):
        super().__init__()
        self.causal = causal
        self.pad_id = pad_id
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(max_len, d_model)
        self.head = nn.Linear(d_model, vocab_size, bias=False)
        self.head.weight = self.token_embedding.weight
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N=N, d_model=d_model, h=h, d_ff=d_ff, dropout=dropout, pre_norm=True)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1]).expand_as(tokens)
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(places))
        hidden = padding_mask(tokens, self.pad_id)
        if self.causal:
            hidden = combine_masks(hidden, causal_mask(tokens.shape[1]))
        return self.head(self.encoder(x, hidden))


# %% tags=["alternative"]
@alternative("layer by layer, einsum, positions by cumsum")
class LanguageModel(nn.Module):
    def __init__(self, vocab_size, max_len, d_model=64, h=4, N=2, d_ff=128, dropout=0.1, causal=False, pad_id=0):
        super().__init__()
        self.causal, self.pad_id = causal, pad_id
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.position_embedding = nn.Embedding(max_len, d_model)

    def forward(self, tokens):
        place = torch.ones_like(tokens).cumsum(dim=1) - 1
        x = self.dropout(self.position_embedding(place) + self.token_embedding(tokens))
        mask = tokens.ne(self.pad_id).unsqueeze(1)
        if self.causal:
            mask = mask & (place.unsqueeze(1) <= place.unsqueeze(2))
        for layer in self.encoder.layers:
            x = layer(x, mask)
        return torch.einsum("bld,vd->blv", self.encoder.norm(x), self.token_embedding.weight)


# %% tags=["alternative"]
@alternative("padding hidden as a query too, positions counted in words, float64 for the logits")
class LanguageModel(nn.Module):
    def __init__(self, vocab_size, max_len, d_model=64, h=4, N=2, d_ff=128, dropout=0.1, causal=False, pad_id=0):
        super().__init__()
        self.causal, self.pad_id = causal, pad_id
        self.token_embedding, self.position_embedding = nn.Embedding(vocab_size, d_model), nn.Embedding(max_len, d_model)
        self.dropout, self.encoder = nn.Dropout(dropout), Encoder(N, d_model, h, d_ff, dropout, True)

    def forward(self, tokens):
        words = tokens != self.pad_id
        place = (words.cumsum(1) - 1).clamp(min=0)
        x = self.dropout(self.token_embedding(tokens) + self.position_embedding(place))
        mask = words[:, :, None] & words[:, None, :]
        if self.causal:
            mask = mask.tril()
        logits = self.encoder(x, mask).double() @ self.token_embedding.weight.double().T
        return logits.float()


# %% [markdown]
# ### Text that nobody has to download
#
# A small grammar: subject, perhaps a relative clause, a verb, perhaps an object. Determiner, noun and verb agree in number, across the relative clause too: "the robot*s* that see a small dog sleep". A sentence is right if its kinds of words match one
# regular expression, so whatever a model writes can be marked by machine. The full profile reads captions of photographs instead (Multi30k, English), which nobody can mark that way.

# %%
KINDS = {  # small letters: one, capital letters: several
    "d": "a every this one", "D": "many these some two", "a": "big small red quiet hungry",
    "n": "dog cat bird child teacher robot", "N": "dogs cats birds children teachers robots",
    "i": "sleeps sings waits", "I": "sleep sing wait", "t": "sees follows likes", "T": "see follow like", "r": "that", ".": ".",
}  # fmt: skip
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
RIGHT = re.compile(r"(da?n(rt(da?n|Da?N))?(i|t(da?n|Da?N))|Da?N(rT(da?n|Da?N))?(I|T(da?n|Da?N)))\.")


def write_sentences(count, seed):
    """Sentences of the grammar, as lists of words."""
    draw = random.Random(seed)

    def noun_phrase(several):
        return ("D" if several else "d") + ("a" if draw.random() < 0.4 else "") + ("N" if several else "n")

    written = []
    for _ in range(count):
        several = draw.random() < 0.5
        verb = "T" if several else "t"
        kinds = noun_phrase(several)
        if draw.random() < 0.4:
            kinds += "r" + verb + noun_phrase(draw.random() < 0.5)
        kinds += ("I" if several else "i") if draw.random() < 0.5 else verb + noun_phrase(draw.random() < 0.5)
        written.append([draw.choice(KINDS[kind].split()) for kind in kinds + "."])
    return written


def is_right(words):
    return RIGHT.fullmatch("".join(KIND_OF.get(word, "?") for word in words)) is not None


# %% tags=["picture"]
device = torch.device("cuda" if DEVICE == "auto" and torch.cuda.is_available() else "cpu" if DEVICE == "auto" else DEVICE)
if PROFILE == "quick":
    torch.set_num_threads(1)  # matrices as small as ours are not worth sharing among cores
    training_text, test_text = write_sentences(20_000, SEED), write_sentences(1000, SEED + 1)
    language = dict(d_model=48, h=4, N=2, d_ff=96, dropout=0.0)
    text_steps, text_rate, text_batch, seen_at_least = 400, 4e-3, 64, 1
else:
    captions = [re.findall(r"\w+|[^\w\s]", line.lower()) for part in ("train", "test_2016_flickr") for line in multi30k(part, DATA_DIR)[0]]
    training_text, test_text = captions[:-1000], captions[-1000:]
    language = dict(d_model=256, h=8, N=4, d_ff=1024, dropout=0.1)
    text_steps, text_rate, text_batch, seen_at_least = 5000, 1e-3, 64, 3
text_steps = STEPS or text_steps

known = Vocabulary.of(training_text, at_least=seen_at_least).tokens[4:]
vocabulary = Vocabulary(["<mask>", *known])
MASK_ID, SPECIAL_IDS, max_len = 4, [0, 1, 2, 3, 4], 44 if PROFILE == "full" else 18


def encoded(sentences):
    return pad_sentences([vocabulary.encode(words, bos=True, eos=True)[:max_len] for words in sentences])


training_tokens, test_tokens = encoded(training_text), encoded(test_text)
print(f"{len(training_text):,} sentences, {len(vocabulary):,} tokens in the vocabulary, {(training_tokens != PAD_ID).sum() / len(training_tokens):.1f} tokens a sentence with <bos> and <eos>")
for words in training_text[:3]:
    print("   ", " ".join(words))


def fit(model, loss_of, count, steps, rate, batch_size):
    """`steps` updates by AdamW on batches drawn from `count` examples, the learning rate up and down in one cycle; loss_of(model, indices, generator). Gives back the losses."""
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.15)
    losses, started, cpu = [], time.perf_counter(), time.process_time()
    model.train()
    for _ in range(steps):
        loss = loss_of(model, torch.randint(count, (batch_size,), generator=generator), generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    model.eval()
    size, last = sum(p.numel() for p in model.parameters()), losses[-50:]
    print(f"{size:,} parameters, {steps} steps, loss {losses[0]:.2f} → {sum(last) / len(last):.2f}; {time.perf_counter() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU, on {device}")
    return losses


# %% [markdown]
# ### Try it: train a BERT, fill in the blanks
#
# The loss is the cross-entropy of the hidden words alone, since all other labels are −100.

# %% tags=["picture"]
def masked_loss(model, indices, generator):
    inputs, labels = mask_tokens(training_tokens[indices], MASK_ID, len(vocabulary), SPECIAL_IDS, generator=generator)
    return F.cross_entropy(model(inputs.to(device)).flatten(0, 1), labels.flatten().to(device))


torch.manual_seed(SEED)
bert = LanguageModel(len(vocabulary), max_len, pad_id=PAD_ID, **language).to(device)
bert_losses = fit(bert, masked_loss, len(training_tokens), text_steps, text_rate, text_batch)


def fill_in(words, top=4):
    """What BERT thinks of each <mask> in a sentence: [(word, probability), …]."""
    tokens = torch.tensor([vocabulary.encode(words, bos=True, eos=True)], device=device)
    with torch.no_grad():
        best = torch.softmax(bert(tokens)[0], dim=-1).topk(top)
    return [[(vocabulary.tokens[i], p) for i, p in zip(best.indices[at].tolist(), best.values[at].tolist())] for at in (tokens[0] == MASK_ID).nonzero()[:, 0]]


BLANKS = [
    "<mask> robots that see a small dog sleep .", "the robots that see a small dog <mask> .".replace("the", "some"), "this child that likes many birds <mask> these cats .", "every <mask> sings .",
] if PROFILE == "quick" else ["a <mask> is playing with a ball .", "two men <mask> on a bench .", "a man in a red <mask> is riding a bicycle ."]  # fmt: skip
for sentence in BLANKS:
    print(sentence)
    for guesses in fill_in(sentence.split()):
        print("      " + ", ".join(f"{word} {p:.2f}" for word, p in guesses))

# %% [markdown]
# **What to see.** The first blank stands at the beginning: what it may be is decided by what comes *after*. The second stands behind a relative clause: what it may be is decided by the noun at the beginning, not by the dog next to it. BERT looks both ways. Among the words that fit, nothing in
# the grammar says which is right, and the probability is spread over them.

# %% [markdown]
# ## GPT: predict what comes next
#
# ## Exercise 3 · `causal_lm_loss`
#
# *Difficulty ●○○ · 15 minutes · 3 points*
#
# $$L = -\frac{1}{n} \sum_t \log P(u_{t+1} \mid u_1, \dots, u_t)$$
#
# A sentence is its own target, one place on: the logits at position $t$, which has seen $u_1 \dots u_t$, are compared with $u_{t+1}$. The last logits have no target, and the first token is nobody's.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | what is added up | the log-likelihood of each token given those before it (GPT, equation 1) | its mean, with a minus | comparable across batches |
# | context | a window of $k$ tokens | the whole sentence | ours are short |
# | padding | none: long texts are cut into pieces of 512 | a target that is padding does not count | our sentences differ in length |


# %% tags=["export"]
def causal_lm_loss(logits: Tensor, tokens: Tensor, pad_id: int | None = None) -> Tensor:
    """The mean cross-entropy of each next token (GPT, equation 1).

    Args:
        logits: what the model says at every position, (B, T, V), floating-point; position t has
            read tokens 0 … t.
        tokens: what it has read, (B, T), T ≥ 2, int64.
        pad_id: predictions whose target has this number do not count; at least one target has
            another. None: all of them count.

    Returns: a tensor without dimensions: the mean over all predictions of the batch that count. The
        inputs are not changed.

    May call F.cross_entropy.
    """
    ### BEGIN SOLUTION
    predictions, targets = logits[:, :-1], tokens[:, 1:]  # (B, T − 1, V), (B, T − 1)
    ignored = -100 if pad_id is None else pad_id
    return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored)
    ### END SOLUTION


# %%
@check("causal_lm_loss", points=3, paper="GPT, section 3.1, equation 1")
def _(case):
    def tokens(*rows):
        return torch.tensor(rows, device=case.device)

    case.call("two tokens: one prediction", causal_lm_loss, case.normal(1, 2, 3), tokens([1, 2]))
    case.call("three tokens: two predictions", causal_lm_loss, case.normal(1, 3, 4), tokens([3, 0, 2]))
    case.call("the last logits have no target", causal_lm_loss, torch.cat([case.normal(1, 2, 4), case.normal(1, 1, 4, scale=50.0)], dim=1), tokens([0, 3, 2]))
    case.call("a batch, no padding", causal_lm_loss, case.normal(3, 5, 7), case.integers(0, 7, 3, 5))
    case.call("token 0 counts where pad_id is None", causal_lm_loss, case.normal(2, 4, 5), tokens([1, 0, 0, 2], [0, 3, 0, 4]))
    padded = tokens([1, 4, 2, 0, 0], [1, 3, 4, 3, 2])
    case.call("padding 0 does not count", causal_lm_loss, case.normal(2, 5, 6), padded, pad_id=0)
    case.call("padding 2 does not count", causal_lm_loss, case.normal(2, 5, 6), tokens([1, 4, 5, 2, 2], [1, 3, 4, 3, 0]), pad_id=2)
    case.call("large logits", causal_lm_loss, case.normal(2, 4, 6, scale=300.0), case.integers(0, 6, 2, 4))
    logits = case.normal(2, 5, 6).requires_grad_()
    loss = case.call("logits that require gradients", causal_lm_loss, logits, padded, pad_id=0)
    case.gradients("the gradient of the logits", loss, logits)
    ### BEGIN HIDDEN TESTS
    case.call("sentences of very different lengths", causal_lm_loss, case.normal(3, 9, 4), tokens([1, 2, 0, 0, 0, 0, 0, 0, 0], [1, 3, 2, 3, 1, 2, 3, 1, 2], [1, 1, 1, 1, 0, 0, 0, 0, 0]), pad_id=0)
    case.call("padding on the left: what counts is the target", causal_lm_loss, case.normal(2, 5, 6), tokens([0, 0, 4, 2, 5], [1, 3, 4, 3, 2]), pad_id=0)
    case.call("as many tokens as classes", causal_lm_loss, case.normal(4, 4, 4), case.integers(0, 4, 4, 4))
    case.call("a larger vocabulary", causal_lm_loss, case.normal(1, 5, 130, scale=3.0), tokens([99, 100, 101, 100, 99]))
    case.call("float64 stays float64", causal_lm_loss, case.normal(2, 6, 5, dtype=torch.float64), case.integers(0, 5, 2, 6), 3)
    case.call("logits that are not contiguous", causal_lm_loss, case.normal(5, 3, 7).transpose(0, 1), case.integers(0, 7, 3, 5), pad_id=6)
    logits = case.normal(3, 4, 5).requires_grad_()
    loss = case.call("no padding, gradients", causal_lm_loss, logits, case.integers(0, 5, 3, 4))
    case.gradients("no padding: the gradient of the logits", loss, logits)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "causal_lm_loss",
    "Write a sentence of four tokens on paper and the four logits under it. Draw a line from each logit to the token it is to predict. Which logit and which token have no line?",
    "GPT, equation 1: log P(u_i | u_{i−k}, …, u_{i−1}). Week 3's `teacher_forcing` shifts the same way, but before the model; here the model has read all tokens.",
    "Leave out the last position of the logits and the first of the tokens. Flatten both to rows, and take the mean cross-entropy over the rows whose target is not padding; ignore_index does that.",
)
misconceptions(
    "causal_lm_loss",
    mistake("no shift", ("logits[:, :-1], tokens[:, 1:]", "logits, tokens"), says="Each position's logits are compared with its own token, which it has read: there is nothing to predict. Compare with the next one."),
    mistake("shifted the wrong way", ("logits[:, :-1], tokens[:, 1:]", "logits[:, 1:], tokens[:, :-1]"), says="The logits are compared with the token *before* them; position t predicts t + 1."),
    mistake("shifted by two", ("logits[:, :-1], tokens[:, 1:]", "logits[:, :-2], tokens[:, 2:]") , says="The targets are two places on; position t predicts t + 1."),
    mistake("the first target follows the last", ("logits[:, :-1], tokens[:, 1:]", "logits, tokens.roll(-1, dims=1)"), says="The tokens are rolled, so that the last position has to predict the first token. It has no target; leave it out."),
    mistake("the first token is lost, the last counts", ("logits[:, :-1], tokens[:, 1:]", "logits[:, 1:], tokens[:, 1:]"), says="Both are cut at the front, so each position is compared with its own token again. Cut the logits at the end."),
    mistake("padding counts", ("-100 if pad_id is None else pad_id", "-100"), says="Padding counts as a target: the model is taught to write padding."),
    mistake("0 is no pad_id", ("-100 if pad_id is None else pad_id", "pad_id or -100"), says="A pad_id of 0 is taken for none (`if pad_id` is false for 0). Compare with None."),
    mistake("0 is always padding", ("-100 if pad_id is None else pad_id", "pad_id or 0"), says="Token 0 never counts; where pad_id is None all tokens do."),
    mistake("padding divided by", ("return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored)", "return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction='sum') / targets.numel()"), says="Padding is left out of the sum but not of the count: the mean is over the predictions that count."),
    mistake("a sum", ("ignore_index=ignored)", "ignore_index=ignored, reduction='sum')"), says="The losses are added up; their mean is asked for."),
    mistake("a loss for each", ("ignore_index=ignored)", "ignore_index=ignored, reduction='none')"), says="One loss for each prediction comes back; their mean is asked for."),
    mistake("mean of the sentences' means", ("return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored)", "return torch.stack([F.cross_entropy(p, t, ignore_index=ignored) for p, t in zip(predictions, targets)]).mean()"), says="The mean is taken sentence by sentence and then over sentences, so words of short sentences weigh more. Take it over all predictions."),
    mistake("padding by what was read", ("return F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored)", "return F.cross_entropy(predictions.flatten(0, 1), targets.masked_fill(tokens[:, :-1] == ignored, -100).flatten())"), says="Predictions are left out where the token *read* is padding; it is the target that counts. The last word of a sentence is followed by padding, which is nothing to predict."),
    mistake("rows mixed up", ("predictions.flatten(0, 1)", "predictions.transpose(0, 1).flatten(0, 1)"), says="Logits and targets are flattened in different orders (one by sentences, the other by positions), so they do not belong to each other."),
    mistake("reshaped instead of transposed", ("F.cross_entropy(predictions.flatten(0, 1), targets.flatten(), ignore_index=ignored)", "F.cross_entropy(predictions.reshape(len(predictions), logits.size(2), -1), targets, ignore_index=ignored)"), says="The logits are reshaped to (B, V, T − 1), which mixes classes with positions; transpose them, or flatten to rows."),
    mistake("probabilities as logits", ("predictions.flatten(0, 1)", "torch.softmax(predictions.flatten(0, 1), dim=-1)"), says="A softmax is taken before the cross-entropy, which takes one itself."),
    mistake("no minus", ("return F.cross_entropy", "return -F.cross_entropy"), says="The sign is wrong: what is minimised is minus the log-likelihood."),
    mistake("the logits are changed", ("predictions, targets = logits[:, :-1], tokens[:, 1:]", "predictions, targets = logits.data.sub_(logits.data.amax(-1, keepdim=True))[:, :-1] * 0 + logits[:, :-1], tokens[:, 1:]"), says="The logits are changed in place; work on a copy."),
    mistake("without gradient", ("logits[:, :-1], tokens", "logits.detach()[:, :-1], tokens"), says="The logits are detached, so nothing can be learned from this loss."),
)
equivalents(
    "causal_lm_loss",
    {
        "number: `ignored = -100 if pad_id is None else pad_id` → `ignored = -101 if pad_id is None else pad_id`": "no token has a negative number: any of them ignores nothing",
        "number: `ignored = -100 if pad_id is None else pad_id` → `ignored = -99 if pad_id is None else pad_id`": "no token has a negative number: any of them ignores nothing",
    },
)


# %% tags=["alternative"]
@alternative("log-softmax, gather, a mask")
def causal_lm_loss(logits, tokens, pad_id=None):
    log_p = torch.log_softmax(logits[:, :-1], dim=-1)
    of_target = log_p.gather(2, tokens[:, 1:, None]).squeeze(2)
    counts = torch.ones_like(of_target) if pad_id is None else (tokens[:, 1:] != pad_id).to(of_target.dtype)
    return -(of_target * counts).sum() / counts.sum()


# %% tags=["alternative"]
@alternative("classes in the second place, as cross_entropy likes them; labels with −100")
def causal_lm_loss(logits, tokens, pad_id=None):
    labels = tokens.clone()
    if pad_id is not None:
        labels[labels == pad_id] = -100
    return F.cross_entropy(logits.transpose(1, 2)[..., :-1], labels[:, 1:])


# %% tags=["alternative"]
@alternative("a loop over sentences and positions")
def causal_lm_loss(logits, tokens, pad_id=None):
    losses = []
    for row, sentence in zip(logits, tokens):
        for t in range(len(sentence) - 1):
            target = sentence[t + 1]
            if pad_id is None or target != pad_id:
                losses.append(row[t].logsumexp(0) - row[t][target])
    return torch.stack(losses).mean()


# %% tags=["alternative"]
@alternative("the labels padded at the end, float64 inside")
def causal_lm_loss(logits, tokens, pad_id=None):
    labels = F.pad(tokens[:, 1:], (0, 1), value=-100)
    if pad_id is not None:
        labels = torch.where(labels == pad_id, -100, labels)
    loss = F.nll_loss(F.log_softmax(logits.double().reshape(-1, logits.size(-1)), -1), labels.reshape(-1))
    return loss.to(logits.dtype)


# %% tags=["alternative"]
@alternative("one-hot targets")
def causal_lm_loss(logits, tokens, pad_id=None):
    targets = tokens.narrow(1, 1, tokens.size(1) - 1)
    kept = targets != (-1 if pad_id is None else pad_id)
    scores, targets = logits.narrow(1, 0, tokens.size(1) - 1)[kept], targets[kept]
    chosen = torch.einsum("nv,nv->n", scores, F.one_hot(targets, scores.size(-1)).to(scores.dtype))
    return torch.mean(torch.logsumexp(scores, dim=-1) - chosen)


# %% [markdown]
# ### Try it: train a GPT, let it write
#
# The same class, the same text, a causal mask and another loss. It writes by drawing from its own probabilities: always taking the likeliest word would give the same sentence every time.

# %% tags=["export"]
def generate(model: nn.Module, tokens: Tensor, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
    """Continue token sequences, one token after another, each drawn from the model's probabilities.

    Args:
        model: gives logits (B, T, V) for tokens (B, T). tokens: the beginning, (B, T), without padding.
        count: how many tokens to add. temperature: below 1 favours the likely tokens; logits are divided by it.
        generator: for the draws, on the CPU.

    Returns: (B, T + count). Computes no gradients; leaves the model in the mode it found.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for _ in range(count):
            p = torch.softmax(model(tokens)[:, -1] / temperature, dim=-1)  # (B, V)
            drawn = torch.multinomial(p.cpu(), 1, generator=generator).to(tokens.device)
            tokens = torch.cat([tokens, drawn], dim=1)
    model.train(was_training)
    return tokens


# %% tags=["picture"]
def next_token_loss(model, indices, generator):
    tokens = training_tokens[indices].to(device)
    return causal_lm_loss(model(tokens), tokens, PAD_ID)


torch.manual_seed(SEED)
gpt = LanguageModel(len(vocabulary), max_len, causal=True, pad_id=PAD_ID, **language).to(device)
gpt_losses = fit(gpt, next_token_loss, len(training_tokens), text_steps, text_rate, text_batch)

generator = torch.Generator().manual_seed(SEED)
begin = torch.full((200, 1), BOS_ID, device=device)
written = [vocabulary.decode(row) for row in generate(gpt, begin, max_len - 1, generator=generator).tolist()]
print("from nothing:")
for words in written[:5]:
    print("   ", " ".join(words))
start = "these hungry birds that" if PROFILE == "quick" else "a little girl"
begin = torch.tensor([vocabulary.encode(start.split(), bos=True)] * 4, device=device)
print(f"from “{start}”:")
for row in generate(gpt, begin, max_len - begin.size(1), generator=generator).tolist():
    print("   ", " ".join(vocabulary.decode(row)))
if PROFILE == "quick":
    print(f"\n{100 * sum(map(is_right, written)) / len(written):.0f} % of {len(written)} sentences written from nothing are right by the grammar, {sum(words not in training_text for words in written)} of them are not in the training text")
else:
    with torch.no_grad():
        parts = test_tokens.split(250)
        test_loss = sum(causal_lm_loss(gpt(part.to(device)), part.to(device), PAD_ID).item() * len(part) for part in parts) / len(test_tokens)
    print(f"\nloss on {len(test_tokens)} captions held out: {test_loss:.2f} nats a token")

# %% [markdown]
# ### One blank, two models
#
# A blank at the beginning of a sentence, "<mask> robots sleep": GPT has read nothing but `<bos>` there, and its best guess is what sentences begin with in general. BERT has read the rest. How often does each give words of the right number (one or several) more
# probability than words of the wrong one, on 1,000 new sentences? And at the main verb, which the subject decides?

# %% tags=["picture"]
OTHER_NUMBER = dict(zip("dDnNiItT", "DdNnIiTt"))  # one and several


def right_number(logits, true_words):
    """Share of the rows of logits (B, V) that give the true word's kinds, determiners or verbs, more probability in its own number than in the other."""
    kinds = [KIND_OF.get(word, "?") for word in vocabulary.tokens]
    right = 0
    for row, word in zip(torch.softmax(logits, dim=-1).cpu(), true_words):
        same = "tiTI" if KIND_OF[word] in "tiTI" else "dD"
        same = [kind for kind in same if kind.isupper() == KIND_OF[word].isupper()]
        p, q = (row[torch.tensor([kind in wanted for kind in kinds])].sum() for wanted in (same, [OTHER_NUMBER[kind] for kind in same]))
        right += bool(p > q)
    return right / len(true_words)


if PROFILE == "quick":
    main_verbs = [[i for i, word in enumerate(words) if KIND_OF[word] in "tiTI"]["that" in words] for words in test_text]  # the second one, if there is a relative clause
    scores = {}
    for title, places in (("first word", [0] * len(test_text)), ("main verb", main_verbs)):
        true, rows = [words[i] for words, i in zip(test_text, places)], torch.arange(len(test_text))
        at = torch.tensor(places) + 1  # behind <bos>
        hidden = test_tokens.clone()
        hidden[rows, at] = MASK_ID
        with torch.no_grad():
            seen_all, seen_before = bert(hidden.to(device))[rows, at], gpt(test_tokens.to(device))[rows, at - 1]
        scores[title] = [right_number(logits, true) for logits in (seen_all, seen_before)]
        print(f"{title:11} BERT {100 * scores[title][0]:5.1f} %   GPT {100 * scores[title][1]:5.1f} %")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for losses, label, colour in ((bert_losses, "BERT: hidden words", BLUE), (gpt_losses, "GPT: next words", ORANGE)):
        smooth = torch.tensor(losses).unfold(0, min(10, len(losses)), 1).mean(-1)
        left.plot(range(len(smooth)), smooth, color=colour, label=label)
    left.set(title="Training loss, mean of 10 steps", xlabel="step", ylabel="cross-entropy (nats)", ylim=(0, None))
    left.legend(frameon=False)
    for shift, (model_name, colour, hatch) in zip((-0.19, 0.19), (("BERT", BLUE, ""), ("GPT", ORANGE, "//"))):
        index = 0 if model_name == "BERT" else 1
        right.bar([x + shift for x in range(2)], [100 * values[index] for values in scores.values()], 0.36, color=colour, hatch=hatch, edgecolor="white", label=model_name)
    right.axhline(50, color=GREY, linestyle="--", label="by chance")
    right.set(title="One or several: right number", ylabel="% of 1,000 sentences", ylim=(0, 105))
    right.set_xticks(range(2), scores)
    right.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for axis in (left, right):
        axis.grid(alpha=0.3, axis="y")
        axis.spines[["top", "right"]].set_visible(False)
    plt.show()

# %% [markdown]
# **What to see.** At the first word GPT can only guess, and no training will help: what decides lies in the future, which its mask hides. What decides the main verb, the subject, lies in the past of both. The losses are not comparable with each other: the two are asked different questions.

# %% [markdown]
# ## ViT: an image is a sentence of patches
#
# Attention does not care what its vectors stand for. The Vision Transformer cuts an image into squares, takes the pixels of each as one long vector, and treats these as the words of a sentence.
#
# ## Exercise 4 · `patchify`
#
# *Difficulty ●●○ · 20 minutes · 3 points*
#
# "We reshape the image $\mathbf{x} \in \mathbb{R}^{H \times W \times C}$ into a sequence of flattened 2D patches $\mathbf{x}_p \in \mathbb{R}^{N \times (P^2 \cdot C)}$", with $N = HW/P^2$ (section 3.1).
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | an image | (H, W, C) | (C, H, W) | as everywhere in PyTorch |
# | order of the patches | nothing | row by row, as one reads | |
# | order within a patch | nothing | channel, row, column | the order of a convolution's kernel: with kernel and stride P it computes the same as a linear layer on the patches |


# %% tags=["export"]
def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images into square patches, row by row (ViT, section 3.1).

    Args:
        images: (B, C, H, W), of any dtype; they need not be square.
        patch: pixels a side of a patch; divides H and W.

    Returns: (B, H·W/patch², C·patch²), in the dtype of the images. Patches from left to right, then
        from top to bottom; within a patch first the channel, then the row, then the column. The
        images are not changed.
    """
    ### BEGIN SOLUTION
    B, C, H, W = images.shape
    rows, columns = H // patch, W // patch
    cut = images.reshape(B, C, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(B, rows * columns, C * patch * patch)  # (B, rows, columns, C, patch, patch) → …
    ### END SOLUTION


# %%
@check("patchify", points=3, paper="ViT, section 3.1")
def _(case):
    def numbered(B, C, H, W):
        return torch.arange(B * C * H * W, device=case.device).reshape(B, C, H, W).float()

    case.call("one channel, 2 × 4 pixels, patches of 2", patchify, numbered(1, 1, 2, 4), 2)
    case.call("two channels, 4 × 4 pixels, patches of 2", patchify, numbered(1, 2, 4, 4), 2)
    case.call("two images, three channels, 4 × 6 pixels", patchify, case.normal(2, 3, 4, 6), 2)
    case.call("patches of one pixel", patchify, case.normal(2, 3, 2, 5), 1)
    case.call("one patch", patchify, case.normal(2, 3, 4, 4), 4)
    case.call("patches of 3, taller than wide", patchify, case.normal(2, 2, 9, 6), 3)
    case.call("bytes stay bytes", patchify, case.integers(0, 256, 2, 3, 4, 8).to(torch.uint8), 4)
    images = case.normal(2, 2, 4, 6).requires_grad_()
    patches = case.call("images that require gradients", patchify, images, 2)
    case.gradients("the gradient of the images", patches, images)
    ### BEGIN HIDDEN TESTS
    case.call("as many images as channels as patches", patchify, case.normal(4, 4, 4, 4), 2)
    case.call("wide: 4 × 20 pixels", patchify, case.normal(1, 3, 4, 20), 4)
    case.call("images that are not contiguous", patchify, case.normal(2, 6, 8, 3).permute(0, 3, 1, 2), 2)
    case.call("float64, patches of 5", patchify, case.normal(3, 1, 10, 5, dtype=torch.float64), 5)
    case.call("integers", patchify, case.integers(0, 100, 1, 4, 6, 12), 6)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "patchify",
    "Take an image of 4 × 4 pixels with two channels, number its 32 values, and write the first patch by hand. Which numbers is it?",
    "ViT, section 3.1, gives the shapes. A height H is a pair of numbers, which row of patches and which row in it; the same holds for the width.",
    "Reshape to six axes: image, channel, row of patches, row in the patch, column of patches, column in the patch. Bring the two that count patches to the front, behind the image. Then merge: those two into one, the other three into one.",
)
misconceptions(
    "patchify",
    mistake("only reshaped", ("    rows, columns = H // patch, W // patch\n", "    rows, columns = H // patch, W // patch\n    return images.reshape(B, rows * columns, C * patch * patch)\n"), says="The image is reshaped without moving an axis, so a “patch” is a run of pixels out of one or two rows. Split height and width first, then bring the axes into order."),
    mistake("row, column, channel", ("cut.permute(0, 2, 4, 1, 3, 5)", "cut.permute(0, 2, 4, 3, 5, 1)"), says="Within a patch the channel comes last; the order asked for is channel, row, column."),
    mistake("column before row in the patch", ("cut.permute(0, 2, 4, 1, 3, 5)", "cut.permute(0, 2, 4, 1, 5, 3)"), says="Within a patch rows and columns are exchanged: each patch is mirrored at its diagonal."),
    mistake("row, channel, column", ("cut.permute(0, 2, 4, 1, 3, 5)", "cut.permute(0, 2, 4, 3, 1, 5)"), says="Within a patch the order is row, channel, column; channel, row, column is asked for."),
    mistake("patches column by column", ("cut.permute(0, 2, 4, 1, 3, 5)", "cut.permute(0, 4, 2, 1, 3, 5)"), says="The patches come column by column; they are to come row by row, from left to right."),
    mistake("every patch-th pixel", ("images.reshape(B, C, rows, patch, columns, patch)", "images.reshape(B, C, patch, rows, patch, columns)"), ("cut.permute(0, 2, 4, 1, 3, 5)", "cut.permute(0, 3, 5, 1, 2, 4)"), says="The height is split the wrong way round, so a “patch” holds pixels from all over the image. In a reshape the outer axis (which row of patches) comes first."),
    mistake("height and width exchanged", ("rows, columns = H // patch, W // patch", "rows, columns = W // patch, H // patch"), says="Height and width are exchanged: images are (B, C, H, W), and those that are not square show it."),
    mistake("square images only", ("rows, columns = H // patch, W // patch", "rows = columns = H // patch"), ("images.reshape(", "images[..., : H].reshape("), says="The image is taken to be square; its width is another number."),
    mistake("pixels before patches", ("return cut.permute(0, 2, 4, 1, 3, 5).reshape(B, rows * columns, C * patch * patch)", "return cut.permute(0, 2, 4, 1, 3, 5).reshape(B, rows * columns, C * patch * patch).transpose(1, 2)"), says="The result is (B, C·patch², patches), as F.unfold gives it; patches come first, then their values."),
    mistake("a grid", ("reshape(B, rows * columns, C * patch * patch)", "reshape(B, rows, columns, C * patch * patch)"), says="The patches stand in a grid, (B, rows, columns, …); an encoder wants one axis of positions."),
    mistake("patch pixels not flattened", ("reshape(B, rows * columns, C * patch * patch)", "reshape(B, rows * columns, C, patch, patch)"), says="The pixels of a patch keep their three axes; flatten them to one vector."),
    mistake("overlapping patches", ("    B, C, H, W = images.shape\n", "    B, C, H, W = images.shape\n    return F.unfold(images, patch, stride=max(1, patch // 2)).transpose(1, 2)\n"), says="The patches overlap; each pixel belongs to one patch, so the stride is the patch's side."),
    mistake("images one after the other", ("reshape(B, rows * columns, C * patch * patch)", "reshape(B * rows * columns, C * patch * patch)"), says="The patches of all images are in one list; each image keeps its own, (B, patches, …)."),
    mistake("upside down", ("images.reshape(", "images.flip(2).reshape("), says="The patches come from the bottom to the top; they begin at the top left."),
    mistake("everything becomes float32", ("cut = images.", "cut = images.float()."), says="The patches are float32 whatever came in; the dtype of the images is to be kept."),
    mistake("scaled", ("cut = images.", "cut = (images / 255).to(images.dtype)."), says="The values are divided by 255; cutting is not to change them."),
)


# %% tags=["alternative"]
@alternative("F.unfold")
def patchify(images, patch):
    values = images if images.is_floating_point() else images.double()
    return F.unfold(values, kernel_size=patch, stride=patch).transpose(1, 2).to(images.dtype)


# %% tags=["alternative"]
@alternative("loops and slices")
def patchify(images, patch):
    B, C, H, W = images.shape
    pieces = [images[:, :, y : y + patch, x : x + patch].reshape(B, -1) for y in range(0, H, patch) for x in range(0, W, patch)]
    return torch.stack(pieces, dim=1)


# %% tags=["alternative"]
@alternative("Tensor.unfold, twice")
def patchify(images, patch):
    windows = images.unfold(2, patch, patch).unfold(3, patch, patch)  # (B, C, rows, columns, patch, patch)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


# %% tags=["alternative"]
@alternative("pixel_unshuffle")
def patchify(images, patch):
    return torch.nn.functional.pixel_unshuffle(images, patch).flatten(2).mT


# %% tags=["alternative"]
@alternative("split, unflatten and movedim")
def patchify(images, patch):
    x = images.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (B, C, rows, patch, columns, patch)
    return x.movedim((2, 4), (1, 2)).flatten(3).flatten(1, 2)


# %% [markdown]
# ### Try it: a picture as a sentence

# %% tags=["picture"]
pictures, _ = drawn_glyphs(1, seed=SEED + 5, size=32, classes=["anchor"])
image = torch.from_numpy(pictures).permute(0, 3, 1, 2)  # (1, 3, 32, 32)
patches = patchify(image, 8)
figure = plt.figure(figsize=(10, 2.6), layout="constrained")
grid = figure.add_gridspec(2, 11)
whole = figure.add_subplot(grid[:, :3])
whole.imshow(pictures[0])
whole.set_xticks([7.5, 15.5, 23.5], [])
whole.set_yticks([7.5, 15.5, 23.5], [])
whole.grid(color="white", linewidth=1.5)
whole.set_title("32 × 32 pixels, patches of 8", fontsize=10)
for index, patch in enumerate(patches[0]):
    axis = figure.add_subplot(grid[index // 8, 3 + index % 8])
    axis.imshow(patch.reshape(3, 8, 8).permute(1, 2, 0))
    axis.set_title(str(index + 1), fontsize=9)
    axis.axis("off")
plt.show()
weight = torch.randn(5, 3, 8, 8)
by_convolution = F.conv2d(image.float(), weight, stride=8).flatten(2).transpose(1, 2)
by_patches = patches.float() @ weight.flatten(1).T
print(f"{tuple(image.shape)} → {tuple(patches.shape)}; a convolution with kernel and stride 8 against a linear layer on the patches: largest difference {(by_convolution - by_patches).abs().max() / by_patches.abs().max():.0e} of the largest value")

# %% [markdown]
# **What to see.** The picture in reading order. Nothing in the sentence says any more which patch was below which: positions have to be learned.

# %% [markdown]
# ## Exercise 5 · `VisionTransformer`
#
# *Difficulty ●●○ · 30 minutes · 5 points*
#
# $$\mathbf{z}_0 = [\mathbf{x}_\text{class};\ \mathbf{x}_p^1\mathbf{E};\ \dots;\ \mathbf{x}_p^N\mathbf{E}] + \mathbf{E}_{pos}, \qquad \mathbf{y} = \mathrm{LN}(\mathbf{z}_L^0) \tag{1, 4}$$
#
# A vector of its own, the class token, is put in front of the patches. It stands for no part of the image; it gathers what it needs from all of them, layer by layer, and the class is read off it alone.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | embedding | linear (equation 1) | linear, with a bias | as the authors' code |
# | layers | norm before each sub-layer, one at the end (equations 2 to 4) | `Encoder(…, pre_norm=True)` of week 3 | it is the same |
# | head | a hidden layer in pre-training, one linear layer in fine-tuning | one linear layer | |
# | feed-forward | GELU | ReLU: week 3's | one thing at a time |
# | dropout | after the position embeddings and in the layers (appendix B.1) | the same | |


# %% tags=["export"]
class VisionTransformer(nn.Module):
    """Images to logits of their class, by an encoder on patches (ViT, section 3.1).

    Args:
        image_size: pixels a side; images are square. patch: pixels a side of a patch, which divides
            it. channels: of the images. classes: how many.
        d_model, h, N, d_ff, dropout: as of Encoder.

    Attributes: `patch_embedding`, an nn.Linear from channels·patch² to d_model; `class_token`, an
        nn.Parameter (d_model,); `position_embedding`, an nn.Parameter (1 + patches, d_model), whose
        row 0 is the class token's; `dropout`, an nn.Dropout of the sum of vectors and positions;
        `encoder`, an Encoder(N, d_model, h, d_ff, dropout, pre_norm=True) of week 3; `head`, an
        nn.Linear to the classes.

    The class token is position 0, the patches follow in the order of `patchify`; the head sees the
    class token's output alone.

    May not call nn.Transformer* or nn.MultiheadAttention.
    """

    def __init__(
        self, image_size: int, patch: int, channels: int, classes: int, d_model: int = 64,
        h: int = 4, N: int = 2, d_ff: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.patch = patch
        self.patch_embedding = nn.Linear(channels * patch**2, d_model)
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.position_embedding = nn.Parameter(torch.zeros(1 + (image_size // patch) ** 2, d_model))
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        self.head = nn.Linear(d_model, classes)
        ### END SOLUTION
        for vectors in (self.class_token, self.position_embedding):
            nn.init.normal_(vectors, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, channels, image_size, image_size) to logits (B, classes)."""
        ### BEGIN SOLUTION
        x = self.patch_embedding(patchify(images, self.patch))  # (B, patches, d_model)
        first = self.class_token.expand(x.size(0), 1, -1)  # (B, 1, d_model)
        x = torch.cat([first, x], dim=1) + self.position_embedding  # (B, 1 + patches, d_model)
        x = self.encoder(self.dropout(x))
        return self.head(x[:, 0])  # (B, classes)
        ### END SOLUTION


# %%
@check(
    "VisionTransformer", points=5, forbid=["torch.nn.Transformer*", "torch.nn.MultiheadAttention", "torch.nn.functional.multi_head_attention_forward"],
    paper="ViT, section 3.1, equations 1 to 4",
)  # fmt: skip
def _(case):
    def make(*args, **options):
        return case.initialise(VisionTransformer(*args, **options).to(case.device)).eval()

    small = make(4, 2, 1, 3, 8, 2, 1, 6)
    case.call("one image of 4 × 4 pixels, one channel", small, case.normal(1, 1, 4, 4))
    case.call("three images", small, case.normal(3, 1, 4, 4))
    images = case.normal(2, 1, 4, 4)
    moved = torch.cat([images[:, :, 2:], images[:, :, :2]], dim=2)
    case.call("the same patches in another order", small, moved)
    color = make(6, 2, 3, 5, 12, 3, 2, 7)
    case.call("three channels, nine patches, two layers", color, case.normal(2, 3, 6, 6))
    images = case.normal(2, 1, 4, 4).requires_grad_()
    logits = case.call("images that require gradients", small, images)
    case.gradients("the gradient of the images", logits, images)
    case.gradients("gradients of class token and positions", logits, {"class_token": small.class_token, "position_embedding": small.position_embedding})
    dropped = case.initialise(VisionTransformer(4, 2, 1, 3, 8, 2, 1, 6, dropout=1.0)).train()
    case.call("dropout 1 in training: the head's answer to a norm's bias", dropped, case.normal(2, 1, 4, 4))
    through = case.initialise(VisionTransformer(4, 2, 1, 3, 8, 2, 1, 6, dropout=1.0)).eval()
    through.dropout.train()
    case.call("dropout 1 on the sum of vectors and positions alone", through, case.normal(2, 1, 4, 4))
    ### BEGIN HIDDEN TESTS
    wide = make(8, 4, 2, 4, 8, 4, 3, 5, 0.3)
    case.call("patches of 4, four heads, three layers", wide, case.normal(5, 2, 8, 8))
    one = make(3, 3, 2, 2, 6, 1, 1, 4)
    case.call("one patch", one, case.normal(2, 2, 3, 3))
    still = make(4, 1, 1, 6, 8, 2, 2, 6, 0.0).train()
    case.call("training mode without dropout, patches of one pixel", still, case.normal(4, 1, 4, 4))
    case.record("every image by itself", float((small(images)[1:] - small(images[1:])).abs().max().detach()), at_most=1e-5, about="change")
    case.record("how many parameters", sum(p.numel() for p in VisionTransformer(28, 7, 1, 10).parameters()), about="the number")
    case.call("sizes by default", make(4, 2, 1, 3), case.normal(2, 1, 4, 4))
    case.record("dropout by default", VisionTransformer(4, 2, 1, 3).dropout.p, about="the rate")
    given, seen = VisionTransformer(4, 1, 1, 3).train(), []
    given.encoder.register_forward_pre_hook(lambda module, args, kwargs: seen.append(args[0] if args else kwargs["x"]), with_kwargs=True)
    given(case.normal(10, 1, 4, 4))
    case.record("by default a tenth of the sums is dropped", float((seen[0] == 0).double().mean()) if seen else 0.1, tol=0.25, about="share")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "VisionTransformer",
    "An image of 8 × 8 pixels, patches of 4: how many vectors enter the encoder? And how many of those that come out does the head see?",
    "ViT, section 3.1, equation 1 is the input of the encoder, equations 2 and 3 a layer of it, equation 4 what is read off. Its figure 1 shows the class token with position 0.",
    "Embed the patches. Repeat the class token for every image and put it in front. Add the positions to all of them, drop out, through the encoder, and give the head the output at position 0.",
)
misconceptions(
    "VisionTransformer",
    mistake("the mean of all outputs", ("self.head(x[:, 0])", "self.head(x.mean(dim=1))"), says="The head sees the mean of all outputs; it is to see the class token's alone."),
    mistake("the mean of the patches", ("self.head(x[:, 0])", "self.head(x[:, 1:].mean(dim=1))"), says="The head sees the mean of the patches' outputs; it is to see the class token's alone."),
    mistake("the last output", ("self.head(x[:, 0])", "self.head(x[:, -1])"), says="The head sees the output of the last patch; the class token is position 0."),
    mistake("the first patch", ("self.head(x[:, 0])", "self.head(x[:, 1])"), says="The head sees the output of the first patch; the class token is position 0."),
    mistake("class token at the end", ("torch.cat([first, x], dim=1)", "torch.cat([x, first], dim=1)"), ("self.head(x[:, 0])", "self.head(x[:, -1])"), says="The class token stands behind the patches, so everything has another position's vector; it comes first."),
    mistake("class token at the end, the first output", ("torch.cat([first, x], dim=1)", "torch.cat([x, first], dim=1)"), says="The class token stands behind the patches, but the head sees position 0, which is a patch now."),
    mistake("no positions", (" + self.position_embedding  #", " + 0 * self.position_embedding  #"), says="No positions are added: the model could not tell an image from one with its patches shuffled."),
    mistake("no position for the class token", ("torch.cat([first, x], dim=1) + self.position_embedding", "torch.cat([first, x + self.position_embedding[1:]], dim=1)"), says="Positions are added to the patches only; in equation 1 the class token has one too."),
    mistake("positions multiplied", (" + self.position_embedding  #", " * self.position_embedding  #"), says="The positions are multiplied; equation 1 adds them."),
    mistake("positions added at the end", (" + self.position_embedding  #", "  #"), ("self.encoder(self.dropout(x))", "self.encoder(self.dropout(x)) + self.position_embedding"), says="The positions are added to what comes out of the encoder: attention never sees them."),
    mistake("class token without effect", ("self.class_token.expand", "(0 * self.class_token).expand"), says="The class token is put in as zeros and never learned; it is a parameter."),
    mistake("class token detached", ("self.class_token.expand", "self.class_token.detach().expand"), says="The class token gets no gradient; it is a parameter like the others."),
    mistake("norms after the sum", ("self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)", "self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=False)"), says="The norms stand after the sums (pre_norm=False); ViT has them before each sub-layer, equations 2 and 3."),
    mistake("no norm at the end", ("x = self.encoder(self.dropout(x))", "x = self.dropout(x)\n        for layer in self.encoder.layers:\n            x = layer(x)"), says="The norm at the end is missing: equation 4 normalises what is read off."),
    mistake("causal", ("self.encoder(self.dropout(x))", "self.encoder(self.dropout(x), causal_mask(x.size(1)))"), says="There is a causal mask: the class token stands first, so it would see nothing but itself. An image has no future; no mask is needed."),
    mistake("no dropout on the sum", ("self.encoder(self.dropout(x))", "self.encoder(x)"), says="The sum of vectors and positions is not dropped out."),
    mistake("dropout before the positions", ("torch.cat([first, x], dim=1) +", "self.dropout(torch.cat([first, x], dim=1)) +"), ("self.encoder(self.dropout(x))", "self.encoder(x)"), says="Dropout comes before the positions are added; it is on the sum."),
    mistake("probabilities", ("return self.head(x[:, 0])", "return torch.softmax(self.head(x[:, 0]), dim=-1)"), says="The result is a softmax; logits are asked for, the loss takes the softmax itself."),
    mistake("all positions", ("self.head(x[:, 0])", "self.head(x)"), says="Logits of every position come back; the head is to see the class token only."),
    mistake("a reshape for patches", ("patchify(images, self.patch)", "images.reshape(len(images), -1, self.patch_embedding.in_features)"), says="The image is only reshaped, so a “patch” is a run of pixels; use `patchify`."),
    mistake("embedding with an activation", ("self.patch_embedding(patchify(images, self.patch))", "torch.relu(self.patch_embedding(patchify(images, self.patch)))"), says="There is an activation behind the patch embedding; equation 1 has a linear map."),
    mistake("a class token drawn anew", ("self.class_token.expand", "torch.ones_like(self.class_token).expand"), says="Something else than the parameter `class_token` is put in front of the patches."),
    mistake("the class token counts twice", ("return self.head(x[:, 0])", "return self.head(x[:, 0] + self.class_token)"), says="The class token is added once more at the end; the head is to see the encoder's output only."),
)
equivalents(
    "VisionTransformer",
    {
        "call swapped: `self.class_token = nn.Parameter(torch.zeros(d_model))` → `self.class_token = nn.Parameter(torch.ones(d_model))`": "drawn anew below",
        "call swapped: `self.position_embedding = nn.Parameter(torch.zeros(1 + (image_size // patch) ** 2, d_model))` → "
        "`self.position_embedding = nn.Parameter(torch.ones(1 + (image_size // patch) ** 2, d_model))`": "drawn anew below",
    },
)


# %% tags=["alternative"]
@alternative("a buffer filled in, F.linear")
class VisionTransformer(nn.Module):
    def __init__(self, image_size, patch, channels, classes, d_model=64, h=4, N=2, d_ff=128, dropout=0.1):
        super().__init__()
        self.patch, self.count = patch, (image_size // patch) ** 2
        self.head = nn.Linear(d_model, classes)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, True)
        self.patch_embedding = nn.Linear(channels * patch * patch, d_model)
        self.position_embedding = nn.Parameter(torch.randn(self.count + 1, d_model))
        self.class_token = nn.Parameter(torch.randn(d_model))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images):
        x = torch.empty(len(images), self.count + 1, self.class_token.numel())
        x[:, 0] = self.class_token
        x[:, 1:] = F.linear(patchify(images, self.patch), self.patch_embedding.weight, self.patch_embedding.bias)
        x = self.dropout(x + self.position_embedding[None])
        return F.linear(self.encoder(x).select(1, 0), self.head.weight, self.head.bias)


# %% tags=["alternative"]
@alternative("the embedding as a convolution on the same weights")
class VisionTransformer(nn.Module):
    def __init__(self, image_size, patch, channels, classes, d_model=64, h=4, N=2, d_ff=128, dropout=0.1):
        super().__init__()
        self.p, self.c = patch, channels
        patches = (image_size // patch) * (image_size // patch)
        self.patch_embedding = nn.Linear(channels * patch**2, d_model)
        self.class_token = nn.Parameter(0.02 * torch.randn(d_model))
        self.position_embedding = nn.Parameter(0.02 * torch.randn(patches + 1, d_model))
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        self.head = nn.Linear(d_model, classes)

    def forward(self, images):
        kernel = self.patch_embedding.weight.view(-1, self.c, self.p, self.p)
        x = F.conv2d(images, kernel, self.patch_embedding.bias, stride=self.p).flatten(2).transpose(1, 2)
        x = torch.cat((self.class_token.repeat(x.shape[0], 1, 1), x), 1)
        x = x + self.position_embedding
        return self.head(self.encoder(self.dropout(x)))[:, 0]


# %% tags=["alternative"]
@alternative("positions added to each part before they are joined")
class VisionTransformer(nn.Module):
    def __init__(self, image_size, patch, channels, classes, d_model=64, h=4, N=2, d_ff=128, dropout=0.1):
        super().__init__()
        self.patch = patch
        self.patch_embedding = nn.Linear(channels * patch**2, d_model)
        self.position_embedding = nn.Parameter(torch.empty(1 + (image_size // patch) ** 2, d_model).normal_(std=0.02))
        self.class_token = nn.Parameter(torch.empty(d_model).normal_(std=0.02))
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(d_model, classes)

    def forward(self, images):
        rows = []
        first = self.class_token + self.position_embedding[0]
        for patches in patchify(images, self.patch):
            rows.append(torch.vstack([first, self.patch_embedding(patches) + self.position_embedding[1:]]))
        return self.head(self.encoder(self.dropout(torch.stack(rows)))[:, 0, :])


# %% tags=["alternative"]
@alternative("layer by layer, the norm on the class token alone")
class VisionTransformer(nn.Module):
    def __init__(self, image_size, patch, channels, classes, d_model=64, h=4, N=2, d_ff=128, dropout=0.1):
        super().__init__()
        self.patch = patch
        self.class_token = nn.Parameter(torch.zeros(d_model))
        self.patch_embedding = nn.Linear(channels * patch**2, d_model)
        self.position_embedding = nn.Parameter(torch.zeros(1 + (image_size // patch) ** 2, d_model))
        self.dropout = nn.Dropout(dropout)
        self.encoder = Encoder(N, d_model, h, d_ff, dropout, pre_norm=True)
        self.head = nn.Linear(d_model, classes)

    def forward(self, images):
        x = F.pad(self.patch_embedding(patchify(images, self.patch)), (0, 0, 1, 0))
        is_first = torch.zeros(x.size(1), 1).index_fill(0, torch.tensor([0]), 1.0)
        x = self.dropout(x + is_first * self.class_token + self.position_embedding)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.head(self.encoder.norm(x[:, 0]))


# %% [markdown]
# ### Try it: train a ViT, next to a linear classifier
#
# Symbols in random pose, colour and polarity (bright on dark or dark on bright): no single pixel says anything about the class, so a linear classifier on the same pixels has a hard time. Full profile: MNIST, where it has an easy one.

# %% tags=["picture"]
SHAPES = ["star", "heart", "diamond", "club", "spade", "disc", "square", "triangle"]


def real(name):
    """(training images, labels, test images, labels) of a torchvision dataset."""
    folder = data_folder(DATA_DIR) or "data/downloads"
    parts = []
    for train in (True, False):
        dataset = real_images(name, folder, train=train, download=True)
        pixels = torch.as_tensor(dataset.data)
        parts += [pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2), torch.as_tensor(dataset.targets)]
    return parts


def glyphs():
    parts = []
    for count, seed in ((4000, SEED), (1000, SEED + 1)):
        pixels, labels = drawn_glyphs(count, seed=seed, size=16, classes=SHAPES)
        parts += [torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)]
    return parts


vision, image_steps, image_rate, image_batch = dict(patch=4, d_model=48, h=4, N=2, d_ff=96, dropout=0.0), 500, 4e-3, 64
pictures = None
if PROFILE == "full":
    try:
        pictures = real("mnist")
        vision, image_steps, image_rate, image_batch = dict(patch=4, d_model=64, h=4, N=4, d_ff=256, dropout=0.1), 5000, 1e-3, 128
    except DatasetUnavailable as error:
        print(f"MNIST is not to be had, drawn symbols instead: {error}")
pictures = pictures or glyphs()
image_steps = STEPS or image_steps
train_images, test_images = (images.float() / 127.5 - 1 for images in pictures[::2])
train_labels, test_labels = pictures[1::2]
classes = int(train_labels.max()) + 1


def image_loss(model, indices, generator):
    return F.cross_entropy(model(train_images[indices].to(device)), train_labels[indices].to(device))


def guesses(model, images):
    with torch.no_grad():
        return torch.cat([model(part.to(device)).argmax(-1).cpu() for part in images.split(500)])


torch.manual_seed(SEED)
linear = nn.Sequential(nn.Flatten(), nn.Linear(train_images[0].numel(), classes)).to(device)
vit = VisionTransformer(train_images.size(-1), channels=train_images.size(1), classes=classes, **vision).to(device)
print(f"{len(train_images):,} images of {train_images.size(-1)} × {train_images.size(-1)} pixels to learn from, {len(test_images):,} held out")
linear_losses = fit(linear, image_loss, len(train_images), image_steps, 3e-3, image_batch)
vit_losses = fit(vit, image_loss, len(train_images), image_steps, image_rate, image_batch)
for name, model in (("by chance", None), ("linear", linear), ("ViT", vit)):
    share = 1 / classes if model is None else float((guesses(model, test_images) == test_labels).double().mean())
    print(f"{name:10} {100 * share:5.1f} % of the images held out are right")

# %% tags=["picture"]
figure, axes = plt.subplots(2, 10, figsize=(11, 2.8), layout="constrained")
names = SHAPES if classes == len(SHAPES) else [str(label) for label in range(classes)]
guessed = guesses(vit, test_images[:20])
for axis, image, guess, label in zip(axes.flat, test_images[:20], guessed.tolist(), test_labels[:20].tolist()):
    axis.imshow((image.permute(1, 2, 0) + 1).squeeze() / 2, cmap="gray", vmin=0, vmax=1)
    axis.set_title(names[guess], fontsize=9, color="black" if guess == label else ORANGE, weight="normal" if guess == label else "bold")
    axis.axis("off")
plt.show()

rows, width = train_images.size(-1) // vision["patch"], vision["patch"]
positions = F.normalize(vit.position_embedding.detach().cpu()[1:], dim=-1)
shown = [(row, column) for row in (0, rows // 2, rows - 1) for column in (0, rows // 2, rows - 1)]
figure, axes = plt.subplots(1, len(shown), figsize=(11, 1.9), layout="constrained")
for axis, (row, column) in zip(axes, shown):
    picture = axis.imshow((positions @ positions[row * rows + column]).reshape(rows, rows), cmap="cividis", vmin=-1, vmax=1)
    axis.set_title(f"row {row + 1}, column {column + 1}", fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
figure.colorbar(picture, ax=axes, label="cosine", shrink=0.8)
figure.suptitle("How similar the learned position of one patch is to those of the others", fontsize=10)
plt.show()

# %% [markdown]
# **What to see.** Above, what the ViT takes each image for; wrong guesses are bold and orange. Below, each square compares one patch's learned position with all others: after a short training there is not much order yet (each resembles itself, and hardly any other). In the paper, after training on millions of images,
# neighbours have similar vectors: the model has found out that images have rows and columns (figure 7, centre). Nothing told it. A convolution knows from the start; that is why ViT needs more data.

# %% [markdown]
# ## Exercise 6 · `reach`: who sees whom
#
# *Difficulty ●●○ · 20 minutes · 3 points*
#
# "What each changes in Figure 1" can be measured. Change one input position, watch which outputs move, and do so for each: a table of what depends on what. It needs no look inside the model, and it finds the most expensive mistake there is, a model that sees its own answer.
#
# | | the papers say | this code does | why |
# | --- | --- | --- | --- |
# | who sees whom | draw arrows (BERT, figure 3) | measures it | a drawing says what was meant, a measurement what was built |


# %% tags=["export"]
def reach(function: Callable[[Tensor], Tensor], x: Tensor, other: Tensor) -> Tensor:
    """Which input positions each output position depends on, found by changing one at a time.

    Args:
        function: takes a batch (B, L, …) and gives (B, M, …), floating-point: M outputs for each
            example, without chance. It may be called as often as you like, with any B.
        x: one example, (L, …): token numbers, or vectors.
        other: what stands in for x when a position is changed, of the same shape, different from x
            at every position.

    Returns: boolean (M, L); entry (i, j) is True where output i changes if x[j] alone becomes
        other[j]. An output changes if one of its numbers does, up or down, by more than 1e-5 of the
        largest output (in absolute value) on x: less is rounding. x and other are not changed.
    """
    ### BEGIN SOLUTION
    L = x.size(0)
    with torch.no_grad():
        changed = torch.stack([x] * L)  # (L, L, …)
        places = torch.arange(L)
        changed[places, places] = other
        before, after = function(x.unsqueeze(0)), function(changed)  # (1, M, …), (L, M, …)
        moved = (after - before).abs().reshape(L, before.size(1), -1).amax(dim=-1)  # (L, M): by change, output
        return (moved > 1e-5 * before.abs().max()).T
    ### END SOLUTION


# %%
@check("reach", points=3, paper="figure 1; BERT, figure 3")
def _(case):
    def pair(L, width):
        x = case.normal(L, width)
        return x, x + torch.where(case.boolean(L, width), 1.0, -1.0) * (0.5 + case.uniform(L, width))

    x, other = pair(3, 1)
    case.call("each output is its input", reach, lambda v: 2.0 * v, x, other)
    case.call("a running sum", reach, lambda v: v.cumsum(dim=1), x, other)
    x, other = pair(5, 2)
    case.call("a running sum, two numbers a position", reach, lambda v: v.cumsum(dim=1), x, other)
    case.call("the sum of all", reach, lambda v: v + v.sum(dim=1, keepdim=True), x, other)
    case.call("two outputs for five inputs", reach, lambda v: torch.stack([v[:, 1] - v[:, 3], v[:, 4] * v[:, 0]], dim=1), x, other)
    case.call("ten outputs for five inputs", reach, lambda v: torch.cat([v, v.cumsum(dim=1)], dim=1), x, other)
    case.call("a number goes up as another goes down", reach, lambda v: torch.stack([v[:, :, 0] - v[:, :1, 1], v[:, :1, 1] - v[:, :, 0]], dim=-1), x, other)
    case.call("outputs are one number each", reach, lambda v: v.flip(1).cumsum(dim=1)[..., 0], x, other)
    case.call("only the last number of a position counts", reach, lambda v: torch.cat([torch.ones_like(v), v[..., -1:].cumsum(1)], dim=-1), x, other)
    case.call("only the first number of a position counts", reach, lambda v: torch.cat([v[..., :1].cumsum(1), torch.ones_like(v)], dim=-1), x, other)
    case.call("all outputs are negative", reach, lambda v: -9.0 - v.abs().cumsum(dim=1), x, other)
    uneven = torch.tensor([[100.0], [1.0], [1.0]])
    case.call("less than 1e-5 of the largest output does not count", reach, lambda v: v + 2e-4 * v.sum(dim=1, keepdim=True), uneven, uneven + 1)
    ones = torch.ones(3, 1)
    case.call("5e-5 of the largest output counts", reach, lambda v: v + 5e-5 * v.cumsum(dim=1), ones, ones + 1)
    case.call("outputs of 1e-7 count", reach, lambda v: 1e-7 * v.cumsum(dim=1), ones, ones + 1)
    case.call("all outputs on x are 0", reach, lambda v: v, torch.zeros(3, 1), ones)
    case.call("the size of the outputs is that on x", reach, lambda v: v + 1e-9 * v.cumsum(dim=1), ones, 1e6 * ones)
    table = case.normal(7, 3)
    case.call("tokens, a running mean of their vectors", reach, lambda t: table[t].cumsum(dim=1), torch.tensor([1, 4, 0, 2]), torch.tensor([2, 5, 6, 3]))
    ### BEGIN HIDDEN TESTS
    encoder = case.initialise(Encoder(2, 8, 2, 6, 0.1, True)).eval()
    x, other = pair(6, 8)
    case.call("week 3's encoder", reach, encoder, x, other)
    case.call("week 3's encoder with a causal mask", reach, lambda v: encoder(v, causal_mask(v.size(1))), x, other)
    seen = torch.tensor([1, 1, 0, 1, 0, 1]).bool()[None, None]
    case.call("week 3's encoder, two positions hidden", reach, lambda v: encoder(v, seen), x, other)
    case.call("the mean of three neighbours", reach, lambda v: F.avg_pool1d(v.mT, 3, 1, 1).mT, x, other)
    case.call("one output", reach, lambda v: v[:, 2:3] * v[:, 5:6], x, other)
    case.call("grids: two axes behind the position", reach, lambda v: v.unflatten(2, (2, 4)).cumsum(dim=1), x, other)
    table = case.normal(9, 4)
    case.call("tokens, weights that alternate in sign", reach, lambda t: (table[t] * torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])[None, :, None]).cumsum(dim=1), torch.tensor([1, 4, 0, 2, 8]), torch.tensor([2, 5, 6, 3, 0]))
    case.call("negative outputs", reach, lambda v: -1000.0 - v.abs().cumsum(dim=1), x, other)
    last = torch.tensor([[1.0]] * 9 + [[100.0]])
    case.call("the largest output comes last", reach, lambda v: v + 2e-4 * v.sum(dim=1, keepdim=True), last, last + 1)
    eight = torch.ones(3, 8)
    case.call("one number of eight changes by 3e-5", reach, lambda v: 1 + torch.eye(8)[0] * 3e-5 * v[..., :1].cumsum(1), eight, eight + 1)
    case.call("eight numbers change by 5e-6 each", reach, lambda v: 1 + 5e-6 * v.cumsum(1), eight, eight + 1)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "reach",
    "What would you do by hand, with a model you cannot open, to find out whether output 2 depends on input 5?",
    "BERT's figure 3 draws the answer for three models. Rows of the result are outputs, columns inputs, as with the masks of week 2.",
    "Make L copies of x. In copy j, position j becomes other[j]. Run the function on all copies and once on x. An output has moved where the largest absolute difference of its numbers is above the threshold. That is a table by copy and output: transpose it.",
)
misconceptions(
    "reach",
    mistake("transposed", ("before.abs().max()).T", "before.abs().max())"), says="Rows and columns are exchanged: entry (i, j) is about output i and input j."),
    mistake("changes pile up", ("changed[places, places] = other", "changed = torch.where((places[None, :] <= places[:, None]).reshape(L, L, *[1] * (x.dim() - 1)), other, changed)"), says="Earlier positions stay changed while later ones are tried; one is to be changed at a time."),
    mistake("all but one are changed", ("changed[places, places] = other", "changed = torch.where((places[None, :] != places[:, None]).reshape(L, L, *[1] * (x.dim() - 1)), other, changed)"), says="All positions but one are changed; change one and leave the others."),
    mistake("only increases count", ("(after - before).abs()", "(after - before)"), says="Only numbers that go up count; down is a change as well. Take the absolute difference."),
    mistake("only decreases count", ("(after - before).abs()", "(before - after)"), says="Only numbers that go down count; up is a change as well. Take the absolute difference."),
    mistake("differences cancel", ("(after - before).abs().reshape(L, before.size(1), -1).amax(dim=-1)", "(after - before).reshape(L, before.size(1), -1).sum(dim=-1).abs()"), says="The differences of an output's numbers are added up before their size is taken, so that they can cancel."),
    mistake("every number has to change", (".amax(dim=-1)", ".amin(dim=-1)"), says="An output counts as moved only if all of its numbers did; one is enough."),
    mistake("only the first number", (".reshape(L, before.size(1), -1).amax(dim=-1)", ".reshape(L, before.size(1), -1)[..., 0]"), says="Only the first number of each output is looked at; any may have changed."),
    mistake("rounding counts", ("moved > 1e-5 * before.abs().max()", "moved > 0"), says="Any difference counts, however small; less than 1e-5 of the largest output is rounding."),
    mistake("an absolute threshold", ("moved > 1e-5 * before.abs().max()", "moved > 1e-3"), says="The threshold is a fixed number; it goes by the size of the outputs."),
    mistake("a threshold by the largest value, with its sign", ("before.abs().max()", "before.max()"), says="The threshold goes by the largest output with its sign: where all outputs are negative it is negative, and everything has moved. Take the absolute value."),
    mistake("a threshold far too high", ("1e-5 *", "0.5 *"), says="The threshold is far too high; changes that are no rounding go unnoticed."),
    mistake("inverted", ("moved > 1e-5", "moved <= 1e-5"), says="The table is True where nothing changes: the wrong way round."),
    mistake("no change counts as one", ("moved > 1e-5 *", "moved >= 1e-5 *"), says="Where all outputs on x are 0 the threshold is 0 too, and an output that does not move reaches it. A change is more than the threshold (>)."),
    mistake("as many outputs as inputs", ("return (moved > 1e-5 * before.abs().max()).T", "return (moved > 1e-5 * before.abs().max()).T[:L]"), says="The table ends after L outputs; there are M of them, which may be more."),
    mistake("zeros for the other value", ("changed[places, places] = other", "changed[places, places] = torch.zeros_like(other)"), says="A position is set to 0 instead of to `other`; for tokens 0 may be what stands there already."),
    mistake("x is changed", ("changed = torch.stack([x] * L)", "changed = x.unsqueeze(0).expand(L, *x.shape)"), ("changed[places, places] = other", "x.copy_(other)"), ("function(x.unsqueeze(0)), function(changed)", "function(x.unsqueeze(0)), function(changed.clone())"), says="The example itself is overwritten; work on a copy."),
    mistake("numbers instead of truth values", ("return (moved > 1e-5 * before.abs().max()).T", "return moved.T"), says="The sizes of the changes come back; the table is to say True or False."),
    mistake("changes compared with each other", ("(after - before).abs()", "(after - after[:1]).abs()"), says="What comes out is compared with the first change instead of with the output on x."),
)
equivalents(
    "reach",
    {
        "variable: `L = x.size(0)` → `L = other.size(0)`": "x and other have the same shape",
        "call swapped: `with torch.no_grad()` → `with torch.enable_grad()`": "only slower: a table of truth values has no gradient",
        "operands: `moved = (after - before).abs().reshape(L, before.size(1), -1).amax(dim=-1)` → `moved = (before - after).abs().reshape(L, before.size(1), -1).amax(dim=-1)`": "an absolute difference has no direction",
        "variable: `moved = (after - before).abs().reshape(L, before.size(1), -1).amax(dim=-1)` → `moved = (after - before).abs().reshape(L, after.size(1), -1).amax(dim=-1)`": "both have M outputs",
    },
)


# %% tags=["alternative"]
@alternative("one position after the other")
def reach(function, x, other):
    before = function(x[None])[0]
    columns = []
    for j in range(len(x)):
        version = x.clone()
        version[j] = other[j]
        difference = (function(version[None])[0] - before).abs()
        columns.append(difference.flatten(1).max(dim=1).values if difference.dim() > 1 else difference)
    return torch.stack(columns, dim=1) > 1e-5 * before.abs().max()


# %% tags=["alternative"]
@alternative("one call for everything, where instead of an index")
@torch.no_grad()
def reach(function, x, other):
    L = x.shape[0]
    one = torch.eye(L, dtype=torch.bool).reshape(L, L, *[1] * (x.dim() - 1))
    out = function(torch.cat([x[None], torch.where(one, other, x)]))
    out = out.reshape(L + 1, out.shape[1], -1)
    scale = out[0].abs().max()
    return ((out[1:] - out[:1]).abs() > 1e-5 * scale).any(-1).T


# %% tags=["alternative"]
@alternative("cell by cell, lists")
def reach(function, x, other):
    before = function(x.unsqueeze(0)).squeeze(0).detach()
    rows = [[False] * len(x) for _ in range(len(before))]
    for j, replacement in enumerate(other):
        version = torch.cat([x[:j], replacement.unsqueeze(0), x[j + 1 :]])
        after = function(version.unsqueeze(0)).squeeze(0).detach()
        for i, (a, b) in enumerate(zip(before, after)):
            rows[i][j] = bool(((a - b).abs() / before.abs().max() > 1e-5).any())
    return torch.tensor(rows)


# %% tags=["alternative"]
@alternative("in numpy, float64")
def reach(function, x, other):
    import numpy as np

    before = function(x[None]).detach().double().numpy()[0]
    table = np.zeros((before.shape[0], len(x)), dtype=bool)
    for j in range(len(x)):
        version = x.clone()
        version[j] = other[j]
        difference = np.abs(function(version[None]).detach().double().numpy()[0] - before)
        table[:, j] = difference.reshape(len(before), -1).max(axis=1) > 1e-5 * np.abs(before).max()
    return torch.from_numpy(table)


# %% [markdown]
# ### Try it: four models, measured
#
# BERT, GPT and the ViT from above, and the decoder of week 3's Transformer, whose columns are the source first and then the target.

# %% tags=["picture"]
source, target = torch.randint(5, 20, (2, 4, 6), generator=torch.Generator().manual_seed(SEED)).unbind(0)
torch.manual_seed(SEED)
translator = Transformer(20, 20, d_model=32, h=4, N=2, d_ff=64).eval()


def decode_both(tokens):  # (B, 6 + 6): source and target side by side
    with torch.no_grad():
        return translator(tokens[:, :6], tokens[:, 6:])


def patch_outputs(patches):  # the ViT behind its embedding: class token and patches, as vectors
    x = torch.cat([vit.class_token.expand(len(patches), 1, -1), vit.patch_embedding(patches.to(device))], dim=1) + vit.position_embedding
    return vit.encoder(x).cpu()


words = torch.tensor(vocabulary.encode(training_text[0], bos=True, eos=True)[:8])
patches = patchify(test_images[:2], vision["patch"])
pair = torch.cat([source[0], target[0]])
tables = {
    "Transformer (decoder)": reach(decode_both, pair, (pair - 4) % 15 + 5),
    "BERT": reach(lambda tokens: bert(tokens.to(device)).cpu(), words, (words - 4) % 15 + 5),
    "GPT": reach(lambda tokens: gpt(tokens.to(device)).cpu(), words, (words - 4) % 15 + 5),
    "ViT": reach(patch_outputs, patches[0], patches[1] + 0.1),
}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
for axis, (name, table) in zip(axes, tables.items()):
    axis.imshow(table, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    axis.set(title=name, xlabel="input position", ylabel="output position")
    axis.set_xticks([x - 0.5 for x in range(1, table.size(1))], minor=True)
    axis.set_yticks([y - 0.5 for y in range(1, table.size(0))], minor=True)
    axis.grid(which="minor", color="white", linewidth=1)
    axis.tick_params(which="minor", length=0)
axes[0].set(xlabel="source 0 to 5, target 6 to 11", ylabel="output position")
axes[3].set(xlabel="patch", ylabel="class token, then patches")
plt.show()
for name, table in tables.items():
    print(f"{name:22} {100 * table.double().mean():5.1f} % of the pairs depend on each other")

# %% [markdown]
# **What to see.** Blue: the output depends on the input. The Transformer's decoder sees all of the source and its own past; take the source away and you have GPT's triangle; take the mask away and you have BERT's square. The ViT is a BERT whose words are patches, with one more row on top for the class token.

# %% [markdown] written="what_each_changes" points=4
# ## Question 1 · what each changes in Figure 1
#
# *4 points, graded by a person*
#
# (a) For BERT, GPT and ViT, say what is dropped of Figure 1, and at least two things that are changed. (b) GPT keeps the decoder, and yet `LanguageModel` builds it from `Encoder`. Why is that right, and what would be missing if GPT were to translate from a source text that it reads with an encoder? (c) How can GPT translate nevertheless,
# without any encoder?
#
# ### BEGIN SOLUTION
# (a) BERT: decoder dropped, with it cross-attention and the shift; changed: learned positions (and segments), GELU, the softmax stands on the encoder and is asked only at hidden positions, `[MASK]` in the input. GPT: encoder and cross-attention (with its Add & Norm) dropped; changed: learned positions, GELU, input and output are
# one text. ViT: decoder dropped; changed: patches through a linear layer instead of an embedding table, a class token, learned positions, norms before the sub-layers and one at the end, GELU, a class instead of a word.
#
# (b) Without cross-attention a decoder layer has self-attention and a feed-forward network, as an encoder layer has. They differ in the mask only, which is an argument. What would be missing is the second sub-layer, cross-attention, which takes keys and values from the memory.
#
# (c) Source and translation are written one after the other as one text, with a separator between; the source is in the past of each target word, so causal self-attention sees it all.
#
# **Rubric.** 2 points for (a): what is dropped ½ altogether, ½ for the changes of each. 1 point for (b): equal sub-layers up to the mask ½, cross-attention ½. 1 point for (c): one sequence (½), and why the mask permits it (½).
# ### END SOLUTION

# %% [markdown] written="why_not_always_mask" points=3
# ## Question 2 · why not always [MASK]?
#
# *3 points, graded by a person*
#
# (a) Why are 10 % of the chosen tokens left as they are, although the model can read the answer there? (b) Why are 10 % replaced by random tokens? (c) A masked model learns from 15 % of the tokens of a batch, GPT from all. What does that mean for training, and what does BERT get for it?
#
# ### BEGIN SOLUTION
# (a) In use there is no [MASK]; a model that only ever predicts at [MASK] need not make anything useful of visible words. With some of them to be predicted, it has to keep a good vector at each. (b) If every visible word were true, copying would be right at all of them. As some are wrong, the model cannot trust what it
# reads and has to check each word against its context. (c) Fewer predictions for the same amount of computing, so it takes more steps (BERT, section 3.1 and appendix C.1, says it converges slightly slower than left-to-right). In return each prediction sees both sides, which the experiment above shows at the first word.
#
# **Rubric.** 1 point each. (a): mismatch between training and use. (b): no blind copying. (c): slower, both sides; ½ each.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - BERT, GPT and ViT share the core of Figure 1: attention and feed-forward network with residual connections. They differ in what goes in, what is asked, in the mask, in positions and norms.
# - BERT predicts what was hidden and sees both sides; GPT predicts what comes next and sees the past, so it can write; ViT reads patches, and its class token answers.
# - Who sees whom can be measured from outside, and should be, before a model with a wonderful loss turns out to have read its answers.
#
# **Next**: the project, a summarizer from raw text to report. What you built here is in `papers.transformer.variants`.

# %% tags=["picture"]
score()
