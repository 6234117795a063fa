/** What the contract's rules refuse of a request is refused by us: each rule of each field, with values beside its bounds, by the judgement of protovalidate. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, createFileRegistry, type DescField, type DescMessage, fromBinary, type Message, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createValidator } from "@bufbuild/protovalidate";
import { expect, test } from "vitest";
import { REQUEST_CHECKS } from "../../gen/waymark/request_rules.ts";
import { FieldProblems, PROTOCOL_BOUNDS } from "../../src/catalog/entry/names.ts";
import { WaymarkError } from "../../src/lib/errors.ts";

const set = fromBinary(FileDescriptorSetSchema, readFileSync(join(import.meta.dirname, "../../gen/descriptors.binpb")));
const requests = [...createFileRegistry(set)]
  .flatMap((desc) =>
    desc.kind === "service" && /^waymark\.(?!fabric\.)/.test(desc.typeName) ? desc.methods.map(({ input }) => input) : [],
  )
  .filter((input, i, all) => all.indexOf(input) === i);

/** Other code takes these apart, by rules of its own; `discovery-rules.io.test.ts` and the tests of policies look at it. */
const CHECKED_ELSEWHERE = /^(Entry|EntryKey|LoadReport|PolicySet|Stage)$/;
/** A setting of the node decides of these, and `discovery-rules.io.test.ts` looks at them. */
const SET_BY_NODE =
  /^(RegisterRequest\.(ttl|entries)|(Renew|KeepAlive)Request\.(lease_ids|reports)|(Unregister|SetMaintenance)Request\.keys)$/;
const validator = createValidator();

/** Values of which each rule that a field may have refuses one. */
function probesOf(field: DescField): readonly unknown[] {
  if (field.fieldKind === "map") return [{}, Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`k${i}`, "v"]))];
  if (field.fieldKind === "list") {
    const one = field.listKind === "message" ? [{}] : probesOfOne(field.listKind === "enum" ? undefined : field.scalar);
    return [[], ...one.map((item) => [item]), ...one.slice(0, 2).map((item) => Array.from({ length: 20_001 }, () => item))];
  }
  if (field.fieldKind === "message") {
    const isDuration = field.message.typeName === "google.protobuf.Duration";
    return isDuration ? [-1n, 0n, 1n, 10n ** 9n].map((seconds) => ({ seconds })) : [undefined, {}];
  }
  return probesOfOne(field.fieldKind === "enum" ? undefined : field.scalar);
}

const PROBES: ReadonlyMap<ScalarType | undefined, readonly unknown[]> = new Map<ScalarType | undefined, readonly unknown[]>([
  [ScalarType.STRING, ["", "a", "A b", "-", "é\n", "x".repeat(70_000)]],
  [ScalarType.BYTES, [new Uint8Array(), new Uint8Array(300_000)]],
  [ScalarType.BOOL, [true]],
  [ScalarType.DOUBLE, [-1, 0, 1e300, Number.NaN]],
  [ScalarType.UINT64, [0n, 2n ** 64n - 1n]],
  [ScalarType.UINT32, [0, 1, 2 ** 32 - 1]],
]);

/** Of an enum without its type. */
function probesOfOne(scalar: ScalarType | undefined): readonly unknown[] {
  return PROBES.get(scalar) ?? [-1, 0, 1, 2 ** 31 - 1];
}

type Probe = Record<string, unknown>;

/** Requests that differ in one field, at any depth. `at`: makes the request from the value of `message`. */
function* requestsWith(message: DescMessage, at: (value: Probe) => Probe, above: readonly DescMessage[] = []): Generator<Probe> {
  for (const field of message.fields) {
    if (SET_BY_NODE.test(`${message.name}.${field.name}`)) continue;
    const put = (value: unknown) =>
      at(field.oneof === undefined ? { [field.localName]: value } : { [field.oneof.localName]: { case: field.localName, value } });
    for (const probe of probesOf(field)) if (field.oneof === undefined || probe !== undefined) yield put(probe);
    const inner = field.message;
    if (!inner?.typeName.startsWith("waymark.") || CHECKED_ELSEWHERE.test(inner.name) || above.includes(inner)) continue;
    yield* requestsWith(inner, (value) => put(field.fieldKind === "list" ? [value] : value), [...above, message]);
  }
}

/** Paths without indexes. */
function refusedByContract(request: Message, schema: DescMessage): readonly string[] {
  const result = validator.validate(schema, request);
  if (result.kind === "error") throw result.error;
  const paths = (result.violations ?? []).map(({ field }) => field.flatMap((part) => ("name" in part && part.name !== "" ? [part] : [])));
  return paths.filter((path) => !path.some((part) => isElsewhere(part as DescField))).map((path) => path.map(({ name }) => name).join("."));
}

function isElsewhere({ parent, name }: DescField): boolean {
  return SET_BY_NODE.test(`${parent?.name}.${name}`) || CHECKED_ELSEWHERE.test(parent?.name ?? "");
}

function refusedByUs(request: Message): readonly string[] {
  // A request may name what any node may store: of that the contract says the defaults of settings.
  const problems = new FieldProblems({ ...PROTOCOL_BOUNDS, maxIdLength: 64, maxNameLength: 128, maxNamespaceLength: 200 });
  REQUEST_CHECKS.get(request.$typeName)?.(request as never, problems);
  try {
    problems.throwIfAny();
    return [];
  } catch (error) {
    if (!(error instanceof WaymarkError)) throw error;
    return (error.details.violations ?? []).map(({ field }) => field.replace(/\[("(\\.|[^"\\])*"|\d+)\]/g, ""));
  }
}

test.each(requests)("what the contract refuses of $typeName is refused", (schema) => {
  const missed = new Set<string>();
  for (const init of [{}, ...requestsWith(schema, (value) => value)]) {
    const request = create(schema, init);
    const byUs = refusedByUs(request);
    for (const path of refusedByContract(request, schema)) if (!byUs.includes(path)) missed.add(path);
  }
  expect([...missed]).toEqual([]);
});
