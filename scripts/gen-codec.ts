/**
 * Writes code from the contract that would say every field again by hand: of entries (`waymark/catalog/v1/entry.proto`) and of what nodes say to
 * each other (`waymark/fabric/v1/fabric.proto`) the types, how they are read and written, and what they must obey; what requests to the
 * services must obey; the kinds of entries; and the list of services.
 * protobuf-es and protovalidate, which need no code of ours, cost five and fifty times as much (bench/codec.ts).
 */
import {
  createFileRegistry,
  type DescEnum,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  type FileRegistry,
  fromBinary,
  getOption,
  hasOption,
  isMessage,
  toJson,
} from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { asRules, constantName, isTime, type Layout, type Message, modelsOf, type Rules, tagOf } from "./gen-codec-model.ts";
import { type Contract, hasChecks, mostOf, rulesText } from "./gen-codec-rules.ts";
import { type Codec, codecText, messagesOf } from "./gen-codec-wire.ts";

const ENTRY_FILE = "waymark/catalog/v1/entry";
const FABRIC_FILE = "waymark/fabric/v1/fabric";

/** What a later load or a later time changes is not content: these come last in stored bytes, in the order of their numbers. */
const TAIL = ["load", "registered_at", "updated_at"];
/** What the server says in place of the client. */
const STAMPED = [
  "key",
  "scope",
  "cluster_id",
  "region",
  "zone",
  "node_id",
  "tenant_id",
  "health",
  "registered_by_admin",
  "reported_health",
  "check_states",
  "maintenance",
];
/** Written after bytes that exist, into room that was reckoned before. */
const FIXED = ["LoadReport"];

/**
 * What nodes say to each other on links: of its frames, those of records are also written by themselves. The calls come from the service.
 * What is signed is whole bytes too.
 */
const FABRIC_ROOTS = ["LinkRequest", "RecordsFrame", "SealedRecord", "Beacon", "KeyAnnouncement"];
/** What is signed of another package. */
const SIGNED_ROOT = "waymark.catalog.v1.ServiceSummary";
const FABRIC_SERVICE = "waymark.fabric.v1.FabricService";
const FABRIC_LAYOUT: Omit<Layout, "rulesOf"> = {
  isOwn: true,
  // Most messages have nothing to say there.
  absent: [
    "Origin.boot",
    "Origin.boot_before",
    "VectorEntry.hidden",
    "VectorEntry.lacking",
    "VectorEntry.lacking_through",
    "VectorEntry.other_cluster",
    "VectorFrame.offer",
    "RecordsFrame.known",
    "PolicyFrame.wanted_number",
    "PolicyFrame.part",
    "PolicyFrame.offset",
    "PolicyFrame.size_bytes",
    "HelloFrame.border_to",
    "MemberUpdate.keeps_entries",
    "MemberUpdate.boot",
    "MemberUpdate.boot_before",
    "MemberUpdate.exports_summaries",
    "MemberUpdate.borders",
    "MemberUpdate.heard_rules",
    "MemberUpdate.control_store",
    "MemberUpdate.desired",
    "MemberUpdate.drain",
    "MemberUpdate.serving",
    "MemberUpdate.config_digest",
    "HeardRule.reached",
    "LostOrigin.keys_through",
    "ProbeResponse.wall_ms",
    "PushPullRequest.digest",
    "PushPullRequest.lost",
    "PushPullRequest.takes_lost_keys",
    "PushPullResponse.own_update_refused",
    "PushPullResponse.lost",
  ],
  names: {
    origin: "from",
    acknowledged: "isAcknowledged",
    answer: "isAnswer",
    any_principal: "isForAll",
    complete: "isComplete",
    heard: "isHeard",
    hidden: "isHidden",
    join: "isJoin",
    known: "knownSeq",
    lacking: "isLacking",
    last: "isLast",
    offer: "isOffer",
    on: "isOn",
    other_cluster: "isOfOtherCluster",
    partial: "isPartial",
    ready: "isReady",
    refused: "isRefused",
    serving: "isServing",
    signed_text: "signed",
    stuck: "isStuck",
    wanted: "isWanted",
  },
  flat: {
    "VectorEntry.origin": ["node_id", "generation"],
    "RecordsFrame.origin": ["node_id", "generation"],
    "OriginDigest.origin": ["node_id", "generation"],
    "LostOrigin.origin": ["node_id", "generation"],
    "HelloFrame.origin": ["node_id", "generation", "boot", "boot_before"],
  },
  raw: ["RecordsFrame.records"],
  opaque: [],
};

