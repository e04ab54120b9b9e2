"""The verdict by HTTP, for rollout controllers: Argo Rollouts' web provider, Flagger's webhooks."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from gnomon_consumer.runtime.http import Answering, HttpServer
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError

FRESH_SECONDS = 30.0
"""Seconds for which an answer is reused: evidence changes only at seals, and many pollers ask at once."""
NEXT_SECONDS = 5.0
LONGEST_BODY = 1_000_000
CLIENT_SECONDS = 30.0
"""A client that sends nothing for this many seconds is disconnected."""

Decide = Callable[[str | None], dict[str, Any]]


class FreshVerdicts:
    """A short-lived cache of verdicts; one query at a time goes to the database."""

    def __init__(self, decide: Decide, clock: Callable[[], float] = time.monotonic) -> None:
        self._decide = decide
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str | None, tuple[float, dict[str, Any]]] = {}

    def verdict_of(self, deployment: str | None) -> dict[str, Any]:
        """Return the verdict of a deployment. Raise GnomonError if there is none."""
        with self._lock:
            made, answer = self._known.get(deployment, (float("-inf"), {}))
            if self._clock() - made < FRESH_SECONDS:
                return answer
            answer = self._decide(deployment)
            self._known[deployment] = (self._clock(), answer)
            return answer


class VerdictHandler(Answering):
    """Answers one request from `answers`, which a subclass sets: http.server creates the handlers itself."""

    answers: FreshVerdicts
    timeout = CLIENT_SECONDS

    def do_GET(self) -> None:
        """Answer a request."""
        target = self._target()
        if target.path == "/healthz":
            self.answer(200, b"ok\n")
        elif target.path == "/verdict":
            self._answer_verdict(parse_qs(target.query, keep_blank_values=True))
        else:
            self.answer(404, b"GET /verdict?deployment=NAME, POST /flagger, GET /healthz\n")

    def _target(self) -> SplitResult:
        """Return the parts of the request's target; a target that is no URL has an empty path."""
        try:
            return urlsplit(self.path)
        except ValueError:
            return urlsplit("")

    def _answer_verdict(self, parameters: dict[str, list[str]]) -> None:
        """Answer /verdict; a misspelt parameter must not get the answer of another deployment."""
        names = parameters.pop("deployment", [None])
        if parameters or len(names) > 1 or names[0] == "":
            self.answer(400, b"/verdict takes one parameter: deployment=NAME\n")
        else:
            self._verdict(names[0], flagger=False)

    def do_POST(self) -> None:
        """Answer one of Flagger's webhooks; `metadata.deployment` names the deployment."""
        if self._target().path != "/flagger":
            self.answer(404, b"POST /flagger\n")
            return
        try:
            deployment = self._named()
        except (ValueError, TypeError, AttributeError, RecursionError):
            self.answer(400, b"the body is not Flagger's JSON\n")
            return
        self._verdict(deployment, flagger=True)

    def _named(self) -> str | None:
        """Return the deployment that the body names. Raise GnomonError for an invalid body."""
        if "Transfer-Encoding" in self.headers:
            raise ValueError("a body without a length")
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= LONGEST_BODY:
            raise ValueError(f"a body of {length} bytes")
        deployment = (json.loads(self.rfile.read(length) or b"{}").get("metadata") or {}).get("deployment")
        if not isinstance(deployment, str | None):
            raise TypeError("metadata.deployment is not a name")
        (deployment or "").encode()  # half a surrogate pair is a ValueError
        return deployment

    def _verdict(self, deployment: str | None, *, flagger: bool) -> None:
        try:
            answer = self.answers.verdict_of(deployment)
        except DependencyUnreachableError as error:
            self.answer(503, f"{error}\n".encode())
        except ConfigurationError as error:
            self.answer(404, f"{error}\n".encode())
        except GnomonError as error:
            self.answer(500, f"{error}\n".encode())
        else:
            if flagger:
                status = 200 if answer["decision"] == "PROMOTE" else 409
                text = f"{answer['decision']} (verdict {answer['verdict_id']}): {answer['sentence']}\n"
                self.answer(status, text.encode(), "text/plain; charset=utf-8")
            else:
                self.answer(200, json.dumps(answer, default=str).encode(), "application/json")


class HttpGate(HttpServer):
    """`GET /verdict?deployment=NAME` answers JSON; `POST /flagger` answers 200 only for PROMOTE.

    /verdict answers 200 for every decision; its reader distinguishes them. Without a decision the answer is never 2xx:
    404 names the existing deployments, 503 reports that the database does not answer.
    """

    def __init__(self, address: str, verdicts: FreshVerdicts) -> None:
        class Handler(VerdictHandler):
            answers = verdicts

        super().__init__("--serve", address, Handler)


def serve(
    address: str, decide: Decide, stop: threading.Event, send: Callable[[], object], said: Callable[[int], object]
) -> None:
    """Answer until `stop` is set; in between, send the events of the outbox."""
    with closing(HttpGate(address, FreshVerdicts(decide))) as gate:
        said(gate.port)
        while not stop.wait(NEXT_SECONDS):
            send()
