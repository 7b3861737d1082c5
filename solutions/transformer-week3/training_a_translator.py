# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Training a translator
#     order: 3
#     exports: papers.transformer.training
#     minutes: 150
# ---

# %% [markdown]
# # Training a translator
#
# *Attention Is All You Need*, section 5 (training data, optimiser, regularisation) and section 6.1 (beam search, averaged checkpoints) · about 150 minutes
#
# At the end of this notebook you can
#
# - train the Transformer you built: teacher forcing, label smoothing, and the learning rate that rises before it falls;
# - make it write, greedily and by beam search, and say what exactly a beam maximises;
# - tell a score that was measured from one that flatters.
#
# **Week 3 of the roadmap, step 2 and the week's goal.** "Train on a small toy dataset (e.g., random text sequences)": first the model copies random sequences, then it translates. Quick profile: numbers from English
# to German words. Full profile: captions of photographs, Multi30k.
#
# Watch on the way: [Code walkthrough of the Transformer in PyTorch](https://youtu.be/U0s0f995w14); its last part feeds the model a target that is one token short. This notebook is about why.

# %% tags=["export"]
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

# %%
import math
import time

import matplotlib.pyplot as plt
import torch.nn.functional as F

from papers.datasets import BOS_ID, EOS_ID, PAD_ID, copy_batches, multi30k_text, numbers_in_words
from papers.transformer.model import Transformer

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""
STEPS = 0  # cuts every training run short after so many steps; 0: as many as the profile says

# %% [markdown]
# ## What training needs besides a model
#
# | piece | in the paper | exercise |
# | --- | --- | --- |
# | what the decoder is given, and what it has to say | section 3.1: outputs "offset by one position" | 1 `teacher_forcing` |
# | how wrong it was | section 5.4, label smoothing | 2 `label_smoothing_loss` |
# | how far to step | section 5.3, equation 3 | 3 `noam_rate` |
# | the loop | sections 5.1 to 5.3 | 4 `train_epoch` |
# | writing a sentence | section 6.1: beam search | 5 `greedy_decode`, 6 `beam_search` |
# | the model that is used in the end | section 6.1: an average of checkpoints | 7 `average_checkpoints` |
#
# Sentences come as token numbers, padded to a rectangle. Three numbers are special in every vocabulary of ours: padding (`<pad>`), the beginning of a sentence (`<bos>`) and its end (`<eos>`).

# %% [markdown]
# ## Exercise 1 · `teacher_forcing`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# The decoder predicts each token from those before it. When it writes, these are its own. In training they are the true ones, as if a teacher corrected every word at once. So that all positions can be trained in one
# pass, the same sentence is used twice, one step apart:
#
# | position | 0 | 1 | 2 | 3 |
# | --- | --- | --- | --- | --- |
# | the decoder reads | `<bos>` | ein | und | zwan |
# | and has to say | ein | und | zwan | zig |
#
# The causal mask sees to it that position 2 cannot look at position 3, where its answer stands.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | the shift | "output embeddings are offset by one position" | the target has `<bos>` in front; the input leaves out the last token, the labels the first | one tensor holds both, and both have the same length |

