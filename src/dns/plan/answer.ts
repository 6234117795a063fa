/** Builds answers: turns a question and the catalog, as its viewer sees it, into a response code and records (semantics.md, DNS). */
import { WaymarkError } from "../../lib/errors.ts";
import { formatName, splitZone, zoneAbove } from "../names/names.ts";
import { addressRecord, hostNameRecord } from "../records/addresses.ts";
import { negativeSoa } from "../records/apex.ts";
import { nextName } from "../records/canonical.ts";
import { digestRecords } from "../records/dnssec.ts";
import type { DnsRecord, DnsSettings, RecordContext, RecordOf, RecordType } from "../records/record.ts";
import { seconds, setTtlSeconds, ttlSeconds } from "../records/record.ts";
import { areSampled, dataBytes, findRecordType, namedHost, RECORDS } from "../records/records.ts";
import { areTextsCut } from "../records/text.ts";
import { type DnsCatalog, type DnsSubject, findSubject } from "../subject/subject.ts";
import { EXTENDED_ERROR, type ExtendedError } from "./extended-errors.ts";
import { type BestTiers, findReverseSubject, reverseZoneOf } from "./reverse.ts";

/** Response codes as on the wire (IANA, DNS Parameters). BADVERS and BADCOOKIE exist only with EDNS. */
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  NOTAUTH: 9,
  BADVERS: 16,
  BADCOOKIE: 23,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const CLASS_IN = 1;
const TYPE_ANY = 255;
/** The NSEC type that marks a nonexistent name (RFC 9824, 3.1). */
const TYPE_NXNAME = 128;
/** IXFR and AXFR queries without a key. Zones are transferred only to clients that sign their requests, and transfers do not use plans. */
const REFUSED_TYPES: ReadonlySet<number> = new Set([251, 252]);
/** In a plan key, represents all types that have no records of their own. Type 0 is reserved (IANA, DNS Parameters). */
const NO_TYPE = 0;
const PLANNED_TYPES = [...Object.values(RECORDS).map(({ code }) => code), TYPE_ANY, TYPE_NXNAME, ...REFUSED_TYPES];
/** Contains 1 at the number of each type that has its own plans. */
const IS_PLANNED = new Uint8Array(1 + Math.max(...PLANNED_TYPES));
for (const type of PLANNED_TYPES) IS_PLANNED[type] = 1;
/** Maximum number of CNAMEs in one answer. An alias needs one; host names that point to each other may need more. */
const MAX_CHAIN = 8;

/** Maximum number of entries and targets read for the additional section of one plan. Clients must query any remaining addresses themselves. */
const MAX_GLUE_COST = 4_096;

/** The question of a query. `name` is in lower case, without the final dot. Characters that cannot occur in catalog names are written as `\DDD`. */
export interface QueryQuestion {
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Whether the client requested DNSSEC records. A negative answer must then contain a denial record. */
  readonly isSigned?: boolean;
}

/**
 * An answer before the order of its records is drawn. The plan is the same for all queries until its source data changes, so it can be cached. The
 * encoder fills in the serial of SOA records.
 */
export interface AnswerPlan {
  readonly rcode: Rcode;
  /** Extended DNS error that explains the response code (RFC 8914). */
  readonly extendedError?: ExtendedError | undefined;
  readonly isAuthoritative: boolean;
  /** Groups in order. Each group is shuffled for every response, so that clients that always use the first record are spread across all records. */
  readonly groups: readonly (readonly DnsRecord[])[];
  readonly authority: readonly DnsRecord[];
  /** Whether the records are incomplete, so that TC is set over TCP as well. */
  readonly isCut?: boolean;
  /** Records for the additional section, keyed by the target name in the answer. */
  readonly glue: ReadonlyMap<string, readonly DnsRecord[]>;
  /** Whether several services own an alias in the chain, so that the first one in key order was used. */
  readonly isContested?: boolean;
  /** Set when the plan was signed. The SOA is not signed, because its serial is not known yet. */
  readonly signed?: SignedPlanFields | undefined;
}

