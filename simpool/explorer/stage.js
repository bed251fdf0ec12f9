// The pictures of the explorer in JupyterLab (simpool.widget): a strip of samples, and one panel per map.
// Python draws; here pictures are shown, clicked and saved. Names of messages and traits are those of `Explorer`.

const blobUrl = (bytes, type = "image/png") => URL.createObjectURL(new Blob([bytes], {type}));

function show(image, bytes) { // the old picture stays until the new one is there
  const url = blobUrl(bytes);
  image.onload = () => URL.revokeObjectURL(url);
  image.src = url;
}

function fill(parent, n, make) { // exactly n children
  while (parent.children.length < n) parent.append(make(parent.children.length));
  while (parent.children.length > n) parent.lastChild.remove();
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function render({model, el}) {
  const strip = element("div", {className: "strip"}), panels = element("div", {className: "panels"});
  const bar = element("div", {className: "heading"});
  el.classList.add("simpool-stage");
  el.tabIndex = 0;
  el.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrows
  el.setAttribute("aria-label", "Pictures and maps. Left and right: another picture. Escape: no patch.");
  el.append(strip, bar, panels);

  const choose = index => { model.set("index", index); model.save_changes(); };
  function drawStrip() {
    const pictures = model.get("strip"), index = model.get("index");
    fill(strip, pictures.length, i => element("button",
      {type: "button", tabIndex: -1, title: `Picture ${i + 1}`, onclick: () => choose(i)}, element("img", {alt: ""})));
    pictures.forEach((bytes, i) => {
      const button = strip.children[i];
      button.setAttribute("aria-pressed", String(i === index));
      if (button.bytes !== bytes) show(button.firstChild, button.bytes = bytes);
    });
  }
  function drawPanels() {
    const given = model.get("panels");
    fill(panels, given.length, i => {
      const image = element("img", {draggable: false});
      image.addEventListener("click", e => {
        const box = image.getBoundingClientRect();
        model.send({kind: "patch", u: (e.clientX - box.left) / box.width, v: (e.clientY - box.top) / box.height});
      });
      return element("figure", {}, image, element("figcaption", {}, element("b"), element("span")));
    });
    given.forEach(({name, lines, image}, i) => {
      const [picture, caption] = panels.children[i].children;
      picture.alt = name;
      show(picture, image);
      caption.firstChild.textContent = name;
      caption.lastChild.textContent = lines.join("\n");
    });
    bar.textContent = model.get("heading");
  }
  el.addEventListener("keydown", e => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[e.key], n = model.get("strip").length;
    if (!step && e.key !== "Escape") return;
    e.preventDefault();
    e.stopPropagation();
    if (step) choose((model.get("index") + step + n) % n);
    else model.send({kind: "patch", u: null, v: null});
  });
  el.addEventListener("dragover", e => e.preventDefault());
  el.addEventListener("drop", async e => {
    e.preventDefault();
    e.stopPropagation();
    const file = e.dataTransfer.files[0];
    if (file) model.send({kind: "file", name: file.name}, undefined, [await file.arrayBuffer()]);
  });
  function save(message, buffers) {
    if (message.kind !== "save") return;
    const link = element("a", {href: blobUrl(buffers[0], message.type), download: message.name});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  model.on("change:strip", drawStrip);
  model.on("change:index", drawStrip);
  model.on("change:panels", drawPanels);
  model.on("msg:custom", save);
  drawStrip();
  drawPanels();
  return () => {
    model.off("change:strip", drawStrip);
    model.off("change:index", drawStrip);
    model.off("change:panels", drawPanels);
    model.off("msg:custom", save);
  };
}

export default {render};
