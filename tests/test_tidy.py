"""The house is tidy: sizes, names, one name per service, indexes and generated files that are current."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from etlpay_cli.local.services import NAMES

ROOT = Path(__file__).resolve().parents[1]
MODULE_LINES_MAX = {"product": 350, "tests": 400}
FUNCTION_LINES_MAX = {"product": 60, "tests": 70}
FUNCTION_LINES_P90_MAX = 20
# As `wc -w` counts them.
PATH_OF_READERS = ("README.md", "ARCHITECTURE.md", "docs/delivery-guarantees.md", "docs/operations.md")
PATH_WORDS_MAX = 8_000
PAGES_WORDS_MAX = 14_000
PIPELINE_PAGES_WORDS_MAX = 7_000
PIPELINE_PAGES = ("docs/pipeline", "docs/how-to/")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "misc", "common", "base", "manager", "managers"}
# Put together, so that this file does not find itself.
UNFINISHED = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)))
# A lint exception without a reason: no ` - why` after the codes, no `# why` after the bracket.
UNREASONED = re.compile(r"# noqa(?!: [A-Z0-9, ]+ - \S)|# type: ignore(?!\[[a-z, -]+\] +# \S)")

# Metaphors that stood for a term of the glossary, and names that said one fact in several words.
METAPHORS = (
    *("befell", "culprit", "door", "doorkeeper", "innocent", "judgement", "keeper", "lane", "neighbour", "patience"),
    *("road", "twin"),
)
FORMER_NAMES = re.compile(
    "RefusedError|RefusalError|RejectedCallError|Answer|Fate|ItemStatus|Accepted|Disposition|Room|Hand|Run|Inbox|Acks|"
    "Settling|Exchange|Kind|Watch|Claimed|Folders|Place|Found|Stamp|Landing|Handover|Terms|Arrival|Entry|Draft|Verdict|"
    "Finding|LedgerIds|told_session_end|keep_session|bounded|first_of|make_id|called|delivered|talk|complain|judge"
)

SERVICES = sorted(folder.name for folder in (ROOT / "services").iterdir() if folder.is_dir())
DISTRIBUTIONS = [
    *(ROOT / name for name in ("client", "shared", "cli")),
    *(ROOT / "services" / name for name in SERVICES),
]
SOURCE_FOLDERS = [*(folder / "src" for folder in DISTRIBUTIONS), ROOT / "tests", ROOT / "tools", ROOT / "docker"]
MODULES = sorted(path for folder in SOURCE_FOLDERS for path in folder.rglob("*.py") if "_pb2" not in path.name)
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(folder / "README.md" for folder in DISTRIBUTIONS if (folder / "README.md").exists()),
    ]
)
SETTINGS_PAGE = "docs/settings.md"
GENERATED_PAGES = (SETTINGS_PAGE, "docs/pipelines-reference.md")
OTHER_TEXTS = [
    *(ROOT / name for name in ("Makefile", "Dockerfile", "pyproject.toml", ".importlinter")),
    *ROOT.glob("compose*.yaml"),
    *ROOT.glob("docker/*.*"),
    *ROOT.glob("protos/*.proto"),
]


def name_of(path: Path) -> str:
    """Return a path as a person would name it."""
    return str(path.relative_to(ROOT))


@cache
def definitions(path: Path) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every class and function of a module, nested ones too."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return [node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module, nested ones too."""
    return (each for each in definitions(path) if not isinstance(each, ast.ClassDef))


