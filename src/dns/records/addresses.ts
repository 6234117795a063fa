/** A and AAAA records, and the CNAME of names that have only host names. */
import type { IpAddress } from "../../lib/addresses.ts";
import { METADATA_KEY } from "../../lib/bounds.ts";
import { addressLabel, parseHostName } from "../names/names.ts";
import type { DnsSubject } from "../subject/subject.ts";
import { bestEntries, bestTargets } from "./best-entries.ts";
import type { DnsRecord, RecordContext, RecordOf } from "./record.ts";
import { seconds, setTtlSeconds } from "./record.ts";

/** Returns the address record for an IP target's name, for the additional section. */
export function addressRecord(name: string, address: IpAddress, ttl: number): DnsRecord {
  return { type: address.length === 4 ? "A" : "AAAA", name, ttlSeconds: ttl, data: { address } };
}

/** Returns the records for the subject's addresses that are `sizeBytes` bytes long. */
export function addressRecords<T extends "A" | "AAAA">(
  type: T,
  sizeBytes: number,
  subject: DnsSubject,
  context: RecordContext,
): RecordOf<T>[][] {
  const { owner, settings } = context;
  if (subject.kind === "address") {
    if (subject.address.length !== sizeBytes) return [];
    return [[{ type, name: owner, ttlSeconds: seconds(settings.maxTtlMs), data: { address: subject.address } }]];
  }
  // Names such as `_svc._tcp` have SRV and TXT records. The service's own name has the addresses.
  if (subject.kind !== "entries" || subject.shape === "located") return [];
  const shown = bestTargets(subject.targets).filter(({ address }) => address?.length === sizeBytes);
  const unique = new Map<string, IpAddress>();
  for (const { address } of shown) if (address !== undefined) unique.set(addressLabel(address), address);
  const ttl = setTtlSeconds(
    shown.map(({ entry }) => entry),
    settings,
  );
  return [[...unique.values()].map((address) => ({ type, name: owner, ttlSeconds: ttl, data: { address } }))];
}

/** Returns the CNAME of a name without addresses: the host name of its best target, or the host name in the metadata of its entries. */
export function hostNameRecord(subject: DnsSubject, { owner, settings }: RecordContext): RecordOf<"CNAME"> | undefined {
  if (subject.kind !== "entries" || subject.shape === "located") return undefined;
  const best = bestTargets(subject.targets);
  if (best.some((target) => target.address !== undefined)) return undefined;
  const named =
    best.length > 0
      ? best.map(({ entry, target }) => ({ entry, name: target.host }))
      : bestEntries(subject.entries).map((entry) => ({ entry, name: entry.read("metadata")[METADATA_KEY.CNAME] ?? "" }));
  const hosts = named.flatMap(({ entry, name }) => ({ entry, host: parseHostName(name) })).filter(({ host }) => host !== undefined);
  const target = hosts[0]?.host;
  if (target === undefined || target.toLowerCase() === owner) return undefined;
  const ttl = setTtlSeconds(
    hosts.map(({ entry }) => entry),
    settings,
  );
  return { type: "CNAME", name: owner, ttlSeconds: ttl, data: { target } };
}
