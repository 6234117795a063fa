/** The operators' records of nodes: each change is one compare-and-swap, under the conditions that the operator gives. */
import { expect, test } from "vitest";
import type { PeerChange } from "../../../src/control/peers/peers.ts";
import { decodePeer, PEER_GUARD, requestKind } from "../../../src/control/peers/records.ts";
import { WALL_MS } from "../../fakes/leader-lab.ts";
import { PeerLab } from "../../fakes/peer-lab.ts";

const CORDON: PeerChange = { kind: "cordon", isForced: false, deadlineMs: 0, readyCount: 2 };
const DRAIN: PeerChange = { kind: "drain", isForced: false, deadlineMs: 60_000, readyCount: 2 };
const LAST: PeerChange = { ...CORDON, readyCount: 0 };

function lab() {
  const world = new PeerLab();
  const [a, b] = [world.peerNode("a"), world.peerNode("b")];
  const stored = (nodeId: string) => decodePeer(world.store.valueOf(`peers/${nodeId}`) ?? new Uint8Array());
  return { world, a, b, stored };
}

test("each operation leaves the state that it names, and all nodes know it", () => {
  const { world, a, b, stored } = lab();
  const known = () => [a, b].map((node) => node.peers.record("c")?.value?.desired);
  expect(a.change("c", CORDON, { ticket: "OPS-7" })).toBeUndefined();
  expect(known()).toEqual(["cordoned", "cordoned"]);
  expect(stored("c")).toMatchObject({ reason: "new disks", ticket: "OPS-7", actor: "ann", atWallMs: WALL_MS + 1000, drain: undefined });
  world.advance(5000);
  expect(b.change("c", DRAIN)).toBeUndefined();
  const drain = { sinceWallMs: WALL_MS + 6000, deadlineWallMs: WALL_MS + 66_000, isForced: false };
  expect([known(), stored("c")?.drain]).toEqual([["drained", "drained"], drain]);
  world.advance(5000);
  // A drain that is asked for again keeps its beginning, and gets another deadline.
  expect(a.change("c", { ...DRAIN, isForced: true })).toBeUndefined();
  expect(stored("c")?.drain).toEqual({ ...drain, deadlineWallMs: WALL_MS + 71_000, isForced: true });
  expect(a.change("c", { kind: "uncordon" })).toBeUndefined();
  expect([known(), stored("c")?.drain]).toEqual([["active", "active"], undefined]);
});

test("a record keeps when and why the desired state changed, whatever operations follow", () => {
  const { world, a, stored } = lab();
  const since = { desiredWallMs: WALL_MS + 1000, desiredReason: "new disks" };
  a.change("c", CORDON);
  for (const change of [{ kind: "label", labels: { rack: "7" }, removed: [] }, CORDON] as const) {
    world.advance(5000);
    a.change("c", change, { reason: "again" });
    expect(stored("c")).toMatchObject({ ...since, reason: "again" });
  }
  a.change("c", DRAIN, { reason: "empty it" });
  expect(stored("c")).toMatchObject({ desiredWallMs: WALL_MS + 11_000, desiredReason: "empty it" });
});

test("an etag that is not current is refused, and changes nothing", () => {
  const { world, a, b } = lab();
  expect(a.change("c", CORDON, { expectedVersion: 0 })).toBeUndefined();
  const version = b.peers.record("c")?.version ?? 0;
  expect(b.change("c", { kind: "uncordon" }, { expectedVersion: 0 })).toEqual({
    reason: "version_conflict",
    message: `etag: the record of c has the etag "${version}"; read it again`,
  });
  expect(world.store.versionOf("peers/c")).toBe(version);
  expect(b.change("c", { kind: "uncordon" }, { expectedVersion: version })).toBeUndefined();
});

test("a repeated request changes nothing, even after others", () => {
  const { world, a, b } = lab();
  a.change("c", CORDON, { requestId: "r1" });
  a.change("c", { kind: "uncordon" }, { requestId: "r2" });
  const version = world.store.versionOf("peers/c");
  expect(b.change("c", CORDON, { requestId: "r1" })).toBeUndefined();
  expect(world.store.versionOf("peers/c")).toBe(version);
});

test("a record keeps the ids of the last 8 requests with their operations", () => {
  const { a, stored } = lab();
  for (let i = 0; i < 9; i++) a.change("c", CORDON, { requestId: `r ${i}` });
  const ids = stored("c")?.requestIds ?? [];
  expect(ids.length).toBe(8);
  expect([0, 1, 8].map((i) => requestKind(ids, `r ${i}`))).toEqual([undefined, "cordon", "cordon"]);
  expect(["", "1", "cordon r 1"].map((id) => requestKind(ids, id))).toEqual([undefined, undefined, undefined]);
});

