/**
 * What does this version cost beside another one? Both nodes run on one core, in rounds that alternate; the other is a checkout
 * with its packages. `npm run bench -- versions --other ../waymark-before [--rounds 40] [--only query,dns]`. The ratio is of CPU
 * time a unit of work, with its 95 % interval (Student's t over the logarithms of paired rounds): slower for sure is what has its
 * lower end above 1.
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import dns from "dns-packet";
import { EntryKind, EntrySchema, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import {
  NamespaceStatusRequestSchema,
  NamespaceStatusResponseSchema,
  RegisterRequestSchema,
  RenewRequestSchema,
  ResolveRequestSchema,
} from "../gen/waymark/discovery/v1/discovery_pb.js";
import { mustRun } from "../scripts/run.ts";
import { argsOf } from "./_args.ts";
import { interval } from "./_interval.ts";
import { listenerOf, type Node, pinSelf, scratchDir, startNode } from "./_processes.ts";
import { commit, report, spread } from "./_results.ts";
import { inRounds, type Side, type Work } from "./_rounds.ts";
import { Watchers } from "./_watchers.ts";
import {
  ask,
  drive,
  exactQuery,
  leaseIn,
  loadNode,
  NAMESPACE,
  PATH,
  prefixQuery,
  registerBytes,
  tagQuery,
  unregisterBytes,
} from "./_work.ts";

const values = argsOf({ other: "", rounds: 40, only: "" });
const ROUNDS = values.rounds;
/** Fewer give no verdict that is worth keeping. */
const MIN_ROUNDS = 10;
const ENTRIES = 20_000;
/** How often a follower is asked what it has taken in, and for how long. */
const LOOK_MS = 20;
const MAX_WAIT_MS = 60_000;
/** Changes until a follower is waited for: each of another key, as of two changes of one key that are on their way together it is told one. */
const FOLLOWED = 10_000;
const SERVICE = "/waymark.discovery.v1.DiscoveryService";

interface Path {
  readonly name: string;
  readonly unit: string;
  readonly hasPolicy?: boolean;
  readonly isDurable?: boolean;
  /** Whether a second node follows the first: it is that one which is measured. */
  readonly isFollowed?: boolean;
  readonly open: (node: Node) => Promise<Work>;
}

const calls =
  (path: string, message: Uint8Array, inFlight = 64, connections = 4) =>
  (node: Node) =>
    Promise.resolve(async (count: number) => {
      await drive(node, path, { count, inFlight, connections, message: () => message });
      return count;
    });

function resolveBytes(name: string): Uint8Array {
  return toBinary(ResolveRequestSchema, create(ResolveRequestSchema, { namespace: NAMESPACE, name }));
}

/** Static keys that are held: each batch changes its entries, or none does. */
function registers(batch: number, inFlight: number, changes = true): Path["open"] {
  let lap = 1;
  return (node) =>
    Promise.resolve(async (count: number) => {
      const [first, requests] = [lap, Math.ceil(count / batch)];
      if (changes) lap += Math.ceil(count / ENTRIES);
      const message = (i: number) => {
        const from = (i * batch) % ENTRIES;
        return registerBytes(from, from + batch, { version: changes ? first + Math.floor((i * batch) / ENTRIES) : first });
      };
      await drive(node, PATH.register, { count: requests, inFlight, connections: 4, message });
      return requests * batch;
    });
}

/** Keys above those that are held: as many come before one comes again, when nothing is known of it any more. */
const COMING = { from: 40_000, count: 4_000_000 } as const;
/** Requests until what has come goes again. */
const WAVE = 100;

/** New keys, each request's under a new lease; then they are taken out. */
function comeAndGo(batch: number, inFlight: number): Path["open"] {
  let come = 0;
  return (node) => {
    const wave = async (requests: number) => {
      const first = COMING.from + (come % COMING.count);
      come += requests * batch;
      const options = { count: requests, inFlight, connections: 4 };
      const put = (i: number) => registerBytes(first + i * batch, first + (i + 1) * batch, { isStatic: false });
      const end = (i: number) => unregisterBytes(Array.from({ length: batch }, (_, k) => first + i * batch + k));
      await drive(node, PATH.register, { ...options, message: put });
      await drive(node, PATH.unregister, { ...options, message: end });
    };
    return Promise.resolve(async (count: number) => {
      const requests = Math.ceil(count / batch);
      for (let left = requests; left > 0; left -= WAVE) await wave(Math.min(WAVE, left));
      return requests * batch;
    });
  };
}

async function renewals(node: Node): Promise<Work> {
  const leaseIds: string[] = [];
  const message = (i: number) => registerBytes(30_000 + i, 30_001 + i, { isStatic: false });
  await drive(node, PATH.register, { count: 10, inFlight: 1, message, onAnswer: (answer) => leaseIds.push(leaseIn(answer)) });
  const bytes = toBinary(RenewRequestSchema, create(RenewRequestSchema, { leaseIds }));
  return async (count) => {
    await drive(node, `${SERVICE}/Renew`, { count, inFlight: 64, connections: 4, message: () => bytes });
    return count;
  };
}

