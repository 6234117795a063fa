/**
 * SVCB and HTTPS records (RFC 9460): service endpoints with their protocols and ports. See semantics.md, DNS, for which targets have HTTPS records
 * and when a record is in AliasMode.
 */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { IpAddress } from "../../lib/addresses.ts";
import { METADATA_KEY } from "../../lib/bounds.ts";
import { protocolOf } from "../../lib/protocols.ts";
import { addressLabel, formatName, parseHostName } from "../names/names.ts";
import type { DnsSubject, SubjectTarget } from "../subject/subject.ts";
import { bestEntries, bestTargets, distanceRank, ownPriority } from "./best-entries.ts";
import type { BindingData, DataWriter, RecordContext, RecordOf } from "./record.ts";
import { setTtlSeconds } from "./record.ts";

/** The default protocol of HTTPS records, which applies in addition to the listed protocols (RFC 9460, 7.1.2 and 9.2). */
const DEFAULT_ALPN = "http/1.1";
const HTTPS_PORT = 443;
const MAX_PRIORITY = 65_535;
/** Number of the parameter `port` (RFC 9460, 14.3.2). */
const PORT_KEY = 3;
const PORT_ONLY: readonly number[] = [PORT_KEY];
const NO_KEYS: readonly number[] = [];

/** An endpoint of a service. Targets that differ only in their protocol form one endpoint. */
interface BindingEndpoint {
  readonly target: string;
  readonly address: IpAddress | undefined;
  readonly priority: number;
  readonly port: number;
  readonly alpn: Set<string>;
  readonly entries: EntryView[];
}

/** Returns the SVCB records at `_svc._tcp` and similar names: one for each endpoint of the best tier. */
export function svcbRecords(subject: DnsSubject, context: RecordContext): RecordOf<"SVCB">[][] {
  if (subject.kind !== "entries" || subject.isCluster === true || subject.shape !== "located") return [];
  const alias = aliasOf(subject, context);
  if (alias !== undefined) return [[record("SVCB", alias, context)]];
  const places = placesOf(bestTargets(subject.targets), context);
  // The port is mandatory: a client that ignores it would connect to a port where the service does not listen.
  const dataOf = (place: BindingEndpoint) =>
    bindingOf(place, {
      mandatory: place.port === 0 ? NO_KEYS : PORT_ONLY,
      alpn: [...place.alpn],
      isDefaultAlpnOff: false,
      port: place.port,
    });
  return inGroups("SVCB", places, dataOf, context);
}

/** Returns the HTTPS records at a service's own name: its endpoints that speak HTTP over TLS. */
export function httpsRecords(subject: DnsSubject, context: RecordContext): RecordOf<"HTTPS">[][] {
  if (subject.kind !== "entries" || subject.isCluster === true || subject.shape !== "direct") return [];
  // Uses the tier of the address records. Browsers query HTTPS first, so a target that A omits must not be shown here.
  const best = bestTargets(subject.targets);
  const places = placesOf(best.filter(isHttps(subject.targets)), context);
  // All endpoints share one record without hints (RFC 9460, 7.3) if their addresses are the addresses of the name itself.
  const whole = wholeOf(places, best);
  const dataOf = (place: BindingEndpoint) => {
    const alpn = [...place.alpn];
    const port = place.port === HTTPS_PORT ? 0 : place.port;
    return bindingOf(place, { mandatory: NO_KEYS, alpn, isDefaultAlpnOff: !place.alpn.has(DEFAULT_ALPN), port });
  };
  return inGroups("HTTPS", whole === undefined ? places : [whole], dataOf, context);
}

/**
 * Returns a filter for targets with HTTPS records. Clients that find an HTTPS record no longer use plain HTTP for the name (RFC 9460, 9.5), so only
 * TLS targets with an ALPN id have one. The protocol `grpc` does not define whether TLS is used, so a `grpc` target has a record only if no target of
 * the name uses plain HTTP.
 */
function isHttps(all: readonly SubjectTarget[]): (one: SubjectTarget) => boolean {
  const hasPlain = all.some(({ target }) => protocolOf(target.protocol).isTls === false);
  return ({ target }) => {
    const { alpn, isTls } = protocolOf(target.protocol);
    return alpn !== undefined && (isTls ?? !hasPlain);
  };
}

/**
 * Returns the AliasMode record for a name whose targets all have the same host name and the default port of their protocol. AliasMode has no
 * parameters, so it cannot specify a port. Returns undefined for other names.
 */
function aliasOf(subject: DnsSubject & { readonly kind: "entries" }, { owner }: RecordContext) {
  const best = bestTargets(subject.targets);
  const named =
    best.length > 0
      ? best.map(({ entry, target, address }) => ({ entry, host: address === undefined ? target.host : "", needsPort: needsPort(target) }))
      : bestEntries(subject.entries).map((entry) => ({ entry, host: entry.read("metadata")[METADATA_KEY.CNAME] ?? "", needsPort: false }));
  const hosts = named.map(({ host }) => parseHostName(host));
  const target = hosts[0];
  if (target === undefined || named.some((one) => one.needsPort) || hosts.some((host) => host?.toLowerCase() !== target.toLowerCase()))
    return undefined;
  if (target.toLowerCase() === owner) return undefined;
  const data: BindingData = { priority: 0, target, ...NO_PARAMETERS };
  return { data, entries: named.map(({ entry }) => entry) };
}

function needsPort({ port, protocol }: SubjectTarget["target"]): boolean {
  return port !== 0 && port !== protocolOf(protocol).port;
}

