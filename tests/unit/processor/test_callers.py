"""The processor knows its callers by their tokens, and does not serve the network without any."""

import pytest
from structlog.testing import capture_logs

from processor.inputs.callers import Caller, Callers, open_callers
from processor.settings import CallerSettings
from shared.contracts.errors import FatalError
from shared.contracts.event import Channel

GATEWAY, INGEST = Caller("api-gateway", Channel.HTTP), Caller("grpc-ingest", Channel.GRPC)
CALLERS = Callers([(GATEWAY, "g-token"), (INGEST, "i-token")])


@pytest.mark.parametrize(
    ("credentials", "caller"),
    [
        ("Bearer g-token", GATEWAY),
        ("Bearer i-token", INGEST),
        ("Bearer ", None),
        ("Bearer G-TOKEN", None),
        ("Bearer g-token ", None),
        ("bearer g-token", None),
        ("g-token", None),
        ("Basic g-token", None),
        (b"Bearer g-token", None),
        ("Bearer \ud800", None),
        ("", None),
    ],
)
def test_a_caller_is_who_presents_its_token(credentials: str | bytes, caller: Caller | None) -> None:
    assert CALLERS.identify((("user-agent", "x"), ("authorization", credentials))) == caller


def test_without_metadata_it_is_nobody() -> None:
    assert CALLERS.identify(()) is None


def test_an_empty_token_is_nobodys() -> None:
    callers = Callers([(GATEWAY, "g-token"), (INGEST, "")])

    assert callers.identify((("authorization", "Bearer "),)) is None
    assert callers.identify(()) is None


def test_where_no_token_is_known_everybody_is_let_in_for_any_channel() -> None:
    anybody = Callers([(GATEWAY, "")]).identify(())

    assert anybody is not None
    assert anybody.channel is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "processor"])  # noqa: S104 - that is the question
def test_a_processor_that_the_network_reaches_does_not_start_without_tokens(host: str) -> None:
    with pytest.raises(FatalError, match="ETLPAY_API_GATEWAY_TOKEN_FILE"):
        open_callers(CallerSettings(), host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_processor_that_only_this_machine_reaches_may(host: str) -> None:
    assert not open_callers(CallerSettings(), host=host).asks_for_tokens


@pytest.mark.parametrize("setting", ["api_gateway_token", "grpc_ingest_token", "operator_token"])
def test_one_token_is_enough_for_all_to_be_asked(setting: str) -> None:
    callers = open_callers(CallerSettings.model_validate({setting: "a token"}), host="0.0.0.0")  # noqa: S104 - that is the question

    assert callers.identify(()) is None
    assert callers.identify((("authorization", "Bearer a token"),)) is not None


def test_refusals_are_logged_once_a_minute_with_their_number() -> None:
    moment = 0.0
    callers = Callers([(GATEWAY, "g-token")], clock=lambda: moment)

    with capture_logs() as logs:
        for _ in range(1_000):
            callers.note_refusal("token", peer="ipv4:10.0.0.9:4711")
        moment = 61.0
        callers.note_refusal("token", peer="ipv4:10.0.0.9:4711")

    assert [(line["log_level"], line["calls"]) for line in logs] == [("warning", 1), ("warning", 1_000)]
