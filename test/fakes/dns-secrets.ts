/**
 * A catalog of which each of three views sees a part, for questions that nobody would ask: an anonymous view, and two tenants with much that only they may
 * see. What is hidden has a word or an address that is nowhere else, so that it can be looked for in the bytes of an answer.
 */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema, TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY, KIND, type Kind } from "../../src/catalog/record/record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { DnsNames } from "../../src/discovery/dns-names.ts";
import { CatalogReads } from "../../src/discovery/reads.ts";
import type { DnsSettings } from "../../src/dns/records/record.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { dnsCatalog } from "../../src/dns/views/catalog.ts";
import { viewersOf } from "../../src/dns/views/views.ts";
import { Policy } from "../../src/policy/set/verdict.ts";
import { TEST_DNS_SETTINGS } from "./dns-catalog.ts";
import { BOUNDS } from "./options.ts";
import { rule, set } from "./policies.ts";
import { at, Registry } from "./registry.ts";

const NODE = { nodeId: "n1", clusterId: "c1", region: "r1", boot: "b1" };
const ZONE = { zones: ["waymark"], reverseZones: ["113.0.203.in-addr.arpa", "8.b.d.0.1.0.0.2.ip6.arpa"] };
export const SECRET_SETTINGS: DnsSettings = { ...TEST_DNS_SETTINGS, ...ZONE };

/** Whose things these are: a word in all their names and texts, and their addresses. */
interface Owner {
  readonly tenant: string;
  readonly word: string;
  readonly v4: readonly number[];
  readonly v6: string;
}
const OPEN: Owner = { tenant: "", word: "open", v4: [203, 0, 113, 1], v6: "2001:db8::1" };
const RED: Owner = { tenant: "red", word: "rubyred", v4: [203, 0, 113, 77], v6: "2001:db8:77:7777:7777:7777:7777:7777" };
const BLUE: Owner = { tenant: "blue", word: "sapphire", v4: [203, 0, 113, 99], v6: "2001:db8:99:9999:9999:9999:9999:9999" };
const OWNERS = [OPEN, RED, BLUE] as const;
const SERVICES = 20;

interface Made {
  readonly owner: Owner;
  readonly name: string;
  readonly namespace: string;
  readonly kind?: Kind;
  readonly hosts?: readonly string[];
  readonly aliases?: readonly string[];
}

function everything(): readonly Made[] {
  return OWNERS.flatMap((owner): readonly Made[] => {
    const { word, v4 } = owner;
    const address = v4.join(".");
    const many = Array.from({ length: SERVICES }, (_, i) => ({ owner, name: `${word}-${i}`, namespace: word, hosts: [address] }));
    return [
      ...many,
      // Names that everybody can guess, beside others' and below them.
      { owner, name: "web", namespace: word, hosts: [address, owner.v6], aliases: [`www.${word}`, "shared.open", `${word}.open`] },
      { owner, name: "x", namespace: `web.${word}`, hosts: [`${word}-host.example.com`] },
      { owner, name: "sum", namespace: word, kind: KIND.FUNCTION, hosts: [address] },
      { owner, name: "jobs", namespace: `deep.below.${word}`, kind: KIND.QUEUE, hosts: [owner.v6], aliases: [`queue.${word}.open`] },
      { owner, name: "huge", namespace: word, hosts: Array.from({ length: 40 }, (_, i) => `${word}-${i}.${"y".repeat(30)}.example.com`) },
    ];
  });
}

/** The catalog of each view: anonymous, red, blue. `onRead` is told of each look at what all views share, `onHidden` of what answers lack. */
export function secretCatalogs(onRead?: (what: string) => void, onHidden?: (namespaces: readonly string[]) => void): readonly DnsCatalog[] {
  const registry = new Registry();
  const { replica } = registry;
  const rules = [RED, BLUE].map(({ word, tenant }) => rule(word, { visibilityTenants: [tenant] }));
  const belowRules = [RED, BLUE].flatMap(({ word, tenant }) =>
    [`web.${word}`, `deep.below.${word}`].map((pattern) => rule(pattern, { visibilityTenants: [tenant] })),
  );
  const policies = { policy: new Policy(set([...rules, ...belowRules], { defaultAllow: true }), 1) };
  const reads = new CatalogReads(replica, NODE, { policies, onDenied: () => undefined });
  const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });
  replica.origin(NODE.nodeId, 1, NODE);
  for (const [i, made] of everything().entries()) {
    const { owner, name, namespace, kind = KIND.SERVICE, hosts = [], aliases = [] } = made;
    const message = create(EntrySchema, {
      key: create(EntryKeySchema, { kind, namespace, name, instanceId: `${owner.word}-i1` }),
      scope: SCOPE.ZONE,
      health: 1,
      ttl: { seconds: 30n },
      targets: hosts.map((host, n) =>
        create(TargetSchema, { name: n === 0 ? "http" : "", host, port: 8443, protocol: "https", weight: 1 }),
      ),
      aliases: [...aliases],
      tags: [`${owner.word}-tag`],
      metadata: { note: `${owner.word} note` },
    });
    const stamp = { ...NODE, zone: "z1", tenantId: owner.tenant, registeredByAdmin: false, receivedWallMs: 0 };
    registry.receive(stamper.entryOf(message, 0, stamp), { body: BODY.ENTRY, hlcMs: i + 1, nodeId: NODE.nodeId }, at(i + 1));
  }
  const dnsNames = new DnsNames(replica, ZONE.zones);
  dnsNames.refresh();
  const views = [RED, BLUE].map(({ tenant }) => ({
    listener: undefined,
    prefixes: [],
    tenant,
    cluster: undefined,
    region: "r1",
    zone: "z1",
  }));
  const told = { reads: toldOf(reads, ["find"], onRead), dnsNames: toldOf(dnsNames, ["findAlias", "hasNameUnder"], onRead) };
  const sources = { ...told, replica, identity: NODE, policies };
  return viewersOf({ views }, NODE).map((viewer) => dnsCatalog(() => 0, sources, onHidden, viewer));
}

