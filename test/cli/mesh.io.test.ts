import type { MessageInitShape } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { DiscoveryDelta_Action as Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { PeerDesired, PeerDrainStep, type PeerSchema, PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { LinkState, OriginState, PeerEventKind, PeerEventPath, PeerHealth, PeerSort } from "../../gen/waymark/control/v1/peer_pb.js";
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

const AT = { seconds: 1_770_000_000n, nanos: 0 };
const here = { clusterId: "c1", region: "eu", zone: "a", version: "1.0.0", incarnation: 1n };
const PEERS = [
  { ...here, nodeId: "n1", status: PeerStatus.ALIVE, address: "10.0.0.1:17421", isSelf: true, desired: PeerDesired.ACTIVE, etag: '"0"' },
  {
    ...here,
    nodeId: "n2",
    status: PeerStatus.ALIVE,
    address: "10.0.0.2:17421",
    linked: true,
    rtt: { seconds: 0n, nanos: 1_500_000 },
    lastSeen: AT,
    desired: PeerDesired.DRAINED,
    drain: { step: PeerDrainStep.LEASES, left: { leases: 12n }, since: AT, stuck: true },
    labels: { rack: "7", env: "prod" },
    etag: '"4"',
    lastOperation: { actor: "ann", reason: "new disks", ticket: "OPS-7", at: AT },
  },
  { ...here, nodeId: "n3", status: PeerStatus.SUSPECT, address: "10.0.0.3:17421", accuser: "n2", healthScore: 2, lastSeen: AT },
];
const EVENTS = [
  { at: AT, kind: PeerEventKind.ALIVE, by: "n2", path: PeerEventPath.TABLE, incarnation: 0n },
  { at: AT, kind: PeerEventKind.SUSPECT, by: "n2", path: PeerEventPath.INDIRECT, incarnation: 1n, detail: "no ack by n1, n4" },
];
const LAG = {
  servedBy: "n1",
  ready: false,
  detail: "catching up with n2",
  age: { seconds: 2n, nanos: 0 },
  originsProtected: true,
  origins: [
    { nodeId: "n1", generation: 7n, state: OriginState.LIVE, through: 12n, known: 12n, behind: 0n, floor: 0n },
    { nodeId: "n2", generation: 9n, state: OriginState.ORPHANED, through: 40n, known: 45n, behind: 5n, floor: 3n },
    {
      nodeId: "n3",
      generation: 2n,
      state: OriginState.LIVE,
      known: 30n,
      behind: 30n,
      refused: 4n,
      whyPartial: "more than 1000 records from one origin",
    },
  ],
  links: [
    { nodeId: "n2", address: "10.0.0.2:17421", state: LinkState.UP, behind: 5n, behindFor: { seconds: 12n, nanos: 0 } },
    { address: "10.0.0.9:17421", state: LinkState.OPENING, incoming: true },
  ],
};

test.each(["table", "wide", "json"])("the %s format of members is as reviewed", async (format) => {
  const fake = await startFake();
  fake.mesh.set("list", () => ({ peers: PEERS, servedBy: "n1" }));
  const { exit, stdout } = await waymark(["mesh", "peers", "list", "-o", format, "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stdout).toMatchFileSnapshot(`../golden/cli/peers.${format}.txt`);
});

test("mesh peers by itself lists, with the flags of list; a word that is none of its own is refused", async () => {
  const fake = await startFake();
  fake.mesh.set("list", () => ({ peers: PEERS, servedBy: "n1" }));
  const { exit, stdout } = await waymark(["mesh", "peers", "--status", "alive", "--server", fake.address]);
  expect(exit).toBe(0);
  expect(stdout).toContain("n3");
  expect(fake.callsOf("list")[0]?.request).toMatchObject({ statuses: [PeerStatus.ALIVE] });
  expect((await waymark(["mesh", "peers", "lst", "--server", fake.address])).exit).toBe(2);
});

test("list sends its filters and reads every page", async () => {
  const fake = await startFake();
  fake.mesh.set("list", ({ pageToken }: { readonly pageToken: string }) =>
    pageToken === "" ? { peers: PEERS.slice(0, 2), nextPageToken: "2" } : { peers: PEERS.slice(2) },
  );
  const { stdout } = await waymark(["mesh", "peers", "list", ...FLAGS, "--sort", "last-seen", "-o", "json", "--server", fake.address]);
  expect((JSON.parse(stdout) as { readonly peers: readonly unknown[] }).peers).toHaveLength(3);
  expect(fake.callsOf("list")[0]?.request).toMatchObject({ ...FILTER, sort: PeerSort.LAST_SEEN });
});

const FLAGS = [
  ["--status", "alive", "--status", "suspect", "--health", "degraded", "--desired", "cordoned", "--region", "eu", "--cluster-id", "c1"],
  ["--zone", "a", "--role", "gateway", "--role", "api", "--software-version", "1.0.0", "--label", "rack=7,!old"],
].flat();
const FILTER = {
  statuses: [PeerStatus.ALIVE, PeerStatus.SUSPECT],
  health: [PeerHealth.DEGRADED],
  desired: [PeerDesired.CORDONED],
  region: "eu",
  clusterId: "c1",
  zone: "a",
  roles: ["gateway", "api"],
  version: "1.0.0",
  labelSelector: "rack=7,!old",
};

test("watch sends the same filters", async () => {
  const fake = await startFake();
  fake.meshScript = [{ snapshot: Snapshot.BEGIN }, { snapshot: Snapshot.END, cursor: "c1" }];
  await waymark(["mesh", "peers", "watch", "--until-current", ...FLAGS, "--server", fake.address]);
  expect(fake.meshRequests[0]).toMatchObject(FILTER);
});

test.each([
  { progress: { step: PeerDrainStep.STATIC_ENTRIES, left: { static_entries: 3n } }, shown: "drained (static-entries: 3 left)" },
  { progress: { step: PeerDrainStep.LEADERS, left: { leaders: 1n, owners: 2n } }, shown: "drained (leaders: 1 left, 2 owners left)" },
  { progress: { step: PeerDrainStep.WATCHES }, shown: "drained (watches)" },
  { progress: { step: PeerDrainStep.DRAINED }, shown: "drained  " },
])("a drain in this state is shown as $shown", async ({ progress, shown }) => {
  const fake = await startFake();
  const peer = { ...here, nodeId: "n2", desired: PeerDesired.DRAINED, drain: { since: AT, ...progress } };
  fake.mesh.set("get", () => ({ peer }));
  expect((await waymark(["mesh", "peers", "get", "n2", "--server", fake.address])).stdout).toContain(shown);
});

const put = (peer: MessageInitShape<typeof PeerSchema>, action = Action.CREATE) =>
  ({ action, payload: { case: "peer", value: peer } }) as const;
const removed = (nodeId: string) => ({ action: Action.REMOVE, payload: { case: "removed", value: nodeId } }) as const;

test("watch tells every member, then those that change", async () => {
  const fake = await startFake();
  fake.meshScript = [
    { snapshot: Snapshot.BEGIN },
    { snapshot: Snapshot.CONTINUE, deltas: PEERS.map((peer) => put(peer)) },
    { snapshot: Snapshot.END, cursor: "c1", count: 3n },
    { deltas: [put({ ...PEERS[2], status: PeerStatus.DEAD }, Action.UPDATE)], cursor: "c2" },
    { bookmark: true, cursor: "c2", count: 3n },
    { deltas: [removed("n9"), removed("n3")], cursor: "c3" },
  ];
  const one = await waymark(["mesh", "peers", "watch", "--until-current", "-o", "json", "--server", fake.address]);
  expect(one.exit).toBe(0);
  expect(eventsOf(one.stdout)).toEqual(["member", "member", "member", "current"]);
  const stop = new AbortController();
  const onStdout = (text: string) => text.includes("gone") && stop.abort();
  const two = await waymark(["mesh", "peers", "watch", "--server", fake.address], { interrupt: stop.signal, onStdout });
  expect(two.exit).toBe(0);
  expect(two.stderr).toContain("all members listed");
  const three = new AbortController();
  const told: string[] = [];
  const onLine = (text: string) => {
    told.push(...eventsOf(text));
    if (told.includes("gone")) three.abort();
  };
  await waymark(["mesh", "peers", "watch", "-o", "json", "--server", fake.address], { interrupt: three.signal, onStdout: onLine });
  // One that was never there is not told as forgotten.
  expect(told).toEqual(["member", "member", "member", "current", "member", "gone"]);
});

function eventsOf(stdout: string): readonly string[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { readonly event: string }).event);
}

test("a watch that broke off goes on with its cursor, and what a new snapshot does not list is forgotten", async () => {
  const fake = await startFake();
  const [one, two, three] = PEERS;
  fake.meshScripts = [
    [
      { snapshot: Snapshot.BEGIN },
      { snapshot: Snapshot.CONTINUE, deltas: [put(one ?? {}), put(two ?? {})] },
      { snapshot: Snapshot.END, cursor: "c1" },
    ],
    [
      { snapshot: Snapshot.BEGIN },
      { snapshot: Snapshot.CONTINUE, deltas: [put(one ?? {}), put(three ?? {})] },
      { snapshot: Snapshot.END, cursor: "d1" },
    ],
  ];
  const stop = new AbortController();
  const told: string[] = [];
  const onStdout = (text: string) => {
    told.push(...eventsOf(text));
    if (told.filter((event) => event === "current").length === 2) stop.abort();
  };
  const { exit, stderr } = await waymark(["mesh", "peers", "watch", "-o", "json", "--server", fake.address], {
    interrupt: stop.signal,
    onStdout,
    later: (act) => {
      setImmediate(act);
      return () => {};
    },
  });
  expect(exit).toBe(0);
  expect(stderr).toContain("reconnecting");
  expect(told).toEqual(["member", "member", "current", "member", "member", "gone", "current"]);
  expect(fake.meshRequests.map(({ cursor }) => cursor)).toEqual(["", "c1"]);
});

test.each(["get", "status"])("mesh peers %s shows one member, and all its fields as JSON", async (verb) => {
  const fake = await startFake();
  fake.mesh.set("get", () => ({ peer: PEERS[2], events: EVENTS, confirmedBy: ["n4"] }));
  const ask = (...flags: string[]) => waymark(["mesh", "peers", verb, "n3", "--server", fake.address, ...flags]);
  const { exit, stdout } = await ask();
  expect([exit, stdout.trimEnd().split("\n").length]).toEqual([0, 2]);
  expect(stdout).toMatch(/^NODE +CLUSTER +REGION +STATUS/);
  expect(JSON.parse((await ask("-o", "json")).stdout)).toMatchObject({ peer: { nodeId: "n3" }, confirmedBy: ["n4"] });
  expect(fake.callsOf("get")[0]?.request).toMatchObject({ nodeId: "n3" });
});

test("explain says who accused a member, by which path, and when it is taken for dead", async () => {
  const fake = await startFake();
  fake.mesh.set("get", () => ({
    peer: PEERS[2],
    events: EVENTS,
    suspicionEndsAt: { seconds: 1_770_000_009n, nanos: 0 },
    confirmedBy: ["n4"],
  }));
  const { exit, stdout, stderr } = await waymark(["mesh", "peers", "explain", "n3", "--server", fake.address]);
  expect(exit).toBe(0);
  await expect(stderr + stdout).toMatchFileSnapshot("../golden/cli/peers-explain.table.txt");
  expect(fake.callsOf("get")[0]?.request).toMatchObject({ nodeId: "n3" });
});

test("a member nobody knows is exit code 5, a caller without the role 4", async () => {
  const fake = await startFake();
  fake.refusals.set("get", { code: status.NOT_FOUND, message: "not_found: no member" });
  fake.refusals.set("lag", { code: status.PERMISSION_DENIED, message: "discovery_access_denied: needs mesh.read" });
  expect((await waymark(["mesh", "peers", "explain", "n9", "--server", fake.address])).exit).toBe(5);
  expect((await waymark(["discovery", "lag", "--server", fake.address])).exit).toBe(4);
});

test("lag shows the generations of one node separately", async () => {
  const fake = await startFake();
  fake.mesh.set("lag", () => ({ ...LAG, origins: [7n, 8n].map((generation) => ({ nodeId: "n1", generation })) }));
  const { stdout } = await waymark(["discovery", "lag", "--server", fake.address]);
  expect(stdout).toMatch(/^SOURCE +GENERATION .*\nn1 +7 .*\nn1 +8 /);
});

test("lag is told by origin or by link, with whether the node is ready", async () => {
  const fake = await startFake();
  fake.mesh.set("lag", () => LAG);
  const origins = await waymark(["discovery", "lag", "-o", "wide", "--server", fake.address]);
  await expect(origins.stderr + origins.stdout).toMatchFileSnapshot("../golden/cli/lag.wide.txt");
  const links = await waymark(["discovery", "lag", "--links", "--server", fake.address]);
  await expect(links.stdout).toMatchFileSnapshot("../golden/cli/lag-links.table.txt");
  const json = await waymark(["discovery", "lag", "-o", "json", "--server", fake.address]);
  expect(JSON.parse(json.stdout)).toMatchObject({
    ready: false,
    originsProtected: true,
    origins: [{ behind: "0" }, { behind: "5" }, { behind: "30" }],
  });
  fake.mesh.set("lag", () => ({ servedBy: "n1", ready: true, detail: "in sync with all peers", age: { seconds: 0n, nanos: 0 } }));
  const fresh = await waymark(["discovery", "lag", "--server", fake.address]);
  expect(fresh.stderr).toMatch(/^n1 is ready: in sync with all peers\n/);
  const lonely = { servedBy: "n1", ready: true, detail: "not in sync with n2", age: { seconds: 13n, nanos: 0 } };
  fake.mesh.set("lag", () => lonely);
  const unlinked = await waymark(["discovery", "lag", "--links", "--server", fake.address]);
  await expect(unlinked.stderr + unlinked.stdout).toMatchFileSnapshot("../golden/cli/lag-no-links.table.txt");
  fake.mesh.set("lag", () => ({ servedBy: "n1", detail: "not yet caught up with any peer", age: { seconds: 1_795_345_062n, nanos: 0 } }));
  const unknown = await waymark(["discovery", "lag", "--server", fake.address]);
  expect(unknown.stderr).toMatch(/^n1 is not ready: not yet caught up with any peer; the age of its data is not known yet\n/);
});
