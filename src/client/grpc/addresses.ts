/** Selects the addresses that a gRPC channel receives for a name: the addresses of entries that are fit for traffic, nearest first. */
import type { Entry, Target } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import type { Candidate } from "../../consumer/endpoint.ts";
import { isReachable } from "../../consumer/health-tiers.ts";
import { rankOf, SELECT_POLICY, tierIn, type ZoneLocality } from "../../consumer/locality-levels.ts";
import { preferredTargets } from "../../consumer/targets.ts";
import { protocolOf } from "../../lib/protocols.ts";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** An entry that is fit for traffic, and its gRPC ports. */
export interface AddressedEntry extends Candidate {
  readonly addresses: readonly HostPort[];
}

/** A namespace and a name in it. */
export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
}

/** The rule for namespaces and names, used in errors. A name that contains a slash cannot be used as a target. */
export const SERVICE_NAME_RULE =
  'expected namespace/name, as in waymark:///svc.market/web; a namespace has 1 to 200 characters of a-z, 0-9, "." and "-", and a name has 1 to 128 characters of A-Z, a-z, 0-9 and "._:@+-"';

/** Parses the path of `waymark:///namespace/name`. Returns undefined for any other text. */
export function parseServiceName(path: string): ServiceName | undefined {
  const match = /^([a-z0-9.-]{1,200})\/([A-Za-z0-9._:@+-]{1,128})$/.exec(path);
  return match === null ? undefined : { namespace: match[1] ?? "", name: match[2] ?? "" };
}

/**
 * Returns the entries in the best health tier, nearest first. Equally near entries are ordered by `draw`, a number for each instance ID, so that
 * channels that use the first address do not all use the same one. Entries that are in MAINTENANCE or have no port are excluded.
 */
export function addressesOf(entries: Iterable<Entry>, place: ZoneLocality, draw: (key: string) => number): readonly AddressedEntry[] {
  const options = { policy: SELECT_POLICY.LOAD_AWARE, ...place };
  const ranked = [...entries]
    .map((entry) => {
      const targets = grpcPorts(entry);
      const rank = rankOf({ health: entry.health, hasTarget: targets.length > 0 }, entry, options);
      return { entry, rank, drawn: draw(entry.key?.instanceId ?? ""), targets };
    })
    .filter(({ rank }) => isReachable(tierIn(rank)))
    .toSorted((a, b) => a.rank - b.rank || a.drawn - b.drawn);
  const best = tierIn(ranked[0]?.rank ?? 0);
  return ranked.filter(({ rank }) => tierIn(rank) === best).map(({ entry, targets }) => addressed(entry, targets));
}

/** The load is omitted, so that a load report does not update the channel. */
function addressed({ key, health, region, zone }: Entry, targets: readonly Target[]): AddressedEntry {
  return {
    key: `${key?.instanceId}\0${key?.clusterId}`,
    addresses: targets.map(({ host, port }) => ({ host, port })),
    view: { health, region, zone, targets: targets.map(({ priority, weight }) => ({ priority, weight })), load: undefined },
  };
}

/**
 * The ports of an entry that a gRPC channel may call: ports named `grpc` or with a gRPC protocol. If an entry has no such ports, ports whose protocol can
 * carry gRPC (`tcp`, `h2c`, …) are used. Ports of other protocols are never called, and a channel cannot connect to a target without a port.
 */
function grpcPorts(entry: Entry): readonly Target[] {
  const targets = entry.targets.filter(({ port }) => port !== 0);
  const named = targets.filter(({ protocol, name }) => name === "grpc" || protocolOf(protocol).grpc === "yes");
  return preferredTargets<Target>(named.length > 0 ? named : targets.filter(({ protocol }) => protocolOf(protocol).grpc === "possible"));
}