# %% tags=["export"]
def teacher_forcing(target: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it has to say (section 3.1).

    Args:
        target: token numbers (B, T), T ≥ 2: <bos>, the sentence, <eos>, perhaps padding.

    Returns: the decoder's input (B, T − 1) and the labels (B, T − 1): label t is the token that
        follows input t. The target is not changed.
    """
    ### BEGIN SOLUTION
    return target[:, :-1], target[:, 1:]
    ### END SOLUTION


# %%
@check("teacher_forcing", points=1, paper="section 3.1, on the decoder")
def _(case):
    def shift(name, target):
        case.call(name, teacher_forcing, target, labels=("decoder input", "labels"))

    shift("one sentence of two words", torch.tensor([[1, 5, 6, 2]], device=case.device))
    shift("the second sentence is padded", torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]], device=case.device))
    shift("an empty sentence", torch.tensor([[1, 2]], device=case.device))
    shift("five sentences of three tokens", case.integers(3, 20, 5, 3))
    ### BEGIN HIDDEN TESTS
    shift("as many sentences as tokens", case.integers(3, 20, 4, 4))
    shift("longer", case.integers(0, 50, 3, 11))
    shift("not contiguous", case.integers(0, 50, 6, 3).T)
    shift("32-bit integers", case.integers(0, 50, 2, 5).int())
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "teacher_forcing",
    "Which token of the target is never something to be predicted? And which one is never read, because nothing comes after it?",
    "Figure 1, below the decoder: “Outputs (shifted right)”. The sentence in section 3.1 says by how many positions.",
    "Take all columns but the last for the input, and all columns but the first for the labels. Rows stay as they are.",
)
misconceptions(
    "teacher_forcing",
    mistake(
        "not shifted",
        ("return target[:, :-1], target[:, 1:]", "return target[:, :-1], target[:, :-1]"),
        says="Input and labels are the same: the model has to say the token it is just reading, which it can copy without learning a language. Labels are one step ahead.",
    ),
    mistake(
        "not shifted, nothing left out",
        ("return target[:, :-1], target[:, 1:]", "return target, target"),
        says="Input and labels are both the whole target: the model can copy what it reads. The input leaves out the last token, the labels the first.",
    ),
    mistake(
        "shifted the wrong way",
        ("return target[:, :-1], target[:, 1:]", "return target[:, 1:], target[:, :-1]"),
        says="The shift goes the wrong way: the model reads a token and has to say the one before it. Labels are what comes next.",
    ),
    mistake(
        "both lose their first token",
        ("target[:, :-1]", "target[:, 1:]"),
        says="The input begins with the first word and is not shifted against the labels. It begins with <bos>, from which the first word is predicted.",
    ),
    mistake(
        "shifted by two",
        ("return target[:, :-1], target[:, 1:]", "return target[:, :-2], target[:, 2:]"),
        says="The labels are two steps ahead of the input; the next token is one step ahead.",
    ),
    mistake(
        "labels keep <bos>",
        ("target[:, 1:]", "target"),
        says="The labels are the whole target, with <bos>, and one longer than the input: nothing has been shifted.",
    ),
    mistake(
        "the input keeps its end",
        ("target[:, :-1]", "target"),
        says="The input is the whole target, one longer than the labels: its last token has nothing to predict and is left out.",
    ),
    mistake(
        "shifted along the batch",
        ("return target[:, :-1], target[:, 1:]", "return target[:-1], target[1:]"),
        says="The first axis was shifted: each sentence is to be predicted from another one. Tokens run along the second axis.",
    ),
    mistake(
        "rolled round",
        ("return target[:, :-1], target[:, 1:]", "return target, target.roll(-1, dims=1)"),
        says="The labels are the target rolled by one: the last of them is <bos>, come round from the front. Leave out a token at each end instead.",
    ),
)


# %% tags=["alternative"]
@alternative("narrow")
def teacher_forcing(target):
    length = target.size(1) - 1
    return target.narrow(1, 0, length), target.narrow(1, 1, length)


# %% tags=["alternative"]
@alternative("copies, indexed by lists of positions")
def teacher_forcing(target):
    positions = torch.arange(target.shape[-1] - 1)
    return target[..., positions].clone(), target[..., positions + 1].clone()


# %% tags=["alternative"]
@alternative("unbind and stack")
def teacher_forcing(target):
    columns = target.unbind(1)
    return torch.stack(columns[:-1], dim=1), torch.stack(columns[1:], dim=1)


# %% tags=["alternative"]
@alternative("Python lists")
def teacher_forcing(target):
    rows = target.tolist()
    return tuple(torch.tensor(part, dtype=target.dtype) for part in ([row[:-1] for row in rows], [row[1:] for row in rows]))


# %% [markdown]
# ## Exercise 2 · `label_smoothing_loss`
#
# *Difficulty ●●○ · 20 minutes · 4 points*
#
# Cross-entropy rewards a model for every bit of certainty: it can always gain by pushing the logit of the label a little further. Section 5.4 smooths the label: the model is told that it is right with
# probability $1 - \varepsilon$, and that with probability $\varepsilon = 0.1$ the label was drawn from all $V$ tokens alike. With $q_k = (1 - \varepsilon)\,[k = \text{label}] + \varepsilon / V$,
#
# $$\ell = -\sum_{k=1}^{V} q_k \log p_k = -(1 - \varepsilon) \log p_\text{label} - \frac{\varepsilon}{V} \sum_{k=1}^{V} \log p_k .$$
#
# Batches are padded, and nobody should learn to write padding: positions whose label is padding do not count, and the mean is over those that do.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | who shares $\varepsilon$ | "label smoothing of value $\varepsilon_{ls} = 0.1$", after Szegedy et al. | all $V$ classes, the label and padding among them | Szegedy's formula, and that of `F.cross_entropy(label_smoothing=…)`; the authors' code gives $\varepsilon/(V-1)$ to all but the label |
# | which distance | nothing | the cross-entropy $-\sum q \log p$ | the divergence $\mathrm{KL}(q\,\|\,p)$ is smaller by the entropy of $q$, a constant: same gradient, other number |
# | mean | nothing | over the positions that are not padding | else the loss of a batch would depend on how much padding it needed |

# %% tags=["export"]
def label_smoothing_loss(logits: Tensor, targets: Tensor, eps: float = 0.1, pad_id: int = 0) -> Tensor:
    """Cross-entropy with smoothed labels (section 5.4), the mean over what is not padding.

    Args:
        logits: (N, V), of any size: ±1000 is no trouble.
        targets: labels (N,), int64. Not all of them are padding.
        eps: the label has probability (1 − eps) + eps/V, every other class eps/V. 0: plain cross-entropy.
        pad_id: the class that stands for padding. Rows with this label do not count; as a class it
            has its eps/V like any other.

    Returns: the loss, a tensor without dimensions.

    May not call F.cross_entropy or nn.CrossEntropyLoss.
    """
    ### BEGIN SOLUTION
    log_p = torch.log_softmax(logits, dim=-1)  # (N, V)
    of_label = log_p.gather(1, targets.unsqueeze(1)).squeeze(1)  # (N,)
    loss = -(1 - eps) * of_label - eps * log_p.mean(dim=1)  # the mean over the classes is Σ 1/V …
    return loss[targets != pad_id].mean()
    ### END SOLUTION


# %%
@check(
    "label_smoothing_loss",
    points=4,
    forbid=["torch.nn.functional.cross_entropy", "torch.nn.functional.cross_entropy_loss", "torch.nn.functional.linear_cross_entropy", "torch.nn.CrossEntropyLoss",
            "torch.nn.LinearCrossEntropyLoss"],  # fmt: skip
    paper="section 5.4, label smoothing",
)
def _(case):
    def labels(n, V, padded=(), pad_id=0):
        drawn = case.integers(0, V - 1, n)
        drawn = drawn + (drawn >= pad_id).long()  # any class but padding
        drawn[list(padded)] = pad_id
        return drawn

    case.call("one token, three classes", label_smoothing_loss, case.normal(1, 3), torch.tensor([2], device=case.device))
    case.call("two tokens, no smoothing", label_smoothing_loss, case.normal(2, 4), labels(2, 4), eps=0.0)
    case.call("three tokens, one is padding", label_smoothing_loss, case.normal(3, 4), labels(3, 4, padded=[1]))
    case.call("no smoothing, half is padding", label_smoothing_loss, case.normal(6, 5), labels(6, 5, padded=[0, 3, 5]), eps=0.0)
    case.call("much smoothing", label_smoothing_loss, case.normal(5, 7, scale=3.0), labels(5, 7), eps=0.4)
    case.call("padding is class 3", label_smoothing_loss, case.normal(8, 6, scale=2.0), labels(8, 6, padded=[2, 6], pad_id=3), eps=0.1, pad_id=3)
    logits, targets = case.normal(7, 5, scale=2.0).requires_grad_(), labels(7, 5, padded=[4, 5])
    loss = case.call("logits that require gradients", label_smoothing_loss, logits, targets, eps=0.2)
    case.gradients("gradients of the logits, none where there is padding", loss, logits)
    logits = case.normal(4, 5, scale=300.0).requires_grad_()
    loss = case.call("logits in the hundreds", label_smoothing_loss, logits, labels(4, 5))
    case.gradients("gradients of logits in the hundreds", loss, logits)
    case.call("float64", label_smoothing_loss, case.normal(4, 6, dtype=torch.float64), labels(4, 6, padded=[0]))
    ### BEGIN HIDDEN TESTS
    case.call("as many tokens as classes", label_smoothing_loss, case.normal(6, 6), labels(6, 6, padded=[5]))
    case.call("two classes", label_smoothing_loss, case.normal(4, 2), labels(4, 2))
    case.call("a sure model, all labels right", label_smoothing_loss, 30 * torch.eye(5, device=case.device), torch.arange(5, device=case.device))
    case.call("nearly everything is padding", label_smoothing_loss, case.normal(50, 9), labels(50, 9, padded=range(49)))
    targets = labels(60, 40, padded=range(0, 60, 3), pad_id=39)
    case.call("many classes, padding is the last", label_smoothing_loss, case.normal(60, 40), targets, eps=0.1, pad_id=39)
    case.call("everything smoothed away", label_smoothing_loss, case.normal(5, 4), labels(5, 4), eps=1.0)
    case.call("shifted logits", label_smoothing_loss, case.normal(5, 4) + 50.0, labels(5, 4))
    logits = case.normal(9, 4).requires_grad_()
    loss = case.call("more tokens than classes", label_smoothing_loss, logits, labels(9, 4, padded=[8]), eps=0.3)
    case.gradients("gradients again", loss, logits)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "label_smoothing_loss",
    "Write down the target distribution for V = 4 and eps = 0.1 with the label in class 2, all four numbers, and add them up.",
    "Section 5.4 leaves the formula to Szegedy et al. (2015), section 7: q′(k) = (1 − ε) δ(k, y) + ε u(k), with u uniform over all labels. It is put into the usual cross-entropy.",
    "Take the logarithm of the softmax over the classes. The loss of a row is 1 − ε times minus that of its label, plus ε times minus the mean over all classes. Then average over the rows that do not hold padding.",
)
misconceptions(
    "label_smoothing_loss",
    mistake(
        "no smoothing",
        ("-(1 - eps) * of_label - eps * log_p.mean(dim=1)", "-of_label + 0 * eps * log_p.mean(dim=1)"),
        says="eps changes nothing: this is the plain cross-entropy.",
    ),
    mistake(
        "ε/(V − 1) for the others",
        ("-(1 - eps) * of_label - eps * log_p.mean(dim=1)", "-(1 - eps) * of_label - eps * (log_p.sum(dim=1) - of_label) / (logits.size(1) - 1)"),
        says="ε is shared among the V − 1 other classes, as in the authors' code. The convention here is ε/V for every class, the label included.",
    ),
    mistake(
        "ε/(V − 1) for every class",
        ("log_p.mean(dim=1)", "log_p.sum(dim=1) / (logits.size(1) - 1)"),
        says="Every class gets ε/(V − 1), so the target distribution adds up to more than 1; it is ε/V.",
    ),
    mistake(
        "the label does not share",
        ("log_p.mean(dim=1)", "(log_p.sum(dim=1) - of_label) / logits.size(1)"),
        says="The label's own share ε/V is missing, so the target distribution adds up to less than 1: the label has (1 − ε) + ε/V.",
    ),
    mistake(
        "padding does not share",
        ("log_p.mean(dim=1)", "(log_p.sum(dim=1) - log_p[:, pad_id]) / (logits.size(1) - 1)"),
        says="The class of padding gets no share of ε. Every class has ε/V here; it is rows whose label is padding that do not count.",
    ),
    mistake(
        "nothing for the class of padding",
        ("log_p.mean(dim=1)", "(log_p.sum(dim=1) - log_p[:, pad_id]) / logits.size(1)"),
        says="The class of padding gets nothing; as a class it has its ε/V like any other. It is rows whose label is padding that do not count.",
    ),
    mistake(
        "padding and label do not share",
        ("log_p.mean(dim=1)", "(log_p.sum(dim=1) - log_p[:, pad_id] - of_label) / max(logits.size(1) - 2, 1)"),
        says="ε is shared among V − 2 classes, without the label and padding. The convention here is ε/V for every class.",
    ),
    mistake(
        "a KL divergence",
        ("return loss[targets != pad_id].mean()",
         "q = torch.full_like(log_p, eps / logits.size(1)).scatter_add(1, targets.unsqueeze(1), torch.full_like(log_p[:, :1], 1 - eps))\n"
         "    loss = loss + torch.special.xlogy(q, q).sum(1)\n    return loss[targets != pad_id].mean()"),  # fmt: skip
        says="The entropy of the smoothed labels has been subtracted: this is the KL divergence. The loss here is the cross-entropy, which is not 0 even for a perfect model.",
    ),
    mistake(
        "the mean counts padding",
        ("loss[targets != pad_id].mean()", "(loss * (targets != pad_id)).mean()"),
        says="The sum leaves padding out, but the division counts it: the more padding, the smaller the loss. Divide by the number of rows that count.",
    ),
    mistake(
        "padding counts",
        ("loss[targets != pad_id].mean()", "loss.mean()"),
        says="Rows whose label is padding count like all others; they are to be left out of the mean.",
    ),
    mistake(
        "a sum",
        ("loss[targets != pad_id].mean()", "loss[targets != pad_id].sum()"),
        says="The losses are added up; the mean over the rows that are not padding is wanted.",
    ),
    mistake(
        "one loss a row",
        ("loss[targets != pad_id].mean()", "loss[targets != pad_id]"),
        says="A loss for each row is returned; their mean is wanted.",
    ),
    mistake(
        "padding is always 0",
        ("targets != pad_id", "targets != 0"),
        says="Rows with label 0 are left out, whatever pad_id says.",
    ),
    mistake(
        "padding only",
        ("targets != pad_id", "targets == pad_id"),
        says="The mean is over the rows that hold padding; it should be over all others.",
    ),
    mistake(
        "probabilities instead of their logarithms",
        ("torch.log_softmax", "torch.softmax"),
        says="The probabilities themselves are used; the loss needs their logarithms.",
    ),
    mistake(
        "logarithm of a softmax",
        ("torch.log_softmax(logits, dim=-1)", "torch.log(torch.softmax(logits, dim=-1))"),
        says="The logarithm is taken after the softmax, whose small values have become 0: log 0 = −∞, and its gradient NaN. Take both in one (logits minus their logsumexp).",
    ),
    mistake(
        "a small number against log 0",
        ("torch.log_softmax(logits, dim=-1)", "torch.log(torch.softmax(logits, dim=-1) + 1e-9)"),
        says="A small number is added before the logarithm, so no class can cost more than about 21 and its gradient vanishes. Take softmax and logarithm in one.",
    ),
    mistake(
        "logits instead of logarithms of probabilities",
        ("torch.log_softmax(logits, dim=-1)", "logits"),
        says="The logits are used as if they were logarithms of probabilities; normalise them first.",
    ),
    mistake(
        "softmax over the batch",
        ("dim=-1", "dim=0"),
        says="The softmax runs over the rows, so the tokens of a batch compete with each other; it runs over the classes.",
    ),
    mistake(
        "the sign",
        ("-(1 - eps) * of_label - eps", "(1 - eps) * of_label + eps"),
        says="The sign is missing: this is the log-likelihood, which training would make smaller.",
    ),
    mistake(
        "the other classes with the wrong sign",
        ("of_label - eps", "of_label + eps"),
        says="The smoothing term has the wrong sign: it rewards certainty instead of holding it back.",
    ),
    mistake(
        "the label keeps all of its weight",
        ("-(1 - eps) * of_label", "-of_label"),
        says="The label keeps weight 1 and the others get ε on top; the label gives up ε.",
    ),
    mistake(
        "ε for every class",
        ("eps * log_p.mean(dim=1)", "eps * log_p.sum(dim=1)"),
        says="Every class gets ε; it is ε/V, so that the whole adds up to 1.",
    ),
    mistake(
        "1 − ε and ε exchanged",
        ("-(1 - eps) * of_label - eps *", "-eps * of_label - (1 - eps) *"),
        says="The weights are exchanged: the label gets ε and the uniform distribution 1 − ε.",
    ),
    mistake(
        "ε fixed at 0.1",
        ("log_p = torch", "eps = 0.1\n    log_p = torch"),
        says="eps is always 0.1, whatever is passed.",
    ),
    mistake(
        "in bits",
        ("torch.log_softmax(logits, dim=-1)", "torch.log_softmax(logits, dim=-1) / 0.6931471805599453"),
        says="The logarithm has base 2; the natural one is meant.",
    ),
    mistake(
        "cut off from the logits",
        ("torch.log_softmax(logits, dim=-1)", "torch.log_softmax(logits.detach(), dim=-1)"),
        says="No gradient reaches the logits (detach, .data, item() or no_grad): nothing would be learned.",
    ),
    mistake(
        "the logits changed in place",
        ("log_p = torch.log_softmax(logits, dim=-1)", "logits.data -= logits.data.logsumexp(-1, keepdim=True)\n    log_p = torch.log_softmax(logits, dim=-1)"),
        says="The logits are normalised in place, which changes the caller's tensor.",
    ),
)


# %% tags=["alternative"]
@alternative("the target distribution, written out")
def label_smoothing_loss(logits, targets, eps=0.1, pad_id=0):
    V = logits.size(-1)
    q = torch.full_like(logits, eps / V).detach()
    q[torch.arange(len(targets)), targets] += 1 - eps
    keep = targets != pad_id
    return -(q * logits.log_softmax(-1)).sum(-1)[keep].sum() / keep.sum()


# %% tags=["alternative"]
@alternative("one-hot, logsumexp, a float mask")
def label_smoothing_loss(logits, targets, eps=0.1, pad_id=0):
    classes = logits.shape[1]
    q = (1 - eps) * F.one_hot(targets, classes).to(logits.dtype) + eps / classes
    keep = targets.ne(pad_id).to(logits.dtype)
    rows = torch.logsumexp(logits, dim=1) - (q * logits).sum(dim=1)
    return (rows * keep).sum() / keep.sum()


# %% tags=["alternative"]
@alternative("padding removed first, nll_loss for the label")
def label_smoothing_loss(logits, targets, eps=0.1, pad_id=0):
    keep = (targets != pad_id).nonzero().squeeze(1)
    log_p = F.log_softmax(logits.index_select(0, keep), dim=1)
    return (1 - eps) * F.nll_loss(log_p, targets[keep]) - eps * log_p.mean()


# %% tags=["alternative"]
@alternative("a loop over the rows")
def label_smoothing_loss(logits, targets, eps=0.1, pad_id=0):
    losses = []
    for row, label in zip(logits, targets.tolist()):
        if label == pad_id:
            continue
        log_p = row - row.max() - (row - row.max()).exp().sum().log()
        losses.append(-(1 - eps) * log_p[label] - eps * log_p.sum() / row.numel())
    return torch.stack(losses).mean()


# %% tags=["alternative"]
@alternative("KL divergence plus the entropy of the labels")
def label_smoothing_loss(logits, targets, eps=0.1, pad_id=0):
    keep = targets != pad_id
    log_p, V = logits[keep].log_softmax(-1), logits.size(1)
    q = torch.full_like(log_p, eps / V).scatter(1, targets[keep].unsqueeze(1), 1 - eps + eps / V)
    entropy = -torch.special.xlogy(q, q).sum(-1)
    return ((torch.special.xlogy(q, q) - q * log_p).sum(-1) + entropy).mean()


# %% [markdown]
# ### Try it: what the loss asks for
#
# Five classes. The model gives the label some probability and shares the rest among the others.

# %% tags=["picture"]
V = 5
p = torch.linspace(0.2, 0.9999, 400, dtype=torch.float64)
logits = torch.log(torch.cat([p[:, None], ((1 - p) / (V - 1))[:, None].expand(-1, V - 1)], dim=1))  # the label is class 0
figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
for eps, colour, style in ((0.0, GREY, "--"), (0.1, BLUE, "-"), (0.3, ORANGE, "-.")):
    losses = torch.stack([label_smoothing_loss(row[None], torch.tensor([0]), eps=eps, pad_id=V - 1) for row in logits])
    axis.plot(p, losses, style, color=colour, label=f"ε = {eps}")
    if eps:
        lowest = losses.argmin()
        axis.plot(p[lowest], losses[lowest], "o", color=colour)
        print(f"ε = {eps}: lowest at {p[lowest]:.3f}; 1 − ε + ε/V = {1 - eps + eps / V:.3f}, and the loss there is {losses[lowest]:.3f}")
axis.set(title="Loss against the probability of the label", xlabel="probability that the model gives to the label", ylabel="loss (nats)", ylim=(0, 2.2))
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# **What to see.** Without smoothing the loss falls all the way to 0 at certainty. With it the best answer is $1 - \varepsilon + \varepsilon/V$ (dots), and being surer than that costs. The lowest loss is not 0: it is the
# entropy of the smoothed labels, so do not wait for 0 in the training curve further down. The paper adds that smoothing "hurts perplexity, as the model learns to be more unsure, but improves accuracy and BLEU score".

# %% [markdown]
# ## Exercise 3 · `noam_rate`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# $$lrate = d_\text{model}^{-0.5} \cdot \min\!\left(step^{-0.5},\; step \cdot warmup^{-1.5}\right) \tag{3}$$
#
# The first term falls, the second rises, and they meet at $step = warmup$. Training begins slowly since Adam's averages know nothing yet, and since in a post-norm model the gradients of the first steps are badly scaled (see the
# first notebook of this week). People call it the Noam schedule, after Noam Shazeer, one of the authors.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | the first step | nothing | steps count from 1 | $0^{-0.5}$ is infinite, and a rate of 0 would waste a step |
# | warm-up | 4,000 of 100,000 steps | an argument, 4,000 by default | our runs are shorter |

# %% tags=["export"]
def noam_rate(step: int, d_model: int = 512, warmup: int = 4000) -> float:
    """The learning rate of equation 3 (section 5.3).

    Args:
        step: number of the update, from 1.
        d_model: width of the model. warmup: how many steps the rate rises.
    """
    ### BEGIN SOLUTION
    return d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
    ### END SOLUTION


# %%
@check("noam_rate", points=2, paper="section 5.3, equation 3")
def _(case):
    case.call("step 1, d_model 4, warm-up 4", noam_rate, 1, 4, 4)
    case.call("step 2 of 4", noam_rate, 2, 4, 4)
    case.call("the last step of the warm-up", noam_rate, 4, 4, 4)
    case.call("the step after it", noam_rate, 5, 4, 4)
    case.call("the base model at step 1", noam_rate, 1)
    case.call("the base model at its peak", noam_rate, 4000)
    case.call("the base model at its last step", noam_rate, 100_000)
    case.call("the big model, step 3000", noam_rate, 3000, d_model=1024)
    case.call("a short warm-up", noam_rate, 150, d_model=64, warmup=100)
    case.record("steps 1 to 10, warm-up 3", [noam_rate(step, 9, 3) for step in range(1, 11)])
    ### BEGIN HIDDEN TESTS
    case.call("no warm-up to speak of", noam_rate, 3, 16, 1)
    d_model, warmup = case.integer(3, 300), case.integer(5, 500)
    case.record("some model, the whole schedule", [noam_rate(step, d_model, warmup) for step in range(1, 4 * warmup, 7)])
    case.call("a million steps", noam_rate, 1_000_000)
    case.call("a long warm-up", noam_rate, 7000, 256, 16_000)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "noam_rate",
    "At step = warmup both terms should be equal. Which power of the warm-up does that ask for?",
    "Equation 3, and the sentence below it: the rate rises linearly for the first warmup steps, then falls with the inverse square root of the step number.",
    "Compute the falling term (the step to the power −0.5) and the rising one (the step times the warm-up to the power −1.5), take the smaller, and divide by the root of d_model.",
)
misconceptions(
    "noam_rate",
    mistake("no min: always falling", ("min(step**-0.5, step * warmup**-1.5)", "step**-0.5"),
            says="The rate falls from the first step on: there is no warm-up."),  # fmt: skip
    mistake("no min: always rising", ("min(step**-0.5, step * warmup**-1.5)", "(step * warmup**-1.5)"),
            says="The rate rises for ever; after the warm-up the falling term is the smaller one."),  # fmt: skip
    mistake("max for min", ("min(", "max("),
            says="The larger of the two terms is taken: the rate starts at its highest, falls, and then rises for ever. Equation 3 takes the smaller."),  # fmt: skip
    mistake("the product of both", ("min(step**-0.5, step * warmup**-1.5)", "(step**-0.5 * step * warmup**-1.5)"),
            says="The two terms are multiplied; the smaller of them is meant."),  # fmt: skip
    mistake("steps from 0", ("min(step**-0.5, step * warmup**-1.5)", "min((step + 1) ** -0.5, (step + 1) * warmup**-1.5)"),
            says="The schedule is one step ahead: 1 was added to a step that already counts from 1."),  # fmt: skip
    mistake("one step behind", ("min(step**-0.5, step * warmup**-1.5)", "min(max(step - 1, 1e-12) ** -0.5, (step - 1) * warmup**-1.5)"),
            says="The schedule is one step behind: the first step has rate 0. Steps count from 1 as they are."),  # fmt: skip
    mistake("warm-up to the power −0.5", ("warmup**-1.5", "warmup**-0.5"),
            says="The warm-up stands to the power −0.5, so the two terms do not meet at its end; equation 3 has −1.5."),  # fmt: skip
    mistake("divided by the warm-up", ("warmup**-1.5", "warmup**-1.0"),
            says="The rising term is step/warmup; equation 3 has the warm-up to the power −1.5, so that both terms meet at its end."),  # fmt: skip
    mistake("falls with 1/step", ("step**-0.5", "step**-1.0"),
            says="After the warm-up the rate falls with 1/step; it should be the inverse square root."),  # fmt: skip
    mistake("times √d_model", ("d_model**-0.5", "d_model**0.5"),
            says="The rate grows with the width: the exponent of d_model has lost its sign."),  # fmt: skip
    mistake("divided by d_model", ("d_model**-0.5", "d_model**-1.0"),
            says="The rate is divided by d_model; by its root is meant."),  # fmt: skip
    mistake("without d_model", ("d_model**-0.5 * ", ""),
            says="The factor with d_model is missing: wider models take smaller steps."),  # fmt: skip
    mistake("scaled to a peak of 1", ("d_model**-0.5", "warmup**0.5"),
            says="The schedule is scaled to a peak of 1, as a factor for another rate. Equation 3 is the rate itself, with d_model to the power −0.5 in front."),  # fmt: skip
    mistake("stays at its peak", ("step**-0.5", "warmup**-0.5"),
            says="After the warm-up the rate stays where it is; it should fall with the inverse square root of the step."),  # fmt: skip
    mistake("the default width is 256", ("d_model: int = 512", "d_model: int = 256"),
            says="By default the width is 256; the base model's is 512."),  # fmt: skip
    mistake("a fixed warm-up", ("return ", "warmup = 4000\n    return "),
            says="The argument warmup is ignored and 4000 used."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("two branches")
def noam_rate(step, d_model=512, warmup=4000):
    if step < warmup:
        return step / (math.sqrt(d_model) * warmup * math.sqrt(warmup))
    return 1 / math.sqrt(d_model * step)


# %% tags=["alternative"]
@alternative("in tensors")
def noam_rate(step, d_model=512, warmup=4000):
    step = torch.tensor(float(step), dtype=torch.float64)
    return torch.minimum(step.rsqrt(), step * float(warmup) ** -1.5) / d_model**0.5


# %% tags=["alternative"]
@alternative("a peak times what of it is reached")
def noam_rate(step, d_model=512, warmup=4000):
    peak = (d_model * warmup) ** -0.5
    return peak * min(step / warmup, (warmup / step) ** 0.5)


# %% tags=["alternative"]
@alternative("pow and sorted")
def noam_rate(step, d_model=512, warmup=4000):
    return math.pow(d_model, -0.5) * sorted([math.pow(step, -0.5), step * math.pow(warmup, -1.5)])[0]


# %% tags=["picture"]
figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
steps = range(1, 20_001, 50)
for d_model, warmup, colour, style in ((512, 4000, BLUE, "-"), (512, 8000, ORANGE, "--"), (1024, 4000, GREEN, "-.")):
    axis.plot(steps, [1e4 * noam_rate(step, d_model, warmup) for step in steps], style, color=colour, label=f"d_model {d_model}, warm-up {warmup}")
axis.set(title="Equation 3", xlabel="step", ylabel="learning rate (10⁻⁴)", ylim=(0, None))
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False)
plt.show()
print(f"the base model's highest rate: {noam_rate(4000):.2e}")

# %% [markdown]
# **What to see.** A straight line up, a root down. A longer warm-up means a lower peak, and later all curves of one width lie on each other: what is left of the warm-up is nothing but its length. A wider model (green) has a lower curve throughout.

# %% [markdown]
# ## Exercise 4 · `train_epoch`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# The loop that puts the three together. For every batch of sentence pairs: set the learning rate, shift the target, run the model, take the loss, clear the gradients, back-propagate, step.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | optimiser | Adam, $\beta_1 = 0.9$, $\beta_2 = 0.98$, $\epsilon = 10^{-9}$ | whatever the caller passes; we shall pass that | with $\beta_2 = 0.98$ Adam's average of squares looks back 50 steps, not 1,000: it follows the rising rate |
# | batches | about 25,000 source and 25,000 target tokens | 64 pairs | small data, small computer |

# %% tags=["export"]
def train_epoch(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    rate: Callable[[int], float],
    step: int = 0,
    eps: float = 0.1,
) -> list[float]:
    """One pass over the batches, in training mode: one update a batch (sections 5.1 to 5.4).

    Args:
        model: called as model(src, decoder_input), gives logits (B, T − 1, V); `model.pad_id` is padding.
        batches: pairs (src (B, S), target (B, T)), which can be gone through once; targets begin with <bos>.
        optimiser: its learning rate is set before each update, in every parameter group.
        rate: learning rate by number of the update, from 1.
        step: how many updates were made before; the first one here has number step + 1.
        eps: label smoothing.

    Returns: the loss of each batch before its update, as floats. Gradients left over from before do
        not count. In which mode it leaves the model, and what it leaves in the gradients, is open.
    """
    ### BEGIN SOLUTION
    model.train()
    losses = []
    for src, target in batches:
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        decoder_input, labels = teacher_forcing(target)
        logits = model(src, decoder_input)  # (B, T − 1, V)
        loss = label_smoothing_loss(logits.flatten(0, 1), labels.flatten(), eps, model.pad_id)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
    ### END SOLUTION


# %%
@check("train_epoch", points=4, paper="sections 5.1 to 5.4")
def _(case):
    class Bigrams(nn.Module):
        """The next token from the present one and the mean of the source; notes how it was called."""

        def __init__(self, vocabulary, width, pad_id, gain):
            super().__init__()
            self.pad_id, self.gain, self.calls = pad_id, gain, []
            self.source, self.target = nn.Embedding(vocabulary, width), nn.Embedding(vocabulary, width)
            self.output = nn.Linear(width, vocabulary)

        def forward(self, src, tgt):
            self.calls.append({"training mode": self.training, "decoder input": tgt.detach().clone()})
            return self.gain * self.output(torch.tanh(self.target(tgt) + self.source(src).mean(1, keepdim=True)))

    class Steps(torch.optim.SGD):
        """Notes the learning rates of each step."""

        def step(self, closure=None):
            self.rates = [*getattr(self, "rates", []), *[group["lr"] for group in self.param_groups]]
            return super().step(closure)

    def pairs(count, B, S, T, V, pad_id=0):
        for _ in range(count):
            target = case.integers(3, V, B, T)
            target[:, 0], target[:, -1] = 1, 2
            if B > 1:
                target[0, -2], target[0, -1] = 2, pad_id
            yield case.integers(3, V, B, S), target

    def train(name, batches, V=7, pad_id=0, rate=lambda n: 0.5 / n, left_over=False, evaluating=False, gain=1.0, **options):
        model = case.initialise(Bigrams(V, 4, pad_id, gain).to(case.device))
        model.train(not evaluating)
        if left_over:
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)
        halves = [{"params": list(model.source.parameters())}, {"params": [*model.target.parameters(), *model.output.parameters()]}]
        optimiser = Steps(halves, lr=0.3)
        losses = train_epoch(model, batches, optimiser, rate, **options)
        case.record(f"{name}: what the model was given", [call["decoder input"] for call in model.calls], about="decoder input of call")
        case.record(f"{name}: in training mode", [call["training mode"] for call in model.calls], about="training mode in call")
        case.record(f"{name}: losses", losses, about="loss of batch")
        case.record(f"{name}: learning rates, group by group", getattr(optimiser, "rates", []), about="learning rate")
        case.record(f"{name}: parameters afterwards", {key: value.detach().clone() for key, value in model.named_parameters()}, about="parameter")
        return losses

    losses = train("one batch, one sentence", list(pairs(1, 1, 2, 4, 7)))
    tensors = isinstance(losses, (list, tuple)) and any(isinstance(loss, Tensor) for loss in losses)
    case.record("one batch, one sentence: what the losses are", "tensors" if tensors else "floats", about="what is kept")
    train("three batches", list(pairs(3, 3, 4, 5, 7)))
    train("gradients left over, evaluation mode before", list(pairs(2, 2, 3, 4, 7)), left_over=True, evaluating=True)
    train("the eleventh step and on, no smoothing", list(pairs(2, 2, 3, 6, 7)), step=10, eps=0.0)
    train("batches that can be gone through once", pairs(3, 2, 3, 5, 7))
    train("padding is 5, much smoothing", list(pairs(2, 3, 2, 5, 9, pad_id=5)), V=9, pad_id=5, eps=0.3)
    # logits of about ±20 and labels that are nearly uniform: the gradient's norm is 9 and more, whatever is drawn
    train("steep: gradients are large", list(pairs(2, 1, 3, 3, 7)), rate=lambda n: 0.01, gain=20.0, eps=0.9)
    ### BEGIN HIDDEN TESTS
    train("longer", list(pairs(5, 4, 6, 9, 12)), V=12, step=3, rate=lambda n: 0.02 * n)
    train("batches of unequal size", [*pairs(1, 4, 2, 6, 7), *pairs(1, 1, 5, 3, 7), *pairs(1, 2, 1, 4, 7)], rate=lambda n: 0.3)
    train("left over and later", pairs(2, 2, 3, 4, 8), V=8, left_over=True, step=99, rate=lambda n: 1.0 if n > 100 else 0.25)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "train_epoch",
    "Say the seven steps of the paragraph above aloud, and ask of each: does it come before or after the update? What would a second batch notice if you forgot one?",
    "Sections 5.2 and 5.3 for steps and rate, the sentence in 3.1 for the shift. `label_smoothing_loss` wants (N, V) and (N,): flatten batch and time into one axis, in both.",
    "Put the model into training mode. For every pair: count the step, write its rate into all groups of the optimiser, get input and labels from `teacher_forcing`, call the model with source and input, "
    "compute the loss of the flattened logits with the model's padding, clear, back-propagate, step, and keep the loss as a float.",
)
misconceptions(
    "train_epoch",
    mistake("gradients never cleared", ("        optimiser.zero_grad()\n", ""),
            says="Gradients are never cleared, so each update also contains those of all batches before it. Clear them once a batch."),  # fmt: skip
    mistake("gradients cleared before the loop only", ("        optimiser.zero_grad()\n", ""), ("    losses = []", "    losses = []\n    optimiser.zero_grad()"),
            says="Gradients are cleared once, before the loop, and add up from batch to batch. Clear them for every batch."),  # fmt: skip
    mistake("gradients cleared after the step only", ("        optimiser.zero_grad()\n", ""), ("        optimiser.step()", "        optimiser.step()\n        optimiser.zero_grad()"),
            says="Gradients are cleared after each step, so what was left over from before the first batch takes part in the first update."),  # fmt: skip
    mistake("gradients cleared before they are used", ("        optimiser.zero_grad()\n        loss.backward()", "        loss.backward()\n        optimiser.zero_grad()"),
            says="When the optimiser steps there are no gradients, so nothing is ever learned. The order is: clear, back-propagate, step."),  # fmt: skip
    mistake("no update", ("        optimiser.step()\n", ""),
            says="The optimiser never steps: losses are computed, and nothing is learned."),  # fmt: skip
    mistake("evaluation mode", ("model.train()", "model.eval()"),
            says="The model is in evaluation mode, so nothing is dropped while it learns; it has to be in training mode."),  # fmt: skip
    mistake("mode left as it was", ("    model.train()\n", ""),
            says="The mode stays as it was found. After an evaluation that is evaluation mode, and dropout is off from then on; put it into training mode yourself."),  # fmt: skip
    mistake("the whole target is read", ("logits = model(src, decoder_input)", "logits = model(src, target)[:, :-1]"),
            says="The decoder is given the whole target; its input leaves out the last token."),  # fmt: skip
    mistake("the labels are read", ("logits = model(src, decoder_input)", "logits = model(src, labels)"),
            says="The decoder is given the labels themselves, and has to say what it reads."),  # fmt: skip
    mistake("the labels are not shifted", ("labels.flatten()", "decoder_input.flatten()"),
            says="The loss compares with the decoder's input; it should compare with the labels, one step ahead."),  # fmt: skip
    mistake("source and target exchanged", ("logits = model(src, decoder_input)", "logits = model(decoder_input, decoder_input)"),
            says="The model is not given the source; it should be called with source and decoder input."),  # fmt: skip
    mistake("one step behind", ("        step += 1\n", ""), ("        losses.append(loss.item())", "        losses.append(loss.item())\n        step += 1"), ("rate(step)", "rate(max(step, 1))"),
            says="The rate is that of the step before: the first update here has number step + 1."),  # fmt: skip
    mistake("counts from 1 again", ("    losses = []", "    losses = []\n    step = 0"),
            says="The steps of earlier epochs are forgotten: every epoch begins the schedule anew."),  # fmt: skip
    mistake("the step is never counted", ("        step += 1\n", ""), ("rate(step)", "rate(step + 1)"),
            says="All batches use the rate of the first; the step has to be counted."),  # fmt: skip
    mistake("the rate is set after the update", ("        for group in optimiser.param_groups:\n            group[\"lr\"] = rate(step)\n", ""),
            ("        losses.append", "        for group in optimiser.param_groups:\n            group[\"lr\"] = rate(step)\n        losses.append"),
            says="The rate is set after the update, so the first one is made with the optimiser's own rate and every other one step late."),  # fmt: skip
    mistake("the rate is never set", ("        for group in optimiser.param_groups:\n            group[\"lr\"] = rate(step)\n", ""),
            says="The optimiser keeps the learning rate it was made with; rate(step) is not used."),  # fmt: skip
    mistake("one parameter group", ("optimiser.param_groups:", "optimiser.param_groups[:1]:"),
            says="Only the first group of parameters gets the rate; an optimiser may have several."),  # fmt: skip
    mistake("no smoothing", ("labels.flatten(), eps,", "labels.flatten(), 0.0,"),
            says="The loss does not smooth its labels; pass eps on."),  # fmt: skip
    mistake("always ε = 0.1", ("labels.flatten(), eps,", "labels.flatten(), 0.1,"),
            says="The loss always smooths by 0.1, whatever eps says."),  # fmt: skip
    mistake("padding is always 0", ("eps, model.pad_id)", "eps)"),
            says="The loss is not told which token is padding and takes 0; the model knows: model.pad_id."),  # fmt: skip
    mistake("only the first batch", ("        losses.append(loss.item())\n", "        losses.append(loss.item())\n        break\n"),
            says="The loop ends after the first batch."),  # fmt: skip
    mistake("the mean loss", ("return losses", "return sum(losses) / max(len(losses), 1)"),
            says="One mean is returned; the loss of each batch is wanted, so that it can be drawn."),  # fmt: skip
    mistake("the last loss", ("return losses", "return losses[-1:]"),
            says="Only the last loss is returned; that of each batch is wanted."),  # fmt: skip
    mistake("the loss after the update", ("        losses.append(loss.item())", "        losses.append(label_smoothing_loss(model(src, decoder_input).flatten(0, 1), labels.flatten(), eps, model.pad_id).item())"),
            says="The model is run a second time, after the update, for the loss that is kept. The loss of the first run is at hand, and costs nothing."),  # fmt: skip
    mistake("the losses are tensors", ("losses.append(loss.item())", "losses.append(loss)"),
            says="The losses are kept as tensors, and one that is not detached keeps everything its batch computed in memory. Floats are wanted: loss.item()."),  # fmt: skip
    mistake("gradients are clipped", ("        optimiser.step()", "        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        optimiser.step()"),
            says="The gradients are clipped before the update. Section 5 does not do that: where they are large, the step is smaller than the learning rate says."),  # fmt: skip
    mistake("batches gone through twice", ("    losses = []", "    losses = []\n    count = len(list(batches))"),
            says="The batches are gone through before the loop (to count them, perhaps). They may come from a generator, which is empty after that."),  # fmt: skip
    mistake("time before batch", ("logits.flatten(0, 1)", "logits.transpose(0, 1).flatten(0, 1)"),
            says="The logits are flattened time first and the labels batch first, so they are paired up wrongly."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("set_to_none by hand, reshape, enumerate")
def train_epoch(model, batches, optimiser, rate, step=0, eps=0.1):
    losses = []
    model.train(True)
    for number, (src, target) in enumerate(batches, start=step + 1):
        for parameter in model.parameters():
            parameter.grad = None
        tgt, labels = teacher_forcing(target)
        logits = model(src, tgt)
        loss = label_smoothing_loss(logits.reshape(-1, logits.size(-1)), labels.reshape(-1), eps=eps, pad_id=model.pad_id)
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = rate(number)
        optimiser.step()
        losses += [float(loss)]
    return losses


# %% tags=["alternative"]
@alternative("an inner function for one update")
def train_epoch(model, batches, optimiser, rate, step=0, eps=0.1):
    def update(number, src, target):
        optimiser.zero_grad(set_to_none=False)
        tgt, labels = teacher_forcing(target)
        keep = labels != model.pad_id
        loss = label_smoothing_loss(model(src, tgt)[keep], labels[keep], eps, model.pad_id)
        loss.backward()
        for group in optimiser.param_groups:
            group.update(lr=rate(number))
        optimiser.step()
        return loss.detach().item()

    model.train()
    return [update(step + 1 + i, *batch) for i, batch in enumerate(batches)]


# %% tags=["alternative"]
@alternative("cleared before and after, eval mode in the end")
def train_epoch(model, batches, optimiser, rate, step=0, eps=0.1):
    losses = []
    model.train()
    optimiser.zero_grad()
    for batch in batches:
        step = step + 1
        lr = rate(step)
        for i in range(len(optimiser.param_groups)):
            optimiser.param_groups[i]["lr"] = lr
        loss = label_smoothing_loss(model(batch[0], batch[1][:, :-1]).flatten(end_dim=1), batch[1][:, 1:].flatten(), eps, model.pad_id)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    model.eval()
    return losses


# %% tags=["alternative"]
@alternative("an iterator and while")
def train_epoch(model, batches, optimiser, rate, step=0, eps=0.1):
    model.train()
    losses, stream = [], iter(batches)
    while (batch := next(stream, None)) is not None:
        src, target = batch
        step += 1
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        optimiser.zero_grad()
        decoder_input, labels = teacher_forcing(target)
        logits = model(src, decoder_input)
        B, T, V = logits.shape
        loss = label_smoothing_loss(logits.view(B * T, V), labels.contiguous().view(B * T), eps, model.pad_id)
        loss.backward()
        losses.append(loss.item())
        optimiser.step()
    return losses

# %% [markdown]
# ## Exercise 5 · `greedy_decode`
#
# *Difficulty ●●○ · 25 minutes · 4 points*
#
# Trained, the decoder writes. It reads `<bos>`, names the likeliest next token, reads `<bos>` and that token, and so on until it names `<eos>`. The source goes through the encoder once; the decoder runs once a token.
#
# A batch of sentences makes it interesting: they end at different times. A sentence that has ended must stay ended while its neighbours go on, so its row is filled with padding.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | how to choose | beam search | first greedily: always the likeliest | it is the simplest, and what a beam has to be compared with |
# | when to stop | "maximum output length during inference to input length + 50, but terminate early when possible" | `max_len` tokens at most; ends when all sentences have ended | the caller knows the task |
# | what comes out | nothing | without `<bos>`, with `<eos>`, then padding | a tensor like the labels of `teacher_forcing`, so that both can be compared |
# | mode | nothing | evaluation mode while it writes, afterwards the mode it found; no gradients | dropout would write nonsense, and training goes on afterwards |

# %% tags=["export"]
def greedy_decode(model: nn.Module, src: Tensor, bos_id: int, eos_id: int, max_len: int) -> Tensor:
    """The likeliest next token, again and again.

    Args:
        model: has `encode(src) -> memory (B, S, d_model)`, `decode(tgt (B, T), memory, src) ->
            logits (B, T, V)` and `pad_id`.
        src: token numbers (B, S).
        bos_id, eos_id: beginning and end of a sentence.
        max_len: tokens written at most for each sentence, <eos> among them; at least 1.

    Returns: token numbers (B, L), int64, L ≤ max_len: no <bos>; each row up to its <eos>, if there
        is one, and model.pad_id after it. Whether columns of nothing but padding are cut off is
        open, and so is which of two equally likely tokens is taken. Computes no gradients; leaves
        the model in the mode it found.
    """
    ### BEGIN SOLUTION
    was_training = model.training
    model.eval()
    with torch.no_grad():
        memory = model.encode(src)
        tokens = torch.full((src.size(0), 1), bos_id, device=src.device)
        ended = torch.zeros(src.size(0), dtype=torch.bool, device=src.device)
        while tokens.size(1) <= max_len and not ended.all():
            logits = model.decode(tokens, memory, src)[:, -1]  # (B, V): only the last position is new
            following = logits.argmax(dim=-1).masked_fill(ended, model.pad_id)
            tokens = torch.cat([tokens, following.unsqueeze(1)], dim=1)
            ended = ended | (following == eos_id)
    model.train(was_training)
    return tokens[:, 1:]
    ### END SOLUTION


# %%
@check("greedy_decode", points=4, paper="section 6.1, on inference")
def _(case):
    class Scripted(nn.Module):
        """A model that says what a table tells it: the logits depend on the source's first word and on everything written so far. In training mode it says the opposite."""

        def __init__(self, table, ends, pad_id, bos_id, eos_id):
            super().__init__()
            self.pad_id, self.bos_id, self.eos_id, self.ends = pad_id, bos_id, eos_id, ends
            self.scale = nn.Parameter(torch.ones((), device=case.device))
            self.register_buffer("table", table)
            self.state = dict.fromkeys(("encoder in training mode", "encoder with gradients", "decoder in training mode", "decoder with gradients"), False)

        def note(self, part):
            self.state[f"{part} in training mode"] |= self.training
            self.state[f"{part} with gradients"] |= torch.is_grad_enabled()

        def encode(self, src):
            self.note("encoder")
            return self.memory(src)

        def memory(self, src):
            words = [next((token for token in row if token != self.pad_id), 0) for row in src.tolist()]
            return torch.tensor(words, device=src.device, dtype=torch.float32)[:, None, None].expand(-1, src.size(1), 2) * self.scale

        def decode(self, tgt, memory, src):
            self.note("decoder")
            fits = (memory[:, 0, 0].round().long() == self.memory(src)[:, 0, 0].long()).tolist()  # the memory of this very sentence?
            rows = []
            for word, same, written in zip(memory[:, 0, 0].round().long().tolist(), fits, tgt.tolist()):
                state, row = 17 * word + (0 if same else 5), []
                for t, token in enumerate(written):
                    state = (31 * state + 7 * token + 3) % len(self.table)
                    logits = self.table[state].clone()
                    logits[self.eos_id] += 12.0 if t == self.ends.get(word, 99) else -12.0
                    row.append(logits)
                rows.append(torch.stack(row))
            logits = torch.stack(rows) * self.scale
            return -logits if self.training else logits

        def forward(self, src, tgt):
            return self.decode(tgt, self.encode(src), src)

    def write(name, words, max_len, ends, V=9, S=3, special=(0, 1, 2), left=False, training=True):
        pad_id, bos_id, eos_id = special
        table = case.normal(97, V, scale=0.3)
        best = 3 + case.permutation(97) % (V - 3)  # one ordinary token stands out everywhere: no ties
        ordinary = torch.tensor([t for t in range(V) if t not in special], device=case.device)
        table[torch.arange(97), ordinary[best - 3]] += 2.5  # and not so far that drawing would take it as well
        table[:, [pad_id, bos_id]] -= 9.0
        model = Scripted(table, ends, pad_id, bos_id, eos_id)
        model.train(training)
        src = torch.full((len(words), S), pad_id, device=case.device)
        for i, word in enumerate(words):
            length = S - i % S
            row = ordinary[case.integers(0, len(ordinary), length)]
            row[0] = word
            src[i, S - length if left else 0 : S if left else length] = row

        def tokens_written(src):
            result = greedy_decode(model, src, bos_id, eos_id, max_len)
            model.dtype = str(result.dtype).removeprefix("torch.")
            missing = max_len - result.size(1)
            return F.pad(result, (0, missing), value=pad_id) if missing > 0 else result  # whether it is cut short is open

        case.call(name, tokens_written, src)
        return model

    def conduct(name, model):
        case.record(f"{name}: while it writes", model.state, about="state:")
        case.record(f"{name}: training mode afterwards", model.training, about="training mode")
        case.record(f"{name}: dtype of the tokens", model.dtype, about="dtype")

    conduct("one sentence", write("one sentence, three tokens", [4], 5, {4: 2}))
    conduct("a model in evaluation mode", write("a model in evaluation mode, four tokens", [5], 6, {5: 3}, training=False))
    write("two sentences, the first ends earlier", [4, 5], 6, {4: 1, 5: 4})
    write("two sentences, the second ends earlier", [4, 5], 6, {4: 4, 5: 2})
    write("a sentence that never ends", [6], 4, {})
    write("ends exactly at max_len", [3], 4, {3: 3})
    write("empty: the first token is <eos>", [3, 4], 4, {3: 0, 4: 2})
    write("padding is 7, <bos> 3, <eos> 8", [0, 1, 4], 6, {0: 1, 1: 3, 4: 4}, special=(7, 3, 8))
    ### BEGIN HIDDEN TESTS
    conduct("a batch", write("five sentences, two never end", [3, 4, 5, 6, 7], 9, {3: 2, 5: 6, 6: 1}, S=5))
    write("one token at most", [3, 4], 1, {3: 0})
    write("padding on the left of the sources", [6, 3, 4], 7, {6: 3, 3: 5, 4: 1}, left=True)
    write("the same sentence twice, and others", [5, 3, 5, 4], 8, {5: 3, 3: 6, 4: 7})
    write("other special numbers, many tokens", [0, 2, 3, 6], 10, {0: 8, 2: 9, 3: 0}, V=20, special=(10, 11, 5), training=False)
    write("all empty", [3, 4], 5, {3: 0, 4: 0})
    write("as many sentences as source tokens", [3, 4, 5, 6], 6, {3: 3, 4: 2, 5: 5, 6: 1}, S=4)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "greedy_decode",
    "Two sentences; the first has just ended. What should the next column hold in each of their rows, and how does your code know a few columns later that the first has ended?",
    "Section 3.1: the decoder is “auto-regressive, consuming the previously generated symbols as additional input when generating the next”. All of them, not only the last.",
    "Remember the mode, switch to evaluation, and work without gradients. Encode once. Begin with a column of <bos>; as long as there is room and some sentence goes on, decode all that is written, take the "
    "last position's argmax, replace it by padding in rows that have ended before, append it, and note which rows have ended now. Restore the mode, and leave out the <bos>.",
)
misconceptions(
    "greedy_decode",
    mistake("goes on after <eos>", (".masked_fill(ended, model.pad_id)", ""),
            says="A sentence that has ended goes on writing while its neighbours do; after <eos> its row holds padding."),  # fmt: skip
    mistake("goes on to max_len", (".masked_fill(ended, model.pad_id)", ""), (" and not ended.all()", ""),
            says="Nothing stops at <eos>: every row is written up to max_len. After <eos> comes padding."),  # fmt: skip
    mistake("an end forgotten", ("ended = ended | (following == eos_id)", "ended = following == eos_id"),
            says="That a sentence has ended is known for one step only; then it begins to write again. Keep it: once ended, always ended."),  # fmt: skip
    mistake("stops with the first sentence", ("not ended.all()", "not ended.any()"),
            says="As soon as one sentence ends all others are cut off; stop when every one has ended."),  # fmt: skip
    mistake("<bos> kept", ("tokens[:, 1:]", "tokens"),
            says="The result begins with <bos>; it was an input, not something written."),  # fmt: skip
    mistake("<eos> cut off", ("return tokens[:, 1:]", "return tokens[:, 1:].masked_fill(tokens[:, 1:] == eos_id, model.pad_id)"),
            says="The <eos> has been removed; it is kept, so that an ended sentence can be told from one that was cut off."),  # fmt: skip
    mistake("filled with <eos>", ("masked_fill(ended, model.pad_id)", "masked_fill(ended, eos_id)"),
            says="After a sentence's end its row is filled with more <eos>; fill it with model.pad_id."),  # fmt: skip
    mistake("padding is 0", ("(ended, model.pad_id)", "(ended, 0)"),
            says="Ended rows are filled with 0; padding is what the model says it is, model.pad_id."),  # fmt: skip
    mistake("one token too many", ("<= max_len", "<= max_len + 1"),
            says="One token more than max_len is written; <bos> does not count, but everything else does."),  # fmt: skip
    mistake("one token too few", ("<= max_len", "< max_len"),
            says="One token less than max_len is written: <bos> has been counted, which is not part of the result."),  # fmt: skip
    mistake("reads only its last token", ("model.decode(tokens, memory", "model.decode(tokens[:, -1:], memory"),
            says="The decoder is given only the last token; it has no memory of its own and has to read everything written so far."),  # fmt: skip
    mistake("the first position's logits", ("[:, -1]  #", "[:, 0]  #"),
            says="The logits of the first position are used; the next token is predicted at the last one."),  # fmt: skip
    mistake("the unlikeliest token", ("argmax", "argmin"),
            says="The token with the lowest logit is taken; greedy takes the highest."),  # fmt: skip
    mistake("drawn by chance", ("logits.argmax(dim=-1)", "torch.multinomial(logits.softmax(-1), 1).squeeze(1)"),
            says="The next token is drawn by its probability (sampling); greedy takes the likeliest."),  # fmt: skip
    mistake("no evaluation mode", ("    model.eval()\n", ""),
            says="The model is not put into evaluation mode, so dropout disturbs what it writes."),  # fmt: skip
    mistake("left in evaluation mode", ("    model.train(was_training)\n", ""),
            says="The model is left in evaluation mode: a training loop that goes on after this would train without dropout. Restore the mode you found."),  # fmt: skip
    mistake("left in training mode", ("model.train(was_training)", "model.train()"),
            says="The model is always left in training mode, although it may have been in evaluation mode before. Restore the mode you found."),  # fmt: skip
    mistake("gradients are kept", ("torch.no_grad()", "torch.enable_grad()"),
            says="Everything needed for a backward pass is kept at every step, which costs memory and time; nothing is trained here, so compute without gradients."),  # fmt: skip
    mistake("encoded before evaluation mode", ("    model.eval()\n    with torch.no_grad():\n        memory = model.encode(src)\n", "    with torch.no_grad():\n        memory = model.encode(src)\n        model.eval()\n"),
            says="The source is encoded before the model is in evaluation mode, so dropout in the encoder disturbs what is written. Switch first, then encode."),  # fmt: skip
    mistake("encoded with gradients", ("    with torch.no_grad():\n        memory = model.encode(src)\n", "    memory = model.encode(src)\n    with torch.no_grad():\n"),
            says="The encoder runs before torch.no_grad(), so everything it computes is kept for a backward pass. Encode inside."),  # fmt: skip
    mistake("everybody gets the first source", ("memory = model.encode(src)", "memory = model.encode(src)[:1].expand(src.size(0), -1, -1)"),
            says="All sentences are written from the first one's memory; each has its own."),  # fmt: skip
    mistake("the sources in reverse order", ("memory = model.encode(src)", "memory = model.encode(src.flip(0))"),
            says="Memory and source do not belong together: the sentences of the batch have changed places."),  # fmt: skip
    mistake("begins with <eos>", ("(src.size(0), 1), bos_id", "(src.size(0), 1), eos_id"),
            says="The decoder begins with <eos>; it was trained to begin with <bos>."),  # fmt: skip
    mistake("begins with padding", ("(src.size(0), 1), bos_id", "(src.size(0), 1), model.pad_id"),
            says="The decoder begins with padding; it was trained to begin with <bos>."),  # fmt: skip
    mistake("one sentence only", ("return tokens[:, 1:]", "return tokens[0, 1:]"),
            says="Only the first sentence is returned, without a batch axis; (B, L) is wanted."),  # fmt: skip
)


