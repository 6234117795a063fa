/**
 * A cluster whose nodes are all killed twice, sooner than they write down which starts of each other they know: each is one node.
 * @module-tag night
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-killed-twice-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));
const IDS = ["a", "b", "c"] as const;
const ALARMS = /two_nodes_with_one_id|own_id_used_by_another|own_update_refused|duplicate_node/;

const portOf = ({ listeners }: NodeProcess) => listeners["fabric"]?.split(":")[1] ?? "0";

function start(nodeId: string, seed: string, port = "0"): Promise<NodeProcess> {
  const disk = ["--data-dir", join(HOME, nodeId), "--on-stop", "keep", "--fabric-port", port];
  return startNodeProcess(["--node-id", nodeId, "--log-level", "info", ...disk, ...(seed === "" ? [] : ["--join", seed])]);
}

async function isWhole(nodes: readonly NodeProcess[]): Promise<void> {
  for (const node of nodes)
    await until(`${node.nodeId} is linked with all others`, async () => {
      const answer = await fetch(`http://${node.listeners["http"] ?? ""}/control/peers`);
      const { peers } = (await answer.json()) as { readonly peers: readonly { status: string; linked?: boolean }[] };
      const linked = peers.filter((peer) => peer.status === "PEER_STATUS_ALIVE" && peer.linked === true);
      return linked.length === nodes.length - 1 ? [] : [JSON.stringify(peers)];
    });
}

test("three nodes that are killed twice before a snapshot are taken again, and no log and no audit tells of two nodes with one id", async () => {
  await using first = await start("a", "");
  const seed = first.listeners["fabric"] ?? "";
  await using b = await start("b", seed);
  await using c = await start("c", seed);
  let nodes: readonly NodeProcess[] = [first, b, c];
  const ports = nodes.map(portOf);
  const again = async () => {
    nodes = await Promise.all(IDS.map((nodeId, i) => start(nodeId, nodeId === "a" ? "" : seed, ports[i])));
    await isWhole(nodes);
  };
  await isWhole(nodes);
  // A polite stop writes down which starts are known.
  await Promise.all(nodes.map((node) => node.stop("SIGTERM")));
  try {
    await again();
    await Promise.all(nodes.map((node) => node.stop("SIGKILL")));
    await again();
    for (const node of nodes) {
      using door = new GrpcDoor(node.grpc);
      const key = { kind: "ENTRY_KIND_SERVICE", namespace: "svc", name: node.nodeId, instanceId: "1" };
      expect((await door.ask("register", { entries: [{ key, scope: "SCOPE_REGION" }], staticLease: true })).code).toBe("OK");
    }
    for (const node of nodes) {
      expect(node.command.stderr).not.toMatch(ALARMS);
      const audit = await node.run(["audit", "list", "-o", "json"]);
      expect([audit.exit, ALARMS.test(audit.stdout)]).toEqual([0, false]);
    }
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
  }
});
