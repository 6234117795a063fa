/**
 * Defines how the gateway finds and writes the records of each supported type. To add a type, add a member to `RecordData` in `record.ts` and an
 * entry to `RECORDS`. Each family of types has its own file.
 */

import { type EntryView, hasPort } from "../../catalog/entry/view.ts";
import { effectiveWeights } from "../../consumer/targets.ts";
import { formatName, parseHostName } from "../names/names.ts";
import { MAX_BROWSED } from "../subject/browsing.ts";
import type { DnsSubject, SubjectTarget } from "../subject/subject.ts";
import { addressRecords } from "./addresses.ts";
import { nameServerRecords, startRecords } from "./apex.ts";
import { areHostsCut, areTargetsCut, bestTargets, ownPriority, rankOf } from "./best-entries.ts";
import { bindingBytes, httpsRecords, svcbRecords, writeBinding } from "./bindings.ts";
import { typeBitmap } from "./canonical.ts";
import { keyRecords, wantedDigestRecords, wantedKeyRecords, writeDigest, writeKey, writeSignature } from "./dnssec.ts";
import {
  type DataWriter,
  type DnsRecord,
  type RecordContext,
  type RecordOf,
  type RecordRow,
  type RecordType,
  setTtlSeconds,
} from "./record.ts";
import { areTextsCut, textRecords } from "./text.ts";

export const RECORDS: { readonly [T in RecordType]: RecordRow<T> } = {
  A: {
    code: 1,
    isSampled: true,
    isCut: areHostsCut,
    find: (subject, context) => addressRecords("A", 4, subject, context),
    write: (data, out) => out.bytes(data.address),
    sizeBytes: ({ address }) => address.length,
  },
  NS: {
    code: 2,
    isFolded: true,
    find: (subject, context) => nameServerRecords(subject, context),
    write: (data, out) => out.compressedName(data.target),
    sizeBytes: ({ target }) => target.length,
    namedHost: ({ target }) => target,
  },
  CNAME: {
    code: 5,
    isFolded: true,
    // `planAnswer` follows aliases before it uses this table.
    find: () => [],
    write: (data, out) => out.compressedName(data.target),
    sizeBytes: ({ target }) => target.length,
  },
  SOA: {
    code: 6,
    isFolded: true,
    find: (subject, context) => startRecords(subject, context),
    write: (data, out) => {
      out.compressedName(data.primary);
      out.compressedName(data.mailbox);
      out.u32(data.serial);
      out.u32(data.refreshSeconds);
      out.u32(data.retrySeconds);
      out.u32(data.expireSeconds);
      out.u32(data.minimumSeconds);
    },
    sizeBytes: ({ primary, mailbox }) => primary.length + mailbox.length,
  },
  PTR: {
    code: 12,
    isFolded: true,
    find: (subject, context) => pointerRecords(subject, context),
    write: (data, out) => out.compressedName(data.target),
    sizeBytes: ({ target }) => target.length,
    namedHost: ({ target }) => target,
  },
  HINFO: {
    code: 13,
    // Used only as the answer to ANY (RFC 8482, 4.2).
    find: () => [],
    write: (data, out) => {
      out.string(data.cpu);
      out.string(data.os);
    },
    sizeBytes: ({ cpu, os }) => cpu.length + os.length,
  },
  TXT: {
    code: 16,
    isCut: areTextsCut,
    find: (subject, context) => textRecords(subject, context),
    write: (data, out) => {
      for (const text of data.strings) out.string(text);
    },
    sizeBytes: ({ strings }) => strings.reduce((sum, text) => sum + text.length, 0),
  },
  AAAA: {
    code: 28,
    isSampled: true,
    isCut: areHostsCut,
    find: (subject, context) => addressRecords("AAAA", 16, subject, context),
    write: (data, out) => out.bytes(data.address),
    sizeBytes: ({ address }) => address.length,
  },
  DS: {
    code: 43,
    // DS records are built at the zone cut where a child zone starts. The child zone itself has no DS records.
    find: () => [],
    write: (data, out) => writeDigest(data, out),
    sizeBytes: ({ digest }) => digest.length,
  },
  RRSIG: {
    code: 46,
    // RRSIG records are built when an answer is signed.
    find: () => [],
    write: (data, out) => writeSignature(data, out),
    sizeBytes: ({ signer, signature }) => signer.length + signature.length,
  },
  NSEC: {
    code: 47,
    // NSEC records are built for the answer that they prove.
    find: () => [],
    write: ({ next, types }, out) => {
      out.bytes(next);
      out.bytes(typeBitmap(types));
    },
    sizeBytes: ({ next, types }) => next.length + types.length,
  },
  DNSKEY: {
    code: 48,
    find: (subject, context) => keyRecords(subject, context),
    write: (data, out) => writeKey(data, out),
    sizeBytes: ({ publicKey }) => publicKey.length,
  },
  CDS: {
    code: 59,
    find: (subject, context) => wantedDigestRecords(subject, context),
    write: (data, out) => writeDigest(data, out),
    sizeBytes: ({ digest }) => digest.length,
  },
  CDNSKEY: {
    code: 60,
    find: (subject, context) => wantedKeyRecords(subject, context),
    write: (data, out) => writeKey(data, out),
    sizeBytes: ({ publicKey }) => publicKey.length,
  },
  SVCB: {
    code: 64,
    isSampled: true,
    isCut: areTargetsCut,
    find: (subject, context) => svcbRecords(subject, context),
    write: (data, out) => writeBinding(data, out),
    sizeBytes: (data) => bindingBytes(data),
    namedHost: ({ target }) => target,
  },
  HTTPS: {
    code: 65,
    isSampled: true,
    isCut: areTargetsCut,
    find: (subject, context) => httpsRecords(subject, context),
    write: (data, out) => writeBinding(data, out),
    sizeBytes: (data) => bindingBytes(data),
    namedHost: ({ target }) => target,
  },
  SRV: {
    code: 33,
    isFolded: true,
    isSampled: true,
    isCut: areTargetsCut,
    find: (subject, context) => serviceRecords(subject, context),
    write: (data, out) => {
      out.u16(data.priority);
      out.u16(data.weight);
      out.u16(data.port);
      // Never compressed (RFC 2782).
      out.name(data.target);
    },
    sizeBytes: ({ target }) => target.length,
    namedHost: ({ target }) => target,
  },
};