# %% tags=["alternative"]
@alternative("a for loop to max_len, a list of columns, where")
def greedy_decode(model, src, bos_id, eos_id, max_len):
    mode = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            memory, columns = model.encode(src), [torch.full_like(src[:, 0], bos_id)]
            live = torch.ones_like(columns[0], dtype=torch.bool)
            for _ in range(max_len):
                best = model.decode(torch.stack(columns, dim=1), memory, src)[:, -1, :].max(dim=-1).indices
                columns.append(torch.where(live, best, torch.full_like(best, model.pad_id)))
                live &= columns[-1] != eos_id
        return torch.stack(columns[1:], dim=1)
    finally:
        model.train(mode)


# %% tags=["alternative"]
@alternative("sentence by sentence")
def greedy_decode(model, src, bos_id, eos_id, max_len):
    mode = model.training
    model.eval()
    rows = []
    with torch.no_grad():
        for sentence in src.split(1):
            memory, written = model.encode(sentence), [bos_id]
            while len(written) <= max_len and written[-1] != eos_id:
                logits = model.decode(torch.tensor([written]), memory, sentence)
                written.append(int(logits[0, -1].argmax()))
            rows.append(torch.tensor(written[1:]))
    model.train(mode)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.pad_id)


# %% tags=["alternative"]
@alternative("a buffer filled in, only the sentences that go on are decoded")
@torch.no_grad()
def greedy_decode(model, src, bos_id, eos_id, max_len):
    training, model.training = model.training, model.training
    model.eval()
    memory = model.encode(src)
    tokens = torch.full((len(src), max_len + 1), model.pad_id, dtype=torch.long)
    tokens[:, 0] = bos_id
    going = torch.arange(len(src))
    for t in range(max_len):
        if len(going) == 0:
            break
        logits = model.decode(tokens[going, : t + 1], memory[going], src[going])
        tokens[going, t + 1] = logits[:, t].argmax(-1)
        going = going[tokens[going, t + 1] != eos_id]
    if training:
        model.train()
    return tokens[:, 1:]


