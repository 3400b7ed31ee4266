"""Options of the prediction server. Imports nothing slow: the command line reads this module first."""

from dataclasses import dataclass, field

from ratinglab.commands.command_options import RunOptions
from ratinglab.errors import UserError, require
from ratinglab.options import above, at_least, within


@dataclass
class ServeOptions(RunOptions):
    """Options of the prediction server."""

    host: str
    """Address to listen on. With 127.0.0.1, the server answers only this computer. With 0.0.0.0, it answers every
    computer that can reach it, and it asks for no password."""
    port: int = field(metadata=within(0, 65535))
    """Port to listen on. 0 takes any free port."""
    names: list[str]
    """Names by which the server may be addressed, besides localhost and IP addresses, such as [ratings.example.org].
    Requests to other names are refused, because a web page could otherwise point its own name at this server and read
    its answers."""
    reload_seconds: float | None = field(metadata=above(0))
    """Seconds between checks for whether `run` names another run or its files have changed. If so, the server loads
    that run while the current one answers. If it cannot be loaded, the current one stays. With null, it never checks.
    The signal SIGUSR1 reloads the run at once."""
    threads: int = field(metadata=at_least(1))
    """Number of requests computed at the same time. Further requests wait."""
    max_body_bytes: int = field(metadata=at_least(1))
    """Largest body of a request, in bytes."""
    max_pairs: int = field(metadata=at_least(1))
    """Largest number of pairs, items or candidates in one request."""
    max_ratings: int = field(metadata=at_least(1))
    """Largest number of a new user's ratings in one request."""
    max_k: int = field(metadata=at_least(1))
    """Largest number of recommended or similar items in one answer."""

    def check_together(self) -> None:
        """Raise UserError if a package is missing, or if the host is blank, which would mean all addresses."""
        if not self.host.strip():
            raise UserError("host must not be blank")
        require("fastapi", "uvicorn", extra="serve", needed_by="serve")
