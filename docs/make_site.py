"""Builds the site into build/site: documents, notebooks with their stored outputs, the package's reference, results.

    python docs/make_site.py
    python docs/make_site.py --output FOLDER

It needs the extra `site` and no network, neither to build nor to read: open index.html. Any warning is an error, and so are a link or
an anchor that leads nowhere, a picture without words, and anything that a page would fetch from elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
FETCHED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page links to, what it fetches, its anchors, and its pictures without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.wordless: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in FETCHED and FETCHED[tag] in found and found.get("rel") != "canonical":
            self.fetched.append(found[FETCHED[tag]])
        if tag == "img" and not found.get("alt", "").strip():
            self.wordless.append(found.get("src", "")[:80])


def faults(site: Path) -> list[str]:
    """What a reader of the site would stumble over, a line each; paths are relative to `site`."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        found += [f"{name}: a picture without words: {source}" for source in page.wordless]
        found += [f"{name}: fetched from elsewhere: {address}" for address in page.fetched if "//" in address]
        for link in [*page.links, *page.fetched]:
            if not leads_somewhere(link, path, pages):
                found.append(f"{name}: leads nowhere: {link}")
    return found


def leads_somewhere(link: str, page: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the site has a file, and its anchor an element; other links are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    anchor = unquote(parts.fragment)
    return target.is_file() and (not anchor or target not in pages or anchor in pages[target].anchors)


def main(arguments: list[str] | None = None) -> int:
    """The command line: exit status 0 or 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "site")
    output = parser.parse_args(arguments).output
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        print('error: Sphinx is missing: pip install -c constraints.txt -e ".[site]"', file=sys.stderr)
        return 1
    kept = output.parent / f"{output.name}.doctrees"
    options = ["-q", "-a", "-W", "--keep-going", "-j", "auto", "-c", str(ROOT / "docs" / "site"), "-d", str(kept)]
    if build_main([*options, str(ROOT), str(output)]):
        return 1
    wrong = faults(output)
    print("\n".join(wrong) if wrong else f"The site is in {output}: open index.html")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
