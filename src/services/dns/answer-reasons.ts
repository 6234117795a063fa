/** What decided an answer of DNS, for people: name, alias, policy, health, TTL and maintenance. Nothing hidden is told to a caller that may not know it. */

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
  /** Records of the answer: fewer than the plan has where the view has a limit. */
  readonly shownCount: number;
  /** Whether the caller may know what is hidden from the viewer. */
  readonly isOperator: boolean;
}

export interface ReasonSources {
  readonly catalog: DnsCatalog;
  readonly settings: DnsSettings;
  readonly reads: Pick<CatalogReads, "verdict">;
  readonly nowWallMs: number;
}

/** Most entries in maintenance that are named. */
const MAX_NAMED = 20;

type ReasonTopic = "alias" | "maintenance" | "name" | "policy" | "tier" | "ttl" | "view";

export interface AnswerReason {
  readonly topic: ReasonTopic;
  readonly detail: string;
}

/** The facts that the answer rests on. Throws as the catalog does where something is not known yet. */
export function reasonsOf(told: ExplainedAnswer, sources: ReasonSources): readonly AnswerReason[] {
  const { question, plan } = told;
  const { settings, catalog, nowWallMs } = sources;
  const reasons: AnswerReason[] = [];
  const say = (topic: ReasonTopic, detail: string) => reasons.push({ topic, detail });
  const cnames = plan.groups.flat().filter((record) => record.type === "CNAME");
  for (const { name, data } of cnames) say("alias", `${name} leads to ${data.target}`);
  for (const detail of lostAliasWords(question.name, sources)) say("alias", detail);
  const last = cnames.at(-1)?.data.target.toLowerCase() ?? question.name;
  const reverse = reverseZoneOf(last, settings);
  if (reverse !== undefined) {
    const subject = findReverseSubject(last, reverse, settings, catalog);
    // Only the name of a block has others below it.
    const isEmpty = subject.kind === "empty" && parseReverseName(last) !== "above";
    const words = isEmpty
      ? "has no names now: what is there is in maintenance, or behind healthier entries of its name"
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
  else if (subject.kind === "entries") sayEntries(entriesOf(place.relative, subject, catalog), told, { settings, say, nowWallMs });
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

/** The entries of a name, also those in maintenance, which no answer shows. Of a crowded name a sample. */
function entriesOf(relative: string, subject: DnsSubject & { readonly kind: "entries" }, catalog: DnsCatalog): readonly EntryView[] {
  const name = parseName(relative);
  const thing = thingOf(relative);
  if (thing === undefined) return subject.entries;
  const port = name.form === "located" ? portWord(name.transport, name.port) : undefined;
  const found = catalog.find(thing.kind, thing.namespace, thing.name, port);
  // An alias that is the name of one instance has the form of another name.
  return found.length === 0 ? subject.entries : found;
}

/** A caller that may not know what is hidden is told the same of a hidden namespace as of one that is seen and has nothing. */
function policyWords(namespace: string, { viewer, isOperator }: ExplainedAnswer, { reads }: ReasonSources): readonly string[] {
  if (!isOperator) return [];
  const { allowed, reason, rule } = reads.verdict(viewer, namespace);
  const by = rule === "" ? reason : `${reason}, rule ${rule}`;
  return [`namespace ${namespace} is ${allowed ? "seen by" : "hidden from"} this viewer (${by})`];
}

function subjectWords(subject: DnsSubject, type: string): string {
  switch (subject.kind) {
    case "apex":
      return "is a zone of this server";
    case "entries":
      if (subject.isCluster === true)
        return `${NOTHING_HERE} ${subject.entries[0]?.key.clusterId ?? ""}, with ${counted(subject.targets.length, "target")}`;
      return `shows ${counted(subject.entries.length, "entry", "entries")} with ${counted(subject.targets.length, "target")}`;
    case "address":
      return "is the name of an address";
    case "alias":
      return `is an alias of ${subject.target}`;
    case "list":
      return `lists ${counted(subject.names.items.length, "name")}${subject.names.isCut ? ", and there are more" : ""}`;
    case "empty":
      return `has no ${type} records, but names below it`;
    case "absent":
      return "is nothing that this viewer may see";
  }
}

/** For people. */
const NOTHING_HERE = "has nothing to choose here, and leads to the ingress of cluster";

/** Of services that have a name as an alias, those to which it does not lead, because another name is before it. */
function lostAliasWords(name: string, { catalog, settings }: ReasonSources): readonly string[] {
  const place = placeOf(name, settings);
  // A resolver would have to ask for them, and the answer does not rest on it.
  if (place === undefined || catalog.remoteLookup !== undefined) return [];
  const { relative, zone } = place;
  if (findSubject(relative, zone, catalog, settings).kind === "empty") return [];
  // Thousands of entries of a service may carry it, and where it leads is found by reading them all.
  const services = new Map(catalog.findAlias(relative, zone).map(({ key }) => [`${key.kind} ${key.namespace}/${key.name}`, key]));
  const lost = [...services.values()].filter((key) => !leadsTo(relative, key, zone, { catalog, zones: settings.zones }));
  const names = [...new Set(lost.map((key) => `${key.namespace}/${key.name}`))];
  const rule = "a name of its own is before an alias, and of services with one alias the first in key order";
  return names.map((of) => `${name} is an alias of ${of} too, and does not lead there: ${rule}`);
}

/** Of an alias that leads nowhere, because DNS can carry no name of its entries. */
function unspeltWords(
  { relative, zone }: { readonly relative: string; readonly zone: string },
  { catalog, settings }: ReasonSources,
): string | undefined {
  const [first] = catalog.findAlias(relative, zone);
  if (first === undefined) return undefined;
  const { namespace, name } = first.key;
  const { why } = fullNames(first.key, first.targets.filter(hasPort).map(transportOf), [zone], settings.zones);
  return why === "" ? undefined : `is an alias of ${namespace}/${name}, which DNS cannot carry: ${why}`;
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
}

function sayEntries(
  entries: readonly EntryView[],
  { plan, shownCount }: ExplainedAnswer,
  { settings, say, nowWallMs }: ReasonContext,
): void {
  const counts = new Map<Health, number>();
  for (const { health } of entries) counts.set(health, (counts.get(health) ?? 0) + 1);
  const healths = [...counts].map(([health, count]) => `${count} ${HEALTH_WORDS[health]}`).join(", ");
  const all = counted(plan.groups.flat().length, "record");
  const told = shownCount < plan.groups.flat().length ? `${shownCount} of ${all}, by dns.answer_limit` : all;
  say("tier", `${healths}; the answer has ${told}${plan.isCut === true ? ", and there are more" : ""}`);
  const inUse = entries.filter((entry) => !isDrained(entry));
  if (inUse.length > 0) say("ttl", ttlWords(inUse, plan, settings));
  const drained = entries.filter(isDrained);
  for (const entry of drained.slice(0, MAX_NAMED))
    say("maintenance", `${entry.key.instanceId} is in maintenance: ${heldWords(entry, settings, nowWallMs)}`);
  if (drained.length > MAX_NAMED) say("maintenance", `${drained.length - MAX_NAMED} more are in maintenance`);
}

/** For how long caches may still hold the records of an entry in maintenance. That began when its node changed it last, or before. */
function heldWords({ ttlMs, updatedWallMs }: EntryView, settings: DnsSettings, nowWallMs: number): string {
  const most = ttlSeconds(ttlMs, settings);
  if (updatedWallMs === undefined) return `caches may hold its records for ${most} s after that began`;
  // The clock of its node may be ahead.
  const left = Math.min(most, Math.ceil(most - (nowWallMs - updatedWallMs) / 1000));
  return left > 0 ? `caches may hold its records for ${left} s more` : "no cache may hold its records any more";
}

/** What a cluster says of a service has an end of its own, which no least TTL puts off. */
function clusterTtlWords({ entries }: DnsSubject & { readonly kind: "entries" }, plan: AnswerPlan, settings: DnsSettings): string {
  const ofSet = setTtlSeconds(entries, settings);
  const told = Math.min(ofSet, ...plan.groups.flat().map((record) => record.ttlSeconds));
  if (told < ofSet) return `${told} s: the summary ends then`;
  const isLost = entries.some(({ health }) => health === HEALTH.ORPHANED);
  return `${told} s: ${isLost ? "the cluster is lost, so at most dns.stale_ttl" : "that of the summary, within dns.min_ttl and dns.max_ttl"}`;
}

/** `plan`: undefined where its records are not of these entries. */
function ttlWords(entries: readonly EntryView[], plan: AnswerPlan | undefined, settings: DnsSettings): string {
  const all = entries.map(({ ttlMs }) => ttlMs ?? settings.defaultTtlMs);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const { minTtlMs, maxTtlMs, staleTtlMs } = settings;
  const ofSet = setTtlSeconds(entries, settings);
  const told = (plan?.groups.flat() ?? []).map((record) => record.ttlSeconds);
  const own = told.length === 0 ? ofSet : Math.min(...told);
  const said = least === most ? `${least / 1000} s` : `${least / 1000} s to ${most / 1000} s`;
  const bounds = `within dns.min_ttl ${minTtlMs / 1000} s and dns.max_ttl ${maxTtlMs / 1000} s`;
  const text = `${own} s: the entries say ${said}, ${bounds}`;
  if (own >= ttlSeconds(least, settings)) return text;
  const stale = `${text}; at most dns.stale_ttl ${seconds(staleTtlMs)} s`;
  if (own === ofSet) return `${stale} with an ORPHANED entry`;
  return plan?.extendedError === undefined ? `${text}; of what this resolver fetched ${own} s are left` : `${stale}, because it may be old`;
}