/** A name with a thousand instances, beside the others with ten. */
const CROWD = "crowd";

async function openCrowd(node: Node): Promise<void> {
  const entries = Array.from({ length: 1000 }, (_, i) =>
    create(EntrySchema, {
      key: { kind: EntryKind.SERVICE, namespace: NAMESPACE, name: CROWD, instanceId: `i-${i}` },
      scope: Scope.REGION,
      targets: [{ host: `10.9.${i >> 8}.${i & 255}`, port: 8080, protocol: "grpc" }],
    }),
  );
  const message = toBinary(RegisterRequestSchema, create(RegisterRequestSchema, { entries, staticLease: true }));
  await drive(node, PATH.register, { count: 1, inFlight: 1, message: () => message });
}

/** `begin`, of a node that has the crowd too. */
const crowded = (begin: Path["open"]) => async (node: Node) => {
  await openCrowd(node);
  return begin(node);
};

const dnsQuestions =
  (type: "A" | "SRV", owner: string) =>
  async (node: Node): Promise<Work> => {
    const { host, port } = listenerOf(node, "dns");
    const socket = createSocket("udp4");
    socket.connect(port, host);
    await once(socket, "connect");
    const name = `${owner}.${NAMESPACE}.waymark`;
    // Room for ten SRV records and their addresses (RFC 6891).
    const opt = { type: "OPT", name: ".", udpPayloadSize: 4096, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false } as const;
    const additionals = [{ ...opt, options: [] }];
    const rest = type === "SRV" ? { additionals } : {};
    const question = dns.encode({ type: "query", id: 1, flags: dns.RECURSION_DESIRED, questions: [{ type, name }], ...rest });
    return async (count) => {
      let [sent, got] = [0, 0];
      await new Promise<void>((resolve, reject) => {
        const send = () => {
          if (sent < count) socket.send(question);
          sent += 1;
        };
        socket.removeAllListeners("message").on("message", (bytes) => {
          // ANCOUNT (RFC 1035, 4.1.1).
          if (bytes.readUInt16BE(6) === 0) reject(new Error("an answer without records"));
          got += 1;
          if (got === count) resolve();
          else send();
        });
        for (let i = 0; i < 16; i++) send();
      });
      return count;
    };
  };

async function httpQueries(node: Node): Promise<Work> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const body = JSON.stringify({ namespace: NAMESPACE, names: ["service-7"] });
  const url = `http://${node.listeners["http"]}${PATH.query}`;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const call = request(url, { agent, method: "POST", headers: { "content-type": "application/json" } }, (answer) => {
        if (answer.statusCode !== 200) reject(new Error(`status ${answer.statusCode}`));
        answer.resume().once("end", resolve);
      });
      call.once("error", reject).end(body);
    });
  return async (count) => {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await one();
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    return count;
  };
}

/** To be closed before their nodes are stopped. */
const watching: Watchers[] = [];

async function fanOut(node: Node): Promise<Work> {
  const watchers = await Watchers.open(node, { entryBytes: 0, etcdValue: Buffer.alloc(0) }, 100);
  watching.push(watchers);
  return async (count) => {
    const before = watchers.delivered;
    while (watchers.delivered < before + count) await watchers.wave(100, 32);
    return watchers.delivered - before;
  };
}

const PATHS: readonly Path[] = [
  { name: "Register, batches of 100", unit: "entry", open: registers(100, 8) },
  { name: "Register again, batches of 100", unit: "entry", open: registers(100, 8, false) },
  { name: "Register, one at a time", unit: "entry", open: registers(1, 64) },
  { name: "Register, durable", unit: "entry", isDurable: true, open: registers(10, 16) },
  { name: "Register of 100, durable", unit: "entry", isDurable: true, open: registers(100, 8) },
  { name: "keys that come and go, batches of 100", unit: "entry", open: comeAndGo(100, 8) },
  { name: "keys that come and go, durable", unit: "entry", isDurable: true, open: comeAndGo(100, 8) },
  { name: "Renew of 10 leases", unit: "call", open: renewals },
  { name: "CatalogQuery, exact", unit: "call", open: calls(PATH.query, exactQuery(500)) },
  { name: "CatalogQuery, prefix page of 100", unit: "call", open: calls(PATH.query, prefixQuery(100)) },
  { name: "CatalogQuery, by tag", unit: "call", open: calls(PATH.query, tagQuery(1, 10)) },
  { name: "CatalogQuery, 100 calls on one connection", unit: "call", open: calls(PATH.query, exactQuery(500), 100, 1) },
  { name: "Resolve, 10 instances", unit: "call", open: calls(`${SERVICE}/Resolve`, resolveBytes("service-7")) },
  {
    name: "Resolve, 1,000 instances",
    unit: "call",
    open: crowded(calls(`${SERVICE}/Resolve`, resolveBytes(CROWD))),
  },
  { name: "DNS, A of 10 instances", unit: "packet", open: dnsQuestions("A", "service-7") },
  { name: "DNS, SRV of 10 instances", unit: "packet", open: dnsQuestions("SRV", "_svc._tcp.service-7") },
  { name: "DNS, A of 1,000 instances", unit: "packet", open: crowded(dnsQuestions("A", CROWD)) },
  { name: "CatalogQuery, exact, with a policy", unit: "call", hasPolicy: true, open: calls(PATH.query, exactQuery(500)) },
  { name: "keys that come and go, with a policy", unit: "entry", hasPolicy: true, open: comeAndGo(100, 8) },
  { name: "HTTP/JSON query", unit: "call", open: httpQueries },
  { name: "watch, 100 streams", unit: "delta", open: fanOut },
  { name: "replication, at the peer", unit: "entry", isFollowed: true, open: registers(100, 8) },
];

