/** From a client's message to stored bytes and back. */
import { create, type DescField, fromBinary, type MessageInitShape, ScalarType, toBinary } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { expect, test } from "vitest";
import { newEntryKey, readEntry, roomEntry, writeContent } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND_OF_DETAIL } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import { EntryKeySchema, EntrySchema, HealthStatus, Scope, TargetSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  decodeEntry,
  decodeMessage,
  EntryStamper,
  finishEntry,
  keyPrefixBytes,
  parseKey,
  parseLoad,
  type Stamp,
  withHealthInputs,
} from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { readRegisteredMs } from "../../../src/catalog/entry/view.ts";
import { HEALTH, KIND, keyParts } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { timeMs } from "../../../src/lib/protowire.ts";
import { anyMessage, DETAILS, sampleOf } from "../../fakes/any-entry.ts";
import { runs } from "../../fakes/effort.ts";
import { BOUNDS } from "../../fakes/options.ts";

type EntryInit = MessageInitShape<typeof EntrySchema>;

const WALL = 1_760_000_000_123;
const STAMP: Stamp = { nodeId: "n1", clusterId: "c1", region: "eu", zone: "eu-a", tenantId: "acme", receivedWallMs: WALL };
const TIMES = { registeredWallMs: WALL - 5000, updatedWallMs: WALL, load: undefined };
const PLAIN = { key: { namespace: "svc.market", name: "web", instanceId: "i-1" } } satisfies EntryInit;

const anyName = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,20}$/);

function stamper(): EntryStamper {
  return new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });
}

function entryOf(init: EntryInit, stamp = STAMP): ReturnType<EntryStamper["entryOf"]> {
  return stamper().entryOf(create(EntrySchema, init), 0, stamp);
}

function stored(init: EntryInit, stamp = STAMP): Uint8Array {
  const newEntry = entryOf(init, stamp);
  return finishEntry(newEntry.content, { ...TIMES, load: newEntry.load });
}

/** A client's entry of any kind, every field of the contract in it. */
const entryInit: fc.Arbitrary<EntryInit> = fc
  .tuple(
    fc.record({ namespace: fc.constantFrom("svc", "svc.market"), name: anyName, instanceId: anyName }),
    anyMessage(EntrySchema, ["key", "cluster_id", "region", "node_id", "tenant_id", "registered_at", "updated_at"]),
    fc.oneof(fc.constant(undefined), ...DETAILS.map((detail) => anyMessage(detail.message).map((value) => ({ case: detail.name, value })))),
  )
  .map(([key, fields, detail]) => {
    const kind = detail === undefined ? KIND.SERVICE : KIND_OF_DETAIL[detail.case as keyof typeof KIND_OF_DETAIL];
    // Most checks connect to the port of the first target.
    const [first] = (fields["targets"] ?? []) as readonly { readonly port: number }[];
    const checks = first === undefined || first.port === 0 ? [] : fields["checks"];
    return { ...fields, checks, key: { ...key, kind }, ...(detail !== undefined && { detail }) } as EntryInit;
  });

function timestamp(wallMs: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(Math.floor(wallMs / 1000)), nanos: (wallMs % 1000) * 1_000_000 };
}