def project(folder: Path) -> dict[str, Any]:
    """Return a pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    """Return compose.yaml."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def kind_of(path: Path) -> str:
    """Tell whether a module is part of the product."""
    return "product" if "src" in path.relative_to(ROOT).parts else "tests"


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, its docstring included."""
    return (function.end_lineno or 0) - function.lineno + 1


def test_no_module_is_longer_than_one_sitting() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in MODULES}

    assert {name_of(path): size for path, size in sizes.items() if size > MODULE_LINES_MAX[kind_of(path)]} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        f"{name_of(path)}:{function.name}": lines
        for path in MODULES
        for function in functions(path)
        if (lines := lines_of(function)) > FUNCTION_LINES_MAX[kind_of(path)]
    }

    assert long == {}


def test_nine_functions_of_ten_are_short() -> None:
    sizes = sorted(lines_of(each) for path in MODULES if kind_of(path) == "product" for each in functions(path))

    assert sizes[len(sizes) * 9 // 10] <= FUNCTION_LINES_P90_MAX


def test_the_pages_are_read_in_an_hour() -> None:
    """Decision records are history, and what is generated is looked up: nobody reads them from end to end."""
    generated = re.compile(r"<!-- generated.*?<!-- end", re.DOTALL)
    words = {
        name_of(page): len(generated.sub("", page.read_text(encoding="utf-8")).split())
        for page in PAGES
        if page.parent.name != "adr" and name_of(page) not in GENERATED_PAGES
    }

    assert sum(words[page] for page in PATH_OF_READERS) <= PATH_WORDS_MAX
    of_pipelines = sum(number for page, number in words.items() if page.startswith(PIPELINE_PAGES))
    assert of_pipelines <= PIPELINE_PAGES_WORDS_MAX
    assert sum(words.values()) - of_pipelines <= PAGES_WORDS_MAX, words


def test_no_metaphor_stands_for_a_term() -> None:
    """A decision record says what was decided in the words of its day."""
    metaphor = re.compile(rf"(?<![a-z])({'|'.join(METAPHORS)})(?:s|'s)?(?![a-z])", re.IGNORECASE)
    texts = [path for path in (*MODULES, *PAGES, *OTHER_TEXTS) if path.parent.name != "adr" and path != Path(__file__)]

    found = [
        f"{name_of(path)}:{number}: {match[1]}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in metaphor.finditer(re.sub(r"([a-z])([A-Z])", r"\1_\2", line))
    ]

    assert found == []


def test_no_class_or_function_has_a_former_name() -> None:
    former = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        if kind_of(path) == "product"
        for node in definitions(path)
        if FORMER_NAMES.fullmatch(node.name)
    ]

    assert former == []


def test_a_setting_that_a_page_names_exists() -> None:
    known = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / SETTINGS_PAGE, *OTHER_TEXTS, *MODULES))

    strange = [
        f"{name_of(page)}: {name}"
        for page in PAGES
        if page.parent.name != "adr"
        for name in re.findall(r"ETLPAY_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8"))
        if name.removesuffix("_FILE") not in known
    ]

    assert strange == []


def test_every_module_is_named_for_what_it_holds() -> None:
    vague = [name_of(path) for path in MODULES if SAYS_NOTHING & set(path.relative_to(ROOT).with_suffix("").parts)]

    assert vague == []


def test_every_function_is_named_for_what_it_does() -> None:
    vague = [
        f"{name_of(path)}:{function.name}"
        for path in MODULES
        for function in functions(path)
        if function.name.lstrip("_").startswith(("handle_", "do_"))
    ]

    assert vague == []


def test_nothing_is_left_unfinished() -> None:
    texts = [*MODULES, *PAGES, *OTHER_TEXTS]

    unfinished = [
        f"{name_of(path)}:{number}"
        for path in texts
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNFINISHED.search(line)
    ]

    assert unfinished == []


def test_every_lint_exception_has_its_reason() -> None:
    unreasoned = [
        f"{name_of(path)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if UNREASONED.search(line) and path != Path(__file__)
    ]

    assert unreasoned == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_one_name_everywhere(service: str) -> None:
    """Folder = distribution = compose service = image = broker user = service in the logs; package in snake case."""
    package = service.replace("-", "_")
    folder = ROOT / "services" / service
    described = compose()["services"][service]
    start = (folder / "src" / package / "__main__.py").read_text(encoding="utf-8")

    assert [package] == sorted(path.name for path in (folder / "src").iterdir() if path.suffix != ".egg-info")
    assert f"etlpay-{service}" == project(folder)["project"]["name"]
    assert f"etlpay/{service}" == described["image"]
    assert f"services/{service}" == described["build"]["args"]["SERVICE"]
    assert [package] == described["command"]
    assert described["environment"]["ETLPAY_AMQP_URL"].startswith(f"amqp://{service}@")
    assert f'service="{service}"' in start
    assert service in NAMES


def test_compose_and_the_local_stack_run_the_same_services() -> None:
    images = {service["image"] for service in compose()["services"].values()}
    composed = {image.removeprefix("etlpay/") for image in images if image.startswith("etlpay/")} - {"cli"}

    assert set(SERVICES) == composed == set(NAMES)


@pytest.mark.parametrize("folder", [ROOT / "services" / name for name in SERVICES], ids=SERVICES)
def test_every_service_introduces_itself_on_one_screen(folder: Path) -> None:
    screen_lines = 60
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()

    assert lines[0].startswith("# ")
    assert len(lines) <= screen_lines
    assert (folder / "pyproject.toml").exists()


def test_published_ports_are_for_this_machine_only() -> None:
    ports = [(name, port) for name, service in compose()["services"].items() for port in service.get("ports", ())]

    assert ports
    assert [(name, port) for name, port in ports if not str(port).startswith("127.0.0.1:")] == []


def test_every_decision_is_in_the_index_once() -> None:
    folder = ROOT / "docs" / "adr"
    decisions = sorted(path.name for path in folder.glob("[0-9]*.md"))

    listed = re.findall(r"\]\(([0-9][^)]*\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))

    assert decisions == sorted(listed)
    assert len(decisions) == len({name.split("-")[0] for name in decisions}), "two decisions share a number"


def test_links_of_the_documentation_lead_somewhere() -> None:
    dead = [
        f"{name_of(page)}: {target}" for page in PAGES for target in links(page) if not leads_somewhere(page, target)
    ]

    assert dead == []


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that stay in this repository."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in target]


def leads_somewhere(page: Path, target: str) -> bool:
    """Tell whether a link's file exists, and the heading in it where one is named."""
    file, _, heading = target.partition("#")
    path = (page.parent / file) if file else page
    if not heading:
        return path.exists()
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.exists() else []
    return heading in {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


GENERATORS = ("generate_proto.py", "generate_settings_table.py", "generate_pipeline_reference.py")


@pytest.mark.parametrize("tool", GENERATORS)
def test_what_is_generated_is_current(tool: str) -> None:
    done = subprocess.run(
        (sys.executable, ROOT / "tools" / tool, "--check"), capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def locked() -> dict[str, str]:
    """Return the entries of the lock, continuation lines joined and without who asks for them, by what they pin."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace(" \\\n", " ")
    entries = (line.partition("    ") for line in text.splitlines() if not line.startswith("    #"))
    return {pin.strip(): hashes.strip() for pin, _, hashes in entries}


def test_the_lock_pins_names_versions_and_hashes_and_nothing_else() -> None:
    pin = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.+!]*( ; [a-z_]+ [^:@]+)?\s*")
    hashes = re.compile(r"--hash=sha256:[0-9a-f]{64}(\s+--hash=sha256:[0-9a-f]{64})*")

    wrong = [entry for entry, hashed in locked().items() if not pin.fullmatch(entry) or not hashes.fullmatch(hashed)]

    assert wrong == []


def test_what_is_installed_from_the_lock_is_what_was_locked() -> None:
    for name in ("tools/venv.sh", "Dockerfile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.findall(r"install (?:--quiet )?--(?:require-hashes|no-deps)", text), name
        assert "--constraint" not in text, name


def test_the_lock_satisfies_every_declared_requirement() -> None:
    pins = (pin.partition("==") for pin in locked())
    versions = {canonicalize_name(name): version.split(" ")[0] for name, _, version in pins}
    ours = {project(folder)["project"]["name"] for folder in DISTRIBUTIONS}

    unmet = [
        f"{name_of(folder)}: {requirement}"
        for folder in (ROOT, *DISTRIBUTIONS)
        for requirement in declared(project(folder))
        if requirement.name not in ours
        and not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), ""), prereleases=True)
    ]

    assert unmet == [], "write the lock anew: make lock"


@pytest.mark.parametrize("distribution", DISTRIBUTIONS[2:], ids=name_of)
def test_an_image_installs_what_its_distribution_needs_with_all_that_follows_and_no_more(distribution: Path) -> None:
    printed = subprocess.run(
        (sys.executable, "docker/requirements.py", distribution), cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    names = {canonicalize_name(line.partition("==")[0]) for line in printed.splitlines() if "==" in line}
    needed = {
        canonicalize_name(each.name) for each in map(Requirement, project(distribution)["project"]["dependencies"])
    }
    assert {each for each in needed - names if not each.startswith("etlpay")} == set()
    # What pydantic needs, which is not declared; and nothing of what develops and tests.
    assert {"annotated-types", "typing-extensions"} <= names
    assert names.isdisjoint({"pytest", "ruff", "mypy", "uv"})


def declared(table: dict[str, Any]) -> Iterator[Requirement]:
    """Yield every requirement of a pyproject.toml: of the project, its extras, its build and its development."""
    for texts in (
        table["project"].get("dependencies", []),
        *table["project"].get("optional-dependencies", {}).values(),
        *table.get("dependency-groups", {}).values(),
        table.get("build-system", {}).get("requires", []),
    ):
        yield from map(Requirement, texts)
