"""The page's files, held in memory: nothing below the folder but what lies in it can be asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

from engine.errors import UserError

# Written out: what `mimetypes` says depends on the machine, and browsers refuse a module of the wrong type.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".glb": "model/gltf-binary",
}


class StaticFile:
    """One file, read once."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._type = _TYPES.get(path.suffix, "application/octet-stream")
        self._etag = hashlib.sha256(self._body).hexdigest()[:16]

    async def respond(self, request: web.Request) -> web.Response:
        """Answer a GET; 304 if the browser has this very file."""
        headers = {"Cache-Control": "no-cache", "ETag": f'"{self._etag}"', "Content-Type": self._type}
        if any(tag.value == self._etag for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=self._body, headers=headers)


def load_static_files(folder: Path) -> dict[str, StaticFile]:
    """Return the files of a folder by URL path, its index.html also as "/".

    Raises:
        UserError: the folder or its index.html is missing.
    """
    try:
        files = {f"/{path.name}": StaticFile(path) for path in sorted(folder.iterdir()) if path.is_file()}
        files["/"] = files["/index.html"]
    except (OSError, KeyError) as error:
        remedy = "reinstall, or go without: --web off"
        raise UserError(f"the web stage's files are missing in {folder}", remedy) from error
    return files
