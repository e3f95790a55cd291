// What is wrong now, in plain words, worst first. `what` stays the same while the problem does, so
// that it is announced once; `more` has the figures of the moment.

const FULL = 0.9;

// Parts of the connections that end: some clients reset theirs on the best of days.
const FAILING = 0.01;
const FAILING_BADLY = 0.05;

// Said one by one; further ones are counted.
const BACKENDS_SAID_MAX = 3;

const bad = (what, more = '') => ({ level: 'bad', what, more });
const warning = (what, more = '') => ({ level: 'warn', what, more });

function problems(stats, past) {
  const found = [
    ...life(stats),
    ...stats.pools.flatMap((pool) => ofPool(pool, stats.listeners)),
    ...errors(past),
    ...stats.pools.flatMap(ofBackends),
    ...stats.pools.flatMap(ofNames),
    ...full(stats),
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
        `Not ready: pool ${pool.name} has no usable backend`,
        `listener ${served.join(', ')}; ${panic}`,
      ),
    ];
  }
  return pool.panic ? [bad(`Pool ${pool.name} is in panic`, `${of}, all are used`)] : [];
}

// Of the last ten seconds: what is over is in the charts.
function errors(past) {
  const rows = past.last(10);
  const [failed, ended] = [sum(rows.map((row) => row.failed)), sum(rows.map((row) => row.ended))];
  const part = failed / Math.max(1, ended);
  if (part < FAILING) return [];
  const by = [...past.errorReasons].map((reason) => [
    reason,
    sum(rows.map((row) => row.endedBy[reason] ?? 0)),
  ]);
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
