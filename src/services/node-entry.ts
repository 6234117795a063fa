/** A node is an entry: what this node publishes of itself (semantics.md, Names and bounds). */
import { create } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { NODES_NAMESPACE } from "../catalog/names.ts";
import { hostPort } from "../lib/host-port.ts";

export interface NodeFactsToPublish {
  readonly nodeId: string;
  readonly roles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Host others reach this node at. */
  readonly host: string;
  /** Listener name to port. */
  readonly ports: Readonly<Record<string, number>>;
}

/** Listener name to the protocol of its target. */
const PROTOCOLS: Readonly<Record<string, string>> = { grpc: "grpc", http: "http", dns: "udp" };

export function nodeEntry(facts: NodeFactsToPublish): Entry {
  const ports = Object.entries(facts.ports);
  return create(EntrySchema, {
    key: { kind: EntryKind.NODE, namespace: NODES_NAMESPACE, name: facts.nodeId, instanceId: facts.nodeId },
    scope: Scope.REGION,
    capabilities: [...facts.roles],
    targets: ports.map(([name, port]) => ({ name, host: facts.host, port, protocol: PROTOCOLS[name] ?? "tcp" })),
    detail: {
      case: "node",
      value: {
        advertisedUrls: ports.filter(([name]) => name !== "dns").map(([name, port]) => `${name}://${hostPort(facts.host, port)}`),
        transports: ["h2"],
        protocolVersions: [1],
        labels: { ...facts.labels },
      },
    },
  });
}
