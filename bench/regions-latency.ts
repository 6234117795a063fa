/**
 * How soon does the farthest region show what changes in another one? 3 regions of 2 clusters of 3 nodes, real processes, each pair of regions linked, every byte
 * between regions 80 ms late. First sights, bands, counts, ends of windows, rollbacks, and exporters that are killed; and what crosses a border link of them while nothing changes. About eight minutes.
 * Clusters have at least 3 nodes: of two, one alone exports no change, because it may be cut off.
 * `npm run bench -- regions-latency [--clusters 2] [--nodes 3] [--delay 80] [--samples 20] [--kills 5] [--idle-seconds 80]`.
 */
import { EntryKind, HealthStatus, Scope } from "../gen/waymark/catalog/v1/entry_pb.js";
import { PeerStatus } from "../gen/waymark/catalog/v1/peer_pb.js";
import { HealthBand } from "../gen/waymark/catalog/v1/summary_pb.js";
import { type Client, connect } from "../src/client/index.ts";
import { argsOf, asksForAll } from "./_args.ts";
import { sleep, until } from "./_mesh.ts";
import { Regions } from "./_regions.ts";
import { type Goal, percentile, report, round } from "./_results.ts";
import { fail } from "./_work.ts";

const DEFAULTS = { clusters: 2, nodes: 3, delay: 80, samples: 20, kills: 5, "idle-seconds": 80 };
const values = argsOf(DEFAULTS);
const SAMPLES = values.samples;
const REGIONS = ["ap", "eu", "us"] as const;
/** Where everything is registered, and who is to see it. */
const [HOME, ...AWAY] = ["eu", "ap", "us"] as const;
const HOME_CLUSTER = `${HOME}1`;
const HOLD_DOWN_MS = 5000;
const EXPORT_INTERVAL_MS = 30_000;
/** Until what changed is told and acknowledged everywhere. */
const SETTLE_MS = 40_000;
/** Looks are so often: half of it is in each time, on average. */
const LOOK_MS = 10;

interface Seen {
  readonly band: HealthBand;
  readonly count: number;
  readonly exporter: string;
}

const regions = await Regions.start({ regions: REGIONS, clusters: values.clusters, nodes: values.nodes, delayMs: values.delay });
const at = (id: string) => regions.nodes.get(id)?.node.grpc ?? fail();
const clientOf = (id: string): Client => {
  const { host, port } = at(id);
  return connect({ servers: [`${host}:${port}`], findServers: false });
};
/** The last node of a cluster has no border link, where there are three. */
const last = String.fromCharCode(96 + values.nodes);
const writer = clientOf(`${HOME_CLUSTER}-${last}`);
const readers = AWAY.flatMap((region) => Array.from({ length: values.clusters }, (_, i) => clientOf(`${region}${i + 1}-${last}`)));

type View = ReadonlyMap<string, Seen>;

async function viewOf(reader: Client, namespace: string): Promise<View> {
  const { items } = await reader.discovery.summaryQuery({ namespacePrefix: namespace, scope: Scope.GLOBAL, limit: 1000 });
  const own = items.filter(({ sourceCluster }) => sourceCluster === HOME_CLUSTER);
  return new Map(
    own.map(({ serviceId, healthBand, endpointCount, exporter }) => [serviceId, { band: healthBand, count: endpointCount, exporter }]),
  );
}

/** Waits until each reader in another region sees it so; gives the time since `fromMs`. */
async function seenBy(namespace: string, isSo: (view: View) => boolean, what: string, fromMs = performance.now()): Promise<number> {
  await Promise.all(
    readers.map(async (reader) => {
      const endMs = performance.now() + 60_000;
      while (!isSo(await viewOf(reader, namespace))) {
        if (performance.now() > endMs) throw new Error(`not within a minute: ${what}`);
        await sleep(LOOK_MS);
      }
    }),
  );
  return performance.now() - fromMs;
}

const ENDPOINTS = 4;

