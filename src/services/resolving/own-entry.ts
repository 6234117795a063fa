/** Builds the entry that a resolver registers for itself in `discovery.resolvers` (semantics.md, Resolver). */
import { create, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, Scope, TargetSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { decodeEntry } from "../../catalog/entry/codec.ts";
import { RESOLVERS_NAMESPACE } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { type ListenerAddress, withTls } from "../node-entry.ts";

export interface ResolverFacts {
  readonly nodeId: string;
  /** The zone of the resolver, which may differ from the zone of the node where it registers. */
  readonly zone: string;
  readonly version: string;
  /** Watched prefixes that are visible to everyone. An empty text is the prefix of all namespaces. */
  readonly followed: readonly string[];
  /** Listeners by name. */
  readonly listeners: Readonly<Record<string, ListenerAddress>>;
}

/** Published listeners, and the protocol of their targets. */
const PROTOCOLS: readonly (readonly [string, string])[] = [
  ["grpc", "grpc"],
  ["http", "http"],
  ["dns", "udp"],
];
/** Denotes the prefix that covers all namespaces, as in `resolver.namespaces`. */
const EVERYTHING = "*";
/** Largest number of published prefixes. */
const MAX_NAMED = 32;
/** The default limit for a metadata value, in bytes. Prefixes are ASCII. */
const MAX_VALUE_CHARS = 1024;

/**
 * Returns the entry. The scope of the entry is ZONE, because clients use resolvers in their own cluster. The serving node adds its region, which is
 * also the region of the resolver, because a resolver rejects upstream servers of another region.
 */
export function resolverEntry({ nodeId, zone, version, followed, listeners }: ResolverFacts): Entry {
  return create(EntrySchema, {
    key: { kind: EntryKind.SERVICE, namespace: RESOLVERS_NAMESPACE, name: nodeId, instanceId: nodeId },
    scope: Scope.ZONE,
    zone,
    targets: PROTOCOLS.flatMap(([name, protocol]) => {
      const place = listeners[name];
      return place === undefined ? [] : [{ name, protocol: withTls(protocol, place), host: place.host, port: place.port }];
    }),
    metadata: {
      "waymark.version": version,
      "waymark.resolver.namespaces": named(followed),
      "waymark.resolver.namespace_count": String(followed.length),
    },
  });
}

/** Returns the entry for `<id>.node`, which is the name server of the zone in the resolver's own DNS. The entry contains only the host. */
export function nameServerView(facts: Pick<ResolverFacts, "nodeId" | "version" | "zone">, host: string): EntryView {
  const entry = resolverEntry({ ...facts, followed: [], listeners: {} });
  entry.nodeId = facts.nodeId;
  entry.targets = [create(TargetSchema, { host })];
  return decodeEntry(toBinary(EntrySchema, entry), "live");
}

/** Joins prefixes in alphabetical order with commas, up to the limits. */
function named(followed: readonly string[]): string {
  let text = "";
  for (const prefix of followed
    .map((each) => each || EVERYTHING)
    .toSorted()
    .slice(0, MAX_NAMED)) {
    const longer = text === "" ? prefix : `${text},${prefix}`;
    if (longer.length > MAX_VALUE_CHARS) break;
    text = longer;
  }
  return text;
}

/**
 * Returns the prefixes that a resolver may publish. Every caller may read the resolver's entry, so it omits prefixes that policy hides from a caller
 * without tenant and cluster. Publishing such prefixes would reveal that the namespaces exist and that clients use them.
 */
export function namedPrefixes(prefixes: readonly string[], policy: Pick<Policy, "viewer">): readonly string[] {
  return prefixes.filter((prefix) => prefix === "" || policy.viewer(prefix, { clusterId: "", tenant: "" }).allowed);
}
