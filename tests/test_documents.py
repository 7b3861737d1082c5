"""The documents say what is there: links, commands, versions, the table of weeks, the roadmap's videos. `python -m tests.test_documents` writes the table."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
import yaml

from autograder.build import read_all
from autograder.cli import main as command_line
from autograder.notebook import Notebook
from autograder.setup_cell import badge_source, repository_address
from tests.conftest import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

WEEKS = {
    "transformer-week0": ("Prerequisites", ("vectors_and_softmax", "backprop_and_optimisers", "sequence_models")),
    "transformer-week1": ("The architecture", ("architecture",)),
    "transformer-week2": ("Attention", ("scaled_dot_product_attention", "multi_head_attention")),
    "transformer-week3": (
        "The full model",
        ("embeddings_and_sublayers", "encoder_and_decoder", "training_a_translator"),
    ),
    "transformer-week4": (
        "Fine-tuning, own data, optimisation, variants",
        ("fine_tuning_bert", "custom_dataset_summarization", "optimisation_and_debugging", "bert_gpt_vit"),
    ),
    "transformer-project": ("Project: summarization", ()),
    "dcgan-week0": ("Prerequisites", ("gan_basics", "convolutions", "pytorch_and_representations")),
    "dcgan-week1": ("DCGAN and the environment", ("understanding_dcgan",)),
    "dcgan-week2": ("Data", ("loading_and_preprocessing",)),
    "dcgan-week3": ("Generator and discriminator", ("generator_and_discriminator",)),
    "dcgan-week4": (
        "Training, evaluation, representations",
        ("training", "evaluating_and_troubleshooting", "representation_learning"),
    ),
    "dcgan-project": ("Project: your own images", ()),
}
"""The curriculum: what each week is about and its notebooks, in order; a project's are whatever is there."""

VIDEOS = {
    "transformer-week0": """
        https://youtu.be/eMlx5fFNoYc https://youtu.be/kCc8FmEb1nY https://www.youtube.com/watch?v=AsNTP8Kwu80
        https://www.youtube.com/watch?v=Gafjk7_w1i8 https://www.youtube.com/watch?v=FHdlXe1bSe4 https://www.youtube.com/watch?v=CMrHM8a3hqw
        https://youtu.be/QEaBAZQCtwE https://www.youtube.com/watch?v=EFkbT-1VGTQ https://youtu.be/KphmOJnLAdI""",
    "transformer-week1": "https://youtu.be/4Bdc55j80l8",
    "transformer-week2": "https://www.youtube.com/watch?v=iDulhoQ2pro https://www.youtube.com/watch?v=U0s0f995w14",
    "transformer-week3": "https://youtu.be/U0s0f995w14",
    "transformer-week4": """
        https://youtu.be/eC6Hd1hFvos https://youtu.be/4QHg8Ix8WWQ https://www.youtube.com/watch?v=ovB0ddFtzzA https://youtu.be/ewjlmLQI9kc
        https://youtu.be/ks3oZ7Va8HU https://youtu.be/KrQp1TxTCUY https://youtu.be/81NJgoR5RfY""",
    "dcgan-week0": """
        https://youtu.be/MZmNxvLDdV0 https://youtu.be/8L11aMN5KY8 https://youtu.be/CqOfi41LfDw https://www.youtube.com/watch?v=aircAruvnKk
        https://www.youtube.com/watch?v=GIsg-ZUy0MY https://youtu.be/L35fFDpwIM4 https://youtu.be/yteYU_QpUxs""",
    "dcgan-week1": """
        https://www.youtube.com/watch?v=8L11aMN5KY8 https://youtu.be/xBX2VlDgd4I https://www.youtube.com/watch?v=Z_ikDlimN6A""",
    "dcgan-week2": "https://www.youtube.com/watch?v=ZoZHd0Zm3RY https://youtu.be/6sDzJZIZdtM",
    "dcgan-week3": "https://www.youtube.com/watch?v=IZtv9s_Wx9I https://www.youtube.com/watch?v=JXQT_vxqwIs",
    "dcgan-week4": """
        https://youtu.be/_pIMdDWK5sc https://youtu.be/5RYETbFFQ7s https://poloclub.github.io/ganlab
        https://github.com/42x00/Visualize-GAN-Training""",
}
"""The roadmap's videos and pages, by week."""


@cache
def notebooks() -> dict[str, list[Notebook]]:
    """{assignment: its notebooks that are released, in order}."""
    released: dict[str, list[Notebook]] = {assignment: [] for assignment in WEEKS}
    for notebook in read_all(ROOT):
        if (ROOT / "notebooks" / f"{notebook.key}.ipynb").is_file():
            released.setdefault(notebook.assignment, []).append(notebook)
    return released


def complete(assignment: str) -> bool:
    return {notebook.name for notebook in notebooks()[assignment]} >= set(WEEKS[assignment][1]) and bool(
        notebooks()[assignment]
    )


# -- the README's table of weeks -------------------------------------------------------------------------------------------

BEGIN, END = "<!-- the table of weeks: python -m tests.test_documents -->", "<!-- end of the table -->"


