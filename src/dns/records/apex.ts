/** SOA and NS records of the zone apex. */
import type { EntryView } from "../../catalog/entry/view.ts";
import { parseAddress } from "../../lib/addresses.ts";
import { formatName, nodeName, parseHostName } from "../names/names.ts";
import { gatewayHost, MAX_GATEWAYS } from "../subject/gateways.ts";
import type { DnsSubject } from "../subject/subject.ts";
import type { DnsRecord, RecordContext, RecordData, RecordOf } from "./record.ts";
import { seconds } from "./record.ts";

/** Returns the SOA for the authority section. Its TTL limits how long the negative answer may be cached (RFC 2308, 3). */
export function negativeSoa(zone: string, context: RecordContext): DnsRecord {
  return { type: "SOA", name: zone, ttlSeconds: seconds(context.settings.negativeTtlMs), data: soaData({ ...context, zone }) };
}

/** Returns the SOA record if the subject is the zone apex. */
export function startRecords(subject: DnsSubject, context: RecordContext): RecordOf<"SOA">[][] {
  if (subject.kind !== "apex") return [];
  return [[{ type: "SOA", name: context.owner, ttlSeconds: seconds(context.settings.maxTtlMs), data: soaData(context) }]];
}

/** Returns the name servers of the zone if the subject is the zone apex: the serving node, and other nodes with a gateway. */
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
 * Returns the name server name of a node's gateway. If the node has only this address, the name is the node's name. Otherwise it is the name of the
 * gateway's address, because no gateway listens on the other addresses. A host name is used unchanged, because the name of a name server must not be
 * an alias (RFC 2181, 10.3).
 */
function gatewayName(gateway: EntryView, zone: string): string | undefined {
  const host = gatewayHost(gateway);
  if (host === undefined) return undefined;
  const address = parseAddress(host);
  if (address === undefined) return parseHostName(host);
  const isOnly = gateway.targets.every((target) => target.host === host);
  return isOnly ? nodeName(gateway.key.name, zone) : formatName({ form: "address", address }, zone);
}

/** Returns the data of the zone's SOA. */
function soaData(context: RecordContext): RecordData["SOA"] {
  return {
    primary: nameServer(context),
    mailbox: `hostmaster.${hostZone(context)}`,
    // Plans are cached for longer than a serial is current, so the encoder fills in the serial.
    serial: 0,
    refreshSeconds: 60,
    retrySeconds: 30,
    expireSeconds: 3600,
    minimumSeconds: seconds(context.settings.negativeTtlMs),
  };
}

/** Returns the name of the serving node. */
function nameServer(context: RecordContext): string {
  const zone = hostZone(context);
  return nodeName(context.settings.nodeId, zone) ?? `ns.${zone}`;
}

/** Returns the zone that contains the host names used in a zone. Reverse zones contain no hosts, so they use the first service zone. */
function hostZone({ zone, settings }: RecordContext): string {
  return settings.zones.includes(zone) ? zone : (settings.zones[0] ?? zone);
}
