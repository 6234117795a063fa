/** What every proto of ours obeys beside `buf lint`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  createFileRegistry,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescMethod,
  fromBinary,
  getOption,
  ScalarType,
  toJsonString,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { type FieldRules, FieldRulesSchema, field as rulesOf } from "../../gen/buf/validate/validate_pb.js";
import { FieldBehavior, field_behavior } from "../../gen/google/api/field_behavior_pb.js";
import { EntryKeySchema, EntrySchema, TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EndpointSchema } from "../../gen/waymark/dns/v1/dns_pb.js";
import { AnsweredBy, access, Cost, call, ResolverBehavior, Role } from "../../gen/waymark/options/v1/options_pb.js";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";

const ROOT = join(import.meta.dirname, "../..");
const set = fromBinary(FileDescriptorSetSchema, readFileSync(join(ROOT, "gen/descriptors.binpb")));
const files: readonly DescFile[] = [...createFileRegistry(set).files].filter(({ proto }) => proto.package.startsWith("waymark."));
const messages: readonly DescMessage[] = files.flatMap(({ messages: each }) => each.flatMap(withNested));
const rpcs = files.flatMap(({ services }) => services).flatMap(({ methods }) => methods);
/** Those that strangers call. */
const openRpcs = rpcs.filter(({ parent }) => parent.typeName !== "waymark.fabric.v1.FabricService");

function withNested(message: DescMessage): readonly DescMessage[] {
  return [message, ...message.nestedMessages.flatMap(withNested)];
}

function nameOf(field: DescField): string {
  return `${field.parent.typeName}.${field.name}`;
}

/** Words that a program in one of these languages cannot write as a name. `namespace` stays: it is the field's word, and generators of C++ add a `_`. */
const RESERVED: Readonly<Record<string, string>> = {
  python: `False None True and as assert async await break class continue def del elif else except finally for from global if import in is
    lambda nonlocal not or pass raise return try while with yield match case type self cls`,
  java: `abstract assert boolean break byte case catch char class const continue default do double else enum extends final finally float for
    goto if implements import instanceof int interface long native new package private protected public return short static strictfp super
    switch synchronized this throw throws transient try void volatile while true false null var record yield sealed permits`,
  cpp: `alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval constexpr constinit
    const_cast continue co_await co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern false
    final float for friend goto if import inline int long module mutable new noexcept not not_eq nullptr operator or or_eq override private
    protected public register reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq`,
  go: `break case chan const continue default defer else fallthrough for func go goto if import interface map package range return select
    struct switch type var`,
};

test("no field has a name that is reserved in Python, Java, C++ or Go", () => {
  const words = new Set(Object.values(RESERVED).flatMap((text) => text.split(/\s+/)));
  const names = messages.flatMap(({ typeName, fields, oneofs }) => [...fields, ...oneofs].map(({ name }) => `${typeName}.${name}`));
  expect(names.length).toBeGreaterThan(400);
  expect(names.filter((name) => words.has(name.slice(name.lastIndexOf(".") + 1)))).toEqual([]);
});

/** Its form is the client's. */
const NO_DIGESTS = new Set([
  "waymark.catalog.v1.FunctionDetail.spec_digest",
  // People compare these with their eyes, so they are text: the first 16 digits of a SHA-256.
  "waymark.control.v1.PeerServiceStatusResponse.config_digest",
  "waymark.control.v1.ConfigServiceGetResponse.config_digest",
  "waymark.control.v1.Setting.digest",
  "waymark.fabric.v1.MemberUpdate.config_digest",
]);

test("a digest of 64 bits is a fixed64, a SHA-256 is hexadecimal text", () => {
  const fields = messages.flatMap(({ fields: each }) => each).filter((field) => !NO_DIGESTS.has(nameOf(field)));
  const typesOf = (pattern: RegExp) => [
    ...new Set(fields.flatMap((field) => (pattern.test(field.name) && field.fieldKind === "scalar" ? [ScalarType[field.scalar]] : []))),
  ];
  expect(typesOf(/^(?!with_)(.*_)?digest$/)).toEqual(["FIXED64"]);
  expect(typesOf(/(^|_)(checksum|hash)$/)).toEqual(["STRING"]);
});

test("every rpc says which role it needs, what it costs, which of its fields hold namespaces, and which process answers it", () => {
  expect(rpcs.length).toBeGreaterThan(30);
  expect(rpcs.flatMap(optionFaults)).toEqual([]);
});