def weeks_table() -> str:
    """The table, from what is released: the learner's notebook, its minutes, exercises and points, and the badge."""
    rows = ["| week | notebook | minutes | exercises | points | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    address = repository_address(ROOT)
    for assignment, (title, planned) in WEEKS.items():
        week = f"**{assignment}** {title}"
        released = {notebook.name: notebook for notebook in notebooks()[assignment]}
        for name in dict.fromkeys([*planned, *released]) or [""]:
            if name in released:
                notebook = released[name]
                points = sum(cell.points for cell in [*notebook.checks.values(), *notebook.written])
                rows.append(
                    f"| {week} | [{notebook.title}](notebooks/{notebook.key}.ipynb) | {notebook.minutes} | {len(notebook.checks)} | {points} "
                    f"| {badge_source(assignment, name, address)} |"
                )
            else:
                rows.append(f"| {week} | {name and f'`{name}`, '}in preparation | | | | |")
            week = ""
    every = [notebook for group in notebooks().values() for notebook in group]
    cells = [cell for notebook in every for cell in notebook.checks.values()]
    written = [cell for notebook in every for cell in notebook.written]
    rows += [
        "",
        f"So far {len(every)} notebooks with {len(cells)} exercises and {len(written)} written questions, "
        f"{sum(cell.points for cell in cells)} + {sum(cell.points for cell in written)} points.",
    ]
    return "\n".join(rows)


def test_the_readmes_table_lists_what_is_released() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert table == weeks_table(), "run `python -m tests.test_documents`, which writes the table"


@pytest.mark.parametrize("assignment", VIDEOS)
def test_the_roadmaps_videos_are_linked_in_their_week(assignment: str) -> None:
    if not complete(assignment):
        pytest.skip(f"{assignment} is not complete yet")
    text = "\n".join(
        cell.source for notebook in notebooks()[assignment] for cell in notebook.cells if cell.kind == "markdown"
    )
    missing = [address for address in VIDEOS[assignment].split() if place(address) not in text]
    assert not missing


def place(address: str) -> str:
    """What tells an address from others, however it is written: a video's id, else the address."""
    parts = urlparse(address)
    return parse_qs(parts.query).get("v", [""])[0] or (parts.path[1:] if parts.hostname == "youtu.be" else address)


# -- links and commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings_that_exist(document: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    assert not broken


def headings(document: Path) -> set[str]:
    """The anchors GitHub makes of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL) + re.findall(r"`([^`\n]+)`", text))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    unknown = [f"make {name}" for name in re.findall(r"\bmake ([a-z][a-z-]*)", code) if name not in targets]
    for line in re.findall(r"(?:^|[ /])autograder ([a-z].*)$", code, flags=re.MULTILINE):
        name, *words = line.partition("#")[0].split()
        command = command_line.commands.get(name)
        options = (
            {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
            if command
            else set()
        )
        unknown += (
            [f"autograder {name}"]
            if command is None
            else [f"{name} {word}" for word in words if word.startswith("-") and word not in options]
        )
    assert not unknown


@pytest.mark.parametrize(
    "block", re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.DOTALL)
)
def test_the_walk_through_quotes_the_source_as_it_is(block: str) -> None:
    source = (ROOT / "solutions" / "transformer-week2" / "scaled_dot_product_attention.py").read_text(encoding="utf-8")
    assert block in source


# -- versions --------------------------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_requirements_are_exact_and_sorted() -> None:
    names = [name.lower().replace("_", "-") for name in pins()]
    assert names == sorted(names)
    assert all(re.fullmatch(r"[0-9a-z.]+", version) for version in pins().values()), "no local versions such as +cpu"


def test_conda_gets_the_versions_of_requirements_txt() -> None:
    wanted = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    from_pip = next(item["pip"] for item in wanted if isinstance(item, dict))
    assert "-r requirements.txt" in from_pip
    for item in [*from_pip, *(item for item in wanted if isinstance(item, str))]:
        name, _, version = item.partition("==")
        assert not version or pins().get(name) == version


def test_what_the_package_declares_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    known = {name.lower().replace("_", "-") for name in pins()}
    assert not [item for item in declared if re.split(r"[\[<>=!~ ;]", item)[0].lower() not in known]


def test_the_oldest_versions_that_are_tried_are_those_that_are_allowed() -> None:
    text = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8")
    oldest = dict(re.findall(r"^([\w-]+)==([\d.]+)", text, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", item).groups() for item in project["dependencies"])  # type: ignore[union-attr]
    assert {"torch", "torchvision", "numpy", "safetensors", "transformers"} <= oldest.keys()
    for name in oldest.keys() & allowed.keys():
        assert f"{oldest[name]}.".startswith(f"{allowed[name]}."), name


# -- what no file of the repository holds ------------------------------------------------------------------------------------

FORBIDDEN = re.compile(
    r"(?<![\w.~/}])/(?:work|root|mnt|Users)/\w|/home/(?!learner\b)\w|(?:pypi|files\.pythonhosted)\.[a-z]+/|artifactory|nexus\.|localhost:\d{4}/simple"
)
"""Paths of one machine (the sandbox's home is made), and hosts of package registries."""


def test_no_file_names_a_path_of_one_machine_or_a_registry() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in tracked.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix not in (".png", ".safetensors") and path != Path(__file__):
            for match in FORBIDDEN.finditer(path.read_text(encoding="utf-8", errors="replace")):
                found.append(f"{name}: {match[0]}")
    assert not found


if __name__ == "__main__":
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{weeks_table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
