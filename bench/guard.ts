/**
 * Does a path cost more since a change? CPU a unit of work beside a bare node:http2 answer and beside etcd, in short rounds of one run, against the
 * result that was kept last: a ratio has moved when its 95 % interval lies beside the one before. A run is kept only where a path costs less and none
 * costs more, or a path was not there before: so the same run later still says that a path costs more, and many small steps are told when together
 * they are beyond the noise. `npm run bench -- --quick`; it takes less than three minutes. The other benchmarks say how good a figure is, this one only
 * whether it is still the same.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../scripts/run.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { interval } from "./_interval.ts";
import { listenerOf, type Node, pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { etcdLeases, nodeLeases, renew, renewalBytes } from "./_renewals.ts";
import { type Kept, report, type Spread, spread } from "./_results.ts";
import { inRounds, type Side, type Work } from "./_rounds.ts";
import { Watchers } from "./_watchers.ts";
import {
  ask,
  drive,
  exactJson,
  exactQuery,
  INSTANCES,
  loadNode,
  loadSmall,
  PATH,
  pageQuery,
  registerBytes,
  SMALL,
  scattered,
  smallNamespace,
} from "./_work.ts";
import { loadEtcd, loadEtcdSmall, sizesOf, startEtcd } from "./adapters/etcd.ts";
import { ETCD_PATH, etcdExact, etcdPut, etcdRange, etcdTxn } from "./adapters/etcd-messages.ts";

const DEFAULTS = { rounds: 10 };
const values = argsOf(DEFAULTS);
const ROUNDS = values.rounds;
const ENTRIES = 10_000;
const SERVICES = ENTRIES / INSTANCES;
const BATCH = 100;
const UNDER_WAY = 64;

/** Watches that each change is told to. */
const WATCHES = 100;
/** Leases of the stream that renews. */
const LEASES = 1000;

const FILE = join("bench", "results", "guard.json");
const RATIO = "our CPU ÷ peer's";

interface Row {
  readonly work: string;
  readonly beside: string;
  readonly [RATIO]: number;
  /** Of its 95 % interval. */
  readonly low: number;
  readonly high: number;
}

interface CostRow extends Row {
  readonly "CPU µs": Spread;
  readonly "peer's CPU µs": Spread;
}

interface Compared {
  readonly work: string;
  readonly ours: Side;
  readonly peers: readonly Side[];
}

function calls(measured: Running, path: string, message: (i: number) => Uint8Array): Side {
  let next = 0;
  const work: Work = async (count) => {
    await drive(measured, path, { count, inFlight: UNDER_WAY, connections: 4, message: () => message(next++) });
    return count;
  };
  return { measured, work };
}

/** New content for keys that are there, a batch a request; a unit is an entry. */
function writes(measured: Running, path: string, message: (from: number, to: number, lap: number) => Uint8Array): Side {
  let next = 0;
  const work: Work = async (count) => {
    const batches = Math.ceil(count / BATCH);
    const batch = () => {
      const from = (next * BATCH) % ENTRIES;
      return message(from, from + BATCH, Math.floor((next++ * BATCH) / ENTRIES));
    };
    await drive(measured, path, { count: batches, inFlight: 8, connections: 4, message: batch });
    return batches * BATCH;
  };
  return { measured, work };
}

function jsonCalls(measured: Node): Side {
  let next = 0;
  const work: Work = async (count) => {
    let left = count;
    const one = async () => {
      const wire = await HttpWire.open(listenerOf(measured, "http"));
      while (left-- > 0) await wire.request({ path: PATH.query, body: exactJson(scattered(next++, SERVICES)) });
      wire.close();
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, one));
    return count;
  };
  return { measured, work };
}

/** One lease a message, over one stream: all of them, as often as it takes. */
function renewals(measured: Running, messages: readonly Uint8Array[]): Side {
  const work: Work = async (count) => {
    const laps = Math.ceil(count / messages.length);
    await renew(measured, messages, laps);
    return laps * messages.length;
  };
  return { measured, work };
}

/** Changes, each told to all watches; a wave has no key twice. */
function toldChanges(measured: Running, watchers: Watchers): Side {
  const work: Work = async (count) => {
    for (let left = count; left > 0; left -= ENTRIES) await watchers.wave(Math.min(left, ENTRIES), UNDER_WAY);
    return count;
  };
  return { measured, work };
}

async function compare({ work, ours, peers }: Compared): Promise<readonly CostRow[]> {
  console.error(work);
  const [our = [], ...theirs] = await inRounds([ours, ...peers], ROUNDS);
  return peers.map(({ measured: { name } }, at) => {
    const their = theirs[at] ?? [];
    const { ratio, low, high } = interval(our.map((us, i) => us / (their[i] ?? Number.NaN)));
    return {
      work,
      beside: name === "echo" ? "a bare node:http2 answer" : name,
      "CPU µs": spread(our),
      "peer's CPU µs": spread(their),
      [RATIO]: ratio,
      low,
      high,
    };
  });
}

/** The rows of the result that was kept last. */
function lastRows(): readonly Row[] {
  const file = join(ROOT, FILE);
  if (!existsSync(file)) return [];
  const kept = JSON.parse(readFileSync(file, "utf8")) as Kept;
  return Object.values(kept.tables).flat() as unknown as readonly Row[];
}

