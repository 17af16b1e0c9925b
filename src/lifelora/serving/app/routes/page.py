"""GET / and /page/NAME: the page, which asks the other endpoints. Its files stand in `serving/page`. Knows no service."""

from importlib import resources

from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.routes.common import Response
from lifelora.serving.app.web import fastapi

router = fastapi.APIRouter(include_in_schema=False)
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
ONLY_OURS = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
WITH_STYLES = ONLY_OURS.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""For the page around a report, which brings its styles along, in a frame where no script runs."""
FOLDER = resources.files("lifelora.serving") / "page"
FILES = {file.name: file.read_bytes() for file in FOLDER.iterdir() if file.name.rpartition(".")[2] in KINDS}


@router.get("/")
async def first() -> Response:
    """The page."""
    return _sent("index.html")


@router.get("/page/{name}")
async def file(name: str) -> Response:
    """What belongs to it."""
    if name not in FILES:
        raise Refusal(404, "no-such-address", "the page has no such file.")
    return _sent(name)


def _sent(name: str) -> Response:
    headers = {
        "Content-Security-Policy": WITH_STYLES if name == "report.html" else ONLY_OURS,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return Response(FILES[name], headers=headers, media_type=f"{KINDS[name.rpartition('.')[2]]}; charset=utf-8")
