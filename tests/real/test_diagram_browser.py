"""The overview diagram in a real Chromium: every text is inside its box, in whatever fonts there are, and dark is dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browser import Browser

from fairlead.run.diagram import demo, svg
from fairlead.run.drawing.reading import read
from fairlead.run.load import examine

FULL = Path(__file__).parent.parent.parent / "examples" / "full.toml"
OUTSIDE = """[...document.querySelectorAll('g > text:not(.lab)')].filter(text => {
  const words = text.getBBox(), box = text.parentNode.querySelector('rect').getBBox();
  return words.x < box.x || words.x + words.width > box.x + box.width
      || words.y < box.y || words.y + words.height > box.y + box.height;
}).map(text => text.textContent)"""


def test_every_text_is_inside_its_box(real: Any, tmp_path: Path) -> None:
    full, _ = examine(str(FULL))
    assert full is not None
    with Browser(dark=True) as browser:
        for name, config in (("demo", demo()), ("full", full)):
            file = tmp_path / f"{name}.svg"
            file.write_text(svg(read(config)), encoding="utf-8")
            browser.goto(file.as_uri())
            assert browser.run("document.querySelectorAll('text').length") > 50
            assert browser.run(OUTSIDE) == []
        assert browser.run("getComputedStyle(document.querySelector('.ground')).fill") == "rgb(17, 22, 28)"
        assert browser.errors == []
