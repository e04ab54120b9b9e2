"""The verdict for machines: HTTP answers, the manifests in deploy/, and signed events from the outbox."""

import hashlib
import hmac
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.report_database import Database
from tests.support.servers.process import Gnomon
from tests.support.verdict_database import made

from gnomon_consumer.verdict import events
from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.http_gate import FreshVerdicts, HttpGate
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.service import decide_now
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError

ROLLOUTS = Path(__file__).parents[3] / "deploy" / "rollouts"


def fetch(url: str, body: bytes | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def decide(deployment: str | None) -> dict[str, Any]:
    if deployment == "gone":
        raise DependencyUnreachableError("no PostgreSQL at x")
    if deployment not in ("PROMOTE", "HOLD", "REJECT", "INSUFFICIENT_DATA"):
        raise ConfigurationError(f"stream s has no deployment {deployment}; there are new")
    return {"decision": deployment, "verdict_id": 7, "sentence": "Because."}


@pytest.fixture
def gate() -> Iterator[str]:
    with closing(HttpGate("127.0.0.1:0", FreshVerdicts(decide))) as made_gate:
        yield f"http://127.0.0.1:{made_gate.port}"


def test_it_listens_on_ipv6_alone() -> None:
    with closing(HttpGate("[::1]:0", FreshVerdicts(decide))) as made_gate:
        assert fetch(f"http://[::1]:{made_gate.port}/healthz") == (200, "ok\n")


@pytest.mark.parametrize("decision", ["PROMOTE", "HOLD", "REJECT", "INSUFFICIENT_DATA"])
def test_argo_tells_the_decisions_apart(gate: str, decision: str) -> None:
    template = yaml.safe_load((ROLLOUTS / "argo-analysis.yaml").read_text(encoding="utf-8"))
    metric = template["spec"]["metrics"][0]
    web = metric["provider"]["web"]
    url = web["url"].replace("http://gnomon-verdict:8080", gate).replace("{{args.deployment}}", decision)
    status, text = fetch(url)
    assert (template["apiVersion"], template["kind"], status) == ("argoproj.io/v1alpha1", "AnalysisTemplate", 200)
    assert web["jsonPath"] == "{$.decision}"
    said = {}
    for condition in ("successCondition", "failureCondition"):
        python = metric[condition].replace("||", "or")
        said[condition] = eval(python, {"result": json.loads(text)["decision"]})
    assert said["successCondition"] is (decision == "PROMOTE")
    assert said["failureCondition"] is (decision == "REJECT")
    assert metric["inconclusiveLimit"] == 0


@pytest.mark.parametrize("decision", ["PROMOTE", "HOLD", "REJECT", "INSUFFICIENT_DATA", "mew", "gone"])
def test_flagger_is_told_yes_for_promote_alone(gate: str, decision: str) -> None:
    canary = yaml.safe_load((ROLLOUTS / "flagger-canary.yaml").read_text(encoding="utf-8"))
    hook = canary["spec"]["analysis"]["webhooks"][0]
    assert (canary["apiVersion"], hook["type"]) == ("flagger.app/v1beta1", "confirm-promotion")
    payload = {"name": "delay-model", "namespace": "x", "phase": "Progressing", "metadata": {"deployment": decision}}
    assert set(hook["metadata"]) == set(payload["metadata"])
    status, text = fetch(hook["url"].replace("http://gnomon-verdict:8080", gate), json.dumps(payload).encode())
    assert status == {"PROMOTE": 200, "mew": 404, "gone": 503}.get(decision, 409)
    if decision in ("PROMOTE", "HOLD"):
        assert text == f"{decision} (verdict 7): Because.\n"


def test_what_cannot_be_decided_is_never_a_success(gate: str) -> None:
    assert fetch(f"{gate}/verdict?deployment=mew") == (404, "stream s has no deployment mew; there are new\n")
    assert fetch(f"{gate}/verdict?deployment=gone")[0] == 503
    assert fetch(f"{gate}/else")[0] == 404
    assert fetch(f"{gate}/flagger", b"[]")[0] == 400
    assert fetch(f"{gate}/flagger", b"{")[0] == 400
    assert fetch(f"{gate}/flagger", b'{"metadata": {"deployment": ["PROMOTE"]}}')[0] == 400
    assert fetch(f"{gate}/flagger", b'{"metadata": [1]}')[0] == 400
    assert fetch(f"{gate}/flagger", b'{"metadata": {"deployment": "\\ud800"}}')[0] == 400
    assert fetch(f"{gate}/flagger", b"[" * 100_000)[0] == 400
    assert fetch(f"{gate}/healthz") == (200, "ok\n")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_target_that_is_no_url_is_not_found(gate: str, method: str) -> None:
    with closing(HTTPConnection(gate.removeprefix("http://"), timeout=10)) as connection:
        connection.putrequest(method, "http://[x", skip_host=True)
        connection.endheaders()
        assert connection.getresponse().status == 404


@pytest.mark.parametrize("length", ["-1", "99999999999", "many"])
def test_a_length_that_makes_no_sense_is_answered_at_once(gate: str, length: str) -> None:
    with closing(HTTPConnection(gate.removeprefix("http://"), timeout=10)) as connection:
        connection.putrequest("POST", "/flagger")
        connection.putheader("Content-Length", length)
        connection.endheaders()
        assert connection.getresponse().status == 400


@pytest.mark.parametrize(
    "query", ["deploymnt=PROMOTE", "deployment=", "deployment=HOLD&deployment=PROMOTE", "stream=s"]
)
def test_a_misspelt_question_is_never_a_success(gate: str, query: str) -> None:
    assert fetch(f"{gate}/verdict?{query}") == (400, "/verdict takes one parameter: deployment=NAME\n")


def test_a_body_without_a_length_is_refused(gate: str) -> None:
    with closing(HTTPConnection(gate.removeprefix("http://"), timeout=10)) as connection:
        body = json.dumps({"metadata": {"deployment": "PROMOTE"}}).encode()
        connection.request("POST", "/flagger", iter([body]), encode_chunked=True)
        assert connection.getresponse().status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/flagger", 400), ("POST", "/other", 404), ("PUT", "/flagger", 501), ("GET", "/healthz", 200)],
)
def test_an_answer_arrives_although_a_long_body_is_on_its_way(gate: str, method: str, path: str, status: int) -> None:
    with closing(HTTPConnection(gate.removeprefix("http://"), timeout=10)) as connection:
        connection.request(method, path, iter([b"x" * 1000] * 3000), {"Content-Length": "3000000"})
        assert connection.getresponse().status == status


