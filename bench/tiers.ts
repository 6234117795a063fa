/**
 * What do tiers of resolvers cost? First a node, a resolver that follows it, and a resolver that follows that one: how long after a change was
 * acknowledged at the node a watch at each of them shows it, and what a change costs each. Then a node that twenty resolvers follow, each 256 namespaces
 * in which nothing happens: what they cost it. About five minutes.
 * `npm run bench -- tiers [--rate 1000] [--seconds 20] [--rounds 3] [--resolvers 20] [--namespaces 256] [--idle 60]`.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { CatalogWatchResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { argsOf, asksForAll } from "./_args.ts";
import { cpuMs, othersBeside, sleep, startMember } from "./_mesh.ts";
import { type Node, scratchDir, startNode } from "./_processes.ts";
import { startResolver } from "./_resolvers.ts";
import { type Goal, percentile, quiet, report, round, spread } from "./_results.ts";
import { Wire } from "./_wire.ts";
import { drive, fail, loadNode, PATH, registerBytes, watchBytes } from "./_work.ts";

const DEFAULTS = { rate: 1000, seconds: 20, rounds: 3, resolvers: 20, namespaces: 256, idle: 60 };
const values = argsOf(DEFAULTS);
const [RATE, SECONDS, ROUNDS, RESOLVERS, NAMESPACES, IDLE] = [
  values.rate,
  values.seconds,
  values.rounds,
  values.resolvers,
  values.namespaces,
  values.idle,
];
/** Entries that are there, and change in turn. */
const ENTRIES = 10_000;
/** Before the rounds: our program is compiled while it runs. */
const WARM_SECONDS = 10;
/** Connections that change entries, and calls that may be open on each: a node takes 128. What is due meanwhile waits. */
const CHANGERS = 8;
const MAX_OPEN = 50;
/** A change that no watch shows by then counts as never seen. */
const LATE_MS = 10_000;
const TIERS = ["the node", "the resolver", "the resolver behind it"] as const;
/** Entries of each namespace in which nothing happens. */
const IDLE_ENTRIES = 10;
/** In which each resolver compares its digests once, its first turn included: five times as often as by default, so that a minute has its share of them. */
const RESYNC_SECONDS = 60;
/** After entries came, until nothing of it is under way any more. */
const SETTLE_MS = 10_000;
/** The limits of the issue: of the time that a change takes through two tiers, and of the upstream's core. */
const [MAX_SEEN_MS, MAX_CORES] = [100, 0.15];

/** The changes of one round: when each was acknowledged, and when the watch of each tier showed it, by its number. */
class Round {
  readonly first: number;
  readonly ackedMs: Float64Array;
  readonly seenMs: readonly Float64Array[];

  constructor(first: number, count: number) {
    this.first = first;
    this.ackedMs = new Float64Array(count);
    this.seenMs = TIERS.map(() => new Float64Array(count));
  }

  seen(tier: number, version: number): void {
    const at = version - this.first;
    if (at >= 0 && at < this.ackedMs.length) (this.seenMs[tier] ?? fail())[at] = performance.now();
  }

  /** From the acknowledgement of each change until that tier showed it; 0 where the watch was quicker. Changes that it never showed are left out. */
  tookMs(tier: number): readonly number[] {
    const seen = this.seenMs[tier] ?? fail();
    return Array.from(seen).flatMap((ms, i) => (ms === 0 ? [] : [Math.max(0, ms - (this.ackedMs[i] ?? fail()))]));
  }

  get isWhole(): boolean {
    return this.seenMs.every((seen) => seen.every((ms) => ms > 0));
  }
}

let current = new Round(0, 0);
let written = 0;

/** Opens a watch of everything, and resolves when its snapshot has ended. */
function openWatch(wire: Wire, tier: number): Promise<void> {
  return new Promise((begun, reject) => {
    const stream = wire.stream(PATH.watch, {
      onMessage: (bytes, start, end) => {
        const { deltas, cursor } = fromBinary(CatalogWatchResponseSchema, bytes.subarray(start, end));
        for (const { payload } of deltas) if (payload.case === "entry") current.seen(tier, Number(payload.value.metadata["v"] ?? 0));
        if (cursor !== "") begun();
      },
      onEnd: (why) => reject(new Error(`the watch at ${TIERS[tier]} ended: ${why}`)),
    });
    stream.send(watchBytes());
    stream.end();
  });
}

