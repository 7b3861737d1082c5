# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Sequence models
#     order: 3
#     exports: papers.transformer.foundations
#     minutes: 90
# ---

# %% [markdown]
# # Sequence models
#
# Prerequisites of *Attention Is All You Need*: what the paper replaces, and why (sections 1 and 2) · about 90 minutes
#
# At the end of this notebook you can
#
# - turn sentences into tensors of numbers, padded to one length;
# - compute a recurrent network and an LSTM step by step, equal to PyTorch's;
# - measure how fast a recurrent network forgets, and see why attention does not.
#
# **Week 0 of the roadmap, points 4 and 5**: RNNs, LSTMs, why they struggle with long sequences; self-attention.
#
# 1. Watch [What are NLPs?](https://www.youtube.com/watch?v=CMrHM8a3hqw) before the first section.
# 2. Watch RNN explained, [the first video](https://www.youtube.com/watch?v=AsNTP8Kwu80&t=292s) and [the second](https://www.youtube.com/watch?v=Gafjk7_w1i8), before exercise 2.
# 3. Watch [Why Self-Attention Beats RNNs](https://www.youtube.com/watch?v=EFkbT-1VGTQ) before the last section.
# 4. For the way ahead: [Transformers for Beginners](https://youtu.be/kCc8FmEb1nY), and [Getting started with Hugging Face](https://youtu.be/QEaBAZQCtwE), which week 4 uses.

# %% tags=["export"]
import torch
from torch import Tensor, nn

# %%
import math

import matplotlib.pyplot as plt

from papers.transformer.foundations import cross_entropy, softmax

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## Language as numbers
#
# **Natural language processing** (NLP) is everything computers do with human language: translating it, sorting it (is this review friendly?), summarising it, answering in it. A network computes with numbers, so text
# goes through three steps.
#
# 1. Cut it into pieces, the **tokens**. Here they are words. Real systems use pieces of words, so that rare words need no token of their own (week 4).
# 2. Number them. The list of all tokens is the **vocabulary**; a token's place in it is its *id*. `<pad>` fills sentences up to one length, `<unk>` stands for unknown words.
# 3. Give each id a vector of numbers that is learned like any other parameter: an **embedding**. `nn.Embedding(vocabulary size, width)` is a table with one row an id.
#
# Sentences of a batch have different lengths and a tensor is a rectangle, so the shorter ones are padded. What the model makes of padding must never matter: you have met `ignore_index` in the loss, and week 2
# hides padding from attention.
#
# ## Exercise 1 · `encode_batch`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# The function below builds a vocabulary; you write the one that uses it.

# %% tags=["export"]
def build_vocabulary(sentences: list[str]) -> dict[str, int]:
    """Ids for all words in the sentences, in order of first appearance, after "<pad>" (0) and "<unk>" (1). Words are lower-cased and stand between spaces."""
    vocabulary = {"<pad>": 0, "<unk>": 1}
    for sentence in sentences:
        for word in sentence.lower().split():
            vocabulary.setdefault(word, len(vocabulary))
    return vocabulary


# %% tags=["export"]
def encode_batch(sentences: list[str], vocabulary: dict[str, int]) -> Tensor:
    """Sentences as rows of ids.

    Args:
        sentences: B sentences. Words stand between spaces and are looked up in lower case.
        vocabulary: the id of each word, and of "<pad>" and "<unk>", which may have any ids. It is
            not changed.

    Returns: (B, L), int64, where L is the number of words of the longest sentence. Words that are
        not in the vocabulary get the id of "<unk>"; shorter sentences are filled up on the right
        with the id of "<pad>".
    """
    ### BEGIN SOLUTION
    rows = [[vocabulary.get(word, vocabulary["<unk>"]) for word in sentence.lower().split()] for sentence in sentences]
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [vocabulary["<pad>"]] * (longest - len(row)) for row in rows])
    ### END SOLUTION


# %%
@check("encode_batch", points=2)
def _(case):
    words = ["the", "cat", "sat", "on", "mat", "a", "dog", "saw"]

    def sentence(length, pool=words):
        return " ".join(pool[i] for i in case.integers(0, len(pool), length).tolist())

    vocabulary = build_vocabulary(["the cat sat on the mat", "a dog"])
    ids = case.call("one sentence of known words", encode_batch, ["the cat sat"], vocabulary)
    case.record("the ids are int64", str(getattr(ids, "dtype", "none")), about="the dtype")
    case.call("two sentences of one length", encode_batch, ["the cat", "a dog"], vocabulary)
    case.call("capital letters", encode_batch, ["The CAT sat"], vocabulary)
    case.call("an unknown word", encode_batch, ["the parrot sat"], vocabulary)
    case.call("a comma and a full stop", encode_batch, ["the cat, sat."], vocabulary)
    case.call("sentences of different lengths", encode_batch, ["the dog sat on the mat", "a cat", "the mat sat on"], vocabulary)
    other = {"cat": 0, "the": 1, "<unk>": 2, "sat": 3, "<pad>": 4}
    case.call("<pad> is 4 and <unk> is 2", encode_batch, ["the big cat sat", "cat"], other)
    case.record("the vocabulary is as it was", len(other), about="size of the vocabulary")
    ### BEGIN HIDDEN TESTS
    case.call("random sentences", encode_batch, [sentence(length) for length in (3, 7, 1, 5)], vocabulary)
    case.call("nothing known", encode_batch, ["blue birds", "sing"], other)
    case.call("several spaces", encode_batch, ["  the   cat ", "sat"], other)
    case.call("an empty sentence among others", encode_batch, ["the cat sat", "", "cat"], other)
    case.call("the longest comes last", encode_batch, ["the", "the cat", sentence(9)], vocabulary)
    case.call("the longest by its words has fewer letters", encode_batch, ["a cat saw a dog", "extraordinarily incomprehensible parrots"], vocabulary)
    case.call("twenty sentences", encode_batch, [sentence(1 + i % 6) for i in range(20)], vocabulary)
    case.record("the vocabularies are as they were", [len(vocabulary), len(other)], about="size of vocabulary")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "encode_batch",
    "First make a list of ids for each sentence, of whatever length. Only then think about the rectangle.",
    "The docstring: what happens to capital letters, to words that are not in the vocabulary, and at the end of short sentences? A dictionary's get takes a second argument.",
    "Lower-case and split each sentence, look every word up with the unknown word's id as the default. Find the longest, append the padding's id to each of the others, and make one tensor of all.",
)
misconceptions(
    "encode_batch",
    mistake("padded on the left", ('row + [vocabulary["<pad>"]] * (longest - len(row))', '[vocabulary["<pad>"]] * (longest - len(row)) + row'), says="Short sentences are filled up on the left; the padding belongs on the right, after the words."),
    mistake("unknown words skipped", ('[vocabulary.get(word, vocabulary["<unk>"]) for word in sentence.lower().split()]', "[vocabulary[word] for word in sentence.lower().split() if word in vocabulary]"), says="Words that are not in the vocabulary are left out; they get the id of <unk>, so that the reader knows that something stood there."),
    mistake("unknown words as padding", ('vocabulary["<unk>"]', 'vocabulary.get("<pad>")'), says="Unknown words get the id of <pad>, as if nothing stood there; they have their own, <unk>."),
    mistake("unknown words raise", ('vocabulary.get(word, vocabulary["<unk>"])', "vocabulary[word]"), says="A word that is not in the vocabulary raises a KeyError; it gets the id of <unk>."),
    mistake("unknown words added", ('vocabulary.get(word, vocabulary["<unk>"])', "vocabulary.setdefault(word, len(vocabulary))"), says="Unknown words are added to the vocabulary; the model has no embedding for them. They get the id of <unk>, and the vocabulary stays as it is."),
    mistake("capital letters kept", ("sentence.lower().split()", "sentence.split()"), says="Words are looked up as they are written, so “The” is unknown; look them up in lower case."),
    mistake("letters instead of words", ("sentence.lower().split()", "sentence.lower()"), says="The sentence is cut into letters; cut it into words, at the spaces."),
    mistake(
        "only the first word", ("sentence.lower().split()]", "sentence.lower().split()[:1]]"), says="Only the first word of each sentence is used."),
    mistake("padding is always 0", ('[vocabulary["<pad>"]]', "[0]"), says="The padding is 0 whatever the vocabulary says; look up <pad>."),
    mistake("unknown is always 1", ('vocabulary["<unk>"]', "1"), says="Unknown words get id 1 whatever the vocabulary says; look up <unk>."),
    mistake("cut to the shortest", ("longest = max(len(row) for row in rows)", "longest = min(len(row) for row in rows)\n    rows = [row[:longest] for row in rows]"), says="All sentences are cut to the length of the shortest; fill the short ones up instead."),
    mistake("one too long", ("longest = max(len(row) for row in rows)", "longest = max(len(row) for row in rows) + 1"), says="Every row is longer than needed; L is the number of words of the longest sentence."),
    mistake("words down, sentences across", ("for row in rows])\n", "for row in rows]).T\n"), says="The tensor is turned over; a sentence is a row, (B, L)."),
    mistake("ids as floating-point numbers", ("for row in rows])\n", "for row in rows], dtype=torch.float32)\n"), says="The ids are floating-point numbers; an embedding looks rows up by integers (int64)."),
    mistake("ids as int32", ("for row in rows])\n", "for row in rows], dtype=torch.int32)\n"), says="The ids are int32; the docstring says int64, what torch.tensor makes of integers by itself."),
    mistake("commas and full stops taken off", ("for word in sentence.lower().split()]", 'for word in (w.strip(".,!?") for w in sentence.lower().split())]'), says="Commas and full stops are taken off the words. A word is whatever stands between spaces: “cat,” is another one than “cat”, and unknown here."),
    mistake("a list, not a tensor", ("torch.tensor([row", "([row"), says="The result is a list of lists; a tensor is wanted."),
)


