/** The part of `gen-entry.ts` that writes what an entry must obey: the contract's protovalidate rules as plain comparisons. */
import { type DescEnum, type DescField, type DescMessage, type JsonValue, ScalarType } from "@bufbuild/protobuf";
import { fieldsOf, isTime, messagesOf } from "./gen-entry-codec.ts";

export type Rules = Readonly<Record<string, JsonValue>>;

export interface Contract {
  /** The option `(buf.validate.field)` of a field, as JSON. */
  readonly rulesOf: (field: DescField) => Rules;
  /** Fields of an entry that follow its content. Times among them are the server's own: what a client says there is dropped unchecked. */
  readonly tail: readonly string[];
}

/** A text of these characters has its check in `Problems`; of the methods, the first is for a text that may be empty. */
const PATTERNS: ReadonlyMap<string, { readonly sort: string; readonly mayBeEmpty: boolean }> = new Map([
  ["^[A-Za-z0-9._:/@+-]+$", { sort: "name", mayBeEmpty: false }],
  ["^[A-Za-z0-9._:/@+-]*$", { sort: "name", mayBeEmpty: true }],
  ["^[A-Za-z0-9._:-]+$", { sort: "host", mayBeEmpty: false }],
  ["^[A-Za-z0-9._-]+$", { sort: "alias", mayBeEmpty: false }],
  ["^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$", { sort: "namespace", mayBeEmpty: false }],
]);

/** The contract says the defaults of settings: what has the sort and the number of a setting is bounded by that setting. */
const SETTINGS: Readonly<Record<string, string>> = {
  "namespace 200": "maxNamespaceLength",
  "name 128": "maxNameLength",
  "name 64": "maxIdLength",
  "name 63": "maxMetadataKeyLength",
  "text 64": "maxIdLength",
  "text 256": "maxPatternLength",
  "text 512": "maxUrlLength",
  "bytes 1024": "maxMetadataValueBytes",
  "host 253": "maxHostLength",
  "alias 253": "maxAliasLength",
  "items 64": "maxListItems",
  "seconds 86400": "maxEntryTtlMs",
};
/** Fields that have a setting of their own. */
const OWN_SETTINGS: Readonly<Record<string, string>> = { "Entry.targets": "maxTargets", "Entry.metadata": "maxMetadataPairs" };

const MAX_UINT32 = 4_294_967_295;

function boundOf(sort: string, bound: number, field?: DescField): string {
  const setting = (field && OWN_SETTINGS[`${field.parent.name}.${field.name}`]) ?? SETTINGS[`${sort} ${bound}`];
  return setting === undefined ? String(bound) : `problems.bounds.${setting}`;
}

/** Text of `entry_rules.ts`. */
export function rulesText(entry: DescMessage, contract: Contract): string {
  const messages = messagesOf(entry).filter((message) => hasChecks(message, contract));
  const types = messages.map(({ name }) => `type ${name}Fields`).toSorted();
  return `import { quoted } from "../../../../src/catalog/entry/names.ts";
import type { Problems } from "../../../../src/catalog/entry/problems.ts";
import {\n${types.map((type) => `  ${type},\n`).join("")}} from "./entry_codec.ts";

${messages.map((message) => checkText(message, contract)).join("\n\n")}\n`;
}

function hasChecks(message: DescMessage, contract: Contract): boolean {
  return message.fields.some((field) => fieldText(field, contract) !== "");
}

function checkText(message: DescMessage, contract: Contract): string {
  const { name, oneofs } = message;
  const alone = fieldsOf(message).filter((field) => field.oneof === undefined);
  const cases = oneofs.map(({ localName, fields }) => {
    const checked = fields.map((field) => [field, fieldText(field, contract)] as const);
    const said = checked.map(
      ([field, text]) =>
        `    case "${field.localName}":${text === "" ? "\n      return;" : ` {\n${indent(indent(text))}      return;\n    }`}\n`,
    );
    return `  switch (value.${localName}.case) {\n${said.join("")}    case undefined:\n  }\n`;
  });
  // A function for each list and map: one large one is optimised late, or never (bench/codec.ts).
  const many = fieldsOf(message).flatMap((field) => manyText(field, contract));
  return `${many.join("\n\n")}${many.length > 0 ? "\n\n" : ""}/** Adds what breaks the contract's rules in \`${name}\`. */
export function check${name}(value: ${name}Fields, problems: Problems): void {
${alone.map((field) => fieldText(field, contract)).join("")}${cases.join("")}}`;
}

const indent = (text: string): string => text.replaceAll(/^(?=.)/gm, "  ");

