"""Check a built site: every link in it leads somewhere, and no page loads anything from the network.

    python docs/check_site.py site

Other sites are not asked. Problems are printed, one a line, and make the exit code 1.
"""

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
"""Tag -> its attribute that a browser loads by itself."""
FOR_SERVERS = ("canonical", "alternate")
"""Relations of a link that no browser loads."""


class Page(HTMLParser):
    """A page of the site.

    Attributes:
        anchors: What a link to a place in the page can name.
        links: Addresses that the page links to.
        loaded: Addresses that a browser loads with the page.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the anchors and the addresses of a tag."""
        values = {name: value for name, value in attrs if value}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag in LOADED and LOADED[tag] in values and values.get("rel") not in FOR_SERVERS:
            self.loaded.add(values[LOADED[tag]])


read = cache(Page)


def problems(site: Path) -> Iterator[str]:
    """Yield what is wrong with each page of a site."""
    for path in sorted(site.rglob("*.html")):
        page, name = read(path), path.relative_to(site)
        yield from (f"{name} loads {address}" for address in sorted(page.loaded) if urlsplit(address).netloc)
        if path.name != "404.html":  # whose links start at the root of a server
            broken = (address for address in sorted(page.links | page.loaded) if not leads_somewhere(address, path))
            yield from (f"{name} has a broken link: {address}" for address in broken)


def leads_somewhere(address: str, page: Path) -> bool:
    """Return whether an address on a page is that of another site, or of a file and a place that exist."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return True
    target = page.parent / unquote(parts.path) if parts.path else page
    is_page = target.suffix == ".html"
    return target.is_file() and (not is_page or unquote(parts.fragment) in read(target.resolve()).anchors)


if __name__ == "__main__":
    found = list(problems(Path(sys.argv[1]).resolve()))
    sys.stdout.write("".join(f"{problem}\n" for problem in found) or "Every link in the site leads somewhere.\n")
    sys.exit(bool(found))
