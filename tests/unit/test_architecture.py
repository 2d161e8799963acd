"""The house as the code has it: who may construct a key, who may open a socket, how long a file and a function are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import smilla

PACKAGE = Path(smilla.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
STAGES = tuple(
    name
    for name in FILES
    if name in ("classify.py", "message.py", "address.py", "session.py", "pipeline.py")
    or name.startswith(("answer/", "copies/", "handover/", "policy/"))
)


UNIT_TESTS = Path(__file__).parent
# Of the package as a whole, and of its manual, its site and the files in contrib.
OF_NO_MODULE = (
    "test_architecture.py",
    "test_completion.py",
    "test_deploy_hook.py",
    "test_distribution.py",
    "test_documents.py",
    "test_manual.py",
    "test_purge.py",
    "test_service.py",
    "test_site.py",
)


def imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a file imports, `from smilla import x` as smilla.x; those for type checking left out."""
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(*modules: str) -> set[str]:
    return {
        name
        for name, tree in FILES.items()
        if any(found == module or found.startswith(module + ".") for found in imports(tree) for module in modules)
    }


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "id", getattr(node.func, "attr", ""))


@pytest.mark.parametrize(("key", "place"), [("X509Key", "keys/validity/x509.py"), ("PGPKey", "keys/validity/pgp.py")])
def test_only_the_gate_constructs_a_usable_key(key: str, place: str) -> None:
    assert {name for name, tree in FILES.items() if key in calls(tree)} == {place}


def test_nothing_else_makes_a_key_out_of_another() -> None:
    """A copy with other values would be a key that nobody checked."""
    for name, tree in FILES.items():
        aliases = {
            node.asname for node in ast.walk(tree) if isinstance(node, ast.alias) and node.name in ("X509Key", "PGPKey")
        }
        assert aliases <= {None}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                assert not bases & {"X509Key", "PGPKey"}, name
                assert "UsableKey" not in bases or name == "model/keys.py", name


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("Milter", "milter"), {"server/milter.py"}),
        (("pysequoia",), {"adapters/sequoia.py", "adapters/sequoia_child.py"}),
        (("gnupg",), {"adapters/gnupg.py"}),
        (
            ("subprocess",),
            {
                f"adapters/{n}.py"
                for n in ("gnupg", "html_cleaner", "postfix", "sequoia_open", "service_manager", "unbound")
            },
        ),
        (("nh3",), {"adapters/html_cleaner.py", "adapters/html_child.py"}),
        (("dns",), {f"adapters/{n}.py" for n in ("resolver", "dns_response", "dns_update", "proof", "zone_line")}),
        (("asyncio",), {"adapters/resolver.py", "adapters/proof.py"}),
        (("smtplib",), {"adapters/smtp.py"}),
        (("psycopg",), {"adapters/postgres_database.py"}),
        (("ldap3",), {"adapters/ldap.py"}),
        (("urllib.request",), {"adapters/https.py"}),
        (("ssl",), {f"adapters/{n}.py" for n in ("https", "imap", "imap_folder", "smtp_tls", "tls_server")}),
        (("imapclient", "imaplib"), {"adapters/imap.py", "adapters/imap_folder.py"}),
        (("http.client",), {"adapters/https.py", "adapters/status.py"}),
        (("http.server",), {"server/scrape.py"}),
        (("prometheus_client",), {"metrics/exposition.py"}),
        (("argparse",), {name for name in FILES if name.startswith("cli/")}),
        (("tomllib",), {"config/reader.py"}),
    ],
)
def test_each_thing_outside_has_one_importer(modules: tuple[str, ...], allowed: set[str]) -> None:
    assert importers(*modules) <= allowed


def test_sockets_are_opened_by_adapters_and_what_serves_the_mta_only() -> None:
    found = {name for name in importers("socket", "socketserver") if not name.startswith("adapters/")}
    serving = "acknowledge crew lines listener lmtp milter relay_dialogue reporter scrape socketmap systemd web"
    assert found <= {f"server/{name}.py" for name in serving.split()}


def test_adapters_are_chosen_in_one_place() -> None:
    found = {name for name in importers("smilla.adapters") if not name.startswith("adapters/")}
    commands = {
        "__init__",  # is stderr journald's?
        "audit",
        "config",
        "decrypt",
        "expiring_notices",
        "explain",
        "hop",
        "init",
        "init_look",
        "init_next",
        "init_start",
        "init_postfix",
        "journal",
        "keys",
        "learned",
        "keygen",
        "mailbox",
        "mailbox_keys",
        "mailbox_place",
        "mailbox_run",
        "material",
        "milter",
        "open",
        "policyd",
        "postfix_size",
        "publishing",
        "relay",
        "seal",
        "status",
        "survey",
        "surveying",
        "top",
        "watch",
        "watch_mail",
        "watch_mx",
        "wkd",
    }
    found = {name for name in found if not name.startswith("doctor/")}  # it looks at what adapters are about
    assert found <= {
        *(f"cli/{n}.py" for n in commands),
        *(f"server/{n}.py" for n in ("daemon", "decrypter", "health", "lines", "lmtp", "milter", "page", "policyd")),
        *(
            f"server/{n}.py"
            for n in (
                "readers",
                "relay",
                "relay_counts",
                "relay_message",
                "reporter",
                "runtime",
                "sampler",
                "web",
                "worker",
            )
        ),
    }


def test_stages_import_no_adapter_and_no_command() -> None:
    for name in (*STAGES, "keys/lookup.py"):
        for module in imports(FILES[name]):
            assert not module.startswith(("smilla.adapters", "smilla.cli", "smilla.server")), name


def test_environment_is_read_for_systemd_other_programs_and_who_asks_only() -> None:
    readers = {
        name
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
    }
    systemd = {"server/systemd.py", "adapters/log_target.py"}
    assert readers <= {
        *systemd,
        "adapters/gnupg.py",
        "adapters/postfix.py",
        "adapters/postgres_database.py",
        "cli/open.py",
        "cli/panel.py",
        "doctor/web_check.py",
    }


def broad_handlers(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            names = {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"BaseException"}
            if names & {"Exception", "BaseException"}:
                yield node


def test_no_stage_swallows_what_it_does_not_know() -> None:
    found = {name for name, tree in FILES.items() if any(broad_handlers(tree))}
    boundary = {
        f"server/{name}.py"
        for name in (
            "acknowledge",
            "daemon",
            "lmtp",
            "milter",
            "relay_dialogue",
            "relay_message",
            "reporter",
            "scrape",
            "service",
            "socketmap",
            "worker",
        )
    }
    assert {name for name in found if not name.startswith("adapters/")} <= boundary


def test_there_is_no_room_for_odds_and_ends() -> None:
    assert not {Path(name).stem for name in FILES} & {"utils", "util", "helpers", "helper", "common", "misc"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_file_and_its_functions_are_short(name: str) -> None:
    length = len((PACKAGE / name).read_text("utf-8").splitlines())
    assert length <= 400
    for node in ast.walk(FILES[name]):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name


@pytest.mark.parametrize("name", sorted(p.relative_to(UNIT_TESTS).as_posix() for p in UNIT_TESTS.rglob("test_*.py")))
def test_every_unit_test_is_named_after_the_module_that_it_tests(name: str) -> None:
    """In the folder of its package: ``test_<module>.py``, or ``test_<module>_<aspect>.py``."""
    if name in OF_NO_MODULE:
        return
    mirrored = PACKAGE / Path(name).parent
    modules = {path.stem for path in mirrored.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    tested = Path(name).stem.removeprefix("test_")
    assert any(tested == module or tested.startswith(f"{module}_") for module in modules)
