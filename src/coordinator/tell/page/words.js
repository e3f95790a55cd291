// How numbers are said, and how elements are made. Names come from the configuration and reasons
// from the network: text always goes in as text, nothing is ever read as HTML.

function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return dress(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const byId = (id) => document.getElementById(id);

// What is already so is left alone: most of a page stays the same from second to second.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function mark(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// Up to three digits that count, and a unit from the list.
function scaled(value, units, step = 1000) {
  let at = 0;
  while (Math.abs(value) >= step * 0.9995 && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  const digits =
    (at === 0 && Number.isInteger(value)) || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))}${units[at]}`;
}

const count = (n) =>
  n < 100_000 ? Math.round(n).toLocaleString('en') : scaled(n, ['', ' k', ' M', ' G']);
const rate = (n) => (n < 10 ? String(Number(n.toFixed(1))) : count(n));
const bytes = (n) => scaled(Math.round(n), [' B', ' kB', ' MB', ' GB', ' TB']);
const time = (us) => (us < 60e6 ? scaled(us, [' µs', ' ms', ' s']) : span(us / 1e6));
const percent = (share) =>
  `${share > 0 && share < 0.095 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;
const clock = (ms) => new Date(ms).toLocaleTimeString('en-GB');
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? '' : 's'}`;

// Seconds as a person says them.
function span(seconds) {
  const [s, m, h] = [1, 60, 3600].map((unit) => Math.floor(seconds / unit));
  if (h >= 48) return `${Math.floor(h / 24)} d ${h % 24} h`;
  if (h >= 1) return `${h} h ${m % 60} min`;
  return m >= 1 ? `${m} min ${s % 60} s` : `${s} s`;
}

const sum = (numbers) => numbers.reduce((all, n) => all + n, 0);
