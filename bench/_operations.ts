/** Times that operators wait for: until an operation is in force on its node, until the other nodes show it, and until `waymark status` has ended. */
import { join } from "node:path";
import { EntryKind } from "../gen/waymark/catalog/v1/entry_pb.js";
import { PeerDesired, PeerStatus } from "../gen/waymark/catalog/v1/peer_pb.js";
import { PeerService } from "../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../gen/waymark/discovery/v1/discovery_pb.js";
import { run } from "../scripts/run.ts";
import { RequestError } from "../src/client/index.ts";
import { until } from "./_mesh.ts";
import { idOf, type OperatorFleet, peerOf } from "./_operator-fleet.ts";
import { NODE_ENV, NODE_OPTIONS } from "./_processes.ts";
import { fail } from "./_work.ts";

const VERBS = ["cordon", "uncordon", "setLabels"] as const;
const LABEL = "bench";
const PROGRAM = join(import.meta.dirname, "..", "dist", "src", "main.js");

interface Operation {
  readonly verb: (typeof VERBS)[number];
  readonly node: number;
  readonly asked: number;
  /** The value of the label. */
  readonly value: string;
}

/** Times of one operation, from its call. */
export interface OperationTimes {
  readonly verb: Operation["verb"];
  readonly answeredMs: number;
  readonly inForceMs: number;
  /** Until each of the other nodes shows it. */
  readonly shownMs: readonly number[];
}

/** Operations on each node in turn, called on each of the other nodes in turn. Each node is active afterwards. */
export async function operate(fleet: OperatorFleet, count: number): Promise<readonly OperationTimes[]> {
  const times: OperationTimes[] = [];
  const size = fleet.nodes.length;
  for (let turn = 0; turn < count / VERBS.length; turn++) {
    const node = turn % size;
    const asked = (node + 1 + (Math.floor(turn / size) % (size - 1))) % size;
    for (const verb of VERBS) times.push(await operateOnce(fleet, { verb, node, asked, value: String(turn) }));
  }
  return times;
}

async function operateOnce(fleet: OperatorFleet, operation: Operation): Promise<OperationTimes> {
  const { verb, node, asked, value } = operation;
  const request = { nodeId: idOf(node), reason: "benchmark" };
  const server = fleet.servers[asked] ?? fail();
  const calls = {
    cordon: () => fleet.client.callAt(server, PeerService.method.cordon, request),
    uncordon: () => fleet.client.callAt(server, PeerService.method.uncordon, request),
    setLabels: () => fleet.client.callAt(server, PeerService.method.setLabels, { ...request, labels: { [LABEL]: value } }),
  };
  const isInForce = async () =>
    verb === "setLabels" ? isShown(fleet, operation, node) : (await isRefused(fleet, node)) === (verb === "cordon");
  const others = fleet.nodes.flatMap((_, i) => (i === node ? [] : i));
  const startMs = performance.now();
  const [answeredMs, inForceMs, ...shownMs] = await Promise.all([
    calls[verb]().then(() => performance.now() - startMs),
    until(isInForce, `${verb} is in force`),
    ...others.map((i) => until(() => isShown(fleet, operation, i), `${verb} is shown by ${idOf(i)}`)),
  ]);
  return { verb, answeredMs, inForceMs, shownMs };
}

async function isShown(fleet: OperatorFleet, { verb, node, value }: Operation, by: number): Promise<boolean> {
  const { desired, labels } = await peerOf(fleet, node, by);
  return verb === "setLabels" ? labels[LABEL] === value : desired === (verb === "cordon" ? PeerDesired.CORDONED : PeerDesired.ACTIVE);
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

/** Wall times (ms) of `waymark status`, from the start of its process to the end. `exit`: the code that is expected. */
export async function statusTimes({ servers }: OperatorFleet, runs: number, exit: 0 | 1): Promise<readonly number[]> {
  const tookMs: number[] = [];
  for (let i = 0; i < runs; i++) {
    const startMs = performance.now();
    const args = [...NODE_OPTIONS, PROGRAM, "status", "--server", servers[0] ?? fail()];
    const { code, output } = await run(process.execPath, args, { env: NODE_ENV });
    tookMs.push(performance.now() - startMs);
    if (code !== exit) throw new Error(`waymark status ended with code ${code} instead of ${exit}:\n${output}`);
  }
  return tookMs;
}

/** The same while the last node is paused, which the other nodes still regard as alive. */
export async function pausedTimes(fleet: OperatorFleet, runs: number): Promise<readonly number[]> {
  const last = fleet.nodes.length - 1;
  const { pid } = fleet.nodes[last] ?? fail();
  const seen = () => Promise.all(fleet.nodes.map((_, i) => peerOf(fleet, last, i)));
  const tookMs: number[] = [];
  for (let i = 0; i < runs; i++) {
    process.kill(pid, "SIGSTOP");
    tookMs.push(...(await statusTimes(fleet, 1, 1)));
    process.kill(pid, "SIGCONT");
    await until(async () => (await seen()).every(({ status }) => status === PeerStatus.ALIVE), "the paused node is back");
  }
  return tookMs;
}
