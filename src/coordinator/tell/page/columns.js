// What the columns of each table say.

const latency = (backend, phase, name) => backend.latency[phase]['10s'][name];
const timeOf = (item, phase, name) =>
  latency(item, phase, 'count') ? time(latency(item, phase, name)) : '–';
const latencyColumn = (name, phase, quantile) => ({
  name,
  number: true,
  text: (item) => timeOf(item, phase, quantile),
  order: (item) => latency(item, phase, quantile),
});

const STATES = ['unhealthy', 'ejected', 'draining', 'disabled', 'healthy'];

const BACKENDS = [
  {
    name: 'Backend',
    text: ({ name }) => name,
    small: ({ pool, address }) => `${pool} · ${address}`,
    order: ({ name }) => name,
    first: 1,
  },
  {
    name: 'State',
    look: 'state',
    text: ({ state }) => state,
    small: ({ reason }) => reason,
    order: ({ state }) => STATES.indexOf(state),
    first: 1,
  },
  {
    name: 'Share',
    number: true,
    text: ({ share }) => (share === null ? '–' : percent(share)),
    bar: ({ share }) => share ?? 0,
    order: ({ share }) => share ?? -1,
  },
  {
    name: 'New/s',
    number: true,
    text: (item) => (item.rate === null ? '–' : rate(item.rate)),
    order: (item) => item.rate ?? -1,
  },
  {
    name: 'In flight',
    number: true,
    text: ({ connections_active: n }) => count(n),
    order: ({ connections_active: n }) => n,
  },
  latencyColumn('Connect p50', 'connect', 'p50_us'),
  latencyColumn('Connect p99', 'connect', 'p99_us'),
  latencyColumn('First byte p50', 'first_byte', 'p50_us'),
  latencyColumn('First byte p99', 'first_byte', 'p99_us'),
  {
    name: 'Failures',
    number: true,
    text: ({ failures }) => count(failures),
    order: ({ failures }) => failures,
  },
];

const ENDS = [
  { name: 'Reason', look: 'state', text: ({ key }) => key },
  {
    name: 'Last minute',
    number: true,
    text: ({ minute }) => count(minute),
    bar: ({ share }) => share,
  },
  { name: 'Since start', number: true, text: ({ total }) => count(total) },
];

const SHARDS = [
  {
    name: 'Shard',
    text: ({ id }) => String(id),
    small: ({ cpu }) => (cpu === null ? 'not pinned' : `CPU ${cpu}`),
  },
  {
    name: 'Open',
    number: true,
    text: ({ connections_active: n }) => count(n),
    bar: ({ share }) => share,
  },
  {
    name: 'Busy',
    number: true,
    text: ({ busy_ratio: busy }) => percent(busy),
    bar: ({ busy_ratio: busy }) => busy,
  },
  { name: 'Longest turn', number: true, text: ({ turn_max_us: us }) => time(us) },
  {
    name: 'Pipes',
    number: true,
    text: ({ pipes_in_use: used, pipes_max: most }) => `${used} of ${most}`,
  },
];

const LISTENERS = [
  { name: 'Listener', text: ({ name }) => name, small: ({ addresses }) => addresses.join(' ') },
  {
    name: 'Open',
    number: true,
    text: ({ connections_active: n }) => count(n),
    bar: (item) => item.connections_active / item.max_connections,
  },
  { name: 'Accepted', number: true, text: ({ accepted_total: n }) => count(n) },
  { name: 'Refused', number: true, text: ({ refused_total: by }) => count(sum(Object.values(by))) },
];

const BYTES = [
  { name: 'Way', text: ({ key }) => key },
  { name: 'Now', number: true, text: ({ now }) => `${bytes(now)}/s` },
  {
    name: 'Five minutes',
    number: true,
    text: ({ minutes }) => bytes(minutes),
    bar: ({ share }) => share,
  },
  { name: 'Since start', number: true, text: ({ total }) => bytes(total) },
];
