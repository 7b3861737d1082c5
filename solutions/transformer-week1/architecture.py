# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: The architecture
#     order: 1
#     exports: papers.transformer.architecture
#     minutes: 90
# ---

# %% [markdown]
# # The Transformer's architecture
#
# *Attention Is All You Need*, sections 1, 2, 3.1 (overview), 4 (Table 1) and the sizes in Table 3 · about 90 minutes
#
# At the end of this notebook you can
#
# - name the parts of Figure 1, in order, and say what each is for;
# - count the parameters of any Transformer exactly, and find out what the paper's 65 million are made of;
# - write down the shape of everything that flows through the model, and say what self-attention costs and what it buys.
#
# No neural network is built here: this week is for the plan, weeks 2 and 3 are for the building.
#
# **Week 1 of the roadmap.**
#
# 1. Read sections 1 and 2 of [the paper](https://arxiv.org/pdf/1706.03762): introduction and background.
# 2. Identify the main components: multi-head self-attention, positional encoding, feed-forward networks, residual connections and layer normalisation (exercises 1 and 2).
# 3. Sketch the full architecture on paper (question 1).
# 4. Watch [Illustrated Transformer (deep dive)](https://youtu.be/4Bdc55j80l8), which helps to understand the paper. A good moment is after your own sketch: see what you left out.

# %% tags=["export"]
from dataclasses import dataclass

# %%
import math

import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## What the paper set out to do
#
# In 2017 translation meant recurrent networks: one word after another, each step waiting for the one before (section 1). That is slow on hardware that likes to do thousands of things at once, and what
# the first word said has to survive every step until it is needed. Convolutions (a window slid along the sentence, with the same weights at every place) can work on all positions at once, but two words far apart meet only after many layers (section 2). The paper keeps one idea of the
# recurrent translators, *attention*, and drops the rest.
#
# | component | what it is for | the paper | here |
# | --- | --- | --- | --- |
# | multi-head self-attention | lets each word look at all others at once, in several ways (*heads*) side by side; *self*: queries, keys and values all come from the same sentence | 3.2 | week 2 |
# | positional encoding | tells the words' order, which attention cannot see | 3.5 | week 3 |
# | feed-forward network | two linear layers with a ReLU between, for each word's vector by itself | 3.3 | week 3 |
# | residual connection and layer normalisation | add what went into a part to what comes out; bring each vector to mean 0 and variance 1. They let deep stacks learn | 3.1 | week 3 |
# | encoder and decoder | read one sentence; write another, word by word | 3.1 | week 3 |

# %% [markdown]
# ## Exercise 1 · `sublayers`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# Encoder and decoder are stacks of $N = 6$ layers, and each layer is made of *sub-layers*. Section 3.1 lists them. *Masked* means that no word may look at words after it; *cross*-attention looks into the other sentence. Around every sub-layer stand a residual connection and a normalisation ("Add & Norm" in Figure 1); they
# are not sub-layers themselves.

# %% tags=["export"]
def sublayers(block: str) -> list[str]:
    """The sub-layers of one layer, in the order in which data passes them (section 3.1).

    Args:
        block: "encoder" or "decoder".

    Returns: names out of "self-attention", "masked self-attention", "cross-attention" (the paper's
        "encoder-decoder attention") and "feed-forward".
    """
    ### BEGIN SOLUTION
    if block == "encoder":
        return ["self-attention", "feed-forward"]
    return ["masked self-attention", "cross-attention", "feed-forward"]
    ### END SOLUTION


# %%
@check("sublayers", points=1, paper="section 3.1")
def _(case):
    def kinds(block):  # the same thing has several names
        found = []
        for name in sublayers(block):
            text = str(name).lower().replace("_", "-").replace(" ", "-")
            masked = "masked " if "mask" in text or "causal" in text else ""
            if "feed" in text or "ffn" in text or "fully" in text:
                found.append("feed-forward")
            elif "norm" in text or "residual" in text:
                found.append("add & norm")
            elif "cross" in text or "encoder-decoder" in text or "memory" in text:
                found.append(masked + "cross-attention")
            elif "attention" in text:
                found.append(masked + "self-attention")
            else:
                found.append(text)
        return found

    case.record("the encoder has so many", len(sublayers("encoder")), about="number of sub-layers")
    case.record("the encoder's sub-layers in order", ", ".join(kinds("encoder")), about="what your code lists")
    case.record("the decoder has so many", len(sublayers("decoder")), about="number of sub-layers")
    case.record("the decoder's sub-layers in order", ", ".join(kinds("decoder")), about="what your code lists")


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "sublayers",
    "Count the coloured boxes inside each of the two large grey boxes of Figure 1, and leave out those that say “Add & Norm”.",
    "Section 3.1: “Each layer has two sub-layers. The first is …” for the encoder; for the decoder: “In addition to the two sub-layers in each encoder layer, the decoder inserts a third”. Between which two, says Figure 1.",
    "The encoder attends to itself, then the feed-forward network. The decoder attends to itself without seeing the future, then to the encoder's output, then the feed-forward network.",
)
misconceptions(
    "sublayers",
    mistake(
        "two in the decoder",
        ('"masked self-attention", "cross-attention", "feed-forward"', '"masked self-attention", "feed-forward"'),
        says="The decoder has no attention to the encoder's output; section 3.1 inserts it as a third sub-layer.",
    ),
    mistake(
        "cross-attention first",
        ('"masked self-attention", "cross-attention", "feed-forward"', '"cross-attention", "masked self-attention", "feed-forward"'),
        says="In the decoder the attention to the encoder comes first; Figure 1 has the masked self-attention below it, so that comes first.",
    ),
    mistake(
        "cross-attention last",
        ('"masked self-attention", "cross-attention", "feed-forward"', '"masked self-attention", "feed-forward", "cross-attention"'),
        says="In the decoder the attention to the encoder comes last; Figure 1 has it between self-attention and the feed-forward network.",
    ),
    mistake(
        "feed-forward first",
        ('["self-attention", "feed-forward"]', '["feed-forward", "self-attention"]'),
        says="In the encoder the feed-forward network comes first; section 3.1 has self-attention first.",
    ),
    mistake(
        "add & norm counted",
        ('["self-attention", "feed-forward"]', '["self-attention", "add & norm", "feed-forward", "add & norm"]'),
        ('["masked self-attention", "cross-attention", "feed-forward"]', '["masked self-attention", "add & norm", "cross-attention", "add & norm", "feed-forward", "add & norm"]'),
        says="“Add & Norm” is listed as a sub-layer of its own; it stands *around* each sub-layer, which section 3.1 counts without it.",
    ),
    mistake(
        "encoder masked",
        ('["self-attention", "feed-forward"]', '["masked self-attention", "feed-forward"]'),
        says="The encoder's self-attention is masked; the source sentence is known from the start, only the decoder must not see what comes next.",
    ),
    mistake(
        "decoder not masked",
        ('["masked self-attention", ', '["self-attention", '),
        says="The decoder's self-attention is not masked; there no word may look at words after it, as section 3.1 says of the decoder's stack.",
    ),
    mistake(
        "mask on the cross-attention",
        ('"masked self-attention", "cross-attention", ', '"self-attention", "masked cross-attention", '),
        says="The decoder's mask stands at the cross-attention; the source sentence is known from the start. It is the self-attention that must not see what comes next.",
    ),
    mistake(
        "encoder and decoder exchanged",
        ('block == "encoder"', 'block == "decoder"'),
        says="Encoder and decoder are exchanged.",
    ),
    mistake(
        "the same for both",
        ('        return ["self-attention", "feed-forward"]', '        return ["masked self-attention", "cross-attention", "feed-forward"]'),
        says="The encoder gets the decoder's sub-layers; it has only two, and nothing to attend to but itself.",
    ),
    mistake(
        "no feed-forward network",
        ('["self-attention", "feed-forward"]', '["self-attention"]'),
        ('"cross-attention", "feed-forward"]', '"cross-attention"]'),
        says="The feed-forward network is missing; it is the last sub-layer of every layer.",
    ),
)


# %% tags=["alternative"]
@alternative("a dictionary")
def sublayers(block):
    return {
        "encoder": ["self-attention", "feed-forward"],
        "decoder": ["masked self-attention", "cross-attention", "feed-forward"],
    }[block]


# %% tags=["alternative"]
@alternative("the paper's long names, a tuple")
def sublayers(block):
    if block == "decoder":
        return "masked multi-head self-attention", "encoder-decoder attention", "position-wise feed-forward network"
    return "multi-head self-attention", "position-wise feed-forward network"


# %% tags=["alternative"]
@alternative("the encoder's list with one inserted")
def sublayers(block):
    names = ["self_attention", "feed_forward"]
    if block == "decoder":
        names[0] = "masked_" + names[0]
        names.insert(1, "cross_attention")
    return names


# %% tags=["alternative"]
@alternative("match")
def sublayers(block):
    match block:
        case "encoder":
            return ["Multi-Head Attention", "Feed Forward"]
        case "decoder":
            return ["Masked Multi-Head Attention", "Cross-Attention over the memory", "Feed Forward"]
    raise ValueError(block)


