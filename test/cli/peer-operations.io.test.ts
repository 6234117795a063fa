/** The verbs of `mesh peers` that change nodes, with servers that answer as they are told. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { DiscoveryDelta_Action as Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { PeerDesired, type PeerDrainSchema, PeerDrainStep, type PeerSchema, PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

type PeerInit = Omit<MessageInitShape<typeof PeerSchema>, "$typeName" | "$unknown">;

const PEER: PeerInit = {
  nodeId: "eu-2",
  clusterId: "c1",
  status: PeerStatus.ALIVE,
  desired: PeerDesired.ACTIVE,
  etag: '"6"',
  labels: { rack: "7" },
};
const RADIUS = {
  leasedEntries: 12n,
  staticEntries: 4n,
  principals: [
    { principal: "billing", entries: 8n },
    { principal: "", entries: 5n },
    { principal: "web", entries: 2n },
    { principal: "x", entries: 1n },
  ],
  leaderships: ["global-control", "custom/orders/cleaner"],
  leadershipCount: 2n,
  shards: ["orders/1", "orders/2", "orders/3"],
  shardCount: 3n,
  readyInCluster: 4,
  readyInZone: 1,
  unknown: ["LOCAL entries", "watches"],
};

interface SentOperation {
  readonly nodeId: string;
  readonly dryRun: boolean;
  readonly requestId: string;
  readonly etag: string;
}

/** Answers every operation. One that is not a dry run changes the desired state and the etag. */
async function startOperated(): Promise<FakeDiscovery> {
  const fake = await startFake();
  for (const name of ["cordon", "uncordon", "drain", "setLabels", "forget"])
    fake.mesh.set(name, ({ dryRun }: SentOperation) => ({
      peer: dryRun ? PEER : { ...PEER, desired: PeerDesired.CORDONED, etag: '"7"' },
      ...(name !== "setLabels" && { radius: RADIUS }),
    }));
  return fake;
}

const sentBy = (fake: FakeDiscovery, name: string) => fake.callsOf(name).map(({ request }) => request as SentOperation);
const command = (verb: string, fake: FakeDiscovery, ...more: readonly string[]) =>
  ["mesh", "peers", verb, "eu-2", "--server", fake.address, "--reason", "new disks"].concat(more);

test("on a terminal, an operation shows what it touches, asks, and sends the etag that was shown", async () => {
  const fake = await startOperated();
  const { exit, stdout, stderr } = await waymark(command("cordon", fake, "--ticket", "OPS-7", "--force"), { typed: "Y" });
  expect(exit).toBe(0);
  await expect(stderr + stdout).toMatchFileSnapshot("../golden/cli/peers-cordon.txt");
  const [planned, done] = sentBy(fake, "cordon");
  expect(planned).toMatchObject({ nodeId: "eu-2", dryRun: true, reason: "new disks", ticket: "OPS-7", etag: "", force: true });
  expect(done).toMatchObject({ nodeId: "eu-2", dryRun: false, reason: "new disks", ticket: "OPS-7", etag: '"6"', force: true });
  expect(done?.requestId).toMatch(/^[0-9a-f-]{36}$/);
});

test.each(["n", "", "yesterday"])("the answer %j changes nothing, and is exit code 1", async (typed) => {
  const fake = await startOperated();
  const { exit, stdout, stderr } = await waymark(command("drain", fake), { typed });
  expect([exit, stdout]).toEqual([1, ""]);
  expect(stderr).toContain("nothing was changed");
  expect(sentBy(fake, "drain").map(({ dryRun }) => dryRun)).toEqual([true]);
});

test("without a terminal and without --yes, nothing is sent", async () => {
  const fake = await startOperated();
  const { exit, stderr } = await waymark(command("uncordon", fake));
  expect([exit, stderr]).toEqual([2, expect.stringContaining("add --yes")]);
  expect(fake.calls).toEqual([]);
});

test("a dry run never asks, and prints everything that it knows as JSON", async () => {
  const fake = await startOperated();
  const { exit, stdout } = await waymark(command("forget", fake, "--dry-run", "-o", "json"));
  expect(exit).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    peer: { nodeId: "eu-2", desired: "PEER_DESIRED_ACTIVE" },
    radius: { leasedEntries: "12", leaderships: RADIUS.leaderships, shards: RADIUS.shards, readyInZone: 1, unknown: RADIUS.unknown },
  });
  expect(sentBy(fake, "forget").map(({ dryRun }) => dryRun)).toEqual([true]);
});

test("etag, request id and deadline are sent as they are given", async () => {
  const fake = await startOperated();
  const flags = ["--yes", "--etag", "5", "--request-id", "r-1", "--deadline", "2m"];
  expect((await waymark(command("drain", fake, ...flags))).exit).toBe(0);
  const wanted = { etag: "5", requestId: "r-1", deadline: { seconds: 120n } };
  expect(sentBy(fake, "drain")).toMatchObject([
    { ...wanted, dryRun: true },
    { ...wanted, dryRun: false },
  ]);
});

