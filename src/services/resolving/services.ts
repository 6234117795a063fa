/** The services of a resolver: reads from its cache, the policy for other resolvers, and the rejection of all calls that only nodes can answer. */
import { create, type DescMethod, type DescMethodUnary, type DescService, fromBinary, type Message } from "@bufbuild/protobuf";
import {
  type CatalogQueryRequest,
  CatalogQueryRequestSchema,
  type CatalogQueryResponse,
  CatalogQueryResponseSchema,
  DiscoveryService,
} from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService, type WatchPolicyRequest } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../../gen/waymark/resolver/v1/resolver_pb.js";
import { regionsOf } from "../../discovery/policy-facts.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { encodeVersion } from "../../policy/versions/codec.ts";
import type { PolicyEngine } from "../../policy/versions/engine.ts";
import { isSamePlace, type PolicyVersion, type VersionPlace } from "../../policy/versions/version.ts";
import { type ConfigParts, configService } from "../config.ts";
import { costOf, isProxied, isRefusedByResolvers, rpcName } from "../contract.ts";
import { DeferredStream } from "../deferred-stream.ts";
import { ClusterRedirects } from "../discovery/resolve.ts";
import { bytesOf, keeping } from "../forwarding/call-forwarder.ts";
import { policyReads } from "../policy/policy-reads.ts";
import { PolicyWatch } from "../policy/policy-watch.ts";
import {
  type CallContext,
  demandResolver,
  type MethodHandler,
  type ServiceDefinition,
  type StreamSource,
  type UnaryHandler,
} from "../service.ts";
import { everyService } from "../service-table.ts";
import { type CacheParts, cacheHandlers, cacheRoutes } from "./cache.ts";
import { PolicyGate } from "./policy-gate.ts";
import type { ResolverPorts } from "./ports.ts";
import { ProxiedCalls } from "./proxied-calls.ts";
import { checkVia, type ResolvingParts, resolvingHandlers } from "./reads.ts";
import { type LocalSummaries, resolvingSummaries } from "./summaries.ts";

export interface ResolverServicesParts extends ResolvingParts {
  readonly policies: PolicyEngine;
  /** The summaries that the resolver watches. Undefined if it does not watch any. */
  readonly summaries: LocalSummaries | undefined;
  readonly cache: CacheParts;
  /** URLs of the upstream servers of this resolver. Errors suggest these URLs to writers while no nodes are known. */
  readonly upstreams: readonly string[];
  /** The handlers of PolicyAudit, AccessAudit and VerifyAudit for this resolver's own log. */
  readonly audit: ServiceDefinition["handlers"];
  readonly config: ConfigParts;
  /** Calls `wake` when another version becomes the newest one, and also several times a second, until the returned function is called. */
  readonly onChange: (wake: () => void) => () => void;
}

/** Returns all services of a resolver: its own handlers, and handlers that proxy or reject the calls for nodes, according to the options of the rpcs. */
export function resolverServices(parts: ResolverServicesParts): readonly ServiceDefinition[] {
  const { ports, identity, now, upstreams, cache } = parts;
  const holders = (namespace: string, context: CallContext) => holdersOf(handlers.catalogQuery, namespace, context);
  const proxied = new ProxiedCalls({ ports, servedBy: identity.nodeId, now, holders });
  const { handlers, routes, resolveName } = resolvingHandlers({
    ...parts,
    redirects: parts.summaries && new ClusterRedirects(parts.summaries.reads),
  });
  const summaries = summariesOf(parts);
  const urls = async (): Promise<readonly string[]> => {
    const known = await proxied.urls();
    return known.length > 0 ? known : upstreams;
  };
  const policy = resolverPolicyReads(parts);
  const own: readonly ServiceDefinition[] = [
    {
      desc: DiscoveryService,
      handlers: { ...handlers, ...summaries.handlers, ...proxied.handlers },
      routes: [...routes, ...summaries.routes],
    },
    { desc: ResolverService, handlers: { resolve: resolveName, ...cacheHandlers(cache) }, routes: cacheRoutes(cache) },
    configService(parts.config),
    {
      desc: PolicyService,
      handlers: {
        ...parts.audit,
        ...policy.handlers,
        watchPolicy: { kind: "server_streaming", open: (request: WatchPolicyRequest, context) => watchPolicy(parts, request, context) },
      },
      routes: policy.routes,
    },
  ];
  return everyService((desc) => {
    const { handlers: answered, ...service } = own.find((each) => each.desc === desc) ?? { desc, handlers: {} };
    return { ...service, handlers: { ...nodeCalls(desc, { urls, ports }), ...answered } };
  });
}

function summariesOf(parts: ResolverServicesParts) {
  const { ports, policies, summaries } = parts;
  return resolvingSummaries(parts, summaries, new PolicyGate(ports, policies), (via) => checkVia(ports.machine.via, via));
}

function resolverPolicyReads({ policies, identity, checkCaughtUp, reads }: ResolverServicesParts) {
  return policyReads({
    engine: policies,
    regionOf: (clusterId) => (clusterId === identity.clusterId ? identity.region : (regionsOf(reads.replica).get(clusterId) ?? "")),
    notTaken: () => "",
    checkKnown: checkCaughtUp,
  });
}

/** Largest number of pages that are read in order to find the nodes of a namespace. */
const MAX_HOLDER_PAGES = 100;

