/**
 * Explains in words how a DNS answer results from name, alias, policy, health, TTL and maintenance. The explanation never reveals hidden data to
 * callers without the right to see it.
 */

import { isControlNamespace } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import { hasPort, portWord, transportOf } from "../../catalog/entry/view.ts";
import { HEALTH, type Health } from "../../catalog/record/record.ts";
import { isDrained } from "../../consumer/health-tiers.ts";
import type { CatalogReads } from "../../discovery/reads.ts";
import { parseName, splitZone } from "../../dns/names/names.ts";
import type { AnswerPlan, QueryQuestion } from "../../dns/plan/answer.ts";
import { findReverseSubject, reverseZoneOf } from "../../dns/plan/reverse.ts";
import type { DnsSettings } from "../../dns/records/record.ts";
import { seconds, setTtlSeconds, ttlSeconds } from "../../dns/records/record.ts";
import { type DnsCatalog, type DnsSubject, findSubject, leadsTo } from "../../dns/subject/subject.ts";
import { parseReverseName } from "../../lib/addresses.ts";
import { counted } from "../../lib/text/visible-text.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { fullNames, thingOf } from "./full-names.ts";
import { typeText } from "./zone-text.ts";

export interface ExplainedAnswer {
  readonly question: QueryQuestion;
  readonly plan: AnswerPlan;
  readonly viewer: Caller;
  /** Number of records in the answer. The number is lower than in the plan if the view has a limit. */
  readonly shownCount: number;
  /** Whether the caller may see data that is hidden from the viewer. */
  readonly isOperator: boolean;
}

export interface ReasonSources {
  readonly catalog: DnsCatalog;
  readonly settings: DnsSettings;
  readonly reads: Pick<CatalogReads, "verdict">;
  readonly nowWallMs: number;
}

/** Largest number of entries in maintenance that are listed. */
const MAX_NAMED = 20;

type ReasonTopic = "alias" | "maintenance" | "name" | "policy" | "tier" | "ttl" | "view";

export interface AnswerReason {
  readonly topic: ReasonTopic;
  readonly detail: string;
}

/** Returns the reasons for the answer. Throws `PendingNameError`, as the catalog does, while data is still being fetched. */
export function reasonsOf(told: ExplainedAnswer, sources: ReasonSources): readonly AnswerReason[] {
  const { question, plan } = told;
  const { settings, catalog, nowWallMs } = sources;
  const reasons: AnswerReason[] = [];
  const say = (topic: ReasonTopic, detail: string) => reasons.push({ topic, detail });
  const cnames = plan.groups.flat().filter((record) => record.type === "CNAME");
  for (const { name, data } of cnames) say("alias", `${name} resolves to ${data.target} (CNAME)`);
  for (const detail of lostAliasWords(question.name, sources)) say("alias", detail);
  const last = cnames.at(-1)?.data.target.toLowerCase() ?? question.name;
  const reverse = reverseZoneOf(last, settings);
  if (reverse !== undefined) {
    const subject = findReverseSubject(last, reverse, settings, catalog);
    // Only a name for an address block has names below it.
    const isEmpty = subject.kind === "empty" && parseReverseName(last) !== "above";
    const words = isEmpty
      ? "currently has no names: its entries are in maintenance, or healthier entries of the same name are preferred"
      : subjectWords(subject, typeText(question.type));
    say("name", `${shown(last)} ${words}`);
    return reasons;
  }
  const place = placeOf(last, settings);
  if (place === undefined) {
    say("name", `${shown(last)} is outside the zones of this server: ${[...settings.zones, ...settings.reverseZones].join(", ")}`);
    return reasons;
  }
  const namespace = namespaceOf(place.relative);
  if (namespace !== undefined) for (const detail of policyWords(namespace, told, sources)) say("policy", detail);
  const subject = findSubject(place.relative, place.zone, catalog, settings);
  const unspelt = subject.kind === "empty" ? unspeltWords(place, sources) : undefined;
  say("name", `${shown(last)} ${unspelt ?? subjectWords(subject, typeText(question.type))}`);
  if (subject.kind === "entries" && subject.isCluster === true) say("ttl", clusterTtlWords(subject, plan, settings));
  else if (subject.kind === "entries") sayEntries(entriesOf(place.relative, subject, catalog), told, { settings, say, nowWallMs, place });
  else if (subject.kind === "alias") say("ttl", ttlWords(subject.aliasOwners, undefined, settings));
  return reasons;
}

function placeOf(name: string, settings: DnsSettings): { readonly zone: string; readonly relative: string } | undefined {
  const place = splitZone(name, settings.zones);
  const [zone] = settings.zones;
  return place === undefined && settings.allowExternalNames && zone !== undefined ? { zone, relative: name } : place;
}

function shown(name: string): string {
  return name === "" ? "the root" : name;
}

