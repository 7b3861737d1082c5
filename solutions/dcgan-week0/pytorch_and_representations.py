# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
#   curriculum:
#     title: PyTorch, and what a representation is for
#     order: 3
#     exports: papers.dcgan.foundations
#     minutes: 100
# ---

# %% [markdown]
# # PyTorch, and what a representation is for
#
# Prerequisites of *Unsupervised Representation Learning with Deep Convolutional GANs*, sections 2.1 and 5 · about 100 minutes
#
# At the end of this notebook you can
#
# - write a `Dataset`, a small convolutional network and a training loop, the three things every later week uses;
# - find the directions in which data vary (PCA) and groups in them (k-means) without any label;
# - judge a representation by how little a linear model needs on top of it: a *linear probe*, the tool with which the paper judges its GAN.
#
# **Week 0 of the roadmap, tasks 3 and 4.** PyTorch basics: tensors, datasets, training loops, simple models. Unsupervised representation learning: what it is, and how it serves feature extraction and clustering.
#
# 1. Watch as much as you need of [PyTorch for Beginners – freeCodeCamp](https://www.youtube.com/watch?v=GIsg-ZUy0MY) (3 hours, in parts) and [PyTorch Tensors Explained – StatQuest](https://youtu.be/L35fFDpwIM4).
# 2. Watch [Unsupervised Learning Overview](https://youtu.be/yteYU_QpUxs).
# 3. Read section 2.1 of [the paper](https://arxiv.org/pdf/1511.06434), ten lines on learning representations from unlabelled data.
#
# The data are real: 1,797 handwritten digits of 8×8 pixels, which come with scikit-learn, so nothing is downloaded.

# %% tags=["export"]
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
from torch.utils.data import DataLoader

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A9A9A"  # told apart by colour-blind readers too

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0
DEVICE = "auto"
DATA_DIR = ""

# %% [markdown]
# ## Tensors in one minute
#
# A tensor is a block of numbers with a **shape**, a **dtype** and a **device**. If it `requires_grad`, PyTorch remembers how it was used, and `backward()` on a number computed from it fills its `.grad`.

# %% tags=["picture"]
images = torch.zeros(2, 1, 8, 8)  # two images, one channel, 8×8
print("shape", tuple(images.shape), "· dtype", images.dtype, "· device", images.device)
print("all pixels of each image in a row:", tuple(images.flatten(1).shape))
w = torch.tensor([1.0, 2.0], requires_grad=True)
(w**2).sum().backward()
print("gradient of w₁² + w₂² at (1, 2):", w.grad.tolist())

# %% [markdown]
# ## Exercise 1 · `DigitDataset`
#
# *Difficulty ●○○ · 10 minutes · 2 points*
#
# A `Dataset` answers two questions: how many examples are there, and what is example number $i$? A `DataLoader` asks them and stacks the answers to batches. scikit-learn gives pixels from 0 to 16; we want what DCGAN wants of its images:
# a channel axis, float32, and $[-1, 1]$ (section 4 of the paper: "scaling to the range of the tanh activation function").


# %% tags=["export"]
class DigitDataset(Dataset):
    """Handwritten digits as a Dataset.

    Args:
        images: (N, 8, 8), a numpy array or tensor, pixels from 0 (paper) to 16 (ink).
        labels: (N,), integers.

    len(dataset) is N; dataset[i] is (image, label): a float32 tensor (1, 8, 8) in [−1, 1], where
    pixel 0 becomes −1 and pixel 16 becomes 1, and an int. What was given is not changed.
    """

    def __init__(self, images, labels) -> None:
        ### BEGIN SOLUTION
        self.images = torch.as_tensor(images).float().unsqueeze(1) / 8 - 1  # (N, 1, 8, 8)
        self.labels = torch.as_tensor(labels)
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self.labels)
        ### END SOLUTION

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ### BEGIN SOLUTION
        return self.images[index], int(self.labels[index])
        ### END SOLUTION


# %%
@check("DigitDataset", points=2, paper="section 4: images are scaled to the range of tanh")
def _(case):
    def example(dataset, index):
        image, label = dataset[index]
        return image, int(label) if getattr(label, "ndim", 0) == 0 else f"not one number but {list(label.shape)}"

    def look(name, dataset, index):
        case.call(name, example, dataset, index, labels=("image", "label"))

    pixels, labels = case.integers(0, 17, 5, 8, 8), case.integers(0, 10, 5)
    pixels[0, 0, :2] = torch.tensor([0, 16])
    kept = pixels.clone()
    dataset = DigitDataset(pixels.double().numpy(), labels.numpy())
    look("the first example", dataset, 0)
    case.record("how many", len(dataset))
    look("the last example", dataset, 4)
    look("the first example once more", dataset, 0)
    case.record("what kind of dataset", isinstance(dataset, Dataset), about="a torch Dataset:")
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    case.record("a batch from a DataLoader", [batch[0], batch[1]], labels=("images", "labels"))
    case.record("the label is an int", isinstance(dataset[0][1], (int, np.integer)))
    pale = case.integers(0, 10, 3, 8, 8).float()
    before = pale.clone()
    look("float32 pixels, none above 9", DigitDataset(pale, labels[:3]), 1)
    case.record("the float32 pixels given are not changed", bool(torch.equal(pale, before)))
    ### BEGIN HIDDEN TESTS
    dataset = DigitDataset(pixels, labels)
    look("from integer tensors", dataset, 2)
    look("from integer tensors, again", dataset, 2)
    case.record("the pixels given are not changed", bool(torch.equal(pixels, kept)))
    floats = pixels.double().numpy()
    before = floats.copy()
    dataset = DigitDataset(floats, labels.numpy())
    look("from a float64 array", dataset, 1)
    case.record("the array given is not changed", bool((floats == before).all()))
    look("from float32 tensors", DigitDataset(case.integers(0, 17, 3, 8, 8).float(), case.integers(0, 10, 3)), 1)
    floats = pixels.float().numpy()
    before = floats.copy()
    look("from a float32 array", DigitDataset(floats, labels.numpy()), 3)
    case.record("the float32 array given is not changed", bool((floats == before).all()))
    DigitDataset(16 - pixels, 9 - labels)
    look("a dataset after another one was made", dataset, 2)
    case.record("how many of twelve", len(DigitDataset(case.integers(0, 17, 12, 8, 8).numpy(), case.integers(0, 10, 12).numpy())))
    batches = [batch for batch, _ in DataLoader(DigitDataset(pixels.numpy(), labels.numpy()), batch_size=2)]
    case.record("three batches of a loader", batches)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
from autograder import alternative, equivalents, hints, misconceptions, mistake