# %% tags=["alternative"]
@alternative("written to the end, padded afterwards")
def greedy_decode(model, src, bos_id, eos_id, max_len):
    training = model.training
    model.eval()
    with torch.no_grad():
        memory = model.encode(src)
        tokens = src.new_full((src.shape[0], 1), bos_id)
        for _ in range(max_len):
            tokens = torch.cat((tokens, model.decode(tokens, memory, src)[:, -1:].argmax(-1)), -1)
    model.train(training)
    tokens = tokens[:, 1:]
    after = (tokens == eos_id).long().cumsum(1) - (tokens == eos_id).long() > 0
    return tokens.masked_fill(after, model.pad_id)


# %% [markdown]
# ### Try it: the copy task
#
# The simplest task that needs an encoder, a decoder and attention between them: write what you read. Random sequences of up to eight symbols, so nothing can be learned by heart. The model has to find out by itself that the answer to position
# $t$ is at position $t$ of the source.

# %% tags=["picture"]
device = torch.device("cuda" if DEVICE == "auto" and torch.cuda.is_available() else "cpu" if DEVICE == "auto" else DEVICE)
if PROFILE == "quick":
    torch.set_num_threads(1)  # matrices as small as ours are not worth sharing among cores


def adam(model):
    """Adam as in section 5.3; `train_epoch` sets the learning rate."""
    return torch.optim.Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9)