/** The statements that check one field; empty when nothing can be wrong with it. */
function fieldText(field: DescField, contract: Contract): string {
  const rules = contract.rulesOf(field);
  const at = field.oneof === undefined ? `value.${field.localName}` : `value.${field.oneof.localName}.value`;
  const name = JSON.stringify(field.name);
  if (field.fieldKind === "list") return `  if (${at}.length > 0) ${manyName(field)}(${at}, problems);\n`;
  if (field.fieldKind === "map") return `  ${manyName(field)}(${at}, problems);\n`;
  if (field.fieldKind === "message") {
    if (field.parent.name === "Entry" && contract.tail.includes(field.name) && isTime(field.message)) return "";
    const { required = false, ...rest } = rules;
    const inside = valueText(field, { rules: rest, at, name, contract });
    if (field.oneof !== undefined) return inside;
    const missing = required === true ? `  if (${at} === undefined) problems.add(${name}, "is required");\n` : "";
    return missing + (inside === "" ? "" : `  if (${at} !== undefined) {\n${indent(inside)}  }\n`);
  }
  return valueText(field, { rules, at, name, contract });
}

export function asRules(value: JsonValue | undefined): Rules {
  if (value === undefined) return {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error(`${JSON.stringify(value)} is no set of rules`);
  return value;
}

/** The rules of one sort, and that there are no others: a rule that nothing checks must not look as if it held. */
function taken(rules: Rules, sort: string): Rules {
  const { [sort]: found, ...others } = rules;
  refuseOthers(others, sort);
  return asRules(found);
}

function refuseOthers(others: Rules, where: string): void {
  const names = Object.keys(others);
  if (names.length > 0) throw new Error(`rule ${names.join(", ")} of ${where}: scripts/gen-entry-rules.ts has no check for it`);
}

interface Value {
  readonly rules: Rules;
  /** Code for the value. */
  readonly at: string;
  /** Code for the field as a violation names it. */
  readonly name: string;
  readonly contract: Contract;
}

/** Checks one value. */
function valueText(field: DescField, value: Value): string {
  const { rules, at, name } = value;
  if (field.message !== undefined) return messageText(field.message, value);
  if (field.enum !== undefined) return enumText(field.enum, taken(rules, "enum"), at, name);
  if (field.scalar === ScalarType.STRING) return stringText(taken(rules, "string"), at, name);
  if (field.scalar === ScalarType.UINT32) return rangeText(taken(rules, "uint32"), at, name, { min: 0, max: MAX_UINT32 });
  if (field.scalar === ScalarType.DOUBLE) return rangeText(taken(rules, "double"), at, name);
  refuseOthers(rules, field.toString());
  return "";
}

function messageText(message: DescMessage, { rules, at, name, contract }: Value): string {
  if (message.typeName === "google.protobuf.Timestamp") {
    refuseOthers(rules, name);
    return `  problems.time(${at}, ${name});\n`;
  }
  if (message.typeName === "google.protobuf.Duration") {
    const { gte, lte, ...others } = taken(rules, "duration");
    refuseOthers(others, name);
    if (gte !== "0s" || typeof lte !== "string") throw new Error(`${name}: a duration is from 0 s to a bound`);
    return `  problems.duration(${at}, ${boundOf("seconds", Number.parseFloat(lte)).replace(/^(\d+)$/, "$1000")}, ${name});\n`;
  }
  refuseOthers(rules, name);
  if (!hasChecks(message, contract)) return "";
  return under(
    `  check${message.name}(${at}, problems);\n`,
    name.startsWith('"') ? JSON.stringify(`${JSON.parse(name)}.`) : `${name.slice(0, -1)}.\``,
  );
}

/** What `checks` add is named under `prefix`; the text of it is only made when there is something. Stands in a block of its own. */
function under(checks: string, prefix: string): string {
  return `  const before = problems.count;\n${checks}  if (problems.count !== before) problems.under(before, ${prefix});\n`;
}

function stringText(rules: Rules, at: string, name: string): string {
  const { minLen = "0", maxLen, maxBytes, pattern, ...others } = rules;
  refuseOthers(others, name);
  if (Number(minLen) > 1) throw new Error(`${name}: a text is at least 0 or 1 characters long`);
  if (maxBytes !== undefined) {
    if (maxLen !== undefined || pattern !== undefined) throw new Error(`${name}: max_bytes stands alone`);
    return `  problems.bytes(${at}, ${boundOf("bytes", Number(maxBytes))}, ${name});\n`;
  }
  const known = typeof pattern === "string" ? PATTERNS.get(pattern) : undefined;
  const sort = known?.sort ?? "text";
  const isRequired = minLen === "1" || known?.mayBeEmpty === false;
  // Without a bound of its own it is bounded by the entry that it stands in.
  const bound = maxLen === undefined ? "problems.bounds.maxEntryBytes" : boundOf(sort, Number(maxLen));
  const check = `  problems.${isRequired ? sort : `optional${sort.slice(0, 1).toUpperCase()}${sort.slice(1)}`}(${at}, ${bound}, ${name});\n`;
  if (typeof pattern !== "string" || known !== undefined) return check;
  return `${check}  problems.pattern(${at}, new RegExp(${JSON.stringify(pattern)}, "u"), ${name});\n`;
}

function rangeText(rules: Rules, at: string, name: string, whole?: { readonly min: number; readonly max: number }): string {
  const { gte = whole?.min, lte = whole?.max, ...others } = rules;
  refuseOthers(others, name);
  if (gte === undefined && lte === undefined) return "";
  if (typeof gte !== "number" || typeof lte !== "number") throw new Error(`${name}: a range has two ends`);
  return `  if (!(${at} >= ${gte} && ${at} <= ${lte})) problems.range(${at}, ${gte}, ${lte}, ${name});\n`;
}

/** A record of a later version may say a value that this one does not know, unless the catalog goes by it: `rules.ts` says which. */
function enumText(desc: DescEnum, rules: Rules, at: string, name: string): string {
  const { definedOnly = false, notIn = [], ...others } = rules;
  refuseOthers(others, name);
  const noun = desc.name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
  const refused = Array.isArray(notIn) ? notIn : [];
  const last = Math.max(...desc.values.map(({ number }) => number));
  if (definedOnly !== true || desc.values.length !== last + 1)
    throw new Error(`${name}: an enum is defined_only, with numbers from 0 without a gap`);
  const words = desc.values.filter(({ number }) => number !== 0 && !refused.includes(number)).map(({ localName }) => localName);
  const checks = refused.map((number) => {
    const word = desc.values.find((value) => value.number === number)?.localName;
    return `  if (${at} === ${Number(number)}) problems.add(${name}, "${word} is for the server alone to say; one of ${words.join(", ")} is not");\n`;
  });
  return `${checks.join("")}  problems.known(${at}, ${last}, "${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}", ${name});\n`;
}

const manyName = ({ parent, name }: DescField): string => `check${parent.name}_${name}`;

/** The function that checks a list or a map; none for another field. */
function manyText(field: DescField, contract: Contract): readonly string[] {
  if (field.fieldKind !== "list" && field.fieldKind !== "map") return [];
  const rules = taken(contract.rulesOf(field), field.fieldKind === "list" ? "repeated" : "map");
  const [type, body] =
    field.fieldKind === "map"
      ? ["Readonly<Record<string, string>>", mapText(field, rules)]
      : [
          `readonly ${field.message === undefined ? (field.scalar === ScalarType.STRING ? "string" : "number") : `${field.message.name}Fields`}[]`,
          listText(field, rules, contract),
        ];
  return [`function ${manyName(field)}(many: ${type}, problems: Problems): void {\n${body}}`];
}

function listText(field: DescField, rules: Rules, contract: Contract): string {
  const { maxItems, unique = false, items, ...others } = rules;
  refuseOthers(others, field.name);
  if (maxItems === undefined) throw new Error(`${field.toString()}: a list has a bound: repeated.max_items`);
  const itemText = (name: string): string => valueText(field, { rules: asRules(items), at: "item", name, contract });
  const isMessage = field.message !== undefined;
  const checks = itemText(`\`${field.name}[\${i}]\``);
  const count = `  problems.items(many.length, ${boundOf("items", Number(maxItems), field)}, "${field.name}");\n`;
  const zero = field.scalar === ScalarType.STRING ? '""' : "0";
  const opening = isMessage ? `  const item = many[i];\n  if (item === undefined) continue;\n` : `  const item = many[i] ?? ${zero};\n`;
  // The name of an item is only made for one that is wrong.
  const each = isMessage ? checks : under(itemText('""'), `\`${field.name}[\${i}]\``);
  const loop = checks === "" ? "" : `  for (let i = 0; i < many.length; i++) {\n${indent(opening + each)}  }\n`;
  return count + loop + (unique === true ? `  problems.unique(many, "${field.name}");\n` : "");
}

function mapText(field: DescField, rules: Rules): string {
  const { maxPairs, keys, values, ...others } = rules;
  refuseOthers(others, field.name);
  if (maxPairs === undefined) throw new Error(`${field.toString()}: a map has a bound: map.max_pairs`);
  const checks =
    stringText(taken(asRules(keys), "string"), "key", '""') + stringText(taken(asRules(values), "string"), 'many[key] ?? ""', '""');
  return `  let count = 0;
  for (const key in many) {
    count++;
${indent(under(checks, `\`${field.name}[\${quoted(key)}]\``))}  }
  problems.items(count, ${boundOf("items", Number(maxPairs), field)}, "${field.name}");
`;
}