function namespaceOf(relative: string): string | undefined {
  const thing = thingOf(relative);
  return thing === undefined || isControlNamespace(thing.namespace) ? undefined : thing.namespace;
}

/**
 * Returns the entries of a name, including entries in maintenance, which are never in an answer. For a name with too many entries, returns a sample.
 */
function entriesOf(relative: string, subject: DnsSubject & { readonly kind: "entries" }, catalog: DnsCatalog): readonly EntryView[] {
  const name = parseName(relative);
  const thing = thingOf(relative);
  if (thing === undefined) return subject.entries;
  const port = name.form === "located" ? portWord(name.transport, name.port) : undefined;
  const found = catalog.find(thing.kind, thing.namespace, thing.name, port);
  // The name of an instance can also be an alias, which then has the form of another name.
  return found.length === 0 ? subject.entries : found;
}

/** Returns nothing for callers that are not operators, so that they cannot distinguish a hidden namespace from a visible empty one. */
function policyWords(namespace: string, { viewer, isOperator }: ExplainedAnswer, { reads }: ReasonSources): readonly string[] {
  if (!isOperator) return [];
  const { allowed, reason, rule } = reads.verdict({ ...viewer, hasOperatorView: false }, namespace);
  const by = rule === "" ? reason : `${reason}, rule ${rule}`;
  return [`namespace ${namespace} is ${allowed ? "visible to" : "hidden from"} this viewer (${by})`];
}

function subjectWords(subject: DnsSubject, type: string): string {
  switch (subject.kind) {
    case "apex":
      return "is a zone of this server";
    case "entries":
      if (subject.isCluster === true)
        return `${NOTHING_HERE} ${subject.entries[0]?.key.clusterId ?? ""}, with ${counted(subject.targets.length, "target")}`;
      return `resolves to ${counted(subject.entries.length, "entry", "entries")} with ${counted(subject.targets.length, "target")}`;
    case "address":
      return "is the name of an address";
    case "alias":
      return `is an alias of ${subject.target}`;
    case "list":
      return `lists ${counted(subject.names.items.length, "name")}${subject.names.isCut ? ", and there are more" : ""}`;
    case "empty":
      return `has no ${type} records, but there are names below it`;
    case "absent":
      return "does not exist, or is hidden from this viewer";
  }
}

const NOTHING_HERE = "has no usable entry in this catalog, and resolves to the ingress of cluster";

/** Lists the services that have the name as an alias although it does not resolve to them, because another name takes precedence. */
function lostAliasWords(name: string, { catalog, settings }: ReasonSources): readonly string[] {
  const place = placeOf(name, settings);
  // A resolver would have to fetch the aliases, and the answer itself does not need them.
  if (place === undefined || catalog.remoteLookup !== undefined) return [];
  const { relative, zone } = place;
  if (findSubject(relative, zone, catalog, settings).kind === "empty") return [];
  // Thousands of entries of a service may have the alias, and `leadsTo` reads all of them, so this function calls it only once per service.
  const services = new Map(catalog.findAlias(relative, zone).map(({ key }) => [`${key.kind} ${key.namespace}/${key.name}`, key]));
  const lost = [...services.values()].filter((key) => !leadsTo(relative, key, zone, { catalog, zones: settings.zones }));
  const names = [...new Set(lost.map((key) => `${key.namespace}/${key.name}`))];
  const rule = "a registered name takes precedence over an alias, and if services share an alias, the first in key order is used";
  return names.map((of) => `${name} is also an alias of ${of}, but does not resolve to it: ${rule}`);
}

/** Describes an alias that does not resolve to anything, because its entries do not have a valid DNS name. Undefined for other names. */
function unspeltWords(
  { relative, zone }: { readonly relative: string; readonly zone: string },
  { catalog, settings }: ReasonSources,
): string | undefined {
  const [first] = catalog.findAlias(relative, zone);
  if (first === undefined) return undefined;
  const { namespace, name } = first.key;
  const { why } = fullNames(first.key, first.targets.filter(hasPort).map(transportOf), [zone], settings.zones);
  return why === "" ? undefined : `is an alias of ${namespace}/${name}, which has no valid DNS name: ${why}`;
}

const HEALTH_WORDS: Readonly<Record<Health, string>> = {
  [HEALTH.UNSET]: "of unknown health",
  [HEALTH.HEALTHY]: "HEALTHY",
  [HEALTH.DEGRADED]: "DEGRADED",
  [HEALTH.CRITICAL]: "CRITICAL",
  [HEALTH.MAINTENANCE]: "MAINTENANCE",
  [HEALTH.ORPHANED]: "ORPHANED",
};

interface ReasonContext {
  readonly settings: DnsSettings;
  readonly nowWallMs: number;
  readonly say: (topic: ReasonTopic, detail: string) => void;
  readonly place: { readonly zone: string; readonly relative: string };
}

