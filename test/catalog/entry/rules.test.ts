/** The checks of an entry: those made from the contract, held equal to protovalidate, and those that only code states. */
import { create, type DescField, hasOption, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { expect, test } from "vitest";
import { field as rulesOption } from "../../../gen/buf/validate/validate_pb.js";
import {
  CheckSchema,
  type Entry,
  EntryKeySchema,
  EntrySchema,
  type HealthStatus,
  LoadReportSchema,
  type Scope,
  TargetSchema,
} from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { CACHE_ROLES, DELIVERY_GUARANTEES, type EntrySource, LAST_KIND } from "../../../src/catalog/entry/kinds.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { DETAILS, edgesOf } from "../../fakes/any-entry.ts";
import { runs } from "../../fakes/effort.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { UNCALLABLE_HOSTS } from "../../fakes/uncallable-hosts.ts";

type EntryInit = MessageInitShape<typeof EntrySchema>;

/** A number no enum of this version has. */
const UNKNOWN = 9 as unknown as HealthStatus & Scope;

const validator = createValidator();

/** Paths of the fields the contract's rules refuse. */
function refusedByContract(entry: Entry): string[] {
  const result = validator.validate(EntrySchema, entry);
  if (result.kind === "error") throw result.error;
  return fieldNames((result.violations ?? []).map((violation) => fieldPath(violation.field)));
}

function fieldPath(field: readonly { readonly kind: string; readonly name?: string }[]): string {
  return field
    .map((part) => part.name ?? "")
    .filter((name) => name !== "")
    .join(".");
}

/** In these fields a client may only say the words that we know, which the contract leaves open. */
const WORDS = /^(?:cache\.role|queue\.delivery_guarantees|topic\.patterns)\b/;

/** Paths of the fields our checks refuse to a client, not counting words that only a client may not say. */
function refusedByUs(entry: Entry): string[] {
  const violations = violationsOf(entry, "client").filter(
    ({ field, description }) => !(WORDS.test(field) && /must be one of|is listed twice|must be words/.test(description)),
  );
  return fieldNames(violations.map(({ field }) => field.replace(/\[("(\\.|[^"\\])*"|\d+)\]/g, "")));
}

const STAMP = { nodeId: "n1", clusterId: "c1", region: "r1", zone: "z1", tenantId: "" };
const TIMES = { registeredAt: { seconds: 1n, nanos: 0 }, updatedAt: { seconds: 1n, nanos: 0 } };
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });

/** As a client registers it, as a node registers it of itself, or as it comes in a record: then with all that a node stamps. */
function write(entry: Entry, writer: EntrySource): void {
  if (writer === "client") stamper.entryOf(entry, 0, { ...STAMP, receivedWallMs: 0 });
  else if (writer === "node") stamper.entryOfNode(entry, { ...STAMP, receivedWallMs: 0 });
  else {
    const stamped = create(EntrySchema, { ...STAMP, ...TIMES, scope: 2 });
    const key = entry.key && { ...entry.key, clusterId: "c1" };
    const said = { ...entry, ...STAMP, scope: entry.scope || stamped.scope, ...(key !== undefined && { key }) };
    const { registeredAt = entry.registeredAt, updatedAt = entry.updatedAt } = stamped;
    stamper.entryOfStored(toBinary(EntrySchema, { ...said, ...(registeredAt && { registeredAt }), ...(updatedAt && { updatedAt }) }));
  }
}

function violationsOf(entry: Entry, writer: EntrySource): readonly { readonly field: string; readonly description: string }[] {
  try {
    write(entry, writer);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return (error.details.violations ?? []).map(({ field, description }) => ({ field: field.replace(/^entries\[0\]\./, ""), description }));
  }
  return [];
}

function fieldNames(paths: readonly string[]): string[] {
  return [...new Set(paths)].toSorted();
}

// Values on and next to every bound. What only code can refuse (see catalog/entry/rules.ts) is left to the table below.

const nameOf = (max: number): fc.Arbitrary<string> =>
  fc.oneof(
    { arbitrary: fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,12}$/), weight: 8 },
    fc.constantFrom("", "x".repeat(max), "x".repeat(max + 1), "a b", "é", "a\n", "x*", ","),
  );
