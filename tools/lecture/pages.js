// Flows the steps of every section into pages of 1280 x 720 and starts reveal.js. A step stays together if it can:
// its pictures grow or shrink, then it moves to a new page, and only a step longer than a page is divided.
(async () => {
  const FREE = 720 - 30 - 40, WIDE = 1280 - 2 * 40; // inside the padding
  const GROW = 1.33, SHRINK = 0.9, ALONE = 0.7; // of a picture: at most, beside other steps, on a page of its step
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
      return bottom() <= FREE && (!images.length || scale >= least);
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
    const divide = step => {
      const blocks = [...step.children];
      let part = step;
      step.replaceChildren();
      for (let block = blocks.shift(); block; block = blocks.shift()) {
        part.append(block);
        if (fits(part, part.childElementCount > 1 ? ALONE : 0)) continue;
        if (part.childElementCount > 1) {
          block.remove();
          fits(part, 0);
          turn();
          page.append((part = make("div", step.className)));
          blocks.unshift(block);
        } else if (block.querySelector("pre") || block.matches("pre")) {
          blocks.unshift(cut(block));
        }
      }
    };
    turn();
    for (const step of section.querySelectorAll(".step")) {
      if (step.matches(".fresh") && steps()) turn();
      const others = steps();
      page.append(step);
      if (fits(step, others ? SHRINK : ALONE)) {
        step.classList.toggle("fragment", others > 0 && step.matches(".waits"));
        continue;
      }
      if (others) {
        step.remove();
        turn();
        page.append(step);
      }
      if (!fits(step, ALONE)) divide(step);
    }
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
    width: 1280, height: 720, margin: 0, center: false, hash: true, slideNumber: "c/t", transition: "none",
    backgroundTransition: "none", pdfSeparateFragments: false, plugins: [RevealNotes],
  });
  document.documentElement.classList.add("ready");
})();
