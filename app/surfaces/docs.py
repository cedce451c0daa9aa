"""The API documentation page, which loads nothing from other hosts.

Users type keys into this page, so it only runs the release of Swagger UI in ``app/surfaces/swagger``: the
browser compares each file with the hash on the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from fastapi import FastAPI

SWAGGER_UI: Final = Path(__file__).parent / "swagger"
SWAGGER_UI_VERSION: Final = "5.35.0"
INTEGRITY: Final = {
    "swagger-ui-bundle.js": "sha384-gjRm0bEPMeTmMh5jT2cHccIwCUZSTd8YC+j0d0sXw0MdGEfScduGpSyF3ZSSLkX9",
    "swagger-ui.css": "sha384-WlYgdmXYOOBWL5apwjDEZwN+U3HmXSSu5R6V5aGxEcf7z+KuRNwBhoxKVN1i3D5I",
}
"""Subresource Integrity hashes of the files in the npm package ``swagger-ui-dist``."""

_PAGE: Final = f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>flashgate</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css" integrity="{INTEGRITY["swagger-ui.css"]}">
<div id="page"></div>
<script src="docs/assets/swagger-ui-bundle.js" integrity="{INTEGRITY["swagger-ui-bundle.js"]}"></script>
<script src="docs/start.js"></script>
</html>
"""
_START: Final = """\
SwaggerUIBundle({
  dom_id: "#page",
  url: "openapi.json",
  deepLinking: true,
  filter: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def install(app: FastAPI) -> None:
    """Serve ``/docs``. Its URLs are relative, so that it also works behind a path prefix."""

    async def serve_page() -> Response:
        return Response(_PAGE, media_type="text/html", headers=_HEADERS)

    async def serve_script() -> Response:
        return Response(_START, media_type="text/javascript", headers=_HEADERS)

    app.add_api_route("/docs", serve_page, include_in_schema=False)
    app.add_api_route("/docs/start.js", serve_script, include_in_schema=False)
    app.mount("/docs/assets", StaticFiles(directory=SWAGGER_UI))
