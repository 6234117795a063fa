/** The policy of a resolver: it is selected as at a node, never goes back, and nothing is answered under one that is older than what was heard. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchPolicyResponseSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { epochOf } from "../../../src/policy/set/verdict.ts";
import { HISTORY_BOUNDS, PolicyEngine } from "../../../src/policy/versions/engine.ts";
import type { RolloutStage } from "../../../src/policy/versions/version.ts";
import { readPolicyMessage } from "../../../src/resolver/codec.ts";
import { WatchedPolicy } from "../../../src/resolver/policy/watched-policy.ts";
import { type Version, version } from "../../fakes/policy-versions.ts";

const ELSEWHERE: RolloutStage = { by: "clusters", clusterIds: ["another"] };

class World {
  readonly engine = new PolicyEngine({ nodeId: "me", clusterId: "c1", ...HISTORY_BOUNDS });
  readonly policy = new WatchedPolicy(this.engine);
  monoMs = 0;

  constructor() {
    this.policy.begin("a");
  }

  /** Sends versions in parts of that size, and then the state. */
  send(versions: readonly Version[], policyEpoch = epochOf(versions[0]?.head ?? { number: 0, checksum: "" }), partBytes = 100): void {
    for (const { head, bytes } of versions)
      for (let offset = 0; offset < bytes.length; offset += partBytes) {
        const part = { place: placeOf({ head }), offset, bytes: bytes.subarray(offset, offset + partBytes), sizeBytes: bytes.length };
        this.hear({ part });
      }
    this.hear({ state: { versions: versions.map(placeOf), policyEpoch } });
  }

  hear(message: MessageInitShape<typeof WatchPolicyResponseSchema>): void {
    this.policy.receive(readPolicyMessage(toBinary(WatchPolicyResponseSchema, create(WatchPolicyResponseSchema, message))), this.monoMs);
  }

  heard(epoch: string, upstream = "a"): void {
    this.policy.noteEpoch(epoch, { upstream, monoMs: this.monoMs });
  }

  /** Lets so much time pass. What is waited for no more. */
  pass(ms: number): readonly string[] {
    this.monoMs += ms;
    return this.policy.takeUnmet(this.monoMs).map(({ upstream, epoch }) => `${upstream}: ${epoch}`);
  }

  get inForce(): number | undefined {
    return this.engine.inForce?.number;
  }
}

function placeOf({ head }: Pick<Version, "head">) {
  return { ...head, number: BigInt(head.number), hlc: BigInt(head.hlc) };
}

test("without any policy yet a resolver is not ready, and shows nothing; where none was ever configured it is", () => {
  const world = new World();
  expect([world.policy.isReady, world.engine.policy.isPending]).toEqual([false, true]);
  world.send([], "pending");
  expect(world.policy.isReady).toBe(false);
  world.send([], "none");
  expect([world.policy.isReady, world.engine.policy.epoch]).toEqual([true, "none"]);
});

test("the newest version that the stages let in is in force, whatever the order in which versions come", () => {
  const world = new World();
  world.send([version(3, "n1", 1, 3, ELSEWHERE), version(2, "n1", 1, 2, ELSEWHERE), version(1)]);
  expect([world.inForce, world.engine.newestNumber, world.policy.isReady]).toEqual([1, 3, true]);
  world.send([version(4)]);
  expect(world.inForce).toBe(4);
  expect(world.policy.known.map(({ number }) => number)).toEqual([4, 3, 2, 1]);
});

test("an upstream with an older policy takes nothing back", () => {
  const world = new World();
  world.send([version(5)]);
  world.send([version(4)]);
  world.heard(epochOf(version(4).head));
  world.heard("none");
  expect([world.inForce, world.policy.isReady]).toEqual([5, true]);
});

test("of two versions with one number the later wins, and who still has the other is heard without harm", () => {
  const world = new World();
  const [early, late] = [version(5, "n1", 1, 100), version(5, "n2", 2, 200)];
  world.send([late]);
  world.send([early]);
  expect([world.engine.place.nodeId, world.policy.isReady]).toEqual(["n2", true]);
});

test("while it lacks what something was made under a resolver is not ready", () => {
  const world = new World();
  world.send([version(1)]);
  world.heard(epochOf(version(3).head));
  world.heard(epochOf(version(2).head));
  expect(world.policy.isReady).toBe(false);
  world.send([version(2)]);
  expect(world.policy.isReady).toBe(false);
  world.send([version(3)]);
  expect(world.policy.isReady).toBe(true);
  world.heard("3-000000000000");
  expect(world.policy.isReady).toBe(false);
});

/** The most that a number can be: one that no mesh reaches. */
const ABSURD = `${Number.MAX_SAFE_INTEGER}`;

test("a version that its own server does not send within 10 s is waited for no more, and what another one named still is", () => {
  const world = new World();
  world.send([version(1)]);
  world.heard(ABSURD);
  world.heard(epochOf(version(2).head), "b");
  expect([world.pass(9999), world.policy.isReady, world.pass(1), world.policy.isReady]).toEqual([[], false, [`a: ${ABSURD}`], false]);
  world.send([version(2)]);
  expect([world.policy.isReady, world.pass(60_000)]).toEqual([true, []]);
});

test("a server that names one version after the other gets no more time, and one that sends a long version does, but not without end", () => {
  const world = new World();
  world.send([version(1)]);
  world.heard("8");
  world.pass(9000);
  world.heard("9");
  expect(world.pass(1000)).toEqual(["a: 9"]);
  world.heard("9");
  const { head, bytes } = version(9);
  const part = (offset: number) =>
    world.hear({ part: { place: placeOf({ head }), offset, bytes: bytes.subarray(offset, offset + 1), sizeBytes: bytes.length } });
  for (let offset = 0; offset < 6; offset++) {
    expect(world.pass(9000)).toEqual([]);
    part(offset);
  }
  expect(world.pass(5999)).toEqual([]);
  expect(world.pass(1)).toEqual(["a: 9"]);
});

