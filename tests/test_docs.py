"""Every command that README.md, docs/ and the experiments' headers show is run, or checked as far as this machine allows; links lead
somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from ner import formats

ROOT = Path(__file__).parent.parent
MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*MARKDOWN, *sorted((ROOT / "experiments").glob("*.toml"))]
PROGRAMS = ("python", "make", "pip", "tensorboard", "sha256sum", "gcloud", "TF_CONFIG=")
# Of those that are run: earlier ones make what later ones read.
ORDER = ("experiments/gmb_split.py", "train.py", "export.py", "evaluate.py", "predict.py", "check.py")
HUB = ("FacebookAI/xlm-roberta-base", "dslim/bert-base-NER")  # encoders in whose place the tiny one is taken
PLACEHOLDERS = {"FILE": "ner_dataset.csv", "FOLDER": "runs/gmb/model", "DIR": "runs/gmb", "TEXT": "alex lives in london"}


def commands() -> dict[str, str]:
    """Each command that is shown, in a code block or between backquotes, and the page it stands on."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".toml":
            lines = re.findall("^# (.*)", text, re.MULTILINE)
        else:
            prose, *blocks = re.split(r"^```", text, flags=re.MULTILINE)  # then a block, prose, a block, ...
            shell = [block.removeprefix("\n") for block in blocks[::2] if block.startswith("\n")]
            lines = [line for block in shell for line in re.sub(r"\n {4,}", " ", block).splitlines()]
            lines += re.findall(r"`([^`\n]+)`", "".join([prose, *blocks[1::2]]))
        # Two commands on one line stand apart by several spaces; so does a remark.
        parts = [part.strip() for line in lines for part in re.split(r"\s{3,}|\s+# ", line)]
        found |= {part: page.name for part in parts if part.startswith(PROGRAMS) and " " in part and not part.endswith("...")}
    return found


SHOWN = commands()
SYNOPSES = [c for c in SHOWN if "[--" in c]
PYTHON = [c for c in SHOWN if c.startswith("python ") and "[--" not in c]
WITHOUT = () if importlib.util.find_spec("onnxruntime") else ("int8",)  # what these words name cannot be run here
RUN = sorted((c for c in PYTHON if c.split()[1] in ORDER and not any(w in c for w in WITHOUT)), key=lambda c: ORDER.index(c.split()[1]))
OTHERS = [c for c in PYTHON if c not in RUN]  # such as python -m, or what needs PyTorch


def test_commands_are_found():
    assert len(SYNOPSES) >= 3 and len(RUN) >= 10
    assert {c.split()[1] for c in RUN} == set(ORDER)


