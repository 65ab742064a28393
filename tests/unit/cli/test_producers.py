"""`etlpay producers`: a user that can hand over events alone, bound to sources; its password is shown once."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from typer.testing import CliRunner, Result

from etlpay_cli.addresses import Addresses
from etlpay_cli.commands.producers import app
from etlpay_cli.errors import StackError
from etlpay_cli.provision import DEFINITIONS_PLACE, PRIVATE, PRODUCERS_PLACE, hash_password, provision, replace_file
from shared.auth.producers import PRODUCERS_FILE, Producer


class FakeStack:
    """A stack whose secrets are files, and whose broker records its commands."""

    definitions_path = "/broker/definitions.json"

    def __init__(self, root: Path) -> None:
        provision(root / "secrets", PRIVATE)
        self.root = root / "secrets"
        self.lock = root / "lock"
        self.commands: list[tuple[str, ...]] = []
        self.producers_at_command: list[str] = []
        self.fault: StackError | None = None

    def addresses(self) -> Addresses:
        return Addresses(
            mode="local",
            http="",
            grpc="",
            amqp="amqp://producer:secret@127.0.0.1:5673/",
            postgres="",
            redis="",
            inbox="",
        )

    def read_secret(self, place: str) -> str:
        return (self.root / place).read_text(encoding="utf-8")

    def replace_secret(self, place: str, text: str) -> None:
        replace_file(self.root, place, text, PRIVATE)

    def rabbitmqctl(self, *arguments: str, accepted: Sequence[int] = (0,)) -> None:  # noqa: ARG002 - it knows every user
        if self.fault is not None:
            raise self.fault
        self.commands.append(arguments)
        self.producers_at_command.append(self.read_secret(PRODUCERS_PLACE))

    def producers(self) -> list[Producer]:
        return PRODUCERS_FILE.read(self.root / PRODUCERS_PLACE)

    def user(self, name: str) -> dict[str, Any] | None:
        read = msgspec.json.decode(self.read_secret(DEFINITIONS_PLACE))
        return next((user for user in read["users"] if user["name"] == name), None)


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    return FakeStack(tmp_path)


def run(stack: FakeStack, *arguments: str) -> Result:
    find: Callable[[], tuple[Path, FakeStack]] = lambda: (stack.lock, stack)  # noqa: E731 - one value
    return CliRunner().invoke(app, [*arguments], obj=find)


def create(stack: FakeStack, name: str = "shop", *sources: str) -> str:
    named = [word for source in (sources or (f"{name}*", "other")) for word in ("--source", source)]
    result = run(stack, "create", "--name", name, *named)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_a_new_producer_is_bound_to_its_sources_before_the_broker_knows_it(stack: FakeStack) -> None:
    create(stack)

    assert [(each.name, each.user, each.sources) for each in stack.producers()][-1] == (
        "shop",
        "producer-shop",
        ("shop*", "other"),
    )
    assert stack.commands == [("import_definitions", "/broker/definitions.json")]
    assert "producer-shop" in stack.producers_at_command[0]


def test_its_address_is_printed_alone_and_its_password_is_kept_as_a_hash(stack: FakeStack) -> None:
    address = urlsplit(create(stack))

    assert (address.scheme, address.username, address.hostname, address.port, address.path) == (
        "amqp",
        "producer-shop",
        "127.0.0.1",
        5673,
        "/",
    )
    assert address.password is not None
    assert len(address.password) >= 43
    kept = stack.user("producer-shop")
    assert kept is not None
    assert hash_password(address.password, base64.b64decode(kept["password_hash"])[:4]) == kept["password_hash"]
    assert not any(
        address.password in path.read_text(encoding="utf-8") for path in stack.root.rglob("*") if path.is_file()
    )
    assert address.password not in str(stack.commands)


def test_with_the_first_producer_the_stacks_own_users_are_bound_too(stack: FakeStack) -> None:
    """An operator can do everything anyway; the demo goes on, and whoever uses its user can name its source only."""
    create(stack)
    create(stack, "bank")

    assert [(each.user, each.sources) for each in stack.producers()][:2] == [
        ("operator", ("*",)),
        ("producer", ("queue-worker-demo",)),
    ]
    assert [each.name for each in stack.producers()] == ["operator", "demo", "shop", "bank"]


def test_with_the_last_producer_gone_the_queue_stays_bound(stack: FakeStack) -> None:
    create(stack)

    assert run(stack, "revoke", "--name", "shop").exit_code == 0

    assert [each.name for each in stack.producers()] == ["operator", "demo"]


def test_a_producer_that_is_revoked_is_gone_from_broker_definitions_and_file(stack: FakeStack) -> None:
    create(stack)

    result = run(stack, "revoke", "--name", "shop")

    assert result.exit_code == 0
    assert stack.commands[1:] == [("delete_user", "producer-shop")]
    assert stack.user("producer-shop") is None
    assert run(stack, "revoke", "--name", "shop").exit_code == 1


def test_a_user_of_the_stack_is_unbound_and_not_deleted(stack: FakeStack) -> None:
    create(stack)

    assert run(stack, "revoke", "--name", "demo").exit_code == 0

    assert stack.commands[1:] == []
    assert stack.user("producer") is not None
    assert [each.name for each in stack.producers()] == ["operator", "shop"]


@pytest.mark.parametrize(
    ("name", "source"),
    [("Shop", "*"), ("shop", ""), ("shop", "a\nb"), ("operator", "*"), ("demo", "shop"), ("x" * 65, "*")],
)
def test_what_cannot_be_a_producer_is_refused_and_nothing_changes(stack: FakeStack, name: str, source: str) -> None:
    before = (stack.read_secret(PRODUCERS_PLACE), stack.read_secret(DEFINITIONS_PLACE))

    result = run(stack, "create", "--name", name, "--source", source)

    assert (result.exit_code, result.stdout, stack.commands) == (2, "", [])
    assert before == (stack.read_secret(PRODUCERS_PLACE), stack.read_secret(DEFINITIONS_PLACE))


def test_a_name_that_is_there_is_refused_so_that_nobody_changes_it_unseen(stack: FakeStack) -> None:
    create(stack)
    before = stack.read_secret(DEFINITIONS_PLACE)

    assert run(stack, "create", "--name", "shop", "--source", "*").exit_code == 2

    assert before == stack.read_secret(DEFINITIONS_PLACE)


def test_every_source_that_may_be_one_can_be_bound(stack: FakeStack) -> None:
    sources = ('a"b\\c', "https://shop.example/x?tenant=2*", "Bücher & Söhne", "'quoted'", "[a]#b")

    create(stack, "shop", *sources)

    assert stack.producers()[-1].sources == sources


def test_the_list_shows_who_is_bound_to_what(stack: FakeStack) -> None:
    create(stack)

    printed = run(stack, "list").stdout

    assert all(word in printed for word in ("shop", "producer-shop", "shop*", "operator", "queue-worker-demo"))


def test_a_broker_that_cannot_be_told_is_an_error_and_the_user_can_be_revoked(stack: FakeStack) -> None:
    stack.fault = StackError("rabbitmqctl import_definitions failed")
    result = run(stack, "create", "--name", "shop", "--source", "shop")
    stack.fault = None

    assert (result.exit_code, result.stdout) == (1, "")
    assert run(stack, "revoke", "--name", "shop").exit_code == 0
    assert stack.user("producer-shop") is None


def test_a_file_that_cannot_be_read_is_not_overwritten(stack: FakeStack) -> None:
    stack.replace_secret(PRODUCERS_PLACE, "mine")

    result = run(stack, "create", "--name", "shop", "--source", "*")

    assert (result.exit_code, stack.read_secret(PRODUCERS_PLACE)) == (1, "mine")