/** The signature data of a signed plan. */
export interface SignedPlanFields {
  /** When the signatures were made. */
  readonly sinceMs: number;
  readonly soa: RecordOf<"SOA"> | undefined;
}

/**
 * Returns a shared plan: either for the canonical name of an alias and the same type, or for the denial of a name. Returns undefined when no plan can
 * be shared. A shared plan does not start with a CNAME.
 */
export type AliasTargetPlan = (question: QueryQuestion) => AnswerPlan | undefined;

/**
 * Returns the type under which a question is planned. All unsupported types share one number. Building a plan can cost a thousand times more than
 * sending an answer, so clients must not be able to trigger a separate plan for each of 65,536 types. HOT: runs per question.
 */
export function plannedType(type: number): number {
  return IS_PLANNED[type] === 1 ? type : NO_TYPE;
}

/**
 * Plans the answer to a question. The cost is one lookup and its entries for each name in the CNAME chain, except names answered by a shared plan.
 */
export function planAnswer(question: QueryQuestion, catalog: DnsCatalog, settings: DnsSettings, endingOf?: AliasTargetPlan): AnswerPlan {
  if (catalog.takeLeftMs === undefined) return planOf(question, { catalog, settings, endingOf });
  // Discards the lifetime left over from a plan that could not be built.
  catalog.takeLeftMs();
  let leftMs = Number.POSITIVE_INFINITY;
  const takeLeft = () => {
    leftMs = Math.min(leftMs, catalog.takeLeftMs?.() ?? leftMs);
  };
  const ending = (next: QueryQuestion): AnswerPlan | undefined => {
    // The lifetime is read before the shared plan is built, because that plan has its own lifetime.
    takeLeft();
    return endingOf?.(next);
  };
  const plan = planOf(question, { catalog, settings, endingOf: endingOf && ending });
  takeLeft();
  if (leftMs === Number.POSITIVE_INFINITY) return plan;
  if (leftMs > 0) return shortened(plan, Math.floor(leftMs / 1000));
  return { ...shortened(plan, Math.floor(settings.staleTtlMs / 1000)), extendedError: EXTENDED_ERROR.STALE_ANSWER };
}

/** Returns the plan with all TTLs limited to `mostSeconds`. */
function shortened(plan: AnswerPlan, mostSeconds: number): AnswerPlan {
  const short = (records: readonly DnsRecord[]) =>
    records.map((record) => (record.ttlSeconds > mostSeconds ? { ...record, ttlSeconds: mostSeconds } : record));
  const glue = new Map([...plan.glue].map(([host, records]) => [host, short(records)] as const));
  return { ...plan, groups: plan.groups.map(short), authority: short(plan.authority), glue };
}

function planOf(question: QueryQuestion, sources: PlanSources): AnswerPlan {
  const { settings } = sources;
  if (question.class !== CLASS_IN || REFUSED_TYPES.has(question.type)) return failure(RCODE.REFUSED);
  if (question.type === TYPE_NXNAME && settings.zoneKeys !== undefined)
    return { ...failure(RCODE.FORMERR), extendedError: EXTENDED_ERROR.INVALID_QUERY_TYPE };
  const above = question.type === RECORDS.DS.code ? cutZone(question.name, settings) : undefined;
  if (above !== undefined) return planCut(question, above, sources);
  const reverse = reverseZoneOf(question.name, settings);
  if (reverse !== undefined) return planReverse(question, reverse, sources);
  const place = splitZone(question.name, settings.zones);
  if (place !== undefined) return planInZone(question, place, sources);
  const zone = settings.zones[0];
  if (zone === undefined || !settings.allowExternalNames || question.name === "") return failure(RCODE.REFUSED);
  const plan = planInZone({ ...question, isSigned: false }, { zone, relative: question.name }, sources);
  // A name outside our zones may exist on other servers, so the answer is not NXDOMAIN.
  return plan.rcode === RCODE.NXDOMAIN ? failure(RCODE.REFUSED) : plan;
}