function entriesOf(namespace: string, name: string, health: HealthStatus, count = ENDPOINTS) {
  return Array.from({ length: count }, (_, i) => ({
    key: { kind: EntryKind.SERVICE, namespace, name, instanceId: String(i), clusterId: "" },
    scope: Scope.GLOBAL,
    health,
    targets: [{ host: "10.0.0.1", port: 8080 }],
  }));
}

const { HEALTHY, CRITICAL } = HealthStatus;
const register = (namespace: string, name: string, health: HealthStatus = HEALTHY, count = ENDPOINTS) =>
  writer.discovery.register({ entries: entriesOf(namespace, name, health, count), staticLease: true });

async function firstSights(): Promise<readonly number[]> {
  const tookMs: number[] = [];
  for (let i = 0; i < SAMPLES; i++) {
    const [fromMs, name] = [performance.now(), `first-${i}`];
    await register("svc.first", name);
    tookMs.push(await seenBy("svc.first", (view) => view.has(name), name, fromMs));
  }
  return tookMs;
}

/** The second change of each service comes within the hold-down of the first, and waits for it. */
async function bands(): Promise<{ readonly quiet: readonly number[]; readonly held: readonly number[]; readonly gone: readonly number[] }> {
  const names = Array.from({ length: SAMPLES }, (_, i) => `band-${i}`);
  for (const name of names) await register("svc.band", name);
  await seenBy("svc.band", (view) => names.every((name) => view.has(name)), "all services");
  await sleep(HOLD_DOWN_MS);
  const change = async (health: HealthStatus | undefined, isSo: (seen: Seen | undefined) => boolean) => {
    const took = names.map(async (name, i) => {
      await sleep(i * 37);
      const fromMs = performance.now();
      if (health === undefined) await writer.discovery.unregister({ keys: entriesOf("svc.band", name, HEALTHY).map(({ key }) => key) });
      else await register("svc.band", name, health);
      return seenBy("svc.band", (view) => isSo(view.get(name)), `${name} as ${health ?? "gone"}`, fromMs);
    });
    return Promise.all(took);
  };
  const quiet = await change(CRITICAL, (seen) => seen?.band === HealthBand.CRITICAL);
  const held = await change(HEALTHY, (seen) => seen?.band === HealthBand.HEALTHY);
  const gone = await change(undefined, (seen) => seen === undefined);
  return { quiet, held, gone };
}

/** The second change of each count comes within the export interval of the first, and waits for it. All services change at once, since each wait is so long. */
async function counts(): Promise<{ readonly quiet: readonly number[]; readonly held: readonly number[] }> {
  const names = Array.from({ length: SAMPLES }, (_, i) => `count-${i}`);
  for (const name of names) await register("svc.count", name);
  await seenBy("svc.count", (view) => names.every((name) => view.has(name)), "all services");
  await sleep(EXPORT_INTERVAL_MS);
  const change = (count: number) =>
    Promise.all(
      names.map(async (name, i) => {
        await sleep(i * 37);
        const fromMs = performance.now();
        await register("svc.count", name, HEALTHY, count);
        return seenBy("svc.count", (view) => view.get(name)?.count === count, `${name} with ${count} endpoints`, fromMs);
      }),
    );
  return { quiet: await change(2 * ENDPOINTS), held: await change(4 * ENDPOINTS) };
}

const ruleOf = (namespace: string, more: object) => ({ namespace, allowSummaries: true, exportScopes: [Scope.GLOBAL], ...more });

async function apply(rules: readonly object[]): Promise<void> {
  const { node } = regions.nodes.get(`${HOME_CLUSTER}-a`) ?? fail();
  await policyCall(node.listeners["http"] ?? fail(), "ApplyPolicy", { policy: { version: "bench", defaultAllow: true, rules } });
}

