// Flows the steps of every section into pages of 1280 x 720 and starts reveal.js. A step stays together if it can:
// its pictures grow or shrink, then it moves to a new page, and only a step longer than a page is divided.
(async () => {
  const FREE = 720 - 30 - 40, WIDE = 1280 - 2 * 40; // inside the padding
  const GROW = 1.33, SHRINK = 0.9, ALONE = 0.6, MAP = 0.6; // of a picture: at most; at least beside other steps, on a
  // page of its step, and for the network's map, whose letters are large
  await Promise.all([...document.images].map(i => i.decode().catch(() => 0)));
  const make = (tag, name, ...inside) => {
    const element = Object.assign(document.createElement(tag), { className: name });
    element.append(...inside);
    return element;
  };
  const page = document.body.appendChild(make("div", "reveal measured"));
  const bottom = () => page.lastElementChild.getBoundingClientRect().bottom - page.getBoundingClientRect().top - 30;
  const steps = () => page.querySelectorAll(".step").length;

  for (const section of [...document.querySelectorAll(".slides > section")]) {
    const pages = [], notes = section.querySelector("aside");
    const turn = () => {
      if (page.childElementCount) pages.push([...page.childNodes]);
      page.replaceChildren();
      if (pages.length) page.append(make("h2", "again", section.dataset.title));
    };
    // Whether a step fits, with its pictures as large as they can be but not smaller than `least`.
    const fits = (step, least) => {
      const images = [...step.querySelectorAll("img")];
      for (const image of images) image.style.height = "0";
      const natural = images.reduce((sum, image) => sum + image.naturalHeight, 0);
      const scale = Math.min(GROW, (FREE - bottom()) / natural, ...images.map(i => WIDE / i.naturalWidth));
      for (const image of images) image.style.height = Math.floor(Math.max(scale, 0) * image.naturalHeight) + "px";
      return bottom() <= FREE && images.every(image => scale >= (image.matches(".map") ? Math.min(MAP, least) : least));
    };
    // Cuts printed text or code that is longer than a page at the line that is last to fit, between statements if possible.
    const cut = block => {
      const pre = block.matches("pre") ? block : block.querySelector("pre");
      const lines = pre.innerHTML.trimEnd().split("\n"), bare = lines.map(line => line.replace(/<[^>]*>/g, ""));
      let n = lines.length;
      do pre.innerHTML = lines.slice(0, --n).join("\n"); while (n > 1 && bottom() > FREE);
      let at = n;
      while (at > n / 2 && !/^[^\s)\]}]/.test(bare[at])) at--;
      if (at <= n / 2) at = n;
      const rest = block.cloneNode(true);
      pre.innerHTML = lines.slice(0, at).join("\n");
      (rest.matches("pre") ? rest : rest.querySelector("pre")).innerHTML = lines.slice(at).join("\n").trimStart();
      return rest;
    };
    // Puts a step that is longer than a page on this page and the next ones, block by block.
    const divide = step => {
      const blocks = [...step.children], empty = () => make("div", step.className);
      let part = step;
      step.replaceChildren();
      for (let block = blocks.shift(); block; block = blocks.shift()) {
        part.append(block);
        const lone = part.childElementCount === 1 && steps() === 1;
        if (fits(part, lone ? 0 : ALONE)) continue;
        if (!lone) {
          block.remove();
          if (part.childElementCount) fits(part, 0);
          else part.remove();
          turn();
          page.append((part = empty()));
          blocks.unshift(block);
        } else if (block.matches("pre") || block.querySelector("pre")) {
          blocks.unshift(cut(block));
        }
      }
    };
    const place = step => {
      const others = steps();
      page.append(step);
      for (const math of step.querySelectorAll("math[display=block]")) { // a long formula becomes a little smaller
        const wide = math.firstElementChild.getBoundingClientRect().width;
        if (wide > WIDE) math.style.fontSize = Math.max(24, Math.floor((27 * WIDE) / wide)) + "px";
      }
      const least = step.matches(".answer") || step.querySelector(".guess") ? ALONE : SHRINK; // a picture of code may go on
      const whole = fits(step, others ? SHRINK : least);
      if (others && !whole) {
        step.remove();
        turn();
        page.append(step);
        if (fits(step, least)) return;
        page.replaceChildren(...pages.pop(), step);
      }
      step.classList.toggle("fragment", others > 0 && step.matches(".waits, .fresh"));
      if (!whole) divide(step);
    };
    turn();
    section.querySelectorAll(".step").forEach(place);
    turn();
    section.replaceChildren(...pages.map(nodes => {
      const slide = make("section", "", ...nodes);
      if (notes) {
        slide.append(notes.cloneNode(true));
        slide.dataset.timing = Math.round((60 * section.dataset.minutes) / pages.length);
      }
      return slide;
    }));
    page.replaceChildren();
  }
  page.remove();
  if (location.search.includes("answers")) document.documentElement.classList.add("with-answers");
  await Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, hash: true, slideNumber: "c/t", controls: false, transition: "none",
    backgroundTransition: "none", pdfSeparateFragments: false, plugins: [RevealNotes],
  });
  document.documentElement.classList.add("ready");
})();