/** Returns the endpoints of targets. Targets without a DNS name are omitted. */
function placesOf(targets: readonly SubjectTarget[], context: RecordContext): readonly BindingEndpoint[] {
  const places = new Map<string, BindingEndpoint>();
  for (const one of targets) {
    const { target, address, entry } = one;
    const name = address === undefined ? parseHostName(target.host) : formatName({ form: "address", address }, context.zone);
    if (name === undefined) continue;
    const priority = priorityOf(one, context);
    const key = `${priority} ${target.port} ${name.toLowerCase()}`;
    const place = places.get(key) ?? { target: name, address, priority, port: target.port, alpn: new Set<string>(), entries: [] };
    places.set(key, place);
    const alpn = protocolOf(target.protocol).alpn;
    if (alpn !== undefined) place.alpn.add(alpn);
    place.entries.push(entry);
  }
  return [...places.values()];
}

/** Returns the priority, which starts at 1 because 0 means AliasMode. The tier does not affect the priority, because only the best tier is shown. */
function priorityOf(one: SubjectTarget, { locality, settings }: RecordContext): number {
  if (settings.srvPriority === "target") return Math.min(1 + one.target.priority, MAX_PRIORITY);
  return 1 + distanceRank(one.entry, locality) + ownPriority(one);
}

/**
 * Merges all endpoints into one at the name itself, if they differ only in their addresses and the name has no other addresses. Undefined otherwise.
 */
function wholeOf(places: readonly BindingEndpoint[], shown: readonly SubjectTarget[]): BindingEndpoint | undefined {
  const [first] = places;
  if (first === undefined) return undefined;
  const alpn = [...first.alpn].join();
  const isAlike = ({ address, priority, port, alpn: other }: BindingEndpoint) =>
    address !== undefined && priority === first.priority && port === first.port && [...other].join() === alpn;
  if (!places.every(isAlike)) return undefined;
  const told = new Set(places.map(({ address }) => address && addressLabel(address)));
  if (!shown.every(({ address }) => address === undefined || told.has(addressLabel(address)))) return undefined;
  return { ...first, target: "", address: undefined, entries: places.flatMap(({ entries }) => entries) };
}

const NO_PARAMETERS = { mandatory: [], alpn: [], isDefaultAlpnOff: false, port: 0, ipv4Hints: [], ipv6Hints: [] } as const;

function bindingOf(
  { priority, target, address }: BindingEndpoint,
  parameters: Pick<BindingData, "mandatory" | "alpn" | "isDefaultAlpnOff" | "port">,
): BindingData {
  const hints = address === undefined ? NO_PARAMETERS.ipv4Hints : [address];
  const { ipv4Hints, ipv6Hints } = NO_PARAMETERS;
  return address?.length === 4
    ? { priority, target, ...parameters, ipv4Hints: hints, ipv6Hints }
    : { priority, target, ...parameters, ipv4Hints, ipv6Hints: hints };
}

/** Groups the records by priority. Clients prefer the first group. */
function inGroups<T extends "SVCB" | "HTTPS">(
  type: T,
  places: readonly BindingEndpoint[],
  dataOf: (place: BindingEndpoint) => BindingData,
  context: RecordContext,
) {
  const entries = places.flatMap((place) => place.entries);
  const sorted = places.toSorted((a, b) => a.priority - b.priority);
  const ttl = setTtlSeconds(entries, context.settings);
  const made = sorted.map((place): RecordOf<T> => ({ type, name: context.owner, ttlSeconds: ttl, data: dataOf(place) }));
  return [...Map.groupBy(made, ({ data }) => data.priority).values()];
}

function record<T extends "SVCB" | "HTTPS">(
  type: T,
  { data, entries }: { readonly data: BindingData; readonly entries: readonly EntryView[] },
  { owner, settings }: RecordContext,
): RecordOf<T> {
  return { type, name: owner, ttlSeconds: setTtlSeconds(entries, settings), data };
}

/** Writes the data of a record, with parameters in ascending key order, each with its length (RFC 9460, 2.2). */
export function writeBinding(data: BindingData, out: DataWriter): void {
  out.u16(data.priority);
  out.name(data.target);
  const parameter = (key: number, length: number): void => {
    out.u16(key);
    out.u16(length);
  };
  if (data.mandatory.length > 0) {
    parameter(0, 2 * data.mandatory.length);
    for (const key of data.mandatory.toSorted((a, b) => a - b)) out.u16(key);
  }
  if (data.alpn.length > 0) {
    parameter(
      1,
      data.alpn.reduce((sum, id) => sum + 1 + id.length, 0),
    );
    for (const id of data.alpn) out.string(id);
  }
  if (data.isDefaultAlpnOff) parameter(2, 0);
  if (data.port !== 0) {
    parameter(PORT_KEY, 2);
    out.u16(data.port);
  }
  for (const [key, hints, size] of [
    [4, data.ipv4Hints, 4],
    [6, data.ipv6Hints, 16],
  ] as const) {
    if (hints.length === 0) continue;
    parameter(key, size * hints.length);
    for (const address of hints) out.bytes(address);
  }
}

/** Returns the number of characters and address bytes in the data, plus an allowance for the parameters. */
export function bindingBytes({ target, mandatory, alpn, ipv4Hints, ipv6Hints }: BindingData): number {
  const texts = alpn.reduce((sum, id) => sum + 1 + id.length, 0);
  return target.length + texts + 4 * ipv4Hints.length + 16 * ipv6Hints.length + 6 * mandatory.length + PARAMETER_BYTES;
}
/** Approximate size of the parameter headers and numeric values. */
const PARAMETER_BYTES = 16;