const TYPES_BY_CODE: ReadonlyMap<number, RecordType> = new Map(
  Object.keys(RECORDS)
    .filter(isRecordType)
    .map((type) => [RECORDS[type].code, type]),
);

/** Returns whether the table contains this type name. */
function isRecordType(text: string): text is RecordType {
  return Object.hasOwn(RECORDS, text);
}

/** Returns the type with this number. Returns undefined when the type is not supported. */
export function findRecordType(code: number): RecordType | undefined {
  return TYPES_BY_CODE.get(code);
}

/** Returns whether `dns.answer_limit` draws a sample of these records, which all have the same type. Lists of names are always complete. */
export function areSampled([first]: readonly DnsRecord[]): boolean {
  return first !== undefined && RECORDS[first.type].isSampled === true;
}

/** Writes a record's data, without its length. */
export function writeRecordData<T extends RecordType>(record: RecordOf<T>, out: DataWriter): void {
  RECORDS[record.type].write(record.data, out);
}

/** Returns the number of characters and address bytes in a record's data. */
export function dataBytes<T extends RecordType>(record: RecordOf<T>): number {
  return RECORDS[record.type].sizeBytes(record.data);
}

/**
 * Returns the host name (possibly the owner name) whose addresses are added to the answer with this record. For PTR, it is the listed name. The name
 * is in lower case, because host names are case-insensitive.
 */
export function namedHost<T extends RecordType>(record: RecordOf<T>): string | undefined {
  const host = RECORDS[record.type].namedHost?.(record.data);
  return host === "" ? record.name : host?.toLowerCase();
}

// PTR records: lists of names.

