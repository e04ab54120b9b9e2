"""A gRPC service with the hook, by the same decorator as for any function.

    python examples/grpc/server.py [PORT]

It uses `google.protobuf.Struct`, so that this one file is complete.
"""

import math
import signal
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from gnomon_producer import Tap

FEATURES = {"amount": "double", "country": ["null", "string"]}

tap = Tap.from_env(features=FEATURES)


def request_id(_request: Struct, context: grpc.ServicerContext) -> str:
    """Return the caller's id from the metadata, or a new one."""
    return str(dict(context.invocation_metadata()).get("x-request-id") or uuid.uuid4())


def features(request: Struct, _context: grpc.ServicerContext) -> dict[str, Any]:
    """Return the input of the model."""
    return {"country": None, **MessageToDict(request)}


@tap.observe(request_id=request_id, features=features, predicted=lambda answer: answer["probability"])
def predict(request: Struct, context: grpc.ServicerContext) -> Struct:
    """Answer with the live model; the hook captures the call."""
    answer = Struct()
    answer.update({"probability": 1 / (1 + math.exp(3 - features(request, context)["amount"] / 40))})
    return answer


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    handler = grpc.unary_unary_rpc_method_handler(
        predict, request_deserializer=Struct.FromString, response_serializer=Struct.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("payments.Fraud", {"Predict": handler}),))
    port = server.add_insecure_port(f"127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 50051}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    print(f"serving on {port}", flush=True)
    stop.wait()
    server.stop(grace=5).wait()


if __name__ == "__main__":
    main()