test("a sealed entry is, to protobuf-es, what the client sent with the stamps put over it", () => {
  fc.assert(
    fc.property(entryInit, fc.boolean(), (init, registeredByAdmin) => {
      const sent = create(EntrySchema, init);
      const expected = create(EntrySchema, {
        ...sent,
        key: { ...(sent.key ?? create(EntryKeySchema)), clusterId: "c1" },
        targets: sent.targets.map((target) => ({ ...target, protocol: target.protocol.toLowerCase() })),
        scope: sent.scope === Scope.UNSPECIFIED ? SCOPE.ZONE : sent.scope,
        health: sent.health === HealthStatus.UNSPECIFIED ? HEALTH.HEALTHY : sent.health,
        zone: sent.zone === "" ? "eu-a" : sent.zone,
        clusterId: "c1",
        region: "eu",
        nodeId: "n1",
        tenantId: "acme",
        registeredByAdmin: registeredByAdmin && sent.aliases.length > 0,
        reportedHealth: sent.checks.length === 0 ? HEALTH.UNSET : sent.health || HEALTH.HEALTHY,
        checkStates: [],
        maintenance: undefined,
        registeredAt: create(TimestampSchema, timestamp(TIMES.registeredWallMs)),
        updatedAt: create(TimestampSchema, timestamp(TIMES.updatedWallMs)),
      });
      // Kept in milliseconds; of one that does not say, when it came.
      const { observedAt } = expected.load ?? {};
      if (expected.load) expected.load.observedAt = create(TimestampSchema, timestamp(observedAt ? timeMs(observedAt) : WALL));
      expect(decodeMessage(stored(init, { ...STAMP, registeredByAdmin }))).toEqual(
        fromBinary(EntrySchema, toBinary(EntrySchema, expected)),
      );
    }),
    { numRuns: runs(500) },
  );
});

test("what was stored is read back as the draft it was", () => {
  fc.assert(
    fc.property(entryInit, (init) => {
      const newEntry = entryOf(init);
      const again = stamper().entryOfStored(stored(init));
      expect(again).toEqual({ ...newEntry, contentBytes: newEntry.content.length });
      expect(readRegisteredMs(stored(init), again.contentBytes)).toBe(TIMES.registeredWallMs);
    }),
    { numRuns: runs(500) },
  );
});

/** An unknown field of 32,760 bytes. */
const LONG_UNKNOWN = Uint8Array.of(0xc2, 0x3e, 0xf8, 0xff, 0x01, ...new Uint8Array(32_760));

test("an entry from the node's own journal is read as any stored entry, except its load", () => {
  fc.assert(
    fc.property(entryInit, (init) => {
      const bytes = stored(init);
      const { content: _, ...indexed } = stamper().entryOfStored(bytes);
      expect(stamper().entryOfJournal(bytes)).toMatchObject({ ...indexed, load: undefined });
    }),
    { numRuns: runs(200) },
  );
});

test.each([
  { what: "an unknown kind", edit: (bytes: Uint8Array) => bytes.with(3, 99), why: "kind or scope" },
  { what: "an unknown scope", edit: (bytes: Uint8Array) => bytes.with(3 + (bytes[1] ?? 0), 99), why: "kind or scope" },
  { what: "no key", edit: (bytes: Uint8Array) => bytes.subarray(2 + (bytes[1] ?? 0)), why: "kind or scope" },
  {
    what: "too many bytes",
    edit: () => finishEntry(Uint8Array.of(...entryOf(PLAIN).content, ...LONG_UNKNOWN), TIMES),
    why: "bytes",
  },
])("an entry from the journal with $what is refused", ({ edit, why }) => {
  expect(() => stamper().entryOfJournal(edit(stored(PLAIN)))).toThrow(WaymarkError);
  expect(() => stamper().entryOfJournal(edit(stored(PLAIN)))).toThrow(why);
});

/** As much of anything as a field can take, in three bytes a character. */
function muchOf(field: DescField): unknown {
  const text = "€".repeat(1000);
  if (field.fieldKind === "map") return { [text]: text, more: text };
  const sample = sampleOf(field);
  const one = field.scalar === ScalarType.STRING ? text : Array.isArray(sample) ? (sample[0] as unknown) : sample;
  return field.fieldKind === "list" ? Array.from({ length: 200 }, () => one) : one;
}

const CONTENT = EntrySchema.fields.filter(
  ({ oneof, name }) => oneof === undefined && !["load", "registered_at", "updated_at"].includes(name),
);
const MUCH = [
  ...CONTENT.map((field) => ({ name: field.name, init: { [field.localName]: muchOf(field) } })),
  ...TargetSchema.fields.map((field) => ({ name: `targets.${field.name}`, init: { targets: [{ [field.localName]: muchOf(field) }] } })),
  ...DETAILS.flatMap(({ name, message }) =>
    message.fields.map((field) => ({
      name: `${name}.${field.name}`,
      init: { detail: { case: name, value: { [field.localName]: muchOf(field) } } },
    })),
  ),
];

