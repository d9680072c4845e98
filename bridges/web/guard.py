"""Who may talk to the web stage: Host and Origin checks, response headers.

A server on loopback is still reachable by every web page its user visits: by a request from another origin, or by a
DNS name that is re-pointed at 127.0.0.1 ("DNS rebinding"). Both carry a Host or Origin that is not ours.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

SECURITY_HEADERS = {
    # 'self' covers ws:// in current browsers; connect-src is completed with the request's own host for older ones.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class HostGuard:
    """Decides by the Host and Origin headers.

    Args:
        host: what the server is bound to.
        allowed: further host names (without port) under which the page may be reached.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        names = {_bracketed(name.strip().lower()) for name in allowed} | LOOPBACK_NAMES
        self._any_address = host in ("", "0.0.0.0", "::")
        if self._any_address:
            own = socket.gethostname().lower()
            names |= {own, f"{own}.local"}
        else:
            names.add(_bracketed(host.lower()))
        self._names = frozenset(names)

    def host_allowed(self, header: str | None, port: int) -> bool:
        """Return whether a Host header names this server."""
        if not header:
            return False
        name, named_port = _split(header.lower())
        # A browser leaves the port out only if it is the scheme's own.
        if named_port != str(port) and not (named_port == "" and port == 80):
            return False
        # Bound to every interface, any literal address may be ours, and a literal cannot be re-pointed.
        return name in self._names or (self._any_address and _is_address(name))

    def origin_allowed(self, header: str | None, port: int) -> bool:
        """Return whether an Origin is this server's own page. None is a program, not a page: allowed."""
        if header is None:
            return True
        scheme, separator, rest = header.lower().partition("://")
        return bool(separator) and scheme == "http" and self.host_allowed(rest, port)


def _split(authority: str) -> tuple[str, str]:
    """Split host[:port]; an IPv6 host keeps its brackets."""
    if authority.startswith("["):
        name, _, port = authority.partition("]")
        return name + "]", port.removeprefix(":")
    name, _, port = authority.partition(":")
    return name, port


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
