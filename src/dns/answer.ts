/** A question and what a viewer may see, to an answer: rcode and sections (semantics.md, DNS). */
import { splitZone } from "./names.ts";
import {
  addressRecord,
  type DnsRecord,
  type DnsSettings,
  findRecordType,
  hostNameInstead,
  negativeSoa,
  RECORDS,
  type RecordContext,
  type RecordType,
  ttlSeconds,
} from "./records.ts";
import { type DnsCatalog, findSubject, type Subject } from "./subject.ts";

/** Response codes as on the wire (IANA, DNS parameters). BADVERS needs EDNS. */
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const CLASS_IN = 1;
const TYPE_ANY = 255;
/** Zone transfers: what they would list is not for every viewer. */
const REFUSED_TYPES: ReadonlySet<number> = new Set([251, 252]);
/** CNAMEs followed in one answer; an alias needs one, host names that lead to each other may want more. */
const MAX_CHAIN = 8;

/** Entries and targets looked through for the additional section of one plan; names after them go without, and are asked for by themselves. */
const MAX_GLUE_COST = 4_096;

/** One question of a query. `name` is lower case without the final dot; a label we could not have made may hold `\DDD`. */
export interface Question {
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

/** An answer before chance: the same for every query until the catalog's revision changes, so it can be kept. */
export interface Plan {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  /** In order; each group is shuffled for every answer, so that clients that take the first spread. */
  readonly groups: readonly (readonly DnsRecord[])[];
  readonly authority: readonly DnsRecord[];
  /** Records that go into the additional section when the answer names this target. */
  readonly glue: ReadonlyMap<string, readonly DnsRecord[]>;
}

export interface Answer {
  readonly rcode: Rcode;
  readonly isAuthoritative: boolean;
  readonly answers: readonly DnsRecord[];
  readonly authority: readonly DnsRecord[];
  readonly additional: readonly DnsRecord[];
}

/** The plan of the name that an alias leads to, for the same type, where there is one that can be shared; it begins with no CNAME. */
export type EndingOf = (question: Question) => Plan | undefined;

/** What we say to a question of this viewer. Cost: one look-up a name in the chain, and its entries; those of an ending are its own. */
export function planAnswer(question: Question, catalog: DnsCatalog, settings: DnsSettings, endingOf: EndingOf = noEnding): Plan {
  const sources: Sources = { catalog, settings, endingOf };
  if (question.class !== CLASS_IN || REFUSED_TYPES.has(question.type)) return failure(RCODE.REFUSED);
  const place = splitZone(question.name, settings.zones);
  if (place !== undefined) return planInZone(question, place, sources);
  const zone = settings.zones[0];
  if (zone === undefined || !settings.allowExternalNames || question.name === "") return failure(RCODE.REFUSED);
  const plan = planInZone(question, { zone, relative: question.name }, sources);
  // Outside our zones we cannot say that a name does not exist, only that it is not ours.
  return plan.rcode === RCODE.NXDOMAIN ? failure(RCODE.REFUSED) : plan;
}

/** A plan with its groups shuffled. `random` gives numbers in [0, 1). */
export function drawAnswer(plan: Plan, random: () => number): Answer {
  const answers = plan.groups.flatMap((group) => shuffled(group, random));
  const additional: DnsRecord[] = [];
  if (plan.glue.size > 0) {
    const added = new Set<string>();
    for (const record of answers) {
      const target = targetOf(record);
      if (target === undefined || added.has(target)) continue;
      added.add(target);
      additional.push(...(plan.glue.get(target) ?? []));
    }
  }
  return { rcode: plan.rcode, isAuthoritative: plan.isAuthoritative, answers, authority: plan.authority, additional };
}

/** An answer without records. */
export function failure(rcode: Rcode): Plan {
  return { rcode, isAuthoritative: false, groups: [], authority: [], glue: new Map() };
}

interface Sources {
  readonly catalog: DnsCatalog;
  readonly settings: DnsSettings;
  readonly endingOf: EndingOf;
}

function noEnding(): undefined {
  return undefined;
}

function planInZone(question: Question, place: { readonly zone: string; readonly relative: string }, sources: Sources): Plan {
  const { catalog, settings, endingOf } = sources;
  const groups: (readonly DnsRecord[])[] = [];
  let { zone, relative } = place;
  let owner = question.name;
  const visited = new Set<string>();
  for (let step = 1; ; step++) {
    const context: RecordContext = { owner, zone, revision: catalog.revision, settings };
    const subject = findSubject(relative, zone, catalog);
    if (subject.kind === "absent") return negative(RCODE.NXDOMAIN, groups, context);
    const found = question.type === TYPE_ANY ? minimalAny(subject, context) : recordsOf(findRecordType(question.type), subject, context);
    if (found.length > 0) return positive([...groups, ...found], context, catalog);
    const canonical = canonicalRecord(question.type, subject, context);
    if (canonical === undefined) return negative(RCODE.NOERROR, groups, context);
    groups.push([canonical]);
    visited.add(owner);
    owner = canonical.data.target.toLowerCase();
    const next = question.type === RECORDS.CNAME.code ? undefined : splitZone(owner, settings.zones);
    // Outside our zones the resolver goes on by itself; a loop of host names it must find out by itself too.
    if (next === undefined || visited.has(owner) || step === MAX_CHAIN) return positive(groups, context, catalog);
    // HOT: a miss of the plans that are kept. A thousand instances have thousands of aliases: one copy of their records is enough.
    const ending = subject.kind === "alias" ? endingOf({ ...question, name: owner }) : undefined;
    if (ending !== undefined) return { ...ending, groups: [...groups, ...ending.groups] };
    ({ zone, relative } = next);
  }
}

function recordsOf(type: RecordType | undefined, subject: Subject, context: RecordContext): (readonly DnsRecord[])[] {
  if (type === undefined) return [];
  const groups: readonly (readonly DnsRecord[])[] = RECORDS[type].find(subject, context);
  return groups.filter((group) => group.length > 0);
}

/** ANY is answered by one small record (RFC 8482, 4.2): no amplification, and it still says that the name exists. */
function minimalAny(subject: Subject, context: RecordContext): DnsRecord[][] {
  if (subject.kind === "empty" || subject.kind === "alias") return [];
  return [[{ type: "HINFO", name: context.owner, ttlSeconds: ttlSeconds(undefined, context.settings), data: { cpu: "RFC8482", os: "" } }]];
}

/** The CNAME a subject has: an alias has one for every type, a service behind host names alone has one for its addresses. */
function canonicalRecord(type: number, subject: Subject, context: RecordContext): (DnsRecord & { readonly type: "CNAME" }) | undefined {
  const { owner, settings } = context;
  if (subject.kind === "alias") {
    return { type: "CNAME", name: owner, ttlSeconds: ttlSeconds(subject.ttlMs, settings), data: { target: subject.target } };
  }
  if (type !== RECORDS.A.code && type !== RECORDS.AAAA.code && type !== RECORDS.CNAME.code) return undefined;
  const instead = hostNameInstead(subject);
  if (instead === undefined || instead.host.toLowerCase() === owner) return undefined;
  return { type: "CNAME", name: owner, ttlSeconds: ttlSeconds(instead.ttlMs, settings), data: { target: instead.host } };
}

function positive(groups: readonly (readonly DnsRecord[])[], context: RecordContext, catalog: DnsCatalog): Plan {
  const glue = new Map<string, readonly DnsRecord[]>();
  let cost = 0;
  for (const record of groups.flat()) {
    const target = targetOf(record);
    if (target === undefined || glue.has(target)) continue;
    const place = splitZone(target, context.settings.zones);
    if (place === undefined) continue;
    if (cost >= MAX_GLUE_COST) break;
    const subject = findSubject(place.relative, place.zone, catalog);
    cost += subject.kind === "entries" ? 1 + subject.entries.length + subject.targets.length : 1;
    glue.set(target, glueOf(subject, { ...context, owner: target, zone: place.zone }, record.ttlSeconds));
  }
  return { rcode: RCODE.NOERROR, isAuthoritative: true, groups, authority: [], glue };
}

/** The addresses of a name of ours that an answer mentions: the synthesised one of an IP target, or a node. */
function glueOf(subject: Subject, own: RecordContext, ttl: number): readonly DnsRecord[] {
  if (subject.kind === "address") return [addressRecord(own.owner, subject.address, ttl)];
  return [...recordsOf("A", subject, own), ...recordsOf("AAAA", subject, own)].flat();
}

function negative(rcode: Rcode, groups: readonly (readonly DnsRecord[])[], context: RecordContext): Plan {
  return { rcode, isAuthoritative: true, groups, authority: [negativeSoa(context.zone, context)], glue: new Map() };
}

/** The name of an SRV or NS record. In lower case: a host may be written in any, and all of them are one name. */
export function targetOf(record: DnsRecord): string | undefined {
  return record.type === "SRV" || record.type === "NS" ? record.data.target.toLowerCase() : undefined;
}

/** Fisher and Yates. */
export function shuffled<T>(items: readonly T[], random: () => number): readonly T[] {
  if (items.length < 2) return items;
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    const a = out[i];
    const b = out[j];
    if (a !== undefined && b !== undefined) {
      out[i] = b;
      out[j] = a;
    }
  }
  return out;
}
