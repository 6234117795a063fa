/** What a resolver publishes of itself in `discovery.resolvers` (semantics.md, Resolver). */
import { create, toBinary } from "@bufbuild/protobuf";
import { type Entry, EntryKind, EntrySchema, Scope, TargetSchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { decodeEntry } from "../../catalog/entry/codec.ts";
import { RESOLVERS_NAMESPACE } from "../../catalog/entry/names.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import type { Policy } from "../../policy/set/verdict.ts";
import { type ListenerAddress, withTls } from "../node-entry.ts";

export interface ResolverFacts {
  readonly nodeId: string;
  /** Its own, which may be another than that of the node where it is registered. */
  readonly zone: string;
  readonly version: string;
  /** Prefixes that it follows and of which everybody may know; an empty text stands for all namespaces. */
  readonly followed: readonly string[];
  /** Listeners by name. */
  readonly listeners: Readonly<Record<string, ListenerAddress>>;
}

/** Protocol of a target by the name of its listener. Others are not published. */
const PROTOCOLS: readonly (readonly [string, string])[] = [
  ["grpc", "grpc"],
  ["http", "http"],
  ["dns", "udp"],
];
/** Names the prefix of all namespaces, as in `resolver.namespaces`. */
const EVERYTHING = "*";
/** Most prefixes that are named. */
const MAX_NAMED = 32;
/** The default bound of a value of metadata, in bytes. Prefixes are ASCII. */
const MAX_VALUE_CHARS = 1024;

/**
 * The entry, of scope ZONE: clients use resolvers of their own cluster. The serving node adds its region, which is that of the resolver, because a resolver refuses
 * upstream servers of another one.
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

/** The entry as the resolver's own DNS shows it under `<id>.node`, the name of the zone's name server: with its host alone. */
export function nameServerView(facts: Pick<ResolverFacts, "nodeId" | "version" | "zone">, host: string): EntryView {
  const entry = resolverEntry({ ...facts, followed: [], listeners: {} });
  entry.nodeId = facts.nodeId;
  entry.targets = [create(TargetSchema, { host })];
  return decodeEntry(toBinary(EntrySchema, entry), "live");
}

/** The first prefixes in alphabetical order, with commas between. */
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
 * The prefixes that a resolver may name. Everybody may read its entry, so it names none that policy hides from a caller without tenant and cluster: that a namespace
 * exists, and that somebody asks for it, is hidden with it.
 */
export function namedPrefixes(prefixes: readonly string[], policy: Pick<Policy, "viewer">): readonly string[] {
  return prefixes.filter((prefix) => prefix === "" || policy.viewer(prefix, { clusterId: "", tenant: "" }).allowed);
}