/** Returns the names of the SRV records of a service. All entries of a service have the same name, so the first entry with ports is enough. */
function srvNames(entries: readonly EntryView[], zone: string, { zones }: DnsSettings): readonly string[] {
  const first = entries.find(({ targets }) => targets.some(hasPort));
  if (first === undefined) return [];
  const transports = [...new Set(first.targets.filter(hasPort).map(transportOf))];
  return fullNames(first.key, transports, [zone], zones).fqdns.filter((name) => name.startsWith("_"));
}

function sayEntries(
  entries: readonly EntryView[],
  { plan, shownCount, question }: ExplainedAnswer,
  { settings, say, nowWallMs, place }: ReasonContext,
): void {
  const counts = new Map<Health, number>();
  for (const { health } of entries) counts.set(health, (counts.get(health) ?? 0) + 1);
  const healths = [...counts].map(([health, count]) => `${count} ${HEALTH_WORDS[health]}`).join(", ");
  const all = counted(plan.groups.flat().length, "record");
  const told = shownCount < plan.groups.flat().length ? `${shownCount} of ${all} (limited by dns.answer_limit)` : all;
  say("tier", `${healths}; the answer has ${told}${plan.isCut === true ? ", and more records exist" : ""}`);
  if (typeText(question.type) === "SRV" && parseName(place.relative).form === "direct")
    for (const srvName of srvNames(entries, place.zone, settings)) say("name", `SRV records are at ${srvName}`);
  const inUse = entries.filter((entry) => !isDrained(entry));
  if (inUse.length > 0) say("ttl", ttlWords(inUse, plan, settings));
  const drained = entries.filter(isDrained);
  for (const entry of drained.slice(0, MAX_NAMED))
    say("maintenance", `${entry.key.instanceId} is in maintenance: ${heldWords(entry, settings, nowWallMs)}`);
  if (drained.length > MAX_NAMED) say("maintenance", `${drained.length - MAX_NAMED} more are in maintenance`);
}

/**
 * Describes how long caches can still contain the records of an entry in maintenance. Maintenance began when the entry's node last changed it, or
 * earlier.
 */
function heldWords({ ttlMs, updatedWallMs }: EntryView, settings: DnsSettings, nowWallMs: number): string {
  const most = ttlSeconds(ttlMs, settings);
  if (updatedWallMs === undefined) return `caches may keep its records for ${most} s after maintenance began`;
  // The clock of the entry's node may be ahead.
  const left = Math.min(most, Math.ceil(most - (nowWallMs - updatedWallMs) / 1000));
  return left > 0 ? `caches may keep its records for another ${left} s` : "its records have expired from all caches";
}

/** Describes the TTL of an answer from a summary. A summary can expire earlier than this TTL, and dns.min_ttl does not extend its lifetime. */
function clusterTtlWords({ entries }: DnsSubject & { readonly kind: "entries" }, plan: AnswerPlan, settings: DnsSettings): string {
  const ofSet = setTtlSeconds(entries, settings);
  const told = Math.min(ofSet, ...plan.groups.flat().map((record) => record.ttlSeconds));
  if (told < ofSet) return `${told} s: the summary expires at that time`;
  const isLost = entries.some(({ health }) => health === HEALTH.ORPHANED);
  return `${told} s: ${isLost ? "at most dns.stale_ttl, because the cluster is lost" : "the TTL of the summary, bounded by dns.min_ttl and dns.max_ttl"}`;
}

/** Describes the TTL of the entries. `plan` is undefined if its records do not come from these entries. */
function ttlWords(entries: readonly EntryView[], plan: AnswerPlan | undefined, settings: DnsSettings): string {
  const all = entries.map(({ ttlMs }) => ttlMs ?? settings.defaultTtlMs);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const { minTtlMs, maxTtlMs, staleTtlMs } = settings;
  const ofSet = setTtlSeconds(entries, settings);
  const told = (plan?.groups.flat() ?? []).map((record) => record.ttlSeconds);
  const own = told.length === 0 ? ofSet : Math.min(...told);
  const said = least === most ? `${least / 1000} s` : `${least / 1000} s to ${most / 1000} s`;
  const bounds = `bounded by dns.min_ttl ${minTtlMs / 1000} s and dns.max_ttl ${maxTtlMs / 1000} s`;
  const text = `${own} s: the TTL of the entries is ${said}, ${bounds}`;
  if (own >= ttlSeconds(least, settings)) return text;
  const stale = `${text}; at most dns.stale_ttl ${seconds(staleTtlMs)} s`;
  if (own === ofSet) return `${stale}, because an entry is ORPHANED`;
  return plan?.extendedError === undefined
    ? `${text}; the data fetched by this resolver expires in ${own} s`
    : `${stale}, because the data may be stale`;
}
