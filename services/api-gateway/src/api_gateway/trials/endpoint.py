"""`POST /api/pipelines/try`: a pipeline file and one event in, its rows or problems out. A plain ASGI endpoint.

Nothing is stored. Any key that may read may try, whatever its sources: what is tried comes with the request alone.
"""

from typing import Final

from starlette.types import Receive, Scope, Send

from api_gateway.http.headers import body_format
from api_gateway.http.problems import INVALID, MALFORMED, UNSOUND, HttpProblem, error_response, problem_response
from api_gateway.http.request import BodyLimits, ClientGoneError, RequestStream, admitted
from api_gateway.schemas import HttpResponse
from api_gateway.settings import GatewaySettings
from api_gateway.trials.answers import Refused, TrialAnswer, Tried, Unsound, read_answer
from api_gateway.trials.process import Trials, TrialTooLargeError
from shared.auth.scopes import RightMissingError
from shared.contracts.errors import Problem, RetryableError
from shared.runtime.limits import CapacityLimit
from shared.runtime.timeouts import Timeouts

_BODY_BYTES_MAX: Final = 1024 * 1024


class TryPipeline:
    """Answers 200 with what the event would become, or 422 where the file or the event cannot be tried."""

    def __init__(self, trials: Trials, settings: GatewaySettings) -> None:
        """Nothing starts here."""
        self._trials = trials
        self._limits = BodyLimits(_BODY_BYTES_MAX, settings.http_body_seconds_max, settings.http_body_seconds_max)
        self._timeouts = Timeouts()
        self._bodies = CapacityLimit(settings.bodies_bytes_max, share=settings.caller_share_max)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. The trial ends when the client goes."""
        headers, caller, counted_as = admitted(scope)
        request = RequestStream(headers, receive, send, limits=self._limits, timeouts=self._timeouts)
        taken = 0
        try:
            caller.check_right("read")
            body_format(headers, lines=False)
            document, taken = await request.body(self._bodies, counted_as)
            answer = await request.while_connected(self._trials.run(document))
            await request.respond(_response(read_answer(answer)))
        except ClientGoneError:
            return
        except TrialTooLargeError as error:
            problem = Problem("", "takes more time or memory than a trial may have")
            await request.respond(problem_response(INVALID, f"Nothing was tried: {error}.", errors=(problem,)))
        except (HttpProblem, RetryableError, RightMissingError) as error:
            await request.respond(error_response(error))
        except Exception:
            await request.fail()
            raise
        finally:
            if taken:
                self._bodies.release(counted_as, taken)


def _response(answer: TrialAnswer) -> HttpResponse:
    match answer:
        case Tried():
            return HttpResponse(200, bytes(answer.result))
        case Unsound():
            return problem_response(UNSOUND, "Correct the files; `lint` says where.", lint=answer.problems)
        case Refused(malformed=True):
            return problem_response(MALFORMED, "The body must be one JSON document in UTF-8.", errors=answer.problems)
        case _:
            return problem_response(INVALID, "The request cannot be tried.", errors=answer.problems)