/** Returns the parent zone if a child zone starts at this name (a zone cut). */
function cutZone(name: string, { zones, reverseZones }: DnsSettings): string | undefined {
  const all = [...zones, ...reverseZones];
  return all.includes(name) ? zoneAbove(name, all) : undefined;
}

/** At a zone cut, the parent zone answers only DS queries (RFC 4035, 3.1.4.1). */
function planCut(question: QueryQuestion, zone: string, { catalog, settings }: PlanSources): AnswerPlan {
  const context: RecordContext = { owner: question.name, zone, locality: catalog.view.locality, settings };
  const digests = digestRecords(question.name, settings);
  if (digests.length > 0) return positive([digests], context, undefined);
  return negative(RCODE.NOERROR, { groups: [], context, denied: [] });
}

/** Returns a plan without records. */
export function failure(rcode: Rcode): AnswerPlan {
  return { rcode, isAuthoritative: false, groups: [], authority: [], glue: new Map() };
}

interface PlanSources {
  readonly catalog: DnsCatalog;
  readonly settings: DnsSettings;
  readonly endingOf: AliasTargetPlan | undefined;
}

interface RelativeName {
  readonly zone: string;
  readonly relative: string;
}

function planInZone(question: QueryQuestion, place: RelativeName, sources: PlanSources): AnswerPlan {
  let isContested = false;
  const plan = planChain(question, place, sources, (subject) => {
    if (subject.kind === "alias" && subject.isContested) isContested = true;
  });
  return isContested ? { ...plan, isContested } : plan;
}

interface SetSources extends Omit<PlanSources, "endingOf"> {
  /** Called for a name if its RRsets do not include all of its records. */
  readonly onCrowded?: ((owner: string) => void) | undefined;
  readonly tiers?: BestTiers | undefined;
}

/** Yields all RRsets of the name itself, type by type. Answers for the name are drawn from them. */
export function* setsAt(owner: string, zone: string, { catalog, settings, onCrowded, tiers }: SetSources): Generator<readonly DnsRecord[]> {
  const context: RecordContext = { owner, zone, locality: catalog.view.locality, settings };
  const isReverse = settings.reverseZones.includes(zone);
  const subject = isReverse
    ? findReverseSubject(owner, zone, settings, catalog, tiers)
    : findSubject(owner === zone ? "" : owner.slice(0, -zone.length - 1), zone, catalog, settings);
  if (subject.kind === "entries" && (subject.cut !== "nothing" || areTextsCut(subject))) onCrowded?.(owner);
  const canonical = isReverse ? undefined : canonicalRecord(subject, context);
  if (canonical !== undefined) yield [canonical];
  // All RRsets are built in one event-loop turn: TXT reads large fields, which are only available in the turn in which the entries were read.
  else yield* Object.values(RECORDS).map(({ code }) => recordsOf(findRecordType(code), subject, context).flat());
}

/** Plans an answer in a reverse zone. Names in reverse zones are neither aliases nor targets of aliases. */
function planReverse(question: QueryQuestion, zone: string, { catalog, settings, endingOf }: PlanSources): AnswerPlan {
  const context: RecordContext = { owner: question.name, zone, locality: catalog.view.locality, settings };
  const subject = findReverseSubject(question.name, zone, settings, catalog);
  if (subject.kind === "absent") return absentPlan(question, subject, { groups: [], context });
  return ownPlan(question, subject, { context, sources: { catalog, settings, endingOf }, groups: [] });
}