# %% tags=["alternative"]
@alternative("a full tensor, filled row by row")
def encode_batch(sentences, vocabulary):
    split = [s.lower().split() for s in sentences]
    out = torch.full((len(split), max(map(len, split))), vocabulary["<pad>"], dtype=torch.long)
    for i, words in enumerate(split):
        for j, word in enumerate(words):
            out[i, j] = vocabulary[word] if word in vocabulary else vocabulary["<unk>"]
    return out


# %% tags=["alternative"]
@alternative("pad_sequence")
def encode_batch(sentences, vocabulary):
    rows = [torch.tensor([vocabulary.get(w.lower(), vocabulary["<unk>"]) for w in s.split()], dtype=torch.int64) for s in sentences]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=vocabulary["<pad>"])


# %% tags=["alternative"]
@alternative("zip_longest")
def encode_batch(sentences, vocabulary):
    from itertools import zip_longest

    ids = []
    for text in sentences:
        ids.append(list(map(lambda word: vocabulary.get(word, vocabulary["<unk>"]), text.lower().split())))
    return torch.LongTensor(list(zip(*zip_longest(*ids, fillvalue=vocabulary["<pad>"]))))


# %% tags=["alternative"]
@alternative("words padded first, then looked up")
def encode_batch(sentences, vocabulary):
    words = [s.casefold().split() for s in sentences]
    width = sorted(len(w) for w in words)[-1]
    padded = [w + ["<pad>"] * (width - len(w)) for w in words]
    return torch.stack([torch.tensor([vocabulary.get(w, vocabulary["<unk>"]) for w in row]) for row in padded])


# %% [markdown]
# ### Try it
#
# Put in your own sentences. Then change the vocabulary's sentences, and see which words become unknown.

# %% tags=["picture"]
sentences = ["The cat sat on the mat", "A dog saw the cat", "The parrot sat"]
vocabulary = build_vocabulary(sentences[:2])
ids = encode_batch(sentences, vocabulary)
print("vocabulary:", vocabulary)
print("ids:")
print(ids)
embedding = nn.Embedding(len(vocabulary), 4)
print("after an embedding of width 4:", tuple(embedding(ids).shape), "= (sentences, words, width)")

# %% [markdown]
# **What to see.** The parrot is not in the vocabulary and becomes 1. The same word has the same id wherever it stands, so the same vector too: so far, order is only in the arrangement of the rows.

# %% [markdown]
# ## Reading one word after the other
#
# A **recurrent neural network** (RNN) keeps a vector of memory, the hidden state $h$. At each word it mixes what it reads with what it remembers:
#
# $$h_t = \tanh(W_{ih}\,x_t + b_{ih} + W_{hh}\,h_{t-1} + b_{hh})$$
#
# $x_t$ is the vector (embedding) of word $t$, and $h_t$ the memory after reading it; $W_{ih}$ and $b_{ih}$ lead from the *input* to the *hidden* state, $W_{hh}$ and $b_{hh}$ from the hidden state to the next. The same weights are used at every step, so it reads sentences of any length. And each step needs the one before it, so the words of a sentence cannot be read at the same time. Section 1 of the paper names this as the
# problem: it "precludes parallelization within training examples".
#
# ## Exercise 2 · `rnn_forward`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# | | the formula says | this code does | why |
# | --- | --- | --- | --- |
# | vectors | columns, $W x$ | rows, `x @ W.T` | a batch is a matrix with an example in each row |
# | biases | two, although one would do | two | they are PyTorch's parameters, which your code will be fed |
# | order of dimensions | nothing | (batch, time, width) | batch first, everywhere in this course; `nn.RNN` needs `batch_first=True` for it |
#
# `x[:, t]` is step $t$ of every example, (B, D). `torch.stack(tensors, dim=1)` lays a list of tensors of one shape side by side along a new dimension 1.

# %% tags=["export"]
def rnn_forward(
    x: Tensor, h0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor,
) -> tuple[Tensor, Tensor]:
    """A recurrent network with tanh, as nn.RNN(D, H, batch_first=True) computes it.

    Args:
        x: inputs, (B, T, D), T at least 1.
        h0: the hidden state before the first step, (B, H).
        w_ih, w_hh: weights, (H, D) and (H, H).
        b_ih, b_hh: biases, (H,) each.

    Returns: the hidden states after every step, (B, T, H), and the last of them, (B, H). The inputs
        are not changed.

    May not call nn.RNN*, nn.LSTM*, nn.GRU* or torch's functions behind them.
    """
    ### BEGIN SOLUTION
    h, outputs = h0, []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)
        outputs.append(h)
    return torch.stack(outputs, dim=1), h
    ### END SOLUTION