const name = nameOf(128);
const id = nameOf(64);
const anyText = (max: number): fc.Arbitrary<string> =>
  fc.constantFrom("", "eu", "x".repeat(max), "x".repeat(max + 1), "😀".repeat(max), "😀".repeat(max + 1), "é".repeat(max), "with space");
const listOf = (item: fc.Arbitrary<string>): fc.Arbitrary<string[]> =>
  fc.oneof(
    { arbitrary: fc.uniqueArray(item, { maxLength: 3 }), weight: 6 },
    { arbitrary: fc.array(item, { maxLength: 4 }), weight: 1 },
    fc.constantFrom(63, 64, 65).map((count) => Array.from({ length: count }, (_, i) => `item-${i}`)),
    fc.constantFrom(9, 12).map((count) => Array.from({ length: count }, (_, i) => `item-${i % 11}`)),
  );
const names = listOf(name);
const uint16 = fc.constantFrom(0, 1, 80, 65_535, 65_536, 2 ** 32 - 1);
const namespace = fc.constantFrom(
  "svc",
  "svc.market",
  "",
  ".",
  "svc..x",
  "Svc",
  "-a",
  "a-",
  "x".repeat(63),
  "x".repeat(64),
  "abcd.".repeat(40).slice(0, 199),
  "abcd.".repeat(40) + "a",
);
const host = fc.constantFrom(
  "10.0.0.1",
  "::1",
  "web",
  "web.svc",
  "",
  "a b",
  "é",
  "a/b",
  `${"abcdefgh.".repeat(28)}a`,
  `${"abcdefgh.".repeat(28)}ab`,
);
const time = (seconds: readonly bigint[]): fc.Arbitrary<{ seconds: bigint; nanos: number }> =>
  fc.record({ seconds: fc.constantFrom(...seconds), nanos: fc.constantFrom(0, 1, 999_999_999) });
const ratio = fc.constantFrom(0, -0, 0.5, 1, 1.000_000_1, -0.000_001, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
const pairs = (key: fc.Arbitrary<string>, value: fc.Arbitrary<string>): fc.Arbitrary<Record<string, string>> =>
  fc.oneof(
    { arbitrary: fc.dictionary(key, value, { maxKeys: 3, noNullPrototype: true }), weight: 6 },
    fc.constantFrom(64, 65).map((count) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, "v"]))),
  );
const metadataValue = fc.constantFrom(
  "",
  "v",
  "x".repeat(1024),
  "x".repeat(1025),
  "é".repeat(512),
  "é".repeat(513),
  "😀".repeat(256),
  "😀".repeat(257),
);

const target = fc.record({ host, port: uint16, priority: uint16, weight: uint16, protocol: nameOf(128) });
const targets = fc.oneof(
  // Distinct names: that they must be is a rule only code states.
  fc.array(target, { maxLength: 3 }).map((list) => list.map((item, i) => ({ ...item, name: i === 0 ? "" : `port-${i}` }))),
  nameOf(128).map((portName) => [{ name: portName, host: "web", port: 1 }]),
  fc.constantFrom(64, 65).map((count) => Array.from({ length: count }, () => ({ host: "web", port: 1 }))),
);
const version = fc.constantFrom("", "1.2.3", `1.0.0-${"a".repeat(122)}`, `1.0.0-${"a".repeat(123)}`);
const detail: fc.Arbitrary<NonNullable<EntryInit["detail"]>> = fc.oneof(
  fc.constant({ case: "service" as const, value: {} }),
  fc.record({ functionId: name, version, specDigest: name, resources: names }).map((value) => ({ case: "function" as const, value })),
  fc.record({ patterns: listOf(anyText(256)) }).map((value) => ({ case: "topic" as const, value })),
  fc.record({ deliveryGuarantees: names }).map((value) => ({ case: "queue" as const, value })),
  fc
    .record({
      role: name,
      capacityBytes: fc.constantFrom(0n, 1n, 2n ** 64n - 1n),
      region: id,
      utilization: ratio,
      latencyMs: fc.constantFrom(0, 1, 1e9, 1e9 + 1, -1, Number.NaN),
      latitude: fc.constantFrom(0, -90, 90, 90.1, -90.1, Number.NaN),
      longitude: fc.constantFrom(0, -180, 180, 180.1, -180.1, Number.NaN),
      modes: names,
    })
    .map((value) => ({ case: "cache" as const, value })),
  fc
    .record({
      advertisedUrls: listOf(anyText(512)),
      transports: listOf(anyText(100)),
      protocolVersions: fc.constantFrom(
        [],
        [1, 2],
        Array.from({ length: 64 }, () => 1),
        Array.from({ length: 65 }, () => 1),
      ),
      labels: pairs(anyText(10), anyText(10)),
    })
    .map((value) => ({ case: "node" as const, value })),
);

