/** The part of `gen-codec.ts` that writes what a message must obey: the contract's protovalidate rules as plain comparisons. */
import { type DescEnum, type DescField, ScalarType } from "@bufbuild/protobuf";
import { asRules, type Choice, type Field, isTime, type Message, type Rules, typeOf } from "./gen-codec-model.ts";

export interface Contract {
  /** What the rules are made for. */
  readonly of: "entry" | "fabric" | "requests";
  /** Imports of the types of these messages. */
  readonly imports: (messages: readonly Message[]) => string;
  /** What the type of a message's values is called, after the name of the message. */
  readonly suffix: "Fields" | "";
  /** The way from the generated file to `src/`. */
  readonly src: string;
  /** Fields of an entry that follow its content. Times among them are the server's own: what a client says there is dropped unchecked. */
  readonly tail: readonly string[];
  /** Durations, and lists, whose bounds are a setting of the node: code that knows the setting checks these bounds. */
  readonly set: readonly string[];
}

/** `host:port`; the method also looks at the port. */
const ADDRESS = "^([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\\]):[0-9]{1,5}$";

const NAMESPACE = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$";

/** A text of these characters has its check in `FieldProblems`. */
const PATTERNS: ReadonlyMap<string, { readonly sort: string; readonly mayBeEmpty: boolean }> = new Map([
  ["^[A-Za-z0-9._:/@+-]+$", { sort: "name", mayBeEmpty: false }],
  ["^[A-Za-z0-9._:/@+-]*$", { sort: "name", mayBeEmpty: true }],
  ["^[A-Za-z0-9._:-]+$", { sort: "host", mayBeEmpty: false }],
  ["^[A-Za-z0-9._-]+$", { sort: "alias", mayBeEmpty: false }],
  ["^[A-Za-z0-9._-]*$", { sort: "alias", mayBeEmpty: true }],
  [ADDRESS, { sort: "address", mayBeEmpty: false }],
  [`^(${ADDRESS.slice(1, -1)})?$`, { sort: "address", mayBeEmpty: true }],
  [NAMESPACE, { sort: "namespace", mayBeEmpty: false }],
  [`^(${NAMESPACE.slice(1, -1)})?$`, { sort: "namespace", mayBeEmpty: true }],
]);

/** The other patterns, in the words of a refusal. */
const PATTERN_RULES: ReadonlyMap<string, string> = new Map([
  ["^([0-9a-f]{64})?$", "64 hexadecimal digits in lower case"],
  ["^([^/:]+/.+)?$", "an entry, written namespace/name/instance, or a service, written namespace/name"],
  ["^[A-Za-z0-9._-]*[*]?[A-Za-z0-9._-]*$", "characters from A-Z a-z 0-9 . _ - and at most one *"],
  ["^([REP]S(256|384|512)|EdDSA)$", "RS, PS or ES with 256, 384 or 512, or EdDSA"],
  ["^[ -~]*$", "printable ASCII"],
  ["^[!-~]+$", "printable ASCII without spaces"],
  ["^[A-Za-z0-9._-]+:[0-9a-f]+$", "the id of a join token, <cluster>:<hexadecimal digits>"],
  ["^(\\*\\.)?[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$", "a DNS name, which may start with `*.`"],
  ["^[a-z][a-z0-9+.-]{0,31}://[!-~]+$", "a URL: a scheme in lower case, :// and printable ASCII without spaces"],
  ["^([A-Za-z0-9._:@+-]{1,64}(/[A-Za-z0-9._:@+-]{1,64})?)?$", "<region>, <region>/<zone> or empty"],
  ["^(/[!-~]*)?$", "a path that starts with / and has printable ASCII without spaces"],
]);

