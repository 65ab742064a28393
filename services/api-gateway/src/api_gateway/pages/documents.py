"""The pages at /docs. They load nothing from another host."""

import html
from importlib import resources
from typing import Final

from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from api_gateway.http.problems import NOT_FOUND, PAGE, PROBLEM_TYPES, HttpProblem

_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}code{color:#555}"
)


def problem_routes() -> list[Route]:
    """Return the route of the page that explains the problem types; each problem links to it."""
    problems = HTMLResponse(_problems_page())

    async def explain(_: Request) -> Response:
        return problems

    return [Route(PAGE, explain)]


def document_routes(title: str) -> list[Route]:
    """Return the routes of the API's page and of the files that it loads."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=title,
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/docs/assets/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )

    async def docs(_: Request) -> Response:
        return page

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HttpProblem(NOT_FOUND, "There is no such file.")
        content = resources.files("fastapi_swagger.resources").joinpath(name).read_bytes()
        return Response(content, media_type=_ASSETS[name], headers={"cache-control": "max-age=86400"})

    return [Route("/docs", docs), Route("/docs/assets/{name}", asset)]


def _problems_page() -> str:
    sections = "".join(
        f'<h2 id="{each.name}">{html.escape(each.title)}</h2><p><code>{each.status} {each.name}</code></p>'
        f"<p>{html.escape(each.meaning)}</p>"
        for each in PROBLEM_TYPES
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>EtlPay: problems</title>'
        f"<style>{_STYLE}</style></head><body><h1>Problems</h1>"
        "<p>Every answer that is not a success is a problem document (RFC 9457) whose <code>type</code> leads here.</p>"
        f"{sections}</body></html>"
    )