test.each(MUCH)("however much $name says, it fits the room that is reckoned for it", ({ init }) => {
  // The stamps have room of their own.
  const checked = { reportedHealth: 0, checkStates: [], maintenance: undefined };
  const stampless = { key: create(EntryKeySchema), zone: "", region: "", nodeId: "", tenantId: "", clusterId: "", ...checked };
  const entry = create(EntrySchema, { ...init, ...stampless } as EntryInit);
  const out = new Uint8Array(4 * 1024 * 1024);
  const end = writeContent(out, 0, entry, { ...entry, key: newEntryKey(), maintenance: undefined });
  expect(end).toBeLessThanOrEqual(roomEntry(entry));
  expect(fromBinary(EntrySchema, out.subarray(0, end))).toEqual(fromBinary(EntrySchema, toBinary(EntrySchema, entry)));
});

test("Leases and life: equal entries have equal content, whatever the order of their maps, their load and their times", () => {
  const one = entryOf({ ...PLAIN, metadata: { b: "2", a: "1", "10": "x", "9": "y" }, load: { utilization: 0.5 }, updatedAt: timestamp(1) });
  const other = entryOf({ ...PLAIN, metadata: { "9": "y", a: "1", "10": "x", b: "2" }, load: { utilization: 0.7 } });
  expect(one.content).toEqual(other.content);
  expect(entryOf({ ...PLAIN, metadata: { b: "2", a: "1" } }).content).not.toEqual(one.content);
});

test("Names and bounds: what the server stamps is stamped whatever the client sent", () => {
  const forged = { clusterId: "x", region: "x", nodeId: "x", tenantId: "x", registeredAt: timestamp(1), updatedAt: timestamp(1) };
  const newEntry = entryOf({ key: { ...PLAIN.key, clusterId: "x" }, ...forged });
  expect(keyParts(newEntry.key).clusterId).toBe("c1");
  expect(newEntry.key).toBe(["svc.market", "web", 1, "i-1", "c1"].join("\0"));
  expect(newEntry.traits).toMatchObject({ clusterId: "c1", region: "eu", nodeId: "n1", tenantId: "acme", zone: "eu-a" });
  expect(newEntry.content).toEqual(entryOf(PLAIN).content);
  const sealed = finishEntry(newEntry.content, TIMES);
  expect(decodeMessage(sealed).tenantId).toBe("acme");
  expect(decodeEntry(sealed, "live")).toMatchObject({
    nodeId: "n1",
    region: "eu",
    zone: "eu-a",
    scope: SCOPE.ZONE,
    health: HEALTH.HEALTHY,
  });
  expect(entryOf({ ...PLAIN, zone: "eu-b" }).traits.zone).toBe("eu-b");
});

test("that an admin registered an entry with aliases is noted, and kept whatever of it changes here or at its next node", () => {
  const admins = { ...STAMP, registeredByAdmin: true };
  const aliased = { ...PLAIN, aliases: ["pay"] };
  const bytes = stored(aliased, admins);
  const stampedEntries = [
    stamper().entryOfStored(bytes),
    withHealthInputs(stamper().entryOfStored(bytes), { reported: HEALTH.CRITICAL, states: [], maintenance: undefined }),
    stamper().storedAtNode(bytes, "n2").stamped,
  ];
  for (const newEntry of stampedEntries) {
    expect(newEntry.traits.registeredByAdmin).toBe(true);
    expect(stamper().entryOfStored(finishEntry(newEntry.content, TIMES)).traits.registeredByAdmin).toBe(true);
  }
  expect(entryOf({ ...aliased, registeredByAdmin: true }).traits.registeredByAdmin).toBe(false);
  expect(entryOf(PLAIN, admins).content).toEqual(entryOf(PLAIN).content);
});