/** Sends what is due, whether or not earlier changes are answered, and waits until all are seen. */
async function changeAtRate(servers: readonly Node[], changers: readonly Wire[], seconds: number) {
  const count = RATE * seconds;
  current = new Round(written + 1, count);
  const { first, ackedMs } = current;
  const others = othersBeside(servers);
  const beforeMs = servers.map((server) => server.cpuMs());
  const startMs = performance.now();
  const free = Array.from({ length: MAX_OPEN }, () => changers).flat();
  let [sent, answered] = [0, 0];
  await new Promise<void>((resolve, reject) => {
    const send = (wire: Wire, at: number) => {
      const entry = ((first + at) * 7919) % ENTRIES;
      const onAnswer = () => {
        ackedMs[at] = performance.now();
        free.push(wire);
        answered += 1;
        if (answered === count) resolve();
      };
      wire.unary(PATH.register, registerBytes(entry, entry + 1, { version: first + at })).then(onAnswer, reject);
    };
    const turn = setInterval(() => {
      const due = Math.min(count, Math.floor(((performance.now() - startMs) / 1000) * RATE));
      for (let wire = free[0]; sent < due && wire !== undefined; wire = free[0]) {
        free.shift();
        send(wire, sent++);
      }
      if (sent === count) clearInterval(turn);
    }, 1);
  });
  const untilMs = performance.now() + LATE_MS;
  while (!current.isWhole && performance.now() < untilMs) await sleep(20);
  written += count;
  const tookMs = TIERS.map((_, tier) => current.tookMs(tier));
  const cpuUs = servers.map((server, i) => ((server.cpuMs() - (beforeMs[i] ?? fail())) * 1000) / count);
  return { tookMs, cpuUs, missing: tookMs.map(({ length }) => count - length), others: others() };
}

type Measured = Awaited<ReturnType<typeof changeAtRate>>;

async function throughTiers() {
  const node = await startMember([], "bench-tiers-node", { isPlain: false });
  await loadNode(node, ENTRIES);
  const near = await startResolver({ name: "bench-tiers-1", upstreams: [node], isPlain: false });
  const far = await startResolver({ name: "bench-tiers-2", upstreams: [near], isPlain: false });
  const servers = [node, near, far];
  const watching = await Promise.all(servers.map(({ grpc }) => Wire.open(grpc)));
  await Promise.all(watching.map(openWatch));
  const changers = await Promise.all(Array.from({ length: CHANGERS }, () => Wire.open(node.grpc)));
  await changeAtRate(servers, changers, WARM_SECONDS);
  const rounds: Measured[] = [];
  for (let r = 0; r < ROUNDS; r++) rounds.push(await changeAtRate(servers, changers, SECONDS));
  for (const wire of [...watching, ...changers]) wire.close();
  for (const server of servers.toReversed()) await server.stop("SIGKILL");
  return rounds;
}

function idleNamespace(resolver: number, i: number): string {
  return `idle.r${resolver}.n${i}`;
}

/** What a node costs while resolvers follow it and nothing happens. */
async function idle() {
  const node = await startNode({ dataDir: scratchDir("tiers-idle"), isFree: true });
  const message = (i: number) => registerBytes(0, IDLE_ENTRIES, { namespace: idleNamespace(Math.floor(i / NAMESPACES), i % NAMESPACES) });
  await drive(node, PATH.register, { count: RESOLVERS * NAMESPACES, inFlight: 4, message });
  await sleep(SETTLE_MS);
  const alone = await coresOf(node, IDLE / 3, []);
  const resolvers: Node[] = [];
  for (let r = 0; r < RESOLVERS; r++) {
    const namespaces = Array.from({ length: NAMESPACES }, (_, i) => idleNamespace(r, i));
    const resyncInterval = `${RESYNC_SECONDS}s`;
    resolvers.push(await startResolver({ name: `bench-idle-${r}`, upstreams: [node], namespaces, resyncInterval }));
  }
  await sleep(RESYNC_SECONDS * 1000);
  const followed = await coresOf(node, IDLE, resolvers);
  for (const server of [...resolvers, node]) await server.stop("SIGKILL");
  return { alone, followed };
}