function optionFaults(rpc: DescMethod): readonly string[] {
  const name = `${rpc.parent.typeName}.${rpc.name}`;
  const { role, ownerOf } = getOption(rpc, access);
  const { cost, namespaceFields, answeredBy, resolver } = getOption(rpc, call);
  const paths = ownerOf === "" ? namespaceFields : [ownerOf, ...namespaceFields];
  const wrong = paths.filter((path) => typeAt(rpc.input, path) !== "string").map((path) => `${name}: ${path} is no text of the request`);
  if (role === Role.UNSPECIFIED) wrong.push(`${name}: no role`);
  if (cost === Cost.UNSPECIFIED) wrong.push(`${name}: no cost`);
  if (answeredBy === AnsweredBy.UNSPECIFIED) wrong.push(`${name}: no answered_by`);
  if (resolver !== ResolverBehavior.UNSPECIFIED && answeredBy !== AnsweredBy.NODE) wrong.push(`${name}: not answered by a node`);
  return wrong;
}

function typeAt(message: DescMessage, path: string): string | undefined {
  const [first = "", ...rest] = path.split(".");
  const field = message.fields.find(({ name }) => name === first);
  const inner = field?.message;
  if (rest.length > 0) return inner === undefined ? undefined : typeAt(inner, rest.join("."));
  return field?.fieldKind === "scalar" && field.scalar === ScalarType.STRING ? "string" : undefined;
}

/** The grammar of watches (`proto/waymark/catalog/v1/watch.proto`). */
const WATCH = {
  asked: { cursor: 17, bookmark_interval: 18 },
  answered: { deltas: 1, revision: 2, cursor: 3, snapshot: 5, bookmark: 7, served_by: 10, age: 11 },
  beside: {
    portable_cursor: 4,
    replaces: 6,
    count: 8,
    digest: 9,
    stale: 12,
    source: 13,
    policy_epoch: 14,
    via: 15,
    heard: 16,
    unreachable_nodes: 17,
    hidden_by: 18,
  },
} as const;

test("every watch has one grammar", () => {
  // WatchPolicy sends one thing, so it has no snapshot and no cursor. The events of leaders and shards have ids that are valid on every node. A set has
  // one newest plan. Audit records never change.
  // JoinService.Follow always starts over.
  const others = new Set([
    "WatchPolicyRequest",
    "LeadershipServiceSubscribeRequest",
    "ShardServiceWatchRequest",
    "RebalanceServiceWatchRequest",
    "AuditServiceWatchRequest",
    "JoinServiceFollowRequest",
  ]);
  const watches = openRpcs.filter(({ name, input }) => name.endsWith("Watch") && !others.has(input.name));
  expect(watches.map(({ name }) => name)).toContain("CatalogWatch");
  const streams = openRpcs.filter(({ methodKind, input }) => methodKind === "server_streaming" && !others.has(input.name));
  expect(streams).toEqual(watches);
  for (const { input, output } of watches) {
    expect(numbersOf(input)).toMatchObject(WATCH.asked);
    const answered = numbersOf(output);
    expect(answered).toMatchObject(WATCH.answered);
    expect({ ...WATCH.answered, ...WATCH.beside }).toMatchObject(answered);
  }
});

function numbersOf({ fields }: DescMessage): Readonly<Record<string, number>> {
  return Object.fromEntries(fields.map(({ name, number }) => [name, number]));
}

test("no two messages have one name, beside the requests and answers of rpcs", () => {
  const calls = new Set(rpcs.flatMap(({ input, output }) => [input, output]));
  const names = messages.filter((message) => !calls.has(message)).map(({ name }) => name);
  expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
});

/** Bounded by the message that they are in: an entry has 16 KiB. */
const BOUNDED_AS_A_WHOLE = new Set(["waymark.catalog.v1.NodeDetail.transports", "waymark.catalog.v1.NodeDetail.labels"]);

test("every text, list and map that a caller can fill has a bound", () => {
  const seen = new Set<DescMessage>();
  const unbounded: string[] = [];
  const look = (message: DescMessage): void => {
    if (seen.has(message) || !message.typeName.startsWith("waymark.")) return;
    seen.add(message);
    for (const field of message.fields) {
      if (getOption(field, field_behavior).includes(FieldBehavior.OUTPUT_ONLY)) continue;
      if (!BOUNDED_AS_A_WHOLE.has(nameOf(field)) && !isBounded(field)) unbounded.push(nameOf(field));
      if (field.message !== undefined) look(field.message);
    }
  };
  for (const { input } of openRpcs) look(input);
  expect(seen.size).toBeGreaterThan(40);
  expect(unbounded).toEqual([]);
});