test.each([
  { what: "SERVICE when nothing says", init: PLAIN, kind: KIND.SERVICE },
  { what: "the detail's when the key does not say", init: { ...PLAIN, detail: { case: "queue", value: {} } } as const, kind: KIND.QUEUE },
  { what: "the key's without a detail", init: { key: { ...PLAIN.key, kind: KIND.CACHE } }, kind: KIND.CACHE },
])("a kind is $what", ({ init, kind }) => {
  expect(entryOf(init).kind).toBe(kind);
  expect(decodeMessage(stored(init)).key?.kind).toBe(kind);
});

test("fields this version does not know are dropped from what a client sends", () => {
  const sent = Uint8Array.of(...toBinary(EntrySchema, create(EntrySchema, PLAIN)), 0xc0, 0x3e, 7);
  const message = fromBinary(EntrySchema, sent);
  expect(message.$unknown).toHaveLength(1);
  expect(stamper().entryOf(message, 0, STAMP).content).toEqual(entryOf(PLAIN).content);
});

test("fields this version does not know are kept in what another node sends", () => {
  const newEntry = entryOf(PLAIN);
  const content = Uint8Array.of(...newEntry.content, 0xc0, 0x3e, 7);
  const sealed = finishEntry(content, TIMES);
  expect(stamper().entryOfStored(sealed).content).toEqual(content);
});

test("an entry that would be too large under its next node's longer name is refused for it", () => {
  const metadata: Record<string, string> = {};
  for (let i = 0; i < 29; i++) metadata[`k${i + 10}`] = "x".repeat(1000);
  const sized = (last: number) => ({ ...PLAIN, metadata: { ...metadata, last: "x".repeat(last) } });
  const large = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool(8) });
  const sizeOf = (last: number) => large.entryOf(create(EntrySchema, sized(last)), 0, STAMP).content;
  const content = sizeOf(200 + PROTOCOL_BOUNDS.maxEntryBytes - sizeOf(200).length);
  expect(content).toHaveLength(PROTOCOL_BOUNDS.maxEntryBytes);
  expect(() => large.storedAtNode(finishEntry(content, TIMES), "n1-longer")).toThrow(
    "has 30007 bytes when encoded; at most 30000 are allowed",
  );
});

test("an entry of exactly the bound is stored, one byte more is refused by its place in the request", () => {
  const sized = (extra: number): EntryInit => {
    const metadata: Record<string, string> = {};
    for (let i = 0; i < 15; i++) metadata[`k${i + 10}`] = "x".repeat(1024);
    return { ...PLAIN, metadata: { ...metadata, last: "x".repeat(extra) } };
  };
  const room = BOUNDS.maxEntryBytes - entryOf(sized(200)).content.length;
  const fits = sized(200 + room);
  expect(entryOf(fits).content).toHaveLength(16_384);
  expect(stamper().entryOfStored(stored(fits)).contentBytes).toBe(16_384);
  expect(() => stamper().entryOf(create(EntrySchema, sized(201 + room)), 2, STAMP)).toThrow(
    "invalid_argument: entries[2]: has 16385 bytes when encoded; at most 16384 are allowed",
  );
});

test("violations are named by their path in the request, all of them", () => {
  const bad = create(EntrySchema, {
    ...PLAIN,
    targets: [
      { host: "web", port: 1 },
      { host: "web", port: 65_536 },
    ],
    tags: ["a b"],
  });
  let refused: unknown;
  try {
    stamper().entryOf(bad, 3, STAMP);
  } catch (error) {
    refused = error;
  }
  expect(refused).toBeInstanceOf(WaymarkError);
  const fields = refused instanceof WaymarkError ? refused.details.violations?.map((violation) => violation.field) : [];
  expect(fields).toEqual(["entries[3].targets[1].port", "entries[3].tags[0]"]);
});

