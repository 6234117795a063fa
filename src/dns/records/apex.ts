/** SOA and NS records, which belong to the zone itself. */
import type { EntryView } from "../../catalog/entry/view.ts";
import { parseAddress } from "../../lib/addresses.ts";
import { formatName, nodeName, parseHostName } from "../names/names.ts";
import { gatewayHost, MAX_GATEWAYS } from "../subject/gateways.ts";
import type { DnsSubject } from "../subject/subject.ts";
import type { DnsRecord, RecordContext, RecordData, RecordOf } from "./record.ts";
import { seconds } from "./record.ts";

/** The zone's SOA for the authority section. Its TTL says how long the negative answer may be kept (RFC 2308, 3). */
export function negativeSoa(zone: string, context: RecordContext): DnsRecord {
  return { type: "SOA", name: zone, ttlSeconds: seconds(context.settings.negativeTtlMs), data: soaData({ ...context, zone }) };
}

/** The SOA, if the subject is the zone itself. */
export function startRecords(subject: DnsSubject, context: RecordContext): RecordOf<"SOA">[][] {
  if (subject.kind !== "apex") return [];
  return [[{ type: "SOA", name: context.owner, ttlSeconds: seconds(context.settings.maxTtlMs), data: soaData(context) }]];
}

/** The name servers of the zone, if the subject is the zone itself: the serving node, and other nodes with a gateway. */
export function nameServerRecords(subject: DnsSubject, context: RecordContext): RecordOf<"NS">[][] {
  if (subject.kind !== "apex") return [];
  const { settings } = context;
  const zone = hostZone(context);
  const gateways = subject.gateways(settings.nodeId);
  const own = gateways.find(({ key }) => key.name === settings.nodeId);
  const names = new Set([(own && gatewayName(own, zone)) ?? nameServer(context)]);
  for (const gateway of gateways) {
    const name = gateway === own || names.size === MAX_GATEWAYS ? undefined : gatewayName(gateway, zone);
    if (name !== undefined) names.add(name);
  }
  const ttl = seconds(settings.maxTtlMs);
  return [[...names].map((target) => ({ type: "NS", name: context.owner, ttlSeconds: ttl, data: { target } }))];
}

/**
 * The name under which resolvers find the gateway of a node. It is the node's name if that has no other addresses; else the name of the address, because nobody
 * listens on the others. A host name stands for itself, because the name of a server must not be an alias (RFC 2181, 10.3).
 */
function gatewayName(gateway: EntryView, zone: string): string | undefined {
  const host = gatewayHost(gateway);
  if (host === undefined) return undefined;
  const address = parseAddress(host);
  if (address === undefined) return parseHostName(host);
  const isOnly = gateway.targets.every((target) => target.host === host);
  return isOnly ? nodeName(gateway.key.name, zone) : formatName({ form: "address", address }, zone);
}

/** The data of the zone's SOA. */
function soaData(context: RecordContext): RecordData["SOA"] {
  return {
    primary: nameServer(context),
    mailbox: `hostmaster.${hostZone(context)}`,
    // A plan is kept for longer than a version of the zone, so the serial is written when it is encoded.
    serial: 0,
    refreshSeconds: 60,
    retrySeconds: 30,
    expireSeconds: 3600,
    minimumSeconds: seconds(context.settings.negativeTtlMs),
  };
}

/** The name of the serving node. */
function nameServer(context: RecordContext): string {
  const zone = hostZone(context);
  return nodeName(context.settings.nodeId, zone) ?? `ns.${zone}`;
}

/** The zone in which the hosts of a zone are named: there are none in a zone of names of addresses. */
function hostZone({ zone, settings }: RecordContext): string {
  return settings.zones.includes(zone) ? zone : (settings.zones[0] ?? zone);
}