# %% [markdown] written="sketch" points=4
# ## Question 1 · sketch the whole architecture
#
# *4 points, graded by a person · 20 minutes*
#
# Close the paper and draw the Transformer, from the words that go in to the probabilities that come out. Draw on paper and photograph it, or use any program, and drag the picture into this cell; or write it with
# characters between three backticks. Show: both stacks with their sub-layers in order; what stands around each sub-layer; where positions come in; every arrow between encoder and decoder and what it carries;
# what is repeated $N$ times; what comes after the decoder. Then run the next cell, and mark in your drawing, in another colour, what you forgot.
#
# ### BEGIN SOLUTION
# The cell below draws it.
#
# **Rubric.** 1 point: both stacks, sub-layers complete and in order (2 and 3), repeated $N$ times. 1 point: residual connections and normalisation around *each* sub-layer, drawn so that the path around it is visible. 1 point: the decoder: self-attention masked; cross-attention
# takes keys and values from the *top* of the encoder and queries from below. 1 point: the ends: embeddings plus positions on *both* sides, the target shifted right, linear and softmax on top. ½ for a part that is there but in the wrong place. What the learner marked afterwards in another colour
# counts half: finding it is part of the exercise.
# ### END SOLUTION

# %% tags=["picture"]
COLOURS = {"attention": "#F6C89F", "feed-forward": "#A9D3EC", "norm": "#F5EFA8", "embedding": "#EBC7DA", "end": "#B9E2D4"}


def draw_architecture():
    """The paper's Figure 1, drawn anew."""
    figure, axis = plt.subplots(figsize=(7.6, 9.6), layout="constrained")
    axis.set(xlim=(-0.9, 11.0), ylim=(-0.8, 14.0), aspect="equal")
    axis.axis("off")
    width, height = 2.7, 0.52

    def box(x, y, text, kind, tall=height):
        axis.add_patch(FancyBboxPatch((x - width / 2, y - tall / 2), width, tall, boxstyle="round,pad=0.02,rounding_size=0.1", facecolor=COLOURS[kind], edgecolor="#333333", zorder=3))
        axis.text(x, y, text, ha="center", va="center", fontsize=9.5, zorder=4, linespacing=1.1)

    def line(*points, head=True):
        xs, ys = zip(*points)
        if len(points) > 2:
            axis.plot(xs[:-1], ys[:-1], color="#333333", linewidth=1.1, zorder=2, solid_joinstyle="round")
        axis.add_patch(FancyArrowPatch(points[-2], points[-1], arrowstyle="-|>" if head else "-", mutation_scale=9, shrinkA=0, shrinkB=0, color="#333333", linewidth=1.1, zorder=2))

    def attention(x, y, text):
        """The box and its three inputs from below; returns the height at which they part."""
        box(x, y, text, "attention", tall=0.8)
        return y - 0.78

    def three_inputs(x, y, part):
        for offset in (-0.7, 0.0, 0.7):
            line((x, part), (x + offset, part), (x + offset, y - 0.42)) if offset else line((x, part), (x, y - 0.42))

    def around(x, start, norm, side):
        """The residual connection: from below the sub-layer to its Add & Norm."""
        far = x + side * (width / 2 + 0.42)
        line((x, start), (far, start), (far, norm), (x + side * (width / 2 + 0.04), norm))

    left, right = 2.4, 7.6
    stacks = [  # (x, label below, embedding, side of the residuals, [(text, kind, height of the sub-layer, height of its Add & Norm)])
        (left, "Inputs", "Input\nEmbedding", -1, [("Multi-Head\nAttention", 4.6), ("Feed\nForward", 6.9)]),
        (right, "Outputs\n(shifted right)", "Output\nEmbedding", 1, [("Masked Multi-Head\nAttention", 4.6), ("Multi-Head\nAttention", 7.2), ("Feed\nForward", 9.5)]),
    ]
    for x, below, embedding, side, parts in stacks:
        top = parts[-1][1] + 1.35
        axis.add_patch(FancyBboxPatch((x - 2.05, 3.15), 4.1, top - 3.15, boxstyle="round,pad=0.02,rounding_size=0.2", facecolor="#F4F4F4", edgecolor="#888888", zorder=0))
        axis.text(x + side * 2.42, (3.15 + top) / 2, "N×", ha="center", va="center", fontsize=13)
        axis.text(x, -0.05, below, ha="center", va="top", fontsize=9.5)
        box(x, 0.95, embedding, "embedding", tall=0.8)
        line((x, 0.0), (x, 0.53))
        axis.add_patch(plt.Circle((x, 2.1), 0.2, facecolor="white", edgecolor="#333333", zorder=3))
        axis.text(x, 2.09, "+", ha="center", va="center", fontsize=12, zorder=4)
        line((x, 1.37), (x, 1.9))
        axis.add_patch(plt.Circle((x + side * 1.15, 2.1), 0.26, facecolor="white", edgecolor="#333333", zorder=3))
        waves = [x + side * 1.15 - 0.2 + 0.4 * i / 40 for i in range(41)]
        axis.plot(waves, [2.1 + 0.13 * math.sin(2 * math.pi * i / 40) for i in range(41)], color="#333333", linewidth=1.1, zorder=4)
        line((x + side * 0.89, 2.1), (x + side * 0.2, 2.1))
        axis.text(x + side * 1.5, 2.1, "Positional\nEncoding", ha="left" if side > 0 else "right", va="center", fontsize=9.5)
        line((x, 2.3), (x, 3.42), head=False)
        previous = 3.42
        for text, y in parts:
            is_attention, cross = "Attention" in text, x == right and text == "Multi-Head\nAttention"
            norm = y + 0.85
            if is_attention:
                part = attention(x, y, text)
                if cross:
                    line((x, previous), (x, part - 0.14), (x + 0.7, part - 0.14), (x + 0.7, y - 0.42))
                    axis.text(x + 0.8, y - 0.66, "Q", fontsize=9, color=BLUE, va="center", weight="bold")
                else:
                    line((x, previous), (x, part), head=False)
                    three_inputs(x, y, part)
                    for offset, letter in ((-0.62, "K"), (0.08, "V"), (0.78, "Q")):
                        axis.text(x + offset, y - 0.6, letter, fontsize=8, color=BLUE, va="center")
            else:
                box(x, y, text, "feed-forward", tall=0.8)
                line((x, previous), (x, y - 0.42))
            around(x, (part - 0.14 if cross else part - 0.1) if is_attention else y - 0.72, norm, side)
            box(x, norm, "Add & Norm", "norm")
            line((x, y + 0.42), (x, norm - 0.28))
            previous = norm + 0.28
    # the memory: keys and values for the decoder's second attention
    top_left, cross = 6.9 + 0.85 + 0.28, 7.2
    line((left, top_left), (left, 8.75), (5.0, 8.75), (5.0, cross - 0.92), (right - 0.7, cross - 0.92), (right - 0.7, cross - 0.42))
    line((5.0, cross - 0.78), (right - 0.1, cross - 0.78), (right - 0.1, cross - 0.42))
    axis.text(right - 0.62, cross - 0.6, "K", fontsize=9, color=BLUE, va="center", weight="bold")
    axis.text(right - 0.02, cross - 0.6, "V", fontsize=9, color=BLUE, va="center", weight="bold")
    axis.text(left + 0.1, 8.95, "memory: keys and values", fontsize=9, color=BLUE, ha="left")
    line((right, previous), (right, 11.4 - 0.28))
    box(right, 11.4, "Linear", "end")
    line((right, 11.4 + 0.28), (right, 12.35 - 0.28))
    box(right, 12.35, "Softmax", "end")
    line((right, 12.35 + 0.28), (right, 13.1))
    axis.text(right, 13.2, "Output\nProbabilities", ha="center", va="bottom", fontsize=9.5)
    axis.text(left, 9.6, "Encoder", ha="center", fontsize=13, weight="bold", color="#555555")
    axis.text(5.15, 11.4, "Decoder", ha="center", fontsize=13, weight="bold", color="#555555")
    return figure


draw_architecture()
plt.show()

# %% [markdown]
# **What to see.** Follow the thin lines that leave the main path below a box and come back at "Add & Norm": on them a vector passes the whole stack without meeting a single layer. Three arrows enter each attention, queries, keys and
# values. Only in the decoder's second attention do they come from two places: the queries from below, keys and values from the *top* of the encoder, the same for all $N$ decoder layers.