test("a node may write where clients may not", () => {
  const entry = create(EntrySchema, { key: { kind: KIND.NODE, namespace: "discovery.nodes", name: "n1", instanceId: "n1" } });
  expect(() => stamper().entryOf(entry, 0, STAMP)).toThrow("reserved");
  expect(stamper().entryOfNode(entry, STAMP).namespace).toBe("discovery.nodes");
});

test("Orphans: readers see ORPHANED while the origin is away", () => {
  const sealed = stored({ ...PLAIN, health: HEALTH.DEGRADED });
  expect(decodeEntry(sealed, "live").health).toBe(HEALTH.DEGRADED);
  expect(decodeEntry(sealed, "orphaned").health).toBe(HEALTH.ORPHANED);
  expect(decodeEntry(stored({ ...PLAIN, health: HEALTH.MAINTENANCE }), "orphaned").health).toBe(HEALTH.MAINTENANCE);
});

test("a view and its large fields are those of the whole entry, whatever stands around them", () => {
  fc.assert(
    fc.property(entryInit, (init) => {
      const sealed = stored(init);
      const { key, scope, targets, region, zone, nodeId, health, aliases, capabilities, detail, metadata, tags } = readEntry(sealed).entry;
      const view = decodeEntry(sealed, "live");
      expect(view).toMatchObject({ key, scope, targets, region, zone, nodeId, health });
      const large = [view.read("aliases"), view.read("capabilities"), view.read("detail"), view.read("metadata"), view.read("tags")];
      expect(large).toEqual([aliases, capabilities, detail, metadata, tags]);
    }),
    { numRuns: runs(200) },
  );
});

test("a view has what the other rooms look for", () => {
  const view = decodeEntry(
    stored({
      key: { ...PLAIN.key, kind: KIND.FUNCTION },
      ttl: { seconds: 5n, nanos: 500_000_000 },
      detail: { case: "function", value: { version: "1.2.3", specDigest: "sha256:ab" } },
      load: { activeClients: 3, observedAt: timestamp(WALL - 1) },
    }),
    "live",
  );
  expect(view).toMatchObject({ ttlMs: 5500, load: { activeClients: 3, observedWallMs: WALL - 1 } });
  expect(view.read("detail").value).toMatchObject({ version: "1.2.3", specDigest: "sha256:ab" });
  const node = decodeEntry(
    stored({
      key: { ...PLAIN.key, kind: KIND.NODE },
      detail: { case: "node", value: { advertisedUrls: ["grpc://h:1"], transports: ["h2"] } },
    }),
    "live",
  );
  expect(node.read("detail").value).toMatchObject({ advertisedUrls: ["grpc://h:1"], transports: ["h2"] });
});

test("the key alone is the first bytes of an entry", () => {
  const sealed = stored(PLAIN);
  const alone = decodeMessage(sealed.subarray(0, keyPrefixBytes(sealed)));
  expect(alone).toEqual(create(EntrySchema, { key: decodeMessage(sealed).key! }));
});

test.each([
  {
    what: "a known field of another wire type",
    edit: (bytes: Uint8Array) => bytes.with(bytes.indexOf(0x10), 0x11),
    why: "field 2 has an unexpected wire type: 1",
  },
  { what: "nothing", edit: () => new Uint8Array(0), why: "key: is required" },
  { what: "half of it", edit: (bytes: Uint8Array) => bytes.subarray(0, bytes.length - 3), why: "exceeds the remaining" },
  { what: "no times", edit: (bytes: Uint8Array) => bytes.subarray(0, entryOf(PLAIN).content.length), why: "end with its times" },
  {
    what: "content after the times",
    edit: (bytes: Uint8Array) => Uint8Array.of(...bytes, 0x22, 1, 0x61),
    why: "content after load or times",
  },
  {
    what: "the key twice",
    edit: (bytes: Uint8Array) => Uint8Array.of(...bytes.subarray(0, keyPrefixBytes(bytes)), ...bytes),
    why: "key appears twice",
  },
  { what: "a scope before the key", edit: (bytes: Uint8Array) => Uint8Array.of(0x10, 2, ...bytes), why: "start with its key" },
  { what: "another cluster in the key", edit: (bytes: Uint8Array) => replaceText(bytes, "c1", "c2"), why: "must equal cluster_id" },
  { what: "no node", edit: (bytes: Uint8Array) => replaceText(bytes, "n1", "n "), why: "node_id" },
])("a stored entry with $what is refused alone", ({ edit, why }) => {
  const stampedEntries = stamper();
  expect(() => stampedEntries.entryOfStored(edit(stored(PLAIN)))).toThrow(WaymarkError);
  expect(() => stampedEntries.entryOfStored(edit(stored(PLAIN)))).toThrow(why);
  expect(stampedEntries.entryOfStored(stored(PLAIN)).name).toBe("web");
});

