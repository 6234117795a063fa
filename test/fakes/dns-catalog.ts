/** A catalog for the DNS room: entries in a list, everything visible, found by looking at each. */

import { newEntry, newNodeDetail } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import { DNS_ZONES_KEY } from "../../src/catalog/entry/names.ts";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { EntryView, LargeFields } from "../../src/catalog/entry/view.ts";
import { portWord, portWords, TRANSPORTS } from "../../src/catalog/entry/view.ts";
import { HEALTH, KIND, type Kind, keyText, nameOfKey } from "../../src/catalog/record/record.ts";
import { healthOrder } from "../../src/consumer/health-tiers.ts";
import { addressText } from "../../src/discovery/address-names.ts";
import type { NameObserver } from "../../src/discovery/dns-names.ts";
import type { DnsSettings } from "../../src/dns/records/record.ts";
import { DependencyRecorder, type PlanDependencies } from "../../src/dns/subject/plan-dependencies.ts";
import type { DnsCatalog } from "../../src/dns/subject/subject.ts";
import { DEFAULT_VIEW, type DnsView } from "../../src/dns/subject/subject.ts";
import { type IpAddress, parseAddress } from "../../src/lib/addresses.ts";

/** Kinds whose names have addresses. */
const NAMED_KINDS: ReadonlySet<Kind> = new Set([KIND.SERVICE, KIND.NODE]);

export class FakeDnsCatalog implements DnsCatalog {
  readonly view: DnsView;
  /** Grows with each change. */
  revision = 1;
  readonly version = 1;
  readonly changes = new FakeChanges();
  readonly #rests = new DependencyRecorder();
  readonly #entries: EntryView[] = [];

  constructor(entries: readonly EntryView[] = [], view: Partial<DnsView> = {}) {
    this.view = { ...DEFAULT_VIEW, ...view };
    for (const entry of entries) this.add(entry);
  }

  add(entry: EntryView): void {
    this.#entries.push(entry);
    this.revision++;
    this.changes.tell(entry);
  }

  clear(): void {
    this.#entries.length = 0;
    this.revision++;
    this.changes.tellEverything();
  }

  sampleCount = 0;

  services(namespace: string): ReturnType<DnsCatalog["services"]> {
    this.#rests.services(namespace);
    const own = this.#entries.filter(({ key }) => key.kind === KIND.SERVICE && key.namespace === namespace);
    const shown = own.filter(({ health }) => health !== HEALTH.MAINTENANCE);
    const hasDrained = own.some(({ health, targets }) => health === HEALTH.MAINTENANCE && targets.length > 0);
    const names = [...new Set(shown.map(({ key }) => key.name))].toSorted();
    const items = names.map((name) => {
      const words = new Set(shown.filter(({ key }) => key.name === name).flatMap(({ targets }) => portWords(targets)));
      return { name, transports: TRANSPORTS.filter((transport) => words.has(portWord(transport))) };
    });
    return { items: items.slice(0, 500), isCut: items.length > 500, ttlSources: shown, ...(hasDrained && { hasDrained }) };
  }

  find(kind: Kind, namespace: string, name: string, port?: string, instanceId?: string): readonly EntryView[] {
    this.#rests.entries(kind, namespace, name);
    const isNamed = ({ key }: EntryView) =>
      key.kind === kind && key.namespace === namespace && key.name === name && (instanceId === undefined || key.instanceId === instanceId);
    return this.#entries.filter((entry) => isNamed(entry) && (port === undefined || portWords(entry.targets).includes(port)));
  }

  has(...name: Parameters<DnsCatalog["has"]>): boolean {
    return this.find(...name).length > 0;
  }

  gateways(zone: string): readonly EntryView[] {
    const serves = ({ key, read, health }: EntryView) =>
      key.kind === KIND.NODE && health === HEALTH.HEALTHY && (read("metadata")[DNS_ZONES_KEY] ?? "").split(" ").includes(zone);
    this.#rests.nodes();
    return this.#entries
      .filter(serves)
      .toSorted((a, b) => (a.key.name < b.key.name ? -1 : 1))
      .slice(0, 8);
  }

  atAddress(address: IpAddress): ReturnType<DnsCatalog["atAddress"]> {
    const text = addressText(address);
    this.#rests.address(text);
    const urlsOf = (detail: LargeFields["detail"]) => (detail.case === "node" ? detail.value.advertisedUrls : []);
    const hostsOf = ({ targets, read }: EntryView) => [
      ...targets.map(({ host }) => host),
      ...urlsOf(read("detail")).map((url) => new URL(url).hostname.replace(/^\[|\]$/g, "")),
    ];
    const isThere = (host: string) => {
      const parsed = parseAddress(host);
      return parsed !== undefined && addressText(parsed) === text;
    };
    const found = this.#entries.filter((entry) => NAMED_KINDS.has(entry.key.kind) && hostsOf(entry).some(isThere));
    const byName = Map.groupBy(found, ({ key }) => nameOfKey(keyText(key)));
    const best = [...byName.values()].flatMap(
      (entries) => entries.toSorted((a, b) => healthOrder(a.health) - healthOrder(b.health))[0] ?? [],
    );
    const items = best.toSorted((a, b) => (keyText(a.key) < keyText(b.key) ? -1 : 1));
    return { items: items.slice(0, 64), isCut: items.length > 64 };
  }