def on_device(batches):
    return ((src.to(device), target.to(device)) for src, target in batches)


def exact_match(output, target):
    """Share of the sentences that are right from the first token to <eos>. output (B, L): as decoded; target (B, T): with <bos>."""
    labels = target[:, 1:]
    width = max(output.size(1), labels.size(1))
    output, labels = (F.pad(x, (0, width - x.size(1)), value=PAD_ID) for x in (output, labels))
    return (output == labels).all(dim=1).double().mean().item()


torch.manual_seed(SEED)
copier = Transformer(12, 12, d_model=32, h=4, N=1, d_ff=64, dropout=0.0, pad_id=PAD_ID).to(device)
optimiser, copy_losses, copy_scores = adam(copier), [], []
test_src, test_target = next(on_device(copy_batches(1, batch_size=500, seed=SEED + 1_000_000)))
for epoch in range(9):
    if STEPS and len(copy_losses) >= STEPS:
        break
    batches = on_device(copy_batches(min(40, STEPS or 40), seed=SEED + epoch))
    copy_losses += train_epoch(copier, batches, optimiser, lambda n: 0.7 * noam_rate(n, 32, 60), step=len(copy_losses))
    written = greedy_decode(copier, test_src, BOS_ID, EOS_ID, max_len=9)
    copy_scores.append((len(copy_losses), exact_match(written, test_target)))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
left.plot(range(1, len(copy_losses) + 1), copy_losses, color=BLUE)
left.set(title="Copy task: loss", xlabel="step", ylabel="smoothed loss (nats)", ylim=(0, None))
right.plot(*zip(*copy_scores), "o-", color=BLUE)
right.set(title="Copied without a mistake", xlabel="step", ylabel="share of 500 new sequences", ylim=(0, 1.05))
for axis in (left, right):
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()
for src, output in zip(test_src[:3].tolist(), written[:3].tolist()):
    print("read", src[: src.index(EOS_ID) + 1], "wrote", [token for token in output if token != PAD_ID])
print(f"{100 * copy_scores[-1][1]:.1f} % of 500 new sequences are copied without a mistake, after {len(copy_losses)} steps")

# %% [markdown]
# **What to see.** The loss falls to a floor and stays there, well above 0: the floor is the entropy of the smoothed labels. The share of perfect copies keeps rising after that: a sequence counts only if every one of its symbols and its end are right, and the last
# mistakes hardly show in the loss. If the curve on the right had stayed at 0 while the one on the left fell to its floor, you would know that the model sees its answers while training and not while writing.

# %% [markdown]
# ## What a beam maximises
#
# Greedy decoding never goes back. If "a" is a little likelier than "b" as a first word, it takes "a", even if every continuation of "a" is poor and "b" has a brilliant one. A beam search keeps several beginnings alive. To compare finished sentences
# it needs an objective, and log-probability alone will not do: every token makes it smaller, so short sentences win. Section 6.1 uses a length penalty $\alpha = 0.6$, which is defined in the work that it cites (Wu et al. 2016, equation 14, without its coverage term):
#
# $$s(y) = \frac{\log p(y \mid x)}{lp(y)}, \qquad lp(y) = \left(\frac{5 + |y|}{6}\right)^{\alpha},$$
#
# where $|y|$ counts the tokens, `<eos>` among them. With $\alpha = 0$ this is the log-probability. Here is the objective as code, for any output of a decoder; it is given, and you may use it.

# %% tags=["export"]
def sentence_scores(model: nn.Module, src: Tensor, output: Tensor, bos_id: int, alpha: float = 0.6) -> Tensor:
    """The objective of beam search (section 6.1; Wu et al. 2016, equation 14) for sentences that are written already.

    Args:
        model, src, bos_id: as of `greedy_decode`. output: what it wrote, (B, L): no <bos>, padding after <eos>.
        alpha: the length penalty; 0 gives the log-probability.

    Returns: (B,), log-probability over ((5 + length)/6)^alpha; padding counts in neither. Computes no gradients; leaves the model in the mode it found.
    """
    was_training = model.training
    model.eval()
    with torch.no_grad():
        begin = torch.full_like(output[:, :1], bos_id)
        logits = model.decode(torch.cat([begin, output[:, :-1]], dim=1), model.encode(src), src)  # (B, L, V): as with teacher forcing
        log_p = torch.log_softmax(logits, dim=-1).gather(2, output.unsqueeze(2)).squeeze(2)  # (B, L)
        words = output != model.pad_id
        scores = (log_p * words).sum(dim=1) / ((5 + words.sum(dim=1)) / 6) ** alpha
    model.train(was_training)
    return scores


# %% [markdown]
# ## Exercise 6 · `beam_search`
#
# *Difficulty ●●● · 45 minutes · 5 points*
#
# One step of a beam: each of the `beam` unfinished hypotheses could go on with each of the $V$ tokens. Score all $\text{beam} \cdot V$ candidates by their log-probability. Those that end in `<eos>` are finished and compete for the best by the
# objective; of the others the best `beam` go on. It is over at `max_len`, or when nothing that goes on can still win.
#
# A batch of sentences runs as $B \cdot \text{beam}$ rows, with memory and source repeated so that each row has those of its own sentence.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | beam, penalty | beam 4, $\alpha = 0.6$, "chosen after experimentation on the development set" | the same by default | |
# | a hypothesis without `<eos>` at `max_len` | nothing | competes like a finished one | something has to come out; if you let only finished ones compete where there are any, that is right too |
# | greedy's sentence | nothing | competes at the end | a beam may drop the beginning of greedy's sentence and end up below it; comparing once more costs little, and then it never does |
#
# The check does not decide what is a matter of taste: which hypotheses a narrow beam has dropped, equal scores, whether `<eos>` counts in $|y|$ (implementations differ), and what comes out if nothing has ended. It does ask for the objective above with either count, and for a search that does not give up before the best is certain.