/** The requests of all services but that between nodes are checked in one file. */
const REQUESTS_FILE = "waymark/request";
/** What other code takes apart, and checks by rules that the contract cannot state: entries by the node's settings, policies into problems. */
const CHECKED_ELSEWHERE = ["Entry", "EntryKey", "LoadReport", "PolicySet", "Stage"];
/** A setting of the node decides of these: the ttl of leases, and how many entries, leases or keys a request has. */
const SET_BY_NODE = [
  "RegisterRequest.ttl",
  "RegisterRequest.entries",
  "RenewRequest.lease_ids",
  "RenewRequest.reports",
  "KeepAliveRequest.lease_ids",
  "KeepAliveRequest.reports",
  "UnregisterRequest.keys",
  "SetMaintenanceRequest.keys",
];

/** The setting that bounds the lists among these. */
const LIST_SETTING = "maxRequestEntries";

/** By file, messages that are written or read by hand, mostly because parts of them are bytes that exist: their tags are all that is needed. */
const JOINED: Readonly<Record<string, readonly string[]>> = {
  "waymark/discovery/v1/discovery": [
    "waymark.catalog.v1.DiscoveryDelta",
    "waymark.catalog.v1.UnreachableNodes",
    "waymark.discovery.v1.CatalogQueryResponse",
    "waymark.discovery.v1.CatalogWatchResponse",
    "waymark.discovery.v1.KeepAliveRequest",
    "waymark.discovery.v1.KeepAliveResponse",
    "waymark.discovery.v1.RegisterRequest",
  ],
  "waymark/discovery/v1/summary": [
    "waymark.catalog.v1.ServiceSummary",
    "waymark.discovery.v1.HeardCluster",
    "waymark.discovery.v1.SummaryQueryResponse",
    "waymark.discovery.v1.SummaryWatchResponse",
  ],
  "waymark/resolver/v1/resolver": ["waymark.resolver.v1.ResolveResponse"],
  "waymark/fabric/v1/record": ["waymark.fabric.v1.MaintenanceOrder", "waymark.fabric.v1.Record", "waymark.fabric.v1.Tombstone"],
};

/** Key texts have one digit for the kind. */
const LAST_KIND = 9;

/** Files by name, beside what is generated for the same protos; from the bytes of a descriptor set. */
export function codecFiles(descriptors: Uint8Array): Readonly<Record<string, string>> {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
  const entry = messageNamed(registry, "waymark.catalog.v1.Entry");
  const kinds = registry.getEnum("waymark.catalog.v1.EntryKind");
  if (kinds === undefined) throw new Error("the descriptors have no EntryKind");
  const rulesOf = rulesIn(registry);
  const asThere: Layout = { rulesOf, isOwn: false, absent: [], names: {}, flat: {}, raw: [], opaque: [] };
  const entryModel = modelsOf(asThere)(entry);
  const fabricModelOf = modelsOf({ rulesOf, ...FABRIC_LAYOUT });
  const calls = registry.getService(FABRIC_SERVICE)?.methods ?? [];
  const called = calls.flatMap(({ methodKind, input, output }) => (methodKind === "unary" ? [input, output] : []));
  const fabricNames = [...FABRIC_ROOTS.map((name) => `waymark.fabric.v1.${name}`), SIGNED_ROOT];
  const fabricRoots = [...fabricNames.map((name) => messageNamed(registry, name)), ...called];
  return {
    [`${ENTRY_FILE}_kinds.ts`]: headerOf(ENTRY_FILE) + kindsText(kinds, entry),
    ...filesOf(ENTRY_FILE, { entry: { entry: entryModel, tail: TAIL, stamped: STAMPED, fixed: FIXED }, roots: [] }),
    ...Object.fromEntries(
      Object.entries(JOINED).map(([file, names]) => [
        `${file}_tags.ts`,
        TAGS_HEADER + names.map((name) => tagsText(messageNamed(registry, name), asThere)).join(""),
      ]),
    ),
    ...filesOf(FABRIC_FILE, { roots: fabricRoots.map((root) => fabricModelOf(root)) }),
    [`${FABRIC_FILE}_calls.ts`]: headerOf(FABRIC_FILE) + callsText(calls, called),
    [`${REQUESTS_FILE}_rules.ts`]: requestsText(registry, rulesOf),
    "waymark/services.ts": servicesText(publicServices(registry)),
  };
}

