"""HOST:PORT as users write it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from engine.errors import UserError

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
_EXAMPLES = "write it as HOST:PORT, e.g. 127.0.0.1:9000 or [::1]:9000"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host (name or address, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str, default: Endpoint) -> Endpoint:
    """Read where to send or listen.

    Args:
        text: "host:port", "host", "port", ":port", "[::1]:port", "[::1]" or "::1".
        default: what is taken for the part that is not there.

    Raises:
        UserError: it is none of these, or the port is not 1 to 65535.
    """
    text = text.strip()
    if text.isdecimal():
        return Endpoint(default.host, _port(text, text))
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not _is_ipv6(host) or (rest and not rest.startswith(":")):
            raise UserError(f"cannot read target '{text}'", _EXAMPLES)
        return Endpoint(host, _port(rest[1:], text) if rest else default.port)
    if _is_ipv6(text):
        return Endpoint(text, default.port)
    host, colon, port = text.partition(":")
    if not text or (host and not _HOST.fullmatch(host)):
        raise UserError(f"cannot read target '{text}'", _EXAMPLES)
    return Endpoint(host or default.host, _port(port, text) if colon else default.port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _port(text: str, target: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 5 or not 1 <= int(text) <= 65535:
        raise UserError(f"no such port in target '{target}'", "a port is a number from 1 to 65535")
    return int(text)
