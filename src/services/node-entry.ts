/** A node is an entry: what this node publishes of itself (semantics.md, Names and bounds). */
import { create } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { NODES_NAMESPACE } from "../catalog/entry/names.ts";
import { PROTOCOL_VERSIONS } from "../fabric/links/peer-auth.ts";
import { hostPort } from "../lib/addresses.ts";

export interface NodeFactsToPublish {
  readonly nodeId: string;
  /** A name for people. Undefined if the node has only its id. */
  readonly name: string | undefined;
  readonly roles: readonly string[];
  readonly resources: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Listener name to the host and port at which other nodes reach it. */
  readonly listeners: Readonly<Record<string, { readonly host: string; readonly port: number }>>;
}

/** Protocol of a target by the name of its listener. */
const PROTOCOLS: Readonly<Record<string, string>> = { grpc: "grpc", http: "http", dns: "udp", fabric: "grpc" };

export function nodeEntry(facts: NodeFactsToPublish): Entry {
  const listeners = Object.entries(facts.listeners);
  return create(EntrySchema, {
    key: { kind: EntryKind.NODE, namespace: NODES_NAMESPACE, name: facts.nodeId, instanceId: facts.nodeId },
    scope: Scope.REGION,
    ...(facts.name !== undefined && { metadata: { "waymark.node.name": facts.name } }),
    capabilities: [...facts.roles],
    resources: [...new Set(facts.resources)],
    targets: listeners.map(([name, { host, port }]) => ({ name, host, port, protocol: PROTOCOLS[name] ?? "tcp" })),
    detail: {
      case: "node",
      value: {
        advertisedUrls: listeners.filter(([name]) => name !== "dns").map(([name, { host, port }]) => `${name}://${hostPort(host, port)}`),
        transports: ["h2"],
        protocolVersions: [...PROTOCOL_VERSIONS],
        labels: { ...facts.labels },
      },
    },
  });
}
