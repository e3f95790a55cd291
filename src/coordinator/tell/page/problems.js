// What is wrong now, in plain words, worst first. `what` stays the same while the problem does, so
// that it is announced once; `more` has the figures of the moment.

const FULL = 0.9;

// Parts of the connections that end: a server resets one now and then on the best of days.
const FAILING = 0.01;
const FAILING_BADLY = 0.05;

// Said one by one; further ones are counted.
const BACKENDS_SAID_MAX = 3;

const bad = (what, more = '') => ({ level: 'bad', what, more });
const warning = (what, more = '') => ({ level: 'warn', what, more });

function problems(stats, past, losses) {
  const found = [
    ...life(stats),
    ...stats.pools.flatMap((pool) => ofPool(pool, stats.listeners)),
    ...failures(past),
    ...stats.pools.flatMap(ofBackends),
    ...stats.pools.flatMap(ofNames),
    ...full(stats),
    ...lost(losses),
  ];
  return [
    ...found.filter(({ level }) => level === 'bad'),
    ...found.filter(({ level }) => level !== 'bad'),
  ];
}

function life(stats) {
  if (stats.state === 'running') return [];
  return [warning(`Not ready: the process is ${stats.state}`, 'it was asked to stop')];
}

function ofPool(pool, listeners) {
  const served = listeners
    .filter((listener) => listener.pool === pool.name)
    .map(({ name }) => name);
  const of = `${pool.healthy} of ${pool.backends.length} backends healthy`;
  if (pool.healthy === 0 && served.length > 0) {
    const panic = pool.panic ? 'all are tried (panic)' : 'new clients are reset';
    return [
      bad(
        `Pool ${pool.name} has no usable backend`,
        `listener ${served.join(', ')}; ${panic}`,
      ),
    ];
  }
  return pool.panic ? [bad(`Pool ${pool.name} is in panic`, `${of}, all are used`)] : [];
}

// Of the last ten seconds: what is over is in the charts. Only what the proxy and the backends do
// counts, and of those whom a listener wants: a crowd that it does not want hides nothing.
function failures(past) {
  const rows = past.last(10);
  const ended = (reason) => sum(rows.map((row) => row.endedBy[reason] ?? 0));
  const by = [...past.failureReasons].map((reason) => [reason, ended(reason)]);
  const wanted = sum(rows.map((row) => row.ended)) - ended('denied');
  const part = sum(by.map(([, n]) => n)) / Math.max(1, wanted);
  if (part < FAILING) return [];
  const most = by
    .filter(([, n]) => n > 0)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 3);
  const said = most.map(([reason, n]) => `${reason} ${count(n)}`).join(', ');
  const say = part >= FAILING_BADLY ? bad : warning;
  const of = `${percent(part)} of those that ended in the last 10 s`;
  return [say('Connections fail', `${of}: ${said}`)];
}

function ofBackends(pool) {
  const out = pool.backends.filter(({ state }) => state !== 'healthy');
  const said = out.slice(0, BACKENDS_SAID_MAX).map((backend) => {
    const asked = ['draining', 'disabled'].includes(backend.state);
    return (asked ? warning : bad)(
      `Backend ${backend.name} is ${backend.state}`,
      `pool ${pool.name}: ${backend.reason}`,
    );
  });
  const left = out.length - said.length;
  return left > 0
    ? [...said, bad(`Further backends of pool ${pool.name} are not healthy`, count(left))]
    : said;
}

function ofNames(pool) {
  const failing = pool.names.filter(({ state }) => state === 'failing');
  return failing.map(({ name, error }) => warning(`Name ${name} cannot be looked up`, error));
}

function full(stats) {
  const found = [];
  const places = (what, taken, most) => {
    if (most > 0 && taken / most >= FULL)
      found.push(bad(`${what} is nearly full`, `${count(taken)} of ${count(most)} connections`));
  };
  places('The process', stats.connections_active, stats.max_connections);
  for (const { name, connections_active: taken, max_connections: most } of stats.listeners) {
    if (most < stats.max_connections) places(`Listener ${name}`, taken, most);
  }
  for (const { id, busy_ratio: busy } of stats.shards) {
    if (busy >= FULL)
      found.push(warning(`Shard ${id} has no time left`, `${percent(busy)} of a core`));
  }
  return found;
}

// What can run short without a client's harm: what is said of it, how, and what to do about it.
const LOSSES = [
  {
    of: (stats) => stats.access_log.dropped_total,
    what: 'The access log loses lines',
    noun: 'line',
    more: 'its disk or its reader is too slow, or full',
  },
  {
    of: (stats) => stats.log_lines_lost_total,
    what: 'The log loses lines',
    noun: 'line',
    more: 'whoever reads stderr is too slow',
  },
  {
    // Without any by configuration nobody misses them.
    of: ({ shards }) =>
      sum(shards.filter(({ pipes_max: most }) => most > 0).map((shard) => shard.pipes_dry_total)),
    what: 'Shards run out of pipes',
    noun: 'time',
    more: 'bytes are copied instead of spliced; pipes_per_shard is how many there are',
  },
  {
    of: ({ shards }) => sum(shards.map((shard) => shard.buffers_dry_total)),
    what: 'Shards run out of buffers',
    noun: 'time',
    more: 'bytes take one more call each; none is lost',
  },
];

const lossesOf = (stats) => LOSSES.map(({ of }) => of(stats));

// In the last minute, as far as this page has seen it.
function lost(losses) {
  const [before, now] = losses.ends();
  return LOSSES.flatMap(({ what, noun, more }, i) => {
    const fresh = now.value[i] - before.value[i];
    return fresh > 0 ? [warning(what, `${plural(fresh, noun)} in the last minute: ${more}`)] : [];
  });
}
