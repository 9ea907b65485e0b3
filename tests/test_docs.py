"""What the documentation names exists: links, files, commands, options, modules, rooms on the map."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

from protclip.cli.app import app
from protclip.experiments.catalogue import EXPERIMENTS
from protclip.tasks.definitions import TASKS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "benchmarks" / "results" / "evidence").glob("*.md"),
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
    ]
)
CODE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
COMMAND: typer.core.TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
TOPS = ("protclip", "structure", "data", "tasks", "docs", "tests", "benchmarks", "notebooks", ".ci")

# Options that pages name and that are not ours.
OF_OTHERS = {"--no-deps", "--ignore-requires-python"}

# Names of groups of entry points, which look like modules.
GROUPS = {"protclip.modalities", "protclip.sources", "protclip.datasets", "protclip.samples"}

BANNED = ("what joins it", "the course of", "too kind", "by its looks")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(text: str, *languages: str) -> Iterator[str]:
    """Code blocks in one of the languages."""
    for match in CODE.finditer(text):
        if match[2] in languages:
            yield match[3]


def inline(text: str) -> list[str]:
    """Code within sentences."""
    return re.findall(r"`([^`\n]+)`", CODE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_links_lead_somewhere(page):
    text = CODE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(path), f"{target}: no such heading, but {sorted(anchors(path))}"


@each_page
def test_files_exist(page):
    for code in inline(page.read_text("utf-8")):
        if re.fullmatch(r"[\w./*-]+", code) and code.split("/")[0] in TOPS and "/" in code:
            inside = ROOT / code
            assert inside.exists() or list(ROOT.glob(code)), f"{code} is not there"


def commands(text: str) -> Iterator[list[str]]:
    """The words of every protclip command of a page, placeholders included."""
    shell = "\n".join(blocks(text, "bash", "sh")).replace("\\\n", " ")
    lines = [line.split(" #")[0] for line in shell.splitlines() if not line.startswith("#")]
    for line in [*lines, *(code for code in inline(text) if code.startswith("protclip "))]:
        for part in re.split(r"&&|;|\| ", line):
            words = shlex.split(part.replace("[", "").replace("]", ""))
            if "protclip" in words:
                yield words[words.index("protclip") + 1 :]


def options(command: typer.core.TyperCommand | typer.core.TyperGroup) -> set[str]:
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}


def verbs(group: typer.core.TyperGroup) -> Iterator[typer.core.TyperCommand]:
    for command in group.commands.values():
        if isinstance(command, typer.core.TyperGroup):
            yield from verbs(command)
        else:
            yield command


def unknown(words: list[str]) -> list[str]:
    """What a command names that does not exist: its verb, options, task or experiment."""
    command, rest = COMMAND, list(words)
    while isinstance(command, typer.core.TyperGroup) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if not name.islower():  # a placeholder
            return []
        if name not in command.commands:
            return [name]
        command = command.commands[name]
    named = [word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    found = [name for name in named if name not in options(command)]
    known = {"experiment": EXPERIMENTS, "finetune": TASKS}.get(words[0] if words else "")
    if known and rest and re.fullmatch(r"[a-z][\w-]*", rest[0]) and rest[0] not in known:
        found.append(rest[0])
    return found


@each_page
def test_commands_name_verbs_and_options_that_exist(page):
    for words in commands(page.read_text("utf-8")):
        assert unknown(words) == [], " ".join(["protclip", *words])


def test_commands_are_found_and_wrong_ones_noticed():
    page = """
Run `protclip pretrain --paired 0.5` or:

```bash
pip install -e . && protclip finetune ec --dta sample   # a comment --none
protclip data build \\
  --cath DIR --nothing
protclip experiment tabel4 [--seeds 3]; protclip TASK --all; protclip fly
protclip refit RUN --method=cca | head
```
"""
    assert [unknown(words) for words in commands(page)] == [
        *(["--dta"], ["--nothing"], ["tabel4"], [], ["fly"], [], []),
    ]
    assert len(list(commands((ROOT / "README.md").read_text("utf-8")))) > 15


@each_page
def test_options_in_sentences_exist(page):
    known = (
        {"--version", "--help-all"}
        | {option for command in verbs(COMMAND) for option in options(command)}
        | OF_OTHERS
    )
    for script in ("run_all", "gpu.sh"):
        known |= set(re.findall(r"--[a-z][a-z-]+", (ROOT / "benchmarks" / script).read_text("utf-8")))
    for code in inline(page.read_text("utf-8")):
        if code.startswith("--"):
            named = set(re.findall(r"(?:^| )(--[a-z][a-z-]*)", code))
            assert named <= known, f"`{code}`: no option {named - known}"


def resolve(name: str) -> object:
    """The module, class, function or attribute of a dotted name."""
    parts = name.split(".")
    found: object = importlib.import_module(parts[0])
    for end, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            found = importlib.import_module(".".join(parts[:end]))
    return found


@each_page
def test_dotted_names_import(page):
    text = page.read_text("utf-8")
    groups = {name for name in GROUPS if list(entry_points(group=name))}
    assert groups == GROUPS
    for name in set(re.findall(r"(?<![\w/.-])protclip(?:\.[A-Za-z_]\w*)+", text)) - groups:
        resolve(name)
    for block in blocks(text, "python"):
        for node in ast.walk(ast.parse(re.sub(r"^   ", "", block, flags=re.M))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("protclip"):
                for alias in node.names:
                    resolve(f"{node.module}.{alias.name}")


@each_page
def test_plain_english(page):
    text = " ".join(page.read_text("utf-8").lower().split())
    assert [phrase for phrase in BANNED if phrase in text] == []


def test_the_map_is_current():
    spec = importlib.util.spec_from_file_location("map", ROOT / "docs" / "map.py")
    drawn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawn)
    assert drawn.DRAWING.read_text("utf-8") == drawn.drawing(), "run: python docs/map.py"
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    missing = [room for floor in drawn.floors() for room in floor if f"**`{room}`**" not in contributing]
    assert missing == [], "CONTRIBUTING.md has a paragraph on each room"


def test_arrows_leave_out_what_longer_ways_say():
    spec = importlib.util.spec_from_file_location("map", ROOT / "docs" / "map.py")
    drawn = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawn)
    imports = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set(), "e": {"d"}}
    assert drawn.arrows(imports) == [("a", "b"), ("b", "c"), ("c", "d"), ("e", "d")]