const NO_KIND = 0;
const fields = {
  key: fc.oneof(
    {
      arbitrary: fc.record({ kind: fc.constantFrom(NO_KIND, LAST_KIND + 1, -1), namespace, name, instanceId: name, clusterId: id }),
      weight: 20,
    },
    fc.constant(undefined),
  ),
  scope: fc.constantFrom(0, 1, 4, 5, -1),
  targets,
  tags: names,
  capabilities: names,
  resources: names,
  metadata: pairs(nameOf(63), metadataValue),
  ttl: time([0n, 1n, 86_399n, 86_400n, 86_401n, -1n]),
  aliases: listOf(fc.constantFrom("web", "web.example", "", "a:b", "a/b", "x".repeat(253), "x".repeat(254))),
  clusterId: anyText(64),
  region: anyText(64),
  zone: id,
  nodeId: anyText(64),
  tenantId: anyText(64),
  health: fc.constantFrom(0, 1, 4, 5, 6, -1),
  load: fc.record(
    {
      activeClients: fc.constantFrom(0, 2 ** 32 - 1),
      errorRate: ratio,
      latencyMs: fc.constantFrom(0, 1e9, 1e9 + 1, -1, Number.NaN),
      utilization: ratio,
      observedAt: time([0n, 1_760_000_000n]),
    },
    { requiredKeys: [] },
  ),
  registeredAt: time([0n]),
  updatedAt: time([0n]),
  detail,
};
/** A plain entry with one to three fields of which each may be anything. */
const entryInit: fc.Arbitrary<EntryInit> = fc
  .tuple(fc.record(fields), fc.subarray(Object.keys(fields), { minLength: 1, maxLength: 3 }))
  .map(([any, chosen]) => {
    const some = Object.fromEntries(Object.entries(any).filter(([field]) => chosen.includes(field)));
    return { key: { namespace: "svc", name: "web", instanceId: "i-1" }, ...some };
  });

test("our checks refuse exactly the fields that the contract's protovalidate rules refuse", () => {
  let refused = 0;
  fc.assert(
    fc.property(entryInit, (init) => {
      const entry = create(EntrySchema, init);
      const ours = refusedByUs(entry);
      if (ours.length > 0) refused++;
      expect(ours).toEqual(refusedByContract(entry));
    }),
    { numRuns: runs(3000) },
  );
  // Both sides of the law were reached.
  expect(refused).toBeGreaterThan(runs(1000));
  expect(refused).toBeLessThan(2999);
});

/** What a check may look at. */
const PROBES = (CheckSchema.oneofs[0]?.fields ?? []).flatMap(({ localName, message }) =>
  message === undefined ? [] : [{ name: localName, message }],
);

/** Every field of the contract that an entry consists of, and how an entry with a value of it looks. */
const places: readonly { readonly field: DescField; readonly of: (value: unknown) => EntryInit }[] = [
  ...EntrySchema.fields.filter(({ oneof, name: field }) => oneof === undefined && field !== "key").map(inEntry((init) => init)),
  ...EntryKeySchema.fields.map(inEntry((init) => ({ key: { namespace: "svc", name: "web", instanceId: "i", ...init } }))),
  ...TargetSchema.fields.map(inEntry((init) => ({ targets: [{ host: "web", port: 1, ...init }] }))),
  ...LoadReportSchema.fields.map(inEntry((load) => ({ load }))),
  ...CheckSchema.fields
    .filter(({ oneof }) => oneof === undefined)
    .map(inEntry((init) => inCheck({ probe: { case: "tcp", value: {} }, interval: { seconds: 3600n }, ...init }))),
  ...PROBES.flatMap(({ name: said, message }) =>
    message.fields.filter(({ fieldKind }) => fieldKind !== "message").map(inEntry((value) => inCheck({ probe: { case: said, value } }))),
  ),
  ...DETAILS.flatMap(({ name: said, message }) => message.fields.map(inEntry((value) => ({ detail: { case: said, value } })))),
];

