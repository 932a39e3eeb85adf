"""What a developer sees when the application raised: the traceback and where the request's time went.

Only with `debug` on; everybody else gets the short answer of core.handler.error_response. Nothing of the request's
header values or of local variables is shown: a page like this ends up in screenshots.
"""

from __future__ import annotations

import traceback
from html import escape

from fairlead.core.message import Response

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b2733 }}
pre {{ background: #f4f6f8; padding: 1rem; overflow: auto; font-size: 13px }}
td {{ padding: .1rem 1rem .1rem 0 }} td.n {{ text-align: right; font-variant-numeric: tabular-nums }}
@media (prefers-color-scheme: dark) {{ body {{ background: #12181f; color: #d8e0e8 }} pre {{ background: #1b242e }} }}
</style>
<h1>{title}</h1>
<p>{what}</p>
<pre>{trace}</pre>
<h2>Where the time went</h2>
<table>{rows}</table>
<p>You see this because debug is on.</p>
</html>
"""


def debug_page(exchange, error):
    """(Response 500, body) for an application's exception: HTML for a browser, plain text for everything else."""
    trace = "".join(traceback.format_exception(error))
    steps = [(name, took / 1000) for name, took, _ in exchange.journey.steps()]
    request = exchange.request
    title = f"{type(error).__name__}: {error}"
    hint = getattr(error, "hint", "")
    what = f"{request.method} {request.path}" + (f" - {hint}" if hint else "")
    if b"text/html" in (request.get(b"accept") or b""):
        rows = "".join(f'<tr><td>{escape(name)}<td class="n">{took:.1f} us' for name, took in steps)
        text = PAGE.format(title=escape(title[:300]), what=escape(what), trace=escape(trace), rows=rows)
        kind = b"text/html; charset=utf-8"
    else:
        rows = "".join(f"{name:>10} {took:10.1f} us\n" for name, took in steps)
        text = f"500 {title}\n{what}\n\n{trace}\n{rows}"
        kind = b"text/plain; charset=utf-8"
    body = text.encode("utf-8", "replace")
    return Response(500, [(b"content-type", kind), (b"content-length", b"%d" % len(body))], len(body)), body
