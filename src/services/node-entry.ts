/** Builds the catalog entry that this node registers for itself (semantics.md, Names and bounds). */
import { create } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, HealthStatus, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { DNS_ZONES_KEY, NODES_NAMESPACE } from "../catalog/entry/names.ts";
import { PROTOCOL_VERSIONS } from "../fabric/links/peer-auth.ts";
import { hostPort } from "../lib/addresses.ts";

export interface NodeFactsToPublish {
  readonly nodeId: string;
  /** A readable name. Undefined if the node has only its id. */
  readonly name: string | undefined;
  readonly roles: readonly string[];
  readonly resources: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Whether clients choose the node last. */
  readonly isInMaintenance?: boolean;
  /** Zones that the node's DNS gateway serves. The zones are published only if there is a listener named `dns`. */
  readonly dnsZones: readonly string[];
  /** Listeners by name. */
  readonly listeners: Readonly<Record<string, ListenerAddress>>;
}

/** The address at which clients reach a listener. */
export interface ListenerAddress {
  readonly host: string;
  readonly port: number;
  readonly isTls?: boolean;
}

/** Protocol of a target, by listener name. */
const PROTOCOLS: Readonly<Record<string, string>> = { grpc: "grpc", http: "http", dns: "udp", fabric: "grpc" };

/** Largest length of a metadata value in characters. */
const MAX_ZONES_CHARS = 1024;

export function nodeEntry(facts: NodeFactsToPublish): Entry {
  const listeners = Object.entries(facts.listeners);
  return create(EntrySchema, {
    key: { kind: EntryKind.NODE, namespace: NODES_NAMESPACE, name: facts.nodeId, instanceId: facts.nodeId },
    scope: Scope.REGION,
    ...(facts.isInMaintenance === true && { health: HealthStatus.MAINTENANCE }),
    metadata: {
      ...(facts.name !== undefined && { "waymark.node.name": facts.name }),
      ...(facts.listeners["dns"] !== undefined && { [DNS_ZONES_KEY]: zonesText(facts.dnsZones) }),
    },
    capabilities: [...facts.roles],
    resources: [...new Set(facts.resources)],
    targets: listeners.map(([name, place]) => {
      const { host, port } = place;
      return { name, host, port, protocol: withTls(PROTOCOLS[name] ?? "tcp", place) };
    }),
    detail: {
      case: "node",
      value: {
        advertisedUrls: listeners
          .filter(([name]) => name !== "dns")
          .map(([name, place]) => `${withTls(name, place)}://${hostPort(place.host, place.port)}`),
        transports: ["h2"],
        protocolVersions: [...PROTOCOL_VERSIONS],
        labels: { ...facts.labels },
      },
    },
  });
}

const TLS_PROTOCOLS: Readonly<Record<string, string>> = { grpc: "grpcs", http: "https" };

/** Returns the protocol, or URL scheme, of a listener. For a listener with TLS, returns the name of the variant with TLS. */
export function withTls(protocol: string, { isTls = false }: Pick<ListenerAddress, "isTls">): string {
  return (isTls ? TLS_PROTOCOLS[protocol] : undefined) ?? protocol;
}

/** Joins the zones with spaces. Zones beyond the length limit are left out, so other gateways do not list this node as a name server for them. */
function zonesText(zones: readonly string[]): string {
  let text = "";
  for (const zone of zones) {
    const longer = text === "" ? zone : `${text} ${zone}`;
    if (longer.length <= MAX_ZONES_CHARS) text = longer;
  }
  return text;
}
