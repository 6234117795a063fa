/** One node of a fleet is drained while programs use it: how long each step takes, and everything that a program must not see. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { PeerDrainStep } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { enumWord } from "../src/lib/enum-words.ts";
import { DrainLookups } from "./_drain-lookups.ts";
import type { ProgramFigures } from "./_drain-programs-child.ts";
import { countOn, othersBeside, sleep } from "./_mesh.ts";
import { idOf, type OperatorFleet } from "./_operator-fleet.ts";
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
const TTL_MS = 10_000;
/** Time (ms) for which the lookups run before the drain, so that programs are compiled, and after it. */
const [BEFORE_MS, AFTER_MS] = [10_000, 5000];
const LOOK_MS = 100;
const LATE_MS = 300_000;

export interface DrainFigures {
  readonly lookups: DrainLookups["row"];
  readonly programs: ProgramFigures;
  /** Seconds from the call until each step began on the node. */
  readonly steps: ReadonlyMap<string, number>;
  /** Seconds until another node showed that the node was drained. */
  readonly drainedSeconds: number;
  /** DNS answers with the address of the node, later than `dns.max_ttl` after the step of addresses began. */
  readonly lateNames: number;
  /** Seconds from the beginning of that step until caches have forgotten the last answer with the address. */
  readonly cachedSeconds: number;
  /** Nodes that have another number of entries at the end than were registered. */
  readonly wrongCounts: number;
  readonly others: number;
}

/** Drains node `drained`, which has all leases and static entries at first. */
export async function drainUnderLoad(fleet: OperatorFleet, drained: number, load: DrainLoad): Promise<DrainFigures> {
  const { leases, statics, watches, lookupsPerSecond } = load;
  await ask(fleet.nodes[drained] ?? fail(), PATH.register, registerBytes(leases, leases + statics));
  const child = fork(join(import.meta.dirname, "_drain-programs-child.ts"), [
    fleet.servers[drained] ?? fail(),
    fleet.servers.join(","),
    ...[leases, watches, TTL_MS].map(String),
  ]);
  process.on("exit", () => child.kill("SIGKILL"));
  await once(child, "message");
  const lookups = await DrainLookups.open(fleet, drained, Math.floor((leases + statics) / INSTANCES));
  const programs = { cpuMs: () => cpuMsOf(child.pid ?? 0) };
  const stop = lookups.start(lookupsPerSecond);
  await sleep(BEFORE_MS);
  const others = othersBeside([...fleet.processes, programs]);
  const startMs = performance.now();
  const { steps, drainedSeconds } = await drain(fleet, drained, startMs);
  await sleep(AFTER_MS);
  const figures = { others: others(), steps, drainedSeconds };
  await stop();
  console.error(lookups.faults);
  const hiddenMs = startMs + (steps.get("addresses") ?? fail()) * 1000;
  const ends = lookups.named.map(({ atMs, ttlMs }) => atMs + ttlMs);
  return {
    ...figures,
    lookups: lookups.row,
    programs: await figuresOf(child),
    lateNames: lookups.named.filter(({ atMs }) => atMs > hiddenMs + MAX_TTL_MS).length,
    cachedSeconds: (Math.max(...ends) - hiddenMs) / 1000,
    wrongCounts: (await Promise.all(fleet.nodes.map(countOn))).filter((count) => count !== leases + statics).length,
  };
}

async function figuresOf(child: ChildProcess): Promise<ProgramFigures> {
  child.send("read");
  const [figures] = (await once(child, "message")) as [ProgramFigures];
  child.disconnect();
  await once(child, "exit");
  return figures;
}

/** Until the node and another node show that it is drained. */
async function drain(fleet: OperatorFleet, drained: number, startMs: number) {
  const other = (drained + 1) % fleet.nodes.length;
  const seconds = () => (performance.now() - startMs) / 1000;
  const steps = new Map<string, number>();
  let left = "";
  await fleet.client.callAt(fleet.servers[other] ?? fail(), PeerService.method.drain, { nodeId: idOf(drained), reason: "benchmark" });
  while (seconds() * 1000 < LATE_MS) {
    const { drain: own } = await fleet.peer(drained, drained);
    const step = own === undefined ? "" : enumWord(PeerDrainStep, own.step);
    if (step !== "" && !steps.has(step)) steps.set(step, seconds());
    const now = `${step} ${JSON.stringify(Object.entries(own?.left ?? {}).map(([kind, count]) => `${kind} ${count}`))}`;
    if (now !== left && !now.includes("seconds")) console.error(`${seconds().toFixed(1)} s: ${now}`);
    left = now;
    const { drain: shown } = await fleet.peer(drained, other);
    if (shown?.step === PeerDrainStep.DRAINED) return { steps, drainedSeconds: seconds() };
    await sleep(LOOK_MS);
  }
  throw new Error(`${idOf(drained)} is not drained after ${LATE_MS / 1000} s: ${left}`);
}