/** The same, whose methods of these names are told when they are called. */
function toldOf<T extends object>(of: T, names: readonly (string | symbol)[], onRead: ((what: string) => void) | undefined): T {
  if (onRead === undefined) return of;
  const get = (target: T, name: string | symbol): unknown => {
    if (names.includes(name)) onRead(String(name));
    const value: unknown = Reflect.get(target, name, target);
    return typeof value === "function" ? (value.bind(target) as unknown) : value;
  };
  return new Proxy(of, { get });
}

/** What a view may not see, as it would stand in an answer. */
const HIDDEN = OWNERS.map((viewer) =>
  OWNERS.filter((owner) => owner !== OPEN && owner !== viewer).flatMap(({ word, v4, v6 }) => [
    Buffer.from(word),
    Buffer.from(v4),
    Buffer.from(
      v6.replaceAll(/\w+:?/g, (group) => group.replace(":", "").padStart(4, "0")),
      "hex",
    ),
    Buffer.from(`${v4.join("-")}.`),
  ]),
);

/** The part of an answer after its question that a view may not see; undefined if there is none. Letters count without their case. */
export function hiddenIn(response: Buffer, fromByte: number, view: number): string | undefined {
  const answer = response.subarray(fromByte);
  if (answer.length === 0) return undefined;
  const small = Buffer.from(answer.toString("latin1").toLowerCase(), "latin1");
  const found = (HIDDEN[view] ?? []).find((part) => answer.includes(part) || small.includes(part));
  return found?.toString("latin1");
}

/** Words that nobody has, as long as those of owners. */
const ABSENT: Readonly<Record<string, string>> = { [RED.word]: "emerald", [BLUE.word]: "amethyst" };

/** The query with a word that nobody has in the place of one that is hidden from a view. Undefined if it has none. */
export function absentTwin(query: Uint8Array, view: number): Uint8Array | undefined {
  const text = Buffer.from(query).toString("latin1");
  const hidden = OWNERS.filter((owner, index) => owner !== OPEN && index !== view).map(({ word }) => word);
  const twin = hidden.reduce((so, word) => so.replaceAll(new RegExp(word, "gi"), ABSENT[word] ?? ""), text);
  return twin === text ? undefined : Buffer.from(twin, "latin1");
}

const words = OWNERS.flatMap(({ word }) => [
  `web.${word}`,
  `${word}-3.${word}`,
  `huge.${word}`,
  `www.${word}`,
  `${word}.open`,
  `queue.${word}.open`,
  `x.web.${word}`,
  `jobs.deep.below.${word}`,
  `below.${word}`,
  `_svc._tcp.web.${word}`,
  `_svc._tcp.huge.${word}`,
  `_http._tcp.web.${word}`,
  `_rpc._tcp.sum.${word}`,
  `_queue._tcp.jobs.deep.below.${word}`,
  `_services._dns-sd._udp.${word}`,
  `_services._dns-sd._udp.web.${word}`,
  `${word}-i1._svc._tcp.web.${word}`,
  word,
]);
/** Names that are worth asking for. */
export const SECRET_NAMES: readonly string[] = [
  ...words.map((name) => `${name}.waymark`),
  ...OWNERS.map(({ v4 }) => `${v4.toReversed().join(".")}.in-addr.arpa`),
  "shared.open.waymark",
  "_services._dns-sd._udp.waymark",
  "n1.node.waymark",
  "203-0-113-1.addr.node.waymark",
  "nope.waymark",
  "waymark",
  "113.0.203.in-addr.arpa",
  "example.com",
  "",
];