# %%
@check("rnn_forward", points=3, forbid=["torch.nn.RNN*", "torch.nn.LSTM*", "torch.nn.GRU*", "torch.rnn_*", "torch.lstm*", "torch.gru*", "torch._VF.*"])
def _(case):
    def network(B, T, D, H, dtype=torch.float32):
        draw = lambda *shape, scale=1.0: case.normal(*shape, scale=scale, dtype=dtype)
        return draw(B, T, D), draw(B, H), draw(H, D, scale=D**-0.5), draw(H, H, scale=H**-0.5), draw(H, scale=0.5), draw(H, scale=0.5)

    def run(name, *sizes, **options):
        case.call(name, rnn_forward, *network(*sizes, **options), labels=("outputs", "h"))

    run("one sentence, one step", 1, 1, 2, 2)
    run("two sentences, two steps, everything 2", 2, 2, 2, 2)
    run("three sentences, four steps, three hidden units", 3, 4, 2, 3)
    run("more steps than anything else", 2, 7, 3, 4)
    run("float64 stays float64", 2, 3, 4, 2, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in network(2, 4, 3, 2)]
    outputs, h = case.call("tensors that require gradients", rnn_forward, *inputs, labels=("outputs", "h"))
    case.gradients("gradients through time", (outputs, h), dict(zip(("x", "h0", "w_ih", "w_hh", "b_ih", "b_hh"), inputs)))
    ### BEGIN HIDDEN TESTS
    run("one step, five sentences", 5, 1, 3, 4)
    run("one number in, one hidden unit", 3, 5, 1, 1)
    run("fifty steps", 2, 50, 3, 6)
    run("as many sentences as steps", 4, 4, 4, 4)
    x, h0, *weights = network(3, 5, 2, 4)
    case.call("from a state of zeros", rnn_forward, x, torch.zeros_like(h0), *weights, labels=("outputs", "h"))
    case.call("a view that is not contiguous", rnn_forward, x.transpose(0, 1).contiguous().transpose(0, 1), h0, *weights, labels=("outputs", "h"))
    inputs = [tensor.requires_grad_() for tensor in network(3, 9, 2, 5, dtype=torch.float64)]
    _, h = rnn_forward(*inputs)
    case.gradients("gradients of the last state alone", h, dict(zip(("x", "h0", "w_ih", "w_hh", "b_ih", "b_hh"), inputs)))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "rnn_forward",
    "Write one step for a whole batch first: (B, D) and (B, H) go in, (B, H) comes out. Then put it into a loop over time, and keep every state.",
    "The formula above, with rows instead of columns. The input of step t is x[:, t].",
    "Start with h0. For each t: inputs of that step times the transposed input weights, plus both biases, plus the state times the transposed hidden weights, through tanh: that is the new state. Collect the states, stack them "
    "along dimension 1, and return them with the last one.",
)
misconceptions(
    "rnn_forward",
    mistake("memory never used", (" + h @ w_hh.T", ""), says="The hidden state never enters the next step; without it each word is read alone."),
    mistake("state not carried on", ("h @ w_hh.T", "h0 @ w_hh.T"), says="Every step starts from h0 again; it starts from the state of the step before."),
    mistake("h0 ignored", ("h, outputs = h0, []", "h, outputs = torch.zeros_like(h0), []"), says="The network starts from zeros; it starts from h0."),
    mistake("no tanh", ("torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)", "x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh"), says="The tanh is missing; without it the network is linear, and its state can grow without bound."),
    mistake("sigmoid", ("torch.tanh(", "torch.sigmoid("), says="The state goes through a sigmoid; this network uses tanh."),
    mistake("ReLU", ("torch.tanh(", "torch.relu("), says="The state goes through a ReLU; this network uses tanh."),
    mistake("tanh on the memory only", ("torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)", "x[:, t] @ w_ih.T + b_ih + torch.tanh(h @ w_hh.T + b_hh)"), says="Only the memory goes through tanh; the sum of input and memory does."),
    mistake("input bias missing", (" + b_ih", ""), says="The bias b_ih is missing."),
    mistake("hidden bias missing", (" + b_hh", ""), says="The bias b_hh is missing. Two biases are one too many in theory, but both are there."),
    mistake("input weights not transposed", ("@ w_ih.T", "@ w_ih"), says="w_ih is used without transposing. It is stored as (H, D), so rows of x meet its transpose."),
    mistake("hidden weights not transposed", ("@ w_hh.T", "@ w_hh"), says="w_hh is used without transposing: square, so nothing complains, but the formula says W h, which for rows is h @ W.T."),
    mistake("read backwards", ("range(x.shape[1])", "reversed(range(x.shape[1]))"), says="The sentence is read from its end; step 0 comes first."),
    mistake("batch and time exchanged", ("range(x.shape[1])", "range(x.shape[0])"), ("x[:, t]", "x[t]"), says="The loop runs over the sentences of the batch as if they were steps; time is dimension 1 here."),
    mistake("time first", ("dim=1", "dim=0"), says="The outputs come as (time, batch, width); batch first is wanted, (B, T, H)."),
    mistake("the states before each step", ("        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)  # (B, H)\n        outputs.append(h)", "        outputs.append(h)\n        h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)"), says="The outputs hold the state before each step, beginning with h0; the state after each step is wanted."),
    mistake("h0 among the outputs", ("h, outputs = h0, []", "h, outputs = h0, [h0]"), says="The outputs begin with h0 and are one step too long; the state after each step is wanted."),
    mistake("first state returned as the last", ("dim=1), h\n", "dim=1), outputs[0]\n"), says="The second result is the state after the first step; the last one is wanted."),
    mistake("last state with a dimension more", ("dim=1), h\n", "dim=1), h.unsqueeze(0)\n"), says="The last state is (1, B, H), as nn.RNN returns it (it counts layers there); (B, H) is wanted here."),
    mistake("only the outputs", ("dim=1), h\n", "dim=1)\n"), says="Only the outputs are returned; the last state is wanted beside them."),
    mistake("cut through time", ("h @ w_hh.T", "h.detach() @ w_hh.T"), says="The values are right, but the state is cut off from its past (detach), so no gradient flows back in time: the network could not learn what to remember."),
    mistake("everything becomes float32", ("h, outputs = h0, []", "x, h0, w_ih, w_hh, b_ih, b_hh = (tensor.float() for tensor in (x, h0, w_ih, w_hh, b_ih, b_hh))\n    h, outputs = h0, []"), says="The result is float32 whatever came in; the dtype of the inputs has to be kept."),
    mistake("h0 changed in place", ("h = torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)", "h = h0.data.copy_(torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)) if not x.requires_grad else torch.tanh(x[:, t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)"), says="The caller's h0 is overwritten with the new state (and with it every state collected); make a new tensor for each step."),
)


# %% tags=["alternative"]
@alternative("linear layers' function, unbind over time")
def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh):
    states = [h0]
    for step in x.unbind(dim=1):
        states.append((nn.functional.linear(step, w_ih, b_ih) + nn.functional.linear(states[-1], w_hh, b_hh)).tanh())
    return torch.stack(states[1:], 1), states[-1]


# %% tags=["alternative"]
@alternative("all inputs multiplied beforehand, einsum")
def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh):
    read = torch.einsum("btd,hd->bth", x, w_ih) + (b_ih + b_hh)
    h, outputs = h0, ()
    for t in range(x.size(1)):
        h = torch.tanh(read[:, t, :] + torch.einsum("bk,hk->bh", h, w_hh))
        outputs += (h[:, None],)
    return torch.cat(outputs, dim=1), h


# %% tags=["alternative"]
@alternative("one matrix for input and state, time first inside")
def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh):
    w, b = torch.cat([w_ih, w_hh], dim=1), b_ih + b_hh
    h, outputs = h0, []
    for step in x.transpose(0, 1):
        h = torch.tanh(torch.cat([step, h], dim=1) @ w.t() + b)
        outputs.append(h)
    outputs = torch.stack(outputs).transpose(0, 1)
    return outputs, outputs[:, -1]


# %% tags=["alternative"]
@alternative("an output filled in place, sentence by sentence")
def rnn_forward(x, h0, w_ih, w_hh, b_ih, b_hh):
    B, T, _ = x.shape
    rows = []
    for b in range(B):
        h, row = h0[b], []
        for t in range(T):
            h = torch.tanh(w_ih @ x[b, t] + b_ih + w_hh @ h + b_hh)
            row.append(h)
        rows.append(torch.stack(row))
    out = torch.stack(rows)
    return out, out[:, T - 1, :]


