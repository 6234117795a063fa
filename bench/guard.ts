/**
 * Did a change make a path dearer? CPU a unit of work beside a bare node:http2 answer and beside etcd, in short rounds of one run, against the result
 * that was kept last: a ratio has moved when its 95 % interval lies beside the one before. `npm run bench -- --quick`; it takes less than three
 * minutes. The other benchmarks say how good a figure is, this one only whether it is still the same.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../scripts/run.ts";
import { argsOf } from "./_args.ts";
import { HttpWire } from "./_http.ts";
import { pinSelf, type Running, scratchDir, startEcho, startNode } from "./_processes.ts";
import { type Kept, report, spread } from "./_results.ts";
import { type Interval, inRounds, interval, type Side, type Work } from "./_rounds.ts";
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

const values = argsOf({ rounds: 10 });
const ROUNDS = values.rounds;
const ENTRIES = 10_000;
const SERVICES = ENTRIES / INSTANCES;
const BATCH = 100;
const UNDER_WAY = 64;

interface Row extends Interval {
  readonly work: string;
  readonly beside: string;
}

interface Compared {
  readonly work: string;
  readonly ours: Side;
  readonly peers: readonly Side[];
}

function calls(measured: Running, path: string, message: (i: number) => Uint8Array): Side {
  let next = 0;
  const work: Work = (count) => drive(measured, path, { count, inFlight: UNDER_WAY, connections: 4, message: () => message(next++) });
  return { measured, work };
}

/** New content for keys that are there, a batch a request; a unit is an entry. */
function writes(measured: Running, path: string, message: (from: number, to: number, lap: number) => Uint8Array): Side {
  let next = 0;
  const work: Work = (count) => {
    const batch = () => {
      const from = (next * BATCH) % ENTRIES;
      return message(from, from + BATCH, Math.floor((next++ * BATCH) / ENTRIES));
    };
    return drive(measured, path, { count: Math.ceil(count / BATCH), inFlight: 8, connections: 4, message: batch });
  };
  return { measured, work };
}

function jsonCalls(measured: Running, at: string): Side {
  const [host = "", port = ""] = at.split(":");
  let next = 0;
  const work: Work = async (count) => {
    let left = count;
    const one = async () => {
      const wire = await HttpWire.open({ host, port: Number(port) });
      while (left-- > 0) await wire.request({ path: PATH.query, body: exactJson(scattered(next++, SERVICES)) });
      wire.close();
    };
    await Promise.all(Array.from({ length: UNDER_WAY }, one));
  };
  return { measured, work };
}

async function compare({ work, ours, peers }: Compared) {
  console.error(work);
  const [our = [], ...theirs] = await inRounds([ours, ...peers], ROUNDS);
  return peers.map(({ measured: { name } }, at) => {
    const their = theirs[at] ?? [];
    const ratio = interval(our.map((us, i) => us / (their[i] ?? Number.NaN)));
    return {
      work,
      beside: name === "echo" ? "a bare node:http2 answer" : name,
      "CPU µs": spread(our),
      "peer's CPU µs": spread(their),
      ...ratio,
    };
  });
}

/** The rows of the result that was kept last. */
function lastRows(): readonly Row[] {
  const file = join(ROOT, "bench", "results", "guard.json");
  if (!existsSync(file)) return [];
  const kept = JSON.parse(readFileSync(file, "utf8")) as Kept;
  return Object.values(kept.tables).flat() as unknown as readonly Row[];
}

function moved({ work, beside, low, high }: Row, last: readonly Row[]): string {
  const before = last.find((row) => row.work === work && row.beside === beside);
  if (before === undefined) return "nothing to compare with";
  if (low > before.high) return "dearer";
  return high < before.low ? "cheaper" : "as before";
}

pinSelf();
const [node, disk, etcd] = [await startNode(), await startNode({ dataDir: scratchDir("guard") }), await startEtcd()];
for (const each of [node, disk]) await loadNode(each, ENTRIES);
const exact = (i: number) => exactQuery(scattered(i, SERVICES));
const echo = await startEcho((await ask(node, PATH.query, exact(0))).length);
const small = (i: number) => smallNamespace(scattered(i, SMALL.namespaces));
await loadSmall(node);
if (etcd !== undefined) {
  const sizes = await sizesOf(node, etcd);
  await loadEtcd(etcd, ENTRIES, sizes);
  await loadEtcdSmall(etcd, sizes);
}
const value = etcd === undefined ? Buffer.alloc(0) : (await sizesOf(node, etcd)).etcdValue;
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
    ours: jsonCalls(node, node.listeners["http"] ?? ""),
    peers: [calls(echo, PATH.query, exact)],
  },
  {
    work: `an entry on disk, ${BATCH} a request`,
    ours: writes(disk, PATH.register, (from, to, version) => registerBytes(from, to, { version })),
    peers: beside((at) => writes(at, ETCD_PATH.txn, (from, to) => etcdTxn(from, to, value))),
  },
  {
    work: "an entry on disk by itself",
    ours: calls(disk, PATH.register, (i) => registerBytes(i % ENTRIES, (i % ENTRIES) + 1, { version: i })),
    peers: beside((at) => calls(at, ETCD_PATH.put, (i) => etcdPut(i % ENTRIES, value))),
  },
];
const rows: Awaited<ReturnType<typeof compare>> = [];
for (const each of compared) rows.push(...(await compare(each)));
for (const server of [node, disk, echo, etcd]) await server?.stop("SIGKILL");
const last = lastRows();
report({
  name: "guard",
  isKept: ROUNDS >= 10 && etcd !== undefined,
  tables: { "CPU a unit of work beside the peer": rows.map((row) => ({ ...row, "than last time": moved(row, last) })) },
  goals: [],
  notes: [
    "The ratio is ours over the peer's, with its 95 % interval over paired rounds. Above 1 we spend more. All run on one core.",
    "It tells changes of one path apart, and is no comparison of products: entries have no lease here, and keys are written again.",
  ],
});
process.exit();
