/** What `resolve` of a live map costs: among 100,000 endpoints of 10,000 names that are asked for evenly or by Zipf, and of one name; without and with a report of the call. */
import { create } from "@bufbuild/protobuf";
import { DiscoveryDelta_Action } from "../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, HealthStatus } from "../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../gen/waymark/catalog/v1/watch_pb.js";
import { CatalogWatchResponseSchema } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { LiveMap, type WatchingCalls } from "../src/client/live/watch.io.ts";
import { Rng } from "../src/lib/rng.ts";
import { CALLS, type CallCosts, callCosts, costRows, costsNote } from "./_call-costs.ts";
import { type Goal, report } from "./_results.ts";

const ENDPOINTS = 100_000;
const NAMES = 10_000;
const rng = new Rng(1);

interface Name {
  readonly namespace: string;
  readonly name: string;
}

function at<T>(list: readonly T[], i: number): T {
  const item = list[i];
  if (item === undefined) throw new Error(`no item ${i}`);
  return item;
}

const nameOf = (i: number): Name => ({ namespace: `svc.team-${i % 1000}`, name: `checkout-${i}` });

/** A map that was told one snapshot, and then nothing. */
async function mapOf(names: readonly Name[]): Promise<LiveMap> {
  const deltas = Array.from({ length: ENDPOINTS }, (_, i) => {
    const key = { kind: EntryKind.SERVICE, ...at(names, i % names.length), instanceId: `6d4cf56db6-${i}`, clusterId: "c1" };
    const load = { utilization: rng.next(), latencyMs: 20, activeClients: 3 };
    const entry = {
      key,
      region: "eu",
      zone: i % 2 === 0 ? "a" : "b",
      health: HealthStatus.HEALTHY,
      load,
      targets: [{ host: "10.0.0.1", port: 80 }],
    };
    return { action: DiscoveryDelta_Action.CREATE, deltaId: `n/1/${i}`, payload: { case: "entry" as const, value: entry } };
  });
  const client = {
    timeoutMs: 60_000,
    place: { region: "eu", zone: "a" },
    server: "",
    writeServer: "",
    servers: [""],
    failOver: () => {},
    async *streamAt() {
      yield create(CatalogWatchResponseSchema, { snapshot: Snapshot.BEGIN, deltas });
      yield create(CatalogWatchResponseSchema, { snapshot: Snapshot.END, servedBy: "n" });
      await new Promise(() => {});
    },
  };
  const map = new LiveMap(client as unknown as WatchingCalls, { namespacePrefix: "svc" }, {});
  await map.ready;
  return map;
}

/** So many numbers of names by Zipf(1.0). */
function zipf(count: number): readonly number[] {
  const sums: number[] = [];
  for (let i = 0; i < NAMES; i++) sums.push((sums[i - 1] ?? 0) + 1 / (i + 1));
  const total = at(sums, NAMES - 1);
  return Array.from({ length: count }, () => {
    const drawn = rng.next() * total;
    let [low, high] = [0, NAMES - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (at(sums, middle) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  });
}

const REPORTED = ", reported";
const results: Record<string, CallCosts> = {};
const names = Array.from({ length: NAMES }, (_, i) => nameOf(i));
const drawn = zipf(CALLS);
for (const [text, all, pick] of [
  ["10,000 names chosen by Zipf", names, (i: number) => at(names, at(drawn, i))],
  ["10,000 names chosen uniformly", names, (i: number) => at(names, (i * 7919) % NAMES)],
  ["one name", names.slice(0, 1), () => at(names, 0)],
] as const) {
  const map = await mapOf(all);
  const resolve = (i: number) => {
    const { namespace, name } = pick(i);
    return map.resolve(namespace, name);
  };
  // The choosers are made by the first choice.
  for (let i = 0; i < all.length; i++) map.resolve(at(all, i).namespace, at(all, i).name);
  callCosts(resolve);
  results[text] = callCosts(resolve);
  results[`${text}${REPORTED}`] = callCosts((i) => resolve(i)?.begin().succeeded());
}

/** The limit of the issue. */
const MOST_US = 1;

/** What a report costs beside is in the table. */
const choices = Object.entries(results).filter(([of]) => !of.endsWith(REPORTED));
const goals = choices.map(([of, { p50 }]): Goal => {
  const work = `a choice from a live map of 100,000 endpoints: ${of}, median`;
  return { name: work, value: p50, unit: "µs", atMost: MOST_US, shown: { work, unit: "µs", ours: p50 } };
});

report({
  name: "resolve",
  tables: { "a choice from a live map of 100,000 endpoints": costRows(results) },
  goals,
  notes: [
    costsNote,
    "One process has a client's map, filled by one snapshot: 10,000 names in 1,000 namespaces with ten endpoints each, or one name with all endpoints. Every endpoint reports its load, and half of them are in the client's zone. *Reported*: the call is started and reported as successful, so that the client's own latencies and errors count.",
  ],
});
process.exit();
