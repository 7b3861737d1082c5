# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: Convolutions and their adjoint
#     order: 2
#     exports: papers.dcgan.foundations
#     minutes: 90
# ---

# %% [markdown]
# # Convolutions and their adjoint
#
# Prerequisites of *Unsupervised Representation Learning with Deep Convolutional GANs*, section 3 · about 90 minutes
#
# At the end of this notebook you can
#
# - say how large the result of a convolution is, before you run it;
# - build a convolution and a transposed convolution that equal PyTorch's, for every stride, padding and kernel;
# - explain why the second is the *adjoint* of the first (and not its inverse), and what that has to do with a generator;
# - say what max-pooling throws away that a strided convolution keeps.
#
# **Week 0 of the roadmap, task 2: review convolutional neural networks.** Understand how convolution, pooling and activation work; they are the backbone of DCGAN.
#
# 1. Watch [Convolutional Neural Networks – StatQuest](https://youtu.be/CqOfi41LfDw) (17 min).
# 2. Watch [the roadmap's second video](https://www.youtube.com/watch?v=aircAruvnKk) (listed as *Understanding CNN Layers*; it starts from what a layer of a network is).
# 3. Read the part of [the paper's](https://arxiv.org/pdf/1511.06434) section 3 that lists three changes to CNN architectures. The first of them is this notebook.

# %% tags=["export"]
import torch
import torch.nn.functional as F
from torch import Tensor

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from torch import nn

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## A small window that looks everywhere
#
# A fully connected layer gives each output its own weight for each pixel. A convolution is a linear layer with two restrictions: an output looks at a small
# window only, and all outputs use the *same* weights, the kernel. So it has few weights, works on images of any size, and finds a pattern wherever it is.
#
# | symbol | shape | holds |
# | --- | --- | --- |
# | $x$ | $N \times C \times H \times W$ | a batch of $N$ images of $C$ channels |
# | $w$ | $O \times C \times k_h \times k_w$ | $O$ kernels, each as deep as the image |
# | $b$ | $O$ | a number added to everything that one kernel finds |
# | $y$ | $N \times O \times H' \times W'$ | how strongly each kernel answers at each place |
#
# Two numbers say where the windows lie. **Padding** $p$ lays $p$ zeros around the image, on every side. **Stride** $s$ moves the window $s$ pixels at a time.

# %% [markdown]
# ## Exercise 1 · `conv_output_size`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# Along one axis: after padding there are $n + 2p$ pixels. The first window begins at pixel 0, the next one $s$ further on, and so on as long as a whole window of $k$ pixels fits:
#
# $$n' = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1$$
#
# Count on your fingers first: 7 pixels, windows of 3, stride 2, no padding.


# %% tags=["export"]
def conv_output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """How many windows fit along one axis, so how large the result of a convolution is.

    Args:
        size: pixels along the axis.
        kernel: pixels of the window.
        stride: pixels between one window and the next.
        padding: zeros laid on at *each* end.

    Returns: the number of whole windows, an integer. (Inputs are such that one window fits.)
    """
    ### BEGIN SOLUTION
    return (size + 2 * padding - kernel) // stride + 1
    ### END SOLUTION