/** The first text `from` replaced by `to` of the same length. */
function replaceText(bytes: Uint8Array, from: string, to: string): Uint8Array {
  return Uint8Array.from(Buffer.from(Buffer.from(bytes).toString("latin1").replace(from, to), "latin1"));
}

test("damaged bytes are refused or read as protobuf-es reads them", () => {
  const damage = fc.array(fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.boolean() }), { minLength: 1, maxLength: 3 });
  let accepted = 0;
  fc.assert(
    fc.property(entryInit, damage, (init, edits) => {
      let bytes = stored(init).slice();
      for (const { at, byte, cut } of edits) {
        if (cut && at % 4 === 0) bytes = bytes.slice(0, at % (bytes.length + 1));
        else bytes[at % bytes.length] = byte;
      }
      let newEntry: ReturnType<EntryStamper["entryOfStored"]>;
      try {
        newEntry = stamper().entryOfStored(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(WaymarkError);
        return;
      }
      accepted++;
      const message = decodeMessage(bytes);
      const { key, tags, capabilities, resources, scope, nodeId } = message;
      expect(keyParts(newEntry.key)).toEqual({
        kind: key?.kind,
        namespace: key?.namespace,
        name: key?.name,
        instanceId: key?.instanceId,
        clusterId: key?.clusterId,
      });
      expect(newEntry).toMatchObject({ scope, traits: { tags, capabilities, resources, nodeId } });
    }),
    { numRuns: runs(3000) },
  );
  expect(accepted).toBeGreaterThan(runs(100));
});

test("Load: a stored entry with another health is the same in everything else", () => {
  const before = stamper().entryOfStored(stored({ ...PLAIN, zone: "eu-b", metadata: { a: "1" } }));
  const changed = withHealthInputs(before, { reported: HEALTH.CRITICAL, states: [], maintenance: undefined });
  expect(changed).toMatchObject(entryOf({ ...PLAIN, zone: "eu-b", metadata: { a: "1" }, health: HEALTH.CRITICAL }));
});

test("a request's key gets this cluster when it names none, and is refused by its path when it cannot be one", () => {
  const key = { kind: KIND.QUEUE, namespace: "svc", name: "web", instanceId: "i", clusterId: "" };
  expect(parseKey(key, "keys[0]", "c1", BOUNDS)).toBe(parseKey({ ...key, clusterId: "c1" }, "keys[0]", "c2", BOUNDS));
  expect(parseKey({ ...key, kind: 0 }, "keys[0]", "c1", BOUNDS)).toBe(
    entryOf({ key: { ...PLAIN.key, namespace: "svc", instanceId: "i" } }).key,
  );
  expect(() => parseKey({ ...key, name: "" }, "keys[7]", "c1", BOUNDS)).toThrow("keys[7].name: is required");
});

test("a request's load is refused by its path when it is out of range", () => {
  const load = { activeClients: 1, errorRate: 0, latencyMs: 2, utilization: 0.5 };
  expect(parseLoad(load, "reports[0].load", WALL, BOUNDS)).toEqual({ ...load, observedWallMs: WALL });
  expect(() => parseLoad({ ...load, utilization: 1.1 }, "reports[2].load", WALL, BOUNDS)).toThrow(
    "reports[2].load.utilization: 1.1 must be 0 to 1",
  );
});
