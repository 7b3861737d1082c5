"""The build: the same bytes twice, nothing of a solution in a learner's notebook, nbgrader content with it."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autograder.audit import solution_lines
from autograder.build import build, papers_modules, read_all
from autograder.notebook import SourceError, stub_messages, stubbed
from autograder.papers_view import papers_before
from tests.conftest import ROOT, SMALL, make_course

NOTEBOOKS = read_all(ROOT)


def files(folder: Path) -> dict[str, bytes]:
    made = [
        path
        for part in ("solutions", "notebooks", "papers", "data")
        for path in (folder / part).rglob("*")
        if path.is_file()
    ]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in made
        if not {"__pycache__", "cache"} & set(path.parts)  # what is kept to be quicker is nothing that is built
    }


def test_two_builds_give_the_same_bytes(built_course: Path, tmp_path: Path) -> None:
    other = make_course(tmp_path / "elsewhere")
    build(other)
    assert files(other) == files(built_course)


def test_a_second_build_changes_nothing_and_check_says_so(built_course: Path) -> None:
    before = files(built_course)
    assert build(built_course, check=True).changed == []
    assert build(built_course, recordings=False).changed == []
    assert files(built_course) == before


def test_check_reports_an_edited_source_and_writes_nothing(course: Path) -> None:
    report = build(course, check=True, recordings=False)
    assert Path("notebooks/small-week0/doubling.ipynb") in report.changed
    assert not (course / "notebooks").exists()


def test_a_notebook_whose_source_is_gone_is_removed(course: Path) -> None:
    build(course, recordings=False)
    stray = course / "notebooks" / "small-week0" / "gone.ipynb"
    shutil.copyfile(course / "notebooks" / "small-week0" / "doubling.ipynb", stray)
    assert Path("notebooks/small-week0/gone.ipynb") in build(course, recordings=False).changed
    assert not stray.exists()


def test_the_committed_notebooks_are_what_the_sources_make() -> None:
    assert build(ROOT, check=True, recordings=False).changed == []


def released(notebook_key: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{notebook_key}.ipynb", as_version=4)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.key)
def test_nothing_of_a_solution_a_hidden_case_or_a_misconception_is_released(notebook) -> None:
    node = released(notebook.key)
    text = "\n".join(cell.source for cell in node.cells) + json.dumps(node.metadata)
    for mark in (
        "BEGIN SOLUTION",
        "END SOLUTION",
        "HIDDEN TESTS",
        "misconceptions(",
        "mistake(",
        "@alternative",
        "equivalents(",
    ):
        assert mark not in text, mark
    shown = {line.strip() for cell in node.cells for line in cell.source.split("\n")}
    for name, exercise in notebook.exercises.items():
        given = {line.strip() for line in stubbed(exercise.source).split("\n")}
        # what another exercise gives, or a short common line, is no secret
        secret = {line.split("  #")[0].strip() for line in solution_lines(exercise.source)} - given
        secret = {line for line in secret if len(line) > 24 and not line.startswith(("#", "for ", "if ", "with "))}
        # one line may well stand elsewhere too, where the exercise is used; a solution is more than one line
        assert len(secret & shown) <= max(1, len(secret) // 4), (name, secret & shown)
    for cell in notebook.cells:
        if cell.role == "check":
            hidden = set(cell.source.split("\n")) - set(cell.public.split("\n"))
            names = {m for line in hidden for m in re.findall(r'case\.\w+\(\s*"([^"]+)"', line)}
            (shown_check,) = [
                c.source for c in node.cells if c.metadata.get("nbgrader", {}).get("grade_id") == cell.grade_id
            ]
            public = {node.value for node in ast.walk(ast.parse(cell.public)) if isinstance(node, ast.Constant)}
            assert shown_check == cell.public
            assert not {name for name in names - public if f'"{name}"' in shown_check}, cell.name
        elif cell.role == "misconceptions":
            calls = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Call)]
            told = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "says"]
            told += [arg for call in calls if getattr(call.func, "id", "") == "hints" for arg in call.args[1:]]
            for value in told:
                assert ast.literal_eval(value) not in text
        elif cell.role == "written":
            answer = cell.source.partition("### BEGIN SOLUTION")[2].partition("### END SOLUTION")[0].strip()
            assert answer.splitlines()[0] not in text


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.key)
def test_a_released_notebook_is_complete(notebook) -> None:
    node = released(notebook.key)
    nbformat.validate(node)
    ids = [cell.id for cell in node.cells]
    assert len(ids) == len(set(ids))
    assert all(not cell.get("outputs") for cell in node.cells)
    grade_ids = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in node.cells}
    assert grade_ids >= set(notebook.exercises) | {f"check-{name}" for name in notebook.checks}
    sources = [cell.source for cell in node.cells]
    assert (
        sources[0].startswith("# ")
        and "colab-badge" in sources[1]
        and f'autograder.begin("{notebook.assignment}"' in sources[2]
    )
    assert any("score()" in source for source in sources), "no closing summary with the learner's score"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in node.cells) == 1
    assert notebook.written, "no written question"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.key)
def test_every_exercise_has_three_hints_and_its_recording_holds_no_hidden_case(notebook) -> None:
    recording = json.loads((ROOT / "data" / "recordings" / f"{notebook.key}.json").read_text())
    for check in recording["checks"]:
        assert len(check["hints"]) == 3, check["check"]
        source = notebook.checks[check["check"]]
        hidden = source.source.removeprefix(source.public)
        for case in check["reference"]["cases"]:
            assert f'"{case["name"]}"' not in hidden or f'"{case["name"]}"' in source.public


def test_stubs_say_what_to_implement() -> None:
    (exercise,) = _small_cells("Affine")
    assert stub_messages(exercise) == ["implement Affine.__init__", "implement Affine.forward"]
    assert 'raise NotImplementedError("implement Affine.forward")' in stubbed(exercise)


def _small_cells(name: str) -> list[str]:
    return [cell.split("\n", 1)[1] for cell in SMALL.split("# %%") if f"class {name}" in cell]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (("order: 1", "place: 1"), "does not say order"),
        (("    ### END HIDDEN TESTS\n", "    ### END HIDDEN TESTS\n    case.normal(2)\n"), "behind the hidden cases"),
        (('@check("double", points=2', '@check("twice", points=2'), "does not follow an exercise"),
        (('@check("double", points=2', '@check("double", points=P'), "all literal"),
        (('@check("Affine", points=3)\ndef _(case):', "def _(case):"), "has no check"),
    ],
)
def test_a_source_that_breaks_a_rule_is_named_with_the_rule(course: Path, edit: tuple[str, str], says: str) -> None:
    source = course / "solutions" / "small-week0" / "doubling.py"
    assert edit[0] in SMALL
    source.write_text(SMALL.replace(*edit))
    with pytest.raises(SourceError, match=re.escape(says)) as error:
        build(course, recordings=False)
    assert "doubling.py" in str(error.value)


def test_a_solution_that_ends_its_kernel_is_named(course: Path) -> None:
    source = course / "solutions" / "small-week0" / "doubling.py"
    source.write_text(SMALL.replace("### BEGIN SOLUTION\n", "### BEGIN SOLUTION\n    import os; os._exit(3)\n", 1))
    with pytest.raises(SourceError, match=r"doubling\.py: Kernel died"):
        build(course)


def test_papers_hold_the_exported_cells_and_import(built_course: Path) -> None:
    text = (built_course / "papers" / "small" / "doubling.py").read_text()
    assert "SOLUTION" not in text and "def double" in text and "Affine" not in text
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import torch; from papers.small.doubling import double; print(double(torch.ones(1)).item())",
        ],
        cwd=built_course,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(built_course)},
    )
    assert done.stdout.strip() == "2.0", done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.key)
def test_a_notebook_sees_of_papers_only_what_was_built_before_it(notebook, tmp_path: Path) -> None:
    papers_before(notebook, NOTEBOOKS, ROOT, tmp_path)
    seen = "\n".join(path.read_text() for path in tmp_path.rglob("*.py"))
    own = papers_modules([notebook])
    for text in own.values():
        for statement in ast.parse(text).body:
            if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                assert not re.search(rf"^(def|class) {statement.name}\b", seen, flags=re.MULTILINE), statement.name


def environment(folder: Path) -> dict[str, str]:
    # as in a shell where the virtual environment is not activated, but nbgrader itself calls alembic by name
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def test_nbgraders_own_generate_assignment_makes_the_same_notebooks(built_course: Path, tmp_path: Path) -> None:
    folder = tmp_path / "course"
    shutil.copytree(built_course, folder)
    before = (folder / "notebooks" / "small-week0" / "doubling.ipynb").read_text()
    shutil.rmtree(folder / "notebooks")
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", "small-week0", "--force"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    after = nbformat.read(folder / "notebooks" / "small-week0" / "doubling.ipynb", as_version=4)
    assert [cell.source for cell in after.cells] == [
        cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        for cell in json.loads(before)["cells"]
    ]
    assert sorted(path.name for path in (folder / "notebooks" / "small-week0").iterdir()) == ["doubling.ipynb"], (
        "a source was released"
    )


def test_nbgrader_validate_reads_a_released_notebook_and_a_solved_one(built_course: Path, tmp_path: Path) -> None:
    def validate(path: Path) -> str:
        command = [sys.executable, "-m", "nbgrader", "validate", str(path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(tmp_path))
        return done.stdout + done.stderr

    env_recordings = built_course / "data"
    assert env_recordings.is_dir()
    blank = ROOT / "notebooks" / "transformer-week2" / "scaled_dot_product_attention.ipynb"
    output = validate(blank)
    assert "VALIDATION FAILED" in output and "not attempted yet" in output, output


def other_python() -> str | None:
    """Another Python that the course supports, with a name of its own on PATH or under pyenv."""
    own = "{}.{}".format(*sys.version_info[:2])
    for version in ("3.12", "3.13", "3.11"):
        candidates = [
            shutil.which(f"python{version}"),
            *map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))),
        ]
        for candidate in candidates if version != own else ():
            if (
                candidate
                and subprocess.run([candidate, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
            ):
                return candidate
    return None


@pytest.mark.slow
@pytest.mark.skipif(other_python() is None, reason="only one supported Python is installed here")
def test_another_python_builds_the_same_bytes(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(other_python()), "-m", "venv", str(tmp_path / "venv")], check=True)
    pins = {
        line.split("==")[0].lower(): line.strip()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if "==" in line
    }
    needed = [
        pins[name] for name in ("nbgrader", "jupytext", "nbformat", "click", "rich")
    ]  # no torch: a build of notebooks needs none
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *needed], check=True)
    done = subprocess.run(
        [python, "-m", "autograder.cli", "build", "--check", "--no-recordings"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.key)
def test_a_recording_says_the_same_as_itself_and_survives_being_written(notebook, tmp_path: Path) -> None:
    from autograder.record import same_recording
    from autograder.recording import Recording

    recording = Recording.load(ROOT / "data" / "recordings" / notebook.assignment / notebook.name)
    assert same_recording(recording, recording)
    recording.save(tmp_path / "again")
    assert same_recording(recording, Recording.load(tmp_path / "again"))
    for suffix in (".json", ".safetensors"):
        original = ROOT / "data" / "recordings" / notebook.assignment / f"{notebook.name}{suffix}"
        assert (tmp_path / f"again{suffix}").read_bytes() == original.read_bytes()
