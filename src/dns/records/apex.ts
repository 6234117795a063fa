/** SOA and NS records, which belong to the zone itself. */
import { nodeName } from "../names/names.ts";
import type { Subject } from "../plan/subject.ts";
import type { DnsRecord, RecordContext, RecordData, RecordOf } from "./record.ts";
import { seconds } from "./ttl.ts";

/** The zone's SOA for the authority section. Its TTL says how long the negative answer may be kept (RFC 2308, 3). */
export function negativeSoa(zone: string, context: RecordContext): DnsRecord {
  return { type: "SOA", name: zone, ttlSeconds: seconds(context.settings.negativeTtlMs), data: soaData({ ...context, zone }) };
}

/** The record, if the subject is the zone itself. */
export function apexRecords<T extends "NS" | "SOA">(
  subject: Subject,
  { type, data, context }: { readonly type: T; readonly data: RecordData[T]; readonly context: RecordContext },
): RecordOf<T>[][] {
  if (subject.kind !== "apex") return [];
  return [[{ type, name: context.owner, ttlSeconds: seconds(context.settings.maxTtlMs), data }]];
}

/** The data of the zone's SOA. */
export function soaData(context: RecordContext): RecordData["SOA"] {
  return {
    primary: nameServer(context),
    mailbox: `hostmaster.${context.zone}`,
    // Serial arithmetic (RFC 1982) makes the wrap harmless.
    serial: context.revision % 0x1_0000_0000,
    refreshSeconds: 60,
    retrySeconds: 30,
    expireSeconds: 3600,
    minimumSeconds: seconds(context.settings.negativeTtlMs),
  };
}

/** The name of the serving node. */
export function nameServer({ zone, settings }: RecordContext): string {
  return nodeName(settings.nodeId, zone) ?? `ns.${zone}`;
}