hints(
    "DigitDataset",
    "Which straight line takes 0 to −1 and 16 to 1?",
    "Section 4 of the paper, first paragraph: no pre-processing besides scaling to the range of tanh.",
    "Turn the images into a float32 tensor, put a channel axis behind N, divide by 8 and subtract 1, all into new tensors. Hand out one of them with its label as an int.",
)
misconceptions(
    "DigitDataset",
    mistake("pixels in [0, 1]", (" / 8 - 1", " / 16"), says="Pixels are scaled to [0, 1]; they have to be in [−1, 1]."),
    mistake("pixels divided by 255", (" / 8 - 1", " / 127.5 - 1"), says="Pixels are scaled as if white were 255; in these images it is 16."),
    mistake("pixels not scaled", (" / 8 - 1", ""), says="Pixels are left from 0 to 16; they have to be in [−1, 1]."),
    mistake("standardised", (".float().unsqueeze(1) / 8 - 1", ".float().unsqueeze(1)\n        self.images = (self.images - self.images.mean()) / self.images.std()"),
            says="Pixels are brought to mean 0 and standard deviation 1; they have to be scaled to [−1, 1]."),
    mistake("upside down", (" / 8 - 1", " / -8 + 1"), says="Ink and paper have changed places: pixel 0 has to become −1."),
    mistake("no channel axis", (".unsqueeze(1)", ""), says="The channel axis is missing: an image is (1, 8, 8)."),
    mistake("channel axis last", (".unsqueeze(1)", ".unsqueeze(3)"), says="The channel axis is last; in PyTorch it comes before height and width."),
    mistake("float64", (".float()", ".double()"), says="Images are float64; a network's weights are float32, and the two do not multiply."),
    mistake("label first", ("return self.images[index], int(self.labels[index])", "return int(self.labels[index]), self.images[index]"), says="The label comes first; an example is (image, label)."),
    mistake("length of a side", ("return len(self.labels)", "return self.images.size(-1)"), says="The length is the number of pixels along a side; it is the number of examples."),
    mistake("one short", ("return len(self.labels)", "return len(self.labels) - 1"), says="The last example is lost: the length is one short."),
    mistake("scaled anew at every look", ("        return self.images[index], int", "        self.images[index] /= 2\n        return self.images[index], int"),
            says="Looking at an example changes it: the stored image is scaled in place each time. Make a new tensor."),
    mistake("scaled in place", (".float().unsqueeze(1) / 8 - 1", ".float().unsqueeze(1).div_(8).sub_(1)"),
            says="float32 pixels are scaled in place: `as_tensor`, `from_numpy` and `float` do not copy them, so what was given is changed. Make a new tensor."),
    mistake("scaled by the largest pixel", (" / 8 - 1", "\n        self.images = 2 * self.images / self.images.max() - 1"),
            says="The largest pixel that was given becomes 1; pixel 16 does, whether or not there is one."),
    mistake("the label is a tensor", ("int(self.labels[index])", "self.labels[index]"), says="The label is handed out as a tensor; an int is wanted (`int` or `.item()`)."),
    mistake("height and width swapped", (".unsqueeze(1)", ".transpose(1, 2).unsqueeze(1)"), says="Images are turned over their diagonal: rows and columns have changed places."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("scaled when asked for")
class DigitDataset(Dataset):
    def __init__(self, images, labels):
        self.pixels, self.targets = images, labels

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        image = torch.tensor(np.asarray(self.pixels[i]), dtype=torch.float32)
        return (image[None] - 8) / 8, int(self.targets[i])


# %% tags=["alternative"]
@alternative("numpy first")
class DigitDataset(Dataset):
    def __init__(self, images, labels):
        scaled = np.array(images, dtype=np.float32) * 0.125 - 1
        self.data = [(torch.from_numpy(image).reshape(1, 8, 8), label) for image, label in zip(scaled, list(map(int, labels)))]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


# %% tags=["alternative"]
@alternative("a TensorDataset inside")
class DigitDataset(Dataset):
    def __init__(self, images, labels):
        from torch.utils.data import TensorDataset

        pixels = torch.as_tensor(images).to(torch.float32).view(-1, 1, 8, 8)
        self.inner = TensorDataset(2 * (pixels / 16) - 1, torch.as_tensor(labels).long())

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        image, label = self.inner[index]
        return image, label.item()


# %% tags=["alternative"]
@alternative("a subclass of TensorDataset")
class DigitDataset(torch.utils.data.TensorDataset):
    def __init__(self, images, labels):
        super().__init__(torch.as_tensor(images).float().div(8).sub(1)[:, None], torch.as_tensor(labels))

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, int(label)


# %% [markdown]
# ## Exercise 2 · `DigitCNN`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# A small convolutional classifier, already in DCGAN's manner: strided convolutions, no pooling.
#
# | layer | is | result |
# | --- | --- | --- |
# | `conv1` | `nn.Conv2d`, 1 → `width` channels, kernel 3, stride 2, padding 1; then ReLU | width × 4 × 4 |
# | `conv2` | `nn.Conv2d`, `width` → 2·`width`, kernel 3, stride 2, padding 1; then ReLU, then flattened | 8·width |
# | `linear` | `nn.Linear`, 8·`width` → `classes` | logits |
#
# `features(x)` gives what stands before the last layer: this is the *representation* that the network has found. `forward(x)` gives logits.


# %% tags=["export"]
class DigitCNN(nn.Module):
    """A convolutional classifier of 8×8 images.

    Args:
        width: channels of the first convolution.
        classes: how many logits.

    Its layers are `conv1`, `conv2` and `linear`, as in the table above.
    """

    def __init__(self, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.linear = nn.Linear(8 * width, classes)
        ### END SOLUTION

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 8·width), behind the second ReLU."""
        ### BEGIN SOLUTION
        x = F.relu(self.conv1(x))  # (B, width, 4, 4)
        x = F.relu(self.conv2(x))  # (B, 2·width, 2, 2)
        return x.flatten(1)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> logits (B, classes)."""
        ### BEGIN SOLUTION
        return self.linear(self.features(x))
        ### END SOLUTION


# %%
@check("DigitCNN", points=3)
def _(case):
    model = case.initialise(DigitCNN(width=2, classes=3))
    x = case.normal(2, 1, 8, 8)
    case.call("features of two images", model.features, x)
    case.call("logits of two images", model, x)
    model = case.initialise(DigitCNN())
    x = case.normal(3, 1, 8, 8)
    case.call("the default sizes: features", model.features, x)
    case.call("the default sizes: logits", model, x)
    case.call("one image", model, case.normal(1, 1, 8, 8))
    output = model(x)
    case.gradients("gradients of the parameters", output, model)
    ### BEGIN HIDDEN TESTS
    model = case.initialise(DigitCNN(3, 5))
    x = case.normal(4, 1, 8, 8)
    case.call("width 3, five classes: features", model.features, x)
    case.call("width 3, five classes: logits", model, x)
    model.eval()
    case.call("the same in eval mode", model, x)
    copy = DigitCNN(3, 5)
    copy.load_state_dict(model.state_dict())
    case.call("a copy that loaded its weights", copy, x)
    case.call("features larger than 1 and images of size 3", model.features, case.normal(2, 1, 8, 8, scale=3.0))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "DigitCNN",
    "Write the shape behind each layer. Where is the 8 in 8·width from?",
    "Section 3 of the paper: strided convolutions in place of pooling. The table above names each layer.",
    "Make the three layers in __init__. In features: convolution, ReLU, convolution, ReLU, then flatten all axes but the batch. In forward: the linear layer on the features, and nothing behind it.",
)
misconceptions(
    "DigitCNN",
    mistake("no ReLU behind the first convolution", ("F.relu(self.conv1(x))", "self.conv1(x)"), says="There is no ReLU behind the first convolution: two linear layers in a row are one."),
    mistake("no ReLU behind the second convolution", ("F.relu(self.conv2(x))", "self.conv2(x)"), says="There is no ReLU behind the second convolution; features are what comes out of it."),
    mistake("softmax on the logits", ("return self.linear(self.features(x))", "return self.linear(self.features(x)).softmax(-1)"), says="The result is probabilities; the loss takes logits and has its own softmax."),
    mistake("ReLU on the logits", ("return self.linear(self.features(x))", "return F.relu(self.linear(self.features(x)))"), says="A ReLU stands behind the last layer, so no logit can be negative."),
    mistake("LeakyReLU", ("F.relu(self.conv1(x))", "F.leaky_relu(self.conv1(x), 0.2)"), ("F.relu(self.conv2(x))", "F.leaky_relu(self.conv2(x), 0.2)"), says="The activations are LeakyReLU; this exercise asks for ReLU."),
    mistake("features not flattened", ("return x.flatten(1)", "return x"), ("self.linear(self.features(x))", "self.linear(self.features(x).flatten(1))"), says="Features are still (2·width, 2, 2); they have to be flattened to one axis."),
    mistake("the batch flattened too", ("return x.flatten(1)", "return x.flatten(0)"), ("self.linear(self.features(x))", "self.linear(self.features(x).view(len(x), -1))"),
            says="All axes are flattened into one, the batch's as well; it has to stay."),
    mistake("features are the logits", ("return x.flatten(1)", "return self.linear(x.flatten(1))"), ("self.linear(self.features(x))", "self.features(x)"), says="features() gives the logits; it has to give what stands before the last layer."),
    mistake("no padding", ("width, 3, stride=2, padding=1)\n        self.linear", "width, 3, stride=1)\n        self.linear"), says="The second convolution is not the table's: stride 2 and padding 1 are wanted."),
    mistake("pixels in another order", ("x.flatten(1)", "x.permute(0, 2, 3, 1).flatten(1)"), says="Features are flattened with the channels last; channel, row, column is the order."),
    mistake("five pixels wide", ("nn.Conv2d(1, width, 3, stride=2, padding=1)", "nn.Conv2d(1, width, 5, stride=2, padding=2)"), says="The first kernel is 5×5; the table asks for 3×3."),
    mistake("no biases", ("nn.Conv2d(1, width, 3, stride=2, padding=1)", "nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False)"), says="The first convolution has no bias; the table's layers have PyTorch's default, a bias."),
    mistake("the width ignored", ("nn.Linear(8 * width, classes)", "nn.Linear(8 * width, 10)"), says="There are always ten logits; `classes` says how many."),
    mistake("ReLU after flattening twice", ("x = F.relu(self.conv2(x))", "x = F.relu(self.conv2(F.relu(-x)))"), says="The sign is lost between the two convolutions: the second sees another activation's result."),
    mistake("features detached", ("self.linear(self.features(x))", "self.linear(self.features(x).detach())"), says="The features are detached in forward(), so the convolutions get no gradient and never learn."),
)  # fmt: skip


# %% tags=["alternative"]
@alternative("module activations")
class DigitCNN(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(width, width * 2, kernel_size=3, stride=2, padding=1)
        self.linear = nn.Linear(width * 8, classes)
        self.activation, self.flatten = nn.ReLU(), nn.Flatten()

    def features(self, x):
        return self.flatten(self.activation(self.conv2(self.activation(self.conv1(x)))))

    def forward(self, x):
        return self.linear(self.features(x))


# %% tags=["alternative"]
@alternative("clamp, view")
class DigitCNN(nn.Module):
    def __init__(self, width: int = 16, classes: int = 10):
        super(DigitCNN, self).__init__()
        self.linear = nn.Linear(2 * width * 2 * 2, classes)
        self.conv2 = nn.Conv2d(width, 2 * width, (3, 3), (2, 2), (1, 1))
        self.conv1 = nn.Conv2d(1, width, (3, 3), (2, 2), (1, 1))

    def features(self, x):
        for layer in (self.conv1, self.conv2):
            x = layer(x).clamp(min=0)
        return x.view(x.shape[0], -1)

    def forward(self, images):
        return F.linear(self.features(images), self.linear.weight, self.linear.bias)


# %% tags=["alternative"]
@alternative("in-place ReLU, reshape")
class DigitCNN(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.conv1, self.conv2, self.linear = nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.Linear(8 * width, classes)

    def features(self, x):
        return F.relu_(self.conv2(F.relu_(self.conv1(x)))).reshape(len(x), -1)

    def forward(self, x):
        return self.linear(self.features(x))


# %% tags=["alternative"]
@alternative("a pipeline of functions")
class DigitCNN(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        options = {"kernel_size": 3, "stride": 2, "padding": 1}
        self.conv1 = nn.Conv2d(1, width, **options)
        self.conv2 = nn.Conv2d(width, 2 * width, **options)
        self.linear = nn.Linear(8 * width, classes)

    def features(self, x):
        hidden = torch.relu(self.conv1(x))
        return torch.flatten(torch.relu(self.conv2(hidden)), start_dim=1)

    def forward(self, x):
        h = self.features(x)
        return h @ self.linear.weight.T + self.linear.bias


# %% [markdown]
# ## Exercise 3 · `train_epoch`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# Every training loop of this course is these five lines: clear the gradients, predict, measure, back up, step. Once through all batches is an **epoch**. Batches may differ in size (the last one usually does), so the mean loss of an epoch is over *examples*.
# Predict once for each batch: the loss of that one prediction is both reported and backed up.


# %% tags=["export"]
def train_epoch(model: nn.Module, batches, optimizer: torch.optim.Optimizer) -> float:
    """Train a classifier on each batch once, in train mode.

    Args:
        model: gives logits (B, C).
        batches: (images, labels) pairs, perhaps of different sizes: a DataLoader or a list.
        optimizer: steps once for each batch, on the gradient of that batch's mean cross-entropy.
            Gradients left over from before do not count.

    Returns: the mean cross-entropy over all examples, each measured before the step on its batch, as a float.
    """
    ### BEGIN SOLUTION
    model.train()
    total, count = 0.0, 0
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count
    ### END SOLUTION


# %%
@check("train_epoch", points=3)
def _(case):
    class Probe(nn.Module):  # a linear model that notes the mode it is called in
        def __init__(self):
            super().__init__()
            self.linear, self.modes = nn.Linear(4, 3), []

        def forward(self, x):
            self.modes.append(self.training)
            return self.linear(x)

    def run(name, sizes, epochs=1, left_over=False, lr=0.5, momentum=0.0, found_in="eval"):
        model = Probe()
        with torch.no_grad():
            model.linear.weight.copy_(case.normal(3, 4))
            model.linear.bias.copy_(case.normal(3))
        model.train(found_in == "train")
        batches = [(case.normal(n, 4), case.integers(0, 3, n)) for n in sizes]
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
        if left_over:
            model.linear(case.normal(2, 4)).sum().backward()
        losses = [train_epoch(model, batches, optimizer) for _ in range(epochs)]
        case.record(f"{name}: the loss", [float(loss) for loss in losses], labels=[f"loss of epoch {i + 1}" for i in range(epochs)])
        case.record(f"{name}: the weights afterwards", {"weight": model.linear.weight, "bias": model.linear.bias})
        case.record(f"{name}: called in train mode", all(model.modes))
        case.record(f"{name}: how often the model is called", len(model.modes))
        return losses

    run("one batch of two", [2])
    run("two batches, a model that is in train mode already", [3, 3], found_in="train")
    run("batches of 4, 4 and 1", [4, 4, 1])
    run("gradients left over from before", [3, 2], left_over=True)
    losses = run("two epochs", [4, 2], epochs=2)
    case.record("the loss is a float", isinstance(losses[0], float))
    ### BEGIN HIDDEN TESTS
    run("batches of 1, 7 and 2", [1, 7, 2])
    run("momentum", [3, 3, 3], epochs=2, lr=0.1, momentum=0.9)
    run("three epochs, gradients left over", [5, 1], epochs=3, left_over=True, lr=0.2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "train_epoch",
    "PyTorch adds every new gradient to `.grad`. When does it have to be cleared? And if a batch of 1 follows a batch of 100, how much should each count?",
    "The videos' training loop: zero_grad, forward, loss, backward, step.",
    "Set train mode. For each batch: logits, mean cross-entropy, clear gradients, backward, step. Add up loss times batch size as Python floats, and divide by the number of examples.",
)
misconceptions(
    "train_epoch",
    mistake("gradients never cleared", ("        optimizer.zero_grad()\n", ""), says="The gradients are never cleared, so each step is made with the sum of all gradients so far."),
    mistake("no step, or nothing to step with", ("        optimizer.zero_grad()\n        loss.backward()\n", "        loss.backward()\n        optimizer.zero_grad()\n"),
            says="The weights stay as they were: the gradients are cleared between backward and step, or the optimizer never steps."),
    mistake("gradients cleared after the step only", ("        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n", "        loss.backward()\n        optimizer.step()\n        optimizer.zero_grad()\n"),
            says="The gradients are cleared after each step, but not what was left over before the first one."),
    mistake("cleared once an epoch", ("        optimizer.zero_grad()\n", ""), ("    total, count = 0.0, 0\n", "    total, count = 0.0, 0\n    optimizer.zero_grad()\n"),
            says="The gradients are cleared once, before the loop; each batch needs its own."),
    mistake("one step an epoch", ("        optimizer.step()\n", ""), ("    return total / count", "    optimizer.step()\n    return total / count"), says="There is one step at the end; there has to be one for each batch."),
    mistake("mean over the batches", ("total += loss.item() * len(labels)", "total += loss.item()"), ("count += len(labels)", "count += 1"),
            says="The batches' losses are averaged as if all were of one size; the mean is over examples."),
    mistake("the sum of the losses", ("return total / count", "return total"), says="The losses are summed over the examples; their mean is wanted."),
    mistake("the last batch's loss", ("return total / count", "return loss.item()"), says="The last batch's loss is returned; the mean over all examples is wanted."),
    mistake("eval mode", ("model.train()", "model.eval()"), says="The model is trained in eval mode; dropout and batch norm would not do their work."),
    mistake("the mode left as it was", ("    model.train()\n", ""), says="The mode is left as it was found; training needs train mode."),
    mistake("softmax before the cross-entropy", ("F.cross_entropy(model(images), labels)", "F.cross_entropy(model(images).softmax(-1), labels)"), says="A softmax stands before the cross-entropy, which has its own; the gradients become small and wrong."),
    mistake("the sum as loss", ("F.cross_entropy(model(images), labels)", "F.cross_entropy(model(images), labels, reduction='sum')"), says="The step uses the *sum* of the batch's cross-entropies; the mean is wanted."),
    mistake("only the first batch", ("        count += len(labels)\n", "        count += len(labels)\n        break\n"), says="Only the first batch is trained on (is a `return` or `break` inside the loop?)."),
    mistake("small batches left out", ("    for images, labels in batches:\n", "    for images, labels in batches:\n        if len(labels) < max(len(y) for _, y in batches):\n            continue\n"),
            says="A batch that is smaller than the others is left out; each batch is trained on, and the mean is over all examples."),
    mistake("predicted twice", ("        optimizer.zero_grad()\n", "        model(images)\n        optimizer.zero_grad()\n"),
            says="The model is called twice for each batch; one prediction serves the report and the step."),
    mistake("measured after the step", ("        total += loss.item() * len(labels)\n", "        total += F.cross_entropy(model(images), labels).item() * len(labels)\n"),
            says="The loss is measured again after the step; the one before it was asked for, and costs nothing more."),
    mistake("a tensor", ("total += loss.item()", "total += loss.detach()"), says="The loss is no Python float but a tensor or a number of numpy. (A tensor with its graph attached would keep every batch in memory.)"),
    mistake("the gradient doubled", ("        loss.backward()\n", "        loss.backward(retain_graph=True)\n        loss.backward()\n"), says="backward is called twice for each batch, so the gradient is twice too large."),
)  # fmt: skip
equivalents(
    "train_epoch",
    {
        "detach added: `loss = F.cross_entropy(model(images), labels)` → `loss = F.cross_entropy(model(images.detach()), labels)`":
            "images need no gradient",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("set_to_none by hand, lists of losses")
def train_epoch(model, batches, optimizer):
    model.train(True)
    losses, sizes = [], []
    for x, y in batches:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        loss = nn.CrossEntropyLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach())), sizes.append(y.shape[0])
    return sum(a * b for a, b in zip(losses, sizes)) / sum(sizes)


# %% tags=["alternative"]
@alternative("model.zero_grad, cross-entropy by hand")
def train_epoch(model, batches, optimizer):
    model.train()
    everything = []
    for images, labels in batches:
        model.zero_grad()
        each = -model(images).log_softmax(-1)[torch.arange(len(labels)), labels]
        each.mean().backward()
        optimizer.step()
        everything.append(each.detach())
    return torch.cat(everything).mean().item()


# %% tags=["alternative"]
@alternative("gradients from autograd.grad")
def train_epoch(model, batches, optimizer):
    model.train()
    parameters = list(model.parameters())
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for images, labels in batches:
        losses = F.cross_entropy(model(images), labels, reduction="none")
        for parameter, gradient in zip(parameters, torch.autograd.grad(losses.mean(), parameters)):
            parameter.grad = gradient
        optimizer.step()
        total += losses.detach().double().sum()
        count += labels.numel()
    return float(total / count)


# %% tags=["alternative"]
@alternative("cleared before and after, a running mean")
def train_epoch(model, batches, optimizer):
    model.train()
    mean, seen = 0.0, 0
    optimizer.zero_grad(set_to_none=False)
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels, reduction="mean")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen += images.size(0)
        mean += (loss.item() - mean) * images.size(0) / seen
    return mean


# %% [markdown]
# ### Try it: train on the digits
#
# 1,297 digits to learn from, 500 to test on.

# %% tags=["picture"]
from sklearn.datasets import load_digits

torch.manual_seed(SEED)
digits = load_digits()
order = torch.randperm(len(digits.target))
learn, test = order[:1297].numpy(), order[1297:].numpy()
training_data, test_data = DigitDataset(digits.images[learn], digits.target[learn]), DigitDataset(digits.images[test], digits.target[test])
loader = DataLoader(training_data, batch_size=32, shuffle=True, generator=torch.Generator().manual_seed(SEED))
train_x, train_y = next(iter(DataLoader(training_data, batch_size=len(training_data))))
test_x, test_y = next(iter(DataLoader(test_data, batch_size=len(test_data))))

untrained, network = DigitCNN(), DigitCNN()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
losses, accuracies = [], []
for epoch in range({"quick": 8, "full": 30}[PROFILE]):
    losses.append(train_epoch(network, loader, optimizer))
    network.eval()
    with torch.no_grad():
        accuracies.append((network(test_x).argmax(1) == test_y).float().mean().item())

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
left.imshow(F.pad(test_x[:40], (1, 1, 1, 1), value=-1.0).view(5, 8, 10, 10).permute(0, 2, 1, 3).reshape(50, 80), cmap="gray_r")
left.set(title="forty test digits", xticks=[], yticks=[])
epochs = range(1, len(losses) + 1)
middle.plot(epochs, losses, "o-", color=BLUE)
middle.set(xlabel="epoch", ylabel="mean cross-entropy (nats)", title="Training loss", ylim=(0, None))
right.plot(epochs, [100 * a for a in accuracies], "o-", color=ORANGE)
right.set(xlabel="epoch", ylabel="correct test digits (%)", title="Test accuracy", ylim=(None, 100))
for axis in (middle, right):
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
plt.show()
print(f"after {len(losses)} epochs: {100 * accuracies[-1]:.1f} % of the 500 test digits")

# %% [markdown]
# **What to see.** The loss falls quickly, then slowly; the accuracy on digits that the network has never seen rises with it, to well above 90 %.
#
# ## Without labels: directions and groups
#
# Labels cost work; images do not. *Unsupervised* learning looks for structure in the images alone. A **representation** is a new set of numbers for each image, hopefully ones in which what matters is easy to see. Two old methods first; the paper compares its GAN to the second (table 1, k-means).
#
# ## Exercise 4 · `pca`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# **Principal component analysis** finds the orthogonal directions in which data vary most. Centre the data, $\bar x_i = x_i - \frac1N \sum_j x_j$. The components are the eigenvectors of $\frac1N \bar X^\top \bar X$ with the largest eigenvalues, or, the same, the first right singular vectors of $\bar X$. The
# new numbers of an image are its coordinates $\bar X V$ along them. A component's sign is free: both are accepted.
#
# `torch.svd_lowrank`, on which `torch.pca_lowrank` is built, may not be called either.


# %% tags=["export"]
def pca(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k directions in which data vary most.

    Args:
        x: data, (N, D), N > D or not; k is at most the rank of the centred data.
        k: how many.

    Returns: (projected, components): the centred data's coordinates (N, k) along the components,
        and the components (k, D), of length 1, orthogonal, the direction of largest variance first.
        The signs of the components are free. x is not changed.

    May not call sklearn.decomposition or torch.pca_lowrank. Singular values and eigenvalues may be
    taken from torch.linalg.
    """
    ### BEGIN SOLUTION
    centred = x - x.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    components = directions[:k]
    return centred @ components.T, components
    ### END SOLUTION


# %%
@check("pca", points=3, forbid=["sklearn.decomposition.*", "torch.pca_lowrank", "torch.svd_lowrank"])
def _(case):
    def signs_aside(x, k):  # a component and its coordinates change sign together
        projected, components = pca(x, k)
        sign = torch.where(components.gather(1, components.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0).to(components.dtype)
        return projected * sign.T, components * sign

    def analyse(name, n, d, k, shift=3.0, **options):  # directions of clearly different variance
        basis = torch.linalg.qr(case.normal(d, d, dtype=torch.float64)).Q
        spread = torch.tensor([3.0 * 0.6**i for i in range(d)], dtype=torch.float64)
        x = (case.normal(n, d, dtype=torch.float64) * spread) @ basis.T + shift * case.normal(d, dtype=torch.float64)
        case.call(name, signs_aside, x.to(options.get("dtype", torch.float64)), k, labels=("projected", "components"), policy={"tol": options.get("tol", 1e-5)})

    case.call("three points on a line", signs_aside, torch.tensor([[1.0, 1.0], [2.0, 3.0], [3.0, 5.0]]), 1, labels=("projected", "components"), policy={"tol": 1e-3})
    analyse("two of three directions", 12, 3, 2)
    analyse("one of four directions", 20, 4, 1)
    analyse("all directions", 15, 3, 3)
    analyse("data far from the origin", 15, 4, 2, shift=50.0)
    analyse("fewer points than dimensions", 5, 8, 2)
    analyse("float32 stays float32", 30, 4, 2, dtype=torch.float32, tol=2e-3)
    ### BEGIN HIDDEN TESTS
    analyse("many points", 200, 6, 3)
    analyse("two points", 2, 5, 1)
    analyse("as many components as are asked for", 40, 7, 5)
    analyse("as many points as dimensions", 6, 6, 2)
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "pca",
    "What is the first direction for points on a line that does not go through the origin? Where do you have to put the origin first?",
    "Section 5.1 of the paper compares with features learned by k-means; PCA is the simpler, linear one. torch.linalg.svd's documentation says in which order singular values come.",
    "Subtract the mean of each column. Take the singular value decomposition; the first k rows of its last factor are the components. The coordinates are the centred data times the components transposed.",
)
misconceptions(
    "pca",
    mistake("not centred", ("x - x.mean(dim=0)", "x"), says="The data are not centred, so the first direction points at their mean; subtract the mean of each column first."),
    mistake("centred by rows", ("x.mean(dim=0)", "x.mean(dim=1, keepdim=True)"), says="Each image's own mean is subtracted; centring subtracts the mean image, that of each column."),
    mistake("coordinates of data that are not centred", ("return centred @", "return x @"), says="The components are right, but the coordinates are those of the data as given; they are the centred data's."),
    mistake("smallest first", ("directions[:k]", "directions.flip(0)[:k]"), says="The directions of smallest variance come first; the largest do."),
    mistake("the last of them", ("directions[:k]", "directions[-k:]"), says="The last k directions are taken, those of smallest variance."),
    mistake("components in columns", ("return centred @ components.T, components", "return centred @ components.T, components.T"), says="The components stand in columns; they are rows, (k, D)."),
    mistake("components before coordinates", ("return centred @ components.T, components", "return components, centred @ components.T"), says="The two results are in the wrong order: the coordinates come first."),
    mistake("whitened", ("return centred @ components.T, components", "z = centred @ components.T\n    return z / z.std(dim=0), components"), says="The coordinates are divided by their standard deviations (whitening); they are left as they are."),
    mistake("columns standardised", ("centred = x - x.mean(dim=0)", "centred = (x - x.mean(dim=0)) / x.std(dim=0)"), says="The columns are divided by their standard deviations first; only their mean is subtracted."),
    mistake("all of them", ("directions[:k]", "directions"), says="All directions are returned; k are asked for."),
    mistake("columns of the last factor", ("directions[:k]", "directions[:, :k].T if directions.size(0) == directions.size(1) else directions[:k]"), says="Columns of the last factor are taken as components; torch.linalg.svd returns it transposed already, so they are its rows."),
    mistake("reconstructed", ("return centred @ components.T, components", "return centred @ components.T @ components, components"), says="The data are projected and put back into D dimensions; the k coordinates are wanted."),
)  # fmt: skip
equivalents(
    "pca",
    {
        "truth value: `_, _, directions = torch.linalg.svd(centred, full_matrices=False)` → `_, _, directions = torch.linalg.svd(centred, full_matrices=True)`":
            "the first k directions are the same",
        "detach added: `return centred @ components.T, components` → `return (centred @ components.T).detach(), components`":
            "nothing is learned through it",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("eigenvectors of the covariance")
def pca(x, k):
    centred = x - x.mean(0, keepdim=True)
    values, vectors = torch.linalg.eigh(centred.T @ centred / (len(x) - 1))  # ascending
    components = vectors[:, values.argsort(descending=True)[:k]].T
    return centred @ components.T, components


# %% tags=["alternative"]
@alternative("coordinates from U and the singular values")
def pca(x, k):
    U, S, Vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return U[:, :k] * S[:k], Vh[:k]


# %% tags=["alternative"]
@alternative("the Gram matrix of the points, float64 inside")
def pca(x, k):
    centred = x.double() - x.double().mean(0)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    top = vectors.flip(1)[:, :k]
    components = (centred.T @ top).T
    components = components / components.norm(dim=1, keepdim=True)
    return (centred @ components.T).to(x.dtype), components.to(x.dtype)


# %% tags=["alternative"]
@alternative("numpy")
def pca(x, k):
    data = x.numpy()
    data = data - data.mean(axis=0)
    _, _, v = np.linalg.svd(data, full_matrices=False)
    return torch.from_numpy(data @ v[:k].T), torch.from_numpy(v[:k].copy())


# %% [markdown]
# ## Exercise 5 · `k_means`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# **k-means** looks for $K$ groups: (1) each point goes to its nearest centre; (2) each centre moves to the mean of its points; and so on. A centre without points stays where it is.


# %% tags=["export"]
def k_means(x: Tensor, centres: Tensor, steps: int = 20) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from given centres.

    Args:
        x: points, (N, D).
        centres: where to begin, (K, D).
        steps: how often (1) and (2) are done.

    Returns: (centres, assignment): the centres (K, D) after the last step, and for each point the
        index (N,), int64, of the one of *these* centres that is nearest. A centre without points
        stays where it is. The inputs are not changed.

    May not call sklearn.cluster or scipy.cluster.
    """
    ### BEGIN SOLUTION
    centres = centres.clone()
    for _ in range(steps):
        nearest = torch.cdist(x, centres).argmin(dim=1)  # (N,)
        for index in nearest.unique():
            centres[index] = x[nearest == index].mean(dim=0)
    return centres, torch.cdist(x, centres).argmin(dim=1)
    ### END SOLUTION


# %%
@check("k_means", points=3, forbid=["sklearn.cluster.*", "scipy.cluster.*"])
def _(case):
    def group(name, x, centres, steps):
        case.call(name, k_means, x, centres, steps, labels=("centres", "assignment"))

    line = torch.tensor([[0.0], [1.0], [4.0], [6.0], [13.0]])
    group("five points on a line, one step", line, torch.tensor([[0.5], [3.0]]), 1)
    group("five points on a line, two steps", line, torch.tensor([[0.5], [3.0]]), 2)
    group("five points on a line, until nothing moves", line, torch.tensor([[0.5], [3.0]]), 10)
    group("a centre that nobody is near", line, torch.tensor([[3.0], [40.0]]), 3)
    group("the distance is Euclidean", torch.tensor([[2.9, 0.0], [2.0, 2.0], [-9.0, 0.0], [9.0, 9.0]]), torch.tensor([[0.0, 0.0], [5.0, 3.6]]), 1)
    x = case.normal(30, 2)
    group("thirty points in the plane", x, x[:4] + 0.1 * case.normal(4, 2), 3)
    assignment = k_means(line, torch.tensor([[0.5], [3.0]]), 1)[1]
    case.record("the assignment is int64", str(getattr(assignment, "dtype", "")).removeprefix("torch.") == "int64")
    ### BEGIN HIDDEN TESTS
    x = case.normal(40, 5)
    group("five dimensions, one step", x, x[:3] + 0.1 * case.normal(3, 5), 1)
    group("five dimensions, six steps", x, x[5:9] + 0.1 * case.normal(4, 5), 6)
    group("one centre", x, case.normal(1, 5), 2)
    group("no step: only the assignment", x, case.normal(6, 5), 0)
    far = torch.cat([case.normal(2, 5), 100 + case.normal(2, 5)])
    group("two of four centres without points", x, far, 4)
    group("float64", case.normal(20, 3, dtype=torch.float64), case.normal(3, 3, dtype=torch.float64), 5)
    crowd = torch.arange(1, 101, dtype=torch.float64)[:, None] ** 1.5  # centres still move after twenty steps
    case.call("steps left out: twenty of them", k_means, crowd, crowd[:5] + 0.2, labels=("centres", "assignment"))
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "k_means",
    "After the last move of the centres, does every point still belong to the centre that it belonged to before?",
    "Section 5.1 of the paper uses a much larger one as its baseline: features learned by single-layer k-means.",
    "Copy the centres. In each step: all distances (N, K), the argmin for each point, then the mean of each group that has points. After the loop, assign once more with the final centres.",
)
misconceptions(
    "k_means",
    mistake("assignment before the last move", ("return centres, torch.cdist(x, centres).argmin(dim=1)", "return centres, nearest if steps else torch.cdist(x, centres).argmin(dim=1)"),
            says="The assignment is from before the centres' last move; assign once more with the centres returned."),
    mistake("one step only", ("for _ in range(steps):", "for _ in range(min(steps, 1)):"), says="The loop is done once; `steps` says how often."),
    mistake("an empty group becomes NaN", ("for index in nearest.unique():", "for index in range(len(centres)):"), says="The mean of a group without points is NaN; its centre stays where it is."),
    mistake("an empty group goes to the origin", ("        for index in nearest.unique():\n            centres[index] = x[nearest == index].mean(dim=0)",
            "        for index in range(len(centres)):\n            centres[index] = x[nearest == index].sum(dim=0) / max(1, int((nearest == index).sum()))"),
            says="A centre without points moves to the origin; it stays where it is."),
    mistake("the centres given are changed", ("    centres = centres.clone()\n", ""), says="The centres that were handed over are moved in place, and the caller still needs them. Copy them first."),
    mistake("the median", (".mean(dim=0)", ".median(dim=0).values"), says="Centres move to the median of their points; they move to the mean."),
    mistake("farthest", ("        nearest = torch.cdist(x, centres).argmin(dim=1)  # (N,)", "        nearest = torch.cdist(x, centres).argmax(dim=1)"), says="In the loop, points go to the farthest centre; they go to the nearest."),
    mistake("city-block distance", ("        nearest = torch.cdist(x, centres).argmin(dim=1)  # (N,)", "        nearest = torch.cdist(x, centres, p=1.0).argmin(dim=1)"), says="Coordinates' differences are added up; the distance is Euclidean."),
    mistake("nearest point of each centre", ("centres[index] = x[nearest == index].mean(dim=0)", "centres[index] = x[torch.cdist(x, centres[index][None]).argmin()]"),
            says="Centres move to the nearest point; they move to the mean of their points."),
    mistake("halfway", ("centres[index] = x[nearest == index].mean(dim=0)", "centres[index] = (centres[index] + x[nearest == index].mean(dim=0)) / 2"), says="Centres move half the way; they move all the way to the mean."),
    mistake("the mean of all points", ("x[nearest == index].mean(dim=0)", "x.mean(dim=0)"), says="Centres move to the mean of all points; each moves to the mean of its own."),
    mistake("the distances as well", ("return centres, torch.cdist(x, centres).argmin(dim=1)", "return centres, torch.cdist(x, centres).min(dim=1)"), says="The distances are returned beside the assignment (`min` gives both); only the index of the nearest is wanted."),
    mistake("assignment int32", ("return centres, torch.cdist(x, centres).argmin(dim=1)", "return centres, torch.cdist(x, centres).argmin(dim=1).int()"), says="The assignment is not int64, the dtype of an index in PyTorch (`argmin` gives it)."),
    mistake("assignment first", ("return centres, torch.cdist(x, centres).argmin(dim=1)", "return torch.cdist(x, centres).argmin(dim=1), centres"), says="The two results are in the wrong order: centres first."),
)  # fmt: skip
equivalents(
    "k_means",
    {
        "call dropped: `for index in nearest.unique()` → `for index in nearest`":
            "the same mean is computed again for each point",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("one-hot matrices")
def k_means(x, centres, steps=20):
    def assign(c):
        return ((x[:, None] - c[None]) ** 2).sum(-1).argmin(1)

    for _ in range(steps):
        member = F.one_hot(assign(centres), len(centres)).to(x.dtype)  # (N, K)
        size = member.sum(0)[:, None]
        centres = torch.where(size > 0, member.T @ x / size.clamp(min=1), centres)
    return centres.clone(), assign(centres)


# %% tags=["alternative"]
@alternative("index_add")
def k_means(x, centres, steps=20):
    current = centres
    for _ in range(steps):
        nearest = torch.cdist(x, current).min(dim=1).indices
        total = torch.zeros_like(current).index_add(0, nearest, x)
        count = torch.bincount(nearest, minlength=current.shape[0])
        current = torch.where((count > 0)[:, None], total / count.clamp(min=1)[:, None], current)
    return current, torch.cdist(x, current).min(dim=1).indices


# %% tags=["alternative"]
@alternative("loops over points and centres")
def k_means(x, centres, steps=20):
    points, means = [p for p in x], [c.clone() for c in centres]

    def nearest(point):
        return int(torch.stack([(point - mean).norm() for mean in means]).argmin())

    for _ in range(steps):
        groups = [[] for _ in means]
        for point in points:
            groups[nearest(point)].append(point)
        means = [torch.stack(group).mean(0) if group else mean for group, mean in zip(groups, means)]
    return torch.stack(means), torch.tensor([nearest(point) for point in points])


# %% tags=["alternative"]
@alternative("stops when nothing moves, numpy")
def k_means(x, centres, steps=20):
    data, c = x.numpy(), centres.numpy().copy()
    label = np.linalg.norm(data[:, None] - c[None], axis=2).argmin(1)
    for _ in range(steps):
        before = c.copy()
        for j in range(len(c)):
            if (label == j).any():
                c[j] = data[label == j].mean(axis=0)
        label = np.linalg.norm(data[:, None] - c[None], axis=2).argmin(1)
        if (before == c).all():
            break
    return torch.from_numpy(c), torch.from_numpy(label)


# %% [markdown]
# ### Try it: the digits without their labels
#
# First both methods on raw pixels, then on the features of the network above. Colours show the true digits; neither method sees them.

# %% tags=["picture"]
with torch.no_grad():
    spaces = {"pixels": train_x.flatten(1), "features of the trained network": network.features(train_x)}


def purity(assignment: Tensor, labels: Tensor) -> float:
    """Share of points that have their group's most frequent label."""
    return sum(int(labels[assignment == k].bincount().max()) for k in assignment.unique()) / len(labels)


figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
for axis, (title, x) in zip(axes, spaces.items()):
    flat, _ = pca(x, 2)
    groups = [k_means(x, x[torch.randperm(len(x), generator=torch.Generator().manual_seed(s))[:10]], 30)[1] for s in range(5)]
    share = np.mean([purity(g, train_y) for g in groups])
    for digit in range(10):
        chosen = flat[train_y == digit]
        axis.scatter(*chosen.T, s=4, color=plt.cm.tab10(digit), alpha=0.5)
        axis.text(*chosen.median(0).values.tolist(), str(digit), fontsize=13, weight="bold", ha="center", va="center",
                  bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": plt.cm.tab10(digit)})  # fmt: skip
    axis.set(title=f"{title}\nten groups by k-means: {100 * share:.0f} % pure (mean of 5 starts)", xlabel="first principal component", ylabel="second")
    axis.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# **What to see.** In the pixels' first two directions the digits overlap, yet groups are visible; k-means finds many of the ten classes without a label. In the trained network's features they are further apart and the groups purer. No wonder: this network has
# seen the labels. The question of the paper is how far a network gets that has not.
#
# ## Exercise 6 · `linear_probe`
#
# *Difficulty ●●○ · 15 minutes · 3 points*
#
# A good representation makes a hard question easy for a simple model. So freeze it and fit a *linear* model on top: with few labels, how often is it right? The paper does this with a linear SVM (section 5). Ridge regression onto one-hot labels $Y$ has a formula:
#
# $$\min_{W, b} \; \sum_{i=1}^{N} \lVert W x_i + b - y_i \rVert^2 + \lambda \lVert W \rVert^2 .$$
#
# The bias is not punished. At the minimum $b = \bar y - W \bar x$, so centre both and solve for $W$ alone:
#
# $$W^\top = \big(\bar X^\top \bar X + \lambda I\big)^{-1} \bar X^\top \bar Y .$$


# %% tags=["export"]
def linear_probe(features: Tensor, labels: Tensor, classes: int, l2: float = 1.0) -> tuple[Tensor, Tensor]:
    """Ridge regression from features to one-hot labels: a linear classifier without any training loop.

    Args:
        features: (N, D).
        labels: (N,), int64, in [0, classes); a class may be missing.
        classes: how many.
        l2: λ > 0, the weight of ‖W‖² beside the *sum* of squared errors; the bias is not punished.

    Returns: (weight (classes, D), bias (classes,)), in the dtype of the features, so that features
        @ weight.T + bias are scores. The inputs are not changed.

    May not call sklearn.linear_model.
    """
    ### BEGIN SOLUTION
    y = F.one_hot(labels, classes).to(features.dtype)  # (N, classes)
    mean_x, mean_y = features.mean(dim=0), y.mean(dim=0)
    x = features - mean_x
    gram = x.T @ x + l2 * torch.eye(x.size(1), dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(gram, x.T @ (y - mean_y)).T  # (classes, D)
    return weight, mean_y - weight @ mean_x
    ### END SOLUTION


# %%
@check("linear_probe", points=3, forbid=["sklearn.linear_model.*", "sklearn.svm.*", "sklearn.discriminant_analysis.*"], paper="section 5.1")
def _(case):
    def probe(name, n, d, classes, l2=None, shift=1.0, dtype=torch.float64, tol=1e-5, missing=0):
        features = (case.normal(n, d, dtype=torch.float64) + shift * case.normal(d, dtype=torch.float64)).to(dtype)
        labels = case.integers(0, classes - missing, n)
        options = {} if l2 is None else {"l2": l2}
        return features, case.call(name, linear_probe, features, labels, classes, labels=("weight", "bias"), policy={"tol": tol}, **options)

    probe("four points, one feature, two classes", 4, 1, 2, 1.0)
    probe("six points, two features, three classes", 6, 2, 3, 0.5)
    probe("λ left out: 1", 8, 3, 2)
    probe("a large λ", 10, 3, 4, 50.0)
    probe("features far from the origin", 10, 3, 3, 2.0, shift=10.0)
    probe("fewer points than features", 4, 7, 3, 0.3)
    probe("a class without examples", 9, 2, 4, 1.0, missing=1)
    probe("float32 stays float32", 20, 4, 3, 2.0, dtype=torch.float32, tol=1e-3)
    ### BEGIN HIDDEN TESTS
    probe("as many classes as features", 15, 4, 4, 0.7)
    probe("many points", 120, 6, 5, 3.0)
    probe("a small λ", 30, 4, 3, 0.01)
    features, (weight, bias) = probe("ten classes", 60, 8, 10, 1.5)
    case.record("the scores add up to 1", float((features @ weight.T + bias).sum(1).sub(1).abs().max()), at_most=1e-6, about="largest difference")
    ### END HIDDEN TESTS


# %% tags=["misconceptions"]
hints(
    "linear_probe",
    "What should the scores be if all features were 0 for everybody? So what is the bias, and should λ pull it down?",
    "Section 5.1 of the paper: features are flattened, and a regularised linear classifier is trained on top of them.",
    "One-hot the labels, centre features and labels, add λ to the diagonal of the features' Gram matrix, solve for the weights (torch.linalg.solve), transpose, and get the bias from the two means.",
)
misconceptions(
    "linear_probe",
    mistake("λ forgotten", ("x.T @ x + l2 * torch", "x.T @ x + 1e-9 * torch"), says="λ is not used: nothing holds the weights down."),
    mistake("λ squared", ("+ l2 * torch", "+ l2**2 * torch"), says="λ enters squared; it stands as it is on the diagonal."),
    mistake("λ for the mean error", ("+ l2 * torch", "+ l2 * len(x) * torch"), says="λ is multiplied by the number of points, as if it stood beside the *mean* error; it stands beside the sum."),
    mistake("the bias punished too", ("    mean_x, mean_y = features.mean(dim=0), y.mean(dim=0)\n    x = features - mean_x\n",
            "    ones = torch.cat([features, torch.ones_like(features[:, :1])], 1)\n    both = torch.linalg.solve(ones.T @ ones + l2 * torch.eye(ones.size(1), dtype=y.dtype), ones.T @ y).T\n    return both[:, :-1].contiguous(), both[:, -1].contiguous()\n    x = mean_y = mean_x = features\n"),
            says="A column of ones is added and λ punishes its weight too; the bias is not punished."),
    mistake("no bias", ("return weight, mean_y - weight @ mean_x", "return weight, torch.zeros_like(mean_y)"), says="The bias is 0; it is the labels' mean minus the weights times the features' mean."),
    mistake("the bias without the features' mean", ("mean_y - weight @ mean_x", "mean_y"), says="The bias leaves out the features' mean, so it is right only for features that are centred already."),
    mistake("the bias's sign", ("mean_y - weight @ mean_x", "mean_y + weight @ mean_x"), says="The weights times the features' mean are added to the bias; they are subtracted."),
    mistake("features not centred", ("x = features - mean_x", "x = features"), says="The features are not centred before the weights are solved for."),
    mistake("transposed", ("return weight, mean", "return weight.T, mean"), says="The weights are (D, classes); they are (classes, D), as in nn.Linear."),
    mistake("labels as numbers", ("y = F.one_hot(labels, classes).to(features.dtype)", "y = labels[:, None].to(features.dtype).expand(-1, classes)"), says="The label's number is predicted, as if 9 were nine times 1; each class has its own column of 0 and 1."),
    mistake("labels −1 and 1", ("F.one_hot(labels, classes).to(features.dtype)", "F.one_hot(labels, classes).to(features.dtype) * 2 - 1"), says="The targets are −1 and 1; one-hot labels are 0 and 1."),
    mistake("classes counted in the labels", ("F.one_hot(labels, classes)", "F.one_hot(labels)"), says="The classes are counted in the labels, so one that is missing gets no row; `classes` says how many there are."),
    mistake("features standardised", ("x = features - mean_x", "x = (features - mean_x) / features.std(dim=0)"), says="The features are divided by their standard deviations, which changes what λ punishes; they are only centred."),
    mistake("λ ignored in favour of 1", ("+ l2 * torch", "+ torch"), says="λ is always 1, whatever `l2` says."),
)  # fmt: skip
equivalents(
    "linear_probe",
    {
        "option dropped: `gram = x.T @ x + l2 * torch.eye(x.size(1), dtype=x.dtype, device=x.device)` → `gram = x.T @ x + l2 * torch.eye(x.size(1), device=x.device)`":
            "the sum takes the dtype of the other term",
        "term dropped: `weight = torch.linalg.solve(gram, x.T @ (y - mean_y)).T` → `weight = torch.linalg.solve(gram, x.T @ (y)).T`":
            "x is centred, so a constant in y does not count",
        "arithmetic: `weight = torch.linalg.solve(gram, x.T @ (y - mean_y)).T` → `weight = torch.linalg.solve(gram, x.T @ (y + mean_y)).T`":
            "x is centred, so a constant in y does not count",
    },
)  # fmt: skip


# %% tags=["alternative"]
@alternative("a column of ones with λ = 0")
def linear_probe(features, labels, classes, l2=1.0):
    y = torch.eye(classes, dtype=features.dtype)[labels]
    x = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    punish = torch.full((x.shape[1],), float(l2), dtype=x.dtype)
    punish[-1] = 0
    both = torch.linalg.solve(x.T @ x + torch.diag(punish), x.T @ y)
    return both[:-1].T, both[-1]


# %% tags=["alternative"]
@alternative("least squares on stacked rows")
def linear_probe(features, labels, classes, l2=1.0):
    y = F.one_hot(labels, classes).type_as(features)
    centre, share = features.mean(0), y.mean(0)
    d = features.shape[1]
    stacked = torch.cat([features - centre, l2**0.5 * torch.eye(d, dtype=features.dtype)])
    weight = torch.linalg.lstsq(stacked, torch.cat([y - share, torch.zeros(d, classes, dtype=y.dtype)])).solution
    return weight.T, share - centre @ weight


# %% tags=["alternative"]
@alternative("the dual: a Gram matrix of points")
def linear_probe(features, labels, classes, l2=1.0):
    y = torch.zeros(len(labels), classes, dtype=features.dtype)
    y[torch.arange(len(labels)), labels] = 1
    x = features - features.mean(0)
    kernel = x @ x.T + l2 * torch.eye(len(x), dtype=x.dtype)
    weight = (x.T @ torch.linalg.inv(kernel) @ (y - y.mean(0))).T
    return weight, y.mean(0) - (weight * features.mean(0)).sum(1)


# %% tags=["alternative"]
@alternative("by the singular value decomposition")
def linear_probe(features, labels, classes, l2=1.0):
    y = F.one_hot(labels, num_classes=classes).to(features)
    U, S, Vh = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    weight = (y - y.mean(0)).T @ U * (S / (S**2 + l2)) @ Vh
    return weight, y.mean(0) - weight @ features.mean(0)


# %% [markdown]
# ### Try it: how few labels are enough?
#
# The same probe on four representations of the same digits, fitted with a few labels a class and tested on the 500 test digits. Each point is the mean of twenty draws of labelled digits.

# %% tags=["picture"]
with torch.no_grad():
    mean, (_, directions) = train_x.flatten(1).mean(0), pca(train_x.flatten(1), 10)
    representations = {
        "10 principal components": (lambda x: (x.flatten(1) - mean) @ directions.T, GREEN, "s"),
        "pixels": (lambda x: x.flatten(1), GREY, "o"),
        "untrained network": (untrained.features, ORANGE, "^"),
        "network trained with all labels": (network.features, BLUE, "D"),
    }
    counts = [1, 2, 5, 10, 20, 50]
    figure, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
    for name, (represent, colour, marker) in representations.items():
        all_train, all_test = represent(train_x), represent(test_x)
        scale = all_train.std()
        results = []
        for count in counts:
            chance, right = torch.Generator().manual_seed(SEED), []
            for _ in range(20):
                chosen = torch.cat([(train_y == c).nonzero()[:, 0][torch.randperm(int((train_y == c).sum()), generator=chance)[:count]] for c in range(10)])
                weight, bias = linear_probe(all_train[chosen] / scale, train_y[chosen], 10)
                right.append(((all_test / scale @ weight.T + bias).argmax(1) == test_y).float().mean().item())
            results.append(100 * np.mean(right))
        axis.plot(counts, results, marker + "-", color=colour, label=name)
        print(f"{name:>32}: " + ", ".join(f"{r:.0f} % with {c}" for r, c in zip(results, counts)))
axis.set(xscale="log", xlabel="labelled digits a class", ylabel="correct test digits (%)", title="A linear probe on frozen representations", ylim=(None, 100))
axis.set_xticks(counts, counts)
axis.minorticks_off()
axis.grid(alpha=0.3)
axis.spines[["top", "right"]].set_visible(False)
axis.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# **What to see.** On the trained network's features the probe needs four or five times fewer labels than on pixels for the same accuracy. That distance is what a representation is worth. An untrained network's features are about as good as pixels. Ten principal
# components do as well or better with few labels and fall behind with many: what they left out is gone. In week 4 you put the features of *your* discriminator, trained without a single label, on this chart.

# %% [markdown] written="good_representation" points=2
# ## Question 1 · a good representation
#
# *2 points, graded by a person*
#
# (a) Why is a *linear* model used to judge a representation, and not a large network? (b) The trained network in the last chart has an unfair advantage over the other three. Which? How would you compare fairly?
#
# ### BEGIN SOLUTION
# (a) A large network could learn a good representation of its own from almost anything, so its accuracy would say little about what it was given. A linear model can only use what is there already, in separable form.
#
# (b) It was trained with all labels of the same task. A fair rival learns without labels (an autoencoder, a GAN's discriminator), or with labels of *another* task or data set, as in the paper: trained on ImageNet without labels, probed on CIFAR-10.
#
# **Rubric.** 1 point: a strong model would do the work itself. 1 point: it has seen all labels, and a way to avoid that.
# ### END SOLUTION

# %% [markdown] written="pca_kmeans_limits" points=2
# ## Question 2 · what the old methods cannot see
#
# *2 points, graded by a person*
#
# Shift all pixels of a digit one place to the right. (a) What happens to its PCA coordinates and to its distance from its k-means centre? (b) Why do features of convolutional layers suffer less?
#
# ### BEGIN SOLUTION
# (a) Both treat an image as a list of pixels, each a dimension of its own. A shift changes nearly all of them where there are edges, so coordinates and distance may change as much as between two different digits.
#
# (b) A convolution gives the same answer one place further on: its kernels find the stroke wherever it is, and later layers with a stride look at larger parts, in which one pixel matters less.
#
# **Rubric.** 1 point: distances between pixels do not know about neighbourhood. 1 point: shared kernels, with growing windows or strides.
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# - A `Dataset` answers how many and which; a loop clears, predicts, measures, backs up, steps.
# - PCA finds directions, k-means groups, both without labels; both look at pixels as a list.
# - A representation is worth what a linear probe can do with it and few labels.
#
# **Next**: week 1, `understanding_dcgan`: the losses and the five guidelines of the paper. All of this week is in `papers.dcgan.foundations`.

# %% tags=["picture"]
score()
