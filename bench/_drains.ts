/** One node of a fleet is drained while programs use it: how long each step lasts, and everything that a program must not see. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { cpus } from "node:os";
import { join } from "node:path";
import { PeerDrainStep } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { enumWord } from "../src/lib/enum-words.ts";
import { DrainLookups } from "./_drain-lookups.ts";
import type { ProgramFigures } from "./_drain-programs-child.ts";
import { countOn, cpuMs, othersBeside, sleep } from "./_mesh.ts";
import { idOf, type OperatorFleet, peerOf } from "./_operator-fleet.ts";
import { cpuMsOf } from "./_processes.ts";
import { ask, fail, INSTANCES, PATH, registerBytes } from "./_work.ts";

export interface DrainLoad {
  readonly lookupsPerSecond: number;
  readonly watches: number;
  /** Each with one entry. */
  readonly leases: number;
  readonly statics: number;
}

/** The default of `dns.max_ttl`. */
export const MAX_TTL_MS = 60_000;
export const LEASE_MS = 10_000;
/** Time (ms) for which the lookups run before the drain, so that programs are compiled, and after it. */
const [BEFORE_MS, AFTER_MS] = [10_000, 5000];
const LOOK_MS = 100;
const LATE_MS = 300_000;

/** Drains node `drained`, which has all leases and static entries at first. */
export async function drainUnderLoad(fleet: OperatorFleet, drained: number, { leases, statics, watches, lookupsPerSecond }: DrainLoad) {
  const { nodes, servers } = fleet;
  await ask(nodes[drained] ?? fail(), PATH.register, registerBytes(leases, leases + statics));
  const sizes = [leases, watches, LEASE_MS].map(String);
  const child = fork(join(import.meta.dirname, "_drain-programs-child.ts"), [servers[drained] ?? fail(), servers.join(","), ...sizes]);
  process.on("exit", () => child.kill("SIGKILL"));
  await once(child, "message");
  const lookups = await DrainLookups.open(fleet, drained, Math.floor((leases + statics) / INSTANCES));
  const stop = lookups.start(lookupsPerSecond);
  await sleep(BEFORE_MS);
  const programsOf = { cpuMs: () => cpuMsOf(child.pid ?? 0) };
  const parts = { nodes, etcd: fleet.processes.slice(nodes.length), programs: [programsOf] };
  const othersOf = othersBeside(Object.values(parts).flat());
  const beforeMs = Object.values(parts).map(cpuMs);
  const own = process.cpuUsage();
  const startMs = performance.now();
  const { steps, drainedSeconds } = await drain(fleet, drained);
  await sleep(AFTER_MS);
  const others = othersOf();
  const tookMs = performance.now() - startMs;
  const cores = Object.entries(parts).map(([who, of], i) => [who, (cpuMs(of) - (beforeMs[i] ?? 0)) / tookMs] as const);
  const { user, system } = process.cpuUsage(own);
  await stop();
  child.send("read");
  const [programs] = (await once(child, "message")) as [ProgramFigures];
  child.disconnect();
  const withdrawnMs = startMs + (steps.get("addresses") ?? fail()) * 1000;
  return {
    /** Seconds from the call until each step began on the node, and until another node showed that it was drained. */
    steps,
    drainedSeconds,
    lookups: lookups.row,
    programs,
    /** DNS answers with the address of the node, later than `dns.max_ttl` after the step of addresses began. */
    lateNames: lookups.named.filter(({ atMs }) => atMs > withdrawnMs + MAX_TTL_MS).length,
    /** Seconds from the beginning of that step until caches have forgotten the last answer with the address. */
    cachedSeconds: (Math.max(...lookups.named.map(({ atMs, ttlMs }) => atMs + ttlMs)) - withdrawnMs) / 1000,
    /** Nodes with another number of entries at the end. */
    wrongCounts: (await Promise.all(nodes.map(countOn))).filter((count) => count !== leases + statics).length,
    /** Cores that each part used. */
    cores: { ...Object.fromEntries(cores), "load generator": (user + system) / 1000 / tookMs, others: others * cpus().length },
    others,
  };
}

/** Until another node shows that the node is drained. */
async function drain(fleet: OperatorFleet, drained: number) {
  const startMs = performance.now();
  const seconds = () => (performance.now() - startMs) / 1000;
  const other = (drained + 1) % fleet.nodes.length;
  const steps = new Map<string, number>();
  await fleet.client.callAt(fleet.servers[other] ?? fail(), PeerService.method.drain, { nodeId: idOf(drained), reason: "benchmark" });
  for (let last = ""; ; await sleep(LOOK_MS)) {
    const { drain: own } = await peerOf(fleet, drained, drained);
    const step = enumWord(PeerDrainStep, own?.step ?? PeerDrainStep.UNSPECIFIED);
    if (own !== undefined && !steps.has(step)) steps.set(step, seconds());
    const left = `${step} ${Object.entries(own?.left ?? {})
      .map(([kind, count]) => `${kind}=${count}`)
      .join(" ")}`;
    if (left !== last && !left.includes("seconds")) console.error(`${seconds().toFixed(1)} s: ${left}`);
    last = left;
    const { drain: shown } = await peerOf(fleet, drained, other);
    if (shown?.step === PeerDrainStep.DRAINED) return { steps, drainedSeconds: seconds() };
    if (seconds() * 1000 > LATE_MS) throw new Error(`${idOf(drained)} is not drained after ${seconds()} s: ${left}`);
  }
}
