// Polls the counts every second and draws what they grow by.
"use strict";

const SAMPLES = 250; // kept and drawn: a good four minutes
const INTERVAL = 1000; // ms between two questions
const TIMEOUT = 5000; // ms after which a question counts as unanswered
const MEAN = 12; // s: one worker writes 4 hashes every 1.2 s, so shorter means jump
const MARGIN = { left: 44, right: 12, top: 10, bottom: 24 }; // px around the plot, for the labels

const samples = []; // { time (s), rate (hashes/s) }, oldest first
const answers = []; // the counts of the last MEAN seconds
const $ = (id) => document.getElementById(id);
const svg = $("graph");

// ---- numbers

async function poll() {
  const started = Date.now();
  try {
    const response = await fetch("json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    take({ now: answer.now, hashes: Number(answer.hashes ?? 0), coins: answer.coins });
    state("live", "live");
  } catch (error) {
    const redis = String(error.message).startsWith("redis");
    state("lost", redis ? "redis is away – trying again" : "connection lost – trying again");
  }
  setTimeout(poll, Math.max(0, INTERVAL - (Date.now() - started)));
}

function take(answer) {
  const before = answers.at(-1);
  // Counts that go down are a new store's: start over.
  if (before && answer.hashes < before.hashes) answers.length = 0;
  else if (before && answer.now > before.now) {
    samples.push({ time: answer.now, rate: (answer.hashes - before.hashes) / (answer.now - before.now) });
    if (samples.length > SAMPLES) samples.shift();
  }
  answers.push(answer);
  while (answers.length > 2 && answers[1].now <= answer.now - MEAN) answers.shift();

  const oldest = answers[0];
  const seconds = answer.now - oldest.now;
  $("rate").textContent = seconds > 0 ? ((answer.hashes - oldest.hashes) / seconds).toFixed(1) : "–";
  $("coins").textContent = answer.coins.toLocaleString("en");
  $("hashes").textContent = answer.hashes.toLocaleString("en");
  svg.dataset.samples = samples.length;
  draw();
}

function state(name, text) {
  $("state").dataset.state = name;
  $("state").textContent = text;
  document.body.classList.toggle("lost", name === "lost");
}

// ---- graph

/// Where a time and a rate are on the screen.
function scales() {
  const { width, height } = svg.getBoundingClientRect();
  const [left, right] = [MARGIN.left, width - MARGIN.right];
  const [top, bottom] = [MARGIN.top, height - MARGIN.bottom];
  const end = samples.length ? samples.at(-1).time : 0;
  const start = end - (SAMPLES - 1) * (INTERVAL / 1000);
  const { step, max } = axis(Math.max(...samples.map((sample) => sample.rate), 0));
  return {
    left, right, top, bottom, start, end, step, max,
    x: (time) => left + ((time - start) / (end - start)) * (right - left),
    y: (rate) => bottom - (rate / max) * (bottom - top),
  };
}

/// A round step that divides the axis up to `highest` into four to eight parts.
function axis(highest) {
  const rough = Math.max(highest, 1) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [5, 2.5, 2, 1].find((part) => part * power <= rough);
  return { step, max: step * Math.ceil((Math.max(highest, 1) * 1.05) / step) };
}

function draw() {
  const scale = scales();
  const shown = samples.filter((sample) => sample.time >= scale.start);
  drawGrid(scale);
  const points = shown.map(({ time, rate }) => `${scale.x(time).toFixed(1)},${scale.y(rate).toFixed(1)}`);
  const edge = (sample) => `${scale.x(sample.time).toFixed(1)},${scale.bottom}`;
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  $("line").setAttribute("d", line);
  $("area").setAttribute("d", line && `${line}L${edge(shown.at(-1))}L${edge(shown[0])}Z`);
}

function drawGrid(scale) {
  const parts = [];
  const digits = scale.step < 1 ? (Number.isInteger(scale.step * 10) ? 1 : 2) : Number.isInteger(scale.step) ? 0 : 1;
  for (let n = 0; n * scale.step <= scale.max * 1.001; n++) {
    const y = scale.y(n * scale.step);
    const label = (n * scale.step).toFixed(digits);
    parts.push(`<line class="${n ? "" : "base"}" x1="${scale.left}" x2="${scale.right}" y1="${y}" y2="${y}"/>`);
    parts.push(`<text class="y" x="${scale.left - 8}" y="${y}">${label}</text>`);
  }
  for (let ago = 0; ago < SAMPLES; ago += 60) {
    const x = scale.x(scale.end - ago) - (ago ? 0 : 8);
    const label = ago ? `−${ago / 60} min` : "now";
    parts.push(`<text class="x" x="${x}" y="${scale.bottom + 18}">${label}</text>`);
  }
  $("grid").innerHTML = parts.join("");
}

/// Shows the sample nearest to the pointer.
function point(event) {
  const scale = scales();
  const x = event.clientX - svg.getBoundingClientRect().left;
  const distance = (sample) => Math.abs(scale.x(sample.time) - x);
  const nearest = samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best), samples[0]);
  if (!nearest) return;
  const [line, circle] = $("cursor").children;
  const [at, height] = [scale.x(nearest.time), scale.y(nearest.rate)];
  for (const [name, value] of Object.entries({ x1: at, x2: at, y1: scale.top, y2: scale.bottom })) line.setAttribute(name, value);
  circle.setAttribute("cx", at);
  circle.setAttribute("cy", height);
  $("tip").textContent = `${nearest.rate.toFixed(1)} hashes/s at ${new Date(nearest.time * 1000).toLocaleTimeString()}`;
  show(true);
}

function show(shown) {
  $("cursor").toggleAttribute("hidden", !shown);
  $("tip").toggleAttribute("hidden", !shown);
}

svg.addEventListener("pointermove", point);
svg.addEventListener("pointerleave", () => show(false));
new ResizeObserver(draw).observe(svg);
poll();