/** Plans the subject's records of the requested type. `groups` contains the CNAMEs that precede them. */
function ownPlan(
  question: QueryQuestion,
  subject: DnsSubject,
  { context, sources, groups }: { readonly context: RecordContext; readonly sources: PlanSources; readonly groups: AnswerPlan["groups"] },
): AnswerPlan {
  const found = foundOf(question, subject, context);
  if (found.length === 0) {
    // HOT: also runs for unknown types. Building a denial reads all types, so all questions for a name share one denial and its signature.
    const isShared = question.isSigned === true;
    const shared = isShared ? sources.endingOf?.({ ...question, name: context.owner, type: RECORDS.NSEC.code }) : undefined;
    return negative(RCODE.NOERROR, { groups, context, denied: shared?.groups.flat() ?? deniedBy(question, subject, context) });
  }
  const isSigned = question.isSigned === true;
  const told = positive([...groups, ...found], context, isSigned ? undefined : sources.catalog);
  // The host names in a list of instances do not need addresses.
  const plan = isSigned || question.type !== RECORDS.PTR.code ? told : { ...told, glue: recordsOfInstances(subject, context) };
  return isPart(question, subject) ? cutOff(plan, question, sources.catalog.view) : plan;
}

/**
 * Marks a plan that contains only part of the requested RRset, so that TC is set. With an answer limit, an incomplete RRset is intended and TC is not
 * set. Signed answers still set TC, because a signature covers the complete RRset.
 */
export function cutOff(plan: AnswerPlan, { isSigned }: Pick<QueryQuestion, "isSigned">, { answerLimit }: DnsCatalog["view"]): AnswerPlan {
  const isSample = isSigned !== true && answerLimit !== undefined && areSampled(plan.groups.at(-1) ?? []);
  return isSample ? plan : { ...plan, isCut: true };
}

/** Follows CNAMEs within our zones and yields the subject of each name in the chain. */
function planChain(
  question: QueryQuestion,
  place: RelativeName,
  sources: PlanSources,
  onSubject: (subject: DnsSubject) => void,
): AnswerPlan {
  const { catalog, settings, endingOf } = sources;
  const groups: (readonly DnsRecord[])[] = [];
  let { zone, relative } = place;
  let owner = question.name;
  const visited = new Set<string>();
  for (let step = 1; ; step++) {
    const context: RecordContext = { owner, zone, locality: catalog.view.locality, settings };
    const isOfTexts = question.type === RECORDS.TXT.code;
    const subject = findSubject(relative, zone, isOfTexts ? (catalog.texts ?? catalog) : catalog, settings);
    onSubject(subject);
    if (subject.kind === "absent") return absentPlan(question, subject, { groups, context });
    // A name with a CNAME has no other data (RFC 2181, 10.1), so the CNAME answers every type.
    const canonical = canonicalRecord(subject, context);
    if (canonical === undefined) return ownPlan(question, subject, { context, sources, groups });
    groups.push([canonical]);
    visited.add(owner);
    owner = canonical.data.target.toLowerCase();
    // RFC 1034, 4.3.2: the CNAME is not followed for questions of type CNAME or ANY.
    const isLed = question.type !== RECORDS.CNAME.code && question.type !== TYPE_ANY;
    const next = isLed ? splitZone(owner, settings.zones) : undefined;
    // Outside our zones the querying resolver follows the chain itself. That resolver must also detect loops between host names.
    if (next === undefined || visited.has(owner) || step === MAX_CHAIN)
      return positive(groups, context, question.isSigned === true ? undefined : catalog);
    // HOT: runs when no plan is cached. Thousands of aliases of one service share one copy of the records.
    const ending = subject.kind === "alias" ? endingOf?.({ ...question, name: owner }) : undefined;
    if (ending !== undefined) return { ...ending, groups: [...groups, ...ending.groups] };
    ({ zone, relative } = next);
  }
}

function foundOf({ type, isSigned }: QueryQuestion, subject: DnsSubject, context: RecordContext): (readonly DnsRecord[])[] {
  if (type === TYPE_ANY) return minimalAny(subject, context);
  return isSigned === true && isOfDenial(type) ? [[denial(subject, context)]] : recordsOf(findRecordType(type), subject, context);
}

