/** A program that calls a service by its Waymark name, run while its registry is killed and comes back. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
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

/** Answers before the registry is killed, while it is away, and when it is back and one of the two instances is degraded. */
export interface Outcome {
  readonly first: Round;
  readonly cutOff: Round;
  readonly back: Round;
}

export async function runNames(program: string): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), "waymark-names-"));
  const backends = [new FakeDiscovery(), new FakeDiscovery()];
  let node = await startNodeProcess(["--data-dir", folder]);
  const port = node.grpc.split(":").at(-1) ?? "";
  // The address of nobody stands before the one of the registry.
  const child = spawn(program, ["--servers", `127.0.0.1:1,${node.grpc}`, "--target", `waymark:///${NAMESPACE}/web`], { cwd: ROOT });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const calls = async (): Promise<Round> => {
    child.stdin.write(`${CALLS}\n`);
    const line = await lines.next();
    if (line.done === true) throw new Error(`the program ended: ${stderr}`);
    const { failed, answers } = JSON.parse(line.value) as { readonly failed: number; readonly answers: Readonly<Record<string, number>> };
    return { failed, answered: Object.keys(answers).length };
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
    return { first, cutOff, back: await callsUntil(1) };
  } finally {
    child.stdin.end();
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    for (const backend of backends) backend.stop();
    await node[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Registers instances of the service that stay. */
async function put(registry: string, addresses: readonly string[], health: HealthStatus): Promise<void> {
  const client = connect({ servers: [registry], findServers: false });
  const entries = addresses.map((address) => {
    const [host = "", port = ""] = address.split(":");
    const key = { namespace: NAMESPACE, name: "web", instanceId: address };
    return { key, health, targets: [{ host, port: Number(port), protocol: "grpc" }] };
  });
  await client.discovery.register({ entries, staticLease: true });
  client.close();
}
