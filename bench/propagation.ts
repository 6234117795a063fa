/**
 * How soon does every node of a region show a change? Ten nodes with a watch at each, beside Consul with three servers, seven agents and a
 * blocking query for each service at each. About two minutes.
 * `npm run bench -- propagation [--nodes 10] [--rate 100] [--seconds 6] [--rounds 5]`; the default rate is 1,000 where the machine has eight cores.
 */
import { cpus } from "node:os";
import { argsOf, asksForAll } from "./_args.ts";
import { type Changes, changeAtRate, openMesh, othersIn, seenAt } from "./_changes.ts";
import { HttpWire } from "./_http.ts";
import { type Heard, type Mesh, startMembers, until, waymarkMesh } from "./_mesh.ts";
import type { Running } from "./_processes.ts";
import { percentile, quiet, ratioGoal, ratioOf, report, round, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { startConsulCluster } from "./adapters/consul.ts";

const DEFAULTS = { nodes: 10, rate: cpus().length >= 8 ? 1000 : 100, seconds: 6, rounds: 5 };
const values = argsOf(DEFAULTS);
const [NODES, RATE, SECONDS, ROUNDS] = [values.nodes, values.rate, values.seconds, values.rounds];
/** Services that change in turn, of one instance each. Each watch of Consul is one blocking query a service. */
const SERVICES = 100;
const SERVERS = 3;
/** Before the rounds: our program is compiled while it runs. */
const FIRST = { perSecond: 2 * RATE, seconds: 12 };

function serviceOf(k: number): string {
  return `service-${k}`;
}

function registration(k: number, version: number): string {
  return JSON.stringify({
    ID: serviceOf(k),
    Name: serviceOf(k),
    Address: "10.0.0.1",
    Port: 8080,
    Tags: ["v1", "pool-0"],
    Meta: { v: String(version) },
  });
}

/** Agents of Consul: a program registers at its agent, and asks it for what it wants to know. */
function consulMesh(servers: readonly Running[]): Mesh {
  return {
    who: `Consul, ${SERVERS} servers and ${NODES - SERVERS} agents`,
    servers,
    textOf: serviceOf,
    open: async (server) => {
      const free: HttpWire[] = [];
      const watching = await Promise.all(Array.from({ length: SERVICES }, () => HttpWire.open(server.grpc)));
      return {
        change: async (k, version) => {
          const wire = free.pop() ?? (await HttpWire.open(server.grpc));
          await wire.request({ method: "PUT", path: "/v1/agent/service/register", body: registration(k, version) });
          free.push(wire);
        },
        watch: async (heard) => {
          await Promise.all(watching.map(async (wire, k) => void follow(wire, k, await asked(wire, k, 0, heard), heard)));
        },
        close: () => [...free, ...watching].forEach((wire) => wire.close()),
      };
    },
  };
}

/**
 * A blocking query: answers when the service has changed since `index`. Gives the index of the answer. The agent answers it from its own
 * view of the service, which a server's stream of events keeps up to date: Consul's default, and the fastest that it has.
 */
async function asked(wire: HttpWire, k: number, index: number, heard: Heard): Promise<number> {
  const path = `/v1/health/service/${serviceOf(k)}?cached&index=${index}&wait=5m`;
  const { body, headers } = await wire.ask({ path });
  const version = /"v":"(\d+)"/.exec(body.toString("latin1"))?.[1];
  if (version !== undefined) heard(serviceOf(k), Number(version));
  return Number(/x-consul-index: (\d+)/.exec(headers)?.[1] ?? fail());
}

/** Asks again and again, until its connection is closed: then the last answer never comes. */
async function follow(wire: HttpWire, k: number, from: number, heard: Heard): Promise<never> {
  for (let index = from; ; ) {
    const next = await asked(wire, k, index, heard);
    // As Consul's guide says: an index that goes back begins anew.
    index = next < index ? 0 : next;
  }
}

/** Every service is there before a watch of it is opened; an agent of Consul may take half a minute before it tells of its first. */
async function fill(mesh: Mesh): Promise<void> {
  const { who, servers } = mesh;
  for (const [n, server] of servers.entries()) {
    const node = await mesh.open(server);
    for (let k = n; k < SERVICES; k += NODES) await node.change(k, 0);
    node.close();
  }
  if (servers[0]?.name !== "consul") return;
  const isWhole = async (server: Running) => {
    const wire = await HttpWire.open(server.grpc);
    const services = await wire.request({ path: "/v1/catalog/services?stale" }).finally(() => wire.close());
    return Array.from({ length: SERVICES }, (_, k) => services.includes(`"${serviceOf(k)}"`)).every(Boolean);
  };
  await until(async () => (await Promise.all(servers.map(isWhole))).every(Boolean), `${who}: every agent knows every service`);
}

const nodes = await startMembers(NODES);
const agents = await startConsulCluster(SERVERS, NODES - SERVERS);
const meshes = [waymarkMesh(nodes), ...(agents.length === 0 ? [] : [consulMesh(agents)])];
for (const mesh of meshes) await fill(mesh);
console.error(`${NODES} nodes of ${meshes.map(({ who }) => who).join("; ")}`);
const opened = [];
for (const mesh of meshes) opened.push(await openMesh(mesh));
const how = { perSecond: RATE, seconds: SECONDS, keys: SERVICES, beside: meshes };
const results = meshes.map((): Changes[] => []);
for (const mesh of opened) await changeAtRate(mesh, { ...how, ...FIRST });
for (let r = 0; r < ROUNDS; r++) {
  for (const i of r % 2 === 0 ? meshes.keys() : [...meshes.keys()].toReversed())
    results[i]?.push(await changeAtRate(opened[i] ?? fail(), how));
}
for (const mesh of opened) mesh.close();
for (const server of [...nodes, ...agents]) await server.stop("SIGKILL");

const p99s = (rounds: readonly Changes[]) => rounds.map(({ seenMs }) => percentile(seenMs, 0.99));
const [ours = fail(), theirs] = results;
const others = othersIn(results.flat());
const goal = ratioGoal({
  name: `${NODES} nodes, ${RATE} changes a second: a change seen at a node, our p99 over Consul's`,
  shown: {
    work: `${RATE} changes a second to ${NODES} nodes: time from when a change is due until a watch on a node shows it, p99`,
    beside: `Consul, ${SERVERS} servers that agree on each change by consensus (we do not), ${NODES - SERVERS} agents, blocking queries`,
    unit: "ms",
  },
  ratio: theirs && ratioOf(p99s(ours), p99s(theirs)),
  ours: seenAt(ours, 0.99),
  theirs: theirs && seenAt(theirs, 0.99),
  atMost: 0.5,
});
report({
  name: "propagation",
  isKept: NODES === DEFAULTS.nodes && asksForAll(values, DEFAULTS),
  tables: {
    [`${NODES} nodes`]: meshes.map(({ who }, i) => {
      const rounds = results[i] ?? [];
      return {
        who,
        "changes a second": RATE,
        "seen p50 ms": seenAt(rounds, 0.5),
        "p99 ms": seenAt(rounds, 0.99),
        "on the last p99 ms": seenAt(rounds, 0.99, "lastMs"),
        missing: rounds.reduce((sum, { missing }) => sum + missing, 0),
        "a change, CPU µs per node": spread(rounds.map(({ cpuUs }) => cpuUs)),
        "others' share of the machine": round(othersIn(rounds)),
      };
    }),
  },
  goals: [quiet(goal, others)],
  notes: [
    "All are real processes on this machine's cores. Both sides run at the same time, and the load and all watches run in one more process on the same cores. Rounds alternate. A change is timed from its scheduled time until each node shows it, or a later change of the same entry.",
    `${SERVICES} services of one instance change in turn, each always on one node. In Consul, a program registers with its agent, which updates a server; each agent has a blocking query for each service (\`?cached\`), answered from a view that a stream from a server keeps up to date. The index of each answer is used in the next query.`,
    "Consul uses its defaults for a LAN, `raft_multiplier` 1 as recommended for production, Go's default number of threads, no rate limits, and a separate address for each agent. Waymark uses its defaults, and a data directory on each node.",
    "Consul's servers agree on each change before it counts, and its agents write their own services to disk. A Waymark node writes a change to its journal and then sends it to the others. A change that only one Waymark node has received is lost if the disk of that node is lost.",
    "Consul's watches are a thousand HTTP connections with a query for each change, as its users have them; Waymark's are ten streams. Both times include the driver's share.",
  ],
});