def test_clients_that_go_away_or_ask_by_head_disturb_nobody(gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    host, _, port = gate.removeprefix("http://").partition(":")
    for sent in (
        b"GET /verdict?deployment=PROMOTE HTTP/1.0\r\n\r\n",
        b"GET",
        b"\x16\x03\x01",
        b"POST /flagger HTTP/1.0\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=60) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(sent)
    with closing(HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.request("HEAD", "/verdict?deployment=PROMOTE")
        assert connection.getresponse().status == 501
    with ThreadPoolExecutor(30) as crowd:
        answers = set(crowd.map(lambda _: fetch(f"{gate}/verdict?deployment=HOLD")[0], range(90)))
    assert answers == {200}
    assert capsys.readouterr().err == "", "socketserver writes a traceback there"


def test_pollers_share_an_answer_for_a_while() -> None:
    asked: list[str | None] = []
    now = [0.0]

    def count(deployment: str | None) -> dict[str, Any]:
        asked.append(deployment)
        return {"decision": "HOLD"}

    answers = FreshVerdicts(count, lambda: now[0])
    answers.verdict_of("a")
    answers.verdict_of("a")
    assert asked == ["a"]
    now[0] = 31.0
    answers.verdict_of("a")
    assert asked == ["a", "a"]


def test_the_served_verdict(db: Database, gnomon: Gnomon, database_url: str) -> None:
    made(db, 14)
    served = gnomon.start("verdict", "--database-url", database_url, "--stream", "s", "--serve", "127.0.0.1:0")
    port = served.wait_for(r"port=\d+").partition("port=")[2].split()[0]
    status, text = fetch(f"http://127.0.0.1:{port}/verdict?deployment=new")
    assert (status, json.loads(text)["decision"]) == (200, "PROMOTE")
    assert fetch(f"http://127.0.0.1:{port}/verdict?deployment=mew")[0] == 404


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]], list[int]]]:
    """Return a webhook: its address, the received requests, and the statuses that it answers next (200 when empty)."""
    got: list[tuple[dict[str, str], bytes]] = []
    statuses: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            got.append((dict(self.headers), b""))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got, statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_events_arrive_signed_and_at_least_once(db: Database, receiver: Any) -> None:
    url, got, statuses = receiver
    made(db, 14)
    decide_now(db.connection, deployment_row(db.connection, "s", "new"), Plan(), given=False)
    statuses.append(500)
    assert events.deliver(db.connection, url, "s3cret") == (0, "the receiver answered 500")
    assert events.deliver(db.connection, url, "s3cret") == (1, None)
    assert events.deliver(db.connection, url, "s3cret") == (0, None)
    (first_headers, first), (headers, body) = got
    event = json.loads(body)
    assert body == first
    assert headers["X-Gnomon-Signature"] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    assert first_headers["Content-Type"] == "application/cloudevents+json"
    assert (event["specversion"], event["type"]) == ("1.0", "gnomon.verdict.changed.v1")
    assert (event["source"], event["subject"]) == ("/gnomon/s", "new")
    assert (event["data"]["before"], event["data"]["decision"]) == (None, "PROMOTE")
    assert db.value("select attempts from gnomon.events") == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_delivers_nothing(db: Database, receiver: Any, status: int) -> None:
    url, got, statuses = receiver
    made(db, 14)
    decide_now(db.connection, deployment_row(db.connection, "s", "new"), Plan(), given=False)
    statuses.append(status)
    assert events.deliver(db.connection, url, "s3cret") == (0, f"the receiver answered {status}")
    assert len(got) == 1
    assert events.deliver(db.connection, url, "s3cret") == (1, None)
    assert got[0][1] == got[1][1]


def test_a_receiver_that_is_away_loses_nothing(db: Database) -> None:
    made(db, 14)
    decide_now(db.connection, deployment_row(db.connection, "s", "new"), Plan(), given=False)
    sent, problem = events.deliver(db.connection, "http://127.0.0.1:1/hook", None)
    assert sent == 0
    assert "refused" in str(problem).lower()
    assert db.value("select count(*) from gnomon.events where delivered_at is null") == 1