const TAGS_HEADER = "// Made by scripts/gen-codec.ts from the protos: change these, then `npm run gen`.\n";

const REQUESTS_HEADER = "// Made by scripts/gen-codec.ts from the protos of the services: change these, then `npm run gen`.\n";

function headerOf(file: string): string {
  return `// Made by scripts/gen-codec.ts from ${file}.proto: change that, then \`npm run gen\`.\n`;
}

function filesOf(file: string, codec: Codec): Readonly<Record<string, string>> {
  const contract: Contract = {
    of: codec.entry === undefined ? "fabric" : "entry",
    suffix: "Fields",
    src: "../../../../src",
    imports: (messages) =>
      `import {\n${messages
        .map(({ name }) => `  type ${name}Fields,\n`)
        .toSorted()
        .join("")}} from "./${file.split("/").at(-1)}_codec.ts";\n`,
    tail: codec.entry?.tail ?? [],
    set: [],
  };
  return {
    [`${file}_codec.ts`]: headerOf(file) + codecText(codec),
    [`${file}_rules.ts`]: headerOf(file) + rulesText(messagesOf(codec), contract),
  };
}

/** All services whose requests come from outside the cluster: all but `FabricService`, which only other nodes call. */
function openServices(registry: FileRegistry): readonly DescService[] {
  return [...registry].flatMap((desc) => (desc.kind === "service" && /^waymark\/(?!fabric\/)/.test(desc.file.name) ? [desc] : []));
}

/** The services of the public listeners. `JoinService` is served on the fabric listener. */
function publicServices(registry: FileRegistry): readonly DescService[] {
  return openServices(registry).filter(({ name }) => name !== "JoinService");
}

function servicesText(services: readonly DescService[]): string {
  const imports = services.map(({ name, file }) => `import { ${name} } from "./${file.name.slice("waymark/".length)}_pb.js";\n`);
  return `${REQUESTS_HEADER}${imports.join("")}
/** The services that nodes and resolvers serve to clients. */
export const SERVICES = { ${services.map(({ name }) => name).join(", ")} } as const;

export type ServiceName = keyof typeof SERVICES;\n`;
}

/** The rules of all requests in one file, and the check of each by the request's type name. */
function requestsText(registry: FileRegistry, rulesOf: Layout["rulesOf"]): string {
  const nameOf = namesIn(registry);
  const modelOf = modelsOf({ nameOf, rulesOf, isOwn: false, absent: [], names: {}, flat: {}, raw: [], opaque: CHECKED_ELSEWHERE });
  const requests = openServices(registry).flatMap(({ methods }) => methods.map(({ input }) => input));
  const models = requests.map((request) => [request, modelOf(request)] as const);
  const messages = [...new Set(models.flatMap(([, { all }]) => all))];
  const contract: Contract = {
    of: "requests",
    suffix: "",
    src: "../../src",
    imports: importsOf,
    tail: [],
    set: SET_BY_NODE,
  };
  const checks = models
    .filter(([, model]) => hasChecks(model, contract))
    .map(([{ typeName }, { name }]) => `  ["${typeName}", check${name}],\n`);
  return `${REQUESTS_HEADER}${rulesText(messages, contract)}
${listsText(requests, rulesOf)}
export type RequestCheck = (request: never, problems: FieldProblems) => void;

/** The check of a request by the name of its type. A request that cannot break a rule has none. */
export const REQUEST_CHECKS: ReadonlyMap<string, RequestCheck> = new Map<string, RequestCheck>([\n${checks.join("")}]);\n`;
}

/** The methods of a service: the path of each, and what is said in a call, as bytes and by the rules of the contract. */
function callsText(methods: readonly DescMethod[], messages: readonly DescMessage[]): string {
  const names = messages.map(({ name }) => name).toSorted();
  const listed = (verbs: readonly string[]) => verbs.flatMap((verb) => names.map((name) => `  ${verb}${name},\n`)).join("");
  const side = ({ name }: DescMessage) => `{ decode: decode${name}, encode: encode${name}, check: check${name} }`;
  const rows = methods.map(({ name, parent, localName, methodKind, input, output }) => {
    const said = methodKind === "unary" ? `\n    request: ${side(input)},\n    response: ${side(output)},` : "";
    return `  ${localName}: {\n    path: "/${parent.typeName}/${name}",${said}\n  },\n`;
  });
  return `import {\n${listed(["decode", "encode"])}} from "./fabric_codec.ts";
import {\n${listed(["check"])}} from "./fabric_rules.ts";

/** The methods of \`FabricService\`: their paths, and what is said in calls, as bytes and by the rules. */
export const CALLS = {\n${rows.join("")}} as const;\n`;
}

