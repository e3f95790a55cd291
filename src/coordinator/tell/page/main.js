// Asks, and shows what came: /stats, /stats/history and /stats/events, each second while somebody
// looks.

const PERIOD_MS = 1000;
const PERIOD_HIDDEN_MS = 15_000;
// Longer than a busy instance takes to answer, shorter than a person waits.
const PATIENCE_MS = 4000;

// At first, more with each press of the button, and of those that are out without one.
const BACKENDS_SHOWN = 20;
const BACKENDS_MORE = 100;
const BACKENDS_OUT_SHOWN_MAX = 200;
const EVENTS_SHOWN_MAX = 20;

const past = new Past();
let stats;
let events;
let answeredAt = 0;
let phase = 'first_byte';
let moment = { at: null, held: false };
let [backendsWanted, backendsShown, backendsLeft] = [BACKENDS_SHOWN, BACKENDS_SHOWN, 0];

// How many connections each backend has had, and what ran short.
let totals;
let losses;

function forget() {
  events = [];
  moment = { at: null, held: false };
  totals = new Recent(10_500);
  losses = new Recent(60_500);
}
forget();

const inPhase = (name) => (row) => (row.phases[phase].count ? row.phases[phase][name] : null);
const perSecond = (format) => ({ format: (n) => `${format(n)}/s`, tick: format });

const CHARTS = [
  {
    place: 'rates',
    size: 'small',
    title: 'New connections',
    filled: true,
    ...perSecond(rate),
    series: [{ name: 'accepted', look: 'a', of: (row) => row.accepted }],
  },
  {
    place: 'rates',
    size: 'small',
    title: 'Errors',
    filled: true,
    ...perSecond(rate),
    series: [{ name: 'failed', look: 'bad', of: (row) => row.errors }],
  },
  {
    place: 'rates',
    size: 'small',
    title: 'Open connections',
    filled: true,
    // Whole numbers have no ticks between them.
    least: 4,
    format: count,
    series: [{ name: 'open', look: 'a', of: (row) => row.active }],
  },
  {
    place: 'rates',
    size: 'small',
    title: 'Bytes',
    least: 1000,
    ...perSecond(bytes),
    series: [
      { name: 'down', look: 'a', of: (row) => row.down },
      { name: 'up', look: 'b', of: (row) => row.up },
    ],
  },
  {
    place: 'latencies',
    size: 'large',
    title: 'Percentiles',
    log: true,
    format: time,
    series: [
      { name: 'p99.9', look: 'c', of: inPhase('p999') },
      { name: 'p99', look: 'b', of: inPhase('p99') },
      { name: 'p50', look: 'a', of: inPhase('p50') },
    ],
  },
  {
    place: 'latencies',
    size: 'large',
    title: 'Heat map',
    heat: (row) => row.phases[phase].heat,
    format: count,
    series: [
      {
        name: 'most',
        look: 'heat',
        of: fullest,
        format: (text) => text,
        summary: 'counts of each second by latency; darker or brighter is more',
      },
    ],
  },
];

// The bucket with the most of a second, and how many it has.
function fullest(row) {
  const most = row.phases[phase].heat.reduce(
    (best, cell) => (cell[1] > best[1] ? cell : best),
    [0, 0],
  );
  if (most[1] === 0) return null;
  const bound = past.bounds[most[0]];
  return bound
    ? `up to ${time(bound)}: ${count(most[1])}`
    : `above ${time(past.bounds.at(-1))}: ${count(most[1])}`;
}

const charts = CHARTS.map((spec) => new Chart(byId(spec.place), spec, point));
const tables = {
  backends: new Table(byId('backends-table'), 'Backends, those in trouble first', BACKENDS),
  ends: new Table(
    byId('ends-table'),
    'Why connections ended, the most frequent of the last minute first',
    ENDS,
  ),
  shards: new Table(
    byId('shards-table'),
    'How connections and work are spread over the shards',
    SHARDS,
  ),
  listeners: new Table(byId('listeners-table'), 'Listeners', LISTENERS),
  bytes: new Table(
    byId('bytes-table'),
    'Bytes copied through a buffer and spliced inside the kernel',
    BYTES,
  ),
};

async function answer(path) {
  const response = await fetch(path, {
    signal: AbortSignal.timeout(PATIENCE_MS),
    cache: 'no-store',
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}

async function ask() {
  const newestEvent = events[0]?.seq ?? 0;
  const [now, history, news] = await Promise.all(
    ['/stats', `/stats/history?after=${past.newest}`, `/stats/events?after=${newestEvent}`].map(
      answer,
    ),
  );
  if (!past.take(history)) {
    forget();
    return ask();
  }
  stats = now;
  answeredAt = Date.now();
  events = [...news.events.toReversed(), ...events].slice(0, EVENTS_SHOWN_MAX);
  return undefined;
}

let timer;
let asking = false;

async function turn() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  let failure;
  try {
    await ask();
  } catch (error) {
    failure = error;
  }
  asking = false;
  timer = setTimeout(turn, document.hidden ? PERIOD_HIDDEN_MS : PERIOD_MS);
  showLife(failure);
  if (!failure) show();
}

// Whether what is shown is of now.
function showLife(failure) {
  document.body.classList.toggle('stale', failure !== undefined);
  if (!failure) return say(byId('live'), `live · ${clock(answeredAt)}`);
  const silent = failure.name === 'TimeoutError' ? 'it takes too long' : failure.message;
  const since = answeredAt
    ? `the last answer came at ${clock(answeredAt)}, ${span((Date.now() - answeredAt) / 1000)} ago`
    : 'there was none yet';
  say(byId('live'), 'no answer');
  const gone = bad(
    `No answer from ${location.host}`,
    `${since}; asked again each second (${silent})`,
  );
  return showProblems([gone], answeredAt ? 'What is below is old.' : '');
}

function showCharts() {
  for (const chart of charts) chart.show(past, moment);
}

let drawing = false;

// All charts point at the same moment.
function point(at, held = false) {
  moment = { at, held };
  redraw();
}

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    showCharts();
  });
}

byId('phases').addEventListener('change', (event) => {
  phase = event.target.value;
  if (stats) showCharts();
});
// A tap elsewhere lets go of the moment that a finger holds.
document.addEventListener('pointerdown', ({ target }) => {
  if (moment.held && !target.closest('.plot')) point(null);
});
byId('backends-more').addEventListener('click', moreBackends);
byId('filter').addEventListener('input', () => stats && showBackends());
document.addEventListener('visibilitychange', turn);
new ResizeObserver(() => stats && redraw()).observe(byId('main'));
turn();