# %% [markdown]
# ## Exercise 2 · `parameter_count`
#
# *Difficulty ●●○ · 20 minutes · 4 points*
#
# How large is the model? Every matrix and every bias can be counted from Figure 1 and section 3. $d_\text{model}$ is the width of the vectors that stand for words, $d_\text{ff}$ the width inside the feed-forward network, $h$ the number
# of heads, and the *output projection* is the last linear layer, which makes a score for every word of the vocabulary.
#
# | part | learned | numbers |
# | --- | --- | --- |
# | multi-head attention (3.2.2) | $W^Q, W^K, W^V, W^O$, with biases | the heads' matrices, side by side, are $d_\text{model} \times d_\text{model}$ |
# | feed-forward network (3.3) | $W_1, b_1, W_2, b_2$ | $d_\text{model} \times d_\text{ff}$ and back |
# | layer normalisation (3.1), one after every sub-layer | a scale and a shift | $d_\text{model}$ each |
# | embeddings and output projection (3.4) | one row for each word, no bias | three matrices, or one for all three if `tied` |
# | positional encoding (3.5) | nothing | |
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | biases of the attention | prints none in 3.2.2 | counts them | `nn.MultiheadAttention` has them, and so does week 3's model; they are less than 0.1 % |
# | last norm of each stack | none | none | `nn.Transformer` adds one: 4·$d_\text{model}$ more |
# | tied weights | one matrix, one vocabulary for both languages | an error if `tied` and the vocabularies differ | one matrix cannot have two heights |

# %% tags=["export"]
@dataclass(frozen=True)
class TransformerConfig:
    """The sizes of a Transformer. The defaults are the paper's base model with its 37,000 shared word pieces (section 5.1)."""

    N: int = 6
    d_model: int = 512
    h: int = 8
    d_ff: int = 2048
    src_vocab: int = 37_000
    tgt_vocab: int = 37_000
    tied: bool = True


# %% tags=["export"]
def parameter_count(config: TransformerConfig) -> int:
    """How many numbers the model learns, exactly.

    Biases everywhere but in the output projection; a LayerNorm after every sub-layer and none
    elsewhere (post-norm); d_model is divisible by h. tied: source embedding, target embedding and
    output projection are one matrix; ValueError if the vocabularies differ.
    """
    ### BEGIN SOLUTION
    d, d_ff = config.d_model, config.d_ff
    attention = 4 * (d * d + d)
    feed_forward = d * d_ff + d_ff + d_ff * d + d
    norm = 2 * d
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    if config.tied and config.src_vocab != config.tgt_vocab:
        raise ValueError(f"tied weights need one vocabulary for both languages, not {config.src_vocab} and {config.tgt_vocab} words")
    rows = config.src_vocab if config.tied else config.src_vocab + 2 * config.tgt_vocab
    return config.N * (encoder_layer + decoder_layer) + rows * d
    ### END SOLUTION


# %%
@check("parameter_count", points=4, paper="sections 3.1 to 3.4; Table 3")
def _(case):
    def count(name, *sizes):
        case.call(name, lambda: parameter_count(TransformerConfig(*sizes)), policy={"about": "count"})

    count("N = 1, d_model = 2, h = 1, d_ff = 3, 5 and 7 words", 1, 2, 1, 3, 5, 7, False)
    count("the same with d_ff = 4", 1, 2, 1, 4, 5, 7, False)
    count("the same with two heads", 1, 2, 2, 3, 5, 7, False)
    count("the same with two layers", 2, 2, 1, 3, 5, 7, False)
    count("the same with 6 and 7 words", 1, 2, 1, 3, 6, 7, False)
    count("the same with 5 and 9 words", 1, 2, 1, 3, 5, 9, False)
    count("N = 1, d_model = 4, h = 2, d_ff = 3, 6 words, tied", 1, 4, 2, 3, 6, 6, True)
    count("the same, not tied", 1, 4, 2, 3, 6, 6, False)
    count("the base model, 37,000 words, tied", 6, 512, 8, 2048, 37_000, 37_000, True)
    count("the big model, 37,000 words, tied", 6, 1024, 16, 4096, 37_000, 37_000, True)

    def refusal(*words):
        try:
            parameter_count(TransformerConfig(1, 2, 1, 3, *words, True))
        except ValueError:
            return "raises ValueError"
        except AssertionError:
            return "raises AssertionError"
        return "no error"

    case.call("tied, but 5 and 7 words", lambda: refusal(5, 7), policy={"about": "what happens"})
    case.call("tied, but 7 and 5 words", lambda: refusal(7, 5), policy={"about": "what happens"})
    ### BEGIN HIDDEN TESTS
    count("the base model, 31,000 and 29,000 words", 6, 512, 8, 2048, 31_000, 29_000, False)
    count("no layers", 0, 8, 2, 16, 10, 12, False)
    for number in range(1, 7):
        heads = case.integer(1, 9)
        sizes = case.integer(1, 13), heads * case.integer(1, 70), heads, case.integer(1, 3000)
        words = case.integer(2, 50_000), case.integer(2, 50_000)
        count(f"some configuration, {number}", *sizes, *words, False)
        count(f"some configuration, {number}, tied", *sizes, words[0], words[0], True)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "parameter_count",
    "Count one attention first. Do more heads make more parameters, if each head is d_model/h wide?",
    "Section 3.2.2 for the four matrices, equation 2 for the feed-forward network, 3.1 for the norms (one for each sub-layer: how many has a decoder layer?), 3.4 for what is shared.",
    "Attention: four square matrices with biases. Feed-forward: two matrices with biases. A norm: two vectors. An encoder layer has one attention, one feed-forward network, two norms; a decoder layer one attention and one norm more. "
    "Times N, plus the rows of embeddings and output projection times d_model.",
)
misconceptions(
    "parameter_count",
    mistake(
        "no biases in attention",
        ("4 * (d * d + d)", "4 * d * d"),
        says="The four projections of the attention are counted without their biases.",
    ),
    mistake(
        "no output projection of the heads",
        ("4 * (d * d + d)", "3 * (d * d + d)"),
        says="Attention is counted with three matrices; there is a fourth, W^O, which mixes the heads.",
    ),
    mistake(
        "every head as wide as the model",
        ("4 * (d * d + d)", "config.h * 3 * (d * d + d) + config.h * d * d + d"),
        says="Every head is counted with matrices d_model × d_model; a head is only d_model/h wide, so that h heads together cost as much as one.",
    ),
    mistake(
        "attention without output projection and biases",
        ("4 * (d * d + d)", "3 * d * d"),
        says="Attention is counted with three matrices and no biases; there are four projections, W^O being the fourth, and each has a bias.",
    ),
    mistake(
        "no biases in the feed-forward network",
        ("d * d_ff + d_ff + d_ff * d + d", "2 * d * d_ff"),
        says="The feed-forward network is counted without b₁ and b₂.",
    ),
    mistake(
        "no first bias in the feed-forward network",
        ("d * d_ff + d_ff + d_ff * d + d", "d * d_ff + d_ff * d + d"),
        says="The feed-forward network is counted without b₁, which has d_ff numbers (b₂ is there).",
    ),
    mistake(
        "feed-forward biases both d_model",
        ("d * d_ff + d_ff + d_ff * d + d", "2 * (d * d_ff + d)"),
        says="Both biases of the feed-forward network are counted with d_model numbers; b₁ has d_ff, one for each hidden unit.",
    ),
    mistake(
        "half a feed-forward network",
        ("d * d_ff + d_ff + d_ff * d + d", "d * d_ff + d_ff"),
        says="Only the first layer of the feed-forward network is counted; there is a second one, back to d_model.",
    ),
    mistake(
        "d_ff taken for 4·d_model",
        ("d_ff = config.d_model, config.d_ff", "d_ff = config.d_model, 4 * config.d_model"),
        says="d_ff is taken to be 4·d_model, as in the paper's models; the configuration says what it is.",
    ),
    mistake(
        "no norms",
        ("norm = 2 * d", "norm = 0"),
        says="The layer normalisations are not counted; each has a scale and a shift, d_model numbers each.",
    ),
    mistake(
        "norms with one vector",
        ("norm = 2 * d", "norm = d"),
        says="A layer normalisation is counted with d_model numbers; it has a scale *and* a shift.",
    ),
    mistake(
        "two norms in the decoder",
        ("3 * norm", "2 * norm"),
        says="A decoder layer is counted with two norms; it has three sub-layers, and a norm after each. (If yours has three, b₂ of the feed-forward networks is missing: in all, as many numbers.)",
    ),
    mistake(
        "one norm a layer",
        ("feed_forward + 2 * norm", "feed_forward + norm"),
        ("3 * norm", "norm"),
        says="One norm is counted in each layer; there is one after every sub-layer, so two in the encoder's and three in the decoder's.",
    ),
    mistake(
        "no cross-attention",
        ("2 * attention", "attention"),
        says="A decoder layer is counted with one attention; it has two, to itself and to the encoder.",
    ),
    mistake(
        "the decoder as the encoder",
        ("2 * attention + feed_forward + 3 * norm", "attention + feed_forward + 2 * norm"),
        says="A decoder layer is counted like an encoder layer; it has a second attention and a third norm.",
    ),
    mistake(
        "last norms of the stacks",
        ("+ rows * d", "+ rows * d + 2 * norm"),
        says="A last norm is counted for each stack, as in nn.Transformer; in post-norm, as the paper has it, there is none.",
    ),
    mistake(
        "a bias in the output projection",
        ("+ rows * d", "+ rows * d + config.tgt_vocab"),
        says="The output projection is counted with a bias; it has none, as it can be the same matrix as the embeddings.",
    ),
    mistake(
        "output projection always shared",
        ("config.src_vocab + 2 * config.tgt_vocab", "config.src_vocab + config.tgt_vocab"),
        says="Without tying, the output projection is not counted; it is a third matrix, as high as the target's vocabulary.",
    ),
    mistake(
        "output projection of the source's vocabulary",
        ("config.src_vocab + 2 * config.tgt_vocab", "2 * config.src_vocab + config.tgt_vocab"),
        says="The output projection is counted with the source's vocabulary; it predicts target words.",
    ),
    mistake(
        "tied means nothing",
        ("config.src_vocab if config.tied else config.src_vocab + 2 * config.tgt_vocab", "config.src_vocab + 2 * config.tgt_vocab"),
        says="With tied weights three matrices are counted; they are one.",
    ),
    mistake(
        "always tied",
        ("config.src_vocab if config.tied else config.src_vocab + 2 * config.tgt_vocab", "config.src_vocab"),
        says="One matrix is counted for embeddings and output projection whether they are tied or not; untied there are three.",
    ),
    mistake(
        "tied two ways",
        ("config.src_vocab if config.tied", "2 * config.src_vocab if config.tied"),
        says="With tied weights two matrices are counted; section 3.4 shares one matrix three ways.",
    ),
    mistake(
        "no error for two vocabularies",
        ("config.tied and config.src_vocab != config.tgt_vocab", "False"),
        says="Tied weights with two vocabularies of different sizes are counted without complaint; one matrix cannot serve both, so that is an error.",
    ),
    mistake(
        "an assertion instead of ValueError",
        ("        raise ValueError(f", "        raise AssertionError(f"),
        says="Two vocabularies that cannot be tied fail an assertion; a ValueError is asked for. Assertions are for one's own slips, and Python can be told to skip them.",
    ),
    mistake(
        "encoder only",
        ("(encoder_layer + decoder_layer)", "encoder_layer"),
        says="The decoder's layers are not counted.",
    ),
    mistake(
        "one layer of each",
        ("config.N * (encoder_layer + decoder_layer)", "(encoder_layer + decoder_layer)"),
        says="One layer of each stack is counted; there are N, each with weights of its own.",
    ),
    mistake(
        "learned positions",
        ("+ rows * d", "+ (rows + 512) * d"),
        says="The positions are counted as if they were learned; the sinusoids are a formula with nothing to learn.",
    ),
    mistake(
        "in millions",
        ("return config.N * (encoder_layer + decoder_layer) + rows * d", "return (config.N * (encoder_layer + decoder_layer) + rows * d) / 1e6"),
        says="The count is given in millions; the exact number is asked for.",
    ),
)


