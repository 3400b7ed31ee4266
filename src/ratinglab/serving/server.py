"""Server process: socket, start and shutdown."""

import errno
import logging
import os
import socket

import uvicorn
import uvicorn.server

from ratinglab.errors import UserError
from ratinglab.process.interrupts import signals_to_handle
from ratinglab.serving.app import build_app
from ratinglab.serving.reloading import CurrentRun
from ratinglab.serving.serve_options import ServeOptions

SECONDS_TO_FINISH = 30
"""Grace period in seconds for requests in progress after a signal to stop."""
BACKLOG = 512
"""Maximum number of connections that wait to be accepted, for example while the run loads."""


def serve(options: ServeOptions) -> None:
    """Serve a run until a signal stops the process, then finish the requests in progress.

    Raises:
        UserError: there is no such run, or the address or the port cannot be used.
        StoppedError: a signal stopped the server.
    """
    with listen(options.host, options.port) as listener:  # before the run loads, to report a used port at once
        current = CurrentRun(options)
        app = build_app(current, options)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        logging.getLogger("ratinglab.serving").setLevel(logging.INFO)
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            backlog=BACKLOG,
            timeout_graceful_shutdown=SECONDS_TO_FINISH,
        )
        config.load()  # imports its protocols now, so the server is ready when the line below appears
        for note in current.notes:
            print(note)
        print(f"serving {current.service.run.folder} at {_url(options.host, listener)} (Ctrl-C to stop)", flush=True)
        # uvicorn does not handle SIGHUP by default. It raises the signal again at the end, and ours raises StoppedError
        uvicorn.server.HANDLED_SIGNALS = tuple({*uvicorn.server.HANDLED_SIGNALS, *signals_to_handle()})
        uvicorn.Server(config).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens on an address. The port of a killed server can be reused at once.

    Raises:
        UserError: the host is unknown or not on this computer, or the port is in use or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"host: {host!r} is not a known name or address") from error
    # not socket.create_server: asyncio disables send delays only on sockets with an explicit protocol
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # on Windows, this option would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port: {port} of {host} is in use; port=0 takes a free one") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UserError(f"host: {host} is not an address of this computer") from error
        raise UserError(f"port: cannot listen on {port} of {host}: {error.strerror}") from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    """Return the URL for a browser on this computer."""
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"
