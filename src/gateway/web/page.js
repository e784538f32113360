// What makes pages live: parts that change, buttons, the form that asks for a run. Parts come escaped from the bot.
"use strict";
(() => {
  const find = (what) => document.querySelector(what);
  const main = find("main");
  const follows = main.dataset.live;
  // A bot that says nothing for so long is not there.
  const SILENCE = 40000;
  let live = false;
  let heard = 0;
  let stream = null;
  let waiting = null;
  let plan = null;
  let busy = false;

  function toast(text, bad) {
    const one = document.createElement("p");
    one.className = bad ? "toast bad" : "toast";
    one.textContent = text;
    find("#toasts").append(one);
    setTimeout(() => one.remove(), bad ? 12000 : 6000);
  }

  async function post(path, body) {
    const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    if (answer.status === 401) {
      location.reload();
    }
    const told = await answer.json();
    if (!answer.ok) {
      throw new Error(told.error);
    }
    return told;
  }

  // A start needs a plan that was shown, and a connection that will tell how it goes.
  function decide() {
    const start = find("#start");
    if (start) {
      start.disabled = !(live && plan && plan.code) || busy;
    }
  }

  function connected(now) {
    live = now;
    document.documentElement.dataset.live = now ? "up" : "down";
    const shown = find("#live");
    if (shown) {
      shown.textContent = now ? "live" : "not connected";
    }
    decide();
  }

  function known() {
    return new Map([...document.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
  }

  // Parts that changed are written anew, in the order of all; what people unfolded stays so.
  function take(news) {
    const all = known();
    for (const [id, folds, html] of news.parts) {
      let part = all.get(id);
      if (!part) {
        part = document.createElement(folds === null ? "section" : "details");
        part.dataset.part = id;
        all.set(id, part);
      }
      if (folds && !part.querySelector(".state.failed") && html.includes("state failed")) {
        part.open = true;
      }
      part.innerHTML = html;
    }
    const place = find("#parts");
    let next = place.firstElementChild;
    for (const id of news.all) {
      const part = all.get(id);
      all.delete(id);
      if (part === next) {
        next = next.nextElementSibling;
      } else if (part) {
        place.insertBefore(part, next);
      }
    }
    for (const part of all.values()) {
      part.remove();
    }
    if (news.title) {
      document.title = news.title + " · MasterChief";
    }
    tick();
  }

  function again() {
    stream.close();
    connected(false);
    if (waiting) {
      return;
    }
    waiting = setTimeout(async () => {
      waiting = null;
      const answer = await fetch("/session").catch(() => null);
      if (answer && answer.status === 401) {
        location.reload();
      } else {
        connect();
      }
    }, 3000);
  }

  function connect() {
    stream = new EventSource(follows);
    stream.addEventListener("parts", (news) => {
      heard = Date.now();
      take(JSON.parse(news.data));
      connected(true);
    });
    stream.addEventListener("beat", () => {
      heard = Date.now();
    });
    stream.addEventListener("bye", (news) => {
      toast(JSON.parse(news.data).error, true);
      again();
    });
    stream.onerror = () => {
      connected(false);
      if (stream.readyState === EventSource.CLOSED) {
        again();
      }
    };
  }

  // Times that go on, and moments as this machine's clock shows them.
  function span(time) {
    const seconds = Math.max(0, Math.round(time / 1000));
    const two = (count) => String(count).padStart(2, "0");
    if (seconds < 60) {
      return seconds + "s";
    }
    return seconds < 3600
      ? Math.floor(seconds / 60) + "m" + two(seconds % 60) + "s"
      : Math.floor(seconds / 3600) + "h" + two(Math.floor(seconds / 60) % 60) + "m";
  }

  function tick() {
    const now = Date.now();
    for (const one of document.querySelectorAll("[data-since]")) {
      one.textContent = span(now - one.dataset.since);
    }
    for (const one of document.querySelectorAll("[data-until]")) {
      one.textContent = "about " + span(one.dataset.until - now);
    }
    for (const one of document.querySelectorAll("time[data-at]:not([title])")) {
      one.title = new Date(Number(one.dataset.at)).toLocaleString();
    }
  }

  function chosen(form) {
    const body = { environment: form.elements.environment.value, ref: "", params: {}, skip: [] };
    for (const one of form.elements) {
      if (!one.name || one.disabled) {
        continue;
      }
      if (one.name === "ref") {
        body.ref = one.value.trim();
      } else if (one.name === "skip") {
        if (one.checked) {
          body.skip.push(one.value);
        }
      } else if (one.name.startsWith("param:")) {
        const value = one.type === "checkbox" ? String(one.checked) : one.value;
        if (value !== "") {
          body.params[one.name.slice(6)] = value;
        }
      }
    }
    return body;
  }

  // One thing at a time; what goes wrong is said.
  async function once(deed) {
    if (busy) {
      return;
    }
    busy = true;
    decide();
    try {
      await deed();
    } catch (fault) {
      toast(fault instanceof TypeError ? "the bot cannot be reached" : fault.message, true);
    }
    busy = false;
    decide();
  }

  function asks(form) {
    const shown = find("#plan");
    const forget = () => {
      plan = null;
      shown.replaceChildren();
      decide();
    };
    form.addEventListener("input", forget);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      once(async () => {
        forget();
        shown.textContent = "…";
        try {
          const wanted = chosen(form);
          const told = await post(form.dataset.plan, wanted);
          shown.innerHTML = told.html;
          plan = { ...wanted, code: told.code, key: told.key };
        } catch (fault) {
          forget();
          throw fault;
        }
      });
    });
    find("#start").addEventListener("click", () => {
      once(async () => {
        const told = await post(form.dataset.start, plan);
        told.lines.forEach((line) => toast(line));
        location.assign(told.page);
      });
    });
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.post) {
      return;
    }
    event.preventDefault();
    once(async () => {
      const told = await post(form.dataset.post, Object.fromEntries(new FormData(form)));
      told.lines.forEach((line) => toast(line));
    });
  });

  const form = find("#ask");
  if (form) {
    asks(form);
  }
  if (follows) {
    connected(false);
    connect();
    setInterval(() => {
      if (live && Date.now() - heard > SILENCE) {
        again();
      }
    }, 5000);
  }
  const login = find("form.login");
  if (login) {
    // Whoever follows a link from another site comes without the cookie; from here it is sent.
    fetch("/session").then((answer) => {
      if (answer.ok) {
        location.replace(login.elements.next.value);
      }
    });
  }
  tick();
  setInterval(tick, 1000);
})();