function inCheck(check: object): object {
  return { targets: [{ host: "web", port: 1 }], checks: [check] };
}

function inEntry(around: (init: object) => object) {
  return (field: DescField) => ({
    field,
    of: (value: unknown): EntryInit => ({
      key: { namespace: "svc", name: "web", instanceId: "i-1" },
      ...around({ [field.localName]: value }),
    }),
  });
}

/** Hosts, versions and checks obey rules that only code states beside the contract's. */
const STRICTER = ["host", "version", "checks", "target", "status_min", "status_max"];

test.each(places.map((place) => ({ ...place, name: `${place.field.parent.name}.${place.field.name}` })))(
  "$name is refused exactly where the contract says",
  ({ field, of }) => {
    const edges = edgesOf(field);
    let refused = 0;
    for (const value of edges) {
      const entry = create(EntrySchema, of(value));
      const contract = refusedByContract(entry);
      const ours = refusedByUs(entry);
      if (contract.length > 0) refused++;
      if (STRICTER.includes(field.name)) expect(ours).toEqual(expect.arrayContaining(contract));
      else expect([value, ours]).toEqual([value, contract]);
    }
    // What has rules has values beyond them.
    expect(refused > 0 || !hasOption(field, rulesOption)).toBe(true);
  },
);

const PLAIN = { key: { kind: 1, namespace: "svc", name: "web", instanceId: "i-1" } } satisfies EntryInit;

test.each<{ what: string; init: EntryInit; writer?: EntrySource; field: string; says: string }>([
  {
    what: "two targets of one name",
    init: {
      ...PLAIN,
      targets: [
        { name: "p", host: "a", port: 1 },
        { name: "p", host: "b", port: 1 },
      ],
    },
    field: "targets[1].name",
    says: '"p" is listed twice',
  },
  {
    what: "host and port in one",
    init: { ...PLAIN, targets: [{ host: "10.0.0.1:80", port: 80 }] },
    field: "targets[0].host",
    says: "IPv4 or IPv6 literal or a DNS name",
  },
  ...["0", "127.1", "0x7f.1"].map((uncallable) => ({
    what: `the host ${uncallable}, with one problem`,
    init: { ...PLAIN, targets: [{ host: uncallable, port: 80 }] },
    field: "targets[0].host",
    says: "IPv4 or IPv6 literal or a DNS name",
  })),
  ...UNCALLABLE_HOSTS.map((uncallable) => ({
    what: `the host ${uncallable.host}`,
    init: {
      ...PLAIN,
      targets: [
        { host: "10.0.0.1", port: 80 },
        { host: uncallable.host, port: 80 },
      ],
    },
    field: "targets[1].host",
    says: `is ${uncallable.reason}; no client can connect to it`,
  })),
  {
    what: "the control plane's namespace",
    init: { key: { ...PLAIN.key, namespace: "discovery.nodes" } },
    field: "key.namespace",
    says: "reserved",
  },
  { what: "the namespace node", init: { key: { ...PLAIN.key, namespace: "node" } }, field: "key.namespace", says: "reserved" },
  {
    what: "a detail of another kind",
    init: { ...PLAIN, detail: { case: "topic", value: {} } },
    field: "topic",
    says: "does not match kind service",
  },
  {
    what: "a version that is not semver",
    init: { key: { ...PLAIN.key, kind: 2 }, detail: { case: "function", value: { version: "v1" } } },
    field: "function.version",
    says: '"v1" must be a semantic version',
  },
  { what: "half a surrogate in metadata", init: { ...PLAIN, metadata: { k: "\ud800" } }, field: 'metadata["k"]', says: "well-formed" },
  {
    what: "an address in waymark.dns.cname",
    init: { ...PLAIN, metadata: { "waymark.dns.cname": "192.0.2.1" } },
    field: 'metadata["waymark.dns.cname"]',
    says: '"192.0.2.1" must be a DNS name',
  },
  ...["waymark.dns.Cname", "waymark.dns.zones", "waymark.dns."].map((key) => ({
    what: `the metadata key ${key}`,
    init: { ...PLAIN, metadata: { [key]: "db.example.com" } },
    field: `metadata["${key}"]`,
    says: "cannot be set by clients; the allowed keys that begin with waymark.dns. are: waymark.dns.cname",
  })),
  {
    what: "an empty waymark.dns.cname",
    init: { ...PLAIN, metadata: { "waymark.dns.cname": "" } },
    field: 'metadata["waymark.dns.cname"]',
    says: '"" must be a DNS name',
  },
  {
    what: "an import without a name",
    init: { ...PLAIN, metadata: { "waymark.import": "a b" } },
    field: 'metadata["waymark.import"]',
    says: '"a b" (3 characters) must be 1 to 128',
  },
  {
    what: "half a surrogate in a pattern",
    init: { key: { ...PLAIN.key, kind: 3 }, detail: { case: "topic", value: { patterns: ["\udc00"] } } },
    field: "topic.patterns[0]",
    says: "well-formed",
  },
  {
    what: "a duration of mixed sign",
    init: { ...PLAIN, ttl: { seconds: 1n, nanos: -1 } },
    field: "ttl",
    says: "must be from 0 s to 86400 s",
  },
  {
    what: "nanos of more than a second",
    init: { ...PLAIN, ttl: { seconds: 1n, nanos: 1e9 } },
    field: "ttl",
    says: "must be from 0 s to 86400 s",
  },
  {
    what: "a measurement before 1970",
    init: { ...PLAIN, load: { observedAt: { seconds: -1n, nanos: 0 } } },
    field: "load.observed_at",
    says: "1970 and 9999",
  },
  { what: "a record without kind", init: { key: { ...PLAIN.key, kind: 0 } }, writer: "record", field: "key.kind", says: "is required" },
])("only code can refuse: $what", ({ init, writer, field, says }) => {
  const entry = create(EntrySchema, init);
  const violations = violationsOf(entry, writer ?? "client");
  expect(violations.map((violation) => violation.field)).toEqual([field]);
  expect(violations[0]?.description).toContain(says);
  expect(refusedByContract(entry)).toEqual([]);
});

