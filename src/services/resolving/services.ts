/** The services of a resolver: reads over its cache, the policy for other resolvers, and refusals of everything that a node alone can do. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService, type WatchPolicyRequest } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { encodeVersion } from "../../policy/versions/codec.ts";
import type { HistoryItem, PolicyEngine } from "../../policy/versions/engine.ts";
import { isSamePlace, type PolicyVersion, type VersionPlace } from "../../policy/versions/version.ts";
import { demandResolver } from "../for-resolver.ts";
import { PolicyWatch } from "../policy-watch.ts";
import type { CallContext, Service, StreamSource } from "../service.ts";
import { type CacheParts, cacheHandlers, cacheRoutes } from "./cache.ts";
import { PassedOn } from "./passed-on.ts";
import { readOnlyHandlers } from "./read-only.ts";
import { checkVia, type ResolvingParts, resolvingHandlers } from "./reads.ts";

export interface ResolverServicesParts extends ResolvingParts {
  readonly policies: PolicyEngine;
  readonly cache: CacheParts;
  /** Addresses of the servers that this resolver reads, for writers while no node is known by its own. */
  readonly upstreams: readonly string[];
  /** PolicyAudit, AccessAudit and VerifyAudit, of this resolver's own log. */
  readonly audit: Service["handlers"];
  /** Calls `wake` when another version is the newest, and several times a second, until the returned function is called. */
  readonly onChange: (wake: () => void) => () => void;
}

export interface ResolverServices {
  readonly discovery: Service;
  readonly resolver: Service;
  readonly policy: Service;
}

export function resolverServices(parts: ResolverServicesParts): ResolverServices {
  const { ports, reads, identity, now, upstreams, cache } = parts;
  const passedOn = new PassedOn({ ports, reads, servedBy: identity.nodeId, now });
  const { handlers, routes, resolveName } = resolvingHandlers(parts);
  const urls = async (): Promise<readonly string[]> => {
    const known = await passedOn.urls();
    return known.length > 0 ? known : upstreams.map((address) => `grpc://${address}`);
  };
  return {
    discovery: { desc: DiscoveryService, handlers: { ...handlers, ...passedOn.handlers, ...readOnlyHandlers(urls) }, routes },
    resolver: { desc: ResolverService, handlers: { resolve: resolveName, ...cacheHandlers(cache) }, routes: cacheRoutes(cache) },
    policy: {
      desc: PolicyService,
      handlers: {
        ...parts.audit,
        watchPolicy: { kind: "server_streaming", open: (request: WatchPolicyRequest, context) => watchPolicy(parts, request, context) },
      },
    },
  };
}

/** The versions that may be in force at a resolver that reads here. */
function watchPolicy(parts: ResolverServicesParts, { known, via }: WatchPolicyRequest, { caller }: CallContext): StreamSource {
  const { policies, identity, isTls, onChange, ports } = parts;
  demandResolver(caller, isTls);
  checkVia(ports.machine.via, via);
  const encoded = (place: VersionPlace) => {
    const version = versionAt(policies, place);
    return version && encodeVersion(version);
  };
  return new PolicyWatch({
    history: () => policies.history().filter((item) => isHeld(policies, item)),
    epoch: () => policies.policy.epoch,
    encodedNow: encoded,
    encoded: (place) => Promise.resolve(encoded(place)),
    known: known.map(({ number, hlc, nodeId, checksum }) => ({ number: Number(number), hlc: Number(hlc), nodeId, checksum })),
    servedBy: identity.nodeId,
    via: ports.machine.via,
    onChange,
  });
}

/** Of the versions that decided once only those are held whole that decide now. */
function versionAt({ inForce, newest }: PolicyEngine, place: VersionPlace): PolicyVersion | undefined {
  return [newest, inForce].find((version) => version !== undefined && isSamePlace(version, place));
}

function isHeld(policies: PolicyEngine, { facts }: HistoryItem): boolean {
  return facts !== undefined && versionAt(policies, facts) !== undefined;
}