@pytest.mark.parametrize("synopsis", SYNOPSES)
def test_a_synopsis_names_flags_that_exist(synopsis):
    script = synopsis.split()[1]
    shown = subprocess.run([sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for flag in re.findall(r"--[a-z-]+", synopsis):
        assert flag in shown, f"{script} has no {flag}"


def program_exists(command: str) -> bool:
    """Whether the script or the module that ``python SCRIPT`` or ``python -m MODULE`` names is there."""
    _, script, *words = shlex.split(command)
    if script == "-m":
        return bool(words) and importlib.util.find_spec(words[0]) is not None
    return (ROOT / script).is_file()


def test_a_program_that_is_not_run_here_exists():
    assert [command for command in OTHERS if not program_exists(command)] == []
    assert program_exists("python -m pytest tests") and program_exists("python train.py --help")
    assert not program_exists("python -m no_such_module") and not program_exists("python no_such.py")


def slug(heading: str) -> str:
    """The anchor that a Markdown viewer gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.is_file(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{page.name} links to {target}"


def test_every_page_is_reached_from_the_readme():
    linked = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {f"docs/{page.name}" for end in ("md", "ipynb") for page in (ROOT / "docs").glob(f"*.{end}")} <= set(linked)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_map_of_the_code_names_every_module():
    page = (ROOT / "docs" / "reading_the_code.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:ner/)?(\w+\.py)`", page))
    modules = {path.name for path in (ROOT / "ner").glob("*.py")} - {"__init__.py"}
    assert modules <= named, "a module is missing from the map"
    assert all((ROOT / "ner" / name).is_file() or (ROOT / name).is_file() for name in named), "the map names a file that is gone"


@pytest.mark.parametrize("command", [c for c in SHOWN if c.startswith("make")])
def test_a_make_target_exists(command):
    if shutil.which("make") is None:
        pytest.skip("no make on PATH")
    done = subprocess.run([*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in SHOWN if c.startswith("pip install -e")])
def test_an_extra_exists(command):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]", command)) <= set(extras)


@pytest.mark.parametrize("command", [c for c in SHOWN if c.startswith("tensorboard")])
def test_tensorboard_is_told_to_listen_here_only(command):
    assert "--host localhost" in command


# The programs in one process, which imports TensorFlow once.
IN_TURN = """
import json, runpy, sys
for call in json.load(open("calls.json")):
    sys.argv = call
    try:
        runpy.run_path(call[0], run_name="__main__")
    except SystemExit as end:
        assert not end.code, call
    print("done:", *call, flush=True)
"""


def unnamed(call: list[str]) -> list[str]:
    """A training without its output folder: where only that differs, one run is enough."""
    return [word for before, word in pairwise(["", *call]) if call[0] != "train.py" or "--output" not in (before, word)]


def test_the_commands_of_the_pages_run(tmp_path, tiny):
    """In a folder like a fresh clone with the corpus in it, but with a tiny encoder, for one epoch."""
    for name in ("ner", *(f"{Path(script).name}" for script in ORDER[1:])):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("experiments", "sample"):
        shutil.copytree(ROOT / name, tmp_path / name)
    sentences = [*formats.read(ROOT / "sample" / "train.csv"), *formats.read(ROOT / "sample" / "validation.csv")]
    formats.write(tmp_path / "ner_dataset.csv", sentences * 2)  # gmb_split.py holds back 1,000
    conll = tmp_path / "data" / "conll2003"
    conll.mkdir(parents=True)
    for name in ("eng.train", "eng.testa", "eng.testb"):
        formats.write(conll / f"{name}.conll", sentences[:200])
        shutil.copy(conll / f"{name}.conll", tmp_path / name)
        (conll / f"{name}.conll").rename(conll / name)
    formats.write(tmp_path / "mine.conll", [s._replace(document=f"d{i // 5}") for i, s in enumerate(sentences[:60])])
    (tmp_path / "texts.txt").write_text("alex lives in london\n")
    (tmp_path / "large").mkdir()
    for name, some in {"train-00000-of-00002": sentences[:40], "train-00001-of-00002": sentences[40:80], "dev": sentences[80:120]}.items():
        formats.write(tmp_path / "large" / f"{name}.jsonl", some)
    stand_in = PLACEHOLDERS | dict.fromkeys(HUB, str(tiny))
    fast = {"--encoder": str(tiny), "--epochs": "1", "--rows": "64", "--row-length": "64", "--tpu": "none"}

    calls = []
    for command in RUN:
        script, *words = [stand_in.get(word, word) for word in shlex.split(command)[1:]]
        words += ["--overwrite"] * (script in ("train.py", "export.py"))
        words += ["--max-loss", "100"] * ("--int8" in words)
        if script == "train.py":
            words += [part for flag, value in fast.items() if flag not in words for part in (flag, value)]
        if not any(unnamed([script, *words]) == unnamed(call) for call in calls):
            calls.append([script, *words])
    (tmp_path / "calls.json").write_text(json.dumps(calls))
    done = subprocess.run([sys.executable, "-c", IN_TURN], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-1500:]
    assert done.stdout.count("done: ") == len(calls)