const RESOLVER_KEY = { kind: 1, namespace: "discovery.resolvers", name: "edge-1", instanceId: "edge-1" };

test.each<{ what: string; init: EntryInit; faults: readonly string[] }>([
  {
    what: "a resolver under its id",
    init: { key: RESOLVER_KEY, scope: 3, targets: [{ name: "grpc", host: "10.0.0.1", port: 1 }] },
    faults: [],
  },
  { what: "a key without a kind", init: { key: { ...RESOLVER_KEY, kind: 0 } }, faults: [] },
  { what: "a kind other than service", init: { key: { ...RESOLVER_KEY, kind: 6 } }, faults: ["key.kind"] },
  {
    what: "a detail of another kind",
    init: { key: { ...RESOLVER_KEY, kind: 0 }, detail: { case: "node", value: {} } },
    faults: ["key.kind"],
  },
  { what: "two ids", init: { key: { ...RESOLVER_KEY, instanceId: "edge-2" } }, faults: ["key.instance_id"] },
  {
    what: "an id that no node can have",
    init: { key: { ...RESOLVER_KEY, name: "x".repeat(65), instanceId: "x".repeat(65) } },
    faults: ["key.name"],
  },
  { what: "an alias", init: { key: RESOLVER_KEY, aliases: ["www.example"] }, faults: ["aliases"] },
  {
    what: "a check",
    init: { key: RESOLVER_KEY, targets: [{ name: "grpc", host: "10.0.0.1", port: 1 }], checks: [{ probe: { case: "tcp", value: {} } }] },
    faults: ["checks"],
  },
  { what: "scope GLOBAL", init: { key: RESOLVER_KEY, scope: 4 }, faults: ["scope"] },
  { what: "a namespace below", init: { key: { ...RESOLVER_KEY, namespace: "discovery.resolvers.x" } }, faults: ["key.namespace"] },
])("Names and bounds: in discovery.resolvers, $what: $faults", ({ init, faults }) => {
  expect(violationsOf(create(EntrySchema, init), "client").map(({ field }) => field)).toEqual(faults);
});

