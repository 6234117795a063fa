/** What is refused of DiscoveryService's requests is what the rules of the contract refuse: protovalidate judges the same requests. */
import { create, type DescMessage, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import type { DurationSchema } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { ViewerSchema } from "../../gen/waymark/catalog/v1/viewer_pb.js";
import {
  CatalogQueryRequestSchema,
  CatalogWatchRequestSchema,
  ClusterMapRequestSchema,
  KeepAliveRequestSchema,
  ListPeersRequestSchema,
  NamespaceStatusRequestSchema,
  RegisterRequestSchema,
  RenewRequestSchema,
  ResolveRequestSchema,
  UnregisterRequestSchema,
} from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { FieldProblems } from "../../src/catalog/entry/names.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller } from "../../src/policy/identity/caller.ts";
import type { CallContext, MethodHandler } from "../../src/services/service.ts";
import { startDiscovery } from "../fakes/discovery-service.ts";
import { runs } from "../fakes/effort.ts";

/**
 * What only code can state: our refusals that the contract's rules do not know. Fields have no indexes here.
 * Everything else must be refused by both or by neither.
 */
const ONLY_CODE: readonly { readonly field: RegExp; readonly says: RegExp; readonly why: string }[] = [
  { field: /^entries\.key\.namespace$/, says: /reserved/, why: "some namespaces are the control plane's" },
  { field: /^entries\.key$/, says: /same as/, why: "keys of one request are distinct" },
  { field: /^entries\.targets\.host$/, says: /must be an IPv4/, why: "a host is an address or a DNS name" },
  { field: /^entries/, says: /does not match kind/, why: "the detail agrees with the kind" },
  { field: /^ttl$/, says: /static/, why: "a static lease has no ttl" },
  { field: /^lease_id$/, says: /or both/, why: "at least one of lease_id and keys" },
  {
    field: /^idempotency_key$/,
    says: /used for a request with other/,
    why: "each request has a key of its own, and a long one may be drawn twice",
  },
  { field: /^page_token$/, says: /token|belongs|characters/, why: "a token is ours and of this filter" },
  { field: /^cursor$/, says: /not a cursor/, why: "a cursor is ours" },
  { field: /^namespace_prefix$/, says: /or a parent of it/, why: "a prefix beside a namespace covers it" },
  { field: /^with_digest$/, says: /filters other than/, why: "a digest needs a filter by namespace" },
  { field: /^hash_key$/, says: /required with policy HASH/, why: "HASH needs a key" },
  { field: /^version_range$/, says: /range|versions/, why: "a version range has a grammar, and only functions have versions" },
  { field: /observed_at$/, says: /1970/, why: "a time is within what Timestamp allows" },
];

let discovery: Awaited<ReturnType<typeof startDiscovery>>;

beforeAll(async () => {
  discovery = await startDiscovery();
});
afterAll(async () => discovery.stop());

const validator = createValidator();

/** Paths, without indexes, that the contract's rules refuse. */
function refusedByContract(schema: DescMessage, message: Message): readonly string[] {
  const result = validator.validate(schema, message);
  if (result.kind === "error") throw result.error;
  return (result.violations ?? []).map(({ field }) =>
    field.flatMap((part) => ("name" in part && part.name !== "" ? [part.name] : [])).join("."),
  );
}

/** What our code refuses with invalid_argument; undefined when it takes the request or refuses it for another reason. */
async function refusedByUs(
  rpc: string,
  message: Message,
): Promise<readonly { readonly field: string; readonly description: string }[] | undefined> {
  const handler = discovery.service.handlers[rpc];
  // The bounds of the settings by default, which are those that the contract says.
  const problems = new FieldProblems(discovery.settings.limits);
  const context = { caller: anonymousCaller("local", ""), time: discovery.now(), requestId: "" };
  try {
    REQUEST_CHECKS.get(message.$typeName)?.(message as never, problems);
    problems.throwIfAny();
    if (handler?.kind === "server_streaming") handler.open(message as never, context).close();
    else if (handler?.kind === "unary") await handler.handle(message as never, context);
    else if (handler !== undefined) await answered(handler, message, context);
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    if (error.reason !== "invalid_argument") return undefined;
    return (error.details.violations ?? []).map(({ field, description }) => ({
      field: field.replace(/\[("(\\.|[^"\\])*"|\d+)\]/g, ""),
      description,
    }));
  }
  return undefined;
}

/** Resolves when the first request of a stream is answered; rejects with why it is refused. */
function answered(
  handler: MethodHandler & { readonly kind: "client_streaming" | "bidi_streaming" },
  message: Message,
  context: CallContext,
) {
  return new Promise<boolean>((resolve, reject) => {
    const send = () => (resolve(true), true);
    const answers = { send, onceRoomy: () => {}, pause: () => {}, resume: () => {}, end: () => {}, fail: reject };
    handler.open(answers, context).message(message as never, context.time);
  });
}

// Values on and next to every bound; mostly good ones, so that each fault is seen alone.

const mostly = <T, U>(good: fc.Arbitrary<T>, odd: fc.Arbitrary<U>): fc.Arbitrary<T | U> =>
  fc.oneof({ arbitrary: good, weight: 12 }, { arbitrary: odd, weight: 1 });
const sized = (max: number): readonly string[] => ["x".repeat(max), "x".repeat(max + 1), "😀".repeat(max), "é".repeat(max + 1)];
const name = mostly(fc.constantFrom("web", "a/b:c@d+e-f._"), fc.constantFrom("", "a b", "é", "a\n", "x*", ...sized(128)));
const optionalId = mostly(fc.constantFrom("", "eu", "a/b"), fc.constantFrom("a b", "é", "a\n", ...sized(64)));
const oddNamespace = fc.constantFrom(
  ".",
  "svc.",
  "svc..x",
  "Svc",
  "-a",
  "a-",
  "a\n",
  "x".repeat(63),
  "x".repeat(64),
  "abcd.".repeat(39) + "abcde",
  `${"abcd.".repeat(40)}a`,
);
const namespace = mostly(fc.constantFrom("svc", "svc.market", "a-b.c0"), fc.oneof(fc.constant(""), oddNamespace));
const optionalNamespace = mostly(fc.constantFrom("", "svc.market"), oddNamespace);
const leaseId = mostly(fc.constantFrom("n1/abc", "x"), fc.constantFrom("", "é", ...sized(256)));
const optionalLeaseId = mostly(fc.constantFrom("", "", "", "n1/abc"), fc.constantFrom(...sized(256)));
const list = (item: fc.Arbitrary<string>, max: number): fc.Arbitrary<string[]> =>
  mostly(
    fc.array(item, { maxLength: 2 }),
    fc.constantFrom(max, max + 1).map((count) => Array.from({ length: count }, (_, i) => `item-${i}`)),
  );
/** An enum's numbers, one unknown. */
const enumOf = (highest: number): fc.Arbitrary<number> =>
  mostly(fc.integer({ min: 0, max: highest }), fc.constantFrom(highest + 1, -1, 2 ** 31 - 1));
const enums = (highest: number): fc.Arbitrary<number[]> =>
  mostly(
    fc.array(mostly(fc.integer({ min: 1, max: highest }), enumOf(highest)), { maxLength: 2 }),
    fc.constantFrom(16, 17).map((count) => Array.from({ length: count }, () => 1)),
  );
const int32 = mostly(fc.constantFrom(0, 1, 100), fc.constantFrom(-1, 101, 1000, 1001, 2 ** 31 - 1, -(2 ** 31)));
const ratio = mostly(fc.constantFrom(0, 0.5, 1), fc.constantFrom(1.01, -0.01, Number.NaN, Number.POSITIVE_INFINITY));
const duration = (...seconds: readonly number[]): fc.Arbitrary<MessageInitShape<typeof DurationSchema> | undefined> =>
  mostly(
    fc.constant(undefined),
    fc
      .record({ seconds: fc.constantFrom(0, ...seconds.flatMap((at) => [at - 1, at]), -1), nanos: fc.constantFrom(0, 1, 999_999_999) })
      .map(({ seconds: whole, nanos }) => ({ seconds: BigInt(whole), nanos: whole < 0 ? -nanos : nanos })),
  );
const viewer: fc.Arbitrary<MessageInitShape<typeof ViewerSchema> | undefined> = mostly(
  fc.constant(undefined),
  fc.record({ clusterId: optionalId, tenantId: optionalId }),
);
const key: fc.Arbitrary<MessageInitShape<typeof EntryKeySchema>> = fc.record({
  kind: enumOf(6),
  namespace,
  name,
  instanceId: name,
  clusterId: optionalId,
});
const load = mostly(
  fc.constant(undefined),
  fc.record({ errorRate: ratio, latencyMs: fc.constantFrom(0, 1e9, 1e9 + 1, -1), utilization: ratio }),
);
const reports = mostly(
  fc.array(fc.record({ key: mostly(key, fc.constant(undefined)), health: enumOf(5), load }), { maxLength: 2 }),
  fc
    .constantFrom(1000, 1001)
    .map((count) => Array.from({ length: count }, () => ({ key: { namespace: "svc", name: "a", instanceId: "b" } }))),
);
const entry: fc.Arbitrary<MessageInitShape<typeof EntrySchema>> = fc.record({
  key: mostly(key, fc.constant(undefined)),
  scope: enumOf(4),
  health: enumOf(5),
  tags: mostly(fc.constant([]), fc.constantFrom(["a"], ["a", "a"], [""])),
  zone: optionalId,
  ttl: duration(1, 86_400),
});
const filter = {
  namespace: optionalNamespace,
  namespacePrefix: optionalNamespace,
  names: list(name, 1000),
  kinds: enums(6),
  scope: enumOf(4),
  capabilities: list(name, 64),
  tags: list(name, 64),
  resources: list(name, 64),
  clusterId: optionalId,
  region: optionalId,
  health: enums(5),
  versionRange: mostly(fc.constant(""), fc.constantFrom("^1.2.0", "one", ...sized(128))),
  viewer,
};
const renew = {
  leaseIds: mostly(
    fc.array(leaseId, { maxLength: 3 }),
    fc.constantFrom(1000, 1001).map((count) => Array.from({ length: count }, () => "x")),
  ),
  reports,
};
const pageToken = mostly(fc.constant(""), fc.constantFrom("AAAA", ...sized(2048)));

test.each([
  {
    rpc: "register",
    schema: RegisterRequestSchema,
    request: fc.record({
      entries: mostly(
        fc.array(entry, { minLength: 1, maxLength: 2 }),
        fc
          .constantFrom(0, 1000, 1001)
          .map((count) => Array.from({ length: count }, (_, i) => ({ key: { namespace: "svc", name: "many", instanceId: `${i}` } }))),
      ),
      ttl: duration(1, 86_400),
      leaseId: optionalLeaseId,
      idempotencyKey: mostly(fc.constant(""), fc.constantFrom(...sized(128))),
      staticLease: mostly(fc.constant(false), fc.constant(true)),
    }),
  },
  { rpc: "renew", schema: RenewRequestSchema, request: fc.record(renew) },
  { rpc: "keepAlive", schema: KeepAliveRequestSchema, request: fc.record(renew) },
  {
    rpc: "unregister",
    schema: UnregisterRequestSchema,
    request: fc.record({
      leaseId: optionalLeaseId,
      keys: mostly(
        fc.array(key, { maxLength: 2 }),
        fc.constantFrom(1000, 1001).map((count) => Array.from({ length: count }, () => ({ namespace: "svc", name: "a", instanceId: "b" }))),
      ),
    }),
  },
  {
    rpc: "catalogQuery",
    schema: CatalogQueryRequestSchema,
    request: fc.record({ ...filter, limit: int32, pageToken, maxStaleness: duration(1), explain: fc.boolean() }),
  },
  {
    rpc: "catalogWatch",
    schema: CatalogWatchRequestSchema,
    request: fc.record({
      ...filter,
      cursor: mostly(fc.constant(""), fc.constantFrom("p1.AAAA", ...sized(65_536))),
      bookmarkInterval: duration(1, 10),
      namesOnly: fc.boolean(),
      withDigest: mostly(fc.constant(false), fc.constant(true)),
    }),
  },
  {
    rpc: "resolve",
    schema: ResolveRequestSchema,
    request: fc.record({
      kind: enumOf(6),
      namespace,
      name,
      versionRange: mostly(fc.constant(""), fc.constantFrom("^1.2.0", "one", ...sized(128))),
      prefer: mostly(fc.constant(undefined), fc.record({ region: optionalId, zone: optionalId })),
      policy: enumOf(4),
      hashKey: mostly(fc.constant("k"), fc.constantFrom("", "x".repeat(1024), "x".repeat(1025), "é".repeat(512), "é".repeat(513))),
      viewer,
      limit: int32,
    }),
  },
  {
    rpc: "clusterMap",
    schema: ClusterMapRequestSchema,
    request: fc.record({
      scope: enumOf(4),
      namespaceFilter: optionalNamespace,
      capabilities: list(name, 64),
      resources: list(name, 64),
      limit: int32,
      pageToken,
    }),
  },
  {
    rpc: "listPeers",
    schema: ListPeersRequestSchema,
    request: fc.record({ scope: enumOf(4), region: optionalId, limit: int32, pageToken }),
  },
  { rpc: "namespaceStatus", schema: NamespaceStatusRequestSchema, request: fc.record({ namespace }) },
] satisfies readonly { rpc: string; schema: DescMessage; request: fc.Arbitrary<unknown> }[])(
  "$rpc is refused for what the contract refuses, and for nothing else but what only code can state",
  async ({ rpc, schema, request }) => {
    await fc.assert(
      fc.asyncProperty(request as fc.Arbitrary<MessageInitShape<typeof schema>>, async (init) => {
        const message = create(schema, init);
        const byContract = refusedByContract(schema, message);
        const byUs = await refusedByUs(rpc, message);
        const stated = byUs?.filter(
          ({ field, description }) => !ONLY_CODE.some((row) => row.field.test(field) && row.says.test(description)),
        );
        if (byContract.length > 0) expect(byUs, `the contract refuses ${byContract.join(", ")}`).toBeDefined();
        // We stop at the first faulty entry; what we name must be among theirs.
        for (const { field, description } of stated ?? []) expect(byContract, `we refuse ${field}: ${description}`).toContain(field);
      }),
      { numRuns: runs(300) },
    );
  },
);

test("a duration whose parts have two signs is none, as Duration has it", async () => {
  const entries = [{ key: { kind: 1, namespace: "svc", name: "signs", instanceId: "1" } }];
  const message = create(RegisterRequestSchema, { entries, ttl: { seconds: 5n, nanos: -5 } });
  expect(await refusedByUs("register", message)).toEqual([
    { field: "ttl", description: "must be from 0 s to 315576000000 s, got 4.999999995 s" },
  ]);
});