# %% [markdown]
# ## A memory with gates
#
# In an RNN everything remembered goes through a matrix and a tanh at every step. The **LSTM** ("long short-term memory") adds a second state, the *cell* $c$, that is only scaled and added to. Three **gates**, sigmoids between 0 (closed) and
# 1 (open), decide:
#
# | | | asks |
# | --- | --- | --- |
# | input gate | $i = \sigma(\ldots)$ | how much of the new do I write? |
# | forget gate | $f = \sigma(\ldots)$ | how much of the old do I *keep*? (1 keeps all: the name says the opposite) |
# | candidate | $g = \tanh(\ldots)$ | what would be written? |
# | output gate | $o = \sigma(\ldots)$ | how much of the cell do I show? |
#
# $$c' = f \odot c + i \odot g, \qquad h' = o \odot \tanh(c')$$
#
# where $\sigma$ is the sigmoid of the last notebook, $\odot$ multiplies number by number, and a prime marks the state after this step. Each "…" is a linear function of $x$ and $h$ like that of the RNN, with weights of its own; PyTorch stacks the four on top of each other **in the order of the table: i, f, g, o**.
#
# ## Exercise 3 · `lstm_cell`
#
# *Difficulty ●●○ · 15 minutes · 4 points*
#
# One step only: the loop over time is the one you know. `z.chunk(4, dim=1)` cuts a tensor into four equal blocks of columns.

