/** Words people type and read for the contract's enums. */
import { KIND_WORDS } from "../../gen/waymark/catalog/v1/entry_kinds.ts";
import { type Entry, type EntryKey, EntryKind, HealthStatus, Scope, type Target } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { ResolvePolicy } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { Column } from "./output.ts";

/** Kinds are numbered from 1, in the order of their words. */
const KINDS: Readonly<Record<string, EntryKind>> = Object.fromEntries(KIND_WORDS.map((word, i) => [word, i + 1]));
const SCOPES: Readonly<Record<string, Scope>> = { local: Scope.LOCAL, zone: Scope.ZONE, region: Scope.REGION, global: Scope.GLOBAL };
const HEALTHS: Readonly<Record<string, HealthStatus>> = {
  healthy: HealthStatus.HEALTHY,
  degraded: HealthStatus.DEGRADED,
  critical: HealthStatus.CRITICAL,
  maintenance: HealthStatus.MAINTENANCE,
  orphaned: HealthStatus.ORPHANED,
};
const POLICIES: Readonly<Record<string, ResolvePolicy>> = {
  "load-aware": ResolvePolicy.LOAD_AWARE,
  "round-robin": ResolvePolicy.ROUND_ROBIN,
  random: ResolvePolicy.RANDOM,
  hash: ResolvePolicy.HASH,
};

/** The words were checked against the verb's choices; an absent one is the enum's zero. */
export const kindOf = (word: string | undefined): EntryKind => KINDS[word ?? ""] ?? EntryKind.UNSPECIFIED;
export const scopeOf = (word: string | undefined): Scope => SCOPES[word ?? ""] ?? Scope.UNSPECIFIED;
export const healthOf = (word: string | undefined): HealthStatus => HEALTHS[word ?? ""] ?? HealthStatus.UNSPECIFIED;
export const policyOf = (word: string | undefined): ResolvePolicy => POLICIES[word ?? ""] ?? ResolvePolicy.UNSPECIFIED;

function wordOf(words: Readonly<Record<string, number>>, value: number): string {
  // A newer server's value is shown as its number.
  return Object.entries(words).find(([, known]) => known === value)?.[0] ?? (value === 0 ? "" : String(value));
}

const kindWord = (kind: EntryKind): string => wordOf(KINDS, kind);
export const scopeWord = (scope: Scope): string => wordOf(SCOPES, scope);
export const healthWord = (health: HealthStatus): string => wordOf(HEALTHS, health);

/** `host:port/protocol`, with brackets around an IPv6 address. */
export function targetText({ host, port, protocol }: Target): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}${protocol === "" ? "" : `/${protocol}`}`;
}

/** `namespace/name/instance`, for messages. */
export function keyWords(key: EntryKey | undefined): string {
  return key === undefined ? "" : `${key.namespace} ${key.name} ${key.instanceId}`;
}

/** How a list of entries looks. */
export const ENTRY_COLUMNS: readonly Column<Entry>[] = [
  { title: "NAMESPACE", stored: ({ key }) => key?.namespace ?? "" },
  { title: "NAME", stored: ({ key }) => key?.name ?? "" },
  { title: "KIND", stored: ({ key }) => kindWord(key?.kind ?? EntryKind.UNSPECIFIED) },
  { title: "INSTANCE", stored: ({ key }) => key?.instanceId ?? "" },
  { title: "HEALTH", stored: ({ health }) => healthWord(health) },
  { title: "SCOPE", isWide: true, stored: ({ scope }) => scopeWord(scope) },
  { title: "CLUSTER", isWide: true, stored: ({ key }) => key?.clusterId ?? "" },
  { title: "ZONE", isWide: true, stored: ({ zone }) => zone },
  { title: "NODE", isWide: true, stored: ({ nodeId }) => nodeId },
  { title: "TAGS", isWide: true, stored: ({ tags }) => tags.join(",") },
  { title: "TARGETS", stored: ({ targets }) => targets.map(targetText).join(", ") },
];
