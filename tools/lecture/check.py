"""Looks at every slide with a real browser: what overflows, is too small, asks the network, or tells too early."""

import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

SIZE = {"width": 1280, "height": 720}
TEXT, CODE = 24, 18  # pixels, at the least
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# What the current slide measures. Formulas count with the size around them, because an index is smaller by nature.
MEASURE = """() => {
  const slide = Reveal.getCurrentSlide(), box = slide.getBoundingClientRect();
  const steps = [...slide.querySelectorAll(".step")], asked = steps.findIndex(step => !step.matches(".answer"));
  const told = (step, i) => step.matches(".answer") && i > asked && getComputedStyle(step).visibility !== "hidden";
  const seen = {right: 0, bottom: 0, text: 999, code: 999, told: asked >= 0 && steps.some(told)};
  for (const element of slide.querySelectorAll("*")) {
    if (element.closest("aside.notes")) continue;
    const at = element.getBoundingClientRect();
    seen.right = Math.max(seen.right, at.right - box.left, element.scrollWidth > element.clientWidth + 1
      && element.clientWidth ? at.left - box.left + element.scrollWidth : 0);
    seen.bottom = Math.max(seen.bottom, at.bottom - box.top);
  }
  for (const root of [slide, document.querySelector(".slide-number")]) {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      if (!texts.currentNode.data.trim() || element.closest("aside.notes")) continue;
      const size = parseFloat(getComputedStyle(element.closest("math") ?? element).fontSize);
      const kind = element.closest("pre, code") ? "code" : "text";
      seen[kind] = Math.min(seen[kind], size);
    }
  }
  return seen;
}"""

# Whether the pages for the printer show an answer.
PRINTED = "[...document.querySelectorAll('.answer')].some(step => getComputedStyle(step).visibility !== 'hidden')"


def browser() -> str | None:
    """The path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def browser_page():
    """A page of a headless browser, and the list of its requests to a network and of its errors."""
    if not (path := browser()):
        sys.exit("No Chromium is installed, which this check needs. On Debian and Ubuntu: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # only here: it is not needed to make slides

    complaints: list[str] = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE)
        page.on("request", lambda r: complaints.append(f"asks for {r.url}") if r.url.startswith("http") else None)
        page.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        yield page, complaints
        chromium.close()


def problems_of(before: dict, after: dict) -> list[str]:
    """What is wrong with a slide, of its measures before its first step and after its last."""
    found = []
    if after["right"] > SIZE["width"]:
        found.append(f"overflows to the side: {after['right']:.0f} px")
    if after["bottom"] > SIZE["height"]:
        found.append(f"overflows to the bottom: {after['bottom']:.0f} px")
    if after["text"] < TEXT:
        found.append(f"text of {after['text']:.1f} px")
    if after["code"] < CODE:
        found.append(f"code of {after['code']:.1f} px")
    if before["told"]:
        found.append("an answer is there before its step")
    return found


def check_deck(page, complaints: list[str], path: Path, pictures: Path) -> list[str]:
    """The problems of one file of slides. It takes a picture of every slide with all its steps shown."""
    complaints.clear()
    shutil.rmtree(pictures, ignore_errors=True)
    page.goto(path.resolve().as_uri())
    page.wait_for_selector("html.ready", state="attached", timeout=60_000)
    problems, number, smallest = [], 0, {"text": 999.0, "code": 999.0}
    while True:
        number += 1
        before = page.evaluate(MEASURE)
        while page.evaluate("Reveal.availableFragments().next && Reveal.nextFragment()"):
            pass
        after = page.evaluate(MEASURE)
        problems += [f"{path.name}, slide {number}: {problem}" for problem in problems_of(before, after)]
        smallest = {kind: min(smallest[kind], after[kind]) for kind in smallest}
        page.screenshot(path=pictures / f"{number:03}.png")
        if page.evaluate("Reveal.isLastSlide()"):
            break
        page.evaluate("Reveal.next()")
    page.goto(f"{path.resolve().as_uri()}?print-pdf")
    page.wait_for_selector("html.ready.print-pdf", state="attached", timeout=60_000)
    if page.evaluate(PRINTED):
        problems.append(f"{path.name}: an answer is printed")
    problems += [f"{path.name}: {complaint}" for complaint in complaints]
    print(f"{path.name}: {number} slides, text from {smallest['text']} px, code from {smallest['code']} px")
    return problems


def check_slides(files: list[Path], pictures: Path) -> list[str]:
    """The problems of several files of slides, each of whose slides becomes a picture in a folder of its name."""
    with browser_page() as (page, complaints):
        found = [problem for file in files for problem in check_deck(page, complaints, file, pictures / file.stem)]
    return found if files else ["There are no slides: make slides"]


def check_book(site: Path) -> list[str]:
    """What a browser complains of on the pages that a reader opens first."""
    files = [site / "index.html", site / "search.html", site / "api.html", *sorted(site.glob("notebooks/*.html"))]
    with browser_page() as (page, complaints):
        for file in files:
            page.goto(file.resolve().as_uri())
    return complaints
