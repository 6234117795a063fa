/** How enums, targets and entries are written on the command line. */
import { KIND_WORDS } from "../../gen/waymark/catalog/v1/entry_kinds.ts";
import { type Entry, type EntryKey, EntryKind, HealthStatus, Scope, type Target } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { PeerStatus } from "../../gen/waymark/catalog/v1/peer_pb.js";
import { LinkState, OriginState, PeerEventKind, PeerEventPath } from "../../gen/waymark/control/v1/peer_pb.js";
import { ResolvePolicy } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { Act } from "../../gen/waymark/options/v1/options_pb.js";
import { AuditFault, AuditKind, AuditOutcome, ChangeEffect, RuleChangeKind } from "../../gen/waymark/policy/v1/policy_pb.js";
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

const PEER_STATUSES: Readonly<Record<string, PeerStatus>> = {
  alive: PeerStatus.ALIVE,
  suspect: PeerStatus.SUSPECT,
  left: PeerStatus.LEFT,
  dead: PeerStatus.DEAD,
};
const EVENT_KINDS: Readonly<Record<string, PeerEventKind>> = {
  alive: PeerEventKind.ALIVE,
  suspect: PeerEventKind.SUSPECT,
  left: PeerEventKind.LEFT,
  dead: PeerEventKind.DEAD,
};
const EVENT_PATHS: Readonly<Record<string, PeerEventPath>> = {
  direct: PeerEventPath.DIRECT,
  indirect: PeerEventPath.INDIRECT,
  gossip: PeerEventPath.GOSSIP,
  table: PeerEventPath.TABLE,
  timeout: PeerEventPath.TIMEOUT,
};
const ORIGIN_STATES: Readonly<Record<string, OriginState>> = {
  live: OriginState.LIVE,
  orphaned: OriginState.ORPHANED,
  hidden: OriginState.HIDDEN,
  absent: OriginState.ABSENT,
};
const LINK_STATES: Readonly<Record<string, LinkState>> = {
  opening: LinkState.OPENING,
  greeting: LinkState.GREETING,
  up: LinkState.UP,
  ending: LinkState.ENDING,
};

const ACTS: Readonly<Record<string, Act>> = {
  register: Act.REGISTER,
  ingest: Act.INGEST,
  query: Act.QUERY,
  watch: Act.WATCH,
  "export-summary": Act.EXPORT_SUMMARY,
  admin: Act.ADMIN,
};
const EFFECTS: Readonly<Record<string, ChangeEffect>> = {
  hide: ChangeEffect.HIDE,
  show: ChangeEffect.SHOW,
  withdraw: ChangeEffect.WITHDRAW,
};
const RULE_CHANGES: Readonly<Record<string, RuleChangeKind>> = {
  added: RuleChangeKind.ADDED,
  removed: RuleChangeKind.REMOVED,
  changed: RuleChangeKind.CHANGED,
};
const AUDIT_KINDS: Readonly<Record<string, AuditKind>> = {
  access: AuditKind.ACCESS,
  policy: AuditKind.POLICY,
  admin: AuditKind.ADMIN,
};
const AUDIT_OUTCOMES: Readonly<Record<string, AuditOutcome>> = {
  allowed: AuditOutcome.ALLOWED,
  denied: AuditOutcome.DENIED,
  noted: AuditOutcome.NOTED,
};
const AUDIT_FAULTS: Readonly<Record<string, AuditFault>> = {
  "": AuditFault.NONE,
  altered: AuditFault.ALTERED,
  missing: AuditFault.MISSING,
  reordered: AuditFault.REORDERED,
  truncated_head: AuditFault.TRUNCATED_HEAD,
  truncated_tail: AuditFault.TRUNCATED_TAIL,
};

/** The enum value of a word. commander has checked the word against the choices of the flag; an absent word is the enum's zero. */
export const kindOf = (word: string | undefined): EntryKind => KINDS[word ?? ""] ?? EntryKind.UNSPECIFIED;
export const scopeOf = (word: string | undefined): Scope => SCOPES[word ?? ""] ?? Scope.UNSPECIFIED;
export const healthOf = (word: string | undefined): HealthStatus => HEALTHS[word ?? ""] ?? HealthStatus.UNSPECIFIED;
export const policyOf = (word: string | undefined): ResolvePolicy => POLICIES[word ?? ""] ?? ResolvePolicy.UNSPECIFIED;

export const actOf = (word: string): Act => ACTS[word] ?? Act.UNSPECIFIED;
export const peerStatusOf = (word: string): PeerStatus => PEER_STATUSES[word] ?? PeerStatus.UNSPECIFIED;

function wordOf(words: Readonly<Record<string, number>>, value: number): string {
  // A value that only a newer server knows is shown as its number.
  return Object.entries(words).find(([, known]) => known === value)?.[0] ?? (value === 0 ? "" : String(value));
}

const kindWord = (kind: EntryKind): string => wordOf(KINDS, kind);
export const scopeWord = (scope: Scope): string => wordOf(SCOPES, scope);
export const healthWord = (health: HealthStatus): string => wordOf(HEALTHS, health);

export const peerStatusWord = (status: PeerStatus): string => wordOf(PEER_STATUSES, status);
export const eventKindWord = (kind: PeerEventKind): string => wordOf(EVENT_KINDS, kind);
export const eventPathWord = (path: PeerEventPath): string => wordOf(EVENT_PATHS, path);
export const originStateWord = (state: OriginState): string => wordOf(ORIGIN_STATES, state);
export const linkStateWord = (state: LinkState): string => wordOf(LINK_STATES, state);

export const effectWord = (effect: ChangeEffect): string => wordOf(EFFECTS, effect);
export const ruleChangeWord = (kind: RuleChangeKind): string => wordOf(RULE_CHANGES, kind);
export const auditKindWord = (kind: AuditKind): string => wordOf(AUDIT_KINDS, kind);
export const auditOutcomeWord = (outcome: AuditOutcome): string => wordOf(AUDIT_OUTCOMES, outcome);
/** Empty for a log that is intact. */
export const auditFaultWord = (fault: AuditFault): string => wordOf(AUDIT_FAULTS, fault);

/** `host:port/protocol`, with brackets around an IPv6 address. */
export function targetText({ host, port, protocol }: Target): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}${protocol === "" ? "" : `/${protocol}`}`;
}

/** `namespace/name/instance`, for messages. */
export function keyWords(key: EntryKey | undefined): string {
  return key === undefined ? "" : `${key.namespace} ${key.name} ${key.instanceId}`;
}

/** Columns of a list of entries. */
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