# %%
@check("conv_output_size", points=1, paper="figure 1, read from right to left")
def _(case):
    case.call("3 pixels, window 2, stride 1", conv_output_size, 3, 2, 1, 0)
    case.call("7 pixels, window 3, stride 2", conv_output_size, 7, 3, 2, 0)
    case.call("8 pixels, window 3, stride 2: one pixel is left over", conv_output_size, 8, 3, 2, 0)
    case.call("8 pixels, window 4, stride 3: one pixel is left over", conv_output_size, 8, 4, 3, 0)
    case.call("5 pixels, window 3, padding 1: the size stays", conv_output_size, 5, 3, 1, 1)
    case.call("64 pixels, window 4, stride 2, padding 1: half, as in DCGAN", conv_output_size, 64, 4, 2, 1)
    case.call("10 pixels, window 4, stride 4, padding 1", conv_output_size, 10, 4, 4, 1)
    number = conv_output_size(8, 3, 2, 0)
    case.record("the number of windows is an int", "an int" if isinstance(number, (int, np.integer)) else f"a {type(number).__name__}", about="the number")
    ### BEGIN HIDDEN TESTS
    case.call("one window only", conv_output_size, 4, 4, 1, 0)
    case.call("a stride longer than the window", conv_output_size, 23, 2, 5, 0)
    case.call("a wide padding", conv_output_size, 6, 5, 3, 4)
    case.call("224 pixels, window 7, stride 2, padding 3", conv_output_size, 224, 7, 2, 3)
    for number in range(1, 5):
        kernel, stride, padding = case.integer(1, 8), case.integer(2, 6), case.integer(0, 5)
        case.call(f"numbers drawn by chance {number}", conv_output_size, case.integer(8, 60), kernel, stride, padding)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "conv_output_size",
    "Draw 7 pixels on paper and slide a window of 3 over them in steps of 2. How many stops are there? Now with 8 pixels: does the last pixel matter?",
    "The generator in the paper's figure 1, read backwards, halves 64 to 32, 16, 8 and 4. Which window, stride and padding do that?",
    "The first window always fits. Behind it, ask how many whole strides fit into what is left of the padded axis. Padding counts twice, once for each end.",
)
misconceptions(
    "conv_output_size",
    mistake("padding on one end", ("2 * padding", "padding"), says="The padding is counted once; it is laid on at both ends of the axis."),
    mistake("padding forgotten", (" + 2 * padding", ""), says="The padding is not counted; it adds pixels at both ends, over which windows slide too."),
    mistake("padding subtracted", ("size + 2", "size - 2"), says="The padding is subtracted; it makes the axis longer."),
    mistake("one window short", (" // stride + 1", " // stride"), says="The first window is forgotten: strides are counted, and there is one window more than strides."),
    mistake("rounds up", ("(size + 2 * padding - kernel) // stride", "-(-(size + 2 * padding - kernel) // stride)"),
            says="A window that only partly fits is counted. Only whole windows count: the division is rounded down."),
    mistake("rounds to the nearest", ("(size + 2 * padding - kernel) // stride + 1", "round((size + 2 * padding - kernel) / stride + 1)"),
            says="The division is rounded to the nearest integer; only whole windows count, so it is rounded down."),
    mistake("not rounded", (" // stride", " / stride"), says="The division is not rounded, and there is no fraction of a window: round it down."),
    mistake("a float", ("return (size + 2 * padding - kernel) // stride + 1", "return float((size + 2 * padding - kernel) // stride + 1)"),
            says="The number is right, but a float (from `/` or `np.floor`, perhaps); a number of windows is an int, as `//`, `int` and `math.floor` give it."),
    mistake("stride ignored", (" // stride", ""), says="The stride is ignored: the window moves `stride` pixels at a time."),
    mistake("kernel not subtracted", (" - kernel", ""), says="The window's own width is not subtracted, so windows hang over the end of the axis."),
    mistake("kernel − 1 subtracted, as for stride 1", ("- kernel) // stride + 1", "- (kernel - 1)) // stride"),
            says="Strides are counted in n + 2p − k + 1; for strides above 1 that loses a window where they do not divide it. Divide first, then add the first window."),
    mistake("size over stride", ("(size + 2 * padding - kernel) // stride + 1", "size // stride"),
            says="The size is divided by the stride. That is a rule of thumb for some kernels and paddings, such as 4, 2, 1; the kernel and the padding count too."),
    mistake("padding added after the division", ("(size + 2 * padding - kernel) // stride + 1", "(size - kernel) // stride + 1 + 2 * padding"),
            says="The padding is added to the result; it is pixels of the input, so it is added before the division by the stride."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("count the windows' first pixels")
def conv_output_size(size, kernel, stride, padding):
    return len(range(0, size + 2 * padding - kernel + 1, stride))


# %% tags=["alternative"]
@alternative("floor of a fraction")
def conv_output_size(size, kernel, stride, padding):
    return math.floor((size - kernel + padding + padding) / stride + 1)


# %% tags=["alternative"]
@alternative("a loop that slides")
def conv_output_size(size, kernel, stride, padding):
    windows, end = 0, kernel
    while end <= size + 2 * padding:
        windows, end = windows + 1, end + stride
    return windows


# %% tags=["alternative"]
@alternative("one more stride, then divide; divmod")
def conv_output_size(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    whole, _ = divmod(size + 2 * padding - kernel + stride, stride)
    return int(whole)


# %% [markdown]
# ## Exercise 2 · `conv2d`
#
# *Difficulty ●●● · 25 minutes · 4 points*
#
# $$y_{n,o,i,j} = b_o + \sum_{c=1}^{C} \sum_{u=0}^{k_h-1} \sum_{v=0}^{k_w-1} w_{o,c,u,v}\; \tilde x_{n,\,c,\;s_h i + u,\;s_w j + v}$$
#
# where $\tilde x$ is $x$ with its padding. Each entry is a dot product of a kernel with a window.
#
# | | mathematics says | this code does | why |
# | --- | --- | --- | --- |
# | direction | a convolution reads the kernel backwards: $w_{-u}$ | reads it forwards, which is a cross-correlation | as PyTorch and every deep-learning library: a learned kernel does not mind being called mirrored |
# | stride, padding | are 1 and 0 | an int for both axes, or a pair (height, width) | an image need not be square |
#
# `pair(value)` is given: it makes $(v, v)$ of an int $v$ and leaves a pair as it is. Four loops over $n, o, i, j$ are right, if slow; loops over the kernel's $u, v$ alone are much faster, as the
# picture below shows. `F.unfold` or `Tensor.unfold`, which cut out all windows, may be used as well as `F.pad`.
#
# Write the shape of every intermediate tensor in a comment behind its line.


# %% tags=["export"]
def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """(value, value) for an int; a pair (height, width) stays as it is."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])


# %% tags=["export"]
def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0
) -> Tensor:
    """A convolution as `torch.nn.functional.conv2d` computes it.

    Args:
        x: images, (N, C, H, W).
        weight: kernels, (O, C, kH, kW).
        bias: (O,), or None.
        stride, padding: an int for both axes or a pair (height, width). Padding is zeros, on every side.

    Returns: (N, O, H', W') in the dtype of x, with H' and W' as `conv_output_size` says. Gradients
        flow to x, weight and bias; the inputs are not changed.

    May not call torch's convolutions (F.conv*, torch.conv*, nn.Conv*). F.pad and F.unfold are allowed.
    """
    ### BEGIN SOLUTION
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    padded = F.pad(x, (p_w, p_w, p_h, p_h))  # (N, C, H + 2p, W + 2p); F.pad begins with the last axis
    windows = padded.unfold(2, weight.size(2), s_h).unfold(3, weight.size(3), s_w)  # (N, C, H', W', kH, kW)
    y = torch.einsum("ncijuv,ocuv->noij", windows, weight)
    if bias is not None:
        y = y + bias[:, None, None]
    return y
    ### END SOLUTION


# %%
@check(
    "conv2d",
    points=4,
    forbid=[
        "torch.nn.functional.conv*", "torch.conv*", "torch.nn.Conv*", "torch.nn.LazyConv*", "torch.nn.grad.*", "torch._convolution*",
        "torch.nn.quantized.*", "torch.ao.nn.*", "torch.mkldnn_convolution", "torch.cudnn_convolution*", "scipy.signal.*", "scipy.ndimage.*",
    ],
    paper="section 3, first change: strided convolutions in place of pooling",
)  # fmt: skip
def _(case):
    def draw(N, C, size, O, kernel):
        return case.normal(N, C, *size), case.normal(O, C, *kernel)

    case.call("one 3×3 image, one 2×2 kernel", conv2d, *draw(1, 1, (3, 3), 1, (2, 2)))
    case.call("an image that is wider than high", conv2d, *draw(1, 1, (2, 4), 1, (2, 2)))
    case.call("two channels", conv2d, *draw(1, 2, (3, 3), 1, (2, 2)))
    case.call("three kernels with bias", conv2d, *draw(1, 1, (2, 3), 3, (2, 2)), case.normal(3))
    case.call("padding 1", conv2d, *draw(1, 1, (2, 3), 1, (2, 2)), padding=1)
    case.call("stride 2", conv2d, *draw(1, 1, (4, 6), 1, (2, 2)), stride=2)
    case.call("stride 2, one column left over", conv2d, *draw(1, 1, (4, 5), 1, (2, 2)), stride=2)
    case.call("a kernel that is not square", conv2d, *draw(1, 2, (5, 6), 2, (2, 3)))
    case.call("batch, channels, kernels, bias, stride and padding", conv2d, *draw(3, 2, (7, 6), 4, (3, 3)), case.normal(4), stride=2, padding=1)
    case.call("stride as a pair (height, width)", conv2d, *draw(2, 2, (7, 8), 3, (3, 3)), case.normal(3), stride=(1, 2))
    case.call("padding as a pair (height, width)", conv2d, *draw(2, 3, (4, 5), 2, (3, 3)), case.normal(2), padding=(0, 2))
    case.call("DCGAN's kernel 4, stride 2, padding 1: half the size", conv2d, *draw(2, 3, (8, 8), 5, (4, 4)), stride=2, padding=1)
    x, weight = draw(2, 3, (5, 6), 4, (3, 2))
    bias = case.normal(4)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    output = case.call("inputs that require gradients", conv2d, *inputs, stride=(2, 1), padding=(1, 0))
    case.gradients("gradients of x, weight and bias", output, {"x": x, "weight": weight, "bias": bias})
    case.call("float64 stays float64", conv2d, *case.cast(torch.float64, *draw(2, 2, (4, 4), 2, (2, 2)), case.normal(2)))
    ### BEGIN HIDDEN TESTS
    case.call("a 1×1 kernel mixes channels", conv2d, *draw(2, 4, (3, 5), 3, (1, 1)), case.normal(3))
    case.call("a kernel as large as the image", conv2d, *draw(3, 2, (4, 5), 2, (4, 5)))
    case.call("a stride longer than the kernel", conv2d, *draw(2, 3, (9, 8), 2, (2, 2)), case.normal(2), stride=3)
    case.call("padding wider than the kernel", conv2d, *draw(2, 2, (3, 4), 3, (2, 2)), padding=3)
    case.call("stride and padding as pairs, kernel not square", conv2d, *draw(2, 3, (9, 7), 4, (4, 3)), case.normal(4), stride=(3, 2), padding=(2, 1))
    case.call("a tall kernel", conv2d, *draw(2, 2, (8, 4), 3, (5, 1)), stride=(2, 1), padding=(2, 0))
    case.call("a wide kernel", conv2d, *draw(2, 2, (4, 8), 3, (1, 5)), stride=(1, 2), padding=(0, 2))
    case.call("five images, one channel", conv2d, *draw(5, 1, (6, 5), 2, (3, 3)), case.normal(2))
    x, weight = draw(2, 3, (6, 7), 2, (3, 3))
    case.call("an image that is not contiguous", conv2d, x.transpose(2, 3), weight, padding=1)
    case.call("kernels that are not contiguous", conv2d, x, weight.transpose(2, 3), None, 2, 1)
    sizes = [case.integer(5, 9) for _ in range(2)]
    strides, paddings = [tuple(case.integer(low, low + 3) for _ in range(2)) for low in (1, 0)]
    case.call("shapes drawn by chance", conv2d, *draw(2, 3, sizes, 4, (3, 4)), case.normal(4), stride=strides, padding=paddings)
    case.call("float64, strides and padding", conv2d, *case.cast(torch.float64, *draw(2, 3, (6, 5), 2, (3, 2))), stride=2, padding=1)
    x, weight = [tensor.requires_grad_() for tensor in draw(2, 2, (8, 7), 3, (4, 3))]
    output = case.call("gradients required, overlapping windows", conv2d, x, weight, stride=2, padding=1)
    case.gradients("gradients, overlapping windows", output, {"x": x, "weight": weight})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "conv2d",
    "Take one image, one channel, one kernel, stride 1, no padding, and two loops over i and j. Which slice of the image is the window of output (i, j)? "
    "Only then add stride, padding, channels.",
    "The equation above: every index of $y$ stands on the left; every index that is on the right only ($c$, $u$, $v$) is summed over. "
    "And read in `F.pad`'s documentation which axis its first two numbers belong to.",
    "Pad height and width. Then either cut out all windows (unfold along height, then along width) and let an einsum sum over channel and window, or add up kH·kW shifted, "
    "strided slices of the padded image, each multiplied with one (O, C) matrix of the kernel. Last, add the bias along the axis of the kernels.",
)
misconceptions(
    "conv2d",
    mistake("kernel mirrored", ("windows, weight)", "windows, weight.flip(2, 3))"),
            says="The kernel is read backwards, as mathematics defines a convolution. PyTorch's reads it forwards (a cross-correlation)."),
    mistake("kernel's axes swapped", ("windows, weight)", "windows, weight.transpose(2, 3).reshape(weight.shape))"),
            says="The kernel's rows and columns change places: w[…, u, v] belongs to the pixel u rows down and v columns to the right."),
    mistake("bias forgotten", ("y = y + bias[:, None, None]", "pass"), says="The bias is not added."),
    mistake("bias subtracted", ("y + bias", "y - bias"), says="The bias is subtracted; it is added."),
    mistake("one bias for all kernels", ("bias[:, None, None]", "bias[0]"), says="The first kernel's bias is added everywhere; each kernel has its own."),
    mistake("bias multiplied", ("y + bias", "y * bias"), says="The output is multiplied by the bias; the bias is added."),
    mistake("stride ignored", ("weight.size(2), s_h", "weight.size(2), 1"), ("weight.size(3), s_w", "weight.size(3), 1"),
            says="The stride is ignored: windows begin at every pixel, and not at every s-th."),
    mistake("stride along the height only", ("weight.size(3), s_w", "weight.size(3), 1"), says="The stride acts along the height only; it acts along the width too."),
    mistake("stride along the width only", ("weight.size(2), s_h", "weight.size(2), 1"), says="The stride acts along the width only; it acts along the height too."),
    mistake("one stride for both axes", ("weight.size(3), s_w", "weight.size(3), s_h"), says="The first number of the stride's pair is used for both axes; the second is the width's."),
    mistake("stride pair swapped", ("(s_h, s_w)", "(s_w, s_h)"), says="The stride's pair is read as (width, height); it is (height, width)."),
    mistake("padding pair swapped", ("(p_h, p_w)", "(p_w, p_h)"), says="The padding's pair is used as (width, height); it is (height, width). (F.pad begins with the last axis, the width.)"),
    mistake("both pairs swapped", ("(s_h, s_w), (p_h, p_w)", "(s_w, s_h), (p_w, p_h)"),
            says="Both pairs are read as (width, height); they are (height, width)."),
    mistake("padding ignored", ("(p_w, p_w, p_h, p_h)", "(0, 0, 0, 0)"), says="The padding is ignored: the image is not made larger before the windows are taken."),
    mistake("padding on the top and left only", ("(p_w, p_w, p_h, p_h)", "(p_w, 0, p_h, 0)"), says="Zeros are laid on at the top and left only; padding is on all four sides."),
    mistake("padding on the bottom and right only", ("(p_w, p_w, p_h, p_h)", "(0, p_w, 0, p_h)"), says="Zeros are laid on at the bottom and right only; padding is on all four sides."),
    mistake("padding of the width only", ("(p_w, p_w, p_h, p_h)", "(p_w, p_w)"), says="Only the width is padded; the height is, too. (F.pad with two numbers pads the last axis alone.)"),
    mistake("padding repeats the edge", ("(p_w, p_w, p_h, p_h))", "(p_w, p_w, p_h, p_h), mode='replicate')"),
            says="The padding repeats the pixels of the edge; it has to be zeros."),
    mistake("padding with ones", ("(p_w, p_w, p_h, p_h))", "(p_w, p_w, p_h, p_h), value=1.0)"), says="The padding is ones; it has to be zeros."),
    mistake("only the first channel", ("windows, weight)", "windows[:, :1], weight[:, :1])"), says="Only the first channel of the image is read; the sum runs over all channels."),
    mistake("mean over the channels", ("y = torch.einsum(\"ncijuv,ocuv->noij\", windows, weight)", "y = torch.einsum(\"ncijuv,ocuv->noij\", windows, weight) / x.size(1)"),
            says="The channels are averaged; the equation sums over them."),
    mistake("channels' kernels mixed up", ("windows, weight)", "windows, weight.flip(1))"),
            says="Channel c of the image is multiplied with another channel's slice of the kernel; w[o, c] belongs to channel c."),
    mistake("only the first kernel", ("windows, weight)", "windows, weight[:1].expand_as(weight))"),
            says="The first kernel is used for every output channel; each output channel has its own."),
    mistake("the first image for all", ("windows, weight)", "windows[:1].expand_as(windows), weight)"),
            says="Every image of the batch gets the first image's result."),
    mistake("kernels and places in the wrong order",
            ("y = torch.einsum(\"ncijuv,ocuv->noij\", windows, weight)",
             "y = torch.einsum(\"ncijuv,ocuv->nijo\", windows, weight)\n    y = y.reshape(x.size(0), weight.size(0), windows.size(2), windows.size(3))"),
            says="The result is computed with the kernels as the last axis and then reshaped, which has the right shape and the wrong order: a reshape does not move axes, a permute does."),
    mistake("dilated instead of strided", ("padded.unfold(2, weight.size(2), s_h).unfold(3, weight.size(3), s_w)",
             "padded.unfold(2, s_h * (weight.size(2) - 1) + 1, 1)[..., ::s_h].unfold(3, s_w * (weight.size(3) - 1) + 1, 1)[..., ::s_w]"),
            says="The stride spreads the pixels *within* a window (that is a dilation); it has to move the window."),
    mistake("the last window left out", ("weight.size(3), s_w)", "weight.size(3), s_w)[:, :, : -(-(padded.size(2) - weight.size(2)) // s_h), : -(-(padded.size(3) - weight.size(3)) // s_w)]"),
            says="The window that ends just at the edge is left out (a `range` that ends one too early?); it is a whole window, so it counts."),
    mistake("the last window left out where the stride is above 1",
            ("weight.size(3), s_w)", "weight.size(3), s_w)[:, :, : max(1, (padded.size(2) - weight.size(2) + 1) // s_h), : max(1, (padded.size(3) - weight.size(3) + 1) // s_w)]"),
            says="Where the stride is above 1, the last window is left out although it fits: windows are counted as (n + 2p − k + 1) / s. Exercise 1's formula divides first and then adds the first window."),
    mistake("everything becomes float32", ("    return y", "    return y.float()"), says="The result is float32 whatever came in; the dtype of x has to be kept."),
    mistake("gradients cut off", ("    return y", "    return y.detach()"), says="No gradient reaches x, weight and bias (detach, no_grad, numpy or .item() on the way); a layer could not learn."),
    mistake("the image changed in place", ("    padded =", "    x -= x.mean()\n    padded ="), says="The image itself is changed (its mean is subtracted in place), and the caller still needs it."),
    mistake("mean over the window", ("    if bias is not None:", "    y = y / (weight.size(2) * weight.size(3))\n    if bias is not None:"),
            says="The products are averaged over the window; the equation sums them."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("four loops, a dot product each")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    sh, sw = (stride, stride) if isinstance(stride, int) else stride
    ph, pw = (padding, padding) if isinstance(padding, int) else padding
    N, C, H, W = x.shape
    O, _, kh, kw = weight.shape
    padded = torch.zeros(N, C, H + 2 * ph, W + 2 * pw, dtype=x.dtype)
    padded[:, :, ph : ph + H, pw : pw + W] = x
    out = torch.zeros(N, O, (H + 2 * ph - kh) // sh + 1, (W + 2 * pw - kw) // sw + 1, dtype=x.dtype)
    for n in range(N):
        for o in range(O):
            for i in range(out.shape[2]):
                for j in range(out.shape[3]):
                    window = padded[n, :, i * sh : i * sh + kh, j * sw : j * sw + kw]
                    out[n, o, i, j] = (window * weight[o]).sum() + (0 if bias is None else bias[o])
    return out


# %% tags=["alternative"]
@alternative("F.unfold and one matrix product")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    kernel = tuple(weight.shape[2:])
    columns = F.unfold(x, kernel, stride=stride, padding=padding)  # (N, C·kH·kW, L)
    y = weight.flatten(1) @ columns
    if bias is not None:
        y = y + bias.view(1, -1, 1)
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    return y.reshape(len(x), -1, conv_output_size(x.shape[2], kernel[0], s_h, p_h), conv_output_size(x.shape[3], kernel[1], s_w, p_w))


# %% tags=["alternative"]
@alternative("loops over the kernel, shifted slices")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    k_h, k_w = weight.shape[-2:]
    x = F.pad(x, [p_w, p_w, p_h, p_h])
    rows, columns = (x.size(2) - k_h) // s_h + 1, (x.size(3) - k_w) // s_w + 1
    y = 0
    for u in range(k_h):
        for v in range(k_w):
            part = x[:, :, u : u + s_h * (rows - 1) + 1 : s_h, v : v + s_w * (columns - 1) + 1 : s_w]
            y = y + torch.einsum("nchw,oc->nohw", part, weight[:, :, u, v])
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


# %% tags=["alternative"]
@alternative("every window at stride 1, then every s-th of them; float64 inside")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    padded = nn.functional.pad(x.double(), (p_w, p_w, p_h, p_h), "constant", 0)
    windows = padded.unfold(-2, weight.shape[-2], 1).unfold(-2, weight.shape[-1], 1)
    y = torch.tensordot(windows, weight.double(), dims=([1, 4, 5], [1, 2, 3])).permute(0, 3, 1, 2)[:, :, ::s_h, ::s_w]
    if bias is not None:
        y = y + bias[None, :, None, None]
    return y.to(x.dtype).contiguous()


# %% tags=["alternative"]
@alternative("windows by index arithmetic, gathered")
def conv2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    N, C, H, W = x.shape
    O, _, kh, kw = weight.shape
    padded = torch.cat([x.new_zeros(N, C, p_h, W), x, x.new_zeros(N, C, p_h, W)], dim=2)
    side = x.new_zeros(N, C, H + 2 * p_h, p_w)
    padded = torch.cat([side, padded, side], dim=3)
    i = torch.arange(0, padded.size(2) - kh + 1, s_h)[:, None] + torch.arange(kh)
    j = torch.arange(0, padded.size(3) - kw + 1, s_w)[:, None] + torch.arange(kw)
    windows = padded[:, :, i][..., j].permute(0, 2, 4, 1, 3, 5)  # (N, H', W', C, kH, kW)
    y = (windows.flatten(3) @ weight.flatten(1).T).permute(0, 3, 1, 2)
    return y if bias is None else y + bias.view(-1, 1, 1)


# %% [markdown]
# ### Try it: kernels on a photograph
#
# A photograph that scikit-learn brings along, in grey, and three kernels of nine numbers each, all applied by *your* function in one call.

# %% tags=["picture"]
import time

from sklearn.datasets import load_sample_image

photo = torch.from_numpy(load_sample_image("china.jpg").mean(-1)).float()[None, None, 40:380:2, 240:640:2] / 255  # (1, 1, 170, 200)
blur = torch.full((3, 3), 1 / 9)
vertical = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
kernels = torch.stack([blur, vertical, vertical.T])[:, None]  # (3, 1, 3, 3)
found = conv2d(photo, kernels, padding=1)

figure, axes = plt.subplots(1, 4, figsize=(12, 2.9), layout="constrained")
titles = ["photograph", "mean of nine pixels", "brighter to the right (+), to the left (−)", "brighter below (+), above (−)"]
for axis, image, title in zip(axes, [photo[0, 0], *found[0]], titles):
    signed = title.startswith("brighter")
    shown = axis.imshow(image, cmap="PuOr" if signed else "gray", vmin=-3 if signed else 0, vmax=3 if signed else 1)
    axis.set_title(title, fontsize=9)
    axis.set(xticks=[], yticks=[])
    figure.colorbar(shown, ax=axis, shrink=0.7)
plt.show()

start = time.process_time()
for _ in range(20):
    conv2d(photo, kernels, padding=1)
ours = (time.process_time() - start) / 20
print(f"largest difference to F.conv2d: {(found - F.conv2d(photo, kernels, padding=1)).abs().max().item():.1e}; {1000 * ours:.1f} ms of CPU time a call")

# %% [markdown]
# **What to see.** The first kernel smooths. The other two answer to edges of one direction only: upright ones where the third picture is coloured, level ones in the fourth; flat areas
# give 0 (white). A network starts from random kernels and *learns* such detectors. Your numbers agree with PyTorch's up to rounding.

# %% [markdown]
# ## Exercise 3 · `max_pool2d`
#
# *Difficulty ●●○ · 10 minutes · 2 points*
#
# Classifiers of 2015 shrank images by *max-pooling*: of each window, each channel keeps the largest value. There is nothing to learn in it. DCGAN's first guideline replaces it by convolutions with
# a stride, "allowing the network to learn its own spatial downsampling" (section 3). To compare the two, build the old way. The stride is the window's size unless told otherwise, so windows do
# not overlap; pixels that do not fill a window are left out.


# %% tags=["export"]
def max_pool2d(
    x: Tensor, kernel: int | tuple[int, int], stride: int | tuple[int, int] | None = None,
) -> Tensor:
    """The largest value of each window, for each image and channel by itself.

    Args:
        x: images, (N, C, H, W).
        kernel: the window, an int or a pair (height, width).
        stride: an int or a pair (height, width); None means the same as `kernel`.

    Returns: (N, C, H', W') in the dtype of x, with H' and W' as `conv_output_size` says for padding
        0. Gradients flow to x, which is not changed.

    May not call torch's pooling (F.max_pool*, F.adaptive_max_pool*, torch.max_pool*, nn.MaxPool*,
    nn.AdaptiveMaxPool*).
    """
    ### BEGIN SOLUTION
    k_h, k_w = pair(kernel)
    s_h, s_w = pair(kernel if stride is None else stride)
    windows = x.unfold(2, k_h, s_h).unfold(3, k_w, s_w)  # (N, C, H', W', kH, kW)
    return windows.amax(dim=(-2, -1))
    ### END SOLUTION


# %%
@check(
    "max_pool2d",
    points=2,
    forbid=[
        "torch.nn.functional.*max_pool*", "torch.*max_pool*", "torch.nn.MaxPool*", "torch.nn.AdaptiveMaxPool*", "torch.nn.FractionalMaxPool*",
        "torch.nn.modules.pooling.*", "scipy.ndimage.*",
    ],
    paper="section 3, first change",
)  # fmt: skip
def _(case):
    def distinct(*shape):  # no two values alike, so that the largest is one pixel
        return (case.permutation(math.prod(shape)).reshape(shape).float() - math.prod(shape) // 2) / 4

    case.call("one 2×4 image, windows of 2", max_pool2d, distinct(1, 1, 2, 4), 2)
    case.call("nothing but negative values", max_pool2d, -distinct(1, 1, 2, 4).abs() - 1, 2)
    case.call("two channels, windows of 2", max_pool2d, distinct(1, 2, 4, 4), 2)
    case.call("a row and a column left over", max_pool2d, distinct(2, 3, 5, 7), 2)
    case.call("windows of 3, stride 2: they overlap", max_pool2d, distinct(2, 2, 7, 9), 3, 2)
    case.call("stride longer than the window", max_pool2d, distinct(2, 2, 8, 8), 2, 3)
    case.call("window as a pair (height, width)", max_pool2d, distinct(2, 2, 6, 6), (3, 2))
    case.call("stride as a pair (height, width)", max_pool2d, distinct(2, 2, 6, 8), 2, (1, 3))
    x = distinct(2, 2, 5, 6).requires_grad_()
    output = case.call("an input that requires gradients", max_pool2d, x, 2)
    case.gradients("the gradient goes to the largest pixel", output, {"x": x})
    ### BEGIN HIDDEN TESTS
    case.call("one window", max_pool2d, distinct(3, 2, 4, 4), 4)
    case.call("values far below zero", max_pool2d, distinct(2, 2, 4, 6) - 1e6, 2)  # where float32 still tells quarters apart
    case.call("windows of one pixel, stride 2", max_pool2d, distinct(2, 3, 5, 6), 1, 2)
    case.call("pairs for both", max_pool2d, distinct(2, 3, 9, 7), (2, 3), (3, 1))
    case.call("stride 1", max_pool2d, distinct(3, 1, 4, 5), 2, 1)
    case.call("an input that is not contiguous", max_pool2d, distinct(2, 3, 6, 4).transpose(2, 3), (2, 3))
    case.call("float64", max_pool2d, distinct(2, 2, 6, 6).double(), 3)
    x = distinct(2, 3, 7, 7).requires_grad_()
    output = case.call("gradients required, overlapping windows", max_pool2d, x, 3, 2)
    case.gradients("gradients, overlapping windows", output, {"x": x})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "max_pool2d",
    "Your conv2d cut out windows, then summed. What has to be done to each window here, and does the channel axis take part?",
    "Section 3 of the paper calls it a *deterministic spatial pooling function*: nothing is learned, and each channel is on its own.",
    "Cut out the windows along height and width with their stride (the kernel's size if there is none), then take the maximum over the two axes that lie within a window.",
)
misconceptions(
    "max_pool2d",
    mistake("the mean", ("windows.amax(dim=(-2, -1))", "windows.mean(dim=(-2, -1))"), says="Each window gives its mean (average pooling); the largest value is wanted."),
    mistake("the smallest", ("windows.amax(", "windows.amin("), says="Each window gives its smallest value; the largest is wanted."),
    mistake("the largest magnitude", ("windows.amax(", "windows.abs().amax("), says="The largest absolute value is taken; −3 is smaller than 1."),
    mistake("the value of largest magnitude", ("windows.amax(dim=(-2, -1))", "windows.flatten(-2).gather(-1, windows.flatten(-2).abs().argmax(dim=-1, keepdim=True)).squeeze(-1)"),
            says="The value farthest from 0 is taken, with its sign; −3 is smaller than 1."),
    mistake("negative values become 0", ("windows.amax(dim=(-2, -1))", "windows.amax(dim=(-2, -1)).clamp(min=0)"),
            says="Windows of negative values give 0: the maximum starts from 0, or zeros were laid around. The largest of negative values is negative."),
    mistake("stride 1 unless told", ("pair(kernel if stride is None else stride)", "pair(1 if stride is None else stride)"),
            says="Without a stride the window moves one pixel at a time; it moves by its own size."),
    mistake("stride ignored", ("pair(kernel if stride is None else stride)", "pair(kernel)"), says="The stride given is ignored and the window's size used in its place."),
    mistake("window pair swapped", ("k_h, k_w = pair(kernel)", "k_w, k_h = pair(kernel)"), says="The window's pair is read as (width, height); it is (height, width)."),
    mistake("stride pair swapped", ("s_h, s_w = pair", "s_w, s_h = pair"), says="The stride's pair is read as (width, height); it is (height, width)."),
    mistake("both pairs swapped", ("k_h, k_w = pair(kernel)", "k_w, k_h = pair(kernel)"), ("s_h, s_w = pair", "s_w, s_h = pair"),
            says="Both pairs are read as (width, height); they are (height, width)."),
    mistake("partial windows kept", ("    windows = x.unfold", "    x = F.pad(x, (0, -(x.size(3) - k_w) % s_w, 0, -(x.size(2) - k_h) % s_h), value=float('-inf'))\n    windows = x.unfold"),
            says="Windows that hang over the edge are kept; pixels that do not fill a window are left out."),
    mistake("over the channels too", ("windows.amax(dim=(-2, -1))", "windows.amax(dim=(1, -2, -1), keepdim=True)[..., 0, 0].expand(-1, x.size(1), -1, -1)"),
            says="The maximum is taken over the channels as well; each channel is pooled by itself."),
    mistake("the first pixel of each window", ("windows.amax(dim=(-2, -1))", "windows[..., 0, 0]"),
            says="Each window's first pixel is kept (that is plain subsampling); its largest is wanted."),
    mistake("along the width only", ("windows.amax(dim=(-2, -1))", "windows.amax(dim=-1)[..., 0]"), says="The maximum is taken along one row of the window only; it is over all of it."),
    mistake("the gradient shared out", ("windows.amax(dim=(-2, -1))", "windows.amax(dim=(-2, -1)).detach() + windows.mean(dim=(-2, -1)) - windows.mean(dim=(-2, -1)).detach()"),
            says="The values are right but the gradient is spread over the window; it belongs to the pixel that was the largest."),
    mistake("indices as well", ("return windows.amax(dim=(-2, -1))", "return windows.flatten(-2).max(dim=-1)"),
            says="The largest values are returned together with their places (`max` with a dimension gives both); only the values are wanted."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("F.unfold, maximum of the columns")
def max_pool2d(x, kernel, stride=None):
    kernel = pair(kernel)
    stride = kernel if stride is None else pair(stride)
    N, C, H, W = x.shape
    columns = F.unfold(x.reshape(N * C, 1, H, W), kernel, stride=stride)  # (N·C, kH·kW, L)
    return columns.max(dim=1).values.view(N, C, conv_output_size(H, kernel[0], stride[0], 0), conv_output_size(W, kernel[1], stride[1], 0))


# %% tags=["alternative"]
@alternative("loops over the places")
def max_pool2d(x, kernel, stride=None):
    (k_h, k_w), (s_h, s_w) = pair(kernel), pair(stride if stride is not None else kernel)
    rows = []
    for top in range(0, x.shape[2] - k_h + 1, s_h):
        row = [x[:, :, top : top + k_h, left : left + k_w].flatten(2).max(-1)[0] for left in range(0, x.shape[3] - k_w + 1, s_w)]
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)


# %% tags=["alternative"]
@alternative("pairwise maxima of shifted slices")
def max_pool2d(x, kernel, stride=None):
    if stride is None:
        stride = kernel
    (k_h, k_w), (s_h, s_w) = pair(kernel), pair(stride)
    rows, columns = conv_output_size(x.size(2), k_h, s_h, 0), conv_output_size(x.size(3), k_w, s_w, 0)
    best = None
    for u in range(k_h):
        for v in range(k_w):
            part = x[:, :, u:, v:][:, :, ::s_h, ::s_w][:, :, :rows, :columns]
            best = part if best is None else torch.maximum(best, part)
    return best.clone()


# %% tags=["alternative"]
@alternative("along the width, then along the height")
def max_pool2d(x, kernel, stride=None):
    (k_h, k_w), (s_h, s_w) = pair(kernel), pair(kernel) if stride is None else pair(stride)
    return x.unfold(3, k_w, s_w).max(dim=-1).values.unfold(2, k_h, s_h).max(dim=-1).values


# %% [markdown]
# ### Try it: max-pool against stride
#
# Both halve an image. What does each pixel of the *input* still have to say? The gradient of the summed output with respect to the input tells.

# %% tags=["picture"]
generator = torch.Generator().manual_seed(SEED)
detail = photo[:, :, 60:84, 0:24] + 1e-3 * torch.randn(1, 1, 24, 24, generator=generator)  # the noise: no two pixels alike
smooth = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
learnable = (smooth[:, None] * smooth)[None, None]  # of the many kernels that could be learned, one that we can look at
ways = {
    "max-pool, window 2": lambda image: max_pool2d(image, 2),
    "every second pixel": lambda image: image[:, :, ::2, ::2],
    "convolution 4×4, stride 2, padding 1": lambda image: conv2d(image, learnable, stride=2, padding=1),
}
figure, axes = plt.subplots(2, 4, figsize=(11, 5), layout="constrained")
axes[0, 0].imshow(detail[0, 0], cmap="gray")
axes[0, 0].set_title("input, 24×24 pixels", fontsize=9)
axes[1, 0].axis("off")
for column, (title, way) in enumerate(ways.items(), start=1):
    image = detail.clone().requires_grad_()
    smaller = way(image)
    smaller.sum().backward()
    axes[0, column].imshow(smaller.detach()[0, 0], cmap="gray")
    axes[0, column].set_title(f"{title}\n{tuple(smaller.shape[2:])}", fontsize=9)
    shown = axes[1, column].imshow(image.grad[0, 0], cmap="cividis", vmin=0, vmax=1)
    axes[1, column].set_title(f"{100 * (image.grad != 0).float().mean():.0f} % of the pixels have a say", fontsize=9)
figure.colorbar(shown, ax=axes[1], label="gradient of the summed output", shrink=0.8)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# **What to see.** Max-pooling lets one pixel in four through, and which one depends on the image. The convolution with a stride hears every pixel, each with a weight that can be
# learned (here a kernel that smooths). In a GAN this matters twice: the generator learns only from the gradient that comes back *through* the discriminator, and where that is 0 no pixel is told anything.

# %% [markdown]
# ## Exercise 4 · `conv_transpose_output_size`
#
# *Difficulty ●○○ · 5 minutes · 1 point*
#
# A generator goes the other way: from 4×4 to 64×64. A transposed convolution lays a copy of the kernel down for each *input* pixel, $s$ pixels apart, and adds up where copies overlap. Of the result, $p$ pixels are
# **cut off** on every side. $n$ copies begin at $0, s, \dots, (n-1)s$, and the last one is $k$ wide:
#
# $$n' = (n - 1)\,s + k - 2p$$
#
# Put this $n'$ into exercise 1's formula: $n$ comes back. But where the stride is above 1, several sizes have the same number of windows (7 and 8 pixels, above), so the way back is a choice: this formula gives the smallest.
# (PyTorch's `output_padding` asks for a larger one. We leave it out.)


# %% tags=["export"]
def conv_transpose_output_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """How large the result of a transposed convolution is along one axis.

    Args:
        size: pixels of the input along the axis.
        kernel: pixels of the kernel.
        stride: pixels between one copy of the kernel and the next.
        padding: pixels cut off at *each* end.

    Returns: the smallest size that a convolution with the same kernel, stride and padding takes to
        `size`, an integer.
    """
    ### BEGIN SOLUTION
    return (size - 1) * stride + kernel - 2 * padding
    ### END SOLUTION


# %%
@check("conv_transpose_output_size", points=1, paper="figure 1")
def _(case):
    case.call("2 pixels, kernel 2, stride 1", conv_transpose_output_size, 2, 2, 1, 0)
    case.call("3 pixels, kernel 3, stride 2", conv_transpose_output_size, 3, 3, 2, 0)
    case.call("5 pixels, kernel 3, padding 1: the size stays", conv_transpose_output_size, 5, 3, 1, 1)
    case.call("DCGAN's first layer: 1 pixel, kernel 4", conv_transpose_output_size, 1, 4, 1, 0)
    case.call("DCGAN's others: kernel 4, stride 2, padding 1 doubles", conv_transpose_output_size, 32, 4, 2, 1)
    size = conv_transpose_output_size(5, 3, 2, 1)
    case.record("the size is an int", "an int" if isinstance(size, (int, np.integer)) else f"a {type(size).__name__}", about="the size")
    ### BEGIN HIDDEN TESTS
    case.call("gaps between the copies", conv_transpose_output_size, 4, 2, 5, 0)
    case.call("a wide padding", conv_transpose_output_size, 6, 5, 3, 4)
    case.call("kernel 5, stride 2, padding 2", conv_transpose_output_size, 8, 5, 2, 2)
    for number in range(1, 4):
        kernel, stride, padding = case.integer(2, 8), case.integer(2, 6), case.integer(1, 5)
        case.call(f"numbers drawn by chance {number}", conv_transpose_output_size, case.integer(8, 40), kernel, stride, padding)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "conv_transpose_output_size",
    "Lay two kernels of width 3 down, two pixels apart. How wide is what they cover?",
    "Figure 1 of the paper grows 4×4 to 8, 16, 32 and 64. With kernel 4 and stride 2, which padding doubles exactly?",
    "The last of n copies begins n − 1 strides from the first and is one kernel wide. Then cut the padding off at both ends.",
)
misconceptions(
    "conv_transpose_output_size",
    mistake("size times stride", ("(size - 1) * stride + kernel - 2 * padding", "size * stride"),
            says="The size is multiplied by the stride. That is right for kernel 4, stride 2, padding 1; in general the kernel and the padding count too."),
    mistake("n strides", ("(size - 1) * stride", "size * stride"), says="As many strides as pixels are counted; between n copies there are n − 1."),
    mistake("padding added", ("kernel - 2", "kernel + 2"), says="The padding is added; a transposed convolution cuts it off."),
    mistake("padding cut once", ("2 * padding", "padding"), says="The padding is cut off at one end only; it is cut off at both."),
    mistake("padding forgotten", (" - 2 * padding", ""), says="The padding is not cut off."),
    mistake("kernel forgotten", (" + kernel", ""), says="The width of the last copy is not counted: the kernel's size is missing."),
    mistake("kernel − 1", ("+ kernel", "+ kernel - 1"), says="One pixel is missing: the last copy of the kernel is k wide, counted from its own first pixel."),
    mistake("stride ignored", ("* stride ", ""), says="The stride is ignored: copies of the kernel lie s pixels apart."),
    mistake("a float", ("return (size - 1) * stride + kernel - 2 * padding", "return float((size - 1) * stride + kernel - 2 * padding)"),
            says="The size is right, but a float (is there a division, `/`?); a number of pixels is an int."),
    mistake("the convolution's own formula", ("(size - 1) * stride + kernel - 2 * padding", "(size + 2 * padding - kernel) // stride + 1"),
            says="That is the size of an ordinary convolution's result, which shrinks the image; this one goes the other way."),
    mistake("the largest size, not the smallest", ("- 2 * padding", "- 2 * padding + stride - 1"),
            says="This is the largest size that a convolution takes back to n; without output_padding the result has the smallest."),
    mistake("one too many", ("- 2 * padding", "- 2 * padding + 1"), says="One pixel too many. (In the convolution's formula there is a + 1 for the first window; here the kernel's width has done that.)"),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("the other formula solved for the size")
def conv_transpose_output_size(size, kernel, stride, padding):
    return stride * (size - 1) - 2 * padding + kernel


# %% tags=["alternative"]
@alternative("search for the smallest size that comes back")
def conv_transpose_output_size(size, kernel, stride, padding):
    result = kernel - 2 * padding
    while (result + 2 * padding - kernel) // stride + 1 < size:
        result += 1
    return result


# %% tags=["alternative"]
@alternative("the end of the last copy")
def conv_transpose_output_size(size, kernel, stride=1, padding=0):
    ends = [first + kernel for first in range(0, size * stride, stride)]
    return max(ends) - padding - padding


# %% tags=["alternative"]
@alternative("spread out, then a full convolution")
def conv_transpose_output_size(size, kernel, stride, padding):
    spread = size + (size - 1) * (stride - 1)
    return spread + 2 * (kernel - 1 - padding) - kernel + 1


# %% [markdown]
# ## Exercise 5 · `conv_transpose2d`
#
# *Difficulty ●●● · 25 minutes · 5 points*
#
# Lay down, for each input pixel, its copy of the kernel:
#
# $$\tilde y_{n,o,a,b} = \sum_{c} \sum_{i,u\,:\;s_h i + u = a} \;\; \sum_{j,v\,:\;s_w j + v = b} x_{n,c,i,j}\; w_{c,o,u,v}, \qquad y = b_o + \tilde y \text{ without } p \text{ pixels on every side.}$$
#
# | | the paper says | this code does | why |
# | --- | --- | --- | --- |
# | name | "fractionally-strided convolutions (in some recent papers, these are wrongly called deconvolutions)" (figure 1) | transposed convolution | the name of its matrix, see below; it undoes nothing |
# | kernels | nothing | $C \times O \times k_h \times k_w$: *input* channels first | as PyTorch. A convolution from $O$ to $C$ channels has just this shape, so one tensor serves both |
# | padding | nothing | is cut off | the convolution added it; the way back takes it away |
#
# **Why transposed?** A convolution is linear, so it is some (large, sparse) matrix $A$ on the flattened image. The transposed convolution with the same kernel is $A^\top$: what went from pixel to window goes from window to pixel. Hence, for all $x$ and $y$,
#
# $$\langle \mathrm{conv}(x),\, y \rangle = \langle x,\, \mathrm{conv}^\top(y) \rangle .$$
#
# It holds where no pixel is left over. The check tests it with a matrix product of windows on the left and your function on the right.


# %% tags=["export"]
def conv_transpose2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0
) -> Tensor:
    """A transposed convolution as `torch.nn.functional.conv_transpose2d` computes it.

    Args:
        x: (N, C, H, W).
        weight: kernels, (C, O, kH, kW): the input's channels first.
        bias: (O,), or None.
        stride: how far apart the copies of the kernel lie, an int for both axes or a pair (height, width).
        padding: how many pixels are cut off on every side, an int or a pair (height, width).

    Returns: (N, O, H', W') in the dtype of x, with H' and W' as `conv_transpose_output_size` says.
        Gradients flow to x, weight and bias; the inputs are not changed.

    May not call torch's convolutions (F.conv*, torch.conv*, nn.Conv*, torch.nn.grad). F.pad,
    F.unfold, F.fold and your own conv2d are allowed.
    """
    ### BEGIN SOLUTION
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    N, _, H, W = x.shape
    _, O, k_h, k_w = weight.shape
    canvas = x.new_zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w)
    for u in range(k_h):
        for v in range(k_w):
            share = torch.einsum("nchw,co->nohw", x, weight[:, :, u, v])  # what each input pixel gives to pixel (u, v) of its copy
            canvas[:, :, u : u + (H - 1) * s_h + 1 : s_h, v : v + (W - 1) * s_w + 1 : s_w] += share
    y = canvas[:, :, p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w]
    if bias is not None:
        y = y + bias[:, None, None]
    return y
    ### END SOLUTION


# %%
@check(
    "conv_transpose2d",
    points=5,
    forbid=[
        "torch.nn.functional.conv*", "torch.conv*", "torch.nn.Conv*", "torch.nn.LazyConv*", "torch.nn.grad.*", "torch._convolution*",
        "torch.nn.quantized.*", "torch.ao.nn.*", "torch.mkldnn_convolution", "torch.cudnn_convolution*", "scipy.signal.*", "scipy.ndimage.*",
    ],
    paper="figure 1 and section 3, first change: fractionally-strided convolutions",
)  # fmt: skip
def _(case):
    def draw(N, C, size, O, kernel):
        return case.normal(N, C, *size), case.normal(C, O, *kernel)

    def adjoint(name, size, kernel, stride, padding, C=2, O=3):
        x, weight = case.normal(2, C, *size, dtype=torch.float64), case.normal(O, C, *kernel, dtype=torch.float64)
        forward = weight.flatten(1) @ F.unfold(x, kernel, stride=stride, padding=padding)  # conv(x), its rows end to end
        rows = (size[0] + 2 * pair(padding)[0] - kernel[0]) // pair(stride)[0] + 1
        y = case.normal(2, O, rows, forward.size(-1) // rows, dtype=torch.float64)
        there = (forward.view_as(y) * y).sum()
        back = conv_transpose2d(y, weight, stride=stride, padding=padding)
        gap = abs(float((x * back).sum() - there)) if back.shape == x.shape else math.inf
        case.record(name, gap, at_most=1e-6, about="the difference of the two products")

    case.call("one pixel, one 2×2 kernel: a copy of the kernel", conv_transpose2d, *draw(1, 1, (1, 1), 1, (2, 2)))
    case.call("two pixels side by side: copies overlap", conv_transpose2d, *draw(1, 1, (1, 2), 1, (2, 2)))
    case.call("stride 2: copies side by side", conv_transpose2d, *draw(1, 1, (2, 2), 1, (2, 2)), stride=2)
    case.call("stride 3: gaps between the copies", conv_transpose2d, *draw(1, 1, (2, 2), 1, (2, 2)), stride=3)
    case.call("padding 1 cuts the rim off", conv_transpose2d, *draw(1, 1, (2, 3), 1, (3, 3)), padding=1)
    case.call("from two channels to three, with bias", conv_transpose2d, *draw(1, 2, (2, 3), 3, (2, 2)), case.normal(3))
    case.call("as many channels out as in", conv_transpose2d, *draw(1, 2, (2, 3), 2, (2, 2)))
    case.call("a kernel that is not square", conv_transpose2d, *draw(1, 2, (2, 3), 2, (2, 3)))
    case.call("batch, channels, bias, stride and padding", conv_transpose2d, *draw(3, 2, (3, 4), 4, (3, 3)), case.normal(4), stride=2, padding=1)
    case.call("stride as a pair (height, width)", conv_transpose2d, *draw(2, 2, (3, 4), 3, (3, 3)), case.normal(3), stride=(1, 2))
    case.call("padding as a pair (height, width)", conv_transpose2d, *draw(2, 3, (4, 3), 2, (3, 5)), case.normal(2), padding=(0, 2))
    case.call("DCGAN's kernel 4, stride 2, padding 1: twice the size", conv_transpose2d, *draw(2, 3, (4, 4), 5, (4, 4)), stride=2, padding=1)
    adjoint("⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩", (5, 7), (3, 3), 2, 1)
    x, weight = draw(2, 3, (3, 4), 4, (3, 2))
    bias = case.normal(4)
    inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    output = case.call("inputs that require gradients", conv_transpose2d, *inputs, stride=(2, 1), padding=(1, 0))
    case.gradients("gradients of x, weight and bias", output, {"x": x, "weight": weight, "bias": bias})
    case.call("float64 stays float64", conv_transpose2d, *case.cast(torch.float64, *draw(2, 2, (3, 3), 2, (2, 2)), case.normal(2)))
    ### BEGIN HIDDEN TESTS
    case.call("a 1×1 kernel mixes channels", conv_transpose2d, *draw(2, 4, (3, 5), 3, (1, 1)), case.normal(3))
    case.call("a 1×1 kernel, stride 2: zeros between, bias everywhere", conv_transpose2d, *draw(2, 2, (3, 2), 3, (1, 1)), case.normal(3), stride=2)
    case.call("DCGAN's first layer: one pixel becomes 4×4", conv_transpose2d, *draw(3, 6, (1, 1), 4, (4, 4)))
    case.call("a wide padding", conv_transpose2d, *draw(2, 2, (6, 7), 3, (3, 3)), case.normal(3), padding=3)
    case.call("stride and padding as pairs, kernel not square", conv_transpose2d, *draw(2, 3, (3, 4), 4, (4, 3)), case.normal(4), stride=(3, 2), padding=(2, 1))
    case.call("a tall kernel", conv_transpose2d, *draw(2, 2, (4, 6), 3, (5, 1)), stride=(2, 1), padding=(2, 0))
    case.call("a wide kernel", conv_transpose2d, *draw(2, 2, (6, 4), 3, (1, 5)), stride=(1, 2), padding=(0, 2))
    case.call("five images, one channel", conv_transpose2d, *draw(5, 1, (3, 4), 2, (3, 3)), case.normal(2))
    x, weight = draw(2, 3, (3, 4), 2, (3, 3))
    case.call("an input that is not contiguous", conv_transpose2d, x.transpose(2, 3), weight, padding=1)
    case.call("kernels that are not contiguous", conv_transpose2d, x, weight.transpose(2, 3), None, 2, 1)
    sizes = [case.integer(3, 6) for _ in range(2)]
    strides, paddings = [tuple(case.integer(low, low + 2) for _ in range(2)) for low in (1, 0)]
    case.call("shapes drawn by chance", conv_transpose2d, *draw(2, 3, sizes, 4, (3, 4)), case.normal(4), stride=strides, padding=paddings)
    adjoint("the adjoint identity, stride 1", (4, 5), (2, 3), 1, 0)
    adjoint("the adjoint identity, pairs", (7, 10), (3, 5), (2, 3), (1, 2), C=3, O=2)
    adjoint("the adjoint identity, DCGAN's layer", (8, 8), (4, 4), 2, 1, C=3, O=4)
    case.call("float64, strides and padding", conv_transpose2d, *case.cast(torch.float64, *draw(2, 3, (4, 3), 2, (3, 2))), stride=2, padding=1)
    x, weight = [tensor.requires_grad_() for tensor in draw(2, 2, (3, 4), 3, (4, 3))]
    output = case.call("gradients required, overlapping copies", conv_transpose2d, x, weight, stride=2, padding=1)
    case.gradients("gradients, overlapping copies", output, {"x": x, "weight": weight})
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "conv_transpose2d",
    "Take one input pixel: what does the output look like? Then two pixels, one stride apart. What happens where the two copies of the kernel overlap?",
    "The paper's name, *fractionally-strided* convolution, tells another way to the same: an input with zeros between its pixels, then an ordinary convolution of stride 1 (with the kernel mirrored). "
    "Figure 1 shows the sizes.",
    "Make an empty canvas for all copies. For each pixel (u, v) of the kernel, every input pixel adds its share, mixed over the channels, to the canvas at s·i + u, s·j + v: one strided slice. "
    "Cut the padding off all around, then add the bias. F.fold does the laying down as well.",
)
misconceptions(
    "conv_transpose2d",
    mistake("kernel mirrored", ("weight[:, :, u, v])", "weight[:, :, k_h - 1 - u, k_w - 1 - v])"),
            says="The kernel's copies are mirrored. They are laid down as they are; only the way over an ordinary convolution needs the kernel mirrored."),
    mistake("ordinary convolution of a spread input, kernel not mirrored",
            "def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):\n"
            "    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)\n"
            "    N, C, H, W = x.shape\n"
            "    k_h, k_w = weight.shape[2:]\n"
            "    spread = x.new_zeros(N, C, (H - 1) * s_h + 1, (W - 1) * s_w + 1)\n"
            "    spread[:, :, ::s_h, ::s_w] = x\n"
            "    y = conv2d(F.pad(spread, (k_w - 1, k_w - 1, k_h - 1, k_h - 1)), weight.transpose(0, 1).transpose(2, 3).reshape(weight.size(1), C, k_h, k_w))\n"
            "    y = y[:, :, p_h:y.size(2) - p_h, p_w:y.size(3) - p_w]\n"
            "    return y if bias is None else y + bias[:, None, None]\n",
            says="The kernel's axes are swapped instead of mirrored: transposing the *matrix* of a convolution does not transpose the kernel."),
    mistake("copies overwrite each other", ("] += share", "] = share"), says="Where copies of the kernel overlap, the last one wins; they have to be added up."),
    mistake("copies averaged where they overlap", ("    y = canvas[", "    count = torch.zeros_like(canvas)\n    for u in range(k_h):\n        for v in range(k_w):\n"
             "            count[:, :, u : u + (H - 1) * s_h + 1 : s_h, v : v + (W - 1) * s_w + 1 : s_w] += 1\n    canvas = canvas / count.clamp(min=1)\n    y = canvas["),
            says="Where copies of the kernel overlap, their mean is taken; they have to be added up."),
    mistake("bias forgotten", ("y = y + bias[:, None, None]", "pass"), says="The bias is not added."),
    mistake("bias subtracted", ("y + bias", "y - bias"), says="The bias is subtracted; it is added."),
    mistake("one bias for all", ("bias[:, None, None]", "bias[0]"), says="The first bias is added to every output channel; each has its own."),
    mistake("a bias with every copy", ("            canvas[:", "            share = share if bias is None else share + bias[:, None, None]\n            canvas[:"),
            ("y = y + bias[:, None, None]", "pass"),
            says="The bias is added with every copy of the kernel, so several times where they overlap and never in the gaps; it is added once to every pixel."),
    mistake("padding ignored", ("p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w", "0 : canvas.size(2), 0 : canvas.size(3)"),
            says="The padding is ignored; that many pixels are cut off on every side."),
    mistake("padding added", ("y = canvas[:, :, p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w]", "y = F.pad(canvas, (p_w, p_w, p_h, p_h))"),
            says="Zeros are laid around the result; the padding of a transposed convolution is cut off."),
    mistake("the input padded", ("    N, _, H, W = x.shape", "    x = F.pad(x, (p_w, p_w, p_h, p_h))\n    N, _, H, W = x.shape"),
            ("p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w", "0 : canvas.size(2), 0 : canvas.size(3)"),
            says="The input is padded with zeros, as for a convolution; here the padding is cut off the result."),
    mistake("stride − 1 pixels too many", ("x.new_zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w)", "x.new_zeros(N, O, H * s_h + k_h - 1, W * s_w + k_w - 1)"),
            says="There are stride − 1 rows and columns too many at the bottom and right: n − 1 strides lie between n copies, and nothing follows the last copy."),
    mistake("cut off at the top and left only", ("p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w", "p_h : canvas.size(2), p_w : canvas.size(3)"),
            says="Pixels are cut off at the top and left only; padding is on all four sides."),
    mistake("cut off at the bottom and right only", ("p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w", "0 : canvas.size(2) - p_h, 0 : canvas.size(3) - p_w"),
            says="Pixels are cut off at the bottom and right only; padding is on all four sides."),
    mistake("all of the padding cut off at the top and left", ("p_h : canvas.size(2) - p_h, p_w : canvas.size(3) - p_w", "2 * p_h :, 2 * p_w :"),
            says="The size is right, but all that is cut off comes from the top and left; it comes off every side alike."),
    mistake("stride ignored", ("(s_h, s_w), (p_h, p_w) = pair(stride)", "(s_h, s_w), (p_h, p_w) = pair(1)"), says="The stride is ignored: the copies of neighbouring pixels lie s pixels apart."),
    mistake("one stride for both axes", ("    N, _, H, W", "    s_w = s_h\n    N, _, H, W"), says="The first number of the stride's pair is used for both axes; the second is the width's."),
    mistake("stride pair swapped", ("(s_h, s_w)", "(s_w, s_h)"), says="The stride's pair is read as (width, height); it is (height, width)."),
    mistake("padding pair swapped", ("(p_h, p_w)", "(p_w, p_h)"), says="The padding's pair is read as (width, height); it is (height, width)."),
    mistake("both pairs swapped", ("(s_h, s_w), (p_h, p_w)", "(s_w, s_h), (p_w, p_h)"), says="Both pairs are read as (width, height); they are (height, width)."),
    mistake("kernels read output channels first", ("    N, _, H, W", "    weight = weight.reshape(weight.size(1), weight.size(0), *weight.shape[2:]).transpose(0, 1)\n    N, _, H, W"),
            says="The kernels are read with the output's channels first, as a convolution's are; here the input's channels come first, (C, O, kH, kW)."),
    mistake("kernel's axes swapped", ("    N, _, H, W", "    weight = weight.transpose(2, 3)\n    N, _, H, W"),
            says="The kernel's rows and columns change places: w[…, u, v] belongs to the pixel u rows down and v columns to the right."),
    mistake("stride zeros between, not stride − 1", ("(s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)",
             "(s_h, s_w), (p_h, p_w) = [s + (s > 1) for s in pair(stride)], pair(padding)"),
            says="Copies lie s + 1 pixels apart: between two input pixels there are s − 1 zeros, not s."),
    mistake("canvas of size · stride", ("x.new_zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w)", "x.new_zeros(N, O, H * s_h + k_h, W * s_w + k_w)"),
            says="The canvas is one stride too large: n copies span n − 1 strides and one kernel."),
    mistake("only the first channel", ("\"nchw,co->nohw\", x, weight[:, :, u, v])", "\"nchw,co->nohw\", x[:, :1], weight[:1, :, u, v])"),
            says="Only the first input channel contributes; all of them do."),
    mistake("the first image for all", ("\"nchw,co->nohw\", x, weight", "\"nchw,co->nohw\", x[:1].expand_as(x), weight"), says="Every image of the batch gets the first image's result."),
    mistake("everything becomes float32", ("    return y", "    return y.float()"), says="The result is float32 whatever came in; the dtype of x has to be kept."),
    mistake("gradients cut off", ("    return y", "    return y.detach()"), says="No gradient reaches x, weight and bias (detach, no_grad, numpy or .item() on the way); a layer could not learn."),
)  # fmt: skip
equivalents(
    "conv_transpose2d",
    {
        "variable: `canvas = x.new_zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w)` → "
        "`canvas = weight.new_zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w)`": "x and weight have one dtype and device",
    },
)


# %% tags=["alternative"]
@alternative("F.fold of a matrix product")
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    (N, C, H, W), (k_h, k_w) = x.shape, weight.shape[2:]
    size = (conv_transpose_output_size(H, k_h, s_h, p_h), conv_transpose_output_size(W, k_w, s_w, p_w))
    columns = weight.flatten(1).T @ x.flatten(2)  # (N, O·kH·kW, H·W)
    y = F.fold(columns, size, (k_h, k_w), stride=(s_h, s_w), padding=(p_h, p_w))
    return y if bias is None else y + bias.view(1, -1, 1, 1)


# %% tags=["alternative"]
@alternative("zeros between the pixels, then the own conv2d with a mirrored kernel")
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    N, C, H, W = x.shape
    spread = torch.zeros(N, C, (H - 1) * s_h + 1, (W - 1) * s_w + 1, dtype=x.dtype)
    spread[:, :, ::s_h, ::s_w] = x
    k_h, k_w = weight.shape[-2:]
    mirrored = torch.flip(weight, (2, 3)).transpose(0, 1)
    y = conv2d(spread, mirrored, bias, 1, (k_h - 1, k_w - 1))
    return y[:, :, p_h : y.shape[2] - p_h, p_w : y.shape[3] - p_w]


# %% tags=["alternative"]
@alternative("a copy of the kernel for each input pixel")
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    N, C, H, W = x.shape
    _, O, k_h, k_w = weight.shape
    out = torch.zeros(N, O, (H - 1) * s_h + k_h, (W - 1) * s_w + k_w).to(x.dtype)
    if bias is not None:
        out = out + bias[None, :, None, None]
    for i in range(H):
        for j in range(W):
            copy = torch.tensordot(x[:, :, i, j], weight, dims=1)  # (N, O, kH, kW)
            out[:, :, i * s_h : i * s_h + k_h, j * s_w : j * s_w + k_w] += copy
    if p_h:
        out = out[:, :, p_h:-p_h]
    if p_w:
        out = out[:, :, :, p_w:-p_w]
    return out


# %% tags=["alternative"]
@alternative("the gradient of the own conv2d")
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):
    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    rows = conv_transpose_output_size(x.size(2), weight.size(2), s_h, p_h)
    columns = conv_transpose_output_size(x.size(3), weight.size(3), s_w, p_w)
    with torch.enable_grad():
        start = torch.zeros(x.size(0), weight.size(1), rows, columns, dtype=x.dtype, requires_grad=True)
        (y,) = torch.autograd.grad(conv2d(start, weight, None, (s_h, s_w), (p_h, p_w)), start, x, create_graph=True)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


# %% tags=["alternative"]
@alternative("the two axes as matrices, einsum")
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0):
    def placement(size, kernel, step, cut):  # (output, input, kernel): 1 where the copy of an input pixel puts a kernel's pixel
        length = (size - 1) * step + kernel - 2 * cut
        a, i, u = torch.meshgrid(torch.arange(length), torch.arange(size), torch.arange(kernel), indexing="ij")
        return (a + cut == step * i + u).to(x.dtype)

    (s_h, s_w), (p_h, p_w) = pair(stride), pair(padding)
    rows = placement(x.size(2), weight.size(2), s_h, p_h)
    columns = placement(x.size(3), weight.size(3), s_w, p_w)
    y = torch.einsum("ncij,couv,aiu,bjv->noab", x, weight, rows, columns)
    return y if bias is None else y + bias[:, None, None]


# %% [markdown]
# ### Try it: the matrix and its transpose
#
# A small convolution (5×5 to 3×3, kernel 3, stride 2, padding 1), applied to each of the 25 unit images: the results are the columns of its matrix $A$. Then the transposed convolution, applied to each of the 9 unit images.

# %% tags=["picture"]
torch.manual_seed(SEED)
kernel = torch.randn(1, 1, 3, 3)
A = conv2d(torch.eye(25).view(25, 1, 5, 5), kernel, stride=2, padding=1).flatten(1).T  # (9, 25)
B = conv_transpose2d(torch.eye(9).view(9, 1, 3, 3), kernel, stride=2, padding=1).flatten(1).T  # (25, 9)

figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", width_ratios=[25, 9, 25])
limit = kernel.abs().max().item()
product = B @ A
for axis, matrix, title, labels in (
    (axes[0], A, "convolution, $A$: 9×25", ("input pixel", "output pixel")),
    (axes[1], B, "transposed, 25×9", ("input pixel", "output pixel")),
    (axes[2], product, "there and back: not the identity", ("input pixel", "output pixel")),
):
    shown = axis.imshow(matrix, cmap="PuOr", vmin=-limit, vmax=limit)
    axis.set(xlabel=labels[0], ylabel=labels[1], xticks=range(0, matrix.size(1), 5), yticks=range(0, matrix.size(0), 5))
    axis.set_title(title, fontsize=10)
figure.colorbar(shown, ax=axes, label="weight", shrink=0.7)
plt.show()
x, y = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 3, 3)
there = (conv2d(x, kernel, stride=2, padding=1) * y).sum().item()
back = (x * conv_transpose2d(y, kernel, stride=2, padding=1)).sum().item()
print(f"second matrix = first transposed: {torch.equal(B, A.T)};  ⟨conv(x), y⟩ = {there:.5f},  ⟨x, convᵀ(y)⟩ = {back:.5f}")

# %% [markdown]
# **What to see.** The first matrix has the nine weights of the kernel in every row, shifted (cut where the window hangs over the padding). The second is the first turned over its diagonal, number for number.
# Their product, on the right, is far from the identity: a transposed convolution restores the *shape*, not the image.
#
# ### Try it: where copies overlap
#
# How many copies reach each pixel of the output? Feed ones through a kernel of ones.

# %% tags=["picture"]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
for axis, (k, s, p) in zip(axes, ((3, 2, 1), (4, 2, 1), (5, 2, 2))):
    count = conv_transpose2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, k, k), stride=s, padding=p)[0, 0]
    shown = axis.imshow(count, cmap="cividis", vmin=0, vmax=9)
    axis.set_title(f"kernel {k}, stride {s}, padding {p}: {count.size(0)}×{count.size(1)}", fontsize=10)
    axis.set(xticks=[], yticks=[])
figure.colorbar(shown, ax=axes, label="copies on a pixel", shrink=0.9)
plt.show()

# %% [markdown]
# **What to see.** With kernel 3 and stride 2, pixels get one, two or four copies, in a checkerboard that a generator has to work against. With kernel 4 every pixel inside gets four: the stride divides the kernel. The
# paper's figure 1 shows kernels of 5; PyTorch versions, and this course, use 4.

# %% [markdown] written="adjoint_not_inverse" points=2
# ## Question 1 · transposed, not inverse
#
# *2 points, graded by a person*
#
# (a) The paper says that transposed convolutions are "wrongly called deconvolutions". Why wrongly? Give an argument with numbers of pixels for a convolution with stride 2.
# (b) In training, where does a transposed convolution turn up in a network that only has ordinary convolutions?
#
# ### BEGIN SOLUTION
# (a) A deconvolution would recover $x$ from $\mathrm{conv}(x)$. With stride 2 a 64×64 image becomes 32×32 (one channel): 4,096 numbers become 1,024, so many images have the same result and nothing can tell
# them apart. The transposed convolution computes $A^\top y$, and $A^\top A$ is not the identity (it has rank at most 1,024).
#
# (b) In the backward pass: if $y = Ax$, the gradient of the loss with respect to $x$ is $A^\top$ times the gradient with respect to $y$, a transposed convolution with the same kernel.
#
# **Rubric.** 1 point: information is lost (a count, or a rank), so no inverse exists; "it is the transpose" without a reason is ½. 1 point: the gradient with respect to the input.
# ### END SOLUTION

# %% [markdown] written="pooling_or_stride" points=2
# ## Question 2 · pooling or stride
#
# *2 points, graded by a person*
#
# (a) Name one thing that max-pooling has and a strided convolution has not, and one the other way round. (b) Why does the second matter more in a discriminator that a generator learns from than in a classifier?
#
# ### BEGIN SOLUTION
# (a) Max-pooling has no parameters, costs little, and does not mind a shift of a pixel within its window. A strided convolution learns *how* to shrink, sees all pixels of its window, and keeps where in the window something was.
#
# (b) A generator's only teacher is the gradient with respect to its pixels, which passes through the discriminator. Through max-pooling it reaches one pixel in four (for windows of 2), and jumps from pixel to pixel as the image changes; through a strided
# convolution every pixel gets some. A classifier's images are fixed: nobody needs the gradient of their pixels.
#
# **Rubric.** 1 point: one for each (½ + ½). 1 point: the gradient with respect to the image is what trains the generator.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - A convolution is a sum of products over a sliding window; $n' = \lfloor (n + 2p - k)/s \rfloor + 1$.
# - A transposed convolution lays copies of a kernel down; $n' = (n-1)s + k - 2p$. Its matrix is the transpose of the convolution's, which is why it *enlarges*, and why it is the backward pass of one.
# - Kernel 4, stride 2, padding 1 halves or doubles, without a checkerboard. DCGAN is eight or so such layers.
# - Strided convolutions pass a gradient to every pixel; max-pooling does not.
#
# **Next**: `pytorch_and_representations`. What you built here is in `papers.dcgan.foundations`.

# %% tags=["picture"]
score()
