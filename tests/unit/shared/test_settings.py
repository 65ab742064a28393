"""A setting has one meaning, wherever it was set; a slip of the pen is noticed, and no secret is ever shown."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field, PositiveInt, SecretStr, ValidationError
from pydantic_settings import SettingsError

from shared.settings import AmqpSettings, ServiceSettings, Variable, unknown_variables, variables


class Group(BaseModel):
    """A group of settings."""

    size_max: PositiveInt = Field(10, description="how many")
    seconds: PositiveInt = Field(1, description="how long")


class Settings(ServiceSettings, AmqpSettings):
    """The settings of a service that is not there."""

    queue: str = Field("etl-queue", description="the queue")
    group: Group = Field(Group(size_max=20), description="a group")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read no `.etlpay/stack.env` but a test's own."""
    monkeypatch.chdir(tmp_path)


def write_stack_env(*lines: str) -> None:
    """Write what `make up` would."""
    path = Path(".etlpay/stack.env")
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def write_secret(monkeypatch: pytest.MonkeyPatch, name: str, content: bytes) -> None:
    """Let `<name>_FILE` name a file of this content."""
    path = Path(name)
    path.write_bytes(content)
    monkeypatch.setenv(f"{name}_FILE", str(path.resolve()))


def test_the_environment_comes_before_files_before_the_stack_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Settings().queue == "etl-queue"

    write_stack_env("ETLPAY_QUEUE=of-the-stack")
    assert Settings().queue == "of-the-stack"

    write_secret(monkeypatch, "ETLPAY_QUEUE", b"of-a-file")
    assert Settings().queue == "of-a-file"

    monkeypatch.setenv("ETLPAY_QUEUE", "of-the-environment")
    assert Settings().queue == "of-the-environment"

    assert Settings(queue="of-a-flag").queue == "of-a-flag"


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b" s3cret \n\n", " s3cret \n"),
        (b"", ""),
        ("\u00e9".encode(), "\u00e9"),
    ],
)
def test_a_secret_file_is_read_as_it_is_but_for_one_line_feed(
    monkeypatch: pytest.MonkeyPatch, content: bytes, password: str
) -> None:
    write_secret(monkeypatch, "ETLPAY_AMQP_PASSWORD", content)

    assert Settings().amqp_password.get_secret_value() == password


def test_a_secret_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_AMQP_PASSWORD_FILE", "/nowhere/password")

    with pytest.raises(SettingsError, match="ETLPAY_AMQP_PASSWORD_FILE"):
        Settings()


def test_a_secret_file_that_is_no_text_shows_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    write_secret(monkeypatch, "ETLPAY_AMQP_PASSWORD", b"s3cret\xff")

    with pytest.raises(SettingsError) as raised:
        Settings()

    assert "s3cret" not in str(raised.value)


def test_a_value_that_is_refused_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_OPS_PORT", "p4ssw0rd")

    with pytest.raises(ValidationError) as raised:
        Settings()

    assert "ops_port" in str(raised.value)
    assert "p4ssw0rd" not in str(raised.value)


def test_a_password_is_not_shown_by_what_holds_it() -> None:
    settings = Settings(amqp_password=SecretStr("s3cret"))

    assert "s3cret" not in repr(settings)
    assert "s3cret" not in str(settings.model_dump())


@pytest.mark.parametrize("level", ["debug", "INFO", "Warning", "error"])
def test_a_log_level_may_be_written_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("ETLPAY_LOG_LEVEL", level)

    assert Settings().log_level == level.lower()


def test_a_member_of_a_group_is_set_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETLPAY_GROUP__SECONDS", "5")

    group = Settings().group

    # The other one as this service has it, not as any group does.
    assert (group.seconds, group.size_max) == (5, 20)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ETLPAY_AMQP_PASWORD", "ETLPAY_AMQP_PASSWORD"),
        ("ETLPAY_AMPQ_URL", "ETLPAY_AMQP_URL"),
        ("ETLPAY_AMQP_PASSWRD_FILE", "ETLPAY_AMQP_PASSWORD"),
        ("ETLPAY_GROUP__SIZEMAX", "ETLPAY_GROUP__SIZE_MAX"),
        ("ETLPAY_LOGLEVEL", "ETLPAY_LOG_LEVEL"),
        ("ETLPAY_NOBODYS", None),
        ("ETLPAY_", None),
    ],
)
def test_an_unknown_name_is_reported_with_the_name_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    monkeypatch.setenv(name, "1")

    assert [(found, similar[:1]) for found, similar in unknown_variables(Settings)] == [
        (name, [meant] if meant else [])
    ]


@pytest.mark.parametrize(
    "name",
    [
        "ETLPAY_QUEUE",
        "ETLPAY_AMQP_PASSWORD_FILE",
        "ETLPAY_GROUP",
        "ETLPAY_GROUP__SECONDS",
        "PATH_OF_ETLPAY_",
        # Those of other programs.
        "ETLPAY_FILES_SCAN_SECONDS",
        "ETLPAY_READER_PASSWORD_FILE",
        "ETLPAY_BATCH__BACKLOG_BYTES_MAX",
        "ETLPAY_HTTP_MEMORY",
    ],
)
def test_what_is_known_or_not_ours_is_no_slip(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")

    assert unknown_variables(Settings) == []


def test_every_variable_is_listed_with_its_default_and_its_meaning() -> None:
    listed = {variable.name: variable for variable in variables(Settings)}

    assert listed["ETLPAY_QUEUE"] == Variable("ETLPAY_QUEUE", "the queue", "etl-queue", secret=False)
    assert listed["ETLPAY_AMQP_PASSWORD"].secret
    size_max = 20
    assert listed["ETLPAY_GROUP__SIZE_MAX"].default == size_max
    assert "ETLPAY_GROUP" not in listed
