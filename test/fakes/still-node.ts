/** A node whose revision only the test moves. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { GrpcDoor } from "./node.ts";
import { type NodeProcess, startNodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

/** Starts one; it has told its own load once, which moves the revision, and tells it no more. */
export async function startStillNode(flags: readonly string[]): Promise<{ readonly node: NodeProcess; readonly grpc: GrpcDoor }> {
  const config = join(mkdtempSync(join(tmpdir(), "waymark-still-")), "still.json");
  writeFileSync(config, JSON.stringify({ catalog: { load_interval: "1h" } }));
  const node = await startNodeProcess(["--ephemeral", "--config", config, ...flags]);
  const grpc = new GrpcDoor(node.grpc);
  await until("it has told its load", async () => (await grpc.revision()) === 2);
  return { node, grpc };
}
