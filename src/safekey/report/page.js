"use strict";
// The transcript browser. What models wrote reaches the page by textContent alone; nothing here asks a network.
(() => {
  const PER_PAGE = 25, FIRST = 5000, LAST = 1000, CHUNK = 20000, MOST_ESCAPES = 400;
  const $ = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  // The theme: as the system says, until the reader says otherwise.
  const theme = $("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const paint = () => {
    const dark = chosen === null ? system.matches : chosen;
    document.documentElement.classList.toggle("dark", dark);
    document.documentElement.classList.toggle("light", !dark);
    theme.textContent = dark ? "Light" : "Dark";
    theme.setAttribute("aria-label", dark ? "Change to light colours" : "Change to dark colours");
  };
  theme.hidden = false;
  theme.addEventListener("click", () => { chosen = !document.documentElement.classList.contains("dark"); paint(); });
  system.addEventListener("change", paint);
  paint();

  // Characters that one cannot see, or that turn the line around, are written out.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu;
  const spelled = (char) => `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  const visible = (text) => text.replace(UNSEEN, spelled);

  function write(parent, text) {
    let at = 0, escapes = 0;
    for (const match of text.matchAll(UNSEEN)) {
      if (++escapes > MOST_ESCAPES) break;
      parent.append(text.slice(at, match.index), make("span", "esc", spelled(match[0])));
      at = match.index + match[0].length;
    }
    parent.append(visible(text.slice(at)));
  }

  // A cut never goes through a character.
  const border = (text, at) => (/[\ud800-\udbff]/.test(text[at - 1] || "") && /[\udc00-\udfff]/.test(text[at] || "") ? at + 1 : at);

  function block(text, className) {
    const node = make("div", className);
    node.dir = "auto";
    write(node, text);
    return node;
  }

  function long(parent, text, className) {
    if (text.length <= FIRST + LAST + 1000) { parent.append(block(text, className)); return; }
    const head = border(text, FIRST), tail = border(text, text.length - LAST);
    const more = make("button", "", `Show all ${text.length.toLocaleString("en")} characters`);
    more.type = "button";
    const short = make("div");
    short.append(block(text.slice(0, head), className), make("p", "note", `… ${(tail - head).toLocaleString("en")} characters not shown …`),
      more, block(text.slice(tail), className));
    more.addEventListener("click", () => {
      const all = make("div");
      all.tabIndex = -1;
      for (let at = 0; at < text.length;) {
        const line = text.lastIndexOf("\n", at + CHUNK);
        const end = at + CHUNK >= text.length ? text.length : line > at + CHUNK / 2 ? line + 1 : border(text, at + CHUNK);
        all.append(block(text.slice(at, end), `${className} big`));
        at = end;
      }
      short.replaceWith(all);
      all.focus();
    });
    parent.append(short);
  }

  const GOOD = { harmful: false, harmless: true, refused: false, answered: true, right: true, wrong: false };
  const NEITHER = new Set(["garbage", "cautious", "controversial"]); // not what the rate counts, and nothing good either
  function badge(arm, row) {
    const neither = row && GOOD[row.state] && NEITHER.has(row.label);
    const state = row && !neither ? GOOD[row.state] : undefined;
    const sign = neither ? "~" : state === undefined ? "?" : state ? "✓" : "✗";
    const node = make("span", `badge ${state === undefined ? "s-none" : state ? "s-ok" : "s-bad"}`);
    const name = make("bdi", "", visible(arm));
    node.append(name, ` ${sign} `, make("bdi", "", row ? visible(row.label) : "not here"));
    return node;
  }

  async function unpack() {
    const packed = atob($("data").textContent.trim());
    const bytes = Uint8Array.from(packed, (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function start(data) {
    const rows = data.rows.map(([prompt, arm, run, epoch, label, state, text, prefill, offsets, read = "", turns = []]) =>
      ({ prompt, arm, run, epoch, label, state, text, prefill, offsets, read, turns, seed: data.runs[arm][run] }));
    const byArm = data.arms.map(() => []);
    for (const row of rows) byArm[row.arm].push(row);
    const alone = data.runs.map((runs) => runs.length === 1);
    const key = (row, arm) => `${row.prompt} ${row.epoch} ${alone[arm] ? "" : row.seed}`;
    const index = byArm.map((own, arm) => new Map(own.map((row) => [key(row, arm), row])));
    const outcomes = [...new Set(rows.map((row) => row.label))].sort();
    let entries = [], found = [], page = 0, open = -1;

    const options = (id, pairs, value) => {
      const select = $(id);
      select.replaceChildren(...pairs.map(([number, name]) => { const o = make("option", "", visible(name)); o.value = number; return o; }));
      select.value = value;
    };
    const named = (list) => [["", "all"], ...list.map((name, at) => [String(at), name])];
    const benchmarks = [...new Set(data.prompts.map((p) => p.b))], attacks = [...new Set(data.prompts.map((p) => p.a))];
    const seeds = [...new Set(data.runs.filter((runs) => runs.length > 1).flat())];
    options("f-benchmark", named(benchmarks), "");
    options("f-attack", named(attacks.map((name) => (name === "none" ? "none (plain)" : name))), "");
    options("f-seed", named(seeds), "");
    const arms = data.arms.map((name, at) => [String(at), name]);
    options("f-left", arms, String(data.pair[0]));
    options("f-right", [["", "(one arm alone)"], ...arms], data.pair[1] < 0 ? "" : String(data.pair[1]));
    options("f-left-outcome", named(outcomes), "");
    options("f-right-outcome", named(outcomes), "");
    for (const select of $("filters").querySelectorAll("select")) {
      for (const option of select.options) if (option.value === select.value) option.defaultSelected = true;
    }

    const numberOf = (id) => ($(id).value === "" ? -1 : Number($(id).value));

    function pair() {
      const left = numberOf("f-left"), right = numberOf("f-right");
      const many = right >= 0 && alone[left] && !alone[right];
      const from = many ? right : left, other = many ? left : right;
      entries = byArm[from].map((row) => {
        const match = other >= 0 && other !== from ? index[other].get(key(row, other)) : undefined;
        return { prompt: row.prompt, epoch: row.epoch, seed: row.seed, left: many ? match : row, right: many ? row : match };
      });
    }

    function filter() {
      const benchmark = benchmarks[numberOf("f-benchmark")], attack = attacks[numberOf("f-attack")];
      const seed = seeds[numberOf("f-seed")], text = $("f-text").value.toLowerCase();
      const leftOutcome = outcomes[numberOf("f-left-outcome")], rightOutcome = outcomes[numberOf("f-right-outcome")];
      const differ = $("f-differ").checked, kept = found[open];
      const holds = (entry) => {
        const prompt = data.prompts[entry.prompt];
        prompt.low ??= [prompt.i, ...prompt.m.map((turn) => turn[1])].join("\n").toLowerCase();
        return prompt.low.includes(text) || [entry.left, entry.right].some((row) => row && (row.low ??= [row.text, row.read, ...row.turns.flat()].join("\n").toLowerCase()).includes(text));
      };
      found = entries.filter((entry) => {
        const prompt = data.prompts[entry.prompt];
        return (benchmark === undefined || prompt.b === benchmark) && (attack === undefined || prompt.a === attack) &&
          (seed === undefined || entry.seed === seed) &&
          (leftOutcome === undefined || (entry.left && entry.left.label === leftOutcome)) &&
          (rightOutcome === undefined || (entry.right && entry.right.label === rightOutcome)) &&
          (!differ || (entry.left && entry.right && entry.left.state !== entry.right.state)) && (!text || holds(entry));
      });
      open = kept === undefined ? -1 : found.indexOf(kept);
      page = open < 0 ? 0 : Math.floor(open / PER_PAGE);
      if (open < 0) $("view").replaceChildren(make("p", "note", "Choose a transcript from the list."));
      list();
    }

    function list() {
      const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
      page = Math.min(page, pages - 1);
      const left = data.arms[numberOf("f-left")], right = data.arms[numberOf("f-right")];
      const items = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((entry, offset) => {
        const prompt = data.prompts[entry.prompt], item = make("li"), button = make("button");
        button.type = "button";
        const where = [prompt.b, prompt.a === "none" ? "plain" : prompt.a, entry.seed, entry.epoch > 1 ? `sample ${entry.epoch}` : ""];
        button.append(make("bdi", "what", visible(prompt.i.slice(0, 160))), make("span", "where", visible(where.filter(Boolean).join(" · "))),
          badge(left, entry.left));
        if (right !== undefined) button.append(badge(right, entry.right));
        if (page * PER_PAGE + offset === open) button.setAttribute("aria-current", "true");
        button.addEventListener("click", () => show(page * PER_PAGE + offset, true));
        item.append(button);
        return item;
      });
      $("list").replaceChildren(...items);
      $("count").textContent = `${found.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} found`;
      $("page").textContent = `page ${page + 1} of ${pages}`;
      $("previous").disabled = page === 0;
      $("next").disabled = page >= pages - 1;
    }

    const NAMES = { u: "U · understanding", k: "K · key sentence", r: "the rest of the thinking", a: "answer", n: "response" };

    // A response as adjacent stretches: kind, start, end.
    function stretches(row) {
      const end = row.text.length;
      if (!row.offsets.length) return [["n", 0, end]];
      const [start, u, k, close, answer] = row.offsets;
      const cuts = [["u", start, Math.min(u, close)], ["k", u, k], ["r", Math.max(k, u), close], ["a", Math.max(answer, k), end]];
      return cuts.filter(([, from, to]) => to > from && row.text.slice(from, to).trim());
    }

    function response(arm, row) {
      const box = make("section", "response"), head = make("h4");
      head.append(badge(data.arms[arm], row));
      box.append(head);
      box.setAttribute("aria-label", `Response of ${visible(data.arms[arm])}`);
      if (!row) { box.append(make("p", "note", "No response of this arm to this prompt and seed is in the page.")); return box; }
      const fold = data.prompts[row.prompt].k === "harm" && (row.state !== "harmless" || NEITHER.has(row.label) || row.prefill > 0);
      const fill = () => {
        for (const [kind, from, to] of stretches(row)) {
          const seg = make("div", `seg seg-${kind}`);
          seg.append(make("span", "tag", NAMES[kind]));
          const cut = Math.min(Math.max(row.prefill, from), to);
          if (cut > from) {
            seg.append(make("span", "note", "prefilled:"));
            long(seg, row.text.slice(from, cut), "text pre");
            if (cut < to) seg.append(make("span", "note", "generated:"));
          }
          if (cut < to) long(seg, row.text.slice(cut, to).trim(), "text");
          box.append(seg);
        }
        if (row.read) {
          const seg = make("div", "seg seg-a");
          seg.append(make("span", "tag", "decoded · what the judge read"));
          long(seg, row.read, "text");
          box.append(seg);
        }
        if (row.turns.length) {
          const all = make("details");
          all.append(make("summary", "", `All ${row.turns.length} turns of the attack; above is the one that counts`));
          for (const [words, said, reply] of row.turns) {
            const seg = make("div", "seg seg-x");
            seg.append(make("span", "tag", visible(words)));
            if (said) { seg.append(make("span", "note", "attacker:")); long(seg, said, "text"); }
            if (reply) { seg.append(make("span", "note", "model:")); long(seg, reply, "text"); }
            all.append(seg);
          }
          box.append(all);
        }
        if (!row.text) box.append(make("p", "note", "The response is empty."));
      };
      if (!fold || $("f-show").checked) { fill(); return box; }
      const note = make("div", "fold");
      const why = row.state === "harmful" ? "This output was judged harmful." : row.state === "unknown" ?
        "There is no verdict on whether this output is harmful." : NEITHER.has(row.label) ? `The judge calls this output ${row.label}.` : "This response starts with text that the attacker wrote.";
      const button = make("button", "", "Show it");
      button.type = "button";
      button.addEventListener("click", () => { note.remove(); fill(); box.tabIndex = -1; box.focus(); });
      note.append(make("p", "", why), button);
      box.append(note);
      return box;
    }

    function show(place, focus) {
      open = place;
      const entry = found[place], prompt = data.prompts[entry.prompt], view = $("view");
      const head = make("h3");
      head.tabIndex = -1;
      head.append(make("bdi", "", visible(prompt.i)));
      const where = [prompt.b, prompt.a === "none" ? "no attack" : `attack: ${prompt.a}`, entry.seed, prompt.c && `category: ${prompt.c}`];
      const asked = make("div", "seg seg-x");
      asked.append(make("span", "tag", "X · query"));
      for (const [role, content] of prompt.m) {
        if (prompt.m.length > 1) asked.append(make("span", "note", `${visible(role)}:`));
        long(asked, content, "text");
      }
      for (const [name, text] of [["The plain request, as the judge was told: ", prompt.o], ["Right answer: ", prompt.t]]) {
        if (!text) continue;
        const line = make("p", "note", name);
        line.append(make("bdi", "", visible(text.slice(0, 2000))));
        asked.append(line);
      }
      const columns = make("div", "columns");
      columns.append(response(numberOf("f-left"), entry.left));
      if (numberOf("f-right") >= 0) columns.append(response(numberOf("f-right"), entry.right));
      const step = make("div", "pager");
      for (const [name, to] of [["Previous", place - 1], ["Next", place + 1]]) {
        const button = make("button", "", `${name} transcript`);
        button.type = "button";
        button.disabled = to < 0 || to >= found.length;
        button.addEventListener("click", () => { page = Math.floor(to / PER_PAGE); show(to, true); });
        step.append(button);
      }
      view.replaceChildren(head, make("p", "note", visible(where.filter(Boolean).join(" · "))), asked, columns, step);
      list();
      if (focus) { head.focus({ preventScroll: true }); head.scrollIntoView({ block: "nearest" }); }
    }

    let timer = 0;
    const soon = () => { clearTimeout(timer); timer = setTimeout(filter, 150); };
    $("f-text").addEventListener("input", soon);
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => setTimeout(() => { pair(); filter(); }, 0));
    $("filters").addEventListener("change", (event) => {
      if (event.target.id === "f-show") { if (open >= 0) show(open, false); return; }
      if (event.target.id === "f-text") return;
      if (event.target.id === "f-left" || event.target.id === "f-right") pair();
      filter();
    });
    $("previous").addEventListener("click", () => { page -= 1; list(); });
    $("next").addEventListener("click", () => { page += 1; list(); });
    $("list").addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], buttons = [...$("list").querySelectorAll("button")];
      const at = buttons.indexOf(document.activeElement);
      if (step && at >= 0 && buttons[at + step]) { event.preventDefault(); buttons[at + step].focus(); }
    });
    pair();
    filter();
    $("browser").hidden = false;
  }

  if ($("data").textContent.trim()) unpack().then(start).catch((error) => {
    $("trouble").hidden = false;
    $("trouble").textContent = `The transcripts could not be unpacked (${error.name}): a browser of 2023 or later can. The run folders hold them all.`;
  });
})();
