/** Real nodes, and a node of another cluster, which `fabric.clusters` lets in, that lies about them in calls: it speaks for itself alone. */
import { connect as connectHttp2 } from "node:http2";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { HealthStatus } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { decodeCallResponse, encodeCallRequest } from "../../src/fabric/wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, LostWord, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { framed, PREFIX_BYTES } from "../../src/grpc/wire/message-reader.ts";
import { ClusterHome } from "../fakes/cluster-home.ts";
import { type NodeProcess, withClient } from "../fakes/node-process.ts";
import { callHeaders } from "../fakes/raw-link.ts";
import { until } from "../fakes/until.ts";
import { allEntries } from "../fakes/write-storm.ts";

const FROM = { nodeId: "evil", generation: 1, clusterId: "other", region: "local" };
const home = new ClusterHome({ fabric: { trust: "explicit", clusters: ["other"], interval: "400ms", ping_timeout: "250ms" } });
let a: NodeProcess;
let b: NodeProcess;
let written = 0;

beforeAll(async () => {
  a = await home.start("a");
  b = await home.start("b", [a]);
  await goesOn();
});

afterAll(async () => {
  for (const node of [a, b]) await node.stop("SIGKILL");
  home[Symbol.dispose]();
});

/** Asks a node as somebody of the other cluster. */
async function ask(node: NodeProcess, path: "Probe" | "PushPull", request: FabricCallRequest): Promise<FabricCallResponse> {
  const session = connectHttp2(`http://${node.listeners["fabric"]}`);
  session.on("error", () => {});
  const stream = session.request(callHeaders(path, ""));
  stream.on("error", () => {});
  stream.end(framed(encodeCallRequest(request)));
  const answer = await buffer(stream);
  session.close();
  return decodeCallResponse(request.kind, answer.subarray(PREFIX_BYTES));
}

const tell = (node: NodeProcess, updates: readonly MemberUpdate[]) =>
  ask(node, "Probe", { kind: "probe", from: FROM, targetNodeId: node.nodeId, updates });

/** What `b` says of `a`. */
async function asHeld(): Promise<MemberUpdate> {
  const answer = await ask(b, "PushPull", { kind: "pushPull", from: FROM, isJoin: false, members: [] });
  const held = answer.kind === "pushPull" ? answer.members.find(({ nodeId }) => nodeId === "a") : undefined;
  if (held === undefined) throw new Error("b knows a");
  return held;
}

/** `a` takes a write, `b` shows it and all before it, and both are ready. */
async function goesOn(): Promise<boolean> {
  written += 1;
  const key = { namespace: "svc.shop", name: `w${written}`, instanceId: "1", kind: 1 };
  await withClient(a, (client) => client.call(DiscoveryService.method.register, { entries: [{ key }], staticLease: true }));
  await until("b shows all of a, healthy", async () => {
    const entries = await withClient(b, (client) => allEntries(client, "svc.shop"));
    const healthy = entries.filter(({ health }) => health === HealthStatus.HEALTHY).length;
    return healthy === written ? [] : [`${healthy} of ${written}`];
  });
  for (const node of [a, b]) expect((await fetch(`http://${node.listeners["http"]}/readyz`)).status).toBe(200);
  return true;
}

test.each<{ readonly what: string; readonly lie: (held: MemberUpdate) => Partial<MemberUpdate> }>([
  { what: "is dead", lie: () => ({ status: "dead" }) },
  { what: "has left", lie: () => ({ status: "left" }) },
  { what: "was started again", lie: ({ boot = "" }) => ({ boot: "ffeeffeeffeeffee", bootBefore: boot }) },
  { what: "lives in a later generation", lie: ({ generation }) => ({ generation: generation + 1 }) },
  {
    what: "is elsewhere, in words that it could hardly contradict",
    lie: ({ incarnation }) => ({ address: "127.0.0.1:9", incarnation: incarnation + 10 * 365 * 86_400 + 3500 }),
  },
])("that a node of ours $what", async ({ lie }) => {
  const held = await asHeld();
  for (const node of [a, b]) await tell(node, [{ ...held, incarnation: held.incarnation + 5, ...lie(held) }]);
  expect(await goesOn()).toBe(true);
  const { generation, boot, address } = await asHeld();
  expect({ generation, boot, address }).toEqual({ generation: held.generation, boot: held.boot, address: held.address });
});

test("that what a node of ours wrote is lost, up to numbers that it never gave out", async () => {
  const { generation } = await asHeld();
  const lost: LostWord[] = [{ nodeId: "a", generation, through: 2 ** 52 - 2, mark: 2 ** 52 - 2 }];
  for (const node of [a, b]) await ask(node, "PushPull", { kind: "pushPull", from: FROM, isJoin: false, members: [], lost });
  expect(await goesOn()).toBe(true);
  expect((await asHeld()).generation).toBe(generation);
});

test("that it has more nodes than a table holds: a newcomer of ours is a member all the same", { tags: ["night"] }, async () => {
  const held = await asHeld();
  const members = Array.from({ length: 10_000 }, (_, i) => ({ ...held, ...FROM, nodeId: `made-up-${i}`, address: `127.0.0.1:${i + 1}` }));
  for (const node of [a, b]) {
    for (const half of [members.slice(0, 5000), members.slice(5000)])
      await ask(node, "PushPull", { kind: "pushPull", from: FROM, isJoin: false, members: half });
  }
  const c = await home.start("c", [a]);
  expect(await goesOn()).toBe(true);
  const register = { entries: [{ key: { namespace: "svc.late", name: "web", instanceId: "1", kind: 1 } }], staticLease: true };
  await withClient(c, (client) => client.call(DiscoveryService.method.register, register));
  for (const node of [a, b]) {
    await until("what it takes is shown, healthy", async () => {
      const entries = await withClient(node, (client) => allEntries(client, "svc.late"));
      return entries.map(({ health }) => health).join() === String(HealthStatus.HEALTHY) ? [] : [`${entries.length} entries`];
    });
  }
  await c.stop("SIGKILL");
});