async function holdersOf(query: MethodHandler, namespacePrefix: string, context: CallContext): Promise<ReadonlySet<string>> {
  const nodes = new Set<string>();
  if (query?.kind !== "unary") return nodes;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the handler belongs to CatalogQuery
  const handle = query.handle as UnaryHandler<CatalogQueryRequest>;
  let pageToken = "";
  for (let page = 0; page < MAX_HOLDER_PAGES; page++) {
    const said = await handle(create(CatalogQueryRequestSchema, { namespacePrefix, limit: 1000, pageToken }), context);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- as above
    const answer = said instanceof Uint8Array ? fromBinary(CatalogQueryResponseSchema, said) : (said as CatalogQueryResponse);
    for (const { nodeId } of answer.items) nodes.add(nodeId);
    ({ nextPageToken: pageToken } = answer);
    if (pageToken === "") return nodes;
  }
  throw new WaymarkError("quota_exceeded", `namespace_filter: too many entries in and below ${namespacePrefix}: use a narrower namespace`);
}

/** Streams the versions that may be in force on a resolver that reads from this resolver. */
function watchPolicy(parts: ResolverServicesParts, { known, via }: WatchPolicyRequest, { caller }: CallContext): StreamSource {
  const { policies, identity, isTls, onChange, ports } = parts;
  demandResolver(caller, isTls);
  checkVia(ports.machine.via, via);
  const encoded = (place: VersionPlace) => {
    const version = versionAt(policies, place);
    return version && encodeVersion(version);
  };
  return new PolicyWatch({
    history: () => policies.history().filter((item) => item.facts !== undefined && versionAt(policies, item.facts) !== undefined),
    epoch: () => policies.policy.epoch,
    encodedNow: encoded,
    encoded: (place) => Promise.resolve(encoded(place)),
    known: known.map(({ number, hlc, nodeId, checksum }) => ({ number: Number(number), hlc: Number(hlc), nodeId, checksum })),
    servedBy: identity.nodeId,
    via: ports.machine.via,
    onChange,
  });
}

/**
 * Returns the version at a position in the history. The version is undefined unless it is the newest one or the one in force, because only these are
 * complete.
 */
function versionAt({ inForce, newest }: PolicyEngine, place: VersionPlace): PolicyVersion | undefined {
  return [newest, inForce].find((version) => version !== undefined && isSamePlace(version, place));
}

/** Largest number of URLs in an error. */
const MAX_URLS = 4;

/** Explanations for rejected read calls. A resolver has only the current policy versions, and does not know all clusters that a set may name. */
const WHY: Readonly<Record<string, string>> = {
  "waymark.policy.v1.PolicyService/PolicyHistory": "does not keep earlier versions of the policy",
  "waymark.policy.v1.PolicyService/ValidatePolicy": "cannot validate policies",
};

export interface NodeCallsParts {
  /** Returns the URLs of nodes, best first. Never rejects. */
  readonly urls: () => Promise<readonly string[]>;
  readonly ports: Pick<ResolverPorts, "callBytes">;
}

/** Returns the handlers of a service for calls that a resolver proxies or rejects. */
export function nodeCalls({ methods }: DescService, parts: NodeCallsParts): ServiceDefinition["handlers"] {
  const handlers: Record<string, MethodHandler> = {};
  for (const method of methods) {
    if (isRefusedByResolvers(method)) handlers[method.localName] = refusing(method, parts);
    if (isProxied(method)) handlers[method.localName] = passingOn(method, parts);
  }
  return handlers;
}

function passingOn(method: DescMethodUnary, { ports }: NodeCallsParts): MethodHandler {
  return {
    kind: "unary",
    read: (bytes) => keeping(fromBinary(method.input, bytes), bytes),
    handle: async (request: Message, { deadlineMonoMs, time }) => {
      const withinMs = deadlineMonoMs === undefined ? undefined : deadlineMonoMs - time.monoMs;
      return (await ports.callBytes(method, bytesOf(method.input, request), withinMs)).bytes;
    },
  };
}

function refusing(method: DescMethod, { urls }: NodeCallsParts): MethodHandler {
  const why = WHY[rpcName(method)] ?? (costOf(method) === "read" ? `does not serve ${method.name}` : "rejects writes");
  const refuse = async () => {
    throw readOnly(why, (await urls()).slice(0, MAX_URLS));
  };
  switch (method.methodKind) {
    case "unary":
      return { kind: "unary", handle: refuse };
    case "server_streaming":
      return { kind: "server_streaming", open: () => new DeferredStream(refuse()) };
    case "client_streaming":
    case "bidi_streaming":
      return {
        kind: method.methodKind,
        open: (answers) => {
          refuse().catch((error: unknown) => answers.fail(error));
          return { message: () => {}, halfClosed: () => {}, leave: () => {}, close: () => {} };
        },
      };
  }
}

/** Returns the `host:port` of a URL, which is the form that the CLI's flag `--server` accepts. */
function serverText(url: string): string {
  const address = url.replace(/^grpcs?:\/\//, "");
  return url.startsWith("grpcs://") ? `${address} (TLS)` : address;
}

function readOnly(why: string, urls: readonly string[]): WaymarkError {
  const where = urls.length === 0 ? "" : `, for example ${urls.map(serverText).join(" or ")}`;
  return new WaymarkError("read_only", `this server is a resolver, which ${why}: send the call to a node${where}`, {
    metadata: { urls: urls.join(" ") },
  });
}