# %% tags=["alternative"]
@alternative("a list of shapes, multiplied out")
def parameter_count(config):
    d, f = config.d_model, config.d_ff
    attention = [(d, d), (d,)] * 4
    feed_forward = [(d, f), (f,), (f, d), (d,)]
    norm = [(d,), (d,)]
    encoder = attention + norm + feed_forward + norm
    decoder = attention + norm + attention + norm + feed_forward + norm
    if config.tied:
        if config.src_vocab != config.tgt_vocab:
            raise ValueError("tied weights need equal vocabularies")
        words = [(config.src_vocab, d)]
    else:
        words = [(config.src_vocab, d), (config.tgt_vocab, d), (d, config.tgt_vocab)]
    return sum(math.prod(shape) for shape in config.N * (encoder + decoder) + words)


# %% tags=["alternative"]
@alternative("head by head")
def parameter_count(config):
    N, d, h, f = config.N, config.d_model, config.h, config.d_ff
    d_k = d // h
    one_head = 3 * (d * d_k + d_k)
    attention = h * one_head + h * d_k * d + d
    ffn = (d + 1) * f + (f + 1) * d
    total = 0
    for _ in range(N):
        total += attention + ffn + 2 * 2 * d
        total += 2 * attention + ffn + 3 * 2 * d
    if not config.tied:
        return total + d * (config.src_vocab + config.tgt_vocab) + config.tgt_vocab * d
    if config.src_vocab != config.tgt_vocab:
        raise ValueError("one matrix needs one vocabulary")
    return total + d * config.tgt_vocab


# %% tags=["alternative"]
@alternative("one polynomial")
def parameter_count(config):
    if config.tied and config.src_vocab - config.tgt_vocab:
        raise ValueError("vocabularies differ")
    d, f = config.d_model, config.d_ff
    rows = (config.src_vocab, config.src_vocab + 2 * config.tgt_vocab)[not config.tied]
    return config.N * (12 * d**2 + 4 * d * f + 24 * d + 2 * f) + rows * d


# %% tags=["alternative"]
@alternative("counted by torch, on no device at all")
def parameter_count(config):
    from torch import nn

    if config.tied and config.src_vocab != config.tgt_vocab:
        raise ValueError("vocabularies differ")
    layer = {"d_model": config.d_model, "nhead": config.h, "dim_feedforward": config.d_ff, "device": "meta"}
    sizes = [sum(p.numel() for p in kind(**layer).parameters()) for kind in (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)]
    words = config.src_vocab + (0 if config.tied else 2 * config.tgt_vocab)
    return config.N * sum(sizes) + words * config.d_model


# %% [markdown]
# ### Try it: what are the paper's 65 million made of?
#
# Table 3 gives the base model 65 million parameters and the big one 213 million. Section 5.1 speaks of "a shared source-target vocabulary of about 37,000 tokens". Do the numbers fit? The table lists more models, which differ in one size each: for every one we can turn the
# question round and compute the vocabulary that would give the printed number. Since that is rounded to a million, the answer is a range.

# %% tags=["picture"]
printed = {  # Table 3: sizes that differ from the base model's, and parameters in millions
    "base": ({}, 65), "N = 2": ({"N": 2}, 36), "N = 4": ({"N": 4}, 50), "N = 8": ({"N": 8}, 80),
    r"$d_\mathrm{model}$ = 256": ({"d_model": 256}, 28), r"$d_\mathrm{model}$ = 1024": ({"d_model": 1024}, 168),
    r"$d_\mathrm{ff}$ = 1024": ({"d_ff": 1024}, 53), r"$d_\mathrm{ff}$ = 4096": ({"d_ff": 4096}, 90),
    "big": ({"d_model": 1024, "d_ff": 4096, "h": 16}, 213),
}  # fmt: skip
figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
ranges = {}
for row, (name, (sizes, millions)) in enumerate(printed.items()):
    layers = parameter_count(TransformerConfig(**sizes, src_vocab=0, tgt_vocab=0))
    width = sizes.get("d_model", 512)
    ranges[name] = [(1e6 * (millions + half) - layers) / width for half in (-0.5, 0.5)]
    axis.plot(ranges[name], [row, row], color=ORANGE if name == "big" else BLUE, linewidth=7, solid_capstyle="butt")
    axis.text(45_200, row, f"{millions} M printed, {parameter_count(TransformerConfig(**sizes)) / 1e6:.1f} M with 37,000", va="center", fontsize=8.5)
low = max(a for name, (a, _) in ranges.items() if name != "big")
high = min(b for name, (_, b) in ranges.items() if name != "big")
axis.axvspan(low, high, color=BLUE, alpha=0.18)
axis.axvline(37_000, color=GREY, linestyle="--")
axis.text(36_950, -0.75, "37,000 (section 5.1)", color="#666666", ha="right", va="center", fontsize=8.5)
axis.set(title="Which shared vocabulary gives the number that Table 3 prints?", xlabel="words in the vocabulary", ylim=(len(printed) - 0.4, -1.3), xlim=(32_000, 45_000))
axis.set_yticks(range(len(printed)), printed)
axis.set_xticks(range(32_000, 46_000, 4_000), [f"{n:,}" for n in range(32_000, 46_000, 4_000)])
axis.spines[["top", "right"]].set_visible(False)
axis.grid(axis="x", alpha=0.3)
plt.show()
print(f"the eight models of base size agree on {low:,.0f} to {high:,.0f} words; the big one alone on {ranges['big'][0]:,.0f} to {ranges['big'][1]:,.0f}")
base, big = parameter_count(TransformerConfig()), parameter_count(TransformerConfig(d_model=1024, d_ff=4096, h=16))
print(f"exact, with 37,000 tied words: base {base:,}, big {big:,}; base with 41,000: {parameter_count(TransformerConfig(src_vocab=41_000, tgt_vocab=41_000)):,}")

# %% [markdown]
# **What to see.** With the 37,000 tied words of section 5.1 the base model has 63.1 million parameters, not 65, and the big one 214.2, not 213. No single vocabulary gives both printed numbers: the base model needs about 40,700 and the big one about 35,800. But all eight models of base size agree on
# about 41,000 (the shaded strip), so *about* 37,000 may have meant that in those runs; or the authors counted something else that grows with $d_\text{model}$. The paper does not say. What the formula does show for certain: untied, the base model would have 101 million parameters, so one matrix shared three ways it must have been.

