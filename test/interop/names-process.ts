/** A program that calls a service by its Waymark name, run while its registry is killed and comes back. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { DiscoveryDelta_Action, type DiscoveryDelta_Cause } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { EntryKind, HealthStatus, type TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { ROOT } from "../../scripts/run.ts";
import { connect } from "../../src/client/index.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const CALLS = 20;
const NAMESPACE = "interop.names";

/** What some calls came to: failures, and how many instances answered. */
interface Round {
  readonly failed: number;
  readonly answered: number;
}

/**
 * Answers before the registry is killed, while it is away, when it is back and one of the two instances is degraded, and when it is frozen and another server says
 * that both are healthy.
 */
export interface Outcome {
  readonly first: Round;
  readonly cutOff: Round;
  readonly back: Round;
  readonly frozen: Round;
}

/** The program, which makes `CALLS` calls each time that it is told to. */
function startProgram(program: string, servers: string) {
  const flags = ["--servers", servers, "--target", `waymark:///${NAMESPACE}/web`, "--bookmark-interval", "1s"];
  const child = spawn(program, flags, { cwd: ROOT });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const calls = async (): Promise<Round & { readonly reason: string }> => {
    child.stdin.write(`${CALLS}\n`);
    const line = await lines.next();
    if (line.done === true) throw new Error(`the program ended: ${stderr}`);
    const { failed, reason, answers } = JSON.parse(line.value) as Omit<Round, "answered"> & {
      readonly reason: string;
      readonly answers: Readonly<Record<string, number>>;
    };
    return { failed, reason, answered: Object.keys(answers).length };
  };
  const end = async (): Promise<void> => {
    child.stdin.end();
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  };
  return { calls, end };
}

/**
 * Makes calls when a registry tells one instance with a port of this protocol, and then what `after` has, until the failure is the one that is expected: the program may call
 * before it has heard everything. Returns the failure of the calls after that; empty when none failed.
 */
export async function runNamesAfter(
  program: string,
  { protocol, after }: { readonly protocol: string; readonly after: readonly RegistryMessage[] },
  expected: RegExp,
): Promise<string> {
  const [registry, backend] = [new FakeDiscovery(), new FakeDiscovery()];
  await Promise.all([registry.start(), backend.start()]);
  registry.watchScript = [[...snapshotOf([backend.address], protocol), ...after]];
  const { calls, end } = startProgram(program, registry.address);
  try {
    await until("the calls come to it", async () => expected.test((await calls()).reason));
    return (await calls()).reason;
  } finally {
    await end();
    for (const server of [registry, backend]) server.stop();
  }
}

type RegistryMessage = FakeDiscovery["watchScript"][number][number];

const KEY = { kind: EntryKind.SERVICE, namespace: NAMESPACE, name: "web", instanceId: "1" };

/** A snapshot with an instance for each address. */
function snapshotOf(
  addresses: readonly string[],
  protocol = "grpc",
  more: readonly MessageInitShape<typeof TargetSchema>[] = [],
): readonly RegistryMessage[] {
  const deltas = addresses.map((address, i) => {
    const instanceId = String(i + 1);
    const value = { key: { ...KEY, instanceId }, health: HealthStatus.HEALTHY, targets: [...more, targetOf(address, protocol)] };
    return { action: DiscoveryDelta_Action.CREATE, deltaId: instanceId, payload: { case: "entry" as const, value } };
  });
  return [
    { snapshot: Snapshot.BEGIN, deltas },
    { snapshot: Snapshot.END, portableCursor: "p" },
  ];
}

function targetOf(address: string, protocol = "grpc") {
  const [host = "", port = ""] = address.split(":");
  return { host, port: Number(port), protocol };
}

/** The removal of the instance, for a cause. */
export function removal(cause: DiscoveryDelta_Cause): RegistryMessage {
  const delta = { action: DiscoveryDelta_Action.REMOVE, deltaId: "2", cause, payload: { case: "removed" as const, value: KEY } };
  return { deltas: [delta], bookmark: true, portableCursor: "q" };
}

/** A snapshot without entries, of all namespaces or of some. */
export function emptySnapshot(...replaces: readonly string[]): readonly RegistryMessage[] {
  return [
    { snapshot: Snapshot.BEGIN, replaces: [...replaces] },
    { snapshot: Snapshot.END, portableCursor: "q" },
  ];
}

export async function runNames(program: string): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-names-"));
  const backends = [new FakeDiscovery(), new FakeDiscovery()];
  const other = new FakeDiscovery();
  other.refusals.set("catalogWatch", { code: status.UNAVAILABLE, message: "starting" });
  await other.start();
  let node = await startNodeProcess(["--data-dir", folder]);
  const port = node.grpc.split(":").at(-1) ?? "";
  // The address of nobody stands before the one of the registry.
  const { calls: callAll, end } = startProgram(program, `127.0.0.1:1,${node.grpc},${other.address}`);
  const calls = async (): Promise<Round> => {
    const { failed, answered } = await callAll();
    return { failed, answered };
  };
  /** Calls until they come to this, because the program hears of a change a little later. */
  const callsUntil = async (answered: number): Promise<Round> => {
    let round = await calls();
    await until(`${answered} answer`, async () => {
      round = await calls();
      return round.answered === answered;
    });
    return round;
  };
  try {
    const addresses = await Promise.all(
      backends.map(async (backend) => {
        await backend.start();
        return backend.address;
      }),
    );
    await put(node.grpc, addresses, HealthStatus.HEALTHY);
    const first = await callsUntil(2);
    await node.stop("SIGKILL");
    const cutOff = await calls();
    node = await startNodeProcess(["--data-dir", folder, "--grpc-port", port]);
    await put(node.grpc, addresses.slice(1), HealthStatus.DEGRADED);
    const back = await callsUntil(1);
    // Its connections stand, and nothing comes on them.
    node.command.kill("SIGSTOP");
    // The port of a worse priority is for when the others are not there.
    other.watchScript = [snapshotOf(addresses, "grpc", [{ ...targetOf(other.address), priority: 1 }])];
    other.refusals.clear();
    return { first, cutOff, back, frozen: await callsUntil(2) };
  } finally {
    await end();
    for (const server of [...backends, other]) server.stop();
    await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Registers instances of the service that stay. */
async function put(registry: string, addresses: readonly string[], health: HealthStatus): Promise<void> {
  const client = connect({ servers: [registry], findServers: false });
  const entries = addresses.map((address) => ({
    key: { namespace: NAMESPACE, name: "web", instanceId: address },
    health,
    targets: [targetOf(address)],
  }));
  await client.discovery.register({ entries, staticLease: true });
  client.close();
}