test("labels are set and removed as kubectl does it", async () => {
  const fake = await startOperated();
  const { exit, stdout } = await waymark(command("label", fake, "rack=7", "a=b=c-", "empty=", "old-", "--yes"));
  expect([exit, stdout]).toEqual([0, expect.stringContaining("rack=7")]);
  expect(sentBy(fake, "setLabels")[1]).toMatchObject({ labels: { rack: "7", a: "b=c-", empty: "" }, remove: ["old"], etag: '"6"' });
});

test.each(["rack", "=7", "-"])("the label %j is not valid", async (label) => {
  const fake = await startOperated();
  const { exit, stderr } = await waymark([...command("label", fake, "--yes"), "--", label]);
  expect([exit, stderr]).toEqual([2, expect.stringContaining(`invalid label ${label}: expected key=value`)]);
});

test.each([
  { reason: "LAST_READY_NODE", code: status.FAILED_PRECONDITION, exit: 1 },
  { reason: "VERSION_CONFLICT", code: status.ABORTED, exit: 1 },
  { reason: "NOT_FOUND", code: status.NOT_FOUND, exit: 5 },
  { reason: "DISCOVERY_ACCESS_DENIED", code: status.PERMISSION_DENIED, exit: 4 },
  { reason: "WRONG_NODE", code: status.FAILED_PRECONDITION, exit: 1 },
])("a refusal with $reason before the question is exit code $exit", async ({ exit, ...refusal }) => {
  const fake = await startOperated();
  fake.refusals.set("cordon", { ...refusal, message: "no" });
  const ran = await waymark(command("cordon", fake), { typed: "y" });
  expect(ran).toMatchObject({ exit, stdout: "", stderr: expect.not.stringContaining("Continue?") as string });
});

test("an operation that another node must carry out is sent there, and the command says so", async () => {
  const [fake, other] = [await startOperated(), await startOperated()];
  const metadata = { urls: `http://eu-2:17480 grpc://${other.address}` };
  fake.refusals.set("cordon", { code: status.FAILED_PRECONDITION, message: "no", reason: "WRONG_NODE", metadata });
  const { exit, stderr } = await waymark(command("cordon", fake, "--yes", "--token", "t"));
  expect([exit, stderr]).toEqual([0, expect.stringContaining(`sending the operation to eu-2 at ${other.address}`)]);
  expect(sentBy(other, "cordon").map(({ dryRun }) => dryRun)).toEqual([true, false]);
  expect(other.callsOf("cordon")[0]?.authorization).toBe("Bearer t");
});

test("an operation whose answer is lost is repeated on another server with the same request id", async () => {
  const [fake, other] = [await startOperated(), await startOperated()];
  fake.refusals.set("cordon", { code: status.UNAVAILABLE, message: "the connection broke" });
  const servers = `${fake.address},${other.address}`;
  expect(
    (
      await waymark([
        ...command("cordon", fake, "--yes").filter((word) => word !== fake.address && word !== "--server"),
        "--server",
        servers,
      ])
    ).exit,
  ).toBe(0);
  const ids = [...sentBy(fake, "cordon"), ...sentBy(other, "cordon")].map(({ requestId }) => requestId);
  expect([ids.length, new Set(ids).size]).toEqual([3, 1]);
});

const nodeEntry = (nodeId: string, { address }: FakeDiscovery) => ({
  nodeId,
  targets: [{ name: "grpc", host: address.split(":")[0] ?? "", port: Number(address.split(":")[1]) }],
});

test("nodes with stores of their own are each asked to forget a node, and those that did not are named", async () => {
  const [fake, other, away] = [await startOperated(), await startOperated(), await startOperated()];
  const dead = { nodeId: "eu-2", clusterId: "c1", status: PeerStatus.DEAD };
  fake.mesh.set("forget", () => ({ peer: dead, radius: RADIUS }));
  fake.mesh.set("list", () => ({
    peers: [
      { nodeId: "eu-1", isSelf: true, status: PeerStatus.ALIVE },
      dead,
      { nodeId: "eu-3", status: PeerStatus.ALIVE },
      { nodeId: "eu-4", status: PeerStatus.ALIVE },
      { nodeId: "eu-5", status: PeerStatus.DEAD },
      { nodeId: "eu-6", status: PeerStatus.LEFT },
    ],
  }));
  fake.nodes = [nodeEntry("eu-3", other), nodeEntry("eu-4", away)];
  other.refusals.set("forget", { code: status.NOT_FOUND, message: "unknown", reason: "NOT_FOUND" });
  away.refusals.set("forget", { code: status.INVALID_ARGUMENT, message: "eu-2 is alive", reason: "INVALID_ARGUMENT" });
  const { exit, stdout, stderr } = await waymark(command("forget", fake, "--yes"));
  expect(exit).toBe(1);
  await expect(stderr + stdout).toMatchFileSnapshot("../golden/cli/peers-forget.txt");
  expect([fake, other, away].map((each) => sentBy(each, "forget").map(({ dryRun }) => dryRun))).toEqual([[true, false], [false], [false]]);
});

const NOT_FOUND = { code: status.NOT_FOUND, message: "unknown", reason: "NOT_FOUND" };