type Moved = "no earlier result" | "costs more" | "costs less" | "as before";

function moved({ work, beside, low, high }: Row, last: readonly Row[]): Moved {
  const before = last.find((row) => row.work === work && row.beside === beside);
  if (before === undefined) return "no earlier result";
  if (low > before.high) return "costs more";
  return high < before.low ? "costs less" : "as before";
}

pinSelf();
const [node, disk, etcd] = [await startNode(), await startNode({ dataDir: scratchDir("guard") }), await startEtcd()];
for (const each of [node, disk]) await loadNode(each, ENTRIES);
const exact = (i: number) => exactQuery(scattered(i, SERVICES));
const echo = await startEcho((await ask(node, PATH.query, exact(0))).length);
const small = (i: number) => smallNamespace(scattered(i, SMALL.namespaces));
await loadSmall(node);
const sizes = await sizesOf(node, etcd);
const value = sizes.etcdValue;
if (etcd !== undefined) {
  await loadEtcd(etcd, ENTRIES, sizes);
  await loadEtcdSmall(etcd, sizes);
}
// Beyond the entries that are read and written again, which would leave their leases.
const held = await nodeLeases(node, { count: LEASES, from: ENTRIES, version: 1 });
const answering = await startEcho(await renewalBytes(node, held));
const heldAtEtcd = etcd === undefined ? [] : await etcdLeases(etcd, { count: LEASES, from: ENTRIES, value });
const beside = (side: (server: Running) => Side): readonly Side[] => (etcd === undefined ? [] : [side(etcd)]);

const compared: readonly Compared[] = [
  {
    work: "exact query",
    ours: calls(node, PATH.query, exact),
    peers: [calls(echo, PATH.query, exact), ...beside((at) => calls(at, ETCD_PATH.range, (i) => etcdExact(scattered(i, SERVICES))))],
  },
  {
    work: "page of 100 in a small namespace",
    ours: calls(node, PATH.query, (i) => pageQuery(100, small(i))),
    peers: beside((at) => calls(at, ETCD_PATH.range, (i) => etcdRange(`/${small(i)}/`, 100))),
  },
  {
    work: "exact query through HTTP/JSON",
    ours: jsonCalls(node),
    peers: [calls(echo, PATH.query, exact)],
  },
  {
    work: `an entry on disk, ${BATCH} per request`,
    ours: writes(disk, PATH.register, (from, to, version) => registerBytes(from, to, { version })),
    peers: beside((at) => writes(at, ETCD_PATH.txn, (from, to) => etcdTxn(from, to, value))),
  },
  {
    work: "a single entry on disk",
    ours: calls(disk, PATH.register, (i) => registerBytes(i % ENTRIES, (i % ENTRIES) + 1, { version: i })),
    peers: beside((at) => calls(at, ETCD_PATH.put, (i) => etcdPut(i % ENTRIES, value))),
  },
  {
    work: "a renewed lease, one per message of a stream",
    ours: renewals(node, held.messages),
    peers: [renewals(answering, held.messages), ...beside((at) => renewals(at, heldAtEtcd))],
  },
];
const rows: CostRow[] = [];
for (const each of compared) rows.push(...(await compare(each)));
// What is written before would be told to them too.
const watchers = await Watchers.open(disk, sizes, WATCHES);
const watchersAtEtcd = etcd && (await Watchers.open(etcd, sizes, WATCHES));
const fanOut: Compared = {
  work: `a change sent to ${WATCHES} watches with one filter`,
  ours: toldChanges(disk, watchers),
  peers: watchersAtEtcd === undefined ? [] : beside((at) => toldChanges(at, watchersAtEtcd)),
};
rows.push(...(await compare(fanOut)));
for (const server of [node, disk, echo, answering, etcd]) await server?.stop("SIGKILL");
const last = lastRows();
const told = rows.map((row) => ({ ...row, "compared with the last result": moved(row, last) }));
const those = (how: Moved) =>
  told.filter((row) => row["compared with the last result"] === how).map(({ work, beside: peer }) => `${work}, beside ${peer}`);
const costMore = those("costs more");
const isNews = those("costs less").length + those("no earlier result").length > 0;
const verdicts =
  costMore.length === 0
    ? []
    : [`Costs more than in the last result: ${costMore.join("; ")}. Therefore, this run is not kept; remove ${FILE} to accept it.`];

/** Undefined: it is kept. */
function whyNotKept(): string | undefined {
  if (!asksForAll(values, DEFAULTS) || etcd === undefined) return "a peer or a round is left out";
  if (costMore.length > 0) return "a path costs more than in it";
  return isNews ? undefined : "no path costs less than in it";
}

report({
  name: "guard",
  isKept: whyNotKept() ?? true,
  tables: { "CPU time per unit of work, compared with a peer": told },
  goals: [],
  notes: [
    ...verdicts,
    "The ratio is Waymark's CPU time divided by the peer's, with its 95 % interval over paired rounds. Above 1, Waymark uses more. All programs run on one core.",
    "It shows changes of one path and is not a comparison of products: entries have leases only in the rows about leases, and keys are overwritten.",
    'A run is kept only if a path costs less than before and none costs more, or if a path is new. A run "as before" keeps the older result, so that a cost that grows in many small steps is detected too.',
  ],
});
process.exit();
