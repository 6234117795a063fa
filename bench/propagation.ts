/**
 * How soon does every node of a region show a change? Ten nodes with a watch at each, beside Consul with three servers, seven agents and a
 * blocking query for each service at each: `npm run bench -- propagation [--nodes 10] [--rate 100] [--seconds 10] [--rounds 3]`.
 */
import { parseArgs } from "node:util";
import { type Changes, changeAtRate, type Heard, type Mesh, waymarkMesh } from "./_changes.ts";
import { HttpWire } from "./_http.ts";
import { type Running, scratchDir, startNode } from "./_processes.ts";
import { percentile, report, spread } from "./_results.ts";
import { fail } from "./_work.ts";
import { startConsulCluster } from "./adapters/consul.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "10" },
    rate: { type: "string", default: "100" },
    seconds: { type: "string", default: "10" },
    rounds: { type: "string", default: "3" },
  },
});
const [NODES, RATE, SECONDS, ROUNDS] = [Number(values.nodes), Number(values.rate), Number(values.seconds), Number(values.rounds)];
/** Services that change in turn, of one instance each. Each watch of Consul is one blocking query a service. */
const SERVICES = 100;
const CHANGES = { perSecond: RATE, seconds: SECONDS, keys: SERVICES };
const SERVERS = 3;

function serviceOf(k: number): string {
  return `service-${k}`;
}

function registration(k: number, version: number): string {
  return JSON.stringify({
    ID: serviceOf(k),
    Name: serviceOf(k),
    Address: "10.0.0.1",
    Port: 8080,
    Tags: ["v1"],
    Meta: { v: String(version) },
  });
}

/** Agents of Consul: a program registers at its agent, and asks it for what it wants to know, from its cache. */
function consulMesh(servers: readonly Running[]): Mesh {
  return {
    servers,
    textOf: serviceOf,
    open: async (server) => {
      const free: HttpWire[] = [];
      const watching = await Promise.all(Array.from({ length: SERVICES }, () => HttpWire.open(server.grpc)));
      let isClosing = false;
      return {
        server,
        change: async (k, version) => {
          const wire = free.pop() ?? (await HttpWire.open(server.grpc));
          await wire.request({ method: "PUT", path: "/v1/agent/service/register", body: registration(k, version) });
          free.push(wire);
        },
        watch: async (heard) => {
          await Promise.all(
            watching.map(async (wire, k) => {
              const index = await asked(wire, k, 0, heard);
              void follow(wire, k, index, heard, () => isClosing);
            }),
          );
        },
        close: () => {
          isClosing = true;
          for (const wire of [...free, ...watching]) wire.close();
        },
      };
    },
  };
}

/** A blocking query: answers when the service has changed since `index`. Gives the index of the answer. */
async function asked(wire: HttpWire, k: number, index: number, heard: Heard): Promise<number> {
  const path = `/v1/health/service/${serviceOf(k)}?cached&index=${index}&wait=5m`;
  const { body, headers } = await wire.ask({ path });
  const version = /"v":"(\d+)"/.exec(body.toString("latin1"))?.[1];
  if (version !== undefined) heard(serviceOf(k), Number(version));
  return Number(/x-consul-index: (\d+)/.exec(headers)?.[1] ?? fail());
}

async function follow(wire: HttpWire, k: number, from: number, heard: Heard, isOver: () => boolean): Promise<void> {
  for (let index = from; !isOver(); ) {
    try {
      index = await asked(wire, k, index, heard);
    } catch (error) {
      if (!isOver()) throw error;
    }
  }
}

const nodes: Running[] = [];
let seed: readonly string[] = [];
for (let i = 0; i < NODES; i++) {
  const node = await startNode({
    dataDir: scratchDir("propagation"),
    isFree: true,
    isPlain: true,
    args: ["--node-id", `bench-${i}`, ...seed],
  });
  if (i === 0) seed = ["--join", node.listeners["fabric"] ?? fail()];
  nodes.push(node);
}
const agents = await startConsulCluster(SERVERS, NODES - SERVERS);
const sides: readonly { readonly who: string; readonly mesh: Mesh }[] = [
  { who: "waymark", mesh: waymarkMesh(nodes) },
  ...(agents.length === 0 ? [] : [{ who: `consul, ${SERVERS} servers, ${NODES - SERVERS} agents`, mesh: consulMesh(agents) }]),
];
// Every service is there before a watch of it is opened.
for (const { mesh } of sides) {
  for (const [n, server] of mesh.servers.entries()) {
    const node = await mesh.open(server);
    for (let k = n; k < SERVICES; k += NODES) await node.change(k, 0);
    node.close();
  }
}
const results = sides.map((): Changes[] => []);
for (const { mesh } of sides) await changeAtRate(mesh, { ...CHANGES, seconds: 2 });
for (let r = 0; r < ROUNDS; r++) {
  for (const i of r % 2 === 0 ? [...sides.keys()] : [...sides.keys()].toReversed()) {
    const { mesh, who } = sides[i] ?? fail();
    console.error(who);
    results[i]?.push(await changeAtRate(mesh, CHANGES));
  }
}
for (const server of [...nodes, ...agents]) await server.stop("SIGKILL");

const p99Of = (i: number) =>
  percentile(
    (results[i] ?? []).flatMap(({ seenMs }) => seenMs),
    0.99,
  );
report({
  name: "propagation",
  isKept: NODES === 10 && ROUNDS >= 3,
  tables: {
    "ten nodes": sides.map(({ who }, i) => ({
      who,
      "changes a second": RATE,
      "seen p50 ms": percentile(
        (results[i] ?? []).flatMap(({ seenMs }) => seenMs),
        0.5,
      ),
      "p99 ms": p99Of(i),
      "a change, CPU µs a node": spread((results[i] ?? []).map(({ cpuUs }) => cpuUs)),
    })),
  },
  goals: [
    {
      name: `${NODES} nodes, ${RATE} changes a second: a change seen at a node, our p99 over Consul's`,
      value: agents.length === 0 ? undefined : p99Of(0) / p99Of(1),
      unit: "×",
      atMost: 0.5,
      ...(agents.length === 0 && { note: "not measured: the peer is not installed" }),
    },
  ],
  notes: [
    "Real processes on this machine's two cores, and the load with all watches in one more process on the same cores. A change is timed from when the schedule had it until each node shows it.",
    `${SERVICES} services of one instance change in turn, each at one node. Consul: a program registers at its agent, which tells a server; each agent has a blocking query for each service, answered from its cache (\`?cached\`), which streams from a server.`,
    "For us: Consul's servers agree on each change before it counts.",
  ],
});