test("a repeated request is answered although its etag is no longer current", () => {
  const { a, b } = lab();
  a.change("c", CORDON, { requestId: "r1", expectedVersion: 0 });
  expect(b.change("c", CORDON, { requestId: "r1", expectedVersion: 0 })).toBeUndefined();
});

test("the last ready node is not taken out of service unless an administrator forces it", () => {
  const { a } = lab();
  for (const kind of ["cordon", "drain"] as const)
    expect(a.change("c", { ...LAST, kind }, {})).toMatchObject({
      reason: "last_ready_node",
      message: expect.stringContaining("so c must stay") as string,
    });
  expect(a.peers.record("c")).toBeUndefined();
  expect(a.change("c", { ...LAST, isForced: true })).toBeUndefined();
  expect(a.peers.record("c")?.value?.desired).toBe("cordoned");
});

test("two operators who take nodes out of service at the same time cannot both succeed", () => {
  const { a, b } = lab();
  a.change("x", CORDON);
  // Each of them sees the other node as ready, because neither knows what the other does.
  a.fateOf = () => "held";
  b.fateOf = () => "held";
  a.change("a", { ...CORDON, readyCount: 1 });
  b.change("b", { ...CORDON, readyCount: 1 });
  a.arrive();
  b.arrive();
  expect([a.refusals.at(-1), b.refusals.at(-1)]).toEqual([
    undefined,
    { reason: "version_conflict", message: "another operation on a node was made at the same time; retry" },
  ]);
  expect([a, b].map(({ peers }) => peers.record("b"))).toEqual([undefined, undefined]);
});

test("labels are added, replaced and removed, and stay when the node is cordoned", () => {
  const { a, stored } = lab();
  const label = (labels: Record<string, string>, removed: readonly string[] = []) => a.change("c", { kind: "label", labels, removed });
  expect([label({ rack: "7", old: "1" }), label({ rack: "8" }, ["old"])]).toEqual([undefined, undefined]);
  a.change("c", CORDON);
  expect(stored("c")).toMatchObject({ desired: "cordoned", labels: { rack: "8" } });
  const many = Object.fromEntries(Array.from({ length: 64 }, (_, i) => [`k${i}`, "v"]));
  expect(label(many)?.reason).toBe("quota_exceeded");
});

test("a dry run checks the conditions and changes nothing", () => {
  const { world, a } = lab();
  expect(a.change("c", CORDON, { isDryRun: true })).toBeUndefined();
  expect(a.change("c", LAST, { isDryRun: true })?.reason).toBe("last_ready_node");
  expect(world.store.versionOf("peers/c")).toBe(0);
});

test("a node is forgotten until it is alive again", () => {
  const { world, a, b } = lab();
  a.change("c", { kind: "forget" });
  expect(b.peers.record("c")?.value).toMatchObject({ isForgotten: true, desired: "active", labels: {} });
  for (const node of [a, b]) node.input({ kind: "peerAlive", nodeId: "c" });
  expect([world.store.versionOf("peers/c"), a.peers.record("c")]).toEqual([0, undefined]);
  // A node that is only cordoned stays so.
  a.change("c", CORDON);
  b.input({ kind: "peerAlive", nodeId: "c" });
  expect(a.peers.record("c")?.value?.desired).toBe("cordoned");
});

test("without the store, operations are refused, and what is known holds", () => {
  const { a } = lab();
  a.change("c", CORDON);
  a.fateOf = () => "lost";
  expect(a.change("c", { kind: "uncordon" })).toMatchObject({ reason: "store_unavailable" });
  expect(a.peers.record("c")?.value?.desired).toBe("cordoned");
});

test("a store of another cluster and an unreadable record refuse operations", () => {
  const { world, a } = lab();
  world.put("peers/c", "no json");
  expect(a.change("c", CORDON)?.message).toContain("peers/c in the control store cannot be read");
  world.put("store", JSON.stringify({ clusterId: "other", id: "s", epoch: 1 }));
  expect(a.change("d", CORDON)).toMatchObject({ reason: "store_unavailable" });
});

test("a node with a store of its own accepts operations although it cannot be a leader", () => {
  const world = new PeerLab();
  const node = world.peerNode("a", true);
  node.input({ kind: "eligible", fault: "the cluster has other nodes" });
  expect(node.change("a", CORDON)).toBeUndefined();
  expect(node.peers.record("a")?.value?.desired).toBe("cordoned");
  expect(world.store.versionOf(PEER_GUARD)).toBeGreaterThan(0);
});
