/**
 * A key that moves within its cluster, seen from another cluster of real nodes.
 * @module-tag night
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-moved-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const CONFIG = join(HOME, "node.json");
writeFileSync(CONFIG, JSON.stringify({ fabric: { trust: "explicit", clusters: ["c1", "c2"] } }));

function start(nodeId: string, clusterId: string, peers: readonly NodeProcess[]): Promise<NodeProcess> {
  const joins = peers.length === 0 ? [] : ["--join", peers.map((peer) => peer.listeners["fabric"] ?? "").join()];
  return startNodeProcess(["--ephemeral", "--config", CONFIG, "--node-id", nodeId, "--cluster-id", clusterId, "--region", "eu", ...joins]);
}

async function seenAt(door: GrpcDoor): Promise<string> {
  const { response } = await door.ask("catalogQuery", { namespace: "svc.market" });
  const items = (response["items"] ?? []) as JsonObject[];
  return items.map((item) => textOf(item["nodeId"])).join(" ");
}

test("REGION at one node, then ZONE at another: the other cluster does not show it any more", async () => {
  await using a = await start("a", "c1", []);
  await using b = await start("b", "c1", [a]);
  await using c = await start("c", "c2", [a, b]);
  using atA = new GrpcDoor(a.grpc);
  using atB = new GrpcDoor(b.grpc);
  using atC = new GrpcDoor(c.grpc);
  const entry = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: "web", instanceId: "1" } };
  const put = async (door: GrpcDoor, scope: string): Promise<void> => {
    expect((await door.ask("register", { entries: [{ ...entry, scope }], staticLease: true })).code).toBe("OK");
  };
  const shows = (door: GrpcDoor, want: string): Promise<void> =>
    until(`"${want}" is shown`, async () => {
      const seen = await seenAt(door);
      return seen === want ? [] : [seen];
    });
  await put(atA, "SCOPE_REGION");
  await shows(atB, "a");
  await shows(atC, "a");
  await put(atB, "SCOPE_ZONE");
  await shows(atA, "b");
  await shows(atC, "");
  await put(atA, "SCOPE_REGION");
  await shows(atC, "a");
});
