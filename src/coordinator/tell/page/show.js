// Puts the newest answers into the page, part by part, in the order they stand there.

function show() {
  showFacts();
  losses.add(lossesOf(stats));
  const found = problems(stats, past, losses);
  const healthy = sum(stats.pools.map((pool) => pool.healthy));
  const all = sum(stats.pools.map((pool) => pool.backends.length));
  const fresh = rate(past.rows.at(-1)?.accepted ?? 0);
  showProblems(
    found,
    `${healthy} of ${plural(all, 'backend')} healthy, ${fresh} new connections/s`,
  );
  showCharts();
  totals.add(totalsOf(stats));
  showBackends();
  showEnds();
  showShards();
  tables.listeners.show(stats.listeners.map((listener) => ({ key: listener.name, ...listener })));
  showBytes();
  showEvents();
}

function showFacts() {
  const facts = {
    state: stats.state,
    driver: stats.driver_reason ? `${stats.driver} (${stats.driver_reason})` : stats.driver,
    config: `generation ${stats.config.generation} · ${stats.config.digest.slice(0, 8)}`,
    uptime: span(stats.uptime_s),
    version: stats.version,
  };
  const place = byId('facts');
  if (!place.hasChildNodes()) {
    place.append(
      ...Object.keys(facts).map((name) =>
        make('div', {}, make('dt', {}, name), make('dd', { id: `fact-${name}` })),
      ),
    );
  }
  for (const [name, text] of Object.entries(facts)) say(byId(`fact-${name}`), text);
  mark(byId('fact-config'), 'title', stats.config.digest);
}

const LEVELS = { bad: '✖', warn: '▲' };

function showProblems(found, calm) {
  const level = found[0]?.level ?? 'good';
  const others = found.length > 1 ? `, and ${plural(found.length - 1, 'more problem')}` : '';
  say(byId('headline'), found.length ? `${found[0].what}${others}` : 'All is well');
  mark(byId('now'), 'data-level', level);
  document.title = found.length ? `(${found.length}) ${found[0].what} · Ringway` : 'Ringway';
  // One alone needs no second line with the same words.
  const text = ({ what, more }) => (found.length > 1 && more ? `${what}: ${more}` : more || what);
  const lines = found.map((problem) => ({
    level: found.length > 1 ? problem.level : '',
    text: text(problem),
  }));
  const last =
    calm && (found.length === 0 || document.body.classList.contains('stale'))
      ? [{ level: '', text: calm }]
      : [];
  const list = byId('problems');
  const wanted = [...lines, ...last];
  while (list.children.length > wanted.length) list.lastChild.remove();
  wanted.forEach(({ level, text }, i) => {
    const item = list.children[i] ?? list.appendChild(make('li'));
    mark(item, 'data-level', level);
    say(item, LEVELS[level] ? `${LEVELS[level]} ${text}` : text);
  });
}

function showBackends() {
  const all = stats.pools.flatMap((pool) =>
    pool.backends.map((backend) => ({
      ...backend,
      pool: pool.name,
      key: `${pool.name}/${backend.name}`,
      failures: sum(Object.values(backend.failures_total)),
      level: backend.state,
    })),
  );
  const wanted = byId('filter').value.trim().toLowerCase();
  const matching = withTraffic(all).filter(({ key, address, state }) =>
    `${key} ${address} ${state}`.toLowerCase().includes(wanted),
  );
  matching.sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state));
  const out = matching.filter(({ state }) => state !== 'healthy').length;
  backendsShown = Math.max(backendsWanted, Math.min(out, BACKENDS_OUT_SHOWN_MAX));
  tables.backends.show(matching, backendsShown);
  showMore(matching.length);
  const shown = Math.min(matching.length, backendsShown);
  say(
    byId('backends-count'),
    shown < all.length
      ? `${count(shown)} of ${count(all.length)} shown; sort or filter for others`
      : plural(all.length, 'backend'),
  );
}

// The button stays where it is as long as it has a use: whoever pressed it may press it again.
function showMore(matching) {
  backendsLeft = Math.max(matching - backendsShown, 0);
  const [button, more] = [byId('backends-more'), Math.min(backendsLeft, BACKENDS_MORE)];
  say(button, more > 0 ? `Show ${plural(more, 'more backend')}` : 'Show fewer backends');
  button.hidden = more === 0 && (backendsWanted === BACKENDS_SHOWN || matching <= BACKENDS_SHOWN);
}