/** Returns whether questions for this type (NSEC or RRSIG) are answered with the signed denial. One RRset is enough (RFC 8482, section 7). */
function isOfDenial(type: number): boolean {
  return type === RECORDS.NSEC.code || type === RECORDS.RRSIG.code;
}

function isPart({ type: code, isSigned }: QueryQuestion, subject: DnsSubject): boolean {
  // A signature covers the complete RRset.
  if (isSigned === true && subject.kind === "entries" && subject.cut !== "nothing") return true;
  const type = findRecordType(code);
  return type !== undefined && RECORDS[type].isCut?.(subject) === true;
}

function recordsOf(type: RecordType | undefined, subject: DnsSubject, context: RecordContext): (readonly DnsRecord[])[] {
  if (type === undefined) return [];
  const groups: readonly (readonly DnsRecord[])[] = RECORDS[type].find(subject, context);
  return groups.filter((group) => group.length > 0);
}

/** Returns the answer to an ANY query: one small record (RFC 8482, 4.2) that proves the name exists but cannot be used for amplification. */
function minimalAny(subject: DnsSubject, context: RecordContext): DnsRecord[][] {
  if (subject.kind === "empty" || subject.kind === "alias") return [];
  if (subject.kind === "entries" && subject.entries.length === 0) return [];
  return [[{ type: "HINFO", name: context.owner, ttlSeconds: ttlSeconds(undefined, context.settings), data: { cpu: "RFC8482", os: "" } }]];
}

/** Returns the CNAME of a subject. Aliases have a CNAME, and so do names whose entries have only host names. */
function canonicalRecord(subject: DnsSubject, context: RecordContext): RecordOf<"CNAME"> | undefined {
  const { owner, settings } = context;
  if (subject.kind === "alias") {
    return { type: "CNAME", name: owner, ttlSeconds: setTtlSeconds(subject.aliasOwners, settings), data: { target: subject.target } };
  }
  return hostNameRecord(subject, context);
}

/** Without a catalog, no addresses are added to the additional section. */
function positive(groups: readonly (readonly DnsRecord[])[], context: RecordContext, catalog: DnsCatalog | undefined): AnswerPlan {
  const glue = new Map<string, readonly DnsRecord[]>();
  if (catalog === undefined) return { rcode: RCODE.NOERROR, isAuthoritative: true, groups, authority: [], glue };
  let cost = 0;
  for (const record of groups.flat()) {
    const host = record.type === "PTR" ? undefined : namedHost(record);
    if (host === undefined || glue.has(host)) continue;
    const place = splitZone(host, context.settings.zones);
    if (place === undefined) continue;
    if (cost >= MAX_GLUE_COST) break;
    const subject = subjectIfKnown(place, catalog);
    if (subject === undefined) continue;
    cost += subject.kind === "entries" ? 1 + subject.entries.length + subject.targets.length : 1;
    glue.set(host, glueOf(subject, { ...context, owner: host, zone: place.zone }, record.ttlSeconds));
  }
  return { rcode: RCODE.NOERROR, isAuthoritative: true, groups, authority: [], glue };
}

/** Omits additional records that would have to be fetched. Clients can query them if needed. */
function subjectIfKnown(
  { relative, zone }: { readonly relative: string; readonly zone: string },
  catalog: DnsCatalog,
): DnsSubject | undefined {
  if (catalog.held === undefined) return findSubject(relative, zone, catalog);
  try {
    return findSubject(relative, zone, catalog.held);
  } catch (error) {
    if (error instanceof WaymarkError && error.reason === "not_ready") return undefined;
    throw error;
  }
}

/** Returns the addresses of one of our own names in an answer, either an IP target name or a node name. */
function glueOf(subject: DnsSubject, own: RecordContext, ttl: number): readonly DnsRecord[] {
  if (subject.kind === "address") return [addressRecord(own.owner, subject.address, ttl)];
  return [...recordsOf("A", subject, own), ...recordsOf("AAAA", subject, own)].flat();
}