test("a version of a server that is gone is waited for a minute from when another one says what it has", () => {
  const world = new World();
  world.send([version(1)]);
  world.policy.begin(undefined);
  world.heard("2");
  expect([world.pass(3_600_000), world.policy.nextDeadlineMs()]).toEqual([[], Number.POSITIVE_INFINITY]);
  world.policy.begin("b");
  world.send([version(1)]);
  expect(world.policy.nextDeadlineMs()).toBe(3_660_000);
  expect([world.pass(59_999), world.policy.isReady, world.pass(1), world.policy.isReady]).toEqual([[], false, ["a: 2"], true]);
});

test("a version whose stream broke before it came into force is lacked, and what was made under it is not answered", () => {
  const world = new World();
  world.send([version(1)]);
  const { head, bytes } = version(2);
  world.hear({ part: { place: placeOf({ head }), offset: 0, bytes, sizeBytes: bytes.length } });
  world.policy.begin(undefined);
  world.policy.begin("a");
  world.heard(epochOf(head));
  expect([world.policy.isReady, world.inForce]).toEqual([false, 1]);
  world.send([version(2)]);
  expect([world.policy.isReady, world.inForce]).toEqual([true, 2]);
});

test("what arrived of a stream that broke does not count for the next one, which sends it again", () => {
  const world = new World();
  world.send([version(1)]);
  const { head, bytes } = version(2);
  world.hear({ part: { place: placeOf({ head }), offset: 0, bytes, sizeBytes: bytes.length } });
  world.policy.begin("b");
  expect(() => world.hear({ state: { versions: [placeOf({ head })], policyEpoch: epochOf(head) } })).toThrow(/was not sent/);
  expect(world.inForce).toBe(1);
});

test("cut off, it keeps the last, and what was arriving comes again", () => {
  const world = new World();
  world.send([version(1)]);
  const { head, bytes } = version(2);
  world.hear({ part: { place: placeOf({ head }), offset: 0, bytes: bytes.subarray(0, 50), sizeBytes: bytes.length } });
  world.policy.begin("a");
  expect([world.inForce, world.policy.isReady]).toEqual([1, true]);
  world.send([version(2)]);
  expect(world.inForce).toBe(2);
});

test.each<{ what: string; messages: (whole: Version) => readonly MessageInitShape<typeof WatchPolicyResponseSchema>[]; says: RegExp }>([
  {
    what: "a part that is not the next one",
    messages: ({ head, bytes }) => [{ part: { place: placeOf({ head }), offset: 7, bytes, sizeBytes: bytes.length + 7 } }],
    says: /out of order/,
  },
  {
    what: "more than was announced",
    messages: ({ head, bytes }) => [{ part: { place: placeOf({ head }), offset: 0, bytes, sizeBytes: 10 } }],
    says: /out of order/,
  },
  {
    what: "an empty part",
    messages: ({ head }) => [{ part: { place: placeOf({ head }), offset: 0, bytes: new Uint8Array(), sizeBytes: 10 } }],
    says: /out of order/,
  },
  {
    what: "a version without bound",
    messages: ({ head, bytes }) => [{ part: { place: placeOf({ head }), offset: 0, bytes, sizeBytes: 17_000_000 } }],
    says: /the limit is 16777216/,
  },
  {
    what: "another version than its parts say",
    messages: ({ bytes }) => [{ part: { place: placeOf({ head: { ...version(8).head } }), offset: 0, bytes, sizeBytes: bytes.length } }],
    says: /differs from the version that its parts declare/,
  },
  {
    what: "changed bytes",
    messages: ({ head, bytes }) => [
      {
        part: { place: placeOf({ head }), offset: 0, bytes: bytes.map((byte, i) => (i === 80 ? byte ^ 1 : byte)), sizeBytes: bytes.length },
      },
    ],
    says: /invalid policy version 2: it was modified or truncated/,
  },
  {
    what: "a state that names what was not sent",
    messages: ({ head }) => [{ state: { versions: [placeOf({ head })], policyEpoch: "2" } }],
    says: /was not sent/,
  },
  {
    what: "a state of a policy that is none of its versions",
    messages: () => [{ state: { versions: [placeOf(version(1))], policyEpoch: "2" } }],
    says: /is newer than all policy versions in the state/,
  },
  {
    what: "a number that no version has",
    messages: () => [{ state: { versions: [], policyEpoch: "9223372036854775808" } }],
    says: /policy epoch "9223372036854775808"/,
  },
  {
    what: "a state in the middle of a version",
    messages: ({ head, bytes }) => [
      { part: { place: placeOf({ head }), offset: 0, bytes: bytes.subarray(0, 9), sizeBytes: bytes.length } },
      { state: { versions: [], policyEpoch: "none" } },
    ],
    says: /before all parts of a policy version/,
  },
  {
    what: "a part without a place",
    messages: () => [{ part: { offset: 0, bytes: new Uint8Array(1), sizeBytes: 1 } }],
    says: /invalid number, hlc, node_id or checksum/,
  },
])("an upstream that sends $what is not believed", ({ messages, says }) => {
  const world = new World();
  world.send([version(1)]);
  expect(() => messages(version(2)).forEach((message) => world.hear(message))).toThrow(says);
  expect(world.inForce).toBe(1);
});

test("bytes that are no message are refused as such", () => {
  expect(() => readPolicyMessage(new Uint8Array([10, 200]))).toThrow(expect.objectContaining({ reason: "invalid_argument" }));
});