/** Cores that a node takes for so many seconds. */
async function coresOf(node: Node, seconds: number, beside: readonly Node[]) {
  const others = othersBeside([node, ...beside]);
  const [beforeMs, besideMs, startMs] = [node.cpuMs(), cpuMs(beside), performance.now()];
  await sleep(seconds * 1000);
  const tookMs = performance.now() - startMs;
  return { cores: (node.cpuMs() - beforeMs) / tookMs, besideCores: (cpuMs(beside) - besideMs) / tookMs, others: others() };
}

const rounds = await throughTiers();
console.error(`two tiers: p99 ${rounds.map(({ tookMs }) => percentile(tookMs[2] ?? [], 0.99)).join(", ")} ms`);
const { alone, followed } = await idle();

const seenAt = (tier: number, share: number) => spread(rounds.map(({ tookMs }) => percentile(tookMs[tier] ?? [], share)));
const others = Math.max(...rounds.map((each) => each.others));
const p99 = seenAt(2, 0.99);
const missed = rounds.reduce((sum, { missing }) => sum + missing.reduce((all, one) => all + one, 0), 0);
const tiersText = `${RATE.toLocaleString("en-US")} changes a second on a node, behind two tiers of resolvers`;
const idleText = `${RESOLVERS} resolvers, each follows ${NAMESPACES} idle namespaces of its own`;

const goals: readonly Goal[] = [
  quiet(
    {
      name: `${tiersText}: a change seen after its acknowledgement, p99`,
      value: p99.median,
      unit: "ms",
      atMost: MAX_SEEN_MS,
      shown: { work: `${tiersText}: time from the acknowledgement of a change until a watch shows it, p99`, unit: "ms", ours: p99 },
    },
    others,
  ),
  { name: `${tiersText}: changes that a watch did not show`, value: missed, unit: "changes", atMost: 0 },
  {
    name: `${idleText}: CPU time of their upstream`,
    value: followed.cores,
    unit: "cores",
    atMost: MAX_CORES,
    shown: { work: `${idleText}: CPU time of the node that all of them follow`, unit: "cores", ours: followed.cores },
  },
];

report({
  name: "tiers",
  isKept: asksForAll(values, DEFAULTS),
  tables: {
    "through two tiers": TIERS.map((who, tier) => ({
      "a watch on": who,
      "changes a second": RATE,
      "acknowledged to seen p50 ms": seenAt(tier, 0.5),
      "p99 ms": seenAt(tier, 0.99),
      "max ms": seenAt(tier, 1),
      missing: rounds.reduce((sum, { missing }) => sum + (missing[tier] ?? 0), 0),
      "CPU µs per change": spread(rounds.map(({ cpuUs }) => cpuUs[tier] ?? fail())),
      "others' share of the machine": round(others),
    })),
    idle: [
      {
        resolvers: RESOLVERS,
        "namespaces each": NAMESPACES,
        "cores of the node alone": round(alone.cores),
        "cores of the node, followed": round(followed.cores),
        "cores of a resolver": round(followed.besideCores / RESOLVERS),
        "others' share of the machine": round(followed.others),
      },
    ],
  },
  goals,
  notes: [
    "All are real processes on this machine's cores. The load and all watches run in one more process on the same cores. The node and the resolvers keep data directories.",
    `Through two tiers: ${ENTRIES.toLocaleString("en-US")} entries exist and change in turn. A change is timed from its acknowledgement in this process; a watch that shows it before that counts as 0. Each server has one watch of everything. The CPU time of a server is the total of its process, with its watch and the resolver that follows it.`,
    `Idle: each namespace has ${IDLE_ENTRIES} entries. Each resolver compares the digest of each namespace once in ${RESYNC_SECONDS} s (by default, once in 300 s), and is measured after all have started to do so. The goal counts all CPU time of the node, including its own idle cost.`,
  ],
});