interface NegativeAnswer {
  readonly groups: readonly (readonly DnsRecord[])[];
  readonly context: RecordContext;
  /** The denial records, with their signature if they already have one. */
  readonly denied: readonly DnsRecord[];
}

function negative(rcode: Rcode, { groups, context, denied }: NegativeAnswer): AnswerPlan {
  // The encoder expects the SOA last.
  return { rcode, isAuthoritative: true, groups, authority: [...denied, negativeSoa(context.zone, context)], glue: new Map() };
}

/** Plans the answer for a nonexistent name. A question for the types of the denial itself gets the denial in the answer section (RFC 9824, 3.1). */
function absentPlan(
  question: QueryQuestion,
  subject: DnsSubject,
  { groups, context }: Pick<NegativeAnswer, "context" | "groups">,
): AnswerPlan {
  const denied = deniedBy(question, subject, context);
  const plan = negative(RCODE.NXDOMAIN, { groups, context, denied });
  return isOfDenial(question.type) && denied.length > 0 ? { ...plan, groups: [...groups, denied], authority: [] } : plan;
}

function deniedBy({ isSigned }: QueryQuestion, subject: DnsSubject, context: RecordContext): readonly DnsRecord[] {
  return isSigned === true ? [denial(subject, context)] : [];
}

/** Returns the NSEC record that lists all types of a name and covers this name alone (RFC 9824, 3). */
function denial(subject: DnsSubject, context: RecordContext): RecordOf<"NSEC"> {
  const own = Object.values(RECORDS).flatMap(({ code, find }) => (find(subject, context).some((group) => group.length > 0) ? [code] : []));
  const types = [...own, RECORDS.RRSIG.code, RECORDS.NSEC.code, ...(subject.kind === "absent" ? [TYPE_NXNAME] : [])];
  const { negativeTtlMs } = context.settings;
  return { type: "NSEC", name: context.owner, ttlSeconds: seconds(negativeTtlMs), data: { next: nextName(context.owner), types } };
}

// Additional records for a list of instances (RFC 6763, 12.1). A browsing client would query these records next.

/**
 * Maximum number of instances with additional records, and their maximum total size in bytes. More records would rarely fit into a message and would
 * make plans for long lists large.
 */
const MAX_INSTANCES = 64;
const MAX_BYTES = 16_384;

/**
 * Returns the SRV and TXT records of the listed instances, by instance name. The records are built from the listed entries, so no other lookup is
 * needed. Returns no records for a sample of entries, because their RRsets may be incomplete.
 */
function recordsOfInstances(subject: DnsSubject, context: RecordContext): ReadonlyMap<string, readonly DnsRecord[]> {
  const found = new Map<string, readonly DnsRecord[]>();
  if (subject.kind !== "entries" || subject.browsed === undefined || subject.cut !== "nothing") return found;
  const { name, namespace, transport } = subject.browsed;
  const targets = Map.groupBy(subject.targets, ({ entry }) => entry.key.instanceId);
  let left = MAX_BYTES;
  for (const [instanceId, entries] of Map.groupBy(subject.entries, ({ key }) => key.instanceId)) {
    const owner = formatName({ form: "instance", transport, instanceId, name, namespace }, context.zone);
    if (owner === undefined) continue;
    const own: DnsSubject = { kind: "entries", shape: "located", entries, targets: targets.get(instanceId) ?? [], cut: "nothing" };
    const there = { ...context, owner };
    const records: readonly DnsRecord[] = [...RECORDS.SRV.find(own, there), ...RECORDS.TXT.find(own, there)].flat();
    left -= records.reduce((sum, record) => sum + dataBytes(record), 0);
    if (left < 0 || found.size === MAX_INSTANCES) return found;
    found.set(owner.toLowerCase(), records);
  }
  return found;
}