function moreBackends() {
  backendsWanted = backendsLeft > 0 ? backendsShown + BACKENDS_MORE : BACKENDS_SHOWN;
  showBackends();
}

// How many connections each backend has had.
function totalsOf(stats) {
  const each = stats.pools.flatMap((pool) =>
    pool.backends.map((backend) => [`${pool.name}/${backend.name}`, backend.connections_total]),
  );
  return new Map(each);
}

// With their part of the pool's new connections of the last ten seconds, as far as this page has
// seen them.
function withTraffic(backends) {
  const [first, last] = totals.ends();
  const seconds = (last.at - first.at) / 1000;
  const [before, now] = [first.value, last.value];
  const fresh = (key) => Math.max(0, now.get(key) - (before.get(key) ?? now.get(key)));
  const ofPool = {};
  for (const { pool, key } of backends) ofPool[pool] = (ofPool[pool] ?? 0) + fresh(key);
  return backends.map((backend) => ({
    ...backend,
    share: ofPool[backend.pool] > 0 ? fresh(backend.key) / ofPool[backend.pool] : null,
    rate: seconds > 0 ? fresh(backend.key) / seconds : null,
  }));
}

function showEnds() {
  const ofAll = (counts) =>
    counts.reduce((all, some) => {
      for (const [reason, n] of Object.entries(some)) all[reason] = (all[reason] ?? 0) + n;
      return all;
    }, {});
  const total = ofAll(stats.listeners.map((listener) => listener.ended_total));
  const minute = ofAll(past.last(60).map((row) => row.endedBy));
  const ended = Math.max(1, sum(Object.values(minute)));
  const items = Object.keys(total).map((key) => ({
    key,
    total: total[key],
    minute: minute[key] ?? 0,
    share: (minute[key] ?? 0) / ended,
    level: past.errorReasons.has(key) ? 'error' : 'good',
  }));
  tables.ends.show(items.sort((a, b) => b.minute - a.minute || b.total - a.total));
}

function showShards() {
  const open = Math.max(1, sum(stats.shards.map((shard) => shard.connections_active)));
  tables.shards.show(
    stats.shards.map((shard) => ({
      ...shard,
      key: shard.id,
      share: shard.connections_active / open,
    })),
  );
  const spread = Number(stats.shard_spread.toFixed(2));
  say(byId('shards'), `Shards · busiest has ${spread} × the mean`);
}

function showBytes() {
  const total = (name) => sum(stats.listeners.map((listener) => listener[`bytes_${name}_total`]));
  const minutes = (name) => sum(past.rows.map((row) => row[name]));
  const all = Math.max(1, minutes('copied') + minutes('spliced'));
  const newest = past.rows.at(-1);
  const now = (name) => (newest ? (newest[name] * 1000) / newest.span : 0);
  tables.bytes.show(
    ['copied', 'spliced'].map((key) => ({
      key,
      now: now(key),
      minutes: minutes(key),
      share: minutes(key) / all,
      total: total(key),
    })),
  );
}

let shownOf;

function showEvents() {
  const list = byId('events-list');
  // A restarted instance counts from one again.
  if (shownOf !== past.started) list.replaceChildren();
  shownOf = past.started;
  const newest = list.firstChild?.value ?? 0;
  const fresh = events.filter((event) => event.seq > newest);
  list.prepend(
    ...fresh.map((event) =>
      make(
        'li',
        { value: event.seq, 'data-level': weight(event) },
        make('time', { datetime: new Date(event.unix_ms).toISOString() }, clock(event.unix_ms)),
        ' ',
        make('b', {}, event.kind.replaceAll('_', ' ')),
        ' ',
        make('span', {}, told(event)),
      ),
    ),
  );
  while (list.children.length > EVENTS_SHOWN_MAX) list.lastChild.remove();
}

function weight(event) {
  const worse =
    event.to === 'unhealthy' ||
    event.to === 'ejected' ||
    event.panic === true ||
    event.kind === 'limit_reached';
  return worse ? 'bad' : '';
}

// What an event says, in its own fields.
function told({ seq, unix_ms, kind, from, to, reason, pool, backend, digest, ...rest }) {
  const who = [pool, backend].filter(Boolean).join('/');
  const change = to ? `${from} → ${to}` : '';
  const others = Object.entries(rest)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name} ${value}`)
    .join(', ');
  const said = [who, change, others].filter(Boolean).join(' ');
  return reason ? `${said}: ${reason}` : said;
}
