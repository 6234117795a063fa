/**
 * Writes the code of entries from the contract, `proto/waymark/catalog/v1/entry.proto`: the kinds, how an entry is read and written, and
 * what it must obey. By hand this would say every field five times; protobuf-es and protovalidate, which need no code of ours, cost five and
 * fifty times as much (bench/codec.ts).
 */
import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescMessage,
  fromBinary,
  getOption,
  hasOption,
  isMessage,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { codecText } from "./gen-entry-codec.ts";
import { asRules, type Rules, rulesText } from "./gen-entry-rules.ts";

const HEADER = "// Made by scripts/gen-entry.ts from waymark/catalog/v1/entry.proto: change that, then `npm run gen`.\n";

/** What a later load or a later time changes is not content: these come last in stored bytes, in the order of their numbers. */
const TAIL = ["load", "registered_at", "updated_at"];
/** What the server says in place of the client. */
const STAMPED = ["key", "scope", "cluster_id", "region", "zone", "node_id", "tenant_id", "health", "registered_by_admin"];
/** Written after bytes that exist, into room that was reckoned before. */
const FIXED = ["LoadReport"];

/** Key texts have one digit for the kind. */
const LAST_KIND = 9;

/** Files by name, beside what is generated for the same proto; from the bytes of a descriptor set. */
export function entryFiles(descriptors: Uint8Array): Readonly<Record<string, string>> {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const entry = registry.getMessage("waymark.catalog.v1.Entry");
  const kinds = registry.getEnum("waymark.catalog.v1.EntryKind");
  const option = registry.getExtension("buf.validate.field");
  const ofOption = registry.getMessage("buf.validate.FieldRules");
  if (entry === undefined || kinds === undefined || option === undefined || ofOption === undefined)
    throw new Error("the descriptors have no Entry, no EntryKind or no protovalidate");
  const rulesOf = (field: DescField): Rules => {
    const rules = hasOption(field, option) ? getOption(field, option) : undefined;
    return isMessage(rules) ? asRules(toJson(ofOption, rules)) : {};
  };
  return {
    "waymark/catalog/v1/entry_kinds.ts": HEADER + kindsText(kinds, entry),
    "waymark/catalog/v1/entry_codec.ts": HEADER + codecText({ entry, tail: TAIL, stamped: STAMPED, fixed: FIXED }),
    "waymark/catalog/v1/entry_rules.ts": HEADER + rulesText(entry, { rulesOf, tail: TAIL }),
  };
}

/** A kind's detail is the field of the oneof with the kind's name; a kind may have none. */
function kindsText(kinds: DescEnum, entry: DescMessage): string {
  const known = kinds.values.filter(({ number }) => number !== 0).toSorted((a, b) => a.number - b.number);
  known.forEach(({ number, name }, i) => {
    if (number !== i + 1 || number > LAST_KIND)
      throw new Error(`${name} = ${number}: kinds are 1, 2, 3, … without a gap, at most ${LAST_KIND}`);
  });
  const details = entry.oneofs.find(({ name }) => name === "detail")?.fields ?? [];
  const ofDetails = details.map((field) => {
    const kind = known.find(({ localName }) => localName.toLowerCase() === field.name);
    if (kind === undefined)
      throw new Error(`the detail ${field.name} is of no kind: the enum has no ENTRY_KIND_${field.name.toUpperCase()}`);
    return `  ${field.localName}: ${kind.number},\n`;
  });
  const word = (name: string): string => name.toLowerCase().replaceAll("_", "-");
  return `
/** Kinds as on the wire. */
export const KIND = { ${known.map(({ localName, number }) => `${localName}: ${number}`).join(", ")} } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** What people call the kinds, as in commands, labels and output. */
export const KIND_WORDS = [${known.map(({ localName }) => `"${word(localName)}"`).join(", ")}] as const;
export type KindWord = (typeof KIND_WORDS)[number];

export const WORD_OF_KIND = {
${known.map(({ localName, number }) => `  ${number}: "${word(localName)}",\n`).join("")}} as const satisfies Record<Kind, KindWord>;

/** Kinds by the case of \`Entry.detail\` that goes with them. */
export const KIND_OF_DETAIL = {
${ofDetails.join("")}} as const;
`;
}