test("records keep invalid values of the metadata keys that Waymark uses, because earlier versions did not validate them", () => {
  const entry = create(EntrySchema, {
    ...PLAIN,
    key: { ...PLAIN.key, kind: 1 },
    metadata: { "waymark.dns.cname": "192.0.2.1", "waymark.dns.x": "" },
  });
  expect(violationsOf(entry, "record")).toEqual([]);
});

test("Names and bounds: nodes themselves write where clients may not", () => {
  const entry = create(EntrySchema, { key: { kind: 6, namespace: "discovery.nodes", name: "n1", instanceId: "n1" } });
  expect(violationsOf(entry, "node")).toEqual([]);
  expect(violationsOf(entry, "record")).toEqual([]);
  expect(violationsOf(entry, "client")).toHaveLength(1);
});

test.each([
  { case: "cache", value: { role: "leader" }, field: "cache.role", says: '"leader" must be one of primary, replica,' },
  {
    case: "queue",
    value: { deliveryGuarantees: ["quorum", "maybe"] },
    field: "queue.delivery_guarantees[1]",
    says: '"maybe" must be one of at-most-once',
  },
  { case: "queue", value: { deliveryGuarantees: ["quorum", "quorum"] }, field: "queue.delivery_guarantees[1]", says: "is listed twice" },
  {
    case: "topic",
    value: { patterns: ["orders.*", "orders..eu"] },
    field: "topic.patterns[1]",
    says: '"orders..eu" must be words separated by dots',
  },
  { case: "topic", value: { patterns: ["a.>.b"] }, field: "topic.patterns[0]", says: "and a final > matches one or more words" },
] as const)("a client may only say known words, a record may say others: $field $says", ({ field, says, ...about }) => {
  const key = { namespace: "svc", name: "web", instanceId: "1" };
  const entry = create(EntrySchema, { key: { ...key, kind: { topic: 3, queue: 4, cache: 5 }[about.case] }, detail: about } as EntryInit);
  expect(violationsOf(entry, "client")).toEqual([{ field, description: expect.stringContaining(says) as string }]);
  expect(violationsOf(entry, "record")).toEqual([]);
});

test("a client may say every known word", () => {
  const said = [
    ...CACHE_ROLES.map((role) => ({ kind: 5, detail: { case: "cache" as const, value: { role } } })),
    { kind: 4, detail: { case: "queue" as const, value: { deliveryGuarantees: [...DELIVERY_GUARANTEES] } } },
    { kind: 3, detail: { case: "topic" as const, value: { patterns: ["orders", "orders.*.eu", "orders.#", "#", ">", "orders.>"] } } },
  ];
  for (const { kind, ...about } of said) {
    expect(violationsOf(create(EntrySchema, { key: { ...PLAIN.key, kind }, ...about }), "client")).toEqual([]);
  }
});

test("a record's health from a newer version is not refused, ORPHANED is", () => {
  expect(violationsOf(create(EntrySchema, { ...PLAIN, health: UNKNOWN }), "record")).toEqual([]);
  expect(violationsOf(create(EntrySchema, { ...PLAIN, health: UNKNOWN }), "client")).toHaveLength(1);
  expect(violationsOf(create(EntrySchema, { ...PLAIN, health: 5 }), "record")).toHaveLength(1);
});

test("every violation is named, up to a bound, and counted in the message", () => {
  const entry = create(EntrySchema, { ...PLAIN, tags: Array.from({ length: 64 }, (_, i) => `bad tag ${i}`), scope: UNKNOWN });
  let refused: unknown;
  try {
    stamper.entryOf(entry, 3, { ...STAMP, receivedWallMs: 0 });
  } catch (error) {
    refused = error;
  }
  expect(refused).toBeInstanceOf(WaymarkError);
  if (!(refused instanceof WaymarkError)) return;
  expect(refused.details.violations).toHaveLength(32);
  expect(refused.details.violations?.[0]).toEqual({ field: "entries[3].scope", description: "9 is not a scope: the highest value is 4" });
  expect(refused.message).toBe("invalid_argument: entries[3].scope: 9 is not a scope: the highest value is 4 (and 64 more)");
  // And the next entry starts afresh.
  expect(violationsOf(create(EntrySchema, PLAIN), "client")).toEqual([]);
});
