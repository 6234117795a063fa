/** Times that operators wait for: until an operation is in force on its node, until the other nodes show it, and until `waymark status` has ended. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { EntryKind } from "../gen/waymark/catalog/v1/entry_pb.js";
import { PeerDesired, PeerStatus } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { RequestError } from "../src/client/index.ts";
import { othersBeside, sleep, until } from "./_mesh.ts";
import { idOf, type OperatorFleet } from "./_operator-fleet.ts";
import { NODE_ENV, NODE_OPTIONS } from "./_processes.ts";
import { percentile } from "./_results.ts";
import { fail } from "./_work.ts";

export const VERBS = ["cordon", "uncordon", "label"] as const;
type Verb = (typeof VERBS)[number];

/** Time between two looks at a node, in ms. */
export const LOOK_MS = 3;
const LATE_MS = 30_000;
const REASON = "benchmark";
const LABEL = "bench";
const PROGRAM = join(import.meta.dirname, "..", "dist", "src", "main.js");

/** Times of one operation, from its call. */
interface OperationTimes {
  readonly verb: Verb;
  readonly answeredMs: number;
  readonly inForceMs: number;
  /** Until each of the other nodes shows it. */
  readonly shownMs: readonly number[];
}

export interface OperationFigures {
  readonly times: readonly OperationTimes[];
  readonly others: number;
}

/** Operations on each node in turn, called on each of the other nodes in turn. */
export async function operate(fleet: OperatorFleet, count: number): Promise<OperationFigures> {
  const others = othersBeside(fleet.processes);
  const times: OperationTimes[] = [];
  const size = fleet.nodes.length;
  // Each node is active again after the last operation.
  for (let i = 0; i < Math.ceil(count / VERBS.length) * VERBS.length; i++) {
    const turn = Math.floor(i / VERBS.length);
    const node = turn % size;
    const asked = (node + 1 + (Math.floor(turn / size) % (size - 1))) % size;
    times.push(await operateOnce(fleet, { verb: VERBS[i % VERBS.length] ?? fail(), node, asked, version: String(i) }));
  }
  return { times, others: others() };
}

interface Operation {
  readonly verb: Verb;
  readonly node: number;
  readonly asked: number;
  /** The value of the label. */
  readonly version: string;
}

async function operateOnce(fleet: OperatorFleet, operation: Operation): Promise<OperationTimes> {
  const { verb, node } = operation;
  const startMs = performance.now();
  const waiting = async (isSo: () => Promise<boolean>): Promise<number> => {
    while (!(await isSo())) {
      if (performance.now() - startMs > LATE_MS) throw new Error(`${verb} on ${idOf(node)} is not in force after ${LATE_MS} ms`);
      await sleep(LOOK_MS);
    }
    return performance.now() - startMs;
  };
  const others = fleet.nodes.flatMap((_, i) => (i === node ? [] : i));
  const [answeredMs, inForceMs, ...shownMs] = await Promise.all([
    call(fleet, operation).then(() => performance.now() - startMs),
    waiting(verb === "label" ? () => isShown(fleet, operation, node) : async () => (await isRefused(fleet, node)) === (verb === "cordon")),
    ...others.map((i) => waiting(() => isShown(fleet, operation, i))),
  ]);
  return { verb, answeredMs, inForceMs, shownMs };
}

async function call({ client, servers }: OperatorFleet, { verb, node, asked, version }: Operation): Promise<void> {
  const { cordon, uncordon, setLabels } = PeerService.method;
  const [server, request] = [servers[asked] ?? fail(), { nodeId: idOf(node), reason: REASON }];
  if (verb === "cordon") await client.callAt(server, cordon, request);
  else if (verb === "uncordon") await client.callAt(server, uncordon, request);
  else await client.callAt(server, setLabels, { ...request, labels: { [LABEL]: version } });
}

async function isShown(fleet: OperatorFleet, { verb, node, version }: Operation, on: number): Promise<boolean> {
  const { desired, labels } = await fleet.peer(node, on);
  if (verb === "label") return labels[LABEL] === version;
  return desired === (verb === "cordon" ? PeerDesired.CORDONED : PeerDesired.ACTIVE);
}

/** Whether the node refuses a registration because it accepts nothing new. */
async function isRefused({ client, servers }: OperatorFleet, node: number): Promise<boolean> {
  const key = { kind: EntryKind.SERVICE, namespace: "svc.operators", name: "probe", instanceId: idOf(node) };
  try {
    await client.callAt(servers[node] ?? fail(), DiscoveryService.method.register, { staticLease: true, entries: [{ key }] });
    return false;
  } catch (error) {
    if (error instanceof RequestError && error.facts.reason === "DRAINING") return true;
    throw error;
  }
}

/** Wall time (ms) of `waymark status`, from the start of its process to the end. `exit`: the code that is expected. */
async function statusMs({ servers }: OperatorFleet, exit: number): Promise<number> {
  const startMs = performance.now();
  const args = [...NODE_OPTIONS, PROGRAM, "status", "--server", servers[0] ?? fail()];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...NODE_ENV } });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const [code] = (await once(child, "close")) as [number];
  if (code !== exit) throw new Error(`waymark status ended with code ${code} instead of ${exit}:\n${text}`);
  return performance.now() - startMs;
}

export async function statusTimes(fleet: OperatorFleet, runs: number, exit = 0): Promise<readonly number[]> {
  const tookMs: number[] = [];
  for (let i = 0; i < runs; i++) tookMs.push(await statusMs(fleet, exit));
  return tookMs;
}

/** The last node is paused before each run, so the other nodes still regard it as alive. */
export async function pausedTimes(fleet: OperatorFleet, runs: number): Promise<readonly number[]> {
  const last = fleet.nodes.length - 1;
  const { pid } = fleet.nodes[last] ?? fail();
  const isBack = async () =>
    (await Promise.all(fleet.nodes.map((_, i) => fleet.peer(last, i)))).every(({ status }) => status === PeerStatus.ALIVE);
  const tookMs: number[] = [];
  for (let i = 0; i < runs; i++) {
    process.kill(pid, "SIGSTOP");
    tookMs.push(await statusMs(fleet, 1));
    process.kill(pid, "SIGCONT");
    await until(isBack, "the paused node is back");
  }
  return tookMs;
}

/** One row for each kind of operation. */
export function operationRows(times: readonly OperationTimes[]) {
  return VERBS.map((verb) => {
    const own = times.filter((each) => each.verb === verb);
    const p = (of: (each: OperationTimes) => readonly number[] | number, share: number) => percentile(own.flatMap(of), share);
    return {
      operation: verb,
      calls: own.length,
      "answer p50 ms": p(({ answeredMs }) => answeredMs, 0.5),
      "in force p50 ms": p(({ inForceMs }) => inForceMs, 0.5),
      "in force p99 ms": p(({ inForceMs }) => inForceMs, 0.99),
      "shown by others p50 ms": p(({ shownMs }) => shownMs, 0.5),
      "shown by others p99 ms": p(({ shownMs }) => shownMs, 0.99),
    };
  });
}
