// What is wrong with a page for somebody with a small screen, weak eyes or a keyboard only.
(() => {
  const faults = [];
  const name = (one) => `${one.tagName.toLowerCase()}.${one.className?.baseVal ?? one.className}`;
  const sideways = document.documentElement.scrollWidth - innerWidth;
  if (sideways > 0) faults.push(`${sideways} pixels are beyond the right edge`);
  for (const one of document.querySelectorAll("body *:not(pre)")) {
    const beyond = one.scrollWidth - one.clientWidth;
    if (beyond > 1 && getComputedStyle(one).overflowX === "auto") faults.push(`${name(one)} hides ${beyond} pixels`);
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one heading");
  if (!/ · detector$/.test(document.title)) faults.push(`title ${document.title}`);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => faults.push(`${id} is there twice`));
  for (const one of document.querySelectorAll("a, button, summary, input:not([type=hidden]), select")) {
    const said = one.labels ? [...one.labels].map((label) => label.textContent).join("") : "";
    if (!(said || one.textContent || one.getAttribute("aria-label") || "").trim()) faults.push(`${name(one)} has no name`);
  }

  // Contrast, as WCAG 2 reckons it.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const pixel = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = pixel(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const poor = new Set();
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || one.closest(".unseen, .skip, script") || !one.checkVisibility()) continue;
    const [a, b] = [light(pixel(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) poor.add(`contrast ${contrast.toFixed(1)}: ${name(one)} ${texts.currentNode.data.trim().slice(0, 20)}`);
  }
  return [...faults, ...poor];
})();
