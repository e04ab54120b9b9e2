"""Registration of the stream's schema in a registry, outside of any request."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from gnomon_producer.trouble import OncePerMinute
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.registry import register
from gnomon_schemas.schema import Schema

RETRY_SECONDS = 5.0


class Registration:
    """Asks until the registry has answered, then reports the schema's id once.

    Until then captures are framed by fingerprint, which Gnomon's readers also accept: a live service must not wait for
    a registry, nor lose captures because of one. `connect` creates the registry's client, which is closed again after
    the answer, because a connection must not be shared with a forked process.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Any]],
        topic: str,
        schema: Schema,
        *,
        registered: Callable[[RegistryId], None],
        log: OncePerMinute,
    ) -> None:
        self._connect = connect
        self._topic = topic
        self._schema = schema
        self._registered = registered
        self._log = log
        self._stop = threading.Event()
        self.done = threading.Event()

    def start(self) -> None:
        """Ask in a separate thread, because the network may take long to fail."""
        threading.Thread(target=self._run, name="gnomon-registration", daemon=True).start()

    def stop(self) -> None:
        """Stop asking."""
        self._stop.set()

    def _run(self) -> None:
        try:
            with self._connect() as client:
                self._ask(client)
        except GnomonError as error:  # a file of the properties that is gone since
            self._log.note("registry", f"captures are framed by fingerprint: {error}".partition("\n")[0])

    def _ask(self, client: Any) -> None:
        while not self._stop.is_set():
            try:
                self._registered(register(client, self._topic, self._schema))
            except GnomonError as error:
                self._log.note("registry", f"captures are framed by fingerprint: {error}".partition("\n")[0])
            else:
                self.done.set()
                return
            self._stop.wait(RETRY_SECONDS)