function isBounded(field: DescField): boolean {
  const rules = getOption(field, rulesOf);
  switch (field.fieldKind) {
    case "scalar":
      return isTextBounded(field.scalar, rules);
    case "list": {
      const list = rules.type.case === "repeated" ? rules.type.value : undefined;
      // A list of different values of an enum cannot be long.
      const isShort = list !== undefined && (list.maxItems > 0n || (list.unique && field.listKind === "enum"));
      return isShort && (field.listKind !== "scalar" || isTextBounded(field.scalar, list.items));
    }
    case "map": {
      const map = rules.type.case === "map" ? rules.type.value : undefined;
      return (
        map !== undefined && map.maxPairs > 0n && isTextBounded(field.mapKey, map.keys) && isTextBounded(ScalarType.STRING, map.values)
      );
    }
    case "enum":
      return rules.type.case === "enum" && rules.type.value.definedOnly;
    case "message":
      return true;
  }
}

function isTextBounded(scalar: ScalarType, rules: FieldRules | undefined): boolean {
  if (scalar !== ScalarType.STRING && scalar !== ScalarType.BYTES) return true;
  const type = rules?.type;
  if (type?.case === "bytes") return type.value.maxLen > 0n;
  if (type?.case !== "string") return false;
  const { maxLen, maxBytes, pattern } = type.value;
  return maxLen > 0n || maxBytes > 0n || pattern === "^([0-9a-f]{64})?$";
}

/** Lists of answers that a bound of their own keeps short, as their comments say. */
const SHORT_LISTS =
  /^(Apply|Rollback|Validate)PolicyResponse$|^PeerService(Get|Status)Response$|^(Register|Renew|KeepAlive)Response$|^ResolveResponse$|^NamespaceStatusResponse$|^ServerInfoResponse$|^(Describe|Register|Resolve)NameResponse$|^SetMaintenanceResponse$|^ShardService(Get|Simulate)Response$|^ConfigService(Get|Validate)Response$|^BootstrapServiceAuthorityResponse$|^JoinServiceJoinResponse$/;

test("every request that a caller can fill is checked by its rules, also of services that are not built yet", () => {
  const withRules = openRpcs.filter(({ input }) => input.fields.some((each) => getOption(each, rulesOf).type.case !== undefined));
  expect(withRules.length).toBeGreaterThan(25);
  expect(withRules.map(({ input }) => input.typeName).filter((name) => !REQUEST_CHECKS.has(name))).toEqual([]);
});

test("every list is paged", () => {
  const unpaged = openRpcs
    .filter(({ methodKind }) => methodKind === "unary")
    .filter(({ output }) => output.fields.some(({ fieldKind }) => fieldKind === "list") && !SHORT_LISTS.test(output.name))
    .filter(({ input, output }) => {
      const [asked, answered] = [input, output].map(({ fields }) => new Set(fields.map(({ name }) => name)));
      return !(asked?.has("limit") && asked.has("page_token") && answered?.has("next_page_token"));
    });
  expect(unpaged.map(({ name }) => name)).toEqual([]);
});

test("the breaking guard leaves out the fabric before the first release and what is not built yet, and nothing else", () => {
  const leftOut = [...read("buf.yaml").matchAll(/^ {4}- (proto\/.*)$/gm)].map(([, path = ""]) => path);
  const areas = files.filter(({ name }) => read(`proto/${name}.proto`).includes("until then every call answers UNIMPLEMENTED"));
  const unbuilt = areas.map(({ name }) => `proto/${name.replace(/\/v1\/.*/, "")}`);
  expect(leftOut.toSorted()).toEqual(["proto/waymark/fabric", ...unbuilt].toSorted());
});

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

test.each([
  ["name", EntryKeySchema],
  ["namespace", EntryKeySchema],
  ["priority", TargetSchema],
  ["weight", TargetSchema],
  ["scope", EntrySchema],
  ["tags", EntrySchema],
  ["capabilities", EntrySchema],
  ["metadata", EntrySchema],
  ["ttl", EntrySchema],
  ["aliases", EntrySchema],
] as const)("RegisterName takes the same %s as Register", (name, of) => {
  const boundsOf = (schema: DescMessage) => {
    const own = schema.fields.find((field) => field.name === name);
    return own === undefined ? "no such field" : toJsonString(FieldRulesSchema, { ...getOption(own, rulesOf), required: false });
  };
  expect(boundsOf(EndpointSchema)).toBe(boundsOf(of));
});