  takePlanDependencies(): PlanDependencies {
    return this.#rests.take();
  }

  takeHidden(): readonly string[] {
    return [];
  }

  takeSampled(): boolean {
    return false;
  }

  onHidden(_namespaces: readonly string[]): void {}

  hasNameUnder(suffix: string, zone: string): boolean {
    this.#rests.below(suffix, zone);
    const isUnder = (name: string, above: string) => name === above || name.endsWith(`.${above}`);
    return this.#entries.some(
      ({ key, read }) =>
        isUnder(key.namespace, suffix) || read("aliases").some((name) => isUnder(name, suffix) || isUnder(name, `${suffix}.${zone}`)),
    );
  }

  findAlias(name: string, zone: string): readonly EntryView[] {
    this.#rests.alias(name, zone);
    const keyed = this.#entries.map((entry) => ({ entry, key: keyText(entry.key) })).toSorted((a, b) => (a.key < b.key ? -1 : 1));
    const isAlias = (alias: string) => alias === name || alias === `${name}.${zone}`;
    return keyed.map(({ entry }) => entry).filter(({ read }) => read("aliases").some(isAlias));
  }
}

/** Tells of what was added. */
class FakeChanges {
  readonly #followers = new Set<NameObserver>();

  catchUp(): void {}

  follow(follower: NameObserver): void {
    this.#followers.add(follower);
  }

  tell({ key, targets, read }: EntryView): void {
    const aliases = read("aliases");
    const suffixesOf = (name: string) => name.split(".").map((_, at, labels) => labels.slice(at).join("."));
    for (const follower of this.#followers) {
      follower.entryChanged(nameOfKey(keyText(key)));
      for (const alias of aliases) follower.aliasChanged(alias);
      for (const { host } of targets) {
        const address = parseAddress(host);
        if (address !== undefined) follower.addressChanged(addressText(address));
      }
      for (const suffix of [key.namespace, ...aliases].flatMap(suffixesOf)) follower.belowChanged(suffix);
    }
  }

  tellEverything(): void {
    for (const follower of this.#followers) follower.everythingChanged();
  }
}

/** No two of these times are the same, so that a test sees which one was taken. */
export const TEST_DNS_SETTINGS: DnsSettings = {
  zones: ["waymark"],
  reverseZones: [],
  nodeId: "n1",
  minTtlMs: 1_000,
  maxTtlMs: 60_000,
  defaultTtlMs: 6_000,
  negativeTtlMs: 5_000,
  staleTtlMs: 3_000,
  allowExternalNames: false,
  srvPriority: "health",
  srvTiers: "all",
};

type TargetSpec = Partial<EntryView["targets"][number]> & { readonly host: string };
export type EntrySpec = Partial<LargeFields> &
  Partial<Omit<EntryView, "key" | "read" | "targets">> & {
    readonly kind?: Kind;
    readonly namespace?: string;
    readonly name: string;
    readonly instanceId?: string;
    readonly targets?: readonly TargetSpec[];
  };

/** An entry of `market` in cluster `eu-1`, healthy, ttl 30 s, unless said otherwise. */
export function entryView(spec: EntrySpec): EntryView {
  const { kind, namespace, name, instanceId, targets, aliases, capabilities, detail, metadata, tags, ...rest } = spec;
  const blank = newEntry();
  const large: LargeFields = {
    aliases: aliases ?? blank.aliases,
    capabilities: capabilities ?? blank.capabilities,
    detail: detail ?? blank.detail,
    metadata: metadata ?? blank.metadata,
    tags: tags ?? blank.tags,
  };
  return {
    key: { kind: kind ?? KIND.SERVICE, namespace: namespace ?? "market", name, instanceId: instanceId ?? "i1", clusterId: "eu-1" },
    targets: (targets ?? []).map((target) => ({ name: "", port: 8080, priority: 0, weight: 1, protocol: "tcp", ...target })),
    scope: SCOPE.ZONE,
    ttlMs: 30_000,
    region: "eu",
    zone: "eu-1a",
    nodeId: "n1",
    health: HEALTH.HEALTHY,
    load: undefined,
    read: (field) => large[field],
    ...rest,
  };
}

/** The entry of a node with a gateway: a target of each listener. */
export function gatewayView(
  nodeId: string,
  {
    host = "10.9.0.1",
    grpcHost = host,
    zones = "waymark",
    health = HEALTH.HEALTHY,
  }: Partial<Record<"host" | "grpcHost" | "zones", string>> & { readonly health?: EntryView["health"] },
): EntryView {
  const targets = [
    { name: "grpc", host: grpcHost, port: 17_420 },
    { name: "dns", host, port: 53, protocol: "udp" },
  ];
  return {
    ...entryView({ kind: KIND.NODE, namespace: "discovery.nodes", name: nodeId, targets, metadata: { [DNS_ZONES_KEY]: zones } }),
    health,
  };
}

/** The entry of a node: in `discovery.nodes`, under its own id. */
export function nodeView(nodeId: string, advertisedUrls: readonly string[]): EntryView {
  const detail = { case: "node" as const, value: { ...newNodeDetail(), advertisedUrls } };
  return entryView({ kind: KIND.NODE, namespace: "discovery.nodes", name: nodeId, detail });
}