# %% [markdown]
# ## Exercise 3 · `trace_shapes`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Most errors in building a Transformer are errors of shape, and the worst are those where a wrong shape fits. So write the shapes down before building anything. With a batch of $B$ pairs, sources of $S$ and targets of $T$ tokens:
# each head has queries and keys of width $d_k = d_\text{model}/h$, and one weight for every pair of a query and a key. The *memory* is what the encoder hands to the decoder.

# %% tags=["export"]
def trace_shapes(
    config: TransformerConfig, batch: int, src_len: int, tgt_len: int,
) -> dict[str, tuple[int, ...]]:
    """The shape of everything that flows through the model: batch first, then heads where there are
    any, then positions, then width.

    Returns: a dictionary with the keys "source tokens", "source vectors", "encoder queries",
        "encoder weights", "encoder hidden", "memory", "target tokens", "target vectors", "decoder
        weights", "cross queries", "cross keys", "cross weights", "decoder output", "logits".

        Tokens are numbers, one for each word; vectors are embedded words; queries and keys are
        those of all heads, split; weights are attention weights, one row for each query; "encoder
        hidden" is inside the feed-forward network; "decoder weights" are those of the decoder's
        self-attention; "cross …" belongs to cross-attention.
    """
    ### BEGIN SOLUTION
    B, S, T, d, h = batch, src_len, tgt_len, config.d_model, config.h
    d_k = d // h
    return {
        "source tokens": (B, S),
        "source vectors": (B, S, d),
        "encoder queries": (B, h, S, d_k),
        "encoder weights": (B, h, S, S),
        "encoder hidden": (B, S, config.d_ff),
        "memory": (B, S, d),
        "target tokens": (B, T),
        "target vectors": (B, T, d),
        "decoder weights": (B, h, T, T),
        "cross queries": (B, h, T, d_k),
        "cross keys": (B, h, S, d_k),
        "cross weights": (B, h, T, S),
        "decoder output": (B, T, d),
        "logits": (B, T, config.tgt_vocab),
    }
    ### END SOLUTION


# %%
@check("trace_shapes", points=3, paper="Figure 1; sections 3.1 to 3.4")
def _(case):
    def trace(name, config, *sizes):
        shapes = trace_shapes(config, *sizes)
        written = {key: str(tuple(float(n) if isinstance(n, float) else int(n) for n in shapes[key])) for key in shapes} if isinstance(shapes, dict) else shapes
        case.record(name, written, about="shape of")

    small = TransformerConfig(2, 12, 3, 20, 50, 60, False)
    trace("2 pairs, 5 source and 7 target tokens; d_model = 12, h = 3, d_ff = 20, 50 and 60 words", small, 2, 5, 7)
    trace("the base model, 32 pairs, 25 source and 27 target tokens", TransformerConfig(), 32, 25, 27)
    ### BEGIN HIDDEN TESTS
    trace("one pair of one token each", small, 1, 1, 1)
    trace("one head", TransformerConfig(1, 6, 1, 4, 9, 8, False), 3, 4, 2)
    heads = case.integer(2, 9)
    config = TransformerConfig(4, heads * case.integer(2, 20), heads, case.integer(30, 500), case.integer(100, 900), case.integer(100, 900), False)
    trace("some configuration", config, case.integer(2, 40), case.integer(2, 30), case.integer(31, 60))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "trace_shapes",
    "An attention has one weight for each pair of a query and a key. In cross-attention, who asks, and who is asked?",
    "Section 3.2.2: d_k = d_model / h. Section 3.2.3: queries of encoder-decoder attention come from the decoder, keys from the encoder's output.",
    "Tokens (B, length); vectors and outputs of each block (B, length, d_model); inside the feed-forward network d_ff wide; split into heads (B, h, length, d_k); weights (B, h, queries, keys); logits as wide as the target's vocabulary.",
)
misconceptions(
    "trace_shapes",
    mistake(
        "cross weights transposed",
        ('"cross weights": (B, h, T, S)', '"cross weights": (B, h, S, T)'),
        says="The weights of cross-attention are (B, h, S, T); rows are queries, which come from the target: (B, h, T, S).",
    ),
    mistake(
        "cross weights square",
        ('"cross weights": (B, h, T, S)', '"cross weights": (B, h, T, T)'),
        says="The weights of cross-attention are (B, h, T, T); its keys come from the source, so there are S columns.",
    ),
    mistake(
        "source asks in cross-attention",
        ('"cross queries": (B, h, T, d_k)', '"cross queries": (B, h, S, d_k)'),
        ('"cross keys": (B, h, S, d_k)', '"cross keys": (B, h, T, d_k)'),
        ('"cross weights": (B, h, T, S)', '"cross weights": (B, h, S, T)'),
        says="In cross-attention the source asks and the target is asked; it is the other way round: queries from the target, keys from the memory.",
    ),
    mistake(
        "keys from the target",
        ('"cross keys": (B, h, S, d_k)', '"cross keys": (B, h, T, d_k)'),
        says="The keys of cross-attention have T positions; they come from the memory, which has S.",
    ),
    mistake(
        "heads as wide as the model",
        ("d_k = d // h", "d_k = d"),
        says="Queries and keys of each head are d_model wide; the heads share that width, d_k = d_model / h each.",
    ),
    mistake(
        "a width that is no integer",
        ("d_k = d // h", "d_k = d / h"),
        says="The width of the heads is a floating-point number (4.0), and no tensor has such a shape; divide with //.",
    ),
    mistake(
        "heads behind the positions",
        ('"encoder queries": (B, h, S, d_k)', '"encoder queries": (B, S, h, d_k)'),
        ('"cross queries": (B, h, T, d_k)', '"cross queries": (B, T, h, d_k)'),
        ('"cross keys": (B, h, S, d_k)', '"cross keys": (B, S, h, d_k)'),
        says="The heads' axis stands behind the positions; it comes right after the batch, so that each head's matrix of positions and widths is whole.",
    ),
    mistake(
        "weights without heads",
        ('"encoder weights": (B, h, S, S)', '"encoder weights": (B, S, S)'),
        ('"decoder weights": (B, h, T, T)', '"decoder weights": (B, T, T)'),
        ('"cross weights": (B, h, T, S)', '"cross weights": (B, T, S)'),
        says="The weights have no axis for the heads; every head has weights of its own.",
    ),
    mistake(
        "weights as wide as vectors",
        ('"encoder weights": (B, h, S, S)', '"encoder weights": (B, h, S, d_k)'),
        ('"decoder weights": (B, h, T, T)', '"decoder weights": (B, h, T, d_k)'),
        ('"cross weights": (B, h, T, S)', '"cross weights": (B, h, T, d_k)'),
        says="The weights are d_k wide; there is one weight for every key, so the last axis counts positions.",
    ),
    mistake(
        "memory as long as the target",
        ('"memory": (B, S, d)', '"memory": (B, T, d)'),
        says="The memory has T positions; it is what the encoder made of the source, one vector for each of its S tokens.",
    ),
    mistake(
        "one vector for the whole source",
        ('"memory": (B, S, d)', '"memory": (B, d)'),
        says="The memory is one vector for the whole sentence, as in the first recurrent translators; the Transformer keeps one for each source token.",
    ),
    mistake(
        "logits of the source's vocabulary",
        ("config.tgt_vocab", "config.src_vocab"),
        says="The logits are as wide as the source's vocabulary; target words are predicted.",
    ),
    mistake(
        "one word's logits",
        ('"logits": (B, T, config.tgt_vocab)', '"logits": (B, config.tgt_vocab)'),
        says="Only one position has logits; the model predicts the next word at every one of the T positions.",
    ),
    mistake(
        "logits as wide as the model",
        ('"logits": (B, T, config.tgt_vocab)', '"logits": (B, T, d)'),
        says="The logits are d_model wide; the output projection brings them to one number for each word of the target's vocabulary.",
    ),
    mistake(
        "hidden layer as wide as the model",
        ('"encoder hidden": (B, S, config.d_ff)', '"encoder hidden": (B, S, d)'),
        says="Inside the feed-forward network vectors are d_model wide; there they are d_ff wide.",
    ),
    mistake(
        "embedded tokens",
        ('"source tokens": (B, S)', '"source tokens": (B, S, d)'),
        ('"target tokens": (B, T)', '"target tokens": (B, T, d)'),
        says="The tokens have vectors already; they are plain numbers, (B, length), and become vectors in the embedding.",
    ),
    mistake(
        "length first",
        ('"source tokens": (B, S)', '"source tokens": (S, B)'),
        ('"source vectors": (B, S, d)', '"source vectors": (S, B, d)'),
        ('"memory": (B, S, d)', '"memory": (S, B, d)'),
        ('"target tokens": (B, T)', '"target tokens": (T, B)'),
        ('"target vectors": (B, T, d)', '"target vectors": (T, B, d)'),
        ('"decoder output": (B, T, d)', '"decoder output": (T, B, d)'),
        says="The length comes before the batch (the default of nn.Transformer); in this course the batch comes first.",
    ),
    mistake(
        "source and target lengths exchanged",
        ("batch, src_len, tgt_len,", "batch, tgt_len, src_len,"),
        says="Source and target lengths are exchanged throughout.",
    ),
)


