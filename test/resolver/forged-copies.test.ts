/** Copies on disk that are cut, changed, forged, newer, or another resolver's: they are of no use, change nothing, and say why. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiscoveryDelta_Action, DiscoveryDeltaSchema } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { ENTRY_TAG } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND, keyParts } from "../../src/catalog/record/record.ts";
import { blockOf, type FileBlock, readBlock } from "../../src/lib/file-blocks.ts";
import { writeVarint } from "../../src/lib/protowire.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { COPY_KIND } from "../../src/resolver/disk/codec.ts";
import { runs } from "../fakes/effort.ts";
import { KEYS } from "../fakes/mesh.ts";
import { version } from "../fakes/policy-versions.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const [DB1, DB2] = [KEYS[0]!, KEYS[1]!];
const HELD_KEYS = ["x1", "x2", "x3"].map((id) => KEYS[2]!.replace("\u00001\u0000c1", `\u0000${id}\u0000c1`));
const SECOND = 1000;

function blocksOf(copy: Uint8Array): FileBlock[] {
  const blocks: FileBlock[] = [];
  for (let at = 0; at < copy.length; ) {
    const block = readBlock(copy, at, blocks.length)!;
    blocks.push(block);
    at = block.end;
  }
  return blocks;
}

/** The copy with these payloads in the place of its own, sealed again. */
function forged(copy: Uint8Array, kind: number, change: (payload: Uint8Array) => Uint8Array): Uint8Array {
  const blocks = blocksOf(copy).map((block, i) => blockOf(i, block.kind, block.kind === kind ? change(block.payload) : block.payload));
  return Uint8Array.from(Buffer.concat(blocks));
}

function saying(kind: number, more: object): (copy: Uint8Array) => Uint8Array {
  return (copy) =>
    forged(copy, kind, (payload) => Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(payload).toString()), ...more })));
}

/** A block of entries that are held for a short time, each told by this change. */
function heldPayload(count: number, delta: MessageInitShape<typeof DiscoveryDeltaSchema>): Uint8Array {
  const message = toBinary(
    CatalogWatchResponseSchema,
    create(CatalogWatchResponseSchema, { deltas: [create(DiscoveryDeltaSchema, { deltaId: "a/1/1", ...delta })] }),
  );
  const countBytes = new Uint8Array(8);
  const countSize = writeVarint(countBytes, 0, count);
  const messages = Array.from({ length: count }, () => message);
  return Uint8Array.from(Buffer.concat([countBytes.subarray(0, countSize), new Uint8Array(count).fill(1), ...messages]));
}

const { CREATE, REMOVE } = DiscoveryDelta_Action;
const { HEADER, POLICY, ENTRIES, PLACE, STATE, HELD } = COPY_KIND;
const without = (kind: number) => (copy: Uint8Array) =>
  Uint8Array.from(
    Buffer.concat(
      blocksOf(copy)
        .filter((block) => block.kind !== kind)
        .map((block, i) => blockOf(i, block.kind, block.payload)),
    ),
  );

/** A copy with two entries that are followed, and three that are held. */
function copyWithHolds(): Uint8Array {
  const world = new ResolverWorld(["a"]);
  for (const key of [DB1, DB2, ...HELD_KEYS]) world.put("a", key);
  world.run(2 * SECOND);
  for (const key of HELD_KEYS) world.end("a", key, BODY.EXPIRED);
  world.run(2 * SECOND);
  return world.copy();
}

