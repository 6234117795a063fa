/** A and AAAA records, and the host name in their place. */
import type { Address } from "../../lib/addresses.ts";
import { addressLabel } from "../names/addresses.ts";
import { parseHostName } from "../names/names.ts";
import type { Subject } from "../plan/subject.ts";
import type { DnsRecord, RecordContext, RecordOf } from "./record.ts";
import { bestTargets } from "./shown.ts";
import { seconds, setTtlSeconds } from "./ttl.ts";

/** The address record of the name of an IP target, for the additional section. */
export function addressRecord(name: string, address: Address, ttl: number): DnsRecord {
  return { type: address.length === 4 ? "A" : "AAAA", name, ttlSeconds: ttl, data: { address } };
}

/** The records of the subject with addresses of so many bytes. */
export function addressRecords<T extends "A" | "AAAA">(
  type: T,
  sizeBytes: number,
  subject: Subject,
  context: RecordContext,
): RecordOf<T>[][] {
  const { owner, settings } = context;
  if (subject.kind === "address") {
    if (subject.address.length !== sizeBytes) return [];
    return [[{ type, name: owner, ttlSeconds: seconds(settings.maxTtlMs), data: { address: subject.address } }]];
  }
  // `_svc._tcp` names have SRV and TXT; addresses are at the service's own name.
  if (subject.kind !== "entries" || subject.shape === "located") return [];
  const best = bestTargets(subject.targets);
  const unique = new Map<string, Address>();
  for (const { address } of best) {
    if (address?.length === sizeBytes) unique.set(addressLabel(address), address);
  }
  const ttl = setTtlSeconds(best, settings);
  return [[...unique.values()].map((address) => ({ type, name: owner, ttlSeconds: ttl, data: { address } }))];
}

/** The host name that replaces the addresses of a subject without any: that of its best target, or of its entries' metadata. */
export function hostNameInstead(subject: Subject): { readonly host: string; readonly ttlMs: number | undefined } | undefined {
  if (subject.kind !== "entries" || subject.shape === "located") return undefined;
  const best = bestTargets(subject.targets);
  if (best.some((target) => target.address !== undefined)) return undefined;
  const named =
    best.length > 0
      ? best.map(({ entry, target }) => ({ name: target.host, ttlMs: entry.ttlMs }))
      : subject.entries.map(({ metadata, ttlMs }) => ({ name: metadata[CNAME_KEY] ?? "", ttlMs }));
  for (const { name, ttlMs } of named) {
    const host = parseHostName(name);
    if (host !== undefined) return { host, ttlMs };
  }
  return undefined;
}

/** Metadata key for entries without targets: a host name, such as that of an ExternalName service in Kubernetes. */
const CNAME_KEY = "waymark.dns.cname";