# %% tags=["export"]
def beam_search(
    model: nn.Module, src: Tensor, bos_id: int, eos_id: int, max_len: int, beam: int = 4,
    alpha: float = 0.6,
) -> Tensor:
    """The best sentence that a beam finds under the objective of `sentence_scores` (section 6.1).

    Args:
        model, src, bos_id, eos_id, max_len: as of `greedy_decode`.
        beam: how many unfinished hypotheses are kept; less than the vocabulary.
        alpha: length penalty, ≥ 0.

    Returns: token numbers (B, L), L ≤ max_len, in the form of `greedy_decode`. It stops early only
        when no unfinished hypothesis of its beam can still beat the best finished one. Computes no
        gradients; leaves the model in the mode it found.
    """
    ### BEGIN SOLUTION
    def penalty(length: int) -> float:
        return ((5 + length) / 6) ** alpha

    was_training = model.training
    model.eval()
    with torch.no_grad():
        B, device = src.size(0), src.device
        sentence = torch.arange(B, device=device)
        rows, memory = src.repeat_interleave(beam, dim=0), model.encode(src).repeat_interleave(beam, dim=0)  # (B·beam, …)
        live = torch.full((B, beam, 1), bos_id, device=device)  # the unfinished hypotheses
        log_p = torch.full((B, beam), -torch.inf, device=device)
        log_p[:, 0] = 0.0  # at first there is one hypothesis, not `beam` equal ones
        best = torch.full((B, max_len), model.pad_id, device=device)
        best_score = torch.full((B,), -torch.inf, device=device)
        for length in range(1, max_len + 1):
            logits = model.decode(live.flatten(0, 1), memory, rows)[:, -1]  # (B·beam, V)
            V = logits.size(-1)
            candidates = log_p.unsqueeze(2) + torch.log_softmax(logits, dim=-1).view(B, beam, V)
            ending, parent = candidates[:, :, eos_id].max(dim=1)  # (B,): the best that ends here
            better = ending / penalty(length) > best_score
            best_score = torch.where(better, ending / penalty(length), best_score)
            best[better, : length - 1] = live[sentence, parent][better, 1:]
            best[better, length - 1] = eos_id
            candidates[:, :, eos_id] = -torch.inf
            log_p, index = candidates.flatten(1).topk(beam, dim=1)
            live = torch.cat([live[sentence.unsqueeze(1), index // V], (index % V).unsqueeze(2)], dim=2)
            possible = log_p[:, 0] / penalty(max_len)  # at best nothing more is lost, and the penalty is the largest
            if (possible <= best_score).all():
                break
        better = possible > best_score  # only at max_len: unfinished, and yet the best
        best[better, : live.size(2) - 1] = live[better, 0, 1:]
        greedy = torch.full_like(best, model.pad_id)
        written = greedy_decode(model, src, bos_id, eos_id, max_len)
        greedy[:, : written.size(1)] = written
        both = torch.stack([best, greedy])  # (2, B, max_len)
        best = both[torch.stack([sentence_scores(model, src, y, bos_id, alpha) for y in both]).argmax(dim=0), sentence]
    model.train(was_training)
    return best
    ### END SOLUTION


# %%
@check("beam_search", points=5, paper="section 6.1; the length penalty in Wu et al. (2016), equation 14")
def _(case):
    A, B, C, D = 3, 4, 5, 6  # the words; 0 is padding unless said otherwise, 1 <bos>, 2 <eos>
    END = 2

    class Scripted(nn.Module):
        """A model whose next token has the probabilities that a script tells, by the source's first word and everything written so far. In training mode it says the opposite."""

        def __init__(self, scripts, V, offsets, otherwise=None, pad_id=0):
            super().__init__()
            self.pad_id, self.scripts, self.V, self.offsets, self.otherwise = pad_id, scripts, V, offsets.tolist(), otherwise
            self.scale = nn.Parameter(torch.ones((), device=case.device))
            self.state = dict.fromkeys(("encoder in training mode", "encoder with gradients", "decoder in training mode", "decoder with gradients"), False)

        def note(self, part):
            self.state[f"{part} in training mode"] |= self.training
            self.state[f"{part} with gradients"] |= torch.is_grad_enabled()

        def encode(self, src):
            self.note("encoder")
            return self.memory(src)

        def memory(self, src):
            words = [next((token for token in row if token != self.pad_id), 0) for row in src.tolist()]
            return torch.tensor(words, device=src.device, dtype=torch.float32)[:, None, None].expand(-1, src.size(1), 2) * self.scale

        def logits(self, word, written):
            if END in written:
                chances = {D: 0.9999}  # nobody should ask: the sentence has ended
            elif self.otherwise:
                chances = self.otherwise(word, written)
            else:
                script = self.scripts.get(word, {})
                chances = script.get(written, script.get("else", {END: 0.9999}))
            row = [chances.get(token, 1e-9 + 1e-12 * token) for token in range(self.V)]
            row = [math.log(chance) if chance > 0 else -math.inf for chance in row]
            offset = self.offsets[(word + 3 * sum(written) + len(written)) % len(self.offsets)]  # logits are not normalised
            return [value + offset for value in row]

        def decode(self, tgt, memory, src):
            self.note("decoder")
            fits = (memory[:, 0, 0].round().long() == self.memory(src)[:, 0, 0].long()).tolist()  # the memory of this very sentence?
            words = memory[:, 0, 0].round().long().tolist()
            words = [word if same and written[0] == 1 else -1 for word, same, written in zip(words, fits, tgt.tolist())]  # or nothing sensible
            rows = [[self.logits(word, tuple(written[1 : t + 1])) for t in range(len(written))] for word, written in zip(words, tgt.tolist())]
            logits = torch.tensor(rows, device=tgt.device) * self.scale
            return -logits if self.training else logits

        def forward(self, src, tgt):
            return self.decode(tgt, self.encode(src), src)

    def sources(words, S=3, pad=0):
        src = torch.full((len(words), S), pad, device=case.device)
        for i, word in enumerate(words):
            src[i, : S - i % S] = case.integers(3, 9, S - i % S)
            src[i, 0] = word
        return src

    def search(name, words, scripts, max_len, pad=0, training=False, **options):
        model = Scripted(scripts, 12, case.normal(11, scale=3.0), pad_id=pad).train(training)

        def tokens_written(src):
            result = beam_search(model, src, 1, END, max_len, **options)
            model.dtype = str(result.dtype).removeprefix("torch.")
            missing = max_len - result.size(1)
            return F.pad(result, (0, missing), value=pad) if missing > 0 else result  # whether it is cut short is open

        case.call(name, tokens_written, sources(words, pad=pad))
        return model

    def conduct(name, model):
        case.record(f"{name}: while it writes", model.state, about="state:")
        case.record(f"{name}: training mode afterwards", model.training, about="training mode")
        case.record(f"{name}: dtype of the tokens", model.dtype, about="dtype")

    # greedy takes A, whose continuations are poor; B A is better
    missed = {(): {A: 0.6, B: 0.4}, (A,): {A: 0.35, B: 0.33, END: 0.31}, (B,): {A: 0.97, C: 0.02}}
    # greedy begins with D, which leads nowhere; A is a short sentence, B a long one with 1.2, 1.4, 2.6 and 3 times as much log-probability
    close, near, short, shorter = (
        {(): {D: d, A: a, B: b}, (D,): dict.fromkeys((END, A, B, C, D, 7, 8, 9, 10, 11), 0.1), (A,): {END: 0.98, C: 0.01},
         **{(B, *[C] * n): {C: 0.999} for n in range(4)}, (B, C, C, C, C): {END: 0.999}}
        for d, a, b in ((0.40, 0.33, 0.265), (0.44, 0.33, 0.215), (0.50, 0.40, 0.09), (0.46, 0.45, 0.085))
    )  # fmt: skip
    # the third best first word leads to the best sentence, the second best to the next
    third = {(): {A: 0.5, B: 0.29, C: 0.21}, (A,): {A: 0.28, B: 0.27, C: 0.25, END: 0.2}, (B,): {A: 0.55, C: 0.45}}
    straight = {(): {C: 0.9, A: 0.05}, (C,): {A: 0.9, B: 0.05}, (C, A): {B: 0.9, C: 0.05}, (C, A, B): {D: 0.9, END: 0.05}}
    empty = {(): {END: 0.9, A: 0.05, B: 0.04}}
    endless = {"else": {A: 0.7, B: 0.29, END: 0.0}}

    conduct("a beam of 2", search("greedy misses it, a beam of 2 finds it", [3], {3: missed}, 5, beam=2, alpha=0.0, training=True))
    conduct("a model in evaluation mode", search("the likeliest all along, default beam", [5], {5: straight}, 6))
    search("no penalty: the short sentence is likelier", [4], {4: close}, 8, beam=3, alpha=0.0)
    search("the default penalty: the long one wins", [4], {4: close}, 8)
    search("the default penalty: the short one wins by a little", [4], {4: near}, 8)
    search("penalty 1: the short sentence wins by (5 + |y|)/6", [4], {4: short}, 8, beam=3, alpha=1.0)
    search("penalty 1.5: the short sentence wins, and padding is 10", [4], {4: shorter}, 8, pad=10, beam=3, alpha=1.5)
    search("a beam of 3 keeps the third best beginning", [3], {3: third}, 4, beam=3, alpha=0.0)
    search("a beam of 2 does not", [3], {3: third}, 4, beam=2, alpha=0.0)
    search("three sentences that end at different times", [5, 4, 3], {3: missed, 4: close, 5: straight}, 8, beam=3)
    search("the empty sentence", [6, 5], {6: empty, 5: straight}, 6, beam=2)
    search("nothing ends: max_len tokens", [7], {7: endless}, 4, beam=2)
    too_long = Scripted({5: straight}, 12, case.normal(11, scale=3.0)).eval()  # C A B D <eos> would be the best: one token more than fits; what comes out instead is open
    width = beam_search(too_long, sources([5]), 1, END, 4).size(1)
    case.record("the best would be longer than max_len", width, at_most=4, about="number of tokens")

    def margin(name, beam, alpha, spread, words=(3, 4, 5, 6), V=12, max_len=6):
        """A model of chance: how far the beam's sentences lie above greedy's. A right beam may lose a little, with greedy's beginning."""
        table = case.normal(61, 5, scale=spread).tolist()

        def otherwise(word, written):
            state = word
            for token in written:
                state = (31 * state + 7 * token + 3) % 61
            values = [math.exp(v) for v in table[state]]
            # every sentence ends in time: how a right beam ranks one that does not is open
            values[0] *= 8.0 ** (len(written) - 1) if len(written) < max_len - 1 else 1e12
            return {token: 0.9999 * value / sum(values) for token, value in zip((END, A, B, C, D), values)}

        model = Scripted({}, V, case.normal(7), otherwise).eval()
        src = sources(words)

        def scores(write, uncounted):
            total = []
            for word, row in zip(words, write.tolist()):
                ended = END in row
                row = row[: row.index(END) + 1] if ended else [token for token in row if token != 0]
                log_p = sum(torch.log_softmax(torch.tensor(model.logits(word, tuple(row[:t])), dtype=torch.float64), -1)[row[t]].item() for t in range(len(row)))
                total.append(log_p / ((5 + len(row) - uncounted * ended) / 6) ** alpha)
            return total

        greedy = []
        for word in words:
            row = []
            while len(row) < max_len and END not in row:
                values = model.logits(word, tuple(row))
                row.append(values.index(max(values)))
            greedy.append(row + [0] * (max_len - len(row)))
        found, greedy = beam_search(model, src, 1, END, max_len, beam=beam, alpha=alpha), torch.tensor(greedy)
        # whether <eos> counts as a word of the length is open: by one of the two ways the beam is not below greedy
        below = [min(f - g for f, g in zip(scores(found, uncounted), scores(greedy, uncounted))) for uncounted in (0, 1)]
        case.record(name, max(below), at_least=-1e-4 if beam == 1 else -0.5, about="smallest difference to greedy's score")

    margin("never far below greedy: a model of chance, beam 3", 3, 0.6, 2.0)
    margin("never below greedy: beam 1", 1, 0.6, 2.0)
    ### BEGIN HIDDEN TESTS
    conduct("a batch", search("four sentences, a beam of 5", [6, 3, 5, 4], {3: missed, 4: short, 5: straight, 6: empty}, 7, beam=5, training=True))
    search("as many sentences as hypotheses", [3, 5], {3: missed, 5: straight}, 5, beam=2, alpha=0.0)
    search("the same sentence twice", [3, 4, 3], {3: missed, 4: close}, 7, pad=11, beam=4, alpha=0.2)
    search("ends exactly at max_len", [4], {4: close}, 6, beam=3)
    search("one token at most, and it ends", [6], {6: empty}, 1, beam=2)
    search("nothing ends, two sentences", [7, 8], {7: endless, 8: {"else": {B: 0.8, C: 0.19, END: 0.0}}}, 6, beam=3, alpha=0.0)
    search("no penalty, short by far", [4, 3], {4: shorter, 3: third}, 7, beam=3, alpha=0.0)
    search("a beam of 1", [5, 6], {5: straight, 6: empty}, 6, beam=1)
    margin("never far below greedy: a sure model, beam 4", 4, 0.6, 4.0)
    margin("never far below greedy: no penalty, beam 2", 2, 0.0, 2.0, words=(7, 3))
    margin("never far below greedy: one sentence, beam 5", 5, 1.0, 1.5, words=(8,))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "beam_search",
    "Begin with one sentence, a beam of 2 and paper: a table with a column a step, the two hypotheses in it with their log-probabilities, and a list beside it of sentences that have ended.",
    "Section 6.1 for beam and penalty; Wu et al. (2016), “Google's neural machine translation system”, section 7, for the penalty's formula. `sentence_scores` is that formula for a finished sentence.",
    "Keep the unfinished hypotheses as (B, beam, length) and their log-probabilities as (B, beam), where at first only one counts. Each step: add the log-softmax of the decoder's last position, "
    "(B, beam, V). Take out what ends, and keep the best of it by the objective. Of the rest flatten beam and vocabulary into one axis and take the top: a quotient by V is the parent, the remainder the token. "
    "Stop at max_len, or when even the best possible end of what is unfinished would be too low.",
)
NO_LAST_WORD = ("        best = both[torch.stack", "        _ = both[torch.stack")  # greedy's sentence does not compete: it would hide some mistakes
misconceptions(
    "beam_search",
    mistake("no length penalty", ("return ((5 + length) / 6) ** alpha", "return 1.0"), NO_LAST_WORD,
            says="Finished sentences are compared by their log-probability alone, which favours short ones; divide by the length penalty."),  # fmt: skip
    mistake("divided by the length itself", ("return ((5 + length) / 6) ** alpha", "return float(length) ** alpha"), NO_LAST_WORD,
            says="The log-probability is divided by |y|^α. The penalty of section 6.1 is ((5 + |y|)/6)^α, which rises more gently: with |y|^α long sentences win that should not."),  # fmt: skip
    mistake("α is always 0.6", ("return ((5 + length) / 6) ** alpha", "return ((5 + length) / 6) ** 0.6"), NO_LAST_WORD,
            says="The penalty always uses 0.6, whatever alpha says."),  # fmt: skip
    mistake("probabilities are added", ("torch.log_softmax", "torch.softmax"), NO_LAST_WORD,
            says="Probabilities are added up along the sentence; it is their logarithms that add up, since probabilities multiply."),  # fmt: skip
    mistake("logits are added", ("torch.log_softmax(logits, dim=-1)", "logits"),
            says="The logits are added up. They are comparable within one step only; take their log-softmax first."),  # fmt: skip
    mistake("begins with equal hypotheses", ("        log_p[:, 0] = 0.0", "        log_p[:] = 0.0"),
            says="At the start all hypotheses of the beam are the same <bos> with the same score, so all of them choose the same token, and again: a beam of equals is a greedy search. Only one of them may count at first."),  # fmt: skip
    mistake("sentences mixed", ("src.repeat_interleave(beam, dim=0), model.encode(src).repeat_interleave(beam, dim=0)", "src.repeat(beam, 1), model.encode(src).repeat(beam, 1, 1)"),
            says="The sources are repeated batch by batch (a, b, a, b), the hypotheses stand sentence by sentence (a, a, b, b): beams of different sentences are mixed."),  # fmt: skip
    mistake("prefixes stay where they are", ("live[sentence.unsqueeze(1), index // V]", "live"),
            says="The chosen tokens are appended to the hypotheses as they stood, not to those they were chosen for: the parents have to be gathered first."),  # fmt: skip
    mistake("parent and token exchanged", ("index // V]", "index % beam]"),
            says="The parent is read off the flattened index wrongly: with beam and vocabulary flattened in this order it is the quotient by V."),  # fmt: skip
    mistake("goes on after <eos>", ("            candidates[:, :, eos_id] = -torch.inf\n", ""), NO_LAST_WORD,
            says="A hypothesis that has ended goes on growing, beyond its <eos>. Take it out of the beam."),  # fmt: skip
    mistake("stops at the first end", ("if (possible <= best_score).all():", "if (best_score > -torch.inf).all() and (best[:, :length] == eos_id).any(1).all() and length > 1:"), NO_LAST_WORD,
            says="The search is over as soon as something has ended. What still grows may win, by probability or by the length penalty."),  # fmt: skip
    mistake("gives up too early", ("possible = log_p[:, 0] / penalty(max_len)", "possible = log_p[:, 0] / penalty(length)"), NO_LAST_WORD,
            says="The search stops when no unfinished hypothesis scores better as it stands. But the penalty grows with the length: compare with what it could still reach."),  # fmt: skip
    mistake("the first sentence decides for all", ("(possible <= best_score).all()", "(possible <= best_score).any()"), NO_LAST_WORD,
            says="The search ends for the whole batch as soon as one sentence is decided."),  # fmt: skip
    mistake("the worst end", ("[:, :, eos_id].max(dim=1)", "[:, :, eos_id].min(dim=1)"), NO_LAST_WORD,
            says="Of the hypotheses that end at a step the worst is kept."),  # fmt: skip
    mistake("only the leader may end", ("ending, parent = candidates[:, :, eos_id].max(dim=1)", "ending, parent = candidates[:, :1, eos_id].max(dim=1)"), NO_LAST_WORD,
            says="Only the first hypothesis of the beam may end a sentence; any of them may."),  # fmt: skip
    mistake("the last end wins", ("better = ending / penalty(length) > best_score", "better = ending > -12.0"), NO_LAST_WORD,
            says="A sentence that ends later replaces an earlier one, even if it scores lower."),  # fmt: skip
    mistake("greedy", ("    def penalty(length: int)", "    return greedy_decode(model, src, bos_id, eos_id, max_len)\n\n    def penalty(length: int)"),
            says="This is greedy decoding: one hypothesis, the likeliest token at each step."),  # fmt: skip
    mistake("always a beam of 4", ("    def penalty(length: int)", "    beam = 4\n\n    def penalty(length: int)"),
            says="The beam always holds four hypotheses, whatever beam says."),  # fmt: skip
    mistake("the unlikeliest go on", ("topk(beam, dim=1)", "topk(beam, dim=1, largest=False)"), NO_LAST_WORD,
            says="The worst candidates go on instead of the best."),  # fmt: skip
    mistake("nothing comes out unless it ends", ("        best[better, : live.size(2) - 1] = live[better, 0, 1:]\n", ""), NO_LAST_WORD,
            says="Where nothing has ended at max_len the result is padding only; something has to come out: the best hypothesis there is."),  # fmt: skip
    mistake("<eos> cut off", ("            best[better, length - 1] = eos_id\n", "            best[better, length - 1] = model.pad_id\n"), NO_LAST_WORD,
            says="The <eos> is missing at the end of the sentences; it is kept, as in greedy_decode."),  # fmt: skip
    mistake("<bos> kept", ("    return best\n", "    return torch.cat([torch.full_like(best[:, :1], bos_id), best], dim=1)\n"),
            says="The result begins with <bos>; it was an input, not something written."),  # fmt: skip
    mistake("filled with <eos>", ("best = torch.full((B, max_len), model.pad_id", "best = torch.full((B, max_len), eos_id"), NO_LAST_WORD,
            says="After a sentence's end its row is filled with more <eos>; fill it with model.pad_id."),  # fmt: skip
    mistake("padding is 0", ("best = torch.full((B, max_len), model.pad_id", "best = torch.full((B, max_len), 0"), NO_LAST_WORD,
            says="Rows are filled up with 0; padding is what the model says it is, model.pad_id."),  # fmt: skip
    mistake("one token too few", ("    def penalty(length: int)", "    max_len = max(max_len - 1, 1)\n\n    def penalty(length: int)"),
            says="One token less than max_len is written: <bos> has been counted, which is not part of the result."),  # fmt: skip
    mistake("one token too many", ("    def penalty(length: int)", "    max_len = max_len + 1\n\n    def penalty(length: int)"),
            says="One token more than max_len is written; <bos> does not count, but everything else does."),  # fmt: skip
    mistake("one sentence only", ("    return best\n", "    return best[0]\n"),
            says="Only the first sentence is returned, without a batch axis; (B, L) is wanted."),  # fmt: skip
    mistake("no evaluation mode", ("    model.eval()\n", ""),
            says="The model is not put into evaluation mode, so dropout disturbs what it writes."),  # fmt: skip
    mistake("left in evaluation mode", ("    model.train(was_training)\n", ""),
            says="The model is left in evaluation mode; restore the mode you found."),  # fmt: skip
    mistake("left in training mode", ("model.train(was_training)", "model.train()"),
            says="The model is always left in training mode; restore the mode you found."),  # fmt: skip
    mistake("gradients are kept", ("torch.no_grad()", "torch.enable_grad()"),
            says="Everything needed for a backward pass is kept at every step; nothing is trained here, so compute without gradients."),  # fmt: skip
    mistake("encoded before evaluation mode", ("    model.eval()\n", "    with torch.no_grad():\n        encoded = model.encode(src)\n    model.eval()\n"), ("model.encode(src).repeat_interleave", "encoded.repeat_interleave"),
            says="The source is encoded before the model is in evaluation mode, so dropout in the encoder disturbs what is written. Switch first, then encode."),  # fmt: skip
    mistake("encoded with gradients", ("    model.eval()\n", "    model.eval()\n    encoded = model.encode(src)\n"), ("model.encode(src).repeat_interleave", "encoded.repeat_interleave"),
            says="The encoder runs before torch.no_grad(), so everything it computes is kept for a backward pass. Encode inside."),  # fmt: skip
    mistake("a token too many where it wins", ("range(1, max_len + 1)", "range(1, max_len + 2)"), ("best = torch.full((B, max_len)", "best = torch.full((B, max_len + 1)"),
            ("    return best\n", "    return best[:, : int((best != model.pad_id).sum(dim=1).max())]\n"),
            says="The loop runs once too often: <eos> may stand at max_len + 1, and where that sentence wins more than max_len tokens come out."),  # fmt: skip
)
equivalents(
    "beam_search",
    {
        'term dropped: `return ((5 + length) / 6) ** alpha` → `return ((5 + length)) ** alpha`': 'a constant factor, the same for all sentences: their order stays',
        'arithmetic: `return ((5 + length) / 6) ** alpha` → `return ((5 + length) * 6) ** alpha`': 'a constant factor, the same for all sentences: their order stays',
        'number: `return ((5 + length) / 6) ** alpha` → `return ((5 + length) / 7) ** alpha`': 'a constant factor, the same for all sentences: their order stays',
        'number: `return ((5 + length) / 6) ** alpha` → `return ((5 + length) / 5) ** alpha`': 'a constant factor, the same for all sentences: their order stays',
        'number: `return ((5 + length) / 6) ** alpha` → `return ((6 + length) / 6) ** alpha`': 'counts a token more or less (<bos>, or not <eos>), which the cases leave open on purpose',
        'number: `return ((5 + length) / 6) ** alpha` → `return ((4 + length) / 6) ** alpha`': 'counts a token more or less (<bos>, or not <eos>), which the cases leave open on purpose',
        'comparison: `better = ending / penalty(length) > best_score` → `better = ending / penalty(length) >= best_score`': 'equal scores are open',
        'condition: `if (possible <= best_score).all()` → `if False`': 'only takes longer',
        'comparison: `if (possible <= best_score).all()` → `if (possible < best_score).all()`': 'equal scores are open',
        'loop: `break` → `continue`': 'only takes longer',
        'comparison: `better = possible > best_score` → `better = possible >= best_score`': 'equal scores are open',
        'variable: `written = greedy_decode(model, src, bos_id, eos_id, max_len)` → `written = greedy_decode(model, src, eos_id, eos_id, max_len)`': "greedy's sentence wins only where the beam has lost its beginning, which the cases leave open on purpose",
        'variable: `written = greedy_decode(model, src, bos_id, eos_id, max_len)` → `written = greedy_decode(model, src, beam, eos_id, max_len)`': "greedy's sentence wins only where the beam has lost its beginning, which the cases leave open on purpose",
        'line missing: `best = both[torch.stack([sentence_scores(model, src, y, bos_id, alpha) for y in both]).argmax(dim=0), sentence]` → `pass`': "greedy's sentence wins only where the beam has lost its beginning, which the cases leave open on purpose",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("sentence by sentence, lists and sorted, no last word for greedy")
def beam_search(model, src, bos_id, eos_id, max_len, beam=4, alpha=0.6):
    def objective(hypothesis):
        return hypothesis[0] / ((5 + len(hypothesis[1]) - 1) / 6) ** alpha

    mode = model.training
    model.eval()
    rows = []
    with torch.no_grad():
        for sentence in src.split(1):
            memory = model.encode(sentence)
            live, finished = [(0.0, [bos_id])], []
            for _ in range(max_len):
                candidates = []
                for log_p, tokens in live:
                    step = torch.log_softmax(model.decode(torch.tensor([tokens]), memory, sentence)[0, -1].double(), -1).tolist()
                    candidates += [(log_p + value, [*tokens, token]) for token, value in enumerate(step)]
                candidates.sort(key=lambda c: -c[0])
                finished += [c for c in candidates if c[1][-1] == eos_id and c[0] > -math.inf]
                live = [c for c in candidates if c[1][-1] != eos_id][:beam]
            rows.append(torch.tensor(max(finished + live, key=objective)[1][1:]))
    model.train(mode)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=model.pad_id)


# %% tags=["alternative"]
@alternative("finished hypotheses stay in the beam, only padding can follow")
def beam_search(model, src, bos_id, eos_id, max_len, beam=4, alpha=0.6):
    mode = model.training
    model.eval()
    with torch.inference_mode():
        B, S = src.shape
        memory = model.encode(src)
        memory = memory.unsqueeze(1).expand(-1, beam, *memory.shape[1:]).reshape(B * beam, *memory.shape[1:])
        wide = src.unsqueeze(1).expand(-1, beam, -1).reshape(B * beam, S)
        tokens = torch.full((B * beam, 1), bos_id)
        total = torch.tensor([0.0] + [-1e9] * (beam - 1)).repeat(B)
        done, lengths = torch.zeros(B * beam, dtype=torch.bool), torch.zeros(B * beam)
        for _ in range(max_len):
            log_p = model.decode(tokens, memory, wide)[:, -1].log_softmax(-1).clamp(min=-1e4)
            V = log_p.size(1)
            log_p[done] = -1e9
            log_p[done, model.pad_id] = 0.0
            new_lengths = (lengths + (~done))[:, None].expand(-1, V)
            sums = total[:, None] + log_p
            key = sums / ((5 + torch.where(done[:, None], lengths[:, None], torch.full_like(sums, float(max_len)))) / 6) ** alpha
            pick = key.view(B, beam * V).topk(beam, dim=1).indices
            parent = (pick // V + torch.arange(B)[:, None] * beam).flatten()
            token = (pick % V).flatten()
            total, lengths = sums[parent, token], new_lengths[parent, token]
            tokens = torch.cat([tokens[parent], token[:, None]], 1)
            done = done[parent] | (token == eos_id)
            if done.all():
                break
        final = (total / ((5 + lengths) / 6) ** alpha).view(B, beam)
        best = final.argmax(1) + torch.arange(B) * beam
        result = tokens[best, 1:].clone()
    model.train(mode)
    return result


# %% tags=["alternative"]
@alternative("2·beam candidates, finished ones in a list a sentence, lengths without <eos> in the penalty")
def beam_search(model, src, bos_id, eos_id, max_len, beam=4, alpha=0.6):
    mode, pad = model.training, model.pad_id
    model.eval()
    out = torch.full((len(src), max_len), pad)
    with torch.no_grad():
        for b in range(len(src)):
            one = src[b : b + 1]
            memory = model.encode(one)
            tokens, sums, finished = torch.tensor([[bos_id]]), torch.zeros(1), []
            for t in range(1, max_len + 1):
                k = len(tokens)
                step = model.decode(tokens, memory.expand(k, -1, -1), one.expand(k, -1))[:, -1].log_softmax(dim=-1)
                scores, flat = (sums[:, None] + step).flatten().topk(2 * beam)
                parents, following = flat // step.size(1), flat % step.size(1)
                extended = torch.cat([tokens[parents], following[:, None]], dim=1)
                ends = following == eos_id
                finished += [(s / ((5 + t - 1) / 6) ** alpha, row) for s, row in zip(scores[ends].tolist(), extended[ends])]
                tokens, sums = extended[~ends][:beam], scores[~ends][:beam]
            row = max(finished, key=lambda pair: pair[0])[1] if finished else tokens[0]
            out[b, : len(row) - 1] = row[1:]
    model.train(mode)
    return out


# %% tags=["alternative"]
@alternative("a recursive search for the best with a bound, everything that may still win")
def beam_search(model, src, bos_id, eos_id, max_len, beam=4, alpha=0.6):
    was = model.training
    model.eval()
    results = []
    with torch.no_grad():
        memory = model.encode(src)
        for b in range(src.size(0)):
            best = [-math.inf, []]
            live = {(): 0.0}
            for length in range(1, max_len + 1):
                written = torch.tensor([[bos_id, *prefix] for prefix in live])
                logits = model.decode(written, memory[b : b + 1].expand(len(live), -1, -1), src[b : b + 1].expand(len(live), -1))
                log_p = logits[:, -1] - logits[:, -1].logsumexp(-1, keepdim=True) + torch.tensor(list(live.values()))[:, None]
                lp = ((5 + length) / 6) ** alpha
                grown = {}
                for row, prefix in zip(log_p.tolist(), live):
                    if row[eos_id] / lp > best[0]:
                        best = [row[eos_id] / lp, [*prefix, eos_id]]
                    grown.update({(*prefix, token): value for token, value in enumerate(row) if token != eos_id})
                live = dict(sorted(grown.items(), key=lambda item: item[1], reverse=True)[:beam])
            leader, value = next(iter(live.items()))
            results.append(list(leader) if value / ((5 + max_len) / 6) ** alpha > best[0] else best[1])
    if was:
        model.train()
    width = max(map(len, results))
    return torch.tensor([row + [model.pad_id] * (width - len(row)) for row in results])


# %% [markdown]
# ## Exercise 7 · `average_checkpoints`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# Towards the end of training the parameters keep moving round a good place without settling, since the learning rate is still above 0. Section 6.1 uses "a single model obtained by averaging the last 5 checkpoints": the mean of the parameters, not of
# the predictions, so it costs nothing when translating. It works because the checkpoints are close together; two models from different seeds cannot be averaged like that.
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | what is averaged | checkpoints | every floating-point entry of the state dicts; entries of other types come from the last | a state dict may also hold counters and masks, and the mean of 3 and 4 batches is no count |

# %% tags=["export"]
def average_checkpoints(checkpoints: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """One state dict whose floating-point entries are the means of those given (section 6.1).

    Args:
        checkpoints: state dicts of one model, oldest first; at least one. They are not changed.

    Returns: a state dict with the same names, shapes and dtypes. Integer and boolean entries come
        from the last checkpoint.
    """
    ### BEGIN SOLUTION
    average = {}
    for name, last in checkpoints[-1].items():
        if last.is_floating_point():
            average[name] = torch.stack([checkpoint[name] for checkpoint in checkpoints]).mean(dim=0)
        else:
            average[name] = last.clone()
    return average
    ### END SOLUTION


# %%
@check("average_checkpoints", points=2, paper="section 6.1, on checkpoint averaging")
def _(case):
    def average(name, checkpoints, **policy):
        before = [{key: value.clone() for key, value in checkpoint.items()} for checkpoint in checkpoints]
        result = case.call(name, average_checkpoints, checkpoints, policy=policy)
        same = [old.keys() for old in before] == [new.keys() for new in checkpoints] and all(
            old[key].dtype == new[key].dtype and torch.equal(old[key], new[key]) for old, new in zip(before, checkpoints) for key in old
        )
        case.record(f"{name}: the checkpoints afterwards", "as it was" if same else "changed", about="what was given")
        return result

    def state(count, dtype=torch.float32, low=-2.0):
        return {"weight": case.uniform(2, 3, low=low, high=2.0, dtype=dtype), "bias": case.uniform(3, low=low, high=2.0, dtype=dtype), "batches": torch.tensor(count, device=case.device), "used": case.boolean(4)}

    average("two checkpoints, one number each", [{"weight": case.uniform(1, low=0.5, high=2.0)} for _ in range(2)])
    average("three checkpoints", [{"weight": case.normal(2, 2), "bias": case.normal(2)} for _ in range(3)])
    average("with a counter and a mask", [state(3), state(4)])
    average("one checkpoint", [state(7)])
    average("six checkpoints, the counter in any order", [state(count) for count in (9, 2, 11, 4, 8, 5)])
    average("float64", [state(1, torch.float64), state(2, torch.float64)])
    ### BEGIN HIDDEN TESTS
    average("bfloat16", [state(1, torch.bfloat16, low=0.5) for _ in range(2)])
    average("seven checkpoints, no dimensions", [{"scale": case.uniform(low=0.5, high=2.0)} for _ in range(7)])
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(case.device)
    states = []
    for _ in range(4):
        case.initialise(network)
        network.train()(case.normal(8, 3))
        states.append({key: value.clone() for key, value in network.state_dict().items()})
    network.load_state_dict(average("a network with batch normalisation", states))
    case.record("what the network says with the averaged parameters", network.eval()(case.normal(2, 3)))
    average("counters only", [{"steps": case.integers(0, 99, 3)} for _ in range(3)])
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "average_checkpoints",
    "A batch-norm layer's state dict holds `num_batches_tracked`, an integer. What should the average of 3 and 4 be, if it has to be loaded back into an int64?",
    "Section 6.1, first paragraph: “averaging the last 5 checkpoints”. A tensor knows whether it holds floating-point numbers.",
    "Go through the names of the last checkpoint. If the entry is floating-point, stack the entries of that name from all checkpoints and take the mean over the new axis; otherwise take the last one's.",
)
misconceptions(
    "average_checkpoints",
    mistake("integers averaged", ("if last.is_floating_point():", "if last.dtype != torch.bool:"), ("checkpoint[name] for", "checkpoint[name].to(last.dtype if last.is_floating_point() else torch.float32) for"),
            says="Integer entries are averaged too and become floating-point; a counter has to stay a count, that of the last checkpoint."),  # fmt: skip
    mistake("integers averaged and rounded", ("average[name] = last.clone()", "average[name] = torch.stack([c[name].double() for c in checkpoints]).mean(0).to(last.dtype)"),
            says="Integer and boolean entries are averaged and rounded back; they come from the last checkpoint as they are."),  # fmt: skip
    mistake("integers from the first", ("average[name] = last.clone()", "average[name] = checkpoints[0][name].clone()"),
            says="Integer and boolean entries come from the first checkpoint; the last is meant."),  # fmt: skip
    mistake("the sum", (".mean(dim=0)", ".sum(dim=0)"),
            says="The checkpoints are added up; divide by how many there are."),  # fmt: skip
    mistake("the last one", ("torch.stack([checkpoint[name] for checkpoint in checkpoints]).mean(dim=0)", "last.clone()"),
            says="The last checkpoint is returned as it is."),  # fmt: skip
    mistake("one number an entry", (".mean(dim=0)", ".mean()"),
            says="The mean runs over everything, so each entry has become one number; it runs over the checkpoints only."),  # fmt: skip
    mistake("half the old, half the new", ("torch.stack([checkpoint[name] for checkpoint in checkpoints]).mean(dim=0)",
             "checkpoints[0][name].clone()\n            for checkpoint in checkpoints[1:]:\n                average[name] = (average[name] + checkpoint[name]) / 2"),
            says="Each checkpoint is averaged with what came before, half and half: the last counts for a half, the one before for a quarter. All should count alike."),  # fmt: skip
    mistake("first and last only", ("checkpoint in checkpoints]", "checkpoint in (checkpoints[0], last_checkpoint)]"), ("    average = {}", "    average, last_checkpoint = {}, checkpoints[-1]"),
            says="Only the first and the last checkpoint are averaged; all of them count."),  # fmt: skip
    mistake("the last five", ("checkpoint in checkpoints]", "checkpoint in checkpoints[-5:]]"),
            says="Only five checkpoints are averaged, whatever is passed; the caller chooses which."),  # fmt: skip
    mistake("the oldest is left out", ("checkpoint in checkpoints]", "checkpoint in (checkpoints[1:] or checkpoints)]"),
            says="The first checkpoint does not take part; all of them count."),  # fmt: skip
    mistake("the median", (".mean(dim=0)", ".median(dim=0).values"),
            says="The median is taken; the mean is meant."),  # fmt: skip
    mistake("added up in the first checkpoint", ("torch.stack([checkpoint[name] for checkpoint in checkpoints]).mean(dim=0)",
             "checkpoints[0][name]\n            for checkpoint in checkpoints[1:]:\n                average[name] += checkpoint[name]\n            average[name] /= len(checkpoints)"),
            says="The sum is formed in the first checkpoint's own tensors (+=), which changes it for the caller. Begin with a copy."),  # fmt: skip
    mistake("the last taken off the list", ("    average = {}", "    average, newest = {}, checkpoints.pop()"), ("checkpoints[-1].items()", "newest.items()"), ("in checkpoints]", "in [*checkpoints, newest]]"),
            says="The last checkpoint is taken off the list (pop), which is the caller's: it has one less afterwards. Read checkpoints[-1] instead."),  # fmt: skip
    mistake("everything becomes float32", (".mean(dim=0)", ".float().mean(dim=0)"),
            says="The averages are float32 whatever the checkpoints hold; keep the dtype."),  # fmt: skip
    mistake("a list of averages", ("    return average", "    return list(average.values())"),
            says="A list is returned; a state dict has names."),  # fmt: skip
)
equivalents(
    "average_checkpoints",
    {"call dropped: `average[name] = last.clone()` → `average[name] = last`": "whether the result shares memory with the last checkpoint is open"},
)


# %% tags=["alternative"]
@alternative("a running sum in float64")
def average_checkpoints(checkpoints):
    result = {name: value.clone() for name, value in checkpoints[-1].items()}
    for name, value in result.items():
        if torch.is_floating_point(value):
            total = torch.zeros_like(value, dtype=torch.float64)
            for checkpoint in checkpoints:
                total += checkpoint[name]
            result[name] = (total / len(checkpoints)).to(value.dtype)
    return result


# %% tags=["alternative"]
@alternative("a dict comprehension, sum and a division; integers are the last's own")
def average_checkpoints(checkpoints):
    n = len(checkpoints)
    return {
        name: sum(checkpoint[name] for checkpoint in checkpoints) / n if value.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64) else value
        for name, value in checkpoints[-1].items()
    }


# %% tags=["alternative"]
@alternative("a running mean, in the order of an OrderedDict")
def average_checkpoints(checkpoints):
    from collections import OrderedDict

    mean = OrderedDict((name, value.detach().clone()) for name, value in checkpoints[0].items())
    for count, checkpoint in enumerate(checkpoints[1:], start=2):
        for name, value in checkpoint.items():
            if value.is_floating_point():
                mean[name] += (value - mean[name]) / count
            else:
                mean[name] = value.clone()
    return mean


# %% tags=["alternative"]
@alternative("zip over the values, mean of float copies")
def average_checkpoints(checkpoints):
    names, columns = checkpoints[0].keys(), zip(*(checkpoint.values() for checkpoint in checkpoints))
    merged = []
    for column in columns:
        if column[-1].is_floating_point():
            merged.append(torch.stack([value.double() for value in column], dim=-1).mean(-1).type_as(column[-1]))
        else:
            merged.append(column[-1])
    return dict(zip(names, merged))

# %% [markdown]
# ## The translator
#
# Numbers from 0 to 9,999: "two thousand and twenty-one" becomes *zweitausendeinundzwanzig*. English is split into words, German into the pieces that its number words are made of, zwei·tausend·ein·und·zwan·zig. (The paper splits with byte-pair
# encoding, learned from the text; here the pieces are written down by hand.) German says the ones before the tens, so the decoder cannot simply read from left to right: it has to look one word ahead, and back again. A thousand numbers are held out: the model never sees them in training.
#
# The full profile does the same with 29,000 captions of photographs, Multi30k. Same code, other numbers:
#
# | | the paper (base) | quick: numbers | full: Multi30k | why |
# | --- | --- | --- | --- | --- |
# | $N$, $d_\text{model}$, $h$, $d_{ff}$ | 6, 512, 8, 2048 | 2, 64, 4, 128 | 4, 256, 8, 1024 | less data |
# | parameters | 65 M | 0.17 M | 9.8 M | |
# | vocabulary | 37,000 byte pairs, shared | English words, German pieces | 10,000 byte pairs at most, shared | |
# | embeddings and output tied | yes | no | yes | tying needs one vocabulary for both languages |
# | dropout | 0.1 | 0 | 0.3 | captions are few, and are learned by heart otherwise; numbers follow rules |
# | norm | after the sum (post-norm) | the same | the same | the depth is small enough, with warm-up |
# | warm-up | 4,000 of 100,000 steps | 150 of 423 | 2,000 of 6,810 | |
# | learning rate | equation 3 | 0.4 times equation 3 | equation 3 | for a narrow model and a short warm-up the formula gives a peak of 0.01, where training becomes unstable: try it |
# | averaged at the end | 5 checkpoints, one every 10 minutes | the last 9, one every 16 steps | the last 5 epochs | |

# %% tags=["picture"]
if PROFILE == "full":
    training, validation, held_out = multi30k_text(DATA_DIR)
    size = dict(d_model=256, h=8, N=4, d_ff=1024, dropout=0.3, tied=True)
    batch_size, factor, warmup, epochs, saves, averaged, max_len, seeds = 128, 1.0, 2000, 30, 1, 5, 80, (SEED, SEED + 1, SEED + 2)
else:
    training, held_out = numbers_in_words(seed=0)
    validation = held_out
    size = dict(d_model=64, h=4, N=2, d_ff=128, dropout=0.0)
    batch_size, factor, warmup, epochs, saves, averaged, max_len, seeds = 64, 0.4, 150, 3, 9, 9, 12, (SEED,)


def translate(model, text, write, limit=None, **options):
    """The sentences of a text, translated in batches: (B, L) tensors as decoded, and target tensors beside them."""
    indices = range(len(text) if limit is None else min(limit, len(text)))
    outputs, targets = [], []
    for start in range(0, len(indices), 250):
        src, target = text.batch(indices[start : start + 250])
        outputs.append(write(model, src.to(device), BOS_ID, EOS_ID, max_len, **options).cpu())
        targets.append(target)
    return outputs, targets


def share_exact(outputs, targets):
    return sum(exact_match(o, t) * len(o) for o, t in zip(outputs, targets)) / sum(map(len, outputs))


def rate(step):
    return factor * noam_rate(step, size["d_model"], warmup)


def fit(seed):
    """Trains one model; gives back the model, its losses, rates, and state dicts saved on the way."""
    torch.manual_seed(seed)
    model = Transformer(len(training.source_vocabulary), len(training.target_vocabulary), pad_id=PAD_ID, **size).to(device)
    optimiser, losses, checkpoints = adam(model), [], []
    for epoch in range(epochs):
        batches = list(training.batches(batch_size, seed=1000 * seed + epoch, similar=PROFILE == "full"))
        part = math.ceil(len(batches) / saves)
        for start in range(0, len(batches), part):
            chosen = batches[start : start + part]
            if STEPS:
                chosen = chosen[: max(STEPS - len(losses), 0)]
            if chosen:
                losses += train_epoch(model, on_device(chosen), optimiser, rate, step=len(losses))
                checkpoints.append((len(losses), {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}))
                if PROFILE == "full" and len(checkpoints) > averaged + 1:  # the first, hardly trained, and those that are averaged
                    del checkpoints[1]
    return model, losses, checkpoints


started = time.perf_counter(), time.process_time()
runs = {}
for seed in seeds:
    model, losses, checkpoints = fit(seed)
    runs[seed] = model, losses, checkpoints
    print(f"seed {seed}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(losses)} steps, last loss {sum(losses[-20:]) / len(losses[-20:]):.3f}")
print(f"{time.perf_counter() - started[0]:.0f} s, {time.process_time() - started[1]:.0f} s of CPU, on {device}")
model, losses, checkpoints = runs[seeds[0]]
final_weights = {name: value.clone() for name, value in model.state_dict().items()}

# %% tags=["picture"]
progress = []
if PROFILE == "quick":
    for step, weights in checkpoints:  # what the model could do on its way, on 200 of the numbers held out
        model.load_state_dict(weights)
        progress.append((step, share_exact(*translate(model, held_out, greedy_decode, limit=200))))
    model.load_state_dict(final_weights)
figure, axes = plt.subplots(1, 3 if progress else 2, figsize=(12, 3), layout="constrained")
axes[0].plot(range(1, len(losses) + 1), losses, color=BLUE)
axes[0].set(title="Training loss", xlabel="step", ylabel="smoothed loss (nats)", ylim=(0, None))
axes[1].plot(range(1, len(losses) + 1), [1e3 * rate(step) for step in range(1, len(losses) + 1)], color=ORANGE)
axes[1].set(title="Learning rate", xlabel="step", ylabel="rate (10⁻³)", ylim=(0, None))
if progress:
    axes[2].plot(*zip(*progress), "o-", color=GREEN, markersize=4)
    axes[2].set(title="Numbers held out, greedy", xlabel="step", ylabel="share without a mistake", ylim=(0, 1.05))
for axis in axes:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** Most is learned before the learning rate has reached its peak; then the loss lies on its floor, the entropy of the smoothed labels. The share of numbers that come out *without a single mistake* is the harder measure: a number has up to nine pieces, and one wrong
# piece spoils it. It may go down again for a moment: the learning rate never becomes 0, and the parameters keep jumping about a good place. That is what averaging checkpoints is for.

# %% [markdown]
# ### Greedy, beam, average: how good is it?
#
# Everything below is measured on what was held out, on sentences that the model wrote by itself. Exact match is the share of sentences without a mistake. BLEU compares short runs of words; its *signature* says how, and numbers with different
# signatures must not be compared.

# %% tags=["picture"]
def bleu(hypotheses, references, **options):
    """(score, signature) of sacreBLEU, on sentences as written."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(**options)
    return metric.corpus_score(hypotheses, [references]).score, str(metric.get_signature())


limit = (max(8, STEPS // 8) if STEPS else None) if PROFILE == "full" else 1000
scale = dict(tokenize="char") if PROFILE == "quick" else {}  # a German number is one word: compare its letters
results = {}
for seed, (trained, _, saved) in runs.items():
    last = {name: value.clone() for name, value in trained.state_dict().items()}
    mean = average_checkpoints([weights for _, weights in saved[-averaged:]])
    for name, weights, write in (("last, greedy", last, greedy_decode), ("average, greedy", mean, greedy_decode), ("average, beam 4", mean, beam_search)):
        trained.load_state_dict(weights)
        outputs, targets = translate(trained, held_out, write, limit=limit)
        written = [text for output in outputs for text in held_out.texts(output)]
        corpus, signature = bleu(written, held_out.target[: len(written)], **scale)
        results.setdefault(name, []).append((100 * share_exact(outputs, targets), corpus))
    trained.load_state_dict(mean)
print(f"{len(written)} sentences held out, {len(seeds)} seed(s)")
for name, rows in results.items():
    exact, scores = zip(*rows)
    spread = f" (from {min(scores):.1f} to {max(scores):.1f})" if len(scores) > 1 else ""
    print(f"{name:16} exact match {sum(exact) / len(exact):5.1f} %   BLEU {sum(scores) / len(scores):5.1f}{spread}")
print("signature:", signature)
if STEPS:
    print(f"Training was cut short after {STEPS} steps: these scores say that the code runs, and nothing about the model.")

# %% tags=["picture"]
torch.manual_seed(SEED)
names = training.target_vocabulary.tokens
unsure = Transformer(len(training.source_vocabulary), len(names), pad_id=PAD_ID, **size).to(device)
unsure.load_state_dict(checkpoints[0][1])  # hardly trained: where a beam and greedy disagree
for title, network in (("hardly trained", unsure), ("trained", model)):
    src, _ = held_out.batch(range(min(limit or 100, 100)))
    src = src.to(device)
    greedy, beam = (sentence_scores(network, src, write(network, src, BOS_ID, EOS_ID, max_len), BOS_ID) for write in (greedy_decode, beam_search))
    print(f"{title}: beam 4 scores higher than greedy in {int((beam > greedy + 1e-5).sum())} of {len(src)} sentences, lower in {int((beam < greedy - 1e-5).sum())}; "
          f"mean score {greedy.mean():.3f} greedy, {beam.mean():.3f} beam")  # fmt: skip

# %% [markdown]
# **What to see.** Nothing ever scores lower with the beam: `beam_search` sees to that. Where the model is sure there is nothing to gain; where it is not, the beam finds sentences that the model itself thinks better. Whether *people* think them better is what BLEU
# or an exact match has to say.

# %% [markdown]
# ### What it looks at while it writes
#
# Cross-attention says, for each token that is written, which source words it was written from. The weights never leave the layers, but PyTorch lets us listen: a *hook* is called with whatever a module returns.

# %% tags=["picture"]
def cross_attention(model, src, output):
    """Weights of every decoder layer's cross-attention while `output` is written: a list of (B, h, L, S)."""
    weights = []
    hooks = [layer.cross_attention.register_forward_hook(lambda module, given, result: weights.append(result[1].detach().cpu())) for layer in model.decoder.layers]
    try:
        sentence_scores(model, src, output, BOS_ID)  # reads <bos> and the sentence, as in training
    finally:
        for hook in hooks:
            hook.remove()
    return weights


wanted = "two thousand, three hundred and eighty-four" if PROFILE == "quick" else held_out.source[0]
words = training.source_vocabulary
if PROFILE == "quick":
    from papers.datasets import english_tokens

    source_tokens = english_tokens(wanted)
else:
    source_tokens = held_out.source_tokens[0]
src = torch.tensor([words.encode(source_tokens, eos=True)], device=device)
output = beam_search(model, src, BOS_ID, EOS_ID, max_len)
output = output[:, : int((output != PAD_ID).sum())]
rows, columns = [names[token] for token in output[0].tolist()], [*source_tokens, "<eos>"]
maps = cross_attention(model, src, output)
print(wanted, "→", held_out.texts(output.cpu())[0])
print(f"\n{'written':>10}   looked at most (last layer, mean of the heads)")
for token, weights in zip(rows, maps[-1][0].mean(0)):
    top = weights.topk(2)
    print(f"{token:>10}   " + ", ".join(f"{columns[i]} {w:.2f}" for w, i in zip(top.values, top.indices)))

h = maps[-1].size(1)
figure, axes = plt.subplots(1, 1 + min(h, 4), figsize=(13, 3.6), layout="constrained", sharey=True)
for axis, weights, title in zip(axes, [maps[-1][0].mean(0), *maps[-1][0][:4]], ["mean of the heads", *(f"head {i + 1}" for i in range(4))]):
    image = axis.imshow(weights, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axis.set(title=title, xlabel="source")
    axis.set_xticks(range(len(columns)), columns, rotation=70, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(rows)), rows)
axes[0].set_ylabel("written, from top to bottom")
figure.suptitle("Cross-attention of the last layer", fontsize=11)
figure.colorbar(image, ax=axes, label="weight", shrink=0.9)
plt.show()

# %% [markdown]
# **What to see.** Read the rows from top to bottom: each is a piece of the German word and what it was written from. The bright cells do not follow the diagonal: for the ones the decoder jumps ahead to the last word, for the tens it comes back. No one told it so. Heads
# divide the work, and some of it (where "und" belongs, when the number ends) is decided by position and does not need the words. Attention says what was looked at, not why; take it as a hint, not as proof.

# %% [markdown]
# ## How to flatter a translator
#
# There is a convenient way to measure BLEU: run the model once on the whole target, as in training, take the likeliest token at every position, and compare. It is fast, and wrong. With teacher forcing the decoder reads the *true* beginning at every position. When it
# writes by itself it reads its own, and after one mistake it continues a sentence that it never saw in training. Teacher-forced scores forgive every mistake at once, and they cut the sentence at the right length for free. Below both are measured on a model that has
# hardly begun to learn, since a perfect one makes no mistakes to forgive.

# %% tags=["picture"]
unfinished = min(progress, key=lambda pair: abs(pair[1] - 0.25))[0] if progress else checkpoints[0][0]
unsure.load_state_dict(dict(checkpoints)[unfinished])
unsure.eval()
count = min(limit or len(held_out), 500)
forced = []
for start in range(0, count, 250):
    src, target = held_out.batch(range(start, min(start + 250, count)))
    decoder_input, labels = teacher_forcing(target)
    with torch.no_grad():
        likeliest = unsure(src.to(device), decoder_input.to(device)).argmax(-1).cpu()
    forced += held_out.texts(torch.where(labels == EOS_ID, EOS_ID, likeliest).masked_fill(labels == PAD_ID, PAD_ID))  # cut where the reference ends
outputs, _ = translate(unsure, held_out, greedy_decode, limit=count)
alone = [text for output in outputs for text in held_out.texts(output)]
references = held_out.target[:count]
print(f"after {unfinished} steps, {count} sentences held out")
for name, texts in (("teacher-forced", forced), ("written by itself", alone)):
    exact = sum(a == b for a, b in zip(texts, references)) / count
    print(f"{name:18} exact match {100 * exact:5.1f} %   BLEU {bleu(texts, references, **scale)[0]:5.1f}")
for a, b, c in [row for row in zip(forced, alone, references) if row[0] != row[1]][:3]:
    print(f"\n  reference          {c}\n  teacher-forced     {a}\n  written by itself  {b}")

# %% [markdown]
# **What to see.** The same weights, the same sentences: only who wrote the beginning differs, and the teacher-forced BLEU is the higher one. (Exact match differs little. Who is right at every step of the true sentence writes it alone, too, up to its end. It is the partial credit that flatters, and the longer
# the sentences, the more.) So whenever you read a BLEU score, ask three things: was it written token by token by the model alone? On sentences that were not in the training set? And with which signature? Tokenisation and lower case alone move a score by several points.

# %% [markdown] written="what_a_beam_maximises" points=3
# ## Question 1 · what a beam maximises
#
# *3 points, graded by a person*
#
# (a) Two finished sentences: one of 4 tokens with log-probability −2.0, one of 9 with −3.0. Which wins with $\alpha = 0$, which with $\alpha = 0.6$, which with $\alpha = 1$? (b) Without the comparison with greedy's sentence at the end, how can a beam of 4
# end up with a lower score than greedy? (c) With a very large beam the model's BLEU often gets *worse*, although the scores get better. What does that say, and about what?
#
# ### BEGIN SOLUTION
# (a) $\alpha = 0$: the short one, −2.0 > −3.0. $\alpha = 0.6$: $-2/(9/6)^{0.6} = -1.568$ against $-3/(14/6)^{0.6} = -1.805$: the short one. $\alpha = 1$: $-2/1.5 = -1.333$ against $-3/2.333 = -1.286$: the long one.
#
# (b) Greedy's beginning has the likeliest token at each step, but not the likeliest *beginning*: at some step four others can have a higher log-probability, and greedy's is dropped. If these turn out badly afterwards (low probabilities, or they are short), the best of them scores below greedy's sentence.
#
# (c) The search has become better and the translation worse, so the fault is in what is searched for: the model's probability (divided by the penalty) is not quality. Models give, for instance, short or empty sentences and copies of the source too much probability; a small beam never finds them.
#
# **Rubric.** 1 point for (a): all three right, with the penalty's values (two right: ½). 1 point for (b): the beginning drops out *and* the others lose later. 1 point for (c): objective and quality are told apart; an example is not required.
# ### END SOLUTION

# %% [markdown] written="a_score_too_good" points=2
# ## Question 2 · a score too good to be true
#
# *2 points, graded by a person*
#
# A colleague's new translator has a training loss of nearly 0 (without label smoothing) after a few hundred steps and a teacher-forced BLEU of 98. Asked to translate, it writes one word again and again. (a) Name a mistake in the training code that explains all of it, and say how. (b) Which two experiments of this
# notebook would have shown it before anybody read a BLEU score?
#
# ### BEGIN SOLUTION
# (a) The labels are not shifted (input and labels are the same tokens), or the causal mask is missing or one off: in each case the decoder sees its answer, learns to copy it, and the loss goes to 0. The teacher-forced score uses the same input and so sees the answer too. When it writes alone there is no answer to copy:
# it repeats what it just read, or anything.
#
# (b) For instance: greedy decoding on the copy task (0 % although the loss is 0); exact match of sentences written by the model alone on held-out data; teacher-forced and free-running score side by side; the check that a later target token changes no earlier logit (previous notebook); cross-attention maps that ignore the source.
#
# **Rubric.** 1 point for (a): a leak of the answer into the decoder's input ½, why writing fails ½. 1 point for (b): two experiments, ½ each.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - The decoder reads the target shifted by one and is trained at all positions at once; the loss is a cross-entropy with smoothed labels over what is not padding; the learning rate rises, then falls.
# - When it writes, the model reads its own words: greedily, or with a beam that maximises log-probability over a length penalty. Neither may go on after `<eos>`.
# - Averaging the last checkpoints costs nothing. Scores count when the model wrote the sentences alone, on data it has not seen, and with a signature.
#
# **Next**: week 4, `fine_tuning_bert`: what such a model can do when somebody else has paid for its training. What you built here is in
# `papers.transformer.training`.

# %% tags=["picture"]
score()
