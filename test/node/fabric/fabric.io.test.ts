/** What a node without a fabric says of the mesh: that it is alone, and ready. */
import { expect, test } from "vitest";
import { EntryIndex } from "../../../src/catalog/query/entry-index.ts";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { Replica } from "../../../src/catalog/replica/replica.ts";
import { settingsOf } from "../../../src/config/settings.ts";
import type { NodeInput, NodeNotice, NodeOutput } from "../../../src/node/core-io.ts";
import { loneFabric } from "../../../src/node/fabric/fabric.io.ts";
import type { NodeCore } from "../../../src/node/rooms.io.ts";
import { LoneNode } from "../../fakes/lone-node.ts";
import { at, WALL } from "../../fakes/registry.ts";

const DETAIL = "standalone: fabric.enabled is off";
const IDENTITY = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", version: "1", roles: ["edge"] };
const TIME = { monoMs: 5, wallMs: 1_760_000_000_000 };

function lone() {
  const bounds = { tombstoneTtlMs: 3_600_000, minTombstones: 1000 };
  const replica = new Replica(new EntryIndex(), new Slab(), { nodeId: "a", generation: 7, lastSeq: 0, floor: 0, ...bounds });
  const machine = { readiness: { isServing: true }, drain: { facts: () => ({ labels: {} }) } };
  // Of a whole node only these are read.
  return loneFabric(
    { identity: IDENTITY, replica, machine } as unknown as NodeCore,
    settingsOf(({ setting }) => setting.default),
    DETAIL,
  );
}

test("it is its only member, by its own name and no other", () => {
  const { peers, mesh, listener } = lone();
  expect(listener).toBeUndefined();
  expect(peers.members(TIME)).toEqual([peers.member("a", TIME)]);
  expect(peers.member("a", TIME)).toMatchObject({
    nodeId: "a",
    clusterId: "c1",
    generation: 7,
    status: "alive",
    isSelf: true,
    isLinked: false,
  });
  expect(peers.member("b", TIME)).toBeUndefined();
  expect([mesh.presence("a", TIME)?.status, mesh.presence("b", TIME), mesh.hasPeers()]).toEqual(["alive", undefined, false]);
});

test("it is ready at once, behind nobody, and says why", () => {
  const fabric = lone();
  const detail = DETAIL;
  expect(fabric.component.readiness?.(TIME)).toEqual([{ name: "fabric", ok: true, detail }]);
  expect(fabric.peers.lag(TIME)).toMatchObject({ isReady: true, isCaughtUp: true, isProtected: false, ageMs: 0, detail, links: [] });
  expect(fabric.peers.lag(TIME).origins).toMatchObject([{ nodeId: "a", generation: 7, life: "live", through: 0, known: 0 }]);
  expect(fabric.peers.story("a", TIME).events).toEqual([]);
});

test("what it holds of itself is whole", () => {
  const row = { nodeId: "a", generation: 7, life: "live", through: 0, known: 0, floor: 0, refused: 0, whyPartial: "" };
  expect(lone().peers.lag(TIME).origins).toMatchObject([row]);
});

test("it reports its labels and its state, and each change of its drain", () => {
  const { machine, replica } = new LoneNode().begin().rooms;
  const settings = settingsOf(({ setting }) => setting.default);
  const followers = new Set<(notice: NodeNotice) => void>();
  const driver = { follow: (follower: (notice: NodeNotice) => void) => followers.add(follower) };
  const core = { identity: IDENTITY, replica, machine, driver } as unknown as NodeCore;
  const { peers } = loneFabric(core, { ...settings, node: { ...settings.node, labels: { rack: "1", room: "7" } } }, DETAIL);
  const give = (input: NodeInput, ms: number) => {
    const out: NodeOutput[] = [];
    machine.handle(input, at(ms), out);
    for (const output of out) for (const follower of followers) follower(output as NodeNotice);
  };
  give({ kind: "tick" }, 0);
  expect(peers.member("a", TIME)).toMatchObject({ isServing: true, labels: { rack: "1", room: "7" } });
  const steps: (string | undefined)[] = [];
  peers.follow((nodeId) => void steps.push(peers.member(nodeId, TIME)?.drain?.step));
  const drain = { sinceWallMs: WALL, deadlineWallMs: WALL + 600_000, isForced: false };
  give({ kind: "desired", desired: "drained", drain, labels: { rack: "2" } }, 200);
  give({ kind: "leadersLeft", leaderCount: 0, ownerCount: 0 }, 400);
  expect(steps).toEqual(["leaders", "addresses"]);
  expect(peers.members(TIME)).toMatchObject([{ desired: "drained", labels: { rack: "2", room: "7" } }]);
});
