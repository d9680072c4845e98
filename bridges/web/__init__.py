"""The web stage: the dancer in a browser, and the operator's controls."""

from bridges.web.server import WebBridge

__all__ = ["WebBridge"]