/**
 * Returns a PTR record for each listed name, such as the names of an address, or for each instance of a browsed service (RFC 6763, 4). If a list is
 * limited, the RRset contains the limited list.
 */
function pointerRecords(subject: DnsSubject, context: RecordContext): RecordOf<"PTR">[][] {
  const { owner, settings, zone } = context;
  if (subject.kind === "list") {
    const ttl = setTtlSeconds(subject.ttlSources, settings);
    return [subject.names.items.map((target) => ({ type: "PTR", name: owner, ttlSeconds: ttl, data: { target } }))];
  }
  if (subject.kind !== "entries" || subject.browsed === undefined) return [];
  const { name, namespace, transport } = subject.browsed;
  const ttl = setTtlSeconds(subject.entries, settings);
  const targets = instanceIds(subject)
    .slice(0, MAX_BROWSED)
    .flatMap((instanceId) => formatName({ form: "instance", transport, instanceId, name, namespace }, zone) ?? []);
  return [targets.map((target) => ({ type: "PTR", name: owner, ttlSeconds: ttl, data: { target } }))];
}

/** Returns each instance id once, because instances in different clusters can share an id and therefore a name. */
function instanceIds({ entries }: DnsSubject & { readonly kind: "entries" }): readonly string[] {
  return [...new Set(entries.map(({ key }) => key.instanceId))];
}

/**
 * Returns one SRV record for each target of the subject that has a port. With `srvTiers` set to best, it returns records only for targets of the best
 * tier. Targets of the same tier, distance and priority form a group, and clients prefer earlier groups. Weights apply within a group (RFC 2782).
 */
function serviceRecords(subject: DnsSubject, context: RecordContext): RecordOf<"SRV">[][] {
  if (subject.kind !== "entries" || subject.shape !== "located") return [];
  const { owner, locality, settings } = context;
  const shown: EntryView[] = [];
  const groups = new Map<string, RecordOf<"SRV">["data"][]>();
  const seen = new Set<string>();
  const targets = subject.targets.filter(({ target }) => hasPort(target));
  for (const { rank, one, weight } of byRank(settings.srvTiers === "best" ? bestTargets(targets) : targets, locality)) {
    const name = targetName(one, context);
    // A host that is not a valid DNS name is omitted, because the rest of the answer is still useful.
    if (name === undefined) continue;
    shown.push(one.entry);
    const { priority, port } = one.target;
    const told = settings.srvPriority === "target" ? priority : rank + ownPriority(one);
    // An RRset has no duplicates (RFC 2181, 5). Names that differ only in case are duplicates, and the first spelling is used.
    const data = `${weight} ${port} ${name.toLowerCase()}`;
    if (seen.has(`of ${priority} ${data}`) || seen.has(`told ${told} ${data}`)) continue;
    seen.add(`of ${priority} ${data}`);
    seen.add(`told ${told} ${data}`);
    const key = `${rank} ${told}`;
    const group = groups.get(key) ?? [];
    if (group.length === 0) groups.set(key, group);
    group.push({ priority: told, weight, port, target: name });
  }
  const ttl = setTtlSeconds(shown, settings);
  return [...groups.values()].map((group) => group.map((data) => ({ type: "SRV", name: owner, ttlSeconds: ttl, data })));
}

/** Returns the name of a target: its host, or a name below the zone for its address. Returns undefined for a host that is not a valid DNS name. */
function targetName({ target, address }: SubjectTarget, { zone }: RecordContext): string | undefined {
  return address === undefined ? parseHostName(target.host) : formatName({ form: "address", address }, zone);
}

/** The sort is stable, so targets with equal rank and priority stay in catalog order. */
function byRank(targets: readonly SubjectTarget[], locality: RecordContext["locality"]) {
  const weights = effectiveWeights(targets);
  const ranked = targets.map((one, i) => ({ rank: rankOf(one, locality), one, weight: weights[i] ?? 0 }));
  return ranked.toSorted((a, b) => a.rank - b.rank || a.one.target.priority - b.one.target.priority);
}