/** Names of messages in a file about all packages: `ResolverResolveRequest`, where another package has a `ResolveRequest` too. */
function namesIn(registry: FileRegistry): (message: DescMessage) => string {
  const counts = new Map<string, number>();
  for (const desc of registry) if (desc.kind === "message") counts.set(desc.name, (counts.get(desc.name) ?? 0) + 1);
  return ({ name, file }) => {
    const [, word = ""] = file.proto.package.split(".");
    return counts.get(name) === 1 ? name : `${word.charAt(0).toUpperCase()}${word.slice(1)}${name}`;
  };
}

/** The bounds of all lists and maps that a request may have, also inside of what other code checks. */
function listsText(requests: readonly DescMessage[], rulesOf: Layout["rulesOf"]): string {
  const known = new Set<DescMessage>();
  const visit = (message: DescMessage): void => {
    if (known.has(message) || isTime(message)) return;
    known.add(message);
    for (const { message: inner } of message.fields) if (inner !== undefined) visit(inner);
  };
  for (const request of requests) visit(request);
  const set = new Map(SET_BY_NODE.map((field) => [field, LIST_SETTING]));
  const lists = [...known].flatMap(({ fields }) => fields.filter(({ fieldKind }) => fieldKind === "list" || fieldKind === "map"));
  const bounds = lists.map((desc) => mostOf(desc, rulesOf(desc), set));
  const settings = [...new Set(bounds.filter((bound) => typeof bound === "string"))].toSorted();
  const rows = lists.map((desc, i) => `  ["${desc.parent.typeName}.${desc.name}", ${JSON.stringify(bounds[i])}],\n`);
  return `/** Settings of the node that bound lists and maps. */
export type ListSetting = ${settings.map((setting) => JSON.stringify(setting)).join(" | ")};

/** Most items of each list and map of requests: a number, or the setting that says it. */
export const LIST_BOUNDS: ReadonlyMap<string, number | ListSetting> = new Map<string, number | ListSetting>([\n${rows.join("")}]);\n`;
}

/** Imports of the types that protobuf-es makes. */
function importsOf(messages: readonly Message[]): string {
  const files = [...new Set(messages.map(({ desc }) => desc.file.name))].toSorted();
  const imports = files.map((file) => {
    const here = messages.filter(({ desc }) => desc.file.name === file);
    const types = here.map(({ name, desc }) => (name === desc.name ? name : `${desc.name} as ${name}`));
    return `import type { ${types.toSorted().join(", ")} } from "./${file.slice("waymark/".length)}_pb.js";\n`;
  });
  return imports.join("");
}

function tagsText({ name, fields }: DescMessage, layout: Layout): string {
  const tags = fields.map((field) => `  ${field.localName}: ${tagOf(field, layout)},\n`);
  const last = Math.max(...fields.map(({ number }) => number));
  return `\n/** Tags of the fields of \`${name}\`, of which the last known one has the number ${last}. */
export const ${constantName(name)}_TAG = {\n${tags.join("")}} as const;
export const ${constantName(name)}_LAST_FIELD = ${last};\n`;
}

function messageNamed(registry: FileRegistry, name: string): DescMessage {
  const found = registry.getMessage(name);
  if (found === undefined) throw new Error(`the descriptors have no ${name}`);
  return found;
}

/** The option `(buf.validate.field)` of fields. */
function rulesIn(registry: FileRegistry): (field: DescField) => Rules {
  const option = registry.getExtension("buf.validate.field");
  if (option === undefined) throw new Error("the descriptors have no protovalidate");
  const ofOption = messageNamed(registry, "buf.validate.FieldRules");
  return (field) => {
    const rules = hasOption(field, option) ? getOption(field, option) : undefined;
    return isMessage(rules) ? asRules(toJson(ofOption, rules)) : {};
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