# %% tags=["alternative"]
@alternative("filled in step by step")
def trace_shapes(config, batch, src_len, tgt_len):
    d, h = config.d_model, config.h
    shapes = {}
    for side, length in (("source", src_len), ("target", tgt_len)):
        shapes[f"{side} tokens"] = (batch, length)
        shapes[f"{side} vectors"] = (batch, length, d)

    def split(length):
        return batch, h, length, d // h

    shapes["encoder queries"] = shapes["cross keys"] = split(src_len)
    shapes["cross queries"] = split(tgt_len)
    for name, queries, keys in (("encoder", src_len, src_len), ("decoder", tgt_len, tgt_len), ("cross", tgt_len, src_len)):
        shapes[f"{name} weights"] = (batch, h, queries, keys)
    shapes["memory"] = shapes["source vectors"]
    shapes["encoder hidden"] = (batch, src_len, config.d_ff)
    shapes["decoder output"] = shapes["target vectors"]
    shapes["logits"] = (batch, tgt_len, config.tgt_vocab)
    return shapes


# %% tags=["alternative"]
@alternative("lists instead of tuples, dict()")
def trace_shapes(config, batch, src_len, tgt_len):
    names = dict(B=batch, S=src_len, T=tgt_len, d=config.d_model, h=config.h, k=int(config.d_model / config.h), f=config.d_ff, V=config.tgt_vocab)
    plan = {
        "source tokens": "BS", "source vectors": "BSd", "encoder queries": "BhSk", "encoder weights": "BhSS", "encoder hidden": "BSf", "memory": "BSd",
        "target tokens": "BT", "target vectors": "BTd", "decoder weights": "BhTT", "cross queries": "BhTk", "cross keys": "BhSk", "cross weights": "BhTS",
        "decoder output": "BTd", "logits": "BTV",
    }  # fmt: skip
    return {key: [names[letter] for letter in letters] for key, letters in plan.items()}


# %% tags=["alternative"]
@alternative("measured on tensors without memory")
def trace_shapes(config, batch, src_len, tgt_len):
    import torch

    def vectors(length, width=config.d_model):
        return torch.empty(batch, length, width, device="meta")

    def heads(x):
        return x.unflatten(-1, (config.h, -1)).transpose(1, 2)

    x, y = vectors(src_len), vectors(tgt_len)
    q, k, own = heads(y), heads(x), heads(x)
    found = {
        "source tokens": x[..., 0], "source vectors": x, "encoder queries": own, "encoder weights": own @ own.mT, "memory": x,
        "encoder hidden": vectors(src_len, config.d_ff), "target tokens": y[..., 0], "target vectors": y, "decoder weights": q @ q.mT,
        "cross queries": q, "cross keys": k, "cross weights": q @ k.mT, "decoder output": y, "logits": vectors(tgt_len, config.tgt_vocab),
    }  # fmt: skip
    return {key: value.shape for key, value in found.items()}


# %% tags=["alternative"]
@alternative("zip of names and shapes")
def trace_shapes(config, batch, src_len, tgt_len):
    src, tgt, split = (batch, src_len), (batch, tgt_len), (batch, config.h)
    width, d_k = (config.d_model,), (config.d_model // config.h,)
    keys = ["source tokens", "source vectors", "encoder queries", "encoder weights", "encoder hidden", "memory", "target tokens", "target vectors"]
    values = [src, src + width, split + (src_len,) + d_k, split + (src_len,) * 2, src + (config.d_ff,), src + width, tgt, tgt + width]
    keys += ["decoder weights", "cross queries", "cross keys", "cross weights", "decoder output", "logits"]
    values += [split + (tgt_len,) * 2, split + (tgt_len,) + d_k, split + (src_len,) + d_k, split + (tgt_len, src_len), tgt + width, tgt + (config.tgt_vocab,)]
    return dict(zip(keys, values))


# %% [markdown]
# ## What it costs, and what it buys: Table 1
#
# Section 4 compares four ways to get from $n$ vectors of width $d$ to $n$ others, by three measures:
#
# - *complexity*: the arithmetic of one layer;
# - *sequential operations*: how many steps have to wait for each other, however much hardware there is;
# - *maximum path length*: how many steps a signal travels between the two positions that are farthest apart. The shorter, the easier to learn what belongs together.
#
# | kind | in the code |
# | --- | --- |
# | self-attention: everyone looks at everyone | `"self-attention"` |
# | a recurrent network: one position after the other | `"recurrent"` |
# | a convolution: a window of $k$ positions; layers are stacked and their windows *dilated* (with gaps that grow from layer to layer) to reach farther | `"convolutional"` |
# | self-attention restricted to the $r$ nearest positions | `"restricted"` |
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | orders of growth | $O(n^2 \cdot d)$: "grows like $n^2 d$", and so on | the leading term as a number, with the constant 1 | numbers can be compared and drawn |
# | $\log_k n$ and $n/r$ | as they are | rounded up | there is no half layer |

# %% [markdown]
# ## Exercise 4 · `layer_complexity`
#
# *Difficulty ●○○ · 5 minutes · 1 point*

# %% tags=["export"]
def layer_complexity(kind: str, n: int, d: int, k: int = 3, r: int = 16) -> float:
    """Table 1, "Complexity per Layer": the leading term, as a number.

    Args:
        kind: "self-attention", "recurrent", "convolutional" or "restricted".
        n: length of the sequence. d: width of the vectors. k: window of the convolution. r:
            neighbourhood of restricted self-attention.
    """
    ### BEGIN SOLUTION
    if kind == "self-attention":
        return n * n * d
    if kind == "recurrent":
        return n * d * d
    if kind == "convolutional":
        return k * n * d * d
    return r * n * d
    ### END SOLUTION


# %%
@check("layer_complexity", points=1, paper="section 4, Table 1")
def _(case):
    for kind in ("self-attention", "recurrent", "convolutional", "restricted"):
        case.record(f"{kind}: n = 10, d = 4, k = 3, r = 5", float(layer_complexity(kind, 10, 4, 3, 5)))
        case.record(f"{kind}: n = 50, d = 512, the usual k and r", float(layer_complexity(kind, 50, 512)))
    ### BEGIN HIDDEN TESTS
    for kind in ("self-attention", "recurrent", "convolutional", "restricted"):
        n, d, k, r = case.integer(20, 900), case.integer(8, 700), case.integer(2, 9), case.integer(4, 19)
        case.record(f"{kind}: some sizes", float(layer_complexity(kind, n, d, k=k, r=r)))
        case.record(f"{kind}: some sizes, the usual k and r", float(layer_complexity(kind=kind, n=n, d=d)))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "layer_complexity",
    "How many pairs of positions does self-attention compare, and how many multiplications does one comparison take? And one step of a recurrent network: how large is its matrix?",
    "Table 1, second column; the sentence below it says what n, d, k and r are.",
    "Self-attention: every pair of positions, d each. Recurrent: every position, a d by d matrix. Convolution: the same for each of the k places of its window. Restricted: every position with its r neighbours, d each.",
)
misconceptions(
    "layer_complexity",
    mistake(
        "attention and recurrence exchanged",
        ("return n * n * d\n", "return n * d * d\n"),
        ('return n * d * d\n    if kind == "conv', 'return n * n * d\n    if kind == "conv'),
        says="Self-attention and recurrence are exchanged: comparing all pairs costs n²·d, a matrix at every position n·d².",
    ),
    mistake(
        "attention linear in n",
        ("return n * n * d", "return n * d"),
        says="Self-attention is counted with n·d; it compares every position with every other, n²·d.",
    ),
    mistake(
        "attention with d squared",
        ("return n * n * d", "return n * n * d * d"),
        says="Self-attention is counted with n²·d²; one comparison is a dot product of d multiplications.",
    ),
    mistake(
        "recurrence linear in d",
        ("return n * d * d\n    if kind == \"conv", "return n * d\n    if kind == \"conv"),
        says="Recurrence is counted with n·d; each step multiplies with a d × d matrix.",
    ),
    mistake(
        "convolution without its window",
        ("return k * n * d * d", "return n * d * d"),
        says="The convolution is counted without its window; there is a d × d matrix for each of its k places.",
    ),
    mistake(
        "separable convolution",
        ("return k * n * d * d", "return k * n * d + n * d * d"),
        says="This is the separable convolution, k·n·d + n·d², which section 4 mentions beside the table; Table 1 has k·n·d².",
    ),
    mistake(
        "window squared",
        ("return k * n * d * d", "return k * k * n * d * d"),
        says="The window is squared, as for images; a sentence has one dimension: k·n·d².",
    ),
    mistake(
        "restricted without n",
        ("return r * n * d", "return r * r * d"),
        says="Restricted self-attention is counted with r²·d; each of the n positions looks at r neighbours.",
    ),
    mistake(
        "restricted to nothing",
        ("return r * n * d", "return n * n * d"),
        says="Restricted self-attention is counted like the unrestricted one; each position looks at r neighbours only.",
    ),
    mistake(
        "k and r exchanged",
        ("return k * n * d * d", "return r * n * d * d"),
        ("return r * n * d\n", "return k * n * d\n"),
        says="k and r are exchanged: k is the convolution's window, r the neighbourhood of restricted self-attention.",
    ),
)