test("a forget that some nodes have carried out is repeated on the others, and fails if no node knows the member", async () => {
  const [fake, other] = [await startOperated(), await startOperated()];
  fake.refusals.set("forget", NOT_FOUND);
  fake.mesh.set("list", () => ({ peers: [{ nodeId: "eu-1", isSelf: true }, { nodeId: "eu-3" }] }));
  fake.nodes = [nodeEntry("eu-3", other)];
  other.mesh.set("forget", () => ({ peer: { nodeId: "eu-2", status: PeerStatus.DEAD }, radius: RADIUS }));
  expect((await waymark(command("forget", fake, "--yes"))).exit).toBe(0);
  expect(sentBy(other, "forget").map(({ dryRun }) => dryRun)).toEqual([true, false]);
  other.refusals.set("forget", NOT_FOUND);
  expect(await waymark(command("forget", fake, "--yes"))).toMatchObject({ exit: 5, stderr: expect.stringContaining("unknown") as string });
});

test("nodes that share a store are not asked one by one, and the note says that credentials stay valid", async () => {
  const fake = await startOperated();
  const { exit, stderr } = await waymark(command("forget", fake, "--yes"));
  expect([exit, stderr]).toEqual([0, expect.stringContaining("forget revokes no certificate or token")]);
  expect(fake.callsOf("list")).toEqual([]);
});

type Progress = MessageInitShape<typeof PeerDrainSchema>;

function drained(progress: Progress | undefined, more: PeerInit = {}) {
  const drain = progress === undefined ? {} : { drain: progress };
  const value = { ...PEER, desired: PeerDesired.DRAINED, ...drain, ...more };
  return { deltas: [{ action: Action.UPDATE, payload: { case: "peer" as const, value } }] };
}

const OTHER = { deltas: [{ action: Action.UPDATE, payload: { case: "peer" as const, value: { ...PEER, nodeId: "eu-3" } } }] };
const LEASES = { step: PeerDrainStep.LEASES, left: { leases: 12n, static_entries: 4n } };

/** Time that passes at once, so that a command that reconnects does not wait. */
const later = (act: () => void): (() => void) => {
  setImmediate(act);
  return () => {};
};

test("a drain is followed until it is done, on another server if one is lost, and one line is printed for each change", async () => {
  const [fake, other] = [await startOperated(), await startOperated()];
  fake.meshScripts = [
    [
      drained(undefined, { desired: PeerDesired.ACTIVE }),
      OTHER,
      drained({ step: PeerDrainStep.LEADERS, left: { leaders: 2n } }),
      drained(LEASES),
      { ...drained(LEASES, { incarnation: 9n }), cursor: "c-1" },
    ],
    [
      drained({ step: PeerDrainStep.ADDRESSES, left: { seconds: 30n } }, { status: PeerStatus.SUSPECT }),
      drained({ step: PeerDrainStep.DRAINED }),
    ],
  ];
  const servers = `${fake.address},${other.address}`;
  const argv = ["mesh", "peers", "drain", "eu-2", "--reason", "x", "--yes", "--watch", "--server", servers];
  const { exit, stdout, stderr } = await waymark(argv, { later });
  expect(exit).toBe(0);
  await expect(stderr + stdout).toMatchFileSnapshot("../golden/cli/peers-drain.txt");
  expect(fake.meshRequests).toMatchObject([
    { clusterId: "c1", cursor: "" },
    { clusterId: "c1", cursor: "c-1" },
  ]);
});

test.each([
  {
    what: "stuck",
    last: drained({ ...LEASES, stuck: true }),
    says: "the drain is stuck: its deadline has passed; it continues; left: 12 leases",
  },
  {
    what: "cancelled",
    last: drained(undefined, { desired: PeerDesired.ACTIVE, lastOperation: { actor: "ann", reason: "not today" } }),
    says: "the drain was cancelled by ann: not today",
  },
  { what: "replaced by a cordon", last: drained(undefined, { desired: PeerDesired.CORDONED }), says: "the drain was cancelled" },
])("a drain that is $what ends the watch with exit code 1", async ({ last, says }) => {
  const fake = await startOperated();
  fake.meshScript = [drained(LEASES), last];
  const { exit, stderr } = await waymark(command("drain", fake, "--yes", "--watch", "-o", "json"));
  expect([exit, stderr]).toEqual([1, expect.stringContaining(says)]);
});

test("a drain that was stuck and is asked for again is followed with its new deadline", async () => {
  const fake = await startFake();
  fake.mesh.set("drain", () => ({ peer: { ...PEER, desired: PeerDesired.DRAINED, drain: { ...LEASES, stuck: true } }, radius: RADIUS }));
  fake.meshScript = [drained({ ...LEASES, stuck: true }), drained(LEASES), drained({ ...LEASES, stuck: true })];
  const { exit, stderr, stdout } = await waymark(command("drain", fake, "--yes", "--watch"));
  expect([exit, stderr]).toEqual([1, expect.stringContaining("the drain is stuck")]);
  expect(stdout.match(/leases/g)?.length).toBe(2);
});