async function policyCall(http: string, rpc: string, body: object): Promise<void> {
  const answer = await fetch(`http://${http}/waymark.policy.v1.PolicyService/${rpc}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body, (_, value: unknown) => (value === Scope.GLOBAL ? "SCOPE_GLOBAL" : value)),
  });
  if (answer.status !== 200) throw new Error(`${rpc}: ${await answer.text()}`);
}

async function windowEnds(): Promise<readonly number[]> {
  const names = Array.from({ length: SAMPLES }, (_, i) => ({ namespace: `svc.window.w${i}`, name: `window-${i}` }));
  for (const { namespace, name } of names) await register(namespace, name);
  // One after the other, when all are there.
  const firstEndMs = Date.now() + 15_000;
  const startsAt = new Date(Date.now() - 60_000).toISOString();
  const endOf = (i: number) => firstEndMs + i * 200;
  await apply(
    names.map(({ namespace }, i) => ruleOf(namespace, { cutoverWindows: [{ startsAt, endsAt: new Date(endOf(i)).toISOString() }] })),
  );
  await seenBy("svc.window", (view) => names.every(({ name }) => view.has(name)), "all windows");
  return Promise.all(
    names.map(async ({ namespace, name }, i) => {
      await sleep(Math.max(0, endOf(i) - Date.now() - 100));
      await seenBy(namespace, (view) => !view.has(name), `the end of ${name}`);
      return Date.now() - endOf(i);
    }),
  );
}

async function rollbacks(): Promise<readonly number[]> {
  const [namespace, name] = ["svc.rollback", "stock"];
  await apply([ruleOf(namespace, { allowSummaries: false })]);
  await register(namespace, name);
  const { node } = regions.nodes.get(`${HOME_CLUSTER}-a`) ?? fail();
  const tookMs: number[] = [];
  for (let i = 0; i < SAMPLES; i++) {
    await apply([ruleOf(namespace, {})]);
    await seenBy(namespace, (view) => view.has(name), "a policy that allows");
    const fromMs = performance.now();
    await policyCall(node.listeners["http"] ?? fail(), "RollbackPolicy", {});
    tookMs.push(await seenBy(namespace, (view) => !view.has(name), "a rollback", fromMs));
  }
  return tookMs;
}

/** Bytes a second on each border link while nothing changes: with as many links as the regions have, after withdrawals that beacons still name. */
async function idleRates(): Promise<readonly number[]> {
  await sleep(SETTLE_MS);
  const before = [...regions.links].map((link) => ({ link, bytes: link.bytes }));
  await sleep(values["idle-seconds"] * 1000);
  const open = before.filter(({ link }) => regions.links.has(link));
  return open.map(({ link, bytes }) => (link.bytes - bytes) / values["idle-seconds"]);
}

/** Times from when the members of its region have found a killed exporter dead, of what changed when it died. Also what was missing meanwhile. */
async function kills(): Promise<{ readonly tookMs: readonly number[]; readonly missing: number }> {
  const names = Array.from({ length: SAMPLES }, (_, i) => `kill-${i}`);
  for (const name of names) await register("svc.kill", name);
  await seenBy("svc.kill", (view) => names.every((name) => view.has(name)), "all services");
  const tookMs: number[] = [];
  let missing = 0;
  let isWell = true;
  for (let i = 0; i < values.kills; i++) {
    await sleep(HOLD_DOWN_MS);
    const view = await viewOf(readers[0] ?? fail(), "svc.kill");
    // Not the node that is written to.
    const victim = [...view.values()].map(({ exporter }) => exporter).find((id) => id !== `${HOME_CLUSTER}-${last}`) ?? fail();
    const its = names.filter((name) => view.get(name)?.exporter === victim);
    await regions.nodes.get(victim)?.node.stop("SIGKILL");
    isWell = !isWell;
    for (const name of its) await register("svc.kill", name, isWell ? HEALTHY : CRITICAL);
    const isDead = async () =>
      (await writer.discovery.listPeers({})).peers.every(({ nodeId, status }) => nodeId !== victim || status > PeerStatus.SUSPECT);
    await until(isDead, `${victim} is found dead`);
    const fromMs = performance.now();
    const wanted = isWell ? HealthBand.HEALTHY : HealthBand.CRITICAL;
    const see = (name: string) => seenBy("svc.kill", (seen) => seen.get(name)?.band === wanted, `${name} after ${victim}`, fromMs);
    const took = await Promise.all(
      its.map((name) =>
        see(name).then(async (ms) => {
          const now = await viewOf(readers[0] ?? fail(), "svc.kill");
          missing += names.filter((each) => !now.has(each)).length;
          return ms;
        }),
      ),
    );
    tookMs.push(...took);
    await regions.startNode(victim);
  }
  return { tookMs, missing };
}

function row(what: string, goalMs: number | undefined, tookMs: readonly number[]) {
  return {
    what,
    samples: tookMs.length,
    "p50 ms": round(percentile(tookMs, 0.5)),
    "worst ms": round(Math.max(...tookMs)),
    "goal ms": goalMs ?? "–",
  };
}

await register("svc.ready", "ready");
const connectedMs = await seenBy("svc.ready", (view) => view.has("ready"), "the regions are connected");
console.error(`${regions.nodes.size} nodes in ${REGIONS.length} regions, which show each other after ${Math.round(connectedMs)} ms`);
const first = await firstSights();
const { quiet, held, gone } = await bands();
const counted = await counts();
const rollback = await rollbacks();
const windows = await windowEnds();
const idle = await idleRates();
const killed = await kills();
await regions.stop();
for (const client of [writer, ...readers]) client.close();

const LATE_MS = HOLD_DOWN_MS + 1000;
const rows = [
  row("a new service is visible in all other regions", 1000, first),
  row("a new health level, after a quiet period", LATE_MS, quiet),
  row("a new health level, within a hold-down", LATE_MS, held),
  row("a removed service, within a hold-down", LATE_MS, gone),
  row("a new count, after a quiet period", EXPORT_INTERVAL_MS + 1000, counted.quiet),
  row("a new count, within an export interval", EXPORT_INTERVAL_MS + 1000, counted.held),
  row("a policy rollback", 1000, rollback),
  row("the end of a policy window", 1000, windows),
  row("a change of a service whose exporter was killed, from its detection as dead", 1000, killed.tookMs),
];
function goal(work: string, value: number, unit: string, atMost: number): Goal {
  return { name: work, value, unit, atMost, shown: { work, unit, ours: value } };
}

const goals = rows.flatMap(({ what, "worst ms": value, "goal ms": atMost }) =>
  typeof atMost === "number" ? [goal(`regions, ${values.delay} ms between them: ${what}, worst`, value, "ms", atMost)] : [],
);
report({
  name: "regions-latency",
  isKept: asksForAll(values, DEFAULTS),
  tables: { [`${REGIONS.length} regions, ${values.clusters} clusters of ${values.nodes} nodes each, ${values.delay} ms one way`]: rows },
  goals: [
    ...goals,
    { name: "regions: services that were missing while an exporter was dead", value: killed.missing, unit: "services", atMost: 0 },
    goal("regions: bytes a second on a border link while nothing changes, worst", round(Math.max(...idle)), "B/s", 200),
  ],
  notes: [
    `Each pair of regions has border links, each through a relay that delays everything by ${values.delay} ms in each direction. Settings are the defaults: a hold-down of 5 s, an export interval of 30 s, batches of 200 ms. Two nodes of each cluster have border links, and all nodes have the signing key. Writes go to a node without border links.`,
    `Times are measured from before the call that changes something until a node of each cluster of the other regions shows the change. Each node is polled every ${LOOK_MS} ms plus the time of the call; the slowest of these nodes counts.`,
    "An exporter is killed with SIGKILL while services that it exports change. The times of these changes start when the node that received the write lists the exporter as dead.",
    `While nothing changes, the bytes of both directions are counted on each of ${idle.length} border links for ${values["idle-seconds"]} s, without TLS and TCP headers: ${round(idle.reduce((sum, rate) => sum + rate, 0) / idle.length)} B/s on average. Beacons are sent every 40 s, and contain the withdrawals of the minutes before.`,
    "All nodes, the relays and the driver share the machine's cores.",
  ],
});