# %% tags=["alternative"]
@alternative("a dictionary")
def layer_complexity(kind, n, d, k=3, r=16):
    return {"self-attention": n**2 * d, "recurrent": n * d**2, "convolutional": k * n * d**2, "restricted": r * n * d}[kind]


# %% tags=["alternative"]
@alternative("neighbours times cost, floating point")
def layer_complexity(kind, n, d, k=3, r=16):
    if kind in ("self-attention", "restricted"):
        return float(n) * (n if kind == "self-attention" else r) * d
    return 1.0 * n * (k if kind == "convolutional" else 1) * d**2


# %% tags=["alternative"]
@alternative("lambdas")
def layer_complexity(kind, n, d, k=3, r=16):
    table = {"self-attention": lambda: n * n * d, "recurrent": lambda: n * d * d, "convolutional": lambda: k * n * d * d, "restricted": lambda: r * n * d}
    return table[kind]()


# %% tags=["alternative"]
@alternative("match")
def layer_complexity(kind, n, d, k=3, r=16):
    match kind:
        case "self-attention":
            return pow(n, 2) * d
        case "recurrent":
            return n * pow(d, 2)
        case "convolutional":
            return k * n * pow(d, 2)
        case "restricted":
            return r * n * d
        case _:
            raise ValueError(kind)


# %% [markdown]
# ## Exercise 5 · `sequential_operations`
#
# *Difficulty ●○○ · 5 minutes · 1 point*

# %% tags=["export"]
def sequential_operations(kind: str, n: int, d: int, k: int = 3, r: int = 16) -> float:
    """Table 1, "Sequential Operations": how many steps have to wait for each other, as a number.
    Arguments as of `layer_complexity`."""
    ### BEGIN SOLUTION
    return n if kind == "recurrent" else 1
    ### END SOLUTION


# %%
@check("sequential_operations", points=1, paper="section 4, Table 1")
def _(case):
    for kind in ("self-attention", "recurrent", "convolutional", "restricted"):
        case.record(f"{kind}: n = 10, d = 4, k = 3, r = 5", float(sequential_operations(kind, 10, 4, 3, 5)))
        case.record(f"{kind}: n = 50, d = 512, the usual k and r", float(sequential_operations(kind, 50, 512)))
    ### BEGIN HIDDEN TESTS
    for kind in ("self-attention", "recurrent", "convolutional", "restricted"):
        n, d, k, r = case.integer(20, 900), case.integer(8, 700), case.integer(2, 9), case.integer(4, 19)
        case.record(f"{kind}: some sizes", float(sequential_operations(kind, n, d, k=k, r=r)))
        case.record(f"{kind}: some sizes, the usual k and r", float(sequential_operations(kind=kind, n=n, d=d)))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "sequential_operations",
    "With as many processors as you like: which of the four still has to wait for its own last result?",
    "Table 1, third column. Section 1 says what is wrong with recurrence: “This inherently sequential nature precludes parallelization within training examples”.",
    "Only the recurrent network has to go through the positions one after another. The other three do all positions at once: one step.",
)
misconceptions(
    "sequential_operations",
    mistake(
        "always one",
        ('n if kind == "recurrent" else 1', "1"),
        says="Everything takes one step; a recurrent network needs the state of position 5 before it can do position 6: n steps.",
    ),
    mistake(
        "always n",
        ('n if kind == "recurrent" else 1', "n"),
        says="Everything takes n steps; only the recurrent network has to wait for itself.",
    ),
    mistake(
        "attention waits too",
        ('kind == "recurrent"', 'kind in ("recurrent", "self-attention")'),
        says="Self-attention takes n steps; all its comparisons can be done at once.",
    ),
    mistake(
        "convolution waits for its layers",
        ('n if kind == "recurrent" else 1', 'n if kind == "recurrent" else -(-n // k) if kind == "convolutional" else 1'),
        says="The convolution takes n/k steps; all its windows can be worked on at once.",
    ),
    mistake(
        "restricted attention waits",
        ('n if kind == "recurrent" else 1', 'n if kind == "recurrent" else -(-n // r) if kind == "restricted" else 1'),
        says="Restricted self-attention takes n/r steps; that is its path length. All its comparisons can be done at once.",
    ),
    mistake(
        "complexity instead",
        ('n if kind == "recurrent" else 1', '{"self-attention": n * n * d, "recurrent": n * d * d, "convolutional": k * n * d * d}.get(kind, r * n * d)'),
        says="This is the arithmetic of the layer; asked for is how much of it has to wait for each other.",
    ),
    mistake(
        "n times d",
        ("return n if", "return n * d if"),
        says="Recurrence takes n·d steps; the d numbers of a step can be computed at once, so it is n.",
    ),
)


# %% tags=["alternative"]
@alternative("a dictionary")
def sequential_operations(kind, n, d, k=3, r=16):
    return {"self-attention": 1, "recurrent": n, "convolutional": 1, "restricted": 1}[kind]


# %% tags=["alternative"]
@alternative("a power")
def sequential_operations(kind, n, d, k=3, r=16):
    return n ** (kind == "recurrent")


# %% tags=["alternative"]
@alternative("if and else, floating point")
def sequential_operations(kind, n, d, k=3, r=16):
    if kind != "recurrent":
        return 1.0
    return float(n)


# %% tags=["alternative"]
@alternative("a membership test")
def sequential_operations(kind, n, d, k=3, r=16):
    parallel = {"self-attention", "convolutional", "restricted"}
    return 1 if kind in parallel else n


# %% [markdown]
# ## Exercise 6 · `maximum_path_length`
#
# *Difficulty ●○○ · 10 minutes · 1 point*

