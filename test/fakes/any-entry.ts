/** Values for the fields of an entry, from the contract: valid ones, one of each, and those on and next to every bound. A new field has them too. */
import { type DescField, type DescMessage, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type FieldRules, field as rulesOption } from "../../gen/buf/validate/validate_pb.js";
import { CheckSchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { CHECK_KINDS, type CheckKind } from "../../src/catalog/entry/checks.ts";
import { CACHE_ROLES, DELIVERY_GUARANTEES } from "../../src/catalog/entry/kinds.ts";
import { runs } from "./effort.ts";

/** Of fields with rules that only code states: a list is drawn from, of the values each is one. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  "EntryKey.namespace": ["svc", "svc.market"],
  "Target.host": ["10.0.0.1", "::1", "web.local"],
  "FunctionDetail.version": ["1.2.3", ""],
  "TopicDetail.patterns": ["orders", "orders.*.eu", "bücher.#", "😀"],
  "QueueDetail.delivery_guarantees": DELIVERY_GUARANTEES,
  "CacheDetail.role": [...CACHE_ROLES, ""],
};
/** Names of targets differ, and those that checks name are there. Only code says so. */
const UNSAID: Readonly<Record<string, string>> = { "Target.name": "http", "Check.target": "http" };

const detailOneof = EntrySchema.oneofs.find(({ name }) => name === "detail");

/** The details of the kinds. */
export const DETAILS = (detailOneof?.fields ?? []).flatMap((field) =>
  field.message === undefined ? [] : [{ name: field.localName, message: field.message }],
);

function rulesOf(field: DescField): FieldRules | undefined {
  return hasOption(field, rulesOption) ? getOption(field, rulesOption) : undefined;
}

const pathOf = ({ parent, name }: DescField): string => `${parent.name}.${name}`;
const freeText = fc.string({ unit: "binary", maxLength: 60 }).filter((text) => text.isWellFormed());

function texts(rules: FieldRules | undefined): fc.Arbitrary<string> {
  const said = rules?.type.case === "string" ? rules.type.value : undefined;
  const isRequired = (said?.minLen ?? 0n) > 0n;
  if (said?.pattern === undefined || said.pattern === "") return isRequired ? freeText.filter((text) => text !== "") : freeText;
  const pattern = new RegExp(said.pattern, "u");
  const most = Number(said.maxLen);
  return fc.stringMatching(pattern).filter((text) => text.length <= most && (!isRequired || text !== ""));
}

function oneOf(field: DescField, rules: FieldRules | undefined): fc.Arbitrary<unknown> {
  const words = WORDS[pathOf(field)];
  if (words !== undefined) return fc.constantFrom(...words);
  if (UNSAID[pathOf(field)] !== undefined) return fc.constant("");
  if (field.enum !== undefined) {
    const refused: readonly number[] = rules?.type.case === "enum" ? rules.type.value.notIn : [];
    return fc.constantFrom(...field.enum.values.map(({ number }) => number).filter((number) => !refused.includes(number)));
  }
  if (field.message?.typeName.startsWith("google.") === true)
    return fc.record({ seconds: secondsOf(rules), nanos: fc.integer({ min: 0, max: 999_999_999 }) });
  if (field.message === CheckSchema) return anyMessage(CheckSchema).map(soundCheck);
  if (field.message !== undefined) return anyMessage(field.message);
  if (field.scalar === ScalarType.BOOL) return fc.boolean();
  if (field.scalar === ScalarType.UINT64) return fc.bigInt(0n, 2n ** 64n - 1n);
  if (field.scalar === ScalarType.UINT32) return fc.integer(rangeOf(rules) ?? { min: 0, max: 2 ** 32 - 1 });
  if (field.scalar === ScalarType.DOUBLE) return fc.double({ ...rangeOf(rules), noNaN: true });
  return texts(rules);
}

/** Whole seconds of a duration that is valid with any fraction. */
function secondsOf(rules: FieldRules | undefined): fc.Arbitrary<bigint> {
  if (rules?.type.case !== "duration") return fc.bigInt(0n, 86_399n);
  const { greaterThan, lessThan } = rules.type.value;
  return fc.bigInt(greaterThan.value?.seconds ?? 0n, (lessThan.value?.seconds ?? 86_400n) - 1n);
}

/** A check as any, but for the rules that only code states: of an entry with a target. */
function soundCheck({ timeout, probe, ...check }: Record<string, unknown>): Record<string, unknown> {
  const { case: kind, value } = probe as { readonly case: CheckKind; readonly value: Readonly<Record<string, unknown>> };
  const statusMin = Math.max(100, Number(value["statusMin"]));
  const statuses = { statusMin, statusMax: Math.max(statusMin, Number(value["statusMax"])) };
  return {
    ...check,
    target: "",
    probe: { case: kind, value: kind === "http" ? { ...value, ...statuses } : value },
    ...(CHECK_KINDS[kind].looksAtTarget && timeout !== undefined && { timeout: { seconds: 1n, nanos: 0 } }),
  };
}

function rangeOf(rules: FieldRules | undefined): { readonly min: number; readonly max: number } | undefined {
  if (rules?.type.case !== "uint32" && rules?.type.case !== "double") return undefined;
  const { greaterThan, lessThan } = rules.type.value;
  return { min: greaterThan.case === "gte" ? greaterThan.value : 0, max: lessThan.case === "lte" ? lessThan.value : 2 ** 32 - 1 };
}

/** Any value of a field that is valid and that a client may say; `most` items of a list. */
function anyOf(field: DescField, most = 3): fc.Arbitrary<unknown> {
  const rules = rulesOf(field);
  if (field.fieldKind === "map") {
    const said = rules?.type.case === "map" ? rules.type.value : undefined;
    return fc.dictionary(texts(said?.keys), texts(said?.values), { maxKeys: most, noNullPrototype: true });
  }
  if (field.fieldKind !== "list") return oneOf(field, rules);
  const items = rules?.type.case === "repeated" ? rules.type.value.items : undefined;
  const item = oneOf(field, items);
  return field.scalar === ScalarType.STRING ? fc.uniqueArray(item, { maxLength: most }) : fc.array(item, { maxLength: most });
}

/** Any valid message; what may be absent sometimes is. */
export function anyMessage(message: DescMessage, without: readonly string[] = []): fc.Arbitrary<Record<string, unknown>> {
  const fields = message.fields.filter((field) => field.oneof === undefined && !without.includes(field.name));
  const arbitraries = Object.fromEntries(fields.map((field) => [field.localName, anyOf(field)]));
  const required = fields.filter((field) => field.fieldKind !== "message" || rulesOf(field)?.required === true);
  // The detail of an entry depends on its kind, so those who want one draw it themselves.
  const choices = message.oneofs.filter((oneof) => oneof !== detailOneof && !without.includes(oneof.name));
  for (const { localName, fields: chosen } of choices)
    arbitraries[localName] = fc.oneof(...chosen.map((field) => anyOf(field).map((value) => ({ case: field.localName, value }))));
  return fc.record(arbitraries, {
    requiredKeys: [...required, ...choices].map(({ localName }) => localName),
  });
}

/** A value of a field that says something: the same in every run. */
export function sampleOf(field: DescField): unknown {
  return UNSAID[pathOf(field)] ?? fc.sample(anyOf(field, 2), { seed: 1, numRuns: runs(100) }).find(isSomething);
}

function isSomething(value: unknown): boolean {
  if (typeof value === "object") return Object.keys(value ?? {}).length > 0;
  return value !== "" && value !== 0 && value !== 0n && value !== false;
}

const letters = (count: number): string => "x".repeat(Math.max(0, count));
const many = <T>(count: number, item: (i: number) => T): readonly T[] => Array.from({ length: count }, (_, i) => item(i));

/** Values of one field on and next to its bounds, right and wrong ones. */
export function edgesOf(field: DescField): readonly unknown[] {
  const rules = rulesOf(field);
  if (field.fieldKind === "map") {
    if (rules?.type.case !== "map") throw new Error(`${pathOf(field)} has no bound`);
    const { maxPairs, keys, values } = rules.type.value;
    const pairs = (count: number) => Object.fromEntries(many(count, (i) => [`k${i}`, "v"]));
    const [ofKeys, ofValues] = [textEdges(keys), textEdges(values)];
    return [
      {},
      pairs(Number(maxPairs)),
      pairs(Number(maxPairs) + 1),
      ...ofKeys.map((key) => ({ [key]: "v" })),
      ...ofValues.map((value) => ({ k: value })),
    ];
  }
  if (field.fieldKind !== "list") return singleEdges(field, rules);
  if (rules?.type.case !== "repeated") throw new Error(`${pathOf(field)} has no bound`);
  const { maxItems, items } = rules.type.value;
  const item = (i: number): unknown =>
    field.scalar === ScalarType.STRING ? `item-${i}` : field.message === undefined ? i : { host: "web", port: 1 };
  const same = item(0);
  const singles = field.message === undefined ? singleEdges(field, items).map((value) => [value]) : [];
  return [[], many(Number(maxItems), item), many(Number(maxItems) + 1, item), [same, same], [...many(12, item), same], ...singles];
}

function singleEdges(field: DescField, rules: FieldRules | undefined): readonly unknown[] {
  if (field.enum !== undefined) return [-1, ...field.enum.values.map(({ number }) => number), field.enum.values.length];
  if (field.message?.typeName === "google.protobuf.Duration")
    return [-1n, 0n, 86_399n, 86_400n, 86_401n].flatMap((seconds) => [0, 1].map((nanos) => ({ seconds, nanos })));
  if (field.message !== undefined) return [];
  if (field.scalar === ScalarType.BOOL) return [false, true];
  if (field.scalar === ScalarType.UINT64) return [0n, 1n, 2n ** 64n - 1n];
  if (field.scalar === ScalarType.STRING) return textEdges(rules);
  const range = rangeOf(rules);
  if (field.scalar === ScalarType.UINT32) {
    const { min, max } = range ?? { min: 0, max: 2 ** 32 - 1 };
    return [min, min - 1, max, max + 1].filter((n) => n >= 0 && n < 2 ** 32);
  }
  const beyond = range === undefined ? [] : [range.min, range.max, range.min - 0.01, range.max + 0.01, Number.NaN, Infinity, -Infinity];
  return [0, -0, 0.5, ...beyond];
}

function textEdges(rules: FieldRules | undefined): readonly string[] {
  const said = rules?.type.case === "string" ? rules.type.value : undefined;
  const most = Number(said?.maxLen ?? 0n) || Number(said?.maxBytes ?? 0n) || 100;
  // Labels, hosts and patterns have shorter parts: dots make them whole.
  const dotted = (count: number): string => letters(count).replaceAll(/x{9}/g, "abcdefgh.").replace(/\.$/, "a");
  const plain = ["", "web", "a b", "é", "a\n", "x*", ",", "a/b", "a:b", "A.b", "-a", "a-", "a..b", "."];
  return [
    ...plain,
    ...[most - 1, most, most + 1].flatMap((count) => [letters(count), dotted(count), "é".repeat(count / 2), "😀".repeat(count)]),
  ];
}