/** What a request may name is bounded by what nodes may store: of that the contract says the defaults of settings. */
const NAME_SETTINGS: Readonly<Record<string, string>> = {
  "namespace 200": "maxNamespaceLength",
  "name 128": "maxNameLength",
  "name 64": "maxIdLength",
};
/** The contract says the defaults of settings: what has the sort and the number of a setting is bounded by that setting. */
const ENTRY_SETTINGS: Readonly<Record<string, string>> = {
  ...NAME_SETTINGS,
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
const OWN_SETTINGS: Readonly<Record<string, string>> = {
  "Entry.targets": "maxTargets",
  "Entry.metadata": "maxMetadataPairs",
  // A summary names what clients may register.
  "ServiceSummary.service_id": "maxNameLength",
};

const MAX_UINT32 = 4_294_967_295;
const MAX_INT32 = 2_147_483_647;
/** To the longest Duration of protobuf. */
const ANY_DURATION: Rules = { gte: "0s", lte: "315576000000s" };

/**
 * Most items of a list, or pairs of a map, of a request: a number, or the setting of the node that says it, which `set` names for lists that
 * a setting decides of. A list of distinct values of an enum has no more than the enum.
 */
export function mostOf(desc: DescField, rules: Rules, set: ReadonlyMap<string, string>): number | string {
  const { maxItems, unique } = asRules(rules["repeated"]);
  const most = maxItems ?? asRules(rules["map"])["maxPairs"] ?? (unique === true ? desc.enum?.values.length : undefined);
  if (most === undefined) throw new Error(`${desc.toString()}: a list or a map has a bound: max_items or max_pairs`);
  const key = `${desc.parent.name}.${desc.name}`;
  const ofEntry = desc.parent.file.name.endsWith("/entry") ? ENTRY_SETTINGS[`items ${Number(most)}`] : undefined;
  return set.get(key) ?? OWN_SETTINGS[key] ?? ofEntry ?? Number(most);
}

function boundOf(sort: string, bound: number, contract: Contract, field?: DescField): string {
  const own = field && OWN_SETTINGS[`${field.parent.name}.${field.name}`];
  const settings = contract.of === "fabric" ? {} : contract.of === "entry" ? ENTRY_SETTINGS : NAME_SETTINGS;
  const setting = own ?? settings[`${sort} ${bound}`];
  return setting === undefined ? String(bound) : `problems.bounds.${setting}`;
}

/** Text of the file with the rules. */
export function rulesText(messages: readonly Message[], contract: Contract): string {
  // What stands in the message around it is checked there.
  const flat = new Set(messages.flatMap(({ fields }) => fields.filter(({ isFlat }) => isFlat).map(({ message }) => message)));
  const checked = messages.filter((message) => !flat.has(message) && hasChecks(message, contract));
  const checks = checked.map((message) => checkText(message, contract)).join("\n\n");
  const { src } = contract;
  const names = checks.includes("quoted(") ? "{ type FieldProblems, quoted }" : "type { FieldProblems }";
  const isNoTime = checks.includes("isNoTime(") ? `import { isNoTime } from "${src}/lib/protowire.ts";\n` : "";
  return `import ${names} from "${src}/catalog/entry/names.ts";
${isNoTime}${contract.imports(checked)}
${checks}\n`;
}

export function hasChecks({ fields }: Message, contract: Contract): boolean {
  return fields.some((field) => fieldText(field, contract) !== "");
}

function checkText(message: Message, contract: Contract): string {
  const { name, fields, choices } = message;
  const chosen = new Set(choices.flatMap((choice) => choice.fields));
  const cases = choices.map((choice) => {
    const checked = choice.fields.map((field) => [field, fieldText(field, contract, { choice })] as const);
    const said = checked.map(
      ([{ local }, text]) => `    case "${local}":${text === "" ? "\n      return;" : ` {\n${indent(indent(text))}      return;\n    }`}\n`,
    );
    return `  switch (value.${choice.local}.case) {\n${said.join("")}    case undefined:\n  }\n`;
  });
  // A function for each list and map: one large one is optimised late, or never (bench/codec.ts).
  const many = fields.flatMap((field) => manyText(field, contract));
  const alone = fields.filter((field) => !chosen.has(field)).map((field) => fieldText(field, contract));
  return `${many.join("\n\n")}${many.length > 0 ? "\n\n" : ""}/** Adds what breaks the contract's rules in \`${name}\`. */
export function check${name}(value: ${name}${contract.suffix}, problems: FieldProblems): void {
${alone.join("")}${cases.join("")}}`;
}

const isSet = ({ parent, name }: DescField, contract: Contract): boolean => contract.set.includes(`${parent.name}.${name}`);

const indent = (text: string): string => text.replaceAll(/^(?=.)/gm, "  ");

/** The statements that check one field; empty when nothing can be wrong with it. \`of\`: the field of the message around it. */
function fieldText(field: Field, contract: Contract, { choice, of = "" }: { readonly choice?: Choice; readonly of?: string } = {}): string {
  const { rules, local, desc, isAbsent } = field;
  const at = choice === undefined ? `value.${local}` : `value.${choice.local}.value`;
  const name = JSON.stringify(of + field.name);
  if (field.isFlat) return field.message?.fields.map((inner) => fieldText(inner, contract, { of: `${field.name}.` })).join("") ?? "";
  const given = (check: string): string => (isAbsent && check !== "" ? `  if (${at} !== undefined) {\n${indent(check)}  }\n` : check);
  if (field.shape !== "alone") {
    if (manyText(field, contract).length === 0) return "";
    const check = `${manyName(desc)}(${at}, problems);\n`;
    if (field.shape === "map") return given(`  ${check}`);
    const { minItems = 0, maxItems } = asRules(rules["repeated"]);
    const isRequired = Number(minItems) > 0 && !isSet(desc, contract);
    if (isRequired && isAbsent) throw new Error(`${desc.toString()}: a list that must have items is never absent`);
    if (isRequired) {
      const rule = `is empty, but must have ${Number(minItems)} to ${Number(maxItems)} items`;
      return `  if (${at}.length === 0) problems.add(${name}, "${rule}");\n  else ${check}`;
    }
    return isAbsent ? given(`  ${check}`) : `  if (${at}.length > 0) ${check}`;
  }
  if (desc.message !== undefined) {
    if (desc.parent.name === "Entry" && contract.tail.includes(field.name) && isTime(desc.message)) return "";
    const { required = false, ...rest } = rules;
    const inside = valueText(field, { rules: rest, at, name, contract });
    if (choice !== undefined) return inside;
    const block = inside === "" || isAbsent ? inside : `  {\n${indent(inside)}  }\n`;
    const missing = required === true && isAbsent ? `  if (${at} === undefined) problems.add(${name}, "is required");\n` : "";
    return missing + given(block);
  }
  return given(valueText(field, { rules, at, name, contract }));
}

/** The rules of one sort, and that there are no others: a rule that nothing checks must not look as if it held. */
function taken(rules: Rules, sort: string): Rules {
  const { [sort]: found, ...others } = rules;
  refuseOthers(others, sort);
  return asRules(found);
}

function refuseOthers(others: Rules, where: string): void {
  const names = Object.keys(others);
  if (names.length > 0) throw new Error(`rule ${names.join(", ")} of ${where}: scripts/gen-codec-rules.ts has no check for it`);
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
function valueText(field: Field, value: Value): string {
  const { rules, at, name } = value;
  const { desc, message } = field;
  if (desc.message !== undefined && isTime(desc.message)) return timeText(field, desc.message.name, value);
  if (message !== undefined) return messageText(message, value);
  if (desc.enum !== undefined) return enumText(desc.enum, taken(rules, "enum"), at, name);
  if (desc.scalar === ScalarType.STRING) return stringText(taken(rules, "string"), value, desc);
  if (desc.scalar === ScalarType.UINT32) return rangeText(taken(rules, "uint32"), at, name, { min: 0, max: MAX_UINT32 });
  if (desc.scalar === ScalarType.INT32) return rangeText(taken(rules, "int32"), at, name, { max: MAX_INT32 });
  if (desc.scalar === ScalarType.DOUBLE) return rangeText(taken(rules, "double"), at, name);
  if (desc.scalar === ScalarType.UINT64 && field.sort.type === "number") return rangeText(taken(rules, "uint64"), at, name, { min: 0 });
  if (desc.scalar === ScalarType.UINT64 && rules["uint64"] !== undefined)
    return rangeText(taken(rules, "uint64"), `Number(${at})`, name, { min: 0 });
  if (desc.scalar === ScalarType.BYTES) return bytesText(taken(rules, "bytes"), at, name);
  refuseOthers(rules, desc.toString());
  return "";
}

function timeText({ desc }: Field, type: string, { rules, at, name, contract }: Value): string {
  if (type === "Timestamp") {
    refuseOthers(rules, name);
    return contract.of === "requests" ? "" : `  problems.time(${at}, ${name});\n`;
  }
  const all = taken(rules, "duration");
  const { gte, gt, lte, ...others } = isSet(desc, contract) ? ANY_DURATION : { ...(contract.of === "requests" && ANY_DURATION), ...all };
  refuseOthers(others, name);
  const from = gte ?? gt;
  if (typeof from !== "string" || typeof lte !== "string" || (gt ?? "0s") !== "0s")
    throw new Error(`${name}: a duration is from 0 s or more to a bound`);
  const toMs = boundOf("seconds", Number.parseFloat(lte), contract).replace(/^(\d+)$/, "$1000");
  const least = from === "0s" ? "" : `, ${Number.parseFloat(from)}000`;
  const check = `problems.duration(${at}, ${toMs}, ${name}${least});\n`;
  return gt === undefined ? `  ${check}` : `  if (isNoTime(${at})) problems.add(${name}, "must be more than 0 s");\n  else ${check}`;
}

function messageText(message: Message, { rules, at, name, contract }: Value): string {
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

function stringText(rules: Rules, { at, name, contract }: Omit<Value, "rules">, desc?: DescField): string {
  const { minLen = "0", maxLen, maxBytes, pattern, ...others } = rules;
  refuseOthers(others, name);
  if (Number(minLen) > 1) throw new Error(`${name}: a text is at least 0 or 1 characters long`);
  if (maxBytes !== undefined) {
    if (maxLen !== undefined || pattern !== undefined) throw new Error(`${name}: max_bytes stands alone`);
    return `  problems.bytes(${at}, ${boundOf("bytes", Number(maxBytes), contract)}, ${name});\n`;
  }
  if (maxLen === undefined && pattern === undefined && contract.of !== "entry") return "";
  const known = typeof pattern === "string" ? PATTERNS.get(pattern) : undefined;
  const sort = known?.sort ?? "text";
  const isRequired = minLen === "1" || known?.mayBeEmpty === false;
  // Without a bound of its own it is bounded by the entry that it stands in.
  const bound = maxLen === undefined ? "problems.bounds.maxEntryBytes" : boundOf(sort, Number(maxLen), contract, desc);
  const guard = isRequired ? "" : `if (${at} !== "") `;
  const check = `  ${guard}problems.${sort}(${at}, ${bound}, ${name});\n`;
  if (typeof pattern !== "string" || known !== undefined) return check;
  const bounded = maxLen === undefined && contract.of !== "entry" ? "" : check;
  const rule = PATTERN_RULES.get(pattern);
  if (rule === undefined) throw new Error(`${name}: the pattern ${pattern} has no words for its refusal`);
  return `${bounded}  problems.pattern(${at}, { pattern: ${String(new RegExp(pattern, "u"))}, rule: ${JSON.stringify(rule)} }, ${name});\n`;
}

function bytesText(rules: Rules, at: string, name: string): string {
  const { maxLen, ...others } = rules;
  refuseOthers(others, name);
  return maxLen === undefined
    ? ""
    : `  if (${at}.length > ${Number(maxLen)}) problems.add(${name}, "has more than ${Number(maxLen)} bytes");\n`;
}

function rangeText(rules: Rules, at: string, name: string, whole?: { readonly min?: number; readonly max?: number }): string {
  const { gte: first = whole?.min, lte: last = whole?.max, ...others } = rules;
  // Of 64 bits, JSON has numbers as texts.
  const [gte, lte] = [first, last].map((end) => (typeof end === "string" ? Number(end) : end));
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
    if (number === 0) return `  if (${at} === 0) problems.add(${name}, "must be one of ${words.join(", ")}");\n`;
    const word = desc.values.find((value) => value.number === number)?.localName;
    return `  if (${at} === ${Number(number)}) problems.add(${name}, "must be one of ${words.join(", ")}, got ${word}");\n`;
  });
  return `${checks.join("")}  problems.known(${at}, ${last}, "${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}", ${name});\n`;
}

const manyName = ({ parent, name }: DescField): string => `check${parent.name}_${name}`;

/** The function that checks a list or a map; none for another field, and where nothing can be wrong. */
function manyText(field: Field, contract: Contract): readonly string[] {
  const { shape, desc, rules, message } = field;
  if (shape === "alone") return [];
  const body = shape === "map" ? mapText(desc, taken(rules, "map"), contract) : listText(field, taken(rules, "repeated"), contract);
  return body === ""
    ? []
    : [
        `function ${manyName(desc)}(many: ${message === undefined ? typeOf(field) : `readonly ${message.name}${contract.suffix}[]`}, problems: FieldProblems): void {\n${body}}`,
      ];
}

function listText(field: Field, rules: Rules, contract: Contract): string {
  const { name, desc, sort, message } = field;
  const { minItems = "0", maxItems, unique = false, items, ...others } = rules;
  refuseOthers(others, name);
  if (maxItems === undefined) throw new Error(`${desc.toString()}: a list has a bound: repeated.max_items`);
  const itemText = (of: string): string => valueText(field, { rules: asRules(items), at: "item", name: of, contract });
  const isMessage = message !== undefined;
  const checks = itemText(`\`${name}[\${i}]\``);
  // What has its bound while it is read needs no other.
  const count =
    field.maxItems === undefined && !isSet(desc, contract)
      ? `  problems.items(many.length, ${boundOf("items", Number(maxItems), contract, desc)}, "${name}");\n`
      : "";
  const opening = isMessage
    ? `  const item = many[i];\n  if (item === undefined) continue;\n`
    : `  const item = many[i] ?? ${sort.zero};\n`;
  // The name of an item is only made for one that is wrong.
  const each = isMessage ? checks : under(itemText('""'), `\`${name}[\${i}]\``);
  const loop = checks === "" ? "" : `  for (let i = 0; i < many.length; i++) {\n${indent(opening + each)}  }\n`;
  if (Number(minItems) > 1) throw new Error(`${desc.toString()}: a list has at least none or one`);
  return count + loop + (unique === true ? `  problems.unique(many, "${name}");\n` : "");
}

function mapText(desc: DescField, rules: Rules, contract: Contract): string {
  const { maxPairs, keys, values, ...others } = rules;
  refuseOthers(others, desc.name);
  if (maxPairs === undefined) throw new Error(`${desc.toString()}: a map has a bound: map.max_pairs`);
  const checks =
    stringText(taken(asRules(keys), "string"), { at: "key", name: '""', contract }) +
    stringText(taken(asRules(values), "string"), { at: "value", name: '""', contract });
  return `  let count = 0;
  for (const key in many) {
    count++;
    const value = many[key] ?? "";
${indent(under(checks, `\`${desc.name}[\${quoted(key)}]\``))}  }
  problems.items(count, ${boundOf("items", Number(maxPairs), contract, desc)}, "${desc.name}");
`;
}