describe("a copy that is of no use changes nothing, and says why", () => {
  const world = new ResolverWorld(["a"]);
  Object.assign(world.server("a"), { versions: [version(3)], policyEpoch: epochOf(version(3).head) });
  for (const key of [DB1, DB2]) world.put("a", key);
  world.run(2 * SECOND);
  const copy = world.copy();
  const holding = copyWithHolds();

  /** Entries that are followed, and that are held. */
  function contentCount(): number {
    return world.replica.recordCount - world.replica.tombstoneCount + world.machine.statistics(world.now).heldCount;
  }

  function expectIgnored(bytes: Uint8Array, fault: RegExp): void {
    const ignored = world.restart(bytes);
    expect(ignored.ok ? "" : ignored.fault).toMatch(fault);
    expect([world.machine.isReady, contentCount(), world.rooms.policies.newestNumber]).toEqual([false, 0, 0]);
    expect([world.machine.following.prefixes.list, world.ask(DB)]).toEqual([["svc"], "not_ready"]);
  }

  test.each<{ what: string; make: (copy: Uint8Array) => Uint8Array; fault: RegExp }>([
    { what: "empty", make: () => new Uint8Array(), fault: /its last block is missing/ },
    { what: "longer than its end", make: (bytes) => Uint8Array.from([...bytes, 0]), fault: /truncated or corrupt/ },
    {
      what: "followed by another block",
      make: (bytes) => Uint8Array.from([...bytes, ...blockOf(blocksOf(bytes).length, ENTRIES, new Uint8Array())]),
      fault: /truncated or corrupt/,
    },
    { what: "of a newer format", make: saying(HEADER, { format: 2 }), fault: /its format 2 is not supported by this version/ },
    { what: "of another node", make: saying(HEADER, { nodeId: "you" }), fault: /it belongs to node you/ },
    { what: "of another cluster", make: saying(HEADER, { clusterId: "c2" }), fault: /it belongs to cluster c2/ },
    { what: "without a header", make: without(HEADER), fault: /does not begin with a header/ },
    { what: "without a state", make: without(STATE), fault: /its last block is missing/ },
    { what: "of no time", make: saying(STATE, { savedWallMs: -1 }), fault: /save time/ },
    { what: "of a negative age", make: saying(STATE, { ageMs: -1 }), fault: /\bage\b/ },
    { what: "of no namespaces", make: saying(STATE, { prefixes: ["a..b"] }), fault: /complete prefixes/ },
    {
      what: "of too many namespaces",
      make: saying(STATE, { prefixes: Array.from({ length: 20_000 }, (_, i) => `n${i}`) }),
      fault: /complete prefixes/,
    },
    {
      what: "with too many doubts",
      make: saying(STATE, { doubted: Array.from({ length: 20_000 }, (_, i) => `n${i}`) }),
      fault: /unconfirmed keys/,
    },
    { what: "with a state that is too large", make: saying(STATE, { more: "x".repeat(5_000_000) }), fault: /size of the state/ },
    { what: "with a state that is no object", make: (bytes) => forged(bytes, STATE, () => Buffer.from("7")), fault: /a block/ },
    {
      what: "with a policy that is none",
      make: (bytes) => forged(bytes, POLICY, (payload) => payload.subarray(5)),
      fault: /unreadable policy version/,
    },
    {
      what: "with a policy state that is none",
      make: saying(STATE, { policy: { isAwaited: 1, seen: [] } }),
      fault: /policy awaited/,
    },
    { what: "with a place that is none", make: (bytes) => forged(bytes, PLACE, () => Buffer.from("p1-xyz")), fault: /cursor/ },
    {
      what: "with an entry that is cut",
      make: (bytes) => forged(bytes, ENTRIES, (payload) => payload.subarray(0, -3)),
      fault: /malformed/,
    },
    {
      what: "with a block of entries that is too large",
      make: (bytes) => forged(bytes, ENTRIES, () => new Uint8Array(2 << 20)),
      fault: /invalid value \(size of entries\)/,
    },
    { what: "with a LOCAL entry", make: (bytes) => forged(bytes, ENTRIES, local), fault: /entry has scope LOCAL/ },
  ])("$what", ({ make, fault }) => {
    expectIgnored(make(copy), fault);
  });

  test.each<{ what: string; make: (copy: Uint8Array) => Uint8Array; fault: RegExp }>([
    {
      what: "with a held entry that is cut",
      make: (bytes) => forged(bytes, HELD, (payload) => payload.subarray(0, -3)),
      fault: /malformed/,
    },
    {
      what: "with a block of held entries that is too large",
      make: (bytes) => forged(bytes, HELD, () => new Uint8Array(2 << 20)),
      fault: /invalid value \(size of entries\)/,
    },
    {
      what: "with more held entries than it says",
      make: (bytes) => forged(bytes, HELD, (payload) => Uint8Array.of(2, ...payload.subarray(1, 11), ...payload.subarray(16))),
      fault: /number of retained entries.* 2/,
    },
    {
      what: "with fewer held entries than it could say",
      make: (bytes) => forged(bytes, HELD, () => Uint8Array.of(127, 1, 1)),
      fault: /number of retained entries.* 127/,
    },
    {
      what: "with too many held entries",
      make: (bytes) => forged(bytes, HELD, () => heldPayload(30_001, { action: CREATE, payload: { case: "entry", value: {} } })),
      fault: /invalid value \(number of entries\): 30001/,
    },
    {
      what: "with a removal among the held entries",
      make: (bytes) => forged(bytes, HELD, () => heldPayload(1, { action: REMOVE, payload: { case: "removed", value: keyParts(DB1) } })),
      fault: /a retained entry is a removal/,
    },
    { what: "with a held entry that is LOCAL", make: (bytes) => forged(bytes, HELD, local), fault: /entry has scope LOCAL/ },
    {
      what: "with too many holds that are over",
      make: saying(STATE, { released: Array.from({ length: 20_000 }, (_, i) => `n${i}`) }),
      fault: /released keys/,
    },
  ])("$what", ({ make, fault }) => {
    expectIgnored(make(holding), fault);
  });

  test("cut at every block, and anywhere", () => {
    const ends = blocksOf(copy)
      .slice(0, -1)
      .map(({ end }) => end);
    for (const at of ends) expectIgnored(copy.subarray(0, at), /its last block is missing/);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: copy.length - 1 }), (at) =>
        expectIgnored(copy.subarray(0, at), /truncated or corrupt|last block is missing/),
      ),
      { numRuns: runs(40) },
    );
  });

  test("with one bit flipped anywhere", () => {
    fc.assert(
      fc.property(fc.nat(copy.length * 8 - 1), (bit) => {
        const bytes = Uint8Array.from(copy);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expectIgnored(bytes, /truncated or corrupt/);
      }),
      { numRuns: runs(60) },
    );
  });

  test("with anything in it, sealed again: it is refused or restored, and nothing else happens", () => {
    fc.assert(
      fc.property(fc.constantFrom(HEADER, POLICY, ENTRIES, PLACE, STATE, HELD), fc.nat(), fc.nat(255), (kind, where, byte) => {
        const bytes = forged(kind === HELD ? holding : copy, kind, (payload) => {
          const changed = Uint8Array.from(payload);
          changed[where % changed.length] = byte;
          return changed;
        });
        const { ok } = world.restart(bytes);
        if (!ok) expect([contentCount(), world.rooms.policies.newestNumber]).toEqual([0, 0]);
      }),
      { numRuns: runs(200) },
    );
  });

  test("with more than this resolver may hold", () => {
    const { ok } = world.restart(copy, { options: { maxEntries: 1 } });
    expect([ok, contentCount(), world.ask(DB)]).toEqual([false, 0, "not_ready"]);
  });

  test("one without held entries, as an earlier build wrote it, is read", () => {
    expect([world.restart(holding).ok, contentCount()]).toEqual([true, 5]);
    const { ok } = world.restart(without(HELD)(saying(STATE, { released: undefined })(holding)));
    expect([ok, contentCount()]).toEqual([true, 2]);
  });
});

/** The first entry, made LOCAL. */
function local(payload: Uint8Array): Uint8Array {
  const at = payload.findIndex((byte, i) => byte === ENTRY_TAG.scope && payload[i + 1] === SCOPE.ZONE);
  return payload.with(at + 1, SCOPE.LOCAL);
}
