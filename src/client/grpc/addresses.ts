/** The addresses that a gRPC channel is given for a name: those of the entries that are fit for traffic, the nearest first. */
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

/** An entry that is fit for traffic, and its ports that speak gRPC. */
export interface AddressedEntry extends Candidate {
  readonly addresses: readonly HostPort[];
}

/** A namespace, and a name in it. */
export interface ServiceName {
  readonly namespace: string;
  readonly name: string;
}

/** Which namespaces and names are right, for a person who wrote another one. A name with a slash has no target. */
export const SERVICE_NAME_RULE =
  'as in waymark:///svc.market/web: a namespace has 1 to 200 of a-z, 0-9, "." and "-", and a name 1 to 128 of A-Z, a-z, 0-9 and "._:@+-"';

/** The name of `waymark:///namespace/name`, of which this is the path. Undefined for another text. */
export function parseServiceName(path: string): ServiceName | undefined {
  const match = /^([a-z0-9.-]{1,200})\/([A-Za-z0-9._:@+-]{1,128})$/.exec(path);
  return match === null ? undefined : { namespace: match[1] ?? "", name: match[2] ?? "" };
}

/**
 * Each entry of the best tier of health, the nearest entries first and equally near ones in the order of `draw`, a number for each instance id: a channel that takes the first address
 * must not choose the same one as all other channels. Entries in MAINTENANCE and without a port are left out.
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

/** Its load is left out, so that a report of it is no news for the channel. */
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