interface NodeSide extends Side {
  readonly nodes: readonly Node[];
}

/** Settings of a node with a hundred rules, of which one lets everybody of its cluster see what is asked for. */
function policySettings(): string {
  const folder = scratchDir("versions");
  const [file, config] = [join(folder, "policy.json"), join(folder, "node.toml")];
  const others = Array.from({ length: 99 }, (_, i) => ({ namespace: `org${i}.part`, visibility_tenants: ["a", "b"] }));
  const rules = [...others, { namespace: NAMESPACE, visibility: ["local"] }];
  writeFileSync(file, JSON.stringify({ version: "bench", default_allow: false, rules }));
  writeFileSync(config, `[policy]\nfile = ${JSON.stringify(file)}\n`);
  return config;
}

async function open({ isDurable = false, isFollowed = false, hasPolicy = false, open: begin }: Path, root?: string): Promise<NodeSide> {
  const from = root === undefined ? {} : { root };
  const flags = hasPolicy ? ["--config", policySettings()] : [];
  const node = await startNode({ ...from, ...(isDurable && { dataDir: scratchDir("versions") }), args: flags });
  const follower = isFollowed ? await startNode({ ...from, args: ["--join", node.listeners["fabric"] ?? ""] }) : undefined;
  await loadNode(node, ENTRIES);
  if (follower === undefined) return { measured: node, nodes: [node], work: await begin(node) };
  await waitFor(follower, ENTRIES);
  return { measured: follower, nodes: [node, follower], work: followed(follower, await begin(node)) };
}

/** Work at one node, until another has taken all of it in. */
function followed(follower: Node, work: Work): Work {
  return async (count) => {
    let done = 0;
    while (done < count) {
      const known = await changesOf(follower);
      const made = await work(Math.min(count - done, FOLLOWED));
      await waitFor(follower, known + made);
      done += made;
    }
    return done;
  };
}

/** Until the node has taken in so many changes. */
async function waitFor(node: Node, changes: number): Promise<void> {
  const endMs = performance.now() + MAX_WAIT_MS;
  while ((await changesOf(node)) < changes) {
    if (performance.now() > endMs) throw new Error(`a follower has not taken in ${changes} changes after ${MAX_WAIT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

const STATUS_BYTES = toBinary(NamespaceStatusRequestSchema, create(NamespaceStatusRequestSchema, { namespace: NAMESPACE }));

/** How many changes the node has taken in. */
async function changesOf(node: Node): Promise<number> {
  return Number(fromBinary(NamespaceStatusResponseSchema, await ask(node, PATH.status, STATUS_BYTES)).revision);
}

async function compare(path: Path, other: string) {
  console.error(path.name);
  const [ours, theirs] = [await open(path, undefined), await open(path, other)];
  try {
    const costs = await inRounds([ours, theirs], ROUNDS);
    const [our = [], their = []] = costs;
    const { ratio, low, high } = interval(our.map((us, i) => us / (their[i] ?? Number.NaN)));
    const row = { path: path.name, "CPU µs": spread(our), "other's": spread(their), unit: path.unit, ratio, low, high };
    console.error(JSON.stringify(row));
    return row;
  } finally {
    for (const watchers of watching.splice(0)) watchers.close();
    for (const node of [...ours.nodes, ...theirs.nodes]) await node.stop("SIGKILL");
  }
}

const { other } = values;
if (other === "") {
  console.error("versions: no verdict without --other, a checkout to compare with");
  process.exitCode = 2;
} else {
  await mustRun("node", ["scripts/build.ts"], { cwd: other });
  pinSelf();
  const wanted = PATHS.filter(({ name }) => values.only.split(",").some((word) => name.includes(word)));
  const rows = [];
  for (const path of wanted) rows.push(await compare(path, other));
  const worst = rows.reduce((most, row) => (row.low > most.low ? row : most), rows[0] ?? { path: "none", low: Number.NaN });
  // A look at some paths, or at too few rounds for a verdict, leaves the result of all of them as it is.
  const isWhole = wanted.length === PATHS.length && ROUNDS >= MIN_ROUNDS;
  report({
    name: "versions",
    isKept: isWhole,
    tables: { "CPU time per unit of work beside the other version": rows },
    goals: [{ name: "lower end of the ratio, at worst", value: worst.low, unit: "times", atMost: 1.05, note: worst.path }],
    notes: [
      `The other version is ${commit(other)}.`,
      "Both nodes of a path run on the same core; rounds alternate, and the order of a pair changes with each.",
    ],
  });
}
process.exit();