# %% tags=["export"]
def maximum_path_length(kind: str, n: int, d: int, k: int = 3, r: int = 16) -> float:
    """Table 1, "Maximum Path Length": steps between the two positions farthest apart, as a whole
    number. Arguments as of `layer_complexity`; n ≥ 2.

    The convolution is dilated, ⌈log_k n⌉; restricted self-attention takes ⌈n/r⌉.
    """
    ### BEGIN SOLUTION
    if kind == "self-attention":
        return 1
    if kind == "recurrent":
        return n
    if kind == "restricted":
        return -(-n // r)  # rounded up
    layers = 0
    while k**layers < n:  # exact, where math.log would round
        layers += 1
    return layers
    ### END SOLUTION


# %%
@check("maximum_path_length", points=1, paper="section 4, Table 1")
def _(case):
    for kind in ("self-attention", "recurrent", "convolutional", "restricted"):
        case.record(f"{kind}: n = 11, d = 4, k = 3, r = 4", float(maximum_path_length(kind, 11, 4, 3, 4)))
        case.record(f"{kind}: n = 50, d = 512, the usual k and r", float(maximum_path_length(kind, 50, 512)))
    case.record("convolutional: n = 9, k = 3: exactly two layers", float(maximum_path_length("convolutional", 9, 4, 3)))
    case.record("convolutional: n = 8, k = 2: exactly three layers", float(maximum_path_length("convolutional", 8, 4, 2)))
    case.record("restricted: n = 32, r = 16: exactly two steps", float(maximum_path_length("restricted", 32, 4, 3, 16)))
    ### BEGIN HIDDEN TESTS
    case.record("convolutional: n = 64, k = 2: exactly six layers", float(maximum_path_length("convolutional", 64, 4, 2)))
    case.record("convolutional: n = 65, k = 2", float(maximum_path_length("convolutional", 65, 4, 2)))
    case.record("convolutional: n = 1000, k = 7", float(maximum_path_length("convolutional", 1000, 4, 7)))
    case.record("restricted: fewer positions than neighbours", float(maximum_path_length("restricted", 5, 4, 3, 16)))
    case.record("restricted: n = 33, r = 16", float(maximum_path_length("restricted", 33, 4)))
    for kind in ("self-attention", "recurrent", "restricted"):
        n, d, k, r = case.integer(20, 900), case.integer(8, 700), case.integer(2, 9), case.integer(4, 19)
        case.record(f"{kind}: some sizes", float(maximum_path_length(kind, n, d, k=k, r=r)))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "maximum_path_length",
    "With a window of 3, how many positions does one layer of convolution bring together, and how many do two layers, if the second takes every third result?",
    "Table 1, last column, and the paragraph of section 4 that starts with “A single convolutional layer”.",
    "Self-attention: everyone is one step away. Recurrent: through all positions. Dilated convolution: each layer reaches k times as far, so count how many factors of k reach n. Restricted: n divided by r, rounded up.",
)
misconceptions(
    "maximum_path_length",
    mistake(
        "attention walks",
        ('    if kind == "self-attention":\n        return 1', '    if kind == "self-attention":\n        return n'),
        says="Self-attention takes n steps; every position sees every other directly, in one.",
    ),
    mistake(
        "recurrence in one step",
        ("return n\n", "return 1\n"),
        says="Recurrence takes one step; what the first position said has to pass all n states.",
    ),
    mistake(
        "convolution without dilation",
        ("    layers = 0\n    while k**layers < n:  # exact, where math.log would round\n        layers += 1\n    return layers", "    return -(-n // k)"),
        says="The convolution takes n/k steps: that is for windows side by side. Table 1 takes dilated ones, log_k(n).",
    ),
    mistake(
        "logarithm rounded down",
        ("while k**layers < n:", "while k ** (layers + 1) <= n:"),
        says="The number of layers is rounded down, and the farthest positions are not reached; round up.",
    ),
    mistake(
        "rounded to the nearest",
        ("return -(-n // r)  # rounded up", "return round(n / r)"),
        ("    layers = 0\n    while k**layers < n:  # exact, where math.log would round\n        layers += 1\n    return layers", "    import math\n\n    return round(math.log(n) / math.log(k))"),
        says="Logarithm and n/r are rounded to the nearest whole number; a part of a step is a step too, so round up.",
    ),
    mistake(
        "n over r rounded to the nearest",
        ("return -(-n // r)  # rounded up", "return round(n / r)"),
        says="n/r is rounded to the nearest whole number; a part of a step is a step too, so round up.",
    ),
    mistake(
        "logarithm not rounded",
        ("    layers = 0\n    while k**layers < n:  # exact, where math.log would round\n        layers += 1\n    return layers", "    import math\n\n    return math.log(n) / math.log(k)"),
        says="The logarithm is not rounded; there is no half layer, so round up.",
    ),
    mistake(
        "natural logarithm",
        ("    layers = 0\n    while k**layers < n:  # exact, where math.log would round\n        layers += 1\n    return layers", "    import math\n\n    return math.ceil(math.log(n))"),
        says="The logarithm is the natural one; each layer reaches k times as far, so its base is k.",
    ),
    mistake(
        "logarithm of base two",
        ("    layers = 0\n    while k**layers < n:  # exact, where math.log would round\n        layers += 1\n    return layers", "    return (n - 1).bit_length()"),
        says="The logarithm has base 2; each layer reaches k times as far, so its base is k.",
    ),
    mistake(
        "one layer too many",
        ("while k**layers < n:", "while k**layers <= n:"),
        says="Where n is a power of k a layer too many is counted: nine positions with a window of three need exactly two.",
    ),
    mistake(
        "restricted attention sees all",
        ("return -(-n // r)  # rounded up", "return 1"),
        says="Restricted self-attention takes one step; a position sees r neighbours only, and has to pass the word on.",
    ),
    mistake(
        "n over r rounded down",
        ("return -(-n // r)  # rounded up", "return n // r"),
        says="n/r is rounded down; there is no half step, so round up.",
    ),
    mistake(
        "n over r not rounded",
        ("return -(-n // r)  # rounded up", "return n / r"),
        says="n/r is not rounded; there is no half step, so round up.",
    ),
    mistake(
        "n over r, and one",
        ("return -(-n // r)  # rounded up", "return n // r + 1"),
        says="One is added to n/r even where it comes out whole; round up only what is left over.",
    ),
    mistake(
        "k and r exchanged",
        ("-(-n // r)", "-(-n // k)"),
        ("while k**layers", "while r**layers"),
        says="k and r are exchanged: k is the convolution's window, r the neighbourhood of restricted self-attention.",
    ),
)
equivalents("maximum_path_length", {"number: `layers = 0` → `layers = 1`": "two or more positions need at least one layer"})


# %% tags=["alternative"]
@alternative("math.ceil and math.log")
def maximum_path_length(kind, n, d, k=3, r=16):
    return {"self-attention": 1, "recurrent": n, "convolutional": math.ceil(math.log(n, k)), "restricted": math.ceil(n / r)}[kind]


# %% tags=["alternative"]
@alternative("division again and again")
def maximum_path_length(kind, n, d, k=3, r=16):
    if kind == "convolutional":
        layers = 0
        while n > 1:
            n, layers = math.ceil(n / k), layers + 1
        return layers
    if kind == "restricted":
        return (n + r - 1) // r
    return 1 if kind == "self-attention" else n


# %% tags=["alternative"]
@alternative("numpy, floating point")
def maximum_path_length(kind, n, d, k=3, r=16):
    import numpy as np

    if kind == "self-attention":
        return 1.0
    if kind == "recurrent":
        return float(n)
    return float(np.ceil(np.round(np.log(n) / np.log(k), 9) if kind == "convolutional" else n / r))


# %% tags=["alternative"]
@alternative("a search")
def maximum_path_length(kind, n, d, k=3, r=16):
    match kind:
        case "self-attention":
            return 1
        case "recurrent":
            return n
        case "convolutional":
            return next(layers for layers in range(n) if k**layers >= n)
        case "restricted":
            return next(steps for steps in range(1, n + 1) if steps * r >= n)


# %% [markdown]
# ### Try it: Table 1, drawn
#
# For vectors of width 512, as in the base model, with windows of 3 and neighbourhoods of 16 (Table 1 leaves them open).

# %% tags=["picture"]
lengths = [2**i for i in range(2, 14)]
kinds = {"self-attention": (BLUE, "o-"), "recurrent": (ORANGE, "s-"), "convolutional": (GREEN, "^-"), "restricted": (PINK, "d-")}
measures = {"Complexity per layer": (layer_complexity, "multiplications"), "Sequential operations": (sequential_operations, "steps"), "Maximum path length": (maximum_path_length, "steps")}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for axis, (title, (measure, unit)) in zip(axes, measures.items()):
    for kind, (colour, style) in kinds.items():
        axis.plot(lengths, [measure(kind, n, 512) for n in lengths], style, color=colour, label=kind, markersize=4, alpha=0.9)
    axis.set(title=title, xlabel="length of the sequence, n", ylabel=unit, xscale="log", yscale="log")
    axis.set_xticks(lengths[1::3], [f"{n:,}" for n in lengths[1::3]])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
axes[0].axvline(512, color=GREY, linestyle="--", linewidth=1)
axes[0].text(560, axes[0].get_ylim()[0] * 1.6, "n = d", color="#666666", fontsize=9)
axes[0].legend(frameon=False, fontsize=8.5)
axes[1].text(30, 1.25, "the other three: 1 step", fontsize=8.5, color="#444444")
plt.show()

# %% [markdown]
# **What to see.** Left: below $n = d$ (the dashed line) self-attention needs *less* arithmetic than recurrence; sentences are far shorter than 512 words. Beyond, its square makes it the most expensive. Middle: only recurrence has to wait for itself. Right: self-attention is the only one whose
# path does not grow with the length at all. That is what the arithmetic buys.

# %% [markdown] written="long_texts" points=2
# ## Question 2 · long texts
#
# *2 points, graded by a person*
#
# (a) A sentence of 40 words and a book of 100,000: for each, compare one layer of self-attention with one recurrent layer, $d = 512$, by all three measures of Table 1. (b) Restricted self-attention makes the book affordable. What does it give up, and how could a
# model get some of it back?
#
# ### BEGIN SOLUTION
# (a) Sentence: $40^2 \cdot 512 = 0.8$ million against $40 \cdot 512^2 = 10.5$ million multiplications; 1 step against 40; path 1 against 40: self-attention is better in all three. Book: $10^{10} \cdot 512 = 5.1 \cdot 10^{12}$ against
# $10^5 \cdot 512^2 = 2.6 \cdot 10^{10}$, 195 times as much arithmetic; but still 1 step against 100,000, and path 1 against 100,000. (The $n^2$ weights also have to be stored.)
#
# (b) The direct path: two places farther apart than $r$ meet only over several layers, $\lceil n/r \rceil$ steps. Ways back: stack layers (each reaches $r$ farther), a few tokens that see everything and are seen by all, neighbourhoods with gaps
# that differ from layer to layer, a memory of summaries.
#
# **Rubric.** 1 point for (a): both lengths, with numbers or the ratio $n/d$; ½ if only complexity is compared. 1 point for (b): the longer path ½, any workable idea ½.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - The encoder's layers have two sub-layers, the decoder's three; around each stand a residual connection and a normalisation.
# - Nearly all parameters sit in the layers, whose number does not depend on the length of a sentence, and in the matrix of words: 63.1 million together for the base model with 37,000 tied words.
# - Self-attention trades arithmetic that grows with $n^2$ for one step and a path of length one.
#
# **Next**: week 2, where attention is built: first one head, then eight. In week 3 the model you have counted here is built, and your formula has to agree with it to the last parameter.

# %% tags=["picture"]
score()