# %% tags=["export"]
def lstm_cell(
    x: Tensor, state: tuple[Tensor, Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM, as nn.LSTMCell computes it.

    Args:
        x: inputs of this step, (B, D).
        state: the pair (h, c) from the step before, (B, H) each.
        w_ih, w_hh: weights, (4H, D) and (4H, H): H rows for each of input gate, forget gate,
            candidate, output gate.
        b_ih, b_hh: biases, (4H,) each, in the same order.

    Returns: the new pair (h, c). The inputs are not changed.

    May not call nn.RNN*, nn.LSTM*, nn.GRU* or torch's functions behind them.
    """
    ### BEGIN SOLUTION
    h, c = state
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)  # (B, H) each
    new_c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(new_c), new_c
    ### END SOLUTION


# %%
@check("lstm_cell", points=4, forbid=["torch.nn.RNN*", "torch.nn.LSTM*", "torch.nn.GRU*", "torch.rnn_*", "torch.lstm*", "torch.gru*", "torch._VF.*"])
def _(case):
    names = ("x", "h", "c", "w_ih", "w_hh", "b_ih", "b_hh")

    def cell(B, D, H, dtype=torch.float32):
        draw = lambda *shape, scale=1.0: case.normal(*shape, scale=scale, dtype=dtype)
        return draw(B, D), (draw(B, H), draw(B, H)), draw(4 * H, D, scale=D**-0.5), draw(4 * H, H, scale=H**-0.5), draw(4 * H), draw(4 * H)

    def run(name, *sizes, **options):
        return case.call(name, lstm_cell, *cell(*sizes, **options), labels=("h", "c"))

    def gradients(name, *sizes, **options):
        x, (h, c), *weights = cell(*sizes, **options)
        inputs = [tensor.requires_grad_() for tensor in (x, h, c, *weights)]
        case.gradients(name, lstm_cell(x, (h, c), *weights), dict(zip(names, inputs)))

    run("one example, one unit", 1, 1, 1)
    run("two examples, everything 2", 2, 2, 2)
    run("three examples, five numbers in, two units", 3, 5, 2)
    run("two examples, one number in, four units", 2, 1, 4)
    run("float64 stays float64", 3, 2, 4, dtype=torch.float64)
    gradients("gradients", 2, 3, 2)
    x, (h, c), *weights = cell(2, 3, 3)
    for step in range(3):
        h, c = lstm_cell(x + step, (h, c), *weights)
    case.record("three steps in a row", (h, c), labels=("h", "c"))
    ### BEGIN HIDDEN TESTS
    run("one example, wide", 1, 16, 32)
    run("eight examples, four units", 8, 3, 4)
    x, (h, c), *weights = cell(4, 2, 3)
    case.call("from a state of zeros", lstm_cell, x, (torch.zeros_like(h), torch.zeros_like(c)), *weights, labels=("h", "c"))
    case.call("a large cell", lstm_cell, x, (h, 5 * c), *weights, labels=("h", "c"))
    gradients("gradients, float64", 3, 2, 5, dtype=torch.float64)
    for step in range(10):
        h, c = lstm_cell(x * (-1) ** step, (h, c), *weights)
    case.record("ten steps in a row", (h, c), labels=("h", "c"))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "lstm_cell",
    "One linear function gives all four at once, (B, 4H). Cut it into four, and name the pieces before doing anything else.",
    "The table and the two formulae above. The order i, f, g, o is part of the exercise; the candidate is the one with tanh.",
    "Input times transposed input weights plus state times transposed hidden weights plus both biases; four chunks along dimension 1. Sigmoid on three of them, tanh on the third. New cell: forget gate times old cell plus input gate "
    "times candidate. New state: output gate times tanh of the new cell. Return state, then cell.",
)
misconceptions(
    "lstm_cell",
    mistake("gates in the order i, f, o, g", ("i, f, g, o =", "i, f, o, g ="), says="The third and fourth blocks are exchanged: PyTorch's order is input, forget, candidate, output."),
    mistake("gates in the order f, i, g, o", ("i, f, g, o =", "f, i, g, o ="), says="The first two blocks are exchanged: PyTorch's order is input, forget, candidate, output."),
    mistake("gates in the order i, g, f, o", ("i, f, g, o =", "i, g, f, o ="), says="The second and third blocks are exchanged: PyTorch's order is input, forget, candidate, output."),
    mistake("gates in the order f, i, o, g", ("i, f, g, o =", "f, i, o, g ="), says="The blocks are read in the order forget, input, output, candidate (that of many textbooks); PyTorch's is input, forget, candidate, output."),
    mistake("gates interleaved", ("(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(4, dim=1)", "(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).view(len(x), -1, 4).unbind(-1)"), says="Every fourth number is taken for a gate; each gate is a block of H neighbouring numbers."),
    mistake("candidate through a sigmoid", ("torch.tanh(g)", "torch.sigmoid(g)"), says="The candidate goes through a sigmoid, so the cell can only grow; it goes through tanh."),
    mistake("gates through tanh", ("torch.sigmoid(f)", "torch.tanh(f)"), ("torch.sigmoid(i)", "torch.tanh(i)"), ("torch.sigmoid(o)", "torch.tanh(o)"), says="The gates go through tanh and can be negative; they are sigmoids, between 0 and 1."),
    mistake("no tanh on the cell", ("torch.tanh(new_c), new_c", "new_c, new_c"), says="The new state shows the cell itself; it shows the tanh of the cell."),
    mistake("cell squashed", ("torch.tanh(new_c), new_c", "torch.tanh(new_c), torch.tanh(new_c)"), says="The cell that is handed on went through tanh; only what is shown does. The cell itself stays untouched: that is how it remembers."),
    mistake("nothing forgotten", ("torch.sigmoid(f) * c", "c"), says="The forget gate is missing: the old cell is kept whole."),
    mistake("everything forgotten", ("torch.sigmoid(f) * c + ", ""), says="The old cell is dropped; the forget gate times the old cell belongs to the new one."),
    mistake("forget gate forgets", ("torch.sigmoid(f) * c", "(1 - torch.sigmoid(f)) * c"), says="The forget gate is used as 1 − f; despite its name it says how much is *kept*."),
    mistake("input gate missing", ("torch.sigmoid(i) * torch.tanh(g)", "torch.tanh(g)"), says="The candidate is written in full; the input gate decides how much of it."),
    mistake("input gate is one minus forget", ("torch.sigmoid(i)", "(1 - torch.sigmoid(f))"), says="The input gate is taken as 1 − f; in an LSTM it is a gate of its own."),
    mistake("output gate missing", ("torch.sigmoid(o) * torch.tanh(new_c)", "torch.tanh(new_c)"), says="The whole cell is shown; the output gate decides how much."),
    mistake("shows the old cell", ("torch.tanh(new_c), new_c", "torch.tanh(c), new_c"), says="The state shows the old cell; it shows the new one."),
    mistake("old cell returned", ("torch.tanh(new_c), new_c", "torch.tanh(new_c), c"), says="The old cell is returned, so nothing written is ever kept; return the new one."),
    mistake("gate times state instead of cell", ("torch.sigmoid(f) * c", "torch.sigmoid(f) * h"), says="The forget gate multiplies the hidden state; it multiplies the cell."),
    mistake("pair read the wrong way round", ("h, c = state", "c, h = state"), says="The state is the pair (h, c): first the hidden state, then the cell."),
    mistake("pair returned the wrong way round", ("return torch.sigmoid(o) * torch.tanh(new_c), new_c", "return new_c, torch.sigmoid(o) * torch.tanh(new_c)"), says="The new pair is (c, h); it is (h, c)."),
    mistake("input bias missing", (" + b_ih", ""), says="The bias b_ih is missing."),
    mistake("hidden bias missing", (" + b_hh", ""), says="The bias b_hh is missing."),
    mistake("forget bias of 1 added", ("torch.sigmoid(f)", "torch.sigmoid(f + 1)"), says="A bias of 1 is added to the forget gate. It is a good starting value for b_ih, but it is set there, once, and not added here."),
    mistake("memory never used", (" + h @ w_hh.T", ""), says="The hidden state never enters the gates."),
    mistake("only the state", ("torch.tanh(new_c), new_c", "torch.tanh(new_c)"), says="Only the new state is returned; the cell is needed for the next step."),
    mistake("cell changed in place", ("new_c = torch.sigmoid(f) * c +", "new_c = (c.mul_(torch.sigmoid(f)) if not c.requires_grad else torch.sigmoid(f) * c) +"), says="The caller's cell is changed in place; make a new tensor."),
    mistake("cut through time", ("h, c = state", "h, c = (tensor.detach() for tensor in state)"), says="The values are right, but the old state is cut off (detach), so no gradient flows back in time."),
    mistake("everything becomes float32", ("h, c = state", "(h, c), x, w_ih, w_hh, b_ih, b_hh = [t.float() for t in state], *(t.float() for t in (x, w_ih, w_hh, b_ih, b_hh))"), says="The result is float32 whatever came in; the dtype of the inputs has to be kept."),
)


# %% tags=["alternative"]
@alternative("slices, a linear layer's function")
def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    hidden, cell = state
    n = cell.size(1)
    z = nn.functional.linear(x, w_ih, b_ih) + nn.functional.linear(hidden, w_hh, b_hh)
    keep, write, show = z[:, n : 2 * n].sigmoid(), z[:, :n].sigmoid(), z[:, 3 * n :].sigmoid()
    cell = keep * cell + write * z[:, 2 * n : 3 * n].tanh()
    return show * cell.tanh(), cell


# %% tags=["alternative"]
@alternative("a dimension of four gates, einsum")
def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state
    H, D = h.shape[1], x.shape[1]
    z = torch.einsum("bd,khd->kbh", x, w_ih.reshape(4, H, D)) + torch.einsum("bj,khj->kbh", h, w_hh.reshape(4, H, H))
    z = z + (b_ih + b_hh).reshape(4, 1, H)
    c = torch.addcmul(torch.sigmoid(z[1]) * c, torch.sigmoid(z[0]), torch.tanh(z[2]))
    return torch.sigmoid(z[3]).mul(torch.tanh(c)), c


# %% tags=["alternative"]
@alternative("four separate matrices, the sigmoid by tanh")
def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state[0], state[1]
    sigmoid = lambda a: (torch.tanh(a / 2) + 1) / 2
    parts = []
    for w, u, b, d in zip(w_ih.split(h.shape[1]), w_hh.split(h.shape[1]), b_ih.split(h.shape[1]), b_hh.split(h.shape[1])):
        parts.append(torch.matmul(x, w.t()) + torch.matmul(h, u.t()) + b + d)
    c_new = sigmoid(parts[1]) * c + sigmoid(parts[0]) * torch.tanh(parts[2])
    return [sigmoid(parts[3]) * torch.tanh(c_new), c_new]


# %% tags=["alternative"]
@alternative("input and state in one product, float64 inside")
def lstm_cell(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = (s.double() for s in state)
    z = torch.cat([x.double(), h], 1) @ torch.cat([w_ih, w_hh], 1).double().T + (b_ih.double() + b_hh.double())
    i, f, g, o = torch.tensor_split(z, 4, dim=-1)
    c = 1 / (1 + torch.exp(-f)) * c + 1 / (1 + torch.exp(-i)) * g.tanh()
    return (1 / (1 + torch.exp(-o)) * c.tanh()).to(x.dtype), c.to(x.dtype)


# %% [markdown]
# ### Try it: equal to PyTorch?
#
# The same weights in PyTorch's own layers and in your functions.

# %% tags=["picture"]
torch.manual_seed(SEED)
x = torch.randn(3, 6, 4)
theirs = nn.RNN(4, 5, batch_first=True)
expected, _ = theirs(x)
found, _ = rnn_forward(x, torch.zeros(3, 5), theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0, theirs.bias_hh_l0)
print(f"RNN:  largest difference {(expected - found).abs().max():.0e}")
theirs = nn.LSTMCell(4, 5)
state = torch.randn(3, 5), torch.randn(3, 5)
expected, found = theirs(x[:, 0], state), lstm_cell(x[:, 0], state, theirs.weight_ih, theirs.weight_hh, theirs.bias_ih, theirs.bias_hh)
print(f"LSTM: largest difference {max((a - b).abs().max() for a, b in zip(expected, found)):.0e}")

# %% [markdown]
# ## How fast does it forget?
#
# Learning needs gradients. If the right answer depends on a word read $d$ steps ago, the gradient has to travel back through $d$ steps, and by the chain rule it is multiplied by one matrix per step:
#
# $$\frac{\partial h_T}{\partial x_{T-d}} = \frac{\partial h_T}{\partial h_{T-1}}\,\frac{\partial h_{T-1}}{\partial h_{T-2}}\cdots\frac{\partial h_{T-d}}{\partial x_{T-d}}, \qquad \frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}(1-h_t^2)\,W_{hh}$$
#
# $T$ is the last step. A derivative of one vector with respect to another is a matrix with a slope for every pair of their numbers; $\mathrm{diag}(1-h_t^2)$, with tanh's slopes on its diagonal and 0 elsewhere, comes from the tanh.
#
# If each factor shrinks a vector by a tenth, 50 of them shrink it to half a percent: the gradient **vanishes**. If each stretches it, it **explodes**. Let us measure it.
#
# ## Exercise 4 · `gradient_norm_by_distance`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# To keep it simple and repeatable, the cell reads zeros, one example, from its zero state. (`cell(x)` without a state starts from zeros; `torch.autograd.grad(y, x)` gives the gradient of the number `y` with
# respect to `x`, in a tuple, and leaves `.grad` alone; `x` may be a list of tensors, made with `requires_grad_()`. An `nn.RNNCell` returns $h$, an `nn.LSTMCell` the pair $(h, c)$; an `nn.GRUCell`, a simpler relative of the LSTM, returns $h$.
# The Euclidean norm, `.norm()`, is the length of a vector. The record from which PyTorch computes gradients is a tensor's gradient history; `.detach()` leaves it behind.)

# %% tags=["export"]
def gradient_norm_by_distance(cell: nn.Module, length: int) -> Tensor:
    """How strongly the last hidden state depends on the input d steps before the last, for every d.

    The cell reads `length` inputs x_1 … x_length of zeros, one example of shape (1,
    cell.input_size) each, starting from its zero state (no state given). Let S be the sum of the
    numbers of the hidden state after the last step (for an LSTM the h of its pair).

    Args:
        cell: an nn.RNNCell, nn.GRUCell or nn.LSTMCell. Its parameters and their .grad stay as they are.
        length: number of steps, at least 1.

    Returns: (length,), in the dtype of the cell's weights, without gradient history; entry d is the
        Euclidean norm of ∂S/∂x_(length−d): d = 0 is the last input, d = length−1 the first.
    """
    ### BEGIN SOLUTION
    inputs = cell.weight_ih.new_zeros(length, 1, cell.input_size).requires_grad_()
    state = None
    for x in inputs:
        state = cell(x, state)
    h = state[0] if isinstance(state, tuple) else state
    (gradient,) = torch.autograd.grad(h.sum(), inputs)  # (length, 1, input_size)
    return gradient.flatten(1).norm(dim=1).flip(0)
    ### END SOLUTION


# %%
@check("gradient_norm_by_distance", points=3)
def _(case):
    def measure(name, cell, length, in_training=False):
        cell = case.initialise(cell)
        for p in cell.parameters():
            p.grad = torch.ones_like(p) if in_training else None
        before = [p.detach().clone() for p in cell.parameters()]
        norms = gradient_norm_by_distance(cell, length)
        case.record(name, norms)
        left = []
        if any(p.grad is None or not bool((p.grad == 1).all()) if in_training else p.grad is not None and bool(p.grad.any()) for p in cell.parameters()):
            left.append("another .grad of the cell's parameters")
        if not all(torch.equal(p, old) for p, old in zip(cell.parameters(), before)):
            left.append("other values of the cell's parameters")
        if not all(p.requires_grad for p in cell.parameters()):
            left.append("parameters that want no gradient any more")
        if getattr(norms, "requires_grad", False):
            left.append("a gradient history of the result")
        case.record(f"{name}: nothing left behind", ", ".join(left) or "nothing", about="left behind")

    measure("RNN, one step", nn.RNNCell(2, 2), 1)
    measure("RNN, three steps", nn.RNNCell(2, 3), 3)
    measure("LSTM, one step", nn.LSTMCell(2, 3), 1)
    measure("LSTM, four steps", nn.LSTMCell(3, 2), 4)
    measure("RNN in the middle of a training, two steps", nn.RNNCell(3, 2), 2, in_training=True)
    measure("GRU, five steps", nn.GRUCell(2, 4), 5)
    measure("float64 stays float64", nn.RNNCell(3, 4).double(), 6)
    ### BEGIN HIDDEN TESTS
    measure("RNN, one unit", nn.RNNCell(1, 1), 7)
    measure("RNN, thirty steps, float64", nn.RNNCell(4, 16).double(), 30)
    measure("LSTM, twenty steps", nn.LSTMCell(5, 8), 20)
    measure("LSTM in the middle of a training, three steps", nn.LSTMCell(2, 4), 3, in_training=True)
    measure("RNN with ReLU", nn.RNNCell(3, 6, nonlinearity="relu"), 5)
    measure("GRU, as many steps as units", nn.GRUCell(4, 4), 4)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "gradient_norm_by_distance",
    "One forward pass over all steps and a single backward pass are enough: ask for the gradient of one number with respect to all inputs at once.",
    "The docstring defines the number S and the order of the result. An LSTM cell returns a pair.",
    "Make one tensor of zeros, (length, 1, input size), that requires a gradient. Feed its rows to the cell in a loop, handing on the state. Differentiate the sum of the last hidden state with respect to it; take the norm of each step's "
    "gradient and turn the order round.",
)
misconceptions(
    "gradient_norm_by_distance",
    mistake("first input first", (".flip(0)", ""), says="The result begins with the first input; distance 0, the last input, comes first."),
    mistake("squared norm", (".norm(dim=1)", ".square().sum(1)"), says="The squares are added up without taking the root; the Euclidean norm is wanted."),
    mistake("sum of absolute values", (".norm(dim=1)", ".abs().sum(1)"), says="The absolute values are added up; the Euclidean norm is wanted, the root of the sum of squares."),
    mistake("largest component", (".norm(dim=1)", ".abs().amax(1)"), says="Only the largest component of each gradient is taken; the Euclidean norm is wanted."),
    mistake("mean of absolute values", (".norm(dim=1)", ".abs().mean(1)"), says="The absolute values are averaged; the Euclidean norm is wanted."),
    mistake("one norm for all steps", (".flatten(1).norm(dim=1).flip(0)", ".norm()"), says="One norm is taken over all steps; each distance has its own."),
    mistake("only the first hidden unit", ("h.sum()", "h[0, 0]"), says="Only the first number of the last state is differentiated; S is the sum of all its numbers."),
    mistake("mean of the state", ("h.sum()", "h.mean()"), says="The mean of the last state is differentiated; S is the sum of its numbers."),
    mistake("square of the state", ("h.sum()", "h.square().sum()"), says="The sum of the squares of the state is differentiated; S is the plain sum."),
    mistake("cell instead of state", ("state[0] if isinstance", "state[1] if isinstance"), says="For an LSTM the cell c is differentiated; S is built from the hidden state h, the first of the pair."),
    mistake("state and cell together", ("state[0] if isinstance", "state[0] + state[1] if isinstance"), says="For an LSTM the cell is added in; S is built from the hidden state alone."),
    mistake("all states", ("    state = None\n", "    state, total = None, 0.0\n"), ("        state = cell(x, state)\n", "        state = cell(x, state)\n        total = total + (state[0] if isinstance(state, tuple) else state).sum()\n"), ("h.sum()", "total"), says="The hidden states of all steps are added up; S is built from the last one alone."),
    mistake(
        "state cut off at each step",
        ("        state = cell(x, state)\n", "        state = cell(x, state if state is None else tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach())\n"),
        says="The state is cut off from its past at each step (detach), so no gradient reaches earlier inputs.",
    ),
    mistake("inputs of ones", ("new_zeros(length", "new_ones(length"), says="The cell reads ones; the definition says zeros, so that the result depends on nothing but the cell."),
    mistake("starts from ones", ("    state = None\n", "    state = cell.weight_ih.new_ones(1, cell.hidden_size)\n    state = (state, state) if isinstance(cell, nn.LSTMCell) else state\n"), says="The cell starts from a state of ones; it starts from its zero state."),
    mistake("one step too few", ("for x in inputs:", "for x in inputs[: max(1, length - 1)]:"), says="The cell reads one input less than there are; `length` steps are wanted."),
    mistake("relative to distance 0", (".norm(dim=1).flip(0)", ".norm(dim=1).flip(0) / gradient[-1].norm()"), says="The norms are divided by that of distance 0; they are wanted as they are."),
    mistake("logarithm", (".norm(dim=1).flip(0)", ".norm(dim=1).flip(0).log()"), says="The logarithm of the norms is returned; the norms themselves are wanted (the picture's axis is logarithmic)."),
    mistake(
        "gradients left in the cell",
        ("(gradient,) = torch.autograd.grad(h.sum(), inputs)", "h.sum().backward()\n    gradient = inputs.grad"),
        says="backward() also fills the .grad of the cell's parameters, and a training that follows would add to it; ask for the inputs' gradient alone (torch.autograd.grad).",
    ),
    mistake(
        "the cell's gradients cleared",
        ("(gradient,) = torch.autograd.grad(h.sum(), inputs)", "h.sum().backward()\n    cell.zero_grad()\n    gradient = inputs.grad"),
        says="After backward() the .grad of the cell's parameters is cleared, and what a training had put there is lost; ask for the inputs' gradient alone (torch.autograd.grad).",
    ),
    mistake(
        "the cell frozen",
        ("    state = None\n", "    cell.requires_grad_(False)\n    state = None\n"),
        says="The cell's parameters are left with requires_grad False, so a training that follows would not move them; leave them as they are, or freeze a copy.",
    ),
    mistake("history kept", ("torch.autograd.grad(h.sum(), inputs)", "torch.autograd.grad(h.sum(), inputs, create_graph=True)"), says="The result has a gradient history (create_graph keeps one); plain numbers are wanted: leave it out, or detach."),
    mistake("always float32", ("cell.weight_ih.new_zeros(length, 1, cell.input_size)", "torch.zeros(length, 1, cell.input_size)"), says="The inputs are float32 whatever the cell's weights are; take their dtype."),
    mistake("the first state alone", ("    h = state[0]", "    inputs_first = inputs\n    state = cell(inputs[0])\n    h = state[0]"), says="Only the first step's state is differentiated; S comes from the state after the last step."),
)


# %% tags=["alternative"]
@alternative("a list of inputs, one gradient each")
def gradient_norm_by_distance(cell, length):
    like = next(cell.parameters())
    xs = [torch.zeros(1, cell.input_size, dtype=like.dtype, requires_grad=True) for _ in range(length)]
    state = cell(xs[0])
    for x in xs[1:]:
        state = cell(x, state)
    last = state[0] if isinstance(cell, nn.LSTMCell) else state
    return torch.stack([g.norm() for g in reversed(torch.autograd.grad(last.sum(), xs))])


# %% tags=["alternative"]
@alternative("backward, then the parameters' gradients put back")
def gradient_norm_by_distance(cell, length):
    x = torch.zeros((length, 1, cell.input_size), dtype=cell.weight_hh.dtype, requires_grad=True)
    out = None
    for t in range(length):
        out = cell(x[t]) if out is None else cell(x[t], out)
    h = out if isinstance(out, torch.Tensor) else out[0]
    before = [p.grad for p in cell.parameters()]
    cell.zero_grad(set_to_none=True)
    h.sum().backward()
    for p, gradient in zip(cell.parameters(), before):
        p.grad = gradient
    return torch.linalg.vector_norm(x.grad.squeeze(1), dim=-1)[torch.arange(length - 1, -1, -1)]


# %% tags=["alternative"]
@alternative("the whole Jacobian, its rows added up")
def gradient_norm_by_distance(cell, length):
    def last(x):
        state = None
        for step in range(length):
            state = cell(x[step : step + 1], state)
        return (state[0] if isinstance(state, tuple) else state).flatten()

    jacobian = torch.autograd.functional.jacobian(last, torch.zeros(length, cell.input_size, dtype=cell.weight_ih.dtype))
    return jacobian.sum(0).pow(2).sum(-1).sqrt().flip(0)


# %% tags=["alternative"]
@alternative("a copy of the cell with frozen parameters")
def gradient_norm_by_distance(cell, length):
    import copy

    frozen = copy.deepcopy(cell).requires_grad_(False)
    x = torch.zeros(length, cell.input_size, dtype=frozen.bias_ih.dtype).requires_grad_()
    state = frozen(x[:1])
    for t in range(1, length):
        state = frozen(x[t : t + 1], state)
    (state[0] if type(state) is tuple else state).backward(torch.ones(1, cell.hidden_size, dtype=x.dtype))
    return x.grad.norm(dim=1).flip(0).detach()


# %% tags=["misconceptions"]
equivalents(
    "gradient_norm_by_distance",
    {
        "condition: `h = state[0] if isinstance(state, tuple) else state` → `h = state[0] if True else state`":
            "there is one example, so the first row of an RNN's state has the same sum as the state",
        "axis: `return gradient.flatten(1).norm(dim=1).flip(0)` → `return gradient.flatten(1).norm(dim=1).flip(-1)`":
            "there is one dimension left",
    },
)

# %% [markdown]
# ### Try it: vanishing and exploding
#
# Cells with 64 hidden units. The RNN's hidden weights are a random rotation, which keeps the length of every vector, times 0.8, 1 or 1.2. The LSTM's are small, so that its cell is what remembers, and the bias of its forget gate
# is set: it says how much of the cell is kept at each step.

# %% tags=["picture"]
def random_rnn(scale):
    torch.manual_seed(SEED)
    cell = nn.RNNCell(8, 64)
    with torch.no_grad():
        nn.init.orthogonal_(cell.weight_hh, gain=scale)  # a rotation, times `scale`
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    return cell


def random_lstm(forget_bias):
    torch.manual_seed(SEED)
    cell = nn.LSTMCell(8, 64)
    with torch.no_grad():
        cell.weight_hh.mul_(0.2)
        cell.bias_hh.zero_()
        cell.bias_ih.zero_()
        cell.bias_ih[64:128] = forget_bias  # the second of four blocks: i, f, g, o
    return cell


length = 60
curves = [
    ("RNN, rotation × 0.8", random_rnn(0.8), ORANGE, ":"),
    ("RNN, rotation × 1", random_rnn(1.0), ORANGE, "-"),
    ("RNN, rotation × 1.2", random_rnn(1.2), ORANGE, "--"),
    (f"LSTM, keeps {torch.sigmoid(torch.tensor(0.0)):.2f} a step", random_lstm(0.0), BLUE, ":"),
    (f"LSTM, keeps {torch.sigmoid(torch.tensor(2.0)):.2f} a step", random_lstm(2.0), BLUE, "-"),
    (f"LSTM, keeps {torch.sigmoid(torch.tensor(5.0)):.3f} a step", random_lstm(5.0), BLUE, "--"),
]
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for label, cell, colour, style in curves:
    axis.plot(range(length), gradient_norm_by_distance(cell, length).detach(), style, color=colour, label=label)
axis.set(yscale="log", ylim=(1e-8, 1e6), title="how much the last state depends on an earlier input", xlabel="distance $d$ [steps]", ylabel="norm of the gradient")
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# **What to see.** The axis is logarithmic, so a straight line means "the same factor at every step". The RNN vanishes or explodes with small changes of its weights, and only a knife's edge in between lasts (and that only while the state stays near 0, where the slope of tanh is 1). The LSTM forgets too, but at a
# rate that it can choose with its gate: kept nearly open it carries a gradient over many steps (the dashed line even rises a little, since what the cell shows comes back through the small weights as well). It is better, not free: what is kept for 60 steps uses up room in the state for 60 steps.

# %% [markdown]
# ## The experiment: remember the first word
#
# The simplest task for a long memory: read a row of random symbols and say **which came first**. The longer the row, the longer the first symbol must survive.
#
# Three readers, each trained from scratch for each length with the same number of updates:
#
# - an **RNN** and an **LSTM**: the answer is read off their last state;
# - **attention**: each symbol gets its embedding plus a learned vector for its place. The last position asks (query), all positions answer (keys), and what they say (values) is averaged with softmax weights. You know these
#   three lines from the first notebook. Queries, keys and values are made from the symbols' vectors by three linear layers, which is how they are learned. The path from the first symbol to the answer is *one* step, whatever the length.
#
# A network of your own is a class: `__init__` makes its layers, and `forward` says what happens when it is called. `x.mT` transposes the last two dimensions, and `@` then multiplies matrix by matrix, one pair for each example.

# %%
class RecurrentReader(nn.Module):
    """Symbols (B, T) → logits (B, symbols), from the last state of an RNN or LSTM."""

    def __init__(self, network: type[nn.Module], symbols: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, width)
        self.network = network(width, width, batch_first=True)
        self.answer = nn.Linear(width, symbols)
        if network is nn.LSTM:
            with torch.no_grad():
                self.network.bias_ih_l0[width : 2 * width] = 1.5  # the forget gate starts out fairly open

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.network(self.embedding(x))
        return self.answer(outputs[:, -1])


class AttentionReader(nn.Module):
    """Symbols (B, T) → logits (B, symbols), from one attention step whose query is the last position."""

    def __init__(self, length: int, symbols: int, width: int) -> None:
        super().__init__()
        self.embedding, self.place = nn.Embedding(symbols, width), nn.Embedding(length, width)
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, width)
        self.answer = nn.Linear(width, symbols)

    def weights(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embedding(x) + self.place.weight  # (B, T, width)
        scores = self.query(x[:, -1:]) @ self.key(x).mT / math.sqrt(x.shape[-1])  # (B, 1, T)
        return softmax(scores), x

    def forward(self, x: Tensor) -> Tensor:
        weights, x = self.weights(x)
        return self.answer((weights @ self.value(x))[:, 0])


# %% tags=["picture"]
symbols, width, batch = 4, 32, 64
lengths, updates = ([4, 8, 16, 32, 48], 300) if PROFILE == "quick" else ([4, 8, 16, 32, 64, 128], 3000)
threads = torch.get_num_threads()
torch.set_num_threads(1)  # tensors this small are faster without sharing the work out


def accuracy_after_training(model, length, generator):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(updates):
        x = torch.randint(symbols, (batch, length), generator=generator)
        loss = cross_entropy(model(x), x[:, 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # keeps an exploding gradient from doing harm
        optimizer.step()
    with torch.no_grad():
        x = torch.randint(symbols, (1000, length), generator=generator)
        return (model(x).argmax(1) == x[:, 0]).float().mean().item()


accuracies = {"RNN": [], "LSTM": [], "attention": []}
for length in lengths:
    for name, results in accuracies.items():
        torch.manual_seed(SEED)
        reader = AttentionReader(length, symbols, width) if name == "attention" else RecurrentReader(getattr(nn, name), symbols, width)
        results.append(accuracy_after_training(reader, length, torch.Generator().manual_seed(SEED)))
torch.set_num_threads(threads)

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained")
for (name, results), colour, marker in zip(accuracies.items(), (ORANGE, BLUE, GREEN), "os^"):
    left.plot(lengths, results, marker + "-", color=colour, label=name)
left.axhline(1 / symbols, color=GREY, linestyle="--", label="guessing")
left.set(xscale="log", ylim=(0, 1.05), title=f"recall of the first symbol after {updates} updates", xlabel="length of the row [symbols]", ylabel="accuracy")
left.set_xticks(lengths, [str(length) for length in lengths])
left.minorticks_off()
left.legend(frameon=False)
with torch.no_grad():
    shown, _ = reader.weights(torch.randint(symbols, (4, length), generator=torch.Generator().manual_seed(1)))
image = right.imshow(shown[:, 0], aspect="auto", cmap="cividis", vmin=0, vmax=1)
right.set(title=f"where attention looks, four rows of {length} symbols", xlabel="position", ylabel="example", yticks=range(4))
figure.colorbar(image, ax=right, label="weight")
left.grid(alpha=0.3)
left.spines[["top", "right"]].set_visible(False)
plt.show()
for name, results in accuracies.items():
    print(f"{name:10}", "  ".join(f"length {length}: {100 * value:3.0f} %" for length, value in zip(lengths, results)))

# %% [markdown]
# **What to see.** On short rows all three are perfect. As rows grow the recurrent readers fall to guessing, the plain RNN first; given many more updates they get further, but the wall only moves. Attention stays at the top: the right-hand picture shows that it
# learned to look at position 0 and nowhere else. That is the paper's argument in one picture. It has a price, which we meet in week 1: everyone looking at everyone costs (length)² comparisons; and without the
# vectors for places, attention would not know what "first" means.

# %% [markdown] written="why_rnns_struggle" points=3
# ## Question 1 · why do recurrent networks struggle with long sequences?
#
# *3 points, graded by a person*
#
# Give two reasons why an RNN learns badly from long sequences and one reason why it is slow on them, and say for each what self-attention does instead. Use the pictures of this notebook where they help.
#
# ### BEGIN SOLUTION
# **Gradients vanish or explode.** The gradient from the last state back to a word $d$ steps ago is a product of $d$ matrices $\mathrm{diag}(1-h_t^2)W_{hh}$; it shrinks or grows exponentially with $d$ (straight lines in the logarithmic picture). LSTMs
# soften this with an additive cell and gates. Attention connects any two positions by a path of constant length, so there is no product over the distance.
#
# **One state for everything.** All that was read has to fit into one vector of fixed size, and every later word writes into it: early information is overwritten, however good the gradients. Attention keeps
# a vector for each position and looks back at all of them.
#
# **Step by step.** $h_t$ needs $h_{t-1}$, so a sentence of $n$ words takes $n$ operations one after the other, and a GPU cannot read the words at once. Attention compares all pairs in one matrix product (at the price of $n^2$ comparisons).
#
# **Rubric.** 1 point each: vanishing/exploding gradients *with* the product over steps as the reason and the constant path length; the bottleneck of a fixed state; sequential computation against parallel. ½ where the side of attention is missing.
# ### END SOLUTION

# %% [markdown] written="forget_gate" points=2
# ## Question 2 · keeping the gate open
#
# *2 points, graded by a person*
#
# An LSTM's forget gate stays at $f$ at every step, and the gates' own dependence on the past may be neglected. (a) By what factor does the cell's gradient shrink over $d$ steps? For which $f$ does half of it survive 50 steps?
# (b) Why not simply fix $f = 1$?
#
# ### BEGIN SOLUTION
# (a) $\partial c_t/\partial c_{t-1} = f$, so $f^d$. $f^{50} = \tfrac12$ gives $f = 2^{-1/50} \approx 0.986$.
#
# (b) Then nothing is ever forgotten: the cell adds everything up, grows with the length (so that $\tanh(c)$ saturates), and old, irrelevant things stay in the way of new ones. The network has to be able to clear its memory, at the end of a sentence for
# instance. (The first LSTM had no forget gate; it was added for this reason.)
#
# **Rubric.** 1 point: $f^d$ and 0.986 (0.98 to 0.99 accepted). 1 point: any sound reason why forgetting is needed.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - Text → tokens → ids → embeddings; sentences of a batch are padded to one length.
# - An RNN reads word by word into one state; an LSTM adds a cell with gates. Both equal PyTorch's, step by step.
# - Over distance, gradients shrink or grow exponentially. Attention reaches every position in one step, and all at the same time.
#
# **Week 0's goal**: you know the core ideas behind the Transformer, why it replaces RNNs, and how attention works. **Next**, week 1: `architecture`, where you read the paper's sections 1 and 2 and draw the whole machine.

# %% tags=["picture"]
score()
