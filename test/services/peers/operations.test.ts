/** Operations on nodes: each one is on record before it is answered, and is refused when it would be wrong. */
import { expect, test } from "vitest";
import { PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import type { PeerRecord } from "../../../src/control/peers/records.ts";
import { requiredAccessOf } from "../../../src/services/contract.ts";
import { OperatedPeers, PEER_VERBS, type PeerVerb, settled } from "../../fakes/operated-peers.ts";
import { memberRow } from "../../fakes/watched-members.ts";

/** A node for which the operation is not refused. */
const targetOf = (verb: PeerVerb) => (verb === "forget" ? "n9" : "n2");
const actionOf = (verb: PeerVerb) => `mesh.${verb === "setLabels" ? "label" : verb}_peer`;
const TOUCHED = "2 leased and 1 static entries, 1 leaderships, 1 shards; ready nodes left: ";

const ENDINGS = [
  { ending: "done", refusal: "", recorded: "", outcome: TOUCHED },
  { ending: "refused", refusal: "version_conflict", recorded: "version_conflict", outcome: "version_conflict: the store refuses it" },
  { ending: "of an unknown outcome", refusal: "store_unavailable", recorded: "", outcome: "the outcome is unknown" },
] as const;

const CASES = PEER_VERBS.flatMap((verb) =>
  ENDINGS.flatMap((ending) => [true, false].map((isDiskFull) => ({ verb, ...ending, isDiskFull }))),
);

test.each(CASES)("$verb that is $ending is on record before it is answered (audit disk full: $isDiskFull)", async (row) => {
  const { verb, refusal, recorded, outcome, isDiskFull } = row;
  const peers = new OperatedPeers();
  peers.refusal = refusal;
  peers.isDiskFull = isDiskFull;
  const nodeId = targetOf(verb);
  let answer: Awaited<ReturnType<typeof peers.call>> | undefined;
  const call = peers.call(verb, { nodeId, reason: "new disks", ticket: "OPS-7" }).then((found) => (answer = found));
  await settled();
  expect([peers.orders.length, answer]).toEqual([1, undefined]);
  peers.write();
  await call;
  // A change that was made is reported as unknown if it is not on record: the caller must look.
  const reason = refusal === "" && isDiskFull ? "store_unavailable" : refusal;
  expect(answer?.error?.reason ?? "").toBe(reason);
  if (isDiskFull) return expect(peers.onDisk).toEqual([]);
  expect(peers.onDisk).toEqual([
    expect.objectContaining({ action: actionOf(verb), nodeId, ticket: "OPS-7", refusal: recorded, requestId: "call-1" }),
  ]);
  expect(peers.onDisk[0]?.detail).toContain(`reason "new disks"; ${outcome}`);
});

test.each(PEER_VERBS)("%s of an unknown node, or of a member of another cluster, is not_found, and on record", async (verb) => {
  const peers = new OperatedPeers();
  peers.rows.set("far", memberRow("far", { clusterId: "c2", status: "dead" }));
  for (const nodeId of ["far", "typo"]) expect((await peers.answered(verb, { nodeId })).error).toMatchObject({ reason: "not_found" });
  expect(peers.onDisk.map(({ nodeId, refusal }) => [nodeId, refusal])).toEqual([
    ["far", "not_found"],
    ["typo", "not_found"],
  ]);
  peers.isCaughtUp = false;
  expect((await peers.answered(verb, { nodeId: "typo" })).error?.reason).toBe("not_ready");
  expect(peers.orders).toEqual([]);
});

test.each(["cordon", "drain"] as const)("%s with force needs mesh.admin, and its refusal is on record", async (verb) => {
  const peers = new OperatedPeers();
  const forced = { nodeId: "n2", force: true };
  expect((await peers.answered(verb, forced)).error?.reason).toBe("discovery_access_denied");
  expect([peers.orders, peers.onDisk]).toEqual([[], [expect.objectContaining({ refusal: "discovery_access_denied" })]]);
  expect(peers.onDisk[0]?.detail).toContain("forced");
  expect((await peers.answered(verb, forced, ["mesh.admin"])).error).toBeUndefined();
  expect(peers.orders).toEqual([expect.objectContaining({ actor: "ann", change: expect.objectContaining({ isForced: true }) as unknown })]);
});

test("forget needs mesh.admin, and all other operations mesh.operate", () => {
  const roleOf = (verb: PeerVerb) => requiredAccessOf(PeerService.method[verb])?.role;
  expect(PEER_VERBS.map((verb) => [verb, roleOf(verb)])).toEqual(
    PEER_VERBS.map((verb) => [verb, verb === "forget" ? "mesh.admin" : "mesh.operate"]),
  );
});

test.each(["alive", "suspect"] as const)("a node that is %s cannot be forgotten", async (status) => {
  const peers = new OperatedPeers();
  peers.rows.set("n2", memberRow("n2", { status }));
  const { error } = await peers.answered("forget", { nodeId: "n2" });
  expect(error).toMatchObject({ reason: "invalid_argument", message: expect.stringContaining(`n2 is ${status}`) as string });
});

test.each(PEER_VERBS.filter((verb) => verb !== "forget"))(
  "without a shared store, %s of another node names the addresses of that node",
  async (verb) => {
    const peers = new OperatedPeers();
    peers.isOwnStore = true;
    const { error } = await peers.answered(verb, { nodeId: "n2" });
    expect(error).toMatchObject({
      reason: "wrong_node",
      message: "wrong_node: the nodes do not share a control store, so only n2 accepts this operation, at grpc://n2:1 or http://n2:2",
      details: { metadata: { urls: "grpc://n2:1 http://n2:2" } },
    });
    expect((await peers.answered(verb, { nodeId: "n9" })).error?.message).toMatch(/only n9 accepts this operation$/);
    expect((await peers.answered(verb, { nodeId: "n1" })).error).toBeUndefined();
  },
);

test("without a shared store, each node can be told to forget a node", async () => {
  const peers = new OperatedPeers();
  peers.isOwnStore = true;
  expect((await peers.answered("forget", { nodeId: "n9" })).error).toBeUndefined();
});

const CORDONED = { desired: "cordoned" } as PeerRecord;
const SERVING = { isServing: true } as const;
test.each([
  { other: "a member that is alive, serves and is active", row: SERVING, record: undefined, count: 1 },
  { other: "a suspected member", row: { ...SERVING, status: "suspect" }, record: undefined, count: 0 },
  { other: "a dead member", row: { ...SERVING, status: "dead" }, record: undefined, count: 0 },
  { other: "a member that does not serve", row: {}, record: undefined, count: 0 },
  { other: "a member of another cluster", row: { ...SERVING, clusterId: "c2" }, record: undefined, count: 0 },
  { other: "a member with a cordon on record", row: SERVING, record: CORDONED, count: 0 },
  {
    other: "a member with a cordon on record that does not report it yet",
    row: { ...SERVING, desired: "active" },
    record: CORDONED,
    count: 0,
  },
  { other: "a member that reports the cordon of a store of its own", row: { ...SERVING, desired: "drained" }, record: undefined, count: 0 },
] as const)("ready nodes left: $other counts $count", async ({ row, record, count }) => {
  const peers = new OperatedPeers();
  peers.rows.delete("n2");
  peers.rows.set("other", memberRow("other", row));
  if (record !== undefined) peers.records.set("other", record);
  const { radius } = await peers.answered("cordon", { nodeId: "n1" });
  const [order] = peers.orders;
  expect([order?.change, radius?.readyInCluster]).toEqual([
    { kind: "cordon", isForced: false, deadlineMs: 600_000, readyCount: count },
    count,
  ]);
});

test("the radius names entries, principals, leaderships, shards and ready nodes, and what of another node is unknown", async () => {
  const peers = new OperatedPeers();
  for (let i = 0; i < 30; i++) peers.contents.principals.set(`p${i}`, 100 + i);
  peers.rows.set("n3", memberRow("n3", { isServing: true, zone: "z2" }));
  const { radius } = await peers.answered("drain", { nodeId: "n2", dryRun: true });
  expect(radius).toMatchObject({
    leasedEntries: 2n,
    staticEntries: 1n,
    leaderships: ["custom/a"],
    leadershipCount: 1n,
    shards: ["orders/4"],
    shardCount: 1n,
    readyInCluster: 2,
    readyInZone: 1,
    unknown: ["LOCAL entries", "watches"],
  });
  expect([radius?.principals.length, radius?.principals[0]]).toEqual([20, expect.objectContaining({ principal: "p29", entries: 129n })]);
  expect([peers.orders[0]?.isDryRun, peers.onDisk[0]?.detail]).toEqual([
    true,
    `dry run; deadline 10m; ${TOUCHED}2 in the cluster, 1 in the zone`,
  ]);
  expect((await peers.answered("drain", { nodeId: "n1" })).radius?.unknown).toEqual([]);
});

test.each([
  { etag: "", want: undefined },
  { etag: '"17"', want: 17 },
  { etag: "17", want: 17 },
  { etag: '"0"', want: 0 },
])("the etag $etag is the version $want of the record", async ({ etag, want }) => {
  const peers = new OperatedPeers();
  await peers.answered("cordon", { nodeId: "n2", etag });
  expect(peers.orders[0]?.expectedVersion).toBe(want);
});

test.each(["x", "-1", "1.5", "W/1"])("the etag %s is refused", async (etag) => {
  const peers = new OperatedPeers();
  expect((await peers.answered("cordon", { nodeId: "n2", etag })).error?.reason).toBe("invalid_argument");
});

test("a repeated request is recorded as repeated, and its id is refused for another operation", async () => {
  const peers = new OperatedPeers();
  peers.records.set("n2", { ...CORDONED, atWallMs: 0, requestIds: ["cordon r1"] });
  const request = { nodeId: "n2", reason: "new disks", requestId: "r1" };
  expect((await peers.answered("cordon", request)).error).toBeUndefined();
  expect((await peers.answered("uncordon", request)).error).toMatchObject({
    reason: "invalid_argument",
    details: { violations: [{ field: "request_id", description: 'the request "r1" was a cordon; use another id' }] },
  });
  expect([peers.orders.length, peers.onDisk.map(({ refusal }) => refusal)]).toEqual([1, ["", "invalid_argument"]]);
  expect(peers.onDisk[0]?.detail).toMatch(/; repeated, nothing changed$/);
});

test("no reason and no label can imitate a dry run or force in the audit", async () => {
  const peers = new OperatedPeers();
  const free = { reason: 'x"; dry run; forced', labels: { rack: "7; dry run" }, remove: ["a; forced"] };
  await peers.answered("setLabels", { nodeId: "n2", ...free });
  expect(peers.onDisk[0]?.detail).toContain('rack="7; dry run"; without "a; forced"; reason "x\\"; dry run; forced"; ');
});
